// SPDX-License-Identifier: GPL-2.0
/*
 * The parts of migrate/ by themselves: checksum, headers and sections, facts, differences, the cache of sent pages, batches of
 * pages, parts of the state, the policy's table, the bandwidth limit; and streams that are damaged or forged.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../migrate/mig.h"
#include "tap.h"

#define MS	NSEC_PER_MSEC
#define MIB	(1ull << 20)

static u64 random_u64(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void test_crc32c(void)
{
	u8 zero[32] = { 0 }, ones[32], count[32];
	unsigned int i;

	/* RFC 3720, B.4 */
	memset(ones, 0xff, sizeof(ones));
	for (i = 0; i < 32; i++)
		count[i] = i;
	ASSERT_EQ(crc32c(0, zero, 32), 0x8a9136aa);
	ASSERT_EQ(crc32c(0, ones, 32), 0x62a8ab43);
	ASSERT_EQ(crc32c(0, count, 32), 0x46dd794e);
	ASSERT_EQ(crc32c(0, "123456789", 9), 0xe3069283);
	for (i = 0; i < 32; i++) {
		ASSERT_EQ(crc32c(0, count, i), crc32c_table(0, count, i));
		ASSERT_EQ(crc32c(crc32c(0, count, i), count + i, 32 - i), 0x46dd794e);
	}
}

/* A stream into a socket and one out of its other end */
struct link {
	struct verdict v;
	struct stream out, in;
	int raw;			/* where bytes can be put by hand */
};

static void link_init(struct link *l)
{
	int pair[2];

	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(verdict_init(&l->v), 0);
	l->raw = pair[0];
	stream_init(&l->out, migrate_io_fd(pair[0]), &l->v, 2000, "the reader");
	stream_init(&l->in, migrate_io_fd(pair[1]), &l->v, 200, "the writer");
}

static void link_fini(struct link *l)
{
	stream_close(&l->out);
	stream_close(&l->in);
	verdict_fini(&l->v);
}

static void test_sections(void)
{
	static const size_t lens[] = { 0, 1, 7, 8, 9, 100, 4096, 70000 };
	struct section sec;
	struct link l;
	unsigned int i;
	u64 seed = 42;
	size_t j;
	u8 *buf;

	link_init(&l);
	buf = malloc(SECTION_ROOM(70000));
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		for (j = 0; j < lens[i]; j++)
			buf[SEC_LEN + j] = random_u64(&seed);
		ASSERT_EQ(stream_put(&l.out, TYPE_STATE, buf, lens[i]), 0);
		ASSERT_EQ(stream_get(&l.in, &sec), 0);
		ASSERT_EQ(sec.type, TYPE_STATE);
		ASSERT_EQ(sec.len, lens[i]);
		ASSERT(!lens[i] || !memcmp(sec.data, buf + SEC_LEN, lens[i]));
	}
	ASSERT_EQ(l.in.ch.bytes_in, l.out.ch.bytes_out);
	free(buf);
	link_fini(&l);
}

static void put_raw(struct link *l, u32 type, u32 flags, u64 len, u64 number, const u8 *data, u32 crc)
{
	u8 buf[SEC_LEN + 256] = { 0 };

	section_encode(buf, type, flags, len, number, crc);
	if (data && len < 200)
		memcpy(buf + SEC_LEN, data, len);
	ASSERT_GT(write(l->raw, buf, SEC_LEN + (len < 200 ? (len + 7) & ~7ull : 0)), 0);
}

static void expect_failure(struct link *l, int err, const char *why)
{
	struct section sec;

	ASSERT_EQ(stream_get(&l->in, &sec), err);
	ASSERT_MSG(strstr(l->v.why, why), "%s", l->v.why);
	link_fini(l);
}

