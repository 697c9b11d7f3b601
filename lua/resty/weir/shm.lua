-- The memory all workers of one NGINX share: live in-flight counts and what was seen of each peer.
--
-- Why not lua_shared_dict: a pick reads every peer's count. Ten dict reads under a mutex cost more than the
-- rest of the pick together; ten loads from a shared mapping cost nanoseconds. The mapping is anonymous and made
-- in init_by_lua, that is in the master before it forks, so every worker has it at one address. Its address is kept
-- in the shared dict "weir", which NGINX carries over a reload: the new workers then find the counts of the
-- connections that old workers still hold. A binary upgrade (USR2) starts a new master with a new mapping, and a reload with another size of the
-- dict, which NGINX then makes anew, another one in the same master: the connections of the old workers are not counted by the new ones. Only the
-- engine adds them up (head.generation).
--
-- Who writes what:
--   count[row][slot]      only the worker that owns the row; so no atomics are needed, and the row of a killed
--   streams[row][slot]    worker can be wiped as a whole. Readers sum over rows. Streams (WebSocket, server-sent events) are
--                         counted apart once they are known as such: they hold a connection, not a place in the peer's queue.
--   work[row][slot]       the same worker: how much work the requests counted there are (sizes.lua), in pools whose requests tell. Each record
--                         of a request takes off what it put on (attempts.lua), whole numbers both.
--   progress[slot]        any worker: how much of that work is done (progress.lua). A race of two loses one's step, some microseconds of work, and a
--                         request that ends takes its part away by what is there then; rate and knee all workers copy from one table.
--                         Apart from peer[], so that what each pick reads stays close together in pools that have no sizes.
--   peer[slot]            any worker. Races lose at most an increment of a failure counter, never a count.
--   head                  nrows: by whoever claims a row; heard_ms, change: by the elected worker.
local ffi = require "ffi"

local C = ffi.C
local tonumber = tonumber

ffi.cdef [[
typedef struct {
    uint32_t magic;
    uint32_t nrows;        /* rows in use: 0 .. nrows-1 may hold counts */
    uint32_t change;       /* goes up when any pool's table or peers changed */
    uint32_t underflow;    /* times a count would have gone below 0; must stay 0 */
    double   heard_ms;     /* monotonic time of the engine's last answer, 0 = never */
    uint32_t generation;   /* when it was made (Unix time), where the same NGINX may yet have requests in another one; else 0 */
} weir_head_t;

typedef struct {           /* evidence of this NGINX about one peer */
    double   aside_ms;     /* set aside until then (monotonic); 0 = not */
    double   trial_ms;     /* after that time has passed one request tries it; the others wait until then */
    double   backoff_ms;   /* length of the last setting aside */
    double   last_ms;      /* when the last setting aside ended or will end */
    uint32_t fails;        /* consecutive failures */
    uint32_t unreachable;  /* it was set aside because no connection could be made */
    uint32_t picks;        /* for the status page; may lose an increment */
} weir_peer_t;

typedef struct {           /* of the work in flight on a peer */
    double   done;         /* units of progress.lua, as of done_ms */
    double   done_ms;      /* monotonic */
    double   rate;         /* units that one slot of the peer finishes in a ms */
    double   knee;         /* its slots, at least 1; 0 = no table has told yet */
} weir_progress_t;

/* n is what sem_trywait(3) takes for the value of a semaphore (glibc and musl keep it in the first 32 bits);
   see attempts.lua for why. */
typedef struct { uint32_t n; uint32_t pad; } weir_count_t;

void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
int sem_trywait(void *sem);
int setenv(const char *name, const char *value, int overwrite);
]]

local MAGIC = 0x57454952 + 4 -- layout version in the last digit
local MAX_ROWS = 256         -- workers alive at once, old generations included
local MAX_SLOTS = 8192       -- peers over all pools, leaving ones included

local HEAD_BYTES = 4096
local PEERS_BYTES = MAX_SLOTS * ffi.sizeof("weir_peer_t")
local PROGRESS_BYTES = MAX_SLOTS * ffi.sizeof("weir_progress_t")
local ROW_BYTES = MAX_SLOTS * ffi.sizeof("weir_count_t")
local TOTAL_BYTES = HEAD_BYTES + PEERS_BYTES + PROGRESS_BYTES + 3 * MAX_ROWS * ROW_BYTES -- touched lazily: a small set-up uses a few pages

local PROT_READ_WRITE = 3
local MAP_SHARED_ANON = ffi.os == "OSX" and 0x1001 or 0x21

local _M = { MAX_ROWS = MAX_ROWS, MAX_SLOTS = MAX_SLOTS }

-- sem_trywait is used as "atomically take 1 off, but never below 0". It is documented for semaphores only, so
-- prove at start that it does just that to our cell and nothing to the cells beside it.
local function selftest(cell)
    cell[0].n, cell[1].n, cell[2].n = 7, 1, 7
    local first = C.sem_trywait(cell + 1)
    local second = C.sem_trywait(cell + 1)
    local ok = first == 0 and second == -1 and cell[0].n == 7 and cell[1].n == 0 and cell[2].n == 7
        and cell[0].pad == 0 and cell[1].pad == 0 and cell[2].pad == 0
    cell[0].n, cell[1].n, cell[2].n = 0, 0, 0
    return ok
