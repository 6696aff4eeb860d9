// SPDX-License-Identifier: GPL-2.0
/*
 * virtio-balloon (virtio 1.2, 5.5): memory that the guest gives back.
 *  1. Inflate and deflate: page numbers.  Those of a request are sorted, so
 *     that what is contiguous goes back to the host at once; where memory is
 *     of huge pages only those of which the guest has given all go back.
 *  2. Reporting: free memory that the guest may take again without a word.
 *  3. Statistics: one buffer of the guest's waits here until new numbers are
 *     wanted.
 *  4. The target is in the configuration; the guest says there how far it is.
 *
 * What a guest names here is its own memory or breaks the device; that it is
 * still in use there is the guest's own loss.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "virtio_balloon.h"

#define QUEUE_SIZE	128
#define PIECES		64
#define INFLATE		0
#define DEFLATE		1
#define NONE		UINT32_MAX

#define PAGE_SHIFT	VIRTIO_BALLOON_PFN_SHIFT
#define PAGE_SIZE	(1ULL << PAGE_SHIFT)
#define PFNS_AT_ONCE	1024
#define PFNS_MAX	16384		/* in one request */
#define TURN_MAX	16		/* requests before others get their turn */
#define STATS_MAX	32		/* entries that are looked at */

struct virtio_balloon {
	struct virtio v;
	u32 stats_queue;		/* NONE: the driver has none */
	u32 report_queue;
	bool keep_reported;		/* the guest expects its bytes back */
	bool have_buf;			/* the statistics buffer is here */
	struct virtq_buf buf;
	struct iovec iov[PIECES];
	u64 *given;			/* a bit a page; only with huge pages */
	struct balloon_stats stats;
};

static struct virtio_balloon *to_balloon(struct virtio *v)
{
	return container_of(v, struct virtio_balloon, v);
}

static bool valid(const struct mem *mem, u32 pfn)
{
	return mem_at(mem, (u64)pfn << PAGE_SHIFT, PAGE_SIZE);
}

/* Pages given and taken. */

static u64 index_of(const struct mem *mem, u32 pfn)
{
	return ((u8 *)mem_at(mem, (u64)pfn << PAGE_SHIFT, PAGE_SIZE) -
		mem->host) >> PAGE_SHIFT;
}

static void mark(struct virtio_balloon *b, u64 page, bool given)
{
	u64 bit = 1ULL << page % 64;

	if (given)
		b->given[page / 64] |= bit;
	else
		b->given[page / 64] &= ~bit;
}

static bool all_given(const struct virtio_balloon *b, u64 first, u64 nr)
{
	u64 page;

	for (page = first; page < first + nr; page += 64)
		if (b->given[page / 64] != UINT64_MAX)
			return false;
	return true;
}

/* Pages of the host are larger than the guest's: whole ones only go back. */
static void give_huge(struct virtio_balloon *b, u64 first, u64 nr)
{
	const struct mem *mem = b->v.mem;
	u64 each = mem->page >> PAGE_SHIFT, page;

	for (page = first; page < first + nr; page++)
		mark(b, page, true);
	for (page = first / each * each; page < first + nr; page += each)
		if (all_given(b, page, each))
			mem_release(mem, mem->host + (page << PAGE_SHIFT),
				    mem->page);
}

static void give(struct virtio_balloon *b, u32 pfn, u32 nr)
{
	const struct mem *mem = b->v.mem;

	if (b->given)
		give_huge(b, index_of(mem, pfn), nr);
	else
		mem_release(mem, mem_at(mem, (u64)pfn << PAGE_SHIFT, PAGE_SIZE),
			    nr * PAGE_SIZE);
	b->stats.inflated_bytes += nr * PAGE_SIZE;
}

static void sift(u32 *pfns, u32 at, u32 nr)
{
	u32 child, value = pfns[at];

	for (; (child = 2 * at + 1) < nr; at = child) {
		if (child + 1 < nr && pfns[child + 1] > pfns[child])
			child++;
		if (pfns[child] <= value)
			break;
		pfns[at] = pfns[child];
	}
	pfns[at] = value;
}

/*
 * A heap sort.  The C library's qsort() asks for the machine's memory by a
 * system call that the sandbox does not let pass.
 */
static void sort(u32 *pfns, u32 nr)
{
	u32 i, largest;

	for (i = nr / 2; i > 0; i--)
		sift(pfns, i - 1, nr);
	for (i = nr; i > 1; i--) {
		largest = pfns[0];
		pfns[0] = pfns[i - 1];
		pfns[i - 1] = largest;
		sift(pfns, 0, i - 1);
	}
}

/* Sorted: what is contiguous for the guest and for us is one piece. */
static void inflate(struct virtio_balloon *b, u32 *pfns, u32 nr)
{
	u32 i, run;

	sort(pfns, nr);
	for (i = 0; i < nr; i += run) {
		for (run = 1; i + run < nr && pfns[i + run] == pfns[i] + run &&
			      mem_at(b->v.mem, (u64)pfns[i] << PAGE_SHIFT,
				     (run + 1) * PAGE_SIZE); run++)
			;
		give(b, pfns[i], run);
	}
}

