#!/bin/bash
# Part of run.sh: TLS, the token, and who is kept out.
# shellcheck disable=SC2154  # variables of run.sh and scripts/cluster.sh

# secure_config FILE PKI: the same with TLS, on standard output.
secure_config() {
    sed "1s|^{|{ \"tls\": { \"ca\": \"$2/{node}/ca.pem\", \"certificate\": \"$2/{node}/node.pem\", \"key\": \"$2/{node}/node.key\" },|" "$1"
}

# splitctl_says NAME REGEX ARGUMENT...: exit code 1 and one sentence.
splitctl_says() {
    local name=$1 regex=$2 code
    shift 2
    timeout 20 "$splitctl" "$@" >/dev/null 2>"$tmp/err"
    code=$?
    if [ $code = 1 ] && [ "$(wc -l <"$tmp/err")" = 1 ] && grep -qE "^splitctl: .*$regex" "$tmp/err"; then
        pass
    else
        fail "$name: splitctl ends with $code" "$(cat "$tmp/err")"
    fi
}

# make_pki FOLDER NODE...
make_pki() {
    local folder=$1 node
    shift
    "$splitctl" pki init --dir "$folder" --cluster test >/dev/null || return
    for node; do
        "$splitctl" pki add "$node" --dir "$folder" >/dev/null || return
    done
}

# The port of node $1.
port_of() { sed -n "s|.*\"$1\", \"address\": \"tcp://127.0.0.1:\([0-9]*\)\".*|\1|p" "$dir/cluster.json"; }

secure_cluster() {
    dir=$tmp/secure
    mkdir "$dir"
    holds "pki: an authority and two nodes" make_pki "$dir/pki" n1 n2
    pki_files
    printf 'correct-horse-battery-staple\n' >"$dir/token"
    chmod 600 "$dir/token"
    cluster_write "$dir/plain.json" tcp 2 "fashion=$PWD/conf/demo/fashion.onnx"
    sed -i "s|\"http\": {|\"http\": { \"token\": \"$dir/token\",|" "$dir/plain.json"
    secure_config "$dir/plain.json" "$dir/pki" >"$dir/cluster.json"
    cluster_start "$dir/cluster.json"
    cluster_url=https://${cluster_url#http://}
    export SPLITD_CA=$dir/pki/ca.pem SPLITD_TOKEN=$dir/token
    if cluster_wait 60; then
        still_serves "TLS and a token"
        token_is_needed
        clients_check_certificates
        strangers_get_nothing
        still_serves "strangers at a cluster with TLS"
    else
        fail "a cluster with TLS does not come up"
    fi
    unset SPLITD_CA SPLITD_TOKEN
    stops_in_time secure
    secure_config_errors
    models_from_their_folder
}

# Folders 0700, files 0600, nothing overwritten.
pki_files() {
    holds "pki: nobody else may read them" [ -z "$(find "$dir/pki" -perm /077)" ]
    splitctl_says "pki: a second authority" 'is there already' pki init --dir "$dir/pki"
    splitctl_says "pki: the same node again" 'is there already' pki add n1 --dir "$dir/pki"
    splitctl_says "pki: a node that leads elsewhere" 'expected letters' pki add ../n1 --dir "$dir/pki"
    splitctl_says "pki: a node without an authority" 'ca.pem' pki add n1 --dir "$dir/none"
}

# secure_curl CURL-ARGUMENT...: prints the status.
secure_curl() { curl -s -m 10 -o "$tmp/body" -w '%{http_code}' --cacert "$SPLITD_CA" "$@"; }

