// SPDX-License-Identifier: GPL-2.0
/*
 * dirty.c - the dirty log:
 *  1. noting a written page,
 *  2. KVM_GET_DIRTY_LOG,
 *  3. KVM_CLEAR_DIRTY_LOG.
 *
 * Where hardware notes writes (PML), vCPUs carry its notes into the bitmap at
 * each exit, and D stands for W below. Elsewhere a page is written either
 * through a writable leaf, whose bit is set before the leaf is made, both under
 * one hold of mmu_lock for reading, or by the kernel, which sets the bit after
 * the write. Taking bits out of the bitmap and W out of the leaves happens
 * under one hold of mmu_lock for writing, and the flush comes before the ioctl
 * returns. So a write is reported by the call that is under way, with its data
 * in memory when the call returns, or by the next one.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "pvhv.h"
#include "tdp.h"

/* Bits move through the stack in pieces of this many words. */
#define CHUNK_WORDS	64

/* --- 1. noting --- */

void pvhv_mark_dirty(struct pvhv_vm *vm, struct pvhv_memslot *slot, u64 gfn)
{
	if (!slot->dirty_bitmap)
		return;
	/* Locked, so also a barrier between the data and the bit. */
	if (!test_and_set_bit(gfn - slot->base_gfn, slot->dirty_bitmap))
		tdp_stat_add(&vm->stat.dirty_logged, 1);
}

void pvhv_log_written(struct pvhv_vm *vm, u64 gpa)
{
	struct pvhv_memslot *slot = pvhv_gfn_to_memslot(vm, gpa >> PAGE_SHIFT);

	if (slot)
		pvhv_mark_dirty(vm, slot, gpa >> PAGE_SHIFT);
}

/* --- 2. KVM_GET_DIRTY_LOG --- */

static struct pvhv_memslot *logged_slot(struct pvhv_vm *vm, u32 id)
{
	struct pvhv_memslot *slot;

	if (id >= PVHV_USER_SLOTS)
		return ERR_PTR(-EINVAL);
	slot = pvhv_id_to_memslot(vm, id);
	return slot && pvhv_slot_logs_dirty(slot) ? slot : ERR_PTR(-ENOENT);
}

/*
 * Takes the bits in mask out of words first ... first + n - 1, write-protects
 * their pages and leaves in mask the bits that were set.
 */
static void harvest(struct pvhv_vm *vm, struct pvhv_memslot *slot, unsigned long first,
		    unsigned long *mask, unsigned int n)
{
	atomic_long_t *word = (atomic_long_t *)&slot->dirty_bitmap[first];
	u64 base = slot->base_gfn + first * BITS_PER_LONG;
	unsigned int i;

	write_lock(&vm->mmu_lock);
	for (i = 0; i < n; i++, base += BITS_PER_LONG) {
		mask[i] &= atomic_long_read(&word[i]);
		if (!mask[i])
			continue;
		mask[i] &= atomic_long_fetch_andnot(mask[i], &word[i]);
		pvhv_tdp_protect_masked(vm, base, mask[i]);
	}
	write_unlock(&vm->mmu_lock);
}

static void flush_if_owed(struct pvhv_vm *vm)
{
	bool flush;

	read_lock(&vm->mmu_lock);
	flush = tdp_flush_owed(vm);
	read_unlock(&vm->mmu_lock);
	if (flush)
		pvhv_flush_remote_tlbs(vm);
}

static int get_log(struct pvhv_vm *vm, struct pvhv_memslot *slot, u8 __user *to)
{
	unsigned long words = BITS_TO_LONGS(slot->npages), first, mask[CHUNK_WORDS];
	unsigned int n;
	int r = 0;

	/* Notes of hardware are in the bitmap once all vCPUs were out of the guest. */
	if (vm->be->tdp->logs_dirty)
		pvhv_make_all_request(vm, PVHV_REQ_EVENT, true);
	if (READ_ONCE(vm->manual_dirty))
		return copy_to_user(to, slot->dirty_bitmap, words * sizeof(long)) ? -EFAULT : 0;

	for (first = 0; first < words && !r; first += n) {
		n = min_t(unsigned long, words - first, CHUNK_WORDS);
		memset(mask, 0, sizeof(mask));
		if (memchr_inv(&slot->dirty_bitmap[first], 0, n * sizeof(long))) {
			memset(mask, 0xff, n * sizeof(long));
			harvest(vm, slot, first, mask, n);
		}
		if (copy_to_user(to + first * sizeof(long), mask, n * sizeof(long)))
			r = -EFAULT;
		cond_resched();
	}
	flush_if_owed(vm);
	return r;
}

long pvhv_ioctl_get_dirty_log(void *obj, void *data, unsigned long arg)
{
	const struct kvm_dirty_log *log = data;
	struct pvhv_memslot *slot;
	struct pvhv_vm *vm = obj;
	int r;

	if (mutex_lock_killable(&vm->slots_lock))
		return -EINTR;
	slot = logged_slot(vm, log->slot);
	r = IS_ERR(slot) ? PTR_ERR(slot) : get_log(vm, slot, log->dirty_bitmap);
	mutex_unlock(&vm->slots_lock);
	return r;
}

/* --- 3. KVM_CLEAR_DIRTY_LOG --- */

static int clear_log(struct pvhv_vm *vm, struct pvhv_memslot *slot,
		     const struct kvm_clear_dirty_log *log)
{
	unsigned long words = BITS_TO_LONGS(log->num_pages), done, mask[CHUNK_WORDS];
	const u8 __user *from = log->dirty_bitmap;
	u64 left;
	unsigned int n;
	int r = 0;

	if (log->first_page > slot->npages)
		return -EINVAL;
	left = slot->npages - log->first_page;
	/* Whole words, unless it goes to the end of the slot. */
	if (log->num_pages > left ||
	    (log->num_pages < left && log->num_pages % BITS_PER_LONG))
		return -EINVAL;

	for (done = 0; done < words; done += n) {
		n = min_t(unsigned long, words - done, CHUNK_WORDS);
		if (copy_from_user(mask, from + done * sizeof(long), n * sizeof(long))) {
			r = -EFAULT;
			break;
		}
		harvest(vm, slot, log->first_page / BITS_PER_LONG + done, mask, n);
		cond_resched();
	}
	flush_if_owed(vm);
	return r;
}

long pvhv_ioctl_clear_dirty_log(void *obj, void *data, unsigned long arg)
{
	const struct kvm_clear_dirty_log *log = data;
	struct pvhv_memslot *slot;
	struct pvhv_vm *vm = obj;
	int r;

	if (log->first_page % BITS_PER_LONG)
		return -EINVAL;
	if (mutex_lock_killable(&vm->slots_lock))
		return -EINTR;
	slot = logged_slot(vm, log->slot);
	r = IS_ERR(slot) ? PTR_ERR(slot) : clear_log(vm, slot, log);
	mutex_unlock(&vm->slots_lock);
	return r;
}
