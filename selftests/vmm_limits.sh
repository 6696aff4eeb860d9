#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that a machine whose disk has a limit does not starve another: one reads its disk as fast as it can by several
# programs, another by one. Limited, the first gets what it may and no more, and the second almost what it has for itself alone;
# unlimited, for comparison, the first takes its share. Both kinds of limit are set and taken away while they run.
#
# Environment: as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"
kernel=$(kernel_image 6.1)
need_run
need_kernel "$kernel"
own_directory
show="err.hog err.other"

metric() { # MACHINE NAME
	"$ctl" metrics "$1" | sed -n "s/^pvhv_disk_$2{.*} //p"
}

now() { awk '{ print int($1 * 100) }' /proc/uptime; }

# rates NAME: of a counter in a second, over five: in $hog and $other
rates() {
	since=$(now)
	hog=$(metric hog "$1")
	other=$(metric other "$1")
	sleep 5
	hog=$((($(metric hog "$1") - hog) * 100 / ($(now) - since)))
	other=$((($(metric other "$1") - other) * 100 / ($(now) - since)))
}

cat >guest <<'GUEST'
programs=$(sed -n 's/.*programs=\([0-9]*\).*/\1/p' /proc/cmdline)
while [ "$programs" -gt 0 ]; do
	while :; do dd if=/dev/vda of=/dev/null bs=4k iflag=direct 2>/dev/null || exit 1; done &
	programs=$((programs - 1))
done
wait
GUEST
"$mkguest" --add guest --kernel 6.1 --modules virtio_pci,virtio_blk guest.cpio 'sh guest' || exit 1

start() { # NAME PROGRAMS
	truncate -s 64M "$1"
	"$run" --dev "$dev" --kernel "$kernel" --initrd guest.cpio --memory 128M --exit-port --disk "path=$1" --name "$1" \
		--append "console=ttyS0 loglevel=4 panic=-1 programs=$2" >"out.$1" 2>"err.$1" </dev/null &
	pids="$pids $!"
}

reads() { [ "$(metric "$1" read_requests_total)" -ge 500 ]; } # MACHINE: it has begun

echo "TAP version 13"
start hog 4
start other 1
await 120 reads hog && await 120 reads other
result $? "both read"

# Few enough that even on an emulated host, where each request is some milliseconds of work, they are no load
limit=20
# What else the host does comes and goes: some tries
tries=0
good=1
exact=0
while [ $good = 1 ] && [ $tries -lt 4 ]; do
	tries=$((tries + 1))
	"$ctl" pause hog
	rates read_requests_total
	alone=$other
	"$ctl" resume hog
	rates read_requests_total
	beside=$other
	free=$hog
	"$ctl" disk limits hog disk0 iops=$limit
	rates read_requests_total
	"$ctl" disk limits hog disk0 iops=0
	echo "# the other: $alone a second alone, $beside beside $free, $other beside $hog (limit $limit)"
	# a burst of a tenth of a second, one more, and the seconds that are not exactly five
	[ "$hog" -le $((limit + 2)) ] && [ "$hog" -ge $((limit / 2)) ] || exact=1
	[ $((other * 100)) -lt $((alone * 75)) ] || good=0
done
result $exact "a limited machine gets what it may, and no more"
result $good "and the other almost what it has alone"
[ "$free" -gt $((limit * 2)) ]
result $? "which without a limit is more"

"$ctl" disk limits hog disk0 bps=400K
rates read_bytes_total
echo "# $hog bytes a second of $((400 * 1024)) that it may"
[ "$hog" -le $((400 * 1024 * 106 / 100)) ] && [ "$hog" -ge $((200 * 1024)) ]
result $? "bytes a second are limited as well"
"$ctl" disk limits hog disk0 bps=0
rates read_requests_total
[ "$hog" -gt $((limit * 2)) ]
result $? "a limit is taken away again"

code=0
for name in hog other; do "$ctl" stop $name --now || code=1; done
for p in $pids; do wait "$p" || code=1; done
pids=
[ ! -s err.hog ] && [ ! -s err.other ] || code=1
result $code "both end well"

finish