token_is_needed() {
    local path status
    for path in /v2 /splitd/status /metrics /v2/models/fashion /v2/models/fashion/infer /v3; do
        status=$(secure_curl "$cluster_url$path")
        holds "no token: $path is refused" [ "$status" = 401 ]
        status=$(secure_curl -H 'Authorization: Bearer correct-horse-battery-stapl' "$cluster_url$path")
        holds "half a token: $path is refused" [ "$status" = 401 ]
    done
    status=$(secure_curl -H 'Authorization: Basic correct-horse-battery-staple' "$cluster_url/v2")
    holds "the token in another scheme is refused" [ "$status" = 401 ]
    status=$(secure_curl -H 'Authorization: Bearer correct-horse-battery-staple' "$cluster_url/v2")
    holds "the token opens" [ "$status" = 200 ]
    status=$(secure_curl "$cluster_url/v2/health/live")
    holds "health needs no token" [ "$status" = 200 ]
    holds "who has no token is a line in the log" grep -q '^warn request-refused remote=.* status=401' "${cluster_log[0]}"
    printf 'wrong-horse-battery-staple\n' >"$dir/wrong"
    printf '\n' >"$dir/blank"
    splitctl_says "splitctl with a file without a token" 'holds no token' status --server "$cluster_url" --token "$dir/blank"
    splitctl_says "splitctl with a wrong token" 'token' status --server "$cluster_url" --token "$dir/wrong"
}

