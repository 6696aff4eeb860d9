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

static bool concerns_us(struct pvhv_vm *vm, unsigned long start, unsigned long end)
{
	struct pvhv_memslots *set = pvhv_memslots(vm);
	unsigned int i;
	u64 a, b;

	for (i = 0; i < set->nr; i++)
		if (slot_frames(set->slot[i], start, end, &a, &b))
			return true;
	return false;
}

/* --- 2. invalidations --- */

/* mmu_lock held for writing. */
static void begin(struct pvhv_vm *vm, unsigned long start, unsigned long end)
{
	if (!vm->notifier_count++) {
		vm->notifier_start = start;
		vm->notifier_end = end;
		return;
	}
	/* One hull for all that are in progress: may hold back too much. */
	vm->notifier_start = min(vm->notifier_start, start);
	vm->notifier_end = max(vm->notifier_end, end);
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
	begin(vm, start, end);
	for (i = 0; i < set->nr; i++)
		if (slot_frames(set->slot[i], start, end, &first, &last))
			tdp_zap(vm, first, last, &dead);
	vm->stat.notifier_zaps++;
	/* Also for what another thread has zapped and not flushed yet. */
	flush = tdp_flush_owed(vm);
	write_unlock(&vm->mmu_lock);

	if (flush)
		pvhv_flush_remote_tlbs(vm);
	tdp_free_tables(vm, &dead, may_sleep);
}

static int invalidate_range_start(struct mmu_notifier *mn,
				  const struct mmu_notifier_range *range)
{
	struct pvhv_vm *vm = to_vm(mn);
	int idx;

	/* From here to the end of the invalidation the slots do not change. */
	spin_lock(&vm->mn_lock);
	vm->mn_active++;
	spin_unlock(&vm->mn_lock);

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
	struct pvhv_vm *vm = to_vm(mn);
	bool idle;
	int idx;

	idx = srcu_read_lock(&vm->srcu);
	if (concerns_us(vm, range->start, range->end)) {
		write_lock(&vm->mmu_lock);
		vm->notifier_count--;
		write_unlock(&vm->mmu_lock);
	}
	srcu_read_unlock(&vm->srcu, idx);

	spin_lock(&vm->mn_lock);
	idle = !--vm->mn_active;
	spin_unlock(&vm->mn_lock);
	/* A waiter queues itself before it looks at mn_active under mn_lock. */
	if (idle && wq_has_sleeper(&vm->mn_wait))
		wake_up(&vm->mn_wait);
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
	vm->mmu_notifier.ops = &notifier_ops;
	return mmu_notifier_register(&vm->mmu_notifier, vm->mm);
}

/* Returns when no callback runs any more. */
void pvhv_notifier_destroy(struct pvhv_vm *vm)
{
	mmu_notifier_unregister(&vm->mmu_notifier, vm->mm);
}
