#!/bin/bash
# Part of run.sh: the Open Inference Protocol as other clients speak it, and what is no request.
# shellcheck disable=SC2154  # variables of run.sh and scripts/cluster.sh

# ask PATH CURL-ARGUMENT...: prints the status; the body is in $tmp/body, the headers in $tmp/headers.
ask() {
    local path=$1
    shift
    curl -s -m 30 -o "$tmp/body" -D "$tmp/headers" -w '%{http_code}' "$@" "$cluster_url$path"
}

# answers NAME STATUS REGEX-ON-BODY PATH CURL-ARGUMENT...
answers() {
    local name=$1 status=$2 regex=$3 got
    shift 3
    : >"$tmp/body"
    got=$(ask "$@")
    if [ "$got" = "$status" ] && grep -qE -- "$regex" "$tmp/body"; then
        pass
    else
        fail "$name: status $got, expected $status" "$(head -c 500 "$tmp/body")"
    fi
}

# refuses NAME STATUS PATH CURL-ARGUMENT...: with a sentence as {"error": "..."}.  $refused counts them.
refused=0
refuses() {
    local name=$1 status=$2
    shift 2
    refused=$((refused + 1))
    answers "$name" "$status" '^\{ *"error" *: *"[^"].*"[[:space:]]*\}' "$@"
}

# still_serves NAME: a right answer right now.
still_serves() {
    rm -f "$tmp/now/fashion_in.prob.npy"
    infer fashion test/fixtures/fashion_in.npy --raw -o "$tmp/now" >/dev/null 2>"$tmp/now.err"
    local f
    for f in "$one"/fashion_in.*.npy; do
        holds "$1: goes on serving" cmp "$tmp/now/${f##*/}" "$f"
    done
}

# The first input and output of the fashion classifier, and its input as JSON numbers.
read_fashion() {
    answers "metadata of a model" 200 '"inputs"' /v2/models/fashion
    in_name=$(tr -d '\n' <"$tmp/body" | sed 's/.*"inputs"[^]]*"name" *: *"\([^"]*\)".*/\1/')
    npy_bytes test/fixtures/fashion_in.npy >"$tmp/fashion.f32"
    numbers=$(od -An -v -w4 -tf4 "$tmp/fashion.f32" | tr -d ' ' | paste -sd,)
}

# fashion_request DATATYPE SHAPE DATA: an inference request in JSON.
fashion_request() {
    printf '{ "id": "7", "inputs": [ { "name": "%s", "datatype": "%s", "shape": %s, "data": %s } ] }' \
        "$in_name" "$1" "$2" "$3"
}

# binary_request JSON FILE: a body of JSON and binary data; prints curl's header argument.
binary_request() {
    printf '%s' "$1" >"$tmp/request"
    printf 'Inference-Header-Content-Length: %d' "$(stat -c %s "$tmp/request")"
    cat "$2" >>"$tmp/request"
}

