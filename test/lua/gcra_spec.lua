local stub = require "stub"
local gcra = require "resty.weir.gcra"
local random = require "resty.weir.random"

-- Sends a request each `every` ms for `span` ms; returns how many were let in.
local function offer(dict, every, span, gap, tolerance, from)
    local n = 0
    for i = 0, math.floor(span / every) - 1 do
        if gcra.take(dict, "k", (from or 1000) + i * every, gap, tolerance, 1) == 0 then
            n = n + 1
        end
    end
    return n
end

-- A dict in which something happens between what a worker reads and what it adds.
local function racing(dict, meanwhile)
    return setmetatable({ incr = function(_, ...)
        local now = meanwhile
        meanwhile = nil
        if now then now(dict) end
        return dict:incr(...)
    end }, { __index = function(_, name) return function(_, ...) return dict[name](dict, ...) end end })
end

describe("a rate by GCRA", function()
    it("is kept whatever the rate, the burst and the load", function()
        for _, per_s in ipairs({ 0.5, 7, 500, 3000, 10000, 250000 }) do
            local gap = 1000 / per_s
            for _, burst in ipairs({ 1, 2, 100 }) do -- without any, what comes evenly at 1.5 times the rate is let in every second time
                for _, load in ipairs({ 1.5, 4, 33 }) do
                    local span = math.max(1000, 20 * gap)
                    local n, due = offer(stub.dict(), gap / load, span, gap, burst * gap), span / gap
                    assert.is_true(n >= due - 1 and n <= due + burst + 1, n .. " let in at " .. per_s .. "/s, burst " .. burst)
                end
            end
        end
    end)

    it("lets in everything below it", function()
        assert.equal(1000, offer(stub.dict(), 1.001, 1001.1, 1, 0))
    end)

    it("lets a burst in at once and no more, and again when it was saved up", function()
        local dict, n = stub.dict(), 0
        for _ = 1, 50 do
            if gcra.take(dict, "k", 5000, 10, 40, 1) == 0 then n = n + 1 end
        end
        assert.equal(5, n) -- the one that is due and four early
        assert.equal(10, gcra.take(dict, "k", 5000, 10, 40, 1)) -- and says when there will be room
        assert.equal(0, gcra.take(dict, "k", 5010, 10, 40, 1))
        assert.equal(5, offer(dict, 0.001, 0.05, 10, 40, 90000))
    end)

    it("makes up for a pause no longer than the tolerance", function()
        local dict, n = stub.dict(), 0
        -- a worker that runs for 2 ms and is left waiting for 8: what came meanwhile comes at once
        for batch = 0, 99 do
            local at = 1000 + batch * 10
            for _ = 1, 40 do
                if gcra.take(dict, "k", at, 1, 10, 1) == 0 then n = n + 1 end
            end
        end
        assert.is_true(n >= 1000 and n <= 1011, n .. " let in of 1000")
        n = 0
        dict = stub.dict()
        for batch = 0, 99 do
            local at = 1000 + batch * 10
            for _ = 1, 40 do
                if gcra.take(dict, "k", at, 1, 0, 1) == 0 then n = n + 1 end
            end
        end
        assert.equal(100, n) -- what the tolerance is for
    end)

    it("keeps keys apart", function()
        local dict = stub.dict()
        assert.equal(0, gcra.take(dict, "a", 1000, 100, 0, 1))
        assert.equal(0, gcra.take(dict, "b", 1000, 100, 0, 1))
        assert.equal(100, gcra.take(dict, "a", 1000, 100, 0, 1))
    end)

    it("writes nothing when it refuses", function()
        local dict = stub.dict()
        gcra.take(dict, "k", 1000, 100, 0, 1)
        dict.incr, dict.set = error, error
        assert.equal(50, gcra.take(dict, "k", 1050, 100, 0, 1))
    end)

    it("lets in one of two workers that saw the last place at the same time, and forgets the other", function()
        local dict = stub.dict()
        gcra.take(dict, "k", 1000, 100, 0, 2)
        local first
        local second = gcra.take(racing(dict, function(d) first = gcra.take(d, "k", 1100, 100, 0, 2) end), "k", 1100, 100, 0, 2)
        assert.equal(0, first)
        assert.equal(100, second)
        assert.equal(1200, dict:get("k"))
    end)

    it("fills an idle bucket once, though two workers find it idle", function()
        for _, gone in ipairs({ false, true }) do -- and when the key was never there
            local dict, first = stub.dict(), nil
            if not gone then dict:safe_set("k", 1000) end
            local second = gcra.take(racing(dict, function(d) first = gcra.take(d, "k", 900000, 10, 30, 2) end), "k", 900000, 10, 30, 2)
            assert.equal(0, first)
            assert.equal(0, second)
            assert.is_true(math.abs(dict:get("k") - 900020) < 1e-3)
        end
    end)

    it("takes a key that was evicted meanwhile for a full bucket", function()
        local dict = stub.dict()
        dict:safe_set("k", 1000)
        assert.equal(0, gcra.take(racing(dict, function(d) d:delete("k") end), "k", 900000, 10, 30, 2))
        assert.is_true(math.abs(dict:get("k") - 900010) < 1e-3)
    end)

    it("gets out of a number that is higher than can be", function()
        local dict = stub.dict()
        dict:safe_set("k", 5e6) -- a worker was killed after it had added and before it took back; or the burst was much larger before a reload
        assert.is_true(gcra.take(dict, "k", 1000, 10, 30, 2) > 0)
        assert.is_true(gcra.take(dict, "k", 1010, 10, 30, 2) == 0)
        assert.is_true(gcra.take(dict, "k", 1010, 10, 30, 2) > 0)
    end)

    it("leaves a number alone that is only as high as other workers make it", function()
        local dict = stub.dict()
        dict:safe_set("k", 1000 + 30 + 8 * 10) -- eight are about to take back
        gcra.take(dict, "k", 1000, 10, 30, 8)
        assert.equal(1110, dict:get("k"))
    end)

    it("never lets in more than the bucket holds, however workers interleave", function()
        random.seed(7)
        for _ = 1, 200 do
            local dict, n, now = stub.dict(), 0, 1000
            local function one(d, depth)
                now = now + math.floor(random.float() * 3) * 0.5
                local other = depth < 4 and random.float() < 0.5 and function(inner) one(inner, depth + 1) end or nil
                if gcra.take(other and racing(d, function() other(d) end) or d, "k", now, 5, 20, 8) == 0 then n = n + 1 end
            end
            for _ = 1, 100 do one(dict, 0) end
            local most, least = (now - 1000) / 5 + 20 / 5 + 1, (now - 1000) / 5
            assert.is_true(n <= most + 1e-9, n .. " let in, at most " .. most)
            assert.is_true(n >= 0.8 * least, n .. " let in, the rate is " .. least)
        end
    end)

    it("says what is wrong with the dict", function()
        local dict = stub.dict()
        dict.incr = function() return nil, "no memory" end
        local wait, err = gcra.take(dict, "k", 1000, 10, 0, 1)
        assert.is_nil(wait)
        assert.equal("no memory", err)
    end)
end)
