-- The picking rule: a pure function of a table, the live counts and random numbers. No NGINX in here, so that it is
-- tested outside it, and nothing that the JIT cannot compile. engine/decide has the same rule in Go for the simulator.
--
-- A "view" is what pools.lua makes of a pool: FFI arrays indexed by position 0 .. n-1
--   slot[i] int32, usable[i] uint8, admit[i] float, weight[i] float, draining[i] uint8, tiers: nil or what tiers.lua needs,
--   cost float[class][peer][grid], grid double[ng], gi uint16[max+1] and gf float[max+1]: where an in-flight count falls in the grid,
--   past: 1 / width of the grid's last step, for counts past its end, split: nil or what split.lua made,
--   cap: nil, or int32[i], the most requests in flight on a peer,
--   simple: whether by_whole_table() may decide; then cand int32[ncand], the usable positions, and bar[i] double, 0 or infinite
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local sizes = require "resty.weir.sizes"
local progress = require "resty.weir.progress"
local random = require "resty.weir.random"
local tiers = require "resty.weir.tiers"

local rnd = random.float
local floor, min, max, huge = math.floor, math.min, math.max, math.huge

local MAX_SLOTS = shm.MAX_SLOTS
local MAX_PEERS = 4096 -- in one pool

-- Above that many peers a request looks at a random sample only: see SAMPLE.
local FULL_SCAN = 256
-- Best of 128 drawn without replacement from n equal peers is in expectation within the best 1/129 of them
-- (the minimum of k uniform ranks), at an eighth of the cost of a scan of 1000.
local SAMPLE = 128

local _M = {
    FULL_SCAN = FULL_SCAN, SAMPLE = SAMPLE,
    EXPLORED = 1, CONTROL = 2, LOCAL = 8, PANIC = 16, BOUND = 32, CONFINED = 64, BY_HEADER = 128, MAX_PEERS = MAX_PEERS,
    REST = 0, GROUP = 1, -- the sides of a split
    -- the result of the last pick, in the module rather than in a table made per pick
    inflight = 0, cost = -1, propensity = 1, flags = 0, trial = false,
    full = false, -- a peer was left out because it holds as many requests as it may
    sure = false, -- a retry has somewhere to go, without looking further
}

local load = ffi.new("int32_t[?]", MAX_PEERS)   -- in-flight by position
local elsewhere = ffi.new("int32_t[?]", MAX_PEERS) -- of these, those of rows past the first, for by_whole_table()
local summed = 1 -- how many rows there were when that was filled; with one it is 0
local work = ffi.new("double[?]", MAX_PEERS)    -- left of what is in flight, by position, 0 = not known; in views with sizes
local size = 1                                  -- of the request
local cand = ffi.new("int32_t[?]", MAX_PEERS)   -- positions of the candidates
local doubt = ffi.new("int32_t[?]", MAX_PEERS)  -- of those that are ones only if there are no others
local value = ffi.new("double[?]", 2 * MAX_PEERS) -- their costs, and behind the costs their weights in the draw
local order = ffi.new("int32_t[?]", MAX_PEERS)  -- a permutation, shuffled a bit further by each sample
local order_n = 0
local tried = ffi.new("int32_t[16]")            -- slots this request has been to
local ntried = 0
local side, side_flag, side_firm = 0, 0, false -- of the request, in views with a split

function _M.reset_tried()
    ntried = 0
end

function _M.add_tried(slot)
    if ntried < 16 then
        tried[ntried] = slot
        ntried = ntried + 1
    end
end

local function was_tried(slot)
    for i = 0, ntried - 1 do
        if tried[i] == slot then
            return true
        end
    end
    return false
end

-- Positions to look at: all, or a sample, in order[0 .. m-1].
local function shortlist(n)
    if order_n ~= n then
        for i = 0, n - 1 do
            order[i] = i
        end
        order_n = n
    end
    if n <= FULL_SCAN then
        return n
    end
    for i = 0, SAMPLE - 1 do
        local j = i + floor(rnd() * (n - i))
        order[i], order[j] = order[j], order[i]
    end
    return SAMPLE
end

