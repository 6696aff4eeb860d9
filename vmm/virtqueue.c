// SPDX-License-Identifier: GPL-2.0
/*
 * One split ring (virtio 1.2, 2.7) in guest memory, from the device's side.
 *  1. virtq_start(): alignment, size and place of its three areas are checked
 *     once; RAM never moves, so pointers are kept.
 *  2. virtq_pop(): the next request as pieces of host memory.  Every index,
 *     address, length and flag is read from guest memory once, into a local,
 *     and checked there.  Work is bounded by the ring's size whatever the
 *     tables hold; nonsense breaks the ring for good.
 *  3. virtq_push(), virtq_publish(): used elements, and whether the driver
 *     wants an interrupt for them.
 *  4. virtq_kicks_on(): whether it should kick for more.
 *
 * No more requests are out at a time than the ring has entries, so owners may
 * size their tables by it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtio.h"

#define DESC_SIZE	sizeof(struct vring_desc)
#define RING_HEAD	4	/* flags and idx, in both rings */
#define AVAIL_SIZE(num)	(RING_HEAD + 2ULL * (num) + 2)
#define USED_SIZE(num)	(RING_HEAD + sizeof(struct vring_used_elem) * \
			 (u64)(num) + 2)

/* The areas are aligned, which virtq_start() has seen to. */
static u16 load16(const volatile u8 *p)
{
	return __atomic_load_n((const volatile u16 *)p, __ATOMIC_ACQUIRE);
}

static void store16(const struct virtq *q, volatile u8 *p, u16 value)
{
	__atomic_store_n((volatile u16 *)p, value, __ATOMIC_RELEASE);
	mem_wrote(q->mem, p, sizeof(value));
}

static size_t min_len(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* An indirect table may lie at any address: its entries are read as packed. */
struct packed_desc {
	u64 addr;
	u32 len;
	u16 flags;
	u16 next;
} __attribute__((packed));

static struct vring_desc load_desc(const volatile u8 *table, u32 i)
{
	const volatile struct packed_desc *p =
		(const volatile struct packed_desc *)(table + i * DESC_SIZE);

	return (struct vring_desc){ .addr = p->addr, .len = p->len,
				    .flags = p->flags, .next = p->next };
}

static int broken(struct virtq *q, const char *why)
{
	q->broken = why;
	return -EBADMSG;
}

/* Positions are as virtq_fini() or virtq_load() left them. */
int virtq_start(struct virtq *q, const struct mem *mem,
		const struct virtq_layout *at, u16 chain_max, u64 features)
{
	u16 num = at->num;

	q->num = 0;
	if (!num || num > VIRTQ_SIZE_MAX || (num & (num - 1)))
		return broken(q, "its size is no power of two in range");
	if (at->desc % VRING_DESC_ALIGN_SIZE ||
	    at->avail % VRING_AVAIL_ALIGN_SIZE ||
	    at->used % VRING_USED_ALIGN_SIZE)
		return broken(q, "its address is misaligned");
	q->desc = mem_at(mem, at->desc, DESC_SIZE * num);
	q->avail = mem_at(mem, at->avail, AVAIL_SIZE(num));
	q->used = mem_at(mem, at->used, USED_SIZE(num));
	if (!q->desc || !q->avail || !q->used)
		return broken(q, "it lies outside the guest's memory");
	if (q->nr_returned > num)
		return broken(q, "more was given back than it holds");
	q->mem = mem;
	q->chain_max = chain_max > num ? chain_max : num;
	q->event_idx = features & VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX);
	q->indirect = features & VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC);
	q->num = num;
	return 0;
}

void virtq_fini(struct virtq *q)
{
	free(q->returned);
	memset(q, 0, sizeof(*q));
}

static int add_piece(struct virtq *q, struct virtq_buf *buf,
		     const struct vring_desc *d)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	void *p;

	if (!in && buf->nr_in)
		return broken(q, "a readable descriptor follows a writable one");
	if (!d->len)
		return 0;
	p = mem_at(q->mem, d->addr, d->len);
	if (!p)
		return broken(q, "a buffer lies outside the guest's memory");
	if (buf->nr_out + buf->nr_in == buf->max)
		return broken(q, "a request has more pieces than the device takes");
	buf->iov[buf->nr_out + buf->nr_in] = (struct iovec){ p, d->len };
	if (in) {
		buf->nr_in++;
		buf->in_len += d->len;
	} else {
		buf->nr_out++;
		buf->out_len += d->len;
	}
	return 0;
}

struct table {
	const volatile u8 *base;
	u32 nr;
	u32 most;		/* descriptors that a chain may have */
	bool indirect;
};

