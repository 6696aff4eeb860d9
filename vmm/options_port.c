// SPDX-License-Identifier: GPL-2.0
/*
 * The value of --port:
 *     name=NAME,socket=PATH|file=PATH|control|pty|none,console=on|off
 * in any order.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "port.h"

#define NAME_MAX_LEN	63
#define KEYS		"name=, socket=, file=, control, pty, none, console="

static int set_kind(struct port_options *port, enum console_kind kind,
		    const char *path, bool *given)
{
	if (*given)
		return fail(-EINVAL, "--port: leads to two places: use one of socket=, file=, control, pty, none");
	if (path && !*path)
		return fail(-EINVAL, "--port: the path is empty: name one");
	*given = true;
	port->kind = kind;
	port->path = path;
	return 0;
}

/* Becomes a file name in the guest, /dev/virtio-ports/NAME. */
static int set_name(struct port_options *port, const char *text)
{
	const char *c;

	for (c = text; *c > ' ' && *c < 0x7f && *c != '/'; c++)
		;
	if (*c || c == text || c - text > NAME_MAX_LEN || *text == '.')
		return fail(-EINVAL, "--port: name=%s: give 1 to %d letters, digits or signs, no '/', no '.' first",
			    text, NAME_MAX_LEN);
	port->name = text;
	return 0;
}

static int set_console(struct port_options *port, const char *text)
{
	if (strcmp(text, "on") && strcmp(text, "off"))
		return fail(-EINVAL, "--port: console=%s is unknown: use on or off",
			    text);
	port->console = !strcmp(text, "on");
	return 0;
}

static int set(struct port_options *port, const char *key, const char *value,
	       bool *given)
{
	if (!value && !strcmp(key, "pty"))
		return set_kind(port, CONSOLE_PTY, NULL, given);
	if (!value && !strcmp(key, "control"))
		return set_kind(port, CONSOLE_CONTROL, NULL, given);
	if (!value && !strcmp(key, "none"))
		return set_kind(port, CONSOLE_NONE, NULL, given);
	if (value && !strcmp(key, "socket"))
		return set_kind(port, CONSOLE_SOCKET, value, given);
	if (value && !strcmp(key, "file"))
		return set_kind(port, CONSOLE_FILE, value, given);
	if (value && !strcmp(key, "name"))
		return set_name(port, value);
	if (value && !strcmp(key, "console"))
		return set_console(port, value);
	return fail(-EINVAL, "--port: '%s' is unknown: use " KEYS, key);
}

int port_options_parse(struct port_options *port, char *text)
{
	char *key, *value;
	bool given = false;
	int ret = 0;

	memset(port, 0, sizeof(*port));
	while (!ret && options_next(&text, &key, &value))
		ret = set(port, key, value, &given);
	if (ret)
		return ret;
	if (!port->name)
		return fail(-EINVAL, "--port: has no name: give it one with name=");
	if (!given)
		return fail(-EINVAL, "--port: '%s' leads nowhere: use one of socket=, file=, control, pty, none",
			    port->name);
	return 0;
}

const char *port_kind_name(enum console_kind kind)
{
	static const char * const names[] = {
		[CONSOLE_STDIO] = "stdio", [CONSOLE_PTY] = "pty",
		[CONSOLE_FILE] = "file", [CONSOLE_SOCKET] = "socket",
		[CONSOLE_CONTROL] = "control", [CONSOLE_NONE] = "none",
	};

	return names[kind];
}

void port_options_print(const struct port_options *port)
{
	printf("port:     %s: %s%s%s%s\n", port->name,
	       port_kind_name(port->kind), port->path ? " " : "",
	       port->path ? port->path : "", port->console ? ", console" : "");
}
