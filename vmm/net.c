// SPDX-License-Identifier: GPL-2.0
/*
 * What all host halves of networks share.
 *  1. Made from the options, with the address of the guest's interface.
 *  2. Started and stopped by a front half: watches on the descriptors, which
 *     call it when there is something to receive or room to send.
 *  3. Frames pass through net_send() and net_receive(): the link's state, the
 *     limits of each direction, the counters.
 *  4. Limits: who finds the bucket empty is told -EAGAIN, and is called again
 *     by a timer as it would be by a watch.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <linux/if_arp.h>

#include "clock.h"
#include "net.h"

#define MS_NS		1000000ULL
#define ARP_REVERSE	3	/* RFC 903 */

/* Calls from the loop. */

static bool flows(const struct net *net)
{
	return net->nr_active && !net->foreign && net_link_up(net);
}

static unsigned int index_of(const struct net_queue *q)
{
	return q - q->net->queue;
}

static bool active(const struct net_queue *q)
{
	return flows(q->net) && index_of(q) < q->net->nr_active;
}

static void start_watch(struct net_queue *q)
{
	/* One that is being cancelled comes back here when it ends. */
	if (active(q) && !q->in_op.busy &&
	    loop_watch(&q->in_op, q->fd))
		net_lost(q->net, "it cannot be watched");
}

static void readable(struct loop_op *op, int res)
{
	struct net_queue *q = container_of(op, struct net_queue, in_op);
	struct net *net = q->net;

	if (!active(q))
		return;
	if (!op->busy) {
		if (res < 0 && res != -ECANCELED)
			net_lost(net, strerror(-res));
		start_watch(q);
		return;
	}
	if (res > 0)
		net->front.readable(net->front.arg, index_of(q));
}

static void await_room(struct net_queue *q)
{
	if (!q->out_op.busy && loop_poll(&q->out_op, q->fd, POLLOUT))
		net_lost(q->net, "it cannot be watched");
}

static void writable(struct loop_op *op, int res)
{
	struct net_queue *q = container_of(op, struct net_queue, out_op);
	struct net *net = q->net;

	if (res < 0 || !active(q))
		return;
	if (q->kept && net->ops->flush(net, index_of(q)) == -EAGAIN) {
		await_room(q);
		return;
	}
	net->front.writable(net->front.arg, index_of(q));
}

static void rx_timer(struct loop_op *op, int res)
{
	struct net *net = container_of(op, struct net, rx_timer);
	unsigned int i;

	(void)res;
	for (i = 0; i < net->nr_active && flows(net); i++)
		net->front.readable(net->front.arg, i);
}

static void tx_timer(struct loop_op *op, int res)
{
	struct net *net = container_of(op, struct net, tx_timer);
	unsigned int i;

	(void)res;
	for (i = 0; i < net->nr_active && flows(net); i++)
		net->front.writable(net->front.arg, i);
}

/* True if the limit is reached; the timer will call then. */
static bool limited(struct limit *limit, struct loop_op *timer)
{
	u64 delay;

	if (!limit->rate)
		return false;
	delay = limit_delay(limit, clock_now_ns());
	if (!delay)
		return false;
	delay = delay / MS_NS + 1;
	if (!timer->busy)
		loop_timer(timer, delay < INT32_MAX ? delay : INT32_MAX);
	return true;
}

/* Frames. */

int net_send(struct net *net, unsigned int queue, const struct iovec *iov,
	     unsigned int nr, size_t len)
{
	struct net_queue *q = &net->queue[queue];
	int ret;

	if (!net_link_up(net)) {
		net->stats.tx_dropped++;
		return 0;
	}
	if (limited(&net->tx_limit, &net->tx_timer))
		return -EAGAIN;
	ret = net->ops->send(net, queue, iov, nr);
	if (ret == -EAGAIN || q->kept)
		await_room(q);
	if (ret == -EAGAIN)
		return ret;
	if (ret) {
		net->stats.tx_dropped++;
		return 0;
	}
	len -= NET_HEADER_LEN;
	limit_take(&net->tx_limit, len);
	net->stats.tx_frames++;
	net->stats.tx_bytes += len;
	return 0;
}

