// SPDX-License-Identifier: GPL-2.0
/*
 * The control socket: clients on the event loop.
 *  1. Sockets are polled by the ring and then read and written at once, never
 *     waiting: what a client holds here is its struct and its output.
 *  2. Nobody blocks anybody: a request has REQUEST_S to arrive, output has
 *     STALL_S to move, the longest idle client makes room for a new one, and
 *     listeners that do not listen are dropped (CONN_EVENTS_MAX).
 *  3. Events go to all who listen.
 *  4. At the end what is queued is sent as far as sockets take it.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "control_conn.h"

#define CLIENTS_MAX	16
#define BACKLOG		16
#define TICK_MS		1000
#define REQUEST_S	20
#define STALL_S		20
#define IDLE_S		300

struct client {
	struct control_conn conn;
	struct loop_op in_op;
	struct loop_op out_op;
	u32 polled;		/* what in_op waits for */
	int fd;			/* -1: gone, freed when nothing refers to it */
	s64 active;		/* when bytes moved last */
	s64 request;		/* when the request at work began */
	struct client *next;
};

static struct {
	struct usock sock;
	struct loop_op accept_op;
	struct loop_op tick_op;
	struct client *clients;
	unsigned int nr;	/* with a descriptor */
	u64 sequence;		/* of events */
	bool open;
} control;

static s64 now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Clients. */

static void unlink_client(struct client *c)
{
	struct client **p = &control.clients;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	conn_free(&c->conn);
	free(c);
}

/* Frees it once no operation and no command refers to it. */
static void drop(struct client *c)
{
	if (c->fd >= 0) {
		/* The poll must end even if the kernel still has the file. */
		shutdown(c->fd, SHUT_RDWR);
		close(c->fd);
		c->fd = -1;
		control.nr--;
	}
	c->conn.broken = true;
	loop_cancel(&c->in_op);
	loop_cancel(&c->out_op);
	if (!c->in_op.busy && !c->out_op.busy && !c->conn.calling)
		unlink_client(c);
}

/* The descriptor becomes the console's; true when that is settled. */
static bool hand_over(struct client *c)
{
	struct control_source *src = c->conn.upgrade;

	if (c->in_op.busy) {
		loop_cancel(&c->in_op);
		return false;
	}
	if (!src->attach(src->arg, c->fd)) {
		c->fd = -1;
		control.nr--;
	}
	return true;
}

