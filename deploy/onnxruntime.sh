#!/usr/bin/env bash
# Fetches ONNX Runtime, the library that runs Weir's models, and prints its path. If it is there already that takes 0.1 s.
#
#   bash deploy/onnxruntime.sh [--no-install]     with it, npm is not installed where it is missing
#   export WEIR_ONNXRUNTIME=$(bash deploy/onnxruntime.sh)
#
# It comes from the npm package onnxruntime-node (MIT licence, 100 MB to download, 38 MB kept) by `npm pack`, which asks the registry
# that npm is configured for; where npm is missing it is installed from Debian. The checksum is verified. The library goes to
# ${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}/onnxruntime/VERSION, where `weir` looks for it.
set -euo pipefail
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
install=yes
for arg in "$@"; do
    case $arg in
    --no-install) install=no ;;
    -h | --help) usage; exit 0 ;;
    *) echo "onnxruntime.sh: $arg is no option" >&2; usage >&2; exit 2 ;;
    esac
done
# shellcheck source=deploy/debian.sh
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"
exec </dev/null

fail() {
    echo "onnxruntime.sh: $*" >&2
    exit 1
}

version=1.27.0 # engine/model/ort/find.go has it too
case $(uname -s)-$(uname -m) in
Linux-x86_64) arch=x64 sum=d8aff4aa8abee8fb2abb2f2f2459ffc94461e781e41b9f7c072829dd0d470221 ;;
Linux-aarch64) arch=arm64 sum=c36bc200e7e6c093b8abb0b34590fbdd8c52fd3fb5e33795b9523ffdde2fce0f ;;
*) fail "there is no library for $(uname -s) on $(uname -m); only for Linux on x86_64 and aarch64" ;;
esac
name=libonnxruntime.so.1
member=package/bin/napi-v6/linux/$arch/$name

if [ -z "${WEIR_CACHE:-}${XDG_CACHE_HOME:-}" ] && [ -z "${HOME:-}" ]; then
    HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
fi
dir=${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}/onnxruntime/$version
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
file=$dir/$name

sound() { [ -f "$file" ] && [ "$(sha256sum <"$file")" = "$sum  -" ]; }

if sound; then
    echo "$file"
    exit
fi
command -v npm >/dev/null || { [ $install = yes ] && need_tools npm; } || fail "npm is needed to fetch ONNX Runtime; or fetch the library elsewhere and set WEIR_ONNXRUNTIME to its path"

mkdir -p "$dir" || fail "cannot make the folder $dir; WEIR_CACHE=FOLDER names another"
# Two scripts at a time: the second waits for the first, then finds its result. The lock is on the folder, so no file is left.
exec 9<"$dir"
flock 9
if sound; then
    echo "$file"
    exit
fi
mkdir -p "$dir"        # the first, failing, removed it
rm -rf "$dir"/.fetch-* # of one that was killed

work=$(mktemp -d "$dir/.fetch-XXXXXX")
child=''
# shellcheck disable=SC2317 # called by the trap
finish() {
    if [ -n "$child" ]; then
        kill -TERM "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    rm -rf "$work"
    rmdir "$dir" "${dir%/*}" "${dir%/*/*}" 2>/dev/null || true # those that are empty, after a failure
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

echo "Fetching ONNX Runtime $version for $arch (100 MB)" >&2
# In the background and waited for, so that a signal reaches this shell's traps at once. npm's own cache would keep the 100 MB.
(
    cd "$work"
    exec npm pack --loglevel=error --cache "$work/npm" "onnxruntime-node@$version" 9<&-
) >"$work/log" 2>&1 &
child=$!
wait "$child" || {
    child=''
    tail -n 20 "$work/log" >&2
    fail "npm could not fetch onnxruntime-node@$version from the registry it is configured for"
}
child=''
tar -xzf "$work/onnxruntime-node-$version.tgz" -C "$work" "$member" || fail "the package onnxruntime-node@$version has no $member"
got=$(sha256sum <"$work/$member")
[ "$got" = "$sum  -" ] || fail "the library in onnxruntime-node@$version has the checksum ${got%% *} instead of $sum; it was not installed"
chmod 644 "$work/$member"
mv -f "$work/$member" "$file"
echo "$file"
