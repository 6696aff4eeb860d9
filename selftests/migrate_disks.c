// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that are copied along with a machine (migrate/disks.c, disk_send.c): equal at the end, while the machine writes to them, by
 * one and four connections, compressed, with holes and odd ends; those that both have stay where they are; whatever fails, and
 * wherever the connection is cut, the machine runs on one side and its disk is whole there; bandwidth and progress count them; a
 * stream in a file has them, and the checker agrees.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "../migrate/verify.h"
#include "fakevm.h"

#define MIB		(1ull << 20)
#define RAM		(2 * MIB)
#define NR_DISKS	2
#define CHUNK		MIGRATE_CHUNK

/* A machine with disks of memory */
struct diskvm {
	struct fakevm vm;		/* first */
	unsigned int nr;
	uint64_t size[NR_DISKS];
	uint8_t *data[NR_DISKS];
	uint64_t *log[NR_DISKS];
	bool wants[NR_DISKS];		/* destination */
	bool logs;
	pthread_t writer;
	atomic_bool end;
	atomic_ulong written, read, zeroed;
	bool unflushed;
	int read_err, write_err, flush_err;
};

static int op_disks(void *arg, struct migrate_disk *list, unsigned int max)
{
	struct diskvm *d = arg;
	unsigned int i, nr = 0;

	for (i = 0; i < d->nr && nr < max; i++) {
		if (!d->vm.is_source && !d->wants[i])
			continue;
		memset(&list[nr], 0, sizeof(list[nr]));
		snprintf(list[nr].name, MIGRATE_NAME_MAX, "disk%u", i);
		list[nr++].size = d->size[i];
	}
	return nr;
}

/* The number in the list above, as a disk's */
static unsigned int disk_of(const struct diskvm *d, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < d->nr; i++)
		if ((d->vm.is_source || d->wants[i]) && !nr--)
			return i;
	ASSERT_MSG(false, "no such disk");
	return 0;
}

static int op_read(void *arg, unsigned int disk, uint64_t offset, void *data, size_t len)
{
	struct diskvm *d = arg;

	ASSERT_EQ((uintptr_t)data % 4096, 0);
	ASSERT(offset % CHUNK == 0 && len && len <= CHUNK && offset + len <= d->size[disk]);
	pthread_mutex_lock(&d->vm.lock);
	memcpy(data, d->data[disk] + offset, len);
	pthread_mutex_unlock(&d->vm.lock);
	d->read += len;
	return d->read > MIB ? d->read_err : 0;
}

static int op_fetch(void *arg, unsigned int disk, uint64_t *bitmap)
{
	struct diskvm *d = arg;
	uint64_t words = ((d->size[disk] + CHUNK - 1) / CHUNK + 63) / 64;

	ASSERT(d->logs);
	pthread_mutex_lock(&d->vm.lock);
	memcpy(bitmap, d->log[disk], words * 8);
	memset(d->log[disk], 0, words * 8);
	pthread_mutex_unlock(&d->vm.lock);
	return 0;
}

static int op_write(void *arg, unsigned int disk, uint64_t offset, const void *data, uint64_t len)
{
	struct diskvm *d = arg;

	disk = disk_of(d, disk);
	ASSERT(!d->vm.running && len && offset <= d->size[disk] && len <= d->size[disk] - offset);
	if (data)
		memcpy(d->data[disk] + offset, data, len);
	else
		memset(d->data[disk] + offset, 0, len);
	if (!data)
		d->zeroed += len;
	d->unflushed = true;
	return d->write_err;
}

static int op_flush(void *arg)
{
	struct diskvm *d = arg;

	d->unflushed = false;
	return d->flush_err;
}

static int op_dirty_start(void *arg)
{
	((struct diskvm *)arg)->logs = true;
	return fake_dirty_start(arg);
}

static void op_dirty_stop(void *arg)
{
	((struct diskvm *)arg)->logs = false;
	fake_dirty_stop(arg);
}

static int op_load(void *arg, const void *data, size_t len, char *why)
{
	ASSERT(!((struct diskvm *)arg)->unflushed);
	return fake_load(arg, data, len, why);
}

