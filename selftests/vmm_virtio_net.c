// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies virtio-net without a guest: what it offers; frames both ways, in one piece and in many, merged over buffers, held while
 * the driver has none, dropped where they cannot fit; headers and lengths from a hostile driver; every control command and its
 * refusals; reset, pause, saved and loaded state in the middle of traffic; the same through a real tap with a packet socket behind.
 */
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/if_packet.h>

#include "tap.h"
#include "fakenet.h"
#include "fakevirtio.h"
#include "../vmm/virtio_net.h"

#define MEM_SIZE	(8 * MIB)
#define RINGS		0x10000ULL	/* 64 KiB each */
#define TABLES		0x200000ULL
#define TX_DATA		0x300000ULL
#define RX_DATA		0x400000ULL
#define RING_NUM	64

static char last_line[1100];
static int lines;

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
	lines++;
}

/* --- a transport, a driver and the loop --------------------------------------------------------------------------- */

static struct mem mem;
static struct fakenet fake;
static struct net *net;
static struct vring_drv ring[2 * NET_QUEUES_MAX + 1];

static int turns;

static void turn(struct loop_task *task)
{
	if (--turns)
		loop_defer(task);
	else
		loop_quit();
}

/* Long enough for everything that is under way. */
static void pump(void)
{
	static struct loop_task task = { .run = turn };

	turns = 20;
	loop_defer(&task);
	ASSERT_EQ(loop_run(), 0);
}

static struct virtio_net *device(void)
{
	return container_of(v, struct virtio_net, v);
}

/* Until interrupts that wait a little have been made. */
static void settle(void)
{
	while (device()->tell_op.busy)
		pump();
}

/* As net_create() makes it, but with the fake behind it. */
static void create(const char *options, struct fakenet *f)
{
	char *text = strdup(options);

	if (!mem.host)
		ASSERT_EQ(mem_init(&mem, MEM_SIZE, MEM_PAGES_SMALL), 0);
	ASSERT_EQ(net_options_parse(&f->opt, text), 0);
	net = net_new(&f->opt, "test", 0);
	ASSERT(net);
	ASSERT_EQ(fakenet_open(net), 0);
	v = virtio_net_create(&mem, net, "net0");
	ASSERT_MSG(v, "%s", last_line);
	v->transport = &transport;
}

static void destroy(void)
{
	virtio_close(v);
	loop_fini();
	virtio_device_ops()->destroy(&v->dev);
	ASSERT(fake.closed);
}

#define DEFAULTS	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MAC) | VIRTIO_BIT(VIRTIO_NET_F_STATUS) | \
			 VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX) | \
			 VIRTIO_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | \
			 VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) | VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC))
#define MERGE		VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)
#define OFFLOADS	(VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | \
			 VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) | \
			 VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | \
			 VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN) | \
			 VIRTIO_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
#define MQ		VIRTIO_BIT(VIRTIO_NET_F_MQ)

static void attach_rings(u64 features)
{
	unsigned int i, nr = features & MQ ? v->nr_queues : 3;

	for (i = 0; i < nr; i++) {
		vring_drv_init(&ring[i], &mem, RINGS + 0x10000 * i, RING_NUM);
		vring_attach(&ring[i], v, i);
	}
}

static void drive(u64 features)
{
	negotiate(features);
	attach_rings(features);
	driver_ok();
	pump();
	ASSERT(v->started);
}

static void start(const char *options, u64 features)
{
	create(options, &fake);
	ASSERT_EQ(loop_init(woken, NULL), 0);
	virtio_open(v);
	drive(features);
}

/* As a driver does: shows what it offered, kicks if that is wanted. */
static void kick(unsigned int queue)
{
	if (vring_show(&ring[queue], virtio_acked(v, 0) & VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX)))
		eventfd_write(v->queues[queue].kick_fd, 1);
	pump();
}

static bool used(unsigned int queue, u32 *head, u32 *len)
{
	bool ret = vring_take(&ring[queue], head, len);

	if (ret)
		vring_want_event(&ring[queue]);
	return ret;
}

static void fill(u8 *data, size_t len, u32 seed)
{
	while (len--)
		*data++ = seed = seed * 1103515245 + 12345 + (seed >> 16);
}

/* --- frames from the guest ----------------------------------------------------------------------------------------- */

static const struct net_header plain;

/* Header and frame as @nr pieces of these lengths. */
static u16 offer_tx(unsigned int queue, const struct net_header *h, size_t len, const size_t *cut, unsigned int nr, bool indirect)
{
	struct vring_piece pieces[64];
	u8 *data = mem_at(&mem, TX_DATA, 12 + len);
	size_t pos = 0, total = 12 + len;
	unsigned int i;

	memcpy(data, h, 12);
	for (i = 0; i < nr; i++) {
		size_t part = i + 1 < nr ? cut[i] : total - pos;

		pieces[i] = (struct vring_piece){ TX_DATA + pos, part, false };
		pos += part;
	}
	return indirect ? vring_add_indirect(&ring[queue], TABLES, pieces, nr) : vring_add(&ring[queue], pieces, nr);
}

static void test_tx_shapes(void)
{
	static const struct {
		size_t len, cut[8];
		unsigned int nr;
		bool indirect;
	} shapes[] = {
		{ 60, { 0 }, 1, false }, { 60, { 12 }, 2, false }, { 1500, { 12, 14, 700 }, 4, false }, { 1500, { 5, 5, 2, 20 }, 5, true },
		{ 1500, { 100 }, 2, true }, { NET_FRAME_MAX, { 12, 4096, 30000 }, 4, true }, { 14, { 26 }, 1, false },
		{ 1500, { 11, 1, 1 }, 4, false }, { 1500, { 13 }, 2, false },
	};
	unsigned int i;
	u32 head, len;

	start("tap=x", DEFAULTS | MERGE);
	vring_want_event(&ring[1]);
	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct fakenet_frame *f;
		u16 h;

		fill(mem_at(&mem, TX_DATA + 12, shapes[i].len), shapes[i].len, i);
		h = offer_tx(1, &plain, shapes[i].len, shapes[i].cut, shapes[i].nr, shapes[i].indirect);
		kick(1);
		ASSERT_MSG(used(1, &head, &len), "shape %u", i);
		ASSERT_EQ(head, h);
		ASSERT_EQ(len, 0);
		settle();
		f = fakenet_take(&fake.out);
		ASSERT(f);
		ASSERT_EQ(f->len, 12 + shapes[i].len);
		ASSERT(!memcmp(f->data, &plain, 12));
		ASSERT(!memcmp(f->data + 12, mem_at(&mem, TX_DATA + 12, 1), shapes[i].len));
	}
	ASSERT_EQ(net->stats.tx_frames, ARRAY_SIZE(shapes));
	ASSERT_EQ(net->stats.tx_errors, 0);
	destroy();
}

