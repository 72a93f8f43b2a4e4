#!/bin/bash
# The command line of splitctl: exit codes, messages, files.  Needs no daemon.
#
#   test/cli/run.sh [BUILD]     from the project's root, after make
set -u

build=${1:-build}
splitctl=$PWD/$build/splitctl
superres=conf/demo/superres.onnx
fashion=conf/demo/fashion.onnx
passed=0 failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

if [ ! -x "$splitctl" ]; then
    echo "$splitctl is missing: run make first"
    echo "0 passed, 1 failed"
    exit 1
fi

pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    sed 's/^/    /' "$tmp/err" "$tmp/out" | head -8
}

run() {
    timeout 30 "$splitctl" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    local code=$?
    cp "$tmp/out" "$tmp/kept"
    return $code
}

# succeeds NAME REGEX-ON-STDOUT ARGUMENT...
succeeds() {
    local name=$1 regex=$2
    shift 2
    if run "$@" && grep -qE -- "$regex" "$tmp/out" && [ ! -s "$tmp/err" ]; then
        pass
    else
        fail "$name: splitctl $*"
    fi
}

# fails NAME REGEX ARGUMENT...: exit code 1 and one sentence on stderr.
fails() {
    local name=$1 regex=$2 code
    shift 2
    run "$@"
    code=$?
    if [ $code = 1 ] && [ "$(wc -l <"$tmp/err")" = 1 ] && grep -qE -- "^splitctl( [a-z]+)?: .*$regex" "$tmp/err"; then
        pass
    else
        fail "$name (code $code): splitctl $*"
    fi
}

# refuses NAME REGEX-ON-STDOUT ARGUMENT...: exit code 1 and a verdict in the first line.
refuses() {
    local name=$1 regex=$2 code
    shift 2
    run "$@"
    code=$?
    if [ $code = 1 ] && head -1 "$tmp/out" | grep -qE -- "^$regex" && [ ! -s "$tmp/err" ]; then
        pass
    else
        fail "$name (code $code): splitctl $*"
    fi
}

# misused NAME REGEX ARGUMENT...: exit code 2 and a sentence on stderr.
misused() {
    local name=$1 regex=$2 code
    shift 2
    run "$@"
    code=$?
    if [ $code = 2 ] && grep -qE -- "^splitctl.*: .*$regex" "$tmp/err"; then
        pass
    else
        fail "$name (code $code): splitctl $*"
    fi
}

# printed NAME REGEX: the last splitctl printed a line like that.
printed() {
    if grep -qE -- "$2" "$tmp/kept"; then pass; else fail "$1: no line matches $2"; fi
}
did_not_print() {
    if grep -qE -- "$2" "$tmp/kept"; then fail "$1: a line matches $2"; else pass; fi
}

# holds NAME COMMAND...
holds() {
    local name=$1
    shift
    if "$@" >"$tmp/out" 2>"$tmp/err"; then pass; else fail "$name: $*"; fi
}

help_and_version() {
    local command
    succeeds "help" "^Commands:" --help
    succeeds "version" "^splitctl [0-9]+\.[0-9]+" --version
    for command in infer run compare plan check calibrate status psnr trace seams; do
        succeeds "help of $command" "^Usage: splitctl $command" "$command" --help
        succeeds "version of $command" "^splitctl [0-9]" "$command" --version
        misused "unknown option of $command" "unrecognized option" "$command" --no-such-option
        holds "$command is in the list" grep -qE "^  $command " <("$splitctl" --help)
    done
    misused "no command" "a command is missing"
    misused "unknown command" "'fly' is not a command" fly
    if timeout 30 "$splitctl" plan $superres --shape 1x3x16x16 >/dev/full 2>"$tmp/err"; then
        fail "a full disk behind stdout is not noticed"
    else
        pass
    fi
}

