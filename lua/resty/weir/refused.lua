-- Load reports that were not used, counted over all workers by pool and by what was wrong with them (orca.WHY), and what of it the engine knows.
--
-- The counts are in the shared dict and only grow, so that they outlive a worker; a pool has one for each cause at most. The elected worker tells
-- the engine, if that takes them (`accepts` of /watch): one that does not know the key would refuse the batch.
local orca = require "resty.weir.orca"
local shm = require "resty.weir.shm"

local pairs = pairs

local _M = {}

local dict
local heard -- the number of refusals when the engine was last told all; nil = never by this worker

function _M.init(d)
    dict = d
end

-- Notes a refusal; why is a key of orca.WHY.
function _M.count(pool, why)
    shm.add(dict, "refused:" .. pool .. ":" .. why, 1)
    shm.add(dict, "refused", 1)
end

-- What the engine has not been told yet of these pools (a set of names), as a list of {pool, why, count}; and a number for tell().
function _M.untold(names)
    local now = dict:get("refused")
    local list = {}
    if now == heard then
        return list, now
    end
    for name in pairs(names) do
        for why in pairs(orca.WHY) do
            local key = name .. ":" .. why
            local n = dict:get("refused:" .. key)
            n = n and n - (dict:get("refused told:" .. key) or 0) or 0
            if n > 0 then
                list[#list + 1] = { name, why, n }
            end
        end
    end
    return list, now
end

-- Notes that the engine took them.
function _M.tell(list, now)
    for i = 1, #list do
        shm.add(dict, "refused told:" .. list[i][1] .. ":" .. list[i][2], list[i][3])
    end
    heard = now
end

return _M
