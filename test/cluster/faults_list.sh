#!/bin/bash
# Part of faults.sh: one function per fault.
# shellcheck disable=SC2154,SC2034  # variables of faults.sh

# repeat TIMES COMMAND...
repeat() {
    local times=$1
    shift
    for ((; times > 0; times--)); do
        random_pause
        "$@"
    done
}

one_kill() {
    local i
    i=$(random_worker)
    begin "kill -9 of a worker" 1.0
    kill_node "$i"
    sleep 0.8
    says 0 'node-lost'
    start_node "$i"
    back
}

one_kill_of_two() {
    local i j
    i=$(random_worker)
    j=$((1 + i % (nodes - 1)))
    begin "kill -9 of two at once" 1.0
    kill_node "$i"
    kill_node $j
    sleep 0.8
    start_node "$i"
    start_node $j
    back
}

one_freeze() {
    local i
    i=$(random_worker)
    begin "freeze and thaw" 1.5
    emulate_freeze "$i"
    sleep 1.2
    says 0 'node-lost node=.*silent'
    emulate_thaw "$i"
    back
}

# Thawed before or just when it is missed.
one_hiccup() {
    local i
    i=$(random_worker)
    begin "freeze of 0.1 to 0.4 s" 1.5
    emulate_freeze "$i"
    sleep "0.$((10 + RANDOM % 30))"
    emulate_thaw "$i"
    sleep 0.5
    back
}

one_cable() {
    local i
    i=$(random_worker)
    begin "cable out and in" 1.5
    emulate_cut "$i"
    sleep 1.2
    says 0 'node-lost'
    emulate_heal "$i"
    back
}

one_silence() {
    local i
    i=$(random_worker)
    begin "one-way silence" 1.5
    emulate_mute "$i"
    sleep 1.2
    says 0 'node-lost'
    emulate_heal "$i"
    back
}

# Both see the coordinator, but not each other.
one_parting() {
    begin "two workers cannot reach each other" 1.5
    emulate_part 2 3
    sleep 2
    emulate_heal 2
    back
}

one_reboot() {
    local i
    i=$(random_worker)
    begin "reboot: gone without a word" 1.5
    emulate_cut "$i"
    kill_node "$i"
    [ -z "${1:-}" ] || sleep 1
    emulate_heal "$i"
    start_node "$i"
    sleep 0.5
    back
}

one_empty_disk() {
    local i
    i=$(random_worker)
    begin "back with an empty disk" 1.0
    kill_node "$i"
    rm -rf "$tmp/n$((i + 1)).state"
    sleep 0.5
    start_node "$i"
    back
}

fault_kill() { repeat "${1:-50}" one_kill; }
fault_two() { repeat "${1:-10}" one_kill_of_two; }
fault_freeze() { repeat "${1:-10}" one_freeze; }
fault_hiccup() { repeat "${1:-10}" one_hiccup; }
fault_cable() { repeat "${1:-10}" one_cable; }
fault_silence() { repeat "${1:-10}" one_silence; }
fault_parting() { repeat "${1:-5}" one_parting; }
fault_reboot() {
    repeat "${1:-5}" one_reboot
    repeat "${1:-5}" one_reboot later
}
fault_empty() { repeat "${1:-5}" one_empty_disk; }

fault_loss() {
    begin "2 % of the packets lost, ${1:-20} s" -
    emulate_loss all 0.02
    sleep "${1:-20}"
    emulate_loss all 0
    back
}

# Only one survives.
fault_alone() {
    local i
    begin "all workers killed" 1.0
    for i in 1 2 3; do kill_node $i; done
    sleep 1
    for i in 1 2 3; do start_node $i; done
    back
}

# one_coordinator FAULT [REBOOT]: who comes back asks for a second's patience, so the last of those who
# asked meanwhile are answered after all is well again.
one_coordinator() {
    begin "$1" -
    [ -z "${2:-}" ] || emulate_cut 0
    kill_node 0
    sleep 0.5
    [ -z "${2:-}" ] || emulate_heal 0
    start_node 0
    whole
    sleep 1
    back
}
fault_coordinator() {
    repeat "${1:-10}" one_coordinator "coordinator killed, back in 0.5 s"
    repeat "${1:-5}" one_coordinator "coordinator rebooted, back in 0.5 s" reboot
}

# A node whose disk holds no model works no more, the others do.
fault_disk() {
    begin "disk full for the model cache" 1.0
    kill_node 3
    mkdir -p "$tmp/full"
    (
        trap - EXIT
        # shellcheck disable=SC2016  # the inner shell's arguments
        # The mount is the daemon's own: ip netns exec gives it a mount namespace.
        emulate_exec 3 bash -c 'mount -t tmpfs -o size=64k none "$1" && exec "${@:2}"' - "$tmp/full" \
            "$build/splitd" --config "$tmp/cluster.json" --node n4 --state "$tmp/full"
    ) >>"$tmp/n4.log" 2>&1 </dev/null &
    pids[3]=$!
    sleep 2
    says 3 'model-failed .*No space left'
    says 0 'model-not-stored .*node=n4 .*No space left'
    alive "disk full"
    kill_node 3
    start_node 3
    back
}

