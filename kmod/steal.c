// SPDX-License-Identifier: GPL-2.0
/*
 * steal.c - the record in which a vCPU learns what the host took from it:
 *  1. steal time: how long its thread was runnable but did not run,
 *  2. "preempted": whether the vCPU is off its CPU now, for the guest's
 *     spinning and its TLB shootdown; a guest may leave "flush your TLB" in
 *     the same byte instead of sending an interrupt nobody would take.
 */
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/srcu.h>
#include <linux/uaccess.h>

#include "pvhv.h"

static u64 record_gpa(const struct pvhv_vcpu *vcpu)
{
	return vcpu->pv.steal_msr & KVM_STEAL_VALID_BITS;
}

static u64 field_gpa(const struct pvhv_vcpu *vcpu, size_t offset)
{
	return record_gpa(vcpu) + offset;
}

/* Back on a CPU: take the byte, and do what the guest asked for in it. */
static void untell_preempted(struct pvhv_vcpu *vcpu)
{
	u64 gpa = field_gpa(vcpu, offsetof(struct kvm_steal_time, preempted));
	u64 old = KVM_VCPU_PREEMPTED;
	int r;

	if (!vcpu->pv.preempted)
		return;
	vcpu->pv.preempted = false;
	do {
		r = pvhv_cmpxchg_guest(vcpu->vm, gpa, &old, 0, 1);
	} while (r == 1);
	/* Memory gone: nobody knows what had been asked. */
	if (r || (old & KVM_VCPU_FLUSH_TLB))
		pvhv_flush_tlb(vcpu);
}

/*
 * All of the above and the time, in one go: the record lies in one page, since
 * the MSR's value is a multiple of its size.
 */
void pvhv_steal_update(struct pvhv_vcpu *vcpu)
{
	struct kvm_steal_time __user *record;
	struct pvhv_memslot *slot;
	u8 asked = KVM_VCPU_PREEMPTED;
	u64 delay, steal;
	u32 version;

	if (!(vcpu->pv.steal_msr & KVM_MSR_ENABLED))
		return;
	record = pvhv_guest_record(vcpu->vm, record_gpa(vcpu), &slot);
	if (!record || !user_access_begin(record, sizeof(*record))) {
		untell_preempted(vcpu);
		return;
	}
	if (vcpu->pv.preempted) {
		while (!unsafe_try_cmpxchg_user(&record->preempted, &asked, 0, out))
			;
		vcpu->pv.preempted = false;
	} else {
		asked = 0;
	}
	unsafe_get_user(version, &record->version, out);
	unsafe_get_user(steal, &record->steal, out);
	version = (version + 1) | 1;	/* odd: being written */
	unsafe_put_user(version, &record->version, out);
	smp_wmb();
	delay = READ_ONCE(current->sched_info.run_delay);
	steal += delay - vcpu->pv.last_steal;
	vcpu->pv.last_steal = delay;
	unsafe_put_user(steal, &record->steal, out);
	smp_wmb();
	unsafe_put_user(version + 1, &record->version, out);
out:
	user_access_end();
	/* Also what was written before a fault. */
	pvhv_mark_dirty(vcpu->vm, slot, record_gpa(vcpu) >> PAGE_SHIFT);
	/* As above, where the fault was the byte's. */
	if (vcpu->pv.preempted || (asked & KVM_VCPU_FLUSH_TLB)) {
		vcpu->pv.preempted = false;
		pvhv_flush_tlb(vcpu);
	}
}

/* Sched-out notifier: preemption off, the vCPU's own thread and memory. */
void pvhv_steal_set_preempted(struct pvhv_vcpu *vcpu)
{
	u8 flag = KVM_VCPU_PREEMPTED;
	int idx;

	/* Once told, the guest may have left its request there. */
	if (!(vcpu->pv.steal_msr & KVM_MSR_ENABLED) || vcpu->pv.preempted)
		return;
	/* It is other vCPUs that want to know. */
	if (smp_load_acquire(&vcpu->vm->nr_vcpus) == 1)
		return;
	/* An exiting thread has given its memory back already. */
	if (unlikely(current->mm != vcpu->vm->mm))
		return;
	idx = srcu_read_lock(&vcpu->vm->srcu);
	if (!pvhv_write_guest_atomic(vcpu->vm,
				     field_gpa(vcpu, offsetof(struct kvm_steal_time, preempted)),
				     &flag, sizeof(flag)))
		vcpu->pv.preempted = true;
	srcu_read_unlock(&vcpu->vm->srcu, idx);
}

void pvhv_steal_vcpu_load(struct pvhv_vcpu *vcpu)
{
	if (!(vcpu->pv.steal_msr & KVM_MSR_ENABLED))
		return;
	if (vcpu->pv.preempted ||
	    READ_ONCE(current->sched_info.run_delay) != vcpu->pv.last_steal)
		pvhv_set_request(vcpu, PVHV_REQ_STEAL_UPDATE);
}

int pvhv_steal_set_msr(struct pvhv_vcpu *vcpu, u64 value)
{
	if (!sched_info_on() || (value & KVM_STEAL_RESERVED_MASK))
		return 1;
	untell_preempted(vcpu);
	vcpu->pv.steal_msr = value;
	if (value & KVM_MSR_ENABLED) {
		vcpu->pv.last_steal = READ_ONCE(current->sched_info.run_delay);
		pvhv_set_request(vcpu, PVHV_REQ_STEAL_UPDATE);
	}
	return 0;
}
