#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes the pvhv bus over the virtio core (fuzz/virtio_bus_fuzz.c, fuzz/target.sh).

set -u
. "$(dirname "$0")/fuzz/target.sh"

vmm=$here/../vmm
fuzz_target virtio_bus 20000 -I"$here/../uapi" "$vmm"/virtio_bus.c "$vmm"/msix.c "$vmm"/virtio.c "$vmm"/bell.c "$vmm"/virtqueue.c \
	"$vmm"/iobus.c "$vmm"/device.c "$vmm"/state.c "$vmm"/mem.c "$vmm"/image.c "$vmm"/error.c
