#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that pvhv-run refuses what cannot work with one line that says what, why and what to do, status 1, and
# nothing left behind: no process, no file. Runs anywhere; what needs a kernel image or root skips without.
#
# Environment: PVHV_RUN (the program), GUEST_KERNEL (a bzImage).

set -u
here=$(cd "$(dirname "$0")" && pwd)
run=${PVHV_RUN:-$(command -v pvhv-run || echo "$here/../vmm/pvhv-run")}
if [ ! -x "$run" ]; then
	echo "1..0 # SKIP no pvhv-run"
	exit 4
fi

kernel=${GUEST_KERNEL:-}
for file in "${PVHV_GUESTS:-/none}"/vmlinuz-6.1 /boot/vmlinuz-6* /boot/vmlinuz-*; do
	[ -n "$kernel" ] || ! [ -r "$file" ] || kernel=$file
done

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/left"
cd "$dir" || exit 1

nr=0
failed=0

ok() {
	nr=$((nr + 1))
	echo "ok $nr $1"
}

skip() {
	nr=$((nr + 1))
	echo "ok $nr $1 # SKIP $2"
}

not_ok() {
	nr=$((nr + 1))
	failed=1
	echo "not ok $nr $1"
	echo "# $2"
	sed 's/^/#   /' err
}

# refused NAME PATTERN [ARG]...: the line must match PATTERN
refused() {
	name=$1
	pattern=$2
	shift 2
	$wrap "$run" "$@" >out 2>err </dev/null
	verify "$name" "$pattern" $?
}
wrap=

