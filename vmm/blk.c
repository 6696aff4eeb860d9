// SPDX-License-Identifier: GPL-2.0
/*
 * The host half of a disk, whatever its storage.
 *  1. Requests are checked once: inside the disk, on its blocks, allowed.
 *  2. What cannot start now is held, in order, behind a gate; gates open from
 *     outside (blk_resume(), a timer, a server that is back) and by
 *     themselves, and then the loop starts what is held at the end of its turn.
 *  3. Limits: two token buckets and one timer.
 *  4. A write that finds the host's disk full is held, and the machine told;
 *     any other error is the request's result.
 *  5. Quiescing: nothing is started, and nothing will be.
 *  6. Flushes with nothing to flush are done at once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "clock.h"

#define NS_PER_MS	1000000ULL
#define DELAY_MAX_MS	1000	/* limits may change while the timer runs */

static bool writes(const struct blk_req *req)
{
	return req->op == BLK_WRITE || req->op == BLK_DISCARD ||
	       req->op == BLK_ZERO;
}

/* What can be asked of it. */

static int check(const struct blk *blk, const struct blk_req *req)
{
	if (req->op == BLK_FLUSH)
		return 0;
	if (req->op >= BLK_OPS)
		return -EOPNOTSUPP;
	if ((req->pos | req->len) & (blk->block - 1))
		return -EINVAL;
	if (req->pos > blk->size || req->len > blk->size - req->pos)
		return -EINVAL;
	if (blk->readonly && writes(req))
		return -EROFS;
	if (req->op == BLK_DISCARD && !blk->can_discard)
		return -EOPNOTSUPP;
	return 0;
}

/* Gates and what is held. */

static void finish(struct blk_req *req, int err)
{
	struct blk *blk = req->blk;

	if (err && err != -ECANCELED) {
		blk->stats.errors++;
	} else if (!err) {
		blk->stats.requests[req->op]++;
		blk->stats.bytes[req->op] += req->total;
	}
	req->done(req, err);
}

static void append(struct blk *blk, struct blk_req *req)
{
	req->next = NULL;
	*blk->tail = req;
	blk->tail = &req->next;
	blk->held++;
}

static struct blk_req *take_first(struct blk *blk)
{
	struct blk_req *req = blk->head;

	blk->head = req->next;
	if (!blk->head)
		blk->tail = &blk->head;
	blk->held--;
	return req;
}

void blk_gate_shut(struct blk *blk, enum blk_gate gate)
{
	blk->gates |= gate;
}

void blk_gate_open(struct blk *blk, enum blk_gate gate)
{
	blk->gates &= ~gate;
	if (blk->head && !blk->gates)
		loop_defer(&blk->task);
}

static void limit_over(struct loop_op *op, int res)
{
	struct blk *blk = container_of(op, struct blk, limit_op);

	(void)res;
	blk_gate_open(blk, BLK_GATE_LIMIT);
}

static bool limited(const struct blk *blk)
{
	return blk->ops_limit.rate | blk->bytes_limit.rate;
}

/* True if the limits let the request pass, which it pays for at once. */
static bool pay(struct blk *blk, struct blk_req *req)
{
	u64 now, delay, other;

	if (req->paid || !limited(blk))
		return true;
	now = clock_now_ns();
	delay = limit_delay(&blk->ops_limit, now);
	other = limit_delay(&blk->bytes_limit, now);
	if (delay < other)
		delay = other;
	if (delay) {
		blk_gate_shut(blk, BLK_GATE_LIMIT);
		delay = (delay + NS_PER_MS - 1) / NS_PER_MS;
		if (!blk->limit_op.busy)
			loop_timer(&blk->limit_op, delay < DELAY_MAX_MS ?
				   delay : DELAY_MAX_MS);
		return false;
	}
	limit_take(&blk->ops_limit, 1);
	if (req->op == BLK_READ || req->op == BLK_WRITE)
		limit_take(&blk->bytes_limit, req->total);
	req->paid = true;
	return true;
}

/* For what a request turns out to cost beyond what it seemed to. */
void blk_charge(struct blk *blk, u64 bytes)
{
	limit_take(&blk->bytes_limit, bytes);
}

