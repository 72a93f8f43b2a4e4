#!/bin/bash
# Runs as root inside a container that has just booted Debian: the life of the service from the
# installation to the purge.  Called by run.sh; /packages has the .deb files, /demo models and pictures.
set -u

passed=0 failed=0
pass() {
    passed=$((passed + 1))
    echo "ok: $1"
}
fail() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    [ -z "${2:-}" ] || printf '%s\n' "$2" | tail -12 | sed 's/^/    /'
}

# holds NAME COMMAND...
holds() {
    local name=$1 text
    shift
    if text=$("$@" 2>&1); then pass "$name"; else fail "$name" "$text"; fi
}

# soon SECONDS COMMAND...: the command succeeds within this time.
soon() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.2
    done
}

property() { systemctl show -P "$1" "$2"; }
is() { [ "$(property "$1" "$2")" = "$3" ]; }
more_restarts() { [ "$(property NRestarts splitd)" -gt "$1" ]; }
status_says() { [[ $(property StatusText splitd) =~ ^$1$ ]]; }
# Lines of the daemon's journal of at least this importance.
journal_says() {
    journalctl --sync
    journalctl -u splitd -p "$1" -o cat | grep -qE "$2"
}

install_packages() { apt-get install -y -q "$@"; }
answers() {
    splitctl status --wait 30 >/dev/null && splitctl infer -m "$1" /demo/fashion/1-trouser.png --top 1 | grep trouser
}

