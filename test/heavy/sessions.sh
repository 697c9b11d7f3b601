#!/usr/bin/env bash
# Ten thousand ONNX Runtime sessions, one after the other, leave no memory behind. 15 seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
WEIR_HEAVY=1 go test -vet=off -count=1 -v -run TestSessionsMadeAnewLeaveNoMemoryBehind ./engine/model/ort
