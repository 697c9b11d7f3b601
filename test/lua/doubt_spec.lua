-- What is said of keys whose variables no request has. NGINX is a table of variables here: absent ones are refused as it does.
local stub = require "stub"
local request = require "request"
package.loaded["resty.weir.vars"].text = function(_, name) return request.vars[name] end
local said
package.loaded["resty.weir.notice"] = {
    once = function(message) said[#said + 1] = message end,
    warn = function(message) said[#said + 1] = "warn: " .. message end,
}
local has
rawset(ngx, "var", setmetatable({}, {
    __newindex = function(_, name)
        if not has[name] then
            error("variable \"" .. name .. "\" not found for writing; maybe it is a built-in variable")
        elseif has[name] == "fixed" then
            error("variable \"" .. name .. "\" not changeable")
        end
    end,
}))
package.loaded["resty.weir.rendezvous"] = { add = function(h) return h end, finish = function(h) return h end }
local doubt = require "resty.weir.doubt"
local keys = require "resty.weir.key"

local pools = 0
-- Hashes a key for n requests with the variables.
local function go(key, vars, n, parts)
    if not parts then
        pools = pools + 1
        parts = keys.parts_of(key, "pool " .. pools .. ": the key", "all are apart")
    end
    for _ = 1, n do
        request.fresh(vars)
        keys.hash(parts, request, 0)
    end
    return parts
end

describe("a key that no request has", function()
    before_each(function()
        said, has = {}, {}
        doubt.init(stub.dict())
    end)

    it("is told once, when NGINX does not have its variable", function()
        local parts = go("$htpp_x_user", {}, 15)
        assert.same({}, said)
        go(nil, {}, 2000, parts)
        assert.equal(1, #said)
        assert.matches("the key \"$htpp_x_user\" reads $htpp_x_user, .*: all are apart; did you mean $http_x_user%?", said[1])
        assert.is_nil(parts.doubt)
    end)

    it("is not told where NGINX has it, may not set it, or makes it of a prefix", function()
        has = { mine = true, request_body = "fixed" }
        go("$mine$request_body$cookie_a$arg_b$http_c$args$limit_rate", {}, 999)
        go("$empty", { empty = "" }, 999)
        go("$jwt_claim_sub", {}, 999)
        assert.same({}, said)
    end)

    it("is doubted after a thousand requests whoever the variable belongs to", function()
        go("$cookie_sid2x", {}, 2000)
        assert.equal(1, #said)
        assert.matches("^warn: .*of 1000 requests none had anything in $cookie_sid2x: all are apart", said[1])
    end)

    it("is not told when one of the first requests has it, as another module's variables", function()
        local parts = go("$other_claim_x", {}, 10)
        go(nil, { other_claim_x = "1" }, 1, parts)
        go(nil, {}, 2000, parts)
        assert.same({}, said)
    end)

    it("is told of by one worker alone, again after a reload, and not with each table", function()
        local d = stub.dict()
        doubt.init(d)
        go("$nobody", {}, 20)
        d.data[next(d.data)] = nil -- as if the dict were full, the worker still says it once
        for _ = 1, 3 do
            go(nil, {}, 2000, keys.parts_of("$nobody", "pool " .. pools .. ": the key", "all are apart"))
        end
        assert.equal(1, #said)
        local n = 0
        d.safe_add = function() n = n + 1 return false, "exists" end -- another worker was first
        go("$nobody", {}, 20)
        assert.equal(1, n)
        assert.equal(1, #said)
    end)

    it("guesses what was meant only where one of the usual prefixes is near", function()
        for name, meant in pairs({ htpp_x = "http_x", htttp_a_b = "http_a_b", cokie_sid = "cookie_sid", cookei_sid = "cookie_sid", ar_x = "arg_x" }) do
            assert.equal(meant, doubt.meant(name))
        end
        for _, name in ipairs({ "tenant", "user_id", "geoip_city", "ssl_client_s_dn", "http", "uri" }) do
            assert.is_nil(doubt.meant(name), name)
        end
    end)
end)
