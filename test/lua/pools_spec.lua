local stub = require "stub"
local ffi = require "ffi"
local cjson = require "cjson"
local shm = require "resty.weir.shm"
local slots = require "resty.weir.slots"
local pools = require "resty.weir.pools"
local pick = require "resty.weir.pick"

local dict = stub.dict()
assert(shm.attach(dict))
slots.init(dict)
pools.init(dict)

local number = 0
local function publish(name, addrs, cost, meta_number)
    local peers = {}
    for i, a in ipairs(addrs) do peers[i] = { addr = a, slot = slots.of(name, a), usable = true, state = "up", admit = 1, weight = 1 } end
    number = number + 1
    local n = #addrs * 3
    local floats = ffi.new("float[?]", n)
    for i = 0, n - 1 do floats[i] = cost end
    local meta = cjson.encode({ peers = peers, classes = { "*" }, grid = { 0, 1, 2 }, settings = { policy = "analytic" } })
    dict:safe_set("b:" .. name, pools.pack(meta, meta_number or number, ffi.string(floats, n * 4)))
    dict:incr("v:" .. name, 1, 0)
    shm.head.change = shm.head.change + 1
end

describe("a worker's view of a pool", function()
    it("has the static peers until the engine has named any, and again when it drops the pool", function()
        local v = pools.get("a", "127.0.0.1:1 weight=3, [::1]:9001; unix:/run/x.sock")
        assert.equal(3, v.n)
        assert.equal(3, v.weight[0])
        assert.equal("[::1]", v.host[1])
        assert.equal(9001, v.port[1])
        assert.is_true(v.static)
        publish("a", { "10.0.0.1:80" }, 7)
        v = pools.get("a", "127.0.0.1:1 weight=3, [::1]:9001; unix:/run/x.sock")
        assert.equal(1, v.n)
        assert.equal("analytic", v.policy)
        dict:delete("v:a") dict:delete("b:a")
        shm.head.change = shm.head.change + 1
        assert.equal(3, pools.get("a").n)
    end)

    it("has the static peers when the engine drops the pool, also where the status page was the first to ask for it", function()
        publish("late", { "10.0.0.1:80" }, 7)
        assert.equal(1, pools.get("late").n)
        assert.equal(1, pools.get("late", "127.0.0.1:1, 127.0.0.1:2").n)
        dict:delete("v:late") dict:delete("b:late")
        shm.head.change = shm.head.change + 1
        assert.equal(2, pools.get("late", "127.0.0.1:1, 127.0.0.1:2").n)
    end)

    it("knows, by slot, which peers the engine says the pool cannot do without, and has no set where it can do without any one", function()
        local a, b = slots.of("needs", "10.0.0.1:80"), slots.of("needs", "10.0.0.2:80")
        local function view(needed)
            return pools.view({
                peers = { { addr = "10.0.0.1:80", slot = a }, { addr = "10.0.0.2:80", slot = b, needed = needed } }, classes = { "*" }, grid = { 0, 1 },
            })
        end
        assert.same({ [b] = true }, view(true).needed)
        assert.is_nil(view(nil).needed)
    end)

    it("is one view, read once, for two upstreams with different static peers of their own", function()
        publish("two", { "10.0.0.1:80" }, 7)
        local v = pools.get("two", "127.0.0.1:1")
        v.tokens = 0
        assert.equal(v, pools.get("two", "127.0.0.1:2"))
        assert.equal(v, pools.get("two", "127.0.0.1:1"))
        assert.equal(0, v.tokens)
    end)

    it("gives each of two upstreams its own static peers, and both one budget of retries, until the engine has named any", function()
        local one = pools.get("alone", "127.0.0.1:1")
        one.tokens = 0
        local two = pools.get("alone", "127.0.0.1:2 127.0.0.1:3")
        assert.equal(1, one.n)
        assert.equal(2, two.n)
        assert.equal(0, two.tokens)
        assert.equal(one, pools.get("alone", "127.0.0.1:1"))
        publish("alone", { "10.0.0.1:80" }, 7)
        assert.equal("10.0.0.1:80", pools.get("alone", "127.0.0.1:2 127.0.0.1:3").addr[0])
    end)

    it("keeps slot, and so counts and evidence, of a peer that moves in the list", function()
        publish("b", { "10.0.0.1:80", "10.0.0.2:80" }, 1)
        local before = pools.get("b").slot[1]
        publish("b", { "10.0.0.2:80", "10.0.0.3:80", "10.0.0.1:80" }, 1)
        assert.equal(before, pools.get("b").slot[0])
    end)

    it("takes new costs without reading the rest again", function()
        publish("c", { "10.0.0.1:80" }, 1, 500)
        local v = pools.get("c")
        publish("c", { "10.0.0.1:80" }, 2, 500)
        assert.equal(v, pools.get("c"))
        assert.equal(2, v.cost[0])
    end)

    it("stays as it was when a blob is not what it says", function()
        publish("d", { "10.0.0.1:80" }, 1)
        local v = pools.get("d")
        local meta = '{"peers":[],"classes":["*"],"grid":[0,1],"settings":{}}'
        dict:safe_set("b:d", pools.pack(meta, 999, ("x"):rep(8)))
        dict:incr("v:d", 1, 0)
        shm.head.change = shm.head.change + 1
        assert.equal(v, pools.get("d"))
        assert.equal(1, pools.get("d").n)
    end)

    it("spells static peers as NGINX and the engine do, so that what becomes of their attempts is found", function()
        local list, err = pools.parse_static("[FD00:0:0::0:1]:080 weight=2, [fd00::1]:80 weight=3, [0::ffff:10.0.0.1]:81, 10.0.0.1:0082, unix:/run/A.sock, "
            .. "unix:/run//././A.sock weight=4")
        assert.is_nil(err)
        local spelled = {}
        for i, peer in ipairs(list) do
            spelled[i] = peer.addr .. " " .. peer.weight
        end
        assert.same({ "[fd00::1]:80 3", "[::ffff:10.0.0.1]:81 1", "10.0.0.1:82 1", "unix:/run/A.sock 4" }, spelled)
    end)

    it("refuses static peers that make no sense, says which, and uses the others", function()
        for _, bad in ipairs({ "10.0.0.1", "::1:9001", "10.0.0.1:99999", "10.0.0.1:0", "localhost:80", "999.1.1.1:80", "10.0.0.01:80", "10.0.0:80",
            "[::1::2]:80", "[fe80::1%eth0]:80", "[10.0.0.1]:80", "unix:", "caf\195\169:80" }) do
            local list, err = pools.parse_static("10.0.0.1:80 weight=2, " .. bad .. " weight=3 backup, [::1]:81")
            assert.is_truthy(err:find(bad, 1, true), err)
            assert.same({ { addr = "10.0.0.1:80", weight = 2 }, { addr = "[::1]:81", weight = 1 } }, list)
        end
        for _, bad in ipairs({ "0", "x", "-1", "nan", "inf", "1e308", "1e-9" }) do
            local list, err = pools.parse_static("10.0.0.1:80 weight=" .. bad .. " backup")
            assert.is_truthy(err:find("weight=" .. bad, 1, true), err)
            assert.same({ { addr = "10.0.0.1:80", weight = 1, tier = 1 } }, list)
        end
        assert.same({}, (pools.parse_static("weight=2")))
        local list, err = pools.parse_static("10.0.0.1:80, unix:/run/a.sock, 10.0.0.1:80 weight=3")
        assert.is_nil(err)
        assert.same({ { addr = "10.0.0.1:80", weight = 3 }, { addr = "unix:/run/a.sock", weight = 1 } }, list)
    end)

    it("takes no more static peers than the picks have room for", function()
        local many = {}
        for i = 0, 4999 do
            many[i + 1] = ("10.1.%d.%d:80 weight=2"):format(i / 250, i % 250)
        end
        local list, err = pools.parse_static(table.concat(many, ", ") .. ", 10.1.0.0:80 weight=3")
        assert.equal(pick.MAX_PEERS, #list)
        assert.is_truthy(err:find("10.1.16.96:80", 1, true), err)
        assert.same({ 3, 2 }, { list[1].weight, list[#list].weight })
    end)

    it("has the address of the peer that has a slot now, when the worker met it with one that is gone", function()
        publish("reused", { "10.0.0.1:80", "10.0.0.2:80" }, 1)
        local slot = pools.get("reused").slot[1]
        local elsewhere = dict:get("p:reused|10.0.0.2:80") -- as another worker, the elected one, collects and hands out
        assert.equal(slot, elsewhere)
        dict:delete("p:reused|10.0.0.2:80")
        dict:safe_set("p:reused|10.0.0.9:81", slot)
        dict:safe_set("s:" .. slot, "p:reused|10.0.0.9:81")
        number = number + 1
        local meta = cjson.encode({ peers = { { addr = "10.0.0.9:81", slot = slot } }, classes = { "*" }, grid = { 0, 1, 2 }, settings = {} })
        dict:safe_set("b:reused", pools.pack(meta, number, ("\0"):rep(12)))
        dict:incr("v:reused", 1, 0)
        shm.head.change = shm.head.change + 1
        local v = pools.get("reused")
        assert.equal("10.0.0.9", v.host[0])
        assert.equal(81, v.port[0])
        assert.equal("10.0.0.9:81", slots.info(slot).addr)
    end)

    it("finds in one reading of all slots, however many pools there are, the peers that a new engine no longer lists", function()
        for i = 1, 3 do slots.of("many" .. i, "10.0.0.1:80") slots.of("many" .. i, "10.0.0.2:80") end
        local reads, get = 0, dict.get
        dict.get = function(self, key)
            reads = reads + (key:find("^s:") and 1 or 0)
            return get(self, key)
        end
        local all = slots.by_pool()
        for i = 1, 3 do slots.keep_only("many" .. i, { ["10.0.0.2:80"] = true }, all["many" .. i], 100) end
        slots.keep_only("unheard of", {}, all["unheard of"], 100)
        dict.get = nil
        assert.equal(slots.count(), reads)
        for i = 1, 3 do
            assert.equal(100, dict:get("gone:" .. slots.of("many" .. i, "10.0.0.1:80")))
            assert.is_nil(dict:get("gone:" .. slots.of("many" .. i, "10.0.0.2:80")))
            slots.join("many" .. i, "10.0.0.1:80")
        end
    end)

    it("gives the slot of a peer back only when it is gone for good, and never with its old evidence", function()
        local slot = slots.of("e", "10.0.0.1:80")
        shm.peer[slot].fails = 9
        shm.count[slot].n = 1
        shm.head.nrows = 1
        slots.leave("e", "10.0.0.1:80", 100)
        slots.collect(120)
        assert.equal(slot, slots.of("e", "10.0.0.1:80"), "too early")
        slots.collect(200)
        assert.equal(slot, slots.of("e", "10.0.0.1:80"), "still holds a request")
        assert.equal(slot, slots.join("e", "10.0.0.1:80"))
        assert.equal(0, shm.peer[slot].fails)
        shm.count[slot].n = 0
        slots.leave("e", "10.0.0.1:80", 300)
        slots.collect(400)
        assert.is_nil(dict:get("p:e|10.0.0.1:80"))
        assert.equal(slot, slots.of("f", "10.9.9.9:80"), "free slots are used again")
        assert.equal("10.9.9.9:80", slots.info(slot).addr)
    end)
end)
