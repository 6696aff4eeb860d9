// SPDX-License-Identifier: GPL-2.0
/*
 * caps.c - what VT-x of this processor can do (SDM appendix A), negotiated
 * once: controls that are required, with a clear word where one is missing,
 * and those that are used where they are.
 */
#define pr_fmt(fmt) "pvhv: " fmt

#include <linux/module.h>
#include <linux/sched/smt.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/perf_event.h>
#include <asm/processor.h>
#include <asm/tsc.h>

#include "vmx.h"

struct vmx_caps vmx_caps;

/*
 * Bochs 2.7 keeps the host's interrupts away from a guest that was entered
 * with IF clear, until it changes IF. With a limit to its stay it comes back.
 */
static unsigned int vmx_slice_us;
module_param(vmx_slice_us, uint, 0444);
MODULE_PARM_DESC(vmx_slice_us, "longest stay in a guest without an exit, 0: no limit (for emulators)");

static bool vmx_virtual_apic = true;
module_param(vmx_virtual_apic, bool, 0444);
MODULE_PARM_DESC(vmx_virtual_apic, "have interrupts delivered and ended by hardware where it can");

/* An entry with them was seen on no processor. 2: all that goes without them, which Bochs can run. */
static unsigned int vmx_posted_interrupts;
module_param(vmx_posted_interrupts, uint, 0444);
MODULE_PARM_DESC(vmx_posted_interrupts, "interrupts come to a guest that runs without ending its stay: 1: where the CPU does that, 2: all but that (for tests), 0: no");

/* "Bits that are 1 in the lower half must be 1, bits that are 0 in the upper must be 0" (A.3.1). */
struct controls {
	u32 msr, true_msr;	/* the latter where VMX_BASIC says so */
	u32 required, optional;
	const char *what;
	u32 *to;
};

static const struct controls controls[] = {
	{
		.msr = MSR_IA32_VMX_PINBASED_CTLS,
		.true_msr = MSR_IA32_VMX_TRUE_PINBASED_CTLS,
		.required = PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS,
		.what = "virtual NMIs",
		.to = &vmx_caps.pin,
	}, {
		.msr = MSR_IA32_VMX_PROCBASED_CTLS,
		.true_msr = MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
		.required = CPU_BASED_HLT_EXITING | CPU_BASED_MWAIT_EXITING |
			    CPU_BASED_MONITOR_EXITING | CPU_BASED_RDPMC_EXITING |
			    CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING |
			    CPU_BASED_MOV_DR_EXITING | CPU_BASED_UNCOND_IO_EXITING |
			    CPU_BASED_USE_TSC_OFFSETTING | CPU_BASED_USE_MSR_BITMAPS |
			    CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING |
			    CPU_BASED_ACTIVATE_SECONDARY_CONTROLS,
		.optional = CPU_BASED_TPR_SHADOW,
		.what = "MSR bitmaps and secondary controls",
		.to = &vmx_caps.proc,
	}, {
		.msr = MSR_IA32_VMX_PROCBASED_CTLS2,
		.required = SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_UNRESTRICTED_GUEST,
		.optional = SECONDARY_EXEC_WBINVD_EXITING | SECONDARY_EXEC_ENABLE_VPID |
			    SECONDARY_EXEC_PAUSE_LOOP_EXITING | SECONDARY_EXEC_ENABLE_RDTSCP |
			    SECONDARY_EXEC_ENABLE_INVPCID | PVHV_SECONDARY_EXEC_XSAVES |
			    SECONDARY_EXEC_ENABLE_PML | SECONDARY_EXEC_TSC_SCALING |
			    VMX_VIRTUAL_APIC | SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES,
		.what = "extended page tables and unrestricted guests",
		.to = &vmx_caps.proc2,
	}, {
		.msr = MSR_IA32_VMX_EXIT_CTLS,
		.true_msr = MSR_IA32_VMX_TRUE_EXIT_CTLS,
		.required = VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_SAVE_DEBUG_CONTROLS |
			    VM_EXIT_LOAD_IA32_EFER,
		.what = "loading of EFER",
		.to = &vmx_caps.exit,
	}, {
		.msr = MSR_IA32_VMX_ENTRY_CTLS,
		.true_msr = MSR_IA32_VMX_TRUE_ENTRY_CTLS,
		.required = VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_LOAD_IA32_EFER |
			    VM_ENTRY_IA32E_MODE,
		.what = "loading of EFER",
		.to = &vmx_caps.entry,
	},
};

static int negotiate(const struct controls *c, bool true_controls)
{
	u32 must, may;

	rdmsr(true_controls && c->true_msr ? c->true_msr : c->msr, must, may);
	if (c->required & ~may) {
		pr_info("this CPU has VT-x without %s (MSR %x: %08x are missing)\n", c->what,
			c->msr, c->required & ~may);
		return -ENODEV;
	}
	*c->to = must | c->required | (c->optional & may);
	return 0;
}

static void probe_misc(void)
{
	u64 pin, misc;
	int nr;

	rdmsrl(MSR_IA32_VMX_MISC, misc);
	vmx_caps.int_n_length = misc & VMX_MISC_ZERO_LEN_INS ? 0 : 1;
	preempt_disable();
	/* Without counters it is NULL, always. */
	vmx_caps.perf = perf_guest_get_msrs(&nr, NULL);
	preempt_enable();
	rdmsrl(MSR_IA32_VMX_PINBASED_CTLS, pin);
	/* That of processors before Sandy Bridge, the first with XSAVE, counts wrongly. */
	if (!(upper_32_bits(pin) & PIN_BASED_VMX_PREEMPTION_TIMER) ||
	    !(cpuid_ecx(1) & BIT(X86_FEATURE_XSAVE & 31)))
		return;
	vmx_caps.pin |= PIN_BASED_VMX_PREEMPTION_TIMER;
	vmx_caps.timer_shift = vmx_misc_preemption_timer_rate(misc);
	vmx_caps.slice = mul_u64_u32_div(tsc_khz, vmx_slice_us, USEC_PER_MSEC);
	vmx_caps.longest_stay = vmx_caps.slice ?
		clamp_t(u64, vmx_caps.slice >> vmx_caps.timer_shift, 1, U32_MAX) : U32_MAX;
}

