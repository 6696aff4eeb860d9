// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies virtio-blk without a guest: what it offers of which disk; requests in every division into pieces; each status where
 * it belongs; what a hostile driver can put into headers, chains and ranges, also while they are read; one interrupt for a
 * batch; reset and pause with requests held; a saved device goes on where it was, each request done once; while the machine moves
 * each page that a read has written is known, however the storage had it; resizing and the write cache's switch.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <linux/virtio_blk.h>

#include "tap.h"
#include "fakevirtio.h"
#include "../vmm/blk.h"
#include "../vmm/virtio_blk.h"

#define MEM_SIZE	(16 * MIB)
#define RINGS		0x10000ULL	/* 64 KiB each */
#define TABLES		0x100000ULL
#define HEADERS		0x200000ULL	/* 64 bytes for each request: header, status at 32 */
#define DATA		0x400000ULL
#define RING_NUM	256
#define DISK_LEN	(4 * MIB)

static char last_line[1100];
static int lines;

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
	lines++;
}

/* --- a transport, a driver and the loop --------------------------------------------------------------------------- */

static struct mem mem;
static struct blk *blk;
static struct vring_drv ring[4];
static char path[] = "/tmp/vmm_virtio_blk.XXXXXX";
static unsigned int nr_added;
static u64 all_features;

/* Long enough for everything that is under way. */
static void pump(void)
{
	struct blk_stats stats;

	do {
		run_loop(2);
		blk_get_stats(blk, &stats);
	} while (stats.started);
}

static void open_device(const struct disk_options *opt, u32 queues)
{
	if (!mem.host)
		ASSERT_EQ(mem_init(&mem, MEM_SIZE, MEM_PAGES_SMALL), 0);
	blk = blk_open(opt, "disk0");
	ASSERT_MSG(blk, "%s", last_line);
	v = virtio_blk_create(&mem, blk, opt->serial, queues);
	ASSERT_MSG(v, "%s", last_line);
	v->transport = &transport;
	ASSERT_EQ(loop_init(woken, NULL), 0);
	blk_attach(blk);
	virtio_open(v);
	all_features = v->offered;
}

static void close_device(void)
{
	virtio_close(v);
	blk_detach(blk);
	loop_fini();
	virtio_device_ops()->destroy(&v->dev);
	blk_close(blk);
}

static void start_driver(u64 features)
{
	u32 i;

	negotiate(features);
	for (i = 0; i < v->nr_queues; i++) {
		vring_drv_init(&ring[i], &mem, RINGS + i * 0x10000, RING_NUM);
		vring_attach(&ring[i], v, i);
	}
	driver_ok();
	pump();
	ASSERT(v->started);
	nr_added = 0;
}

static void begin(u64 without)
{
	struct disk_options opt = { .path = path, .serial = "SERIAL-7" };
	int fd;

	fail_sink = keep_line;
	fd = ASSERT_OK(mkstemp(path));
	ASSERT_OK(ftruncate(fd, DISK_LEN));
	close(fd);
	open_device(&opt, 1);
	unlink(path);
	start_driver(v->offered & ~without);
}

static void kick(unsigned int queue)
{
	u64 one = 1;

	ASSERT_EQ(write(v->queues[queue].kick_fd, &one, sizeof(one)), sizeof(one));
}

static volatile u8 *status_of(unsigned int nr)
{
	return mem_at(&mem, HEADERS + nr * 64 + 32, 1);
}

static struct virtio_blk_outhdr *header_of(unsigned int nr)
{
	return mem_at(&mem, HEADERS + nr * 64, sizeof(struct virtio_blk_outhdr));
}

/* Header, @pieces, status byte; returns the request's number. */
static unsigned int add(u32 type, u64 sector, const struct vring_piece *pieces, unsigned int nr)
{
	struct vring_piece all[64] = { { HEADERS + nr_added * 64, 16, false } };

	*header_of(nr_added) = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
	*status_of(nr_added) = 0xee;
	if (nr)
		memcpy(all + 1, pieces, nr * sizeof(*pieces));
	all[nr + 1] = (struct vring_piece){ HEADERS + nr_added * 64 + 32, 1, true };
	vring_add_indirect(&ring[0], TABLES + nr_added * 1024, all, nr + 2);
	return nr_added++;
}

static void go(void)
{
	vring_want_event(&ring[0]);
	if (vring_show(&ring[0], true))
		kick(0);
	pump();
}

static unsigned int used(void)
{
	u32 head, len;
	unsigned int nr = 0;

	while (vring_take(&ring[0], &head, &len))
		nr++;
	return nr;
}

