// SPDX-License-Identifier: GPL-2.0
/*
 * svm.c - the AMD-V backend:
 *  1. is the hardware there, and what has it beyond the base,
 *  2. virtualization on and off on a host CPU,
 *  3. VMCBs of vCPUs, onto and off a CPU,
 *  4. svm_enter(): one run of the guest until one exit,
 *  5. the ops table.
 */
#include <linux/hw_breakpoint.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/processor.h>
#include <asm/spec-ctrl.h>
#include <asm/tlbflush.h>

#include "svm.h"
#include "../trace.h"

#define SVM_MIN_ASIDS	8	/* fewest ASIDs worth running with */

DEFINE_PER_CPU(struct svm_cpu, svm_cpus);
struct svm_caps svm_caps;

/*
 * QEMU's emulation of a CPU keeps the vector of an injected interrupt as an
 * exception that is still to come and delivers it again when it pauses before
 * the next exit, whatever the guest's IF is. An exit right behind the
 * injection leaves it no time to. No processor needs this.
 */
static int exit_after_irq = -1;
module_param(exit_after_irq, int, 0444);
MODULE_PARM_DESC(exit_after_irq, "leave the guest once behind each injected interrupt: 1 yes, 0 no, -1 where QEMU emulates the CPU (svm)");

/* --- 1. the hardware --- */

static bool svm_needs_exit_after_irq(void)
{
	if (exit_after_irq >= 0)
		return exit_after_irq;
	return boot_cpu_has(X86_FEATURE_HYPERVISOR) && hypervisor_cpuid_base("TCGTCGTCGTCG", 0);
}

static int svm_probe_caps(void)
{
	u64 vm_cr;

	if (!boot_cpu_has(X86_FEATURE_SVM)) {
		pr_info("this CPU has no AMD-V (CPUID 80000001 ECX bit 2)\n");
		return -ENODEV;
	}
	if (boot_cpu_has(X86_FEATURE_HYPERVISOR) && cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT)) {
		pr_info("AMD-V is not usable inside an encrypted guest\n");
		return -ENODEV;
	}
	rdmsrl(MSR_VM_CR, vm_cr);
	if (vm_cr & SVM_VM_CR_SVM_DIS_MASK) {
		pr_info("AMD-V is disabled by the firmware (VM_CR.SVMDIS)\n");
		return -ENODEV;
	}
	if (!boot_cpu_has(X86_FEATURE_NPT)) {
		pr_info("this CPU has AMD-V without nested paging\n");
		return -ENODEV;
	}

	svm_caps = (struct svm_caps) {
		.nrips = boot_cpu_has(X86_FEATURE_NRIPS),
		.decode_assists = boot_cpu_has(X86_FEATURE_DECODEASSISTS),
		.flush_by_asid = boot_cpu_has(X86_FEATURE_FLUSHBYASID),
		.clean_bits = boot_cpu_has(X86_FEATURE_VMCBCLEAN),
		.pause_filter = boot_cpu_has(X86_FEATURE_PAUSEFILTER),
		.pause_threshold = boot_cpu_has(X86_FEATURE_PFTHRESHOLD),
		.v_spec_ctrl = boot_cpu_has(X86_FEATURE_V_SPEC_CTRL),
		.exit_after_irq = svm_needs_exit_after_irq(),
		.nr_asids = cpuid_ebx(SVM_CPUID_FUNC),
	};
	if (svm_caps.nr_asids < SVM_MIN_ASIDS) {
		pr_info("only %u address space identifiers\n", svm_caps.nr_asids);
		return -ENODEV;
	}
	return 0;
}

static void svm_free_cpus(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpus, cpu);

		if (sc->hsave)
			__free_page(sc->hsave);
		if (sc->host_vmcb)
			__free_page(sc->host_vmcb);
		*sc = (struct svm_cpu) { };
	}
}

static int svm_probe(void)
{
	int cpu, r;

	r = svm_probe_caps();
	if (r)
		return r;
	r = svm_permissions_init();
	if (r)
		return r;
	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpus, cpu);

		sc->hsave = alloc_pages_node(cpu_to_node(cpu), GFP_KERNEL | __GFP_ZERO, 0);
		sc->host_vmcb = alloc_pages_node(cpu_to_node(cpu), GFP_KERNEL | __GFP_ZERO, 0);
		if (!sc->hsave || !sc->host_vmcb) {
			svm_free_cpus();
			svm_permissions_exit();
			return -ENOMEM;
		}
	}
	return 0;
}

static void svm_remove(void)
{
	svm_free_cpus();
	svm_permissions_exit();
}

/* --- 2. a host CPU --- */

