// SPDX-License-Identifier: GPL-2.0
/*
 * A tap of the host as the other side of a guest's network.
 *  1. Opened: a tap that is there is used, else one is made, which the kernel
 *     removes again when its last descriptor goes, however we end.
 *  2. Configured: put on the bridge, size as the bridge's, up; a new tap has
 *     an address above all others, since a bridge takes the lowest of its
 *     ports' as its own.
 *  3. Frames, with the kernel's own offload header: read one a call, written
 *     by one call if several are there.
 *  4. What the guest's driver can take, its queues and its address filter.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>

#include "net.h"

#define TUN_PATH	"/dev/net/tun"
#define NEW_TAP		"pvhv%d"	/* the kernel counts */
#define MAC_LAST	0xfe

/* The kernel's words for struct net_header. */
_Static_assert(sizeof(struct net_header) ==
	       sizeof(struct virtio_net_hdr_mrg_rxbuf), "header");
_Static_assert(NET_NEEDS_CSUM == VIRTIO_NET_HDR_F_NEEDS_CSUM &&
	       NET_GSO_TCP4 == VIRTIO_NET_HDR_GSO_TCPV4 &&
	       NET_GSO_TCP6 == VIRTIO_NET_HDR_GSO_TCPV6 &&
	       NET_GSO_ECN == VIRTIO_NET_HDR_GSO_ECN, "header");

static int tap_send(struct net *net, unsigned int queue,
		    const struct iovec *iov, unsigned int nr)
{
	ssize_t ret;

	do {
		ret = writev(net->queue[queue].fd, iov, nr);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

static int tap_send_many(struct net *net, unsigned int queue,
			 const struct net_frame *frames, unsigned int nr)
{
	return net_batch_write(net->backend, net->queue[queue].fd, frames, nr);
}

static ssize_t tap_receive(struct net *net, unsigned int queue,
			   const struct iovec *iov, unsigned int nr)
{
	ssize_t ret;

	do {
		ret = readv(net->queue[queue].fd, iov, nr);
	} while (ret < 0 && errno == EINTR);
	if (ret >= 0)
		return ret;
	/* The tap was removed under us. */
	if (errno == EBADFD)
		return -EPIPE;
	/* It is down. */
	return errno == EIO ? -EAGAIN : -errno;
}

static int tap_set_offload(struct net *net, u32 offload)
{
	unsigned long tun = 0;

	if (offload & NET_OFFLOAD_CSUM)
		tun |= TUN_F_CSUM;
	if (offload & NET_OFFLOAD_TSO4)
		tun |= TUN_F_TSO4;
	if (offload & NET_OFFLOAD_TSO6)
		tun |= TUN_F_TSO6;
	if (offload & NET_OFFLOAD_ECN)
		tun |= TUN_F_TSO_ECN;
	return ioctl(net->queue[0].fd, TUNSETOFFLOAD, tun) ? -errno : 0;
}

/* Flows are spread over the queues that are attached. */
static int tap_set_queues(struct net *net, unsigned int nr)
{
	struct ifreq ifr = { 0 };
	unsigned int i;

	if (net->nr_queues == 1)
		return 0;
	for (i = 0; i < net->nr_queues; i++) {
		ifr.ifr_flags = i < nr ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
		/* EINVAL: it is so already. */
		if (ioctl(net->queue[i].fd, TUNSETQUEUE, &ifr) &&
		    errno != EINVAL)
			return -errno;
	}
	return 0;
}

static void tap_set_filter(struct net *net, const struct net_filter *filter)
{
	static const u8 broadcast[ETH_ALEN] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff
	};
	struct {
		struct tun_filter head;
		u8 mac[NET_FILTER_MAX + 1][ETH_ALEN];
	} tun = { 0 };

	if (!filter->all) {
		if (filter->all_multicast)
			tun.head.flags = TUN_FLT_ALLMULTI;
		memcpy(tun.mac, filter->mac, filter->nr * ETH_ALEN);
		memcpy(tun.mac[filter->nr], broadcast, ETH_ALEN);
		tun.head.count = filter->nr + 1;
	}
	/* Without a filter every frame passes, which is allowed. */
	if (ioctl(net->queue[0].fd, TUNSETTXFILTER, &tun) < 0)
		tun.head.count = 0;
}

static void tap_close(struct net *net)
{
	static const struct net_filter all = { .all = true };
	unsigned int i;

	/* A tap that stays is left as it was found. */
	if (net->queue[0].fd >= 0)
		tap_set_filter(net, &all);
	net_batch_destroy(net->backend);
	net->backend = NULL;
	for (i = 0; i < net->nr_queues; i++) {
		if (net->queue[i].fd >= 0)
			close(net->queue[i].fd);
		net->queue[i].fd = -1;
	}
}

static const struct net_ops tap_ops = {
	.send = tap_send,
	.send_many = tap_send_many,
	.receive = tap_receive,
	.set_offload = tap_set_offload,
	.set_queues = tap_set_queues,
	.set_filter = tap_set_filter,
	.close = tap_close,
};

static int explain_device(int err)
{
	switch (err) {
	case EACCES:
	case EPERM:
		return fail(-err, "--net: " TUN_PATH ": permission denied: allow it, or use --net user");
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return fail(-err, "--net: " TUN_PATH ": not there: load the module with 'modprobe tun', or use --net user");
	default:
		return fail(-err, "--net: " TUN_PATH ": %s", strerror(err));
	}
}

static int explain_attach(const struct net_options *opt, bool there, int err)
{
	const char *tap = opt->tap ? opt->tap : NEW_TAP;

	switch (err) {
	case EPERM:
	case EACCES:
		if (there)
			return fail(-err, "--net: tap=%s: no permission: it is another user's; CAP_NET_ADMIN is needed, or a tap of this user: ip tuntap add %s mode tap user NAME",
				    tap, tap);
		return fail(-err, "--net: tap=%s: no permission to make it: CAP_NET_ADMIN is needed, or a tap made before: ip tuntap add %s mode tap user NAME",
			    tap, tap);
	case EBUSY:
		return fail(-err, "--net: tap=%s: another process uses it: name another tap",
			    tap);
	default:
		return fail(-err, "--net: tap=%s: %s", tap, strerror(err));
	}
}

static int open_queue(struct net *net, unsigned int i, const char *name,
		      short flags, bool there)
{
	int size = NET_HEADER_LEN;
	struct ifreq ifr = { .ifr_flags = flags };
	int fd;

	fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return explain_device(errno);
	net->queue[i].fd = fd;
	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, TUNSETIFF, &ifr))
		return explain_attach(net->opt, there, errno);
	if (ioctl(fd, TUNSETVNETHDRSZ, &size))
		return fail(-errno, "--net: tap=%s: no offload headers: the host's kernel is too old",
			    name);
	memcpy(net->ifname, ifr.ifr_name, sizeof(net->ifname));
	return 0;
}

