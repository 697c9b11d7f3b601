#!/usr/bin/env bash
# Runs every test of Weir. On Debian 12 with Go, as root or with sudo, it installs what else it needs.
#
#   bash test/run.sh           all but the heavy ones, under twelve minutes on two cores
#   bash test/run.sh --quick   without the race detector and the end-to-end tests
#   bash test/run.sh --heavy   only the heavy ones (test/heavy/*.sh, and beside them those of test/heavy/beside, which mostly wait)
#
# A step that fails does not stop the next. A table at the end says what became of each; the exit code is 1 when one failed.
set -euo pipefail
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
mode=all
case $# in
0) ;;
1)
    case $1 in
    --quick | --heavy) mode=${1#--} ;;
    -h | --help) usage; exit 0 ;;
    *) echo "run.sh: $1 is no option" >&2; usage >&2; exit 2 ;;
    esac
    ;;
*) usage >&2; exit 2 ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
repo=$PWD
# shellcheck source=deploy/debian.sh
. deploy/debian.sh
exec </dev/null

table=() failed=0

# step NAME COMMAND...: runs it under a heading and notes how it ended and how long it took.
step() {
    local name=$1 began=$EPOCHREALTIME took result=ok
    shift
    printf '\n== %s\n' "$name"
    "$@" || { result=FAILED failed=$((failed + 1)); }
    took=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
    [ $result = ok ] || printf '== %s: FAILED\n' "$name"
    table+=("$(printf '%-44s %-6s %7s s' "$name" $result "$took")")
}

finish() {
    printf '\n'
    printf '%s\n' "${table[@]}"
    printf '%-44s %-6s %7d s\n' total "$([ "$failed" = 0 ] && echo ok || echo FAILED)" $SECONDS
    [ "$failed" = 0 ]
}

packages() {
    need_tools nginx libnginx-mod-http-lua lua-resty-core lua-resty-lrucache lua-cjson luajit2 lua-busted lua-check \
        prometheus prometheus-node-exporter curl jq procps wrk gcc libc6-dev ca-certificates shellcheck postgresql mariadb-server pgbouncer
}

export TEST_ALL_SERVERS=1 # a test whose database server is missing fails

# Tests of inference fail rather than skip where WEIR_ONNXRUNTIME is set, so it is set even when there is no library.
onnxruntime() {
    [ -z "${WEIR_ONNXRUNTIME:-}" ] || return 0
    export WEIR_ONNXRUNTIME
    WEIR_ONNXRUNTIME=$(bash deploy/onnxruntime.sh) || { WEIR_ONNXRUNTIME=could-not-be-fetched; return 1; }
}

# gofumpt and staticcheck are tools of go.mod: the same versions everywhere.
format() {
    local bad
    bad=$(go tool gofumpt -l deploy engine bench models nginx schema test) || return 1
    [ -z "$bad" ] || { printf 'not formatted (go tool gofumpt -w FILE):\n%s\n' "$bad"; return 1; }
}

scripts() {
    local found
    found=$(find . -name '*.sh' -not -path './.*') || return 1
    # shellcheck disable=SC2086 # names without spaces
    shellcheck -x .ci/run $found
}

# Sorts the packages but the end-to-end tests, which have a step of their own. Only where goroutines are started or memory is shared, by the
# package or its tests, can there be a race: those run under the detector. The others would take up to thirty times as long there and show nothing.
# Tests that merely run beside one another (t.Parallel) share nothing in a package without variables of its own.
# What asks whether it is to be short has tests that are too slow under the detector, and runs both ways.
sort_packages() {
    local path dir list
    every=() plain=() raced=()
    list=$(go list -f '{{.ImportPath}} {{.Dir}}' ./...) || return 1
    while read -r path dir; do
        [[ $path != */test/e2e ]] || continue
        every+=("$path")
        if grep -qE '\bgo (func|[A-Za-z_.]+\()|\.Go\(|\bhttptest\.|\b(sync|atomic)\.[A-Z]|\bchan |"unsafe"' "$dir"/*.go; then
            raced+=("$path")
            grep -sqE 'testing\.Short\(|\braceDetector\b' "$dir"/*_test.go || continue
        fi
        plain+=("$path")
    done <<<"$list"
}

# Vetting has a step of its own.
unit() {
    sort_packages || return 1
    [ "$mode" = quick ] || every=("${plain[@]}")
    go test -vet=off -count=1 -timeout 8m "${every[@]}"
}

race() { sort_packages && go test -race -short -vet=off -count=1 -timeout 8m "${raced[@]}"; }

# finished PID LOG: waits for a script that was started in the background, and shows what it said.
finished() {
    local code=0
    wait "$1" || code=$?
    cat "$2"
    rm -f "$2"
    return "$code"
}

heavy() {
    shopt -s nullglob
    local scripts=(test/heavy/*.sh) beside=(test/heavy/beside/*.sh) pids=() logs=() s i
    for s in "${beside[@]}"; do
        logs+=("$(mktemp)")
        bash "$s" >"${logs[-1]}" 2>&1 &
        pids+=($!)
    done
    if [ ${#scripts[@]} = 0 ]; then
        echo "no heavy tests yet"
        return
    fi
    for s in "${scripts[@]}"; do
        step "$s" bash "$s"
    done
    for i in "${!beside[@]}"; do
        step "${beside[i]} (what was left)" finished "${pids[i]}" "${logs[i]}"
    done
}

build_env
step "packages" packages
# Without these nothing else can run, and each step would tell the same.
if [ "$failed" != 0 ] || ! need_go "$repo"; then
    failed=1
    finish
fi
if [ "$mode" = heavy ]; then
    step "ONNX Runtime" onnxruntime
    heavy
    finish
    exit
fi
step "modules (go mod download)" go mod download
step "ONNX Runtime" onnxruntime
step "format (gofumpt)" format
step "vet" go vet ./...
step "lint (staticcheck)" go tool staticcheck ./...
step "scripts (shellcheck)" scripts
step "lint (luacheck)" luacheck --no-color -q lua test/lua bench/lua
step "Lua tests (busted)" busted
step "Go tests (unit, property, fuzz seeds)" unit
if [ "$mode" = all ]; then
    step "Go tests under the race detector" race
    # Most of them wait most of the time: three beside one another take a good half of two cores.
    step "end-to-end tests on real NGINX" go test -vet=off -count=1 -timeout 9m -parallel 3 ./test/e2e/...
fi
finish