static void test_unknown_sections(void)
{
	const u8 *data = (const u8 *)"nobody knows what this is";
	struct section sec;
	struct link l;

	link_init(&l);
	put_raw(&l, 40, 0, 25, 0, data, crc32c(0, data, 25));
	put_raw(&l, 999, 0, 0, 1, data, 0);
	put_raw(&l, TYPE_READY, SEC_REQUIRED, 0, 2, data, 0);
	ASSERT_EQ(stream_get(&l.in, &sec), 0);
	ASSERT_EQ(sec.type, TYPE_READY);
	put_raw(&l, 40, SEC_REQUIRED, 25, 3, data, crc32c(0, data, 25));
	expect_failure(&l, -EPROTONOSUPPORT, "the stream needs section type 40, which this pvhv does not know");
	link_init(&l);
	put_raw(&l, 40, 0, 25, 0, data, 5);
	expect_failure(&l, -EBADMSG, "the section at byte 0: the payload's checksum is wrong");
}

static void test_bad_sections(void)
{
	struct link l;

	link_init(&l);
	put_raw(&l, TYPE_READY, SEC_REQUIRED, 0, 1, NULL, 0);
	expect_failure(&l, -EBADMSG, "one before it is missing");
	link_init(&l);
	put_raw(&l, TYPE_ROUND, SEC_REQUIRED, ROUND_LEN + 1, 0, (const u8 *)"123456789", 0);
	expect_failure(&l, -EBADMSG, "too long");
	link_init(&l);
	put_raw(&l, TYPE_STATE, SEC_REQUIRED, UINT64_MAX, 0, NULL, 0);
	expect_failure(&l, -EBADMSG, "too long");
	link_init(&l);
	put_raw(&l, 77, 0, UINT64_MAX - 3, 0, NULL, 0);
	expect_failure(&l, -EBADMSG, "too long");
	link_init(&l);
	put_raw(&l, TYPE_ROUND, 0x80, ROUND_LEN, 0, (const u8 *)"12345678", 0);
	expect_failure(&l, -EBADMSG, "flags");
	link_init(&l);
	put_raw(&l, TYPE_PAGES, SEC_UNSUMMED, 8, 0, (const u8 *)"12345678", 0);
	expect_failure(&l, -EBADMSG, "flags");
	link_init(&l);
	put_raw(&l, TYPE_ROUND, SEC_REQUIRED, ROUND_LEN, 0, (const u8 *)"12345678", 3);
	expect_failure(&l, -EBADMSG, "checksum");
	/* announced and never sent: the stall time ends it, and no memory was taken for it */
	link_init(&l);
	put_raw(&l, TYPE_PAGES, SEC_REQUIRED, PAGES_MAX_LEN, 0, NULL, 0);
	expect_failure(&l, -ETIMEDOUT, "nothing moved in 200 ms");
}

static void test_header(void)
{
	struct header h = { .version = FMT_VERSION, .flags = HDR_ONEWAY, .connections = 3, .connection = 2 }, got;
	static const struct {
		unsigned int at;
		u32 value;
		const char *why;
	} bad[] = {
		{ 0, 0x12345678, "no stream of pvhv" },
		{ HDR_VERSION, 0, "has version 0" },
		{ HDR_VERSION, FMT_VERSION + 1, "reads 1 and the one before" },
		{ HDR_FLAGS, 0x100, "makes no sense" },
		{ HDR_CONNECTION, 3, "makes no sense" },
		{ HDR_CONNECTIONS, 0, "makes no sense" },
		{ HDR_CONNECTIONS, 17, "makes no sense" },
		{ HDR_PAGE_SIZE, 16384, "pages of 16384 bytes" },
	};
	u8 raw[HDR_LEN];
	unsigned int i;
	struct link l;

	memcpy(h.id, "0123456789abcdef", 16);
	link_init(&l);
	ASSERT_EQ(stream_put_header(&l.out, &h), 0);
	ASSERT_EQ(stream_get_header(&l.in, &got), 0);
	ASSERT(!memcmp(&h, &got, sizeof(h)));
	link_fini(&l);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		link_init(&l);
		header_encode(raw, &h);
		put32(raw + bad[i].at, bad[i].value);
		put32(raw + HDR_CRC, crc32c(0, raw, HDR_CRC));
		ASSERT_EQ(write(l.raw, raw, sizeof(raw)), HDR_LEN);
		ASSERT_NE(stream_get_header(&l.in, &got), 0);
		ASSERT_MSG(strstr(l.v.why, bad[i].why), "%s", l.v.why);
		link_fini(&l);
	}
	link_init(&l);
	header_encode(raw, &h);
	raw[20] ^= 1;
	ASSERT_EQ(write(l.raw, raw, sizeof(raw)), HDR_LEN);
	ASSERT_EQ(stream_get_header(&l.in, &got), -EBADMSG);
	link_fini(&l);
}

