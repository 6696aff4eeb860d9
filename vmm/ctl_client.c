// SPDX-License-Identifier: GPL-2.0
/*
 * HTTP over a machine's control socket, the client's side.
 *  1. Finding the socket: a name in the run directory, or a path.
 *  2. One request, one connection, one answer.
 *  3. Streams: answers without an end, and the console's protocol.
 * What the machine says of a failure becomes one line on standard error.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl.h"

#define BODY_MAX	(64 * MIB)
#define PROBE_S		3

struct answer {
	int status;
	char *body;		/* zero-terminated */
	size_t len;
};

/* Finding it. */

bool ctl_socket_path(const char *machine, char *path, size_t len)
{
	if (strchr(machine, '/'))
		return snprintf(path, len, "%s", machine) < (int)len;
	return !rundir_socket(path, len, machine);
}

static int connect_to(const char *path, int timeout_s, int *fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = timeout_s };
	int ret;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return -errno;
	if (timeout_s) {
		setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	}
	if (!connect(*fd, (struct sockaddr *)&addr, sizeof(addr)))
		return 0;
	ret = -errno;
	close(*fd);
	*fd = -1;
	return ret;
}

static int ctl_connect(const char *machine, int timeout_s, int *fd)
{
	char path[RUNDIR_MAX];
	int err;

	if (!ctl_socket_path(machine, path, sizeof(path)))
		return fail(CTL_NO_MACHINE, "no machine can have the name '%s' here: see pvhvctl list, or give the path of a socket",
			    machine);
	err = connect_to(path, timeout_s, fd);
	switch (-err) {
	case 0:
		return CTL_OK;
	case ENOENT:
	case ECONNREFUSED:
	case ENOTDIR:
		return fail(CTL_NO_MACHINE, "no machine '%s' runs (%s): see pvhvctl list",
			    machine, path);
	case EACCES:
	case EPERM:
		return fail(CTL_ERROR, "%s: permission denied: only its owner may control a machine",
			    path);
	case EAGAIN:
	case EINPROGRESS:
		return fail(CTL_LOST, "%s: the machine does not answer", path);
	default:
		return fail(CTL_ERROR, "%s: %s", path, strerror(-err));
	}
}

/* Talking. */