/* Each is dropped and counted, or passes; the device goes on. */
static void test_tx_headers(void)
{
	static const struct {
		struct net_header h;
		size_t len;
		u64 without;	/* feature that the driver did not take */
		bool passes;
	} cases[] = {
		{ { NET_NEEDS_CSUM, 0, 0, 0, 34, 16, 0 }, 100, 0, true },
		{ { NET_NEEDS_CSUM, 0, 0, 0, 34, 64, 0 }, 100, 0, true },
		{ { NET_NEEDS_CSUM, 0, 0, 0, 34, 65, 0 }, 100, 0, false },
		{ { NET_NEEDS_CSUM, 0, 0, 0, 65535, 65535, 0 }, 100, 0, false },
		{ { NET_NEEDS_CSUM, 0, 0, 0, 34, 16, 0 }, 100, VIRTIO_BIT(VIRTIO_NET_F_CSUM), false },
		{ { 0xfe, 0, 9999, 7, 9999, 9999, 77 }, 100, 0, true },		/* fields that do not matter */
		{ { NET_NEEDS_CSUM, NET_GSO_TCP4, 54, 1000, 34, 16, 0 }, 5000, 0, true },
		{ { NET_NEEDS_CSUM, NET_GSO_TCP6, 74, 1000, 54, 16, 0 }, 5000, 0, true },
		{ { NET_NEEDS_CSUM, NET_GSO_TCP4 | NET_GSO_ECN, 54, 1000, 34, 16, 0 }, 5000, 0, true },
		{ { NET_NEEDS_CSUM, NET_GSO_TCP4, 54, 0, 34, 16, 0 }, 5000, 0, false },
		{ { NET_NEEDS_CSUM, NET_GSO_TCP4, 5001, 1000, 34, 16, 0 }, 5000, 0, false },
		{ { 0, NET_GSO_TCP4, 54, 1000, 34, 16, 0 }, 5000, 0, false },
		{ { NET_NEEDS_CSUM, NET_GSO_ECN, 54, 1000, 34, 16, 0 }, 5000, 0, false },
		{ { NET_NEEDS_CSUM, 3, 54, 1000, 34, 16, 0 }, 5000, 0, false },		/* UDP fragmentation */
		{ { NET_NEEDS_CSUM, 5, 54, 1000, 34, 16, 0 }, 5000, 0, false },
		{ { NET_NEEDS_CSUM, 0x7f, 54, 1000, 34, 16, 0 }, 5000, 0, false },
		{ { NET_NEEDS_CSUM, NET_GSO_TCP4, 54, 1000, 34, 16, 0 }, 5000, VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4), false },
		{ { NET_NEEDS_CSUM, NET_GSO_TCP6, 74, 1000, 54, 16, 0 }, 5000, VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6), false },
		{ { NET_NEEDS_CSUM, NET_GSO_TCP4 | NET_GSO_ECN, 54, 1000, 34, 16, 0 }, 5000, VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN), false },
	};
	unsigned int i, errors = 0;
	u32 head, len;

	start("tap=x", DEFAULTS | MERGE | OFFLOADS);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fakenet_frame *f;

		if (cases[i].without || (i && cases[i - 1].without)) {
			virtio_set_status(v, 0);
			pump();
			ASSERT_EQ(virtio_status(v), 0);
			drive((DEFAULTS | MERGE | OFFLOADS) & ~cases[i].without);
		}
		offer_tx(1, &cases[i].h, cases[i].len, NULL, 1, false);
		kick(1);
		ASSERT(used(1, &head, &len));
		f = fakenet_take(&fake.out);
		ASSERT_MSG(!f == !cases[i].passes, "case %u", i);
		if (f) {
			struct net_header *h = (struct net_header *)f->data;

			ASSERT_EQ(h->flags, cases[i].h.flags & NET_NEEDS_CSUM);
			ASSERT_EQ(h->gso_type, cases[i].h.gso_type);
			ASSERT_EQ(h->buffers, 0);
		}
		errors += !cases[i].passes;
		ASSERT_EQ(net->stats.tx_errors, errors);
		ASSERT(!v->broken);
	}
	destroy();
}

static void test_tx_lengths(void)
{
	static const struct {
		size_t len;
		bool passes;
	} cases[] = {
		{ 1, false }, { 11, false }, { 12, false }, { 25, false }, { 26, true }, { 12 + NET_FRAME_MAX, true },
		{ 13 + NET_FRAME_MAX, false }, { 1 << 20, false },
	};
	unsigned int i, errors = 0;
	u32 head, len;

	start("tap=x", DEFAULTS);
	memset(mem_at(&mem, TX_DATA, 12), 0, 12);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		vring_add(&ring[1], &(struct vring_piece){ TX_DATA, cases[i].len, false }, 1);
		kick(1);
		ASSERT(used(1, &head, &len));
		errors += !cases[i].passes;
		ASSERT_MSG(net->stats.tx_errors == errors, "case %u", i);
	}
	/* Nothing at all, and only room to write: requests that say nothing. */
	vring_add(&ring[1], &(struct vring_piece){ TX_DATA, 0, false }, 1);
	vring_add(&ring[1], &(struct vring_piece){ TX_DATA, 100, true }, 1);
	kick(1);
	ASSERT(used(1, &head, &len));
	ASSERT_EQ(len, 0);
	ASSERT(used(1, &head, &len));
	ASSERT_EQ(len, 0);
	ASSERT_EQ(net->stats.tx_errors, errors + 2);
	ASSERT(!v->broken);
	destroy();
}

static void offer_numbered(unsigned int queue, u32 number, size_t len)
{
	u64 at = TX_DATA + (number % RING_NUM) * 4096;

	memset(mem_at(&mem, at, 12 + len), 0, 12 + len);
	mem_write(&mem, at + 12, &number, sizeof(number));
	vring_add(&ring[queue], &(struct vring_piece){ at, 12 + len, false }, 1);
}

static u32 number_of(const struct fakenet_frame *f)
{
	u32 number;

	memcpy(&number, f->data + 12, sizeof(number));
	return number;
}

/* The host half has no room: order is kept, nothing is lost, kicks do not hurry it. */
static void test_tx_blocked(void)
{
	u32 i, head, len, done = 0;

	start("tap=x", DEFAULTS);
	fake.room = 3;
	for (i = 0; i < 10; i++)
		offer_numbered(1, i, 60);
	kick(1);
	while (used(1, &head, &len))
		done++;
	ASSERT_EQ(done, 3);
	offer_numbered(1, 10, 60);
	vring_show(&ring[1], true);
	eventfd_write(v->queues[1].kick_fd, 1);
	pump();
	ASSERT(!used(1, &head, &len));
	fake.room = 100;
	fakenet_ready(&fake, 0);
	/* The descriptor has room to write, so the poll for it comes. */
	pump();
	while (used(1, &head, &len))
		done++;
	ASSERT_EQ(done, 11);
	for (i = 0; i < 11; i++)
		ASSERT_EQ(number_of(fakenet_take(&fake.out)), i);
	ASSERT(!fakenet_take(&fake.out));
	ASSERT_EQ(net->stats.tx_dropped, 0);
	offer_numbered(1, 11, 60);
	kick(1);
	ASSERT_EQ(number_of(fakenet_take(&fake.out)), 11);
	destroy();
}

/* More than a turn's worth, offered all at once and again and again. */
static void test_tx_many(void)
{
	u32 i, sent = 0, head, len;

	start("tap=x", DEFAULTS);
	for (i = 0; i < 1000;) {
		while (i < 1000 && (u16)(ring[1].avail_idx - ring[1].seen) < RING_NUM)
			offer_numbered(1, i++, 60);
		kick(1);
		while (used(1, &head, &len))
			sent++;
	}
	ASSERT_EQ(sent, 1000);
	for (i = 0; i < 1000; i++)
		ASSERT_EQ(number_of(fakenet_take(&fake.out)), i);
	destroy();
}

