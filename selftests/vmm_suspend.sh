#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that a machine can be put into a file and go on from it: a stock guest with two CPUs, a disk, a port and vector state
# of each CPU at work is snapshotted (it runs on, and has stood still for little of the time), suspended (pvhv-run ends with status
# 0) and restored, twice; its boot ID and its counters go on, sums over its memory agree, its kernel knows that this is another
# life, its disk works. A copy of the snapshot can be restored as well. What is damaged, cut off or already there is refused with
# one line, and leaves the machine running. Its CPU is that of --cpu-model, no more and no less.
#
# Environment: as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"
kernel=$(kernel_image 6.1)
need_run
need_kernel "$kernel"

own_directory
show='err says log'
# the most that this host's CPU can be, which flags it has beyond the least, and a model that differs
model=x86-64-v3 more='bmi1 bmi2 f16c movbe abm' unlike=x86-64-v2
if ! "$run" --dev "$dev" --cpu-model help | grep -q "^$model *yes"; then model=x86-64-v2 more='' unlike=host; fi

# Sums of 8 MiB of memory over and over, by a program that uses vector registers where there are any; a counter; a disk.
cat >guest <<'GUEST'
id=$(cat /proc/sys/kernel/random/boot_id)
grep -m 1 'model name' /proc/cpuinfo
grep -m 1 '^flags' /proc/cpuinfo
dd if=/dev/urandom of=/tmp/data bs=64k count=128 2>/dev/null
first=$(sha256sum </tmp/data)
(
	while :; do
		[ "$(sha256sum </tmp/data)" = "$first" ] || echo "SUM DIFFERS"
		echo sum >>/tmp/sums
	done
) &
i=0
while :; do
	i=$((i + 1))
	echo "tick $i $id sums $(wc -l </tmp/sums 2>/dev/null) forks $(dmesg | grep -c 'virtual machine fork')"
	if [ -b /dev/vda ]; then
		echo "record $i" | dd of=/dev/vda bs=512 seek=$i conv=sync,fsync 2>/dev/null
		[ "$(dd if=/dev/vda bs=512 skip=$i count=1 iflag=direct 2>/dev/null | head -n 1)" = "record $i" ] || echo "DISK DIFFERS"
	fi
	usleep 200000
done
GUEST
"$mkguest" --add guest --kernel 6.1 --modules virtio_pci,virtio_blk,virtio_console guest.cpio 'sh guest' || exit 1
truncate -s 16M disk.img

tick() { # the last one, of a file
	sed -n 's/.*tick \([0-9]*\) .*/\1/p' "$1" | tail -n 1
}
sums() { sed -n 's/.*sums \([0-9]*\).*/\1/p' "$1" | tail -n 1; }

# goes_on FILE FROM ID: more ticks, of the same boot, and no complaint
goes_on() {
	wait_for "tick $(($2 + 5)) $3" "$1" 120 && ! grep -Eq 'DIFFERS|lockup|stall|BUG|Oops' "$1"
}

start() { # ARG...
	"$run" --dev "$dev" --name vm "$@" >"$log" 2>err </dev/null &
	vmm=$!
}

# figure NAME: of the machine's last words, in microseconds
figure() { sed -n "s/.*\"$1\": *\([0-9.e-]*\).*/\1/p" says | tail -n 1 | awk '{ printf "%d\n", $1 * 1000000 }'; }

echo "TAP version 13"
log=log
start --kernel "$kernel" --initrd guest.cpio --memory 192M --cpus 2 --cpu-model $model --disk path=disk.img --port name=p,none --rng \
	--append "console=ttyS0 loglevel=4 panic=-1"
wait_for "tick 3 " log
result $? "a stock guest runs"
id=$(sed -n 's/.*tick 1 \([0-9a-f-]*\) .*/\1/p' log)

grep -q "model name.*: $model CPU" log
code=$?
# (no AVX: docs/emulated-hosts.md says why an emulated host's guests do without XSAVE)
for flag in sse4_2 popcnt $more lahf_lm x2apic hypervisor; do
	grep -q "^flags.* $flag " log || code=1
done
for flag in smap fsgsbase rdrand aes xsaveopt rdtscp nonstop_tsc svm avx512f; do
	! grep -q "^flags.* $flag " log || code=1
