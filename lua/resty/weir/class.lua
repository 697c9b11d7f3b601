-- The class of a request from method, path and body size. The rule is docs/classes.md; engine/class follows it too and
-- test/vectors/classes.json holds both to it.
--
-- The hot function, hash(), makes no string: it folds the template into a number while it scans the path. Only a number
-- never seen before costs a string (template()).
local ffi = require "ffi"
local bit = require "bit"

local byte, sub, char = string.byte, string.sub, string.char
local tobit = bit.tobit
local cast = ffi.cast
local bytes_p = ffi.typeof("const uint8_t *")

local _M = {}

local MAX_SCAN = 224
local MAX_SEGMENTS = 8

local N, UUID, HASH, REST = 1, 2, 3, 4
local PLACEHOLDER = { "{n}", "{uuid}", "{hash}", "**" }

local digit = ffi.new("uint8_t[256]")
local hexalpha = ffi.new("uint8_t[256]")
local literal = ffi.new("uint8_t[256]") -- the byte itself, or '_' where it would not be safe in a label
for b = 0, 255 do
    literal[b] = (b < 0x21 or b > 0x7e) and 95 or b
end
for b = 48, 57 do digit[b] = 1 end
for b = 97, 102 do hexalpha[b], hexalpha[b - 32] = 1, 1 end
literal[34], literal[92], literal[123], literal[125] = 95, 95, 95, 95 -- " \ { }

-- 0 = stays as it is.
local function placeholder(len, digits, hexa, dashes)
    if digits == 0 then
        if len == 36 and dashes == 4 and hexa == 32 then
            return UUID
        end
        return 0
    end
    if digits == len then
        return N
    end
    if len == 36 and dashes == 4 and digits + hexa == 32 then
        return UUID
    end
    if len >= 8 and digits + hexa == len then
        return HASH
    end
    if len >= 16 and digits >= 3 then
        return HASH
    end
    return 0
end

-- A number for the template of path, mixed with seed (which stands for method and body bucket). Two 32-bit lanes make
-- 53 bits: among the 4096 classes a worker may know, two share a number with probability 1e-9.
-- bytes: uint8_t *, not necessarily ended by a NUL.
function _M.hash_bytes(seed, bytes, len)
    local scan = len
    if scan > MAX_SCAN then
        scan = MAX_SCAN
    end
    local h1, h2 = tobit(seed + 17), tobit(seed * 31 + 7)
    local s1, s2 = h1, h2 -- at the start of the segment
    local seglen, digits, hexa, dashes, segments = 0, 0, 0, 0, 0
    for i = 1, scan do
        local b = bytes[i - 1]
        if b == 47 then
            if i > 1 then
                local p = placeholder(seglen, digits, hexa, dashes)
                if p ~= 0 then
                    h1, h2 = tobit(s1 * 31 + 256 + p), tobit(s2 * 65599 + 256 + p)
                end
                segments = segments + 1
                if segments == MAX_SEGMENTS then
                    h1, h2 = tobit(h1 * 31 + 47), tobit(h2 * 65599 + 47)
                    h1, h2 = tobit(h1 * 31 + 256 + REST), tobit(h2 * 65599 + 256 + REST)
                    return (h1 % 2097152) * 4294967296 + (h2 + 2147483648)
                end
            end
            h1, h2 = tobit(h1 * 31 + 47), tobit(h2 * 65599 + 47)
            s1, s2 = h1, h2
            seglen, digits, hexa, dashes = 0, 0, 0, 0
        else
            local l = literal[b]
            h1, h2 = tobit(h1 * 31 + l), tobit(h2 * 65599 + l)
            seglen = seglen + 1
            digits = digits + digit[b]
            hexa = hexa + hexalpha[b]
            if b == 45 then
                dashes = dashes + 1
            end
        end
    end
    if len > MAX_SCAN then
        h1, h2 = tobit(s1 * 31 + 256 + REST), tobit(s2 * 65599 + 256 + REST)
    else
        local p = placeholder(seglen, digits, hexa, dashes)
        if p ~= 0 then
            h1, h2 = tobit(s1 * 31 + 256 + p), tobit(s2 * 65599 + 256 + p)
        end
    end
    return (h1 % 2097152) * 4294967296 + (h2 + 2147483648)
end

-- The same for a string.
function _M.hash(seed, path)
    return _M.hash_bytes(seed, cast(bytes_p, path), #path)
end

local function segment(s)
    local digits, hexa, dashes = 0, 0, 0
    local out = {}
    for i = 1, #s do
        local b = byte(s, i)
        digits = digits + digit[b]
        hexa = hexa + hexalpha[b]
        if b == 45 then
            dashes = dashes + 1
        end
        out[i] = char(literal[b])
    end
    local p = placeholder(#s, digits, hexa, dashes)
    if p ~= 0 then
        return PLACEHOLDER[p]
    end
    return table.concat(out)
end

-- The template as text. Not hot: once per class and worker.
function _M.template(path)
    local out = {}
    local pos, segments = 1, 0
    if byte(path, 1) == 47 then
        out[1] = "/"
        pos = 2
    end
    while true do
        local slash = string.find(path, "/", pos, true)
        local stop = slash or #path + 1
        if (slash and slash > MAX_SCAN) or (not slash and #path > MAX_SCAN) then
            out[#out + 1] = "**"
            break
        end
        out[#out + 1] = segment(sub(path, pos, stop - 1))
        if not slash then
            break
        end
        out[#out + 1] = "/"
        segments = segments + 1
        if segments == MAX_SEGMENTS then
            out[#out + 1] = "**"
            break
        end
        pos = slash + 1
    end
    return table.concat(out)
end

_M.METHODS = { GET = "GET", HEAD = "HEAD", POST = "POST", PUT = "PUT", PATCH = "PATCH", DELETE = "DELETE",
    OPTIONS = "OPTIONS" }
local BODILESS = { GET = true, HEAD = true, OPTIONS = true }
local BUCKETS = { [0] = "", " b1k", " b32k", " b1m", " b+", " b?" }
_M.BUCKETS = BUCKETS

-- Bucket number of a body of n bytes; -1 = unknown length.
function _M.bucket(n)
    if n == 0 then return 0 end
    if n < 0 then return 5 end
    if n <= 1024 then return 1 end
    if n <= 32768 then return 2 end
    if n <= 1048576 then return 3 end
    return 4
end

-- The class as text: what the engine calls it.
function _M.name(method, path, bucket)
    return (_M.METHODS[method] or "OTHER") .. " " .. _M.template(path) .. BUCKETS[bucket]
end

-- For tests and other callers with a byte count.
function _M.of(method, path, body_bytes)
    return _M.name(method, path, BODILESS[method] and 0 or _M.bucket(body_bytes))
end

return _M
