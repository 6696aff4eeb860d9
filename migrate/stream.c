// SPDX-License-Identifier: GPL-2.0
/*
 * The stream: a header, then sections, over a channel.
 *  1. Writing: callers leave room for the section's header before the payload,
 *     so that a section is one write.
 *  2. Reading: nothing is believed before its checksum, no length before its
 *     limit; memory grows with what has arrived, not with what is announced.
 *  3. Sections that this version does not know are passed over if they are
 *     optional, else the stream is refused.
 *  4. A write that fails looks for the other side's reason first.
 */
#include <stdlib.h>
#include <string.h>

#include "mig.h"

#define GROW_STEP	(1U << 20)
#define LAST_WORDS_MS	500

static const struct {
	const char *name;
	u64 max;
} types[] = {
	[TYPE_FACTS] = { "FACTS", FACTS_MAX_LEN },
	[TYPE_BLOCKS] = { "BLOCKS", BLOCKS_HEAD + MIGRATE_BLOCKS_MAX * BLOCK_LEN },
	[TYPE_ACCEPT] = { "ACCEPT", 0 },
	[TYPE_PAGES] = { "PAGES", PAGES_MAX_LEN },
	[TYPE_ROUND] = { "ROUND", ROUND_LEN },
	[TYPE_STATE] = { "STATE", STATE_HEAD + STATE_PART_MAX },
	[TYPE_END] = { "END", END_LEN },
	[TYPE_MEMORY] = { "MEMORY", 1ULL << 46 },
	[TYPE_SUMS] = { "SUMS", SUMS_HEAD + 4 * SUMS_MAX },
	[TYPE_DISKS] = { "DISKS", DISKS_HEAD + MIGRATE_DISKS_MAX * DISK_LEN },
	[TYPE_WANT] = { "WANT", WANT_LEN },
	[TYPE_DISK] = { "DISK", CHUNK_HEAD + MIGRATE_CHUNK },
	[TYPE_READY] = { "READY", 0 },
	[TYPE_YOURS] = { "YOURS", 0 },
	[TYPE_TAKEN] = { "TAKEN", 0 },
	[TYPE_BYE] = { "BYE", 0 },
	[TYPE_RELEASED] = { "RELEASED", 0 },
	[TYPE_FAIL] = { "FAIL", FAIL_MAX_LEN },
};

#define NR_TYPES	(sizeof(types) / sizeof(types[0]))

const char *type_name(u32 type)
{
	return type < NR_TYPES && types[type].name ? types[type].name : "unknown";
}

void stream_init(struct stream *s, struct migrate_io *io, struct verdict *v, int stall_ms,
		 const char *peer)
{
	memset(s, 0, sizeof(*s));
	s->ch.io = io;
	s->ch.verdict = v;
	s->ch.stall_ms = stall_ms;
	s->ch.peer = peer;
}

void stream_close(struct stream *s)
{
	channel_close(&s->ch);
	free(s->buf);
	s->buf = NULL;
	s->cap = 0;
}

void header_encode(u8 raw[HDR_LEN], const struct header *h)
{
	memset(raw, 0, HDR_LEN);
	memcpy(raw, FMT_MAGIC, FMT_MAGIC_LEN);
	put32(raw + HDR_VERSION, h->version);
	put32(raw + HDR_FLAGS, h->flags);
	memcpy(raw + HDR_ID, h->id, HDR_ID_LEN);
	put32(raw + HDR_CONNECTION, h->connection);
	put32(raw + HDR_CONNECTIONS, h->connections);
	put32(raw + HDR_PAGE_SIZE, PAGE_SIZE);
	put32(raw + HDR_CRC, crc32c(0, raw, HDR_CRC));
}

/* The other side may have closed after it said why: then that is the reason. */
static int write_failed(struct stream *s, int err)
{
	struct section sec;

	if (err == -EPIPE || err == -ECONNRESET) {
		s->ch.stall_ms = MIN(s->ch.stall_ms, LAST_WORDS_MS);
		while (!stream_get(s, &sec))
			if (sec.type == TYPE_FAIL)
				return stream_unexpected(s, &sec);
	}
	return channel_lost(&s->ch, err);
}

static int put(struct stream *s, const u8 *data, size_t len)
{
	int err = channel_write(&s->ch, data, len);

	return err ? write_failed(s, err) : 0;
}

