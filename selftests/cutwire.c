// SPDX-License-Identifier: GPL-2.0
/*
 * cutwire PORT TO_PORT BYTES BACK: a wire on this host that breaks. What connects to PORT is connected to TO_PORT; the first connection
 * ends after so many bytes that were sent that way once BACK bytes have come back, an even number with a reset and an odd one like a
 * program that has ended; those after it never do. When a connection ends says how many bytes passed there and back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER	65536

static void die(const char *what)
{
	fprintf(stderr, "cutwire: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_in local(const char *port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static int listens(const char *port)
{
	struct sockaddr_in at = local(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 8))
		die("cannot listen");
	return fd;
}

/* False: that side has ended. */
static int pass(int from, int to, size_t most, uint64_t *passed)
{
	static char buffer[BUFFER];
	ssize_t len = read(from, buffer, most < BUFFER ? most : BUFFER), done, n;

	for (done = 0; done < len; done += n) {
		n = write(to, buffer + done, len - done);
		if (n <= 0)
			return 0;
	}
	*passed += len > 0 ? len : 0;
	return len > 0;
}

static void relay(int from, const char *port, uint64_t bytes, uint64_t back_first)
{
	struct sockaddr_in at = local(port);
	struct linger reset = { .l_onoff = bytes % 2 == 0 };
	struct pollfd ends[2] = { { from, POLLIN, 0 }, { socket(AF_INET, SOCK_STREAM, 0), POLLIN, 0 } };
	uint64_t passed = 0, back = 0, since = 0;
	int i, goes_on = 1;

	if (ends[1].fd < 0 || connect(ends[1].fd, (struct sockaddr *)&at, sizeof(at)))
		die("cannot connect");
	while (goes_on && (back < back_first || since < bytes) && poll(ends, 2, -1) > 0) {
		if (ends[1].revents)
			goes_on = pass(ends[1].fd, ends[0].fd, back < back_first ? back_first - back : BUFFER, &back);
		else
			goes_on = pass(ends[0].fd, ends[1].fd, back < back_first ? BUFFER : bytes - since,
				       back < back_first ? &passed : &since);
	}
	printf("%llu %llu\n", (unsigned long long)(passed + since), (unsigned long long)back);
	for (i = 0; i < 2; i++) {
		setsockopt(ends[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(ends[i].fd);
	}
}

int main(int argc, char **argv)
{
	uint64_t bytes;
	int at, fd;

	if (argc != 5) {
		fputs("usage: cutwire PORT TO_PORT BYTES BACK\n", stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	at = listens(argv[1]);
	for (bytes = strtoull(argv[3], NULL, 0);; bytes = UINT64_MAX) {
		fd = accept(at, NULL, NULL);
		if (fd < 0)
			die("cannot accept");
		if (!fork()) {
			close(at);
			relay(fd, argv[2], bytes, strtoull(argv[4], NULL, 0));
			return 0;
		}
		close(fd);
	}
}
