#!/bin/bash
# Part of run.sh: what a cluster answers is what one node computes.
# shellcheck disable=SC2154  # variables of run.sh and scripts/cluster.sh

# The values of a .npy file, little-endian floats without the header.
npy_bytes() {
    local header
    header=$(od -An -tu2 -j8 -N2 "$1")
    tail -c "+$((10 + header + 1))" "$1"
}

# npy_error GOT EXPECTED: the largest difference as a share of the largest expected value; "nan" if
# the counts differ or a value is not finite.
npy_error() {
    paste <(npy_bytes "$1" | od -An -v -w4 -tf4) <(npy_bytes "$2" | od -An -v -w4 -tf4) | awk '
        NF != 2 || $1 $2 ~ /n/ { bad = 1 }
        { d = $1 - $2; e = $2; d = d < 0 ? -d : d; e = e < 0 ? -e : e }
        d > error { error = d }
        e > largest { largest = e }
        END {
            share = largest > 0 ? error / largest : error
            if (bad || NR == 0)
                share = "nan"
            print share
        }'
}

# is_close GOT EXPECTED TOLERANCE
is_close() {
    local error
    error=$(npy_error "$1" "$2")
    echo "largest difference: $error of the largest value"
    awk -v e="$error" -v t="$3" 'BEGIN { exit !(e ~ /^[0-9]/ && e + 0 <= t + 0) }'
}

# infer MODEL ARGUMENT...
infer() {
    local model=$1
    shift
    timeout 60 "$splitctl" infer --server "$cluster_url" --model "$model" "$@"
}

run_local() { timeout 60 "$splitctl" run "$@"; }

