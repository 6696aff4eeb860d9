// SPDX-License-Identifier: GPL-2.0
/*
 * msr_exit.c - RDMSR and WRMSR of the guest:
 *  1. those that need no interrupts: x2APIC registers and the TSC deadline,
 *  2. all others; the VMM's filter before them,
 *  3. what is refused: #GP, or an exit to userspace where the VMM wants that
 *     (KVM_CAP_X86_USER_SPACE_MSR), whose answer the next KVM_RUN delivers.
 */
#include "pvhv.h"
#include "trace.h"

#define MSR_X2APIC_FIRST 0x800
#define MSR_X2APIC_LAST	 0x8ff

static u64 written_value(const struct pvhv_vcpu *vcpu)
{
	return (u32)vcpu->gpr[PVHV_RAX] | vcpu->gpr[PVHV_RDX] << 32;
}

static void set_read_value(struct pvhv_vcpu *vcpu, u64 value)
{
	vcpu->gpr[PVHV_RAX] = (u32)value;
	vcpu->gpr[PVHV_RDX] = value >> 32;
}

/* --- 1. fast --- */

static bool fast_msr(struct pvhv_vcpu *vcpu, u32 msr)
{
	if (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST)
		return true;
	return msr == MSR_IA32_TSC_DEADLINE && likely(!rcu_access_pointer(vcpu->vm->msr_filter));
}

int pvhv_handle_msr_fast(struct pvhv_vcpu *vcpu, bool write)
{
	u32 msr = vcpu->gpr[PVHV_RCX];
	u64 rip = vcpu->rip, value;
	int r;

	if (!fast_msr(vcpu, msr) || !vcpu->lapic || (vcpu->rflags & X86_EFLAGS_TF))
		return PVHV_SLOW;
	if (!write && unlikely(pvhv_lapic_read_sleeps(vcpu)))
		return PVHV_SLOW;
	r = pvhv_skip_insn(vcpu, true);
	if (r)
		return r;
	if (write) {
		value = written_value(vcpu);
		trace_pvhv_msr(true, msr, value, 0);
		if (msr == MSR_IA32_TSC_DEADLINE)
			pvhv_lapic_set_tsc_deadline(vcpu, value);
		else
			r = pvhv_x2apic_write(vcpu, msr, value);
	} else {
		if (msr == MSR_IA32_TSC_DEADLINE)
			value = pvhv_lapic_get_tsc_deadline(vcpu);
		else
			r = pvhv_x2apic_read(vcpu, msr, &value);
		if (!r)
			set_read_value(vcpu, value);
	}
	if (unlikely(r)) {
		vcpu->rip = rip;
		/* A refused access changed nothing: it may be refused again. */
		if (vcpu->vm->user_msr_reasons)
			return PVHV_SLOW;
		pvhv_queue_gp(vcpu);
	}
	vcpu->stat.msr_exits++;
	return PVHV_RESUME;
}

/* --- 3. refused --- */

static u32 reason_of(int refusal)
{
	switch (refusal) {
	case PVHV_MSR_FILTERED:
		return KVM_MSR_EXIT_REASON_FILTER;
	case PVHV_MSR_UNKNOWN:
		return KVM_MSR_EXIT_REASON_UNKNOWN;
	default:
		return KVM_MSR_EXIT_REASON_INVAL;
	}
}

static int complete_access(struct pvhv_vcpu *vcpu, bool write)
{
	const struct kvm_run *run = vcpu->run;

	/* Userspace may have set new registers: then there is nothing to complete. */
	if (vcpu->rip != vcpu->user_msr.rip)
		return PVHV_RESUME;
	if (run->msr.error) {
		pvhv_queue_gp(vcpu);
		return PVHV_RESUME;
	}
	if (!write)
		set_read_value(vcpu, run->msr.data);
	pvhv_finish_insn(vcpu, vcpu->user_msr.next_rip);
	return PVHV_RESUME;
}

static int complete_read(struct pvhv_vcpu *vcpu)
{
	return complete_access(vcpu, false);
}

static int complete_write(struct pvhv_vcpu *vcpu)
{
	return complete_access(vcpu, true);
}

static int refused(struct pvhv_vcpu *vcpu, bool write, u64 value, int refusal, u64 next_rip)
{
	struct kvm_run *run = vcpu->run;
	u32 reason = reason_of(refusal);

	if (!(READ_ONCE(vcpu->vm->user_msr_reasons) & reason)) {
		pvhv_queue_gp(vcpu);
		return PVHV_RESUME;
	}
	run->exit_reason = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	run->msr.error = 0;
	memset(run->msr.pad, 0, sizeof(run->msr.pad));
	run->msr.reason = reason;
	run->msr.index = vcpu->gpr[PVHV_RCX];
	run->msr.data = value;
	vcpu->user_msr.rip = vcpu->rip;
	vcpu->user_msr.next_rip = next_rip;
	vcpu->complete = write ? complete_write : complete_read;
	return PVHV_TO_USER;
}

/* --- 2. all others --- */

int pvhv_handle_msr_read(struct pvhv_vcpu *vcpu)
{
	u32 msr = vcpu->gpr[PVHV_RCX];
	u64 value = 0, next;
	int r;

	vcpu->stat.msr_exits++;
	next = pvhv_next_rip(vcpu);
	if (!next)
		return PVHV_RESUME;
	r = pvhv_msr_allowed(vcpu->vm, msr, KVM_MSR_FILTER_READ) ?
	    pvhv_get_msr(vcpu, msr, &value, false) : PVHV_MSR_FILTERED;
	trace_pvhv_msr(false, msr, value, r);
	if (r)
		return refused(vcpu, false, 0, r, next);
	set_read_value(vcpu, value);
	pvhv_finish_insn(vcpu, next);
	return PVHV_RESUME;
}

int pvhv_handle_msr_write(struct pvhv_vcpu *vcpu)
{
	u32 msr = vcpu->gpr[PVHV_RCX];
	u64 value = written_value(vcpu), next;
	int r;

	vcpu->stat.msr_exits++;
	/* In the mode of before the instruction, which EFER may change. */
	next = pvhv_next_rip(vcpu);
	if (!next)
		return PVHV_RESUME;
	r = pvhv_msr_allowed(vcpu->vm, msr, KVM_MSR_FILTER_WRITE) ?
	    pvhv_set_msr(vcpu, msr, value, false) : PVHV_MSR_FILTERED;
	trace_pvhv_msr(true, msr, value, r);
	if (r)
		return refused(vcpu, true, value, r, next);
	pvhv_finish_insn(vcpu, next);
	return PVHV_RESUME;
}