/* Writes what can be: some of it zeroes, some of it at the very end */
static void write_somewhere(struct diskvm *d, uint64_t *seed)
{
	unsigned int disk = fake_random(seed) % d->nr;
	uint64_t sectors = d->size[disk] / 512, sector = fake_random(seed) % 5 ? fake_random(seed) % sectors : sectors - 1;
	unsigned int i;

	pthread_mutex_lock(&d->vm.lock);
	for (i = 0; i < 64; i++)
		((uint64_t *)(d->data[disk] + sector * 512))[i] = sector % 3 ? fake_random(seed) : 0;
	d->log[disk][sector * 512 / CHUNK / 64] |= 1ull << sector * 512 / CHUNK % 64;
	pthread_mutex_unlock(&d->vm.lock);
	d->written++;
}

static void *disk_writer(void *arg)
{
	struct diskvm *d = arg;
	uint64_t seed = 77;

	while (!d->end) {
		if (!d->vm.paused)
			write_somewhere(d, &seed);
		else
			d->vm.quiet = true;
		usleep(200);
		if (!d->vm.paused)
			d->vm.quiet = false;
	}
	return NULL;
}

struct pair {
	struct fakewire wire;
	struct diskvm src, dst;
	struct migrate_ops ops, dst_ops;
	struct migrate_params params;
	struct migrate *send, *recv;
	struct migrate_result sent, received;
};

static void disks_init(struct diskvm *d, struct fakewire *wire, bool is_source, uint64_t a, uint64_t b)
{
	unsigned int i;

	memset(d, 0, sizeof(*d));
	fakevm_init(&d->vm, wire, is_source, RAM, 0);
	d->size[0] = a;
	d->size[1] = b;
	d->nr = b ? 2 : 1;
	for (i = 0; i < d->nr; i++) {
		d->data[i] = calloc(1, d->size[i]);
		d->log[i] = calloc(d->size[i] / CHUNK / 64 + 1, 8);
		d->wants[i] = true;
		ASSERT(d->data[i] && d->log[i]);
	}
}

/* A third of its chunks is empty */
static void disks_fill(struct diskvm *d)
{
	uint64_t seed = 4711, at, i;
	unsigned int disk;

	for (disk = 0; disk < d->nr; disk++)
		for (at = 0; at < d->size[disk]; at += 512)
			for (i = 0; at / CHUNK % 3 && i < 64; i++)
				((uint64_t *)(d->data[disk] + at))[i] = at / CHUNK % 3 == 1 ? at : fake_random(&seed);
}

static void pair_init(struct pair *p, uint64_t a, uint64_t b)
{
	memset(p, 0, sizeof(*p));
	fakewire_init(&p->wire);
	disks_init(&p->src, &p->wire, true, a, b);
	disks_init(&p->dst, &p->wire, false, a, b);
	fakevm_fill(&p->src.vm);
	disks_fill(&p->src);
	p->ops = fake_ops;
	p->ops.disks = op_disks;
	p->ops.disk_read = op_read;
	p->ops.disk_fetch = op_fetch;
	p->ops.disk_write = op_write;
	p->ops.disk_flush = op_flush;
	p->ops.dirty_start = op_dirty_start;
	p->ops.dirty_stop = op_dirty_stop;
	p->ops.load = op_load;
	p->dst_ops = p->ops;
	migrate_params_init(&p->params);
	p->params.copy_disks = true;
}

static void writes(struct pair *p)
{
	p->src.vm.has_writer = true;
	ASSERT_EQ(pthread_create(&p->src.writer, NULL, disk_writer, &p->src), 0);
}

static void pair_start(struct pair *p)
{
	ASSERT_EQ(migrate_receive(&p->recv, &p->dst_ops, &p->dst, &p->params), 0);
	ASSERT_EQ(migrate_send(&p->send, &p->ops, &p->src, &p->params), 0);
}

static void pair_wait(struct pair *p)
{
	migrate_wait(p->send, &p->sent);
	migrate_wait(p->recv, &p->received);
}

