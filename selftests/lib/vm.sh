# SPDX-License-Identifier: GPL-2.0
#
# vm.sh - what tests that run machines share; a test reads it by  . "$(dirname "$0")/lib/vm.sh"
#  1. where programs, the device and kernels are,
#  2. what the test cannot do without,
#  3. a directory of its own, and what becomes of it,
#  4. points of TAP,
#  5. waiting.
#
# Environment: PVHV_RUN, PVHVCTL (the programs), PVHV_DEV (/dev/pvhv), PVHV_GUESTS (a directory with vmlinuz-SERIES, and perhaps
# vmlinux-SERIES, the same unpacked).

# shellcheck disable=SC2034,SC2154 # what tests use, and what they set

# --- 1. where things are ---

here=$(cd "$(dirname "$0")" && pwd)
run=${PVHV_RUN:-$(command -v pvhv-run || echo "$here/../vmm/pvhv-run")}
ctl=${PVHVCTL:-$(command -v pvhvctl || echo "$here/../vmm/pvhvctl")}
mkguest=$(command -v mkguest || echo "$here/host/mkguest")
maketap=$(command -v maketap || echo "$here/maketap")
dev=${PVHV_DEV:-/dev/pvhv}
guests=${PVHV_GUESTS:-/none}

# kernel_image SERIES: unpacked if there is such a one: it boots sooner
kernel_image() {
	if [ -r "$guests/vmlinux-$1" ]; then echo "$guests/vmlinux-$1"; else echo "$guests/vmlinuz-$1"; fi
}

# --- 2. what must be there ---

skip_all() { # WHY
	echo "1..0 # SKIP $1"
	exit 4
}

need_run() { [ -x "$run" ] && [ -x "$ctl" ] && [ -r "$dev" ] || skip_all "no pvhv-run, no pvhvctl or no $dev"; }
need_kernel() { [ -r "$1" ] || skip_all "no kernel image"; } # FILE

# own_network "$@": the test runs in a network namespace of its own, so that the host's network is left alone
own_network() {
	[ "$(id -u)" = 0 ] || skip_all "not root"
	if [ -z "${VM_SH_INSIDE:-}" ]; then
		export VM_SH_INSIDE=1
		exec unshare -n -- sh "$0" "$@"
	fi
	for module in tun bridge vhost_net; do modprobe $module 2>/dev/null; done
	[ -c /dev/net/tun ] || skip_all "no /dev/net/tun"
}

# bridge ADDRESS/BITS: br0
bridge() {
	ip link set lo up
	ip link add br0 type bridge 2>/dev/null || skip_all "no bridges"
	ip addr add "$1" dev br0
	ip link set br0 up
}

# --- 3. a directory of its own ---

vmm=	# the machine that wait_for watches
pids=	# whatever else ends with the test

tidy() { :; } # a test puts its own here

leave() {
	for pid in $vmm $pids; do kill "$pid" 2>/dev/null; done
	tidy
	rm -rf "$dir"
}

dir=
own_directory() {
	dir=$(mktemp -d) || exit 1
	export PVHV_RUNDIR="$dir"
	trap leave EXIT
	trap 'exit 143' TERM INT HUP
	cd "$dir" || exit 1
}

# --- 4. points ---

nr=0
failed=0
show='err says out'	# files whose ends explain a failure

result() { # STATUS NAME: ok if STATUS is 0
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr $2"
		return
	fi
	echo "not ok $nr $2"
	for file in $show; do [ ! -s "$file" ] || tail -n 15 "$file" | tr -d '\r' | sed "s/^/# $file: /"; done
	failed=1
}

skip() { # NAME WHY
	nr=$((nr + 1))
	echo "ok $nr $1 # SKIP $2"
}

finish() {
	echo "1..$nr"
	exit $failed
}

# --- 5. waiting ---

runs() { kill -0 "$1" 2>/dev/null; } # PID

# await_while ALIVE SECONDS COMMAND...: false if it is not true in that time, or once ALIVE is not
await_while() {
	alive=$1
	tries=$(($2 * 5))
	shift 2
	while ! "$@" 2>/dev/null; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		if ! $alive; then
			"$@" 2>/dev/null
			return
		fi
		sleep 0.2
	done
}

await() { await_while true "$@"; } # SECONDS COMMAND...
await_vm() { await_while "runs $vmm" "$@"; } # the same, while the machine runs

# wait_for TEXT FILE [SECONDS] [PID]: while the machine runs, or PID does
wait_for() { await_while "runs ${4:-$vmm}" "${3:-180}" grep -q "$1" "$2"; }