usage() {
    misused "no nodes" "'0' is not a number of nodes" plan $superres --local 0
    misused "17 nodes" "'17' is not a number of nodes" plan $superres --local 17
    misused "nodes with a tail" "'3x' is not" plan $superres --local 3x
    misused "weights: too few" "2 weights for --local 3" plan $superres --local 3 --weights 5,3
    misused "weights: zero" "'5,0,1' is not a list" plan $superres --local 3 --weights 5,0,1
    misused "weights: negative" "'5,-1,1' is not a list" plan $superres --local 3 --weights 5,-1,1
    misused "weights: text" "'a,b' is not a list" plan $superres --local 2 --weights a,b
    misused "weights: comma at the end" "'1,2,' is not a list" plan $superres --weights 1,2,
    misused "weights: too large" "is not a list" plan $superres --local 1 --weights 1000001
    misused "halo" "'q5' is not f32, f16, q8, q4, tq, video or drop" plan $superres --halo q5
    misused "shape" "'3x' is not a shape" plan $superres --shape 3x
    misused "shape of 0" "'1x3x0x4' is not a shape" plan $superres --shape 1x3x0x4
    misused "shape of 9 axes" "is not a shape" plan $superres --shape 1x1x1x1x1x1x1x1x1
    misused "tolerance: text" "'tight' is not a number" compare $superres --input a --expect b --tolerance tight
    misused "tolerance: nan" "'nan' is not a number" compare $superres --input a --expect b --tolerance nan
    misused "tolerance: negative" "'-1' is not a number" compare $superres --input a --expect b --tolerance=-1
    misused "compare without --input" "--input is missing" compare $superres --expect b
    misused "compare without --expect" "--expect is missing" compare $superres --input b
    misused "compare without a model" "a model is missing" compare --input a --expect b
    misused "run without a model" "a model and an input are missing" run
    misused "run without an input" "an input is missing" run $superres
    misused "plan without a model" "a model is missing" plan
    misused "plan of node 4 of 4" "4 of 4 nodes" plan $superres --local 4 --node 4 --shape 1x3x8x8
    misused "top: 0" "'0' is not a number" run $superres a.npy --top 0
    misused "timeout: 0" "'0' is not a number of seconds" status --timeout 0
    misused "infer without a picture" "a picture is missing" infer
    misused "psnr of one" "a picture and a reference" psnr a.png
    misused "calibrate without pictures" "a model and --images are needed" calibrate $superres --local 2
    misused "calibrate for one node" "at least 2 nodes" calibrate $superres --images . --local 1
    misused "calibrate for nothing" "'0%' is no loss" calibrate $superres --images . --local 2 --budget 0%
    misused "calibrate by nothing" "'100%' is no share" calibrate $superres --images . --local 2 --held-out 100%
    misused "seams of nothing" "a model and a picture are missing" seams $superres -o a.png
    misused "seams nowhere" "--output is missing" seams $superres a.png
    misused "seams of an unknown mode" "'q5' is not" seams $superres a.png q5 -o a.png
    misused "seams too large" "'256' is not a number" seams $superres a.png -o a.png --times 256
    misused "trace without a picture" "a picture is missing" trace
    misused "trace of two" "'b.png' is too much" trace a.png b.png
    misused "trace here without a model" "needs a model and an input" trace --local 2 a.png
    misused "trace of a server's model here" "--model names a model of a server" \
        trace --local 2 --model x $superres a.png
    misused "trace after -1" "'-1' is not a number" trace --after=-1 a.png
}

models() {
    local in=test/fixtures/superres_in.npy
    : >"$tmp/empty.onnx"
    head -c 50000 $superres >"$tmp/cut.onnx"
    echo "This is not a network." >"$tmp/text.onnx"
    head -c 5000 /dev/urandom >"$tmp/noise.onnx"

    fails "model: missing" "$tmp/none.onnx: .*No such file" run "$tmp/none.onnx" $in
    fails "model: empty" "$tmp/empty.onnx" run "$tmp/empty.onnx" $in
    fails "model: cut off" "$tmp/cut.onnx" run "$tmp/cut.onnx" $in
    fails "model: text" "$tmp/text.onnx" run "$tmp/text.onnx" $in
    fails "model: noise" "$tmp/noise.onnx" plan "$tmp/noise.onnx"
    fails "model: a folder" "$tmp" run "$tmp" $in
    fails "model: a picture" "dogs.png" run conf/demo/dogs.png $in
    fails "model: open extents" "" plan $superres
}