static int svm_cpu_enable(void)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpus);
	u64 efer;

	rdmsrl(MSR_EFER, efer);
	if (efer & EFER_SVME)
		return -EBUSY;	/* another hypervisor has this CPU */
	wrmsrl(MSR_EFER, efer | EFER_SVME);
	wrmsrl(MSR_VM_HSAVE_PA, page_to_phys(sc->hsave));
	/* Past the last ASID: the first vCPU starts a generation and flushes. */
	sc->asid_generation++;
	sc->next_asid = svm_caps.nr_asids;
	sc->last = NULL;
	return 0;
}

static void svm_cpu_disable(void)
{
	u64 efer;

	rdmsrl(MSR_EFER, efer);
	if (!(efer & EFER_SVME))
		return;
	wrmsrl(MSR_VM_HSAVE_PA, 0);
	wrmsrl(MSR_EFER, efer & ~EFER_SVME);
}

/* --- 3. vCPUs --- */

static int svm_vm_init(struct pvhv_vm *vm)
{
	/* Nested paging walks its tables in the host's paging mode (APM 15.25.3). */
	return pvhv_tdp_init(vm, cr4_read_shadow() & X86_CR4_LA57 ? 5 : 4);
}

static void svm_vm_destroy(struct pvhv_vm *vm)
{
	pvhv_tdp_destroy(vm);
}

static void svm_init_vmcb(struct pvhv_vcpu *vcpu)
{
	static const u8 intercepts[] = {
		INTERCEPT_CR0_WRITE, INTERCEPT_CR4_WRITE,
		INTERCEPT_INTR, INTERCEPT_NMI, INTERCEPT_SMI, INTERCEPT_INIT,
		INTERCEPT_RDPMC, INTERCEPT_CPUID, INTERCEPT_RSM, INTERCEPT_INVD,
		INTERCEPT_INVLPGA, INTERCEPT_IOIO_PROT,
		INTERCEPT_MSR_PROT, INTERCEPT_TASK_SWITCH, INTERCEPT_SHUTDOWN,
		INTERCEPT_FERR_FREEZE,
		INTERCEPT_VMRUN, INTERCEPT_VMMCALL, INTERCEPT_VMLOAD,
		INTERCEPT_VMSAVE, INTERCEPT_STGI, INTERCEPT_CLGI,
		INTERCEPT_SKINIT, INTERCEPT_WBINVD, INTERCEPT_XSETBV,
		INTERCEPT_RDPRU,
		INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_MC,
		INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_UD,	/* pvhv_fix_hypercall() */
		/* These two can loop for ever in microcode while delivered. */
		INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_AC,
		INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_DB,
	};
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb_control_area *c = &svm->vmcb->control;
	u32 disabled = vcpu->vm->disabled_exits;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(intercepts); i++)
		svm_intercept(svm, intercepts[i], true);
	svm_lend_debug_registers(vcpu, false);
	svm_intercept(svm, INTERCEPT_HLT, !(disabled & KVM_X86_DISABLE_EXITS_HLT));
	svm_intercept(svm, INTERCEPT_MONITOR, !(disabled & KVM_X86_DISABLE_EXITS_MWAIT));
	svm_intercept(svm, INTERCEPT_MWAIT, !(disabled & KVM_X86_DISABLE_EXITS_MWAIT));
	if (svm_caps.pause_filter && !(disabled & KVM_X86_DISABLE_EXITS_PAUSE)) {
		c->pause_filter_count = 3000;	/* as long as a short spinlock is held */
		if (svm_caps.pause_threshold)
			c->pause_filter_thresh = 128;
		svm_intercept(svm, INTERCEPT_PAUSE, true);
	}
	c->iopm_base_pa = svm_iopm_pa();
	c->msrpm_base_pa = svm_msrpm_pa();
	c->int_ctl = V_INTR_MASKING_MASK;
	c->nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	c->nested_cr3 = vcpu->vm->tdp_root_pa;
	svm->vmcb->save.g_pat = vcpu->pat;
}

static int svm_vcpu_init(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm;
	struct page *page;

	svm = kzalloc(sizeof(*svm), GFP_KERNEL_ACCOUNT);
	if (!svm)
		return -ENOMEM;
	page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!page) {
		kfree(svm);
		return -ENOMEM;
	}
	svm->vmcb = page_address(page);
	svm->vmcb_pa = page_to_phys(page);
	svm->asid_cpu = -1;
	vcpu->backend_data = svm;
	svm_init_vmcb(vcpu);
	return 0;
}

static void svm_vcpu_destroy(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	int cpu;

	/* A later vCPU at the same address must not pass for this one. */
	for_each_possible_cpu(cpu)
		cmpxchg(&per_cpu_ptr(&svm_cpus, cpu)->last, svm, NULL);
	free_page((unsigned long)svm->vmcb);
	kfree(svm);
}

