// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl's commands that save a machine (move.h has the protocol).
 *  1. The file is made here, with this user's rights, and handed over.
 *  2. Progress: a bar on a terminal, the machine's own lines with --json.
 *  3. A file that is not complete does not stay.  Ctrl-C cancels: the machine
 *     sees this program go, or is told by who has more to do then.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctl.h"
#include "move_address.h"

#define BAR_WIDTH	40
#define ORDER_MAX	4000

/* 1. */

int ctl_send_order(int sock, const json_t *order, int fd)
{
	char text[ORDER_MAX];
	size_t len = json_dumpb(order, text, sizeof(text) - 1, JSON_COMPACT);

	if (!len || len >= sizeof(text))
		return -ENOMEM;
	text[len++] = '\n';
	return move_send_fd(sock, text, len, fd);
}

void ctl_say(int sock, const char *order)
{
	/* A machine that has gone will be noticed. */
	if (send(sock, order, strlen(order), MSG_NOSIGNAL) < 0)
		return;
}

/* 2. */

static void show_bar(const json_t *event)
{
	json_int_t total = json_integer_value(json_object_get(event, "total"));
	json_int_t left = json_integer_value(json_object_get(event,
							     "remaining"));
	int full = total > 0 ? BAR_WIDTH * (total - left) / total : 0, i;

	if (!isatty(STDERR_FILENO) || full < 0 || full > BAR_WIDTH)
		return;
	fputs("\r[", stderr);
	for (i = 0; i < BAR_WIDTH; i++)
		fputc(i < full ? '#' : '.', stderr);
	fprintf(stderr, "] %3lld%%", total > 0 ? 100 * (total - left) / total : 0);
}

static void end_bar(void)
{
	if (isatty(STDERR_FILENO) && !ctl_json)
		fputs("\r\033[K", stderr);
}

/* One line of the machine's; true if it was the last. */
static bool take_line(const struct ctl_follow *how, const char *line, int *ret)
{
	json_t *event = json_loads(line, 0, NULL);
	const char *kind = json_string_value(json_object_get(event, "event"));
	bool last = true;

	if ((ctl_json || how->lines) && (!kind || strcmp(kind, "connect"))) {
		puts(line);
		fflush(stdout);
	}
	if (!kind) {
		*ret = fail(CTL_LOST, "%s: answers what makes no sense",
			    how->machine);
	} else if (!strcmp(kind, "failed")) {
		end_bar();
		*ret = fail(CTL_REFUSED, "%s: %s", how->machine,
			    json_string_value(json_object_get(event, "message")));
	} else if (!strcmp(kind, "done")) {
		end_bar();
		*ret = CTL_OK;
		if (how->done)
			how->done(how, event);
	} else {
		last = false;
		if (!strcmp(kind, "connect") && how->connect)
			how->connect(how);
		else if (!strcmp(kind, "resumed") && how->resumed)
			how->resumed(how);
		else if (!ctl_json && !how->lines)
			show_bar(event);
	}
	json_decref(event);
	return last;
}

/* Closes the socket.  A signal without SA_RESTART has how->woken() called. */
int ctl_follow(const struct ctl_follow *how)
{
	FILE *f = fdopen(how->sock, "r");
	char *line = NULL;
	size_t cap = 0;
	int ret = CTL_LOST;
	bool last = false;
	ssize_t n;

	if (!f) {
		close(how->sock);
		return fail(CTL_ERROR, "out of memory");
	}
	while (!last) {
		errno = 0;
		n = getline(&line, &cap, f);
		if (n <= 0 && errno == EINTR && how->woken) {
			clearerr(f);
			how->woken(how);
			continue;
		}
		if (n <= 0)
			break;
		if (line[n - 1] == '\n')
			line[n - 1] = 0;
		last = take_line(how, line, &ret);
	}
	if (!last) {
		end_bar();
		ret = fail(CTL_LOST, "%s: ended before it was %s", how->machine,
			   how->what);
	}
	free(line);
	fclose(f);
	return ret;
}

/* 3. */

volatile sig_atomic_t ctl_interrupted;

static void interrupt(int number)
{
	ctl_interrupted = number;
}

void ctl_catch_interrupt(void)
{
	const struct sigaction sa = { .sa_handler = interrupt };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

void ctl_cancel(const struct ctl_follow *how)
{
	if (ctl_interrupted)
		ctl_say(how->sock, "{\"do\": \"cancel\"}\n");
}

static int save(struct ctl_follow *how, json_t *order, int fd)
{
	struct ctl_stream *st = malloc(sizeof(*st));
	int ret, err;

	if (!st)
		return fail(CTL_ERROR, "out of memory");
	ret = ctl_stream(how->machine, CTL_MOVE_PATH, CTL_MOVE_PROTOCOL, 101, st);
	if (!ret) {
		how->sock = st->fd;
		err = ctl_send_order(st->fd, order, fd);
		if (!err) {
			ret = ctl_follow(how);
		} else {
			close(st->fd);
			ret = fail(CTL_LOST, "%s: cannot be told: %s",
				   how->machine, strerror(-err));
		}
	}
	free(st);
	return ret;
}

int ctl_save(struct ctl_follow *how, json_t *order, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), ret;

	if (fd < 0 && errno == EEXIST)
		ret = fail(CTL_ERROR, "'%s' is there already: name another file, or remove it",
			   path);
	else if (fd < 0)
		ret = fail(CTL_ERROR, "'%s': %s", path, strerror(errno));
	else
		ret = save(how, order, fd);
	json_decref(order);
	if (fd < 0)
		return ret;
	if (ret)
		unlink(path);
	close(fd);
	return ret;
}

int ctl_suspend(int argc, char **argv)
{
	struct ctl_follow how = { .machine = argv[1], .what = "saved" };

	(void)argc;
	return ctl_save(&how, json_pack("{s:s}", "do", "suspend"), argv[2]);
}
