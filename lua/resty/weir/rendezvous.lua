-- Consistent hashing with bounded load: a key goes to the peer that scores highest for it (rendezvous hashing, Thaler and Ravishankar 1998;
-- weights by -w / ln u, Schindelhauer and Schomaker 2005), among those whose load is below their bound (Mirrokni, Thorup and
-- Zadimoghaddam 2016): factor x (requests in flight + 1) x the peer's part of the weight, and never fewer than FEW.
--
-- There is no ring: a pick looks at each peer's live count anyway. When a peer comes or goes only the keys it gets or had move, about 1/n of all. And
-- the keys of a peer that is full or gone spread over all others, where a ring would hand them to its one neighbour (Chen, Coleman and
-- Shrivastava 2021 on why that matters with bounded loads).
--
-- Scores depend on key and address alone, so all workers and all NGINX agree.
local ffi = require "ffi"
local bit = require "bit"

local tobit, bxor, lshift, rshift = bit.tobit, bit.bxor, bit.lshift, bit.rshift
local ceil, log, huge = math.ceil, math.log, math.huge

local _M = {}

local MOST = 4096 -- bytes of a key that are hashed
-- Of three peers and two requests the bound would be one each: keys would leave their peers for nothing. A peer that a few requests are too
-- many for is left for its cost (break_at).
local FEW = 4
_M.FEW = FEW

-- One-at-a-time (Jenkins), over bytes, from the state h of what came before (0 at first). 32 bits, finish() it in the end.
function _M.add(h, bytes, len)
    for i = 0, (len < MOST and len or MOST) - 1 do
        h = tobit(h + bytes[i])
        h = tobit(h + lshift(h, 10))
        h = bxor(h, rshift(h, 6))
    end
    return h
end

function _M.finish(h)
    h = tobit(h + lshift(h, 3))
    h = bxor(h, rshift(h, 11))
    return tobit(h + lshift(h, 15))
end

function _M.hash(text)
    return _M.finish(_M.add(0, ffi.cast("const uint8_t *", text), #text))
end

-- An integer hash of 32 bits (Jenkins), of shifts and additions only: products of 32 bits do not fit a double.
local function mix(a)
    a = tobit(tobit(a + 0x7ed55d16) + lshift(a, 12))
    a = bxor(bxor(a, 0xc761c23c), rshift(a, 19))
    a = tobit(tobit(a + 0x165667b1) + lshift(a, 5))
    a = bxor(tobit(a + 0xd3a2646c), lshift(a, 9))
    a = tobit(tobit(a + 0xfd7046c5) + lshift(a, 3))
    return bxor(bxor(a, 0xb55a4f09), rshift(a, 16))
end
_M.mix = mix

-- The seeds of peers: addrs by position 0 .. n-1.
function _M.seeds(addrs, n)
    local seed = ffi.new("int32_t[?]", n)
    for i = 0, n - 1 do
        seed[i] = _M.hash(addrs[i])
    end
    return seed
end

-- Picks among the positions cand[0 .. k-1] for a key's hash. load int32[pos]: requests in flight; weight double[j]: of cand[j], > 0;
-- cost double[j] and most: candidates that cost more are passed over while others are there; factor: of the bound, 0 = none.
function _M.choose(key, seed, cand, k, load, weight, cost, most, factor)
    local held, total = 1, 0
    for j = 0, k - 1 do
        held = held + load[cand[j]]
        total = total + weight[j]
    end
    local best, at = huge, -1
    local best_dear, at_dear = huge, -1 -- were the costs not heeded
    for j = 0, k - 1 do
        local i = cand[j]
        if factor == 0 or load[i] < FEW or load[i] < ceil(factor * held * weight[j] / total) then
            -- (0, 1); ln(u)/w is least for the highest score. rshift, so that the sign is none
            local u = (rshift(mix(bxor(key, seed[i])), 1) + 0.5) / 2147483648
            local score = -log(u) / weight[j]
            if cost[j] <= most then
                if score < best then
                    best, at = score, j
                end
            elseif score < best_dear then
                best_dear, at_dear = score, j
            end
        end
    end
    return at >= 0 and at or at_dear
end

return _M
