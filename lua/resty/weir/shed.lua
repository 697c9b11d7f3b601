-- Refusing what a pool should not hold: the pool's limit, which the engine finds (engine/limit), and what to count and say of it.
--
-- The counts are those of shm.lua, so the limit is exact but for one request for each other worker that looks at the same instant. Streams are
-- not in it: they hold a connection, not a place in a queue. A limit that is as old as max_stale_ms is none: what the pool can do is not known then.
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local vars = require "resty.weir.vars"

local floor, max, min, tonumber = math.floor, math.max, math.min, tonumber
local ffi_string, read = ffi.string, vars.read
local MAX_SLOTS = shm.MAX_SLOTS
local PRIORITY = vars.named("weir_priority")

-- Why a request was refused: 1, 2, 3 over the limit with high, normal, low priority; 4 every peer is full; 5 over a rate (rate.lua). 0: it was not.
local REASONS, FULL, RATE = { "high", "normal", "low", "full", "rate" }, 4, 5

local _M = { FULL = FULL, RATE = RATE, REASONS = REASONS, POLICY = { "limit", "limit", "limit", "full", "rate" } }

local dict
local keys = {} -- pool -> reason -> key in the shared dict

function _M.init(d)
    dict = d
end

-- What a view needs for the limit in the engine's settings; nil when there is none, or none is known yet.
function _M.prepare(told)
    local most = type(told) == "table" and tonumber(told.max)
    if not most then
        return nil
    end
    -- By priority, whole requests: with less room than one nothing would ever be learned.
    return { max = most, whole = told.whole, base_ms = told.base_ms,
        max(floor(most), 1), max(floor(told.normal or most), 1), max(floor(told.low or most), 1) }
end

-- Requests in flight in the pool, over all workers, without streams.
local function held(view)
    local count, slot, n = shm.count, view.slot, 0
    for row = 0, shm.head.nrows - 1 do
        local base = row * MAX_SLOTS
        for i = 0, view.n - 1 do
            n = n + count[base + slot[i]].n
        end
    end
    return n
end

-- $weir_priority: high or 0, normal or 1, low or 2; numbers above are low, and what is neither is normal.
local function priority_of(r)
    local bytes, len = read(r, PRIORITY)
    if len == 0 or len > 8 then
        return 2
    end
    local word = ffi_string(bytes, len)
    if word == "high" then return 1 end
    if word == "low" then return 3 end
    local n = tonumber(word)
    return n and n == n and floor(max(min(n, 2), 0)) + 1 or 2
end

-- May the pool hold one more request? Returns nil, or the reason why not. For a view with a limit.
function _M.over(view, r, now)
    local limit = view.limit
    local n = held(view)
    if n < limit[3] or now - shm.head.heard_ms > view.max_stale_ms then
        return nil
    end
    local p = priority_of(r)
    return n >= limit[p] and p or nil
end

-- Notes that a request was refused.
function _M.count(name, reason)
    local of = keys[name]
    if not of then
        of = {}
        for i, word in ipairs(REASONS) do
            of[i] = "shed:" .. name .. ":" .. word
        end
        keys[name] = of
    end
    shm.add(dict, of[reason], 1)
end

-- How many were refused since NGINX was started, by reason.
function _M.counts(name)
    local out = {}
    for i, word in ipairs(REASONS) do
        out[i] = dict:get("shed:" .. name .. ":" .. word) or 0
    end
    return out
end

-- Notes that the pool has a rate limit. The list is in the dict, for the elected worker may never have served the pool.
function _M.rated(name)
    if dict:safe_add("rated:" .. name, true) then
        local n = shm.add(dict, "nrated", 1)
        if n then
            dict:safe_set("rated." .. n, name)
        end
    end
end


-- For observe.lua: what the engine has not been told yet, as {pool, high, normal, low, full}; nil when it was told all.
function _M.untold(name)
    local now, news = _M.counts(name), false
    local entry = { name }
    for i = 1, FULL do
        entry[i + 1] = now[i] - (dict:get("told:" .. name .. ":" .. REASONS[i]) or 0)
        news = news or entry[i + 1] > 0
    end
    return news and entry or nil
end

function _M.tell(entry)
    for i = 1, FULL do
        shm.add(dict, "told:" .. entry[1] .. ":" .. REASONS[i], entry[i + 1])
    end
end

-- As above of rate limits, of all pools that have one: a list of {pool, count}. Nothing but one look in the dict while there are none.
function _M.untold_rates()
    local list = {}
    for i = 1, dict:get("nrated") or 0 do
        local name = dict:get("rated." .. i)
        local n = name and (dict:get("shed:" .. name .. ":rate") or 0) - (dict:get("told:" .. name .. ":rate") or 0) or 0
        if n > 0 then
            list[#list + 1] = { name, n }
        end
    end
    return list
end

function _M.tell_rates(list)
    for _, entry in ipairs(list) do
        shm.add(dict, "told:" .. entry[1] .. ":rate", entry[2])
    end
end

return _M
