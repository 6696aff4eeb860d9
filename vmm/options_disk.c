// SPDX-License-Identifier: GPL-2.0
/*
 * The value of --disk:
 *     path=PATH,readonly=on|off,direct=on|off|auto,queues=N,iops=N,bps=RATE,serial=TEXT
 * in any order; a first item that is no key=value of these is the path.  -d
 * gives nothing but the path.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blk.h"

#define QUEUES_MAX	16
#define SERIAL_MAX	20	/* what a guest can be told */
#define KEYS		"path=, readonly=, direct=, queues=, iops=, bps=, serial="

static int set_path(struct disk_options *disk, const char *text)
{
	if (!*text)
		return fail(-EINVAL, "--disk: path= is empty: name an image file, a block device or an NBD server");
	disk->path = text;
	return 0;
}

static int set_readonly(struct disk_options *disk, const char *text)
{
	if (!strcmp(text, "on"))
		disk->readonly = true;
	else if (!strcmp(text, "off"))
		disk->readonly = false;
	else
		return fail(-EINVAL, "--disk: readonly=%s is unknown: use on or off",
			    text);
	return 0;
}

static int set_direct(struct disk_options *disk, const char *text)
{
	static const char * const names[] = {
		[DISK_DIRECT_AUTO] = "auto", [DISK_DIRECT_ON] = "on",
		[DISK_DIRECT_OFF] = "off",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(text, names[i])) {
			disk->direct = i;
			return 0;
		}
	return fail(-EINVAL, "--disk: direct=%s is unknown: use on, off or auto",
		    text);
}

static int set_queues(struct disk_options *disk, const char *text)
{
	u64 value;

	if (options_number(text, 1, QUEUES_MAX, &value))
		return fail(-EINVAL, "--disk: queues=%s is not a number from 1 to %d: give one",
			    text, QUEUES_MAX);
	disk->queues = value;
	return 0;
}

static int set_iops(struct disk_options *disk, const char *text)
{
	if (options_number(text, 1, UINT32_MAX, &disk->iops))
		return fail(-EINVAL, "--disk: iops=%s is no number of requests in a second: give one like 1000",
			    text);
	return 0;
}

static int set_bps(struct disk_options *disk, const char *text)
{
	if (options_rate(text, &disk->bps))
		return fail(-EINVAL, "--disk: bps=%s is no number of bytes in a second: give one like 10M",
			    text);
	return 0;
}

static int set_serial(struct disk_options *disk, const char *text)
{
	const char *c;

	for (c = text; *c > ' ' && *c < 0x7f; c++)
		;
	if (*c || c == text || c - text > SERIAL_MAX)
		return fail(-EINVAL, "--disk: serial=%s: give 1 to %d letters, digits or signs",
			    text, SERIAL_MAX);
	disk->serial = text;
	return 0;
}

static const struct {
	const char *name;
	int (*set)(struct disk_options *disk, const char *text);
} keys[] = {
	{ "path", set_path }, { "readonly", set_readonly },
	{ "direct", set_direct }, { "queues", set_queues },
	{ "iops", set_iops }, { "bps", set_bps }, { "serial", set_serial },
};

static bool starts_with_key(const char *text)
{
	size_t len = strcspn(text, "=,");
	unsigned int i;

	if (text[len] != '=')
		return false;
	for (i = 0; i < ARRAY_SIZE(keys); i++)
		if (strlen(keys[i].name) == len &&
		    !memcmp(text, keys[i].name, len))
			return true;
	/* A key that is misspelt; paths with '=' have a '/' before it. */
	return !memchr(text, '/', len);
}

static int parse_pair(struct disk_options *disk, const char *key,
		      const char *value)
{
	unsigned int i;

	for (i = 0; value && i < ARRAY_SIZE(keys); i++)
		if (!strcmp(key, keys[i].name))
			return keys[i].set(disk, value);
	return fail(-EINVAL, "--disk: '%s' is %s: use " KEYS, key,
		    value ? "an unknown key" : "no key=value");
}

/* kvmtool's -d PATH. */
int disk_options_path(struct disk_options *disk, char *path)
{
	memset(disk, 0, sizeof(*disk));
	return set_path(disk, path);
}

int disk_options_parse(struct disk_options *disk, char *text)
{
	char *key, *value;
	int ret = 0;

	memset(disk, 0, sizeof(*disk));
	if (!starts_with_key(text)) {
		disk->path = text;
		text = strchr(text, ',');
		if (text)
			*text++ = 0;
		ret = set_path(disk, disk->path);
	}
	while (!ret && options_next(&text, &key, &value))
		ret = parse_pair(disk, key, value);
	if (!ret && !disk->path)
		ret = fail(-EINVAL, "--disk: no path: name an image file, a block device or an NBD server with path=");
	return ret;
}

void disk_options_print(const struct disk_options *disk)
{
	printf("disk:     %s%s\n", disk->path,
	       disk->readonly ? " (read-only)" : "");
}
