// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies what carries a machine to another host, beside the machine: addresses, relays between a connection by TLS and a socket
 * without it, a link that is slow, the door where connections come in, with who may come in and who may not.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"
#include "../vmm/jail.h"
#include "../vmm/move_address.h"

#define SECOND		1000
#define LONG		(30 * SECOND)

static char last_line[1100];
static char dir[] = "/tmp/vmm_move.XXXXXX";

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
}

/* What the door may still do, as in vmm/sandbox.c */
int sandbox_door(const struct options *opt)
{
	int ret = jail_drop();

	return ret ? ret : jail_lock_door();
}

/* --- addresses ------------------------------------------------------------------------------------------------ */

static void good(const char *text, const char *shown, const char *host, const char *port, const char *tls_dir, const char *peer)
{
	struct move_address at;

	ASSERT_EQ(move_address_parse(&at, "--x", text), 0);
	ASSERT(!strcmp(at.shown, shown));
	ASSERT(!at.path && !strcmp(at.host, host) && !strcmp(at.port, port));
	ASSERT(tls_dir ? at.tls_dir && !strcmp(at.tls_dir, tls_dir) : !at.tls_dir);
	ASSERT(peer ? at.peer && !strcmp(at.peer, peer) : !at.peer);
	move_address_free(&at);
}

static void bad(const char *text, const char *why)
{
	struct move_address at;

	ASSERT_EQ(move_address_parse(&at, "--x", text), -EINVAL);
	ASSERT_MSG(strstr(last_line, why) && !strncmp(last_line, "--x: ", 5), "'%s'", last_line);
	move_address_free(&at);
}

static void test_addresses(void)
{
	struct move_address at;
	char path[200];

	fail_sink = keep_line;
	good("tcp:10.0.0.1:4444", "tcp:10.0.0.1:4444", "10.0.0.1", "4444", MOVE_TLS_DIR, NULL);
	good("tcp::1", "tcp::1", "", "1", MOVE_TLS_DIR, NULL);
	good("tcp:[::1]:65535,tls=off", "tcp:[::1]:65535", "::1", "65535", NULL, NULL);
	good("tcp:h.example:7,tls_dir=/a/b", "tcp:h.example:7", "h.example", "7", "/a/b", NULL);
	good("tcp:h:7,tls_dir=d,peer=pvhv,tls=on", "tcp:h:7", "h", "7", "d", "pvhv");
	bad("tcp:10.0.0.1", "no port");
	bad("tcp:10.0.0.1:0", "no port");
	bad("tcp:10.0.0.1:65536", "no port");
	bad("tcp:10.0.0.1:http", "no port");
	bad("tcp:h:7,plain", "unknown 'plain'");
	bad("tcp:h:7,tls=no", "unknown 'tls'");
	bad("tcp:h:7,tls_dir=", "unknown 'tls_dir'");
	bad("udp:h:7", "no address");
	bad("", "no address");
	bad("unix:", "no path");
	ASSERT_EQ(move_address_parse(&at, "--x", "unix:/a,b"), 0);
	ASSERT(!strcmp(at.path, "/a,b") && !at.tls_dir);
	move_address_free(&at);
	memset(path, 'x', sizeof(path));
	memcpy(path, "unix:", 5);
	path[sizeof(path) - 1] = 0;
	bad(path, "no path");
}

static void test_connect_fails(void)
{
	char why[MIGRATE_WHY_MAX];
	struct move_address at;

	ASSERT_EQ(move_address_parse(&at, "--x", "tcp:127.0.0.1:1,tls=off"), 0);
	ASSERT_EQ(move_address_connect(&at, SECOND, why), -ECONNREFUSED);
	ASSERT(!strcmp(why, "tcp:127.0.0.1:1: Connection refused"));
	move_address_free(&at);
	ASSERT_EQ(move_address_parse(&at, "--x", "unix:/none/here"), 0);
	ASSERT_EQ(move_address_connect(&at, SECOND, why), -ENOENT);
	move_address_free(&at);
}

