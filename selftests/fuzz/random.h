/* SPDX-License-Identifier: GPL-2.0 */
/* replay.h's pseudo-random inputs, for targets that take any bytes. */
#ifndef PVHV_FUZZ_RANDOM_H
#define PVHV_FUZZ_RANDOM_H

#include <stddef.h>
#include <stdint.h>

static void replay_random(unsigned long count)
{
	uint64_t x = 88172645463325252;
	uint8_t buf[512];
	size_t i;

	while (count--) {
		for (i = 0; i < sizeof(buf); i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			buf[i] = x >> 24;
			/* Small numbers go further. */
			if (x & 3 << 10)
				buf[i] &= 0x1f;
		}
		LLVMFuzzerTestOneInput(buf, sizeof(buf));
	}
}

#endif
