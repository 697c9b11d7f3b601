local class = require "resty.weir.class"
local cjson = require "cjson"

local function vectors()
    local f = assert(io.open("test/vectors/classes.json"))
    local list = cjson.decode(f:read("*a"))
    f:close()
    return list
end

local function path_of(v)
    if v.path_hex then
        return (v.path_hex:gsub("..", function(h) return string.char(tonumber(h, 16)) end))
    end
    return v.path
end

describe("the class of a request", function()
    it("is what the shared vectors say, each of them", function()
        local n = 0
        for _, v in ipairs(vectors()) do
            assert.equal(v.class, class.of(v.method, path_of(v), v.body), v.why)
            n = n + 1
        end
        assert.is_true(n >= 60)
    end)

    it("never shares its number with another", function()
        local by_hash = {}
        for _, v in ipairs(vectors()) do
            local path = path_of(v)
            local name, hash = class.template(path), class.hash(1, path)
            assert.equal(by_hash[hash] or name, name, "same number, another template: " .. path)
            by_hash[hash] = name
        end
    end)

    it("has one number exactly when it has one name, for paths made at random", function()
        math.randomseed(7)
        local parts = { "", "users", "v1", "12", "7", "deadbeef", "deadbee1", "0123456789abcdef", "a-b", "ABCDEF12", "x\1y", "\"q\"", "{n}",
            "123e4567-e89b-12d3-a456-426614174000", "abcdefghijklmnop123", "abcdefghijklmnopqrstuvwxyz", ("z"):rep(120) }
        local by_name, by_hash = {}, {}
        for _ = 1, 20000 do
            local path = ""
            for _ = 1, math.random(0, 10) do
                path = path .. "/" .. parts[math.random(#parts)]
            end
            local name, hash = class.template(path), class.hash(3, path)
            assert.equal(by_name[name] or hash, hash)
            assert.equal(by_hash[hash] or name, name)
            by_name[name], by_hash[hash] = hash, name
        end
    end)

    it("differs by method and by body size", function()
        assert.not_equal(class.hash(1, "/a"), class.hash(2, "/a"))
        assert.equal("POST /a b32k", class.of("POST", "/a", 2000))
        assert.equal("POST /a b?", class.of("POST", "/a", -1))
        assert.equal("OTHER /a", class.of("BREW", "/a", 0))
    end)

    it("does not take long for a path of 64 KiB", function()
        local long = "/" .. ("a"):rep(65536)
        assert.equal("GET /**", class.of("GET", long, 0))
        assert.equal("number", type(class.hash(1, long)))
    end)
end)