static void deflate(struct virtio_balloon *b, const u32 *pfns, u32 nr)
{
	u32 i;

	for (i = 0; b->given && i < nr; i++)
		mark(b, index_of(b->v.mem, pfns[i]), false);
	b->stats.deflated_bytes += nr * PAGE_SIZE;
}

static bool take_pages(struct virtio_balloon *b, unsigned int queue,
		       const struct virtq_buf *buf)
{
	u32 pfns[PFNS_AT_ONCE], nr, i;
	u64 off;

	if (buf->out_len / sizeof(u32) > PFNS_MAX) {
		virtio_break(&b->v, "a request names more than %u pages",
			     PFNS_MAX);
		return false;
	}
	for (off = 0; off < buf->out_len; off += nr * sizeof(u32)) {
		nr = virtq_read(buf, off, pfns, sizeof(pfns)) / sizeof(u32);
		if (!nr)
			break;
		for (i = 0; i < nr; i++)
			if (!valid(b->v.mem, pfns[i])) {
				virtio_break(&b->v, "page 0x%x is none of its memory",
					     pfns[i]);
				return false;
			}
		if (queue == INFLATE)
			inflate(b, pfns, nr);
		else
			deflate(b, pfns, nr);
	}
	return true;
}

static bool take_report(struct virtio_balloon *b, const struct virtq_buf *buf)
{
	u16 i;

	for (i = 0; i < buf->nr_in && !b->keep_reported; i++) {
		const struct iovec *iov = &buf->iov[buf->nr_out + i];

		mem_release(b->v.mem, iov->iov_base, iov->iov_len);
		b->stats.reported_bytes += iov->iov_len;
	}
	return true;
}

static void serve(struct virtio_balloon *b, unsigned int queue)
{
	struct virtio *v = &b->v;
	struct iovec iov[PIECES];
	struct virtq_buf buf = { .iov = iov, .max = PIECES };
	unsigned int left = TURN_MAX;
	bool good = true;

	do {
		virtio_kicks_off(v, queue);
		while (left && good && virtio_pop(v, queue, &buf)) {
			good = queue == b->report_queue ?
			       take_report(b, &buf) :
			       take_pages(b, queue, &buf);
			virtio_push(v, queue, &buf, 0);
			left--;
		}
		virtio_flush(v, queue);
	} while (left && good && virtio_kicks_on(v, queue));
	if (!left)
		virtio_kick_again(v, queue);
}

/* Statistics. */

static void read_stats(struct virtio_balloon *b)
{
	struct virtio_balloon_stat stat;
	unsigned int i;

	b->stats.guest_known = 0;
	for (i = 0; i < STATS_MAX; i++) {
		if (virtq_read(&b->buf, i * sizeof(stat), &stat,
			       sizeof(stat)) < sizeof(stat))
			break;
		if (stat.tag >= VIRTIO_BALLOON_S_NR)
			continue;	/* of a newer guest */
		b->stats.guest[stat.tag] = stat.val;
		b->stats.guest_known |= 1ULL << stat.tag;
	}
	if (i)
		b->stats.guest_updates++;
}

/* The buffer that comes holds numbers; giving it back asks for new ones. */
static void serve_stats(struct virtio_balloon *b)
{
	struct virtio *v = &b->v;

	do {
		if (b->have_buf || !virtio_pop(v, b->stats_queue, &b->buf))
			continue;
		b->have_buf = true;
		read_stats(b);
	} while (!b->have_buf && virtio_kicks_on(v, b->stats_queue));
}

static void ask_for_stats(struct virtio_balloon *b)
{
	if (!b->have_buf)
		return;
	b->have_buf = false;
	virtio_push(&b->v, b->stats_queue, &b->buf, 0);
	virtio_flush(&b->v, b->stats_queue);
	if (virtio_kicks_on(&b->v, b->stats_queue))
		virtio_kick_again(&b->v, b->stats_queue);
}

/* As a virtio device. */

static void balloon_kick(struct virtio *v, unsigned int queue)
{
	struct virtio_balloon *b = to_balloon(v);

	if (queue == b->stats_queue)
		serve_stats(b);
	else if (queue == INFLATE || queue == DEFLATE ||
		 queue == b->report_queue)
		serve(b, queue);
}

/* Its queues are numbered by what was agreed on, without gaps. */
static void balloon_start(struct virtio *v)
{
	struct virtio_balloon *b = to_balloon(v);
	u32 next = DEFLATE + 1, poison = 0;

	b->stats_queue = virtio_has(v, VIRTIO_BALLOON_F_STATS_VQ) ?
			 next++ : NONE;
	b->report_queue = virtio_has(v, VIRTIO_BALLOON_F_REPORTING) ?
			  next++ : NONE;
	if (virtio_has(v, VIRTIO_BALLOON_F_PAGE_POISON))
		virtio_config_get(v, offsetof(struct virtio_balloon_config,
					      poison_val),
				  &poison, sizeof(poison));
	b->keep_reported = poison;
}

