// SPDX-License-Identifier: GPL-2.0
/* libgnutls stays away from a process until a connection needs it. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include "mig.h"
#include "tls_lib.h"

#define LIBRARY		"libgnutls.so.30"

static struct tls_lib lib;
static const char *missing;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool find(void *handle, const char *name, void *at)
{
	void *symbol = dlsym(handle, name);

	*(void **)at = symbol;
	return symbol;
}

static void load(void)
{
	void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	bool all = true;

	if (!handle) {
		missing = "TLS needs " LIBRARY ": install the package libgnutls30";
		return;
	}
#define F(name) all = all && find(handle, "gnutls_" #name, &lib.name);
	TLS_FUNCTIONS(F)
#undef F
	all = all && find(handle, "gnutls_free", &lib.free);
	if (!all)
		missing = LIBRARY " is too old: install gnutls 3.6.12 or newer";
}

const struct tls_lib *tls_lib_load(char *why)
{
	pthread_once(&once, load);
	if (!missing)
		return &lib;
	snprintf(why, MIGRATE_WHY_MAX, "%s", missing);
	return NULL;
}
