// SPDX-License-Identifier: GPL-2.0
/*
 * The host half of a guest's console or port.
 *  1. Connections come and go: a socket accepts one client after the other, the
 *     control socket hands them over, a pseudo-terminal is looked at a few
 *     times a second, a file is there.
 *  2. Output is copied into a ring, so that no buffer of the guest waits for
 *     a client, and written from it.  A port's ring that is full makes the
 *     guest wait; a console's never does (port.h).
 *  3. Input is read only while the guest can take it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "port.h"

#define OUT_MASK	(PORT_OUT_SIZE - 1)
#define PTY_POLL_MS	200

static void start_read(struct port *p);
static void start_write(struct port *p);

/* Connections. */

static void set_connected(struct port *p, bool on)
{
	if (p->connected == on)
		return;
	p->connected = on;
	p->front.connected(p->front.arg, on);
}

static void arrived(struct port *p)
{
	set_connected(p, true);
	start_read(p);
	start_write(p);
}

static void accepted(struct loop_op *op, int res)
{
	struct port *p = container_of(op, struct port, accept_op);

	if (p->closing) {
		if (res >= 0)
			close(res);
		return;
	}
	if (res < 0) {
		loop_accept(op, p->host.sock.fd);
		return;
	}
	p->host.in = res;
	p->host.out = res;
	arrived(p);
}

int port_attach(struct port *p, int fd)
{
	if (p->opt->kind != CONSOLE_CONTROL)
		return -EOPNOTSUPP;
	if (p->host.in >= 0 || p->closing)
		return -EBUSY;
	if (fd < 0)
		return 0;
	p->host.in = fd;
	p->host.out = fd;
	arrived(p);
	return 0;
}

static void look_at_pty(struct loop_op *op, int res)
{
	struct port *p = container_of(op, struct port, timer_op);

	(void)res;
	if (p->closing)
		return;
	if (console_host_waits(&p->host))
		loop_timer(op, PTY_POLL_MS);
	else
		arrived(p);
}

static void give_room(struct port *p)
{
	if (!p->short_of_room)
		return;
	p->short_of_room = false;
	p->front.room(p->front.arg);
}

static void drop_output(struct port *p)
{
	p->stats.dropped_bytes += p->head - p->tail;
	p->tail = p->head;
}

/* Waits for the next client once no operation uses the old one. */
static void gone(struct port *p)
{
	set_connected(p, false);
	if (p->read_op.busy || p->write_op.busy) {
		loop_cancel(&p->read_op);
		loop_cancel(&p->write_op);
		return;
	}
	if (p->closing)
		return;
	/* What a port was to say to this client is not for the next one. */
	if (!p->opt->console)
		drop_output(p);
	give_room(p);
	if (p->host.kind == CONSOLE_PTY) {
		loop_timer(&p->timer_op, PTY_POLL_MS);
		return;
	}
	close(p->host.out);
	p->host.in = -1;
	p->host.out = -1;
	if (p->host.kind == CONSOLE_SOCKET)
		loop_accept(&p->accept_op, p->host.sock.fd);
}

static bool has_clients(const struct port *p)
{
	return p->host.kind == CONSOLE_SOCKET || p->host.kind == CONSOLE_PTY ||
	       p->host.kind == CONSOLE_CONTROL;
}

/* Output. */

static void write_failed(struct port *p, int err)
{
	if (has_clients(p)) {
		gone(p);
		return;
	}
	fail(err, "port %s: '%s': output is lost from here on: %s",
	     p->opt->name, p->opt->path, strerror(-err));
	p->failed = true;
	drop_output(p);
	give_room(p);
}

static void write_polled(struct loop_op *op, int res)
{
	struct port *p = container_of(op, struct port, write_op);

	(void)res;
	if (p->closing)
		return;
	if (p->connected)
		start_write(p);
	else
		gone(p);
}

static void written(struct loop_op *op, int res)
{
	struct port *p = container_of(op, struct port, write_op);

	p->writing = 0;
	if (res > 0) {
		p->tail += res;
		p->stats.out_bytes += res;
	}
	if (p->closing)
		return;
	if (!p->connected) {
		gone(p);
		return;
	}
	if (res == -EAGAIN) {
		op->done = write_polled;
		if (loop_poll(op, p->host.out, POLLOUT))
			write_failed(p, -EIO);
		return;
	}
	if (res < 0 && res != -EINTR) {
		write_failed(p, res);
		return;
	}
	start_write(p);
	give_room(p);
}

static void start_write(struct port *p)
{
	u32 start = p->tail & OUT_MASK, len = p->head - p->tail;

	if (p->write_op.busy || !p->connected || !len)
		return;
	if (len > PORT_OUT_SIZE - start)
		len = PORT_OUT_SIZE - start;
	p->write_op.done = written;
	p->writing = len;
	if (loop_write(&p->write_op, p->host.out, p->out + start, len))
		write_failed(p, -EIO);
}

static void append(struct port *p, const u8 *data, size_t len)
{
	u32 start = p->head & OUT_MASK;
	size_t first = PORT_OUT_SIZE - start;

	if (first > len)
		first = len;
	memcpy(p->out + start, data, first);
	memcpy(p->out, data + first, len - first);
	p->head += len;
}

