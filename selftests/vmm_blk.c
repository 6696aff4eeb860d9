// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the host half of pvhv-run's disks on files, block devices and NBD servers of this machine: data arrives where it
 * belongs however its memory lies, requests outside of the disk are refused, discards and zeros, flushes, resizing, locks
 * between processes (and QEMU's tools), a full host disk loses nothing, limits are kept, a frozen disk stands still, copies are
 * consistent, a server that is killed and started again loses no request. Runs as root on any machine; what a machine lacks
 * (loop devices, nbdkit, xfs) is skipped.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>

#include "scratch.h"
#include "tap.h"
#include "../vmm/blk.h"

#define DISK_LEN	(8 * MIB)

static char last_line[1100];
static char loopdev[32];
static pid_t server;

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static void woken(void *arg)
{
}

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

static int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int run(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	return system(cmd);
}

/* Whatever ends the test: another process waits for that, and tidies up. */
static void tidy_up_later(void)
{
	char cmd[512];
	int fds[2];

	snprintf(cmd, sizeof(cmd), "umount -l %s/mnt; for f in fs backing; do for l in $(losetup -nO NAME -j %s/$f); do losetup -d $l; "
		 "done; done; rm -rf %s", dir, dir, dir);
	ASSERT_OK(pipe2(fds, O_CLOEXEC));
	if (!ASSERT_OK(fork())) {
		int null = open("/dev/null", O_RDWR);
		char c;

		setsid();
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		close(fds[1]);
		while (read(fds[0], &c, 1) > 0)
			;
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(127);
	}
	close(fds[0]);
}

static void begin(void)
{
	fail_sink = keep_line;
	make_dir("vmm_blk");
	tidy_up_later();
	ASSERT_EQ(loop_init(woken, NULL), 0);
}

/* A file system of its own in a loop device; skips where there is none. */
static void mount_fs(const char *mkfs, const char *type, u64 len)
{
	FILE *f;

	image("fs", len);
	if (geteuid() || run("%s %s/fs >/dev/null 2>&1", mkfs, dir))
		SKIP("needs root and %s", mkfs);
	f = popen("losetup -f", "r");
	if (!f || !fgets(loopdev, sizeof(loopdev), f))
		SKIP("no loop device");
	pclose(f);
	loopdev[strcspn(loopdev, "\n")] = 0;
	if (run("losetup --direct-io=on %s %s/fs 2>/dev/null || losetup %s %s/fs", loopdev, dir, loopdev, dir))
		SKIP("no loop device");
	ASSERT_OK(mkdir(at("mnt"), 0700));
	if (mount(loopdev, at("mnt"), type, 0, NULL))
		SKIP("no %s", type);
}

static void loop_device(u64 len, unsigned int sector)
{
	char line[160];
	FILE *f;

	image("backing", len);
	snprintf(line, sizeof(line), "losetup -b %u --show -f %s/backing 2>/dev/null", sector, dir);
	f = popen(line, "r");
	if (geteuid() || !f || !fgets(loopdev, sizeof(loopdev), f))
		SKIP("no loop device");
	pclose(f);
	loopdev[strcspn(loopdev, "\n")] = 0;
}

static struct blk *open_disk(const struct disk_options *opt)
{
	struct blk *blk;

	*last_line = 0;
	blk = blk_open(opt, "disk0");
	ASSERT_MSG(blk, "%s", last_line);
	blk_attach(blk);
	return blk;
}

static struct blk *open_path(const char *path)
{
	struct disk_options opt = { .path = path };

	return open_disk(&opt);
}

static void refused(const char *path, bool readonly, enum disk_direct direct, const char *why)
{
	struct disk_options opt = { .path = path, .readonly = readonly, .direct = direct };

	*last_line = 0;
	ASSERT(!blk_open(&opt, "disk0"));
	ASSERT_MSG(strstr(last_line, why) && strstr(last_line, path), "said '%s', not '%s'", last_line, why);
}

/* Detached and closed as pvhv-run does it. */
static void close_disk(struct blk *blk)
{
	blk_detach(blk);
	loop_fini();
	blk_close(blk);
	ASSERT_EQ(loop_init(woken, NULL), 0);
}

struct io {
	struct blk_req req;
	struct iovec iov[64];
	int done, err;
};

static int to_do;

static void io_done(struct blk_req *req, int err)
{
	struct io *io = container_of(req, struct io, req);

	io->done++;
	io->err = err;
	if (!--to_do)
		loop_quit();
}

static void io_start(struct blk *blk, struct io *io, int op, u64 pos, void *data, u64 len, int flags)
{
	memset(io, 0, sizeof(*io));
	io->iov[0] = (struct iovec){ data, len };
	io->req = (struct blk_req){
		.done = io_done, .op = op, .pos = pos, .len = len, .flags = flags,
		.iov = data ? io->iov : NULL, .nr_iov = !!data,
	};
	to_do++;
	blk_submit(blk, &io->req);
}

static void finish(void)
{
	while (to_do)
		ASSERT_EQ(loop_run(), 0);
}

static int io(struct blk *blk, int op, u64 pos, void *data, u64 len, int flags)
{
	struct io one;

	to_do = 0;
	io_start(blk, &one, op, pos, data, len, flags);
	finish();
	ASSERT_EQ(one.done, 1);
	return one.err;
}

/* Lets the loop run for a while, whatever happens. */
static void timer_done(struct loop_op *op, int res)
{
	loop_quit();
}

static void run_ms(unsigned int ms)
{
	struct loop_op op = { .done = timer_done };

	ASSERT_EQ(loop_timer(&op, ms), 0);
	while (op.busy)
		ASSERT_EQ(loop_run(), 0);
}

static void fill(u8 *p, u64 len, u32 seed)
{
	u64 i;

	for (i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = seed >> 24;
	}
}

static void *pages(u64 len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT(p != MAP_FAILED);
	return p;
}

/* Random pieces of random memory at random places, compared with a copy of the disk in memory. */
static void shuffle(struct blk *blk, u32 rounds, u32 align)
{
	u64 len = 4 * MIB, i;
	u8 *model = pages(blk->size), *mem = pages(len + 4096), *back = pages(len + 4096);
	struct io one;
	u32 round;

	srandom(1);
	ASSERT_EQ(io(blk, BLK_READ, 0, model, blk->size, 0), 0);
	for (round = 0; round < rounds; round++) {
		u64 sectors = 1 + random() % (random() % 4 ? 32 * KIB : 2 * MIB) / blk->block, left, off = 0;
		u64 pos = random() % (blk->size / blk->block - sectors) * blk->block;
		bool write = random() % 2, durable = random() % 8 == 0;
		int nr = 0;

		left = sectors * blk->block;
		memset(&one, 0, sizeof(one));
		/* Pieces in reverse order in memory, each at an odd place if it may. */
		while (left) {
			u64 n = nr == 63 ? left : 1 + random() % left;

			n = align > 1 || nr != 63 ? ALIGN_UP(n, align) : n;
			if (n > left)
				n = left;
			one.iov[nr].iov_len = n;
			left -= n;
			nr++;
		}
		for (i = nr; i-- > 0; off += one.iov[i].iov_len)
			one.iov[i].iov_base = (write ? mem : back) + (align == 1 ? 1 : 0) + off;
		one.req = (struct blk_req){
			.done = io_done, .op = write ? BLK_WRITE : BLK_READ, .pos = pos, .len = sectors * blk->block,
			.iov = one.iov, .nr_iov = nr, .flags = durable && write ? BLK_DURABLE : 0,
		};
		struct iovec iov[64];

		memcpy(iov, one.iov, sizeof(iov));
		if (write) {
			fill(mem, off + 1, round);
			for (i = 0, off = pos; i < (u64)nr; off += iov[i++].iov_len)
				memcpy(model + off, iov[i].iov_base, iov[i].iov_len);
		}
		to_do = 1;
		blk_submit(blk, &one.req);
		finish();
		ASSERT_EQ(one.err, 0);
		if (!write)
			for (i = 0, off = pos; i < (u64)nr; off += iov[i++].iov_len)
				ASSERT(!memcmp(model + off, iov[i].iov_base, iov[i].iov_len));
	}
	for (i = 0; i < blk->size; i += len) {
		u64 n = blk->size - i < len ? blk->size - i : len;

		ASSERT_EQ(io(blk, BLK_READ, i, back, n, 0), 0);
		ASSERT(!memcmp(back, model + i, n));
	}
	munmap(model, blk->size);
	munmap(mem, len + 4096);
	munmap(back, len + 4096);
}

/* --- files ---------------------------------------------------------------------------------------------------- */

static void test_buffered(void)
{
	struct disk_options opt = { .direct = DISK_DIRECT_OFF };
	struct blk *blk;

	begin();
	opt.path = image("disk", DISK_LEN);
	blk = open_disk(&opt);
	ASSERT_EQ(blk->size, DISK_LEN);
	ASSERT_EQ(blk->block, 512);
	ASSERT_EQ(blk->direct, DISK_DIRECT_OFF);
	shuffle(blk, 400, 1);
	ASSERT_EQ(blk->nr_bounces, 0);
	close_disk(blk);
}

static void test_direct(void)
{
	struct disk_options opt = { .direct = DISK_DIRECT_ON };
	struct blk *blk;

	begin();
	opt.path = image("disk", DISK_LEN);
	blk = blk_open(&opt, "disk0");
	if (!blk)
		SKIP("no direct I/O in /tmp");
	blk_attach(blk);
	shuffle(blk, 200, 512);
	ASSERT_EQ(blk->nr_bounces, 0);
	/* Memory at odd addresses goes through bounce buffers, which come back. */
	shuffle(blk, 200, 1);
	ASSERT_GE(blk->nr_bounces, 1);
	ASSERT_LE(blk->nr_bounces, 4);
	close_disk(blk);
}

/* --- parts ------------------------------------------------------------------------------------------------------ */

#define PARTS_PAGES	16
#define PARTS_MOST	(PARTS_PAGES * 4 * KIB)

static int parts_ended;

static void parts_over(struct blk_req *req)
{
	ASSERT_EQ(req->nr_parts, 0);
	parts_ended++;
	loop_quit();
}

static int parts_of(struct blk_req *req, const struct loop_file *file)
{
	int nr = blk_parts_start(req, file, 0, parts_over) ? req->nr_parts : 0;

	parts_ended = 0;
	if (nr) {
		ASSERT_EQ(loop_run(), 0);
		ASSERT_EQ(parts_ended, 1);
	}
	return nr;
}

/* Registered memory is moved by as many operations as its length needs, all else in one. */
static void test_parts(void)
{
	static const struct { u64 at, len; int parts; } table[] = {
		{ 0, PARTS_MOST, 0 }, { 0, PARTS_MOST + 512, 2 }, { 8192, 2 * PARTS_MOST, 2 }, { 0, 3 * PARTS_MOST - 4096, 3 },
		{ 4096, 4 * PARTS_MOST, 4 }, { 0, 4 * PARTS_MOST + 512, 0 }, { 512, 2 * PARTS_MOST, 0 }, { MIB - 4096, PARTS_MOST + 4096, 0 },
	};
	u8 *mem = mmap(NULL, MIB + 4 * PARTS_MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static u8 back[MIB];
	struct loop_file file;
	struct blk_req req;
	struct iovec iov[2];
	unsigned int i;
	int fd, op;

	ASSERT(mem != MAP_FAILED);
	begin();
	loop_fini();
	loop_memory(mem, MIB);
	ASSERT_EQ(loop_init(woken, NULL), 0);
	fd = ASSERT_OK(memfd_create("parts", 0));
	ASSERT_OK(ftruncate(fd, MIB));
	loop_file_add(&file, fd);
	file.registered_pages = PARTS_PAGES;
	for (i = 0; i < 2 * ARRAY_SIZE(table); i++) {
		u64 at = table[i / 2].at, len = table[i / 2].len;

		op = i % 2 ? BLK_READ : BLK_WRITE;
		fill(mem + at, len, i);
		fill(back, len, i + 1);
		if (op == BLK_READ)
			ASSERT_EQ(pwrite(fd, back, len, 4096), len);
		iov[0] = (struct iovec){ mem + at, len };
		req = (struct blk_req){ .op = op, .iov = iov, .nr_iov = 1, .pos = 4096, .len = len };
		ASSERT_MSG(parts_of(&req, &file) == table[i / 2].parts, "row %u", i / 2);
		ASSERT(!req.in_one);
		if (!table[i / 2].parts)
			continue;
		if (op == BLK_WRITE)
			ASSERT_EQ(pread(fd, back, len, 4096), len);
		ASSERT(!memcmp(back, mem + at, len));
	}

	/* Not what has several pieces, what a file of which nothing is known holds, or what failed before. */
	iov[0] = (struct iovec){ mem, PARTS_MOST };
	iov[1] = (struct iovec){ mem + PARTS_MOST, PARTS_MOST };
	req = (struct blk_req){ .op = BLK_READ, .iov = iov, .nr_iov = 2, .len = 2 * PARTS_MOST };
	ASSERT_EQ(parts_of(&req, &file), 0);
	iov[0].iov_len = 2 * PARTS_MOST;
	req = (struct blk_req){ .op = BLK_READ, .iov = iov, .nr_iov = 1, .len = 2 * PARTS_MOST, .in_one = true };
	ASSERT_EQ(parts_of(&req, &file), 0);
	file.registered_pages = 0;
	req.in_one = false;
	ASSERT_EQ(parts_of(&req, &file), 0);

	/* The file's end lies within the second one. */
	file.registered_pages = PARTS_PAGES;
	req = (struct blk_req){ .op = BLK_READ, .iov = iov, .nr_iov = 1, .pos = MIB - PARTS_MOST - 4096, .len = 2 * PARTS_MOST };
	ASSERT_EQ(parts_of(&req, &file), 2);
	ASSERT(req.in_one);
	loop_file_drop(&file);
	loop_fini();
	loop_memory(NULL, 0);
	close(fd);
}

static void test_many_bounces(void)
{
	struct disk_options opt = { .direct = DISK_DIRECT_ON };
	u8 *mem = pages(DISK_LEN + 4096);
	static struct io ios[64];
	struct blk *blk;
	int i;

	begin();
	opt.path = image("disk", DISK_LEN);
	blk = blk_open(&opt, "disk0");
	if (!blk)
		SKIP("no direct I/O in /tmp");
	blk_attach(blk);
	fill(mem, DISK_LEN + 1, 7);
	for (i = 0; i < 64; i++)
		io_start(blk, &ios[i], BLK_WRITE, i * (DISK_LEN / 64), mem + 1 + i * (DISK_LEN / 64), DISK_LEN / 64, 0);
	finish();
	for (i = 0; i < 64; i++)
		ASSERT_EQ(ios[i].err, 0);
	ASSERT_EQ(blk->nr_bounces, 4);
	for (i = 0; i < 64; i++) {
		u8 back[DISK_LEN / 64 + 1];

		ASSERT_EQ(io(blk, BLK_READ, i * (DISK_LEN / 64), back + 1, DISK_LEN / 64, 0), 0);
		ASSERT(!memcmp(back + 1, mem + 1 + i * (DISK_LEN / 64), DISK_LEN / 64));
	}
	close_disk(blk);
}

static void test_auto_falls_back(void)
{
	struct disk_options opt = { .direct = DISK_DIRECT_AUTO };
	struct blk *blk;

	begin();
	if (geteuid() || mkdir(at("mnt"), 0700) || mount("tmpfs", at("mnt"), "tmpfs", 0, NULL))
		SKIP("cannot mount a tmpfs");
	opt.path = image("mnt/disk", DISK_LEN);
	blk = open_disk(&opt);
	ASSERT(blk->direct == DISK_DIRECT_ON || blk->direct == DISK_DIRECT_OFF);
	shuffle(blk, 100, 1);
	close_disk(blk);
}

static void test_refused_requests(void)
{
	struct disk_options opt = { };
	struct blk_stats stats;
	struct blk *blk;
	u8 *buf = pages(8192);

	begin();
	opt.path = image("disk", DISK_LEN);
	blk = open_disk(&opt);
	ASSERT_EQ(io(blk, BLK_READ, DISK_LEN - 512, buf, 512, 0), 0);
	ASSERT_EQ(io(blk, BLK_READ, DISK_LEN - 512, buf, 1024, 0), -EINVAL);
	ASSERT_EQ(io(blk, BLK_READ, DISK_LEN, buf, 512, 0), -EINVAL);
	ASSERT_EQ(io(blk, BLK_READ, DISK_LEN, buf, 0, 0), 0);
	ASSERT_EQ(io(blk, BLK_READ, -512ull, buf, 1024, 0), -EINVAL);
	ASSERT_EQ(io(blk, BLK_READ, 0, buf, -512ull, 0), -EINVAL);
	ASSERT_EQ(io(blk, BLK_WRITE, 1, buf, 512, 0), -EINVAL);
	ASSERT_EQ(io(blk, BLK_WRITE, 512, buf, 513, 0), -EINVAL);
	ASSERT_EQ(io(blk, BLK_DISCARD, 0, NULL, DISK_LEN + 512, 0), -EINVAL);
	ASSERT_EQ(io(blk, BLK_OPS, 0, buf, 512, 0), -EOPNOTSUPP);
	blk_get_stats(blk, &stats);
	ASSERT_EQ(stats.errors, 8);
	ASSERT_EQ(stats.requests[BLK_READ], 2);
	ASSERT_EQ(stats.bytes[BLK_READ], 512);
	close_disk(blk);

	opt.readonly = true;
	blk = open_disk(&opt);
	ASSERT_EQ(io(blk, BLK_READ, 0, buf, 512, 0), 0);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, buf, 512, 0), -EROFS);
	ASSERT_EQ(io(blk, BLK_ZERO, 0, NULL, 512, 0), -EROFS);
	ASSERT_EQ(io(blk, BLK_DISCARD, 0, NULL, 512, 0), -EROFS);
	ASSERT_EQ(io(blk, BLK_FLUSH, 0, NULL, 0, 0), 0);
	close_disk(blk);
}

