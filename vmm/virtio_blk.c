// SPDX-License-Identifier: GPL-2.0
/*
 * virtio-blk, the device: a front half of blk.h.
 *  1. What it offers follows from the disk.
 *  2. A request: its header is copied and checked, its pieces go to the host
 *     half as they lie, what comes of it is its status byte.  Requests come
 *     from a table per queue, as many as the ring has entries.
 *  3. A batch: one look at the ring for what a turn of the loop has brought,
 *     one interrupt for what it has finished.
 *  4. Stopped, it gives back to the ring what the host half holds, and waits
 *     for what is with the host; so nothing but the rings' positions is saved.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/virtio_blk.h>

#include "blk.h"
#include "virtio_blk.h"

#define QUEUE_SIZE	256
#define SEG_MAX		(QUEUE_SIZE - 2)	/* less header and status */
#define RANGES_MAX	16			/* of a discard or write-zeroes */
#define RANGE_SECTORS	(GIB / BLK_SECTOR)
#define SECTOR_MAX	(UINT64_MAX / BLK_SECTOR)
#define DISCARD_ALIGN	(4 * KIB)		/* where the host tells none */

struct vblk_queue;

struct vblk_req {
	struct blk_req blk;
	struct vblk_queue *q;
	struct virtq_buf buf;
	volatile u8 *status;		/* in guest memory */
	u16 nr_ranges, range;
	struct virtio_blk_discard_write_zeroes ranges[RANGES_MAX];
	struct iovec iov[SEG_MAX + 2];
};

#define REQS_LEN	(QUEUE_SIZE * sizeof(struct vblk_req))

struct vblk_queue {
	struct virtio_blk *dev;
	u16 index;
	u16 nr_free;
	u16 *free;			/* which of @reqs */
	struct vblk_req *reqs;		/* pages that were never used are not there */
	struct loop_task flush_task;
};

struct virtio_blk {
	struct virtio v;
	struct blk *blk;
	bool durable;			/* the driver wants no write cache */
	bool in_stop;
	u32 in_flight;
	struct vblk_queue *queues;
	u8 serial[VIRTIO_BLK_ID_BYTES];
};

static struct virtio_blk *from(struct virtio *v)
{
	return container_of(v, struct virtio_blk, v);
}

/* A request's end. */

static void put_req(struct vblk_req *req)
{
	struct vblk_queue *q = req->q;

	q->free[q->nr_free++] = req - q->reqs;
	q->dev->in_flight--;
}

static void check_stopped(struct virtio_blk *dev)
{
	if (dev->v.stopping && !dev->in_flight && !dev->in_stop)
		virtio_stopped(&dev->v);
}

static void finish(struct vblk_req *req, u8 status)
{
	struct vblk_queue *q = req->q;
	struct virtio_blk *dev = q->dev;
	u64 written = req->buf.in_len;

	*req->status = status;
	/* A read's pieces end before it. */
	mem_wrote(dev->v.mem, req->status, sizeof(*req->status));
	virtio_push(&dev->v, q->index, &req->buf,
		    written < UINT32_MAX ? written : UINT32_MAX);
	put_req(req);
	loop_defer(&q->flush_task);
	check_stopped(dev);
}

static void give_back(struct vblk_req *req)
{
	struct virtio_blk *dev = req->q->dev;

	virtio_unpop(&dev->v, req->q->index, &req->buf);
	put_req(req);
	check_stopped(dev);
}

static u8 status_of(int err)
{
	switch (err) {
	case 0:
		return VIRTIO_BLK_S_OK;
	case -EOPNOTSUPP:
		return VIRTIO_BLK_S_UNSUPP;
	default:
		return VIRTIO_BLK_S_IOERR;
	}
}

static void done(struct blk_req *blk_req, int err)
{
	struct vblk_req *req = container_of(blk_req, struct vblk_req, blk);

	if (err == -ECANCELED)
		give_back(req);
	else
		finish(req, status_of(err));
}

/* What is left of the pieces at the end virtio_push() finds by itself. */
static void wrote(struct blk_req *blk_req, const void *data, u64 len)
{
	struct vblk_req *req = container_of(blk_req, struct vblk_req, blk);

	mem_wrote(req->q->dev->v.mem, data, len);
}

static void flush_queue(struct loop_task *task)
{
	struct vblk_queue *q = container_of(task, struct vblk_queue, flush_task);

	virtio_flush(&q->dev->v, q->index);
}

/* Kinds of requests; the header is a private copy by now. */

static void start_range(struct vblk_req *req);

static void range_done(struct blk_req *blk_req, int err)
{
	struct vblk_req *req = container_of(blk_req, struct vblk_req, blk);

	if (!err && ++req->range < req->nr_ranges)
		start_range(req);
	else
		done(blk_req, err);
}

