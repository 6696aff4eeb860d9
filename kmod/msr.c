// SPDX-License-Identifier: GPL-2.0
/*
 * msr.c - model-specific registers:
 *  1. reading and writing one, for the guest (host false: a refusal becomes
 *     #GP) and for the VMM (host true: read-only state can be restored),
 *  2. the values after power-on, reset and INIT.
 *
 * The ioctls are in msr_list.c. Not here either: x2APIC (lapic.c), MTRRs
 * (mtrr.c), machine check (mce.c), TSC (tsc.c), the paravirtual MSRs (clock.c,
 * steal.c), and what the hardware switches with the guest (the backend).
 */
#include <asm/apicdef.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>

#include "pvhv.h"

#define PAT_DEFAULT		0x0007040600070406ULL
#define PAT_TYPES		(BIT(0) | BIT(1) | BIT(4) | BIT(5) | BIT(6) | BIT(7))

#define MISC_ENABLE_DEFAULT	(MSR_IA32_MISC_ENABLE_BTS_UNAVAIL |	\
				 MSR_IA32_MISC_ENABLE_PEBS_UNAVAIL)
#define DEBUGCTL_KNOWN		0x3fULL	/* LBR, BTF, PB0-3 */

#define HWCR_TLB_CACHE_DISABLE	BIT_ULL(3)	/* written by old errata fixes */
#define HWCR_FLUSH_FILTER_OFF	BIT_ULL(6)
#define HWCR_IGNNE_EMULATION	BIT_ULL(8)
#define HWCR_IGNORED		(HWCR_TLB_CACHE_DISABLE |		\
				 HWCR_FLUSH_FILTER_OFF | HWCR_IGNNE_EMULATION)
#define HWCR_MC_STATUS_WRITE	BIT_ULL(18)
#define HWCR_TSC_FREQ_SEL	BIT_ULL(24)
#define HWCR_KEPT		(HWCR_MC_STATUS_WRITE | HWCR_TSC_FREQ_SEL)

/* Without an MSR name in the kernel's headers. */
#define MSR_K7_CLK_CTL_VALUE	0x20000000ULL
#define MSR_AMD_IC_CFG		0xc0011021
#define MSR_AMD_TW_CFG		0xc0011023

/* What a guest reads where nothing is behind the register. */
struct fixed_msr {
	u32 index;
	bool ignore_writes;	/* false: refused, for the VMM too */
	u64 value;
};

static const struct fixed_msr fixed_msrs[] = {
	{ MSR_IA32_PLATFORM_ID,		false, 0 },
	{ MSR_IA32_EBL_CR_POWERON,	false, 0 },
	{ MSR_EBC_FREQUENCY_ID,		false, BIT(24) },
	{ MSR_FSB_FREQ,			false, 3 },	/* 166 MHz */
	{ MSR_IA32_BBL_CR_CTL3,		true,  0xbe702111 },
	{ MSR_IA32_PERF_STATUS,		false, 1000 | 4ULL << 40 },
	{ MSR_IA32_PERF_CTL,		false, 0 },
	{ MSR_IA32_LASTBRANCHFROMIP,	false, 0 },
	{ MSR_IA32_LASTBRANCHTOIP,	false, 0 },
	{ MSR_IA32_LASTINTFROMIP,	false, 0 },
	{ MSR_IA32_LASTINTTOIP,		false, 0 },
	{ MSR_RAPL_POWER_UNIT,		false, 0 },
	{ MSR_PKG_ENERGY_STATUS,	false, 0 },
	{ MSR_DRAM_ENERGY_STATUS,	false, 0 },
	{ MSR_PP0_ENERGY_STATUS,	false, 0 },
	{ MSR_PP1_ENERGY_STATUS,	false, 0 },
	/* Performance counters that count nothing. */
	{ MSR_P6_PERFCTR0,		true,  0 },
	{ MSR_P6_PERFCTR1,		true,  0 },
	{ MSR_P6_EVNTSEL0,		true,  0 },
	{ MSR_P6_EVNTSEL1,		true,  0 },
	{ MSR_K7_EVNTSEL0,		true,  0 },
	{ MSR_K7_EVNTSEL1,		true,  0 },
	{ MSR_K7_EVNTSEL2,		true,  0 },
	{ MSR_K7_EVNTSEL3,		true,  0 },
	{ MSR_K7_PERFCTR0,		true,  0 },
	{ MSR_K7_PERFCTR1,		true,  0 },
	{ MSR_K7_PERFCTR2,		true,  0 },
	{ MSR_K7_PERFCTR3,		true,  0 },
	{ MSR_AMD64_SYSCFG,		false, 0 },
	{ MSR_K7_CLK_CTL,		true,  MSR_K7_CLK_CTL_VALUE },
	{ MSR_AMD64_NB_CFG,		true,  0 },
	{ MSR_K8_INT_PENDING_MSG,	false, 0 },
	{ MSR_K8_TSEG_ADDR,		false, 0 },
	{ MSR_K8_TSEG_MASK,		false, 0 },
	{ MSR_VM_CR,			true,  0 },
	{ MSR_VM_HSAVE_PA,		true,  0 },
	{ MSR_AMD_IC_CFG,		false, 0 },
	{ MSR_AMD64_DC_CFG,		true,  0 },
	{ MSR_AMD_TW_CFG,		true,  0 },
	{ MSR_AMD64_BU_CFG2,		true,  0 },
	{ MSR_F15H_EX_CFG,		true,  0 },
};

