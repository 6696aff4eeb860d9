// SPDX-License-Identifier: GPL-2.0
/*
 * exit.c - what the guest's exits mean:
 *  1. pvhv_handle_exit_fast(): exits that need neither interrupts on nor
 *     userspace, called from the run loop's inner loop,
 *  2. pvhv_handle_exit(): all of them, one handler each.
 */
#include <asm/trapnr.h>
#include <linux/sched.h>

#include "pvhv.h"
#include "trace.h"

int pvhv_internal_error(struct pvhv_vcpu *vcpu, u32 suberror)
{
	struct kvm_run *run = vcpu->run;
	const struct pvhv_exit *e = &vcpu->exit;

	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	/* A guest's user program must not be able to stop its kernel. */
	if (suberror == KVM_INTERNAL_ERROR_EMULATION && pvhv_cpl(vcpu) &&
	    !vcpu->vm->exit_on_emulation_failure) {
		vcpu->stat.insn_emulation_fails++;
		pvhv_queue_ud(vcpu);
		return PVHV_RESUME;
	}
	if (suberror != KVM_INTERNAL_ERROR_EMULATION) {
		run->internal.suberror = suberror;
		run->internal.ndata = 2;
		run->internal.data[0] = e->hw_reason;
		run->internal.data[1] = vcpu->cpu;
		return PVHV_TO_USER;
	}
	vcpu->stat.insn_emulation_fails++;
	memset(&run->emulation_failure, 0, sizeof(run->emulation_failure));
	run->emulation_failure.suberror = suberror;
	run->emulation_failure.ndata = 1;
	if (e->nr_bytes) {
		/* flags, size and bytes: 1 + 2 words, as linux/kvm.h lays them out */
		run->emulation_failure.ndata = 3;
		run->emulation_failure.flags =
			KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		run->emulation_failure.insn_size = e->nr_bytes;
		memset(run->emulation_failure.insn_bytes, 0x90,
		       sizeof(run->emulation_failure.insn_bytes));
		memcpy(run->emulation_failure.insn_bytes, e->bytes, e->nr_bytes);
	}
	return PVHV_TO_USER;
}

/* --- 1. fast --- */

static int handle_cpuid(struct pvhv_vcpu *vcpu, bool atomic)
{
	u32 eax, ebx, ecx, edx;
	int r;

	if (unlikely(vcpu->msr_misc_features) && pvhv_cpl(vcpu)) {
		pvhv_queue_gp(vcpu);	/* CPUID faulting */
		return PVHV_RESUME;
	}
	r = pvhv_skip_insn(vcpu, atomic);
	if (unlikely(r))
		return r;
	eax = vcpu->gpr[PVHV_RAX];
	ecx = vcpu->gpr[PVHV_RCX];
	pvhv_cpuid(vcpu, &eax, &ebx, &ecx, &edx);
	trace_pvhv_cpuid(vcpu->gpr[PVHV_RAX], vcpu->gpr[PVHV_RCX], eax, ebx, ecx, edx);
	vcpu->gpr[PVHV_RAX] = eax;
	vcpu->gpr[PVHV_RBX] = ebx;
	vcpu->gpr[PVHV_RCX] = ecx;
	vcpu->gpr[PVHV_RDX] = edx;
	vcpu->stat.cpuid_exits++;
	return PVHV_RESUME;
}

int pvhv_handle_exit_fast(struct pvhv_vcpu *vcpu)
{
	switch (vcpu->exit.kind) {
	case PVHV_EXIT_NONE:
		return PVHV_RESUME;
	case PVHV_EXIT_CPUID:
		return handle_cpuid(vcpu, true);
	case PVHV_EXIT_MSR_WRITE:
		return pvhv_handle_msr_fast(vcpu, true);
	case PVHV_EXIT_MSR_READ:
		return pvhv_handle_msr_fast(vcpu, false);
	case PVHV_EXIT_HYPERCALL:
		return pvhv_handle_hypercall_fast(vcpu);
	case PVHV_EXIT_PIO:
		return pvhv_handle_pio_fast(vcpu);
	case PVHV_EXIT_TDP_FAULT:
		return pvhv_tdp_fault_fast(vcpu);
	case PVHV_EXIT_APIC_EOI:
		return pvhv_lapic_eoi_made(vcpu, vcpu->exit.apic);
	case PVHV_EXIT_APIC_WRITE:
		return pvhv_lapic_write_made(vcpu, vcpu->exit.apic);
	case PVHV_EXIT_APIC_ACCESS:
		return pvhv_handle_mmio_fast(vcpu);
	case PVHV_EXIT_IRQ_WINDOW:
		vcpu->stat.irq_window_exits++;
		vcpu->event_check = true;
		return vcpu->pic_in_user ? PVHV_SLOW : PVHV_RESUME;
	case PVHV_EXIT_NMI_WINDOW:
		vcpu->stat.nmi_window_exits++;
		vcpu->event_check = true;
		return PVHV_RESUME;
	default:
		return PVHV_SLOW;
	}
}

