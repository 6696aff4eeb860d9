// SPDX-License-Identifier: GPL-2.0
/*
 * How pvhv-run speaks to the person who started it:
 *  1. fail(): a failure is one line, said where it is known, and an -errno
 *     that callers only hand on;
 *  2. note(): the same for what is no failure.
 * Unit tests replace fail_sink to read the line instead of printing it.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm.h"

const char *fail_program = "pvhv-run";

static void print_line(const char *line)
{
	char out[1100];
	int len = snprintf(out, sizeof(out), "%s: %s\n", fail_program,
			   line);

	if (len > (int)sizeof(out) - 1) {
		len = sizeof(out) - 1;
		out[len - 1] = '\n';
	}
	/* One write, so that lines of several processes do not mix. */
	if (len > 0 && write(STDERR_FILENO, out, len) < 0)
		return;
}

void (*fail_sink)(const char *line) = print_line;

int fail(int err, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	char *c;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);

	/* File names may hold anything; the line stays one line. */
	for (c = line; *c; c++)
		if ((u8)*c < ' ' || *c == 0x7f)
			*c = '?';
	fail_sink(line);
	return err;
}

void note(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	print_line(line);
}