http_answers() {
    local header length i bytes jpeg
    answers "live" 200 "" /v2/health/live
    answers "ready" 200 "" /v2/health/ready
    answers "server metadata" 200 '"name" *: *"splitd"' /v2
    answers "a model is ready" 200 "" /v2/models/fashion/ready
    answers "status" 200 '"epoch"' /splitd/status
    read_fashion

    answers "JSON" 200 '"data"' /v2/models/fashion/infer -d "$(fashion_request FP32 '[1,1,28,28]' "[$numbers]")"
    holds "JSON: the id comes back" grep -qE '"id" *: *"7"' "$tmp/body"
    tr -d '\n ' <"$tmp/body" | sed 's/.*"data":\[\([^]]*\)\].*/\1/' | tr , '\n' >"$tmp/scores"
    npy_bytes "$one"/fashion_in.*.npy | od -An -v -w4 -tf4 | paste - "$tmp/scores" >"$tmp/both"
    # shellcheck disable=SC2016  # awk's variables
    holds "JSON: the right answer" awk '
        { d = $1 - $2; if (d < 0) d = -d; if (NF != 2 || d > 1e-4) bad = 1 }
        END { exit bad || NR != 10 }' "$tmp/both"

    header=$(binary_request "{\"inputs\":[{\"name\":\"$in_name\",\"datatype\":\"FP32\",\"shape\":[1,1,28,28],
        \"parameters\":{\"binary_data_size\":3136}}],\"parameters\":{\"binary_data_output\":true}}" "$tmp/fashion.f32")
    answers "binary tensors" 200 '"binary_data_size" *: *40' /v2/models/fashion/infer -H "$header" \
        -H 'Content-Type: application/octet-stream' --data-binary "@$tmp/request"
    length=$(tr -d '\r' <"$tmp/headers" | sed -n 's/^[Ii]nference-[Hh]eader-[Cc]ontent-[Ll]ength: //p')
    tail -c "+$((${length:-0} + 1))" "$tmp/body" >"$tmp/answer.f32"
    npy_bytes "$one"/fashion_in.*.npy >"$tmp/expected.f32"
    holds "binary tensors: the right bits" cmp "$tmp/answer.f32" "$tmp/expected.f32"

    # The demo picture as JPEG, as the length and bytes of one BYTES element.
    infer superres conf/demo/dogs.png -o "$tmp/dogs.jpg" >/dev/null
    jpeg=$(stat -c %s "$tmp/dogs.jpg")
    for i in 0 8 16 24; do bytes+=$(printf '\\x%02x' $((jpeg >> i & 255))); done
    { printf '%b' "$bytes" && cat "$tmp/dogs.jpg"; } >"$tmp/element"
    header=$(binary_request "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"BYTES\",\"shape\":[1],
        \"parameters\":{\"binary_data_size\":$((jpeg + 4))}}],\"outputs\":[{\"name\":\"upscaled\",
        \"parameters\":{\"picture\":\"png\",\"binary_data\":true}}]}" "$tmp/element")
    answers "a JPEG" 200 '"binary_data_size"' /v2/models/superres/infer -H "$header" \
        --data-binary "@$tmp/request"
    length=$(tr -d '\r' <"$tmp/headers" | sed -n 's/^[Ii]nference-[Hh]eader-[Cc]ontent-[Ll]ength: //p')
    tail -c "+$((${length:-0} + 5))" "$tmp/body" >"$tmp/answer.png"
    run_local conf/demo/superres.onnx "$tmp/dogs.jpg" -o "$tmp/expected" >/dev/null
    holds "a JPEG: the right picture" cmp "$tmp/answer.png" "$tmp/expected/dogs.png"

    answers "a JPEG as the body" 200 '"data"' /v2/models/fashion/infer -H 'Content-Type: image/jpeg' \
        --data-binary "@$tmp/dogs.jpg"

    fashion_request FP32 '[1,1,28,28]' "[$numbers]" >"$tmp/request"
    answers "a chunked body" 200 '"data"' /v2/models/fashion/infer -H 'Transfer-Encoding: chunked' \
        --data-binary "@$tmp/request"
}

# every_refusal_is_logged BYTES: since the log of n1 was that long; those left out of a second's lines are
# counted in the next one.
every_refusal_is_logged() {
    local logged
    sleep 1
    refuses "another unknown path" 404 /v4
    logged=$(tail -c "+$(($1 + 1))" "${cluster_log[0]}" | awk '/request-refused remote=127.0.0.1:[0-9]+ status=4/ {
        n++
        if (match($0, /left_out=[0-9]+/)) n += substr($0, RSTART + 9, RLENGTH - 9)
    } END { print n + 0 }')
    holds "every refusal is a line in the log: $logged of $refused" [ "$logged" = $refused ]
}

