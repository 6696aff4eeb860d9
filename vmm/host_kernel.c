// SPDX-License-Identifier: GPL-2.0
/*
 * How old the host's kernel is, for what it cannot be asked.
 */
#include <stdio.h>
#include <sys/utsname.h>

#include "vmm.h"

/* Also if nothing is known of it. */
bool host_kernel_before(unsigned int major, unsigned int minor)
{
	unsigned int has_major, has_minor;
	struct utsname host;

	if (uname(&host) ||
	    sscanf(host.release, "%u.%u", &has_major, &has_minor) != 2)
		return true;
	return has_major < major || (has_major == major && has_minor < minor);
}