static const struct fixed_msr *find_fixed(u32 index)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fixed_msrs); i++)
		if (fixed_msrs[i].index == index)
			return &fixed_msrs[i];
	return NULL;
}

static bool canonical(struct pvhv_vcpu *vcpu, u64 address, bool host)
{
	bool la57 = host ? pvhv_guest_has(vcpu, X86_FEATURE_LA57) :
			   vcpu->cr4 & X86_CR4_LA57;
	int unused = 64 - (la57 ? 57 : 48);

	return (u64)((s64)(address << unused) >> unused) == address;
}

/* -------------------------------------------------------------- reading -- */

static int get_backend(struct pvhv_vcpu *vcpu, u32 index, u64 *value)
{
	int r = vcpu->be->get_msr(vcpu, index, value);

	return r && r != -ENOENT ? 1 : r;
}

static int get_other(struct pvhv_vcpu *vcpu, u32 index, u64 *value, bool host)
{
	const struct fixed_msr *fixed;
	int r;

	r = get_backend(vcpu, index, value);
	if (r != -ENOENT)
		return r;
	r = pvhv_mtrr_get(vcpu, index, value);
	if (r != -ENOENT)
		return r;
	r = pvhv_mce_get_msr(vcpu, index, value, host);
	if (r != -ENOENT)
		return r;
	fixed = find_fixed(index);
	if (!fixed)
		return PVHV_MSR_UNKNOWN;
	*value = fixed->value;
	return 0;
}

int pvhv_get_msr(struct pvhv_vcpu *vcpu, u32 index, u64 *value, bool host)
{
	switch (index) {
	case MSR_IA32_TSC:
		*value = pvhv_read_tsc(vcpu);
		return 0;
	case MSR_IA32_TSC_ADJUST:
		*value = vcpu->tsc_adjust;
		return 0;
	case MSR_IA32_TSC_DEADLINE:
		*value = vcpu->lapic ? pvhv_lapic_get_tsc_deadline(vcpu) : 0;
		return 0;
	case MSR_IA32_APICBASE:
		*value = vcpu->apic_base;
		return 0;
	case 0x800 ... 0x8ff:
		return vcpu->lapic ? pvhv_x2apic_read(vcpu, index, value) : 1;
	case MSR_EFER:
		*value = vcpu->efer;
		return 0;
	case MSR_IA32_CR_PAT:
		*value = vcpu->pat;
		return 0;
	case MSR_TSC_AUX:
		if (!host && !vcpu->guest_has_rdtscp)
			return 1;
		*value = vcpu->tsc_aux;
		return 0;
	case MSR_IA32_XSS:
		if (!host && !pvhv_guest_has(vcpu, X86_FEATURE_XSAVES))
			return 1;
		*value = vcpu->xss;
		return 0;
	case MSR_IA32_SPEC_CTRL:
		if (!host && !vcpu->spec_ctrl_allowed)
			return 1;
		if (get_backend(vcpu, index, value) == -ENOENT)
			*value = vcpu->spec_ctrl;
		return 0;
	case MSR_AMD64_VIRT_SPEC_CTRL:
		if (!host && !pvhv_guest_has(vcpu, X86_FEATURE_VIRT_SSBD))
			return 1;
		*value = vcpu->virt_spec_ctrl;
		return 0;
	case MSR_IA32_ARCH_CAPABILITIES:
		if (!host && !pvhv_guest_has(vcpu, X86_FEATURE_ARCH_CAPABILITIES))
			return 1;
		*value = vcpu->arch_capabilities;
		return 0;
	case MSR_IA32_UCODE_REV:
		*value = vcpu->microcode_version;
		return 0;
	case MSR_IA32_MISC_ENABLE:
		*value = vcpu->misc_enable;
		return 0;
	case MSR_PLATFORM_INFO:
		if (!host && vcpu->vm->hide_platform_info)
			return 1;
		*value = vcpu->msr_platform_info;
		return 0;
	case MSR_MISC_FEATURES_ENABLES:
		*value = vcpu->msr_misc_features;
		return 0;
	case MSR_IA32_DEBUGCTLMSR:
		if (get_backend(vcpu, index, value) == -ENOENT)
			*value = 0;
		return 0;
	case MSR_K7_HWCR:
		*value = vcpu->hwcr;
		return 0;
	case MSR_AMD64_DE_CFG:
		*value = vcpu->de_cfg;
		return 0;
	case MSR_FAM10H_MMIO_CONF_BASE:
		*value = 0;
		return 0;
	case MSR_AMD64_OSVW_ID_LENGTH:
	case MSR_AMD64_OSVW_STATUS:
		if (!host && !pvhv_guest_has(vcpu, X86_FEATURE_OSVW))
			return 1;
		*value = index == MSR_AMD64_OSVW_STATUS ? vcpu->osvw_status :
							  vcpu->osvw_length;
		return 0;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_WALL_CLOCK_NEW ... MSR_KVM_MIGRATION_CONTROL:
		return pvhv_clock_msr_get(vcpu, index, value);
	default:
		return get_other(vcpu, index, value, host);
	}
}