static void svm_vcpu_reset(struct pvhv_vcpu *vcpu, bool init)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb_control_area *c = &svm->vmcb->control;

	c->event_inj = 0;
	c->int_state = 0;
	svm->iret_seen = false;
	svm->nmi_singlestep = false;
	svm_intercept(svm, INTERCEPT_IRET, false);
	svm_close_irq_window(vcpu);
	if (!init) {
		struct vmcb_save_area *save = &svm->vmcb->save;

		save->star = 0;
		save->lstar = 0;
		save->cstar = 0;
		save->sfmask = 0;
		save->kernel_gs_base = 0;
		save->sysenter_cs = 0;
		save->sysenter_esp = 0;
		save->sysenter_eip = 0;
	}
	svm->vmcb->control.clean = 0;
}

static void svm_load(struct pvhv_vcpu *vcpu, int cpu)
{
	struct svm_cpu *sc = per_cpu_ptr(&svm_cpus, cpu);
	struct svm_vcpu *svm = to_svm(vcpu);

	svm->host_vmcb_pa = page_to_phys(sc->host_vmcb);
	/*
	 * FS, GS, TR, LDTR and the syscall MSRs of the thread that is running
	 * here; the scheduler calls us again before they can change.
	 */
	if (this_cpu_read(pvhv_virt_on))
		asm volatile("vmsave %0" : : "a" (svm->host_vmcb_pa) : "memory");
	if (sc->last != svm) {
		sc->last = svm;
		indirect_branch_prediction_barrier();
		svm->vmcb->control.clean = 0;
	}
	if (svm->asid_cpu != cpu) {
		svm->asid_cpu = cpu;
		svm->asid_generation = 0;
		svm->vmcb->control.clean = 0;
	}
	if (vcpu->guest_has_rdtscp)
		wrmsrl(MSR_TSC_AUX, vcpu->tsc_aux);
	svm->tsc_aux_live = vcpu->tsc_aux;
}

static void svm_put(struct pvhv_vcpu *vcpu)
{
	/* Same value the kernel set up for its vDSO (arch/x86 cpu_init()). */
	if (vcpu->guest_has_rdtscp)
		wrmsrl(MSR_TSC_AUX, (cpu_to_node(vcpu->cpu) << 12) | vcpu->cpu);
}

/* --- 4. one run --- */

/*
 * Address space identifiers are per CPU and never reused within a
 * generation, so "this vCPU's translations are stale" costs a new number;
 * running out of them costs one full flush (APM 15.16).
 */
static void svm_new_asid(struct svm_vcpu *svm, struct svm_cpu *sc)
{
	struct vmcb_control_area *c = &svm->vmcb->control;

	if (sc->next_asid >= svm_caps.nr_asids) {
		sc->asid_generation++;
		sc->next_asid = 1;
		c->tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	}
	svm->asid_generation = sc->asid_generation;
	c->asid = sc->next_asid++;
	svm_dirty(svm, SVM_CLEAN_ASID);
}

static void svm_prepare_asid(struct svm_vcpu *svm)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpus);

	svm->vmcb->control.tlb_ctl = TLB_CONTROL_DO_NOTHING;
	if (unlikely(svm->asid_generation != sc->asid_generation))
		svm_new_asid(svm, sc);
	else if (unlikely(svm->flush)) {
		if (svm_caps.flush_by_asid)
			svm->vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ASID;
		else
			svm_new_asid(svm, sc);
	}
	svm->flush = false;
}

static void svm_flush_tlb(struct pvhv_vcpu *vcpu)
{
	to_svm(vcpu)->flush = true;
}

static void svm_take_back_debug_registers(struct pvhv_vcpu *vcpu)
{
	pvhv_save_debug_addresses(vcpu);
	vcpu->dr7 = to_svm(vcpu)->vmcb->save.dr7;
	svm_lend_debug_registers(vcpu, false);
}

