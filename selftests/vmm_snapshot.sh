#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that a running machine's disk is copied without the guest taking notice: its stock kernel writes records and has each
# flushed before it says so. A snapshot and a clone, on a file system that shares blocks and by overlays elsewhere, hold all that
# was flushed before the command and nothing that was written after it; the guest goes on, without an error, on what it should. So does
# a machine that was saved with its disk at one moment: the disk is as old as its memory.
#
# Environment: as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"
kernel=$(kernel_image 6.1)
need_run
need_kernel "$kernel"
# what check has put beside us in an emulated host (selftests/settings)
PATH=$PWD:$PATH:/usr/sbin:/sbin
[ ! -r libnbd.so.0 ] || export LD_LIBRARY_PATH="$PWD"
for tool in qemu-img qemu-nbd mkfs.xfs; do
	command -v $tool >/dev/null || skip_all "no $tool"
done

tidy() {
	for server in /proc/[0-9]*; do
		[ "$(tr '\0' ' ' <"$server/cmdline" | grep -c "^qemu-nbd.*$dir")" = 0 ] || kill "${server#/proc/}"
	done 2>/dev/null
	umount -l "$dir/shared" 2>/dev/null
}
own_directory

cat >guest <<'GUEST'
n=0
worst=0
before=$(sed 's/\..*//' /proc/uptime)
while :; do
	dd if=/dev/urandom of=/tmp/block bs=16k count=1 2>/dev/null
	dd if=/tmp/block of=/dev/vda bs=16k seek=$n conv=fsync 2>/tmp/err || { cat /tmp/err; exit 1; }
	now=$(sed 's/\..*//' /proc/uptime)
	[ $((now - before)) -le $worst ] || worst=$((now - before))
	before=$now
	echo "flushed $n $(sha256sum </tmp/block) worst $worst"
	n=$((n + 1))
done
GUEST
"$mkguest" --add guest --kernel 6.1 --modules virtio_pci,virtio_blk guest.cpio 'sh guest' || exit 1

start() { # DISK: in the background
	: >out
	"$run" --dev "$dev" --kernel "$kernel" --initrd guest.cpio --append "console=ttyS0 loglevel=4 panic=-1" --memory 160M \
		--name snap --exit-port --disk "$1" >out 2>err </dev/null &
	vmm=$!
}

end() {
	kill -9 "$vmm"
	wait "$vmm" 2>/dev/null
	vmm=
}

# the records that are flushed now: number and hash
flushed() { tr -d '\r' <out | sed -n 's/^flushed \([0-9]* [0-9a-f]\{64\}\)  - worst.*$/\1/p'; }
last() { flushed | tail -n 1 | cut -d' ' -f1; }

reached() { [ "$(last)" -ge "$1" ]; } # N
more() { await_vm 600 reached $(($(last) + $1)); } # N: until so many more records are flushed
await_first() { wait_for '^flushed 3 ' out 600; }

# holds FILE RECORDS: all of them, as they were flushed
holds() {
	while read -r n sum; do
		[ "$(dd if="$1" bs=16k skip="$n" count=1 2>/dev/null | sha256sum)" = "$sum  -" ] ||
			{ echo "# record $n is not in $1"; return 1; }
	done <"$2"
}

# lacks FILE N: no record from N on
lacks() { dd if="$1" bs=16k skip="$2" 2>/dev/null | cmp -s -n $(((4096 - $2) * 16384)) - /dev/zero; }

now() { awk '{ print int($1 * 100) }' /proc/uptime; }

# take COMMAND COPY OPTION...: and what it took, by the clock
take() {
	command=$1
	copy=$2
	shift 2
	flushed >before
	since=$(now)
	"$ctl" "$command" snap disk0 "$copy" "$@" >says 2>&1
	status=$?
	till=$(now)
	# one may have been on its way when the command had ended
	after=$(($(last) + 3))
	echo "# $command took $((till - since))0 ms; $(wc -l <before) records before, $(last) after it"
	return $status
}

# take_machine DIRECTORY OPTION...: the machine and its disk
take_machine() {
	where=$1
	shift
	"$ctl" --json snapshot snap "$where/machine.pvhv" --disks "$where/point" "$@" >says 2>&1
	status=$?
	echo "# the machine stood still for $(sed -n 's/.*"downtime": *\([0-9.]*\).*/\1/p' says | tail -n 1) s"
	return $status
}

# goes_on_from DIRECTORY DISK-OPTION: the machine that was saved there, whose disk was the file "moment" then
goes_on_from() {
	: >out
	"$run" --dev "$dev" --restore "$1/machine.pvhv" --disk "$2" >out 2>err </dev/null &
	vmm=$!
	wait_for '^flushed ' out 600 && more 5 || return 1
	end
	# the first that it says was on its way at that moment: all before it are there, none behind it
	flushed >again
	first=$(head -n 1 again | cut -d' ' -f1)
	echo "# it went on at record $first"
	awk -v first="$first" '$1 < first' before >older
	[ "$(wc -l <older)" = "$first" ] && holds moment older && lacks moment $((first + 1))
}

