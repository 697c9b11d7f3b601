-- Keys of requests: text with NGINX's variables in it, hashed. Two requests belong together when their keys are the same.
local ffi = require "ffi"
local vars = require "resty.weir.vars"
local rendezvous = require "resty.weir.rendezvous"

local read = vars.read
local ipairs = ipairs

local _M = {}

-- "$host/${uri}" as a list of variables and texts.
function _M.parts_of(key)
    local parts = {}
    local at = 1
    while at <= #key do
        local from, to, name = key:find("%$([%w_]+)", at)
        local from2, to2, name2 = key:find("%${([%w_]+)}", at)
        if from2 and (not from or from2 < from) then
            from, to, name = from2, to2, name2
        end
        local text = key:sub(at, (from or #key + 1) - 1)
        if text ~= "" then
            parts[#parts + 1] = { bytes = ffi.new("uint8_t[?]", #text, text), len = #text }
        end
        if not from then
            break
        end
        parts[#parts + 1] = { variable = vars.named(name:lower()) }
        at = to + 1
    end
    return parts
end

-- The hash of request r's key, 32 bits with a sign, begun from the state h; nil when every variable in it is empty.
function _M.hash(parts, r, h)
    local empty = true
    for _, p in ipairs(parts) do
        local bytes, len = p.bytes, p.len
        if p.variable then
            bytes, len = read(r, p.variable)
            empty = empty and len == 0
        end
        h = rendezvous.add(h, bytes, len)
    end
    return not empty and rendezvous.finish(h) or nil
end

return _M
