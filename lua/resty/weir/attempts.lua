-- What a worker knows of each request it is proxying: its attempts, and the in-flight counts it holds.
--
-- Found by the address of the request structure, not through ngx.ctx: an internal redirect (error_page, X-Accel-Redirect)
-- throws ngx.ctx away but keeps the request, and a subrequest has an address of its own.
--
-- The count of a request is given back by NGINX itself, in C, when it frees the request: a cleanup handler on the request's pool
-- whose function is sem_trywait(3), which takes 1 off the count it is given and never goes below 0. So a count
-- cannot leak, whichever way a request ends: answer, abort, time-out, redirect, a log_by_lua that the operator replaced.
-- A second cleanup clears "alive" in the record, which is how a record that no log phase collected is recognised.
-- Work (sizes.lua) has no such function in C: a record takes its own off when it is dropped, with the log phase, or within 200 ms by
-- each_due() where there is none. It is added and taken off by the one worker that owns the row, in whole numbers.
-- Cleanups run before the log phase, so a request is already off its peer's count when it is logged. Requests whose peer is done
-- while the client still reads are taken off before that by lookout.lua.
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local clock = require "resty.weir.clock"
local progress = require "resty.weir.progress"

local C = ffi.C
local tonumber, cast = tonumber, ffi.cast

ffi.cdef [[
typedef struct weir_cleanup_s weir_cleanup_t; /* ngx_http_cleanup_t, src/http/ngx_http_request.h */
struct weir_cleanup_s { void (*handler)(void *data); void *data; weir_cleanup_t *next; };
weir_cleanup_t *ngx_http_cleanup_add(void *r, size_t size);
double weir_began(void *r) __asm__("ngx_http_lua_ffi_req_start_time");

typedef struct {
    int32_t  slot;
    int32_t  inflight;     /* others there at the pick */
    int32_t  flags;
    int32_t  class;        /* this worker's number of the class */
    float    propensity;
    float    predicted_ms; /* -1 = none */
    float    found;        /* work that the others there had left, in mean requests of the pool; 0 = not known */
    double   start_ms, end_ms; /* monotonic; end 0 = not ended before the log phase */
    int32_t  kind;         /* -1 until judged; then the kind of docs/protocol.md */
    int32_t  status;
} weir_attempt_t;

enum { WEIR_MAX_ATTEMPTS = 8 };
typedef struct {
    uint32_t alive, alive_pad;   /* 1 while NGINX holds the request; a "semaphore", see above */
    weir_cleanup_t *count_cleanup, *alive_cleanup;
    double   began;        /* when NGINX began the request, as it tells */
    int32_t  n;            /* attempts recorded */
    int32_t  total;        /* attempts made; more than n only past WEIR_MAX_ATTEMPTS */
    int32_t  pass;         /* first attempt of the current pass: an internal redirect starts another */
    int32_t  begun;        /* attempts made before the current pass */
    int32_t  empty;        /* 1: the pool had no peer at all, 2: none to go to; 0 = else */
    double   weight;       /* hint, 0 = none */
    double   work;         /* units of progress.lua it counts as in shm.work; 0 = nowhere (any more) */
    int32_t  work_base, work_slot; /* there: of its row, and the peer's */
    uint32_t rated;        /* rate limits that have counted it, a bit each (rate.lua) */
    weir_count_t *cell;    /* where the request is counted; null = nowhere (any more) */
    double   look_ms;      /* when lookout.lua looks at it next */
    int32_t  stream;
    int32_t  granted;      /* NGINX was given one more try with the last attempt */
    int32_t  capped;       /* NGINX grants none any more: proxy_next_upstream_tries of the location */
    int32_t  whole;        /* of the answer's body (whole.lua): 0 = nobody looks, 1 = begun, 2 = it came to its end */
    int32_t  bound;        /* slot the client's cookie names; -1 none, -2 the pool gives no cookies */
    int32_t  shed;         /* why it was refused, as shed.lua has it; 0 = it was not */
    double   turn;         /* of the event loop, in which the access phase let it in: ngx.now(); 0 = it was not asked */
    weir_attempt_t attempt[WEIR_MAX_ATTEMPTS];
} weir_request_t;
]]

