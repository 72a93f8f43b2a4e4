#!/bin/bash
# Part of run.sh: boxes, segments and the pictures of them are those of one node.
# shellcheck disable=SC2154  # variables of run.sh and scripts/cluster.sh

# A network that answers with three maps stands in for one that segments.
tasks_like_one_node() {
    local segments=$tmp/segments.json detector=../shared/models/yolox_nano.onnx models=()
    local boxes=conf/sidecars/yolox_nano.json
    printf '{ "task": "segment", "labels": ["red"], "input": { "resize": "none" } }\n' >"$segments"
    models=("segments=$PWD/conf/demo/superres.onnx,$segments")
    if [ -e "$detector" ]; then
        models+=("boxes=$(realpath "$detector"),$PWD/$boxes")
    else
        skip "a detector (no ../shared)"
    fi
    run_local conf/demo/superres.onnx --sidecar "$segments" conf/demo/dogs.png -o "$one/segments" \
        >"$one/segments.txt"
    [ ! -e "$detector" ] || run_local "$detector" --sidecar "$boxes" ../shared/data/photos/dog.jpg \
        -o "$one/boxes" >"$one/boxes.txt"
    with_cluster tasks tcp 3 "${models[@]}" -- segments_equal_one_node boxes_equal_one_node
}

# What was printed, but for the names of the files that were written.
shown() { sed 's/ -> .*//' "$1"; }

segments_equal_one_node() {
    local file
    infer segments conf/demo/dogs.png -o "$dir/segments/" >"$dir/segments.txt"
    holds "segments are those of one node" cmp <(shown "$dir/segments.txt") <(shown "$one/segments.txt")
    for file in dogs.png dogs.classes.png; do
        holds "segments: $file is that of one node" cmp "$dir/segments/$file" "$one/segments/$file"
    done
}

boxes_equal_one_node() {
    [ -e "$one/boxes.txt" ] || return
    infer boxes ../shared/data/photos/dog.jpg -o "$dir/boxes.png" >"$dir/boxes.txt"
    holds "boxes are those of one node" cmp <(shown "$dir/boxes.txt") <(shown "$one/boxes.txt")
    holds "a dog is found" grep -q "dog (16)" "$dir/boxes.txt"
    holds "boxes: the picture is that of one node" cmp "$dir/boxes.png" "$one/boxes/dog.png"
    infer boxes ../shared/golden/yolox_nano/input.npy -o "$dir/tensor.png" >"$dir/tensor.txt"
    holds "a dog is found in a tensor" grep -q "dog (16)  72,112 176,294" "$dir/tensor.txt"
}
