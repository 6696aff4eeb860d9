// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies pvhv-run's virtqueue code: requests direct and indirect, wrap-around, requests given back, both forms of
 * interrupt and kick suppression, a driver in another thread, saved and loaded rings; and that each kind of nonsense a
 * guest can write into a ring breaks that ring with its reason, reads nothing outside guest memory and ends.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tap.h"
#include "vring.h"

#define MEM_SIZE	(4 * MIB)
#define RING		0x10000ULL
#define DATA		0x100000ULL
#define TABLE		0x80000ULL
#define PIECES		64
#define EVENT		VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT	VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC)

static struct mem mem;
static struct virtq q;
static struct vring_drv drv;
static struct iovec iov[PIECES];
static struct virtq_buf buf = { .iov = iov, .max = PIECES };

static void setup(u16 num, u64 features)
{
	if (!mem.host)
		ASSERT_EQ(mem_init(&mem, MEM_SIZE, MEM_PAGES_SMALL), 0);
	vring_drv_init(&drv, &mem, RING, num);
	virtq_fini(&q);
	ASSERT_EQ(virtq_start(&q, &mem, &drv.at, num, features), 0);
	ASSERT(virtq_ready(&q));
}

/* The request that comes next must break the ring with this reason */
static void breaks(const char *why)
{
	vring_show(&drv, false);
	ASSERT_EQ(virtq_pop(&q, &buf), -EBADMSG);
	ASSERT_MSG(q.broken && strstr(q.broken, why), "reason '%s', not '%s'", q.broken ? q.broken : "none", why);
	ASSERT(!virtq_ready(&q));
	ASSERT_EQ(virtq_pop(&q, &buf), -EBADMSG);
	ASSERT(!virtq_kicks_on(&q));
	ASSERT(!virtq_publish(&q));
}

/* --- what works ---------------------------------------------------------------------------------------------- */

static void test_direct(void)
{
	const struct vring_piece pieces[] = { { DATA, 16, false }, { DATA + 100, 4, false }, { DATA + 4096, 512, true },
					      { DATA + 9999, 1, true } };
	u32 head, len;
	u8 data[32];

	setup(8, 0);
	ASSERT_EQ(virtq_pop(&q, &buf), 0);
	memcpy(mem_at(&mem, DATA, 16), "0123456789abcdef", 16);
	memcpy(mem_at(&mem, DATA + 100, 4), "wxyz", 4);
	vring_add(&drv, pieces, 4);
	ASSERT_EQ(virtq_pop(&q, &buf), 0);	/* not shown yet */
	vring_show(&drv, false);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT_EQ(buf.nr_out, 2);
	ASSERT_EQ(buf.nr_in, 2);
	ASSERT_EQ(buf.out_len, 20);
	ASSERT_EQ(buf.in_len, 513);
	ASSERT(iov[2].iov_base == mem_at(&mem, DATA + 4096, 1));
	ASSERT_EQ(virtq_read(&buf, 14, data, 32), 6);
	ASSERT(!memcmp(data, "efwxyz", 6));
	ASSERT_EQ(virtq_read(&buf, 20, data, 1), 0);
	ASSERT_EQ(virtq_write(&buf, 511, "AB", 2), 2);
	ASSERT(!memcmp(mem_at(&mem, DATA + 4096 + 511, 1), "A", 1));
	ASSERT(!memcmp(mem_at(&mem, DATA + 9999, 1), "B", 1));
	ASSERT_EQ(virtq_write(&buf, 512, "CD", 2), 1);
	ASSERT_EQ(virtq_pop(&q, &buf), 0);

	buf.head = 0;
	virtq_push(&q, &buf, 513);
	ASSERT(!vring_take(&drv, &head, &len));
	ASSERT(virtq_publish(&q));
	ASSERT(vring_take(&drv, &head, &len));
	ASSERT_EQ(head, 0);
	ASSERT_EQ(len, 513);
	ASSERT(!virtq_publish(&q));		/* nothing new */
}

