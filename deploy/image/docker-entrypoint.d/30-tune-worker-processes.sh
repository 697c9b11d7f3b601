#!/bin/sh
# With NGINX_ENTRYPOINT_WORKER_PROCESSES_AUTOTUNE set, worker_processes becomes the number of processors that the container may use by its
# quota (cgroup v2), at most those it may run on.
set -e
[ -n "${NGINX_ENTRYPOINT_WORKER_PROCESSES_AUTOTUNE:-}" ] || exit 0
conf=/etc/nginx/nginx.conf
if ! [ -w $conf ]; then
    echo "$0: $conf cannot be written: worker_processes stays" >&2
    exit 0
fi
n=$(nproc)
if [ -r /sys/fs/cgroup/cpu.max ]; then
    n=$(awk -v n="$n" '$1 != "max" { q = int(($1 + $2 - 1) / $2); if (q < n) n = q } END { print n }' /sys/fs/cgroup/cpu.max)
fi
sed -i "s/^worker_processes .*/worker_processes  $n;/" $conf
