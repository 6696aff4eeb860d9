// SPDX-License-Identifier: GPL-2.0
/*
 * event.c - exceptions, NMIs and interrupts on their way into the guest:
 *  1. queueing exceptions, and what two at once become (SDM vol. 3, 6.15,
 *     table "Conditions for generating a double fault"),
 *  2. events whose delivery an exit cut off go back into the queue,
 *  3. pvhv_inject_events(): before an entry, choose the one event that goes
 *     in and open windows for those that have to wait.
 */
#include <asm/trapnr.h>

#include "pvhv.h"
#include "trace.h"

/* --- 1. exceptions --- */

enum exception_class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

static enum exception_class exception_class(u8 vector)
{
	switch (vector) {
	case X86_TRAP_PF:
		return PAGE_FAULT;
	case X86_TRAP_DE:
	case X86_TRAP_TS:
	case X86_TRAP_NP:
	case X86_TRAP_SS:
	case X86_TRAP_GP:
		return CONTRIBUTORY;
	default:
		return BENIGN;
	}
}

static void queue_exception(struct pvhv_vcpu *vcpu, const struct pvhv_exception *new)
{
	enum exception_class first, second;

	vcpu->event_check = true;
	if (!vcpu->excp.pending && !vcpu->excp.injected) {
		vcpu->excp = *new;
		return;
	}
	/* An exception while one is being delivered. */
	if (vcpu->excp.vector == X86_TRAP_DF) {
		vcpu->excp.pending = false;
		vcpu->excp.injected = false;
		pvhv_set_request(vcpu, PVHV_REQ_TRIPLE_FAULT);
		return;
	}
	first = exception_class(vcpu->excp.vector);
	second = exception_class(new->vector);
	if ((first == CONTRIBUTORY && second == CONTRIBUTORY) ||
	    (first == PAGE_FAULT && second != BENIGN)) {
		vcpu->excp = (struct pvhv_exception) {
			.pending = true,
			.has_error = true,
			.vector = X86_TRAP_DF,
		};
		return;
	}
	/* The second one first: the other comes again with its instruction. */
	vcpu->excp = *new;
}

void pvhv_queue_exception(struct pvhv_vcpu *vcpu, u8 vector)
{
	queue_exception(vcpu, &(struct pvhv_exception) {
		.pending = true,
		.vector = vector,
	});
}

void pvhv_queue_exception_e(struct pvhv_vcpu *vcpu, u8 vector, u32 error)
{
	queue_exception(vcpu, &(struct pvhv_exception) {
		.pending = true,
		.vector = vector,
		/* Real mode has no error codes. */
		.has_error = vcpu->cr0 & X86_CR0_PE,
		.error = error,
	});
}

void pvhv_queue_pf(struct pvhv_vcpu *vcpu, u64 cr2, u32 error)
{
	queue_exception(vcpu, &(struct pvhv_exception) {
		.pending = true,
		.vector = X86_TRAP_PF,
		.has_error = true,
		.error = error,
		.has_payload = true,
		.payload = cr2,
	});
}

void pvhv_queue_db(struct pvhv_vcpu *vcpu, u64 dr6_bits)
{
	queue_exception(vcpu, &(struct pvhv_exception) {
		.pending = true,
		.vector = X86_TRAP_DB,
		.has_payload = true,
		.payload = dr6_bits,
	});
}

void pvhv_queue_nmi(struct pvhv_vcpu *vcpu)
{
	atomic_inc(&vcpu->nmi_queued);
	pvhv_make_request(vcpu, PVHV_REQ_NMI);
}

/* What a #PF or #DB leaves in registers once it is delivered for certain. */
void pvhv_deliver_payload(struct pvhv_vcpu *vcpu)
{
	struct pvhv_exception *e = &vcpu->excp;

	if (!e->has_payload)
		return;
	switch (e->vector) {
	case X86_TRAP_PF:
		vcpu->cr2 = e->payload;
		break;
	case X86_TRAP_DB:
		/* B0-B3 are replaced, the others only ever added. */
		vcpu->dr6 &= ~DR_TRAP_BITS;
		vcpu->dr6 |= e->payload;
		vcpu->be->sync(vcpu, PVHV_SYNC_DR);
		break;
	}
	e->has_payload = false;
	e->payload = 0;
}

/* --- 2. what an exit cut off --- */

void pvhv_requeue_exception(struct pvhv_vcpu *vcpu, u8 vector, bool has_error, u32 error)
{
	vcpu->excp.injected = true;
	vcpu->excp.vector = vector;
	vcpu->excp.has_error = has_error;
	vcpu->excp.error = error;
	vcpu->event_check = true;
}

void pvhv_requeue_irq(struct pvhv_vcpu *vcpu, u8 vector)
{
	vcpu->irq.injected = true;
	vcpu->irq.soft = false;
	vcpu->irq.vector = vector;
	vcpu->event_check = true;
}

void pvhv_requeue_nmi(struct pvhv_vcpu *vcpu)
{
	vcpu->nmi_injected = true;
	vcpu->event_check = true;
}

/* --- 3. injection --- */

static void collect_nmis(struct pvhv_vcpu *vcpu)
{
	unsigned int limit = vcpu->nmi_masked || vcpu->nmi_injected ? 1 : 2;

	/* One can be latched behind the one in service, no more (SDM 6.7.1). */
	vcpu->nmi_pending += atomic_xchg(&vcpu->nmi_queued, 0);
	vcpu->nmi_pending = min(vcpu->nmi_pending, limit);
}

