// SPDX-License-Identifier: GPL-2.0
/*
 * virtio-net, the device: a front half of net.h.
 *  1. What it offers follows from what the host half can do.
 *  2. Started, it moves frames itself (virtio_net_rx.c, virtio_net_tx.c) or
 *     has the host's kernel move them (net_vhost.c), and goes back to the
 *     first if the second does not work.
 *  3. Link, announcements, addresses and offloads, as the driver and the
 *     machine's owner change them.
 *  4. A clone's address is another than that of the machine it was made of.
 *  5. Saved and loaded: the driver's wishes; frames on their way are not kept.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio_net.h"

#define GUEST_OFFLOADS	(VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | \
			 VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | \
			 VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | \
			 VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN))

static struct virtio_net *from(struct virtio *v)
{
	return container_of(v, struct virtio_net, v);
}

/* Linux' drivers know it as the header of merged buffers. */
_Static_assert(NET_HEADER_LEN == sizeof(struct virtio_net_hdr_mrg_rxbuf) &&
	       offsetof(struct net_header, buffers) ==
	       offsetof(struct virtio_net_hdr_mrg_rxbuf, num_buffers),
	       "the driver's header is the host half's");

/* What the driver asks for. */

void vnet_filter_changed(struct virtio_net *n)
{
	struct net_filter *f = &n->filter, filter;

	filter.all = n->promisc || n->too_many;
	filter.all_multicast = n->all_multicast || n->too_many_multicast;
	filter.nr = f->nr + 1;
	memcpy(filter.mac[0], n->net->mac, ETH_ALEN);
	memcpy(filter.mac[1], f->mac, f->nr * ETH_ALEN);
	net_set_filter(n->net, &filter);
}

static u32 to_offload(u64 features)
{
	u32 offload = NET_OFFLOAD_CSUM;

	/* Segments' sums are not made either. */
	if (!(features & VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM)))
		return 0;
	if (features & VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4))
		offload |= NET_OFFLOAD_TSO4;
	if (features & VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6))
		offload |= NET_OFFLOAD_TSO6;
	if ((features & VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN)) &&
	    (offload & (NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6)))
		offload |= NET_OFFLOAD_ECN;
	return offload;
}

bool vnet_set_offload(struct virtio_net *n, u64 guest_features)
{
	u32 offload = to_offload(guest_features);

	if ((guest_features & ~(n->v.features & GUEST_OFFLOADS)) ||
	    net_set_offload(n->net, offload))
		return false;
	n->offload = offload;
	return true;
}

void vnet_set_status(struct virtio_net *n, u16 set, u16 clear)
{
	const u32 off = offsetof(struct virtio_net_config, status);
	u16 status;

	virtio_config_get(&n->v, off, &status, sizeof(status));
	status = (status & ~clear) | set;
	virtio_config_set(&n->v, off, &status, sizeof(status));
}

/* What the host half calls. */

static void readable(void *arg, unsigned int pair)
{
	struct virtio_net *n = arg;

	if (virtio_queue_ready(&n->v, vnet_rx_queue(pair)) && !n->v.broken)
		vnet_rx_run(n, pair);
}

static void writable(void *arg, unsigned int pair)
{
	struct virtio_net *n = arg;

	if (virtio_queue_ready(&n->v, vnet_tx_queue(pair)) && !n->v.broken)
		vnet_tx_run(n, pair);
}

static void link_changed(void *arg)
{
	struct virtio_net *n = arg;
	bool up = net_link_up(n->net);

	if (n->foreign)
		net_vhost_link(n->vhost, n->net, up);
	vnet_set_status(n, up ? VIRTIO_NET_S_LINK_UP : 0,
			up ? 0 : VIRTIO_NET_S_LINK_UP);
}

/* True if the guest does it itself, for all of its addresses. */
static bool announce(void *arg)
{
	struct virtio_net *n = arg;

	if (!virtio_has(&n->v, VIRTIO_NET_F_GUEST_ANNOUNCE))
		return false;
	vnet_set_status(n, VIRTIO_NET_S_ANNOUNCE, 0);
	return true;
}

/* What the core calls. */

static unsigned int ctrl_queue(const struct virtio_net *n)
{
	return virtio_has(&n->v, VIRTIO_NET_F_MQ) ? 2 * n->pairs : 2;
}

