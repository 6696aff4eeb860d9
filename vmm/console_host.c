// SPDX-License-Identifier: GPL-2.0
/*
 * What the console's bytes come from and go to: the terminal or pipes that
 * pvhv-run was started with, a pseudo-terminal, a file, a Unix socket, or
 * clients that the control socket hands over.
 * Opened last of all, so that a start that fails leaves no file behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "vmm.h"

static int check_directory(const char *option, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir;
	int err = 0;

	dir = slash ? strndup(path, slash - path + 1) : strdup(".");
	if (!dir)
		return fail(-ENOMEM, "out of memory");
	if (access(dir, W_OK | X_OK))
		err = fail(-errno, "%s: '%s': %s: name a path that can be written",
			   option, path, strerror(errno));
	free(dir);
	return err;
}

/* Could it be opened?  Makes nothing. */
int console_host_check(const char *option, enum console_kind kind,
		       const char *path)
{
	struct stat st;

	if (kind == CONSOLE_SOCKET)
		return usock_check(option, path);
	if (kind == CONSOLE_FILE && !stat(path, &st)) {
		if (S_ISDIR(st.st_mode) || access(path, W_OK))
			return fail(-EACCES, "%s: '%s': cannot be written: name another file",
				    option, path);
		return 0;
	}
	return kind == CONSOLE_FILE ? check_directory(option, path) : 0;
}

static int open_stdio(struct console_host *host)
{
	host->out = STDOUT_FILENO;
	host->in = STDIN_FILENO;
	if (!isatty(STDIN_FILENO))
		return 0;
	/* In the background, the terminal is somebody else's. */
	if (tcgetpgrp(STDIN_FILENO) != getpgrp()) {
		host->in = -1;
		return 0;
	}
	host->escape = true;
	return tty_raw(STDIN_FILENO) ?
	       fail(-EIO, "--console: cannot set the terminal to raw mode: use --console pty") : 0;
}

static int open_pty(struct console_host *host, const char *option)
{
	struct termios tio;
	const char *name;
	int slave, err;

	host->out = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (host->out < 0 || grantpt(host->out) || unlockpt(host->out))
		goto fail;
	name = ptsname(host->out);
	slave = name ? open(name, O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
	if (slave < 0)
		goto fail;
	if (!tcgetattr(slave, &tio)) {
		cfmakeraw(&tio);
		tcsetattr(slave, TCSANOW, &tio);
	}
	/* Opened and closed once, the master can tell whether anyone is there. */
	close(slave);
	host->in = host->out;
	snprintf(host->pty, sizeof(host->pty), "%s", name);
	note("%s is %s", option + strspn(option, "-"), name);
	return 0;
fail:
	err = -errno;
	return fail(err, "%s: cannot make a pseudo-terminal: %s", option,
		    strerror(-err));
}

static int open_file(struct console_host *host, const char *option)
{
	host->out = open(host->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
			 O_NOCTTY, 0644);
	if (host->out < 0)
		return fail(-errno, "%s: '%s': %s: name a file that can be written",
			    option, host->path, strerror(errno));
	return 0;
}

void console_host_init(struct console_host *host)
{
	memset(host, 0, sizeof(*host));
	host->kind = CONSOLE_NONE;
	host->in = -1;
	host->out = -1;
	usock_init(&host->sock);
}

int console_host_open(struct console_host *host, const char *option,
		      enum console_kind kind, const char *path)
{
	int ret = 0;

	console_host_init(host);
	host->kind = kind;
	host->path = path;
	switch (kind) {
	case CONSOLE_STDIO:
		ret = open_stdio(host);
		break;
	case CONSOLE_PTY:
		ret = open_pty(host, option);
		break;
	case CONSOLE_FILE:
		ret = open_file(host, option);
		break;
	case CONSOLE_SOCKET:
		ret = usock_listen(&host->sock, option, path, 1);
		break;
	case CONSOLE_CONTROL:
	case CONSOLE_NONE:
		break;
	}
	if (ret)
		console_host_close(host);
	return ret;
}

void console_host_close(struct console_host *host)
{
	if (host->kind == CONSOLE_STDIO)
		tty_restore();
	if (host->out > STDERR_FILENO)
		close(host->out);
	usock_close(&host->sock);
	host->in = -1;
	host->out = -1;
}

/* A pseudo-terminal that nobody has open: its other side is hung up. */
bool console_host_waits(const struct console_host *host)
{
	struct pollfd pfd = { .fd = host->out, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLHUP);
}
