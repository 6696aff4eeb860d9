// SPDX-License-Identifier: GPL-2.0
/*
 * Measures a guest's network in what its host spends on it: the client runs in the guest and makes traffic, the server runs in the
 * host, answers it and reads the host's clock and idle time around each part. In an emulated host whose time counts instructions
 * (run --icount) with one CPU the difference is all instructions of host and guest.
 *
 *   netbench server PORT            serves one client, prints "NAME COUNT UNIT NANOSECONDS" for each part, ends
 *   netbench client ADDRESS PORT [SCALE]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BURST		32	/* datagrams that are sent before an answer is waited for */
#define SMALL		64	/* bytes of a datagram */
#define CHUNK		65536
#define WAIT_MS		200

enum what { DONE, ROUND_TRIPS, DATAGRAMS_UP, DATAGRAMS_DOWN, STREAM_UP, STREAM_DOWN };

/* Over the control connection, from the client; the server answers with a byte when it is ready, and when it is finished. */
struct order {
	uint32_t what;
	uint32_t count;		/* round trips, bursts, chunks */
	uint32_t warm;		/* 1: not printed */
};

static void die(const char *what)
{
	fprintf(stderr, "netbench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void all(int fd, void *data, size_t len, int out)
{
	char *p = data;
	ssize_t n;

	for (; len; p += n, len -= n) {
		n = out ? send(fd, p, len, MSG_NOSIGNAL) : recv(fd, p, len, 0);
		if (n <= 0)
			die(out ? "send" : "receive");
	}
}

static char chunk[CHUNK];

/* --- the host's clock --- */

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* Of all CPUs; 0 where the kernel does not say. */
static uint64_t idle(void)
{
	FILE *f = fopen("/proc/timer_list", "r");
	char line[256];
	uint64_t sum = 0;
	char *p;

	while (f && fgets(line, sizeof(line), f)) {
		p = strstr(line, ".idle_sleeptime");
		if (p && (p = strchr(p, ':')))
			sum += strtoull(p + 1, NULL, 10);
	}
	if (f)
		fclose(f);
	return sum;
}

/* --- datagrams --- */

static int datagram_socket(void)
{
	struct timeval wait = { .tv_usec = WAIT_MS * 1000 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), size = 4 << 20;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	return fd;
}

/* Each burst has its number, so that what was lost is sent again and what comes twice is counted once. */
static void send_bursts(int fd, uint32_t count)
{
	uint32_t i, n, answer;
	char data[SMALL] = { 0 };

	for (n = 1; n <= count; n++)
		do {
			for (i = 0; i < BURST; i++) {
				memcpy(data, &n, sizeof(n));
				memcpy(data + 4, &i, sizeof(i));
				if (send(fd, data, sizeof(data), 0) < 0 && errno != ENOBUFS)
					die("send a datagram");
			}
			answer = 0;
			while (recv(fd, &answer, sizeof(answer), 0) == sizeof(answer) && answer < n)
				;
		} while (answer != n);
}

static void receive_bursts(int fd, uint32_t count)
{
	uint32_t want = 1, n, have = 0;
	char data[SMALL];

	while (want <= count) {
		if (recv(fd, data, sizeof(data), 0) != sizeof(data))
			continue;
		memcpy(&n, data, sizeof(n));
		if (n == want && ++have == BURST) {
			if (send(fd, &want, sizeof(want), 0) < 0)
				die("send an answer");
			want++;
			have = 0;
		}
	}
}

static void ping(int fd, uint32_t count)
{
	char data[SMALL] = { 0 };
	uint32_t n, back;

	for (n = 1; n <= count; n++)
		do {
			memcpy(data, &n, sizeof(n));
			if (send(fd, data, sizeof(data), 0) < 0)
				die("send a datagram");
		} while (recv(fd, data, sizeof(data), 0) != sizeof(data) || (memcpy(&back, data, 4), back != n));
}

static void pong(int fd, uint32_t count)
{
	char data[SMALL];
	uint32_t n = 0;

	while (n < count)
		if (recv(fd, data, sizeof(data), 0) == sizeof(data)) {
			memcpy(&n, data, sizeof(n));
			if (send(fd, data, sizeof(data), 0) < 0)
				die("send a datagram");
		}
}

static void stream(int fd, uint32_t count, int out)
{
	while (count--)
		all(fd, chunk, sizeof(chunk), out);
}

/* --- the two sides --- */

static const struct {
	const char *name, *unit;
	uint64_t per;		/* in thousandths of the unit, for one of the count */
} parts[] = {
	[ROUND_TRIPS] = { "udp_round_trip", "packet", 2000 },
	[DATAGRAMS_UP] = { "udp_from_guest", "packet", 1000 * BURST },
	[DATAGRAMS_DOWN] = { "udp_to_guest", "packet", 1000 * BURST },
	[STREAM_UP] = { "tcp_from_guest", "MiB", 1000 * CHUNK / 1048576.0 + 0.5 },
	[STREAM_DOWN] = { "tcp_to_guest", "MiB", 1000 * CHUNK / 1048576.0 + 0.5 },
};

static void work(const struct order *o, int control, int dgram, int client)
{
	char byte = 1;

	switch (o->what) {
	case ROUND_TRIPS:
		(client ? ping : pong)(dgram, o->count);
		break;
	case DATAGRAMS_UP:
		(client ? send_bursts : receive_bursts)(dgram, o->count);
		break;
	case DATAGRAMS_DOWN:
		(client ? receive_bursts : send_bursts)(dgram, o->count);
		break;
	default:
		stream(control, o->count, client == (o->what == STREAM_UP));
		break;
	}
	/* The host's time ends when both have done their part. */
	all(control, &byte, 1, client);
}

static void server(int port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) }, peer;
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1, control, dgram = datagram_socket();
	socklen_t len = sizeof(peer);
	uint64_t began, slept;
	struct order o;
	char byte = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 1) ||
	    bind(dgram, (struct sockaddr *)&addr, sizeof(addr)))
		die("bind");
	control = accept(fd, (struct sockaddr *)&peer, &len);
	if (control < 0)
		die("accept");
	setsockopt(control, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* The client's datagrams come from the same port as they go to. */
	peer.sin_port = htons(port);
	if (connect(dgram, (struct sockaddr *)&peer, sizeof(peer)))
		die("connect");
	for (;;) {
		all(control, &o, sizeof(o), 0);
		if (o.what == DONE)
			return;
		all(control, &byte, 1, 1);
		slept = idle();
		began = now();
		work(&o, control, dgram, 0);
		began = now() - began;
		slept = idle() - slept;
		if (!o.warm)
			printf("%s %llu %s %llu\n", parts[o.what].name, (unsigned long long)(o.count * parts[o.what].per / 1000),
			       parts[o.what].unit, (unsigned long long)(began - slept));
		fflush(stdout);
	}
}

