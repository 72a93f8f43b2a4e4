#!/bin/bash
# Everything that may happen to a cluster while clients ask it: four daemons in network namespaces of
# their own, a steady load of requests with known answers, and one fault after the other.  No request
# may be lost, no answer wrong, no daemon end by itself.
#
#   test/cluster/faults.sh [-q] [-t] [-b BUILD] [-m NAME=MODEL.onnx]... [FAULT[:RUNS]...]
#
# From the project's root, after make.  -q is the short form: the most telling faults, once or twice
# each.  -t: everything over TLS, which hostile peers and strangers do not get past.  -m asks other models
# than the demo's.  Ends with a table: how often, requests lost and answered wrongly, and recovery: by how
# much the slowest request that was under way between a fault and the return to four nodes took longer than
# requests do otherwise (median).
# Needs root, iproute2, nftables and control groups (scripts/emulate).
set -u

here=$(dirname "$0")
# shellcheck source=scripts/emulate
. scripts/emulate

usage() {
    echo "usage: $0 [-q] [-t] [-b BUILD] [-m NAME=MODEL.onnx]... [FAULT[:RUNS]...]" >&2
    exit 2
}

build=build quick='' tls='' models=()
while getopts qtb:m: option; do
    case $option in
    q) quick=1 ;;
    t) tls=1 ;;
    b) build=$OPTARG ;;
    m) models+=("${OPTARG%%=*}=$(realpath "${OPTARG#*=}")") ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
build=$(realpath "$build")
[ ${#models[@]} -gt 0 ] || models=("superres=$PWD/conf/demo/superres.onnx" "fashion=$PWD/conf/demo/fashion.onnx")

emulate_name=faults$$
nodes=4
url=http${tls:+s}://198.18.0.10:8080
passed=0 failed=0 skipped=0
tmp=$(mktemp -d)
pids=() load_pid=''

# shellcheck disable=SC2317  # the trap calls it
finish() {
    trap '' INT TERM HUP
    exec 2>/dev/null # bash reports every process that is killed
    [ -z "$load_pid" ] || kill -KILL "$load_pid" 2>/dev/null
    emulate_down
    wait 2>/dev/null
    rm -rf "$tmp"
}

pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    [ -z "${2:-}" ] || printf '%s\n' "$2" | head -12 | sed 's/^/    /'
}
result() {
    local line="$passed passed, $failed failed"
    [ $skipped = 0 ] || line+=", $skipped skipped"
    echo "$line"
    [ $failed = 0 ]
    exit
}

for program in splitd splitctl cluster-load cluster-peer cluster-slow; do
    if [ ! -x "$build/$program" ]; then
        echo "$build/$program is missing: run make first"
        failed=1
        result
    fi
done
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The short form is for every machine; who asks for the long one wants to see it.
if ! why=$(command -v nft >/dev/null || echo "nftables is missing"
           emulate_up "$nodes" 2>&1) || [ -n "$why" ]; then
    echo "the emulated network does not come up: $why"
    if [ "$quick" ]; then skipped=1; else failed=1; fi
    result
fi

# shellcheck source=test/cluster/faults_cluster.sh
. "$here/faults_cluster.sh"
# shellcheck source=test/cluster/faults_list.sh
. "$here/faults_list.sh"

for fault in "$@"; do
    if ! declare -F "fault_${fault%%:*}" >/dev/null; then
        echo "'$fault' is no fault; these are: ${faults[*]}" >&2
        usage
    fi
done
table_is_strict
cluster_up
if [ $# -gt 0 ]; then
    for fault in "$@"; do
        runs=${fault#*:}
        [ "$runs" != "$fault" ] || runs=
        "fault_${fault%%:*}" "$runs"
    done
elif [ "$quick" ]; then
    quick_faults
else
    for fault in "${faults[@]}"; do "fault_$fault"; done
fi
cluster_verdict
result
