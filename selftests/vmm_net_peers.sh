#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies networks of machines that run side by side, in their sandboxes, as their control sockets show and change them. Three
# stock guests on one bridge, by pvhv-run itself, by vhost-net and with two queue pairs: each has the address that follows from its
# name, each fetches a file from the next one; counters of both kinds of path grow with the traffic; an announcement comes out
# of the guest as a gratuitous ARP; a link that is down is down for the guest and for all others, and works again when it is up.
#
# Environment: as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"

need_run
need_kernel "$guests/vmlinuz-6.1"
own_network "$@"
own_directory
show="says a.err a.out b.err b.out c.err c.out"

vm() { "$ctl" "$@" >says 2>&1; }
field() { sed -n "s/^$1: //p" says; }
said() { tr -d '\r' <"$1.out" | grep -q "^$2"; }
metric() { # MACHINE NAME
	"$ctl" metrics "$1" | sed -n "s/^pvhv_net_$2{.*} //p"
}

bridge 10.9.0.1/24
# What announces itself becomes a neighbour.
echo 1 >/proc/sys/net/ipv4/conf/br0/arp_accept

# Each has its own file, and fetches the next one's when that is there.
cat >workload <<'WORK'
for word in $(cat /proc/cmdline); do
	case $word in own=*) own=${word#*=} ;; next=*) next=${word#*=} ;; esac
done
ip addr add 10.9.0.$own/24 dev eth0
ip link set eth0 up
echo "mac $(cat /sys/class/net/eth0/address)"
mkdir www
dd if=/dev/urandom of=www/file bs=64k count=16 2>/dev/null
echo "own $(sha256sum <www/file)"
httpd -p 80 -h /root/www
n=0
# without -T, for which the busybox of Debian 12 crashes
until timeout 30 wget -q -O file http://10.9.0.$next/file || [ $n = 60 ]; do
	n=$((n + 1))
	sleep 1
done
echo "next $(sha256sum <file)"
# What else is asked for comes from outside; the link is told of.
was=
while :; do
	now=$(cat /sys/class/net/eth0/carrier)
	[ "$now" = "$was" ] || echo "carrier $now"
	was=$now
	usleep 200000
done
WORK
"$mkguest" --add workload --kernel 6.1 --modules virtio_pci,virtio_net initrd 'sh workload' || exit 1

start() { # NAME OWN NEXT CPUS NET
	: >"$1.out"
	"$run" --dev "$dev" --kernel "$guests/vmlinuz-6.1" --initrd initrd --name "$1" --cpus "$4" --memory 128M --net "$5" \
		--append "console=ttyS0 loglevel=4 panic=-1 own=$2 next=$3" >>"$1.out" 2>"$1.err" </dev/null &
	pids="$pids $!"
}

sum_of() { tr -d '\r' <"$1.out" | sed -n "s/^$2 //p"; }
# fetched NAME FROM
fetched() { [ -n "$(sum_of "$1" next)" ] && [ "$(sum_of "$1" next)" = "$(sum_of "$2" own)" ]; }
reaches() { ping -c 1 -W 2 "10.9.0.$1" >/dev/null 2>&1; }
fails_to_reach() { ! reaches "$1"; }
neighbour() { ip neigh show dev br0 | grep -q "^10.9.0.$1 .*$2"; }

echo "TAP version 13"
start a 11 12 1 tap=tap-a,bridge=br0,vhost=off
start b 12 13 1 tap=tap-b,bridge=br0,vhost=auto
start c 13 11 2 bridge=br0,queues=2,vhost=off
for pair in "a b" "b c" "c a"; do
	set -- $pair
	await 300 said "$1" next && await 60 said "$2" own && fetched "$1" "$2"
	result $? "guest $1 has guest $2's file"
done
said a "mac 1a:e6:b3:2f:f9:55" && said b "mac 72:23:26:3c:08:58" && said c "mac 0a:2f:6e:77:23:be"
result $? "their addresses are their names'"

# unguarded PID: its threads without a filter. Those of vhost, which are the process's since 6.4, run nothing of it.
unguarded() {
	for thread in /proc/"$1"/task/*/status; do
		grep -q '^Name:.vhost-' "$thread" || grep -q '^Seccomp:.*2' "$thread" || echo "$thread"
	done
}

vhost=no
[ ! -c /dev/vhost-net ] || vhost=yes
code=0
for name in a b c; do
	pid=$("$ctl" status $name | sed -n 's/^pid: //p')
	[ -n "$pid" ] && [ -z "$(unguarded "$pid")" ] || code=1
	vm net show $name net0 && [ "$(field type):$(field link)" = tap:yes ] || code=1
	[ $name != b ] || [ "$(field vhost)" = $vhost ] || code=1
	[ $name != c ] || [ "$(field queues_active)" = 2 ] || code=1
done
result $code "state by the control socket, the sandbox is on"

# a's path counts itself, b's is the kernel's
code=0
for name in a b; do
	[ $name = a ] && own=11 || own=12
	before_rx=$(metric $name receive_frames_total)
	before_tx=$(metric $name transmit_bytes_total)
	ping -c 20 -i 0.05 -s 1000 10.9.0.$own >/dev/null || code=1
	[ $(($(metric $name receive_frames_total) - before_rx)) -ge 20 ] &&
		[ $(($(metric $name transmit_bytes_total) - before_tx)) -ge 20000 ] || code=1
done
result $code "counters of both paths follow the traffic"

code=0
for name in a b; do
	[ $name = a ] && own=11 mac=1a:e6:b3:2f:f9:55 || own=12 mac=72:23:26:3c:08:58
	# which forgets all neighbours
	ip link set br0 arp off
	ip link set br0 arp on
	! neighbour $own $mac || code=1
	vm net announce $name net0 && await 10 neighbour $own $mac || code=1
done
result $code "an announcement is seen as a gratuitous ARP"

for name in a b; do
	[ $name = a ] && own=11 || own=12
	code=0
	reaches $own || code=1
	vm net link $name net0 down && await 10 said $name "carrier 0" || code=1
	vm net show $name net0 && [ "$(field link)" = no ] || code=1
	fails_to_reach $own || code=1
	result $code "$name: link down"
	code=0
	vm net link $name net0 up || code=1
	await 10 reaches $own || code=1
	vm net show $name net0 && [ "$(field link)" = yes ] || code=1
	[ "$(tr -d '\r' <$name.out | tail -n 1)" = "carrier 1" ] || code=1
	result $code "$name: link up again"
done
reaches 13
result $? "c was not touched by that"

code=0
for name in a b c; do vm stop $name --now || code=1; done
for p in $pids; do wait "$p" || code=1; done
pids=
! ip link show tap-a >/dev/null 2>&1 && ! ip link show tap-b >/dev/null 2>&1 || code=1
result $code "they stop, their taps are gone"
finish
