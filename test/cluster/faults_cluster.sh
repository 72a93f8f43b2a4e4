#!/bin/bash
# Part of faults.sh: the daemons, the load, and what came of a fault.
# shellcheck disable=SC2154,SC2034  # variables of faults.sh

now() { echo "${EPOCHREALTIME/,/.}"; }

# ---- daemons.  Node i of the emulation, counted from 0, is n(i + 1) of the cluster.

# Every node's key, and what clients trust.
write_pki() {
    local i
    "$build/splitctl" pki init --dir "$tmp/pki" >/dev/null &&
        for ((i = 0; i < nodes; i++)); do
            "$build/splitctl" pki add n$((i + 1)) --dir "$tmp/pki" --host "$(emulate_address $i)" >/dev/null || return
        done
    export SPLITD_CA=$tmp/pki/ca.pem
}

write_config() {
    local i comma model list=''
    for model in "${models[@]}"; do
        list+="${list:+,$'\n'}    { \"name\": \"${model%%=*}\", \"file\": \"${model#*=}\" }"
    done
    {
        printf '{ "cluster": "faults", "coordinator": "n1",\n'
        if [ "$tls" ]; then
            printf '  "tls": { "ca": "%s/{node}/ca.pem", "certificate": "%s/{node}/node.pem", "key": "%s/{node}/node.key" },\n' \
                "$tmp/pki" "$tmp/pki" "$tmp/pki"
        else
            printf '  "insecure": true,\n'
        fi
        printf '  "nodes": [\n'
        for ((i = 0; i < nodes; i++)); do
            comma=,
            [ $i = $((nodes - 1)) ] && comma=
            printf '    { "name": "n%d", "address": "tcp://%s:7070", "threads": 1 }%s\n' $((i + 1)) \
                "$(emulate_address $i)" "$comma"
        done
        printf '  ],\n  "models": [\n%s ],\n' "$list"
        printf '  "costs": { "macs_per_us": 1 },\n' # so that every node takes part
        printf '  "http": { "listen": "%s" } }\n' "${url#*://}"
    } >"$tmp/cluster.json"
}

# start_node I: its cache and log stay from one start to the next.  It does not outlive this script, however
# that ends, nor do the descriptors that it inherits.
start_node() {
    local name=n$(($1 + 1))
    (
        trap - EXIT
        emulate_exec "$1" setpriv --pdeathsig KILL \
            "$build/splitd" --config "$tmp/cluster.json" --node $name --state "$tmp/$name.state"
    ) >>"$tmp/$name.log" 2>&1 </dev/null &
    pids[$1]=$!
}

kill_node() {
    kill -KILL "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null
    pids[$1]=
}

# on_client COMMAND...: becomes a command on the operator's machine; for subshells.
on_client() {
    trap - EXIT
    emulate_client "$@"
}

# whole: waits until every node is up and every model ready.
whole() { (on_client "$build/splitctl" status --server "$url" --wait 30 --timeout 30) >/dev/null 2>"$tmp/whole"; }

# A daemon that ended by itself, after whatever it was.
alive() {
    local i
    for ((i = 0; i < nodes; i++)); do
        [ -z "${pids[i]}" ] && continue
        kill -0 "${pids[i]}" 2>/dev/null && continue
        wait "${pids[i]}"
        fail "$1: n$((i + 1)) ended by itself with code $?" "$(tail -5 "$tmp/n$((i + 1)).log")"
        start_node $i
    done
}

# ---- the load

start_load() {
    on_client "$build/cluster-load" --server "$url" --timeout 60 --clients 4 --size 128 --pause 5 --log "$tmp/load.log" \
        "${models[@]}" >"$tmp/load.out" 2>&1 &
    load_pid=$!
}

cluster_up() {
    local i
    [ -z "$tls" ] || write_pki
    write_config
    for ((i = 0; i < nodes; i++)); do start_node $i; done
    if ! whole; then
        fail "the cluster does not come up" "$(cat "$tmp/whole" "$tmp"/n?.log)"
        result
    fi
    start_load
    until [ -s "$tmp/load.log" ]; do
        kill -0 $load_pid 2>/dev/null || {
            fail "the load does not start" "$(cat "$tmp/load.out")"
            result
        }
        sleep 0.1
    done
    begin "(none)" 2
    sleep "${quick:+1}${quick:-3}"
    finish_run
}

# ---- one fault

# begin FAULT BOUND: what happens from here on is due to FAULT; BOUND: the seconds by which an answer may be
# late, - for none.
begin() {
    local i
    run_fault=$1 run_bound=$2
    run_start=$(now)
    for ((i = 0; i < nodes; i++)); do run_mark[i]=$(wc -c <"$tmp/n$((i + 1)).log"); done
}

finish_run() { echo "$run_start $(now) $run_bound $run_fault" >>"$tmp/runs"; }

# says I REGEX: node I has logged this since begin.
says() {
    local log=$tmp/n$(($1 + 1)).log
    if tail -c "+$((run_mark[$1] + 1))" "$log" | grep -qE -- "$2"; then
        pass
    else
        fail "$run_fault: n$(($1 + 1)) does not log '$2'" "$(tail -c "+$((run_mark[$1] + 1))" "$log")"
    fi
}

# back: four nodes again, and the end of the run.
back() {
    if ! whole; then
        fail "$run_fault: the cluster does not come back" "$(cat "$tmp/whole"; tail -n 5 "$tmp"/n?.log)"
    fi
    sleep 0.2
    finish_run
    alive "$run_fault"
}

# A moment of up to half a second.
random_pause() { sleep "0.$(printf '%03d' $((RANDOM % 500)))"; }
random_worker() { echo $((1 + RANDOM % (nodes - 1))); }

# ---- the verdict

# judged VERDICT BEGIN END WHAT: the verdict on a fault from 100 to 110 s that may delay answers by 1 s, after a
# calm second, when beside it a request took from BEGIN to END and was right, lost or wrong.
judged() {
    printf '%s\n' "10 11 2 (none)" "100 110 1.0 a fault" >"$tmp/judged.runs"
    printf '%s\n' "10.10 10.20 right m" "10.30 10.40 right m" "$2 $3 $4 m" >"$tmp/judged.log"
    "$here/faults_table.awk" "$tmp/judged.runs" "$tmp/judged.log" | grep -q "^= $1 a fault: "
}

# Who judges is judged first.
table_is_strict() {
    if judged pass 101 102 right && judged fail 101 102.2 right && judged fail 101 101.5 lost &&
        judged fail 101 101.5 wrong && judged fail 20 21 right; then
        pass
    else
        fail "faults_table.awk takes what it must not, or does not take what it must"
    fi
}

cluster_verdict() {
    local line
    kill -TERM "$load_pid"
    wait "$load_pid"
    load_pid=
    line=$(tail -1 "$tmp/load.out")
    "$here/faults_table.awk" "$tmp/runs" "$tmp/load.log" >"$tmp/table"
    sed '/^=/d' "$tmp/table"
    echo "load: $line"
    # Between two faults, too.
    if [[ $line == *" 0 lost, 0 wrong" ]]; then pass; else fail "load: $line"; fi
    while read -r _ verdict text; do
        if [ "$verdict" = pass ]; then pass; else fail "$text"; fi
    done < <(grep '^=' "$tmp/table")
    grep -E ' (lost|wrong) ' "$tmp/load.log" | head -5
    [ -z "${FAULTS_KEEP:-}" ] || cp "$tmp"/*.log "$tmp/runs" "$FAULTS_KEEP"
}
