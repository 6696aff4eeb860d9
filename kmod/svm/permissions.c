// SPDX-License-Identifier: GPL-2.0
/*
 * permissions.c - which MSRs and ports a guest reaches without an exit.
 *
 * Every port exits. MSRs that VMLOAD/VMSAVE switch (APM 15.5.2) belong to
 * the guest while it runs; all others exit. Where the VMM's filter is about
 * the former, all exit. So the module needs two maps of MSRs and one of ports.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <asm/msr-index.h>

#include "svm.h"

#define SVM_MSRPM_ORDER	1	/* two pages, APM 15.11 */
#define SVM_IOPM_ORDER	2	/* three pages, APM 15.10.1 */

static struct page *msrpm_pages, *all_msrs_exit_pages, *iopm_pages;

/* APM 15.11: three ranges of 8192 MSRs, two bits each, 2 KiB a range. */
static const u32 msrpm_ranges[] = { 0x0, 0xc0000000, 0xc0010000 };

static const u32 direct_msrs[] = {
	MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK,
	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
};

static void allow_msr(u8 *map, u32 msr)
{
	unsigned int i, bit;

	for (i = 0; i < ARRAY_SIZE(msrpm_ranges); i++) {
		if (msr - msrpm_ranges[i] >= 8192)
			continue;
		bit = (msr - msrpm_ranges[i]) * 2;
		map[i * 2048 + bit / 8] &= ~(3 << (bit % 8));
		return;
	}
}

int svm_permissions_init(void)
{
	unsigned int i;

	msrpm_pages = alloc_pages(GFP_KERNEL, SVM_MSRPM_ORDER);
	if (!msrpm_pages)
		return -ENOMEM;
	all_msrs_exit_pages = alloc_pages(GFP_KERNEL, SVM_MSRPM_ORDER);
	if (!all_msrs_exit_pages)
		goto err_msrpm;
	iopm_pages = alloc_pages(GFP_KERNEL, SVM_IOPM_ORDER);
	if (!iopm_pages)
		goto err_all;
	memset(page_address(msrpm_pages), 0xff, PAGE_SIZE << SVM_MSRPM_ORDER);
	memset(page_address(all_msrs_exit_pages), 0xff, PAGE_SIZE << SVM_MSRPM_ORDER);
	memset(page_address(iopm_pages), 0xff, PAGE_SIZE << SVM_IOPM_ORDER);
	for (i = 0; i < ARRAY_SIZE(direct_msrs); i++)
		allow_msr(page_address(msrpm_pages), direct_msrs[i]);
	return 0;

err_all:
	__free_pages(all_msrs_exit_pages, SVM_MSRPM_ORDER);
err_msrpm:
	__free_pages(msrpm_pages, SVM_MSRPM_ORDER);
	return -ENOMEM;
}

void svm_permissions_exit(void)
{
	__free_pages(iopm_pages, SVM_IOPM_ORDER);
	__free_pages(all_msrs_exit_pages, SVM_MSRPM_ORDER);
	__free_pages(msrpm_pages, SVM_MSRPM_ORDER);
}

void svm_choose_msrpm(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	svm->vmcb->control.msrpm_base_pa =
		pvhv_msrs_filtered(vcpu->vm, direct_msrs, ARRAY_SIZE(direct_msrs)) ?
		page_to_phys(all_msrs_exit_pages) : svm_msrpm_pa();
	svm_dirty(svm, SVM_CLEAN_PERM_MAP);
}

u64 svm_msrpm_pa(void)
{
	return page_to_phys(msrpm_pages);
}

u64 svm_iopm_pa(void)
{
	return page_to_phys(iopm_pages);
}
