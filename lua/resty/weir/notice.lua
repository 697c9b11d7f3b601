-- Logging that cannot flood: the same cause is written once a minute and worker, with the number of times it was left out.
local ngx_log, ERR, WARN, NOTICE = ngx.log, ngx.ERR, ngx.WARN, ngx.NOTICE
local now = require("resty.weir.clock").now_ms

local INTERVAL_MS = 60000
local MAX_CAUSES = 256

local _M = { counts = {} }
local last, left_out, causes = {}, {}, 0
local said = {}

local function write(level, message, cause)
    cause = cause or message
    _M.counts[cause] = (_M.counts[cause] or 0) + 1
    local t = now()
    if last[cause] and t - last[cause] < INTERVAL_MS then
        left_out[cause] = (left_out[cause] or 0) + 1
        return
    end
    if not last[cause] then
        causes = causes + 1
        if causes > MAX_CAUSES then -- causes carry names; keep the book bounded
            last, left_out, causes, _M.counts = {}, {}, 1, { [cause] = 1 }
        end
    end
    last[cause] = t
    local more = left_out[cause]
    left_out[cause] = nil
    ngx_log(level, "weir: ", message, more and " (and " .. more .. " times more)" or "")
end

-- For what will not change until somebody installs something else: once a worker, ever.
function _M.once(message)
    _M.counts[message] = (_M.counts[message] or 0) + 1
    if not said[message] then
        said[message] = true
        ngx_log(ERR, "weir: ", message)
    end
end

function _M.error(message, cause) write(ERR, message, cause) end
function _M.warn(message, cause) write(WARN, message, cause) end
function _M.info(message, cause) write(NOTICE, message, cause) end

return _M
