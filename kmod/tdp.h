/* SPDX-License-Identifier: GPL-2.0 */
/*
 * tdp.h - second-level page tables, private to tdp.c, tdp_fault.c, memslot.c,
 * dirty.c and notifier.c.
 *
 * The invariants:
 *  - An entry is 0, a leaf, or a pointer to a table of the next level. A leaf
 *    maps what the host's page table maps at the slot's address, with no more
 *    rights, and goes before the host's entry changes: the mm tells us first
 *    (notifier.c) and waits for the zap and the flush. So a leaf holds no
 *    reference to its page.
 *  - Under mmu_lock held for reading entries only gain: 0 becomes a table or a
 *    leaf, a leaf gains rights, all by cmpxchg. Under mmu_lock held for
 *    writing anything may go. So who holds mmu_lock either way may follow
 *    table pointers.
 *  - A table that was taken out is freed by who took it out, after a flush of
 *    all vCPUs: until then hardware may still walk it.
 *  - Taking out or write-protecting counts tdp_zap_gen up. Who needs the
 *    effect complete (the mm, before it reuses a page; the dirty log, before
 *    it answers) flushes unless tdp_flushed_gen says that it is done, even if
 *    the change was another thread's and that one's flush is on its way.
 *  - A leaf with sw_host_writable may become writable again without a look at
 *    the host's page table: only the dirty log took W away. Its page was
 *    marked dirty when the leaf was made, or its host entry was dirty then,
 *    and neither is cleaned without a notification. So no write is lost to
 *    the swapper or to writeback, and D bits need not be harvested.
 *  - One leaf maps no memory of the VMM's: that of apic_page.c.
 *  - Where hardware logs writes (PML) the dirty log takes D in place of W.
 *    Writable leaves of slots without a log have D from the start, so that
 *    hardware has nothing to note there.
 */
#ifndef PVHV_TDP_H
#define PVHV_TDP_H

#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <asm/page.h>
#include <asm/pgtable_types.h>

#include "pvhv.h"

#define TDP_ENTRIES	512
#define TDP_MAX_LEVELS	5
/* Frame bits of an entry: 51:12. */
#define TDP_PFN_MASK	GENMASK_ULL(51, PAGE_SHIFT)

/* Guest frames below one entry of a table of this level (1: 4 KiB leaves). */
static inline u64 tdp_span(int level)
{
	return 1ULL << (9 * (level - 1));
}

static inline unsigned int tdp_index(u64 gfn, int level)
{
	return gfn >> (9 * (level - 1)) & (TDP_ENTRIES - 1);
}

static inline bool tdp_is_leaf(const struct pvhv_tdp_format *f, u64 entry, int level)
{
	return level == 1 || entry & f->large;
}

static inline u64 *tdp_table(u64 entry)
{
	return __va(__sme_clr(entry & TDP_PFN_MASK));
}

static inline u64 tdp_table_entry(const struct pvhv_tdp_format *f, const u64 *table)
{
	return __sme_set(__pa(table)) | f->present | f->writable | f->accessed;
}

/* Counters of struct pvhv_vm_stat that several threads may change. */
static inline void tdp_stat_add(u64 *counter, long n)
{
	BUILD_BUG_ON(sizeof(*counter) != sizeof(atomic64_t));
	atomic64_add(n, (atomic64_t *)counter);
}

static inline u64 *tdp_leaf_counter(struct pvhv_vm *vm, int level)
{
	return level == 1 ? &vm->stat.pages_4k :
	       level == 2 ? &vm->stat.pages_2m : &vm->stat.pages_1g;
}

/*
 * Follows gfn down to the lowest entry there is: a leaf, 0, or a level-1 entry.
 * mmu_lock held.
 */
