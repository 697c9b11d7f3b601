-- Affinity: requests of one client (by a cookie) or of one key (by its hash) stay on one peer. Glue of cookie.lua and rendezvous.lua with
-- NGINX's variables; only pools that have affinity come here.
--
-- The peer is left when it may not be used, when this NGINX has set it aside, when the request has been there, or when it costs break_at
-- times what the cheapest would at the live in-flight counts. A choice by affinity carries the flag 32 and the propensity 1: it was not drawn,
-- and must not be taken for one.
local ffi = require "ffi"
local pick = require "resty.weir.pick"
local tiers = require "resty.weir.tiers"
local cookie = require "resty.weir.cookie"
local rendezvous = require "resty.weir.rendezvous"
local keys = require "resty.weir.key"
local vars = require "resty.weir.vars"
local notice = require "resty.weir.notice"

local read = vars.read
local huge, min, max = math.huge, math.min, math.max

local COOKIES = vars.named("http_cookie")

local _M = { BOUND = pick.BOUND }

local LEAST = 1e-9 -- ms: a cost may be 0

local dear = ffi.new("double[?]", pick.MAX_PEERS)
local weight = ffi.new("double[?]", pick.MAX_PEERS)

_M.parts_of = keys.parts_of

local function attributes(c)
    local s = "; Path=" .. c.path
    if c.max_age > 0 then
        s = s .. "; Max-Age=" .. c.max_age
    end
    return s .. (c.httponly and "; HttpOnly" or "") .. "; SameSite=" .. c.samesite .. (c.secure == "true" and "; Secure" or "")
end

-- What a view needs for the affinity in the engine's settings; nil when there is none, or one that this NGINX does not know.
function _M.prepare(view, told, before)
    local a = { by = told.by, break_at = told.break_at > 0 and told.break_at or huge }
    if told.by == "cookie" then
        a.name, a.secure = told.cookie.name, told.cookie.secure
        a.variable = vars.named("cookie_" .. a.name:lower())
        a.known = cookie.known(view.name, view.addr, view.n, before and before.known)
        a.attributes = attributes(told.cookie)
        if cookie.source == "made up" then
            notice.once("pool \"" .. view.name .. "\" has sticky cookies and NGINX no secret file: they will not survive a restart of NGINX,"
                .. " and are good on this NGINX only (docs/affinity.md)")
        end
        return a
    elseif told.by == "hash" then
        a.parts = keys.parts_of(told.key, "pool \"" .. view.name .. "\": the affinity key", "requests are placed as without affinity")
        a.factor = told.balance_factor
        a.seed = rendezvous.seeds(view.addr, view.n)
        return a
    end
    notice.once("affinity by " .. tostring(told.by) .. " is not known to this NGINX; pool \"" .. view.name .. "\" goes without")
end

-- How many times as dear as the cheapest a peer is that costs c, with the operator's weights or without them, whichever is less: what a peer of little
-- weight costs more by that is no reason to leave it, as it would keep nobody, and one of much weight is left no sooner for having it.
local function dearness(view, i, c, best, best_plain)
    return min(c / best, c * view.told_weight[i] / best_plain)
end

-- Notes how dear each of the k candidates is in dear[], 0 where there is no table. Returns how dear a peer may be to be kept, and the lowest costs with weights
-- and without.
local function most(view, row, k, local_rule)
    if local_rule then
        for j = 0, k - 1 do
            dear[j] = 0
        end
        return huge, 1, 1
    end
    local cand = pick.cand
    local best, best_plain = huge, huge
    for j = 0, k - 1 do
        local i = cand[j]
        local c = pick.cost_at(view, row, i)
        dear[j] = c
        best, best_plain = min(best, c), min(best_plain, c * view.told_weight[i])
    end
    best, best_plain = max(best, LEAST), max(best_plain, LEAST)
    for j = 0, k - 1 do
        dear[j] = dearness(view, cand[j], dear[j], best, best_plain)
    end
    return view.affinity.break_at, best, best_plain
end

local function by_cookie(view, a, r, q, row, now, local_rule, with_streams)
    q.bound = -1
    local bytes, len = read(r, a.variable)
    if len == 0 then
        return nil
    end
    local e = cookie.find(a.known, bytes, len)
    if not e then
        bytes, len = read(r, COOKIES)
        e = cookie.find_among(a.known, a.name, ffi.string(bytes, len))
        if not e then
            return nil
        end
    end
    local i = e.pos
    if e.current then
        q.bound = view.slot[i] -- under an older secret it is given anew
    end
    if not pick.may_stay(view, i, now) then
        return nil
    end
    local k = pick.whole(view, now, with_streams)
    local bound, best, best_plain = most(view, row, k, local_rule)
    local mine = local_rule and -1 or pick.cost_at(view, row, i)
    if dearness(view, i, mine, best, best_plain) > bound then
        return nil
    end
    return pick.settle(view, i, mine, 1, pick.BOUND)
end

local function by_hash(view, a, r, row, now, local_rule, with_streams)
    local key = keys.hash(a.parts, r, 0)
    if not key then
        return nil
    end
    local k = pick.whole(view, now, with_streams)
    if k == 0 then
        return nil
    end
    local bound = most(view, row, k, local_rule)
    local cand = pick.cand
    for j = 0, k - 1 do
        local i = cand[j]
        local w = view.told_weight[i] -- in all zones the same, so that all NGINX agree
        if view.tiers and view.tiers.tier[i] > 0 then
            w = w * tiers.share(view, i)
        elseif view.admit[i] < 1 then
            w = w * min(view.admit[i] * k, 1) -- its ramp: an admit is a part of an even share
        end
        weight[j] = w
    end
    local j = rendezvous.choose(key, a.seed, cand, k, pick.load, weight, dear, bound, a.factor)
    if j < 0 then
        return nil
    end
    return pick.settle(view, cand[j], local_rule and -1 or pick.cost_at(view, row, cand[j]), 1, pick.BOUND)
end

-- As pick.pick, for a view with affinity.
function _M.pick(view, r, q, row, now, local_rule, with_streams)
    local a = view.affinity
    pick.sure = false
    local i
    if a.by == "cookie" then
        i = by_cookie(view, a, r, q, row, now, local_rule, with_streams)
    else
        i = by_hash(view, a, r, row, now, local_rule, with_streams)
    end
    return i or pick.pick(view, row, now, local_rule, with_streams)
end

return _M
