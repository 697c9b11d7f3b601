-- Keys of requests: text with NGINX's variables in it, hashed. Two requests belong together when their keys are the same.
local ffi = require "ffi"
local vars = require "resty.weir.vars"
local rendezvous = require "resty.weir.rendezvous"
local doubt = require "resty.weir.doubt"

local read = vars.read
local ipairs = ipairs

local _M = {}

-- "$host/${uri}" as a list of variables and texts. what, for people, is what the key is of, and otherwise what becomes of requests for which
-- it is empty: when no request has its variables, the log says so (doubt.lua). Without them it does not.
function _M.parts_of(key, what, otherwise)
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
        name = name:lower()
        parts[#parts + 1] = { variable = vars.named(name), name = name }
        at = to + 1
    end
    parts.doubt = what and doubt.of(what .. " \"" .. key .. "\"", otherwise, parts) or nil
    return parts
end

-- Has the doubts about a key looked at request r, as long as there are any.
function _M.look(parts, r)
    if not doubt.look(parts.doubt, r) then
        parts.doubt = nil
    end
end

-- The hash of request r's key, 32 bits with a sign, begun from the state h; nil when every variable in it is empty.
function _M.hash(parts, r, h)
    if parts.doubt then
        _M.look(parts, r)
    end
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