/* One request with one piece of data; its status. */
static u8 request(u32 type, u64 sector, u64 addr, u32 len)
{
	struct vring_piece piece = { addr, len, type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID };
	unsigned int nr = add(type, sector, &piece, !!len);

	go();
	ASSERT_EQ(used(), 1);
	return *status_of(nr);
}

static void fill(u64 addr, u32 len, u32 seed)
{
	u8 *p = mem_at(&mem, addr, len);

	while (len--) {
		seed = seed * 1664525 + 1013904223;
		*p++ = seed >> 24;
	}
}

static bool equal(u64 a, u64 b, u32 len)
{
	return !memcmp(mem_at(&mem, a, len), mem_at(&mem, b, len), len);
}

/* --- what it offers ----------------------------------------------------------------------------------------------- */

static void test_offers(void)
{
	struct disk_options opt = { .path = path };
	struct virtio_blk_config config;

	begin(0);
	virtio_config_read(v, 0, (u8 *)&config, sizeof(config));
	ASSERT_EQ(config.capacity, DISK_LEN / 512);
	ASSERT_EQ(config.seg_max, 254);
	ASSERT_EQ(config.blk_size, 512);
	ASSERT_EQ(config.num_queues, 1);
	ASSERT_EQ(config.wce, 1);
	ASSERT(all_features & VIRTIO_BIT(VIRTIO_BLK_F_FLUSH));
	ASSERT(all_features & VIRTIO_BIT(VIRTIO_BLK_F_WRITE_ZEROES));
	ASSERT(all_features & VIRTIO_BIT(VIRTIO_BLK_F_DISCARD));
	ASSERT(!(all_features & VIRTIO_BIT(VIRTIO_BLK_F_RO)));
	close_device();

	opt.readonly = true;
	close(ASSERT_OK(open(path, O_RDWR | O_CREAT, 0600)));
	ASSERT_OK(truncate(path, DISK_LEN));
	open_device(&opt, 4);
	unlink(path);
	virtio_config_read(v, 0, (u8 *)&config, sizeof(config));
	ASSERT_EQ(config.num_queues, 4);
	ASSERT(all_features & VIRTIO_BIT(VIRTIO_BLK_F_RO));
	ASSERT(!(all_features & VIRTIO_BIT(VIRTIO_BLK_F_WRITE_ZEROES)));
	ASSERT(!(all_features & VIRTIO_BIT(VIRTIO_BLK_F_DISCARD)));
	start_driver(v->offered);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_IOERR);
	close_device();
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void test_read_write(void)
{
	struct vring_piece pieces[8];
	unsigned int nr, i;

	begin(0);
	fill(DATA, 64 * KIB, 1);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 8, DATA, 64 * KIB), VIRTIO_BLK_S_OK);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 8, DATA + MIB, 64 * KIB), VIRTIO_BLK_S_OK);
	ASSERT(equal(DATA, DATA + MIB, 64 * KIB));
	/* Eight pieces at odd addresses and of odd lengths. */
	for (i = 0; i < 8; i++)
		pieces[i] = (struct vring_piece){ DATA + 2 * MIB + i * 16384 + 1, i < 7 ? 8191 : 65536 - 7 * 8191, true };
	nr = add(VIRTIO_BLK_T_IN, 8, pieces, 8);
	go();
	ASSERT_EQ(used(), 1);
	ASSERT_EQ(*status_of(nr), VIRTIO_BLK_S_OK);
	for (i = 0; i < 8; i++)
		ASSERT(equal(pieces[i].addr, DATA + i * 8191, pieces[i].len));
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 8, DATA, 0), VIRTIO_BLK_S_OK);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 8, DATA, 0), VIRTIO_BLK_S_OK);
	close_device();
}

