-- access_by_lua, where the operator wants it: refuses a request before its body is read when its pool is over its limit, and has it wait a
-- little while every peer is full. Without this the balancer refuses by the same rules, at once.
--
-- A request that waits holds nothing but its place among those that may: it is counted in a cell of this worker's, which NGINX gives back
-- as it gives back in-flight counts (attempts.lua), so a client that leaves cannot keep the place. Who waits looks again each few ms, since
-- the room may be made by any worker; so the order is nearly, not exactly, that of arrival.
local ffi = require "ffi"
local base = require "resty.core.base"
local shm = require "resty.weir.shm"
local shed = require "resty.weir.shed"
local clock = require "resty.weir.clock"
local pools = require "resty.weir.pools"
local attempts = require "resty.weir.attempts"

local ngx = ngx
local get_request = base.get_request
local now_ms, sleep, worker_count = clock.now_ms, ngx.sleep, ngx.worker.count
local ceil = math.ceil

local _M = {}

local LOOK_S = 0.002

local queues = {} -- pool -> cell that counts those that wait in this worker

local function refuse(r, name, reason)
    attempts.open(r).shed = reason
    shed.count(name, reason)
    ngx.header["Retry-After"] = "1"
    ngx.header["Cache-Control"] = "no-store"
    return ngx.exit(503) -- no page of ours: an error_page may stand in for it
end

-- Is a usable peer below its cap? Without any usable peer the balancer decides.
local function room(view, now)
    local any = false
    for i = 0, view.n - 1 do
        local s = view.slot[i]
        local p = shm.peer[s]
        if view.usable[i] == 1 and p.aside_ms <= now and p.trial_ms <= now then
            if shm.inflight(s) < view.cap[i] then
                return true
            end
            any = true
        end
    end
    return not any
end

-- Waits for room; false when there was none in time, or too many wait already.
local function wait(r, name, view)
    local q = queues[name]
    if not q then
        q = ffi.new("weir_count_t[1]")
        queues[name] = q
    end
    if q[0].n >= ceil(view.queue_max / worker_count()) then
        return false
    end
    local record = attempts.open(r)
    if not attempts.hold(r, record, q) then
        return false
    end
    local now = now_ms()
    local until_ms = now + view.queue_ms
    local found = false
    while not found and now < until_ms do
        sleep(q[0].n > 20 and 2 * LOOK_S or LOOK_S)
        view, now = pools.get(name), now_ms()
        found = not view.cap or room(view, now)
    end
    attempts.finish(record)
    return found
end

-- Requests of pool `name` that wait in this worker.
function _M.waiting(name)
    local q = queues[name]
    return q and q[0].n or 0
end

function _M.admit(name)
    local view = pools.get(name)
    if not view.limit and not view.cap then
        return
    end
    local r, now = get_request(), now_ms()
    local q = attempts.open(r)
    if q.total > 0 then
        attempts.finish(q) -- by an internal redirect from a peer, which is done
    end
    if view.limit then
        local reason = shed.over(view, r, now)
        if reason then
            return refuse(r, name, reason)
        end
    end
    if view.cap and not room(view, now) and not wait(r, name, view) then
        return refuse(r, name, shed.FULL)
    end
    q.turn = ngx.now()
end

return _M
