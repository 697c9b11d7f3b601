-- Says when a key (of affinity, a split or a rate limit) reads variables that no request has. NGINX refuses a name it does not know in its own
-- configuration; Lua reads it as empty, so a misspelt key would mean no affinity and nobody would know.
--
-- Nothing tells what variables there are. But to set one that NGINX does not have is refused with other words than to set one that must not
-- be set, and only what reads as missing is tried. Variables that a prefix makes up, as $arg_x, are in no list of NGINX either: those it has are
-- named here, and another module's, of which there are few, is told from a mistake by a value in one of the first requests.
local vars = require "resty.weir.vars"
local notice = require "resty.weir.notice"

local ngx = ngx
local read, text = vars.read, vars.text
local pcall, ipairs, concat = pcall, ipairs, table.concat
local min = math.min

local _M = {}

_M.UNKNOWN_AFTER = 16 -- requests a worker without a value, after which NGINX is asked whether it has the variable
_M.EMPTY_AFTER = 1000 -- and after which the name is doubted whoever it belongs to

local MAX_KEYS = 256 -- those beyond are not looked at
local SAID_S = 86400

-- By what requests, answers and tokens bring; the first ones are what people mean. jwt_ is NGINX Plus's.
local PREFIXES = { "http_", "cookie_", "arg_", "sent_http_", "sent_trailer_", "upstream_http_", "upstream_cookie_", "upstream_trailer_",
    "proxy_protocol_tlv_", "jwt_header_", "jwt_claim_" }
local MEANT = 3
-- NGINX has these two, and to set them does something.
local NOT_TO_SET = { args = true, limit_rate = true }

local known, nkeys = {}, 0
local dict, load = nil, "" -- of NGINX's configuration: a reload says it again

-- In NGINX's master.
function _M.init(shared)
    dict, load = shared, "doubt:" .. ngx.now() .. ":"
end

-- What is doubted of a key: what it is of, for people; what becomes of requests for which it is empty; and its parts, of key.lua. The same for
-- the same key, however often tables are made anew. nil when there is nothing to look at any more.
function _M.of(what, otherwise, parts)
    local names = {}
    for _, p in ipairs(parts) do
        if p.variable then
            names[#names + 1] = p
        end
    end
    local id = { what }
    for _, p in ipairs(names) do
        id[#id + 1] = p.name
    end
    id = concat(id, "$")
    local d = known[id]
    if not d and nkeys < MAX_KEYS then
        nkeys = nkeys + 1
        d = { id = id, what = what, otherwise = otherwise, left = names, seen = 0, alone = #names == 1 }
        known[id] = d
    end
    return d and d.left[1] and d or nil
end

local function begins(name, prefix)
    return name:sub(1, #prefix) == prefix and #name > #prefix
end

-- How many letters have to be put in, taken out or changed to make b of a.
local function distance(a, b)
    local row = {}
    for j = 0, #b do row[j] = j end
    for i = 1, #a do
        local before = row[0]
        row[0] = i
        for j = 1, #b do
            local least = min(row[j] + 1, row[j - 1] + 1, before + (a:byte(i) == b:byte(j) and 0 or 1))
            before, row[j] = row[j], least
        end
    end
    return row[#b]
end

-- The name that was probably meant: $http_x_user for $htpp_x_user; nil when none is near.
function _M.meant(name)
    local word, rest = name:match("^(%l+)(_.+)$")
    for i = 1, word and MEANT or 0 do
        local prefix = PREFIXES[i]:sub(1, -2)
        if distance(word, prefix) <= (#prefix > 3 and 2 or 1) then
            return prefix .. rest
        end
    end
end

local function set(name)
    ngx.var[name] = nil
end

-- Whether NGINX has no such variable, of what the request at hand has none of.
local function missing(r, name)
    for _, prefix in ipairs(PREFIXES) do
        if begins(name, prefix) then
            return false
        end
    end
    if NOT_TO_SET[name] or text(r, name) then
        return false
    end
    local ok, err = pcall(set, name)
    return not ok and err:find("not found for writing", 1, true) ~= nil
end

local function say(level, d, names, message)
    local id = load .. concat(names, "$") .. ":" .. d.what
    local first, err = true, nil
    if dict then
        first, err = dict:safe_add(id, true, SAID_S)
    end
    if first or err ~= "exists" then
        notice[level](message)
    end
end

local function listed(names)
    return "$" .. concat(names, ", $")
end

local function ask(d, r)
    local names, left, meant = {}, {}, nil
    for _, p in ipairs(d.left) do
        if missing(r, p.name) then
            names[#names + 1] = p.name
            meant = meant or _M.meant(p.name)
        else
            left[#left + 1] = p
        end
    end
    if names[1] then
        d.left = left
        say("once", d, names, d.what .. " reads " .. listed(names) .. ", which NGINX does not have or does not give to Lua: "
            .. (d.alone and d.otherwise or "it counts as empty") .. "; "
            .. (meant and "did you mean $" .. meant .. "?"
                or "right would be $http_NAME, $cookie_NAME, $arg_NAME, another variable of NGINX, or one that `set` or `map` makes"))
    end
end

-- Looks at one more request. Cheap enough for the first thousand, and not called after those.
function _M.look(d, r)
    local left = d.left
    for i = #left, 1, -1 do
        local _, len = read(r, left[i].variable)
        if len > 0 then
            table.remove(left, i)
        end
    end
    d.seen = d.seen + 1
    if d.seen == _M.UNKNOWN_AFTER then
        ask(d, r)
    elseif d.seen >= _M.EMPTY_AFTER then
        if d.left[1] then
            local names = {}
            for i, p in ipairs(d.left) do names[i] = p.name end
            say("warn", d, names, d.what .. ": of " .. d.seen .. " requests none had anything in " .. listed(names) .. ": "
                .. (d.alone and d.otherwise or "it counts as empty") .. "; is that the right name?")
        end
        d.left = {}
    end
    return d.left[1] ~= nil
end

return _M
