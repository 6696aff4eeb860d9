// SPDX-License-Identifier: GPL-2.0
/*
 * The two byte queues between the guest's serial port and the host.
 *  1. Output: vCPU threads put bytes into a ring, the event loop writes them
 *     out.  A full ring makes the vCPU wait, so a slow reader loses nothing;
 *     where nobody is connected the ring keeps the newest bytes instead.
 *  2. Input: read when all earlier input is with the guest; what the serial
 *     port has no room for waits here until it calls console_room().
 *  3. Connections come and go: sockets accept again, a pseudo-terminal is
 *     looked at a few times a second.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"

#define RING_SIZE	(16 * 1024)
#define RING_MASK	(RING_SIZE - 1)
#define WAKE_AT		(4 * 1024)	/* bytes that do not wait for more */
#define RESERVE		(4 * 1024)	/* for those that may not wait */
#define RAW_SIZE	1024
#define IN_SIZE		(2 * RAW_SIZE)	/* an escape gives up to two bytes */
#define PTY_POLL_MS	200

struct console {
	struct console_guest guest;	/* [c] */
	struct console_host host;	/* [m] */

	pthread_mutex_t lock;
	pthread_cond_t room;
	u32 head, tail;			/* [l] lock; free-running */
	bool lossy;			/* [l] nobody there: keep the newest */
	bool abandoned;			/* [l] nobody will come: drop all */
	bool yields;			/* [l] nobody may wait */

	bool closing;			/* [m] */
	bool hangup;			/* [m] the client has gone */
	bool break_due;			/* [m] */
	atomic_bool waiting;		/* [a] input waits for the guest */
	bool registered;		/* [m] */
	struct control_source source;	/* [m] */
	struct escape escape;		/* [m] */
	u32 in_pos, in_len;		/* [m] */
	struct loop_op read_op;		/* [m] */
	struct loop_op write_op;	/* [m] */
	struct loop_op accept_op;	/* [m] */
	struct loop_op timer_op;	/* [m] */
	u8 raw[RAW_SIZE];		/* [m] as read */
	u8 in[IN_SIZE];			/* [m] for the guest */
	u8 ring[RING_SIZE];		/* [l] lock; what a write reads is fixed */
};

static void start_read(struct console *con);
static void start_write(struct console *con);

static void set_lossy(struct console *con, bool lossy)
{
	pthread_mutex_lock(&con->lock);
	con->lossy = lossy;
	pthread_cond_broadcast(&con->room);
	pthread_mutex_unlock(&con->lock);
}

static bool must_wait(const struct console *con)
{
	return con->head - con->tail >= RING_SIZE - RESERVE && !con->lossy &&
	       !con->abandoned && !con->yields;
}

/* In a vCPU's thread. */
void console_put(struct console *con, u8 byte)
{
	bool waits = false;
	u32 used;

	pthread_mutex_lock(&con->lock);
	while (must_wait(con)) {
		if (!waits)
			con->guest.waits(con->guest.arg, true);
		waits = true;
		loop_wake();
		pthread_cond_wait(&con->room, &con->lock);
	}
	if (waits)
		con->guest.waits(con->guest.arg, false);
	if (con->abandoned ||
	    (con->yields && con->head - con->tail == RING_SIZE)) {
		pthread_mutex_unlock(&con->lock);
		return;
	}
	if (con->head - con->tail == RING_SIZE)
		con->tail++;
	con->ring[con->head++ & RING_MASK] = byte;
	used = con->head - con->tail;
	pthread_mutex_unlock(&con->lock);

	/* A line a wake-up, not a byte: the guest sends byte by byte. */
	if (used == 1)
		loop_wake_soon();
	else if (used == WAKE_AT)
		loop_wake();
}

/* In a vCPU's thread: the serial port's receiver has become empty. */
void console_room(struct console *con)
{
	if (atomic_load(&con->waiting))
		loop_wake();
}

bool console_drained(struct console *con)
{
	bool drained;

	pthread_mutex_lock(&con->lock);
	drained = con->head == con->tail || con->lossy || con->abandoned;
	pthread_mutex_unlock(&con->lock);
	return drained;
}

/* Nothing more will be delivered; who waits to put something is let go. */
void console_abandon(struct console *con)
{
	pthread_mutex_lock(&con->lock);
	con->abandoned = true;
	pthread_cond_broadcast(&con->room);
	pthread_mutex_unlock(&con->lock);
}

/* Who waits goes on, and nobody waits until this is taken back. */
void console_yield(struct console *con, bool yield)
{
	pthread_mutex_lock(&con->lock);
	con->yields = yield;
	pthread_cond_broadcast(&con->room);
	pthread_mutex_unlock(&con->lock);
}

/* Connections. */

static void connected(struct console *con, int fd)
{
	con->host.in = fd;
	con->host.out = fd;
	con->escape.armed = false;
	set_lossy(con, false);
	start_read(con);
	start_write(con);
}