/* The pages of the log's bits, taken out of it: there are none beyond 64 * 16 */
static u64 *logged(void)
{
	static u64 bits[MEM_SIZE / MEM_LOG_PAGE / 64];

	memset(bits, 0, sizeof(bits));
	mem_log_take(&mem, mem.host, mem.size, bits);
	return bits;
}

static bool is_logged(const u64 *bits, u64 gpa)
{
	return bits[gpa / MEM_LOG_PAGE / 64] >> gpa / MEM_LOG_PAGE % 64 & 1;
}

static unsigned int nr_logged(const u64 *bits)
{
	unsigned int i, nr = 0;

	for (i = 0; i < MEM_SIZE / MEM_LOG_PAGE / 64; i++)
		nr += __builtin_popcountll(bits[i]);
	return nr;
}

/* While it is asked for, every page that the device writes is logged, and no other */
static void test_log(void)
{
	const struct vring_piece pieces[] = { { DATA, 16, false }, { DATA + 4000, 200, true }, { DATA + 0x5000, 8192, true } };
	const u64 *bits;

	setup(8, 0);
	vring_add(&drv, pieces, 3);
	vring_show(&drv, false);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	virtq_push(&q, &buf, 10);
	ASSERT(virtq_publish(&q));
	ASSERT_EQ(mem_log_start(&mem), 0);
	ASSERT_EQ(nr_logged(logged()), 0);	/* of before */

	vring_add(&drv, pieces, 3);
	vring_show(&drv, false);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT_EQ(nr_logged(logged()), 0);
	virtq_push(&q, &buf, 201);		/* one byte of the third */
	bits = logged();
	ASSERT(is_logged(bits, drv.at.used) && is_logged(bits, DATA) && is_logged(bits, DATA + 0x1000) &&
	       is_logged(bits, DATA + 0x5000));
	ASSERT_EQ(nr_logged(bits), 4);
	ASSERT_EQ(nr_logged(logged()), 0);	/* taken */
	virtq_publish(&q);
	ASSERT_EQ(nr_logged(logged()), 1);
	virtq_kicks_off(&q);
	ASSERT_EQ(nr_logged(logged()), 1);
	virtq_kicks_on(&q);
	ASSERT(is_logged(logged(), drv.at.used));

	vring_add(&drv, pieces, 3);
	vring_show(&drv, false);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	virtq_push(&q, &buf, 8392);		/* all */
	bits = logged();
	ASSERT(is_logged(bits, DATA + 0x6000));
	ASSERT_EQ(nr_logged(bits), 5);

	ASSERT_EQ(mem_write(&mem, 0x2ffe, "abcd", 4), 0);
	bits = logged();
	ASSERT(is_logged(bits, 0x2000) && is_logged(bits, 0x3000));
	ASSERT_EQ(nr_logged(bits), 2);
	mem_release(&mem, mem_at(&mem, 0x200000, 4096), 0x100000);
	ASSERT_EQ(nr_logged(logged()), 256);

	ASSERT_EQ(mem_write(&mem, 0x2ffe, "abcd", 4), 0);
	ASSERT_EQ(mem_log_start(&mem), 0);	/* again: from nothing */
	ASSERT_EQ(nr_logged(logged()), 0);
	mem_log_stop(&mem);
	ASSERT_EQ(mem_write(&mem, 0x2ffe, "abcd", 4), 0);
	ASSERT_EQ(nr_logged(logged()), 0);
}

static void test_slice(void)
{
	u8 a[10], b[1], c[5];
	const struct iovec in[] = { { a, 10 }, { b, 1 }, { c, 5 } };
	struct iovec out[3];

	ASSERT_EQ(virtq_slice(in, 3, 0, 16, out), 3);
	ASSERT(!memcmp(in, out, sizeof(in)));
	ASSERT_EQ(virtq_slice(in, 3, 4, 6, out), 1);
	ASSERT(out[0].iov_base == a + 4 && out[0].iov_len == 6);
	ASSERT_EQ(virtq_slice(in, 3, 9, 3, out), 3);
	ASSERT(out[2].iov_base == c && out[2].iov_len == 1);
	ASSERT_EQ(virtq_slice(in, 3, 11, 100, out), 1);
	ASSERT(out[0].iov_base == c && out[0].iov_len == 5);
	ASSERT_EQ(virtq_slice(in, 3, 16, 1, out), 0);
	ASSERT_EQ(virtq_slice(in, 3, 0, 0, out), 0);
}

