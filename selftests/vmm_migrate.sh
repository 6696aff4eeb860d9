#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that a running machine moves to another pvhv-run: a stock guest with one and with two CPUs, a disk, a port, an entropy
# device, sums over its memory, pages that are dirtied, processes, vector registers and a ticker moves to and fro over TCP with
# TLS, and over a Unix socket. Its boot ID and counters go on, sums agree, its disk works and has one user, the ticker's gap is
# about what pvhvctl reports, the source ends with status 0. Whatever fails is said in one line, and the machine runs on where it was: no one there, another memory
# size, other devices, a stream of another version, no certificate, another CA's, a cancel, a time-out, a connection that is cut
# or stands still, a receiver that is killed or hangs. A source that is killed runs nowhere. With --copy-disks its disk goes along,
# while it writes to it; a move that fails leaves no copy.
#
# Argument: "quick": one CPU, two moves, and what needs no waiting
# Environment: as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"
load=$(command -v guestload || echo "$here/guestload")
quick=${1-}
kernel=$(kernel_image 6.1)
need_run
need_kernel "$kernel"
# An emulated host has it where it was put.
[ ! -e libgnutls.so.30 ] || export LD_LIBRARY_PATH="$PWD"

own_directory
tidy() { [ -z "$new" ] || kill "$new" 2>/dev/null; }
ip link set lo up 2>/dev/null
port=4700
before='' gap='' new='' disk=disk.img

next_turn() {
	turn=$((turn + 1))
	show="says second err.$turn err.$((turn + 1)) log.$turn log.$((turn + 1))"
}

# What a tick does costs a guest in an emulated host a second or more: they take turns.
cat >guest <<'GUEST'
id=$(cat /proc/sys/kernel/random/boot_id)
# shellcheck disable=SC2046
./guestload 20 1 2 1 $(sed -n 's/.*guest[.]load=\([a-z]*\).*/\1/p' /proc/cmdline) &
port=$(ls /dev/vport*)
i=0
while :; do
	i=$((i + 1))
	echo "tick $i $id"
	case $((i % 3)) in
	0)
		echo "record $i" | dd of=/dev/vda bs=512 seek=$i conv=sync,fsync 2>/dev/null
		[ "$(dd if=/dev/vda bs=512 skip=$i count=1 iflag=direct 2>/dev/null | head -n 1)" = "record $i" ] || echo "DISK DIFFERS"
		;;
	1) [ "$(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c)" = 16 ] || echo "RNG DIFFERS" ;;
	2) echo "port $i" >"$port" ;;
	esac
	usleep 200000
done
GUEST
"$mkguest" --add guest --add "$load" --kernel 6.1 --modules virtio_pci,virtio_blk,virtio_console,virtio_rng guest.cpio 'sh guest' || exit 1
truncate -s 32M other.img

tick() { sed -n 's/.*tick \([0-9]*\) .*/\1/p' "$1" | tail -n 1; }
complains() { grep -E 'DIFFERS|lockup|stall|BUG|Oops|WARNING' "$1"; }

# goes_on FILE FROM [PID]: more ticks, of the same boot, and no complaint
goes_on() {
	wait_for "tick $(($2 + 3)) $id" "$1" 120 "${3:-$vmm}" && ! complains "$1" >/dev/null
}

# receive ARG...: the next turn's; sets $new, $to
receive() {
	port=$((port + 1))
	to=tcp:127.0.0.1:$port,$tls
	receive_at "$@"
}
receive_at() {
	rm -f second
	"$run" --dev "$dev" --name vm$((turn + 1)) --incoming "$to" --port name=p,file=port.$((turn + 1)) "$@" >log.$((turn + 1)) \
		2>err.$((turn + 1)) </dev/null &
	new=$!
	tries=0
	# Its door is there before anything else is.
	until [ "$tries" = 30 ] || listens; do
		tries=$((tries + 1))
		sleep 1
	done
}
listens() {
	case $to in
	tcp:*) grep -q "$(printf ':%04X 00000000:0000 0A' "$port")" /proc/net/tcp ;;
	unix:*) [ -S "${to#unix:}" ] ;;
	esac
}

# arrived: the source has ended well, the other one goes on
arrived() {
	wait "$vmm"
	status=$?
	at=$(tick log.$turn)
	vmm=$new new=''
	next_turn
	[ $status = 0 ] && [ ! -s err.$((turn - 1)) ] && goes_on log.$turn "$at"
}

move() { # [OPTION...]
	"$ctl" migrate vm$turn "$to" "$@" >says 2>&1 && arrived
}

