-- What the pure modules need outside NGINX: a shared dict and a log. busted runs them under LuaJIT, with the real shared mapping.
local dict = {}
dict.__index = dict
function dict:get(k) return self.data[k] end
function dict:safe_set(k, v) self.data[k] = v return true end
function dict:set(k, v) self.data[k] = v return true end
function dict:safe_add(k, v)
    if self.data[k] ~= nil then return false, "exists" end
    self.data[k] = v
    return true
end
function dict:delete(k) self.data[k] = nil end
function dict:get_keys()
    local keys = {}
    for k in pairs(self.data) do keys[#keys + 1] = k end
    return keys
end
function dict:incr(k, by, init)
    local v = self.data[k] or init
    if not v then return nil, "not found" end
    self.data[k] = v + by
    return v + by
end
function dict:lpop(k) local l = self.data[k] return l and table.remove(l, 1) end
function dict:rpush(k, v) local l = self.data[k] or {} self.data[k] = l l[#l + 1] = v return #l end

local _M = {}
function _M.dict()
    return setmetatable({ data = {} }, dict)
end

_G.ngx = _G.ngx or { log = function() end, ERR = 4, WARN = 5, NOTICE = 6, now = os.time, worker = { count = function() return 1 end } }

return _M