static void test_shrunk_file(void)
{
	struct blk *blk;
	const char *path;
	u8 *buf = pages(MIB);

	begin();
	path = image("disk", DISK_LEN);
	blk = open_path(path);
	ASSERT_OK(truncate(path, MIB + 4096));
	ASSERT_EQ(io(blk, BLK_READ, MIB, buf, 4096, 0), 0);
	ASSERT_EQ(io(blk, BLK_READ, MIB, buf, 8192, 0), -EIO);
	ASSERT_EQ(io(blk, BLK_READ, 2 * MIB, buf, 4096, 0), -EIO);
	close_disk(blk);
}

static void test_flush(void)
{
	struct io one;
	struct blk *blk;
	u8 *buf = pages(4096);

	begin();
	blk = open_path(image("disk", DISK_LEN));
	/* What another process may have left is flushed once. */
	to_do = 0;
	io_start(blk, &one, BLK_FLUSH, 0, NULL, 0, 0);
	ASSERT_EQ(one.done, 0);
	finish();
	ASSERT_EQ(one.err, 0);
	/* Nothing new: done at once. */
	io_start(blk, &one, BLK_FLUSH, 0, NULL, 0, 0);
	ASSERT_EQ(one.done, 1);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, buf, 4096, 0), 0);
	io_start(blk, &one, BLK_FLUSH, 0, NULL, 0, 0);
	ASSERT_EQ(one.done, 0);
	finish();
	/* A write that ends while a flush runs is not covered by it. */
	ASSERT_EQ(io(blk, BLK_WRITE, 0, buf, 4096, 0), 0);
	io_start(blk, &one, BLK_FLUSH, 0, NULL, 0, 0);
	blk->dirty = true;
	finish();
	io_start(blk, &one, BLK_FLUSH, 0, NULL, 0, 0);
	ASSERT_EQ(one.done, 0);
	finish();
	close_disk(blk);
}

