require "stub"
local orca = require "resty.weir.orca"
local cjson = require "cjson"

local function vectors()
    local f = assert(io.open("test/vectors/orca.json"))
    local list = cjson.decode(f:read("*a"))
    f:close()
    return list
end

describe("a load report", function()
    it("is read, or refused, as the shared vectors say, each of them", function()
        local n, causes = 0, {}
        for _, v in ipairs(vectors()) do
            local use, held = orca.parse(v.value, v.bin)
            if v.error then
                assert.equal(nil, use, v.why .. ": " .. v.value)
                assert.equal(v.error, held, v.why .. ": " .. v.value)
                causes[v.error] = true
            else
                assert.equal(nil, not use and held or nil, v.why .. ": " .. v.value)
                assert.equal(v.use, use, v.why .. ": " .. v.value)
                assert.equal(v.held, held, v.why .. ": " .. v.value)
            end
            n = n + 1
        end
        assert.is_true(n >= 80)
        for cause in pairs(orca.WHY) do
            assert.is_true(causes[cause], "no vector is refused for " .. cause)
        end
    end)

    it("of any bytes is read within bounds or refused for a reason that has words", function()
        math.randomseed(11)
        local list = vectors()
        local good = 0
        for _ = 1, 30000 do
            local v = list[math.random(#list)]
            local text = v.value
            for _ = 1, math.random(1, 3) do
                local at = math.random(0, #text)
                local what = math.random(4)
                local other = list[math.random(#list)].value
                if what == 1 then -- a byte changed
                    text = text:sub(1, at) .. string.char(math.random(0, 255)) .. text:sub(at + 2)
                elseif what == 2 then -- cut off
                    text = text:sub(1, at)
                elseif what == 3 then -- a piece of another
                    local from = math.random(0, #other)
                    text = text:sub(1, at) .. other:sub(from, from + math.random(0, 20)) .. text:sub(at + 1)
                else -- a piece left out
                    text = text:sub(1, at) .. text:sub(at + math.random(1, 5))
                end
            end
            local use, held = orca.parse(text, v.bin)
            if use then
                good = good + 1
                assert.is_true(use == -1 or use >= 0 and use <= 1000, text)
                assert.is_true(held == -1 or held >= 0 and held <= 65534 and held % 1 == 0, text)
            else
                assert.is_string(orca.WHY[held], text)
            end
        end
        assert.is_true(good > 300, "only " .. good .. " were read")
    end)

    it("leaves nothing behind for the next", function()
        assert.equal(0.5, (orca.parse("TEXT cpu_utilization=0.5,named_metrics.in_flight=3")))
        assert.same({ -1, -1 }, { orca.parse("TEXT eps=1") })
        for i = 1, 3000 do -- more names than are remembered
            assert.equal(-1, (orca.parse("TEXT named_metrics.n" .. i .. "=1,named_metrics.n" .. i + 1 .. "=1")))
        end
    end)
end)
