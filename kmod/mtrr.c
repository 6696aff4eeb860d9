// SPDX-License-Identifier: GPL-2.0
/*
 * mtrr.c - the memory type range registers and the check of memory types:
 *  1. MTRRcap, the default type, 11 fixed and 8 variable ranges,
 *  2. memory type bytes, as the fixed ranges and the PAT have them.
 *
 * They are storage: the second-level tables map all guest memory write-back,
 * and firmware and kernels only want to read back what they wrote.
 */
#include <asm/msr-index.h>
#include <asm/mtrr.h>

#include "pvhv.h"

#define NR_VARIABLE	8
#define MTRRCAP_FIXED	BIT(8)
#define MTRRCAP_WC	BIT(10)

#define DEFTYPE_FIXED_ENABLE	BIT(10)
#define DEFTYPE_ENABLE		BIT(11)

/* Types 0 UC, 1 WC, 4 WT, 5 WP, 6 WB; bit n of the mask stands for type n. */
#define MTRR_TYPES	(BIT(0) | BIT(1) | BIT(4) | BIT(5) | BIT(6))

bool pvhv_memtypes_valid(u64 value, u64 allowed)
{
	int i;

	for (i = 0; i < 8; i++, value >>= 8)
		if ((value & 0xff) > 7 || !(allowed & BIT(value & 7)))
			return false;
	return true;
}

static int fixed_number(u32 index)
{
	switch (index) {
	case MSR_MTRRfix64K_00000:
		return 0;
	case MSR_MTRRfix16K_80000:
		return 1;
	case MSR_MTRRfix16K_A0000:
		return 2;
	case MSR_MTRRfix4K_C0000 ... MSR_MTRRfix4K_F8000:
		return 3 + index - MSR_MTRRfix4K_C0000;
	default:
		return -1;
	}
}

static u64 *reg_of(struct pvhv_vcpu *vcpu, u32 index)
{
	int n = fixed_number(index);

	if (n >= 0)
		return &vcpu->mtrr_fixed[n];
	if (index == MSR_MTRRdefType)
		return &vcpu->mtrr_def_type;
	if (index >= MTRRphysBase_MSR(0) && index <= MTRRphysMask_MSR(NR_VARIABLE - 1))
		return &vcpu->mtrr_var[index - MTRRphysBase_MSR(0)];
	return NULL;
}

int pvhv_mtrr_get(struct pvhv_vcpu *vcpu, u32 index, u64 *value)
{
	u64 *reg;

	if (index == MSR_MTRRcap) {
		*value = NR_VARIABLE | MTRRCAP_FIXED | MTRRCAP_WC;
		return 0;
	}
	reg = reg_of(vcpu, index);
	if (!reg)
		return -ENOENT;
	*value = *reg;
	return 0;
}

static bool valid(struct pvhv_vcpu *vcpu, u32 index, u64 value)
{
	u64 address = GENMASK_ULL(vcpu->maxphyaddr - 1, PAGE_SHIFT);
	bool mask = index & 1;

	if (fixed_number(index) >= 0)
		return pvhv_memtypes_valid(value, MTRR_TYPES);
	if (index == MSR_MTRRdefType) {
		if (value & ~(u64)(0xff | DEFTYPE_FIXED_ENABLE | DEFTYPE_ENABLE))
			return false;
		return pvhv_memtypes_valid(value & 0xff, MTRR_TYPES);
	}
	if (mask)
		return !(value & ~(address | BIT(11)));
	return !(value & ~(address | 0xff)) &&
	       pvhv_memtypes_valid(value & 0xff, MTRR_TYPES);
}

int pvhv_mtrr_set(struct pvhv_vcpu *vcpu, u32 index, u64 value)
{
	u64 *reg;

	if (index == MSR_MTRRcap)
		return 1;
	reg = reg_of(vcpu, index);
	if (!reg)
		return -ENOENT;
	if (!valid(vcpu, index, value))
		return 1;
	*reg = value;
	return 0;
}
