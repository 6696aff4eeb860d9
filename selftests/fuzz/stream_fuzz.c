// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for the checker of streams (migrate/verify.c), against what restores them.
 *
 *   libFuzzer, replay and sources: see stream-fuzz.sh
 *
 * Input: as migrate_fuzz.c's. What must hold: the checker stays inside of the input, and says where and why it refuses one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../migrate/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void put(uint8_t *p, uint64_t v, int bytes)
{
	for (; bytes--; v >>= 8)
		*p++ = v;
}

static void make_right(uint8_t *data, size_t size)
{
	uint64_t at = 64, len, number = 0;

	if (size < 64)
		return;
	memcpy(data, "PVHVMIG\x1a", 8);
	put(data + 8, 1, 4);
	put(data + 40, 4096, 4);
	put(data + 60, crc32c(0, data, 60), 4);
	while (size - at >= 32) {
		len = le64(data + at + 8);
		memcpy(data + at, "SECT", 4);
		put(data + at + 16, number++, 8);
		if (len <= size - at - 32)
			put(data + at + 24, crc32c(0, data + at + 32, len), 4);
		put(data + at + 28, crc32c(0, data + at, 28), 4);
		if (len > size - at - 32 || (len + 7) / 8 * 8 > size - at - 32)
			return;
		at += 32 + (len + 7) / 8 * 8;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct input in = { .fd = -1, .len = size ? size - 1 : 0 };
	struct verify v;
	uint8_t *copy;

	if (!size)
		return 0;
	copy = malloc(in.len ? in.len : 1);
	if (!copy)
		return 0;
	memcpy(copy, input + 1, in.len);
	if (input[0] & 2)
		make_right(copy, in.len);
	in.mem = copy;
	if (verify(&v, &in, NULL) && !*v.why)
		abort();
	if (v.at > in.len)
		abort();
	verify_fini(&v);
	free(copy);
	return 0;
}

#ifdef REPLAY
static void replay_random(unsigned long count)
{
	static uint8_t buf[2048];
	unsigned int seed = 1, n;
	size_t len, at;

	while (count--) {
		len = 1 + rand_r(&seed) % (sizeof(buf) - 1);
		for (at = 0; at < len; at++)
			buf[at] = rand_r(&seed) % 5 ? 0 : rand_r(&seed);
		buf[0] |= 2;
		put(buf + 1 + 12, 1 + rand_r(&seed) % 4, 4);
		put(buf + 1 + 32, 0, 4);
		put(buf + 1 + 36, 1, 4);
		/* a chain of sections, of small types and lengths */
		for (at = 1 + 64, n = 1; at + 96 < len; at += 32 + (le64(buf + at + 8) + 7) / 8 * 8, n++) {
			put(buf + at + 4, n < 3 ? n : rand_r(&seed) % 12u, 2);
			put(buf + at + 6, rand_r(&seed) % 3, 2);
			put(buf + at + 8, n == 1 ? 8 : n == 2 ? 64 : rand_r(&seed) % 64, 8);
			if (n == 1) {
				memset(buf + at + 32, 0, 8);
			} else if (n == 2) {
				memset(buf + at + 32, 0, 64);
				buf[at + 32] = 1;
				put(buf + at + 32 + 8 + 40, 4096 * (1 + rand_r(&seed) % 100), 8);
			}
		}
		LLVMFuzzerTestOneInput(buf, len);
	}
}

#include "replay.h"
#endif
