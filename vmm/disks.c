// SPDX-License-Identifier: GPL-2.0
/*
 * The disks of a machine as a whole.
 *  1. Their host halves are opened, and locked, before anything is made, so
 *     that what is wrong with an image is said first.
 *  2. Their fronts are devices of the machine.
 *  3. A disk without room on the host holds the machine; whoever lets it go
 *     on has made room, and what was held is tried again.
 *  4. Disks of a machine that moves are one host's at any time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "control.h"
#include "virtio_blk.h"

#define QUEUES_DEFAULT_MAX	8	/* more bring a guest nothing */

struct disks {
	struct vm *vm;
	struct run_notifier notifier;
	u32 nr;
	struct blk *blk[DISKS_MAX];

	/* [m] Of disks_flush(): one at a time. */
	struct blk_req *flushes;
	u32 flushing;
	int flush_err;
	void (*flushed)(void *arg, int err);
	void *flushed_arg;
};

static void no_space(void *arg)
{
	struct disks *disks = arg;

	vm_pause(disks->vm, PAUSE_DISK);
	control_event("disk-full", "{}");
}

static void run_changed(struct run_notifier *n, bool running)
{
	struct disks *disks = container_of(n, struct disks, notifier);
	u32 i;

	for (i = 0; running && i < disks->nr; i++)
		blk_resume(disks->blk[i]);
}

int disks_open(struct vm *vm)
{
	const struct options *opt = vm->opt;
	struct disks *disks;
	char label[16];
	u32 i;

	if (!opt->nr_disks)
		return 0;
	disks = calloc(1, sizeof(*disks));
	if (!disks)
		return fail(-ENOMEM, "out of memory");
	vm->disks = disks;
	disks->vm = vm;
	for (i = 0; i < opt->nr_disks; i++) {
		snprintf(label, sizeof(label), "disk%u", i);
		disks->blk[i] = blk_open(&opt->disks[i], label);
		if (!disks->blk[i])
			return -EINVAL;
		disks->nr++;
	}
	return 0;
}

static int create(struct vm *vm, struct blk *blk, const struct disk_options *opt)
{
	u32 queues = opt->queues;
	struct virtio *v;
	int ret;

	if (!queues)
		queues = vm->opt->cpus < QUEUES_DEFAULT_MAX ? vm->opt->cpus :
							      QUEUES_DEFAULT_MAX;
	v = virtio_blk_create(&vm->mem, blk, opt->serial, queues);
	if (!v)
		return -ENOMEM;
	ret = vm_add_virtio(vm, v);
	return ret ? ret : blk_control_add(blk);
}

int disks_create(struct vm *vm)
{
	struct disks *disks = vm->disks;
	int ret = 0;
	u32 i;

	if (!disks)
		return 0;
	for (i = 0; i < disks->nr && !ret; i++) {
		disks->blk[i]->events.no_space = no_space;
		disks->blk[i]->events.no_space_arg = disks;
		ret = create(vm, disks->blk[i], &vm->opt->disks[i]);
	}
	disks->notifier.changed = run_changed;
	vm_add_notifier(vm, &disks->notifier);
	return ret;
}

int disks_sync(struct vm *vm)
{
	struct disks *disks = vm->disks;
	int ret = 0;
	u32 i;

	for (i = 0; disks && i < disks->nr && !ret; i++)
		if (disks->blk[i]->kind->sync)
			ret = disks->blk[i]->kind->sync(disks->blk[i]);
	return ret;
}

static void tell_flushed(struct disks *disks, int err)
{
	void (*flushed)(void *arg, int err) = disks->flushed;

	disks->flushed = NULL;
	if (flushed)
		flushed(disks->flushed_arg, err);
}

static void flush_ended(struct disks *disks)
{
	if (--disks->flushing)
		return;
	free(disks->flushes);
	disks->flushes = NULL;
	tell_flushed(disks, disks->flush_err);
}

static void flushed_one(struct blk_req *req, int err)
{
	struct disks *disks = req->blk->events.no_space_arg;

	if (err)
		disks->flush_err = err;
	flush_ended(disks);
}

