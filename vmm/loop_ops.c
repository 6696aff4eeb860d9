// SPDX-License-Identifier: GPL-2.0
/*
 * The operations of the event loop, as entries of its ring, which loop.c submits
 * with its next turn.  All call back once, but for loop_watch(), which does so
 * until it is cancelled.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop.h"

#define IO_MAX		0x7ffff000U	/* what one read or write may move */

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
	op->watched = -1;
	op->eventfd = false;
	loop.in_flight++;
	return 0;
}

/* A registered file saves the kernel looking it up for each operation. */
void loop_file_add(struct loop_file *file, int fd)
{
	unsigned int slot;

	file->fd = fd;
	file->slot = -1;
	file->registered_pages = 0;
	file->pins = false;
	for (slot = 0; slot < LOOP_FILES && loop.file_used & 1ULL << slot; slot++)
		;
	if (!loop.files || slot == LOOP_FILES ||
	    io_uring_register_files_update(&loop.ring, slot, &fd, 1) != 1)
		return;
	loop.file_used |= 1ULL << slot;
	file->slot = slot;
}

void loop_file_drop(struct loop_file *file)
{
	int none = -1;

	if (file->slot >= 0 && loop.ready) {
		io_uring_register_files_update(&loop.ring, file->slot, &none, 1);
		loop.file_used &= ~(1ULL << file->slot);
	}
	file->slot = -1;
}

static struct io_uring_sqe *get_file_sqe(const struct loop_file *file, int *fd)
{
	struct io_uring_sqe *sqe = get_sqe();

	*fd = file->slot >= 0 ? file->slot : file->fd;
	return sqe;
}

static int start_file(struct loop_op *op, struct io_uring_sqe *sqe,
		      const struct loop_file *file)
{
	if (file->slot >= 0)
		sqe->flags |= IOSQE_FIXED_FILE;
	return start(op, sqe);
}

struct direction {
	u8 registered, single, vector;
};

/* Pieces are looked at during the submission only, what they name until done. */
static int transfer(struct loop_op *op, const struct loop_file *file,
		    const struct direction *dir, const struct iovec *iov,
		    unsigned int nr, u64 pos, int rw_flags)
{
	int fd, buffer = nr == 1 ? loop_memory_buffer(iov, file) : -1;
	struct io_uring_sqe *sqe;

	sqe = get_file_sqe(file, &fd);
	if (!sqe)
		return -EAGAIN;
	if (nr == 1)
		io_uring_prep_rw(buffer < 0 ? dir->single : dir->registered,
				 sqe, fd, iov->iov_base,
				 iov->iov_len < IO_MAX ? iov->iov_len : IO_MAX,
				 pos);
	else
		io_uring_prep_rw(dir->vector, sqe, fd, iov, nr, pos);
	if (buffer >= 0)
		sqe->buf_index = buffer;
	sqe->rw_flags = rw_flags;
	return start_file(op, sqe, file);
}

int loop_preadv(struct loop_op *op, const struct loop_file *file,
		const struct iovec *iov, unsigned int nr, u64 pos)
{
	static const struct direction in = {
		IORING_OP_READ_FIXED, IORING_OP_READ, IORING_OP_READV,
	};

	return transfer(op, file, &in, iov, nr, pos, 0);
}

int loop_pwritev(struct loop_op *op, const struct loop_file *file,
		 const struct iovec *iov, unsigned int nr, u64 pos, int rw_flags)
{
	static const struct direction out = {
		IORING_OP_WRITE_FIXED, IORING_OP_WRITE, IORING_OP_WRITEV,
	};

	return transfer(op, file, &out, iov, nr, pos, rw_flags);
}

int loop_fdatasync(struct loop_op *op, const struct loop_file *file)
{
	struct io_uring_sqe *sqe;
	int fd;

	sqe = get_file_sqe(file, &fd);
	if (!sqe)
		return -EAGAIN;
	io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	return start_file(op, sqe, file);
}

int loop_fallocate(struct loop_op *op, const struct loop_file *file, int mode,
		   u64 pos, u64 len)
{
	struct io_uring_sqe *sqe;
	int fd;

	sqe = get_file_sqe(file, &fd);
	if (!sqe)
		return -EAGAIN;
	io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, fd, (void *)(uintptr_t)len,
			 mode, pos);
	return start_file(op, sqe, file);
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

/* Called back for each wake-up of its pollers, whether or not it is read. */
int loop_watch(struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = get_sqe();

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_poll_multishot(sqe, fd, POLLIN);
	start(op, sqe);
	op->watched = fd;
	return 0;
}

/*
 * An eventfd that others only add to: it is never read, each signal wakes the
 * poll, and so no signal costs a system call here.  From within such a signal
 * the kernel sends no other, but puts it off: this one is waited for in the ring.
 */
int loop_watch_eventfd(struct loop_op *op, int fd)
{
	int ret = loop_watch(op, fd);

	if (ret)
		return ret;
	op->eventfd = true;
	loop.eventfds++;
	return 0;
}

int loop_timer_us(struct loop_op *op, u64 us)
{
	struct io_uring_sqe *sqe = get_sqe();
	struct __kernel_timespec *ts;

	if (!sqe)
		return -EAGAIN;
	ts = &loop.times[sqe - loop.ring.sq.sqes];
	ts->tv_sec = us / 1000000;
	ts->tv_nsec = (us % 1000000) * 1000;
	io_uring_prep_timeout(sqe, ts, 0, 0);
	return start(op, sqe);
}

int loop_timer(struct loop_op *op, unsigned int ms)
{
	return loop_timer_us(op, ms * 1000ULL);
}

void loop_cancel(struct loop_op *op)
{
	struct io_uring_sqe *sqe;

	if (!op->busy)
		return;
	op->watched = -1;
	sqe = get_sqe();
	if (!sqe)
		return;
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}
