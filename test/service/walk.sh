#!/bin/bash
# The README's ten minutes, as a new user walks them, with two containers in place of two Pis: the
# packages are installed over ssh, the nodes find each other by mDNS, splitctl init's own commands are
# run as they are printed, and a picture is asked for; then the same with --tls.  What is typed and
# what is answered goes to build/service/walk.txt; one such walk is kept in test/service/ten-minutes.txt.
#
#   test/service/walk.sh     from the project's root, after make deb; needs root
set -u
here=$(dirname "$0")
# shellcheck source=test/service/container.sh
. "$here/container.sh"

place=$PWD/build/service
packages=$place/packages
tmp=$(mktemp -d "${TMPDIR:-/tmp}/splitd-walk-XXXXXX")
space=splitd-walk-$$
pids=() failed=0 passed=0
finish() {
    trap '' INT TERM
    local name pid
    for name in pi1 pi2; do # ends PID 1 of each container
        for pid in $(ip netns pids "$space-$name" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
    done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
    for name in pi1 pi2 user; do ip netns delete "$space-$name" 2>/dev/null; done
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- two machines and a user on one switch, all in namespaces of their own
mkdir -p "$packages"
rm -f "$packages"/*
cp build/*_"$(dpkg --print-architecture)".deb "$packages/"
container_root "$place/bookworm" bookworm "$packages" || exit 1
ssh-keygen -q -t ed25519 -N '' -f "$tmp/key"
ip netns add "$space-user"
ip -n "$space-user" link add switch type bridge
ip -n "$space-user" addr add 10.0.0.1/24 dev switch
ip -n "$space-user" link set switch up
for i in 1 2; do
    ip netns add "$space-pi$i"
    ip -n "$space-user" link add "port$i" type veth peer name eth0 netns "$space-pi$i"
    ip -n "$space-user" link set "port$i" master switch up
    ip -n "$space-pi$i" addr add "10.0.0.1$i/24" dev eth0
    ip -n "$space-pi$i" link set eth0 up
    ip -n "$space-pi$i" link set lo up
    cp -a "$place/bookworm" "$tmp/pi$i"
    echo raspberrypi >"$tmp/pi$i/etc/hostname"
    echo "127.0.1.1 raspberrypi" >>"$tmp/pi$i/etc/hosts"
    install -d -m 700 "$tmp/pi$i/root/.ssh"
    cp "$tmp/key.pub" "$tmp/pi$i/root/.ssh/authorized_keys"
    container_boot "$tmp/pi$i" --network-namespace-path="/run/netns/$space-pi$i" --hostname=raspberrypi &
    pids+=($!)
done

# ---- the user's side
cat >"$tmp/ssh_config" <<EOF
Host *
    User root
    IdentityFile $tmp/key
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
    RequestTTY no
EOF
mkdir "$tmp/bin" "$tmp/user" "$tmp/user/build"
for program in ssh scp; do
    printf '#!/bin/sh\nexec /usr/bin/%s -F %s "$@"\n' $program "$tmp/ssh_config" >"$tmp/bin/$program"
done
chmod +x "$tmp/bin"/*
cp "$packages"/*.deb conf/demo/superres.onnx conf/demo/superres.json conf/demo/dogs.png "$tmp/user/"
for deb in "$packages"/*.deb; do dpkg-deb -x "$deb" "$tmp/tools"; done
transcript=$place/walk.txt
: >"$transcript"

# types COMMAND: as the user, into the transcript.
types() {
    local code
    echo "\$ $1" >>"$transcript"
    (cd "$tmp/user" && PATH=$tmp/bin:$tmp/tools/usr/bin:$PATH ip netns exec "$space-user" bash -c "$1") \
        </dev/null >"$tmp/said" 2>&1
    code=$?
    sed 's/^/    /' "$tmp/said" >>"$transcript"
    return $code
}
# verdict NAME CODE: on what was typed last.
verdict() {
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1"
        tail -8 "$tmp/said" | sed 's/^/    /'
    fi
}
# step NAME COMMAND
step() {
    types "$2"
    verdict "$1" $?
}
# steps_of INIT: what it printed, as it printed it.
steps_of() {
    local command
    grep -E '^    (scp|ssh|rm) ' "$tmp/said" | sed 's/^    //' >"$tmp/commands"
    [ -s "$tmp/commands" ]
    verdict "$1 prints commands" $?
    while read -r command; do
        step "the printed command: $command" "$command"
    done <"$tmp/commands"
}

left=100
until types 'ssh 10.0.0.11 true && ssh 10.0.0.12 true'; do
    left=$((left - 1))
    [ $left -gt 0 ] || { echo "FAILED: the containers do not boot"; break; }
    sleep 0.3
done
: >"$transcript"
start=$SECONDS
for pi in 10.0.0.11 10.0.0.12; do
    step "the packages reach $pi" "scp *.deb $pi:"
    step "they install on $pi" "ssh $pi 'apt install -y ./splitd_*.deb ./splitctl_*.deb 2>&1 | tail -3; systemctl is-active splitd'"
done
for pi in 10.0.0.11 10.0.0.12; do
    step "$pi announces itself" "ssh $pi 'cp /usr/share/doc/splitd/examples/avahi/splitd.service /etc/avahi/services/'"
done
# Two machines of one name take a moment to agree who is the second.
for ((left = 20; left > 0; left--)); do
    types "ssh 10.0.0.11 splitctl init --discover"
    grep -qE -- '--nodes raspberrypi=10\.0\.0\.1[12],raspberrypi-2=10\.0\.0\.1[12] ' "$tmp/said" && break
    sed -i '/init --discover/,$d' "$transcript"
    sleep 0.5
done
[ $left -gt 0 ] && ! grep -q announcements "$tmp/said"
verdict "they find each other, and nothing else" $?
step "init" "splitctl init --nodes pi1=10.0.0.11,pi2=10.0.0.12 --model superres.onnx"
steps_of "init"
step "a picture" "scp dogs.png 10.0.0.11: && ssh 10.0.0.11 splitctl infer dogs.png -o larger.png"
step "the picture is what it should be" \
    "scp 10.0.0.11:larger.png . && splitctl run superres.onnx dogs.png -o here && splitctl psnr larger.png here/dogs.png"
step "top" "ssh 10.0.0.11 splitctl top --count 1"
step "the other node's doctor" "ssh 10.0.0.12 splitctl doctor"
step "its status" "ssh 10.0.0.11 systemctl status splitd --no-pager --lines 0 | grep Status"
step "init --tls" "splitctl init --tls --force --nodes pi1=10.0.0.11,pi2=10.0.0.12 --model superres.onnx"
steps_of "init --tls"
secretly="--server https://127.0.0.1:8080 --ca /etc/splitd/tls/ca.pem"
step "a picture, encrypted" "ssh 10.0.0.11 splitctl infer $secretly dogs.png -o secret.png"
step "it is the same picture" "ssh 10.0.0.11 cmp larger.png secret.png"
step "uninstall" "ssh 10.0.0.12 'apt purge -y splitd splitctl 2>&1 | tail -1; test ! -e /etc/splitd -a ! -e /var/lib/splitd'"
echo "$((SECONDS - start)) s in all" >>"$transcript"
for i in 1 2; do
    ip netns exec "$space-user" "$tmp/bin/ssh" "10.0.0.1$i" poweroff >/dev/null 2>&1
done

echo "transcript: $transcript"
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 10 ]
