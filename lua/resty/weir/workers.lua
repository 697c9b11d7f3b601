-- Rows of the in-flight matrix: each worker owns one. A worker that was killed takes its connections with it, so its
-- whole row is dropped as soon as anyone sees that it is dead. An old worker that drains after a reload keeps its row.
local ffi = require "ffi"
local shm = require "resty.weir.shm"

local C = ffi.C
local tonumber = tonumber
local open = io.open

ffi.cdef [[ int kill(int pid, int sig); ]]

local ESRCH = 3

local _M = { row = nil }
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

-- Takes a row for this worker; called once, in init_worker. Returns the row, or nil and why.
function _M.claim(d, pid)
    dict = d
    _M.id = identity(pid)
    _M.reap()
    for row = 0, shm.MAX_ROWS - 2 do -- the last row serves the self-test
        if dict:safe_add("row:" .. row, _M.id) then
            shm.wipe(row)
            if shm.head.nrows <= row then
                shm.head.nrows = row + 1
            end
            _M.row = row
            return row
        end
    end
    return nil, "all " .. (shm.MAX_ROWS - 1) .. " worker rows are in use"
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