/* --- 2. all --- */

static int handle_nothing(struct pvhv_vcpu *vcpu)
{
	return PVHV_RESUME;
}

static int handle_cpuid_slow(struct pvhv_vcpu *vcpu)
{
	handle_cpuid(vcpu, false);
	return PVHV_RESUME;
}

static int handle_halt(struct pvhv_vcpu *vcpu)
{
	vcpu->stat.halt_exits++;
	if (pvhv_skip_insn(vcpu, false))
		return PVHV_RESUME;
	if (!vcpu->lapic) {
		vcpu->run->exit_reason = KVM_EXIT_HLT;
		return PVHV_TO_USER;
	}
	vcpu->mp_state = KVM_MP_STATE_HALTED;
	return PVHV_RESUME;
}

static int handle_pause(struct pvhv_vcpu *vcpu)
{
	/* Probably waits for a vCPU that is not running: let it. */
	if (!pvhv_skip_insn(vcpu, false))
		yield();
	return PVHV_RESUME;
}

static int handle_irq_window(struct pvhv_vcpu *vcpu)
{
	/* Userspace's window; enter_guest() looks whether it is open. */
	return PVHV_RESUME;
}

static int handle_tdp_fault(struct pvhv_vcpu *vcpu)
{
	u64 gpa = vcpu->exit.fault.gpa;
	int r;

	r = pvhv_tdp_fault(vcpu);
	if (r != PVHV_SLOW)
		return r;
	return pvhv_handle_mmio(vcpu, gpa);
}

static int handle_apic_access(struct pvhv_vcpu *vcpu)
{
	return pvhv_handle_mmio(vcpu, vcpu->exit.fault.gpa);
}

static u64 read_cr(struct pvhv_vcpu *vcpu, u8 nr)
{
	switch (nr) {
	case 0: return vcpu->cr0;
	case 2: return vcpu->cr2;
	case 3: return vcpu->cr3;
	case 4: return vcpu->cr4;
	default: return vcpu->lapic ? pvhv_lapic_get_tpr(vcpu) : vcpu->cr8;
	}
}

static int write_cr(struct pvhv_vcpu *vcpu, u8 nr, u64 value)
{
	switch (nr) {
	case 0: return pvhv_set_cr0(vcpu, value);
	case 3: return pvhv_set_cr3(vcpu, value);
	case 4: return pvhv_set_cr4(vcpu, value);
	case 8: return pvhv_set_cr8(vcpu, value);
	default: return 1;
	}
}

/* LMSW's or SMSW's operand: a register, or 16 bits of memory. */
static u64 seg_base_of(struct pvhv_vcpu *vcpu, const struct pvhv_insn *insn)
{
	struct kvm_segment s;

	if (insn->mode == PVHV_MODE_64 && insn->seg < PVHV_SEG_FS)
		return 0;
	vcpu->be->get_segment(vcpu, &s, insn->seg);
	return s.base;
}

static u64 operand_linear(struct pvhv_vcpu *vcpu, const struct pvhv_insn *insn)
{
	struct pvhv_insn_ctx ctx = {
		.gpr = vcpu->gpr,
		.rflags = &vcpu->rflags,
		.rip = vcpu->rip,
	};

	ctx.seg_base[insn->seg] = seg_base_of(vcpu, insn);
	return pvhv_insn_linear(insn, &ctx);
}

static int do_lmsw(struct pvhv_vcpu *vcpu, const struct pvhv_insn *insn)
{
	const u64 low = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;
	u16 value;
	int r;

	if (insn->flags & PVHV_INSN_MEM) {
		r = pvhv_read_linear(vcpu, operand_linear(vcpu, insn), &value, sizeof(value));
		if (r)
			return r;
	} else {
		value = vcpu->gpr[insn->rm];
	}
	/* LMSW can set PE but not clear it (APM vol. 3). */
	if (pvhv_set_cr0(vcpu, (vcpu->cr0 & ~(low & ~X86_CR0_PE)) | (value & low))) {
		pvhv_queue_gp(vcpu);
		return 1;
	}
	return 0;
}

