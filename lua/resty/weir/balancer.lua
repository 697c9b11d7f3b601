-- balancer_by_lua: glue between NGINX, a pool's view and the picking rule. No I/O, no locks.
local base = require "resty.core.base"
local nginx_balancer = require "ngx.balancer"
local shm = require "resty.weir.shm"
local clock = require "resty.weir.clock"
local pools = require "resty.weir.pools"
local candidates = require "resty.weir.candidates"
local pick = require "resty.weir.pick"
local affinity = require "resty.weir.affinity"
local split = require "resty.weir.split"
local attempts = require "resty.weir.attempts"
local classes = require "resty.weir.classes"
local vars = require "resty.weir.vars"
local variables = require "resty.weir.variables"
local shed = require "resty.weir.shed"
local evidence = require "resty.weir.evidence"
local outcome = require "resty.weir.outcome"
local notice = require "resty.weir.notice"
local idle = require "resty.weir.idle"

local ngx = ngx
local get_request = base.get_request
local now_ms = clock.now_ms
local set_current_peer, set_more_tries, set_timeouts, get_last_failure =
    nginx_balancer.set_current_peer, nginx_balancer.set_more_tries, nginx_balancer.set_timeouts, nginx_balancer.get_last_failure
local tonumber, ffi_string = tonumber, require("ffi").string

local choice = pick.choice
local given = variables.given
local WEIR_WEIGHT = vars.named("weir_weight")
local NGX_BUSY = -3 -- NGINX answers 502 "no live upstreams"; the only refusal that NGINX without OpenResty's patches takes from Lua
-- Bounds what closed pooled connections can cost a request; NGINX lists one more element when it gives up.
local MAX_TOTAL = attempts.MAX_ATTEMPTS - 1
local OK, STATUS, IDLE_RACE, REFUSED, CONNECT_TIMEOUT = outcome.OK, outcome.STATUS, outcome.IDLE_RACE, outcome.REFUSED, outcome.CONNECT_TIMEOUT

local _M = {}

-- Judges the attempt that made NGINX come back, and lets all workers know at once. `code` is NGINX's.
local function judge_last(view, q, code, now)
    local a = q.attempt[q.n - 1]
    if a.kind >= 0 then
        return a.kind
    end
    a.end_ms = now
    -- the list's last element is the attempt about to be made, still empty: the one before it is ours
    local connect = outcome.split(ngx.var.upstream_connect_time)
    local header = outcome.split(ngx.var.upstream_header_time)
    local last = #connect
    if last > 1 and connect[last] == "" then
        last = last - 1
    end
    local kind = outcome.judge(tonumber(code), connect[last], header[last], false)
    -- NGINX comes back without having been granted a try only when a pooled connection turned out to be closed
    if kind == outcome.RESET and outcome.unanswered(last)
        and (q.granted == 0 or idle.is_race(a.slot, a.start_ms, now)) then
        kind = IDLE_RACE
    end
    a.kind, a.status = kind, tonumber(code) or 0
    if kind == outcome.OK then -- a 404 that proxy_next_upstream takes to the next peer is an answer all the same
        evidence.success(a.slot, a.start_ms)
    elseif kind ~= IDLE_RACE then
        local addr = view.addr_of[a.slot] -- nil: it has left the pool since
        if addr and evidence.failure(view, a.slot, kind, a.start_ms, now) then
            notice.warn("peer " .. addr .. " of pool \"" .. view.name .. "\" set aside for " .. shm.peer[a.slot].backoff_ms .. " ms: "
                .. outcome.NAME[kind], "aside " .. view.name .. addr)
        end
    end
    return kind
end

-- Bars for the next try alone the peers that broke the request like an idle race, and returns how many. When NGINX came back without a try
-- having been granted, the connection was a kept one, and the peer is fine. Otherwise it may as well be a peer that breaks each connection, as
-- the proxy in front of a process that died does, and all tries would be spent on it; and so it may be when a peer broke two in a row, however
-- that looked. So other usable peers are asked as long as there are any, first those that have not broken this request; where
-- an affinity binds it, when the second attempt at its peer broke too.
local function bar_broken(view, q, kind, now)
    if kind ~= IDLE_RACE then
        return 0
    end
    local last, n = q.n - 1, 0
    local twice = last > q.pass and q.attempt[last - 1].slot == q.attempt[last].slot
    if not twice and (q.granted == 0 or view.affinity) then
        return 0
    end
    for i = last, q.pass, -1 do
        local a = q.attempt[i]
        if a.kind == IDLE_RACE and not candidates.was_tried(a.slot) then
            local _, usable = pick.another(view, now, a.slot)
            if not usable then
                break
            end
            pick.add_tried(a.slot)
            n = n + 1
        end
    end
    return n
end

