// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for pvhv-run's HTTP parser (vmm/http.c).
 *
 *   libFuzzer, replay and sources: see http-fuzz.sh
 *
 * Input: a byte that says in which pieces the rest arrives. What must hold: the same requests come out whatever the pieces are
 * (they lie in allocations of exactly their size), memory and numbers within http.h's limits, a request that is complete has all
 * its parts inside of the parser's own memory, a refused one has a status that says so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../vmm/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

#define CHECK(cond)									\
	do {										\
		if (!(cond)) {								\
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);	\
			abort();							\
		}									\
	} while (0)

static bool inside(const struct http_request *req, const char *text)
{
	return text >= req->head && text < req->head + req->head_cap && text + strlen(text) < req->head + req->head_cap;
}

static void check(const struct http_request *req)
{
	unsigned int i;

	CHECK(req->head_len <= HTTP_HEAD_MAX && req->head_cap <= 2 * HTTP_HEAD_MAX);
	CHECK(req->body_len <= HTTP_BODY_MAX && req->body_cap <= 2 * HTTP_BODY_MAX + 2);
	CHECK(req->nr_fields <= HTTP_FIELDS_MAX && req->left <= HTTP_BODY_MAX);
	if (req->state == HTTP_FAILED) {
		CHECK(req->status >= 400 && req->status < 600 && req->why);
		CHECK(strcmp(http_reason(req->status), "Unknown") && !req->keep_alive);
	}
	if (req->state != HTTP_DONE)
		return;
	CHECK(inside(req, req->method) && strlen(req->method) <= HTTP_METHOD_MAX);
	CHECK(inside(req, req->path) && *req->path == '/' && strlen(req->path) <= HTTP_TARGET_MAX);
	CHECK(!req->query || inside(req, req->query));
	for (i = 0; i < req->nr_fields; i++)
		CHECK(inside(req, req->field[i].name) && inside(req, req->field[i].value) && *req->field[i].name);
	CHECK(!req->body_len == !req->body && (!req->body || !req->body[req->body_len]));
	CHECK(!req->body_len || req->has_length);
	CHECK(!req->minor || http_field(req, "host"));
}

/* FNV-1a of what the requests are */
static uint64_t mix(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3;
	return h;
}

static uint64_t digest(uint64_t h, const struct http_request *req)
{
	int numbers[] = { req->state, req->status, req->minor, req->keep_alive, req->upgrade, req->has_length };
	unsigned int i;

	h = mix(h, numbers, sizeof(numbers));
	if (req->state != HTTP_DONE)
		return h;
	h = mix(h, req->method, strlen(req->method) + 1);
	h = mix(h, req->path, strlen(req->path) + 1);
	for (i = 0; i < req->nr_fields; i++) {
		h = mix(h, req->field[i].name, strlen(req->field[i].name) + 1);
		h = mix(h, req->field[i].value, strlen(req->field[i].value) + 1);
	}
	return mix(h, req->body, req->body_len);
}

/* All requests of a connection, in pieces of @step bytes */
static uint64_t parse(const uint8_t *data, size_t size, size_t step)
{
	uint64_t h = 0xcbf29ce484222325;
	struct http_request req;
	size_t at = 0, n, used;
	uint8_t *piece;

	http_init(&req);
	while (at < size && req.state != HTTP_FAILED) {
		n = size - at < step ? size - at : step;
		piece = malloc(n);
		CHECK(piece);
		memcpy(piece, data + at, n);
		used = http_feed(&req, piece, n);
		free(piece);
		CHECK(used && used <= n && (used == n || req.state >= HTTP_DONE));
		check(&req);
		at += used;
		if (req.state < HTTP_DONE)
			continue;
		h = digest(h, &req);
		if (req.state == HTTP_DONE)
			http_free(&req);
	}
	h = digest(h, &req);
	http_free(&req);
	return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	char text[64], copy[64];
	size_t n;

	if (!size)
		return 0;
	CHECK(parse(input + 1, size - 1, size) == parse(input + 1, size - 1, input[0] % 64 + 1));
	n = size - 1 < sizeof(text) - 1 ? size - 1 : sizeof(text) - 1;
	memcpy(text, input + 1, n);
	text[n] = 0;
	memcpy(copy, text, sizeof(text));
	if (http_decode(copy))
		CHECK(strlen(copy) <= strlen(text));
	http_has_token(text, "close");
	return 0;
}

#ifdef REPLAY
#include "random.h"
#include "replay.h"
#endif
