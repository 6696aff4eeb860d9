// SPDX-License-Identifier: GPL-2.0
/*
 * Live migration between two machines of this test (lib/fakevm.h): memory equal at the end, with one and four connections, deltas,
 * compression, a guest that writes; budgets, cancel, time-out; preconditions; the hand-over's ways to fail.
 */
#include <stdio.h>
#include <time.h>

#include "fakevm.h"

#define MIB	(1ull << 20)

struct pair {
	struct fakewire wire;
	struct fakevm src, dst;
	struct migrate_ops ops;
	struct migrate_params params;
	struct migrate *send, *recv;
	struct migrate_result sent, received;
};

static void pair_init(struct pair *p, uint64_t low, uint64_t high)
{
	fakewire_init(&p->wire);
	fakevm_init(&p->src, &p->wire, true, low, high);
	fakevm_init(&p->dst, &p->wire, false, low, high);
	fakevm_fill(&p->src);
	p->ops = fake_ops;
	migrate_params_init(&p->params);
}

static void pair_start(struct pair *p)
{
	ASSERT_EQ(migrate_receive(&p->recv, &p->ops, &p->dst, &p->params), 0);
	ASSERT_EQ(migrate_send(&p->send, &p->ops, &p->src, &p->params), 0);
}

static void pair_wait(struct pair *p)
{
	migrate_wait(p->send, &p->sent);
	if (!p->wire.in)
		migrate_cancel(p->recv);	/* nobody came */
	migrate_wait(p->recv, &p->received);
}

static void pair_fini(struct pair *p)
{
	fakevm_fini(&p->src);
	fakevm_fini(&p->dst);
	fakewire_fini(&p->wire);
}

/* One of them runs, and has the lock; the one that was told so */
static void check_one_owner(struct pair *p)
{
	bool there = p->sent.owner == MIGRATE_THERE;

	ASSERT_MSG(p->src.running != p->dst.running, "running: %d there %d; %s / %s", p->src.running, p->dst.running,
		   p->sent.why, p->received.why);
	ASSERT_EQ(p->dst.running, there);
	ASSERT_EQ(p->sent.err == 0, there);
	ASSERT_EQ(p->received.err == 0, there);
	ASSERT_EQ(p->received.owner, there ? MIGRATE_HERE : MIGRATE_THERE);
	ASSERT_EQ(p->src.lock_held, !there);
	ASSERT_EQ(p->dst.lock_held, there);
	ASSERT_EQ(p->src.starts, p->src.stops);
	if (there)
		ASSERT(fakevm_equal(&p->src, &p->dst));
	else
		ASSERT(p->sent.why[0] && p->received.why[0]);
}

static void check_moved(struct pair *p)
{
	ASSERT_MSG(!p->sent.err && !p->received.err, "%s / %s", p->sent.why, p->received.why);
	check_one_owner(p);
	ASSERT_EQ(p->sent.progress.state, MIGRATE_COMPLETED);
	ASSERT(p->sent.progress.downtime_us);
	tap_diag("%u rounds, %llu KiB, zero %llu plain %llu delta %llu same %llu, downtime %llu us of %llu",
		 p->sent.progress.round + 1, (unsigned long long)p->sent.progress.bytes / 1024,
		 (unsigned long long)p->sent.progress.pages_zero, (unsigned long long)p->sent.progress.pages_plain,
		 (unsigned long long)p->sent.progress.pages_delta, (unsigned long long)p->sent.progress.pages_same,
		 (unsigned long long)p->sent.progress.downtime_us, (unsigned long long)p->sent.progress.elapsed_us);
}

static void move(uint64_t low, uint64_t high, unsigned int connections, int zstd, uint64_t hot, bool clears)
{
	struct pair p;

	pair_init(&p, low, high);
	if (clears)
		p.ops = fake_ops_clear();
	p.src.clears = clears;
	p.params.connections = connections;
	p.params.zstd = zstd;
	if (hot)
		fakevm_run(&p.src, hot, 20);
	pair_start(&p);
	pair_wait(&p);
	check_moved(&p);
	if (hot)
		ASSERT_GT(p.src.written, 0);
	pair_fini(&p);
}

static void test_idle(void)
{
	move(8 * MIB, 0, 1, 0, 0, false);
}

static void test_odd_sizes(void)
{
	move(FAKE_PAGE, 0, 1, 0, 0, false);
	move(67 * FAKE_PAGE, 300 * FAKE_PAGE, 4, 1, 20, true);
}

static void test_writes_1(void)
{
	move(48 * MIB, 16 * MIB, 1, 0, 2000, false);
}

static void test_writes_4(void)
{
	move(48 * MIB, 16 * MIB, 4, 0, 2000, true);
}

