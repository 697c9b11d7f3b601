local stub = require "stub"
local shm = require "resty.weir.shm"
local workers = require "resty.weir.workers"

-- A process that runs, as if it were another worker: the first of the machine.
local OTHER = workers.identity(1)

describe("the rows of counts", function()
    local dict, given
    local function found(row) given = row end

    before_each(function()
        dict = stub.dict()
        assert(shm.attach(dict))
        rawset(ngx, "timer", { at = function() end })
    end)

    it("are taken from the first, and a worker that finds none counts where nobody reads", function()
        dict:safe_set("row:0", OTHER)
        assert.equal(1, workers.claim(dict, 2, found))
        assert.equal(1, given)
        for row = 0, workers.SPARE - 1 do dict:safe_add("row:" .. row, OTHER) end
        local row, err = workers.claim(dict, 2, found)
        assert.is_nil(row)
        assert.truthy(err:find("rows of counts are taken", 1, true))
        assert.equal(workers.SPARE, given)
    end)

    it("that nobody has any more are not summed for good, and a worker that is left out shows itself again", function()
        for row = 0, 8 do dict:safe_set("row:" .. row, OTHER) end
        assert.equal(9, workers.claim(dict, 2, found))
        assert.equal(10, shm.head.nrows)
        for row = 3, 9 do dict:delete("row:" .. row) end
        workers.shrink()
        assert.equal(3, shm.head.nrows)
        workers.stay_in_sight()
        assert.equal(10, shm.head.nrows)
        dict:delete("row:0") -- a hole is no end
        workers.shrink()
        assert.equal(3, shm.head.nrows)
    end)
end)