static void client(const char *address, int port, uint32_t scale)
{
	const struct order orders[] = {
		{ ROUND_TRIPS, 50, 1 }, { ROUND_TRIPS, 50 * scale, 0 }, { DATAGRAMS_UP, 4, 1 }, { DATAGRAMS_UP, 8 * scale, 0 },
		{ DATAGRAMS_DOWN, 4, 1 }, { DATAGRAMS_DOWN, 8 * scale, 0 }, { STREAM_UP, 32, 1 }, { STREAM_UP, 32 * scale, 0 },
		{ STREAM_DOWN, 32, 1 }, { STREAM_DOWN, 32 * scale, 0 }, { DONE, 0, 0 },
	};
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) }, own = addr;
	int control = socket(AF_INET, SOCK_STREAM, 0), dgram = datagram_socket(), one = 1;
	char byte;
	unsigned int i;

	if (inet_pton(AF_INET, address, &addr.sin_addr) != 1)
		die(address);
	if (bind(dgram, (struct sockaddr *)&own, sizeof(own)) || connect(dgram, (struct sockaddr *)&addr, sizeof(addr)))
		die("datagrams");
	for (i = 0; connect(control, (struct sockaddr *)&addr, sizeof(addr)); i++) {
		if (i == 50)
			die("connect");
		usleep(100000);
	}
	setsockopt(control, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	for (i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		struct order o = orders[i];

		all(control, &o, sizeof(o), 1);
		if (o.what == DONE)
			return;
		all(control, &byte, 1, 0);
		work(&o, control, dgram, 1);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "server"))
		server(atoi(argv[2]));
	else if (argc >= 4 && !strcmp(argv[1], "client"))
		client(argv[2], atoi(argv[3]), argc > 4 ? atoi(argv[4]) : 10);
	else
		fprintf(stderr, "usage: netbench server PORT | netbench client ADDRESS PORT [SCALE]\n");
	return 0;
}
