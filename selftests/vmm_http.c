// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the control socket's HTTP (vmm/http.c): requests as bytes arrive one by one, at once and in pipelines; every limit
 * at its edge; what is refused and with which status; lists of tokens, percent encoding, heads of answers. Runs anywhere.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "../vmm/http.h"

static struct http_request req;

/* The status of the refusal, 0 if the request is complete, -1 if more is needed */
static int parse(const char *text, size_t len, size_t step)
{
	size_t at = 0, n;

	http_free(&req);
	while (at < len && req.state < HTTP_DONE) {
		n = len - at < step ? len - at : step;
		n = http_feed(&req, text + at, n);
		ASSERT_GT(n, 0);
		at += n;
	}
	if (req.state == HTTP_FAILED) {
		ASSERT(req.why && !req.keep_alive);
		return req.status;
	}
	if (req.state != HTTP_DONE)
		return -1;
	ASSERT_EQ(at, len);
	return 0;
}

/* The same however the bytes come */
static int status_of(const char *text)
{
	size_t len = strlen(text), step;
	int status = parse(text, len, len);

	for (step = 1; step <= 3; step++)
		ASSERT_EQ(parse(text, len, step), status);
	return status;
}

#define IS(text, status)								\
	do {										\
		int s_ = status_of(text);						\
		ASSERT_MSG(s_ == (status), "%d: %s", s_, text);				\
	} while (0)

