require "stub"

local OUT = { "weir_peer", "weir_class", "weir_policy", "weir_predicted_ms", "weir_attempts" }

-- The module anew, as in a worker whose configuration reads these variables. direct: NGINX's memory can be written to.
-- Returns it and the variables of the request at hand.
local function worker(read, direct)
    local values, declared = {}, {}
    for _, name in ipairs(read) do declared[name] = true end
    rawset(ngx, "var", setmetatable({}, {
        __index = function(_, name) return values[name] end,
        __newindex = function(_, name, value)
            if not declared[name] then error("variable \"" .. name .. "\" not found for writing") end
            values[name] = value
        end,
    }))
    package.loaded["resty.weir.vars"] = {
        named = function(name) return name end,
        value = function(text) return { text = text } end,
        write = function(r, name, v)
            if direct then r[name] = v.text end
            return direct
        end,
    }
    package.loaded["resty.weir.variables"] = nil
    local variables = require "resty.weir.variables"
    assert(variables.wanted() == (#read > 0))
    return variables, values
end

describe("the variables of a request", function()
    after_each(function()
        package.loaded["resty.weir.vars"], package.loaded["resty.weir.variables"] = nil, nil
        rawset(ngx, "var", nil)
    end)

    for name, direct in pairs({ ["in NGINX's memory"] = true, ["by ngx.var"] = false }) do
        it("are told " .. name, function()
            local variables, values = worker(OUT, direct)
            local r = direct and values or {}
            local texts = { [-1] = "-", [0] = "0.0", [0.04] = "0.0", [0.06] = "0.1", [12.34] = "12.3", [999.94] = "999.9",
                [1234.56] = "1234.6", [1e9] = "1000000000.0", [math.huge] = "inf" }
            for told, text in pairs(texts) do
                for _ = 1, 2 do -- the second time it is kept
                    variables.set(r, "10.0.0.1:80", "GET /", "learned", told, "2")
                    assert.are.same({ weir_peer = "10.0.0.1:80", weir_class = "GET /", weir_policy = "learned", weir_predicted_ms = text,
                        weir_attempts = "2" }, values)
                end
            end
            variables.set(r, "-", "-", "none", 0 / 0, "0")
            assert.are.equal("-", values.weir_predicted_ms)
        end)
    end

    it("are left alone where nothing reads them", function()
        local variables, values = worker({ "weir_peer" }, false)
        variables.set({}, "10.0.0.1:80", "GET /", "learned", 1, "1")
        assert.are.same({ weir_peer = "10.0.0.1:80" }, values)
    end)

    it("of more texts than are kept are told all the same", function()
        local variables, values = worker({ "weir_peer" }, true)
        for i = 1, 20000 do
            variables.set(values, "peer " .. i, false, "learned", 1, "1")
            assert.are.equal("peer " .. i, values.weir_peer)
        end
    end)
end)
