// SPDX-License-Identifier: GPL-2.0
/*
 * The handle of a migration.
 *  1. Its thread, its end, its result.
 *  2. Progress, cancel and force, from any thread.
 *  3. Pausing and resuming the machine, and how long it was paused.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mig.h"

#define DOWNTIME_MS	300
#define STALL_MS	10000
#define CACHE_BYTES	(32U << 20)

void migrate_params_init(struct migrate_params *p)
{
	memset(p, 0, sizeof(*p));
	p->connections = 1;
	p->downtime_ms = DOWNTIME_MS;
	p->stall_ms = STALL_MS;
	p->cache = CACHE_BYTES;
	p->uffd = -1;
	p->pagemap = -1;
}

const char *migrate_state_name(enum migrate_state state)
{
	static const char *const names[] = {
		[MIGRATE_SETUP] = "setup",
		[MIGRATE_MEMORY] = "memory",
		[MIGRATE_STOPPED] = "stopped",
		[MIGRATE_HANDOVER] = "handover",
		[MIGRATE_COMPLETED] = "completed",
		[MIGRATE_FAILED] = "failed",
		[MIGRATE_CANCELLED] = "cancelled",
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

static void *thread_main(void *arg)
{
	struct migrate *m = arg;
	int err = m->run(m);

	pthread_mutex_lock(&m->lock);
	m->progress.elapsed_us = (now_ns() - m->begin_ns) / NSEC_PER_USEC;
	m->progress.state = !err ? MIGRATE_COMPLETED :
			    m->cancelled ? MIGRATE_CANCELLED : MIGRATE_FAILED;
	pthread_mutex_unlock(&m->lock);
	if (m->ops->done)
		m->ops->done(m->vm);
	return (void *)(long)err;
}

int handle_start(struct migrate **out, const struct migrate_ops *ops, void *vm,
		 const struct migrate_params *params, int (*run)(struct migrate *m), int fd)
{
	struct migrate *m = calloc(1, sizeof(*m));
	int err;

	if (!m)
		return -ENOMEM;
	m->ops = ops;
	m->vm = vm;
	m->params = *params;
	m->params.connections = MAX(m->params.connections, 1U);
	m->params.stall_ms = m->params.stall_ms ? m->params.stall_ms : STALL_MS;
	m->run = run;
	m->fd = fd;
	m->begin_ns = now_ns();
	err = -EINVAL;
	if (m->params.connections > MIGRATE_CONNECTIONS_MAX)
		goto free;
	err = verdict_init(&m->verdict);
	if (err)
		goto free;
	pthread_mutex_init(&m->lock, NULL);
	*out = m;
	err = -pthread_create(&m->thread, NULL, thread_main, m);
	if (!err)
		return 0;
	*out = NULL;
	pthread_mutex_destroy(&m->lock);
	verdict_fini(&m->verdict);
free:
	free(m);
	return err;
}

void handle_state(struct migrate *m, enum migrate_state state)
{
	pthread_mutex_lock(&m->lock);
	m->progress.state = state;
	pthread_mutex_unlock(&m->lock);
}

void handle_total(struct migrate *m)
{
	pthread_mutex_lock(&m->lock);
	m->progress.disk_total = disks_bytes(&m->disks);
	m->progress.total = m->blocks.bytes + m->progress.disk_total;
	pthread_mutex_unlock(&m->lock);
}

u64 handle_done(const struct migrate *m)
{
	const struct pages_stats *st = &m->stats;

	return (st->zero + st->plain + st->delta + st->same) * PAGE_SIZE + st->disk;
}

void handle_round(struct migrate *m, u32 round, u64 remaining)
{
	pthread_mutex_lock(&m->lock);
	m->progress.round = round;
	m->progress.remaining = remaining;
	m->done_before = handle_done(m);
	pthread_mutex_unlock(&m->lock);
}

int handle_commit(struct migrate *m)
{
	int err;

	pthread_mutex_lock(&m->lock);
	err = m->verdict.err ? -ECANCELED : 0;
	m->committed = !err;
	pthread_mutex_unlock(&m->lock);
	return err;
}

void handle_uncommit(struct migrate *m)
{
	pthread_mutex_lock(&m->lock);
	m->committed = false;
	pthread_mutex_unlock(&m->lock);
}

bool handle_cancelled(struct migrate *m)
{
	bool yes;

	pthread_mutex_lock(&m->lock);
	yes = m->cancelled;
	pthread_mutex_unlock(&m->lock);
	return yes;
}

int handle_pause(struct migrate *m)
{
	u64 begin;
	int err;

	if (m->ops->settle)
		m->ops->settle(m->vm);
	begin = now_ns();
	err = m->ops->pause(m->vm);
	if (err)
		return verdict(&m->verdict, err, "the machine does not pause: %s", strerror(-err));
	m->paused_ns = begin;
	return 0;
}

void handle_downtime(struct migrate *m)
{
	pthread_mutex_lock(&m->lock);
	if (m->paused_ns)
		m->progress.downtime_us = (now_ns() - m->paused_ns) / NSEC_PER_USEC;
	pthread_mutex_unlock(&m->lock);
}

void handle_resume(struct migrate *m)
{
	int err;

	if (!m->paused_ns)
		return;
	err = m->ops->resume(m->vm);
	handle_downtime(m);
	m->paused_ns = 0;
	if (err)
		verdict(&m->verdict, err, "the machine does not resume: %s", strerror(-err));
}

void migrate_cancel(struct migrate *m)
{
	pthread_mutex_lock(&m->lock);
	if (!m->committed && m->progress.state < MIGRATE_COMPLETED) {
		m->cancelled = !m->verdict.err;
		verdict(&m->verdict, -ECANCELED, "cancelled");
	}
	pthread_mutex_unlock(&m->lock);
}

void migrate_force(struct migrate *m)
{
	m->force = true;
}

void migrate_progress(struct migrate *m, struct migrate_progress *p)
{
	u64 done = handle_done(m);

	pthread_mutex_lock(&m->lock);
	*p = m->progress;
	done = done > m->done_before ? done - m->done_before : 0;
	pthread_mutex_unlock(&m->lock);
	p->remaining -= MIN(p->remaining, done);
	p->disk_bytes = m->stats.disk;
	p->bytes = m->bytes;
	p->pages_zero = m->stats.zero;
	p->pages_plain = m->stats.plain;
	p->pages_delta = m->stats.delta;
	p->pages_same = m->stats.same;
	if (p->state < MIGRATE_COMPLETED)
		p->elapsed_us = (now_ns() - m->begin_ns) / NSEC_PER_USEC;
}

int migrate_wait(struct migrate *m, struct migrate_result *result)
{
	void *ret;
	int err;

	pthread_join(m->thread, &ret);
	err = (long)ret;
	if (result) {
		result->err = err;
		result->owner = m->owner;
		snprintf(result->why, sizeof(result->why), "%s", err ? m->verdict.why : "");
		migrate_progress(m, &result->progress);
	}
	pthread_mutex_destroy(&m->lock);
	verdict_fini(&m->verdict);
	free(m);
	return err;
}
