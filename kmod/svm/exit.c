// SPDX-License-Identifier: GPL-2.0
/*
 * exit.c - the VMCB's exit codes (APM appendix C) as struct pvhv_exit.
 */
#include <asm/svm.h>
#include <asm/trapnr.h>

#include "svm.h"

static void normalise_ioio(struct pvhv_vcpu *vcpu, u32 info)
{
	struct pvhv_exit *e = &vcpu->exit;

	/* APM 15.10.2: EXITINFO1's fields; EXITINFO2 is the next RIP. */
	e->kind = PVHV_EXIT_PIO;
	e->pio.port = info >> 16;
	e->pio.in = info & SVM_IOIO_TYPE_MASK;
	e->pio.string = info & SVM_IOIO_STR_MASK;
	e->pio.rep = info & SVM_IOIO_REP_MASK;
	e->pio.size = (info & SVM_IOIO_SIZE_MASK) >> SVM_IOIO_SIZE_SHIFT;
	e->pio.asize = ((info & SVM_IOIO_ASIZE_MASK) >> SVM_IOIO_ASIZE_SHIFT) * 2;
	e->pio.seg = svm_caps.decode_assists ? (info >> 10) & 7 : 0xff;
	e->next_rip = e->hw_info[1];
}

static void normalise_cr(struct pvhv_vcpu *vcpu, u32 code)
{
	struct pvhv_exit *e = &vcpu->exit;

	e->kind = PVHV_EXIT_CR;
	e->cr.nr = 0xff;
	/* With decode assists bit 63 says MOV (not LMSW, CLTS, SMSW). */
	if (svm_caps.decode_assists && (e->hw_info[0] & BIT_ULL(63))) {
		e->cr.nr = code & 0xf;
		e->cr.gpr = e->hw_info[0] & 0xf;
		e->cr.write = code & 0x10;
	}
}

static void normalise_exception(struct pvhv_vcpu *vcpu, u8 vector)
{
	struct pvhv_exit *e = &vcpu->exit;

	/* #MC was the host's: svm_enter() has handed it over already. */
	if (vector == X86_TRAP_MC) {
		e->kind = PVHV_EXIT_INTR;
		return;
	}
	if (vector == X86_TRAP_DB && svm_end_nmi_singlestep(vcpu)) {
		e->kind = PVHV_EXIT_NMI_WINDOW;
		return;
	}
	e->kind = PVHV_EXIT_EXCEPTION;
	e->excp.vector = vector;
	e->excp.error = e->hw_info[0];
	e->excp.dr6 = to_svm(vcpu)->vmcb->save.dr6;
}

/* APM 15.25.6: EXITINFO1 bits 4:0 are a #PF error code, EXITINFO2 the GPA. */
static void normalise_npf(struct pvhv_vcpu *vcpu)
{
	struct pvhv_exit *e = &vcpu->exit;

	e->kind = PVHV_EXIT_TDP_FAULT;
	e->fault.gpa = e->hw_info[1];
	e->fault.error = e->hw_info[0] & 0x1f;
	if (svm_caps.decode_assists) {
		const struct vmcb_control_area *c = &to_svm(vcpu)->vmcb->control;

		e->nr_bytes = min_t(u8, c->insn_len, sizeof(e->bytes));
		memcpy(e->bytes, c->insn_bytes, e->nr_bytes);
	}
}

/*
 * The shadow of STI at an interrupt of the host. VMRUN goes on in it, but
 * QEMU's does not: what comes next at the same RIP finds it gone, though the
 * guest has not moved. There it is put back; finish_shadowed_hlt() says why.
 */
static void keep_shadow(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	u32 *state = &svm->vmcb->control.int_state;

	if (!(*state & SVM_INTERRUPT_SHADOW_MASK)) {
		if (likely(svm->shadow_rip != vcpu->rip || svm->shadow_exit + 1 != vcpu->stat.exits))
			return;
		*state |= SVM_INTERRUPT_SHADOW_MASK;
	}
	svm->shadow_rip = vcpu->rip;
	svm->shadow_exit = vcpu->stat.exits;
	/* A window may be open already: it would open before HLT. */
	vcpu->event_check = true;
}

