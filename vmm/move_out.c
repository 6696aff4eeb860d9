// SPDX-License-Identifier: GPL-2.0
/*
 * What the library asks of a machine that leaves, in threads of its own.
 *  1. Standing still and its state: errands of the main thread.
 *  2. Which pages were written: the kernel's log, and our own (mem.c); and
 *     that none goes before it could be copied.
 *  3. Connections, which whoever wants the move has to make.
 *  4. Disks, which only one host may have; or are copied along.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "blk.h"
#include "clock.h"
#include "move.h"
#include "virtio.h"

#define FDS_MAX		(MIGRATE_CONNECTIONS_MAX + 1)

static struct {
	struct vm *vm;
	struct move_cpu cpu;		/* [c] */
	struct freeze freeze;
	struct errand *freezing;	/* [m] waits for the freeze */
	struct move_order order;
	bool saved;			/* [m] its state */

	pthread_mutex_t lock;
	pthread_cond_t news;
	bool asked;			/* [l] lock: one is on its way */
	int refused;			/* [l] lock: -errno, it does not come */
	unsigned int nr_fds;		/* [l] lock */
	int fds[FDS_MAX];		/* [l] lock: come, not yet used */
} out = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.news = PTHREAD_COND_INITIALIZER,
};

/* 1. */

static int op_blocks(void *vm, struct migrate_block *list, unsigned int max)
{
	return move_blocks(vm, list, max);
}

static int op_describe(void *vm, struct migrate_facts *facts)
{
	int ret = move_describe(vm, &out.cpu, facts);

	return ret || !out.order.copy_disks ? ret : move_disks_describe(vm, facts);
}

static void frozen(struct freeze *f, int err)
{
	struct errand *e = out.freezing;

	(void)f;
	out.freezing = NULL;
	if (e)
		errand_end(e, err);
}

static int run_pause(struct errand *e)
{
	int ret;

	out.freezing = e;
	out.freeze.done = frozen;
	ret = vm_freeze(out.vm, &out.freeze);
	if (!ret)
		return ERRAND_WAITS;
	out.freezing = NULL;
	return ret;
}

static int run_resume(struct errand *e)
{
	(void)e;
	vm_thaw(out.vm);
	if (out.saved)
		out.order.resumed();
	return 0;
}

static int check_frozen(struct vm *vm)
{
	struct blk *blk;
	u32 i;

	for (i = 0; i < DISKS_MAX; i++) {
		if (!out.order.frozen[i])
			continue;
		blk = disks_at(vm, i);
		if (!blk || blk_frozen(blk) != out.order.frozen[i])
			return fail(-ETIME, "disk%u: thawed before the machine's moment: try again",
				    i);
	}
	return 0;
}

static int run_save(struct errand *e)
{
	int ret = check_frozen(out.vm);

	if (!ret)
		ret = vm_save(out.vm, e->arg);
	out.saved = !ret;
	return ret;
}

static void op_settle(void *vm)
{
	disks_sync(vm);
}

static int op_pause(void *vm)
{
	(void)vm;
	return errand_run(run_pause, NULL);
}

static int op_resume(void *vm)
{
	(void)vm;
	return errand_run(run_resume, NULL);
}

static int op_save(void *vm, void **data, size_t *len)
{
	struct state st;
	int ret;

	(void)vm;
	state_init(&st);
	ret = errand_run(run_save, &st);
	if (ret) {
		state_free(&st);
		return ret;
	}
	*data = st.data;
	*len = st.len;
	return 0;
}

static void op_done(void *vm)
{
	(void)vm;
	mailbox_post(out.order.over);
}

/* 2. */

/* Main thread */
int move_out_log(struct vm *vm)
{
	int ret;

	ret = mem_log_start(&vm->mem);
	if (ret)
		return ret;
	vm_virtio_log_writes(vm, true);
	ret = vm_log_writes(vm, true);
	if (!ret)
		return 0;
	vm_virtio_log_writes(vm, false);
	mem_log_stop(&vm->mem);
	return ret;
}

void move_out_unlog(struct vm *vm)
{
	vm_log_writes(vm, false);
	mem_log_stop(&vm->mem);
	vm_virtio_log_writes(vm, false);
}

static int run_log(struct errand *e)
{
	int ret;

	(void)e;
	ret = move_out_log(out.vm);
	if (ret || !out.order.copy_disks)
		return ret;
	ret = move_disks_log(out.vm);
	if (ret)
		move_out_unlog(out.vm);
	return ret;
}

static int run_unlog(struct errand *e)
{
	(void)e;
	if (out.order.copy_disks)
		move_disks_unlog(out.vm);
	move_out_unlog(out.vm);
	return 0;
}

static int op_dirty_start(void *vm)
{
	(void)vm;
	return errand_run(run_log, NULL);
}

static void op_dirty_stop(void *vm)
{
	(void)vm;
	errand_run(run_unlog, NULL);
}

/* A block is a slot, see move_blocks(). */
int move_out_fetch(struct vm *vm, unsigned int block, u64 *bitmap)
{
	struct kvm_dirty_log log = { .slot = block, .dirty_bitmap = bitmap };
	struct migrate_block list[MOVE_BLOCKS_MAX];

	if (move_blocks(vm, list, ARRAY_SIZE(list)) <= (int)block)
		return -EINVAL;
	if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log))
		return -errno;
	mem_log_take(&vm->mem, list[block].host, list[block].size, bitmap);
	return 0;
}

static int op_dirty_fetch(void *vm, unsigned int block, u64 *bitmap)
{
	return move_out_fetch(vm, block, bitmap);
}

