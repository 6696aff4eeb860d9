// SPDX-License-Identifier: GPL-2.0
/*
 * A source's connection.  Memory is dealt out to the connections in stripes,
 * always the same way: so a page always goes by the same one, and what is sent
 * later arrives later, without any order between connections.
 *  1. A round: chunks of disks and stripes of memory that are this
 *     connection's, then ROUND, which the other side sends back once it has
 *     everything before it.
 *  2. All connections' rounds at once.
 */
#include <stdlib.h>
#include <string.h>

#include "mig.h"

#define DESTINATION	"the destination"

int worker_init(struct worker *w, struct migrate *m, unsigned int index, struct migrate_io *io)
{
	const struct migrate_params *p = &m->params;
	int err;

	memset(w, 0, sizeof(*w));
	w->m = m;
	w->index = index;
	stream_init(&w->s, io, &m->verdict, p->stall_ms, DESTINATION);
	w->open = true;
	err = batch_init(&w->batch, p->zstd, p->oneway ? 0 : p->cache / p->connections, &m->stats);
	if (err)
		return verdict(&m->verdict, err, "no memory for buffers");
	return 0;
}

void worker_fini(struct worker *w)
{
	if (!w->open)
		return;
	batch_fini(&w->batch);
	free(w->chunk);
	stream_close(&w->s);
	w->open = false;
}

/* Who had to wait has time for more work on what comes next. */
int worker_put(struct worker *w, u32 type, u8 *buf, size_t len)
{
	u64 wait = 0, waits = w->s.ch.waits;
	int err;

	if (w->limit)
		wait = limit_take(w->limit, len + SEC_LEN);
	if (wait) {
		err = verdict_sleep(&w->m->verdict, wait);
		if (err)
			return err;
	}
	err = stream_put(&w->s, type, buf, len);
	w->batch.idle = wait || w->s.ch.waits != waits;
	w->m->bytes += w->s.ch.bytes_out - w->bytes_told;
	w->bytes_told = w->s.ch.bytes_out;
	return err;
}

static int flush(struct worker *w)
{
	size_t len = batch_finish(&w->batch);

	return len ? worker_put(w, TYPE_PAGES, w->batch.out, len) : 0;
}

int worker_check(struct worker *w)
{
	const struct migrate_params *p = &w->m->params;

	if (w->m->verdict.err)
		return -ECANCELED;
	/* Paused, it is no longer the guest that keeps it from ending. */
	if (!p->timeout_ms || p->timeout_forces || w->m->paused_ns)
		return 0;
	if (now_ns() - w->m->begin_ns < p->timeout_ms * NSEC_PER_MSEC)
		return 0;
	return verdict(&w->m->verdict, -ETIMEDOUT, "not done within %u ms: allow more, or force it",
		       p->timeout_ms);
}

static int send_stripe(struct worker *w, unsigned int block, u64 first)
{
	const struct migrate_block *b = &w->m->blocks.b[block];
	const struct migrate_ops *ops = w->m->ops;
	u64 *bits = w->todo->bits[block] + first / 64;
	u64 count = MIN(STRIPE, w->todo->pages[block] - first), word, any = 0;
	unsigned int i;
	int err;

	for (i = 0; i < bitmap_words(count); i++)
		any |= bits[i];
	if (!any)
		return 0;
	err = worker_check(w);
	if (err)
		return err;
	/* What is written from here on will be sent again. */
	err = ops->dirty_clear && !w->m->params.oneway ?
	      ops->dirty_clear(w->m->vm, block, first, count, bits) : 0;
	if (err)
		return verdict(&w->m->verdict, err, "the log of written pages: %s", strerror(-err));
	for (i = 0; i < bitmap_words(count); i++) {
		for (word = bits[i]; word; word &= word - 1) {
			u64 page = first + i * 64 + __builtin_ctzll(word);

			batch_add(&w->batch, page, (u8 *)b->host + page * PAGE_SIZE, w->round > 0);
			err = batch_full(&w->batch) ? flush(w) : 0;
			if (err)
				return err;
		}
	}
	return 0;
}

static int send_round_end(struct worker *w)
{
	u8 buf[SECTION_ROOM(ROUND_LEN)];
	struct section sec;
	int err;

	put32(buf + SEC_LEN, w->round);
	put32(buf + SEC_LEN + 4, 0);
	err = stream_put(&w->s, TYPE_ROUND, buf, ROUND_LEN);
	if (err || w->m->params.oneway)
		return err;
	err = stream_expect(&w->s, TYPE_ROUND, &sec);
	if (!err && (sec.len != ROUND_LEN || get32(sec.data) != w->round))
		err = verdict(&w->m->verdict, -EPROTO, "%s answers another round", w->s.ch.peer);
	return err;
}

static int send_round(struct worker *w)
{
	u64 stripe = 0, first;
	unsigned int block;
	int err;

	/* Disks take long: pages that are written meanwhile are sent once. */
	err = worker_disks(w);
	if (err)
		return err;
	for (block = 0; block < w->todo->nr; block++) {
		w->batch.block = block;
		for (first = 0; first < w->todo->pages[block]; first += STRIPE) {
			if (stripe++ % w->m->params.connections != w->index)
				continue;
			err = send_stripe(w, block, first);
			if (err)
				return err;
		}
		err = flush(w);
		if (err)
			return err;
	}
	return send_round_end(w);
}

static void *round_thread(void *arg)
{
	return (void *)(long)send_round(arg);
}

int workers_round(struct worker *w, unsigned int nr, struct bitmap *todo,
		  struct bitmap *disks_todo, struct limit *limit, u32 round)
{
	unsigned int i, started;
	void *ret;
	int err = 0;

	for (i = 0; i < nr; i++) {
		w[i].todo = todo;
		w[i].disks_todo = disks_todo;
		w[i].limit = limit;
		w[i].round = round;
	}
	for (started = 1; started < nr; started++) {
		err = -pthread_create(&w[started].thread, NULL, round_thread, &w[started]);
		if (err) {
			verdict(&w->m->verdict, err, "a thread: %s", strerror(-err));
			break;
		}
	}
	if (!err)
		err = send_round(w);
	for (i = 1; i < started; i++) {
		pthread_join(w[i].thread, &ret);
		if (!err)
			err = (long)ret;
	}
	return err;
}

int worker_end(struct worker *w, u64 state_len)
{
	u8 buf[SECTION_ROOM(END_LEN)];

	put64(buf + SEC_LEN, w->batch.pages);
	put64(buf + SEC_LEN + 8, state_len);
	return stream_put(&w->s, TYPE_END, buf, END_LEN);
}
