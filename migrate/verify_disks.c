// SPDX-License-Identifier: GPL-2.0
/*
 * What the checker knows of disks that go along: their list, and that each
 * part lies inside of its disk and can be decoded.
 */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "verify.h"

#define CHUNK	(64u << 10)

int verify_disks(struct verify *v, const uint8_t *p, uint64_t len)
{
	uint32_t nr = len < 8 ? 0 : le32(p), i, k;

	if (v->flags & 2 || !v->facts || v->nr || v->nr_disks)
		return broken(v, "DISKS is out of place");
	if (!nr || nr > VERIFY_DISKS_MAX || len != 8 + nr * 40ull)
		return broken(v, "DISKS has a wrong length");
	for (i = 0, p += 8; i < nr; i++, p += 40) {
		v->disk_size[i] = le64(p + 32);
		if (!*p || !memchr(p, 0, 32) || !v->disk_size[i] || v->disk_size[i] % 512 ||
		    v->disk_size[i] > 1ull << 46)
			return broken(v, "disk %u is malformed", i);
		for (k = 1; k <= i; k++)
			if (!strcmp((const char *)p, (const char *)p - 40 * k))
				return broken(v, "disk %u has the name of another", i);
		say(v, "%12s    %s: %llu bytes\n", "", p, (unsigned long long)v->disk_size[i]);
	}
	v->nr_disks = nr;
	return 0;
}

int verify_disk(struct verify *v, const uint8_t *p, uint64_t len)
{
	uint32_t disk = len < 24 ? ~0u : le32(p), kind;
	uint64_t offset, bytes, size;
	uint8_t *out;
	bool good;

	if (disk >= v->nr_disks)
		return broken(v, "DISK of a disk that there is not");
	kind = le32(p + 4);
	offset = le64(p + 8);
	bytes = le64(p + 16);
	size = v->disk_size[disk];
	len -= 24;
	if (offset % CHUNK || offset >= size || !bytes || bytes > size - offset ||
	    (bytes % CHUNK && bytes != size - offset))
		return broken(v, "DISK: %llu bytes at %llu of disk %u, which has %llu",
			      (unsigned long long)bytes, (unsigned long long)offset, disk,
			      (unsigned long long)size);
	if (kind > 2 || (kind ? bytes > CHUNK : len > 0) || (kind == 1 && len != bytes))
		return broken(v, "DISK: %llu bytes of data of kind %u", (unsigned long long)len, kind);
	if (kind < 2)
		return 0;
	out = malloc(CHUNK);
	good = out && ZSTD_decompress(out, CHUNK, p + 24, len) == bytes;
	free(out);
	return good ? 0 : broken(v, "DISK: the data of disk %u cannot be decoded", disk);
}
