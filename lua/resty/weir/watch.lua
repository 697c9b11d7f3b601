-- One worker of each NGINX follows the engine (GET /watch, a long poll) and writes what it says to shared memory for all.
--
-- Election: whoever adds the key "leader" to the shared dict, with its identity and a lease. It renews the lease from a
-- timer. Another takes over when the lease runs out or, sooner, when the leader's process is gone. A worker that is told to exit
-- (reload) gives the key up.
-- Two leaders for a moment do no harm: both write what the engine says.
local cjson = require "cjson.safe"
local shm = require "resty.weir.shm"
local slots = require "resty.weir.slots"
local pools = require "resty.weir.pools"
local workers = require "resty.weir.workers"
local http = require "resty.weir.http"
local notice = require "resty.weir.notice"
local clock = require "resty.weir.clock"

local exiting, sleep, decode_base64 = ngx.worker.exiting, ngx.sleep, ngx.decode_base64
local ipairs, pairs, next = ipairs, pairs, next

local _M = {
    guarded = {}, -- pools that have a limit or caps
    kept = {},    -- of these, what the engine is to be told of their limits
    known = {},   -- pool -> what was last stored of it
    accepts = {}, -- keys of the header of /observe that this engine takes and others may not
    MAX_POLLS = 500, -- in one timer: what its sockets took, some 400 bytes for each that could not connect, NGINX frees when the timer ends
}

local LEASE_S = 2
local TICK_S = 0.25
local LOST_S = 2 -- after so long the timer does not begin any more
local WAIT_MS = 1000 -- of one long poll; short, so that a worker that must exit is not held up by it
local COLLECT_S = 5
local ASK_AGAIN_S = 5
local MORE = ": raise the size of lua_shared_dict weir"
local PAUSE_S, MAX_PAUSE_S = 0.1, 1 -- between polls that fail

local dict, socket
local following = false
local handed_over -- when, to a timer that has not begun yet
local pause
local epoch, since = "", 0
local known = _M.known -- pool -> {key=epoch:meta_version, number=, addrs=}
local last_collect = 0
local collected = false -- what a configuration before this worker's left behind
-- Pools whose last update was not taken, for want of slots or memory. The engine told it and will not again while nothing changes, so all pools
-- are asked for again, from time to time, until there is room.
local missed, ask_at = {}, 0

-- Not ngx.now(): a clock that is set must not keep slots and rows for hours.
local function now_s()
    return clock.now_ms() * 0.001
end

local function lead()
    local mine = workers.id
    local leader = dict:get("leader")
    if leader == mine then
        dict:safe_set("leader", mine, LEASE_S)
        return true
    end
    if leader and not workers.alive(leader) then
        dict:delete("leader")
        leader = nil
    end
    if leader then
        return false
    end
    local ok, err = dict:safe_add("leader", mine, LEASE_S)
    if not ok and err ~= "exists" then
        notice.error("no worker can follow the engine: " .. err .. MORE)
    end
    return ok
end

-- Puts one pool of a /watch answer into shared memory.
-- What a limit is may be told by an engine that has just been started and has not found it yet: then the last one stays, and the engine is
-- told what it was (observe.lua).
local function keep_limit(p)
    local told = p.settings and p.settings.limit
    local guarded = told ~= nil
    for _, peer in ipairs(p.peers) do
        guarded = guarded or peer.max_inflight ~= nil
    end
    _M.guarded[p.name] = guarded or nil
    _M.kept[p.name] = nil
    local key = "limit:" .. p.name
    if not told then
        dict:delete(key)
    elseif told.max then
        dict:safe_set(key, cjson.encode(told))
    else
        local last = cjson.decode(dict:get(key) or "")
        if last then
            p.settings.limit = last
            _M.kept[p.name] = { p.name, last.whole, last.base_ms }
        end
    end
end

-- Who has a slot in a pool. All slots are read once for an answer of the engine, not once a pool: with hundreds of pools a worker stood still for
-- a second.
local by_pool
local function slotted(name)
    by_pool = by_pool or slots.by_pool()
    return by_pool[name]
end

