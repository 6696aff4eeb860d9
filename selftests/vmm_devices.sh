#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies consoles, ports, the balloon and the entropy source with a stock kernel's own drivers: bytes pass through ports both
# ways unharmed, by the control socket, a socket, a pseudo-terminal and a file; a terminal's size reaches the guest's tty; free
# memory goes back to the host by itself; the balloon reaches its target, and the host has the memory; a guest that is short of
# memory takes some back; statistics arrive.
#
# The guest runs what it is told through a port (ask).
#
# Environment: as lib/vm.sh says; GUEST_SERIES (6.1).

set -u
. "$(dirname "$0")/lib/vm.sh"
series=${GUEST_SERIES:-6.1}
kernel=$(kernel_image "$series")
need_run
need_kernel "$kernel"
own_directory
show="err out agent.out balloon"

asked=0
# ask COMMAND: the guest's shell runs it; what it says is in agent.out, its status is ours
ask() {
	asked=$((asked + 1))
	echo "$1" >&3
	await_vm 180 grep -q "^done $asked " agent.out && grep -q "^done $asked 0$" agent.out
}

# resident: MiB of the guest's memory that the host has given
resident() {
	awk '/^Size:/ { size = $2 } /^Rss:/ { if (size > most) { most = size; rss = $2 } } END { print int(rss / 1024) }' "/proc/$vmm/smaps"
}
resident_below() { [ "$(resident)" -lt "$1" ]; }

# number FIELD: of the balloon's state; balloon FIELD: the same in MiB
number() { "$ctl" --json balloon vm >balloon && sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" balloon; }
balloon() { number "$1" | awk '{ print int($1 / 1048576) }'; }
kept() { [ "$(balloon actual)" = "$1" ]; }
kept_between() { a=$(balloon actual) && [ "$a" -ge "$1" ] && [ "$a" -le "$2" ]; }

cat >guest <<'GUEST'
port() { # its device
	while ! grep -qsx "$1" /sys/class/virtio-ports/*/name; do usleep 50000; done
	echo "/dev/$(basename "$(dirname "$(grep -sxl "$1" /sys/class/virtio-ports/*/name)")")"
}
# all of what the host sends, back to it
mirror() {
	exec 5<>"$(port bulk)"
	# an empty one: the host has not come yet
	until dd bs=4k count=$1 iflag=fullblock <&5 >/tmp/data 2>/dev/null && [ -s /tmp/data ]; do usleep 50000; done
	cat /tmp/data >&5
	exec 5>&-
	rm /tmp/data
}
entropy() {
	grep -q '^virtio_rng' /sys/class/misc/hw_random/rng_current || return
	dd if=/dev/hwrng bs=2k count=1 iflag=fullblock of=/tmp/a 2>/dev/null || return
	dd if=/dev/hwrng bs=2k count=1 iflag=fullblock of=/tmp/b 2>/dev/null || return
	[ "$(wc -c </tmp/a)" = 2048 ] && ! cmp -s /tmp/a /tmp/b && [ "$(gzip -c /tmp/a | wc -c)" -ge 2048 ]
}
# is the terminal as large as "ROWS COLUMNS", soon?
tty_size() {
	tries=100
	while [ "$(stty -F /dev/hvc0 size)" != "$1" ]; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || { stty -F /dev/hvc0 size; return 1; }
		usleep 100000
	done
}
# a file in memory, until it is removed
fill() { tr '\0' x </dev/zero | dd bs=64k count=$(($1 * 16)) iflag=fullblock of=/tmp/fill 2>/dev/null; }

while [ ! -c /dev/hvc0 ]; do usleep 50000; done
stty -F /dev/hvc0 raw -echo
exec 4<>/dev/hvc0
exec 3<>"$(port agent)"
n=0
while :; do
	read -r line <&3 || { usleep 50000; continue; }
	eval "$line" >/tmp/said 2>&1
	code=$?
	n=$((n + 1))
	{
		cat /tmp/said
		echo "done $n $code"
	} >&3
done
GUEST
"$mkguest" --add guest --kernel "$series" --modules virtio_pci,virtio_console,virtio_balloon,virtio_rng guest.cpio 'sh guest' || exit 1

echo "TAP version 13"
"$run" --dev "$dev" --kernel "$kernel" --initrd guest.cpio --memory 256M --exit-port --name vm \
	--append "console=ttyS0 loglevel=4 panic=-1" --balloon --rng \
	--port name=agent,control --port name=bulk,socket=bulk.sock --port name=tty,control,console=on --port name=keys,pty \
	--port name=log,file=log >out 2>err </dev/null &
