// SPDX-License-Identifier: GPL-2.0
/*
 * virtio-console (virtio 1.2, 5.3): the consoles and ports of a machine.
 *  1. Every port has a queue each way.  The first console is port 0, which is
 *     the one that a driver without MULTIPORT sees.
 *  2. Control messages say what ports there are and who has them open.  Ours
 *     are not queued but remembered as what the driver is still to be told,
 *     so that it can hold up nothing by not listening.
 *  3. Output goes into the port's ring (port.h) as far as it takes it; what
 *     does not fit waits in the queue.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/virtio_console.h>

#include "port.h"
#include "virtio_console.h"

#define QUEUE_SIZE	64
#define PIECES		66
#define CONTROL_IN	2	/* to the driver */
#define CONTROL_OUT	3
#define CONTROL_MAX	(sizeof(struct virtio_console_control) + 64)
#define CHUNK		4096

/* What the driver is to be told, in this order. */
#define TELL_ADD	(1u << 0)
#define TELL_CONSOLE	(1u << 1)
#define TELL_NAME	(1u << 2)
#define TELL_OPEN	(1u << 3)
#define TELL_SIZE	(1u << 4)

struct vport {
	struct virtio_console *dev;
	struct port port;
	u32 id;
	unsigned int tell;		/* TELL_*, to be sent */
	bool ready;			/* the driver knows it */
	bool opened;			/* somebody in the guest has it open */
	u16 columns, rows;		/* 0: not known */
	/* A request that the ring had no room for. */
	bool stuck;
	u64 done;			/* bytes of it that were taken */
	struct virtq_buf buf;
	struct iovec iov[PIECES];
};

struct virtio_console {
	struct virtio v;
	u32 nr;
	const struct port_options *opts;
	struct vport *ports;
};

static struct virtio_console *to_console(struct virtio *v)
{
	return container_of(v, struct virtio_console, v);
}

static unsigned int in_queue(u32 id)
{
	return id ? 2 + 2 * id : 0;
}

static unsigned int out_queue(u32 id)
{
	return in_queue(id) + 1;
}

static bool multiport(const struct virtio_console *dev)
{
	return virtio_has(&dev->v, VIRTIO_CONSOLE_F_MULTIPORT);
}

/* Control messages to the driver. */

static size_t message(const struct vport *p, unsigned int what, u8 *out)
{
	struct virtio_console_control head = { .id = p->id, .value = 1 };
	const char *name = p->port.opt->name;
	/* The specification's order; Linux before 6.15 and its like had it swapped. */
	const u16 size[] = { p->columns, p->rows };
	size_t len = sizeof(head);

	switch (what) {
	case TELL_ADD:
		head.event = VIRTIO_CONSOLE_PORT_ADD;
		break;
	case TELL_CONSOLE:
		head.event = VIRTIO_CONSOLE_CONSOLE_PORT;
		break;
	case TELL_NAME:
		head.event = VIRTIO_CONSOLE_PORT_NAME;
		memcpy(out + len, name, strlen(name));
		len += strlen(name);
		break;
	case TELL_OPEN:
		head.event = VIRTIO_CONSOLE_PORT_OPEN;
		head.value = p->port.connected;
		break;
	case TELL_SIZE:
		head.event = VIRTIO_CONSOLE_RESIZE;
		memcpy(out + len, size, sizeof(size));
		len += sizeof(size);
		break;
	}
	memcpy(out, &head, sizeof(head));
	return len;
}

/* As many as the driver has buffers for; a message is in one of them. */
static bool tell_port(struct vport *p)
{
	struct virtio *v = &p->dev->v;
	struct iovec iov[PIECES];
	struct virtq_buf buf = { .iov = iov, .max = PIECES };
	u8 data[CONTROL_MAX];
	unsigned int what;

	while (p->tell) {
		if (!virtio_pop(v, CONTROL_IN, &buf))
			return false;
		what = p->tell & -p->tell;
		p->tell &= ~what;
		virtio_push(v, CONTROL_IN, &buf,
			    virtq_write(&buf, 0, data, message(p, what, data)));
	}
	return true;
}

