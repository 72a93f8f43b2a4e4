#!/bin/bash
# Part of run.sh: cluster.json is read again on SIGHUP.
# shellcheck disable=SC2154  # variables of run.sh and scripts/cluster.sh

# hangup NODE REGEX: SIGHUP, after which the log gets such a line.
hangup() {
    local log=${cluster_log[$1 - 1]} left=100 before
    before=$(grep -cE "$2" "$log")
    kill -HUP "${cluster_pid[$1 - 1]}"
    until [ "$(grep -cE "$2" "$log")" -gt "$before" ]; do
        left=$((left - 1))
        [ $left -gt 0 ] || { tail -3 "$log"; return 1; }
        sleep 0.1
    done
}

# rewrite SED-SCRIPT: in cluster.json, from the one that was written first.
rewrite() { sed "$1" "$dir/first.json" >"$dir/cluster.json"; }

serves_model() { "$splitctl" status --server "$cluster_url" | grep -q "model $1 .*ready"; }

reloads() {
    local client pictures=() port
    cp "$dir/cluster.json" "$dir/first.json"

    holds "a file that has not changed" hangup 1 'reload-unneeded'
    rewrite '1s/{/(/'
    holds "a file that is not JSON is refused" hangup 1 '^error reload-refused .*not JSON'
    rewrite 's/"cluster":/"colour": "red", &/'
    holds "a file with an unknown key is refused" hangup 1 '^error reload-refused .*colour'
    rewrite 's/"name": "n1"/"name": "n9"/; s/"coordinator": "n1"/"coordinator": "n9"/'
    holds "a file without this node is refused" hangup 1 '^error reload-refused .*n1'
    rm "$dir/cluster.json"
    holds "a file that is missing is refused" hangup 1 '^error reload-refused .*No such file'
    still_serves "files that were refused"

    # A port that somebody has: found out only when the old one is closed.
    port=$(sed -n 's|.*"n2", "address": "tcp://127.0.0.1:\([0-9]*\)".*|\1|p' "$dir/first.json")
    rewrite "s|\"listen\": \"[^\"]*\"|\"listen\": \"127.0.0.1:$port\"|"
    holds "a configuration that does not work" hangup 1 '^error reload-failed .*in use'
    holds "the one before works again" cluster_wait 20
    still_serves "a configuration that did not work"

    # Requests that are under way are answered; later ones are asked again by splitctl.
    for _ in {1..30}; do
        pictures+=(conf/demo/fashion/*.png)
        cat "$one/classes"
    done >"$dir/expected"
    rewrite 's/"name": "superres"/"name": "renamed"/'
    infer fashion "${pictures[@]}" --top 3 >"$dir/classes" 2>"$dir/err" &
    client=$!
    sleep 0.2
    holds "another list of models is taken" hangup 1 '^info reloaded .*models=2'
    if wait $client; then pass; else fail "a client notices a reload" "$(cat "$dir/err")"; fi
    holds "answers are right across a reload" cmp "$dir/classes" "$dir/expected"
    holds "after the reload" cluster_wait 20
    holds "the model has its new name" serves_model renamed
    still_serves "a reload"

    # A node less, on every node.
    rewrite '/"n3"/d; /"n2"/s/,$//'
    kill -TERM "${cluster_pid[2]}"
    wait "${cluster_pid[2]}"
    unset 'cluster_pid[2]'
    holds "n2 takes the new list of nodes" hangup 2 '^info reloaded .*nodes=2'
    holds "n1 takes the new list of nodes" hangup 1 '^info reloaded .*nodes=2'
    holds "two nodes are ready" cluster_wait 20
    still_serves "a node less"

    # Many in a row, some while the one before is under way.
    for port in {1..10}; do
        rewrite "/\"n3\"/d; /\"n2\"/s/,\$//; s/\"cluster\":/\"queue\": $((50 + port)), &/"
        kill -HUP "${cluster_pid[0]}"
        sleep "0.0$port"
    done
    holds "ready after many reloads" cluster_wait 20
    still_serves "many reloads"
}
