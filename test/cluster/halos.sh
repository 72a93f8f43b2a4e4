#!/bin/bash
# Part of run.sh: a calibrated model's halos are measured, and the fastest kept, while every answer is
# right.
# shellcheck disable=SC2154  # variables of run.sh and scripts/cluster.sh

fastest_halos() {
    local home=$tmp/calibrated
    mkdir "$home"
    cp conf/demo/fashion.onnx conf/demo/fashion.json "$home"
    holds "a calibration" "$splitctl" calibrate "$home/fashion.onnx" --images conf/demo/fashion --local 4 --gamma
    classes_of "$one/classes" >"$one/best"
    with_cluster halos tcp 4 "fashion=$home/fashion.onnx" -- halos_are_chosen halos_are_shown nothing_was_repeated
    halos_that_were_said
}

# The best class of each picture: coarse halos change scores a little.
classes_of() { awk '/\.png/ && !seen[$1]++ { print $1, $NF }' "$1"; }

asks_and_is_right() {
    infer fashion conf/demo/fashion/*.png --top 3 >"$dir/now" && classes_of "$dir/now" | cmp - "$one/best"
}

# Ten pictures at a time, each after the answer to the one before, and then two clients at once.
halos_are_chosen() {
    local round right=0 rounds=0 other
    for round in {1..30}; do
        asks_and_is_right >/dev/null 2>&1 && right=$((right + 1))
        rounds=$round
        ! grep -q '^info halo-chosen model=fashion nodes=4 halo=' "${cluster_log[0]}" || break
        sleep 0.1
    done
    for round in 1 2 3; do # whatever was chosen is in use now
        infer fashion conf/demo/fashion/*.png >/dev/null 2>&1 &
        other=$!
        asks_and_is_right >/dev/null 2>&1 && right=$((right + 1))
        wait $other && rounds=$((rounds + 1))
    done
    holds "halos: all answers are right while they are measured ($right of $rounds)" [ "$right" = "$rounds" ]
    holds "halos: one choice is made" \
        [ "$(grep -c '^info halo-chosen model=fashion nodes=4 halo=' "${cluster_log[0]}")" = 1 ]
    holds "halos: it says what was measured" \
        grep -Eq '^info halo-chosen .* tq_ms=[0-9.]+ f32_ms=[0-9.]+ f16_ms=[0-9.]+' "${cluster_log[0]}"
}

halos_are_shown() {
    local halo
    halo=$(sed -n 's/^info halo-chosen .* halo=\([a-z0-9]*\) .*/\1/p' "${cluster_log[0]}")
    "$splitctl" status --server "$cluster_url" >"$dir/status"
    holds "halos: status shows them" grep -Eq "^halos by $halo \(measured: tq [0-9.]+ ms, f32 " "$dir/status"
    "$splitctl" status --server "$cluster_url" --json >"$dir/status"
    holds "halos: so does its JSON" grep -Eq "\"halo\":[[:space:]]*\"$halo\"" "$dir/status"
}

# On a busy machine rows may be cut anew meanwhile: that does repeat.
nothing_was_repeated() {
    grep -q '^info speed .* action=replan' "${cluster_log[0]}" || holds "halos: no frame was repeated" \
        [ "$(curl -s "$cluster_url/metrics" | sed -n 's/^splitd_frames_repeated_total //p')" = 0 ]
}

# What cluster.json says is not measured.
halos_that_were_said() {
    dir=$tmp/halos-said
    mkdir "$dir"
    cluster_write "$dir/cluster.json" tcp 2 "fashion=$tmp/calibrated/fashion.onnx"
    sed -i '1s|^{|{ "halo": "f32",|' "$dir/cluster.json"
    cluster_start "$dir/cluster.json"
    cluster_wait 60
    for _ in 1 2 3 4; do
        infer fashion conf/demo/fashion/*.png --top 3 >"$dir/classes" 2>&1
    done
    holds "halos that were asked for are used" cmp "$dir/classes" "$one/classes"
    holds "and not measured" [ "$(grep -c halo-chosen "${cluster_log[0]}")" = 0 ]
    stops_in_time halos-said
}
