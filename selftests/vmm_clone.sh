#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies what a snapshot and its clones cost, with a guest of 512 MiB on the pvhv bus that keeps writing: the snapshot stops it for
# less than a tenth of the time that writing its memory takes; a clone has run an instruction of its user space after less than a
# twentieth of the processor time that the guest's boot took (a count of instructions, but for the emulator's moods); 24 clones share
# at least 80 % of the memory that they have; and each is another machine: its generation ID, its random numbers, its network's
# address are its own, its link is on, its boot and its counters go on.
#
# Environment: as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"
kernel=$guests/vmlinuz-6.1
need_run
need_kernel "$kernel"
own_network "$@"
bridge 10.66.0.1/24
clones=24

tidy() {
	[ ! -S grandchild.sock ] || "$ctl" stop grandchild --now >/dev/null 2>&1
	for i in $(seq $clones); do [ ! -S "c$i.sock" ] || "$ctl" stop "c$i" --now >/dev/null 2>&1; done
}
own_directory
show='err says log c1.log'

figure() { sed -n "s/.*\"$1\": *\([0-9.e-]*\).*/\1/p" says | tail -n 1 | awk '{ printf "%d\n", $1 * 1000000 }'; }
# cpu_ms PID: of all of its threads; without a program, as the machine goes on meanwhile
cpu_ms() {
	ns=0
	for task in /proc/"$1"/task/*; do
		read -r one _ <"$task/schedstat"
		ns=$((ns + one))
	done
	echo $((ns / 1000000))
}

# 96 MiB of data that all of them read, some of it is written now and then; each life is told from the others.
cat >guest <<'GUEST'
echo booted
id=$(cat /proc/sys/kernel/random/boot_id)
dd if=/dev/urandom of=/tmp/data bs=1M count=96 2>/dev/null
(while :; do echo beat; usleep 300000; done) &
beat=$!
i=0
was=
while :; do
	i=$((i + 1))
	forks=$(dmesg | grep -c 'virtual machine fork')
	[ "$forks" = "${was:-$forks}" ] || { kill $beat; echo "life $(head -c 16 /dev/urandom | md5sum | cut -c 1-32)"; }
	was=$forks
	echo "tick $i $id forks $forks mac $(cat /sys/class/net/eth0/address) carrier $(cat /sys/class/net/eth0/carrier)"
	[ $((i % 4)) != 1 ] || { dd if=/tmp/data of=/dev/null bs=256k 2>/dev/null; echo "read $i"; }
	dd if=/dev/zero of=/tmp/data bs=4k count=16 seek=$((i % 64 * 16)) conv=notrunc 2>/dev/null
	sleep 4
done
GUEST
"$mkguest" --add guest --kernel 6.1 --modules pvhv_bus,pvhv_guest,virtio_net guest.cpio 'ip link set eth0 up; sh guest' || exit 1

echo "TAP version 13"
"$run" --dev "$dev" --name vm --kernel "$kernel" --initrd guest.cpio --memory 512M --bus pvhv --net bridge=br0,vhost=off --append "console=ttyS0 loglevel=4 panic=-1" \
	>log 2>err </dev/null &
vmm=$!
# looked for more often than wait_for does: what comes after it is not the boot's
until grep -q booted log || ! runs "$vmm"; do sleep 0.05; done
grep -q booted log
code=$?
boot=$(cpu_ms $vmm)
wait_for "tick 1 " log || code=1
wait_for "tick 2" log || code=1
sleep 1
result $code "a stock guest runs"
id=$(sed -n 's/.*tick 1 \([0-9a-f-]*\) .*/\1/p' log)
mac=$(sed -n 's/.*tick 1 .* mac \([0-9a-f:]*\) .*/\1/p' log)

"$ctl" --json snapshot vm base.pvhv >says 2>&1
code=$?
stopped=$(figure downtime)
wrote=$(figure memory_seconds)
[ "${wrote:-0}" -gt 0 ] && [ "$((stopped * 10))" -lt "$wrote" ] || code=1
result $code "a snapshot stops it for $stopped us, writing its memory takes $wrote us"
last=$(sed -n 's/.*tick \([0-9]*\) .*/\1/p' log | tail -n 1)
wait_for "tick $((last + 1)) $id forks 0 mac $mac carrier 1" log
result $? "it runs on, with its address"

# Its first word, and what it took until then: of one that waits for its next beat
mkfifo words
exec 5<>words
"$run" --dev "$dev" --restore base.pvhv --clone --name first >words 2>err </dev/null &
first=$!
read -r word <&5
took=$(cpu_ms $first)
"$ctl" stop first --now >/dev/null 2>&1
wait $first
exec 5>&-
[ -n "$word" ] && [ "$((took * 20))" -le "$boot" ]
result $? "a clone runs after $took ms of processor time, the boot took $boot ms"

code=0
for i in $(seq $clones); do
	"$ctl" clone base.pvhv "c$i" -- --dev "$dev" --console "file=c$i.log" 2>>err || code=1
done
for i in $(seq $clones); do
	wait_for "forks 1 mac .* carrier 1" "c$i.log" 300 || code=1
	wait_for "read" "c$i.log" 300 || code=1
done
result $code "$clones clones run, and were told what they are"
[ "$(cat c*.log | grep -c "tick .* $id ")" -ge $clones ] && ! grep -q 'tick 1 ' c*.log && ! grep -Eq 'lockup|stall|BUG|Oops' c*.log
result $? "they go on where it was"
grep -h '^life' c*.log | tr -d '\r' >lives
[ "$(sort -u lives | wc -l)" = $clones ]
result $? "no two have the same random numbers"
for i in $(seq $clones); do tr -d '\r' <"c$i.log" | sed -n 's/.*forks 1 mac \([0-9a-f:]*\) carrier 1.*/\1/p' | tail -n 1; done >macs
[ "$(sort -u macs | wc -l)" = $clones ] && ! grep -q "$mac" macs
result $? "no two have the same address, nor the first one's"
ids=$(for i in $(seq $clones); do "$ctl" --json status "c$i" | sed -n 's/.*"generation_id": *"\([0-9a-f]*\)".*/\1/p'; done | sort -u | wc -l)
[ "$ids" = $clones ]
result $? "nor the same generation ID"

"$ctl" --json snapshot c1 again.pvhv >says 2>&1
code=$?
stopped=$(figure downtime)
wrote=$(figure memory_seconds)
"$ctl" --json clone again.pvhv grandchild -- --dev "$dev" --console file=again.log >says 2>err || code=1
wait_for "forks 2 mac .* carrier 1" again.log 120 || code=1
! grep -Eq 'lockup|stall|BUG|Oops' again.log || code=1
"$ctl" stop grandchild --now >/dev/null 2>&1
result $code "a clone's snapshot, in rounds, stops it for $stopped us of $wrote us, and can be cloned"

# What the clones have of the file, and how much of it is theirs alone
for i in $(seq $clones); do
	pid=$("$ctl" --json status "c$i" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
	awk '/^[0-9a-f]+-/ { on = /base.pvhv/ } on && /^(Rss|Private_Clean|Private_Dirty|Pss):/ { print $1, $2 }' "/proc/$pid/smaps"
done | awk '/Rss/ { rss += $2 } /Private/ { own += $2 } /Pss:/ { pss += $2 }
	END { printf "%d %d %d %d\n", rss / 1024, own / 1024, pss / 1024, rss ? 100 * (rss - own) / rss : 0 }' >shares
read -r rss own pss share <shares
[ "$share" -ge 80 ]
result $? "they share $share % of their memory: $rss MiB in all of them, $own MiB of it one's own, $pss MiB of the host's"

finish