static void test_indirect(void)
{
	struct vring_piece pieces[8];
	unsigned int i;

	for (i = 0; i < 8; i++)
		pieces[i] = (struct vring_piece){ DATA + 4096 * i, 100 + i, i >= 3 };
	setup(8, INDIRECT);
	/* An odd address: the table needs no alignment */
	vring_add_indirect(&drv, TABLE + 2, pieces, 8);
	vring_show(&drv, false);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT_EQ(buf.nr_out, 3);
	ASSERT_EQ(buf.nr_in, 5);
	ASSERT_EQ(buf.out_len, 303);
	ASSERT_EQ(buf.in_len, 525);
	ASSERT(iov[7].iov_base == mem_at(&mem, DATA + 7 * 4096, 1));

	/* Direct descriptors may come before the table; its write flag means nothing */
	vring_add_indirect(&drv, TABLE, pieces, 2);
	drv.desc[5] = (struct vring_desc){ .addr = DATA, .len = 7, .flags = VRING_DESC_F_NEXT, .next = 1 };
	drv.desc[1].flags |= VRING_DESC_F_WRITE;
	drv.avail->ring[1] = 5;
	vring_show(&drv, false);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT_EQ(buf.head, 5);
	ASSERT_EQ(buf.nr_out, 3);
	ASSERT_EQ(buf.out_len, 7 + 100 + 101);
}

/* Far beyond where 16-bit indices wrap, with a varying number out */
static void test_wrap(void)
{
	const struct vring_piece piece = { DATA, 64, true };
	u32 head, len, pushed = 0, taken = 0, added = 0;
	struct virtq_buf out[4];
	unsigned int n, i;

	setup(4, EVENT);
	while (added < 200000) {
		n = 1 + added % 4;
		for (i = 0; i < n; i++) {
			vring_add(&drv, &piece, 1);
			added++;
		}
		vring_show(&drv, true);
		for (i = 0; i < n; i++) {
			ASSERT_EQ(virtq_pop(&q, &buf), 1);
			out[i] = buf;
		}
		ASSERT_EQ(virtq_pop(&q, &buf), 0);
		for (i = 0; i < n; i++)
			virtq_push(&q, &out[i], pushed++);
		virtq_publish(&q);
		while (vring_take(&drv, &head, &len)) {
			ASSERT_EQ(len, taken);
			ASSERT_EQ(head, taken % 4);
			taken++;
		}
		ASSERT_EQ(taken, added);
	}
}

static void test_unpop(void)
{
	const struct vring_piece piece = { DATA, 64, true };
	struct virtq_buf out[4];
	u32 head, len;
	unsigned int i;

	setup(4, 0);
	for (i = 0; i < 4; i++)
		vring_add(&drv, &piece, 1);
	vring_show(&drv, false);
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(virtq_pop(&q, &buf), 1);
		out[i] = buf;
	}
	/* The third is done, the others are given back: they come again in their order */
	virtq_push(&q, &out[2], 0);
	virtq_unpop(&q, &out[3]);
	virtq_unpop(&q, &out[1]);
	virtq_unpop(&q, &out[0]);
	ASSERT_EQ(q.in_flight, 0);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT_EQ(buf.head, 0);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT_EQ(buf.head, 1);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT_EQ(buf.head, 3);
	ASSERT_EQ(virtq_pop(&q, &buf), 0);
	virtq_publish(&q);
	ASSERT(vring_take(&drv, &head, &len));
	ASSERT_EQ(head, 2);
}

