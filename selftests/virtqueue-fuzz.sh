#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes virtqueues (fuzz/virtqueue_fuzz.c, fuzz/target.sh).

set -u
. "$(dirname "$0")/fuzz/target.sh"

vmm=$here/../vmm
fuzz_target virtqueue 50000 "$vmm"/virtqueue.c "$vmm"/mem.c "$vmm"/image.c "$vmm"/state.c "$vmm"/error.c
