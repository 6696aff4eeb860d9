/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What pvhv-run may still do once the guest runs.
 *
 *   jail_need()      by whoever needs more than the least, before
 *   jail_drop()      privileges go, before there are other threads
 *   jail_prepare()   the filters are made
 *   jail_lock()      in each thread, its own: from here on the rest is deadly
 */
#ifndef PVHV_JAIL_H
#define PVHV_JAIL_H

#include <linux/filter.h>

#include "vmm.h"

/* The door is a process of its own. */
enum jail_thread { JAIL_MAIN, JAIL_VCPU, JAIL_THREADS, JAIL_DOOR = JAIL_THREADS };

/* System calls beyond those that every machine's main thread makes. */
enum jail_feature {
	JAIL_SOCKET = 1 << 0,	/* clients of a socket of ours */
	JAIL_DISK = 1 << 1,
	JAIL_NET = 1 << 2,	/* taps, vhost */
	JAIL_FILES = 1 << 3,	/* files are opened, made and removed */
	JAIL_CONNECT = 1 << 4,	/* connections are made: servers of disks */
	JAIL_LOAD = 1 << 5,	/* libraries are loaded */
	JAIL_MOVE = 1 << 6,	/* the machine is saved, by threads of its own */
	JAIL_COME = 1 << 7,	/* it comes from elsewhere: its state is loaded */
};

struct jail_who {
	const char *user;	/* name, or UID[:GID]; NULL: as we are */
	const char *chroot;	/* directory, or NULL */
};

/* jail.c */
int jail_check(const struct jail_who *who);
int jail_identity(const struct jail_who *who);
int jail_drop(void);
int jail_prepare(void);
int jail_lock(enum jail_thread kind);
int jail_lock_door(void);
void jail_fini(void);

/* jail_rules.c */
void jail_need(u32 features);
int jail_filter(enum jail_thread kind, struct sock_fprog *prog);
/* "openat"; NULL if it has no name.  Safe in a signal handler. */
const char *jail_syscall_name(int nr);
int jail_names_init(void);
void jail_names_fini(void);

/* jail_ring.c */
struct io_uring;
int jail_ring(struct io_uring *ring);

#endif /* PVHV_JAIL_H */
