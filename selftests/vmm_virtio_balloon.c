// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies pvhv-run's virtio-balloon with this program as driver: pages given are resident no more and read as zeroes, in any
 * order and across the hole below 4 GiB; huge pages go back only when all of one was given; reported memory is released, or kept
 * where the guest needs its bytes; target, statistics, numbering of queues, resets, pauses, saved state, nonsense.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "fakevirtio.h"
#include "../vmm/control.h"
#include "../vmm/virtio_balloon.h"

#define PAGE		4096ULL
#define RINGS		0x10000ULL
#define DATA		0x100000ULL
#define NUM		64
#define FEATURES	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX))
#define STATS		VIRTIO_BIT(VIRTIO_BALLOON_F_STATS_VQ)
#define REPORTING	VIRTIO_BIT(VIRTIO_BALLOON_F_REPORTING)
#define POISON		VIRTIO_BIT(VIRTIO_BALLOON_F_PAGE_POISON)
#define AGREED		(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)

static struct mem mem;
static struct vring_drv ring[4];
static int events;
static char last_line[1100];

/* Only the balloon's: the control socket is not part of this program */
void control_event(const char *type, const char *fmt, ...)
{
	ASSERT(!strcmp(type, "balloon"));
	events++;
}

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static void pump(void)
{
	run_loop(3);
}

static void make(void)
{
	static const struct balloon_options opt = { .reporting = true, .deflate_on_oom = true };

	if (!mem.host)
		ASSERT_EQ(mem_init(&mem, 32 * MIB, MEM_PAGES_SMALL), 0);
	v = virtio_balloon_create(&mem, "balloon", &opt);
	ASSERT(v);
	v->transport = &transport;
	ASSERT_EQ(loop_init(woken, NULL), 0);
	virtio_open(v);
}

static void unmake(void)
{
	virtio_close(v);
	loop_fini();
	virtio_device_ops()->destroy(&v->dev);
}

static void begin(u64 features)
{
	unsigned int i;

	negotiate(features);
	for (i = 0; i < 4; i++) {
		vring_drv_init(&ring[i], &mem, RINGS + i * 0x4000, NUM);
		vring_attach(&ring[i], v, i);
	}
	driver_ok();
	pump();
}

static void kick(unsigned int queue)
{
	u64 one = 1;

	vring_show(&ring[queue], true);
	ASSERT_EQ(write(v->queues[queue].kick_fd, &one, sizeof(one)), sizeof(one));
	pump();
}

static u32 used(unsigned int queue)
{
	u32 head, len, n = 0;

	while (vring_take(&ring[queue], &head, &len))
		n++;
	return n;
}

static void name_pages(unsigned int queue, const u32 *pfns, u32 nr)
{
	const struct vring_piece piece = { DATA, nr * 4, false };

	ASSERT_EQ(mem_write(&mem, DATA, pfns, nr * 4), 0);
	vring_add(&ring[queue], &piece, 1);
	kick(queue);
}

static bool resident(u64 gpa)
{
	unsigned char in;

	ASSERT_OK(mincore(mem_at(&mem, gpa, PAGE), PAGE, &in));
	return in & 1;
}

static u32 count_resident(u64 gpa, u32 pages)
{
	u32 n = 0;

	for (; pages; pages--, gpa += PAGE)
		n += resident(gpa);
	return n;
}

static u64 actual(u32 pages)
{
	struct balloon_stats stats;

	virtio_config_write(v, offsetof(struct virtio_balloon_config, actual), (u8 *)&pages, 4);
	pump();
	balloon_get_stats(v, &stats);
	return stats.actual;
}

/* --- giving and taking ------------------------------------------------------------------------------------------- */

static void test_inflate(void)
{
	u32 pfns[256], i;

	make();
	begin(FEATURES);
	memset(mem_at(&mem, 4 * MIB, 4 * MIB), 0x55, 4 * MIB);
	ASSERT_EQ(count_resident(4 * MIB, 1024), 1024);
	/* From the top down, as Linux gets them, and with a hole */
	for (i = 0; i < 256; i++)
		pfns[i] = (4 * MIB >> 12) + 300 - i - (i >= 100 ? 10 : 0);
	name_pages(0, pfns, 256);
	ASSERT_EQ(used(0), 1);
	ASSERT_EQ(count_resident(4 * MIB, 1024), 1024 - 256);
	for (i = 0; i < 256; i++)
		ASSERT(!resident((u64)pfns[i] << 12));
	ASSERT_EQ(*(u8 *)mem_at(&mem, (u64)pfns[0] << 12, 1), 0);
	ASSERT_EQ(*(u8 *)mem_at(&mem, 4 * MIB, 1), 0x55);
	/* Twice the same, and far more than one at a time */
	name_pages(0, pfns, 256);
	for (i = 0; i < 10; i++)
		vring_add(&ring[0], &(struct vring_piece){ DATA, 1024, false }, 1);
	kick(0);
	ASSERT_EQ(used(0), 11);
	name_pages(1, pfns, 256);
	ASSERT_EQ(used(1), 1);
	unmake();
}

