#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Emulated Intel hosts (Bochs): the stock kvm_intel runs guests there, so that what fails on pvhv is pvhv's; a command's streams,
# status and time limit arrive as they do with QEMU.

. "$(dirname "$0")/lib/vm.sh"
own_directory
show='out err'

host() { # CPU COMMAND...
	cpu=$1
	shift
	"$here/host/run" --cpu "$cpu" --no-module --kvm --timeout 1500 -- "$@" >out 2>err
}

echo "TAP version 13"
host intel sh -c 'echo out; echo err >&2; PVHV_DEV=/dev/kvm kmod_run io_out io_in hlt mmio shutdown; exit 7'
status=$?
[ $status = 7 ]
result $? "skylake: the command's status arrives, the kernel's log is clean (status $status)"
grep -qx out out && grep -qx err err && ! grep -qx err out
result $? "skylake: streams are apart"
[ "$(grep -c '^ok ' out)" = 5 ] && ! grep -q '^not ok' out
result $? "skylake: guests of the stock kvm_intel run"
host intel-haswell env PVHV_DEV=/dev/kvm kmod_run io_out mmio
status=$?
[ $status = 0 ]
result $? "haswell: status 0 (status $status)"
[ "$(grep -c '^ok ' out)" = 2 ]
result $? "haswell: guests of the stock kvm_intel run"
finish
