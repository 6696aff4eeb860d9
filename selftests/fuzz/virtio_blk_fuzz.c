// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for pvhv-run's virtio-blk over the virtio core and blk.c: a driver that does anything, on a disk that answers at
 * once, later, with errors, or has no room.
 *
 *   libFuzzer, replay and sources: see virtio-blk-fuzz.sh
 *
 * Input: four bytes of features, one of ring sizes, then steps: a byte of what, its bytes. Some steps write any bytes into guest
 * memory, some build what a driver would, so that the depth is reached too. What must hold: the host half gets only requests that
 * are within the disk and whose pieces are guest memory (an allocation of its size) and add up; every request ends once; a device
 * that was stopped has nothing in flight; a broken one says so; saved state loads into the same state; all memory is freed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/virtio_blk.h>

#include "fakeloop.h"
#include "../lib/vring.h"
#include "../../vmm/blk.h"
#include "../../vmm/virtio_blk.h"

#define MEM_SIZE	(256 * KIB)
#define RING_SPACE	0x4000ULL	/* a ring each, from 0 on */
#define DATA		0x20000ULL
#define TABLE		(DATA + 0x18000)
#define QUEUES		2
#define DISK_LEN	(128 * KIB)
#define WAITING_MAX	(QUEUES * 256 + 8)

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
static struct blk *blk;
static struct virtio *v;
static struct vring_drv ring[QUEUES];

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

/* --- a disk in memory --------------------------------------------------------------------------------------------- */

static u8 disk[DISK_LEN];
static struct blk_req *waiting[WAITING_MAX];
static unsigned int nr_waiting;
static u8 answer;		/* how the disk answers now */
static bool opened;

static int disk_open(struct blk *b)
{
	b->size = DISK_LEN;
	b->block = BLK_SECTOR;
	b->physical = 4096;
	b->can_discard = true;
	b->durable = answer & 1;
	opened = true;
	return 0;
}

static void disk_close(struct blk *b)
{
	(void)b;
	opened = false;
}

static void disk_attach(struct blk *b)
{
	(void)b;
}

/* Moves the data as a kernel would, so that every byte of the pieces is touched. */
static void move_data(struct blk_req *req)
{
	switch (blk_req_op(req)) {
	case BLK_READ:
		blk_scatter(req, disk + req->pos, req->len);
		break;
	case BLK_WRITE:
		blk_gather(req, disk + req->pos, req->len);
		break;
	case BLK_DISCARD:
	case BLK_ZERO:
		memset(disk + req->pos, 0, req->len);
		break;
	default:
		break;
	}
}

static void end(struct blk_req *req, u8 how)
{
	static const int errors[] = { -EIO, -EOPNOTSUPP, -ENOSPC, -EINVAL };

	if (how % 8 < 4) {
		move_data(req);
		blk_done(req, 0);
	} else if (how % 8 < 6) {
		blk_done(req, errors[how / 8 % 4]);
	} else {
		blk_hold(req, how & 8 ? BLK_GATE_TURN : BLK_GATE_LINK);
	}
}

static void disk_start(struct blk *b, struct blk_req *req)
{
	u64 len = 0;
	u32 i;

	CHECK(b == blk && opened);
	if (blk_req_op(req) == BLK_READ || blk_req_op(req) == BLK_WRITE) {
		for (i = 0; i < req->nr_iov; i++) {
			u8 *p = req->iov[i].iov_base;

			CHECK(req->iov[i].iov_len);
			CHECK(p >= mem.host && p + req->iov[i].iov_len <= mem.host + MEM_SIZE);
			len += req->iov[i].iov_len;
		}
		CHECK(len == req->len);
	}
	if (blk_req_op(req) != BLK_FLUSH) {
		CHECK(req->len && req->pos % BLK_SECTOR == 0 && req->len % BLK_SECTOR == 0);
		CHECK(req->pos < b->size && req->len <= b->size - req->pos && b->size <= DISK_LEN);
	}
	if (answer & 0x80) {
		CHECK(nr_waiting < WAITING_MAX);
		waiting[nr_waiting++] = req;
	} else {
		end(req, answer >> 1);
	}
}

static int disk_resize(struct blk *b, u64 size)
{
	blk_resized(b, size);
	return 0;
}

static const struct blk_kind kind = {
	.name = "fuzz", .open = disk_open, .close = disk_close, .attach = disk_attach, .detach = disk_attach,
	.start = disk_start, .resize = disk_resize,
};

/* Not used, but named. */
const struct blk_kind blk_raw, blk_nbd;

int loop_fdatasync(struct loop_op *op, const struct loop_file *file)
{
	(void)op;
	(void)file;
	return -EAGAIN;
}

/* In the order in which they came, or the other way round. */
static void answer_all(u8 how)
{
	unsigned int nr = nr_waiting, i;
	struct blk_req *list[WAITING_MAX];

	memcpy(list, waiting, sizeof(list));
	nr_waiting = 0;
	for (i = 0; i < nr; i++)
		end(list[how & 0x80 ? nr - 1 - i : i], how);
}

/* --- a driver ----------------------------------------------------------------------------------------------------- */

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
	static const struct disk_options opt = { .path = "fuzz" };

	blk = blk_create(&kind, &opt, "disk0");
	CHECK(blk);
	v = virtio_blk_create(&mem, blk, "serial", QUEUES);
	CHECK(v);
	v->transport = &transport;
	blk_attach(blk);
	virtio_open(v);
}

