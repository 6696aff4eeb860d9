// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that are copied along.
 *  1. A source offers what it has, and learns what the destination wants: what
 *     lies on storage of both stays there.
 *  2. A destination finds its own in the list, and tells.
 *  3. Parts of them come, are checked and written.  Zeroes are not written to
 *     where nothing was.
 */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "mig.h"

/* 1. */

static int check_list(const struct disks *disks, struct verdict *v)
{
	unsigned int i, k;

	for (i = 0; i < disks->nr; i++) {
		const struct migrate_disk *d = &disks->d[i];

		if (!memchr(d->name, 0, MIGRATE_NAME_MAX) || !d->name[0] || !d->size ||
		    d->size % DISK_SECTOR || d->size > DISK_SIZE_MAX)
			return verdict(v, -EBADMSG, "disk %u of the list is malformed", i);
		for (k = 0; k < i; k++)
			if (!strcmp(d->name, disks->d[k].name))
				return verdict(v, -EBADMSG, "disk '%s' is in the list twice", d->name);
	}
	return 0;
}

static int own_disks(struct migrate *m, struct disks *disks)
{
	int nr = m->ops->disks ? m->ops->disks(m->vm, disks->d, MIGRATE_DISKS_MAX) : 0;

	if (nr < 0 || nr > MIGRATE_DISKS_MAX)
		return verdict(&m->verdict, nr < 0 ? nr : -E2BIG, "the machine's disks: %s",
			       strerror(nr < 0 ? -nr : E2BIG));
	disks->nr = nr;
	return check_list(disks, &m->verdict);
}

u64 disks_bytes(const struct disks *disks)
{
	unsigned int i;
	u64 bytes = 0;

	for (i = 0; i < disks->nr; i++)
		if (disks->want & 1ULL << i)
			bytes += disks->d[i].size;
	return bytes;
}

int disks_offer(struct migrate *m, struct stream *s)
{
	u8 buf[SECTION_ROOM(DISKS_HEAD + MIGRATE_DISKS_MAX * DISK_LEN)], *p = buf + SEC_LEN;
	unsigned int i;
	int err;

	if (!m->params.copy_disks)
		return 0;
	err = own_disks(m, &m->disks);
	if (err || !m->disks.nr)
		return err;
	m->disks.want = ~0ULL >> (64 - m->disks.nr);
	put32(p, m->disks.nr);
	put32(p + 4, 0);
	p += DISKS_HEAD;
	for (i = 0; i < m->disks.nr; i++, p += DISK_LEN) {
		memset(p, 0, DISK_LEN);
		strncpy((char *)p + DISK_NAME, m->disks.d[i].name, MIGRATE_NAME_MAX - 1);
		put64(p + DISK_SIZE, m->disks.d[i].size);
	}
	return stream_put(s, TYPE_DISKS, buf, DISKS_HEAD + m->disks.nr * DISK_LEN);
}

int disks_wanted(struct migrate *m, struct stream *s)
{
	struct disks *disks = &m->disks;
	struct section sec;
	int err;

	if (!disks->nr)
		return 0;
	err = stream_expect(s, TYPE_WANT, &sec);
	if (err)
		return err;
	if (sec.len != WANT_LEN || (get64(sec.data) & ~disks->want))
		return verdict(&m->verdict, -EPROTO, "%s wants a disk that there is not", s->ch.peer);
	disks->want = get64(sec.data);
	return 0;
}

/* 2. */

static int parse(struct disks *disks, const u8 *data, size_t len, struct verdict *v)
{
	unsigned int i;

	if (len < DISKS_HEAD || (len - DISKS_HEAD) % DISK_LEN || !get32(data) ||
	    get32(data) != (len - DISKS_HEAD) / DISK_LEN)
		return verdict(v, -EBADMSG, "the list of disks is malformed");
	disks->nr = get32(data);
	data += DISKS_HEAD;
	for (i = 0; i < disks->nr; i++, data += DISK_LEN) {
		memcpy(disks->d[i].name, data + DISK_NAME, MIGRATE_NAME_MAX);
		disks->d[i].size = get64(data + DISK_SIZE);
	}
	return check_list(disks, v);
}

static int find_own(struct migrate *m, const struct disks *own, unsigned int nr)
{
	struct disks *disks = &m->disks;
	unsigned int i;

	for (i = 0; i < disks->nr; i++)
		if (!strcmp(disks->d[i].name, own->d[nr].name))
			break;
	if (i == disks->nr)
		return verdict(&m->verdict, -EINVAL, "disk '%s' is to be copied, but is not offered",
			       own->d[nr].name);
	if (disks->d[i].size != own->d[nr].size)
		return verdict(&m->verdict, -EINVAL, "disk '%s' has %llu bytes there, %llu here",
			       own->d[nr].name, (unsigned long long)disks->d[i].size,
			       (unsigned long long)own->d[nr].size);
	disks->own[i] = nr;
	disks->want |= 1ULL << i;
	return 0;
}