/* By the batch: in their order, without what is nonsense; lost ones are counted; one by one where the host half cannot. */
static void test_tx_batches(void)
{
	u32 i, head, len, done = 0;

	start("tap=x", DEFAULTS);
	net->many = true;
	for (i = 0; i < 50; i++) {
		offer_numbered(1, i, 60);
		if (i == 7)
			vring_add(&ring[1], &(struct vring_piece){ TX_DATA, 5, false }, 1);
	}
	kick(1);
	while (used(1, &head, &len))
		done++;
	ASSERT_EQ(done, 51);
	ASSERT_EQ(fake.batches, 3);
	ASSERT_EQ(net->stats.tx_errors, 1);
	ASSERT_EQ(net->stats.tx_frames, 50);
	ASSERT_EQ(net->stats.tx_bytes, 50 * 60);
	for (i = 0; i < 50; i++)
		ASSERT_EQ(number_of(fakenet_take(&fake.out)), i);

	fake.room = 6;
	for (i = 0; i < 10; i++)
		offer_numbered(1, i, 60);
	kick(1);
	for (done = 0; used(1, &head, &len);)
		done++;
	ASSERT_EQ(done, 10);
	ASSERT_EQ(net->stats.tx_dropped, 4);
	ASSERT_EQ(net->stats.tx_frames, 56);
	for (i = 0; i < 6; i++)
		ASSERT_EQ(number_of(fakenet_take(&fake.out)), i);

	fake.room = 4;
	fake.batch_error = -EINVAL;
	for (i = 0; i < 10; i++)
		offer_numbered(1, i, 60);
	kick(1);
	for (done = 0; used(1, &head, &len);)
		done++;
	ASSERT_EQ(done, 4);
	ASSERT(!net->many);
	ASSERT_EQ(net->stats.tx_dropped, 4);
	fake.room = 100;
	fakenet_ready(&fake, 0);
	pump();
	while (used(1, &head, &len))
		done++;
	ASSERT_EQ(done, 10);
	for (i = 0; i < 10; i++)
		ASSERT_EQ(number_of(fakenet_take(&fake.out)), i);
	destroy();
}

/* Sent frames show at once; the interrupt for them is one for many, and none where the driver has looked meanwhile. */
static void test_tx_interrupts(void)
{
	unsigned int before, i;
	u32 head, len;

	start("tap=x", DEFAULTS);
	vring_want_event(&ring[1]);

	before = nr_irq[1];
	offer_numbered(1, 0, 60);
	kick(1);
	ASSERT(ring[1].used->idx == 1);
	settle();
	ASSERT_EQ(nr_irq[1], before + 1);
	ASSERT(used(1, &head, &len));

	/* Seen before the time is over: no interrupt. */
	before = nr_irq[1];
	for (i = 0; i < 200; i++) {
		offer_numbered(1, i, 60);
		vring_show(&ring[1], true);
		device()->tx[0].untold = 0;
		vnet_tx_run(device(), 0);
		ASSERT_EQ(device()->tx[0].untold, 1);
		ASSERT(used(1, &head, &len));
	}
	settle();
	ASSERT_EQ(nr_irq[1], before);

	/* Not seen: one for each batch, at once. */
	for (i = 0; i < 40; i++) {
		offer_numbered(1, i, 60);
		vring_show(&ring[1], true);
		vnet_tx_run(device(), 0);
		if (i == 15 || i == 31) {
			before++;
			while (used(1, &head, &len))
				;
		}
		ASSERT_MSG(nr_irq[1] == before, "frame %u", i);
	}
	/* What was not told before a pause is told by it. */
	virtio_pause(v);
	pump();
	ASSERT(virtio_quiet(v));
	ASSERT_EQ(device()->tx[0].untold, 0);
	virtio_resume(v);
	pump();
	settle();
	while (used(1, &head, &len))
		;
	ASSERT_EQ(ring[1].seen, 241);
	destroy();
}

static bool batch_task(void)
{
	ASSERT_EQ(patience_on(), sched_getscheduler(0) == SCHED_BATCH);
	return patience_on();
}

/* @pieces for each of @looks, @ns apart; after how many it became a batch task, or stopped being one. */
static unsigned int looks(unsigned int nr, unsigned int pieces, u64 ns, bool until)
{
	static u64 now = 1000000000;
	unsigned int i;

	for (i = 1; i <= nr; i++) {
		now += ns;
		patience_note(pieces, now);
		if (batch_task() == until)
			return i;
	}
	return 0;
}

/* While looks find several frames each, the thread is a batch task; not when they are alone, or some time has passed. */
static void test_patience(void)
{
	unsigned int i, j;
	u32 head, len;

	patience_init();
	ASSERT(!batch_task());
	/* Seldom: never. */
	ASSERT_EQ(looks(1000, 4, 20000000, true), 0);
	ASSERT_EQ(looks(100, 4, 1000000, true), 63);
	ASSERT_EQ(looks(1000, 4, 1000000, false), 0);
	ASSERT_LE(1, looks(100, 1, 1000000, false));
	/* It is tried, and given up again. */
	ASSERT_EQ(looks(100, 1, 1000000, true), 64);
	ASSERT_EQ(looks(100, 1, 1000000, false), 4);
	ASSERT_EQ(looks(100, 4, 1000000, true), 64);
	ASSERT_EQ(looks(1, 4, 20000000, false), 1);

	/* Frames count. */
	start("tap=x", DEFAULTS);
	for (i = 0; i < 10000 && !batch_task(); i++) {
		for (j = 0; j < 4; j++)
			offer_numbered(1, j, 60);
		vring_show(&ring[1], true);
		vnet_tx_run(device(), 0);
		while (used(1, &head, &len))
			;
	}
	ASSERT(batch_task());
	destroy();
}

/* Who has another policy keeps it. */
static void test_own_policy(void)
{
	unsigned int i;

	ASSERT_OK(sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){ 0 }));
	patience_init();
	for (i = 0; i < 1000; i++)
		patience_look(4);
	ASSERT(!patience_on());
	ASSERT_EQ(sched_getscheduler(0), SCHED_IDLE);
}

/* --- frames to the guest ------------------------------------------------------------------------------------------- */

static u32 rx_buf_len;

/* Where the buffer with this head lies; several queues have small ones. */
static u64 rx_place(unsigned int queue, u32 head)
{
	return RX_DATA + (u64)(head % RING_NUM) * 0x10000 + queue * 0x1000;
}

/* Receive buffers of one piece each. */
static void offer_rx(unsigned int queue, unsigned int nr)
{
	while (nr--) {
		u64 at = rx_place(queue, ring[queue].next_desc);

		vring_add(&ring[queue], &(struct vring_piece){ at, rx_buf_len, true }, 1);
	}
}

static u8 frame[12 + NET_FRAME_MAX];

static void arrive(unsigned int queue, size_t len, u32 seed)
{
	fill(frame + 12, len, seed);
	memset(frame, 0, 12);
	((struct net_header *)frame)->flags = seed & 1;
	((struct net_header *)frame)->csum_start = seed;
	fakenet_put(&fake.in[queue], frame, 12 + len);
	fakenet_ready(&fake, queue);
}

/* The next frame in the used ring is the one that arrive() made; returns how many buffers it took. */
static unsigned int expect_rx(unsigned int queue, size_t len, u32 seed)
{
	size_t total = 12 + len, pos = 0;
	u16 buffers = 1, i;
	u32 head, n;

	fill(frame + 12, len, seed);
	memset(frame, 0, 12);
	((struct net_header *)frame)->flags = seed & 1;
	((struct net_header *)frame)->csum_start = seed;
	for (i = 0; i < buffers; i++) {
		u8 *data;

		ASSERT_MSG(used(queue, &head, &n), "frame %u: buffer %u of %u is missing", seed, i, buffers);
		data = mem_at(&mem, rx_place(queue, head), n);
		if (!i) {
			memcpy(&buffers, data + 10, 2);
			memcpy(frame + 10, data + 10, 2);
		}
		ASSERT_LE(pos + n, total);
		ASSERT_EQ(n, total - pos < rx_buf_len ? total - pos : rx_buf_len);
		ASSERT_MSG(!memcmp(data, frame + pos, n), "frame %u differs in buffer %u", seed, i);
		pos += n;
	}
	ASSERT_EQ(pos, total);
	return buffers;
}

