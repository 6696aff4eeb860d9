#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that a stock kernel's own drivers use pvhv-run's disks: an ext4 is mounted, written, synced and read back; discards
# free the host's blocks; a read-only disk is one; serial numbers and sizes are seen; a machine that is killed has on its disk
# what it had flushed; a disk whose host is full holds the machine, and by command it goes on as if nothing had been.
#
# Environment: as lib/vm.sh says; GUEST_SERIES (6.1).

set -u
. "$(dirname "$0")/lib/vm.sh"
series=${GUEST_SERIES:-6.1}
kernel=$(kernel_image "$series")
need_run
need_kernel "$kernel"
own_directory
tidy() { umount -l small 2>/dev/null; }

cat >guest <<'GUEST'
# Each line proves what it says.
same() { [ "$1" = "$2" ] || { echo "$3: '$1', not '$2'"; exit 1; }; }

basics() {
	same "$(cat /sys/block/vda/size)" $((64 * 2048)) size
	same "$(cat /sys/block/vda/serial)" DISK-0 serial
	same "$(cat /sys/block/vda/queue/logical_block_size)" 512 blocks
	same "$(cat /sys/block/vda/cache_type)" 'write back' cache
	same "$(ls /sys/block/vda/mq | wc -l)" 2 queues
	mount -t ext4 /dev/vda /mnt || exit 1
	i=0
	while [ $i -lt 8 ]; do
		dd if=/dev/urandom of=/mnt/file$i bs=64k count=16 2>/dev/null
		i=$((i + 1))
	done
	sha256sum /mnt/file* >/tmp/sums
	sync
	umount /mnt
	echo 3 >/proc/sys/vm/drop_caches
	mount -t ext4 /dev/vda /mnt || exit 1
	sha256sum -c -s /tmp/sums || exit 1
	echo "data comes back"
	rm /mnt/file*
	sync
	fstrim /mnt || exit 1
	umount /mnt
	echo "trimmed"
	# the end of the disk, and beyond it
	dd if=/dev/urandom of=/tmp/last bs=4k count=1 2>/dev/null
	dd if=/tmp/last of=/dev/vda bs=4k seek=$((64 * 256 - 1)) conv=fsync 2>/dev/null || exit 1
	dd if=/dev/vda bs=4k skip=$((64 * 256 - 1)) 2>/dev/null | cmp - /tmp/last || exit 1
	! dd if=/tmp/last of=/dev/vda bs=4k seek=$((64 * 256)) conv=fsync 2>/dev/null || exit 1
	echo "the end is where it should be"
	same "$(cat /sys/block/vdb/ro)" 1 read-only
	! dd if=/tmp/last of=/dev/vdb bs=4k conv=fsync 2>/dev/null || exit 1
	sha256sum </dev/vdb
	echo "read-only"
	blkdiscard -o $((1 << 20)) -l $((1 << 20)) /dev/vdc || exit 1
	dd if=/dev/vdc bs=1M skip=1 count=1 2>/dev/null | cmp -n $((1 << 20)) - /dev/zero || exit 1
	blkdiscard /dev/vdc || exit 1
	cmp -n $((4 << 20)) /dev/vdc /dev/zero || exit 1
	echo "discarded"
}

flushed() {
	n=0
	while :; do
		dd if=/dev/urandom of=/tmp/block bs=64k count=4 2>/dev/null
		dd if=/tmp/block of=/dev/vda bs=256k seek=$n conv=fsync 2>/dev/null || exit 1
		echo "flushed $n $(sha256sum </tmp/block)"
		n=$((n + 1))
	done
}

full() {
	dd if=/dev/zero bs=64k count=48 2>/dev/null | tr '\0' x >/tmp/data
	echo "writing"
	dd if=/tmp/data of=/dev/vda bs=64k conv=fsync 2>/dev/null || exit 1
	echo 3 >/proc/sys/vm/drop_caches
	dd if=/dev/vda bs=64k count=48 2>/dev/null | cmp - /tmp/data || exit 1
	echo "all is there"
}

