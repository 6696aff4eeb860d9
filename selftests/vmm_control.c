// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the control socket on any machine with io_uring: the list of sources, checked commands, metrics as text and JSON;
 * and, with sources that stand for a machine, the socket itself: every kind of answer, pipelines, commands that take time,
 * clients that hang up, dawdle, or never read, more clients than there is room for, events, the handed-over console, the
 * socket's file; and that docs/openapi.yaml has the routes that the program has.
 */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "../vmm/control_conn.h"

static char last_line[1100];
static int lines;

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
	lines++;
}

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

/* --- the socket: a server thread with sources of its own, and this thread as its clients ----------------------- */

#define PATIENCE_MS	10000

static char sock_path[64];
static pthread_t server;
static atomic_int server_do;
static int attached = -1;

enum { DO_NOTHING, DO_QUIT, DO_EVENT, DO_EVENTS, DO_FINISH };

static json_t *vm_status(void *arg)
{
	return json_pack("{s:s, s:i}", "state", "running", "cpus", 2);
}

static void run_pause(void *arg, json_t *params, struct control_call *call)
{
	toys[0].runs++;
	control_done(call, NULL);
}

static void run_reset(void *arg, json_t *params, struct control_call *call)
{
	toys[1].pending = call;
}

static void run_stop(void *arg, json_t *params, struct control_call *call)
{
	control_fail(call, -EBUSY, "not \xff now");
}

static const struct control_command vm_commands[] = {
	{ "pause", run_pause, { } },
	{ "reset", run_reset, { } },
	{ "stop", run_stop, { } },
	{ }
};

static json_t *disk_status(void *arg)
{
	return json_pack("{s:I}", "size", (json_int_t)toys[0].size);
}

static int console_attach(void *arg, int fd)
{
	if (attached >= 0)
		return -EBUSY;
	if (fd >= 0)
		attached = fd;
	return 0;
}

static struct control_source server_sources[] = {
	{ .kind = "vm", .name = "test", .status = vm_status, .metrics = toy_metrics, .arg = &toys[0], .commands = vm_commands },
	{ .kind = "disk", .name = "a b", .status = disk_status, .arg = &toys[0], .commands = toy_commands },
	{ .kind = "disk", .name = "c", .status = disk_status, .arg = &toys[0] },
	{ .kind = "console", .name = "serial", .attach = console_attach },
	{ .kind = "console", .name = "other" },
};

static void woken(void *arg)
{
	int what = atomic_exchange(&server_do, DO_NOTHING), i;

	switch (what) {
	case DO_QUIT:
		loop_quit();
		break;
	case DO_EVENT:
		control_event("paused", "{s:s}", "by", "test");
		break;
	case DO_EVENTS:
		for (i = 0; i < 1000; i++)
			control_event("noise", "{s:i}", "nr", i);
		break;
	case DO_FINISH:
		control_done(toys[1].pending, json_pack("{s:b}", "late", 1));
		break;
	}
}

static int start_result;
static pthread_barrier_t started;

static void *serve(void *arg)
{
	unsigned int i;

	ASSERT_EQ(loop_init(woken, NULL), 0);
	for (i = 0; i < ARRAY_SIZE(server_sources); i++)
		control_add(&server_sources[i]);
	start_result = control_open("--control", sock_path);
	pthread_barrier_wait(&started);
	if (!start_result)
		loop_run();
	control_close();
	loop_fini();
	control_destroy();
	return NULL;
}

static void start(void)
{
	if (!sock_path[0])
		snprintf(sock_path, sizeof(sock_path), "/tmp/pvhv-control.%d", getpid());
	pthread_barrier_init(&started, NULL, 2);
	ASSERT_EQ(pthread_create(&server, NULL, serve, NULL), 0);
	pthread_barrier_wait(&started);
	ASSERT_EQ(start_result, 0);
}

static void tell(int what)
{
	atomic_store(&server_do, what);
	loop_wake();
}

static void stop(void)
{
	tell(DO_QUIT);
	ASSERT_EQ(pthread_join(server, NULL), 0);
	ASSERT(access(sock_path, F_OK) && errno == ENOENT);
}

