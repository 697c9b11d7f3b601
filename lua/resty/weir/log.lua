-- log_by_lua: the outcome of every attempt of the request goes to the ring of observe.lua, and to the evidence all workers share.
local base = require "resty.core.base"
local shm = require "resty.weir.shm"
local clock = require "resty.weir.clock"
local pools = require "resty.weir.pools"
local slots = require "resty.weir.slots"
local attempts = require "resty.weir.attempts"
local classes = require "resty.weir.classes"
local answer = require "resty.weir.answer"
local variables = require "resty.weir.variables"
local vars = require "resty.weir.vars"
local shed = require "resty.weir.shed"
local evidence = require "resty.weir.evidence"
local outcome = require "resty.weir.outcome"
local observe = require "resty.weir.observe"
local notice = require "resty.weir.notice"
local idle = require "resty.weir.idle"
local report = require "resty.weir.report"

local ngx = ngx
local get_request = base.get_request
local now_ms = clock.now_ms
local get_method = ngx.req.get_method
local read, number, same = vars.read, vars.number, vars.same
local answer_of, compare = answer.of, answer.compare
local UPSTREAM_STATUS, REQUEST_COMPLETION = vars.named("upstream_status"), vars.named("request_completion")
local RESPONSE_LENGTH, SENT_LENGTH = vars.named("upstream_response_length"), vars.named("sent_http_content_length")
local ANNOUNCED_LENGTH, CONTENT_TYPE = vars.named("upstream_http_content_length"), vars.named("upstream_http_content_type")
local CACHE_STATUS, S = vars.named("upstream_cache_status"), ("S"):byte()
local GRPC = require("ffi").new("char[17]", "application/grpc")
local tonumber = tonumber
local band = require("bit").band

local OK, RESET, STATUS, ABORT, IDLE_RACE = outcome.OK, outcome.RESET, outcome.STATUS, outcome.ABORT, outcome.IDLE_RACE
local is_grpc = classes.is_grpc
local BEGUN = attempts.BEGUN
local STREAM = 4 -- flag

-- NGINX rounds its own times to milliseconds; ours are exact but run until the client has the answer. Up to here the client
-- cannot have made much of a difference, and reading NGINX's variables would cost more than the rest of this phase.
local TRUST_OWN_MS = 20

local DIGIT = {}
for i = 1, 99 do
    DIGIT[i] = tostring(i)
end

local _M = {}

local function push(q, i, a, kind, status, flags, header_ms, total_ms, now, bytes, load, reported)
    observe.push(a.slot, a.class, i + 1, kind, status, a.flags + flags, a.inflight, a.propensity, header_ms, total_ms, q.weight,
        a.predicted_ms, now, bytes, load, reported, a.found)
end

local KEPT_MS = 1000 -- a slot stays for half a minute at the least (slots.lua)

-- The peer of an attempt; nil for one that is gone. A request whose peer is done holds no slot, and a slow client may read on until that of a peer that
-- left is nobody's, or another's.
local function peer_of(a, now)
    local info = slots.info(a.slot)
    if info and now - a.start_ms > KEPT_MS and not outcome.element({ addr = outcome.split(ngx.var.upstream_addr) }, info.addr, 1) then
        return nil
    end
    return info
end

local function note_failure(a, kind, now)
    local info = slots.info(a.slot)
    local view = info and pools.get(info.pool)
    if view and evidence.failure(view, a.slot, kind, a.start_ms, now) then
        notice.warn("peer " .. info.addr .. " of pool \"" .. info.pool .. "\" set aside for " .. shm.peer[a.slot].backoff_ms
            .. " ms: " .. outcome.NAME[kind], "aside " .. info.pool .. info.addr)
    end
end

local function is_stream(status, rest_ms)
    return outcome.is_stream(status, ngx.var.upstream_http_content_type, rest_ms)
end

-- A report is of the time of the header: past that the news is old.
local REPORT_MS = 1000

-- May the headers at hand be those of a copy in NGINX's cache? A 304 renews one, and proxy_cache_use_stale has one in place of a failure, a 403 or a 404.
local function are_of_cache(r, status)
    if status < 300 or status == 304 then
        return status == 304
    end
    local state, len = read(r, CACHE_STATUS)
    return len > 0 and state[0] == S -- STALE; no other begins so
end