$(sed -n 's/.*do=\([a-z]*\).*/\1/p' /proc/cmdline)
exit 0
GUEST
"$mkguest" --add guest --kernel "$series" --modules virtio_pci,virtio_blk,crc32c_generic,ext4 guest.cpio 'mkdir -p /mnt; sh guest' || exit 1

start() { # WHAT OPTION...: in the background
	what=$1
	shift
	: >out
	"$run" --dev "$dev" --kernel "$kernel" --initrd guest.cpio --append "console=ttyS0 loglevel=4 panic=-1 do=$what" \
		--memory 160M --exit-port "$@" >out 2>err </dev/null &
	vmm=$!
}

said() { tr -d '\r' <out | grep -qxF "$1"; }

blocks() { echo $(($(stat -c %b "$1") / 2)); } # in KiB

echo "TAP version 13"

truncate -s 64M disk
mke2fs -F disk >/dev/null 2>&1
dd if=/dev/urandom of=ro bs=64k count=16 2>/dev/null
dd if=/dev/urandom of=full bs=64k count=64 2>/dev/null
before=$(blocks disk)
start basics --cpus 2 --disk "path=disk,serial=DISK-0" --disk path=ro,readonly=on -d full
wait "$vmm"
status=$?
vmm=
result $status "a stock driver's machine ends well"
said "data comes back"
result $? "an ext4 comes back as it was written"
[ "$(blocks disk)" -lt $((before + 2048)) ] && said "trimmed"
result $? "discards free the host's blocks"
said "the end is where it should be"
result $? "the disk's last block, and nothing beyond"
said "read-only" && said "$(sha256sum <ro)"
result $? "a read-only disk is read, and not written"
said "discarded" && [ "$(blocks full)" -lt 64 ]
result $? "what was discarded reads as zeros"

rm -f ro full
truncate -s 64M disk
start flushed --disk path=disk
wait_for "flushed 5 " out
kill -9 "$vmm"
wait "$vmm" 2>/dev/null
vmm=
# all but a last line that was cut off
tr -d '\r' <out | sed -n 's/^flushed \([0-9]* [0-9a-f]\{64\}\)  -$/\1/p' >flushed
bad=0
count=0
while read -r n sum; do
	[ "$(dd if=disk bs=256k skip="$n" count=1 2>/dev/null | sha256sum)" = "$sum  -" ] || bad=1
	count=$((count + 1))
done <flushed
echo "# $count writes of 256 KiB had been flushed"
[ $bad = 0 ] && [ $count -ge 5 ]
result $? "a machine that was killed has on its disk what it had flushed"

"$run" --dev "$dev" --kernel "$kernel" --disk path=disk --append x --dry-run >out 2>err
result $? "the lock of a machine that was killed is gone"

mkdir small
if mount -t tmpfs -o size=2m tmpfs small; then
	truncate -s 8M small/disk
	start full --name full --disk path=small/disk
	wait_for writing out
	n=0
	while [ $n -lt 60 ] && ! grep -q 'is full' err; do
		sleep 1
		n=$((n + 1))
	done
	grep -q "disk0 'small/disk': the host's disk is full: the machine waits" err
	result $? "a full host disk is said"
	sleep 2
	"$ctl" status full >says 2>&1
	grep -qx 'state: paused' says && grep -qx 'paused_by: disk' says && ! said "all is there"
	result $? "and holds the machine"
	before=$(grep -c 'is full' err)
	"$ctl" resume full
	n=0
	while [ $n -lt 60 ] && [ "$(grep -c 'is full' err)" = "$before" ]; do
		sleep 1
		n=$((n + 1))
	done
	"$ctl" status full >says 2>&1
	grep -qx 'state: paused' says && [ "$(grep -c 'is full' err)" -gt "$before" ] && ! said "all is there"
	result $? "resumed without room it is held again"
	mount -o remount,size=16m small && "$ctl" resume full && wait "$vmm" && said "all is there"
	result $? "resumed with room it goes on, and nothing was lost"
	vmm=
	umount -l small
else
	for name in "a full host disk is said" "and holds the machine" "resumed without room it is held again" \
		"resumed with room it goes on, and nothing was lost"; do
		skip "$name" "no tmpfs"
	done
fi

finish
