/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HTTP/1.1 requests, parsed as their bytes come in, and the heads of answers.
 * A pure library with hard limits: it knows no sockets and no API.
 */
#ifndef PVHV_HTTP_H
#define PVHV_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX	8192	/* request line and fields; also a trailer */
#define HTTP_TARGET_MAX	2048
#define HTTP_METHOD_MAX	16
#define HTTP_FIELDS_MAX	64
#define HTTP_BODY_MAX	65536
#define HTTP_CHUNK_LINE	256	/* a chunk's size and its extensions */

enum http_state {
	HTTP_HEAD, HTTP_BODY,
	HTTP_CHUNK_SIZE, HTTP_CHUNK_DATA, HTTP_CHUNK_END, HTTP_TRAILER,
	HTTP_DONE,		/* the request is complete */
	HTTP_FAILED		/* answer .status and close the connection */
};

struct http_field {
	const char *name;
	const char *value;
};

struct http_request {
	enum http_state state;
	int status;		/* of HTTP_FAILED */
	const char *why;

	/* From the end of HTTP_HEAD on: */
	const char *method;
	const char *path;	/* starts with '/', still encoded */
	const char *query;	/* behind the '?', or NULL */
	struct http_field field[HTTP_FIELDS_MAX];
	unsigned int nr_fields;
	unsigned int minor;	/* of HTTP/1.minor */
	bool keep_alive;
	bool upgrade;		/* Connection: upgrade */
	bool expects;		/* waits for "100 Continue" before its body */
	bool has_length;	/* Content-Length or chunks */

	/* In HTTP_DONE: */
	char *body;		/* zero-terminated; NULL if empty */
	size_t body_len;

	/* The parser's own. */
	char *head;
	size_t head_len, head_cap;
	size_t line_len;	/* of the line that is read */
	size_t body_cap;
	size_t trailer_len;
	uint64_t left;		/* of the body or the chunk */
	char chunk[HTTP_CHUNK_LINE];	/* the line with its size */
};

void http_init(struct http_request *req);
/* Takes what belongs to this request; the result is how much. */
size_t http_feed(struct http_request *req, const void *data, size_t len);
void http_free(struct http_request *req);
/* The field's value, NULL if there is none. */
const char *http_field(const struct http_request *req, const char *name);
/* Is @token in the comma-separated list? */
bool http_has_token(const char *list, const char *token);
/* Decodes %xx in place; false if it is malformed or hides a zero byte. */
bool http_decode(char *text);

struct http_answer {
	int status;
	const char *type;	/* media type; NULL: no body */
	size_t len;		/* of the body */
	bool stream;		/* no length: the end of the connection ends it */
	bool close;		/* the connection ends after it */
	bool keep;		/* it does not, which HTTP/1.0 has to be told */
	const char *extra;	/* further fields, each ending in \r\n; or NULL */
};

#define HTTP_ANSWER_MAX	1024
/* Writes the head; the result is its length. */
size_t http_answer_head(char buf[HTTP_ANSWER_MAX], const struct http_answer *a);
const char *http_reason(int status);

#endif /* PVHV_HTTP_H */
