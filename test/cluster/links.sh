#!/bin/bash
# Part of run.sh: peers that are not of this cluster, and ports that are taken.
# shellcheck disable=SC2154  # variables of run.sh and scripts/cluster.sh

# u32 NUMBER: its four bytes, little-endian, as printf escapes.
u32() {
    local i
    for i in 0 8 16 24; do printf '\\x%02x' $(($1 >> i & 255)); done
}

# message VERSION TYPE BODY-BYTES LENGTH: the header of proto/header.h and a body (printf escapes).
message() {
    printf 'SPLT\\x%02x\\x%02x\\x00\\x00%s%s%s%s%s%s' "$1" "$2" \
        "$(u32 0)" "$(u32 0)" "$(u32 0)" "$(u32 0)" "$(u32 "$4")" "$3"
}

# hello VERSION CLUSTER NODE: a HELLO of proto/hello.h with zeros for boot, SHA-256, threads, clock and
# the program's version.
hello() {
    local body zeros
    zeros=$(printf '\\x00%.0s' {1..51})
    body=$(printf '\\x%02x%s\\x%02x%s%s' ${#2} "$2" ${#3} "$3" "$zeros")
    message "$1" 1 "$body" $((2 + ${#2} + ${#3} + 51))
}

# link_refuses NAME BYTES: n2 closes the connection within two seconds of getting them.
link_refuses() {
    exec 3<>"/dev/tcp/127.0.0.1/$n2_port" || {
        fail "$1: n2 takes no connection"
        return
    }
    (printf '%b' "$2" >&3) 2>/dev/null
    # An answer may come first; what matters is the end.
    if timeout 3 cat <&3 >/dev/null; then pass; else fail "$1: n2 keeps the connection"; fi
    exec 3>&-
}

# says REGEX: the log of n2 has such a line.
says() { holds "n2 says why: $1" grep -qE -- "$1" "${cluster_log[1]}"; }

links_survive_strangers() {
    local cluster
    n2_port=$(sed -n 's|.*"n2", "address": "tcp://127.0.0.1:\([0-9]*\)".*|\1|p' "$dir/cluster.json")
    cluster=$(sed -n 's/.*"cluster": "\([^"]*\)".*/\1/p' "$dir/cluster.json")

    link_refuses "text" 'GET / HTTP/1.1\r\nHost: x\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'
    link_refuses "zeros" "$(printf '\\x00%.0s' {1..64})"
    link_refuses "noise" "$(head -c 4096 /dev/urandom | od -An -v -tx1 | tr -d '\n' | sed 's/ /\\x/g')"
    link_refuses "a HELLO of 4 GB" "$(message 1 1 '' 4294967295)"
    link_refuses "a message before HELLO" "$(message 1 10 '' 0)"
    link_refuses "a HELLO that is too short" "$(message 1 1 '\x01a' 2)"
    link_refuses "an unknown message" "$(message 1 99 '' 0)"
    link_refuses "another cluster" "$(hello 1 somebody-else n1)"
    says 'cluster'
    link_refuses "an unknown node" "$(hello 1 "$cluster" n77)"
    link_refuses "another version" "$(hello 9 "$cluster" n1)"
    says 'version'
    # n1 is connected and alive: whoever claims to be n1 must not take its place.
    link_refuses "a second n1" "$(hello 1 "$cluster" n1)"

    # One that connects and is silent, while the cluster works.
    exec 4<>"/dev/tcp/127.0.0.1/$n2_port"
    still_serves "strangers on the links"
    exec 4>&-
}

# ends_with_sentence NAME REGEX COMMAND...: another code than 0 and one sentence on stderr.
ends_with_sentence() {
    local name=$1 regex=$2 code
    shift 2
    timeout 10 "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    code=$?
    if [ $code != 0 ] && [ $code -lt 124 ] && grep -qE -- "$regex" "$tmp/err" &&
        [ "$(grep -ciE 'splitd: |^(<.>)?error ' "$tmp/err")" = 1 ]; then
        pass
    else
        fail "$name: code $code" "$(cat "$tmp/err")"
    fi
}

ports_in_use() {
    local other=$dir/other.json
    ends_with_sentence "a second n2" 'cannot listen at tcp://' \
        "$splitd" --config "$dir/cluster.json" --node n2 --state "$dir/second.state"
    # The same HTTP port, other link ports.
    cluster_write "$other" tcp 1 "fashion=$PWD/conf/demo/fashion.onnx"
    sed -i "s|\"listen\": \"[^\"]*\"|\"listen\": \"${cluster_url#http://}\"|" "$other"
    ends_with_sentence "the HTTP port in use" 'in use' \
        "$splitd" --config "$other" --node n1 --state "$dir/second.state"
    still_serves "ports in use"
}