/* The standard lets a driver cut a request where it likes. */
static void test_any_layout(void)
{
	struct vring_piece pieces[6];
	u8 *p;

	begin(0);
	/* Header and data in one piece. */
	*(struct virtio_blk_outhdr *)mem_at(&mem, DATA, 16) =
		(struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_OUT, .sector = 1 };
	fill(DATA + 16, 1024, 9);
	pieces[0] = (struct vring_piece){ DATA, 16 + 1024, false };
	pieces[1] = (struct vring_piece){ HEADERS + 32, 1, true };
	*status_of(0) = 0xee;
	vring_add(&ring[0], pieces, 2);
	go();
	ASSERT_EQ(used(), 1);
	ASSERT_EQ(*status_of(0), VIRTIO_BLK_S_OK);
	/* The header in three, one of them with data; data and status in one. */
	*(struct virtio_blk_outhdr *)mem_at(&mem, DATA + 2048, 16) =
		(struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN, .sector = 1 };
	pieces[0] = (struct vring_piece){ DATA + 2048, 3, false };
	pieces[1] = (struct vring_piece){ DATA + 2051, 12, false };
	pieces[2] = (struct vring_piece){ DATA + 2063, 1, false };
	pieces[3] = (struct vring_piece){ DATA + MIB, 512, true };
	pieces[4] = (struct vring_piece){ DATA + MIB + 512, 513, true };
	p = mem_at(&mem, DATA + MIB + 1024, 1);
	*p = 0xee;
	vring_add(&ring[0], pieces, 5);
	go();
	ASSERT_EQ(used(), 1);
	ASSERT_EQ(*p, VIRTIO_BLK_S_OK);
	ASSERT(equal(DATA + 16, DATA + MIB, 1024));
	/* A header of three pieces, the last with all of the data. */
	*(struct virtio_blk_outhdr *)mem_at(&mem, DATA + 4096, 16) =
		(struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_OUT, .sector = 100 };
	fill(DATA + 4096 + 16, 512, 10);
	pieces[0] = (struct vring_piece){ DATA + 4096, 8, false };
	pieces[1] = (struct vring_piece){ DATA + 4104, 7, false };
	pieces[2] = (struct vring_piece){ DATA + 4111, 513, false };
	pieces[3] = (struct vring_piece){ HEADERS + 32, 1, true };
	*status_of(0) = 0xee;
	vring_add(&ring[0], pieces, 4);
	go();
	ASSERT_EQ(used(), 1);
	ASSERT_EQ(*status_of(0), VIRTIO_BLK_S_OK);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 100, DATA + MIB, 512), VIRTIO_BLK_S_OK);
	ASSERT(equal(DATA + 4096 + 16, DATA + MIB, 512));
	close_device();
}

static void test_batch(void)
{
	unsigned int i, nr;

	begin(0);
	for (i = 0; i < 64; i++)
		fill(DATA + i * 4096, 4096, i);
	for (i = 0; i < 64; i++) {
		struct vring_piece piece = { DATA + i * 4096, 4096, false };

		add(VIRTIO_BLK_T_OUT, i * 8, &piece, 1);
	}
	nr_irq[0] = 0;
	go();
	ASSERT_EQ(used(), 64);
	for (i = 0; i < 64; i++)
		ASSERT_EQ(*status_of(i), VIRTIO_BLK_S_OK);
	for (i = 0; i < 64; i++) {
		struct vring_piece piece = { DATA + MIB + i * 4096, 4096, true };

		nr = add(VIRTIO_BLK_T_IN, i * 8, &piece, 1);
	}
	nr_irq[0] = 0;
	go();
	ASSERT_EQ(used(), 64);
	ASSERT_EQ(nr_irq[0], 1);
	ASSERT_EQ(*status_of(nr), VIRTIO_BLK_S_OK);
	ASSERT(equal(DATA, DATA + MIB, 64 * 4096));
	/* All of the ring at once. */
	for (i = 0; i < RING_NUM; i++) {
		struct vring_piece piece = { DATA + i * 512, 512, true };

		add(VIRTIO_BLK_T_IN, i, &piece, 1);
	}
	go();
	ASSERT_EQ(used(), RING_NUM);
	close_device();
}

static void test_statuses(void)
{
	struct blk_stats stats;

	begin(0);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, DISK_LEN / 512 - 1, DATA, 512), VIRTIO_BLK_S_OK);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, DISK_LEN / 512 - 1, DATA, 1024), VIRTIO_BLK_S_IOERR);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, DISK_LEN / 512, DATA, 512), VIRTIO_BLK_S_IOERR);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 1ull << 55, DATA, 512), VIRTIO_BLK_S_IOERR);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, UINT64_MAX, DATA, 512), VIRTIO_BLK_S_IOERR);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 1ull << 55, DATA, 512), VIRTIO_BLK_S_IOERR);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA, 511), VIRTIO_BLK_S_IOERR);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 0, DATA, 513), VIRTIO_BLK_S_IOERR);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 0, DATA, 1), VIRTIO_BLK_S_IOERR);
	ASSERT_EQ(request(77, 0, DATA, 512), VIRTIO_BLK_S_UNSUPP);
	ASSERT_EQ(request(VIRTIO_BLK_T_SECURE_ERASE, 0, DATA, 16), VIRTIO_BLK_S_UNSUPP);
	ASSERT_EQ(request(VIRTIO_BLK_T_FLUSH, 0, DATA, 0), VIRTIO_BLK_S_OK);
	ASSERT_EQ(request(VIRTIO_BLK_T_FLUSH, UINT64_MAX, DATA, 0), VIRTIO_BLK_S_OK);
	blk_get_stats(blk, &stats);
	ASSERT_EQ(stats.errors, 8);
	ASSERT_EQ(lines, 0);
	close_device();
}

