/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Moving a machine: into a file, out of it, and from host to host.  The
 * machine's side; how its memory and state travel is migrate/'s business.
 *
 * A client of the control socket (pvhvctl) opens the file or makes the
 * connections and passes the descriptors, so that the machine's process needs
 * no more privileges for it than before.  After the upgrade to MOVE_PROTOCOL
 * both say objects, one a line.
 *
 *   client:  {"do": "suspend" | "snapshot"} with the file as SCM_RIGHTS, or
 *            {"do": "migrate", ...} with the first connection
 *   machine: {"event": "progress", ...}, and at the end
 *            {"event": "done", ...} or {"event": "failed", "message": ...}
 *
 * A snapshot with "frozen": {"disk0": 7, ...} fails unless these disks are in
 * these freezes (blk_frozen()) at its moment, so that their content belongs to
 * it; {"event": "resumed"} says that the moment is over.
 *
 * While a machine moves, it asks for each further connection:
 *
 *   machine: {"event": "connect"}
 *   client:  {"do": "connection"} with it, or {"do": "no-connection"}
 *
 * and the client may say {"do": "cancel"} or {"do": "force"} at any time.  One
 * that goes away before the end cancels it.
 */
#ifndef PVHV_MOVE_H
#define PVHV_MOVE_H

#include "../migrate/migrate.h"
#include "vmm.h"

#define MOVE_BLOCKS_MAX	2

/* How long nothing may move on a connection: hosts have slow disks, too. */
#define MOVE_STALL_MS	20000

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
/* Of a machine whose vCPUs have been made here, and not yet loaded. */
int move_check_tsc(struct vm *vm, const struct migrate_facts *facts, char *why);
int move_blocks(struct vm *vm, struct migrate_block *list, unsigned int max);
/* Of a machine that comes, as the library asks for them. */
int move_blocks_fresh(void *vm, struct migrate_block *list, unsigned int max);

/* Whether what the machine has is what the other one had; a line in @why. */
int move_check_devices(struct vm *vm, const struct migrate_facts *facts,
		       char *why);

/*
 * move_disks.c: disks that are copied along.  Of who leaves: numbers of the
 * list that was offered last.
 */
int move_disks_offer(struct vm *vm, struct migrate_disk *list, unsigned int max);
int move_disks_describe(struct vm *vm, struct migrate_facts *facts);
int move_disks_log(struct vm *vm);
void move_disks_unlog(struct vm *vm);
int move_disks_fetch(struct vm *vm, unsigned int nr, u64 *bitmap);
int move_disks_read(struct vm *vm, unsigned int nr, u64 pos, void *data,
		    size_t len);
/* Of who comes. */
int move_disks_prepare(const struct options *opt,
		       const struct migrate_facts *facts);
int move_disks_begin(void);
int move_disks_list(struct migrate_disk *list, unsigned int max);
int move_disks_write(unsigned int nr, u64 pos, const void *data, u64 len);
int move_disks_flush(void);
int move_disks_end(void);
void move_disks_close(bool keep);

/* move_watch.c: for snapshots; -1: not to be had. */
struct move_watch {
	int uffd;
	int pagemap;
};

void move_watch_open(struct vm *vm, struct move_watch *watch);
void move_watch_close(struct move_watch *watch);

/* move.c: out of here, by command. */
int move_open(struct vm *vm);
void move_close(struct vm *vm);
int move_reclaim(struct vm *vm);

/* move_out.c: the machine as the library sees it then. */
struct move_order {
	struct letter *over;	/* posted when all is done */
	void (*ask)(void);	/* [m] calls for move_out_connection() */
	void (*resumed)(void);	/* [m] its state is saved, and it goes on */
	bool copy_disks;
	u64 frozen[DISKS_MAX];	/* which freeze a disk has to be in, 0: any */
};

int move_out_open(struct vm *vm);
int move_out_know(void);
const struct migrate_ops *move_out_begin(const struct move_order *order);
void move_out_end(void);
void move_out_connection(int fd);
void move_out_no_connection(int err);

/* The log of written pages, for who needs it while nothing moves. */
int move_out_log(struct vm *vm);
void move_out_unlog(struct vm *vm);
int move_out_fetch(struct vm *vm, unsigned int block, u64 *bitmap);
int move_out_clear(struct vm *vm, unsigned int block, u64 count,
		   const u64 *bitmap);

/* move_estimate.c: what it would take. */
struct control_call;

bool move_estimates(void);	/* it is being measured */
void move_estimate(struct vm *vm, u64 period_ms, u64 bandwidth, u64 downtime_ms,
		   struct control_call *call);
void move_estimate_end(void);

/* move_in.c: into here. */
void move_listen(char *why);
int move_make(struct vm *vm, struct options *opt, bool later,
	      int (*build)(struct vm *vm), const struct migrate_facts *facts,
	      char *why);
void move_forget(void);		/* when the machine is gone */
int move_restore(struct vm *vm, struct options *opt,
		 int (*build)(struct vm *vm));

/*
 * move_receive.c: of a machine that is still elsewhere: waits for it, and returns when it is
 * built; the rest of it comes while vm_run() runs.
 */
int move_receive(struct vm *vm, struct options *opt,
		 int (*build)(struct vm *vm));
void move_receive_ready(struct vm *vm);	/* the sandbox is closed */
int move_receive_end(struct vm *vm);	/* vm_run() has returned */
bool move_arrives(void);		/* it is not here yet */
/* Its source is dead, says somebody who knows: it is ours if it is complete. */
bool move_receive_force(void);

#endif /* PVHV_MOVE_H */