verify() {
	if [ "$3" != 1 ]; then
		not_ok "$1" "status $3, not 1"
	elif [ "$(wc -l <err)" != 1 ]; then
		not_ok "$1" "not one line"
	elif [ -s out ]; then
		not_ok "$1" "wrote to standard output"
	elif ! grep -q '^pvhv-run: .*: ' err; then
		not_ok "$1" "the line does not say what and why"
	elif ! grep -Eq -e "$2" err; then
		not_ok "$1" "the line does not match $2"
	elif [ -n "$(ls left)" ]; then
		not_ok "$1" "left behind: $(ls left)"
		rm -rf left/*
	else
		ok "$1"
	fi
}

echo "TAP version 13"
dd if=/dev/urandom of=random bs=1k count=64 2>/dev/null
: >empty
echo 'no kernel' >text
printf '\177ELF\002\001\001' >stub.elf
if [ -n "$kernel" ]; then
	cp "$kernel" good
	size=$(wc -c <good)
	head -c 400 good >cut-header
	head -c 5000 good >cut-setup
	head -c $((size / 2)) good >cut-half
	head -c $((size - 4096)) good >cut-end
	cp good grown
	dd if=/dev/zero of=initrd bs=1M seek=199 count=1 2>/dev/null
fi
none=/dev/pvhv-does-not-exist

refused "no kernel given" "--kernel"
refused "unknown option" "'--frobnicate'.*--help" --frobnicate
refused "unknown short option" "'-z'.*--help" -z
refused "option without its argument" "--help" --kernel
refused "stray argument" "'stray'.*--help" -k random stray
refused "kernel missing" "No such file.*--kernel" -k nowhere
refused "kernel a directory" "'/'.*--kernel" -k /
refused "kernel empty" "empty" -k empty
refused "kernel of text" "--kernel" -k text
refused "kernel of random bytes" "--kernel" -k random
refused "stub of an ELF" "truncated|ELF" -k stub.elf
refused "memory 0" "--memory.*512M" -k random -m 0
refused "memory not a number" "--memory" -k random -m lots
refused "memory beyond the host" "--memory.*host" -k random -m 900T
refused "memory beyond any address" "--memory" -k random -m 99999999999T
refused "cpus 0" "--cpus" -k random -c 0
refused "cpus too many" "--cpus" -k random -c 100000
refused "console unknown" "--console" -k random --console teletype
refused "network not named" "--net.*tap=NAME" -k random --net mac=52:54:00:00:00:01
refused "network's tap name too long" "tap=.*15 letters" -k random --net tap=a234567890123456
refused "network's address a group's" "mac=01:.*even" -k random --net tap=t,mac=01:00:5e:00:00:01
refused "network's queues 0" "queues=0.*1 to 8" -k random -n tap=t,queues=0
refused "network's key unknown" "'speed'" -k random -n tap=t,speed=1
refused "huge page kind unknown" "hugepages" -k random --memory size=1G,hugepages=3M
refused "disk without a path" "--disk: no path" -k random --disk readonly=on
refused "disk key unknown" "--disk: 'file' is an unknown key" -k random --disk file=x
refused "disk queues no number" "--disk: queues=many" -k random --disk path=x,queues=many
refused "disk limit 0" "--disk: iops=0" -k random --disk path=x,iops=0

if [ -n "$kernel" ]; then
	refused "kernel cut in its header" "--kernel|truncated" -k cut-header
	refused "kernel cut in its setup code" "truncated" -k cut-setup
	refused "kernel cut in half" "truncated.*copy" -k cut-half
	refused "kernel without its last page" "truncated" -k cut-end
	refused "memory too small for the kernel" "--memory" -k good -m 16M
	refused "initrd missing" "--initrd" -k good -i nowhere
	truncate -s 1M disk
	truncate -s 1000 short
	refused "disk missing" "'nowhere'.*No such file.*name an image" -k good -d nowhere
	refused "disk a directory" "'/'.*neither a file nor a block device" -k good -d /
	refused "disk empty" "'empty'.*empty" -k good -d empty
	refused "disk cut short" "'short'.*cut short.*copy it again" -k good -d short
	refused "disk twice" "'disk'.*another program uses it" -k good -d disk -d disk
	refused "disk's server not there" "start the server|libnbd0" -k good -d 'nbd+unix:///?socket=nowhere'
	if [ -n "$(command -v qemu-nbd)" ]; then
		qemu-nbd -t -f raw -k "$dir/sock" disk &
		server=$!
		n=0
		while [ ! -S sock ] && [ $n -lt 50 ]; do
			sleep 0.1
			n=$((n + 1))
		done
		refused "disk that QEMU's tools have" "'disk'.*another program uses it" -k good -d disk
		kill $server
		wait $server 2>/dev/null
		rm -f sock
	else
		skip "disk that QEMU's tools have" "no qemu-nbd"
	fi
	refused "initrd larger than memory" "initrd.*--memory" -k good -i initrd -m 128M
	refused "command line too long" "--append.*shorten" -k good -p "$(head -c 70000 /dev/zero | tr '\0' x)"
	refused "bridge missing" "bridge=pvhv-none.*ip link add" -k good --net bridge=pvhv-none
	refused "tap that is none" "tap=lo.*no tap" -k good --net tap=lo
	refused "no device" "$none: .*(modprobe|AMD-V)" -k good --dev $none --console file=left/log
	refused "device of another kind" "/dev/null: .*--dev" -k good --dev /dev/null --console file=left/log
	refused "console in no directory" "--console" -k good --console file=left/no/log
	refused "console socket over a file" "--console" -k good --console socket=good

	# An ordinary user and a device of root's.
	touch device
	chmod 600 device
	chmod 755 .
	if [ "$(id -u)" != 0 ]; then
		chmod 0 device
	elif command -v setpriv >/dev/null && setpriv --reuid 65534 --clear-groups true 2>/dev/null; then
		wrap="setpriv --reuid 65534 --clear-groups"
	elif setuidgid 65534 true 2>/dev/null || busybox setuidgid nobody true 2>/dev/null; then
		wrap="busybox setuidgid nobody"
	fi
	if [ "$(id -u)" = 0 ] && { [ -z "$wrap" ] || ! $wrap test -x "$run" || ! $wrap test -r good; }; then
		skip "no permission for the device" "cannot become another user here"
	else
		refused "no permission for the device" "permission.*group" -k good --dev "$dir/device"
	fi
	wrap=

	# A machine whose CPU cannot do it.
	grep -v '^flags' /proc/cpuinfo >cpuinfo
	if unshare -m sh -c 'mount --bind cpuinfo /proc/cpuinfo' 2>/dev/null; then
		unshare -m sh -c 'mount --bind cpuinfo /proc/cpuinfo; exec "$@"' sh "$run" -k good --dev $none >out 2>err </dev/null
		verify "no AMD-V" "AMD-V" $?
	elif ! grep -Eqw 'svm|vmx' /proc/cpuinfo; then
		refused "no AMD-V" "AMD-V" -k good --dev $none
	else
		skip "no AMD-V" "this CPU has it and it cannot be hidden"
	fi
else
	for name in "kernel cut" "initrd" "device" "console"; do skip "$name" "no kernel image; name one with GUEST_KERNEL"; done
fi

# Not an error: help and version.
if "$run" --help >out 2>err && [ ! -s err ] && grep -q -e '--kernel' out && grep -q 'Exit status' out; then
	ok "help on standard output, status 0"
else
	not_ok "help on standard output, status 0" "it is not"
fi
if "$run" --help >/dev/full 2>err; then not_ok "help to a full disk" "status 0"; else ok "help to a full disk"; fi

echo "1..$nr"
exit $failed
