// SPDX-License-Identifier: GPL-2.0
/*
 * What can be asked for at the control socket: a table of routes, each a
 * method, a path and what answers it.  docs/openapi.yaml describes the same;
 * a test compares the two.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_conn.h"

#define API		"/api/v1"
#define NAMES_MAX	2	/* in one path */
#define ALLOW_MAX	128

static void error(struct control_conn *conn, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void error(struct control_conn *conn, int err, const char *fmt, ...)
{
	char why[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	conn_error(conn, conn_errno_status(err), err, why, NULL);
}

/* The source that a path names, or the first of a kind that has only one. */
static struct control_source *find(struct control_conn *conn,
				   const struct control_route *route,
				   char **names)
{
	struct control_source *src;

	src = names[0] ? control_find(route->kind, names[0]) :
			 control_first(route->kind);
	if (src)
		return src;
	if (names[0])
		error(conn, -ENOENT, "no %s '%.128s'", route->kind, names[0]);
	else
		error(conn, -ENOENT, "this machine has no %s", route->kind);
	return NULL;
}

/* A source's status, with its name first. */
static json_t *describe(const struct control_source *src)
{
	json_t *obj = json_pack("{s:s}", "name", src->name);
	json_t *status = src->status ? src->status(src->arg) : json_object();

	if (!obj || !status || json_object_update(obj, status)) {
		json_decref(obj);
		obj = NULL;
	}
	json_decref(status);
	return obj;
}

static json_t *describe_all(const char *kind)
{
	json_t *list = json_array();
	struct control_source *src;

	for (src = control_first(kind); src; src = control_next(src))
		if (json_array_append_new(list, describe(src))) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* Handlers. */

static void get_status(struct control_conn *conn,
		       const struct control_route *route, char **names)
{
	struct control_source *src = find(conn, route, names);
	json_t *obj;

	if (!src)
		return;
	obj = describe(src);
	for (src = control_first(NULL); obj && src; src = src->next) {
		json_t *list = json_object_get(obj, src->kind);

		if (!strcmp(src->kind, "vm"))
			continue;
		if (!list && !json_object_set_new(obj, src->kind, json_array()))
			list = json_object_get(obj, src->kind);
		if (json_array_append_new(list, json_string(src->name))) {
			json_decref(obj);
			obj = NULL;
		}
	}
	conn_answer_json(conn, obj);
}

static void get_one(struct control_conn *conn,
		    const struct control_route *route, char **names)
{
	struct control_source *src = find(conn, route, names);

	if (src)
		conn_answer_json(conn, describe(src));
}

static void get_all(struct control_conn *conn,
		    const struct control_route *route, char **names)
{
	(void)names;
	conn_answer_json(conn, describe_all(route->kind));
}

static void get_stats(struct control_conn *conn,
		      const struct control_route *route, char **names)
{
	(void)route;
	(void)names;
	conn_answer_json(conn, metrics_json());
}

static void get_metrics(struct control_conn *conn,
			const struct control_route *route, char **names)
{
	struct http_answer answer = {
		.status = 200, .type = "text/plain; version=0.0.4; charset=utf-8",
	};
	struct control_source *vm = find(conn, route, names);
	char *text;

	if (!vm)
		return;
	text = metrics_text(vm->name, &answer.len);
	if (text)
		conn_answer(conn, &answer, text);
	else
		error(conn, -ENOMEM, "out of memory");
	free(text);
}

static void get_events(struct control_conn *conn,
		       const struct control_route *route, char **names)
{
	struct control_source *vm = find(conn, route, names);
	bool sse = http_has_token(http_field(&conn->req, "Accept"),
				  "text/event-stream");
	json_t *status, *obj = NULL;
	char *text = NULL;

	if (!vm)
		return;
	/* What the events that follow start from. */
	status = describe(vm);
	if (status)
		obj = json_pack("{s:s, s:O*}", "event", "connected", "state",
				json_object_get(status, "state"));
	if (obj)
		text = json_dumps(obj, JSON_COMPACT);
	json_decref(obj);
	json_decref(status);
	if (text)
		conn_listen(conn, sse ? EVENTS_SSE : EVENTS_LINES, "connected",
			    text);
	else
		error(conn, -ENOMEM, "out of memory");
	free(text);
}

static void get_attach(struct control_conn *conn,
		       const struct control_route *route, char **names)
{
	struct control_source *src = find(conn, route, names);
	const char *protocol = route->command;
	char why[128], field[64];
	int ret;

	if (!src)
		return;
	if (!conn->req.upgrade ||
	    !http_has_token(http_field(&conn->req, "Upgrade"), protocol)) {
		snprintf(why, sizeof(why), "ask for an upgrade of the connection to %s",
			 protocol);
		snprintf(field, sizeof(field), "Upgrade: %s\r\n", protocol);
		conn_error(conn, 426, 0, why, field);
		return;
	}
	if (conn->in_len) {
		conn_error(conn, 400, 0, "wait for the upgrade before sending more",
			   NULL);
		return;
	}
	ret = src->attach ? src->attach(src->arg, -1) : -EOPNOTSUPP;
	if (!ret)
		conn_upgrade(conn, src, protocol);
	else if (ret == -EBUSY)
		error(conn, ret, "%s %s is in use", src->kind, src->name);
	else
		error(conn, ret, "console %s cannot be reached here: see its 'path'",
		      src->name);
}

static void run_command(struct control_conn *conn,
			const struct control_route *route, char **names)
{
	struct control_source *src = find(conn, route, names);
	json_t *params = NULL;
	json_error_t why;

	if (!src)
		return;
	if (conn->req.body) {
		params = json_loadb(conn->req.body, conn->req.body_len,
				    JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL,
				    &why);
		if (!params) {
			error(conn, -EINVAL, "the body is no JSON: %s (line %d, column %d)",
			      why.text, why.line, why.column);
			return;
		}
	}
	conn_call(conn, src, route->command, params);
	json_decref(params);
}

/* The same, for commands that say nothing without a body. */
static void run_with_body(struct control_conn *conn,
			  const struct control_route *route, char **names)
{
	if (!conn->req.has_length)
		conn_error(conn, 411, 0, "a JSON object is needed as the body",
			   NULL);
	else
		run_command(conn, route, names);
}

static const struct control_route routes[] = {
	{ "GET", API "/status", get_status, "vm", NULL },
	{ "GET", API "/stats", get_stats, NULL, NULL },
	{ "GET", API "/metrics", get_metrics, "vm", NULL },
	{ "GET", API "/events", get_events, "vm", NULL },
	{ "POST", API "/pause", run_command, "vm", "pause" },
	{ "POST", API "/resume", run_command, "vm", "resume" },
	{ "POST", API "/powerbutton", run_command, "vm", "powerbutton" },
	{ "POST", API "/reset", run_command, "vm", "reset" },
	{ "POST", API "/stop", run_command, "vm", "stop" },
	{ "GET", API "/balloon", get_one, "balloon", NULL },
	{ "PUT", API "/balloon", run_with_body, "balloon", "target" },
	{ "GET", API "/guest", get_one, "guest", NULL },
	{ "POST", API "/guest/freeze", run_command, "guest", "freeze" },
	{ "POST", API "/guest/thaw", run_command, "guest", "thaw" },
	{ "POST", API "/guest/renew", run_command, "guest", "renew" },
	{ "GET", API "/consoles", get_all, "console", NULL },
	{ "GET", API "/consoles/{console}", get_one, "console", NULL },
	{ "GET", API "/consoles/{console}/attach", get_attach, "console",
	  CONSOLE_PROTOCOL },
	{ "GET", API "/move", get_attach, "mover", MOVE_PROTOCOL },
	{ "GET", API "/migration", get_one, "mover", NULL },
	{ "POST", API "/migration/estimate", run_command, "mover", "estimate" },
	{ "POST", API "/consoles/{console}/resize", run_with_body, "console", "resize" },
	{ "GET", API "/disks", get_all, "disk", NULL },
	{ "GET", API "/disks/{disk}", get_one, "disk", NULL },
	{ "POST", API "/disks/{disk}/resize", run_with_body, "disk", "resize" },
	{ "PUT", API "/disks/{disk}/limits", run_with_body, "disk", "limits" },
	{ "POST", API "/disks/{disk}/snapshot", run_with_body, "disk", "snapshot" },
	{ "POST", API "/disks/{disk}/clone", run_with_body, "disk", "clone" },
	{ "POST", API "/disks/{disk}/freeze", run_command, "disk", "freeze" },
	{ "POST", API "/disks/{disk}/thaw", run_command, "disk", "thaw" },
	{ "POST", API "/disks/{disk}/switch", run_with_body, "disk", "switch" },
	{ "GET", API "/nets", get_all, "net", NULL },
	{ "GET", API "/nets/{net}", get_one, "net", NULL },
	{ "PUT", API "/nets/{net}/limits", run_with_body, "net", "limit" },
	{ "PUT", API "/nets/{net}/link", run_with_body, "net", "link" },
	{ "POST", API "/nets/{net}/announce", run_command, "net", "announce" },
	{ "GET", API "/vcpus", get_all, "vcpu", NULL },
};

const struct control_route *control_routes(unsigned int *nr)
{
	*nr = ARRAY_SIZE(routes);
	return routes;
}

/* Dispatch. */

/* @path is cut into the names that stand for "{...}". */
static bool match(const char *pattern, char *path, char **names)
{
	unsigned int nr = 0;
	size_t len;

	memset(names, 0, NAMES_MAX * sizeof(*names));
	while (*pattern && *path) {
		if (*pattern != '{') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		len = strcspn(path, "/");
		if (!len || nr == NAMES_MAX)
			return false;
		names[nr++] = path;
		pattern = strchr(pattern, '}') + 1;
		path += len;
		/* The same '/' or end is looked at next; cut when all matches. */
	}
	return !*pattern && !*path;
}

static bool cut_names(char **names)
{
	unsigned int i;

	for (i = 0; i < NAMES_MAX && names[i]; i++) {
		names[i][strcspn(names[i], "/")] = 0;
		if (!http_decode(names[i]))
			return false;
	}
	return true;
}

static bool known_method(const char *method)
{
	static const char * const known[] = {
		"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS",
		"TRACE", "CONNECT",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(method, known[i]))
			return true;
	return false;
}

static void wrong_method(struct control_conn *conn, const char *allowed)
{
	char extra[ALLOW_MAX + 16];

	if (!known_method(conn->req.method)) {
		conn_error(conn, 501, 0, "unknown method", NULL);
		return;
	}
	snprintf(extra, sizeof(extra), "Allow: %s\r\n", allowed);
	conn_error(conn, 405, 0, "not by this method", extra);
}

void control_dispatch(struct control_conn *conn)
{
	char path[HTTP_TARGET_MAX + 1], allowed[ALLOW_MAX] = "";
	char *names[NAMES_MAX];
	unsigned int i;

	snprintf(path, sizeof(path), "%s", conn->req.path);
	for (i = 0; i < ARRAY_SIZE(routes); i++) {
		const struct control_route *route = &routes[i];
		size_t len = strlen(allowed);

		if (!match(route->path, path, names))
			continue;
		if (strcmp(route->method, conn->req.method)) {
			snprintf(allowed + len, sizeof(allowed) - len, "%s%s",
				 len ? ", " : "", route->method);
			continue;
		}
		if (cut_names(names))
			route->handler(conn, route, names);
		else
			error(conn, -EINVAL, "bad percent encoding");
		return;
	}
	if (allowed[0] || !known_method(conn->req.method))
		wrong_method(conn, allowed);
	else
		error(conn, -ENOENT, "nothing at '%.128s': see openapi.yaml",
		      conn->req.path);
}
