-- The NGINX variables of Weir: $weir_class and $weir_weight in, $weir_peer $weir_class $weir_policy $weir_predicted_ms
-- $weir_attempts out, for access logs.
--
-- They are declared with `map` in weir.conf, not with `set`: `set` would run again on an internal redirect and lose the value.
-- A variable that no directive of the configuration reads has no place in the request, and assigning to it fails: that is how
-- a worker finds out, once, which ones are worth setting. So what no log format uses costs nothing.
--
-- What comes in is read only where the operator's configuration sets it. That cannot change while the worker lives, so a worker finds this out
-- once too: the maps of weir.conf, and no others, answer "ask" when $weir_asked says so. A variable that has a place in the request is
-- read always, since some location may `set` it.
--
-- What goes out is written without ngx.var where it can be (vars.lua): for the five variables that took as long as all the rest that Weir does for a
-- request. The same few values come again and again, so they are kept ready, each as long as the worker lives, and no more than MAX_KEPT of them.
local vars = require "resty.weir.vars"

local ngx = ngx
local pcall, pairs, format, floor = pcall, pairs, string.format, math.floor
local write, ready = vars.write, vars.value

local PEER, CLASS, POLICY, PREDICTED, ATTEMPTS = vars.named("weir_peer"), vars.named("weir_class"), vars.named("weir_policy"),
    vars.named("weir_predicted_ms"), vars.named("weir_attempts")
local MAX_KEPT = 16384
local MAX_TENTHS = 10000 -- 1 s

local _M = {}

local in_use = { weir_peer = false, weir_class = false, weir_policy = false, weir_predicted_ms = false, weir_attempts = false }
local asked, probed = false, false
local any_out = false

local function assign(name, value)
    ngx.var[name] = value
end

-- Needs a request; on the first one of the worker.
local function probe()
    probed = true
    for name in pairs(in_use) do
        local value = ngx.var[name]
        in_use[name] = pcall(assign, name, value or "")
    end
    any_out = in_use.weir_peer or in_use.weir_policy or in_use.weir_predicted_ms or in_use.weir_attempts or in_use.weir_class
end

-- Whether the configuration may set $weir_class and $weir_weight.
_M.given = { weir_class = true, weir_weight = true }

local function may_be_given(name)
    local value = ngx.var[name]
    if pcall(assign, name, value or "") or not pcall(assign, "weir_asked", "ask") then
        return true
    end
    local answer = ngx.var[name]
    ngx.var.weir_asked = ""
    return answer ~= "ask"
end

-- Finds that out, with the worker's first request.
function _M.ask()
    if not asked then
        asked = true
        for name in pairs(_M.given) do
            _M.given[name] = may_be_given(name)
        end
    end
end

function _M.wanted()
    if not probed then
        probe()
    end
    return any_out
end

local kept, nkept = {}, 0 -- by text
local tenths = {}         -- of a ms, the text of a number of them

local function set_slowly(name, text)
    ngx.var[name] = text
end

local function set(r, variable, name, text)
    local v = kept[text]
    if not v and nkept < MAX_KEPT then
        v = ready(text)
        kept[text], nkept = v, nkept + 1
    end
    if not v or not write(r, variable, v) then
        set_slowly(name, text)
    end
end

local function set_predicted(r, ms)
    local n = floor(ms * 10 + 0.5)
    if n >= 0 and n < MAX_TENTHS then -- nor NaN
        local v = tenths[n]
        if not v then
            v = ready(format("%.1f", n / 10))
            tenths[n] = v
        end
        if write(r, PREDICTED, v) then
            return
        end
    end
    set_slowly("weir_predicted_ms", ms >= 0 and format("%.1f", ms) or "-")
end

-- Sets those that are read, of request r. class: false = leave it; predicted_ms: -1 = none.
function _M.set(r, peer, class, policy, predicted_ms, attempts)
    if in_use.weir_peer then set(r, PEER, "weir_peer", peer) end
    if in_use.weir_class and class then set(r, CLASS, "weir_class", class) end
    if in_use.weir_policy then set(r, POLICY, "weir_policy", policy) end
    if in_use.weir_predicted_ms then set_predicted(r, predicted_ms) end
    if in_use.weir_attempts then set(r, ATTEMPTS, "weir_attempts", attempts) end
end

return _M
