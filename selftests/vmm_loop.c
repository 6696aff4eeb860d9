// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies pvhv-run's event loop: every operation completes once with the kernel's result, watched eventfds wake it without being
 * read, deferred tasks run once and after a turn's completions, registered memory moves like any other, more operations than the ring has entries are all done, and
 * after loop_fini() nothing is in flight and no file is held. Bells and completions end a wait whenever they come, however it waits,
 * and how it waits follows from what ended the waits before. Runs on any machine with io_uring; by reading it waits on a 6.1 host only.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "../vmm/vmm.h"

static int woken_nr;

static void woken(void *arg)
{
	woken_nr++;
	loop_quit();
}

struct counted {
	struct loop_op op;
	int nr, res, stop_at;
};

static int pending;

static void counted_done(struct loop_op *op, int res)
{
	struct counted *c = container_of(op, struct counted, op);

	c->nr++;
	c->res = res;
	if (c->nr == c->stop_at)
		loop_quit();
	if (!--pending)
		loop_quit();
}

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

/* loop_quit() is for good; a test that goes on starts anew. */
static void init(void)
{
	ASSERT_EQ(loop_init(woken, NULL), 0);
	pending = -1;
}

static void *wake_thread(void *arg)
{
	usleep(20000);
	loop_wake();
	return NULL;
}

static void test_wake(void)
{
	pthread_t t;

	init();
	ASSERT_EQ(pthread_create(&t, NULL, wake_thread, NULL), 0);
	ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(woken_nr, 1);
	pthread_join(t, NULL);
	loop_fini();

	init();
	loop_wake_soon();
	ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(woken_nr, 2);
	loop_fini();
}

static void *signal_thread(void *arg)
{
	int fd = *(int *)arg, i;
	u64 one = 1;

	for (i = 0; i < 5; i++) {
		usleep(10000);
		if (write(fd, &one, sizeof(one)) != sizeof(one))
			return (void *)1;
	}
	return NULL;
}

static void test_watch_needs_no_read(void)
{
	struct counted c = { .op.done = counted_done, .stop_at = 5 };
	int fd = ASSERT_OK(eventfd(0, EFD_NONBLOCK));
	void *bad;
	pthread_t t;
	u64 v;

	init();
	ASSERT_EQ(loop_watch_eventfd(&c.op, fd), 0);
	ASSERT_EQ(pthread_create(&t, NULL, signal_thread, &fd), 0);
	ASSERT_EQ(loop_run(), 0);
	pthread_join(t, &bad);
	ASSERT(!bad);
	ASSERT_EQ(c.nr, 5);
	ASSERT(c.op.busy);
	ASSERT_EQ(read(fd, &v, sizeof(v)), sizeof(v));
	ASSERT_EQ(v, 5);
	loop_cancel(&c.op);
	loop_fini();
	ASSERT(!c.op.busy);
	ASSERT_EQ(c.nr, 6);
	ASSERT_EQ(c.res, -ECANCELED);
}

static void test_timers(void)
{
	struct counted c[3] = { };
	static const int ms[] = { 60, 20, 40 };
	u64 start = now_ms();
	int i;

	init();
	pending = 3;
	for (i = 0; i < 3; i++) {
		c[i].op.done = counted_done;
		ASSERT_EQ(loop_timer(&c[i].op, ms[i]), 0);
	}
	ASSERT_EQ(loop_run(), 0);
	ASSERT_GE(now_ms() - start, 60);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(c[i].res, -ETIME);
	loop_fini();
}

static char order[64];

struct named_task {
	struct loop_task task;
	char name;
	int again;
	struct loop_task *drop;
};

static void task_run(struct loop_task *task)
{
	struct named_task *t = container_of(task, struct named_task, task);

	order[strlen(order)] = t->name;
	if (t->drop)
		loop_undefer(t->drop);
	if (t->again-- > 0)
		loop_defer(task);
	else if (t->name == 'c')
		loop_quit();
}

