// SPDX-License-Identifier: GPL-2.0
/*
 * state.c - guest CPU state between KVM's form and the VMCS's:
 *  1. segments and descriptor tables,
 *  2. the MSRs that the VMCS or the CPU holds for the guest,
 *  3. vmx_sync(): control registers, EFER, debug registers, TSC offset and the
 *     controls that follow from them.
 */
#include <linux/mm.h>
#include <asm/apicdef.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/tlbflush.h>
#include <asm/trapnr.h>

#include "vmx.h"

/* Access rights as the VMCS packs them: SDM 25.4.1. */
#define AR_DPL_SHIFT	5
#define AR_AVAILABLE		BIT(12)

/* --- 1. segments --- */

void vmx_get_segment(struct pvhv_vcpu *vcpu, struct kvm_segment *s, int seg)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u32 ar = vmx_get(vmx, vmx_segment_field(seg, VMX_ACCESS));

	*s = (struct kvm_segment) {
		.base = vmx_get(vmx, vmx_segment_field(seg, VMX_BASE)),
		.limit = vmx_get(vmx, vmx_segment_field(seg, VMX_LIMIT)),
		.selector = vmx_get(vmx, vmx_segment_field(seg, VMX_SELECTOR)),
		.type = ar & VMX_AR_TYPE_MASK,
		.s = !!(ar & VMX_AR_S_MASK),
		.dpl = VMX_AR_DPL(ar),
		.present = !(ar & VMX_AR_UNUSABLE_MASK),
		.avl = !!(ar & AR_AVAILABLE),
		.l = !!(ar & VMX_AR_L_MASK),
		.db = !!(ar & VMX_AR_DB_MASK),
		.g = !!(ar & VMX_AR_G_MASK),
		.unusable = !!(ar & VMX_AR_UNUSABLE_MASK),
	};
}

/*
 * What a CPU loads into a register is always consistent; what a VMM sets need
 * not be. An entry refuses some of that which AMD-V does not look at: segments
 * that were not accessed, and granularity that the limit belies.
 */
static u32 access_rights(const struct kvm_segment *s, int seg)
{
	u32 ar = s->type | s->s << 4 | (s->dpl & 3) << AR_DPL_SHIFT |
		 s->present << 7 | (s->avl ? AR_AVAILABLE : 0) | (s->l ? VMX_AR_L_MASK : 0) |
		 (s->db ? VMX_AR_DB_MASK : 0);

	if (s->unusable || !s->present)
		return ar | VMX_AR_UNUSABLE_MASK;
	if (s->limit > 0xfffff || (s->g && (s->limit & 0xfff) == 0xfff))
		ar |= VMX_AR_G_MASK;
	if (seg == PVHV_TR)
		ar |= 2;		/* busy */
	else if (seg != PVHV_LDTR)
		ar |= VMX_AR_TYPE_ACCESSES_MASK;
	return ar;
}

void vmx_set_segment(struct pvhv_vcpu *vcpu, const struct kvm_segment *s, int seg)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx_set(vmx, vmx_segment_field(seg, VMX_BASE), s->base);
	vmx_set(vmx, vmx_segment_field(seg, VMX_LIMIT), s->limit);
	vmx_set(vmx, vmx_segment_field(seg, VMX_SELECTOR), s->selector);
	vmx_set(vmx, vmx_segment_field(seg, VMX_ACCESS), access_rights(s, seg));
}

void vmx_get_code(struct pvhv_vcpu *vcpu, struct pvhv_code *code)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u32 cs = vmx_get(vmx, vmx_segment_field(PVHV_CS, VMX_ACCESS));

	code->base = vmx_get(vmx, vmx_segment_field(PVHV_CS, VMX_BASE));
	/* SS.DPL is the CPL, even where SS is unusable (SDM 25.4.1). */
	code->cpl = VMX_AR_DPL(vmx_get(vmx, vmx_segment_field(PVHV_SS, VMX_ACCESS)));
	if ((vcpu->efer & EFER_LMA) && (cs & VMX_AR_L_MASK))
		code->mode = PVHV_MODE_64;
	else if ((vcpu->cr0 & X86_CR0_PE) && !(vcpu->rflags & X86_EFLAGS_VM) &&
		 (cs & VMX_AR_DB_MASK))
		code->mode = PVHV_MODE_32;
	else
		code->mode = PVHV_MODE_16;
}

void vmx_get_dtables(struct pvhv_vcpu *vcpu, struct kvm_dtable *gdt, struct kvm_dtable *idt)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	*gdt = (struct kvm_dtable) {
		.base = vmx_get(vmx, VMX_GDTR_BASE),
		.limit = vmx_get(vmx, VMX_GDTR_LIMIT),
	};
	*idt = (struct kvm_dtable) {
		.base = vmx_get(vmx, VMX_IDTR_BASE),
		.limit = vmx_get(vmx, VMX_IDTR_LIMIT),
	};
}

