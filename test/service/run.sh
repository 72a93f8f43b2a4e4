#!/bin/bash
# The service for real: Debian boots in a container, the .deb is installed, and what may happen to a
# service happens.  Then the README's ten minutes, in two containers in place of two Pis.
#
#   test/service/run.sh [SUITE...]     from the project's root, after make deb; needs root
#
# The packages, built on Debian 12, are tried on 12 and 13.
set -u
here=$(dirname "$0")
# shellcheck source=test/service/container.sh
. "$here/container.sh"

[ $# -gt 0 ] || set -- bookworm trixie
place=$PWD/build/service
packages=$place/packages
passed=0 failed=0

if [ "$(id -u)" != 0 ]; then
    echo "test/service: only root can boot containers"
    echo "0 passed, 1 failed"
    exit 1
fi

tmp=$(mktemp -d "${TMPDIR:-/tmp}/splitd-service-XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# add FILE: its last line says "N passed, N failed".
add() {
    local line
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$1" | tail -1)
    if [ -z "$line" ]; then
        echo "FAILED: it ended before its end"
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + ${line%% *}))
    line=${line#*, }
    failed=$((failed + ${line%% *}))
}

mkdir -p "$packages"
rm -f "$packages"/*
cp build/*_"$(dpkg --print-architecture)".deb "$packages/"
for suite; do
    container_root "$place/$suite" "$suite" "$packages" || exit 1
    echo "== the service on Debian $suite"
    root=$tmp/$suite
    cp -a "$place/$suite" "$root"
    container_unit "$root" "$here/inside.sh"
    container_boot "$root" --private-network --hostname=one \
        --bind-ro="$packages:/packages" --bind-ro="$PWD/conf/demo:/demo"
    cat "$root/said"
    [ -s "$root/said" ] || tail -20 "$root.console"
    add "$root/said"
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