/* By one call, if all can go at once. */
static bool send_at_once(struct net *net, unsigned int queue,
			 const struct net_frame *frames, unsigned int nr)
{
	unsigned int i;
	int lost;

	if (nr < 2 || !net->many || net->tx_limit.rate || !net_link_up(net))
		return false;
	lost = net->ops->send_many(net, queue, frames, nr);
	if (lost < 0) {
		net->many = false;
		return false;
	}
	net->stats.tx_dropped += lost;
	net->stats.tx_frames += nr - lost;
	for (i = 0; i < nr; i++)
		net->stats.tx_bytes += frames[i].len - NET_HEADER_LEN;
	return true;
}

unsigned int net_send_many(struct net *net, unsigned int queue,
			   const struct net_frame *frames, unsigned int nr)
{
	unsigned int i;

	if (send_at_once(net, queue, frames, nr))
		return nr;
	for (i = 0; i < nr; i++)
		if (net_send(net, queue, frames[i].iov, frames[i].nr,
			     frames[i].len) == -EAGAIN)
			break;
	return i;
}

ssize_t net_receive(struct net *net, unsigned int queue,
		    const struct iovec *iov, unsigned int nr)
{
	ssize_t ret;

	if (!net_link_up(net) || limited(&net->rx_limit, &net->rx_timer))
		return -EAGAIN;
	ret = net->ops->receive(net, queue, iov, nr);
	if (ret < (ssize_t)NET_HEADER_LEN) {
		if (ret != -EAGAIN)
			net_lost(net, ret < 0 ? strerror(-ret) : "it ended");
		return -EAGAIN;
	}
	limit_take(&net->rx_limit, ret - NET_HEADER_LEN);
	net->stats.rx_frames++;
	net->stats.rx_bytes += ret - NET_HEADER_LEN;
	return ret;
}

/* The state of the link. */

static void watch_all(struct net *net)
{
	unsigned int i;

	for (i = 0; i < net->nr_queues; i++)
		if (active(&net->queue[i]))
			start_watch(&net->queue[i]);
		else
			loop_cancel(&net->queue[i].in_op);
}

static void link_changed(struct net *net)
{
	watch_all(net);
	if (net->nr_active)
		net->front.link(net->front.arg);
}

void net_lost(struct net *net, const char *why)
{
	if (net->gone)
		return;
	net->gone = true;
	fail(-ENOLINK, "--net: %s: the host's side is gone (%s): the guest's link is down from here on",
	     net->ifname[0] ? net->ifname : net->label, why);
	link_changed(net);
}

void net_set_link(struct net *net, bool up)
{
	if (net->up == up && !(up && net->alien))
		return;
	net->up = up;
	/* Whoever says so knows what he does. */
	if (up)
		net->alien = false;
	link_changed(net);
}

void net_settle(struct net *net)
{
	if (!net->alien)
		return;
	net->alien = false;
	link_changed(net);
}

void net_set_limit(struct net *net, u64 bps)
{
	limit_set(&net->rx_limit, bps, clock_now_ns());
	limit_set(&net->tx_limit, bps, clock_now_ns());
}

int net_set_offload(struct net *net, u32 offload)
{
	if (offload & ~net->offload_max)
		return -EINVAL;
	return net->ops->set_offload ? net->ops->set_offload(net, offload) : 0;
}

void net_set_filter(struct net *net, const struct net_filter *filter)
{
	if (net->ops->set_filter)
		net->ops->set_filter(net, filter);
}

int net_set_queues(struct net *net, unsigned int nr)
{
	int ret;

	if (!nr || nr > net->nr_queues)
		return -EINVAL;
	ret = net->ops->set_queues ? net->ops->set_queues(net, nr) : 0;
	if (ret)
		return ret;
	net->nr_active = nr;
	watch_all(net);
	return 0;
}

/* With @foreign the host's kernel moves the frames, by vhost. */
int net_start(struct net *net, const struct net_front *front,
	      unsigned int queues, u32 offload, bool foreign)
{
	int ret;

	ret = net_set_offload(net, offload);
	if (ret)
		return ret;
	net->front = *front;
	net->foreign = foreign;
	return net_set_queues(net, queues);
}

