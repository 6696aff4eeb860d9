#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that a running machine moves to another pvhv-run: a stock guest with one and with two CPUs, a disk, a port, an entropy
# device, sums over its memory, pages that are dirtied and a ticker moves to and fro over TCP with TLS, and over a Unix socket.
# Its boot ID and counters go on, sums agree, its disk works and has one user, the ticker's gap is about what pvhvctl reports, the
# source ends with status 0. What fails (no one there, another memory size, other devices, no certificate, another CA's, a receiver
# that is killed, a cancel, a time-out) is said in one line and leaves the source running.
#
# Environment: PVHV_RUN, PVHVCTL (the programs), PVHV_DEV (/dev/pvhv), PVHV_GUESTS (a directory with vmlinuz-6.1, modules-6.1),
# MOVES (4: how often each machine moves)

set -u
here=$(cd "$(dirname "$0")" && pwd)
run=${PVHV_RUN:-$(command -v pvhv-run || echo "$here/../vmm/pvhv-run")}
ctl=${PVHVCTL:-$(command -v pvhvctl || echo "$here/../vmm/pvhvctl")}
mkguest=$(command -v mkguest || echo "$here/host/mkguest")
load=$(command -v guestload || echo "$here/guestload")
dev=${PVHV_DEV:-/dev/pvhv}
kernel=${PVHV_GUESTS:-/none}/vmlinuz-6.1
if [ ! -x "$run" ] || [ ! -x "$ctl" ] || [ ! -r "$dev" ] || [ ! -r "$kernel" ]; then
	echo "1..0 # SKIP no pvhv-run, no pvhvctl, no $dev or no kernel image"
	exit 4
fi
# An emulated host has it where it was put.
[ ! -e libgnutls.so.30 ] || export LD_LIBRARY_PATH="$PWD"

dir=$(mktemp -d) || exit 1
export PVHV_RUNDIR="$dir"
vmm='' new=''
trap 'for p in $vmm $new; do kill "$p" 2>/dev/null; done; rm -rf "$dir"' EXIT
trap 'exit 143' TERM INT HUP
cd "$dir" || exit 1
ip link set lo up 2>/dev/null
nr=0
failed=0
port=4700
before='' gap=''

result() {
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr $2"
	else
		echo "not ok $nr $2"
		for file in says err.$turn err.$((turn + 1)) log.$turn log.$((turn + 1)); do
			[ ! -s "$file" ] || tail -n 6 "$file" | tr -d '\r' | sed "s/^/# $file: /"
		done
		failed=1
	fi
}

# wait_for TEXT FILE [SECONDS] [PID]
wait_for() {
	tries=0
	while ! grep -q "$1" "$2" 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt "${3:-180}" ] && kill -0 "${4:-$vmm}" 2>/dev/null || return 1
		sleep 1
	done
}

# What a tick does costs a guest in an emulated host a second or more: they take turns.
cat >guest <<'GUEST'
id=$(cat /proc/sys/kernel/random/boot_id)
./guestload 20 1 2 1 &
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
	2) echo "port $i" >/dev/vport*p1 ;;
	esac
	usleep 200000
done
GUEST
"$mkguest" --add guest --add "$load" --kernel 6.1 --modules virtio_pci,virtio_blk,virtio_console,virtio_rng guest.cpio 'sh guest' || exit 1
truncate -s 16M disk.img
truncate -s 32M other.img

tick() { sed -n 's/.*tick \([0-9]*\) .*/\1/p' "$1" | tail -n 1; }
complains() { grep -E 'DIFFERS|lockup|stall|BUG|Oops|WARNING' "$1"; }

# goes_on FILE FROM [PID]: more ticks, of the same boot, and no complaint
goes_on() {
	wait_for "tick $(($2 + 4)) $id" "$1" 120 "${3:-$vmm}" && ! complains "$1" >/dev/null
}

