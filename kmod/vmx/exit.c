// SPDX-License-Identifier: GPL-2.0
/*
 * exit.c - the VMCS's exit reasons (SDM appendix C) as struct pvhv_exit.
 */
#include <asm/msr-index.h>
#include <asm/trapnr.h>

#include "vmx.h"

/* Exit qualification of I/O instructions: SDM table 28-5. */
#define IO_SIZE		0x7
#define IO_IN		BIT(3)
#define IO_STRING	BIT(4)
#define IO_REP		BIT(5)
#define IO_PORT_SHIFT	16

/* Of control-register accesses: table 28-3. */
#define CR_TYPE_SHIFT	4
#define CR_GPR_SHIFT	8
enum { CR_MOV_TO, CR_MOV_FROM, CR_CLTS, CR_LMSW };

/* Of debug exceptions: table 28-1; the bits are DR6's. */
#define DB_CAUSES	(DR_TRAP_BITS | BIT(13) | DR_STEP)

/* Of EPT violations: table 28-7; and of a full page-modification log. */
#define EPT_NMI_UNBLOCKED BIT(12)

static void normalise_io(struct pvhv_exit *e)
{
	u64 q = e->hw_info[0];

	e->kind = PVHV_EXIT_PIO;
	e->pio.port = q >> IO_PORT_SHIFT;
	e->pio.size = (q & IO_SIZE) + 1;
	e->pio.in = q & IO_IN;
	e->pio.string = q & IO_STRING;
	e->pio.rep = q & IO_REP;
	e->pio.asize = 0;
	e->pio.seg = 0xff;
}

static void normalise_cr(struct pvhv_vcpu *vcpu)
{
	struct pvhv_exit *e = &vcpu->exit;
	u64 q = e->hw_info[0];
	unsigned int type = (q & CONTROL_REG_ACCESS_TYPE) >> CR_TYPE_SHIFT;

	e->kind = PVHV_EXIT_CR;
	e->cr.nr = 0xff;		/* CLTS, LMSW: decode */
	if (type == CR_MOV_TO || type == CR_MOV_FROM) {
		/* Four bits: CR8 is among them. */
		e->cr.nr = q & 0xf;
		e->cr.gpr = (q & CONTROL_REG_ACCESS_REG) >> CR_GPR_SHIFT;
		e->cr.write = type == CR_MOV_TO;
	}
	if (e->cr.nr == 8 && vcpu->lapic && to_vmx(vcpu)->apic_page) {
		vmx_lend_tpr(vcpu);
		e->kind = PVHV_EXIT_NONE;
	}
}

/*
 * IRET ends the masking of NMIs although it faults, and the exit that the
 * fault made is seen instead of it: they stay masked until it comes to an end.
 */
static void nmi_still_masked(struct pvhv_vcpu *vcpu)
{
	if (!vcpu->nmi_injected)
		vmx_set_nmi_masked(vcpu, true);
}

