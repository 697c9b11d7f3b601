-- Outcomes on their way to the engine: batches of fixed-size records in this worker (docs/protocol.md, compact form).
-- When the engine is away they fill and the oldest is lost, and counted. Nothing here waits in a request.
local ffi = require "ffi"
local cjson = require "cjson.safe"
local shm = require "resty.weir.shm"
local pools = require "resty.weir.pools"
local slots = require "resty.weir.slots"
local classes = require "resty.weir.classes"
local http = require "resty.weir.http"
local notice = require "resty.weir.notice"
local clock = require "resty.weir.clock"
local shed = require "resty.weir.shed"
local faults = require "resty.weir.refused"
local watch = require "resty.weir.watch"

local pairs, ipairs, next, pcall, tonumber = pairs, ipairs, next, pcall, tonumber
local exiting = ngx.worker.exiting
local timer_at = ngx.timer.at

ffi.cdef [[
typedef struct __attribute__((packed)) {
    uint16_t pool, class, peer;
    uint8_t  attempt, kind;
    uint16_t status, flags, inflight, reported;
    float    propensity, header_ms, total_ms, weight, predicted_ms, age_ms;
    uint32_t bytes;
    float    load;
} weir_record_t;
]]

local RECORD = ffi.sizeof("weir_record_t")

local _M = { sent = 0, dropped = 0 }

local EACH = 2048       -- records a batch; a full one is shipped at once
local BATCHES = 5       -- of 96 KiB each, a worker; all but one are kept when the engine is away
local INTERVAL_S = 0.1
local RETRY_MS = 1000    -- each refused connection is a line in NGINX's log,
local UNHEARD_MS = 10000 -- of each worker, so there is no more than one in so long until the elected one hears the engine
local RENEW_MS = 3600000

-- A batch is filled ready to be sent: its records lie in a row and name their pool, peer and class by places in its own lists. So shipping
-- copies nothing but the whole, and a push writes to one place only. It belongs to one of: `filling`, `sealed` (in order, oldest first,
-- on its way or waiting), `free`. The one put back last is the next to be filled: it is the one the cache still has.
local filling
local sealed, free = {}, {}
local on_its_way -- the sealed one that send() waits with
-- Of the filling batch, so that a push finds them without looking into a table.
local records, found_of, n, began = nil, nil, 0, 0
local shipping, ordered = false, false
local resume_at = 0 -- after a failure, not before
local refused_at = nil -- when a connection was refused, which says that no engine runs; nil = one was made since
local dropped_told = 0 -- of _M.dropped, how many the engine knows of
local socket, instance, worker_id
local last_renew = 0

-- The places of a peer's slot and of a class number in the lists of the filling batch, valid when their stamp is its: a batch looks up each of
-- them once and not in every record.
local stamp = 0
local peer_stamp, pool_at, peer_at = ffi.new("int32_t[?]", shm.MAX_SLOTS), ffi.new("int32_t[?]", shm.MAX_SLOTS), ffi.new("int32_t[?]", shm.MAX_SLOTS)
local class_stamp, class_at = ffi.new("int32_t[?]", classes.MAX + 1), ffi.new("int32_t[?]", classes.MAX + 1)

for i = 1, BATCHES do
    free[i] = { records = ffi.new("weir_record_t[?]", EACH), found = ffi.new("float[?]", EACH) }
end

local ship

local function ordered_ship()
    ordered = false
    ship()
end

-- Takes a batch to fill. Where none is free the engine is away: the oldest records are lost, and counted.
local function begin_batch()
    local b = table.remove(free)
    if not b then
        b = table.remove(sealed, sealed[1] == on_its_way and 2 or 1)
        _M.dropped = _M.dropped + b.n
    end
    b.lists = { pools = {}, classes = {}, peers = {} }
    b.seen = { pools = {}, classes = {}, peers = {} }
    b.sized = false
    filling, records, found_of, n, began = b, b.records, b.found, 0, clock.now_ms()
    stamp = stamp + 1
end

