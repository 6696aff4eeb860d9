// SPDX-License-Identifier: GPL-2.0
/*
 * The options that make the machine (and not the process around it), kept as
 * they were typed: a saved machine is made anew from them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm.h"

/* "--name=value", "--name" without one, "-nvalue" of a name of one letter. */
int option_args_add(struct option_args *args, const char *name,
		    const char *value)
{
	bool letter = !name[1];
	int ret;

	if (args->nr == OPTION_ARGS_MAX)
		return fail(-E2BIG, "more than %d options: leave some out",
			    OPTION_ARGS_MAX);
	ret = asprintf(&args->text[args->nr], "%s%s%s%s", letter ? "-" : "--",
		       name, value && !letter ? "=" : "", value ? value : "");
	if (ret < 0)
		return fail(-ENOMEM, "out of memory");
	args->nr++;
	return 0;
}

bool option_is(const char *text, const char *name)
{
	size_t len = strlen(name);

	if (!name[1])
		return text[0] == '-' && text[1] == name[0];
	return !strncmp(text, "--", 2) && !strncmp(text + 2, name, len) &&
	       (!text[2 + len] || text[2 + len] == '=');
}

/* All of one name. */
void option_args_drop(struct option_args *args, const char *name)
{
	u32 i, nr = 0;

	for (i = 0; i < args->nr; i++) {
		if (option_is(args->text[i], name))
			free(args->text[i]);
		else
			args->text[nr++] = args->text[i];
	}
	args->nr = nr;
}

void option_args_free(struct option_args *args)
{
	while (args->nr)
		free(args->text[--args->nr]);
}