static int client(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = ASSERT_OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

	strcpy(addr.sun_path, sock_path);
	ASSERT_OK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	return fd;
}

static void say(int fd, const char *text)
{
	ASSERT_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static char heard[256 * 1024];

/* Reads until @end is there, or the connection's end for NULL; what came in is in heard */
static void hear(int fd, const char *end)
{
	size_t len = 0;
	ssize_t n;

	heard[0] = 0;
	while (!end || !strstr(heard, end)) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };

		ASSERT_MSG(poll(&pfd, 1, PATIENCE_MS) == 1, "no '%s' in: %s", end ? end : "end", heard);
		n = recv(fd, heard + len, sizeof(heard) - 1 - len, 0);
		ASSERT_MSG(n >= 0, "%s after: %s", strerror(errno), heard);
		ASSERT_MSG(n || !end, "end instead of '%s' after: %s", end, heard);
		if (!n)
			return;
		len += n;
		heard[len] = 0;
		ASSERT_LT(len, sizeof(heard) - 1);
	}
}

/* One request on a connection of its own; the answer's status, its text is in heard */
static int ask(const char *request, const char *body)
{
	int fd = client();
	char text[4096];

	if (body)
		snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", request,
			 strlen(body), body);
	else
		snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", request);
	say(fd, text);
	hear(fd, NULL);
	close(fd);
	ASSERT(!strncmp(heard, "HTTP/1.1 ", 9) && strstr(heard, "\r\n\r\n"));
	return atoi(heard + 9);
}

#define ANSWER(request, body, status, part)							\
	do {											\
		int s_ = ask(request, body);							\
		ASSERT_MSG(s_ == (status), "%s: %s", request, heard);				\
		ASSERT_MSG(strstr(heard, part), "%s: no '%s' in %s", request, part, heard);	\
	} while (0)

static void test_answers(void)
{
	struct stat st;

	start();
	ASSERT_OK(stat(sock_path, &st));
	ASSERT_EQ(st.st_mode & 0777, 0600);
	ANSWER("GET /api/v1/status", NULL, 200,
	       "{\"name\":\"test\",\"state\":\"running\",\"cpus\":2,\"disk\":[\"a b\",\"c\"],\"console\":[\"serial\",\"other\"]}\n");
	ANSWER("GET /api/v1/stats", NULL, 200, "{\"vm\":{\"test\":{\"runs_total\":0,");
	ANSWER("GET /api/v1/metrics", NULL, 200, "\npvhv_vm_runs_total{vm=\"test\"} 0\n");
	ASSERT(strstr(heard, "Content-Type: text/plain; version=0.0.4"));
	ANSWER("POST /api/v1/pause", NULL, 200, "\r\n\r\n{}\n");
	ASSERT_EQ(toys[0].runs, 1);
	ANSWER("POST /api/v1/pause", "{}", 200, "{}\n");
	ANSWER("POST /api/v1/pause", "{\"hard\":1}", 400, "{\"error\":\"unknown member 'hard'\",\"errno\":\"EINVAL\"}\n");
	ANSWER("POST /api/v1/pause", "nonsense", 400, "the body is no JSON");
	ANSWER("POST /api/v1/pause", "{\"a\":1,\"a\":2}", 400, "duplicate");
	ANSWER("POST /api/v1/stop", NULL, 409, "{\"error\":\"not ? now\",\"errno\":\"EBUSY\"}\n");
	ANSWER("POST /api/v1/resume", NULL, 501, "vm test cannot do that: resume");
	ANSWER("GET /api/v1/balloon", NULL, 404, "this machine has no balloon");
	ANSWER("GET /api/v1/disks", NULL, 200, "[{\"name\":\"a b\",\"size\":0},{\"name\":\"c\",\"size\":0}]\n");
	ANSWER("GET /api/v1/disks/c?x=y", NULL, 200, "{\"name\":\"c\",\"size\":0}\n");
	ANSWER("GET /api/v1/disks/%63", NULL, 200, "{\"name\":\"c\",\"size\":0}\n");
	ANSWER("GET /api/v1/disks/d%22", NULL, 404, "no disk 'd\\\"'");
	ANSWER("GET /api/v1/disks/%zz", NULL, 400, "bad percent encoding");
	ANSWER("GET /api/v1/disks/", NULL, 404, "nothing at");
	ANSWER("POST /api/v1/disks/a%20b/resize", "{\"size\":4096}", 200, "{\"size\":4096}\n");
	ANSWER("POST /api/v1/disks/a%20b/resize", "", 400, "'size' is missing");
	ANSWER("POST /api/v1/disks/a%20b/resize", "{\"size\":0}", 507, "ENOSPC");
	ANSWER("POST /api/v1/disks/a%20b/resize", NULL, 411, "a JSON object is needed");
	ANSWER("POST /api/v1/disks/c/resize", "{\"size\":4096}", 501, "disk c cannot do that");
	ANSWER("PUT /api/v1/disks/c/resize", "{}", 405, "\r\nAllow: POST\r\n");
	ANSWER("DELETE /api/v1/balloon", NULL, 405, "\r\nAllow: GET, PUT\r\n");
	ANSWER("BREW /api/v1/status", NULL, 501, "unknown method");
	ANSWER("GET /", NULL, 404, "nothing at '/'");
	ANSWER("GET /api/v1/consoles/serial/attach", NULL, 426, "\r\nUpgrade: pvhv-console\r\n");
	ANSWER("nonsense", NULL, 400, "no HTTP request");
	stop();
}

