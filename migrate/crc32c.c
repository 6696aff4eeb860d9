// SPDX-License-Identifier: GPL-2.0
/*
 * CRC-32C (Castagnoli): by the processor's instruction where it has one, by a
 * table elsewhere.
 */
#include <string.h>

#include "mig.h"

#define POLYNOMIAL	0x82f63b78U	/* bits reversed */

static u32 table[256];
static bool fast;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void prepare(void)
{
	u32 n, crc;
	int bit;

	for (n = 0; n < 256; n++) {
		crc = n;
		for (bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
		table[n] = crc;
	}
	__builtin_cpu_init();
	fast = __builtin_cpu_supports("sse4.2");
}

static u32 by_table(u32 crc, const u8 *p, size_t len)
{
	while (len--)
		crc = crc >> 8 ^ table[(u8)crc ^ *p++];
	return crc;
}

__attribute__((target("sse4.2")))
static u32 by_instruction(u32 crc, const u8 *p, size_t len)
{
	u64 crc64, word;

	crc64 = crc;
	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		crc64 = __builtin_ia32_crc32di(crc64, word);
	}
	crc = crc64;
	while (len--)
		crc = __builtin_ia32_crc32qi(crc, *p++);
	return crc;
}

u32 crc32c_table(u32 crc, const void *data, size_t len)
{
	pthread_once(&once, prepare);
	return ~by_table(~crc, data, len);
}

u32 crc32c(u32 crc, const void *data, size_t len)
{
	pthread_once(&once, prepare);
	return fast ? ~by_instruction(~crc, data, len) : ~by_table(~crc, data, len);
}
