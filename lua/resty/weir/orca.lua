-- Load reports of peers in the format of ORCA (Open Request Cost Aggregation): what the two response headers may hold.
--
--   endpoint-load-metrics-bin   base64 of a protobuf, xds.data.orca.v3.OrcaLoadReport (gRFC A51); it wins over the other
--   endpoint-load-metrics       "TEXT application_utilization=0.4, named_metrics.in_flight=3", "JSON {...}" or "BIN base64"
--
-- The rules are those of Envoy (source/common/orca/orca_parser.cc): one fault and the whole report is refused; a metric twice, NaN,
-- infinity and names that are none are faults. On top of it a negative value of what cannot be negative is one, in all three formats, and
-- names outside the protobuf are one in JSON too. A number that the protobuf does not have is skipped, as protobuf means it.
--
-- Pure: no NGINX in here. What a header can hold is bounded, and so is the work on it.
local ffi = require "ffi"
local cjson = require "cjson.safe"

local byte, find, sub, match = string.byte, string.find, string.sub, string.match
local floor, huge = math.floor, math.huge
local tonumber, type, pairs, next = tonumber, type, pairs, next

local MAX_BYTES = 2048    -- of a header; NGINX has 4 KiB for all of them, unless told otherwise
local MAX_USE = 1000      -- utilisation above is no utilisation
local MAX_HELD = 65534

local _M = { MAX_BYTES = MAX_BYTES }

-- Why a report is refused, for counting and for people.
local WHY = {
    too_long = "it has more than " .. MAX_BYTES .. " bytes",
    format = "it begins with none of TEXT, JSON and BIN",
    unknown = "it has a metric that ORCA does not know",
    duplicate = "it has a metric twice",
    number = "a metric is no number",
    finite = "a metric is NaN or infinite",
    negative = "a metric is negative",
    range = "the utilisation is above " .. MAX_USE .. "; it is a fraction, 1 = full",
    json = "its JSON is not an object of numbers, or of objects of numbers",
    base64 = "it is not base64",
    protobuf = "it is not a protobuf of OrcaLoadReport",
}
_M.WHY = WHY

-- Metrics by name, and by number in the protobuf.
local FIELD = { cpu_utilization = true, mem_utilization = true, rps = true, rps_fractional = true, eps = true, application_utilization = true }
local DOUBLE = { [1] = "cpu_utilization", [2] = "mem_utilization", [6] = "rps_fractional", [7] = "eps", [9] = "application_utilization" }
local MAP = { [4] = "request_cost.", [5] = "utilization.", [8] = "named_metrics." }
-- JSON of protobuf writes names in camel case and reads both.
local JSON_NAME = {
    cpuUtilization = "cpu_utilization", memUtilization = "mem_utilization", rpsFractional = "rps_fractional",
    applicationUtilization = "application_utilization", requestCost = "request_cost", namedMetrics = "named_metrics",
}
local IN_FLIGHT = { ["named_metrics.in_flight"] = true, ["named_metrics.inflight"] = true }

-- The report being read. Names seen carry its number, so that the table need not be made anew for each.
local application, cpu, held
local seen, nseen, serial = {}, 0, 0

local function begin()
    application, cpu, held = -1, -1, -1
    serial = serial + 1
    if nseen > 1000 then
        seen, nseen = {}, 0
    end
end

-- Takes a metric; what is wrong with it, or nil. Metrics that Weir does not use are checked all the same.
local function take(name, value)
    if seen[name] == serial then
        return "duplicate"
    end
    if not seen[name] then
        nseen = nseen + 1
    end
    seen[name] = serial
    if value ~= value or value == huge or value == -huge then
        return "finite"
    end
    if IN_FLIGHT[name] then
        if held >= 0 then
            return "duplicate"
        end
        if value < 0 then
            return "negative"
        end
        held = value < MAX_HELD and floor(value + 0.5) or MAX_HELD
        return nil
    end
    if not FIELD[name] then
        local map = match(name, "^([a-z_]+)%..")
        if map == "named_metrics" or map == "request_cost" then
            return nil -- may be anything
        end
        if map ~= "utilization" then
            return "unknown"
        end
    end
    if value < 0 then
        return "negative"
    end
    if name == "application_utilization" then
        application = value
    elseif name == "cpu_utilization" then
        cpu = value
    end
    return nil
