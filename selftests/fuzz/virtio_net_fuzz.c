// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for pvhv-run's virtio-net over the virtio core: a driver that does anything.
 *
 *   libFuzzer, replay and sources: see virtio-net-fuzz.sh
 *
 * Input: four bytes of features, one of ring sizes, then steps: a byte of what, its bytes. Some steps write any bytes into guest memory, some build
 * what a driver would, so that the depth is reached too. What must hold: no access outside guest memory (which is an allocation of
 * its size) or of our own, frames leave with sane lengths and headers, a device that was stopped has nothing in flight, a broken one
 * says so, saved state loads into the same state, and all memory is freed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAKENET_FRAMES	110

#include "fakeloop.h"
#include "../lib/fakenet.h"
#include "../lib/vring.h"
#include "../../vmm/virtio_net.h"

#define MEM_SIZE	(256 * KIB)
#define RING_SPACE	0x4000ULL	/* a ring each, from 0 on */
#define DATA		0x20000ULL
#define PAIRS		2
#define QUEUES		(2 * PAIRS + 1)

int LLVMFuzzerTestOneInput(const u8 *input, size_t size);

#define CHECK(cond)									\
	do {										\
		if (!(cond)) {								\
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);	\
			abort();							\
		}									\
	} while (0)

static const u8 *in;
static size_t in_len;
static struct mem mem;
static struct fakenet *fake;
static struct net *net;
static struct virtio *v;
static struct vring_drv ring[QUEUES];
static u64 features;

static u8 take8(void)
{
	if (!in_len)
		return 0;
	in_len--;
	return *in++;
}

static u16 take16(void)
{
	u8 low = take8();

	return low | take8() << 8;
}

static void on_queue(struct virtio *dev, unsigned int queue)
{
	CHECK(dev == v && queue < QUEUES);
}

static void on_config(struct virtio *dev)
{
	CHECK(dev == v);
}

static const struct virtio_transport transport = { .notify_queue = on_queue, .notify_config = on_config, .reset = on_config };

static void quiet(const char *line)
{
	CHECK(!strchr(line, '\n'));
}

static void make(void)
{
	fake = calloc(1, sizeof(*fake));
	CHECK(fake);
	fake->opt.queues = PAIRS;
	net = net_new(&fake->opt, "fuzz", 0);
	CHECK(net && !fakenet_open(net));
	v = virtio_net_create(&mem, net, "net0");
	CHECK(v);
	v->transport = &transport;
	virtio_open(v);
}

static void unmake(void)
{
	virtio_close(v);
	virtio_device_ops()->destroy(&v->dev);
	CHECK(fake->closed && !fakeloop_tasks);
	free(fake);
}

