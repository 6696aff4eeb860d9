#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes virtio-net over the virtio core and the front of the host half of networks (fuzz/virtio_net_fuzz.c, fuzz/target.sh).

set -u
. "$(dirname "$0")/fuzz/target.sh"

vmm=$here/../vmm
fuzz_target virtio_net 20000 -I/usr/include/libnl3 "$vmm"/virtio_net*.c "$vmm"/virtio.c "$vmm"/bell.c "$vmm"/virtqueue.c "$vmm"/net.c \
	"$vmm"/net_batch.c "$vmm"/net_link.c "$vmm"/net_mac.c "$vmm"/net_passt.c "$vmm"/net_stream.c "$vmm"/net_tap.c "$vmm"/net_vhost.c \
	"$vmm"/limit.c "$vmm"/patience.c "$vmm"/state.c "$vmm"/mem.c "$vmm"/image.c "$vmm"/error.c -lnl-3 -luring
