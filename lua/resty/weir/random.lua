-- A generator of Weir's own, so that the application's math.random sequence is left alone. Marsaglia's xorshift32
-- ("Xorshift RNGs", J. Stat. Softw. 8(14), 2003): 2^32-1 long, good enough to break ties and explore, and it compiles.
local bit = require "bit"

local bxor, lshift, rshift = bit.bxor, bit.lshift, bit.rshift

local _M = {}
local state = 0x2545F491

-- Each worker seeds for itself: workers forked from one master would otherwise explore in step.
function _M.seed(n)
    state = bit.tobit(n)
    if state == 0 then
        state = 0x2545F491
    end
end

-- Uniform in [0, 1).
function _M.float()
    local x = state
    x = bxor(x, lshift(x, 13))
    x = bxor(x, rshift(x, 17))
    x = bxor(x, lshift(x, 5))
    state = x
    return (x + 2147483648) * 2.3283064365386963e-10
end

return _M
