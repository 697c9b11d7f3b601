-- A slot is the number under which shared memory knows one (pool, address). State follows it, never a list position:
-- a peer that moves in the list, or is in the list of the engine and in the static one, has one slot.
--
-- Slots are handed out through the shared dict with its atomic add, so any worker may ask at any time. A slot is
-- given back by the elected worker only, when its peer has been out of every list for GRACE_S and holds no request:
-- by then no worker can still have it in a table. A peer that comes back within that time has its old slot (and its
-- requests still running are counted) but no old evidence.
--
-- A peer may come back in the instant in which its slot is given back, and two workers may take themselves for the elected one for a while. So
-- whoever takes a slot into use says so (static:, no gone:) and then looks whether the slot is the peer's still; whoever gives one back first takes
-- it from the peer and then looks whether anyone has said so. One of the two sees the other. At worst a slot is lost; none has two peers.
local shm = require "resty.weir.shm"

local tonumber, ipairs = tonumber, ipairs

local _M = {}

local GRACE_S = 30

local dict
local generation = 0 -- of the NGINX configuration that this worker has
local info = {} -- slot -> {pool=, addr=, host=, port=}; this worker's cache. meet() replaces an entry whose slot another peer has got since

-- In the master, with each configuration that it reads.
function _M.init(d)
    dict = d
    generation = shm.add(d, "generation", 1) or 0
end

local function key_of(pool, addr)
    return "p:" .. pool .. "|" .. addr
end

local function split(addr)
    if addr:sub(1, 5) == "unix:" then
        return addr, 0
    end
    local host, port = addr:match("^(%[[%x:%.]+%]):(%d+)$")
    if not host then
        host, port = addr:match("^([%w%.%-_]+):(%d+)$")
    end
    return host, tonumber(port)
end
_M.split = split

local function allocate(key)
    local free = dict:lpop("free")
    if free then
        return free
    end
    local n, err = shm.add(dict, "nslots", 1, -1)
    if not n then
        return nil, err
    end
    if n >= shm.MAX_SLOTS then
        dict:incr("nslots", -1)
        return nil, "more than " .. shm.MAX_SLOTS .. " peers"
    end
    local ok, serr = dict:safe_set("s:" .. n, key)
    if not ok then
        return nil, serr
    end
    return n
end

local function meet(slot, pool, addr, host, port)
    local i = info[slot]
    if not i or i.pool ~= pool or i.addr ~= addr then
        info[slot] = { pool = pool, addr = addr, host = host, port = port }
    end
end

-- The slot that the key has, made when there is none.
local function find(key)
    local slot = dict:get(key)
    if slot then
        return slot
    end
    local fresh, err = allocate(key)
    if not fresh then
        return nil, err
    end
    local ok, aerr = dict:safe_add(key, fresh)
    if ok then
        dict:safe_set("s:" .. fresh, key)
        shm.forget(fresh)
        shm.peer[fresh].picks = 0
        return fresh
    end
    dict:rpush("free", fresh)
    if aerr ~= "exists" then
        return nil, aerr
    end
    return dict:get(key)
end

-- The slot is a static peer's, by the newest configuration there is: one that a worker of an older one holds stays until the next reload. What is
-- left in the dict is never less than what a newer worker wrote meanwhile.
local function hold(slot)
    local newest
    repeat
        newest = dict:get("generation") or 0
        local ok, err = dict:safe_set("static:" .. slot, newest)
        if not ok then
            return nil, err
        end
    until newest == (dict:get("generation") or 0)
    dict:delete("gone:" .. slot)
    return true
end

-- Does the configuration of this worker, or a newer one, have the peer as a static one?
local function held(slot)
    return (tonumber(dict:get("static:" .. slot)) or -1) >= generation -- of a version that did not count: true
end

-- The slot of a peer, made when it has none. static: not given back while a configuration has the peer.
-- Returns nil, err when shared memory is full or the address makes no sense.
function _M.of(pool, addr, static)
    local host, port = split(addr)
    if not host then
        return nil, "peer address \"" .. addr .. "\" is not IP:port, [IPv6]:port or unix:/path"
    end
    local key = key_of(pool, addr)
    local slot
    repeat
        local ok, err
        slot, err = find(key)
        if slot and static then
            ok, err = hold(slot)
        end
        if not slot or static and not ok then
            return nil, err
        end
    until not static or dict:get(key) == slot
    meet(slot, pool, addr, host, port)
    return slot
