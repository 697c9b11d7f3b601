-- The generic cell rate algorithm (GCRA, ITU-T I.371, in its virtual scheduling form): a token bucket whose whole state is one number, the
-- time at which the next request would be due if requests came evenly. Pure but for the shared dict it is given, and the time.
--
-- Workers share the number through a dict whose get and incr are atomic each, but not together. So nothing is ever written that was
-- computed from what was read before: a worker adds, sees in the sum what the number was at that instant, and judges by that. When another was
-- quicker it takes its own back. What this comes to:
--   * A request is let in only when the number, at the instant it was added to, was not past the tolerance: together workers let in
--     no more than tolerance/gap + 1 requests and one more each gap.
--   * Between adding and taking back (microseconds) others may see too high a number and refuse wrongly, one request each at most.
--   * A worker that is killed in between leaves it too high. What is higher than can be, is put right by who meets it.
--   * A worker that is left waiting in between, with a key that was idle, takes back what others have caught up by meanwhile: they find the
--     bucket full once more. That, putting right, and a key that a full dict evicts, are worth one full bucket each at most.
local abs, max = math.abs, math.max

local _M = {}

-- Rounding of the sum is below this; what is owed differs by more only when another worker was quicker.
local ROUNDING_MS = 1e-3
local LATE_MS = 1000 -- by how much a worker may be behind another, having read the clock and not run since

-- Takes one request out of the bucket of `key`. now, gap (between requests at the rate) and tolerance (how much earlier than due they may come) in
-- ms; workers: how many share the dict. Returns 0 when there was room, else after how many ms there will be; nil and why when the dict does not work.
function _M.take(dict, key, now, gap, tolerance, workers)
    local due = dict:get(key)
    local step = gap
    if due then
        local wait = due - now - tolerance
        if wait > 0 then
            if wait > (2 * workers + 1) * gap + LATE_MS then -- workers: a reload doubles them for a while
                dict:set(key, now + tolerance + gap)
                return gap
            end
            return wait
        end
        if due < now then
            step = now - due + gap
        end
    end
    local after, err = dict:incr(key, step, now)
    if not after then
        return nil, err
    end
    local before = after - step
    local wait = before - now - tolerance
    if wait > ROUNDING_MS then
        dict:incr(key, -step)
        return wait
    end
    local owed = max(now - before, 0) + gap
    if abs(owed - step) > ROUNDING_MS then
        dict:incr(key, owed - step)
    end
    return 0
end

return _M
