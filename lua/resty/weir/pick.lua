-- The picking rule: a pure function of a table, the live counts and random numbers. No NGINX in here, so that it is
-- tested outside it, and nothing that the JIT cannot compile. engine/decide has the same rule in Go for the simulator.
--
-- A "view" is what pools.lua makes of a pool: FFI arrays indexed by position 0 .. n-1
--   slot[i] int32, usable[i] uint8, admit[i] float, weight[i] float, draining[i] uint8, tiers: nil or what tiers.lua needs,
--   cost float[class][peer][grid], grid double[ng], gi uint16[max+1] and gf float[max+1]: where an in-flight count falls in the grid,
--   past: 1 / width of the grid's last step, for counts past its end, split: nil or what split.lua made,
--   cap: nil, or int32[i], the most requests in flight on a peer,
--   bounded: some usable peer's admit is below 1; hung uint8[i] and hangs: see hung.lua,
--   simple: whether by_whole_table() may decide; then cand int32[ncand], the usable positions, and bar[i] double, 0 or infinite
local shm = require "resty.weir.shm"
local candidates = require "resty.weir.candidates"
local choose = require "resty.weir.choose"
local hung = require "resty.weir.hung"
local random = require "resty.weir.random"

local rnd = random.float
local cand = candidates.cand
local read, with_room, last_resort, was_tried = candidates.read, candidates.with_room, candidates.last_resort, candidates.was_tried
local by_table, by_whole_table, two_choices, least_conn = choose.by_table, choose.by_whole_table, choose.two_choices, choose.least_conn
local choice = choose.choice

local LOCAL, CONTROL, PANIC, CONFINED = 8, 2, 16, 64

local _M = {
    EXPLORED = 1, CONTROL = CONTROL, LOCAL = LOCAL, PANIC = PANIC, BOUND = 32, CONFINED = CONFINED, BY_HEADER = 128, -- choice.flags
    REST = 0, GROUP = 1, -- the sides of a split
    MAX_PEERS = candidates.MAX_PEERS, FULL_SCAN = candidates.FULL_SCAN,
    choice = choice, -- what the last pick took
    sure = false, -- a retry has somewhere to go, without looking further
    reset_tried = candidates.reset_tried, add_tried = candidates.add_tried, drop_tried = candidates.drop_tried, -- of the request: the slots it has been to
    weigh = choose.weigh, weighed = choose.weighed,
    -- for affinity.lua, which chooses by other rules among the same candidates
    load = candidates.load, cand = cand, settle = choose.settle, cost_at = choose.cost_at,
}

local side, side_flag, side_firm = 0, 0, false -- of the request, in views with a split

-- In a view with a split, before the pick: the request's side and the flag that goes with it. firm: a peer of the other side that the client
-- is bound to is left for it.
function _M.on_side(s, flag, firm)
    side, side_flag, side_firm = s, flag, firm
end

-- All candidates of the view, however many peers it has, into cand[], and what they hold into load[]; returns how many.
function _M.whole(view, now, with_streams)
    local m = candidates.all(view.n)
    read(view, m, now, with_streams)
    candidates.full = false
    local k = with_room(view, m, now, false, with_streams)
    if k == 0 and not candidates.full and view.tiers then
        k = candidates.fall(view, m, now)
    end
    return k
end

-- May a request that is bound to the peer at position i go there? A peer that goes out of use in good health keeps its own for a time.
function _M.may_stay(view, i, now)
    local p = shm.peer[view.slot[i]]
    if view.split and side_firm and view.split.inside[i] ~= side then
        return false
    end
    return (view.usable[i] == 1 or view.keeps[i] == 1) and p.aside_ms <= now and p.trial_ms <= now and not was_tried(view.slot[i])
        and (not view.cap or shm.inflight(view.slot[i]) < view.cap[i])
end

-- The candidates among the peers of a side, as pick() finds those among all.
local function of_side(view, s, now, with_streams)
    local m = candidates.side(view, s, false)
    read(view, m, now, with_streams)
    local k = with_room(view, m, now, true, with_streams)
    if k == 0 and m < view.split.count[s] then
        m = candidates.side(view, s, true)
        read(view, m, now, with_streams)
        k = with_room(view, m, now, true, with_streams)
    end
    if k == 0 then
        -- A share that is held back is one among the peers of the side: the side as a whole keeps its own.
        k = with_room(view, m, now, false, with_streams)
    end
    if k == 0 and view.tiers and not candidates.full then
        k = candidates.fall(view, m, now)
    end
    return k
