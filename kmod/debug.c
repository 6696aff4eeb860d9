// SPDX-License-Identifier: GPL-2.0
/*
 * debug.c - a debugger outside of the guest (KVM_SET_GUEST_DEBUG):
 *  1. what it wants: steps, breakpoints in software or hardware, events put
 *     into the guest,
 *  2. exits to it: #DB and #BP, the end of an instruction done here,
 *  3. RFLAGS as the guest should see them while it is stepped,
 *  4. DR0-3 in the CPU while the guest runs,
 *  5. MOV DR, which exits while debug registers may be the debugger's.
 *
 * While the guest is debugged, vcpu->dr, dr6 and dr7 are what the guest sees;
 * the hardware has the debugger's, if it uses hardware breakpoints, and its DR6
 * is nothing but the cause of the last #DB.
 */
#include "pvhv.h"
#include "trace.h"

#define DR6_BD			BIT(13)	/* SDM vol. 3, 17.2.3 */
#define HW_DEBUG		(KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP)

static u64 linear_rip(struct pvhv_vcpu *vcpu)
{
	struct pvhv_code code;

	vcpu->be->get_code(vcpu, &code);
	return code.mode == PVHV_MODE_64 ? vcpu->rip : (u32)(code.base + vcpu->rip);
}

/* --- 2. exits --- */

static int debug_exit(struct pvhv_vcpu *vcpu, u8 vector, u64 dr6, u64 dr7)
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_DEBUG;
	memset(&run->debug, 0, sizeof(run->debug));
	run->debug.arch.exception = vector;
	run->debug.arch.pc = linear_rip(vcpu);
	run->debug.arch.dr6 = dr6;
	run->debug.arch.dr7 = dr7;
	return PVHV_TO_USER;
}

static u64 effective_dr7(const struct pvhv_vcpu *vcpu)
{
	return vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP ? vcpu->debug_dr7 : vcpu->dr7;
}

/* PVHV_SLOW: nothing of a debugger's. */
int pvhv_debug_exception(struct pvhv_vcpu *vcpu, u8 vector)
{
	u64 dr6 = vcpu->exit.excp.dr6;

	if (vector == X86_TRAP_BP && (vcpu->guest_debug & KVM_GUESTDBG_USE_SW_BP))
		return debug_exit(vcpu, vector, 0, 0);
	if (vector != X86_TRAP_DB)
		return PVHV_SLOW;
	if (vcpu->guest_debug & HW_DEBUG)
		return debug_exit(vcpu, vector, dr6, effective_dr7(vcpu));
	/* The guest's own: its DR6 has not seen the cause yet. */
	pvhv_queue_db(vcpu, dr6 & ~pvhv_fix_dr6(0));
	return PVHV_RESUME;
}

/* An instruction that we have finished was a step: PVHV_REQ_DEBUG_STEP. */
int pvhv_debug_step(struct pvhv_vcpu *vcpu)
{
	return debug_exit(vcpu, X86_TRAP_DB, pvhv_fix_dr6(DR_STEP), effective_dr7(vcpu));
}

/* --- 3. RFLAGS --- */

u64 pvhv_debug_hide_step(const struct pvhv_vcpu *vcpu, u64 rflags)
{
	return vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP ? rflags & ~(u64)X86_EFLAGS_TF : rflags;
}

/* The debugger's registers: stepping goes on where it is to begin, not elsewhere. */
void pvhv_debug_rflags_set(struct pvhv_vcpu *vcpu)
{
	if ((vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP) && linear_rip(vcpu) == vcpu->step_from)
		vcpu->rflags |= X86_EFLAGS_TF;
}

/* --- 1. what it wants --- */

/* The debugger took a #BP that is the guest's: it goes in as after INT3. */
static void inject_bp(struct pvhv_vcpu *vcpu)
{
	struct pvhv_insn insn;

	vcpu->exit.nr_bytes = 0;
	if (pvhv_decode_exit(vcpu, &insn, false) == PVHV_DECODE_OK && insn.op == PVHV_OP_INT3)
		vcpu->rip = pvhv_insn_next_rip(&insn, vcpu->rip);
	vcpu->exit.nr_bytes = 0;
	pvhv_queue_exception(vcpu, X86_TRAP_BP);
}

