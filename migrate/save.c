// SPDX-License-Identifier: GPL-2.0
/*
 * A machine into a file, memory laid out so that it can be mapped: pages at
 * fixed places, those of zeroes as holes.
 *  1. The head: description, blocks and where they lie.
 *  2. Memory, of a guest that stands, or runs meanwhile: as it was at one
 *     moment (cow.c), or in rounds (precopy.c), where a page that is written
 *     again goes to the same place.
 *  3. The tail: a checksum of each page, the device state, END.  A file
 *     without it is no machine.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mig.h"

#define ALIGNMENT	(2U << 20)	/* a huge page of the page cache fits */
#define RUN_PAGES	256U
#define MAX_ROUNDS	8

struct save {
	struct precopy precopy;		/* first */
	struct migrate *m;
	struct limit limit;
	struct stream s;
	u32 *sums[MIGRATE_BLOCKS_MAX];
	u64 end;			/* of memory in the file */
	u8 *run;			/* RUN_PAGES that follow each other */
	u64 run_at;
	unsigned int run_pages;
};

static int check_file(struct save *s)
{
	struct verdict *v = &s->m->verdict;
	struct stat st;

	if (fstat(s->m->fd, &st))
		return verdict(v, -errno, "the file: %s", strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size || fcntl(s->m->fd, F_GETFL) & O_APPEND)
		return verdict(v, -EINVAL, "this is no new and empty file");
	return 0;
}

static int set_up(struct save *s)
{
	struct migrate *m = s->m;
	struct migrate_io *io;
	unsigned int i;
	int err, fd;

	err = check_file(s);
	if (!err)
		err = blocks_get(&m->blocks, m->ops, m->vm, &m->verdict);
	if (err)
		return err;
	handle_total(m);
	if (getrandom(m->id, sizeof(m->id), 0) != sizeof(m->id))
		return verdict(&m->verdict, -EIO, "no random numbers");
	s->run = malloc(RUN_PAGES * PAGE_SIZE);
	for (i = 0; s->run && i < m->blocks.nr; i++) {
		s->sums[i] = calloc(m->blocks.b[i].size / PAGE_SIZE, sizeof(u32));
		if (!s->sums[i])
			break;
	}
	fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 0);
	io = fd < 0 ? NULL : migrate_io_fd(fd);
	if (!s->run || i < m->blocks.nr || !io) {
		if (io)
			io->ops->close(io);
		return verdict(&m->verdict, -ENOMEM, "no memory for buffers");
	}
	stream_init(&s->s, io, &m->verdict, m->params.stall_ms, "the file");
	return 0;
}

static int put_head(struct save *s)
{
	struct migrate *m = s->m;
	struct header h = {
		.version = FMT_VERSION, .flags = HDR_ONEWAY | HDR_IMAGE, .connections = 1,
	};
	u8 raw[SEC_LEN];
	u64 begin, at;
	unsigned int i;
	int err;

	memcpy(h.id, m->id, sizeof(h.id));
	err = stream_put_header(&s->s, &h);
	if (!err)
		err = send_facts(m, &s->s);
	if (err)
		return err;
	begin = s->s.ch.bytes_out + SEC_LEN + BLOCKS_HEAD + m->blocks.nr * BLOCK_LEN + SEC_LEN;
	at = begin;
	for (i = 0; i < m->blocks.nr; i++) {
		at = (at + ALIGNMENT - 1) & ~(u64)(ALIGNMENT - 1);
		m->blocks.offset[i] = at;
		at += m->blocks.b[i].size;
	}
	s->end = at;
	err = blocks_put(&s->s, &m->blocks);
	if (err)
		return err;
	section_encode(raw, TYPE_MEMORY, SEC_REQUIRED | SEC_UNSUMMED, at - begin, s->s.nr_out++, 0);
	err = channel_write(&s->s.ch, raw, sizeof(raw));
	if (!err && ftruncate(m->fd, at))
		err = -errno;
	return err ? channel_lost(&s->s.ch, err) : 0;
}

