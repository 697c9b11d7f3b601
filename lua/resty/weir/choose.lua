-- The ways of taking one of the candidates: by the table, by least in flight (the local rule and the last resort), by two random choices (the control
-- slice). What was taken is in M.choice until the next call: fields of one table instead of a table made per request.
--
-- engine/decide has the same rule by table in Go for the simulator.
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local candidates = require "resty.weir.candidates"
local sizes = require "resty.weir.sizes"
local progress = require "resty.weir.progress"
local random = require "resty.weir.random"

local rnd = random.float
local floor, min, max, huge = math.floor, math.min, math.max, math.huge

local MAX_SLOTS, MAX_PEERS = shm.MAX_SLOTS, candidates.MAX_PEERS

local load, work, cand = candidates.load, candidates.work, candidates.cand

-- The result: requests in flight on the peer, its cost by the table or -1, the probability with which it was taken, flags (pick.lua), and whether
-- its time aside is over and this request is its trial.
local choice = { inflight = 0, cost = -1, propensity = 1, flags = 0, trial = false }

local _M = { choice = choice }

local elsewhere = ffi.new("int32_t[?]", MAX_PEERS) -- in flight in rows past the first, by position, for by_whole_table()
local summed = 1 -- how many rows there were when that was filled; with one it is 0
local size = 1                                  -- of the request
local value = ffi.new("double[?]", 2 * MAX_PEERS) -- costs of the candidates, and behind them their weights in the draw

-- Position i was taken. For affinity.lua too, which takes one of the candidates by other rules.
local function settle(view, i, cost, propensity, flags)
    choice.inflight, choice.cost, choice.propensity, choice.flags = load[i], cost, propensity, flags
    -- a peer whose time aside is over is tried by one request at a time
    choice.trial = shm.peer[view.slot[i]].aside_ms ~= 0
    return i
end
_M.settle = settle

-- Least in-flight per weight among the candidates, ties at random: the local rule, without a usable table, and the last resort. Not of two
-- random ones: that gives a peer which is much slower than the others more than least_conn would (ARCHITECTURE.md, Reasons). The counts are
-- those of all workers at this moment, so nothing herds.
function _M.least_conn(view, k, flags)
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

-- The control slice: fewer in flight of two random choices (Mitzenmacher 2001). Not the least of all: the peer that the table keeps out of since
-- it is slow is the idlest, and would get that whole slice.
-- The propensity counts how often the winner wins over all pairs, so that these outcomes can be learned from too.
function _M.two_choices(view, k, flags)
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
_M.cost_at = cost_at

-- What a request of the usual size costs there by the shared class.
function _M.shared_cost_at(view, i)
    if view.sized then
        return sizes.price(view, 0, i, load[i], work[i], 1)
    end
    return cost_at(view, 0, i)
end

-- One of k by their weights, which are behind their costs in value[] and have this sum.
local function drawn(k, sum)
    local draw = rnd() * sum
    local j = 0
    while j < k - 1 do
        draw = draw - value[k + j]
        if draw < 0 then
            break
        end
        j = j + 1
    end
    while value[k + j] == 0 do -- rounding left the draw past the last one with a weight
        j = j - 1
    end
    return j
end

-- By the costs of the table, with some chance for what is nearly as cheap, and for anyone to learn from. first: it is the request's first attempt.
function _M.by_table(view, row, k, first)
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
    local explore = first and view.explore or 0
    if view.sized and size > 1 then
        explore = 0 -- what a random pick costs grows with the size, what it teaches does not
    end
    if explore > 0 and rnd() < explore then
        local j = floor(rnd() * k)
        return settle(view, cand[j], value[j], explore / k + (1 - explore) * value[k + j] / sum, 1)
    end
    local j = drawn(k, sum)
    return settle(view, cand[j], value[j], explore / k + (1 - explore) * value[k + j] / sum, 0)
end

-- Fills elsewhere[] from the rows past the first.
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

-- The same choice as by_table() makes among candidates.lua's, with the same random numbers, for nearly all requests: a first attempt, by the table, in
-- a pool that is looked at as a whole and whose usable peers are all fully admitted. What differs between peers is arithmetic instead of
-- branches (a peer that is not usable costs infinitely much), since each branch of a compiled loop that goes now one way and now the other
-- costs as much as the rest of its turn. nil when a peer is set aside or the costs are no numbers: then the long way decides.
function _M.by_whole_table(view, row)
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
    local i = drawn(n, sum)
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

return _M