static void run(struct pair *p)
{
	pair_start(p);
	pair_wait(p);
}

static void pair_fini(struct pair *p)
{
	unsigned int i;

	p->src.end = true;
	if (p->src.vm.has_writer)
		pthread_join(p->src.writer, NULL);
	p->src.vm.has_writer = false;
	for (i = 0; i < p->src.nr; i++) {
		free(p->src.data[i]);
		free(p->src.log[i]);
		free(p->dst.data[i]);
		free(p->dst.log[i]);
	}
	fakevm_fini(&p->src.vm);
	fakevm_fini(&p->dst.vm);
	fakewire_fini(&p->wire);
}

static bool disk_equal(const struct pair *p, unsigned int disk)
{
	return !memcmp(p->src.data[disk], p->dst.data[disk], p->src.size[disk]);
}

static void check_moved(struct pair *p)
{
	unsigned int i;

	ASSERT_MSG(!p->sent.err && !p->received.err, "%s / %s", p->sent.why, p->received.why);
	ASSERT(!p->src.vm.running && p->dst.vm.running && !p->src.logs);
	ASSERT(fakevm_equal(&p->src.vm, &p->dst.vm));
	for (i = 0; i < p->src.nr; i++)
		ASSERT_MSG(!p->dst.wants[i] || disk_equal(p, i), "disk%u differs", i);
	tap_diag("%u rounds, %llu KiB of %llu of disks and memory, %lu writes, downtime %llu us", p->sent.progress.round + 1,
		 (unsigned long long)p->sent.progress.bytes / 1024, (unsigned long long)p->sent.progress.total / 1024,
		 (unsigned long)p->src.written, (unsigned long long)p->sent.progress.downtime_us);
}

static void check_stayed(struct pair *p, const char *why)
{
	ASSERT(p->sent.err && p->received.err && p->sent.owner == MIGRATE_HERE);
	ASSERT(p->src.vm.running && !p->dst.vm.running && !p->src.logs);
	ASSERT_MSG(strstr(p->sent.why, why), "%s / %s", p->sent.why, p->received.why);
}

/* --- what goes well -------------------------------------------------------------------------------------------- */

static void move(uint64_t a, uint64_t b, unsigned int connections, int zstd, bool busy)
{
	struct pair p;

	pair_init(&p, a, b);
	p.params.connections = connections;
	p.params.zstd = zstd;
	if (busy) {
		p.params.bandwidth = 60 * MIB;	/* slow enough for some to be written */
		writes(&p);
	}
	run(&p);
	check_moved(&p);
	ASSERT_GE(p.sent.progress.disk_bytes, a + b);
	ASSERT_EQ(p.sent.progress.disk_total, a + b);
	ASSERT_EQ(p.sent.progress.total, a + b + RAM);
	ASSERT(!busy || p.src.written);
	pair_fini(&p);
}

static void test_quiet(void)
{
	move(6 * MIB, 0, 1, 0, false);
	move(512, 3 * CHUNK + 1536, 1, 0, false);
	move(6 * MIB + 512, 2 * MIB, 4, 0, false);
	move(6 * MIB, CHUNK, 3, 3, false);
}

static void test_busy(void)
{
	move(6 * MIB, 0, 1, 0, true);
	move(6 * MIB + 512, 2 * MIB, 4, 0, true);
	move(6 * MIB, 5 * CHUNK - 512, 2, 1, true);
}

/* What is empty is not written to the other side, nor sent */
static void test_holes(void)
{
	struct pair p;

	pair_init(&p, 256 * MIB, 0);
	memset(p.src.data[0], 0, p.src.size[0]);
	p.src.data[0][200 * MIB] = 1;
	run(&p);
	check_moved(&p);
	ASSERT_EQ(p.dst.zeroed, 0);
	ASSERT_LT(p.sent.progress.bytes, 3 * MIB);
	pair_fini(&p);
}

