-- The rule of splits as engine/split says it, which has made the vectors.
local cjson = require "cjson"
local ffi = require "ffi"
require "stub"

local vars = { -- by the name of the variable, what this request has
    values = {},
    named = function(name) return name end,
    same = function(a, b, len) return ffi.string(a, len) == ffi.string(b, len) end,
}
function vars.read(_, name)
    local value = vars.values[name] or ""
    return ffi.cast("const uint8_t *", value), #value
end
package.loaded["resty.weir.vars"] = vars
for _, name in ipairs { "key", "split", "random", "pick" } do
    package.loaded["resty.weir." .. name] = nil
end
local draw
require("resty.weir.random").float = function() return draw end
local pick = require "resty.weir.pick"
local split = require "resty.weir.split"
local key = require "resty.weir.key"
local rendezvous = require "resty.weir.rendezvous"

local function vectors()
    local f = assert(io.open("test/vectors/split.json"))
    local text = f:read("*a")
    f:close()
    return cjson.decode(text)
end

describe("the split's rule", function()
    it("places a key where the shared vectors have it", function()
        local n = 0
        for _, v in ipairs(vectors().places) do
            local text = ""
            vars.values = {}
            for i, part in ipairs(v.parts) do
                if i % 2 == 1 then
                    text = text .. part
                else
                    text = text .. "${v" .. i .. "}"
                    vars.values["v" .. i] = part
                end
            end
            local seed = rendezvous.add(0, ffi.cast("const uint8_t *", v.pool), #v.pool)
            assert.equal(v.at, split.place(key.hash(key.parts_of(text), nil, seed)), v.pool .. " " .. text)
            n = n + 1
        end
        assert.is_true(n >= 30)
    end)

    it("chooses the side that the shared vectors have", function()
        local side, flag, firm
        local on_side = pick.on_side
        pick.on_side = function(...) side, flag, firm = ... end
        local peers = { { slot = 1 }, { slot = 2, group = "canary" } }
        local n = 0
        for i, v in ipairs(vectors().choices) do
            local view = { n = 2, name = "api" }
            local told = { group = "canary", share = v.share, fallback = v.fallback, header = "X-Canary", value = "yes", key = "$user" }
            view.split = split.prepare(view, told, peers)
            vars.values = { user = v.key, http_x_canary = v.header and "yes" or "no" }
            draw = v.draw
            split.decide(view, nil, { n = v.again and 1 or 0, pass = 0, attempt = { [0] = { slot = v.before == 1 and 2 or 1 } } })
            local what = "choice " .. i .. " of the vectors"
            assert.equal(v.side == 1 and pick.GROUP or pick.REST, side, what)
            assert.equal(v.by_header and pick.BY_HEADER or 0, flag, what)
            assert.equal(v.firm, firm and true or false, what)
            n = n + 1
        end
        pick.on_side = on_side
        assert.is_true(n >= 200)
    end)
end)
