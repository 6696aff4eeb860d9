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
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctl.h"
#include "move_address.h"

#define BAR_WIDTH	40
#define ORDER_MAX	4000
#define EVENT_MAX	(64u << 10)	/* far more than one has */

static int interrupted_fd = -1;

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

/* The lines in @buf, of which an incomplete one stays; true: the last event. */
static bool take_lines(const struct ctl_follow *how, char *buf, size_t *len,
		       int *ret)
{
	char *line = buf, *end;
	bool last = false;

	while (!last && (end = memchr(line, '\n', buf + *len - line))) {
		*end = 0;
		last = take_line(how, line, ret);
		line = end + 1;
	}
	*len -= line - buf;
	memmove(buf, line, *len);
	return last;
}

/* Until something is to be read; an interrupt has how->woken() called, whenever it came. */
static int wait_for_event(const struct ctl_follow *how)
{
	struct pollfd pfd[] = {
		{ .fd = how->sock, .events = POLLIN },
		{ .fd = how->woken ? interrupted_fd : -1, .events = POLLIN },
	};
	eventfd_t times;

	do {
		if (poll(pfd, ARRAY_SIZE(pfd), -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (pfd[1].revents && !eventfd_read(interrupted_fd, &times))
			how->woken(how);
	} while (!pfd[0].revents);
	return 0;
}

/* Closes the socket. */
int ctl_follow(const struct ctl_follow *how)
{
	char *buf = malloc(EVENT_MAX);
	int ret = CTL_LOST;
	bool last = false;
	size_t len = 0;
	ssize_t n;

	if (!buf) {
		close(how->sock);
		return fail(CTL_ERROR, "out of memory");
	}
	while (!last && len < EVENT_MAX) {
		if (wait_for_event(how))
			break;
		n = read(how->sock, buf + len, EVENT_MAX - len);
		if (n <= 0)
			break;
		len += n;
		last = take_lines(how, buf, &len, &ret);
	}
	if (!last) {
		end_bar();
		ret = fail(CTL_LOST, "%s: ended before it was %s", how->machine,
			   how->what);
	}
	free(buf);
	close(how->sock);
	return ret;
}

/* 3. */

volatile sig_atomic_t ctl_interrupted;

static void interrupt(int number)
{
	int err = errno;

	ctl_interrupted = number;
	eventfd_write(interrupted_fd, 1);
	errno = err;
}

void ctl_catch_interrupt(void)
{
	const struct sigaction sa = { .sa_handler = interrupt };

	interrupted_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
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
