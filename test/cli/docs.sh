#!/bin/bash
# The man pages, the completion and the examples say what the programs do: every command, option,
# setting and variable of the code is in the pages, and nothing else.
#
#   test/cli/docs.sh [BUILD]     from the project's root, after make
set -u

build=$PWD/${1:-build}
passed=0 failed=0 skipped=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    [ -z "${2:-}" ] || printf '%s\n' "$2" | head -8 | sed 's/^/    /'
}

# same NAME FILE FILE: two lists of words, each sorted here.  An empty one is a fault of this test.
same() {
    sort -u "$2" >"$tmp/left"
    sort -u "$3" >"$tmp/right"
    if [ ! -s "$tmp/left" ]; then
        fail "$1: nothing found"
    elif diff "$tmp/left" "$tmp/right" >"$tmp/diff"; then
        pass
    else
        fail "$1 (<: only in the program, >: only in the page)" "$(grep '^[<>]' "$tmp/diff")"
    fi
}

# options_of PROGRAM ARGUMENT...: the long options that its --help lists, but for argp's own.
options_of() {
    "$@" --help | grep -oE '^ +(-[a-zA-Z], +)?--[a-z-]+' | grep -oE -- '--[a-z-]+' |
        grep -vxE -- '--(help|usage|version)'
}

# section PAGE HEADING: its lines up to the next heading.
section() { awk -v h="$2" 'index($0, h) == 1 { on = 1; next } /^#/ { on = 0 } on' "conf/man/$1.scd"; }

# The options that lines on stdin define: *--name* in bold.
defined() { grep -E '^\*-' | grep -oE '\*--[a-z-]+\*' | tr -d '*' | grep -vxE -- '--(help|usage|version)'; }

commands=$("$build/splitctl" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
for command in $commands; do
    # A command that has no options needs none in its section.
    { echo "$command"; options_of "$build/splitctl" "$command"; } >"$tmp/program"
    { grep -oE "^## splitctl $command( |\$)" conf/man/splitctl.1.scd | awk '{ print $3 }'
        section splitctl.1 "## splitctl $command " | defined; } >"$tmp/page"
    same "splitctl(1): $command" "$tmp/program" "$tmp/page"
done
grep -oE '^## splitctl [a-z]+' conf/man/splitctl.1.scd | awk '{ print $3 }' >"$tmp/page"
echo "$commands" >"$tmp/program"
same "splitctl(1): commands" "$tmp/program" "$tmp/page"

options_of "$build/splitd" >"$tmp/program"
section splitd.8 "# OPTIONS" | defined >"$tmp/page"
same "splitd(8): options" "$tmp/program" "$tmp/page"

# Settings are the rows of tables in the code, and '*name*: type' in the pages.
settings() { grep -E '^	*\*[a-z_]+\*[:,]' "conf/man/$1.scd" | grep -oE '\*[a-z_]+\*[:,]' | tr -d '*:,'; }
sed -nE 's/^    \{ "([a-z_]+)", set_.*/\1/p' daemon/config*.c >"$tmp/program"
settings cluster.json.5 >"$tmp/page"
same "cluster.json(5): settings" "$tmp/program" "$tmp/page"
sed -nE 's/^    \{ "([a-z_]+)", [A-Z_]+, (AT|\.).*/\1/p' libsplit/sidecar*.c >"$tmp/program"
settings model.json.5 >"$tmp/page"
same "model.json(5): settings" "$tmp/program" "$tmp/page"

grep -hoE 'getenv\("[A-Z_]+"\)|number_in\("[A-Z_]+"\)' {daemon,libsplit,quant,tiling,proto,cli}/*.c |
    grep -oE '[A-Z_]{3,}' >"$tmp/program"
for page in conf/man/*.scd; do section "$(basename "$page" .scd)" "# ENVIRONMENT"; done |
    grep -E '^\*[A-Z_]' | grep -oE '[A-Z_]{3,}' >"$tmp/page"
same "environment variables" "$tmp/program" "$tmp/page"

# Events: what log_event() is called with, and what it gets through greeting_failed().
{ grep -hPzo 'log_event\([^",]*,\s*"\K[a-z-]+' daemon/*.c
    grep -hPzo 'greeting_failed\([^;]*;' daemon/*.c | grep -aoE '"[a-z]+(-[a-z]+)+"'; } |
    tr -d '"' | tr '\0' '\n' >"$tmp/program"
section splitd.8 "# EVENTS" | grep -E '^\*' | grep -oE '\*[a-z-]+\*' | tr -d '*' >"$tmp/page"
same "splitd(8): events" "$tmp/program" "$tmp/page"

# Pages render without a warning.
if command -v scdoc >/dev/null && command -v man >/dev/null; then
    for page in conf/man/*.scd; do
        name=$(basename "$page" .scd)
        if scdoc <"$page" >"$tmp/$name" 2>"$tmp/err" &&
            LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$tmp/$name" \
                >/dev/null 2>>"$tmp/err" && [ ! -s "$tmp/err" ]; then
            pass
        else
            fail "$name does not render" "$(cat "$tmp/err")"
        fi
    done
else
    skipped=$((skipped + 1))
    echo "skipped: scdoc or man is not installed"
fi

# Completion offers what --help lists.
# completes NAME EXPECTED WORD...: the last word is the one that is completed.
completes() {
    local name=$1
    printf '%s\n' "$2" >"$tmp/program"
    shift 2
    PATH=$build:$PATH bash -c '. /usr/share/bash-completion/bash_completion; . conf/completion/splitctl
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        _splitctl "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
        printf "%s\n" "${COMPREPLY[@]}"' _ "$@" >"$tmp/page"
    same "completion: $name" "$tmp/program" "$tmp/page"
}
if [ -e /usr/share/bash-completion/bash_completion ]; then
    completes "commands" "$commands" splitctl ''
    completes "a command" status splitctl statu
    for command in $commands; do
        completes "options of $command" "$("$build/splitctl" "$command" --help | grep -oE -- '--[a-z][a-z-]*=?')" \
            splitctl "$command" --
    done
    completes "values of --halo" "$(printf '%s\n' f32 f16 q8 q4 tq video drop)" splitctl run --halo ''
    completes "models" conf/demo/fashion.onnx splitctl run conf/demo/fashion.o
else
    skipped=$((skipped + 1))
    echo "skipped: bash-completion is not installed"
fi

# The examples are what splitd takes.
for file in conf/*.json; do
    node=$(sed -n 's/.*"coordinator": "\([^"]*\)".*/\1/p' "$file")
    if "$build/splitd" --check --config "$file" --node "$node" >"$tmp/out" 2>&1; then
        pass
    else
        fail "$file" "$(cat "$tmp/out")"
    fi
done

line="$passed passed, $failed failed"
[ $skipped = 0 ] || line+=", $skipped skipped"
echo "$line"
[ $failed = 0 ]