static void balloon_stop(struct virtio *v)
{
	struct virtio_balloon *b = to_balloon(v);

	if (b->have_buf)
		virtio_unpop(v, b->stats_queue, &b->buf);
	b->have_buf = false;
	virtio_stopped(v);
}

/* All memory is the guest's again. */
static void balloon_reset(struct virtio *v)
{
	struct virtio_balloon *b = to_balloon(v);
	const u32 zero = 0;

	if (b->given)
		memset(b->given, 0, v->mem->size >> PAGE_SHIFT >> 3);
	virtio_config_set(v, offsetof(struct virtio_balloon_config, actual),
			  &zero, sizeof(zero));
	virtio_config_set(v, offsetof(struct virtio_balloon_config, poison_val),
			  &zero, sizeof(zero));
}

static bool covers(u32 off, u32 len, u32 field)
{
	return off == field && len == sizeof(u32);
}

static bool balloon_config_writable(const struct virtio *v, u32 off, u32 len)
{
	(void)v;
	return covers(off, len, offsetof(struct virtio_balloon_config, actual)) ||
	       covers(off, len,
		      offsetof(struct virtio_balloon_config, poison_val));
}

static u64 kept(const struct virtio *v, u32 pages)
{
	u64 given = (u64)pages << PAGE_SHIFT;

	return given < v->mem->size ? v->mem->size - given : 0;
}

static void balloon_config_changed(struct virtio *v, u32 off, u32 len)
{
	struct virtio_balloon_config config;

	(void)off;
	(void)len;
	virtio_config_get(v, 0, &config, sizeof(config));
	control_event("balloon", "{s:I, s:I}",
		      "target", (json_int_t)kept(v, config.num_pages),
		      "actual", (json_int_t)kept(v, config.actual));
}

static void balloon_destroy(struct virtio *v)
{
	struct virtio_balloon *b = to_balloon(v);

	virtio_fini(v);
	free(b->given);
	free(b);
}

static const struct virtio_ops balloon_ops = {
	.name = "virtio-balloon",
	.id = VIRTIO_ID_BALLOON,
	.start = balloon_start,
	.stop = balloon_stop,
	.kick = balloon_kick,
	.reset = balloon_reset,
	.config_writable = balloon_config_writable,
	.config_changed = balloon_config_changed,
	.destroy = balloon_destroy,
};

struct virtio *virtio_balloon_create(const struct mem *mem, const char *label,
				     const struct balloon_options *opt)
{
	struct virtio_balloon *b = calloc(1, sizeof(*b));

	if (b && mem->page > PAGE_SIZE)
		b->given = calloc(1, mem->size >> PAGE_SHIFT >> 3);
	if (!b || (mem->page > PAGE_SIZE && !b->given)) {
		free(b);
		fail(-ENOMEM, "out of memory");
		return NULL;
	}
	if (virtio_init(&b->v, &balloon_ops, mem, label, 4, QUEUE_SIZE)) {
		free(b->given);
		free(b);
		return NULL;
	}
	b->buf.iov = b->iov;
	b->buf.max = PIECES;
	b->stats_queue = NONE;
	b->report_queue = NONE;
	b->v.offered |= VIRTIO_BIT(VIRTIO_BALLOON_F_STATS_VQ) |
			VIRTIO_BIT(VIRTIO_BALLOON_F_PAGE_POISON);
	if (opt->deflate_on_oom)
		b->v.offered |= VIRTIO_BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	if (opt->reporting)
		b->v.offered |= VIRTIO_BIT(VIRTIO_BALLOON_F_REPORTING);
	b->v.config_len = sizeof(struct virtio_balloon_config);
	if (opt->keep)
		balloon_set_target(&b->v, opt->keep);
	return &b->v;
}

/* What others ask for. */

int balloon_set_target(struct virtio *v, u64 keep)
{
	u32 pages;

	if (keep > v->mem->size)
		return -ERANGE;
	pages = (v->mem->size - keep) >> PAGE_SHIFT;
	virtio_config_set(v, offsetof(struct virtio_balloon_config, num_pages),
			  &pages, sizeof(pages));
	return 0;
}

void balloon_get_stats(struct virtio *v, struct balloon_stats *stats)
{
	struct virtio_balloon *b = to_balloon(v);
	struct virtio_balloon_config config;

	virtio_config_get(v, 0, &config, sizeof(config));
	*stats = b->stats;
	stats->target = kept(v, config.num_pages);
	stats->actual = kept(v, config.actual);
	ask_for_stats(b);
}
