// SPDX-License-Identifier: GPL-2.0
/*
 * Addresses of machines that move.
 *  1. As text.
 *  2. A connection there, within a time.
 *  3. Descriptors that are passed on.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "move_address.h"

#define UNSENT_MAX	(128 * 1024)

/* 1. */

/* "ADDRESS:PORT", "[IPV6]:PORT", ":PORT" */
static int parse_tcp(struct move_address *at, const char *option, char *text)
{
	char *colon = strrchr(text, ':');
	size_t len;
	u64 port;

	if (!colon || options_number(colon + 1, 1, UINT16_MAX, &port))
		return fail(-EINVAL, "%s: 'tcp:%s' has no port: give tcp:ADDRESS:PORT",
			    option, text);
	*colon = 0;
	at->port = colon + 1;
	at->host = text;
	len = strlen(text);
	if (*text == '[' && text[len - 1] == ']') {
		text[len - 1] = 0;
		at->host = text + 1;
	}
	return 0;
}

static int parse_key(struct move_address *at, const char *option,
		     const char *key, const char *value, bool *tls)
{
	if (value && !strcmp(key, "tls") &&
	    (!strcmp(value, "on") || !strcmp(value, "off")))
		*tls = !strcmp(value, "on");
	else if (value && *value && !strcmp(key, "tls_dir"))
		at->tls_dir = value;
	else if (value && *value && !strcmp(key, "peer"))
		at->peer = value;
	else
		return fail(-EINVAL, "%s: unknown '%s': use tls=on|off, tls_dir=DIR, peer=NAME",
			    option, key);
	return 0;
}

int move_address_parse(struct move_address *at, const char *option,
		       const char *text)
{
	char *rest, *key, *value;
	bool tls = true, unix_path = !strncmp(text, "unix:", 5);
	size_t len = strcspn(text, ",");
	int ret;

	memset(at, 0, sizeof(*at));
	if (!unix_path && strncmp(text, "tcp:", 4))
		return fail(-EINVAL, "%s: '%s' is no address: give tcp:ADDRESS:PORT or unix:PATH",
			    option, text);
	/* What is shown, what is cut up, and what follows the first comma. */
	if (asprintf(&at->text, "%.*s%c%s", (int)len, text, 0, text) < 0) {
		at->text = NULL;
		return fail(-ENOMEM, "out of memory");
	}
	at->shown = at->text;
	rest = at->text + len + 1;
	if (unix_path) {
		at->path = rest + 5;
		if (!*at->path || strlen(at->path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return fail(-EINVAL, "%s: '%s': no path that a socket can have",
				    option, text);
		return 0;
	}
	text = rest[len] ? rest + len + 1 : NULL;
	rest[len] = 0;
	at->tls_dir = MOVE_TLS_DIR;
	ret = parse_tcp(at, option, rest + 4);
	rest = (char *)text;
	while (!ret && rest && options_next(&rest, &key, &value))
		ret = parse_key(at, option, key, value, &tls);
	if (!tls)
		at->tls_dir = NULL;
	return ret;
}

void move_address_free(struct move_address *at)
{
	free(at->text);
	memset(at, 0, sizeof(*at));
}

/* 2. */

static int connect_within(int fd, const struct sockaddr *addr, socklen_t len,
			  int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	socklen_t size = sizeof(int);
	int err = 0;

	if (!connect(fd, addr, len))
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	if (poll(&pfd, 1, timeout_ms) != 1)
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size))
		return -errno;
	return -err;
}

static int connect_unix(const struct move_address *at, int timeout_ms)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int ret;

	if (fd < 0)
		return -errno;
	strcpy(addr.sun_path, at->path);
	ret = connect_within(fd, (struct sockaddr *)&addr, sizeof(addr),
			     timeout_ms);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

/*
 * Little waits in the kernel besides what is on its way: a full buffer would
 * take no byte before a third of its megabytes has left, for which a slow link
 * needs longer than a stall is waited for.
 */
void move_tune(int fd)
{
	int one = 1, unsent = UNSENT_MAX;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

static int connect_tcp(const struct move_address *at, int timeout_ms, char *why)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *list, *ai;
	int fd = -1, ret;

	ret = getaddrinfo(*at->host ? at->host : NULL, at->port, &hints, &list);
	if (ret) {
		snprintf(why, MIGRATE_WHY_MAX, "%s: %s", at->shown,
			 gai_strerror(ret));
		return -EHOSTUNREACH;
	}
	ret = -EHOSTUNREACH;
	for (ai = list; ai && fd < 0; ai = ai->ai_next) {
		fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC |
			    SOCK_NONBLOCK, 0);
		ret = fd < 0 ? -errno :
		      connect_within(fd, ai->ai_addr, ai->ai_addrlen, timeout_ms);
		if (ret && fd >= 0) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	if (fd >= 0)
		move_tune(fd);
	return fd < 0 ? ret : fd;
}

int move_address_connect(const struct move_address *at, int timeout_ms,
			 char why[MIGRATE_WHY_MAX])
{
	int fd;

	why[0] = 0;
	fd = at->path ? connect_unix(at, timeout_ms) :
			connect_tcp(at, timeout_ms, why);
	if (fd < 0 && !why[0])
		snprintf(why, MIGRATE_WHY_MAX, "%s: %s", at->shown,
			 strerror(-fd));
	return fd;
}

/* 3. */

int move_send_fd(int sock, const char *text, size_t len, int fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .room = "" };
	struct iovec iov = { (char *)text, len };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.room, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(sock, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

ssize_t move_receive_fd(int sock, char *text, size_t len, int *fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { text, len };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.room, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	ssize_t n;

	*fd = -1;
	n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return n;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(c), sizeof(int));
	return n;
}
