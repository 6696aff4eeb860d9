// SPDX-License-Identifier: GPL-2.0
/*
 * Whether the main thread takes a CPU at once from whoever wakes it there.
 *
 * A thread that is mostly asleep preempts others when it is woken.  Where the
 * host has no CPU to spare that is right for something that comes alone, but
 * of a burst the main thread would get each piece for itself, with two
 * changes of the CPU's task for each.  As a batch task it waits until its
 * waker has done what it is at (the guest waits, or the scheduler's turn is
 * over), and finds the burst as a whole.  Where a CPU is idle, nothing differs.
 *
 * So it is tried now and then while there is much to do, and kept up as long
 * as looks for work find more than one piece each.
 */
#include <sched.h>

#include "clock.h"

#define TRY_AFTER	64	/* looks that found something */
#define TRIAL		16	/* such looks */
#define TRIAL_MIN	4	/* if each has found one piece only */
#define LULL_NS		10000000ULL	/* after which it is over */

static struct {
	bool off;		/* the policy is not ours to change */
	bool on;
	unsigned int looks;
	unsigned int pieces;
	u64 last;		/* when somebody looked */
} patience;

static void set(bool on)
{
	const struct sched_param param = { 0 };

	if (sched_setscheduler(0, on ? SCHED_BATCH : SCHED_OTHER, &param))
		patience.off = true;
	else
		patience.on = on;
}

void patience_init(void)
{
	patience.off = sched_getscheduler(0) != SCHED_OTHER;
	patience.on = false;
	patience.looks = 0;
	patience.pieces = 0;
	patience.last = 0;
}

bool patience_on(void)
{
	return patience.on;
}

/* A look at the time @now has found so many pieces of work. */
void patience_note(unsigned int pieces, u64 now)
{
	bool lull;

	lull = now - patience.last > LULL_NS;
	patience.last = now;
	if (lull) {
		patience.looks = 0;
		patience.pieces = 0;
	}
	patience.looks++;
	patience.pieces += pieces;
	if (patience.on && !lull && patience.looks < TRIAL &&
	    (patience.looks < TRIAL_MIN || patience.pieces > patience.looks))
		return;
	if (!patience.on && patience.looks < TRY_AFTER)
		return;
	if (!patience.on)
		set(true);
	else if (lull || 2 * patience.pieces < 3 * patience.looks)
		set(false);
	patience.looks = 0;
	patience.pieces = 0;
}

void patience_look(unsigned int pieces)
{
	if (!patience.off && pieces)
		patience_note(pieces, clock_now_ns());
}
