#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Two emulated Intel hosts that differ (Bochs: Skylake and Haswell): a machine that was suspended on one goes on on the other, its
# memory and its CPU's features the same, when --cpu-model fixed one that both can be; a machine with the CPU of a host that has more
# is refused by the other, in one line that names what it lacks.

. "$(dirname "$0")/lib/vm.sh"
own_directory
show='out err'

l1() { # CPU [--add FILE]... -- COMMAND...
	cpu=$1
	shift
	"$here/host/run" --cpu "$cpu" --timeout 1500 --add "$here/host/models-l1" --add "$here/tickguest" "$@" >out 2>err
}

# keep MODEL: the file and the last words of a machine that was saved, from what a host printed
keep() {
	sed -n "s/^$1://p" out | base64 -d | gzip -d >"$1.pvhv"
	sed -n "s/^saved $1 //p" out >"$1.said"
	[ -s "$1.pvhv" ] && [ -s "$1.said" ]
}

# goes_on MODEL: what a host printed is what comes after it was saved: a later tick, all else the same
goes_on() {
	sed -n 's/^went on //p' out >goes
	[ -s goes ] && [ "$(cut -d ' ' -f 3- goes)" = "$(cut -d ' ' -f 3- "$1.said")" ] &&
		[ "$((0x$(cut -d ' ' -f 2 goes)))" -gt "$((0x$(cut -d ' ' -f 2 "$1.said")))" ]
}

echo "TAP version 13"
l1 intel -- ./models-l1 save x86-64-v2 host && keep x86-64-v2 && keep host
result $? "skylake: machines are suspended"
l1 intel-haswell --add x86-64-v2.pvhv -- ./models-l1 restore x86-64-v2 x86-64-v2.pvhv && goes_on x86-64-v2
result $? "haswell: the one with a common model goes on: $(cat goes)"
l1 intel-haswell --add host.pvhv -- ./models-l1 restore host host.pvhv
grep -q '^refused 1 .*clflushopt' out && [ "$(wc -l <out)" = 1 ]
result $? "haswell: the one with the Skylake's CPU is refused: $(cut -c 1-300 out)"
l1 intel-haswell -- ./models-l1 save x86-64-v2 && keep x86-64-v2
result $? "haswell: a machine is suspended"
l1 intel --add x86-64-v2.pvhv -- ./models-l1 restore x86-64-v2 x86-64-v2.pvhv && goes_on x86-64-v2
result $? "skylake: it goes on: $(cat goes)"
l1 intel-haswell --add x86-64-v2.pvhv -- ./models-l1 restore x86-64-v2 x86-64-v2.pvhv && goes_on x86-64-v2
result $? "haswell: and where it was"
finish
