local ffi = require "ffi"
local stub = require "stub"
local cjson = require "cjson"
local shm = require "resty.weir.shm"
local slots = require "resty.weir.slots"
local pools = require "resty.weir.pools"
local pick = require "resty.weir.pick"
local sizes = require "resty.weir.sizes"
local progress = require "resty.weir.progress"

local UNIT = progress.UNIT
local dict = stub.dict()
assert(shm.attach(dict))
shm.head.nrows = 2
slots.init(dict)
pools.init(dict)

local f = assert(io.open("test/vectors/sizes.json"))
local vectors = cjson.decode(f:read("*a"))
f:close()

-- Base64 with the shell's tool: what NGINX has for it is not here.
local function decoded(text)
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    file:write(text)
    file:close()
    local p = assert(io.popen("base64 -d " .. name, "r"))
    local raw = p:read("*a")
    p:close()
    os.remove(name)
    return raw
end

local cost, told = decoded(vectors.cost), decoded(vectors.sizes)

local number = 0
local function publish(name, with, meta_number)
    local peers = {}
    for i, a in ipairs(vectors.peers) do peers[i] = { addr = a, slot = slots.of(name, a), usable = true, state = "up", admit = 1, weight = 1 } end
    number = number + 1
    local meta = cjson.encode({ peers = peers, classes = vectors.classes, grid = vectors.grid, settings = { spread = 0, explore = 0, control = 0 } })
    dict:safe_set("b:" .. name, pools.pack(meta, meta_number or number, cost, with))
    dict:incr("v:" .. name, 1, 0)
    shm.head.change = shm.head.change + 1
    return pools.get(name)
end

