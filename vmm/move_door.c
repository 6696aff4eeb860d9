// SPDX-License-Identifier: GPL-2.0
/*
 * The door: a process beside the machine's, where it comes in.
 *  1. It listens, and says when it does, or why it cannot.
 *  2. It accepts, with TLS shakes hands, and passes what the machine's process
 *     is to talk to; a client that cannot show a certificate costs a line.
 *  3. It ends when nobody wants connections any more and none is relayed.
 *
 * It has no privileges but for its socket, a filter of system calls, and knows
 * nothing of the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail.h"
#include "move_address.h"

#define OPTION		"--incoming"
#define BACKLOG		16
#define HANDSHAKE_MS	10000
#define HANDSHAKES_MAX	16
#define LAST_WORDS_MS	10000
#define READY		"ready"

/* 1. */

static int listen_on(const struct addrinfo *ai)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1, err;

	if (fd < 0)
		return -errno;
	if (!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) &&
	    !bind(fd, ai->ai_addr, ai->ai_addrlen) && !listen(fd, BACKLOG))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int listen_tcp(const struct move_address *at)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE,
	};
	struct addrinfo *list, *ai;
	int fd = -EADDRNOTAVAIL, ret;

	ret = getaddrinfo(*at->host ? at->host : NULL, at->port, &hints, &list);
	if (ret)
		return fail(-EHOSTUNREACH, OPTION ": '%s': %s: name an address of this host",
			    at->shown, gai_strerror(ret));
	for (ai = list; ai && fd < 0; ai = ai->ai_next)
		fd = listen_on(ai);
	freeaddrinfo(list);
	if (fd < 0)
		return fail(fd, OPTION ": '%s': %s: name a free port and an address of this host",
			    at->shown, strerror(-fd));
	return fd;
}

/* 2. */

struct door {
	const struct move_address *at;
	struct usock sock;
	struct migrate_tls *tls;	/* NULL: none */
	int machine;
	atomic_uint shaking;
};

struct caller {
	struct door *door;
	int fd;
	char name[NI_MAXHOST];
};

static void pass_on(struct door *door, int fd)
{
	move_send_fd(door->machine, "", 1, fd);
	close(fd);
}

static void *shake_hands(void *arg)
{
	struct caller *c = arg;
	char why[MIGRATE_WHY_MAX];
	int fd;

	fd = move_relay_start(c->door->tls, c->fd, c->door->at->peer,
			      HANDSHAKE_MS, why);
	if (fd < 0)
		note(OPTION ": %s: %s", c->name, why);
	else
		pass_on(c->door, fd);
	c->door->shaking--;
	free(c);
	return NULL;
}

/* Takes @fd. */
static void let_in(struct door *door, int fd, const struct sockaddr *addr,
		   socklen_t len)
{
	struct caller *c;
	pthread_t thread;

	if (!door->at->path)
		move_tune(fd);
	if (!door->tls) {
		pass_on(door, fd);
		return;
	}
	c = door->shaking < HANDSHAKES_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c)
		goto close;
	c->door = door;
	c->fd = fd;
	if (getnameinfo(addr, len, c->name, sizeof(c->name), NULL, 0,
			NI_NUMERICHOST))
		strcpy(c->name, "a client");
	door->shaking++;
	if (!pthread_create(&thread, NULL, shake_hands, c)) {
		pthread_detach(thread);
		return;
	}
	door->shaking--;
	free(c);
close:
	close(fd);
}

static void accept_all(struct door *door)
{
	struct pollfd pfd[2] = {
		{ .fd = door->sock.fd, .events = POLLIN },
		{ .fd = door->machine },	/* only its end */
	};
	struct sockaddr_storage addr;
	socklen_t len;
	int fd;

	for (;;) {
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			return;
		if (pfd[1].revents)
			return;
		if (!pfd[0].revents)
			continue;
		len = sizeof(addr);
		fd = accept4(door->sock.fd, (struct sockaddr *)&addr, &len,
			     SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			let_in(door, fd, (struct sockaddr *)&addr, len);
		else if (errno != EAGAIN && errno != EINTR)
			usleep(10000);	/* out of descriptors, say */
	}
}

/* Its signals are the terminal's again, its input and output nobody's. */
static void settle(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		close(null);
	}
	prctl(PR_SET_NAME, "pvhv-door");
}

