-- What an operator can look at: the state of this NGINX as JSON, and the page for a pool that has no peer to offer.
local cjson = require "cjson.safe"
local base = require "resty.core.base"
local shm = require "resty.weir.shm"
local shed = require "resty.weir.shed"
local rate = require "resty.weir.rate"
local progress = require "resty.weir.progress"
local clock = require "resty.weir.clock"
local pools = require "resty.weir.pools"
local workers = require "resty.weir.workers"
local attempts = require "resty.weir.attempts"
local classes = require "resty.weir.classes"
local observe = require "resty.weir.observe"
local notice = require "resty.weir.notice"
local cookie = require "resty.weir.cookie"
local outcome = require "resty.weir.outcome"

local _M = {}

local EMPTY = "\0[]" -- not every lua-cjson can write an empty list

local dict

function _M.init(d)
    dict = d
end

local function round(x)
    return math.floor(x + 0.5)
end

local function pool_status(view, now)
    local peers = {}
    for i = 0, view.n - 1 do
        local s = view.slot[i]
        local p = shm.peer[s]
        peers[#peers + 1] = {
            addr = view.addr[i], state = view.state[i], usable = view.usable[i] == 1, admit = view.admit[i], weight = view.told_weight[i],
            tier = view.tiers and view.tiers.tier[i] or 0,
            inflight = shm.inflight(s) + shm.inflight_streams(s), streams = shm.inflight_streams(s), picks = p.picks, fails = p.fails,
            max_inflight = view.cap and view.cap[i] < 0x7fffffff and view.cap[i] or nil,
            work = shm.held_work(s) / progress.UNIT, -- of these, in mean requests of the pool; 0 in pools without sizes
            left = view.sized and progress.left(s, now, shm.inflight(s), view.known[i]) / progress.UNIT or nil, -- of that, as the picks take it
            set_aside_ms = p.aside_ms > now and round(p.aside_ms - now) or 0,
        }
    end
    local heard = shm.head.heard_ms
    local engine = "none"
    if heard > 0 and not view.static then
        engine = now - heard <= view.max_stale_ms and "connected" or "stale"
    end
    local refused, shed_by = shed.counts(view.name), nil
    for i, word in ipairs(shed.REASONS) do
        if refused[i] > 0 then
            shed_by = shed_by or {}
            shed_by[word] = refused[i]
        end
    end
    return { engine = engine, limit = view.limit and view.limit.max, rates = rate.of(view.name), shed = shed_by,
        policy = view.policy, version = dict:get("v:" .. view.name) or 0,
        affinity = view.affinity and view.affinity.by, classes = view.classes, peers = #peers > 0 and peers or EMPTY }
end

-- All that this NGINX knows, for `location = /weir-status`. In-flight counts are over all workers; records and errors are of the
-- worker that answers.
function _M.table()
    local now = clock.now_ms()
    local out = { pools = {}, workers = workers.list(), underflow = shm.head.underflow, errors = notice.counts,
        worker = { pid = ngx.worker.pid(), open_requests = attempts.open_requests(),
            classes = classes.count(), records = { buffered = observe.waiting(), sent = observe.sent, dropped = observe.dropped } } }
    local heard = shm.head.heard_ms
    out.affinity_secret = cookie.source -- where it is from, never what it is
    out.engine = { heard_ms_ago = heard > 0 and round(now - heard) or cjson.null, error = dict:get("engine_error") }
    local leader = dict:get("leader")
    out.leader = leader and tonumber(leader:match("^%d+")) or cjson.null
    for _, key in ipairs(dict:get_keys(0)) do -- pools that this worker has not served yet: the engine's, and those another worker has served
        local name = key:match("^[vt]:(.*)$")
        if name and not pools.all()[name] then
            pools.get(name, dict:get("t:" .. name))
        end
    end
    for name in pairs(pools.all()) do
        out.pools[name] = pool_status(pools.get(name), now)
    end
    return out
end

function _M.serve()
    ngx.header["Content-Type"] = "application/json"
    ngx.header["Cache-Control"] = "no-store"
    ngx.say((cjson.encode(_M.table()):gsub('"\\u0000%[%]"', "[]")))
end

local PAGE = [[<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>%s</title></head>
<body><h1>%s</h1><p>%s</p></body></html>
]]

local function page(code, title, text)
    ngx.status = code
    ngx.header["Content-Type"] = "text/html; charset=utf-8"
    ngx.header["Cache-Control"] = "no-store"
    if ngx.req.get_method() ~= "HEAD" then
        ngx.print(PAGE:format(title, title, text))
    end
    return ngx.exit(code)
end

-- A request that the balancer did not let in, without admit().
local function refuse()
    ngx.header["Retry-After"] = "1"
    return page(503, "503 Service Unavailable", "The service has more requests than it can serve at the moment. Please try again later.")
end

-- Was the last attempt a time-out behind which the balancer began no other? NGINX has 502 for that then.
local function timed_out(q)
    local kind = q and q.n > q.pass and q.attempt[q.n - 1].kind
    return kind == outcome.TIMEOUT or kind == outcome.CONNECT_TIMEOUT
end

-- For the named location of server.conf, which NGINX enters with its own 502 and 504. A pool without peers is 503: the service is not
-- there, as opposed to there and failing.
function _M.unavailable()
    if ngx.headers_sent then
        return -- by post_action: the client has been served
    end
    local q = attempts.find(base.get_request())
    local code, title, text = 502, "502 Bad Gateway", "The service did not give a usable answer. Please try again."
    if q and q.shed > 0 and q.total == q.begun then
        return refuse()
    elseif q and q.empty == 1 then
        code, title = 503, "503 Service Unavailable"
        text = "No server is registered for this service at the moment. Please try again later."
        ngx.header["Retry-After"] = "5"
    elseif timed_out(q) or tostring(ngx.var.upstream_status or ""):match("(%d+)[^%d]*$") == "504" then
        code, title, text = 504, "504 Gateway Time-out", "The service did not answer in time. Please try again."
    end
    return page(code, title, text)
end

return _M
