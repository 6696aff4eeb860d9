// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that go along with a machine that moves, as pvhv-run does it (vmm/move_disks.c, blk_log.c) on files of this machine: each
 * write to a disk is logged, whatever its kind; what the log tells, copied chunk by chunk, makes the other file equal; the file is
 * made, locked, no disk until it is complete, and gone or empty if it never is; what holds something, is locked, or is no file, is
 * left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../vmm/blk.h"
#include "../vmm/move.h"
#include "scratch.h"
#include "tap.h"

#define LEN		(4 * MIB + 1536)
#define CHUNKS		((LEN + BLK_LOG_CHUNK - 1) / BLK_LOG_CHUNK)

static char last_line[1100];
static struct blk *disk;

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
}

/* The machine has this one, and one on a server before it, which is not offered */
static const struct blk_kind server = { .name = "server" };
static struct blk far = { .kind = &server };

struct blk *disks_at(const struct vm *vm, u32 nr)
{
	return nr == 0 ? &far : nr == 1 ? disk : NULL;
}

static void woken(void *arg)
{
}

static void begin(void)
{
	struct disk_options opt = { .path = NULL };

	fail_sink = keep_line;
	make_dir("vmm_move_disks");
	ASSERT_EQ(loop_init(woken, NULL), 0);
	opt.path = image("source", LEN);
	disk = blk_open(&opt, "disk1");
	ASSERT_MSG(disk, "%s", last_line);
	blk_attach(disk);
}

static void end(void)
{
	char cmd[128];

	blk_detach(disk);
	loop_fini();
	blk_close(disk);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	ASSERT_EQ(system(cmd), 0);
}

static int io_err;

static void io_done(struct blk_req *req, int err)
{
	io_err = err;
	loop_quit();
}

static void io(int op, u64 pos, void *data, u64 len, int flags)
{
	struct iovec iov = { data, len };
	struct blk_req req = {
		.done = io_done, .op = op, .pos = pos, .len = len, .flags = flags, .iov = &iov, .nr_iov = !!data,
	};

	io_err = 1;
	blk_submit(disk, &req);
	while (io_err == 1)
		ASSERT_EQ(loop_run(), 0);
	ASSERT_EQ(io_err, 0);
}

/* --- the log --------------------------------------------------------------------------------------------------- */

static u64 fetch(void)
{
	u64 bits[2] = { 0 };

	_Static_assert(CHUNKS < 128, "room");
	ASSERT_EQ(move_disks_fetch(NULL, 0, bits), 0);
	ASSERT_EQ(bits[1] >> (CHUNKS - 64), 0);
	return bits[0] | (bits[1] ? 1ull << 63 : 0);
}

static void offer(void)
{
	struct migrate_disk list[4];

	ASSERT_EQ(move_disks_offer(NULL, list, 4), 1);
	ASSERT(!strcmp(list[0].name, "disk1"));
	ASSERT_EQ(list[0].size, LEN);
}