/* Every second 64 KiB goes; what is left is as it was. */
static void punch(struct blk *blk, int op, int flags, const char *path, bool expect_holes)
{
	u8 *mem = pages(MIB), *back = pages(MIB);
	struct stat before, after;
	u64 i, j;

	fill(mem, MIB, op * 8 + flags);
	ASSERT_EQ(io(blk, BLK_WRITE, MIB, mem, MIB, 0), 0);
	ASSERT_EQ(io(blk, BLK_FLUSH, 0, NULL, 0, 0), 0);
	ASSERT_OK(stat(path, &before));
	for (i = 0; i < 16; i += 2)
		ASSERT_EQ(io(blk, op, MIB + i * 64 * KIB, NULL, 64 * KIB, flags), 0);
	ASSERT_EQ(io(blk, op, MIB + 65536 + 4096, NULL, blk->block, flags), 0);
	ASSERT_EQ(io(blk, BLK_FLUSH, 0, NULL, 0, 0), 0);
	ASSERT_OK(stat(path, &after));
	if (expect_holes)
		ASSERT_LE(after.st_blocks, before.st_blocks - 7 * 128);
	ASSERT_EQ(io(blk, BLK_READ, MIB, back, MIB, 0), 0);
	for (i = 0; i < 16; i++)
		for (j = i * 65536; j < (i + 1) * 65536; j++)
			if (i % 2 == 0 || (j >= 65536 + 4096 && j < 65536 + 4096 + blk->block))
				ASSERT_EQ(back[j], 0);
			else
				ASSERT_EQ(back[j], mem[j]);
}

