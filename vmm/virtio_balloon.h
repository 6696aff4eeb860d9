/* SPDX-License-Identifier: GPL-2.0 */
/* virtio-balloon: memory that the guest gives back. */
#ifndef PVHV_VIRTIO_BALLOON_H
#define PVHV_VIRTIO_BALLOON_H

#include <linux/virtio_balloon.h>

#include "virtio.h"

struct balloon_stats {
	u64 target;		/* bytes that the guest is asked to keep */
	u64 actual;		/* that it has kept */
	u64 inflated_bytes;	/* counters of what it gave back */
	u64 deflated_bytes;
	u64 reported_bytes;	/* free memory that it told of */
	u64 guest_known;	/* a bit for each of the following */
	u64 guest[VIRTIO_BALLOON_S_NR];	/* its own numbers, by tag */
	u64 guest_updates;	/* times that it has sent them */
};

struct virtio *virtio_balloon_create(const struct mem *mem, const char *label,
				     const struct balloon_options *opt);
/* -ERANGE: more than the machine has. */
int balloon_set_target(struct virtio *v, u64 keep);
/* What was sent last; asks the guest for newer ones, for the next call. */
void balloon_get_stats(struct virtio *v, struct balloon_stats *stats);

/* balloon_control.c: the same for the control socket. */
void balloon_control_add(struct virtio *v);
void balloon_control_remove(void);

#endif /* PVHV_VIRTIO_BALLOON_H */
