// SPDX-License-Identifier: GPL-2.0
/*
 * The event loop: one io_uring, run by the main thread.
 *  1. Operations are submitted with a struct loop_op that the caller owns and
 *     that calls back once, with the result; an operation's buffer belongs to
 *     the kernel until then.  loop_watch() calls back for every signal of an
 *     eventfd until it is cancelled.
 *  2. A turn of the loop is one system call: it submits what the turn before
 *     has gathered and waits.  loop_defer() has a task run at the end of a
 *     turn, when all its completions are handled: what serves a batch (one
 *     look at a ring, one interrupt) is done there, once.
 *  3. Other threads reach the loop by loop_wake(), or by loop_wake_soon(),
 *     which lets a few milliseconds of their work gather first.
 *  4. loop_fini() leaves no operation in flight.
 *
 * Memory that is registered with the ring is pinned, so only such is that can
 * neither be paged nor given back (loop_memory()); all other guest memory stays
 * what it is on a host, and is looked up for each operation.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "vmm.h"

#define RING_ENTRIES	128
#define CQ_ENTRIES	1024
#define FILES		64	/* registered at most */
#define IO_MAX		0x7ffff000U	/* what one read or write may move */
#define SOON_NS		2000000
#define BUFFER_LEN	GIB	/* of one registered buffer, the kernel's limit */
#define BUFFERS		1024
#define REGISTERED_MAX	(32 * KIB)	/* where it is registered page by page */

static struct {
	struct io_uring ring;
	bool ready;
	bool quit;
	bool closing;
	bool files;		/* the ring has a table of files */
	u64 file_used;		/* which of its slots are taken */
	struct iovec memory;	/* to be registered, or is if @buffers */
	bool buffers;
	u64 registered_max;	/* larger pieces are better looked up */
	unsigned int in_flight;
	struct loop_task *tasks;
	struct loop_task **tasks_tail;
	unsigned int nr_tasks;
	int wake_fd;
	int soon_fd;
	struct loop_op wake_op;
	struct loop_op soon_op;
	void (*woken)(void *arg);
	void *arg;
	/* Beside the ring's entries: the kernel copies them at the submission. */
	struct __kernel_timespec times[RING_ENTRIES];
} loop = { .wake_fd = -1, .soon_fd = -1 };

int (*loop_guard)(struct io_uring *ring);

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
	loop.in_flight++;
	return 0;
}

