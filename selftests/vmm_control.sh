#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies a running machine's control socket from the outside, with a stock kernel: pvhvctl finds it by name and reads its state
# and numbers; a pause stops the guest's output and its CPU time, and a resume lets both go on; the console by the control socket
# works both ways; the power button ends it with status 0; a second machine of the name is refused; what is left is nothing.
# The sandbox is on all the while.
#
# Environment: as lib/vm.sh says; GUEST_KERNEL (a kernel to boot instead).

set -u
. "$(dirname "$0")/lib/vm.sh"
kernel=${GUEST_KERNEL:-$(kernel_image 6.1)}
need_run
need_kernel "$kernel"
own_directory
show="err says log events"

# vm ARG...: pvhvctl's output in says; its status
vm() { "$ctl" "$@" >says 2>&1; }
field() { sed -n "s/^$1: //p" says; }

cpu_ms() { # of all vCPUs
	"$ctl" metrics vm | awk '/^pvhv_vcpu_cpu_seconds_total/ { s += $2 } END { printf "%d\n", s * 1000 }'
}

cat >guest <<'GUEST'
before=$(sed -n 's/.*: *\([0-9]*\) .*ACPI:Ged.*/\1/p' /proc/interrupts)
(
	i=0
	while :; do
		echo "tick $i"
		i=$((i + 1))
		usleep 100000
	done
) &
read -r line </dev/ttyS0
echo "heard $line"
while [ "$before" = "$(sed -n 's/.*: *\([0-9]*\) .*ACPI:Ged.*/\1/p' /proc/interrupts)" ]; do usleep 200000; done
echo pressed
poweroff -f
GUEST
"$mkguest" --add guest guest.cpio 'sh guest' || exit 1

echo "TAP version 13"
"$run" --dev "$dev" --kernel "$kernel" --initrd guest.cpio --memory 192M --cpus 2 --name vm --console control \
	--append "console=ttyS0 loglevel=3 panic=-1" >out 2>err </dev/null &
vmm=$!
await_vm 60 vm status vm
[ "$(field name):$(field state):$(field pid):$(field cpus):$(field memory)" = "vm:running:$vmm:2:201326592" ]
result $? "status by name"
vm list && grep -Eq '^vm +running +[0-9]+ +2 +192M +' says
result $? "list"
[ "$(stat -c %a vm.sock)" = 600 ] && grep -q '^NoNewPrivs:.*1' "/proc/$vmm/status" &&
	! grep -v '^Seccomp:.*2' "/proc/$vmm"/task/*/status | grep -q '^[^:]*:Seccomp:' &&
	grep -q '^CapEff:.*0000000000000000' "/proc/$vmm/status"
result $? "the socket is private, the sandbox is on"
"$run" --dev "$dev" --kernel "$kernel" --name vm </dev/null >says 2>&1
[ $? = 1 ] && [ "$(wc -l <says)" = 1 ] && grep -q 'in use by a process that runs' says
result $? "a second machine of that name is refused"

"$ctl" events vm >events &
mkfifo keys
"$ctl" console vm >log 2>&1 <keys &
console=$!
exec 3>keys
wait_for "tick 3" log
result $? "console by the control socket: output"
if vm console vm </dev/null || ! grep -q 'in use' says; then code=1; else code=0; fi
result $code "console: one client at a time"

# Output that is on its way arrives; after that, none
vm pause vm && sleep 1
code=$?
lines=$(wc -l <log)
cpu=$(cpu_ms)
vm status vm && [ "$(field state)" = paused ] && [ "$(field paused_by)" = user ] || code=1
sleep 3
[ "$(wc -l <log)" = "$lines" ] || code=1
[ "$(cpu_ms)" = "$cpu" ] || code=1
result $code "pause: no output, no CPU time"
vm resume vm
code=$?
wait_for "tick $((lines + 5))" log || code=1
[ "$(cpu_ms)" -gt "$cpu" ] || code=1
! grep -q 'lockup' log || code=1
result $code "resume"

"$ctl" metrics vm >metrics && awk '
	/^# HELP / { help[$3] = 1; next }
	/^# TYPE / { if (!help[$3] || ($4 != "counter" && $4 != "gauge")) bad = 1; type[$3] = $4; next }
	{ name = $1; sub(/[{].*/, "", name)
	  if (!type[name] || $0 !~ /^pvhv_[a-z0-9_]+[{]vm="vm"(,[a-z]+="[^"]*")*[}] [0-9.e+-]+$/) { print "# " $0; bad = 1 }
	  if (type[name] == "counter" && name !~ /_total$/) bad = 1
	  seen++ }
	/^pvhv_vcpu_exits_total[{]vm="vm",vcpu="[01]"[}] [1-9]/ { exits++ }
	END { exit bad || seen < 20 || exits != 2 }' metrics
result $? "metrics are Prometheus', with the kernel's of each vCPU"

echo "hello guest" >&3
wait_for "heard hello guest" log
result $? "console: input"
kib=$(awk '/^Size:/ { size = $2 } /^Rss:/ { if (size > most) { most = size; of = $2 } all += $2 } END { print all - of }' \
	"/proc/$vmm/smaps")
echo "# ${kib:-unknown} KiB resident beyond guest memory, with a control socket"
[ "${kib:-0}" -gt 100 ] && [ "$kib" -le 5120 ]
result $? "resident memory beyond the guest's: at most 5 MiB"

vm stop vm --timeout 100
code=$?
wait $vmm
status=$?
vmm=
wait $console
[ $code = 0 ] && [ $status = 0 ] && [ ! -s err ] && grep -q pressed log
result $? "the power button powers off: status 0 (status $status)"
exec 3>&-
grep -q '"event":"paused".*"paused_by":\["user"\]' events && grep -q '"event":"resumed"' events &&
	grep -q '"event":"stopping".*"exit_status":0,"exit_reason":"poweroff"' events
result $? "events"
[ ! -e vm.sock ] && ! vm status vm && grep -q "no machine 'vm' runs" says
result $? "nothing is left"

finish
