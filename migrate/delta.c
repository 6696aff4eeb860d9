// SPDX-License-Identifier: GPL-2.0
/*
 * What changed in a page since it was sent: runs of words, each a count of
 * words to pass over, a count of words that follow, and those words XORed with
 * what the other side has.
 */
#include <string.h>

#include "mig.h"

static inline u64 word(const u8 *p, unsigned int i)
{
	u64 w;

	memcpy(&w, p + i * DELTA_WORD, sizeof(w));
	return w;
}

int delta_encode(const u8 *old, const u8 *new, u8 *out, size_t max)
{
	unsigned int at = 0, end = 0, start;
	size_t len = 0;

	for (;;) {
		while (at < PAGE_WORDS && word(old, at) == word(new, at))
			at++;
		if (at == PAGE_WORDS)
			return len;
		start = at;
		while (at < PAGE_WORDS && word(old, at) != word(new, at))
			at++;
		if (len + DELTA_HEAD + (at - start) * DELTA_WORD > max)
			return -1;
		put16(out + len, start - end);
		put16(out + len + 2, at - start);
		len += DELTA_HEAD;
		for (end = start; end < at; end++, len += DELTA_WORD) {
			u64 w = word(old, end) ^ word(new, end);

			memcpy(out + len, &w, sizeof(w));
		}
	}
}

int delta_check(const u8 *delta, size_t len)
{
	unsigned int at = 0, skip, count;

	while (len) {
		if (len < DELTA_HEAD)
			return -EBADMSG;
		skip = get16(delta);
		count = get16(delta + 2);
		if (!count || skip + count > PAGE_WORDS - at ||
		    count * DELTA_WORD > len - DELTA_HEAD)
			return -EBADMSG;
		at += skip + count;
		delta += DELTA_HEAD + count * DELTA_WORD;
		len -= DELTA_HEAD + count * DELTA_WORD;
	}
	return 0;
}

/* Only of what delta_check() has seen */
void delta_apply(u8 *page, const u8 *delta, size_t len)
{
	const u8 *end = delta + len;
	unsigned int count;
	u64 w;

	while (delta < end) {
		page += get16(delta) * DELTA_WORD;
		count = get16(delta + 2);
		delta += DELTA_HEAD;
		for (; count; count--, page += DELTA_WORD, delta += DELTA_WORD) {
			w = word(page, 0) ^ word(delta, 0);
			memcpy(page, &w, sizeof(w));
		}
	}
}

bool page_is_zero(const void *page)
{
	const u8 *p = page;
	unsigned int i;
	u64 any;

	/* Most pages that are not zero show it early. */
	if (word(p, 0) | word(p, 128) | word(p, PAGE_WORDS - 1))
		return false;
	for (i = 0; i < PAGE_WORDS; i += 8) {
		any = word(p, i) | word(p, i + 1) | word(p, i + 2) | word(p, i + 3) |
		      word(p, i + 4) | word(p, i + 5) | word(p, i + 6) | word(p, i + 7);
		if (any)
			return false;
	}
	return true;
}