static void fill_rings(struct virtio_net *n, struct net_vhost_ring *rings)
{
	unsigned int i;

	for (i = 0; i < 2 * n->pairs; i++) {
		struct virtio_queue *q = &n->v.queues[i];

		rings[i] = (struct net_vhost_ring){
			.num = virtio_queue_ready(&n->v, i) ? q->ring.num : 0,
			.base = virtq_position(&q->ring),
			.desc = (void *)q->ring.desc,
			.avail = (void *)q->ring.avail,
			.used = (void *)q->ring.used,
			.kick_fd = q->kick_fd,
			.call_fd = q->call_fd,
		};
	}
}

static void foreign_broken(void *arg)
{
	struct virtio_net *n = arg;

	virtio_break(&n->v, "vhost found a ring or a request in it wrong");
}

static void start_foreign(struct virtio_net *n)
{
	struct net_vhost_ring rings[2 * NET_QUEUES_MAX];
	unsigned int i;

	fill_rings(n, rings);
	if (net_vhost_start(n->vhost, n->v.mem, n->v.features, n->net, rings,
			    foreign_broken, n))
		return;
	n->foreign = true;
	for (i = 0; i < 2 * n->pairs; i++)
		if (rings[i].num)
			virtio_kick_owner(&n->v, i, true);
}

static void stop_foreign(struct virtio_net *n)
{
	struct net_vhost_ring rings[2 * NET_QUEUES_MAX];
	unsigned int i;

	fill_rings(n, rings);
	net_vhost_stop(n->vhost, rings);
	n->foreign = false;
	for (i = 0; i < 2 * n->pairs; i++)
		if (rings[i].num) {
			virtq_set_position(&n->v.queues[i].ring, rings[i].base);
			virtio_kick_owner(&n->v, i, false);
		}
}

static void vnet_start(struct virtio *v)
{
	const struct net_front front = {
		readable, writable, link_changed, announce, v
	};
	struct virtio_net *n = from(v);
	unsigned int i;
	int ret;

	if (n->fresh)
		n->offload = to_offload(v->features);
	n->fresh = false;
	for (i = 0; i < n->pairs; i++) {
		vnet_rx_start(n, i);
		vnet_tx_start(n, i);
	}
	if (n->vhost && !n->no_foreign && v->transport &&
	    v->transport->calls_reach(v))
		start_foreign(n);
	ret = net_start(n->net, &front, n->active, n->offload, n->foreign);
	if (ret)
		virtio_break(v, "its features do not suit the host's network: %s",
			     strerror(-ret));
	vnet_filter_changed(n);
}

static void vnet_stop(struct virtio *v)
{
	struct virtio_net *n = from(v);
	unsigned int i;

	if (n->foreign)
		stop_foreign(n);
	net_stop(n->net);
	vnet_tx_stop(n);
	for (i = 0; i < n->pairs; i++)
		vnet_rx_stop(n, i);
	virtio_stopped(v);
}

static void vnet_kick(struct virtio *v, unsigned int queue)
{
	struct virtio_net *n = from(v);

	if (queue == ctrl_queue(n)) {
		if (virtio_has(v, VIRTIO_NET_F_CTRL_VQ))
			vnet_ctrl_run(n, queue);
	} else if (n->foreign || queue / 2 >= n->active) {
		return;
	} else if (queue & 1) {
		if (!n->tx[queue / 2].blocked)
			vnet_tx_run(n, queue / 2);
	} else {
		vnet_rx_run(n, queue / 2);
	}
}

/* As a driver finds it: every frame passes, one pair of queues. */
static void set_defaults(struct virtio_net *n)
{
	memset(&n->filter, 0, sizeof(n->filter));
	n->promisc = true;
	n->all_multicast = false;
	n->too_many = false;
	n->too_many_multicast = false;
	n->active = 1;
	n->offload = 0;
	n->fresh = true;
}