static void test_serial(void)
{
	static const u8 want[20] = "SERIAL-7";
	u8 *p;

	begin(0);
	p = mem_at(&mem, DATA, 64);
	memset(p, 0xaa, 64);
	ASSERT_EQ(request(VIRTIO_BLK_T_GET_ID, 0, DATA, 20), VIRTIO_BLK_S_OK);
	ASSERT(!memcmp(p, want, 20));
	ASSERT_EQ(p[20], 0xaa);
	memset(p, 0xaa, 64);
	ASSERT_EQ(request(VIRTIO_BLK_T_GET_ID, 0, DATA, 5), VIRTIO_BLK_S_OK);
	ASSERT(!memcmp(p, want, 5));
	ASSERT_EQ(p[5], 0xaa);
	ASSERT_EQ(request(VIRTIO_BLK_T_GET_ID, 0, DATA, 0), VIRTIO_BLK_S_OK);
	ASSERT_EQ(request(VIRTIO_BLK_T_GET_ID, 0, DATA, 64), VIRTIO_BLK_S_OK);
	close_device();
}

static void ranges(unsigned int nr, u64 sector, u32 sectors, u32 flags)
{
	struct virtio_blk_discard_write_zeroes *r = mem_at(&mem, DATA + MIB, nr * sizeof(*r));
	unsigned int i;

	for (i = 0; i < nr; i++)
		r[i] = (struct virtio_blk_discard_write_zeroes){ sector + 64 * i, sectors, flags };
}

static bool zeros(u64 addr, u32 len)
{
	const u8 *p = mem_at(&mem, addr, len);

	while (len--)
		if (*p++)
			return false;
	return true;
}

static void test_ranges(void)
{
	static const u32 types[] = { VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
	unsigned int t, i;

	begin(0);
	for (t = 0; t < 2; t++) {
		u32 type = types[t];

		fill(DATA, MIB, t);
		ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 0, DATA, MIB), VIRTIO_BLK_S_OK);
		ranges(16, 64, 32, 0);
		ASSERT_EQ(request(type, 0, DATA + MIB, 16 * 16), VIRTIO_BLK_S_OK);
		ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA + 2 * MIB, MIB), VIRTIO_BLK_S_OK);
		for (i = 0; i < 17; i++) {
			u64 at = DATA + 2 * MIB + i * 32768;

			if (i)
				ASSERT(zeros(at, 16384));
			else
				ASSERT(equal(at, DATA, 16384));
			ASSERT(equal(at + 16384, DATA + i * 32768 + 16384, 16384));
		}
		ASSERT_EQ(request(type, 0, DATA + MIB, 0), VIRTIO_BLK_S_IOERR);
		ASSERT_EQ(request(type, 0, DATA + MIB, 15), VIRTIO_BLK_S_IOERR);
		ASSERT_EQ(request(type, 0, DATA + MIB, 17 * 16), VIRTIO_BLK_S_IOERR);
		ranges(1, DISK_LEN / 512 - 1, 2, 0);
		ASSERT_EQ(request(type, 0, DATA + MIB, 16), VIRTIO_BLK_S_IOERR);
		ranges(1, UINT64_MAX / 512 + 1, 2, 0);
		ASSERT_EQ(request(type, 0, DATA + MIB, 16), VIRTIO_BLK_S_IOERR);
		ranges(1, 0, UINT32_MAX, 0);
		ASSERT_EQ(request(type, 0, DATA + MIB, 16), VIRTIO_BLK_S_IOERR);
		ranges(1, 0, 8, 1);
		ASSERT_EQ(request(type, 0, DATA + MIB, 16), t ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_UNSUPP);
		ranges(1, 0, 8, 2);
		ASSERT_EQ(request(type, 0, DATA + MIB, 16), VIRTIO_BLK_S_UNSUPP);
		/* A bad one among good ones: the rest is not done. */
		ranges(3, 0, 8, 0);
		((struct virtio_blk_discard_write_zeroes *)mem_at(&mem, DATA + MIB, 48))[1].sector = DISK_LEN;
		ASSERT_EQ(request(type, 0, DATA + MIB, 48), VIRTIO_BLK_S_IOERR);
	}
	close_device();
}

