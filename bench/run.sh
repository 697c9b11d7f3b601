#!/usr/bin/env bash
# Benchmarks of Weir: sh, Go and NGINX on this machine, nothing leaves loopback.
#
#   bash bench/run.sh cpu|decide|refresh|inference|history|down|pick|scenarios|worlds|ablation|limits|trained|convergence|guess|online|engines|peers [--json] [--save] [--help]
#
# bench/README.md says what each measures and how to read it. What is missing is named, not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
BENCH_BIN=$(mktemp -d)
export BENCH_BIN # the runner removes it
go build -o "$BENCH_BIN/runner" ./bench/runner
exec "$BENCH_BIN/runner" --repo "$PWD" "$@" # in place of this shell, so that signals reach it