static void test_rx_merged(void)
{
	static const size_t lens[] = { 60, 1500, 14, 1524, 1525, 65000, 64999, 60, 3000, 65000, 60, 60, 1500, 2000, 40000 };
	u32 head, len, i, buffers;

	rx_buf_len = 1536;
	start("tap=x", DEFAULTS | MERGE | OFFLOADS);
	ASSERT_EQ(fake.offload, net->offload_max);
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		offer_rx(0, RING_NUM - (u16)(ring[0].avail_idx - ring[0].seen));
		kick(0);
		arrive(0, lens[i], i);
		pump();
		buffers = expect_rx(0, lens[i], i);
		ASSERT_EQ(buffers, (12 + lens[i] + 1535) / 1536);
		ASSERT(!used(0, &head, &len));
	}
	ASSERT_EQ(net->stats.rx_frames, ARRAY_SIZE(lens));
	ASSERT_EQ(net->stats.rx_dropped, 0);
	destroy();
}

/* Every size of buffer and frame that matters, in a row, so that left-over buffers and expectations meet all. */
static void test_rx_sizes(void)
{
	static const u32 bufs[] = { 12, 13, 100, 1526, 4096, 65536 };
	u32 b, i, seed = 0, head, len;
	size_t size;

	for (b = 0; b < ARRAY_SIZE(bufs); b++) {
		rx_buf_len = bufs[b];
		if (!v)
			start("tap=x", DEFAULTS | MERGE);
		else {
			virtio_set_status(v, 0);
			pump();
			drive(DEFAULTS | MERGE);
		}
		for (i = 0; i < 300; i++) {
			size = 14 + (i * 7919u + i * i * 31u) % (rx_buf_len * 40 < 65000 ? rx_buf_len * 40 : 65000);
			offer_rx(0, RING_NUM - (u16)(ring[0].avail_idx - ring[0].seen));
			kick(0);
			arrive(0, size, ++seed);
			pump();
			ASSERT_EQ(expect_rx(0, size, seed), (12 + size + rx_buf_len - 1) / rx_buf_len);
		}
		ASSERT(!used(0, &head, &len));
	}
	ASSERT_EQ(net->stats.rx_dropped, 0);
	destroy();
}

/* The ring runs dry in the middle of a frame, which waits and is whole afterwards. */
static void test_rx_held(void)
{
	u32 head, len, i;

	rx_buf_len = 1536;
	start("tap=x", DEFAULTS | MERGE);
	offer_rx(0, 5);
	kick(0);
	arrive(0, 20000, 1);
	arrive(0, 60, 2);
	pump();
	ASSERT(!used(0, &head, &len));
	for (i = 0; i < 8; i++) {
		offer_rx(0, 1);
		kick(0);
		ASSERT(!used(0, &head, &len));
	}
	offer_rx(0, 1);
	kick(0);
	ASSERT_EQ(expect_rx(0, 20000, 1), 14);
	ASSERT(!used(0, &head, &len));
	offer_rx(0, 1);
	kick(0);
	ASSERT_EQ(expect_rx(0, 60, 2), 1);
	ASSERT_EQ(net->stats.rx_dropped, 0);

	/* Reset in that state: nothing of it is left. */
	offer_rx(0, 5);
	kick(0);
	arrive(0, 20000, 3);
	pump();
	virtio_set_status(v, 0);
	pump();
	ASSERT_EQ(virtio_status(v), 0);
	drive(DEFAULTS | MERGE);
	offer_rx(0, 20);
	kick(0);
	arrive(0, 100, 4);
	pump();
	ASSERT_EQ(expect_rx(0, 100, 4), 1);
	destroy();
}

/* A driver that has just been given frames is waited for when room gets short, but not long. */
static void test_rx_room(void)
{
	struct vnet_rx *rx;
	u32 head, len, i;

	rx_buf_len = 1536;
	start("tap=x", DEFAULTS | MERGE);
	rx = &device()->rx[0];
	offer_rx(0, 30);
	kick(0);
	arrive(0, 20000, 1);
	pump();
	ASSERT_EQ(expect_rx(0, 20000, 1), 14);
	for (i = 2; i <= 4; i++) {
		offer_rx(0, 14);
		vring_show(&ring[0], true);
		/* 30 have room for two of them. */
		arrive(0, 20000, 10 * i);
		arrive(0, 20000, 10 * i + 1);
		arrive(0, 20000, 10 * i + 2);
		vnet_rx_run(device(), 0);
		ASSERT(rx->timer.busy);
		ASSERT(!rx->held);
		ASSERT_EQ(expect_rx(0, 20000, 10 * i), 14);
		ASSERT_EQ(expect_rx(0, 20000, 10 * i + 1), 14);
		ASSERT(!used(0, &head, &len));
		rx->rest_len = 0;
		if (i < 4) {
			/* More comes in time: nothing is copied. */
			offer_rx(0, 28);
			vring_show(&ring[0], true);
			vnet_rx_run(device(), 0);
			ASSERT_EQ(expect_rx(0, 20000, 10 * i + 2), 14);
			ASSERT_EQ(rx->rest_len, 0);
			while (rx->timer.busy)
				pump();
			continue;
		}
		/* It does not: what there is has to do. */
		while (rx->timer.busy)
			pump();
		ASSERT_EQ(rx->held, 20012);
		offer_rx(0, 28);
		kick(0);
		ASSERT_EQ(expect_rx(0, 20000, 10 * i + 2), 14);
		ASSERT_EQ(rx->rest_len, 20012 - 2 * 1536);
	}
	ASSERT_EQ(net->stats.rx_dropped, 0);
	destroy();
}

/* A frame larger than all that the driver can ever offer is dropped, and the buffers serve the next one. */
static void test_rx_hopeless(void)
{
	u32 head, len;

	rx_buf_len = 100;
	start("tap=x", DEFAULTS | MERGE);
	offer_rx(0, RING_NUM);
	kick(0);
	arrive(0, 7000, 1);
	arrive(0, 300, 2);
	pump();
	ASSERT_EQ(expect_rx(0, 300, 2), 4);
	ASSERT(!used(0, &head, &len));
	ASSERT_EQ(net->stats.rx_dropped, 1);
	destroy();
}

static void test_rx_unmerged(void)
{
	u32 head, len;

	rx_buf_len = 1526;
	start("tap=x", DEFAULTS);
	offer_rx(0, 10);
	kick(0);
	arrive(0, 1514, 1);
	arrive(0, 1515, 2);
	arrive(0, 65000, 3);
	arrive(0, 60, 4);
	pump();
	ASSERT_EQ(expect_rx(0, 1514, 1), 1);
	ASSERT_EQ(expect_rx(0, 60, 4), 1);
	ASSERT(!used(0, &head, &len));
	ASSERT_EQ(net->stats.rx_dropped, 2);
	destroy();
}

