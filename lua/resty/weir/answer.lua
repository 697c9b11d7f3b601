-- Status and length of the answer of a request's only attempt, from NGINX's own record of it (r->upstream_states).
--
-- For the two variables NGINX prints numbers that are then read back: a third of the log phase. The record has
-- been the same since NGINX 1.11; where the request keeps it depends on how NGINX was built. So each worker finds out: it compares what lies in
-- the likely places with what the variables say, for some plain answers, and goes on reading the variables where anything differs. It
-- looks there through process_vm_readv(2) on itself, which fails instead of crashing on an address that is none.
local ffi = require "ffi"

local C = ffi.C
local cast = ffi.cast
local ipairs, pcall, tonumber = ipairs, pcall, tonumber

ffi.cdef [[
typedef struct { void *elts; size_t nelts, size, nalloc; void *pool; } weir_array_t;   /* ngx_array_t */
typedef struct {                                                                       /* ngx_http_upstream_state_t */
    size_t status, response_time, connect_time, header_time, queue_time;
    int64_t response_length;
} weir_state_t;
typedef struct { void *base; size_t len; } weir_iovec_t;
long process_vm_readv(int pid, const weir_iovec_t *into, unsigned long n_into, const weir_iovec_t *from, unsigned long n_from, unsigned long flags);
int getpid(void);
]]

local fields_p = ffi.typeof("void **")
local array_pp, state_p = ffi.typeof("weir_array_t **"), ffi.typeof("weir_state_t *")

-- Fields of ngx_http_request_t before upstream_states, in pointers: with and without NGX_HTTP_CACHE. The request's pool comes next, and the
-- array was made in it.
local PLACES = { 10, 9 }
local ENOUGH = 32 -- answers that must agree

local _M = {}

local place -- known
local doubtful = not ffi.abi("64bit")
local agreed = { 0, 0 }

local array, state = ffi.new("weir_array_t[1]"), ffi.new("weir_state_t[1]")
local into, from = ffi.new("weir_iovec_t[1]"), ffi.new("weir_iovec_t[1]")

local function peek(what, at, size)
    into[0].base, into[0].len, from[0].base, from[0].len = what, size, at, size
    local ok, n = pcall(C.process_vm_readv, C.getpid(), into, 1, from, 1, 0)
    return ok and tonumber(n) == size
end

local function agrees(r, at, status, length)
    local fields = cast(fields_p, r)
    if fields[at] == nil or not peek(array, fields[at], ffi.sizeof(array)) then
        return false
    end
    local a = array[0]
    return a.nelts == 1 and a.nalloc >= 1 and a.size >= ffi.sizeof(state) and a.size <= 512 and a.pool == fields[at + 1]
        and peek(state, a.elts, ffi.sizeof(state)) and state[0].status == status and state[0].response_length == length
end

-- What the variables say of a plain answer to r. Counts what agrees.
function _M.compare(r, status, length)
    if place or doubtful then
        return
    end
    doubtful = true
    for i, at in ipairs(PLACES) do
        agreed[i] = agreed[i] and agrees(r, at, status, length) and agreed[i] + 1
        if agreed[i] then
            doubtful = false
            place = agreed[i] >= ENOUGH and at or place
        end
    end
end

-- Status and length; nil where there is not exactly one attempt, or the place is not known (yet).
function _M.of(r)
    if not place then
        return nil
    end
    local states = cast(array_pp, r)[place]
    if states == nil or states.nelts ~= 1 then
        return nil
    end
    local s = cast(state_p, states.elts)
    local status, length = tonumber(s.status), tonumber(s.response_length)
    return status, length
end

function _M.known()
    return place ~= nil
end

return _M
