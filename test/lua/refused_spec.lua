local stub = require "stub"
local refused = require "resty.weir.refused"

local function sorted(list)
    table.sort(list, function(a, b) return a[1] .. a[2] < b[1] .. b[2] end)
    return list
end

describe("load reports that were refused", function()
    local dict
    before_each(function()
        dict = stub.dict()
        refused.init(dict)
        refused.tell({}, nil)
    end)

    it("are told once, by pool and cause", function()
        refused.count("api", "finite")
        refused.count("api", "finite")
        refused.count("web", "json")
        refused.count("gone", "json")
        local list, at = refused.untold({ api = 1, web = 1 })
        assert.same({ { "api", "finite", 2 }, { "web", "json", 1 } }, sorted(list))
        refused.tell(list, at)
        assert.same({}, (refused.untold({ api = 1, web = 1 })))
        refused.count("api", "finite")
        assert.same({ { "api", "finite", 1 } }, (refused.untold({ api = 1, web = 1 })))
    end)

    it("are told again when the engine did not take them, with what came since", function()
        refused.count("api", "finite")
        refused.untold({ api = 1 })
        refused.count("api", "finite")
        assert.same({ { "api", "finite", 2 } }, (refused.untold({ api = 1 })))
    end)

    it("that came while a batch was on its way are told with the next", function()
        refused.count("api", "finite")
        local list, at = refused.untold({ api = 1 })
        refused.count("api", "finite")
        refused.tell(list, at)
        assert.same({ { "api", "finite", 1 } }, (refused.untold({ api = 1 })))
    end)

    it("are looked for only when there were any", function()
        refused.count("api", "finite")
        local list, at = refused.untold({ api = 1 })
        refused.tell(list, at)
        dict.get = function(_, key) assert.equal("refused", key) return at end
        assert.same({}, (refused.untold({ api = 1 })))
        dict.get = nil
    end)
end)