http_refuses_requests() {
    local infer=/v2/models/fashion/infer good refused=0 mark
    mark=$(wc -c <"${cluster_log[0]}")
    good=$(fashion_request FP32 '[1,1,28,28]' "[$numbers]")
    refuses "an unknown path" 404 /v3
    refuses "an unknown model" 404 /v2/models/nobody
    refuses "inference with an unknown model" 404 /v2/models/nobody/infer -d "$good"
    refuses "GET of infer" 405 $infer
    refuses "POST of metadata" 405 /v2 -d '{}'
    refuses "an empty body" 400 $infer -X POST
    refuses "no JSON" 400 $infer -d 'What is on this picture?'
    refuses "JSON that ends too soon" 400 $infer -d "${good:0:100}"
    refuses "JSON of another kind" 400 $infer -d '[1, 2, 3]'
    refuses "JSON without inputs" 400 $infer -d '{}'
    refuses "an unknown input" 400 $infer -d "${good/$in_name/nothing}"
    refuses "deep JSON" 400 $infer -d "$(printf '[%.0s' {1..5000})"
    refuses "the wrong shape" 400 $infer -d "$(fashion_request FP32 '[1,1,28,27]' "[$numbers]")"
    refuses "a negative shape" 400 $infer -d "$(fashion_request FP32 '[1,1,-28,-28]' "[$numbers]")"
    refuses "a huge shape" 400 $infer -d "$(fashion_request FP32 '[1,1,2147483647,2147483647]' "[$numbers]")"
    refuses "the wrong number of values" 400 $infer -d "$(fashion_request FP32 '[1,1,28,28]' "[1, 2]")"
    refuses "text in place of numbers" 400 $infer -d "$(fashion_request FP32 '[1,1,28,28]' '["a"]')"
    refuses "the wrong datatype" 400 $infer -d "$(fashion_request INT64 '[1,1,28,28]' "[$numbers]")"
    refuses "an unknown datatype" 400 $infer -d "$(fashion_request FP7 '[1,1,28,28]' "[$numbers]")"
    refuses "a picture that is none" 400 $infer -d "$(fashion_request BYTES '[1]' '["no picture"]')"
    refuses "a header longer than the body" 400 $infer -H 'Inference-Header-Content-Length: 100000' -d "$good"
    refuses "a header of negative length" 400 $infer -H 'Inference-Header-Content-Length: -5' -d "$good"
    refuses "binary data that is missing" 400 $infer -H "Inference-Header-Content-Length: 0" -d ''

    printf '{"inputs":[{"name":"%s","datatype":"FP32","shape":[1,1,28,28],"parameters":{"binary_data_size":%s}}]}' \
        "$in_name" 999999999 >"$tmp/request"
    refuses "binary data that is longer than the body" 400 $infer --data-binary "@$tmp/request" \
        -H "Inference-Header-Content-Length: $(stat -c %s "$tmp/request")"
    every_refusal_is_logged "$mark"

    : >"$tmp/empty.png"
    echo "no picture" >"$tmp/text.png"
    head -c 20000 conf/demo/dogs.png >"$tmp/cut.png"
    splitctl_refuses "an empty picture" superres "$tmp/empty.png"
    splitctl_refuses "a picture of text" superres "$tmp/text.png"
    splitctl_refuses "a picture cut off" superres "$tmp/cut.png"
    splitctl_refuses "a picture of 20000 x 20000" superres test/fixtures/claims-20000x20000.png
    splitctl_refuses "an unknown model" nobody conf/demo/dogs.png
    splitctl_refuses "a tensor of another shape" fashion test/fixtures/superres_in.npy
    holds "a picture of one pixel" infer superres test/fixtures/one-pixel.png -o "$tmp/pixel-x2.png"
    still_serves "bad requests"
}

# The value of a metric: metric 'NAME{LABELS}'
metric() { awk -v name="$1" '$1 == name { print $2 }' "$tmp/body"; }

# Every line is one of Prometheus's text format, every metric has a help and a type, none comes twice.
metrics_are_well_formed() {
    awk '
        /^# HELP splitd_[a-z_]+ [A-Z]/ { helped[$3] = 1; next }
        /^# TYPE splitd_[a-z_]+ (counter|gauge|summary)$/ {
            if (!helped[$3] || type[$3]) bad = bad "\n" $0
            type[$3] = $4
            next
        }
        /^splitd_[a-z_]+({[a-z]+="[^"]*"(,[a-z]+="[^"]*")*})? -?[0-9.e+-]+$/ {
            name = $1
            sub(/{.*/, "", name)
            base = name
            sub(/_(sum|count)$/, "", base)
            if (!(name in type) && type[base] != "summary") bad = bad "\n" $0
            if (seen[$1]++) bad = bad "\n" $0
            next
        }
        { bad = bad "\n" $0 }
        END { print bad; exit bad != "" || length(seen) < 20 }' "$tmp/body"
}

figures() {
    local before after
    answers "figures for Prometheus" 200 '# TYPE splitd_requests_total counter' /metrics
    holds "figures are well formed" metrics_are_well_formed
    before=$(metric 'splitd_requests_total{outcome="answered"}')
    holds "both nodes are up" [ "$(metric 'splitd_node_up{node="n1"}')$(metric 'splitd_node_up{node="n2"}')" = 11 ]
    holds "the model is ready" [ "$(metric 'splitd_model_ready{model="fashion"}')" = 1 ]
    still_serves "figures"
    answers "figures after an answer" 200 splitd_epoch /metrics
    after=$(metric 'splitd_requests_total{outcome="answered"}')
    holds "an answer is counted" [ $((after - before)) = 1 ]
    holds "its time is counted" awk "BEGIN { exit !($(metric splitd_request_duration_seconds_sum) > 0) }"
    holds "bytes to n2 are counted" [ "$(metric 'splitd_link_sent_bytes_total{node="n2"}')" -gt 1000 ]
    answers "the version of each node" 200 '"name" *: *"n2",[^}]*"version" *: *"[0-9.]+"' /splitd/status
}

