-- NGINX's variables of a request, read where they lie in NGINX's memory.
--
-- ngx.var makes a Lua string of each value, and a trace that begins inside it cannot be compiled ("return to lower frame"), so the log phase
-- ran in the interpreter. What the hot path wants to know of a value, its length or a few bytes, needs no string.
local ffi = require "ffi"
local base = require "resty.core.base"
require "resty.core.var" -- declares ngx_http_lua_ffi_var_get

local C = ffi.C
local tonumber, ffi_string, ffi_copy = tonumber, ffi.string, ffi.copy

ffi.cdef [[
int memcmp(const void *a, const void *b, size_t n);
unsigned long strtoul(const char *text, char **end, int base);
]]

local value = ffi.new("unsigned char *[1]")
local value_len = ffi.new("size_t[1]")
local lowcase = ffi.new("char[64]") -- names are shorter
local errmsg = base.get_errmsg_ptr()
local digits = ffi.new("char[24]")

local _M = {}

-- The bytes of a variable of request r and their number; 0 when it is empty or not there. The bytes are NGINX's, last as long as the
-- request, and do not end in a NUL.
local function read(r, name)
    if C.ngx_http_lua_ffi_var_get(r, name, #name, lowcase, 0, value, value_len, errmsg) ~= 0 then
        return value[0], 0
    end
    return value[0], tonumber(value_len[0])
end
_M.read = read

-- The same as a Lua string; nil when it is not there.
function _M.text(r, name)
    if C.ngx_http_lua_ffi_var_get(r, name, #name, lowcase, 0, value, value_len, errmsg) ~= 0 then
        return nil
    end
    return ffi_string(value[0], value_len[0])
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
    return tonumber(C.strtoul(digits, nil, 10))
end

return _M
