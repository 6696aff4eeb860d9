#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies networks with a stock guest: it gets its address by DHCP over a bridge of the host, is reached by ping, and TCP
# carries files both ways unharmed; by pvhv-run itself and by vhost-net, with one queue pair and with several, with interrupts by
# line, with a limit. New taps are gone afterwards, one that was there stays.
#
#   vmm_net.sh [KERNEL]...     KERNEL: 6.1 (default), 6.12
#
# Environment: as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"
[ $# -gt 0 ] || set -- 6.1
need_run
own_network "$@"
bridge 10.9.0.1/24
own_directory

cat >dhcp.conf <<CONF
start 10.9.0.10
end 10.9.0.99
interface br0
lease_file $dir/leases
pidfile $dir/dhcp.pid
option subnet 255.255.255.0
CONF
: >leases
udhcpd -f dhcp.conf 2>dhcp.log &
pids="$pids $!"

# 4 MiB that do not compress, and whose parts differ
dd if=/dev/urandom of=down bs=64k count=64 2>/dev/null
sum=$(sha256sum <down)
mkdir www
ln down www/down
httpd -f -p 10.9.0.1:5000 -h "$dir/www" &
pids="$pids $!"

# What the guest runs: words of its command line say how much. What it prints proves what it did.
cat >workload <<'WORK'
set -e
for word in $(cat /proc/cmdline); do
	case $word in test.*) eval "$(echo "${word#test.}" | tr -d ';&|`$')" ;; esac
done
cat >/root/lease <<'LEASE'
#!/bin/sh
[ "$1" != bound ] || ip addr add "$ip/$mask" dev "$interface"
LEASE
chmod +x /root/lease
ip link set eth0 up
udhcpc -q -n -t 20 -T 1 -i eth0 -s /root/lease >/dev/null 2>&1
echo "address $(ip -4 -o addr show eth0 | awk '{ print $4 }')"
echo "mac $(cat /sys/class/net/eth0/address)"
echo "mtu $(cat /sys/class/net/eth0/mtu)"
echo "queues $(ls -d /sys/class/net/eth0/queues/rx-* | wc -l)"
ping -c 5 -i 0.2 -W 5 10.9.0.1 >/tmp/ping && echo "ping works" || cat /tmp/ping
n=0
while [ $n -lt ${flows:-1} ]; do
	(wget -q -O - http://10.9.0.1:5000/down | sha256sum >/tmp/sum.$n) &
	n=$((n + 1))
done
wait
echo "down $(cat /tmp/sum.* | sort -u)"
wget -q -O /tmp/file http://10.9.0.1:5000/down
nc 10.9.0.1 6000 </tmp/file
echo "errors $(cat /sys/class/net/eth0/statistics/rx_errors) $(cat /sys/class/net/eth0/statistics/tx_errors)"
WORK

initrd_for() { # KERNEL
	[ -e "initrd-$1" ] || "$mkguest" --add workload --kernel "$1" --modules virtio_pci,virtio_net "initrd-$1" 'sh workload'
}

extra=
# guest NAME KERNEL CPUS NET FLOWS [EXPECTED LINE]...
guest() {
	name="$2: $1"
	if [ ! -r "$guests/vmlinuz-$2" ]; then
		skip "$name" "no kernel image"
		return
	fi
	initrd_for "$2" || exit 1
	kernel=$2 cpus=$3 net=$4 flows=$5
	shift 5
	rm -f up
	# closes when all has come, for which the guest's side waits
	nc -l -p 6000 -e sh -c 'cat >up' &
	receiver=$!
	"$run" --dev "$dev" --kernel "$guests/vmlinuz-$kernel" --initrd "initrd-$kernel" --name test --cpus "$cpus" --memory 256M \
		--append "console=ttyS0 loglevel=4 panic=-1 test.flows=$flows $extra" --net "$net" --exit-port >out 2>err </dev/null
	status=$?
	kill $receiver 2>/dev/null
	wait $receiver 2>/dev/null
	bad=
	[ $status = 0 ] || bad="status $status"
	[ "$(sha256sum <up 2>/dev/null)" = "$sum" ] || bad="$bad; what came up differs"
	for line in "down $sum" "ping works" "errors 0 0" "$@"; do
		grep -q "^$line" out || bad="$bad; no '$line'"
	done
	[ -z "$bad" ]
	result $? "$name"
	[ -z "$bad" ] || echo "# $bad"
}

# gone NAME: the tap is not there any more
gone() {
	! ip link show "$1" >/dev/null 2>&1
	result $? "tap $1 is gone"
}

echo "TAP version 13"
for k; do
	guest "own path" "$k" 1 tap=tap0,bridge=br0,mac=52:54:00:12:34:56,vhost=off 1 \
		"address 10.9.0" "mac 52:54:00:12:34:56" "mtu 1500" "queues 1"
	gone tap0
	if [ -c /dev/vhost-net ]; then
		guest "vhost" "$k" 1 tap=tap0,bridge=br0,vhost=on 1 "mac 52:4f:bb:b1:e0:76"
	else
		skip "$k: vhost" "no /dev/vhost-net"
	fi
	guest "4 queues" "$k" 2 tap=tap0,bridge=br0,queues=4,vhost=off 4 "queues 2"
	guest "4 queues, vhost" "$k" 2 tap=tap0,bridge=br0,queues=4,vhost=auto 4 "queues 2"
	extra=pci=nomsi
	guest "without MSI-X" "$k" 1 tap=tap0,bridge=br0,vhost=auto 1
	extra=
	guest "1 MiB/s" "$k" 1 bridge=br0,bps=1M 1
	"$maketap" old && ip link set old mtu 1400
	guest "a tap that was there" "$k" 1 tap=old,bridge=br0 1
	ip link show old >/dev/null 2>&1
	result $? "it stays"
done
finish