-- Fills load[] for the shortlist from the rows of all workers, and in a view with sizes work[]. For a stream load[] is with the streams that are
-- there; they are no work.
local function read_peers(view, m, now, with_streams)
    local count, slot = shm.count, view.slot
    for k = 0, m - 1 do
        local i = order[k]
        load[i] = count[slot[i]].n
    end
    for row = 1, shm.head.nrows - 1 do
        local base = row * MAX_SLOTS
        for k = 0, m - 1 do
            local i = order[k]
            load[i] = load[i] + count[base + slot[i]].n
        end
    end
    if view.sized then
        local known = view.known
        for k = 0, m - 1 do
            local i = order[k]
            work[i] = progress.left(slot[i], now, load[i], known[i])
        end
    end
    if with_streams then
        for k = 0, m - 1 do
            load[order[k]] = load[order[k]] + shm.inflight_streams(slot[order[k]])
        end
    end
end

-- Candidates for this request into cand[]; returns how many. A peer is one unless the engine says not usable, this NGINX
-- has set it aside, its admit share excludes it this time, or the request has been there. To peers whose time aside is over a request goes once: one
-- that found such a peer still down must not spend its other tries on the next ones.
local function candidates(view, m, now, heed_admit)
    if view.tiers then
        return tiers.candidates(view, order, m, now, heed_admit, cand, was_tried, ntried > 0)
    end
    local again, doubtful = ntried > 0, 0
    local slot, usable, admit, peer = view.slot, view.usable, view.admit, shm.peer
    local k = 0
    local draw = heed_admit and -1 or 0
    for j = 0, m - 1 do
        local i = order[j]
        local s = slot[i]
        if usable[i] == 1 and peer[s].aside_ms <= now and peer[s].trial_ms <= now then
            local in_share = true
            if admit[i] < 1 then
                if draw < 0 then
                    draw = rnd() -- one a request: it bounds every peer's share by its admit just as well
                end
                in_share = draw < admit[i]
            end
            if in_share and (not again or not was_tried(s)) then
                if again and peer[s].aside_ms ~= 0 then
                    doubt[doubtful] = i
                    doubtful = doubtful + 1
                else
                    cand[k] = i
                    k = k + 1
                end
            end
        end
    end
    if k == 0 and doubtful > 0 and not heed_admit then
        for j = 0, doubtful - 1 do
            cand[j] = doubt[j]
        end
        return doubtful
    end
    return k
end

local function settle(view, i, cost, propensity, flags)
    _M.inflight, _M.cost, _M.propensity, _M.flags = load[i], cost, propensity, flags
    -- a peer whose time aside is over is tried by one request at a time
    _M.trial = shm.peer[view.slot[i]].aside_ms ~= 0
    return i
end

-- Least in-flight per weight among the candidates, ties at random: the last resort.
local function least_conn(view, k, flags)
    local weight = view.weight
    local best, ties, at = huge, 0, -1
    for j = 0, k - 1 do
        local i = cand[j]
        local c = (load[i] + 1) / weight[i]
        if c < best then
            best, ties, at = c, 1, i
        elseif c == best then
            ties = ties + 1
            if rnd() * ties < 1 then
                at = i
            end
        end
    end
    return settle(view, at, -1, 1 / ties, flags)
end

-- The local rule, without a usable table, and the control slice: fewer in flight of two random choices (Mitzenmacher 2001). Not the least of
-- all for the control slice: the peer that the table keeps out of since it is slow is the idlest, and would get that whole slice.
-- The propensity counts how often the winner wins over all pairs, so that these outcomes can be learned from too.
local function two_choices(view, k, flags)
    local weight = view.weight
    if k == 1 then
        return settle(view, cand[0], -1, 1, flags)
    end
    local a = floor(rnd() * k)
    local b = floor(rnd() * (k - 1))
    if b >= a then
        b = b + 1
    end
    local i, j = cand[a], cand[b]
    if (load[j] + 1) / weight[j] < (load[i] + 1) / weight[i] then
        i = j
    end
    local mine = (load[i] + 1) / weight[i]
    local wins = 0
    for c = 0, k - 1 do
        local o = cand[c]
        if o ~= i then
            local other = (load[o] + 1) / weight[o]
            if other > mine then
                wins = wins + 1
            elseif other == mine then
                wins = wins + 0.5
            end
        end
    end
    return settle(view, i, -1, wins * 2 / (k * (k - 1)), flags)
