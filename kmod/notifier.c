// SPDX-License-Identifier: GPL-2.0
/*
 * notifier.c - the VMM's address space changes under the guest:
 *  1. from host addresses to guest frames,
 *  2. invalidations: what maps the range goes, and nothing comes back before
 *     they end,
 *  3. ageing, for the host's page reclaim,
 *  4. registration and the end of the address space.
 */
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "pvhv.h"
#include "tdp.h"

static struct pvhv_vm *to_vm(struct mmu_notifier *mn)
{
	return container_of(mn, struct pvhv_vm, mmu_notifier);
}

/* --- 1. addresses to frames --- */

/* The frames of slot in host addresses [start, end), false: none. */
static bool slot_frames(const struct pvhv_memslot *slot, unsigned long start,
			unsigned long end, u64 *first, u64 *last)
{
	unsigned long slot_end = slot->hva + (slot->npages << PAGE_SHIFT);

	start = max(start, slot->hva);
	end = min(end, slot_end);
	if (start >= end)
		return false;
	*first = slot->base_gfn + ((start - slot->hva) >> PAGE_SHIFT);
	*last = slot->base_gfn + ((end - 1 - slot->hva) >> PAGE_SHIFT) + 1;
	return true;
}

/*
 * The order matters: a slot on its way out is in vm->leaving before it is out
 * of the set, and until its leaves are flushed.
 */
static bool concerns_us(struct pvhv_vm *vm, unsigned long start, unsigned long end)
{
	struct pvhv_memslots *set = pvhv_memslots(vm);
	unsigned int i;
	u64 a, b;

	for (i = 0; i < set->nr; i++)
		if (slot_frames(set->slot[i], start, end, &a, &b))
			return true;
	smp_rmb();
	return READ_ONCE(vm->leaving);
}

/* --- 2. invalidations --- */

static void mn_begin(struct pvhv_vm *vm, unsigned long start, unsigned long end)
{
	unsigned int i;

	spin_lock(&vm->mn_lock);
	for (i = 0; i < PVHV_MN_RANGES && vm->mn_range[i].end; i++)
		;
	if (i < PVHV_MN_RANGES) {
		vm->mn_range[i].start = start;
		vm->mn_range[i].end = end;
	} else {
		/* One hull for all of these: may hold back too much. */
		if (!vm->mn_extra++) {
			vm->mn_hull.start = start;
			vm->mn_hull.end = end;
		}
		vm->mn_hull.start = min(vm->mn_hull.start, start);
		vm->mn_hull.end = max(vm->mn_hull.end, end);
	}
	WRITE_ONCE(vm->mn_active, vm->mn_active + 1);
	spin_unlock(&vm->mn_lock);
}

static void mn_end(struct pvhv_vm *vm, unsigned long start, unsigned long end)
{
	struct pvhv_hva_range *r = vm->mn_range;
	unsigned int i;

	spin_lock(&vm->mn_lock);
	for (i = 0; i < PVHV_MN_RANGES && (r[i].start != start || r[i].end != end); i++)
		;
	if (i < PVHV_MN_RANGES)
		r[i].end = 0;
	else
		vm->mn_extra--;
	/* The mm's changes are in memory before this says that it is over. */
	smp_store_release(&vm->mn_active, vm->mn_active - 1);
	spin_unlock(&vm->mn_lock);
}

bool pvhv_hva_invalidating(struct pvhv_vm *vm, unsigned long hva)
{
	const struct pvhv_hva_range *r = vm->mn_range;
	bool hit;
	unsigned int i;

	spin_lock(&vm->mn_lock);
	hit = vm->mn_extra && hva >= vm->mn_hull.start && hva < vm->mn_hull.end;
	for (i = 0; i < PVHV_MN_RANGES && !hit; i++)
		hit = hva >= r[i].start && hva < r[i].end;
	spin_unlock(&vm->mn_lock);
	return hit;
}