static void deliver_exception(struct pvhv_vcpu *vcpu)
{
	struct pvhv_exception *e = &vcpu->excp;

	pvhv_deliver_payload(vcpu);
	/* Faults push RF set; general detect leaves GD clear (SDM 17.3.1). */
	if (e->vector != X86_TRAP_DB && e->vector != X86_TRAP_BP && e->vector != X86_TRAP_OF)
		vcpu->rflags |= X86_EFLAGS_RF;
	if (e->vector == X86_TRAP_DB && (vcpu->dr7 & PVHV_DR7_GD)) {
		vcpu->dr7 &= ~(u64)PVHV_DR7_GD;
		vcpu->be->sync(vcpu, PVHV_SYNC_DR);
	}
	e->pending = false;
	e->injected = true;
	vcpu->stat.exceptions_injected++;
	trace_pvhv_inj_exception(vcpu->id, e->vector, e->has_error, e->error, false);
	vcpu->be->inject_exception(vcpu);
}

/* Events that an exit cut off go in again; true: the entry is taken. */
static bool inject_first(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_backend *be = vcpu->be;

	if (vcpu->excp.injected) {
		trace_pvhv_inj_exception(vcpu->id, vcpu->excp.vector, vcpu->excp.has_error,
					 vcpu->excp.error, true);
		be->inject_exception(vcpu);
	} else if (vcpu->excp.pending) {
		deliver_exception(vcpu);
	} else if (vcpu->nmi_injected) {
		be->inject_nmi(vcpu);
	} else if (vcpu->irq.injected) {
		trace_pvhv_inj_irq(vcpu->id, vcpu->irq.vector, true);
		be->inject_irq(vcpu);
	} else {
		return false;
	}
	return true;
}

/*
 * An interrupt waits for the shadow of STI to end, and what is in the shadow is
 * HLT, which that interrupt would wake at once: HLT is done here. Opening a
 * window would be as good on a CPU, but QEMU's VMRUN forgets the shadow: the
 * interrupt would come before HLT and nothing would wake the guest after it.
 */
static void finish_shadowed_hlt(struct pvhv_vcpu *vcpu)
{
	struct pvhv_insn insn;

	if ((vcpu->rflags & (X86_EFLAGS_IF | X86_EFLAGS_TF)) != X86_EFLAGS_IF || pvhv_cpl(vcpu))
		return;
	vcpu->exit.nr_bytes = 0;
	if (pvhv_decode_exit(vcpu, &insn, true) == PVHV_DECODE_OK && insn.op == PVHV_OP_HLT)
		pvhv_finish_insn(vcpu, pvhv_insn_next_rip(&insn, vcpu->rip));
	vcpu->exit.nr_bytes = 0;
	vcpu->event_check = false;
}

void pvhv_inject_events(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_backend *be = vcpu->be;
	bool taken;
	int irq;

	vcpu->event_check = false;
	taken = inject_first(vcpu);
	if (unlikely(vcpu->guest_debug & KVM_GUESTDBG_BLOCKIRQ))
		return;

	if (unlikely(atomic_read(&vcpu->nmi_queued)))
		collect_nmis(vcpu);
	if (unlikely(vcpu->nmi_pending)) {
		if (!taken && be->nmi_allowed(vcpu)) {
			vcpu->nmi_pending--;
			vcpu->nmi_injected = true;
			vcpu->nmi_masked = true;
			vcpu->stat.nmi_injections++;
			be->inject_nmi(vcpu);
			taken = true;
		}
		if (vcpu->nmi_pending)
			be->request_nmi_window(vcpu);
	}

	if (vcpu->pic_in_user && vcpu->run->request_interrupt_window && pvhv_user_pic_ready(vcpu))
		be->request_irq_window(vcpu);
	if (!vcpu->lapic)
		return;
	if (unlikely(vcpu->virtual_apic))
		pvhv_lapic_lend(vcpu);
	/* With a virtual APIC: what comes from the PIC. */
	irq = pvhv_irq_peek(vcpu);
	if (irq >= 0) {
		if (!taken && unlikely(be->get_int_shadow(vcpu)))
			finish_shadowed_hlt(vcpu);
		if (!taken && be->irq_allowed(vcpu)) {
			vcpu->irq.vector = pvhv_irq_ack(vcpu, irq);
			vcpu->irq.injected = true;
			vcpu->irq.soft = false;
			vcpu->stat.irq_injections++;
			trace_pvhv_inj_irq(vcpu->id, vcpu->irq.vector, false);
			be->inject_irq(vcpu);
		}
		if (pvhv_irq_peek(vcpu) >= 0)
			be->request_irq_window(vcpu);
	}
	be->sync(vcpu, PVHV_SYNC_TPR);
}

/* Is there one that would wake a halted vCPU? */
bool pvhv_events_pending(struct pvhv_vcpu *vcpu)
{
	if (vcpu->excp.pending || vcpu->excp.injected || vcpu->nmi_injected || vcpu->irq.injected)
		return true;
	if ((atomic_read(&vcpu->nmi_queued) || vcpu->nmi_pending) && vcpu->be->nmi_allowed(vcpu))
		return true;
	return vcpu->lapic && vcpu->be->irq_allowed(vcpu) && pvhv_irq_waits(vcpu);
}