static void test_facts(void)
{
	struct migrate_facts *a = migrate_facts_new(), *b = migrate_facts_new(), *c = migrate_facts_new();
	char why[MIGRATE_WHY_MAX];
	struct section sec;
	struct link l;
	u32 i;

	ASSERT_EQ(migrate_fact(a, "cpu", "%s %d", "family", 23), 0);
	ASSERT_EQ(migrate_fact(a, "disk", "%s", ""), 0);
	link_init(&l);
	ASSERT_EQ(facts_put(&l.out, a), 0);
	ASSERT_EQ(stream_expect(&l.in, TYPE_FACTS, &sec), 0);
	ASSERT_EQ(facts_parse(b, sec.data, sec.len), 0);
	ASSERT_EQ(migrate_facts_compare(a, b, why), 0);
	ASSERT(!strcmp(migrate_fact_get(b, "cpu"), "family 23"));
	ASSERT(!strcmp(migrate_fact_get(b, "disk"), ""));
	ASSERT(!migrate_fact_get(b, "net"));
	/* every shorter piece of it is refused */
	for (i = 0; i < sec.len; i++)
		ASSERT_NE(facts_parse(c, sec.data, i), 0);
	migrate_facts_free(c);
	c = migrate_facts_new();
	migrate_fact(c, "cpu", "family 25");
	migrate_fact(c, "net", "virtio");
	ASSERT_EQ(migrate_facts_compare(b, c, why), -EINVAL);
	ASSERT(!strcmp(why, "cpu is family 23 there, family 25 here; net is unknown there, virtio here; "
			    "disk is  there, unknown here"));
	link_fini(&l);
	migrate_facts_free(a);
	migrate_facts_free(b);
	migrate_facts_free(c);
}

static void test_delta(void)
{
	u8 old[PAGE_SIZE], new[PAGE_SIZE], out[PAGE_SIZE * 2], page[PAGE_SIZE];
	u64 seed = 7, i, round;
	int len, cut;

	for (round = 0; round < 2000; round++) {
		for (i = 0; i < PAGE_SIZE; i++)
			old[i] = new[i] = random_u64(&seed);
		for (i = 0; i < round % 40; i++)
			new[random_u64(&seed) % PAGE_SIZE] ^= random_u64(&seed);
		len = delta_encode(old, new, out, sizeof(out));
		ASSERT_GE(len, 0);
		ASSERT_EQ(len == 0, !memcmp(old, new, PAGE_SIZE));
		ASSERT_EQ(delta_check(out, len), 0);
		memcpy(page, old, PAGE_SIZE);
		delta_apply(page, out, len);
		ASSERT(!memcmp(page, new, PAGE_SIZE));
		if (len)
			ASSERT_EQ(delta_encode(old, new, out, len - 1), -1);
		for (cut = 1; cut < len; cut++)
			ASSERT(delta_check(out, cut) || cut % 4 == 0);
	}
	/* first and last word; all of it */
	memset(old, 0, sizeof(old));
	memset(new, 0, sizeof(new));
	new[0] = new[PAGE_SIZE - 1] = 1;
	ASSERT_EQ(delta_encode(old, new, out, sizeof(out)), 2 * (DELTA_HEAD + DELTA_WORD));
	memset(new, 1, sizeof(new));
	ASSERT_EQ(delta_encode(old, new, out, sizeof(out)), DELTA_HEAD + PAGE_SIZE);
	/* a run past the page's end, and an empty one */
	put16(out, 512);
	put16(out + 2, 1);
	ASSERT_EQ(delta_check(out, DELTA_HEAD + DELTA_WORD), -EBADMSG);
	put16(out, 0);
	put16(out + 2, 0);
	ASSERT_EQ(delta_check(out, DELTA_HEAD), -EBADMSG);
}