local MAX_ATTEMPTS = 8
local CHUNK = 256
local FIRST_LOOK_MS = 200
local request_p = ffi.typeof("void *")
local request_t = ffi.typeof("weir_request_t[?]")
local take_one_off = cast("void (*)(void *)", C.sem_trywait)
local NOTHING = cast("void (*)(void *)", 0)
local MAX_SLOTS = shm.MAX_SLOTS
local SPARE_BASE = (shm.MAX_ROWS - 1) * MAX_SLOTS -- of the row of workers that found none (workers.lua)

local FREE = -2

local _M = { MAX_ATTEMPTS = MAX_ATTEMPTS, FREE = FREE, BEGUN = 1, ENDED = 2 }

local chunks = {}   -- keeps the FFI arrays alive
local records = {}  -- id -> weir_request_t&
local free = {}     -- stack of ids
local nfree = 0
local by_request = {} -- request address -> id
local row_base = 0

-- The row that requests are counted in from now on. Those under way stay where they are.
function _M.init(row)
    row_base = row * MAX_SLOTS
end

local function grow()
    local chunk = request_t(CHUNK)
    local base = #records
    chunks[#chunks + 1] = chunk
    for i = CHUNK - 1, 0, -1 do
        records[base + i + 1] = chunk[i]
    end
    for i = CHUNK, 1, -1 do
        nfree = nfree + 1
        free[nfree] = base + i
    end
end

local function address(r)
    local n = tonumber(cast("uintptr_t", r)) -- a name of its own: a call that ends a function cannot always be compiled
    return n
end

-- The record of request r, which NGINX has not freed; nil when there is none.
function _M.find(r)
    local id = by_request[address(r)]
    local q = id and records[id]
    return q and q.alive == 1 and q or nil
end

-- Takes the work of a record's request off its peer: before its count goes, unless NGINX has given that back (in the log phase it has).
local function unload(q)
    if q.work > 0 then
        local slot = q.work_slot
        local n = shm.inflight(slot)
        if q.alive == 0 then
            n = n + 1
        end
        progress.take_off(q.work_base, slot, clock.now_ms(), n, q.work)
        q.work = 0
    end
end

local function drop(addr, id)
    unload(records[id])
    by_request[addr] = nil
    nfree = nfree + 1
    free[nfree] = id
end

-- In the log phase: the record of request r, which NGINX may have freed. One that is still there of a request that had no log phase of Weir's is
-- another's, whose memory serves r now: each takes its time, so it began before.
function _M.find_to_log(r)
    local addr = address(r)
    local id = by_request[addr]
    if not id then
        return nil
    end
    local q = records[id]
    if q.alive == 0 and q.began ~= C.weir_began(r) then
        drop(addr, id)
        return nil
    end
    return q
end

-- Calls look(r, q) for each request NGINX still holds whose time to be looked at has come. Records that NGINX freed without a
-- log phase (a subrequest whose main request was aborted) are dropped on the way.
function _M.each_due(now, look)
    for addr, id in pairs(by_request) do
        local q = records[id]
        if q.alive == 0 then
            drop(addr, id)
        elseif q.cell ~= nil and now >= q.look_ms then
            look(cast(request_p, cast("uintptr_t", addr)), q)
        end
    end
end

-- A record for request r, new or, on a further pass of the same request, the one it has.
function _M.open(r)
    local addr = address(r)
    local id = by_request[addr]
    if id then
        local q = records[id]
        if q.alive == 1 then
            return q
        end
        drop(addr, id) -- of a request that is gone; its memory serves another one now
    end
    if nfree == 0 then
        grow()
    end
    id = free[nfree]
    nfree = nfree - 1
    by_request[addr] = id
    local q = records[id]
    q.alive, q.n, q.total, q.pass, q.begun, q.empty, q.weight = 1, 0, 0, 0, 0, 0, 0
    q.count_cleanup, q.cell, q.work, q.began = nil, nil, 0, C.weir_began(r)
    q.look_ms, q.stream, q.granted, q.bound = 0, 0, 0, FREE
    q.shed, q.turn, q.rated, q.whole = 0, 0, 0, 0
    local c = C.ngx_http_cleanup_add(r, 0)
    if c == nil then -- out of memory; NGINX is about to fail the request
        q.alive_cleanup = nil
        return q
    end
    c.data = q
    c.handler = take_one_off
    q.alive_cleanup = c
    return q
end

local function take_off(q)
    local c = q.cell
    if c.n > 0 then
        c.n = c.n - 1
    elseif row_base ~= SPARE_BASE then -- where others write too, anything may be
        shm.head.underflow = shm.head.underflow + 1
    end
end

-- Counts a request that is in no cell in this one, until NGINX frees it. false when memory is out.
local function count_in(r, q, cell)
    local c = q.count_cleanup
    if c == nil then
        c = C.ngx_http_cleanup_add(r, 0)
        if c == nil then
            return false
        end
        q.count_cleanup = c
    end
    cell[0].n = cell[0].n + 1
    q.cell = cell
    c.data = cell
    c.handler = take_one_off
    return true
end

-- Starts an attempt on a slot: the request moves there from the peer it was on.
-- stream: it is expected to be one, and counted as such from the start. work: its own, in units of progress.lua; found: what is left of
-- the others', in mean requests. Both 0 in pools without sizes.
function _M.start(r, q, slot, class, now, inflight, flags, propensity, predicted_ms, stream, work, found)
    local cell = (stream and shm.streams or shm.count) + (row_base + slot)
    unload(q)
    if q.cell ~= nil then
        take_off(q)
    end
    if not count_in(r, q, cell) then
        return false
    end
    q.stream = stream and 1 or 0
    if work > 0 and not stream then
        progress.put(row_base, slot, now, shm.inflight(slot) - 1, work)
        q.work, q.work_base, q.work_slot = work, row_base, slot
    end
    q.look_ms = now + FIRST_LOOK_MS
    local n = q.n
    if n > 0 and q.attempt[n - 1].end_ms == 0 then
        q.attempt[n - 1].end_ms = now
    end
    if n == MAX_ATTEMPTS then
        n = n - 1 -- the last place is reused; total goes on
    end
    local a = q.attempt[n]
    a.slot, a.class, a.inflight, a.flags = slot, class, inflight, flags
    a.propensity, a.predicted_ms, a.found = propensity, predicted_ms, found
    a.start_ms, a.end_ms, a.kind, a.status = now, 0, -1, 0
    q.n = n + 1
    q.total = q.total + 1
    local p = shm.peer[slot]
    p.picks = p.picks + 1
    return true
end

-- Counts a request in a cell that is no peer's, until finish() or the first attempt.
function _M.hold(r, q, cell)
    if q.cell ~= nil or not count_in(r, q, cell) then
        return false -- it is at a peer already, or memory is out
    end
    q.look_ms = math.huge -- lookout.lua has nothing to see there
    return true
end

-- The peer is done with the request, though NGINX is not: it is off the peer's count from now on.
function _M.finish(q)
    unload(q)
    if q.cell ~= nil then
        take_off(q)
        q.cell = nil
        q.count_cleanup.handler = NOTHING
    end
end

-- The request turned out to be a stream: it is counted as one from now on.
function _M.to_stream(q)
    if q.cell == nil or q.stream == 1 then
        return
    end
    unload(q)
    take_off(q)
    local cell = shm.streams + (row_base + q.attempt[q.n - 1].slot)
    cell[0].n = cell[0].n + 1
    q.cell, q.stream = cell, 1
    q.count_cleanup.data = cell
end

-- Log phase: forgets the request. For a subrequest NGINX has not run the cleanups yet and will run them only when the
-- main request ends, so its count goes back here and the cleanups are disarmed.
function _M.close(r, q, is_subrequest)
    if is_subrequest and q.alive == 1 then
        _M.finish(q)
        if q.alive_cleanup ~= nil then
            q.alive_cleanup.handler = NOTHING
        end
    end
    local addr = address(r)
    drop(addr, by_request[addr])
end

-- A further pass through an upstream (internal redirect): the peer of the one before is done, attempts of earlier passes bar no peer and take away no try,
-- and what refused the request then says nothing of it now.
function _M.new_pass(q)
    if q.total > 0 then
        _M.finish(q) -- else the request would be in its own way where a peer has no room for two
    end
    q.pass = q.n < MAX_ATTEMPTS and q.n or MAX_ATTEMPTS - 1
    q.begun, q.shed, q.capped = q.total, 0, 0
end

-- For the status page: requests this worker is proxying.
function _M.open_requests()
    return #records - nfree
end

return _M
