local stub = require "stub"
local cjson = require "cjson"
local shm = require "resty.weir.shm"
local slots = require "resty.weir.slots"
local pools = require "resty.weir.pools"
local pick = require "resty.weir.pick"
local sizes = require "resty.weir.sizes"

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

local cost, work = decoded(vectors.cost), decoded(vectors.work)

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
    it("has the prices and picks of engine/decide, in each shared vector", function()
        local v = publish("a", work)
        assert.is_true(v.sized)
        for n, p in ipairs(vectors.picks) do
            for i = 0, v.n - 1 do
                local held, s = p.inflight[i + 1], v.slot[i]
                shm.count[s].n, shm.count[shm.MAX_SLOTS + s].n = math.floor(held / 2), held - math.floor(held / 2)
                local w = p.work[i + 1] * sizes.UNIT
                shm.work[s], shm.work[shm.MAX_SLOTS + s] = math.floor(w / 3), w - math.floor(w / 3)
                local price = sizes.price(v, p.class, i, held, w, sizes.size(v, p.class, p.weight))
                assert.is_near(p.prices[i + 1], price, 1e-5 * price, "pick " .. n .. ", peer " .. i)
            end
            pick.reset_tried()
            pick.weigh(v, p.class, p.weight)
            local i = pick.pick(v, p.class, 1000, false, false)
            local load, found = pick.weighed(v, p.class, i)
            assert.equal(p.peer, i, "pick " .. n)
            assert.is_near(p.prices[i + 1], pick.cost, 1e-5 * pick.cost)
            assert.is_near(math.min(p.load, 1e6), load / sizes.UNIT, 1e-3)
            assert.is_near(p.work[i + 1], found, 1e-9)
        end
    end)

    it("takes new numbers with the same peers, and becomes one without sizes and with them again", function()
        local v = publish("b", work, 700)
        local grow = v.grow[0]
        assert.is_false(v.simple)
        assert.equal(v, publish("b", work, 700))
        v = publish("b", nil, 700)
        assert.is_nil(v.sized)
        assert.is_true(v.simple)
        v = publish("b", work, 700)
        assert.is_true(v.sized)
        assert.equal(grow, v.grow[0])
    end)

    it("stays as it was when the numbers are not as many as they should be", function()
        local v = publish("c", work, 800)
        assert.equal(v, publish("c", work:sub(1, -5), 801))
        assert.is_true(v.sized)
    end)

    it("lets only requests of up to the usual size explore", function()
        local v = publish("e", work)
        v.explore = 1
        for _, weight in ipairs({ 0, v.hint[1], 2 * v.hint[1] }) do
            pick.reset_tried()
            pick.weigh(v, 1, weight)
            pick.pick(v, 1, 1000, false, false)
            assert.equal(weight <= v.hint[1] and pick.EXPLORED or 0, pick.flags, "weight " .. weight)
        end
    end)

    it("has loads in whole units, so that what is added and taken off comes to nothing", function()
        local v = publish("d", work)
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
        assert.equal(1e6 * sizes.UNIT, sizes.load(v, 0, 0, 1e300))
    end)
end)