/* --- hostile drivers ---------------------------------------------------------------------------------------------- */

/* What is in the ring breaks the device, and a reset mends it. */
static void broken_by(const char *why)
{
	go();
	ASSERT(virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	ASSERT_MSG(strstr(last_line, why), "said '%s', not '%s'", last_line, why);
	ASSERT_EQ(lines, 1);
	virtio_set_status(v, 0);
	pump();
	ASSERT_EQ(virtio_status(v), 0);
	lines = 0;
	start_driver(v->offered);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK);
}

static void test_hostile_chains(void)
{
	struct vring_piece pieces[2] = { { HEADERS, 16, false }, { HEADERS + 32, 1, true } };

	begin(0);
	vring_add(&ring[0], pieces, 1);
	broken_by("no room for its header or its status");
	pieces[0].len = 15;
	vring_add(&ring[0], pieces, 2);
	broken_by("no room for its header or its status");
	vring_add(&ring[0], &pieces[1], 1);
	broken_by("no room for its header or its status");
	pieces[0].len = 16;
	pieces[1].len = 0;
	vring_add(&ring[0], pieces, 2);
	broken_by("no room for its header or its status");
	pieces[1] = (struct vring_piece){ MEM_SIZE - 1, 2, true };
	vring_add(&ring[0], pieces, 2);
	broken_by("outside the guest's memory");
	pieces[1] = (struct vring_piece){ HEADERS + 32, 1, true };
	vring_add(&ring[0], pieces, 2);
	vring_desc_at(&ring[0], 1)->flags |= VRING_DESC_F_NEXT;
	vring_desc_at(&ring[0], 1)->next = 1;
	broken_by("");
	close_device();
}

/* A request may lie over itself and over the ring; the host is none the worse. */
static void test_overlaps(void)
{
	struct vring_piece pieces[3] = {
		{ HEADERS, 16, false }, { ring[0].at.desc, 4096, true }, { HEADERS, 1, true },
	};
	u32 round;

	begin(0);
	for (round = 0; round < 50; round++) {
		u64 at[] = { ring[0].at.desc, ring[0].at.avail, ring[0].at.used, HEADERS, TABLES };

		pieces[1].addr = at[round % 5];
		*header_of(0) = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN, .sector = round };
		vring_add_indirect(&ring[0], TABLES, pieces, 3);
		go();
		virtio_set_status(v, 0);
		pump();
		ASSERT_EQ(virtio_status(v), 0);
		start_driver(v->offered);
	}
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK);
	close_device();
}

static bool scribbling = true;

/* A second CPU of the guest, which changes what the device reads while it does. */
static void *scribble(void *arg)
{
	u32 seed = 1;

	while (__atomic_load_n(&scribbling, __ATOMIC_RELAXED)) {
		seed = seed * 1664525 + 1013904223;
		switch (seed >> 30) {
		case 0:
			header_of((seed >> 8) % 64)->type = (seed >> 16) % 14;
			break;
		case 1:
			header_of((seed >> 8) % 64)->sector = seed % 3 ? seed % 8192 : ~0ull << (seed % 64);
			break;
		case 2:
			*(u32 *)mem_at(&mem, TABLES + (seed >> 8) % 64 * 1024 + 16 + 8, 4) = (seed >> 12) % 8192;
			break;
		default:
			*(u64 *)mem_at(&mem, TABLES + (seed >> 8) % 64 * 1024 + 16, 8) =
				(seed >> 26) % 16 ? DATA + (seed >> 14) % 4096 * 512 : ~0ull << 40;
			break;
		}
	}
	return NULL;
}

