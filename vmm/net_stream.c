// SPDX-License-Identifier: GPL-2.0
/*
 * Frames over a stream socket: each is preceded by its length, four bytes,
 * the most significant first.
 *  1. Sending: what the socket does not take of a frame is kept and goes out
 *     when there is room; the next frame waits for that.
 *  2. Receiving: as much as there is in one read, then frame by frame out of
 *     the buffer.
 *
 * The other side does no sums and cuts nothing into segments: offload headers
 * are zeros.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <arpa/inet.h>

#include "net.h"

#define PREFIX_LEN	4
#define IN_SIZE		(2 * (PREFIX_LEN + NET_FRAME_MAX))
#define OUT_SIZE	(PREFIX_LEN + NET_FRAME_MAX)

struct stream {
	size_t in_pos, in_len;
	size_t out_pos, out_len;
	u8 in[IN_SIZE];
	u8 out[OUT_SIZE];
};

static ssize_t send_some(int fd, const struct iovec *iov, unsigned int nr)
{
	const struct msghdr msg = {
		.msg_iov = (struct iovec *)iov, .msg_iovlen = nr,
	};
	ssize_t ret;

	do {
		ret = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (ret < 0 && errno == EINTR);
	if (ret >= 0)
		return ret;
	return errno == ENOBUFS || errno == ENOMEM ? -EAGAIN : -errno;
}

/* What was kept of a frame; 0 when it is out. */
static int stream_flush(struct net *net, unsigned int queue)
{
	struct stream *st = net->backend;
	struct net_queue *q = &net->queue[queue];
	struct iovec iov;
	ssize_t ret;

	if (!q->kept)
		return 0;
	iov = (struct iovec){ st->out + st->out_pos, st->out_len - st->out_pos };
	ret = send_some(q->fd, &iov, 1);
	if (ret < 0) {
		if (ret != -EAGAIN)
			q->kept = false;
		return ret;
	}
	st->out_pos += ret;
	q->kept = st->out_pos < st->out_len;
	return q->kept ? -EAGAIN : 0;
}

/* All of the pieces but their first @skip bytes. */
static void keep(struct net_queue *q, const struct iovec *iov, unsigned int nr,
		 size_t skip)
{
	struct stream *st = q->net->backend;
	size_t part;

	st->out_pos = 0;
	st->out_len = 0;
	for (; nr; nr--, iov++) {
		part = skip < iov->iov_len ? iov->iov_len - skip : 0;
		memcpy(st->out + st->out_len,
		       (u8 *)iov->iov_base + iov->iov_len - part, part);
		st->out_len += part;
		skip -= iov->iov_len - part;
	}
	q->kept = true;
}

static int stream_send(struct net *net, unsigned int queue,
		       const struct iovec *iov, unsigned int nr)
{
	struct net_queue *q = &net->queue[queue];
	struct iovec out[NET_PIECES_MAX];
	size_t len = 0;
	unsigned int i;
	u32 prefix;
	ssize_t ret;

	ret = stream_flush(net, queue);
	if (ret)
		return ret;
	/* In the place of the header. */
	memcpy(out, iov, nr * sizeof(*iov));
	out[0] = (struct iovec){ &prefix, PREFIX_LEN };
	for (i = 1; i < nr; i++)
		len += iov[i].iov_len;
	prefix = htonl(len);
	ret = send_some(q->fd, out, nr);
	if (ret < 0)
		return ret;
	if ((size_t)ret < PREFIX_LEN + len)
		keep(q, out, nr, ret);
	return 0;
}

/* Fills the pieces with the header and the frame as far as they reach. */
static void deliver(const u8 *frame, size_t len, const struct iovec *iov,
		    unsigned int nr)
{
	size_t head = NET_HEADER_LEN, part, zero;

	for (; nr && (head || len); nr--, iov++) {
		zero = iov->iov_len < head ? iov->iov_len : head;
		memset(iov->iov_base, 0, zero);
		head -= zero;
		part = iov->iov_len - zero < len ? iov->iov_len - zero : len;
		memcpy((u8 *)iov->iov_base + zero, frame, part);
		frame += part;
		len -= part;
	}
}

/* The length of the whole frame at in_pos; 0: there is none yet. */
static ssize_t frame_len(const struct stream *st)
{
	size_t have = st->in_len - st->in_pos;
	u32 len;

	if (have < PREFIX_LEN)
		return 0;
	memcpy(&len, st->in + st->in_pos, PREFIX_LEN);
	len = ntohl(len);
	if (len < ETH_HLEN || len > NET_FRAME_MAX)
		return -EPROTO;
	return have - PREFIX_LEN < len ? 0 : len;
}

static int fill(int fd, struct stream *st)
{
	ssize_t ret;

	memmove(st->in, st->in + st->in_pos, st->in_len - st->in_pos);
	st->in_len -= st->in_pos;
	st->in_pos = 0;
	do {
		ret = recv(fd, st->in + st->in_len, IN_SIZE - st->in_len,
			   MSG_DONTWAIT);
	} while (ret < 0 && errno == EINTR);
	if (ret <= 0)
		return ret ? -errno : -EPIPE;
	st->in_len += ret;
	return 0;
}

static ssize_t stream_receive(struct net *net, unsigned int queue,
			      const struct iovec *iov, unsigned int nr)
{
	struct stream *st = net->backend;
	ssize_t len;
	int ret;

	while (!(len = frame_len(st))) {
		ret = fill(net->queue[queue].fd, st);
		if (ret)
			return ret;
	}
	if (len < 0)
		return len;
	st->in_pos += PREFIX_LEN;
	deliver(st->in + st->in_pos, len, iov, nr);
	st->in_pos += len;
	return NET_HEADER_LEN + len;
}

static void stream_close(struct net *net)
{
	close(net->queue[0].fd);
	net->queue[0].fd = -1;
	free(net->backend);
	net->backend = NULL;
}

static const struct net_ops stream_ops = {
	.send = stream_send,
	.flush = stream_flush,
	.receive = stream_receive,
	.close = stream_close,
};

/* Takes @fd, a connected socket, in any case. */
int net_stream_open(struct net *net, int fd)
{
	/* Its pages are made when frames need them. */
	struct stream *st = malloc(sizeof(*st));

	if (!st) {
		close(fd);
		return fail(-ENOMEM, "out of memory");
	}
	st->in_pos = 0;
	st->in_len = 0;
	net->backend = st;
	net->queue[0].fd = fd;
	net->nr_queues = 1;
	net->ops = &stream_ops;
	return 0;
}
