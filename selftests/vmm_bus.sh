#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that a stock kernel's virtio drivers work on the pvhv bus with the drivers of pvdrivers/, on a machine without PCI:
# a disk with two queues is read and written, entropy comes, a network answers, a port carries bytes; interrupts are moved
# between CPUs; all of it again after the driver was taken out and put back. That a guest learns that it was cloned, has its file
# systems frozen and thawed, also when nobody thaws them, and tells the host of a panic.
#
#   vmm_bus.sh [KERNEL]...     KERNEL: 6.1, 6.12 (both by default)
#
# Environment: as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"
[ $# -gt 0 ] || set -- 6.1 6.12

need_run
own_network "$@"
own_directory
show=''

"$maketap" bus0 || skip_all "no taps"
ip addr add 10.8.0.1/24 dev bus0
ip link set bus0 up

cat >workload <<'WORK'
same() { [ "$1" = "$2" ] || { echo "$3: '$1', not '$2'"; exit 1; }; }

cold() { echo 3 >/proc/sys/vm/drop_caches; }

devices() {
	same "$(basename "$(dirname "$(readlink -f /sys/block/vda/device)")")" pvhv_bus "vda's parent"
	same "$(cat /sys/block/vda/size)" $((16 * 2048)) size
	same "$(ls /sys/block/vda/mq | wc -l)" 2 queues
	same "$(grep -c pvhv-bus /proc/interrupts)" "$(ls -d /proc/irq/*/virtio* | wc -l)" interrupts
}

disk() { # OFFSET in 64 KiB
	echo "disk $(sha256sum </dev/vda)"
	dd if=/dev/urandom of=/tmp/data bs=64k count=32 2>/dev/null
	dd if=/tmp/data of=/dev/vda bs=64k seek="$1" conv=fsync 2>/dev/null || exit 1
	cold
	dd if=/dev/vda bs=64k skip="$1" count=32 2>/dev/null | cmp - /tmp/data || exit 1
	echo "written $1 $(sha256sum </tmp/data)"
}

others() {
	same "$(cat /sys/class/misc/hw_random/rng_current)" virtio_rng.0 "entropy's source"
	same "$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c)" 64 "bytes of entropy"
	echo "entropy comes"
	ip addr add 10.8.0.2/24 dev eth0
	ip link set eth0 up
	ping -c 5 -i 0.2 -W 5 10.8.0.1 >/tmp/ping || { cat /tmp/ping; exit 1; }
	echo "ping works"
	for port in /sys/class/virtio-ports/*; do
		[ "$(cat "$port/name")" != bytes ] || echo "said on a port" >"/dev/${port##*/}"
	done
}

counts() { sed -n 's/^ *\([0-9]*\): *\([0-9]*\) *\([0-9]*\) *pvhv-bus.*/\1 \2 \3/p' /proc/interrupts; }
# came IRQ: how many of its interrupts came since "counts >/tmp/before"
came() { { cat /tmp/before; counts; } | awk -v irq="$1" '$1 == irq { n = $2 + $3 - n } END { print n }'; }

# Every interrupt of the bus on CPU 1, then on CPU 0. x86 moves one for good when a few have come at the new place.
move() {
	for cpu in 1 0; do
		counts >/tmp/before
		for irq in $(sed 's/ .*//' /tmp/before); do
			echo $cpu >/proc/irq/"$irq"/smp_affinity_list || exit 1
		done
		for from in 0 1; do
			cold
			taskset -c $from dd if=/dev/vda of=/dev/null bs=64k count=64 2>/dev/null || exit 1
		done
		ping -c 12 -i 0.2 -W 5 10.8.0.1 >/dev/null || exit 1
		moved=0
		for irq in $(sed 's/ .*//' /tmp/before); do
			[ "$(came "$irq")" -ge 12 ] || continue
			moved=$((moved + 1))
			same "$(cat /proc/irq/"$irq"/effective_affinity_list)" $cpu "CPU of interrupt $irq"
		done
		# the disk's two queues, the network's input
		[ $moved -ge 3 ] || { echo "only $moved interrupts came at CPU $cpu"; cat /proc/interrupts; exit 1; }
	done
	echo "moved"
}

devices
disk 64
others
move
rmmod pvhv_bus || exit 1
[ ! -e /sys/block/vda ] && ! grep -q pvhv-bus /proc/interrupts || exit 1
insmod /modules/pvhv_bus.ko || exit 1
devices
disk 128
others
echo "again"
# QEMU emulates AMD-V without the intercept of XSETBV, which makes a kernel warn of its XSAVE area
dmesg | grep -E 'WARNING|BUG:|pvhv_bus.*(slot|refuse)' | grep -v fpu/xstate && exit 1
exit 0
WORK