/* Chains of several pieces, as a driver without merging builds them for large frames. */
static void test_rx_pieces(void)
{
	struct vring_piece p[] = { { RX_DATA, 12, true }, { RX_DATA + 0x1000, 100, true }, { RX_DATA + 0x2000, 4096, true },
				   { RX_DATA + 0x4000, 1, true }, { RX_DATA + 0x5000, 60000, true } };
	u32 head, len, pass;
	u8 *base;

	start("tap=x", DEFAULTS);
	base = mem_at(&mem, RX_DATA, 0x100000);
	for (pass = 0; pass < 2; pass++) {
		memset(base, 0xee, 0x100000);
		if (pass)
			vring_add_indirect(&ring[0], TABLES, p, 5);
		else
			vring_add(&ring[0], p, 5);
		kick(0);
		arrive(0, 10000, 5);
		pump();
		ASSERT(used(0, &head, &len));
		ASSERT_EQ(len, 10012);
		ASSERT_EQ(base[10], 1);
		ASSERT(!memcmp(base, frame, 10));
		ASSERT(!memcmp(base + 0x1000, frame + 12, 100));
		ASSERT(!memcmp(base + 0x2000, frame + 112, 4096));
		ASSERT_EQ(base[0x4000], frame[12 + 4196]);
		ASSERT(!memcmp(base + 0x5000, frame + 12 + 4197, 10000 - 4197));
		ASSERT_EQ(base[0x5000 + 10000 - 4197], 0xee);
	}
	destroy();
}

/* 1000 frames wait before the driver has a buffer; all of them come, in order. */
static void test_rx_many(void)
{
	u32 i, got = 0;

	rx_buf_len = 1536;
	start("tap=x", DEFAULTS | MERGE);
	for (i = 0; i < 1000; i++)
		arrive(0, 60 + i % 100, i);
	while (got < 1000) {
		offer_rx(0, RING_NUM - (u16)(ring[0].avail_idx - ring[0].seen));
		kick(0);
		for (i = 0; i < RING_NUM && got < 1000; i++, got++)
			expect_rx(0, 60 + got % 100, got);
	}
	ASSERT_EQ(net->stats.rx_frames, 1000);
	destroy();
}

static void breaks(const char *why)
{
	pump();
	ASSERT(v->broken);
	ASSERT(virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	ASSERT_EQ(lines, 1);
	ASSERT_MSG(strstr(last_line, why), "%s", last_line);
	lines = 0;
	/* Nothing more happens, and nothing crashes, until the reset. */
	arrive(0, 60, 1);
	eventfd_write(v->queues[1].kick_fd, 1);
	pump();
	ASSERT_EQ(lines, 0);
	virtio_set_status(v, 0);
	pump();
	ASSERT_EQ(virtio_status(v), 0);
	ASSERT(!v->broken);
	while (fakenet_take(&fake.in[0]))
		;
	while (fakenet_take(&fake.out))
		;
	rx_buf_len = 1536;
	drive(DEFAULTS | MERGE);
}

static void test_broken(void)
{
	start("tap=x", DEFAULTS | MERGE);
	/* Buffers that cannot hold a header, or are not to be written. */
	vring_add(&ring[0], &(struct vring_piece){ RX_DATA, 11, true }, 1);
	kick(0);
	arrive(0, 60, 1);
	breaks("no room for a header");
	vring_add(&ring[0], (struct vring_piece []){ { RX_DATA, 20, false }, { RX_DATA, 2000, true } }, 2);
	kick(0);
	arrive(0, 60, 1);
	breaks("no room for a header");
	/* After good ones, which a frame is waiting in. */
	rx_buf_len = 1536;
	offer_rx(0, 3);
	vring_add(&ring[0], &(struct vring_piece){ RX_DATA, 4, true }, 1);
	kick(0);
	arrive(0, 30000, 1);
	breaks("no room for a header");
	vring_add(&ring[1], &(struct vring_piece){ ~0ULL - 5, 100, false }, 1);
	vring_show(&ring[1], true);
	eventfd_write(v->queues[1].kick_fd, 1);
	breaks("outside the guest's memory");
	ring[1].avail_idx = 1000;
	vring_show(&ring[1], true);
	eventfd_write(v->queues[1].kick_fd, 1);
	breaks("jumped");
	ring[2].avail_idx = 1000;
	vring_show(&ring[2], true);
	eventfd_write(v->queues[2].kick_fd, 1);
	breaks("jumped");
	/* And it works. */
	offer_rx(0, 3);
	kick(0);
	arrive(0, 60, 7);
	pump();
	expect_rx(0, 60, 7);
	offer_numbered(1, 3, 60);
	kick(1);
	ASSERT_EQ(number_of(fakenet_take(&fake.out)), 3);
	destroy();
}

/* --- the control queue --------------------------------------------------------------------------------------------- */

static unsigned int ctrl_queue = 2;

/* The acknowledgement of a command of these bytes. */
static u8 command(const void *data, size_t len)
{
	u8 *at = mem_at(&mem, TX_DATA, 0x10000), ack;
	u32 head, n;

	memcpy(at, data, len);
	at[0x8000] = 0x55;
	vring_add(&ring[ctrl_queue], (struct vring_piece []){ { TX_DATA, len, false }, { TX_DATA + 0x8000, 1, true } }, 2);
	kick(ctrl_queue);
	ASSERT(used(ctrl_queue, &head, &n));
	ASSERT_EQ(n, 1);
	ack = at[0x8000];
	ASSERT(ack == VIRTIO_NET_OK || ack == VIRTIO_NET_ERR);
	return ack;
}

#define COMMAND(...)	command((u8 []){ __VA_ARGS__ }, sizeof((u8 []){ __VA_ARGS__ }))
#define GOOD(...)	ASSERT_EQ(COMMAND(__VA_ARGS__), VIRTIO_NET_OK)
#define BAD(...)	ASSERT_EQ(COMMAND(__VA_ARGS__), VIRTIO_NET_ERR)

static void test_ctrl_rx(void)
{
	u8 tables[2 + 4 + 100 * 6 + 4 + 100 * 6] = { VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET };
	unsigned int i;

	start("tap=x,mac=52:54:00:00:00:01", DEFAULTS | MERGE);
	ASSERT(fake.filter.all);	/* until the driver has said something */
	GOOD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	ASSERT(!fake.filter.all && !fake.filter.all_multicast && fake.filter.nr == 1);
	ASSERT(!memcmp(fake.filter.mac[0], "\x52\x54\0\0\0\1", 6));
	GOOD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, 1);
	ASSERT(!fake.filter.all && fake.filter.all_multicast);
	GOOD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, 0);
	GOOD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1);
	ASSERT(fake.filter.all);
	GOOD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);

	/* One unicast and two multicast addresses behind the device's own. */
	tables[2] = 1;
	tables[6] = 0x52;
	tables[12] = 2;
	tables[16] = 1;
	tables[22] = 0x33;
	ASSERT_EQ(command(tables, 2 + 4 + 6 + 4 + 12), VIRTIO_NET_OK);
	ASSERT_EQ(fake.filter.nr, 4);
	ASSERT(fake.filter.mac[1][0] == 0x52 && fake.filter.mac[2][0] == 1 && fake.filter.mac[3][0] == 0x33);
	/* Cut off, or with something behind: as it was. */
	for (i = 2; i < 2 + 4 + 6 + 4 + 12; i++)
		ASSERT_EQ(command(tables, i), VIRTIO_NET_ERR);
	ASSERT_EQ(command(tables, 2 + 4 + 6 + 4 + 13), VIRTIO_NET_ERR);
	memset(tables + 12, 0xff, 4);
	ASSERT_EQ(command(tables, sizeof(tables)), VIRTIO_NET_ERR);
	ASSERT_EQ(fake.filter.nr, 4);
	/* More than the filter holds of one kind, of the other. */
	memset(tables + 2, 0, sizeof(tables) - 2);
	tables[2] = 100;
	ASSERT_EQ(command(tables, 2 + 4 + 600 + 4), VIRTIO_NET_OK);
	ASSERT(fake.filter.all);
	tables[2] = 0;
	tables[6] = 100;
	ASSERT_EQ(command(tables, 2 + 4 + 4 + 600), VIRTIO_NET_OK);
	ASSERT(!fake.filter.all && fake.filter.all_multicast);
	tables[6] = 0;
	ASSERT_EQ(command(tables, 2 + 4 + 4), VIRTIO_NET_OK);
	ASSERT(!fake.filter.all && !fake.filter.all_multicast && fake.filter.nr == 1);
	/* 63 fit behind our own. */
	tables[2] = 63;
	ASSERT_EQ(command(tables, 2 + 4 + 63 * 6 + 4), VIRTIO_NET_OK);
	ASSERT(!fake.filter.all && fake.filter.nr == 64);

	BAD(VIRTIO_NET_CTRL_RX);
	BAD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC);
	BAD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0, 0);
	BAD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, 1);
	BAD(0xff, 0xff);
	BAD(VIRTIO_NET_CTRL_VLAN, 0, 1, 0);
	ASSERT(!v->broken);
	destroy();
}

