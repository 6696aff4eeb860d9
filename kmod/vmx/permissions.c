// SPDX-License-Identifier: GPL-2.0
/*
 * permissions.c - which MSRs a guest reaches without an exit: those that the
 * VMCS holds, KERNEL_GS_BASE, which is the guest's while its vCPU is loaded,
 * and, with a virtual APIC, x2APIC registers that need no software (SDM 30.5).
 * All others exit; of the first two kinds all do where the VMM's filter is
 * about one of these. So the module needs four maps. Ports need none: all exit.
 */
#include <linux/bitmap.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <asm/apicdef.h>
#include <asm/msr-index.h>

#include "vmx.h"

/* SDM 25.6.9: reads of low MSRs, of high ones, then writes; 8192 bits each. */
#define RANGE_MSRS	8192
#define WRITES		2

enum { FILTERED = BIT(0), X2APIC = BIT(1), NR_MAPS = 4 };

static struct page *msr_bitmaps[NR_MAPS];

static const u32 ranges[] = { 0, 0xc0000000 };

static const u32 direct_msrs[] = {
	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
};

/* Not ID and LDR, which are not in the page as x2APIC has them, nor ICR, whose halves are not together. */
static const u16 x2apic_reads[] = {
	APIC_LVR, APIC_TASKPRI, APIC_PROCPRI, APIC_SPIV, APIC_ESR, APIC_LVTT, APIC_LVTTHMR,
	APIC_LVTPC, APIC_LVT0, APIC_LVT1, APIC_LVTERR, APIC_TMICT, APIC_TDCR,
};

static const u16 x2apic_vectors[] = { APIC_ISR, APIC_TMR, APIC_IRR };
static const u16 x2apic_writes[] = { APIC_TASKPRI, APIC_EOI, APIC_SELF_IPI };

static u32 x2apic_msr(u32 offset)
{
	return APIC_BASE_MSR + (offset >> 4);
}

static void allow_x2apic(unsigned long *map)
{
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(x2apic_reads); i++)
		__clear_bit(x2apic_msr(x2apic_reads[i]), map);
	for (i = 0; i < ARRAY_SIZE(x2apic_vectors); i++)
		for (j = 0; j < 8; j++)
			__clear_bit(x2apic_msr(x2apic_vectors[i]) + j, map);
	for (i = 0; i < ARRAY_SIZE(x2apic_writes); i++)
		__clear_bit(WRITES * RANGE_MSRS + x2apic_msr(x2apic_writes[i]), map);
}

static void allow_msr(unsigned long *map, u32 msr)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		if (msr - ranges[i] >= RANGE_MSRS)
			continue;
		clear_bit(i * RANGE_MSRS + msr - ranges[i], map);
		clear_bit((WRITES + i) * RANGE_MSRS + msr - ranges[i], map);
	}
}

void vmx_permissions_exit(void)
{
	unsigned int i;

	for (i = 0; i < NR_MAPS; i++)
		if (msr_bitmaps[i])
			__free_page(msr_bitmaps[i]);
}

int vmx_permissions_init(void)
{
	unsigned long *map;
	unsigned int i, j;

	for (i = 0; i < NR_MAPS; i++) {
		msr_bitmaps[i] = alloc_page(GFP_KERNEL);
		if (!msr_bitmaps[i]) {
			vmx_permissions_exit();
			return -ENOMEM;
		}
		map = page_address(msr_bitmaps[i]);
		memset(map, 0xff, PAGE_SIZE);
		if (i & X2APIC)
			allow_x2apic(map);
		for (j = 0; j < ARRAY_SIZE(direct_msrs) && !(i & FILTERED); j++)
			allow_msr(map, direct_msrs[j]);
	}
	return 0;
}

void vmx_use_msr_bitmap(struct vmx_vcpu *vmx)
{
	unsigned int map = (vmx->msrs_filtered ? FILTERED : 0) | (vmx->x2apic_direct ? X2APIC : 0);

	vmx_set(vmx, VMX_MSR_BITMAP, page_to_phys(msr_bitmaps[map]));
}

void vmx_filter_msrs(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx->msrs_filtered = pvhv_msrs_filtered(vcpu->vm, direct_msrs, ARRAY_SIZE(direct_msrs));
	vmx_use_msr_bitmap(vmx);
}
