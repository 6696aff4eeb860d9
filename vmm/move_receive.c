// SPDX-License-Identifier: GPL-2.0
/*
 * A machine that runs elsewhere comes here.
 *  1. Before there is a machine: the door is opened (move_door.c), and whoever
 *     comes in says what the machine is made of.  It is made, as a saved one
 *     is, by the main thread.
 *  2. The main thread goes on as with any machine, but that this one is held.
 *     When its sandbox is closed, the library's thread enters it, too; memory
 *     and state come after that.
 *  3. It is this host's with the disks, and runs; or it is not, and the
 *     process ends.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "move.h"
#include "move_address.h"
#include "net.h"
#include "virtio.h"

static struct {
	struct vm *vm;
	struct options *opt;
	int (*build)(struct vm *vm);
	int door;			/* [c] until the end */
	struct migrate *m;		/* [m] NULL: all is over */
	struct errand *making;		/* [m] waits for the sandbox */
	bool built;			/* [m] */
	bool here;			/* [m] it runs, or may */
	int err;			/* [m] */
	struct letter over;
} in = { .door = -1 };

struct arrival {
	const struct migrate_facts *facts;
	const void *data;
	size_t len;
	char *why;
};

/* 1. */

static int run_make(struct errand *e)
{
	struct arrival *a = e->arg;
	int ret;

	signals_hold(true);
	move_listen(a->why);
	ret = move_make(in.vm, in.opt, true, in.build, a->facts, a->why);
	move_listen(NULL);
	if (ret)
		return ret;
	in.built = true;
	in.making = e;
	return ERRAND_WAITS;
}

static int op_check(void *vm, const struct migrate_facts *facts, char *why)
{
	struct arrival a = { .facts = facts, .why = why };
	int ret;

	(void)vm;
	ret = errand_run(run_make, &a);
	if (!ret && sandbox_join()) {
		strcpy(why, "the sandbox cannot be entered");
		ret = -EPERM;
	}
	return ret;
}

/* 2. */

static int run_load(struct errand *e)
{
	struct arrival *a = e->arg;
	int ret;

	if (vm_stopping(in.vm))
		return -ECANCELED;
	move_listen(a->why);
	ret = vm_load(in.vm, a->data, a->len, true);
	if (!ret)
		ret = move_out_know();
	move_listen(NULL);
	return ret;
}

static int op_load(void *vm, const void *data, size_t len, char *why)
{
	struct arrival a = { .data = data, .len = len, .why = why };

	(void)vm;
	return errand_run(run_load, &a);
}

static int op_connection(void *vm, struct migrate_io **io, int timeout_ms)
{
	int fd = move_door_next(in.door, timeout_ms);

	(void)vm;
	if (fd < 0)
		return fd;
	*io = migrate_io_fd(fd);
	return *io ? 0 : -ENOMEM;
}

/* 3. */

static int run_acquire(struct errand *e)
{
	struct arrival *a = e->arg;
	int ret;

	if (vm_stopping(in.vm))
		return -ECANCELED;
	move_listen(a->why);
	ret = move_disks_end();
	if (!ret)
		ret = disks_take(in.vm);
	move_listen(NULL);
	return ret;
}

static int op_acquire(void *vm, char *why)
{
	struct arrival a = { .why = why };

	(void)vm;
	return errand_run(run_acquire, &a);
}

/* The guest first, which does not see that its devices begin a moment later. */
static int run_resume(struct errand *e)
{
	in.here = true;
	vm_resume(in.vm, PAUSE_MOVE);
	errand_end(e, 0);
	vm_virtio_resume(in.vm);
	nets_announce(in.vm);
	return ERRAND_WAITS;
}

static int op_resume(void *vm)
{
	int ret = errand_run(run_resume, NULL);

	pause_await_go(vm);
	return ret;
}

static void op_done(void *vm)
{
	(void)vm;
	mailbox_post(&in.over);
}

static int op_disks(void *vm, struct migrate_disk *list, unsigned int max)
{
	(void)vm;
	return move_disks_list(list, max);
}

static int op_disk_write(void *vm, unsigned int disk, uint64_t pos,
			 const void *data, uint64_t len)
{
	(void)vm;
	return move_disks_write(disk, pos, data, len);
}

static int op_disk_flush(void *vm)
{
	(void)vm;
	return move_disks_flush();
}

static const struct migrate_ops ops = {
	.check = op_check,
	.blocks = move_blocks_fresh,
	.load = op_load,
	.disks = op_disks,
	.disk_write = op_disk_write,
	.disk_flush = op_disk_flush,
	.connection = op_connection,
	.acquire = op_acquire,
	.resume = op_resume,
	.done = op_done,
};

static void finish(struct letter *letter)
{
	struct migrate_result result;

	(void)letter;
	migrate_wait(in.m, &result);
	in.m = NULL;
	in.err = result.err;
	/* Whose it is may be unknown: then nothing of it is thrown away. */
	move_disks_close(result.owner != MIGRATE_THERE);
	close(in.door);
	in.door = -1;
	if (!result.err)
		control_event("arrived", "{s:I, s:f}", "bytes",
			      (json_int_t)result.progress.bytes, "seconds",
			      result.progress.elapsed_us / 1e6);
	else if (!vm_stopping(in.vm))
		fail(result.err, "--incoming: %s", result.why);
	if (result.err && in.built)
		vm_stop(in.vm, STATUS_ERROR);
}

int move_receive(struct vm *vm, struct options *opt, int (*build)(struct vm *vm))
{
	struct move_address at;
	struct migrate_params params;
	int ret;

	in.vm = vm;
	in.opt = opt;
	in.build = build;
	in.over.opened = finish;
	migrate_params_init(&params);
	params.stall_ms = MOVE_STALL_MS;
	ret = move_address_parse(&at, "--incoming", opt->incoming);
	if (!ret)
		in.door = ret = move_door_open(opt, &at);
	move_address_free(&at);
	if (ret < 0)
		return ret;
	ret = migrate_receive(&in.m, &ops, vm, &params);
	if (ret) {
		close(in.door);
		return fail(ret, "--incoming: %s", strerror(-ret));
	}
	/* Until there is a machine whose terminal would have to be put back */
	signals_hold(false);
	while (in.m && !in.built)
		mailbox_wait();
	return in.built ? 0 : in.err;
}

void move_receive_ready(struct vm *vm)
{
	struct errand *e = in.making;

	(void)vm;
	in.making = NULL;
	if (e)
		errand_end(e, 0);
}

/* The loop has ended, or never began; what goes on comes to its end. */
int move_receive_end(struct vm *vm)
{
	struct errand *e = in.making;

	in.making = NULL;
	vm_stop(vm, STATUS_ERROR);
	if (e)
		errand_end(e, -ECANCELED);
	if (in.m)
		migrate_cancel(in.m);
	while (in.m)
		mailbox_wait();
	return in.err;
}

bool move_arrives(void)
{
	return in.m && !in.here;
}

bool move_receive_force(void)
{
	if (!move_arrives())
		return false;
	migrate_force(in.m);
	return true;
}