static void test_scribbling_driver(void)
{
	struct timespec start, now;
	pthread_t t;
	unsigned int i, resets = 0;

	begin(0);
	ASSERT_EQ(pthread_create(&t, NULL, scribble, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		nr_added = 0;
		for (i = 0; i < 64; i++) {
			struct vring_piece piece = { DATA + i * 4096, 4096, i % 2 };

			add(i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i * 8, &piece, 1);
		}
		go();
		used();
		if (virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET) {
			virtio_set_status(v, 0);
			pump();
			ASSERT_EQ(virtio_status(v), 0);
			start_driver(v->offered);
			resets++;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < 3);
	__atomic_store_n(&scribbling, false, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	tap_diag("%u resets", resets);
	ASSERT_LE(lines, 8);
	if (virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET) {
		virtio_set_status(v, 0);
		pump();
		start_driver(v->offered);
	}
	nr_added = 0;
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK);
	close_device();
}

/* --- stopping ----------------------------------------------------------------------------------------------------- */

static void hold_some(unsigned int nr)
{
	unsigned int i;

	blk_gate_shut(blk, BLK_GATE_SPACE);
	for (i = 0; i < nr; i++) {
		struct vring_piece piece = { DATA + i * 4096, 4096, false };

		fill(DATA + i * 4096, 4096, 100 + i);
		add(VIRTIO_BLK_T_OUT, i * 8, &piece, 1);
	}
	go();
}

static void test_reset_with_requests_held(void)
{
	unsigned int i;

	begin(0);
	hold_some(16);
	ASSERT_EQ(used(), 0);
	virtio_set_status(v, 0);
	pump();
	ASSERT_EQ(virtio_status(v), 0);
	ASSERT_EQ(nr_reset, 1);
	for (i = 0; i < 16; i++)
		ASSERT_EQ(*status_of(i), 0xee);
	blk_resume(blk);
	pump();
	for (i = 0; i < 16; i++)
		ASSERT_EQ(*status_of(i), 0xee);
	ASSERT_EQ(used(), 0);
	start_driver(v->offered);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA + MIB, 512), VIRTIO_BLK_S_OK);
	ASSERT(zeros(DATA + MIB, 512));
	close_device();
}

/* All of the ring is out, and the driver's index says that there is more: the device breaks, and the loop goes on. */
static void test_more_than_it_holds(void)
{
	begin(0);
	hold_some(RING_NUM);
	ASSERT_EQ(v->queues[0].requests, RING_NUM);
	ASSERT(!v->broken);
	vring_offer(&ring[0], 0);
	vring_show(&ring[0], true);
	kick(0);
	pump();
	ASSERT(v->broken);
	ASSERT(virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	ASSERT_MSG(strstr(last_line, "more requests are out than it holds"), "%s", last_line);
	virtio_set_status(v, 0);
	pump();
	ASSERT_EQ(virtio_status(v), 0);
	blk_resume(blk);
	start_driver(v->offered);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA + MIB, 512), VIRTIO_BLK_S_OK);
	close_device();
}

/* Kicks of queues that are not there, before the start and after it, of a reset device, and with nothing new. */
static void test_kicks_for_nothing(void)
{
	struct disk_options opt = { .path = path };
	int i, fd;

	fd = ASSERT_OK(mkstemp(path));
	ASSERT_OK(ftruncate(fd, DISK_LEN));
	close(fd);
	open_device(&opt, 4);
	unlink(path);
	for (i = 0; i < 4; i++)
		kick(i);
	pump();
	ASSERT(!v->started);
	negotiate(v->offered);
	vring_drv_init(&ring[0], &mem, RINGS, RING_NUM);
	vring_attach(&ring[0], v, 0);		/* one of the four */
	driver_ok();
	pump();
	nr_added = 0;
	for (i = 0; i < 4; i++)
		kick(i);
	pump();
	ASSERT_EQ(v->queues[0].requests, 0);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK);
	ASSERT_EQ(v->queues[0].requests, 1);
	virtio_set_status(v, 0);
	pump();
	for (i = 0; i < 4; i++)
		kick(i);
	vring_offer(&ring[0], 0);
	vring_show(&ring[0], true);		/* in memory that is no ring now */
	kick(0);
	pump();
	ASSERT_EQ(v->queues[0].requests, 1);
	ASSERT(!v->broken);
	start_driver(v->offered);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK);
	close_device();
}