end

-- pick() in a view with a split.
local function by_side(view, row, now, local_rule, with_streams, control)
    local k = of_side(view, side, now, with_streams)
    if k == 0 and view.split.fallback then
        k = of_side(view, 1 - side, now, with_streams)
    end
    if k == 0 and candidates.full then
        return -1
    end
    local i
    if k == 0 then
        local m = view.split.fallback and candidates.all(view.n) or candidates.side(view, side, true)
        read(view, m, now, with_streams)
        k = last_resort(view, m, with_streams)
        if k == 0 then
            return -1
        end
        i = least_conn(view, k, PANIC)
    elseif local_rule then
        i = least_conn(view, k, LOCAL)
    elseif control then
        i = two_choices(view, k, CONTROL)
    else
        i = by_table(view, row, k, not candidates.again())
    end
    choice.flags = choice.flags + CONFINED + side_flag
    return i
end

-- Picks a peer of the view for a request whose class has the given row. local_rule: there is no table to trust.
-- with_streams: the request is likely to be a stream.
-- Returns the position, or -1 when there is no peer left to try (candidates.full tells why); the rest of the result is in choice and sure.
function _M.pick(view, row, now, local_rule, with_streams)
    local n = view.n
    _M.sure, candidates.full = false, false
    if n == 0 then
        return -1
    end
    local first = not candidates.again()
    local control = not local_rule and view.control > 0 and first and rnd() < view.control
    local hangs = false
    if view.bounded or view.tiers then
        if local_rule then
            view.hangs = false -- there are no costs to tell by
        else
            hangs = hung.any(view, now)
        end
    end
    if view.simple and not hangs and not control and not local_rule and first and not with_streams then
        local i = by_whole_table(view, row)
        if i then
            _M.sure = true
            return i
        end
    end
    if view.split then
        return by_side(view, row, now, local_rule, with_streams, control)
    end
    local m = candidates.shortlist(n)
    read(view, m, now, with_streams)
    local k = with_room(view, m, now, true, with_streams)
    if k == 0 and m < n then
        -- the sample held nobody: look at all of them, once
        m = candidates.all(n)
        read(view, m, now, with_streams)
        k = with_room(view, m, now, true, with_streams)
    end
    if k == 0 then
        k = with_room(view, m, now, false, with_streams) -- only peers with a bounded share are left
    end
    if k == 0 and candidates.full then
        return -1 -- no backup and no doubtful peer is there to take what healthy ones have no room for
    end
    if k == 0 and view.tiers then
        k = candidates.fall(view, m, now)
    end
    if k == 0 then
        k = last_resort(view, m, with_streams)
        if k == 0 then
            return -1
        end
        return least_conn(view, k, PANIC)
    end
    if local_rule then
        return least_conn(view, k, LOCAL)
    end
    if control then
        return two_choices(view, k, CONTROL)
    end
    return by_table(view, row, k, first)
end

-- As pick(), for a request that was told there was room: a peer may be over its cap by one for each other worker.
function _M.squeeze(view, row, now, local_rule, with_streams)
    candidates.allow(shm.head.nrows - 1)
    local i = _M.pick(view, row, now, local_rule, with_streams)
    candidates.allow(0)
    return i
end

-- Is there a peer left, besides the one in slot `now_on`, that a retry could go to? Same reading of "usable" as pick, without the admit draw.
-- And is it one that is usable, not only one to try when nobody is?
function _M.another(view, now, now_on)
    local slot, usable, peer = view.slot, view.usable, shm.peer
    local doubtful = false
    local inside = view.split and not view.split.fallback and view.split.inside
    for i = 0, view.n - 1 do
        local s = slot[i]
        if s ~= now_on and not was_tried(s) and (not view.cap or shm.inflight(s) < view.cap[i])
            and (not inside or inside[i] == side) then
            if usable[i] == 1 and peer[s].aside_ms <= now and peer[s].trial_ms <= now then
                return true, true
            end
            doubtful = doubtful or view.draining[i] == 0
        end
    end
    return doubtful, false
end

return _M