/* False if the client cannot be written to any more. */
static bool flush(struct client *c)
{
	ssize_t n;

	while (c->conn.out_len) {
		n = send(c->fd, c->conn.out, c->conn.out_len,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		c->active = now_s();
		conn_sent(&c->conn, n);
	}
	return true;
}

static void wait_output(struct client *c)
{
	if (c->conn.out_len && !c->out_op.busy)
		loop_poll(&c->out_op, c->fd, POLLOUT);
}

/* Even who has nothing to say may hang up. */
static void wait_input(struct client *c)
{
	u32 wanted = conn_room(&c->conn) ? POLLIN : 0;

	if (c->in_op.busy) {
		if (c->polled != wanted)
			loop_cancel(&c->in_op);
		return;
	}
	c->polled = wanted;
	loop_poll(&c->in_op, c->fd, wanted);
}

/* Whatever has happened to a client, this does what follows from it. */
static void step(struct client *c)
{
	if (c->fd < 0 || !flush(c) || conn_finished(&c->conn)) {
		drop(c);
		return;
	}
	if (c->conn.upgrade && !c->conn.out_len) {
		if (hand_over(c))
			drop(c);
		return;
	}
	wait_output(c);
	wait_input(c);
}

static void read_some(struct client *c)
{
	char buf[CONN_IN];
	size_t room = conn_room(&c->conn);
	bool before = conn_in_request(&c->conn);
	ssize_t n;

	if (!room)
		return;
	n = recv(c->fd, buf, room, MSG_DONTWAIT);
	if (n > 0) {
		c->active = now_s();
		if (!before)
			c->request = c->active;
		conn_input(&c->conn, buf, n);
	} else if (!n) {
		conn_eof(&c->conn);
	} else if (errno != EAGAIN && errno != EINTR) {
		c->conn.broken = true;
	}
}

static void input_ready(struct loop_op *op, int res)
{
	struct client *c = container_of(op, struct client, in_op);

	if (c->fd >= 0 && res > 0) {
		/* Hung up: what it sent before is answered to nobody. */
		if (res & (POLLERR | POLLHUP) && !(res & POLLIN))
			c->conn.broken = true;
		else
			read_some(c);
	}
	step(c);
}

static void output_ready(struct loop_op *op, int res)
{
	struct client *c = container_of(op, struct client, out_op);

	(void)res;
	step(c);
}

static void answered(struct control_conn *conn)
{
	struct client *c = container_of(conn, struct client, conn);

	if (c->fd >= 0)
		conn_input(conn, NULL, 0);
	step(c);
}

/* Room. */

static bool is_idle(const struct client *c)
{
	return c->fd >= 0 && !c->conn.calling && !c->conn.out_len &&
	       !c->conn.events && !conn_in_request(&c->conn);
}

/* The client that has said nothing for longest goes; false if none may. */
static bool make_room(void)
{
	struct client *c, *oldest = NULL;

	for (c = control.clients; c; c = c->next)
		if (is_idle(c) && (!oldest || c->active < oldest->active))
			oldest = c;
	if (oldest)
		drop(oldest);
	return oldest;
}

static bool too_slow(const struct client *c, s64 now)
{
	if (c->conn.out_len)
		return now - c->active > STALL_S;
	if (conn_in_request(&c->conn))
		return now - c->request > REQUEST_S;
	return is_idle(c) && now - c->active > IDLE_S;
}

static void tick(struct loop_op *op, int res)
{
	struct client *c, *next;
	s64 now = now_s();

	(void)res;
	if (!control.open)
		return;
	for (c = control.clients; c; c = next) {
		next = c->next;
		if (c->fd < 0 || !too_slow(c, now))
			continue;
		if (c->conn.out_len)
			c->conn.broken = true;
		else
			conn_timeout(&c->conn);
		step(c);
	}
	if (!control.accept_op.busy)
		loop_accept(&control.accept_op, control.sock.fd);
	if (control.clients)
		loop_timer(op, TICK_MS);
}

static void add_client(int fd)
{
	static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\n"
				   "Connection: close\r\n"
				   "Content-Length: 0\r\n\r\n";
	struct client *c = NULL;

	if (control.nr < CLIENTS_MAX || make_room())
		c = calloc(1, sizeof(*c));
	if (!c) {
		if (send(fd, busy, sizeof(busy) - 1,
			 MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			shutdown(fd, SHUT_WR);
		close(fd);
		return;
	}
	conn_init(&c->conn);
	c->fd = fd;
	c->in_op.done = input_ready;
	c->out_op.done = output_ready;
	c->active = now_s();
	c->next = control.clients;
	control.clients = c;
	control.nr++;
	step(c);
}

static void accepted(struct loop_op *op, int res)
{
	if (!control.open) {
		if (res >= 0)
			close(res);
		return;
	}
	if (res >= 0) {
		add_client(res);
		loop_accept(op, control.sock.fd);
	}
	/* Without a descriptor for it, the tick tries again. */
	if (!control.tick_op.busy)
		loop_timer(&control.tick_op, TICK_MS);
}

/* Events. */

static void tell_all(const char *type, json_t *event)
{
	struct client *c, *next;
	struct timespec ts;
	char *text = NULL;
	json_t *obj;

	clock_gettime(CLOCK_REALTIME, &ts);
	obj = json_pack("{s:s, s:I, s:f}", "event", type, "sequence",
			(json_int_t)++control.sequence, "time",
			ts.tv_sec + ts.tv_nsec / 1000000 / 1e3);
	if (obj && !json_object_update_missing(obj, event))
		text = json_dumps(obj, JSON_COMPACT | JSON_REAL_PRECISION(13));
	json_decref(obj);
	for (c = control.clients; text && c; c = next) {
		next = c->next;
		if (c->fd < 0 || !c->conn.events)
			continue;
		conn_event(&c->conn, type, text);
		step(c);
	}
	free(text);
}

/* The socket. */

int control_open(const char *option, const char *path)
{
	int ret = usock_listen(&control.sock, option, path, BACKLOG);

	if (ret)
		return ret;
	control.open = true;
	control.accept_op.done = accepted;
	control.tick_op.done = tick;
	control_event_sink = tell_all;
	conn_answered = answered;
	return loop_accept(&control.accept_op, control.sock.fd);
}

/* After this only loop_fini() and control_destroy() follow. */
void control_close(void)
{
	struct client *c, *next;

	if (!control.open)
		return;
	control.open = false;
	control_event_sink = NULL;
	loop_cancel(&control.accept_op);
	loop_cancel(&control.tick_op);
	for (c = control.clients; c; c = next) {
		next = c->next;
		if (c->fd >= 0)
			flush(c);
		drop(c);
	}
	usock_close(&control.sock);
}

/* Those whose commands nobody has answered. */
void control_destroy(void)
{
	while (control.clients)
		unlink_client(control.clients);
}