tensors() {
    local in=test/fixtures/superres_in.npy
    : >"$tmp/empty.npy"
    head -c 60 $in >"$tmp/cut.npy"
    head -c 1000 $in >"$tmp/short.npy"
    echo "no tensor" >"$tmp/text.npy"

    fails "tensor: missing" "none.npy: .*No such file" run $superres "$tmp/none.npy"
    fails "tensor: empty" "empty.npy" run $superres "$tmp/empty.npy"
    fails "tensor: cut in its header" "cut.npy" run $superres "$tmp/cut.npy"
    fails "tensor: cut in its values" "short.npy" run $superres "$tmp/short.npy"
    fails "tensor: text" "text.npy" run $superres "$tmp/text.npy"
    fails "tensor: of another model" "fashion_in.npy: shape .* does not fit input 'image'" \
        run $superres test/fixtures/fashion_in.npy
    fails "shape of another rank" "--shape: shape 3x8x8 does not fit" plan $superres --shape 3x8x8
    fails "shape of an unknown input" "no input is called 'photo', it has: image" \
        plan $superres --shape photo=1x3x8x8
    fails "input given twice" "is given twice" run $superres image=$in image=$in
    succeeds "named input" "upscaled  1x3x" run $superres image=$in
}

pictures() {
    local huge=test/fixtures/claims-20000x20000.png pixel=test/fixtures/one-pixel.png
    : >"$tmp/empty.png"
    echo "no picture" >"$tmp/text.png"
    head -c 20000 conf/demo/dogs.png >"$tmp/cut.png"

    fails "picture: missing" "none.png: .*No such file" run $superres "$tmp/none.png"
    fails "picture: empty" "empty.png" run $superres "$tmp/empty.png"
    fails "picture: text" "text.png" run $superres "$tmp/text.png"
    fails "picture: cut off" "cut.png" run $superres "$tmp/cut.png"
    fails "picture: 20000 x 20000" "$huge: .*20000" run $superres $huge
    succeeds "picture: one pixel" "pixel.png.* upscaled  1x3x2x2" run $superres $pixel --local 3
    fails "sidecar: missing" "none.json" run $superres $pixel --sidecar "$tmp/none.json"
    echo '{ "task": "sing" }' >"$tmp/bad.json"
    fails "sidecar: unknown task" "bad.json: .*task" run $superres $pixel --sidecar "$tmp/bad.json"

    # One bad picture among good ones: the others are still done, the code says so.
    run run $superres $pixel "$tmp/text.png" conf/demo/dogs.png
    if [ $? = 1 ] && [ "$(wc -l <"$tmp/out")" = 2 ] && [ "$(wc -l <"$tmp/err")" = 1 ]; then
        pass
    else
        fail "one bad picture among good ones"
    fi
}