static void tell_driver(struct virtio_console *dev)
{
	u32 i;

	if (!multiport(dev) || !virtio_queue_ready(&dev->v, CONTROL_IN))
		return;
	do {
		virtio_kicks_off(&dev->v, CONTROL_IN);
		for (i = 0; i < dev->nr && tell_port(&dev->ports[i]); i++)
			;
		virtio_flush(&dev->v, CONTROL_IN);
	} while (i < dev->nr && virtio_kicks_on(&dev->v, CONTROL_IN));
}

static void tell(struct vport *p, unsigned int what)
{
	if (!p->ready)
		return;
	p->tell |= what;
	tell_driver(p->dev);
}

/* Input: from the port to the guest. */

static bool takes_input(const struct vport *p)
{
	return p->opened && virtio_queue_ready(&p->dev->v, in_queue(p->id));
}

static void input(struct vport *p)
{
	struct virtio *v = &p->dev->v;
	unsigned int queue = in_queue(p->id), left = QUEUE_SIZE;
	struct iovec iov[PIECES];
	struct virtq_buf buf = { .iov = iov, .max = PIECES };
	const u8 *data;
	size_t len, n;

	if (!takes_input(p))
		return;
	data = port_peek(&p->port, &len);
	/* Buffers may have no room at all: no more than a ring's worth a turn. */
	for (; len && left && (virtio_pop(v, queue, &buf) ||
			       (virtio_kicks_on(v, queue) &&
				virtio_pop(v, queue, &buf))); left--) {
		n = virtq_write(&buf, 0, data, len);
		virtio_push(v, queue, &buf, n);
		data += n;
		len -= n;
		port_take(&p->port, n);
	}
	virtio_flush(v, queue);
	if (len && !left)
		virtio_kick_again(v, queue);
}

static void set_opened(struct vport *p, bool on)
{
	p->opened = on;
	port_want(&p->port, takes_input(p));
}

/* Output: from the guest to the port. */

/* True if all of it was taken. */
static bool take_output(struct vport *p)
{
	u8 data[CHUNK];
	size_t len, taken;

	while (p->done < p->buf.out_len) {
		len = virtq_read(&p->buf, p->done, data, sizeof(data));
		taken = port_write(&p->port, data, len);
		p->done += taken;
		if (taken < len)
			return false;
	}
	return true;
}

static void output(struct vport *p)
{
	struct virtio *v = &p->dev->v;
	unsigned int queue = out_queue(p->id), left = QUEUE_SIZE;

	do {
		virtio_kicks_off(v, queue);
		while (left && (p->stuck || virtio_pop(v, queue, &p->buf))) {
			p->stuck = !take_output(p);
			if (p->stuck)
				break;
			virtio_push(v, queue, &p->buf, 0);
			p->done = 0;
			left--;
		}
		virtio_flush(v, queue);
	} while (left && !p->stuck && virtio_kicks_on(v, queue));
	if (!left)
		virtio_kick_again(v, queue);
}

/* What the port has to say. */

static void connected(void *arg, bool on)
{
	struct vport *p = arg;

	(void)on;
	tell(p, TELL_OPEN);
}

static void readable(void *arg)
{
	input(arg);
}

static void room(void *arg)
{
	struct vport *p = arg;

	if (p->stuck)
		virtio_kick_again(&p->dev->v, out_queue(p->id));
}

/* Control messages from the driver. */

static void port_ready(struct vport *p)
{
	p->ready = true;
	p->tell = TELL_NAME | TELL_OPEN;
	if (p->port.opt->console)
		p->tell |= TELL_CONSOLE;
	if (p->port.opt->console && p->columns && p->rows)
		p->tell |= TELL_SIZE;
}