/* -------------------------------------------------------------- writing -- */

static int set_backend(struct pvhv_vcpu *vcpu, u32 index, u64 value)
{
	int r = vcpu->be->set_msr(vcpu, index, value);

	return r && r != -ENOENT ? 1 : r;
}

static int set_other(struct pvhv_vcpu *vcpu, u32 index, u64 value, bool host)
{
	const struct fixed_msr *fixed;
	int r;

	r = set_backend(vcpu, index, value);
	if (r != -ENOENT)
		return r;
	r = pvhv_mtrr_set(vcpu, index, value);
	if (r != -ENOENT)
		return r;
	r = pvhv_mce_set_msr(vcpu, index, value, host);
	if (r != -ENOENT)
		return r;
	fixed = find_fixed(index);
	if (!fixed)
		return PVHV_MSR_UNKNOWN;
	return fixed->ignore_writes ? 0 : PVHV_MSR_REFUSED;
}

/* The VMM's EFER, too: LMA is not written, LME not changed under paging. */
static int set_efer(struct pvhv_vcpu *vcpu, u64 value, bool host)
{
	if (value & ~(vcpu->efer_allowed | EFER_LMA))
		return 1;
	if ((vcpu->cr0 & X86_CR0_PG) && ((value ^ vcpu->efer) & EFER_LME))
		return 1;
	value = (value & ~(u64)EFER_LMA) | (vcpu->efer & EFER_LMA);
	return pvhv_set_efer(vcpu, value, host) ? 1 : 0;
}

static int set_spec_ctrl(struct pvhv_vcpu *vcpu, u64 value, bool host)
{
	u64 allowed = vcpu->spec_ctrl_allowed;

	if (!host && !allowed)
		return 1;
	/* A VMM may restore before it has set the CPUID. */
	if (host)
		allowed |= SPEC_CTRL_IBRS | SPEC_CTRL_STIBP | SPEC_CTRL_SSBD;
	if (value & ~allowed)
		return 1;
	vcpu->spec_ctrl = value;
	return set_backend(vcpu, MSR_IA32_SPEC_CTRL, value) == 1;
}

/* A barrier acts on this CPU now; the guest is on no other. */
static int set_pred_cmd(struct pvhv_vcpu *vcpu, u64 value, bool host)
{
	if (!host && !vcpu->pred_cmd_allowed)
		return 1;
	if (value & ~(vcpu->pred_cmd_allowed))
		return 1;
	if (value)
		wrmsrl(MSR_IA32_PRED_CMD, value);
	return 0;
}

static int set_flush_cmd(struct pvhv_vcpu *vcpu, u64 value)
{
	if (!pvhv_guest_has(vcpu, X86_FEATURE_FLUSH_L1D) ||
	    !pvhv_cpuid_offers(X86_FEATURE_FLUSH_L1D))
		return 1;
	if (value & ~(u64)L1D_FLUSH)
		return 1;
	if (value)
		wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
	return 0;
}

