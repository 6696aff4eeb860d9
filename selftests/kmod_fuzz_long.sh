#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The ioctl fuzzer for longer: PVHV_FUZZ_SECONDS, 600 by default. Only make check-long runs this.

here=$(dirname "$0")
fuzz=$here/kmod_fuzz_ioctl
[ -x "$fuzz" ] || fuzz=kmod_fuzz_ioctl
PVHV_FUZZ_SECONDS=${PVHV_FUZZ_SECONDS:-600} exec "$fuzz"
