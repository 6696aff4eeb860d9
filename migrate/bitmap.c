// SPDX-License-Identifier: GPL-2.0
/* One bit for each page of each block, or each chunk of each disk, in words of 64. */
#include <stdlib.h>
#include <string.h>

#include "mig.h"

u64 bitmap_words(u64 pages)
{
	return (pages + 63) / 64;
}

int bitmap_init(struct bitmap *map, const struct blocks *bl)
{
	unsigned int i;

	memset(map, 0, sizeof(*map));
	map->nr = bl->nr;
	for (i = 0; i < bl->nr; i++) {
		map->pages[i] = bl->b[i].size / PAGE_SIZE;
		map->bits[i] = calloc(bitmap_words(map->pages[i]), sizeof(u64));
		if (!map->bits[i]) {
			bitmap_fini(map);
			return -ENOMEM;
		}
	}
	return 0;
}

int bitmap_init_disks(struct bitmap *map, const struct disks *disks)
{
	unsigned int i;

	memset(map, 0, sizeof(*map));
	map->nr = disks->nr;
	for (i = 0; i < disks->nr; i++) {
		if (!(disks->want & 1ULL << i))
			continue;
		map->pages[i] = disk_chunks(disks->d[i].size);
		map->bits[i] = calloc(bitmap_words(map->pages[i]), sizeof(u64));
		if (!map->bits[i]) {
			bitmap_fini(map);
			return -ENOMEM;
		}
	}
	return 0;
}

void bitmap_fini(struct bitmap *map)
{
	unsigned int i;

	for (i = 0; i < map->nr; i++)
		free(map->bits[i]);
	memset(map, 0, sizeof(*map));
}

void bitmap_zero(struct bitmap *map)
{
	unsigned int i;

	for (i = 0; i < map->nr; i++)
		if (map->pages[i])
			memset(map->bits[i], 0, bitmap_words(map->pages[i]) * sizeof(u64));
}

void bitmap_fill(struct bitmap *map)
{
	unsigned int i;
	u64 last;

	for (i = 0; i < map->nr; i++) {
		if (!map->pages[i])
			continue;
		memset(map->bits[i], 0xff, bitmap_words(map->pages[i]) * sizeof(u64));
		last = map->pages[i] % 64;
		if (last)
			map->bits[i][map->pages[i] / 64] = (1ULL << last) - 1;
	}
}

u64 bitmap_count(const struct bitmap *map)
{
	unsigned int i;
	u64 n = 0, w;

	for (i = 0; i < map->nr; i++)
		for (w = 0; w < bitmap_words(map->pages[i]); w++)
			n += __builtin_popcountll(map->bits[i][w]);
	return n;
}