/* A registered file saves the kernel looking it up for each operation. */
void loop_file_add(struct loop_file *file, int fd)
{
	unsigned int slot;

	file->fd = fd;
	file->slot = -1;
	for (slot = 0; slot < FILES && loop.file_used & 1ULL << slot; slot++)
		;
	if (!loop.files || slot == FILES ||
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

/* Memory that is pinned with the next ring saves the same for its pages. */
void loop_memory(void *base, u64 len)
{
	loop.memory = (struct iovec){ base, len };
}

/*
 * Before 6.12 huge pages are registered page by page, and so they are gone
 * through, while pages that are looked up are joined if they follow each other.
 */
static u64 most_registered(void)
{
	unsigned int major, minor;
	struct utsname host;

	if (uname(&host) || sscanf(host.release, "%u.%u", &major, &minor) != 2)
		return REGISTERED_MAX;
	return major > 6 || (major == 6 && minor >= 12) ? IO_MAX : REGISTERED_MAX;
}

static void register_memory(void)
{
	struct iovec buffers[BUFFERS];
	u64 at, len = loop.memory.iov_len;
	unsigned int nr = 0;

	for (at = 0; at < len && nr < BUFFERS; at += BUFFER_LEN)
		buffers[nr++] = (struct iovec){
			(u8 *)loop.memory.iov_base + at,
			len - at < BUFFER_LEN ? len - at : BUFFER_LEN,
		};
	/* Without the right to pin so much it goes without. */
	loop.buffers = nr && at >= len &&
		       !io_uring_register_buffers(&loop.ring, buffers, nr);
	loop.registered_max = most_registered();
}

/* Which registered buffer the whole piece is in, or -1. */
static int buffer_of(const struct iovec *iov)
{
	u64 at = (u8 *)iov->iov_base - (u8 *)loop.memory.iov_base;
	u64 len = loop.memory.iov_len;

	if (!loop.buffers || iov->iov_len > loop.registered_max ||
	    at >= len || iov->iov_len > len - at ||
	    at % BUFFER_LEN + iov->iov_len > BUFFER_LEN)
		return -1;
	return at / BUFFER_LEN;
}

struct direction {
	u8 registered, single, vector;
};

/* Pieces are looked at during the submission only, what they name until done. */
static int transfer(struct loop_op *op, const struct loop_file *file,
		    const struct direction *dir, const struct iovec *iov,
		    unsigned int nr, u64 pos, int rw_flags)
{
	int fd, buffer = nr == 1 ? buffer_of(iov) : -1;
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

/*
 * An eventfd that others only add to: it is never read, each signal wakes the
 * poll, and so no signal costs a system call here.
 */
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

void loop_wake(void)
{
	loop_signal(loop.wake_fd);
}

void loop_wake_soon(void)
{
	struct itimerspec its = { .it_value.tv_nsec = SOON_NS };

	timerfd_settime(loop.soon_fd, 0, &its, NULL);
}

void loop_defer(struct loop_task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->next = NULL;
	*loop.tasks_tail = task;
	loop.tasks_tail = &task->next;
	loop.nr_tasks++;
}

/* The owner goes away: it must not run any more. */
void loop_undefer(struct loop_task *task)
{
	struct loop_task **at = &loop.tasks;

	if (!task->queued)
		return;
	while (*at != task)
		at = &(*at)->next;
	*at = task->next;
	if (!*at)
		loop.tasks_tail = at;
	loop.nr_tasks--;
	task->queued = false;
}

static void wake_done(struct loop_op *op, int res)
{
	(void)op;
	if (!loop.closing && res >= 0)
		loop.woken(loop.arg);
}

/* A timer has to be read, or it stays readable. */
static void soon_done(struct loop_op *op, int res)
{
	u64 count;

	if (loop.closing || res < 0)
		return;
	if (read(loop.soon_fd, &count, sizeof(count)) == sizeof(count))
		loop.woken(loop.arg);
	loop_poll(op, loop.soon_fd, POLLIN);
}

static int create_ring(void)
{
	/* Newest first; 6.1 has all, older kernels run without. */
	static const unsigned int flags[] = {
		IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER |
			IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE,
		IORING_SETUP_CQSIZE,
	};
	int ret = -EINVAL;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(flags) && ret == -EINVAL; i++) {
		struct io_uring_params p = {
			.flags = flags[i], .cq_entries = CQ_ENTRIES,
		};

		if (loop_guard)
			p.flags |= IORING_SETUP_R_DISABLED;

		ret = io_uring_queue_init_params(RING_ENTRIES, &loop.ring, &p);
	}
	return ret;
}

/*
 * The C library has the kernel tell each thread at each wake-up on which CPU
 * it is.  This one wakes up for each kick, and does not ask.
 */
static void stop_telling_cpu(void)
{
	enum { REGISTERED_SIZE = 32 };

	syscall(SYS_rseq, (u8 *)__builtin_thread_pointer() + __rseq_offset,
		REGISTERED_SIZE, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
}

int loop_init(void (*woken)(void *arg), void *arg)
{
	int ret;

	loop.woken = woken;
	loop.arg = arg;
	loop.quit = false;
	loop.closing = false;
	loop.tasks = NULL;
	loop.tasks_tail = &loop.tasks;
	loop.nr_tasks = 0;
	ret = create_ring();
	if (ret)
		return fail(ret, "io_uring: %s: allow it in /proc/sys/kernel/io_uring_disabled and in the sandbox",
			    strerror(-ret));
	loop.ready = true;
	loop.file_used = 0;
	loop.files = !io_uring_register_files_sparse(&loop.ring, FILES);
	register_memory();
	/* So is the ring itself, for this thread; old kernels look it up. */
	io_uring_register_ring_fd(&loop.ring);
	stop_telling_cpu();
	ret = loop_guard ? loop_guard(&loop.ring) : 0;
	if (ret) {
		loop_fini();
		return fail(ret, "io_uring: cannot be restricted: %s: try --sandbox off",
			    strerror(-ret));
	}

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
	loop.soon_op.done = soon_done;
	loop_watch(&loop.wake_op, loop.wake_fd);
	loop_poll(&loop.soon_op, loop.soon_fd, POLLIN);
	return 0;
}

static void complete(struct io_uring_cqe *cqe)
{
	struct loop_op *op = io_uring_cqe_get_data(cqe);
	int res = cqe->res;

	if (!op)
		return;
	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		int watched = op->watched;

		op->busy = false;
		loop.in_flight--;
		/* The kernel ends a watch when completions overflow. */
		if (watched >= 0 && res >= 0 && !loop.closing)
			loop_watch(op, watched);
	}
	op->done(op, res);
}

/* Those that are deferred meanwhile run in the next turn. */
static void run_tasks(void)
{
	unsigned int nr = loop.nr_tasks;
	struct loop_task *task;

	for (; nr && loop.tasks; nr--) {
		task = loop.tasks;
		loop_undefer(task);
		task->run(task);
	}
}

static int turn(void)
{
	struct io_uring_cqe *cqe;
	unsigned int head, seen = 0;
	int ret;

	if (loop.tasks)
		ret = io_uring_submit_and_get_events(&loop.ring);
	else
		ret = io_uring_submit_and_wait(&loop.ring, 1);
	if (ret < 0 && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
		return fail(ret, "io_uring: %s", strerror(-ret));

	io_uring_for_each_cqe(&loop.ring, head, cqe) {
		seen++;
		complete(cqe);
	}
	io_uring_cq_advance(&loop.ring, seen);
	run_tasks();
	return 0;
}

int loop_run(void)
{
	int ret = 0;

	while (!ret && !loop.quit)
		ret = turn();
	loop.quit = false;
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
		ret = turn();
	/* Else the kernel keeps them for a second, and disks are busy. */
	if (loop.files)
		io_uring_unregister_files(&loop.ring);
	io_uring_queue_exit(&loop.ring);
	if (loop.wake_fd >= 0)
		close(loop.wake_fd);
	if (loop.soon_fd >= 0)
		close(loop.soon_fd);
	loop.wake_fd = -1;
	loop.soon_fd = -1;
	loop.ready = false;
}
