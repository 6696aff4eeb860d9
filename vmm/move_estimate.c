// SPDX-License-Identifier: GPL-2.0
/*
 * What a move of the machine would take, while it stays.
 *  1. How fast it writes: the log of written pages is kept for a while.
 *  2. How much memory it has: what the process holds of it.
 *  3. The estimate is the library's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "control.h"
#include "move.h"

#define PAGE	MIGRATE_PAGE_SIZE

static struct {
	struct vm *vm;
	struct control_call *call;	/* [m] NULL: nobody asks */
	struct loop_op op;
	struct migrate_estimate e;
	u64 begin_ns;
} estimate;

bool move_estimates(void)
{
	return estimate.call || estimate.op.busy;
}

/* 1. */

/* What is in the log of a block leaves it; @pages: how many that were. */
static int take_block(struct vm *vm, unsigned int nr, u64 size, u64 *pages)
{
	u64 words = (size / PAGE + 63) / 64, i;
	u64 *bitmap = calloc(words, sizeof(*bitmap));
	int ret;

	ret = bitmap ? move_out_fetch(vm, nr, bitmap) : -ENOMEM;
	if (!ret)
		ret = move_out_clear(vm, nr, size / PAGE, bitmap);
	for (i = 0; !ret && i < words; i++)
		*pages += __builtin_popcountll(bitmap[i]);
	free(bitmap);
	return ret;
}

static int take(struct vm *vm, u64 *pages)
{
	struct migrate_block list[MOVE_BLOCKS_MAX];
	int nr = move_blocks(vm, list, ARRAY_SIZE(list)), i, ret = 0;

	*pages = 0;
	for (i = 0; i < nr && !ret; i++)
		ret = take_block(vm, i, list[i].size, pages);
	return ret;
}

/* A new log may have all pages in it. */
static int begin(struct vm *vm)
{
	u64 pages;
	int ret;

	ret = move_out_log(vm);
	if (ret)
		return ret;
	ret = take(vm, &pages);
	if (ret)
		move_out_unlog(vm);
	return ret;
}

/* 2. and 3. */

static void answer(struct control_call *call, int err)
{
	struct migrate_estimate *e = &estimate.e;

	if (err) {
		control_fail(call, err, "the log of written pages: %s",
			     strerror(-err));
		return;
	}
	migrate_estimate(e);
	control_done(call, json_pack("{s:I, s:I, s:I, s:f, s:f, s:b}",
				     "memory", (json_int_t)e->memory,
				     "dirty_rate", (json_int_t)e->dirty_rate,
				     "bandwidth", (json_int_t)e->bandwidth,
				     "seconds", e->elapsed_us / 1e6,
				     "downtime", e->downtime_us / 1e6,
				     "converges", e->converges));
}

static void measured(struct loop_op *op, int res)
{
	struct control_call *call = estimate.call;
	u64 took, pages;
	int ret;

	(void)op;
	(void)res;
	if (!call)
		return;
	estimate.call = NULL;
	took = clock_now_ns() - estimate.begin_ns;
	ret = take(estimate.vm, &pages);
	move_out_unlog(estimate.vm);
	if (!ret)
		estimate.e.dirty_rate = pages * PAGE * (CLOCK_S_NS / 1000) /
					(took / 1000 + 1);
	answer(call, ret);
}

void move_estimate(struct vm *vm, u64 period_ms, u64 bandwidth, u64 downtime_ms,
		   struct control_call *call)
{
	u64 resident = control_vm_resident();
	int ret;

	estimate.vm = vm;
	estimate.e = (struct migrate_estimate){
		.memory = resident < vm->mem.size ? resident : vm->mem.size,
		.bandwidth = bandwidth, .downtime_ms = downtime_ms,
	};
	estimate.op.done = measured;
	ret = begin(vm);
	if (ret) {
		answer(call, ret);
		return;
	}
	estimate.begin_ns = clock_now_ns();
	ret = loop_timer(&estimate.op, period_ms);
	if (ret) {
		move_out_unlog(vm);
		answer(call, ret);
		return;
	}
	estimate.call = call;
}

/* The loop has ended. */
void move_estimate_end(void)
{
	struct control_call *call = estimate.call;

	loop_cancel(&estimate.op);
	estimate.call = NULL;
	if (!call)
		return;
	move_out_unlog(estimate.vm);
	control_fail(call, -ECANCELED, "the machine stops");
}