-- Utilisation and requests held, + 1, that came with the answer to attempt i; -1, 0 = none. Only the last attempt's headers are there, and
-- only while no other upstream than Weir's took its place.
local function reported(r, q, i, e, lists, status, header_ms, total_ms, now)
    if i ~= q.n - 1 or not e or e ~= #lists.addr or header_ms < 0 or total_ms - header_ms > REPORT_MS or are_of_cache(r, status) then
        return -1, 0
    end
    return report.take(r, q.attempt[i].slot, now)
end

-- Everything but one plain quick answer: retries, failures, streams, gRPC, aborts, slow answers, redirects through other upstreams. Returns
-- how long the last answer went on after its header.
local function in_full(r, q, now, is_subrequest)
    local rest_ms
    local lists = outcome.lists()
    local addrs = ngx.var.upstream_addr
    local from = 1
    local aborted = ngx.status == 499
    for i = 0, q.n - 1 do
        local a = q.attempt[i]
        local info = peer_of(a, now)
        if i == q.n - 1 and q.total > from then
            from = q.total -- where there were more than have a place of their own
        end
        local e = info and outcome.element(lists, info.addr, from)
        -- what NGINX tells of the answer as a whole is this attempt's: it is the last, and no other upstream than Weir's came after it
        local last = i == q.n - 1 and not outcome.passed_on(addrs, info)
        local status, header_ms, total_ms = a.status, -1, -1
        if e then
            from = e + 1
            if status == 0 then
                status = tonumber(lists.status[e]) or 0
            end
            header_ms, total_ms = outcome.ms(lists.header[e]), outcome.ms(lists.total[e])
        end
        local stop = a.end_ms > 0 and a.end_ms or now
        local own = stop - a.start_ms
        -- NGINX's time ends with the peer's answer, ours with the client: ours only where they agree but for rounding
        if total_ms < 0 or own <= total_ms + 2 and own >= total_ms - 2 then
            total_ms = own
        end
        rest_ms = header_ms >= 0 and total_ms - header_ms or 0
        local flags = 0
        local kind = a.kind
        if kind < 0 then
            if last and status == 200 and outcome.no_http() then
                status = 9
            end
            kind = outcome.judge(status ~= 0 and status or nil, e and lists.connect[e], e and lists.header[e], aborted and last)
            if kind == RESET and header_ms < 0 and idle.is_race(a.slot, a.start_ms, stop) and outcome.unanswered(e) then
                kind = IDLE_RACE
            elseif kind == OK and last and not is_subrequest and status ~= 101 and ngx.var.request_completion ~= "OK"
                and not is_stream(status) then
                -- the header came, the body did not all get through: the client left
                kind = ABORT
            elseif kind == OK and last and not is_subrequest -- of those of mirror and auth_request NGINX reads no body
                and outcome.cut_short(status, get_method(), outcome.last(ngx.var.upstream_response_length),
                ngx.var.upstream_http_content_length, ngx.var.body_bytes_sent, ngx.status, ngx.var.sent_http_content_length) then
                kind = RESET
            elseif kind == OK and last and q.whole == BEGUN and not is_stream(status, rest_ms) then
                kind = RESET
            elseif kind == OK and last and (is_grpc[a.class] or outcome.is_grpc(ngx.var.upstream_http_content_type)) then
                local failure = outcome.grpc_failure()
                if failure then
                    kind, status = STATUS, failure
                end
            end
            if kind == OK then
                evidence.success(a.slot, a.start_ms)
            elseif kind ~= ABORT and kind ~= IDLE_RACE then
                note_failure(a, kind, stop)
            end
        end
        if kind == OK and last and is_stream(status, rest_ms) then
            flags = STREAM
            classes.mark_stream(a.class)
        end
        if header_ms > total_ms then
            header_ms = total_ms -- rounding
        end
        if kind == OK then
            idle.exchanged(a.slot, a.start_ms, stop)
        end
        if info then
            local load, holds = reported(r, q, i, e, lists, status, header_ms, total_ms, now)
            push(q, i, a, kind, status, flags, header_ms, total_ms, stop,
                last and (tonumber(outcome.last(ngx.var.upstream_response_length)) or 0) or 0, load, holds)
        end
    end
    return rest_ms
end

local function policy_of(a)
    local flags = band(a.flags, 63) -- what a split did says nothing of the rule
    if flags >= 32 then return "affinity" end
    if flags >= 16 then return "panic" end
    if flags >= 8 then return "local" end
    if flags == 2 then return "control" end
    if flags == 1 then return "explore" end
    return nil
end

-- A subrequest has set variables in this worker.
local by_subrequest = false

