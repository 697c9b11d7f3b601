# shellcheck shell=bash
# Functions for the scripts that need programs from Debian's archive; read with `.`, not run.
#
#   need_packages nginx jq ...   installs those that are missing
#   need_tools nginx jq ...      the same, and no service of theirs is left running or enabled
#   need_go                      finds Go, in PATH or /usr/local/go
#   build_env                    settings under which `go build` works in any checkout

need_packages() { install_missing yes "$@"; }
need_tools() { install_missing no "$@"; }

install_missing() {
    local services=$1 missing=() p
    shift
    for p in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "These packages are needed, and there is no apt-get to install them: ${missing[*]}" >&2
        return 1
    fi
    local -a as_root=()
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "These packages are needed; as root: apt-get install --no-install-recommends ${missing[*]}" >&2
            return 1
        fi
        as_root=(sudo)
        [ -t 0 ] || as_root=(sudo -n) # nobody there to type a password
    fi
    echo "Installing from Debian: ${missing[*]}" >&2
    "${as_root[@]}" bash -s -- "$services" "${missing[@]}" >&2 <<'ROOT' || { echo "Installing ${missing[*]} failed." >&2; return 1; }
set -eu
mkdir -p /run/lock # a container may have none
exec 9>/run/lock/weir-install.lock
flock 9 # a second script that installs waits
services=$1
shift
# A package that brings a service starts it when it is installed. Debian's own switch against that is policy-rc.d;
# one that is there already is the administrator's and stays.
policy=/usr/sbin/policy-rc.d
if [ "$services" = no ] && [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
install() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends install "$@" </dev/null >"$log" 2>&1
}
log=$(mktemp)
# Package lists may be missing or too old; they are fetched only then.
if ! install "$@"; then
    apt-get -o DPkg::Lock::Timeout=300 -qq update </dev/null
    install "$@" || { tail -n 20 "$log"; exit 1; }
fi
rm -f "$log"
# Nor should they start at the next boot.
if [ "$services" = no ] && [ -d /run/systemd/system ]; then
    for p in "$@"; do
        case $p in nginx | prometheus | prometheus-node-exporter) systemctl --quiet disable "$p" || true ;; esac
    done
fi
ROOT
}

need_go() {
    command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
    local want have
    want=$(sed -n 's/^go //p' "$1/go.mod")
    if ! command -v go >/dev/null; then
        echo "Go $want is needed to build Weir, and Debian 12 has none as new: install it from https://go.dev/dl/ (it goes to /usr/local/go)." >&2
        return 1
    fi
    # Go since 1.21 fetches the version that go.mod asks for, unless GOTOOLCHAIN forbids it.
    if ! have=$(cd "$1" && go version 2>&1); then
        echo "Go $want is needed to build Weir: $have" >&2
        return 1
    fi
    case $have in
    *" go1."[0-9].* | *" go1.1"[0-9]* | *" go1.20"*)
        echo "Go $want is needed to build Weir; this is ${have#go version }. Install it from https://go.dev/dl/." >&2
        return 1
        ;;
    esac
}

# In a checkout that belongs to somebody else git answers nothing, and `go build`, which asks it for the revision, fails.
build_env() {
    export GOFLAGS=-buildvcs=false GOWORK=off
    [ -n "${HOME:-}" ] || HOME=$(getent passwd "$(id -u)" | cut -d: -f6) # Go's caches are in it
    export HOME
}