static void test_discard_and_zeros(void)
{
	struct blk *blk;
	const char *path;

	begin();
	path = image("disk", DISK_LEN);
	blk = open_path(path);
	ASSERT(blk->can_discard);
	punch(blk, BLK_DISCARD, 0, path, true);
	punch(blk, BLK_ZERO, BLK_UNMAP, path, true);
	punch(blk, BLK_ZERO, 0, path, false);
	punch(blk, BLK_ZERO, BLK_DURABLE, path, false);
	close_disk(blk);
}

/* tmpfs knows no ZERO_RANGE: zeros are written, and cost what they cost. */
static void test_zeros_by_hand(void)
{
	u8 *mem = pages(5 * MIB);
	struct blk *blk;
	struct stat st;
	u64 i;

	begin();
	if (geteuid() || mkdir(at("mnt"), 0700) || mount("tmpfs", at("mnt"), "tmpfs", 0, NULL))
		SKIP("cannot mount a tmpfs");
	image("mnt/disk", DISK_LEN);
	blk = open_path(at("mnt/disk"));
	fill(mem, 5 * MIB, 3);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, mem, 5 * MIB, 0), 0);
	ASSERT_EQ(io(blk, BLK_ZERO, 512, NULL, 4 * MIB + 1024, 0), 0);
	ASSERT_EQ(io(blk, BLK_READ, 0, mem, 5 * MIB, 0), 0);
	for (i = 512; i < 512 + 4 * MIB + 1024; i++)
		ASSERT_EQ(mem[i], 0);
	fill(mem, 512, 3);
	ASSERT_OK(stat(at("mnt/disk"), &st));
	ASSERT_GE(st.st_blocks, 5 * MIB / 512);
	ASSERT_EQ(io(blk, BLK_ZERO, 0, NULL, 5 * MIB, BLK_UNMAP), 0);
	ASSERT_OK(stat(at("mnt/disk"), &st));
	ASSERT_EQ(st.st_blocks, 0);
	close_disk(blk);
}

static int resized_nr;

static void resized(void *arg)
{
	resized_nr++;
}

static void test_resize(void)
{
	u8 *buf = pages(4096);
	const char *path;
	struct blk *blk;
	struct stat st;

	begin();
	path = image("disk", DISK_LEN);
	blk = open_path(path);
	blk->events.resized = resized;
	ASSERT_EQ(blk_resize(blk, 2 * DISK_LEN), 0);
	ASSERT_EQ(resized_nr, 1);
	ASSERT_EQ(blk->size, 2 * DISK_LEN);
	ASSERT_OK(stat(path, &st));
	ASSERT_EQ(st.st_size, 2 * DISK_LEN);
	ASSERT_EQ(io(blk, BLK_WRITE, 2 * DISK_LEN - 4096, buf, 4096, 0), 0);
	ASSERT_EQ(blk_resize(blk, DISK_LEN), -ERANGE);
	ASSERT_EQ(blk_resize(blk, 3 * DISK_LEN + 1), -EINVAL);
	ASSERT_EQ(blk_resize(blk, 0), 0);
	ASSERT_EQ(resized_nr, 1);
	/* Others may have made it longer or shorter. */
	ASSERT_OK(truncate(path, DISK_LEN + 100));
	ASSERT_EQ(blk_resize(blk, 0), 0);
	ASSERT_EQ(blk->size, DISK_LEN);
	ASSERT_EQ(resized_nr, 2);
	ASSERT_EQ(io(blk, BLK_READ, DISK_LEN, buf, 512, 0), -EINVAL);
	close_disk(blk);
}

static void test_refused_images(void)
{
	begin();
	image("short", MIB + 100);
	image("empty", 0);
	refused(at("none"), false, DISK_DIRECT_AUTO, "No such file");
	refused(at("short"), false, DISK_DIRECT_AUTO, "cut short");
	refused(at("empty"), false, DISK_DIRECT_AUTO, "empty");
	refused(dir, false, DISK_DIRECT_AUTO, "neither a file nor a block device");
	refused("/dev/null", false, DISK_DIRECT_AUTO, "neither a file nor a block device");
	refused("/proc/version", false, DISK_DIRECT_ON, "no direct I/O");
}

/* --- locks ---------------------------------------------------------------------------------------------------- */

