// SPDX-License-Identifier: GPL-2.0
/*
 * What the checker knows of memory:
 *  1. PAGES of a stream: each entry, each difference, and that a difference
 *     follows the page that it changes;
 *  2. MEMORY and SUMS of an image: every page against its checksum.
 */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "verify.h"

#define CHUNK_PAGES	256u

static bool came(const struct verify_block *b, uint64_t page)
{
	return b->have[page / 8] & 1 << page % 8;
}

static void comes(struct verify_block *b, uint64_t page)
{
	b->have[page / 8] |= 1 << page % 8;
}

/* Whether the runs stay inside of the page and of the data */
static bool good_difference(const uint8_t *p, uint32_t len)
{
	const uint8_t *end = p + len;
	uint32_t words = 0, run;

	while (p != end) {
		if (end - p < 4)
			return false;
		run = p[2] | p[3] << 8;
		words += (p[0] | p[1] << 8) + run;
		p += 4;
		if (!run || words > 512 || end - p < (long)run * 8)
			return false;
		p += run * 8;
	}
	return true;
}

static int check_entry(struct verify *v, struct verify_block *b, uint64_t entry, const uint8_t **data,
		       const uint8_t *end)
{
	uint64_t page = entry >> 16, i;
	uint32_t kind = entry >> 13 & 7, arg = entry & 0x1fff;

	if (page >= b->pages)
		return broken(v, "page %llu of block '%s', which has %llu", (unsigned long long)page,
			      b->name, (unsigned long long)b->pages);
	if (kind == KIND_ZERO) {
		if (!arg || arg > b->pages - page)
			return broken(v, "%u pages of zeroes at page %llu of block '%s'", arg,
				      (unsigned long long)page, b->name);
		for (i = 0; i < arg; i++)
			comes(b, page + i);
		v->pages += arg;
		return 0;
	}
	if (kind > KIND_DELTA || (kind == KIND_PLAIN ? arg != 4096 : !arg || arg >= 4096))
		return broken(v, "page %llu has kind %u and length %u", (unsigned long long)page, kind,
			      arg);
	if (arg > end - *data)
		return broken(v, "the data ends in page %llu", (unsigned long long)page);
	if (kind == KIND_DELTA && !good_difference(*data, arg))
		return broken(v, "the difference to page %llu is malformed",
			      (unsigned long long)page);
	if (kind == KIND_DELTA && !came(b, page))
		return broken(v, "a difference to page %llu, which never came",
			      (unsigned long long)page);
	*data += arg;
	comes(b, page);
	v->pages++;
	return 0;
}

static int check_entries(struct verify *v, struct verify_block *b, const uint8_t *entries,
			 uint32_t count, const uint8_t *data, uint32_t len)
{
	const uint8_t *end = data + len;
	uint32_t i;

	for (i = 0; i < count; i++)
		if (check_entry(v, b, le64(entries + i * 8), &data, end))
			return -1;
	return data == end ? 0 : broken(v, "data that belongs to no page");
}

int verify_pages(struct verify *v, const uint8_t *p, uint64_t len)
{
	uint32_t block, count, encoding, raw_len;
	const uint8_t *data;
	uint8_t *raw;
	int ret;

	if (len < 16)
		return broken(v, "PAGES has no head");
	block = le32(p);
	count = le32(p + 4);
	encoding = le32(p + 8);
	raw_len = le32(p + 12);
	if (block >= v->nr || !count || count > 256 || raw_len > 1 << 20 || len - 16 < count * 8)
		return broken(v, "PAGES has a malformed head");
	data = p + 16 + count * 8;
	len -= 16 + count * 8;
	if (encoding == ENCODING_PLAIN) {
		if (len != raw_len)
			return broken(v, "%llu bytes of data, announced were %u",
				      (unsigned long long)len, raw_len);
		return check_entries(v, &v->block[block], p + 16, count, data, raw_len);
	}
	if (encoding != ENCODING_ZSTD)
		return broken(v, "encoding %u is not known", encoding);
	raw = malloc(raw_len + 1);
	if (!raw)
		return broken(v, "no memory");
	if (ZSTD_decompress(raw, raw_len, data, len) != raw_len)
		ret = broken(v, "the compressed data is damaged");
	else
		ret = check_entries(v, &v->block[block], p + 16, count, raw, raw_len);
	free(raw);
	return ret;
}

/* What lies between blocks is zero */
static int check_gap(struct verify *v, uint64_t at, uint64_t end)
{
	uint8_t buf[4096];
	uint64_t n, i;

	for (; at < end; at += n) {
		n = end - at < sizeof(buf) ? end - at : sizeof(buf);
		if (!input_get(v->in, at, buf, n))
			return broken(v, "cannot be read");
		for (i = 0; i < n; i++)
			if (buf[i])
				return broken(v, "byte %llu, which belongs to no block, is not zero",
					      (unsigned long long)(at + i));
	}
	return 0;
}

int verify_memory(struct verify *v, uint64_t begin, uint64_t len)
{
	uint64_t at = begin, size;
	unsigned int i;

	if (!(v->flags & 2) || !v->nr || v->memory_end)
		return broken(v, "MEMORY is out of place");
	for (i = 0; i < v->nr; i++) {
		const struct verify_block *b = &v->block[i];

		size = b->pages * 4096;
		if (b->offset % 4096 || b->offset < at || b->offset > begin + len ||
		    size > begin + len - b->offset)
			return broken(v, "block '%s' lies outside of MEMORY", b->name);
		if (check_gap(v, at, b->offset))
			return -1;
		at = b->offset + size;
	}
	if (at != begin + len)
		return broken(v, "MEMORY is longer than its blocks");
	v->memory_begin = begin;
	v->memory_end = at;
	return 0;
}

int verify_sums(struct verify *v, const uint8_t *p, uint64_t len)
{
	struct verify_block *b;
	uint64_t first, i, j, n;
	uint32_t block, count;
	uint8_t *buf;
	int ret = 0;

	block = len < 16 ? UINT32_MAX : le32(p);
	if (block >= v->nr)
		return broken(v, "SUMS has a malformed head");
	b = &v->block[block];
	count = le32(p + 4);
	first = le64(p + 8);
	if (len != 16 + count * 4ull || first > b->pages || count > b->pages - first)
		return broken(v, "SUMS has a malformed head");
	buf = malloc(CHUNK_PAGES * 4096);
	if (!buf)
		return broken(v, "no memory");
	for (i = 0; !ret && i < count; i += n) {
		n = count - i < CHUNK_PAGES ? count - i : CHUNK_PAGES;
		if (!input_get(v->in, b->offset + (first + i) * 4096, buf, n * 4096))
			ret = broken(v, "memory cannot be read");
		for (j = 0; !ret && j < n; j++)
			if (crc32c(0, buf + j * 4096, 4096) != le32(p + 16 + (i + j) * 4))
				ret = broken(v, "page %llu of block '%s', at byte %llu, has another checksum",
					     (unsigned long long)(first + i + j), b->name,
					     (unsigned long long)(b->offset + (first + i + j) * 4096));
	}
	free(buf);
	return ret;
}
