local stub = require "stub"
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local pick = require "resty.weir.pick"
local random = require "resty.weir.random"
local shortcut = require("resty.weir.pools").shortcut

assert(shm.attach(stub.dict()))
shm.head.nrows = 2

local GRID = { 0, 1, 2, 4, 8 }

-- costs[i] = function(in-flight) of peer i
local function view(costs, extra)
    local n, ng = #costs, #GRID
    local v = { n = n, ng = ng, gmax = 8, past = 1 / 4, spread = 0, explore = 0, control = 0,
        slot = ffi.new("int32_t[?]", n), usable = ffi.new("uint8_t[?]", n, 1), draining = ffi.new("uint8_t[?]", n),
        admit = ffi.new("float[?]", n), weight = ffi.new("float[?]", n), grid = ffi.new("double[?]", ng, GRID),
        gi = ffi.new("uint16_t[9]", { 0, 1, 2, 2, 3, 3, 3, 3, 3 }), gf = ffi.new("float[9]", { 0, 0, 0, 0.5, 0, 0.25, 0.5, 0.75, 1 }),
        cost = ffi.new("float[?]", n * ng) }
    for i = 0, n - 1 do
        v.slot[i], v.usable[i], v.admit[i], v.weight[i] = i, 1, 1, 1
        for g = 0, ng - 1 do
            v.cost[i * ng + g] = costs[i + 1](GRID[g + 1])
        end
    end
    for k, x in pairs(extra or {}) do v[k] = x end
    return v
end

local function flat(c) return function() return c end end
local function linear(c) return function(l) return c * (l + 1) end end

local function inflight(...)
    for i, l in ipairs({ ... }) do
        -- split over two workers' rows: a pick must see the sum
        shm.count[i - 1].n = math.floor(l / 2)
        shm.count[shm.MAX_SLOTS + i - 1].n = l - math.floor(l / 2)
    end
end

local function shares(v, times, local_rule, row)
    local n = {}
    for _ = 1, times do
        pick.reset_tried()
        local i = pick.pick(v, row or 0, 1000, local_rule)
        n[i] = (n[i] or 0) + 1
    end
    for i = 0, v.n - 1 do n[i] = (n[i] or 0) / times end
    return n
end

