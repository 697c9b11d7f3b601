-- Who may be picked for a request: the peers it is shown (all of a pool, a sample, a side of a split), what those hold at this moment, and which of
-- them are usable, admitted, untried and have room. pick.lua asks for them, choose.lua takes one.
--
-- All arrays are scratch of the request that is being placed: a worker places one at a time, and nothing in here yields. By position in the view,
-- see pick.lua; load[] and work[] are filled for the positions shown only.
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local progress = require "resty.weir.progress"
local random = require "resty.weir.random"
local tiers = require "resty.weir.tiers"

local rnd = random.float
local floor = math.floor

local MAX_SLOTS = shm.MAX_SLOTS
local MAX_PEERS = 4096 -- in one pool

-- Above that many peers a request looks at a random sample only: see SAMPLE.
local FULL_SCAN = 256
-- Best of 128 drawn without replacement from n equal peers is in expectation within the best 1/129 of them
-- (the minimum of k uniform ranks), at an eighth of the cost of a scan of 1000.
local SAMPLE = 128

local load = ffi.new("int32_t[?]", MAX_PEERS)   -- in-flight by position
local work = ffi.new("double[?]", MAX_PEERS)    -- left of what is in flight, by position, 0 = not known; in views with sizes
local cand = ffi.new("int32_t[?]", MAX_PEERS)   -- positions of the candidates
local doubt = ffi.new("int32_t[?]", MAX_PEERS)  -- of those that are ones only if there are no others
local order = ffi.new("int32_t[?]", MAX_PEERS)  -- positions shown, from 0 on; behind them the rest of a permutation, shuffled a bit further by each sample
local order_n = 0                               -- of how many that is one; -1 = it is none
local tried = ffi.new("int32_t[16]")            -- slots this request has been to
local ntried = 0
local slack = 0                                 -- by how many requests peers may be over their cap

local _M = {
    MAX_PEERS = MAX_PEERS, FULL_SCAN = FULL_SCAN, SAMPLE = SAMPLE,
    load = load, work = work, cand = cand,
    full = false, -- a peer was left out because it holds as many requests as it may
}

function _M.reset_tried()
    ntried = 0
end

function _M.add_tried(slot)
    if ntried < 16 then
        tried[ntried] = slot
        ntried = ntried + 1
    end
end

-- Takes the slot added last off again.
function _M.drop_tried()
    ntried = ntried - 1
end

-- Has the request been to a peer before?
function _M.again()
    return ntried > 0
end

local function was_tried(slot)
    for i = 0, ntried - 1 do
        if tried[i] == slot then
            return true
        end
    end
    return false
end
_M.was_tried = was_tried

-- Shows the positions 0 .. n-1.
local function all(n)
    for i = 0, n - 1 do
        order[i] = i
    end
    order_n = n
    return n
end
_M.all = all

-- Shows all positions or a sample of them; returns how many.
function _M.shortlist(n)
    if order_n ~= n then
        all(n)
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

-- Shows the peers of a side, or unless whole a sample of them; returns how many.
function _M.side(view, s, whole)
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

-- Fills load[] for the m positions shown from the rows of all workers, and in a view with sizes work[]. For a stream load[] is with the streams that are
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

_M.read = read_peers

-- Candidates for this request into cand[]; returns how many. A peer is one unless the engine says not usable, this NGINX
-- has set it aside, its admit share excludes it this time, the request has been there, or it hangs (hung.lua).
-- To peers whose time aside is over a request goes once: one that found such a peer still down must not spend its other tries on the next ones.
-- heed_admit: false when nobody is left otherwise; then admit shares and what hangs count for nothing.
local function candidates(view, m, now, heed_admit)
    if view.tiers then
        return tiers.candidates(view, order, m, now, heed_admit, cand, was_tried, ntried > 0)
    end
    local again, doubtful = ntried > 0, 0
    local slot, usable, admit, peer = view.slot, view.usable, view.admit, shm.peer
    local hung = heed_admit and view.hangs and view.hung
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
            if in_share and (not again or not was_tried(s)) and not (hung and hung[i] == 1) then
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

-- Of the k candidates those that may hold one more request, for a view with caps. Streams do not count.
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

-- candidates(), and of them in a view with caps those with room.
function _M.with_room(view, m, now, heed_admit, with_streams)
    local k = candidates(view, m, now, heed_admit)
    if view.cap and k > 0 then
        k = spare(view, k, with_streams)
    end
    return k
end

-- Where nobody else may be picked: backups and those held back, as the tiers of the view have it.
function _M.fall(view, m, now)
    return tiers.fall(view, order, m, now, cand, was_tried)
end

-- Where nobody is usable: whoever is not known to be out for good, with room.
function _M.last_resort(view, m, with_streams)
    local k = tiers.last_resort(view, order, m, cand, was_tried)
    if view.cap then
        k = spare(view, k, with_streams)
    end
    return k
end

-- Peers may be over their cap by so many from now on.
function _M.allow(over)
    slack = over
end

return _M
