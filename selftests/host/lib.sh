# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts of this folder share: where things are, messages, kernels, the module's build.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
HOST_LIB=$TOP/selftests/host
# Of hosts to which guests come after others: docs/emulated-hosts.md (Two hosts) says why.
TRANSLATED_MIB=128
CACHE=${PVHV_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/pvhv}

say() { echo "${0##*/}: $*" >&2; }
die() {
	say "$*"
	exit "${DIE_STATUS:-125}"
}

# locked LOCKFILE COMMAND...: one at a time, and nobody inherits the lock.
locked() {
	local lock=$1
	shift
	mkdir -p "${lock%/*}"
	(
		flock 9
		"$@" 9>&-
	) 9>"$lock"
}

# newest_release WANT: the newest of the releases on stdin that is of a series (6.1; 6.1-cloud) or exactly WANT.
newest_release() {
	local want=$1 flavour='' release
	case $want in
	*-cloud)
		flavour=cloud-
		want=${want%-cloud}
		;;
	esac
	while read -r release; do
		if [ "$release" = "$want" ]; then
			echo "$release"
		elif [[ $release =~ ^${want//./\\.}\.[0-9.+deb-]*-${flavour}amd64$ ]]; then
			echo "$release"
		fi
	done | sort -V | tail -n 1
}

installed_kernels() {
	local image release
	for image in /boot/vmlinuz-* "$CACHE"/kernels/*/boot/vmlinuz-*; do
		release=${image##*/vmlinuz-}
		[ -r "$image" ] && [ -n "$(kernel_root "$release")" ] && echo "$release"
	done
	return 0
}

# The directory that holds boot/vmlinuz-RELEASE and lib/modules/RELEASE: the machine's, else the cache's.
kernel_root() {
	local root
	for root in "" "$CACHE/kernels/$1"; do
		if [ -r "$root/boot/vmlinuz-$1" ] && [ -d "$root/lib/modules/$1/kernel" ]; then
			echo "$root/"
			return
		fi
	done
}

available_kernels() {
	apt-cache pkgnames linux-image- 2>/dev/null | sed -n 's/^linux-image-\([0-9]\)/\1/p'
}

download_kernel() {
	local release=$1 dir=$CACHE/kernels/$1 tmp
	[ -z "$(kernel_root "$release")" ] || return 0
	mkdir -p "$CACHE/kernels"
	tmp=$(mktemp -d "$CACHE/kernels/.download.XXXXXX") || return 1
	say "downloading linux-image-$release"
	if ! (cd "$tmp" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "linux-image-$release" && dpkg-deb -x ./*.deb root) >&2; then
		rm -rf "$tmp"
		return 1
	fi
	# trixie's packages, and backports of them, keep modules under usr/lib
	[ -d "$tmp/root/lib/modules" ] || ln -s usr/lib "$tmp/root/lib"
	PATH=$PATH:/usr/sbin:/sbin depmod -b "$tmp/root" "$release" || return 1
	rm -rf "$dir"
	mv "$tmp/root" "$dir"
	rm -rf "$tmp"
}

# kernel_release SERIES|RELEASE: prints the release to use, fetching its image if the machine has none.
kernel_release() {
	local want=$1 release
	release=$(installed_kernels | newest_release "$want")
	if [ -z "$release" ]; then
		# prefer what the module can be built for without another package
		release=$(headers_releases | newest_release "$want")
		if [ -z "$release" ] || ! available_kernels | grep -qxF "$release"; then
			release=$(available_kernels | newest_release "$want")
		fi
		if [ -z "$release" ] && "$HOST_LIB/deps" --update; then
			release=$(available_kernels | newest_release "$want")
		fi
		[ -n "$release" ] || die "no Debian kernel $want: none installed, none in the package lists (apt-get update?)"
		locked "$CACHE/kernels.lock" download_kernel "$release" ||
			die "can't download linux-image-$release"
	fi
	echo "$release"
}

headers_releases() {
	local dir
	for dir in /lib/modules/*/build/ /usr/src/linux-headers-*-amd64/; do
		[ -e "$dir/Makefile" ] || continue
		dir=${dir%/}
		dir=${dir%/build}
		dir=${dir##*/}
		echo "${dir#linux-headers-}"
	done | sort -u
}

# The build directory of a release's headers, installing them if need be.
headers_dir() {
	local release=$1 dir try
	for try in 1 2; do
		for dir in "/lib/modules/$release/build" "/usr/src/linux-headers-$release"; do
			if [ -e "$dir/Makefile" ]; then
				echo "$dir"
				return
			fi
		done
		[ "$try" = 1 ] && "$HOST_LIB/deps" "linux-headers-$release" >&2
	done
	die "no headers for $release: install linux-headers-$release"
}

# unpack_kernel BZIMAGE OUT: the ELF kernel in a bzImage. The header's fields are those of the boot protocol: setup_sects, payload_offset, payload_length (the last four bytes are the unpacked size).
unpack_kernel() {
	local image=$1 out=$2 sects offset length unpack
	[ ! -s "$out" ] || return 0
	le() { od -An -v -tu"$2" -j"$1" -N"$2" "$image" | tr -d ' '; }
	sects=$(le 0x1f1 1)
	offset=$(((sects + 1) * 512 + $(le 0x248 4)))
	length=$(le 0x24c 4)
	case $(od -An -tx1 -j"$offset" -N4 "$image" | tr -d ' ') in
	fd377a58) unpack=(xz -dc) ;;
	28b52ffd) unpack=(zstd -qdc) ;;
	1f8b*) unpack=(gzip -dc) ;;
	*) return 1 ;;
	esac
	tail -c "+$((offset + 1))" "$image" | head -c "$((length - 4))" | "${unpack[@]}" >"$out.tmp.$$" &&
		mv "$out.tmp.$$" "$out"
}