static int do_smsw(struct pvhv_vcpu *vcpu, const struct pvhv_insn *insn)
{
	u16 low = vcpu->cr0;

	if (insn->flags & PVHV_INSN_MEM)
		return pvhv_write_linear(vcpu, operand_linear(vcpu, insn), &low, sizeof(low));
	switch (insn->opsize) {
	case 2:
		vcpu->gpr[insn->rm] = (vcpu->gpr[insn->rm] & ~0xffffULL) | low;
		break;
	case 4:
		vcpu->gpr[insn->rm] = (u32)vcpu->cr0;
		break;
	default:
		vcpu->gpr[insn->rm] = vcpu->cr0;
	}
	return 0;
}

static int mov_cr(struct pvhv_vcpu *vcpu, u8 nr, u8 gpr, bool write, bool long_mode)
{
	if (!write) {
		u64 value = read_cr(vcpu, nr);

		vcpu->gpr[gpr] = long_mode ? value : (u32)value;
		return 0;
	}
	if (write_cr(vcpu, nr, long_mode ? vcpu->gpr[gpr] : (u32)vcpu->gpr[gpr])) {
		pvhv_queue_gp(vcpu);
		return 1;
	}
	return 0;
}

static int handle_cr(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_exit *e = &vcpu->exit;
	struct pvhv_insn insn;
	u64 next = e->next_rip;
	int r;

	/*
	 * The mode is of before the instruction: MOV to CR0 may change it,
	 * so the next RIP is computed first.
	 */
	if (e->cr.nr != 0xff && next) {
		r = mov_cr(vcpu, e->cr.nr, e->cr.gpr, e->cr.write,
			   pvhv_cpu_mode(vcpu) == PVHV_MODE_64);
	} else {
		if (pvhv_decode_exit(vcpu, &insn, false) != PVHV_DECODE_OK)
			return pvhv_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
		next = pvhv_insn_next_rip(&insn, vcpu->rip);
		switch (insn.op) {
		case PVHV_OP_MOV_TO_CR:
		case PVHV_OP_MOV_FROM_CR:
			r = mov_cr(vcpu, insn.reg, insn.rm, insn.op == PVHV_OP_MOV_TO_CR,
				   insn.mode == PVHV_MODE_64);
			break;
		case PVHV_OP_CLTS:
			r = pvhv_set_cr0(vcpu, vcpu->cr0 & ~X86_CR0_TS);
			break;
		case PVHV_OP_LMSW:
			r = do_lmsw(vcpu, &insn);
			break;
		case PVHV_OP_SMSW:
			r = do_smsw(vcpu, &insn);
			break;
		default:
			return PVHV_RESUME;	/* changed under us: run it again */
		}
	}
	if (!r)
		pvhv_finish_insn(vcpu, next);
	return r < 0 ? r : PVHV_RESUME;
}

static int handle_xsetbv(struct pvhv_vcpu *vcpu)
{
	u64 rip = vcpu->rip;
	u64 value = (u32)vcpu->gpr[PVHV_RAX] | vcpu->gpr[PVHV_RDX] << 32;

	if (pvhv_skip_insn(vcpu, false))
		return PVHV_RESUME;
	if (pvhv_cpl(vcpu) || pvhv_set_xcr(vcpu, vcpu->gpr[PVHV_RCX], value)) {
		vcpu->rip = rip;
		pvhv_queue_gp(vcpu);
	}
	return PVHV_RESUME;
}

/* Intercepted for the host's sake, or to help: else the guest gets it as it came. */
static int handle_exception(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_exit *e = &vcpu->exit;

	if (unlikely(vcpu->guest_debug)) {
		int r = pvhv_debug_exception(vcpu, e->excp.vector);

		if (r != PVHV_SLOW)
			return r;
	}
	if (e->excp.vector == X86_TRAP_UD && pvhv_fix_hypercall(vcpu))
		return PVHV_RESUME;
	if (e->excp.vector == X86_TRAP_AC)
		pvhv_queue_exception_e(vcpu, X86_TRAP_AC, e->excp.error);
	else
		pvhv_queue_exception(vcpu, e->excp.vector);
	return PVHV_RESUME;
}

static int handle_ud(struct pvhv_vcpu *vcpu)
{
	pvhv_queue_ud(vcpu);
	return PVHV_RESUME;
}

