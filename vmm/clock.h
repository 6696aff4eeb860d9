/* SPDX-License-Identifier: GPL-2.0 */
/*
 * CLOCK_MONOTONIC: now, and a while from now as pthread_cond_clockwait() has it.
 */
#ifndef PVHV_CLOCK_H
#define PVHV_CLOCK_H

#include <time.h>

#include "vmm.h"

#define CLOCK_S_NS	1000000000ULL

static inline u64 clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * CLOCK_S_NS + ts.tv_nsec;
}

static inline struct timespec clock_after_us(u64 us)
{
	u64 end = clock_now_ns() + us * 1000;

	return (struct timespec){
		.tv_sec = end / CLOCK_S_NS, .tv_nsec = end % CLOCK_S_NS,
	};
}

#endif /* PVHV_CLOCK_H */
