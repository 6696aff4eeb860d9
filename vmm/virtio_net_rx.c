// SPDX-License-Identifier: GPL-2.0
/*
 * Frames to the guest.
 *  1. Buffers are popped until they seem to have room for a frame as large as
 *     those of late; the host half puts the frame straight into them.  Behind
 *     them stands a buffer of our own for the rest of one that is larger.
 *  2. A frame with a rest goes on into further buffers (which the driver must
 *     have agreed to, else it is dropped).  If the driver has no more of them
 *     now, the frame waits until it has: nothing is lost while TCP's largest
 *     frames meet a ring that has just been used up.
 *  3. Buffers that a small frame has left over serve the next one.
 *  4. A driver that has just been given frames will give buffers back soon:
 *     with too few left for what is expected, that is waited for, but not long.
 */
#include <errno.h>
#include <string.h>

#include "virtio_net.h"

#define ROOM_US		100	/* most that a driver is waited for */

static struct virtq_buf *buf_at(struct vnet_rx *rx, unsigned int i)
{
	return &rx->buf[rx->first + i];
}

/* Everything in its place at the start of the arrays. */
static void compact(struct vnet_rx *rx)
{
	struct iovec *iov = rx->iov;
	unsigned int i;

	for (i = 0; i < rx->nr; i++) {
		struct virtq_buf buf = *buf_at(rx, i);

		memmove(iov, buf.iov, buf.nr_in * sizeof(*iov));
		buf.iov = iov;
		iov += buf.nr_in;
		rx->buf[i] = buf;
	}
	rx->first = 0;
	rx->pieces = iov - rx->iov;
}

/* One more buffer; false if there is none, or the ring is broken. */
static bool pop(struct virtio_net *n, unsigned int pair)
{
	struct vnet_rx *rx = &n->rx[pair];
	struct virtq_buf *buf;

	if (rx->first + rx->nr == ARRAY_SIZE(rx->buf) ||
	    rx->pieces > VNET_PIECES)
		compact(rx);
	/* Few pieces make room for a chain of any length, many do not. */
	if (rx->pieces > VNET_PIECES)
		return false;
	buf = buf_at(rx, rx->nr);
	buf->iov = rx->iov + rx->pieces;
	buf->max = VNET_PIECES;
	if (!virtio_pop(&n->v, vnet_rx_queue(pair), buf))
		return false;
	if (buf->nr_out || buf->in_len < NET_HEADER_LEN) {
		virtio_unpop(&n->v, vnet_rx_queue(pair), buf);
		virtio_break(&n->v, "queue %u: a receive buffer has no room for a header",
			     vnet_rx_queue(pair));
		return false;
	}
	rx->pieces += buf->nr_in;
	rx->room += buf->in_len;
	rx->nr++;
	return true;
}

static bool mergeable(const struct virtio_net *n)
{
	return virtio_has(&n->v, VIRTIO_NET_F_MRG_RXBUF);
}

/* The driver may add to the buffers, and we may keep more. */
static bool can_have_more(const struct virtio_net *n, unsigned int pair)
{
	const struct vnet_rx *rx = &n->rx[pair];

	return rx->nr < n->v.queues[vnet_rx_queue(pair)].ring.num &&
	       rx->pieces <= VNET_PIECES;
}

/* True with room for what is expected, or with what there is if it has to do. */
static bool prepare(struct virtio_net *n, unsigned int pair, bool has_to_do)
{
	struct vnet_rx *rx = &n->rx[pair];

	if (!rx->nr && !pop(n, pair))
		return false;
	while (mergeable(n) && rx->room < rx->want) {
		if (pop(n, pair))
			continue;
		return has_to_do || !can_have_more(n, pair) ||
		       (!rx->timer.busy &&
			loop_timer_us(&rx->timer, ROOM_US));
	}
	return true;
}

/* The frame of @len bytes fills @count buffers, the last one in part. */
static void finish(struct virtio_net *n, unsigned int pair, size_t len,
		   u16 count)
{
	struct vnet_rx *rx = &n->rx[pair];
	unsigned int i;

	virtq_write(buf_at(rx, 0), offsetof(struct net_header, buffers),
		    &count, sizeof(count));
	for (i = 0; i < count; i++) {
		struct virtq_buf *buf = buf_at(rx, i);
		size_t part = buf->in_len < len ? buf->in_len : len;

		virtio_push(&n->v, vnet_rx_queue(pair), buf, part);
		rx->room -= buf->in_len;
		len -= part;
	}
	rx->first += count;
	rx->nr -= count;
	if (!rx->nr) {
		rx->first = 0;
		rx->pieces = 0;
	}
}

