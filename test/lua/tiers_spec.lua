local stub = require "stub"
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local pick = require "resty.weir.pick"
local pools = require "resty.weir.pools"
local slots = require "resty.weir.slots"
local evidence = require "resty.weir.evidence"
local outcome = require "resty.weir.outcome"
local random = require "resty.weir.random"

local shared = stub.dict()
assert(shm.attach(shared))
slots.init(shared)
pools.init(shared)
evidence.init(shared)

-- A pool as told by the engine, every cost the same: states = {"up", "standby", ...}, tiers of the same length.
local function view(states, tiers, extra)
    local peers = {}
    for i, s in ipairs(states) do
        local addr = "10.1.0." .. i .. ":80"
        peers[i] = { addr = addr, slot = slots.of("tiers", addr), state = s, usable = s == "up", admit = 1, weight = 1, tier = tiers[i] }
        shm.forget(peers[i].slot)
        shm.count[peers[i].slot].n = 0
    end
    for k, x in pairs(extra or {}) do
        for i, y in pairs(x) do peers[i][k] = y end
    end
    local v = pools.view({ classes = { "*" }, grid = { 0, 1, 2 }, peers = peers, settings = { explore = 0, control = 0, spread = 0.1 } })
    v.name, v.cost = "tiers", ffi.new("float[?]", #states * 3, 10)
    for i = 0, #states * 3 - 1 do v.cost[i] = 10 end
    return v
end

local function shares(v, times, now, local_rule)
    local n = {}
    for i = 0, v.n - 1 do n[i] = 0 end
    for _ = 1, times do
        pick.reset_tried()
        local i = pick.pick(v, 0, now or 1000, local_rule)
        n[i] = n[i] + 1 / times
    end
    return n
end

local function refuse(v, i, now)
    return evidence.failure(v, v.slot[i], outcome.REFUSED, now, now)
end

describe("tiers", function()
    before_each(function()
        random.seed(99)
        pick.reset_tried()
    end)

    it("cost a pool of primaries alone nothing: there is nothing to ask", function()
        assert.is_nil(view({ "up", "up" }, { 0, 0 }).tiers)
        assert.is_true(view({ "up", "up", "standby" }, { 0, 0, 1 }).simple)
    end)

    it("keep backups out while the primaries suffice, for every rule", function()
        local v = view({ "up", "up", "standby" }, { 0, 0, 1 })
        for _, rule in ipairs({ false, true }) do
            local s = shares(v, 2000, 1000, rule)
            assert.equal(0, s[2])
            assert.is_near(0.5, s[0], 0.05)
        end
        v.control, v.simple = 1, false
        assert.equal(0, shares(v, 2000)[2])
    end)

    it("let backups take part at once when primaries are set aside here, as the engine will say later", function()
        local v = view({ "up", "up", "up", "up", "standby", "standby" }, { 0, 0, 0, 0, 1, 1 })
        -- 2 of 4 left: the backups may have 1 - 0.5/0.7 = 2/7; in those requests two of four equal candidates are backups
        assert.is_true(refuse(v, 0, 1000))
        assert.equal(0, shares(v, 2000, 1100)[4]) -- 3/4 is enough
        assert.is_true(refuse(v, 1, 1000))
        local s = shares(v, 40000, 1200)
        assert.is_near(1 / 7, s[4] + s[5], 0.01)
        assert.is_true(refuse(v, 2, 1000))
        local more = shares(v, 40000, 1300)
        assert.is_true(more[4] + more[5] > s[4] + s[5])
        assert.is_true(refuse(v, 3, 1000))
        local all = shares(v, 2000, 1400)
        assert.is_near(1, all[4] + all[5], 1e-6)
        assert.is_near(0.5, all[4], 0.06)
    end)

    it("set the last primary aside when a backup is left, and the last backup never", function()
        local v = view({ "up", "standby" }, { 0, 1 })
        assert.is_true(refuse(v, 0, 1000))
        assert.equal(1, pick.pick(v, 0, 1000, false))
        assert.equal(0, pick.choice.flags)
        assert.is_false(refuse(v, 1, 1000))
    end)

    it("let backups take part when a primary hangs, as what the others are admitted to has it", function()
        local v = view({ "up", "up", "standby" }, { 0, 0, 1 }, { admit = { 1, 0.35 } })
        for g = 0, 2 do v.cost[g] = 1000 end
        shm.count[v.slot[0]].n = 20
        -- the primaries carry 0.35 / 1.4: the backup may have 3/4. Where both may be picked, or neither by its share, they are equals
        local s = shares(v, 20000)
        assert.equal(0, s[0])
        assert.is_near(0.35 / 2 + 0.4 + 0.25 / 2, s[2], 0.02)
        shm.count[v.slot[0]].n = 0
        v.hung, v.tiers.at = nil, -1
        assert.equal(0, shares(v, 2000)[2])
    end)

    it("send a retry to a backup when the request has been to every primary", function()
        local v = view({ "up", "up", "standby" }, { 0, 0, 1 })
        pick.add_tried(v.slot[0])
        pick.add_tried(v.slot[1])
        assert.is_true(pick.another(v, 1000, v.slot[1]))
        assert.equal(2, pick.pick(v, 0, 1000, false))
        assert.equal(0, pick.choice.flags)
    end)

    it("take the lowest tier that has a peer", function()
        local v = view({ "down", "standby", "standby" }, { 0, 2, 1 })
        assert.equal(2, pick.pick(v, 0, 1000, false))
        assert.equal(2, pick.pick(v, 0, 1000, true))
        assert.is_true(refuse(v, 2, 1000))
        assert.equal(1, pick.pick(v, 0, 1000, false))
    end)

    it("try a primary again when its time aside is over, one request at a time", function()
        local v = view({ "up", "standby" }, { 0, 1 })
        refuse(v, 0, 1000)
        local back = shm.peer[v.slot[0]].aside_ms + 1
        assert.equal(0, pick.pick(v, 0, back, false))
        assert.is_true(pick.choice.trial)
        evidence.trial(v.slot[0], back)
        assert.equal(1, pick.pick(v, 0, back + 1, false))
        evidence.success(v.slot[0], back)
        assert.equal(0, pick.pick(v, 0, back + 20, false))
    end)

    it("bound a backup that the engine admits to a part", function()
        local v = view({ "up", "up", "down", "down", "up", "up" }, { 0, 0, 0, 0, 1, 1 }, { admit = { [5] = 0.286, [6] = 0.286 } })
        local s = shares(v, 40000)
        assert.is_near(1 / 7, s[4] + s[5], 0.01)
    end)

    it("are read from static peers, whose backups stand by without an engine", function()
        local v = pools.get("static_tiers", "10.2.0.1:80, 10.2.0.2:80 backup, 10.2.0.3:80 weight=2 tier=2")
        assert.equal("standby", v.state[1])
        assert.equal(2, v.tiers.tier[2])
        assert.equal(0, pick.pick(v, 0, 1000, true))
        assert.is_true(refuse(v, 0, 1000))
        assert.equal(1, pick.pick(v, 0, 1001, true))
        assert.equal("up", pools.get("backups_only", "10.2.0.4:80 backup").state[0])
        for _, bad in ipairs({ "backup", "tier=1", "10.0.0.1:80 tier=16", "10.0.0.1:80 tier=x", "10.0.0.1:80 tier=-1" }) do
            local list, err = pools.parse_static(bad)
            assert.is_nil(list[1] and list[1].tier)
            assert.truthy(err:find("backup, or tier=0 to tier=15"))
        end
    end)

    it("leave the weight of a peer in another zone as told, and take it for a weaker one where there are no costs", function()
        local v = view({ "up", "up" }, { 0, 0 }, { away = { [2] = 0.5 } })
        assert.equal(1, v.told_weight[1])
        assert.is_near(1, shares(v, 500, 1000, true)[0], 1e-6)
        shm.count[v.slot[0]].n = 4
        assert.is_near(1, shares(v, 500, 1000, true)[1], 1e-6)
    end)
end)
