// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for pvhv-run's control socket behind the sockets: connections, routes, JSON, commands, events.
 *
 *   libFuzzer, replay and sources: see control-fuzz.sh
 *
 * Input: steps, each a byte of what and a length: bytes of one of two clients, output taken, commands that end later, events,
 * time-outs, hang-ups. What must hold: every command ends once; answers begin as answers do; a client has no more memory here
 * than its limits; what is finished stays so; all memory is freed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../vmm/control_conn.h"

#define CLIENTS		2
#define PENDING_MAX	CLIENTS
/* An answer here is at most the metrics of these sources; events come on top. */
#define OUT_MAX		(CONN_OUT_HIGH + CONN_EVENTS_MAX + 64 * KIB)

int LLVMFuzzerTestOneInput(const u8 *input, size_t size);

#define CHECK(cond)									\
	do {										\
		if (!(cond)) {								\
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);	\
			abort();							\
		}									\
	} while (0)

static struct control_conn *conn[CLIENTS];
static bool fresh[CLIENTS];		/* nothing was taken of its output yet */
static struct control_call *pending[PENDING_MAX];
static unsigned int nr_pending;

static void now(void *arg, json_t *params, struct control_call *call)
{
	(void)arg;
	CHECK(json_is_object(params));
	control_done(call, json_incref(params));
}

static void refuse(void *arg, json_t *params, struct control_call *call)
{
	const char *path = json_string_value(json_object_get(params, "path"));

	(void)arg;
	CHECK(path && *path);
	control_fail(call, -EEXIST, "%s: is there", path);
}

static void later(void *arg, json_t *params, struct control_call *call)
{
	(void)arg;
	(void)params;
	CHECK(nr_pending < PENDING_MAX);
	pending[nr_pending++] = call;
}

static json_t *status(void *arg)
{
	return json_pack("{s:s}", "state", (char *)arg);
}

static void metrics(void *arg, struct metric_set *set)
{
	(void)arg;
	metric_counter(set, "things_total", "Things", 1);
	metric_label(set, "queue", "0");
	metric_gauge_f(set, "load", "Load", 0.25);
}

static int attach(void *arg, int fd)
{
	(void)arg;
	return fd < 0 ? 0 : -EBUSY;
}

static const struct control_command commands[] = {
	{ "pause", later, { } },
	{ "resume", now, { } },
	{ "stop", later, { } },
	{ "target", now, { { "target", CONTROL_U64, true } } },
	{ "limits", now, { { "iops", CONTROL_U64, false }, { "bps", CONTROL_U64, false } } },
	{ "resize", now, { { "size", CONTROL_U64, true }, { "force", CONTROL_BOOL, false } } },
	{ "snapshot", refuse, { { "path", CONTROL_STRING, true } } },
	{ }
};

static struct control_source sources[] = {
	{ .kind = "vm", .name = "fuzz", .arg = "running", .status = status, .metrics = metrics, .commands = commands },
	{ .kind = "disk", .name = "disk0", .arg = "raw", .status = status, .metrics = metrics, .commands = commands },
	{ .kind = "balloon", .name = "balloon0", .arg = "on", .status = status, .commands = commands },
	{ .kind = "console", .name = "serial", .arg = "control", .status = status, .attach = attach },
};

static void open_client(unsigned int i)
{
	conn[i] = malloc(sizeof(*conn[i]));
	CHECK(conn[i]);
	conn_init(conn[i]);
	fresh[i] = true;
}

static void close_client(unsigned int i)
{
	if (conn[i]->calling)
		return;
	conn_free(conn[i]);
	free(conn[i]);
	open_client(i);
}

static void answered(struct control_conn *c)
{
	conn_input(c, NULL, 0);
}

static void check(const struct control_conn *c)
{
	CHECK(c->in_len <= CONN_IN && conn_room(c) <= CONN_IN - c->in_len);
	CHECK(c->out_len <= c->out_cap && (c->out_len <= OUT_MAX || c->broken));
	CHECK(!c->calling || !conn_finished(c) || c->broken);
	CHECK(!c->in_dispatch);
	/* What could go on does */
	CHECK(!c->in_len || c->calling || c->close || c->broken || c->events || c->upgrade || c->out_len);
}

static void take(unsigned int i, size_t len)
{
	struct control_conn *c = conn[i];

	if (!c->out_len)
		return;
	if (fresh[i] && c->out_len >= 9)
		CHECK(!memcmp(c->out, "HTTP/1.1 ", 9));
	fresh[i] = false;
	conn_sent(c, len < c->out_len ? len : c->out_len);
}

static void give(unsigned int i, const u8 *data, size_t len)
{
	size_t room = conn_room(conn[i]);
	u8 *copy;

	if (len > room)
		len = room;
	copy = malloc(len + 1);
	CHECK(copy);
	memcpy(copy, data, len);
	conn_input(conn[i], copy, len);
	free(copy);
}

static void finish_one(bool well)
{
	struct control_call *call;

	if (!nr_pending)
		return;
	call = pending[--nr_pending];
	if (well)
		control_done(call, NULL);
	else
		control_fail(call, -EIO, "broken");
}

static void tell_all(const char *type, json_t *event)
{
	char *text = json_dumps(event, JSON_COMPACT);
	unsigned int i;

	for (i = 0; i < CLIENTS && text; i++)
		conn_event(conn[i], type, text);
	free(text);
}

/* The result: how much of the data it has used */
static size_t step(u8 what, size_t len, const u8 *data, size_t size)
{
	unsigned int i = what & 1;

	switch (what >> 1 & 7) {
	case 0:
	case 1:
	case 2:
		len = len < size ? len : size;
		give(i, data, len);
		return len;
	case 3:
		take(i, len + 1);
		break;
	case 4:
		take(i, SIZE_MAX);
		break;
	case 5:
		finish_one(i);
		break;
	case 6:
		control_event("noise", "{s:i}", "nr", (int)len);
		break;
	case 7:
		if (len & 1)
			conn_eof(conn[i]);
		else if (len & 2)
			conn_timeout(conn[i]);
		else
			close_client(i);
		break;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t size)
{
	unsigned int i;

	if (!control_first(NULL))
		for (i = 0; i < ARRAY_SIZE(sources); i++)
			control_add(&sources[i]);
	conn_answered = answered;
	control_event_sink = tell_all;
	nr_pending = 0;
	for (i = 0; i < CLIENTS; i++)
		open_client(i);
	while (size) {
		size_t used = size < 2 ? size : 2 + step(input[0], input[1], input + 2, size - 2);

		for (i = 0; i < CLIENTS; i++)
			check(conn[i]);
		input += used;
		size -= used;
	}
	while (nr_pending)
		finish_one(true);
	for (i = 0; i < CLIENTS; i++) {
		CHECK(!conn[i]->calling);
		conn_free(conn[i]);
		free(conn[i]);
	}
	return 0;
}

#ifdef REPLAY
#include "random.h"
#include "replay.h"
#endif