static void zap_host_range(struct pvhv_vm *vm, unsigned long start, unsigned long end,
			   bool may_sleep)
{
	struct pvhv_memslots *set = pvhv_memslots(vm);
	LIST_HEAD(dead);
	u64 first, last;
	unsigned int i;
	bool flush;

	write_lock(&vm->mmu_lock);
	for (i = 0; i < set->nr; i++)
		if (slot_frames(set->slot[i], start, end, &first, &last))
			tdp_zap(vm, first, last, &dead);
	if (vm->leaving && slot_frames(vm->leaving, start, end, &first, &last))
		tdp_zap(vm, first, last, &dead);
	vm->stat.notifier_zaps++;
	/* Also for what another thread has zapped and not flushed yet. */
	flush = tdp_flush_owed(vm);
	write_unlock(&vm->mmu_lock);

	if (flush)
		pvhv_flush_remote_tlbs(vm);
	tdp_free_tables(vm, &dead, may_sleep);
}

/*
 * mmu_lock is taken only if guest memory is concerned. If it is not, a slot may
 * come that is: mn_begin() is visible before the slots are read (smp_mb), so a
 * fault that knows the new slot knows of this invalidation too and waits for
 * its end. If it is, a fault has either mapped its page before the zap, which
 * takes it away, or looks for invalidations after it.
 */
static int invalidate_range_start(struct mmu_notifier *mn,
				  const struct mmu_notifier_range *range)
{
	struct pvhv_vm *vm = to_vm(mn);
	int idx;

	mn_begin(vm, range->start, range->end);
	smp_mb();
	idx = srcu_read_lock(&vm->srcu);
	if (concerns_us(vm, range->start, range->end))
		zap_host_range(vm, range->start, range->end,
			       mmu_notifier_range_blockable(range));
	srcu_read_unlock(&vm->srcu, idx);
	return 0;
}

static void invalidate_range_end(struct mmu_notifier *mn,
				 const struct mmu_notifier_range *range)
{
	mn_end(to_vm(mn), range->start, range->end);
}

/* --- 3. ageing --- */

static int age(struct mmu_notifier *mn, unsigned long start, unsigned long end, bool clear)
{
	struct pvhv_vm *vm = to_vm(mn);
	struct pvhv_memslots *set;
	bool young = false;
	u64 first, last;
	unsigned int i;
	int idx;

	idx = srcu_read_lock(&vm->srcu);
	set = pvhv_memslots(vm);
	for (i = 0; i < set->nr; i++)
		if (slot_frames(set->slot[i], start, end, &first, &last))
			young |= pvhv_tdp_age(vm, first, last, clear);
	srcu_read_unlock(&vm->srcu, idx);
	return young;
}

static int clear_flush_young(struct mmu_notifier *mn, struct mm_struct *mm,
			     unsigned long start, unsigned long end)
{
	return age(mn, start, end, true);
}

static int clear_young(struct mmu_notifier *mn, struct mm_struct *mm,
		       unsigned long start, unsigned long end)
{
	return age(mn, start, end, true);
}

static int test_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long address)
{
	return age(mn, address, address + PAGE_SIZE, false);
}

/* --- 4. registration and the end --- */

/*
 * The address space ends, or we leave it: its pages are freed after this
 * without further invalidations, so the one begun here never ends.
 */
static void release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct pvhv_vm *vm = to_vm(mn);
	int idx;

	mn_begin(vm, 0, ULONG_MAX);
	smp_mb();
	idx = srcu_read_lock(&vm->srcu);
	zap_host_range(vm, 0, ULONG_MAX, true);
	srcu_read_unlock(&vm->srcu, idx);
}

static const struct mmu_notifier_ops notifier_ops = {
	.invalidate_range_start = invalidate_range_start,
	.invalidate_range_end = invalidate_range_end,
	.clear_flush_young = clear_flush_young,
	.clear_young = clear_young,
	.test_young = test_young,
	.release = release,
};

int pvhv_notifier_init(struct pvhv_vm *vm)
{
	spin_lock_init(&vm->mn_lock);
	vm->mmu_notifier.ops = &notifier_ops;
	return mmu_notifier_register(&vm->mmu_notifier, vm->mm);
}

/* Returns when no callback runs any more. */
void pvhv_notifier_destroy(struct pvhv_vm *vm)
{
	mmu_notifier_unregister(&vm->mmu_notifier, vm->mm);
}
