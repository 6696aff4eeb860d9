// SPDX-License-Identifier: GPL-2.0
/*
 * A token bucket: how much of something (bytes, requests) may pass in a
 * second.  Pure arithmetic on the caller's clock in nanoseconds.
 *
 * Whoever finds the bucket above zero may take any amount, and runs it into
 * debt if it takes more than there was: a request larger than the bucket
 * passes, and the next one waits for the longer.  In any stretch of time no
 * more passes than rate * time + burst + one request.
 */
#include "vmm.h"

#define SECOND_NS	1000000000ULL
#define BURST_DIVISOR	10	/* the bucket holds a tenth of a second */

void limit_set(struct limit *l, u64 rate, u64 now)
{
	l->rate = rate;
	l->burst = rate / BURST_DIVISOR ? rate / BURST_DIVISOR : 1;
	l->level = l->burst;
	l->since = now;
	l->rest = 0;
}

/* Adds what has come in since; what is no whole token yet is kept, too. */
static void refill(struct limit *l, u64 now)
{
	unsigned __int128 earned;
	u64 room = l->burst - l->level;

	if (now <= l->since)
		return;
	earned = (unsigned __int128)(now - l->since) * l->rate + l->rest;
	l->since = now;
	if (earned / SECOND_NS >= room) {
		l->level = l->burst;
		l->rest = 0;
		return;
	}
	l->level += (s64)(earned / SECOND_NS);
	l->rest = earned % SECOND_NS;
}

/* Nanoseconds until something may pass; 0: now. */
u64 limit_delay(struct limit *l, u64 now)
{
	unsigned __int128 delay;

	if (!l->rate)
		return 0;
	refill(l, now);
	if (l->level > 0)
		return 0;
	delay = (unsigned __int128)(1 - l->level) * SECOND_NS - l->rest;
	delay = (delay + l->rate - 1) / l->rate;
	return delay < INT64_MAX ? (u64)delay : INT64_MAX;
}

void limit_take(struct limit *l, u64 amount)
{
	s64 most = INT64_MAX / 2;

	if (!l->rate)
		return;
	if (amount > (u64)most || l->level < (s64)amount - most)
		l->level = -most;
	else
		l->level -= (s64)amount;
}
