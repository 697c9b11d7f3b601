-- A path that differs in each request: /users/N/orders. Weir has to find the class behind it each time.
-- The paths are made before the run: string work in wrk would take the time of the core it shares with the peers.
local requests, at = {}, 0

function init()
    for i = 1, 10000 do
        requests[i] = wrk.format("GET", "/users/" .. 100000 + i .. "/orders")
    end
end

function request()
    at = at % 10000 + 1
    return requests[at]
end