running() {
    local f
    succeeds "classes" "^conf/demo/fashion/9-ankle-boot.png +[0-9.-]+  .*\(9\)$" \
        run $fashion conf/demo/fashion/9-ankle-boot.png --top 1
    succeeds "classes as JSON" '^\{"file":"conf/demo/fashion/1-trouser.png","classes":\[\{"index":1,' \
        run $fashion conf/demo/fashion/1-trouser.png --top 3 --json --local 2
    succeeds "raw tensors" "  1x10  min " run $fashion conf/demo/fashion/8-bag.png --raw

    for n in 1 4; do
        SPLITD_EXACT=1 succeeds "picture on $n nodes" "-> $tmp/$n/dogs.png" \
            run $superres conf/demo/dogs.png --local $n -o "$tmp/$n"
        SPLITD_EXACT=1 run run $superres conf/demo/dogs.png --local $n --raw -o "$tmp/$n"
    done
    holds "pictures of 1 and 4 nodes are the same" cmp "$tmp/1/dogs.png" "$tmp/4/dogs.png"
    for f in "$tmp"/1/*.npy; do
        holds "tensors of 1 and 4 nodes are the same" cmp "$f" "$tmp/4/${f##*/}"
        succeeds "computed as fast as can be they are almost" "" compare $superres --local 4 \
            --input conf/demo/dogs.png --expect "$f" --tolerance 1e-5
    done
    succeeds "psnr of a picture and itself" "PSNR inf dB, largest difference 0" \
        psnr "$tmp/1/dogs.png" "$tmp/1/dogs.png"
    succeeds "psnr against bicubic" "^PSNR [0-9]+\.[0-9]+ dB" \
        psnr --bicubic conf/demo/dogs.png conf/demo/dogs-reference.png
    fails "psnr of two sizes" "180 x 180 x 3.*360 x 360 x 3" psnr conf/demo/dogs.png conf/demo/dogs-reference.png
    fails "psnr with a border that leaves nothing" "leaves nothing" \
        psnr --border 90 conf/demo/dogs.png conf/demo/dogs.png

    SPLITD_EXACT=1 succeeds "seams" "^q4 +[0-9]+ +[0-9.]+ +[1-9][0-9]*$" \
        seams $superres conf/demo/dogs.png f32 q4 -o "$tmp/seams.png"
    printed "no seam with exact halos" "^f32 +[0-9]+ +inf +0$"
    succeeds "a picture of the seams" "differ|PSNR" psnr "$tmp/seams.png" "$tmp/seams.png"
    fails "seams in classes" "task is not image" \
        seams $fashion conf/demo/fashion/8-bag.png -o "$tmp/seams.png"
    fails "seams into a missing folder" "No such file" \
        seams $superres conf/demo/dogs.png -o "$tmp/none/seams.png"

    mkdir -p "$tmp/other" && cp conf/demo/dogs.png "$tmp/other/"
    fails "two results in one file" "would go to the same file" \
        run $superres conf/demo/dogs.png "$tmp/other/dogs.png" -o "$tmp/1"
    fails "output folder without a name" "No such file" run $superres conf/demo/dogs.png -o ""
    fails "output folder is a file" "Not a directory" \
        run $superres conf/demo/dogs.png -o "$tmp/1/dogs.png/"
    fails "tensors into a picture" "x.png: names a picture, but --raw gives tensors: name a folder" \
        run $superres conf/demo/dogs.png --raw -o "$tmp/x.png"
    fails "two pictures into one" "x.png: one file for 2 inputs" \
        run $superres conf/demo/dogs.png conf/demo/fashion/8-bag.png -o "$tmp/x.png"
    succeeds "one picture into a file" "^conf/demo/dogs.png  -> $tmp/own.png$" \
        run $superres conf/demo/dogs.png --local 4 -o "$tmp/own.png"
    holds "it is there" test -s "$tmp/own.png"
    fails "a file in a missing folder" "none/own.png: .*No such file" \
        run $superres conf/demo/dogs.png -o "$tmp/none/own.png"
}

# count_of TEXT FILE
count_of() { grep -oF -- "$1" "$2" | wc -l; }

tracing() {
    local t=$tmp/trace.json n
    for n in 1 3; do
        succeeds "a trace of $n nodes" "^node $((n - 1)) +\+0 \+- 0 us +[0-9.]+" \
            trace --local $n $superres test/fixtures/superres_in.npy -o "$t" --summary
        holds "every node is in it" [ "$(count_of '"queue","cat"' "$t")" = $n ]
        holds "every message has both ends" \
            [ "$(count_of '"ph":"s"' "$t")" = "$(count_of '"ph":"f"' "$t")" ]
    done
    succeeds "a trace without a summary is one line" "^$t: open it" \
        trace --local 2 $fashion conf/demo/fashion/8-bag.png -o "$t"
    holds "one line" [ "$(wc -l <"$tmp/kept")" = 1 ]
    fails "a trace into no folder" "No such file" \
        trace --local 2 $fashion conf/demo/fashion/8-bag.png -o "$tmp/no/trace.json"
    fails "a trace of no server" "cannot be reached" \
        trace conf/demo/dogs.png --server http://127.0.0.1:9 --timeout 0.3
}

