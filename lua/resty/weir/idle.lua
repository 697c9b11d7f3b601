-- The idle race: a peer closes a kept-alive connection just when NGINX sends the next request on it. Nothing is wrong with the peer.
--
-- NGINX does not tell Lua whether a connection was reused. What a worker can tell: it had an exchange with that peer
-- before, then nothing for a while, and the connection broke at once, before any byte of an answer. Looking like that, but right
-- after another exchange, it is a peer that breaks connections, and counts as a reset.
local ffi = require "ffi"
local shm = require "resty.weir.shm"

local _M = {}

local IDLE_MS = 300    -- shorter keep-alive time-outs than that make no sense to run
local AT_ONCE_MS = 100

local last_ms = ffi.new("double[?]", shm.MAX_SLOTS) -- end of this worker's last exchange with the peer

function _M.exchanged(slot, now)
    last_ms[slot] = now
end

function _M.is_race(slot, start_ms, now)
    local last = last_ms[slot]
    last_ms[slot] = now
    return last > 0 and start_ms - last >= IDLE_MS and now - start_ms <= AT_ONCE_MS
end

return _M
