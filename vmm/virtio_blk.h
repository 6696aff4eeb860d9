/* SPDX-License-Identifier: GPL-2.0 */
/* virtio-blk, a front half of blk.h. */
#ifndef PVHV_VIRTIO_BLK_H
#define PVHV_VIRTIO_BLK_H

#include "virtio.h"

struct blk;

struct virtio *virtio_blk_create(const struct mem *mem, struct blk *blk,
				 const char *serial, u32 nr_queues);

#endif /* PVHV_VIRTIO_BLK_H */