static void *nothing(void *arg)
{
	return arg;
}

/* The C library sets signals up for the first one, which the sandbox forbids. */
static int first_thread(void)
{
	pthread_t thread;
	int err = -pthread_create(&thread, NULL, nothing, NULL);

	return err ? err : -pthread_join(thread, NULL);
}

static void say(const struct door *door, const char *text)
{
	send(door->machine, text, strlen(text), MSG_NOSIGNAL);
}

static void door_main(struct door *door, const struct options *opt)
{
	char why[MIGRATE_WHY_MAX] = "";

	settle();
	if (door->at->tls_dir)
		door->tls = migrate_tls_load(door->at->tls_dir, false, why);
	if (door->at->tls_dir && !door->tls) {
		say(door, why);
		return;
	}
	if (first_thread() || sandbox_door(opt)) {
		say(door, "the door's process cannot give up its privileges");
		return;
	}
	say(door, READY);
	accept_all(door);
	/* 3. */
	usock_close(&door->sock);
	move_relay_wait(LAST_WORDS_MS);
}

/* Nobody's child: whoever waits for children has others in mind. */
static int start(struct door *door, const struct options *opt, int pair[2])
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid) {
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EAGAIN;
	}
	close(pair[0]);
	door->machine = pair[1];
	pid = fork();
	if (!pid)
		door_main(door, opt);
	_exit(pid < 0);
}

/* What it says first. */
static int await(int fd)
{
	char text[MIGRATE_WHY_MAX];
	ssize_t n;

	do {
		n = recv(fd, text, sizeof(text) - 1, 0);
	} while (n < 0 && errno == EINTR);
	text[n > 0 ? n : 0] = 0;
	if (!strcmp(text, READY))
		return 0;
	return fail(-EINVAL, OPTION ": %s%s", n > 0 ? text : "the door does not open",
		    n > 0 ? ": make a set with 'pvhvctl tls init DIR', or say tls=off" : "");
}

int move_door_open(const struct options *opt, const struct move_address *at)
{
	struct door door = { .at = at };
	int pair[2] = { -1, -1 }, ret;

	usock_init(&door.sock);
	if (at->path) {
		ret = usock_listen(&door.sock, OPTION, at->path, BACKLOG);
	} else {
		door.sock.fd = listen_tcp(at);
		ret = door.sock.fd < 0 ? door.sock.fd : 0;
	}
	if (ret)
		return ret;
	fcntl(door.sock.fd, F_SETFL, O_NONBLOCK);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		ret = -errno;
	else
		ret = start(&door, opt, pair);
	if (ret)
		fail(ret, OPTION ": the door's process: %s", strerror(-ret));
	close(pair[1]);
	/* The file of a socket is the door's to remove. */
	door.sock.bound = ret && door.sock.bound;
	usock_close(&door.sock);
	if (!ret)
		ret = await(pair[0]);
	if (!ret)
		return pair[0];
	close(pair[0]);
	return ret;
}

int move_door_next(int door, int timeout_ms)
{
	struct pollfd pfd = { .fd = door, .events = POLLIN };
	char text[8];
	ssize_t n;
	int fd;

	n = poll(&pfd, 1, timeout_ms);
	if (n <= 0)
		return !n || errno == EINTR ? -ETIMEDOUT : -errno;
	n = move_receive_fd(door, text, sizeof(text), &fd);
	if (fd >= 0)
		return fd;
	return n == 0 ? -ENOTCONN : -ETIMEDOUT;
}