/* The tap's other queues are opened by the name that the first one got. */
static int open_queues(struct net *net, const struct net_link *there)
{
	short flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	const char *name = net->opt->tap ? net->opt->tap : NEW_TAP;
	unsigned int i;
	int ret;

	if (net->nr_queues > 1 || (there && there->tap_multi))
		flags |= IFF_MULTI_QUEUE;
	ret = open_queue(net, 0, name, there ? flags : flags | IFF_TUN_EXCL,
			 there);
	for (i = 1; !ret && i < net->nr_queues; i++)
		ret = open_queue(net, i, net->ifname, flags, true);
	return ret;
}

static int check_there(const struct net_options *opt,
		       const struct net_link *link)
{
	if (strcmp(link->kind, "tun"))
		return fail(-EINVAL, "--net: tap=%s: this interface is no tap: name another",
			    opt->tap);
	/* The kernel lets any number of processes share one with queues. */
	if (link->tap_queues)
		return explain_attach(opt, true, EBUSY);
	if (opt->queues > 1 && !link->tap_multi)
		return fail(-EINVAL, "--net: tap=%s: it was made with one queue: leave out queues=%u, or make it with 'ip tuntap add %s mode tap multi_queue'",
			    opt->tap, opt->queues, opt->tap);
	return 0;
}

