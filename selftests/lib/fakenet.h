/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Jobs: a host half of a network for tests of front halves: frames that wait for the guest, frames that it sent, one by one or by
 * the batch, whether there is room for more, and what the front half asked for.
 */
#ifndef PVHV_SELFTESTS_FAKENET_H
#define PVHV_SELFTESTS_FAKENET_H

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../vmm/net.h"

#ifndef FAKENET_FRAMES
#define FAKENET_FRAMES	1100
#endif

struct fakenet_frame {
	size_t len;		/* with the header */
	uint8_t *data;
};

struct fakenet_list {
	unsigned int head, tail;	/* free-running */
	struct fakenet_frame frame[FAKENET_FRAMES];
};

struct fakenet {
	struct net *net;
	struct net_options opt;
	struct fakenet_list in[NET_QUEUES_MAX];		/* for the guest */
	struct fakenet_list out;			/* from the guest */
	unsigned int room;				/* frames that send() takes */
	unsigned int batches;				/* that were sent */
	int batch_error;				/* what send_many() says in place of sending */
	uint32_t offload;
	unsigned int queues;
	struct net_filter filter;
	bool closed;
};

static inline void fakenet_put(struct fakenet_list *l, const void *data, size_t len)
{
	struct fakenet_frame *f = &l->frame[l->head++ % FAKENET_FRAMES];

	free(f->data);
	f->data = malloc(len ? len : 1);
	memcpy(f->data, data, len);
	f->len = len;
}

static inline struct fakenet_frame *fakenet_take(struct fakenet_list *l)
{
	return l->head == l->tail ? NULL : &l->frame[l->tail++ % FAKENET_FRAMES];
}

static inline int fakenet_send(struct net *net, unsigned int queue, const struct iovec *iov, unsigned int nr)
{
	struct fakenet *fake = net->backend;
	static uint8_t data[NET_HEADER_LEN + NET_FRAME_MAX];
	size_t len = 0;

	(void)queue;
	if (!fake->room)
		return -EAGAIN;
	fake->room--;
	/* What net.h promises to host halves. */
	if (iov[0].iov_len != NET_HEADER_LEN || nr > NET_PIECES_MAX)
		abort();
	for (; nr; nr--, iov++) {
		if (len + iov->iov_len > sizeof(data))
			abort();
		memcpy(data + len, iov->iov_base, iov->iov_len);
		len += iov->iov_len;
	}
	fakenet_put(&fake->out, data, len);
	return 0;
}

/* Only used where a test sets net->many. */
static inline int fakenet_send_many(struct net *net, unsigned int queue, const struct net_frame *frames, unsigned int nr)
{
	struct fakenet *fake = net->backend;
	unsigned int i;
	int lost = 0;

	if (nr < 2 || nr > NET_BATCH_MAX)
		abort();
	if (fake->batch_error)
		return fake->batch_error;
	fake->batches++;
	for (i = 0; i < nr; i++)
		lost += !!fakenet_send(net, queue, frames[i].iov, frames[i].nr);
	return lost;
}

static inline ssize_t fakenet_receive(struct net *net, unsigned int queue, const struct iovec *iov, unsigned int nr)
{
	struct fakenet *fake = net->backend;
	struct fakenet_frame *f = fakenet_take(&fake->in[queue]);
	size_t done = 0, part;

	if (!f)
		return -EAGAIN;
	if (!nr || nr > NET_PIECES_MAX)
		abort();
	for (; nr && done < f->len; nr--, iov++) {
		part = iov->iov_len < f->len - done ? iov->iov_len : f->len - done;
		memcpy(iov->iov_base, f->data + done, part);
		done += part;
	}
	/* There is always room for the largest. */
	if (done != f->len)
		abort();
	return f->len;
}

static inline int fakenet_set_offload(struct net *net, u32 offload)
{
	((struct fakenet *)net->backend)->offload = offload;
	return 0;
}

static inline int fakenet_set_queues(struct net *net, unsigned int nr)
{
	((struct fakenet *)net->backend)->queues = nr;
	return 0;
}

static inline void fakenet_set_filter(struct net *net, const struct net_filter *filter)
{
	((struct fakenet *)net->backend)->filter = *filter;
}

static inline void fakenet_close(struct net *net)
{
	struct fakenet *fake = net->backend;
	unsigned int i, j;

	for (i = 0; i < net->nr_queues; i++) {
		close(net->queue[i].fd);
		for (j = 0; j < FAKENET_FRAMES; j++)
			free(fake->in[i].frame[j].data);
	}
	for (j = 0; j < FAKENET_FRAMES; j++)
		free(fake->out.frame[j].data);
	fake->closed = true;
}

/* Frames wait: the watch on the queue's descriptor says so. */
static inline void fakenet_ready(struct fakenet *fake, unsigned int queue)
{
	eventfd_write(fake->net->queue[queue].fd, 1);
}

static inline int fakenet_open(struct net *net)
{
	static const struct net_ops ops = {
		.send = fakenet_send, .send_many = fakenet_send_many, .receive = fakenet_receive,
		.set_offload = fakenet_set_offload,
		.set_queues = fakenet_set_queues, .set_filter = fakenet_set_filter, .close = fakenet_close,
	};
	struct fakenet *fake = container_of(net->opt, struct fakenet, opt);
	unsigned int i;

	fake->net = net;
	fake->room = 1000000;
	net->ops = &ops;
	net->backend = fake;
	net->nr_queues = net->opt->queues;
	net->offload_max = NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN;
	net->header_used = true;
	net->mtu = 1500;
	for (i = 0; i < net->nr_queues; i++)
		net->queue[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return 0;
}

#endif
