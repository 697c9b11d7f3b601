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
--
-- To stay away longer each time is for a peer that is missed by nobody. Where most of the pool fails, that is hardly each peer's own fault, and when it is over
-- the few that came back first would carry everything until the others' times end: then the time aside stays short, and so it does in a pool of
-- which the engine says that it is short of peers. How short depends on what it costs to find a peer still down: a refused connection nothing, a time-out much.
local shm = require "resty.weir.shm"

local min = math.min

local _M = {}

-- Whether a peer may be set aside depends on which others are, so one worker at a time looks and does it. Two that did at once, each seeing the other's peer
-- in use, set aside both peers of a pool of two. Who finds the claim taken leaves it at that: the peer's next failure comes to the same. It
-- is held for microseconds; a worker that is killed with it costs the rest CLAIM_S.
local CLAIM, CLAIM_S = "setting aside", 1
local dict

function _M.init(d)
    dict = d
end

local REFUSED, CONNECT_TIMEOUT, TIMEOUT = 1, 2, 3
local LOCAL_MAX_MS = 10000
local SHORT, SHORTEST = 4, 1 -- the longest times aside where peers are missed, in base times
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

-- How many other peers of the view can be used; how many are out: set aside here or not usable by the engine's word; and how many fail: are out, were and
-- have not answered since, or would be if they could be spared.
local function others(view, slot, now)
    local usable, out, failing = 0, 0, 0
    for i = 0, view.n - 1 do
        local s = view.slot[i]
        if s ~= slot then
            local p = shm.peer[s]
            if in_service(view, i) and p.aside_ms <= now then
                usable = usable + 1
                if p.aside_ms ~= 0 or view.eject_consecutive > 0 and p.fails >= view.eject_consecutive then
                    failing = failing + 1
                end
            else
                out = out + 1
                failing = failing + 1
            end
        end
    end
    return usable, out, failing
end

-- Is the engine's word on the peers of the view fresh?
local function heard(view, now)
    return not view.static and now - shm.head.heard_ms <= NEWS_MS
end

-- May so many peers of the view be out at one time? One may in a pool so small that the share comes to none, but for a share of 0, which is to
-- have nobody put out for failures.
local function allowed(view, out)
    return out == 0 or out == 1 and view.eject_max_share > 0 or out / view.n <= view.eject_max_share
end

-- Ends what is left of times aside after `ms` at most.
local function shorten(view, ms, now)
    for i = 0, view.n - 1 do
        local p = shm.peer[view.slot[i]]
        local over = p.aside_ms - now - ms
        if over > 0 then
            p.aside_ms, p.last_ms, p.backoff_ms = p.aside_ms - over, p.last_ms - over, p.backoff_ms - over
        end
    end
end

local function is_unreachable(kind)
    return kind == REFUSED or kind == CONNECT_TIMEOUT
end

-- Sets the peer in a slot aside if it can be spared; what failure() says, with the claim held.
local function set_aside(view, slot, kind, now)
    local p = shm.peer[slot]
    if p.aside_ms > now then
        return false -- by another worker, since this one looked
    end
    local on_trial = p.aside_ms ~= 0
    local unreachable = is_unreachable(kind)
    local told = heard(view, now)
    local excused = not unreachable and told and (kind == TIMEOUT and not on_trial or view.needed ~= nil and view.needed[slot] ~= nil)
    local usable, out, failing = others(view, slot, now)
    if excused or usable == 0 or not unreachable and not allowed(view, out + 1) then
        p.aside_ms, p.trial_ms = 0, 0
        return false
    end
    p.unreachable = unreachable and 1 or 0
    local longest = view.eject_max_ms < LOCAL_MAX_MS and view.eject_max_ms or LOCAL_MAX_MS
    local slow = kind == TIMEOUT or kind == CONNECT_TIMEOUT
    if 2 * (failing + 1) > view.n and failing > 0 then
        shorten(view, SHORT * view.eject_base_ms, now)
        longest = min(longest, (slow and SHORT or SHORTEST) * view.eject_base_ms)
    elseif told and view.needed and not slow then
        longest = min(longest, SHORT * view.eject_base_ms)
    end
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
    if not (is_unreachable(kind) or p.aside_ms ~= 0 -- on trial
        or view.eject_consecutive > 0 and p.fails >= view.eject_consecutive) then
        return false
    end
    local claimed, err = dict:safe_add(CLAIM, true, CLAIM_S)
    if err == "exists" then
        return false
    end
    local done = set_aside(view, slot, kind, now) -- also without a claim, from a dict that is full
    if claimed then
        dict:delete(CLAIM)
    end
    return done
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
        if not last or usable > 0 and allowed(view, out) then
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