static bool nothing_to_flush(const struct blk *blk)
{
	return !blk->dirty && !blk->flushes;
}

void blk_start(struct blk *blk, struct blk_req *req)
{
	if (blk_req_op(req) == BLK_FLUSH) {
		if (req->op == BLK_FLUSH && nothing_to_flush(blk)) {
			finish(req, 0);
			return;
		}
		/* A write that ends after this makes it dirty again. */
		blk->dirty = false;
		blk->flushes++;
	}
	blk->started++;
	blk->kind->start(blk, req);
}

static void start_held(struct blk *blk)
{
	struct blk_req *req;
	int err;

	while (blk->head && !blk->gates && pay(blk, blk->head)) {
		req = take_first(blk);
		/* The disk may have shrunk meanwhile. */
		err = req->flushing ? 0 : check(blk, req);
		if (err)
			finish(req, err);
		else
			blk_start(blk, req);
	}
}

static void run_held(struct loop_task *task)
{
	struct blk *blk = container_of(task, struct blk, task);
	struct blk_quiet *quiet;

	while (!blk->started && blk->quiet) {
		quiet = blk->quiet;
		blk->quiet = quiet->next;
		quiet->done(quiet);
	}
	blk->gates &= ~BLK_GATE_TURN;
	start_held(blk);
}

static void not_started(struct blk *blk, struct blk_req *req)
{
	if (writes(req))
		blk_log_written(blk, req);
	blk->started--;
	if (blk_req_op(req) == BLK_FLUSH)
		blk->flushes--;
	if (!blk->started && blk->quiet)
		loop_defer(&blk->task);
}

/* A started request that has to wait: it is started anew when @gate opens. */
void blk_hold(struct blk_req *req, enum blk_gate gate)
{
	struct blk *blk = req->blk;

	not_started(blk, req);
	/* It was taken for done when it started. */
	if (blk_req_op(req) == BLK_FLUSH)
		blk->dirty = true;
	/* Others may be waiting for a buffer before it in the list. */
	blk_bounce_put(req);
	if (blk->stopping) {
		finish(req, -ECANCELED);
		return;
	}
	append(blk, req);
	blk_gate_shut(blk, gate);
	if (gate == BLK_GATE_TURN)
		loop_defer(&blk->task);
}

static void host_is_full(struct blk_req *req)
{
	struct blk *blk = req->blk;
	bool told = blk->gates & BLK_GATE_SPACE;

	blk_hold(req, BLK_GATE_SPACE);
	if (told || blk->stopping)
		return;
	fail(-ENOSPC, "%s '%s': the host's disk is full: the machine waits; make room and resume it",
	     blk->label, blk->path);
	if (blk->events.no_space)
		blk->events.no_space(blk->events.no_space_arg);
}

/* Is it on stable storage when the kind says that it is done? */
static bool durable(const struct blk_req *req)
{
	return req->flags & BLK_DURABLE && req->op == BLK_WRITE &&
	       req->blk->durable;
}

void blk_done(struct blk_req *req, int err)
{
	struct blk *blk = req->blk;
	bool flush = blk_req_op(req) == BLK_FLUSH;

	if ((err == -ENOSPC || err == -EDQUOT) && writes(req)) {
		host_is_full(req);
		return;
	}
	if (req->bounce)
		blk_bounce_put(req);
	not_started(blk, req);
	if (flush && err)
		blk->dirty = true;
	if (!flush && writes(req) && !durable(req)) {
		blk->dirty = true;
		if (!err && req->flags & BLK_DURABLE) {
			req->flushing = true;
			blk_start(blk, req);
			return;
		}
	}
	finish(req, err);
}

/* What the front asks for. */

static void prepare(struct blk *blk, struct blk_req *req)
{
	req->blk = blk;
	req->total = req->len;
	req->bounce = NULL;
	req->nr_parts = 0;
	req->in_one = false;
	req->paid = false;
	req->flushing = false;
	req->unmapped = false;
}

void blk_submit(struct blk *blk, struct blk_req *req)
{
	int err = check(blk, req);

	prepare(blk, req);
	if (err || (!req->len && req->op != BLK_FLUSH)) {
		finish(req, err);
	} else if (blk->head || blk->gates ||
		   (limited(blk) && !pay(blk, req))) {
		if (blk->stopping)
			finish(req, -ECANCELED);
		else
			append(blk, req);
	} else {
		blk_start(blk, req);
	}
}

