#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes virtio-blk over the virtio core and the host half of disks (fuzz/virtio_blk_fuzz.c, fuzz/target.sh).

set -u
. "$(dirname "$0")/fuzz/target.sh"

vmm=$here/../vmm
fuzz_target virtio_blk 20000 "$vmm"/virtio_blk.c "$vmm"/virtio.c "$vmm"/bell.c "$vmm"/virtqueue.c "$vmm"/blk.c "$vmm"/blk_freeze.c \
	"$vmm"/blk_iov.c "$vmm"/blk_log.c "$vmm"/limit.c "$vmm"/state.c "$vmm"/mem.c "$vmm"/image.c "$vmm"/error.c
