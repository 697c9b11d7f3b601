local ffi = require "ffi"
local stub = require "stub"
local shm = require "resty.weir.shm"
local clock = require "resty.weir.clock"
local progress = require "resty.weir.progress"

assert(shm.attach(stub.dict()))
shm.head.nrows = 1

-- NGINX's part: the cleanups of a request, which it runs when it frees it. The rest of ffi.C is real.
local cleanups = {} -- request address -> list
local began = {}    -- request address -> when
local C = ffi.C
local function address(r) return tonumber(ffi.cast("uintptr_t", r)) end
rawset(ffi, "C", setmetatable({
    ngx_http_cleanup_add = function(r)
        local c = ffi.new("weir_cleanup_t[1]")
        local list = cleanups[address(r)]
        list[#list + 1] = c
        return c + 0
    end,
    weir_began = function(r) return began[address(r)] end,
}, { __index = C }))
local attempts = require "resty.weir.attempts"
rawset(ffi, "C", C)
attempts.init(0)

local UNIT = progress.UNIT
local A, B = 31, 32 -- slots

local function request()
    local r = ffi.new("char[1]")
    cleanups[address(r)], began[address(r)] = {}, ngx.now()
    return r
end

local function freed(r)
    for _, c in ipairs(cleanups[address(r)]) do
        if c[0].handler ~= nil then
            c[0].handler(c[0].data)
        end
    end
end

-- Two requests on A, each a tenth of what is done there, on a peer that stands still: so what one takes away is the even share of a slot, which tells
-- how many were counted.
local function two()
    for _, s in ipairs({ A, B }) do
        shm.count[s].n, shm.streams[s].n, shm.work[s] = 0, 0, 0
        shm.forget(s)
        progress.tell(s, 0, 4)
    end
    local r, q = {}, {}
    for i = 1, 2 do
        r[i] = request()
        q[i] = attempts.open(r[i])
        assert(attempts.start(r[i], q[i], A, 0, clock.now_ms(), i - 1, 0, 1, -1, false, 10 * UNIT, 0))
    end
    assert.equal(2, shm.count[A].n)
    assert.equal(20 * UNIT, shm.work[A])
    shm.progress[A].done = 24 * UNIT
    return r, q
end

local function want_one_left()
    assert.equal(10 * UNIT, shm.work[A])
    assert.is_near(12 * UNIT, shm.progress[A].done, 1e-6)
end

describe("the work of a request is taken off with what was done of it, as one of those counted,", function()
    after_each(function()
        assert.equal(0, shm.head.underflow)
    end)

    it("when NGINX has freed it, in the log phase", function()
        local r, q = two()
        freed(r[1])
        assert.equal(1, shm.count[A].n)
        attempts.close(r[1], q[1], false)
        want_one_left()
        freed(r[2])
        attempts.close(r[2], q[2], false)
        assert.equal(0, shm.count[A].n)
        assert.equal(0, shm.work[A])
        assert.equal(0, shm.progress[A].done)
    end)

    it("when NGINX has freed it without a log phase, once", function()
        local r = two()
        freed(r[1])
        for _ = 1, 3 do
            attempts.each_due(0, function() end)
        end
        want_one_left()
    end)

    it("when the peer is done with it and its client is not, once", function()
        local r, q = two()
        attempts.finish(q[1])
        assert.equal(1, shm.count[A].n)
        want_one_left()
        freed(r[1])
        attempts.close(r[1], q[1], false)
        assert.equal(1, shm.count[A].n)
        want_one_left()
    end)

    it("when it is a subrequest, whose main request goes on", function()
        local r, q = two()
        attempts.close(r[1], q[1], true)
        assert.equal(1, shm.count[A].n)
        want_one_left()
        freed(r[1])
        assert.equal(1, shm.count[A].n)
    end)

    it("when it turns out to be a stream", function()
        local _, q = two()
        attempts.to_stream(q[1])
        assert.equal(1, shm.count[A].n)
        assert.equal(1, shm.streams[A].n)
        want_one_left()
    end)

    it("when it goes on to another peer, where it is put on", function()
        local r, q = two()
        shm.count[B].n, shm.work[B], shm.progress[B].done = 1, 3 * UNIT, 2 * UNIT
        assert.is_true(attempts.start(r[1], q[1], B, 0, clock.now_ms(), 1, 0, 1, -1, false, 7 * UNIT, 0))
        assert.equal(1, shm.count[A].n)
        want_one_left()
        assert.equal(2, shm.count[B].n)
        assert.equal(10 * UNIT, shm.work[B])
        assert.equal(2 * UNIT, shm.progress[B].done)
        freed(r[1])
        attempts.close(r[1], q[1], false)
        want_one_left()
        assert.equal(1, shm.count[B].n)
        assert.equal(3 * UNIT, shm.work[B])
    end)

    it("and begins anew with a request that finds no other", function()
        local r, q = two()
        shm.work[B], shm.progress[B].done = 3 * UNIT, 2 * UNIT -- of one that NGINX freed a moment ago
        assert.is_true(attempts.start(r[1], q[1], B, 0, clock.now_ms(), 0, 0, 1, -1, false, 7 * UNIT, 0))
        assert.equal(0, shm.progress[B].done)
    end)

    it("which in a pool without sizes is nothing, and touches nothing", function()
        local r, q = two()
        local third = request()
        local t = attempts.open(third)
        assert.is_true(attempts.start(third, t, B, 0, clock.now_ms(), 0, 0, 1, -1, false, 0, 0))
        shm.progress[B].done_ms = 1
        freed(third)
        attempts.close(third, t, false)
        assert.equal(1, shm.progress[B].done_ms)
        assert.equal(0, shm.work[B])
        for i = 1, 2 do
            freed(r[i])
            attempts.close(r[i], q[i], false)
        end
    end)
end)