static int flush(struct save *s)
{
	struct migrate *m = s->m;
	size_t len = (size_t)s->run_pages * PAGE_SIZE, done = 0;
	u64 wait = m->paused_ns ? 0 : limit_take(&s->limit, len);
	ssize_t n;

	s->run_pages = 0;
	if (m->verdict.err || (wait && verdict_sleep(&m->verdict, wait)))
		return -ECANCELED;
	while (done < len) {
		n = pwrite(m->fd, s->run + done, len - done, s->run_at + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return channel_lost(&s->s.ch, n ? -errno : -ENOSPC);
		done += n;
	}
	m->bytes += len;
	return 0;
}

/* @data may change meanwhile. */
static int save_page(struct save *s, unsigned int block, u64 page, const u8 *data, bool again)
{
	u64 at = s->m->blocks.offset[block] + page * PAGE_SIZE;
	u8 *copy;
	bool zero;
	int err;

	if (s->run_pages == RUN_PAGES ||
	    (s->run_pages && s->run_at + s->run_pages * PAGE_SIZE != at)) {
		err = flush(s);
		if (err)
			return err;
	}
	copy = s->run + s->run_pages * PAGE_SIZE;
	memcpy(copy, data, PAGE_SIZE);
	s->sums[block][page] = crc32c(0, copy, PAGE_SIZE);
	zero = page_is_zero(copy);
	if (zero)
		s->m->stats.zero++;
	else
		s->m->stats.plain++;
	if (zero && !again)
		return 0;
	if (!s->run_pages)
		s->run_at = at;
	s->run_pages++;
	return 0;
}

static int do_round(struct precopy *p, u32 round, bool limited)
{
	struct save *s = (struct save *)p;
	u64 word, words, w, page;
	unsigned int i;
	int err = 0;

	(void)limited;	/* whether the guest stands says it as well */
	for (i = 0; i < p->todo.nr; i++) {
		const u8 *host = p->m->blocks.b[i].host;

		words = bitmap_words(p->todo.pages[i]);
		for (w = 0; w < words; w++) {
			for (word = p->todo.bits[i][w]; !err && word; word &= word - 1) {
				page = w * 64 + __builtin_ctzll(word);
				err = save_page(s, i, page, host + page * PAGE_SIZE, round > 0);
			}
			if (err || s->m->verdict.err)
				return err ? err : -ECANCELED;
		}
	}
	return s->run_pages ? flush(s) : 0;
}

/* The log is cleared as a whole, before its pages are read. */
static int do_round_clear(struct precopy *p, u32 round, bool limited)
{
	struct migrate *m = p->m;
	unsigned int i;
	int err = 0;

	for (i = 0; !err && p->logging && m->ops->dirty_clear && i < p->todo.nr; i++)
		err = m->ops->dirty_clear(m->vm, i, 0, p->todo.pages[i], p->todo.bits[i]);
	if (err)
		return verdict(&m->verdict, err, "the log of written pages: %s", strerror(-err));
	return do_round(p, round, limited);
}

static int put_sums(struct save *s)
{
	u8 *buf = malloc(SECTION_ROOM(SUMS_HEAD + 4 * SUMS_MAX));
	u64 pages, first, i;
	unsigned int block;
	int err = 0;
	u32 n;

	if (!buf)
		return verdict(&s->m->verdict, -ENOMEM, "no memory for checksums");
	for (block = 0; block < s->m->blocks.nr; block++) {
		pages = s->m->blocks.b[block].size / PAGE_SIZE;
		for (first = 0; !err && first < pages; first += n) {
			n = MIN(pages - first, SUMS_MAX);
			put32(buf + SEC_LEN, block);
			put32(buf + SEC_LEN + 4, n);
			put64(buf + SEC_LEN + 8, first);
			for (i = 0; i < n; i++)
				put32(buf + SEC_LEN + SUMS_HEAD + i * 4, s->sums[block][first + i]);
			err = stream_put(&s->s, TYPE_SUMS, buf, SUMS_HEAD + n * 4);
		}
	}
	free(buf);
	return err;
}

static int put_tail(struct save *s, void *state, size_t len)
{
	u8 buf[SECTION_ROOM(END_LEN)];
	int err;

	if (lseek(s->m->fd, s->end, SEEK_SET) < 0)
		return channel_lost(&s->s.ch, -errno);
	err = put_sums(s);
	if (!err)
		err = state_put(&s->s, state, len);
	put64(buf + SEC_LEN, s->m->blocks.bytes / PAGE_SIZE);
	put64(buf + SEC_LEN + 8, len);
	if (!err)
		err = stream_put(&s->s, TYPE_END, buf, END_LEN);
	if (!err && s->m->params.sync && fsync(s->m->fd))
		err = channel_lost(&s->s.ch, -errno);
	return err;
}

/* Memory and state, in rounds or, if it is to stand, at once. */
static int save_rounds(struct save *s, void **state, size_t *len)
{
	struct migrate *m = s->m;
	int err;

	err = precopy_init(&s->precopy, m);
	if (err)
		return err;
	s->precopy.round = do_round_clear;
	s->precopy.max_rounds = MAX_ROUNDS;
	err = m->params.running ? precopy_rounds(&s->precopy) : 0;
	if (!err)
		err = precopy_stop(&s->precopy, state, len);
	if (!err && m->params.running)
		handle_resume(m);
	precopy_fini(&s->precopy);
	return err;
}

static int save_copy(struct save *s, const struct cow_copy *copy)
{
	unsigned int i;
	int err = 0;

	for (i = 0; !err && i < copy->pages; i++)
		err = save_page(s, copy->block, copy->first + i,
				copy->data + (size_t)i * PAGE_SIZE, false);
	return err;
}

/* Holes of the file already */
static void save_zeroes(struct save *s, const struct cow_copy *copy)
{
	static const u8 page[PAGE_SIZE];
	u32 sum = crc32c(0, page, PAGE_SIZE);
	unsigned int i;

	for (i = 0; i < copy->pages; i++)
		s->sums[copy->block][copy->first + i] = sum;
	s->m->stats.zero += copy->pages;
}

static int save_copies(struct save *s, struct cow *c)
{
	struct migrate *m = s->m;
	struct cow_copy *copy;
	u64 left = m->blocks.bytes;
	int err;

	for (;;) {
		pthread_mutex_lock(&m->lock);
		m->progress.remaining = left;
		pthread_mutex_unlock(&m->lock);
		err = cow_next(c, &copy);
		if (copy) {
			if (!err && copy->zero)
				save_zeroes(s, copy);
			else if (!err)
				err = save_copy(s, copy);
			left -= (u64)copy->pages * PAGE_SIZE;
			cow_saved(c, copy);
		}
		if (err || !copy)
			break;
	}
	cow_end(c);
	return err || !s->run_pages ? err : flush(s);
}

/* The guest's one stop: state comes first, since saving it may write to memory. */
static int cow_stop(struct cow *c, void **state, size_t *len)
{
	struct migrate *m = c->m;
	int err;

	err = handle_pause(m);
	if (err)
		return err;
	handle_state(m, MIGRATE_STOPPED);
	err = m->ops->save(m->vm, state, len);
	if (err)
		return verdict(&m->verdict, err, "the devices' state cannot be saved: %s",
			       strerror(-err));
	err = cow_moment(c);
	if (!err)
		handle_resume(m);
	return err;
}

/* 1: not with this machine */
static int save_moment(struct save *s, void **state, size_t *len)
{
	struct migrate *m = s->m;
	struct cow cow;
	int err;

	err = cow_prepare(&cow, m);
	handle_state(m, MIGRATE_MEMORY);
	if (!err)
		err = cow_stop(&cow, state, len);
	if (!err) {
		handle_state(m, MIGRATE_MEMORY);
		err = save_copies(s, &cow);
	}
	cow_fini(&cow);
	return err;
}

static int save_machine(struct save *s)
{
	struct migrate *m = s->m;
	u64 begin = now_ns();
	void *state = NULL;
	size_t len = 0;
	int err;

	err = m->params.running ? save_moment(s, &state, &len) : 1;
	if (err > 0)
		err = save_rounds(s, &state, &len);
	pthread_mutex_lock(&m->lock);
	m->progress.memory_us = (now_ns() - begin) / NSEC_PER_USEC;
	pthread_mutex_unlock(&m->lock);
	if (!err)
		err = put_tail(s, state, len);
	if (!err)
		err = handle_commit(m);
	free(state);
	return err;
}

static int run(struct migrate *m)
{
	struct save s = { .m = m };
	unsigned int i;
	int err;

	m->owner = MIGRATE_HERE;
	limit_init(&s.limit, m->params.bandwidth);
	err = set_up(&s);
	if (!err)
		err = put_head(&s);
	if (!err)
		err = save_machine(&s);
	if (err)
		handle_resume(m);
	stream_close(&s.s);
	for (i = 0; i < m->blocks.nr; i++)
		free(s.sums[i]);
	free(s.run);
	return err ? m->verdict.err : 0;
}

int migrate_save(struct migrate **m, const struct migrate_ops *ops, void *vm,
		 const struct migrate_params *params, int fd)
{
	return handle_start(m, ops, vm, params, run, fd);
}
