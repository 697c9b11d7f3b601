-- ngx.hmac_sha1 and ngx.encode_base64 outside NGINX: the same OpenSSL by FFI.
local ffi = require "ffi"

ffi.cdef [[
const void *EVP_sha1(void);
unsigned char *HMAC(const void *md, const void *key, int key_len, const unsigned char *d, size_t n, unsigned char *out, unsigned int *out_len);
int EVP_EncodeBlock(unsigned char *to, const unsigned char *from, int n);
]]

local ok, lib = pcall(ffi.load, "libcrypto.so.3")
if not ok then
    lib = ffi.load("crypto")
end

local ngx = rawget(_G, "ngx")

function ngx.hmac_sha1(key, text)
    local out, len = ffi.new("unsigned char[64]"), ffi.new("unsigned int[1]")
    lib.HMAC(lib.EVP_sha1(), key, #key, text, #text, out, len)
    return ffi.string(out, len[0])
end

function ngx.encode_base64(s, no_padding)
    local out = ffi.new("unsigned char[?]", #s * 2 + 8)
    local text = ffi.string(out, lib.EVP_EncodeBlock(out, s, #s))
    return no_padding and (text:gsub("=", "")) or text
end