static void test_log(void)
{
	u8 *data = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	begin();
	ASSERT(data != MAP_FAILED);
	memset(data, 7, MIB);
	offer();
	io(BLK_WRITE, 0, data, 4096, 0);
	ASSERT_EQ(move_disks_log(NULL), 0);
	ASSERT_EQ(fetch(), 0);				/* what was before is no news */
	io(BLK_WRITE, BLK_LOG_CHUNK - 512, data, 512, 0);
	ASSERT_EQ(fetch(), 1);
	ASSERT_EQ(fetch(), 0);
	io(BLK_WRITE, BLK_LOG_CHUNK - 512, data, 1024, BLK_DURABLE);
	ASSERT_EQ(fetch(), 3);
	io(BLK_WRITE, 2 * BLK_LOG_CHUNK, data + 512, 3 * BLK_LOG_CHUNK, 0);	/* maybe in pieces, through a buffer */
	ASSERT_EQ(fetch(), 0x1c);
	io(BLK_ZERO, 5 * BLK_LOG_CHUNK, NULL, BLK_LOG_CHUNK, BLK_UNMAP);
	io(BLK_ZERO, 7 * BLK_LOG_CHUNK, NULL, 512, 0);
	ASSERT_EQ(fetch(), 0xa0);
	if (disk->can_discard) {
		io(BLK_DISCARD, 8 * BLK_LOG_CHUNK, NULL, 2 * BLK_LOG_CHUNK, 0);
		ASSERT_EQ(fetch(), 0x300);
	}
	io(BLK_READ, 0, data, MIB, 0);
	io(BLK_FLUSH, 0, NULL, 0, 0);
	ASSERT_EQ(fetch(), 0);
	io(BLK_WRITE, LEN - 512, data, 512, 0);
	ASSERT_EQ(fetch(), 1ull << 63);
	ASSERT_EQ(blk_resize(disk, LEN + MIB), -EBUSY);
	ASSERT_EQ(move_disks_log(NULL), -EBUSY);
	ASSERT_EQ(blk_log_start(disk), 0);	/* which has ended the log */
	move_disks_unlog(NULL);
	io(BLK_WRITE, 0, data, 512, 0);
	ASSERT_EQ(blk_resize(disk, LEN + MIB), 0);
	end();
}

/* --- the copy -------------------------------------------------------------------------------------------------- */

static struct options opt;
static struct migrate_facts *facts;

static void target(const char *path)
{
	memset(&opt, 0, sizeof(opt));
	opt.nr_disks = 2;
	opt.disks[0].path = "nbd://host/export";
	opt.disks[1].path = path;
	facts = migrate_facts_new();
	ASSERT_EQ(migrate_fact(facts, "disk0.size", "%llu", 4096ull), 0);
	ASSERT_EQ(migrate_fact(facts, "disk1.size", "%llu", (unsigned long long)LEN), 0);
	ASSERT_EQ(move_disks_describe(NULL, facts), 0);
}

static bool readable(const char *path)
{
	struct disk_options o = { .path = path, .readonly = true };
	struct blk *blk = blk_open(&o, "disk9");

	if (blk)
		blk_close(blk);
	return blk;
}

static void test_copy(void)
{
	u8 *chunk = aligned_alloc(4096, BLK_LOG_CHUNK), *a, *b;
	const char *path;
	struct migrate_disk list[4];
	struct stat st;
	u64 pos, len;
	int fd[2];

	begin();
	memset(chunk, 0x5a, BLK_LOG_CHUNK);
	for (pos = 0; pos + BLK_LOG_CHUNK < LEN; pos += 3 * BLK_LOG_CHUNK)
		io(BLK_WRITE, pos, chunk, BLK_LOG_CHUNK, 0);
	io(BLK_WRITE, LEN - 512, chunk, 512, 0);
	offer();
	path = strdup(at("copy"));
	target(path);
	ASSERT_EQ(move_disks_prepare(&opt, facts), 0);
	ASSERT_EQ(move_disks_list(list, 4), 1);
	ASSERT(!strcmp(list[0].name, "disk1"));
	ASSERT_EQ(list[0].size, LEN);
	ASSERT_OK(stat(path, &st));
	ASSERT_EQ(st.st_size, LEN);		/* for those who open it now */
	ASSERT_EQ(st.st_mode & 0777, 0600);
	ASSERT_EQ(move_disks_begin(), 0);
	ASSERT(!readable(path));
	ASSERT_MSG(strstr(last_line, "no whole number of sectors"), "%s", last_line);
	for (pos = 0; pos < LEN; pos += len) {
		len = LEN - pos < BLK_LOG_CHUNK ? LEN - pos : BLK_LOG_CHUNK;
		ASSERT_EQ(move_disks_read(NULL, 0, pos, chunk, len), 0);
		ASSERT_EQ(move_disks_write(0, pos, chunk, len), 0);
	}
	ASSERT_EQ(move_disks_write(0, 3 * BLK_LOG_CHUNK, NULL, BLK_LOG_CHUNK), 0);
	memset(chunk, 0, BLK_LOG_CHUNK);
	io(BLK_WRITE, 3 * BLK_LOG_CHUNK, chunk, BLK_LOG_CHUNK, 0);
	ASSERT_EQ(move_disks_flush(), 0);
	ASSERT(!readable(path));
	ASSERT_EQ(move_disks_end(), 0);
	move_disks_close(true);
	ASSERT_MSG(readable(path), "%s", last_line);
	fd[0] = ASSERT_OK(open(at("source"), O_RDONLY));
	fd[1] = ASSERT_OK(open(path, O_RDONLY));
	a = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd[0], 0);
	b = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd[1], 0);
	ASSERT(a != MAP_FAILED && b != MAP_FAILED && !memcmp(a, b, LEN));
	migrate_facts_free(facts);
	end();
}

