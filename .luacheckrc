std = "ngx_lua"
max_line_length = 160
exclude_files = { ".cache" }
files["test/lua"] = { std = "+busted" }
files["**/slots.lua"] = {}
