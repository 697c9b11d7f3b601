-- Sizes of requests, in pools whose requests tell their weight ($weir_weight). The engine sends what its table knows of sizes ("work" in
-- docs/protocol.md); without it a view is not `sized`, and nothing here is called.
--
-- A request of size s costs cost(m) - grow(m) + s x grow(n): grow is the part in proportion to the size, n the requests the peer holds, m the
-- same by their work. engine/decide/work.go has the same rule and the reasons; test/vectors/sizes.json holds both to each other.
--
-- What a peer holds is counted in mean requests of the pool, in units of 1/UNIT, so that sums are whole numbers and exact however often
-- they are added to and taken from.
local ffi = require "ffi"

local floor, min, max = math.floor, math.min, math.max

local UNIT = 4096
local MOST = 1e6   -- mean requests in one
local WORST = 1000 -- times by which held work differs from the count; counts and works come from different moments

local float_p = ffi.typeof("const float *")
local floats = ffi.typeof("float[?]")

local _M = { UNIT = UNIT }

-- How many floats "work" has for a view with so many classes.
function _M.floats(view, classes)
    return classes * view.n * view.ng + classes * view.n + 2 * view.n + classes
end

-- Takes the floats into the view, which has its costs already: shares, loads, means, knees, hints.
function _M.take(view, bytes, classes)
    local n, cells = view.n, classes * view.n * view.ng
    local from = ffi.cast(float_p, bytes)
    if not view.sized then
        view.sized = true
        view.grow, view.unit_load = floats(cells), floats(classes * n)
        view.mean, view.knee, view.hint = floats(n), floats(n), floats(classes)
    end
    local grow, cost = view.grow, view.cost
    for i = 0, cells - 1 do
        grow[i] = cost[i] * from[i]
    end
    from = from + cells
    ffi.copy(view.unit_load, from, 4 * classes * n)
    from = from + classes * n
    ffi.copy(view.mean, from, 4 * n)
    ffi.copy(view.knee, from + n, 4 * n)
    ffi.copy(view.hint, from + 2 * n, 4 * classes)
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

-- Cost of a request of a size on position i that holds n requests of so many units of work, 0 = not known.
function _M.price(view, row, i, n, work, size)
    local knee, m = view.knee[i], n
    if n > knee - 1 and work > 0 then
        m = knee - 1 + (n + 1 - knee) * min(work / (UNIT * n * view.mean[i]), WORST)
    end
    local grid, gi, gmax = view.grid, view.gi, view.gmax
    local base = (row * view.n + i) * view.ng
    local cost, grow = view.cost, view.grow
    local g = gi[min(floor(m), gmax)]
    local f = (m - grid[g]) / (grid[g + 1] - grid[g])
    local a = base + g
    local fixed = cost[a] - grow[a]
    fixed = fixed + (cost[a + 1] - grow[a + 1] - fixed) * f
    g = gi[min(n, gmax)]
    f = (n - grid[g]) / (grid[g + 1] - grid[g])
    a = base + g
    return fixed + size * (grow[a] + (grow[a + 1] - grow[a]) * f)
end

return _M