static void normalise_exception(struct pvhv_vcpu *vcpu)
{
	u32 info = vmcs_read(VM_EXIT_INTR_INFO);
	struct pvhv_exit *e = &vcpu->exit;
	u8 vector = info & INTR_INFO_VECTOR_MASK;

	if ((info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR) {
		/* The host's; it is blocked until its handler returns. */
		vmx_call_nmi();
		e->kind = PVHV_EXIT_INTR;
		return;
	}
	/* #MC was the host's: vmx_enter() has handed it over already. */
	if (vector == X86_TRAP_MC) {
		e->kind = PVHV_EXIT_INTR;
		return;
	}
	if ((info & INTR_INFO_UNBLOCK_NMI) && vector != X86_TRAP_DF)
		nmi_still_masked(vcpu);
	e->kind = PVHV_EXIT_EXCEPTION;
	e->excp.vector = vector;
	e->excp.error = info & INTR_INFO_DELIVER_CODE_MASK ? vmcs_read(VM_EXIT_INTR_ERROR_CODE) : 0;
	if (vector != X86_TRAP_DB)
		return;
	/* An intercepted #DB leaves DR6 as it was. */
	e->excp.dr6 = pvhv_fix_dr6(e->hw_info[0] & DB_CAUSES);
	if (likely(!vcpu->guest_debug))
		vcpu->dr6 = (vcpu->dr6 & ~(u64)DR_TRAP_BITS) | (e->hw_info[0] & DB_CAUSES);
}

static void normalise_ept(struct pvhv_vcpu *vcpu)
{
	struct pvhv_exit *e = &vcpu->exit;
	u64 q = e->hw_info[0];

	e->kind = PVHV_EXIT_TDP_FAULT;
	e->fault.gpa = vmcs_read(GUEST_PHYSICAL_ADDRESS);
	e->hw_info[1] = e->fault.gpa;
	e->fault.error = (q & EPT_VIOLATION_ACC_WRITE ? X86_PF_WRITE : 0) |
			 (q & EPT_VIOLATION_ACC_INSTR ? X86_PF_INSTR : 0) |
			 (q & EPT_VIOLATION_RWX_MASK ? X86_PF_PROT : 0);
	if (unlikely(q & EPT_NMI_UNBLOCKED))
		nmi_still_masked(vcpu);
}

/*
 * Of accesses by a guest-physical address (page walks) the offset is not told. What is
 * found out about them is that no instruction's operand is there.
 */
static void normalise_apic_access(struct pvhv_exit *e)
{
	u64 q = e->hw_info[0], type = q & APIC_ACCESS_TYPE;
	bool linear = type <= TYPE_LINEAR_APIC_EVENT;

	e->kind = PVHV_EXIT_APIC_ACCESS;
	e->fault.gpa = APIC_DEFAULT_PHYS_BASE | (linear ? q & APIC_ACCESS_OFFSET : 0);
	e->hw_info[1] = e->fault.gpa;
	e->fault.error = (type == TYPE_LINEAR_APIC_INST_WRITE ? X86_PF_WRITE : 0) |
			 (type == TYPE_LINEAR_APIC_INST_FETCH ? X86_PF_INSTR : 0);
}

/* After instructions whose length the CPU tells. */
static void set_next_rip(struct pvhv_vcpu *vcpu)
{
	struct pvhv_exit *e = &vcpu->exit;

	e->next_rip = vcpu->rip + vmcs_read(VM_EXIT_INSTRUCTION_LEN);
	/* Outside of 64-bit mode it stays below 4 GiB; only the last bytes before that are worth a look. */
	if (unlikely((e->next_rip ^ vcpu->rip) >> 32) && pvhv_cpu_mode(vcpu) != PVHV_MODE_64)
		e->next_rip = (u32)e->next_rip;
}

static const u8 insn_exits[] = {
	[EXIT_REASON_CPUID] = PVHV_EXIT_CPUID,
	[EXIT_REASON_HLT] = PVHV_EXIT_HLT,
	[EXIT_REASON_INVD] = PVHV_EXIT_SKIP,
	[EXIT_REASON_RDPMC] = PVHV_EXIT_RDPMC,
	[EXIT_REASON_RDTSC] = PVHV_EXIT_RDTSC,
	[EXIT_REASON_VMCALL] = PVHV_EXIT_HYPERCALL,
	[EXIT_REASON_VMCLEAR] = PVHV_EXIT_UD,
	[EXIT_REASON_VMLAUNCH] = PVHV_EXIT_UD,
	[EXIT_REASON_VMPTRLD] = PVHV_EXIT_UD,
	[EXIT_REASON_VMPTRST] = PVHV_EXIT_UD,
	[EXIT_REASON_VMREAD] = PVHV_EXIT_UD,
	[EXIT_REASON_VMRESUME] = PVHV_EXIT_UD,
	[EXIT_REASON_VMWRITE] = PVHV_EXIT_UD,
	[EXIT_REASON_VMOFF] = PVHV_EXIT_UD,
	[EXIT_REASON_VMON] = PVHV_EXIT_UD,
	[EXIT_REASON_CR_ACCESS] = PVHV_EXIT_CR,
	[EXIT_REASON_DR_ACCESS] = PVHV_EXIT_DR,
	[EXIT_REASON_IO_INSTRUCTION] = PVHV_EXIT_PIO,
	[EXIT_REASON_MSR_READ] = PVHV_EXIT_MSR_READ,
	[EXIT_REASON_MSR_WRITE] = PVHV_EXIT_MSR_WRITE,
	[EXIT_REASON_MWAIT_INSTRUCTION] = PVHV_EXIT_SKIP,
	[EXIT_REASON_MONITOR_INSTRUCTION] = PVHV_EXIT_SKIP,
	[EXIT_REASON_PAUSE_INSTRUCTION] = PVHV_EXIT_PAUSE,
	[EXIT_REASON_INVEPT] = PVHV_EXIT_UD,
	[EXIT_REASON_RDTSCP] = PVHV_EXIT_UD,
	[EXIT_REASON_INVVPID] = PVHV_EXIT_UD,
	[EXIT_REASON_WBINVD] = PVHV_EXIT_SKIP,
	[EXIT_REASON_XSETBV] = PVHV_EXIT_XSETBV,
	[EXIT_REASON_INVPCID] = PVHV_EXIT_UD,
	[EXIT_REASON_XSAVES] = PVHV_EXIT_UD,
	[EXIT_REASON_XRSTORS] = PVHV_EXIT_UD,
};

static void normalise_insn(struct pvhv_vcpu *vcpu, u32 reason)
{
	struct pvhv_exit *e = &vcpu->exit;

	e->kind = insn_exits[reason];
	set_next_rip(vcpu);
	/* pvhv_finish_insn() will ask, perhaps when this costs much more. */
	vmx_learn(to_vmx(vcpu), VMX_INTERRUPTIBILITY, vmcs_read(GUEST_INTERRUPTIBILITY_INFO));
	switch (reason) {
	case EXIT_REASON_IO_INSTRUCTION:
		normalise_io(e);
		break;
	case EXIT_REASON_CR_ACCESS:
		normalise_cr(vcpu);
		break;
	case EXIT_REASON_DR_ACCESS:
		if (likely(!vcpu->guest_debug)) {
			vmx_lend_debug_registers(vcpu, true);
			e->kind = PVHV_EXIT_NONE;
		}
		break;
	}
}

void vmx_normalise_exit(struct pvhv_vcpu *vcpu, u32 reason)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	struct pvhv_exit *e = &vcpu->exit;
	u16 basic = reason;

	e->hw_reason = reason;
	e->hw_info[0] = vmcs_read(EXIT_QUALIFICATION);
	e->hw_info[1] = 0;
	e->next_rip = 0;
	e->nr_bytes = 0;

	if (unlikely(reason & VMX_EXIT_REASONS_FAILED_VMENTRY)) {
		/* The event has not gone in, and does not once the VMM has mended the state. */
		vmx_set(vmx, VMX_ENTRY_EVENT, 0);
		e->kind = PVHV_EXIT_FAIL_ENTRY;
		return;
	}
	if (basic < ARRAY_SIZE(insn_exits) && insn_exits[basic]) {
		normalise_insn(vcpu, basic);
		return;
	}
	switch (basic) {
	case EXIT_REASON_EXTERNAL_INTERRUPT:	/* still pending, taken once irqs are on; or acknowledged */
		vmx_note_interrupt(vmx);
		e->kind = PVHV_EXIT_INTR;
		break;
	case EXIT_REASON_INIT_SIGNAL:
		e->kind = PVHV_EXIT_INTR;
		break;
	case EXIT_REASON_PREEMPTION_TIMER:
		if (!vcpu->enter_until || !pvhv_lapic_deadline_passed(vcpu))
			e->kind = PVHV_EXIT_INTR;
		break;
	case EXIT_REASON_EPT_VIOLATION:
		normalise_ept(vcpu);
		break;
	case EXIT_REASON_EXCEPTION_NMI:
		normalise_exception(vcpu);
		break;
	case EXIT_REASON_INTERRUPT_WINDOW:
		vmx_switch(vmx, VMX_PROC_CONTROLS, CPU_BASED_INTR_WINDOW_EXITING, false);
		e->kind = PVHV_EXIT_IRQ_WINDOW;
		break;
	case EXIT_REASON_NMI_WINDOW:
		vmx_switch(vmx, VMX_PROC_CONTROLS, CPU_BASED_NMI_WINDOW_EXITING, false);
		e->kind = PVHV_EXIT_NMI_WINDOW;
		break;
	case EXIT_REASON_APIC_ACCESS:
		normalise_apic_access(e);
		break;
	case EXIT_REASON_EOI_INDUCED:
		e->kind = PVHV_EXIT_APIC_EOI;
		e->apic = e->hw_info[0] & 0xff;
		break;
	case EXIT_REASON_APIC_WRITE:
		e->kind = PVHV_EXIT_APIC_WRITE;
		e->apic = e->hw_info[0] & APIC_ACCESS_OFFSET;
		break;
	case EXIT_REASON_TPR_BELOW_THRESHOLD:	/* vmx_save_tpr() has seen it */
		break;
	case EXIT_REASON_PML_FULL:	/* emptied by vmx_enter() */
		if (unlikely(e->hw_info[0] & EPT_NMI_UNBLOCKED))
			nmi_still_masked(vcpu);
		break;
	case EXIT_REASON_TRIPLE_FAULT:
		e->kind = PVHV_EXIT_SHUTDOWN;
		break;
	case EXIT_REASON_TASK_SWITCH:
		e->kind = PVHV_EXIT_TASK_SWITCH;
		break;
	default:
		/* EPT misconfigurations among them: we make no such entries. */
		e->kind = PVHV_EXIT_UNKNOWN;
		break;
	}
}