-- Of a request that went to no peer of ours. Where subrequests of it did (auth_request, SSI, an update of the cache in the background), its log line would
-- tell of their peer as if it were its own, since they share its variables.
local function tell_of_none(r)
    if by_subrequest and not ngx.is_subrequest and variables.wanted() then
        variables.set(r, "-", false, "-", -1, "0")
    end
end

-- $weir_class is input too, and a subrequest shares its variables with the main request: there it must not be written.
local function set_variables(r, q, is_subrequest, now)
    local a = q.n > 0 and q.attempt[q.n - 1]
    if not a then
        if q.shed == 0 and q.empty == 0 then -- let in by admit() or rate(), and served from a file or NGINX's cache
            return tell_of_none(r)
        end
        variables.set(r, "-", not is_subrequest and "-", q.shed > 0 and shed.POLICY[q.shed] or "none", -1, "0")
        return
    end
    local info = peer_of(a, now)
    local view = info and pools.get(info.pool)
    local policy = policy_of(a)
    if view and (not policy or policy == "local" and view.static) then
        policy = view.policy
    end
    variables.set(r, info and info.addr or "-", not is_subrequest and (classes.name_of[a.class] or "*"), policy or "-", a.predicted_ms,
        DIGIT[q.total] or tostring(q.total))
end

-- Status and length of the answer when it is a plain one: one peer answered with no failure, in full, and the client has it. nil
-- otherwise, or when it takes a closer look to tell.
local function plain(r, is_subrequest, whole)
    local status, length = answer_of(r)
    if not status then
        local bytes, len = read(r, UPSTREAM_STATUS)
        if len ~= 3 then -- a list, or none
            return nil
        end
        status = bytes[0] * 100 + bytes[1] * 10 + bytes[2] - 5328 -- three digits less three times "0"
        length = number(read(r, RESPONSE_LENGTH))
        compare(r, status, length)
    end
    if status < 200 or status >= 500 or status == 429 or status == 499 then
        return nil
    end
    -- What the client was told is what the peer announced unless a filter dropped it, and is quicker to find among NGINX's variables.
    local announced, len = read(r, SENT_LENGTH)
    if len == 0 then
        announced, len = read(r, ANNOUNCED_LENGTH)
    end
    if len == 0 or length == 0 then -- as answers to gRPC are, also in a class whose first request was no call
        local kind, kind_len = read(r, CONTENT_TYPE)
        if kind_len >= 16 and same(kind, GRPC, 16) then
            return nil
        end
    end
    if len > 0 then
        if number(announced, len) ~= length then
            return nil -- HEAD, 304, or cut short
        end
        return status, length -- the peer sent all it had: whether the client read it all says nothing of the peer
    end
    if outcome.no_http() then
        return nil
    end
    if not is_subrequest then
        if whole == BEGUN then
            return nil
        end
        local _, completed = read(r, REQUEST_COMPLETION)
        if completed ~= 2 then -- not "OK"
            return nil
        end
    end
    return status, length
end

function _M.log()
    local r = get_request()
    local q = attempts.find_to_log(r)
    if not q then
        tell_of_none(r)
        return
    end
    local now = now_ms()
    local is_subrequest = ngx.is_subrequest
    local rest_ms -- nil: not looked at
    if q.n == 1 and q.attempt[0].kind < 0 then
        local a = q.attempt[0]
        local took = now - a.start_ms
        local status, length
        if took < TRUST_OWN_MS and not is_grpc[a.class] then
            status, length = plain(r, is_subrequest, q.whole)
        end
        if status then
            evidence.success(a.slot, a.start_ms)
            idle.exchanged(a.slot, a.start_ms, now)
            local load, holds = -1, 0
            if not are_of_cache(r, status) then
                load, holds = report.take(r, a.slot, now)
            end
            push(q, 0, a, OK, status, 0, took, took, now, length, load, holds)
        else
            rest_ms = in_full(r, q, now, is_subrequest)
        end
    elseif q.n > 0 then
        rest_ms = in_full(r, q, now, is_subrequest)
    end
    if q.stream == 1 and q.n > 0 and q.attempt[q.n - 1].kind < 0 and not is_stream(tonumber(ngx.var.upstream_status), rest_ms) then
        classes.unmark_stream(q.attempt[q.n - 1].class)
    end
    if variables.wanted() then
        by_subrequest = by_subrequest or is_subrequest
        set_variables(r, q, is_subrequest, now)
    end
    attempts.close(r, q, is_subrequest)
end

return _M
