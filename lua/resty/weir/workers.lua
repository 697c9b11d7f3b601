-- Rows of the in-flight matrix: each worker owns one. A worker that was killed takes its connections with it, so its
-- whole row is dropped as soon as anyone sees that it is dead. An old worker that drains after a reload keeps its row.
local ffi = require "ffi"
local shm = require "resty.weir.shm"

local C = ffi.C
local tonumber = tonumber
local open = io.open

ffi.cdef [[ int kill(int pid, int sig); ]]

local ESRCH = 3

-- A worker that finds every row taken counts in the spare one, which nobody reads: what several workers write there may be anything.
local SPARE = shm.MAX_ROWS - 1 -- it serves the self-test besides
local TRY_AGAIN_S = 5

local _M = { SPARE = SPARE, row = nil }
local dict

-- "pid:start time": a pid alone may have been given to another process since.
local function identity(pid)
    local f = open("/proc/" .. pid .. "/stat", "r")
    if not f then
        return pid .. ":" -- no /proc: the pid must do
    end
    local line = f:read("*l") or ""
    f:close()
    -- field 22, counted after the ")" that ends the command name
    local n, start = 2, ""
    for word in line:gsub("^.*%)", ""):gmatch("%S+") do
        n = n + 1
        if n == 22 then
            start = word
            break
        end
    end
    return pid .. ":" .. start
end
_M.identity = identity

function _M.alive(id)
    local pid = tonumber(id:match("^(%d+):"))
    if not pid then
        return false
    end
    if C.kill(pid, 0) == -1 and ffi.errno() == ESRCH then
        return false
    end
    return identity(pid) == id
end

-- Wipes and frees the rows of dead workers. Any worker may call it; the dict's add makes one do it.
function _M.reap()
    local reaped = 0
    for row = 0, shm.head.nrows - 1 do
        local id = dict:get("row:" .. row)
        if id and not _M.alive(id) and dict:safe_add("reap:" .. row, true, 5) then
            if dict:get("row:" .. row) == id then
                shm.wipe(row)
                dict:delete("row:" .. row)
                reaped = reaped + 1
            end
            dict:delete("reap:" .. row)
        end
    end
    return reaped
end

-- Leaves the rows past the last that is taken out of what every pick sums: after a reload, or many of them with connections held, they would
-- be read for good. Elected worker only. A worker that takes such a row at this instant puts itself right with stay_in_sight().
function _M.shrink()
    local n = shm.head.nrows
    while n > 1 and not dict:get("row:" .. n - 1) do
        n = n - 1
    end
    if n < shm.head.nrows then
        shm.head.nrows = n
    end
end

-- Called a few times a second.
function _M.stay_in_sight()
    if _M.row and shm.head.nrows <= _M.row then
        shm.head.nrows = _M.row + 1
    end
end

-- A row for this worker; nil, and why, when there is none.
local function take()
    _M.reap()
    for row = 0, SPARE - 1 do
        local ok, err = dict:safe_add("row:" .. row, _M.id)
        if not ok and err ~= "exists" then
            return nil, "no row of counts: " .. err .. ": raise the size of lua_shared_dict weir"
        elseif ok then
            shm.wipe(row)
            if shm.head.nrows <= row then
                shm.head.nrows = row + 1
            end
            _M.row = row
            return row
        end
    end
    return nil, "all " .. SPARE .. " rows of counts are taken by workers, most of them old ones that hold connections since a reload (see"
        .. " worker_shutdown_timeout)"
end

local function take_later(premature, found)
    if premature then
        return
    end
    local row = take()
    if row then
        found(row)
    else
        ngx.timer.at(TRY_AGAIN_S, take_later, found)
    end
end

-- Gives this worker its row, by found(row); called once, in init_worker. Where all are taken, by old workers that hold connections
-- after many reloads, that is the spare one now and one of its own as soon as there is one. Returns nil then, and why.
function _M.claim(d, pid, found)
    dict = d
    _M.id = identity(pid)
    local row, err = take()
    found(row or SPARE)
    if row then
        return row
    end
    ngx.timer.at(TRY_AGAIN_S, take_later, found)
    return nil, err .. ": what this worker has in flight is not counted until there is one"
end

-- For the status page.
function _M.list()
    local out = {}
    for row = 0, shm.head.nrows - 1 do
        local id = dict:get("row:" .. row)
        if id then
            out[#out + 1] = { row = row, pid = tonumber(id:match("^(%d+)")), alive = _M.alive(id),
                inflight = shm.row_total(row) }
        end
    end
    return out
end

return _M
