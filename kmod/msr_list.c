// SPDX-License-Identifier: GPL-2.0
/*
 * msr_list.c - the ioctls about MSRs:
 *  1. the MSRs that describe the host,
 *  2. KVM_GET_MSRS, KVM_SET_MSRS,
 *  3. the lists of MSRs to save, and of those that describe the host.
 */
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>

#include "pvhv.h"

/* ------------------------------------------- what describes the host -- */

static u64 host_arch_capabilities(void)
{
	u64 value = 0;

	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES) &&
	    rdmsrl_safe(MSR_IA32_ARCH_CAPABILITIES, &value))
		value = 0;
	value &= ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_RSBA |
		 ARCH_CAP_SKIP_VMENTRY_L1DFLUSH | ARCH_CAP_SSB_NO |
		 ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO |
		 ARCH_CAP_SBDR_SSDP_NO | ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO |
		 ARCH_CAP_FB_CLEAR | ARCH_CAP_RRSBA | ARCH_CAP_BHI_NO |
		 ARCH_CAP_PBRSB_NO | ARCH_CAP_GDS_NO | ARCH_CAP_RFDS_NO |
		 ARCH_CAP_RFDS_CLEAR | ARCH_CAP_ITS_NO;

	/* CPUs without the MSR, or older than the bit, that are not affected. */
	if (!boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT))
		value |= ARCH_CAP_PSCHANGE_MC_NO;
	if (!boot_cpu_has_bug(X86_BUG_L1TF))
		value |= ARCH_CAP_SKIP_VMENTRY_L1DFLUSH;
	if (!boot_cpu_has_bug(X86_BUG_CPU_MELTDOWN))
		value |= ARCH_CAP_RDCL_NO;
	if (!boot_cpu_has_bug(X86_BUG_SPEC_STORE_BYPASS))
		value |= ARCH_CAP_SSB_NO;
	if (!boot_cpu_has_bug(X86_BUG_MDS))
		value |= ARCH_CAP_MDS_NO;
	if (!boot_cpu_has_bug(X86_BUG_GDS))
		value |= ARCH_CAP_GDS_NO;
	if (!boot_cpu_has_bug(X86_BUG_RFDS))
		value |= ARCH_CAP_RFDS_NO;
	if (!boot_cpu_has_bug(X86_BUG_ITS))
		value |= ARCH_CAP_ITS_NO;
	/* TSX_CTRL is not virtualized, so TAA_NO stands for itself only. */
	return value;
}

static u64 host_de_cfg(void)
{
	return boot_cpu_has(X86_FEATURE_LFENCE_RDTSC) ?
	       MSR_AMD64_DE_CFG_LFENCE_SERIALIZE : 0;
}

static const u32 feature_msrs[] = {
	MSR_AMD64_DE_CFG, MSR_IA32_UCODE_REV, MSR_IA32_ARCH_CAPABILITIES,
};

u64 pvhv_host_msr(u32 index)
{
	return index == MSR_AMD64_DE_CFG ? host_de_cfg() : host_arch_capabilities();
}

static int get_feature_msr(void *unused, u32 index, u64 *value)
{
	switch (index) {
	case MSR_AMD64_DE_CFG:
		*value = host_de_cfg();
		return 0;
	case MSR_IA32_UCODE_REV:
		return rdmsrl_safe(MSR_IA32_UCODE_REV, value) ? 1 : 0;
	case MSR_IA32_ARCH_CAPABILITIES:
		*value = host_arch_capabilities();
		return 0;
	default:
		return 1;
	}
}

/* ------------------------------------------------ KVM_GET/SET_MSRS -- */

typedef int (*msr_fn)(void *ctx, u32 index, u64 *value);

/* Returns how many were done: the first refused one ends it. */
static long for_each_msr(unsigned long arg, void *ctx, msr_fn fn, bool writeback)
{
	struct kvm_msrs __user *user = (void __user *)arg;
	struct kvm_msr_entry *entries;
	struct kvm_msrs head;
	size_t size;
	u32 i;

	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (head.nmsrs >= PVHV_MAX_MSR_ENTRIES)
		return -E2BIG;
	size = head.nmsrs * sizeof(*entries);
	entries = memdup_user(user->entries, size);
	if (IS_ERR(entries))
		return PTR_ERR(entries);

	for (i = 0; i < head.nmsrs; i++)
		if (fn(ctx, entries[i].index, &entries[i].data))
			break;

	if (writeback && copy_to_user(user->entries, entries, size)) {
		kfree(entries);
		return -EFAULT;
	}
	kfree(entries);
	return i;
}