static void test_ctrl_address(void)
{
	u8 mac[6];

	start("tap=x,mac=52:54:00:00:00:01", DEFAULTS | MERGE);
	GOOD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	GOOD(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 1, 2, 3, 4, 5);
	virtio_config_read(v, 0, mac, 6);
	ASSERT(!memcmp(mac, "\2\1\2\3\4\5", 6));
	ASSERT(!memcmp(net->mac, mac, 6));
	ASSERT(!memcmp(fake.filter.mac[0], mac, 6));
	BAD(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 3, 1, 2, 3, 4, 5);
	BAD(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 0, 0, 0, 0, 0, 0);
	BAD(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 1, 2, 3, 4);
	BAD(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 1, 2, 3, 4, 5, 6);
	ASSERT(!memcmp(net->mac, mac, 6));
	/* The next driver finds the device's own. */
	virtio_set_status(v, 0);
	pump();
	virtio_config_read(v, 0, mac, 6);
	ASSERT(!memcmp(mac, "\x52\x54\0\0\0\1", 6));
	ASSERT(!memcmp(net->mac, mac, 6));
	drive(DEFAULTS | MERGE);
	ASSERT(fake.filter.all);
	destroy();
}

static void test_ctrl_offloads(void)
{
	start("tap=x", (DEFAULTS | MERGE | OFFLOADS) & ~VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6));
	ASSERT_EQ(fake.offload, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_ECN);
	GOOD(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 2, 0, 0, 0, 0, 0, 0, 0);
	ASSERT_EQ(fake.offload, NET_OFFLOAD_CSUM);
	GOOD(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 0, 0, 0, 0, 0, 0, 0, 0);
	ASSERT_EQ(fake.offload, 0);
	GOOD(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 0x82, 2, 0, 0, 0, 0, 0, 0);
	ASSERT_EQ(fake.offload, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_ECN);
	/* Not agreed on; not the guest's; cut off. */
	BAD(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 2, 1, 0, 0, 0, 0, 0, 0);
	BAD(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 1, 0, 0, 0, 0, 0, 0, 0);
	BAD(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 2, 0, 0, 0, 0, 0, 0);
	BAD(VIRTIO_NET_CTRL_GUEST_OFFLOADS, 1, 2, 0, 0, 0, 0, 0, 0, 0);
	ASSERT_EQ(fake.offload, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_ECN);
	/* What the driver chose outlives a pause, not a reset. */
	GOOD(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 2, 0, 0, 0, 0, 0, 0, 0);
	virtio_pause(v);
	pump();
	ASSERT(virtio_quiet(v));
	virtio_resume(v);
	ASSERT_EQ(fake.offload, NET_OFFLOAD_CSUM);
	virtio_set_status(v, 0);
	pump();
	drive(DEFAULTS);
	ASSERT_EQ(fake.offload, 0);
	destroy();
}

static void test_ctrl_queues(void)
{
	unsigned int i;
	u32 head, len;

	rx_buf_len = 1536;
	ctrl_queue = 8;
	start("tap=x,queues=4", DEFAULTS | MERGE | MQ);
	ASSERT_EQ(fake.queues, 1);
	ASSERT_EQ(v->nr_queues, 9);
	for (i = 0; i < 4; i++) {
		offer_rx(2 * i, 8);
		kick(2 * i);
		arrive(i, 100 + i, i);
		offer_numbered(2 * i + 1, i, 60);
		kick(2 * i + 1);
	}
	/* Only the first pair is in use; the rest comes when it is. */
	expect_rx(0, 100, 0);
	ASSERT(!used(2, &head, &len));
	ASSERT_EQ(number_of(fakenet_take(&fake.out)), 0);
	ASSERT(!fakenet_take(&fake.out));
	GOOD(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 3, 0);
	ASSERT_EQ(fake.queues, 3);
	expect_rx(2, 101, 1);
	expect_rx(4, 102, 2);
	ASSERT(!used(6, &head, &len));
	ASSERT_EQ(number_of(fakenet_take(&fake.out)), 1);
	ASSERT_EQ(number_of(fakenet_take(&fake.out)), 2);
	ASSERT(!fakenet_take(&fake.out));
	BAD(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 0, 0);
	BAD(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 5, 0);
	BAD(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 0xff, 0xff);
	BAD(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 1);
	BAD(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG, 1, 0);
	ASSERT_EQ(fake.queues, 3);
	GOOD(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 1, 0);
	ASSERT_EQ(fake.queues, 1);
	/* A driver that knows of one pair has the control queue behind it. */
	virtio_set_status(v, 0);
	pump();
	ctrl_queue = 2;
	drive(DEFAULTS | MERGE);
	BAD(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 1, 0);
	GOOD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	destroy();
}

static u16 link_status(void)
{
	u16 status;

	virtio_config_read(v, offsetof(struct virtio_net_config, status), (u8 *)&status, 2);
	return status;
}

static void test_link_and_announce(void)
{
	struct fakenet_frame *f;

	start("tap=x,mac=52:54:00:00:00:01", DEFAULTS);
	ASSERT_EQ(link_status(), VIRTIO_NET_S_LINK_UP);
	net_set_link(net, false);
	ASSERT_EQ(link_status(), 0);
	ASSERT_EQ(nr_config_irq, 1);
	net_set_link(net, true);
	ASSERT_EQ(link_status(), VIRTIO_NET_S_LINK_UP);
	ASSERT_EQ(nr_config_irq, 2);
	net_announce(net);
	ASSERT_EQ(link_status(), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	ASSERT_EQ(nr_config_irq, 3);
	ASSERT(!fakenet_take(&fake.out));
	GOOD(VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK);
	ASSERT_EQ(link_status(), VIRTIO_NET_S_LINK_UP);
	BAD(VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, 0);
	BAD(VIRTIO_NET_CTRL_ANNOUNCE, 1);
	/* For a driver that cannot we do it. */
	virtio_set_status(v, 0);
	pump();
	drive(DEFAULTS & ~VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE));
	net_announce(net);
	ASSERT_EQ(link_status(), VIRTIO_NET_S_LINK_UP);
	f = fakenet_take(&fake.out);
	ASSERT(f);
	ASSERT_EQ(f->len, 12 + 60);
	ASSERT(!memcmp(f->data + 12 + 6, "\x52\x54\0\0\0\1\x80\x35", 8));
	destroy();
}

