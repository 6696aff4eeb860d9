/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Jobs: a directory of a test's own (the test removes it), names of files there, files that stand for disks.
 */
#ifndef PVHV_SELFTESTS_SCRATCH_H
#define PVHV_SELFTESTS_SCRATCH_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tap.h"

static char dir[64];

static inline void make_dir(const char *test)
{
	snprintf(dir, sizeof(dir), "/tmp/%s.XXXXXX", test);
	ASSERT(mkdtemp(dir));
}

/* Up to four of them at a time */
static inline const char *at(const char *name)
{
	static char path[4][128];
	static int i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", dir, name);
	return path[i];
}

static inline const char *image(const char *name, uint64_t len)
{
	const char *path = at(name);
	int fd = ASSERT_OK(open(path, O_RDWR | O_CREAT | O_TRUNC, 0600));

	ASSERT_OK(ftruncate(fd, len));
	close(fd);
	return path;
}

#endif
