-- This worker's view of each pool: the engine's last blob for it, decoded into FFI arrays; or the static peers of the
-- configuration, as long as no engine has said anything.
--
-- The elected worker (watch.lua) writes blobs to the shared dict; the others notice by a counter in shared memory, which costs a pick one
-- load. A blob is one value, so a worker never sees half an update:
--   u32 length of meta, u32 number of costs, u32 number of this meta, meta (JSON: peers with slots, classes, grid, settings), costs (float32),
--   in pools with sizes what the table knows of them (float32)
-- The number changes when meta does: an update of costs alone copies floats and decodes no JSON.
local ffi = require "ffi"
local cjson = require "cjson.safe"
local shm = require "resty.weir.shm"
local slots = require "resty.weir.slots"
local evidence = require "resty.weir.evidence"
local pick = require "resty.weir.pick"
local tiers = require "resty.weir.tiers"
local clock = require "resty.weir.clock"
local notice = require "resty.weir.notice"
local sizes = require "resty.weir.sizes"

local C = ffi.C
local tonumber, ipairs = tonumber, ipairs
local worker_count = ngx.worker.count

ffi.cdef [[
int inet_pton(int family, const char *text, void *address);
const char *inet_ntop(int family, const void *address, char *text, uint32_t size);
]]

local _M = {}

local dict
local pools = {} -- name -> view
local statics = {} -- name -> text of static peers -> view; of upstreams that share a pool but not its static peers
local MAX_STATICS = 16 -- a pool; the texts are meant to be constants

local DEFAULTS = { -- also what a pool without an engine goes by; the engine sends its own
    policy = "static", spread = 0.1, explore = 0.01, control = 0, max_stale_ms = 30000, connect_timeout_ms = 1000, tries = 3,
    retry_timeout_ms = 10000, retry_share = 0.2, retry_min_per_s = 10, eject_consecutive = 5, eject_base_ms = 1000,
    eject_max_ms = 60000, eject_max_share = 0.5, tier_min_usable = 0.7, load_report = true, queue_ms = 100, queue_max = 100,
}

function _M.init(d)
    dict = d
    for _, key in ipairs(dict:get_keys(0)) do -- from before a reload: the new configuration may not have the pool any more
        if key:sub(1, 2) == "t:" then
            dict:delete(key)
        end
    end
end

-- Settings into the view: flat fields, because the hot path reads them.
local function settle(view, settings)
    for k, default in pairs(DEFAULTS) do
        local v = settings and settings[k]
        if type(v) ~= type(default) then
            v = default
        end
        view[k] = v
    end
    view.retry_per_s = view.retry_min_per_s / worker_count() -- this worker's part
end

-- What choose.lua needs to decide the short way, and whether it may.
function _M.shortcut(view)
    local n = view.n
    view.cand, view.bar, view.ncand = ffi.new("int32_t[?]", n), ffi.new("double[?]", n), 0
    view.simple = n <= pick.FULL_SCAN and not view.cap
    view.bounded = false -- a usable peer's share is
    for i = 0, n - 1 do
        if view.usable[i] == 1 then
            view.cand[view.ncand] = i
            view.ncand = view.ncand + 1
            view.bounded = view.bounded or view.admit[i] < 1
        else
            view.bar[i] = math.huge
        end
    end
    view.simple = view.simple and view.ncand > 1 and not view.bounded
    return view
end

local function unbounded(n)
    local cap = ffi.new("int32_t[?]", n)
    for i = 0, n - 1 do
        cap[i] = 0x7fffffff
    end
    return cap
end

