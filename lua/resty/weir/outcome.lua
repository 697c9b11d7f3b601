-- How each attempt of a request ended: the rule that turns what NGINX knows into a kind (docs/protocol.md).
--
-- NGINX knows it as lists, one element an attempt ("502, 200", "0.300, 0.005"), with "-" for what never came, and " : " where
-- an internal redirect went to another upstream, which may be none of Weir's. So elements are matched to attempts by peer
-- address, in order.
local ngx = ngx
local find, sub = string.find, string.sub
local tonumber = tonumber

local _M = {
    OK = 0, REFUSED = 1, CONNECT_TIMEOUT = 2, TIMEOUT = 3, RESET = 4, STATUS = 5, ABORT = 6, IDLE_RACE = 7,
}
_M.NAME = { [0] = "ok", "refused or unreachable", "connect time-out", "time-out", "connection reset or invalid answer",
    "failure status", "client abort", "idle race" }
local OK, REFUSED, CONNECT_TIMEOUT, TIMEOUT, RESET, STATUS, ABORT = 0, 1, 2, 3, 4, 5, 6

-- "a, b : c" -> {"a", "b", "c"}; nil -> {}.
function _M.split(list)
    local out = {}
    if not list then
        return out
    end
    local pos = 1
    while true do
        local comma = find(list, ", ", pos, true)
        local colon = find(list, " : ", pos, true)
        local stop, width
        if comma and (not colon or comma < colon) then
            stop, width = comma, 2
        elseif colon then
            stop, width = colon, 3
        end
        if not stop then
            out[#out + 1] = sub(list, pos)
            return out
        end
        out[#out + 1] = sub(list, pos, stop - 1)
        pos = stop + width
    end
end

-- The element of a list that belongs to the last attempt: the last that is not empty.
function _M.last(list)
    if not list or not find(list, " ", 1, true) then
        return list
    end
    local elements = _M.split(list)
    local e = elements[#elements]
    return e ~= "" and e or elements[#elements - 1]
end

-- Did another upstream than Weir's take the request over from the peer (info of slots.lua)? addr: $upstream_addr, to which each further pass adds " : ".
function _M.passed_on(addr, info)
    return addr ~= nil and info ~= nil and find(addr, " : ", 1, true) ~= nil and _M.last(addr) ~= info.addr
end

-- Is a status a failure of the peer? 5xx and 429: the peer could not or would not do it. Anything else, 404 included, is an
-- answer. NGINX's own refusals (limit_req ...) never get here: they reach no peer.
function _M.is_failure(status)
    return status >= 500 or status == 429
end

-- status: number or nil (none came); connect, header: elements of $upstream_connect_time, $upstream_header_time.
-- aborted: the client went away.
-- An answer below 200 that is no 101 is none the client can use: NGINX before 1.29 takes a 103 for the answer itself and waits for what never comes.
-- 9 stands for bytes that were no HTTP, which NGINX passes on as HTTP/0.9: another service has the port, or it speaks TLS.
function _M.judge(status, connect, header, aborted)
    if header and header ~= "-" and header ~= "" then -- the peer answered
        if status and (status >= 500 or status == 429) then
            return STATUS
        end
        if status and status < 200 and status ~= 101 then
            return RESET
        end
        return OK
    end
    if aborted or not status or status == 499 then
        return ABORT
    end
    local connected = connect and connect ~= "-" and connect ~= ""
    if status == 504 then
        return connected and TIMEOUT or CONNECT_TIMEOUT
    end
    if status == 502 then
        return connected and RESET or REFUSED
    end
    return (status >= 500 or status == 429) and STATUS or OK
end

-- A gRPC call with one answer sends its header with it. Only what goes on for longer than this after the header is a stream.
local GRPC_STREAM_MS = 100

-- Is the content type (a request's or an answer's) gRPC's?
function _M.is_grpc(content_type)
    return content_type ~= nil and find(content_type, "application/grpc", 1, true) == 1
end

-- Upgraded connections, server-sent events and streams of gRPC last as long as the client likes. status: text or number. rest_ms: how long
-- the answer went on after its header; nil: it has not ended.
function _M.is_stream(status, content_type, rest_ms)
    if status == "101" or status == 101 then
        return true
    end
    if _M.is_grpc(content_type) then
        return not rest_ms or rest_ms > GRPC_STREAM_MS
    end
    return content_type ~= nil and find(content_type, "text/event-stream", 1, true) == 1
end

-- A failed gRPC call has HTTP status 200. Those of gRPC's statuses that are failures of the peer, as the HTTP status that says the same (Envoy
-- maps them so): UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, DATA_LOSS. The others are answers to what was asked.
local GRPC_FAILURE = { ["2"] = 500, ["4"] = 504, ["8"] = 429, ["13"] = 500, ["14"] = 503, ["15"] = 500 }

-- The HTTP status for the failure of the gRPC call at hand; nil when it is none. The trailers have it, or the header of an answer without messages.
function _M.grpc_failure()
    local var = ngx.var
    local status = var.upstream_http_grpc_status or var.upstream_trailer_grpc_status
    return status and GRPC_FAILURE[status]
end

-- Did the peer break its answer off? NGINX takes such a request for complete (a client that left is not), so only the length tells:
-- shorter than announced. length, announced: $upstream_response_length and Content-Length, nil when there is none; an answer without
-- a body may announce one. sent: $body_bytes_sent. When none of the answer's body came, NGINX may not have asked for it. That is so where the
-- client got bytes, which cannot be this answer's: the request came here by post_action, with the client served already. And where it was told
-- another status or length (told_status, told_length: the Content-Length it was sent, nil when none): the answer gave way to an error page, or by
-- X-Accel-Redirect to something empty.
function _M.cut_short(status, method, length, announced, sent, told_status, told_length)
    if not announced or length == announced or method == "HEAD" or status == 304 or status == 204 then
        return false
    end
    local have, want = tonumber(length), tonumber(announced)
    if have == 0 and ((tonumber(sent) or 0) > 0 or told_status ~= status or told_length and tonumber(told_length) ~= want) then
        return false
    end
    return have ~= nil and want ~= nil and have < want
end

-- Did NGINX take what the peer sent for HTTP/0.9? $upstream_status says 200 then.
function _M.no_http()
    return ngx.status == 9
end

-- NGINX's lists for the request at hand, split.
function _M.lists()
    local var = ngx.var
    return {
        addr = _M.split(var.upstream_addr), status = _M.split(var.upstream_status),
        connect = _M.split(var.upstream_connect_time), header = _M.split(var.upstream_header_time),
        total = _M.split(var.upstream_response_time),
    }
end

-- Did nothing at all come back of the attempt at element e of NGINX's lists? nil = not known which. An HTTP/2 peer that closes a connection says so
-- on it first (GOAWAY), and may have sent its settings: what came on a gRPC call's connection need not be an answer.
function _M.unanswered(e)
    local received = e and _M.split(ngx.var.upstream_bytes_received)[e]
    return not received or received == "" or received == "0" or _M.is_grpc(ngx.var.http_content_type)
end

-- The element that belongs to a peer address, looking from element `from` on; nil when there is none.
function _M.element(lists, addr, from)
    for i = from, #lists.addr do
        if lists.addr[i] == addr then
            return i
        end
    end
end

-- Seconds with three digits, as NGINX writes them, to milliseconds; -1 = none.
function _M.ms(element)
    local s = tonumber(element)
    return s and s * 1000 or -1
end

return _M
