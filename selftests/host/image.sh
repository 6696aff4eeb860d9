# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
#
# Initial RAM disks of emulated hosts. Expects $root and $release of the kernel.

STOCK_MODULES="virtio_pci virtio_console kvm_amd kvm_intel tun veth bridge vhost_net vhost_vsock virtio_net virtio_blk
virtio_balloon virtio_rng loop ext4 xfs overlay zram null_blk 9pnet_virtio 9p msr cpuid"
# Where Bochs is the host there is no virtio, and each byte of a module costs time.
BOCHS_MODULES="kvm_amd kvm_intel tun loop msr cpuid"
slim=''

# add_modules DIR NAME...: with what they depend on, decompressed, and their index
add_modules() {
	local dir=$1 name kind path to
	shift
	mkdir -p "$dir/usr/lib/modules/$release"
	for name in "$@"; do
		modprobe -d "${root:-/}" -S "$release" --show-depends "$name" 2>/dev/null || say "no module $name in $release"
	done | sort -u | while read -r kind path; do
		[ "$kind" = insmod ] || continue
		path=${path%% *}
		to=$dir/usr/lib/modules/${path#*/lib/modules/}
		mkdir -p "${to%/*}"
		case $path in
		*.xz)
			to=${to%.xz}
			xz -dc "$path" >"$to"
			;;
		*.zst)
			to=${to%.zst}
			zstd -qdc "$path" >"$to"
			;;
		*) cp "$path" "$to" ;;
		esac
		[ -z "$slim" ] || slim_module "$to"
	done
	cp "$root/lib/modules/$release"/modules.{builtin,order} "$dir/usr/lib/modules/$release/"
	cp "$root/lib/modules/$release/modules.builtin.modinfo" "$dir/usr/lib/modules/$release/" 2>/dev/null
	depmod -b "$dir/usr" "$release"
}

pack() { (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet); }

# Without what only debuggers read; signatures go, too.
slim_module() { objcopy -g -R .BTF -R .note.gnu.build-id "$1"; }

# make_base FILE SCRATCH: everything that does not change between runs
make_base() {
	local out=$1 dir=$2 applet
	[ ! -e "$out" ] || return 0
	say "preparing the emulated host's base image for $release"
	mkdir -p "$dir"/{usr/{bin,sbin,lib,lib64},etc,host,opt/pvhv,root,work,mnt,proc,sys,dev,run,tmp,var}
	for applet in bin sbin lib lib64; do ln -s "usr/$applet" "$dir/$applet"; done
	ln -s /tmp "$dir/var/tmp"
	cp "$(command -v busybox)" "$dir/usr/bin/busybox"
	for applet in $(busybox --list); do
		[ "$applet" = busybox ] || ln -s /bin/busybox "$dir/usr/bin/$applet"
	done
	echo root:x:0:0:root:/root:/bin/sh >"$dir/etc/passwd"
	echo nobody:x:65534:65534:nobody:/:/bin/sh >>"$dir/etc/passwd"
	printf 'root:x:0:\ntty:x:5:\nkvm:x:106:\nnogroup:x:65534:\n' >"$dir/etc/group"
	echo 127.0.0.1 localhost l1 >"$dir/etc/hosts"
	cp "$HOST_LIB/init" "$dir/init"
	gcc -static -O2 -Wall -o "$dir/host/agent" "$HOST_LIB/agent.c" || return 1
	# shellcheck disable=SC2086
	add_modules "$dir" $STOCK_MODULES
	cp "$dir/usr/lib/modules/$release/modules.dep" "${out%.cpio}.dep"
	pack "$dir" >"$out.tmp.$$" && mv "$out.tmp.$$" "$out"
	# those of earlier states of the tree
	find "${out%/*}" -name "base-$release-*" ! -path "${out%.cpio}.*" -mtime +2 -delete
}

# stage_module KO: pvhv.ko, where the host's modprobe finds it with what it depends on
stage_module() {
	local dir=$stage/usr/lib/modules/$release dep=${base%.cpio}.dep name deps=''
	mkdir -p "$dir/extra"
	cp "$1" "$dir/extra/pvhv.ko"
	[ -z "$slim" ] || slim_module "$dir/extra/pvhv.ko"
	[ -e "$dir/modules.dep" ] || cp "$dep" "$dir/modules.dep"
	for name in $(modinfo -F depends "$1" | tr ',' ' '); do
		deps+=" $(sed -n "s|^\([^:]*/${name//[_-]/[_-]}\.ko\):|\1|p" "$dir/modules.dep")"
	done
	echo "extra/pvhv.ko:$deps" >>"$dir/modules.dep"
}

base_key() {
	{
		cat "$HOST_LIB"/{image.sh,init,agent.c,bochs/frames.h}
		echo "$STOCK_MODULES $slim"
		stat -Lc '%n %s %Y' "$(command -v busybox)" "$root/lib/modules/$release/modules.dep" "$root/boot/vmlinuz-$release"
	} | sha256sum | cut -c1-16
}

# Shared libraries of a program, at their places.
add_libs() {
	local lib dir
	ldd "$1" 2>/dev/null | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (0x.*/\1/p' | while read -r lib; do
		dir=$(realpath "${lib%/*}")
		mkdir -p "$stage$dir"
		[ -e "$stage$dir/${lib##*/}" ] || cp -L "$lib" "$stage$dir/"
	done
}

add_file() { # FROM TO
	mkdir -p "$(dirname "$2")"
	cp -a --reflink=auto -H "$1" "$2" || die "can't read $1"
	if [ -f "$1" ] && [[ -x $1 || $1 == *.so.* ]]; then add_libs "$1"; fi
}

# QEMU and the firmware of its PC machines, where it looks for it.
add_qemu() {
	local file
	add_file "$(command -v qemu-system-x86_64)" "$stage/usr/bin/qemu-system-x86_64"
	for file in bios-256k.bin bios-microvm.bin kvmvapic.bin linuxboot.bin linuxboot_dma.bin; do
		file=$(ls /usr/share/{qemu,seabios}/"$file" 2>/dev/null | head -n 1)
		[ -z "$file" ] || add_file "$(realpath "$file")" "$stage/usr/share/qemu/${file##*/}"
	done
}