/* A reader that takes little at a time: the writer sees that soon, however large the kernel's buffers are. */
static void test_slow_link(void)
{
	static unsigned char buf[16384];
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int door = socket(AF_INET, SOCK_STREAM, 0), small = 16384, fd, far;
	struct pollfd pfd = { .events = POLLOUT };
	socklen_t len = sizeof(sin);
	char text[64], why[MIGRATE_WHY_MAX];
	struct move_address at;
	size_t waits, taken;
	ssize_t n;
	int turn;

	ASSERT_OK(setsockopt(door, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)));
	ASSERT_OK(bind(door, (void *)&sin, sizeof(sin)));
	ASSERT_OK(listen(door, 1));
	ASSERT_OK(getsockname(door, (void *)&sin, &len));
	snprintf(text, sizeof(text), "tcp:127.0.0.1:%u,tls=off", ntohs(sin.sin_port));
	ASSERT_EQ(move_address_parse(&at, "--x", text), 0);
	pfd.fd = fd = move_address_connect(&at, LONG, why);
	ASSERT(fd >= 0);
	far = accept(door, NULL, NULL);
	ASSERT(far >= 0);
	for (turn = 0, taken = 0; turn < 20; turn++) {
		for (waits = 0; (n = send(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0 || poll(&pfd, 1, 100) > 0; )
			waits += n > 0 ? n : 0;
		ASSERT(turn || waits >= sizeof(buf));
		ASSERT_LT(waits, 512 * KIB);
		for (taken = 0; poll(&pfd, 1, 10) <= 0; taken += n) {
			n = recv(far, buf, sizeof(buf), 0);
			ASSERT(n > 0);
		}
		ASSERT_LT(taken, 256 * KIB);
	}
	close(fd);
	close(far);
	close(door);
	move_address_free(&at);
}

/* --- bytes ---------------------------------------------------------------------------------------------------- */

static unsigned char byte_at(size_t i, unsigned int seed)
{
	return (i * 2654435761u >> 11) + seed;
}

/*
 * Both ends send @len bytes, each its own, and say that it is all; both get what the other one sent, and then the end. The ends
 * work at different speeds.
 */
static void exchange(int a, int b, size_t len)
{
	struct end {
		int fd;
		size_t out, in, most;
		bool ended;
	} end[2] = { { .fd = a, .most = 70000 }, { .fd = b, .most = 3000 } };
	static unsigned char buf[70000];
	struct pollfd pfd[2];
	size_t n, j;
	ssize_t got;
	int i;

	while (!end[0].ended || !end[1].ended) {
		for (i = 0; i < 2; i++)
			pfd[i] = (struct pollfd){ end[i].ended && end[i].out == len ? -1 : end[i].fd,
						  (end[i].ended ? 0 : POLLIN) | (end[i].out < len ? POLLOUT : 0), 0 };
		ASSERT(poll(pfd, 2, LONG) > 0);
		for (i = 0; i < 2; i++) {
			if (pfd[i].revents & POLLOUT && end[i].out < len) {
				n = len - end[i].out < end[i].most ? len - end[i].out : end[i].most;
				for (j = 0; j < n; j++)
					buf[j] = byte_at(end[i].out + j, i);
				got = send(end[i].fd, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);
				ASSERT(got > 0);
				end[i].out += got;
				if (end[i].out == len)
					ASSERT_EQ(shutdown(end[i].fd, SHUT_WR), 0);
			}
			if (pfd[i].revents & (POLLIN | POLLHUP) && !end[i].ended) {
				got = recv(end[i].fd, buf, end[i].most, MSG_DONTWAIT);
				if (got < 0) {
					ASSERT_EQ(errno, EAGAIN);
					continue;
				}
				end[i].ended = !got;
				for (j = 0; j < (size_t)got; j++)
					ASSERT_EQ(buf[j], byte_at(end[i].in + j, !i));
				end[i].in += got;
			}
		}
	}
	ASSERT_EQ(end[0].in, len);
	ASSERT_EQ(end[1].in, len);
	close(a);
	close(b);
}

static void *relay(void *arg)
{
	int *fd = arg;

	move_relay(migrate_io_fd(fd[0]), migrate_io_fd(fd[1]));
	return NULL;
}

static void test_relay(void)
{
	static const size_t lens[] = { 0, 1, 65536, 9000000 };
	int a[2], b[2], middle[2];
	pthread_t thread;
	unsigned int i;

	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
		ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
		middle[0] = a[1];
		middle[1] = b[1];
		ASSERT_EQ(pthread_create(&thread, NULL, relay, middle), 0);
		if (lens[i]) {
			exchange(a[0], b[0], lens[i]);
		} else {
			close(a[0]);	/* one is gone at once: so is the other side */
			ASSERT_EQ(read(b[0], a, 1), 0);
			close(b[0]);
		}
		pthread_join(thread, NULL);
	}
}

/* --- the door ------------------------------------------------------------------------------------------------- */

static struct options opt;

