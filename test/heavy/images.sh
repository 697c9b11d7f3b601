#!/usr/bin/env bash
# Builds the images without a daemon and without an image registry, and runs them together: NGINX, the engine and two sample services that share the
# socket through a volume. From nothing 5 minutes, most of it Debian packages; built before, half a minute.
#
# The base images come from Debian's archive by debootstrap, under the names that the Dockerfiles have. All is kept in
# ${XDG_CACHE_HOME:-~/.cache}/weir/images, apart from the images of this machine. Needs root, for namespaces and mounts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
repo=$PWD
# shellcheck source=deploy/debian.sh
. deploy/debian.sh
build_env
need_go "$repo"
need_tools buildah podman debootstrap runc crun docker-compose curl jq ca-certificates
if [ "$(id -u)" != 0 ]; then
    echo "images.sh: run it as root: images are built with chroot and run with runc" >&2
    exit 1
fi

cache=${XDG_CACHE_HOME:-$HOME/.cache}/weir/images
work=$(mktemp -d)
mkdir -p "$cache"
exec 9<"$cache"
flock -w 900 9 || { echo "images.sh: another run holds $cache" >&2; exit 1; } # two at a time would share the store
podman() { command podman "$@" 9<&-; } # what watches a container outlives the script and must not hold the lock
export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf BUILDAH_ISOLATION=chroot
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/store"\nrunroot = "%s/run"\n' "$cache" "$cache" >"$CONTAINERS_STORAGE_CONF"
cat >"$CONTAINERS_CONF" <<'CONF'
[containers]
netns = "host"
log_driver = "k8s-file"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF

id=weir-test-$$
names=("$id-engine" "$id-nginx" "$id-a" "$id-b")
# shellcheck disable=SC2317 # called by the trap
finish() {
    local code=$?
    if [ $code != 0 ]; then
        for n in "${names[@]}"; do
            if podman container exists "$n"; then
                echo "--- the end of the log of $n"
                podman logs --tail 20 "$n" 2>&1 || true
            fi
        done
    fi
    podman rm -f -t 2 --ignore "${names[@]}" >/dev/null 2>&1 || true
    podman volume rm "$id-run" "$id-history" >/dev/null 2>&1 || true
    umount "$cache/store/overlay" 2>/dev/null || true
    rm -rf "$work"
    exit $code
}
trap finish EXIT

say() { printf '%6.1f s  %s\n' "$(awk -v a="$EPOCHREALTIME" -v b="$began" 'BEGIN { print a - b }')" "$*"; }
began=$EPOCHREALTIME
fail() {
    echo "images.sh: $*" >&2
    exit 1
}
# within SECONDS WHAT COMMAND...: waits until the command succeeds.
within() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >"$work/said" 2>&1; do
        [ $SECONDS -lt $until ] || fail "not in time: $what: $(tail -c 500 "$work/said")"
        sleep 0.2
    done
}
quietly() { "$@" 9<&- >"$work/log" 2>&1 || { tail -n 40 "$work/log"; fail "failed: $*"; }; }

# -- the bases

debian=docker.io/library/debian:bookworm-slim
tools=localhost/weir-tools:bookworm
if ! podman image exists $debian; then
    # shellcheck disable=SC2016 # apt's, not the shell's
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n 's|/$||; /security/d; p; q')
    quietly debootstrap --variant=minbase bookworm "$work/root" ${mirror:+"$mirror"}
    rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
    tar -C "$work/root" -c . | quietly podman import - $debian
    rm -rf "$work/root"
    say "base image made from Debian's archive"
fi
if ! podman image exists $tools; then
    printf 'FROM %s\nRUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev ca-certificates npm && rm -rf /var/lib/apt/lists/*\n' $debian >"$work/tools"
    quietly buildah bud --network=host -t $tools -f "$work/tools" "$work"
    say "compiler and npm added"
fi

# -- the builds

# Go and its caches are this machine's; so are the certificates it trusts.
build() {
    local name=$1 file=$2
    shift 2
    quietly buildah bud --layers --format docker --network=host -t "localhost/$name" -f "$file" "$@" .
    say "$name built, $(podman image inspect "localhost/$name" | jq '.[0].Size / 1e6 | floor') MB"
}
modules=$(go env GOMODCACHE) objects=$(go env GOCACHE)
mkdir -p "$modules" "$objects"
with_go=(--build-arg "GO_IMAGE=$tools" --build-arg "NODE_IMAGE=$tools" -v "$(go env GOROOT):/usr/local/go:ro" -v "$modules:/root/go/pkg/mod"
    -v "$objects:/root/.cache/go-build" -v "/etc/ssl/certs:/etc/ssl/certs:ro")
build weir-engine Dockerfile.engine "${with_go[@]}"
build weir-sample Dockerfile.engine "${with_go[@]}" --target sample
build weir-nginx Dockerfile.nginx