/*
 * What servers have in their caches goes to the storage; files are disks_sync()'s
 * and their locks' affair.  @done may be called from within.
 */
void disks_flush(struct vm *vm, void (*done)(void *arg, int err), void *arg)
{
	struct disks *disks = vm->disks;
	struct blk_req *req;
	u32 i;

	if (!disks) {
		done(arg, 0);
		return;
	}
	if (disks->flushing) {
		done(arg, -EBUSY);
		return;
	}
	disks->flushes = calloc(disks->nr, sizeof(*disks->flushes));
	if (!disks->flushes) {
		done(arg, -ENOMEM);
		return;
	}
	disks->flush_err = 0;
	disks->flushed = done;
	disks->flushed_arg = arg;
	disks->flushing = 1;		/* until all are under way */
	for (i = 0; i < disks->nr; i++) {
		if (disks->blk[i]->kind->sync || disks->blk[i]->readonly)
			continue;
		req = &disks->flushes[i];
		req->op = BLK_FLUSH;
		req->done = flushed_one;
		disks->flushing++;
		blk_submit(disks->blk[i], req);
	}
	flush_ended(disks);
}

/* The loop has ended: nothing will be heard of it. */
void disks_flush_end(struct vm *vm)
{
	if (vm->disks)
		tell_flushed(vm->disks, -ECANCELED);
}

static int own(struct blk *blk, bool yes)
{
	return blk->kind->own ? blk->kind->own(blk, yes) : 0;
}

/* All or none. */
int disks_let_go(struct vm *vm)
{
	struct disks *disks = vm->disks;
	int ret = 0;
	u32 i;

	for (i = 0; disks && i < disks->nr && !ret; i++) {
		ret = own(disks->blk[i], false);
		if (ret)
			fail(ret, "%s: cannot be handed over: %s",
			     disks->blk[i]->label, strerror(-ret));
	}
	while (ret && --i > 0)
		own(disks->blk[i - 1], true);
	return ret;
}

int disks_take(struct vm *vm)
{
	struct disks *disks = vm->disks;
	int ret = 0;
	u32 i;

	for (i = 0; disks && i < disks->nr && !ret; i++) {
		ret = own(disks->blk[i], true);
		if (ret)
			fail(ret, "--disk: '%s': %s", disks->blk[i]->path,
			     ret == -EBUSY ? "another program uses it: stop that first" :
					     strerror(-ret));
	}
	while (ret && --i > 0)
		own(disks->blk[i - 1], false);
	return ret;
}

const char *disks_path(const struct vm *vm, u32 nr)
{
	const struct disks *disks = vm->disks;

	return disks && nr < disks->nr ? disks->blk[nr]->path : "";
}

u64 disks_size(const struct vm *vm, u32 nr)
{
	const struct disks *disks = vm->disks;

	return disks && nr < disks->nr ? disks->blk[nr]->size : 0;
}

struct blk *disks_at(const struct vm *vm, u32 nr)
{
	const struct disks *disks = vm->disks;

	return disks && nr < disks->nr ? disks->blk[nr] : NULL;
}

/* The loop runs; before the fronts are opened. */
void disks_attach(struct vm *vm)
{
	struct disks *disks = vm->disks;
	u32 i;

	for (i = 0; disks && i < disks->nr; i++)
		blk_attach(disks->blk[i]);
}

/* The fronts are closed; loop_fini() waits for what is in flight. */
void disks_detach(struct vm *vm)
{
	struct disks *disks = vm->disks;
	u32 i;

	for (i = 0; disks && i < disks->nr; i++)
		blk_detach(disks->blk[i]);
}

/* The fronts are gone. */
void disks_close(struct vm *vm)
{
	struct disks *disks = vm->disks;
	u32 i;

	for (i = 0; disks && i < disks->nr; i++) {
		blk_control_remove(disks->blk[i]);
		blk_close(disks->blk[i]);
	}
	free(disks);
	vm->disks = NULL;
}