static int get_one(void *vcpu, u32 index, u64 *value)
{
	return pvhv_get_msr(vcpu, index, value, true);
}

static int set_one(void *vcpu, u32 index, u64 *value)
{
	return pvhv_set_msr(vcpu, index, *value, true);
}

long pvhv_ioctl_get_msrs(void *vcpu, void *data, unsigned long arg)
{
	return for_each_msr(arg, vcpu, get_one, true);
}

long pvhv_ioctl_set_msrs(void *vcpu, void *data, unsigned long arg)
{
	return for_each_msr(arg, vcpu, set_one, false);
}

long pvhv_ioctl_get_feature_msrs(void *obj, void *data, unsigned long arg)
{
	return for_each_msr(arg, NULL, get_feature_msr, true);
}

/* ---------------------------------------------------------------- lists -- */

/*
 * What a VMM must carry to a new host. Not listed, as with KVM: what
 * KVM_GET_SREGS holds (EFER, FS and GS base, APIC base), MTRRs and machine
 * check banks (their number is in MTRRcap and MCG_CAP).
 */
static const u32 saved_msrs[] = {
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
	MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK, MSR_KERNEL_GS_BASE,
	MSR_IA32_TSC, MSR_IA32_TSC_ADJUST, MSR_IA32_TSC_DEADLINE, MSR_TSC_AUX,
	MSR_IA32_CR_PAT, MSR_IA32_MISC_ENABLE, MSR_IA32_XSS,
	MSR_IA32_SPEC_CTRL, MSR_AMD64_VIRT_SPEC_CTRL, MSR_IA32_ARCH_CAPABILITIES,
	MSR_IA32_MCG_STATUS, MSR_IA32_MCG_CTL,
	MSR_PLATFORM_INFO, MSR_MISC_FEATURES_ENABLES, MSR_IA32_UCODE_REV,
	MSR_K7_HWCR,
	MSR_KVM_SYSTEM_TIME, MSR_KVM_WALL_CLOCK,
	MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_WALL_CLOCK_NEW,
	MSR_KVM_STEAL_TIME, MSR_KVM_PV_EOI_EN, MSR_KVM_POLL_CONTROL,
};

static bool msr_offered(u32 index)
{
	switch (index) {
	case MSR_TSC_AUX:
		return pvhv_cpuid_offers(X86_FEATURE_RDTSCP) ||
		       pvhv_cpuid_offers(X86_FEATURE_RDPID);
	case MSR_IA32_XSS:
		return pvhv_cpuid_offers(X86_FEATURE_XSAVES);
	case MSR_IA32_SPEC_CTRL:
		return pvhv_cpuid_offers(X86_FEATURE_SPEC_CTRL) ||
		       pvhv_cpuid_offers(X86_FEATURE_AMD_IBRS) ||
		       pvhv_cpuid_offers(X86_FEATURE_AMD_STIBP) ||
		       pvhv_cpuid_offers(X86_FEATURE_AMD_SSBD);
	case MSR_AMD64_VIRT_SPEC_CTRL:
		return pvhv_cpuid_offers(X86_FEATURE_VIRT_SSBD);
	case MSR_AMD64_DE_CFG:
		return host_de_cfg();
	default:
		return true;
	}
}

static long copy_list(unsigned long arg, const u32 *msrs, unsigned int nr)
{
	struct kvm_msr_list __user *user = (void __user *)arg;
	unsigned int i, n = 0;
	u32 room;

	if (get_user(room, &user->nmsrs))
		return -EFAULT;
	for (i = 0; i < nr; i++)
		n += msr_offered(msrs[i]);
	if (put_user(n, &user->nmsrs))
		return -EFAULT;
	if (room < n)
		return -E2BIG;
	for (i = 0, n = 0; i < nr; i++)
		if (msr_offered(msrs[i]) && put_user(msrs[i], &user->indices[n++]))
			return -EFAULT;
	return 0;
}

long pvhv_ioctl_get_msr_index_list(void *obj, void *data, unsigned long arg)
{
	return copy_list(arg, saved_msrs, ARRAY_SIZE(saved_msrs));
}

long pvhv_ioctl_get_msr_feature_index_list(void *obj, void *data, unsigned long arg)
{
	return copy_list(arg, feature_msrs, ARRAY_SIZE(feature_msrs));
}