static void test_requests(void)
{
	IS("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0);
	ASSERT(!strcmp(req.method, "GET") && !strcmp(req.path, "/") && !req.query);
	ASSERT(req.keep_alive && !req.has_length && !req.body && !req.upgrade && !req.expects);
	IS("\r\n\r\nPOST /a/b?c=d&e HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", 0);
	ASSERT(!strcmp(req.path, "/a/b") && !strcmp(req.query, "c=d&e"));
	ASSERT(req.has_length && req.body_len == 4 && !strcmp(req.body, "body"));
	IS("PUT http://host:80/x HTTP/1.1\nhost:\nContent-Length: 0\n\n", 0);
	ASSERT(!strcmp(req.path, "/x") && req.has_length && !req.body_len);
	ASSERT(!strcmp(http_field(&req, "HOST"), ""));
	IS("GET / HTTP/1.0\r\n\r\n", 0);
	ASSERT(!req.keep_alive && req.minor == 0);
	IS("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 0);
	ASSERT(req.keep_alive);
	IS("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo ,\tClose\r\n\r\n", 0);
	ASSERT(!req.keep_alive);
	IS("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: pvhv-console\r\n\r\n", 0);
	ASSERT(req.upgrade && !strcmp(http_field(&req, "upgrade"), "pvhv-console"));
	IS("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: pvhv-console\r\n\r\n", 0);
	ASSERT(!req.upgrade);
	IS("GET / HTTP/1.1\r\nHost:  x \t \r\nX-Odd!#: a\tb \xc3\xa4\r\n\r\n", 0);
	ASSERT(!strcmp(http_field(&req, "host"), "x") && !strcmp(http_field(&req, "x-odd!#"), "a\tb \xc3\xa4"));
	IS("GET / HTTP/1.1\r\nHost: x\r\n", -1);
	IS("", -1);
}

static void test_chunks(void)
{
#define CHUNKED "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
	IS(CHUNKED "4\r\nbody\r\n0\r\n\r\n", 0);
	ASSERT(req.body_len == 4 && !strcmp(req.body, "body") && req.has_length);
	IS(CHUNKED "0004;ext=\"1\"\r\nbody\r\n1 \r\n-\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", 0);
	ASSERT(!strcmp(req.body, "body-0123456789"));
	IS(CHUNKED "0\r\n\r\n", 0);
	ASSERT(!req.body && req.has_length);
	IS(CHUNKED "4\r\nbodyx\r\n0\r\n\r\n", 400);
	IS(CHUNKED "4\nbody\r\n0\r\n\r\n", 400);
	IS(CHUNKED "\r\nbody", 400);
	IS(CHUNKED "x\r\n", 400);
	IS(CHUNKED "-1\r\n", 400);
	IS(CHUNKED "1x\r\n", 400);
	IS(CHUNKED "1\r\r\n", 400);
	IS(CHUNKED "1;\x01\r\n", 400);
	IS(CHUNKED "10001\r\n", 413);
	IS(CHUNKED "123456789\r\n", 413);
	IS(CHUNKED "ffffffff\r\n", 413);
	IS(CHUNKED "4\r\nbody\r\nfffd\r\n", 413);
	IS(CHUNKED "4\r\nbody\r\n", -1);
}

static void test_refused(void)
{
	static const struct {
		int status;
		const char *text;
	} bad[] = {
		{ 400, "GET /\r\n\r\n" },			/* HTTP/0.9 */
		{ 400, "GET / FTP/1.1\r\n\r\n" },
		{ 400, "GET / HTTP/1.10\r\n\r\n" },
		{ 505, "GET / HTTP/2.0\r\n\r\n" },
		{ 400, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n" },
		{ 400, "G@T / HTTP/1.1\r\nHost: x\r\n\r\n" },
		{ 400, " / HTTP/1.1\r\nHost: x\r\n\r\n" },
		{ 400, "ABCDEFGHIJKLMNOPQ / HTTP/1.1\r\nHost: x\r\n\r\n" },
		{ 400, "GET * HTTP/1.1\r\nHost: x\r\n\r\n" },
		{ 400, "GET http://x HTTP/1.1\r\nHost: x\r\n\r\n" },
		{ 400, "GET /#a HTTP/1.1\r\nHost: x\r\n\r\n" },
		{ 400, "GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\n\r\n" },		/* no Host */
		{ 400, "GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost : x\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\x01\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1,1\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ 400, "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ 501, "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n" },
		{ 501, "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" },
		{ 413, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n" },
		{ 413, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n" },
		{ 417, "GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		IS(bad[i].text, bad[i].status);
	ASSERT_EQ(parse("GET / HTTP/1.1\r\nHo\0st: x\r\n\r\n", 27, 1), 400);
	ASSERT_EQ(parse("\0", 1, 1), 400);
}

static char big[3 * HTTP_BODY_MAX];

/* "@" stands for @nr times @c */
static int with_many(const char *format, char c, size_t nr)
{
	size_t before = strchr(format, '@') - format, len = strlen(format) - 1 + nr;
	int status;

	ASSERT_LT(len, sizeof(big));
	memcpy(big, format, before);
	memset(big + before, c, nr);
	strcpy(big + before + nr, format + before + 1);
	status = parse(big, len, len);
	ASSERT_EQ(parse(big, len, 1), status);
	/* Memory stays within the limits */
	ASSERT_LE(req.head_cap, 2 * HTTP_HEAD_MAX);
	ASSERT_LE(req.body_cap, 2 * HTTP_BODY_MAX);
	return status;
}

static void test_limits(void)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: @\r\n\r\n";
	static const size_t get_len = sizeof(get) - 2;
	char fields[80 * HTTP_FIELDS_MAX] = "GET / HTTP/1.1\r\nHost: x\r\n";
	int i;

	ASSERT_EQ(with_many("GET /@ HTTP/1.1\r\nHost: x\r\n\r\n", 'a', HTTP_TARGET_MAX - 1), 0);
	ASSERT_EQ(with_many("GET /@ HTTP/1.1\r\nHost: x\r\n\r\n", 'a', HTTP_TARGET_MAX), 414);
	ASSERT_EQ(with_many("GET /@ HTTP/1.1\r\nHost: x\r\n\r\n", 'a', 3 * HTTP_HEAD_MAX), 414);
	ASSERT_EQ(with_many(get, 'a', HTTP_HEAD_MAX - get_len), 0);
	ASSERT_EQ(with_many(get, 'a', HTTP_HEAD_MAX - get_len + 1), 431);
	ASSERT_EQ(with_many(get, 'a', 3 * HTTP_HEAD_MAX), 431);
	ASSERT_EQ(with_many("@GET / HTTP/1.0\r\n\r\n", '\n', 2 * HTTP_FIELDS_MAX), 0);
	ASSERT_EQ(with_many("@GET / HTTP/1.0\r\n\r\n", '\n', 2 * HTTP_FIELDS_MAX + 1), 400);
	ASSERT_EQ(with_many("POST / HTTP/1.0\r\nContent-Length: 65536\r\n\r\n@", 'b', HTTP_BODY_MAX), 0);
	ASSERT_EQ(req.body_len, HTTP_BODY_MAX);
	ASSERT_EQ(with_many(CHUNKED "10000\r\n@\r\n0\r\n\r\n", 'b', HTTP_BODY_MAX), 0);
	ASSERT_EQ(with_many(CHUNKED "10000\r\n@\r\n1\r\n", 'b', HTTP_BODY_MAX), 413);
	ASSERT_EQ(with_many(CHUNKED "0;@\r\n\r\n", 'x', HTTP_CHUNK_LINE - 4), 0);
	ASSERT_EQ(with_many(CHUNKED "0;@\r\n\r\n", 'x', HTTP_CHUNK_LINE - 3), 400);
	ASSERT_EQ(with_many(CHUNKED "0\r\nA: @\r\n\r\n", 'x', HTTP_HEAD_MAX), 431);
	for (i = 1; i < HTTP_FIELDS_MAX; i++)
		strcat(fields, "A: b\r\n");
	strcat(fields, "\r\n");
	IS(fields, 0);
	strcpy(strstr(fields, "\r\n\r\n"), "\r\nC: d\r\n\r\n");
	IS(fields, 431);
}

static void test_pipeline(void)
{
	static const char text[] = "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
				   "POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
				   CHUNKED "1\r\nx\r\n0\r\n\r\n"
				   "GET /4 HTTP/1.1\r\nHost: x\r\n\r\n";
	static const char * const paths[] = { "/1", "/2", "/", "/4" };
	size_t at = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(paths); i++) {
		http_free(&req);
		at += http_feed(&req, text + at, strlen(text) - at);
		ASSERT_EQ(req.state, HTTP_DONE);
		ASSERT_MSG(!strcmp(req.path, paths[i]), "%s, not %s", req.path, paths[i]);
		/* A complete request takes nothing more */
		ASSERT_EQ(http_feed(&req, "x", 1), 0);
	}
	ASSERT_EQ(at, strlen(text));
}

static void test_expects(void)
{
	static const char text[] = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";

	http_free(&req);
	ASSERT_EQ(http_feed(&req, text, strlen(text)), strlen(text));
	ASSERT_EQ(req.state, HTTP_BODY);
	ASSERT(req.expects);
	ASSERT_EQ(http_feed(&req, "abc", 3), 2);
	ASSERT_EQ(req.state, HTTP_DONE);
	/* Nothing to wait for */
	IS("GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", 0);
	ASSERT(!req.expects);
}

static void test_words(void)
{
	static const struct {
		const char *in, *out;
	} decode[] = {
		{ "", "" }, { "abc", "abc" }, { "%41%7a%2F", "Az/" }, { "%c3%A4", "\xc3\xa4" },
		{ "%", NULL }, { "%4", NULL }, { "a%4g", NULL }, { "%00", NULL }, { "%%41", NULL },
	};
	char buf[32];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(decode); i++) {
		strcpy(buf, decode[i].in);
		ASSERT_EQ(http_decode(buf), decode[i].out != NULL);
		ASSERT(!decode[i].out || !strcmp(buf, decode[i].out));
	}
	ASSERT(http_has_token("a, b;q=1 ,c", "B"));
	ASSERT(http_has_token("a,b", "a") && http_has_token(" ,,b", "b"));
	ASSERT(!http_has_token("ab", "a") && !http_has_token("a", "ab") && !http_has_token("", "a"));
	ASSERT(!http_has_token(NULL, "a") && !http_has_token("x;a", "a") && !http_has_token("x a", "a"));
}

static void test_answers(void)
{
	char buf[HTTP_ANSWER_MAX], *extra = malloc(2 * HTTP_ANSWER_MAX);
	size_t len;

	len = http_answer_head(buf, &(struct http_answer){ .status = 200, .type = "text/plain", .len = 5 });
	ASSERT(len == strlen(buf));
	ASSERT(!strcmp(buf, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"));
	http_answer_head(buf, &(struct http_answer){ .status = 100 });
	ASSERT(!strcmp(buf, "HTTP/1.1 100 Continue\r\n\r\n"));
	http_answer_head(buf, &(struct http_answer){ .status = 405, .close = true, .extra = "Allow: GET\r\n" });
	ASSERT(!strcmp(buf, "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\nAllow: GET\r\n\r\n"));
	memset(extra, 'x', 2 * HTTP_ANSWER_MAX);
	extra[2 * HTTP_ANSWER_MAX - 1] = 0;
	len = http_answer_head(buf, &(struct http_answer){ .status = 999, .extra = extra });
	ASSERT(len == HTTP_ANSWER_MAX - 1 && !buf[len]);
	free(extra);
}

static const struct tap_test tests[] = {
	TEST(requests),
	TEST(chunks),
	TEST(refused),
	TEST(limits),
	TEST(pipeline),
	TEST(expects),
	TEST(words),
	TEST(answers),
};

int main(int argc, char **argv)
{
	http_init(&req);
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
