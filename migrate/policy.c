// SPDX-License-Identifier: GPL-2.0
/*
 * When to stop the guest, as pure functions of what was measured.
 *  1. Stop if what remains fits into the downtime that is allowed; but not as
 *     long as one more round, which is short then, leaves much less, nor before
 *     some rounds more have tried for half of it.
 *  2. Out of time: stop anyway if asked to, else give up.
 *  3. Rounds that leave as much as half of what they sent will not end soon by
 *     themselves: slow the guest down.
 *  4. A file takes any downtime rather than a slower guest.
 *  5. What all of that will come to.
 */
#include "mig.h"

#define ROUNDS_BEFORE_THROTTLE	2
#define NOT_CONVERGING(remaining, last)	((remaining) > (last) / 2)
#define THROTTLE_FIRST		20
#define THROTTLE_STEP		15
#define THROTTLE_MAX		99
/* Less than this takes no longer than all else of a stop. */
#define ENOUGH			(256U << 10)
#define WORTH			3	/* what is left is a third at most */
#define ROUNDS_WORTH		12
#define ESTIMATE_ROUNDS		64

/* A round that takes @ns */
static bool worth_a_round(const struct policy_input *in, u64 ns)
{
	u64 then = mul_div(in->dirty_rate, ns, NSEC_PER_SEC);

	return in->remaining > ENOUGH && then <= in->remaining / WORTH &&
	       in->round < (in->max_rounds ? in->max_rounds : ROUNDS_WORTH);
}

/* What is allowed is the worst case; a guest that is slowed down gets a better one. */
static bool could_be_half(const struct policy_input *in, u64 expected_ns)
{
	return expected_ns > in->budget_ns / 2 && in->remaining > ENOUGH &&
	       !in->max_rounds && in->round < ROUNDS_WORTH;
}

enum policy policy_decide(const struct policy_input *in, u64 *expected_ns)
{
	u64 wire = in->remaining, ns;
	bool late;

	/* As well compressed as all before it; if nothing was sent, not at all. */
	if (in->raw)
		wire = mul_div(in->remaining, in->wire, in->raw);
	ns = wire ? mul_div(wire, NSEC_PER_SEC, in->link_rate) : 0;
	*expected_ns = ns > UINT64_MAX - in->fixed_ns ? UINT64_MAX : ns + in->fixed_ns;

	late = in->timeout_ns && in->elapsed_ns >= in->timeout_ns;
	if (in->now)
		return POLICY_STOP;
	if (*expected_ns <= in->budget_ns && (late || !could_be_half(in, *expected_ns)))
		return !late && worth_a_round(in, ns) ? POLICY_CONTINUE : POLICY_STOP;
	if (late)
		return in->forces ? POLICY_STOP : POLICY_GIVE_UP;
	if (in->max_rounds && in->round >= in->max_rounds)
		return POLICY_STOP;
	if (in->round >= ROUNDS_BEFORE_THROTTLE && NOT_CONVERGING(in->remaining, in->last))
		return in->max_rounds ? POLICY_STOP : POLICY_THROTTLE;
	return POLICY_CONTINUE;
}

unsigned int policy_throttle(unsigned int percent)
{
	if (!percent)
		return THROTTLE_FIRST;
	return MIN(percent + THROTTLE_STEP, THROTTLE_MAX);
}

void migrate_estimate(struct migrate_estimate *e)
{
	struct policy_input in = {
		.budget_ns = e->downtime_ms * NSEC_PER_MSEC, .fixed_ns = POLICY_FIXED_NS,
		.link_rate = e->bandwidth, .dirty_rate = e->dirty_rate, .remaining = e->memory,
	};
	enum policy what = POLICY_CONTINUE;
	u64 took, elapsed = 0, expected = 0;

	/* A budget that not even nothing fits into is never met. */
	while (what == POLICY_CONTINUE && in.round < ESTIMATE_ROUNDS) {
		in.last = in.remaining;
		took = mul_div(in.remaining, NSEC_PER_SEC, in.link_rate);
		elapsed += took;
		in.remaining = MIN(mul_div(e->dirty_rate, took, NSEC_PER_SEC), e->memory);
		in.round++;
		what = policy_decide(&in, &expected);
	}
	e->converges = what == POLICY_STOP;
	e->downtime_us = expected / NSEC_PER_USEC;
	e->elapsed_us = elapsed / NSEC_PER_USEC + e->downtime_us;
}
