-- NGINX's variables of a request, read and written where they lie in NGINX's memory.
--
-- ngx.var makes a Lua string of each value, and a trace that begins inside it cannot be compiled ("return to lower frame"), so the log phase
-- ran in the interpreter. What the hot path wants to know of a value, its length or a few bytes, needs no string.
--
-- ngx_http_get_variable is asked directly, with the hash of the name made once. ngx_lua's own function makes it anew for each read. Where
-- the symbol or the byte order is another, ngx_lua's function serves.
local ffi = require "ffi"
local base = require "resty.core.base"
require "resty.core.var" -- declares ngx_http_lua_ffi_var_get

local C = ffi.C
local tonumber, ffi_string, ffi_copy = tonumber, ffi.string, ffi.copy
local bit = require "bit"
local band, bor = bit.band, bit.bor

ffi.cdef [[
int memcmp(const void *a, const void *b, size_t n);
unsigned long strtoul(const char *text, char **end, int base);

typedef struct { size_t len; const char *data; } weir_name_t; /* ngx_str_t */
typedef struct {            /* ngx_variable_value_t, src/core/ngx_string.h */
    uint32_t bits;          /* len:28, valid:1, no_cacheable:1, not_found:1, escape:1 */
    unsigned char *data;
} weir_value_t;
typedef struct { uint32_t len; unsigned char bytes[?]; } weir_text_t;
weir_value_t *weir_get_variable(void *r, weir_name_t *name, uintptr_t hash) __asm__("ngx_http_get_variable");
]]

local LENGTH, VALID, NOT_FOUND = 0x0fffffff, 0x10000000, 0x40000000

local value = ffi.new("unsigned char *[1]")
local value_len = ffi.new("size_t[1]")
local lowcase = ffi.new("char[128]") -- names are shorter
local errmsg = base.get_errmsg_ptr()
local digits = ffi.new("char[24]")
local nothing = ffi.cast("unsigned char *", digits)

local direct = ffi.abi("le") and pcall(function() return C.weir_get_variable end)

local _M = {}

-- A variable to be read often. The name in lower case, of at most 127 bytes.
function _M.named(name)
    local hash = ffi.new("uintptr_t", 0)
    for i = 1, #name do
        hash = hash * 31 + name:byte(i) -- ngx_hash()
    end
    local text = ffi.new("char[?]", #name + 1, name)
    return { text = text, len = #name, hash = hash, name = ffi.new("weir_name_t", #name, text) }
end

-- The bytes of a variable of request r and their number; 0 when it is empty or not there. The bytes are NGINX's, last as long as the
-- request, and do not end in a NUL.
function _M.read(r, variable)
    if direct then
        local v = C.weir_get_variable(r, variable.name, variable.hash)
        if v == nil or band(v.bits, NOT_FOUND) ~= 0 then
            return nothing, 0
        end
        return v.data, band(v.bits, LENGTH)
    end
    if C.ngx_http_lua_ffi_var_get(r, variable.text, variable.len, lowcase, 0, value, value_len, errmsg) ~= 0 then
        return nothing, 0
    end
    local len = tonumber(value_len[0]) -- a name of its own: a call that ends a function cannot always be compiled
    return value[0], len
end

-- A value to be written often, of at most LENGTH bytes. NGINX is given its address: it must live as long as any request that it was written to.
function _M.value(s)
    local text = ffi.new("weir_text_t", #s)
    text.len = #s
    ffi_copy(text.bytes, s, #s)
    return text
end

-- Gives a variable of request r a value. The variable must be one that ngx.var can assign to: others have no place in the request, and it would be lost.
-- false when it cannot be done so.
function _M.write(r, variable, text)
    local v = direct and C.weir_get_variable(r, variable.name, variable.hash)
    if not v or v == nil then
        return false
    end
    v.bits, v.data = bor(text.len, VALID), text.bytes
    return true
end

-- Are n bytes the same in both places?
function _M.same(a, b, n)
    return C.memcmp(a, b, n) == 0
end

-- The number that so many bytes spell; 0 when they spell none. No loop in Lua: its trace would be another one for each length.
function _M.number(bytes, len)
    if len > 20 then
        return 0
    end
    ffi_copy(digits, bytes, len)
    digits[len] = 0
    local n = tonumber(C.strtoul(digits, nil, 10))
    return n
end

-- A variable as a Lua string; nil when it is not there. Not for hot paths.
function _M.text(r, name)
    if C.ngx_http_lua_ffi_var_get(r, name, #name, lowcase, 0, value, value_len, errmsg) ~= 0 then
        return nil
    end
    return ffi_string(value[0], value_len[0])
end

return _M
