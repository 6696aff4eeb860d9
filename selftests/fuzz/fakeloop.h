/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The event loop's functions for fuzz targets: no kernel, no time. Watches and polls stay until they are cancelled or fired by the
 * target; deferred tasks run when it says so.
 */
#ifndef PVHV_FUZZ_FAKELOOP_H
#define PVHV_FUZZ_FAKELOOP_H

#include "../../vmm/vmm.h"

static struct loop_task *fakeloop_tasks, **fakeloop_tail = &fakeloop_tasks;

int loop_watch(struct loop_op *op, int fd)
{
	op->busy = true;
	op->watched = fd;
	return 0;
}

int loop_watch_eventfd(struct loop_op *op, int fd)
{
	return loop_watch(op, fd);
}

int loop_poll(struct loop_op *op, int fd, u32 events)
{
	(void)fd;
	(void)events;
	op->busy = true;
	return 0;
}

static struct loop_op *fakeloop_timer;	/* the last one that was set */

int loop_timer(struct loop_op *op, unsigned int ms)
{
	(void)ms;
	fakeloop_timer = op;
	op->watched = -1;
	op->busy = true;
	return 0;
}

int loop_timer_us(struct loop_op *op, u64 us)
{
	(void)us;
	op->busy = true;
	return 0;
}

/* Ends at once: what a loop does later is then the same as now. */
void loop_cancel(struct loop_op *op)
{
	if (!op->busy)
		return;
	op->busy = false;
	op->watched = -1;
	op->done(op, -ECANCELED);
}

void loop_wake(void)
{
}

void loop_defer(struct loop_task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->next = NULL;
	*fakeloop_tail = task;
	fakeloop_tail = &task->next;
}

void loop_undefer(struct loop_task *task)
{
	struct loop_task **at = &fakeloop_tasks;

	if (!task->queued)
		return;
	while (*at != task)
		at = &(*at)->next;
	*at = task->next;
	if (!*at)
		fakeloop_tail = at;
	task->queued = false;
}

/* At most @nr of them: some defer themselves again. */
static void fakeloop_run(unsigned int nr)
{
	struct loop_task *task;

	for (; nr && fakeloop_tasks; nr--) {
		task = fakeloop_tasks;
		loop_undefer(task);
		task->run(task);
	}
}

/* The driver signals.  One look too many, after a signal for nothing, harms nobody. */
__attribute__((unused))
static void fakeloop_kick(struct loop_task *task)
{
	bells_look();
	loop_defer(task);
}

/* A one-time poll or timer completes; a watch reports. */
__attribute__((unused))
static void fakeloop_fire(struct loop_op *op)
{
	if (!op->busy)
		return;
	op->busy = op->watched >= 0;
	op->done(op, 1);
}

#endif