static void test_writes_zstd(void)
{
	move(48 * MIB, 16 * MIB, 2, 1, 2000, true);
}

/* A page that is sent again costs its difference, not itself */
static void test_deltas(void)
{
	struct pair p;

	pair_init(&p, 16 * MIB, 0);
	p.params.downtime_ms = 0;	/* never met */
	p.params.timeout_ms = 1500;
	p.params.timeout_forces = true;
	p.ops.throttle = NULL;
	fakevm_run(&p.src, 200, 5);
	pair_start(&p);
	pair_wait(&p);
	check_moved(&p);
	ASSERT_GT(p.sent.progress.pages_delta, 100);
	pair_fini(&p);
}

/* The guest dirties faster than the link: it is slowed down, and the budget is met */
static void test_throttle(void)
{
	struct pair p;

	pair_init(&p, 32 * MIB, 0);
	p.params.bandwidth = 40 * MIB;
	p.params.cache = 0;
	p.params.downtime_ms = 100;
	fakevm_run(&p.src, 6000, 0);
	pair_start(&p);
	pair_wait(&p);
	check_moved(&p);
	ASSERT_GT(p.sent.progress.throttle, 0);
	ASSERT_EQ(p.src.throttle, 0);
	pair_fini(&p);
}

static void test_bandwidth(void)
{
	struct pair p;

	pair_init(&p, 16 * MIB, 0);
	p.params.bandwidth = 16 * MIB;	/* three quarters of the pages have contents */
	pair_start(&p);
	pair_wait(&p);
	check_moved(&p);
	ASSERT_GE(p.sent.progress.elapsed_us, 650000);
	pair_fini(&p);
}

static void test_cancel(void)
{
	struct migrate_progress pr;
	struct timespec a, b;
	struct pair p;
	int ms;

	for (ms = 0; ms < 100; ms += 9) {
		pair_init(&p, 16 * MIB, 0);
		p.params.bandwidth = 32 * MIB;
		p.params.connections = 1 + ms % 4;
		pair_start(&p);
		usleep(ms * 1000);
		clock_gettime(CLOCK_MONOTONIC, &a);
		migrate_cancel(ms % 2 ? p.send : p.recv);
		migrate_progress(p.send, &pr);
		pair_wait(&p);
		clock_gettime(CLOCK_MONOTONIC, &b);
		check_one_owner(&p);
		ASSERT(p.src.running);
		ASSERT_EQ((ms % 2 ? p.sent : p.received).progress.state, MIGRATE_CANCELLED);
		ASSERT_LT(b.tv_sec - a.tv_sec, 5);
		pair_fini(&p);
	}
}

static void test_timeout(void)
{
	struct pair p;

	pair_init(&p, 32 * MIB, 0);
	p.params.bandwidth = 8 * MIB;
	p.params.timeout_ms = 300;
	pair_start(&p);
	pair_wait(&p);
	check_one_owner(&p);
	ASSERT(p.src.running);
	ASSERT_EQ(p.sent.err, -ETIMEDOUT);
	ASSERT(strstr(p.received.why, "the source says: not done within 300 ms"));
	ASSERT_LT(p.sent.progress.elapsed_us, 3000000);
	pair_fini(&p);
}

static void test_timeout_forces(void)
{
	struct pair p;

	pair_init(&p, 16 * MIB, 0);
	p.params.timeout_ms = 500;
	p.params.timeout_forces = true;
	p.params.downtime_ms = 0;
	p.ops.throttle = NULL;
	fakevm_run(&p.src, 4000, 0);
	pair_start(&p);
	pair_wait(&p);
	check_moved(&p);
	ASSERT_GE(p.sent.progress.elapsed_us, 500000);
	pair_fini(&p);
}

static void test_force(void)
{
	struct pair p;

	pair_init(&p, 16 * MIB, 0);
	p.params.downtime_ms = 0;
	p.ops.throttle = NULL;
	fakevm_run(&p.src, 4000, 0);
	pair_start(&p);
	usleep(300000);
	migrate_force(p.send);
	pair_wait(&p);
	check_moved(&p);
	pair_fini(&p);
}

static void refused(struct pair *p, const char *here, const char *there)
{
	pair_start(p);
	pair_wait(p);
	check_one_owner(p);
	ASSERT_MSG(strstr(p->sent.why, here), "%s", p->sent.why);
	ASSERT_MSG(strstr(p->received.why, there), "%s", p->received.why);
	pair_fini(p);
}

