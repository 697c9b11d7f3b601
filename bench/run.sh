#!/usr/bin/env bash
# Benchmarks of Weir: sh, Go and NGINX on this machine, nothing leaves loopback.
#
#   bash bench/run.sh cpu|decide|refresh|inference|down|pick|peers [--json] [--save] [--help]
#
# bench/README.md says what each measures and how to read it. What is missing is named, not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/runner" ./bench/runner
"$bin/runner" --repo "$PWD" "$@"
