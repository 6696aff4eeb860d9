#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that a machine whose move goes wrong runs on exactly one side, that its memory is right, and that its disk has one
# writer: a stock guest that writes records to its disk, one after the other, with sums over its memory and pages that are dirtied,
# moves on a wire that is cut after any byte of the stream, every second time near one that the destination says, as it does in the
# hand-over; and while it moves either side is killed at any moment. Who ends says why in one line. One whose owner was killed runs nowhere, and is
# started anew. Where nobody can know whose it is, it is held until somebody says so.
#
# Environment: as lib/vm.sh says; CUTS (40), KILLS (16): how often.

set -u
. "$(dirname "$0")/lib/vm.sh"
load=$(command -v guestload || echo "$here/guestload")
cutwire=$(command -v cutwire || echo "$here/cutwire")
cuts=${CUTS:-40} kills=${KILLS:-16}
disk_mib=$((64 + 4 * (cuts + kills)))	# for some 50 records of 4 KiB in each of 10 to 20 seconds
kernel=$(kernel_image 6.1)
need_run
need_kernel "$kernel"
own_directory
new='' wire=''
tidy() { for pid in $new $wire; do kill "$pid" 2>/dev/null; done; }
ip link set lo up 2>/dev/null
port=4800
SETTLED_S=150	# who has lost the other one asks for two minutes

"$mkguest" --add "$load" --kernel 6.1 --modules virtio_pci,virtio_blk guest.cpio './guestload 20 1 2 8 first disk=/dev/vda' || exit 1

random() { echo $(($(od -An -N4 -tu4 /dev/urandom) % $1)); } # BELOW

next_turn() {
	turn=$((turn + 1))
	show="says second err.$turn err.$((turn + 1)) log.$turn log.$((turn + 1))"
}

start() {
	next_turn
	rm -f disk && truncate -s ${disk_mib}M disk
	"$run" --dev "$dev" --name vm$turn --kernel "$kernel" --initrd guest.cpio --memory 96M --disk path=disk \
		--append "console=ttyS0 loglevel=4 panic=-1 guest.lean" >log.$turn 2>err.$turn </dev/null &
	vmm=$!
	wait_for "load 2 " log.$turn
}

# --- who runs ---

seconds() { grep -o 'load [0-9]* gap' "$1" | sed 's/[^0-9]//g' | tail -n 1; } # LOG: for how many it says to have worked
beyond() { [ "$(seconds "$2")" -gt "$1" ]; }
complaint() { grep -E 'DIFFERS|lockup|stall|BUG|Oops|WARNING' "$1"; }
goes_on() { # LOG PID
	from=$(seconds "$1")
	await_while "runs $2" 60 beyond "$((${from:-0} + 1))" "$1" && ! complaint "$1"
}
unknown() { "$ctl" --json status vm$turn 2>/dev/null | grep -q '"phase": *"unknown"'; }
has_ended() { ! runs "$1"; }
settled() { has_ended "$vmm" || has_ended "$new" || unknown; }
one_line() { [ "$(wc -l <"$1")" = 1 ]; }
one_writer() { ! "$run" --dev "$dev" --kernel "$kernel" --memory 96M --disk path=disk >second 2>&1 </dev/null && grep -q "'disk'" second; }

# The destination is the machine now
is_there() {
	vmm=$new new=''
	next_turn
}

# It goes on at the source, once somebody has said so where that cannot know
stays() {
	outcome=stayed
	if unknown; then
		outcome='held, and let go'
		"$ctl" resume vm$turn >>says 2>&1 || return 1
	fi
	goes_on log.$turn "$vmm"
}

# judge: exactly one of both runs; sets $outcome
judge() {
	outcome='not settled'
	await $SETTLED_S settled || return 1
	if has_ended "$vmm"; then
		outcome=moved
		wait "$vmm" && goes_on log.$((turn + 1)) "$new" || return 1
		is_there
	elif has_ended "$new"; then
		wait "$new"
		[ $? = 1 ] && one_line err.$((turn + 1)) || return 1
		new=''
		stays || return 1
	else
		outcome='moved, and held at the source'
		goes_on log.$((turn + 1)) "$new" || return 1
		at=$(seconds log.$turn)
		! "$ctl" resume vm$turn >>says 2>&1 && [ "$(seconds log.$turn)" = "$at" ] && "$ctl" stop vm$turn --now >>says 2>&1 || return 1
		wait "$vmm"
		is_there
	fi
	one_writer
}