/* --- what it offers ------------------------------------------------------------------------------------------------- */

static void test_offers(void)
{
	struct virtio_net_config config;

	create("tap=x,mac=52:54:00:00:00:01", &fake);
	ASSERT_EQ(v->offered & (OFFLOADS | MERGE | MQ), OFFLOADS | MERGE);
	ASSERT(v->offered & VIRTIO_BIT(VIRTIO_NET_F_MTU));
	ASSERT(!(v->offered & (VIRTIO_BIT(VIRTIO_NET_F_GUEST_UFO) | VIRTIO_BIT(VIRTIO_NET_F_HOST_UFO))));
	ASSERT_EQ(v->config_len, offsetof(struct virtio_net_config, speed));
	virtio_config_read(v, 0, (u8 *)&config, v->config_len);
	ASSERT(!memcmp(config.mac, "\x52\x54\0\0\0\1", 6));
	ASSERT_EQ(config.status, VIRTIO_NET_S_LINK_UP);
	ASSERT_EQ(config.max_virtqueue_pairs, 1);
	ASSERT_EQ(config.mtu, 1500);
	ASSERT_EQ(v->nr_queues, 3);
	virtio_device_ops()->destroy(&v->dev);

	/* A host half that only moves bytes. */
	net = net_new(&fake.opt, "test", 1);
	ASSERT_EQ(fakenet_open(net), 0);
	net->header_used = false;
	net->offload_max = 0;
	net->mtu = 0;
	v = virtio_net_create(&mem, net, "net1");
	ASSERT(v);
	ASSERT(!(v->offered & (OFFLOADS | VIRTIO_BIT(VIRTIO_NET_F_MTU))));
	ASSERT(v->offered & MERGE);
	virtio_device_ops()->destroy(&v->dev);
}

/* --- saved and loaded ------------------------------------------------------------------------------------------------ */

static void save(struct state *st)
{
	state_init(st);
	state_begin(st, v->label, virtio_device_ops()->version);
	virtio_device_ops()->save(&v->dev, st);
	state_end(st);
	ASSERT_EQ(st->err, 0);
}

static int load(const struct state *st)
{
	struct state_section sec;

	ASSERT_EQ(state_find(st->data, st->len, v->label, &sec), 0);
	return virtio_device_ops()->load(&v->dev, &sec);
}