static void test_suppression_flags(void)
{
	const struct vring_piece piece = { DATA, 64, true };

	setup(8, 0);
	virtq_kicks_off(&q);
	vring_add(&drv, &piece, 1);
	ASSERT(!vring_show(&drv, false));
	ASSERT(virtq_kicks_on(&q));		/* it came meanwhile */
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT(!virtq_kicks_on(&q));
	vring_add(&drv, &piece, 1);
	ASSERT(vring_show(&drv, false));

	drv.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	virtq_push(&q, &buf, 0);
	ASSERT(!virtq_publish(&q));
	ASSERT_EQ(drv.used->idx, 1);
	drv.avail->flags = 0;
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	virtq_push(&q, &buf, 0);
	ASSERT(virtq_publish(&q));
}

static void test_suppression_events(void)
{
	const struct vring_piece piece = { DATA, 64, true };
	unsigned int i;

	setup(8, EVENT);
	ASSERT(!virtq_kicks_on(&q));
	vring_add(&drv, &piece, 1);
	ASSERT(vring_show(&drv, true));
	vring_add(&drv, &piece, 1);
	ASSERT(!vring_show(&drv, true));	/* one kick is on its way */
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT(virtq_kicks_on(&q));
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT(!virtq_kicks_on(&q));
	vring_add(&drv, &piece, 1);
	ASSERT(vring_show(&drv, true));
	ASSERT_EQ(virtq_pop(&q, &buf), 1);

	/* An interrupt is due at the third used element only */
	*vring_irq_event(&drv) = 2;
	for (i = 0; i < 3; i++) {
		virtq_push(&q, &buf, 0);
		ASSERT_EQ(virtq_publish(&q), i == 2);
	}
	/* In a batch that passes it, too */
	*vring_irq_event(&drv) = 4;
	for (i = 0; i < 4; i++) {
		vring_add(&drv, &piece, 1);
		vring_show(&drv, true);
		ASSERT_EQ(virtq_pop(&q, &buf), 1);
		virtq_push(&q, &buf, 0);
	}
	ASSERT(virtq_publish(&q));
}

/* --- a driver in another thread ------------------------------------------------------------------------------- */

#define ROUNDS	50000

static int kick_fd, call_fd;		/* eventfds: a reader sleeps until something was written */

static void signal_fd(int fd)
{
	u64 one = 1;

	ASSERT_EQ(write(fd, &one, sizeof(one)), sizeof(one));
}

static u64 wait_fd(int fd)
{
	u64 count;

	ASSERT_EQ(read(fd, &count, sizeof(count)), sizeof(count));
	return count;
}

static void *driver_thread(void *arg)
{
	const struct vring_piece piece = { DATA, 8, true };
	u32 head, len, added = 0, taken = 0;
	bool event = arg;

	while (taken < ROUNDS) {
		while (added < ROUNDS && added - taken < drv.num) {
			vring_add(&drv, &piece, 1);
			added++;
			if (vring_show(&drv, event))
				signal_fd(kick_fd);
		}
		while (vring_take(&drv, &head, &len))
			ASSERT_EQ(len, taken++);
		vring_want_event(&drv);
		if (vring_take(&drv, &head, &len))
			ASSERT_EQ(len, taken++);
		else if (added > taken)
			wait_fd(call_fd);	/* a lost interrupt would hang here */
	}
	return NULL;
}

