-- This worker's numbers for classes, and the class of the request at hand.
--
-- Bounded: a worker knows at most MAX classes; what comes later shares "*" until the numbers are dealt anew, each hour, so that
-- a scan of random paths does not shut real classes out for good.
local ffi = require "ffi"
local class = require "resty.weir.class"
local vars = require "resty.weir.vars"

local ngx = ngx
local get_method = ngx.req.get_method
local tonumber = tonumber
local read, ffi_string = vars.read, ffi.string

local _M = {}

local MAX = 4096
local MAX_NAME = 128
local SEED = { GET = 1, HEAD = 2, POST = 3, PUT = 4, PATCH = 5, DELETE = 6, OPTIONS = 7 }
local OTHER = 8

local STREAM_S = 3600
local OVERFLOW = 65536 -- templates remembered as "no number left", so that a scan of paths costs no strings

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

-- The number of the class of the request at hand, r.
function _M.of_request(r)
    local bytes, len = read(r, "weir_class")
    if len > 0 then
        local own = ffi_string(bytes, len)
        return by_name[own] or number(own_name(own))
    end
    local method = get_method()
    local seed = SEED[method] or OTHER
    local bucket = body_bucket(seed)
    bytes, len = read(r, "uri")
    local key = class.hash_bytes(seed * 8 + bucket, bytes, len)
    return by_hash[key] or first_seen(key, method, ffi_string(bytes, len), bucket)
end

return _M
