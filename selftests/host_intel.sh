#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Emulated Intel hosts (Bochs): the stock kvm_intel runs guests there, so that what fails on pvhv is pvhv's; a command's streams,
# status and time limit arrive as they do with QEMU.

here=$(dirname "$0")
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
n=0

point() { # STATUS TEXT
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n $2"
	else
		echo "not ok $n $2"
		sed 's/^/# /' "$tmp/out" "$tmp/err"
	fi
}

host() { # CPU COMMAND...
	cpu=$1
	shift
	"$here/host/run" --cpu "$cpu" --no-module --kvm --timeout 1500 -- "$@" >"$tmp/out" 2>"$tmp/err"
}

echo "TAP version 13"
echo "1..5"
host intel sh -c 'echo out; echo err >&2; PVHV_DEV=/dev/kvm kmod_run io_out io_in hlt mmio shutdown; exit 7'
status=$?
[ $status = 7 ]
point $? "skylake: the command's status arrives, the kernel's log is clean (status $status)"
grep -qx out "$tmp/out" && grep -qx err "$tmp/err" && ! grep -qx err "$tmp/out"
point $? "skylake: streams are apart"
[ "$(grep -c '^ok ' "$tmp/out")" = 5 ] && ! grep -q '^not ok' "$tmp/out"
point $? "skylake: guests of the stock kvm_intel run"
host intel-haswell env PVHV_DEV=/dev/kvm kmod_run io_out mmio
status=$?
[ $status = 0 ]
point $? "haswell: status 0 (status $status)"
[ "$(grep -c '^ok ' "$tmp/out")" = 2 ]
point $? "haswell: guests of the stock kvm_intel run"