# ---- as installed: one node, for this machine only
holds "installs" install_packages /packages/*.deb
holds "runs after the installation" soon 10 is ActiveState splitd active
holds "is enabled" systemctl is-enabled splitd
holds "says its status" soon 5 status_says 'epoch [0-9]+, 1 of 1 nodes'
holds "answers splitctl" splitctl status --wait 10
holds "has man pages" man -w splitd cluster.json model.json splitctl
holds "is completed by bash" bash -c \
    '. /usr/share/bash-completion/bash_completion; _completion_loader splitctl; complete -p splitctl'
pid=$(property MainPID splitd)
holds "is not root" test "$(stat -c %u "/proc/$pid")" -gt 60000
holds "may not gain rights" grep -q '^NoNewPrivs:.*1' "/proc/$pid/status"
holds "filters system calls" grep -q '^Seccomp:.*2' "/proc/$pid/status"
holds "cannot write outside its folder" bash -c \
    "! nsenter -t $pid -m touch /etc/x /usr/x /var/x 2>/dev/null"
systemd-analyze security --no-pager splitd | tail -1
holds "is exposed no more than 1.5" systemd-analyze security --no-pager --threshold=15 splitd

# ---- two instances on loopback
# shellcheck disable=SC2016  # the unit's variable
sed -e 's|^StateDirectory=.*|StateDirectory=splitd-n2|' -e 's|\$SPLITD_OPTIONS|--node n2|' \
    /lib/systemd/system/splitd.service >/etc/systemd/system/splitd-n2.service
echo 'SPLITD_OPTIONS="--node n1"' >/etc/default/splitd
cp /demo/fashion.onnx /demo/fashion.json /var/lib/splitd/models/
cat >/etc/splitd/cluster.json <<'EOF'
{ "cluster": "attic", "coordinator": "n1",
  "nodes": [ { "name": "n1", "address": "tcp://127.0.0.1:7071" },
             { "name": "n2", "address": "tcp://127.0.0.1:7072" } ],
  "models": [ { "name": "fashion", "file": "/var/lib/splitd/models/fashion.onnx" } ] }
EOF
cp /etc/splitd/cluster.json /root/good.json
systemctl daemon-reload
holds "two instances start" systemctl restart splitd splitd-n2
holds "answers a picture" answers fashion
holds "says how many nodes there are" soon 5 status_says 'epoch [0-9]+, 2 of 2 nodes, fashion'
holds "the other says it too" bash -c "systemctl show -P StatusText splitd-n2 | grep -qx 'n2 of attic, 1 of 1 links'"

# ---- what may happen to it
n=$(property NRestarts splitd)
kill -KILL "$(property MainPID splitd)"
holds "is restarted when killed" soon 10 more_restarts "$n"
holds "answers after that" answers fashion

n=$(property NRestarts splitd) start=$SECONDS
kill -STOP "$(property MainPID splitd)"
holds "is restarted when it hangs" soon 40 more_restarts "$n"
echo "restarted $((SECONDS - start)) s after it hung"
holds "the watchdog did that" bash -c 'journalctl --sync; journalctl _PID=1 -o cat | grep -i "splitd.service: watchdog timeout"'
holds "answers after that" answers fashion

# ---- reload
n=$(property NRestarts splitd) pid=$(property MainPID splitd)
echo '{ "cluster": "attic" ' >/etc/splitd/cluster.json
holds "takes a reload" systemctl reload splitd
holds "refuses a bad configuration" soon 5 journal_says err '^error reload-refused .*not JSON'
holds "goes on with the old one" answers fashion
sed 's/"name": "fashion"/"name": "clothes"/' /root/good.json >/etc/splitd/cluster.json
holds "takes another reload" systemctl reload splitd
holds "takes a good configuration" soon 10 journal_says info '^info reloaded '
holds "serves under the new name" answers clothes
holds "says so" soon 5 status_says '.*, 2 of 2 nodes, clothes'
holds "is the same process" is MainPID splitd "$pid"
holds "was not restarted" is NRestarts splitd "$n"
holds "writes priorities, not their marks" bash -c \
    'journalctl -u splitd -p info -o cat | grep -q "^info ready" && ! journalctl -u splitd -o cat | grep -q "^<"'

# ---- a configuration that is refused at the start stays refused
echo '{' >/etc/splitd/cluster.json
systemctl restart splitd
sleep 5
holds "does not try a bad configuration again" is ActiveState splitd failed
holds "tried it once" is NRestarts splitd 0
holds "says why" journal_says err '^splitd: /etc/splitd/cluster.json:1: not JSON'
cp /root/good.json /etc/splitd/cluster.json

# ---- keys
echo secret >/etc/splitd/tls/key.pem
chmod 600 /etc/splitd/tls/key.pem
holds "starts with a key" systemctl restart splitd
pid=$(property MainPID splitd)
holds "is handed the key" nsenter -t "$pid" -m -S "$(stat -c %u "/proc/$pid")" \
    grep -qx secret /run/credentials/splitd.service/tls_key.pem
holds "cannot read root's" bash -c \
    "! nsenter -t $pid -m -S $(stat -c %u "/proc/$pid") cat /etc/splitd/tls/key.pem 2>/dev/null"

# ---- a later version
mkdir /root/next
dpkg-deb -R /packages/splitd_*.deb /root/next
sed -i 's/^Version: .*/&+next/' /root/next/DEBIAN/control
dpkg-deb -b /root/next /root/next.deb >/dev/null
holds "upgrades" install_packages /root/next.deb
holds "an upgrade keeps the configuration" cmp /etc/splitd/cluster.json /root/good.json
holds "an upgrade starts the new one" bash -c "systemctl is-active splitd && [ $pid != \$(systemctl show -P MainPID splitd) ]"
holds "answers after an upgrade" answers fashion

# ---- the end
systemctl stop splitd-n2
rm -r /etc/systemd/system/splitd-n2.service /etc/default/splitd /etc/splitd/tls/key.pem
holds "is removed" apt-get remove -y -q splitd
holds "is gone" bash -c '! systemctl is-active splitd && ! pidof splitd'
holds "its configuration stays" cmp /etc/splitd/cluster.json /root/good.json
holds "is purged" apt-get purge -y -q splitd splitctl
for path in /etc/splitd /var/lib/splitd /var/lib/private/splitd /usr/sbin/splitd /usr/bin/splitctl \
    /lib/systemd/system/splitd.service /etc/systemd/system/multi-user.target.wants/splitd.service \
    /usr/share/doc/splitd; do
    holds "a purge leaves no $path" test ! -e "$path"
done

echo "$passed passed, $failed failed"