void vmx_set_dtables(struct pvhv_vcpu *vcpu, const struct kvm_dtable *gdt,
		     const struct kvm_dtable *idt)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx_set(vmx, VMX_GDTR_BASE, gdt->base);
	vmx_set(vmx, VMX_GDTR_LIMIT, gdt->limit);
	vmx_set(vmx, VMX_IDTR_BASE, idt->base);
	vmx_set(vmx, VMX_IDTR_LIMIT, idt->limit);
}

/* --- 2. MSRs --- */

static int vmcs_msr(u32 index)
{
	switch (index) {
	case MSR_FS_BASE: return vmx_segment_field(PVHV_FS, VMX_BASE);
	case MSR_GS_BASE: return vmx_segment_field(PVHV_GS, VMX_BASE);
	case MSR_IA32_SYSENTER_CS: return VMX_SYSENTER_CS;
	case MSR_IA32_SYSENTER_ESP: return VMX_SYSENTER_ESP;
	case MSR_IA32_SYSENTER_EIP: return VMX_SYSENTER_EIP;
	default: return -1;
	}
}

static u64 *memory_msr(struct vmx_vcpu *vmx, u32 index)
{
	switch (index) {
	case MSR_STAR: return &vmx->msr[VMX_STAR];
	case MSR_LSTAR: return &vmx->msr[VMX_LSTAR];
	case MSR_SYSCALL_MASK: return &vmx->msr[VMX_SFMASK];
	case MSR_KERNEL_GS_BASE: return &vmx->kernel_gs_base;
	/* Without a use on Intel CPUs, but it keeps its value. */
	case MSR_CSTAR: return &vmx->cstar;
	default: return NULL;
	}
}

int vmx_get_msr(struct pvhv_vcpu *vcpu, u32 index, u64 *value)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	int field = vmcs_msr(index);
	const u64 *p;

	if (field >= 0) {
		*value = vmx_get(vmx, field);
		return 0;
	}
	if (index == MSR_KERNEL_GS_BASE && vmx->loaded) {
		/* SWAPGS changes it. A preemption in between makes no difference. */
		rdmsrl(MSR_KERNEL_GS_BASE, *value);
		return 0;
	}
	p = memory_msr(vmx, index);
	if (!p)
		return -ENOENT;
	*value = *p;
	return 0;
}

int vmx_set_msr(struct pvhv_vcpu *vcpu, u32 index, u64 value)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	int field = vmcs_msr(index);
	u64 *p;

	if (field >= 0) {
		vmx_set(vmx, field, value);
		return 0;
	}
	p = memory_msr(vmx, index);
	if (!p)
		return -ENOENT;
	preempt_disable();
	*p = value;
	if (vmx->loaded && index != MSR_CSTAR)
		wrmsrl(index, value);
	preempt_enable();
	return 0;
}

/* --- 3. control registers and the like --- */

/* A CPU in PAE paging has the four PDPTEs in registers, loaded when CR3 or the mode is. */
static void load_pdptes(struct pvhv_vcpu *vcpu)
{
	u64 pdpte[4] = { };
	int i;

	if (!(vcpu->cr0 & X86_CR0_PG) || !(vcpu->cr4 & X86_CR4_PAE) || (vcpu->efer & EFER_LMA))
		return;
	/* Not there: not present, and the guest faults at its next access. */
	if (pvhv_read_guest(vcpu->vm, (u32)vcpu->cr3 & ~0x1fU, pdpte, sizeof(pdpte)))
		memset(pdpte, 0, sizeof(pdpte));
	for (i = 0; i < 4; i++)
		vmx_set(to_vmx(vcpu), VMX_PDPTE0 + i, pdpte[i]);
}

/*
 * All bits of CR0 and CR4 are ours: each change exits, and the guest reads the
 * shadows. So the hardware's may differ: caching stays on, the host's machine
 * checks arrive, and VMX operation wants CR0.NE and CR4.VMXE (SDM A.7, A.8).
 */
static void sync_control_registers(struct pvhv_vcpu *vcpu)
{
	const u64 efer_known = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX;
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx_set(vmx, VMX_CR0, (vcpu->cr0 | X86_CR0_NE | X86_CR0_ET) &
			      ~(u64)(X86_CR0_CD | X86_CR0_NW));
	vmx_set(vmx, VMX_CR0_SHADOW, vcpu->cr0);
	vmx_set(vmx, VMX_CR3, vcpu->cr3);
	vmx_set(vmx, VMX_CR4, vcpu->cr4 | X86_CR4_VMXE | (cr4_read_shadow() & X86_CR4_MCE));
	vmx_set(vmx, VMX_CR4_SHADOW, vcpu->cr4);
	vmx_set(vmx, VMX_EFER, vcpu->efer & efer_known);
	vmx_switch(vmx, VMX_ENTRY_CONTROLS, VM_ENTRY_IA32E_MODE, vcpu->efer & EFER_LMA);
	load_pdptes(vcpu);
}