static void unmake(void)
{
	virtio_close(v);
	blk_detach(blk);
	while (nr_waiting)	/* flushes that follow among them */
		answer_all(0);
	fakeloop_run(1000);
	CHECK(!blk->started && !blk->head && !nr_waiting);
	virtio_device_ops()->destroy(&v->dev);
	blk_close(blk);
	CHECK(!fakeloop_tasks && !opened);
}

static void idle(void)
{
	unsigned int i;

	virtio_service(v);
	fakeloop_run(40);
	if (v->broken)
		CHECK(virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET);
	for (i = 0; i < v->nr_queues; i++) {
		const struct virtq *q = &v->queues[i].ring;

		CHECK(q->in_flight <= 256);
		if (!v->started)
			CHECK(!q->in_flight);
	}
}

/* Lets all end that the disk has. */
static void settle(void)
{
	idle();
	while (nr_waiting) {
		answer_all(0);
		idle();
	}
}

static void drive(void)
{
	u8 status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER, sizes;
	u64 features;
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

/* Up to eight pieces of any length; with the highest bit of the shape through an indirect table. */
static void offer_pieces(void)
{
	unsigned int queue = take8() % QUEUES, shape = take8(), nr = 1 + (shape & 7), i;
	struct vring_piece pieces[8];

	for (i = 0; i < nr; i++) {
		pieces[i].addr = DATA + take8() * 256;
		pieces[i].len = take16();
		pieces[i].in = i >= (shape >> 3 & 7u);
	}
	if (shape & 0x80)
		vring_add_indirect(&ring[queue], TABLE, pieces, nr);
	else
		vring_add(&ring[queue], pieces, nr);
	vring_show(&ring[queue], true);
}

/* A request as a driver makes it: header, pieces of whole sectors, status. */
static void offer_request(void)
{
	unsigned int queue = take8() % QUEUES, shape = take8(), nr = shape & 7, type = take8() % 16, i;
	struct virtio_blk_outhdr *hdr = mem_at(&mem, DATA + (shape >> 4) * 64, sizeof(*hdr));
	struct vring_piece pieces[10] = { { DATA + (shape >> 4) * 64, sizeof(*hdr), false } };

	hdr->type = type;
	hdr->sector = shape & 8 ? take8() : (u64)take16() << 48 | take8();
	for (i = 1; i <= nr; i++) {
		pieces[i].addr = DATA + 0x1000 + take8() * 64;
		pieces[i].len = type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES ? 16 : 512;
		pieces[i].in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	}
	pieces[nr + 1] = (struct vring_piece){ DATA + (shape >> 4) * 64 + 32, 1, true };
	vring_add(&ring[queue], pieces, nr + 2);
	vring_show(&ring[queue], true);
}

static void save(struct state *st)
{
	state_init(st);
	state_begin(st, v->label, 1);
	virtio_device_ops()->save(&v->dev, st);
	state_end(st);
	CHECK(!st->err);
}

/* What a resize does while it is saved is not part of the comparison: loading sets the disk's own. */
static void move(void)
{
	struct state_section sec;
	struct state st, again;

	virtio_pause(v);
	settle();
	CHECK(virtio_quiet(v));
	save(&st);
	unmake();
	make();
	CHECK(!state_find(st.data, st.len, v->label, &sec));
	if (!virtio_device_ops()->load(&v->dev, &sec)) {
		save(&again);
		CHECK(st.len == again.len && !memcmp(st.data, again.data, st.len));
		state_free(&again);
	}
	state_free(&st);
	idle();
}

static void step(void)
{
	unsigned int what = take8();
	u8 byte;

	switch (what % 16) {
	case 0:
		write_memory();
		break;
	case 1:
		offer_pieces();
		break;
	case 2:
	case 3:
	case 4:
		offer_request();
		break;
	case 5:
		answer = take8();
		break;
	case 6:
		answer_all(take8());
		break;
	case 7:
		blk_gate_shut(blk, 1 << take8() % 4);
		break;
	case 8:
		blk_gate_open(blk, BLK_GATE_LIMIT);
		blk_gate_open(blk, BLK_GATE_LINK);
		blk_resume(blk);
		break;
	case 9:
		virtio_set_status(v, 0);
		idle();
		settle();
		CHECK(!virtio_status(v) && !v->broken);
		drive();
		break;
	case 10:
		virtio_pause(v);
		if (what & 16) {
			settle();
			CHECK(virtio_quiet(v));
		}
		virtio_resume(v);
		break;
	case 11:
		move();
		break;
	case 12:
		blk_resize(blk, (take8() % 8 + 1) * (DISK_LEN / 8));
		answer_all(6 << 1);	/* none may be beyond its end */
		settle();
		break;
	case 13:
		byte = take8();
		virtio_config_write(v, take8() % 64, &byte, 1);
		break;
	case 14:
		ring[what >> 4 & 1].avail_idx += take16();
		vring_show(&ring[what >> 4 & 1], true);
		break;
	default:
		fakeloop_kick(&v->queues[what >> 4 & 1].task);
		break;
	}
	idle();
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t size)
{
	in = input;
	in_len = size;
	answer = 0;
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