/* A client that came in by the control socket. */
static int attach(void *arg, int fd)
{
	struct console *con = arg;

	if (con->host.kind != CONSOLE_CONTROL)
		return -EOPNOTSUPP;
	if (con->host.in >= 0 || con->closing)
		return -EBUSY;
	if (fd >= 0)
		connected(con, fd);
	return 0;
}

static json_t *status(void *arg)
{
	static const char * const kinds[] = {
		[CONSOLE_STDIO] = "stdio", [CONSOLE_PTY] = "pty",
		[CONSOLE_FILE] = "file", [CONSOLE_SOCKET] = "socket",
		[CONSOLE_CONTROL] = "control", [CONSOLE_NONE] = "none",
	};
	struct console *con = arg;

	return json_pack("{s:s, s:s*, s:b}", "kind", kinds[con->host.kind],
			 "path", con->host.kind == CONSOLE_PTY ? con->host.pty :
				 con->host.path,
			 "connected", con->host.out >= 0 && !con->hangup);
}

/* After console_open(). */
void console_register(struct console *con, const char *name)
{
	con->source.kind = "console";
	con->source.name = name;
	con->source.arg = con;
	con->source.status = status;
	con->source.attach = attach;
	control_add(&con->source);
	con->registered = true;
}

static void accepted(struct loop_op *op, int res)
{
	struct console *con = container_of(op, struct console, accept_op);

	if (con->closing) {
		if (res >= 0)
			close(res);
		return;
	}
	if (res < 0) {
		loop_accept(op, con->host.sock.fd);
		return;
	}
	connected(con, res);
}

static void look_at_pty(struct loop_op *op, int res)
{
	struct console *con = container_of(op, struct console, timer_op);

	(void)res;
	if (con->closing)
		return;
	if (console_host_waits(&con->host)) {
		loop_timer(op, PTY_POLL_MS);
		return;
	}
	con->hangup = false;
	set_lossy(con, false);
	start_read(con);
	start_write(con);
}

static bool has_clients(const struct console *con)
{
	return con->host.kind == CONSOLE_SOCKET ||
	       con->host.kind == CONSOLE_CONTROL;
}

/* Waits for the next client once no operation uses the old one. */
static void disconnected(struct console *con)
{
	con->hangup = true;
	set_lossy(con, true);
	if (con->read_op.busy || con->write_op.busy) {
		loop_cancel(&con->read_op);
		loop_cancel(&con->write_op);
		return;
	}
	if (con->closing)
		return;
	if (has_clients(con)) {
		close(con->host.out);
		con->host.in = -1;
		con->host.out = -1;
		con->hangup = false;
		if (con->host.kind == CONSOLE_SOCKET)
			loop_accept(&con->accept_op, con->host.sock.fd);
	} else if (con->host.kind == CONSOLE_PTY) {
		loop_timer(&con->timer_op, PTY_POLL_MS);
	}
}

static bool can_reconnect(const struct console *con)
{
	return has_clients(con) || con->host.kind == CONSOLE_PTY;
}

/* Output. */

static void write_polled(struct loop_op *op, int res)
{
	struct console *con = container_of(op, struct console, write_op);

	(void)res;
	if (con->closing)
		return;
	if (con->hangup)
		disconnected(con);
	else
		start_write(con);
}

static void write_failed(struct console *con, int err)
{
	if (can_reconnect(con)) {
		disconnected(con);
		return;
	}
	/* A reader that went away is its own decision; a full disk is news. */
	if (err != -EPIPE)
		fail(err, "--console: output is lost from here on: %s",
		     strerror(-err));
	con->host.out = -1;
	console_abandon(con);
	con->guest.drained(con->guest.arg);
}

static void written(struct loop_op *op, int res)
{
	struct console *con = container_of(op, struct console, write_op);

	if (res > 0) {
		pthread_mutex_lock(&con->lock);
		con->tail += res;
		pthread_cond_broadcast(&con->room);
		pthread_mutex_unlock(&con->lock);
	}
	if (con->closing)
		return;
	if (con->hangup) {
		disconnected(con);
		return;
	}
	if (res == -EAGAIN) {
		/* Somebody made the descriptor non-blocking. */
		op->done = write_polled;
		if (loop_poll(op, con->host.out, POLLOUT))
			write_failed(con, -EIO);
		return;
	}
	if (res < 0 && res != -EINTR) {
		write_failed(con, res);
		return;
	}
	start_write(con);
	if (!op->busy)
		con->guest.drained(con->guest.arg);
}

static void start_write(struct console *con)
{
	u32 start, len;

	if (con->write_op.busy || con->host.out < 0 || con->hangup)
		return;
	pthread_mutex_lock(&con->lock);
	start = con->tail & RING_MASK;
	len = con->head - con->tail;
	if (con->abandoned)
		len = 0;
	pthread_mutex_unlock(&con->lock);
	if (!len)
		return;
	if (len > RING_SIZE - start)
		len = RING_SIZE - start;
	con->write_op.done = written;
	if (loop_write(&con->write_op, con->host.out, con->ring + start, len))
		write_failed(con, -EIO);
}

