// SPDX-License-Identifier: GPL-2.0
/*
 * msr_filter.c - KVM_X86_SET_MSR_FILTER: which MSRs the guest may touch, by
 * the VMM's word. What it may not is refused as if it were not there, or goes
 * to userspace (msr_exit.c). x2APIC registers are beyond the filter.
 *
 * Lock: the filter is replaced under vm->lock and read under vm->srcu.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/uaccess.h>

#include "pvhv.h"

#define RANGE_FLAGS	(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)
#define X2APIC_FIRST	0x800
#define X2APIC_LAST	0x8ff

struct msr_range {
	u32 flags, base, nmsrs;
	unsigned long *bitmap;		/* set: allowed */
};

struct pvhv_msr_filter {
	bool allow;			/* what no range names */
	unsigned int nr;
	struct msr_range range[KVM_MSR_FILTER_MAX_RANGES];
};

bool pvhv_msr_allowed(struct pvhv_vm *vm, u32 index, u32 access)
{
	const struct pvhv_msr_filter *f = srcu_dereference(vm->msr_filter, &vm->srcu);
	unsigned int i;

	if (likely(!f) || (index >= X2APIC_FIRST && index <= X2APIC_LAST))
		return true;
	for (i = 0; i < f->nr; i++) {
		const struct msr_range *r = &f->range[i];
		u32 bit = index - r->base;

		if (bit < r->nmsrs && (r->flags & access))
			return test_bit(array_index_nospec(bit, r->nmsrs), r->bitmap);
	}
	return f->allow;
}

bool pvhv_msrs_filtered(struct pvhv_vm *vm, const u32 *msrs, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (!pvhv_msr_allowed(vm, msrs[i], KVM_MSR_FILTER_READ) ||
		    !pvhv_msr_allowed(vm, msrs[i], KVM_MSR_FILTER_WRITE))
			return true;
	return false;
}

static void free_filter(struct pvhv_msr_filter *f)
{
	unsigned int i;

	if (!f)
		return;
	for (i = 0; i < f->nr; i++)
		kfree(f->range[i].bitmap);
	kfree(f);
}

/* The VM has no users any more. */
void pvhv_msr_filter_destroy(struct pvhv_vm *vm)
{
	free_filter(rcu_dereference_protected(vm->msr_filter, true));
}

static int add_msr_range(struct pvhv_msr_filter *f, const struct kvm_msr_filter_range *user)
{
	unsigned long *bitmap;
	size_t size;

	if (!user->nmsrs)
		return 0;
	if (!user->flags || (user->flags & ~(u32)RANGE_FLAGS))
		return -EINVAL;
	size = BITS_TO_LONGS((size_t)user->nmsrs) * sizeof(long);
	if (size > KVM_MSR_FILTER_MAX_BITMAP_SIZE)
		return -EINVAL;
	bitmap = memdup_user((const void __user *)user->bitmap, size);
	if (IS_ERR(bitmap))
		return PTR_ERR(bitmap);
	f->range[f->nr++] = (struct msr_range) {
		.flags = user->flags,
		.base = user->base,
		.nmsrs = user->nmsrs,
		.bitmap = bitmap,
	};
	return 0;
}

static struct pvhv_msr_filter *make_filter(const struct kvm_msr_filter *user)
{
	struct pvhv_msr_filter *f;
	unsigned int i;
	int r = -EINVAL;

	if (user->flags & ~(u32)KVM_MSR_FILTER_DEFAULT_DENY)
		return ERR_PTR(-EINVAL);
	f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	if (!f)
		return ERR_PTR(-ENOMEM);
	f->allow = !(user->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		r = add_msr_range(f, &user->ranges[i]);
		if (r)
			goto err;
	}
	if (f->nr)
		return f;
	/* Nothing named: all allowed is no filter, all denied no VM can want. */
	r = f->allow ? 0 : -EINVAL;
err:
	free_filter(f);
	return ERR_PTR(r);
}

long pvhv_ioctl_set_msr_filter(void *obj, void *data, unsigned long arg)
{
	struct pvhv_msr_filter *new, *old;
	struct pvhv_vm *vm = obj;

	new = make_filter(data);
	if (IS_ERR(new))
		return PTR_ERR(new);
	old = rcu_replace_pointer(vm->msr_filter, new, lockdep_is_held(&vm->lock));
	pvhv_srcu_sync(vm);
	free_filter(old);
	/* The backend may have to intercept more, or less, than before. */
	pvhv_make_all_request(vm, PVHV_REQ_MSR_FILTER, false);
	return 0;
}