static int open_in_child(const char *path, bool readonly)
{
	struct disk_options opt = { .path = path, .readonly = readonly };
	pid_t pid = ASSERT_OK(fork());
	int status;

	if (!pid)
		_exit(blk_open(&opt, "disk0") ? 0 : strstr(last_line, "another program") ? 1 : 2);
	ASSERT_OK(waitpid(pid, &status, 0));
	ASSERT(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_locks(void)
{
	struct disk_options opt = { };
	bool qemu;
	struct blk *blk;

	begin();
	opt.path = image("disk", DISK_LEN);
	qemu = !system("command -v qemu-io >/dev/null");
	blk = open_disk(&opt);
	ASSERT_EQ(open_in_child(opt.path, false), 1);
	ASSERT_EQ(open_in_child(opt.path, true), 1);
	if (qemu) {
		ASSERT_NE(run("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1", opt.path), 0);
	}
	/* Shared for a moment, as for a copy: readers, but no writer. */
	ASSERT_EQ(blk->kind->share(blk, true), 0);
	ASSERT_EQ(open_in_child(opt.path, false), 1);
	ASSERT_EQ(open_in_child(opt.path, true), 0);
	ASSERT_EQ(blk->kind->share(blk, false), 0);
	ASSERT_EQ(open_in_child(opt.path, true), 1);
	close_disk(blk);
	ASSERT_EQ(open_in_child(opt.path, false), 0);
	opt.readonly = true;
	blk = open_disk(&opt);
	ASSERT_EQ(open_in_child(opt.path, true), 0);
	ASSERT_EQ(open_in_child(opt.path, false), 1);
	if (qemu) {
		ASSERT_EQ(run("qemu-io -r -f raw -c 'read 0 512' %s >/dev/null 2>&1", opt.path), 0);
		ASSERT_NE(run("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1", opt.path), 0);
	}
	close_disk(blk);
}

static const char *uri(void)
{
	static char text[128];

	snprintf(text, sizeof(text), "nbd+unix:///?socket=%s/sock", dir);
	return text;
}

static void serve(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void test_qemu_has_the_lock(void)
{
	begin();
	if (system("command -v qemu-nbd >/dev/null"))
		SKIP("no qemu-nbd");
	image("disk", DISK_LEN);
	serve("exec qemu-nbd -t -f raw -k %s/sock %s/disk", dir, dir);
	/* It listens before it has opened the image, but answers after that. */
	close_disk(open_path(uri()));
	refused(at("disk"), false, DISK_DIRECT_AUTO, "another program uses");
	refused(at("disk"), true, DISK_DIRECT_AUTO, "another program writes to");
}

/* --- a full host disk ------------------------------------------------------------------------------------------- */

static int full_nr;

static void full(void *arg)
{
	full_nr++;
	loop_quit();
}

static void test_no_space(void)
{
	u8 *mem = pages(4 * MIB), *back = pages(4 * MIB);
	static struct io ios[64];
	struct blk_stats stats;
	struct blk *blk;
	int i, finished = 0;

	begin();
	if (geteuid() || mkdir(at("mnt"), 0700) || mount("tmpfs", at("mnt"), "tmpfs", 0, "size=1M"))
		SKIP("cannot mount a tmpfs");
	image("mnt/disk", DISK_LEN);
	blk = open_path(at("mnt/disk"));
	blk->events.no_space = full;
	fill(mem, 4 * MIB, 11);
	for (i = 0; i < 64; i++)
		io_start(blk, &ios[i], BLK_WRITE, i * 65536, mem + i * 65536, 65536, 0);
	while (!full_nr)
		ASSERT_EQ(loop_run(), 0);
	run_ms(50);
	ASSERT_EQ(full_nr, 1);
	ASSERT(strstr(last_line, "full"));
	blk_get_stats(blk, &stats);
	ASSERT_EQ(stats.started, 0);
	ASSERT_GE(stats.held, 40);
	ASSERT_EQ(stats.gates, BLK_GATE_SPACE);
	/* Still full: told once more, nothing lost. */
	blk_resume(blk);
	run_ms(50);
	ASSERT_EQ(full_nr, 2);
	for (i = 0; i < 64; i++)
		finished += ios[i].done;
	ASSERT_LT(finished, 64);
	ASSERT_OK(mount("tmpfs", at("mnt"), "tmpfs", MS_REMOUNT, "size=16M"));
	blk_resume(blk);
	finish();
	for (i = 0; i < 64; i++) {
		ASSERT_EQ(ios[i].done, 1);
		ASSERT_EQ(ios[i].err, 0);
	}
	ASSERT_EQ(io(blk, BLK_READ, 0, back, 4 * MIB, 0), 0);
	ASSERT(!memcmp(back, mem, 4 * MIB));
	close_disk(blk);
}

/* --- limits, stopping, freezing --------------------------------------------------------------------------------- */

static void test_limits(void)
{
	struct disk_options opt = { .iops = 200 };
	static struct io ios[100];
	u8 *mem = pages(DISK_LEN);
	struct blk *blk;
	u64 start, took;
	int i;

	begin();
	opt.path = image("disk", DISK_LEN);
	blk = open_disk(&opt);
	start = now_ms();
	for (i = 0; i < 100; i++)
		io_start(blk, &ios[i], BLK_READ, i * 4096, mem + i * 4096, 4096, 0);
	finish();
	took = now_ms() - start;
	/* 20 at once, 80 at 200 a second. */
	ASSERT_MSG(took >= 390 && took < 1500, "took %llu ms", (unsigned long long)took);
	blk_limit(blk, 0, 10 * MIB);
	start = now_ms();
	for (i = 0; i < 8; i++)
		io_start(blk, &ios[i], BLK_WRITE, i * MIB, mem, MIB, 0);
	finish();
	took = now_ms() - start;
	/* One at once, what is beyond at 10 MiB a second. */
	ASSERT_MSG(took >= 590 && took < 2000, "took %llu ms", (unsigned long long)took);
	/* A limit that goes away lets go what it held. */
	blk_limit(blk, 1, 0);
	for (i = 0; i < 8; i++)
		io_start(blk, &ios[i], BLK_READ, i * MIB, mem, MIB, 0);
	run_ms(20);
	ASSERT_GT(to_do, 0);
	blk_limit(blk, 0, 0);
	start = now_ms();
	finish();
	ASSERT_LT(now_ms() - start, 500);
	close_disk(blk);
}

static void test_stop_gives_back(void)
{
	struct disk_options opt = { .iops = 10 };
	static struct io ios[20];
	u8 *mem = pages(MIB);
	struct blk *blk;
	int i, done = 0, back = 0;

	begin();
	opt.path = image("disk", DISK_LEN);
	blk = open_disk(&opt);
	for (i = 0; i < 20; i++)
		io_start(blk, &ios[i], BLK_WRITE, i * 4096, mem, 4096, 0);
	blk_stop(blk);
	finish();
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(ios[i].done, 1);
		done += !ios[i].err;
		back += ios[i].err == -ECANCELED;
	}
	ASSERT_EQ(done, 1);
	ASSERT_EQ(back, 19);
	io_start(blk, &ios[0], BLK_WRITE, 0, mem, 4096, 0);
	ASSERT_EQ(ios[0].err, -ECANCELED);
	blk_go(blk);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, mem, 4096, 0), 0);
	close_disk(blk);
}

static int frozen_err = 1;

static void frozen(void *arg, int err)
{
	frozen_err = err;
	loop_quit();
}

static void test_freeze(void)
{
	static struct io ios[64];
	u8 *mem = pages(DISK_LEN);
	struct blk_stats stats;
	struct blk *blk;
	int i;

	begin();
	blk = open_path(image("disk", DISK_LEN));
	for (i = 0; i < 64; i++)
		io_start(blk, &ios[i], BLK_WRITE, i * 4096, mem, 4096, 0);
	ASSERT_EQ(blk_freeze(blk, 5000, frozen, NULL), 0);
	ASSERT_EQ(blk_freeze(blk, 5000, frozen, NULL), -EBUSY);
	while (!blk_frozen(blk))
		ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(frozen_err, 0);
	blk_get_stats(blk, &stats);
	ASSERT_EQ(stats.started, 0);
	finish();
	io_start(blk, &ios[0], BLK_WRITE, 0, mem, 4096, 0);
	run_ms(100);
	ASSERT_EQ(ios[0].done, 0);
	ASSERT_EQ(open_in_child(at("disk"), true), 0);
	blk_thaw(blk);
	finish();
	ASSERT_EQ(ios[0].err, 0);
	ASSERT_EQ(open_in_child(at("disk"), true), 1);
	/* Nobody thaws it: it does so itself, and no sooner. */
	ASSERT_EQ(blk_freeze(blk, 200, frozen, NULL), 0);
	while (!blk_frozen(blk))
		ASSERT_EQ(loop_run(), 0);
	io_start(blk, &ios[0], BLK_WRITE, 0, mem, 4096, 0);
	run_ms(100);
	ASSERT_EQ(ios[0].done, 0);
	finish();
	ASSERT(!blk_frozen(blk));
	close_disk(blk);
}

static int copied_err = 1;

static void copied(void *arg, int err)
{
	copied_err = err;
	loop_quit();
}