/* Where the chain goes on from an indirect descriptor, its last one. */
static int enter_table(struct virtq *q, const struct vring_desc *d,
		       struct table *t)
{
	if (!q->indirect)
		return broken(q, "an indirect descriptor was not agreed on");
	if (t->indirect)
		return broken(q, "an indirect descriptor is in an indirect table");
	if (d->flags & VRING_DESC_F_NEXT)
		return broken(q, "an indirect descriptor has a next one");
	if (!d->len || d->len % DESC_SIZE)
		return broken(q, "an indirect table's length is no multiple of 16");
	t->base = mem_at(q->mem, d->addr, d->len);
	if (!t->base)
		return broken(q, "an indirect table lies outside the guest's memory");
	t->nr = d->len / DESC_SIZE;
	t->most = q->chain_max;
	t->indirect = true;
	return 0;
}

static int walk(struct virtq *q, struct virtq_buf *buf)
{
	struct table t = { q->desc, q->num, q->num, false };
	u32 i = buf->head, seen = 0;
	struct vring_desc d;
	int ret;

	for (;;) {
		if (i >= t.nr)
			return broken(q, "a descriptor's number is beyond its table");
		d = load_desc(t.base, i);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			ret = enter_table(q, &d, &t);
			if (ret)
				return ret;
			i = 0;
			continue;
		}
		if (seen++ == t.most)
			return broken(q, "a chain is longer than the ring");
		ret = add_piece(q, buf, &d);
		if (ret || !(d.flags & VRING_DESC_F_NEXT))
			return ret;
		i = d.next;
	}
}

/* 1 with the head of the next chain, 0 if there is none. */
static int next_head(struct virtq *q, u16 *head)
{
	if (q->nr_returned) {
		*head = q->returned[--q->nr_returned];
		return 1;
	}
	if (q->last_avail == q->avail_idx) {
		q->avail_idx = load16(q->avail + 2);
		if (q->last_avail == q->avail_idx)
			return 0;
		if ((u16)(q->avail_idx - q->last_avail) > q->num)
			return broken(q, "its index jumped by more than its size");
	}
	if (q->in_flight >= q->num)
		return broken(q, "more requests are out than it holds");
	*head = load16(q->avail + RING_HEAD +
		       2 * (q->last_avail & (q->num - 1)));
	q->last_avail++;
	return 1;
}

/* 1 with a request, 0 without; -EBADMSG: the ring is broken, now or before. */
int virtq_pop(struct virtq *q, struct virtq_buf *buf)
{
	int ret;

	if (q->broken)
		return -EBADMSG;
	if (!q->num)
		return 0;
	buf->nr_out = 0;
	buf->nr_in = 0;
	buf->out_len = 0;
	buf->in_len = 0;
	ret = next_head(q, &buf->head);
	if (ret <= 0)
		return ret;
	ret = walk(q, buf);
	if (ret)
		return ret;
	q->in_flight++;
	return 1;
}

/* The last one given back is the first one popped again. */
void virtq_unpop(struct virtq *q, const struct virtq_buf *buf)
{
	q->in_flight--;
	if (!virtq_ready(q))
		return;
	if (!q->returned)
		q->returned = malloc(q->num * sizeof(q->returned[0]));
	if (!q->returned) {
		broken(q, "the host has no memory left for it");
		return;
	}
	q->returned[q->nr_returned++] = buf->head;
}

/* The first @written bytes of the in pieces are others than before. */
static void log_written(const struct virtq *q, const struct virtq_buf *buf,
			u64 written)
{
	u16 i;

	for (i = buf->nr_out; written && i < buf->nr_out + buf->nr_in; i++) {
		size_t part = min_len(buf->iov[i].iov_len, written);

		mem_wrote(q->mem, buf->iov[i].iov_base, part);
		written -= part;
	}
}

void virtq_push(struct virtq *q, const struct virtq_buf *buf, u32 written)
{
	volatile struct vring_used_elem *elem;

	q->in_flight--;
	if (!virtq_ready(q))
		return;
	elem = (volatile struct vring_used_elem *)(q->used + RING_HEAD) +
	       (q->used_idx & (q->num - 1));
	elem->id = buf->head;
	elem->len = written;
	q->used_idx++;
	mem_wrote(q->mem, elem, sizeof(*elem));
	if (written && mem_logging(q->mem))
		log_written(q, buf, written);
}

/* The driver may find what was pushed; virtq_publish() will follow. */
void virtq_show(struct virtq *q)
{
	if (virtq_ready(q))
		store16(q, q->used + 2, q->used_idx);
}

