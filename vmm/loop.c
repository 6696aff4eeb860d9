// SPDX-License-Identifier: GPL-2.0
/*
 * The event loop: one io_uring, run by the main thread.
 *  1. Operations are submitted with a struct loop_op that the caller owns and
 *     that calls back once, with the result; an operation's buffer belongs to
 *     the kernel until then (loop_ops.c).
 *  2. A turn of the loop is one system call: it submits what the turn before
 *     has gathered, or waits.  loop_defer() has a task run at the end of a
 *     turn, when all its completions are handled: what serves a batch (one
 *     look at a ring, one interrupt) is done there, once.
 *  3. It waits for two things, signals of the bells' eventfd (bell.c) and
 *     completions: in the ring, which then polls the eventfd, or by reading the
 *     eventfd, which then the ring signals.  wait_choice.c says how.
 *  4. Other threads reach the loop by loop_wake(), or by loop_wake_soon(),
 *     which lets a few milliseconds of their work gather first.
 *  5. loop_fini() leaves no operation in flight.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "loop.h"

#define CQ_ENTRIES	1024
#define SOON_NS		2000000
#define BLIND_MAX	2	/* turns without a look at the bells */

struct loop loop = { .wake_fd = -1, .soon_fd = -1 };

int (*loop_guard)(struct io_uring *ring);

void loop_wake(void)
{
	atomic_store(&loop.asked, true);
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

/* What was signalled before this is found by it. */
static void look(void)
{
	loop.blind = 0;
	bells_look();
	if (atomic_load_explicit(&loop.asked, memory_order_relaxed) &&
	    atomic_exchange(&loop.asked, false))
		loop.woken(loop.arg);
}

static void wake_done(struct loop_op *op, int res)
{
	(void)op;
	if (!loop.closing && res >= 0)
		look();
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

/*
 * Kernels since 6.11 (seen: Debian's 6.12.117) may not signal the eventfd when
 * what a ring polls is ready: they put that off, and then do it once for ever.
 */
static bool ring_signals(unsigned int flags)
{
	return flags & IORING_SETUP_DEFER_TASKRUN && host_kernel_before(6, 11);
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
		loop.can_read = ring_signals(flags[i]);
		if (loop.can_read)
			p.flags |= IORING_SETUP_TASKRUN_FLAG;

		ret = io_uring_queue_init_params(LOOP_ENTRIES, &loop.ring, &p);
	}
	return ret;
}

/* Before the ring may only do what it has to. */
static void choose_wait(void)
{
	if (loop.can_read &&
	    (io_uring_register_eventfd(&loop.ring, loop.wake_fd) ||
	     io_uring_cq_eventfd_toggle(&loop.ring, false)))
		loop.can_read = false;
	wait_choice_init(&loop.choice, loop.can_read);
	loop.by_read = loop.can_read;
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
	loop.blind = 0;
	atomic_store(&loop.asked, false);
	ret = create_ring();
	if (ret)
		return fail(ret, "io_uring: %s: allow it in /proc/sys/kernel/io_uring_disabled and in the sandbox",
			    strerror(-ret));
	loop.ready = true;
	loop.file_used = 0;
	loop.files = !io_uring_register_files_sparse(&loop.ring, LOOP_FILES);
	loop_memory_register(&loop.ring);
	/* So is the ring itself, for this thread; old kernels look it up. */
	io_uring_register_ring_fd(&loop.ring);
	stop_telling_cpu();
	loop.wake_fd = bells_open();
	loop.soon_fd = timerfd_create(CLOCK_MONOTONIC,
				      TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop.wake_fd < 0 || loop.soon_fd < 0) {
		ret = fail(-errno, "cannot create the event loop: %s",
			   strerror(errno));
		loop_fini();
		return ret;
	}
	choose_wait();
	ret = loop_guard ? loop_guard(&loop.ring) : 0;
	if (ret) {
		loop_fini();
		return fail(ret, "io_uring: cannot be restricted: %s: try --sandbox off",
			    strerror(-ret));
	}

	loop.wake_op.done = wake_done;
	loop.soon_op.done = soon_done;
	if (!loop.by_read)
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
		bool eventfd = op->eventfd;

		op->busy = false;
		loop.in_flight--;
		loop.eventfds -= eventfd;
		/* The kernel ends a watch when completions overflow. */
		if (watched >= 0 && res >= 0 && !loop.closing)
			eventfd ? loop_watch_eventfd(op, watched) :
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

/* The kernel has completions that it will only show when it is called. */
static bool held_back(void)
{
	return IO_URING_READ_ONCE(*loop.ring.sq.kflags) &
	       (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* Everything that is not to be waited for in the ring signals @wake_fd. */
static int wait_by_read(void)
{
	long ret = 0;
	u64 count;

	IO_URING_WRITE_ONCE(*loop.ring.cq.kflags, 0);
	/* Either the kernel sees that it is to signal, or we what there is. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!io_uring_cq_ready(&loop.ring) && !held_back())
		ret = loop_call(SYS_read, loop.wake_fd, &count, sizeof(count));
	IO_URING_WRITE_ONCE(*loop.ring.cq.kflags, IORING_CQ_EVENTFD_DISABLED);
	if (ret < 0)
		return ret;
	wait_choice_note(&loop.choice, held_back() ||
				       io_uring_cq_ready(&loop.ring));
	look();
	return 0;
}

static int turn_by_read(void)
{
	int ret = 0;

	if (io_uring_sq_ready(&loop.ring) || held_back())
		ret = io_uring_submit_and_get_events(&loop.ring);
	else if (!loop.tasks && !io_uring_cq_ready(&loop.ring))
		return wait_by_read();
	if (++loop.blind == BLIND_MAX)
		look();
	return ret;
}

static void change_wait(void)
{
	bool by_read = loop.choice.by_read && !loop.eventfds;

	if (loop.by_read == by_read || loop.closing)
		return;
	/* A poll that is being taken back has to be gone before a new one. */
	if (by_read)
		loop_cancel(&loop.wake_op);
	else if (loop.wake_op.busy || loop_watch(&loop.wake_op, loop.wake_fd))
		return;
	loop.by_read = by_read;
}

static int turn_in_ring(void)
{
	if (loop.tasks)
		return io_uring_submit_and_get_events(&loop.ring);
	return io_uring_submit_and_wait(&loop.ring, 1);
}

static int turn(void)
{
	struct io_uring_cqe *cqe;
	unsigned int head, seen = 0;
	bool completed = false;
	int ret;

	change_wait();
	ret = loop.by_read ? turn_by_read() : turn_in_ring();
	if (ret < 0 && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
		return fail(ret, "io_uring: %s", strerror(-ret));

	io_uring_for_each_cqe(&loop.ring, head, cqe) {
		seen++;
		completed |= cqe->user_data != (uintptr_t)&loop.wake_op;
		complete(cqe);
	}
	io_uring_cq_advance(&loop.ring, seen);
	if (seen && loop.can_read && !loop.by_read)
		wait_choice_note(&loop.choice, completed);
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
	loop.by_read = false;
	loop_cancel(&loop.wake_op);
	loop_cancel(&loop.soon_op);
	while (!ret && loop.in_flight)
		ret = turn();
	/* Else the kernel keeps them for a second, and disks are busy. */
	if (loop.files)
		io_uring_unregister_files(&loop.ring);
	io_uring_queue_exit(&loop.ring);
	loop_pins_unregister();
	if (loop.wake_fd >= 0)
		bells_close();
	if (loop.soon_fd >= 0)
		close(loop.soon_fd);
	loop.wake_fd = -1;
	loop.soon_fd = -1;
	loop.ready = false;
}