static void test_zero_page(void)
{
	u8 page[PAGE_SIZE] = { 0 };
	unsigned int i;

	ASSERT(page_is_zero(page));
	for (i = 0; i < PAGE_SIZE; i++) {
		page[i] = 1;
		ASSERT(!page_is_zero(page));
		page[i] = 0;
	}
}

static void test_cache(void)
{
	u8 page[PAGE_SIZE];
	struct cache c;
	u64 i, kept = 0;

	ASSERT_EQ(cache_init(&c, 64 * PAGE_SIZE), 0);
	for (i = 0; i < 1000; i++) {
		memset(page, i, sizeof(page));
		cache_store(&c, 1, i, page, false);
	}
	for (i = 0; i < 1000; i++) {
		u8 *p = cache_find(&c, 1, i);

		ASSERT(!cache_find(&c, 0, i));
		kept += p != NULL;
		memset(page, i, sizeof(page));
		ASSERT(!p || !memcmp(p, page, PAGE_SIZE));
	}
	ASSERT_LE(kept, 64);
	ASSERT_GE(kept, 50);
	/* what comes again takes the place of what came once */
	for (i = 0; i < 1000; i++) {
		cache_store(&c, 2, i, page, true);
		ASSERT(cache_find(&c, 2, i));
		cache_drop(&c, 2, i);
		ASSERT(!cache_find(&c, 2, i));
	}
	cache_fini(&c);
	ASSERT_EQ(cache_init(&c, 0), 0);
	cache_store(&c, 0, 1, page, true);
	ASSERT(!cache_find(&c, 0, 1));
	cache_fini(&c);
}

#define RAM_PAGES	300

/* A batch, and memory that it is unpacked into */
struct packer {
	struct verdict v;
	struct pages_stats sent, got;
	struct batch b;
	struct unpack u;
	struct blocks blocks;
	_Atomic u64 *have[MIGRATE_BLOCKS_MAX];
	u8 *ram;
};

static void packer_init(struct packer *p, int zstd)
{
	memset(p, 0, sizeof(*p));
	ASSERT_EQ(verdict_init(&p->v), 0);
	ASSERT_EQ(batch_init(&p->b, zstd, 64 * PAGE_SIZE, &p->sent), 0);
	p->ram = calloc(RAM_PAGES, PAGE_SIZE);
	p->have[0] = calloc(RAM_PAGES / 64 + 1, 8);
	p->blocks.nr = 1;
	p->blocks.b[0].size = RAM_PAGES * PAGE_SIZE;
	p->blocks.b[0].host = p->ram;
	ASSERT_EQ(unpack_init(&p->u), 0);
	p->u.blocks = &p->blocks;
	p->u.have = p->have;
	p->u.stats = &p->got;
	p->u.verdict = &p->v;
}

static void packer_fini(struct packer *p)
{
	batch_fini(&p->b);
	unpack_fini(&p->u);
	free(p->ram);
	free((void *)p->have[0]);
	verdict_fini(&p->v);
}

static void pack_and_unpack(struct packer *p)
{
	size_t len = batch_finish(&p->b);

	ASSERT(!len || !unpack(&p->u, p->b.out + SEC_LEN, len));
	ASSERT_EQ(p->u.pages, p->b.pages);
}

static void pages_round_trip(int zstd)
{
	u8 *ram = calloc(RAM_PAGES, PAGE_SIZE);
	u64 seed = 5, i, round, page;
	struct packer p;

	packer_init(&p, zstd);
	for (round = 0; round < 30; round++) {
		for (i = 0; i < 2000; i++)
			ram[random_u64(&seed) % (RAM_PAGES * PAGE_SIZE)] = random_u64(&seed) % 4;
		memset(ram + random_u64(&seed) % RAM_PAGES * PAGE_SIZE, 0, PAGE_SIZE);
		for (page = 0; page < RAM_PAGES; page++) {
			if (round && random_u64(&seed) % 3)
				memcpy(ram + page * PAGE_SIZE, p.ram + page * PAGE_SIZE, PAGE_SIZE);
			batch_add(&p.b, page, ram + page * PAGE_SIZE, round > 0);
			if (batch_full(&p.b))
				pack_and_unpack(&p);
		}
		pack_and_unpack(&p);
		ASSERT(!memcmp(ram, p.ram, RAM_PAGES * PAGE_SIZE));
	}
	ASSERT(p.sent.zero && p.sent.plain && p.sent.delta && p.sent.same);
	ASSERT_EQ(p.sent.plain, p.got.plain);
	ASSERT_EQ(p.sent.delta, p.got.delta);
	packer_fini(&p);
	free(ram);
}

