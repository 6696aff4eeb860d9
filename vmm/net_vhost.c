// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-net: the host's kernel moves frames between a tap and the guest's
 * rings, and this process has nothing to do for them.
 *  1. Opened while privileges are there; one vhost device a queue pair.
 *  2. Started with the memory's layout, the rings' places and positions, the
 *     eventfds of kicks and interrupts, the tap; stopped with the positions.
 *  3. A ring that the driver broke makes vhost signal an eventfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/vhost.h>

#include "virtio_net.h"

#define VHOST_PATH	"/dev/vhost-net"
#define RX		0	/* a vhost device's two rings */
#define TX		1

/* All else that drivers agree to concerns the tap, not the rings. */
#define RING_FEATURES	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | \
			 VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
			 VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) | \
			 VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF))

struct net_vhost {
	unsigned int pairs;			/* [c] */
	u64 features;				/* [c] */
	int fd[NET_QUEUES_MAX];			/* [c] */
	int error_fd;				/* [c] */
	struct loop_op error_op;		/* [m] */
	void (*broken)(void *arg);		/* [m] */
	void *arg;				/* [m] */
	bool started[NET_QUEUES_MAX];		/* [m] */
};

static int explain(int err)
{
	switch (err) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return fail(-err, "--net: vhost=on: " VHOST_PATH ": not there: load the module with 'modprobe vhost_net', or leave out vhost=on");
	case EACCES:
	case EPERM:
		return fail(-err, "--net: vhost=on: " VHOST_PATH ": permission denied: join its group, or leave out vhost=on");
	default:
		return fail(-err, "--net: vhost=on: " VHOST_PATH ": %s: leave out vhost=on",
			    strerror(err));
	}
}

static int open_device(struct net_vhost *vh, unsigned int pair)
{
	u64 features;

	vh->fd[pair] = open(VHOST_PATH, O_RDWR | O_CLOEXEC);
	if (vh->fd[pair] < 0 || ioctl(vh->fd[pair], VHOST_SET_OWNER) ||
	    ioctl(vh->fd[pair], VHOST_GET_FEATURES, &features))
		return -errno;
	if (!(features & VIRTIO_BIT(VIRTIO_F_VERSION_1)))
		return -EOPNOTSUPP;
	vh->features &= features;
	return 0;
}

static void broken(struct loop_op *op, int res)
{
	struct net_vhost *vh = container_of(op, struct net_vhost, error_op);

	if (res >= 0 && vh->broken)
		vh->broken(vh->arg);
}

int net_vhost_open(struct net_vhost **out, enum net_vhost_use use,
		   unsigned int pairs)
{
	struct net_vhost *vh;
	unsigned int i;
	int ret = 0;

	*out = NULL;
	if (use == NET_VHOST_OFF)
		return 0;
	vh = calloc(1, sizeof(*vh));
	if (!vh)
		return fail(-ENOMEM, "out of memory");
	vh->pairs = pairs;
	vh->features = RING_FEATURES;
	vh->error_op.done = broken;
	for (i = 0; i < NET_QUEUES_MAX; i++)
		vh->fd[i] = -1;
	vh->error_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vh->error_fd < 0)
		ret = -errno;
	for (i = 0; !ret && i < pairs; i++)
		ret = open_device(vh, i);
	if (!ret) {
		*out = vh;
		return 0;
	}
	net_vhost_destroy(vh);
	return use == NET_VHOST_ON ? explain(-ret) : 0;
}

void net_vhost_destroy(struct net_vhost *vh)
{
	unsigned int i;

	if (!vh)
		return;
	for (i = 0; i < NET_QUEUES_MAX; i++)
		if (vh->fd[i] >= 0)
			close(vh->fd[i]);
	if (vh->error_fd >= 0)
		close(vh->error_fd);
	free(vh);
}

/* What a driver may be offered of the features that concern rings. */
u64 net_vhost_features(const struct net_vhost *vh)
{
	return ~RING_FEATURES | vh->features;
}

static int set_memory(int fd, const struct mem *mem)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region region[2];
	} table = {
		.head.nregions = mem->high ? 2 : 1,
		.region = {
			{ .guest_phys_addr = 0, .memory_size = mem->low,
			  .userspace_addr = (uintptr_t)mem->host },
			{ .guest_phys_addr = HIGH_RAM_BASE,
			  .memory_size = mem->high,
			  .userspace_addr = (uintptr_t)mem->host + mem->low },
		},
	};

	return ioctl(fd, VHOST_SET_MEM_TABLE, &table) ? -errno : 0;
}