static void copy_on(const char *mkfs, const char *type)
{
	u8 *mem = pages(8 * DISK_LEN), *back = pages(8 * DISK_LEN);
	static struct io ios[64];
	u64 start, took, nr;
	struct blk *blk;
	int fd, i;

	begin();
	mount_fs(mkfs, type, 512 * MIB);
	image("mnt/disk", 8 * DISK_LEN);
	blk = open_path(at("mnt/disk"));
	fill(mem, 8 * DISK_LEN, 5);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, mem, 8 * DISK_LEN, 0), 0);
	fd = ASSERT_OK(open(at("mnt/copy"), O_RDWR | O_CREAT | O_EXCL, 0600));
	start = now_ms();
	ASSERT_EQ(blk_copy(blk, fd, copied, NULL), 0);
	ASSERT_EQ(blk_copy(blk, fd, copied, NULL), -EBUSY);
	/* These come after it. */
	while (blk->freeze.state != BLK_FROZEN && copied_err == 1 && !blk->freeze.quiesced)
		run_ms(1);
	to_do = 0;
	for (i = 0; i < 64; i++)
		io_start(blk, &ios[i], BLK_WRITE, i * DISK_LEN / 8, back, 4096, 0);
	while (copied_err == 1)
		ASSERT_EQ(loop_run(), 0);
	took = now_ms() - start;
	ASSERT_EQ(copied_err, 0);
	if (to_do)
		finish();
	tap_diag("%u MiB on %s: copied in %llu ms", (unsigned int)(8 * DISK_LEN / MIB), type, (unsigned long long)took);
	/* A second is what is promised; this machine may be busy. */
	ASSERT_LT(took, 3000);
	ASSERT_EQ(pread(fd, back, 8 * DISK_LEN, 0), 8 * DISK_LEN);
	ASSERT(!memcmp(back, mem, 8 * DISK_LEN));
	ASSERT_EQ(io(blk, BLK_READ, 0, back, 4096, 0), 0);
	ASSERT(memcmp(back, mem, 4096));
	close(fd);
	/* Of a disk that is frozen already: it stays in that freeze, and what comes meanwhile comes after it. */
	ASSERT_EQ(blk_freeze(blk, 5000, frozen, NULL), 0);
	while (!blk_frozen(blk))
		ASSERT_EQ(loop_run(), 0);
	nr = blk_frozen(blk);
	ASSERT_GT(nr, 0);
	io_start(blk, &ios[0], BLK_WRITE, 0, mem, 4096, 0);
	fd = ASSERT_OK(open(at("mnt/copy2"), O_RDWR | O_CREAT | O_EXCL, 0600));
	copied_err = 1;
	ASSERT_EQ(blk_copy(blk, fd, copied, NULL), 0);
	while (copied_err == 1)
		ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(copied_err, 0);
	ASSERT_EQ(blk_frozen(blk), nr);
	ASSERT_EQ(ios[0].done, 0);
	blk_thaw(blk);
	finish();
	ASSERT_EQ(blk_frozen(blk), 0);
	ASSERT_EQ(pread(fd, mem + DISK_LEN, 4096, 0), 4096);
	ASSERT(!memcmp(mem + DISK_LEN, back, 4096));
	close_disk(blk);
	close(fd);
}

static void test_copy_on_xfs(void)
{
	copy_on("mkfs.xfs -q -m reflink=1", "xfs");
}

static void test_copy_on_btrfs(void)
{
	copy_on("mkfs.btrfs -q", "btrfs");
}

static void test_copy_refused(void)
{
	struct blk *blk;
	u8 *buf = pages(4096);
	int fd;

	begin();
	mount_fs("mkfs.ext4 -q", "ext4", 64 * MIB);
	image("mnt/disk", DISK_LEN);
	blk = open_path(at("mnt/disk"));
	fd = ASSERT_OK(open(at("mnt/copy"), O_RDWR | O_CREAT | O_EXCL, 0600));
	ASSERT_EQ(blk_copy(blk, fd, copied, NULL), 0);
	while (copied_err == 1)
		ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(copied_err, -EOPNOTSUPP);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, buf, 4096, 0), 0);
	close_disk(blk);
	close(fd);
}

/* --- block devices ---------------------------------------------------------------------------------------------- */

static void device(unsigned int sector)
{
	struct disk_options opt = { .direct = DISK_DIRECT_ON };
	u8 *buf = pages(8192);
	struct blk *blk;

	begin();
	loop_device(DISK_LEN, sector);
	opt.path = loopdev;
	blk = open_disk(&opt);
	ASSERT_EQ(blk->block, sector);
	ASSERT_EQ(blk->size, DISK_LEN);
	shuffle(blk, 150, 512);
	shuffle(blk, 50, 1);
	if (sector > 512) {
		ASSERT_EQ(io(blk, BLK_READ, 512, buf, 4096, 0), -EINVAL);
		ASSERT_EQ(io(blk, BLK_READ, 0, buf, 512, 0), -EINVAL);
	}
	if (blk->can_discard)
		punch(blk, BLK_DISCARD, 0, at("backing"), true);
	punch(blk, BLK_ZERO, 0, at("backing"), false);
	punch(blk, BLK_ZERO, BLK_UNMAP, at("backing"), false);
	ASSERT_EQ(io(blk, BLK_FLUSH, 0, NULL, 0, 0), 0);
	ASSERT_EQ(blk_resize(blk, 2 * DISK_LEN), -EOPNOTSUPP);
	ASSERT_OK(truncate(at("backing"), 2 * DISK_LEN));
	ASSERT_EQ(run("losetup -c %s", loopdev), 0);
	ASSERT_EQ(blk_resize(blk, 0), 0);
	ASSERT_EQ(blk->size, 2 * DISK_LEN);
	ASSERT_EQ(io(blk, BLK_WRITE, 2 * DISK_LEN - 4096, buf, 4096, 0), 0);
	ASSERT_EQ(open_in_child(loopdev, false), 2);	/* busy before it comes to locks */
	close_disk(blk);
}

static void test_device_512(void)
{
	device(512);
}

static void test_device_4096(void)
{
	device(4096);
}

static void test_device_in_use(void)
{
	begin();
	mount_fs("mkfs.ext4 -q", "ext4", 64 * MIB);
	refused(loopdev, false, DISK_DIRECT_AUTO, "the host uses this device");
}

/* --- NBD -------------------------------------------------------------------------------------------------------- */

static void serve(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;
	int i;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	unlink(at("sock"));
	server = ASSERT_OK(fork());
	if (!server) {
		/* It is killed in the middle of its lines, one of which would take the next point's line with it. */
		int log = open(at("server.log"), O_WRONLY | O_CREAT | O_APPEND, 0600);

		dup2(log, STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(127);
	}
	for (i = 0; i < 1000 && access(at("sock"), F_OK); i++)
		usleep(20000);
	ASSERT_MSG(!access(at("sock"), F_OK), "the server does not start: %s", cmd);
}

static void kill_server(void)
{
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	server = 0;
}

/* It answers nothing any more. */
static void stop_server(void)
{
	kill(server, SIGSTOP);
	ASSERT_EQ(waitpid(server, NULL, WUNTRACED), server);
}

static void need_nbdkit(void)
{
	begin();
	if (system("command -v nbdkit >/dev/null"))
		SKIP("no nbdkit");
}

static void test_nbd(void)
{
	u8 *buf = pages(MIB), *back = pages(MIB);
	struct blk_stats stats;
	struct blk *blk;

	need_nbdkit();
	serve("exec nbdkit -f -U %s/sock memory %llu", dir, DISK_LEN);
	blk = open_path(uri());
	ASSERT_EQ(blk->size, DISK_LEN);
	ASSERT_EQ(blk->block, 512);
	shuffle(blk, 200, 1);
	ASSERT(blk->can_discard);
	fill(buf, MIB, 3);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, buf, MIB, BLK_DURABLE), 0);
	ASSERT_EQ(io(blk, BLK_DISCARD, 65536, NULL, 65536, 0), 0);
	ASSERT_EQ(io(blk, BLK_ZERO, 2 * 65536, NULL, 65536, 0), 0);
	ASSERT_EQ(io(blk, BLK_ZERO, 3 * 65536, NULL, 65536, BLK_UNMAP), 0);
	ASSERT_EQ(io(blk, BLK_FLUSH, 0, NULL, 0, 0), 0);
	ASSERT_EQ(io(blk, BLK_READ, 0, back, MIB, 0), 0);
	memset(buf + 65536, 0, 3 * 65536);
	ASSERT(!memcmp(back, buf, MIB));
	ASSERT_EQ(io(blk, BLK_READ, DISK_LEN, back, 512, 0), -EINVAL);
	ASSERT_EQ(blk_resize(blk, 2 * DISK_LEN), -EOPNOTSUPP);
	blk_get_stats(blk, &stats);
	ASSERT_EQ(stats.started, 0);
	ASSERT_EQ(stats.held, 0);
	close_disk(blk);
}