static void test_pages(void)
{
	pages_round_trip(0);
}

static void test_pages_zstd(void)
{
	pages_round_trip(1);
	pages_round_trip(9);
}

/* A batch of 16 pages that compress well, or not at all; the length of its section */
static size_t pack(struct packer *p, bool idle, bool well, u64 *seed)
{
	u64 page[PAGE_SIZE / 8];
	size_t len;
	u32 i, j;

	for (i = 0; i < 16; i++) {
		for (j = 0; j < PAGE_SIZE / 8; j++)
			page[j] = well ? i + j / 8 : random_u64(seed);
		batch_add(&p->b, i, page, false);
	}
	p->b.idle = idle;
	len = batch_finish(&p->b);
	ASSERT(!unpack(&p->u, p->b.out + SEC_LEN, len));
	return len;
}

/* Only while there is time for it, and not for a while after it was in vain */
static void test_pages_idle(void)
{
	const size_t all = 16 * PAGE_SIZE;
	struct packer p;
	u64 seed = 3;
	int i;

	packer_init(&p, MIGRATE_ZSTD_IDLE);
	cache_fini(&p.b.cache);
	ASSERT_EQ(cache_init(&p.b.cache, 0), 0);
	ASSERT_GE(pack(&p, false, true, &seed), all);
	ASSERT(!p.b.zstd);
	ASSERT(pack(&p, true, true, &seed) < all / 2);
	ASSERT_GE(pack(&p, true, false, &seed), all);
	for (i = 0; i < 15; i++)
		ASSERT_GE(pack(&p, true, true, &seed), all);
	ASSERT(pack(&p, true, true, &seed) < all / 2);
	ASSERT_GE(pack(&p, false, true, &seed), all);
	packer_fini(&p);
}

/* Any change to a batch is refused or does nothing worse than other contents of the block's own pages (no sum is checked here) */
static void test_forged_pages(void)
{
	u8 page[PAGE_SIZE], *copy;
	u64 seed = 11, round, i, refused = 0;
	struct packer p;
	size_t len;

	packer_init(&p, 0);
	for (round = 0; round < 3000; round++) {
		p.b.zstd = NULL;
		for (i = 0; i < 5; i++) {
			memset(page, random_u64(&seed) % 3, sizeof(page));
			page[random_u64(&seed) % PAGE_SIZE] = 9;
			batch_add(&p.b, random_u64(&seed) % RAM_PAGES, page, true);
		}
		len = batch_finish(&p.b);
		if (!len)
			continue;
		if (random_u64(&seed) % 4 == 0)
			len -= random_u64(&seed) % len;
		/* an allocation of its exact size, for the sanitizers */
		copy = malloc(len);
		memcpy(copy, p.b.out + SEC_LEN, len);
		for (i = 0; len && i < 1 + round % 3; i++)
			copy[random_u64(&seed) % (i ? len : len < 64 ? len : 64)] ^= 1 << random_u64(&seed) % 8;
		refused += unpack(&p.u, copy, len) != 0;
		free(copy);
	}
	ASSERT_GT(refused, 1000);
	ASSERT(*p.v.why);
	packer_fini(&p);
}

static void test_state_parts(void)
{
	static u8 state[3 * STATE_PART_MAX / 2];
	struct state_in in = { .data = NULL };
	struct section sec;
	struct link l;
	u64 seed = 3;
	size_t i;
	pid_t pid;

	for (i = 0; i < sizeof(state); i++)
		state[i] = random_u64(&seed);
	link_init(&l);
	l.in.ch.stall_ms = 60000;
	pid = ASSERT_OK(fork());
	if (!pid)
		_exit(state_put(&l.out, state, sizeof(state)) != 0);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(stream_expect(&l.in, TYPE_STATE, &sec), 0);
		ASSERT_EQ(state_get(&in, &sec, &l.v), 0);
	}
	ASSERT_EQ(in.len, sizeof(state));
	ASSERT_EQ(in.total, sizeof(state));
	ASSERT(!memcmp(in.data, state, sizeof(state)));
	/* one more than there are */
	ASSERT_EQ(state_get(&in, &sec, &l.v), -EBADMSG);
	free(in.data);
	link_fini(&l);
}

