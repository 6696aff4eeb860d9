// SPDX-License-Identifier: GPL-2.0
/*
 * memslot.c - guest memory as the VMM gave it:
 *  1. finding the slot of a guest frame,
 *  2. publishing a changed set of slots,
 *  3. KVM_SET_USER_MEMORY_REGION and _REGION2.
 *
 * A set and its slots are immutable once published. Readers hold vm->srcu;
 * the writer holds vm->slots_lock, publishes a new set, waits for the readers
 * of the old one and only then frees what went out of use. The second-level
 * tables map nothing outside the published slots, save what is left of
 * vm->leaving, which invalidations by the host take into account until it is
 * zapped and flushed.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/uaccess.h>

#include "pvhv.h"
#include "tdp.h"

#define MAX_SLOT_PAGES	((1UL << 31) - 1)	/* KVM_MEM_MAX_NR_PAGES */

/* --- 1. finding --- */

struct pvhv_memslots *pvhv_memslots(struct pvhv_vm *vm)
{
	return srcu_dereference_check(vm->memslots, &vm->srcu,
				      lockdep_is_held(&vm->slots_lock) ||
				      !refcount_read(&vm->users));
}

struct pvhv_memslot *pvhv_gfn_to_memslot(struct pvhv_vm *vm, u64 gfn)
{
	struct pvhv_memslots *set = pvhv_memslots(vm);
	unsigned int lo = 0, hi = set->nr, mid;
	struct pvhv_memslot *slot;

	/* The hint may be anybody's and stale: it is only a place to look first. */
	mid = READ_ONCE(set->hint);
	if (likely(mid < hi)) {
		slot = set->slot[array_index_nospec(mid, hi)];
		if (likely(gfn - slot->base_gfn < slot->npages))
			return slot;
	}
	/* lo becomes the number of slots that begin at or below gfn. */
	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (set->slot[mid]->base_gfn <= gfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	lo = array_index_nospec(lo - 1, set->nr);
	slot = set->slot[lo];
	if (gfn - slot->base_gfn >= slot->npages)
		return NULL;
	WRITE_ONCE(set->hint, lo);
	return slot;
}

struct pvhv_memslot *pvhv_id_to_memslot(struct pvhv_vm *vm, u32 id)
{
	struct pvhv_memslots *set = pvhv_memslots(vm);
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		if (set->slot[i]->id == id)
			return set->slot[i];
	return NULL;
}

/* --- 2. publishing --- */

/* The current set without old (or NULL) and with new (or NULL). */
static struct pvhv_memslots *make_set(struct pvhv_vm *vm, const struct pvhv_memslot *old,
				      struct pvhv_memslot *new)
{
	struct pvhv_memslots *set, *cur = pvhv_memslots(vm);
	unsigned int i, n = 0;

