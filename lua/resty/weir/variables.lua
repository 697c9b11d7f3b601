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
-- request. The same few values come again and again, so they are kept ready, each as long as the worker lives, and no more than MAX_KEPT of them. In a
-- loop, which has a trace of its own: with them written out, that of the log phase became too long to be compiled.
local vars = require "resty.weir.vars"

local ngx = ngx
local pcall, pairs, ipairs, format, floor = pcall, pairs, ipairs, string.format, math.floor
local write, ready = vars.write, vars.value

local OUT = { "weir_peer", "weir_class", "weir_policy", "weir_predicted_ms", "weir_attempts" }
local MAX_KEPT = 32768
local MAX_TENTHS = 10000 -- 1 s

local _M = {}

local used, nused = {}, 0 -- those of OUT that something reads, by their places there
local asked, probed = false, false

local function assign(name, value)
    ngx.var[name] = value
end

-- Needs a request; on the first one of the worker.
local function probe()
    probed = true
    for i, name in ipairs(OUT) do
        local value = ngx.var[name]
        if pcall(assign, name, value or "") then
            nused = nused + 1
            used[nused] = i
        end
    end
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
    return nused > 0
end

local named = {}
for i, name in ipairs(OUT) do
    named[i] = vars.named(name)
end
local texts = {}          -- of the request at hand, by place in OUT; false = the variable is left alone
local kept, nkept = {}, 0 -- by text
local tenths = {}         -- texts of so many tenths of a ms

local function keep(text)
    if nkept == MAX_KEPT then
        return nil
    end
    local v = ready(text)
    kept[text], nkept = v, nkept + 1
    return v
end

local function in_ms(ms)
    local n = floor(ms * 10 + 0.5)
    if n >= 0 and n < MAX_TENTHS then -- nor NaN
        local text = tenths[n]
        if not text then
            text = format("%.1f", n / 10)
            tenths[n] = text
        end
        return text
    end
    return ms >= 0 and format("%.1f", ms) or "-"
end

-- Sets those that are read, of request r. class: false = leave it; predicted_ms: -1 = none.
function _M.set(r, peer, class, policy, predicted_ms, attempts)
    texts[1], texts[2], texts[3], texts[4], texts[5] = peer, class, policy, in_ms(predicted_ms), attempts
    for i = 1, nused do
        local at = used[i]
        local text = texts[at]
        if text then
            local v = kept[text] or keep(text)
            if not v or not write(r, named[at], v) then
                ngx.var[OUT[at]] = text
            end
        end
    end
end

return _M