done
result $code "its CPU is the model's: $(sed -n 's/^flags[^:]*: *//p' log | tr -d '\r')"
case $(grep -m 1 vendor_id /proc/cpuinfo) in *AMD*) other=Haswell ;; *) other=EPYC ;; esac
"$run" --dev "$dev" --kernel "$kernel" --cpu-model $other --dry-run >says 2>&1
[ $? = 1 ] && [ "$(wc -l <says)" = 1 ] && grep -q "cpu-model: $other" says
result $? "a model that this host cannot be: $(cat says)"

"$ctl" --json snapshot vm one.pvhv >says 2>&1
code=$?
saved=$(tick log)
goes_on log "$saved" "$id" || code=1
result $code "snapshot: it runs on"
stopped=$(figure downtime)
wrote=$(figure memory_seconds)
[ "${wrote:-0}" -gt 0 ] && [ "$((stopped * 5))" -lt "$wrote" ]
result $? "it stood still for $stopped us, writing its memory took $wrote us"
"$ctl" snapshot vm one.pvhv >says 2>&1
[ $? = 1 ] && [ "$(wc -l <says)" = 1 ] && grep -q 'is there already' says
result $? "a file that is there is not overwritten"

"$ctl" suspend vm two.pvhv >says 2>&1 && [ ! -s says ]
code=$?
wait $vmm
status=$?
vmm=
[ $code = 0 ] && [ $status = 0 ] && [ ! -s err ]
result $? "suspend: status 0 (status $status)"
at=$(tick log)
done=$(sums log)
[ "$(stat -c %a two.pvhv)" = 600 ] && [ "$(du -k two.pvhv | cut -f 1)" -lt $((192 * 1024)) ]
result $? "the file is private, and holds no zero pages: $(du -m two.pvhv | cut -f 1) MiB"

if command -v pvhv-stream >/dev/null; then
	pvhv-stream verify two.pvhv >says 2>&1
	result $? "pvhv-stream verify"
fi

log=log2
start --restore two.pvhv
goes_on log2 "$at" "$id" && [ "$(sums log2)" -gt "$done" ]
result $? "restore: the same boot goes on"
grep -q 'forks 1' log2 && ! grep -q 'forks 1' log
result $? "its kernel was told, and has made new entropy"
"$ctl" suspend vm three.pvhv >says 2>&1
code=$?
wait $vmm || code=1
vmm=
at=$(tick log2)
log=log3
start --restore three.pvhv
goes_on log3 "$at" "$id" || code=1
result $code "suspended and restored again"

# Refused, and nothing lost
head -c 20971520 two.pvhv >cut.pvhv
"$run" --dev "$dev" --restore cut.pvhv >says 2>&1 </dev/null
[ $? = 1 ] && [ "$(wc -l <says)" = 1 ]
result $? "a file that was cut off is refused"
echo "no such file" >junk.pvhv
"$run" --dev "$dev" --restore junk.pvhv >says 2>&1 </dev/null
[ $? = 1 ] && [ "$(wc -l <says)" = 1 ]
result $? "something else is refused"
"$run" --dev "$dev" --restore one.pvhv >says 2>&1 </dev/null
[ $? = 1 ] && [ "$(wc -l <says)" = 1 ] && grep -q 'disk.img' says
result $? "its disk is in use: refused"
"$run" --dev "$dev" --restore two.pvhv --cpu-model $unlike >says 2>&1 </dev/null
[ $? = 1 ] && [ "$(wc -l <says)" = 1 ] && grep -q "'$model'" says
result $? "another CPU model is refused"
mkdir small && mount -t tmpfs -o size=4m tmpfs small 2>/dev/null && {
	"$ctl" suspend vm small/file >says 2>&1
	[ $? = 3 ] && [ "$(wc -l <says)" = 1 ] && [ ! -e small/file ] && goes_on log3 "$(tick log3)" "$id"
	result $? "no room for the file: it says so, removes it and runs on"
	umount small
}

# The snapshot with a disk of its own
cp disk.img other.img
log=log4
old=$vmm
start --restore one.pvhv --disk path=other.img --name other
goes_on log4 "$saved" "$id"
result $? "a copy of the snapshot runs beside it"
kill "$vmm"
wait "$vmm"
vmm=$old
"$ctl" stop vm --now >says 2>&1
wait "$vmm"
vmm=

finish
