// SPDX-License-Identifier: GPL-2.0
/*
 * permissions.c - which MSRs a guest reaches without an exit: those that the
 * VMCS holds, and KERNEL_GS_BASE, which is the guest's while its vCPU is
 * loaded. All others exit; all do where the VMM's filter is about one of
 * these. So the module needs two maps. Ports need none: all exit.
 */
#include <linux/bitmap.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <asm/msr-index.h>

#include "vmx.h"

static struct page *msr_bitmap, *all_msrs_exit;

/* SDM 25.6.9: reads of low MSRs, of high ones, then writes; 8192 bits each. */
#define RANGE_MSRS	8192
#define WRITES		2

static const u32 ranges[] = { 0, 0xc0000000 };

static const u32 direct_msrs[] = {
	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
};

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

int vmx_permissions_init(void)
{
	unsigned int i;

	msr_bitmap = alloc_page(GFP_KERNEL);
	if (!msr_bitmap)
		return -ENOMEM;
	all_msrs_exit = alloc_page(GFP_KERNEL);
	if (!all_msrs_exit) {
		__free_page(msr_bitmap);
		return -ENOMEM;
	}
	memset(page_address(msr_bitmap), 0xff, PAGE_SIZE);
	memset(page_address(all_msrs_exit), 0xff, PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(direct_msrs); i++)
		allow_msr(page_address(msr_bitmap), direct_msrs[i]);
	return 0;
}

void vmx_permissions_exit(void)
{
	__free_page(all_msrs_exit);
	__free_page(msr_bitmap);
}

void vmx_choose_msr_bitmap(struct pvhv_vcpu *vcpu)
{
	bool filtered = pvhv_msrs_filtered(vcpu->vm, direct_msrs, ARRAY_SIZE(direct_msrs));

	vmx_set(to_vmx(vcpu), VMX_MSR_BITMAP,
		filtered ? page_to_phys(all_msrs_exit) : vmx_msr_bitmap_pa());
}

u64 vmx_msr_bitmap_pa(void)
{
	return page_to_phys(msr_bitmap);
}
