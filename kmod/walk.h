/* SPDX-License-Identifier: GPL-2.0 */
/*
 * walk.h: translation of a guest-virtual to a guest-physical address by the guest's own page tables, a pure function:
 * no paging, 32-bit (with PSE and PSE-36), PAE, 4-level and 5-level; exact #PF error codes; accessed and dirty bits.
 */
#ifndef PVHV_WALK_H
#define PVHV_WALK_H

#include "pure.h"

/* What the access is: the bits of a #PF error code that describe it, and one of ours. */
#define PVHV_WALK_WRITE		0x02u
#define PVHV_WALK_USER		0x04u	/* made with user privilege (CPL 3 and not implicit) */
#define PVHV_WALK_FETCH		0x10u
#define PVHV_WALK_IMPLICIT	0x10000u /* a supervisor access to a system table: RFLAGS.AC does not lift SMAP */

/* Bits of the error code in the result. */
#define PVHV_PF_PRESENT		0x01u
#define PVHV_PF_WRITE		0x02u
#define PVHV_PF_USER		0x04u
#define PVHV_PF_RSVD		0x08u
#define PVHV_PF_FETCH		0x10u
#define PVHV_PF_PK		0x20u

struct pvhv_walk_env {
	u64 cr0, cr3, cr4, efer;
	u64 rflags;
	u32 pkru;
	u8 cpl;
	u8 maxphyaddr;		/* the guest's CPUID 80000008 EAX[7:0] */
	bool gbpages;		/* the guest's CPUID has 1 GiB pages; else PS is reserved there */
	void *opaque;		/* for the callbacks */

	/* Reads one entry of 4 or 8 bytes, naturally aligned. 0, or a negative code: pvhv_walk() returns it. */
	int (*read_pte)(void *opaque, u64 gpa, void *pte, unsigned int bytes);
	/*
	 * Replaces old by new atomically. 0; 1: the entry no longer holds old (the walk starts again); negative:
	 * pvhv_walk() returns it. NULL: accessed and dirty bits are left alone (a debugger's view).
	 */
	int (*set_ad)(void *opaque, u64 gpa, u64 old, u64 new, unsigned int bytes);
};

enum pvhv_walk_status {
	PVHV_WALK_OK = 0,
	PVHV_WALK_FAULT = 1,		/* #PF with result's error_code, CR2 = the address */
	PVHV_WALK_NONCANONICAL = 2,	/* #GP(0), or #SS(0) for an access through SS */
	PVHV_WALK_RACE = 3,		/* the guest keeps changing the tables: let it run, try again later */
	/* below 0: from a callback; table_gpa says at which entry */
};

struct pvhv_walk_result {
	u64 gpa;		/* OK: of the byte at the address */
	u64 page_size;		/* OK: bytes of the mapping (no paging: 4096) */
	u64 table_gpa;		/* guest-physical address of the last entry read; undefined without paging */
	u64 cr2;		/* FAULT: the address, truncated as the mode does */
	u32 error_code;		/* FAULT */
	bool writable;		/* OK: the same access as a write would be permitted */
	bool dirty;		/* OK: the mapping's D bit is set (no paging: true) */
};

/* walk.c: */
int pvhv_walk(const struct pvhv_walk_env *env, u64 gva, u32 access, struct pvhv_walk_result *res);

#endif
