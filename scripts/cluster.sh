#!/bin/bash
# Starts and stops a cluster of daemons on this machine: sourced by scripts/demo, scripts/accuracy
# and test/cluster/run.sh.
#
#   cluster_build=build            where splitd and splitctl are
#   cluster_write FILE TRANSPORT NODES MODEL...
#   cluster_start FILE             cluster_pid and cluster_log hold one entry per node
#   cluster_wait SECONDS
#   cluster_stop
#
# cluster_url is what clients talk to.  The caller's EXIT trap must call cluster_stop.

cluster_build=${cluster_build:-build}
cluster_names=() cluster_pid=() cluster_log=()
cluster_url=
export no_proxy=127.0.0.1,localhost

# Prints a port of loopback on which nobody listens, below those that the kernel hands out itself.
cluster_free_port() {
    local port
    while :; do
        port=$((10000 + RANDOM % 20000))
        (: </dev/tcp/127.0.0.1/$port) 2>/dev/null || break
    done
    echo $port
}

# cluster_write FILE TRANSPORT NODES MODEL...
# Writes a cluster.json for NODES nodes n1, n2... on tcp://127.0.0.1 or ipc:// (TRANSPORT: tcp or ipc);
# n1 is the coordinator.  A MODEL is NAME=FILE or NAME=FILE,SIDECAR with absolute paths.
cluster_write() {
    local file=$1 transport=$2 nodes=$3 dir i address model path comma
    shift 3
    dir=$(dirname "$file")
    {
        printf '{ "cluster": "test-%d", "coordinator": "n1",\n  "nodes": [\n' $$
        for ((i = 1; i <= nodes; i++)); do
            if [ "$transport" = ipc ]; then
                address=ipc://$dir/n$i.sock
            else
                address=tcp://127.0.0.1:$(cluster_free_port)
            fi
            comma=,
            [ "$i" = "$nodes" ] && comma=
            printf '    { "name": "n%d", "address": "%s" }%s\n' "$i" "$address" "$comma"
        done
        printf '  ],\n  "models": [\n'
        for model; do
            path=${model#*=}
            printf '    { "name": "%s", "file": "%s"' "${model%%=*}" "${path%%,*}"
            [ "$path" = "${path%,*}" ] || printf ', "sidecar": "%s"' "${path#*,}"
            shift
            printf ' }%s\n' "${1:+,}"
        done
        # Computing takes so long, plans are told, that every node takes part in the smallest model.
        printf '  ],\n  "costs": { "macs_per_us": 1 },\n'
        printf '  "http": { "listen": "127.0.0.1:%d" } }\n' "$(cluster_free_port)"
    } >"$file"
}

# cluster_start_node FILE NAME: (re)starts one node; its cache and log lie beside FILE.  It does not outlive
# the script.
cluster_start_node() {
    local file=$1 name=$2 dir i
    dir=$(dirname "$file")
    i=$((${name#n} - 1))
    cluster_log[i]=$dir/$name.log
    setpriv --pdeathsig KILL "$cluster_build/splitd" --config "$file" --node "$name" --state "$dir/$name.state" \
        >>"${cluster_log[i]}" 2>&1 </dev/null &
    cluster_pid[i]=$!
}

# cluster_start FILE: starts every node of a file that cluster_write made.
cluster_start() {
    local file=$1 name
    cluster_url=http://$(sed -n 's/.*"listen": "\([^"]*\)".*/\1/p' "$file")
    mapfile -t cluster_names < <(sed -n 's/.*"name": "\(n[0-9]*\)", "address".*/\1/p' "$file")
    cluster_pid=() cluster_log=()
    for name in "${cluster_names[@]}"; do
        cluster_start_node "$file" "$name"
    done
}

# cluster_wait SECONDS: until all nodes are up and all models ready.  Returns 1, after showing what
# the daemons said, if that does not come about.
cluster_wait() {
    local i
    if "$cluster_build/splitctl" status --server "$cluster_url" --wait "$1" >/dev/null; then
        return 0
    fi
    for i in "${!cluster_log[@]}"; do
        tail -n 3 "${cluster_log[i]}" | sed "s/^/  n$((i + 1)): /" >&2
    done
    return 1
}

# cluster_stop: asks every daemon to stop and, two seconds later, insists.
cluster_stop() {
    local pid left=20
    for pid in "${cluster_pid[@]}"; do
        kill -TERM "$pid" 2>/dev/null
    done
    for pid in "${cluster_pid[@]}"; do
        while kill -0 "$pid" 2>/dev/null && [ $left -gt 0 ]; do
            sleep 0.1
            left=$((left - 1))
        done
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    cluster_pid=()
}