# elf_kernel RELEASE: prints the path of its kernel, unpacked.
elf_kernel() {
	local image elf
	image=$(kernel_root "$1")boot/vmlinuz-$1
	elf=$CACHE/vmlinux-$1-$(stat -Lc %s-%Y "$image")
	locked "$CACHE/vmlinux-$1.lock" unpack_kernel "$image" "$elf" && echo "$elf"
}

# What mkguest --modules can choose from, with what these need.
GUEST_MODULES="virtio_pci virtio_rng virtio_console virtio_balloon virtio_blk virtio_net crc32c_generic ext4"

# guest_modules RELEASE: prints a directory with the modules for guests of that kernel, unpacked, and their modules.dep.
guest_modules() {
	local release=$1 root dir
	. "$HOST_LIB/image.sh"
	root=$(kernel_root "$release")
	dir=$CACHE/guest-$release-$({
		echo "$GUEST_MODULES"
		stat -Lc %s-%Y "$root/lib/modules/$release/modules.dep"
	} | sha256sum | cut -c1-16)
	locked "$dir.lock" make_guest_modules "$dir" >&2 && echo "$dir"
}

# The caller's $release and $root are add_modules'.
make_guest_modules() {
	local dir=$1
	[ ! -e "$dir/modules.dep" ] || return 0
	rm -rf "$dir" "$dir.tmp"
	# shellcheck disable=SC2086
	add_modules "$dir.tmp" $GUEST_MODULES
	mv "$dir.tmp/usr/lib/modules/$release" "$dir" && rm -rf "$dir.tmp"
}

# guest_kernels DIR: vmlinuz-6.1, vmlinuz-6.12, vmlinuz-6.1-cloud and vmlinux-6.1 (ELF) there, for the tests that boot them;
# the modules of each in modules-6.1 and so on, for mkguest.
guest_kernels() {
	local series release elf modules
	mkdir -p "$1"
	for series in 6.1 6.12 6.1-cloud; do
		release=$(kernel_release "$series") || return 1
		cp -pu "$(kernel_root "$release")boot/vmlinuz-$release" "$1/vmlinuz-$series" || return 1
		modules=$(guest_modules "$release") && mkdir -p "$1/modules-$series" &&
			cp -rpu "$modules/." "$1/modules-$series/" && add_pvdrivers "$1/modules-$series" "$release" || return 1
	done
	elf=$(elf_kernel "$(kernel_release 6.1)") && cp -pu "$elf" "$1/vmlinux-6.1"
}

# guest_elves DIR: the first two unpacked, and the first one's modules, for hosts where each byte and each instruction costs time.
guest_elves() {
	local series elf modules
	mkdir -p "$1/modules-6.1"
	for series in 6.1 6.12; do
		elf=$(elf_kernel "$(kernel_release "$series")") && cp -pu "$elf" "$1/vmlinux-$series" || return 1
	done
	modules=$(guest_modules "$(kernel_release 6.1)") && cp -rpu "$modules/." "$1/modules-6.1/"
}