end

-- The number a text spells; nil and what is wrong. No hexadecimal, which Lua would take.
local function number(text)
    if find(text, "[^%d%.eE%+%-]") then
        local word = match(text, "^[%+%-]?(%a+)$")
        word = word and word:lower()
        return nil, (word == "nan" or word == "inf" or word == "infinity") and "finite" or "number"
    end
    local n = tonumber(text)
    if not n then
        return nil, "number"
    end
    return n
end

-- "name=value, name=value"; Envoy had a colon in place of = at first, and takes both.
local function text(s, pos)
    local len = #s
    while true do
        pos = find(s, "[^%s,]", pos)
        if not pos then
            return nil
        end
        local _, stop, name, value = find(s, "^([^=:,%s]*)%s*[=:]%s*([^,%s]*)%s*", pos)
        if not name or stop < len and byte(s, stop + 1) ~= 44 then
            return "number"
        end
        local n, err = number(value)
        err = err or take(name, n)
        if err then
            return err
        end
        pos = stop + 1
    end
end

-- How many names there are in a JSON text: strings that a colon follows. The decoder keeps one of two that are equal and does not tell.
local function json_names(s, pos)
    local n = 0
    while true do
        local open = find(s, '"', pos, true)
        if not open then
            return n
        end
        local at = open + 1
        while true do
            local stop = find(s, '["\\]', at)
            if not stop then
                return n
            end
            if byte(s, stop) == 34 then
                pos = stop + 1
                break
            end
            at = stop + 2
        end
        if find(s, "^%s*:", pos) then
            n = n + 1
        end
    end
end

local function json_number(v)
    if type(v) == "string" then -- protobuf's JSON writes 64-bit integers and NaN so
        return number(v)
    end
    if type(v) ~= "number" then
        return nil, "json"
    end
    return v
end

local function json(s, pos)
    local report = cjson.decode(sub(s, pos))
    if type(report) ~= "table" or not find(s, "^%s*{", pos) then
        return "json"
    end
    local names = 0
    for name, v in pairs(report) do
        names = names + 1
        name = JSON_NAME[name] or name
        if name == "named_metrics" or name == "utilization" or name == "request_cost" then
            if type(v) ~= "table" or #v > 0 then
                return "json"
            end
            for key, value in next, v do
                names = names + 1
                local n, err = json_number(value)
                err = err or take(name .. "." .. key, n)
                if err then
                    return err
                end
            end
        elseif not FIELD[name] then
            return "unknown"
        else
            local n, err = json_number(v)
            err = err or take(name, n)
            if err then
                return err
            end
        end
    end
    if names ~= json_names(s, pos) then
        return "duplicate"
    end
    return nil
end

local SIX = ffi.new("uint8_t[256]")
do
    ffi.fill(SIX, 256, 255)
    local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for i = 1, 64 do
        SIX[byte(alphabet, i)] = i - 1
    end
end
local raw = ffi.new("uint8_t[?]", MAX_BYTES)
local double = ffi.new("double[1]")

