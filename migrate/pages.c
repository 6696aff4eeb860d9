// SPDX-License-Identifier: GPL-2.0
/*
 * Batches of pages, the payload of PAGES.
 *  1. Packing: each page is copied once, since the guest goes on writing, and
 *     all is decided on the copy: zero, the same as was sent, a difference, or
 *     as it is.  What is left can be compressed: always, or while there is
 *     time for it, unless it was in vain just before.
 *  2. Unpacking: the whole batch is checked before any of it reaches memory.
 */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "mig.h"

/* A difference that is nearly as long as the page is not worth its work. */
#define DELTA_MAX	(PAGE_SIZE * 3 / 4)
#define IDLE_LEVEL	1
#define IN_VAIN(n, len)	((n) > (len) / 8 * 7)
#define VAIN_BATCHES	15

static u64 entry(u64 page, u32 kind, u32 arg)
{
	return page << ENTRY_PAGE_SHIFT | (u64)kind << ENTRY_KIND_SHIFT | arg;
}

static u64 entry_page(u64 e)
{
	return e >> ENTRY_PAGE_SHIFT;
}

static u32 entry_kind(u64 e)
{
	return e >> ENTRY_KIND_SHIFT & 7;
}

static u32 entry_arg(u64 e)
{
	return e & ENTRY_ARG_MASK;
}

int batch_init(struct batch *b, int zstd_level, size_t cache, struct pages_stats *stats)
{
	memset(b, 0, sizeof(*b));
	b->stats = stats;
	b->level = zstd_level;
	b->out_cap = SECTION_ROOM(MAX(PAGES_MAX_LEN, PAGES_HEAD + PAGES_MAX * 8 +
				      ZSTD_COMPRESSBOUND(PAGES_RAW_MAX)));
	b->raw = malloc(PAGES_RAW_MAX);
	b->out = malloc(b->out_cap);
	if (zstd_level > 0)
		b->zstd = ZSTD_createCCtx();
	if (!b->raw || !b->out || (zstd_level > 0 && !b->zstd) || cache_init(&b->cache, cache)) {
		batch_fini(b);
		return -ENOMEM;
	}
	return 0;
}

void batch_fini(struct batch *b)
{
	free(b->raw);
	free(b->out);
	ZSTD_freeCCtx(b->zstd);
	cache_fini(&b->cache);
	memset(b, 0, sizeof(*b));
}

bool batch_full(const struct batch *b)
{
	return b->count == PAGES_MAX;
}

static void add_zero(struct batch *b, u64 page)
{
	u64 *last = b->count ? &b->entries[b->count - 1] : NULL;

	cache_drop(&b->cache, b->block, page);
	b->stats->zero++;
	b->pages++;
	if (last && entry_kind(*last) == KIND_ZERO && entry_arg(*last) < ZERO_RUN_MAX &&
	    entry_page(*last) + entry_arg(*last) == page) {
		++*last;
		return;
	}
	b->entries[b->count++] = entry(page, KIND_ZERO, 1);
}

void batch_add(struct batch *b, u64 page, const void *data, bool again)
{
	u8 delta[DELTA_MAX];
	u8 *copy = b->raw + b->raw_len, *sent;
	int len;

	memcpy(copy, data, PAGE_SIZE);
	if (page_is_zero(copy)) {
		add_zero(b, page);
		return;
	}
	sent = cache_find(&b->cache, b->block, page);
	len = sent ? delta_encode(sent, copy, delta, sizeof(delta)) : -1;
	if (!len) {
		b->stats->same++;
		return;
	}
	cache_store(&b->cache, b->block, page, copy, again);
	b->pages++;
	if (len > 0) {
		b->stats->delta++;
		memcpy(copy, delta, len);
		b->entries[b->count++] = entry(page, KIND_DELTA, len);
		b->raw_len += len;
		return;
	}
	b->stats->plain++;
	b->entries[b->count++] = entry(page, KIND_PLAIN, PAGE_SIZE);
	b->raw_len += PAGE_SIZE;
}

static bool wants_zstd(struct batch *b)
{
	if (b->level != MIGRATE_ZSTD_IDLE)
		return b->level;
	if (!b->idle)
		return false;
	if (b->vain) {
		b->vain--;
		return false;
	}
	if (!b->zstd)
		b->zstd = ZSTD_createCCtx();
	return b->zstd;
}

size_t batch_compress(struct batch *b, void *out, size_t room, const void *data, size_t len)
{
	size_t n;

	if (!len || !wants_zstd(b))
		return 0;
	n = ZSTD_compressCCtx(b->zstd, out, room, data, len, b->level > 0 ? b->level : IDLE_LEVEL);
	if (ZSTD_isError(n) || n >= len)
		n = 0;
	b->vain = !n || IN_VAIN(n, len) ? VAIN_BATCHES : 0;
	return n;
}

size_t batch_finish(struct batch *b)
{
	u8 *head = b->out + SEC_LEN, *data = head + PAGES_HEAD + b->count * 8;
	u32 encoding = ENCODING_PLAIN, len = b->raw_len;
	unsigned int i;
	size_t n;

	if (!b->count)
		return 0;
	n = batch_compress(b, data, b->out + b->out_cap - data, b->raw, b->raw_len);
	if (n) {
		encoding = ENCODING_ZSTD;
		len = n;
	}
	if (encoding == ENCODING_PLAIN)
		memcpy(data, b->raw, b->raw_len);
	put32(head + PAGES_BLOCK, b->block);
	put32(head + PAGES_COUNT, b->count);
	put32(head + PAGES_ENCODING, encoding);
	put32(head + PAGES_RAW_LEN, b->raw_len);
	for (i = 0; i < b->count; i++)
		put64(head + PAGES_HEAD + i * 8, b->entries[i]);
	len += PAGES_HEAD + b->count * 8;
	b->count = 0;
	b->raw_len = 0;
	return len;
}

