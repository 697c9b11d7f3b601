-- Weir for NGINX: the functions that nginx/weir.conf and the operator's upstream blocks call. Everything behind them is in resty/weir/.
local shm = require "resty.weir.shm"
local slots = require "resty.weir.slots"
local pools = require "resty.weir.pools"

local _M = { _VERSION = "0.1.0" }

local DEFAULT_SOCKET = "/run/weir/engine.sock"
local options

local function read(file, what)
    local f = io.open(file, "rb")
    local text = f and f:read(what)
    if f then f:close() end
    return text
end

-- The host's name, and what tells two NGINX of a host apart and stays over a restart: the arguments that they were started with. As two of one name,
-- each would replace what the other told the engine to have in flight. A reload finds them behind the master's title, one space between them.
local function default_instance()
    local host = read("/proc/sys/kernel/hostname", "*l") or "nginx"
    local started = read("/proc/self/cmdline", "*a")
    if not started then
        return host
    end
    started = started:gsub("%z", " "):gsub("^nginx: master process ", ""):gsub(" +$", "")
    return host .. "-" .. ("%08x"):format(ngx.crc32_short(started))
end

-- init_by_lua. opts (all optional): socket = path of the engine's socket; instance = name of this NGINX in the engine's records;
-- dict = name of the lua_shared_dict; affinity_secret_file = path of the secrets that sign sticky cookies.
-- WEIR_SOCKET, WEIR_INSTANCE and WEIR_AFFINITY_SECRET_FILE in the environment win over them.
function _M.init(opts)
    opts = opts or {}
    options = {
        socket = os.getenv("WEIR_SOCKET") or opts.socket or DEFAULT_SOCKET,
        instance = os.getenv("WEIR_INSTANCE") or opts.instance,
        dict = opts.dict or "weir",
    }
    options.instance = options.instance or default_instance()
    local dict = ngx.shared[options.dict]
    if not dict then
        error("weir: lua_shared_dict " .. options.dict .. " is not declared; include weir.conf in the http block")
    end
    local ok, err = shm.attach(dict)
    if not ok then
        error("weir: " .. err)
    end
    slots.init(dict)
    pools.init(dict)
    ok, err = require("resty.weir.cookie").init(dict, os.getenv("WEIR_AFFINITY_SECRET_FILE") or opts.affinity_secret_file)
    if not ok then
        error("weir: " .. err)
    end
    -- all loaded here, once: the workers share the pages, and need not be allowed to read the files
    require "resty.weir.evidence".init(dict)
    require "resty.weir.shed".init(dict)
    require "resty.weir.refused".init(dict)
    require "resty.weir.doubt".init(dict)
    require "resty.weir.balancer"
    require "resty.weir.admit"
    require "resty.weir.rate"
    require "resty.weir.log"
    require "resty.weir.status".init(dict)
    require "resty.weir.classes".init(dict)
    require "resty.weir.watch"
    require "resty.weir.observe"
    require "resty.weir.lookout"
end

local function seed(pid)
    local f = io.open("/dev/urandom", "rb")
    local a, b, c, d
    if f then
        a, b, c, d = (f:read(4) or ""):byte(1, 4)
        f:close()
    end
    return a and d and a + b * 256 + c * 65536 + d * 16777216 or pid * 2654435 + math.floor(ngx.now() * 1000)
end

-- init_worker_by_lua.
function _M.init_worker()
    local dict = ngx.shared[options.dict]
    local pid = ngx.worker.pid()
    require("resty.weir.random").seed(seed(pid))
    local row, err = require("resty.weir.workers").claim(dict, pid, require("resty.weir.attempts").init)
    if not row then
        ngx.log(ngx.ERR, "weir: ", err)
    end
    require("resty.weir.watch").start(dict, options.socket)
    require("resty.weir.lookout").start()
    require("resty.weir.observe").start(options.socket, options.instance)
end

-- access_by_lua, balancer_by_lua, header_filter_by_lua, body_filter_by_lua, log_by_lua, content_by_lua.
_M.admit = require("resty.weir.admit").admit
_M.rate = require("resty.weir.rate").rate
_M.balance = require("resty.weir.balancer").balance
_M.affinity = require("resty.weir.issue").header
_M.whole = require("resty.weir.whole").body
_M.log = require("resty.weir.log").log
_M.status = require("resty.weir.status").serve
_M.unavailable = require("resty.weir.status").unavailable

return _M