static void probe_apic(void)
{
	if (!vmx_virtual_apic || !(vmx_caps.proc & CPU_BASED_TPR_SHADOW) ||
	    (vmx_caps.proc2 & VMX_VIRTUAL_APIC) != VMX_VIRTUAL_APIC)
		vmx_caps.proc2 &= ~(VMX_VIRTUAL_APIC | SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
}

/* Its handler for a notification that comes late is in kernels with KVM. */
static void probe_posted(void)
{
	u64 pin, exit;

	rdmsrl(MSR_IA32_VMX_PINBASED_CTLS, pin);
	rdmsrl(MSR_IA32_VMX_EXIT_CTLS, exit);
	pin = upper_32_bits(pin) & PIN_BASED_POSTED_INTR;
	if (!IS_ENABLED(CONFIG_KVM) || !vmx_posted_interrupts || !vmx_has_virtual_apic() ||
	    !(upper_32_bits(exit) & VM_EXIT_ACK_INTR_ON_EXIT) || (!pin && vmx_posted_interrupts == 1))
		return;
	if (vmx_posted_interrupts == 1)
		vmx_caps.pin |= pin;
	vmx_caps.exit |= VM_EXIT_ACK_INTR_ON_EXIT;
	vmx_caps.posts = true;
}

static int probe_ept(struct pvhv_tdp_format *ept)
{
	const u64 needed = VMX_EPT_PAGE_WALK_4_BIT | VMX_EPTP_WB_BIT | VMX_EPT_2MB_PAGE_BIT |
			   VMX_EPT_INVEPT_BIT;
	u64 cap;

	rdmsrl(MSR_IA32_VMX_EPT_VPID_CAP, cap);
	if ((cap & needed) != needed ||
	    !(cap & (VMX_EPT_EXTENT_CONTEXT_BIT | VMX_EPT_EXTENT_GLOBAL_BIT))) {
		pr_info("this CPU's extended page tables lack what is needed (capabilities %llx)\n", cap);
		return -ENODEV;
	}
	vmx_caps.invept_context = cap & VMX_EPT_EXTENT_CONTEXT_BIT;
	vmx_caps.ept_5_levels = cap & VMX_EPT_PAGE_WALK_5_BIT;
	ept->no_1g = !(cap & VMX_EPT_1GB_PAGE_BIT);
	ept->has_ad = cap & VMX_EPT_AD_BIT;
	if (!ept->has_ad) {
		ept->accessed = 0;
		ept->dirty = 0;
		vmx_caps.proc2 &= ~SECONDARY_EXEC_ENABLE_PML;
	}
	ept->logs_dirty = vmx_caps.proc2 & SECONDARY_EXEC_ENABLE_PML;
	return 0;
}

/*
 * L1 terminal fault: what the host had in the L1 data cache must not be there
 * while a guest runs that may read it. It is flushed before each entry, unless
 * the administrator does not want that.
 */
static void probe_l1tf(void)
{
	if (!boot_cpu_has_bug(X86_BUG_L1TF) || l1tf_mitigation == L1TF_MITIGATION_OFF ||
	    (pvhv_host_msr(MSR_IA32_ARCH_CAPABILITIES) & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH))
		return;
	vmx_caps.flush_l1d = boot_cpu_has(X86_FEATURE_FLUSH_L1D);
	if (!vmx_caps.flush_l1d)
		pr_warn("this CPU has the L1TF bug and no command against it: guests can read host memory\n");
	else if (sched_smt_active())
		pr_warn("this CPU has the L1TF bug and SMT is on: a guest can read what its core's other thread caches\n");
}

int vmx_probe_caps(struct pvhv_tdp_format *ept)
{
	unsigned int i;
	u64 basic;
	int r;

	if (!(cpuid_ecx(1) & BIT(X86_FEATURE_VMX & 31))) {
		pr_info("this CPU has no VT-x (CPUID 1 ECX bit 5)\n");
		return -ENODEV;
	}
	/* The kernel takes the flag away where the lock bit was set without VT-x. */
	if (!boot_cpu_has(X86_FEATURE_VMX) || !boot_cpu_has(X86_FEATURE_MSR_IA32_FEAT_CTL)) {
		pr_info("VT-x is disabled by the firmware (IA32_FEATURE_CONTROL)\n");
		return -ENODEV;
	}
	if (pvhv_host_has_fred()) {
		pr_info("VT-x on hosts that deliver events by FRED is not supported: boot with fred=off\n");
		return -ENODEV;
	}
	rdmsrl(MSR_IA32_VMX_BASIC, basic);
	vmx_caps.revision = vmx_basic_vmcs_revision_id(basic);
	for (i = 0; i < ARRAY_SIZE(controls); i++) {
		r = negotiate(&controls[i], basic & PVHV_VMX_BASIC_TRUE_CTLS);
		if (r)
			return r;
	}
	r = probe_ept(ept);
	if (r)
		return r;
	probe_apic();
	probe_posted();
	probe_l1tf();
	probe_misc();
	return 0;
}
