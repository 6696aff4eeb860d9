/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A machine for the tests of migrate/: memory, a thread that writes to it with a log of written pages as KVM keeps it, some bytes
 * of device state, and a network that can be cut after any byte.
 */
#ifndef PVHV_FAKEVM_H
#define PVHV_FAKEVM_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../migrate/migrate.h"
#include "tap.h"

#define FAKE_PAGE	MIGRATE_PAGE_SIZE
#define FAKE_BLOCKS	2
#define FAKE_GAP	0x100000000ull		/* where the second block lies */
#define FAKE_SOCKETS	32

/* What two machines are joined by: the source's connections come out at the destination's side */
struct fakewire {
	pthread_mutex_t lock;
	int fd[FAKE_SOCKETS];
	unsigned int in, out;
	bool down;				/* no new connections */
	/* The first connection breaks after so many bytes of a direction, to (0) and from (1) the destination */
	long cut[2];
	long flip;				/* this bit of what goes to the destination changes, 0: none */
	atomic_long passed[2];
	atomic_bool broken;
};

struct fakevm {
	struct fakewire *wire;
	bool is_source;
	uint64_t size[FAKE_BLOCKS];		/* 0: no such block */
	uint8_t *ram[FAKE_BLOCKS];
	uint8_t state[300];
	const char *cpu;			/* a precondition */
	bool clears;				/* has dirty_clear() */

	pthread_mutex_t lock;			/* of the log, and of writing */
	uint64_t *log[FAKE_BLOCKS];
	pthread_t writer;
	bool has_writer;
	atomic_bool stop, paused, quiet, running;
	atomic_uint rate;			/* pages a millisecond, 0: as fast as it can */
	atomic_uint throttle;
	uint64_t hot;				/* pages that are written */
	atomic_ulong written;
	int starts, stops, locks;
	int acquire_err, load_err, save_err;
	bool lock_held;
};

static unsigned int fake_blocks_nr(const struct fakevm *vm)
{
	return vm->size[1] ? 2 : 1;
}

static int fake_blocks(void *arg, struct migrate_block *list, unsigned int max)
{
	struct fakevm *vm = arg;
	unsigned int i;

	for (i = 0; i < fake_blocks_nr(vm) && i < max; i++) {
		memset(&list[i], 0, sizeof(list[i]));
		strcpy(list[i].name, i ? "high" : "low");
		list[i].gpa = i * FAKE_GAP;
		list[i].size = vm->size[i];
		list[i].host = vm->ram[i];
		list[i].fresh = !vm->is_source;
	}
	return fake_blocks_nr(vm);
}

static int fake_describe(void *arg, struct migrate_facts *facts)
{
	struct fakevm *vm = arg;

	migrate_fact(facts, "cpu.vendor", "%s", vm->cpu);
	return migrate_fact(facts, "memory", "%llu", (unsigned long long)vm->size[0]);
}

static int fake_check(void *arg, const struct migrate_facts *theirs, char *why)
{
	struct migrate_facts *ours = migrate_facts_new();
	int err;

	fake_describe(arg, ours);
	err = migrate_facts_compare(theirs, ours, why);
	migrate_facts_free(ours);
	return err;
}

static uint64_t fake_words(const struct fakevm *vm, unsigned int block)
{
	return (vm->size[block] / FAKE_PAGE + 63) / 64;
}