# What the other one does then: ends, or goes on
source_goes_on() { [ $moved = 0 ] || has_ended "$vmm" || unknown || beyond "$before" log.$turn; }
destination_goes_on() { has_ended "$new" || [ -n "$(seconds log.$((turn + 1)))" ]; }

# judge_without SOURCE|DESTINATION: that one was killed
judge_without() {
	outcome='not settled'
	if [ "$1" = DESTINATION ]; then
		wait "$new" 2>/dev/null
		new=''
		await $SETTLED_S source_goes_on || return 1
		if [ $moved = 0 ] || has_ended "$vmm"; then
			outcome='had moved, and is gone'
			wait "$vmm" || return 1
			start
			return
		fi
		stays && one_writer
		return
	fi
	wait "$vmm" 2>/dev/null
	await $SETTLED_S destination_goes_on || return 1
	if has_ended "$new"; then
		outcome='is gone'
		wait "$new"
		[ $? = 1 ] && one_line err.$((turn + 1)) && [ ! -s log.$((turn + 1)) ] || return 1
		new=''
		start
		return
	fi
	outcome='had moved'
	goes_on log.$((turn + 1)) "$new" || return 1
	is_there
	one_writer
}

# --- what goes wrong ---

listens() { grep -q "$(printf ':%04X 00000000:0000 0A' "$1")" /proc/net/tcp; } # PORT

receive() {
	port=$((port + 2))
	"$run" --dev "$dev" --name vm$((turn + 1)) --incoming tcp:127.0.0.1:$port,tls=off >log.$((turn + 1)) 2>err.$((turn + 1)) </dev/null &
	new=$!
	await 30 listens $port
}

cut() { # BYTES BACK
	receive
	"$cutwire" $((port + 1)) $port "$1" "$2" >passed 2>&1 &
	wire=$!
	await 30 listens $((port + 1))
	"$ctl" migrate vm$turn tcp:127.0.0.1:$((port + 1)),tls=off --connections 1 >says 2>&1
	judge
	code=$?
	kill $wire
	wait $wire 2>/dev/null
	wire=''
	return $code
}

killed() { # SOURCE|DESTINATION MILLISECONDS
	receive
	"$ctl" migrate vm$turn tcp:127.0.0.1:$port,tls=off --connections 1 >says 2>&1 &
	mover=$!
	usleep $(($2 * 1000))
	if [ "$1" = SOURCE ]; then kill -KILL "$vmm" 2>/dev/null; else kill -KILL "$new"; fi
	wait $mover
	moved=$?
	before=$(seconds log.$turn)
	judge_without "$1"
}

# All records are on the disk, in order
records_are_there() {
	wrote=$(sed -n 's/.* records \([0-9]*\).*/\1/p' log.$turn | tail -n 1)
	tr -d '\0' <disk >found
	[ "$(wc -l <found)" -ge "$wrote" ] && seq 0 $(($(wc -l <found) - 1)) | sed 's/^/record /' | cmp -s - found
}

echo "TAP version 13"
turn=0
start
result $? "a stock guest runs"
begun=$(date +%s)
cut 1000000000000 0
code=$?
took=$((($(date +%s) - begun) * 1000))
read -r total back <passed
result $code "a wire that holds: $outcome, $total bytes, $back come back"

i=0
while [ $i -lt "$cuts" ]; do
	i=$((i + 1))
	if [ $((i % 2)) = 0 ]; then
		first=0 at=$(random "$total")
	else
		first=$((1 + $(random "$back"))) at=$(random 64)
	fi
	cut "$at" "$first"
	result $? "cut after $at bytes, $first that came back before them: $outcome"
done

i=0
while [ $i -lt "$kills" ]; do
	i=$((i + 1))
	if [ $((i % 2)) = 0 ]; then who=SOURCE; else who=DESTINATION; fi
	ms=$(random $took)
	killed $who "$ms"
	result $? "the $(echo $who | tr A-Z a-z) is killed after $ms ms: $outcome"
done
records_are_there
result $? "its disk has all $wrote records, in order"
finish