# The ticker's largest gap is what the guest stood for, within a fifth, and what the host's other work makes of it
gap() { # sets $before, $gap
	down=$(sed -n 's/.*stopped for \([0-9]*\) ms.*/\1/p' says)
	before=$(sed -n 's/.*gap \([0-9]*\) .*/\1/p' log.$((turn - 1)) 2>/dev/null | tail -n 20 | sort -n | tail -n 1)
	wait_for "load" log.$turn 20
	sleep 3
	gap=$(sed -n 's/.*gap \([0-9]*\) .*/\1/p' log.$turn | head -n 3 | sort -n | tail -n 1)
	[ -n "$down" ] && [ -n "$gap" ] && [ "$gap" -ge $((down * 800)) ] && [ "$gap" -le $((down * 1200 + before + 1000000)) ]
}

# runs_on: what went wrong has not harmed it, and its disk is nobody else's
runs_on() {
	goes_on log.$turn "$(tick log.$turn)" || return 1
	: >err.$turn
	! "$run" --dev "$dev" --kernel "$kernel" --memory 128M --disk path=$disk >second 2>&1 </dev/null && grep -q "$disk" second
}

# gives_up: the receiver has ended, and said why in one line
gives_up() {
	wait "$new"
	code=$?
	new=''
	[ $code = 1 ] && [ "$(wc -l <err.$((turn + 1)))" = 1 ] && [ ! -s log.$((turn + 1)) ]
}

# refused STATUS TEXT [OPTION...]: pvhvctl said so in one line, so did the receiver, and the machine runs on
refused() {
	want=$1 text=$2
	shift 2
	"$ctl" migrate vm$turn "$to" "$@" >says 2>&1
	[ $? = "$want" ] && [ "$(wc -l <says)" = 1 ] && grep -q "$text" says || return 1
	[ -z "$new" ] || gives_up || return 1
	runs_on
}

# under_way [OPTION...]: it is being moved, slowly; sets $mover
under_way() {
	receive
	go_slowly "$@"
}
go_slowly() {
	rm -f lines	# of another move: the shell's child makes it anew, but when?
	"$ctl" migrate vm$turn "$to" --bandwidth 1M --progress "$@" >lines 2>says &
	mover=$!
	wait_for '"phase":"memory"' lines 60 $mover
}

# failed STATUS TEXT: the same as refused, of one that was under way
failed() {
	wait $mover 2>/dev/null
	[ $? = "$1" ] && [ "$(wc -l <says)" = 1 ] && grep -q "$2" says
}

start() { # CPUS [APPEND]
	cpus=$1
	next_turn
	rm -f disk.img && truncate -s 16M disk.img && dd if=/dev/urandom of=disk.img bs=1M count=4 seek=8 conv=notrunc 2>/dev/null
	disk=disk.img
	"$run" --dev "$dev" --name vm$turn --kernel "$kernel" --initrd guest.cpio --memory 128M --cpus "$cpus" --disk path=disk.img \
		--port name=p,file=port.$turn --rng --append "console=ttyS0 loglevel=4 panic=-1 ${2-}" >log.$turn 2>err.$turn </dev/null &
	vmm=$!
	wait_for "tick 3 " log.$turn
	result $? "$cpus CPUs: a stock guest runs"
	id=$(sed -n 's/.*tick 1 \([0-9a-f-]*\) .*/\1/p' log.$turn)
}

check_port() {
	grep -q '^port [0-9]*$' port.$turn
	result $? "its port works"
}

stop() {
	check_port
	"$ctl" stop vm$turn --now >says 2>&1
	wait "$vmm"
	vmm=''
}

moves() { # [OPTION...]
	move "$@" && gap
	result $? "$cpus CPUs, ${to%%:*} $*: $(cat says); largest gaps $before us before, $gap us after"
}

check_estimate() {
	"$ctl" --json estimate vm$turn --bandwidth 10M >estimate 2>&1 && grep -q '"dirty_rate": *[1-9]' estimate && grep -q '"downtime": *0' estimate &&
		"$ctl" estimate vm$turn --period 0 2>&1 | grep -q 'makes no sense'
	result $? "an estimate: $(tr -d '\n' <estimate)"
}

check_evacuation() {
	receive
	"$ctl" evacuate "$to" --bandwidth 20M >says 2>&1 && arrived && gap
	result $? "all machines leave: $(cat says); largest gaps $before us before, $gap us after"
	"$ctl" evacuate tcp:127.0.0.1:4699,$tls >says 2>&1
	[ $? = 3 ] && grep -q '1 of 1 machines have stayed' says && runs_on
	result $? "one that cannot leave stays"
}

check_refusals() {
	receive --memory 256M
	refused 3 'memory block'
	result $? "another memory size"
	[ -z "$quick" ] || return
	to=tcp:127.0.0.1:4699,$tls
	refused 1 'refused'
	result $? "nobody there"
	receive --disk path=other.img
	refused 3 'disk0'
	result $? "another disk"
	receive --balloon
	refused 3 'balloon'
	result $? "another device"

	# A header of version 9 that is right otherwise
	port=$((port + 1))
	to=tcp:127.0.0.1:$port,tls=off
	receive_at
	{
		printf 'PVHVMIG\032\011\000\000\000\000\000\000\000'
		printf '\001%.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
		printf '\000\000\000\000\001\000\000\000\000\020\000\000'
		printf '\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\340\251\074\147'
		sleep 2
	} | nc 127.0.0.1 $port >/dev/null
	gives_up && grep -q 'version 9' err.$((turn + 1))
	result $? "another version of the stream"
}

