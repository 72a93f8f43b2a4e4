#!/bin/bash
# Part of run.sh: what happens when there is too much of something.
# shellcheck disable=SC2154  # variables of run.sh and scripts/cluster.sh

# limited LABEL NODES SETTINGS SED-SCRIPT -- FUNCTION...: a cluster with settings of its own, and a spoilt file.
limited() {
    local label=$1 nodes=$2 settings=$3 script=$4
    shift 5
    dir=$tmp/$label
    mkdir "$dir"
    cluster_write "$dir/cluster.json" tcp "$nodes" "fashion=$PWD/conf/demo/fashion.onnx" "superres=$PWD/conf/demo/superres.onnx"
    sed -i "1s|^{|{ $settings|; $script" "$dir/cluster.json"
    cluster_start "$dir/cluster.json"
    timeout 30 bash -c "until curl -s -o /dev/null '$cluster_url/v2/models/fashion/ready' &&
        [ \$(curl -s -o /dev/null -w '%{http_code}' '$cluster_url/v2/models/fashion/ready') = 200 ]; do sleep 0.1; done"
    for step; do "$step"; done
    stops_in_time "$label"
}

limits() {
    limited busy 2 '"queue": 2,' '' -- full_queue_says_when_to_come_back
    limited late 2 '"request_timeout_ms": 700, "lost_ms": 10000,' '' -- late_answers_are_called_off
    limited memory 2 '' '/"n2"/s|"name": "n2"|"max_memory": "1MB", &|' -- one_node_has_no_memory
    limited no-memory 2 '' 's|"name": "n\([12]\)"|"max_memory": "1MB", &|' -- no_node_has_memory
    few_files
}

full_queue_says_when_to_come_back() {
    local i pids=() served=0 busy=0
    # Held up, so that requests have to wait.
    kill -STOP "${cluster_pid[1]}"
    for i in {1..12}; do
        curl -s -m 20 -o "$dir/body.$i" -D "$dir/headers.$i" -H 'Content-Type: image/png' \
            --data-binary @conf/demo/fashion/8-bag.png "$cluster_url/v2/models/fashion/infer" &
        pids+=($!)
    done
    sleep 0.15
    kill -CONT "${cluster_pid[1]}"
    wait "${pids[@]}"
    for i in {1..12}; do
        case $(head -1 "$dir/headers.$i") in
        *200*) served=$((served + 1)) ;;
        *503*)
            if grep -qi '^retry-after: [1-9]' "$dir/headers.$i" && grep -q '2 requests wait already' "$dir/body.$i"; then
                busy=$((busy + 1))
            fi
            ;;
        esac
    done
    holds "a full queue: some are served, the others told when to come back ($served, $busy)" \
        [ $((served + busy == 12 && busy > 0 && served > 0)) = 1 ]
    holds "a full queue is a line in the log" grep -q '^warn request-refused .* status=503' "${cluster_log[0]}"
    still_serves "a full queue"
}

# A node hangs for longer than a request may take.  Its part and everybody else's are given up.
late_answers_are_called_off() {
    local start ms
    kill -STOP "${cluster_pid[1]}"
    start=$(date +%s%N)
    answers "an answer that comes too late" 504 'no answer within 700 ms' /v2/models/fashion/infer \
        -H 'Content-Type: image/png' --data-binary @conf/demo/fashion/8-bag.png
    ms=$((($(date +%s%N) - start) / 1000000))
    holds "504 comes in time ($ms ms)" [ $ms -lt 1500 ]
    holds "504 is a line in the log" grep -q '^warn request-refused .* status=504' "${cluster_log[0]}"
    kill -CONT "${cluster_pid[1]}"
    start=$(date +%s%N)
    still_serves "a frame that was called off"
    ms=$((($(date +%s%N) - start) / 1000000))
    holds "the next request does not wait for it ($ms ms)" [ $ms -lt 1500 ]
}

memory_sentence='n2: needs [0-9]+ MB, 1 MB allowed: [0-9]+ MB weights \+ [0-9]+ MB activations'

one_node_has_no_memory() {
    holds "a picture too large for one node" infer superres conf/demo/dogs.png -o "$dir/dogs.png"
    holds "the other node computes it" cmp "$dir/dogs.png" "$one/dogs.png"
    holds "n2 says what it lacks" grep -qE "plan-refused .*$memory_sentence" "${cluster_log[1]}"
    holds "the coordinator hears why" grep -qE "plan-refused .*node=n2 .*$memory_sentence" "${cluster_log[0]}"
}

no_node_has_memory() {
    answers "a picture too large for all" 503 'needs [0-9]+ MB, 1 MB allowed: [0-9]+ MB weights \+ [0-9]+ MB activations' \
        /v2/models/superres/infer -H 'Content-Type: image/png' --data-binary @conf/demo/dogs.png
    still_serves "memory that is short"
}

# A daemon that may open few files refuses connections and goes on.
few_files() {
    local i fd fds=()
    dir=$tmp/files
    mkdir "$dir"
    cluster_write "$dir/cluster.json" tcp 2 "fashion=$PWD/conf/demo/fashion.onnx"
    (ulimit -n 80 && exec "$splitd" --config "$dir/cluster.json" --node n1 --state "$dir/n1.state") \
        >"$dir/n1.log" 2>&1 </dev/null &
    cluster_pid=($!)
    cluster_log=("$dir/n1.log" "$dir/n2.log")
    cluster_url=http://$(sed -n 's/.*"listen": "\([^"]*\)".*/\1/p' "$dir/cluster.json")
    cluster_start_node "$dir/cluster.json" n2
    holds "with few files: both nodes come up" cluster_wait 30
    for i in {1..120}; do
        exec {fd}<>"/dev/tcp/127.0.0.1/${cluster_url##*:}" && fds+=("$fd")
    done 2>/dev/null
    sleep 0.5
    for fd in "${fds[@]}"; do exec {fd}>&-; done
    holds "with few files: still two nodes" cluster_wait 10
    still_serves "few files"
    stops_in_time "few files"
}
