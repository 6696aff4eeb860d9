// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the control socket's parts on any machine: the list of sources, checked commands, metrics as text and JSON, events.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "../vmm/control.h"

/* --- a source ------------------------------------------------------------------------------------------------- */

struct toy {
	u64 size;
	char path[32];
	bool sync;
	unsigned int runs;
	struct control_call *pending;
};

static struct toy toys[2];

static void toy_resize(void *arg, json_t *params, struct control_call *call)
{
	struct toy *toy = arg;
	json_t *path = json_object_get(params, "path"), *sync = json_object_get(params, "sync");

	toy->runs++;
	toy->size = json_integer_value(json_object_get(params, "size"));
	if (path)
		snprintf(toy->path, sizeof(toy->path), "%s", json_string_value(path));
	toy->sync = json_is_true(sync);
	if (!toy->size)
		control_fail(call, -ENOSPC, "no room for %d", 0);
	else
		control_done(call, json_pack("{s:I}", "size", (json_int_t)toy->size));
}

static void toy_later(void *arg, json_t *params, struct control_call *call)
{
	struct toy *toy = arg;

	ASSERT_EQ(json_object_size(params), 0);
	toy->pending = call;
}

static const struct control_command toy_commands[] = {
	{ "resize", toy_resize, { { "size", CONTROL_U64, true }, { "path", CONTROL_STRING, false },
				  { "sync", CONTROL_BOOL, false } } },
	{ "later", toy_later, { } },
	{ }
};

static void toy_metrics(void *arg, struct metric_set *set)
{
	struct toy *toy = arg;

	metric_counter(set, "runs_total", "Commands run", toy->runs);
	metric_gauge_f(set, "load", "Half of it", 0.5);
	metric_label(set, "queue", "1\"\\\n");
	metric_counter(set, "kicks_total", "Kicks", UINT64_MAX / 2);
}

static struct control_source toy_sources[] = {
	{ .kind = "toy", .name = "a", .arg = &toys[0], .metrics = toy_metrics, .commands = toy_commands },
	{ .kind = "toy", .name = "b", .arg = &toys[1], .metrics = toy_metrics, .commands = toy_commands },
	{ .kind = "other", .name = "a" },
};

static void add_toys(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(toy_sources); i++)
		control_add(&toy_sources[i]);
}

static void test_sources(void)
{
	struct control_source *src;

	ASSERT(!control_first(NULL));
	add_toys();
	ASSERT(control_first(NULL) == &toy_sources[0]);
	ASSERT(control_first("other") == &toy_sources[2]);
	ASSERT(!control_first("none"));
	src = control_next(control_first("toy"));
	ASSERT(src == &toy_sources[1]);
	ASSERT(!control_next(src));
	ASSERT(control_find("toy", "b") == &toy_sources[1]);
	ASSERT(control_find("other", "a") == &toy_sources[2]);
	ASSERT(!control_find("other", "b"));
	control_remove(&toy_sources[0]);
	control_remove(&toy_sources[0]);
	ASSERT(control_first(NULL) == &toy_sources[1]);
	ASSERT(!control_find("toy", "a"));
}

/* --- commands ------------------------------------------------------------------------------------------------- */

static int call_err;
static char call_why[600];
static json_t *call_result;
static unsigned int calls_done;

static void call_done(struct control_call *call, json_t *result, int err, const char *why)
{
	calls_done++;
	call_err = err;
	snprintf(call_why, sizeof(call_why), "%s", why ? why : "");
	json_decref(call_result);
	call_result = result;
}

