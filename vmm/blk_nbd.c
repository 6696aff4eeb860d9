// SPDX-License-Identifier: GPL-2.0
/*
 * A disk on an NBD server, by libnbd's asynchronous calls.
 *  1. Requests: each is one command at a time; a request of several pieces of
 *     memory goes through a bounce buffer.  libnbd's callbacks only note what
 *     came of a command, since they must not call libnbd; the loop's end of
 *     turn does the rest.
 *  2. The link: when the server goes away, what was with it is held and
 *     started anew when it is back; the guest sees a slow disk.  A server
 *     that comes back with a smaller disk is not taken for the same.
 *  3. A link that is given up from this side: where the server takes several
 *     clients, the connection stays until there is another, since a server may
 *     end with its last client (qemu-nbd without -t, behind an overlay).
 *
 *         DOWN --timer--> CONNECTING --ready--> UP
 *          ^------------------'------ lost -----'
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "blk.h"
#include "nbd_lib.h"

#define OPEN_MS		10000		/* the server may take that long */
#define BACKOFF_MIN_MS	50
#define BACKOFF_MAX_MS	2000
#define HURRY_MS	3000		/* then unanswered commands are given up */
#define PIECE_MAX	(32 * MIB)	/* every server takes that */
#define RANGE_MAX	GIB		/* commands without data */
/* A dead host is noticed after 10 + 3 * 5 seconds of silence. */
#define KEEP_IDLE_S	10
#define KEEP_INTERVAL_S	5
#define KEEP_COUNT	3

enum link { DOWN, CONNECTING, UP };

struct nbd {
	struct blk *blk;
	const struct nbd_lib *lib;
	struct nbd_handle *handle;
	enum link link;
	bool attached;
	bool dying;			/* freed when its operations have ended */
	bool can_flush, can_zero, can_multi;
	bool gone;			/* that the server is was said */
	bool refused;			/* and that the disk is smaller */
	u32 piece_max;
	u32 backoff_ms;
	u64 deadline;			/* of CONNECTING, or of a hurry; ms */
	struct blk_req *answered;	/* their commands have ended */
	struct blk_req **answered_tail;
	struct loop_task task;
	struct loop_op timer_op;
	struct loop_op poll_op;
	u32 polled;
	int last_fd;			/* the connection before, or -1 */
};

static void next_piece(struct nbd *nbd, struct blk_req *req);

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

static void set_timer(struct nbd *nbd, u32 ms)
{
	nbd->deadline = now_ms() + ms;
	/* One that runs would come too late, or too early, and starts anew. */
	if (nbd->timer_op.busy)
		loop_cancel(&nbd->timer_op);
	else
		loop_timer(&nbd->timer_op, ms);
}

/* Requests. */

/* libnbd's: the command's result. */
static int command_done(void *arg, int *error)
{
	struct blk_req *req = arg;

	req->err = -*error;
	return 1;
}

/* libnbd's: the command is no more, with a result or without. */
static void command_gone(void *arg)
{
	struct blk_req *req = arg;
	struct nbd *nbd = req->blk->data;

	req->next = NULL;
	*nbd->answered_tail = req;
	nbd->answered_tail = &req->next;
	loop_defer(&nbd->task);
}

static bool is_dead(const struct nbd *nbd)
{
	return nbd->lib->aio_is_dead(nbd->handle) ||
	       nbd->lib->aio_is_closed(nbd->handle);
}