static void svm_enter(struct pvhv_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb *vmcb = svm->vmcb;
	u64 host_spec = this_cpu_read(x86_spec_ctrl_current);
	u64 guest_spec = vcpu->spec_ctrl;
	u8 tpr;

	vmcb->save.rax = vcpu->gpr[PVHV_RAX];
	vmcb->save.rsp = vcpu->gpr[PVHV_RSP];
	vmcb->save.rip = vcpu->rip;
	vmcb->save.rflags = vcpu->rflags;
	vmcb->save.cr2 = vcpu->cr2;
	/* Without a LAPIC writes of CR8 exit; what the guest reads is this. */
	tpr = vcpu->lapic ? pvhv_lapic_get_tpr(vcpu) : vcpu->cr8;
	vmcb->control.int_ctl = (vmcb->control.int_ctl & ~V_TPR_MASK) | tpr;
	if (svm_caps.v_spec_ctrl) {
		vmcb->save.spec_ctrl = guest_spec;
		guest_spec = host_spec;
	}
	if (unlikely(svm->tsc_aux_live != vcpu->tsc_aux)) {
		svm->tsc_aux_live = vcpu->tsc_aux;
		wrmsrl(MSR_TSC_AUX, vcpu->tsc_aux);
	}
	svm_prepare_asid(svm);
	if (unlikely(vcpu->guest_debug)) {
		vmcb->save.dr6 = pvhv_fix_dr6(0);	/* what it says then is why */
		svm_dirty(svm, SVM_CLEAN_DR);
	}
	if (unlikely(svm->dr_lent || (vmcb->save.dr7 & PVHV_DR7_ENABLES)))
		pvhv_load_debug_addresses(vcpu);

	svm_world_switch(vcpu->gpr, svm->vmcb_pa, svm->host_vmcb_pa,
			 guest_spec, host_spec);

	if (unlikely(svm->dr_lent))
		svm_take_back_debug_registers(vcpu);
	if (unlikely(hw_breakpoint_active()))
		hw_breakpoint_restore();
	if (svm_caps.clean_bits)
		vmcb->control.clean = ~SVM_ALWAYS_DIRTY;
	vcpu->gpr[PVHV_RAX] = vmcb->save.rax;
	vcpu->gpr[PVHV_RSP] = vmcb->save.rsp;
	vcpu->rip = vmcb->save.rip;
	vcpu->rflags = vmcb->save.rflags;
	vcpu->cr2 = vmcb->save.cr2;
	vcpu->cr3 = vmcb->save.cr3;
	if (likely(!vcpu->guest_debug))
		vcpu->dr6 = vmcb->save.dr6;
	if (vcpu->lapic && unlikely((vmcb->control.int_ctl & V_TPR_MASK) != tpr))
		pvhv_lapic_set_tpr(vcpu, vmcb->control.int_ctl & V_TPR_MASK);

	vmcb->control.event_inj = 0;
	if (unlikely(vmcb->control.exit_code == SVM_EXIT_EXCP_BASE + X86_TRAP_MC))
		pvhv_host_machine_check();
	svm_requeue_events(vcpu);
	svm_normalise_exit(vcpu);
}

/* --- 5. the ops table --- */

static const struct pvhv_tdp_format svm_npt_format = {
	.present = _PAGE_PRESENT | _PAGE_USER,	/* guest accesses are "user", APM 15.25.5 */
	.writable = _PAGE_RW,
	.accessed = _PAGE_ACCESSED,
	.dirty = _PAGE_DIRTY,
	.large = _PAGE_PSE,
	.memtype_wb = 0,			/* PAT entry 0 */
	.sw_host_writable = _PAGE_SOFTW1,
	.has_ad = true,
};

const struct pvhv_backend pvhv_svm_backend = {
	.name = "svm",
	.hypercall = { 0x0f, 0x01, 0xd9 },	/* VMMCALL */

	.tdp = &svm_npt_format,
	.probe = svm_probe,
	.remove = svm_remove,
	.cpu_enable = svm_cpu_enable,
	.cpu_disable = svm_cpu_disable,
	.vm_init = svm_vm_init,
	.vm_destroy = svm_vm_destroy,
	.vcpu_init = svm_vcpu_init,
	.vcpu_destroy = svm_vcpu_destroy,
	.vcpu_reset = svm_vcpu_reset,
	.load = svm_load,
	.put = svm_put,
	.enter = svm_enter,
	.get_segment = svm_get_segment,
	.set_segment = svm_set_segment,
	.get_code = svm_get_code,
	.get_dtables = svm_get_dtables,
	.set_dtables = svm_set_dtables,
	.sync = svm_sync,
	.get_msr = svm_get_msr,
	.set_msr = svm_set_msr,
	.inject_exception = svm_inject_exception,
	.inject_irq = svm_inject_irq,
	.inject_nmi = svm_inject_nmi,
	.set_nmi_masked = svm_set_nmi_masked,
	.irq_allowed = svm_irq_allowed,
	.nmi_allowed = svm_nmi_allowed,
	.request_irq_window = svm_request_irq_window,
	.request_nmi_window = svm_request_nmi_window,
	.get_int_shadow = svm_get_int_shadow,
	.set_int_shadow = svm_set_int_shadow,
	.flush_tlb = svm_flush_tlb,
};
