// SPDX-License-Identifier: GPL-2.0
/*
 * A bandwidth that several connections share: each says how much it is about to
 * send and learns how long to wait first.  Unused time is not saved up beyond
 * a burst.
 */
#include "mig.h"

#define BURST_NS	(20 * NSEC_PER_MSEC)

void limit_init(struct limit *l, u64 rate)
{
	pthread_mutex_init(&l->lock, NULL);
	l->rate = rate;
	l->free_at = 0;
}

u64 limit_take(struct limit *l, u64 bytes)
{
	u64 now, wait;

	if (!l->rate)
		return 0;
	now = now_ns();
	pthread_mutex_lock(&l->lock);
	if (l->free_at + BURST_NS < now)
		l->free_at = now - BURST_NS;
	wait = l->free_at > now ? l->free_at - now : 0;
	l->free_at += mul_div(bytes, NSEC_PER_SEC, l->rate);
	pthread_mutex_unlock(&l->lock);
	return wait;
}
