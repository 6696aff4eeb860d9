// SPDX-License-Identifier: GPL-2.0
/*
 * A self-describing byte buffer for device state.
 *  1. Writing: sections with a name and a version hold named fields.
 *  2. Reading: a section is found by name, a field by name within it, so
 *     the order does not matter and fields that a reader does not know are
 *     passed over.
 *
 * Layout, all numbers little-endian:
 *   record:  u8 kind, u8 name length, u32 data length, name, data
 *   section: kind 1, data = u32 version followed by its field records
 *   field:   kind 2, data = bytes (integers are eight of them)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm.h"

#define KIND_SECTION	1
#define KIND_FIELD	2
#define HEADER_LEN	6

struct record {
	u8 kind;
	u8 name_len;
	u32 len;
	const char *name;
	const u8 *data;
};

static void put_le32(u8 *p, u32 v)
{
	p[0] = v;
	p[1] = v >> 8;
	p[2] = v >> 16;
	p[3] = v >> 24;
}

static u32 get_le32(const u8 *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24;
}

void state_init(struct state *st)
{
	memset(st, 0, sizeof(*st));
}

void state_free(struct state *st)
{
	free(st->data);
	memset(st, 0, sizeof(*st));
}

static u8 *grow(struct state *st, size_t len)
{
	size_t cap = st->cap ? st->cap : 256;
	u8 *data;

	if (st->err)
		return NULL;
	if (len > UINT32_MAX - st->len) {
		st->err = -E2BIG;
		return NULL;
	}
	while (cap < st->len + len)
		cap *= 2;
	if (cap != st->cap) {
		data = realloc(st->data, cap);
		if (!data) {
			st->err = -ENOMEM;
			return NULL;
		}
		st->data = data;
		st->cap = cap;
	}
	data = st->data + st->len;
	st->len += len;
	return data;
}

static void put_header(struct state *st, u8 kind, const char *name, u32 len)
{
	size_t name_len = strlen(name);
	u8 *p;

	if (name_len > UINT8_MAX) {
		st->err = -EINVAL;
		return;
	}
	p = grow(st, HEADER_LEN + name_len);
	if (!p)
		return;
	p[0] = kind;
	p[1] = name_len;
	put_le32(p + 2, len);
	memcpy(p + HEADER_LEN, name, name_len);
}

void state_begin(struct state *st, const char *name, u32 version)
{
	size_t header = st->len;
	u8 *p;

	if (st->open) {
		st->err = -EINVAL;
		return;
	}
	put_header(st, KIND_SECTION, name, 0);
	p = grow(st, 4);
	if (!p)
		return;
	put_le32(p, version);
	st->open = true;
	st->section = header;
}

void state_end(struct state *st)
{
	u8 *header;

	if (!st->open)
		return;
	st->open = false;
	if (st->err)
		return;
	header = st->data + st->section;
	put_le32(header + 2, st->len - st->section - HEADER_LEN - header[1]);
}

void state_put(struct state *st, const char *name, const void *data, size_t len)
{
	u8 *p;

	if (!st->open || len > UINT32_MAX) {
		st->err = -EINVAL;
		return;
	}
	put_header(st, KIND_FIELD, name, len);
	p = grow(st, len);
	if (p && len)
		memcpy(p, data, len);
}

void state_put_u64(struct state *st, const char *name, u64 value)
{
	u8 raw[8];
	int i;

	for (i = 0; i < 8; i++)
		raw[i] = value >> (8 * i);
	state_put(st, name, raw, sizeof(raw));
}

/* Reads the record at *pos; 0 at the end, 1 for a record, -EBADMSG else. */
static int next_record(const u8 *data, size_t len, size_t *pos,
		       struct record *rec)
{
	size_t left = len - *pos;
	const u8 *p = data + *pos;

	if (!left)
		return 0;
	if (left < HEADER_LEN)
		return -EBADMSG;
	rec->kind = p[0];
	rec->name_len = p[1];
	rec->len = get_le32(p + 2);
	left -= HEADER_LEN;
	if (left < rec->name_len || left - rec->name_len < rec->len)
		return -EBADMSG;
	rec->name = (const char *)p + HEADER_LEN;
	rec->data = p + HEADER_LEN + rec->name_len;
	*pos += HEADER_LEN + rec->name_len + (size_t)rec->len;
	return 1;
}

static int find(const u8 *data, size_t len, u8 kind, const char *name,
		struct record *rec)
{
	size_t pos = 0, name_len = strlen(name);
	int ret;

	while ((ret = next_record(data, len, &pos, rec)) > 0)
		if (rec->kind == kind && rec->name_len == name_len &&
		    !memcmp(rec->name, name, name_len))
			return 0;
	return ret ? ret : -ENOENT;
}

int state_find(const void *data, size_t len, const char *name,
	       struct state_section *sec)
{
	struct record rec;
	int ret = find(data, len, KIND_SECTION, name, &rec);

	if (ret)
		return ret;
	if (rec.len < 4)
		return -EBADMSG;
	sec->version = get_le32(rec.data);
	sec->data = rec.data + 4;
	sec->len = rec.len - 4;
	return 0;
}

/* Copies at most @len bytes of a field; more in the field is an error. */
int state_get(const struct state_section *sec, const char *name, void *data,
	      size_t len, size_t *got)
{
	struct record rec;
	int ret = find(sec->data, sec->len, KIND_FIELD, name, &rec);

	if (ret)
		return ret;
	if (rec.len > len)
		return -EBADMSG;
	if (rec.len)
		memcpy(data, rec.data, rec.len);
	*got = rec.len;
	return 0;
}

/* An integer that must not exceed @max, so that a load cannot truncate it. */
int state_get_u64(const struct state_section *sec, const char *name, u64 max,
		  u64 *value)
{
	u8 raw[8];
	size_t got;
	u64 v = 0;
	int ret, i;

	ret = state_get(sec, name, raw, sizeof(raw), &got);
	if (ret)
		return ret;
	if (got != sizeof(raw))
		return -EBADMSG;
	for (i = 0; i < 8; i++)
		v |= (u64)raw[i] << (8 * i);
	if (v > max)
		return -ERANGE;
	*value = v;
	return 0;
}
