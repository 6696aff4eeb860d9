#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Compares kmod/decode.c with objdump, in TAP: every instruction of a stock kernel's text and of its kvm modules, and
# 32 and 16-bit readings of the same bytes and of random ones. Needs objdump, a compiler and an installed kernel, so it
# runs on a development machine and skips in an emulated host.

set -u
here=$(cd "$(dirname "$0")" && pwd)
CC=${CC:-gcc}

skip()
{
	echo "1..0 # SKIP $1"
	exit 4
}

for tool in objdump objcopy "$CC"; do
	command -v "$tool" >/dev/null || skip "no $tool"
done
release=$(find /lib/modules -mindepth 1 -maxdepth 1 -printf "%f\n" 2>/dev/null | sort -V | while read -r r; do
	[ -r "/lib/modules/$r/kernel/arch/x86/kvm/kvm.ko" ] && [ -r "/boot/vmlinuz-$r" ] && echo "$r"; done | head -n 1)
[ -n "$release" ] || skip "no kernel with an uncompressed kvm.ko in /lib/modules and /boot"
modules=/lib/modules/$release/kernel/arch/x86/kvm
vmlinuz=/boot/vmlinuz-$release

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
"$CC" -O2 -Wall -Wextra -o "$dir/compare" "$here/fuzz/decode_objdump.c" "$here/../kmod/decode.c" || exit 1

number=0
failed=0

# result STATUS NAME
result()
{
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number $2"
	else
		echo "not ok $number $2"
		failed=1
	fi
}

# A number of the boot header: OFFSET BYTES
header()
{
	od -An -v -t "u$2" -j "$1" -N "$2" "$vmlinuz" | tr -d ' '
}

# The ELF image inside bzImage, on standard output
unpack()
{
	at=$(( ($(header 497 1) + 1) * 512 + $(header 584 4) ))
	bytes=$(header 588 4)
	case $(od -An -t x1 -j "$at" -N 4 "$vmlinuz" | tr -d ' ') in
	fd377a58) unpacker='xz -dc' ;;
	28b52ffd) unpacker='zstd -dc' ;;
	*) return 1 ;;
	esac
	command -v "${unpacker%% *}" >/dev/null || return 1
	# The four bytes behind the stream are its size, not part of it
	tail -c "+$((at + 1))" "$vmlinuz" | head -c "$((bytes - 4))" | $unpacker 2>/dev/null
}

disassemble()
{
	objdump -w --insn-width=15 "$@"
}

echo "TAP version 13"
echo "1..8"
echo "# kernel $release"

for module in kvm kvm-amd; do
	disassemble -d -M suffix "$modules/$module.ko" | "$dir/compare" 64
	result $? "$module, 64-bit"
done

unpack > "$dir/vmlinux"
if [ -s "$dir/vmlinux" ]; then
	disassemble -d -M suffix -j .text "$dir/vmlinux" | "$dir/compare" 64
	result $? "vmlinux, 64-bit"
else
	number=$((number + 1))
	echo "ok $number vmlinux, 64-bit # SKIP cannot unpack $vmlinuz"
fi

objcopy -O binary -j .text "$modules/kvm.ko" "$dir/text"
head -c 1000000 /dev/urandom > "$dir/random"
disassemble -D -b binary -m i386 -M suffix "$dir/text" | "$dir/compare" 32 -r
result $? "kvm, read as 32-bit"
disassemble -D -b binary -m i8086 -M suffix "$dir/text" | "$dir/compare" 16 -r
result $? "kvm, read as 16-bit"
disassemble -D -b binary -m i386 -M suffix,x86-64 "$dir/random" | "$dir/compare" 64 -r
result $? "random, 64-bit"
disassemble -D -b binary -m i386 -M suffix "$dir/random" | "$dir/compare" 32 -r
result $? "random, 32-bit"
disassemble -D -b binary -m i8086 -M suffix "$dir/random" | "$dir/compare" 16 -r
result $? "random, 16-bit"
exit $failed