/* MONITOR or MWAIT in a guest that does not have it, and whose VMM cares. */
static bool absent_mwait(struct pvhv_vcpu *vcpu)
{
	struct pvhv_insn insn;

	return (vcpu->vm->disabled_quirks & KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS) &&
	       !pvhv_guest_has(vcpu, X86_FEATURE_MWAIT) &&
	       pvhv_decode_exit(vcpu, &insn, false) == PVHV_DECODE_OK &&
	       (insn.op == PVHV_OP_MONITOR || insn.op == PVHV_OP_MWAIT);
}

static int handle_skip(struct pvhv_vcpu *vcpu)
{
	if (unlikely(absent_mwait(vcpu)))
		return handle_ud(vcpu);
	pvhv_skip_insn(vcpu, false);
	return PVHV_RESUME;
}

static int handle_rdpmc(struct pvhv_vcpu *vcpu)
{
	/* No performance counters are offered in CPUID. */
	pvhv_queue_gp(vcpu);
	return PVHV_RESUME;
}

static int handle_rdtsc(struct pvhv_vcpu *vcpu)
{
	u64 tsc = pvhv_read_tsc(vcpu);

	if (pvhv_skip_insn(vcpu, false))
		return PVHV_RESUME;
	vcpu->gpr[PVHV_RAX] = (u32)tsc;
	vcpu->gpr[PVHV_RDX] = tsc >> 32;
	return PVHV_RESUME;
}

static int handle_shutdown(struct pvhv_vcpu *vcpu)
{
	/* What the CPU's state is after it is undefined: start from reset's. */
	pvhv_vcpu_reset(vcpu, true);
	vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	vcpu->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return PVHV_TO_USER;
}

static int handle_fail_entry(struct pvhv_vcpu *vcpu)
{
	vcpu->run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	vcpu->run->fail_entry.hardware_entry_failure_reason = vcpu->exit.hw_reason;
	vcpu->run->fail_entry.cpu = vcpu->cpu;
	return PVHV_TO_USER;
}

static int handle_unknown(struct pvhv_vcpu *vcpu)
{
	return pvhv_internal_error(vcpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON);
}

static int handle_task_switch(struct pvhv_vcpu *vcpu)
{
	/* No stock 64-bit or 32-bit kernel uses hardware task switches. */
	return pvhv_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
}

static int (*const handlers[PVHV_NR_EXITS])(struct pvhv_vcpu *vcpu) = {
	[PVHV_EXIT_NONE] = handle_nothing,
	[PVHV_EXIT_INTR] = handle_nothing,
	[PVHV_EXIT_CPUID] = handle_cpuid_slow,
	[PVHV_EXIT_MSR_READ] = pvhv_handle_msr_read,
	[PVHV_EXIT_MSR_WRITE] = pvhv_handle_msr_write,
	[PVHV_EXIT_HYPERCALL] = pvhv_handle_hypercall,
	[PVHV_EXIT_PIO] = pvhv_handle_pio,
	[PVHV_EXIT_TDP_FAULT] = handle_tdp_fault,
	[PVHV_EXIT_HLT] = handle_halt,
	[PVHV_EXIT_PAUSE] = handle_pause,
	[PVHV_EXIT_IRQ_WINDOW] = handle_irq_window,
	[PVHV_EXIT_NMI_WINDOW] = handle_nothing,
	[PVHV_EXIT_CR] = handle_cr,
	[PVHV_EXIT_DR] = pvhv_handle_dr,
	[PVHV_EXIT_XSETBV] = handle_xsetbv,
	[PVHV_EXIT_EXCEPTION] = handle_exception,
	[PVHV_EXIT_TASK_SWITCH] = handle_task_switch,
	[PVHV_EXIT_SKIP] = handle_skip,
	[PVHV_EXIT_UD] = handle_ud,
	[PVHV_EXIT_RDTSC] = handle_rdtsc,
	[PVHV_EXIT_RDPMC] = handle_rdpmc,
	[PVHV_EXIT_SHUTDOWN] = handle_shutdown,
	[PVHV_EXIT_FAIL_ENTRY] = handle_fail_entry,
	[PVHV_EXIT_APIC_EOI] = handle_nothing,
	[PVHV_EXIT_APIC_WRITE] = handle_unknown,
	[PVHV_EXIT_APIC_ACCESS] = handle_apic_access,
	[PVHV_EXIT_UNKNOWN] = handle_unknown,
};

int pvhv_handle_exit(struct pvhv_vcpu *vcpu)
{
	return handlers[vcpu->exit.kind](vcpu);
}
