-- What this NGINX has seen of a peer itself, in shared memory, so that all workers act on it at once and without the engine
-- (local evidence beats advice).
--
-- A peer that cannot be reached is set aside at once; one that fails otherwise, after `eject_consecutive` failures in a
-- row. The time aside doubles each time up to LOCAL_MAX_MS, and starts over after a quiet time. After it one request tries the
-- peer ("trial") while the others stay away until it has an answer or TRIAL_MS have passed. The engine ejects on its own, longer
-- and on more evidence; this is only the reflex.
--
-- Bounds: the last usable peer is never set aside, and for failures other than of the connection no more than
-- `eject_max_share` of the pool is, together with what the engine has ejected (a pool whose every peer answers 500 has a fault that
-- no choice of peer mends). In an overload all peers time out and some fail otherwise, and without the first one the others are next. Which that is the engine
-- knows. So as long as it speaks, time-outs are its to judge, and a peer that it says the pool cannot do without ("needed") is set aside here only when it
-- cannot be reached.
local shm = require "resty.weir.shm"

local _M = {}

local REFUSED, CONNECT_TIMEOUT, TIMEOUT = 1, 2, 3
local LOCAL_MAX_MS = 10000
local TRIAL_MS = 1000
local NEWS_MS = 2000 -- how old the engine's word may be to count in this: pools with traffic are told of each 100 ms
local QUIET_TIMES = 10 -- times the last time aside without another one: the next starts at the base again

-- The peer in a slot answered what was sent to it at monotonic time `sent`. What was sent before it was set aside tells nothing of it since: a peer that
-- shuts down in order refuses connections and answers what it holds, and each of those answers brought it back, to be refused again for twice as long.
function _M.success(slot, sent)
    local p = shm.peer[slot]
    if p.aside_ms ~= 0 and sent < p.last_ms - p.backoff_ms then
        return
    end
    if p.fails ~= 0 then
        p.fails = 0
    end
    if p.aside_ms ~= 0 then
        p.aside_ms, p.trial_ms = 0, 0
    end
end

-- May the peer at position i be used, by the engine's word? A backup that stands by may.
local function in_service(view, i)
    return view.usable[i] == 1 or view.standby ~= nil and view.standby[i] == 1
end

-- How many other peers of the view can be used, and how many are out: set aside here or not usable by the engine's word.
local function others(view, slot, now)
    local usable, out = 0, 0
    for i = 0, view.n - 1 do
        local s = view.slot[i]
        if s ~= slot then
            if in_service(view, i) and shm.peer[s].aside_ms <= now then
                usable = usable + 1
            else
                out = out + 1
            end
        end
    end
    return usable, out
end

-- A failure of `kind` (numbers as in docs/protocol.md) of the peer in a slot of the view, at monotonic time now, of what was sent to it at `sent`.
-- Returns true when it set the peer aside.
function _M.failure(view, slot, kind, sent, now)
    local p = shm.peer[slot]
    if p.aside_ms ~= 0 and sent < p.last_ms - p.backoff_ms then
        return false -- it was set aside since, as in success(): this is no trial, which would have it out for twice as long
    end
    p.fails = p.fails + 1
    if p.aside_ms > now then
        return false -- already: requests sent before that are still failing
    end
    local on_trial = p.aside_ms ~= 0
    local unreachable = kind == REFUSED or kind == CONNECT_TIMEOUT
    if not (unreachable or on_trial or view.eject_consecutive > 0 and p.fails >= view.eject_consecutive) then
        return false
    end
    local excused = not unreachable and not view.static and now - shm.head.heard_ms <= NEWS_MS
        and (kind == TIMEOUT and not on_trial or view.needed ~= nil and view.needed[slot] ~= nil)
    local usable, out = others(view, slot, now)
    if excused or usable == 0 or not unreachable and out > 0 and (out + 1) / view.n > view.eject_max_share then
        p.aside_ms, p.trial_ms = 0, 0
        return false
    end
    p.unreachable = unreachable and 1 or 0
    local longest = view.eject_max_ms < LOCAL_MAX_MS and view.eject_max_ms or LOCAL_MAX_MS
    local backoff = p.backoff_ms * 2
    if backoff == 0 or now - p.last_ms > QUIET_TIMES * p.backoff_ms then
        backoff = view.eject_base_ms
    end
    if backoff > longest then
        backoff = longest
    end
    p.backoff_ms, p.last_ms, p.trial_ms = backoff, now + backoff, 0
    p.aside_ms = now + backoff
    return true
end

-- The engine has ejected peers on its own evidence: with what is set aside here that may be more than the cap allows, or all. Peers
-- that can be reached come back, those set aside last first, until it is not.
function _M.reconcile(view, now)
    while true do
        local usable, out, last = 0, 0, nil
        for i = 0, view.n - 1 do
            local s = view.slot[i]
            local p = shm.peer[s]
            if not in_service(view, i) then
                out = out + 1
            elseif p.aside_ms <= now then
                usable = usable + 1
            else
                out = out + 1
                if p.unreachable == 0 and (not last or p.aside_ms > shm.peer[last].aside_ms) then
                    last = s
                end
            end
        end
        if not last or usable > 0 and (out == 1 or out / view.n <= view.eject_max_share) then
            return
        end
        shm.peer[last].aside_ms, shm.peer[last].trial_ms = 0, 0
    end
end

-- One request goes to see whether the peer is back.
function _M.trial(slot, now)
    shm.peer[slot].trial_ms = now + TRIAL_MS
end

return _M
