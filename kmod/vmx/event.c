// SPDX-License-Identifier: GPL-2.0
/*
 * event.c - what is on its way into the guest, in VT-x's terms:
 *  1. the entry's event (SDM 25.8.3),
 *  2. IDT-vectoring information: events an exit cut off go back into the queue
 *     (25.9.3),
 *  3. the interruptibility state: shadows and NMI masking (25.4.2),
 *  4. interrupt and NMI windows (26.2).
 */
#include <asm/trapnr.h>

#include "vmx.h"

#define SHADOWS		(GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)
#define PENDING_BS	BIT(14)		/* single step: SDM 25.4.2 */

/* --- 1. into the guest --- */

static void put_event(struct pvhv_vcpu *vcpu, u32 event)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx_set(vmx, VMX_ENTRY_EVENT, event | INTR_INFO_VALID_MASK);
	/* Where HLT does not exit, the guest may be in it. */
	if (unlikely(vcpu->vm->disabled_exits & KVM_X86_DISABLE_EXITS_HLT))
		vmx_set(vmx, VMX_ACTIVITY, GUEST_ACTIVITY_ACTIVE);
}

/*
 * #BP and #OF, too, go in as what hardware raises: RIP is already what is to
 * be pushed, and no gate is checked against the CPL.
 */
void vmx_inject_exception(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_exception *e = &vcpu->excp;

	put_event(vcpu, e->vector | INTR_TYPE_HARD_EXCEPTION |
			(e->has_error ? INTR_INFO_DELIVER_CODE_MASK : 0));
	vmx_set(to_vmx(vcpu), VMX_ENTRY_ERROR, e->has_error ? e->error & 0xffff : 0);
}

/*
 * An entry checks that the guest takes interrupts. What userspace insists on
 * although it does not goes in like an INT n of length 0, which is not asked;
 * where the CPU has none, of length 1, from one byte before.
 */
void vmx_inject_irq(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx->irq_as_int_n = vcpu->irq.soft || !vmx_irq_allowed(vcpu);
	vmx->rip_back = vmx->irq_as_int_n ? vmx_caps.int_n_length : 0;
	put_event(vcpu, vcpu->irq.vector |
			(vmx->irq_as_int_n ? INTR_TYPE_SOFT_INTR : INTR_TYPE_EXT_INTR));
}

void vmx_inject_nmi(struct pvhv_vcpu *vcpu)
{
	/* Delivering it masks NMIs; an entry wants them not to be masked yet. */
	vcpu->nmi_masked = true;
	vmx_switch(to_vmx(vcpu), VMX_INTERRUPTIBILITY, GUEST_INTR_STATE_NMI, false);
	put_event(vcpu, X86_TRAP_NMI | INTR_TYPE_NMI_INTR);
}

/* --- 2. cut off --- */

void vmx_requeue_events(struct pvhv_vcpu *vcpu, u32 info)
{
	switch (info & VECTORING_INFO_TYPE_MASK) {
	case INTR_TYPE_NMI_INTR:
		pvhv_requeue_nmi(vcpu);
		break;
	case INTR_TYPE_HARD_EXCEPTION:
		pvhv_requeue_exception(vcpu, info & VECTORING_INFO_VECTOR_MASK,
				       info & VECTORING_INFO_DELIVER_CODE_MASK,
				       vmcs_read(IDT_VECTORING_ERROR_CODE));
		break;
	case INTR_TYPE_SOFT_INTR:
		if (!to_vmx(vcpu)->irq_as_int_n)
			break;
		fallthrough;
	case INTR_TYPE_EXT_INTR:
		pvhv_requeue_irq(vcpu, info & VECTORING_INFO_VECTOR_MASK);
		break;
	default:
		/* INT n, INT3, INTO, INT1: RIP still points at it, it executes again. */
		break;
	}
}

/* --- 3. interruptibility --- */

void vmx_set_nmi_masked(struct pvhv_vcpu *vcpu, bool masked)
{
	vcpu->nmi_masked = masked;
	vmx_switch(to_vmx(vcpu), VMX_INTERRUPTIBILITY, GUEST_INTR_STATE_NMI, masked);
}

bool vmx_irq_allowed(struct pvhv_vcpu *vcpu)
{
	return (vcpu->rflags & X86_EFLAGS_IF) &&
	       !(vmx_get(to_vmx(vcpu), VMX_INTERRUPTIBILITY) & SHADOWS);
}

bool vmx_nmi_allowed(struct pvhv_vcpu *vcpu)
{
	return !vcpu->nmi_masked && !(vmx_get(to_vmx(vcpu), VMX_INTERRUPTIBILITY) & SHADOWS);
}

u32 vmx_get_int_shadow(struct pvhv_vcpu *vcpu)
{
	u64 state = vmx_get(to_vmx(vcpu), VMX_INTERRUPTIBILITY);

	return (state & GUEST_INTR_STATE_STI ? KVM_X86_SHADOW_INT_STI : 0) |
	       (state & GUEST_INTR_STATE_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS : 0);
}

void vmx_set_int_shadow(struct pvhv_vcpu *vcpu, u32 mask)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u64 state = vmx_get(vmx, VMX_INTERRUPTIBILITY) & ~(u64)SHADOWS;

	/* One of the two at most: AMD-V's single bit comes as both. */
	if (mask & KVM_X86_SHADOW_INT_MOV_SS)
		state |= GUEST_INTR_STATE_MOV_SS;
	else if (mask & KVM_X86_SHADOW_INT_STI)
		state |= GUEST_INTR_STATE_STI;
	vmx_set(vmx, VMX_INTERRUPTIBILITY, state);
}

/*
 * An entry insists that a shadow fits RFLAGS (SDM 27.3.1.5): STI's needs IF,
 * and a single step that waits behind either is pending exactly if TF is set.
 */
void vmx_fix_shadow(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if (!(vcpu->rflags & X86_EFLAGS_IF))
		vmx_switch(vmx, VMX_INTERRUPTIBILITY, GUEST_INTR_STATE_STI, false);
	if (vmx_get(vmx, VMX_INTERRUPTIBILITY) & SHADOWS)
		vmx_switch(vmx, VMX_PENDING_DEBUG, PENDING_BS, vcpu->rflags & X86_EFLAGS_TF);
}

/*
 * A single step is pending after an exit only behind a shadow: what faulted or
 * exited has not completed. (Bochs 2.7 says so whenever TF was set.)
 */
void vmx_forget_step(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if (!(vmx_get(vmx, VMX_INTERRUPTIBILITY) & SHADOWS))
		vmx_switch(vmx, VMX_PENDING_DEBUG, PENDING_BS, false);
}

/* --- 4. windows --- */

void vmx_request_irq_window(struct pvhv_vcpu *vcpu)
{
	vmx_switch(to_vmx(vcpu), VMX_PROC_CONTROLS, CPU_BASED_INTR_WINDOW_EXITING, true);
}

void vmx_request_nmi_window(struct pvhv_vcpu *vcpu)
{
	/* An NMI window may open in the shadow of STI, where none may go in. */
	if (vmx_get(to_vmx(vcpu), VMX_INTERRUPTIBILITY) & GUEST_INTR_STATE_STI)
		vmx_request_irq_window(vcpu);
	else
		vmx_switch(to_vmx(vcpu), VMX_PROC_CONTROLS, CPU_BASED_NMI_WINDOW_EXITING, true);
}
