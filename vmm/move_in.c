// SPDX-License-Identifier: GPL-2.0
/*
 * A machine that was saved goes on here.
 *  1. What it says of itself comes first: whether this host can make it, and
 *     then it is made, of its own options and those of the command line.
 *  2. Its memory is mapped, or read, by the library.
 *  3. Its state is loaded last; the machine has not run yet then.  The guest
 *     is told that it is another one (virtio_guest.c): there may be several.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "move.h"
#include "net.h"
#include "virtio.h"

static struct {
	struct options *opt;
	int (*build)(struct vm *vm);
	char *why;		/* where a failure's line goes */
	void (*sink)(const char *line);		/* and went before */
	char *paths[DISKS_MAX];
} in;

/* Errors on the way are the library's to tell, with what it knows. */
static void keep_line(const char *line)
{
	if (!in.why[0])
		snprintf(in.why, MIGRATE_WHY_MAX, "%s", line);
}

/* The main thread's failures go to @why; NULL: as before. */
void move_listen(char *why)
{
	if (why) {
		why[0] = 0;
		in.sink = fail_sink;
	}
	in.why = why;
	fail_sink = why ? keep_line : in.sink;
}

/* A disk may have gone on in another place than it began. */
static int find_disks(struct options *opt, const struct migrate_facts *facts)
{
	const char *path;
	char name[32];
	u32 i;

	for (i = 0; i < opt->nr_disks; i++) {
		snprintf(name, sizeof(name), "disk%u.path", i);
		path = migrate_fact_get(facts, name);
		if (!path || !strcmp(path, opt->disks[i].path))
			continue;
		in.paths[i] = strdup(path);
		if (!in.paths[i])
			return fail(-ENOMEM, "out of memory");
		opt->disks[i].path = in.paths[i];
	}
	return 0;
}

/* @later: another host has its disks for now. */
int move_make(struct vm *vm, struct options *opt, bool later,
	      int (*build)(struct vm *vm), const struct migrate_facts *facts,
	      char *why)
{
	bool own_disks = opt->nr_disks;
	struct option_args saved = { .nr = 0 };
	int ret;
	u32 i;

	ret = move_args(facts, &saved);
	if (!ret)
		ret = options_merge(opt, &saved);
	option_args_free(&saved);
	if (!ret && !own_disks)
		ret = find_disks(opt, facts);
	for (i = 0; i < opt->nr_disks; i++)
		opt->disks[i].later = later;
	if (!ret)
		ret = vm_open(vm);
	if (!ret)
		ret = move_check_cpu(vm, facts, why);
	if (!ret && later)
		ret = move_disks_prepare(opt, facts);
	if (!ret)
		ret = build(vm);
	if (!ret)
		ret = move_disks_begin();
	if (!ret)
		ret = move_check_tsc(vm, facts, why);
	return ret ? ret : move_check_devices(vm, facts, why);
}

void move_forget(void)
{
	u32 i;

	for (i = 0; i < DISKS_MAX; i++) {
		free(in.paths[i]);
		in.paths[i] = NULL;
	}
}

static int op_check(void *vm, const struct migrate_facts *facts, char *why)
{
	int ret;

	move_listen(why);
	ret = move_make(vm, in.opt, false, in.build, facts, why);
	move_listen(NULL);
	return ret;
}

static int op_load(void *vm, const void *data, size_t len, char *why)
{
	int ret;

	move_listen(why);
	ret = vm_load(vm, data, len, false);
	move_listen(NULL);
	((struct vm *)vm)->mem.restored = true;
	return ret;
}

static const struct migrate_ops ops = {
	.check = op_check,
	.blocks = move_blocks_fresh,
	.load = op_load,
};

/* @build: devices and vCPUs, when @opt is complete and the device is open. */
int move_restore(struct vm *vm, struct options *opt, int (*build)(struct vm *vm))
{
	char why[MIGRATE_WHY_MAX];
	int fd, ret;

	in.opt = opt;
	in.build = build;
	fd = open(opt->restore, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(-errno, "--restore: '%s': %s", opt->restore,
			    strerror(errno));
	/* Huge pages cannot be a file's: those are read. */
	ret = migrate_restore(&ops, vm, fd, true, why);
	close(fd);
	if (!ret && opt->clone)
		nets_renumber(vm);
	if (!ret)
		return identity_renew(vm);
	return fail(ret, "--restore: '%s': %s", opt->restore, why);
}
