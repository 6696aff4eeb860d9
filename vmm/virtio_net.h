/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Inside virtio-net: what its files share.  Everything runs on the main thread.
 *
 * Queues: 2 n is the n-th receive queue, 2 n + 1 the n-th transmit queue, the
 * control queue comes behind all of them, or behind the first pair for a driver
 * that knows of one only.
 */
#ifndef PVHV_VIRTIO_NET_H
#define PVHV_VIRTIO_NET_H

#include <linux/virtio_net.h>

#include "net.h"
#include "virtio.h"

#define VNET_QUEUE_SIZE		256
/* Pieces of one request: no chain has more, virtq_start() sees to that. */
#define VNET_PIECES		VNET_QUEUE_SIZE
/* Of a batch's: one more request with its header always fits, or it is full. */
#define VNET_OUT_PIECES		(2 * VNET_PIECES + NET_BATCH_MAX)
#define VNET_LEN_MAX		(NET_HEADER_LEN + NET_FRAME_MAX)
#define VNET_BUDGET		256	/* frames until others get a turn */

static inline unsigned int vnet_rx_queue(unsigned int pair)
{
	return 2 * pair;
}

static inline unsigned int vnet_tx_queue(unsigned int pair)
{
	return 2 * pair + 1;
}

/* Receive buffers that were popped, oldest first, and a frame on its way. */
struct vnet_rx {
	struct virtio_net *n;		/* [c] */
	struct loop_op timer;		/* room is waited for */
	unsigned int first;		/* of buf[] */
	unsigned int nr;
	unsigned int pieces;		/* used of iov[] */
	u64 room;			/* in the nr buffers */
	u64 want;			/* for the next frame, as it seems */
	size_t held;			/* length of a frame that needs more room */
	size_t rest_len, rest_pos;	/* of it in rest[]; what is placed */
	struct virtq_buf buf[2 * VNET_QUEUE_SIZE];
	struct iovec iov[2 * VNET_PIECES + 1];	/* of buf[], and the rest */
	u8 rest[VNET_LEN_MAX];		/* of a frame larger than expected */
};

struct vnet_tx {
	bool blocked;			/* until the host half has room */
	unsigned int untold;		/* frames sent, driver not told */
	u64 untold_bytes;		/* in them */
};

/* Frames on their way out: requests, and what is sent for each. */
struct vnet_batch {
	unsigned int nr;
	bool nonsense;			/* buf[nr] is, and ends it */
	unsigned int used;		/* of pieces[] and of out[] */
	struct virtq_buf buf[NET_BATCH_MAX];
	struct net_frame frame[NET_BATCH_MAX];
	struct net_header header[NET_BATCH_MAX];
	struct iovec pieces[VNET_OUT_PIECES];	/* of buf[] */
	struct iovec out[VNET_OUT_PIECES];	/* of frame[] */
};

struct virtio_net {
	struct virtio v;
	struct net *net;		/* [c] */
	struct net_vhost *vhost;	/* [c] NULL: the host has none for us */
	unsigned int pairs;		/* [c] */
	u8 own_mac[ETH_ALEN];		/* [c] until the driver sets another */

	bool foreign;			/* vhost moves the frames */
	bool no_foreign;		/* it may not: its writes are not logged */
	bool fresh;			/* not started since the reset */
	unsigned int active;		/* pairs that the driver uses */
	u32 offload;			/* NET_OFFLOAD_ */
	bool promisc;
	bool all_multicast;
	bool too_many;			/* unicast addresses for the filter */
	bool too_many_multicast;
	struct net_filter filter;	/* the driver's tables behind its own */

	struct vnet_rx *rx;		/* one a pair */
	struct vnet_tx tx[NET_QUEUES_MAX];
	struct loop_op tell_op;		/* timer for those of tx[] untold */
	struct iovec pieces[VNET_PIECES];	/* of a control request */
	struct vnet_batch batch;
};

/* virtio_net.c: the device. */
void vnet_filter_changed(struct virtio_net *n);
bool vnet_set_offload(struct virtio_net *n, u64 guest_features);
void vnet_set_status(struct virtio_net *n, u16 set, u16 clear);

/* virtio_net_rx.c: frames to the guest. */
void vnet_rx_init(struct virtio_net *n);
void vnet_rx_start(struct virtio_net *n, unsigned int pair);
void vnet_rx_stop(struct virtio_net *n, unsigned int pair);
void vnet_rx_run(struct virtio_net *n, unsigned int pair);

/* virtio_net_tx.c: frames from the guest. */
void vnet_tx_init(struct virtio_net *n);
void vnet_tx_start(struct virtio_net *n, unsigned int pair);
void vnet_tx_stop(struct virtio_net *n);
void vnet_tx_run(struct virtio_net *n, unsigned int pair);

/* virtio_net_ctrl.c: the driver's wishes. */
void vnet_ctrl_run(struct virtio_net *n, unsigned int queue);

/* net_vhost.c: the host's kernel moves the frames. */
struct net_vhost_ring {
	u16 num;
	u16 base;		/* the next available entry */
	void *desc;
	void *avail;
	void *used;
	int kick_fd;
	int call_fd;
};

struct net_vhost;

/* *@out is NULL where the host has none and it need not be. */
int net_vhost_open(struct net_vhost **out, enum net_vhost_use use,
		   unsigned int pairs);
void net_vhost_destroy(struct net_vhost *vh);
u64 net_vhost_features(const struct net_vhost *vh);
/* @rings: two a pair, to the guest and from it; those of num 0 stay out. */
int net_vhost_start(struct net_vhost *vh, const struct mem *mem, u64 features,
		    struct net *net, struct net_vhost_ring *rings,
		    void (*on_broken)(void *arg), void *arg);
/* Down: no frames for now. */
void net_vhost_link(struct net_vhost *vh, struct net *net, bool up);
/* Nothing is in flight when it returns; @rings get their positions. */
void net_vhost_stop(struct net_vhost *vh, struct net_vhost_ring *rings);

#endif /* PVHV_VIRTIO_NET_H */