static void test_deferred(void)
{
	struct named_task a = { .task.run = task_run, .name = 'a', .again = 1 };
	struct named_task b = { .task.run = task_run, .name = 'b' };
	struct named_task c = { .task.run = task_run, .name = 'c', .again = 2 };
	struct named_task d = { .task.run = task_run, .name = 'd' };

	init();
	b.drop = &d.task;
	loop_defer(&a.task);
	loop_defer(&b.task);
	loop_defer(&a.task);		/* queued already */
	loop_defer(&c.task);
	loop_defer(&d.task);		/* taken away by b before its turn */
	ASSERT_EQ(loop_run(), 0);
	ASSERT_MSG(!strcmp(order, "abcacc"), "ran as %s", order);
	loop_undefer(&a.task);		/* not queued: nothing */
	loop_fini();
}

static void test_files(void)
{
	char dir[] = "/tmp/vmm_loop.XXXXXX", path[64], data[3][512], back[1536];
	struct iovec iov[3];
	struct counted c = { .op.done = counted_done };
	struct loop_file file;
	int fd, i, round;

	ASSERT(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/f", dir);
	fd = ASSERT_OK(open(path, O_RDWR | O_CREAT, 0600));
	for (i = 0; i < 3; i++) {
		memset(data[i], 'a' + i, 512);
		iov[i].iov_base = data[i];
		iov[i].iov_len = 512;
	}
	for (round = 0; round < 2; round++) {
		init();
		if (round)	/* not registered */
			file = (struct loop_file){ .fd = fd, .slot = -1 };
		else
			loop_file_add(&file, fd);
		ASSERT_EQ(file.slot < 0, round);
#define DO(what, result) do {				\
		pending = 1;				\
		ASSERT_EQ(what, 0);			\
		ASSERT_EQ(loop_run(), 0);		\
		ASSERT_EQ(c.res, result);		\
		loop_fini();				\
		init();					\
		if (!round)				\
			loop_file_add(&file, fd);	\
	} while (0)
		DO(loop_pwritev(&c.op, &file, iov, 3, 512, 0), 1536);
		DO(loop_pwritev(&c.op, &file, iov, 1, 0, RWF_DSYNC), 512);
		DO(loop_fdatasync(&c.op, &file), 0);
		ASSERT_EQ(pread(fd, back, 512, 0), 512);
		ASSERT(!memcmp(back, data[0], 512));
		ASSERT_EQ(pread(fd, back, 1536, 512), 1536);
		ASSERT(!memcmp(back, data, 1536));
		DO(loop_fallocate(&c.op, &file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 512, 512), 0);
		iov[0].iov_base = back;
		DO(loop_preadv(&c.op, &file, iov, 1, 512), 512);
		for (i = 0; i < 512; i++)
			ASSERT_EQ(back[i], 0);
		memset(back, 1, sizeof(back));
		for (i = 0; i < 3; i++)
			iov[i].iov_base = back + 512 * i;
		DO(loop_preadv(&c.op, &file, iov, 3, 1024), 1024);	/* ends with the file */
		ASSERT(!memcmp(back, data[1], 1024));
		for (i = 0; i < 3; i++)
			iov[i].iov_base = data[i];
		loop_file_drop(&file);
		loop_fini();
		ASSERT_OK(ftruncate(fd, 0));
	}
	close(fd);
	unlink(path);
	rmdir(dir);
}