# receive ARG...: the next turn's; sets $new, $to
receive() {
	port=$((port + 1))
	to=tcp:127.0.0.1:$port,$tls
	receive_at "$@"
}
receive_at() {
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
	turn=$((turn + 1))
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

# refused STATUS TEXT: pvhvctl said so in one line, the other one ended with one, and the machine runs on
refused() {
	code=0
	"$ctl" migrate vm$turn "$to" >says 2>&1
	[ $? = "$1" ] && [ "$(wc -l <says)" = 1 ] && grep -q "$2" says || code=1
	if [ -n "$new" ]; then
		wait "$new"
		[ $? = 1 ] && [ "$(wc -l <err.$((turn + 1)))" = 1 ] || code=1
		new=''
	fi
	goes_on log.$turn "$(tick log.$turn)" || code=1
	rm -f err.$turn && : >err.$turn
	return $code
}

echo "TAP version 13"
turn=0
mkdir tls && "$ctl" tls init tls >says 2>&1
code=$?
[ $code != 0 ] || [ -s tls/ca-cert.pem ] || code=1
result $code "pvhvctl tls init"
tls=tls_dir=tls
[ $code = 0 ] || tls=tls=off
for cpus in 1 2; do
	rm -f disk.img && truncate -s 16M disk.img
	"$run" --dev "$dev" --name vm$turn --kernel "$kernel" --initrd guest.cpio --memory 192M --cpus $cpus --disk path=disk.img \
		--port name=p,file=port.$turn --rng --append "console=ttyS0 loglevel=4 panic=-1" >log.$turn 2>err.$turn </dev/null &
	vmm=$!
	wait_for "tick 3 " log.$turn
	result $? "$cpus CPUs: a stock guest runs"
	id=$(sed -n 's/.*tick 1 \([0-9a-f-]*\) .*/\1/p' log.$turn)
	i=0
	while [ $i -lt "${MOVES:-4}" ]; do
		i=$((i + 1))
		if [ $i = 3 ]; then
			to=unix:$dir/incoming.sock
			receive_at
		else
			receive
		fi
		case $i in
		2) set -- --connections 3 --compress 1 ;;
		4) set -- --bandwidth 20M ;;
		*) set -- ;;
		esac
		move "$@"
		code=$?
		if [ $code = 0 ]; then
			gap
			code=$?
		fi
		result $code "$cpus CPUs, move $i $*: $(cat says); largest gaps $before us before, $gap us after"
		[ -z "$new" ] || break
	done
	if [ -n "$new" ]; then
		kill "$new"
		break
	fi
	[ -s port.$turn ] && grep -q '^port [0-9]*$' port.$turn
	result $? "its port works"
	[ $cpus = 1 ] || break

	to=tcp:127.0.0.1:4699,$tls
	refused 1 'refused'
	result $? "nobody there"
	receive --memory 256M
	refused 3 'memory block'
	result $? "another memory size"
	receive --disk path=other.img
	refused 3 'disk0'
	result $? "another disk"
	receive --balloon
	refused 3 'balloon'
	result $? "another device"

	receive
	"$ctl" migrate vm$turn "$to" --bandwidth 1M >says 2>&1 &
	mover=$!
	sleep 4
	kill -INT $mover
	wait $mover
	code=$?
	wait "$new"
	[ $? = 1 ] && [ $code = 3 ] && grep -q cancel says && goes_on log.$turn "$(tick log.$turn)"
	result $? "a cancel"
	new=''
	receive
	"$ctl" migrate vm$turn "$to" --bandwidth 1M >says 2>&1 &
	mover=$!
	sleep 4
	kill -KILL "$new"
	wait $mover
	[ $? = 3 ] && [ "$(wc -l <says)" = 1 ] && goes_on log.$turn "$(tick log.$turn)"
	result $? "a receiver that is killed"
	wait "$new" 2>/dev/null
	new=''
	receive
	"$ctl" migrate vm$turn "$to" --bandwidth 1M --timeout 3 >says 2>&1
	code=$?
	wait "$new"
	[ $? = 1 ] && [ $code = 3 ] && grep -q 'not done within' says && goes_on log.$turn "$(tick log.$turn)"
	result $? "a time-out"
	new=''
	if [ $tls != tls=off ]; then
		"$ctl" tls init theirs >says 2>&1
		receive
		to=${to%,*},tls_dir=theirs
		"$ctl" migrate vm$turn "$to" >says 2>&1
		[ $? = 1 ] && [ "$(wc -l <says)" = 1 ] && grep -q TLS says && kill -0 "$new" && goes_on log.$turn "$(tick log.$turn)"
		result $? "another CA's certificate: refused, the receiver waits on"
		to=${to%,*},tls=off
		"$ctl" migrate vm$turn "$to" >says 2>&1
		[ $? = 3 ] && [ "$(wc -l <says)" = 1 ] && kill -0 "$new" && goes_on log.$turn "$(tick log.$turn)"
		result $? "no certificate"
		to=${to%,*},$tls
		: >err.$turn
		move
		result $? "and with the right one it moves"
	fi
	"$ctl" stop vm$turn --now >says 2>&1
	wait "$vmm"
	vmm=''
	turn=$((turn + 1))
done

echo "1..$nr"
exit $failed
