// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl's commands for machines as a whole: which there are, their state,
 * what can be done to them, their numbers and events.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"

#define STOP_TIMEOUT_S	90
#define STOP_MAX_S	(24 * 3600)

/* list */

static int is_socket_name(const struct dirent *entry)
{
	char name[NAME_MAX + 1];

	return rundir_name_of(name, sizeof(name), entry->d_name);
}

static const char *text_of(const json_t *obj, const char *key)
{
	const char *text = json_string_value(json_object_get(obj, key));

	return text ? text : "?";
}

static void print_row(const char *name, const json_t *status)
{
	char memory[32], uptime[32];

	ctl_size(memory, sizeof(memory),
		 json_integer_value(json_object_get(status, "memory")));
	ctl_duration(uptime, sizeof(uptime),
		     json_number_value(json_object_get(status, "uptime")));
	printf("%-24s %-9s %8lld %5lld %8s %8s\n", name,
	       text_of(status, "state"),
	       json_integer_value(json_object_get(status, "pid")),
	       json_integer_value(json_object_get(status, "cpus")), memory,
	       uptime);
}

/* What is left of a dead machine is skipped, what cannot be asked is said. */
static void list_one(const char *file, json_t *all)
{
	char name[NAME_MAX + 1], path[RUNDIR_MAX];
	json_t *status;
	int err;

	rundir_name_of(name, sizeof(name), file);
	err = rundir_socket(path, sizeof(path), name);
	if (!err)
		err = ctl_probe(path, &status);
	if (err == -ECONNREFUSED || err == -ENOENT)
		return;
	if (err) {
		fail(err, "%s: cannot be asked: %s", name, strerror(-err));
		return;
	}
	/* By what it can be reached, whatever it calls itself. */
	json_object_set_new(status, "name", json_string(name));
	if (!json_array_size(all) && !ctl_json)
		printf("%-24s %-9s %8s %5s %8s %8s\n", "NAME", "STATE", "PID",
		       "CPUS", "MEMORY", "UPTIME");
	if (!ctl_json)
		print_row(name, status);
	json_array_append_new(all, status);
}

int ctl_list(int argc, char **argv)
{
	struct dirent **entries;
	char dir[RUNDIR_MAX];
	json_t *all;
	int i, nr = 0;

	(void)argc;
	(void)argv;
	if (rundir_path(dir, sizeof(dir)))
		return fail(CTL_ERROR, "XDG_RUNTIME_DIR is not set: there is no place for named machines");
	nr = scandir(dir, &entries, is_socket_name, alphasort);
	if (nr < 0 && errno != ENOENT)
		return fail(CTL_ERROR, "%s: %s", dir, strerror(errno));
	all = json_array();
	for (i = 0; i < nr; i++) {
		list_one(entries[i]->d_name, all);
		free(entries[i]);
	}
	if (nr >= 0)
		free(entries);
	if (ctl_json)
		ctl_print(all);
	json_decref(all);
	return CTL_OK;
}

/* State and simple commands. */

static int get_and_show(const char *machine, const char *path)
{
	json_t *answer;
	int ret = ctl_get(machine, path, &answer);

	return ret ? ret : ctl_show(answer);
}

/* Says nothing when all is well, as commands do. */
static int post(const char *machine, const char *path)
{
	json_t *answer;
	int ret = ctl_request(machine, "POST", path, NULL, &answer);

	if (ret)
		return ret;
	if (ctl_json)
		ctl_print(answer);
	json_decref(answer);
	return CTL_OK;
}

int ctl_status(int argc, char **argv)
{
	(void)argc;
	return get_and_show(argv[1], "/api/v1/status");
}

int ctl_stats(int argc, char **argv)
{
	(void)argc;
	return get_and_show(argv[1], "/api/v1/stats");
}

int ctl_pause(int argc, char **argv)
{
	(void)argc;
	return post(argv[1], "/api/v1/pause");
}

int ctl_resume(int argc, char **argv)
{
	(void)argc;
	return post(argv[1], "/api/v1/resume");
}

int ctl_powerbutton(int argc, char **argv)
{
	(void)argc;
	return post(argv[1], "/api/v1/powerbutton");
}

int ctl_reset(int argc, char **argv)
{
	(void)argc;
	return post(argv[1], "/api/v1/reset");
}

int ctl_metrics(int argc, char **argv)
{
	char *text;
	int ret = ctl_get_text(argv[1], "/api/v1/metrics", &text);

	(void)argc;
	if (!ret)
		fputs(text, stdout);
	free(text);
	return ret;
}

/* Events. */

static int listen_events(const char *machine, struct ctl_stream *st)
{
	return ctl_stream(machine, "/api/v1/events", "", 200, st);
}

int ctl_events(int argc, char **argv)
{
	struct ctl_stream st;
	ssize_t n;
	int ret = listen_events(argv[1], &st);

	(void)argc;
	if (ret)
		return ret;
	n = st.len;
	do {
		if (n > 0)
			fwrite(st.buf, 1, n, stdout);
		if (n > 0 && fflush(stdout))
			break;
		n = recv(st.fd, st.buf, sizeof(st.buf) - 1, 0);
	} while (n > 0 || (n < 0 && errno == EINTR));
	close(st.fd);
	return CTL_OK;
}

/* stop */

static s64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* Its event stream ends when the machine does. */
static bool wait_end(struct ctl_stream *st, u64 seconds)
{
	s64 end = now_ms() + seconds * 1000, left = 1;
	ssize_t n = 1;

	while (n > 0 && left > 0) {
		struct pollfd pfd = { .fd = st->fd, .events = POLLIN };

		left = end - now_ms();
		if (left > 0 && poll(&pfd, 1, left) > 0)
			n = recv(st->fd, st->buf, sizeof(st->buf) - 1, 0);
	}
	return n <= 0;
}

static int parse_stop(int argc, char **argv, const char **machine, bool *now,
		      u64 *seconds)
{
	int i;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--now")) {
			*now = true;
		} else if (!strcmp(argv[i], "--timeout") && i + 1 < argc) {
			if (options_number(argv[++i], 1, STOP_MAX_S, seconds))
				return fail(CTL_ERROR, "--timeout: '%s' is no number of seconds from 1 to %d: give one",
					    argv[i], STOP_MAX_S);
		} else if (argv[i][0] == '-' || *machine) {
			return ctl_wrong_usage();
		} else {
			*machine = argv[i];
		}
	}
	return *machine ? CTL_OK : ctl_wrong_usage();
}

int ctl_stop(int argc, char **argv)
{
	const char *machine = NULL;
	u64 seconds = STOP_TIMEOUT_S;
	struct ctl_stream st;
	bool now = false;
	int ret;

	ret = parse_stop(argc, argv, &machine, &now, &seconds);
	if (!ret)
		ret = listen_events(machine, &st);
	if (ret)
		return ret;
	ret = post(machine, now ? "/api/v1/stop" : "/api/v1/powerbutton");
	/* Ended while it was being told to: what was wanted. */
	if ((!ret || ret == CTL_LOST) && !wait_end(&st, seconds))
		ret = fail(CTL_LOST, "%s: still runs after %llu seconds: does its guest listen to the power button? --now ends it",
			   machine, (unsigned long long)seconds);
	else if (ret == CTL_LOST)
		ret = CTL_OK;
	close(st.fd);
	return ret;
}
