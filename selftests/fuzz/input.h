/* SPDX-License-Identifier: GPL-2.0 */
/* What fuzz targets share: the input byte by byte, zeroes behind its end, and checks that end the program. */
#ifndef PVHV_FUZZ_INPUT_H
#define PVHV_FUZZ_INPUT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

#define CHECK(cond)									\
	do {										\
		if (!(cond)) {								\
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);	\
			abort();							\
		}									\
	} while (0)

static const uint8_t *input_at;
static size_t input_len;

static inline void input_set(const uint8_t *input, size_t size)
{
	input_at = input;
	input_len = size;
}

static inline size_t input_left(void)
{
	return input_len;
}

static inline uint8_t take8(void)
{
	if (!input_len)
		return 0;
	input_len--;
	return *input_at++;
}

static inline uint16_t take16(void)
{
	uint8_t low = take8();

	return low | take8() << 8;
}

static inline uint32_t take32(void)
{
	uint16_t low = take16();

	return low | (uint32_t)take16() << 16;
}

#endif
