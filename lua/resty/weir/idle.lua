-- The idle race: a peer closes a kept-alive connection just when NGINX sends the next request on it. Nothing is wrong with the peer.
--
-- NGINX does not tell Lua whether a connection was reused. What a worker can tell: it had an exchange with that peer
-- before, then nothing for a while, and the connection broke at once, before any byte of an answer. Several pooled connections may
-- go that way together. Looking like that, but right after another exchange, or again and again without one, it is a peer that
-- breaks connections, and counts as a reset.
local ffi = require "ffi"
local shm = require "resty.weir.shm"

local _M = {}

local IDLE_MS = 300    -- shorter keep-alive time-outs than that make no sense to run
local AT_ONCE_MS = 100
local TOGETHER_MS = 1000 -- races since the last exchange are believed for so long

local last_ms = ffi.new("double[?]", shm.MAX_SLOTS) -- end of this worker's last exchange with the peer
local first_ms = ffi.new("double[?]", shm.MAX_SLOTS) -- the first race since then; 0 = none

function _M.exchanged(slot, now)
    last_ms[slot], first_ms[slot] = now, 0
end

function _M.is_race(slot, start_ms, now)
    local last = last_ms[slot]
    if last == 0 or start_ms - last < IDLE_MS or now - start_ms > AT_ONCE_MS then
        return false
    end
    if first_ms[slot] == 0 then
        first_ms[slot] = now
    end
    return now - first_ms[slot] <= TOGETHER_MS
end

return _M
