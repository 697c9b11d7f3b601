-- This worker's numbers for classes, and the class of the request at hand.
--
-- Bounded: a worker knows at most MAX classes; what comes later shares "*" until the numbers are dealt anew, each hour, so that
-- a scan of random paths does not shut real classes out for good.
local ffi = require "ffi"
local bit = require "bit"
local class = require "resty.weir.class"
local vars = require "resty.weir.vars"
local outcome = require "resty.weir.outcome"

local ngx = ngx
local get_method = ngx.req.get_method
local tonumber = tonumber
local read, same, ffi_string, ffi_copy, cast = vars.read, vars.same, ffi.string, ffi.copy, ffi.cast
local band, bxor, lshift, rshift = bit.band, bit.bxor, bit.lshift, bit.rshift
local WEIR_CLASS, URI = vars.named("weir_class"), vars.named("uri")

local MAX = 4096
local _M = { MAX = MAX }

local MAX_NAME = 128
local SEED = { GET = 1, HEAD = 2, POST = 3, PUT = 4, PATCH = 5, DELETE = 6, OPTIONS = 7 }
local OTHER = 8

local STREAM_S = 3600
local OVERFLOW = 65536 -- templates remembered as "no number left", so that a scan of paths costs no strings

-- Classes of paths seen lately, by the path itself: looking at each byte of a path takes longer than comparing it. The place in the cache comes
-- from the length and eight bytes; another path in it just takes it over.
ffi.cdef [[
typedef struct { int32_t kind, len, id, pad; unsigned char path[112]; } weir_seen_path_t;
]]
local SEEN = 1024 -- times 128 bytes
local LONGEST, SHORTEST = 112, 4
local seen = ffi.new("weir_seen_path_t[?]", SEEN)
local u32p = ffi.typeof("const uint32_t *")

local by_hash, by_name = {}, {}
local overflowed = 0
local name_of = { [0] = "*" }
local count = 0
local dict

_M.name_of = name_of

-- Classes whose requests have been seen to be streams. A new one of these goes where fewest requests and streams are; for other
-- classes only requests count. Shared through the dict, so that a new worker need not find out again.
local streams = {}
_M.is_stream = streams

-- Classes of gRPC calls. Their answers take a closer look: a failed one has HTTP status 200.
local grpc = {}
_M.is_grpc = grpc

function _M.init(d)
    dict = d
end

-- A request of the class was answered as a plain one.
function _M.unmark_stream(id)
    streams[id] = nil
    dict:delete("st:" .. (name_of[id] or "*"))
end

function _M.mark_stream(id)
    if not streams[id] then
        streams[id] = true
        dict:safe_set("st:" .. (name_of[id] or "*"), true, STREAM_S)
    end
end

-- Does the request at hand ask for a stream? Looked at once a class: the headers of each request would cost too much, and
-- lookout.lua finds the others.
local function asks_for_stream()
    local accept = ngx.var.http_accept
    return ngx.var.http_upgrade or accept and accept:find("text/event-stream", 1, true)
end

local function number(name)
    local id = by_name[name]
    if id then
        return id
    end
    if count >= MAX then
        return 0
    end
    count = count + 1
    by_name[name] = count
    name_of[count] = name
    streams[count] = (dict:get("st:" .. name) or asks_for_stream()) and true or nil
    grpc[count] = outcome.is_grpc(ngx.var.http_content_type) or nil
    grpc[0] = grpc[0] or grpc[count] -- later ones may have no number of their own
    return count
end

-- Deals the numbers anew; returns whether it did. The caller sees to it that nothing else holds an old one: the rows that views
-- remember are forgotten, the buffer of outcomes is empty. A request in flight keeps a number that may now mean another class; that
-- misfiles its outcome, which is why this is hourly, and only when the numbers ran out.
function _M.renew()
    if count < MAX then
        return false
    end
    by_hash, by_name = {}, {}
    ffi.fill(seen, ffi.sizeof(seen))
    count, overflowed = 0, 0
    return true
end

function _M.count()
    return count
end

local function body_bucket(method_seed)
    if method_seed == 1 or method_seed == 2 or method_seed == 7 then
        return 0
    end
    local n = tonumber(ngx.var.content_length)
    if n then
        return class.bucket(n)
    end
    return ngx.var.http_transfer_encoding and 5 or 0
end

local function first_seen(key, method, path, bucket)
    local id = number(class.name(method, path, bucket))
    if id == 0 then
        overflowed = overflowed + 1
        if overflowed > OVERFLOW then
            return 0
        end
    end
    by_hash[key] = id
    return id
end

-- A name from the operator: at most MAX_NAME bytes, printable.
local function own_name(name)
    if #name > MAX_NAME then
        name = name:sub(1, MAX_NAME)
    end
    return (name:gsub("[^\33-\126 ]", "_"):gsub("[\"\\]", "_"))
end

local function of_path(kind, method, bucket, bytes, len)
    local key = class.hash_bytes(kind, bytes, len)
    return by_hash[key] or first_seen(key, method, ffi_string(bytes, len), bucket)
end

-- The number of the class of the request at hand, r. may_be_given: the configuration may set $weir_class.
function _M.of_request(r, may_be_given)
    local bytes, len
    if may_be_given then
        bytes, len = read(r, WEIR_CLASS)
        if len > 0 then
            local own = ffi_string(bytes, len)
            return by_name[own] or number(own_name(own))
        end
    end
    local method = get_method()
    local seed = SEED[method] or OTHER
    local bucket = body_bucket(seed)
    local kind = seed * 8 + bucket
    bytes, len = read(r, URI)
    if len < SHORTEST or len > LONGEST then
        return of_path(kind, method, bucket, bytes, len)
    end
    local h = bxor(cast(u32p, bytes + (len - 4))[0], lshift(cast(u32p, bytes + rshift(len - 4, 1))[0], 3))
    local s = seen[band(bxor(h, rshift(h, 10), rshift(h, 20), len), SEEN - 1)]
    if s.kind == kind and s.len == len and same(s.path, bytes, len) then
        return s.id
    end
    local id = of_path(kind, method, bucket, bytes, len)
    if id > 0 then
        s.kind, s.len, s.id = kind, len, id
        ffi_copy(s.path, bytes, len)
    end
    return id
end

return _M
