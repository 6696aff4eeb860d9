/* SPDX-License-Identifier: GPL-2.0 */
/*
 * virtio_guest.c: what host and guest tell each other besides I/O.
 */
#ifndef PVHV_VIRTIO_GUEST_H
#define PVHV_VIRTIO_GUEST_H

#include "vmm.h"

struct virtio;
struct vm;

struct virtio *virtio_guest_create(struct vm *vm);
/* After a restore or as a clone, before the guest runs or while it does. */
void guest_renew(struct virtio *v, const u8 identity[IDENTITY_LEN]);

#endif /* PVHV_VIRTIO_GUEST_H */
