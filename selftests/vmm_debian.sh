#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies that a Debian 12 works as it is: from a raw disk it comes up to multi-user.target without a failed unit; its Apache
# answers the host over a tap; MariaDB and PostgreSQL run the benchmark clients that come with them; after a SIGKILL of the VMM,
# while both databases commit, a second start finds every row whose commit a client has seen, and no row half.
#
#   vmm_debian.sh [KERNEL]     KERNEL of the guest: 6.1, 6.12 (default: as the host's)
#
# Environment: PVHV_RUN (the program), PVHV_DEV (/dev/pvhv), PVHV_GUESTS (a directory with vmlinuz-KERNEL, modules-KERNEL),
# PVHV_DEBIAN (the disk, which is written to; default: the one whose serial number is "debian")

set -u
here=$(cd "$(dirname "$0")" && pwd)
run=${PVHV_RUN:-$(command -v pvhv-run || echo "$here/../vmm/pvhv-run")}
mkguest=$(command -v mkguest || echo "$here/host/mkguest")
dev=${PVHV_DEV:-/dev/pvhv}
guests=${PVHV_GUESTS:-/none}
release=$(uname -r)
case $release in 6.12.*) kernel=6.12 ;; *) kernel=6.1 ;; esac
kernel=${1:-$kernel}

skip_all() {
	echo "1..0 # SKIP $1"
	exit 4
}

[ -x "$run" ] && [ -r "$dev" ] || skip_all "no pvhv-run or no $dev"
[ -r "$guests/vmlinuz-$kernel" ] || skip_all "no kernel image"
[ "$(id -u)" = 0 ] || skip_all "not root"
for module in virtio_blk tun bridge vhost_net; do modprobe $module 2>/dev/null; done
[ -c /dev/net/tun ] || skip_all "no /dev/net/tun"
disk=${PVHV_DEBIAN:-}
for serial in /sys/block/vd*/serial; do
	[ -n "$disk" ] || [ "$(cat "$serial" 2>/dev/null)" != debian ] || disk=/dev/$(basename "${serial%/serial}")
done
[ -w "$disk" ] || skip_all "no disk with a Debian: selftests/host/check makes one"
# In a namespace of its own, so that the host's network is left alone.
if [ -z "${VMM_NET_INSIDE:-}" ]; then
	export VMM_NET_INSIDE=1
	exec unshare -n -- sh "$0" "$@"
fi

