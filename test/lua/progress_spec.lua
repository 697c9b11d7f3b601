local stub = require "stub"
local shm = require "resty.weir.shm"
local progress = require "resty.weir.progress"

assert(shm.attach(stub.dict()))
shm.head.nrows = 2

local UNIT = progress.UNIT
local ROW = shm.MAX_SLOTS
local S = 77 -- the slot

local function hold(n)
    shm.count[S].n, shm.count[ROW + S].n = math.floor(n / 2), n - math.floor(n / 2)
end

-- A peer with nothing in flight that finishes rate mean requests a ms and slot.
local function fresh(rate, knee)
    hold(0)
    shm.work[S], shm.work[ROW + S] = 0, 0
    local p = shm.progress[S]
    p.done, p.done_ms = 0, 0
    progress.tell(S, rate * UNIT, knee)
    return p
end

local function left(now, n, known)
    return progress.left(S, now, n, known or 1) / UNIT
end

describe("the work that is left on a peer", function()
    it("is not known while nothing is in flight, and what is done begins anew with the first request", function()
        local p = fresh(0.1, 4)
        p.done, p.done_ms = 5000, 100
        assert.equal(0, left(900, 0))
        progress.put(0, S, 1000, 0, 3 * UNIT)
        assert.equal(0, p.done)
        assert.equal(1000, p.done_ms)
        assert.equal(3, left(1000, 1))
    end)

    it("is not known either of work whose requests NGINX has freed already", function()
        local p = fresh(0.001, 1)
        progress.put(0, S, 0, 0, 9 * UNIT)
        p.done = 2 * UNIT
        assert.equal(0, left(500, 0))
        progress.put(0, S, 1000, 0, 9 * UNIT)
        assert.equal(0, p.done)
        assert.equal(18, left(1000, 1))
    end)

    it("falls by the rate and the slots at work, as far as sizes tell", function()
        fresh(0.01, 2)
        progress.put(0, S, 0, 0, 8 * UNIT)
        progress.put(ROW, S, 0, 1, 4 * UNIT)
        progress.put(0, S, 0, 2, 12 * UNIT)
        assert.is_near(24, left(0, 3), 1e-9)
        assert.is_near(24 - 100 * 0.01 * 2, left(100, 3), 1e-9)
        assert.is_near(24 - 100 * 0.01 * 2 * 0.5, left(100, 3, 0.5), 1e-9)
        assert.is_near(24, left(100, 3, 0), 1e-9)
    end)

    it("grows again while the peer is overdue, to what a stalled one may hold at most", function()
        fresh(0.01, 2)
        for n = 0, 3 do progress.put(0, S, 0, n, 5 * UNIT) end -- 10 in its slots, 10 behind: due at 500 ms
        local least, most = math.huge, 0
        for now = 0, 5000, 10 do
            least = math.min(least, left(now, 4))
            most = math.max(most, left(now, 4))
        end
        assert.is_near(10 + 10 * 0.4 / 1.4, least, 0.2)
        assert.is_near(10 + 0.4 * 2 * 20, left(5000, 4), 1e-9)
        assert.is_near(10 + 0.4 * 2 * 20, most, 1e-9)
        assert.is_true(left(600, 4) < left(800, 4))
    end)

    it("is never nothing while there is work, and takes a clock that reads earlier for the same moment", function()
        local p = fresh(1, 1)
        progress.put(0, S, 1000, 0, 1)
        assert.is_near(1e-3, left(1000, 1), 1e-12)
        assert.is_near(1e-3, left(500, 1), 1e-12)
        progress.put(ROW, S, 990, 1, 4 * UNIT)
        assert.equal(1000, p.done_ms)
        assert.equal(0, p.done)
    end)

    it("loses with a request that ends all that was done of it, and at least the share of a slot", function()
        local p = fresh(0.01, 2)
        progress.put(0, S, 0, 0, 1 * UNIT)
        progress.put(0, S, 0, 1, 9 * UNIT)
        progress.put(0, S, 0, 2, 9 * UNIT)
        progress.take_off(0, S, 150, 3, 1 * UNIT) -- 3 done, half of it a slot's
        assert.is_near(1.5 * UNIT, p.done, 1e-6)
        assert.equal(18 * UNIT, shm.held_work(S))
        progress.take_off(0, S, 200, 2, 9 * UNIT) -- 2.5, and it was 9
        assert.equal(0, p.done)
        progress.take_off(0, S, 300, 1, 9 * UNIT)
        assert.equal(0, p.done)
        assert.equal(0, shm.held_work(S))
    end)

    -- The rule once more, without shared memory: engine/decide/progress.go is like this.
    it("is that of the rule, whatever comes and goes", function()
        math.randomseed(11)
        for _ = 1, 40 do
            local rate, knee, known = 0.05 * math.random(), 1 + 4 * math.random(), math.random()
            local p = fresh(rate, knee)
            local now, H, D, at, loads = 1000 * math.random(), 0, 0, 0, {}
            local function advance(n)
                D = n == 0 and 0 or math.min(D + (now - at) * rate * UNIT * math.min(n, knee), 2 * H)
                at = now
            end
            for _ = 1, 60 do
                now = now + 20 * math.random()
                local n = #loads
                local row = math.random(0, 1) * ROW
                if n == 0 or n < 12 and math.random() < 0.5 then
                    local load = math.floor(UNIT * math.exp(2 * math.random()))
                    advance(n)
                    progress.put(row, S, now, n, load)
                    H = H + load
                    loads[n + 1] = { load, row }
                else
                    local gone = table.remove(loads, math.random(n))
                    advance(n)
                    D = math.max(D - math.max(gone[1], D / math.min(n, knee)), 0)
                    progress.take_off(gone[2], S, now, n, gone[1])
                    H = H - gone[1]
                end
                assert.is_near(D, p.done, 1e-6)
                assert.equal(H, shm.held_work(S))
                n = #loads
                local later = now + 30 * math.random()
                local want = 0
                if n > 0 then
                    local d = math.min(D + (later - at) * rate * UNIT * math.min(n, knee), 2 * H)
                    local begun = H * math.min(n, knee) / n
                    want = math.max(H - begun + math.max(begun - known * d, 0.4 * known * d), 1e-3 * UNIT)
                end
                assert.is_near(want, progress.left(S, later, n, known), 1e-6)
                assert.equal(now, p.done_ms) -- asking writes nothing
            end
        end
    end)

    it("mends itself after what workers have written over each other", function()
        for _, wrong in ipairs({ 0, 1e12, -1e3 }) do
            local p = fresh(0.01, 2)
            for n = 0, 3 do progress.put(0, S, 0, n, 5 * UNIT) end
            p.done = wrong
            local now = 0
            for n = 4, 1, -1 do
                assert.is_true(left(now, n) > 0 and left(now, n) <= 1.8 * shm.held_work(S) / UNIT, "left " .. left(now, n) .. " of " .. n)
                now = now + 100
                progress.take_off(0, S, now, n, 5 * UNIT)
            end
            progress.put(0, S, now, 0, 5 * UNIT)
            assert.equal(0, p.done)
            assert.equal(5, left(now, 1))
        end
    end)

    it("is forgotten with the peer, but not the time since when", function()
        local p = fresh(0.01, 2)
        progress.put(0, S, 1000, 0, 5 * UNIT)
        p.done = 3 * UNIT
        shm.forget(S)
        assert.is_near(5 - 0.1, left(1010, 1), 1e-9)
    end)
end)
