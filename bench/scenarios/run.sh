#!/bin/sh
# Runs every scenario here under every policy and prints the tables, and what Weir reached beside the others at the end.
# Losses are in it like gains. Median over 5 seeds; further arguments go to `weir simulate` (as --seeds 2, --policy a,b, --json).
# Takes about twenty minutes on two cores.
set -eu
cd "$(dirname "$0")/../.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT INT TERM
go build -o "$bin/weir" ./engine/cmd/weir
case " $* " in *" --policy"*) ;; *) set -- --policy all "$@" ;; esac
case " $* " in *" --seeds"*) ;; *) set -- --seeds 5 "$@" ;; esac
"$bin/weir" simulate --scenario bench/scenarios "$@"
