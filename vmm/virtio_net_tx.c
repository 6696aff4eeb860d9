// SPDX-License-Identifier: GPL-2.0
/*
 * Frames from the guest: taken off the ring, their headers checked on a copy,
 * sent from where they lie in guest memory, one system call each.
 */
#include <errno.h>

#include "virtio_net.h"

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

void vnet_tx_run(struct virtio_net *n, unsigned int pair)
{
	struct virtq_buf buf = { .iov = n->pieces, .max = VNET_PIECES };
	const unsigned int queue = vnet_tx_queue(pair);
	unsigned int budget = VNET_BUDGET;

	n->tx[pair].blocked = false;
	do {
		virtio_kicks_off(&n->v, queue);
		while (virtio_pop(&n->v, queue, &buf)) {
			if (!send_one(n, pair, &buf)) {
				virtio_unpop(&n->v, queue, &buf);
				n->tx[pair].blocked = true;
				goto out;
			}
			virtio_push(&n->v, queue, &buf, 0);
			if (!--budget) {
				virtio_kick_again(&n->v, queue);
				goto out;
			}
		}
		virtio_flush(&n->v, queue);
	} while (virtio_kicks_on(&n->v, queue));
	return;
out:
	virtio_flush(&n->v, queue);
}