static void test_nbd_without_extras(void)
{
	u8 *buf = pages(3 * MIB), *back = pages(3 * MIB);
	struct blk *blk;

	need_nbdkit();
	serve("exec nbdkit -f -U %s/sock --filter=nozero --filter=fua memory %llu zeromode=none", dir, DISK_LEN);
	blk = open_path(uri());
	ASSERT(!blk->durable);
	fill(buf, 3 * MIB, 9);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, buf, 3 * MIB, BLK_DURABLE), 0);
	ASSERT_EQ(io(blk, BLK_ZERO, 512, NULL, 2 * MIB, BLK_DURABLE), 0);
	memset(buf + 512, 0, 2 * MIB);
	ASSERT_EQ(io(blk, BLK_READ, 0, back, 3 * MIB, 0), 0);
	ASSERT(!memcmp(back, buf, 3 * MIB));
	close_disk(blk);
}

static void test_nbd_errors(void)
{
	u8 *buf = pages(4096);
	struct blk *blk;
	int fd;

	need_nbdkit();
	serve("exec nbdkit -f -U %s/sock --filter=error memory %llu error-pread=EIO error-pread-rate=100%% "
	      "error-pread-file=%s/fail error-pwrite=ENOSPC error-pwrite-rate=100%% error-pwrite-file=%s/fail",
	      dir, DISK_LEN, dir, dir);
	blk = open_path(uri());
	blk->events.no_space = full;
	ASSERT_EQ(io(blk, BLK_READ, 0, buf, 4096, 0), 0);
	fd = ASSERT_OK(open(at("fail"), O_CREAT | O_RDWR, 0600));
	close(fd);
	ASSERT_EQ(io(blk, BLK_READ, 0, buf, 4096, 0), -EIO);
	to_do = 0;
	struct io one;

	io_start(blk, &one, BLK_WRITE, 0, buf, 4096, 0);
	while (!full_nr)
		ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(one.done, 0);
	ASSERT_OK(unlink(at("fail")));
	blk_resume(blk);
	finish();
	ASSERT_EQ(one.err, 0);
	close_disk(blk);
}

static void test_nbd_refused(void)
{
	struct disk_options opt = { .readonly = true };
	u8 *buf = pages(4096);
	struct blk *blk;

	need_nbdkit();
	refused(uri(), false, DISK_DIRECT_AUTO, "start the server");
	serve("exec nbdkit -r -f -U %s/sock memory %llu", dir, DISK_LEN);
	refused(uri(), false, DISK_DIRECT_AUTO, "read-only");
	opt.path = uri();
	blk = open_disk(&opt);
	ASSERT_EQ(io(blk, BLK_READ, 0, buf, 4096, 0), 0);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, buf, 4096, 0), -EROFS);
	close_disk(blk);
}

static void test_nbd_server_dies(void)
{
	static struct io ios[64];
	u8 *mem = pages(4 * MIB), *back = pages(4 * MIB);
	struct blk_stats stats;
	struct blk *blk;
	int i, round, done = 0;

	need_nbdkit();
	image("disk", DISK_LEN);
	serve("exec nbdkit -f -U %s/sock --filter=delay file %s/disk delay-write=50ms delay-read=50ms", dir, dir);
	blk = open_path(uri());
	for (round = 0; round < 3; round++) {
		fill(mem, 4 * MIB, round);
		to_do = 0;
		for (i = 0; i < 64; i++)
			io_start(blk, &ios[i], BLK_WRITE, i * 65536, mem + i * 65536, 65536, 0);
		run_ms(70);
		for (i = 0; i < 64; i++)
			done += ios[i].done;
		ASSERT_LT(done, 64 * (round + 1));
		kill_server();
		run_ms(150);
		blk_get_stats(blk, &stats);
		ASSERT_EQ(stats.started, 0);
		ASSERT_GE(stats.held, 1);
		ASSERT(stats.gates & BLK_GATE_LINK);
		serve("exec nbdkit -f -U %s/sock --filter=delay file %s/disk delay-write=50ms delay-read=50ms", dir, dir);
		finish();
		done = 64 * (round + 1);
		for (i = 0; i < 64; i++) {
			ASSERT_EQ(ios[i].done, 1);
			ASSERT_EQ(ios[i].err, 0);
		}
		ASSERT_EQ(io(blk, BLK_READ, 0, back, 4 * MIB, 0), 0);
		ASSERT(!memcmp(back, mem, 4 * MIB));
	}
	/* What is held goes back to a front that stops. */
	stop_server();
	io_start(blk, &ios[0], BLK_READ, 0, back, 4096, 0);
	kill_server();
	run_ms(150);
	ASSERT_EQ(ios[0].done, 0);
	blk_stop(blk);
	ASSERT_EQ(ios[0].err, -ECANCELED);
	close_disk(blk);
}

static void test_nbd_hung_server(void)
{
	struct io one;
	u8 *buf = pages(4096);
	struct blk *blk;
	u64 start;

	need_nbdkit();
	serve("exec nbdkit -f -U %s/sock memory %llu", dir, DISK_LEN);
	blk = open_path(uri());
	ASSERT_EQ(io(blk, BLK_WRITE, 0, buf, 4096, 0), 0);
	stop_server();
	to_do = 0;
	io_start(blk, &one, BLK_WRITE, 0, buf, 4096, 0);
	run_ms(100);
	ASSERT_EQ(one.done, 0);
	start = now_ms();
	blk_stop(blk);
	finish();
	ASSERT_EQ(one.err, -ECANCELED);
	ASSERT_LT(now_ms() - start, 5000);
	close_disk(blk);
}

static void test_nbd_other_size(void)
{
	struct io one;
	u8 *buf = pages(4096);
	struct blk *blk;

	need_nbdkit();
	serve("exec nbdkit -f -U %s/sock memory %llu", dir, DISK_LEN);
	blk = open_path(uri());
	blk->events.resized = resized;
	kill_server();
	serve("exec nbdkit -f -U %s/sock memory %llu", dir, DISK_LEN / 2);
	to_do = 0;
	io_start(blk, &one, BLK_READ, 0, buf, 4096, 0);
	run_ms(500);
	ASSERT_EQ(one.done, 0);
	ASSERT_EQ(resized_nr, 0);
	kill_server();
	serve("exec nbdkit -f -U %s/sock memory %llu", dir, DISK_LEN * 2);
	finish();
	ASSERT_EQ(one.err, 0);
	ASSERT_EQ(resized_nr, 1);
	ASSERT_EQ(blk->size, 2 * DISK_LEN);
	close_disk(blk);
}