static void run(const char *command, const char *params)
{
	static struct control_call call = { call_done };
	json_t *obj = params ? json_loads(params, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;

	ASSERT(!params || obj);
	control_run(&toy_sources[0], command, obj, &call);
	json_decref(obj);
}

static void test_commands(void)
{
	static const struct {
		const char *command, *params;
		int err;
		const char *why;
	} bad[] = {
		{ "resize", NULL, -EINVAL, "'size' is missing" },
		{ "resize", "{}", -EINVAL, "'size' is missing" },
		{ "resize", "[]", -EINVAL, "the body is no JSON object" },
		{ "resize", "{\"size\":-1}", -EINVAL, "'size' must be a number from 0 on" },
		{ "resize", "{\"size\":1.5}", -EINVAL, "'size' must be a number from 0 on" },
		{ "resize", "{\"size\":\"1\"}", -EINVAL, "'size' must be a number from 0 on" },
		{ "resize", "{\"size\":1,\"siz\":1}", -EINVAL, "unknown member 'siz'" },
		{ "resize", "{\"size\":1,\"path\":\"\"}", -EINVAL, "'path' must be a string" },
		{ "resize", "{\"size\":1,\"path\":\"a\\u0000b\"}", -EINVAL, "'path' must be a string" },
		{ "resize", "{\"size\":1,\"sync\":0}", -EINVAL, "'sync' must be true or false" },
		{ "resize", "{\"size\":0}", -ENOSPC, "no room for 0" },
		{ "shrink", "{}", -EOPNOTSUPP, "toy a cannot do that: shrink" },
		{ "later", "{\"x\":1}", -EINVAL, "unknown member 'x'" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		run(bad[i].command, bad[i].params);
		ASSERT_EQ(calls_done, i + 1);
		ASSERT_EQ(call_err, bad[i].err);
		ASSERT_MSG(!strcmp(call_why, bad[i].why), "%s %s: %s", bad[i].command, bad[i].params, call_why);
	}
	ASSERT_EQ(toys[0].runs, 1);
	run("resize", "{\"size\":9223372036854775807,\"path\":\"/x\",\"sync\":true}");
	ASSERT_EQ(call_err, 0);
	ASSERT_EQ(json_integer_value(json_object_get(call_result, "size")), INT64_MAX);
	ASSERT_EQ(toys[0].size, INT64_MAX);
	ASSERT(!strcmp(toys[0].path, "/x") && toys[0].sync);
	/* Answered later */
	calls_done = 0;
	run("later", NULL);
	ASSERT_EQ(calls_done, 0);
	control_done(toys[0].pending, NULL);
	ASSERT_EQ(calls_done, 1);
	ASSERT(call_err == 0 && !call_result);
}

/* --- metrics -------------------------------------------------------------------------------------------------- */

static void test_metrics(void)
{
	static const char expect[] =
		"# HELP pvhv_toy_runs_total Commands run\n"
		"# TYPE pvhv_toy_runs_total counter\n"
		"pvhv_toy_runs_total{vm=\"v\\\"\",toy=\"a\"} 7\n"
		"pvhv_toy_runs_total{vm=\"v\\\"\",toy=\"b\"} 0\n"
		"# HELP pvhv_toy_load Half of it\n"
		"# TYPE pvhv_toy_load gauge\n"
		"pvhv_toy_load{vm=\"v\\\"\",toy=\"a\"} 0.5\n"
		"pvhv_toy_load{vm=\"v\\\"\",toy=\"b\"} 0.5\n"
		"# HELP pvhv_toy_kicks_total Kicks\n"
		"# TYPE pvhv_toy_kicks_total counter\n"
		"pvhv_toy_kicks_total{vm=\"v\\\"\",toy=\"a\",queue=\"1\\\"\\\\\\n\"} 9223372036854775807\n"
		"pvhv_toy_kicks_total{vm=\"v\\\"\",toy=\"b\",queue=\"1\\\"\\\\\\n\"} 9223372036854775807\n";
	json_t *obj, *a;
	size_t len;
	char *text;

	text = metrics_text("v", &len);
	ASSERT(text && !len);
	free(text);
	add_toys();
	toys[0].runs = 7;
	text = metrics_text("v\"", &len);
	ASSERT(text);
	ASSERT_MSG(len == strlen(expect) && !strcmp(text, expect), "%s", text);
	free(text);
	obj = metrics_json();
	a = json_object_get(json_object_get(obj, "toy"), "a");
	ASSERT_EQ(json_integer_value(json_object_get(a, "runs_total")), 7);
	ASSERT(json_real_value(json_object_get(a, "load")) == 0.5);
	a = json_object_get(json_object_get(a, "queue"), "1\"\\\n");
	ASSERT_EQ(json_integer_value(json_object_get(a, "kicks_total")), INT64_MAX);
	ASSERT_EQ(json_object_size(obj), 1);
	json_decref(obj);
}

/* --- events --------------------------------------------------------------------------------------------------- */

static char *event_text;
static char event_type[32];

static void keep_event(const char *type, json_t *event)
{
	snprintf(event_type, sizeof(event_type), "%s", type);
	free(event_text);
	event_text = json_dumps(event, JSON_COMPACT | JSON_SORT_KEYS);
}

static void test_events(void)
{
	control_event("unheard", "{s:s}", "a", "b");
	control_event_sink = keep_event;
	control_event("disk-error", "{s:s,s:i}", "disk", "disk0", "errno", 5);
	ASSERT(!strcmp(event_type, "disk-error"));
	ASSERT(!strcmp(event_text, "{\"disk\":\"disk0\",\"errno\":5}"));
	/* No UTF-8 */
	control_event("odd", "{s:s}", "path", "\xff\xfe");
	ASSERT(!strcmp(event_type, "odd") && !strcmp(event_text, "{}"));
	free(event_text);
	control_event_sink = NULL;
}

static const struct tap_test tests[] = {
	TEST(sources),
	TEST(commands),
	TEST(metrics),
	TEST(events),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
