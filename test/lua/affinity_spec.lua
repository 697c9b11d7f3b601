local stub = require "stub"
require "libcrypto"
local ffi = require "ffi"
local cjson = require "cjson"
local cookie = require "resty.weir.cookie"
local rendezvous = require "resty.weir.rendezvous"

local function vectors()
    local f = assert(io.open("test/vectors/affinity.json"))
    local v = cjson.decode(f:read("*a"))
    f:close()
    return v
end

local function secret_file(text)
    local path = os.tmpname()
    local f = assert(io.open(path, "w"))
    f:write(text)
    f:close()
    return path
end

local function init(text, dict)
    local path = secret_file(text)
    local ok, err = cookie.init(dict or stub.dict(), path)
    os.remove(path)
    return ok, err
end

local function bytes(s)
    return ffi.new("uint8_t[?]", #s + 1, s), #s
end

local function at0(list)
    local t = {}
    for i, x in ipairs(list) do t[i - 1] = x end
    return t
end

local A, B = "10.0.0.1:8080", "10.0.0.2:8080"
local OLD, NEW = "an old secret, long enough", "a new secret, long enough"

describe("the sticky cookie", function()
    it("is as the vectors say, of pool and address and the secret", function()
        for _, c in ipairs(vectors().cookies) do
            assert.equal(c.value, (cookie.value(c.secret, c.pool, c.addr)))
        end
    end)

    it("names a peer by its address, wherever it stands in the list", function()
        assert(init(OLD))
        local first = cookie.known("api", at0({ A, B }), 2)
        local later = cookie.known("api", at0({ "10.0.0.9:1", B, A }), 3, first)
        local value = first.of[A].value
        assert.equal(0, cookie.find(first, bytes(value)).pos)
        assert.equal(2, cookie.find(later, bytes(value)).pos)
        assert.is_nil(cookie.find(cookie.known("api", at0({ B }), 1), bytes(value)))
    end)

    it("is found behind others of its name, as browsers send them that have an old one with another path", function()
        assert(init(OLD))
        local k = cookie.known("api", at0({ A, B }), 2)
        local good, gone = k.of[B].value, cookie.value(OLD, "api", "10.0.0.9:1")
        for header, pos in pairs({
            ["sid=" .. gone .. "; sid=" .. good] = 1,
            ["sid=; a=b;sid=" .. good .. "; c=d"] = 1,
            ["xsid=" .. good .. "; sid=" .. k.of[A].value] = 0,
            ["sid=" .. good .. "x; sid=x"] = false,
            ["sid=" .. gone .. "; xsid=" .. good] = false,
            ["sid=sid=sid="] = false,
            ["sid"] = false,
            [""] = false,
        }) do
            local e = cookie.find_among(k, "sid", header)
            assert.equal(pos, e and e.pos or false, header)
        end
    end)

    it("is good in its pool alone", function()
        assert(init(OLD))
        local value = cookie.known("api", at0({ A }), 1).of[A].value
        assert.is_nil(cookie.find(cookie.known("web", at0({ A }), 1), bytes(value)))
    end)

    it("does not tell the address", function()
        assert(init(OLD))
        local value = cookie.known("api", at0({ A }), 1).of[A].value
        assert.equal(36, #value)
        assert.is_nil(value:find("10", 1, true) and value:find("8080", 1, true))
        assert.truthy(value:match("^[%w_%-]+%.[%w_%-]+$"))
    end)

    it("is believed under an older secret and marked to be given anew", function()
        assert(init(OLD))
        local value = cookie.known("api", at0({ A }), 1).of[A].value
        assert(init("# rotated\n" .. NEW .. "\n  " .. OLD .. "  \n"))
        local known = cookie.known("api", at0({ A }), 1)
        assert.is_false(cookie.find(known, bytes(value)).current)
        assert.is_true(cookie.find(known, bytes(known.of[A].value)).current)
        assert.is_not.equal(value, known.of[A].value)
        assert(init(NEW))
        assert.is_nil(cookie.find(cookie.known("api", at0({ A }), 1), bytes(value)))
    end)

    -- Each changed byte, each cut, and many made at random: nothing but the value itself is believed, and nothing breaks.
    it("is not believed when anything about it is other", function()
        assert(init(OLD))
        local known = cookie.known("api", at0({ A, B }), 2)
        local value, other = known.of[A].value, known.of[B].value
        for i = 1, #value do
            for _, c in ipairs({ 0, 46, 65, 255, (value:byte(i) + 1) % 256 }) do
                local forged = value:sub(1, i - 1) .. string.char(c) .. value:sub(i + 1)
                if forged ~= value then
                    assert.is_nil(cookie.find(known, bytes(forged)), i .. ": " .. c)
                end
            end
            assert.is_nil(cookie.find(known, bytes(value:sub(1, i - 1))))
        end
        assert.is_nil(cookie.find(known, bytes(value .. "A")))
        assert.is_nil(cookie.find(known, bytes(value:sub(1, 9) .. other:sub(10)))) -- one peer's name, the other's signature
        math.randomseed(7)
        for _ = 1, 20000 do
            local parts = {}
            for i = 1, math.random(0, 80) do
                -- half of them a mutation of the real one
                parts[i] = (math.random() < 0.5 and i <= #value) and value:sub(i, i) or string.char(math.random(0, 255))
            end
            local text = table.concat(parts)
            local found = cookie.find(known, bytes(text))
            assert.is_true(found == nil or text == value)
        end
    end)

    it("needs a secret that cannot be guessed, and says what is wrong with the file", function()
        for text, want in pairs({
            [""] = "there is no secret", ["# nothing\n\n"] = "there is no secret", ["short"] = "line 1: a secret has at least 16",
            [OLD .. "\nshort\n"] = "line 2", [(OLD .. "\n"):rep(9)] = "at most 8",
        }) do
            local ok, err = init(text)
            assert.is_nil(ok)
            assert.truthy(err:find(want, 1, true), err)
            assert.is_nil(err:find(OLD, 1, true))
        end
        local ok, err = cookie.init(stub.dict(), "/nowhere/secret")
        assert.is_nil(ok)
        assert.truthy(err:find("/nowhere/secret", 1, true))
    end)

    it("is signed by a secret made up where there is no file, the same after a reload", function()
        local dict = stub.dict()
        assert(cookie.init(dict))
        if cookie.source == "made up" then -- a machine may have the usual file
            local value = cookie.known("api", at0({ A }), 1).of[A].value
            assert(cookie.init(dict))
            assert.equal(value, cookie.known("api", at0({ A }), 1).of[A].value)
            assert(cookie.init(stub.dict()))
            assert.is_not.equal(value, cookie.known("api", at0({ A }), 1).of[A].value)
        end
    end)
end)

describe("consistent hashing", function()
    local function addrs(n)
        local t = {}
        for i = 0, n - 1 do t[i] = "10.0." .. math.floor(i / 200) .. "." .. (i % 200 + 1) .. ":8080" end
        return t
    end

    -- A pool of n peers: choose(key) gives the position.
    local function pool(list, n, opt)
        opt = opt or {}
        local seed = rendezvous.seeds(list, n)
        local cand, load = ffi.new("int32_t[?]", n), ffi.new("int32_t[?]", n)
        local weight, cost = ffi.new("double[?]", n), ffi.new("double[?]", n)
        for i = 0, n - 1 do
            cand[i], weight[i], cost[i] = i, opt.weight and opt.weight[i] or 1, 1
        end
        return { load = load, cost = cost, weight = weight, choose = function(key)
            return rendezvous.choose(rendezvous.hash(key), seed, cand, n, load, weight, cost, opt.most or math.huge, opt.factor or 0)
        end }
    end

    it("hashes and chooses as the vectors say", function()
        local v = vectors()
        for _, h in ipairs(v.hashes) do
            assert.equal(bit.tobit(h.hash), rendezvous.hash(h.text))
            assert.equal(bit.tobit(h.mixed), bit.tobit(rendezvous.mix(rendezvous.hash(h.text))))
        end
        local p = pool(at0(v.peers), #v.peers)
        for _, k in ipairs(v.keys) do
            assert.equal(k.peer, v.peers[p.choose(k.key) + 1])
        end
    end)

    it("spreads keys evenly, or by weight", function()
        local got = {}
        local p = pool(addrs(10), 10, { weight = { [3] = 3 } })
        for i = 1, 12000 do
            local at = p.choose("key" .. i)
            got[at] = (got[at] or 0) + 1
        end
        for i = 0, 9 do
            assert.is_near(i == 3 and 3000 or 1000, got[i], i == 3 and 250 or 150)
        end
    end)

    it("moves about 1/n of the keys when a peer joins, all of them to it, and those alone back when it leaves", function()
        math.randomseed(11)
        for _ = 1, 12 do
            local n = math.random(2, 60)
            local list = addrs(n + 1)
            local before, after = pool(list, n), pool(list, n + 1)
            local moved, keys = 0, 4000
            for i = 1, keys do
                local key = "k" .. i .. math.random()
                local a, b = before.choose(key), after.choose(key)
                if a ~= b then
                    assert.equal(n, b)
                    moved = moved + 1
                end
            end
            local want = keys / (n + 1)
            assert.is_true(math.abs(moved - want) < 6 * math.sqrt(want), moved .. " of " .. keys .. " moved, want about " .. want)
        end
    end)

    it("does not depend on the order of the list", function()
        local list = addrs(20)
        local turned = {}
        for i = 0, 19 do turned[i] = list[19 - i] end
        local a, b = pool(list, 20), pool(turned, 20)
        for i = 1, 500 do
            assert.equal(list[a.choose("k" .. i)], turned[b.choose("k" .. i)])
        end
    end)

    -- The property of the paper: no peer holds more than ceil(factor x requests x its part), whatever the keys, and a few are always allowed.
    it("keeps every peer's load within its bound under any keys, one hot key included", function()
        math.randomseed(3)
        for round = 1, 40 do
            local n = math.random(1, 30)
            local w, total = {}, 0
            for i = 0, n - 1 do
                w[i] = round % 2 == 0 and 1 or math.random(1, 5)
                total = total + w[i]
            end
            local factor = 1 + math.random(1, 100) / 50
            local p = pool(addrs(n), n, { factor = factor, weight = w })
            for held = 1, 300 do
                local at = p.choose(math.random() < 0.7 and "hot" or "k" .. math.random(1000))
                assert.is_true(at >= 0)
                p.load[at] = p.load[at] + 1
                assert.is_true(p.load[at] <= math.max(rendezvous.FEW, math.ceil(factor * held * w[at] / total)))
            end
        end
    end)

    it("keeps a key on its peer as long as that is below its bound", function()
        local p = pool(addrs(5), 5, { factor = 1.25 })
        local home = p.choose("hot")
        for i = 0, 4 do p.load[i] = 8 end
        assert.equal(home, p.choose("hot"))
        p.load[home] = 20
        assert.is_not.equal(home, p.choose("hot"))
    end)

    it("passes over a peer that costs too much, to the next of the key, and heeds no cost where all cost too much", function()
        local p = pool(addrs(5), 5, { most = 3 })
        local home = p.choose("hot")
        p.cost[home] = 3.1
        local second = p.choose("hot")
        assert.is_not.equal(home, second)
        for i = 0, 4 do p.cost[i] = 9 end
        assert.equal(home, p.choose("hot"))
    end)
end)
