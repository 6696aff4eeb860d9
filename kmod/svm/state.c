// SPDX-License-Identifier: GPL-2.0
/*
 * state.c - guest CPU state between KVM's form and the VMCB's:
 *  1. segments and descriptor tables,
 *  2. the MSRs that live in the VMCB,
 *  3. svm_sync(): control registers, EFER, debug registers, TSC offset,
 *     PAT and the intercepts that follow from them.
 */
#include <asm/msr-index.h>
#include <asm/trapnr.h>

#include "svm.h"

/* Segment attributes as the VMCB packs them (APM 15.5.1, table 15-1 note). */
static struct vmcb_seg *svm_seg(struct pvhv_vcpu *vcpu, int seg)
{
	struct vmcb_save_area *save = &to_svm(vcpu)->vmcb->save;

	switch (seg) {
	case PVHV_ES: return &save->es;
	case PVHV_CS: return &save->cs;
	case PVHV_SS: return &save->ss;
	case PVHV_DS: return &save->ds;
	case PVHV_FS: return &save->fs;
	case PVHV_GS: return &save->gs;
	case PVHV_TR: return &save->tr;
	default: return &save->ldtr;
	}
}

void svm_get_segment(struct pvhv_vcpu *vcpu, struct kvm_segment *s, int seg)
{
	const struct vmcb_seg *v = svm_seg(vcpu, seg);

	*s = (struct kvm_segment) {
		.base = v->base,
		.limit = v->limit,
		.selector = v->selector,
		.type = v->attrib & SVM_SELECTOR_TYPE_MASK,
		.s = (v->attrib >> SVM_SELECTOR_S_SHIFT) & 1,
		.dpl = (v->attrib >> SVM_SELECTOR_DPL_SHIFT) & 3,
		.present = (v->attrib >> SVM_SELECTOR_P_SHIFT) & 1,
		.avl = (v->attrib >> SVM_SELECTOR_AVL_SHIFT) & 1,
		.l = (v->attrib >> SVM_SELECTOR_L_SHIFT) & 1,
		.db = (v->attrib >> SVM_SELECTOR_DB_SHIFT) & 1,
		.g = (v->attrib >> SVM_SELECTOR_G_SHIFT) & 1,
	};

	/*
	 * Granularity follows from the limit on processors that do not keep
	 * the bit (APM 15.5.1); the other fix-ups make the state loadable on
	 * VT-x too, where TR must be busy and an unusable segment clean.
	 */
	s->g = s->limit > 0xfffff;
	s->unusable = !s->present;
	if (seg == PVHV_TR)
		s->type |= 2;
	if (seg == PVHV_SS)
		s->dpl = to_svm(vcpu)->vmcb->save.cpl;
	if (seg >= PVHV_SS && seg <= PVHV_GS && !s->unusable)
		s->type |= 1;
	if (seg == PVHV_SS && s->unusable)
		s->db = 0;
}

void svm_set_segment(struct pvhv_vcpu *vcpu, const struct kvm_segment *s, int seg)
{
	struct vmcb_seg *v = svm_seg(vcpu, seg);

	v->base = s->base;
	v->limit = s->limit;
	v->selector = s->selector;
	v->attrib = (s->type & SVM_SELECTOR_TYPE_MASK) |
		    (s->s & 1) << SVM_SELECTOR_S_SHIFT |
		    (s->dpl & 3) << SVM_SELECTOR_DPL_SHIFT |
		    ((s->present && !s->unusable) ? SVM_SELECTOR_P_MASK : 0) |
		    (s->avl & 1) << SVM_SELECTOR_AVL_SHIFT |
		    (s->l & 1) << SVM_SELECTOR_L_SHIFT |
		    (s->db & 1) << SVM_SELECTOR_DB_SHIFT |
		    (s->g & 1) << SVM_SELECTOR_G_SHIFT;
	/* The VMCB keeps the privilege level apart; SS.DPL is its source. */
	if (seg == PVHV_SS)
		to_svm(vcpu)->vmcb->save.cpl = s->dpl & 3;
	svm_dirty(to_svm(vcpu), SVM_CLEAN_SEG);
}

void svm_get_code(struct pvhv_vcpu *vcpu, struct pvhv_code *code)
{
	const struct vmcb_save_area *save = &to_svm(vcpu)->vmcb->save;

	code->base = save->cs.base;
	code->cpl = save->cpl;
	if ((save->efer & EFER_LMA) && (save->cs.attrib & SVM_SELECTOR_L_MASK))
		code->mode = PVHV_MODE_64;
	else if ((save->cr0 & X86_CR0_PE) && !(vcpu->rflags & X86_EFLAGS_VM) &&
		 (save->cs.attrib & SVM_SELECTOR_DB_MASK))
		code->mode = PVHV_MODE_32;
	else
		code->mode = PVHV_MODE_16;
}

void svm_get_dtables(struct pvhv_vcpu *vcpu, struct kvm_dtable *gdt,
		     struct kvm_dtable *idt)
{
	const struct vmcb_save_area *save = &to_svm(vcpu)->vmcb->save;

	*gdt = (struct kvm_dtable) { .base = save->gdtr.base, .limit = save->gdtr.limit };
	*idt = (struct kvm_dtable) { .base = save->idtr.base, .limit = save->idtr.limit };
}