local function seal()
    filling.n, filling.aged_at = n, began
    sealed[#sealed + 1] = filling
    begin_batch()
end

local function index(what, name)
    local seen, list = filling.seen[what], filling.lists[what]
    local i = seen[name]
    if not i then
        i = #list
        list[i + 1] = name
        seen[name] = i
    end
    return i
end

local function locate_peer(slot)
    local info = slots.info(slot)
    peer_stamp[slot] = stamp
    pool_at[slot] = info and index("pools", info.pool) or -1 -- a peer long gone has no name any more
    peer_at[slot] = info and index("peers", info.addr) or -1
end

local function locate_class(class)
    class_stamp[class] = stamp
    class_at[class] = index("classes", classes.name_of[class] or "*")
end

-- Is there a pause after a failure? An engine that starts is heard by the elected worker within a second, and then they all send.
local function pausing(now)
    return now < resume_at or refused_at ~= nil and now - refused_at < UNHEARD_MS and shm.head.heard_ms <= refused_at
end

local function hand_over(now)
    if n == EACH then
        seal()
    end
    if not ordered and not shipping and not pausing(now) then
        ordered = timer_at(0, ordered_ship) and true or false
    end
end

-- Adds one outcome. Hot: no tables, no strings.
function _M.push(slot, class, attempt, kind, status, flags, inflight, propensity, header_ms, total_ms, weight, predicted_ms, now, bytes, load, reported,
    found)
    if peer_stamp[slot] ~= stamp then
        locate_peer(slot)
    end
    if class_stamp[class] ~= stamp then
        locate_class(class)
    end
    if peer_at[slot] < 0 then
        return
    end
    local rec = records[n]
    rec.pool, rec.class, rec.peer = pool_at[slot], class_at[class], peer_at[slot]
    rec.attempt, rec.kind, rec.status, rec.flags = attempt, kind, status, flags
    rec.inflight = inflight > 65535 and 65535 or inflight
    rec.reported = reported
    rec.propensity, rec.header_ms, rec.total_ms = propensity, header_ms, total_ms
    rec.weight, rec.predicted_ms, rec.bytes, rec.load = weight, predicted_ms, bytes, load
    rec.age_ms = began - now -- less than 0: send() adds the batch's own age
    if found > 0 and not filling.sized then
        filling.sized = true
        ffi.fill(found_of, n * 4)
    end
    if filling.sized then
        found_of[n] = found
    end
    n = n + 1
    if n == EACH or exiting() then
        hand_over(now)
    end
end

-- Live counts of all workers, for the engine's estimate of busy time; from the elected worker only, and those that outlive it (watch.speaks).
-- What it has told stands until something else is told, and a worker just elected does not know what the one before it told last: where nothing is
-- in flight it says so, of one peer for all.
local last_nonzero -- by slot; nil: nothing told since this worker was elected
local function inflight_totals()
    local list, nonzero, known = {}, {}, last_nonzero or {}
    for slot = 0, slots.count() - 1 do
        local held = shm.inflight(slot)
        if held > 0 or known[slot] or not last_nonzero and #list == 0 then
            local info = slots.info(slot)
            if info then
                list[#list + 1] = { info.pool, info.addr, held }
            end
            nonzero[slot] = held > 0 and held or nil
        end
    end
    return list, nonzero
end

-- Is it other than what this worker told last? Several may tell while they exit, and the engine hear the one that looked first last.
local function has_changed()
    for slot = 0, slots.count() - 1 do
        if shm.inflight(slot) ~= (last_nonzero and last_nonzero[slot] or 0) then
            return true
        end
    end
    return false
end

-- Not every lua-cjson can tell an empty list from an empty object.
local function array(list)
    return #list > 0 and cjson.encode(list) or "[]"
end

-- A batch as a body, without one its header alone. Second result: what the header tells besides, or nil.
local function encode(b, leader)
    local now = clock.now_ms()
    local m, sized = 0, false
    local lists = { pools = {}, classes = {}, peers = {} }
    if b then
        m, sized, lists = b.n, b.sized, b.lists
        local recs, older = b.records, now - b.aged_at
        b.aged_at = now
        for i = 0, m - 1 do
            recs[i].age_ms = recs[i].age_ms + older
        end
    end
    local live, told = "", nil
    if leader then
        local list, nonzero = inflight_totals()
        if #list > 0 then
            live = ',"inflight":' .. cjson.encode(list)
            local generation = tonumber(shm.head.generation)
            if generation > 0 and watch.takes_generation() then
                live = live .. ',"generation":' .. generation
            end
        end
        local limits, refused = {}, {}
        for name in pairs(watch.guarded) do
            refused[#refused + 1] = shed.untold(name)
            limits[#limits + 1] = watch.kept[name]
        end
        live = live .. (#refused > 0 and ',"shed":' .. cjson.encode(refused) or "") .. (#limits > 0 and ',"limits":' .. cjson.encode(limits) or "")
        local rated, faulty, faulty_at
        if watch.accepts.rate_limited then
            rated = shed.untold_rates()
            live = live .. (#rated > 0 and ',"rate_limited":' .. cjson.encode(rated) or "")
        end
        if watch.accepts.bad_reports then
            faulty, faulty_at = faults.untold(watch.known)
            live = live .. (#faulty > 0 and ',"bad_reports":' .. cjson.encode(faulty) or "")
        end
        told = { nonzero = nonzero, refused = refused, rated = rated, faulty = faulty, faulty_at = faulty_at, anything = live ~= "" }
    end
    local header = '{"v":1,"instance":' .. cjson.encode(instance) .. ',"worker":' .. worker_id .. ',"records":' .. m
        .. ',"dropped":' .. _M.dropped - dropped_told .. ',"pools":' .. array(lists.pools) .. ',"classes":' .. array(lists.classes)
        .. ',"peers":' .. array(lists.peers) .. (sized and ',"work":' .. m or "") .. live .. "}\n"
    return { header, m > 0 and ffi.string(b.records, m * RECORD) or "", sized and ffi.string(b.found, m * 4) or "" }, told
end

-- Sends the oldest sealed batch, or what the leader tells without one. Returns whether the engine took it.
local function send(leader)
    local b, dropped = sealed[1], _M.dropped
    local body, told = encode(b, leader)
    if not b and not (told and told.anything) and dropped == dropped_told then
        return true
    end
    on_its_way = b
    local answer, err, mismatch = http.request(socket, { method = "POST", target = "/observe", body = body,
        content_type = "application/x-weir-observe" })
    on_its_way = nil
    refused_at = err == "connection refused" and clock.now_ms() or nil
    if mismatch then
        notice.once(err)
        resume_at = clock.now_ms() + RETRY_MS
        return false
    end
    if not answer then
        notice.warn("outcomes cannot be sent to the engine at " .. socket .. " (" .. err .. "); the last " .. (BATCHES - 1) * EACH
            .. " of each worker are kept", "observe failed: " .. err)
        resume_at = clock.now_ms() + RETRY_MS
        return false
    end
    dropped_told = dropped
    if told then
        last_nonzero = told.nonzero
        watch.told(next(told.nonzero) ~= nil)
        for _, entry in ipairs(told.refused) do
            shed.tell(entry)
        end
        if told.rated then
            shed.tell_rates(told.rated)
        end
        if told.faulty then
            faults.tell(told.faulty, told.faulty_at)
        end
    end
    if answer.status == 200 then
        _M.sent = _M.sent + (b and b.n or 0)
    else
        notice.warn("engine refused a batch of outcomes with " .. answer.status .. ": " .. answer.body:sub(1, 300),
            "observe status " .. answer.status)
    end
    return true
end

local function give_back()
    if sealed[1] then
        free[#free + 1] = table.remove(sealed, 1)
    end
end

-- Sends what waits. One at a time a worker; what comes meanwhile goes with the next.
function ship()
    if shipping or pausing(clock.now_ms()) then
        return
    end
    shipping = true
    local leader = watch.speaks()
    if not leader then
        last_nonzero = nil
    end
    if n > 0 and not sealed[1] then -- else it goes on filling: while the engine is away few records must not take up a whole batch
        seal()
    end
    repeat
        local ok, taken = pcall(send, leader)
        on_its_way = nil
        if not ok then
            notice.error("batch of outcomes lost: " .. taken)
        end
        if not ok or taken then
            give_back()
        end
        leader = leader and exiting() -- the live counts once, but where no tick will come to tell what they have become
        if n > 0 and not sealed[1] and exiting() then -- no tick will come for what requests left behind meanwhile
            seal()
        end
    until not (ok and taken) or not sealed[1] and not (leader and has_changed())
    shipping = false
end

function _M.waiting()
    local sum = n
    for _, b in ipairs(sealed) do
        sum = sum + b.n
    end
    return sum
end

local function tick(premature)
    if premature then
        ship()
        return
    end
    ship()
    local now = clock.now_ms()
    if now - last_renew > RENEW_MS then
        last_renew = now
        if _M.waiting() == 0 and classes.renew() then
            stamp = stamp + 1 -- the numbers mean other classes now; the batch is empty
            for _, view in pairs(pools.all()) do
                view.row_of = {}
            end
        end
    end
end

function _M.start(socket_path, name)
    socket = socket_path
    instance = name
    worker_id = ngx.worker.id() or 0
    last_renew = clock.now_ms()
    return ngx.timer.every(INTERVAL_S, tick)
end

begin_batch()

return _M
