local stub = require "stub"
local request = require "request"
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local shed = require "resty.weir.shed"

local dict = stub.dict()
assert(shm.attach(dict))
shm.head.nrows = 1
shed.init(dict)

local pool
package.loaded["resty.weir.pools"] = { get = function() return pool end }
local admit = require "resty.weir.admit"

-- Peers in slots 0 .. n-1, each with a cap.
local function capped(n, cap)
    pool = { n = n, slot = ffi.new("int32_t[?]", n), usable = ffi.new("uint8_t[?]", n), queue_ms = 100, queue_max = 2, max_stale_ms = 30000 }
    pool.cap = cap and ffi.new("int32_t[?]", n)
    for i = 0, n - 1 do
        pool.slot[i], pool.usable[i] = i, 1
        shm.count[i].n = 0
        shm.forget(i)
        if cap then pool.cap[i] = cap end
    end
    shm.head.heard_ms = request.now
    request.slept = 0
    request.during_sleep(nil)
end

local function ask()
    local q = request.fresh()
    admit.admit("api")
    return request.status, q
end

describe("the access phase", function()
    it("opens no record where there is neither limit nor cap", function()
        capped(2, nil)
        request.record = nil
        admit.admit("api")
        assert.is_nil(request.status)
    end)

    it("lets in what has room, and says in which turn", function()
        capped(2, 3)
        shm.count[0].n = 3
        local status, q = ask()
        assert.is_nil(status)
        assert.equal(0, request.slept)
        assert.is_true(q.turn > 0)
    end)

    it("refuses over the limit before it looks for room", function()
        capped(1, 3)
        pool.limit = shed.prepare({ max = 2 })
        shm.count[0].n = 2
        local status, q = ask()
        assert.equal(503, status)
        assert.equal(2, q.shed)
        assert.equal(0, request.slept)
        assert.equal(0, q.turn)
    end)

    it("has a request wait until there is room", function()
        capped(2, 3)
        shm.count[0].n, shm.count[1].n = 3, 3
        local from = request.now
        request.during_sleep(function(now)
            assert.equal(1, admit.waiting("api"))
            if now >= from + 40 then shm.count[1].n = 2 end
        end)
        assert.is_nil((ask()))
        assert.is_true(request.now >= from + 40 and request.now < from + 50)
        assert.equal(0, admit.waiting("api"))
    end)

    it("refuses it when there is none in time", function()
        capped(1, 3)
        shm.count[0].n = 3
        local from = request.now
        local status, q = ask()
        assert.equal(503, status)
        assert.equal(shed.FULL, q.shed)
        assert.is_true(request.now >= from + 100 and request.now < from + 110)
        assert.equal(0, admit.waiting("api"))
    end)

    it("refuses at once when as many wait as may", function()
        capped(1, 3)
        shm.count[0].n = 3
        local statuses = {}
        request.during_sleep(function()
            request.during_sleep(function() -- the second waits too; a third comes
                request.during_sleep(nil)
                local slept = request.slept
                statuses[3] = ask()
                assert.equal(slept, request.slept)
            end)
            statuses[2] = ask()
        end)
        statuses[1] = ask()
        assert.same({ 503, 503, 503 }, statuses)
        assert.equal(0, admit.waiting("api"))
        capped(1, 3)
        pool.queue_max = 0
        shm.count[0].n = 3
        assert.equal(503, (ask()))
        assert.equal(0, request.slept)
    end)

    it("takes no peer for room that is not usable or set aside", function()
        capped(3, 3)
        shm.count[0].n = 3
        pool.usable[1] = 0
        shm.peer[2].aside_ms = request.now + 60000
        assert.equal(503, (ask()))
        shm.peer[2].aside_ms, shm.peer[2].trial_ms = 0, request.now + 60000 -- another request tries it already
        assert.equal(503, (ask()))
        shm.peer[2].trial_ms = 0
        assert.is_nil((ask()))
    end)

    it("leaves it to the balancer when no peer is usable", function()
        capped(2, 1)
        pool.usable[0], pool.usable[1] = 0, 0
        assert.is_nil((ask()))
        assert.equal(0, request.slept)
    end)

    it("goes on when the caps are taken away while it waits", function()
        capped(1, 1)
        shm.count[0].n = 1
        request.during_sleep(function() pool.cap = nil end)
        assert.is_nil((ask()))
        assert.equal(1, request.slept)
    end)
end)