	set = kvzalloc(struct_size(set, slot, cur->nr + 1), GFP_KERNEL_ACCOUNT);
	if (!set)
		return NULL;
	for (i = 0; i < cur->nr; i++) {
		if (cur->slot[i] == old)
			continue;
		if (new && new->base_gfn < cur->slot[i]->base_gfn) {
			set->slot[n++] = new;
			new = NULL;
		}
		set->slot[n++] = cur->slot[i];
	}
	if (new)
		set->slot[n++] = new;
	set->nr = n;
	return set;
}

/* Returns with the old set out of use and freed. */
static void publish(struct pvhv_vm *vm, struct pvhv_memslots *set)
{
	struct pvhv_memslots *cur = pvhv_memslots(vm);

	set->generation = cur->generation + 1;
	rcu_assign_pointer(vm->memslots, set);
	pvhv_srcu_sync(vm);
	kvfree(cur);
}

static void free_slot(struct pvhv_memslot *slot)
{
	kvfree(slot->dirty_bitmap);
	kfree(slot);
}

int pvhv_memslots_init(struct pvhv_vm *vm)
{
	struct pvhv_memslots *set;

	set = kzalloc(sizeof(*set), GFP_KERNEL_ACCOUNT);
	if (!set)
		return -ENOMEM;
	rcu_assign_pointer(vm->memslots, set);
	return 0;
}

/* The VM has no users, no vCPUs and no notifier any more. */
void pvhv_memslots_destroy(struct pvhv_vm *vm)
{
	struct pvhv_memslots *set = rcu_dereference_protected(vm->memslots, true);
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		free_slot(set->slot[i]);
	RCU_INIT_POINTER(vm->memslots, NULL);
	kvfree(set);
}

/* --- 3. KVM_SET_USER_MEMORY_REGION --- */

static int check_region(const struct kvm_userspace_memory_region *r)
{
	if (r->flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EINVAL;
	if (!PAGE_ALIGNED(r->memory_size) || !PAGE_ALIGNED(r->guest_phys_addr) ||
	    !PAGE_ALIGNED(r->userspace_addr))
		return -EINVAL;
	/* Linear address masking would let access_ok() pass tagged pointers. */
	if (!access_ok((void __user *)(unsigned long)r->userspace_addr, r->memory_size) ||
	    r->userspace_addr + r->memory_size > TASK_SIZE_MAX)
		return -EINVAL;
	/* Includes any address space but 0, which is in the upper half. */
	if (r->slot >= PVHV_USER_SLOTS)
		return -EINVAL;
	if (r->guest_phys_addr + r->memory_size < r->guest_phys_addr)
		return -EINVAL;
	return r->memory_size >> PAGE_SHIFT > MAX_SLOT_PAGES ? -EINVAL : 0;
}

/* Does another slot than the one with this id hold frames of new? */
static bool overlaps(struct pvhv_vm *vm, const struct pvhv_memslot *new)
{
	struct pvhv_memslots *set = pvhv_memslots(vm);
	const struct pvhv_memslot *s;
	unsigned int i;

	for (i = 0; i < set->nr; i++) {
		s = set->slot[i];
		if (s->id != new->id && s->base_gfn < new->base_gfn + new->npages &&
		    new->base_gfn < s->base_gfn + s->npages)
			return true;
	}
	return false;
}

static int alloc_bitmap(struct pvhv_vm *vm, struct pvhv_memslot *slot, bool all_dirty)
{
	slot->dirty_bitmap = kvcalloc(BITS_TO_LONGS(slot->npages), sizeof(long),
				      GFP_KERNEL_ACCOUNT);
	if (!slot->dirty_bitmap)
		return -ENOMEM;
	/* Before a leaf can come to be that hardware would note. */
	WRITE_ONCE(vm->dirty_logged, true);
	if (all_dirty)
		bitmap_set(slot->dirty_bitmap, 0, slot->npages);
	return 0;
}

static void set_leaving(struct pvhv_vm *vm, struct pvhv_memslot *slot)
{
	write_lock(&vm->mmu_lock);
	vm->leaving = slot;
	write_unlock(&vm->mmu_lock);
}

/* Takes the slot out and makes every mapping of it go. The slot remains. */
static int take_out(struct pvhv_vm *vm, struct pvhv_memslot *old)
{
	struct pvhv_memslots *set = make_set(vm, old, NULL);

	if (!set)
		return -ENOMEM;
	set_leaving(vm, old);
	publish(vm, set);
	/* No reader knows the slot: nothing can be mapped anew behind this. */
	pvhv_tdp_zap_range(vm, old->base_gfn, old->base_gfn + old->npages);
	set_leaving(vm, NULL);
	return 0;
}

static int put_in(struct pvhv_vm *vm, struct pvhv_memslot *old, struct pvhv_memslot *new)
{
	struct pvhv_memslots *set = make_set(vm, old, new);

	if (!set)
		return -ENOMEM;
	publish(vm, set);
	if (!old)
		pvhv_apic_page_cover(vm, new);
	return 0;
}

static int change_flags(struct pvhv_vm *vm, struct pvhv_memslot *old,
			struct pvhv_memslot *new, bool all_dirty)
{
	bool logged = pvhv_slot_logs_dirty(old);
	int r;

	r = put_in(vm, old, new);
	if (r)
		return r;
	/* Every fault from here on knows the new flags. */
	if (logged && !new->dirty_bitmap)
		pvhv_tdp_log_end(vm, new);
	else if (!logged && !all_dirty)	/* what is dirty needs no protection */
		pvhv_tdp_log_begin(vm, new);
	return 0;
}

static void free_replaced(struct pvhv_memslot *old, const struct pvhv_memslot *new)
{
	if (old->dirty_bitmap == new->dirty_bitmap)
		old->dirty_bitmap = NULL;	/* it has moved */
	free_slot(old);
}

/* Out of memory in between: the old slot is gone, *old is NULL. */
static int move(struct pvhv_vm *vm, struct pvhv_memslot **old, struct pvhv_memslot *new)
{
	int r;

	r = take_out(vm, *old);
	if (r)
		return r;
	r = put_in(vm, NULL, new);
	if (r) {
		free_replaced(*old, new);
		*old = NULL;
	}
	return r;
}

static int delete_slot(struct pvhv_vm *vm, struct pvhv_memslot *old)
{
	int r;

	if (!old)
		return -EINVAL;
	r = take_out(vm, old);
	if (!r)
		free_slot(old);
	return r;
}

static int set_region(struct pvhv_vm *vm, const struct kvm_userspace_memory_region *region)
{
	struct pvhv_memslot *old, *new;
	u64 base_gfn = region->guest_phys_addr >> PAGE_SHIFT;
	u64 npages = region->memory_size >> PAGE_SHIFT;
	bool all_dirty = READ_ONCE(vm->manual_dirty) & KVM_DIRTY_LOG_INITIALLY_SET;
	int r;

	r = check_region(region);
	if (r)
		return r;
	old = pvhv_id_to_memslot(vm, region->slot);
	if (!npages)
		return delete_slot(vm, old);

	if (old) {
		if (region->userspace_addr != old->hva || npages != old->npages ||
		    (region->flags ^ old->flags) & KVM_MEM_READONLY)
			return -EINVAL;
		if (base_gfn == old->base_gfn && region->flags == old->flags)
			return 0;
	}

	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return -ENOMEM;
	new->id = region->slot;
	new->base_gfn = base_gfn;
	new->npages = npages;
	new->hva = region->userspace_addr;
	new->flags = region->flags;
	if (!old || base_gfn != old->base_gfn) {
		r = -EEXIST;
		if (overlaps(vm, new))
			goto err_slot;
		r = -EINVAL;
		if (base_gfn + npages > pvhv_tdp_max_gfn(vm))
			goto err_slot;
	}
	if (new->flags & KVM_MEM_LOG_DIRTY_PAGES) {
		if (old && old->dirty_bitmap) {
			new->dirty_bitmap = old->dirty_bitmap;
		} else {
			r = alloc_bitmap(vm, new, all_dirty);
			if (r)
				goto err_slot;
		}
	}
	if (!old)
		r = put_in(vm, NULL, new);
	else if (base_gfn == old->base_gfn)
		r = change_flags(vm, old, new, all_dirty);
	else
		r = move(vm, &old, new);
	if (r)
		goto err_bitmap;
	if (old)
		free_replaced(old, new);
	return 0;

err_bitmap:
	if (old && old->dirty_bitmap == new->dirty_bitmap)
		new->dirty_bitmap = NULL;
err_slot:
	free_slot(new);
	return r;
}

long pvhv_ioctl_set_memory_region(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vm *vm = obj;
	int r;

	if (mutex_lock_killable(&vm->slots_lock))
		return -EINTR;
	r = set_region(vm, data);
	mutex_unlock(&vm->slots_lock);
	return r;
}

/* The longer form begins like the other; what follows is for private memory, whose flag is refused. */
long pvhv_ioctl_set_memory_region2(void *obj, void *data, unsigned long arg)
{
	static_assert(offsetof(struct kvm_userspace_memory_region2, guest_memfd_offset) ==
		      sizeof(struct kvm_userspace_memory_region));

	return pvhv_ioctl_set_memory_region(obj, data, arg);
}
