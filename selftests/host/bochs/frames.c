// SPDX-License-Identifier: GPL-2.0
/*
 * frames CTL: takes Bochs' output from standard input apart: the command's streams go to standard output and standard error, the
 * agent's report to the file CTL. Ends with the input (0), when the machine starts a second time (3), when its loader gives up (4,
 * with the reason in CTL), or when nobody reads the output any more (141).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "frames.h"

enum { RESTARTED = 3, LOADER_FAILED = 4, NO_READER = 141 };

static int put(int fd, const unsigned char *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		len -= n;
	}
	return 0;
}

static int take(int channel, const unsigned char *p, size_t len, int ctl, int *boots)
{
	switch (channel) {
	case FRAME_OUT:
		return put(STDOUT_FILENO, p, len) ? NO_READER : 0;
	case FRAME_ERR:
		return put(STDERR_FILENO, p, len) ? NO_READER : 0;
	case FRAME_CTL:
		return put(ctl, p, len) ? NO_READER : 0;
	case FRAME_BOOT:
		return ++*boots > 1 ? RESTARTED : 0;
	case FRAME_FAIL:
		dprintf(ctl, "fail %.*s\n", (int)len, (const char *)p);
		return LOADER_FAILED;
	default:
		return 0;
	}
}

int main(int argc, char **argv)
{
	static unsigned char in[65536], frame[FRAME_MAX];
	size_t len = 0, have = 0;
	int state = 0, channel = 0, boots = 0, ctl, r;
	ssize_t n, i;

	ctl = argc == 2 ? open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
	if (ctl < 0)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	while ((n = read(STDIN_FILENO, in, sizeof(in))) > 0 || (n < 0 && errno == EINTR)) {
		for (i = 0; i < n; i++) {
			switch (state) {
			case 0:
				state = in[i] == FRAME_BEGIN;
				continue;
			case 1:
				channel = in[i];
				state = strchr("bfoec", channel) && channel ? 2 : 0;
				continue;
			case 2:
				len = in[i];
				state = 3;
				continue;
			case 3:
				len |= in[i] << 8;
				have = 0;
				state = 4;
				if (len)
					continue;
				break;
			default:
				frame[have++] = in[i];
				if (have < len)
					continue;
			}
			state = 0;
			r = take(channel, frame, len, ctl, &boots);
			if (r)
				return r;
		}
	}
	return 0;
}