local function store(p)
    keep_limit(p)
    local peers = {}
    local addrs = {}
    for _, peer in ipairs(p.peers) do
        local slot, err = slots.join(p.name, peer.addr)
        if slot then
            peer.slot = slot
            peers[#peers + 1] = peer
            addrs[peer.addr] = true
        else
            -- without a slot the columns of the cost table would not match: leave the pool as it was
            return nil, "peer " .. peer.addr .. ": " .. err .. (err == "no memory" and MORE or "")
        end
    end
    local cost = decode_base64(p.cost or "")
    local sizes = decode_base64(p.sizes or "")
    if not cost or not sizes then
        return nil, (cost and "sizes" or "cost") .. " is not base64"
    end
    local k = known[p.name]
    if not k then
        k = { addrs = {} }
        slots.keep_only(p.name, addrs, slotted(p.name), now_s())
    end
    local key = epoch .. ":" .. p.meta_version
    if k.key ~= key then
        local number, err = shm.add(dict, "metas", 1)
        if not number then
            return nil, err .. MORE
        end
        k.key, k.number = key, number
        k.meta = cjson.encode({ peers = peers, classes = p.classes, grid = p.grid, settings = p.settings })
    end
    local ok, err = dict:safe_set("b:" .. p.name, pools.pack(k.meta, k.number, cost, sizes))
    if ok then
        ok, err = shm.add(dict, "v:" .. p.name, 1)
    end
    if not ok then
        return nil, err .. MORE
    end
    for addr in pairs(k.addrs) do
        if not addrs[addr] then
            slots.leave(p.name, addr, now_s())
        end
    end
    k.addrs = addrs
    known[p.name] = k
    return true
end

local function remove(name)
    dict:delete("b:" .. name)
    dict:delete("v:" .. name)
    slots.keep_only(name, {}, slotted(name), now_s())
    known[name], _M.guarded[name], _M.kept[name], missed[name] = nil, nil, nil, nil
    dict:delete("limit:" .. name)
end

local function apply(answer)
    by_pool = nil
    local full = answer.epoch ~= epoch
    epoch = answer.epoch
    _M.accepts = {}
    for _, key in ipairs(answer.accepts or {}) do
        _M.accepts[key] = true
    end
    dict:safe_set("takes_generation", _M.accepts.generation == true)
    local changed = false
    local named = {}
    for _, p in ipairs(answer.pools or {}) do
        named[p.name] = true
        local ok, err = store(p)
        missed[p.name] = not ok or nil
        if ok then
            changed = true
        else
            notice.error("update of pool \"" .. p.name .. "\" not taken, the last one stays: " .. err)
        end
    end
    for _, name in ipairs(answer.removed or {}) do
        remove(name)
        changed = true
    end
    for _, name in ipairs(answer.pending or {}) do -- the engine does not know yet who is in it: what is known here stays
        named[name] = true
    end
    if full then -- a new engine tells everything; what it does not tell is gone
        for _, key in ipairs(dict:get_keys(0)) do
            local name = key:match("^v:(.*)$")
            if name and not named[name] then
                remove(name)
                changed = true
            end
        end
    end
    by_pool = nil
    since = answer.version
    if changed then
        shm.head.change = shm.head.change + 1
    end
end

local function poll()
    local from = since
    if next(missed) and now_s() >= ask_at then
        from, ask_at = 0, now_s() + ASK_AGAIN_S
    end
    local answer, err, mismatch = http.request(socket, {
        method = "GET",
        target = "/watch?since=" .. from .. "&epoch=" .. epoch .. "&wait=" .. WAIT_MS,
        read_ms = WAIT_MS + 4000,
    })
    if not answer then
        dict:safe_set("engine_error", err)
        if mismatch then
            notice.once(err)
        else
            notice.warn("engine at " .. socket .. " does not answer (" .. err .. "); deciding on what is known", "watch failed: " .. err)
        end
        return nil, err
    end
    if answer.status == 200 then
        local body, jerr = cjson.decode(answer.body)
        if not body then
            notice.error("engine answered /watch with bad JSON: " .. jerr)
            return nil, jerr
        end
        local ok, aerr = pcall(apply, body)
        if not ok then
            notice.error("engine's /watch answer could not be applied: " .. aerr)
            return nil, aerr
        end
    elseif answer.status ~= 204 then
        notice.error("engine answered /watch with " .. answer.status .. ": " .. answer.body:sub(1, 200),
            "watch status " .. answer.status)
        return nil, "status " .. answer.status
    end
    shm.head.heard_ms = clock.now_ms()
    dict:delete("engine_error")
    return true
end

-- Polls until another worker leads. on: it goes on from another timer, and knows what was told.
local function follow(premature, on)
    if premature then
        following = false
        return
    end
    if on and not handed_over then
        return -- it begins after all, and too late: tick() has seen to it
    end
    following, handed_over = true, nil
    if not on then
        epoch, since, known, missed = "", 0, {}, {}
        _M.known, _M.accepts = known, {}
        pause = PAUSE_S
    end
    local polls = 0
    while not exiting() and dict:get("leader") == workers.id do
        polls = polls + 1
        if polls > _M.MAX_POLLS then
            if ngx.timer.at(0, follow, true) then
                handed_over = now_s()
                return
            end
            polls = 0
        end
        local fine, ok, err = pcall(poll)
        if not fine then
            notice.error("following the engine failed: " .. ok)
            ok, err = nil, ok
        end
        if ok then
            pause = PAUSE_S
        else
            sleep(pause)
            if err ~= "no such socket" then -- each refused connection is a line in NGINX's log
                pause = pause * 2 < MAX_PAUSE_S and pause * 2 or MAX_PAUSE_S
            end
        end
    end
    following = false
end

local function tick(premature)
    if premature or exiting() then
        if dict:get("leader") == workers.id then
            dict:delete("leader")
        end
        return
    end
    if lead() then
        local now = now_s()
        if now - last_collect > COLLECT_S then
            last_collect = now
            workers.reap()
            workers.shrink()
            if not collected then
                collected = true
                local told = {}
                slots.leave_statics(function(name)
                    told[name] = told[name] or pools.told(name)
                    return told[name]
                end, now)
            end
            slots.collect(now)
        end
        if not following or handed_over and now - handed_over > LOST_S then -- NGINX drops a timer that it has no connection for
            follow(false, false)
        end
    end
end

-- Is it on this worker to tell the engine what all of them have in flight? It is on the elected one, and where NGINX stops, which has no elected worker any
-- more, on each of those that end their last requests.
function _M.speaks()
    local leader = dict:get("leader")
    return leader == workers.id or not leader and exiting() and dict:get("told_busy") == true
end

-- May the header of /observe have the key "generation"? Other than `accepts`, all workers know.
function _M.takes_generation()
    return dict:get("takes_generation") == true
end

-- The engine was told that some requests are in flight, or that none is.
function _M.told(busy)
    if (dict:get("told_busy") == true) ~= busy then
        dict:safe_set("told_busy", busy)
    end
end

-- Starts the election in this worker.
function _M.start(d, socket_path)
    dict, socket = d, socket_path
    ngx.timer.at(0, tick)
    return ngx.timer.every(TICK_S, tick)
end

return _M