static int send_all(int fd, const char *data, size_t len)
{
	ssize_t n;

	for (; len; data += n, len -= n) {
		n = send(fd, data, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			n = 0;
		if (n < 0)
			return -errno;
	}
	return 0;
}

static int send_request(int fd, const char *method, const char *path,
			const char *fields, const char *body)
{
	char about[80] = "", *text;
	int len, ret;

	if (body)
		snprintf(about, sizeof(about), "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			 strlen(body));
	len = asprintf(&text, "%s %s HTTP/1.1\r\nHost: pvhv\r\n%s%s\r\n%s",
		       method, path, fields, about, body ? body : "");
	if (len < 0)
		return -ENOMEM;
	ret = send_all(fd, text, len);
	free(text);
	return ret;
}

/* The head, and what came with it; -errno, -EPROTO, -EPIPE at the end. */
static int read_head(struct ctl_stream *st)
{
	char *end = NULL;
	ssize_t n;

	st->len = 0;
	while (!end) {
		if (st->len == sizeof(st->buf) - 1)
			return -EPROTO;
		n = recv(st->fd, st->buf + st->len, sizeof(st->buf) - 1 - st->len,
			 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EPIPE;
		st->len += n;
		st->buf[st->len] = 0;
		end = strstr(st->buf, "\r\n\r\n");
	}
	if (sscanf(st->buf, "HTTP/1.%*1d %3d ", &st->status) != 1)
		return -EPROTO;
	end += 4;
	st->len -= end - st->buf;
	memmove(st->buf, end, st->len + 1);
	return 0;
}

/* The connection's end is the answer's: that is what was asked for. */
static int read_body(struct ctl_stream *st, struct answer *a)
{
	size_t cap = st->len + 4096;
	ssize_t n = 1;
	char *p;

	a->status = st->status;
	a->len = st->len;
	a->body = malloc(cap);
	if (!a->body)
		return -ENOMEM;
	memcpy(a->body, st->buf, st->len);
	for (;;) {
		if (a->len + 1 >= cap) {
			cap *= 2;
			p = cap <= BODY_MAX ? realloc(a->body, cap) : NULL;
			if (!p)
				return -ENOMEM;
			a->body = p;
		}
		n = recv(st->fd, a->body + a->len, cap - a->len - 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		a->len += n;
	}
	a->body[a->len] = 0;
	return n ? -errno : 0;
}

static int exchange(int fd, const char *method, const char *path,
		    const char *body, struct answer *a)
{
	struct ctl_stream *st = malloc(sizeof(*st));
	int ret = -ENOMEM;

	memset(a, 0, sizeof(*a));
	if (!st)
		return ret;
	st->fd = fd;
	ret = send_request(fd, method, path, "Connection: close\r\n", body);
	/* It may have said why it does not listen any more. */
	if (!ret || ret == -EPIPE)
		ret = read_head(st);
	if (!ret)
		ret = read_body(st, a);
	free(st);
	return ret;
}

static int lost(const char *machine, int err)
{
	switch (-err) {
	case EAGAIN:
		return fail(CTL_LOST, "%s: no answer in %d seconds", machine,
			    CTL_TIMEOUT_S);
	case EPIPE:
	case ECONNRESET:
		return fail(CTL_LOST, "%s: the machine ended before it answered",
			    machine);
	case EPROTO:
		return fail(CTL_ERROR, "%s: what answers there is no machine of pvhv",
			    machine);
	default:
		return fail(CTL_ERROR, "%s: %s", machine, strerror(-err));
	}
}

char ctl_errno[32];

static int refused(const char *machine, int status, const char *body)
{
	json_t *obj = json_loads(body, 0, NULL);
	const char *why = json_string_value(json_object_get(obj, "error"));
	const char *name = json_string_value(json_object_get(obj, "errno"));

	snprintf(ctl_errno, sizeof(ctl_errno), "%s", name ? name : "");
	if (why)
		fail(0, "%s: %s", machine, why);
	else
		fail(0, "%s: refused with HTTP status %d", machine, status);
	json_decref(obj);
	return CTL_REFUSED;
}

static int ask(const char *machine, const char *method, const char *path,
	       const char *body, struct answer *a)
{
	int fd, ret;

	memset(a, 0, sizeof(*a));
	ret = ctl_connect(machine, CTL_TIMEOUT_S, &fd);
	if (ret)
		return ret;
	ret = exchange(fd, method, path, body, a);
	close(fd);
	if (ret)
		return lost(machine, ret);
	return a->status == 200 ? CTL_OK : refused(machine, a->status, a->body);
}

int ctl_request(const char *machine, const char *method, const char *path,
		json_t *body, json_t **answer)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct answer a = { 0 };
	json_t *obj = NULL;
	int ret;

	if (body && !text)
		ret = fail(CTL_ERROR, "out of memory, or a name that is no UTF-8");
	else
		ret = ask(machine, method, path, text, &a);
	if (!ret) {
		obj = json_loadb(a.body, a.len, JSON_DECODE_ANY, NULL);
		if (!obj)
			ret = lost(machine, -EPROTO);
	}
	if (answer)
		*answer = obj;
	else
		json_decref(obj);
	free(a.body);
	free(text);
	json_decref(body);
	return ret;
}

int ctl_get(const char *machine, const char *path, json_t **answer)
{
	return ctl_request(machine, "GET", path, NULL, answer);
}

int ctl_get_text(const char *machine, const char *path, char **text)
{
	struct answer a;
	int ret = ask(machine, "GET", path, NULL, &a);

	*text = NULL;
	if (ret)
		free(a.body);
	else
		*text = a.body;
	return ret;
}

int ctl_probe(const char *socket_path, json_t **answer)
{
	struct answer a = { 0 };
	int fd, ret;

	*answer = NULL;
	ret = connect_to(socket_path, PROBE_S, &fd);
	if (ret)
		return ret;
	ret = exchange(fd, "GET", "/api/v1/status", NULL, &a);
	close(fd);
	if (!ret && a.status == 200)
		*answer = json_loadb(a.body, a.len, 0, NULL);
	free(a.body);
	return ret ? ret : *answer ? 0 : -EPROTO;
}

int ctl_stream(const char *machine, const char *path, const char *fields,
	       int expect, struct ctl_stream *st)
{
	const struct timeval forever = { 0 };
	struct answer a = { 0 };
	int ret;

	ret = ctl_connect(machine, CTL_TIMEOUT_S, &st->fd);
	if (ret)
		return ret;
	ret = send_request(st->fd, "GET", path, fields, NULL);
	if (!ret)
		ret = read_head(st);
	if (!ret && st->status == expect) {
		setsockopt(st->fd, SOL_SOCKET, SO_RCVTIMEO, &forever,
			   sizeof(forever));
		return CTL_OK;
	}
	if (!ret) {
		/* The connection may be kept, but nothing more is wanted. */
		shutdown(st->fd, SHUT_WR);
		ret = read_body(st, &a);
	}
	close(st->fd);
	ret = ret ? lost(machine, ret) : refused(machine, st->status, a.body);
	free(a.body);
	return ret;
}

const char *ctl_path(const char *kind, const char *name, const char *what)
{
	static char path[1024];
	size_t len;

	len = snprintf(path, sizeof(path), "/api/v1/%s/", kind);
	for (; *name && len < sizeof(path) - 64; name++) {
		if (strchr("/%?#", *name) || (u8)*name <= ' ' || (u8)*name >= 0x7f)
			len += snprintf(path + len, 4, "%%%02x", (u8)*name);
		else
			path[len++] = *name;
	}
	snprintf(path + len, sizeof(path) - len, "%s%s", what ? "/" : "",
		 what ? what : "");
	return path;
}