static unsigned int free_port(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ASSERT_EQ(bind(fd, (struct sockaddr *)&addr, len), 0);
	ASSERT_EQ(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	close(fd);
	return ntohs(addr.sin_port);
}

static void address(struct move_address *at, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ASSERT_EQ(move_address_parse(at, "--x", text), 0);
}

/* Closed, nobody listens soon. */
static void close_door(int door, const struct move_address *at)
{
	char why[MIGRATE_WHY_MAX];
	int fd, i;

	close(door);
	for (i = 0; i < 100; i++) {
		fd = move_address_connect(at, SECOND, why);
		if (fd < 0)
			return;
		close(fd);
		usleep(50000);
	}
	ASSERT_MSG(0, "the door is still open");
}

static void check_open(const struct move_address *at)
{
	char why[MIGRATE_WHY_MAX], more[MIGRATE_WHY_MAX];
	int door = move_door_open(&opt, at), a[3], b[3], i;

	ASSERT_MSG(door >= 0, "%s", last_line);
	ASSERT_EQ(move_door_next(door, 10), -ETIMEDOUT);
	for (i = 0; i < 3; i++) {
		a[i] = move_address_connect(at, SECOND, why);
		ASSERT_MSG(a[i] >= 0, "%s", why);
		b[i] = move_door_next(door, LONG);
		ASSERT(b[i] >= 0);
	}
	for (i = 0; i < 3; i++)
		exchange(a[i], b[i], 100000 << i);
	/* A second one at the same place */
	ASSERT_LT(move_door_open(&opt, at), 0);
	ASSERT(strstr(last_line, "--incoming: '"));
	close_door(door, at);
	snprintf(more, sizeof(more), "%s", at->path ? at->path : dir);
	ASSERT_EQ(access(more, F_OK), at->path ? -1 : 0);
}

static void test_door(void)
{
	struct move_address at;

	fail_sink = keep_line;
	address(&at, "tcp:127.0.0.1:%u,tls=off", free_port());
	check_open(&at);
	move_address_free(&at);
	address(&at, "unix:%s/sock", dir);
	check_open(&at);
	move_address_free(&at);
}

static int knock(const struct move_address *at, struct migrate_tls *tls, char *why)
{
	int fd = move_address_connect(at, SECOND, why);

	ASSERT_MSG(fd >= 0, "%s", why);
	return move_relay_start(tls, fd, at->peer, LONG, why);
}

static void test_door_tls(void)
{
	char ours[64], theirs[64], why[MIGRATE_WHY_MAX];
	struct migrate_tls *tls, *wrong;
	struct move_address at, other;
	int door, a, b;
	unsigned int port = free_port();

	fail_sink = keep_line;
	snprintf(ours, sizeof(ours), "%s/ours", dir);
	snprintf(theirs, sizeof(theirs), "%s/theirs", dir);
	ASSERT_MSG(!migrate_tls_init(ours, why), "%s", why);
	ASSERT_MSG(!migrate_tls_init(theirs, why), "%s", why);
	address(&at, "tcp:127.0.0.1:%u,tls_dir=%s,peer=pvhv", port, ours);
	address(&other, "tcp:127.0.0.1:%u,tls_dir=%s,peer=somebody", port, ours);
	door = move_door_open(&opt, &at);
	ASSERT_MSG(door >= 0, "%s", last_line);
	/* After the fork: the door has its own. */
	tls = migrate_tls_load(ours, true, why);
	wrong = migrate_tls_load(theirs, true, why);
	ASSERT(tls && wrong);

	a = knock(&at, wrong, why);
	ASSERT_MSG(a < 0 && strstr(why, "TLS: the other side's certificate"), "%s", why);
	a = knock(&other, tls, why);
	ASSERT_MSG(a < 0 && strstr(why, "TLS: the other side's certificate"), "%s", why);
	a = move_address_connect(&at, SECOND, why);		/* no TLS at all */
	ASSERT_EQ(send(a, "hello, hello, hello, hello\n", 27, 0), 27);
	ASSERT_EQ(move_door_next(door, 300), -ETIMEDOUT);
	close(a);
	a = knock(&at, tls, why);
	ASSERT_MSG(a >= 0, "%s", why);
	b = move_door_next(door, LONG);
	ASSERT(b >= 0);
	exchange(a, b, 3000000);
	ASSERT(move_relay_wait(LONG));

	/* One that is gone without a word is an end on the other side */
	a = knock(&at, tls, why);
	b = move_door_next(door, LONG);
	ASSERT(a >= 0 && b >= 0);
	close(a);
	ASSERT_EQ(read(b, why, 1), 0);
	close(b);
	close_door(door, &at);
	move_address_free(&at);

	address(&at, "tcp:127.0.0.1:%u,tls_dir=%s/none", port, dir);
	ASSERT_LT(move_door_open(&opt, &at), 0);
	ASSERT_MSG(strstr(last_line, "--incoming: ") && strstr(last_line, "pvhvctl tls init"), "%s", last_line);
	move_address_free(&at);
	migrate_tls_free(tls);
	migrate_tls_free(wrong);
}

static const struct tap_test tests[] = {
	TEST(addresses),
	TEST(connect_fails),
	TEST_TIMEOUT(slow_link, 60),
	TEST_TIMEOUT(relay, 60),
	TEST_TIMEOUT(door, 60),
	TEST_TIMEOUT(door_tls, 120),
};

int main(int argc, char **argv)
{
	int ret;

	if (!mkdtemp(dir))
		return 1;
	ret = tap_main(argc, argv, tests, ARRAY_SIZE(tests));
	if (fork())
		return ret;
	execlp("rm", "rm", "-rf", dir, NULL);
	return ret;
}
