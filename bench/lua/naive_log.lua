local port = ngx.ctx.port
if port then
    ngx.shared.naive:incr(port, -1)
end
