-- The cookie that binds a client to a peer: "ID.MAC", of 36 bytes. Both parts are HMAC-SHA1 of pool and address under the secret, so the
-- cookie tells nobody the address (hashing all addresses there are would, without a key), and nobody can make one for a peer they were not
-- given. The ID, 6 bytes of it, finds the peer; the MAC, all 20, is what is believed, and is compared in constant time.
--
-- A cookie names a peer by pool and address: it outlives list positions, restarts of NGINX and of the engine, and is good on every NGINX that has
-- the same secret. It is no session and holds no time: whoever has it gets to that peer, as long as the secret is one of the known.
--
-- The secret is NGINX's alone (docs/affinity.md): a file with one or more, a line each. The first signs, all are believed, so that
-- secrets can be rotated. Without a file one is made up and kept in shared memory, over reloads but not over restarts.
local ffi = require "ffi"
local bit = require "bit"

local bor, bxor = bit.bor, bit.bxor
local ffi_string = ffi.string

local _M = {}

local DEFAULT_FILE = "/etc/weir/affinity.secret"
local MIN_SECRET, MAX_SECRETS = 16, 8
local ID_LEN, MAC_LEN = 8, 27 -- in base64
local LENGTH = ID_LEN + 1 + MAC_LEN
local DOT = 46

local secrets = {}
_M.source = "none"

-- Secrets from the text of a file: lines without spaces around them; empty ones and those that begin with # are passed over.
-- Returns nil, err when there is none or one that could be guessed.
function _M.parse(text)
    local list = {}
    local n = 0
    for line in (text .. "\n"):gmatch("(.-)\r?\n") do
        n = n + 1
        line = line:match("^%s*(.-)%s*$")
        if line ~= "" and line:sub(1, 1) ~= "#" then
            if #line < MIN_SECRET then
                return nil, "line " .. n .. ": a secret has at least " .. MIN_SECRET .. " characters"
            end
            list[#list + 1] = line
        end
    end
    if #list == 0 then
        return nil, "there is no secret in it: write one a line, as `openssl rand -base64 32` makes them"
    end
    if #list > MAX_SECRETS then
        return nil, "there are " .. #list .. " secrets in it: at most " .. MAX_SECRETS .. " are believed at a time"
    end
    return list
end

local function read(path)
    local f, err = io.open(path, "r")
    if not f then
        return nil, err
    end
    local text = f:read(65536) or ""
    f:close()
    return text
end

-- In the master, before the workers are forked. path: the operator's, or nil for the usual place and, if nothing is there, a secret made up.
function _M.init(dict, path)
    local text, err = read(path or DEFAULT_FILE)
    if text then
        local list, wrong = _M.parse(text)
        if not list then
            return nil, "affinity secret " .. (path or DEFAULT_FILE) .. ": " .. wrong
        end
        secrets, _M.source = list, "file"
        return true
    end
    if path then
        return nil, "affinity secret: " .. err
    end
    local random = io.open("/dev/urandom", "rb")
    local fresh = random and random:read(32)
    if random then
        random:close()
    end
    if fresh then
        dict:safe_add("affinity_secret", fresh)
        secrets, _M.source = { dict:get("affinity_secret") }, "made up"
    end
    return true
end

local function base64url(s)
    return (ngx.encode_base64(s, true):gsub("[+/]", { ["+"] = "-", ["/"] = "_" }))
end

-- The cookie's value for a peer, and its two parts.
function _M.value(secret, pool, addr)
    local about = pool .. "\0" .. addr
    local id = base64url(ngx.hmac_sha1(secret, "weir id\0" .. about):sub(1, 6))
    local mac = base64url(ngx.hmac_sha1(secret, "weir peer\0" .. about))
    return id .. "." .. mac, id, mac
end

local function entry(pool, addr)
    local e = { addr = addr, value = nil, tokens = {} }
    for i, secret in ipairs(secrets) do
        local value, id, mac = _M.value(secret, pool, addr)
        e.value = e.value or value
        e.tokens[i] = { id = id, mac = ffi.new("uint8_t[?]", MAC_LEN, mac) }
    end
    return e
end

-- Who the cookies of a pool may name: addrs by position 0 .. n-1. before: the last result for the pool, whose work is used again.
function _M.known(pool, addrs, n, before)
    local k = { of = {}, by_id = {} } -- address -> entry; id -> {pos=, mac=, current=}
    for pos = 0, n - 1 do
        local addr = addrs[pos]
        local e = before and before.of[addr] or entry(pool, addr)
        k.of[addr] = e
        for i, token in ipairs(e.tokens) do
            k.by_id[token.id] = { pos = pos, mac = token.mac, current = i == 1 }
        end
    end
    return k
end

-- What the bytes of a cookie name: {pos=, current=}; nil when they are not one of ours for a peer that is there.
function _M.find(known, bytes, len)
    if len ~= LENGTH or bytes[ID_LEN] ~= DOT then
        return nil
    end
    local e = known.by_id[ffi_string(bytes, ID_LEN)]
    if not e then
        return nil
    end
    local mac, differs = e.mac, 0
    for i = 0, MAC_LEN - 1 do -- all of them, always: how far it agrees must not show in the time
        differs = bor(differs, bxor(bytes[ID_LEN + 1 + i], mac[i]))
    end
    return differs == 0 and e or nil
end

-- The same of a whole Cookie header: the first cookie of the name that names one. A browser sends two where there is an old one with another
-- path or domain, the old one first perhaps, and goes on doing so whatever it is given.
function _M.find_among(known, name, header)
    local at = 1
    while true do
        local from, to = header:find(name .. "=", at, true)
        if not from then
            return nil
        end
        at = to + 1
        local before = from == 1 and 59 or header:byte(from - 1)
        local stop = header:find(";", at, true) or #header + 1
        if (before == 59 or before == 32) and stop - at == LENGTH then -- ; or a space
            local value = header:sub(at, stop - 1)
            local e = _M.find(known, ffi.cast("const uint8_t *", value), LENGTH)
            if e then
                return e
            end
        end
    end
end

return _M
