#!/bin/bash
# Part of run.sh: every mistake in cluster.json, and on splitd's command line, is one sentence.
# shellcheck disable=SC2154  # variables of run.sh and scripts/cluster.sh

# config_fails NAME REGEX SED-SCRIPT: a good file, spoilt.
config_fails() {
    sed "$3" "$tmp/config/good.json" >"$tmp/config/bad.json"
    ends_with_sentence "cluster.json: $1" "bad\\.json.*$2" \
        "$splitd" --config "$tmp/config/bad.json" --node n1 --state "$tmp/config/state"
}

config_errors() {
    local good=$tmp/config/good.json
    mkdir "$tmp/config"
    cluster_write "$good" tcp 2 "fashion=$PWD/conf/demo/fashion.onnx"

    config_fails "unknown key" "colour" 's/"cluster":/"colour": "red", &/'
    config_fails "unknown key of a node" "colour" 's/"name": "n2"/"colour": "red", &/'
    config_fails "missing key" "coordinator" 's/"coordinator": "n1",//'
    config_fails "missing address" "address" '/"n2"/s/, "address": "[^"]*"//'
    config_fails "wrong type" "cluster" 's/"cluster": "[^"]*"/"cluster": 7/'
    config_fails "number that is text" "weight" 's/"name": "n2"/"weight": "2", &/'
    config_fails "weight out of range" "weight" 's/"name": "n2"/"weight": 0, &/'
    config_fails "duplicate node" "n1" 's/"name": "n2"/"name": "n1"/'
    config_fails "unknown coordinator" "n9" 's/"coordinator": "n1"/"coordinator": "n9"/'
    config_fails "key set twice" "cluster" 's/"cluster":/"cluster": "a", &/'
    config_fails "no JSON" "JSON" '1s/{/(/'
    # shellcheck disable=SC2016  # sed's address of the last line
    config_fails "text after the end" "JSON" '$s/$/ more/'
    config_fails "address without a port" "address" 's|tcp://127.0.0.1:[0-9]*|tcp://127.0.0.1|'
    config_fails "address of an unknown kind" "address" 's|tcp://127|udp://127|'
    config_fails "address beyond loopback" "insecure" 's|tcp://127.0.0.1|tcp://10.0.0.1|'
    config_fails "lost sooner than two beats" "lost_ms" 's/"cluster":/"heartbeat_ms": 100, "lost_ms": 150, &/'
    : >"$tmp/config/bad.json"
    ends_with_sentence "cluster.json: empty" "bad.json" "$splitd" --config "$tmp/config/bad.json" --node n1
    ends_with_sentence "cluster.json: missing" "none.json" "$splitd" --config "$tmp/config/none.json" --node n1
    ends_with_sentence "unknown node" "n7.*n1, n2" \
        "$splitd" --config "$good" --node n7 --state "$tmp/config/state"
    ends_with_sentence "a state folder that is a file" "good.json" \
        "$splitd" --config "$good" --node n1 --state "$good"

    model_fails "missing model" "none.onnx" "$tmp/config/none.onnx"
    : >"$tmp/config/empty.onnx"
    model_fails "empty model" "empty.onnx" "$tmp/config/empty.onnx"
    head -c 50000 conf/demo/fashion.onnx >"$tmp/config/cut.onnx"
    model_fails "cut-off model" "cut.onnx" "$tmp/config/cut.onnx"
    cp conf/demo/dogs.png "$tmp/config/picture.onnx"
    model_fails "model that is a picture" "picture.onnx" "$tmp/config/picture.onnx"
}

# model_fails NAME REGEX FILE: a daemon with a bad model says so, and serves the good one beside it.
model_fails() {
    dir=$tmp/model-${1// /-}
    mkdir "$dir"
    cluster_write "$dir/cluster.json" ipc 2 "fashion=$PWD/conf/demo/fashion.onnx" "bad=$3"
    cluster_start "$dir/cluster.json"
    if timeout 20 bash -c "until '$splitctl' status --server $cluster_url | grep -qE 'model bad .*$2'; do sleep 0.1; done"; then
        pass
    else
        fail "$1: status does not say what is wrong" "$("$splitctl" status --server "$cluster_url" 2>&1)"
    fi
    refuses "inference with a $1" 503 /v2/models/bad/infer -H 'Content-Type: image/png' \
        --data-binary @conf/demo/dogs.png
    still_serves "$1"
    stops_in_time "$1"
}
