// SPDX-License-Identifier: GPL-2.0
/*
 * A source's disks, by one connection.  Chunks are dealt out to connections
 * as stripes of memory are: always in the same way.  A chunk that is zero is
 * not sent but told, and runs of them at once.
 */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "mig.h"

/* The chunk lies on a page, its section's heads before it; what is compressed, behind. */
#define HEADS		(SEC_LEN + CHUNK_HEAD)
#define PACKED_AT	(PAGE_SIZE + MIGRATE_CHUNK + PAGE_SIZE)
#define STRIPE_CHUNKS	16U
/* Told at least so often: the other side must not think that nothing moves. */
#define ZEROES_MAX	(64ULL << 20)

static u8 *chunk_data(struct worker *w)
{
	return w->chunk + PAGE_SIZE;
}

static int make_room(struct worker *w)
{
	size_t len = PACKED_AT + PAGE_SIZE + ZSTD_COMPRESSBOUND(MIGRATE_CHUNK);

	if (!w->chunk)
		w->chunk = aligned_alloc(PAGE_SIZE, (len + PAGE_SIZE - 1) & -(size_t)PAGE_SIZE);
	if (!w->chunk)
		return verdict(&w->m->verdict, -ENOMEM, "no memory for buffers");
	return 0;
}

static int put(struct worker *w, u8 *section, unsigned int disk, u32 kind, u64 offset, u64 bytes,
	       size_t len)
{
	u8 *head = section + SEC_LEN;

	put32(head + CHUNK_DISK, disk);
	put32(head + CHUNK_KIND, kind);
	put64(head + CHUNK_OFFSET, offset);
	put64(head + CHUNK_BYTES, bytes);
	return worker_put(w, TYPE_DISK, section, CHUNK_HEAD + len);
}

static int put_zeroes(struct worker *w, unsigned int disk)
{
	u8 buf[SECTION_ROOM(CHUNK_HEAD)];
	u64 len = w->zero_len;

	w->zero_len = 0;
	return len ? put(w, buf, disk, CHUNK_ZERO, w->zero_at, len, 0) : 0;
}

static bool is_zero(const u8 *data, size_t len)
{
	return !*data && !memcmp(data, data + 1, len - 1);
}

static int put_data(struct worker *w, unsigned int disk, u64 offset, size_t len)
{
	u8 *packed = w->chunk + PACKED_AT;
	size_t n;

	n = batch_compress(&w->batch, packed + HEADS, ZSTD_COMPRESSBOUND(MIGRATE_CHUNK),
			   chunk_data(w), len);
	if (n)
		return put(w, packed, disk, CHUNK_ZSTD, offset, len, n);
	return put(w, chunk_data(w) - HEADS, disk, CHUNK_PLAIN, offset, len, len);
}

static int send_chunk(struct worker *w, unsigned int disk, u64 offset)
{
	const struct migrate_disk *d = &w->m->disks.d[disk];
	size_t len = MIN(d->size - offset, MIGRATE_CHUNK);
	int err;

	err = worker_check(w);
	if (err)
		return err;
	err = w->m->ops->disk_read(w->m->vm, disk, offset, chunk_data(w), len);
	if (err)
		return verdict(&w->m->verdict, err, "disk '%s' cannot be read: %s", d->name,
			       strerror(-err));
	w->m->stats.disk += len;
	if (is_zero(chunk_data(w), len)) {
		if (w->zero_len && w->zero_at + w->zero_len != offset)
			err = put_zeroes(w, disk);
		if (!w->zero_len)
			w->zero_at = offset;
		w->zero_len += len;
		return !err && w->zero_len >= ZEROES_MAX ? put_zeroes(w, disk) : err;
	}
	return put_data(w, disk, offset, len);
}

int worker_disks(struct worker *w)
{
	unsigned int disk;
	u64 chunk;
	int err = 0;

	for (disk = 0; !err && disk < w->disks_todo->nr; disk++) {
		const u64 *bits = w->disks_todo->bits[disk];

		w->zero_len = 0;
		for (chunk = 0; !err && chunk < w->disks_todo->pages[disk]; chunk++) {
			if (!(bits[chunk / 64] & 1ULL << chunk % 64) ||
			    chunk / STRIPE_CHUNKS % w->m->params.connections != w->index)
				continue;
			err = make_room(w);
			if (!err)
				err = send_chunk(w, disk, chunk * MIGRATE_CHUNK);
		}
		if (!err)
			err = put_zeroes(w, disk);
	}
	return err;
}