static void vnet_reset(struct virtio *v)
{
	struct virtio_net *n = from(v);

	set_defaults(n);
	memcpy(n->net->mac, n->own_mac, ETH_ALEN);
	virtio_config_set(v, offsetof(struct virtio_net_config, mac),
			  n->own_mac, ETH_ALEN);
	n->net->alien = false;
	vnet_set_status(n, net_link_up(n->net) ? VIRTIO_NET_S_LINK_UP : 0,
			VIRTIO_NET_S_ANNOUNCE);
}

/*
 * Of a clone, before it runs: its address is another.  Until its guest takes
 * it, it has that of the machine it was made of, and no link.
 */
void virtio_net_renumber(struct virtio *v)
{
	struct virtio_net *n = from(v);
	char mac[NET_MAC_TEXT];

	memcpy(n->own_mac, n->net->given_mac, ETH_ALEN);
	virtio_config_set(v, offsetof(struct virtio_net_config, mac),
			  n->own_mac, ETH_ALEN);
	n->net->alien = memcmp(n->net->mac, n->own_mac, ETH_ALEN);
	if (!n->net->alien)
		return;
	vnet_set_status(n, 0, VIRTIO_NET_S_LINK_UP);
	if (v->features & VIRTIO_BIT(VIRTIO_F_VERSION_1)) {
		net_mac_text(n->own_mac, mac);
		note("%s: no link until the guest has taken its new address %s",
		     v->label, mac);
	}
}

/* vhost could log them, but for as long as a move takes we do its work. */
static bool vnet_hide_writes(struct virtio *v, bool may)
{
	struct virtio_net *n = from(v);

	n->no_foreign = !may;
	return n->vhost && n->foreign != may;
}

/* Saved and loaded. */

static void vnet_save(struct virtio *v, struct state *st)
{
	struct virtio_net *n = from(v);

	state_put_u64(st, "fresh", n->fresh);
	state_put_u64(st, "pairs", n->active);
	state_put_u64(st, "offload", n->offload);
	state_put_u64(st, "promisc", n->promisc);
	state_put_u64(st, "all_multicast", n->all_multicast);
	state_put_u64(st, "too_many", n->too_many);
	state_put_u64(st, "too_many_multicast", n->too_many_multicast);
	state_put(st, "mac", n->net->mac, ETH_ALEN);
	state_put(st, "own_mac", n->own_mac, ETH_ALEN);
	state_put_u64(st, "alien", n->net->alien);
	state_put(st, "filter", n->filter.mac, n->filter.nr * ETH_ALEN);
}

static int get_flag(const struct state_section *sec, const char *name,
		    bool *flag)
{
	u64 value;
	int ret = state_get_u64(sec, name, 1, &value);

	*flag = !ret && value;
	return ret;
}

static int get_mac(const struct state_section *sec, const char *name,
		   u8 mac[ETH_ALEN])
{
	size_t got;

	if (state_get(sec, name, mac, ETH_ALEN, &got) || got != ETH_ALEN ||
	    !net_mac_valid(mac))
		return -EBADMSG;
	return 0;
}

static int get_filter(const struct state_section *sec, struct net_filter *f)
{
	size_t got;

	if (state_get(sec, "filter", f->mac, (NET_FILTER_MAX - 1) * ETH_ALEN,
		      &got) || got % ETH_ALEN)
		return -EBADMSG;
	f->nr = got / ETH_ALEN;
	return 0;
}

/* Into a device that has not started; its features have been checked. */
static int vnet_load(struct virtio *v, const struct state_section *sec)
{
	struct virtio_net *n = from(v);
	u64 pairs, offload;

	if (state_get_u64(sec, "pairs", n->pairs, &pairs) || !pairs ||
	    state_get_u64(sec, "offload", UINT32_MAX, &offload) ||
	    get_flag(sec, "fresh", &n->fresh) ||
	    get_flag(sec, "promisc", &n->promisc) ||
	    get_flag(sec, "all_multicast", &n->all_multicast) ||
	    get_flag(sec, "too_many", &n->too_many) ||
	    get_flag(sec, "too_many_multicast", &n->too_many_multicast) ||
	    get_mac(sec, "mac", n->net->mac) ||
	    get_mac(sec, "own_mac", n->own_mac) ||
	    get_filter(sec, &n->filter))
		return -EBADMSG;
	if (offload & ~n->net->offload_max)
		return fail(-EINVAL, "%s: the guest leaves work to the network that this host's does not do",
			    v->label);
	/* Older programs do not say it. */
	if (get_flag(sec, "alien", &n->net->alien))
		n->net->alien = false;
	n->active = pairs;
	n->offload = offload;
	return 0;
}

