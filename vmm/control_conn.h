/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One client of the control socket: bytes in, bytes out.  No descriptor is
 * known here, so that tests and fuzzers are clients too.
 */
#ifndef PVHV_CONTROL_CONN_H
#define PVHV_CONTROL_CONN_H

#include "control.h"
#include "http.h"

#define CONN_IN		4096	/* bytes read ahead of the request at work */
/* With more output than this, no further request is taken ... */
#define CONN_OUT_HIGH	(64 * KIB)
/* ... and a listener that lets more events wait than this is dropped. */
#define CONN_EVENTS_MAX	(256 * KIB)

#define LISTENERS_MAX	8	/* clients that listen to events */

#define CONSOLE_PROTOCOL	"pvhv-console"
#define MOVE_PROTOCOL		"pvhv-move"	/* see move.h */

enum conn_events { EVENTS_NONE, EVENTS_LINES, EVENTS_SSE };

struct control_conn {
	struct http_request req;
	struct control_call call;
	bool calling;		/* a command is at work for it */
	bool in_dispatch;	/* what answers now answers at once */
	bool continued;		/* "100 Continue" has been sent */
	bool eof;		/* the client sends no more */
	bool close;		/* when the output is out, and no call is left */
	bool broken;		/* at once */
	enum conn_events events;
	/* When the output is out, the stream is given to this source. */
	struct control_source *upgrade;
	char in[CONN_IN];
	size_t in_len;
	char *out;
	size_t out_len, out_cap;
};

/* control_conn.c */
void conn_init(struct control_conn *conn);
void conn_free(struct control_conn *conn);
/* How many bytes conn_input() takes now. */
size_t conn_room(const struct control_conn *conn);
void conn_input(struct control_conn *conn, const void *data, size_t len);
void conn_eof(struct control_conn *conn);
/* @len bytes of the output have been sent. */
void conn_sent(struct control_conn *conn, size_t len);
bool conn_finished(const struct control_conn *conn);
/* In the middle of a request. */
bool conn_in_request(const struct control_conn *conn);
void conn_timeout(struct control_conn *conn);
void conn_event(struct control_conn *conn, const char *type, const char *text);
/* A call that was answered later, on the main thread. */
extern void (*conn_answered)(struct control_conn *conn);

/* For control_api.c. */
void conn_answer(struct control_conn *conn, const struct http_answer *answer,
		 const char *body);
void conn_answer_json(struct control_conn *conn, json_t *obj);
void conn_error(struct control_conn *conn, int status, int err,
		const char *why, const char *extra);
void conn_call(struct control_conn *conn, const struct control_source *src,
	       const char *command, json_t *params);
void conn_upgrade(struct control_conn *conn, struct control_source *src,
		  const char *protocol);
void conn_listen(struct control_conn *conn, enum conn_events kind,
		 const char *type, const char *text);
int conn_errno_status(int err);

/* control_api.c */
struct control_route {
	const char *method;
	const char *path;	/* "{...}" stands for one name */
	void (*handler)(struct control_conn *conn,
			const struct control_route *route, char **names);
	const char *kind;	/* of source */
	const char *command;
};

const struct control_route *control_routes(unsigned int *nr);
void control_dispatch(struct control_conn *conn);

#endif /* PVHV_CONTROL_CONN_H */
