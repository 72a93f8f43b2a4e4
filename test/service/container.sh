#!/bin/bash
# Containers that boot Debian: sourced by run.sh and walk.sh.
#
#   container_root DIR SUITE PACKAGES   a Debian with what the packages depend on, kept from run to run
#   container_unit ROOT SCRIPT          what a copy of it runs; what that says goes to ROOT/said
#   container_boot ROOT [OPTION...]     boots it; returns when it has powered off
#
# Needs root.  A container has a network of its own.

# What the packages depend on is there, so that they install without a network.
container_packages=systemd,systemd-sysv,dbus,curl,iproute2,iputils-ping,openssh-server,openssh-client,sudo
container_packages+=,procps,man-db,bash-completion,avahi-daemon,avahi-utils,libnss-mdns

container_root() {
    local dir=$1 suite=$2 debs=$3 wanted
    wanted=$container_packages,$(for deb in "$debs"/*.deb; do
        dpkg-deb -f "$deb" Depends
    done | tr ',' '\n' | sed -E 's/ *\(.*//; s/^ +//' | sort -u | paste -sd,)
    [ "$(cat "$dir.packages" 2>/dev/null)" = "$wanted" ] && return
    rm -rf "$dir" "$dir.packages"
    echo "container: Debian $suite into $dir"
    mmdebstrap --quiet --variant=apt --include="$wanted" "$suite" "$dir"
    mkdir -p "$dir/var/log/journal"
    echo "$wanted" >"$dir.packages"
}

container_unit() {
    cp "$2" "$1/inside.sh"
    : >"$1/said"
    cat >"$1/etc/systemd/system/inside.service" <<EOF
[Unit]
After=multi-user.target
[Service]
Type=oneshot
Environment=HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive
WorkingDirectory=/root
ExecStart=/bin/bash /inside.sh
ExecStopPost=/bin/systemctl poweroff --no-block
StandardOutput=append:/said
StandardError=append:/said
TimeoutStartSec=600
EOF
    ln -sf ../inside.service "$1/etc/systemd/system/multi-user.target.wants/inside.service"
}

container_boot() {
    local root=$1
    shift
    # Memory locking: systemd in the container wants it for its keys.
    timeout -s KILL 900 systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit \
        --console=pipe --system-call-filter=@memlock "$@" </dev/null >"$root.console" 2>&1
}