static int find_bridge(const char *name, struct net_link *bridge)
{
	int ret = net_link_get(name, bridge);

	if (ret == -ENODEV)
		return fail(ret, "--net: bridge=%s: no such bridge: make it with 'ip link add %s type bridge'",
			    name, name);
	if (ret)
		return fail(ret, "--net: bridge=%s: %s", name, strerror(-ret));
	if (strcmp(bridge->kind, "bridge"))
		return fail(-EINVAL, "--net: bridge=%s: this interface is no bridge: name another",
			    name);
	return 0;
}

static int explain_change(const struct net *net, int err)
{
	if (err == -EPERM && net->opt->bridge)
		return fail(err, "--net: tap=%s,bridge=%s: no permission: CAP_NET_ADMIN is needed, or a tap that is on the bridge and up: ip link set %s master %s up",
			    net->ifname, net->opt->bridge, net->ifname,
			    net->opt->bridge);
	if (err == -EPERM)
		return fail(err, "--net: tap=%s: it is down, and no permission to change that: ip link set %s up",
			    net->ifname, net->ifname);
	if (net->opt->bridge)
		return fail(err, "--net: tap=%s,bridge=%s: cannot join them: %s",
			    net->ifname, net->opt->bridge, strerror(-err));
	return fail(err, "--net: tap=%s: cannot set it up: %s", net->ifname,
		    strerror(-err));
}

static int configure(struct net *net, bool ours, const struct net_link *bridge)
{
	struct net_link_change change = { 0 };
	struct net_link link;
	int ret;

	ret = net_link_get(net->ifname, &link);
	if (ret)
		return explain_change(net, ret);
	if (ours) {
		change.set_mac = true;
		memcpy(change.mac, net->mac, ETH_ALEN);
		change.mac[0] = MAC_LAST;
		if (bridge && bridge->mtu != link.mtu)
			change.mtu = bridge->mtu;
	}
	if (bridge && link.master != bridge->index)
		change.master = bridge->index;
	change.up = !(link.flags & IFF_UP);
	net->mtu = change.mtu ? change.mtu : link.mtu;
	if (!change.up && !change.master && !ours)
		return 0;
	ret = net_link_set(link.index, &change);
	return ret ? explain_change(net, ret) : 0;
}

static void find_offloads(struct net *net)
{
	static const u32 wanted[] = {
		NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 |
		NET_OFFLOAD_ECN,
		NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6,
		NET_OFFLOAD_CSUM,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(wanted) && !net->offload_max; i++)
		if (!tap_set_offload(net, wanted[i]))
			net->offload_max = wanted[i];
	tap_set_offload(net, 0);
	net->header_used = true;
}

/* Writes do not wait unless somebody has limited what the tap holds. */
static void find_batch(struct net *net)
{
	int room;

	if (ioctl(net->queue[0].fd, TUNGETSNDBUF, &room) || room != INT_MAX)
		return;
	net->backend = net_batch_create();
	net->many = net->backend;
}

/* The tap's and the bridge's state now; the tap's index is 0 if it is to be made. */
static int look(const struct net_options *opt, struct net_link *tap,
		struct net_link *bridge)
{
	int ret = 0;

	memset(tap, 0, sizeof(*tap));
	if (opt->bridge)
		ret = find_bridge(opt->bridge, bridge);
	if (ret || !opt->tap)
		return ret;
	ret = net_link_get(opt->tap, tap);
	if (ret == -ENODEV)
		return 0;
	if (ret)
		return fail(ret, "--net: tap=%s: %s", opt->tap, strerror(-ret));
	return check_there(opt, tap);
}

int net_tap_check(const struct net_options *opt)
{
	struct net_link tap, bridge;

	return look(opt, &tap, &bridge);
}

int net_tap_open(struct net *net)
{
	struct net_link tap, bridge;
	bool there;
	int ret;

	net->ops = &tap_ops;
	net->nr_queues = net->opt->queues;
	ret = look(net->opt, &tap, &bridge);
	if (ret)
		return ret;
	there = tap.index;
	ret = open_queues(net, there ? &tap : NULL);
	if (!ret)
		ret = configure(net, !there, net->opt->bridge ? &bridge : NULL);
	if (!ret) {
		find_offloads(net);
		find_batch(net);
	}
	return ret;
}