-- Retry budget: a share of the requests plus a floor a second, saved up for ten seconds at most (as in Finagle's and
-- Linkerd's). Each worker keeps one, with its part of the floor. A connection that was never made cost the peers nothing and is not charged.
local function earn(view, now)
    local tokens = view.tokens + view.retry_share + (now - view.tokens_at) * view.retry_per_s * 0.001
    local cap = view.retry_per_s * 10 + 10 * view.retry_share
    view.tokens = tokens > cap and cap or tokens
    view.tokens_at = now
end

-- Picks a peer of pool `name` for the request at hand and tells NGINX. static_peers: what to use before any engine has
-- spoken, "10.0.0.1:8080, 10.0.0.2:8080 weight=2".
function _M.balance(name, static_peers)
    local r = get_request()
    local view = pools.get(name, static_peers)
    local now = now_ms()
    local q = attempts.open(r)
    local class, kind, state, code
    local late = false -- no further try is granted
    if q.n > 0 then -- else there is no attempt that could have failed
        state, code = get_last_failure()
    end
    pick.reset_tried()
    if state then
        kind = judge_last(view, q, code, now)
        class = q.attempt[q.n - 1].class
        for i = q.pass, q.n - 1 do
            if q.attempt[i].kind ~= IDLE_RACE then
                pick.add_tried(q.attempt[i].slot)
            end
        end
        if kind ~= REFUSED and kind ~= CONNECT_TIMEOUT and kind ~= IDLE_RACE then
            view.tokens = view.tokens - 1
        end
        late = now - q.attempt[q.pass].start_ms > view.retry_timeout_ms
        -- An answer that proxy_next_upstream names NGINX has dropped by now, and a client must not get a 502 in its place: one more try is made, the last.
        if q.total - q.begun >= MAX_TOTAL or late and kind ~= STATUS and kind ~= OK then
            return ngx.exit(NGX_BUSY)
        end
    else
        attempts.new_pass(q)
        if view.limit and q.turn ~= ngx.now() then -- let in just now, or a while ago and its body took time to come
            local reason = shed.over(view, r, now)
            if reason then
                q.shed = reason
                shed.count(name, reason)
                return ngx.exit(NGX_BUSY)
            end
        end
        variables.ask()
        class = classes.of_request(r, given.weir_class)
        if given.weir_weight then
            local bytes, len = vars.read(r, WEIR_WEIGHT)
            local weight = len > 0 and tonumber(ffi_string(bytes, len))
            q.weight = weight and weight > 0 and weight < 1e9 and weight or 0
        end
        earn(view, now)
    end

    local row, local_rule = 0, true
    if not view.static and now - shm.head.heard_ms <= view.max_stale_ms then
        local_rule = false
        row = view.row_of[class]
        if not row then
            row = view.class_index[classes.name_of[class]] or 0
            view.row_of[class] = row
        end
    end
    if view.sized then
        pick.weigh(view, row, q.weight)
    end
    if view.split then
        split.decide(view, r, q)
    end
    local barred = bar_broken(view, q, kind, now) -- after split.decide(), whose side it looks at
    local i
    if view.affinity then
        i = affinity.pick(view, r, q, row, now, local_rule, classes.is_stream[class])
    else
        i = pick.pick(view, row, now, local_rule, classes.is_stream[class])
    end
    if i < 0 and candidates.full and q.total == q.begun and q.turn == ngx.now() then
        -- it was let in, and another worker was quicker: each of them may be over by one
        i = pick.squeeze(view, row, now, local_rule, classes.is_stream[class])
    end
    for _ = 1, barred do
        pick.drop_tried() -- a later try may go there
    end
    if i < 0 then
        q.empty = view.n == 0 and 1 or 2
        if candidates.full then
            q.shed = shed.FULL
            shed.count(name, shed.FULL)
        end
        if view.n == 0 then
            notice.error("pool \"" .. name .. "\" has no peers: requests are answered with 503")
        end
        return ngx.exit(NGX_BUSY)
    end
    local slot = view.slot[i]
    if choice.trial then
        evidence.trial(slot, now)
    end
    local work, found = 0, 0
    if view.sized then
        work, found = pick.weighed(view, row, i)
    end
    if not attempts.start(r, q, slot, class, now, choice.inflight, choice.flags, choice.propensity, choice.cost,
        classes.is_stream[class], work, found) then
        return ngx.exit(ngx.ERROR)
    end

    local ok, err = set_current_peer(view.host[i], view.port[i])
    if not ok then
        notice.error("NGINX does not take peer " .. view.addr[i] .. " of pool \"" .. name .. "\": " .. (err or "?"))
        return ngx.exit(ngx.ERROR)
    end
    set_timeouts(view.connect_timeout_ms * 0.001, nil, nil)
    -- One more try is granted only when it could go somewhere: once NGINX has given up an answer to retry, that answer is lost.
    q.granted = 0
    if not late and q.capped == 0 and q.total - q.begun < view.tries and q.total - q.begun < MAX_TOTAL and view.tokens >= 1 then
        if pick.sure or pick.another(view, now, slot) then
            local _, capped = set_more_tries(1)
            if capped then
                q.capped = 1 -- ngx_lua takes one off for each further one past proxy_next_upstream_tries, below 0, which is without end
            else
                q.granted = 1
            end
        end
    end
end

return _M
