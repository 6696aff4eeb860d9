// SPDX-License-Identifier: GPL-2.0
/*
 * A disk that stands still for a moment, which its guest does not notice.
 *  1. Freezing: flush while the guest goes on, so that little is left; hold
 *     what comes, wait for what is started, flush the rest.  What is in the
 *     storage now is what a power cut would leave after a flush.
 *  2. A copy: the file system shares the blocks of a frozen disk with another
 *     file (reflink), however large it is.
 *  3. A switch: from the frozen storage to a server that has it as backing
 *     file of an overlay, where the file system cannot share blocks.
 *  4. Whoever froze it and went away does not hang the guest: it thaws by
 *     itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blk.h"

#define COPY_MS		60000		/* of a copy's freeze, at most */

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

/* To whoever waits for the freeze, if anybody still does. */
static void report(struct blk_freeze *f, int err)
{
	void (*done)(void *arg, int err) = f->done;

	f->done = NULL;
	if (done)
		done(f->arg, err);
}

static void thaw(struct blk *blk, int err)
{
	struct blk_freeze *f = &blk->freeze;

	if (f->state == BLK_THAWED)
		return;
	f->state = BLK_THAWED;
	loop_cancel(&f->timer_op);
	if (f->shared)
		blk->kind->share(blk, false);
	f->shared = false;
	if (f->quiesced)
		blk_unquiesce(blk, &f->quiet);
	f->quiesced = false;
	report(f, err);
}

static void flush(struct blk *blk, void (*done)(struct blk_req *req, int err))
{
	struct blk_freeze *f = &blk->freeze;

	f->flushing = true;
	memset(&f->flush, 0, sizeof(f->flush));
	f->flush.done = done;
	f->flush.op = BLK_FLUSH;
	f->flush.blk = blk;
	if (f->quiesced)
		blk_start(blk, &f->flush);
	else
		blk_submit(blk, &f->flush);
}

static void flushed_all(struct blk_req *req, int err)
{
	struct blk *blk = req->blk;
	struct blk_freeze *f = &blk->freeze;

	f->flushing = false;
	if (f->state != BLK_FREEZING)
		return;
	if (!err && blk->kind->share) {
		err = blk->kind->share(blk, true);
		f->shared = !err;
	}
	if (err) {
		thaw(blk, err);
		return;
	}
	f->state = BLK_FROZEN;
	report(f, 0);
}

static void is_quiet(struct blk_quiet *quiet)
{
	struct blk *blk = container_of(quiet, struct blk, freeze.quiet);

	flush(blk, flushed_all);
}

static void flushed_most(struct blk_req *req, int err)
{
	struct blk *blk = req->blk;
	struct blk_freeze *f = &blk->freeze;

	f->flushing = false;
	if (f->state != BLK_FREEZING)
		return;
	if (err) {
		thaw(blk, err);
		return;
	}
	f->quiesced = true;
	blk_quiesce(blk, &f->quiet);
}

static void timer_over(struct loop_op *op, int res)
{
	struct blk *blk = container_of(op, struct blk, freeze.timer_op);
	struct blk_freeze *f = &blk->freeze;
	u64 now = now_ms();

	(void)res;
	if (f->state == BLK_THAWED)
		return;
	if (now < f->deadline)
		loop_timer(op, f->deadline - now);
	else
		thaw(blk, -ETIMEDOUT);
}

int blk_freeze(struct blk *blk, u32 ms, void (*done)(void *arg, int err),
	       void *arg)
{
	struct blk_freeze *f = &blk->freeze;

	if (f->state != BLK_THAWED || f->flushing)
		return -EBUSY;
	f->state = BLK_FREEZING;
	f->nr++;
	f->done = done;
	f->arg = arg;
	f->deadline = now_ms() + ms;
	if (!f->timer_op.busy)
		loop_timer(&f->timer_op, ms);
	flush(blk, flushed_most);
	return 0;
}

u64 blk_frozen(const struct blk *blk)
{
	return blk->freeze.state == BLK_FROZEN ? blk->freeze.nr : 0;
}

void blk_thaw(struct blk *blk)
{
	thaw(blk, -ECANCELED);
}

/* Copies. */

static void copied(struct blk_freeze *f, int err)
{
	f->copying = false;
	f->copied(f->copied_arg, err);
}

static void synced(struct loop_op *op, int res)
{
	copied(container_of(op, struct blk_freeze, sync_op), res);
}

static void copy_frozen(struct blk *blk, int err, bool thaws)
{
	struct blk_freeze *f = &blk->freeze;

	if (!err)
		err = blk->kind->reflink(blk, f->copy.fd);
	if (thaws)
		thaw(blk, 0);
	if (!err)
		err = loop_fdatasync(&f->sync_op, &f->copy);
	if (err)
		copied(f, err);
}

static void copy(void *arg, int err)
{
	copy_frozen(arg, err, true);
}

int blk_copy(struct blk *blk, int fd, void (*done)(void *arg, int err),
	     void *arg)
{
	struct blk_freeze *f = &blk->freeze;

	if (!blk->kind->reflink)
		return -EOPNOTSUPP;
	if (f->copying || f->state == BLK_FREEZING || f->flushing)
		return -EBUSY;
	f->copying = true;
	f->copy.fd = fd;
	f->copy.slot = -1;
	f->copied = done;
	f->copied_arg = arg;
	if (!blk_frozen(blk))
		return blk_freeze(blk, COPY_MS, copy, blk);
	copy_frozen(blk, 0, false);
	return 0;
}

/* Switches. */

int blk_switch(struct blk *blk, const char *path)
{
	struct disk_options opt = {
		.path = path, .readonly = blk->readonly, .direct = blk->direct,
	};
	struct blk *new;
	char *own;
	int err = 0;

	if (!blk_frozen(blk))
		return -EAGAIN;
	if (blk->log)
		return -EBUSY;
	own = strdup(path);
	if (!own)
		return -ENOMEM;
	new = blk_open(&opt, blk->label);
	if (!new) {
		free(own);
		return -EIO;
	}
	if (new->size != blk->size || new->block > blk->block)
		err = -EINVAL;
	if (err) {
		blk_close(new);
		free(own);
		return err;
	}
	blk->kind->detach(blk);
	blk->kind->close(blk);
	free(blk->own_path);
	blk->own_path = own;
	blk->path = own;
	blk->kind = new->kind;
	blk->data = new->data;
	blk->direct = new->direct;
	blk->durable = new->durable;
	blk->can_discard = new->can_discard;
	/* Held by the storage that is gone. */
	blk->freeze.shared = false;
	free(new);
	blk->kind->attach(blk);
	thaw(blk, 0);
	return 0;
}

void blk_freeze_init(struct blk *blk)
{
	struct blk_freeze *f = &blk->freeze;

	f->quiet.done = is_quiet;
	f->timer_op.done = timer_over;
	f->sync_op.done = synced;
}

void blk_freeze_fini(struct blk *blk)
{
	thaw(blk, -ECANCELED);
}
