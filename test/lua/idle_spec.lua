require "stub"
local idle = require "resty.weir.idle"

local last = -1
local function peer() -- one that this worker never spoke to
    last = last + 1
    return last
end

describe("a connection that breaks before any answer", function()
    it("is the idle race where nothing came to its peer for a while, as are those that break with it", function()
        local p = peer()
        idle.exchanged(p, 1000, 1010)
        assert.is_true(idle.is_race(p, 3000, 3001))
        assert.is_true(idle.is_race(p, 3600, 3601))
        assert.is_false(idle.is_race(p, 4100, 4101)) -- no answer since: it breaks them all
        idle.exchanged(p, 4200, 4210)
        assert.is_true(idle.is_race(p, 6000, 6001))
    end)

    it("is none where the peer had been answering, however long it breaks them all", function()
        local p = peer()
        for at = 1000, 3000, 20 do
            idle.exchanged(p, at, at + 10)
        end
        for at = 3020, 9000, 20 do
            assert.is_false(idle.is_race(p, at, at + 1))
        end
        assert.is_false(idle.is_race(p, 20000, 20001)) -- its trial
        idle.exchanged(p, 20100, 20110)
        assert.is_true(idle.is_race(p, 21000, 21001))
    end)

    it("is none at a peer that never answered, and after work", function()
        local p = peer()
        assert.is_false(idle.is_race(p, 1000, 1001))
        idle.exchanged(p, 1010, 1020)
        assert.is_false(idle.is_race(p, 2000, 2200))
    end)
end)
