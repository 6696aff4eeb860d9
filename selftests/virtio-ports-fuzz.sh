#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes virtio-console with its ports, and virtio-balloon (fuzz/virtio_ports_fuzz.c, fuzz/target.sh).

set -u
. "$(dirname "$0")/fuzz/target.sh"

vmm=$here/../vmm
fuzz_target virtio_ports 5000 "$vmm"/virtio_console.c "$vmm"/port.c "$vmm"/virtio_balloon.c "$vmm"/virtio.c "$vmm"/bell.c "$vmm"/virtqueue.c \
	"$vmm"/mem.c "$vmm"/image.c "$vmm"/state.c "$vmm"/error.c