void svm_set_dtables(struct pvhv_vcpu *vcpu, const struct kvm_dtable *gdt,
		     const struct kvm_dtable *idt)
{
	struct vmcb_save_area *save = &to_svm(vcpu)->vmcb->save;

	save->gdtr.base = gdt->base;
	save->gdtr.limit = gdt->limit;
	save->idtr.base = idt->base;
	save->idtr.limit = idt->limit;
	svm_dirty(to_svm(vcpu), SVM_CLEAN_DT);
}

static u64 *svm_msr(struct vmcb_save_area *save, u32 index)
{
	switch (index) {
	case MSR_STAR: return &save->star;
	case MSR_LSTAR: return &save->lstar;
	case MSR_CSTAR: return &save->cstar;
	case MSR_SYSCALL_MASK: return &save->sfmask;
	case MSR_KERNEL_GS_BASE: return &save->kernel_gs_base;
	case MSR_FS_BASE: return &save->fs.base;
	case MSR_GS_BASE: return &save->gs.base;
	case MSR_IA32_SYSENTER_CS: return &save->sysenter_cs;
	case MSR_IA32_SYSENTER_ESP: return &save->sysenter_esp;
	case MSR_IA32_SYSENTER_EIP: return &save->sysenter_eip;
	default: return NULL;
	}
}

int svm_get_msr(struct pvhv_vcpu *vcpu, u32 index, u64 *value)
{
	const u64 *p = svm_msr(&to_svm(vcpu)->vmcb->save, index);

	if (!p)
		return -ENOENT;
	*value = *p;
	return 0;
}

int svm_set_msr(struct pvhv_vcpu *vcpu, u32 index, u64 value)
{
	u64 *p = svm_msr(&to_svm(vcpu)->vmcb->save, index);

	if (!p)
		return -ENOENT;
	*p = value;
	if (index == MSR_FS_BASE || index == MSR_GS_BASE)
		svm_dirty(to_svm(vcpu), SVM_CLEAN_SEG);
	return 0;
}

static void sync_control_registers(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb_save_area *save = &svm->vmcb->save;
	u64 cr0, cr4;

	/*
	 * A guest turns caching off only where its VMM lets it; and the
	 * host's machine checks must arrive whatever the guest's CR4.MCE.
	 * Where that makes the registers differ from what the guest wrote,
	 * reads exit too.
	 */
	cr0 = vcpu->cr0 | X86_CR0_ET;
	if (!(vcpu->vm->disabled_quirks & KVM_X86_QUIRK_CD_NW_CLEARED))
		cr0 &= ~(u64)(X86_CR0_CD | X86_CR0_NW);
	cr4 = vcpu->cr4 | (cr4_read_shadow() & X86_CR4_MCE);
	save->cr0 = cr0;
	save->cr3 = vcpu->cr3;
	save->cr4 = cr4;
	/*
	 * LME does nothing before CR0.PG, whose writes exit. QEMU's AMD-V
	 * leaves the host with the guest's CR0 after an exit with LME but
	 * neither PG nor CR4.PAE.
	 */
	save->efer = (vcpu->efer & ~(cr0 & X86_CR0_PG ? 0 : EFER_LME)) | EFER_SVME;
	svm_intercept(svm, INTERCEPT_CR0_READ, cr0 != vcpu->cr0);
	svm_intercept(svm, INTERCEPT_CR4_READ, cr4 != vcpu->cr4);
	svm_dirty(svm, SVM_CLEAN_CR);
}

/*
 * Debug registers: the guest's first MOV DR exits. It is then lent the real
 * ones until the next exit, when svm_enter() reads them back. Otherwise DR0-3
 * are put into the CPU only while the guest's DR7 enables one.
 */
void svm_lend_debug_registers(struct pvhv_vcpu *vcpu, bool lend)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	int i;

	for (i = 0; i < 8; i++) {
		svm_intercept(svm, INTERCEPT_DR0_READ + i, !lend);
		svm_intercept(svm, INTERCEPT_DR0_WRITE + i, !lend);
	}
	svm->dr_lent = lend;
}

static void sync_debug_registers(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	svm->vmcb->save.dr6 = vcpu->dr6;
	svm->vmcb->save.dr7 = vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP ? vcpu->debug_dr7 :
									   vcpu->dr7;
	svm_dirty(svm, SVM_CLEAN_DR);
	svm_intercept(svm, INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_BP,
		      vcpu->guest_debug & KVM_GUESTDBG_USE_SW_BP);
}

void svm_sync(struct pvhv_vcpu *vcpu, u32 what)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	if (what & (PVHV_SYNC_CR0 | PVHV_SYNC_CR3 | PVHV_SYNC_CR4 | PVHV_SYNC_EFER))
		sync_control_registers(vcpu);
	if (what & PVHV_SYNC_DR)
		sync_debug_registers(vcpu);
	if (what & PVHV_SYNC_TSC) {
		svm->vmcb->control.tsc_offset = vcpu->tsc_offset;
		svm_dirty(svm, SVM_CLEAN_INTERCEPTS);
	}
	if (what & PVHV_SYNC_PAT) {
		svm->vmcb->save.g_pat = vcpu->pat;
		svm_dirty(svm, SVM_CLEAN_NPT);
	}
	if (what & PVHV_SYNC_MSRS)
		svm_choose_msrpm(vcpu);
	if (what & PVHV_SYNC_CPUID)
		svm_intercept(svm, INTERCEPT_RDTSCP, !vcpu->guest_has_rdtscp);
	if (what & PVHV_SYNC_TPR)
		svm_intercept(svm, INTERCEPT_CR8_WRITE,
			      !vcpu->lapic || pvhv_lapic_tpr_blocks(vcpu));
}
