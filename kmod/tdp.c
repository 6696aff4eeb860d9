// SPDX-License-Identifier: GPL-2.0
/*
 * tdp.c - second-level page tables (nested paging, EPT), everything but the
 * fault:
 *  1. their life: creation, taking parts out, freeing,
 *  2. remote flushes,
 *  3. ageing,
 *  4. write protection for the dirty log, and its end.
 * The invariants are in tdp.h.
 */
#include <linux/gfp.h>
#include <linux/memcontrol.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "pvhv.h"
#include "tdp.h"

/* --- 1. life --- */

/* Charged to the VM's cgroup, and shown as SecPageTables in /proc/meminfo. */
u64 *tdp_alloc_table(gfp_t gfp)
{
	u64 *table = (u64 *)__get_free_page(gfp | __GFP_ZERO | __GFP_ACCOUNT);

	if (table)
		mod_lruvec_page_state(virt_to_page(table), NR_SECONDARY_PAGETABLE, 1);
	return table;
}

void tdp_free_table(u64 *table)
{
	mod_lruvec_page_state(virt_to_page(table), NR_SECONDARY_PAGETABLE, -1);
	free_page((unsigned long)table);
}

int pvhv_tdp_init(struct pvhv_vm *vm, unsigned int levels)
{
	vm->tdp_root = tdp_alloc_table(GFP_KERNEL);
	if (!vm->tdp_root)
		return -ENOMEM;
	vm->tdp_root_pa = __sme_set(__pa(vm->tdp_root));
	vm->tdp_levels = levels;
	tdp_stat_add(&vm->stat.tdp_pages, 1);
	return 0;
}

static void bury(struct list_head *dead, u64 entry, int level)
{
	struct page *page = virt_to_page(tdp_table(entry));

	set_page_private(page, level);
	list_add(&page->lru, dead);
}

/*
 * At most two edges of a range need a look below an entry; what lies between
 * goes by the entry. So this is short for any range, and the lock need not be
 * dropped in the middle.
 */
static void zap_level(struct pvhv_vm *vm, u64 *table, int level, u64 start, u64 end,
		      struct list_head *dead)
{
	const struct pvhv_tdp_format *f = vm->be->tdp;
	u64 span = tdp_span(level), next, entry;
	u64 *p = &table[tdp_index(start, level)];

	for (; start < end; start = next, p++) {
		next = min((start | (span - 1)) + 1, end);
		entry = READ_ONCE(*p);
		if (!entry)
			continue;
		if (tdp_is_leaf(f, entry, level)) {
			/* A large leaf goes as a whole and comes back smaller. */
			tdp_stat_add(tdp_leaf_counter(vm, level), -1);
		} else if (next - start == span) {
			bury(dead, entry, level - 1);
		} else {
			zap_level(vm, tdp_table(entry), level - 1, start, next, dead);
			continue;
		}
		/* Hardware sets A and D in present entries only: no race with it. */
		WRITE_ONCE(*p, 0);
		tdp_owe_flush(vm);
	}
}

void tdp_zap(struct pvhv_vm *vm, u64 start, u64 end, struct list_head *dead)
{
	lockdep_assert_held_write(&vm->mmu_lock);
	end = min(end, pvhv_tdp_max_gfn(vm));
	zap_level(vm, vm->tdp_root, vm->tdp_levels, start, end, dead);
}

/* Nobody walks this table or what is below it any more. */
static void free_table(struct pvhv_vm *vm, u64 *table, int level, bool may_sleep)
{
	const struct pvhv_tdp_format *f = vm->be->tdp;
	unsigned int i, leaves = 0;
	u64 entry;

	for (i = 0; i < TDP_ENTRIES; i++) {
		entry = READ_ONCE(table[i]);
		if (!entry)
			continue;
		if (tdp_is_leaf(f, entry, level))
			leaves++;
		else
			free_table(vm, tdp_table(entry), level - 1, may_sleep);
	}
	if (leaves)
		tdp_stat_add(tdp_leaf_counter(vm, level), -(long)leaves);
	tdp_stat_add(&vm->stat.tdp_pages, -1);
	tdp_free_table(table);
	if (may_sleep)
		cond_resched();
}

void tdp_free_tables(struct pvhv_vm *vm, struct list_head *dead, bool may_sleep)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, dead, lru)
		free_table(vm, page_address(page), page_private(page), may_sleep);
}