void blk_stop(struct blk *blk)
{
	struct blk_req *req;

	blk->stopping = true;
	while (blk->head) {
		req = take_first(blk);
		finish(req, -ECANCELED);
	}
	if (blk->started && blk->kind->hurry)
		blk->kind->hurry(blk);
}

void blk_go(struct blk *blk)
{
	blk->stopping = false;
}

/* What the machine asks for. */

int blk_resize(struct blk *blk, u64 size)
{
	/* Who copies it has been told how long it is. */
	if (blk->log)
		return -EBUSY;
	return blk->kind->resize(blk, size);
}

void blk_resized(struct blk *blk, u64 size)
{
	if (size == blk->size)
		return;
	blk->size = size;
	if (blk->events.resized)
		blk->events.resized(blk->events.resized_arg);
}

void blk_limit(struct blk *blk, u64 ops, u64 bytes)
{
	u64 now = clock_now_ns();

	limit_set(&blk->ops_limit, ops, now);
	limit_set(&blk->bytes_limit, bytes, now);
	blk_gate_open(blk, BLK_GATE_LIMIT);
}

void blk_resume(struct blk *blk)
{
	blk_gate_open(blk, BLK_GATE_SPACE);
}

void blk_get_stats(const struct blk *blk, struct blk_stats *stats)
{
	*stats = blk->stats;
	stats->started = blk->started;
	stats->held = blk->held;
	stats->gates = blk->gates;
}

void blk_quiesce(struct blk *blk, struct blk_quiet *quiet)
{
	blk->quiet_users++;
	blk_gate_shut(blk, BLK_GATE_QUIET);
	quiet->next = blk->quiet;
	blk->quiet = quiet;
	loop_defer(&blk->task);
}

void blk_unquiesce(struct blk *blk, struct blk_quiet *quiet)
{
	struct blk_quiet **at;

	for (at = &blk->quiet; *at; at = &(*at)->next)
		if (*at == quiet) {
			*at = quiet->next;
			break;
		}
	if (!--blk->quiet_users)
		blk_gate_open(blk, BLK_GATE_QUIET);
}

/* Life and death. */

bool blk_is_uri(const char *path)
{
	return !strncmp(path, "nbd:", 4) || !strncmp(path, "nbd+", 4) ||
	       !strncmp(path, "nbds", 4);
}

struct blk *blk_open(const struct disk_options *opt, const char *label)
{
	return blk_create(blk_is_uri(opt->path) ? &blk_nbd : &blk_raw, opt, label);
}

struct blk *blk_create(const struct blk_kind *kind,
		       const struct disk_options *opt, const char *label)
{
	struct blk *blk = calloc(1, sizeof(*blk));

	if (!blk) {
		fail(-ENOMEM, "out of memory");
		return NULL;
	}
	snprintf(blk->label, sizeof(blk->label), "%s", label);
	blk->path = opt->path;
	blk->readonly = opt->readonly;
	blk->later = opt->later;
	blk->direct = opt->direct;
	blk->kind = kind;
	/* Of what ran before this process nothing is known. */
	blk->dirty = true;
	blk->tail = &blk->head;
	blk->task.run = run_held;
	blk->limit_op.done = limit_over;
	blk_limit(blk, opt->iops, opt->bps);
	blk_freeze_init(blk);
	if (blk->kind->open(blk)) {
		free(blk);
		return NULL;
	}
	return blk;
}

void blk_attach(struct blk *blk)
{
	blk->kind->attach(blk);
}

/* The front has been stopped; loop_fini() waits for what is in flight. */
void blk_detach(struct blk *blk)
{
	blk_freeze_fini(blk);
	blk_stop(blk);
	loop_undefer(&blk->task);
	loop_cancel(&blk->limit_op);
	blk->kind->detach(blk);
}

void blk_close(struct blk *blk)
{
	blk->kind->close(blk);
	blk_bounce_fini(blk);
	blk_log_stop(blk);
	free(blk->own_path);
	free(blk);
}