/*
 * Debug registers: the guest's first MOV DR exits. It is then lent the real
 * ones until the next exit, when vmx_enter() reads them back. Otherwise DR0-3
 * are put into the CPU only while the guest's DR7 enables one.
 */
void vmx_lend_debug_registers(struct pvhv_vcpu *vcpu, bool lend)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx_switch(vmx, VMX_PROC_CONTROLS, CPU_BASED_MOV_DR_EXITING, !lend);
	vmx->dr_lent = lend;
}

/*
 * The task priority: the guest's first MOV CR8 exits. From then on it has one
 * that the CPU keeps (SDM 30.3), and an exit only where that falls below the
 * class of an interrupt that it holds back. Few guests use CR8 at all.
 */
void vmx_lend_tpr(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx_switch(vmx, VMX_PROC_CONTROLS, CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING,
		   false);
	vmx_switch(vmx, VMX_PROC_CONTROLS, CPU_BASED_TPR_SHADOW, true);
	vmx->tpr_lent = true;
	vmx->tpr_threshold = pvhv_lapic_tpr_blocks(vcpu);
}

static u32 *hw_tpr(struct vmx_vcpu *vmx)
{
	return page_address(vmx->apic_page) + APIC_TASKPRI;
}

void vmx_load_tpr(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u8 class = pvhv_lapic_get_tpr(vcpu);

	/* Where it is the LAPIC's own page it is there. */
	if (!vmx_has_virtual_apic())
		*hw_tpr(vmx) = class << 4;
	vmx->tpr_before = *hw_tpr(vmx);
	/* An entry wants it not to be below already (SDM 27.2.1.1). */
	vmx_set(vmx, VMX_TPR_THRESHOLD, min(vmx->tpr_threshold, class));
}

void vmx_save_tpr(struct pvhv_vcpu *vcpu)
{
	u8 tpr = *hw_tpr(to_vmx(vcpu));

	if (!vmx_has_virtual_apic())
		pvhv_lapic_set_tpr(vcpu, tpr >> 4);
	else if (tpr < to_vmx(vcpu)->tpr_before)
		vcpu->event_check = true;
}

static void sync_debug_registers(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx_set(vmx, VMX_DR7, vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP ? vcpu->debug_dr7 :
									  vcpu->dr7);
	vmx_switch(vmx, VMX_EXCEPTIONS, BIT(X86_TRAP_BP),
		   vcpu->guest_debug & KVM_GUESTDBG_USE_SW_BP);
}

static void sync_features(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u32 proc2 = vmx_caps.proc2;

	vmx_switch(vmx, VMX_PROC2_CONTROLS, proc2 & SECONDARY_EXEC_ENABLE_RDTSCP,
		   vcpu->guest_has_rdtscp);
	vmx_switch(vmx, VMX_PROC2_CONTROLS, proc2 & SECONDARY_EXEC_ENABLE_INVPCID,
		   pvhv_guest_has(vcpu, X86_FEATURE_INVPCID));
	vmx_switch(vmx, VMX_PROC2_CONTROLS, proc2 & PVHV_SECONDARY_EXEC_XSAVES,
		   pvhv_guest_has(vcpu, X86_FEATURE_XSAVES));
}

static void sync_tsc(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx_set(vmx, VMX_TSC_OFFSET, vcpu->tsc_offset);
	if (!(vmx_caps.proc2 & SECONDARY_EXEC_TSC_SCALING))
		return;
	vmx_set(vmx, VMX_TSC_MULTIPLIER, vcpu->tsc_ratio);
	vmx_switch(vmx, VMX_PROC2_CONTROLS, SECONDARY_EXEC_TSC_SCALING, vcpu->tsc_ratio);
}

void vmx_sync(struct pvhv_vcpu *vcpu, u32 what)
{
	if (what & (PVHV_SYNC_CR0 | PVHV_SYNC_CR3 | PVHV_SYNC_CR4 | PVHV_SYNC_EFER))
		sync_control_registers(vcpu);
	if (what & PVHV_SYNC_DR)
		sync_debug_registers(vcpu);
	if (what & PVHV_SYNC_TSC)
		sync_tsc(vcpu);
	if (what & PVHV_SYNC_MSRS)
		vmx_filter_msrs(vcpu);
	if (what & PVHV_SYNC_CPUID)
		sync_features(vcpu);
	if ((what & PVHV_SYNC_TPR) && unlikely(to_vmx(vcpu)->tpr_lent))
		to_vmx(vcpu)->tpr_threshold = pvhv_lapic_tpr_blocks(vcpu);
	/* PAT: second-level entries overrule it. */
}