clients_check_certificates() {
    holds "another authority" make_pki "$dir/foreign" n1 n2 n3
    splitctl_says "splitctl that trusts another authority" 'not to be trusted' status --server "$cluster_url" --ca "$dir/foreign/ca.pem" --timeout 5
    SPLITD_CA='' splitctl_says "splitctl that trusts the system's authorities" 'not to be trusted' \
        status --server "$cluster_url" --timeout 5
    holds "HTTP on the port of HTTPS gets nothing" \
        [ "$(curl -s -m 5 -o "$tmp/body" -w '%{http_code}' "http://${cluster_url#https://}/v2/health/live")" = 000 ]
}

# stranger LABEL CONFIG NODE: a daemon that does all that a node does, at the address of n2, which is
# stopped.  Nothing may reach it: no model in its cache, no plan.
stranger() {
    local state=$dir/$1.state log=$dir/$1.log pid
    "$splitd" --config "$2" --node "$3" --state "$state" >"$log" 2>&1 </dev/null &
    pid=$!
    sleep 1.5
    kill -KILL $pid
    wait $pid 2>/dev/null
    holds "$1: it did run" grep -q 'ready' "$log"
    holds "$1: no link" [ "$(grep -c 'link-up' "$log")" = 0 ]
    holds "$1: no model" [ -z "$(find "$state" -type f)" ]
    holds "$1: no plan" [ "$(grep -c 'plan-ready' "$log")" = 0 ]
}

strangers_get_nothing() {
    local port
    port=$(port_of n2)

    # Those who dial a node: plain bytes, a greeting without TLS, TLS without a certificate.
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    (printf '%b' "$(hello 1 "$(sed -n 's/.*"cluster": "\([^"]*\)".*/\1/p' "$dir/cluster.json")" n1)" >&3) 2>/dev/null
    timeout 3 cat <&3 >"$dir/plain.bytes"
    exec 3>&-
    holds "plain TCP: the connection ends with no HELLO" bash -c "! grep -aq SPLT '$dir/plain.bytes'"
    if command -v openssl >/dev/null; then
        (sleep 1; printf 'x') | timeout 5 openssl s_client -connect "127.0.0.1:$port" -CAfile "$SPLITD_CA" \
            -quiet >"$dir/tls.bytes" 2>"$dir/tls.err"
        holds "TLS without a certificate: no byte" [ ! -s "$dir/tls.bytes" ]
        (sleep 1; printf 'x') | timeout 5 openssl s_client -connect "127.0.0.1:$port" -quiet \
            -cert "$dir/foreign/n1/node.pem" -key "$dir/foreign/n1/node.key" >"$dir/tls.bytes" 2>"$dir/tls.err"
        holds "TLS with a foreign certificate: no byte" [ ! -s "$dir/tls.bytes" ]
    else
        skip "TLS without a certificate (no openssl)"
    fi
    holds "each stranger is a line in the log" [ "$(grep -cE '^warn (link-failed|peer-refused|garbage-on-link) remote=' \
        "${cluster_log[1]}")" -ge 3 ]

    # Those whom the coordinator dials at the place of n2.
    kill -TERM "${cluster_pid[1]}"
    wait "${cluster_pid[1]}" 2>/dev/null
    "$splitctl" pki add n3 --dir "$dir/pki" >/dev/null
    secure_config "$dir/plain.json" "$dir/foreign" >"$dir/foreign.json"
    sed 's|"name": "n2"|"name": "n3"|' "$dir/cluster.json" >"$dir/renamed.json"
    stranger "another authority's certificate" "$dir/foreign.json" n2
    stranger "a name that is not in cluster.json" "$dir/renamed.json" n3
    stranger "no TLS at all" "$dir/plain.json" n2
    # Right certificates of another node: n3's under the name of n2.
    mkdir "$dir/borrowed" && cp -r "$dir/pki/n3" "$dir/borrowed/n2"
    secure_config "$dir/plain.json" "$dir/borrowed" >"$dir/borrowed.json"
    ends_with_sentence "a node with another one's certificate" 'is that of "n3", not of node "n2"' \
        "$splitd" --config "$dir/borrowed.json" --node n2 --state "$dir/borrowed.state"
    cluster_start_node "$dir/cluster.json" n2
    holds "n2 comes back" cluster_wait 20
}

# secure_fails NAME REGEX COMMAND...: spoils the files of n1, sees that it is said, and mends them.
secure_fails() {
    local name=$1 regex=$2
    shift 2
    cp -rp "$dir/pki/n1" "$dir/n1.good"
    "$@"
    ends_with_sentence "$name" "$regex" "$splitd" --config "$dir/cluster.json" --node n1 --state "$dir/n1.state"
    rm -rf "$dir/pki/n1"
    mv "$dir/n1.good" "$dir/pki/n1"
}

secure_config_errors() {
    local n1=$dir/pki/n1
    secure_fails "a key that everybody may read" 'tls.key: .*chmod 600' chmod 644 "$n1/node.key"
    secure_fails "a key of another node" 'is not the key of tls.certificate' cp "$dir/pki/n2/node.key" "$n1/node.key"
    secure_fails "a certificate of another node" 'tls.key: is not the key|is that of "n2"' cp "$dir/pki/n2/node.pem" "$n1/node.pem"
    secure_fails "another authority" 'is not signed by the authority' cp "$dir/foreign/ca.pem" "$n1/ca.pem"
    secure_fails "a missing key" 'tls.key: .*No such file' rm "$n1/node.key"
    secure_fails "a key that is none" 'tls.key: no key' cp conf/demo/fashion.json "$n1/node.key"
    secure_fails "an empty authority" 'tls.ca: .*is empty' cp /dev/null "$n1/ca.pem"
    chmod 644 "$dir/token"
    ends_with_sentence "a token that everybody may read" 'http.token: .*chmod 600' \
        "$splitd" --config "$dir/cluster.json" --node n1 --state "$dir/n1.state"
    chmod 600 "$dir/token"
    printf 'short\n' >"$dir/token"
    ends_with_sentence "a short token" 'http.token: .*16 to 512' \
        "$splitd" --config "$dir/cluster.json" --node n1 --state "$dir/n1.state"
}

# Models come from inside the folder, by whatever path; a link that leads out of it does not help.
models_from_their_folder() {
    dir=$tmp/folder
    mkdir -p "$dir/models"
    cp conf/demo/fashion.onnx conf/demo/fashion.json "$dir/models"
    ln -s "$PWD/conf/demo/superres.onnx" "$dir/models/link.onnx"
    cluster_write "$dir/cluster.json" ipc 1 "fashion=$dir/models/../models/fashion.onnx" \
        "outside=$PWD/conf/demo/superres.onnx" "link=$dir/models/link.onnx"
    sed -i "1s|^{|{ \"model_folder\": \"$dir/models\",|" "$dir/cluster.json"
    cluster_start "$dir/cluster.json"
    timeout 20 bash -c "until '$splitctl' status --server $cluster_url | grep -q 'model link .*model_folder'; do sleep 0.1; done"
    "$splitctl" status --server "$cluster_url" >"$tmp/status"
    holds "a model outside model_folder" grep -q 'model outside .*is not inside model_folder' "$tmp/status"
    holds "a model behind a link out of model_folder" grep -q 'model link .*is not inside model_folder' "$tmp/status"
    still_serves "model_folder"
    stops_in_time "model_folder"
}
