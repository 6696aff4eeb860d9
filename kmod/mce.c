// SPDX-License-Identifier: GPL-2.0
/*
 * mce.c - the guest's machine-check architecture:
 *  1. the MSRs: MCG_CAP, MCG_STATUS, MCG_CTL and the banks,
 *  2. KVM_X86_GET_MCE_CAP_SUPPORTED and KVM_X86_SETUP_MCE,
 *  3. KVM_X86_SET_MCE: a VMM reports a machine check to its guest.
 */
#include <linux/slab.h>
#include <asm/mce.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "pvhv.h"

#define MCE_CAP_SUPPORTED	(MCG_CTL_P | MCG_SER_P)
#define BANK_REGS		4	/* CTL, STATUS, ADDR, MISC */
#define HWCR_MCI_STATUS_WRITE	BIT(18)

enum { BANK_CTL, BANK_STATUS, BANK_ADDR, BANK_MISC };

static unsigned int nr_banks(const struct pvhv_vcpu *vcpu)
{
	return vcpu->mcg_cap & MCG_BANKCNT_MASK;
}

static bool is_bank_reg(const struct pvhv_vcpu *vcpu, u32 index)
{
	return index >= MSR_IA32_MC0_CTL &&
	       index < MSR_IA32_MCx_CTL(nr_banks(vcpu));
}

int pvhv_mce_get_msr(struct pvhv_vcpu *vcpu, u32 index, u64 *value, bool host)
{
	switch (index) {
	case MSR_IA32_P5_MC_ADDR:
	case MSR_IA32_P5_MC_TYPE:
		*value = 0;
		return 0;
	case MSR_IA32_MCG_CAP:
		*value = vcpu->mcg_cap;
		return 0;
	case MSR_IA32_MCG_CTL:
		if (!(vcpu->mcg_cap & MCG_CTL_P) && !host)
			return 1;
		*value = vcpu->mcg_ctl;
		return 0;
	case MSR_IA32_MCG_STATUS:
		*value = vcpu->mcg_status;
		return 0;
	}
	if (is_bank_reg(vcpu, index)) {
		*value = vcpu->mce_banks[index - MSR_IA32_MC0_CTL];
		return 0;
	}
	return -ENOENT;
}

/* Guests write 0 or all ones to CTL; old Linux clears bit 10 of bank 4 (AMD)
 * or bit 0 of bank 0 (Intel), which KVM lets pass too. */
static bool bank_ctl_valid(u64 value)
{
	return !value || (value | BIT_ULL(10) | BIT_ULL(0)) == ~0ULL;
}

int pvhv_mce_set_msr(struct pvhv_vcpu *vcpu, u32 index, u64 value, bool host)
{
	switch (index) {
	case MSR_IA32_MCG_STATUS:
		vcpu->mcg_status = value;
		return 0;
	case MSR_IA32_MCG_CTL:
		if (!(vcpu->mcg_cap & MCG_CTL_P) && (value || !host))
			return 1;
		if (value && value != ~0ULL)
			return 1;
		vcpu->mcg_ctl = value;
		return 0;
	}
	if (!is_bank_reg(vcpu, index))
		return -ENOENT;

	switch ((index - MSR_IA32_MC0_CTL) % BANK_REGS) {
	case BANK_CTL:
		if (!bank_ctl_valid(value))
			return 1;
		break;
	case BANK_STATUS:
		if (!host && value && !(vcpu->hwcr & HWCR_MCI_STATUS_WRITE))
			return 1;
		break;
	}
	vcpu->mce_banks[index - MSR_IA32_MC0_CTL] = value;
	return 0;
}

int pvhv_mce_vcpu_init(struct pvhv_vcpu *vcpu)
{
	vcpu->mce_banks = kcalloc(PVHV_MAX_MCE_BANKS * BANK_REGS, sizeof(u64),
				  GFP_KERNEL_ACCOUNT);
	if (!vcpu->mce_banks)
		return -ENOMEM;
	vcpu->mcg_cap = PVHV_MAX_MCE_BANKS;
	return 0;
}

void pvhv_mce_vcpu_free(struct pvhv_vcpu *vcpu)
{
	kfree(vcpu->mce_banks);
	vcpu->mce_banks = NULL;
}

long pvhv_ioctl_mce_cap(void *obj, void *data, unsigned long arg)
{
	*(u64 *)data = MCE_CAP_SUPPORTED;
	return 0;
}

long pvhv_ioctl_setup_mce(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	u64 cap = *(u64 *)data;
	unsigned int i;

	if (!(cap & MCG_BANKCNT_MASK) ||
	    (cap & MCG_BANKCNT_MASK) > PVHV_MAX_MCE_BANKS)
		return -EINVAL;
	if (cap & ~(MCE_CAP_SUPPORTED | MCG_BANKCNT_MASK | MCG_EXT_CNT_MASK))
		return -EINVAL;
	vcpu->mcg_cap = cap;
	if (cap & MCG_CTL_P)
		vcpu->mcg_ctl = ~0ULL;
	for (i = 0; i < nr_banks(vcpu); i++)
		vcpu->mce_banks[i * BANK_REGS + BANK_CTL] = ~0ULL;
	return 0;
}

long pvhv_ioctl_set_mce(void *obj, void *data, unsigned long arg)
{
	const struct kvm_x86_mce *mce = data;
	struct pvhv_vcpu *vcpu = obj;
	u64 *bank;

	if (mce->bank >= nr_banks(vcpu) || !(mce->status & MCI_STATUS_VAL))
		return -EINVAL;
	bank = &vcpu->mce_banks[mce->bank * BANK_REGS];

	if (!(mce->status & MCI_STATUS_UC)) {
		/* Corrected: recorded where no uncorrected one waits. */
		if ((bank[BANK_STATUS] & MCI_STATUS_VAL) &&
		    (bank[BANK_STATUS] & MCI_STATUS_UC)) {
			bank[BANK_STATUS] |= MCI_STATUS_OVER;
			return 0;
		}
	} else {
		/* Reporting switched off, as a whole or in this bank. */
		if ((vcpu->mcg_cap & MCG_CTL_P) && vcpu->mcg_ctl != ~0ULL)
			return 0;
		if (bank[BANK_CTL] != ~0ULL)
			return 0;
		/* A second one before the handler ended, or no handler. */
		if ((vcpu->mcg_status & MCG_STATUS_MCIP) ||
		    !(vcpu->cr4 & X86_CR4_MCE)) {
			pvhv_make_request(vcpu, PVHV_REQ_TRIPLE_FAULT);
			return 0;
		}
	}
	bank[BANK_ADDR] = mce->addr;
	bank[BANK_MISC] = mce->misc;
	bank[BANK_STATUS] = mce->status |
			    (bank[BANK_STATUS] & MCI_STATUS_VAL ? MCI_STATUS_OVER : 0);
	if (mce->status & MCI_STATUS_UC) {
		vcpu->mcg_status = mce->mcg_status;
		pvhv_queue_exception(vcpu, 18);
	}
	return 0;
}
