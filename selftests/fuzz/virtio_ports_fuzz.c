// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for pvhv-run's virtio-console, the host half of its ports, and virtio-balloon, over the virtio core: a driver that
 * does anything, clients that come and go.
 *
 *   libFuzzer, replay and sources: see virtio-ports-fuzz.sh
 *
 * Input: a byte of options, then for each device four bytes of features and one of ring sizes, then steps: a byte of what, its
 * bytes. What must hold: no access outside guest memory (an allocation of its size) or of our own; a port never asks for two
 * operations at a time; a device that was stopped has nothing in flight, a broken one says so; saved state loads into the same; all
 * memory is freed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fakeloop.h"
#include "input.h"
#include "../lib/vring.h"
#include "../../vmm/control.h"
#include "../../vmm/port.h"
#include "../../vmm/virtio_balloon.h"
#include "../../vmm/virtio_console.h"

#define MEM_SIZE	(1 * MIB)
#define HUGE		(256 * KIB)
#define RING_SPACE	0x4000ULL	/* a ring each, from 0 on */
#define DATA		0x40000ULL
#define PORTS		4
#define RINGS		14		/* ten of the console's, four of the balloon's */
#define IOS		8

static struct mem mem;
static struct virtio *dev[2];
static struct vring_drv ring[RINGS];

static const struct port_options ports[PORTS] = {
	{ .name = "agent", .kind = CONSOLE_SOCKET, .path = "s" },
	{ .name = "tty", .kind = CONSOLE_PTY, .console = true },
	{ .name = "log", .kind = CONSOLE_FILE, .path = "f" },
	{ .name = "ctl", .kind = CONSOLE_CONTROL, .console = true },
};

/* Reads and writes that the host has not done yet. */
static struct io {
	struct loop_op *op;
	u8 *buf;
	size_t len;
	bool read;
} ios[IOS];

static int begin_io(struct loop_op *op, void *buf, size_t len, bool read)
{
	int i, slot = -1;

	CHECK(!op->busy);
	for (i = 0; i < IOS; i++)
		if (ios[i].op == op || !ios[i].op || !ios[i].op->busy)
			slot = i;
	CHECK(slot >= 0);
	for (i = 0; i < IOS; i++)
		if (ios[i].op == op)
			slot = i;
	ios[slot] = (struct io){ op, buf, len, read };
	op->busy = true;
	op->watched = -1;
	return 0;
}

int loop_read(struct loop_op *op, int fd, void *buf, size_t len)
{
	CHECK(fd >= 0 && len);
	return begin_io(op, buf, len, true);
}

int loop_write(struct loop_op *op, int fd, const void *buf, size_t len)
{
	CHECK(fd >= 0 && len);
	return begin_io(op, (void *)buf, len, false);
}

int loop_accept(struct loop_op *op, int fd)
{
	(void)fd;
	CHECK(!op->busy);
	op->busy = true;
	op->watched = -1;
	return 0;
}

