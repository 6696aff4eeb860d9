// SPDX-License-Identifier: GPL-2.0
/*
 * A machine that was saved goes on here.
 *  1. What it says of itself comes first: whether this host can make it, and
 *     then it is made, of its own options and those of the command line.
 *  2. Its memory is mapped, or read, by the library.
 *  3. Its state is loaded last; the machine has not run yet then.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "move.h"

static struct {
	struct vm *vm;
	struct options *opt;
	int (*build)(struct vm *vm);
	char *why;		/* where a failure's line goes */
	void (*sink)(const char *line);		/* and went before */
} in;

/* Errors on the way are the library's to tell, with what it knows. */
static void keep_line(const char *line)
{
	if (!in.why[0])
		snprintf(in.why, MIGRATE_WHY_MAX, "%s", line);
}

static void listen_to(char *why)
{
	in.why = why;
	if (why)
		in.sink = fail_sink;
	fail_sink = why ? keep_line : in.sink;
}

static int make(const struct migrate_facts *facts, char *why)
{
	struct option_args saved = { .nr = 0 };
	int ret;

	ret = move_args(facts, &saved);
	if (!ret)
		ret = options_merge(in.opt, &saved);
	option_args_free(&saved);
	if (!ret)
		ret = vm_open(in.vm);
	if (!ret)
		ret = move_check_cpu(in.vm, facts, why);
	return ret ? ret : in.build(in.vm);
}

static int op_check(void *vm, const struct migrate_facts *facts, char *why)
{
	int ret;

	(void)vm;
	why[0] = 0;
	listen_to(why);
	ret = make(facts, why);
	listen_to(NULL);
	return ret;
}

static int op_blocks(void *vm, struct migrate_block *list, unsigned int max)
{
	int nr = move_blocks(vm, list, max), i;

	for (i = 0; i < nr; i++)
		list[i].fresh = true;
	return nr;
}

static int op_load(void *vm, const void *data, size_t len, char *why)
{
	int ret;

	why[0] = 0;
	listen_to(why);
	ret = vm_load(vm, data, len, false);
	listen_to(NULL);
	return ret;
}

static const struct migrate_ops ops = {
	.check = op_check,
	.blocks = op_blocks,
	.load = op_load,
};

/* @build: devices and vCPUs, when @opt is complete and the device is open. */
int move_restore(struct vm *vm, struct options *opt, int (*build)(struct vm *vm))
{
	char why[MIGRATE_WHY_MAX];
	int fd, ret;

	in.vm = vm;
	in.opt = opt;
	in.build = build;
	fd = open(opt->restore, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(-errno, "--restore: '%s': %s", opt->restore,
			    strerror(errno));
	/* Huge pages cannot be a file's: those are read. */
	ret = migrate_restore(&ops, vm, fd, true, why);
	close(fd);
	return ret ? fail(ret, "--restore: '%s': %s", opt->restore, why) : 0;
}