static int fake_dirty_start(void *arg)
{
	struct fakevm *vm = arg;
	unsigned int i;

	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < fake_blocks_nr(vm); i++)
		memset(vm->log[i], 0, fake_words(vm, i) * 8);
	vm->starts++;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static int fake_dirty_fetch(void *arg, unsigned int block, uint64_t *bitmap)
{
	struct fakevm *vm = arg;

	pthread_mutex_lock(&vm->lock);
	memcpy(bitmap, vm->log[block], fake_words(vm, block) * 8);
	if (!vm->clears)
		memset(vm->log[block], 0, fake_words(vm, block) * 8);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static int fake_dirty_clear(void *arg, unsigned int block, uint64_t first, uint64_t count, const uint64_t *bitmap)
{
	struct fakevm *vm = arg;
	uint64_t i;

	ASSERT_EQ(first % 64, 0);
	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < (count + 63) / 64; i++)
		vm->log[block][first / 64 + i] &= ~bitmap[i];
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static void fake_dirty_stop(void *arg)
{
	((struct fakevm *)arg)->stops++;
}

static int fake_throttle(void *arg, unsigned int percent)
{
	((struct fakevm *)arg)->throttle = percent;
	return 0;
}

static int fake_pause(void *arg)
{
	struct fakevm *vm = arg;

	vm->paused = true;
	while (vm->has_writer && !vm->quiet)
		usleep(50);
	vm->running = false;
	return 0;
}

static int fake_resume(void *arg)
{
	struct fakevm *vm = arg;

	vm->running = true;
	vm->paused = false;
	return 0;
}

static int fake_save(void *arg, void **data, size_t *len)
{
	struct fakevm *vm = arg;

	ASSERT(vm->paused);
	*data = malloc(sizeof(vm->state));
	memcpy(*data, vm->state, sizeof(vm->state));
	*len = sizeof(vm->state);
	return vm->save_err;
}

static int fake_load(void *arg, const void *data, size_t len, char *why)
{
	struct fakevm *vm = arg;

	if (vm->load_err || len != sizeof(vm->state)) {
		strcpy(why, "device 'x' has another size");
		return -EINVAL;
	}
	memcpy(vm->state, data, len);
	return 0;
}

static int fake_release(void *arg)
{
	((struct fakevm *)arg)->lock_held = false;
	return 0;
}

static int fake_acquire(void *arg, char *why)
{
	struct fakevm *vm = arg;

	if (vm->acquire_err) {
		strcpy(why, "the disk is locked by somebody else");
		return vm->acquire_err;
	}
	vm->lock_held = true;
	return 0;
}

/* A connection that loses what comes after the cut, as a network does: the writer is not told */
struct fakeio {
	struct migrate_io io;
	struct fakewire *wire;
	int fd, direction;
};

static long fakeio_read(struct migrate_io *io, void *data, size_t len)
{
	ssize_t n = recv(((struct fakeio *)io)->fd, data, len, MSG_DONTWAIT);

	return n < 0 ? -errno : n;
}

static long fakeio_write(struct migrate_io *io, const void *data, size_t len)
{
	struct fakeio *f = (struct fakeio *)io;
	long left = f->wire->cut[f->direction] - f->wire->passed[f->direction];
	uint8_t *copy = NULL;
	ssize_t n;
	long at;

	if (f->wire->broken)
		return -EPIPE;
	if (left < (long)len) {
		if (left > 0 && send(f->fd, data, left, MSG_NOSIGNAL) != left)
			return -EPIPE;
		f->wire->broken = true;
		shutdown(f->fd, SHUT_RDWR);
		return len;
	}
	at = f->wire->flip / 8 - f->wire->passed[0];
	if (f->wire->flip && !f->direction && at >= 0 && at < (long)len) {
		copy = malloc(len);
		memcpy(copy, data, len);
		copy[at] ^= 1 << f->wire->flip % 8;
	}
	n = send(f->fd, copy ? copy : data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	free(copy);
	if (n > 0)
		f->wire->passed[f->direction] += n;
	return n < 0 ? -errno : n;
}

static int fakeio_poll(struct migrate_io *io, bool writing, short *events)
{
	*events = writing ? POLLOUT : POLLIN;
	return ((struct fakeio *)io)->fd;
}

static void fakeio_finish(struct migrate_io *io)
{
	shutdown(((struct fakeio *)io)->fd, SHUT_WR);
}

static void fakeio_close(struct migrate_io *io)
{
	close(((struct fakeio *)io)->fd);
	free(io);
}

static const struct migrate_io_ops fakeio_ops = {
	.read = fakeio_read, .write = fakeio_write, .poll = fakeio_poll, .finish = fakeio_finish, .close = fakeio_close,
};

static struct migrate_io *fakeio_new(struct fakewire *wire, int fd, int direction)
{
	struct fakeio *f = calloc(1, sizeof(*f));

	f->io.ops = &fakeio_ops;
	f->wire = wire;
	f->fd = fd;
	f->direction = direction;
	return &f->io;
}

static int fake_connection(void *arg, struct migrate_io **io, int timeout_ms)
{
	struct fakevm *vm = arg;
	struct fakewire *wire = vm->wire;
	bool breaks = false;
	int pair[2], fd = -1, i;

	if (vm->is_source) {
		pthread_mutex_lock(&wire->lock);
		if (wire->down) {
			pthread_mutex_unlock(&wire->lock);
			return -ECONNREFUSED;
		}
		ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
		breaks = !wire->in && (wire->cut[0] || wire->cut[1]);
		wire->fd[wire->in++ % FAKE_SOCKETS] = pair[1];
		pthread_mutex_unlock(&wire->lock);
		*io = breaks ? fakeio_new(wire, pair[0], 0) : migrate_io_fd(pair[0]);
		return 0;
	}
	for (i = 0; fd < 0 && i <= timeout_ms * 5; i++) {
		pthread_mutex_lock(&wire->lock);
		if (wire->out < wire->in) {
			breaks = !wire->out && (wire->cut[0] || wire->cut[1]);
			fd = wire->fd[wire->out++ % FAKE_SOCKETS];
		}
		pthread_mutex_unlock(&wire->lock);
		if (fd < 0)
			usleep(200);
	}
	if (fd < 0)
		return -ETIMEDOUT;
	*io = breaks ? fakeio_new(wire, fd, 1) : migrate_io_fd(fd);
	return 0;
}

static void fakewire_fini(struct fakewire *wire)
{
	pthread_mutex_lock(&wire->lock);
	wire->down = true;
	while (wire->out < wire->in)
		close(wire->fd[wire->out++ % FAKE_SOCKETS]);
	pthread_mutex_unlock(&wire->lock);
}

/* The destination listens no more */
static void fake_done(void *arg)
{
	struct fakevm *vm = arg;

	if (!vm->is_source)
		fakewire_fini(vm->wire);
}

static const struct migrate_ops fake_ops = {
	.blocks = fake_blocks, .describe = fake_describe, .check = fake_check,
	.dirty_start = fake_dirty_start, .dirty_fetch = fake_dirty_fetch, .dirty_stop = fake_dirty_stop,
	.throttle = fake_throttle, .pause = fake_pause, .resume = fake_resume, .save = fake_save, .load = fake_load,
	.release = fake_release, .acquire = fake_acquire, .connection = fake_connection,
	.done = fake_done,
};

/* The same for a log that is cleared apart */
static inline struct migrate_ops fake_ops_clear(void)
{
	struct migrate_ops ops = fake_ops;

	ops.dirty_clear = fake_dirty_clear;
	return ops;
}

static inline void fakewire_init(struct fakewire *wire)
{
	memset(wire, 0, sizeof(*wire));
	pthread_mutex_init(&wire->lock, NULL);
}

static void fakevm_init(struct fakevm *vm, struct fakewire *wire, bool is_source, uint64_t low, uint64_t high)
{
	unsigned int i;

	memset(vm, 0, sizeof(*vm));
	vm->wire = wire;
	vm->is_source = is_source;
	vm->cpu = "AuthenticAMD";
	vm->size[0] = low;
	vm->size[1] = high;
	vm->running = vm->lock_held = is_source;
	pthread_mutex_init(&vm->lock, NULL);
	for (i = 0; i < fake_blocks_nr(vm); i++) {
		vm->ram[i] = mmap(NULL, vm->size[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT(vm->ram[i] != MAP_FAILED);
		vm->log[i] = calloc(fake_words(vm, i), 8);
	}
}

static inline void fakevm_fini(struct fakevm *vm)
{
	unsigned int i;

	if (vm->has_writer) {
		vm->stop = true;
		pthread_join(vm->writer, NULL);
	}
	for (i = 0; i < fake_blocks_nr(vm); i++) {
		munmap(vm->ram[i], vm->size[i]);
		free(vm->log[i]);
	}
}

static uint64_t fake_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Every fourth page zero, every fourth text-like, the rest random */
static inline void fakevm_fill(struct fakevm *vm)
{
	uint64_t seed = 88172645463325252, page, i;
	unsigned int b;

	for (b = 0; b < fake_blocks_nr(vm); b++)
		for (page = 0; page < vm->size[b] / FAKE_PAGE; page++) {
			uint64_t *p = (uint64_t *)(vm->ram[b] + page * FAKE_PAGE);

			for (i = 0; page % 4 && i < FAKE_PAGE / 8; i++)
				p[i] = page % 4 == 1 ? page + i % 16 : fake_random(&seed);
		}
	for (i = 0; i < sizeof(vm->state); i++)
		vm->state[i] = fake_random(&seed);
}

static void fakevm_write(struct fakevm *vm, uint64_t page, uint64_t value)
{
	unsigned int b = 0;

	if (page >= vm->size[0] / FAKE_PAGE) {
		page -= vm->size[0] / FAKE_PAGE;
		b = 1;
	}
	pthread_mutex_lock(&vm->lock);
	vm->log[b][page / 64] |= 1ull << page % 64;
	((uint64_t *)(vm->ram[b] + page * FAKE_PAGE))[value % 512] = value;
	if (value % 37 == 0)
		memset(vm->ram[b] + page * FAKE_PAGE, 0, FAKE_PAGE);
	pthread_mutex_unlock(&vm->lock);
	vm->written++;
}

static void *fakevm_writer(void *arg)
{
	struct fakevm *vm = arg;
	uint64_t seed = 1234567;
	unsigned int n;

	while (!vm->stop) {
		if (vm->paused) {
			vm->quiet = true;
			usleep(50);
			continue;
		}
		vm->quiet = false;
		/* paused was set, and quiet seen as true, between the two */
		if (vm->paused)
			continue;
		for (n = 0; n < (vm->rate ? vm->rate : 100); n++)
			fakevm_write(vm, fake_random(&seed) % vm->hot, fake_random(&seed));
		if (vm->rate || vm->throttle)
			usleep(1000 + vm->throttle * vm->throttle * 20);
	}
	return NULL;
}

static inline void fakevm_run(struct fakevm *vm, uint64_t hot, unsigned int rate)
{
	vm->hot = hot;
	vm->rate = rate;
	vm->has_writer = true;
	ASSERT_EQ(pthread_create(&vm->writer, NULL, fakevm_writer, vm), 0);
}

static inline bool fakevm_equal(const struct fakevm *a, const struct fakevm *b)
{
	unsigned int i;

	for (i = 0; i < fake_blocks_nr(a); i++)
		if (memcmp(a->ram[i], b->ram[i], a->size[i]))
			return false;
	return !memcmp(a->state, b->state, sizeof(a->state));
}

#endif