int stream_put_header(struct stream *s, const struct header *h)
{
	u8 raw[HDR_LEN];

	header_encode(raw, h);
	return put(s, raw, sizeof(raw));
}

int stream_get_header(struct stream *s, struct header *h)
{
	struct verdict *v = s->ch.verdict;
	u8 raw[HDR_LEN];
	int err;

	err = channel_read(&s->ch, raw, sizeof(raw), false);
	if (err)
		return err;
	if (memcmp(raw, FMT_MAGIC, FMT_MAGIC_LEN))
		return verdict(v, -EBADMSG, "%s: this is no stream of pvhv", s->ch.peer);
	if (get32(raw + HDR_CRC) != crc32c(0, raw, HDR_CRC))
		return verdict(v, -EBADMSG, "%s: the stream's header is damaged", s->ch.peer);
	h->version = get32(raw + HDR_VERSION);
	if (!h->version || h->version > FMT_VERSION || h->version + 1 < FMT_VERSION)
		return verdict(v, -EPROTONOSUPPORT,
			       "%s: the stream has version %u, this pvhv reads %u and the one before: use versions that are next to each other",
			       s->ch.peer, h->version, FMT_VERSION);
	h->flags = get32(raw + HDR_FLAGS);
	h->connection = get32(raw + HDR_CONNECTION);
	h->connections = get32(raw + HDR_CONNECTIONS);
	memcpy(h->id, raw + HDR_ID, HDR_ID_LEN);
	if (h->flags & ~HDR_KNOWN_FLAGS || !h->connections ||
	    h->connections > MIGRATE_CONNECTIONS_MAX || h->connection >= h->connections)
		return verdict(v, -EBADMSG, "%s: the stream's header makes no sense", s->ch.peer);
	if (get32(raw + HDR_PAGE_SIZE) != PAGE_SIZE)
		return verdict(v, -EINVAL, "%s: pages of %u bytes, here they have %u", s->ch.peer,
			       get32(raw + HDR_PAGE_SIZE), PAGE_SIZE);
	return 0;
}

void section_encode(u8 raw[SEC_LEN], u32 type, u32 flags, u64 len, u64 number, u32 crc)
{
	put32(raw, SEC_MAGIC);
	put16(raw + SEC_TYPE, type);
	put16(raw + SEC_FLAGS, flags);
	put64(raw + SEC_LENGTH, len);
	put64(raw + SEC_NUMBER, number);
	put32(raw + SEC_PAYLOAD_CRC, crc);
	put32(raw + SEC_CRC, crc32c(0, raw, SEC_CRC));
}

int stream_put(struct stream *s, u32 type, u8 *buf, size_t len)
{
	size_t padded = (len + 7) & ~(size_t)7;
	u32 flags = type == TYPE_SUMS ? 0 : SEC_REQUIRED;

	section_encode(buf, type, flags, len, s->nr_out++, crc32c(0, buf + SEC_LEN, len));
	memset(buf + SEC_LEN + len, 0, padded - len);
	return put(s, buf, SEC_LEN + padded);
}

int stream_put_empty(struct stream *s, u32 type)
{
	u8 buf[SECTION_ROOM(0)];

	return stream_put(s, type, buf, 0);
}

void stream_put_fail(struct stream *s)
{
	u8 buf[SECTION_ROOM(FAIL_MAX_LEN)];
	size_t len;

	if (!s->ch.io)
		return;
	s->ch.deaf = true;
	s->ch.stall_ms = MIN(s->ch.stall_ms, LAST_WORDS_MS);
	pthread_mutex_lock(&s->ch.verdict->lock);
	len = MIN(strlen(s->ch.verdict->why), FAIL_MAX_LEN);
	memcpy(buf + SEC_LEN, s->ch.verdict->why, len);
	pthread_mutex_unlock(&s->ch.verdict->lock);
	if (!stream_put(s, TYPE_FAIL, buf, len))
		channel_linger(&s->ch, LAST_WORDS_MS);
}

static int damaged(struct stream *s, const char *what)
{
	return verdict(s->ch.verdict, -EBADMSG, "%s: the section at byte %llu: %s", s->ch.peer,
		       (unsigned long long)s->sections_at, what);
}