static void issue(struct nbd *nbd, struct blk_req *req)
{
	const struct nbd_lib *lib = nbd->lib;
	nbd_completion_callback cb = {
		.callback = command_done, .user_data = req, .free = command_gone,
	};
	void *data = req->bounce ? req->bounce->data :
		     req->nr_iov ? req->iov->iov_base : NULL;
	u32 fua = req->flags & BLK_DURABLE && nbd->blk->durable ?
		  LIBNBD_CMD_FLAG_FUA : 0;
	s64 ret;

	/* Unless the command says otherwise: it never had an answer. */
	req->err = -ENOTCONN;
	switch (blk_req_op(req)) {
	case BLK_READ:
		ret = lib->aio_pread(nbd->handle, data, req->piece, req->pos,
				     cb, 0);
		break;
	case BLK_WRITE:
		ret = lib->aio_pwrite(nbd->handle, data, req->piece, req->pos,
				      cb, fua);
		break;
	case BLK_FLUSH:
		ret = lib->aio_flush(nbd->handle, cb, 0);
		break;
	case BLK_DISCARD:
		ret = lib->aio_trim(nbd->handle, req->piece, req->pos, cb, 0);
		break;
	default:
		if (req->bounce)
			ret = lib->aio_pwrite(nbd->handle, data, req->piece,
					      req->pos, cb, fua);
		else
			ret = lib->aio_zero(nbd->handle, req->piece, req->pos,
					    cb, req->flags & BLK_UNMAP ?
					    0 : LIBNBD_CMD_FLAG_NO_HOLE);
		break;
	}
	if (ret < 0 && !is_dead(nbd) && lib->get_errno())
		req->err = -lib->get_errno();
	loop_defer(&nbd->task);
}

static bool wants_bounce(const struct nbd *nbd, const struct blk_req *req)
{
	switch (blk_req_op(req)) {
	case BLK_READ:
	case BLK_WRITE:
		return req->nr_iov > 1;
	case BLK_ZERO:
		return !nbd->can_zero;
	default:
		return false;
	}
}

static void next_piece(struct nbd *nbd, struct blk_req *req)
{
	u32 most = nbd->piece_max;
	int ret;

	if (!req->bounce && wants_bounce(nbd, req)) {
		ret = blk_bounce_get(req);
		if (ret == -EAGAIN)
			blk_hold(req, BLK_GATE_BUFFER);
		else if (ret)
			blk_done(req, ret);
		if (ret)
			return;
	}
	if (req->bounce && most > BLK_BOUNCE_LEN)
		most = BLK_BOUNCE_LEN;
	else if (!req->nr_iov)
		most = RANGE_MAX;
	req->piece = req->len < most ? req->len : most;
	if (req->bounce && req->op == BLK_WRITE)
		blk_gather(req, req->bounce->data, req->piece);
	else if (req->bounce && req->op == BLK_ZERO)
		memset(req->bounce->data, 0, req->piece);
	issue(nbd, req);
}

static void nbd_start(struct blk *blk, struct blk_req *req)
{
	struct nbd *nbd = blk->data;

	if (nbd->link != UP)
		blk_hold(req, BLK_GATE_LINK);
	else if (blk_req_op(req) == BLK_FLUSH && !nbd->can_flush)
		blk_done(req, 0);
	else
		next_piece(nbd, req);
}

/* A command has been answered without an error. */
static void moved(struct nbd *nbd, struct blk_req *req)
{
	if (blk_req_op(req) == BLK_FLUSH) {
		blk_done(req, 0);
		return;
	}
	if (req->op == BLK_READ && req->bounce)
		blk_scatter(req, req->bounce->data, req->piece);
	if (req->nr_iov) {
		blk_advance(req, req->piece);
	} else {
		req->pos += req->piece;
		req->len -= req->piece;
	}
	if (!req->len)
		blk_done(req, 0);
	else if (nbd->link == UP)
		next_piece(nbd, req);
	else
		blk_hold(req, BLK_GATE_LINK);
}

/* The link's end, or the server's announcement of it, is no result. */
static bool is_loss(int err)
{
	return err == -ENOTCONN || err == -ESHUTDOWN;
}

static void lost(struct nbd *nbd);

static void take_answers(struct nbd *nbd)
{
	bool over = false;
	struct blk_req *req;

	while (nbd->answered) {
		req = nbd->answered;
		nbd->answered = req->next;
		if (!nbd->answered)
			nbd->answered_tail = &nbd->answered;
		if (!req->err) {
			moved(nbd, req);
		} else if (nbd->link != UP || is_loss(req->err)) {
			over = true;
			blk_hold(req, BLK_GATE_LINK);
		} else {
			blk_done(req, req->err);
		}
	}
	if (over && nbd->link == UP)
		lost(nbd);
}

/* The link. */