/* Shows the driver what was pushed; true if it wants an interrupt. */
bool virtq_publish(struct virtq *q)
{
	u16 old = q->published, new = q->used_idx;

	if (!virtq_ready(q) || old == new)
		return false;
	store16(q, q->used + 2, new);
	q->published = new;
	/* Either we see the driver's wish, or it sees our index. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->event_idx)
		return vring_need_event(load16(q->avail + RING_HEAD +
					       2 * q->num), new, old);
	return !(load16(q->avail) & VRING_AVAIL_F_NO_INTERRUPT);
}

/* With event index kicks stay off by themselves until they are turned on. */
void virtq_kicks_off(struct virtq *q)
{
	if (virtq_ready(q) && !q->event_idx)
		store16(q, q->used, VRING_USED_F_NO_NOTIFY);
}

/* True if more has come meanwhile, for which no kick may come. */
bool virtq_kicks_on(struct virtq *q)
{
	if (!virtq_ready(q))
		return false;
	if (q->event_idx)
		store16(q, q->used + RING_HEAD +
			sizeof(struct vring_used_elem) * q->num, q->last_avail);
	else
		store16(q, q->used, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(q->avail + 2) != q->last_avail;
}

/*
 * Where somebody else goes on with a ring of which nothing is in flight and
 * whose requests were answered in their order: what was given back is at the
 * end of what was taken, and still stands in the ring.
 */
u16 virtq_position(const struct virtq *q)
{
	return q->last_avail - q->nr_returned;
}

/* Somebody else has answered all before @position. */
void virtq_set_position(struct virtq *q, u16 position)
{
	q->nr_returned = 0;
	q->last_avail = position;
	q->avail_idx = position;
	q->used_idx = position;
	q->published = position;
}

/* A saved ring has nothing in flight: its owner was stopped. */
void virtq_save(const struct virtq *q, struct state *st, unsigned int index)
{
	char name[32];

	snprintf(name, sizeof(name), "queue%u.avail", index);
	state_put_u64(st, name, q->last_avail);
	snprintf(name, sizeof(name), "queue%u.used", index);
	state_put_u64(st, name, q->used_idx);
	snprintf(name, sizeof(name), "queue%u.returned", index);
	state_put(st, name, q->returned,
		  q->nr_returned * sizeof(q->returned[0]));
}

/* Into a ring that is not set up; what it says is checked when it is used. */
int virtq_load(struct virtq *q, const struct state_section *sec,
	       unsigned int index)
{
	u16 returned[VIRTQ_SIZE_MAX];
	u64 avail, used;
	char name[32];
	size_t got;

	snprintf(name, sizeof(name), "queue%u.avail", index);
	if (state_get_u64(sec, name, UINT16_MAX, &avail))
		return -EBADMSG;
	snprintf(name, sizeof(name), "queue%u.used", index);
	if (state_get_u64(sec, name, UINT16_MAX, &used))
		return -EBADMSG;
	snprintf(name, sizeof(name), "queue%u.returned", index);
	if (state_get(sec, name, returned, sizeof(returned), &got) || got % 2)
		return -EBADMSG;
	virtq_fini(q);
	if (got) {
		q->returned = malloc(sizeof(returned));
		if (!q->returned)
			return -ENOMEM;
		memcpy(q->returned, returned, got);
	}
	q->nr_returned = got / 2;
	q->last_avail = avail;
	q->avail_idx = avail;
	q->used_idx = used;
	q->published = used;
	return 0;
}

size_t virtq_read(const struct virtq_buf *buf, u64 off, void *data, size_t len)
{
	size_t done = 0, part;
	u16 i;

	for (i = 0; i < buf->nr_out && done < len; i++) {
		const struct iovec *iov = &buf->iov[i];

		if (off >= iov->iov_len) {
			off -= iov->iov_len;
			continue;
		}
		part = min_len(iov->iov_len - off, len - done);
		memcpy((u8 *)data + done, (u8 *)iov->iov_base + off, part);
		done += part;
		off = 0;
	}
	return done;
}

size_t virtq_write(const struct virtq_buf *buf, u64 off, const void *data,
		   size_t len)
{
	size_t done = 0, part;
	u16 i;

	for (i = 0; i < buf->nr_in && done < len; i++) {
		const struct iovec *iov = &buf->iov[buf->nr_out + i];

		if (off >= iov->iov_len) {
			off -= iov->iov_len;
			continue;
		}
		part = min_len(iov->iov_len - off, len - done);
		memcpy((u8 *)iov->iov_base + off, (const u8 *)data + done, part);
		done += part;
		off = 0;
	}
	return done;
}

unsigned int virtq_slice(const struct iovec *iov, unsigned int nr, u64 off,
			 u64 len, struct iovec *out)
{
	unsigned int n = 0;
	u64 part;

	for (; nr && len; nr--, iov++) {
		if (off >= iov->iov_len) {
			off -= iov->iov_len;
			continue;
		}
		part = min_len(iov->iov_len - off, len);
		out[n++] = (struct iovec){ (u8 *)iov->iov_base + off, part };
		len -= part;
		off = 0;
	}
	return n;
}