/* No kick and no interrupt is lost: both sides sleep until they get one */
static void run_threads(u64 features)
{
	u32 done = 0, kicks = 0, interrupts = 0;
	pthread_t thread;

	kick_fd = ASSERT_OK(eventfd(0, 0));
	call_fd = ASSERT_OK(eventfd(0, 0));
	setup(16, features);
	virtq_kicks_on(&q);
	ASSERT_EQ(pthread_create(&thread, NULL, driver_thread, (void *)(uintptr_t)!!features), 0);
	while (done < ROUNDS) {
		kicks += wait_fd(kick_fd);
		do {
			virtq_kicks_off(&q);
			while (virtq_pop(&q, &buf) == 1) {
				virtq_push(&q, &buf, done++);
				if (done % 3 == 0 && virtq_publish(&q)) {
					interrupts++;
					signal_fd(call_fd);
				}
			}
			if (virtq_publish(&q)) {
				interrupts++;
				signal_fd(call_fd);
			}
		} while (virtq_kicks_on(&q));
		ASSERT(!q.broken);
	}
	pthread_join(thread, NULL);
	tap_diag("%u kicks, %u interrupts for %u requests", kicks, interrupts, ROUNDS);
	ASSERT_LE(kicks, ROUNDS);
	ASSERT_LE(interrupts, ROUNDS);
}

static void test_threads_flags(void)
{
	run_threads(0);
}

static void test_threads_events(void)
{
	run_threads(EVENT);
}

/* --- nonsense ------------------------------------------------------------------------------------------------- */

static void test_setup_refused(void)
{
	static const u16 sizes[] = { 0, 3, 6, 1023, 2048, 32768, 65535 };
	struct virtq_layout at;
	unsigned int i;

	setup(8, 0);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		at = drv.at;
		at.num = sizes[i];
		virtq_fini(&q);
		ASSERT_EQ(virtq_start(&q, &mem, &at, 1024, 0), -EBADMSG);
		ASSERT(strstr(q.broken, "power of two"));
		ASSERT(!virtq_ready(&q));
		ASSERT_EQ(virtq_pop(&q, &buf), -EBADMSG);
	}
	for (i = 0; i < 3; i++) {
		u64 *reg[] = { &at.desc, &at.avail, &at.used };
		static const u64 off[] = { 8, 1, 2 };
		static const u64 size[] = { 128, 22, 70 };
		u64 bad[] = { MEM_SIZE, MEM_SIZE - ALIGN_DOWN(size[i] - 1, 16), LOW_RAM_MAX, HIGH_RAM_BASE,
			      UINT64_MAX - 15, 1ULL << 63, ALIGN_DOWN(UINT64_MAX - size[i], 16) };
		unsigned int j;

		at = drv.at;
		*reg[i] += off[i];
		virtq_fini(&q);
		ASSERT_EQ(virtq_start(&q, &mem, &at, 8, 0), -EBADMSG);
		ASSERT(strstr(q.broken, "misaligned"));
		for (j = 0; j < ARRAY_SIZE(bad); j++) {
			at = drv.at;
			*reg[i] = bad[j];
			virtq_fini(&q);
			ASSERT_EQ(virtq_start(&q, &mem, &at, 8, 0), -EBADMSG);
			ASSERT(strstr(q.broken, "outside"));
		}
		/* The last place where it fits */
		at = drv.at;
		*reg[i] = MEM_SIZE - ALIGN_UP(size[i], 16);
		virtq_fini(&q);
		ASSERT_EQ(virtq_start(&q, &mem, &at, 8, 0), 0);
	}
}

static void test_head_out_of_range(void)
{
	setup(8, 0);
	vring_offer(&drv, 8);
	breaks("beyond its table");
}

static void test_next_out_of_range(void)
{
	const struct vring_piece pieces[] = { { DATA, 8, false }, { DATA, 8, false } };

	setup(8, 0);
	vring_add(&drv, pieces, 2);
	drv.desc[0].next = 0xffff;
	breaks("beyond its table");
}

static void test_loop(void)
{
	const struct vring_piece pieces[] = { { DATA, 8, true }, { DATA, 8, true } };

	setup(8, 0);
	vring_add(&drv, pieces, 2);
	drv.desc[1].flags |= VRING_DESC_F_NEXT;
	drv.desc[1].next = 0;
	breaks("longer than the ring");

	/* Pieces of no length make no iovec, but a loop of them ends too */
	setup(8, 0);
	vring_add(&drv, pieces, 1);
	drv.desc[0] = (struct vring_desc){ .flags = VRING_DESC_F_NEXT, .next = 0 };
	breaks("longer than the ring");
}