local function arrays(view, peers)
    local n = #peers
    view.n = n
    view.slot = ffi.new("int32_t[?]", n)
    view.usable = ffi.new("uint8_t[?]", n)
    view.draining = ffi.new("uint8_t[?]", n)
    view.admit = ffi.new("float[?]", n)
    view.weight = ffi.new("float[?]", n)
    view.standby = ffi.new("uint8_t[?]", n)
    view.keeps = ffi.new("uint8_t[?]", n)
    view.cap = nil -- most requests in flight, of all workers of this NGINX; nil when no peer has a bound
    view.addr, view.host, view.port, view.state, view.told_weight = {}, {}, {}, {}, {} -- by position
    view.addr_of = {} -- by slot
    view.needed = nil -- set of slots; nil when the pool can do without any one peer
    for i, p in ipairs(peers) do
        view.slot[i - 1] = p.slot
        view.usable[i - 1] = p.usable == false and 0 or 1
        view.draining[i - 1] = p.state == "draining" and 1 or 0
        view.admit[i - 1] = p.admit or 1
        view.standby[i - 1] = p.state == "standby" and 1 or 0
        view.keeps[i - 1] = p.keeps and 1 or 0
        if p.needed then
            view.needed = view.needed or {}
            view.needed[p.slot] = true
        end
        if p.max_inflight then
            view.cap = view.cap or unbounded(n)
            view.cap[i - 1] = p.max_inflight
        end
        view.told_weight[i - 1] = (p.weight and p.weight > 0) and p.weight or 1
        -- a peer in another zone: in the costs that is reckoned in, the rules that have none take it for a weaker one
        view.weight[i - 1] = view.told_weight[i - 1] / (1 + (p.away or 0))
        local info = slots.info(p.slot)
        view.addr[i - 1], view.host[i - 1], view.port[i - 1] = p.addr, info.host, info.port
        view.state[i - 1] = p.state or "up"
        view.addr_of[p.slot] = p.addr
    end
    tiers.prepare(view, peers)
    _M.shortcut(view)
end

-- For every count up to the last grid point: between which points it lies, and how far. Saves the hot path a search.
local function grid_index(view, grid)
    local ng = #grid
    local max = grid[ng]
    view.ng, view.gmax, view.past = ng, max, 1 / (grid[ng] - grid[ng - 1])
    view.grid = ffi.new("double[?]", ng, grid)
    view.gi = ffi.new("uint16_t[?]", max + 1)
    view.gf = ffi.new("float[?]", max + 1)
    local g = 0
    for l = 0, max do
        while g < ng - 2 and l >= grid[g + 2] do
            g = g + 1
        end
        view.gi[l] = g
        view.gf[l] = (l - grid[g + 1]) / (grid[g + 2] - grid[g + 1])
    end
end

local AF_INET, AF_INET6 = 2, ffi.os == "OSX" and 30 or 10
local parsed, printed = ffi.new("uint8_t[16]"), ffi.new("char[64]")

-- A peer's address as NGINX and the engine spell it: attempts are found in NGINX's lists by it. nil when NGINX cannot connect to it: it takes no names
-- here, and fails each request that is sent to one.
local function spelled(word)
    local host, port = slots.split(word)
    if not host or not port or port > 65535 or #word > 255 then
        return nil
    end
    if word:find("^unix:") then
        local path = word:sub(6):gsub("/+", "/")
        while path:find("/./", 1, true) do
            path = path:gsub("/%./", "/")
        end
        return path ~= "" and "unix:" .. path or nil
    end
    local v6 = host:match("^%[(.*)%]$")
    local family = v6 and AF_INET6 or AF_INET
    if port == 0 or C.inet_pton(family, v6 or host, parsed) ~= 1 or C.inet_ntop(family, parsed, printed, ffi.sizeof(printed)) == nil then
        return nil
    end
    return (v6 and "[%s]:%d" or "%s:%d"):format(ffi.string(printed), port)
end

