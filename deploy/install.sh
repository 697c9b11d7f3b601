#!/usr/bin/env bash
# Installs Weir beside the NGINX of this machine (Debian), as root:
#
#   bash deploy/install.sh               Lua modules, snippets, the engine with its systemd unit
#   bash deploy/install.sh --nginx-only  Lua modules and snippets; needs no Go
#   bash deploy/install.sh --uninstall   removes what it installed; /etc/weir/weir.yaml stays
#
# It changes no NGINX configuration, and starts and reloads nothing: what is left to do is printed at the end.
# Running it again upgrades. An /etc/weir/weir.yaml that is there already is kept.
#
# DESTDIR=DIR puts the files under DIR, for packages. LUA_DIR is /usr/share/lua/5.1 unless set; for OpenResty:
# LUA_DIR=/usr/local/openresty/site/lualib.
set -euo pipefail
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
engine=yes remove=no
for arg in "$@"; do
    case $arg in
    --nginx-only) engine=no ;;
    --uninstall) remove=yes ;;
    -h | --help) usage; exit 0 ;;
    *) echo "install.sh: $arg is no option" >&2; usage >&2; exit 2 ;;
    esac
done
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/debian.sh
. "$repo/deploy/debian.sh"

to=${DESTDIR:-}
lua=$to${LUA_DIR:-/usr/share/lua/5.1}
snippets=$to/etc/nginx/weir
bin=$to/usr/local/bin
lib=$to/usr/local/lib/weir
unit=$to/etc/systemd/system
conf=$to/etc/weir

if [ -z "$to" ] && [ "$(id -u)" != 0 ]; then
    echo "install.sh: run it as root, or set DESTDIR" >&2
    exit 1
fi
has_systemd() { [ -z "$to" ] && [ -d /run/systemd/system ]; }

if [ $remove = yes ]; then
    if has_systemd; then systemctl disable --now weir 2>/dev/null || true; fi
    rm -rf "$lua/resty/weir.lua" "$lua/resty/weir" "$snippets" "$bin/weir" "$lib" "$unit/weir.service"
    if has_systemd; then systemctl daemon-reload; fi
    echo "Weir is removed. Take the include and the balancer lines out of NGINX's configuration before its next reload."
    exit 0
fi

if [ -z "$to" ] && [ -z "${LUA_DIR:-}" ]; then
    need_packages nginx libnginx-mod-http-lua lua-resty-core lua-resty-lrucache lua-cjson
fi
if [ $engine = yes ]; then
    build_env
    need_go "$repo"
    # ONNX Runtime is loaded through C; without a compiler Go builds an engine that has no models.
    [ -n "$to" ] || need_tools gcc libc6-dev
    library=${WEIR_ONNXRUNTIME:-}
    [ -n "$library" ] || library=$(bash "$repo/deploy/onnxruntime.sh" --no-install) || library=''
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    revision=$(git -C "$repo" describe --always --dirty 2>/dev/null || echo unknown)
    (cd "$repo" && go build -trimpath -ldflags "-s -w -X main.revision=$revision" -o "$work/weir" ./engine/cmd/weir)
fi

# A module that a newer version no longer has must not stay behind.
rm -rf "$lua/resty/weir"
install -d "$lua/resty/weir" "$snippets"
install -m 644 "$repo"/lua/resty/weir.lua "$lua/resty/"
install -m 644 "$repo"/lua/resty/weir/*.lua "$lua/resty/weir/"
for f in weir weir-log proxy grpc affinity limits server shadow status whole; do
    install -m 644 "$repo/nginx/$f.conf" "$snippets/"
done

if [ $engine = yes ]; then
    install -d "$bin" "$unit" "$conf"
    install -m 755 "$work/weir" "$bin/weir"
    if [ -n "$library" ]; then install -D -m 644 "$library" "$lib/libonnxruntime.so.1"; fi
    install -m 644 "$repo/deploy/weir.service" "$unit/"
    [ -e "$conf/weir.yaml" ] || install -m 644 "$repo/deploy/weir.yaml" "$conf/"
    if [ -z "$to" ] && ! id weir >/dev/null 2>&1; then
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin weir
    fi
    if has_systemd; then systemctl daemon-reload; fi
fi

echo "Installed: $lua/resty/weir*, $snippets/"
if [ $engine = yes ]; then
    echo "Installed: $bin/weir, $unit/weir.service, $conf/weir.yaml"
    if [ -n "$library" ]; then
        echo "Installed: $lib/libonnxruntime.so.1"
    else
        echo "ONNX Runtime is missing, so the engine runs no models. To add it: bash deploy/onnxruntime.sh, then this again."
    fi
    cat <<'NEXT'

Next:
  1. Put your peers into /etc/weir/weir.yaml.
  2. In NGINX's http block: include /etc/nginx/weir/weir.conf; and in the upstream a balancer line (README.md).
  3. weir check --nginx /etc/nginx/nginx.conf && nginx -t
  4. systemctl enable --now weir && systemctl reload nginx
     (without systemd: weir serve --config /etc/weir/weir.yaml, as a user who may give the socket to www-data)
NEXT
fi
