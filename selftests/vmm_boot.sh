#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that pvhv-run boots stock kernels to a shell that works (fork, mmap, pipes, checksums) and that power-off ends
# it with status 0; also its resident memory.
#
#   vmm_boot.sh [KERNEL:CPUS:MEMORY]...     KERNEL: 6.1, 6.12, 6.1-cloud (bzImage), pvh, pvh-6.12 (the ELF in it), or a file
#
# Environment: as lib/vm.sh says; GUEST_KERNEL (a bzImage to boot instead), GUEST_INITRD (its init powers off; then the workload is not checked).

set -u
. "$(dirname "$0")/lib/vm.sh"
# unpacked kernels only: an emulated Intel host, where to unpack one takes minutes
if [ $# -gt 0 ]; then
	:
elif [ -r "$guests/vmlinux-6.12" ]; then
	set -- pvh:1:192M pvh:2:192M pvh-6.12:1:256M
else
	set -- 6.1:1:128M pvh:4:3G
fi

need_run

own_directory
show=''

# What the guest runs. Each line proves what it says; the last one is printed only if all did.
cat >workload <<'WORK'
set -e
echo "cpus $(nproc)"
echo "memory $(awk '/MemTotal/ { print $2 }' /proc/meminfo)"
i=0
while [ $i -lt 20 ]; do
	[ "$( (echo $i; (exit 3) || echo failed) | cat | tr '\n' ' ')" = "$i failed " ]
	i=$((i + 1))
done
echo forks work
mkdir /tmp/mapped
cp /bin/busybox /tmp/mapped/
[ "$(/tmp/mapped/busybox sha256sum </tmp/mapped/busybox)" = "$(cat /bin/busybox | /tmp/mapped/busybox dd bs=3k 2>/dev/null | sha256sum)" ]
echo mappings work
dd if=/dev/zero of=/tmp/big bs=64k count=32 2>/dev/null
echo "sum $(tr '\0' p </tmp/big | sha256sum)"
for i in 1 2 3 4; do
	(sha256sum /tmp/big >/tmp/sum.$i) &
done
wait
cmp /tmp/sum.1 /tmp/sum.4
if [ -e /root/hold ]; then
	echo holding
	sleep 8
fi
echo all works
WORK
expect="sum $(dd if=/dev/zero bs=64k count=32 2>/dev/null | tr '\0' p | sha256sum)"

initrd=${GUEST_INITRD:-}
if [ -z "$initrd" ]; then
	initrd=guest.cpio
	: >hold
	"$mkguest" --add workload "$initrd" 'sh workload' || exit 1
	"$mkguest" --add workload --add hold hold.cpio 'sh workload' || exit 1
fi

image_of() {
	case $1 in
	pvh)
		image=$guests/vmlinux-6.1
		if [ ! -r "$image" ]; then
			[ -x "$here/extract-vmlinux" ] && "$here/extract-vmlinux" "$(image_of 6.1)" vmlinux 2>/dev/null &&
				image=vmlinux
		fi
		echo "$image"
		;;
	pvh-*) echo "$guests/vmlinux-${1#pvh-}" ;;
	*/*) echo "$1" ;;
	*)
		image=$guests/vmlinuz-$1
		if [ ! -r "$image" ] && [ "$1" = 6.1 ]; then image=${GUEST_KERNEL:-/boot/vmlinuz-$(uname -r)}; fi
		echo "$image"
		;;
	esac
}

# resident PID: what a process has resident beyond its largest mapping, in KiB
resident() {
	awk '/^Size:/ { size = $2 } /^Rss:/ { if (size > most) { most = size; of = $2 } all += $2 } END { print all - of }' \
		"/proc/$1/smaps"
}

boot() { # KERNEL CPUS MEMORY
	name="$1, $2 CPUs, $3"
	image=$(image_of "$1")
	if [ ! -r "$image" ]; then
		skip "$name" "no kernel image $image"
		return
	fi
	mib=${3%[MG]}
	[ "${3#"$mib"}" = M ] || mib=$((mib * 1024))
	if [ "$(awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)" -lt "$(((mib < 256 ? mib : 256) + 100))" ] ||
		[ "$(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo)" -lt "$mib" ]; then
		skip "$name" "the host has too little memory"
		return
	fi
	rd=$initrd
	kib=
	measure=
	[ "$2:$mib:${GUEST_INITRD:-}" != 1:128: ] || measure=1
	[ -z "$measure" ] || rd=hold.cpio
	: >out
	"$run" --dev "$dev" --kernel "$image" --initrd "$rd" --append "console=ttyS0 loglevel=4 panic=-1" \
		--cpus "$2" --memory "$3" >out 2>err </dev/null &
	vmm=$!
	if [ -n "$measure" ]; then
		while kill -0 $vmm 2>/dev/null && ! grep -q holding out; do sleep 1; done
		kib=$(resident $vmm)
	fi
	wait $vmm
	status=$?
	vmm=
	bad=0
	if [ $status != 0 ]; then
		echo "# status $status"
		bad=1
	fi
	if [ -s err ]; then
		sed 's/^/# /' err
		bad=1
	fi
	tr -d '\r' <out >lines
	if [ -z "${GUEST_INITRD:-}" ]; then
		for line in "cpus $2" "$expect" "forks work" "mappings work" "all works"; do
			grep -qxF "$line" lines || { echo "# missing: $line"; bad=1; }
		done
		seen=$(sed -n 's/^memory //p' lines)
		# the kernel keeps some for itself
		if [ "${seen:-0}" -le $((mib * 1024 * 6 / 10)) ] || [ "$seen" -gt $((mib * 1024)) ]; then
			echo "# the guest sees ${seen:-no} KiB"
			bad=1
		fi
	fi
	[ $bad = 0 ] || { echo "# the guest's last lines:"; tail -n 25 lines | sed 's/^/#   /'; }
	result $bad "$name"
	[ -n "$measure" ] || return 0
	echo "# ${kib:-unknown} KiB resident beyond guest memory"
	[ "${kib:-0}" -gt 100 ] && [ "$kib" -le 5120 ]
	result $? "resident memory beyond the guest's, 1 CPU, 128M: at most 5 MiB"
}

echo "TAP version 13"
for what in "$@"; do
	kernel=${what%:*:*}
	rest=${what#"$kernel":}
	boot "$kernel" "${rest%:*}" "${rest#*:}"
done
finish
