#!/usr/bin/env bash
# The demo, small: --keep leaves all up, with load, until it is told to end; then nothing of it is left, and it can be run again. A minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tmp=$(mktemp -d) demo=''
# shellcheck disable=SC2317 # called by the trap
finish() {
    if [ -n "$demo" ] && kill -TERM "$demo" 2>/dev/null; then
        wait "$demo" || true
    fi
    rm -rf "$tmp"
}
trap finish EXIT
mkdir "$tmp/run"
fail() {
    printf 'demo.sh: %s\n' "$*" >&2
    tail -n 30 "$tmp/out" "$tmp/err" >&2
    exit 1
}

# wants_nothing_left WHEN: nothing that the demo started runs, and nothing of its folder is left.
wants_nothing_left() {
    local left
    left=$(pgrep -af "$tmp/run" || true)
    [ -z "$left" ] || fail "after $1 there still runs: $left"
    left=$(ls -A "$tmp/run")
    [ -z "$left" ] || fail "after $1 there is still: $left"
}
short=(--seconds 4 --warmup 1 --rate 100)

TMPDIR=$tmp/run bash deploy/demo.sh "${short[@]}" --keep >"$tmp/out" 2>"$tmp/err" &
demo=$!
for ((i = 0; ; i++)); do
    ! grep -q 'The load through Weir goes on' "$tmp/err" || break
    kill -0 "$demo" 2>/dev/null || fail "with --keep it ended"
    [ $i -lt 300 ] || fail "with --keep it has no table after five minutes"
    sleep 1
done
for what in least_conn analytic learned 'share of f'; do
    grep -q "$what" "$tmp/out" || fail "its table lacks $what"
done
admin=$(sed -n "s/^The engine's API *\(http[^ ]*\) .*/\1/p" "$tmp/out")
weir=$(sed -n "s/^NGINX's own view *\([^ ]*\)\/weir-status.*/\1/p" "$tmp/out")
attempts() { curl -fsS "$admin/api/metrics" | jq '[.pools[].peers[].attempts] | add'; }
curl -fsS "$weir/weir-status" >"$tmp/status" || fail "with --keep NGINX does not answer"
before=$(attempts)
sleep 3
after=$(attempts)
[ "$after" -gt $((before + 50)) ] || fail "with --keep there is no load: $before attempts, 3 s later $after"

kill -TERM "$demo"
for ((i = 0; i < 60; i++)); do
    kill -0 "$demo" 2>/dev/null || break
    sleep 1
done
[ $i -lt 60 ] || fail "a minute after a signal it still runs"
code=0
wait "$demo" || code=$?
demo=''
[ "$code" = 143 ] || fail "ended by a signal it says $code"
wants_nothing_left "--keep"
for url in "$admin/api/health" "$weir/weir-status"; do
    ! curl -fsS --max-time 2 "$url" >"$tmp/status" 2>&1 || fail "$url still answers"
done

TMPDIR=$tmp/run bash deploy/demo.sh "${short[@]}" >"$tmp/out" 2>"$tmp/err" || fail "the second run ended with $?"
grep -q 'share of f' "$tmp/out" || fail "the second run has no table"
wants_nothing_left "the second run"
