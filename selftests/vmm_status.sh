#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies how a stock kernel ends pvhv-run: status 3 for reboot and for a panic with panic=-1, 4 for reboot=t, the
# exit port's value; and that SIGPWR is a press of the power button that the stock kernel sees. (vmm_run tests the rest with
# a guest that starts faster.)
#
# Environment: as lib/vm.sh says; GUEST_KERNEL (a kernel to boot instead).

set -u
. "$(dirname "$0")/lib/vm.sh"
kernel=${GUEST_KERNEL:-$(kernel_image 6.1)}
need_run
need_kernel "$kernel"
own_directory

# One guest for all: what it does comes from the command line, which is do=NAME.
cat >guest <<'GUEST'
what=$(sed -n 's/.*do=\([a-z0-9]*\).*/\1/p' /proc/cmdline)
case $what in
reboot) reboot -f ;;
panic) echo c >/proc/sysrq-trigger ;;
exit42) exit 42 ;;
button)
	before=$(sed -n 's/.*: *\([0-9]*\) .*ACPI:Ged.*/\1/p' /proc/interrupts)
	echo ready
	i=0
	while [ $i -lt 60 ]; do
		after=$(sed -n 's/.*: *\([0-9]*\) .*ACPI:Ged.*/\1/p' /proc/interrupts)
		[ "$before" = "$after" ] || break
		sleep 1
		i=$((i + 1))
	done
	echo "button $before $after"
	;;
esac
GUEST
"$mkguest" --add guest guest.cpio 'sh guest' || exit 1

args() { # WHAT: the common arguments
	echo "--dev $dev --kernel $kernel --initrd guest.cpio --memory 192M --append"
}

# guest WHAT [ARG]...: runs a guest; status in $status
guest() {
	what=$1
	shift
	# shellcheck disable=SC2046
	"$run" $(args) "console=ttyS0 loglevel=3 panic=-1 do=$what" "$@" >out 2>err </dev/null
	status=$?
}

# start WHAT [ARG]...: in the background, until it says "ready"
start() {
	what=$1
	shift
	: >out
	# shellcheck disable=SC2046
	"$run" $(args) "console=ttyS0 loglevel=3 panic=-1 do=$what" "$@" >out 2>err </dev/null &
	vmm=$!
	wait_for ready out
}

is() { # STATUS NAME
	[ "$status" = "$1" ] && [ ! -s err ]
	code=$?
	[ $code = 0 ] || echo "# status $status, not $1"
	result $code "$2"
}

echo "TAP version 13"

guest reboot
is 3 "reboot: 3"
guest panic --cpus 2
is 3 "panic with panic=-1, 2 CPUs: 3"
guest exit42 --exit-port
is 42 "exit port: its value"
# reboot=t makes the kernel end by a triple fault.
"$run" --dev "$dev" --kernel "$kernel" --initrd guest.cpio --memory 192M \
	--append "console=ttyS0 loglevel=3 panic=-1 reboot=t do=reboot" >out 2>err </dev/null
status=$?
[ $status = 4 ] && [ "$(wc -l <err)" = 1 ] && grep -q 'triple fault.*rip=' err
result $? "triple fault: 4 and one line (status $status)"

start button && kill -PWR $vmm
wait $vmm
status=$?
vmm=
[ $status = 0 ] && tr -d '\r' <out | grep -q '^button 0 [1-9]'
result $? "power button by SIGPWR"

finish
