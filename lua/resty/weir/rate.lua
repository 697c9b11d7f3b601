-- access_by_lua, where the operator wants it: refuses with 429 what comes above a rate, by client or by any other key (docs/limits.md).
--
--     access_by_lua_block { require("resty.weir").rate("api", "rate=3000r/s burst=100 key=$binary_remote_addr") }
--
-- NGINX's own limit_req has a clock of whole milliseconds, so without a burst it lets in one request a millisecond at most. This one has a
-- clock without steps, and room for SLACK_MS. A limit is said in one string: a constant costs a request nothing, a table would be garbage.
--
-- State is one number a key in a shared dict that the operator declares and that serves nothing else: full, it forgets the key that was not
-- asked for the longest. It must not be Weir's own dict, where a flood of keys would push out what cannot be missed. It lasts over a reload.
local ffi = require "ffi"
local base = require "resty.core.base"
local gcra = require "resty.weir.gcra"
local key = require "resty.weir.key"
local shed = require "resty.weir.shed"
local clock = require "resty.weir.clock"
local notice = require "resty.weir.notice"
local attempts = require "resty.weir.attempts"
local read = require("resty.weir.vars").read
local bit = require "bit"

local ngx = ngx
local get_request = base.get_request
local now_ms, take, open = clock.now_ms, gcra.take, attempts.open
local copy, ffi_string = ffi.copy, ffi.string
local band, bor, lshift = bit.band, bit.bor, bit.lshift
local ceil, tonumber, pairs = math.ceil, tonumber, pairs

local _M = {}

-- How much earlier than due a request may come, besides the burst: so much of the rate is saved up while no worker runs. Requests reach a
-- worker in batches, and the system may leave it waiting for a few ms while others have the processor; what came meanwhile would be refused for
-- coming at once, and at 10,000/s a gap of 1 ms loses nine of ten. On average the rate is kept all the same.
_M.SLACK_MS = 10

local MAX_LIMITS = 256 -- different ones a worker; the strings are meant to be constants
local MAX_MARKED = 31  -- bits of a record; those after them count a request again that an internal redirect brings back
local KEY_BYTES = 250  -- longer ones are hashed
local ID_BYTES = 8
local UNITS = { s = 1, m = 60, h = 3600 }

local limits, nlimits = {}, 0 -- pool -> string -> limit
local TOO_MANY = { bad = "there are more than " .. MAX_LIMITS .. " rate limits, which must be constant strings: this one lets everything in" }
local buffer = ffi.new("uint8_t[?]", KEY_BYTES)

local WORDS = {
    rate = function(limit, value)
        local n, unit = value:match("^(%d+%.?%d*)r/([smh])$")
        n = tonumber(n)
        if not n or n <= 0 or n / UNITS[unit] > 1e6 then
            return "is not like 500r/s, 30r/m or 10r/h, above 0 and up to 1000000r/s"
        end
        limit.gap = 1000 * UNITS[unit] / n
    end,
    burst = function(limit, value)
        local n = value:match("^%d+$") and tonumber(value)
        if not n or n > 1e6 then
            return "is not a whole number from 0 to 1000000"
        end
        limit.burst = n
    end,
    key = function(limit, value) limit.key = value end,
    zone = function(limit, value) limit.zone = value end,
    name = function(limit, value) limit.name = value end,
}

-- Reads "rate=500r/s burst=100 key=$binary_remote_addr zone=weir_rate name=logins". All but the rate may be left out. Returns
-- {gap=, tolerance= (ms), key=, zone=, name=}, or nil and what is wrong. The same rule is engine/config/check/rate.go.
function _M.parse(text)
    local limit, seen = { burst = 0, key = "$binary_remote_addr", zone = "weir_rate" }, {}
    for word in text:gmatch("%S+") do
        local name, value = word:match("^(%l+)=(.+)$")
        local set = WORDS[name]
        if not set then
            return nil, "\"" .. word .. "\" is none of rate=, burst=, key=, zone=, name="
        elseif seen[name] then
            return nil, name .. " is there twice"
        end
        seen[name] = true
        local err = set(limit, value)
        if err then
            return nil, "\"" .. word .. "\" " .. err
        end
    end
    if not limit.gap then
        return nil, "there is no rate, as in \"rate=500r/s\""
    end
    limit.tolerance = limit.burst * limit.gap + _M.SLACK_MS
    return limit
