#!/bin/bash
# Part of run.sh: nodes that die while pictures are under way.
# shellcheck disable=SC2154  # variables of run.sh and scripts/cluster.sh

# nodes_up N: waits until the coordinator counts N nodes.
nodes_up() {
    local left=100
    until [ "$("$splitctl" status --server "$cluster_url" | grep -cE '^n[0-9]+ .* up$')" = "$1" ]; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.1
    done
}

answers_survive_losses() {
    local client pictures=()
    for _ in {1..30}; do
        pictures+=(conf/demo/fashion/*.png)
        cat "$one/classes"
    done >"$dir/expected"

    infer fashion "${pictures[@]}" --top 3 >"$dir/classes" 2>"$dir/err" &
    client=$!
    sleep 0.2
    kill -KILL "${cluster_pid[2]}"
    wait "${cluster_pid[2]}" 2>/dev/null
    if wait $client; then pass; else fail "a client notices a dead node" "$(cat "$dir/err")"; fi
    holds "answers are right while a node dies" cmp "$dir/classes" "$dir/expected"
    holds "three nodes are up" nodes_up 3
    still_serves "a dead node"

    cluster_start_node "$dir/cluster.json" n3
    holds "the node comes back by itself" nodes_up 4
    holds "four nodes are ready again" cluster_wait 20
    still_serves "a node that came back"

    # Frozen, not dead: only its silence tells.
    kill -STOP "${cluster_pid[3]}"
    holds "a frozen node is noticed" nodes_up 3
    still_serves "a frozen node"
    kill -CONT "${cluster_pid[3]}"
    holds "a node that thaws comes back" nodes_up 4
    still_serves "a thawed node"
}