cat >services <<'WORK'
mkdir -p /mnt
echo 1 >/proc/sys/kernel/sysrq
mount -t ext4 /dev/vda /mnt || exit 1
date -s @1000000000 >/dev/null
echo ready
told=
while :; do
	date >>/mnt/log
	sync
	if [ -z "$told" ] && dmesg | grep -q 'restored or cloned'; then
		told=1
		echo "renewed $(date +%s)"
	fi
	if dmesg | grep -q 'frozen for too long'; then
		dmesg | grep -E 'WARNING|BUG:' | grep -v fpu/xstate || echo "no warning"
		echo overdue
		echo c >/proc/sysrq-trigger
	fi
	sleep 0.2
done
WORK

says() { grep -q "^$1" out; } # a line of the output begins so

control() { "$ctl" --json guest "$dir/sock" "$@" >answer 2>&1; }

guest_device() { # KERNEL
	truncate -s 16M disk
	mke2fs -F disk >/dev/null 2>&1
	"$mkguest" --add services --kernel "$1" --modules virtio_blk,crc32c_generic,ext4,pvhv_bus,pvhv_guest initrd 'sh services' ||
		exit 1
	"$run" --dev "$dev" --kernel "$guests/vmlinuz-$1" --initrd initrd --bus pvhv --memory 256M --control "$dir/sock" \
		--append "console=ttyS0 loglevel=2 panic=-1" --disk path=disk >out 2>err </dev/null &
	vmm=$!
	await_vm 60 says ready
	before=$(date +%s)
	control renew
	await_vm 60 says renewed
	at=$(sed -n 's/^renewed \([0-9]*\).*/\1/p' out)
	[ "${at:-0}" -ge "$before" ] && [ "$at" -le "$(date +%s)" ]
	result $? "$1: a clone is told so, and its clock is set"
	control freeze && grep -q "file_systems.*1" answer
	result $? "$1: its file system is frozen"
	one=$(sha256sum <disk)
	sleep 3
	[ "$(sha256sum <disk)" = "$one" ]
	result $? "$1: stands still"
	control thaw
	sleep 3
	[ "$(sha256sum <disk)" != "$one" ]
	result $? "$1: and goes on"
	control freeze 500
	await_vm 60 says overdue
	result $? "$1: by itself when nobody thaws it"
	wait "$vmm"
	status=$?
	vmm=
	[ $status = 3 ] && grep -q 'the guest panicked: sysrq triggered crash' err
	result $? "$1: a panic is told"
	grep -q '^no warning' out
	result $? "$1: the kernel has nothing to say against it"
	if [ $failed = 1 ]; then
		sed 's/^/# out: /' out
		sed 's/^/# err: /' err
		sed 's/^/# control: /' answer
	fi
	rm -f disk initrd
}

guest() { # KERNEL
	dd if=/dev/urandom of=disk bs=64k count=256 2>/dev/null
	sum=$(sha256sum <disk)
	"$mkguest" --add workload --kernel "$1" --modules virtio_blk,virtio_rng,virtio_net,virtio_console,pvhv_bus initrd \
		'sh workload' || exit 1
	"$run" --dev "$dev" --kernel "$guests/vmlinuz-$1" --initrd initrd --bus pvhv --cpus 2 --memory 256M --exit-port \
		--append "console=ttyS0 loglevel=4 panic=-1" --disk path=disk,queues=2 --rng --net tap=bus0 \
		--port name=bytes,file=bytes >out 2>err </dev/null
	status=$?
	tr -d '\r' <out >lines
	[ $status = 0 ] && grep -qx again lines
	result $? "$1: all works, also after the driver was taken out and put back"
	[ "$(sed -n 's/^disk //p' lines | head -n 1)" = "$sum" ]
	result $? "$1: a disk is read"
	bad=0
	for at in 64 128; do
		[ "written $at $(dd if=disk bs=64k skip=$at count=32 2>/dev/null | sha256sum)" = "$(grep "^written $at " lines)" ] || bad=1
	done
	result $bad "$1: and written"
	grep -qx "entropy comes" lines
	result $? "$1: entropy"
	grep -qx "ping works" lines
	result $? "$1: network"
	[ "$(cat bytes)" = "said on a port
said on a port" ]
	result $? "$1: port"
	grep -qx moved lines
	result $? "$1: interrupts move between CPUs"
	if [ $failed = 1 ]; then
		sed 's/^/# out: /' lines
		sed 's/^/# err: /' err
	fi
	rm -f disk bytes initrd
}

echo "TAP version 13"
for k; do
	if [ -r "$guests/vmlinuz-$k" ]; then
		guest "$k"
		guest_device "$k"
	else
		skip "$k" "no kernel image"
	fi
done
finish