end

local function prepare(pool, text)
    local limit, err = _M.parse(text)
    if limit then
        limit.dict = ngx.shared[limit.zone]
        if limit.zone == "weir" then
            err = "zone=weir is Weir's own memory; declare a `lua_shared_dict weir_rate 10m;`"
        elseif not limit.dict then
            err = "there is no `lua_shared_dict " .. limit.zone .. " 10m;` in the http block"
        end
    end
    if err then
        return { bad = "the rate limit \"" .. text .. "\" of pool \"" .. pool .. "\" lets everything in: " .. err }
    end
    limit.parts = key.parts_of(limit.key, "pool \"" .. pool .. "\": the rate limit's key", "the limit lets everything in")
    limit.constant = not limit.key:find("%$")
    limit.id = ngx.md5_bin(limit.name and "name " .. limit.name or pool .. "|" .. text):sub(1, ID_BYTES)
    limit.mark = nlimits <= MAX_MARKED and lshift(1, nlimits - 1) or 0
    limit.workers = ngx.worker.count()
    shed.rated(pool)
    return limit
end

local function first_met(pool, text)
    if nlimits >= MAX_LIMITS then
        return TOO_MANY
    end
    nlimits = nlimits + 1
    local limit = prepare(pool, text)
    limits[pool] = limits[pool] or {}
    limits[pool][text] = limit
    return limit
end

-- The key of request r in the dict; nil when every variable in it is empty, as of which NGINX's limits do not count a request either.
local function key_of(limit, r)
    local parts, at, empty, long = limit.parts, ID_BYTES, not limit.constant, false
    copy(buffer, limit.id, ID_BYTES)
    for i = 1, #parts do
        local p = parts[i]
        local bytes, len = p.bytes, p.len
        if p.variable then
            bytes, len = read(r, p.variable)
            empty = empty and len == 0
        end
        if at + len > KEY_BYTES then
            long = true
            break
        end
        copy(buffer + at, bytes, len)
        at = at + len
    end
    if long then
        local text = {}
        for i, p in ipairs(parts) do
            text[i] = p.variable and ffi_string(read(r, p.variable)) or ffi_string(p.bytes, p.len)
        end
        return limit.id .. ngx.md5_bin(table.concat(text))
    end
    return not empty and ffi_string(buffer, at) or nil
end

-- Lets the request at hand through, or ends it with 429. pool: under whose name refusals are counted.
function _M.rate(pool, text)
    local of = limits[pool]
    local limit = of and of[text] or first_met(pool, text)
    if limit.bad then
        return notice.error(limit.bad)
    end
    local r = get_request()
    local q = open(r)
    if band(q.rated, limit.mark) ~= 0 then
        return -- it was counted before an internal redirect
    end
    q.rated = bor(q.rated, limit.mark)
    if limit.parts.doubt then
        key.look(limit.parts, r)
    end
    local k = key_of(limit, r)
    if not k then
        return
    end
    local wait, err = take(limit.dict, k, now_ms(), limit.gap, limit.tolerance, limit.workers)
    if not wait then
        return notice.error("a rate limit of pool \"" .. pool .. "\" lets everything in: lua_shared_dict " .. limit.zone .. ": " .. err)
    end
    if wait > 0 then
        q.shed = shed.RATE
        shed.count(pool, shed.RATE)
        ngx.header["Retry-After"] = wait > 1000 and ceil(wait * 0.001) or 1
        return ngx.exit(429)
    end
end

-- For the status page: the limits this worker has met, as pool -> list of strings.
function _M.of(pool)
    local list
    for text, limit in pairs(limits[pool] or {}) do
        if not limit.bad then
            list = list or {}
            list[#list + 1] = text
        end
    end
    return list
end

return _M
