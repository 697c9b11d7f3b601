#!/usr/bin/env bash
# Weir beside plain NGINX, on this machine: installs what is missing (Debian), builds, starts six uneven backends, NGINX and the
# engine, sends the same load through least_conn, through Weir with the analytic policy and through Weir with the learned one, and
# prints a table of the three.
#
#   bash deploy/demo.sh [--seconds 30] [--warmup 8] [--rate 500] [--seed 1] [--keep]
#
#   --seconds  how long each is measured              --rate  requests a second; the backends can take about 800
#   --warmup   seconds of the same load before       --keep  go on with load after the table, until Ctrl-C
#
# Everything runs on loopback, in a folder of its own, and ends with the script.
set -euo pipefail
case " $* " in *" --help "* | *" -h "*)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/debian.sh
. "$repo/deploy/debian.sh"

build_env
need_tools nginx libnginx-mod-http-lua lua-resty-core lua-resty-lrucache lua-cjson ca-certificates gcc libc6-dev
need_go "$repo"
if [ -z "${WEIR_ONNXRUNTIME:-}" ]; then
    if found=$(bash "$repo/deploy/onnxruntime.sh"); then
        export WEIR_ONNXRUNTIME=$found
    else
        echo "Going on without ONNX Runtime: the engine evaluates the model itself" >&2
    fi
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/weir-demo-XXXXXX")
mkdir "$work/bin" "$work/run"
demo='' keep_logs=''
# shellcheck disable=SC2317 # called by the trap
finish() {
    if [ -n "$demo" ]; then
        kill -TERM "$demo" 2>/dev/null || true
        wait "$demo" 2>/dev/null || true
    fi
    if [ -n "$keep_logs" ]; then
        rm -rf "${work:?}/bin"
        echo "Configurations and logs are in $work/run" >&2
    else
        rm -rf "$work"
    fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

echo "Building the engine, the backends and the load generator" >&2
revision=$(git -C "$repo" describe --always --dirty 2>/dev/null || echo unknown)
(cd "$repo" && go build -ldflags "-X main.revision=$revision" -o "$work/bin/" ./engine/cmd/weir ./test/backend/cmd/backend ./bench/load ./deploy/demo)

# In the background and waited for, so that a signal reaches this shell's traps at once.
"$work/bin/demo" --repo "$repo" --bin "$work/bin" --dir "$work/run" "$@" &
demo=$!
code=0
wait "$demo" || code=$?
demo=''
[ "$code" != 1 ] || keep_logs=yes
exit "$code"
