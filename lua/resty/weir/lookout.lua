-- Looks, from a timer, at requests that have been under way for a while, for two things that NGINX has no Lua hook for:
--
--   * The peer has sent all of its answer, but a slow client is still reading it from NGINX's buffers, or NGINX lingers to drain an upload.
--     The peer is free, so the request must not count as in flight there. So it is when a server of no pool took the request over, by an error page or
--     X-Accel-Redirect.
--   * The request has become a stream (an upgraded connection, server-sent events, gRPC): from its header on it holds a connection of the peer,
--     not a place in its queue. Counted as plain requests, twenty idle WebSockets would make a peer look overloaded.
--
-- A request is first looked at 200 ms after its attempt began, then each time its age has doubled: what is short is never
-- looked at, and a connection that lasts a day is looked at 19 times. NGINX's variables are read with the request given, since
-- a timer has no request at hand; the record's "alive" says that the request's memory is still there (attempts.lua).
local attempts = require "resty.weir.attempts"
local classes = require "resty.weir.classes"
local clock = require "resty.weir.clock"
local outcome = require "resty.weir.outcome"
local notice = require "resty.weir.notice"
local slots = require "resty.weir.slots"
local vars = require "resty.weir.vars"
local workers = require "resty.weir.workers"

local pcall, variable = pcall, vars.text

local _M = {}

local INTERVAL_S = 0.2

local now

local function look(r, q)
    local a = q.attempt[q.n - 1]
    q.look_ms = now + (now - a.start_ms)
    local done = outcome.last(variable(r, "upstream_response_time"))
    if done and done ~= "-" or outcome.passed_on(variable(r, "upstream_addr"), slots.info(a.slot)) then
        attempts.finish(q)
        return
    end
    if q.stream == 1 then
        return
    end
    local header = outcome.last(variable(r, "upstream_header_time"))
    if header and header ~= "-"
        and outcome.is_stream(outcome.last(variable(r, "upstream_status")), variable(r, "upstream_http_content_type")) then
        attempts.to_stream(q)
        classes.mark_stream(a.class)
    end
end

local function tick()
    workers.stay_in_sight()
    now = clock.now_ms()
    local ok, err = pcall(attempts.each_due, now, look)
    if not ok then
        notice.error("requests under way could not be looked at: " .. err)
    end
end

function _M.start()
    return ngx.timer.every(INTERVAL_S, tick)
end

return _M
