local stub = require "stub"
local shm = require "resty.weir.shm"
local slots = require "resty.weir.slots"

local dict = stub.dict()
assert(shm.attach(dict))
slots.init(dict)

local function nobody() return {} end

describe("slots", function()
    it("of static peers are given back when a reload leaves the peers out, and no table has them", function()
        local stays, told, goes = slots.of("p", "10.0.0.1:80", true), slots.of("p", "10.0.0.2:80", true), slots.of("p", "10.0.0.3:80", true)
        slots.collect(0)
        slots.leave_statics(nobody, 0) -- the same configuration still
        slots.collect(1000)
        assert.equal(goes, slots.of("p", "10.0.0.3:80"))

        slots.init(dict) -- a reload
        slots.leave_statics(function(pool) return pool == "p" and { ["10.0.0.2:80"] = true } or {} end, 1000)
        assert.equal(stays, slots.of("p", "10.0.0.1:80", true)) -- a worker's first request
        slots.collect(1031)
        assert.equal(stays, slots.of("p", "10.0.0.1:80"))
        assert.equal(told, slots.of("p", "10.0.0.2:80"))
        assert.equal(goes, slots.of("p", "10.0.0.9:80")) -- its slot is free
    end)

    it("of static peers are not given back when the engine has left the peers out before they were met", function()
        local slot = slots.of("q", "10.0.0.1:80")
        slots.leave("q", "10.0.0.1:80", 2000)
        assert.equal(slot, slots.of("q", "10.0.0.1:80", true))
        slots.collect(3000)
        assert.equal(slot, slots.of("q", "10.0.0.1:80"))
    end)
end)

describe("numbers in the shared dict", function()
    it("are made without throwing out what else is there", function()
        local full = stub.dict()
        full.incr = function(d, k, by, init)
            assert.is_nil(init)
            return getmetatable(d).__index.incr(d, k, by)
        end
        assert.equal(1, shm.add(full, "n", 1))
        assert.equal(3, shm.add(full, "n", 2))
        assert.equal(0, shm.add(full, "m", 1, -1))
        full.safe_add = function() return false, "no memory" end
        local n, err = shm.add(full, "x", 1)
        assert.is_nil(n)
        assert.equal("no memory", err)
    end)
end)
