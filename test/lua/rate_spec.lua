local stub = require "stub"
local request = require "request"
local cjson = require "cjson"
local shed = require "resty.weir.shed"

ngx.shared = { weir_rate = stub.dict(), other = stub.dict() }
shed.init(stub.dict())
local rate = require "resty.weir.rate"
local notice = require "resty.weir.notice"

local function ask(text, vars, pool)
    local q = request.fresh(vars or { binary_remote_addr = "\1\2\3\4" })
    rate.rate(pool or "api", text)
    return request.status == nil, q
end

local function let_in(n, text, vars, pool)
    local count = 0
    for _ = 1, n do
        count = count + (ask(text, vars, pool) and 1 or 0)
    end
    return count
end

local f = assert(io.open("test/vectors/rate.json"))
local vectors = cjson.decode(f:read("*a"))
f:close()

describe("the words of a rate limit", function()
    it("mean what the vectors say", function()
        for _, v in ipairs(vectors.good) do
            local limit, err = rate.parse(v.text)
            assert(limit, v.text .. ": " .. tostring(err))
            assert.is_true(math.abs(limit.gap - v.gap_ms) < 1e-9 * v.gap_ms, v.text)
            assert.is_true(math.abs(limit.tolerance - v.burst * v.gap_ms - rate.SLACK_MS) < 1e-6, v.text)
            assert.equal(v.key, limit.key)
            assert.equal(v.zone, limit.zone)
        end
        for _, v in ipairs(vectors.bad) do
            local limit, err = rate.parse(v.text)
            assert.is_nil(limit, v.text)
            assert.equal(v.says, err)
        end
    end)
end)

describe("a rate limit", function()
    it("answers 429 with the time there will be room, and counts it for the pool", function()
        assert.equal(3, let_in(10, "rate=6r/m burst=2"))
        local ok, q = ask("rate=6r/m burst=2")
        assert.is_false(ok)
        assert.equal(429, request.status)
        assert.equal(shed.RATE, q.shed)
        assert.equal(10, ngx.header["Retry-After"]) -- whole seconds, and not before there is room
        assert.equal(8, shed.counts("api")[shed.RATE])
        assert.same({ { "api", 8 } }, shed.untold_rates())
        request.now = request.now + 9000
        assert.is_false((ask("rate=6r/m burst=2")))
        assert.equal(1, ngx.header["Retry-After"])
        request.now = request.now + 1000
        assert.is_true((ask("rate=6r/m burst=2")))
    end)

    it("is by the key", function()
        local text = "rate=1r/s key=$arg_user/$host"
        assert.equal(1, let_in(5, text, { arg_user = "a", host = "x" }))
        assert.equal(1, let_in(5, text, { arg_user = "b", host = "x" }))
        assert.equal(1, let_in(5, text, { arg_user = "a", host = "y" }))
        assert.equal(0, let_in(5, text, { arg_user = "a", host = "x" }))
    end)

    it("counts no request whose key is empty, as NGINX's does not, and all of them where the key is a constant", function()
        assert.equal(5, let_in(5, "rate=1r/s key=$arg_user"))
        assert.equal(1, let_in(5, "rate=1r/s key=all"))
    end)

    it("tells long keys apart, and keeps none of them", function()
        local long = ("x"):rep(5000)
        assert.equal(1, let_in(5, "rate=2r/s key=$uri", { uri = long .. "a" }))
        assert.equal(1, let_in(5, "rate=2r/s key=$uri", { uri = long .. "b" }))
        for k in pairs(ngx.shared.weir_rate.data) do
            assert.is_true(#k <= 250)
        end
    end)

    it("is shared by all who say the same of a pool, or give it one name", function()
        assert.equal(1, let_in(3, "rate=3r/s"))
        assert.equal(0, let_in(3, "rate=3r/s"))
        assert.equal(1, let_in(3, "rate=3r/s", nil, "web"))
        assert.equal(1, let_in(3, "rate=3r/s name=both"))
        assert.equal(0, let_in(3, "rate=3r/s name=both", nil, "web"))
        assert.equal(1, let_in(3, "rate=3r/s zone=other"))
    end)

    it("counts a request once, though an internal redirect brings it back, and each limit counts it", function()
        local q = request.fresh({ binary_remote_addr = "once" })
        for _ = 1, 3 do
            rate.rate("api", "rate=4r/s")
            assert.is_nil(request.status)
        end
        rate.rate("api", "rate=5r/s")
        request.fresh({ binary_remote_addr = "once" })
        rate.rate("api", "rate=5r/s")
        assert.equal(429, request.status)
        assert.is_true(q.rated > 0)
    end)

    it("lets everything in when it cannot be read or has no zone, and says so", function()
        assert.equal(5, let_in(5, "rate=1"))
        assert.equal(5, let_in(5, "rate=1r/s zone=nowhere"))
        local said = {}
        for cause in pairs(notice.counts) do said[#said + 1] = cause end
        said = table.concat(said, "\n")
        assert.truthy(said:find("\"rate=1\" is not like 500r/s", 1, true))
        assert.truthy(said:find("there is no `lua_shared_dict nowhere 10m;` in the http block", 1, true))
        assert.is_nil(rate.of("nobody"))
    end)

    it("lets everything in while its zone does not work", function()
        ngx.shared.broken = setmetatable({ incr = function() return nil, "no memory" end }, { __index = stub.dict() })
        assert.equal(5, let_in(5, "rate=1r/s zone=broken"))
    end)

    it("keeps no more limits than a configuration has", function()
        for i = 1, 1000 do ask("rate=1r/s name=n" .. i) end
        assert.is_true((ask("rate=1r/s name=more")))
        assert.is_true((ask("rate=1r/s name=more")))
        assert.is_true(#rate.of("api") <= 256)
    end)
end)
