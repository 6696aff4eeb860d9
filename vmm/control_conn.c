// SPDX-License-Identifier: GPL-2.0
/*
 * One client of the control socket.
 *  1. Input: requests one after the other.  The next is looked at when the one
 *     before is answered and most of that answer is taken, so a client that
 *     only sends has at most CONN_IN bytes and one request waiting here.
 *  2. Output: answers, events.
 *  3. Calls: a command answers at once or later; the connection waits.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_conn.h"

#define JSON_TYPE	"application/json"

void (*conn_answered)(struct control_conn *conn);

static unsigned int listeners;

static void call_done(struct control_call *call, json_t *result, int err,
		      const char *why);

void conn_init(struct control_conn *conn)
{
	memset(conn, 0, sizeof(*conn));
	http_init(&conn->req);
	conn->call.done = call_done;
}

void conn_free(struct control_conn *conn)
{
	if (conn->events)
		listeners--;
	conn->events = EVENTS_NONE;
	http_free(&conn->req);
	free(conn->out);
	conn->out = NULL;
	conn->out_len = 0;
	conn->out_cap = 0;
}

/* Output. */

static void put(struct control_conn *conn, const char *data, size_t len)
{
	size_t cap = conn->out_cap;
	char *p;

	if (conn->broken || !len)
		return;
	if (len > cap - conn->out_len) {
		cap = conn->out_len + len < 2 * cap ? 2 * cap :
		      conn->out_len + len;
		p = realloc(conn->out, cap);
		if (!p) {
			conn->broken = true;
			return;
		}
		conn->out = p;
		conn->out_cap = cap;
	}
	memcpy(conn->out + conn->out_len, data, len);
	conn->out_len += len;
}

void conn_answer(struct control_conn *conn, const struct http_answer *answer,
		 const char *body)
{
	char head[HTTP_ANSWER_MAX];
	struct http_answer a = *answer;

	a.close = !conn->req.keep_alive || conn->close || a.stream;
	a.keep = !a.close && !conn->req.minor;
	conn->close = a.close && !a.stream;
	put(conn, head, http_answer_head(head, &a));
	if (body)
		put(conn, body, a.len);
}

/* Takes over @obj; NULL: there was no memory for it. */
void conn_answer_json(struct control_conn *conn, json_t *obj)
{
	struct http_answer answer = { .status = 200, .type = JSON_TYPE };
	char *text = NULL;

	if (obj)
		text = json_dumps(obj, JSON_COMPACT | JSON_REAL_PRECISION(9));
	json_decref(obj);
	if (!text) {
		conn_error(conn, 503, -ENOMEM, "out of memory", NULL);
		return;
	}
	/* A line, for those who read it in a terminal. */
	answer.len = strlen(text);
	text[answer.len++] = '\n';
	conn_answer(conn, &answer, text);
	free(text);
}

/* Messages quote file names, which may hold anything. */
static json_t *json_text(const char *text)
{
	json_t *str = json_string(text);
	char *copy, *c;

	if (str)
		return str;
	copy = strdup(text);
	for (c = copy; c && *c; c++)
		if ((u8)*c >= 0x80)
			*c = '?';
	str = copy ? json_string(copy) : NULL;
	free(copy);
	return str;
}

void conn_error(struct control_conn *conn, int status, int err,
		const char *why, const char *extra)
{
	struct http_answer answer = {
		.status = status, .type = JSON_TYPE, .extra = extra,
	};
	const char *name = err ? strerrorname_np(-err) : NULL;
	char *text = NULL;
	json_t *obj;

	obj = json_pack("{s:o*, s:s*}", "error", json_text(why),
			"errno", name);
	if (obj)
		text = json_dumps(obj, JSON_COMPACT);
	json_decref(obj);
	if (text) {
		answer.len = strlen(text);
		text[answer.len++] = '\n';
	}
	conn_answer(conn, &answer, text);
	free(text);
}

void conn_sent(struct control_conn *conn, size_t len)
{
	conn->out_len -= len;
	memmove(conn->out, conn->out + len, conn->out_len);
	if (conn->out_len)
		return;
	/* What a long answer took is not kept for the next. */
	free(conn->out);
	conn->out = NULL;
	conn->out_cap = 0;
	conn_input(conn, NULL, 0);
}

/* Events. */

void conn_event(struct control_conn *conn, const char *type, const char *text)
{
	if (conn->events == EVENTS_NONE || conn->close)
		return;
	if (conn->events == EVENTS_SSE) {
		put(conn, "event: ", 7);
		put(conn, type, strlen(type));
		put(conn, "\ndata: ", 7);
	}
	put(conn, text, strlen(text));
	put(conn, "\n\n", conn->events == EVENTS_SSE ? 2 : 1);
	if (conn->out_len > CONN_EVENTS_MAX)
		conn->broken = true;
}