static unsigned int count(const char *text, const char *what)
{
	unsigned int nr = 0;

	for (; (text = strstr(text, what)); text++)
		nr++;
	return nr;
}

#define GET_DISK	"GET /api/v1/disks/c HTTP/1.1\r\nHost: x\r\n\r\n"

static void test_connections(void)
{
	int fd, i;

	start();
	/* Kept open, byte by byte */
	fd = client();
	for (i = 0; GET_DISK[i]; i++)
		ASSERT_EQ(send(fd, GET_DISK + i, 1, 0), 1);
	hear(fd, "\"size\":0}\n");
	/* Several at once, the last of them the last */
	say(fd, GET_DISK "POST /api/v1/pause HTTP/1.1\r\nHost: x\r\n\r\n" GET_DISK
		"GET /api/v1/disks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" GET_DISK);
	hear(fd, NULL);
	ASSERT_EQ(count(heard, "HTTP/1.1 200"), 4);
	ASSERT_EQ(count(heard, "{\"name\":\"c\""), 3);
	close(fd);
	/* A client that has said all it will say, as nc does */
	fd = client();
	say(fd, GET_DISK GET_DISK);
	shutdown(fd, SHUT_WR);
	hear(fd, NULL);
	ASSERT_EQ(count(heard, "HTTP/1.1 200"), 2);
	close(fd);
	/* 100-continue, chunks, and HTTP/1.0 */
	fd = client();
	say(fd, "POST /api/v1/disks/a%20b/resize HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
	hear(fd, "HTTP/1.1 100 Continue\r\n\r\n");
	say(fd, "5\r\n{\"siz\r\n5\r\ne\":1}\r\n0\r\n\r\n");
	hear(fd, "{\"size\":1}\n");
	say(fd, "GET /api/v1/disks/c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	hear(fd, "\"size\":1}\n");
	ASSERT(strstr(heard, "\r\nConnection: keep-alive\r\n"));
	say(fd, "GET /api/v1/disks/c HTTP/1.0\r\n\r\n");
	hear(fd, NULL);
	ASSERT(strstr(heard, "\r\nConnection: close\r\n") && strstr(heard, "\"size\":1}\n"));
	close(fd);
	/* Nonsense ends the connection, after the answer */
	fd = client();
	say(fd, GET_DISK "GET / HTTP/7.1\r\n\r\n" GET_DISK);
	hear(fd, NULL);
	ASSERT_EQ(count(heard, "HTTP/1.1 200"), 1);
	ASSERT(strstr(heard, "HTTP/1.1 505"));
	close(fd);
	stop();
}

static void test_later(void)
{
	int fd, other;

	start();
	fd = client();
	say(fd, "POST /api/v1/reset HTTP/1.1\r\nHost: x\r\n\r\n" GET_DISK);
	/* Others are served meanwhile */
	ANSWER("GET /api/v1/status", NULL, 200, "running");
	tell(DO_FINISH);
	hear(fd, "\"size\":0}\n");
	ASSERT(strstr(heard, "{\"late\":true}\n"));
	ASSERT_EQ(count(heard, "HTTP/1.1 200"), 2);
	close(fd);
	/* A client that hangs up before the answer, and one that the server leaves without */
	fd = client();
	say(fd, "POST /api/v1/reset HTTP/1.1\r\nHost: x\r\n\r\n");
	ANSWER("GET /api/v1/status", NULL, 200, "running");
	close(fd);
	ANSWER("GET /api/v1/status", NULL, 200, "running");
	tell(DO_FINISH);
	ANSWER("GET /api/v1/status", NULL, 200, "running");
	other = client();
	say(other, "POST /api/v1/reset HTTP/1.1\r\nHost: x\r\n\r\n");
	ANSWER("GET /api/v1/status", NULL, 200, "running");
	stop();
	hear(other, NULL);
	ASSERT(!heard[0]);
}

/* Sends for as long as it can without waiting; the bytes */
static size_t stuff(int fd, const char *text)
{
	size_t sum = 0, len = strlen(text);
	ssize_t n;
	int idle = 0;

	while (idle < 200) {
		n = send(fd, text + sum % len, len - sum % len, MSG_DONTWAIT | MSG_NOSIGNAL);
		ASSERT(n > 0 || errno == EAGAIN);
		if (n > 0) {
			sum += n;
			idle = 0;
		} else {
			usleep(1000);
			idle++;
		}
	}
	return sum;
}

static void test_never_reads(void)
{
	struct mallinfo2 before, after;
	size_t sent;
	int fd;

	start();
	ANSWER("GET /api/v1/status", NULL, 200, "running");
	before = mallinfo2();
	fd = client();
	sent = stuff(fd, "GET /api/v1/metrics HTTP/1.1\r\nHost: x\r\n\r\n");
	after = mallinfo2();
	tap_diag("%zu bytes of requests taken, %zd bytes of memory", sent, after.uordblks - before.uordblks);
	ASSERT_LT(sent, 1 << 20);
	ASSERT_LT(after.uordblks - before.uordblks, 256 * 1024);
	ANSWER("GET /api/v1/status", NULL, 200, "running");
	close(fd);
	stop();
}

static void test_crowd(void)
{
	int fds[16], fd, i;

	start();
	for (i = 0; i < 16; i++) {
		fds[i] = client();
		say(fds[i], GET_DISK);
		hear(fds[i], "\"size\":0}\n");
	}
	/* One of the idle ones goes for it */
	fd = client();
	say(fd, GET_DISK);
	hear(fd, "\"size\":0}\n");
	for (i = 0; i < 16; i++) {
		struct pollfd pfd = { .fd = fds[i], .events = POLLIN };

		if (poll(&pfd, 1, 0) == 1)
			break;
	}
	ASSERT_LT(i, 16);
	hear(fds[i], NULL);
	close(fds[i]);
	fds[i] = fd;
	/* None is idle */
	for (i = 0; i < 16; i++)
		say(fds[i], "GET ");
	usleep(100000);
	fd = client();
	hear(fd, NULL);
	ASSERT(!strncmp(heard, "HTTP/1.1 503 ", 13));
	close(fd);
	close(fds[3]);
	/* The server sees that when it next looks */
	for (i = 0; i < 1000; i++) {
		fd = client();
		say(fd, GET_DISK);
		hear(fd, "\r\n\r\n");
		close(fd);
		if (!strncmp(heard, "HTTP/1.1 200 ", 13))
			break;
		usleep(10000);
	}
	ASSERT_LT(i, 1000);
	stop();
}

static void test_slow(void)
{
	int half, idle, fd;

	start();
	half = client();
	say(half, "GET /api/v1/sta");
	idle = client();
	ANSWER("GET /api/v1/status", NULL, 200, "running");
	/* The request has its time and no more; who is between requests may wait longer */
	for (fd = 0; fd < 30; fd++) {
		struct pollfd pfd = { .fd = half, .events = POLLIN };

		if (poll(&pfd, 1, 1000) == 1)
			break;
	}
	ASSERT_GT(fd, 10);
	hear(half, NULL);
	ASSERT(!strncmp(heard, "HTTP/1.1 408 ", 13));
	say(idle, GET_DISK);
	hear(idle, "\"size\":0}\n");
	stop();
}

static void test_event_stream(void)
{
	int plain, sse, deaf, fd[8], i;

	start();
	plain = client();
	say(plain, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
	hear(plain, "{\"event\":\"connected\",\"state\":\"running\"}\n");
	ASSERT(strstr(heard, "Content-Type: application/x-ndjson\r\n") && strstr(heard, "Connection: close\r\n"));
	sse = client();
	say(sse, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
	hear(sse, "event: connected\ndata: {\"event\":\"connected\",\"state\":\"running\"}\n\n");
	shutdown(sse, SHUT_WR);
	tell(DO_EVENT);
	hear(plain, "\"by\":\"test\"}\n");
	ASSERT(!strncmp(heard, "{\"event\":\"paused\",\"sequence\":1,\"time\":1", 37));
	hear(sse, "\"by\":\"test\"}\n\n");
	ASSERT(!strncmp(heard, "event: paused\ndata: {\"event\":\"paused\"", 36));
	/* One that does not read is left behind, in time */
	deaf = client();
	say(deaf, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
	hear(deaf, "connected");
	for (i = 0; i < 100; i++) {
		tell(DO_EVENTS);
		hear(plain, "\"nr\":999}\n");
		hear(sse, "\"nr\":999}\n");
	}
	for (i = 0; recv(deaf, heard, sizeof(heard), MSG_DONTWAIT) > 0; i++)
		;
	ASSERT_MSG(recv(deaf, heard, sizeof(heard), MSG_DONTWAIT) == 0, "it is still served");
	tell(DO_EVENT);
	hear(plain, "\"by\":\"test\"}\n");
	ASSERT(strstr(heard, "\"sequence\":100002,"));
	close(deaf);
	/* A limited number of them */
	for (i = 0; i < 8; i++) {
		fd[i] = client();
		say(fd[i], "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
		hear(fd[i], "}\n");
	}
	ASSERT(strstr(heard, "HTTP/1.1 503 ") && strstr(heard, "too many clients listen"));
	for (i = 0; i < 8; i++)
		close(fd[i]);
	/* The end of the server is theirs */
	stop();
	hear(plain, NULL);
	hear(sse, NULL);
}

#define ATTACH	"GET /api/v1/consoles/%s/attach HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: pvhv-console\r\n\r\n"

static void ask_attach(int fd, const char *name, const char *more)
{
	char text[256];

	snprintf(text, sizeof(text), ATTACH "%s", name, more);
	say(fd, text);
}

static void test_console(void)
{
	int fd, second;

	start();
	fd = client();
	ask_attach(fd, "other", "");
	hear(fd, "cannot be reached here");
	ask_attach(fd, "serial", "early");
	hear(fd, "wait for the upgrade");
	close(fd);
	fd = client();
	ask_attach(fd, "serial", "");
	hear(fd, "\r\n\r\n");
	ASSERT(!strncmp(heard, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: pvhv-console\r\n\r\n", 82));
	while (!__atomic_load_n(&attached, __ATOMIC_SEQ_CST) || attached < 0)
		usleep(1000);
	say(fd, "to the guest");
	ASSERT_EQ(read(attached, heard, sizeof(heard)), 12);
	ASSERT(!memcmp(heard, "to the guest", 12));
	say(attached, "from the guest");
	hear(fd, "from the guest");
	second = client();
	ask_attach(second, "serial", "");
	hear(second, "}\n");
	ASSERT(strstr(heard, "HTTP/1.1 409 ") && strstr(heard, "console serial is in use"));
	/* It outlives the server: it is not the server's any more */
	stop();
	say(attached, "still there");
	hear(fd, "still there");
}

static void test_socket_file(void)
{
	char other[sizeof(sock_path) + 2];
	struct usock sock;
	int fd;

	start();
	/* In use */
	ASSERT_EQ(usock_listen(&sock, "--control", sock_path, 1), -EADDRINUSE);
	ASSERT_EQ(lines, 1);
	ASSERT(strstr(last_line, "in use by a process that runs"));
	ANSWER("GET /api/v1/status", NULL, 200, "running");
	stop();
	/* Left by a dead process */
	{
		struct sockaddr_un addr = { .sun_family = AF_UNIX };

		strcpy(addr.sun_path, sock_path);
		fd = ASSERT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
		ASSERT_OK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
		close(fd);
	}
	start();
	ANSWER("GET /api/v1/status", NULL, 200, "running");
	stop();
	/* No socket, no directory, no name, too long */
	fd = ASSERT_OK(open(sock_path, O_CREAT | O_WRONLY, 0600));
	close(fd);
	ASSERT_EQ(usock_listen(&sock, "--control", sock_path, 1), -EEXIST);
	ASSERT(strstr(last_line, "no socket"));
	unlink(sock_path);
	snprintf(other, sizeof(other), "%s/x", sock_path);
	ASSERT_EQ(usock_listen(&sock, "--control", other, 1), -ENOENT);
	ASSERT_EQ(usock_listen(&sock, "--control", "/tmp/", 1), -EINVAL);
	ASSERT_EQ(usock_listen(&sock, "--control", "/tmp/0123456789012345678901234567890123456789012345678901234567890123456789"
						"0123456789012345678901234567890123456789", 1), -ENAMETOOLONG);
	ASSERT_EQ(lines, 5);
}

/* --- docs/openapi.yaml ---------------------------------------------------------------------------------------- */

static char *openapi(void)
{
	char path[PATH_MAX], *text;
	ssize_t n = ASSERT_OK(readlink("/proc/self/exe", path, sizeof(path) - 32));
	FILE *f;

	path[n] = 0;
	strcpy(strrchr(path, '/'), "/../docs/openapi.yaml");
	f = fopen(path, "r");
	if (!f)
		SKIP("no %s", path);
	text = calloc(1, 1 << 20);
	n = fread(text, 1, (1 << 20) - 1, f);
	ASSERT_GT(n, 0);
	fclose(f);
	return text;
}

static bool is_route(const char *path, const char *method)
{
	const struct control_route *routes;
	unsigned int nr, i;

	routes = control_routes(&nr);
	for (i = 0; i < nr; i++)
		if (!strcmp(routes[i].path, path) && !strcasecmp(routes[i].method, method))
			return true;
	return false;
}

/* Paths are two blanks in, methods four */
static void test_openapi(void)
{
	static const char * const methods[] = { "get", "put", "post", "delete", "patch", "head", "options" };
	char *text = openapi(), *line, *next, path[256] = "", *colon;
	unsigned int nr, found = 0, i;
	bool in_paths = false;

	for (line = text; *line; line = next) {
		next = strchrnul(line, '\n');
		if (*next)
			*next++ = 0;
		if (line[0] != ' ' && line[0])
			in_paths = !strcmp(line, "paths:");
		colon = strchr(line, ':');
		if (!in_paths || !colon)
			continue;
		*colon = 0;
		if (!strncmp(line, "  /", 3))
			snprintf(path, sizeof(path), "%s", line + 2);
		for (i = 0; i < ARRAY_SIZE(methods) && !strncmp(line, "    ", 4); i++) {
			if (strcmp(line + 4, methods[i]))
				continue;
			ASSERT_MSG(is_route(path, methods[i]), "openapi.yaml has %s %s, the program has not", methods[i], path);
			found++;
		}
	}
	control_routes(&nr);
	ASSERT_MSG(found == nr, "the program has %u routes, openapi.yaml %u", nr, found);
	free(text);
}

static const struct tap_test tests[] = {
	TEST(sources),
	TEST(commands),
	TEST(metrics),
	TEST(events),
	TEST(answers),
	TEST(connections),
	TEST(later),
	TEST(never_reads),
	TEST(crowd),
	TEST_TIMEOUT(slow, 60),
	TEST(event_stream),
	TEST(console),
	TEST(socket_file),
	TEST(openapi),
};

int main(int argc, char **argv)
{
	fail_sink = keep_line;
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
