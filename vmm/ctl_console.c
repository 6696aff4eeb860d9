// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl console: a terminal or a pipe becomes a machine's console.
 *  1. Where it is: in the control socket itself, at a socket or at a
 *     pseudo-terminal of its own.
 *  2. Bytes both ways until the machine ends or Ctrl-A x detaches; at a pipe
 *     the end of input leaves the output running.
 *  3. The terminal's size goes to the guest where the console takes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "ctl.h"

#define PROTOCOL	"Connection: Upgrade\r\nUpgrade: pvhv-console\r\n"

struct session {
	const char *machine;
	const char *console;
	int fd;			/* the console */
	int signal_fd;
	bool terminal;
	bool sized;		/* the console takes sizes */
	struct escape escape;
};

/* 1. */

static int connect_socket(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, err;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int open_path(struct session *s, const char *kind, const char *path)
{
	if (!strcmp(kind, "socket")) {
		s->fd = connect_socket(path);
	} else {
		s->fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (s->fd < 0)
			s->fd = -errno;
	}
	return s->fd >= 0 ? CTL_OK :
	       fail(CTL_ERROR, "%s: console %s: %s: %s", s->machine, s->console,
		    path, strerror(-s->fd));
}

static int write_all(int fd, const char *data, size_t len)
{
	ssize_t n;

	for (; len; data += n, len -= n) {
		n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			n = 0;
		if (n < 0)
			return -errno;
	}
	return 0;
}

static int attach(struct session *s)
{
	struct ctl_stream *st = malloc(sizeof(*st));
	int ret;

	if (!st)
		return fail(CTL_ERROR, "out of memory");
	ret = ctl_stream(s->machine, ctl_path("consoles", s->console, "attach"),
			 PROTOCOL, 101, st);
	if (!ret) {
		s->fd = st->fd;
		write_all(STDOUT_FILENO, st->buf, st->len);
	}
	free(st);
	return ret;
}

static int open_console(struct session *s)
{
	const char *kind, *path;
	json_t *obj;
	int ret;

	ret = ctl_get(s->machine, ctl_path("consoles", s->console, NULL), &obj);
	if (ret)
		return ret;
	kind = json_string_value(json_object_get(obj, "kind"));
	path = json_string_value(json_object_get(obj, "path"));
	if (kind && !strcmp(kind, "control"))
		ret = attach(s);
	else if (kind && path && (!strcmp(kind, "socket") || !strcmp(kind, "pty")))
		ret = open_path(s, kind, path);
	else
		ret = fail(CTL_REFUSED, "%s: console %s is %s%s%s: start the machine with --console control to reach it",
			   s->machine, s->console, kind ? kind : "elsewhere",
			   path ? " " : "", path ? path : "");
	json_decref(obj);
	return ret;
}

/* 2. and 3. */

static void say_nothing(const char *line)
{
	(void)line;
}

static void send_size(struct session *s)
{
	void (*sink)(const char *line) = fail_sink;
	struct winsize ws;
	json_t *body;

	if (!s->sized || ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) || !ws.ws_col)
		return;
	body = json_pack("{s:i, s:i}", "columns", ws.ws_col, "rows", ws.ws_row);
	/* A serial port has no size: no reason to say anything, or ask again. */
	fail_sink = say_nothing;
	if (ctl_request(s->machine, "POST",
			ctl_path("consoles", s->console, "resize"), body, NULL))
		s->sized = false;
	fail_sink = sink;
}

/* False: detach. */
static bool take_input(struct session *s, const char *data, size_t len)
{
	u8 out[2];
	size_t i, n;

	if (!s->terminal)
		return !write_all(s->fd, data, len);
	for (i = 0; i < len; i++) {
		n = 0;
		switch (escape_feed(&s->escape, data[i], out, &n)) {
		case ESCAPE_QUIT:
			return false;
		case ESCAPE_BREAK:
		case ESCAPE_HELP:
			note("Ctrl-A x detaches, Ctrl-A a sends Ctrl-A");
			break;
		case ESCAPE_NONE:
			break;
		}
		if (n && write_all(s->fd, (char *)out, n))
			return false;
	}
	return true;
}

static bool serve_signal(struct session *s)
{
	struct signalfd_siginfo info;

	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return true;
	if (info.ssi_signo != SIGWINCH)
		return false;
	send_size(s);
	return true;
}

static void serve(struct session *s)
{
	struct pollfd pfd[] = {
		{ .fd = s->fd, .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = s->signal_fd, .events = POLLIN },
	};
	char buf[4096];
	ssize_t n;

	for (;;) {
		if (poll(pfd, ARRAY_SIZE(pfd), -1) < 0 && errno != EINTR)
			return;
		if (pfd[0].revents) {
			n = read(s->fd, buf, sizeof(buf));
			if (n <= 0 || write_all(STDOUT_FILENO, buf, n))
				return;
		}
		if (pfd[1].revents) {
			n = read(STDIN_FILENO, buf, sizeof(buf));
			if (n <= 0)
				pfd[1].fd = -1;
			else if (!take_input(s, buf, n))
				return;
		}
		if (pfd[2].revents && !serve_signal(s))
			return;
	}
}

static int watch_signals(struct session *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	return s->signal_fd < 0 ? fail(CTL_ERROR, "cannot watch signals: %s",
				       strerror(errno)) : CTL_OK;
}

int ctl_console(int argc, char **argv)
{
	struct session s = {
		.machine = argv[1], .fd = -1, .signal_fd = -1, .sized = true,
		.console = argc > 2 ? argv[2] : "serial",
		.terminal = isatty(STDIN_FILENO),
	};
	int ret = open_console(&s);

	if (!ret)
		ret = watch_signals(&s);
	if (ret)
		goto out;
	if (s.terminal) {
		note("console %s of %s; Ctrl-A x detaches", s.console, s.machine);
		tty_raw(STDIN_FILENO);
		send_size(&s);
	}
	serve(&s);
	if (s.terminal) {
		tty_restore();
		write_all(STDERR_FILENO, "\n", 1);
	}
out:
	if (s.fd >= 0)
		close(s.fd);
	if (s.signal_fd >= 0)
		close(s.signal_fd);
	return ret;
}
