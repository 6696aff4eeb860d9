// SPDX-License-Identifier: GPL-2.0
/*
 * event.c - what is on its way into the guest, in AMD-V's terms:
 *  1. EVENTINJ for exceptions, interrupts and NMIs (APM 15.20),
 *  2. EXITINTINFO: events an exit cut off go back into the queue (15.7.2),
 *  3. the interrupt window by a virtual interrupt (15.21.4),
 *  4. the NMI window by intercepting IRET and one single step, since
 *     hardware without vNMI does not tell when an NMI handler ends.
 */
#include <asm/svm.h>

#include "svm.h"
#include "../trace.h"

void svm_requeue_events(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	u32 info = svm->vmcb->control.exit_int_info;
	u8 vector = info & SVM_EXITINTINFO_VEC_MASK;

	pvhv_events_entered(vcpu);
	if (svm->iret_seen && vcpu->rip != svm->iret_rip) {
		svm->iret_seen = false;
		vcpu->nmi_masked = false;
		vcpu->event_check = true;
	}

	if (likely(!(info & SVM_EXITINTINFO_VALID)))
		return;

	switch (info & SVM_EXITINTINFO_TYPE_MASK) {
	case SVM_EXITINTINFO_TYPE_NMI:
		pvhv_requeue_nmi(vcpu);
		break;
	case SVM_EXITINTINFO_TYPE_EXEPT:
		/*
		 * INT3 and INTO trap again when they execute again, unless it
		 * is a #BP that we put in: RIP is past the INT3 then.
		 */
		if (vector == X86_TRAP_OF || (vector == X86_TRAP_BP && vcpu->rip != svm->bp_rip))
			return;
		pvhv_requeue_exception(vcpu, vector, info & SVM_EXITINTINFO_VALID_ERR,
				       svm->vmcb->control.exit_int_info_err);
		break;
	case SVM_EXITINTINFO_TYPE_INTR:
		pvhv_requeue_irq(vcpu, vector);
		break;
	default:
		/* INT n: RIP still points at it, it executes again. */
		return;
	}
}

void svm_inject_exception(struct pvhv_vcpu *vcpu)
{
	struct vmcb *vmcb = to_svm(vcpu)->vmcb;
	const struct pvhv_exception *e = &vcpu->excp;

	vmcb->control.event_inj = e->vector | SVM_EVTINJ_VALID | SVM_EVTINJ_TYPE_EXEPT |
				  (e->has_error ? SVM_EVTINJ_VALID_ERR : 0);
	vmcb->control.event_inj_err = e->error;
	to_svm(vcpu)->bp_rip = e->vector == X86_TRAP_BP ? vcpu->rip : SVM_NO_RIP;
}

void svm_inject_irq(struct pvhv_vcpu *vcpu)
{
	struct vmcb *vmcb = to_svm(vcpu)->vmcb;

	vmcb->control.event_inj = vcpu->irq.vector | SVM_EVTINJ_VALID |
				  (vcpu->irq.soft ? SVM_EVTINJ_TYPE_SOFT : SVM_EVTINJ_TYPE_INTR);
	/* It waits, interrupts being off, until the guest runs, and ends it. */
	if (svm_caps.exit_after_irq)
		smp_send_reschedule(smp_processor_id());
}

void svm_inject_nmi(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	svm->vmcb->control.event_inj = SVM_EVTINJ_VALID | SVM_EVTINJ_TYPE_NMI;
	svm->iret_seen = false;
	svm_intercept(svm, INTERCEPT_IRET, true);
}

void svm_set_nmi_masked(struct pvhv_vcpu *vcpu, bool masked)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	vcpu->nmi_masked = masked;
	svm->iret_seen = false;
	svm_intercept(svm, INTERCEPT_IRET, masked);
}

bool svm_irq_allowed(struct pvhv_vcpu *vcpu)
{
	struct vmcb *vmcb = to_svm(vcpu)->vmcb;

	return (vcpu->rflags & X86_EFLAGS_IF) &&
	       !(vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK);
}

bool svm_nmi_allowed(struct pvhv_vcpu *vcpu)
{
	struct vmcb *vmcb = to_svm(vcpu)->vmcb;

	return !vcpu->nmi_masked && !(vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK);
}

/*
 * A dummy virtual interrupt of the highest priority exits (VINTR) as soon as
 * the guest could take an interrupt; nothing is ever delivered by it.
 */
void svm_request_irq_window(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb_control_area *c = &svm->vmcb->control;

	c->int_ctl |= V_IRQ_MASK | V_INTR_PRIO_MASK | V_IGN_TPR_MASK;
	c->int_vector = 0;
	svm_intercept(svm, INTERCEPT_VINTR, true);
}

void svm_close_irq_window(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	svm->vmcb->control.int_ctl &= ~V_IRQ_INJECTION_BITS_MASK;
	svm_intercept(svm, INTERCEPT_VINTR, false);
}

void svm_request_nmi_window(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	if (vcpu->nmi_masked && !svm->iret_seen)
		return;		/* the IRET intercept is armed */
	if (svm->nmi_singlestep)
		return;
	/* IRET is about to execute, or an interrupt shadow is open: one step. */
	svm->nmi_singlestep = true;
	svm->nmi_step_tf = vcpu->rflags & X86_EFLAGS_TF;
	vcpu->rflags |= X86_EFLAGS_TF;
}

/* The intercept comes before IRET executes: NMIs open when RIP has moved. */
void svm_iret_intercepted(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	svm_intercept(svm, INTERCEPT_IRET, false);
	svm->iret_seen = true;
	svm->iret_rip = vcpu->rip;
	vcpu->event_check = true;
}

/* #DB: was it our step and nothing of the guest's? */
bool svm_end_nmi_singlestep(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	if (!svm->nmi_singlestep)
		return false;
	svm->nmi_singlestep = false;
	if (!svm->nmi_step_tf)
		vcpu->rflags &= ~X86_EFLAGS_TF;
	vcpu->event_check = true;
	if (svm->nmi_step_tf)
		return false;
	svm->vmcb->save.dr6 &= ~DR_STEP;
	vcpu->dr6 &= ~DR_STEP;
	return !(svm->vmcb->save.dr6 & DR_TRAP_BITS);
}

u32 svm_get_int_shadow(struct pvhv_vcpu *vcpu)
{
	/* AMD-V has one bit for both kinds of shadow. */
	if (to_svm(vcpu)->vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK)
		return KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS;
	return 0;
}

void svm_set_int_shadow(struct pvhv_vcpu *vcpu, u32 mask)
{
	struct vmcb *vmcb = to_svm(vcpu)->vmcb;

	if (mask)
		vmcb->control.int_state |= SVM_INTERRUPT_SHADOW_MASK;
	else
		vmcb->control.int_state &= ~SVM_INTERRUPT_SHADOW_MASK;
}