/* What both hosts have stays: the destination says so */
static void test_shared(void)
{
	struct pair p;

	pair_init(&p, 2 * MIB, 3 * MIB);
	p.dst.wants[0] = false;
	run(&p);
	check_moved(&p);
	ASSERT_EQ(p.sent.progress.disk_total, 3 * MIB);
	ASSERT(!disk_equal(&p, 0));
	pair_fini(&p);

	pair_init(&p, 2 * MIB, 0);
	p.dst_ops.disks = NULL;
	run(&p);
	ASSERT_MSG(!p.sent.err && !p.received.err, "%s / %s", p.sent.why, p.received.why);
	ASSERT_EQ(p.sent.progress.disk_bytes, 0);
	pair_fini(&p);

	/* Nobody asked for it */
	pair_init(&p, 2 * MIB, 0);
	p.params.copy_disks = false;
	run(&p);
	ASSERT_MSG(!p.sent.err, "%s / %s", p.sent.why, p.received.why);
	ASSERT_EQ(p.sent.progress.total, RAM);
	pair_fini(&p);
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

/* One bandwidth for all; what is left only becomes less within a round */
static void test_bandwidth(void)
{
	uint64_t begin, last = INT64_MAX;
	struct migrate_progress now;
	unsigned int steps = 0;
	struct pair p;

	pair_init(&p, 12 * MIB, 0);
	p.params.bandwidth = 10 * MIB;
	begin = now_us();
	pair_start(&p);
	for (;;) {
		migrate_progress(p.send, &now);
		if (now.state > MIGRATE_MEMORY || now.round)
			break;
		if (now.state == MIGRATE_MEMORY && now.remaining && now.remaining != last) {
			ASSERT_LT(now.remaining, last);
			ASSERT_GE(now.total, now.remaining);
			last = now.remaining;
			steps++;
		}
		usleep(1000);
	}
	pair_wait(&p);
	check_moved(&p);
	/* Two thirds of 12 MiB */
	ASSERT_GT(now_us() - begin, 700000);
	ASSERT_GT(steps, 10);
	pair_fini(&p);
}

/* --- what goes wrong ------------------------------------------------------------------------------------------- */

static void test_refused(void)
{
	struct pair p;

	pair_init(&p, 2 * MIB, MIB);
	p.dst.size[1] = MIB - 512;
	run(&p);
	check_stayed(&p, "disk 'disk1' has 1048576 bytes there, 1048064 here");
	pair_fini(&p);

	pair_init(&p, 2 * MIB, MIB);
	p.src.nr = 1;
	run(&p);
	check_stayed(&p, "'disk1' is to be copied, but is not offered");
	p.src.nr = 2;
	pair_fini(&p);
}

static void test_errors(void)
{
	struct pair p;

	pair_init(&p, 4 * MIB, 0);
	p.src.read_err = -EIO;
	run(&p);
	check_stayed(&p, "disk 'disk0' cannot be read: Input/output error");
	pair_fini(&p);

	pair_init(&p, 4 * MIB, 0);
	p.dst.write_err = -ENOSPC;
	p.params.connections = 2;
	run(&p);
	check_stayed(&p, "disk 'disk0' cannot be written: No space left");
	pair_fini(&p);

	pair_init(&p, 4 * MIB, 0);
	p.dst.flush_err = -EIO;
	run(&p);
	check_stayed(&p, "cannot be flushed");
	pair_fini(&p);

	pair_init(&p, 64 * MIB, 0);
	p.params.bandwidth = 4 * MIB;
	pair_start(&p);
	usleep(200000);
	migrate_cancel(p.send);
	pair_wait(&p);
	check_stayed(&p, "cancelled");
	pair_fini(&p);
}

/* A damaged disk would be worse than none */
static void check_one(struct pair *p)
{
	bool there = p->sent.owner == MIGRATE_THERE;

	ASSERT_MSG(p->src.vm.running != p->dst.vm.running && p->dst.vm.running == there, "%s / %s", p->sent.why, p->received.why);
	ASSERT(!there || (disk_equal(p, 0) && disk_equal(p, 1)));
	ASSERT(there || (p->sent.why[0] && p->received.why[0]));
}

static void test_cuts(void)
{
	uint64_t seed = 99;
	unsigned int i, moved = 0;
	struct pair p;
	long most;

	pair_init(&p, MIB, 3 * CHUNK + 512);
	p.wire.cut[0] = p.wire.cut[1] = 1L << 40;
	run(&p);
	check_moved(&p);
	most = p.wire.passed[0];
	pair_fini(&p);
	for (i = 0; i < 60; i++) {
		pair_init(&p, MIB, 3 * CHUNK + 512);
		p.params.stall_ms = 300;
		p.params.connections = 1 + i % 2;
		p.wire.cut[0] = 1 + fake_random(&seed) % most;
		p.wire.cut[1] = 1L << 40;
		if (i % 3 == 0)
			writes(&p);
		run(&p);
		p.src.end = true;
		check_one(&p);
		moved += p.sent.owner == MIGRATE_THERE;
		pair_fini(&p);
	}
	tap_diag("of 60 cuts %u moved", moved);
}

/* Each bit that changes on its way is noticed */
static void test_damage(void)
{
	uint64_t seed = 5;
	unsigned int i;
	struct pair p;

	for (i = 0; i < 40; i++) {
		pair_init(&p, 8 * CHUNK, 0);
		p.params.stall_ms = 300;
		p.wire.cut[0] = p.wire.cut[1] = 1L << 40;
		p.wire.flip = 8 * (64 + fake_random(&seed) % (4 * CHUNK)) + i % 8;
		run(&p);
		ASSERT_MSG(p.src.vm.running && !p.dst.vm.running, "%s / %s", p.sent.why, p.received.why);
		pair_fini(&p);
	}
}

/* --- in a file ------------------------------------------------------------------------------------------------- */

static int file = -1;

static int file_connection(void *vm, struct migrate_io **io, int timeout_ms)
{
	(void)vm;
	(void)timeout_ms;
	*io = migrate_io_fd(dup(file));
	return 0;
}

static void test_file(void)
{
	struct verify v;
	struct input in;
	char why[MIGRATE_WHY_MAX];
	struct pair p;
	uint8_t byte;

	pair_init(&p, 2 * MIB + 512, MIB);
	file = memfd_create("stream", 0);
	p.ops.connection = file_connection;
	p.params.oneway = true;
	p.params.zstd = 1;
	ASSERT_EQ(migrate_send(&p.send, &p.ops, &p.src, &p.params), 0);
	migrate_wait(p.send, &p.sent);
	ASSERT_MSG(!p.sent.err, "%s", p.sent.why);
	in = (struct input){ .fd = file, .len = lseek(file, 0, SEEK_END) };
	ASSERT_MSG(!verify(&v, &in, NULL), "%s", v.why);
	ASSERT_EQ(v.nr_disks, 2);
	ASSERT_EQ(v.disk_size[0], 2 * MIB + 512);
	verify_fini(&v);
	lseek(file, 0, SEEK_SET);
	ASSERT_MSG(!migrate_restore(&p.dst_ops, &p.dst, file, false, why), "%s", why);
	ASSERT(disk_equal(&p, 0) && disk_equal(&p, 1) && fakevm_equal(&p.src.vm, &p.dst.vm));

	/* One that has no place for them, and one that is damaged */
	lseek(file, 0, SEEK_SET);
	p.dst.wants[1] = false;
	ASSERT_LT(migrate_restore(&p.dst_ops, &p.dst, file, false, why), 0);
	ASSERT_MSG(strstr(why, "have no place here"), "%s", why);
	ASSERT_EQ(pread(file, &byte, 1, MIB), 1);
	byte ^= 1;
	ASSERT_EQ(pwrite(file, &byte, 1, MIB), 1);
	ASSERT_EQ(verify(&v, &in, NULL), -1);
	verify_fini(&v);
	close(file);
	pair_fini(&p);
}

static const struct tap_test tests[] = {
	TEST(quiet),
	TEST_TIMEOUT(busy, 120),
	TEST(holes),
	TEST(shared),
	TEST(bandwidth),
	TEST(refused),
	TEST(errors),
	TEST_TIMEOUT(cuts, 300),
	TEST_TIMEOUT(damage, 120),
	TEST(file),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