/* Calls. */

int conn_errno_status(int err)
{
	switch (-err) {
	case EINVAL:
	case ERANGE:
	case ENAMETOOLONG:
		return 400;
	case EACCES:
	case EPERM:
	case EROFS:
		return 403;
	case ENOENT:
	case ENODEV:
		return 404;
	case EBUSY:
	case EEXIST:
	case EALREADY:
	case EAGAIN:
	case ECANCELED:
	case ETXTBSY:
		return 409;
	case EOPNOTSUPP:
	case ENOSYS:
	case ENOTTY:
		return 501;
	case ENOMEM:
		return 503;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return 507;
	default:
		return 500;
	}
}

/* A request has its answer. */
static void next_request(struct control_conn *conn)
{
	http_free(&conn->req);
	conn->continued = false;
}

static void call_done(struct control_call *call, json_t *result, int err,
		      const char *why)
{
	struct control_conn *conn = container_of(call, struct control_conn,
						 call);

	conn->calling = false;
	if (err)
		conn_error(conn, conn_errno_status(err), err, why, NULL);
	else
		conn_answer_json(conn, result ? result : json_object());
	if (conn->in_dispatch)
		return;
	next_request(conn);
	conn_answered(conn);
}

void conn_call(struct control_conn *conn, const struct control_source *src,
	       const char *command, json_t *params)
{
	conn->calling = true;
	control_run(src, command, params, &conn->call);
}

/* The client's stream becomes the source's. */
void conn_upgrade(struct control_conn *conn, struct control_source *src,
		  const char *protocol)
{
	char head[128];
	int len;

	len = snprintf(head, sizeof(head), "HTTP/1.1 101 Switching Protocols\r\n"
		       "Connection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol);
	conn->upgrade = src;
	put(conn, head, len);
}

/* The output becomes a stream of events, beginning with @text. */
void conn_listen(struct control_conn *conn, enum conn_events kind,
		 const char *type, const char *text)
{
	struct http_answer answer = { .status = 200, .stream = true };

	if (listeners == LISTENERS_MAX) {
		conn_error(conn, 503, -EBUSY, "too many clients listen already",
			   NULL);
		return;
	}
	listeners++;
	answer.type = kind == EVENTS_SSE ? "text/event-stream" :
		      "application/x-ndjson";
	conn_answer(conn, &answer, NULL);
	conn->events = kind;
	conn_event(conn, type, text);
}

/* Input. */

size_t conn_room(const struct control_conn *conn)
{
	if (conn->close || conn->broken || conn->eof || conn->upgrade ||
	    conn->events)
		return 0;
	return CONN_IN - conn->in_len;
}

static bool takes_request(const struct control_conn *conn)
{
	return conn->in_len && !conn->calling && !conn->close &&
	       !conn->broken && !conn->events && !conn->upgrade &&
	       conn->out_len < CONN_OUT_HIGH;
}

static void request_failed(struct control_conn *conn)
{
	conn->close = true;
	conn_error(conn, conn->req.status, 0, conn->req.why, NULL);
}

static void handle(struct control_conn *conn)
{
	struct http_request *req = &conn->req;

	switch (req->state) {
	case HTTP_FAILED:
		request_failed(conn);
		break;
	case HTTP_DONE:
		conn->in_dispatch = true;
		control_dispatch(conn);
		conn->in_dispatch = false;
		if (!conn->calling && !conn->upgrade)
			next_request(conn);
		break;
	default:
		if (!req->expects || conn->continued)
			break;
		conn->continued = true;
		put(conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
		break;
	}
}

void conn_input(struct control_conn *conn, const void *data, size_t len)
{
	size_t used;

	if (len)
		memcpy(conn->in + conn->in_len, data, len);
	conn->in_len += len;
	while (takes_request(conn)) {
		used = http_feed(&conn->req, conn->in, conn->in_len);
		conn->in_len -= used;
		memmove(conn->in, conn->in + used, conn->in_len);
		handle(conn);
	}
}

void conn_eof(struct control_conn *conn)
{
	conn->eof = true;
}

/* Too slow. */
void conn_timeout(struct control_conn *conn)
{
	conn->close = true;
	conn->req.keep_alive = false;
	if (conn_in_request(conn))
		conn_error(conn, 408, -ETIMEDOUT, "the request took too long",
			   NULL);
}

bool conn_in_request(const struct control_conn *conn)
{
	return conn->req.head_len && conn->req.state < HTTP_DONE;
}

bool conn_finished(const struct control_conn *conn)
{
	if (conn->broken)
		return true;
	if (conn->out_len || conn->calling)
		return false;
	return conn->close || (conn->eof && !conn->upgrade && !conn->events);
}
