-- The time of one pick by size of the pool, and how close the sampled choice of large pools comes to the best peer. Plain LuaJIT, the production
-- modules, no NGINX. Prints a JSON array.   luajit bench/lua/pick.lua REPO SEED SECONDS
local repo, seed, seconds = arg[1], tonumber(arg[2]), tonumber(arg[3])
package.path = repo .. "/lua/?.lua;" .. repo .. "/test/lua/?.lua;" .. package.path
local ffi = require "ffi"
local cjson = require "cjson"
local stub = require "stub"
local shm = require "resty.weir.shm"
local slots = require "resty.weir.slots"
local pick = require "resty.weir.pick"
local pools = require "resty.weir.pools"
local clock = require "resty.weir.clock"
local random = require "resty.weir.random"

local dict = stub.dict()
assert(shm.attach(dict))
slots.init(dict)
random.seed(seed)
local rnd, floor = random.float, math.floor

local GRID = { 0, 1, 2, 4, 8, 16, 32, 64, 128, 256 }
local ROWS = 8 -- workers

-- A pool whose peers are up to three times as slow as its fastest.
local function pool(n, spread)
    local peers = {}
    for i = 1, n do
        local addr = "10.0." .. floor(i / 250) .. "." .. i % 250 .. ":80"
        peers[i] = { addr = addr, slot = assert(slots.of("api", addr)) } -- in order, from 0: closeness() counts on that
    end
    local v = pools.view({ peers = peers, classes = { "*" }, grid = GRID, settings = { spread = spread, explore = 0.01, control = 0 } })
    local cost = ffi.new("float[?]", n * #GRID)
    for i = 0, n - 1 do
        local base = 10 * (1 + 2 * rnd())
        for g = 0, #GRID - 1 do
            cost[i * #GRID + g] = base * (1 + GRID[g + 1] / 4)
        end
    end
    v.cost = cost
    return v
end

local function settle_loads(v, workers)
    for row = 0, workers - 1 do
        for i = 0, v.n - 1 do
            shm.count[row * shm.MAX_SLOTS + i].n = floor(rnd() * 3)
        end
    end
end

local function time_of(v, workers, local_rule)
    shm.head.nrows = workers
    settle_loads(v, workers)
    local times = {}
    local now = clock.now_ms()
    local runs, per = 0, 200
    local stop = now + seconds * 1000
    local warm = now + seconds * 250
    repeat
        local began = clock.now_ms()
        for k = 1, per do
            pick.reset_tried()
            local i = pick.pick(v, 0, now, local_rule, nil)
            shm.count[v.slot[i]].n = k % 5 -- the counts move, as they do
        end
        local ended = clock.now_ms()
        if began > warm then
            runs = runs + 1
            times[runs] = (ended - began) / per * 1000
        end
    until ended > stop
    table.sort(times)
    local function at(q) return times[math.max(1, math.ceil(#times * q))] end
    return { median_us = at(0.5), p90_us = at(0.9), worst_us = at(1), batches = runs }
end

-- Place of the choice among all peers by cost (0 = the best), and its cost above the best one's; spread 0, so that both mean to take the best.
local function closeness(n)
    local v = pool(n, 0)
    v.explore = 0
    shm.head.nrows = 1
    local ranks, excess = {}, {}
    for k = 1, 400 do
        settle_loads(v, 1)
        pick.reset_tried()
        local mine_at = pick.pick(v, 0, 0, false, nil)
        local mine, best, better = pick.choice.cost, math.huge, 0
        for i = 0, n - 1 do
            local l = shm.count[i].n
            local c = v.cost[i * v.ng] * (1 + l / 4)
            best = math.min(best, c)
            if i ~= mine_at and c < mine * (1 - 1e-6) then
                better = better + 1
            end
        end
        ranks[k], excess[k] = better / n, mine / best - 1
    end
    table.sort(ranks)
    table.sort(excess)
    return { median_rank = ranks[200], p99_rank = ranks[396], median_excess = excess[200], p99_excess = excess[396] }
end

local out = {}
for _, n in ipairs({ 10, 50, 100, 256, 257, 1000, 4000 }) do
    local v = pool(n, 0.1)
    out[#out + 1] = { peers = n, one = time_of(v, 1, false), many = time_of(v, ROWS, false), alone = time_of(v, ROWS, true), close = closeness(n) }
end
print(cjson.encode(out))