static void start_range(struct vblk_req *req)
{
	const struct virtio_blk_discard_write_zeroes *range =
		&req->ranges[req->range];
	struct blk_req *blk = &req->blk;

	blk->pos = range->sector * BLK_SECTOR;
	blk->len = (u64)range->num_sectors * BLK_SECTOR;
	if (blk->op == BLK_ZERO && range->flags)
		blk->flags |= BLK_UNMAP;
	else
		blk->flags &= ~BLK_UNMAP;
	blk_submit(req->q->dev->blk, blk);
}

static void do_ranges(struct vblk_req *req, enum blk_op op)
{
	const struct virtio_blk_outhdr *hdr;
	u64 len = req->buf.out_len - sizeof(*hdr);
	u32 allowed = op == BLK_ZERO ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	u32 i;

	if (!len || len % sizeof(req->ranges[0]) || len > sizeof(req->ranges)) {
		finish(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	virtq_read(&req->buf, sizeof(*hdr), req->ranges, len);
	req->nr_ranges = len / sizeof(req->ranges[0]);
	req->range = 0;
	for (i = 0; i < req->nr_ranges; i++) {
		if (req->ranges[i].flags & ~allowed) {
			finish(req, VIRTIO_BLK_S_UNSUPP);
			return;
		}
		if (req->ranges[i].sector > SECTOR_MAX ||
		    req->ranges[i].num_sectors > RANGE_SECTORS) {
			finish(req, VIRTIO_BLK_S_IOERR);
			return;
		}
	}
	req->blk.op = op;
	req->blk.done = range_done;
	req->blk.iov = NULL;
	req->blk.nr_iov = 0;
	start_range(req);
}

static void do_id(struct vblk_req *req)
{
	u64 len = req->buf.in_len - 1;

	if (len > VIRTIO_BLK_ID_BYTES)
		len = VIRTIO_BLK_ID_BYTES;
	virtq_write(&req->buf, 0, req->q->dev->serial, len);
	finish(req, VIRTIO_BLK_S_OK);
}

static void do_flush(struct vblk_req *req)
{
	req->blk.op = BLK_FLUSH;
	req->blk.iov = NULL;
	req->blk.nr_iov = 0;
	req->blk.pos = 0;
	req->blk.len = 0;
	blk_submit(req->q->dev->blk, &req->blk);
}

/* Cuts the header off the pieces that the device reads. */
static void do_write(struct vblk_req *req)
{
	struct virtq_buf *buf = &req->buf;
	size_t head = sizeof(struct virtio_blk_outhdr);
	struct iovec *iov = buf->iov;

	while (head >= iov->iov_len && head) {
		head -= iov->iov_len;
		iov++;
	}
	if (head) {
		iov->iov_base = (u8 *)iov->iov_base + head;
		iov->iov_len -= head;
	}
	req->blk.op = BLK_WRITE;
	req->blk.iov = iov;
	req->blk.nr_iov = buf->nr_out - (iov - buf->iov);
	req->blk.len = buf->out_len - sizeof(struct virtio_blk_outhdr);
	blk_submit(req->q->dev->blk, &req->blk);
}

/* Cuts the status byte off the pieces that the device writes. */
static void do_read(struct vblk_req *req)
{
	struct virtq_buf *buf = &req->buf;
	struct iovec *iov = buf->iov + buf->nr_out;

	req->blk.op = BLK_READ;
	req->blk.iov = iov;
	req->blk.nr_iov = buf->nr_in - !--iov[buf->nr_in - 1].iov_len;
	req->blk.len = buf->in_len - 1;
	blk_submit(req->q->dev->blk, &req->blk);
}

static void handle(struct vblk_req *req)
{
	struct virtio_blk *dev = req->q->dev;
	struct virtq_buf *buf = &req->buf;
	struct virtio_blk_outhdr hdr;
	const struct iovec *last;

	if (buf->out_len < sizeof(hdr) || !buf->in_len) {
		virtio_break(&dev->v, "queue %u: a request has no room for its header or its status",
			     req->q->index);
		give_back(req);
		return;
	}
	if (buf->iov->iov_len >= sizeof(hdr))
		memcpy(&hdr, buf->iov->iov_base, sizeof(hdr));
	else
		virtq_read(buf, 0, &hdr, sizeof(hdr));
	last = &buf->iov[buf->nr_out + buf->nr_in - 1];
	req->status = (u8 *)last->iov_base + last->iov_len - 1;
	req->blk.done = done;
	req->blk.wrote = wrote;
	req->blk.flags = dev->durable ? BLK_DURABLE : 0;
	/* Beyond any disk, which it may not be any more when it is in bytes. */
	if (hdr.sector > SECTOR_MAX)
		hdr.sector = SECTOR_MAX;
	req->blk.pos = hdr.sector * BLK_SECTOR;

	switch (hdr.type) {
	case VIRTIO_BLK_T_IN:
		do_read(req);
		break;
	case VIRTIO_BLK_T_OUT:
		do_write(req);
		break;
	case VIRTIO_BLK_T_FLUSH:
		do_flush(req);
		break;
	case VIRTIO_BLK_T_GET_ID:
		do_id(req);
		break;
	case VIRTIO_BLK_T_DISCARD:
		do_ranges(req, BLK_DISCARD);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		do_ranges(req, BLK_ZERO);
		break;
	default:
		finish(req, VIRTIO_BLK_S_UNSUPP);
		break;
	}
}

/* The device. */

static void vblk_kick(struct virtio *v, unsigned int queue)
{
	struct virtio_blk *dev = from(v);
	struct vblk_queue *q = &dev->queues[queue];
	u32 room = QUEUE_SIZE;
	struct vblk_req *req;

	do {
		virtio_kicks_off(v, queue);
		while (q->nr_free && room) {
			req = &q->reqs[q->free[q->nr_free - 1]];
			req->q = q;
			req->buf.iov = req->iov;
			req->buf.max = SEG_MAX + 2;
			if (!virtio_pop(v, queue, &req->buf))
				break;
			q->nr_free--;
			dev->in_flight++;
			room--;
			handle(req);
			/* Else virtio_kicks_on() has the next look. */
			if (!virtq_at_hand(&v->queues[queue].ring))
				break;
		}
		if (!room) {
			/* Others have their turn before what has come since. */
			virtio_kick_again(v, queue);
			return;
		}
		if (!virtio_kicks_on(v, queue))
			return;
	} while (q->nr_free);
	virtio_break(v, "queue %u: more requests are out than it holds", queue);
}

static void set_capacity(struct virtio_blk *dev)
{
	u64 sectors = dev->blk->size / BLK_SECTOR;

	virtio_config_set(&dev->v, offsetof(struct virtio_blk_config, capacity),
			  &sectors, sizeof(sectors));
}

static void resized(void *arg)
{
	set_capacity(arg);
}

static void vblk_start(struct virtio *v)
{
	struct virtio_blk *dev = from(v);
	u8 wce;

	virtio_config_get(v, offsetof(struct virtio_blk_config, wce), &wce, 1);
	dev->durable = !virtio_has(v, VIRTIO_BLK_F_FLUSH) ||
		       (virtio_has(v, VIRTIO_BLK_F_CONFIG_WCE) && !wce);
	/* Resized while the machine was saved. */
	set_capacity(dev);
	blk_go(dev->blk);
}

static void vblk_stop(struct virtio *v)
{
	struct virtio_blk *dev = from(v);

	/* A device that starts again from within must not be stopped on. */
	dev->in_stop = true;
	blk_stop(dev->blk);
	dev->in_stop = false;
	check_stopped(dev);
}

static void set_wce(struct virtio_blk *dev, u8 wce)
{
	virtio_config_set(&dev->v, offsetof(struct virtio_blk_config, wce), &wce,
			  sizeof(wce));
}

static void vblk_reset(struct virtio *v)
{
	set_wce(from(v), 1);
}

static bool vblk_config_writable(const struct virtio *v, u32 off, u32 len)
{
	return off == offsetof(struct virtio_blk_config, wce) && len == 1 &&
	       (v->acked & VIRTIO_BIT(VIRTIO_BLK_F_CONFIG_WCE));
}

static void vblk_config_changed(struct virtio *v, u32 off, u32 len)
{
	struct virtio_blk *dev = from(v);
	u8 wce;

	(void)len;
	virtio_config_get(v, off, &wce, 1);
	if (v->started)
		dev->durable = !virtio_has(v, VIRTIO_BLK_F_FLUSH) || !wce;
}

/* The disk is the one that was saved if it can stand in for it. */
static int vblk_load(struct virtio *v, const struct state_section *sec)
{
	struct virtio_blk *dev = from(v);
	u32 block;
	u64 sectors;

	(void)sec;
	memcpy(&sectors, v->config + offsetof(struct virtio_blk_config, capacity),
	       sizeof(sectors));
	memcpy(&block, v->config + offsetof(struct virtio_blk_config, blk_size),
	       sizeof(block));
	if (sectors > dev->blk->size / BLK_SECTOR)
		return fail(-EINVAL, "%s '%s': the disk is smaller than the saved machine's: give it that one",
			    dev->blk->label, dev->blk->path);
	if (block % dev->blk->block)
		return fail(-EINVAL, "%s '%s': its blocks are larger than the saved machine's: use direct=off",
			    dev->blk->label, dev->blk->path);
	return 0;
}

static void vblk_destroy(struct virtio *v)
{
	struct virtio_blk *dev = from(v);
	u32 i;

	for (i = 0; dev->queues && i < v->nr_queues; i++) {
		loop_undefer(&dev->queues[i].flush_task);
		if (dev->queues[i].reqs)
			munmap(dev->queues[i].reqs, REQS_LEN);
		free(dev->queues[i].free);
	}
	free(dev->queues);
	virtio_fini(v);
	free(dev);
}

static const struct virtio_ops vblk_ops = {
	.name = "virtio-blk",
	.id = VIRTIO_ID_BLOCK,
	.start = vblk_start,
	.stop = vblk_stop,
	.kick = vblk_kick,
	.reset = vblk_reset,
	.config_changed = vblk_config_changed,
	.config_writable = vblk_config_writable,
	.load = vblk_load,
	.destroy = vblk_destroy,
};

static u8 exponent(u32 value, u32 unit)
{
	u8 exp = 0;

	while (unit << (exp + 1) <= value && exp < 8)
		exp++;
	return exp;
}

static void describe(struct virtio_blk *dev, u16 nr_queues)
{
	const struct blk *blk = dev->blk;
	struct virtio_blk_config config = {
		.capacity = blk->size / BLK_SECTOR,
		.seg_max = SEG_MAX,
		.blk_size = blk->block,
		.physical_block_exp = exponent(blk->physical, blk->block),
		.min_io_size = 1,
		.opt_io_size = blk->optimal / blk->block,
		.wce = 1,
		.num_queues = nr_queues,
		.max_discard_sectors = RANGE_SECTORS,
		.max_discard_seg = RANGES_MAX,
		.discard_sector_alignment = (blk->discard_block ?: DISCARD_ALIGN) /
					    BLK_SECTOR,
		.max_write_zeroes_sectors = RANGE_SECTORS,
		.max_write_zeroes_seg = RANGES_MAX,
		.write_zeroes_may_unmap = 1,
	};
	struct virtio *v = &dev->v;

	v->offered |= VIRTIO_BIT(VIRTIO_BLK_F_SEG_MAX) |
		      VIRTIO_BIT(VIRTIO_BLK_F_BLK_SIZE) |
		      VIRTIO_BIT(VIRTIO_BLK_F_TOPOLOGY) |
		      VIRTIO_BIT(VIRTIO_BLK_F_FLUSH) |
		      VIRTIO_BIT(VIRTIO_BLK_F_CONFIG_WCE) |
		      VIRTIO_BIT(VIRTIO_BLK_F_MQ);
	if (blk->readonly)
		v->offered |= VIRTIO_BIT(VIRTIO_BLK_F_RO);
	else
		v->offered |= VIRTIO_BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	if (blk->can_discard && !blk->readonly)
		v->offered |= VIRTIO_BIT(VIRTIO_BLK_F_DISCARD);
	v->config_len = sizeof(config);
	virtio_config_set(v, 0, &config, sizeof(config));
}

static struct vblk_req *map_reqs(void)
{
	void *reqs = mmap(NULL, REQS_LEN, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return reqs == MAP_FAILED ? NULL : reqs;
}

static int make_queues(struct virtio_blk *dev)
{
	u32 i, j;

	dev->queues = calloc(dev->v.nr_queues, sizeof(dev->queues[0]));
	if (!dev->queues)
		return -ENOMEM;
	for (i = 0; i < dev->v.nr_queues; i++) {
		struct vblk_queue *q = &dev->queues[i];

		q->dev = dev;
		q->index = i;
		q->flush_task.run = flush_queue;
		q->free = calloc(QUEUE_SIZE, sizeof(q->free[0]));
		q->reqs = map_reqs();
		if (!q->free || !q->reqs)
			return -ENOMEM;
		q->nr_free = QUEUE_SIZE;
		for (j = 0; j < QUEUE_SIZE; j++)
			q->free[j] = QUEUE_SIZE - 1 - j;
	}
	return 0;
}

/* The disk stays the caller's, and outlives the device. */
struct virtio *virtio_blk_create(const struct mem *mem, struct blk *blk,
				 const char *serial, u32 nr_queues)
{
	struct virtio_blk *dev = calloc(1, sizeof(*dev));

	if (!dev) {
		fail(-ENOMEM, "out of memory");
		return NULL;
	}
	if (virtio_init(&dev->v, &vblk_ops, mem, blk->label, nr_queues,
			QUEUE_SIZE)) {
		free(dev);
		return NULL;
	}
	if (make_queues(dev)) {
		fail(-ENOMEM, "out of memory");
		vblk_destroy(&dev->v);
		return NULL;
	}
	dev->blk = blk;
	if (serial)
		memcpy(dev->serial, serial, strnlen(serial, sizeof(dev->serial)));
	describe(dev, nr_queues);
	blk->events.resized = resized;
	blk->events.resized_arg = dev;
	return &dev->v;
}
