-- Splits: a share of a pool's requests goes to a group of its peers, the others to the rest (docs/canary.md). Here is which side a request
-- belongs to; pick.lua then chooses among that side's peers by its usual rules. Only pools that have a split come here.
--
-- The side is drawn before anything is known of costs and loads, so the share is exact in the mean, and a pick's propensity is that among
-- the candidates of its side. By a key the draw is the key's hash: a client stays on its side, and when the share grows those
-- that are in the group remain in it.
local ffi = require "ffi"
local pick = require "resty.weir.pick"
local random = require "resty.weir.random"
local rendezvous = require "resty.weir.rendezvous"
local key = require "resty.weir.key"
local vars = require "resty.weir.vars"

local rnd = random.float
local read, same = vars.read, vars.same
local mix = rendezvous.mix
local REST, GROUP = pick.REST, pick.GROUP

local _M = {}

-- For a view whose pool has a split; nil when there is nothing to split, because a side has no peers and the other one may serve.
function _M.prepare(view, told, peers)
    local n = view.n
    local s = { share = told.share, fallback = told.fallback ~= false, inside = ffi.new("uint8_t[?]", n), side_of = {},
        list = { [REST] = ffi.new("int32_t[?]", n), [GROUP] = ffi.new("int32_t[?]", n) }, count = { [REST] = 0, [GROUP] = 0 } }
    for i, p in ipairs(peers) do
        local side = p.group == told.group and GROUP or REST
        s.list[side][s.count[side]] = i - 1
        s.count[side] = s.count[side] + 1
        s.inside[i - 1], s.side_of[p.slot] = side, side
    end
    if s.fallback and (s.count[REST] == 0 or s.count[GROUP] == 0) then
        return nil
    end
    if told.header then
        s.header = vars.named("http_" .. told.header:lower():gsub("-", "_"))
        s.value, s.value_len = told.value, told.value and #told.value or 0
        s.value_bytes = told.value and ffi.new("uint8_t[?]", #told.value, told.value)
    end
    if told.key then
        s.parts = key.parts_of(told.key, "pool \"" .. view.name .. "\": the split's key", "each request is drawn for itself")
        s.seed = rendezvous.add(0, ffi.cast("const uint8_t *", view.name), #view.name) -- pools draw apart
    end
    return s
end

-- Where in [0, 1) a key falls; a share contains what lies below it.
function _M.place(hash)
    return (mix(hash) + 2147483648) * 2.3283064365386963e-10
end

local function by_header(s, r)
    local bytes, len = read(r, s.header)
    if not s.value then
        return len > 0
    end
    return len == s.value_len and same(bytes, s.value_bytes, len)
end

-- Tells pick.lua the side of request r, whose record is q. A further attempt goes to the rest whatever the first was meant for: what fails
-- in the group is made good by peers that are known, and no retry adds to its share. Without fallback it stays on its side.
function _M.decide(view, r, q)
    local s = view.split
    if q.n > q.pass then
        local side = s.fallback and REST or s.side_of[q.attempt[q.n - 1].slot] or REST
        return pick.on_side(side, 0, false)
    end
    if s.header and by_header(s, r) then
        return pick.on_side(GROUP, pick.BY_HEADER, true)
    end
    local hash = s.parts and key.hash(s.parts, r, s.seed)
    local at = hash and _M.place(hash) or rnd()
    return pick.on_side(at < s.share and GROUP or REST, 0, hash or s.share <= 0 or s.share >= 1)
end

return _M
