// SPDX-License-Identifier: GPL-2.0
/*
 * libnbd brings libraries for TLS and XML with it, megabytes that a machine
 * without a disk on a server must not pay for: it is loaded at the first need
 * and stays.
 */
#include <dlfcn.h>
#include <errno.h>

#include "nbd_lib.h"
#include "vmm.h"

#define LIBRARY		"libnbd.so.0"

static struct nbd_lib lib;

static bool find(void *handle, const char *name, void *at)
{
	void *symbol = dlsym(handle, name);

	*(void **)at = symbol;
	return symbol;
}

const struct nbd_lib *nbd_lib_load(const char *path)
{
	static bool loaded;
	void *handle;
	bool all = true;

	if (loaded)
		return &lib;
	handle = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL);
	if (!handle) {
		fail(-ENOENT, "--disk: '%s': needs " LIBRARY ": install the package libnbd0",
		     path);
		return NULL;
	}
#define F(name) all = all && find(handle, "nbd_" #name, &lib.name);
	NBD_FUNCTIONS(F)
#undef F
	if (!all) {
		fail(-ENOSYS, "--disk: '%s': " LIBRARY " is too old: install libnbd 1.14 or newer",
		     path);
		dlclose(handle);
		return NULL;
	}
	loaded = true;
	return &lib;
}