static void refused(const char *path, const char *why)
{
	target(path);
	*last_line = 0;
	ASSERT_LT(move_disks_prepare(&opt, facts), 0);
	ASSERT_MSG(strstr(last_line, why) && strstr(last_line, "disk1"), "%s", last_line);
	move_disks_close(false);
	migrate_facts_free(facts);
}

static void test_refused(void)
{
	struct stat st;
	int fd;

	begin();
	offer();
	fd = ASSERT_OK(open(image("full", LEN), O_RDWR));
	ASSERT_EQ(write(fd, "x", 1), 1);
	fsync(fd);
	refused(at("full"), "holds something");
	ASSERT_OK(stat(at("full"), &st));
	ASSERT_EQ(st.st_size, LEN);		/* and is left as it is */
	refused("nbd+unix:///?socket=x", "server");
	refused("/dev/null", "no file");
	refused(at("no/such/place"), "No such file");
	ASSERT_OK(symlink("elsewhere", at("link")));
	refused(at("link"), "");
	ASSERT(access(at("elsewhere"), F_OK));

	/* Locked: the same file on both hosts, to which nothing is copied */
	ASSERT_EQ(blk_lock(fd, true), 0);
	target(at("full"));
	ASSERT_EQ(move_disks_prepare(&opt, facts), 0);
	ASSERT_EQ(move_disks_list(NULL, 0), 0);
	move_disks_close(true);
	close(fd);
	end();
}

static void start(const char *path)
{
	u8 data[512] = { 1 };

	target(path);
	ASSERT_EQ(move_disks_prepare(&opt, facts), 0);
	ASSERT_EQ(move_disks_begin(), 0);
	ASSERT_EQ(move_disks_write(0, 0, data, sizeof(data)), 0);
	migrate_facts_free(facts);
}

/* What has failed leaves nothing, or an empty file where there was one */
static void test_failed(void)
{
	struct stat st;
	u64 size;

	begin();
	offer();
	start(at("new"));
	move_disks_close(false);
	ASSERT(access(at("new"), F_OK));
	for (size = 0; size <= LEN; size += LEN) {
		start(image("empty", size));
		move_disks_close(false);
		ASSERT_OK(stat(at("empty"), &st));
		ASSERT_EQ(st.st_size, 0);
		ASSERT_EQ(st.st_blocks, 0);
		start(at("empty"));		/* once more */
		move_disks_close(false);
	}
	/* Another has its name by then */
	start(at("new"));
	ASSERT_OK(rename(at("new"), at("moved")));
	image("new", 512);
	move_disks_close(false);
	ASSERT_OK(access(at("new"), F_OK));
	/* A process that dies leaves what nobody takes for a disk, nor for empty */
	start(at("dead"));
	move_disks_close(true);
	ASSERT(!readable(at("dead")));
	refused(at("dead"), "holds something");
	end();
}

static const struct tap_test tests[] = {
	TEST(log),
	TEST(copy),
	TEST(refused),
	TEST(failed),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
