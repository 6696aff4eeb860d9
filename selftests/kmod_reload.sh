#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that the module can be taken out and put in 100 times, that it is refused while somebody has the device open,
# and that a VM runs after each load.
#
# PVHV_KO: the module's file (default: what modprobe finds). PVHV_RELOAD_COUNT: how many times.

count=${PVHV_RELOAD_COUNT:-100}
dev=${PVHV_DEV:-/dev/pvhv}
here=$(dirname "$0")
run=$here/kmod_run
[ -x "$run" ] || run=$(command -v kmod_run)

skip() {
	echo "1..0 # SKIP $1"
	exit 4
}

result() { # status, name
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n $2"
	else
		echo "not ok $n $2"
		failed=1
	fi
}

load() {
	if [ -n "$PVHV_KO" ]; then
		insmod "$PVHV_KO"
	else
		modprobe pvhv
	fi
}

wait_for_dev() {
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		[ -c "$dev" ] && return 0
		sleep 0.1
	done
	return 1
}

echo "TAP version 13"
[ "$dev" = /dev/pvhv ] || skip "$dev is not pvhv's device"
[ "$(id -u)" = 0 ] || skip "not root"
if [ -n "$PVHV_KO" ]; then
	[ -r "$PVHV_KO" ] || skip "no file $PVHV_KO"
else
	modprobe -q pvhv 2>/dev/null || skip "set PVHV_KO to the module's file"
fi
[ -d /sys/module/pvhv ] || load || skip "the module does not load"
[ "$(cat /sys/module/pvhv/refcnt)" = 0 ] || skip "the module is in use"
echo "1..3"
n=0
failed=0

# While the device is open, the module stays
wait_for_dev
status=1
if exec 3<>"$dev"; then
	if ! rmmod pvhv 2>/dev/null && [ -d /sys/module/pvhv ]; then
		status=0
	fi
	exec 3>&-
fi
result $status "refused_while_open"

status=0
i=0
while [ "$i" -lt "$count" ]; do
	i=$((i + 1))
	# the last reference goes a moment after the last descriptor
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		rmmod pvhv 2>/dev/null && break
		sleep 0.1
	done
	if [ -d /sys/module/pvhv ] || [ -c "$dev" ]; then
		echo "# still there after rmmod, round $i"
		status=1
		break
	fi
	if ! load || ! wait_for_dev; then
		echo "# not there after loading, round $i"
		status=1
		break
	fi
	# a VM now and then; it must leave nothing behind
	if [ $((i % 10)) = 1 ] && ! "$run" hlt mmio >/tmp/reload.$$ 2>&1; then
		sed 's/^/# /' /tmp/reload.$$
		status=1
		break
	fi
done
rm -f /tmp/reload.$$
result $status "reload_$count"

"$run" hlt io_out signal_halted >/dev/null 2>&1
result $? "runs_afterwards"
exit $failed
