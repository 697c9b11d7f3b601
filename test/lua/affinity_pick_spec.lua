local stub = require "stub"
require "libcrypto"
local ffi = require "ffi"

-- NGINX's variables: a request is a table of them.
package.loaded["resty.weir.vars"] = package.loaded["resty.weir.vars"] or {
    named = function(name) return name end,
    read = function(r, name)
        local s = r[name] or ""
        return ffi.cast("const uint8_t *", s), #s
    end,
}

local shm = require "resty.weir.shm"
local pick = require "resty.weir.pick"
local pools = require "resty.weir.pools"
local slots = require "resty.weir.slots"
local cookie = require "resty.weir.cookie"
local affinity = require "resty.weir.affinity"
local random = require "resty.weir.random"

local shared = stub.dict()
assert(shm.attach(shared))
slots.init(shared)
pools.init(shared)

local STICKY = { by = "cookie", break_at = 3, cookie = { name = "sid", max_age = 0, path = "/", samesite = "Lax", secure = "auto", httponly = true } }
local HASH = { by = "hash", break_at = 3, key = "${host}/$arg_user", balance_factor = 1.25 }

-- peers: { {state=, ...}, ... }, all at one cost but for cost=.
local function view(told, peers)
    for i, p in ipairs(peers) do
        p.addr = "10.3.0." .. i .. ":80"
        p.slot = slots.of("affinity", p.addr)
        p.state = p.state or "up"
        p.usable, p.admit, p.weight = p.state == "up", p.admit or 1, p.weight or 1
        shm.forget(p.slot)
        shm.count[p.slot].n = 0
    end
    local v = pools.view({ classes = { "*" }, grid = { 0, 1, 2 }, peers = peers, settings = { explore = 0, control = 0, spread = 0.1 } })
    v.name, v.cost = "affinity", ffi.new("float[?]", #peers * 3)
    for i = 0, #peers * 3 - 1 do v.cost[i] = peers[math.floor(i / 3) + 1].cost or 10 end
    v.affinity = affinity.prepare(v, told)
    return v
end

local function of(v, i)
    return { cookie_sid = v.affinity.known.of[v.addr[i]].value }
end

local q = { bound = -2 }
local function go(v, r, local_rule)
    pick.reset_tried()
    return affinity.pick(v, r, q, 0, 1000, local_rule, false)
end

describe("affinity by cookie", function()
    before_each(function()
        random.seed(5)
        cookie.init(shared)
    end)

    it("keeps a client on its peer, and says that it was not drawn", function()
        local v = view(STICKY, { {}, {}, {} })
        for i = 0, 2 do
            for _, rule in ipairs({ false, true }) do
                assert.equal(i, go(v, of(v, i), rule))
                assert.equal(pick.BOUND, pick.choice.flags)
                assert.equal(1, pick.choice.propensity)
                assert.equal(v.slot[i], q.bound)
            end
        end
        go(v, {})
        assert.equal(0, pick.choice.flags)
        assert.equal(-1, q.bound)
    end)

    it("leaves a peer that is set aside, tried, unusable, or costs more than break_at times the cheapest", function()
        local v = view(STICKY, { { cost = 31 }, { cost = 10 }, { state = "ejected" }, { state = "draining" } })
        for _, i in ipairs({ 0, 2, 3 }) do
            assert.equal(1, go(v, of(v, i)))
            assert.equal(0, pick.choice.flags)
            assert.equal(v.slot[i], q.bound) -- what the client has: the answer of another peer gives another
        end
        v = view(STICKY, { { cost = 29 }, { cost = 10 } })
        assert.equal(0, go(v, of(v, 0)))
        shm.peer[v.slot[0]].aside_ms = 5000
        assert.equal(1, go(v, of(v, 0)))
        shm.forget(v.slot[0])
        pick.reset_tried()
        pick.add_tried(v.slot[0])
        assert.equal(1, affinity.pick(v, of(v, 0), q, 0, 1000, false, false))
    end)

    it("does not leave a peer for what it costs more by its weight", function()
        local v = view(STICKY, { { cost = 10 }, { cost = 1, weight = 10 } }) -- as fast as each other
        assert.equal(0, go(v, of(v, 0)))
        assert.equal(10, pick.choice.cost)
        v = view(STICKY, { { cost = 31 }, { cost = 1, weight = 10 } })
        assert.equal(1, go(v, of(v, 0)))
        v = view(STICKY, { { cost = 10 }, { cost = 3.1, weight = 10 } }) -- the heavy one is the dear one
        assert.equal(1, go(v, of(v, 1)))
        assert.equal(pick.BOUND, pick.choice.flags)
    end)

    it("does not leave for the cost where there is no table, or break_at is 0", function()
        local v = view(STICKY, { { cost = 90 }, {} })
        assert.equal(0, go(v, of(v, 0), true))
        local never = { by = "cookie", break_at = 0, cookie = STICKY.cookie }
        v = view(never, { { cost = 9000 }, {} })
        assert.equal(0, go(v, of(v, 0)))
    end)

    it("stays on a drained peer, or a backup that stands by again, as long as the engine says", function()
        local backup, kept = { state = "standby", tier = 1 }, { state = "standby", tier = 1, keeps = true }
        local v = view(STICKY, { { state = "draining", keeps = true }, {}, {}, {}, kept, backup })
        assert.equal(0, go(v, of(v, 0)))
        assert.equal(4, go(v, of(v, 4)))
        for _ = 1, 50 do
            for _, r in ipairs({ {}, of(v, 5) }) do
                local i = go(v, r)
                assert.is_true(i >= 1 and i <= 3)
            end
        end
    end)
end)

describe("affinity by hash", function()
    before_each(function() random.seed(6) end)

    local function users(v, n, local_rule)
        local at, count = {}, {}
        for i = 0, v.n - 1 do count[i] = 0 end
        for u = 1, n do
            local i = go(v, { host = "h", arg_user = "u" .. u }, local_rule)
            at[u] = i
            count[i] = count[i] + 1
        end
        return at, count
    end

    it("reads texts and variables, and does without when the variables are empty", function()
        local parts = affinity.parts_of("a$x-${y}$z")
        assert.equal(5, #parts)
        assert.equal("x", parts[2].variable)
        assert.equal(1, parts[3].len)
        assert.equal("z", parts[5].variable)
        local v = view(HASH, { {}, {} })
        go(v, {})
        assert.equal(0, pick.choice.flags)
        go(v, { arg_user = "u" })
        assert.equal(pick.BOUND, pick.choice.flags)
    end)

    it("is the same with a table and without", function()
        local v = view(HASH, { {}, {}, {} })
        assert.same((users(v, 200, false)), (users(v, 200, true)))
    end)

    it("gives a peer in slow start its keys little by little", function()
        local peers = { {}, {}, {}, {} }
        local before = users(view(HASH, peers), 1000)
        local had
        for _, part in ipairs({ 0.1, 0.4, 0.7, 1 }) do
            peers[4].admit = part < 1 and part / 4 or 1
            local at, count = users(view(HASH, peers), 1000)
            assert.is_true(count[3] <= 1000 * (part * 0.25 + 0.1), part .. ": " .. count[3])
            for u, i in ipairs(had or {}) do
                if i == 3 then assert.equal(3, at[u]) end -- a key it was given it keeps
            end
            had = at
        end
        assert.same(before, had)
    end)

    it("gives backups that take part no more than their part, and nothing while they stand by", function()
        local _, none = users(view(HASH, { {}, {}, { state = "standby", tier = 1 } }), 500)
        assert.equal(0, none[2])
        local _, some = users(view(HASH, { {}, { state = "down" }, { tier = 1, admit = 0.286 } }), 2000)
        assert.is_near(2000 * 0.286 / 1.286, some[2], 120)
        local _, all = users(view(HASH, { { state = "down" }, { state = "standby", tier = 1 } }), 100)
        assert.equal(100, all[1])
    end)

    it("gives a peer of little weight its part of the keys", function()
        local _, count = users(view(HASH, { { cost = 10 }, { cost = 2, weight = 5 } }), 3000)
        assert.is_near(500, count[0], 80)
        local v = view(HASH, { { cost = 10 }, { cost = 2, weight = 5 } })
        for u = 1, 50 do
            local i = go(v, { host = "h", arg_user = "u" .. u })
            assert.equal(i == 0 and 10 or 2, pick.choice.cost)
        end
    end)

    it("leaves a dear peer for the key's next, the same one each time", function()
        local peers = { {}, {}, {} }
        local before = users(view(HASH, peers), 300)
        peers[2].cost = 40
        local after = users(view(HASH, peers), 300)
        for u = 1, 300 do
            assert.is_true(after[u] ~= 1 and (before[u] == 1 or before[u] == after[u]))
        end
        assert.same(after, (users(view(HASH, peers), 300)))
    end)
end)
