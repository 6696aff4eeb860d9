// SPDX-License-Identifier: GPL-2.0
/*
 * Where the control sockets of named machines are: /run/pvhv for root,
 * $XDG_RUNTIME_DIR/pvhv for everybody else, $PVHV_RUNDIR for who wants another
 * place.  pvhv-run makes them there, pvhvctl looks there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm.h"

#define SUFFIX		".sock"

/* -ENOENT: this user has no such place. */
int rundir_path(char *buf, size_t len)
{
	const char *base = geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run";
	const char *dir = getenv("PVHV_RUNDIR");
	int n;

	if (dir && *dir == '/')
		return snprintf(buf, len, "%s", dir) < (int)len ? 0 :
		       -ENAMETOOLONG;
	if (!base || *base != '/')
		return -ENOENT;
	n = snprintf(buf, len, "%s/pvhv", base);
	return n < (int)len ? 0 : -ENAMETOOLONG;
}

int rundir_make(void)
{
	char path[RUNDIR_MAX];
	int ret = rundir_path(path, sizeof(path));

	if (!ret && mkdir(path, geteuid() ? 0700 : 0755) && errno != EEXIST)
		ret = -errno;
	return ret;
}

/* Can a machine of that name have its socket there? */
bool rundir_name_ok(const char *name)
{
	const char *c;

	if (!*name || *name == '.' || *name == '-')
		return false;
	for (c = name; *c; c++)
		if ((u8)*c <= ' ' || *c == '/' || *c == 0x7f)
			return false;
	return true;
}

int rundir_socket(char *buf, size_t len, const char *name)
{
	char dir[RUNDIR_MAX];
	int ret = rundir_path(dir, sizeof(dir));

	if (ret)
		return ret;
	if (!rundir_name_ok(name))
		return -EINVAL;
	return snprintf(buf, len, "%s/%s" SUFFIX, dir, name) < (int)len ? 0 :
	       -ENAMETOOLONG;
}

/* The machine whose socket has that file name; false if it is no socket's. */
bool rundir_name_of(char *buf, size_t len, const char *file)
{
	size_t n = strlen(file), end = strlen(SUFFIX);

	if (n <= end || strcmp(file + n - end, SUFFIX) || n - end >= len)
		return false;
	memcpy(buf, file, n - end);
	buf[n - end] = 0;
	return rundir_name_ok(buf);
}