echo "TAP version 13"

# --- blocks are shared ------------------------------------------------------------------------------------------------------

modprobe loop 2>/dev/null
for module in crc32c_generic xfs; do modprobe $module 2>/dev/null; done
mkdir shared
truncate -s 512M shared.img
if mkfs.xfs -q shared.img && mount -t xfs -o loop shared.img shared; then
	truncate -s 64M shared/disk
	start path=shared/disk
	await_first
	result $? "a guest writes"
	take snapshot-disk shared/snapshot
	result $? "a snapshot"
	more 5
	result $? "and the guest goes on"
	holds shared/snapshot before && lacks shared/snapshot "$after"
	result $? "it holds what was flushed before, nothing of what came after"
	[ "$(stat -c %a shared/snapshot)" = 400 ]
	result $? "and is read-only"
	take clone-disk shared/clone
	result $? "a clone"
	more 5 && holds shared/clone before && lacks shared/clone "$after" && [ "$(stat -c %a shared/clone)" = 600 ]
	result $? "it holds what was flushed before, nothing of what came after, and can be written"
	"$run" --dev "$dev" --kernel "$kernel" --disk path=shared/clone --dry-run >says 2>&1
	result $? "a second machine could start from it at once"
	take_machine shared
	result $? "a snapshot of the machine with its disk"
	more 5
	result $? "and the guest goes on"
	end
	flushed >before
	holds shared/disk before
	result $? "the machine's own disk has all it had flushed"
	echo "# the guest waited $(sed -n 's/.*worst //p' out | tail -n 1 | tr -d '\r') s at most"
	cp shared/point/disk0.img moment
	goes_on_from shared path=shared/point/disk0.img && holds shared/point/disk0.img older && holds shared/point/disk0.img again
	result $? "the saved machine goes on with the saved disk: it has what was flushed, and nothing newer than its memory"
	umount -l shared
else
	echo "# no xfs"
fi

# --- elsewhere --------------------------------------------------------------------------------------------------------------

truncate -s 64M disk
start path=disk
await_first
take snapshot-disk copy
[ $? = 3 ] && grep -q 'give --overlay PATH' says && [ ! -e copy ]
result $? "without shared blocks an overlay has to be named"
take snapshot-disk copy --overlay over
result $? "a snapshot by overlay"
more 5
result $? "and the guest goes on"
cp disk base
qemu-img convert -U -O raw copy copy.raw && holds copy.raw before && lacks copy.raw "$after" && cmp -s copy.raw base
result $? "it holds what was flushed before, nothing of what came after"
more 3
result $? "and the guest still goes on"
"$ctl" disk show snap disk0 >says 2>&1
grep -qx 'kind: nbd' says && grep -q "over.nbd" says
result $? "the machine uses the overlay"
# its server ends with its last client, and a resize connects anew
"$ctl" disk resize snap disk0 >says 2>&1 && more 3
result $? "and still does after a resize"
"$run" --dev "$dev" --kernel "$kernel" --disk path=disk --dry-run >says 2>&1
[ $? = 1 ] && grep -q 'another program uses' says
result $? "nobody can write to what is below it"
take_machine . --overlays overlays
[ $? = 3 ] && grep -q 'is no raw image' says && [ ! -e machine.pvhv ] && more 3
result $? "a disk that is served is no part of a machine's snapshot"
end
flushed >all
tries=0
while ! qemu-img convert -O raw over over.raw 2>says && [ $tries -lt 30 ]; do
	tries=$((tries + 1))
	sleep 1
done
cmp -s disk base && holds over.raw all
result $? "the machine's overlay has all it had flushed, the file below is as it was"
echo "# the guest waited $(sed -n 's/.*worst //p' out | tail -n 1 | tr -d '\r') s at most"

# the machine with its disk, by overlay
rm -rf disk base
truncate -s 64M disk
start path=disk
await_first
take_machine .
[ $? = 3 ] && grep -q 'give --overlays DIR' says && [ ! -e machine.pvhv ]
result $? "without shared blocks overlays have to be named"
take_machine . --overlays overlays && more 5
result $? "a snapshot of the machine with its disk by overlay, and the guest goes on"
end
flushed >before
qemu-img convert -O raw point/disk0.qcow2 moment && qemu-nbd --fork --socket "$dir/point.nbd" --format qcow2 point/disk0.qcow2 &&
	goes_on_from . "path=nbd+unix:///?socket=$dir/point.nbd"
result $? "the saved machine goes on with the saved disk: it has what was flushed, and nothing newer than its memory"

finish