static void test_policy(void)
{
	/* 300 ms of downtime, 10 of them are not memory, 100 MiB/s: 29 MiB fit, 14 into half of it */
	static const struct policy_input usual = {
		.budget_ns = 300 * MS, .fixed_ns = 10 * MS, .link_rate = 100 * MIB, .dirty_rate = 100 * MIB, .round = 1,
		.elapsed_ns = 1000 * MS,
	};
#define CASE(want, ...)	{ .expect = POLICY_##want, .line = __LINE__, .in = { .budget_ns = 300 * MS, .fixed_ns = 10 * MS, \
	.link_rate = 100 * MIB, .dirty_rate = 100 * MIB, .round = 1, .elapsed_ns = 1000 * MS, __VA_ARGS__ } }
	static const struct {
		enum policy expect;
		int line;
		struct policy_input in;
	} cases[] = {
		CASE(STOP, .remaining = 0),
		CASE(STOP, .remaining = 14 * MIB),
		CASE(CONTINUE, .remaining = 15 * MIB),
		CASE(THROTTLE, .remaining = 29 * MIB, .last = 30 * MIB, .round = 2),		/* it fits, and could be half */
		CASE(STOP, .remaining = 29 * MIB, .last = 30 * MIB, .round = 12),
		CASE(THROTTLE, .remaining = 30 * MIB, .last = 30 * MIB, .round = 12),
		CASE(STOP, .remaining = 29 * MIB, .max_rounds = 8),
		CASE(STOP, .remaining = 50 * MIB, .dirty_rate = 200 * MIB, .raw = 400 * MIB, .wire = 100 * MIB),	/* it compresses well */
		CASE(CONTINUE, .remaining = 130 * MIB, .raw = 400 * MIB, .wire = 100 * MIB),
		CASE(CONTINUE, .remaining = MIB, .link_rate = 0),				/* nothing is known */
		CASE(STOP, .remaining = 900 * MIB, .now = true),
		CASE(STOP, .remaining = 900 * MIB, .timeout_ns = 1000 * MS, .forces = true),
		CASE(GIVE_UP, .remaining = 900 * MIB, .timeout_ns = 1000 * MS),
		CASE(CONTINUE, .remaining = 900 * MIB, .timeout_ns = 1001 * MS),
		CASE(STOP, .remaining = MIB, .timeout_ns = 500 * MS),				/* late, but it fits */
		CASE(THROTTLE, .remaining = 60 * MIB, .last = 100 * MIB, .round = 2),
		CASE(CONTINUE, .remaining = 50 * MIB, .last = 100 * MIB, .round = 2),
		CASE(CONTINUE, .remaining = 60 * MIB, .last = 100 * MIB, .round = 1),		/* the first round was all */
		CASE(STOP, .remaining = 60 * MIB, .last = 100 * MIB, .round = 2, .max_rounds = 8),
		CASE(STOP, .remaining = 60 * MIB, .last = 900 * MIB, .round = 8, .max_rounds = 8),
		CASE(CONTINUE, .remaining = 60 * MIB, .last = 900 * MIB, .round = 7, .max_rounds = 8),
		CASE(CONTINUE, .remaining = UINT64_MAX, .link_rate = 1),			/* nothing overflows */
		CASE(CONTINUE, .remaining = 3 * MIB, .dirty_rate = 33 * MIB),			/* it fits; another round is worth it */
		CASE(STOP, .remaining = 3 * MIB, .dirty_rate = 34 * MIB),
		CASE(STOP, .remaining = 3 * MIB, .dirty_rate = 33 * MIB, .round = 12),
		CASE(STOP, .remaining = 3 * MIB, .dirty_rate = 33 * MIB, .round = 8, .max_rounds = 8),
		CASE(STOP, .remaining = 3 * MIB, .dirty_rate = 33 * MIB, .timeout_ns = 1000 * MS),
		CASE(STOP, .remaining = MIB / 4, .dirty_rate = 0),
		CASE(STOP, .remaining = 0, .budget_ns = 10 * MS),
		CASE(CONTINUE, .remaining = 0, .budget_ns = 9 * MS),
	};
	struct policy_input in = usual;
	unsigned int i, percent, steps;
	u64 expected;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		ASSERT_MSG(policy_decide(&cases[i].in, &expected) == cases[i].expect, "the case in line %d: %d", cases[i].line,
			   policy_decide(&cases[i].in, &expected));
	in.remaining = 50 * MIB;
	policy_decide(&in, &expected);
	ASSERT_EQ(expected, 510 * MS);
	for (percent = steps = 0; percent < 99; steps++) {
		ASSERT_GT(policy_throttle(percent), percent);
		percent = policy_throttle(percent);
	}
	ASSERT_EQ(percent, 99);
	ASSERT_LE(steps, 8);
	ASSERT_EQ(policy_throttle(99), 99);
}

