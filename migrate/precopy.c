// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of a guest that runs, and disks that go along with it.
 *  1. A round over all of it, then rounds over what was written meanwhile,
 *     each measured, until the policy says that the rest is little enough.
 *  2. The stop: what was written until then joins what is left to do.
 * Where a round's pages go is the caller's: connections, or a file.
 */
#include <stdlib.h>
#include <string.h>

#include "mig.h"

/* Shorter rounds measure the way there and back, not the link. */
#define MEASURABLE_BYTES	(1U << 20)

int precopy_init(struct precopy *p, struct migrate *m)
{
	int err;

	p->m = m;
	p->fixed_ns = POLICY_FIXED_NS;
	p->logging = false;
	p->rounds = 0;
	p->max_rounds = 0;
	memset(&p->disks_todo, 0, sizeof(p->disks_todo));
	err = bitmap_init(&p->todo, &m->blocks);
	if (!err)
		err = bitmap_init_disks(&p->disks_todo, &m->disks);
	if (err)
		return verdict(&m->verdict, err, "no memory for a bitmap");
	return 0;
}

void precopy_fini(struct precopy *p)
{
	struct migrate *m = p->m;

	if (m->progress.throttle && m->ops->throttle)
		m->ops->throttle(m->vm, 0);
	if (p->logging)
		m->ops->dirty_stop(m->vm);
	p->logging = false;
	bitmap_fini(&p->todo);
	bitmap_fini(&p->disks_todo);
}

typedef int (*fetch_fn)(void *vm, unsigned int nr, u64 *bitmap);

/* Adds to what is to be done */
static int fetch_into(struct migrate *m, struct bitmap *todo, fetch_fn fn)
{
	unsigned int i;
	u64 words, w, *got;
	int err = 0;

	for (i = 0; !err && i < todo->nr; i++) {
		words = bitmap_words(todo->pages[i]);
		if (!words)
			continue;
		got = calloc(words, sizeof(*got));
		err = got ? fn(m->vm, i, got) : -ENOMEM;
		for (w = 0; !err && w < words; w++)
			todo->bits[i][w] |= got[w];
		/* Bits beyond the block are nobody's. */
		if (!err && todo->pages[i] % 64)
			todo->bits[i][words - 1] &= (1ULL << todo->pages[i] % 64) - 1;
		free(got);
	}
	return err;
}

static int fetch(struct precopy *p)
{
	struct migrate *m = p->m;
	int err = fetch_into(m, &p->todo, m->ops->dirty_fetch);

	if (err)
		return verdict(&m->verdict, err, "the log of written pages: %s", strerror(-err));
	err = fetch_into(m, &p->disks_todo, m->ops->disk_fetch);
	if (err)
		return verdict(&m->verdict, err, "the log of the disks' writes: %s", strerror(-err));
	return 0;
}

static u64 remaining(const struct precopy *p)
{
	return bitmap_count(&p->todo) * PAGE_SIZE +
	       bitmap_count(&p->disks_todo) * MIGRATE_CHUNK;
}

struct measure {
	u64 begin, bytes, raw;
};

static void begin(struct precopy *p, struct measure *now)
{
	now->begin = now_ns();
	now->bytes = p->m->bytes;
	now->raw = handle_done(p->m);
}

static enum policy decide(struct precopy *p, const struct measure *was)
{
	struct migrate *m = p->m;
	struct migrate_progress *pr = &m->progress;
	u64 now = now_ns(), took = now - was->begin;
	u64 sent = m->bytes - was->bytes, done = handle_done(m), expected;
	struct policy_input in = {
		.budget_ns = m->params.downtime_ms * NSEC_PER_MSEC,
		.fixed_ns = p->fixed_ns,
		.elapsed_ns = now - m->begin_ns,
		.timeout_ns = m->params.timeout_ms * NSEC_PER_MSEC,
		.forces = m->params.timeout_forces,
		.now = m->force,
		.remaining = remaining(p),
		.last = done - was->raw,
		.wire = sent,
		.raw = done - was->raw,
		.round = p->rounds,
		.max_rounds = p->max_rounds,
	};
	enum policy what;

	pthread_mutex_lock(&m->lock);
	if (sent >= MEASURABLE_BYTES || !pr->link_rate)
		pr->link_rate = mul_div(sent, NSEC_PER_SEC, took);
	in.link_rate = pr->link_rate;
	in.dirty_rate = pr->dirty_rate = mul_div(in.remaining, NSEC_PER_SEC, took);
	pr->remaining = in.remaining;
	m->done_before = done;
	/* A first round of many zeroes says nothing of what is written. */
	if (p->rounds < 2)
		in.raw = 0;
	what = policy_decide(&in, &expected);
	pr->expected_downtime_us = expected / NSEC_PER_USEC;
	pthread_mutex_unlock(&m->lock);
	return what;
}

static int slow_down(struct precopy *p)
{
	struct migrate *m = p->m;
	unsigned int percent = policy_throttle(m->progress.throttle);
	int err;

	if (!m->ops->throttle || percent == m->progress.throttle)
		return 0;
	err = m->ops->throttle(m->vm, percent);
	if (err)
		return verdict(&m->verdict, err, "the guest cannot be slowed down: %s",
			       strerror(-err));
	pthread_mutex_lock(&m->lock);
	m->progress.throttle = percent;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int one_round(struct precopy *p, bool limited)
{
	handle_round(p->m, p->rounds, remaining(p));
	return p->round(p, p->rounds++, limited);
}

int precopy_rounds(struct precopy *p)
{
	struct migrate *m = p->m;
	enum policy what;
	struct measure was;
	int err;

	handle_state(m, MIGRATE_MEMORY);
	err = m->ops->dirty_start(m->vm);
	if (err)
		return verdict(&m->verdict, err, "the log of written pages does not start: %s",
			       strerror(-err));
	p->logging = true;
	bitmap_fill(&p->todo);
	bitmap_fill(&p->disks_todo);
	for (;;) {
		begin(p, &was);
		err = one_round(p, true);
		if (err)
			return err;
		bitmap_zero(&p->todo);
		bitmap_zero(&p->disks_todo);
		err = fetch(p);
		if (err)
			return err;
		what = decide(p, &was);
		if (what == POLICY_STOP)
			return 0;
		if (what == POLICY_GIVE_UP)
			return verdict(&m->verdict, -ETIMEDOUT,
				       "not done within %u ms: allow more, or force it",
				       m->params.timeout_ms);
		err = what == POLICY_THROTTLE ? slow_down(p) : 0;
		if (err)
			return err;
	}
}

int precopy_stop(struct precopy *p, void **state, size_t *state_len)
{
	struct migrate *m = p->m;
	int err;

	err = handle_pause(m);
	if (err)
		return err;
	handle_state(m, MIGRATE_STOPPED);
	/* Saving may write to memory, so it comes first. */
	err = m->ops->save(m->vm, state, state_len);
	if (err)
		return verdict(&m->verdict, err, "the devices' state cannot be saved: %s",
			       strerror(-err));
	if (*state_len > MIGRATE_STATE_MAX)
		return verdict(&m->verdict, -E2BIG, "the devices' state is too long");
	if (p->logging) {
		err = fetch(p);
	} else {
		bitmap_fill(&p->todo);
		bitmap_fill(&p->disks_todo);
	}
	return err ? err : one_round(p, false);
}
