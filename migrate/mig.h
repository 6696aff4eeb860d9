/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The internal header of the library: what crosses a file, grouped by the file
 * that owns it.
 *
 * Threads of a source: the main thread and, in a round, one more for each
 * further connection.  Of a destination: the main thread and, until END, one
 * for each further connection.  Marks:
 *   [c] constant once threads run    [a] atomic
 *   [l] under the lock of the struct [t] the thread's own
 */
#ifndef PVHV_MIGRATE_MIG_H
#define PVHV_MIGRATE_MIG_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "format.h"
#include "migrate.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define PAGE_SIZE		MIGRATE_PAGE_SIZE
#define STRIPE			256U	/* pages that go by one connection, a multiple of 64 */
#define NSEC_PER_SEC		1000000000ULL
#define NSEC_PER_MSEC		1000000ULL
#define NSEC_PER_USEC		1000ULL
#define MIN(a, b)		((a) < (b) ? (a) : (b))
#define MAX(a, b)		((a) > (b) ? (a) : (b))

/* le.h in all but name */
static inline u16 get16(const u8 *p)
{
	return p[0] | p[1] << 8;
}

static inline u32 get32(const u8 *p)
{
	return get16(p) | (u32)get16(p + 2) << 16;
}

static inline u64 get64(const u8 *p)
{
	return get32(p) | (u64)get32(p + 4) << 32;
}

static inline void put16(u8 *p, u16 v)
{
	p[0] = v;
	p[1] = v >> 8;
}

static inline void put32(u8 *p, u32 v)
{
	put16(p, v);
	put16(p + 2, v >> 16);
}

static inline void put64(u8 *p, u64 v)
{
	put32(p, v);
	put32(p + 4, v >> 32);
}

/* crc32c.c */
u32 crc32c(u32 crc, const void *data, size_t len);	/* begins with 0 */
u32 crc32c_table(u32 crc, const void *data, size_t len);

/* clock.c */
u64 now_ns(void);
void sleep_ms(unsigned int ms);
u64 mul_div(u64 a, u64 b, u64 c);			/* a * b / c, UINT64_MAX if too large */

/* verdict.c: the first failure of a migration, which ends all of its threads */
struct verdict {
	pthread_mutex_t lock;
	_Atomic int err;		/* [a] */
	char why[MIGRATE_WHY_MAX];	/* [l] */
	int wake_fd;			/* [c] readable from the first failure on */
};

