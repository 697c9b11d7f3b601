#!/bin/sh
# Fills in ${VARIABLES} of the environment in /etc/nginx/templates/*.template and writes the results to /etc/nginx/conf.d. Variables that are
# not set stay as they are, so NGINX's own ($host) need no escaping. NGINX_ENVSUBST_FILTER is a regular expression for the names.
set -e

templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}

say() { [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$0: $*"; }

[ -d "$templates" ] || exit 0
# shellcheck disable=SC2016 # awk's, not the shell's
names=$(awk -v filter="${NGINX_ENVSUBST_FILTER:-}" 'BEGIN { for (n in ENVIRON) if (n ~ /^[A-Za-z_][A-Za-z0-9_]*$/ && (filter == "" || n ~ filter)) printf "${%s} ", n }')
find -L "$templates" -type f -name "*$suffix" | sort | while read -r template; do
    path=${template#"$templates"/}
    file=$output/${path%"$suffix"}
    mkdir -p "$(dirname "$file")" 2>/dev/null || true
    if ! [ -w "$(dirname "$file")" ]; then
        # The entrypoint goes on, as the official one does; NGINX runs with what is there.
        echo "$0: $output cannot be written (with a read-only root, mount a tmpfs there): $template is not used" >&2
        continue
    fi
    say "$template to $file"
    envsubst "$names" <"$template" >"$file"
done
