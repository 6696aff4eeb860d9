// SPDX-License-Identifier: GPL-2.0
/*
 * Values on a command line: lists of key=value, sizes, rates, numbers.  Errors
 * are -errno; who asks knows what to say of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm.h"

/* Cuts the next "key=value" off a list; @value is NULL where there is no '='. */
bool options_next(char **list, char **key, char **value)
{
	char *comma;

	if (!*list)
		return false;
	*key = *list;
	comma = strchr(*list, ',');
	if (comma)
		*comma++ = 0;
	*list = comma;
	*value = strchr(*key, '=');
	if (*value)
		*(*value)++ = 0;
	return true;
}

static int parse_number(const char *text, u64 *value, const char **end)
{
	char *stop;

	/* strtoull() would accept a sign and leading blanks. */
	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*value = strtoull(text, &stop, 10);
	*end = stop;
	return -errno;
}

/* "512", "512M", "512MiB", "1G"; @unit is what a bare number counts. */
static int parse_bytes(const char *text, u64 unit, u64 *bytes)
{
	static const char units[] = "KMGT";
	const char *end, *u;
	u64 value;

	if (parse_number(text, &value, &end))
		return -EINVAL;
	if (*end) {
		u = strchr(units, *end & ~0x20);
		if (!u || !*u)
			return -EINVAL;
		unit = KIB << (10 * (u - units));
		end++;
		if (!strcmp(end, "iB") || !strcmp(end, "B"))
			end += strlen(end);
	}
	if (*end)
		return -EINVAL;
	if (value > UINT64_MAX / unit)
		return -ERANGE;
	*bytes = value * unit;
	return 0;
}

int options_size(const char *text, u64 *bytes)
{
	return parse_bytes(text, MIB, bytes);
}

/* Bytes in a second: a bare number counts bytes; 0 would be no limit but a stop. */
int options_rate(const char *text, u64 *bytes)
{
	int ret = parse_bytes(text, 1, bytes);

	return !ret && !*bytes ? -ERANGE : ret;
}

/* A whole number from @least to @most, nothing around it. */
int options_number(const char *text, u64 least, u64 most, u64 *number)
{
	const char *end;
	u64 value;

	if (parse_number(text, &value, &end) || *end || value < least ||
	    value > most)
		return -EINVAL;
	*number = value;
	return 0;
}
