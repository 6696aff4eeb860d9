#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that all of a machine moves, while all of it is in use: stock guests with one and with four CPUs, on PCI and on the pvhv
# bus, with a disk of two queues, a network, a balloon, a port and an entropy source move to and fro. On each CPU a process writes
# records to the disk and reads them back, and waits on timers; one sends a word after the other over one TCP connection; ports and
# entropy are used in turn. After each move all of that goes on, no record, word or line is missing, the balloon is as large as it
# was and follows a new target, its statistics come, and the source has ended with status 0.
#
#   vmm_migrate_devices.sh [CPUS-BUS]...	(by default 1-pci 1-pvhv 4-pci 4-pvhv)
#
# Environment: as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"
[ $# -gt 0 ] || set -- 1-pci 1-pvhv 4-pci 4-pvhv
kernel=$(kernel_image 6.1)
need_run
need_kernel "$kernel"
own_network "$@"
bridge 10.67.0.1/24
own_directory
memory=256 word_port=5000
# Who listens says nothing, and does not end before the other side.
mkfifo silence
exec 5<>silence

cat >guest <<'GUEST'
ip addr add 10.67.0.2/24 dev eth0
ip link set eth0 up
id=$(cat /proc/sys/kernel/random/boot_id)
port=/dev/$(basename "$(dirname "$(grep -lx out /sys/class/virtio-ports/*/name)")")

# on one CPU: record after record, each in a block of its own
worker() {
	i=0
	while :; do
		at=$(($1 * 4096 + i % 4096))
		echo "record $1 $i" | dd of=/dev/vda bs=512 seek=$at conv=sync,fsync 2>/dev/null || echo "DISK FAILS"
		[ "$(dd if=/dev/vda bs=512 skip=$at count=1 iflag=direct 2>/dev/null | head -n 1)" = "record $1 $i" ] || echo "DISK DIFFERS"
		i=$((i + 1))
		echo "cpu $1 $i $id"
		usleep 300000
	done
}
words() {
	i=0
	while :; do
		echo "word $i"
		i=$((i + 1))
		usleep 100000
	done
}
others() {
	i=0
	while :; do
		echo "line $i" >"$port"
		[ "$(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c)" = 16 ] || echo "RNG FAILS"
		i=$((i + 1))
		echo "other $i $id"
		usleep 300000
	done
}
for cpu in $(seq 0 $(($(nproc) - 1))); do
	worker "$cpu" &
	taskset -p $((1 << cpu)) $! >/dev/null || echo "CPU FAILS"
done
{ words | nc 10.67.0.1 5000; echo "CONNECTION FAILS"; } &
others
GUEST
"$mkguest" --add guest --kernel 6.1 --modules virtio_pci,pvhv_bus,virtio_blk,virtio_net,virtio_console,virtio_balloon,virtio_rng guest.cpio \
	'sh guest' || exit 1

said() { sed -n "s/.*$1 \([0-9]*\) $id.*/\1/p" "log.$turn" | tail -n 1; } # WHO: how far it says that it is
word() { grep -c '^word [0-9]*$' words; }
beyond() { # NUMBER COMMAND...
	than=$1
	shift
	[ "$("$@")" -gt "$than" ]
}
complaint() { grep -E 'DIFFERS|FAILS|lockup|stall|BUG|Oops|WARNING' "log.$turn"; }

# Each of them three steps further
goes_on() {
	for cpu in $(seq 0 $((cpus - 1))); do
		n=$(said "cpu $cpu")
		await_vm 120 beyond $((${n:-0} + 3)) said "cpu $cpu" || return 1
	done
	n=$(said other)
	await_vm 120 beyond $((${n:-0} + 3)) said other || return 1
	n=$(word)
	await_vm 120 beyond $((n + 3)) word || return 1
	! complaint
}

# in_order NAME FILE...: lines "NAME 0", "NAME 1", ... and nothing else
in_order() {
	name=$1
	shift
	cat "$@" | tr -d '\r' >lines
	[ -s lines ] && seq 0 $(($(wc -l <lines) - 1)) | sed "s/^/$name /" | cmp -s - lines
}

# The balloon, in MiB
balloon() { "$ctl" --json balloon vm$turn >state && sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" state | awk '{ print int($1 / 1048576) }'; }
kept() { [ "$(balloon actual)" = "$1" ]; }
updates() { "$ctl" --json balloon vm$turn >state && sed -n 's/.*"updates": *\([0-9]*\).*/\1/p' state; }

next_turn() {
	turn=$((turn + 1))
	show="says err.$((turn - 1)) err.$turn log.$((turn - 1)) log.$turn"
}

machine() { # ARG...: the next turn's
	"$run" --dev "$dev" --name vm$turn --bus "$bus" --cpus "$cpus" --disk path=disk,queues=2 --net bridge=br0 --balloon --rng \
		--port name=out,file=port.$turn "$@" >log.$turn 2>err.$turn </dev/null &
	vmm=$!
}

start() {
	next_turn
	truncate -s 16M disk
	nc -l -p $word_port >words <silence &
	listener=$!
	pids="$pids $listener"
	machine --kernel "$kernel" --initrd guest.cpio --memory ${memory}M --append "console=ttyS0 loglevel=4 panic=-1"
	wait_for 'other 3 ' log.$turn
	id=$(sed -n 's/.*other 1 \([0-9a-f-]*\).*/\1/p' log.$turn | tr -d '\r')
	goes_on
	result $? "$what: a stock guest runs"
	"$ctl" balloon vm$turn $((memory - 32))M >says 2>&1 && await_vm 60 kept $((memory - 32))
	result $? "$what: its balloon holds 32 MiB"
}

move() { # MIB: what the guest is to keep then
	source=$vmm kept=$(balloon actual)
	next_turn
	to=unix:$dir/incoming.$turn
	machine --incoming "$to"
	await 30 [ -S "${to#unix:}" ]
	"$ctl" migrate vm$((turn - 1)) "$to" >says 2>&1
	code=$?
	wait "$source"
	status=$?
	[ $code = 0 ] && [ $status = 0 ] && goes_on
	result $? "$what: it has moved, and all goes on: $(cat says)"
	n=$(updates)
	kept "$kept" && "$ctl" balloon vm$turn "$1"M >says 2>&1 && await_vm 60 kept "$1" && await_vm 60 beyond "$n" updates
	result $? "$what: its balloon, too: $kept MiB, then $(balloon actual) MiB"
}

# What the disk has of the worker of each CPU: the newest record, and all of its last hundred before that
records_are_there() {
	for cpu in $(seq 0 $((cpus - 1))); do
		n=$(($(said "cpu $cpu") - 1))
		for i in $(seq $((n > 100 ? n - 100 : 0)) $n); do
			[ "$(dd if=disk bs=512 skip=$((cpu * 4096 + i % 4096)) count=1 2>/dev/null | head -n 1)" = "record $cpu $i" ] || return 1
		done
	done
}

case_of() { # CPUS BUS
	cpus=$1 bus=$2 what="$1 CPUs, $2"
	begun=$((turn + 1))
	start
	move $((memory - 16))
	move $((memory - 48))
	"$ctl" stop vm$turn --now >says 2>&1
	wait "$vmm"
	vmm=''
	kill $listener
	wait $listener 2>/dev/null
	in_order word words
	result $? "$what: all words came, in order: $(wc -l <words)"
	# shellcheck disable=SC2046
	in_order line $(seq $begun $turn | sed 's/^/port./')
	result $? "$what: and all lines of the port: $(wc -l <lines)"
	records_are_there
	result $? "$what: the disk has what was written"
}

echo "TAP version 13"
turn=0
for c; do case_of "${c%-*}" "${c#*-}"; done
finish
