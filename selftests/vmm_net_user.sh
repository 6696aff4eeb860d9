#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies networks of a user without privileges. By passt a stock guest gets an address, reaches a server of the host and is
# reached at a port that is forwarded to it; a tap that was made for the user works beside it. What he may not have (the tap device, a
# tap that is to be made, another's tap, the bridge) is refused with one line that says what to do.
#
# Environment: as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"
user=nobody
need_run
need_kernel "$guests/vmlinuz-6.1"
[ "$(id -u)" = 0 ] || skip_all "not root, who is needed to make a user's taps"
PATH=$PATH:$PWD	# of emulated hosts: what came along
command -v passt >/dev/null || skip_all "no passt"
# Namespaces of its own: the host's network and files are left alone. passt changes its root, which cannot be done to an initial
# RAM disk, but to what is mounted over it.
case ${VMM_NET_INSIDE:-} in
'')
	export VMM_NET_INSIDE=1
	exec unshare -n -m -- sh "$0" "$@"
	;;
1)
	export VMM_NET_INSIDE=2
	if [ "$(stat -f -c %T /)" != ext2/ext3 ]; then
		mount --rbind / /mnt && cd /mnt && mount --move . / && exec chroot . sh -c 'cd "$1" && shift && exec sh "$@"' - "$OLDPWD" "$0"
		skip_all "cannot put another root over the first"
	fi
	;;
esac
for module in tun bridge; do modprobe $module 2>/dev/null; done
[ -c /dev/net/tun ] || skip_all "no /dev/net/tun"

tidy() {
	wait
	umount "$dir/dev" 2>/dev/null
}
own_directory
said() { tr -d '\r' <out | grep -q "^$1"; }

# Devices that the user may open, as udev has them on a host that is used.
mkdir dev
mount -t tmpfs -o mode=755 dev dev || skip_all "cannot mount"
mknod dev/pvhv c $((0x$(stat -L -c %t "$dev"))) $((0x$(stat -L -c %T "$dev"))) && chown $user dev/pvhv
mknod dev/tun c 10 200
chmod 755 .
mount --bind dev/tun /dev/net/tun

bridge 192.0.2.2/24
# passt gives the guest the address and the router of the host's own network
ip route add default via 192.0.2.1
ip link add br1 type bridge
ip addr add 10.9.0.1/24 dev br1
ip link set br1 up

mkdir www
dd if=/dev/urandom of=www/down bs=64k count=16 2>/dev/null
sum=$(sha256sum <www/down)
httpd -f -p 127.0.0.1:5000 -h "$dir/www" &
pids="$pids $!"

cat >workload <<'WORK'
cat >lease <<'LEASE'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "address $ip router $router"
LEASE
chmod +x lease
ip link set eth0 up
udhcpc -q -n -t 20 -T 1 -i eth0 -s /root/lease 2>/dev/null
echo "down $(wget -q -O - http://192.0.2.1:5000/down | sha256sum)"
dd if=/dev/urandom of=file bs=64k count=16 2>/dev/null
echo "file $(sha256sum <file)"
nc -ll -p 80 -e cat /root/file &
ip addr add 10.9.0.2/24 dev eth1
ip link set eth1 up
ping -c 3 -i 0.2 -W 5 10.9.0.1 >/dev/null && echo "ping works"
echo ready
nc -l -p 7 >/dev/null
WORK
"$mkguest" --add workload --kernel 6.1 --modules virtio_pci,virtio_net initrd 'sh workload' || exit 1
cp "$guests/vmlinuz-6.1" kernel
cp "$run" pvhv-run 2>/dev/null
chmod a+rx kernel initrd pvhv-run

# guest NET...: becomes pvhv-run, the user's
guest() {
	for net; do set -- "$@" --net "$net"; shift; done
	exec start-stop-daemon -S -c $user -x "$dir/pvhv-run" -- --dev "$dir/dev/pvhv" --kernel kernel --initrd initrd --memory 128M \
		--exit-port --append "console=ttyS0 loglevel=4 panic=-1" "$@" >out 2>err </dev/null
}

# refused NAME PATTERN NET: one line, status 1
refused() {
	(guest "$3")
	code=$?
	[ $code = 1 ] && [ "$(wc -l <err)" = 1 ] && grep -Eq "$2" err
	result $? "refused: $1"
}

echo "TAP version 13"
chmod 600 dev/tun
refused "tap device" "/dev/net/tun: permission denied.*--net user" tap=mine
chmod 666 dev/tun
refused "a tap that is to be made" "tap=mine: no permission to make it.*ip tuntap add mine" tap=mine
"$maketap" theirs root
refused "another's tap" "tap=theirs: no permission: it is another user's" tap=theirs
"$maketap" mine $user
refused "a tap that is down" "tap=mine: it is down.*ip link set mine up" tap=mine
ip link set mine up
refused "a bridge" "tap=mine,bridge=br1: no permission.*ip link set mine master br1" tap=mine,bridge=br1
brctl addif br1 mine 2>/dev/null || ip link set mine master br1
refused "vhost" "vhost=on: .*(permission denied|not there)" tap=mine,bridge=br1,vhost=on

guest user,tcp=8080:80,tcp=8007:7 tap=mine,bridge=br1 &
vmm=$!
await_vm 300 said ready
result $? "the guest runs"
said "address 192.0.2.2 router 192.0.2.1"
result $? "passt: the guest has an address"
said "down $sum"
result $? "passt: the guest reaches a server of the host"
[ "file $(nc 127.0.0.1 8080 </dev/null | sha256sum)" = "$(tr -d '\r' <out | grep '^file ')" ]
result $? "passt: a forwarded port reaches the guest"
said "ping works"
result $? "the user's own tap"
[ "$(stat -c %U "/proc/$(pidof passt)")" = $user ] && [ "$(stat -c %U "/proc/$vmm")" = $user ] &&
	grep -q '^CapEff:.*0000000000000000' "/proc/$vmm/status"
result $? "both programs are the user's, without privileges"
echo | timeout 20 nc 127.0.0.1 8007
wait $vmm && [ ! -s err ]
result $? "the guest ends by itself"
await 10 sh -c '! pidof passt >/dev/null'
result $? "passt ends with it"
finish