static void zap_range(struct pvhv_vm *vm, u64 start, u64 end, bool may_sleep)
{
	LIST_HEAD(dead);
	bool flush;

	write_lock(&vm->mmu_lock);
	tdp_zap(vm, start, end, &dead);
	flush = tdp_flush_owed(vm);
	write_unlock(&vm->mmu_lock);
	if (flush)
		pvhv_flush_remote_tlbs(vm);
	tdp_free_tables(vm, &dead, may_sleep);
}

void pvhv_tdp_zap_range(struct pvhv_vm *vm, u64 start, u64 end)
{
	zap_range(vm, start, end, true);
}

/* No vCPU exists any more. */
void pvhv_tdp_destroy(struct pvhv_vm *vm)
{
	if (vm->tdp_root)
		free_table(vm, vm->tdp_root, vm->tdp_levels, true);
	vm->tdp_root = NULL;
}

/* --- 2. flushes --- */

void pvhv_flush_remote_tlbs(struct pvhv_vm *vm)
{
	/* Counted after the entry changed, so what is counted is in memory. */
	s64 gen = READ_ONCE(vm->tdp_zap_gen), seen;

	smp_mb();
	pvhv_make_all_request(vm, PVHV_REQ_TLB_FLUSH, true);
	tdp_stat_add(&vm->stat.remote_tlb_flushes, 1);
	seen = atomic64_read(&vm->tdp_flushed_gen);
	while (seen < gen && !atomic64_try_cmpxchg(&vm->tdp_flushed_gen, &seen, gen))
		;
}

/* --- 3. ageing --- */

/* mmu_lock held. Stale A bits in TLBs only make a page look old: no flush. */
static bool age_leaves(struct pvhv_vm *vm, u64 start, u64 end, bool clear)
{
	const struct pvhv_tdp_format *f = vm->be->tdp;
	int accessed = __ffs64(f->accessed), level;
	bool young = false;
	u64 *p;

	for (; start < end; start = (start | (tdp_span(level) - 1)) + 1) {
		p = tdp_walk(vm, start, &level);
		if (!(READ_ONCE(*p) & f->accessed))
			continue;
		young = true;
		if (!clear)
			break;
		clear_bit(accessed, (unsigned long *)p);
	}
	return young;
}

/* Without A bits a page counts as young until it has not come back. */
static bool age_by_zapping(struct pvhv_vm *vm, u64 start, u64 end, bool clear)
{
	bool young = false;
	int level;
	u64 gfn;

	read_lock(&vm->mmu_lock);
	for (gfn = start; gfn < end && !young; gfn = (gfn | (tdp_span(level) - 1)) + 1)
		young = READ_ONCE(*tdp_walk(vm, gfn, &level));
	read_unlock(&vm->mmu_lock);
	if (young && clear)
		zap_range(vm, start, end, false);	/* a pte lock is held */
	return young;
}

bool pvhv_tdp_age(struct pvhv_vm *vm, u64 start, u64 end, bool clear)
{
	bool young;

	if (!vm->be->tdp->has_ad)
		return age_by_zapping(vm, start, end, clear);
	read_lock(&vm->mmu_lock);
	young = age_leaves(vm, start, end, clear);
	read_unlock(&vm->mmu_lock);
	return young;
}

/* --- 4. the dirty log --- */

/*
 * Replaces a large leaf by a table of the next smaller ones with the same
 * rights. Without memory for the table the leaf goes and comes back in small
 * pieces: the caller finds 0 there.
 */
static void split_leaf(struct pvhv_vm *vm, u64 *p, int level)
{
	const struct pvhv_tdp_format *f = vm->be->tdp;
	u64 *table = tdp_alloc_table(GFP_NOWAIT | __GFP_NOWARN);
	u64 entry = READ_ONCE(*p), step = tdp_span(level - 1) << PAGE_SHIFT;
	unsigned int i;

	tdp_stat_add(tdp_leaf_counter(vm, level), -1);
	if (!table) {
		WRITE_ONCE(*p, 0);
		tdp_owe_flush(vm);
		return;
	}
	if (level == 2)
		entry &= ~f->large;
	for (i = 0; i < TDP_ENTRIES; i++, entry += step)
		table[i] = entry;
	tdp_stat_add(tdp_leaf_counter(vm, level - 1), TDP_ENTRIES);
	tdp_stat_add(&vm->stat.tdp_pages, 1);
	/* x86 does not reorder stores: the table is complete before it is seen. */
	WRITE_ONCE(*p, tdp_table_entry(f, table));
	tdp_owe_flush(vm);
}

