#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that many machines run on one host at a time: 24 of 128 MiB, a stock kernel in each with a disk and a network. When the
# last of them is up, all start to work: each fetches a file of its own over the network, writes its disk with it, reads both
# back, sends the file's sum to the host, and powers off with status 0. The disks hold then what was written, no tap is left, and
# the host ran out of memory for none of them.
#
# Environment: MANY (24), MANY_SECONDS; and as lib/vm.sh says.

set -u
. "$(dirname "$0")/lib/vm.sh"
many=${MANY:-24}
seconds=${MANY_SECONDS:-3600}	# for the slowest of them, on an emulated host that others slow down
kernel=$(kernel_image 6.1)
need_run
need_kernel "$kernel"
# Theirs, what a process takes beside it, and the disks where files are in memory
need=$((many * (128 + 5 + 6) + 256))
have=$(($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) / 1024))
[ "$have" -ge "$need" ] || skip_all "$have MiB of memory are free, $need needed"
own_network "$@"
bridge 10.9.0.1/24
own_directory

all() { # its numbers
	i=1
	while [ $i -le "$many" ]; do
		echo $i
		i=$((i + 1))
	done
}

# how_many TEXT: machines that have said it
how_many() { grep -lsx "$1" out.* | wc -l; }

mkdir www www/cgi-bin
for i in $(all); do dd if=/dev/urandom of=www/file$i bs=64k count=32 2>/dev/null; done
cat >www/cgi-bin/sum <<CGI
#!/bin/sh
printf 'Content-type: text/plain\r\n\r\n'
echo "\$QUERY_STRING" >>"$dir/sums"
CGI
chmod +x www/cgi-bin/sum
httpd -f -p 10.9.0.1:80 -h "$dir/www" &
pids=$!

cat >guest <<'GUEST'
me=$(sed -n 's/.*me=\([0-9]*\).*/\1/p' /proc/cmdline)
# When the first are done the last have hardly begun
fetch() { n=0; until timeout 120 wget -q -O "$2" "http://10.9.0.1/$1"; do n=$((n + 1)); [ $n -lt 20 ] || return 1; usleep 500000; done; }
ip addr add 10.9.0.$((me + 100))/24 dev eth0 && ip link set eth0 up || exit 1
echo ready
n=0
until timeout 60 wget -q -O /dev/null http://10.9.0.1/go 2>/dev/null; do
	n=$((n + 1))
	[ $n -lt 1200 ] || exit 1
	usleep 500000
done
fetch file$me /tmp/file || exit 1
sum=$(sha256sum </tmp/file)
# twice, at the start and at the end of 4 MiB
dd if=/tmp/file of=/dev/vda bs=64k conv=fsync 2>/dev/null || exit 1
dd if=/tmp/file of=/dev/vda bs=64k seek=32 conv=fsync 2>/dev/null || exit 1
echo 3 >/proc/sys/vm/drop_caches
for skip in 0 32; do
	[ "$(dd if=/dev/vda bs=64k skip=$skip count=32 2>/dev/null | sha256sum)" = "$sum" ] || { echo "the disk differs at $skip"; exit 1; }
done
fetch "cgi-bin/sum?$me-${sum%% *}" /dev/null || exit 1
echo finished
poweroff -f
sleep 60
exit 1
GUEST
"$mkguest" --add guest --kernel 6.1 --modules virtio_pci,virtio_blk,virtio_net guest.cpio 'sh guest' || exit 1

echo "TAP version 13"
start=$(date +%s)
oom=$(awk '/^oom_kill / { print $2 }' /proc/vmstat)
for i in $(all); do
	truncate -s 4M disk$i
	# by the host's kernel and by pvhv-run itself
	vhost=auto
	[ $((i % 2)) = 0 ] || vhost=off
	"$run" --dev "$dev" --kernel "$kernel" --initrd guest.cpio --memory 128M --exit-port --disk path=disk$i \
		--net bridge=br0,mac=02:00:00:00:00:$(printf %02x $i),vhost=$vhost \
		--append "console=ttyS0 loglevel=4 panic=-1 me=$i" >out.$i 2>err.$i </dev/null &
	eval "pid$i=$!"
	pids="$pids $!"
done
# one that has ended and was not waited for is no longer
alive() { grep -q '^State:[[:space:]]*[^Z[:space:]]' "/proc/$1/status" 2>/dev/null; }

# how many of them run: in $running
count() {
	running=0
	for i in $(all); do
		eval "pid=\$pid$i"
		alive $pid && running=$((running + 1))
	done
}
count
until [ "$(how_many ready.\\?)" = "$many" ] || [ $running -lt "$many" ] || [ $(($(date +%s) - start)) -gt "$seconds" ]; do
	sleep 2
	count
done
echo "# $running run and $(how_many ready.\\?) are up after $(($(date +%s) - start)) s, $(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo) MiB are left"
[ "$running" = "$many" ] && [ "$(how_many ready.\\?)" = "$many" ]
result $? "$many machines run at a time"
: >www/go

bad=0
for i in $(all); do
	eval "pid=\$pid$i"
	while alive $pid && [ $(($(date +%s) - start)) -le "$seconds" ]; do sleep 1; done
	kill -9 $pid 2>/dev/null
	wait $pid
	status=$?
	if [ $status != 0 ] || [ -s err.$i ]; then
		bad=1
		echo "# machine $i: status $status"
		sed 's/^/#   /' err.$i
		tail -n 5 out.$i | tr -d '\r' | sed 's/^/#   /'
	fi
done
echo "# all done after $(($(date +%s) - start)) s"
result $bad "each ends by powering off, with status 0, without a complaint"
bad=0
for i in $(all); do
	sum=$(sha256sum <www/file$i)
	grep -qx "$i-${sum%% *}" sums || bad=1
done
result $bad "each had its own file, unharmed, and told the host so"
bad=0
for i in $(all); do
	cat www/file$i www/file$i | cmp -s - disk$i || bad=1
done
result $bad "each disk holds what its machine wrote"
[ "$(awk '/^oom_kill / { print $2 }' /proc/vmstat)" = "$oom" ]
result $? "nothing was killed for memory"
[ "$(ip -o link show | grep -c "master br0")" = 0 ]
result $? "no tap is left"

finish