/* Pieces in the memory, across the end of a registered buffer and of the memory, and elsewhere. */
static void test_registered_memory(void)
{
	static const struct { long at; size_t len; } pieces[] = {
		{ 0, 4096 }, { GIB - 4096, 4096 }, { GIB - 4096, 8192 }, { GIB, 512 }, { GIB + 2 * MIB - 512, 512 },
		{ GIB + 2 * MIB - 512, 1024 },
	};
	struct counted c = { .op.done = counted_done, .stop_at = 1 };
	char path[] = "/tmp/vmm_loop.XXXXXX";
	struct loop_file file;
	u8 *mem, text[8192];
	struct iovec iov;
	unsigned int i, j;
	int fd, kept;

	fd = ASSERT_OK(mkstemp(path));
	unlink(path);
	/* Only what is registered is there in memory, and all of it: zeros in between cost nothing but the first GiB's ends. */
	mem = mmap(NULL, GIB + 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT(mem != MAP_FAILED);
	kept = memfd_create("vmm_loop", MFD_CLOEXEC);
	ASSERT_OK(kept);
	ASSERT_OK(ftruncate(kept, 2 * MIB));
	/* One and the same 2 MiB all over, so that a GiB can be pinned anywhere. */
	for (i = 0; i < (GIB + 2 * MIB) / (2 * MIB); i++)
		ASSERT(mmap(mem + i * 2 * MIB, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, kept, 0) != MAP_FAILED);
	loop_memory(mem, GIB + 2 * MIB);
	init();
	loop_file_add(&file, fd);
	for (i = 0; i < ARRAY_SIZE(pieces); i++) {
		for (j = 0; j < sizeof(text); j++)
			text[j] = 'a' + (i + j) % 23;
		iov = (struct iovec){ mem + pieces[i].at, pieces[i].len };
		memcpy(iov.iov_base, text, pieces[i].len);
		c.nr = 0;
		ASSERT_EQ(loop_pwritev(&c.op, &file, &iov, 1, i * 8192, RWF_DSYNC), 0);
		ASSERT_EQ(loop_run(), 0);
		ASSERT_EQ(c.res, pieces[i].len);
		memset(iov.iov_base, 0, pieces[i].len);
		c.nr = 0;
		ASSERT_EQ(loop_preadv(&c.op, &file, &iov, 1, i * 8192), 0);
		ASSERT_EQ(loop_run(), 0);
		ASSERT_EQ(c.res, pieces[i].len);
		ASSERT(!memcmp(iov.iov_base, text, pieces[i].len));
	}
	loop_file_drop(&file);
	loop_fini();
	loop_memory(NULL, 0);
	munmap(mem, GIB + 4 * MIB);
	close(kept);
	close(fd);
}

/* KiB that the kernel keeps where they are */
static long pinned(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	long kib = -1;

	ASSERT(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "VmPin: %ld kB", &kib);
	fclose(f);
	return kib;
}

/* What was let go is free once the kernel gets to it. */
static bool pinned_comes_to(long kib)
{
	int tries;

	for (tries = 0; pinned() != kib && tries < 100; tries++)
		usleep(100000);
	return pinned() == kib;
}

#define AREA		(2 * MIB)
#define PIECE		4096
#define MUCH		64	/* pieces of 4 KiB after which an area is pinned */

/* A piece goes to the file and comes back. */
static void there_and_back(struct loop_file *file, u8 *at, u8 what)
{
	struct counted c = { .op.done = counted_done, .stop_at = 1 };
	struct iovec iov = { at, PIECE };
	unsigned int i;

	memset(at, what, PIECE);
	ASSERT_EQ(loop_pwritev(&c.op, file, &iov, 1, 0, 0), 0);
	ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(c.res, PIECE);
	memset(at, 0, PIECE);
	c.nr = 0;
	ASSERT_EQ(loop_preadv(&c.op, file, &iov, 1, 0), 0);
	ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(c.res, PIECE);
	for (i = 0; i < PIECE; i++)
		ASSERT_EQ(at[i], what);
}

static void use(struct loop_file *file, u8 *at, unsigned int pieces)
{
	unsigned int i;

	for (i = 0; i < pieces; i += 2)
		there_and_back(file, at + i * PIECE % AREA, i);
}

/*
 * An area that is used much is pinned, and a second one, of 64 MiB; a third one in place of the first that is used no more; what is
 * given back is not, and new pages there are what is read to; nor is anything while memory is watched.
 */
static void test_pins(void)
{
	struct mem mem = { .size = 64 * MIB };
	struct loop_file file;
	int fd = ASSERT_OK(memfd_create("vmm_loop", MFD_CLOEXEC)), i;
	long before;

	mem.host = mmap(NULL, mem.size + AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT(mem.host != MAP_FAILED);
	mem.host = (u8 *)ALIGN_UP((uintptr_t)mem.host, AREA);
	loop_pins(&mem);
	init();
	before = pinned();
	if (before < 0 || !mem.let_go) {
		loop_fini();
		SKIP("no such buffers");
	}
	loop_file_add(&file, fd);
	use(&file, mem.host, 2 * MUCH);
	ASSERT_EQ(pinned(), before);	/* not worth it for this file */
	file.pins = true;
	use(&file, mem.host, MUCH - 2);
	ASSERT_EQ(pinned(), before);
	use(&file, mem.host, 2);
	ASSERT_EQ(pinned(), before + AREA / KIB);
	use(&file, mem.host, MUCH);
	use(&file, mem.host + 31 * AREA, MUCH);
	use(&file, mem.host + 31 * AREA, MUCH);
	ASSERT_EQ(pinned(), before + 2 * AREA / KIB);
	/* across their ends */
	for (i = 0; i < 2 * MUCH; i++)
		there_and_back(&file, mem.host + AREA - PIECE / 2, i);
	ASSERT_EQ(pinned(), before + 2 * AREA / KIB);

	/* Both were in use; then only one. */
	use(&file, mem.host + 2 * AREA, MUCH);
	for (i = 0; i < 2; i++) {
		use(&file, mem.host + 31 * AREA, 2);
		use(&file, mem.host + 2 * AREA, MUCH);
	}
	ASSERT(pinned_comes_to(before + 2 * AREA / KIB));
	use(&file, mem.host, 2);
	use(&file, mem.host + 2 * AREA, 2);

	mem.let_go(mem.host + 31 * AREA + PIECE, PIECE);
	mem.let_go(mem.host + AREA, AREA);
	ASSERT(pinned_comes_to(before + AREA / KIB));
	mem.let_go(mem.host + 2 * AREA, PIECE);
	ASSERT(pinned_comes_to(before));
	for (i = 0; i < 32; i++) {
		ASSERT_OK(madvise(mem.host + i * AREA, AREA, MADV_DONTNEED));
		there_and_back(&file, mem.host + i * AREA, i);
	}

	mem.held = true;
	use(&file, mem.host, 2 * MUCH);
	ASSERT_EQ(pinned(), before);
	mem.held = false;
	use(&file, mem.host, 2 * MUCH);
	ASSERT_EQ(pinned(), before + AREA / KIB);
	ASSERT_OK(madvise(mem.host, AREA, MADV_DONTNEED));
	loop_file_drop(&file);
	loop_fini();
	ASSERT(!mem.let_go);
	ASSERT(pinned_comes_to(before));
	munmap(mem.host, mem.size);
	close(fd);
}

/* Where all areas are used alike none is pinned. */
static void test_pins_at_random(void)
{
	struct mem mem = { .size = 128 * MIB };
	struct loop_file file;
	int fd = ASSERT_OK(memfd_create("vmm_loop", MFD_CLOEXEC)), i;
	long before;

	mem.host = mmap(NULL, mem.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT(mem.host != MAP_FAILED);
	loop_pins(&mem);
	init();
	before = pinned();
	loop_file_add(&file, fd);
	file.pins = true;
	for (i = 0; i < 3000; i++)
		there_and_back(&file, mem.host + i % 64 * AREA, i);
	ASSERT_EQ(pinned(), before);
	loop_file_drop(&file);
	loop_fini();
	munmap(mem.host, mem.size);
	close(fd);
}

static void test_file_slots(void)
{
	struct loop_file file[80];
	int i, registered = 0;

	init();
	for (i = 0; i < 80; i++) {
		loop_file_add(&file[i], STDIN_FILENO);
		registered += file[i].slot >= 0;
	}
	ASSERT_EQ(registered, 64);
	loop_file_drop(&file[10]);
	loop_file_drop(&file[10]);
	loop_file_drop(&file[70]);
	loop_file_add(&file[70], STDIN_FILENO);
	ASSERT_GE(file[70].slot, 0);
	loop_fini();
}

static void test_more_than_the_ring(void)
{
	static struct counted c[5000];
	static u8 buf[5000];
	int fd = ASSERT_OK(memfd_create("f", 0)), i;
	struct loop_file file = { .fd = fd, .slot = -1 };
	struct iovec iov;

	for (i = 0; i < 5000; i++)
		buf[i] = i * 7;
	ASSERT_EQ(write(fd, buf, sizeof(buf)), sizeof(buf));
	memset(buf, 0, sizeof(buf));
	init();
	pending = 5000;
	for (i = 0; i < 5000; i++) {
		c[i].op.done = counted_done;
		iov = (struct iovec){ buf + i, 1 };
		ASSERT_EQ(loop_preadv(&c[i].op, &file, &iov, 1, i), 0);
	}
	ASSERT_EQ(loop_run(), 0);
	for (i = 0; i < 5000; i++) {
		ASSERT_EQ(c[i].nr, 1);
		ASSERT_EQ(c[i].res, 1);
		ASSERT_EQ(buf[i], (u8)(i * 7));
	}
	loop_fini();
}

static void test_fini_waits(void)
{
	struct counted c = { .op.done = counted_done };
	int fds[2];
	char byte;

	ASSERT_OK(pipe(fds));
	init();
	ASSERT_EQ(loop_read(&c.op, fds[0], &byte, 1), 0);
	loop_cancel(&c.op);
	loop_fini();
	ASSERT_EQ(c.nr, 1);
	ASSERT_EQ(c.res, -ECANCELED);
}

/* A lease for writing is given where nobody else has the file open. */
static void test_fini_lets_files_go(void)
{
	char path[] = "/tmp/vmm_loop.XXXXXX", byte;
	int fd = ASSERT_OK(mkstemp(path)), other;
	struct counted c = { .op.done = counted_done };
	struct iovec iov = { &byte, 1 };
	struct loop_file file;

	init();
	loop_file_add(&file, fd);
	pending = 1;
	ASSERT_EQ(loop_preadv(&c.op, &file, &iov, 1, 0), 0);
	ASSERT_EQ(loop_run(), 0);
	loop_file_drop(&file);
	loop_fini();
	close(fd);
	other = ASSERT_OK(open(path, O_RDWR));
	ASSERT_OK(fcntl(other, F_SETLEASE, F_WRLCK));
	close(other);
	unlink(path);
}

/* --- bells ----------------------------------------------------------------------------------------------------- */

#define ROUNDS		4000
#define RINGERS		3

/* Somebody who rings when it is wanted, after a while that sweeps over the time in which the loop goes to wait. */
struct ringer {
	struct bell bell;
	struct loop_task task;
	volatile u16 word;
	u16 seen;		/* the loop's */
	atomic_uint wanted;	/* how often it was */
	unsigned int rounds;
	int fd;
	pthread_t thread;
};

static struct ringer ringers[RINGERS];
static int ringing;

static void want(struct ringer *r)
{
	bell_out(&r->bell, &r->word, r->seen);
	atomic_fetch_add(&r->wanted, 1);
}

static void rung(struct loop_task *task)
{
	struct ringer *r = container_of(task, struct ringer, task);

	ASSERT_EQ(r->word, (u16)(r->seen + 1));
	r->seen++;
	if (++r->rounds < ROUNDS)
		want(r);
	else if (!--ringing)
		loop_quit();
}

static void *ring(void *arg)
{
	struct ringer *r = arg;
	unsigned int i;
	int spin;

	for (i = 1; i <= ROUNDS; i++) {
		while (atomic_load(&r->wanted) < i)
			sched_yield();
		for (spin = i % 700; spin; spin--)
			__asm__ volatile("pause");
		r->word++;
		loop_signal(r->fd);
	}
	return NULL;
}

static void start_ringers(int nr)
{
	int i;

	ringing = nr;
	for (i = 0; i < nr; i++) {
		struct ringer *r = &ringers[i];

		memset(r, 0, sizeof(*r));
		r->word = 65000;	/* and once around */
		r->seen = 65000;
		r->task.run = rung;
		r->bell.task = &r->task;
		r->fd = ASSERT_OK(bell_join());
		want(r);
		ASSERT_EQ(pthread_create(&r->thread, NULL, ring, r), 0);
	}
}

static void end_ringers(int nr)
{
	int i;

	for (i = 0; i < nr; i++) {
		pthread_join(ringers[i].thread, NULL);
		bell_leave();
	}
}

static void test_bells(void)
{
	int nr;

	for (nr = 1; nr <= RINGERS; nr += RINGERS - 1) {
		init();
		start_ringers(nr);
		ASSERT_EQ(loop_run(), 0);
		end_ringers(nr);
		loop_fini();
	}
}

/* A byte in a pipe, which the ring reads. */
struct sender {
	struct loop_op op;
	int fds[2];
	u8 byte;
	unsigned int rounds;
	atomic_uint wanted;
	pthread_t thread;
};

static void sent(struct loop_op *op, int res)
{
	struct sender *s = container_of(op, struct sender, op);

	ASSERT_EQ(res, 1);
	ASSERT_EQ(s->byte, (u8)s->rounds);
	if (++s->rounds == ROUNDS) {
		if (!--ringing)
			loop_quit();
		return;
	}
	ASSERT_EQ(loop_read(op, s->fds[0], &s->byte, 1), 0);
	atomic_fetch_add(&s->wanted, 1);
}

static void *send_bytes(void *arg)
{
	struct sender *s = arg;
	unsigned int i;
	int spin;
	u8 byte;

	for (i = 1; i <= ROUNDS; i++) {
		while (atomic_load(&s->wanted) < i)
			sched_yield();
		for (spin = i % 900; spin; spin--)
			__asm__ volatile("pause");
		byte = i - 1;
		if (write(s->fds[1], &byte, 1) != 1)
			return (void *)1;
	}
	return NULL;
}

static void start_sender(struct sender *s)
{
	memset(s, 0, sizeof(*s));
	ASSERT_OK(pipe(s->fds));
	s->op.done = sent;
	atomic_store(&s->wanted, 1);
	ASSERT_EQ(loop_read(&s->op, s->fds[0], &s->byte, 1), 0);
	ASSERT_EQ(pthread_create(&s->thread, NULL, send_bytes, s), 0);
}

static void end_sender(struct sender *s)
{
	void *bad;

	pthread_join(s->thread, &bad);
	ASSERT(!bad);
	close(s->fds[0]);
	close(s->fds[1]);
}

/* First completions alone, for which it waits in the ring by and by; then bells as well, and at the end these alone. */
static void test_bells_and_completions(void)
{
	struct sender s;
	int bells;

	for (bells = 0; bells <= RINGERS; bells++) {
		init();
		start_sender(&s);
		start_ringers(bells);
		ringing++;
		ASSERT_EQ(loop_run(), 0);
		end_ringers(bells);
		end_sender(&s);
		loop_fini();
	}
}

/* With an eventfd watched it waits in the ring, and there, too, bells are heard. */
static void test_bells_beside_an_eventfd(void)
{
	struct counted c = { .op.done = counted_done };
	int fd = ASSERT_OK(eventfd(0, EFD_NONBLOCK));

	init();
	start_ringers(RINGERS);
	ASSERT_EQ(loop_watch_eventfd(&c.op, fd), 0);
	loop_signal(fd);
	ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(c.nr, 1);
	ASSERT_EQ(c.res, POLLIN);
	loop_cancel(&c.op);
	end_ringers(RINGERS);
	loop_fini();
	close(fd);
}

static void never(struct loop_task *task)
{
	ASSERT(!"a bell that nobody rang");
}

static void *signal_for_nothing(void *arg)
{
	int i;

	for (i = 0; i < 2000; i++)
		loop_signal(*(int *)arg);
	loop_wake();
	return NULL;
}

/* The eventfd alone, as by a guest that kicks and has nothing, wakes only the loop. */
static void test_bell_for_nothing(void)
{
	struct loop_task task = { .run = never };
	struct bell bell = { .task = &task };
	volatile u16 word = 7;
	pthread_t t;
	int fd;

	init();
	woken_nr = 0;
	fd = ASSERT_OK(bell_join());
	bell_out(&bell, &word, 7);
	ASSERT_EQ(pthread_create(&t, NULL, signal_for_nothing, &fd), 0);
	ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(woken_nr, 1);
	pthread_join(t, NULL);
	bell_in(&bell);
	bell_in(&bell);
	word = 8;
	bells_look();
	ASSERT(!task.queued);
	bell_leave();
	loop_fini();
}

/* The eventfd is one for all, lives as long as one of them, and has so many owners. */
static void test_bell_owners(void)
{
	int first = ASSERT_OK(bell_join()), i;

	for (i = 1; i < 64; i++)
		ASSERT_EQ(bell_join(), first);
	ASSERT_EQ(bell_join(), -ENOSPC);
	init();
	loop_fini();
	bell_leave();
	ASSERT_EQ(bell_join(), first);
	for (i = 0; i < 64; i++)
		bell_leave();
	ASSERT_EQ(fcntl(first, F_GETFD), -1);
}

struct busy_task {
	struct loop_task task, rung;
	struct bell bell;
	volatile u16 word;
	int turns, fd;
};

static void be_busy(struct loop_task *task)
{
	struct busy_task *b = container_of(task, struct busy_task, task);

	if (b->turns++ == 10) {
		b->word++;
		loop_signal(b->fd);	/* which is not waited for */
	}
	ASSERT_LE(b->turns, 15);
	loop_defer(task);
}

static void heard(struct loop_task *task)
{
	loop_quit();
}

/* A loop that never waits looks at the bells, too. */
static void test_bells_while_busy(void)
{
	struct busy_task b = { .task.run = be_busy, .rung.run = heard };

	init();
	b.fd = ASSERT_OK(bell_join());
	b.bell.task = &b.rung;
	bell_out(&b.bell, &b.word, 0);
	loop_defer(&b.task);
	ASSERT_EQ(loop_run(), 0);
	loop_undefer(&b.task);
	bell_leave();
	loop_fini();
}

/* More completions at once than the ring shows, while it waits for them. */
static void test_overflow(void)
{
	static struct counted c[3000];
	struct counted watched = { .op.done = counted_done };
	int round, i, fds[2];

	for (round = 0; round < 2; round++) {
		init();
		ASSERT_OK(pipe(fds));
		ASSERT_EQ(loop_watch(&watched.op, fds[0]), 0);
		pending = 3000;
		for (i = 0; i < 3000; i++) {
			c[i] = (struct counted){ .op.done = counted_done };
			ASSERT_EQ(loop_timer_us(&c[i].op, 30000 - i), 0);
		}
		usleep(round * 60000);
		ASSERT_EQ(loop_run(), 0);
		for (i = 0; i < 3000; i++) {
			ASSERT_EQ(c[i].nr, 1);
			ASSERT_EQ(c[i].res, -ETIME);
		}
		watched.nr = 0;
		watched.stop_at = 1;
		ASSERT_EQ(write(fds[1], "", 1), 1);
		ASSERT_EQ(loop_run(), 0);
		ASSERT_EQ(watched.res, POLLIN);
		loop_cancel(&watched.op);
		loop_fini();
		close(fds[0]);
		close(fds[1]);
	}
}

static void test_choice(void)
{
	static const struct {
		bool before;
		int waits, ring;	/* the first of them */
		bool after;
	} table[] = {
		{ true, 63, 63, true }, { true, 64, 64, false }, { true, 64, 41, false }, { true, 64, 40, true },
		{ false, 63, 0, false }, { false, 64, 0, true }, { false, 64, 40, true }, { false, 64, 41, false },
		{ true, 128, 40, true }, { true, 128, 64, true }, { true, 127, 64, false },
	};
	struct wait_choice c;
	unsigned int i;
	int wait;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		wait_choice_init(&c, table[i].before);
		ASSERT_EQ(c.by_read, table[i].before);
		for (wait = 0; wait < table[i].waits; wait++)
			wait_choice_note(&c, wait < table[i].ring);
		ASSERT_MSG(c.by_read == table[i].after, "row %u", i);
	}
}

static const struct tap_test tests[] = {
	TEST(wake),
	TEST(watch_needs_no_read),
	TEST(timers),
	TEST(deferred),
	TEST(files),
	TEST(registered_memory),
	TEST(pins),
	TEST(pins_at_random),
	TEST(file_slots),
	TEST(more_than_the_ring),
	TEST(fini_waits),
	TEST(fini_lets_files_go),
	TEST(bells),
	TEST(bells_and_completions),
	TEST(bells_beside_an_eventfd),
	TEST(bell_for_nothing),
	TEST(bell_owners),
	TEST(bells_while_busy),
	TEST(overflow),
	TEST(choice),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