# debian_image [OPTION]...: prints the path of a disk that `pvhvctl image debian` makes with these options, made once. A kernel and
# its modules are the caller's: mkguest --root.
debian_image() {
	local options=(--suite bookworm --kernel none "$@") maker dir
	maker=$CACHE/debian-$(sha256sum <"$TOP/vmm/image/debian" | cut -c1-8)
	dir=$maker-$(printf '%s\n' "${options[@]}" | sha256sum | cut -c1-8)
	locked "$dir.lock" make_debian_image "$maker" "$dir" "${options[@]}" >&2 && echo "$dir/debian.img"
}

make_debian_image() {
	local maker=$1 dir=$2 as=()
	shift 2
	[ ! -e "$dir/debian.img" ] || return 0
	say "making a disk with Debian 12 from its packages; later runs use it again"
	# without root, user namespaces would do, if they were set up
	[ "$(id -u)" = 0 ] || as=(sudo)
	rm -rf "$dir.tmp"
	mkdir "$dir.tmp" && "${as[@]}" "$TOP/vmm/pvhvctl" image debian "$@" "$dir.tmp/debian.img" >/dev/null &&
		mv "$dir.tmp" "$dir" || return 1
	# of earlier states of the tree
	find "$CACHE" -maxdepth 1 -name 'debian-*' ! -path "$maker-*" -mtime +2 -exec rm -rf {} +
}

# build_pvdrivers RELEASE: prints the directory with the guest drivers built for that kernel.
build_pvdrivers() {
	local release=$1 dir=$TOP/build/guest-$1
	locked "$TOP/build/.lock-guest-$release" build_pvdrivers_locked "$release" "$dir" || return 1
	echo "$dir"
}

build_pvdrivers_locked() {
	local release=$1 dir=$2 kdir
	stale "$dir/pvhv_guest.ko" "$TOP/pvdrivers" "$TOP/uapi" || return 0
	kdir=$(headers_dir "$release") || return 1
	say "building the guest drivers for $release"
	make -s -j"$(nproc)" -C "$TOP" pvdrivers KDIR="$kdir" KRELEASE="$release" >&2
}

# add_pvdrivers TREE RELEASE: into a tree of guest modules, for mkguest
add_pvdrivers() {
	local tree=$1 built ko needs
	built=$(build_pvdrivers "$2") || return 1
	# virtio and virtio_ring where they are modules
	needs=$(sed -n 's|^[^:]*/virtio_blk\.ko:||p' "$tree/modules.dep")
	mkdir -p "$tree/updates"
	sed -i '/^updates\//d' "$tree/modules.dep"
	for ko in "$built"/*.ko; do
		cp -pu "$ko" "$tree/updates/"
		echo "updates/${ko##*/}:$needs" >>"$tree/modules.dep"
	done
}

# Can this machine run guests itself? Prints why not, or nothing: then /dev/pvhv is there, and $1 exists if we loaded the module.
own_hardware() {
	local loaded=$1 here ko why
	[ ! -w /dev/pvhv ] || return 0
	here=$(uname -r)
	grep -qwE 'svm|vmx' /proc/cpuinfo || { echo "this machine has no AMD-V or VT-x"; return; }
	[ -e "/lib/modules/$here/build/Makefile" ] || "$HOST_LIB/deps" "linux-headers-$here" 2>/dev/null ||
		{ echo "no headers for the running kernel $here"; return; }
	ko=$(build_module "$here") || { echo "pvhv.ko does not build for the running kernel $here"; return; }
	as_root modprobe -q irqbypass 2>/dev/null
	if ! why=$(as_root insmod "$ko" 2>&1); then
		echo "loading pvhv.ko: ${why##*: }"
		return
	fi
	: >"$loaded"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Is $1 missing or older than any of the sources under $2...?
stale() {
	local target=$1
	shift
	[ -e "$target" ] || return 0
	[ -n "$(find "$@" -type f \( -name '*.[chS]' -o -name Kbuild -o -name Makefile \) -newer "$target" -print -quit 2>/dev/null)" ]
}

# build_module RELEASE: prints the path of pvhv.ko for it, built if missing or old.
build_module() {
	local release=$1 ko=$TOP/build/$1/pvhv.ko
	locked "$TOP/build/.lock-$release" build_module_locked "$release" "$ko" || return 1
	echo "$ko"
}

build_module_locked() {
	local release=$1 ko=$2 kdir
	stale "$ko" "$TOP/kmod" "$TOP/uapi" "$TOP/Kbuild" || return 0
	kdir=$(headers_dir "$release") || return 1
	say "building pvhv.ko for $release"
	make -s -j"$(nproc)" -C "$TOP" module KDIR="$kdir" KRELEASE="$release" >&2
}