end

-- This worker has been told that the peer has the slot. A slot that was given back belongs to another peer than the one it was met with.
function _M.meet(slot, pool, addr)
    meet(slot, pool, addr, split(addr))
end

-- Slots ever handed out: 0 .. count()-1.
function _M.count()
    return (dict:get("nslots") or -1) + 1
end

-- What is known of a slot; nil for one this worker never met.
function _M.info(slot)
    local i = info[slot]
    if i then
        return i
    end
    local key = dict:get("s:" .. slot)
    if not key then
        return nil
    end
    local pool, addr = key:match("^p:([^|]*)|(.*)$")
    local host, port = split(addr)
    i = { pool = pool, addr = addr, host = host, port = port }
    info[slot] = i
    return i
end

-- The engine no longer lists the peer.
function _M.leave(pool, addr, now_s)
    local slot = dict:get(key_of(pool, addr))
    if slot and not held(slot) then
        dict:safe_set("gone:" .. slot, now_s)
    end
end

-- Static peers of earlier configurations have left, but for those that a table has: told(pool) is the set of its addresses. One that is static
-- still, and that no worker has met since, keeps its slot if one does before that is given back; later it gets one with the first request.
-- Elected worker only.
function _M.leave_statics(told, now_s)
    for slot = 0, _M.count() - 1 do
        if dict:get("static:" .. slot) and not held(slot) then
            local pool, addr = (dict:get("s:" .. slot) or ""):match("^p:([^|]*)|(.*)$")
            if pool and not told(pool)[addr] then
                _M.leave(pool, addr, now_s)
            end
        end
    end
end

-- The addresses that have slots, by pool. Reads all slots: it is asked once for all pools.
function _M.by_pool()
    local all = {}
    for slot = 0, _M.count() - 1 do
        local key = dict:get("s:" .. slot)
        if key then
            local pool, addr = key:match("^p:([^|]*)|(.*)$")
            local list = all[pool] or {}
            all[pool] = list
            list[#list + 1] = addr
        end
    end
    return all
end

-- The engine lists just these peers of the pool: every other one of `list`, which may be nil, has left. For a new follower of the engine, which
-- does not know what the last one had been told.
function _M.keep_only(pool, addrs, list, now_s)
    for _, addr in ipairs(list or {}) do
        if not addrs[addr] then
            _M.leave(pool, addr, now_s)
        end
    end
end

-- The slot of a peer that the engine lists (again), as of(). One that had left starts without old evidence: it may be another process.
function _M.join(pool, addr)
    local key = key_of(pool, addr)
    local slot, err
    repeat
        slot, err = _M.of(pool, addr)
        if not slot then
            return nil, err
        end
        if dict:get("gone:" .. slot) then
            dict:delete("gone:" .. slot)
            shm.forget(slot)
        end
    until dict:get(key) == slot
    return slot
end

-- Gives a slot back whose peer has been gone for long; one whose peer has come back in the meantime stays. The claim lets one worker at a time do it.
local function give_back(slot, now_s)
    if not dict:safe_add("claim:" .. slot, true) then
        return
    end
    local since, key = dict:get("gone:" .. slot), dict:get("s:" .. slot)
    if since and now_s - since > GRACE_S then
        if key then
            dict:delete(key)
        end
        if held(slot) or not dict:get("gone:" .. slot) then
            if key then
                dict:safe_add(key, slot) -- it may have another already: then this one is lost
            end
            dict:delete("gone:" .. slot)
        else
            dict:delete("gone:" .. slot)
            dict:delete("static:" .. slot)
            dict:delete("s:" .. slot)
            info[slot] = nil
            dict:rpush("free", slot)
        end
    end
    dict:delete("claim:" .. slot)
end

-- Gives back what nobody holds any more. Elected worker only.
function _M.collect(now_s)
    for slot = 0, _M.count() - 1 do
        local since = dict:get("gone:" .. slot)
        if since and since > now_s then -- of a version whose clock was another
            dict:safe_set("gone:" .. slot, now_s)
        elseif since and now_s - since > GRACE_S and shm.inflight(slot) + shm.inflight_streams(slot) == 0 then
            give_back(slot, now_s)
        end
    end
end

return _M