/* How many of the buffers the frame takes. */
static u16 count_buffers(struct vnet_rx *rx, size_t len)
{
	u16 count = 0;
	u64 room = 0;

	while (room < len)
		room += buf_at(rx, count++)->in_len;
	return count;
}

static void drop(struct virtio_net *n, unsigned int pair)
{
	n->rx[pair].held = 0;
	n->net->stats.rx_dropped++;
}

/* The held frame's rest into further buffers; false if it has to wait. */
static bool place_rest(struct virtio_net *n, unsigned int pair)
{
	struct vnet_rx *rx = &n->rx[pair];
	size_t part;

	while (rx->room < rx->held) {
		if (!pop(n, pair)) {
			if (can_have_more(n, pair))
				return false;
			drop(n, pair);
			return true;
		}
		part = virtq_write(buf_at(rx, rx->nr - 1), 0,
				   rx->rest + rx->rest_pos,
				   rx->rest_len - rx->rest_pos);
		rx->rest_pos += part;
	}
	finish(n, pair, rx->held, rx->nr);
	rx->held = 0;
	return true;
}

/* False: the host half has no frame now. */
static bool receive_one(struct virtio_net *n, unsigned int pair)
{
	struct vnet_rx *rx = &n->rx[pair];
	struct iovec *begin = buf_at(rx, 0)->iov, *end = rx->iov + rx->pieces;
	ssize_t len;

	*end = (struct iovec){ rx->rest, sizeof(rx->rest) };
	len = net_receive(n->net, pair, begin, end - begin + 1);
	if (len < 0)
		return false;
	rx->want -= rx->want / 4;
	if (rx->want < (size_t)len)
		rx->want = len;
	if ((size_t)len <= rx->room) {
		finish(n, pair, len, count_buffers(rx, len));
	} else if (mergeable(n)) {
		rx->held = len;
		rx->rest_len = len - rx->room;
		rx->rest_pos = 0;
	} else {
		drop(n, pair);
	}
	return true;
}

void vnet_rx_run(struct virtio_net *n, unsigned int pair)
{
	const unsigned int queue = vnet_rx_queue(pair);
	struct vnet_rx *rx = &n->rx[pair];
	unsigned int budget, frames = 0;

	virtio_kicks_off(&n->v, queue);
	for (budget = VNET_BUDGET; budget; budget--) {
		if (rx->held ? place_rest(n, pair) :
			       prepare(n, pair, !frames && !rx->timer.busy)) {
			if (!rx->held && !receive_one(n, pair))
				break;
			frames++;
			continue;
		}
		/* A kick will come when the driver has added to the ring. */
		if (!virtio_kicks_on(&n->v, queue))
			break;
		virtio_kicks_off(&n->v, queue);
	}
	virtio_flush(&n->v, queue);
	patience_look(frames);
	if (!budget)
		virtio_kick_again(&n->v, queue);
}

/* Enough waited for: on with the room that there is. */
static void room_timer(struct loop_op *op, int res)
{
	struct vnet_rx *rx = container_of(op, struct vnet_rx, timer);
	struct virtio_net *n = rx->n;
	unsigned int pair = rx - n->rx;

	(void)res;
	if (virtio_queue_ready(&n->v, vnet_rx_queue(pair)) && !n->v.broken)
		vnet_rx_run(n, pair);
}

void vnet_rx_start(struct virtio_net *n, unsigned int pair)
{
	struct vnet_rx *rx = &n->rx[pair];

	rx->first = 0;
	rx->nr = 0;
	rx->pieces = 0;
	rx->room = 0;
	rx->want = 0;
	rx->held = 0;
}

/* Given back in an order that makes the first one first again. */
void vnet_rx_stop(struct virtio_net *n, unsigned int pair)
{
	struct vnet_rx *rx = &n->rx[pair];

	while (rx->nr)
		virtio_unpop(&n->v, vnet_rx_queue(pair),
			     buf_at(rx, --rx->nr));
	loop_cancel(&rx->timer);
	vnet_rx_start(n, pair);
}

void vnet_rx_init(struct virtio_net *n)
{
	unsigned int i;

	for (i = 0; i < n->pairs; i++) {
		n->rx[i].n = n;
		n->rx[i].timer.done = room_timer;
	}
}
