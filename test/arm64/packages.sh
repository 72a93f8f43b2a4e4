#!/bin/bash
# The arm64 packages, built against Debian 12, on Debian 12 and 13: apt finds what they depend on, and
# under qemu, as a Raspberry Pi 3, 4 and 5, they compute what they should, in one process and as two
# daemons.
#
#   test/arm64/packages.sh     from the project's root, after make deb-arm64
set -u

# shellcheck source=scripts/cluster.sh
. scripts/cluster.sh

place=$PWD/build/arm64-packages
triplet=aarch64-linux-gnu
passed=0 failed=0 pids=()
tmp=$(mktemp -d)
finish() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
export no_proxy=127.0.0.1

# holds NAME COMMAND...
holds() {
    local name=$1 text
    shift
    if text=$("$@" 2>&1); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
        tail -8 <<<"$text" | sed 's/^/    /'
    fi
}

# emulate CPU ROOT PROGRAM ARGUMENT...: with the libraries of ROOT.
emulate() {
    local cpu=$1 root=$2
    shift 2
    QEMU_CPU=$cpu timeout -s KILL 300 qemu-aarch64-static -L "$root" "$@"
}

# A repository of the packages, so that apt resolves what they want.
mkdir -p "$place"
rm -rf "$place/repository"
mkdir "$place/repository"
cp build/*_arm64.deb "$place/repository/"
(cd "$place/repository" && dpkg-scanpackages -m . >Packages 2>/dev/null)

# install SUITE: extracts the packages and all that they need into $place/SUITE.
install() {
    local root=$place/$1
    rm -rf "$root"
    mmdebstrap --quiet --variant=extract --architectures=arm64 --include=splitd,splitctl "$1" "$root" \
        http://deb.debian.org/debian "deb [trusted=yes] copy:$place/repository ./" || return
    # What the essential packages, and update-alternatives, would do.
    if [ -d "$root/usr/lib/$triplet" ] && [ ! -e "$root/lib/ld-linux-aarch64.so.1" ]; then
        [ ! -d "$root/lib" ] || { cp -a "$root/lib/." "$root/usr/lib/" && rm -r "${root:?}/lib"; }
        ln -s usr/lib "$root/lib"
    fi
    ln -s openblas-pthread/libopenblas.so.0 "$root/usr/lib/$triplet/libopenblas.so.0"
}

# two_daemons ROOT: a coordinator and another node answer ten pictures.
two_daemons() {
    local root=$1 http name file got
    http=$(cluster_free_port)
    cat >"$tmp/cluster.json" <<EOF
{ "cluster": "arm64", "coordinator": "n1", "lost_ms": 5000, "costs": { "macs_per_us": 1 },
  "nodes": [ { "name": "n1", "address": "tcp://127.0.0.1:$(cluster_free_port)" },
             { "name": "n2", "address": "ipc://$tmp/n2" } ],
  "models": [ { "name": "fashion", "file": "$PWD/conf/demo/fashion.onnx" } ],
  "http": { "listen": "127.0.0.1:$http" } }
EOF
    pids=()
    for name in n1 n2; do
        QEMU_CPU=cortex-a72 qemu-aarch64-static -L "$root" "$root/usr/sbin/splitd" --config "$tmp/cluster.json" --node $name \
            --state "$tmp/$name.state" >"$tmp/$name.log" 2>&1 &
        pids+=($!)
    done
    export SPLITD_SERVER=http://127.0.0.1:$http
    emulate cortex-a72 "$root" "$root/usr/bin/splitctl" status --wait 60 >/dev/null || return
    for file in conf/demo/fashion/*.png; do
        got=$(emulate cortex-a72 "$root" "$root/usr/bin/splitctl" infer "$file" --top 1) || return
        [[ $got == *"(${file:18:1})"* ]] || { echo "$got"; return 1; }
    done
    kill "${pids[@]}"
    wait "${pids[@]}"
    pids=()
}

for suite in bookworm trixie; do
    root=$place/$suite
    holds "the packages install on $suite" install $suite
    for cpu in cortex-a53 cortex-a72 cortex-a76; do
        holds "two nodes on $cpu give what one gives ($suite)" emulate $cpu "$root" "$root/usr/bin/splitctl" \
            compare conf/demo/superres.onnx --input test/fixtures/superres_in.npy \
            --expect test/fixtures/superres_out.npy --local 2
        holds "a picture on $cpu ($suite)" emulate $cpu "$root" "$root/usr/bin/splitctl" \
            run conf/demo/superres.onnx conf/demo/dogs.png -o "$tmp/dogs.png" --local 2
    done
    holds "two daemons answer ($suite)" two_daemons "$root"
done

echo "$passed passed, $failed failed"
[ $failed = 0 ]