static void disconnect(struct nbd *nbd)
{
	nbd->link = DOWN;
	blk_gate_shut(nbd->blk, BLK_GATE_LINK);
	if (nbd->poll_op.busy)
		loop_cancel(&nbd->poll_op);
	/* Hands all its commands to command_gone(). */
	nbd->lib->close(nbd->handle);
	nbd->handle = NULL;
	take_answers(nbd);
	if (nbd->attached)
		set_timer(nbd, nbd->backoff_ms);
	nbd->backoff_ms = nbd->backoff_ms * 2 < BACKOFF_MAX_MS ?
			  nbd->backoff_ms * 2 : BACKOFF_MAX_MS;
}

static void lost(struct nbd *nbd)
{
	if (!nbd->gone)
		note("%s '%s': the server has gone: the disk waits until it is back",
		     nbd->blk->label, nbd->blk->path);
	nbd->gone = true;
	disconnect(nbd);
}

/* The server sees a client that says nothing more, and reads nothing. */
static void keep_connection(struct nbd *nbd)
{
	int fd = nbd->lib->aio_get_fd(nbd->handle);

	if (nbd->can_multi && nbd->last_fd < 0)
		nbd->last_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static void drop_connection(struct nbd *nbd)
{
	if (nbd->last_fd >= 0)
		close(nbd->last_fd);
	nbd->last_fd = -1;
}

/* Nothing is wrong with the server, as far as one can tell. */
static void leave(struct nbd *nbd)
{
	keep_connection(nbd);
	disconnect(nbd);
}

/* So that a host that is gone without a word is noticed. */
static void keep_alive(int fd)
{
	static const struct {
		int level, name, value;
	} set[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT,
		  (KEEP_IDLE_S + KEEP_INTERVAL_S * KEEP_COUNT) * 1000 },
	};
	unsigned int i;

	/* Unix sockets have none of it, and need none. */
	for (i = 0; i < ARRAY_SIZE(set); i++)
		setsockopt(fd, set[i].level, set[i].name, &set[i].value,
			   sizeof(set[i].value));
}

/* What the server's disk is like; the size is the caller's matter. */
static void take_geometry(struct nbd *nbd)
{
	const struct nbd_lib *lib = nbd->lib;
	struct blk *blk = nbd->blk;
	s64 least = lib->get_block_size(nbd->handle, LIBNBD_SIZE_MINIMUM);
	s64 best = lib->get_block_size(nbd->handle, LIBNBD_SIZE_PREFERRED);
	s64 most = lib->get_block_size(nbd->handle, LIBNBD_SIZE_MAXIMUM);

	blk->block = least > BLK_SECTOR ? least : BLK_SECTOR;
	blk->physical = best > 0 && best <= 64 * (s64)KIB ? best : 4096;
	blk->discard_block = blk->physical;
	nbd->piece_max = most >= (s64)BLK_SECTOR && most < (s64)PIECE_MAX ?
			 ALIGN_DOWN(most, blk->block) : PIECE_MAX;
	nbd->can_flush = lib->can_flush(nbd->handle) > 0;
	nbd->can_zero = lib->can_zero(nbd->handle) > 0;
	nbd->can_multi = lib->can_multi_conn(nbd->handle) > 0;
	blk->can_discard = lib->can_trim(nbd->handle) > 0;
	blk->durable = lib->can_fua(nbd->handle) > 0;
}

static void ready(struct nbd *nbd)
{
	struct blk *blk = nbd->blk;
	s64 size = nbd->lib->get_size(nbd->handle);
	u32 block = blk->block;

	keep_alive(nbd->lib->aio_get_fd(nbd->handle));
	if (size >= (s64)blk->size)
		take_geometry(nbd);
	if (size < (s64)blk->size || blk->block > block ||
	    (nbd->lib->is_read_only(nbd->handle) > 0 && !blk->readonly)) {
		if (!nbd->refused)
			note("%s '%s': the server is back with another disk (smaller, read-only or with larger blocks): the disk waits for its own",
			     blk->label, blk->path);
		nbd->refused = true;
		blk->block = block;
		lost(nbd);
		return;
	}
	blk->block = block;
	nbd->refused = false;
	nbd->backoff_ms = BACKOFF_MIN_MS;
	nbd->link = UP;
	drop_connection(nbd);
	if (nbd->gone)
		note("%s '%s': the server is back", blk->label, blk->path);
	nbd->gone = false;
	blk_resized(blk, size - size % blk->block);
	blk_gate_open(blk, BLK_GATE_LINK);
}

