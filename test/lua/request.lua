-- What the modules of the access phase need of NGINX: a request with variables, a clock that stands until told, a record a request, and what
-- the request was answered. To be required before the module under test; busted forgets it after each file.
local ffi = require "ffi"

local _M = { vars = {}, now = 1000, slept = 0 }

package.loaded["resty.core.base"] = { get_request = function() return _M end }
package.loaded["resty.weir.vars"] = {
    named = function(name) return name end,
    read = function(_, name)
        local value = _M.vars[name] or ""
        return ffi.cast("const uint8_t *", value), #value
    end,
}
package.loaded["resty.weir.clock"] = { now_ms = function() return _M.now end }
-- Records without NGINX: attempts.lua hooks into its memory pools.
package.loaded["resty.weir.attempts"] = {
    open = function() return _M.record end,
    hold = function(_, q, cell)
        cell[0].n = cell[0].n + 1
        q.cell = cell[0]
        return true
    end,
    finish = function(q)
        q.cell.n = q.cell.n - 1
        q.cell = nil
    end,
}

-- Another request. NGINX ends it with the exit; here it goes on to a status.
function _M.fresh(vars)
    _M.vars = vars or {}
    _M.record = { rated = 0, shed = 0, turn = 0, total = 0 }
    _M.status, ngx.header = nil, {}
    return _M.record
end

local meanwhile
-- What happens while the request sleeps, each time: a function of the time.
function _M.during_sleep(f)
    meanwhile = f
end

rawset(ngx, "exit", function(code) _M.status = code end)
rawset(ngx, "sleep", function(s)
    _M.slept = _M.slept + 1
    _M.now = _M.now + s * 1000
    if meanwhile then meanwhile(_M.now) end
end)
rawset(ngx, "md5_bin", function(text) -- no digest, but as long as one and other for other texts
    local sum = 5381
    for i = 1, #text do sum = (sum * 33 + text:byte(i)) % 4294967296 end
    return ("%08x%08x"):format(sum, sum)
end)

return _M