end

-- Where this NGINX has another memory, of workers that may still run, a number that none of its memories has; else 0. The new master of an upgrade is given
-- its sockets in the environment, and in that a master remembers which one it made last.
local MADE = "WEIR_SHM_GENERATION"
local function next_generation()
    local last = tonumber(os.getenv(MADE))
    local n = (last or os.getenv("NGINX")) and math.max(os.time(), (last or 0) + 1) or 0
    C.setenv(MADE, tostring(n), 1)
    return n
end

-- Called in init_by_lua (master). Returns true, or nil and what is wrong.
function _M.attach(dict)
    local addr = dict:get("shm")
    local base
    if addr then
        base = ffi.cast("char *", addr)
    else
        local p = C.mmap(nil, TOTAL_BYTES, PROT_READ_WRITE, MAP_SHARED_ANON, -1, 0)
        if p == ffi.cast("void *", -1) then
            return nil, "mmap of " .. TOTAL_BYTES .. " bytes of shared memory failed, errno " .. ffi.errno()
        end
        base = ffi.cast("char *", p)
        addr = tonumber(ffi.cast("uintptr_t", p))
        local ok, err = dict:safe_set("shm", addr)
        if not ok then
            return nil, "shared dict weir: " .. err
        end
    end
    local head = ffi.cast("weir_head_t *", base)
    local count = ffi.cast("weir_count_t *", base + HEAD_BYTES + PEERS_BYTES + PROGRESS_BYTES)
    if head.magic == 0 then
        -- the last row is never given to a worker; it serves the test
        if not selftest(count + (MAX_ROWS - 1) * MAX_SLOTS) then
            return nil, "sem_trywait of this C library does not count as expected"
        end
        head.generation = next_generation()
        head.magic = MAGIC
    elseif head.magic ~= MAGIC then
        return nil, "shared memory has layout " .. head.magic .. ", this version needs " .. MAGIC
            .. ": restart NGINX instead of reloading it"
    end
    _M.head = head
    _M.peer = ffi.cast("weir_peer_t *", base + HEAD_BYTES)
    _M.progress = ffi.cast("weir_progress_t *", base + HEAD_BYTES + PEERS_BYTES)
    _M.count = count
    _M.streams = count + MAX_ROWS * MAX_SLOTS
    _M.work = ffi.cast("double *", count + 2 * MAX_ROWS * MAX_SLOTS)
    return true
end

-- Adds to a number in the shared dict, and makes it, from `first` on, where there is none. incr() with a first value would, in a full dict, throw
-- out what was not read for longest: the address of this memory, who has which slot. Returns nil, err where there is no room.
function _M.add(dict, key, by, first)
    local n, err = dict:incr(key, by)
    if not n and err == "not found" then
        local ok, why = dict:safe_add(key, first or 0)
        if not ok and why ~= "exists" then
            return nil, why
        end
        n, err = dict:incr(key, by)
    end
    return n, err
end

local function over_rows(count, slot)
    local sum = 0
    for row = 0, _M.head.nrows - 1 do
        sum = sum + count[row * MAX_SLOTS + slot].n
    end
    return sum
end

-- In-flight requests on the peer in a slot, over all workers, without streams.
function _M.inflight(slot)
    return over_rows(_M.count, slot)
end

function _M.inflight_streams(slot)
    return over_rows(_M.streams, slot)
end

-- Work of the in-flight requests on the peer, in units of progress.lua.
function _M.held_work(slot)
    local sum = 0
    for row = 0, _M.head.nrows - 1 do
        sum = sum + _M.work[row * MAX_SLOTS + slot]
    end
    return sum
end

-- Drops the evidence about a peer: another one has its slot now, or it came back as a new one.
function _M.forget(slot)
    local p = _M.peer[slot]
    p.aside_ms, p.trial_ms, p.backoff_ms, p.last_ms, p.fails, p.unreachable = 0, 0, 0, 0, 0, 0
    _M.progress[slot].done = 0 -- not done_ms: as of 0 all would be done. Rate and knee come with the table that has the peer again.
end

-- Drops every count of one row: its worker is dead, so are its connections.
function _M.wipe(row)
    ffi.fill(_M.count + row * MAX_SLOTS, ROW_BYTES)
    ffi.fill(_M.streams + row * MAX_SLOTS, ROW_BYTES)
    ffi.fill(_M.work + row * MAX_SLOTS, ROW_BYTES)
end

function _M.row_total(row)
    local count, streams, sum = _M.count, _M.streams, 0
    for i = row * MAX_SLOTS, (row + 1) * MAX_SLOTS - 1 do
        sum = sum + count[i].n + streams[i].n
    end
    return sum
end

return _M
