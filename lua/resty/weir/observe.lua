-- Outcomes on their way to the engine: a ring of fixed-size records in this worker, shipped in batches (docs/protocol.md, compact form).
-- When the engine is away the ring fills and the oldest are lost, and counted. Nothing here waits in a request.
local ffi = require "ffi"
local band = require("bit").band
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

local pairs, ipairs, pcall = pairs, ipairs, pcall
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

local _M = { sent = 0, dropped = 0 }

local RING = 8192       -- records; at 48 bytes 384 KiB a worker
local BATCH = 2048      -- ship at once when so many wait
local MAX_SHIP = 2048   -- records in one batch
local INTERVAL_S = 0.1
local RETRY_MS = 1000    -- each refused connection is a line in NGINX's log
local RENEW_S = 3600

local ring = ffi.new("weir_record_t[?]", RING)
local slot_of = ffi.new("int32_t[?]", RING)   -- which peer; turned into indices when shipped
local class_of = ffi.new("int32_t[?]", RING)
local found_of = ffi.new("float[?]", RING)    -- work found by the attempt; not in the record, which is full
local ended = ffi.new("double[?]", RING)      -- monotonic ms; a float32 cannot hold it
local out = ffi.new("weir_record_t[?]", MAX_SHIP)
local out_work = ffi.new("float[?]", MAX_SHIP)
-- Counts of records ever written and ever taken out (sent or overwritten); a record's place is its number modulo RING.
local head, tail = 0, 0
local shipping, ordered = false, false
local resume_at = 0 -- after a failure, not before
local dropped_told = 0 -- of _M.dropped, how many the engine knows of
local socket, instance, worker_id
local last_renew = 0

local ship

local function ordered_ship()
    ordered = false
    ship()
end

-- Adds one outcome. Hot: no tables, no strings.
function _M.push(slot, class, attempt, kind, status, flags, inflight, propensity, header_ms, total_ms, weight, predicted_ms, now, bytes, load, reported,
    found)
    local at = band(head, RING - 1)
    local rec = ring[at]
    rec.attempt, rec.kind, rec.status, rec.flags = attempt, kind, status, flags
    rec.inflight = inflight > 65535 and 65535 or inflight
    rec.reported = reported
    rec.propensity, rec.header_ms, rec.total_ms = propensity, header_ms, total_ms
    rec.weight, rec.predicted_ms, rec.bytes, rec.load = weight, predicted_ms, bytes, load
    slot_of[at], class_of[at], ended[at], found_of[at] = slot, class, now, found
    head = head + 1
    if head - tail > RING then
        tail = tail + 1
        _M.dropped = _M.dropped + 1
    end
    if not ordered and not shipping and now >= resume_at and (head - tail >= BATCH or exiting()) then
        ordered = timer_at(0, ordered_ship) and true or false
    end
end

-- The strings a batch refers to, each once. seen: their places in the lists, from 0. The places of a peer's slot and of a class number are
-- kept in arrays besides, valid when their stamp is that of the batch: a batch looks up each of them once and not in every record.
local lists, seen
local stamp = 0
local peer_stamp, pool_at, peer_at = ffi.new("int32_t[?]", shm.MAX_SLOTS), ffi.new("int32_t[?]", shm.MAX_SLOTS), ffi.new("int32_t[?]", shm.MAX_SLOTS)
local class_stamp, class_at = ffi.new("int32_t[?]", classes.MAX + 1), ffi.new("int32_t[?]", classes.MAX + 1)

local function index(what, name)
    local i = seen[what][name]
    if not i then
        i = #lists[what]
        lists[what][i + 1] = name
        seen[what][name] = i
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

local function begin_batch()
    lists = { pools = {}, classes = {}, peers = {} }
    seen = { pools = {}, classes = {}, peers = {} }
    stamp = stamp + 1
end

