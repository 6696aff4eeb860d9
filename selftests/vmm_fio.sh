#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that no byte of a disk goes astray, with Debian's fio in a guest with a stock kernel:
#  - raw files by direct and by buffered I/O of the host, and a disk on an NBD server; direct and buffered in the guest; with 1, 8
#    and 64 requests at a time, while other requests discard, the disks grow, and the server goes away and comes back;
#  - the same while the machine moves from one pvhv-run to the next, over and over;
#  - what was flushed before a power cut is there after it: the VMM is killed, and so are all caches between it and the storage
#    (the file system under a raw disk, the server's cache).
#
# Environment: PVHV_RUN, PVHVCTL (the programs), PVHV_DEV (/dev/pvhv), PVHV_GUESTS (vmlinuz-SERIES and modules-SERIES),
# GUEST_SERIES (the host's own, if it is there, else 6.1).

set -u
here=$(cd "$(dirname "$0")" && pwd)
run=${PVHV_RUN:-$(command -v pvhv-run || echo "$here/../vmm/pvhv-run")}
ctl=${PVHVCTL:-$(command -v pvhvctl || echo "$here/../vmm/pvhvctl")}
mkguest=$(command -v mkguest || echo "$here/host/mkguest")
dev=${PVHV_DEV:-/dev/pvhv}
guests=${PVHV_GUESTS:-/none}
series=$(uname -r | cut -d. -f1,2)
[ -r "$guests/vmlinuz-$series" ] || series=6.1
series=${GUEST_SERIES:-$series}
kernel=$guests/vmlinuz-$series
if [ ! -x "$run" ] || [ ! -x "$ctl" ] || [ ! -r "$dev" ] || [ ! -r "$kernel" ]; then
	echo "1..0 # SKIP no pvhv-run, no pvhvctl, no $dev or no kernel image"
	exit 4
fi

# program NAME: beside us in an emulated host (selftests/settings), else where Debian has it
program() {
	for file in "$PWD/$1" "$(command -v "$1")"; do
		[ ! -x "$file" ] || { echo "$file"; return; }
	done
}
extension() { # KIND NAME: of nbdkit
	file=$PWD/nbdkit-$2-$1.so
	[ -r "$file" ] || file=$2
	echo "$file"
}
[ ! -r libnbd.so.0 ] || export LD_LIBRARY_PATH="$PWD"
fio=$(program fio)
nbdkit=$(program nbdkit)
file_plugin=$(extension plugin file)
cache_filter=$(extension filter cache)
if [ -z "$fio" ] || [ -z "$nbdkit" ]; then
	echo "1..0 # SKIP no fio or no nbdkit"
	exit 4
fi

dir=$(mktemp -d) || exit 1
export PVHV_RUNDIR="$dir" TMPDIR="$dir"
pid= server=
tidy() {
	for p in $pid $server; do kill -9 "$p" 2>/dev/null; done
	for mnt in crash store tools; do umount -l "$dir/$mnt" 2>/dev/null; done
	rm -rf "$dir"
}
trap tidy EXIT
trap 'exit 143' TERM INT HUP
cd "$dir" || exit 1
nr=0
failed=0

result() { # STATUS NAME
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr $2"
	else
		echo "not ok $nr $2"
		[ ! -s err ] || sed 's/^/# /' err
		[ ! -s out ] || tail -n 25 out | tr -d '\r' | sed 's/^/#   /'
		failed=1
	fi
}

# make_fs NAME MIB: on a loop device over NAME.img, mounted at NAME
make_fs() {
	mkdir "$1"
	truncate -s "$2M" "$1.img"
	mke2fs -F "$1.img" >/dev/null 2>&1
	mount -t ext4 -o loop "$1.img" "$1"
}

for module in loop crc32c_generic ext4; do modprobe $module 2>/dev/null; done
if ! make_fs store 320 || ! make_fs tools 160; then
	echo "1..0 # SKIP no loop devices or no ext4"
	exit 4
fi

# fio and its libraries, for a guest that has none
linker=/lib64/ld-linux-x86-64.so.2
mkdir tools/lib
cp "$fio" tools/fio
cp -L "$linker" tools/ld.so
"$linker" --list "$fio" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | while read -r lib; do cp -L "$lib" tools/lib/; done
umount tools || exit 1

# --- the guest --------------------------------------------------------------------------------------------------------------

cat >jobs <<'JOBS'
[global]
verify=xxhash
verify_fatal=1
bsrange=4k-32k
thread
group_reporting
[one]
rw=randwrite
offset=0
size=1m
iodepth=1
verify_backlog=16
[discards]
rw=randtrim
bs=64k
offset=32m
size=4m
iodepth=4
verify=0
direct=1
[eight]
stonewall
rw=randwrite
offset=4m
size=2m
iodepth=8
verify_backlog=32
[many]
stonewall
rw=randwrite
offset=8m
size=4m
iodepth=64
verify_backlog=128
JOBS

