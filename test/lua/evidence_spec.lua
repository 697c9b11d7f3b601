local stub = require "stub"
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local evidence = require "resty.weir.evidence"
local outcome = require "resty.weir.outcome"

local dict = stub.dict()
assert(shm.attach(dict))
evidence.init(dict)

local function view(n)
    local v = { n = n, slot = ffi.new("int32_t[?]", n), usable = ffi.new("uint8_t[?]", n), eject_consecutive = 5, eject_base_ms = 1000,
        eject_max_ms = 60000, eject_max_share = 0.5 }
    for i = 0, n - 1 do
        v.slot[i], v.usable[i] = i, 1
        shm.forget(i)
    end
    return v
end

describe("what this NGINX has seen of a peer", function()
    it("sets it aside at the first refused connection", function()
        assert.is_true(evidence.failure(view(3), 1, outcome.REFUSED, 5000, 5000))
        assert.equal(6000, shm.peer[1].aside_ms)
    end)

    it("sets it aside at the fifth failure in a row of any other kind, not at the fourth", function()
        local v = view(3)
        for i = 1, 4 do assert.is_false(evidence.failure(v, 1, outcome.STATUS, i, i)) end
        assert.is_true(evidence.failure(v, 1, outcome.STATUS, 5, 5))
        evidence.success(1, 6)
        assert.equal(0, shm.peer[1].fails)
        assert.equal(0, shm.peer[1].aside_ms)
    end)

    it("leaves time-outs to the engine while that speaks, but for one of a peer that is tried after its time aside", function()
        local v = view(3)
        shm.head.heard_ms = 1000
        for i = 1, 50 do assert.is_false(evidence.failure(v, 1, outcome.TIMEOUT, 1000 + i, 1000 + i)) end
        evidence.failure(v, 1, outcome.REFUSED, 2000, 2000)
        assert.is_true(evidence.failure(v, 1, outcome.TIMEOUT, 3001, 3001))
        evidence.success(1, 3002)
        for i = 1, 4 do assert.is_false(evidence.failure(v, 1, outcome.TIMEOUT, 3010 + i, 3010 + i)) end
        assert.is_true(evidence.failure(v, 1, outcome.TIMEOUT, 3015, 3015)) -- not heard for two seconds
        v = view(3)
        v.static = true
        shm.head.heard_ms = 4000
        for i = 1, 4 do assert.is_false(evidence.failure(v, 1, outcome.TIMEOUT, 4000 + i, 4000 + i)) end
        assert.is_true(evidence.failure(v, 1, outcome.TIMEOUT, 4005, 4005)) -- the engine has no such pool
        shm.head.heard_ms = 0
    end)

    it("sets a peer that the pool cannot do without aside for refused connections alone, as long as the engine speaks", function()
        local v = view(3)
        v.needed = { [1] = true }
        shm.head.heard_ms = 1000
        for i = 1, 50 do assert.is_false(evidence.failure(v, 1, outcome.STATUS, 1000 + i, 1000 + i)) end
        assert.is_true(evidence.failure(v, 1, outcome.REFUSED, 1051, 1051))
        assert.is_false(evidence.failure(v, 1, outcome.STATUS, 2100, 2100)) -- its trial did not fail to reach it
        assert.equal(0, shm.peer[1].aside_ms)
        assert.is_true(evidence.failure(v, 1, outcome.STATUS, 3001, 3001))
        shm.head.heard_ms = 0
    end)

    it("sets it aside for refused connections alone where the rule of failures in a row is off", function()
        local v = view(3)
        v.eject_consecutive = 0
        for i = 1, 50 do assert.is_false(evidence.failure(v, 1, outcome.STATUS, i, i)) end
        assert.is_true(evidence.failure(v, 1, outcome.REFUSED, 51, 51))
    end)

    it("sets it aside for refused connections alone where the share that may be ejected is 0", function()
        local v = view(3)
        for i = 1, 4 do evidence.failure(v, 1, outcome.STATUS, i, i) end
        v.eject_max_share = 0
        for i = 5, 50 do assert.is_false(evidence.failure(v, 1, outcome.STATUS, i, i)) end
        assert.is_true(evidence.failure(v, 1, outcome.REFUSED, 51, 51))
        evidence.reconcile(v, 60)
        assert.equal(1051, shm.peer[1].aside_ms)
        assert.is_false(evidence.failure(v, 1, outcome.STATUS, 1100, 1100)) -- its trial reached it
        assert.equal(0, shm.peer[1].aside_ms)
        v.eject_max_share = 0.5
        assert.is_true(evidence.failure(v, 1, outcome.STATUS, 1101, 1101))
        v.eject_max_share = 0
        evidence.reconcile(v, 1110)
        assert.equal(0, shm.peer[1].aside_ms)
    end)

    it("stays away longer each time, up to a bound, and starts over after a quiet time", function()
        local v, now, last = view(2), 0, 0
        for _ = 1, 8 do
            evidence.failure(v, 0, outcome.REFUSED, now, now)
            local length = shm.peer[0].aside_ms - now
            assert.is_true(length >= last and length <= 10000)
            last = length
            now = shm.peer[0].aside_ms + 1
        end
        assert.equal(10000, last)
        evidence.success(0, now)
        now = now + 200000
        evidence.failure(v, 0, outcome.REFUSED, now, now)
        assert.equal(1000, shm.peer[0].aside_ms - now)
    end)

    it("stays away for the base time at most while most of the pool fails, so that all are back soon after it", function()
        local v, now = view(4), 0
        for _ = 1, 12 do
            for i = 0, 3 do
                if shm.peer[i].aside_ms <= now then evidence.failure(v, i, outcome.REFUSED, now, now) end
            end
            for i = 0, 3 do assert.is_true(shm.peer[i].aside_ms <= now + 1000) end
            now = now + 1001
        end
    end)

    it("tries those that were out for long before, when most of the pool fails", function()
        local v, now = view(4), 0
        for _ = 1, 6 do
            now = shm.peer[0].aside_ms + 1
            evidence.failure(v, 0, outcome.REFUSED, now, now)
        end
        assert.equal(now + 10000, shm.peer[0].aside_ms)
        evidence.failure(v, 1, outcome.REFUSED, now, now)
        assert.equal(now + 10000, shm.peer[0].aside_ms) -- half of it
        evidence.failure(v, 2, outcome.REFUSED, now, now)
        assert.equal(now + 4000, shm.peer[0].aside_ms)
        evidence.success(0, now - 1) -- sent before it was set aside
        assert.equal(now + 4000, shm.peer[0].aside_ms)
    end)

    it("finds out less often whether peers answer again where that costs a time-out", function()
        local v, now = view(2), 0
        for i = 1, 5 do evidence.failure(v, 1, outcome.STATUS, i, i) end
        for _ = 1, 6 do
            now = shm.peer[0].aside_ms + 2000
            shm.peer[1].aside_ms = 1 -- not tried yet
            evidence.failure(v, 0, outcome.CONNECT_TIMEOUT, now, now)
        end
        assert.equal(now + 4000, shm.peer[0].aside_ms)
    end)

    it("stays away for four base times at most in a pool that the engine says is short, while it is heard", function()
        local v, now = view(4), 0
        v.needed = { [2] = true }
        local function longest()
            for _ = 1, 6 do
                now = shm.peer[0].aside_ms + 1
                shm.head.heard_ms = shm.head.heard_ms > 0 and now or 0
                evidence.failure(v, 0, outcome.REFUSED, now, now)
            end
            return shm.peer[0].aside_ms - now
        end
        shm.head.heard_ms = 1
        assert.equal(4000, longest())
        shm.head.heard_ms = 0
        now = 10000
        assert.equal(10000, longest())
    end)

    it("takes what was sent before a peer was set aside for no trial of it", function()
        local v = view(3)
        evidence.failure(v, 0, outcome.REFUSED, 100, 100)
        assert.is_false(evidence.failure(v, 0, outcome.TIMEOUT, 50, 2050)) -- the time aside is over, and nobody has tried it yet
        assert.equal(1100, shm.peer[0].aside_ms)
        assert.is_true(evidence.failure(v, 0, outcome.TIMEOUT, 1150, 3150)) -- its trial
        assert.equal(5150, shm.peer[0].aside_ms)
    end)

    it("does not count requests that were under way as another setting aside", function()
        local v = view(3)
        evidence.failure(v, 0, outcome.REFUSED, 100, 100)
        for _ = 1, 50 do assert.is_false(evidence.failure(v, 0, outcome.REFUSED, 101, 101)) end
        assert.equal(1100, shm.peer[0].aside_ms)
    end)

    it("does not take a peer back for answers to what was sent before it was set aside", function()
        local v = view(3)
        evidence.failure(v, 0, outcome.REFUSED, 100, 100)
        for sent = 90, 99 do -- it shuts down in order: what it holds is answered, and connections are refused
            evidence.success(0, sent)
            evidence.failure(v, 0, outcome.REFUSED, 101 + sent, 101 + sent)
        end
        assert.equal(1100, shm.peer[0].aside_ms)
        evidence.success(0, 1101) -- its trial
        assert.equal(0, shm.peer[0].aside_ms)
    end)

    it("leaves a peer to its next failure while another worker is setting one aside", function()
        local v = view(2)
        local other = {}
        function other.safe_add()
            evidence.init(dict)
            assert.is_true(evidence.failure(v, 0, outcome.REFUSED, 5, 5)) -- the other worker, at the same moment
            evidence.init(other)
            return false, "exists"
        end
        evidence.init(other)
        assert.is_false(evidence.failure(v, 1, outcome.REFUSED, 5, 5))
        evidence.init(dict)
        assert.is_false(evidence.failure(v, 1, outcome.REFUSED, 6, 6)) -- now the last usable one
        assert.equal(0, shm.peer[1].aside_ms)
        assert.is_true(evidence.failure(view(2), 1, outcome.REFUSED, 7, 7)) -- each claim is given back
    end)

    it("sets aside without a claim when the dict has no room for one", function()
        evidence.init({ safe_add = function() return nil, "no memory" end })
        assert.is_true(evidence.failure(view(2), 1, outcome.REFUSED, 5, 5))
        evidence.init(dict)
    end)

    it("never sets the last usable peer aside", function()
        local v = view(2)
        v.usable[1] = 0
        for i = 1, 20 do assert.is_false(evidence.failure(v, 0, outcome.REFUSED, i, i)) end
        assert.equal(0, shm.peer[0].aside_ms)
        assert.is_false(evidence.failure(view(1), 0, outcome.REFUSED, 1, 1))
    end)

    it("gives peers back when the engine's ejections and its own together pass the cap, but not those it cannot reach", function()
        local v = view(4)
        for _ = 1, 5 do evidence.failure(v, 0, outcome.STATUS, 10, 10) end
        evidence.failure(v, 1, outcome.REFUSED, 10, 10)
        v.usable[2] = 0
        evidence.reconcile(v, 20)
        assert.equal(0, shm.peer[0].aside_ms)
        assert.is_true(shm.peer[1].aside_ms > 20)
    end)

    it("counts what the engine has ejected into the cap", function()
        local v = view(3)
        v.usable[2] = 0
        for i = 1, 10 do assert.is_false(evidence.failure(v, 0, outcome.STATUS, i, i)) end
    end)

    it("keeps at least half of a pool whose every peer answers 500", function()
        local v = view(4)
        for i = 0, 3 do
            for t = 1, 10 do evidence.failure(v, i, outcome.STATUS, t, t) end
        end
        local aside = 0
        for i = 0, 3 do if shm.peer[i].aside_ms > 0 then aside = aside + 1 end end
        assert.equal(2, aside)
    end)
end)
