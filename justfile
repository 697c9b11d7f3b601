# Short names for the project's commands; none of them is needed. `just` alone lists them.

default:
    @just --list

# Weir beside plain least_conn on this machine (--seconds N, --rate R, --keep)
demo *args:
    bash deploy/demo.sh {{args}}

# Every test (--quick, --heavy)
test *args:
    bash test/run.sh {{args}}

# What CI runs
check:
    bash .ci/run

# Benchmarks; without arguments it lists them
bench *args="--help":
    bash bench/run.sh {{args}}

# Format the Go code
fmt:
    go tool gofumpt -w deploy engine bench models nginx schema test

# Install beside this machine's NGINX, as root (--nginx-only, --uninstall)
install *args:
    bash deploy/install.sh {{args}}
