local stub = require "stub"
local request = require "request"
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local shed = require "resty.weir.shed"

assert(shm.attach(stub.dict()))
shm.head.nrows = 2

local MAX_SLOTS = shm.MAX_SLOTS

-- A pool of peers in slots 0 .. n-1, with a limit as told by the engine.
local function view(n, told)
    local v = { n = n, slot = ffi.new("int32_t[?]", n), limit = shed.prepare(told), max_stale_ms = 30000 }
    for i = 0, n - 1 do
        v.slot[i] = i
        for row = 0, 1 do shm.count[row * MAX_SLOTS + i].n, shm.streams[row * MAX_SLOTS + i].n = 0, 0 end
    end
    shm.head.heard_ms = 1000
    return v
end

local function refused(v, priority, now)
    request.fresh({ weir_priority = priority })
    return shed.over(v, request, now or 1000)
end

describe("a pool's limit", function()
    before_each(function() shed.init(stub.dict()) end)

    it("is none before the engine knows one, and never below one request", function()
        assert.is_nil(shed.prepare(nil))
        assert.is_nil(shed.prepare({}))
        assert.is_nil(shed.prepare({ max = "x" }))
        local limit = shed.prepare({ max = 0.4, normal = 0.3, low = 0.2, whole = 0.4 })
        assert.same({ 1, 1, 1 }, { limit[1], limit[2], limit[3] })
        limit = shed.prepare({ max = 10.9 }) -- an engine that tells no priorities
        assert.same({ 10, 10, 10 }, { limit[1], limit[2], limit[3] })
    end)

    it("counts what all workers hold, and no streams", function()
        local v = view(3, { max = 10, normal = 8, low = 6 })
        shm.count[0].n, shm.count[2].n, shm.count[MAX_SLOTS + 1].n = 3, 2, 2
        shm.streams[0].n, shm.streams[MAX_SLOTS + 2].n = 50, 50
        assert.is_nil(refused(v, "normal"))
        shm.count[MAX_SLOTS + 1].n = 3
        assert.equal(2, refused(v, "normal"))
    end)

    it("refuses low priority first and high last", function()
        local v = view(1, { max = 10, normal = 8, low = 6 })
        for held, want in pairs({ [5] = { nil, nil, nil }, [6] = { nil, nil, 3 }, [8] = { nil, 2, 3 }, [10] = { 1, 2, 3 }, [12] = { 1, 2, 3 } }) do
            shm.count[0].n = held
            for i, priority in ipairs({ "high", "normal", "low" }) do
                assert.equal(want[i], refused(v, priority), priority .. " at " .. held)
            end
        end
    end)

    it("takes what is no priority for a normal one", function()
        local v = view(1, { max = 10, normal = 8, low = 6 })
        shm.count[0].n = 8
        for priority, want in pairs({ ["0"] = false, ["1"] = 2, ["2"] = 3, ["7"] = 3, ["-1"] = false, ["1e9"] = 3, [""] = 2, HIGH = 2, nan = 2,
            ["0x0"] = false, ["highest of all"] = 2, [" high"] = 2 }) do
            assert.equal(want or nil, refused(v, priority), "priority \"" .. priority .. "\"")
        end
    end)

    it("ends with the engine's word", function()
        local v = view(1, { max = 10, normal = 8, low = 6 })
        shm.count[0].n = 50
        assert.equal(2, refused(v, "normal", 31000))
        assert.is_nil(refused(v, "normal", 31001))
    end)
end)

describe("what was refused", function()
    before_each(function() shed.init(stub.dict()) end)

    it("is told to the engine once, and only what is new", function()
        assert.is_nil(shed.untold("api"))
        shed.count("api", 2)
        shed.count("api", 2)
        shed.count("api", shed.FULL)
        local entry = shed.untold("api")
        assert.same({ "api", 0, 2, 0, 1 }, entry)
        shed.count("api", 1) -- while the batch is on its way
        shed.tell(entry)
        assert.same({ "api", 1, 0, 0, 0 }, shed.untold("api"))
        assert.same({ 1, 2, 0, 1, 0 }, shed.counts("api"))
        assert.is_nil(shed.untold("web"))
    end)

    it("above a rate is told apart, of every pool that has one", function()
        assert.same({}, shed.untold_rates())
        shed.rated("api")
        shed.rated("web")
        shed.rated("api")
        assert.same({}, shed.untold_rates())
        shed.count("web", shed.RATE)
        shed.count("web", shed.RATE)
        local list = shed.untold_rates()
        assert.same({ { "web", 2 } }, list)
        shed.count("api", shed.RATE)
        shed.tell_rates(list)
        assert.same({ { "api", 1 } }, shed.untold_rates())
        assert.is_nil(shed.untold("web"))
    end)
end)