static void control(struct virtio_console *dev,
		    const struct virtio_console_control *msg)
{
	u32 i;

	if (msg->event == VIRTIO_CONSOLE_DEVICE_READY) {
		for (i = 0; i < dev->nr && msg->value == 1; i++)
			dev->ports[i].tell = TELL_ADD;
		return;
	}
	if (msg->id >= dev->nr)
		return;		/* of a port that is not there */
	if (msg->event == VIRTIO_CONSOLE_PORT_READY && msg->value == 1)
		port_ready(&dev->ports[msg->id]);
	else if (msg->event == VIRTIO_CONSOLE_PORT_OPEN)
		set_opened(&dev->ports[msg->id], msg->value);
}

static void control_out(struct virtio_console *dev)
{
	struct virtio *v = &dev->v;
	struct virtio_console_control msg;
	struct iovec iov[PIECES];
	struct virtq_buf buf = { .iov = iov, .max = PIECES };
	unsigned int left = QUEUE_SIZE;

	do {
		virtio_kicks_off(v, CONTROL_OUT);
		while (left && virtio_pop(v, CONTROL_OUT, &buf)) {
			if (virtq_read(&buf, 0, &msg, sizeof(msg)) ==
			    sizeof(msg))
				control(dev, &msg);
			virtio_push(v, CONTROL_OUT, &buf, 0);
			left--;
		}
		virtio_flush(v, CONTROL_OUT);
	} while (left && virtio_kicks_on(v, CONTROL_OUT));
	if (!left)
		virtio_kick_again(v, CONTROL_OUT);
	tell_driver(dev);
}

/* As a virtio device. */

static void vcon_kick(struct virtio *v, unsigned int queue)
{
	struct virtio_console *dev = to_console(v);
	u32 id = queue < 2 ? 0 : queue / 2 - 1;

	if (queue == CONTROL_IN || queue == CONTROL_OUT) {
		if (multiport(dev) && queue == CONTROL_OUT)
			control_out(dev);
		else
			tell_driver(dev);
	} else if (id && !multiport(dev)) {
		return;
	} else if (queue == out_queue(id)) {
		output(&dev->ports[id]);
	} else {
		input(&dev->ports[id]);
	}
}

/* Without control messages port 0 is all there is, and always open. */
static void vcon_start(struct virtio *v)
{
	struct virtio_console *dev = to_console(v);
	u32 i;

	if (!multiport(dev))
		dev->ports[0].opened = true;
	for (i = 0; i < dev->nr; i++)
		port_want(&dev->ports[i].port, takes_input(&dev->ports[i]));
}

/* A request that waits for room is given back, and begun anew later. */
static void vcon_stop(struct virtio *v)
{
	struct virtio_console *dev = to_console(v);
	u32 i;

	for (i = 0; i < dev->nr; i++) {
		struct vport *p = &dev->ports[i];

		port_want(&p->port, false);
		if (p->stuck)
			virtio_unpop(v, out_queue(i), &p->buf);
		p->stuck = false;
	}
	virtio_stopped(v);
}

static void vcon_reset(struct virtio *v)
{
	struct virtio_console *dev = to_console(v);
	u32 i;

	for (i = 0; i < dev->nr; i++) {
		dev->ports[i].tell = 0;
		dev->ports[i].ready = false;
		dev->ports[i].opened = false;
		dev->ports[i].done = 0;
	}
}

static void vcon_save(struct virtio *v, struct state *st)
{
	struct virtio_console *dev = to_console(v);
	char name[48];
	u32 i;

	for (i = 0; i < dev->nr; i++) {
		const struct vport *p = &dev->ports[i];
		const u64 fields[] = { p->tell, p->ready, p->opened, p->columns,
				       p->rows, p->done };

		snprintf(name, sizeof(name), "port%u", i);
		state_put(st, name, fields, sizeof(fields));
		port_save(&p->port, st, name);
	}
}

static int vcon_load(struct virtio *v, const struct state_section *sec)
{
	struct virtio_console *dev = to_console(v);
	char name[48];
	u64 fields[6];
	size_t got;
	u32 i;
	int ret;

	for (i = 0; i < dev->nr; i++) {
		struct vport *p = &dev->ports[i];

		snprintf(name, sizeof(name), "port%u", i);
		if (state_get(sec, name, fields, sizeof(fields), &got) ||
		    got != sizeof(fields))
			return -EBADMSG;
		ret = port_load(&p->port, sec, name);
		if (ret)
			return ret;
		p->tell = fields[0] & (2 * TELL_SIZE - 1);
		p->ready = fields[1];
		p->opened = fields[2];
		p->columns = fields[3];
		p->rows = fields[4];
		p->done = fields[5];
	}
	return 0;
}

