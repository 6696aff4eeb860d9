// SPDX-License-Identifier: GPL-2.0
/*
 * guestmem.c - the kernel's own accesses to guest memory:
 *  1. copies that may fault and sleep,
 *  2. copies that may not, of single fields mostly,
 *  3. compare-exchange.
 *
 * All go through the VMM's mapping with the user-access functions, so whatever
 * the VMM does to its mapping meanwhile is the mm's business, not ours.
 */
#include <linux/mm.h>
#include <linux/uaccess.h>

#include "pvhv.h"

static void __user *slot_ptr(const struct pvhv_memslot *slot, u64 gpa)
{
	return (void __user *)(pvhv_slot_hva(slot, gpa >> PAGE_SHIFT) + offset_in_page(gpa));
}

static struct pvhv_memslot *writable_slot(struct pvhv_vm *vm, u64 gpa)
{
	struct pvhv_memslot *slot = pvhv_gfn_to_memslot(vm, gpa >> PAGE_SHIFT);

	return slot && !(slot->flags & KVM_MEM_READONLY) ? slot : NULL;
}

/* Bytes of the len at gpa that lie in the slot: host addresses run on there. */
static unsigned long slot_piece(const struct pvhv_memslot *slot, u64 gpa, unsigned long len)
{
	u64 left = ((slot->base_gfn + slot->npages) << PAGE_SHIFT) - gpa;

	return min_t(u64, left, len);
}

/* --- 1. copies --- */

int pvhv_read_guest(struct pvhv_vm *vm, u64 gpa, void *buf, unsigned long len)
{
	struct pvhv_memslot *slot;
	unsigned long n;

	for (; len; len -= n, gpa += n, buf += n) {
		slot = pvhv_gfn_to_memslot(vm, gpa >> PAGE_SHIFT);
		if (!slot)
			return -EFAULT;
		n = slot_piece(slot, gpa, len);
		if (copy_from_user(buf, slot_ptr(slot, gpa), n))
			return -EFAULT;
	}
	return 0;
}

int pvhv_write_guest(struct pvhv_vm *vm, u64 gpa, const void *buf, unsigned long len)
{
	struct pvhv_memslot *slot;
	unsigned long n;
	bool failed;
	u64 gfn;

	for (; len; len -= n, gpa += n, buf += n) {
		slot = writable_slot(vm, gpa);
		if (!slot)
			return -EFAULT;
		n = slot_piece(slot, gpa, len);
		failed = copy_to_user(slot_ptr(slot, gpa), buf, n);
		/* After the data; a failed copy may have written some. */
		if (pvhv_slot_logs_dirty(slot))
			for (gfn = gpa >> PAGE_SHIFT; gfn <= (gpa + n - 1) >> PAGE_SHIFT; gfn++)
				pvhv_mark_dirty(vm, slot, gfn);
		if (failed)
			return -EFAULT;
	}
	return 0;
}

/* --- 2. without faults --- */

/* A byte, the usual case, is moved as one: copies of a length look at more. */
int pvhv_read_guest_atomic(struct pvhv_vm *vm, u64 gpa, void *buf, unsigned int len)
{
	struct pvhv_memslot *slot = pvhv_gfn_to_memslot(vm, gpa >> PAGE_SHIFT);
	unsigned long left;

	if (!slot)
		return -EFAULT;
	pagefault_disable();
	if (len == 1)
		left = __get_user(*(u8 *)buf, (u8 __user *)slot_ptr(slot, gpa)) ? 1 : 0;
	else
		left = __copy_from_user_inatomic(buf, slot_ptr(slot, gpa), len);
	pagefault_enable();
	return left ? -EFAULT : 0;
}

int pvhv_write_guest_atomic(struct pvhv_vm *vm, u64 gpa, const void *buf, unsigned int len)
{
	struct pvhv_memslot *slot = writable_slot(vm, gpa);
	unsigned long left;

	if (!slot)
		return -EFAULT;
	pagefault_disable();
	if (len == 1)
		left = __put_user(*(const u8 *)buf, (u8 __user *)slot_ptr(slot, gpa)) ? 1 : 0;
	else
		left = __copy_to_user_inatomic(slot_ptr(slot, gpa), buf, len);
	pagefault_enable();
	if (left != len)
		pvhv_mark_dirty(vm, slot, gpa >> PAGE_SHIFT);
	return left ? -EFAULT : 0;
}

/* Where a record lies that is written field by field, or NULL; within one page. */
void __user *pvhv_guest_record(struct pvhv_vm *vm, u64 gpa, struct pvhv_memslot **slot)
{
	*slot = writable_slot(vm, gpa);
	return *slot ? slot_ptr(*slot, gpa) : NULL;
}

/* --- 3. compare-exchange --- */

#define CMPXCHG(type, ptr, oldp, new) ({				\
	type __o = *(oldp);						\
	int __r = __try_cmpxchg_user((type __user *)(ptr), &__o,	\
				     (type)(new), fault##type);	\
	*(oldp) = __o;							\
	__r;								\
})

int pvhv_cmpxchg_guest(struct pvhv_vm *vm, u64 gpa, u64 *old, u64 new, unsigned int len)
{
	struct pvhv_memslot *slot = writable_slot(vm, gpa);
	void __user *ptr;
	int r;

	if (!slot || gpa & (len - 1))
		return -EFAULT;
	ptr = slot_ptr(slot, gpa);
	switch (len) {
	case 1:
		r = CMPXCHG(u8, ptr, old, new);
		break;
	case 2:
		r = CMPXCHG(u16, ptr, old, new);
		break;
	case 4:
		r = CMPXCHG(u32, ptr, old, new);
		break;
	case 8:
		r = CMPXCHG(u64, ptr, old, new);
		break;
	default:
		return -EFAULT;
	}
	if (!r)
		pvhv_mark_dirty(vm, slot, gpa >> PAGE_SHIFT);
	return r;
}
