// SPDX-License-Identifier: GPL-2.0
/*
 * cr.c - loads of control registers as the guest makes them, with the checks
 * of the manuals (APM vol. 2, 3.1; SDM vol. 3, 2.5). Each returns 0, or 1
 * where the CPU would raise #GP(0) and nothing has changed.
 */
#include "pvhv.h"

#include <asm/fpu/xcr.h>

#define CR0_KNOWN (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | \
		   X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)

#define DR6_ACCESS_DETECTED BIT_ULL(13)	/* SDM vol. 3, 17.2.3 */

u64 pvhv_fix_dr6(u64 value)
{
	const u64 fixed_one = 0xffff0ff0;	/* bits 4-11 and 16-31 */
	const u64 writable = DR_TRAP_BITS | DR6_ACCESS_DETECTED | DR_STEP | BIT_ULL(15);

	return (value & writable) | fixed_one;
}

u64 pvhv_fix_dr7(u64 value)
{
	const u64 fixed_one = BIT_ULL(10);
	const u64 writable = 0xffff23ff;

	return (value & writable) | fixed_one;
}

int pvhv_set_cr0(struct pvhv_vcpu *vcpu, u64 value)
{
	u64 old = vcpu->cr0;
	bool enters_paging = (value & X86_CR0_PG) && !(old & X86_CR0_PG);
	bool leaves_paging = !(value & X86_CR0_PG) && (old & X86_CR0_PG);

	if (value >> 32)
		return 1;
	value &= CR0_KNOWN;
	value |= X86_CR0_ET;
	if ((value & X86_CR0_NW) && !(value & X86_CR0_CD))
		return 1;
	if ((value & X86_CR0_PG) && !(value & X86_CR0_PE))
		return 1;
	if (enters_paging && (vcpu->efer & EFER_LME)) {
		struct pvhv_code code;
		struct kvm_segment cs;

		vcpu->be->get_code(vcpu, &code);
		vcpu->be->get_segment(vcpu, &cs, PVHV_CS);
		if (!(vcpu->cr4 & X86_CR4_PAE) || cs.l)
			return 1;
	}
	if (leaves_paging && (vcpu->cr4 & X86_CR4_PCIDE))
		return 1;

	if (enters_paging && (vcpu->efer & EFER_LME))
		vcpu->efer |= EFER_LMA;
	if (leaves_paging)
		vcpu->efer &= ~(u64)EFER_LMA;
	vcpu->cr0 = value;
	vcpu->be->sync(vcpu, PVHV_SYNC_CR0 | PVHV_SYNC_EFER);
	if ((old ^ value) & (X86_CR0_PG | X86_CR0_WP | X86_CR0_PE))
		vcpu->be->flush_tlb(vcpu);
	return 0;
}

int pvhv_set_cr3(struct pvhv_vcpu *vcpu, u64 value)
{
	if (pvhv_is_long_mode(vcpu)) {
		if (vcpu->cr4 & X86_CR4_PCIDE)
			value &= ~X86_CR3_PCID_NOFLUSH;
		if (vcpu->maxphyaddr < 64 && value >> vcpu->maxphyaddr)
			return 1;
	}
	vcpu->cr3 = value;
	vcpu->be->sync(vcpu, PVHV_SYNC_CR3);
	vcpu->be->flush_tlb(vcpu);
	return 0;
}

int pvhv_set_cr4(struct pvhv_vcpu *vcpu, u64 value)
{
	const u64 flushing = X86_CR4_PGE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_SMEP |
			     X86_CR4_SMAP | X86_CR4_PKE | X86_CR4_PCIDE | X86_CR4_LA57;
	u64 old = vcpu->cr4;

	if (value & vcpu->cr4_reserved)
		return 1;
	if (pvhv_is_long_mode(vcpu)) {
		if (!(value & X86_CR4_PAE) || ((value ^ old) & X86_CR4_LA57))
			return 1;
	}
	if ((value & X86_CR4_PCIDE) && !(old & X86_CR4_PCIDE) &&
	    (!pvhv_is_long_mode(vcpu) || (vcpu->cr3 & X86_CR3_PCID_MASK)))
		return 1;

	vcpu->cr4 = value;
	vcpu->be->sync(vcpu, PVHV_SYNC_CR4);
	if ((old ^ value) & flushing)
		vcpu->be->flush_tlb(vcpu);
	if ((old ^ value) & (X86_CR4_OSXSAVE | X86_CR4_PKE))
		pvhv_cpuid_cr4_changed(vcpu);
	return 0;
}

int pvhv_set_cr8(struct pvhv_vcpu *vcpu, u64 value)
{
	if (value & ~0xfULL)
		return 1;
	if (vcpu->lapic)
		pvhv_lapic_set_tpr(vcpu, value);
	else
		vcpu->cr8 = value;
	vcpu->event_check = true;
	return 0;
}

int pvhv_set_efer(struct pvhv_vcpu *vcpu, u64 value, bool host)
{
	u64 old = vcpu->efer;

	if (!host) {
		if (value & ~(vcpu->efer_allowed | EFER_LMA))
			return 1;
		if ((vcpu->cr0 & X86_CR0_PG) && ((old ^ value) & EFER_LME))
			return 1;
		/* LMA follows LME and CR0.PG; a write to it is ignored. */
		value = (value & ~(u64)EFER_LMA) | (old & EFER_LMA);
	}
	vcpu->efer = value;
	vcpu->be->sync(vcpu, PVHV_SYNC_EFER);
	if ((old ^ value) & EFER_NX)
		vcpu->be->flush_tlb(vcpu);
	return 0;
}

int pvhv_set_xcr(struct pvhv_vcpu *vcpu, u32 index, u64 value)
{
	const u64 avx512 = XFEATURE_MASK_AVX512;

	if (index != XCR_XFEATURE_ENABLED_MASK)
		return 1;
	if (!(value & XFEATURE_MASK_FP) || (value & ~(vcpu->guest_xcr0 | XFEATURE_MASK_FP)))
		return 1;
	if ((value & XFEATURE_MASK_YMM) && !(value & XFEATURE_MASK_SSE))
		return 1;
	if (value & avx512) {
		if ((value & avx512) != avx512 || !(value & XFEATURE_MASK_YMM))
			return 1;
	}
	vcpu->xcr0 = value;
	pvhv_cpuid_cr4_changed(vcpu);
	return 0;
}
