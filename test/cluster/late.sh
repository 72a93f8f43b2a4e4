#!/bin/bash
# shellcheck disable=SC2317  # functions that holds() calls
# Halos that come late: four daemons in network namespaces of their own, whose switch drops a tenth of
# the packets between the workers.  With "late_halo": "wait" answers are exact and slow, with "conceal"
# they come in time and say what they lack, and a node that dies is still found out.
#
#   test/cluster/late.sh [BUILD]     from the project's root, after make
#
# Needs root, iproute2, nftables and control groups (scripts/emulate); says that it skips without.
set -u

export SPLITD_EXACT=1 # pictures are compared with those of one node

# shellcheck source=scripts/emulate
. scripts/emulate

build=$(realpath "${1:-build}")
emulate_name=late$$
nodes=4 pictures=10 late_ms=30
url=http://198.18.0.10:8080
model=conf/demo/superres.onnx
passed=0 failed=0 skipped=0
tmp=$(mktemp -d)
pids=()

# shellcheck disable=SC2317  # the trap calls it
finish() {
    trap '' INT TERM HUP
    exec 2>/dev/null # bash reports every process that is killed
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
# holds NAME COMMAND...
holds() {
    local said
    if said=$("${@:2}" 2>&1); then pass; else fail "$1" "$said"; fi
}
result() {
    local line="$passed passed, $failed failed"
    [ $skipped = 0 ] || line+=", $skipped skipped"
    echo "$line"
    [ $failed = 0 ]
    exit
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if ! why=$(command -v nft >/dev/null || echo "nftables is missing"
           emulate_up "$nodes" 2>&1) || [ -n "$why" ]; then
    echo "the emulated network does not come up: $why"
    skipped=1
    result
fi

# Links that a lost packet silences for long are kept.
write_config() {
    local i list=''
    for ((i = 0; i < nodes; i++)); do
        list+="${list:+, }{ \"name\": \"n$((i + 1))\", \"address\": \"tcp://$(emulate_address $i):7070\", \"threads\": 1 }"
    done
    cat >"$tmp/cluster.json" <<CONFIG
{ "cluster": "late", "coordinator": "n1", "insecure": true, "lost_ms": 10000, "policy": "exchange",
  "late_halo": "$1", "late_halo_ms": $late_ms, "costs": { "message_us": 1 },
  "nodes": [ $list ],
  "models": [ { "name": "superres", "file": "$PWD/$model" } ],
  "http": { "listen": "${url#*://}" } }
CONFIG
}

start_node() {
    (
        trap - EXIT
        emulate_exec "$1" "$build/splitd" --config "$tmp/cluster.json" --node n$(($1 + 1)) --state "$tmp/n$1"
    ) >>"$tmp/n$1.log" 2>&1 </dev/null &
    pids[$1]=$!
}

# on_client COMMAND...: on the operator's machine.
on_client() { (trap - EXIT; emulate_client "$@"); }

# cluster WAIT-OR-CONCEAL: a new cluster whose nodes do so.
cluster() {
    local i
    for i in "${!pids[@]}"; do
        kill "${pids[i]}" 2>/dev/null
        wait "${pids[i]}" 2>/dev/null
    done
    write_config "$1"
    for ((i = 0; i < nodes; i++)); do start_node $i; done
    on_client "$build/splitctl" status --server "$url" --wait 30 --timeout 30 >"$tmp/status" 2>&1 && return
    fail "the cluster does not come up" "$(cat "$tmp/status" "$tmp"/n?.log)"
    result
}

# lossy PART: of the packets that workers send each other; halos go from n2 to n3, n3 to n4 and back.
lossy() {
    local drop
    drop="numgen random mod 1000 < $(awk -v p="$1" 'BEGIN { print p * 1000 }') drop"
    emulate_filter lossy 2 "iifname port1 oifname port2 $drop" "iifname port2 oifname port1 $drop" \
        "iifname port2 oifname port3 $drop" "iifname port3 oifname port2 $drop"
}

# ask: all pictures, one after the other; a line of JSON each.
ask() {
    rm -rf "$tmp/out"
    on_client "$build/splitctl" infer --server "$url" "$tmp"/in/*.png --output "$tmp/out/" --json >"$tmp/answers" 2>"$tmp/err"
}
# field NAME: of each answer.
field() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" "$tmp/answers"; }
sum() { field "$1" | awk '{ s += $1 } END { printf "%.0f\n", s }'; }
most() { field "$1" | sort -n | awk 'END { printf "%.0f\n", $1 }'; }
exact() {
    local i
    for ((i = 10; i < 10 + pictures; i++)); do cmp "$tmp/out/$i.png" "$tmp/one/10.png" || return; done
}
# near DB: no picture is further from the exact one.
near() {
    local i db
    for ((i = 10; i < 10 + pictures; i++)); do
        db=$("$build/splitctl" psnr "$tmp/one/10.png" "$tmp/out/$i.png") || return
        awk -v said="$db" -v least="$1" 'BEGIN { split(said, word); exit !(word[2] == "inf" || word[2] >= least) }' ||
            { echo "$i.png: $db"; return 1; }
    done
}
metric() { on_client curl -s "$url/metrics" | sed -n "s/^$1 //p"; }

mkdir "$tmp/in"
for ((i = 10; i < 10 + pictures; i++)); do cp conf/demo/dogs.png "$tmp/in/$i.png"; done
"$build/splitctl" run "$model" "$tmp/in/10.png" --output "$tmp/one/" >/dev/null || fail "one node alone"

cluster wait
holds "answers without loss" ask
holds "they are exact" exact
holds "and say what nodes sent for them" test "$(sum answer_bytes)" -gt 0
lossy 0.1
holds "answers of nodes that wait" ask
holds "they are exact, whatever is lost" exact
holds "and say so" test "$(sum concealed)" = 0
waited=$(most ms)

lossy 0
cluster conceal
lossy 0.1
holds "answers of nodes that conceal" ask
concealed=$(sum concealed)
holds "they say how many halos they lack" test "$concealed" -gt 0
holds "and so do the figures" test "$(metric splitd_halos_concealed_total)" = "$concealed"
holds "they are near the exact ones" near 25
echo "$pictures pictures, 10 % of the packets lost: waiting took up to $waited ms, concealing $concealed halos up to $(most ms) ms"

# Nothing at all comes between n3 and n4, for less than lost_ms: five exchanges are given up, which
# costs a node's neighbours as much again at worst.
lossy 0
emulate_part 2 3
holds "answers while a link is silent" ask
emulate_heal 2
holds "each of them lacks halos" test "$(field concealed | grep -c '^[1-9]')" = $pictures
holds "they come in time, not when the link is lost ($(most ms) ms)" test "$(most ms)" -lt $((20 * late_ms + 1500))

# A node that is dead is not late.
kill -KILL "${pids[3]}"
wait "${pids[3]}" 2>/dev/null
unset 'pids[3]'
holds "answers after a node's death" ask
holds "the node is found out" grep -q 'node-lost node=n4' "$tmp/n0.log"
result
