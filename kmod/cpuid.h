/* SPDX-License-Identifier: GPL-2.0 */
/*
 * cpuid.h - between cpuid_host.c (what this host can offer) and cpuid.c (what
 * a guest was given): the rows of feature flags.
 */
#ifndef PVHV_CPUID_H
#define PVHV_CPUID_H

#include <linux/kvm.h>
#include <linux/types.h>

/* One 32-bit register of feature flags. */
enum pvhv_cpuid_row {
	R_1_ECX, R_1_EDX, R_7_EBX, R_7_ECX, R_7_EDX, R_7_1_EAX, R_7_1_EDX,
	R_D_1_EAX, R_EXT1_ECX, R_EXT1_EDX, R_EXT8_EBX, R_EXT21_EAX, R_EXT21_ECX,
	PVHV_CPUID_ROWS
};

enum { EAX, EBX, ECX, EDX };

struct pvhv_cpuid_row_desc {
	u32 fn;
	u8 index, reg;
	u8 word;	/* of the kernel's capability words, PVHV_NO_WORD: none */
	u32 offered;	/* what pvhv virtualizes, if the host has it */
};

#define PVHV_NO_WORD	0xff

#define F(name)	BIT(X86_FEATURE_##name & 31)

/* Leaf 0x80000021: kernels differ in the names and places of these. */
#define EXT21_NO_NESTED_DATA_BP	BIT(0)
#define EXT21_LFENCE_SERIALIZES	BIT(2)
#define EXT21_VERW_CLEAR	BIT(5)
#define EXT21_NULL_SEL_CLR_BASE	BIT(6)
#define EXT21_AUTOIBRS		BIT(8)
#define EXT21_NO_SMM_CTL_MSR	BIT(9)
#define EXT21_SBPB		BIT(27)
#define EXT21_IBPB_BRTYPE	BIT(28)
#define EXT21_SRSO_NO		BIT(29)
#define EXT21_SRSO_USER_NO	BIT(30)
#define EXT21_TSA_SQ_NO		BIT(1)	/* ecx */
#define EXT21_TSA_L1_NO		BIT(2)

/* cpuid_host.c: both read-only after pvhv_cpuid_init() */
extern const struct pvhv_cpuid_row_desc pvhv_cpuid_rows[PVHV_CPUID_ROWS];
extern u32 pvhv_cpuid_caps[PVHV_CPUID_ROWS];	/* offered, and the host has it */

int pvhv_cpuid_row(unsigned int feature);	/* of an X86_FEATURE_*, or -1 */
u32 pvhv_cpuid_reg(const struct kvm_cpuid_entry2 *e, u8 reg);
/* Bytes of an XSAVE area with these features. */
u32 pvhv_xstate_size(u64 features, bool compacted);

#endif /* PVHV_CPUID_H */
