#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that QEMU, unchanged, boots a stock kernel on pvhv and powers off with status 0: its machines pc, q35 and microvm,
# with the interrupt chips in the kernel, split, and in userspace; CPUs, timers and a file system's work in the guest.
#
# QEMU opens /dev/kvm, which is made a link to pvhv's device meanwhile. Only make check-long runs this.
#
# Environment: PVHV_QEMU (the program), PVHV_DEV (/dev/pvhv), PVHV_GUESTS (a directory with vmlinuz-6.1).

set -u
here=$(cd "$(dirname "$0")" && pwd)
qemu=${PVHV_QEMU:-$(command -v qemu-system-x86_64)}
mkguest=$(command -v mkguest || echo "$here/host/mkguest")
dev=${PVHV_DEV:-/dev/pvhv}
kernel=${PVHV_GUESTS:-/none}/vmlinuz-6.1

skip_all() {
	echo "1..0 # SKIP $1"
	exit 4
}
[ -n "$qemu" ] || skip_all "no qemu-system-x86_64"
[ -r "$dev" ] || skip_all "no $dev"
[ -r "$kernel" ] || skip_all "no $kernel"
[ ! -e /dev/kvm ] || [ -h /dev/kvm ] || skip_all "/dev/kvm is another's"

dir=$(mktemp -d) || exit 1
pid=
cleanup() {
	[ -z "$pid" ] || kill "$pid" 2>/dev/null
	rm -rf "$dir" /dev/kvm
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP
cd "$dir" || exit 1
ln -sf "$dev" /dev/kvm || exit 1

# Each line proves what it says; the last one is printed only if all did.
cat >workload <<'WORK'
set -e
dmesg -n 1
echo "cpus $(nproc)"
before=$(sed 's/ .*//; s/\.//' /proc/uptime)
sleep 1
slept=$(($(sed 's/ .*//; s/\.//' /proc/uptime) - before))
[ $slept -ge 95 ]
echo timers work
for i in 1 2 3 4; do
	(dd if=/dev/zero bs=64k count=16 2>/dev/null | sha256sum >/tmp/sum.$i) &
done
wait
cmp /tmp/sum.1 /tmp/sum.4
echo all works
WORK
"$mkguest" --add workload initrd 'sh workload' || exit 1

nr=0
failed=0
boot() { # CPUS NAME ARG...
	cpus=$1
	name=$2
	shift 2
	nr=$((nr + 1))
	bad=0
	timeout -k 5 250 "$qemu" "$@" -smp "$cpus" -m 256 -nodefaults -no-user-config -display none -vga none -serial stdio -no-reboot \
		-kernel "$kernel" -initrd initrd -append "console=ttyS0 panic=-1 loglevel=7" >out 2>err </dev/null &
	pid=$!
	wait $pid
	status=$?
	pid=
	if [ $status != 0 ]; then
		echo "# status $status"
		bad=1
	fi
	tr -d '\r' <out >lines
	for line in "cpus $cpus" "timers work" "all works"; do
		grep -qxF "$line" lines || { echo "# missing: $line"; bad=1; }
	done
	if [ $bad = 0 ]; then
		echo "ok $nr $name"
		return
	fi
	sed 's/^/# /' err
	echo "# the guest's last lines:"
	tail -n 25 lines | sed 's/^/#   /'
	echo "not ok $nr $name"
	failed=1
}

echo "TAP version 13"
boot 2 "pc" -M pc -accel kvm -cpu host
boot 2 "pc, split irqchip" -M pc -accel kvm,kernel-irqchip=split -cpu host
boot 1 "pc, irqchip in userspace" -M pc -accel kvm,kernel-irqchip=off
boot 2 "q35" -M q35 -accel kvm -cpu host
boot 2 "q35, split irqchip" -M q35 -accel kvm,kernel-irqchip=split -cpu host
boot 2 "microvm" -M microvm -accel kvm -cpu host
boot 2 "microvm, irqchip in the kernel" -M microvm -accel kvm,kernel-irqchip=on -cpu host
boot 1 "microvm, no PIC, no PIT, a plain CPU" -M microvm,pit=off,pic=off,rtc=on -accel kvm
echo "1..$nr"
exit $failed
