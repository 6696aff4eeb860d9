// SPDX-License-Identifier: GPL-2.0
/*
 * sync_regs.c - KVM_CAP_SYNC_REGS: registers in struct kvm_run instead of by
 * ioctls:
 *  1. before the guest runs, those that userspace says it has changed,
 *  2. after it, those that userspace says it wants to see.
 *
 * Other threads may write to that page at any moment: each part is copied
 * once, then checked.
 */
#include "pvhv.h"

/* --- 1. in --- */

static long take_events(struct pvhv_vcpu *vcpu)
{
	struct kvm_vcpu_events events = vcpu->run->s.regs.events;

	return pvhv_ioctl_set_vcpu_events(vcpu, &events, 0);
}

static long take_sregs(struct pvhv_vcpu *vcpu)
{
	struct kvm_sregs sregs = vcpu->run->s.regs.sregs;

	return pvhv_ioctl_set_sregs(vcpu, &sregs, 0);
}

static void take_regs(struct pvhv_vcpu *vcpu)
{
	struct kvm_regs regs = vcpu->run->s.regs.regs;

	pvhv_ioctl_set_regs(vcpu, &regs, 0);
}

static int take(struct pvhv_vcpu *vcpu, u64 dirty)
{
	struct kvm_run *run = vcpu->run;

	if ((dirty | READ_ONCE(run->kvm_valid_regs)) & ~(u64)KVM_SYNC_X86_VALID_FIELDS)
		return -EINVAL;
	/* What was taken is dirty no longer; what is refused stays so. */
	if (dirty & KVM_SYNC_X86_REGS) {
		take_regs(vcpu);
		run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_REGS;
	}
	if (dirty & KVM_SYNC_X86_SREGS) {
		if (take_sregs(vcpu))
			return -EINVAL;
		run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_SREGS;
	}
	if (dirty & KVM_SYNC_X86_EVENTS) {
		if (take_events(vcpu))
			return -EINVAL;
		run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_EVENTS;
	}
	return 0;
}

int pvhv_sync_regs_in(struct pvhv_vcpu *vcpu)
{
	u64 dirty = READ_ONCE(vcpu->run->kvm_dirty_regs);
	int r;

	if (likely(!dirty && !READ_ONCE(vcpu->run->kvm_valid_regs)))
		return 0;
	vcpu->srcu_idx = srcu_read_lock(&vcpu->vm->srcu);
	r = take(vcpu, dirty);
	srcu_read_unlock(&vcpu->vm->srcu, vcpu->srcu_idx);
	return r;
}

/* --- 2. out --- */

static void give(struct pvhv_vcpu *vcpu, u64 valid)
{
	struct kvm_run *run = vcpu->run;

	if (valid & KVM_SYNC_X86_REGS)
		pvhv_ioctl_get_regs(vcpu, &run->s.regs.regs, 0);
	if (valid & KVM_SYNC_X86_SREGS)
		pvhv_ioctl_get_sregs(vcpu, &run->s.regs.sregs, 0);
	if (valid & KVM_SYNC_X86_EVENTS)
		pvhv_ioctl_get_vcpu_events(vcpu, &run->s.regs.events, 0);
}

void pvhv_sync_regs_out(struct pvhv_vcpu *vcpu)
{
	u64 valid = READ_ONCE(vcpu->run->kvm_valid_regs);

	if (likely(!valid))
		return;
	vcpu->srcu_idx = srcu_read_lock(&vcpu->vm->srcu);
	give(vcpu, valid);
	srcu_read_unlock(&vcpu->vm->srcu, vcpu->srcu_idx);
}
