#!/usr/bin/env bash
# The history store on TimescaleDB: migrations, chunks, compression, retention, continuous aggregates. TimescaleDB is not in Debian, so it
# runs as WebAssembly in Node: one connection, no COPY, no background workers (policies are run by hand). 20 seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
repo=$PWD
# shellcheck source=deploy/debian.sh
. deploy/debian.sh
command -v npm >/dev/null || need_tools nodejs npm
build_env
need_go "$repo"

# The packages are kept from run to run, outside the tree.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/weir/timescale
mkdir -p "$cache"
cp test/heavy/timescale/package.json test/heavy/timescale/serve.js "$cache"
(cd "$cache" && npm install --no-audit --no-fund --no-save --legacy-peer-deps --silent)

log=$(mktemp)
node "$cache/serve.js" >"$log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; rm -f "$log"' EXIT
for _ in $(seq 300); do
    port=$(sed -n 's/^port //p' "$log")
    [ -z "$port" ] || break
    kill -0 $server || { cat "$log"; exit 1; }
    sleep 0.2
done
[ -n "$port" ] || { echo "the server does not start"; exit 1; }
WEIR_TEST_TIMESCALE="postgres://postgres:postgres@127.0.0.1:$port/postgres?sslmode=disable&weir_copy=off&default_query_exec_mode=describe_exec" \
    go test -vet=off -count=1 -v -run Timescale ./engine/history/postgres