static int client(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

/* Instead of console_host.c. */

static bool nobody;

void console_host_init(struct console_host *host)
{
	memset(host, 0, sizeof(*host));
	host->kind = CONSOLE_NONE;
	host->in = -1;
	host->out = -1;
	host->sock.fd = -1;
}

int console_host_open(struct console_host *host, const char *option, enum console_kind kind, const char *path)
{
	CHECK(!strcmp(option, "--port"));
	console_host_init(host);
	host->kind = kind;
	host->path = path;
	if (kind == CONSOLE_FILE || kind == CONSOLE_PTY)
		host->out = client();
	if (kind == CONSOLE_PTY)
		host->in = host->out;
	return 0;
}

void console_host_close(struct console_host *host)
{
	if (host->out >= 0)
		close(host->out);
}

bool console_host_waits(const struct console_host *host)
{
	CHECK(host->kind == CONSOLE_PTY);
	return nobody;
}

/* The control socket is not part of this. */
void control_event(const char *type, const char *fmt, ...)
{
	CHECK(*type && *fmt);
}

static void notify_queue(struct virtio *v, unsigned int queue)
{
	CHECK(queue < v->nr_queues);
}

static void notify(struct virtio *v)
{
	CHECK(v == dev[0] || v == dev[1]);
}

static const struct virtio_transport transport = { .notify_queue = notify_queue, .notify_config = notify, .reset = notify };

static void quiet(const char *line)
{
	CHECK(!strchr(line, '\n'));
}

static void make(void)
{
	static const struct balloon_options opt = { .keep = 512 * KIB, .reporting = true, .deflate_on_oom = true };
	int i;

	memset(ios, 0, sizeof(ios));
	dev[0] = virtio_console_create(&mem, "ports", ports, PORTS);
	dev[1] = virtio_balloon_create(&mem, "balloon", &opt);
	CHECK(dev[0] && dev[1] && dev[0]->nr_queues + dev[1]->nr_queues == RINGS);
	for (i = 0; i < 2; i++)
		dev[i]->transport = &transport;
}

static void attach(void)
{
	CHECK(!virtio_console_attach(dev[0]));
	virtio_open(dev[0]);
	virtio_open(dev[1]);
}

static void unmake(void)
{
	virtio_close(dev[0]);
	virtio_close(dev[1]);
	virtio_console_detach(dev[0]);
	virtio_device_ops()->destroy(&dev[0]->dev);
	virtio_device_ops()->destroy(&dev[1]->dev);
	CHECK(!fakeloop_tasks);
}

static void idle(void)
{
	int i, j;

	for (i = 0; i < 2; i++)
		virtio_service(dev[i]);
	fakeloop_run(40);
	for (i = 0; i < 2; i++) {
		if (dev[i]->broken)
			CHECK(virtio_status(dev[i]) & VIRTIO_CONFIG_S_NEEDS_RESET);
		for (j = 0; j < dev[i]->nr_queues; j++)
			CHECK(dev[i]->queues[j].ring.in_flight <= (dev[i]->started ? 1 : 0));
	}
}

static struct virtio *owner(unsigned int *queue)
{
	struct virtio *v = dev[*queue >= dev[0]->nr_queues];

	if (v == dev[1])
		*queue -= dev[0]->nr_queues;
	return v;
}

static void drive(unsigned int which)
{
	struct virtio *v = dev[which];
	u8 status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER, sizes;
	unsigned int first = which ? dev[0]->nr_queues : 0, i;
	u64 features;

	features = take32();
	features = (features | VIRTIO_BIT(VIRTIO_F_VERSION_1)) & v->offered;
	sizes = take8();
	virtio_set_status(v, status);
	virtio_ack(v, 0, features);
	virtio_ack(v, 1, features >> 32);
	virtio_set_status(v, status | VIRTIO_CONFIG_S_FEATURES_OK);
	for (i = 0; i < v->nr_queues; i++) {
		vring_drv_init(&ring[first + i], &mem, RING_SPACE * (first + i), sizes & 1 << i % 7 ? 8 : 64);
		if (!(sizes & 0x80) || i)
			vring_attach(&ring[first + i], v, i);
	}
	virtio_set_status(v, virtio_status(v) | VIRTIO_CONFIG_S_DRIVER_OK);
	idle();
}

static void kick(unsigned int index)
{
	unsigned int queue = index;
	struct virtio *v = owner(&queue);

	vring_show(&ring[index], true);
	fakeloop_kick(&v->queues[queue].task);
}

static void write_memory(void)
{
	u32 at = take16() << 4, len = take8();

	for (; len && at < MEM_SIZE; len--, at++)
		mem.host[at] = take8();
}

/* One to eight pieces of any length; with the highest bit of the shape through an indirect table. */
static void offer(void)
{
	unsigned int index = take8() % RINGS, shape = take8(), nr = 1 + (shape & 7), i;
	struct vring_piece pieces[8];

	for (i = 0; i < nr; i++) {
		pieces[i].addr = DATA + take16() * 8;
		pieces[i].len = take16();
		pieces[i].in = (shape >> 4 & 1) ^ (shape >> 3 & i & 1);
	}
	if (shape & 0x80)
		vring_add_indirect(&ring[index], DATA + 0x18000, pieces, nr);
	else
		vring_add(&ring[index], pieces, nr);
	kick(index);
}

/* Many requests of the same kind: buffers for what comes, output that fills a port. */
static void offer_many(void)
{
	unsigned int index = take8() % RINGS, nr = take8() % 64, len = take16();
	bool in = take8() & 1;

	while (nr--)
		vring_add(&ring[index], &(struct vring_piece){ DATA + nr * 64, len, in }, 1);
	kick(index);
}

/* A control message, as drivers send them. */
static void say(void)
{
	const u8 id = take8(), event = take8(), value = take8();
	const u8 msg[8] = { id == 0xff ? 0xff : id % (PORTS + 1), 0, 0, 0, event % 9, 0, value & 3, 0 };

	mem_write(&mem, DATA, msg, sizeof(msg));
	vring_add(&ring[3], &(struct vring_piece){ DATA, sizeof(msg), false }, 1);
	kick(3);
}

/* Page numbers, most of them right. */
static void name_pages(void)
{
	unsigned int index = dev[0]->nr_queues + (take8() & 1), nr = take8(), i;
	u32 pfn = take8(), each = take8();

	for (i = 0; i < nr; i++, pfn += each & 0x80 ? 1 : each)
		mem_write(&mem, DATA + 4 * i, &pfn, sizeof(pfn));
	vring_add(&ring[index], &(struct vring_piece){ DATA, 4 * nr, false }, 1);
	kick(index);
}

/* The host has done what it was asked for, or has not. */
static void finish_io(void)
{
	static const int errors[] = { 0, -EAGAIN, -EINTR, -EPIPE, -EIO };
	struct io *io = &ios[take8() % IOS];
	u8 how = take8();
	size_t len = take16();
	int res = how < 5 ? errors[how] : 0;

	if (!io->op || !io->op->busy)
		return;
	if (how >= 5)
		res = io->len < len ? io->len : len;
	if (io->read && res > 0)
		memset(io->buf, how, res);
	io->op->busy = false;
	io->op->done(io->op, res);
}

static void come_and_go(void)
{
	struct port *p = virtio_console_port(dev[0], take8() % PORTS);
	u8 how = take8();
	int fd;

	nobody = how & 2;
	if (how & 1 && p->host.kind == CONSOLE_CONTROL) {
		fd = client();
		if (port_attach(p, fd))
			close(fd);
	} else if (p->accept_op.busy) {
		p->accept_op.busy = false;
		p->accept_op.done(&p->accept_op, how & 2 ? -ECONNABORTED : client());
	}
	fakeloop_fire(&p->timer_op);
}

static void save(struct state *st)
{
	int i;

	state_init(st);
	for (i = 0; i < 2; i++) {
		state_begin(st, dev[i]->label, 1);
		virtio_device_ops()->save(&dev[i]->dev, st);
		state_end(st);
	}
	CHECK(!st->err);
}

static void move(void)
{
	struct state_section sec;
	struct state st, again;
	int i;

	for (i = 0; i < 2; i++)
		virtio_pause(dev[i]);
	idle();
	CHECK(virtio_quiet(dev[0]) && virtio_quiet(dev[1]));
	save(&st);
	unmake();
	make();
	for (i = 0; i < 2; i++) {
		CHECK(!state_find(st.data, st.len, dev[i]->label, &sec));
		CHECK(!virtio_device_ops()->load(&dev[i]->dev, &sec));
	}
	save(&again);
	CHECK(st.len == again.len && !memcmp(st.data, again.data, st.len));
	state_free(&st);
	state_free(&again);
	attach();
	idle();
}

static void ask(void)
{
	struct balloon_stats stats;
	u32 what = take8();

	if (what & 1)
		virtio_console_resize(dev[0], take8() % PORTS, take8(), take8());
	if (what & 2)
		balloon_set_target(dev[1], (u64)take16() << 5);
	if (what & 4) {
		balloon_get_stats(dev[1], &stats);
		CHECK(stats.target <= MEM_SIZE && stats.actual <= MEM_SIZE);
	}
	if (what & 8) {
		u32 value = take16();

		virtio_config_write(dev[1], take8() & 12, (u8 *)&value, sizeof(value));
	}
}

static void step(void)
{
	unsigned int what = take8(), which = what >> 4 & 1;

	switch (what % 16) {
	case 0:
		write_memory();
		break;
	case 1:
		offer();
		break;
	case 2:
		offer_many();
		break;
	case 3:
	case 4:
		say();
		break;
	case 5:
		name_pages();
		break;
	case 6:
	case 7:
		finish_io();
		break;
	case 8:
		come_and_go();
		break;
	case 9:
		ask();
		break;
	case 10:
		virtio_set_status(dev[which], 0);
		idle();
		CHECK(!virtio_status(dev[which]) && !dev[which]->broken);
		drive(which);
		break;
	case 11:
		virtio_pause(dev[which]);
		idle();
		CHECK(virtio_quiet(dev[which]));
		virtio_resume(dev[which]);
		break;
	case 12:
		move();
		break;
	case 13:
		ring[take8() % RINGS].avail_idx += take16();
		break;
	default:
		kick(take8() % RINGS);
		break;
	}
	idle();
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	input_set(input, size);
	fail_sink = quiet;
	nobody = false;
	if (!mem.host)
		mem.host = aligned_alloc(HUGE, MEM_SIZE);
	CHECK(mem.host);
	memset(mem.host, 0, MEM_SIZE);
	mem.size = mem.low = MEM_SIZE;
	mem.page = take8() & 1 ? HUGE : 4 * KIB;
	mem.fd = -1;
	make();
	attach();
	drive(0);
	drive(1);
	while (input_left())
		step();
	unmake();
	return 0;
}

#ifdef REPLAY
#include "random.h"
#include "replay.h"
#endif