# Every node that is up, and none that is not, has figures; doctor sees what is wrong.
top_shows() { "$splitctl" top --server "$cluster_url" --count 2 --interval 0.1 | grep -qE "$1"; }
doctor_says() { "$splitctl" doctor --config "$dir/cluster.json" --node n1 --timeout 1 | grep -qE "$1"; }

first_hour() {
    holds "top counts nodes" top_shows ': epoch [0-9]+, 2 of 2 nodes +[0-9.]+ pictures/s'
    holds "top shows what a node did" top_shows '^n2 +[0-9]+\.\.[0-9]+ of [0-9]+ +[0-9.]+ '
    holds "doctor greets nodes" doctor_says '^ok +nodes: n2 answers in'
    holds "doctor asks the coordinator" doctor_says '^ok +coordinator: model fashion is ready'
}

# splitctl_refuses NAME MODEL FILE: exit code 1 and one sentence.
splitctl_refuses() {
    local code
    infer "$2" "$3" -o "$tmp/none" >/dev/null 2>"$tmp/err"
    code=$?
    if [ $code = 1 ] && [ "$(wc -l <"$tmp/err")" = 1 ] && grep -q '^splitctl: ' "$tmp/err"; then
        pass
    else
        fail "$1: splitctl ends with $code" "$(cat "$tmp/err")"
    fi
}

# raw_answer TEXT: sends bytes as they are (printf escapes) on a connection of its own, and prints the
# first line that comes back.
raw_answer() {
    local line=
    exec 3<>"/dev/tcp/127.0.0.1/${cluster_url##*:}" || return
    # The server may close before all is written.
    (printf '%b' "$1" >&3) 2>/dev/null
    read -r -t 12 line <&3
    printf '%s' "$line"
}

# raw_answers NAME REGEX TEXT: all of them are asked at once, for some are only cut off after ten
# seconds of silence; raw_check looks at the answers.
raw_answers() {
    raw_names+=("$1")
    raw_regexes+=("$2")
    (raw_answer "$3" >"$tmp/raw.${#raw_names[@]}") &
    raw_pids+=($!)
}

raw_check() {
    local i line
    wait "${raw_pids[@]}"
    for i in "${!raw_names[@]}"; do
        line=$(tr -d '\0\r' <"$tmp/raw.$((i + 1))")
        if [[ $line =~ ${raw_regexes[i]} ]]; then pass; else fail "${raw_names[i]}" "answers '$line'"; fi
    done
}

http_refuses_framing() {
    local post='POST /v2/models/fashion/infer HTTP/1.1\r\nHost: x\r\n'
    local raw_names=() raw_regexes=() raw_pids=()
    raw_answers "a body of 1 GB" '^HTTP/1.1 413' "${post}Content-Length: 1073741824\r\n\r\n"
    raw_answers "a body of 10^30 bytes" '^HTTP/1.1 4' "${post}Content-Length: 1000000000000000000000000000000\r\n\r\n"
    raw_answers "a negative length" '^HTTP/1.1 400' "${post}Content-Length: -1\r\n\r\n"
    raw_answers "two lengths" '^HTTP/1.1 400' "${post}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"
    raw_answers "length and chunks" '^HTTP/1.1 400' \
        "${post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    raw_answers "an unknown coding" '^HTTP/1.1 400' "${post}Transfer-Encoding: gzip\r\n\r\n{}"
    raw_answers "a broken chunk" '^(HTTP/1.1 400|$)' "${post}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
    raw_answers "garbage" '^(HTTP/1.1 400|$)' '\x00\x01\x02\xff\xfe\r\n\r\n'
    raw_answers "a body that never comes" '^(HTTP/1.1 4|$)' "${post}Content-Length: 10\r\n\r\n{"
    raw_check
    holds "garbage is a line in the log" grep -q '^info http-error ' "${cluster_log[0]}"
    still_serves "bad framing"
}
