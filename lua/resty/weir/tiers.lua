-- Backups. Which tiers the engine wants used is in the peers' states (usable, standby) and admits; this is the same rule by what this
-- NGINX has seen itself, so that backups are there at once when primaries are set aside, and without an engine. engine/pool/tier.go has
-- the rule and where it is from: a tier can carry usable weight / (min_usable x its weight) of the traffic, and what the tiers before it
-- cannot carry is the most it gets.
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local random = require "resty.weir.random"

local rnd = random.float
local min, max = math.min, math.max

local _M = {}

local TIERS = 16
local FRESH_MS = 10 -- how old a reckoning may be; a peer that is gone is no candidate before that

local have = ffi.new("double[?]", TIERS)
local all = ffi.new("double[?]", TIERS)

-- For a view whose peers have tiers: view.tier int8[i], view.standby uint8[i] (healthy, not needed by the engine's word). nil when all
-- are primaries, and then nothing here is asked.
function _M.prepare(view, peers)
    view.tiers = nil
    for i, p in ipairs(peers) do
        if (p.tier or 0) > 0 then
            view.tiers = view.tiers or { at = -1,
                weight = ffi.new("double[?]", #peers), tier = ffi.new("int8_t[?]", #peers), lack = ffi.new("double[?]", TIERS) }
            view.tiers.tier[i - 1] = min(p.tier, TIERS - 1)
        end
    end
    for i = 1, view.tiers and #peers or 0 do
        view.tiers.weight[i - 1] = view.told_weight[i - 1] -- not that of the rules, which another zone makes less
    end
end

-- Static peers have no engine to say who stands by: all but those of the lowest tier.
function _M.stand_by(peers)
    local first = TIERS
    for _, p in ipairs(peers) do
        first = min(first, p.tier or 0)
    end
    for _, p in ipairs(peers) do
        if (p.tier or 0) > first then
            p.state, p.usable = "standby", false
        end
    end
end

-- Fills view.tiers.lack[t]: the share of the traffic that tiers before t cannot carry. What hangs (hung.lua) carries nothing, and beside it the
-- others as much as they are admitted to: the engine, which has reckoned that in for the backups it wants used, does not know of the hanging.
local function reckon(view, now)
    local t = view.tiers
    local tier, lack, usable, standby, slot, weight, peer = t.tier, t.lack, view.usable, view.standby, view.slot, t.weight, shm.peer
    local hung, admit = view.hangs and now - view.hung_at < 1000 and view.hung, view.admit -- affinity does not look anew
    ffi.fill(have, TIERS * 8)
    ffi.fill(all, TIERS * 8)
    for i = 0, view.n - 1 do
        local s, n = slot[i], tier[i]
        all[n] = all[n] + weight[i]
        if usable[i] + standby[i] > 0 and peer[s].aside_ms <= now and peer[s].trial_ms <= now then
            if not hung then
                have[n] = have[n] + weight[i]
            elseif hung[i] == 0 then
                have[n] = have[n] + weight[i] * (usable[i] == 1 and min(admit[i], 1) or 1)
            end
        end
    end
    local carried = 0
    for n = 0, TIERS - 1 do
        lack[n] = 1 - carried > 1e-6 and 1 - carried or 0
        if all[n] > 0 then
            carried = min(carried + min(have[n] / (view.tier_min_usable * all[n]), 1), 1)
        end
    end
    t.at = now
end

-- The candidates of a request among the positions order[0 .. m-1], into cand; returns how many. As candidates() in candidates.lua, which calls this.
-- again: the request has been to a peer; then none whose time aside is just over is one, see there. When no other is left there are the backups (fall).
function _M.candidates(view, order, m, now, heed_admit, cand, was_tried, again)
    local t = view.tiers
    if now - t.at > FRESH_MS or now < t.at then
        reckon(view, now)
    end
    local tier, lack, usable, standby, slot, admit, peer = t.tier, t.lack, view.usable, view.standby, view.slot, view.admit, shm.peer
    local hung = heed_admit and view.hangs and view.hung
    local draw = heed_admit and rnd() or 0
    local k = 0
    for j = 0, m - 1 do
        local i = order[j]
        local s = slot[i]
        -- the engine's word, or for a backup the need seen here, whichever lets it have more
        local share = usable[i] == 1 and (heed_admit and admit[i] or 1) or 0
        if tier[i] > 0 and (usable[i] == 1 or standby[i] == 1) then
            share = max(share, lack[tier[i]])
        end
        if hung and hung[i] == 1 then
            share = 0
        end
        if draw < share and peer[s].aside_ms <= now and peer[s].trial_ms <= now and not was_tried(s) and (not again or peer[s].aside_ms == 0) then
            cand[k] = i
            k = k + 1
        end
    end
    return k
end

-- The part of its full share that the backup at position i may take, as of the last candidates(); 1 when nothing else is left.
function _M.share(view, i)
    local t = view.tiers
    local share = max(view.usable[i] == 1 and view.admit[i] or 0, t.lack[t.tier[i]])
    return share > 0 and share or 1
end

-- Nobody that should be used is left: those that stand by, of the lowest tier that has one. Returns how many.
function _M.fall(view, order, m, now, cand, was_tried)
    view.tiers.at = -1 -- whoever comes next reckons anew
    local tier, standby, slot, peer = view.tiers.tier, view.standby, view.slot, shm.peer
    local k, lowest = 0, TIERS
    for j = 0, m - 1 do
        local i = order[j]
        local s = slot[i]
        if standby[i] == 1 and tier[i] <= lowest and peer[s].aside_ms <= now and peer[s].trial_ms <= now and not was_tried(s) then
            if tier[i] < lowest then
                k, lowest = 0, tier[i]
            end
            cand[k] = i
            k = k + 1
        end
    end
    return k
end

-- No usable peer is left, of no tier. Better a doubtful peer than none: every one that is not draining and not tried, then even draining ones.
function _M.last_resort(view, order, m, cand, was_tried)
    local slot, draining = view.slot, view.draining
    local k = 0
    for j = 0, m - 1 do
        local i = order[j]
        if draining[i] == 0 and not was_tried(slot[i]) then
            cand[k] = i
            k = k + 1
        end
    end
    if k == 0 then
        for j = 0, m - 1 do
            local i = order[j]
            if not was_tried(slot[i]) then
                cand[k] = i
                k = k + 1
            end
        end
    end
    return k
end

return _M