/* Input. */

static void help(void)
{
	note("Ctrl-A x quits, Ctrl-A b sends a break (SysRq), Ctrl-A a sends Ctrl-A");
}

/* The read bytes become the guest's; false if the user has quit. */
static bool take_raw(struct console *con, u32 len)
{
	size_t n;
	u32 i;

	con->in_pos = 0;
	con->in_len = 0;
	if (!con->host.escape) {
		memcpy(con->in, con->raw, len);
		con->in_len = len;
		return true;
	}
	for (i = 0; i < len; i++) {
		switch (escape_feed(&con->escape, con->raw[i],
				    con->in + con->in_len, &n)) {
		case ESCAPE_NONE:
			con->in_len += n;
			break;
		case ESCAPE_BREAK:
			con->break_due = true;
			break;
		case ESCAPE_HELP:
			help();
			break;
		case ESCAPE_QUIT:
			con->guest.quit(con->guest.arg);
			return false;
		}
	}
	return true;
}

/* Gives the guest what it has room for; true if all of it. */
static bool deliver(struct console *con)
{
	/* Before the attempt, so that room made meanwhile is announced. */
	atomic_store(&con->waiting, true);
	if (con->break_due && con->guest.send_break(con->guest.arg))
		con->break_due = false;
	if (!con->break_due)
		con->in_pos += con->guest.receive(con->guest.arg,
						  con->in + con->in_pos,
						  con->in_len - con->in_pos);
	if (con->break_due || con->in_pos < con->in_len)
		return false;
	atomic_store(&con->waiting, false);
	return true;
}

static void read_polled(struct loop_op *op, int res)
{
	struct console *con = container_of(op, struct console, read_op);

	(void)res;
	if (con->closing)
		return;
	if (con->hangup)
		disconnected(con);
	else
		start_read(con);
}

static void was_read(struct loop_op *op, int res)
{
	struct console *con = container_of(op, struct console, read_op);

	if (con->closing)
		return;
	if (con->hangup) {
		disconnected(con);
		return;
	}
	if (res == -EAGAIN) {
		op->done = read_polled;
		loop_poll(op, con->host.in, POLLIN);
		return;
	}
	if (res == -EINTR) {
		start_read(con);
		return;
	}
	if (res <= 0) {
		/* The end of input is not the end of the guest. */
		if (can_reconnect(con))
			disconnected(con);
		else
			con->host.in = -1;
		return;
	}
	if (take_raw(con, res) && deliver(con))
		start_read(con);
}

static void start_read(struct console *con)
{
	if (con->read_op.busy || con->host.in < 0 || con->hangup ||
	    atomic_load(&con->waiting))
		return;
	con->read_op.done = was_read;
	loop_read(&con->read_op, con->host.in, con->raw, sizeof(con->raw));
}

/* On the main thread, after loop_wake(). */
void console_service(struct console *con)
{
	if (con->closing)
		return;
	start_write(con);
	if (atomic_load(&con->waiting) && deliver(con))
		start_read(con);
}

struct console *console_create(const struct console_guest *guest)
{
	struct console *con = calloc(1, sizeof(*con));

	if (!con)
		return NULL;
	con->guest = *guest;
	con->accept_op.done = accepted;
	con->timer_op.done = look_at_pty;
	pthread_mutex_init(&con->lock, NULL);
	pthread_cond_init(&con->room, NULL);
	return con;
}

int console_open(struct console *con, enum console_kind kind, const char *path)
{
	int ret = console_host_open(&con->host, "--console", kind, path);

	if (ret)
		return ret;
	switch (kind) {
	case CONSOLE_SOCKET:
		con->lossy = true;
		return loop_accept(&con->accept_op, con->host.sock.fd);
	case CONSOLE_CONTROL:
		con->lossy = true;
		return 0;
	case CONSOLE_PTY:
		con->lossy = true;
		con->hangup = true;
		return loop_timer(&con->timer_op, PTY_POLL_MS);
	case CONSOLE_NONE:
		con->abandoned = true;
		return 0;
	default:
		start_read(con);
		return 0;
	}
}

/* After this only loop_fini() and console_destroy() follow. */
void console_close(struct console *con)
{
	con->closing = true;
	if (con->registered)
		control_remove(&con->source);
	loop_cancel(&con->read_op);
	loop_cancel(&con->write_op);
	loop_cancel(&con->accept_op);
	loop_cancel(&con->timer_op);
	if (has_clients(con) && con->host.out >= 0) {
		close(con->host.out);
		con->host.out = -1;
	}
	console_host_close(&con->host);
}

void console_destroy(struct console *con)
{
	pthread_cond_destroy(&con->room);
	pthread_mutex_destroy(&con->lock);
	free(con);
}