end

-- Cost of one more request of the class row on position i at its live in-flight: a straight line between grid points, and on from the last two.
local function cost_at(view, row, i)
    local l = load[i]
    if view.sized then
        return sizes.price(view, row, i, l, work[i], size)
    end
    local known = min(l, view.gmax)
    local at = (row * view.n + i) * view.ng + view.gi[known]
    local cost = view.cost
    return cost[at] + (cost[at + 1] - cost[at]) * (view.gf[known] + (l - known) * view.past)
end

-- Of the k candidates those that may hold one more request, for a view with caps. Streams do not count.
local slack = 0 -- by how much they may be over
local function spare(view, k, with_streams)
    local cap, slot, m = view.cap, view.slot, 0
    for j = 0, k - 1 do
        local i = cand[j]
        if (with_streams and shm.inflight(slot[i]) or load[i]) - slack < cap[i] then
            cand[m] = i
            m = m + 1
        end
    end
    _M.full = _M.full or m < k
    return m
end

-- For affinity.lua, which chooses by other rules among the same candidates.
_M.load, _M.cand, _M.settle, _M.cost_at = load, cand, settle, cost_at

-- Fills cand[] and load[] from all peers of the view, however many; returns how many candidates there are.
function _M.whole(view, now, with_streams)
    for i = 0, view.n - 1 do
        order[i] = i
    end
    order_n = view.n
    read_peers(view, view.n, now, with_streams)
    local k = candidates(view, view.n, now, false)
    if view.cap and k > 0 then
        k = spare(view, k, with_streams)
        if k == 0 then
            return 0
        end
    end
    if k == 0 and view.tiers then
        k = tiers.fall(view, order, view.n, now, cand, was_tried)
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

local function by_table(view, row, k)
    if k == 1 then
        local i = cand[0]
        return settle(view, i, cost_at(view, row, i), 1, 0)
    end
    local best = huge
    for j = 0, k - 1 do
        local c = cost_at(view, row, cand[j])
        value[j] = c
        if c < best then
            best = c
        end
    end
    -- weight (1 - d/spread)^2 for a cost d above the best, relative; 0 from spread on
    local inv = view.spread > 0 and 1 / (best * view.spread) or huge
    local sum = 0
    for j = 0, k - 1 do
        local w = value[j] == best and 1 or 1 - (value[j] - best) * inv
        w = w > 0 and w * w or 0
        value[k + j] = w
        sum = sum + w
    end
    local explore = ntried == 0 and view.explore or 0
    if view.sized and size > 1 then
        explore = 0 -- what a random pick costs grows with the size, what it teaches does not
    end
    if explore > 0 and rnd() < explore then
        local j = floor(rnd() * k)
        return settle(view, cand[j], value[j], explore / k + (1 - explore) * value[k + j] / sum, 1)
    end
    local draw = rnd() * sum
    local j = 0
    while j < k - 1 do
        draw = draw - value[k + j]
        if draw < 0 then
            break
        end
        j = j + 1
    end
    while value[k + j] == 0 do -- rounding left the draw past the last peer with a weight
        j = j - 1
    end
    return settle(view, cand[j], value[j], explore / k + (1 - explore) * value[k + j] / sum, 0)
end

local function other_rows(view, rows)
    local n, slot, count = view.n, view.slot, shm.count
    ffi.fill(elsewhere, (rows > 1 and n or MAX_PEERS) * 4)
    for r = 1, rows - 1 do
        local base = r * MAX_SLOTS
        for i = 0, n - 1 do
            elsewhere[i] = elsewhere[i] + count[base + slot[i]].n
        end
    end
end