static void idle(void)
{
	struct fakenet_frame *f;
	unsigned int i;

	virtio_service(v);
	fakeloop_run(40);
	while ((f = fakenet_take(&fake->out))) {
		struct net_header h;

		CHECK(f->len >= NET_HEADER_LEN + ETH_HLEN && f->len <= NET_HEADER_LEN + NET_FRAME_MAX);
		memcpy(&h, f->data, sizeof(h));
		CHECK(!(h.flags & ~NET_NEEDS_CSUM));
		if (h.flags)
			CHECK(NET_HEADER_LEN + h.csum_start + h.csum_offset + 2u <= f->len);
		if (h.gso_type != NET_GSO_NONE)
			CHECK(h.flags && h.gso_size && NET_HEADER_LEN + h.header_len <= f->len);
	}
	CHECK(fake->filter.nr <= NET_FILTER_MAX);
	if (v->broken)
		CHECK(virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	for (i = 0; i < v->nr_queues; i++) {
		const struct virtq *q = &v->queues[i].ring;

		CHECK(q->in_flight <= VNET_QUEUE_SIZE);
		if (!v->started)
			CHECK(!q->in_flight);
	}
}

static void drive(void)
{
	u8 status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER, sizes;
	unsigned int i;

	features = take16();
	features |= (u64)take16() << 16;
	features = (features | VIRTIO_BIT(VIRTIO_F_VERSION_1)) & v->offered;
	sizes = take8();
	virtio_set_status(v, status);
	virtio_ack(v, 0, features);
	virtio_ack(v, 1, features >> 32);
	virtio_set_status(v, status | VIRTIO_CONFIG_S_FEATURES_OK);
	for (i = 0; i < QUEUES; i++) {
		vring_drv_init(&ring[i], &mem, RING_SPACE * i, sizes & 1 << i ? 8 : 256);
		if (!(sizes & 0x80) || i)
			vring_attach(&ring[i], v, i);
	}
	virtio_set_status(v, virtio_status(v) | VIRTIO_CONFIG_S_DRIVER_OK);
	idle();
}

static void write_memory(void)
{
	u32 at = take16() << 2, len = take8();

	for (; len && at < MEM_SIZE; len--, at++)
		mem.host[at] = take8();
}

/* One to eight pieces of any length; with the highest bit of the shape through an indirect table. */
static void offer(bool writable)
{
	unsigned int queue = take8() % QUEUES, shape = take8(), nr = 1 + (shape & 7), i;
	struct vring_piece pieces[8];

	for (i = 0; i < nr; i++) {
		pieces[i].addr = DATA + take8() * 256;
		pieces[i].len = take16();
		pieces[i].in = writable ^ (shape >> 3 & i & 1);
	}
	if (shape & 0x80)
		vring_add_indirect(&ring[queue], DATA + 0x18000, pieces, nr);
	else
		vring_add(&ring[queue], pieces, nr);
	vring_show(&ring[queue], true);
}

static void offer_frame(void)
{
	unsigned int queue = 2 * (take8() % PAIRS) + 1, len = take16(), i;
	struct net_header h;
	u8 *p = mem_at(&mem, DATA, NET_HEADER_LEN);

	for (i = 0; i < NET_HEADER_LEN; i++)
		((u8 *)&h)[i] = take8();
	memcpy(p, &h, NET_HEADER_LEN);
	vring_add(&ring[queue], &(struct vring_piece){ DATA, NET_HEADER_LEN + len, false }, 1);
	vring_show(&ring[queue], true);
}

static void offer_buffers(void)
{
	unsigned int queue = 2 * (take8() % PAIRS), nr = take8() % 64, len = take16();

	while (nr--)
		vring_add(&ring[queue], &(struct vring_piece){ DATA + nr * 64, len, true }, 1);
	vring_show(&ring[queue], true);
}

static void command(void)
{
	unsigned int queue = features & VIRTIO_BIT(VIRTIO_NET_F_MQ) ? 2 * PAIRS : 2, len = take8(), i;
	u8 *p = mem_at(&mem, DATA, 256);

	for (i = 0; i < len; i++)
		p[i] = take8();
	vring_add(&ring[queue], (struct vring_piece []){ { DATA, len, false }, { DATA + 0x1000, 1, true } }, 2);
	vring_show(&ring[queue], true);
	fakeloop_kick(&v->queues[queue].task);
}

static void arrive(void)
{
	static u8 frame[NET_HEADER_LEN + NET_FRAME_MAX];
	unsigned int pair = take8() % PAIRS, len = take16();

	if (fake->in[pair].head - fake->in[pair].tail < 100)
		fakenet_put(&fake->in[pair], frame, NET_HEADER_LEN + len + 1);
	fakeloop_fire(&net->queue[pair].in_op);
}

static void save(struct state *st)
{
	state_init(st);
	state_begin(st, v->label, 1);
	virtio_device_ops()->save(&v->dev, st);
	state_end(st);
	CHECK(!st->err);
}

static void move(void)
{
	struct state_section sec;
	struct state st, again;
	bool broken;

	virtio_pause(v);
	idle();
	CHECK(virtio_quiet(v));
	broken = v->broken;
	save(&st);
	unmake();
	make();
	CHECK(!state_find(st.data, st.len, v->label, &sec));
	CHECK(!virtio_device_ops()->load(&v->dev, &sec));
	save(&again);
	CHECK(st.len == again.len && !memcmp(st.data, again.data, st.len));
	state_free(&st);
	state_free(&again);
	(void)broken;
	idle();
}

static void step(void)
{
	unsigned int what = take8(), queue;

	switch (what % 16) {
	case 0:
		write_memory();
		break;
	case 1:
		offer(true);
		break;
	case 2:
		offer(false);
		break;
	case 3:
		offer_frame();
		break;
	case 4:
		offer_buffers();
		break;
	case 5:
		command();
		break;
	case 6:
		arrive();
		break;
	case 7:
		fake->room = take8();
		fakeloop_fire(&net->queue[what >> 4 & 1].out_op);
		fakeloop_fire(&container_of(v, struct virtio_net, v)->tell_op);
		break;
	case 8:
		virtio_set_status(v, 0);
		idle();
		CHECK(!virtio_status(v) && !v->broken);
		drive();
		break;
	case 9:
		virtio_pause(v);
		idle();
		CHECK(virtio_quiet(v));
		virtio_resume(v);
		break;
	case 10:
		move();
		break;
	case 11:
		net_set_link(net, what & 16);
		break;
	case 12:
		net_announce(net);
		break;
	case 13:
		queue = take8() % QUEUES;
		ring[queue].avail_idx += take16();
		vring_show(&ring[queue], true);
		break;
	default:
		queue = take8() % QUEUES;
		fakeloop_kick(&v->queues[queue].task);
		break;
	}
	idle();
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t size)
{
	in = input;
	in_len = size;
	fail_sink = quiet;
	if (!mem.host)
		mem.host = malloc(MEM_SIZE);
	CHECK(mem.host);
	memset(mem.host, 0, MEM_SIZE);
	mem.size = mem.low = MEM_SIZE;
	make();
	drive();
	while (in_len)
		step();
	unmake();
	return 0;
}

#ifdef REPLAY
#include "random.h"
#include "replay.h"
#endif