wants() { # IMAGE JQ WANT
    local got
    got=$(podman image inspect "localhost/$1" | jq -r ".[0] | $2")
    [ "$got" = "$3" ] || fail "$1: $2 is $got, want $3"
}
wants weir-engine .Config.User 65532:101
wants weir-engine .Config.StopSignal SIGTERM
wants weir-engine '(.HealthCheck // .Healthcheck // .Config.Healthcheck).Test | join(" ")' 'CMD /usr/local/bin/weir health'
wants weir-engine '.Size < 120e6' true
wants weir-nginx .Config.StopSignal SIGQUIT
wants weir-nginx '.Config.Entrypoint + .Config.Cmd | join(" ")' '/docker-entrypoint.sh nginx -g daemon off;'
wants weir-nginx '.Config.ExposedPorts | keys | join(" ")' 80/tcp

# -- run together

free_port() {
    local p
    while p=$((20000 + RANDOM % 10000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo "$p"; return; }
    done
}
web=$(free_port) admin=$(free_port) port_a=$(free_port) port_b=$(free_port)
mkdir -p "$work/etc" "$work/templates"
engine_config() { # PEERS
    cat >"$work/etc/.new" <<YAML
socket: {path: /run/weir/engine.sock}
admin: {listen: "127.0.0.1:$admin"}
pools:
  - name: app
    slow_start_ms: 0
    peers: [$1]
YAML
    chmod 644 "$work/etc/.new"
    mv "$work/etc/.new" "$work/etc/weir.yaml"
}
engine_config "\"127.0.0.1:$port_a\", \"127.0.0.1:$port_b\""
# shellcheck disable=SC2016 # the template's
cat >"$work/templates/site.conf.template" <<'CONF'
upstream app {
    server 0.0.0.1;
    balancer_by_lua_block { require("resty.weir").balance("app", "${APP_PEERS}") }
    keepalive 16;
}
server {
    listen ${LISTEN};
    include /etc/nginx/weir/server.conf;
    include /etc/nginx/weir/status.conf;
    access_log /var/log/nginx/access.log weir_json;
    location / { proxy_pass http://app; include /etc/nginx/weir/proxy.conf; }
}
CONF
chmod -R a+rX "$work/etc" "$work/templates"
chmod 755 "$work"
podman volume create "$id-run" >/dev/null
podman volume create "$id-history" >/dev/null

strict=(--read-only --security-opt no-new-privileges)
run_engine=(podman run -d --name "$id-engine" "${strict[@]}" --read-only-tmpfs=false --cap-drop ALL
    -v "$id-run:/run/weir" -v "$id-history:/var/lib/weir" -v "$work/etc:/etc/weir:ro" localhost/weir-engine)
nginx_options=("${strict[@]}" --read-only-tmpfs=false --tmpfs /run --tmpfs /var/lib/nginx --tmpfs /etc/nginx/conf.d -v "$id-run:/run/weir"
    -v "$work/templates:/etc/nginx/templates:ro" -e "LISTEN=127.0.0.1:$web" -e "APP_PEERS=127.0.0.1:$port_a, 127.0.0.1:$port_b")
sample() { podman run -d --name "$id-$1" "${strict[@]}" --cap-drop ALL localhost/weir-sample --name "$1" --listen "127.0.0.1:$2" --class '*:2' >/dev/null; }

# What deploy/compose.yaml puts together is read by compose, by NGINX and by the engine; networks of its kind need more than a chroot.
quietly docker-compose -f deploy/compose.yaml config
quietly podman run --rm --tmpfs /etc/nginx/conf.d -v "$repo/deploy/compose/templates:/etc/nginx/templates:ro" -e 'APP_PEERS=172.30.83.11:8080' localhost/weir-nginx nginx -t
quietly podman run --rm -v "$repo/deploy/compose/etc:/etc/weir:ro" localhost/weir-engine check

sample a "$port_a"
sample b "$port_b"
quietly podman run --rm "${nginx_options[@]}" localhost/weir-nginx nginx -t
grep -q 'test is successful' "$work/log" || fail "nginx -t said: $(cat "$work/log")"
podman run -d --name "$id-nginx" "${nginx_options[@]}" localhost/weir-nginx >/dev/null # before the engine: it must serve all the same

get() { curl -sS -m 10 -o /dev/null -w '%{http_code}\n' "http://127.0.0.1:$web$1"; }
answers() { [ "$(get /x)" = 200 ]; }
within 20 "NGINX serves without an engine" answers
"${run_engine[@]}" >/dev/null
connected() { curl -sS -m 5 "http://127.0.0.1:$web/weir-status" | jq -e '.pools.app.engine == "connected"'; }
within 20 "NGINX hears the engine through the volume" connected
say "NGINX, engine and two services run"

socket=$(podman volume inspect "$id-run" | jq -r '.[0].Mountpoint')/engine.sock
[ "$(stat -c '%u:%g %a' "$socket")" = '65532:101 660' ] || fail "the socket is $(stat -c '%u:%g %a' "$socket")"
pid_of() { podman inspect "$1" | jq '.[0].State.Pid'; }
field() { awk -v f="$2:" '$1 == f { print $2 }' "/proc/$1/status"; }
[ "$(field "$(pid_of "$id-engine")" Uid)" = 65532 ] || fail "the engine runs as user $(field "$(pid_of "$id-engine")" Uid)"
workers() { cat "/proc/$(pid_of "$id-nginx")/task/$(pid_of "$id-nginx")/children"; }
for w in $(workers); do
    [ "$(field "$w" Uid)" = 101 ] || fail "a worker of NGINX runs as user $(field "$w" Uid)"
done
quietly podman healthcheck run "$id-engine"
if podman exec "$id-engine" /bin/sh -c true 2>/dev/null; then fail "the engine's image has a shell"; fi
if podman exec "$id-nginx" touch /etc/nginx/x 2>/dev/null; then fail "NGINX's root can be written"; fi
podman exec "$id-engine" weir version >"$work/version"
grep -q 'ONNX Runtime 1' "$work/version" || fail "the engine has no ONNX Runtime: $(cat "$work/version")"
curl -sS -m 5 "http://127.0.0.1:$admin/api/health" >"$work/health"
jq -e '.status == "ok" and (.model.evaluator | startswith("ONNX Runtime"))' "$work/health" >/dev/null || fail "the engine says $(cat "$work/health")"

# Traffic in the background from here on: none of it may fail, whatever happens below.
(while [ -d "$work" ] && [ ! -e "$work/enough" ]; do get /x >>"$work/statuses" 2>&1 || true; sleep 0.01; done) &
load=$!
attempts() { # PEER: what the engine knows of it
    curl -sS -m 5 "http://127.0.0.1:$admin/api/metrics" | jq --arg p "127.0.0.1:$1" '[.. | objects | select(.addr? == $p and has("attempts")) | .attempts] | add // 0'
}
both() { [ "$(attempts "$port_a")" -gt 20 ] && [ "$(attempts "$port_b")" -gt 20 ]; }
within 30 "outcomes of both peers reach the engine" both
say "traffic flows and is learned from"

# Reload of NGINX: other workers, same service.
before=$(workers)
podman kill --signal HUP "$id-nginx" >/dev/null
fresh() { local w; for w in $(workers); do case " $before " in *" $w "*) return 1 ;; esac; done; }
within 30 "NGINX has new workers" fresh
# Reload of the engine: its file is renamed over in the mounted folder.
engine_config "\"127.0.0.1:$port_a\""
left() { curl -sS -m 5 "http://127.0.0.1:$web/weir-status" | jq -e '.pools.app.peers | length == 1'; }
within 20 "a peer that left the file left NGINX" left
say "reloads work"

# The engine ends at SIGTERM, in order; requests go on; another takes its place.
podman stop -t 10 "$id-engine" >/dev/null
code=$(podman inspect "$id-engine" | jq '.[0].State.ExitCode')
[ "$code" = 0 ] || fail "the engine ended with $code at SIGTERM"
podman logs "$id-engine" >"$work/out" 2>&1
grep -q 'engine is stopping' "$work/out" || fail "the engine did not stop in order"
answers || fail "no answer without the engine"
podman start "$id-engine" >/dev/null
within 30 "NGINX hears the engine again" connected
touch "$work/enough"
wait $load
bad=$(grep -cv '^200$' "$work/statuses" || true)
[ "$bad" = 0 ] || fail "$bad of $(wc -l <"$work/statuses") requests failed: $(grep -v '^200$' "$work/statuses" | sort | uniq -c)"
say "engine stopped and started: $(wc -l <"$work/statuses") requests, none failed"

# NGINX ends at its stop signal when its last request is answered.
get '/poll?wait=2s' >"$work/slow" &
slow=$!
sleep 0.5
podman stop -t 20 "$id-nginx" >/dev/null
wait $slow
[ "$(cat "$work/slow")" = 200 ] || fail "a request under way at the stop was answered $(cat "$work/slow")"
code=$(podman inspect "$id-nginx" | jq '.[0].State.ExitCode')
[ "$code" = 0 ] || fail "NGINX ended with $code at SIGQUIT"
podman logs "$id-nginx" >"$work/out" 2>"$work/err"
grep '^{"time"' "$work/out" | tail -1 | jq -e '.weir_peer' >/dev/null || fail "no access log on stdout"
grep -q 'gracefully shutting down' "$work/err" || fail "no error log on stderr"
podman logs "$id-engine" >"$work/out" 2>"$work/err"
grep 'engine is running' "$work/err" | tail -1 | jq -e .message >/dev/null || fail "no log of the engine on stderr"
say "NGINX stopped gracefully; logs are on stdout and stderr"
