#!/bin/bash
# The unit tests as a Raspberry Pi 4 runs them, under qemu; the kernels also as a 3 and a 5; and a network
# on two nodes of one process as all three.  As many at a time as there are processors.
#
#   test/arm64/run.sh [-q] BUILD SYSROOT     from the project's root: programs of 64-bit ARM, its libraries
#
# -q leaves out what takes longest, large convolutions and most of them on the 3 and the 5, and the
# daemon's tests, some of which fail when a machine as slow as this is busy, too.
set -u

# qemu does not keep the limit of memory that this test sets.
most='-image/tables_are_freed_once_*' kernels='conv/* simd*/*' daemon=test-daemon
if [ "$1" = -q ]; then
    most+=' -conv/large -conv/wide_rows' kernels='conv/channels conv/depthwise simd*/*' daemon=
    shift
fi
build=$1 sysroot=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Longest first.  Other things than kernels do not depend on the processor.
jobs="cortex-a72 test-libsplit $most -local/*
cortex-a72 test-libsplit local/*
cortex-a72 test-tiling
cortex-a53 test-libsplit $kernels
cortex-a76 test-libsplit $kernels
cortex-a72 test-quant
cortex-a72 test-proto${daemon:+
cortex-a72 $daemon}"
for cpu in a53 a72 a76; do
    jobs+="
cortex-$cpu splitctl compare conf/demo/superres.onnx --input test/fixtures/superres_in.npy
 --expect test/fixtures/superres_out.npy --local 2"
done
jobs=$(sed -z 's/\n / /g' <<<"$jobs")

# emulate LOG CPU PROGRAM ARGUMENT...: a program that does not count tests is one.
emulate() {
    local log=$1 cpu=$2 program=$3 rc
    shift 3
    QEMU_CPU=$cpu timeout -s KILL 900 qemu-aarch64-static -L "$sysroot" "$build/$program" "$@" >"$log" 2>&1
    rc=$?
    grep -qaE '^[0-9]+ passed' "$log" || echo "$((rc == 0)) passed, $((rc != 0)) failed, 0 skipped" >>"$log"
    echo "$cpu $program $*: $(tail -1 "$log")"
    [ $rc = 0 ] || { echo "    exit code $rc"; grep -aE -B 3 '^(FAILED: |    signal )' "$log" | tail -24 | sed 's/^/    /'; }
}
export -f emulate
export build sysroot

# Patterns are for the program, not for this shell.
# shellcheck disable=SC2016  # expanded by the inner shell
awk -v tmp="$tmp" '{ print tmp "/" NR ".log", $0 }' <<<"$jobs" | tr '\n' '\0' |
    xargs -0 -P "$(nproc)" -I{} bash -c 'set -f; emulate $1' _ {}

cat "$tmp"/*.log | LC_ALL=C awk '/^[0-9]+ passed, [0-9]+ failed/ { passed += $1; failed += $3; skipped += $5; programs++ }
    END { if (programs != '"$(wc -l <<<"$jobs")"') failed++
          print passed + 0 " passed, " failed + 0 " failed, " skipped + 0 " skipped"; exit failed > 0 || passed == 0 }'
