// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl evacuate: all machines of this user, or of the system, go to another
 * host; and pvhvctl estimate: what that will take.
 *  1. Which there are: those whose sockets answer, by name.
 *  2. Each is moved by a process of its own, some at a time, which share the
 *     bandwidth.  Receivers wait at consecutive ports, in that order.
 *  3. One that cannot be moved runs on here; the others still go.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "move_address.h"

#define PARALLEL	2
#define ARGS_MAX	32

/* 1. */

static int is_machine(const struct dirent *entry)
{
	char name[NAME_MAX + 1], path[RUNDIR_MAX];
	json_t *status = NULL;
	int err;

	if (!rundir_name_of(name, sizeof(name), entry->d_name) ||
	    rundir_socket(path, sizeof(path), name))
		return 0;
	err = ctl_probe(path, &status);
	json_decref(status);
	/* One that cannot be asked fails when it is to move, and is told of. */
	return err != -ECONNREFUSED && err != -ENOENT;
}

/* 2. */

struct evacuation {
	const char *to;		/* "tcp:HOST:PORT,..." */
	u64 parallel, bandwidth;
	char *args[ARGS_MAX];	/* of each migrate, from the third on */
	int nr_args;
	struct dirent **machines;
	int nr;
	int next, running, failed;
};

/* The address with a port that is so many higher. */
static int address_of(const struct evacuation *ev, int nr, char *out, size_t len)
{
	const char *rest = ev->to + strcspn(ev->to, ",");
	const char *colon = rest;
	char port[8];
	u64 value;

	while (colon > ev->to && *colon != ':')
		colon--;
	snprintf(port, sizeof(port), "%.*s", (int)(rest - colon - 1), colon + 1);
	if (strncmp(ev->to, "tcp:", 4) || colon < ev->to + 4 ||
	    options_number(port, 1, UINT16_MAX, &value) || value + nr > UINT16_MAX)
		return fail(CTL_ERROR, "evacuate: '%s' is no address with a port for each machine: give tcp:HOST:PORT",
			    ev->to);
	snprintf(out, len, "%.*s:%u%s", (int)(colon - ev->to), ev->to,
		 (unsigned int)(value + nr), rest);
	return 0;
}

static void name_of(const struct evacuation *ev, int nr, char *name, size_t len)
{
	rundir_name_of(name, len, ev->machines[nr]->d_name);
}

static int move_one(const struct evacuation *ev, int nr)
{
	char name[NAME_MAX + 1], address[256], rate[32];
	char *argv[ARGS_MAX + 6] = { "migrate", name, address };
	int argc = 3, i;

	name_of(ev, nr, name, sizeof(name));
	if (address_of(ev, nr, address, sizeof(address)))
		return CTL_ERROR;
	for (i = 0; i < ev->nr_args; i++)
		argv[argc++] = ev->args[i];
	if (ev->bandwidth) {
		snprintf(rate, sizeof(rate), "%llu",
			 (unsigned long long)(ev->bandwidth / ev->parallel));
		argv[argc++] = "--bandwidth";
		argv[argc++] = rate;
	}
	return ctl_migrate(argc, argv);
}

static int start_one(struct evacuation *ev)
{
	int nr = ev->next++, ret;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return fail(CTL_ERROR, "evacuate: %s", strerror(errno));
	if (!pid) {
		ret = move_one(ev, nr);
		_exit(fflush(stdout) && !ret ? CTL_ERROR : ret);
	}
	ev->running++;
	return 0;
}

/* 3. */

static void wait_one(struct evacuation *ev)
{
	int status;
	pid_t pid;

	do {
		pid = wait(&status);
	} while (pid < 0 && errno == EINTR);
	ev->running--;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		ev->failed++;
}

static int move_all(struct evacuation *ev)
{
	int ret = 0;

	/* Ctrl-C is for all of them: each cancels, and is waited for. */
	signal(SIGINT, SIG_IGN);
	while (!ret && (ev->next < ev->nr || ev->running)) {
		if (ev->next < ev->nr && ev->running < (int)ev->parallel)
			ret = start_one(ev);
		else
			wait_one(ev);
	}
	while (ev->running)
		wait_one(ev);
	if (!ret && ev->failed)
		ret = fail(CTL_REFUSED, "evacuate: %d of %d machines have stayed",
			   ev->failed, ev->nr);
	return ret;
}

static int parse(struct evacuation *ev, char **argv)
{
	for (; *argv; argv++) {
		if (!strcmp(*argv, "--parallel")) {
			if (!*++argv || options_number(*argv, 1, 64, &ev->parallel))
				return fail(CTL_ERROR, "--parallel: a number from 1 to 64 is needed");
		} else if (!strcmp(*argv, "--bandwidth")) {
			if (ctl_bandwidth(*++argv, &ev->bandwidth))
				return CTL_ERROR;
		} else if (ev->nr_args == ARGS_MAX) {
			return ctl_wrong_usage();
		} else {
			ev->args[ev->nr_args++] = *argv;
		}
	}
	return 0;
}

int ctl_evacuate(int argc, char **argv)
{
	struct evacuation ev = { .to = argv[1], .parallel = PARALLEL };
	char dir[RUNDIR_MAX], last[256];
	int ret, i;

	(void)argc;
	ret = parse(&ev, argv + 2);
	if (ret)
		return ret;
	if (rundir_path(dir, sizeof(dir)))
		return fail(CTL_ERROR, "XDG_RUNTIME_DIR is not set: there is no place for named machines");
	ev.nr = scandir(dir, &ev.machines, is_machine, alphasort);
	if (ev.nr < 0 && errno == ENOENT)
		ev.nr = 0;
	if (ev.nr < 0)
		return fail(CTL_ERROR, "%s: %s", dir, strerror(errno));
	ret = address_of(&ev, ev.nr ? ev.nr - 1 : 0, last, sizeof(last));
	if (!ret && ev.nr)
		ret = move_all(&ev);
	for (i = 0; i < ev.nr; i++)
		free(ev.machines[i]);
	free(ev.machines);
	return ret;
}

/* estimate */

static int add(json_t *params, const char *name, u64 value)
{
	return json_object_set_new(params, name, json_integer(value));
}

static int parse_estimate(json_t *params, char **argv)
{
	u64 value;

	for (; argv[0]; argv += 2) {
		if (!strcmp(argv[0], "--bandwidth")) {
			if (ctl_bandwidth(argv[1], &value) ||
			    add(params, "bandwidth", value))
				return CTL_ERROR;
		} else if (!strcmp(argv[0], "--downtime") ||
			   !strcmp(argv[0], "--period")) {
			if (!argv[1] || options_number(argv[1], 0, INT_MAX, &value) ||
			    add(params, argv[0][2] == 'd' ? "downtime_ms" :
				"period_ms", value))
				return fail(CTL_ERROR, "%s: milliseconds are needed",
					    argv[0]);
		} else {
			return ctl_wrong_usage();
		}
	}
	return 0;
}

int ctl_estimate(int argc, char **argv)
{
	json_t *params = json_object(), *result;
	int ret;

	(void)argc;
	ret = parse_estimate(params, argv + 2);
	if (ret) {
		json_decref(params);
		return ret;
	}
	ret = ctl_request(argv[1], "POST", "/api/v1/migration/estimate", params,
			  &result);
	return ret ? ret : ctl_show(result);
}
