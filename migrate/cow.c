// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of a guest that runs, as it was at one moment: copies on write, by
 * userfaultfd.
 *  1. Before: what has no page yet is seen in the page map and only counted;
 *     the rest gets entries for all of its pages, since only what has one can
 *     be protected.
 *  2. The moment, the guest stands: what has got pages since is treated so,
 *     too, then all of it is write-protected.
 *  3. After: unit by unit is copied, let go and handed out to be saved.
 *  4. A unit that somebody wants to write is copied first, by a thread that
 *     does nothing else: nobody waits for the file, unless copies are many.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#include "mig.h"

#define UNIT_LEN	((u64)COW_UNIT_PAGES * PAGE_SIZE)
#define SCAN_UNITS	16U		/* of the page map at once */
#define COPIES_MAX	32U		/* that wait to be saved */
#define MESSAGES	16

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_HAS_PAGE	(3ULL << 62)	/* here, or swapped out */

enum unit_state {
	UNIT_EMPTY,			/* no pages: zeroes */
	UNIT_THERE,			/* all have an entry; protected from the moment on */
	UNIT_TAKEN,			/* somebody copies it */
	UNIT_FREE,			/* copied, and anybody's again */
};

/* --- units --- */

static u64 unit_count(const struct migrate_block *b)
{
	return (b->size + UNIT_LEN - 1) / UNIT_LEN;
}

static u8 *unit_host(const struct cow *c, unsigned int block, u64 unit)
{
	return (u8 *)c->m->blocks.b[block].host + unit * UNIT_LEN;
}

static size_t unit_len(const struct cow *c, unsigned int block, u64 unit)
{
	return MIN(c->m->blocks.b[block].size - unit * UNIT_LEN, UNIT_LEN);
}

static int cannot(struct cow *c, const char *what)
{
	int err = -errno;

	return verdict(&c->m->verdict, err, "%s: %s", what, strerror(-err));
}

/* Of [@begin, @end) units; letting go wakes who waits there. */
static int protect(struct cow *c, unsigned int block, u64 begin, u64 end, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = {
			.start = (uintptr_t)unit_host(c, block, begin),
			.len = (end - begin - 1) * UNIT_LEN + unit_len(c, block, end - 1),
		},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	while (ioctl(c->uffd, UFFDIO_WRITEPROTECT, &wp))
		if (errno != EAGAIN && errno != EINTR)
			return cannot(c, "protecting memory");
	return 0;
}

/*
 * A thread that met the protection sleeps until it is woken, also when the
 * page is protected no more; whom it waits for may have woken all there were a
 * moment before. What still is protected makes it come back.
 */
static void wake(const struct cow *c, void *start, u64 len)
{
	struct uffdio_range range = { (uintptr_t)start, len };

	ioctl(c->uffd, UFFDIO_WAKE, &range);
}

/* --- 1. and 2.: before, and the moment --- */

static bool any_page(const u64 *entries, size_t nr)
{
	u64 all = 0;

	while (nr--)
		all |= *entries++;
	return all & PAGEMAP_HAS_PAGE;
}

/* Those of @nr empty units that have pages get all of them. */
static int look(struct cow *c, unsigned int block, u64 unit, unsigned int nr)
{
	u8 *host = unit_host(c, block, unit), *state = c->state[block] + unit;
	size_t len = (nr - 1) * UNIT_LEN + unit_len(c, block, unit + nr - 1);
	size_t bytes = len / PAGE_SIZE * sizeof(u64);
	unsigned int i;

	if (pread(c->pagemap, c->entries, bytes,
		  (uintptr_t)host / PAGE_SIZE * sizeof(u64)) != (ssize_t)bytes)
		return cannot(c, "the page map");
	for (i = 0; i < nr; i++) {
		size_t n = unit_len(c, block, unit + i);

		if (!any_page(c->entries + i * COW_UNIT_PAGES, n / PAGE_SIZE))
			continue;
		if (madvise(host + i * UNIT_LEN, n, MADV_POPULATE_READ))
			return cannot(c, "populating memory");
		state[i] = UNIT_THERE;
	}
	return 0;
}

static int look_at_all(struct cow *c)
{
	unsigned int block, nr;
	u64 unit, count;
	int err = 0;

	for (block = 0; block < c->m->blocks.nr; block++) {
		count = unit_count(&c->m->blocks.b[block]);
		for (unit = 0; !err && unit < count; unit += MAX(nr, 1U)) {
			for (nr = 0; nr < SCAN_UNITS && unit + nr < count &&
			     c->state[block][unit + nr] == UNIT_EMPTY; nr++)
				;
			if (nr)
				err = look(c, block, unit, nr);
			if (!err && c->m->verdict.err)
				err = -ECANCELED;
		}
	}
	return err;
}

