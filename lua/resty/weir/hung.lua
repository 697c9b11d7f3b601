-- Peers that hang: they hold what they were given, and nothing has failed yet that would set them aside. By cost they get nothing, but cost does not
-- decide where the peers beside them have a bounded share (slow start): then all that is above it would go to the one that hangs. And a tier with
-- such a peer cannot carry what it could.
--
-- A peer hangs when one more request costs FAR times as much on it as on the cheapest of its tier, and it holds more than that one by counts alone:
-- (held + 1) / weight, with a weight that grows with the bounded share, which is how HAProxy (leastconn with slowstart) and Envoy (least request
-- with slow start) place requests. So a wrong table cannot flood a newcomer: it holds at most its share of what the others do.
-- Costs are compared without the weights they were divided by: of two peers that are well, one with ten times the weight of the other costs a tenth.
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local candidates = require "resty.weir.candidates"
local choose = require "resty.weir.choose"

local huge = math.huge
local load = candidates.load

local _M = { FAR = 10 }

local TIERS = 16
local FRESH_MS = 10 -- how old a look may be

local best = ffi.new("double[?]", TIERS)
local at = ffi.new("int32_t[?]", TIERS)

-- Is there a peer that hangs? Looks anew at all peers of the view every FRESH_MS and fills view.hung uint8[i]. By the costs of the shared class, which are
-- those of all requests together: a peer that takes ten times as long for some class, and is full of another, does not hang.
-- Only for views with a table, and only those with a bounded share or tiers need ask.
function _M.any(view, now)
    local hung = view.hung
    if not hung then
        hung = ffi.new("uint8_t[?]", view.n)
        view.hung, view.hung_at, view.hangs = hung, -huge, false
    end
    if now - view.hung_at <= FRESH_MS and now >= view.hung_at then
        return view.hangs
    end
    view.hung_at, view.hangs = now, false
    local n, slot, usable, admit, weight, peer = view.n, view.slot, view.usable, view.admit, view.weight, shm.peer
    local tier = view.tiers and view.tiers.tier
    local cost_at = choose.shared_cost_at
    candidates.read(view, candidates.all(n), now, false)
    for t = 0, TIERS - 1 do
        best[t], at[t] = huge, -1
    end
    for i = 0, n - 1 do
        local s = slot[i]
        if usable[i] == 1 and peer[s].aside_ms <= now and peer[s].trial_ms <= now then
            local t, c = tier and tier[i] or 0, cost_at(view, i) * weight[i]
            if c < best[t] then
                best[t], at[t] = c, i
            end
        end
    end
    for i = 0, n - 1 do
        local t = tier and tier[i] or 0
        local b = at[t]
        local hangs = usable[i] == 1 and b >= 0 and b ~= i and cost_at(view, i) * weight[i] >= _M.FAR * best[t]
            and (load[i] + 1) / weight[i] > (load[b] + 1) / (weight[b] * (admit[b] > 0 and admit[b] or 1))
        hung[i] = hangs and 1 or 0
        view.hangs = view.hangs or hangs
    end
    return view.hangs
end

return _M
