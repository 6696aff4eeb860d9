/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Moving a machine: into a file, out of it, and from host to host.  The
 * machine's side; how its memory and state travel is migrate/'s business.
 *
 * A client of the control socket (pvhvctl) opens the file or makes the
 * connections and passes the descriptors, so that the machine's process needs
 * no more privileges for it than before.  After the upgrade to MOVE_PROTOCOL
 *
 *   client:  one object, in one message, with the descriptors as SCM_RIGHTS:
 *            {"do": "suspend" | "snapshot"}
 *   machine: an object a line: {"event": "progress", ...}, and at the end
 *            {"event": "done", ...} or {"event": "failed", "message": ...}
 *
 * A client that goes away before the end cancels it.
 */
#ifndef PVHV_MOVE_H
#define PVHV_MOVE_H

#include "../migrate/migrate.h"
#include "vmm.h"

/* move_facts.c: what a machine is made of, and whether this host can make it. */
struct move_cpu {
	struct cpuid_summary features;
	u32 tsc_khz;
};

int move_know_cpu(struct vm *vm, struct move_cpu *cpu);
int move_describe(struct vm *vm, const struct move_cpu *cpu,
		  struct migrate_facts *facts);
int move_args(const struct migrate_facts *facts, struct option_args *args);
int move_check_cpu(struct vm *vm, const struct migrate_facts *facts, char *why);
int move_blocks(struct vm *vm, struct migrate_block *list, unsigned int max);

/* move.c: out of here, by command. */
int move_open(struct vm *vm);
void move_close(struct vm *vm);

/* move_in.c: into here. */
int move_restore(struct vm *vm, struct options *opt,
		 int (*build)(struct vm *vm));

#endif /* PVHV_MOVE_H */