describe("the picking rule", function()
    before_each(function()
        random.seed(12345)
        pick.reset_tried()
        for i = 0, 1100 do
            shm.forget(i)
            shm.count[i].n, shm.count[shm.MAX_SLOTS + i].n = 0, 0
        end
    end)

    it("takes the lowest cost at the live in-flight counts of all workers", function()
        local v = view({ linear(10), linear(12) })
        inflight(0, 0)
        assert.equal(0, pick.pick(v, 0, 0, false))
        inflight(3, 1)
        assert.equal(1, pick.pick(v, 0, 0, false))
        assert.equal(1, pick.choice.inflight)
        assert.is_near(24, pick.choice.cost, 1e-4)
    end)

    it("interpolates between grid points and goes on past the last", function()
        local v = view({ linear(10), flat(1e6) })
        inflight(3, 0)
        pick.pick(v, 0, 0, false)
        assert.is_near(40, pick.choice.cost, 1e-3)
        inflight(20, 0)
        pick.pick(v, 0, 0, false)
        assert.is_near(210, pick.choice.cost, 1e-3)
    end)

    it("uses the row of the class", function()
        local v = view({ flat(10), flat(20) })
        local two = ffi.new("float[?]", 2 * v.n * v.ng)
        ffi.copy(two, v.cost, v.n * v.ng * 4)
        for i = 0, v.n * v.ng - 1 do two[v.n * v.ng + i] = i < v.ng and 30 or 5 end
        v.cost = two
        assert.equal(0, pick.pick(v, 0, 0, false))
        assert.equal(1, pick.pick(v, 1, 0, false))
    end)

    it("does not herd on the one of ten equal peers that reads 1 ms lower (Kong#14961)", function()
        local costs = {}
        for i = 1, 10 do costs[i] = flat(i == 4 and 49 or 50) end
        local s = shares(view(costs, { spread = 0.1, explore = 0.01 }), 20000)
        for i = 0, 9 do
            assert.is_true(s[i] > 0.05 and s[i] < 0.25, "share of peer " .. i .. " is " .. s[i])
        end
    end)

    it("says with which probability it picked: the shares come out as told", function()
        local v = view({ flat(100), flat(103), flat(106), flat(150) }, { spread = 0.1, explore = 0.2 })
        local told, seen = {}, {}
        local times = 60000
        for _ = 1, times do
            pick.reset_tried()
            local i = pick.pick(v, 0, 0, false)
            told[i] = pick.choice.propensity
            seen[i] = (seen[i] or 0) + 1
        end
        local sum = 0
        for i = 0, 3 do
            assert.is_near(told[i], seen[i] / times, 0.01)
            sum = sum + told[i]
        end
        assert.is_near(1, sum, 1e-6)
        assert.is_near(0.05, told[3], 1e-6)
    end)

    it("takes the least in flight of all by the local rule, per weight, ties at random", function()
        local v = view({ flat(1), flat(1), flat(1), flat(1), flat(1) })
        inflight(1, 2, 3, 1, 1)
        v.weight[1], v.weight[2] = 2, 2 -- 3 / 2 and 4 / 2 against 2 / 1
        assert.equal(1, shares(v, 500, true)[1])
        assert.equal(1, pick.choice.propensity)
        inflight(1, 3, 3, 1, 1)
        local got = shares(v, 20000, true)
        for i = 0, 4 do
            assert.is_near(0.2, got[i], 0.02)
        end
        assert.is_near(0.2, pick.choice.propensity, 1e-9)
        assert.equal(pick.LOCAL, pick.choice.flags)
        inflight(0, 0, 0, 9, 9)
        v.usable[0], v.admit[1] = 0, 0.25 -- held back: the idle heavy peer gets that much at most
        shm.peer[2].aside_ms = 2000
        got = shares(v, 20000, true)
        assert.same({ 0, 0 }, { got[0], got[2] })
        assert.is_near(0.25, got[1], 0.02)
        assert.is_near(0.375, got[3], 0.02)
    end)

    it("says with which probability the control slice picked", function()
        local v = view({ flat(1), flat(1), flat(1) }, { control = 1 })
        inflight(0, 2, 2)
        local told, seen = {}, {}
        for _ = 1, 60000 do
            pick.reset_tried()
            local i = pick.pick(v, 0, 0, false)
            told[i] = pick.choice.propensity
            seen[i] = (seen[i] or 0) + 1
        end
        local sum = 0
        for i = 0, 2 do
            assert.is_near(told[i], (seen[i] or 0) / 60000, 0.01)
            sum = sum + told[i]
        end
        assert.is_near(1, sum, 1e-6)
    end)

    it("places the control slice by two random choices: the idle peer that the table keeps out of does not get it all", function()
        local v = view({ flat(100), flat(1), flat(1), flat(1), flat(1) }, { control = 1 })
        inflight(0, 2, 2, 2, 2)
        local got = shares(v, 4000)
        assert.is_near(0.4, got[0], 0.03) -- it is one of the two drawn in 8 of 20 pairs
        assert.equal(pick.CONTROL, pick.choice.flags)
    end)

    it("never picks an unusable, a set-aside or a tried peer while another is left", function()
        local v = view({ flat(1), flat(2), flat(3), flat(4) })
        v.usable[0] = 0
        shm.peer[1].aside_ms = 2000
        for _ = 1, 100 do
            pick.reset_tried()
            pick.add_tried(2)
            assert.equal(3, pick.pick(v, 0, 1000, false))
        end
    end)

    it("tries a peer again when its time aside is over, one request at a time", function()
        local v = view({ flat(1), flat(2) })
        shm.peer[0].aside_ms = 900
        assert.equal(0, pick.pick(v, 0, 1000, false))
        assert.is_true(pick.choice.trial)
        shm.peer[0].trial_ms = 2000 -- what the caller notes for that request
        assert.equal(1, pick.pick(v, 0, 1000, false))
        assert.equal(0, pick.pick(v, 0, 2001, false))
    end)

    it("uses doubtful peers when none is left, draining ones last, and says so", function()
        local v = view({ flat(1), flat(2), flat(3) })
        v.usable[0], v.usable[1], v.usable[2] = 0, 0, 0
        v.draining[2] = 1
        local s = shares(v, 1000)
        assert.is_true(s[0] > 0.3 and s[1] > 0.3)
        assert.equal(0, s[2])
        assert.equal(pick.PANIC, pick.choice.flags)
        pick.add_tried(0) pick.add_tried(1)
        assert.equal(2, pick.pick(v, 0, 1000, false))
        pick.add_tried(2)
        assert.equal(-1, pick.pick(v, 0, 1000, false))
    end)

    it("does not send to a peer that hangs what a bounded share leaves, as far as the other one holds its part of the requests at most", function()
        local v = view({ linear(40), linear(10), flat(1e6) }, { bounded = true })
        v.usable[2] = 0
        v.admit[1] = 0.25
        inflight(40, 4) -- costs 1640 and 50; by counts 41 against 5 / 0.25
        assert.equal(1, shares(v, 2000)[1])
        v.hung = nil
        inflight(15, 4) -- 12.8 times as dear, but 16 against 20: the share holds
        assert.is_near(0.25, shares(v, 20000)[1], 0.02)
        v.hung = nil
        inflight(40, 4)
        v.cost[0], v.cost[1], v.cost[2], v.cost[3], v.cost[4] = 100, 100, 100, 100, 100 -- not 10 times as dear
        assert.is_near(0.25, shares(v, 20000)[1], 0.02)
        v.hung, v.usable[1] = nil, 0
        assert.equal(1, shares(v, 100)[0]) -- nobody else is left
    end)

    it("does not take a peer for hanging that only some class finds ten times as dear", function()
        local v = view({ flat(40), flat(10) }, { bounded = true })
        local cost = ffi.new("float[?]", 2 * 2 * 5)
        for g = 0, 4 do
            cost[g], cost[5 + g], cost[10 + g], cost[15 + g] = 40, 10, 400, 10
        end
        v.cost, v.admit[1] = cost, 0.25
        inflight(40, 4)
        assert.is_near(0.25, shares(v, 20000, false, 1)[1], 0.02)
    end)

    it("does not take a peer for hanging that costs more by its weight", function()
        local v = view({ flat(10), flat(0.1) }, { bounded = true }) -- as fast as each other
        v.weight[1], v.admit[1] = 100, 0.25
        assert.is_near(0.25, shares(v, 20000)[1], 0.02)
        v = view({ linear(40), flat(0.5) }, { bounded = true })
        v.weight[1], v.admit[1] = 100, 0.25
        inflight(40, 400) -- costs 1640 and, without the weight, 50; by counts 41 against 401 / 25
        assert.equal(1, shares(v, 2000)[1])
    end)

    it("bounds the share of a peer by its admit, whatever its cost", function()
        local v = view({ flat(1), flat(100), flat(100) }, { explore = 0 })
        v.admit[0] = 0.1
        local s = shares(v, 20000)
        assert.is_true(s[0] > 0.08 and s[0] < 0.12, "share " .. s[0])
    end)

    it("serves when every peer left has a bounded share", function()
        local v = view({ flat(1), flat(1) })
        v.admit[0], v.admit[1] = 0.01, 0.01
        for _ = 1, 200 do
            pick.reset_tried()
            assert.is_true(pick.pick(v, 0, 0, false) >= 0)
            assert.equal(0, pick.choice.flags)
        end
    end)

    it("picks the same the short way and the long way, with the same random numbers", function()
        local function draw(from, to) return from + math.floor(random.float() * (to - from + 1)) end
        for case = 1, 2000 do
            random.seed(case)
            shm.head.nrows = draw(1, 2)
            local n = draw(2, 12)
            local costs, loads = {}, {}
            for i = 1, n do
                costs[i] = linear(draw(1, 3) * (1 + random.float()))
                loads[i] = draw(0, draw(0, 30))
            end
            local v = view(costs, { spread = draw(0, 2) * 0.1, explore = draw(0, 2) * 0.1, control = draw(0, 1) * 0.2 })
            inflight(unpack(loads))
            for i = 0, n - 1 do
                v.usable[i] = random.float() < 0.8 and 1 or 0
            end
            local aside = case % 10 == 0 and draw(0, n - 1) -- then the short way must give up
            if aside then shm.peer[aside].aside_ms = draw(500, 1500) end
            local short = shortcut(setmetatable({}, { __index = v }))
            if short.ncand > 1 then
                assert.is_true(short.simple)
                random.seed(case * 77)
                local i = pick.pick(v, 0, 1000, false)
                local c = pick.choice
                local cost, propensity, flags, held, trial = c.cost, c.propensity, c.flags, c.inflight, c.trial
                random.seed(case * 77)
                assert.equal(i, pick.pick(short, 0, 1000, false))
                assert.same({ cost, propensity, flags, held, trial }, { c.cost, c.propensity, c.flags, c.inflight, c.trial })
            end
            if aside then shm.forget(aside) end
        end
        shm.head.nrows = 2
    end)

    it("answers -1 for a pool without peers", function()
        assert.equal(-1, pick.pick({ n = 0 }, 0, 0, false))
    end)

    it("finds one of the best of 1000 peers by sampling", function()
        local costs = {}
        for i = 1, 1000 do costs[i] = linear(i) end
        local v = view(costs)
        local sum = 0
        for _ = 1, 400 do
            pick.reset_tried()
            sum = sum + pick.pick(v, 0, 0, false) + 1
        end
        -- the best of 128 of 1000 has rank 1001/129 = 7.8 on average
        assert.is_true(sum / 400 < 12, "mean rank " .. sum / 400)
    end)

    it("knows whether a retry could go anywhere", function()
        local v = view({ flat(1), flat(1) })
        pick.add_tried(0)
        assert.is_true(pick.another(v, 0))
        pick.add_tried(1)
        assert.is_false(pick.another(v, 0))
        pick.drop_tried()
        assert.same({ true, true }, { pick.another(v, 0) })
        v.usable[1] = 0
        assert.same({ true, false }, { pick.another(v, 0) }) -- to be tried where nobody is usable
    end)
end)
