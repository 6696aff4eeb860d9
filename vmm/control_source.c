// SPDX-License-Identifier: GPL-2.0
/*
 * What can be seen and told through the control socket.
 *  1. The list of sources, in the order in which they were added.
 *  2. Commands: parameters are checked against the command's list before it
 *     runs; it answers by control_done() or control_fail().
 *  3. Events: built only if somebody listens.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "control.h"

static struct control_source *sources;

void (*control_event_sink)(const char *type, json_t *event);

void control_add(struct control_source *src)
{
	struct control_source **p = &sources;

	while (*p)
		p = &(*p)->next;
	src->next = NULL;
	*p = src;
}

void control_remove(struct control_source *src)
{
	struct control_source **p = &sources;

	while (*p && *p != src)
		p = &(*p)->next;
	if (*p)
		*p = src->next;
}

/* The first of a kind, or of all kinds. */
struct control_source *control_first(const char *kind)
{
	struct control_source *src = sources;

	while (kind && src && strcmp(src->kind, kind))
		src = src->next;
	return src;
}

/* The next of the same kind. */
struct control_source *control_next(const struct control_source *src)
{
	struct control_source *next = src->next;

	while (next && strcmp(next->kind, src->kind))
		next = next->next;
	return next;
}

struct control_source *control_find(const char *kind, const char *name)
{
	struct control_source *src = control_first(kind);

	while (src && strcmp(src->name, name))
		src = control_next(src);
	return src;
}

/* Commands. */

void control_done(struct control_call *call, json_t *result)
{
	call->done(call, result, 0, NULL);
}

int control_fail(struct control_call *call, int err, const char *fmt, ...)
{
	char why[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	call->done(call, NULL, err, why);
	return err;
}

static bool has_type(const json_t *value, enum control_type type)
{
	switch (type) {
	case CONTROL_U64:
		return json_is_integer(value) && json_integer_value(value) >= 0;
	case CONTROL_BOOL:
		return json_is_boolean(value);
	case CONTROL_STRING:
		return json_is_string(value) && json_string_length(value) &&
		       strlen(json_string_value(value)) ==
		       json_string_length(value);
	}
	return false;
}

static const struct control_param *find_param(const struct control_command *cmd,
					      const char *name)
{
	unsigned int i;

	for (i = 0; i < CONTROL_PARAMS_MAX && cmd->params[i].name; i++)
		if (!strcmp(cmd->params[i].name, name))
			return &cmd->params[i];
	return NULL;
}

static int check_params(const struct control_command *cmd, json_t *params,
			struct control_call *call)
{
	static const char * const types[] = {
		[CONTROL_U64] = "a number from 0 on",
		[CONTROL_BOOL] = "true or false",
		[CONTROL_STRING] = "a string",
	};
	const struct control_param *param;
	const char *key;
	json_t *value;
	unsigned int i;

	if (!json_is_object(params))
		return control_fail(call, -EINVAL, "the body is no JSON object");
	json_object_foreach(params, key, value) {
		param = find_param(cmd, key);
		if (!param)
			return control_fail(call, -EINVAL, "unknown member '%.64s'",
					    key);
		if (!has_type(value, param->type))
			return control_fail(call, -EINVAL, "'%s' must be %s",
					    key, types[param->type]);
	}
	for (i = 0; i < CONTROL_PARAMS_MAX && cmd->params[i].name; i++)
		if (cmd->params[i].required &&
		    !json_object_get(params, cmd->params[i].name))
			return control_fail(call, -EINVAL, "'%s' is missing",
					    cmd->params[i].name);
	return 0;
}

void control_run(const struct control_source *src, const char *command,
		 json_t *params, struct control_call *call)
{
	const struct control_command *cmd = src->commands;
	json_t *empty = NULL;

	while (cmd && cmd->name && strcmp(cmd->name, command))
		cmd++;
	if (!cmd || !cmd->name) {
		control_fail(call, -EOPNOTSUPP, "%s %s cannot do that: %s",
			     src->kind, src->name, command);
		return;
	}
	if (!params) {
		empty = json_object();
		params = empty;
	}
	if (!params)
		control_fail(call, -ENOMEM, "out of memory");
	else if (!check_params(cmd, params, call))
		cmd->run(src->arg, params, call);
	json_decref(empty);
}

/* Events. */

void control_event(const char *type, const char *fmt, ...)
{
	json_t *event;
	va_list ap;

	if (!control_event_sink)
		return;
	va_start(ap, fmt);
	event = json_vpack_ex(NULL, 0, fmt, ap);
	va_end(ap);
	/* Strings that are no UTF-8 cannot be told; the event itself can. */
	if (!event)
		event = json_object();
	if (event)
		control_event_sink(type, event);
	json_decref(event);
}