static void vcon_destroy(struct virtio *v)
{
	struct virtio_console *dev = to_console(v);

	virtio_fini(v);
	free(dev->ports);
	free(dev);
}

static const struct virtio_ops vcon_ops = {
	.name = "virtio-console",
	.id = VIRTIO_ID_CONSOLE,
	.start = vcon_start,
	.stop = vcon_stop,
	.kick = vcon_kick,
	.reset = vcon_reset,
	.save = vcon_save,
	.load = vcon_load,
	.destroy = vcon_destroy,
};

/* The first console goes first, the others keep their order. */
static void make_ports(struct virtio_console *dev)
{
	u32 first = 0, i, at = 1;

	while (first < dev->nr && !dev->opts[first].console)
		first++;
	if (first == dev->nr)
		first = 0;
	for (i = 0; i < dev->nr; i++) {
		u32 id = i == first ? 0 : at++;

		dev->ports[id].dev = dev;
		dev->ports[id].id = id;
		port_init(&dev->ports[id].port, &dev->opts[i]);
		dev->ports[id].buf.iov = dev->ports[id].iov;
		dev->ports[id].buf.max = PIECES;
	}
}

struct virtio *virtio_console_create(const struct mem *mem, const char *label,
				     const struct port_options *opts, u32 nr)
{
	struct virtio_console *dev = calloc(1, sizeof(*dev));
	struct virtio_console_config config = { .max_nr_ports = nr };
	u32 queues = nr > 1 ? out_queue(nr - 1) + 1 : CONTROL_OUT + 1;

	if (!dev)
		goto no_memory;
	dev->ports = calloc(nr, sizeof(dev->ports[0]));
	if (!dev->ports)
		goto no_memory;
	dev->nr = nr;
	dev->opts = opts;
	make_ports(dev);
	if (virtio_init(&dev->v, &vcon_ops, mem, label, queues, QUEUE_SIZE)) {
		free(dev->ports);
		free(dev);
		return NULL;
	}
	dev->v.offered |= VIRTIO_BIT(VIRTIO_CONSOLE_F_SIZE) |
			  VIRTIO_BIT(VIRTIO_CONSOLE_F_MULTIPORT);
	dev->v.config_len = sizeof(config);
	virtio_config_set(&dev->v, 0, &config, sizeof(config));
	return &dev->v;
no_memory:
	free(dev);
	fail(-ENOMEM, "out of memory");
	return NULL;
}

int virtio_console_attach(struct virtio *v)
{
	struct virtio_console *dev = to_console(v);
	int ret = 0;
	u32 i;

	for (i = 0; i < dev->nr && !ret; i++) {
		const struct port_front front = {
			connected, readable, room, &dev->ports[i]
		};

		ret = port_open(&dev->ports[i].port, &front);
	}
	return ret;
}

void virtio_console_detach(struct virtio *v)
{
	struct virtio_console *dev = to_console(v);
	u32 i;

	for (i = 0; i < dev->nr; i++)
		port_close(&dev->ports[i].port);
}

struct port *virtio_console_port(struct virtio *v, u32 index)
{
	return &to_console(v)->ports[index].port;
}

bool virtio_console_opened(struct virtio *v, u32 index)
{
	return to_console(v)->ports[index].opened;
}

int virtio_console_resize(struct virtio *v, u32 index, u16 columns, u16 rows)
{
	struct vport *p = &to_console(v)->ports[index];
	const u16 size[] = { columns, rows };

	if (!p->port.opt->console)
		return -EINVAL;
	p->columns = columns;
	p->rows = rows;
	if (!index)
		virtio_config_set(v, offsetof(struct virtio_console_config, cols),
				  size, sizeof(size));
	tell(p, TELL_SIZE);
	return 0;
}
