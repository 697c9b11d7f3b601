#!/usr/bin/env bash
# The short form of the benchmark of online learning (bench/run.sh online): real NGINX, engines that learn and serve, weir evaluate on what they recorded.
# Two minutes. It is held to its form and to what no noise can excuse; what it measures is for a quiet machine and for longer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=deploy/debian.sh
. deploy/debian.sh
build_env
need_go "$PWD"
need_tools nginx libnginx-mod-http-lua lua-resty-core lua-resty-lrucache lua-cjson jq

out=$(mktemp)
trap 'rm -f "$out"' EXIT
bash bench/run.sh --json online --for 30s --slice 10s --every 10s --rounds 1 --round 40s --warmup 15s >"$out"

failed=
check() { # what, a jq expression that must be true
    if jq -e "$2" "$out" >/dev/null; then
        echo "ok    $1"
    else
        echo "FAIL  $1: $2"
        jq -c '[.raw.rounds[] | {served, of, decisions, true: .response_time.True}]' "$out"
        failed=yes
    fi
}
check "three slices, each with requests of every kind" '.raw.slices | length == 3 and all(.least_conn.requests > 500 and .fixed.requests > 500 and .learning.requests > 500 and .control.requests > 0)'
# A time-out may come of the machine; a fault of routing fails more than that.
check "hardly a request failed" '[.raw.slices[] | .least_conn.failed, .fixed.failed, .learning.failed] | add <= 5'
check "a peer was slow in the second third" '[.raw.slices[].peer_slow] == [false, true, false]'
check "a candidate was made, and judged" '[.raw.steps[] | select(.step == "trained")] | length > 0'
check "the long run's history was judged for three models" '.raw.estimates_of_the_long_run | length == 3 and all(.decisions > 1000 and .response_time.Value > 0)'
check "every policy was judged by every other's history, and served" '.raw.rounds | length == 16 and all(.decisions > 1000 and .response_time.Known and .response_time.True > 0)'
# A model that served is not far from itself: off by half there is a fault, not noise, unless the whole machine stood still.
check "what served is judged as it was, within half" '[.raw.rounds[] | select(.served == .of and .late_p99_ms < 200) | .response_time | .Value / .True] | all(. > 0.5 and . < 2)'
[ -z "$failed" ]
