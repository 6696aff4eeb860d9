// SPDX-License-Identifier: GPL-2.0
/*
 * Frames from the guest.
 *  1. Taken off the ring in batches, their headers checked on a copy, sent
 *     from where they lie in guest memory.
 *  2. That they are sent shows in the ring at once.  The interrupt for it
 *     waits a little, or for a batch: drivers clean up with the next frame
 *     that they send or receive, and then want none any more.
 */
#include <errno.h>

#include "virtio_net.h"

#define TELL_AT		16	/* frames that are worth an interrupt */
#define TELL_AT_BYTES	65536	/* senders wait for those to be gone */
#define TELL_US		250	/* most that one waits */

static bool csum_fits(const struct virtio_net *n, const struct net_header *h,
		      size_t len)
{
	return virtio_has(&n->v, VIRTIO_NET_F_CSUM) &&
	       (size_t)h->csum_start + h->csum_offset + sizeof(u16) <= len;
}

static bool gso_fits(const struct virtio_net *n, const struct net_header *h,
		     size_t len)
{
	if ((h->gso_type & NET_GSO_ECN) &&
	    !virtio_has(&n->v, VIRTIO_NET_F_HOST_ECN))
		return false;
	/* Segments' sums have to be made anew. */
	if (!(h->flags & NET_NEEDS_CSUM) || !h->gso_size ||
	    h->header_len > len)
		return false;
	switch (h->gso_type & ~NET_GSO_ECN) {
	case NET_GSO_TCP4:
		return virtio_has(&n->v, VIRTIO_NET_F_HOST_TSO4);
	case NET_GSO_TCP6:
		return virtio_has(&n->v, VIRTIO_NET_F_HOST_TSO6);
	default:
		return false;
	}
}

/* What the header asks for was agreed on and lies within the frame. */
static bool header_fits(const struct virtio_net *n, const struct net_header *h,
			size_t len)
{
	if ((h->flags & NET_NEEDS_CSUM) && !csum_fits(n, h, len))
		return false;
	return h->gso_type == NET_GSO_NONE || gso_fits(n, h, len);
}

/* The request becomes the batch's next frame; false if it is nonsense. */
static bool add(struct virtio_net *n, const struct virtq_buf *buf)
{
	struct vnet_batch *b = &n->batch;
	struct net_header *header = &b->header[b->nr];
	struct iovec *out = &b->out[b->used];
	unsigned int nr;

	if (buf->out_len < NET_HEADER_LEN + ETH_HLEN ||
	    buf->out_len > VNET_LEN_MAX)
		return false;
	virtq_read(buf, 0, header, NET_HEADER_LEN);
	if (!header_fits(n, header, buf->out_len - NET_HEADER_LEN))
		return false;
	header->flags &= NET_NEEDS_CSUM;
	header->buffers = 0;
	out[0] = (struct iovec){ header, NET_HEADER_LEN };
	nr = virtq_slice(buf->iov, buf->nr_out, NET_HEADER_LEN,
			 buf->out_len - NET_HEADER_LEN, out + 1) + 1;
	b->frame[b->nr++] = (struct net_frame){ out, nr, buf->out_len };
	b->used += nr > buf->nr_out ? nr : buf->nr_out;
	return true;
}

/* How many requests the batch has: up to its size, or to a nonsensical one. */
static unsigned int gather(struct virtio_net *n, unsigned int queue)
{
	struct vnet_batch *b = &n->batch;
	struct virtq_buf *buf;

	b->nr = 0;
	b->used = 0;
	b->nonsense = false;
	while (b->nr < NET_BATCH_MAX &&
	       b->used < VNET_OUT_PIECES - VNET_PIECES) {
		buf = &b->buf[b->nr];
		buf->iov = &b->pieces[b->used];
		buf->max = VNET_PIECES;
		if (!virtio_pop(&n->v, queue, buf))
			break;
		if (!add(n, buf)) {
			b->nonsense = true;
			return b->nr + 1;
		}
	}
	return b->nr;
}

/* False: the host half had no room; what is not sent is back in the ring. */
static bool send_batch(struct virtio_net *n, unsigned int pair)
{
	const unsigned int queue = vnet_tx_queue(pair);
	struct vnet_batch *b = &n->batch;
	struct vnet_tx *tx = &n->tx[pair];
	unsigned int i, sent, all = b->nr + b->nonsense;

	sent = net_send_many(n->net, pair, b->frame, b->nr);
	for (i = 0; i < sent; i++)
		tx->untold_bytes += b->frame[i].len;
	if (sent == b->nr && b->nonsense) {
		n->net->stats.tx_errors++;
		sent++;
	}
	for (i = 0; i < sent; i++)
		virtio_push(&n->v, queue, &b->buf[i], 0);
	virtio_show(&n->v, queue);
	tx->untold += sent;
	for (i = all; i > sent; i--)
		virtio_unpop(&n->v, queue, &b->buf[i - 1]);
	return sent == all;
}

/* Interrupts for frames that are sent, of which the driver need not hurry to hear. */

static void told(struct vnet_tx *tx)
{
	tx->untold = 0;
	tx->untold_bytes = 0;
}

static void tell_all(struct virtio_net *n)
{
	unsigned int i;

	for (i = 0; i < n->pairs; i++) {
		if (n->tx[i].untold && virtio_queue_ready(&n->v, vnet_tx_queue(i)))
			virtio_flush(&n->v, vnet_tx_queue(i));
		told(&n->tx[i]);
	}
}

static void tell_timer(struct loop_op *op, int res)
{
	(void)res;
	tell_all(container_of(op, struct virtio_net, tell_op));
}

static void tell(struct virtio_net *n, unsigned int pair)
{
	struct vnet_tx *tx = &n->tx[pair];

	if (tx->untold < TELL_AT && tx->untold_bytes < TELL_AT_BYTES &&
	    (!tx->untold || n->tell_op.busy ||
	     !loop_timer_us(&n->tell_op, TELL_US)))
		return;
	told(tx);
	virtio_flush(&n->v, vnet_tx_queue(pair));
}

void vnet_tx_run(struct virtio_net *n, unsigned int pair)
{
	const unsigned int queue = vnet_tx_queue(pair);
	struct vnet_tx *tx = &n->tx[pair];
	unsigned int got, frames = 0;

	tx->blocked = false;
	do {
		virtio_kicks_off(&n->v, queue);
		while ((got = gather(n, queue))) {
			frames += got;
			if (!send_batch(n, pair)) {
				tx->blocked = true;
				goto out;
			}
			if (frames >= VNET_BUDGET) {
				virtio_kick_again(&n->v, queue);
				goto out;
			}
		}
	} while (virtio_kicks_on(&n->v, queue));
out:
	tell(n, pair);
	patience_look(frames);
}

void vnet_tx_start(struct virtio_net *n, unsigned int pair)
{
	n->tx[pair] = (struct vnet_tx){ 0 };
}

void vnet_tx_stop(struct virtio_net *n)
{
	tell_all(n);
	loop_cancel(&n->tell_op);
}

void vnet_tx_init(struct virtio_net *n)
{
	n->tell_op.done = tell_timer;
}