/* From nothing, and back. */

static void vnet_destroy(struct virtio *v)
{
	struct virtio_net *n = from(v);

	net_vhost_destroy(n->vhost);
	net_destroy(n->net);
	virtio_fini(v);
	free(n->rx);
	free(n);
}

static const struct virtio_ops vnet_ops = {
	.name = "virtio-net",
	.id = VIRTIO_ID_NET,
	.start = vnet_start,
	.stop = vnet_stop,
	.kick = vnet_kick,
	.reset = vnet_reset,
	.save = vnet_save,
	.load = vnet_load,
	.hide_writes = vnet_hide_writes,
	.destroy = vnet_destroy,
};

static u64 features_of(const struct net *net)
{
	u64 f = VIRTIO_BIT(VIRTIO_NET_F_MAC) | VIRTIO_BIT(VIRTIO_NET_F_STATUS) |
		VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) |
		VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) |
		VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX) |
		VIRTIO_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
		VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE);

	if (net->mtu)
		f |= VIRTIO_BIT(VIRTIO_NET_F_MTU);
	if (net->nr_queues > 1)
		f |= VIRTIO_BIT(VIRTIO_NET_F_MQ);
	if (net->header_used)
		f |= VIRTIO_BIT(VIRTIO_NET_F_CSUM) |
		     VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) |
		     VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) |
		     VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN);
	if (net->offload_max & NET_OFFLOAD_CSUM)
		f |= VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) |
		     VIRTIO_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	if (net->offload_max & NET_OFFLOAD_TSO4)
		f |= VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4);
	if (net->offload_max & NET_OFFLOAD_TSO6)
		f |= VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6);
	if (net->offload_max & NET_OFFLOAD_ECN)
		f |= VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN);
	return f;
}

static void fill_config(struct virtio_net *n)
{
	struct virtio_net_config config = {
		.status = net_link_up(n->net) ? VIRTIO_NET_S_LINK_UP : 0,
		.max_virtqueue_pairs = n->pairs,
		.mtu = n->net->mtu,
	};

	memcpy(config.mac, n->net->mac, ETH_ALEN);
	n->v.config_len = offsetof(struct virtio_net_config, speed);
	virtio_config_set(&n->v, 0, &config, n->v.config_len);
}

/* Limits are kept by us: then it is us who move the frames. */
static enum net_vhost_use vhost_use(const struct net_options *opt)
{
	return opt->user || opt->bps ? NET_VHOST_OFF : opt->vhost;
}

/* Takes @net in any case. */
struct virtio *virtio_net_create(const struct mem *mem, struct net *net,
				 const char *label)
{
	struct virtio_net *n = calloc(1, sizeof(*n));
	int ret;

	if (!n)
		goto no_memory;
	n->net = net;
	n->pairs = net->nr_queues;
	n->rx = calloc(n->pairs, sizeof(n->rx[0]));
	if (!n->rx)
		goto no_memory;
	if (net_vhost_open(&n->vhost, vhost_use(net->opt), n->pairs) ||
	    virtio_init(&n->v, &vnet_ops, mem, label, 2 * n->pairs + 1,
			VNET_QUEUE_SIZE))
		goto err;
	ret = n->vhost ? virtio_own_kicks(&n->v, 2 * n->pairs) : 0;
	if (ret) {
		fail(ret, "%s: cannot create its queues: %s", label,
		     strerror(-ret));
		virtio_fini(&n->v);
		goto err;
	}
	memcpy(n->own_mac, net->mac, ETH_ALEN);
	n->v.offered |= features_of(net);
	if (n->vhost)
		n->v.offered &= net_vhost_features(n->vhost);
	fill_config(n);
	set_defaults(n);
	vnet_rx_init(n);
	vnet_tx_init(n);
	return &n->v;
no_memory:
	fail(-ENOMEM, "out of memory");
err:
	if (n) {
		net_vhost_destroy(n->vhost);
		free(n->rx);
	}
	free(n);
	net_destroy(net);
	return NULL;
}
