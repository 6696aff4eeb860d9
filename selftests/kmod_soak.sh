#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Tests that look for races, over and over: PVHV_SOAK_ROUNDS, 20 by default. Only make check-long runs this.

here=$(dirname "$0")
rounds=${PVHV_SOAK_ROUNDS:-20}
tests="kmod_smp kmod_irq kmod_lapic kmod_ioeventfd kmod_notifier kmod_dirty_log kmod_memslot kmod_two_vms kmod_teardown kmod_migrate_cpu kmod_vcpu_ioctls kmod_vm_ioctls kmod_xsave kmod_pvfeatures kmod_clock"
n=0
failed=0
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT

echo "TAP version 13"
# shellcheck disable=SC2086
set -- $tests
echo "1..$#"
for test in "$@"; do
	n=$((n + 1))
	program=$here/$test
	[ -x "$program" ] || program=$test
	i=0
	bad=0
	while [ "$i" -lt "$rounds" ]; do
		i=$((i + 1))
		"$program" >"$out" 2>&1
		case $? in
		0 | 4) ;;
		*)
			bad=$((bad + 1))
			echo "# $test, round $i:"
			grep -v '^ok ' "$out" | sed 's/^/# /'
			;;
		esac
	done
	if [ "$bad" = 0 ]; then
		echo "ok $n $test"
	else
		echo "not ok $n $test # $bad of $rounds rounds"
		failed=1
	fi
done
exit $failed
