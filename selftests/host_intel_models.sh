#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Two emulated Intel hosts that differ (Bochs: Skylake and Haswell): a machine that was suspended on one goes on on the other, its
# memory and its CPU's features the same, when --cpu-model fixed one that both can be; a machine with the CPU of a host that has more
# is refused by the other, in one line that names what it lacks.

here=$(dirname "$0")
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
n=0

point() { # STATUS TEXT
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n $2"
	else
		echo "not ok $n $2"
		cut -c 1-300 "$tmp/out" "$tmp/err" | tail -n 30 | sed 's/^/# /'
	fi
}

l1() { # CPU [--add FILE]... -- COMMAND...
	cpu=$1
	shift
	"$here/host/run" --cpu "$cpu" --timeout 1500 --add "$here/host/models-l1" --add "$here/tickguest" "$@" >"$tmp/out" 2>"$tmp/err"
}

# keep MODEL: the file and the last words of a machine that was saved, from what a host printed
keep() {
	sed -n "s/^$1://p" "$tmp/out" | base64 -d | gzip -d >"$tmp/$1.pvhv"
	sed -n "s/^saved $1 //p" "$tmp/out" >"$tmp/$1.said"
	[ -s "$tmp/$1.pvhv" ] && [ -s "$tmp/$1.said" ]
}

# goes_on MODEL: what a host printed is what comes after it was saved: a later tick, all else the same
goes_on() {
	sed -n 's/^went on //p' "$tmp/out" >"$tmp/goes"
	[ -s "$tmp/goes" ] && [ "$(cut -d ' ' -f 3- "$tmp/goes")" = "$(cut -d ' ' -f 3- "$tmp/$1.said")" ] &&
		[ "$((0x$(cut -d ' ' -f 2 "$tmp/goes")))" -gt "$((0x$(cut -d ' ' -f 2 "$tmp/$1.said")))" ]
}

echo "TAP version 13"
echo "1..6"
l1 intel -- ./models-l1 save x86-64-v2 host && keep x86-64-v2 && keep host
point $? "skylake: machines are suspended"
l1 intel-haswell --add "$tmp/x86-64-v2.pvhv" -- ./models-l1 restore x86-64-v2 x86-64-v2.pvhv && goes_on x86-64-v2
point $? "haswell: the one with a common model goes on: $(cat "$tmp/goes")"
l1 intel-haswell --add "$tmp/host.pvhv" -- ./models-l1 restore host host.pvhv
grep -q '^refused 1 .*clflushopt' "$tmp/out" && [ "$(wc -l <"$tmp/out")" = 1 ]
point $? "haswell: the one with the Skylake's CPU is refused: $(cut -c 1-300 "$tmp/out")"
l1 intel-haswell -- ./models-l1 save x86-64-v2 && keep x86-64-v2
point $? "haswell: a machine is suspended"
l1 intel --add "$tmp/x86-64-v2.pvhv" -- ./models-l1 restore x86-64-v2 x86-64-v2.pvhv && goes_on x86-64-v2
point $? "skylake: it goes on: $(cat "$tmp/goes")"
l1 intel-haswell --add "$tmp/x86-64-v2.pvhv" -- ./models-l1 restore x86-64-v2 x86-64-v2.pvhv && goes_on x86-64-v2
point $? "haswell: and where it was"