int disks_choose(struct migrate *m, const u8 *data, size_t len, bool oneway)
{
	struct disks *own = calloc(1, sizeof(*own));
	unsigned int i;
	int err;

	if (!own)
		return verdict(&m->verdict, -ENOMEM, "no memory");
	err = parse(&m->disks, data, len, &m->verdict);
	if (!err)
		err = own_disks(m, own);
	for (i = 0; !err && i < own->nr; i++)
		err = find_own(m, own, i);
	/* Whoever cannot be asked has sent all of them. */
	if (!err && oneway && own->nr != m->disks.nr)
		err = verdict(&m->verdict, -EINVAL, "disks came along that have no place here");
	free(own);
	return err;
}

int disks_want(struct migrate *m, struct stream *s)
{
	u8 buf[SECTION_ROOM(WANT_LEN)];

	if (!m->disks.nr)
		return 0;
	put64(buf + SEC_LEN, m->disks.want);
	return stream_put(s, TYPE_WANT, buf, WANT_LEN);
}

/* 3. */

int disks_flush(struct migrate *m)
{
	int err = m->disks.want ? m->ops->disk_flush(m->vm) : 0;

	if (err)
		return verdict(&m->verdict, err, "the copied disks cannot be flushed: %s",
			       strerror(-err));
	return 0;
}

static int write_chunk(struct migrate *m, unsigned int disk, u64 offset, const u8 *data, u64 len)
{
	int err = m->ops->disk_write(m->vm, m->disks.own[disk], offset, data, len);

	if (err)
		return verdict(&m->verdict, err, "disk '%s' cannot be written: %s",
			       m->disks.d[disk].name, strerror(-err));
	return 0;
}

static int write_zeroes(struct migrate *m, unsigned int disk, const _Atomic u64 *have, u64 offset,
			u64 len)
{
	u64 end = offset + len, at, first = offset;
	int err = 0;

	/* Runs of what has something in it */
	for (at = offset; !err && at < end; at += MIGRATE_CHUNK) {
		u64 chunk = at / MIGRATE_CHUNK;

		if (have[chunk / 64] & 1ULL << chunk % 64)
			continue;
		if (first < at)
			err = write_chunk(m, disk, first, NULL, at - first);
		first = at + MIGRATE_CHUNK;
	}
	if (!err && first < end)
		err = write_chunk(m, disk, first, NULL, end - first);
	return err;
}

static const u8 *decode(u8 **buf, u32 kind, const u8 *data, size_t len, u64 bytes)
{
	if (kind == CHUNK_PLAIN)
		return len == bytes ? data : NULL;
	if (!*buf)
		*buf = malloc(MIGRATE_CHUNK);
	if (!*buf || ZSTD_decompress(*buf, MIGRATE_CHUNK, data, len) != bytes)
		return NULL;
	return *buf;
}

int disk_unpack(struct migrate *m, _Atomic u64 *const *have, u8 **buf, const u8 *data, size_t len)
{
	u32 disk = len < CHUNK_HEAD ? ~0U : get32(data + CHUNK_DISK), kind;
	u64 offset, bytes, size, chunk;

	if (disk >= m->disks.nr || !(m->disks.want & 1ULL << disk))
		return verdict(&m->verdict, -EBADMSG, "a part of a disk came that nobody wants");
	kind = get32(data + CHUNK_KIND);
	offset = get64(data + CHUNK_OFFSET);
	bytes = get64(data + CHUNK_BYTES);
	size = m->disks.d[disk].size;
	data += CHUNK_HEAD;
	len -= CHUNK_HEAD;
	if (offset % MIGRATE_CHUNK || offset >= size || !bytes || bytes > size - offset ||
	    (bytes % MIGRATE_CHUNK && offset + bytes != size) || kind > CHUNK_ZSTD ||
	    (kind == CHUNK_ZERO ? len != 0 : bytes > MIGRATE_CHUNK))
		return verdict(&m->verdict, -EBADMSG, "a part of disk '%s' is malformed",
			       m->disks.d[disk].name);
	m->stats.disk += bytes;
	if (kind == CHUNK_ZERO)
		return write_zeroes(m, disk, have[disk], offset, bytes);
	data = decode(buf, kind, data, len, bytes);
	if (!data)
		return verdict(&m->verdict, -EBADMSG, "a part of disk '%s' cannot be decoded",
			       m->disks.d[disk].name);
	chunk = offset / MIGRATE_CHUNK;
	have[disk][chunk / 64] |= 1ULL << chunk % 64;
	return write_chunk(m, disk, offset, data, bytes);
}