/* 1000 MiB over 100 MiB/s */
static struct migrate_estimate estimate(uint64_t dirty_rate, unsigned int downtime_ms)
{
	struct migrate_estimate e = {
		.memory = 1000 * MIB, .dirty_rate = dirty_rate, .bandwidth = 100 * MIB, .downtime_ms = downtime_ms,
	};

	migrate_estimate(&e);
	return e;
}

static void test_estimate(void)
{
	struct migrate_estimate e = estimate(0, 300);

	ASSERT(e.converges);
	ASSERT_EQ(e.elapsed_us, 10010000);
	ASSERT_EQ(e.downtime_us, 10000);
	/* 10 s, 2.5 s, 0.63 s, three that are worth it, and the rest of 0.24 MiB */
	e = estimate(25 * MIB, 300);
	ASSERT(e.converges);
	ASSERT_EQ(e.downtime_us, 12441);
	ASSERT_EQ(e.elapsed_us, 10000000 + 2500000 + 625000 + 156250 + 39062 + 9766 + 12441);
	e = estimate(100 * MIB, 300);
	ASSERT(!e.converges);
	ASSERT_EQ(e.downtime_us, 10010000);
	e = estimate(UINT64_MAX, 300);
	ASSERT(!e.converges);
	ASSERT_EQ(e.downtime_us, 10010000);
	e = estimate(0, 1);
	ASSERT(!e.converges);
}

static void test_limit(void)
{
	struct limit l;
	u64 wait = 0, i;

	limit_init(&l, 0);
	ASSERT_EQ(limit_take(&l, MIB), 0);
	limit_init(&l, 10 * MIB);
	ASSERT_EQ(limit_take(&l, MIB), 0);
	for (i = 0; i < 10; i++)
		wait = limit_take(&l, MIB);
	/* ten are underway before the eleventh, a burst is free */
	ASSERT_GE(wait, 900 * MS);
	ASSERT_LE(wait, 1000 * MS);
}

/* Arithmetic that is used for rates and times */
static void test_mul_div(void)
{
	ASSERT_EQ(mul_div(6, 7, 2), 21);
	ASSERT(mul_div(UINT64_MAX, UINT64_MAX, UINT64_MAX) == UINT64_MAX);
	ASSERT(mul_div(UINT64_MAX, 2, 1) == UINT64_MAX);
	ASSERT(mul_div(1, 1, 0) == UINT64_MAX);
}

static const struct tap_test tests[] = {
	TEST(crc32c),
	TEST(sections),
	TEST(unknown_sections),
	TEST(bad_sections),
	TEST(header),
	TEST(facts),
	TEST(delta),
	TEST(zero_page),
	TEST(cache),
	TEST(pages),
	TEST(pages_zstd),
	TEST(pages_idle),
	TEST(forged_pages),
	TEST(state_parts),
	TEST(policy),
	TEST(estimate),
	TEST(limit),
	TEST(mul_div),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