static int read_payload(struct stream *s, u64 len)
{
	size_t done = 0, step, cap;
	u8 *buf;
	int err;

	while (done < len) {
		step = MIN(len - done, GROW_STEP);
		if (s->cap < done + step) {
			cap = MAX(done + step, s->cap * 2);
			buf = realloc(s->buf, cap);
			if (!buf)
				return verdict(s->ch.verdict, -ENOMEM, "no memory for a section");
			s->buf = buf;
			s->cap = cap;
		}
		err = channel_read(&s->ch, s->buf + done, step, false);
		if (err)
			return err;
		done += step;
	}
	return 0;
}

static int read_padding(struct stream *s, u64 len)
{
	u8 pad[8];
	unsigned int i, n = -len & 7;
	int err;

	err = n ? channel_read(&s->ch, pad, n, false) : 0;
	for (i = 0; !err && i < n; i++)
		if (pad[i])
			err = damaged(s, "the padding is not zero");
	return err;
}

static int skip(struct stream *s, u64 len, u32 sum)
{
	u8 buf[4096];
	u32 crc = 0;
	u64 left = len;
	int err;

	if (len > SKIP_MAX_LEN)
		return damaged(s, "too long");
	while (left) {
		size_t n = MIN(left, sizeof(buf));

		err = channel_read(&s->ch, buf, n, false);
		if (err)
			return err;
		crc = crc32c(crc, buf, n);
		left -= n;
	}
	if (crc != sum)
		return damaged(s, "the payload's checksum is wrong");
	return read_padding(s, len);
}

/* 0, 1 for one that is passed over */
static int get_one(struct stream *s, struct section *sec)
{
	u8 raw[SEC_LEN];
	u32 sum;
	int err;

	s->sections_at = s->ch.bytes_in;
	err = channel_read(&s->ch, raw, sizeof(raw), false);
	if (err)
		return err;
	if (get32(raw) != SEC_MAGIC || get32(raw + SEC_CRC) != crc32c(0, raw, SEC_CRC))
		return damaged(s, "its header is damaged");
	if (get64(raw + SEC_NUMBER) != s->nr_in++)
		return damaged(s, "one before it is missing or came twice");
	sec->type = get16(raw + SEC_TYPE);
	sec->flags = get16(raw + SEC_FLAGS);
	sec->len = get64(raw + SEC_LENGTH);
	sec->data = NULL;
	sum = get32(raw + SEC_PAYLOAD_CRC);
	if (sec->flags & ~SEC_KNOWN_FLAGS ||
	    (sec->flags & SEC_UNSUMMED && sec->type != TYPE_MEMORY))
		return damaged(s, "flags that this version does not know");
	if (sec->type >= NR_TYPES || !types[sec->type].name) {
		if (sec->flags & SEC_REQUIRED)
			return verdict(s->ch.verdict, -EPROTONOSUPPORT,
				       "%s: the stream needs section type %u, which this pvhv does not know: use the same version on both sides",
				       s->ch.peer, sec->type);
		err = skip(s, sec->len, sum);
		return err ? err : 1;
	}
	if (sec->len > types[sec->type].max)
		return damaged(s, "too long");
	if (sec->type == TYPE_MEMORY)
		return 0;
	err = read_payload(s, sec->len);
	if (err)
		return err;
	if (sum != crc32c(0, s->buf, sec->len))
		return damaged(s, "the payload's checksum is wrong");
	sec->data = s->buf;
	return read_padding(s, sec->len);
}

int stream_get(struct stream *s, struct section *sec)
{
	int ret;

	do
		ret = get_one(s, sec);
	while (ret > 0);
	return ret;
}

int stream_unexpected(struct stream *s, const struct section *sec)
{
	if (sec->type == TYPE_FAIL)
		return verdict(s->ch.verdict, -EREMOTEIO, "%s says: %.*s", s->ch.peer,
			       (int)sec->len, (const char *)sec->data);
	return verdict(s->ch.verdict, -EPROTO, "%s: section %s (%u) at byte %llu is out of place",
		       s->ch.peer, type_name(sec->type), sec->type,
		       (unsigned long long)s->sections_at);
}

int stream_expect(struct stream *s, u32 type, struct section *sec)
{
	int err = stream_get(s, sec);

	if (err)
		return err;
	return sec->type == type ? 0 : stream_unexpected(s, sec);
}