# peer MODE WHAT EVENT: somebody who greets as n4.  Without a certificate, where links ask for one.
peer() {
    local mode=$1 event=$3 peer_pid
    [ -z "$tls" ] || event='link-failed node=n4'
    begin "$2" 1.0
    kill_node 3
    sleep 0.3
    (
        trap - EXIT
        emulate_exec 3 "$build/cluster-peer" listen 7070 faults n4 "$mode"
    ) &
    peer_pid=$!
    sleep 1.5
    says 0 "$event"
    alive "$2"
    kill -KILL $peer_pid
    wait $peer_pid 2>/dev/null
    start_node 3
    back
}

fault_garbage() { repeat "${1:-1}" peer garbage "a peer sends garbage" 'garbage-on-link node=n4'; }

fault_peers() {
    peer half "a peer sends half a message" 'link-lost node=n4 .*silent'
    peer huge "a peer announces 4 GB" 'garbage-on-link node=n4 .*longer'
    peer other "a peer of another cluster" 'peer-refused .*cluster'
    peer silent "a peer that says nothing" 'link-failed node=n4 .*HELLO'
    peer old "a peer sends old epochs" 'link-up node=n4'
}

# strangers MODE WHAT NODE EVENT: many of them dial n3 as NODE.  n2 is there already.
strangers() {
    local i dialers=() event=$4
    [ -z "$tls" ] || event='(link-failed|peer-refused) '
    begin "$2" 1.0
    for ((i = 0; i < 40; i++)); do
        on_client "$build/cluster-peer" dial 198.18.0.12 7070 faults "$3" "$1" 2>/dev/null &
        dialers+=($!)
    done
    sleep 1.5
    says 2 "$event"
    alive "$2"
    kill_node 1
    sleep 0.3
    start_node 1
    back
    kill -KILL "${dialers[@]}" 2>/dev/null
    wait "${dialers[@]}" 2>/dev/null
}

fault_strangers() {
    strangers silent "40 strangers that say nothing" n2 'peer-refused'
    strangers garbage "40 strangers who say they are n2" n2 'peer-refused .*node=n2'
    strangers old "40 strangers of unknown names" n9 'peer-refused .*node=n9'
}

# New connections find their place among them.
fault_slow() {
    local slow served=0 asked=0
    begin "1000 slow HTTP clients, ${1:-30} s" -
    on_client "$build/cluster-slow" 198.18.0.10 8080 1000 "${1:-30}" >"$tmp/slow.out" &
    slow=$!
    while kill -0 $slow 2>/dev/null; do
        asked=$((asked + 1))
        (on_client "$build/splitctl" infer --server "$url" --timeout 2 --model fashion \
            conf/demo/fashion/9-ankle-boot.png --top 1) 2>&1 | grep -q 'ankle boot' && served=$((served + 1))
    done
    wait $slow
    echo "slow clients: $(cat "$tmp/slow.out"); $served of $asked new clients were served within 2 s"
    if [ $served = $asked ]; then pass; else fail "new clients among slow ones: $served of $asked"; fi
    says 0 'http-cut-off'
    back
}

# answers_since SECONDS-OF-THE-CLOCK: answers a second since then.
answers_since() {
    awk -v from="$1" -v to="$(now)" '$2 >= from { n++ } END { printf "%.0f\n", n / (to - from) }' "$tmp/load.log"
}

# A node that has little of a processor left gets fewer rows, and more again when it has it back.
fault_throttle() {
    local from before slow after back_again changes
    begin "a node throttled to ${1:-0.1} of a core" -
    from=$(now)
    sleep 3
    before=$(answers_since "$from")
    emulate_cpu 2 "${1:-0.1}"
    from=$(now)
    sleep 2
    slow=$(answers_since "$from")
    sleep 8
    from=$(now)
    sleep 3
    after=$(answers_since "$from")
    says 0 'speed node=n3 speed=0\.'
    changes=$(tail -c "+$((run_mark[0] + 1))" "$tmp/n1.log" | grep -c 'speed node=n3')
    emulate_cpu 2 0
    sleep 12
    from=$(now)
    sleep 3
    back_again=$(answers_since "$from")
    echo "a throttled node: $before answers a second, $slow once throttled, $after after $changes changes, $back_again at the end"
    if [ "$after" -gt $((slow + slow / 4)) ]; then pass; else fail "throttled: $slow answers a second, $after later"; fi
    back
}

faults=(kill two freeze hiccup cable silence parting reboot empty loss alone coordinator disk garbage
    peers strangers slow throttle)

quick_faults() {
    fault_kill 2
    fault_freeze 1
    fault_silence 1
    fault_parting 1
    one_coordinator "coordinator killed, back in 0.5 s"
    fault_garbage 1
}