static int set_ring(struct net_vhost *vh, int fd, unsigned int index,
		    const struct net_vhost_ring *ring)
{
	struct vhost_vring_state num = { index, ring->num };
	struct vhost_vring_state base = { index, ring->base };
	struct vhost_vring_file kick = { index, ring->kick_fd };
	struct vhost_vring_file call = { index, ring->call_fd };
	struct vhost_vring_file error = { index, vh->error_fd };
	struct vhost_vring_addr addr = {
		.index = index,
		.desc_user_addr = (uintptr_t)ring->desc,
		.avail_user_addr = (uintptr_t)ring->avail,
		.used_user_addr = (uintptr_t)ring->used,
	};

	if (ioctl(fd, VHOST_SET_VRING_NUM, &num) ||
	    ioctl(fd, VHOST_SET_VRING_BASE, &base) ||
	    ioctl(fd, VHOST_SET_VRING_ADDR, &addr) ||
	    ioctl(fd, VHOST_SET_VRING_KICK, &kick) ||
	    ioctl(fd, VHOST_SET_VRING_CALL, &call) ||
	    ioctl(fd, VHOST_SET_VRING_ERR, &error))
		return -errno;
	return 0;
}

/* The tap, or with -1 none, which waits for what is in flight. */
static int set_tap(int fd, int tap)
{
	unsigned int index;

	for (index = RX; index <= TX; index++) {
		struct vhost_vring_file backend = { index, tap };

		if (ioctl(fd, VHOST_NET_SET_BACKEND, &backend))
			return -errno;
	}
	return 0;
}

/* What the driver put into the rings before vhost watched them. */
static void kick(const struct net_vhost_ring *rings)
{
	eventfd_write(rings[RX].kick_fd, 1);
	eventfd_write(rings[TX].kick_fd, 1);
}

static int start_pair(struct net_vhost *vh, unsigned int pair,
		      const struct mem *mem, u64 features, struct net *net,
		      const struct net_vhost_ring *rings)
{
	int fd = vh->fd[pair], ret;

	features &= RING_FEATURES;
	ret = ioctl(fd, VHOST_SET_FEATURES, &features) ? -errno : 0;
	if (!ret)
		ret = set_memory(fd, mem);
	if (!ret)
		ret = set_ring(vh, fd, RX, &rings[RX]);
	if (!ret)
		ret = set_ring(vh, fd, TX, &rings[TX]);
	if (ret)
		return ret;
	vh->started[pair] = true;
	if (net_link_up(net))
		ret = set_tap(fd, net->queue[pair].fd);
	if (!ret)
		kick(rings);
	return ret;
}

int net_vhost_start(struct net_vhost *vh, const struct mem *mem, u64 features,
		    struct net *net, struct net_vhost_ring *rings,
		    void (*on_broken)(void *arg), void *arg)
{
	unsigned int i;
	int ret = 0;

	vh->broken = on_broken;
	vh->arg = arg;
	for (i = 0; !ret && i < vh->pairs; i++)
		if (rings[2 * i].num && rings[2 * i + 1].num)
			ret = start_pair(vh, i, mem, features, net,
					 &rings[2 * i]);
	if (!ret && !vh->error_op.busy)
		ret = loop_watch(&vh->error_op, vh->error_fd);
	if (ret) {
		net_vhost_stop(vh, rings);
		note("--net: %s: vhost does not take the guest's rings (%s): pvhv-run moves the frames itself",
		     net->ifname, strerror(-ret));
	}
	return ret;
}

void net_vhost_link(struct net_vhost *vh, struct net *net, bool up)
{
	unsigned int i;

	for (i = 0; i < vh->pairs; i++)
		if (vh->started[i])
			set_tap(vh->fd[i], up ? net->queue[i].fd : -1);
}

void net_vhost_stop(struct net_vhost *vh, struct net_vhost_ring *rings)
{
	struct vhost_vring_state base;
	unsigned int i;

	for (i = 0; i < 2 * vh->pairs; i++) {
		if (!vh->started[i / 2])
			continue;
		if (i % 2 == RX)
			set_tap(vh->fd[i / 2], -1);
		base = (struct vhost_vring_state){ .index = i % 2 };
		if (!ioctl(vh->fd[i / 2], VHOST_GET_VRING_BASE, &base))
			rings[i].base = base.num;
	}
	memset(vh->started, 0, sizeof(vh->started));
	vh->broken = NULL;
	loop_cancel(&vh->error_op);
}
