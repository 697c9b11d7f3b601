-- Load reports in the answers of peers: the headers are looked for in the log phase and read by orca.lua. The request is never touched.
--
-- Looking for a header that is not there is a search through all headers of the answer, twice, some 0.1 us. So a peer that sends none is
-- looked at in one of 16 answers only. One that does costs a request of NGINX's two fifths more (bench/README.md), so what it said counts for the
-- answers of the next FRESH_MS too, in which no queue that matters changes much.
local ffi = require "ffi"
local shm = require "resty.weir.shm"
local vars = require "resty.weir.vars"
local orca = require "resty.weir.orca"
local slots = require "resty.weir.slots"
local pools = require "resty.weir.pools"
local notice = require "resty.weir.notice"
local refused = require "resty.weir.refused"

local read, ffi_string = vars.read, ffi.string

local HEADER, HEADER_BIN = vars.named("upstream_http_endpoint_load_metrics"), vars.named("upstream_http_endpoint_load_metrics_bin")
local MOST_SKIPPED = 15
local FRESH_MS = 2

-- By slot: how many answers are not looked at after one without a report, and how many of these are left.
local skip, left = ffi.new("uint8_t[?]", shm.MAX_SLOTS), ffi.new("uint8_t[?]", shm.MAX_SLOTS)

-- By slot: until when (monotonic ms) the last report is fresh, and what it was.
local fresh_until, last_use, last_held = ffi.new("double[?]", shm.MAX_SLOTS), ffi.new("double[?]", shm.MAX_SLOTS), ffi.new("double[?]", shm.MAX_SLOTS)

local _M = {}

local function refuse(slot, why, value)
    local info = slots.info(slot)
    refused.count(info.pool, why)
    notice.warn("load report of peer " .. info.addr .. " not used: " .. orca.WHY[why] .. ": \""
        .. value:sub(1, 100):gsub("[^\32-\126]", "?") .. "\"", "load report " .. why)
end

-- Utilisation the peer in a slot reported with its answer to request r, or just before, -1 = none; and the requests it held, + 1, 0 = none.
function _M.take(r, slot, now)
    if now < fresh_until[slot] then
        return last_use[slot], last_held[slot]
    end
    if left[slot] > 0 then
        left[slot] = left[slot] - 1
        return -1, 0
    end
    local info = slots.info(slot)
    local view = info and pools.get(info.pool)
    if not (view and view.load_report) then -- turned off: asked again with the 16th answer
        left[slot] = MOST_SKIPPED
        return -1, 0
    end
    local is_bin = true
    local bytes, len = read(r, HEADER_BIN)
    if len == 0 then
        is_bin = false
        bytes, len = read(r, HEADER)
        if len == 0 then
            local n = skip[slot]
            n = n < MOST_SKIPPED and 2 * n + 1 or n
            skip[slot], left[slot] = n, n
            return -1, 0
        end
    end
    skip[slot] = 0
    local value = ffi_string(bytes, len)
    local use, held = orca.parse(value, is_bin)
    if not use then
        refuse(slot, held, value)
        return -1, 0
    end
    fresh_until[slot], last_use[slot], last_held[slot] = now + FRESH_MS, use, held + 1
    return use, held + 1
end

return _M
