#!/usr/bin/env bash
# Field cases at the length they have, which the plain run shortens: WebSockets of a minute (case 4), a port that opens after ten seconds
# (case 19). Both mostly wait, side by side: 75 seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
WEIR_HEAVY=1 go test -vet=off -count=1 -v -timeout 9m -run 'TestLongStreamsDoNotMoveThePlainEstimate|TestAPeerThatOpensLateCostsNoRequest' ./test/e2e