static void test_reset_in_mid_io(void)
{
	unsigned int round, i;

	begin(0);
	for (round = 0; round < 50; round++) {
		for (i = 0; i < 64; i++) {
			struct vring_piece piece = { DATA + i * 16384, 16384, i % 2 };

			add(i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i * 32, &piece, 1);
		}
		add(VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
		vring_show(&ring[0], true);
		kick(0);
		if (round % 3 == 0)
			virtio_set_status(v, 0);
		pump();
		if (round % 3 == 0)
			ASSERT_EQ(virtio_status(v), 0);
		else
			ASSERT_EQ(used(), 65);
		if (round % 3 == 0)
			start_driver(v->offered);
		nr_added = 0;
	}
	close_device();
}

static void test_pause_and_go_on(void)
{
	unsigned int i;

	begin(0);
	hold_some(16);
	virtio_pause(v);
	ASSERT(virtio_quiet(v));
	blk_resume(blk);
	pump();
	ASSERT_EQ(used(), 0);
	virtio_resume(v);
	pump();
	ASSERT_EQ(used(), 16);
	for (i = 0; i < 16; i++)
		ASSERT_EQ(*status_of(i), VIRTIO_BLK_S_OK);
	/* Resumed before it has stopped: with requests in flight. */
	nr_added = 0;
	for (i = 0; i < 64; i++) {
		struct vring_piece piece = { DATA + i * 16384, 16384, false };

		add(VIRTIO_BLK_T_OUT, i * 32, &piece, 1);
	}
	vring_show(&ring[0], true);
	kick(0);
	virtio_pause(v);
	virtio_resume(v);
	pump();
	ASSERT_EQ(used(), 64);
	close_device();
}

static struct blk_req *kept;

static void keep(struct blk *b, struct blk_req *req)
{
	kept = req;
}

static void end_and_pause(struct loop_task *task)
{
	blk_done(kept, 0);
	virtio_pause(v);
	ASSERT(virtio_quiet(v));
	/* Memory may be taken from now on */
	ASSERT_EQ(used(), 1);
}

/* A request ends, and in the same turn of the loop the machine is frozen */
static void test_quiet_with_all_shown(void)
{
	struct loop_task task = { .run = end_and_pause };
	struct vring_piece piece = { DATA, 4096, false };
	const struct blk_kind *kind;
	struct blk_kind keeps;

	begin(0);
	kind = blk->kind;
	keeps = *kind;
	keeps.start = keep;
	blk->kind = &keeps;
	add(VIRTIO_BLK_T_OUT, 0, &piece, 1);
	vring_show(&ring[0], true);
	kick(0);
	run_loop(2);
	ASSERT(kept && !used());
	loop_defer(&task);
	pump();
	blk->kind = kind;
	virtio_resume(v);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
	close_device();
}

static void test_saved_and_loaded(void)
{
	struct disk_options opt = { .path = path, .serial = "SERIAL-7" };
	struct state st;
	struct state_section sec;
	unsigned int i;
	int fd;

	fail_sink = keep_line;
	fd = ASSERT_OK(mkstemp(path));
	ASSERT_OK(ftruncate(fd, DISK_LEN));
	close(fd);
	open_device(&opt, 1);
	start_driver(v->offered);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA + MIB, 4096), VIRTIO_BLK_S_OK);
	hold_some(32);
	virtio_pause(v);
	ASSERT(virtio_quiet(v));
	state_init(&st);
	state_begin(&st, "disk0", 1);
	virtio_device_ops()->save(&v->dev, &st);
	state_end(&st);
	ASSERT_EQ(st.err, 0);
	close_device();

	/* Another process has it now; the driver's memory is the same. */
	open_device(&opt, 1);
	ASSERT_EQ(state_find(st.data, st.len, "disk0", &sec), 0);
	ASSERT_EQ(virtio_device_ops()->load(&v->dev, &sec), 0);
	virtio_service(v);
	pump();
	ASSERT_EQ(used(), 32);
	for (i = 1; i <= 32; i++)
		ASSERT_EQ(*status_of(i), VIRTIO_BLK_S_OK);
	ASSERT_EQ(request(VIRTIO_BLK_T_IN, 0, DATA + 2 * MIB, 32 * 4096), VIRTIO_BLK_S_OK);
	ASSERT(equal(DATA, DATA + 2 * MIB, 32 * 4096));
	close_device();

	/* A disk that grew is fine, a smaller one is not. */
	ASSERT_OK(truncate(path, 2 * DISK_LEN));
	open_device(&opt, 1);
	ASSERT_EQ(virtio_device_ops()->load(&v->dev, &sec), 0);
	nr_config_irq = 0;
	virtio_service(v);
	ASSERT_GE(nr_config_irq, 1);
	close_device();
	ASSERT_OK(truncate(path, DISK_LEN / 2));
	open_device(&opt, 1);
	ASSERT_EQ(virtio_device_ops()->load(&v->dev, &sec), -EINVAL);
	ASSERT(strstr(last_line, "smaller"));
	close_device();
	unlink(path);
	state_free(&st);
}