static int op_dirty_clear(void *vm, unsigned int block, u64 first, u64 count,
			  const u64 *bitmap)
{
	struct kvm_clear_dirty_log log = {
		.slot = block, .num_pages = count, .first_page = first,
		.dirty_bitmap = (void *)bitmap,
	};

	return ioctl(((struct vm *)vm)->fd, KVM_CLEAR_DIRTY_LOG, &log) ?
	       -errno : 0;
}

/* All of a block, unless move_out_fetch() does it. */
int move_out_clear(struct vm *vm, unsigned int block, u64 count,
		   const u64 *bitmap)
{
	return vm->manual_log ? op_dirty_clear(vm, block, 0, count, bitmap) : 0;
}

static int run_hold(struct errand *e)
{
	mem_hold(&out.vm->mem, *(bool *)e->arg);
	return 0;
}

static void op_hold(void *vm, bool hold)
{
	(void)vm;
	errand_run(run_hold, &hold);
}

static int run_throttle(struct errand *e)
{
	return vm_throttle(out.vm, *(unsigned int *)e->arg);
}

static int op_throttle(void *vm, unsigned int percent)
{
	(void)vm;
	return errand_run(run_throttle, &percent);
}

/* 3. */

/* Main thread: @fd is taken. */
void move_out_connection(int fd)
{
	pthread_mutex_lock(&out.lock);
	if (out.nr_fds < FDS_MAX)
		out.fds[out.nr_fds++] = fd;
	else
		close(fd);
	out.asked = false;
	out.refused = 0;
	pthread_cond_broadcast(&out.news);
	pthread_mutex_unlock(&out.lock);
}

/* Main thread: none will come. */
void move_out_no_connection(int err)
{
	pthread_mutex_lock(&out.lock);
	if (out.asked)
		out.refused = err;
	out.asked = false;
	pthread_cond_broadcast(&out.news);
	pthread_mutex_unlock(&out.lock);
}

static int run_ask(struct errand *e)
{
	(void)e;
	out.order.ask();
	return 0;
}

/* One that has come, or why there is none. */
static int take_connection(int timeout_ms)
{
	struct timespec end = clock_after_us(timeout_ms * 1000ULL);
	int ret = -ETIMEDOUT, timed_out = 0;
	bool ask;

	pthread_mutex_lock(&out.lock);
	ask = !out.nr_fds && !out.asked;
	if (ask) {
		out.asked = true;
		out.refused = 0;
		pthread_mutex_unlock(&out.lock);
		errand_run(run_ask, NULL);
		pthread_mutex_lock(&out.lock);
	}
	while (!out.nr_fds && !out.refused && !timed_out)
		timed_out = pthread_cond_clockwait(&out.news, &out.lock,
						   CLOCK_MONOTONIC, &end);
	if (out.nr_fds) {
		ret = out.fds[0];
		memmove(out.fds, out.fds + 1, --out.nr_fds * sizeof(int));
	} else if (out.refused) {
		ret = out.refused;
		out.refused = 0;
	}
	pthread_mutex_unlock(&out.lock);
	return ret;
}

static int op_connection(void *vm, struct migrate_io **io, int timeout_ms)
{
	int fd = take_connection(timeout_ms);

	(void)vm;
	if (fd < 0)
		return fd;
	*io = migrate_io_fd(fd);
	return *io ? 0 : -ENOMEM;
}

/* 4. */

static void flushed(void *arg, int err)
{
	struct errand *e = arg;

	errand_end(e, err ? err : disks_let_go(out.vm));
}

static int run_let_go(struct errand *e)
{
	disks_flush(out.vm, flushed, e);
	return ERRAND_WAITS;
}

static int run_take(struct errand *e)
{
	(void)e;
	return disks_take(out.vm);
}

static int op_release(void *vm)
{
	(void)vm;
	return errand_run(run_let_go, NULL);
}

static int op_acquire(void *vm, char *why)
{
	int ret;

	(void)vm;
	ret = errand_run(run_take, NULL);
	if (ret)
		strcpy(why, "a disk is somebody else's now");
	return ret;
}

static int op_disks(void *vm, struct migrate_disk *list, unsigned int max)
{
	return move_disks_offer(vm, list, max);
}

static int op_disk_fetch(void *vm, unsigned int disk, uint64_t *bitmap)
{
	return move_disks_fetch(vm, disk, bitmap);
}

static int op_disk_read(void *vm, unsigned int disk, uint64_t pos, void *data,
			size_t len)
{
	return move_disks_read(vm, disk, pos, data, len);
}

static struct migrate_ops ops = {
	.blocks = op_blocks,
	.describe = op_describe,
	.dirty_start = op_dirty_start,
	.dirty_fetch = op_dirty_fetch,
	.dirty_stop = op_dirty_stop,
	.hold = op_hold,
	.disks = op_disks,
	.disk_fetch = op_disk_fetch,
	.disk_read = op_disk_read,
	.throttle = op_throttle,
	.settle = op_settle,
	.pause = op_pause,
	.resume = op_resume,
	.save = op_save,
	.release = op_release,
	.acquire = op_acquire,
	.connection = op_connection,
	.done = op_done,
};

const struct migrate_ops *move_out_begin(const struct move_order *order)
{
	out.order = *order;
	out.saved = false;
	out.asked = false;
	out.refused = 0;
	ops.dirty_clear = out.vm->manual_log ? op_dirty_clear : NULL;
	return &ops;
}

/* What was passed and not used. */
void move_out_end(void)
{
	while (out.nr_fds)
		close(out.fds[--out.nr_fds]);
}

/* A machine that has come from elsewhere has its CPUs' kind only now. */
int move_out_know(void)
{
	return out.vm ? move_know_cpu(out.vm, &out.cpu) : 0;
}

int move_out_open(struct vm *vm)
{
	out.vm = vm;
	return move_know_cpu(vm, &out.cpu);
}
