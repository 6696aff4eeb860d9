/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Jobs: the driver's side of a split ring, for tests of virtio devices without a guest.
 *
 * A ring is laid out at @base in the memory of struct mem: descriptors, available ring, used ring, each on a page of its
 * own or more. Descriptors are taken one after the other and never checked: tests also build nonsense with it.
 */
#ifndef PVHV_SELFTESTS_VRING_H
#define PVHV_SELFTESTS_VRING_H

#include <string.h>
#include <linux/virtio_ring.h>

#include "../../vmm/virtio.h"

struct vring_drv {
	const struct mem *mem;
	struct virtq_layout at;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t num;
	uint16_t next_desc;		/* modulo num */
	uint16_t avail_idx;		/* free-running; shown by vring_show() */
	uint16_t seen;			/* used elements looked at */
};

/* One piece of a request: guest address and length; in: the device writes it */
struct vring_piece {
	uint64_t addr;
	uint32_t len;
	bool in;
};

static inline void vring_drv_init(struct vring_drv *d, const struct mem *mem, uint64_t base, uint16_t num)
{
	memset(d, 0, sizeof(*d));
	d->mem = mem;
	d->num = num;
	d->at.num = num;
	d->at.desc = base;
	d->at.avail = base + ALIGN_UP(16ULL * num, 4096);
	d->at.used = d->at.avail + ALIGN_UP(6ULL + 2 * num, 4096);
	d->desc = mem_at(mem, d->at.desc, 16ULL * num);
	d->avail = mem_at(mem, d->at.avail, 6ULL + 2 * num);
	d->used = mem_at(mem, d->at.used, 6ULL + 8 * num);
	memset(d->desc, 0, 16ULL * num);
	memset(d->avail, 0, 6ULL + 2 * num);
	memset(d->used, 0, 6ULL + 8 * num);
}

/* The 16 bits behind a ring's entries: used_event behind the available ones, avail_event behind the used ones */
static inline volatile uint16_t *vring_irq_event(struct vring_drv *d)
{
	return (volatile uint16_t *)((char *)d->avail + 4 + 2 * d->num);
}

static inline volatile uint16_t *vring_kick_event(struct vring_drv *d)
{
	return (volatile uint16_t *)((char *)d->used + 4 + 8 * d->num);
}

static inline struct vring_desc *vring_desc_at(struct vring_drv *d, uint16_t i)
{
	return &d->desc[i % d->num];
}

/* A head into the available ring, not shown yet */
static inline void vring_offer(struct vring_drv *d, uint16_t head)
{
	d->avail->ring[d->avail_idx++ % d->num] = head;
}

/* Shows the device what was offered; true if it wants a kick */
static inline bool vring_show(struct vring_drv *d, bool event_idx)
{
	uint16_t old = d->avail->idx;

	__atomic_store_n(&d->avail->idx, d->avail_idx, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!event_idx)
		return !(*(volatile uint16_t *)&d->used->flags & VRING_USED_F_NO_NOTIFY);
	return vring_need_event(*vring_kick_event(d), d->avail_idx, old);
}

/* When the next interrupt is wanted: at the used element behind the last one seen */
static inline void vring_want_event(struct vring_drv *d)
{
	*vring_irq_event(d) = d->seen;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Builds a chain and offers it; returns its head */
static inline uint16_t vring_add(struct vring_drv *d, const struct vring_piece *pieces, unsigned int nr)
{
	uint16_t head = d->next_desc % d->num;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct vring_desc *desc = vring_desc_at(d, d->next_desc++);

		desc->addr = pieces[i].addr;
		desc->len = pieces[i].len;
		desc->flags = (pieces[i].in ? VRING_DESC_F_WRITE : 0) | (i + 1 < nr ? VRING_DESC_F_NEXT : 0);
		desc->next = d->next_desc % d->num;
	}
	vring_offer(d, head);
	return head;
}

/* The same through a table of indirect descriptors at @table */
static inline uint16_t vring_add_indirect(struct vring_drv *d, uint64_t table, const struct vring_piece *pieces,
					  unsigned int nr)
{
	uint16_t head = d->next_desc++ % d->num;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		const struct vring_desc desc = {
			.addr = pieces[i].addr, .len = pieces[i].len, .next = i + 1,
			.flags = (pieces[i].in ? VRING_DESC_F_WRITE : 0) | (i + 1 < nr ? VRING_DESC_F_NEXT : 0),
		};

		mem_write(d->mem, table + 16 * i, &desc, sizeof(desc));
	}
	d->desc[head] = (struct vring_desc){ .addr = table, .len = 16 * nr, .flags = VRING_DESC_F_INDIRECT };
	vring_offer(d, head);
	return head;
}

/* The next used element, if there is one */
static inline bool vring_take(struct vring_drv *d, uint32_t *head, uint32_t *len)
{
	volatile struct vring_used_elem *elem = &d->used->ring[d->seen % d->num];

	if (__atomic_load_n(&d->used->idx, __ATOMIC_ACQUIRE) == d->seen)
		return false;
	*head = elem->id;
	*len = elem->len;
	d->seen++;
	return true;
}

/* What a transport would write: the registers of a queue, of a device whose status has FEATURES_OK */
static inline void vring_attach(struct vring_drv *d, struct virtio *v, unsigned int queue)
{
	virtio_queue_set(v, queue, VIRTIO_QUEUE_SIZE, d->num, UINT64_MAX);
	virtio_queue_set(v, queue, VIRTIO_QUEUE_DESC, d->at.desc, UINT64_MAX);
	virtio_queue_set(v, queue, VIRTIO_QUEUE_AVAIL, d->at.avail, UINT64_MAX);
	virtio_queue_set(v, queue, VIRTIO_QUEUE_USED, d->at.used, UINT64_MAX);
	virtio_queue_set(v, queue, VIRTIO_QUEUE_ENABLE, 1, UINT64_MAX);
}

#endif