/* As of a server, or through a bounce buffer: what has come is cut off the pieces. */
static void read_in_parts(struct blk *b, struct blk_req *req)
{
	while (req->len) {
		memset(req->iov->iov_base, 0x5a, BLK_SECTOR);
		blk_advance(req, BLK_SECTOR);
	}
	blk_done(req, 0);
}

static void test_reads_are_logged(void)
{
	struct vring_piece pieces[] = {
		{ DATA, 512, true }, { DATA + 0x3000, 0x1800, true }, { DATA + 0x8000, 512, true },
	};
	const struct blk_kind *kind;
	struct blk_kind parts;
	u64 pages[2];
	int i;

	begin(0);
	kind = blk->kind;
	parts = *kind;
	parts.start = read_in_parts;
	ASSERT_EQ(mem_log_start(&mem), 0);
	for (i = 0; i < 2; i++) {
		memset(pages, 0, sizeof(pages));
		add(VIRTIO_BLK_T_IN, 0, pieces, ARRAY_SIZE(pieces));
		go();
		ASSERT_EQ(used(), 1);
		mem_log_take(&mem, mem_at(&mem, DATA, 64 * 4096), 64 * 4096, pages);
		ASSERT_EQ(pages[0], 1ULL << 0 | 1ULL << 3 | 1ULL << 4 | 1ULL << 8);
		blk->kind = &parts;
	}
	ASSERT_EQ(*(u8 *)mem_at(&mem, DATA + 0x4000, 1), 0x5a);
	blk->kind = kind;
	mem_log_stop(&mem);
	close_device();
}

/* --- configuration ------------------------------------------------------------------------------------------------ */

static void test_resize(void)
{
	struct virtio_blk_config config;
	u8 generation;

	begin(0);
	generation = virtio_generation(v);
	nr_config_irq = 0;
	ASSERT_EQ(blk_resize(blk, 2 * DISK_LEN), 0);
	ASSERT_EQ(nr_config_irq, 1);
	ASSERT_NE(virtio_generation(v), generation);
	virtio_config_read(v, 0, (u8 *)&config, sizeof(config));
	ASSERT_EQ(config.capacity, 2 * DISK_LEN / 512);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 2 * DISK_LEN / 512 - 1, DATA, 512), VIRTIO_BLK_S_OK);
	close_device();
}

static void set_wce(u8 wce)
{
	virtio_config_write(v, offsetof(struct virtio_blk_config, wce), &wce, 1);
	pump();
}

static void test_write_cache(void)
{
	u8 byte = 7;

	begin(0);
	ASSERT_EQ(request(VIRTIO_BLK_T_FLUSH, 0, DATA, 0), VIRTIO_BLK_S_OK);
	ASSERT(!blk->dirty);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_OK);
	ASSERT(blk->dirty);
	ASSERT_EQ(request(VIRTIO_BLK_T_FLUSH, 0, DATA, 0), VIRTIO_BLK_S_OK);
	set_wce(0);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_OK);
	ASSERT(!blk->dirty);
	ranges(1, 0, 8, 0);
	ASSERT_EQ(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA + MIB, 16), VIRTIO_BLK_S_OK);
	ASSERT(!blk->dirty);
	set_wce(1);
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_OK);
	ASSERT(blk->dirty);
	/* Nothing else can be written. */
	virtio_config_write(v, 0, &byte, 1);
	virtio_config_write(v, offsetof(struct virtio_blk_config, wce) - 1, &byte, 1);
	pump();
	ASSERT_EQ(v->config[0], (DISK_LEN / 512) & 0xff);
	close_device();
}

/* A driver that knows no flush must not need one. */
static void test_without_flush(void)
{
	begin(VIRTIO_BIT(VIRTIO_BLK_F_FLUSH) | VIRTIO_BIT(VIRTIO_BLK_F_CONFIG_WCE));
	blk->dirty = false;
	ASSERT_EQ(request(VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_OK);
	ASSERT(!blk->dirty);
	close_device();
}

static const struct tap_test tests[] = {
	TEST(offers),
	TEST(read_write),
	TEST(any_layout),
	TEST(batch),
	TEST(statuses),
	TEST(serial),
	TEST(ranges),
	TEST(hostile_chains),
	TEST(overlaps),
	TEST(scribbling_driver),
	TEST(reset_with_requests_held),
	TEST(more_than_it_holds),
	TEST(kicks_for_nothing),
	TEST(reset_in_mid_io),
	TEST(pause_and_go_on),
	TEST(quiet_with_all_shown),
	TEST(saved_and_loaded),
	TEST(reads_are_logged),
	TEST(resize),
	TEST(write_cache),
	TEST(without_flush),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
