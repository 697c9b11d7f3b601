-- The HTTP/1.1 that Weir speaks with its engine over a Unix socket, and no more: one request, one answer with a Content-Length.
-- cosockets, so only from timers; the request path never calls this.
local ffi = require "ffi"

local C = ffi.C
local tcp = ngx.socket.tcp
local tonumber = tonumber

ffi.cdef [[ int access(const char *path, int mode); ]]

local _M = {}

local W_OK, EACCES = 2, 13
local PROTOCOL = "1"
local MAX_BODY = 64 * 1024 * 1024

local function read_answer(sock)
    local line, err = sock:receive("*l")
    if not line then
        return nil, err
    end
    local status = tonumber(line:match("^HTTP/1%.%d (%d%d%d)"))
    if not status then
        return nil, "not an HTTP answer: " .. line:sub(1, 60)
    end
    local headers = {}
    while true do
        line, err = sock:receive("*l")
        if not line then
            return nil, err
        end
        if line == "" then
            break
        end
        local k, v = line:match("^([^:]+):%s*(.-)%s*$")
        if k then
            headers[k:lower()] = v
        end
    end
    local length = tonumber(headers["content-length"] or 0)
    if not length or length > MAX_BODY then
        return nil, "answer without a usable Content-Length"
    end
    local body = ""
    if length > 0 and status ~= 204 then
        body, err = sock:receive(length)
        if not body then
            return nil, err
        end
    end
    return { status = status, headers = headers, body = body, keep = headers["connection"] ~= "close" }
end

local function once(path, opts)
    -- Asked first, because NGINX writes a [crit] line for each connect() to a file that is not there or that it may not write to, ten a second
    -- without an engine.
    if C.access(path, W_OK) ~= 0 then
        if ffi.errno() == EACCES then
            return nil, "NGINX's workers may not write to it, see socket.group and socket.mode in weir.yaml", false
        end
        return nil, "no such socket", false
    end
    local sock = tcp()
    sock:settimeouts(opts.connect_ms or 200, opts.send_ms or 1000, opts.read_ms or 1000)
    local ok, err = sock:connect("unix:" .. path)
    if not ok then
        return nil, err, false
    end
    local reused = (sock:getreusedtimes() or 0) > 0
    local head = opts.method .. " " .. opts.target .. " HTTP/1.1\r\nHost: weir\r\nWeir-Protocol: " .. PROTOCOL .. "\r\n"
    if opts.body then
        local length = 0
        for _, part in ipairs(opts.body) do
            length = length + #part
        end
        head = head .. "Content-Type: " .. opts.content_type .. "\r\nContent-Length: " .. length .. "\r\n"
    end
    local sent
    sent, err = sock:send({ head, "\r\n", opts.body or "" }) -- a table in it is sent part by part
    local answer
    if sent then
        answer, err = read_answer(sock)
    end
    if not answer then
        sock:close()
        return nil, err, reused
    end
    if answer.keep then
        sock:setkeepalive(30000, 4)
    else
        sock:close()
    end
    return answer
end

-- opts: method, target, body (a list of strings), content_type, connect_ms, send_ms, read_ms.
-- Returns {status, headers, body}, or nil, err. A pooled connection that the engine has closed meanwhile is tried once more, afresh.
function _M.request(path, opts)
    local answer, err, reused
    for _ = 1, 5 do
        answer, err, reused = once(path, opts)
        if answer or not reused or err == "timeout" then
            break
        end
    end
    if not answer then
        return nil, err
    end
    local theirs = answer.headers["weir-protocol"]
    if theirs and theirs ~= PROTOCOL then
        return nil, "the engine speaks protocol " .. theirs .. ", this NGINX side speaks " .. PROTOCOL
            .. ": install the same Weir version on both sides", true
    end
    return answer
end

_M.PROTOCOL = PROTOCOL

return _M