static inline u64 *tdp_walk(struct pvhv_vm *vm, u64 gfn, int *level)
{
	const struct pvhv_tdp_format *f = vm->be->tdp;
	u64 *table = vm->tdp_root, *p, entry;
	int l;

	for (l = vm->tdp_levels;; l--) {
		p = &table[tdp_index(gfn, l)];
		if (l == 1)
			break;
		entry = READ_ONCE(*p);
		if (!entry || entry & f->large)
			break;
		table = tdp_table(entry);
	}
	*level = l;
	return p;
}

/* What the dirty log takes from leaves: W; or D, where hardware notes that it sets it. */
static inline u64 tdp_log_bit(const struct pvhv_tdp_format *f)
{
	return f->logs_dirty ? f->dirty : f->writable;
}

/* mmu_lock held for writing, after (not before) an entry lost rights. */
static inline void tdp_owe_flush(struct pvhv_vm *vm)
{
	WRITE_ONCE(vm->tdp_zap_gen, vm->tdp_zap_gen + 1);
}

/* mmu_lock held: is there a change, anybody's, that is not flushed yet? */
static inline bool tdp_flush_owed(struct pvhv_vm *vm)
{
	return vm->tdp_zap_gen != (u64)atomic64_read(&vm->tdp_flushed_gen);
}

/* memslot.c keeps slots below this frame: more the tables can't map. */
static inline u64 pvhv_tdp_max_gfn(struct pvhv_vm *vm)
{
	unsigned int bits = min(boot_cpu_data.x86_phys_bits + 0u, PAGE_SHIFT + 9u * vm->tdp_levels);

	return 1ULL << (bits - PAGE_SHIFT);
}

/* tdp.c: */
u64 *tdp_alloc_table(gfp_t gfp);	/* zeroed */
void tdp_free_table(u64 *table);
/* Take out what maps [start, end); tables that go are listed in dead.
 * mmu_lock held for writing; then flush if owed, then free. */
void tdp_zap(struct pvhv_vm *vm, u64 start, u64 end, struct list_head *dead);
void tdp_free_tables(struct pvhv_vm *vm, struct list_head *dead, bool may_sleep);
/* The three steps at once; no lock held. */
void pvhv_tdp_zap_range(struct pvhv_vm *vm, u64 start, u64 end);
/* Is anything mapped there accessed; clear: no longer after this. No lock held. */
bool pvhv_tdp_age(struct pvhv_vm *vm, u64 start, u64 end, bool clear);
/* Makes writes be noted of the frames base + n of bits n in mask, splitting
 * large leaves. mmu_lock held for writing, then flush if owed. */
void pvhv_tdp_protect_masked(struct pvhv_vm *vm, u64 base, unsigned long mask);
/* A slot's dirty log was switched on or off. slots_lock held. */
void pvhv_tdp_log_begin(struct pvhv_vm *vm, const struct pvhv_memslot *slot);
void pvhv_tdp_log_end(struct pvhv_vm *vm, const struct pvhv_memslot *slot);

/* notifier.c: mmu_lock held: is the host's entry for hva about to change? */
bool pvhv_hva_invalidating(struct pvhv_vm *vm, unsigned long hva);

/* tdp_fault.c: */
/* The host's leaf at an address, as it is at this moment. */
struct host_leaf {
	u64 pfn;		/* of the 4 KiB page at the address */
	int level;
	bool writable, dirty;
};
/* 0, or it is not there. Lasts only under mmu_lock, see tdp_fault.c. */
int pvhv_host_walk(struct mm_struct *mm, unsigned long hva, bool write,
		   struct host_leaf *leaf);
/* The level at which gfn of the slot may be mapped, given the host's. */
int pvhv_tdp_fit_level(const struct pvhv_tdp_format *f, const struct pvhv_memslot *slot,
		       u64 gfn, int level);

/* apic_page.c: mmu_lock held: the leaf of the APIC's page; false: it must not be there. */
bool tdp_apic_leaf(struct pvhv_vm *vm, struct host_leaf *leaf);

#endif /* PVHV_TDP_H */
