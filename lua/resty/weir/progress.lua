-- How much of the work that a peer holds (shm.work) it must have done by now: it works at the rate of the engine's table since the last
-- request came or went. What is left tells how long a queue really is; 20 requests may be a second of work or a moment. Only pools
-- with sizes (sizes.lua) come here.
--
-- Nobody sees the work being done, so it is reckoned, and never taken for more than it can be: a peer that has stalled must not look idle.
-- It is at most twice what is held; the picks take at most the requests in its slots for done; and work that is overdue counts the
-- more the longer it is overdue. What is wrong mends itself: a request that ends takes its own part away, and an idle peer has done nothing.
--
-- engine/decide/progress.go is the same, with the reasons; test/vectors/sizes.json holds them to each other.
local shm = require "resty.weir.shm"

local min, max = math.min, math.max

-- Work is counted in mean requests of the pool, in units of 1/UNIT, so that sums are whole numbers and exact however often they are added
-- to and taken from. What is done is in the same units, and not whole.
local UNIT = 4096
local LEAST = 1e-3 * UNIT -- what a peer with any work has left; 0 would mean that it is not known
local OVERDUE = 0.4

local _M = { UNIT = UNIT }

-- The table's word for the peer in a slot: units that one of its slots finishes in a ms, and how many slots it has, at least 1.
function _M.tell(slot, rate, knee)
    local p = shm.progress[slot]
    p.rate, p.knee = rate, knee
end

-- What is done at a time on the peer in a slot that has n requests, at least 1, and so much work in flight.
local function done_by(slot, now, n, held)
    local p = shm.progress[slot]
    return min(p.done + max(now - p.done_ms, 0) * p.rate * min(n, p.knee), 2 * held)
end

-- Before what a peer holds changes: n requests were in flight there since it did last.
local function advance(slot, now, n)
    local p = shm.progress[slot]
    p.done = n > 0 and done_by(slot, now, n, shm.held_work(slot)) or 0
    p.done_ms = max(now, p.done_ms) -- another worker's clock reading may be the later one; its time must not count twice
end

-- Puts work on the peer in a slot, in the row that begins at base. n: requests in flight there without its own.
function _M.put(base, slot, now, n, load)
    advance(slot, now, n)
    local work = shm.work
    work[base + slot] = work[base + slot] + load
end

-- Takes it off again. n: requests in flight there with its own. With the work goes what was done of it: all of it, and at least the even share
-- of a slot, since the one that ended must have been worked on.
function _M.take_off(base, slot, now, n, load)
    n = max(n, 1) -- counts and works come from different moments
    advance(slot, now, n)
    local p = shm.progress[slot]
    local done = p.done
    if done > 0 then
        p.done = max(done - max(load, done / min(n, p.knee)), 0)
    end
    local work = shm.work
    work[base + slot] = work[base + slot] - load
end

-- Work that is left on the peer in a slot that holds n requests, in units; 0 = not known. known: how far sizes tell how long requests take
-- there, 0 to 1. Writes nothing: a pick looks at many peers and changes one.
function _M.left(slot, now, n, known)
    local held = shm.held_work(slot)
    if n == 0 or held <= 0 then
        return 0
    end
    local begun = held * min(n, shm.progress[slot].knee) / n -- what is in its slots
    local done = known * done_by(slot, now, n, held)
    return max(held - begun + max(begun - done, OVERDUE * done), LEAST)
end

return _M