cat >guest <<'GUEST'
fio() { /tools/ld.so --library-path /tools/lib /tools/fio --filename="/dev/$disk" "$@" jobs >log 2>&1; }

give_up() {
	echo "$disk $how: $1"
	tail -n 15 log
	exit 1
}

verified() { # DISK HOW FIO-OPTION...
	disk=$1 how=$2
	shift 2
	echo "begins $disk $how"
	yes "no zeros" | dd of=/dev/$disk bs=1M seek=32 count=4 iflag=fullblock conv=fsync 2>/dev/null || give_up "cannot be filled"
	fio "$@" || give_up "fio failed"
	sync
	echo 3 >/proc/sys/vm/drop_caches
	fio "$@" --verify_only --section=one --section=eight --section=many || give_up "it is not what was written"
	dd if=/dev/$disk bs=1M skip=32 count=4 2>/dev/null | cmp -n 4194304 - /dev/zero || give_up "discarded, and no zeros"
	echo "verified $disk $how"
}

moves() {
	mkdir /tools
	mount -t ext4 -o ro /dev/vda /tools || exit 1
	for disk in vdb vdc vdd; do
		verified $disk direct --direct=1 --ioengine=libaio
		verified $disk buffered --direct=0 --ioengine=io_uring
	done
	echo "all verified"
}

integrity() {
	moves
	# the host brings them to this size now
	for disk in vdb vdc vdd; do
		n=0
		while [ "$(cat /sys/block/$disk/size)" != $((96 * 2048)) ]; do
			n=$((n + 1))
			[ $n -lt 60 ] || { echo "$disk: $(cat /sys/block/$disk/size) sectors"; exit 1; }
			sleep 1
		done
		yes $disk | dd of=/dev/$disk bs=1M seek=95 count=1 iflag=fullblock conv=fsync 2>/dev/null || exit 1
	done
	echo "all resized"
}

# Sixteen places are written again and again; each line tells what is on stable storage when it is printed.
records() {
	n=0
	while :; do
		for disk in vda vdb vdc; do
			dd if=/dev/urandom of=/tmp/block bs=64k count=1 2>/dev/null
			dd if=/tmp/block of=/dev/$disk bs=64k seek=$((n % 16)) conv=fsync 2>/dev/null || exit 1
			echo "flushed $disk $n $(sha256sum </tmp/block)"
		done
		n=$((n + 1))
	done
}

$(sed -n 's/.*do=\([a-z]*\).*/\1/p' /proc/cmdline)
exit 0
GUEST
"$mkguest" --add guest --add jobs --kernel "$series" --modules virtio_pci,virtio_blk,virtio_balloon,crc32c_generic,ext4 guest.cpio 'sh guest' || exit 1

start() { # WHAT OPTION...: in the background
	what=$1
	shift
	: >out
	machine fio --kernel "$kernel" --initrd guest.cpio --append "console=ttyS0 loglevel=4 panic=-1 do=$what" --memory 256M "$@"
}

machine() { # NAME OPTION...: in the background, one after the other writes to the same file
	name=$1
	shift
	"$run" --dev "$dev" --name "$name" --cpus "$(nproc)" --balloon --exit-port "$@" >>out 2>err </dev/null &
	pid=$!
}

serve() { # OPTION...
	rm -f nbd.sock
	"$nbdkit" -f -U "$dir/nbd.sock" "$@" >>nbdkit.log 2>&1 &
	server=$!
	tries=0
	while [ ! -S nbd.sock ] && [ $tries -lt 60 ]; do
		tries=$((tries + 1))
		sleep 1
	done
}

all_verified() { # WHEN
	for disk in vdb:"raw, direct" vdc:"raw, buffered" vdd:"NBD"; do
		for how in direct buffered; do
			said "verified ${disk%%:*} $how"
			result $? "${disk#*:}: $how writes of the guest with 1, 8 and 64 at a time, and discards$1"
		done
	done
}

runs() { kill -0 "$pid" 2>/dev/null; }
held() { "$ctl" --json disk show fio "$1" | grep -q '"held": *[1-9].*"held_by": *\["server"\]'; }
said() { tr -d '\r' <out | grep -qxF "$1"; }

echo "TAP version 13"

# --- integrity --------------------------------------------------------------------------------------------------------------

truncate -s 64M store/direct store/buffered store/served
serve "$file_plugin" file=store/served
start integrity --disk path=tools.img,readonly=on --disk path=store/direct,direct=on --disk path=store/buffered,direct=off \
	--disk "nbd+unix:///?socket=$dir/nbd.sock"

