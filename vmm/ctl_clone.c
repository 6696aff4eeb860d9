// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl clone: machines of one saved machine, each with an identity of its
 * own, which share what they do not write.
 *  1. A pvhv-run for each, beside this program or from PATH, in the background.
 *  2. Waits until all of them run, or one has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "ctl.h"

#define LOOK_MS		2

struct clone {
	const char *name;
	pid_t pid;
	bool runs;
	u64 took_ns;
};

struct clones {
	struct clone *list;
	u32 nr;
	const char *file;
	char **options;		/* ends by NULL */
	char program[PATH_MAX];
};

/* 1. */

static void find_program(char *path)
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
	char *slash;

	path[n > 0 ? n : 0] = 0;
	slash = strrchr(path, '/');
	if (slash && slash + sizeof("/pvhv-run") < path + PATH_MAX) {
		strcpy(slash, "/pvhv-run");
		if (!access(path, X_OK))
			return;
	}
	strcpy(path, "pvhv-run");
}

/* In the child: it outlives us, and has only our standard error. */
static void become(const struct clones *all, const char *name)
{
	char *args[OPTION_ARGS_MAX] = {
		"pvhv-run", "--restore", (char *)all->file, "--clone", "--name",
		(char *)name, "--console", "none",
	};
	int fd = open("/dev/null", O_RDWR), nr = 8;
	char **option;

	for (option = all->options; *option && nr < OPTION_ARGS_MAX - 1; option++)
		args[nr++] = *option;
	setsid();
	if (fd < 0 || dup2(fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0)
		_exit(CTL_ERROR);
	execvp(all->program, args);
	fail(-errno, "%s: %s", all->program, strerror(errno));
	_exit(CTL_ERROR);
}

static int start(struct clones *all, struct clone *c)
{
	c->took_ns = clock_now_ns();
	c->pid = fork();
	if (c->pid < 0)
		return fail(CTL_ERROR, "cannot start a program: %s",
			    strerror(errno));
	if (!c->pid)
		become(all, c->name);
	return CTL_OK;
}

/* 2. */

static int look(struct clone *c)
{
	char path[RUNDIR_MAX];
	json_t *status;
	int how;

	if (waitpid(c->pid, &how, WNOHANG) == c->pid)
		return fail(CTL_ERROR, "%s: ended before it ran", c->name);
	if (rundir_socket(path, sizeof(path), c->name))
		return fail(CTL_ERROR, "'%s' names no machine: choose another name",
			    c->name);
	if (ctl_probe(path, &status))
		return CTL_OK;
	c->runs = json_integer_value(json_object_get(status, "pid")) == c->pid;
	json_decref(status);
	if (c->runs)
		c->took_ns = clock_now_ns() - c->took_ns;
	return CTL_OK;
}

static int wait_for_all(struct clones *all)
{
	bool wait;
	u32 i;
	int ret;

	do {
		wait = false;
		for (i = 0; i < all->nr; i++) {
			ret = all->list[i].runs ? CTL_OK : look(&all->list[i]);
			if (ret)
				return ret;
			wait |= !all->list[i].runs;
		}
		if (wait)
			usleep(LOOK_MS * 1000);
	} while (wait);
	return CTL_OK;
}

static void show(const struct clones *all)
{
	json_t *list = json_array();
	u32 i;

	for (i = 0; i < all->nr; i++)
		json_array_append_new(list, json_pack("{s:s, s:i, s:f}",
			"name", all->list[i].name, "pid", (int)all->list[i].pid,
			"seconds", all->list[i].took_ns / 1e9));
	ctl_print(list);
	json_decref(list);
}

static int clone_all(struct clones *all)
{
	struct stat st;
	int ret = CTL_OK;
	u32 i;

	if (stat(all->file, &st))
		return fail(CTL_ERROR, "'%s': %s", all->file, strerror(errno));
	find_program(all->program);
	for (i = 0; i < all->nr && !ret; i++)
		ret = rundir_name_ok(all->list[i].name) ?
		      start(all, &all->list[i]) :
		      fail(CTL_ERROR, "'%s' names no machine: choose another name",
			   all->list[i].name);
	if (!ret)
		ret = wait_for_all(all);
	if (!ret && ctl_json)
		show(all);
	return ret;
}

int ctl_clone(int argc, char **argv)
{
	struct clones all = { .file = argv[1] };
	int i, ret;

	all.list = calloc(argc, sizeof(all.list[0]));
	if (!all.list)
		return fail(CTL_ERROR, "out of memory");
	for (i = 2; i < argc && argv[i][0] != '-'; i++)
		all.list[all.nr++].name = argv[i];
	all.options = argv + i + (i < argc);
	if (!all.nr || (i < argc && strcmp(argv[i], "--")))
		ret = ctl_wrong_usage();
	else
		ret = clone_all(&all);
	free(all.list);
	return ret;
}
