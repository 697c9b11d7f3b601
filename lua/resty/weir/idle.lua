-- The idle race: a peer closes a kept-alive connection just when NGINX sends the next request on it. Nothing is wrong with the peer.
--
-- NGINX does not tell Lua whether a connection was reused. What a worker can tell: it had exchanges with that peer before, then none for a
-- while, and the connection broke at once, before any byte of an answer. Several pooled connections may go that way
-- together when traffic comes back, so breaks are believed to be races for TOGETHER_MS after a pause. Looking like that without a
-- pause before, it is a peer that breaks connections, and counts as a reset; and that it answers nothing after that is no pause.
local ffi = require "ffi"
local shm = require "resty.weir.shm"

local _M = {}

local IDLE_MS = 300    -- shorter keep-alive time-outs than that make no sense to run
local AT_ONCE_MS = 100
local TOGETHER_MS = 1000

local last_ms = ffi.new("double[?]", shm.MAX_SLOTS)  -- end of this worker's last exchange with the peer; 0 = none yet
local pause_ms = ffi.new("double[?]", shm.MAX_SLOTS) -- when traffic came back after the last pause
local broke_ms = ffi.new("double[?]", shm.MAX_SLOTS) -- when it last broke one of a request that came soon after an answer

-- An attempt that began at start_ms was answered at now.
function _M.exchanged(slot, start_ms, now)
    if start_ms - last_ms[slot] >= IDLE_MS then
        pause_ms[slot] = start_ms
    end
    last_ms[slot] = now
end

-- Is a reset of an attempt that began at start_ms, and of which no byte came back, a race?
function _M.is_race(slot, start_ms, now)
    local last = last_ms[slot]
    if last == 0 or now - start_ms > AT_ONCE_MS then
        return false
    end
    if start_ms - last < IDLE_MS then
        broke_ms[slot] = now
    elseif start_ms - pause_ms[slot] > TOGETHER_MS and pause_ms[slot] <= last and broke_ms[slot] <= last then
        pause_ms[slot] = start_ms
    end
    return pause_ms[slot] > 0 and start_ms - pause_ms[slot] <= TOGETHER_MS
end

return _M