/* 1: memory of this kind cannot be watched */
static int register_all(struct cow *c)
{
	struct blocks *bl = &c->m->blocks;

	for (; c->nr_registered < bl->nr; c->nr_registered++) {
		struct migrate_block *b = &bl->b[c->nr_registered];
		struct uffdio_register reg = {
			.range = { (uintptr_t)b->host, b->size },
			.mode = UFFDIO_REGISTER_MODE_WP,
		};

		if (ioctl(c->uffd, UFFDIO_REGISTER, &reg) ||
		    !(reg.ioctls & 1ULL << _UFFDIO_WRITEPROTECT))
			return 1;
	}
	return 0;
}

static void *faults(void *arg);

static int start_thread(struct cow *c)
{
	int err;

	c->stop_fd = eventfd(0, EFD_CLOEXEC);
	err = c->stop_fd < 0 ? -errno : -pthread_create(&c->thread, NULL, faults, c);
	c->running = !err;
	return err;
}

int cow_prepare(struct cow *c, struct migrate *m)
{
	unsigned int i;
	int err;

	memset(c, 0, sizeof(*c));
	c->m = m;
	c->uffd = m->params.uffd;
	c->pagemap = m->params.pagemap;
	c->stop_fd = -1;
	c->last = &c->waiting;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->news, NULL);
	if (c->uffd < 0 || c->pagemap < 0)
		return 1;
	c->entries = malloc(SCAN_UNITS * COW_UNIT_PAGES * sizeof(u64));
	for (i = 0; i < m->blocks.nr; i++) {
		c->state[i] = calloc(unit_count(&m->blocks.b[i]), 1);
		if (!c->state[i] || !c->entries)
			return verdict(&m->verdict, -ENOMEM, "no memory for copies");
	}
	err = register_all(c);
	if (err)
		return err;
	err = start_thread(c);
	if (err)
		return verdict(&m->verdict, err, "a thread for copies: %s", strerror(-err));
	c->holds = m->ops->hold;
	if (c->holds)
		m->ops->hold(m->vm, true);
	return look_at_all(c);
}

int cow_moment(struct cow *c)
{
	unsigned int block;
	u64 unit, end, count;
	int err = look_at_all(c);

	for (block = 0; block < c->m->blocks.nr; block++) {
		const u8 *state = c->state[block];

		count = unit_count(&c->m->blocks.b[block]);
		for (unit = 0; !err && unit < count; unit = end) {
			for (end = unit + 1; end < count && state[end] == state[unit]; end++)
				;
			if (state[unit] == UNIT_THERE)
				err = protect(c, block, unit, end, true);
		}
	}
	return err;
}

/* --- 3. after --- */

/* Lock held; NULL: there are too many. */
static struct cow_copy *new_copy(struct cow *c)
{
	struct cow_copy *copy = c->unused;

	if (copy) {
		c->unused = copy->next;
		return copy;
	}
	if (c->nr_copies == COPIES_MAX)
		return NULL;
	copy = calloc(1, sizeof(*copy));
	if (copy)
		copy->data = malloc(UNIT_LEN);
	if (!copy || !copy->data) {
		free(copy);
		return NULL;
	}
	c->nr_copies++;
	return copy;
}

static int fill(struct cow *c, struct cow_copy *copy, unsigned int block, u64 unit)
{
	size_t len = unit_len(c, block, unit);

	copy->block = block;
	copy->first = unit * COW_UNIT_PAGES;
	copy->pages = len / PAGE_SIZE;
	copy->zero = false;
	memcpy(copy->data, unit_host(c, block, unit), len);
	return protect(c, block, unit, unit + 1, false);
}

/* Lock held: the next that nobody has wanted to write. */
static bool find_next(struct cow *c, unsigned int *block, u64 *unit)
{
	for (; c->block < c->m->blocks.nr; c->block++, c->unit = 0)
		for (; c->unit < unit_count(&c->m->blocks.b[c->block]); c->unit++)
			if (c->state[c->block][c->unit] < UNIT_TAKEN) {
				*block = c->block;
				*unit = c->unit;
				return true;
			}
	return false;
}

/* Lock held, and let go meanwhile. */
static int take_next(struct cow *c, struct cow_copy *copy, unsigned int block, u64 unit)
{
	bool empty = c->state[block][unit] == UNIT_EMPTY;
	int err;

	c->state[block][unit] = UNIT_TAKEN;
	if (empty) {
		copy->block = block;
		copy->first = unit * COW_UNIT_PAGES;
		copy->pages = unit_len(c, block, unit) / PAGE_SIZE;
		copy->zero = true;
		c->state[block][unit] = UNIT_FREE;
		return 0;
	}
	pthread_mutex_unlock(&c->lock);
	err = fill(c, copy, block, unit);
	pthread_mutex_lock(&c->lock);
	c->state[block][unit] = UNIT_FREE;
	return err;
}