static int set_misc_enable(struct pvhv_vcpu *vcpu, u64 value, bool host)
{
	if (!host) {
		if ((value ^ vcpu->misc_enable) & MISC_ENABLE_DEFAULT)
			return 1;
		/* Says whether there are counters: not the guest's to say. */
		value &= ~(u64)MSR_IA32_MISC_ENABLE_EMON;
		value |= vcpu->misc_enable & MSR_IA32_MISC_ENABLE_EMON;
	}
	if (!((value ^ vcpu->misc_enable) & MSR_IA32_MISC_ENABLE_MWAIT) ||
	    !(vcpu->vm->disabled_quirks & KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT)) {
		vcpu->misc_enable = value;
		return 0;
	}
	/* CPUID follows; the SDM: without SSE3 the bit is reserved. */
	if (!pvhv_guest_has(vcpu, X86_FEATURE_XMM3))
		return 1;
	vcpu->misc_enable = value;
	pvhv_cpuid_cr4_changed(vcpu);
	return 0;
}

static int set_hwcr(struct pvhv_vcpu *vcpu, u64 value)
{
	value &= ~HWCR_IGNORED;
	if (value & ~HWCR_KEPT)
		return 1;
	vcpu->hwcr = value;
	return 0;
}

/* The addresses the hardware would refuse if they were not canonical. */
static int set_address(struct pvhv_vcpu *vcpu, u32 index, u64 value, bool host)
{
	if (!canonical(vcpu, value, host))
		return 1;
	return set_backend(vcpu, index, value) ? 1 : 0;
}

int pvhv_set_msr(struct pvhv_vcpu *vcpu, u32 index, u64 value, bool host)
{
	switch (index) {
	case MSR_IA32_TSC_DEADLINE:
		if (vcpu->lapic)
			pvhv_lapic_set_tsc_deadline(vcpu, value);
		return 0;
	case 0x800 ... 0x8ff:
		return vcpu->lapic ? pvhv_x2apic_write(vcpu, index, value) : 1;
	case MSR_IA32_TSC:
		pvhv_write_tsc(vcpu, value, host);
		return 0;
	case MSR_IA32_TSC_ADJUST:
		if (!host && !pvhv_guest_has(vcpu, X86_FEATURE_TSC_ADJUST))
			return 1;
		pvhv_write_tsc_adjust(vcpu, value, host);
		return 0;
	case MSR_IA32_APICBASE:
		return pvhv_lapic_set_base(vcpu, value, host) ? 1 : 0;
	case MSR_EFER:
		return set_efer(vcpu, value, host);
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case MSR_KERNEL_GS_BASE:
	case MSR_LSTAR:
	case MSR_CSTAR:
		return set_address(vcpu, index, value, host);
	case MSR_IA32_CR_PAT:
		if (!pvhv_memtypes_valid(value, PAT_TYPES))
			return 1;
		vcpu->pat = value;
		vcpu->be->sync(vcpu, PVHV_SYNC_PAT);
		return 0;
	case MSR_TSC_AUX:
		if (!host && !vcpu->guest_has_rdtscp)
			return 1;
		/* AMD ignores the upper half, Intel refuses it. */
		if (!vcpu->guest_is_amd && upper_32_bits(value) && !host)
			return 1;
		vcpu->tsc_aux = lower_32_bits(value);
		return set_backend(vcpu, index, vcpu->tsc_aux) == 1;
	case MSR_IA32_XSS:
		if (!host && !pvhv_guest_has(vcpu, X86_FEATURE_XSAVES))
			return 1;
		if (value & ~vcpu->guest_xss)
			return 1;
		vcpu->xss = value;
		pvhv_cpuid_cr4_changed(vcpu);
		return 0;
	case MSR_IA32_SPEC_CTRL:
		return set_spec_ctrl(vcpu, value, host);
	case MSR_IA32_PRED_CMD:
		return set_pred_cmd(vcpu, value, host);
	case MSR_IA32_FLUSH_CMD:
		return set_flush_cmd(vcpu, value);
	case MSR_AMD64_VIRT_SPEC_CTRL:
		if (!host && !pvhv_guest_has(vcpu, X86_FEATURE_VIRT_SSBD))
			return 1;
		if (value & ~(u64)SPEC_CTRL_SSBD)
			return 1;
		vcpu->virt_spec_ctrl = value;
		return 0;
	case MSR_IA32_ARCH_CAPABILITIES:
		if (!host)
			return 1;
		vcpu->arch_capabilities = value;
		return 0;
	case MSR_IA32_UCODE_REV:
		if (host)
			vcpu->microcode_version = value;
		return 0;
	case MSR_IA32_UCODE_WRITE:
	case MSR_AMD64_PATCH_LOADER:
		return 0;
	case MSR_IA32_MISC_ENABLE:
		return set_misc_enable(vcpu, value, host);
	case MSR_PLATFORM_INFO:
		if (!host || (!(value & MSR_PLATFORM_INFO_CPUID_FAULT) &&
			      vcpu->msr_misc_features))
			return 1;
		vcpu->msr_platform_info = value;
		return 0;
	case MSR_MISC_FEATURES_ENABLES:
		if (value & ~MSR_MISC_FEATURES_ENABLES_CPUID_FAULT)
			return 1;
		if (value && !(vcpu->msr_platform_info & MSR_PLATFORM_INFO_CPUID_FAULT))
			return 1;
		vcpu->msr_misc_features = value;
		return 0;
	case MSR_IA32_DEBUGCTLMSR:
		if (value & ~DEBUGCTL_KNOWN && !host)
			return 1;
		return set_backend(vcpu, index, value) == 1;
	case MSR_K7_HWCR:
		return set_hwcr(vcpu, value);
	case MSR_AMD64_DE_CFG:
		/* The guest may say what is so already, as Linux does. */
		if (host ? value & ~pvhv_host_msr(index) : value != pvhv_host_msr(index))
			return 1;
		vcpu->de_cfg = value;
		return 0;
	case MSR_FAM10H_MMIO_CONF_BASE:
		return value ? 1 : 0;
	case MSR_AMD64_OSVW_ID_LENGTH:
	case MSR_AMD64_OSVW_STATUS:
		if (!host)
			return 1;
		if (index == MSR_AMD64_OSVW_STATUS)
			vcpu->osvw_status = value;
		else
			vcpu->osvw_length = value;
		return 0;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_WALL_CLOCK_NEW ... MSR_KVM_MIGRATION_CONTROL:
		return pvhv_clock_msr_set(vcpu, index, value);
	default:
		return set_other(vcpu, index, value, host);
	}
}