static int connect_start(struct nbd *nbd)
{
	nbd->handle = nbd->lib->create();
	if (!nbd->handle)
		return -ENOMEM;
	/* What a read that failed leaves in the guest's memory is its own. */
	nbd->lib->set_pread_initialize(nbd->handle, false);
	nbd->link = CONNECTING;
	return nbd->lib->aio_connect_uri(nbd->handle, nbd->blk->path);
}

static u32 wanted_events(const struct nbd *nbd)
{
	unsigned int dir = nbd->lib->aio_get_direction(nbd->handle);

	return (dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
	       (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
}

/* libnbd's own steps, as far as they go without waiting. */
static void notify(struct nbd *nbd, u32 events)
{
	u32 wanted = wanted_events(nbd);

	/* One of them: the other may be void after it. */
	if (events & wanted & POLLIN)
		nbd->lib->aio_notify_read(nbd->handle);
	else if (events & wanted & POLLOUT)
		nbd->lib->aio_notify_write(nbd->handle);
	else if (events & (POLLERR | POLLHUP))
		nbd->lib->aio_notify_read(nbd->handle);
}

static void watch(struct nbd *nbd)
{
	u32 events = wanted_events(nbd);

	if (nbd->poll_op.busy) {
		/* Its end comes back here. */
		if (events != nbd->polled)
			loop_cancel(&nbd->poll_op);
		return;
	}
	nbd->polled = events;
	if (loop_poll(&nbd->poll_op, nbd->lib->aio_get_fd(nbd->handle), events))
		loop_defer(&nbd->task);
}

/* At the end of a turn in which anything happened. */
static void service(struct loop_task *task)
{
	struct nbd *nbd = container_of(task, struct nbd, task);

	if (nbd->link == UP || nbd->link == CONNECTING) {
		if (is_dead(nbd))
			lost(nbd);
		else if (nbd->link == CONNECTING &&
			 nbd->lib->aio_is_ready(nbd->handle))
			ready(nbd);
	}
	take_answers(nbd);
	if (nbd->link != DOWN && nbd->attached)
		watch(nbd);
}

static bool reap(struct nbd *nbd)
{
	bool dead = nbd->dying && !nbd->poll_op.busy && !nbd->timer_op.busy;

	if (dead)
		free(nbd);
	return dead;
}

static void polled(struct loop_op *op, int res)
{
	struct nbd *nbd = container_of(op, struct nbd, poll_op);

	if (reap(nbd) || !nbd->attached || nbd->link == DOWN)
		return;
	if (res > 0)
		notify(nbd, res);
	loop_defer(&nbd->task);
}

static void timer_over(struct loop_op *op, int res)
{
	struct nbd *nbd = container_of(op, struct nbd, timer_op);
	u64 now = now_ms();

	(void)res;
	if (reap(nbd) || !nbd->attached)
		return;
	if (now < nbd->deadline) {
		loop_timer(op, nbd->deadline - now);
		return;
	}
	if (nbd->link == DOWN) {
		set_timer(nbd, OPEN_MS);
		if (connect_start(nbd))
			lost(nbd);
		else
			loop_defer(&nbd->task);
	} else if (nbd->link == CONNECTING) {
		lost(nbd);
	} else if (nbd->blk->stopping && nbd->blk->started) {
		leave(nbd);
	}
}

static void nbd_hurry(struct blk *blk)
{
	struct nbd *nbd = blk->data;

	if (nbd->link == UP)
		set_timer(nbd, HURRY_MS);
}

/* Opening: the one time that is waited for the server. */

static int connect_wait(struct nbd *nbd)
{
	const struct nbd_lib *lib = nbd->lib;
	u64 end = now_ms() + OPEN_MS, now;

	if (connect_start(nbd))
		return -ENOTCONN;
	while (!lib->aio_is_ready(nbd->handle)) {
		struct pollfd pfd = { .fd = lib->aio_get_fd(nbd->handle) };

		if (is_dead(nbd))
			return -ENOTCONN;
		pfd.events = wanted_events(nbd);
		now = now_ms();
		if (now >= end || !poll(&pfd, 1, end - now))
			return -ETIMEDOUT;
		notify(nbd, pfd.revents);
	}
	return 0;
}

static int explain_open(const struct nbd *nbd, int err)
{
	const char *why = err == -ETIMEDOUT ? "the server does not answer" :
					      nbd->lib->get_error();
	const char *colon;

	/* "nbd_connect_uri: connect: reason": the rest is for programmers. */
	while (why && (colon = strstr(why, ": ")) && err != -ETIMEDOUT)
		why = colon + 2;
	return fail(err, "--disk: '%s': %s: start the server, or name another",
		    nbd->blk->path, why ? why : "cannot connect");
}

static int nbd_open(struct blk *blk)
{
	struct nbd *nbd = calloc(1, sizeof(*nbd));
	s64 size;
	int ret;

	if (!nbd)
		return fail(-ENOMEM, "out of memory");
	nbd->blk = blk;
	nbd->last_fd = -1;
	nbd->task.run = service;
	nbd->poll_op.done = polled;
	nbd->timer_op.done = timer_over;
	nbd->answered_tail = &nbd->answered;
	blk->data = nbd;
	ret = -ENOENT;
	nbd->lib = nbd_lib_load(blk->path);
	if (!nbd->lib)
		goto free;
	ret = connect_wait(nbd);
	if (ret) {
		explain_open(nbd, ret);
		goto close;
	}
	keep_alive(nbd->lib->aio_get_fd(nbd->handle));
	take_geometry(nbd);
	size = nbd->lib->get_size(nbd->handle);
	ret = -EINVAL;
	if (size < (s64)blk->block) {
		fail(ret, "--disk: '%s': it is empty: make the server's disk larger",
		     blk->path);
		goto close;
	}
	if (nbd->lib->is_read_only(nbd->handle) > 0 && !blk->readonly) {
		ret = fail(-EROFS, "--disk: '%s': the server offers it read-only: use readonly=on",
			   blk->path);
		goto close;
	}
	blk->size = size - size % blk->block;
	blk->direct = DISK_DIRECT_OFF;
	nbd->backoff_ms = BACKOFF_MIN_MS;
	nbd->link = UP;
	return 0;
close:
	if (nbd->handle)
		nbd->lib->close(nbd->handle);
free:
	free(nbd);
	blk->data = NULL;
	return ret;
}

static void nbd_close_disk(struct blk *blk)
{
	struct nbd *nbd = blk->data;

	if (nbd->handle)
		nbd->lib->close(nbd->handle);
	nbd->dying = true;
	reap(nbd);
	blk->data = NULL;
}

static void nbd_attach(struct blk *blk)
{
	struct nbd *nbd = blk->data;

	nbd->blk = blk;		/* it may have come from another by blk_switch() */
	nbd->attached = true;
	loop_defer(&nbd->task);
}

static void nbd_detach(struct blk *blk)
{
	struct nbd *nbd = blk->data;

	nbd->attached = false;
	if (nbd->handle)
		disconnect(nbd);
	nbd->link = DOWN;
	drop_connection(nbd);
	loop_undefer(&nbd->task);
	loop_cancel(&nbd->timer_op);
}

/* Servers tell their size when one connects. */
static int nbd_resize(struct blk *blk, u64 size)
{
	struct nbd *nbd = blk->data;

	if (size)
		return -EOPNOTSUPP;
	if (nbd->link == UP)
		leave(nbd);
	return 0;
}

const struct blk_kind blk_nbd = {
	.name = "nbd",
	.open = nbd_open,
	.close = nbd_close_disk,
	.attach = nbd_attach,
	.detach = nbd_detach,
	.start = nbd_start,
	.hurry = nbd_hurry,
	.resize = nbd_resize,
};