comparing() {
    local in=test/fixtures/superres_in.npy out=test/fixtures/superres_out.npy how
    for how in "--local 1" "--local 2" "--local 3" "--local 7" "--local 16" "--weights 5,3,1"; do
        # shellcheck disable=SC2086  # two words
        succeeds "compare $how" "upscaled .* holds$" compare $superres --input $in --expect $out $how
    done
    succeeds "compare with coarse halos" "upscaled .* holds$" \
        compare $superres --input $in --expect $out --local 3 --halo q8 --tolerance 0.02
    fails "coarse halos are not exact" "differs by more than" \
        compare $superres --input $in --expect $out --local 3 --halo q4
    succeeds "compare by names" "upscaled .* holds$" \
        compare $superres --input image=$in --expect upscaled=$out
    succeeds "compare fashion" " holds$" compare $fashion --input test/fixtures/fashion_in.npy \
        --expect test/fixtures/fashion_out.npy --local 4
    fails "compare with too many outputs" "has 1 outputs, 2 are expected" \
        compare $superres --input $in --expect $out $out
    fails "compare with another shape" "superres_in.npy: shape .* but output 'upscaled'" \
        compare $superres --input $in --expect $in

    # The same bytes but one value: 1.0 (0x3f800000) in place of the last float, then NaN.
    { head -c -4 $out && printf '\0\0\200\077'; } >"$tmp/off.npy"
    fails "compare past the tolerance" "differs by more than" compare $superres --input $in --expect "$tmp/off.npy"
    succeeds "compare with a wide tolerance" " holds$" \
        compare $superres --input $in --expect "$tmp/off.npy" --tolerance 10
    { head -c -4 $out && printf '\0\0\300\177'; } >"$tmp/nan.npy"
    fails "NaN never passes" "differs by more than" \
        compare $superres --input $in --expect "$tmp/nan.npy" --tolerance 1e30
}

# cluster COSTS: the file of three nodes, of which the last has three times the speed.
cluster() {
    printf '{ "cluster": "attic", "coordinator": "ann", "halo": "q8", "costs": { %s }, "nodes": [' "$1"
    printf '{ "name": "ann", "address": "tcp://127.0.0.1:7071", "threads": 2 },'
    printf '{ "name": "bob", "address": "tcp://127.0.0.1:7072" },'
    printf '{ "name": "eve", "address": "tcp://127.0.0.1:7073", "weight": 3 } ] }'
}

# pair COORDINATOR: the file of two equal nodes.
pair() {
    printf '{ "cluster": "attic", "coordinator": "%s", "costs": { "message_us": 1 }, "nodes": [' "$1"
    printf '{ "name": "ann", "address": "tcp://127.0.0.1:7071" },'
    printf '{ "name": "bob", "address": "tcp://127.0.0.1:7072" } ] }'
}

planning_for_a_cluster() {
    local coordinator
    for coordinator in ann bob; do
        pair $coordinator >"$tmp/$coordinator.json"
        succeeds "plan of two" "a coordinator takes 2$" \
            plan $superres --config="$tmp/$coordinator.json" --policy exchange --shape 1x3x25x25
        cp "$tmp/kept" "$tmp/$coordinator.plan"
    done
    holds "the coordinator ann has the smaller half" grep -qE "^[^ ]+ +Conv .* 0\.\.12 .* 12\.\.25 " "$tmp/ann.plan"
    holds "the coordinator bob has it, too" grep -qE "^[^ ]+ +Conv .* 0\.\.13 .* 13\.\.25 " "$tmp/bob.plan"
    cluster '"link_bytes_per_us": 100000, "message_us": 1' >"$tmp/fast.json"
    cluster '"message_us": 100000' >"$tmp/slow.json"
    succeeds "plan of a cluster" "a coordinator takes 3$" \
        plan $superres --config="$tmp/fast.json" --shape 1x3x180x180
    printed "its nodes have names" "^operator .* ann +bob +eve "
    printed "and their weights" "^[^ ]+ +Conv .* 0\.\.(3[4-9]|4[0-9]) .* (6[6-9]|7[0-9])\.\.180 "
    succeeds "its halos are the file's" "SEND .* to node 1 \([0-9]+ bytes of q8\)" \
        plan $superres --config="$tmp/fast.json" --shape 1x3x180x180 --programs
    succeeds "unless the command line says otherwise" "SEND .* to node 1 \([0-9]+ bytes of q4\)" \
        plan $superres --config="$tmp/fast.json" --shape 1x3x180x180 --programs --halo q4
    succeeds "its costs are the file's" "on 3; a coordinator takes 1$" \
        plan $superres --config="$tmp/slow.json" --shape 1x3x180x180
    printed "and who is left out is not shown" "^operator +type +rows x cols x chans +eve +recomputed$"
    succeeds "check of a cluster" "^superres.onnx runs on 3 nodes: " \
        check $superres --config="$tmp/fast.json" --shape 1x3x180x180
    misused "a cluster, and a number of nodes" "neither --local nor --weights" \
        plan $superres --config="$tmp/fast.json" --local 3 --shape 1x3x180x180
    fails "no such cluster" "none.json" plan $superres --config="$tmp/none.json" --shape 1x3x180x180
}

