#!/bin/bash
# Real daemons on this machine: right answers over tcp:// and ipc://, clean stops, and everything
# that may go wrong from outside.
#
#   test/cluster/run.sh [BUILD]     from the project's root, after make
set -u

# Bits are compared between clusters, so all of them compute alike, and in ways whose bits do not depend
# on where maps are cut.
export SPLITD_MEASURE=0 SPLITD_EXACT=1

cluster_build=$PWD/${1:-build}
splitctl=$cluster_build/splitctl
splitd=$cluster_build/splitd
here=$(dirname "$0")
# shellcheck source=scripts/cluster.sh
. scripts/cluster.sh

passed=0 failed=0 skipped=0
tmp=$(mktemp -d)
finish() {
    trap '' INT TERM
    cluster_stop
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

pass() { passed=$((passed + 1)); }

# fail NAME [TEXT]
fail() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    [ -z "${2:-}" ] || printf '%s\n' "$2" | head -8 | sed 's/^/    /'
}
skip() {
    skipped=$((skipped + 1))
    echo "skipped: $1"
}

# holds NAME COMMAND...
holds() {
    local name=$1 text
    shift
    if text=$("$@" 2>&1); then pass; else fail "$name" "$text"; fi
}

# with_cluster LABEL TRANSPORT NODES MODEL... -- FUNCTION...: runs the functions with a fresh
# cluster, whose files lie in $dir, and sees that it stops as it should.
with_cluster() {
    local label=$1 transport=$2 nodes=$3 models=()
    shift 3
    while [ "$1" != -- ]; do
        models+=("$1")
        shift
    done
    shift
    dir=$tmp/$label
    mkdir "$dir"
    cluster_write "$dir/cluster.json" "$transport" "$nodes" "${models[@]}"
    cluster_start "$dir/cluster.json"
    if cluster_wait 60; then
        for step; do
            "$step"
        done
    else
        fail "$label: the cluster does not come up"
    fi
    stops_in_time "$label"
}

# Every daemon that is left ends with 0 within a second of SIGTERM.
stops_in_time() {
    local i pid start ms
    for i in "${!cluster_pid[@]}"; do
        pid=${cluster_pid[i]}
        start=$(date +%s%N)
        kill -TERM "$pid" 2>/dev/null || {
            fail "$1: n$((i + 1)) had ended by itself" "$(tail -3 "${cluster_log[i]}")"
            continue
        }
        timeout 5 tail -s 0.02 --pid="$pid" -f /dev/null || kill -KILL "$pid"
        wait "$pid"
        code=$?
        ms=$((($(date +%s%N) - start) / 1000000))
        if [ $code = 0 ] && [ $ms -lt 1000 ]; then
            pass
        else
            fail "$1: n$((i + 1)) ended with $code after $ms ms" "$(tail -3 "${cluster_log[i]}")"
        fi
    done
    cluster_pid=()
}

for program in "$splitctl" "$splitd"; do
    if [ ! -x "$program" ]; then
        echo "$program is missing: run make first"
        echo "0 passed, 1 failed"
        exit 1
    fi
done

# shellcheck source=test/cluster/answers.sh
. "$here/answers.sh"
# shellcheck source=test/cluster/http.sh
. "$here/http.sh"
# shellcheck source=test/cluster/links.sh
. "$here/links.sh"
# shellcheck source=test/cluster/config.sh
. "$here/config.sh"
# shellcheck source=test/cluster/tasks.sh
. "$here/tasks.sh"
# shellcheck source=test/cluster/halos.sh
. "$here/halos.sh"
# shellcheck source=test/cluster/limits.sh
. "$here/limits.sh"
# shellcheck source=test/cluster/secure.sh
. "$here/secure.sh"
# shellcheck source=test/cluster/loss.sh
. "$here/loss.sh"
# shellcheck source=test/cluster/reload.sh
. "$here/reload.sh"

own=("superres=$PWD/conf/demo/superres.onnx" "fashion=$PWD/conf/demo/fashion.onnx")
prepare_answers
for transport in tcp ipc; do
    for nodes in 2 4; do
        with_cluster "$transport-$nodes" $transport $nodes "${own[@]}" -- \
            answers_equal_one_node many_sizes several_clients traces_are_whole
        reference_networks "$transport" "$nodes"
    done
done
tasks_like_one_node
fastest_halos
with_cluster http tcp 2 "${own[@]}" -- http_answers figures first_hour http_refuses_requests http_refuses_framing
with_cluster links tcp 2 "${own[@]}" -- links_survive_strangers ports_in_use
with_cluster reload tcp 3 "${own[@]}" -- reloads
with_cluster loss tcp 4 "${own[@]}" -- answers_survive_losses
config_errors
limits
secure_cluster

line="$passed passed, $failed failed"
[ $skipped = 0 ] || line+=", $skipped skipped"
echo "$line"
[ $failed = 0 ]