static void test_chain_too_long(void)
{
	struct vring_piece pieces[9];
	unsigned int i;

	for (i = 0; i < 9; i++)
		pieces[i] = (struct vring_piece){ DATA, 8, true };
	setup(8, INDIRECT);
	vring_add(&drv, pieces, 8);
	vring_show(&drv, false);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
	ASSERT_EQ(buf.nr_in, 8);
	setup(8, INDIRECT);
	vring_add_indirect(&drv, TABLE, pieces, 9);
	breaks("longer than the ring");

	/* The device's own limit */
	setup(8, 0);
	vring_add(&drv, pieces, 8);
	buf.max = 7;
	breaks("more pieces than the device takes");
	buf.max = PIECES;
}

static void test_indirect_nonsense(void)
{
	const struct vring_piece piece = { DATA, 8, true };
	struct vring_desc *table;

	setup(8, 0);
	vring_add_indirect(&drv, TABLE, &piece, 1);
	breaks("not agreed on");

	setup(8, INDIRECT);
	vring_add_indirect(&drv, TABLE, &piece, 1);
	table = mem_at(&mem, TABLE, 16);
	table->flags = VRING_DESC_F_INDIRECT;
	table->len = 16;
	breaks("in an indirect table");

	/* A table that is the ring's own, and refers to itself */
	setup(8, INDIRECT);
	vring_add_indirect(&drv, TABLE, &piece, 1);
	drv.desc[0].addr = drv.at.desc;
	drv.desc[0].len = 128;
	breaks("in an indirect table");

	setup(8, INDIRECT);
	vring_add_indirect(&drv, TABLE, &piece, 1);
	drv.desc[0].flags |= VRING_DESC_F_NEXT;
	breaks("has a next one");

	setup(8, INDIRECT);
	vring_add_indirect(&drv, TABLE, &piece, 1);
	drv.desc[0].len = 15;
	breaks("multiple of 16");
	setup(8, INDIRECT);
	vring_add_indirect(&drv, TABLE, &piece, 1);
	drv.desc[0].len = 0;
	breaks("multiple of 16");

	setup(8, INDIRECT);
	vring_add_indirect(&drv, TABLE, &piece, 1);
	drv.desc[0].addr = MEM_SIZE - 8;
	breaks("outside the guest's memory");
	setup(8, INDIRECT);
	vring_add_indirect(&drv, TABLE, &piece, 1);
	drv.desc[0].len = 0xfffffff0;
	breaks("outside the guest's memory");

	/* A loop within a table as large as it can be */
	setup(8, INDIRECT);
	vring_add_indirect(&drv, TABLE, &piece, 1);
	drv.desc[0].len = 0x10000;
	table->flags = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE;
	table->next = 0;
	breaks("longer than the ring");
	setup(8, INDIRECT);
	vring_add_indirect(&drv, TABLE, &piece, 1);
	table->flags = VRING_DESC_F_NEXT;
	table->next = 1;
	breaks("beyond its table");
}

static void test_buffer_outside(void)
{
	static const struct vring_piece bad[] = {
		{ MEM_SIZE, 1, true }, { MEM_SIZE - 1, 2, true }, { MEM_SIZE - 4096, 0xffffffff, true },
		{ UINT64_MAX, 1, false }, { UINT64_MAX - 7, 16, false }, { LOW_RAM_MAX - 1, 2, false },
		{ HIGH_RAM_BASE, 1, true }, { 0xfee00000, 4, true },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		setup(8, 0);
		vring_add(&drv, &bad[i], 1);
		breaks("outside the guest's memory");
	}
}

static void test_order(void)
{
	const struct vring_piece pieces[] = { { DATA, 8, true }, { DATA, 8, false } };

	setup(8, 0);
	vring_add(&drv, pieces, 2);
	breaks("follows a writable one");
}