planning() {
    succeeds "plan" "^per frame: [0-9]+ bytes in [0-9]+ messages between nodes" \
        plan $superres --local 4 --shape 1x3x180x180
    succeeds "plan of one node has no halo" "^per frame: 0 bytes in 0 messages" \
        plan $superres --shape image=1x3x180x180
    succeeds "plan of one of four" "node 2" plan $superres --local 4 --shape 1x3x180x180 --node 2
    did_not_print "plan of one node shows no other" "node 1"
    printed "it says with how many nodes a frame takes least" "^estimates: .* ms on 1, .* ms on 4; a coordinator takes [1-4]$"
    succeeds "programs" "^ *RUN " plan $superres --local 2 --shape 1x3x180x180 --programs
    succeeds "programs with coarse halos" "SEND .* to node 1 \([0-9]+ bytes of q4\)" \
        plan $superres --local 2 --shape 1x3x180x180 --programs --halo q4
    succeeds "plan as JSON" '"halo_bytes":' plan $superres --local 2 --shape 1x3x180x180 --json
    printed "with every message" '"from":'
    printed "and what nodes own" '"owns":'
    planning_for_a_cluster
    succeeds "more nodes than rows" "node 15" plan $superres --local 16 --shape 1x3x5x5
}

checking() {
    succeeds "check" "^fashion.onnx runs on 1 node: [0-9]+ operators .* MB weights" check $fashion
    succeeds "check of four nodes" "^superres.onnx runs on 4 nodes: " \
        check $superres --local 4 --shape 1x3x180x180
    printed "its operators are cut into rows" "Conv +Conv +rows +[45][0-9] of 180 rows "
    printed "its activations are folded" "Relu +folded"
    printed "its nodes have memory" "^3 +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+$"
    refuses "check: open extents" "superres.onnx cannot run: .*axis 2" check $superres
    refuses "check: missing" "none.onnx cannot run: .*No such file" check "$tmp/none.onnx"
    sed 's/\x04Relu/\x04Rolu/' $fashion >"$tmp/rolu.onnx"
    refuses "check: unknown operator" "rolu.onnx cannot run: .*Rolu.* is not supported" check "$tmp/rolu.onnx"
    printed "the unknown operator is named" "^Rolu +[0-9]+ +NO$"
    printed "known operators are named" "^Conv +[0-9]+ +yes$"
}

