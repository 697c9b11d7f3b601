#!/bin/sh
# Runs what is in /docker-entrypoint.d before NGINX starts, as the official image does: in order of name, *.envsh read into this shell,
# *.sh run when they are executable. Other commands than nginx start at once.
set -e

say() { [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$0: $*"; }

case ${1:-} in
nginx | nginx-debug)
    for f in /docker-entrypoint.d/*; do
        case $f in
        *.envsh)
            if [ -x "$f" ]; then
                say "reading $f"
                # shellcheck source=/dev/null
                . "$f"
            else
                say "leaving out $f: it is not executable"
            fi
            ;;
        *.sh)
            if [ -x "$f" ]; then
                say "running $f"
                "$f"
            else
                say "leaving out $f: it is not executable"
            fi
            ;;
        /docker-entrypoint.d/\*) ;;
        *) say "leaving out $f: neither .sh nor .envsh" ;;
        esac
    done
    say "ready to start"
    ;;
esac
exec "$@"