size=64
resizes=0
refused=0
lost=
while runs && ! said "all verified"; do
	sleep 1
	# five times in each of the six parts
	if [ $size -lt $((64 + 5 * $(grep -c "^begins" out))) ]; then
		size=$((size + 1))
		truncate -s ${size}M store/served
		for disk in disk1 disk2; do "$ctl" disk resize fio $disk ${size}M >says 2>&1 || refused=$((refused + 1)); done
		"$ctl" disk resize fio disk3 >>says 2>&1 || refused=$((refused + 1))
		resizes=$((resizes + 1))
	fi
	if [ -z "$lost" ] && said "begins vdd direct"; then
		kill -9 "$server"
		wait "$server" 2>/dev/null
		sleep 2
		held disk3 && lost="with requests" || lost="with none"
		serve "$file_plugin" file=store/served
	fi
done
all_verified ''
echo "# $resizes resizes while they ran"
[ $resizes -ge 3 ] && [ $refused = 0 ]
result $? "the disks grew meanwhile"
[ "$lost" = "with requests" ] && grep -q 'server has gone' err && grep -q 'server is back' err
result $? "the server went away, and came back, while it was used"
truncate -s 96M store/served
for disk in disk1 disk2; do "$ctl" disk resize fio $disk 96M >>says 2>&1; done
"$ctl" disk resize fio disk3 >>says 2>&1
wait "$pid"
status=$?
pid=
[ $status = 0 ] && said "all resized" && [ "$(stat -c %s store/direct)" = $((96 << 20)) ] &&
	[ "$(tail -c 4 store/served)" = "vdd" ]
result $? "the guest sees the new sizes, writes to the new ends, and ends well"
kill "$server"
wait "$server" 2>/dev/null

# --- moves ------------------------------------------------------------------------------------------------------------------

rm -f store/direct store/buffered store/served
truncate -s 64M store/direct store/buffered store/served
disks="--disk path=tools.img,readonly=on --disk path=store/direct,direct=on --disk path=store/buffered,direct=off"
serve "$file_plugin" file=store/served
# shellcheck disable=SC2086
start moves $disks --disk "nbd+unix:///?socket=$dir/nbd.sock"
moved=0
from=fio
until said "begins vdb direct" || ! runs; do sleep 1; done
while runs && ! said "all verified"; do
	source=$pid
	# shellcheck disable=SC2086
	machine fio$moved --incoming "unix:$dir/move.$moved" $disks --disk "nbd+unix:///?socket=$dir/nbd.sock"
	until [ -S "move.$moved" ] || ! runs; do sleep 0.2; done
	# at its end there is nothing to move
	if ! "$ctl" migrate $from "unix:$dir/move.$moved" >says 2>&1; then
		said "all verified" || sed 's/^/# /' says
		kill "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
		pid=$source
		break
	fi
	wait "$source" || break
	from=fio$moved
	moved=$((moved + 1))
done
wait "$pid"
status=$?
pid=
all_verified ", while it moves"
[ $status = 0 ] && [ $moved -ge 6 ]
result $? "it has moved $moved times meanwhile, and ends well"
kill "$server"
wait "$server" 2>/dev/null

# --- a power cut ------------------------------------------------------------------------------------------------------------

rm -f store/direct store/buffered store/served
for name in direct buffered; do dd if=/dev/zero of=store/$name bs=1M count=1 2>/dev/null; done
sync
truncate -s 1M served
# keeps what is written to itself until it is flushed
serve --filter="$cache_filter" "$file_plugin" file=served cache=writeback
start records --disk path=store/direct,direct=on --disk path=store/buffered,direct=off --disk "nbd+unix:///?socket=$dir/nbd.sock"
while runs && ! grep -q "^flushed vdc 24 " out; do sleep 1; done
tr -d '\r' <out >acknowledged
# all at once: what has not reached the loop device's file, or the server's, by now is lost
kill -9 "$pid" "$server"
cp store.img crash.img
wait "$pid" "$server" 2>/dev/null
pid= server=
mkdir crash
mount -t ext4 -o loop,ro crash.img crash
result $? "a power cut"

# Each place holds what was flushed to it last, or what was being written when the cut came.
check() { # DISK FILE
	bad=0
	found=0
	last=$(sed -n "s/^flushed $1 \([0-9]*\) [0-9a-f]\{64\}  -$/\1/p" acknowledged | tail -n 1)
	n=$((last - 14))
	while [ $n -le "$last" ]; do
		want=$(sed -n "s/^flushed $1 $n \([0-9a-f]*\)  -$/\1/p" acknowledged)
		have=$(dd if="$2" bs=64k skip=$((n % 16)) count=1 2>/dev/null | sha256sum)
		if [ "$have" = "$want  -" ]; then
			found=$((found + 1))
		else
			echo "# $1: record $n of $last is not there"
			bad=1
		fi
		n=$((n + 1))
	done
	echo "# $1: $found of the last 15 flushed records, $last in all"
	[ $bad = 0 ] && [ "$last" -ge 20 ]
}
check vda crash/direct
result $? "raw, direct: what was flushed is there"
check vdb crash/buffered
result $? "raw, buffered: what was flushed is there"
check vdc served
result $? "NBD: what was flushed is there"
umount crash

echo "1..$nr"
exit $failed
