-- The yardstick of `bench/run.sh cpu`: a balancer as it is written in an afternoon. The count of each peer in a shared dict, all of them read for
-- each request. No class, no outcomes, no retries.
local counts = ngx.shared.naive
local PORTS = PORTS -- luacheck: globals PORTS
-- which the benchmark sets in init_by_lua
local best, at = math.huge, 1
local from = math.random(#PORTS)
for i = 1, #PORTS do
    local port = PORTS[(from + i) % #PORTS + 1]
    local n = counts:get(port) or 0
    if n < best then
        best, at = n, port
    end
end
counts:incr(at, 1, 0)
ngx.ctx.port = at
require("ngx.balancer").set_current_peer("127.0.0.1", at)