vmm=$!
mkfifo orders
# the control socket is there once the machine runs
await_vm 60 "$ctl" status vm >status
"$ctl" console vm agent >agent.out 2>&1 <orders &
pids="$pids $!"
exec 3>orders
ask 'port log; cat /sys/class/virtio-ports/*/name | tr "\n" " "; echo' && grep -q 'tty agent bulk keys log' agent.out
result $? "a stock kernel finds the ports by name"

dd if=/dev/urandom of=data bs=4k count=300 2>/dev/null
"$ctl" console vm bulk <data >back 2>&1 &
pids="$pids $!"
ask 'mirror 300'
code=$?
await_vm 20 cmp -s data back || code=1
result $code "a port by a socket: 1200 KiB there and back"
ask 'echo "to the file" >"$(port log)"' && await_vm 20 grep -qx "to the file" log
result $? "a port to a file"

# The terminal of pvhvctl is one of the guest's ports: what the guest writes there is typed at its own console.
pts=$(sed -n 's/.* port is //p' err)
stty -F "$pts" rows 40 cols 132
"$ctl" console vm tty <"$pts" >tty.out 2>&1 &
console=$!
pids="$pids $console"
ask 'tty_size "40 132"'
result $? "the guest's tty has the size of the client's"
stty -F "$pts" rows 51 cols 203
kill -WINCH $console
ask 'tty_size "51 203"'
result $? "and follows it"
ask 'echo "from the guest" >&4; echo typed >"$(port keys)"; read -r key <&4; [ "$key" = typed ]' &&
	await_vm 20 grep -q "from the guest" tty.out
result $? "the console, both ways"

ask entropy
result $? "entropy"

ask 'fill 90'
full=$(resident)
ask 'rm /tmp/fill'
await_vm 40 resident_below $((full - 70))
code=$?
echo "# $full MiB resident with 90 MiB of a file, $(resident) MiB after it was removed; $(balloon reported) MiB reported"
[ "$(balloon reported)" -ge 70 ] || code=1
result $code "free memory goes back to the host by itself"

# What is free goes to the balloon at once; the file's memory does when there is any
ask 'fill 90'
full=$(resident)
"$ctl" balloon vm 96M
await_vm 30 kept_between 97 200
code=$?
ask 'rm /tmp/fill' || code=1
await_vm 40 kept 96 || code=1
await_vm 10 resident_below 97 || code=1
echo "# $full MiB resident with 90 MiB of a file, $(resident) MiB with 96 MiB left to the guest"
[ "$(balloon inflated)" -ge 160 ] && [ "$full" -ge 110 ] || code=1
result $code "the balloon reaches its target, and the host has the memory"

updates=$(number updates)
free=$(balloon free)
total=$(balloon total)
ask 'fill 8'
await_vm 20 eval '[ "$(balloon free)" -lt $((free - 4)) ]'
code=$?
[ "$total" -ge 128 ] && [ "$total" -le 256 ] && [ "$free" -le 96 ] && [ "$(number updates)" -gt "$updates" ] || code=1
"$ctl" metrics vm | grep -q '^pvhv_balloon_guest_available_bytes{vm="vm",balloon="balloon"} [1-9]' || code=1
result $code "the guest's statistics arrive, and newer ones"

ask 'rm /tmp/fill; fill 80'
code=$?
[ "$(balloon actual)" -gt 100 ] || code=1
result $code "a guest that is short of memory takes some back"
code=0
# The guest has nothing to do, and its vCPU no reason to leave the kernel: nobody waits for that
before=$(date +%s)
for i in 1 2 3; do
	usleep 500000
	"$ctl" metrics vm >metrics || code=1
done
[ $(($(date +%s) - before)) -lt 30 ] && grep -q '^pvhv_vcpu_exits_total{vm="vm",vcpu="0"} [1-9]' metrics || code=1
result $code "an idle guest's numbers are there at once"
"$ctl" balloon vm 256M
await_vm 40 kept 256
result $? "the balloon gives all back"

! "$ctl" balloon vm 257M 2>says && grep -q "more than the machine's" says
result $? "a target beyond the machine's memory is refused"
echo 'exit 0' >&3
wait "$vmm"
status=$?
vmm=
[ $status = 0 ] && [ "$(grep -vc ' port is /dev/pts/' err)" = 0 ] && [ ! -e bulk.sock ]
result $? "it ends well, and nothing is left (status $status)"

finish
