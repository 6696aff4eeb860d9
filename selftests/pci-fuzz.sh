#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes the PCI bus with virtio devices on it (fuzz/pci_fuzz.c, fuzz/target.sh).

set -u
. "$(dirname "$0")/fuzz/target.sh"

vmm=$here/../vmm
fuzz_target pci 5000 "$vmm"/pci.c "$vmm"/msix.c "$vmm"/virtio_pci.c "$vmm"/virtio.c "$vmm"/bell.c "$vmm"/virtqueue.c "$vmm"/virtio_rng.c "$vmm"/virtio_balloon.c \
	"$vmm"/iobus.c "$vmm"/device.c "$vmm"/limit.c "$vmm"/mem.c "$vmm"/image.c "$vmm"/state.c "$vmm"/error.c