/* In the middle of everything: a frame held, buffers popped, sending blocked, filters, address, queues and offloads set. */
static void test_round_trip(void)
{
	struct fakenet *second = calloc(1, sizeof(*second));
	struct state st, again;
	u32 i, head, len;
	u8 mac[6];

	rx_buf_len = 1536;
	ctrl_queue = 4;
	start("tap=x,queues=2,mac=52:54:00:00:00:01", DEFAULTS | MERGE | OFFLOADS | MQ);
	GOOD(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0);
	GOOD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	GOOD(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, 1);
	GOOD(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 1, 2, 3, 4, 5);
	GOOD(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 9);
	GOOD(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 0x82, 0, 0, 0, 0, 0, 0, 0);
	offer_rx(0, 7);
	kick(0);
	arrive(0, 3000, 1);
	arrive(0, 30000, 2);
	offer_rx(2, 7);
	kick(2);
	arrive(1, 8000, 3);
	arrive(1, 100, 4);
	fake.room = 2;
	for (i = 0; i < 5; i++)
		offer_numbered(1, i, 60);
	kick(1);
	expect_rx(0, 3000, 1);
	ASSERT(!used(0, &head, &len));
	expect_rx(2, 8000, 3);
	virtio_pause(v);
	pump();
	ASSERT(virtio_quiet(v));
	save(&st);

	/* Another one, elsewhere, over the same memory. */
	virtio_close(v);
	loop_fini();
	virtio_device_ops()->destroy(&v->dev);
	create("tap=x,queues=2,mac=52:54:00:00:00:77", second);
	ASSERT_EQ(load(&st), 0);
	save(&again);
	ASSERT_EQ(st.len, again.len);
	ASSERT(!memcmp(st.data, again.data, st.len));
	ASSERT_EQ(loop_init(woken, NULL), 0);
	virtio_open(v);
	pump();
	ASSERT(v->started);
	ASSERT_EQ(second->queues, 2);
	ASSERT_EQ(second->offload, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
	ASSERT(!second->filter.all && second->filter.all_multicast && second->filter.nr == 2);
	ASSERT(!memcmp(second->filter.mac[0], "\2\1\2\3\4\5", 6) && second->filter.mac[1][5] == 9);
	virtio_config_read(v, 0, mac, 6);
	ASSERT(!memcmp(mac, "\2\1\2\3\4\5", 6));
	/* What was not sent is sent, once. */
	for (i = 2; i < 5; i++)
		ASSERT_EQ(number_of(fakenet_take(&second->out)), i);
	ASSERT(!fakenet_take(&second->out));
	/* Five buffers of seven are left in the first ring, one in the second: the frames on their way were the network's loss. */
	memset(frame, 0, sizeof(frame));
	fakenet_put(&second->in[0], frame, 12 + 5 * 1536 - 12);
	fakenet_put(&second->in[1], frame, 12 + 100);
	fakenet_ready(second, 0);
	fakenet_ready(second, 1);
	pump();
	for (i = 0; i < 5; i++) {
		ASSERT(used(0, &head, &len));
		ASSERT_EQ(len, 1536);
		ASSERT_EQ(head, i + 2);
	}
	ASSERT(!used(0, &head, &len));
	virtio_close(v);
	loop_fini();
	virtio_device_ops()->destroy(&v->dev);
	state_free(&st);
	state_free(&again);
	free(second);
}

/* A clone has another address, and no link until its driver has set that; its owner may turn it on before. */
static void test_clone(void)
{
	struct fakenet *second = calloc(1, sizeof(*second));
	struct state st;
	u8 mac[6];

	ctrl_queue = 2;
	start("tap=x,mac=52:54:00:00:00:01", DEFAULTS | MERGE);
	virtio_pause(v);
	pump();
	save(&st);
	virtio_close(v);
	loop_fini();
	virtio_device_ops()->destroy(&v->dev);

	create("tap=x,mac=52:54:00:00:00:77", second);
	ASSERT_EQ(load(&st), 0);
	virtio_net_renumber(v);
	ASSERT_EQ(link_status(), 0);
	virtio_config_read(v, 0, mac, 6);
	ASSERT(!memcmp(mac, "\x52\x54\0\0\0\x77", 6));
	ASSERT_EQ(loop_init(woken, NULL), 0);
	virtio_open(v);
	pump();
	ASSERT(v->started);
	ASSERT(!memcmp(second->filter.mac[0], "\x52\x54\0\0\0\1", 6));
	ASSERT(!net_link_up(net));
	/* saved and loaded like this it still is */
	state_free(&st);
	virtio_pause(v);
	pump();
	save(&st);
	virtio_resume(v);
	pump();
	GOOD(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 1, 2, 3, 4, 5);
	ASSERT(!net_link_up(net));
	GOOD(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 0x52, 0x54, 0, 0, 0, 0x77);
	ASSERT(net_link_up(net));
	ASSERT_EQ(link_status(), VIRTIO_NET_S_LINK_UP);
	ASSERT(!memcmp(second->filter.mac[0], "\x52\x54\0\0\0\x77", 6));
	virtio_close(v);
	loop_fini();
	virtio_device_ops()->destroy(&v->dev);

	create("tap=x,mac=52:54:00:00:00:78", second);
	ASSERT_EQ(load(&st), 0);
	ASSERT(!net_link_up(net) && !link_status());
	ASSERT_EQ(loop_init(woken, NULL), 0);
	virtio_open(v);
	pump();
	net_set_link(net, true);
	ASSERT(net_link_up(net) && link_status() == VIRTIO_NET_S_LINK_UP);
	/* the next driver begins with the device's own */
	virtio_set_status(v, 0);
	pump();
	ASSERT(!memcmp(net->mac, "\x52\x54\0\0\0\x77", 6));
	virtio_close(v);
	loop_fini();
	virtio_device_ops()->destroy(&v->dev);
	state_free(&st);
	free(second);
}

static u32 seed = 1;

static u32 rnd(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

/* Damaged state is refused or loaded, and then the device lives with it. */
static void test_load_damaged(void)
{
	struct state st, copy;
	int loaded = 0, i;

	rx_buf_len = 1536;
	start("tap=x", DEFAULTS | MERGE | OFFLOADS);
	offer_rx(0, 7);
	kick(0);
	virtio_pause(v);
	pump();
	save(&st);
	destroy();
	for (i = 0; i < 1500; i++) {
		memset(&fake, 0, sizeof(fake));
		create("tap=x", &fake);
		copy = st;
		copy.data = malloc(st.len);
		memcpy(copy.data, st.data, st.len);
		/* Behind the section's header, whose damage is vmm_unit's matter. */
		copy.data[20 + rnd() % (st.len - 20)] = rnd();
		copy.data[20 + rnd() % (st.len - 20)] ^= 1 << rnd() % 8;
		ASSERT_EQ(loop_init(woken, NULL), 0);
		if (!load(&copy)) {
			loaded++;
			virtio_open(v);
			arrive(0, 100, 1);
			pump();
		}
		virtio_close(v);
		loop_fini();
		virtio_device_ops()->destroy(&v->dev);
		free(copy.data);
	}
	tap_diag("%d of %d were loaded", loaded, i);
	ASSERT_GT(loaded, 10);
	ASSERT_LT(loaded, i);
	state_free(&st);
}

/* --- through a tap --------------------------------------------------------------------------------------------------- */

static void test_real_tap(void)
{
	static struct net_options opt;
	static u8 big[12 + 40054];
	char text[] = "tap=tap0,vhost=off";
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct virtio_net_hdr gso = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = 54, .gso_size = 1000,
		.csum_start = 34, .csum_offset = 16,
	};
	static const u8 tcp[] = {
		0x52, 0x54, 0, 1, 2, 3, 0x52, 0x54, 0, 9, 9, 9, 0x08, 0x00,
		0x45, 0, 0x9c, 0x68, 0x12, 0x34, 0x40, 0, 64, 6, 0x78, 0x1d, 10, 0, 0, 2, 10, 0, 0, 1,
		0, 7, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
	};
	u8 *data = big + 10;
	int sock, one = 1, fd;
	u32 head, len, i;
	struct net_header *h;
	u16 buffers;

	if (unshare(CLONE_NEWNET))
		SKIP("no network namespace (errno %d): run it as root", errno);
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);
	if (fd >= 0 && write(fd, "1", 1) != 1)
		close(fd);
	ASSERT_EQ(mem_init(&mem, MEM_SIZE, MEM_PAGES_SMALL), 0);
	ASSERT_EQ(net_options_parse(&opt, text), 0);
	net = net_create(&opt, "test", 0);
	if (!net)
		SKIP("%s", last_line);
	sock = ASSERT_OK(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
	addr.sll_ifindex = if_nametoindex("tap0");
	ASSERT_OK(setsockopt(sock, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)));
	ASSERT_OK(setsockopt(sock, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)));
	ASSERT_OK(bind(sock, (struct sockaddr *)&addr, sizeof(addr)));
	v = virtio_net_create(&mem, net, "net0");
	ASSERT(v);
	v->transport = &transport;
	ASSERT_EQ(loop_init(woken, NULL), 0);
	virtio_open(v);
	rx_buf_len = 1536;
	drive(DEFAULTS | MERGE | OFFLOADS);

	/* From the guest, with work left to do. */
	memcpy(data, tcp, sizeof(tcp));
	fill(data + sizeof(tcp), 40000, 3);
	h = mem_at(&mem, TX_DATA, 12 + 40054);
	*h = (struct net_header){ NET_NEEDS_CSUM, NET_GSO_TCP4, 54, 1000, 34, 16, 0 };
	memcpy(h + 1, data, 40054);
	vring_add(&ring[1], (struct vring_piece []){ { TX_DATA, 12, false }, { TX_DATA + 12, 4000, false },
						     { TX_DATA + 4012, 36054, false } }, 3);
	kick(1);
	ASSERT(used(1, &head, &len));
	ASSERT_EQ(net->stats.tx_frames, 1);
	ASSERT_EQ(recv(sock, frame, sizeof(frame), 0), 10 + 40054);
	ASSERT_EQ(((struct virtio_net_hdr *)frame)->gso_size, 1000);
	ASSERT_EQ(((struct virtio_net_hdr *)frame)->flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	ASSERT(!memcmp(frame + 10, data, 40054));

	/* To the guest: one large frame over 27 buffers, then again straight into them. */
	for (i = 0; i < 2; i++) {
		size_t pos = 0;

		offer_rx(0, RING_NUM - (u16)(ring[0].avail_idx - ring[0].seen));
		kick(0);
		memcpy(big, &gso, 10);
		ASSERT_EQ(send(sock, big, 10 + 40054, 0), 10 + 40054);
		pump();
		pump();
		ASSERT(used(0, &head, &len));
		h = mem_at(&mem, RX_DATA + (u64)head * 0x10000, 12);
		ASSERT_EQ(h->flags & NET_NEEDS_CSUM, NET_NEEDS_CSUM);
		ASSERT_EQ(h->gso_type, NET_GSO_TCP4);
		ASSERT_EQ(h->gso_size, 1000);
		ASSERT_EQ(h->buffers, (12 + 40054 + 1535) / 1536);
		buffers = h->buffers;
		ASSERT(!memcmp(h + 1, data, len - 12));
		pos = len - 12;
		while (--buffers) {
			ASSERT(used(0, &head, &len));
			ASSERT(!memcmp(mem_at(&mem, RX_DATA + (u64)head * 0x10000, len), data + pos, len));
			pos += len;
		}
		ASSERT_EQ(pos, 40054);
	}
	virtio_close(v);
	loop_fini();
	virtio_device_ops()->destroy(&v->dev);
}

static const struct tap_test tests[] = {
	TEST(offers),
	TEST(tx_shapes),
	TEST(tx_headers),
	TEST(tx_lengths),
	TEST(tx_blocked),
	TEST(tx_many),
	TEST(tx_batches),
	TEST(tx_interrupts),
	TEST(patience),
	TEST(own_policy),
	TEST(rx_merged),
	TEST(rx_sizes),
	TEST(rx_held),
	TEST(rx_room),
	TEST(rx_hopeless),
	TEST(rx_unmerged),
	TEST(rx_pieces),
	TEST(rx_many),
	TEST(broken),
	TEST(ctrl_rx),
	TEST(ctrl_address),
	TEST(ctrl_offloads),
	TEST(ctrl_queues),
	TEST(link_and_announce),
	TEST(round_trip),
	TEST(clone),
	TEST(load_damaged),
	TEST(real_tap),
};

int main(int argc, char **argv)
{
	fail_sink = keep_line;
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
