-- header_filter_by_lua: gives the client the cookie of the peer that answered, unless it came with it.
local base = require "resty.core.base"
local attempts = require "resty.weir.attempts"
local pools = require "resty.weir.pools"
local slots = require "resty.weir.slots"

local get_request = base.get_request

local _M = {}

-- No cookie is given with a failure (5xx): the client would be bound to the peer that just failed it.
function _M.header()
    local q = attempts.find(get_request())
    if not q or q.bound == attempts.FREE or q.n == 0 or ngx.is_subrequest then
        return
    end
    local a = q.attempt[q.n - 1]
    if a.slot == q.bound or a.kind > 0 or ngx.status >= 500 then
        return
    end
    local info = slots.info(a.slot)
    local view = info and pools.get(info.pool)
    local affinity = view and view.affinity
    local entry = affinity and affinity.known and affinity.known.of[info.addr]
    if not entry or not entry.value then
        return
    end
    local text = affinity.name .. "=" .. entry.value .. affinity.attributes
    if affinity.secure == "auto" and ngx.var.https == "on" then
        text = text .. "; Secure"
    end
    local there = ngx.header["Set-Cookie"]
    if type(there) == "table" then
        there[#there + 1] = text
        text = there
    elseif there then
        text = { there, text }
    end
    ngx.header["Set-Cookie"] = text
end

return _M
