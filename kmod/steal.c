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
	if (r || (old & KVM_VCPU_FLUSH_TLB)) {
		vcpu->stat.tlb_flushes++;
		vcpu->be->flush_tlb(vcpu);
	}
}

void pvhv_steal_update(struct pvhv_vcpu *vcpu)
{
	struct pvhv_vm *vm = vcpu->vm;
	struct kvm_steal_time record;
	u64 delay;

	if (!(vcpu->pv.steal_msr & KVM_MSR_ENABLED))
		return;
	untell_preempted(vcpu);

	if (pvhv_read_guest(vm, record_gpa(vcpu), &record,
			    offsetof(struct kvm_steal_time, preempted)))
		return;
	delay = READ_ONCE(current->sched_info.run_delay);
	record.version = (record.version + 1) | 1;	/* odd: being written */
	record.steal += delay - vcpu->pv.last_steal;
	vcpu->pv.last_steal = delay;

	if (pvhv_write_guest(vm, field_gpa(vcpu, offsetof(struct kvm_steal_time, version)),
			     &record.version, sizeof(record.version)))
		return;
	smp_wmb();
	if (pvhv_write_guest(vm, field_gpa(vcpu, offsetof(struct kvm_steal_time, steal)),
			     &record.steal, sizeof(record.steal)))
		return;
	smp_wmb();
	record.version++;
	if (pvhv_write_guest(vm, field_gpa(vcpu, offsetof(struct kvm_steal_time, version)),
			     &record.version, sizeof(record.version)))
		return;
}

/* Sched-out notifier: preemption off, the vCPU's own thread and memory. */
void pvhv_steal_set_preempted(struct pvhv_vcpu *vcpu)
{
	u8 flag = KVM_VCPU_PREEMPTED;
	int idx;

	/* Once told, the guest may have left its request there. */
	if (!(vcpu->pv.steal_msr & KVM_MSR_ENABLED) || vcpu->pv.preempted)
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