int unpack_init(struct unpack *u)
{
	u->zstd = NULL;
	u->pages = 0;
	u->raw = malloc(PAGES_RAW_MAX);
	return u->raw ? 0 : -ENOMEM;
}

void unpack_fini(struct unpack *u)
{
	free(u->raw);
	ZSTD_freeDCtx(u->zstd);
	u->raw = NULL;
	u->zstd = NULL;
}

static bool has(const struct unpack *u, u32 block, u64 page)
{
	return u->have[block][page / 64] >> page % 64 & 1;
}

/* All of the entries against the block and the data they announce */
static const char *check(const struct unpack *u, u32 block, const u8 *entries, u32 count,
			 const u8 *raw, u32 raw_len)
{
	u64 pages = u->blocks->b[block].size / PAGE_SIZE, page;
	u32 i, arg, at = 0;

	for (i = 0; i < count; i++) {
		u64 e = get64(entries + i * 8);

		page = entry_page(e);
		arg = entry_arg(e);
		if (page >= pages)
			return "a page outside of memory";
		if (entry_kind(e) == KIND_ZERO) {
			if (!arg || arg > pages - page)
				return "pages outside of memory";
			continue;
		}
		if (entry_kind(e) > KIND_DELTA || arg > raw_len - at ||
		    (entry_kind(e) == KIND_PLAIN && arg != PAGE_SIZE) ||
		    (entry_kind(e) == KIND_DELTA && (!arg || arg >= PAGE_SIZE)))
			return "a malformed entry";
		if (entry_kind(e) == KIND_DELTA && delta_check(raw + at, arg))
			return "a malformed difference";
		at += arg;
	}
	return at == raw_len ? NULL : "more data than pages";
}

static void write_zeroes(struct unpack *u, u32 block, u64 page, u32 nr)
{
	const struct migrate_block *b = &u->blocks->b[block];
	u8 *host = (u8 *)b->host + page * PAGE_SIZE;

	for (; nr; nr--, page++, host += PAGE_SIZE) {
		/* Memory that nobody wrote stays untouched. */
		if ((!b->fresh || has(u, block, page)) && !page_is_zero(host))
			memset(host, 0, PAGE_SIZE);
		u->have[block][page / 64] |= 1ULL << page % 64;
		u->stats->zero++;
		u->pages++;
	}
}

static int apply(struct unpack *u, u32 block, u64 e, const u8 *raw)
{
	u64 page = entry_page(e);
	u8 *host = (u8 *)u->blocks->b[block].host + page * PAGE_SIZE;

	switch (entry_kind(e)) {
	case KIND_ZERO:
		write_zeroes(u, block, page, entry_arg(e));
		return 0;
	case KIND_PLAIN:
		memcpy(host, raw, PAGE_SIZE);
		u->have[block][page / 64] |= 1ULL << page % 64;
		u->stats->plain++;
		break;
	default:
		if (!has(u, block, page))
			return -EBADMSG;
		delta_apply(host, raw, entry_arg(e));
		u->stats->delta++;
	}
	u->pages++;
	return 0;
}

static int bad(struct unpack *u, const char *what)
{
	return verdict(u->verdict, -EBADMSG, "a section of pages has %s", what);
}

static int decompress(struct unpack *u, const u8 *data, size_t len, u32 raw_len)
{
	size_t n;

	if (!u->zstd)
		u->zstd = ZSTD_createDCtx();
	if (!u->zstd)
		return verdict(u->verdict, -ENOMEM, "no memory for decompression");
	n = ZSTD_decompressDCtx(u->zstd, u->raw, raw_len, data, len);
	return n == raw_len ? 0 : bad(u, "damaged compressed data");
}

int unpack(struct unpack *u, const u8 *data, size_t len)
{
	const u8 *entries = data + PAGES_HEAD, *raw;
	u32 block, count, raw_len, i, at = 0;
	const char *what;
	int err;

	if (len < PAGES_HEAD)
		return bad(u, "no head");
	block = get32(data + PAGES_BLOCK);
	count = get32(data + PAGES_COUNT);
	raw_len = get32(data + PAGES_RAW_LEN);
	if (block >= u->blocks->nr || !count || count > PAGES_MAX || raw_len > PAGES_RAW_MAX ||
	    len - PAGES_HEAD < count * 8)
		return bad(u, "a malformed head");
	raw = entries + count * 8;
	len -= PAGES_HEAD + count * 8;
	if (get32(data + PAGES_ENCODING) == ENCODING_ZSTD) {
		err = decompress(u, raw, len, raw_len);
		if (err)
			return err;
		raw = u->raw;
	} else if (get32(data + PAGES_ENCODING) != ENCODING_PLAIN || len != raw_len) {
		return bad(u, "a malformed encoding");
	}
	what = check(u, block, entries, count, raw, raw_len);
	if (what)
		return bad(u, what);
	for (i = 0; i < count; i++) {
		u64 e = get64(entries + i * 8);

		if (apply(u, block, e, raw + at))
			return bad(u, "a difference to a page that never came");
		at += entry_kind(e) == KIND_ZERO ? 0 : entry_arg(e);
	}
	return 0;
}
