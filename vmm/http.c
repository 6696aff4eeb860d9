// SPDX-License-Identifier: GPL-2.0
/*
 * HTTP/1.1 (RFC 9112), the server's side.
 *  1. The head is gathered up to its empty line, then split in place.
 *  2. The body comes by length or in chunks, one byte of framing at a time.
 *  3. What could be read in two ways is refused: two lengths, a length and
 *     chunks, folded lines, blanks before a colon, bare carriage returns.
 * Nothing grows beyond the limits of http.h, however the bytes arrive.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http.h"

#define FIRST_ALLOC	512
#define LENGTH_DIGITS	18	/* more cannot be a length that is accepted */
#define CHUNK_DIGITS	8

void http_init(struct http_request *req)
{
	memset(req, 0, sizeof(*req));
}

void http_free(struct http_request *req)
{
	free(req->head);
	free(req->body);
	http_init(req);
}

static bool refuse(struct http_request *req, int status, const char *why)
{
	req->state = HTTP_FAILED;
	req->status = status;
	req->why = why;
	req->keep_alive = false;
	return false;
}

/* Room for one byte more and a zero. */
static bool grow(struct http_request *req, char **buf, size_t len, size_t *cap)
{
	size_t more;
	char *p;

	if (len + 2 <= *cap)
		return true;
	more = *cap ? 2 * *cap : FIRST_ALLOC;
	p = realloc(*buf, more);
	if (!p)
		return refuse(req, 503, "out of memory");
	*buf = p;
	*cap = more;
	return true;
}

/* Characters. */