/* Guest memory on both sides of the hole is one mapping of ours; contiguous for the guest it is not */
static void test_hole(void)
{
	const u32 pfns[] = { HIGH_RAM_BASE >> 12, (LOW_RAM_MAX >> 12) - 1, (HIGH_RAM_BASE >> 12) + 1 };

	ASSERT_EQ(mem_init(&mem, LOW_RAM_MAX + 16 * MIB, MEM_PAGES_SMALL), 0);
	make();
	begin(FEATURES);
	memset(mem_at(&mem, LOW_RAM_MAX - PAGE, PAGE), 1, PAGE);
	memset(mem_at(&mem, HIGH_RAM_BASE, 3 * PAGE), 1, 3 * PAGE);
	name_pages(0, pfns, 3);
	ASSERT_EQ(used(0), 1);
	ASSERT(!resident(LOW_RAM_MAX - PAGE));
	ASSERT_EQ(count_resident(HIGH_RAM_BASE, 3), 1);
	unmake();
}

/* Pages of the host that are larger: a memfd plays huge ones of 256 KiB */
static void test_huge(void)
{
	u32 pfns[64], i, base = 4 * MIB >> 12;
	u64 size = 8 * MIB;

	mem.size = mem.low = size;
	mem.page = 256 * KIB;
	mem.fd = ASSERT_OK(memfd_create("huge", 0));
	ASSERT_OK(ftruncate(mem.fd, size));
	mem.host = mmap(NULL, size + mem.page, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
	ASSERT(mem.host != MAP_FAILED);
	munmap(mem.host, size + mem.page);
	mem.host = mmap((void *)ALIGN_UP((uintptr_t)mem.host, mem.page), size, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_FIXED, mem.fd, 0);
	ASSERT(mem.host != MAP_FAILED);
	make();
	begin(FEATURES);
	memset(mem_at(&mem, 4 * MIB, MIB), 0x77, MIB);
	for (i = 0; i < 64; i++)
		pfns[i] = base + i;
	name_pages(0, pfns, 63);		/* one is missing */
	ASSERT_EQ(*(u8 *)mem_at(&mem, 4 * MIB, 1), 0x77);
	name_pages(1, pfns + 10, 1);		/* and one is taken again */
	name_pages(0, pfns + 63, 1);
	ASSERT_EQ(*(u8 *)mem_at(&mem, 4 * MIB, 1), 0x77);
	name_pages(0, pfns + 10, 1);
	ASSERT_EQ(*(u8 *)mem_at(&mem, 4 * MIB, 1), 0);
	ASSERT_EQ(*(u8 *)mem_at(&mem, 4 * MIB + mem.page - 1, 1), 0);
	ASSERT_EQ(*(u8 *)mem_at(&mem, 4 * MIB + mem.page, 1), 0x77);
	/* A reset forgets who gave what */
	for (i = 0; i < 64; i++)
		pfns[i] += 64;
	name_pages(0, pfns, 63);
	virtio_set_status(v, 0);
	pump();
	begin(FEATURES);
	name_pages(0, pfns + 63, 1);
	ASSERT_EQ(*(u8 *)mem_at(&mem, 4 * MIB + mem.page, 1), 0x77);
	unmake();
}

static void report(const struct vring_piece *pieces, u32 nr, unsigned int queue)
{
	vring_add(&ring[queue], pieces, nr);
	kick(queue);
	ASSERT_EQ(used(queue), 1);
}

static void test_reporting(void)
{
	const struct vring_piece pieces[] = { { 8 * MIB, 2 * MIB, true }, { 12 * MIB + 100, 3 * PAGE, true } };
	struct balloon_stats stats;
	u32 poison = 0xaaaaaaaa;

	make();
	/* Queue 3 with statistics, queue 2 without: the numbers have no gaps */
	begin(FEATURES | STATS | REPORTING);
	memset(mem_at(&mem, 8 * MIB, 8 * MIB), 0x66, 8 * MIB);
	report(pieces, 2, 3);
	ASSERT_EQ(count_resident(8 * MIB, 512), 0);
	/* Of pages that are not whole nothing is lost */
	ASSERT_EQ(count_resident(12 * MIB, 5), 3);
	ASSERT_EQ(*(u8 *)mem_at(&mem, 12 * MIB + 4095, 1), 0x66);
	balloon_get_stats(v, &stats);
	ASSERT_EQ(stats.reported_bytes, 2 * MIB + 3 * PAGE);
	virtio_set_status(v, 0);
	pump();

	begin(FEATURES | REPORTING);
	memset(mem_at(&mem, 8 * MIB, 8 * MIB), 0x66, 8 * MIB);
	report(pieces, 1, 2);
	ASSERT_EQ(count_resident(8 * MIB, 512), 0);
	virtio_set_status(v, 0);
	pump();

	/* A guest that fills free pages with a pattern wants to find it again */
	virtio_set_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_config_write(v, offsetof(struct virtio_balloon_config, poison_val), (u8 *)&poison, 4);
	begin(FEATURES | REPORTING | POISON);
	memset(mem_at(&mem, 8 * MIB, 8 * MIB), 0x66, 8 * MIB);
	report(pieces, 1, 2);
	ASSERT_EQ(count_resident(8 * MIB, 512), 512);
	unmake();
}

/* --- target and statistics ------------------------------------------------------------------------------------- */

static void test_target(void)
{
	struct virtio_balloon_config config;
	struct balloon_stats stats;

	make();
	begin(FEATURES);
	balloon_get_stats(v, &stats);
	ASSERT_EQ(stats.target, 32 * MIB);
	ASSERT_EQ(stats.actual, 32 * MIB);
	ASSERT_EQ(balloon_set_target(v, 20 * MIB), 0);
	ASSERT_EQ(nr_config_irq, 1);
	virtio_config_get(v, 0, &config, sizeof(config));
	ASSERT_EQ(config.num_pages, 12 * MIB / PAGE);
	balloon_get_stats(v, &stats);
	ASSERT_EQ(stats.target, 20 * MIB);
	ASSERT_EQ(stats.actual, 32 * MIB);
	ASSERT_EQ(actual(12 * MIB / PAGE), 20 * MIB);
	ASSERT_EQ(events, 1);
	ASSERT_EQ(actual(0xffffffff), 0);		/* nonsense of the guest's */
	ASSERT_EQ(balloon_set_target(v, 33 * MIB), -ERANGE);
	ASSERT_EQ(balloon_set_target(v, 0), 0);
	/* The target is not the guest's to write */
	config.num_pages = 1;
	virtio_config_write(v, 0, (u8 *)&config, 4);
	virtio_config_write(v, 2, (u8 *)&config, 4);
	pump();
	balloon_get_stats(v, &stats);
	ASSERT_EQ(stats.target, 0);
	virtio_set_status(v, 0);
	pump();
	balloon_get_stats(v, &stats);
	ASSERT_EQ(stats.actual, 32 * MIB);
	unmake();
}

static void put_stats(u64 free)
{
	const struct virtio_balloon_stat list[] = {
		{ VIRTIO_BALLOON_S_MEMFREE, free }, { VIRTIO_BALLOON_S_MEMTOT, 1000000 }, { 12345, 1 },
	};
	const struct vring_piece piece = { DATA, sizeof(list), false };

	ASSERT_EQ(mem_write(&mem, DATA, list, sizeof(list)), 0);
	vring_add(&ring[2], &piece, 1);
	kick(2);
}

static void test_stats(void)
{
	struct balloon_stats stats;

	make();
	begin(FEATURES | STATS);
	balloon_get_stats(v, &stats);
	ASSERT_EQ(stats.guest_known, 0);
	put_stats(500);
	ASSERT_EQ(used(2), 0);			/* the buffer waits for the next question */
	balloon_get_stats(v, &stats);
	ASSERT_EQ(stats.guest_known, 1 << VIRTIO_BALLOON_S_MEMFREE | 1 << VIRTIO_BALLOON_S_MEMTOT);
	ASSERT_EQ(stats.guest[VIRTIO_BALLOON_S_MEMFREE], 500);
	ASSERT_EQ(stats.guest_updates, 1);
	ASSERT_EQ(used(2), 1);
	balloon_get_stats(v, &stats);		/* asked twice is asked once */
	ASSERT_EQ(used(2), 0);
	put_stats(400);
	balloon_get_stats(v, &stats);
	ASSERT_EQ(stats.guest[VIRTIO_BALLOON_S_MEMFREE], 400);
	ASSERT_EQ(used(2), 1);

	/* A pause gives the buffer back, and gets it again */
	put_stats(300);
	virtio_pause(v);
	ASSERT(virtio_quiet(v));
	balloon_get_stats(v, &stats);
	virtio_resume(v);
	pump();
	balloon_get_stats(v, &stats);
	ASSERT_EQ(used(2), 1);
	ASSERT_EQ(stats.guest[VIRTIO_BALLOON_S_MEMFREE], 300);
	put_stats(200);
	virtio_set_status(v, 0);
	pump();
	ASSERT_EQ(virtio_status(v), 0);
	begin(FEATURES | STATS);
	put_stats(100);
	balloon_get_stats(v, &stats);
	ASSERT_EQ(stats.guest[VIRTIO_BALLOON_S_MEMFREE], 100);
	unmake();
}

static void test_state(void)
{
	struct state_section sec;
	struct balloon_stats stats;
	struct state st;

	make();
	begin(FEATURES | STATS);
	balloon_set_target(v, 16 * MIB);
	actual(4096);
	put_stats(500);
	virtio_pause(v);
	state_init(&st);
	state_begin(&st, "balloon", 1);
	virtio_device_ops()->save(&v->dev, &st);
	state_end(&st);
	unmake();
	make();
	ASSERT_EQ(state_find(st.data, st.len, "balloon", &sec), 0);
	ASSERT_EQ(virtio_device_ops()->load(&v->dev, &sec), 0);
	virtio_service(v);
	pump();
	balloon_get_stats(v, &stats);
	ASSERT_EQ(stats.target, 16 * MIB);
	ASSERT_EQ(stats.actual, 16 * MIB);
	ASSERT_EQ(stats.guest[VIRTIO_BALLOON_S_MEMFREE], 500);
	ASSERT_EQ(used(2), 1);
	state_free(&st);
	unmake();
}

/* --- nonsense --------------------------------------------------------------------------------------------------- */

static void test_nonsense(void)
{
	static const u32 bad[] = { 32 * MIB / PAGE, LOW_RAM_MAX >> 12, HIGH_RAM_BASE >> 12, 0xfee00, 0xffffffff };
	struct vring_piece big[8];
	unsigned int i;

	fail_sink = keep_line;
	make();
	for (i = 0; i < 2 * ARRAY_SIZE(bad); i++) {
		begin(FEATURES);
		name_pages(i & 1, &bad[i / 2], 1);
		ASSERT_EQ(virtio_status(v), AGREED | VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
		virtio_set_status(v, 0);
		pump();
	}
	ASSERT(strstr(last_line, "is none of its memory"));
	begin(FEATURES);
	for (i = 0; i < 8; i++)
		big[i] = (struct vring_piece){ 0, 32 * MIB, false };
	vring_add(&ring[0], big, 8);
	kick(0);
	ASSERT_EQ(virtio_status(v), AGREED | VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
	virtio_set_status(v, 0);
	pump();

	/* Requests of no whole number, of none, and the wrong way round are nothing */
	begin(FEATURES | STATS | REPORTING);
	vring_add(&ring[0], &(struct vring_piece){ DATA, 3, false }, 1);
	vring_add(&ring[0], &(struct vring_piece){ DATA, 0, false }, 1);
	vring_add(&ring[0], &(struct vring_piece){ DATA, 64, true }, 1);
	kick(0);
	ASSERT_EQ(used(0), 3);
	vring_add(&ring[2], &(struct vring_piece){ DATA, 7, false }, 1);
	vring_add(&ring[2], &(struct vring_piece){ DATA, 4096, true }, 1);
	kick(2);
	vring_add(&ring[3], &(struct vring_piece){ DATA, 4096, false }, 1);
	kick(3);
	ASSERT_EQ(used(3), 1);
	ASSERT_EQ(virtio_status(v), AGREED | VIRTIO_CONFIG_S_DRIVER_OK);
	unmake();
}

static const struct tap_test tests[] = {
	TEST(inflate),
	TEST(hole),
	TEST(huge),
	TEST(reporting),
	TEST(target),
	TEST(stats),
	TEST(state),
	TEST(nonsense),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