/* ------------------------------------------------------ initial values -- */

void pvhv_msr_reset(struct pvhv_vcpu *vcpu, bool init)
{
	/* Pages the old kernel gave away must not be written any more. */
	vcpu->pv.system_time_msr = 0;
	vcpu->pv.steal_msr = 0;
	vcpu->pv.preempted = false;
	vcpu->spec_ctrl = 0;
	vcpu->virt_spec_ctrl = 0;
	if (init)
		return;
	vcpu->pat = PAT_DEFAULT;
	vcpu->misc_enable = MISC_ENABLE_DEFAULT;
	vcpu->msr_misc_features = 0;
	vcpu->mtrr_def_type = 0;
	memset(vcpu->mtrr_fixed, 0, sizeof(vcpu->mtrr_fixed));
	memset(vcpu->mtrr_var, 0, sizeof(vcpu->mtrr_var));
	vcpu->mcg_status = 0;
	vcpu->hwcr = 0;		/* as KVM's; what firmware would set in it is the VMM's to set */
}

int pvhv_msr_vcpu_init(struct pvhv_vcpu *vcpu)
{
	bool amd = boot_cpu_data.x86_vendor == X86_VENDOR_AMD ||
		   boot_cpu_data.x86_vendor == X86_VENDOR_HYGON;

	vcpu->msr_platform_info = MSR_PLATFORM_INFO_CPUID_FAULT;
	vcpu->de_cfg = pvhv_host_msr(MSR_AMD64_DE_CFG);
	vcpu->arch_capabilities = pvhv_host_msr(MSR_IA32_ARCH_CAPABILITIES);
	/* Old enough for no kernel to think it needs work-arounds by it. */
	vcpu->microcode_version = amd ? 0x01000065 : 1ULL << 32;
	vcpu->osvw_length = 3;	/* errata 298 and 400 do not apply */
	vcpu->pv.poll_msr = 1;
	pvhv_cpuid_derive(vcpu);
	return pvhv_mce_vcpu_init(vcpu);
}

void pvhv_msr_vcpu_free(struct pvhv_vcpu *vcpu)
{
	pvhv_mce_vcpu_free(vcpu);
}