void svm_normalise_exit(struct pvhv_vcpu *vcpu)
{
	const struct vmcb_control_area *c = &to_svm(vcpu)->vmcb->control;
	struct pvhv_exit *e = &vcpu->exit;
	u32 code = c->exit_code;

	e->hw_reason = code;
	e->hw_info[0] = c->exit_info_1;
	e->hw_info[1] = c->exit_info_2;
	e->next_rip = svm_caps.nrips ? c->next_rip : 0;
	e->nr_bytes = 0;

	switch (code) {
	case SVM_EXIT_INTR:
	case SVM_EXIT_NMI:	/* taken from the host's IDT at STGI */
	case SVM_EXIT_SMI:
	case SVM_EXIT_INIT:
		e->kind = PVHV_EXIT_INTR;
		keep_shadow(vcpu);
		break;
	case SVM_EXIT_IOIO:
		normalise_ioio(vcpu, c->exit_info_1);
		break;
	case SVM_EXIT_NPF:
		normalise_npf(vcpu);
		break;
	case SVM_EXIT_MSR:
		e->kind = c->exit_info_1 & 1 ? PVHV_EXIT_MSR_WRITE : PVHV_EXIT_MSR_READ;
		break;
	case SVM_EXIT_CPUID:
		e->kind = PVHV_EXIT_CPUID;
		break;
	case SVM_EXIT_VMMCALL:
		e->kind = PVHV_EXIT_HYPERCALL;
		break;
	case SVM_EXIT_HLT:
		e->kind = PVHV_EXIT_HLT;
		break;
	case SVM_EXIT_PAUSE:
		e->kind = PVHV_EXIT_PAUSE;
		break;
	case SVM_EXIT_VINTR:
		svm_close_irq_window(vcpu);
		e->kind = PVHV_EXIT_IRQ_WINDOW;
		break;
	case SVM_EXIT_IRET:
		svm_iret_intercepted(vcpu);
		e->kind = PVHV_EXIT_NMI_WINDOW;
		break;
	case SVM_EXIT_READ_CR0 ... SVM_EXIT_WRITE_CR8:
		normalise_cr(vcpu, code);
		break;
	case SVM_EXIT_READ_DR0 ... SVM_EXIT_WRITE_DR7:
		e->kind = PVHV_EXIT_DR;
		if (likely(!vcpu->guest_debug)) {
			svm_lend_debug_registers(vcpu, true);
			e->kind = PVHV_EXIT_NONE;
		}
		break;
	case SVM_EXIT_XSETBV:
		e->kind = PVHV_EXIT_XSETBV;
		break;
	case SVM_EXIT_EXCP_BASE ... SVM_EXIT_LAST_EXCP:
		normalise_exception(vcpu, code - SVM_EXIT_EXCP_BASE);
		break;
	case SVM_EXIT_TASK_SWITCH:
		e->kind = PVHV_EXIT_TASK_SWITCH;
		break;
	case SVM_EXIT_WBINVD:
	case SVM_EXIT_INVD:
	case SVM_EXIT_MONITOR:
	case SVM_EXIT_MWAIT:
	case SVM_EXIT_MWAIT_COND:
		e->kind = PVHV_EXIT_SKIP;
		break;
	case SVM_EXIT_RDPMC:
		e->kind = PVHV_EXIT_RDPMC;
		break;
	case SVM_EXIT_RDTSC:
		e->kind = PVHV_EXIT_RDTSC;
		break;
	case SVM_EXIT_RSM:
	case SVM_EXIT_VMRUN:
	case SVM_EXIT_VMLOAD:
	case SVM_EXIT_VMSAVE:
	case SVM_EXIT_STGI:
	case SVM_EXIT_CLGI:
	case SVM_EXIT_SKINIT:
	case SVM_EXIT_INVLPGA:
	case SVM_EXIT_RDTSCP:
	case SVM_EXIT_RDPRU:
		e->kind = PVHV_EXIT_UD;
		break;
	case SVM_EXIT_SHUTDOWN:
		e->kind = PVHV_EXIT_SHUTDOWN;
		break;
	case (u32)SVM_EXIT_ERR:
		e->kind = PVHV_EXIT_FAIL_ENTRY;
		break;
	default:
		e->kind = PVHV_EXIT_UNKNOWN;
		break;
	}
}
