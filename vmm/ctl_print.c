// SPDX-License-Identifier: GPL-2.0
/*
 * JSON for people: "name: value" lines, what is inside of something indented.
 * With --json the text is what the machine sent, on one line.
 */
#include <stdio.h>
#include <string.h>

#include "ctl.h"

#define INDENT		2

/* Control characters of a name could do anything to a terminal. */
static void put_text(const char *text)
{
	for (; *text; text++)
		putchar((u8)*text < ' ' || *text == 0x7f ? '?' : *text);
}

static void put_scalar(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		put_text(json_string_value(value));
		break;
	case JSON_INTEGER:
		printf("%lld", (long long)json_integer_value(value));
		break;
	case JSON_REAL:
		printf("%.3f", json_real_value(value));
		break;
	case JSON_TRUE:
		fputs("yes", stdout);
		break;
	case JSON_FALSE:
		fputs("no", stdout);
		break;
	default:
		putchar('-');
		break;
	}
}

static bool is_flat(const json_t *list)
{
	size_t i;

	for (i = 0; i < json_array_size(list); i++)
		if (json_is_object(json_array_get(list, i)) ||
		    json_is_array(json_array_get(list, i)))
			return false;
	return true;
}

static void print(const json_t *value, int indent);

static void print_member(const char *key, const json_t *value, int indent)
{
	size_t i;

	printf("%*s", indent, "");
	put_text(key);
	putchar(':');
	if (json_is_object(value)) {
		putchar('\n');
		print(value, indent + INDENT);
	} else if (!json_is_array(value)) {
		putchar(' ');
		put_scalar(value);
		putchar('\n');
	} else if (is_flat(value)) {
		for (i = 0; i < json_array_size(value); i++) {
			putchar(' ');
			put_scalar(json_array_get(value, i));
		}
		putchar('\n');
	} else {
		putchar('\n');
		print(value, indent + INDENT);
	}
}

static void print(const json_t *value, int indent)
{
	const char *key;
	json_t *member;
	size_t i;

	if (json_is_object(value)) {
		json_object_foreach((json_t *)value, key, member)
			print_member(key, member, indent);
	} else if (json_is_array(value)) {
		for (i = 0; i < json_array_size(value); i++) {
			if (i && !is_flat(value))
				putchar('\n');
			print(json_array_get(value, i), indent);
		}
	} else {
		printf("%*s", indent, "");
		put_scalar(value);
		putchar('\n');
	}
}

void ctl_print(const json_t *value)
{
	if (!ctl_json) {
		print(value, 0);
		return;
	}
	json_dumpf(value, stdout, JSON_COMPACT | JSON_REAL_PRECISION(13) |
		   JSON_ENCODE_ANY);
	putchar('\n');
}

/* The same as a command's last act. */
int ctl_show(json_t *value)
{
	ctl_print(value);
	json_decref(value);
	return CTL_OK;
}

void ctl_size(char *buf, size_t len, u64 bytes)
{
	static const char units[] = "KMGT";
	double value = bytes / 1024.0;
	const char *unit = units;

	while (value >= 1024 && unit[1]) {
		value /= 1024;
		unit++;
	}
	snprintf(buf, len, value == (u64)value ? "%.0f%c" : "%.1f%c", value,
		 *unit);
}

void ctl_duration(char *buf, size_t len, double seconds)
{
	u64 s = seconds;

	if (s >= 86400)
		snprintf(buf, len, "%llud%lluh", (unsigned long long)s / 86400,
			 (unsigned long long)s / 3600 % 24);
	else if (s >= 3600)
		snprintf(buf, len, "%lluh%llum", (unsigned long long)s / 3600,
			 (unsigned long long)s / 60 % 60);
	else if (s >= 60)
		snprintf(buf, len, "%llum%llus", (unsigned long long)s / 60,
			 (unsigned long long)s % 60);
	else
		snprintf(buf, len, "%llus", (unsigned long long)s);
}
