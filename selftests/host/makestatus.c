// SPDX-License-Identifier: GPL-2.0
/*
 * A function for GNU make's `load`: $(makestatus N) ends make with status N. `make demo CMD=...` ends with the command's
 * status, and make by itself knows only 0 and 2.
 */
#include <gnumake.h>
#include <stdlib.h>

int plugin_is_GPL_compatible;

static char *makestatus(const char *name, unsigned int argc, char **argv)
{
	(void)name;
	if (argc == 1)
		exit(atoi(argv[0]));
	return NULL;
}

int makestatus_gmk_setup(void)
{
	gmk_add_function("makestatus", makestatus, 1, 1, GMK_FUNC_DEFAULT);
	return 1;
}
