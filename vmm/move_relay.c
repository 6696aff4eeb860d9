// SPDX-License-Identifier: GPL-2.0
/*
 * Between a connection by TLS and a machine's process that knows none.
 *  1. Bytes in both directions, each with a buffer of its own; an end is
 *     passed on as an end.
 *  2. A thread for each; who started them can wait for what they still hold.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "move_address.h"

#define BUFFER_LEN	(64 * KIB)

/* 1. */

struct way {
	struct migrate_io *from, *to;
	u8 *data;
	size_t at, len;
	bool ended;		/* nothing more will come */
	bool finished;		/* and that was passed on */
};

enum step { IDLE, MOVED, BROKEN };

static enum step fill(struct way *w)
{
	long n;

	if (w->len || w->ended)
		return IDLE;
	n = w->from->ops->read(w->from, w->data, BUFFER_LEN);
	if (n == -EAGAIN || n == -EINTR)
		return n == -EINTR ? MOVED : IDLE;
	if (n < 0)
		return BROKEN;
	w->ended = !n;
	w->at = 0;
	w->len = n;
	return MOVED;
}

static enum step drain(struct way *w)
{
	long n;

	if (!w->len) {
		if (!w->ended || w->finished)
			return IDLE;
		if (w->to->ops->finish)
			w->to->ops->finish(w->to);
		w->finished = true;
		return MOVED;
	}
	/* After -EAGAIN TLS wants the same bytes again: they stay. */
	n = w->to->ops->write(w->to, w->data + w->at, w->len);
	if (n == -EAGAIN || n == -EINTR)
		return n == -EINTR ? MOVED : IDLE;
	if (n < 0)
		return BROKEN;
	w->at += n;
	w->len -= n;
	return MOVED;
}

static void wait_for(struct way ways[2])
{
	struct migrate_io *io[2] = { ways[0].from, ways[1].from };
	struct pollfd pfd[2];
	short events;
	int i;

	for (i = 0; i < 2; i++) {
		pfd[i].fd = io[i]->ops->poll(io[i], false, &events);
		pfd[i].events = (!ways[i].len && !ways[i].ended ? POLLIN : 0) |
				(ways[!i].len ? POLLOUT : 0);
		/* One that is of no interest now would only say that it is gone. */
		if (!pfd[i].events)
			pfd[i].fd = -1;
	}
	poll(pfd, 2, -1);
}

void move_relay(struct migrate_io *a, struct migrate_io *b)
{
	struct way ways[2] = { { .from = a, .to = b }, { .from = b, .to = a } };
	enum step step = MOVED, one;
	int i;

	ways[0].data = malloc(2 * BUFFER_LEN);
	ways[1].data = ways[0].data + BUFFER_LEN;
	if (!ways[0].data)
		step = BROKEN;
	while (step != BROKEN && !(ways[0].finished && ways[1].finished)) {
		step = IDLE;
		for (i = 0; i < 2 && step != BROKEN; i++) {
			one = fill(&ways[i]);
			step = one > step ? one : step;
			one = step == BROKEN ? step : drain(&ways[i]);
			step = one > step ? one : step;
		}
		if (step == IDLE)
			wait_for(ways);
	}
	free(ways[0].data);
	a->ops->close(a);
	b->ops->close(b);
}

/* 2. */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t end;
	unsigned int nr;	/* [l] lock */
} relays = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };

struct relay {
	struct migrate_io *far, *near;
};

static void *run(void *arg)
{
	struct relay *r = arg;

	move_relay(r->far, r->near);
	free(r);
	pthread_mutex_lock(&relays.lock);
	relays.nr--;
	pthread_cond_broadcast(&relays.end);
	pthread_mutex_unlock(&relays.lock);
	return NULL;
}

/* @near is the machine's side; both are taken. */
static int start(struct migrate_io *far, int near)
{
	struct relay *r = malloc(sizeof(*r));
	pthread_t thread;
	int err = -ENOMEM;

	if (!r) {
		close(near);
		goto far;
	}
	r->far = far;
	r->near = migrate_io_fd(near);
	if (!r->near)
		goto far;
	pthread_mutex_lock(&relays.lock);
	relays.nr++;
	pthread_mutex_unlock(&relays.lock);
	err = -pthread_create(&thread, NULL, run, r);
	if (!err) {
		pthread_detach(thread);
		return 0;
	}
	pthread_mutex_lock(&relays.lock);
	relays.nr--;
	pthread_mutex_unlock(&relays.lock);
	r->near->ops->close(r->near);
far:
	free(r);
	far->ops->close(far);
	return err;
}

int move_relay_start(struct migrate_tls *tls, int fd, const char *peer,
		     int timeout_ms, char why[MIGRATE_WHY_MAX])
{
	struct migrate_io *io;
	int pair[2], err;

	if (!tls)
		return fd;
	err = migrate_io_tls(&io, tls, fd, peer, timeout_ms, why);
	if (err)
		return err;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		err = -errno;
		io->ops->close(io);
	} else {
		err = start(io, pair[0]);
		if (err)
			close(pair[1]);
	}
	if (!err)
		return pair[1];
	snprintf(why, MIGRATE_WHY_MAX, "TLS: %s", strerror(-err));
	return err;
}

bool move_relay_wait(int timeout_ms)
{
	struct timespec end = clock_after_us(timeout_ms * 1000ULL);
	bool none;

	pthread_mutex_lock(&relays.lock);
	while (relays.nr && !pthread_cond_clockwait(&relays.end, &relays.lock,
						    CLOCK_MONOTONIC, &end))
		;
	none = !relays.nr;
	pthread_mutex_unlock(&relays.lock);
	return none;
}
