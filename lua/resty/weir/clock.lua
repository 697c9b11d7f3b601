-- Monotonic milliseconds with sub-microsecond resolution. ngx.now() is the event loop's cached wall clock:
-- 1 ms steps, and it jumps when the clock is set. All workers of a host see the same monotonic clock.
local ffi = require "ffi"

local C = ffi.C
local tonumber = tonumber

ffi.cdef [[
typedef struct { int64_t sec; int64_t nsec; } weir_timespec_t;
int clock_gettime(int id, weir_timespec_t *ts);
]]

local CLOCK_MONOTONIC = ffi.os == "OSX" and 6 or 1
local ts = ffi.new("weir_timespec_t[1]")

local function now_ms()
    C.clock_gettime(CLOCK_MONOTONIC, ts)
    return tonumber(ts[0].sec) * 1000 + tonumber(ts[0].nsec) * 1e-6
end

return { now_ms = now_ms }