dir=$(mktemp -d) || exit 1
pids=
vmm=
cleanup() {
	for p in $pids $vmm; do kill "$p" 2>/dev/null; done
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP
cd "$dir" || exit 1
nr=0
failed=0

result() { # STATUS NAME: ok if STATUS is 0
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr $kernel: $2"
	else
		echo "not ok $nr $kernel: $2"
		failed=1
	fi
}

finish() {
	if [ $failed != 0 ]; then
		for file in out1 out2 err; do [ ! -s $file ] || tail -n 40 $file | tr -d '\r' | sed "s/^/# $file: /"; done
	fi
	echo "1..$nr"
	exit $failed
}

# wait_for TEXT FILE: while the machine runs; the test's own time limit ends what takes too long
wait_for() {
	while ! grep -q "$1" "$2"; do
		kill -0 "$vmm" 2>/dev/null || return 1
		sleep 1
	done
}

ip link set lo up
ip link add br0 type bridge 2>/dev/null || skip_all "no bridges"
ip addr add 10.9.0.1/24 dev br0
ip link set br0 up
cat >dhcp.conf <<CONF
start 10.9.0.10
end 10.9.0.10
interface br0
lease_file $dir/leases
pidfile $dir/dhcp.pid
option subnet 255.255.255.0
CONF
: >leases
udhcpd -f dhcp.conf 2>dhcp.log &
pids="$pids $!"

cat >common <<'GUEST'
cd /
echo "system $(systemctl is-system-running --wait)"
systemctl list-units --failed --plain --no-legend --no-pager
echo "target $(systemctl is-active multi-user.target)"
echo "kernel $(uname -r), Debian $(cat /etc/debian_version)"
echo "servers $(systemctl is-active apache2 mariadb postgresql@15-main | tr '\n' ' ')"
pg() { su postgres -c "$1"; }
GUEST
cat >first <<'GUEST'
. ./common
echo "serving $(ip -4 -o addr show scope global | awk '{ print $4 }')"
mariadb-slap --auto-generate-sql --auto-generate-sql-load-type=mixed --concurrency=4 --number-of-queries=200
echo "mariadb-slap ended with $?"
pg 'createdb bench && pgbench -q -i -s 1 bench && pgbench -c 2 -t 50 bench'
echo "pgbench ended with $?"
table='create table numbers (i integer primary key)'
mariadb -e 'create database kept' && mariadb -e "$table" kept && pg "psql -qc '$table' bench"
rows() {
	i=0
	while i=$((i + 1)); do printf "insert into numbers values (%d); select 'row of $1:', %d;\n" $i $i; done
}
rows mariadb | mariadb -N --unbuffered kept &
rows postgres | pg "psql -qAt bench"
GUEST
cat >second <<'GUEST'
. ./common
query='select count(*), max(i) from numbers'
echo "kept by mariadb: $(mariadb -N -e "$query" kept)"
echo "kept by postgres: $(pg "psql -qAtc '$query' bench" | tr '|' '\t')"
mariadb-check kept
pg 'psql -qAtc "select sum(abalance) = (select sum(bbalance) from pgbench_branches) from pgbench_accounts" bench' | sed 's/^/balance: /'
GUEST
for phase in first second; do
	"$mkguest" --add common --add $phase --kernel "$kernel" --modules virtio_pci,virtio_blk,virtio_net,crc32c_generic,ext4 \
		--root /dev/vda $phase.cpio "sh ./$phase" || exit 1
done

start() { # PHASE OUT
	"$run" --dev "$dev" --kernel "$guests/vmlinuz-$kernel" --initrd "$1.cpio" --memory 1G --name debian --control none \
		--disk "path=$disk" --net bridge=br0 --exit-port --append "console=ttyS0 quiet loglevel=4 panic=-1" >"$2" 2>>err </dev/null &
	vmm=$!
}

echo "TAP version 13"
begun=$(date +%s)
start first out1
wait_for '^serving 10.9.0.10/24' out1
up=$?
echo "# up after $(($(date +%s) - begun)) s"
grep -q '^system running' out1 && grep -q '^target active' out1 && grep -q "^kernel $kernel\..*, Debian 12\." out1
result $? "Debian is in multi-user.target, no unit has failed"
grep -q '^servers active active active' out1
result $? "Apache, MariaDB and PostgreSQL run"
[ $up = 0 ] || { result 1 "an address by DHCP"; finish; }

code=0
# not by busybox's wget: it asks for names by libraries, which here may be another C library's
page() { printf 'GET / HTTP/1.1\r\nHost: 10.9.0.10\r\nConnection: close\r\n\r\n' | timeout 60 nc 10.9.0.10 80 | tr -d '\r' | sed '1,/^$/d'; }
for n in 1 2 3 4 5 6 7 8; do page >page.$n && [ -s page.$n ] && cmp -s page.$n page.1 || code=1; done
grep -q 'Apache2 Debian Default Page' page.1 || code=1
result $code "Apache answers the host"

wait_for '^mariadb-slap ended with' out1
grep -q '^mariadb-slap ended with 0' out1 && grep -q 'Average number of seconds to run all queries' out1
result $? "mariadb-slap:$(sed -n 's/.*Average number of seconds to run all queries:/ 200 queries in/p' out1)"
wait_for '^pgbench ended with' out1
grep -q '^pgbench ended with 0' out1 && grep -q 'transactions actually processed: 100/100' out1
result $? "pgbench:$(sed -n 's/^tps = \([0-9.]*\).*/ \1 transactions per second/p' out1)"

last() { sed -n "s/^row of $1:[^0-9]*\([0-9]*\)$/\1/p" out1 | tail -n 1; }
wait_for '^row of mariadb:[^0-9]*40$' out1 && wait_for '^row of postgres:[^0-9]*40$' out1
kill -9 $vmm
wait $vmm 2>/dev/null
vmm=
mariadb=$(last mariadb) postgres=$(last postgres)
echo "# killed at row ${mariadb:-none} of MariaDB, ${postgres:-none} of PostgreSQL"

start second out2
wait $vmm
status=$?
vmm=
[ $status = 0 ] && grep -q '^system running' out2 && grep -q '^servers active active active' out2
result $? "after SIGKILL of the VMM it starts again (status $status)"
# kept SERVER LAST: all rows from 1 to at least LAST; the last line may have been cut
kept() {
	sed -n "s/^kept by $1: //p" out2 | awk -v last="${2:-0}" '{ print "# kept: " $0; ok = last >= 39 && $1 == $2 && $2 >= last } END { exit !ok }'
}
kept mariadb "$mariadb" && grep -q '^kept\.numbers *OK' out2
result $? "MariaDB has kept what was committed"
kept postgres "$postgres" && grep -q '^balance: t' out2
result $? "PostgreSQL has kept what was committed"
finish
