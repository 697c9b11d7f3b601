-- Sizes of requests, in pools whose requests tell their weight ($weir_weight). The engine sends what its table knows of sizes ("sizes" in
-- docs/protocol.md); without it a view is not `sized`, and nothing here is called.
--
-- A request of size s waits for what is left of the work before it, is served s times its own service, and delays those that come after it by its
-- length, each that comes before the queue is empty again. engine/decide/work.go has the same rule and the reasons; test/vectors/sizes.json
-- holds both to each other.
local ffi = require "ffi"
local progress = require "resty.weir.progress"

local floor, min, max, sqrt = math.floor, math.min, math.max, math.sqrt

local UNIT = progress.UNIT
local MOST = 1e6   -- mean requests in one
local WORST = 1000 -- times by which the work that is left differs from the count; counts and works come from different moments

local float_p = ffi.typeof("const float *")
local doubles = ffi.typeof("double[?]")

local _M = {}

-- How many floats "sizes" has for a view with so many classes.
function _M.floats(view, classes)
    return 2 * classes * view.n + 5 * view.n + classes + 2
end

-- A number of the table; `otherwise` where it is none that it can be, so that one wrong number spoils one price at most.
local function within(x, least, most, otherwise)
    return x >= least and x <= most and x or otherwise
end

-- Takes the floats into the view, which has its costs already: own, load, mean, knee, rate, known, follow, hint, imposed, busy.
function _M.take(view, bytes, classes)
    local n, ng, cost = view.n, view.ng, view.cost
    local cells = classes * n
    if not view.sized then
        view.sized = true
        view.own, view.unit_load = doubles(cells), doubles(cells) -- [class][peer]
        view.mean, view.knee, view.known, view.follow, view.hint = doubles(n), doubles(n), doubles(n), doubles(n), doubles(classes)
        view.root = doubles(n) -- the power of the work that a peer counts by
    end
    local own = ffi.cast(float_p, bytes)
    local load = own + cells
    local mean = load + cells
    local knee, rate, known, follow, hint = mean + n, mean + 2 * n, mean + 3 * n, mean + 4 * n, mean + 5 * n
    for i = 0, n - 1 do
        view.mean[i] = within(mean[i], 1e-9, MOST, 1)
        view.knee[i] = within(knee[i], 1, 1e9, 1)
        view.root[i] = 1 / sqrt(view.knee[i])
        view.known[i] = within(known[i], 0, 1, 0)
        view.follow[i] = within(follow[i], 0, 1e12, 0)
        -- All workers write the same, each when it comes to see the table. The slot's, not the view's: work is taken off when the view at hand
        -- may be another pool's.
        progress.tell(view.slot[i], within(rate[i], 0, 1e9, 0) * UNIT, view.knee[i])
        for c = 0, classes - 1 do
            local at = c * n + i
            view.own[at] = within(own[at], 0, 1, 0) * cost[at * ng]
            view.unit_load[at] = within(load[at], 0, MOST, 1)
        end
    end
    for c = 0, classes - 1 do
        view.hint[c] = within(hint[c], 0, 1e12, 0)
    end
    view.imposed, view.busy = within(hint[classes], 0, 1e9, 0), within(hint[classes + 1], 0, 1, 0)
end

-- How many times the usual of its class a request of a weight is; 1 when it has none.
function _M.size(view, row, weight)
    local hint = view.hint[row]
    if weight <= 0 or weight >= 1e12 or hint <= 0 then
        return 1
    end
    return min(max(weight / hint, 1e-3), 1e3)
end

-- What a request of a size adds to what the peer at position i holds, in units.
function _M.load(view, row, i, size)
    return floor(min(view.unit_load[row * view.n + i] * size, MOST) * UNIT + 0.5)
end

-- Cost of a request of a size on position i that holds n requests with so many units of work left, 0 = not known.
function _M.price(view, row, i, n, left, size)
    local knee, mean, cell = view.knee[i], view.mean[i], row * view.n + i
    local m, held_up = n, 1
    if n <= knee - 1 then -- a slot is free; fewer of those who come meanwhile find none
        held_up = view.busy ^ (knee - 1 - n)
    elseif left > 0 then
        local over = min(left / (UNIT * n * mean), WORST)
        if knee > 1 then -- a large request holds one slot up, not all
            over = over ^ view.root[i]
        end
        m = knee - 1 + (n + 1 - knee) * over
    end
    local grid, cost = view.grid, view.cost
    local g = view.gi[min(floor(m), view.gmax)]
    local a = cell * view.ng + g
    local own = view.own[cell]
    local wait = cost[a] + (cost[a + 1] - cost[a]) * (m - grid[g]) / (grid[g + 1] - grid[g]) - own
    local y = size * view.unit_load[cell] / mean
    return wait + size * own + view.imposed * y * (wait + y * view.follow[i] * held_up)
end

return _M