static void test_index_jump(void)
{
	setup(8, 0);
	drv.avail_idx = 9;
	breaks("jumped");
	setup(8, 0);
	drv.avail_idx = 0xffff;
	breaks("jumped");
	/* As many as it holds is no jump */
	setup(8, 0);
	drv.desc[0] = (struct vring_desc){ .addr = DATA, .len = 4, .flags = VRING_DESC_F_WRITE };
	drv.avail_idx = 8;
	vring_show(&drv, false);
	ASSERT_EQ(virtq_pop(&q, &buf), 1);
}

/* A guest that goes on without waiting for anything cannot have more out than the ring holds */
static void test_too_many_out(void)
{
	unsigned int i;

	setup(8, 0);
	drv.desc[0] = (struct vring_desc){ .addr = DATA, .len = 4, .flags = VRING_DESC_F_WRITE };
	drv.avail_idx = 8;
	vring_show(&drv, false);
	for (i = 0; i < 8; i++)
		ASSERT_EQ(virtq_pop(&q, &buf), 1);
	drv.avail_idx = 16;
	breaks("more requests are out");
}

/* --- saved and loaded ----------------------------------------------------------------------------------------- */

static void test_state(void)
{
	const struct vring_piece piece = { DATA, 64, true };
	struct state_section sec;
	struct virtq_buf out[3];
	struct state st;
	u32 head, len;
	size_t cut;
	int i;

	setup(8, EVENT);
	for (i = 0; i < 5; i++)
		vring_add(&drv, &piece, 1);
	vring_show(&drv, true);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(virtq_pop(&q, &buf), 1);
		out[i] = buf;
	}
	virtq_push(&q, &out[1], 7);
	virtq_publish(&q);
	virtq_unpop(&q, &out[2]);
	virtq_unpop(&q, &out[0]);
	state_init(&st);
	state_begin(&st, "dev", 1);
	virtq_save(&q, &st, 3);
	state_end(&st);
	ASSERT_EQ(st.err, 0);

	virtq_fini(&q);
	ASSERT_EQ(state_find(st.data, st.len, "dev", &sec), 0);
	ASSERT_EQ(virtq_load(&q, &sec, 2), -EBADMSG);
	ASSERT_EQ(virtq_load(&q, &sec, 3), 0);
	ASSERT_EQ(virtq_start(&q, &mem, &drv.at, 8, EVENT), 0);
	for (i = 0; i < 4; i++) {
		static const u16 order[] = { 0, 2, 3, 4 };

		ASSERT_EQ(virtq_pop(&q, &buf), 1);
		ASSERT_EQ(buf.head, order[i]);
		virtq_push(&q, &buf, i);
	}
	ASSERT_EQ(virtq_pop(&q, &buf), 0);
	virtq_publish(&q);
	for (i = 0; vring_take(&drv, &head, &len); i++)
		;
	ASSERT_EQ(i, 5);

	for (cut = 0; cut < sec.len; cut++) {
		struct state_section part = { sec.data, cut, 1 };

		ASSERT(virtq_load(&q, &part, 3) < 0);
	}
	/* Given back are more than a smaller ring holds */
	ASSERT_EQ(virtq_load(&q, &sec, 3), 0);
	drv.at.num = 1;
	ASSERT_EQ(virtq_start(&q, &mem, &drv.at, 8, 0), -EBADMSG);
	state_free(&st);
}

static const struct tap_test tests[] = {
	TEST(direct),
	TEST(log),
	TEST(slice),
	TEST(indirect),
	TEST(wrap),
	TEST(unpop),
	TEST(suppression_flags),
	TEST(suppression_events),
	TEST_TIMEOUT(threads_flags, 120),
	TEST_TIMEOUT(threads_events, 120),
	TEST(setup_refused),
	TEST(head_out_of_range),
	TEST(next_out_of_range),
	TEST(loop),
	TEST(chain_too_long),
	TEST(indirect_nonsense),
	TEST(buffer_outside),
	TEST(order),
	TEST(index_jump),
	TEST(too_many_out),
	TEST(state),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
