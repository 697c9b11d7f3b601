-- body_filter_by_lua, where the operator includes whole.conf: notes whether an answer came to its end.
--
-- NGINX tells a filter of an answer's last buffer, and tells nobody afterwards that it never came: a chunked answer that the peer broke off is
-- to the log phase a complete one. One with a Content-Length shows by its length and needs none of this.
local base = require "resty.core.base"
local attempts = require "resty.weir.attempts"

local ngx = ngx
local get_request, find = base.get_request, attempts.find
local BEGUN, ENDED = attempts.BEGUN, attempts.ENDED

local _M = {}

function _M.body()
    local q = find(get_request())
    if q then
        q.whole = ngx.arg[2] and ENDED or BEGUN
    end
end

return _M
