// SPDX-License-Identifier: GPL-2.0
/*
 * The control queue: what the driver asks for, one command a request.
 *  1. Which frames it wants to receive: modes, address tables, its address.
 *  2. How many queue pairs it uses.
 *  3. Which offloads it can take at the moment.
 *  4. That it has announced itself.
 * A command that is cut off, too long or out of range is refused, as the
 * protocol has it, and changes nothing.
 */
#include <errno.h>
#include <string.h>

#include "virtio_net.h"

/* What of the driver's addresses is kept; our own is one more. */
#define TABLE_MAX	(NET_FILTER_MAX - 1)

struct command {
	const struct virtq_buf *buf;
	u64 pos;		/* of what was not yet read */
};

static u64 left(const struct command *c)
{
	return c->buf->out_len - c->pos;
}

static bool take(struct command *c, void *data, size_t len)
{
	if (left(c) < len)
		return false;
	virtq_read(c->buf, c->pos, data, len);
	c->pos += len;
	return true;
}

/* All of what is left, which must be just that. */
static bool take_last(struct command *c, void *data, size_t len)
{
	return left(c) == len && take(c, data, len);
}

static bool rx_mode(struct virtio_net *n, u8 cmd, struct command *c)
{
	u8 on;

	if (!take_last(c, &on, sizeof(on)))
		return false;
	switch (cmd) {
	case VIRTIO_NET_CTRL_RX_PROMISC:
		n->promisc = on;
		break;
	case VIRTIO_NET_CTRL_RX_ALLMULTI:
		n->all_multicast = on;
		break;
	default:
		return false;
	}
	vnet_filter_changed(n);
	return true;
}

/* One table into the filter; what does not fit is noted and passed over. */
static bool take_table(struct command *c, struct net_filter *filter,
		       bool *too_many)
{
	u32 entries, i;

	if (!take(c, &entries, sizeof(entries)) ||
	    left(c) / ETH_ALEN < entries)
		return false;
	*too_many = entries > TABLE_MAX - filter->nr;
	for (i = 0; i < entries && !*too_many; i++)
		take(c, filter->mac[filter->nr++], ETH_ALEN);
	if (*too_many)
		c->pos += (u64)entries * ETH_ALEN;
	return true;
}

static bool set_tables(struct virtio_net *n, struct command *c)
{
	bool too_many, too_many_multicast;
	struct net_filter filter = { 0 };

	if (!take_table(c, &filter, &too_many) ||
	    !take_table(c, &filter, &too_many_multicast) || left(c))
		return false;
	n->filter = filter;
	n->too_many = too_many;
	n->too_many_multicast = too_many_multicast;
	vnet_filter_changed(n);
	return true;
}

static bool set_address(struct virtio_net *n, struct command *c)
{
	u8 mac[ETH_ALEN];

	if (!take_last(c, mac, sizeof(mac)) || !net_mac_valid(mac))
		return false;
	memcpy(n->net->mac, mac, ETH_ALEN);
	virtio_config_set(&n->v, offsetof(struct virtio_net_config, mac), mac,
			  ETH_ALEN);
	vnet_filter_changed(n);
	if (!memcmp(mac, n->own_mac, ETH_ALEN))
		net_settle(n->net);
	return true;
}

static bool set_pairs(struct virtio_net *n, u8 cmd, struct command *c)
{
	unsigned int i, old = n->active;
	u16 pairs;

	if (cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET ||
	    !take_last(c, &pairs, sizeof(pairs)) || !pairs || pairs > n->pairs)
		return false;
	for (i = 0; i < pairs; i++)
		if (!virtio_queue_ready(&n->v, vnet_rx_queue(i)) ||
		    !virtio_queue_ready(&n->v, vnet_tx_queue(i)))
			return false;
	if (net_set_queues(n->net, pairs))
		return false;
	n->active = pairs;
	/* What came to them before they were in use. */
	for (i = old; i < pairs && !n->foreign; i++) {
		virtio_kick_again(&n->v, vnet_rx_queue(i));
		virtio_kick_again(&n->v, vnet_tx_queue(i));
	}
	return true;
}

static bool set_offloads(struct virtio_net *n, u8 cmd, struct command *c)
{
	u64 bits;

	return cmd == VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET &&
	       take_last(c, &bits, sizeof(bits)) && vnet_set_offload(n, bits);
}

static bool announced(struct virtio_net *n, u8 cmd, struct command *c)
{
	if (cmd != VIRTIO_NET_CTRL_ANNOUNCE_ACK || left(c))
		return false;
	vnet_set_status(n, 0, VIRTIO_NET_S_ANNOUNCE);
	return true;
}

/* False: the command is refused. */
static bool run(struct virtio_net *n, struct command *c)
{
	struct virtio_net_ctrl_hdr hdr;

	if (!take(c, &hdr, sizeof(hdr)))
		return false;
	switch (hdr.class) {
	case VIRTIO_NET_CTRL_RX:
		return virtio_has(&n->v, VIRTIO_NET_F_CTRL_RX) &&
		       rx_mode(n, hdr.cmd, c);
	case VIRTIO_NET_CTRL_MAC:
		if (hdr.cmd == VIRTIO_NET_CTRL_MAC_TABLE_SET)
			return virtio_has(&n->v, VIRTIO_NET_F_CTRL_RX) &&
			       set_tables(n, c);
		return hdr.cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET &&
		       virtio_has(&n->v, VIRTIO_NET_F_CTRL_MAC_ADDR) &&
		       set_address(n, c);
	case VIRTIO_NET_CTRL_MQ:
		return virtio_has(&n->v, VIRTIO_NET_F_MQ) &&
		       set_pairs(n, hdr.cmd, c);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		return virtio_has(&n->v, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) &&
		       set_offloads(n, hdr.cmd, c);
	case VIRTIO_NET_CTRL_ANNOUNCE:
		return virtio_has(&n->v, VIRTIO_NET_F_GUEST_ANNOUNCE) &&
		       announced(n, hdr.cmd, c);
	default:
		return false;
	}
}

void vnet_ctrl_run(struct virtio_net *n, unsigned int queue)
{
	struct virtq_buf buf = { .iov = n->pieces, .max = VNET_PIECES };
	unsigned int budget = VNET_QUEUE_SIZE;
	virtio_net_ctrl_ack ack;

	do {
		virtio_kicks_off(&n->v, queue);
		while (virtio_pop(&n->v, queue, &buf)) {
			struct command c = { &buf, 0 };

			ack = run(n, &c) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
			virtio_push(&n->v, queue, &buf,
				    virtq_write(&buf, 0, &ack, sizeof(ack)));
			if (!--budget) {
				virtio_flush(&n->v, queue);
				virtio_kick_again(&n->v, queue);
				return;
			}
		}
		virtio_flush(&n->v, queue);
	} while (virtio_kicks_on(&n->v, queue));
}