-- Live counts of all workers, for the engine's estimate of busy time; from the elected worker only.
local last_nonzero = {}
local function inflight_totals()
    local list, nonzero = {}, {}
    for slot = 0, slots.count() - 1 do
        local n = shm.inflight(slot)
        if n > 0 or last_nonzero[slot] then
            local info = slots.info(slot)
            if info then
                list[#list + 1] = { info.pool, info.addr, n }
            end
            nonzero[slot] = n > 0 or nil
        end
    end
    return list, nonzero
end

-- Not every lua-cjson can tell an empty list from an empty object.
local function array(list)
    return #list > 0 and cjson.encode(list) or "[]"
end

-- The next n records as a body; second result: how many of them are in it (a peer long gone has no name any more).
local function encode(n, with_inflight)
    local now = clock.now_ms()
    begin_batch()
    local m, sized = 0, false
    for i = tail, tail + n - 1 do
        local at = band(i, RING - 1)
        local slot, class = slot_of[at], class_of[at]
        if peer_stamp[slot] ~= stamp then
            locate_peer(slot)
        end
        if class_stamp[class] ~= stamp then
            locate_class(class)
        end
        if peer_at[slot] >= 0 then
            local rec = out[m]
            ffi.copy(rec, ring[at], 48)
            rec.pool, rec.class, rec.peer = pool_at[slot], class_at[class], peer_at[slot]
            local age = now - ended[at]
            rec.age_ms = age > 0 and age or 0
            out_work[m] = found_of[at]
            sized = sized or found_of[at] > 0
            m = m + 1
        end
    end
    local live, nonzero, refused = "", nil, {}
    local faulty, faulty_at
    if with_inflight then
        local list
        list, nonzero = inflight_totals()
        if #list > 0 then
            live = ',"inflight":' .. cjson.encode(list)
        end
        local limits = {}
        for name in pairs(watch.guarded) do
            refused[#refused + 1] = shed.untold(name)
            limits[#limits + 1] = watch.kept[name]
        end
        live = live .. (#refused > 0 and ',"shed":' .. cjson.encode(refused) or "") .. (#limits > 0 and ',"limits":' .. cjson.encode(limits) or "")
        if watch.accepts.bad_reports then
            faulty, faulty_at = faults.untold(watch.known)
            live = live .. (#faulty > 0 and ',"bad_reports":' .. cjson.encode(faulty) or "")
        end
    end
    local header = '{"v":1,"instance":' .. cjson.encode(instance) .. ',"worker":' .. worker_id .. ',"records":' .. m
        .. ',"dropped":' .. _M.dropped - dropped_told .. ',"pools":' .. array(lists.pools) .. ',"classes":' .. array(lists.classes)
        .. ',"peers":' .. array(lists.peers) .. (sized and ',"work":' .. m or "") .. live .. "}\n"
    return header .. ffi.string(out, m * 48) .. (sized and ffi.string(out_work, m * 4) or ""), m, nonzero, live ~= "", refused, faulty, faulty_at
end

local function send(n, leader)
    local from, dropped = tail, _M.dropped
    local body, m, nonzero, has_inflight, refused, faulty, faulty_at = encode(n, leader)
    if m == 0 and not has_inflight and dropped == dropped_told then
        tail = from + n
        return true
    end
    local answer, err, mismatch = http.request(socket, { method = "POST", target = "/observe", body = body,
        content_type = "application/x-weir-observe" })
    if mismatch then
        notice.once(err)
        resume_at = clock.now_ms() + RETRY_MS
        return false
    end
    if not answer then
        notice.warn("outcomes cannot be sent to the engine at " .. socket .. " (" .. err .. "); the last " .. RING
            .. " of each worker are kept", "observe failed")
        resume_at = clock.now_ms() + RETRY_MS
        return false
    end
    dropped_told = dropped
    if tail < from + n then
        _M.dropped = _M.dropped - (tail - from) -- overwritten while they were on their way: not lost
        tail = from + n
    else
        _M.dropped = _M.dropped - n
    end
    last_nonzero = nonzero or last_nonzero
    for _, entry in ipairs(refused) do
        shed.tell(entry)
    end
    if faulty then
        faults.tell(faulty, faulty_at)
    end
    if answer.status == 200 then
        _M.sent = _M.sent + m
    else
        notice.warn("engine refused a batch of outcomes with " .. answer.status .. ": " .. answer.body:sub(1, 300),
            "observe status " .. answer.status)
    end
    return true
end

-- Sends what waits. One at a time a worker; what comes meanwhile goes with the next.
function ship()
    if shipping or clock.now_ms() < resume_at then
        return
    end
    shipping = true
    local leader = watch.is_leader()
    repeat
        local n = head - tail
        if n > MAX_SHIP then
            n = MAX_SHIP
        end
        local ok, sent = pcall(send, n, leader)
        if not ok then
            notice.error("batch of outcomes lost: " .. sent)
            tail = tail + n
        end
        leader = false -- the live counts once
    until not (ok and sent) or head - tail < BATCH
    shipping = false
end

local function tick(premature)
    if premature then
        ship()
        return
    end
    ship()
    local now = ngx.now()
    if now - last_renew > RENEW_S then
        last_renew = now
        if head == tail and classes.renew() then
            for _, view in pairs(pools.all()) do
                view.row_of = {}
            end
        end
    end
end

function _M.waiting()
    return head - tail
end

function _M.start(socket_path, name)
    socket = socket_path
    instance = name
    worker_id = ngx.worker.id() or 0
    last_renew = ngx.now()
    return ngx.timer.every(INTERVAL_S, tick)
end

return _M
