local stub = require "stub"
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local pick = require "resty.weir.pick"
local pools = require "resty.weir.pools"
local slots = require "resty.weir.slots"
local random = require "resty.weir.random"

local shared = stub.dict()
assert(shm.attach(shared))
slots.init(shared)
pools.init(shared)

-- Reads no variables here: those need NGINX.
package.loaded["resty.weir.vars"] = package.loaded["resty.weir.vars"] or {
    named = function(name) return name end, read = function() return nil, 0 end, same = function() return true end,
}
local split = require "resty.weir.split"

local CONFINED, BY_HEADER = pick.CONFINED, pick.BY_HEADER

-- A pool of n peers, the last m of them in the group "canary"; costs by position, extra settings of the split and of peers.
local function view(n, m, cost, told, change)
    local peers = {}
    for i = 1, n do
        local addr = "10.7." .. math.floor(i / 250) .. "." .. i % 250 .. ":80"
        peers[i] = { addr = addr, slot = slots.of("split", addr), state = "up", usable = true, admit = 1, weight = 1, group = i > n - m and "canary" or nil }
        shm.forget(peers[i].slot)
        shm.count[peers[i].slot].n = 0
    end
    if change then change(peers) end
    local v = pools.view({ classes = { "*" }, grid = { 0, 1, 2 }, peers = peers, settings = { explore = 0, control = 0, spread = 0.1 } })
    v.name, v.cost = "split", ffi.new("float[?]", n * 3)
    for i = 0, n * 3 - 1 do v.cost[i] = cost and cost[math.floor(i / 3) + 1] or 10 end
    local s = { group = "canary", share = 0.1, fallback = true }
    for k, x in pairs(told or {}) do s[k] = x end
    v.split = split.prepare(v, s, peers)
    v.simple = v.simple and not v.split
    return v
end

-- A request that makes its n-th attempt, the one before on a slot.
local function request(slot)
    return { n = slot and 1 or 0, pass = 0, attempt = { [0] = { slot = slot } } }
end

local function send(v, times, local_rule)
    local inside, flags = 0, 0
    for _ = 1, times do
        pick.reset_tried()
        split.decide(v, nil, request())
        local i = pick.pick(v, 0, 1000, local_rule)
        inside = inside + v.split.inside[i]
        flags = pick.choice.flags
    end
    return inside / times, flags
end

describe("a split", function()
    before_each(function()
        random.seed(4711)
        pick.reset_tried()
    end)

    it("costs a pool without one nothing, and none is made where a side has nobody", function()
        assert.is_nil(view(3, 0).split)
        assert.is_true(view(3, 0).simple)
        assert.is_nil(view(3, 3).split)
        assert.is_false(view(3, 1).simple)
        assert.is_truthy(view(3, 0, nil, { fallback = false }).split)
    end)

    it("keeps its share whatever the costs, under every rule", function()
        for _, cost in ipairs { { 10, 10, 1000 }, { 1000, 1000, 1 } } do
            local v = view(3, 1, cost)
            assert.is_near(0.1, send(v, 20000), 0.01)
            local share, flags = send(v, 20000, true)
            assert.is_near(0.1, share, 0.01)
            assert.equal(CONFINED + pick.LOCAL, flags)
            v.control = 1
            share, flags = send(v, 20000)
            assert.is_near(0.1, share, 0.01)
            assert.equal(CONFINED + pick.CONTROL, flags)
        end
    end)

    it("states the propensity among the peers of the side", function()
        local v = view(4, 2, nil, { share = 1 })
        for _ = 1, 50 do
            send(v, 1)
            assert.is_near(0.5, pick.choice.propensity, 1e-9)
        end
        v = view(4, 1, nil, { share = 0 })
        send(v, 1)
        assert.is_near(1 / 3, pick.choice.propensity, 1e-6)
    end)

    it("keeps its share while the group's only peer warms up", function()
        local v = view(3, 1, nil, nil, function(peers) peers[3].admit = 0.01 end)
        assert.is_near(0.1, send(v, 20000), 0.01)
    end)

    it("falls back to the other side when a side has nobody usable, unless told not to", function()
        local function down(peers) peers[3].usable, peers[3].state = false, "down" end
        assert.equal(0, (send(view(3, 1, nil, { share = 1 }, down), 200)))
        assert.equal(1, (send(view(3, 1, nil, { share = 1, fallback = false }, down), 200))) -- its last resort
        local function rest_down(peers)
            for i = 1, 2 do peers[i].usable, peers[i].state = false, "down" end
        end
        assert.equal(1, (send(view(3, 1, nil, { share = 0 }, rest_down), 200)))
        assert.equal(0, (send(view(3, 1, nil, { share = 0, fallback = false }, rest_down), 200)))
    end)

    it("retries in the rest, and without fallback on its side", function()
        for _, fallback in ipairs { true, false } do
            local v = view(5, 2, { 100, 100, 100, 1, 1 }, { share = 1, fallback = fallback })
            for _ = 1, 100 do
                pick.reset_tried()
                pick.add_tried(v.slot[4])
                split.decide(v, nil, request(v.slot[4]))
                assert.equal(fallback and 0 or 1, v.split.inside[pick.pick(v, 0, 1000, false)])
                assert.is_true(pick.another(v, 1000, v.slot[4]))
            end
            pick.add_tried(v.slot[3])
            assert.equal(fallback, pick.another(v, 1000, v.slot[3]))
        end
    end)

    it("finds a small group in a large pool", function()
        local v = view(600, 2)
        assert.is_near(0.1, send(v, 5000), 0.02)
        v = view(900, 400)
        assert.is_near(0.1, send(v, 5000), 0.02)
    end)

    it("by a key is the same for the key at every share, and keys in the group remain as it grows", function()
        local n = 0
        for i = 1, 20000 do
            local at = split.place(require("resty.weir.rendezvous").hash("client " .. i))
            assert.is_true(at >= 0 and at < 1)
            n = n + (at < 0.25 and 1 or 0)
        end
        assert.is_near(0.25, n / 20000, 0.015)
    end)

    it("keeps a bound client where it is unless a header, a key or a share of all or nothing says otherwise", function()
        local v = view(3, 1)
        for _, x in ipairs { { 0, false, true, true }, { 0, true, true, false }, { 1, true, false, true } } do
            pick.on_side(x[1], 0, x[2])
            assert.equal(x[3], pick.may_stay(v, 0, 1000))
            assert.equal(x[4], pick.may_stay(v, 2, 1000))
        end
    end)

    it("marks what a header chose", function()
        local v = view(3, 1)
        pick.on_side(pick.GROUP, BY_HEADER, true)
        assert.equal(2, pick.pick(v, 0, 1000, false))
        assert.equal(CONFINED + BY_HEADER, pick.choice.flags)
    end)
end)