describe("a pool whose requests tell their size", function()
    it("has the progress, prices and picks of engine/decide, in each shared vector", function()
        local v = publish("a", told)
        assert.is_true(v.sized)
        local now = 5000
        for n, p in ipairs(vectors.picks) do
            local size = sizes.size(v, p.class, p.weight)
            for i = 0, v.n - 1 do
                local inflight, s, what = p.inflight[i + 1], v.slot[i], "pick " .. n .. ", peer " .. i
                shm.count[s].n, shm.count[shm.MAX_SLOTS + s].n = math.floor(inflight / 2), inflight - math.floor(inflight / 2)
                local w = p.held[i + 1] * UNIT
                shm.work[s], shm.work[shm.MAX_SLOTS + s] = math.floor(w / 3), w - math.floor(w / 3)
                shm.progress[s].done, shm.progress[s].done_ms = p.done[i + 1] * UNIT, now - p.since[i + 1]
                local left = progress.left(s, now, inflight, v.known[i])
                assert.is_near(p.left[i + 1], left / UNIT, 1e-9 * left, what)
                local price = sizes.price(v, p.class, i, inflight, left, size)
                assert.is_near(p.prices[i + 1], price, 1e-9 * price, what)
            end
            pick.reset_tried()
            pick.weigh(v, p.class, p.weight)
            local i = pick.pick(v, p.class, now, false, false)
            local load, found = pick.weighed(v, p.class, i)
            assert.equal(p.peer, i, "pick " .. n)
            assert.is_near(p.prices[i + 1], pick.choice.cost, 1e-9 * pick.choice.cost)
            assert.is_near(math.min(p.load, 1e6), load / UNIT, 1e-3)
            assert.is_near(p.left[i + 1], found, 1e-9 * found)

            local s, held = v.slot[i], p.inflight[i + 1]
            progress.put(0, s, now, held, load)
            assert.is_near(p.started * UNIT, shm.progress[s].done, 1e-6, "pick " .. n)
            progress.take_off(0, s, now + 7, held + 1, load)
            assert.is_near(p.ended, shm.progress[s].done / UNIT, 1e-3, "pick " .. n) -- its load was rounded
            assert.equal(p.held[i + 1] * UNIT, shm.held_work(s))
        end
    end)

    it("takes new numbers with the same peers, and becomes one without sizes and with them again", function()
        local v = publish("b", told, 700)
        local own = v.own[0]
        assert.is_false(v.simple)
        v.own[0] = -1
        assert.equal(v, publish("b", told, 700))
        assert.equal(own, v.own[0])
        v = publish("b", nil, 700)
        assert.is_nil(v.sized)
        assert.is_true(v.simple)
        v = publish("b", told, 700)
        assert.is_true(v.sized)
        assert.equal(own, v.own[0])
    end)

    it("stays as it was when the numbers are not as many as they should be", function()
        local v = publish("c", told, 800)
        assert.equal(v, publish("c", told:sub(1, -5), 801))
        assert.is_true(v.sized)
    end)

    it("tells all workers how fast a peer works and how much at a time", function()
        local v = publish("f", told)
        local rate = ffi.cast("const float *", told) + 2 * #v.classes * v.n + 2 * v.n
        for i = 0, v.n - 1 do
            local p = shm.progress[v.slot[i]]
            assert.equal(rate[i] * UNIT, p.rate)
            assert.equal(v.knee[i], p.knee)
            p.rate, p.knee = 0, 0
        end
        publish("f", told, number)
        assert.equal(rate[0] * UNIT, shm.progress[v.slot[0]].rate)
    end)

    it("picks the peer that has the least left of the same work, and says what the request found", function()
        local v = publish("g", told)
        for i = 0, v.n - 1 do -- peers that differ in nothing
            for c = 0, #v.classes - 1 do
                local at = c * v.n + i
                v.own[at], v.unit_load[at] = v.own[0], 1
                ffi.copy(v.cost + at * v.ng, v.cost, v.ng * 4)
            end
            v.mean[i], v.knee[i], v.known[i], v.follow[i] = 1, 1, 1, 0
            local s = v.slot[i]
            progress.tell(s, 0.01 * UNIT, 1)
            shm.count[s].n, shm.count[shm.MAX_SLOTS + s].n = 2, 1
            shm.work[s], shm.work[shm.MAX_SLOTS + s] = 20 * UNIT, 10 * UNIT
            shm.progress[s].done, shm.progress[s].done_ms = 0, 1000
        end
        shm.progress[v.slot[2]].done = 5 * UNIT
        pick.reset_tried()
        pick.weigh(v, 0, 0)
        assert.equal(2, pick.pick(v, 0, 1100, false, false))
        local load, found = pick.weighed(v, 0, 2)
        assert.equal(UNIT, load)
        assert.is_near(30 - 5 - 1, found, 1e-9)
        shm.progress[v.slot[2]].done = 9.9 * UNIT -- overdue by then
        pick.reset_tried()
        assert.is_not.equal(2, pick.pick(v, 0, 3500, false, false))
    end)

    it("picks a peer of the table though every number of it is none", function()
        for _, wrong in ipairs({ 0 / 0, 1 / 0, -1 / 0, -1, 0 }) do
            local numbers = ffi.new("float[?]", #told / 4)
            for i = 0, #told / 4 - 1 do numbers[i] = wrong end
            local v = publish("h", ffi.string(numbers, #told))
            for i = 0, v.n - 1 do
                local s = v.slot[i]
                shm.count[s].n, shm.work[s], shm.progress[s].done = 3, 5 * UNIT, 0
            end
            for k = 0, 40 do
                pick.reset_tried()
                pick.weigh(v, k % 3, k)
                local i = pick.pick(v, k % 3, 1000 + k, false, false)
                assert.is_true(i >= 0 and i < v.n)
                assert.is_true(pick.choice.cost >= 0 and pick.choice.cost < 1e12)
                local load, found = pick.weighed(v, k % 3, i)
                assert.is_true(load >= 0 and found >= 0 and found < 1e6)
            end
        end
    end)

    it("lets only requests of up to the usual size explore", function()
        local v = publish("e", told)
        v.explore = 1
        for _, weight in ipairs({ 0, v.hint[1], 2 * v.hint[1] }) do
            pick.reset_tried()
            pick.weigh(v, 1, weight)
            pick.pick(v, 1, 1000, false, false)
            assert.equal(weight <= v.hint[1] and pick.EXPLORED or 0, pick.choice.flags, "weight " .. weight)
        end
    end)

    it("has loads in whole units, so that what is added and taken off comes to nothing", function()
        local v = publish("d", told)
        local sum, loads = 0, {}
        for i = 1, 20000 do
            loads[i] = sizes.load(v, i % 3, i % 4, math.random() * 10 ^ math.random(-3, 3))
            sum = sum + loads[i]
        end
        for i = 20000, 1, -1 do
            assert.equal(0, loads[i] % 1)
            sum = sum - loads[i]
        end
        assert.equal(0, sum)
        assert.equal(1e6 * UNIT, sizes.load(v, 0, 0, 1e300))
    end)
end)