# What one node computes, for everything that the clusters are asked.
prepare_answers() {
    local size
    one=$tmp/one
    mkdir "$one"
    run_local conf/demo/superres.onnx conf/demo/dogs.png -o "$one" >/dev/null
    run_local conf/demo/superres.onnx conf/demo/dogs.png --raw -o "$one" >/dev/null
    run_local conf/demo/superres.onnx test/fixtures/superres_in.npy --raw -o "$one" >/dev/null
    run_local conf/demo/fashion.onnx conf/demo/fashion/*.png --raw -o "$one" >/dev/null
    run_local conf/demo/fashion.onnx test/fixtures/fashion_in.npy --raw -o "$one" >/dev/null
    run_local conf/demo/fashion.onnx conf/demo/fashion/*.png --top 3 >"$one/classes"
    mkdir "$one/sizes"
    for size in "${sizes[@]}"; do
        make_picture "$size" "$one/sizes/$size.png"
    done
    run_local conf/demo/superres.onnx "$one"/sizes/*.png --raw -o "$one" >/dev/null
}

# ROWSxCOLS of pictures that a network without a size of its own takes in turn.
sizes=(1x1 3x40 17x5 64x33)

# make_picture SIZE FILE: a PNG of twice the size, which the picture network makes out of noise.
make_picture() {
    local draw=$tmp/draw
    mkdir -p "$draw"
    npy_noise "${1%x*}" "${1#*x}" >"$draw/noise.npy"
    run_local conf/demo/superres.onnx "$draw/noise.npy" -o "$draw" >/dev/null
    mv "$draw/noise.png" "$2"
}

# npy_noise ROWS COLS: a 1 x 3 x ROWS x COLS tensor of values between 0 and 1, always the same.
npy_noise() {
    local header
    header="{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, $1, $2), }"
    printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "$header"
    # Floats 0x3e...... lie between 0.125 and 0.5.
    printf '%b' "$(awk -v n=$((3 * $1 * $2)) 'BEGIN {
        srand(7)
        for (i = 0; i < n; i++)
            printf "\\x%02x\\x%02x\\x%02x\\x3e", rand() * 256, rand() * 256, rand() * 256
    }')"
}

answers_equal_one_node() {
    local f out=$dir/answers
    mkdir "$out"
    holds "$dir: a picture" infer superres conf/demo/dogs.png -o "$out/dogs.png"
    holds "$dir: the picture is that of one node" cmp "$out/dogs.png" "$one/dogs.png"
    holds "$dir: a picture as tensors" infer superres conf/demo/dogs.png --raw -o "$out"
    holds "$dir: a tensor" infer superres test/fixtures/superres_in.npy --raw -o "$out"
    holds "$dir: a small tensor" infer fashion test/fixtures/fashion_in.npy --raw -o "$out"
    holds "$dir: small pictures" infer fashion conf/demo/fashion/*.png --raw -o "$out"
    for f in "$out"/*.npy; do
        holds "$dir: ${f##*/} has the bits of one node" cmp "$f" "$one/${f##*/}"
    done
    infer fashion conf/demo/fashion/*.png --top 3 >"$out/classes"
    holds "$dir: classes are those of one node" cmp "$out/classes" "$one/classes"
}

# A network without a size of its own gets a plan per size; one that goes and comes back works too.
many_sizes() {
    local size out=$dir/sizes
    holds "$dir: pictures of many sizes" infer superres "$one"/sizes/*.png "$one"/sizes/*.png \
        --raw
    infer superres "$one"/sizes/*.png --raw -o "$out" >/dev/null
    for size in "${sizes[@]}"; do
        holds "$dir: $size has the bits of one node" \
            cmp "$out/$size.upscaled.npy" "$one/$size.upscaled.npy"
    done
}

several_clients() {
    local i pids=() ok=0
    for i in 1 2 3 4 5 6; do
        infer fashion conf/demo/fashion/*.png --top 3 >"$dir/classes.$i" 2>&1 &
        pids+=($!)
    done
    for i in "${!pids[@]}"; do
        wait "${pids[i]}" && cmp -s "$dir/classes.$((i + 1))" "$one/classes" && ok=$((ok + 1))
    done
    holds "$dir: six clients at once all get the right answer" [ $ok = 6 ]
}

# traces_are_whole: every node, every message with both ends, all clocks known.
traces_are_whole() {
    local t=$dir/trace.json nodes=${#cluster_names[@]}
    holds "$dir: a trace" timeout 60 "$splitctl" trace --server "$cluster_url" --model superres \
        conf/demo/dogs.png --summary -o "$t"
    holds "$dir: every node is in the trace" [ "$(grep -o '"queue","cat"' "$t" | wc -l)" = "$nodes" ]
    holds "$dir: every message has both ends in the trace" \
        [ "$(grep -o '"ph":"s"' "$t" | wc -l)" = "$(grep -o '"ph":"f"' "$t" | wc -l)" ]
    holds "$dir: what the host does is in the trace" grep -q '"cat":"host"' "$t"
    sleep 0.3 # three heartbeats
    timeout 60 "$splitctl" trace --server "$cluster_url" --model superres conf/demo/dogs.png \
        -o "$t" >/dev/null
    holds "$dir: clocks are compared" [ "$(grep -o 'clock not compared' "$t" | wc -l)" = 0 ]
}

# reference_networks TRANSPORT NODES: golden inputs and outputs of real networks, computed in the ways
# that are fastest.
reference_networks() {
    local models=() name file
    local -x SPLITD_EXACT=0
    if [ ! -d ../shared/golden ]; then
        skip "real networks on $2 nodes over $1 (no ../shared)"
        return
    fi
    for name in lenet5_mnist resnet20_cifar10 mlperf_vww_mobilenetv1_96 squeezenet1.1 mobilenetv2_1.0_224; do
        file=$(realpath "../shared/models/$name.onnx")
        models+=("$name=$file,$PWD/conf/sidecars/$name.json")
        if [ ! -d "$one/$name" ]; then
            mkdir "$one/$name"
            run_local "$file" "../shared/golden/$name/input.npy" --raw -o "$one/$name" >/dev/null
        fi
    done
    with_cluster "networks-$1-$2" "$1" "$2" "${models[@]}" -- compare_networks
}

compare_networks() {
    local golden name got out=$dir/answers
    for golden in ../shared/golden/*/; do
        name=$(basename "$golden")
        [ -d "$one/$name" ] || continue
        holds "$dir: $name" infer "$name" "$golden/input.npy" --raw -o "$out/$name"
        for got in "$out/$name"/*.npy; do
            holds "$dir: $name against ONNX Runtime" is_close "$got" "$golden/output_0.npy" 1e-4
            holds "$dir: $name against one node" is_close "$got" "$one/$name/${got##*/}" 1e-5
        done
    done
}