long pvhv_ioctl_set_guest_debug(void *obj, void *data, unsigned long arg)
{
	const struct kvm_guest_debug *dbg = data;
	struct pvhv_vcpu *vcpu = obj;
	int i;

	if (dbg->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (vcpu->excp.pending || vcpu->excp.injected)
			return -EBUSY;
		if (dbg->control & KVM_GUESTDBG_INJECT_DB)
			pvhv_queue_exception(vcpu, X86_TRAP_DB);
		else
			inject_bp(vcpu);
	}
	vcpu->rflags = pvhv_debug_hide_step(vcpu, vcpu->rflags);
	clear_bit(PVHV_REQ_DEBUG_STEP, &vcpu->requests);

	vcpu->guest_debug = dbg->control & KVM_GUESTDBG_ENABLE ? dbg->control : 0;
	for (i = 0; i < 4; i++)
		vcpu->debug_dr[i] = dbg->arch.debugreg[i];
	vcpu->debug_dr7 = pvhv_fix_dr7((u32)dbg->arch.debugreg[7]);
	vcpu->step_from = linear_rip(vcpu);
	pvhv_debug_rflags_set(vcpu);
	vcpu->be->sync(vcpu, PVHV_SYNC_DR);
	pvhv_lapic_choose_virtual(vcpu);
	vcpu->event_check = true;	/* BLOCKIRQ may be over */
	return 0;
}

/* --- 4. debug registers in the CPU --- */

void pvhv_load_debug_addresses(struct pvhv_vcpu *vcpu)
{
	const u64 *dr = vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP ? vcpu->debug_dr : vcpu->dr;

	set_debugreg(dr[0], 0);
	set_debugreg(dr[1], 1);
	set_debugreg(dr[2], 2);
	set_debugreg(dr[3], 3);
}

void pvhv_save_debug_addresses(struct pvhv_vcpu *vcpu)
{
	unsigned long value;
	int i;

	for (i = 0; i < 4; i++) {
		get_debugreg(value, i);
		vcpu->dr[i] = value;
	}
}

/* --- 5. MOV DR --- */

static u64 read_dr(const struct pvhv_vcpu *vcpu, u8 nr)
{
	switch (nr) {
	case 6:
		return vcpu->dr6;
	case 7:
		return vcpu->dr7;
	default:
		return vcpu->dr[nr & 3];
	}
}

static int write_dr(struct pvhv_vcpu *vcpu, u8 nr, u64 value)
{
	if (nr >= 6 && value >> 32)
		return 1;
	switch (nr) {
	case 6:
		vcpu->dr6 = pvhv_fix_dr6(value);
		break;
	case 7:
		vcpu->dr7 = pvhv_fix_dr7(value);
		break;
	default:
		vcpu->dr[nr & 3] = value;
	}
	vcpu->be->sync(vcpu, PVHV_SYNC_DR);
	return 0;
}

int pvhv_handle_dr(struct pvhv_vcpu *vcpu)
{
	struct pvhv_insn insn;
	bool wide;
	u8 nr;

	if (pvhv_decode_exit(vcpu, &insn, false) != PVHV_DECODE_OK ||
	    (insn.op != PVHV_OP_MOV_FROM_DR && insn.op != PVHV_OP_MOV_TO_DR))
		return PVHV_RESUME;	/* changed under us: run it again */
	if (pvhv_cpl(vcpu)) {
		pvhv_queue_gp(vcpu);
		return PVHV_RESUME;
	}
	nr = insn.reg;
	if (nr > 7 || ((nr == 4 || nr == 5) && (vcpu->cr4 & X86_CR4_DE))) {
		pvhv_queue_ud(vcpu);
		return PVHV_RESUME;
	}
	if (nr == 4 || nr == 5)
		nr += 2;
	if (effective_dr7(vcpu) & PVHV_DR7_GD) {
		if (vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP)
			return debug_exit(vcpu, X86_TRAP_DB, pvhv_fix_dr6(DR6_BD), vcpu->debug_dr7);
		pvhv_queue_db(vcpu, DR6_BD);
		return PVHV_RESUME;
	}
	wide = insn.mode == PVHV_MODE_64;
	if (insn.op == PVHV_OP_MOV_FROM_DR) {
		vcpu->gpr[insn.rm] = wide ? read_dr(vcpu, nr) : (u32)read_dr(vcpu, nr);
	} else if (write_dr(vcpu, nr, wide ? vcpu->gpr[insn.rm] : (u32)vcpu->gpr[insn.rm])) {
		pvhv_queue_gp(vcpu);
		return PVHV_RESUME;
	}
	pvhv_finish_insn(vcpu, pvhv_insn_next_rip(&insn, vcpu->rip));
	return PVHV_RESUME;
}