-- The same choice as candidates() and by_table() make, with the same random numbers, for nearly all requests: a first attempt, by the table, in
-- a pool that is looked at as a whole and whose usable peers are all fully admitted. What differs between peers is arithmetic instead of
-- branches (a peer that is not usable costs infinitely much), since each branch of a compiled loop that goes now one way and now the other
-- costs as much as the rest of its turn. nil when a peer is set aside or the costs are no numbers: then the long way decides.
local function by_whole_table(view, row)
    local n, slot, bar, count, peer = view.n, view.slot, view.bar, shm.count, shm.peer
    local ng, gmax, gi, gf, past, cost = view.ng, view.gmax, view.gi, view.gf, view.past, view.cost
    local rows = shm.head.nrows
    if rows > 1 or rows ~= summed then -- a loop of its own, which a single worker can do without
        other_rows(view, rows)
        summed = rows
    end
    local best, aside, at = huge, 0, row * n * ng
    for i = 0, n - 1 do
        local l = count[slot[i]].n + elsewhere[i]
        load[i] = l
        local known = min(l, gmax)
        local a = at + gi[known]
        local c = cost[a] + (cost[a + 1] - cost[a]) * (gf[known] + (l - known) * past) + bar[i]
        value[i] = c
        best = min(best, c)
        aside = max(aside, peer[slot[i]].aside_ms)
        at = at + ng
    end
    if aside ~= 0 then
        return nil
    end
    local inv = min(1 / (best * view.spread), 1e300) -- not infinite: 0 times that must be 0
    local sum = 0
    for i = 0, n - 1 do
        local w = max(1 - (value[i] - best) * inv, 0)
        w = w * w
        value[n + i] = w
        sum = sum + w
    end
    if sum ~= sum or sum == 0 then -- costs that are no numbers
        return nil
    end
    local explore = view.explore
    if explore > 0 and rnd() < explore then
        local k = view.ncand
        local i = view.cand[floor(rnd() * k)]
        return settle(view, i, value[i], explore / k + (1 - explore) * value[n + i] / sum, 1)
    end
    local draw = rnd() * sum
    local i = 0
    while i < n - 1 do
        draw = draw - value[n + i]
        if draw < 0 then
            break
        end
        i = i + 1
    end
    while value[n + i] == 0 do
        i = i - 1
    end
    return settle(view, i, value[i], explore / view.ncand + (1 - explore) * value[n + i] / sum, 0)
end

-- In a view with sizes, before the pick: what the request weighs, 0 = not told.
function _M.weigh(view, row, weight)
    size = sizes.size(view, row, weight)
end

-- And after it: the work of the request at position i, in units of progress.lua, and what it found left there, in mean requests.
function _M.weighed(view, row, i)
    return sizes.load(view, row, i, size), work[i] / progress.UNIT
end

-- candidates(), and of them in a view with caps those with room.
local function with_room(view, m, now, heed_admit, with_streams)
    local k = candidates(view, m, now, heed_admit)
    if view.cap and k > 0 then
        k = spare(view, k, with_streams)
    end
    return k
end

-- In a view with a split, before the pick: the request's side and the flag that goes with it. firm: a peer of the other side that the client
-- is bound to is left for it.
function _M.on_side(s, flag, firm)
    side, side_flag, side_firm = s, flag, firm
end

-- The positions of a side, or a sample of them, into order[]; returns how many.
local function positions(view, s, whole)
    local list, n = view.split.list[s], view.split.count[s]
    local m = n
    if n > FULL_SCAN and not whole then
        m = SAMPLE
        for i = 0, m - 1 do
            local j = i + floor(rnd() * (n - i))
            list[i], list[j] = list[j], list[i]
        end
    end
    ffi.copy(order, list, m * 4)
    order_n = -1 -- no permutation of all any more
    return m
end

-- The candidates among the peers of a side, as pick() finds those among all.
local function of_side(view, s, now, with_streams)
    local m = positions(view, s, false)
    read_peers(view, m, now, with_streams)
    local k = with_room(view, m, now, true, with_streams)
    if k == 0 and m < view.split.count[s] then
        m = positions(view, s, true)
        read_peers(view, m, now, with_streams)
        k = with_room(view, m, now, true, with_streams)
    end
    if k == 0 then
        -- A share that is held back is one among the peers of the side: the side as a whole keeps its own.
        k = with_room(view, m, now, false, with_streams)
    end
    if k == 0 and view.tiers and not _M.full then
        k = tiers.fall(view, order, m, now, cand, was_tried)
    end
    return k
