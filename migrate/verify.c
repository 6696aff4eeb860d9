// SPDX-License-Identifier: GPL-2.0
/*
 * Checks a stream in a file, from its first byte to its last:
 *  1. the header, and each section's header, length, number and checksum;
 *  2. what is in the sections, and their order;
 *  3. that END tells what was there, and is the end.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verify.h"

struct section {
	uint32_t type, flags;
	uint64_t payload, len;		/* where it is, and how long */
};

uint32_t le32(const uint8_t *p)
{
	return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

uint64_t le64(const uint8_t *p)
{
	return (uint64_t)le32(p + 4) << 32 | le32(p);
}

bool input_get(const struct input *in, uint64_t at, void *data, uint64_t len)
{
	ssize_t n;

	if (at > in->len || len > in->len - at)
		return false;
	if (in->fd < 0) {
		memcpy(data, in->mem + at, len);
		return true;
	}
	for (; len; len -= n, at += n, data = (uint8_t *)data + n) {
		n = pread(in->fd, data, len, at);
		if (n <= 0)
			return false;
	}
	return true;
}

int broken(struct verify *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(v->why, sizeof(v->why), fmt, ap);
	va_end(ap);
	return -1;
}

void say(struct verify *v, const char *fmt, ...)
{
	va_list ap;

	if (!v->out)
		return;
	va_start(ap, fmt);
	vfprintf(v->out, fmt, ap);
	va_end(ap);
}

static int check_header(struct verify *v)
{
	uint8_t raw[64];

	if (!input_get(v->in, 0, raw, sizeof(raw)))
		return broken(v, "shorter than a stream's header");
	if (memcmp(raw, "PVHVMIG\x1a", 8))
		return broken(v, "no stream of pvhv: the magic is wrong");
	if (le32(raw + 60) != crc32c(0, raw, 60))
		return broken(v, "the header's checksum is wrong");
	v->flags = le32(raw + 12);
	if (le32(raw + 8) != 1)
		return broken(v, "version %u is not known", le32(raw + 8));
	if (v->flags & ~7u || !(v->flags & 1) || v->flags & 4 || le32(raw + 32) || le32(raw + 36) != 1)
		return broken(v, "the header is not one of a file");
	if (le32(raw + 40) != 4096)
		return broken(v, "pages of %u bytes", le32(raw + 40));
	say(v, "%12d  header     version 1, %s\n", 0, v->flags & 2 ? "image" : "stream");
	return 0;
}

static int check_facts(struct verify *v, const uint8_t *p, uint64_t len)
{
	uint32_t nr, i, name, value;
	const uint8_t *end = p + len;

	if (v->facts)
		return broken(v, "FACTS came before");
	v->facts = true;
	if (len < 8)
		return broken(v, "FACTS has no head");
	nr = le32(p);
	p += 8;
	for (i = 0; i < nr; i++) {
		if (end - p < 4)
			return broken(v, "FACTS ends in fact %u", i);
		name = p[0] | p[1] << 8;
		value = p[2] | p[3] << 8;
		p += 4;
		if (!name || name > 63 || value > 4095 || end - p < (long)name + value)
			return broken(v, "fact %u has wrong lengths", i);
		say(v, "%12s    %.*s = %.*s\n", "", (int)name, p, (int)value, p + name);
		for (; name + value; p++, value ? value-- : name--)
			if (*p < 32 || *p == 127)
				return broken(v, "fact %u is no text", i);
	}
	return p == end ? 0 : broken(v, "FACTS has more than its %u facts", nr);
}

static int check_blocks(struct verify *v, const uint8_t *p, uint64_t len)
{
	struct verify_block *b;
	uint32_t nr, i;

	if (v->nr || !v->facts)
		return broken(v, "BLOCKS is out of place");
	nr = len < 8 ? 0 : le32(p);
	if (!nr || nr > VERIFY_BLOCKS_MAX || len != 8 + nr * 56ull)
		return broken(v, "BLOCKS has a wrong length");
	for (i = 0, p += 8; i < nr; i++, p += 56) {
		b = &v->block[i];
		memcpy(b->name, p, 32);
		b->gpa = le64(p + 32);
		b->pages = le64(p + 40) / 4096;
		b->offset = le64(p + 48);
		if (le64(p + 40) % 4096 || !b->pages || b->pages > 1ull << 28 || !memchr(p, 0, 32))
			return broken(v, "block %u is malformed", i);
		b->have = calloc(b->pages / 8 + 1, 1);
		v->nr = i + 1;
		if (!b->have)
			return broken(v, "block %u: no memory to keep account of it", i);
		say(v, "%12s    %s: %llu KiB at 0x%llx\n", "", b->name,
		    (unsigned long long)b->pages * 4, (unsigned long long)b->gpa);
	}
	return 0;
}

static int check_state(struct verify *v, const uint8_t *p, uint64_t len)
{
	if (len <= 16)
		return broken(v, "STATE has no data");
	if (!v->state_len)
		v->state_total = le64(p);
	if (le64(p) != v->state_total || v->state_total > 256u << 20 || le64(p + 8) != v->state_len ||
	    len - 16 > v->state_total - v->state_len)
		return broken(v, "STATE does not follow the parts before it");
	v->state_len += len - 16;
	return 0;
}

static int check_end(struct verify *v, const uint8_t *p, uint64_t len)
{
	unsigned int i;

	if (len != 16)
		return broken(v, "END has a wrong length");
	for (i = 0; v->flags & 2 && i < v->nr; i++)
		v->pages += v->block[i].pages;
	if (le64(p) != v->pages)
		return broken(v, "END tells of %llu pages, there were %llu",
			      (unsigned long long)le64(p), (unsigned long long)v->pages);
	if (le64(p + 8) != v->state_len || v->state_len != v->state_total)
		return broken(v, "END tells of %llu bytes of state, there were %llu of %llu",
			      (unsigned long long)le64(p + 8), (unsigned long long)v->state_len,
			      (unsigned long long)v->state_total);
	v->ended = true;
	return 0;
}

/* What stands in any order, once memory's layout is known */
static int check_body(struct verify *v, const struct section *sec, const uint8_t *p)
{
	bool image = v->flags & 2;

	if (!v->nr)
		return broken(v, "section %u before BLOCKS", sec->type);
	if (sec->type == TYPE_PAGES && !image)
		return verify_pages(v, p, sec->len);
	if (sec->type == TYPE_DISK && !image)
		return verify_disk(v, p, sec->len);
	if (sec->type == TYPE_ROUND && !image)
		return sec->len == 8 ? 0 : broken(v, "ROUND has a wrong length");
	if (sec->type == TYPE_SUMS && image && v->memory_end)
		return verify_sums(v, p, sec->len);
	if (sec->type == TYPE_STATE && (!image || v->memory_end))
		return check_state(v, p, sec->len);
	if (sec->type == TYPE_END && (!image || v->memory_end))
		return check_end(v, p, sec->len);
	return broken(v, "section %u is out of place", sec->type);
}

static uint64_t limit_of(uint32_t type)
{
	switch (type) {
	case TYPE_FACTS:
		return 64 << 10;
	case TYPE_BLOCKS:
		return 8 + 64 * 56;
	case TYPE_DISKS:
		return 8 + 64 * 40;
	case TYPE_DISK:
		return 24 + (64 << 10);
	case TYPE_PAGES:
		return 16 + 256 * 8 + (1 << 20);
	case TYPE_STATE:
		return 16 + (1 << 20);
	case TYPE_SUMS:
		return 16 + (512 << 10);
	default:
		return 16;
	}
}

static int check_known(struct verify *v, const struct section *sec, uint32_t sum)
{
	uint8_t *p;
	int ret;

	if (sec->len > limit_of(sec->type))
		return broken(v, "section %u is longer than allowed", sec->type);
	/* One more byte: an allocation of its own even for nothing */
	p = malloc(sec->len + 1);
	if (!p)
		return broken(v, "no memory");
	if (!input_get(v->in, sec->payload, p, sec->len))
		ret = broken(v, "cannot be read");
	else if (sum != crc32c(0, p, sec->len))
		ret = broken(v, "the payload's checksum is wrong");
	else if (sec->type == TYPE_FACTS)
		ret = check_facts(v, p, sec->len);
	else if (sec->type == TYPE_DISKS)
		ret = verify_disks(v, p, sec->len);
	else if (sec->type == TYPE_BLOCKS)
		ret = check_blocks(v, p, sec->len);
	else
		ret = check_body(v, sec, p);
	free(p);
	return ret;
}

static int check_unknown(struct verify *v, const struct section *sec, uint32_t sum)
{
	uint8_t buf[4096];
	uint64_t done;
	uint32_t crc = 0;

	if (sec->flags & 1)
		return broken(v, "section type %u is required and not known", sec->type);
	for (done = 0; done < sec->len; done += sizeof(buf)) {
		uint64_t n = sec->len - done < sizeof(buf) ? sec->len - done : sizeof(buf);

		if (!input_get(v->in, sec->payload + done, buf, n))
			return broken(v, "cannot be read");
		crc = crc32c(crc, buf, n);
	}
	return crc == sum ? 0 : broken(v, "the payload's checksum is wrong");
}

static int check_section(struct verify *v)
{
	static const char *const names[] = {
		[TYPE_FACTS] = "FACTS", [TYPE_BLOCKS] = "BLOCKS", [TYPE_PAGES] = "PAGES",
		[TYPE_ROUND] = "ROUND", [TYPE_STATE] = "STATE", [TYPE_END] = "END",
		[TYPE_MEMORY] = "MEMORY", [TYPE_SUMS] = "SUMS", [TYPE_DISKS] = "DISKS",
		[TYPE_DISK] = "DISK",
	};
	const uint32_t nr_names = sizeof(names) / sizeof(names[0]);
	uint8_t raw[32], pad[8] = { 0 };
	struct section sec;
	unsigned int padding;
	bool known;
	int ret;

	if (!input_get(v->in, v->at, raw, sizeof(raw)))
		return broken(v, "the file ends without END");
	if (memcmp(raw, "SECT", 4) || le32(raw + 28) != crc32c(0, raw, 28))
		return broken(v, "the section's header is damaged");
	sec.type = raw[4] | raw[5] << 8;
	sec.flags = raw[6] | raw[7] << 8;
	sec.len = le64(raw + 8);
	sec.payload = v->at + 32;
	if (le64(raw + 16) != v->sections++)
		return broken(v, "section number %llu stands here",
			      (unsigned long long)le64(raw + 16));
	if (sec.flags & ~3u || (sec.flags & 2 && sec.type != TYPE_MEMORY))
		return broken(v, "unknown flags 0x%x", sec.flags);
	padding = -sec.len & 7;
	if (sec.len > v->in->len - sec.payload || padding > v->in->len - sec.payload - sec.len ||
	    !input_get(v->in, sec.payload + sec.len, pad, padding))
		return broken(v, "the file ends inside of the section");
	known = sec.type < nr_names && names[sec.type];
	say(v, "%12llu  %-10s %llu bytes\n", (unsigned long long)v->at,
	    known ? names[sec.type] : "unknown", (unsigned long long)sec.len);
	if (sec.type == TYPE_MEMORY)
		ret = verify_memory(v, sec.payload, sec.len);
	else if (known)
		ret = check_known(v, &sec, le32(raw + 24));
	else
		ret = check_unknown(v, &sec, le32(raw + 24));
	if (!ret && memcmp(pad, "\0\0\0\0\0\0\0", 8))
		ret = broken(v, "the padding is not zero");
	if (!ret)
		v->at = sec.payload + sec.len + padding;
	return ret;
}

int verify(struct verify *v, const struct input *in, FILE *out)
{
	memset(v, 0, sizeof(*v));
	v->in = in;
	v->out = out;
	if (check_header(v))
		return -1;
	v->at = HDR_LEN;
	while (!v->ended)
		if (check_section(v))
			return -1;
	if (v->at != in->len)
		return broken(v, "%llu bytes follow the end", (unsigned long long)(in->len - v->at));
	return 0;
}

void verify_fini(struct verify *v)
{
	while (v->nr)
		free(v->block[--v->nr].have);
}
