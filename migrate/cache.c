// SPDX-License-Identifier: GPL-2.0
/*
 * The last contents sent of some pages, so that only the difference has to be
 * sent when they come again.  Bounded: each page has one slot where it may be.
 * A page sent for the first time takes only a free slot; one that was sent
 * again has shown that it is worth more.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mig.h"

#define BLOCK_SHIFT	56
#define EMPTY		UINT64_MAX
#define MULTIPLIER	0x9e3779b97f4a7c15ULL	/* 2^64 over the golden ratio */

int cache_init(struct cache *c, size_t bytes)
{
	u64 i;

	memset(c, 0, sizeof(*c));
	if (bytes < PAGE_SIZE)
		return 0;
	c->slots = bytes / PAGE_SIZE;
	c->key = malloc(c->slots * sizeof(*c->key));
	/* Touched as it fills. */
	c->data = mmap(NULL, c->slots * PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!c->key || c->data == MAP_FAILED) {
		c->data = c->data == MAP_FAILED ? NULL : c->data;
		cache_fini(c);
		return -ENOMEM;
	}
	for (i = 0; i < c->slots; i++)
		c->key[i] = EMPTY;
	return 0;
}

void cache_fini(struct cache *c)
{
	free(c->key);
	if (c->data)
		munmap(c->data, c->slots * PAGE_SIZE);
	memset(c, 0, sizeof(*c));
}

static u64 key_of(unsigned int block, u64 page)
{
	return (u64)block << BLOCK_SHIFT | page;
}

static u64 slot_of(const struct cache *c, u64 key)
{
	return (u64)(((unsigned __int128)(key * MULTIPLIER) * c->slots) >> 64);
}

u8 *cache_find(struct cache *c, unsigned int block, u64 page)
{
	u64 key = key_of(block, page), slot;

	if (!c->slots)
		return NULL;
	slot = slot_of(c, key);
	return c->key[slot] == key ? c->data + slot * PAGE_SIZE : NULL;
}

void cache_drop(struct cache *c, unsigned int block, u64 page)
{
	u64 key = key_of(block, page), slot;

	if (!c->slots)
		return;
	slot = slot_of(c, key);
	if (c->key[slot] == key)
		c->key[slot] = EMPTY;
}

void cache_store(struct cache *c, unsigned int block, u64 page, const u8 *data, bool again)
{
	u64 key = key_of(block, page), slot;

	if (!c->slots)
		return;
	slot = slot_of(c, key);
	if (c->key[slot] != EMPTY && c->key[slot] != key && !again)
		return;
	c->key[slot] = key;
	memcpy(c->data + slot * PAGE_SIZE, data, PAGE_SIZE);
}
