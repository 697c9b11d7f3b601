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

-- Orders in which two workers' steps in the shared dict can fall. A worker is an instance of the module with a configuration's number.
describe("two workers at once", function()
    local shared -- the dict of the run; in a race its methods let the other worker go first
    local racing = false
    local stepping = setmetatable({}, { __index = function(_, name)
        return function(_, ...)
            if racing then
                coroutine.yield()
            end
            return shared[name](shared, ...)
        end
    end })

    local function worker(generation) -- nil: of a new one
        local kept = package.loaded["resty.weir.slots"]
        package.loaded["resty.weir.slots"] = nil
        local w = require "resty.weir.slots"
        package.loaded["resty.weir.slots"] = kept
        if generation then
            shared:safe_set("generation", generation - 1)
        end
        w.init(stepping)
        return w
    end

    local SWITCHES = 3

    -- Calls run(race) once for each order in which at most SWITCHES times the other worker goes on; race(f, g) calls both and returns what each
    -- returned. Returns how many orders there were.
    local function each_order(run)
        local switch, n = {}, 0 -- at each step at which there is a choice: does the other one go on?
        repeat
            local at, switches = 0, 0
            run(function(f, g)
                local co, result, turn = { coroutine.create(f), coroutine.create(g) }, {}, 1
                while co[1] or co[2] do
                    if co[1] and co[2] and switches < SWITCHES then
                        at = at + 1
                        if switch[at] then
                            turn, switches = 3 - turn, switches + 1
                        else
                            switch[at] = false
                        end
                    elseif not co[turn] then
                        turn = 3 - turn
                    end
                    racing = true
                    local ok, r = coroutine.resume(co[turn])
                    racing = false
                    assert(ok, r)
                    if coroutine.status(co[turn]) == "dead" then
                        result[turn], co[turn] = r, nil
                    end
                end
                return result[1], result[2]
            end)
            n = n + 1
            while at > 0 and switch[at] do
                switch[at] = nil
                at = at - 1
            end
            switch[at] = true
        until at == 0
        return n
    end

    local old, leader, other
    local function reloaded()
        shared = stub.dict()
        old = worker(1)
        assert(old.of("p", "10.0.0.1:80", true))
        leader, other = worker(2), worker(2)
    end

    -- Whoever comes next gets no slot that a peer has in use, nor one that another has got.
    local function nobody_else_gets(slot)
        leader.collect(5000)
        assert.equal(slot, shared:get("p:p|10.0.0.1:80"))
        local seen = { [slot] = true }
        for i = 2, 4 do
            local fresh = leader.of("p", "10.0.0." .. i .. ":80")
            assert.is_nil(seen[fresh])
            seen[fresh] = true
        end
    end

    local function meet() return other.of("p", "10.0.0.1:80", true) end

    it("leave a static peer its slot that one meets while the other takes it for left out", function()
        assert(each_order(function(race)
            reloaded()
            local _, slot = race(function() leader.leave_statics(nobody, 0) end, meet)
            nobody_else_gets(slot)
        end) > 100)
    end)

    it("leave a static peer its slot, or give it one, that one meets while the other gives the slot back", function()
        assert(each_order(function(race)
            reloaded()
            leader.leave_statics(nobody, 0)
            local _, slot = race(function() leader.collect(1000) end, meet)
            nobody_else_gets(slot)
        end) > 100)
    end)

    it("leave a peer its slot, or give it one, that the engine names to one while the other, who led before, gives the slot back", function()
        assert(each_order(function(race)
            reloaded()
            leader.leave_statics(nobody, 0)
            local _, slot = race(function() leader.collect(1000) end, function() return other.join("p", "10.0.0.1:80") end)
            nobody_else_gets(slot)
        end) > 100)
    end)

    it("give a slot back once", function()
        assert(each_order(function(race)
            reloaded()
            leader.leave_statics(nobody, 0)
            race(function() leader.collect(1000) end, function() other.collect(1000) end)
            nobody_else_gets(meet())
        end) > 100)
    end)

    it("of an old and the new configuration that meet a peer leave it the new one's", function()
        assert(each_order(function(race)
            shared = stub.dict()
            old = worker(1)
            local slot
            race(function() slot = old.of("p", "10.0.0.1:80", true) end, function()
                leader = worker()
                other = leader
                slot = meet()
            end)
            leader.leave("p", "10.0.0.1:80", 0)
            nobody_else_gets(slot)
        end) > 100)
    end)
end)