int verdict_init(struct verdict *v);
void verdict_fini(struct verdict *v);
/* Returns @err; the first one counts */
int verdict(struct verdict *v, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* In place of the first failure's line: what became of the machine by it */
int verdict_instead(struct verdict *v, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* io.c: waiting, and whole buffers */
struct channel {
	struct migrate_io *io;
	struct verdict *verdict;
	int stall_ms;
	bool deaf;			/* a failure elsewhere does not end it */
	const char *peer;		/* "the destination", "the file" */
	u64 bytes_in, bytes_out;
	u64 waits;			/* for room to write */
};

/* Says why; a clean end before the first byte is 1 with @may_end */
int channel_read(struct channel *ch, void *data, size_t len, bool may_end);
/* Does not: the other side may have said it, see stream.c */
int channel_write(struct channel *ch, const void *data, size_t len);
int channel_lost(struct channel *ch, int err);
/* Says nothing more; up to @ms reads what comes until the other side ends */
void channel_linger(struct channel *ch, int ms);
void channel_close(struct channel *ch);
/* Sleeps; -ECANCELED when woken */
int verdict_sleep(struct verdict *v, u64 ns);

/* stream.c: headers and sections over a channel */
struct stream {
	struct channel ch;
	u64 nr_out, nr_in;
	u64 sections_at;		/* bytes_in where the last section began */
	u8 *buf;			/* the last payload */
	size_t cap;
};

struct header {
	u32 version, flags;
	u8 id[HDR_ID_LEN];
	u32 connection, connections;
};

struct section {
	u32 type, flags;
	u64 len;
	const u8 *data;			/* until the next one is read */
};

/* Room for a section in a caller's buffer: its header, then @len, then padding */
#define SECTION_ROOM(len)	(SEC_LEN + (len) + 7)

void stream_init(struct stream *s, struct migrate_io *io, struct verdict *v, int stall_ms,
		 const char *peer);
void stream_close(struct stream *s);
int stream_put_header(struct stream *s, const struct header *h);
int stream_get_header(struct stream *s, struct header *h);
void header_encode(u8 raw[HDR_LEN], const struct header *h);
/* @buf has SECTION_ROOM(@len), the payload at SEC_LEN */
int stream_put(struct stream *s, u32 type, u8 *buf, size_t len);
int stream_put_empty(struct stream *s, u32 type);
/* Tells the other side why it failed here, as far as it listens. */
void stream_put_fail(struct stream *s);
/* The header only, for a payload that is written otherwise */
void section_encode(u8 raw[SEC_LEN], u32 type, u32 flags, u64 len, u64 number, u32 crc);
/* Next known section; MEMORY's payload is left to the caller. */
int stream_get(struct stream *s, struct section *sec);
/* The same; one of another type is a failure, FAIL gives the peer's reason */
int stream_expect(struct stream *s, u32 type, struct section *sec);
int stream_unexpected(struct stream *s, const struct section *sec);
const char *type_name(u32 type);

/* facts.c */
int facts_put(struct stream *s, const struct migrate_facts *facts);
int facts_parse(struct migrate_facts *facts, const u8 *data, size_t len);

/* blocks.c: the machine's RAM, and the same as the stream tells it */
struct blocks {
	unsigned int nr;
	struct migrate_block b[MIGRATE_BLOCKS_MAX];
	u64 offset[MIGRATE_BLOCKS_MAX];		/* in an image */
	u64 bytes;				/* of all */
};

int blocks_get(struct blocks *bl, const struct migrate_ops *ops, void *vm, struct verdict *v);
int blocks_put(struct stream *s, const struct blocks *bl);
/* Compares with ours; fills in our offsets */
int blocks_check(struct blocks *ours, const u8 *data, size_t len, struct verdict *v);

/* disks.c: those that are copied along; a destination's in the source's order */
struct disks {
	unsigned int nr;
	struct migrate_disk d[MIGRATE_DISKS_MAX];
	unsigned int own[MIGRATE_DISKS_MAX];	/* the number in the own list */
	u64 want;			/* a bit for each that is copied */
};

static inline u64 disk_chunks(u64 size)
{
	return (size + MIGRATE_CHUNK - 1) / MIGRATE_CHUNK;
}

struct migrate;

u64 disks_bytes(const struct disks *disks);	/* of those that are copied */
int disks_offer(struct migrate *m, struct stream *s);
int disks_wanted(struct migrate *m, struct stream *s);
/* Destination: the section that lists them */
int disks_choose(struct migrate *m, const u8 *data, size_t len, bool oneway);
int disks_want(struct migrate *m, struct stream *s);
int disks_flush(struct migrate *m);
/* Destination: a section with data; @have: by disk, chunks that were written */
int disk_unpack(struct migrate *m, _Atomic u64 *const *have, u8 **buf, const u8 *data, size_t len);

/* bitmap.c: one bit a page, all blocks; or one a chunk, all disks */
struct bitmap {
	unsigned int nr;
	u64 *bits[MIGRATE_BLOCKS_MAX];
	u64 pages[MIGRATE_BLOCKS_MAX];
};

_Static_assert(MIGRATE_DISKS_MAX <= MIGRATE_BLOCKS_MAX, "one for both");

int bitmap_init(struct bitmap *map, const struct blocks *bl);
int bitmap_init_disks(struct bitmap *map, const struct disks *disks);
void bitmap_fini(struct bitmap *map);
void bitmap_zero(struct bitmap *map);
void bitmap_fill(struct bitmap *map);
u64 bitmap_count(const struct bitmap *map);
u64 bitmap_words(u64 pages);

/* delta.c */
/* 0: the same; -1: longer than @max; else its length */
int delta_encode(const u8 *old, const u8 *new, u8 *out, size_t max);
int delta_check(const u8 *delta, size_t len);
void delta_apply(u8 *page, const u8 *delta, size_t len);
bool page_is_zero(const void *page);

/* cache.c: what the other side has, of pages that may come again */
struct cache {
	u64 slots;			/* 0: none */
	u64 *key;
	u8 *data;
};

int cache_init(struct cache *c, size_t bytes);
void cache_fini(struct cache *c);
u8 *cache_find(struct cache *c, unsigned int block, u64 page);
void cache_drop(struct cache *c, unsigned int block, u64 page);
void cache_store(struct cache *c, unsigned int block, u64 page, const u8 *data, bool again);

/* pages.c: batches of pages */
struct pages_stats {
	_Atomic u64 zero, plain, delta, same;
	_Atomic u64 disk;		/* bytes of disks */
};

struct batch {
	unsigned int block, count;
	u32 raw_len;
	u64 pages;			/* in all batches, runs counted as such */
	u64 entries[PAGES_MAX];
	u8 *raw;			/* PAGES_RAW_MAX */
	u8 *out;			/* the section */
	size_t out_cap;
	struct ZSTD_CCtx_s *zstd;	/* made at the first need */
	int level;			/* of migrate_params */
	bool idle;			/* there is time for it, see worker.c */
	unsigned int vain;		/* batches that are not tried: it was in vain */
	struct cache cache;
	struct pages_stats *stats;
};

int batch_init(struct batch *b, int zstd_level, size_t cache, struct pages_stats *stats);
void batch_fini(struct batch *b);
bool batch_full(const struct batch *b);
/* @data is guest memory, which may change meanwhile; @again: not its first time */
void batch_add(struct batch *b, u64 page, const void *data, bool again);
/* 0: not worth it, or no time for it; else the length of one zstd frame */
size_t batch_compress(struct batch *b, void *out, size_t room, const void *data, size_t len);
/* Makes the section; 0 if there is nothing, else its payload's length */
size_t batch_finish(struct batch *b);

struct unpack {
	u8 *raw;			/* PAGES_RAW_MAX */
	struct ZSTD_DCtx_s *zstd;	/* made at the first need */
	const struct blocks *blocks;
	_Atomic u64 *const *have;	/* bitmaps of pages that came, by block */
	u64 pages;
	struct pages_stats *stats;
	struct verdict *verdict;
};

int unpack_init(struct unpack *u);
void unpack_fini(struct unpack *u);
int unpack(struct unpack *u, const u8 *data, size_t len);

/* Loading, and answers: what a stop costs without any memory */
#define POLICY_FIXED_NS		(10 * NSEC_PER_MSEC)

/* policy.c: what to do after a round; pure */
enum policy {
	POLICY_CONTINUE,
	POLICY_THROTTLE,		/* go on, and slow the guest down */
	POLICY_STOP,			/* stop and copy */
	POLICY_GIVE_UP,
};

struct policy_input {
	u64 budget_ns;			/* of downtime */
	u64 fixed_ns;			/* of downtime that is not memory */
	u64 elapsed_ns, timeout_ns;	/* timeout 0: none */
	bool forces;			/* at the timeout: stop rather than give up */
	bool now;			/* asked to stop now */
	u64 remaining;			/* bytes of pages */
	u64 last;			/* bytes of pages in the last round */
	u64 wire, raw;			/* so many bytes sent for so many of pages */
	u64 link_rate;			/* bytes a second on the wire, 0: not known */
	u64 dirty_rate;			/* bytes of pages a second */
	unsigned int round;		/* rounds done */
	unsigned int max_rounds;	/* then stop; 0: no such limit */
};

enum policy policy_decide(const struct policy_input *in, u64 *expected_ns);
unsigned int policy_throttle(unsigned int percent);

/* limit.c: a bandwidth, shared by threads */
struct limit {
	pthread_mutex_t lock;
	u64 rate;			/* [c] bytes a second, 0: none */
	u64 free_at;			/* [l] when the link is free again */
};

void limit_init(struct limit *l, u64 rate);
/* How long to wait before @bytes more */
u64 limit_take(struct limit *l, u64 bytes);

/* handle.c: what all directions have */
struct migrate {
	const struct migrate_ops *ops;	/* [c] */
	void *vm;			/* [c] */
	struct migrate_params params;	/* [c] */
	struct verdict verdict;
	pthread_t thread;
	int (*run)(struct migrate *m);
	int fd;				/* migrate_save() */

	pthread_mutex_t lock;
	bool committed;			/* [l] too late to cancel */
	bool cancelled;			/* [l] */
	struct migrate_progress progress; /* [l] */
	enum migrate_owner owner;	/* [l] */
	_Atomic bool force;		/* [a] */
	u64 begin_ns;			/* [c] */
	struct pages_stats stats;
	_Atomic u64 bytes;		/* [a] */

	u8 id[HDR_ID_LEN];		/* [c] */
	struct blocks blocks;		/* [c] */
	struct disks disks;		/* [c] */
	u64 done_before;		/* [l] bytes of memory and disks, before this round */
	u64 paused_ns;			/* [t] 0: not paused */
};

int handle_start(struct migrate **out, const struct migrate_ops *ops, void *vm,
		 const struct migrate_params *params, int (*run)(struct migrate *m), int fd);
void handle_state(struct migrate *m, enum migrate_state state);
void handle_total(struct migrate *m);
/* Bytes of memory and disks that were looked at, each time */
u64 handle_done(const struct migrate *m);
/* A round begins, with so many bytes to do */
void handle_round(struct migrate *m, u32 round, u64 remaining);
/* From here on it cannot be cancelled; -ECANCELED if it was */
int handle_commit(struct migrate *m);
void handle_uncommit(struct migrate *m);
bool handle_cancelled(struct migrate *m);
int handle_pause(struct migrate *m);
/* The machine runs here again, after whatever it was */
void handle_resume(struct migrate *m);
void handle_downtime(struct migrate *m);

/* worker.c: a source's connection, or file */
struct worker {
	struct migrate *m;		/* [c] */
	unsigned int index;		/* [c] */
	struct stream s;		/* [t] */
	struct batch batch;		/* [t] */
	struct bitmap *todo;		/* [c] in a round */
	struct bitmap *disks_todo;	/* [c] in a round */
	u8 *chunk;			/* [t] a section with a chunk, made at the first need */
	u64 zero_at, zero_len;		/* [t] zeroes of a disk, not yet sent */
	struct limit *limit;		/* [c] NULL: none */
	u32 round;			/* [c] in a round */
	pthread_t thread;
	bool open;
	u64 bytes_told;			/* [t] of bytes_out, in m->bytes */
};

int worker_init(struct worker *w, struct migrate *m, unsigned int index, struct migrate_io *io);
void worker_fini(struct worker *w);
/* One round by all of @nr workers; the caller's thread is the first one's */
int workers_round(struct worker *w, unsigned int nr, struct bitmap *todo,
		  struct bitmap *disks_todo, struct limit *limit, u32 round);
/* A section, when the link is free for it */
int worker_put(struct worker *w, u32 type, u8 *buf, size_t len);
/* -ECANCELED or worse: no more is to be sent */
int worker_check(struct worker *w);
int worker_end(struct worker *w, u64 state_len);

/* disk_send.c: a round's chunks of this connection */
int worker_disks(struct worker *w);

/* precopy.c */
struct precopy {
	struct migrate *m;
	/* A round over @todo */
	int (*round)(struct precopy *p, u32 round, bool limited);
	struct bitmap todo, disks_todo;
	bool logging;
	u64 fixed_ns;			/* of a stop that is not memory */
	u32 rounds, max_rounds;
};

int precopy_init(struct precopy *p, struct migrate *m);
void precopy_fini(struct precopy *p);
/* Rounds while the guest runs, until the policy says stop */
int precopy_rounds(struct precopy *p);
/* Guest paused: the last round, and the device state */
int precopy_stop(struct precopy *p, void **state, size_t *state_len);

/* cow.c: memory as it was at one moment, while the guest goes on */
#define COW_UNIT_PAGES	512U		/* copied at once: a huge page stays one */

struct cow_copy {
	struct cow_copy *next;
	unsigned int block;
	u64 first;			/* page */
	unsigned int pages;
	bool zero;			/* @data is not filled in */
	u8 *data;
};

struct cow {
	struct migrate *m;		/* [c] */
	int uffd, pagemap;		/* [c] */
	int stop_fd;			/* [c] ends the thread */
	bool running, holds;
	unsigned int nr_registered;	/* blocks */
	u64 *entries;			/* of the page map */
	pthread_t thread;

	pthread_mutex_t lock;
	pthread_cond_t news;
	u8 *state[MIGRATE_BLOCKS_MAX];	/* [l] from the moment on; a byte a unit */
	unsigned int block;		/* [l] what comes next in order */
	u64 unit;			/* [l] */
	unsigned int nr_taken;		/* [l] by the thread, not yet waiting */
	unsigned int nr_copies;		/* [l] made so far */
	struct cow_copy *unused;	/* [l] */
	struct cow_copy *waiting, **last; /* [l] to be saved */
	bool stopping;			/* [l] */
};

/* 0; 1: it cannot be done with this memory or on this host; or a failure.  cow_fini() in any case. */
int cow_prepare(struct cow *c, struct migrate *m);
/* The guest stands, and may go on after it */
int cow_moment(struct cow *c);
/* The next unit, NULL when all were handed out; back by cow_saved() */
int cow_next(struct cow *c, struct cow_copy **out);
void cow_saved(struct cow *c, struct cow_copy *copy);
void cow_end(struct cow *c);
void cow_fini(struct cow *c);

/* state.c: the device state in parts */
int state_put(struct stream *s, u8 *state, size_t len);
struct state_in {
	u8 *data;
	u64 total, len, cap;
};
int state_get(struct state_in *st, const struct section *sec, struct verdict *v);

/* handover.c */
int handover_give(struct migrate *m, struct stream *s);
void handover_withdraw(struct migrate *m);
int handover_take(struct migrate *m, struct stream *s);
int connect_one(struct migrate *m, struct migrate_io **io, int timeout_ms);

/* recv.c */
struct receiver {
	struct migrate *m;
	_Atomic u64 *have[MIGRATE_BLOCKS_MAX];	/* pages that came */
	_Atomic u64 *disk_have[MIGRATE_DISKS_MAX]; /* chunks that were written */
	struct state_in state;
};

/* From after the header to where all is loaded; the machine is not ours yet. */
int receive_all(struct migrate *m, struct stream *s, const struct header *h);
int receive_facts(struct migrate *m, struct stream *s);
int receive_blocks(struct migrate *m, struct stream *s, const struct header *h);
int receive_load(struct migrate *m, struct state_in *state);

/* describe.c: a source's first sections */
int send_facts(struct migrate *m, struct stream *s);

#endif /* PVHV_MIGRATE_MIG_H */