static bool is_token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(const char *text)
{
	if (!*text)
		return false;
	while (is_token_char(*text))
		text++;
	return !*text;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

bool http_decode(char *text)
{
	char *out = text;
	int high, low;

	for (; *text; text++) {
		if (*text != '%') {
			*out++ = *text;
			continue;
		}
		high = hex_digit(text[1]);
		low = high < 0 ? -1 : hex_digit(text[2]);
		if (low < 0 || (!high && !low))
			return false;
		*out++ = high << 4 | low;
		text += 2;
	}
	*out = 0;
	return true;
}

bool http_has_token(const char *list, const char *token)
{
	size_t len = strlen(token), n;

	while (list && *list) {
		list += strspn(list, " \t,");
		n = strcspn(list, " \t,;");
		if (n == len && !strncasecmp(list, token, len))
			return true;
		list += n;
		list += strcspn(list, ",");
	}
	return false;
}

const char *http_field(const struct http_request *req, const char *name)
{
	unsigned int i;

	for (i = 0; i < req->nr_fields; i++)
		if (!strcasecmp(req->field[i].name, name))
			return req->field[i].value;
	return NULL;
}

static unsigned int count_fields(const struct http_request *req,
				 const char *name)
{
	unsigned int i, nr = 0;

	for (i = 0; i < req->nr_fields; i++)
		nr += !strcasecmp(req->field[i].name, name);
	return nr;
}

/* The head. */

static bool parse_version(struct http_request *req, const char *text)
{
	if (strncmp(text, "HTTP/", 5) || !is_digit(text[5]) ||
	    text[6] != '.' || !is_digit(text[7]) || text[8])
		return refuse(req, 400, "no HTTP request");
	if (text[5] != '1')
		return refuse(req, 505, "only HTTP/1.1 and HTTP/1.0 are spoken");
	req->minor = text[7] - '0';
	return true;
}

static bool parse_target(struct http_request *req, char *target)
{
	char *c, *authority;

	for (c = target; *c; c++)
		if (*c <= ' ' || *c >= 0x7f || *c == '#')
			return refuse(req, 400, "bad character in the target");
	/* The form that proxies are sent. */
	if (!strncasecmp(target, "http://", 7)) {
		authority = target + 7;
		target = strchr(authority, '/');
		if (!target)
			return refuse(req, 400, "no path in the target");
	}
	if (*target != '/')
		return refuse(req, 400, "the target is no path");
	if (strlen(target) > HTTP_TARGET_MAX)
		return refuse(req, 414, "the target is too long");
	req->path = target;
	c = strchr(target, '?');
	if (c) {
		*c = 0;
		req->query = c + 1;
	}
	return true;
}

static bool parse_request_line(struct http_request *req, char *line)
{
	char *target, *version;

	target = strchr(line, ' ');
	version = target ? strchr(target + 1, ' ') : NULL;
	if (!version)
		return refuse(req, 400, "no HTTP request");
	*target++ = 0;
	*version++ = 0;
	if (!is_token(line) || strlen(line) > HTTP_METHOD_MAX)
		return refuse(req, 400, "bad method");
	req->method = line;
	return parse_version(req, version) && parse_target(req, target);
}

static bool parse_field(struct http_request *req, char *line)
{
	char *colon = strchr(line, ':'), *end, *c;

	if (!colon)
		return refuse(req, 400, "a field without a colon");
	*colon++ = 0;
	/* Also refuses blanks before the colon and folded lines. */
	if (!is_token(line))
		return refuse(req, 400, "bad name of a field");
	colon += strspn(colon, " \t");
	end = colon + strlen(colon);
	while (end > colon && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = 0;
	for (c = colon; *c; c++)
		if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
			return refuse(req, 400, "bad character in a field");
	if (req->nr_fields == HTTP_FIELDS_MAX)
		return refuse(req, 431, "too many fields");
	req->field[req->nr_fields].name = line;
	req->field[req->nr_fields++].value = colon;
	return true;
}

static bool parse_length(struct http_request *req, const char *text)
{
	size_t digits = strspn(text, "0123456789");
	uint64_t size;

	if (!digits || text[digits])
		return refuse(req, 400, "bad Content-Length");
	if (digits > LENGTH_DIGITS)
		return refuse(req, 413, "the body is too long");
	size = strtoull(text, NULL, 10);
	if (size > HTTP_BODY_MAX)
		return refuse(req, 413, "the body is too long");
	req->left = size;
	req->has_length = true;
	return true;
}

/* How the body is framed, and so what follows the head. */
static bool parse_framing(struct http_request *req)
{
	const char *coding = http_field(req, "Transfer-Encoding");
	const char *length = http_field(req, "Content-Length");

	if (count_fields(req, "Content-Length") > 1 ||
	    count_fields(req, "Transfer-Encoding") > 1 || (coding && length))
		return refuse(req, 400, "more than one length");
	if (length && !parse_length(req, length))
		return false;
	if (coding) {
		if (!req->minor)
			return refuse(req, 400, "chunks in HTTP/1.0");
		if (strcasecmp(coding, "chunked"))
			return refuse(req, 501, "unknown Transfer-Encoding");
		req->has_length = true;
		req->line_len = 0;
		req->state = HTTP_CHUNK_SIZE;
	} else {
		req->state = req->left ? HTTP_BODY : HTTP_DONE;
	}
	return true;
}

static bool parse_fields(struct http_request *req)
{
	const char *connection = http_field(req, "Connection");
	const char *expect = http_field(req, "Expect");

	if (count_fields(req, "Host") > 1 ||
	    (req->minor && !http_field(req, "Host")))
		return refuse(req, 400, "one Host field is needed");
	if (count_fields(req, "Connection") > 1)
		return refuse(req, 400, "more than one Connection field");
	req->keep_alive = req->minor ?
			  !http_has_token(connection, "close") :
			  http_has_token(connection, "keep-alive");
	req->upgrade = req->minor && http_has_token(connection, "upgrade") &&
		       http_field(req, "Upgrade");
	if (expect && strcasecmp(expect, "100-continue"))
		return refuse(req, 417, "unknown Expect");
	if (!parse_framing(req))
		return false;
	req->expects = expect && req->minor && req->state != HTTP_DONE;
	return true;
}

static bool parse_head(struct http_request *req)
{
	char *line = req->head, *end;
	bool first = true;

	req->head[req->head_len] = 0;
	for (; (end = strchr(line, '\n')); line = end + 1) {
		*end = 0;
		if (end > line && end[-1] == '\r')
			end[-1] = 0;
		if (strchr(line, '\r'))
			return refuse(req, 400, "bare carriage return");
		if (!*line)
			break;
		if (first ? !parse_request_line(req, line) :
			    !parse_field(req, line))
			return false;
		first = false;
	}
	return parse_fields(req);
}

static bool feed_head(struct http_request *req, char c)
{
	if (!c)
		return refuse(req, 400, "a zero byte");
	/* Empty lines before a request are no part of it. */
	if (!req->head_len && (c == '\r' || c == '\n'))
		return ++req->line_len <= 2 * HTTP_FIELDS_MAX ? true :
		       refuse(req, 400, "no HTTP request");
	if (!req->head_len)
		req->line_len = 0;
	if (req->head_len == HTTP_HEAD_MAX)
		return memchr(req->head, '\n', req->head_len) ?
		       refuse(req, 431, "the head is too long") :
		       refuse(req, 414, "the target is too long");
	if (!grow(req, &req->head, req->head_len, &req->head_cap))
		return false;
	req->head[req->head_len++] = c;
	if (c != '\n') {
		req->line_len += c != '\r';
		return true;
	}
	if (!req->line_len)
		return parse_head(req);
	req->line_len = 0;
	return true;
}

/* The body. */

static bool put_body(struct http_request *req, char c)
{
	if (req->body_len == HTTP_BODY_MAX)
		return refuse(req, 413, "the body is too long");
	if (!grow(req, &req->body, req->body_len, &req->body_cap))
		return false;
	req->body[req->body_len++] = c;
	req->body[req->body_len] = 0;
	return true;
}

static bool parse_chunk_line(struct http_request *req)
{
	size_t len = req->line_len, digits = 0, i;
	uint64_t size;

	if (!len || req->chunk[len - 1] != '\r')
		return refuse(req, 400, "bad size of a chunk");
	req->chunk[--len] = 0;
	for (i = 0; i < len; i++)
		if ((unsigned char)req->chunk[i] < ' ' && req->chunk[i] != '\t')
			return refuse(req, 400, "bad size of a chunk");
	while (hex_digit(req->chunk[digits]) >= 0)
		digits++;
	/* Extensions are allowed, and mean nothing here. */
	if (!digits || (req->chunk[digits] && !strchr("; \t", req->chunk[digits])))
		return refuse(req, 400, "bad size of a chunk");
	if (digits > CHUNK_DIGITS)
		return refuse(req, 413, "the body is too long");
	size = strtoull(req->chunk, NULL, 16);
	if (size > HTTP_BODY_MAX - req->body_len)
		return refuse(req, 413, "the body is too long");
	req->left = size;
	req->line_len = 0;
	req->state = req->left ? HTTP_CHUNK_DATA : HTTP_TRAILER;
	return true;
}

static bool feed_chunk_size(struct http_request *req, char c)
{
	if (c == '\n')
		return parse_chunk_line(req);
	if (req->line_len == sizeof(req->chunk) - 1)
		return refuse(req, 400, "bad size of a chunk");
	req->chunk[req->line_len++] = c;
	return true;
}

static bool feed_chunk_end(struct http_request *req, char c)
{
	if (c != "\r\n"[req->line_len])
		return refuse(req, 400, "a chunk is longer than it says");
	if (++req->line_len == 2) {
		req->line_len = 0;
		req->state = HTTP_CHUNK_SIZE;
	}
	return true;
}

/* Read and dropped. */
static bool feed_trailer(struct http_request *req, char c)
{
	if (++req->trailer_len > HTTP_HEAD_MAX)
		return refuse(req, 431, "the trailer is too long");
	if (c != '\n') {
		req->line_len += c != '\r';
		return true;
	}
	if (!req->line_len)
		req->state = HTTP_DONE;
	req->line_len = 0;
	return true;
}

static bool feed_data(struct http_request *req, char c, enum http_state next)
{
	if (!put_body(req, c))
		return false;
	if (!--req->left) {
		req->line_len = 0;
		req->state = next;
	}
	return true;
}

static bool feed_byte(struct http_request *req, char c)
{
	switch (req->state) {
	case HTTP_HEAD:
		return feed_head(req, c);
	case HTTP_BODY:
		return feed_data(req, c, HTTP_DONE);
	case HTTP_CHUNK_SIZE:
		return feed_chunk_size(req, c);
	case HTTP_CHUNK_DATA:
		return feed_data(req, c, HTTP_CHUNK_END);
	case HTTP_CHUNK_END:
		return feed_chunk_end(req, c);
	case HTTP_TRAILER:
		return feed_trailer(req, c);
	default:
		return false;
	}
}

size_t http_feed(struct http_request *req, const void *data, size_t len)
{
	const char *p = data;
	size_t used = 0;

	while (used < len && req->state < HTTP_DONE)
		if (!feed_byte(req, p[used++]))
			break;
	return used;
}

/* Answers. */

const char *http_reason(int status)
{
	static const struct {
		int status;
		const char *reason;
	} reasons[] = {
		{ 100, "Continue" }, { 101, "Switching Protocols" },
		{ 200, "OK" }, { 400, "Bad Request" }, { 403, "Forbidden" },
		{ 404, "Not Found" }, { 405, "Method Not Allowed" },
		{ 408, "Request Timeout" }, { 409, "Conflict" },
		{ 411, "Length Required" }, { 413, "Content Too Large" },
		{ 414, "URI Too Long" }, { 417, "Expectation Failed" },
		{ 426, "Upgrade Required" },
		{ 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" },
		{ 503, "Service Unavailable" },
		{ 505, "HTTP Version Not Supported" },
		{ 507, "Insufficient Storage" },
	};
	unsigned int i;

	for (i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

size_t http_answer_head(char buf[HTTP_ANSWER_MAX], const struct http_answer *a)
{
	char type[128] = "", length[64] = "";
	int len;

	if (a->type)
		snprintf(type, sizeof(type), "Content-Type: %s\r\n", a->type);
	if (!a->stream && a->status >= 200)
		snprintf(length, sizeof(length), "Content-Length: %zu\r\n",
			 a->len);
	len = snprintf(buf, HTTP_ANSWER_MAX, "HTTP/1.1 %d %s\r\n%s%s%s%s\r\n",
		       a->status, http_reason(a->status), type, length,
		       a->close ? "Connection: close\r\n" :
		       a->keep ? "Connection: keep-alive\r\n" : "",
		       a->extra ? a->extra : "");
	/* Only a caller's own text could be too long. */
	return len < HTTP_ANSWER_MAX ? (size_t)len : HTTP_ANSWER_MAX - 1;
}