-- "10.0.0.1:8080 weight=2, [::1]:9001 backup; unix:/run/app.sock tier=2"
-- Returns a list of {addr=, weight=, tier=}; and what is wrong, the first of it, if anything is. The list has what is right: one bad peer must not
-- cost the others their requests.
function _M.parse_static(text)
    local list, seen, wrong = {}, {}, nil
    local last -- peer of the last address, false when that was bad
    for word in text:gmatch("[^%s,;]+") do
        local w = word:match("^weight=(.+)$")
        local tier = word == "backup" and "1" or word:match("^tier=(.+)$")
        if tier then
            if last == nil or not tier:match("^%d%d?$") or tonumber(tier) > 15 then
                wrong = wrong or "\"" .. word .. "\": backup, or tier=0 to tier=15, is given after an address"
            elseif last then
                last.tier = tonumber(tier)
            end
        elseif w then
            local weight = tonumber(w)
            if last == nil or not weight or not (weight >= 0.01 and weight <= 1000) then -- NaN is neither
                wrong = wrong or "\"" .. word .. "\": weight=NUMBER from 0.01 to 1000 is given after an address"
            elseif last then
                last.weight = weight
            end
        else
            local addr = spelled(word)
            last = addr and (seen[addr] or { addr = addr, weight = 1 }) or false
            if not addr then
                wrong = wrong or "\"" .. word .. "\" is not IP:port, [IPv6]:port or unix:/path"
            elseif not seen[addr] and #list == pick.MAX_PEERS then
                wrong = wrong or "\"" .. word .. "\" is one too many: a pool may have " .. pick.MAX_PEERS .. " peers"
                last = false
            elseif not seen[addr] then
                seen[addr] = last
                list[#list + 1] = last
            end
        end
    end
    return list, wrong
end

local function from_static(name, text)
    local view = { name = name, static = true, blob_version = 0, row_of = {}, classes = { "*" } }
    settle(view, nil)
    local list, wrong = _M.parse_static(text or "")
    if wrong then
        notice.error("static peers of pool \"" .. name .. "\": " .. wrong .. "; what is right in the list is used")
    end
    local peers = {}
    for _, p in ipairs(list) do
        local slot, serr = slots.of(name, p.addr, true)
        if slot then
            p.slot = slot
            peers[#peers + 1] = p
        else
            notice.error("static peer " .. p.addr .. " of pool \"" .. name .. "\": " .. serr)
        end
    end
    tiers.stand_by(peers)
    arrays(view, peers)
    return view
end

local u32p = ffi.typeof("const uint32_t *")
local HEAD = 12

-- A view without costs from a blob's meta.
function _M.view(meta)
    local view = { classes = meta.classes }
    settle(view, meta.settings)
    local told = type(meta.settings) == "table" and meta.settings.limit
    view.limit = told and require("resty.weir.shed").prepare(told) or nil -- loaded where needed: it reads NGINX's variables
    arrays(view, meta.peers)
    grid_index(view, meta.grid)
    return view
end

-- A view from a blob, or `old` with the blob's costs when nothing else changed.
local function from_blob(name, blob, old)
    local head = ffi.cast(u32p, blob)
    local meta_len, ncost, meta_number = tonumber(head[0]), tonumber(head[1]), tonumber(head[2])
    local costs = ffi.cast("const char *", blob) + HEAD + meta_len
    local nsizes = (#blob - HEAD - meta_len) / 4 - ncost
    if old and not old.static and old.meta_number == meta_number and old.ncost == ncost and old.nsizes == nsizes then
        ffi.copy(old.cost, costs, ncost * 4)
        if nsizes > 0 then
            sizes.take(old, costs + ncost * 4, #old.classes)
        end
        return old
    end
    local meta, err = cjson.decode(blob:sub(HEAD + 1, HEAD + meta_len))
    if not meta then
        return nil, err
    end
    for _, p in ipairs(meta.peers) do
        slots.meet(p.slot, name, p.addr)
    end
    local view = _M.view(meta)
    view.name, view.static, view.meta_number, view.ncost, view.nsizes = name, false, meta_number, ncost, nsizes
    if ncost ~= #meta.classes * view.n * view.ng then
        return nil, ncost .. " costs for " .. #meta.classes .. " classes x " .. view.n .. " peers x " .. view.ng .. " grid points"
    end
    view.cost = ffi.new("float[?]", ncost)
    ffi.copy(view.cost, costs, ncost * 4)
    if nsizes ~= 0 then
        if nsizes ~= sizes.floats(view, #meta.classes) then
            return nil, nsizes .. " numbers for sizes, " .. sizes.floats(view, #meta.classes) .. " expected"
        end
        sizes.take(view, costs + ncost * 4, #meta.classes)
        view.simple = false -- the short way knows no sizes
    end
    view.class_index = {}
    for i, c in ipairs(meta.classes) do
        view.class_index[c] = i - 1
    end
    view.row_of = {} -- this worker's class number -> row; filled as classes turn up
    local told = type(meta.settings) == "table" and meta.settings.affinity
    if told then -- loaded when first needed: it reads NGINX's variables, and most pools have none
        view.affinity = require("resty.weir.affinity").prepare(view, told, old and old.affinity)
    end
    local parted = type(meta.settings) == "table" and meta.settings.split
    if parted then -- loaded when first needed, as above
        view.split = require("resty.weir.split").prepare(view, parted, meta.peers)
        view.simple = view.simple and not view.split
    end
    return view
end

-- Makes sure the view is that of the last blob. Called when the change counter moved.
local function reload(name, view)
    local version = dict:get("v:" .. name)
    if not version then
        if view.static then
            return view
        end
        return from_static(name, view.static_text) -- the engine dropped the pool
    end
    if version == view.blob_version then
        return view
    end
    local blob = dict:get("b:" .. name)
    if not blob then
        return view
    end
    local fresh, err = from_blob(name, blob, view)
    if not fresh then
        notice.error("table of pool \"" .. name .. "\" cannot be read, the last one stays: " .. err)
        view.blob_version = version
        return view
    end
    fresh.blob_version = version
    evidence.reconcile(fresh, clock.now_ms())
    return fresh
end

-- The view of a pool of which no engine has spoken.
local function first_view(name, static_text)
    local of = statics[name]
    if not of then
        of = { n = 0, by = {} }
        statics[name] = of
    end
    local view = of.by[static_text or ""]
    if not view then
        view = from_static(name, static_text)
        view.static_text = static_text
        view.tokens, view.tokens_at = view.retry_per_s, clock.now_ms()
        dict:safe_set("t:" .. name, static_text or "") -- so that the status page of any worker knows the pool
        if of.n < MAX_STATICS then
            of.n = of.n + 1
            of.by[static_text or ""] = view
        end
    end
    return view
end

-- The view of a pool, fresh. static_text: peers to use while the engine has not named any (the second
-- argument of balance()).
function _M.get(name, static_text)
    local view = pools[name]
    local change = shm.head.change
    -- Two upstreams of one pool may have different static peers; they count only while the engine has named none.
    if view and view.seen == change and (not view.static or view.static_text == static_text or static_text == nil) then
        return view
    end
    if not view or (view.static and static_text ~= nil and view.static_text ~= static_text) then
        local fresh = first_view(name, static_text)
        if view then
            fresh.tokens, fresh.tokens_at = view.tokens, view.tokens_at
        end
        view = fresh
    end
    view.static_text = view.static_text or static_text -- the first to ask may have been the status page, which knows none
    local fresh = reload(name, view)
    fresh.static_text = view.static_text
    fresh.tokens, fresh.tokens_at = view.tokens, view.tokens_at
    fresh.seen = change
    pools[name] = fresh
    return fresh
end

-- The set of addresses that the table of a pool has; empty when no engine has spoken of it.
function _M.told(name)
    local blob, set = dict:get("b:" .. name), {}
    local meta = blob and cjson.decode(blob:sub(HEAD + 1, HEAD + tonumber(ffi.cast(u32p, blob)[0])))
    for _, peer in ipairs(meta and meta.peers or {}) do
        set[peer.addr] = true
    end
    return set
end

-- Views this worker has, by name.
function _M.all()
    return pools
end

-- Packs one pool as told by /watch (peers already have slots) into a blob.
function _M.pack(meta_json, meta_number, cost, told_sizes)
    return ffi.string(ffi.new("uint32_t[3]", #meta_json, #cost / 4, meta_number), HEAD) .. meta_json .. cost .. (told_sizes or "")
end

return _M