/* Nobody is there: the newest PORT_OUT_SIZE bytes are what is kept. */
static void keep_newest(struct port *p, const u8 *data, size_t len)
{
	size_t used = p->head - p->tail, over = used + len - PORT_OUT_SIZE;

	p->stats.dropped_bytes += over;
	if (over > used) {
		data += over - used;
		len -= over - used;
		over = used;
	}
	p->tail += over;
	append(p, data, len);
}

size_t port_write(struct port *p, const void *data, size_t len)
{
	size_t room = PORT_OUT_SIZE - (p->head - p->tail);

	if (p->failed || p->host.kind == CONSOLE_NONE) {
		p->stats.dropped_bytes += len;
		return len;
	}
	if (len > room && !p->opt->console) {
		p->short_of_room = true;
		len = room;
	}
	if (len <= room) {
		append(p, data, len);
	} else if (!p->connected && !p->writing) {
		keep_newest(p, data, len);
	} else {
		append(p, data, room);
		p->stats.dropped_bytes += len - room;
	}
	start_write(p);
	return len;
}

/* Input. */

const u8 *port_peek(const struct port *p, size_t *len)
{
	*len = p->in_len - p->in_pos;
	return p->in + p->in_pos;
}

void port_take(struct port *p, size_t len)
{
	p->in_pos += len;
	p->stats.in_bytes += len;
	start_read(p);
}

static void read_polled(struct loop_op *op, int res)
{
	struct port *p = container_of(op, struct port, read_op);

	(void)res;
	if (p->closing)
		return;
	if (p->connected)
		start_read(p);
	else
		gone(p);
}

static void was_read(struct loop_op *op, int res)
{
	struct port *p = container_of(op, struct port, read_op);

	if (p->closing)
		return;
	if (res > 0) {
		p->in_pos = 0;
		p->in_len = res;
		p->front.readable(p->front.arg);
	}
	if (!p->connected) {
		gone(p);
		return;
	}
	if (res == -EAGAIN) {
		op->done = read_polled;
		loop_poll(op, p->host.in, POLLIN);
	} else if (res > 0 || res == -EINTR) {
		start_read(p);
	} else {
		gone(p);
	}
}

static void start_read(struct port *p)
{
	if (p->read_op.busy || !p->connected || !p->wanted || p->closing ||
	    p->host.in < 0 || p->in_pos < p->in_len)
		return;
	p->read_op.done = was_read;
	loop_read(&p->read_op, p->host.in, p->in, sizeof(p->in));
}

void port_want(struct port *p, bool wanted)
{
	p->wanted = wanted;
	if (wanted && p->in_pos < p->in_len)
		p->front.readable(p->front.arg);
	start_read(p);
}

/* From nothing, and back. */

void port_init(struct port *p, const struct port_options *opt)
{
	memset(p, 0, sizeof(*p));
	p->opt = opt;
	p->accept_op.done = accepted;
	p->timer_op.done = look_at_pty;
	console_host_init(&p->host);
}

/* The loop runs. */
int port_open(struct port *p, const struct port_front *front)
{
	int ret;

	p->front = *front;
	ret = console_host_open(&p->host, "--port", p->opt->kind, p->opt->path);
	if (ret)
		return ret;
	switch (p->opt->kind) {
	case CONSOLE_SOCKET:
		return loop_accept(&p->accept_op, p->host.sock.fd);
	case CONSOLE_PTY:
		return loop_timer(&p->timer_op, PTY_POLL_MS);
	case CONSOLE_CONTROL:
		return 0;
	default:
		arrived(p);
		return 0;
	}
}

/* After this only loop_fini() follows. */
void port_close(struct port *p)
{
	p->closing = true;
	loop_cancel(&p->read_op);
	loop_cancel(&p->write_op);
	loop_cancel(&p->accept_op);
	loop_cancel(&p->timer_op);
	console_host_close(&p->host);
}

/*
 * Bytes that have left one side and not reached the other; those of a write
 * that is under way have.
 */
void port_save(const struct port *p, struct state *st, const char *prefix)
{
	u32 len = p->head - p->tail - p->writing;
	u32 start = (p->tail + p->writing) & OUT_MASK;
	u8 out[PORT_OUT_SIZE];
	char name[48];
	u32 first = PORT_OUT_SIZE - start;

	if (first > len)
		first = len;
	memcpy(out, p->out + start, first);
	memcpy(out + first, p->out, len - first);
	snprintf(name, sizeof(name), "%s.in", prefix);
	state_put(st, name, p->in + p->in_pos, p->in_len - p->in_pos);
	snprintf(name, sizeof(name), "%s.out", prefix);
	state_put(st, name, out, len);
}

int port_load(struct port *p, const struct state_section *sec,
	      const char *prefix)
{
	size_t in, out;
	char name[48];

	if (p->read_op.busy || p->write_op.busy)
		return -EBUSY;
	snprintf(name, sizeof(name), "%s.in", prefix);
	if (state_get(sec, name, p->in, sizeof(p->in), &in))
		return -EBADMSG;
	snprintf(name, sizeof(name), "%s.out", prefix);
	if (state_get(sec, name, p->out, sizeof(p->out), &out))
		return -EBADMSG;
	p->in_pos = 0;
	p->in_len = in;
	p->tail = 0;
	p->head = out;
	return 0;
}