check_strangers() {
	"$ctl" tls init theirs >says 2>&1
	receive
	to=${to%,*},tls_dir=theirs
	"$ctl" migrate vm$turn "$to" >says 2>&1
	[ $? = 1 ] && [ "$(wc -l <says)" = 1 ] && grep -q TLS says && kill -0 "$new" && runs_on
	result $? "another CA's certificate: refused, the receiver waits on"
	to=${to%,*},tls=off
	"$ctl" migrate vm$turn "$to" >says 2>&1
	[ $? = 3 ] && [ "$(wc -l <says)" = 1 ] && kill -0 "$new" && runs_on
	result $? "no certificate"
	to=${to%,*},$tls
	moves --compress 1
}

check_faults() {
	under_way
	kill -KILL "$new"
	failed 3 . && runs_on
	result $? "a receiver that is killed"
	wait "$new" 2>/dev/null
	new=''
	[ -z "$quick" ] || return

	under_way
	kill -INT $mover
	failed 3 cancel && gives_up && runs_on
	result $? "a cancel"
	under_way --timeout 3
	failed 3 'not done within' && gives_up && runs_on
	result $? "a time-out"

	# pvhvctl carries the connection: without it there is none
	for seconds in 0 4; do
		under_way
		sleep $seconds
		kill -KILL $mover
		wait $mover 2>/dev/null
		wait_for 'moving the machine' err.$turn 30 && gives_up && runs_on
		result $? "a connection that is cut, $seconds s after it was made"
	done
	under_way
	kill -STOP $mover
	wait_for 'moving the machine' err.$turn 90 && gives_up
	code=$?
	kill -KILL $mover
	wait $mover 2>/dev/null
	[ $code = 0 ] && runs_on
	result $? "a connection that stands still"
	under_way
	kill -STOP "$new"
	failed 3 . && runs_on
	result $? "a receiver that hangs"
	kill -KILL "$new"
	wait "$new" 2>/dev/null
	new=''
}

# From disk.img to copy.img: they are alike but for what was written after the move, all of it behind what was before
copied() {
	first=$(cmp disk.img copy.img | sed -n 's/.*[a-z] \([0-9]*\), line.*/\1/p')
	[ "$(stat -c %s copy.img)" = 16777216 ] && { [ -z "$first" ] || [ $(((first - 1) / 512)) -ge "$at" ]; }
}

check_copy() {
	truncate -s 16M full.img && echo something | dd of=full.img conv=notrunc,fsync 2>/dev/null
	receive --disk path=full.img
	refused 3 'holds something' --copy-disks
	result $? "a disk's place is taken: $(cat says)"

	receive --disk path=copy.img
	go_slowly --copy-disks
	[ "$(stat -c %s copy.img)" = 16777217 ] && grep -q '"disk_total":16777216' lines
	marked=$?
	kill -INT $mover
	failed 3 cancel && gives_up && [ ! -e copy.img ] && [ $marked = 0 ] && runs_on
	result $? "a cancel while its disk is copied: no copy stays"

	receive --disk path=copy.img
	move --copy-disks --bandwidth 10M && copied
	result $? "its disk goes along: $(cat says)"
	disk=copy.img
	runs_on
	result $? "it works on the copy: $(cmp disk.img copy.img)"
}

# Nobody has it then
check_dead_source() {
	under_way
	kill -KILL "$vmm"
	wait "$vmm" 2>/dev/null
	vmm=$new
	failed 4 . && gives_up
	result $? "a source that is killed"
	vmm=''
}

echo "TAP version 13"
turn=0
mkdir tls && "$ctl" tls init tls >says 2>&1
code=$?
[ $code != 0 ] || [ -s tls/ca-cert.pem ] || code=1
result $code "pvhvctl tls init"
tls=tls_dir=tls

# Several busy CPUs of a guest hang in these hosts now and then: docs/emulated-hosts.md
start 1 "$([ -n "$quick" ] || echo guest.load=more)"
receive
moves --connections 3 --compress 1
to=unix:$dir/incoming.sock
receive_at
moves
check_estimate
check_refusals
check_faults
check_copy
if [ -z "$quick" ]; then
	check_evacuation
	check_strangers
	check_port
	check_dead_source
	tls=tls=off
	start 2
	receive
	moves --connections 2
	receive
	moves --compress 1
fi
[ -z "$vmm" ] || stop

finish