-- Base64, with its padding or without, into raw[]; how many bytes, or nil.
local function base64(s, pos)
    local stop = #s
    for _ = 1, 2 do
        if stop >= pos and byte(s, stop) == 61 then
            stop = stop - 1
        end
    end
    local digits = stop - pos + 1
    if digits % 4 == 1 or digits == 0 or (stop < #s and (#s - pos + 1) % 4 ~= 0) then
        return nil
    end
    local n, bits, have = 0, 0, 0
    for i = pos, stop do
        local six = SIX[byte(s, i)]
        if six == 255 then
            return nil
        end
        bits, have = bits * 64 + six, have + 6
        if have >= 8 then
            have = have - 8
            local whole = floor(bits / 2 ^ have)
            raw[n] = whole
            n = n + 1
            bits = bits - whole * 2 ^ have
        end
    end
    return n
end

-- A protobuf's number of variable length at raw[pos]; and what comes behind it. nil when it does not end before stop.
local function varint(pos, stop)
    local n, scale = 0, 1
    for i = pos, pos + 9 do
        if i >= stop then
            return nil
        end
        local b = raw[i]
        if b < 128 then
            return n + b * scale, i + 1
        end
        n, scale = n + (b - 128) * scale, scale * 128
    end
    return nil
end

-- Where the value of a field ends whose tag ends before pos; nil when that is not before stop. For fields of a length also where it begins.
local function extent(wire, pos, stop)
    local from, to = pos, nil
    if wire == 0 then
        local _, after = varint(pos, stop)
        to = after
    elseif wire == 1 then
        to = pos + 8
    elseif wire == 5 then
        to = pos + 4
    elseif wire == 2 then
        local len, after = varint(pos, stop)
        if len then
            from, to = after, after + len
        end
    end
    if not to or to > stop then
        return nil
    end
    return to, from
end

-- One entry of a map<string, double> in raw[pos] up to stop.
local function entry(prefix, pos, stop)
    local key, value = "", 0
    while pos < stop do
        local tag, after = varint(pos, stop)
        if not tag then
            return "protobuf"
        end
        local to, from = extent(tag % 8, after, stop)
        if not to then
            return "protobuf"
        end
        if tag == 10 then
            key = ffi.string(raw + from, to - from)
        elseif tag == 17 then
            ffi.copy(double, raw + from, 8)
            value = double[0]
        elseif tag < 24 then -- the same numbers with another kind of value, or number 0
            return "protobuf"
        end
        pos = to
    end
    return take(prefix .. key, value)
end

local function protobuf(n)
    local pos = 0
    while pos < n do
        local tag, after = varint(pos, n)
        if not tag or tag < 8 then
            return "protobuf"
        end
        local wire = tag % 8
        local field = (tag - wire) / 8
        local to, from = extent(wire, after, n)
        if not to then
            return "protobuf"
        end
        local err
        if DOUBLE[field] then
            if wire ~= 1 then
                return "protobuf"
            end
            ffi.copy(double, raw + from, 8)
            err = take(DOUBLE[field], double[0])
        elseif MAP[field] then
            if wire ~= 2 then
                return "protobuf"
            end
            err = entry(MAP[field], from, to)
        elseif field == 3 then
            if wire ~= 0 then
                return "protobuf"
            end
            err = take("rps", 0)
        end
        if err then
            return err
        end
        pos = to
    end
    return nil
end

local function binary(s, pos)
    local n = base64(s, pos)
    if not n then
        return "base64"
    end
    return protobuf(n)
end

-- What a report says: the utilisation (1 = full), -1 = not told; the requests the peer holds, -1 = not told. nil and a key of WHY when the
-- report is refused. is_bin: the value is of the header that is always base64.
--
-- The utilisation is the application's own if it is above 0, else the processor's (gRFC A58). 0 counts only where it is written out:
-- in a protobuf it is the same as not being there.
function _M.parse(value, is_bin)
    if #value > MAX_BYTES then
        return nil, "too_long"
    end
    begin()
    local err
    if is_bin then
        err = binary(value, 1)
    else
        local kind = sub(value, 1, 5)
        if kind == "TEXT " then
            err = text(value, 6)
        elseif kind == "JSON " then
            err = json(value, 6)
        elseif sub(kind, 1, 4) == "BIN " then
            err = binary(value, 5)
        else
            err = "format"
        end
    end
    if err then
        return nil, err
    end
    local use = application > 0 and application or cpu > 0 and cpu or (application == 0 or cpu == 0) and 0 or -1
    if use > MAX_USE then
        return nil, "range"
    end
    return use, held
end

return _M