end

-- pick() in a view with a split.
local function by_side(view, row, now, local_rule, with_streams, control)
    local k = of_side(view, side, now, with_streams)
    if k == 0 and view.split.fallback then
        k = of_side(view, 1 - side, now, with_streams)
    end
    if k == 0 and _M.full then
        return -1
    end
    local i
    if k == 0 then
        local m
        if view.split.fallback then
            m = view.n
            for j = 0, m - 1 do
                order[j] = j
            end
            order_n = m
        else
            m = positions(view, side, true)
        end
        read_peers(view, m, now, with_streams)
        k = tiers.last_resort(view, order, m, cand, was_tried)
        if view.cap then
            k = spare(view, k, with_streams)
        end
        if k == 0 then
            return -1
        end
        i = least_conn(view, k, 16)
    elseif local_rule then
        i = two_choices(view, k, 8)
    elseif control then
        i = two_choices(view, k, 2)
    else
        i = by_table(view, row, k)
    end
    _M.flags = _M.flags + 64 + side_flag
    return i
end

-- Picks a peer of the view for a request whose class has the given row. local_rule: there is no table to trust.
-- with_streams: the request is likely to be a stream.
-- Returns the position, or -1 when there is no peer left to try; the rest of the result is in this module's fields.
function _M.pick(view, row, now, local_rule, with_streams)
    local n = view.n
    _M.sure, _M.full = false, false
    if n == 0 then
        return -1
    end
    local control = not local_rule and view.control > 0 and ntried == 0 and rnd() < view.control
    if view.simple and not control and not local_rule and ntried == 0 and not with_streams then
        local i = by_whole_table(view, row)
        if i then
            _M.sure = true
            return i
        end
    end
    if view.split then
        return by_side(view, row, now, local_rule, with_streams, control)
    end
    local m = shortlist(n)
    read_peers(view, m, now, with_streams)
    local k = with_room(view, m, now, true, with_streams)
    if k == 0 and m < n then
        -- the sample held nobody: look at all of them, once
        for i = 0, n - 1 do
            order[i] = i
        end
        m = n
        read_peers(view, m, now, with_streams)
        k = with_room(view, m, now, true, with_streams)
    end
    if k == 0 then
        k = with_room(view, m, now, false, with_streams) -- only peers with a bounded share are left
    end
    if k == 0 and _M.full then
        return -1 -- no backup and no doubtful peer is there to take what healthy ones have no room for
    end
    if k == 0 and view.tiers then
        k = tiers.fall(view, order, m, now, cand, was_tried)
    end
    if k == 0 then
        k = tiers.last_resort(view, order, m, cand, was_tried)
        if view.cap then
            k = spare(view, k, with_streams)
        end
        if k == 0 then
            return -1
        end
        return least_conn(view, k, 16)
    end
    if local_rule then
        return two_choices(view, k, 8)
    end
    if control then
        return two_choices(view, k, 2)
    end
    return by_table(view, row, k)
end

-- As pick(), for a request that was told there was room: a peer may be over its cap by one for each other worker.
function _M.squeeze(view, row, now, local_rule, with_streams)
    slack = shm.head.nrows - 1
    local i = _M.pick(view, row, now, local_rule, with_streams)
    slack = 0
    return i
end

-- Is there a peer left, besides the one in slot `now_on`, that a retry could go to? Same reading of "usable" as pick, without the admit draw.
function _M.another(view, now, now_on)
    local slot, usable, peer = view.slot, view.usable, shm.peer
    local doubtful = false
    local inside = view.split and not view.split.fallback and view.split.inside
    for i = 0, view.n - 1 do
        local s = slot[i]
        if s ~= now_on and not was_tried(s) and (not view.cap or shm.inflight(s) < view.cap[i])
            and (not inside or inside[i] == side) then
            if usable[i] == 1 and peer[s].aside_ms <= now and peer[s].trial_ms <= now then
                return true
            end
            doubtful = doubtful or view.draining[i] == 0
        end
    end
    return doubtful
end

return _M
