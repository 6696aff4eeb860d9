#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that a machine whose disk has a limit does not starve another: one reads its disk as fast as it can by several
# programs, another by one. Limited, the first gets what it may and no more, and the second almost what it has for itself alone;
# unlimited, for comparison, the first takes its share. Both kinds of limit are set and taken away while they run.
#
# Environment: PVHV_RUN, PVHVCTL (the programs), PVHV_DEV (/dev/pvhv), PVHV_GUESTS (vmlinuz-6.1, modules-6.1).

set -u
here=$(cd "$(dirname "$0")" && pwd)
run=${PVHV_RUN:-$(command -v pvhv-run || echo "$here/../vmm/pvhv-run")}
ctl=${PVHVCTL:-$(command -v pvhvctl || echo "$here/../vmm/pvhvctl")}
mkguest=$(command -v mkguest || echo "$here/host/mkguest")
dev=${PVHV_DEV:-/dev/pvhv}
kernel=${PVHV_GUESTS:-/none}/vmlinux-6.1
[ -r "$kernel" ] || kernel=${PVHV_GUESTS:-/none}/vmlinuz-6.1
if [ ! -x "$run" ] || [ ! -x "$ctl" ] || [ ! -r "$dev" ] || [ ! -r "$kernel" ]; then
	echo "1..0 # SKIP no pvhv-run, no pvhvctl, no $dev or no kernel image"
	exit 4
fi

dir=$(mktemp -d) || exit 1
export PVHV_RUNDIR="$dir"
pids=
tidy() {
	for p in $pids; do kill "$p" 2>/dev/null; done
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
		failed=1
	fi
}

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

reads() { # MACHINE: it has begun
	n=0
	until [ "$(metric "$1" read_requests_total 2>/dev/null || echo 0)" -ge 500 ] 2>/dev/null; do
		n=$((n + 1))
		[ $n -lt 120 ] || return 1
		sleep 1
	done
}

echo "TAP version 13"
start hog 4
start other 1
reads hog && reads other
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

echo "1..$nr"
exit $failed