calibrating() {
    local dir=$tmp/calibrated boot=conf/demo/fashion/9-ankle-boot.png
    mkdir "$dir"
    cp $fashion conf/demo/fashion.json "$dir"
    for picture in conf/demo/fashion/*.png; do
        printf '%s\t%d\n' "$(basename "$picture")" "$(basename "$picture" | cut -c1)"
    done >"$dir/labels.tsv"
    fails "tq of a model without a halo file" "run splitctl calibrate first" \
        run "$dir/fashion.onnx" $boot --local 2 --halo tq
    succeeds "calibrate" "on 5 held out: .* points lost" calibrate "$dir/fashion.onnx" --local 2 --video \
        --images conf/demo/fashion --labels "$dir/labels.tsv" --budget 5%
    printed "what it saves" "bytes a frame between 2 nodes in place of [0-9]+ "
    printed "what plain modes cost" "^q8 keeps to the budget there, q4 (keeps to|exceeds) it$"
    holds "the file vouches for q8" grep -q '"within":.*"q8"' "$dir/fashion.halo.json"
    succeeds "calibrate for almost no loss" "^q8 exceeds the budget there, q4 exceeds it$" \
        calibrate "$dir/fashion.onnx" --local 4 --images conf/demo/fashion --budget 0.0001% --gamma -o "$tmp/strict.json"
    holds "then the file vouches for nothing" grep -q '"within":.*\[\]' "$tmp/strict.json"
    for halo in tq video drop f32; do
        succeeds "run with halos of $halo" "ankle boot" run "$dir/fashion.onnx" $boot --local 2 --halo $halo
    done
    succeeds "a halo file is used" "SEND .* bytes of tq" plan "$dir/fashion.onnx" --local 2 --programs
    succeeds "unless something else is asked for" "SEND " \
        plan "$dir/fashion.onnx" --local 2 --programs --halo q8
    did_not_print "what was asked for is used" "bytes of tq"
    run run "$dir/fashion.onnx" $boot --local 3
    cp "$tmp/err" "$tmp/note"
    holds "for other nodes there is a note" grep -q "calibrated for 2 nodes, not for 3" "$tmp/note"
    sed -i 's/"step":\t\([0-9]*\)\.\([0-9]\)/"step":\t\1.9\2/' "$dir/fashion.halo.json"
    fails "a damaged halo file" "is damaged" run "$dir/fashion.onnx" $boot --local 2
    succeeds "which nobody asks for" "ankle boot" run "$dir/fashion.onnx" $boot --local 2 --halo f32
    printf '\240\006\000' >>"$dir/fashion.onnx" # a field that nobody knows
    fails "of another model" "another model file" run "$dir/fashion.onnx" $boot --local 2
    fails "pictures of two sizes" "has another size" calibrate $superres --local 2 --images conf/demo \
        -o "$tmp/x.json"
    fails "no pictures" "no .jpg, .png or .npy" calibrate $superres --local 2 --images conf/sidecars
}

# A network that answers with three maps stands in for one that segments.
tasks() {
    local dogs=conf/demo/dogs.png
    printf '{ "task": "segment", "labels": ["red", "green"], "input": { "resize": "none" } }\n' >"$tmp/segment.json"
    printf '{ "task": "detect", "detect": { "decoder": "yolox" } }\n' >"$tmp/detect.json"
    succeeds "segments" "dogs.png +(1.000|\.[0-9]{3})  (red|green)? ?\([012]\)$" \
        run $superres $dogs --sidecar "$tmp/segment.json" -o "$tmp/tasks"
    holds "a picture of the segments" "$splitctl" psnr "$tmp/tasks/dogs.png" $dogs
    holds "a map of the classes" test -s "$tmp/tasks/dogs.classes.png"
    succeeds "segments as JSON" '"classes":.*"class_map":".*/dogs.classes.png"' \
        run $superres $dogs --sidecar "$tmp/segment.json" -o "$tmp/tasks" --json
    fails "outputs that are no boxes" "the sidecar's decoder expects" \
        run $superres $dogs --sidecar "$tmp/detect.json"
    cp $dogs "$tmp/classified.png"
    succeeds "classes on the picture" "-> $tmp/tasks/classified.png" \
        run $fashion "$tmp/classified.png" -o "$tmp/tasks"
    if [ ! -d ../shared/models ]; then
        echo "skipped: detectors, there is no ../shared/models"
        return
    fi
    succeeds "boxes" "dog.jpg +\.[0-9]+  dog \(16\)  1[23][0-9],20[0-9] 32[0-9],54[0-9]$" run \
        ../shared/models/yolox_nano.onnx --sidecar conf/sidecars/yolox_nano.json --local 2 \
        ../shared/data/photos/dog.jpg -o "$tmp/tasks"
    holds "boxes on the picture" test -s "$tmp/tasks/dog.png"
    succeeds "boxes as JSON" '"detections":\[\{"label":"dog","index":16,"score":0.8' run --json \
        ../shared/models/yolox_nano.onnx --sidecar conf/sidecars/yolox_nano.json \
        ../shared/data/photos/dog.jpg
    succeeds "outputs in another order" "839 .* holds" compare ../shared/models/nanodet_m_320.onnx \
        --input ../shared/golden/nanodet_m_320/input.npy \
        --expect ../shared/golden/nanodet_m_320/output_{5,4,3,2,1,0}.npy
}

server() {
    local gone=http://127.0.0.1:9
    fails "no server" "$gone: cannot be reached" infer conf/demo/dogs.png --server $gone --timeout 0.3
    fails "no server for status" "$gone: cannot be reached" status --server $gone --timeout 0.3
    fails "no host" "is no http:// or https:// URL" status --server http://
    fails "not HTTP" "is no http:// or https:// URL" status --server ftp://127.0.0.1
    fails "no such host" "cannot be reached" status --server http://no.such.host.invalid --timeout 5
    fails "an empty URL" "URL is empty" status --server ""
}

help_and_version
usage
models
tensors
pictures
running
tracing
comparing
planning
checking
calibrating
tasks
server
echo "$passed passed, $failed failed"
[ $failed = 0 ]