/* Calls end at once; what the loop still holds has no use for the front. */
void net_stop(struct net *net)
{
	static const struct net_filter all = { .all = true };
	unsigned int i;

	net->nr_active = 0;
	net->foreign = false;
	for (i = 0; i < net->nr_queues; i++) {
		loop_cancel(&net->queue[i].in_op);
		loop_cancel(&net->queue[i].out_op);
	}
	loop_cancel(&net->rx_timer);
	loop_cancel(&net->tx_timer);
	if (net->gone)
		return;
	net_set_filter(net, &all);
	net_set_offload(net, 0);
}

/* By the guest, or for it: a reverse ARP request, from which switches learn. */
void net_announce(struct net *net)
{
	struct net_header header = { 0 };
	struct {
		struct ethhdr eth;
		struct arphdr arp;
		u8 sender_mac[ETH_ALEN];
		u8 sender_ip[4];
		u8 target_mac[ETH_ALEN];
		u8 target_ip[4];
		u8 pad[ETH_ZLEN - sizeof(struct ethhdr) -
		       sizeof(struct arphdr) - 2 * ETH_ALEN - 2 * 4];
	} __attribute__((packed)) frame = {
		.eth.h_proto = htons(ETH_P_RARP),
		.arp.ar_hrd = htons(ARPHRD_ETHER),
		.arp.ar_pro = htons(ETH_P_IP),
		.arp.ar_hln = ETH_ALEN,
		.arp.ar_pln = 4,
		.arp.ar_op = htons(ARP_REVERSE),
	};
	const struct iovec iov[] = {
		{ &header, sizeof(header) }, { &frame, sizeof(frame) }
	};

	if (!net_link_up(net) ||
	    (net->nr_active && net->front.announce(net->front.arg)))
		return;
	memset(frame.eth.h_dest, 0xff, ETH_ALEN);
	memcpy(frame.eth.h_source, net->mac, ETH_ALEN);
	memcpy(frame.sender_mac, net->mac, ETH_ALEN);
	memcpy(frame.target_mac, net->mac, ETH_ALEN);
	net->ops->send(net, 0, iov, ARRAY_SIZE(iov));
}

/* What the host's kernel moved is known to the tap. */
void net_get_stats(const struct net *net, struct net_stats *stats)
{
	struct net_link link;

	*stats = net->stats;
	if (net->foreign && !net_link_get(net->ifname, &link))
		*stats = link.stats;
}

/* From nothing, and back. */

/* What can be seen to be wrong before anything is made. */
int net_check(const struct net_options *opt)
{
	return opt->user ? net_passt_check() : net_tap_check(opt);
}

/* Without another side yet. */
struct net *net_new(const struct net_options *opt, const char *vm_name,
		    unsigned int index)
{
	struct net *net = calloc(1, sizeof(*net));
	unsigned int i;

	if (!net) {
		fail(-ENOMEM, "out of memory");
		return NULL;
	}
	net->opt = opt;
	net->up = true;
	snprintf(net->label, sizeof(net->label), "net%u", index);
	net->rx_timer.done = rx_timer;
	net->tx_timer.done = tx_timer;
	for (i = 0; i < NET_QUEUES_MAX; i++) {
		net->queue[i].net = net;
		net->queue[i].fd = -1;
		net->queue[i].in_op.done = readable;
		net->queue[i].out_op.done = writable;
	}
	net_set_limit(net, opt->bps);
	if (opt->mac_given)
		memcpy(net->mac, opt->mac, ETH_ALEN);
	else if (net_mac_choose(vm_name, index, net->mac))
		goto err;
	memcpy(net->given_mac, net->mac, ETH_ALEN);
	return net;
err:
	free(net);
	return NULL;
}

struct net *net_create(const struct net_options *opt, const char *vm_name,
		       unsigned int index)
{
	struct net *net = net_new(opt, vm_name, index);

	if (!net)
		return NULL;
	if (!(opt->user ? net_passt_open(net) : net_tap_open(net)))
		return net;
	net_destroy(net);
	return NULL;
}

/* After loop_fini(), which has seen its operations end. */
void net_destroy(struct net *net)
{
	if (net->ops)
		net->ops->close(net);
	free(net);
}