static inline void protect_entry(struct pvhv_vm *vm, u64 *p, int log_bit)
{
	/* Atomic: hardware may be setting A and D. */
	if (test_bit(log_bit, (unsigned long *)p)) {
		clear_bit(log_bit, (unsigned long *)p);
		tdp_owe_flush(vm);
	}
}

/*
 * The level-1 table of gfn, large leaves on the way split. NULL: nothing is
 * mapped there, as far as an entry of *level (2 or more) reaches.
 */
static u64 *small_table(struct pvhv_vm *vm, u64 gfn, int *level)
{
	u64 *p;

	for (;;) {
		p = tdp_walk(vm, gfn, level);
		if (*level == 1)
			return p - tdp_index(gfn, 1);
		if (!*p)
			return NULL;
		split_leaf(vm, p, *level);
	}
}

void pvhv_tdp_protect_masked(struct pvhv_vm *vm, u64 base, unsigned long mask)
{
	int bit = __ffs64(tdp_log_bit(vm->be->tdp)), level;
	u64 gfn, last, *table;

	lockdep_assert_held_write(&vm->mmu_lock);
	while (mask) {
		gfn = base + __ffs(mask);
		table = small_table(vm, gfn, &level);
		last = gfn | (tdp_span(max(level, 2)) - 1);
		/* All bits of mask that this table, or this hole, covers. */
		while (mask && base + __ffs(mask) <= last) {
			gfn = base + __ffs(mask);
			mask &= mask - 1;
			if (table)
				protect_entry(vm, &table[tdp_index(gfn, 1)], bit);
		}
	}
}

void pvhv_tdp_log_begin(struct pvhv_vm *vm, const struct pvhv_memslot *slot)
{
	u64 gfn = slot->base_gfn, end = gfn + slot->npages, next, *table;
	int bit = __ffs64(tdp_log_bit(vm->be->tdp)), level;
	bool flush;

	write_lock(&vm->mmu_lock);
	for (; gfn < end; gfn = next) {
		table = small_table(vm, gfn, &level);
		next = min((gfn | (tdp_span(max(level, 2)) - 1)) + 1, end);
		for (; table && gfn < next; gfn++)
			protect_entry(vm, &table[tdp_index(gfn, 1)], bit);
		/* What was done is owed a flush, whoever comes in between. */
		cond_resched_rwlock_write(&vm->mmu_lock);
	}
	flush = tdp_flush_owed(vm);
	write_unlock(&vm->mmu_lock);
	if (flush)
		pvhv_flush_remote_tlbs(vm);
}

/* Gives entries [start, end) of one table back what the log took. */
static void unprotect(struct pvhv_vm *vm, u64 *p, u64 start, u64 end)
{
	const struct pvhv_tdp_format *f = vm->be->tdp;
	u64 taken = tdp_log_bit(f);
	int bit = __ffs64(taken);

	for (; start < end; start++, p++)
		if ((READ_ONCE(*p) & (f->sw_host_writable | taken)) == f->sw_host_writable)
			set_bit(bit, (unsigned long *)p);
}

/*
 * Where the host maps large pages their small leaves go, so that faults bring
 * large ones; elsewhere faults would bring the same leaves with W, so set it.
 */
void pvhv_tdp_log_end(struct pvhv_vm *vm, const struct pvhv_memslot *slot)
{
	u64 gfn = slot->base_gfn, end = gfn + slot->npages, next, span, *p;
	struct host_leaf leaf;
	LIST_HEAD(dead);
	bool flush;
	int level;

	write_lock(&vm->mmu_lock);
	for (; gfn < end; gfn = next) {
		p = tdp_walk(vm, gfn, &level);
		next = min((gfn | (tdp_span(max(level, 2)) - 1)) + 1, end);
		if (level > 1)
			continue;	/* a hole, or large: never protected */
		if (pvhv_host_walk(vm->mm, pvhv_slot_hva(slot, gfn), false, &leaf))
			leaf.level = 1;
		level = pvhv_tdp_fit_level(vm->be->tdp, slot, gfn, leaf.level);
		if (level == 1) {
			unprotect(vm, p, gfn, next);
		} else {
			span = tdp_span(level);
			gfn &= ~(span - 1);
			next = gfn + span;
			tdp_zap(vm, gfn, next, &dead);
		}
		cond_resched_rwlock_write(&vm->mmu_lock);
	}
	flush = tdp_flush_owed(vm);
	write_unlock(&vm->mmu_lock);
	if (flush)
		pvhv_flush_remote_tlbs(vm);
	tdp_free_tables(vm, &dead, true);
}