static void test_preconditions(void)
{
	struct pair p;

	pair_init(&p, MIB, 0);
	p.dst.cpu = "GenuineIntel";
	refused(&p, "the destination says: cpu.vendor is AuthenticAMD there, GenuineIntel here",
		"cpu.vendor is AuthenticAMD there, GenuineIntel here");
	pair_init(&p, MIB, MIB);
	munmap(p.dst.ram[1] + 64 * 1024, MIB - 64 * 1024);
	p.dst.size[1] = 64 * 1024;
	refused(&p, "memory block 'high': 1024 KiB at 0x100000000 there, 64 KiB", "give the same --memory");
	pair_init(&p, MIB, 0);
	p.dst.load_err = -EINVAL;
	refused(&p, "the destination says: the devices' state: device 'x' has another size", "device 'x'");
	pair_init(&p, MIB, 0);
	p.src.save_err = -EBUSY;
	refused(&p, "cannot be saved", "the source says: the devices' state cannot be saved");
}

/* What only one side may hold: the source does not let go, or the destination cannot take it; nobody waits for a time-out */
static int keep(void *arg)
{
	return -EIO;
}

static void test_locks(void)
{
	struct pair p;

	pair_init(&p, MIB, 0);
	p.dst.acquire_err = -EAGAIN;
	refused(&p, "gave the machine back", "the disk is locked by somebody else");
	ASSERT_LT(p.received.progress.elapsed_us, 8000000);
	pair_init(&p, MIB, 0);
	p.ops.release = keep;
	refused(&p, "is not let go: Input/output error", "the source says: what only one side may hold");
	ASSERT_LT(p.received.progress.elapsed_us, 8000000);
}

static void test_no_destination(void)
{
	struct pair p;

	pair_init(&p, MIB, 0);
	p.wire.down = true;
	ASSERT_EQ(migrate_send(&p.send, &p.ops, &p.src, &p.params), 0);
	migrate_wait(p.send, &p.sent);
	ASSERT_EQ(p.sent.err, -ECONNREFUSED);
	ASSERT_EQ(p.sent.owner, MIGRATE_HERE);
	ASSERT(p.src.running);
	pair_fini(&p);
}

/* The connection breaks after each of its bytes, in each direction: one of them runs, the other knows why it does not */
struct cuts {
	int direction;
	bool flips;
	long bytes, total;
	atomic_long next;
	atomic_uint moved;
};

static void cut_init(struct pair *p)
{
	pair_init(p, 2 * FAKE_PAGE, 0);
	p->params.zstd = 1;
	p->wire.cut[0] = p->wire.cut[1] = 1 << 30;
}

static void *cutter(void *arg)
{
	struct cuts *cuts = arg;
	struct pair *p = calloc(1, sizeof(*p));
	long at;

	while ((at = cuts->next++) < cuts->total) {
		cut_init(p);
		if (cuts->flips)
			p->wire.flip = 1 + at * 7919 % (cuts->bytes * 8 - 1);
		else
			p->wire.cut[cuts->direction] = at;
		pair_start(p);
		pair_wait(p);
		check_one_owner(p);
		cuts->moved += p->dst.running;
		pair_fini(p);
	}
	free(p);
	return NULL;
}

static void break_everywhere(int direction, long flips)
{
	struct cuts cuts = { .direction = direction, .flips = flips };
	pthread_t thread[16];
	struct pair p;
	unsigned int i;

	cut_init(&p);
	pair_start(&p);
	pair_wait(&p);
	check_moved(&p);
	cuts.bytes = p.wire.passed[direction];
	cuts.total = flips ? flips : cuts.bytes;
	pair_fini(&p);
	for (i = 0; i < ARRAY_SIZE(thread); i++)
		ASSERT_EQ(pthread_create(&thread[i], NULL, cutter, &cuts), 0);
	for (i = 0; i < ARRAY_SIZE(thread); i++)
		pthread_join(thread[i], NULL);
	tap_diag("%ld bytes; moved all the same after %u of %ld", cuts.bytes, cuts.moved, cuts.total);
	ASSERT(flips || cuts.moved);
}

static void test_cut_to(void)
{
	break_everywhere(0, 0);
}

static void test_cut_from(void)
{
	break_everywhere(1, 0);
}

/* One bit of the stream changes: nothing is accepted that is not what was sent */
static void test_flip(void)
{
	break_everywhere(0, 400);
}

static const struct tap_test tests[] = {
	TEST(idle),
	TEST(odd_sizes),
	TEST(writes_1),
	TEST(writes_4),
	TEST(writes_zstd),
	TEST(deltas),
	TEST(throttle),
	TEST(bandwidth),
	TEST(cancel),
	TEST(timeout),
	TEST(timeout_forces),
	TEST(force),
	TEST(preconditions),
	TEST(locks),
	TEST(no_destination),
	TEST_TIMEOUT(cut_to, 300),
	TEST_TIMEOUT(cut_from, 300),
	TEST_TIMEOUT(flip, 300),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
