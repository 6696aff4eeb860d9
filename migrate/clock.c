// SPDX-License-Identifier: GPL-2.0
/* Time, and arithmetic on it that cannot overflow. */
#include <time.h>

#include "mig.h"

u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * NSEC_PER_MSEC };

	nanosleep(&ts, NULL);
}

u64 mul_div(u64 a, u64 b, u64 c)
{
	unsigned __int128 x;

	if (!c)
		return UINT64_MAX;
	x = (unsigned __int128)a * b / c;
	return x > UINT64_MAX ? UINT64_MAX : (u64)x;
}