/* It ends with its last client: neither a resize nor a stop may be taken for that, the disk's end is. */
static void test_nbd_last_client(void)
{
	struct io one;
	u8 *buf = pages(4096);
	struct blk *blk;
	int status;

	begin();
	if (system("command -v qemu-nbd >/dev/null"))
		SKIP("no qemu-nbd");
	image("disk", DISK_LEN);
	serve("exec qemu-nbd --shared 8 -f raw -k %s/sock %s/disk", dir, dir);
	blk = open_path(uri());
	ASSERT_EQ(blk_resize(blk, 0), 0);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, buf, 4096, 0), 0);
	stop_server();
	to_do = 0;
	io_start(blk, &one, BLK_WRITE, 0, buf, 4096, 0);
	run_ms(100);
	blk_stop(blk);
	finish();
	ASSERT_EQ(one.err, -ECANCELED);
	kill(server, SIGCONT);
	blk_go(blk);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, buf, 4096, 0), 0);
	close_disk(blk);
	alarm(20);
	ASSERT_OK(waitpid(server, &status, 0));
	server = 0;
	ASSERT(WIFEXITED(status) && !WEXITSTATUS(status));
}

static void test_switch_to_overlay(void)
{
	u8 *mem = pages(DISK_LEN), *back = pages(DISK_LEN);
	static struct io ios[16];
	struct blk *blk;
	u64 start, took;
	int fd, i;

	begin();
	if (system("command -v qemu-nbd >/dev/null && command -v qemu-img >/dev/null"))
		SKIP("no qemu-nbd");
	image("disk", DISK_LEN);
	blk = open_path(at("disk"));
	fill(mem, DISK_LEN, 21);
	ASSERT_EQ(io(blk, BLK_WRITE, 0, mem, DISK_LEN, 0), 0);
	ASSERT_EQ(run("qemu-img create -q -u -f qcow2 -F raw -b %s/disk %s/over %llu", dir, dir, DISK_LEN), 0);
	ASSERT_EQ(blk_switch(blk, uri()), -EAGAIN);
	start = now_ms();
	ASSERT_EQ(blk_freeze(blk, 10000, frozen, NULL), 0);
	while (!blk_frozen(blk))
		ASSERT_EQ(loop_run(), 0);
	to_do = 0;
	for (i = 0; i < 16; i++)
		io_start(blk, &ios[i], BLK_WRITE, i * 65536, back, 4096, 0);
	ASSERT_EQ(blk_switch(blk, uri()), -EIO);	/* nobody there: it goes on as it was */
	ASSERT(blk_frozen(blk));
	serve("exec qemu-nbd -t -f qcow2 -k %s/sock %s/over", dir, dir);
	ASSERT_EQ(blk_switch(blk, uri()), 0);
	finish();
	took = now_ms() - start;
	tap_diag("frozen for %llu ms", (unsigned long long)took);
	ASSERT_LT(took, 3000);
	for (i = 0; i < 16; i++)
		ASSERT_EQ(ios[i].err, 0);
	ASSERT(blk->kind == &blk_nbd);
	ASSERT_EQ(io(blk, BLK_READ, 0, back, DISK_LEN, 0), 0);
	for (i = 0; i < 16; i++) {
		ASSERT(memcmp(back + i * 65536, mem + i * 65536, 4096));
		ASSERT(!memcmp(back + i * 65536 + 4096, mem + i * 65536 + 4096, 61440));
	}
	/* The snapshot is the file that it was. */
	fd = ASSERT_OK(open(at("disk"), O_RDONLY));
	ASSERT_EQ(pread(fd, back, DISK_LEN, 0), DISK_LEN);
	ASSERT(!memcmp(back, mem, DISK_LEN));
	close(fd);
	refused(at("disk"), false, DISK_DIRECT_AUTO, "another program uses");
	close_disk(blk);
}

/* --- the command line ------------------------------------------------------------------------------------------- */

static void parsed(const char *text, int want, const char *line)
{
	static char copy[256];
	struct disk_options disk;

	snprintf(copy, sizeof(copy), "%s", text);
	*last_line = 0;
	ASSERT_EQ(disk_options_parse(&disk, copy), want);
	if (line)
		ASSERT_MSG(strstr(last_line, line), "%s: said '%s'", text, last_line);
}

static void test_options(void)
{
	char text[] = "path=/x/y,readonly=on,direct=off,queues=4,iops=1000,bps=10M,serial=AB-12";
	char uri_text[] = "nbd+unix:///exp?socket=/tmp/s,readonly=on", plain[] = "a=b,c";
	struct disk_options disk;

	fail_sink = keep_line;
	ASSERT_EQ(disk_options_parse(&disk, text), 0);
	ASSERT(!strcmp(disk.path, "/x/y") && !strcmp(disk.serial, "AB-12") && disk.readonly);
	ASSERT_EQ(disk.direct, DISK_DIRECT_OFF);
	ASSERT_EQ(disk.queues, 4);
	ASSERT_EQ(disk.iops, 1000);
	ASSERT_EQ(disk.bps, 10 * MIB);
	ASSERT_EQ(disk_options_parse(&disk, uri_text), 0);
	ASSERT(!strcmp(disk.path, "nbd+unix:///exp?socket=/tmp/s") && disk.readonly);
	ASSERT_EQ(disk_options_path(&disk, plain), 0);
	ASSERT(!strcmp(disk.path, "a=b,c") && !disk.readonly);
	parsed("disk.img", 0, NULL);
	parsed("./a=b.img", 0, NULL);
	parsed("readonly=on", -EINVAL, "no path");
	parsed("", -EINVAL, "empty");
	parsed("path=", -EINVAL, "empty");
	parsed("file=x", -EINVAL, "unknown key");
	parsed("path=x,ro", -EINVAL, "no key=value");
	parsed("path=x,readonly=yes", -EINVAL, "on or off");
	parsed("path=x,direct=maybe", -EINVAL, "direct=maybe");
	parsed("path=x,queues=0", -EINVAL, "queues=0");
	parsed("path=x,queues=17", -EINVAL, "queues=17");
	parsed("path=x,iops=0", -EINVAL, "iops=0");
	parsed("path=x,iops=-1", -EINVAL, "iops=-1");
	parsed("path=x,bps=10X", -EINVAL, "bps=10X");
	parsed("path=x,serial=", -EINVAL, "serial=");
	parsed("path=x,serial=123456789012345678901", -EINVAL, "20");
	parsed("path=x,serial=a b", -EINVAL, "serial=");
}

static const struct tap_test tests[] = {
	TEST(buffered),
	TEST(direct),
	TEST(parts),
	TEST(many_bounces),
	TEST(auto_falls_back),
	TEST(refused_requests),
	TEST(shrunk_file),
	TEST(flush),
	TEST(discard_and_zeros),
	TEST(zeros_by_hand),
	TEST(resize),
	TEST(refused_images),
	TEST(locks),
	TEST(qemu_has_the_lock),
	TEST(no_space),
	TEST(limits),
	TEST(stop_gives_back),
	TEST(freeze),
	TEST(copy_on_xfs),
	TEST(copy_on_btrfs),
	TEST(copy_refused),
	TEST(device_512),
	TEST(device_4096),
	TEST(device_in_use),
	TEST(nbd),
	TEST(nbd_without_extras),
	TEST(nbd_errors),
	TEST(nbd_refused),
	TEST(nbd_server_dies),
	TEST(nbd_hung_server),
	TEST(nbd_other_size),
	TEST(nbd_last_client),
	TEST(switch_to_overlay),
	TEST(options),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
