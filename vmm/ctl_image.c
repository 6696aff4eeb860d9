// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl image KIND: makers of images are programs of their own, beside
 * pvhvctl in the tree and in libexec when installed.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

static bool find_maker(const char *kind, char *path, size_t len)
{
	static const char * const places[] = { "image", "../libexec/pvhv" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	unsigned int i;

	if (n <= 0 || *kind < 'a' || *kind > 'z' || strchr(kind, '/'))
		return false;
	self[n] = 0;
	*strrchr(self, '/') = 0;
	for (i = 0; i < ARRAY_SIZE(places); i++)
		if (snprintf(path, len, "%s/%s/%s", self, places[i], kind) <
		    (int)len && !access(path, X_OK))
			return true;
	return false;
}

int ctl_image(int argc, char **argv)
{
	char path[PATH_MAX];

	if (argc < 2)
		return ctl_wrong_usage();
	if (!find_maker(argv[1], path, sizeof(path)))
		return fail(CTL_ERROR, "image: nothing here makes a '%s': there is debian",
			    argv[1]);
	execv(path, argv + 1);
	return fail(CTL_ERROR, "%s: %s", path, strerror(errno));
}
