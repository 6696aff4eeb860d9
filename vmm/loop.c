// SPDX-License-Identifier: GPL-2.0
/*
 * The event loop: one io_uring, run by the main thread.
 *  1. Operations are submitted with a struct loop_op that the caller owns and
 *     that calls back once, with the result; an operation's buffer belongs to
 *     the kernel until then.
 *  2. Other threads reach the loop by loop_wake(), or by loop_wake_soon(),
 *     which lets a few milliseconds of their work gather first.
 *  3. loop_fini() leaves no operation in flight.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm.h"

#define RING_ENTRIES	32
#define SOON_NS		2000000

static struct {
	struct io_uring ring;
	bool ready;
	bool quit;
	bool closing;
	unsigned int in_flight;
	int wake_fd;
	int soon_fd;
	struct loop_op wake_op;
	struct loop_op soon_op;
	void (*woken)(void *arg);
	void *arg;
} loop = { .wake_fd = -1, .soon_fd = -1 };

static struct io_uring_sqe *get_sqe(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop.ring);

	if (!sqe) {
		io_uring_submit(&loop.ring);
		sqe = io_uring_get_sqe(&loop.ring);
	}
	return sqe;
}

static int start(struct loop_op *op, struct io_uring_sqe *sqe)
{
	io_uring_sqe_set_data(sqe, op);
	op->busy = true;
	loop.in_flight++;
	return 0;
}

int loop_read(struct loop_op *op, int fd, void *buf, size_t len)
{
	struct io_uring_sqe *sqe = get_sqe();

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_read(sqe, fd, buf, len, -1);
	return start(op, sqe);
}

int loop_write(struct loop_op *op, int fd, const void *buf, size_t len)
{
	struct io_uring_sqe *sqe = get_sqe();

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_write(sqe, fd, buf, len, -1);
	return start(op, sqe);
}

int loop_accept(struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = get_sqe();

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
	return start(op, sqe);
}

int loop_poll(struct loop_op *op, int fd, u32 events)
{
	struct io_uring_sqe *sqe = get_sqe();

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_poll_add(sqe, fd, events);
	return start(op, sqe);
}

int loop_timer(struct loop_op *op, unsigned int ms)
{
	/* The kernel copies it when the entry is submitted, below. */
	struct __kernel_timespec ts = {
		.tv_sec = ms / 1000,
		.tv_nsec = (ms % 1000) * 1000000LL,
	};
	struct io_uring_sqe *sqe = get_sqe();
	int ret;

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_timeout(sqe, &ts, 0, 0);
	start(op, sqe);
	do {
		ret = io_uring_submit(&loop.ring);
	} while (ret == -EINTR);
	return ret < 0 ? ret : 0;
}

void loop_cancel(struct loop_op *op)
{
	struct io_uring_sqe *sqe;

	if (!op->busy)
		return;
	sqe = get_sqe();
	if (!sqe)
		return;
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

static void signal_fd(int fd)
{
	u64 one = 1;

	/* Full means that the loop is already on its way. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

void loop_wake(void)
{
	signal_fd(loop.wake_fd);
}

void loop_wake_soon(void)
{
	struct itimerspec its = { .it_value.tv_nsec = SOON_NS };

	timerfd_settime(loop.soon_fd, 0, &its, NULL);
}

/* Polled and then read: a read in the ring would go through a kernel thread. */
static void wake_done(struct loop_op *op, int res)
{
	int fd = op == &loop.wake_op ? loop.wake_fd : loop.soon_fd;
	u64 count;

	if (loop.closing || res < 0)
		return;
	if (read(fd, &count, sizeof(count)) == sizeof(count))
		loop.woken(loop.arg);
	loop_poll(op, fd, POLLIN);
}

int loop_init(void (*woken)(void *arg), void *arg)
{
	int ret;

	loop.woken = woken;
	loop.arg = arg;
	loop.quit = false;
	loop.closing = false;
	ret = io_uring_queue_init(RING_ENTRIES, &loop.ring,
				  IORING_SETUP_COOP_TASKRUN |
				  IORING_SETUP_SINGLE_ISSUER);
	if (ret == -EINVAL)	/* older than 6.0 */
		ret = io_uring_queue_init(RING_ENTRIES, &loop.ring, 0);
	if (ret)
		return fail(ret, "io_uring: %s: allow it in /proc/sys/kernel/io_uring_disabled and in the sandbox",
			    strerror(-ret));
	loop.ready = true;

	loop.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop.soon_fd = timerfd_create(CLOCK_MONOTONIC,
				      TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop.wake_fd < 0 || loop.soon_fd < 0) {
		ret = fail(-errno, "cannot create the event loop: %s",
			   strerror(errno));
		loop_fini();
		return ret;
	}
	loop.wake_op.done = wake_done;
	loop.soon_op.done = wake_done;
	loop_poll(&loop.wake_op, loop.wake_fd, POLLIN);
	loop_poll(&loop.soon_op, loop.soon_fd, POLLIN);
	return 0;
}

static int wait_events(void)
{
	struct io_uring_cqe *cqe;
	unsigned int head, seen = 0;
	int ret = io_uring_submit_and_wait(&loop.ring, 1);

	if (ret < 0 && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
		return fail(ret, "io_uring: %s", strerror(-ret));

	io_uring_for_each_cqe(&loop.ring, head, cqe) {
		struct loop_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		seen++;
		if (!op)
			continue;
		op->busy = false;
		loop.in_flight--;
		op->done(op, res);
	}
	io_uring_cq_advance(&loop.ring, seen);
	return 0;
}

int loop_run(void)
{
	int ret = 0;

	while (!ret && !loop.quit)
		ret = wait_events();
	return ret;
}

void loop_quit(void)
{
	loop.quit = true;
}

/* The owners of all other operations have cancelled them before. */
void loop_fini(void)
{
	int ret = 0;

	if (!loop.ready)
		return;
	loop.closing = true;
	loop_cancel(&loop.wake_op);
	loop_cancel(&loop.soon_op);
	while (!ret && loop.in_flight)
		ret = wait_events();
	io_uring_queue_exit(&loop.ring);
	if (loop.wake_fd >= 0)
		close(loop.wake_fd);
	if (loop.soon_fd >= 0)
		close(loop.soon_fd);
	loop.wake_fd = -1;
	loop.soon_fd = -1;
	loop.ready = false;
}
