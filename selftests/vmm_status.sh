#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies how pvhv-run ends: its status for power-off, reboot, panic, triple fault, exit port, power button, signals and
# the escape key; and that console output arrives complete, at a slow reader too, and that input works or may end.
#
# Environment: PVHV_RUN (the program), PVHV_DEV (/dev/pvhv), PVHV_GUESTS (a directory with vmlinux-6.1 or vmlinuz-6.1),
# GUEST_KERNEL (a kernel to boot instead).

set -u
here=$(cd "$(dirname "$0")" && pwd)
run=${PVHV_RUN:-$(command -v pvhv-run || echo "$here/../vmm/pvhv-run")}
mkguest=$(command -v mkguest || echo "$here/host/mkguest")
dev=${PVHV_DEV:-/dev/pvhv}
kernel=${GUEST_KERNEL:-}
for file in "${PVHV_GUESTS:-/none}"/vmlinux-6.1 "${PVHV_GUESTS:-/none}"/vmlinuz-6.1; do
	[ -n "$kernel" ] || ! [ -r "$file" ] || kernel=$file
done
if [ ! -x "$run" ] || [ ! -r "$dev" ] || [ ! -r "$kernel" ]; then
	echo "1..0 # SKIP no pvhv-run, no $dev or no kernel image"
	exit 4
fi

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
nr=0
failed=0

result() {
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr $2"
	else
		echo "not ok $nr $2"
		[ ! -s err ] || sed 's/^/# /' err
		[ ! -s out ] || tail -n 12 out | tr -d '\r' | sed 's/^/#   /'
		failed=1
	fi
}

# One guest for all: what it does comes from the command line, which is do=NAME.
cat >guest <<'GUEST'
what=$(sed -n 's/.*do=\([a-z0-9]*\).*/\1/p' /proc/cmdline)
case $what in
reboot) reboot ;;
panic) echo c >/proc/sysrq-trigger ;;
exit42) exit 42 ;;
flood)
	i=0
	while [ $i -lt 400 ]; do
		echo "line $i 0123456789012345678901234567890123456789012345678901234567890123456789"
		i=$((i + 1))
	done >/tmp/flood
	cat /tmp/flood /tmp/flood /tmp/flood /tmp/flood
	;;
echo)
	stty -F /dev/ttyS0 -echo icanon icrnl
	echo ready
	while read -r line; do
		[ "$line" != end ] || break
		echo "got $line"
	done </dev/ttyS0
	;;
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
wait)
	echo ready
	sleep 600
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

# wait_for TEXT FILE PID
wait_for() {
	tries=0
	while ! grep -q "$1" "$2" 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 180 ] && kill -0 "$3" 2>/dev/null || return 1
		sleep 1
	done
}

# start WHAT [ARG]...: in the background, until it says "ready"
start() {
	what=$1
	shift
	: >out
	# shellcheck disable=SC2046
	"$run" $(args) "console=ttyS0 loglevel=3 panic=-1 do=$what" "$@" >out 2>err </dev/null &
	pid=$!
	wait_for ready out $pid
}

is() { # STATUS NAME
	[ "$status" = "$1" ] && [ ! -s err ]
	code=$?
	[ $code = 0 ] || echo "# status $status, not $1"
	result $code "$2"
}

echo "TAP version 13"

guest poweroff
is 0 "power-off: 0"
guest reboot
is 3 "reboot: 3"
guest panic --cpus 2
is 3 "panic with panic=-1, 2 CPUs: 3"
guest exit42 --exit-port
is 42 "exit port: its value"
guest exit42
is 0 "exit port not asked for: ignored"

# reboot=t makes the kernel end by a triple fault.
"$run" --dev "$dev" --kernel "$kernel" --initrd guest.cpio --memory 192M \
	--append "console=ttyS0 loglevel=3 panic=-1 reboot=t do=reboot" >out 2>err </dev/null
status=$?
[ $status = 4 ] && [ "$(wc -l <err)" = 1 ] && grep -q 'triple fault.*rip=' err
result $? "triple fault: 4 and one line (status $status)"

start button && kill -PWR $pid
wait $pid
status=$?
[ $status = 0 ] && tr -d '\r' <out | grep -q '^button 0 [1-9]'
result $? "power button by SIGPWR"

for signal in TERM INT; do
	if [ $signal = INT ]; then number=2; else number=15; fi
	# Of a script's background process SIGINT is ignored; then it must stay so.
	if start wait; then
		kill -$signal $pid
		if [ $signal = INT ]; then
			sleep 2
			kill -0 $pid 2>/dev/null
			result $? "SIGINT ignored at the start stays ignored"
			kill -TERM $pid
			wait $pid
		else
			wait $pid
			status=$?
			is $((128 + number)) "SIG$signal: 128+$number"
		fi
	else
		result 1 "SIG$signal"
		kill $pid 2>/dev/null
		wait $pid
	fi
done

# All lines of a flood arrive, at a reader that takes its time as well.
seq=$(i=0; while [ $i -lt 400 ]; do echo "line $i 0123456789012345678901234567890123456789012345678901234567890123456789"; i=$((i + 1)); done)
printf '%s\n%s\n%s\n%s\n' "$seq" "$seq" "$seq" "$seq" >wanted
guest flood
tr -d '\r' <out | grep '^line' >lines
[ $status = 0 ] && cmp wanted lines
result $? "flood of output to a file: complete"
mkfifo pipe
(sleep 30; while dd bs=4096 count=1 2>/dev/null | grep -a .; do :; done) <pipe >slow &
reader=$!
# shellcheck disable=SC2046
"$run" $(args) "console=ttyS0 loglevel=3 panic=-1 do=flood" >pipe 2>err </dev/null
status=$?
wait $reader
tr -d '\r' <slow | grep -a '^line' | wc -l >count
[ $status = 0 ] && [ "$(wc -c <slow)" -ge "$(wc -c <wanted)" ]
result $? "flood of output to a slow pipe: complete ($(cat count) lines, status $status)"
# shellcheck disable=SC2046
"$run" $(args) "console=ttyS0 loglevel=3 panic=-1 do=flood" 2>err </dev/null | head -n 1 >out
[ ! -s err ]
result $? "a reader that goes away"

# Input from a pipe, then its end.
: >out
# shellcheck disable=SC2046
(wait_for ready out $$; echo one; sleep 1; echo two; head -c 3000 /dev/zero | tr '\0' x; echo; sleep 1; echo end) |
	"$run" $(args) "console=ttyS0 loglevel=3 panic=-1 do=echo" >out 2>err
status=$?
tr -d '\r' <out >lines
[ $status = 0 ] && grep -qx 'got one' lines && grep -qx 'got two' lines && grep -qE '^got x{3000}$' lines
result $? "input from a pipe, longer than any buffer"
# shellcheck disable=SC2046
"$run" $(args) "console=ttyS0 loglevel=3 panic=-1 do=poweroff" >out 2>err <&-
status=$?
is 0 "standard input closed"
# shellcheck disable=SC2046
"$run" $(args) "console=ttyS0 loglevel=3 panic=-1 do=poweroff" 2>err </dev/null >&-
status=$?
is 0 "standard output closed"

guest poweroff --console file=log
[ $status = 0 ] && [ -f log ] && [ ! -s out ]
result $? "--console file="
guest poweroff --console none
[ $status = 0 ] && [ ! -s out ]
result $? "--console none"

echo "1..$nr"
exit $failed
