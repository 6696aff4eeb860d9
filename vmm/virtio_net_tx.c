// SPDX-License-Identifier: GPL-2.0
/*
 * Frames from the guest.
 *  1. Taken off the ring, their headers checked on a copy, sent from where
 *     they lie in guest memory, one system call each.
 *  2. That they are sent shows in the ring at once.  The interrupt for it
 *     waits a little, or for a batch: drivers clean up with the next frame
 *     that they send or receive, and then want none any more.
 *  3. A driver that sends one frame sends others soon: while that has turned
 *     out to be so lately, kicks stay off for one more look at the ring, for
 *     which guest and others get the CPU if they wait for it.
 */
#include <errno.h>

#include "virtio_net.h"

#define TELL_AT		16	/* frames that are worth an interrupt */
#define TELL_US		250	/* most that one waits */
#define LUCK_MAX	4
#define TURNS_PER_TRY	64	/* out of luck: how often to try it again */

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

/* False: the host half has no room now. */
static bool send_one(struct virtio_net *n, unsigned int pair,
		     const struct virtq_buf *buf)
{
	struct net_header header;
	unsigned int nr;

	if (buf->out_len < NET_HEADER_LEN + ETH_HLEN ||
	    buf->out_len > VNET_LEN_MAX)
		goto nonsense;
	virtq_read(buf, 0, &header, NET_HEADER_LEN);
	if (!header_fits(n, &header, buf->out_len - NET_HEADER_LEN))
		goto nonsense;
	header.flags &= NET_NEEDS_CSUM;
	header.buffers = 0;
	n->out[0] = (struct iovec){ &header, NET_HEADER_LEN };
	nr = virtq_slice(buf->iov, buf->nr_out, NET_HEADER_LEN,
			 buf->out_len - NET_HEADER_LEN, n->out + 1);
	return net_send(n->net, pair, n->out, nr + 1, buf->out_len) != -EAGAIN;
nonsense:
	n->net->stats.tx_errors++;
	return true;
}

/* Interrupts for frames that are sent, of which the driver need not hurry to hear. */

static void tell_all(struct virtio_net *n)
{
	unsigned int i;

	for (i = 0; i < n->pairs; i++) {
		if (n->tx[i].untold && virtio_queue_ready(&n->v, vnet_tx_queue(i)))
			virtio_flush(&n->v, vnet_tx_queue(i));
		n->tx[i].untold = 0;
	}
}

static void tell_timer(struct loop_op *op, int res)
{
	(void)res;
	tell_all(container_of(op, struct virtio_net, tell_op));
}

static void tell(struct virtio_net *n, unsigned int pair, unsigned int frames)
{
	struct vnet_tx *tx = &n->tx[pair];

	tx->untold += frames;
	if (tx->untold < TELL_AT) {
		virtio_show(&n->v, vnet_tx_queue(pair));
		if (!tx->untold || n->tell_op.busy ||
		    !loop_timer_us(&n->tell_op, TELL_US))
			return;
	}
	virtio_flush(&n->v, vnet_tx_queue(pair));
	tx->untold = 0;
}

/* Whether to look once more before a kick is asked for. */
static bool look_again(struct vnet_tx *tx, bool second, unsigned int frames)
{
	if (second && frames && tx->luck < LUCK_MAX)
		tx->luck++;
	if (second && !frames && tx->luck)
		tx->luck--;
	if (!frames)
		return false;
	return tx->luck || !(++tx->turns % TURNS_PER_TRY);
}

void vnet_tx_run(struct virtio_net *n, unsigned int pair)
{
	struct virtq_buf buf = { .iov = n->pieces, .max = VNET_PIECES };
	const unsigned int queue = vnet_tx_queue(pair);
	struct vnet_tx *tx = &n->tx[pair];
	bool second = tx->second;
	unsigned int frames = 0;

	tx->blocked = false;
	tx->second = false;
	do {
		virtio_kicks_off(&n->v, queue);
		while (virtio_pop(&n->v, queue, &buf)) {
			if (!send_one(n, pair, &buf)) {
				virtio_unpop(&n->v, queue, &buf);
				tx->blocked = true;
				goto out;
			}
			virtio_push(&n->v, queue, &buf, 0);
			if (++frames == VNET_BUDGET) {
				virtio_kick_again(&n->v, queue);
				goto out;
			}
		}
		if (look_again(tx, second, frames)) {
			tx->second = true;
			virtio_kick_later(&n->v, queue);
			break;
		}
		second = false;
	} while (virtio_kicks_on(&n->v, queue));
out:
	tell(n, pair, frames);
}

void vnet_tx_start(struct virtio_net *n, unsigned int pair)
{
	n->tx[pair] = (struct vnet_tx){ .luck = LUCK_MAX };
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
