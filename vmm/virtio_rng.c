// SPDX-License-Identifier: GPL-2.0
/*
 * virtio-rng (virtio 1.2, 5.4): entropy from the host's getrandom(2), straight
 * into the guest's buffers.  A limit, if there is one, delays what goes beyond
 * it; a request is then answered later, never with fewer bytes for it.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "virtio.h"

#define QUEUE_SIZE	8
#define PIECES		16
#define REQUEST_MAX	(64 * KIB)	/* bytes given at a time: less is no error */
#define NS_PER_S	1000000000ULL
#define NS_PER_MS	1000000ULL

struct virtio_rng {
	struct virtio v;
	struct limit limit;
	struct loop_op timer;
};

static struct virtio_rng *to_rng(struct virtio *v)
{
	return container_of(v, struct virtio_rng, v);
}

static u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* Returns how many bytes the pieces got: all of them but for REQUEST_MAX. */
static u32 fill(const struct virtq_buf *buf)
{
	u32 done = 0;
	size_t want;
	ssize_t got;
	u16 i;

	for (i = 0; i < buf->nr_in; i++) {
		const struct iovec *iov = &buf->iov[buf->nr_out + i];
		size_t off = 0;

		while (off < iov->iov_len && done < REQUEST_MAX) {
			want = iov->iov_len - off;
			if (want > REQUEST_MAX - done)
				want = REQUEST_MAX - done;
			got = getrandom((u8 *)iov->iov_base + off, want, 0);
			if (got <= 0 && errno != EINTR)
				return done;
			if (got > 0) {
				off += got;
				done += got;
			}
		}
	}
	return done;
}

static void kick(struct virtio *v, unsigned int queue)
{
	struct virtio_rng *rng = to_rng(v);
	struct iovec iov[PIECES];
	struct virtq_buf buf = { .iov = iov, .max = PIECES };
	unsigned int left = QUEUE_SIZE;
	u64 wait = 0;
	u32 len;

	if (rng->timer.busy)
		return;
	do {
		virtio_kicks_off(v, queue);
		while (left && !(wait = limit_delay(&rng->limit, now())) &&
		       virtio_pop(v, queue, &buf)) {
			len = fill(&buf);
			limit_take(&rng->limit, len);
			virtio_push(v, queue, &buf, len);
			left--;
		}
		virtio_flush(v, queue);
	} while (left && !wait && virtio_kicks_on(v, queue));
	if (wait)
		loop_timer(&rng->timer, wait / NS_PER_MS + 1);
	else if (!left)
		virtio_kick_again(v, queue);
}

/* Also after a cancellation: the device may have started again meanwhile. */
static void timer_done(struct loop_op *op, int res)
{
	struct virtio_rng *rng = container_of(op, struct virtio_rng, timer);

	(void)res;
	virtio_kick_again(&rng->v, 0);
}

/* Requests are answered at once: only the timer can be under way. */
static void start(struct virtio *v)
{
	struct virtio_rng *rng = to_rng(v);

	limit_set(&rng->limit, rng->limit.rate, now());
}

static void stop(struct virtio *v)
{
	loop_cancel(&to_rng(v)->timer);
	virtio_stopped(v);
}

static void destroy(struct virtio *v)
{
	struct virtio_rng *rng = to_rng(v);

	virtio_fini(v);
	free(rng);
}

static const struct virtio_ops rng_ops = {
	.name = "virtio-rng",
	.id = VIRTIO_ID_RNG,
	.start = start,
	.stop = stop,
	.kick = kick,
	.destroy = destroy,
};

/* @bps: bytes in a second, 0 for no limit.  NULL: it has been said why. */
struct virtio *virtio_rng_create(const struct mem *mem, const char *label,
				 u64 bps)
{
	struct virtio_rng *rng = calloc(1, sizeof(*rng));

	if (!rng) {
		fail(-ENOMEM, "out of memory");
		return NULL;
	}
	if (virtio_init(&rng->v, &rng_ops, mem, label, 1, QUEUE_SIZE)) {
		free(rng);
		return NULL;
	}
	rng->limit.rate = bps;
	rng->timer.done = timer_done;
	return &rng->v;
}
