// SPDX-License-Identifier: GPL-2.0
/*
 * Frames into a tap, many by one system call.  Whoever receives them on this
 * host is woken while they are written, and where it is to run on our CPU it
 * takes that when we are back from the kernel: once for all of them, not for
 * each.
 *
 * The ring is of its own kind: writes into a tap do not wait, so all is done
 * when the call returns, and what went well says nothing.  It cannot do
 * anything but that, whatever becomes of this process.  Descriptors are not
 * registered with it: a tap is to go when we close it.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net.h"

struct net_batch {
	struct io_uring ring;
};

/* liburing 2.3 has functions for it, and does not export all of them. */
static int ring_register(struct io_uring *ring, unsigned int opcode,
			 const void *arg, unsigned int nr)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, opcode, arg, nr) ?
	       -errno : 0;
}

static int restrict_ring(struct io_uring *ring)
{
	static const struct io_uring_restriction rules[] = {
		{ .opcode = IORING_RESTRICTION_SQE_OP,
		  .sqe_op = IORING_OP_WRITEV },
		{ .opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED,
		  .sqe_flags = IOSQE_CQE_SKIP_SUCCESS },
	};
	int ret;

	ret = ring_register(ring, IORING_REGISTER_RESTRICTIONS, rules,
			    ARRAY_SIZE(rules));
	return ret ? ret : ring_register(ring, IORING_REGISTER_ENABLE_RINGS,
					 NULL, 0);
}

/* NULL where the host's kernel has no such rings: then it goes without. */
struct net_batch *net_batch_create(void)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL,
	};
	struct net_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	if (io_uring_queue_init_params(NET_BATCH_MAX, &b->ring, &p))
		goto err;
	if (!(p.features & IORING_FEAT_CQE_SKIP) || restrict_ring(&b->ring)) {
		io_uring_queue_exit(&b->ring);
		goto err;
	}
	return b;
err:
	free(b);
	return NULL;
}

void net_batch_destroy(struct net_batch *b)
{
	if (!b)
		return;
	io_uring_queue_exit(&b->ring);
	free(b);
}

/* How many were refused; all are gone.  Negative: nothing was written. */
int net_batch_write(struct net_batch *b, int fd, const struct net_frame *frames,
		    unsigned int nr)
{
	struct io_uring_sqe *sqe;
	unsigned int i;
	int ret;

	for (i = 0; i < nr; i++) {
		sqe = io_uring_get_sqe(&b->ring);
		io_uring_prep_writev(sqe, fd, frames[i].iov, frames[i].nr, 0);
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	}
	ret = io_uring_submit(&b->ring);
	if (ret < 0)
		return ret;
	ret = io_uring_cq_ready(&b->ring);
	io_uring_cq_advance(&b->ring, ret);
	return ret;
}
