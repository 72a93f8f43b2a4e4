#!/bin/bash
# splitctl init and doctor.  The machines that doctor sees are folders with a /sys and /proc of our
# own, the nodes that answer it are a few lines of Perl.
#
#   test/cli/doctor.sh [BUILD]     from the project's root, after make
set -u

build=$PWD/${1:-build}
splitctl=$build/splitctl
fashion=$PWD/conf/demo/fashion.onnx
passed=0 failed=0 servers=()
tmp=$(mktemp -d)
finish() {
    [ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
export no_proxy=127.0.0.1
unset SPLITD_SERVER

pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    sed 's/^/    /' "$tmp/out" "$tmp/err" | head -12
}

# ---- init

# writes NAME REGEX ARGUMENT...: exit code 0, and the file or what is printed has such a line.
writes() {
    local name=$1 regex=$2
    shift 2
    rm -f "$tmp/cluster.json"
    if (cd "$tmp" && "$splitctl" init "$@") >"$tmp/out" 2>"$tmp/err" && "$build/splitd" --check --config "$tmp/cluster.json" --node pi1 >>"$tmp/err" 2>&1 &&
        cat "$tmp/cluster.json" "$tmp/out" | grep -qE -- "$regex"; then
        pass
    else
        fail "init: $name"
    fi
}

# refuses NAME CODE REGEX ARGUMENT...: one sentence.
refuses() {
    local name=$1 code=$2 regex=$3
    shift 3
    (cd "$tmp" && "$splitctl" init "$@") >"$tmp/out" 2>"$tmp/err"
    if [ $? = "$code" ] && grep -qE -- "$regex" "$tmp/err"; then pass; else fail "init: $name"; fi
}

pis=pi1=10.0.0.11,pi2=10.0.0.12
mkdir "$tmp/models"
cp "$fashion" "$tmp/models/My_Model.v2.onnx"
echo '{ "task": "classify", "labels": "words.txt" }' >"$tmp/models/My_Model.v2.json"
printf 'a\nb\n' >"$tmp/models/words.txt"

writes "an address" '"name": "pi2", "address": "tcp://10.0.0.12:7070"' --nodes $pis
writes "the first node coordinates" '"coordinator": "pi1"' --nodes $pis
writes "another coordinates" '"coordinator": "pi2"' --nodes $pis --coordinator pi2
writes "no encryption is said" '"insecure": true' --nodes $pis
writes "a name is a host" 'tcp://pi2.local:7070' --nodes pi1=10.0.0.11,pi2=pi2.local
writes "another port" 'tcp://10.0.0.11:9000' --nodes $pis --port 9000
writes "an IPv6 address" 'scp cluster.json \[fd00::1\]:' --nodes 'pi1=[fd00::1]'
writes "a model" '"name": "my_model.v2", "file": "/var/lib/splitd/models/My_Model.v2.onnx"' \
    --nodes $pis --model models/My_Model.v2.onnx
writes "its files are copied" \
    'scp models/My_Model.v2.onnx models/My_Model.v2.json models/words.txt pi@10.0.0.11:$' \
    --nodes $pis --model models/My_Model.v2.onnx --user pi
writes "the file is brought to every node" "^    ssh -t 10.0.0.12 'sudo install .* restart splitd'" --nodes $pis
writes "loopback needs no permission" '"listen": "127.0.0.1:8080" } }' --nodes pi1=127.0.0.1
refuses "a file that is there" 1 'already: --force' --nodes $pis
writes "another file in its place" '"cluster": "attic"' --nodes $pis --cluster attic --force
rm -f "$tmp/cluster.json"
refuses "no nodes" 2 '--nodes is missing'
refuses "a node without address" 1 'expected NAME=HOST' --nodes pi1=
refuses "a node twice" 1 'is nodes\[0\] already' --nodes pi1=10.0.0.11,pi1=10.0.0.12
refuses "an address twice" 1 'already' --nodes pi1=10.0.0.11,pi2=10.0.0.11
refuses "an unknown coordinator" 1 'pi9.*is not one of the nodes' --nodes $pis --coordinator pi9
refuses "a host that is none" 1 'nodes\[0\].address' --nodes 'pi1=a b'
refuses "a model that is missing" 1 'none.onnx: No such file' --nodes $pis --model none.onnx
echo '{ "task": "sing" }' >"$tmp/models/My_Model.v2.json"
refuses "a sidecar that is wrong" 1 'My_Model.v2.json: task' --nodes $pis --model models/My_Model.v2.onnx
cp "$fashion" "$tmp/models/a b.onnx"
refuses "a name for no shell" 1 'rename it' --nodes $pis --model "models/a b.onnx"
refuses "seventeen nodes" 1 'more than 16' --nodes "$(seq -s, -f 'n%g' 17)"
[ -e "$tmp/cluster.json" ] && fail "init: a file was written though something was refused"

# ---- init --tls

# holds NAME CODE: 0 is well.
holds() { if [ "$2" = 0 ]; then pass; else fail "init: $1"; fi; }
writes "TLS" '"key": "/etc/splitd/tls/node.key" } }' --nodes $pis --tls
writes "keys are brought along" '^    scp -r cluster.json pki/pi2 10.0.0.12:$' --nodes $pis --tls
writes "keys are for root only" "^    ssh -t 10.0.0.12 'sudo install -m 600 -t /etc/splitd/tls pi2/\* && rm -r pi2 && " \
    --nodes $pis --tls
writes "the API is asked over TLS" 'sudo splitctl status --wait 60 --server https://127.0.0.1:8080 --ca /etc/splitd/tls/ca.pem$' \
    --nodes $pis --tls
# What an earlier init made stays, and a node may come.
cp "$tmp/pki/pi1/node.key" "$tmp/earlier.key"
writes "another node" 'pki/pi3' --nodes $pis,pi3=10.0.0.13 --tls
for node in pi1 pi2 pi3; do
    openssl verify -CAfile "$tmp/pki/ca.pem" -verify_ip 10.0.0.1${node#pi} "$tmp/pki/$node/node.pem" >"$tmp/out" 2>"$tmp/err" &&
        openssl verify -CAfile "$tmp/pki/ca.pem" -verify_hostname $node.splitd "$tmp/pki/$node/node.pem" >"$tmp/out" 2>"$tmp/err" &&
        [ "$(stat -c %a "$tmp/pki/$node") $(stat -c %a "$tmp/pki/$node/node.key")" = "700 600" ]
    holds "the certificate of $node" $?
done
cmp "$tmp/earlier.key" "$tmp/pki/pi1/node.key" >"$tmp/out" 2>"$tmp/err"
holds "keys stay" $?
rm -f "$tmp/cluster.json"
refuses "a name that goes into commands" 1 'expected letters, digits' --nodes 'pi1;reboot=10.0.0.11' --tls
[ -e "$tmp/cluster.json" ] && fail "init: a file was written though something was refused"
rm -r "$tmp/pki"

# ---- init --discover, with an avahi-browse of our own

mkdir "$tmp/bin"
# announces TEXT: what it prints.
announces() {
    printf '%s\n' '#!/bin/sh' "echo \"\$@\" >$tmp/asked" "$1" >"$tmp/bin/avahi-browse"
    chmod +x "$tmp/bin/avahi-browse"
}
# lists NAME CODE REGEX [PATH]: --discover ends so and says such a line, and never what a terminal obeys.
lists() {
    local got begin=$SECONDS
    PATH=${4:-$tmp/bin:$PATH} "$splitctl" init --discover >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if [ $got = "$2" ] && cat "$tmp/out" "$tmp/err" | grep -qE -- "$3" && [ $((SECONDS - begin)) -lt 15 ] &&
        ! cat "$tmp/out" "$tmp/err" | grep -qP '[^\x20-\x7e\n]'; then
        pass
    else
        fail "init --discover: $1: code $got"
    fi
}
here='_splitd._tcp;local;raspberrypi.local'
announces "cat <<'EOF'
+;eth0;IPv4;pi2;_splitd._tcp;local
=;eth0;IPv6;pi2;$here;fe80::1;7070;
=;eth0;IPv6;pi2;$here;fd00::2;7070;
=;lo;IPv4;pi2;$here;127.0.0.1;7070;
=;lo;IPv6;pi2;$here;::1;7070;
=;eth0;IPv4;pi2;$here;10.0.0.12;7070;\"a\" \"b;c\"
=;wlan0;IPv4;pi2;$here;10.9.9.9;7070;
=;eth0;IPv6;pi3;$here;fd00::3;7070;
=;eth0;IPv4;pi10;$here;10.0.0.20;7070;
EOF"
lists "nodes" 0 '^    splitctl init --nodes pi2=10.0.0.12,pi3=\[fd00::3\],pi10=10.0.0.20 --model FILE$'
grep -q announcements "$tmp/err"
holds "addresses for one machine or one interface are no others' announcements" $((!$?))
lists "a node" 0 '^pi3 +\[fd00::3\]$'
grep -qx -- '-rpt _splitd._tcp' "$tmp/asked"
holds "how avahi-browse is called" $?
[ -e "$tmp/cluster.json" ] && fail "init: --discover wrote a file"
announces "printf '=;eth0;IPv4;\\033[2Jpi1;$here;10.0.0.11;7070;\\n=;eth0;IPv4;pi\\\\\\\\0321;$here;10.0.0.11;7070;\\n'
printf '=;eth0;IPv4;pi1;$here;10.0.0.11\$(reboot);7070;\\n=;eth0;IPv4;-o;$here;10.0.0.11;7070;\\n=;eth0;IPv4\\n=\\n\\0;;;;\\n'
printf '=;eth0;IPv4;pi7;$here;10.0.0.17;7070;'"
lists "only what may be a node" 0 '^    splitctl init --nodes pi7=10.0.0.17 --model FILE$'
lists "what cannot be one is counted" 0 '^splitctl: 6 announcements'
announces "printf '=;eth0;IPv4;pi;$here;10.0.0.11;7070;\\n=;eth0;IPv4;pi-2;$here;10.0.0.12;7070;\\n'"
lists "two machines of one name" 0 '^pi-2 +10.0.0.12 +\(called like another one'
announces "i=0; while [ \$i -lt 40 ]; do echo '=;eth0;IPv4;n'\$i';$here;10.0.1.'\$i';7070;'; i=\$((i + 1)); done"
lists "no more than a cluster has" 0 '^splitctl: 24 announcements'
announces "yes '=;eth0;IPv4;pi1;$here;10.0.0.11;7070;'"
lists "no end" 0 'pi1=10.0.0.11 --model'
announces "echo '=;eth0;IPv4;pi1;$here;10.0.0.11;7070;'; exec sleep 60"
lists "a time limit" 0 'pi1=10.0.0.11 --model'
announces "exit 0"
lists "nobody" 1 '^splitctl: no node announces itself'
announces "echo 'Failed to create client object: Daemon not running' >&2; exit 1"
lists "no avahi-daemon" 1 '^splitctl: avahi-browse fails: does avahi-daemon run'
lists "no avahi-browse" 1 '^splitctl: avahi-browse is not installed: apt install avahi-utils' "$tmp"
refuses "two ways to say who" 2 '--discover goes without --nodes' --discover --nodes $pis

# ---- doctor: other nodes

# u8..u64 NUMBER, text TEXT: as printf escapes, little-endian.
uint() {
    local i
    for ((i = 0; i < $2; i++)); do printf '\\x%02x' $(($1 >> (8 * i) & 255)); done
}
text() { printf '%s%s' "$(uint ${#1} 1)" "$1"; }
bytes_of() { local i; for ((i = 0; i < ${#1}; i += 2)); do printf '\\x%s' "${1:i:2}"; done; }

# answer VERSION CLUSTER NODE SHA256 AHEAD-MS PROGRAM-VERSION: a HELLO_ACK of proto/hello.h, in place of
# whose clock is how far it is ahead: what is served tells the time when it is asked.
answer() {
    local body len
    body=$(uint 0 1)$(text "$2")$(text "$3")$(uint 7 8)$(bytes_of "$4")$(uint 4 2)
    body+="\\x00CLK"$(uint "$5" 4)$(text "$6")
    len=$(printf '%b' "$body" | wc -c)
    printf 'SPLT%s%s%s%s%s' "$(uint "$1" 1)" "$(uint 2 1)" "$(uint 0 18)" "$(uint "$len" 4)" "$body"
}

# serve PORT BYTES: answers whoever connects.
serve() {
    printf '%b' "$2" >"$tmp/answer.$1"
    perl -MIO::Socket::INET -MTime::HiRes=time -e '
        my ($port, $file) = @ARGV;
        my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 8, ReuseAddr => 1)
            or die "$port: $!";
        while (my $c = $s->accept) {
            open my $f, "<", $file; local $/; my $bytes = <$f>;
            $bytes =~ s/\0CLK(.{4})/pack "q<", 1000 * time() + unpack "l<", $1/es;
            sysread $c, my $question, 4096;
            syswrite $c, $bytes;
            close $c;
        }' "$1" "$tmp/answer.$1" 2>"$tmp/server.err" &
    servers+=($!)
    timeout 5 bash -c "until (: </dev/tcp/127.0.0.1/$1) 2>/dev/null; do sleep 0.05; done"
}

# free_port: on which nobody listens, below those that the kernel hands out itself.
free_port() {
    local port
    while :; do
        port=$((10000 + RANDOM % 20000))
        (: </dev/tcp/127.0.0.1/$port) 2>/dev/null || break
    done
    echo $port
}

p1=$(free_port) p2=$((p1 + 1)) none=$((p1 + 2))
cat >"$tmp/c.json" <<EOF
{ "cluster": "attic", "coordinator": "pi1", "insecure": true,
  "nodes": [ { "name": "pi1", "address": "tcp://127.0.0.1:$p1" },
             { "name": "pi2", "address": "tcp://127.0.0.1:$p2" } ],
  "http": { "listen": "127.0.0.1:$none" } }
EOF
sha=$(sha256sum <"$tmp/c.json" | cut -d' ' -f1)
version=$("$splitctl" --version | cut -d' ' -f2)
root=$tmp/machine
mkdir "$root"

# finds NAME CODE REGEX [ARGUMENT...]: doctor ends so and says such a line.
finds() {
    local name=$1 code=$2 regex=$3 got
    shift 3
    timeout 20 "$splitctl" doctor --config "$tmp/c.json" --node pi2 --root "$root" --timeout 0.5 "$@" \
        >"$tmp/out" 2>"$tmp/err"
    got=$?
    if [ $got = "$code" ] && grep -qE -- "$regex" "$tmp/out" && [ ! -s "$tmp/err" ]; then
        pass
    else
        fail "doctor: $name: code $got"
    fi
}
# answers NODE-NUMBER BYTES: what pi1 or pi2 answers from now on.
answers() { printf '%b' "$2" >"$tmp/answer.$((p1 + $1 - 1))"; }
good() { answers "$1" "$(answer 1 attic "pi$1" "$sha" 0 "$version")"; }

finds "nobody is there" 4 '^ERROR +nodes: pi1: the machine is there, but no splitd'
finds "nobody here either" 4 '^ERROR +nodes: pi2: splitd does not run on this machine'
serve "$p1" ''
serve "$p2" ''
good 1
good 2
finds "all is well" 0 '^ok +nodes: pi1 answers in'
finds "all is well in figures" 0 '^0 errors, 0 warnings, 0 notes'
finds "all is well in JSON" 0 '"severity":[[:space:]]*"fine",' --json
answers 1 "$(answer 1 attic pi1 "$sha" 0 9.9)"
finds "another version of the program" 3 '^warning +version: pi1 runs version 9.9'
answers 1 "$(answer 1 attic pi1 "${sha//[0-9]/0}" 0 "$version")"
finds "another configuration" 3 '^warning +same-config: pi1 runs with another configuration'
finds "another configuration in JSON" 3 '"check":[[:space:]]*"same-config",' --json
answers 1 "$(answer 1 cellar pi1 "$sha" 0 "$version")"
finds "another cluster" 4 '^ERROR +same-config: pi1 belongs to another cluster: cellar'
answers 1 "$(answer 1 attic pi7 "$sha" 0 "$version")"
finds "another node" 4 '^ERROR +nodes: pi1: at .* answers a node that is called pi7'
answers 1 "$(answer 1 attic pi1 "$sha" 3600000 "$version")"
finds "a clock ahead" 3 '^warning +clock: the clock of pi1 is 3(599|600)\.[0-9] s ahead'
answers 1 "$(answer 1 attic pi1 "$sha" -60000 "$version")"
finds "a clock behind" 3 '^warning +clock: the clock of pi1 is (59|60)\.[0-9] s behind'
answers 1 "$(answer 9 attic pi1 "$sha" 0 "$version")"
finds "another protocol" 4 '^ERROR +nodes: pi1: speaks another version of the protocol'
answers 1 ''
finds "no answer" 4 '^ERROR +nodes: pi1: what is at .* is no splitd'
answers 1 'HTTP/1.1 400 Bad Request\r\n\r\n<html></html>'
finds "a web server" 4 '^ERROR +nodes: pi1: what is at .* is no splitd'
for bytes in 1 27 28 29 60; do
    printf '%b' "$(answer 1 attic pi1 "$sha" 0 "$version")" | head -c $bytes >"$tmp/answer.$p1"
    finds "an answer of $bytes bytes" 4 '^ERROR +nodes: pi1: what is at .* is no splitd'
done
good 1
finds "no configuration" 4 '^ERROR +config: .*none.json: .*No such file' --config "$tmp/none.json"
finds "a node of another cluster" 4 '^ERROR +config: node "pi9"' --node pi9

# ---- doctor: this machine

# file PATH TEXT: in the machine's folder.
file() {
    mkdir -p "$(dirname "$root/$1")"
    printf '%s\n' "$2" >"$root/$1"
}
# machine: a Raspberry Pi 4 on gigabit, to which each case adds what is wrong.
machine() {
    rm -rf "$root"
    file proc/device-tree/model "Raspberry Pi 4 Model B Rev 1.4"
    file proc/meminfo "MemTotal:        3884000 kB"
    file proc/net/route "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 0100000A 0003 0 0 100 00000000 0 0 0
eth0 000200C0 00000000 0001 0 0 100 00FFFFFF 0 0 0
wlan0 006433C6 00000000 0001 0 0 600 00FFFFFF 0 0 0"
    file sys/class/net/eth0/speed 1000
    file sys/class/net/eth0/duplex full
    file sys/class/net/eth0/mtu 1500
    file sys/class/net/wlan0/phy80211/index 0
    file sys/class/net/wlan0/mtu 1500
    file sys/devices/platform/soc/soc:firmware/get_throttled 0
    file sys/class/thermal/thermal_zone0/type cpu-thermal
    file sys/class/thermal/thermal_zone0/temp 48000
    file sys/devices/system/cpu/cpu0/cpufreq/scaling_governor performance
    file sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq 1800000
    file sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq 1800000
}
machine
finds "a healthy machine" 0 '^ok +heat: the processor has 48.0 C'
finds "a good supply" 0 '^ok +power: the supply has been good'
finds "full speed" 0 '^ok +governor: '
file sys/devices/platform/soc/soc:firmware/get_throttled 50005
finds "too little voltage" 4 '^ERROR +power: the supply gives too little voltage'
finds "slowed down" 4 '^warning +heat: the board slows itself down at 48.0 C'
file sys/devices/platform/soc/soc:firmware/get_throttled 50000
finds "too little voltage before" 3 '^warning +power: the supply gave too little voltage'
file sys/devices/platform/soc/soc:firmware/get_throttled 80000
finds "hot before" 0 '^note +heat: the board slowed itself down at some time'
machine
file sys/class/thermal/thermal_zone0/temp 81500
finds "too hot" 3 '^warning +heat: the processor has 81.5 C'
machine
file sys/devices/system/cpu/cpu0/cpufreq/scaling_governor powersave
finds "a slow governor" 3 '^warning +governor: the governor powersave'
file sys/devices/system/cpu/cpu0/cpufreq/scaling_governor ondemand
finds "a usual governor" 0 '^note +governor: the governor ondemand'
machine
file sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq 600000
finds "a limited clock" 3 '^warning +governor: the clock is limited to 600 of 1800 MHz'

# Links: pi1 where packets to it leave by an interface of ours; nobody answers there.
machine
at() { sed -i "s|\"tcp://[^\"]*\" },|\"tcp://$1:$p1\" },|" "$tmp/c.json"; }
at 192.0.2.1
finds "a fast link" 4 '^ok +speed: eth0 does 1000 Mbit/s' --timeout 0.1
file sys/class/net/eth0/speed 100
finds "a slow link" 4 '^warning +speed: eth0 does 100 Mbit/s where gigabit is usual' --timeout 0.1
file proc/device-tree/model "Raspberry Pi 3 Model B Rev 1.2"
finds "a slow board" 4 '^note +speed: eth0 does 100 Mbit/s, which is all that this board can' --timeout 0.1
file proc/device-tree/model "Raspberry Pi 3 Model B Plus Rev 1.3"
finds "a slow link of a faster board" 4 '^warning +speed: eth0 does 100' --timeout 0.1
machine
file sys/class/net/eth0/duplex half
finds "half duplex" 4 '^warning +speed: eth0 is half duplex' --timeout 0.1
machine
file sys/class/net/eth0/mtu 1420
finds "a small MTU" 4 '^note +mtu: eth0 has an MTU of 1420' --timeout 0.1
file sys/class/net/eth0/mtu 9000
finds "a large MTU" 4 '^note +mtu: eth0 has an MTU of 9000' --timeout 0.1
machine
at 198.51.100.7
finds "Wi-Fi" 4 '^warning +wireless: the other nodes are reached by Wi-Fi \(wlan0\)' --timeout 0.1
at 203.0.113.9
finds "the default route" 4 '^ok +speed: eth0 does' --timeout 0.1
at 127.0.0.1

# Models: on the coordinator.
sed -i 's|"coordinator": "pi1"|"coordinator": "pi2"|; s|"insecure": true,|& "models": [ { "name": "m", "file": "/models/m.onnx" } ],|' "$tmp/c.json"
sha=$(sha256sum <"$tmp/c.json" | cut -d' ' -f1)
good 1
good 2
machine
finds "a model that is missing" 4 '^ERROR +models: model m: /models/m.onnx: No such file'
mkdir "$root/models"
cp "$fashion" "$root/models/m.onnx"
chmod 644 "$root/models/m.onnx"
finds "a coordinator that answers nobody" 4 '^ERROR +coordinator: the coordinator cannot be asked'
finds "a coordinator whom a small model needs not" 4 '^ok +memory: the models run faster without this node'
sed -i 's|"name": "pi2"|"weight": 4, &|' "$tmp/c.json"
sha=$(sha256sum <"$tmp/c.json" | cut -d' ' -f1)
good 1
good 2
finds "memory" 4 '^ok +memory: the models take [0-9.]+ MB of this'
kb=100
until file proc/meminfo "MemTotal: $kb kB" && "$splitctl" doctor --config "$tmp/c.json" --node pi2 \
    --root "$root" --timeout 0.5 | grep -q '^warning *memory' || [ $kb -gt 10000 ]; do
    kb=$((kb * 11 / 10))
done
finds "hardly enough memory" 4 '^warning +memory: the models take'
file proc/meminfo "MemTotal:        100 kB"
finds "too little memory" 4 '^ERROR +memory: the models take'
chmod 600 "$root/models/m.onnx"
finds "a model for its owner only" 4 '^warning +models: model m: the service may not read'

# ---- doctor: nodes with TLS, which are real ones

(cd "$tmp" && "$splitctl" pki init && "$splitctl" pki add pi1 && "$splitctl" pki add pi2 &&
    "$splitctl" pki --dir others init && "$splitctl" pki --dir others add pi1) >"$tmp/out" 2>"$tmp/err" || fail "pki"
t1=$(free_port) t2=$((t1 + 1)) api=$((t1 + 2))
cat >"$tmp/secure.json" <<EOF
{ "cluster": "attic", "coordinator": "pi2",
  "nodes": [ { "name": "pi1", "address": "tcp://127.0.0.1:$t1" },
             { "name": "pi2", "address": "tcp://127.0.0.1:$t2" } ],
  "tls": { "ca": "$tmp/pki/ca.pem", "certificate": "$tmp/pki/{node}/node.pem", "key": "$tmp/pki/{node}/node.key" },
  "http": { "listen": "127.0.0.1:$api" } }
EOF
# node NAME CONFIG: a daemon, once it listens; end: the last one.
node() {
    local port=$t1
    [ "$1" = pi1 ] || port=$t2
    "$build/splitd" --config "$2" --node "$1" --state "$tmp/$1.state" >"$tmp/$1.log" 2>&1 &
    servers+=($!)
    timeout 10 bash -c "until (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; do sleep 0.05; done" || cat "$tmp/$1.log"
}
end() {
    kill "${servers[-1]}"
    wait "${servers[-1]}" 2>/dev/null
    unset 'servers[-1]'
}
secure=(--config "$tmp/secure.json" --timeout 5)
# dated NAME DAYS: the node's certificate is valid so much longer.
dated() {
    local dir=$tmp/pki/$1
    openssl req -new -key "$dir/node.key" -subj "/CN=$1" -out "$tmp/csr" &&
        printf 'subjectAltName=DNS:%s.splitd\nextendedKeyUsage=serverAuth,clientAuth\n' "$1" >"$tmp/ext" &&
        openssl x509 -req -in "$tmp/csr" -CA "$tmp/pki/ca.pem" -CAkey "$tmp/pki/ca.key" -set_serial 7 \
            -days "$2" -extfile "$tmp/ext" -out "$dir/node.pem"
}

node pi2 "$tmp/secure.json"
finds "a node with TLS is away" 4 '^ERROR +nodes: pi1: the machine is there, but no splitd' "${secure[@]}"
node pi1 "$tmp/secure.json"
timeout 10 "$splitctl" status --wait 9 --server "https://127.0.0.1:$api" --ca "$tmp/pki/ca.pem" >"$tmp/out" 2>"$tmp/err" ||
    fail "nodes with TLS link"
finds "nodes with TLS answer" 0 '^ok +nodes: pi1 answers in' "${secure[@]}"
finds "all is well with TLS" 0 '^0 errors, 0 warnings, 0 notes' "${secure[@]}"
finds "certificates of others" 0 '^ok +certificate: the certificate of pi1 is valid until 20[0-9-]+$' "${secure[@]}"
finds "a certificate of one's own" 0 '^ok +certificate: the certificate of pi2 is valid until' "${secure[@]}"
sed 's/"attic",/"attic", /' "$tmp/secure.json" >"$tmp/other.json"
finds "another configuration with TLS" 3 '^warning +same-config: pi1 runs with another configuration' \
    "${secure[@]}" --config "$tmp/other.json"
cp "$tmp/pki/pi2/node.pem" "$tmp/kept.pem"
dated pi2 10 2>/dev/null || fail "openssl"
finds "a certificate that soon ends" 3 '^warning +certificate: the certificate of pi2 .*, (9|10) more days' "${secure[@]}"
cp "$tmp/kept.pem" "$tmp/pki/pi2/node.pem"
sed -e "s|$tmp/pki/{node}|$tmp/pki/none|" "$tmp/secure.json" >"$tmp/other.json"
finds "no certificate" 4 '^ERROR +certificate: tls.certificate: .*none/node.pem: .*No such file' "${secure[@]}" --config "$tmp/other.json"
finds "without a certificate nodes are not asked" 4 '^ok +nodes: pi1 takes connections; without this node' \
    "${secure[@]}" --config "$tmp/other.json"
end
sed "s|$tmp/pki/|$tmp/others/|g" "$tmp/secure.json" >"$tmp/other.json"
node pi1 "$tmp/other.json"
finds "another authority" 4 '^ERROR +nodes: pi1: what is at .* (shows a certificate that is not of the authority|does not take this machine.s certificate|hangs up when TLS begins)' "${secure[@]}"
end
sed -e 's|"tls": .*},$|"insecure": true,|' "$tmp/secure.json" >"$tmp/other.json"
node pi1 "$tmp/other.json"
finds "a node without TLS" 4 '^ERROR +nodes: pi1: what is at .*: its cluster.json has no TLS' "${secure[@]}"
end
sed -e "s|:$t1\"|:$t2\"|; s|:$t2\" } ],|:$t1\" } ],|" "$tmp/secure.json" >"$tmp/other.json"
finds "the certificate of another node" 4 '^ERROR +nodes: pi1: what is at .* shows the certificate of another node' \
    "${secure[@]}" --config "$tmp/other.json"
# No daemon starts with a certificate that is over: something else has to show it.
dated pi1 -1 2>/dev/null || fail "openssl"
openssl s_server -accept "127.0.0.1:$t1" -cert "$tmp/pki/pi1/node.pem" -key "$tmp/pki/pi1/node.key" -quiet \
    </dev/zero >/dev/null 2>&1 &
servers+=($!)
timeout 10 bash -c "until (: </dev/tcp/127.0.0.1/$t1) 2>/dev/null; do sleep 0.05; done"
finds "a certificate that is over" 4 '^ERROR +certificate: the certificate of pi1 was valid until 20' "${secure[@]}"

line="$passed passed, $failed failed"
echo "$line"
[ $failed = 0 ]