/* What waits goes first, as others may wait for the room. */
int cow_next(struct cow *c, struct cow_copy **out)
{
	struct cow_copy *copy;
	unsigned int block;
	int err = 0;
	u64 unit;

	*out = NULL;
	pthread_mutex_lock(&c->lock);
	while (!c->waiting && c->nr_taken && !c->m->verdict.err && !find_next(c, &block, &unit))
		pthread_cond_wait(&c->news, &c->lock);
	if (c->m->verdict.err) {
		err = -ECANCELED;
	} else if (c->waiting) {
		*out = c->waiting;
		c->waiting = (*out)->next;
		if (!c->waiting)
			c->last = &c->waiting;
	} else if (find_next(c, &block, &unit)) {
		copy = new_copy(c);
		if (copy) {
			err = take_next(c, copy, block, unit);
			*out = copy;
		} else {
			err = verdict(&c->m->verdict, -ENOMEM, "no memory for copies");
		}
	}
	pthread_mutex_unlock(&c->lock);
	return err;
}

void cow_saved(struct cow *c, struct cow_copy *copy)
{
	pthread_mutex_lock(&c->lock);
	copy->next = c->unused;
	c->unused = copy;
	pthread_cond_broadcast(&c->news);
	pthread_mutex_unlock(&c->lock);
}

/* --- 4. the thread --- */

static bool find_unit(const struct cow *c, u64 address, unsigned int *block, u64 *unit)
{
	u64 begin;

	for (*block = 0; *block < c->m->blocks.nr; (*block)++) {
		begin = (uintptr_t)c->m->blocks.b[*block].host;
		if (address >= begin && address - begin < c->m->blocks.b[*block].size) {
			*unit = (address - begin) / UNIT_LEN;
			return true;
		}
	}
	return false;
}

/* Lock held; NULL: the snapshot ends. */
static struct cow_copy *wait_for_room(struct cow *c)
{
	struct cow_copy *copy;

	while (!c->stopping && !c->m->verdict.err) {
		copy = new_copy(c);
		if (copy)
			return copy;
		pthread_cond_wait(&c->news, &c->lock);
	}
	return NULL;
}

static void serve(struct cow *c, u64 address)
{
	struct cow_copy *copy;
	unsigned int block;
	u64 unit;
	u8 *state;

	if (!find_unit(c, address, &block, &unit))
		return;
	state = &c->state[block][unit];
	pthread_mutex_lock(&c->lock);
	copy = *state == UNIT_THERE ? wait_for_room(c) : NULL;
	if (*state != UNIT_THERE) {
		if (copy) {
			copy->next = c->unused;
			c->unused = copy;
		}
		wake(c, unit_host(c, block, unit), unit_len(c, block, unit));
	} else if (copy) {
		*state = UNIT_TAKEN;
		c->nr_taken++;
		pthread_mutex_unlock(&c->lock);
		fill(c, copy, block, unit);
		pthread_mutex_lock(&c->lock);
		*state = UNIT_FREE;
		c->nr_taken--;
		copy->next = NULL;
		*c->last = copy;
		c->last = &copy->next;
		pthread_cond_broadcast(&c->news);
	}
	pthread_mutex_unlock(&c->lock);
}

static void *faults(void *arg)
{
	struct cow *c = arg;
	struct pollfd fds[] = {
		{ .fd = c->uffd, .events = POLLIN }, { .fd = c->stop_fd, .events = POLLIN },
	};
	struct uffd_msg msg[MESSAGES];
	ssize_t n, i;

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents)
			break;
		n = read(c->uffd, msg, sizeof(msg));
		for (i = 0; n > 0 && i < n / (ssize_t)sizeof(msg[0]); i++)
			if (msg[i].event == UFFD_EVENT_PAGEFAULT)
				serve(c, msg[i].arg.pagefault.address);
	}
	return NULL;
}

/* Protection goes, and who waits is woken: before the guest is resumed, if it stands. */
void cow_end(struct cow *c)
{
	unsigned int i;
	u64 one = 1;

	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_cond_broadcast(&c->news);
	pthread_mutex_unlock(&c->lock);
	if (c->running && write(c->stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(c->thread, NULL);
	c->running = false;
	while (c->nr_registered) {
		struct migrate_block *b = &c->m->blocks.b[--c->nr_registered];
		struct uffdio_range range = { (uintptr_t)b->host, b->size };

		/* It wakes nobody who wanted to write. */
		ioctl(c->uffd, UFFDIO_UNREGISTER, &range);
		wake(c, b->host, b->size);
	}
	if (c->holds)
		c->m->ops->hold(c->m->vm, false);
	c->holds = false;
	for (i = 0; i < c->m->blocks.nr; i++) {
		free(c->state[i]);
		c->state[i] = NULL;
	}
	free(c->entries);
	c->entries = NULL;
}

static void free_copies(struct cow_copy *list)
{
	struct cow_copy *next;

	for (; list; list = next) {
		next = list->next;
		free(list->data);
		free(list);
	}
}

void cow_fini(struct cow *c)
{
	cow_end(c);
	free_copies(c->waiting);
	free_copies(c->unused);
	if (c->stop_fd >= 0)
		close(c->stop_fd);
	pthread_cond_destroy(&c->news);
	pthread_mutex_destroy(&c->lock);
}
