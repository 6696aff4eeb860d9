// SPDX-License-Identifier: GPL-2.0
/*
 * vmx.c - the VT-x backend:
 *  1. is the hardware there, and what does it need,
 *  2. VMs and vCPUs, onto and off a CPU,
 *  3. vmx_enter(): one run of the guest until one exit,
 *  4. the ops table.
 * VMCSs are vmcs.c's, the host's state is host.c's.
 */
#include <linux/hw_breakpoint.h>
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/irq_vectors.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/special_insns.h>
#include <asm/spec-ctrl.h>

#include "vmx.h"
#include "../trace.h"

#define PLE_GAP_TICKS		128	/* PAUSEs closer than this are one loop */
#define PLE_WINDOW_TICKS	4096	/* a loop longer than this exits */

#define WRITE_LOG_ENTRIES	512	/* SDM 29.3.6 */

static DEFINE_IDA(vpids);

/* --- 1. the hardware --- */

static struct pvhv_tdp_format vmx_ept_format = {
	.present = VMX_EPT_READABLE_MASK | VMX_EPT_EXECUTABLE_MASK,
	.executable = VMX_EPT_EXECUTABLE_MASK,
	.writable = VMX_EPT_WRITABLE_MASK,
	.accessed = VMX_EPT_ACCESS_BIT,		/* if the CPU has them: caps.c */
	.dirty = VMX_EPT_DIRTY_BIT,
	.large = BIT_ULL(7),
	/* Whatever the guest's PAT says: no two memory types for one page. */
	.memtype_wb = (u64)VMX_EPTP_MT_WB << VMX_EPT_MT_EPTE_SHIFT | VMX_EPT_IPAT_BIT,
	.sw_host_writable = BIT_ULL(11),
};

static int vmx_probe(void)
{
	int r;

	r = vmx_probe_caps(&vmx_ept_format);
	if (r)
		return r;
	r = vmx_permissions_init();
	if (r)
		return r;
	r = vmx_apic_init();
	if (r)
		goto err_permissions;
	r = vmx_host_init();
	if (r)
		goto err_apic;
	return 0;

err_apic:
	vmx_apic_exit();
err_permissions:
	vmx_permissions_exit();
	return r;
}

static bool vmx_scales_tsc(void)
{
	return vmx_caps.proc2 & SECONDARY_EXEC_TSC_SCALING;
}

static void vmx_remove(void)
{
	vmx_host_exit();
	vmx_apic_exit();
	vmx_permissions_exit();
}

/* --- 2. VMs and vCPUs --- */

static int vmx_vm_init(struct pvhv_vm *vm)
{
	return pvhv_tdp_init(vm, pgtable_l5_enabled() && vmx_caps.ept_5_levels ? 5 : 4);
}

static void vmx_vm_destroy(struct pvhv_vm *vm)
{
	pvhv_tdp_destroy(vm);
}

static void init_controls(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u32 disabled = vcpu->vm->disabled_exits;
	u64 proc = vmx_caps.proc, proc2 = vmx_caps.proc2;

	proc &= ~(CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING |
		  CPU_BASED_TPR_SHADOW /* vmx_lend_tpr() */);
	if (disabled & KVM_X86_DISABLE_EXITS_HLT)
		proc &= ~CPU_BASED_HLT_EXITING;
	if (disabled & KVM_X86_DISABLE_EXITS_MWAIT)
		proc &= ~(CPU_BASED_MWAIT_EXITING | CPU_BASED_MONITOR_EXITING);
	if (disabled & KVM_X86_DISABLE_EXITS_PAUSE)
		proc2 &= ~SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	proc2 &= ~(SECONDARY_EXEC_TSC_SCALING /* vmx_sync() */ |
		   VMX_VIRTUAL_APIC | SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES /* vmx_apic_ops */);
	if (!vmx->vpid)
		proc2 &= ~SECONDARY_EXEC_ENABLE_VPID;
	vmx->pin = vmx_caps.pin & ~PIN_BASED_POSTED_INTR /* vmx_apic_ops */;
	vmx_set(vmx, VMX_PROC_CONTROLS, proc);
	vmx_set(vmx, VMX_PROC2_CONTROLS, proc2);
	vmx_set(vmx, VMX_ENTRY_CONTROLS, vmx_caps.entry & ~VM_ENTRY_IA32E_MODE);
	vmx_set(vmx, VMX_EXCEPTIONS,
		BIT(X86_TRAP_MC) | BIT(X86_TRAP_UD) /* pvhv_fix_hypercall() */ |
		/* These two can loop for ever in microcode while delivered. */
		BIT(X86_TRAP_AC) | BIT(X86_TRAP_DB));
	vmx_lend_debug_registers(vcpu, false);
	vmx_use_msr_bitmap(vmx);
}

static int vmx_vcpu_init(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_vm *vm = vcpu->vm;
	struct vmx_vcpu *vmx;
	int r;

	vmx = kzalloc(sizeof(*vmx), GFP_KERNEL_ACCOUNT);
	if (!vmx)
		return -ENOMEM;
	r = vmx_vmcs_alloc(vmx);
	if (r) {
		kfree(vmx);
		return r;
	}
	/* Without one all translations go at each entry and exit, no more. */
	if (vmx_caps.proc2 & SECONDARY_EXEC_ENABLE_VPID) {
		r = ida_alloc_range(&vpids, 1, VMX_NR_VPIDS - 1, GFP_KERNEL);
		vmx->vpid = max(r, 0);
	}
	vmx->eptp = vm->tdp_root_pa | VMX_EPTP_MT_WB |
		    (vm->tdp_levels == 5 ? VMX_EPTP_PWL_5 : VMX_EPTP_PWL_4) |
		    (vm->be->tdp->has_ad ? VMX_EPTP_AD_ENABLE_BIT : 0);
	vcpu->backend_data = vmx;
	/* Deep sleep stops the timer. */
	vcpu->ends_at_deadline = vmx_caps.longest_stay &&
		!(vm->disabled_exits & (KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_MWAIT));
	init_controls(vcpu);
	return 0;
}

static void vmx_vcpu_destroy(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	int cpu;

	vmx_vmcs_free(vmx);
	/* A later vCPU at the same address must not pass for this one. */
	for_each_possible_cpu(cpu)
		cmpxchg(&per_cpu_ptr(&vmx_cpus, cpu)->last, vmx, NULL);
	if (vmx->vpid)
		ida_free(&vpids, vmx->vpid);
	kfree(vmx);
}

static void vmx_vcpu_reset(struct pvhv_vcpu *vcpu, bool init)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	int i;

	vmx_set(vmx, VMX_ENTRY_EVENT, 0);
	vmx_set(vmx, VMX_INTERRUPTIBILITY, 0);
	vmx_set(vmx, VMX_ACTIVITY, GUEST_ACTIVITY_ACTIVE);
	vmx_set(vmx, VMX_PENDING_DEBUG, 0);
	vmx_switch(vmx, VMX_PROC_CONTROLS,
		   CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING, false);
	if (init)
		return;
	for (i = VMX_SYSENTER_CS; i <= VMX_SYSENTER_EIP; i++)
		vmx_set(vmx, i, 0);
	vmx_set_msr(vcpu, MSR_STAR, 0);
	vmx_set_msr(vcpu, MSR_LSTAR, 0);
	vmx_set_msr(vcpu, MSR_CSTAR, 0);
	vmx_set_msr(vcpu, MSR_SYSCALL_MASK, 0);
	vmx_set_msr(vcpu, MSR_KERNEL_GS_BASE, 0);
}

static void vmx_load(struct pvhv_vcpu *vcpu, int cpu)
{
	struct vmx_cpu *c = per_cpu_ptr(&vmx_cpus, cpu);
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx_vmcs_leave_other_cpu(vmx);
	if (c->last != vmx) {
		c->last = vmx;
		indirect_branch_prediction_barrier();
	}
	/* Other vCPUs' flushes were for the CPU it came from. */
	if (vcpu->last_cpu != cpu)
		vmx->flush = true;
	vmx_host_leave(vcpu);
	vmx->host_debugctl = get_debugctlmsr();
	if (vcpu->guest_has_rdtscp)
		wrmsrl(MSR_TSC_AUX, vcpu->tsc_aux);
	vmx->tsc_aux_live = vcpu->tsc_aux;
	vmx->slice_end = 0;
}

static void vmx_put(struct pvhv_vcpu *vcpu)
{
	vmx_host_return(vcpu);
	/* Same value the kernel set up for its vDSO (arch/x86 cpu_init()). */
	if (vcpu->guest_has_rdtscp)
		wrmsrl(MSR_TSC_AUX, (cpu_to_node(vcpu->cpu) << 12) | vcpu->cpu);
}

/* --- 3. one run --- */

/* What never changes, once, into the current VMCS. */
static void begin_vmcs(struct vmx_vcpu *vmx)
{
	vmcs_write(VM_EXIT_CONTROLS, vmx_caps.exit);
	vmcs_write(EPT_POINTER, vmx->eptp);
	vmcs_write(VIRTUAL_PROCESSOR_ID, vmx->vpid);
	vmcs_write(VMCS_LINK_POINTER, ~0ULL);
	vmcs_write(CR0_GUEST_HOST_MASK, ~0UL);
	vmcs_write(CR4_GUEST_HOST_MASK, ~0UL);
	vmcs_write(PAGE_FAULT_ERROR_CODE_MASK, 0);
	vmcs_write(PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmcs_write(CR3_TARGET_COUNT, 0);
	vmcs_write(VM_EXIT_MSR_STORE_COUNT, 0);
	vmcs_write(VM_EXIT_MSR_LOAD_COUNT, 0);
	vmcs_write(VM_EXIT_MSR_LOAD_ADDR, __pa(vmx->perf_host));
	vmcs_write(VM_ENTRY_MSR_LOAD_COUNT, 0);
	vmcs_write(VM_ENTRY_MSR_LOAD_ADDR, __pa(vmx->perf_guest));
	vmcs_write(VM_ENTRY_INSTRUCTION_LEN, vmx_caps.int_n_length);
	vmcs_write(GUEST_IA32_DEBUGCTL, 0);
	if (vmx_caps.proc2 & SECONDARY_EXEC_PAUSE_LOOP_EXITING) {
		vmcs_write(PLE_GAP, PLE_GAP_TICKS);
		vmcs_write(PLE_WINDOW, PLE_WINDOW_TICKS);
	}
	if (vmx_caps.longest_stay)
		vmcs_write(VMX_PREEMPTION_TIMER_VALUE, vmx->hw_timer);
	if (vmx->write_log) {
		vmcs_write(PML_ADDRESS, page_to_phys(vmx->write_log));
		vmcs_write(GUEST_PML_INDEX, WRITE_LOG_ENTRIES - 1);
	}
	if (vmx->apic_page)
		vmcs_write(VIRTUAL_APIC_PAGE_ADDR, page_to_phys(vmx->apic_page));
	if (vmx_apic_ops.access_page())
		vmcs_write(APIC_ACCESS_ADDR, page_to_phys(vmx_apic_ops.access_page()));
	if (vmx_caps.pin & PIN_BASED_POSTED_INTR) {
		vmcs_write(POSTED_INTR_NV, POSTED_INTR_VECTOR);
		vmcs_write(POSTED_INTR_DESC_ADDR, __pa(&vmx->posted));
	}
	if (vmx_caps.proc2 & PVHV_SECONDARY_EXEC_XSAVES)
		vmcs_write(XSS_EXIT_BITMAP, 0);
	vmx_host_constants();
	vmcs_write(GUEST_RIP, vmx->hw_rip);
	vmcs_write(GUEST_RSP, vmx->hw_rsp);
	vmcs_write(GUEST_RFLAGS, vmx->hw_rflags);
	vmcs_write(HOST_FS_BASE, vmx->hw_host_fs);
	vmcs_write(HOST_CR3, vmx->hw_host_cr3);
	vmcs_write(HOST_CR4, vmx->hw_host_cr4);
	vmx->begun = true;
}

/*
 * All translations of a guest with second-level paging are tagged by the EPT
 * pointer (SDM 29.4.1), so this one instruction drops what INVVPID would, too.
 */
static void invept(struct vmx_vcpu *vmx)
{
	struct {
		u64 eptp, reserved;
	} operand = { .eptp = vmx->eptp };
	unsigned long type = vmx_caps.invept_context ? VMX_EPT_EXTENT_CONTEXT : VMX_EPT_EXTENT_GLOBAL;

	asm volatile("invept %0, %1" : : "m" (operand), "r" (type) : "cc", "memory");
}

static void vmx_flush_tlb(struct pvhv_vcpu *vcpu)
{
	to_vmx(vcpu)->flush = true;
}

static inline void guest_field(u64 *hw, unsigned long encoding, u64 value)
{
	if (*hw == value)
		return;
	*hw = value;
	vmcs_write(encoding, value);
}

static void load_debug_registers(struct pvhv_vcpu *vcpu)
{
	pvhv_load_debug_addresses(vcpu);
	if (to_vmx(vcpu)->dr_lent)
		set_debugreg(vcpu->dr6, 6);
}

static void take_back_debug_registers(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	unsigned long dr6;

	pvhv_save_debug_addresses(vcpu);
	get_debugreg(dr6, 6);
	vcpu->dr6 = dr6;
	/* The host's handlers take what they find there for theirs. */
	set_debugreg(DR6_RESERVED, 6);
	vmx->field[VMX_DR7] = vmcs_read(GUEST_DR7);
	vcpu->dr7 = vmx->field[VMX_DR7];
	vmx_lend_debug_registers(vcpu, false);
}

/*
 * With vmx_slice_us: the timer begins anew with each entry, and a guest whose
 * exits are all handled with interrupts off never sees its end. That one is
 * stopped here: interrupts come on, and what was to go in goes in afterwards.
 */
static bool slice_is_over(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u64 now = rdtsc();

	if (!vmx->slice_end)
		vmx->slice_end = now + vmx_caps.slice;
	if (likely(now < vmx->slice_end))
		return false;
	vmx->slice_end = 0;
	vcpu->event_check = true;
	vcpu->exit.kind = PVHV_EXIT_INTR;
	return true;
}

/*
 * The preemption timer ends the stay at the guest's TSC deadline. It counts
 * where the TSC's bit timer_shift changes, the first time perhaps at once; it
 * must not come early.
 */
static void set_timer(struct pvhv_vcpu *vcpu)
{
	u64 until = READ_ONCE(vcpu->enter_until), stay = vmx_caps.longest_stay;

	if (until) {
		u64 now = pvhv_read_tsc(vcpu);

		stay = until <= now ? 0 :
		       min(stay, (pvhv_tsc_host_ticks(vcpu, until - now) >> vmx_caps.timer_shift) + 2);
	}
	guest_field(&to_vmx(vcpu)->hw_timer, VMX_PREEMPTION_TIMER_VALUE, stay);
}

static void prepare(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if (unlikely(this_cpu_read(vmx_cpus.current_vmcs) != vmx))
		vmx_vmcs_make_current(vmx);
	if (unlikely(!vmx->begun))
		begin_vmcs(vmx);
	vmx_host_refresh(vmx);
	if (vmx_caps.perf)
		vmx_host_perf(vmx);
	if ((vmx->known & BIT_ULL(VMX_INTERRUPTIBILITY)) && vmx->field[VMX_INTERRUPTIBILITY])
		vmx_fix_shadow(vcpu);
	if (unlikely(vmx->tpr_lent))
		vmx_load_tpr(vcpu);
	if (vmx_caps.longest_stay)
		set_timer(vcpu);
	if (unlikely(vmx->eoi_exits_dirty))
		vmx_write_eoi_exits(vmx);
	if (vmx->dirty)
		vmx_write_dirty(vmx);
	guest_field(&vmx->hw_pin, PIN_BASED_VM_EXEC_CONTROL, vmx->pin);
	guest_field(&vmx->hw_rip, GUEST_RIP, vcpu->rip - vmx->rip_back);
	guest_field(&vmx->hw_rsp, GUEST_RSP, vcpu->gpr[PVHV_RSP]);
	guest_field(&vmx->hw_rflags, GUEST_RFLAGS, vcpu->rflags);
	if (unlikely(native_read_cr2() != vcpu->cr2))
		native_write_cr2(vcpu->cr2);
	if (unlikely(vmx->tsc_aux_live != vcpu->tsc_aux)) {
		vmx->tsc_aux_live = vcpu->tsc_aux;
		wrmsrl(MSR_TSC_AUX, vcpu->tsc_aux);
	}
	if (unlikely(vmx->flush)) {
		vmx->flush = false;
		invept(vmx);
	}
	if (unlikely(vmx->dr_lent || (vmx->field[VMX_DR7] & PVHV_DR7_ENABLES)))
		load_debug_registers(vcpu);
	if (vmx_caps.flush_l1d)
		native_wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
}

/* The log is filled from its end; the index is the next entry, or wrapped around below the first. */
static void empty_write_log(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	const u64 *log = page_address(vmx->write_log);
	u16 index = vmcs_read(GUEST_PML_INDEX), i;

	if (index == WRITE_LOG_ENTRIES - 1)
		return;
	for (i = index < WRITE_LOG_ENTRIES ? index + 1 : 0; i < WRITE_LOG_ENTRIES; i++)
		pvhv_log_written(vcpu->vm, log[i]);
	vmcs_write(GUEST_PML_INDEX, WRITE_LOG_ENTRIES - 1);
}

static void enter_failed(struct pvhv_vcpu *vcpu)
{
	struct pvhv_exit *e = &vcpu->exit;

	e->kind = PVHV_EXIT_FAIL_ENTRY;
	e->hw_reason = vmcs_read(VM_INSTRUCTION_ERROR);
	e->next_rip = 0;
	e->nr_bytes = 0;
	vmx_set(to_vmx(vcpu), VMX_ENTRY_EVENT, 0);
	to_vmx(vcpu)->rip_back = 0;
}

/* What went in as INT n has not arrived: RIP is where it was to come from. */
static void put_rip_right(struct pvhv_vcpu *vcpu, u32 reason)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if ((reason & VMX_EXIT_REASONS_FAILED_VMENTRY) || vcpu->irq.injected)
		vcpu->rip += vmx->rip_back;
	vmx->rip_back = 0;
}

/* Exits after an instruction: a single step that waits behind one is due. */
static bool trap_like(u16 reason)
{
	return reason == EXIT_REASON_INIT_SIGNAL || reason == EXIT_REASON_TPR_BELOW_THRESHOLD ||
	       reason == EXIT_REASON_EOI_INDUCED || reason == EXIT_REASON_APIC_WRITE;
}

static void vmx_enter(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	struct vmx_speculation spec = {
		.guest_spec_ctrl = vcpu->spec_ctrl,
		.host_spec_ctrl = this_cpu_read(x86_spec_ctrl_current),
	};
	u32 reason;
	int failed;

	if (unlikely(vmx_caps.slice) && slice_is_over(vcpu))
		return;
	spec.restore = spec.guest_spec_ctrl != spec.host_spec_ctrl ||
		       cpu_feature_enabled(X86_FEATURE_KERNEL_IBRS);
	prepare(vcpu);

	failed = vmx_world_switch(vcpu->gpr, vmx->launched, &vmx->hw_host_rsp, &spec);

	vcpu->cr2 = native_read_cr2();
	if (unlikely(vmx->host_debugctl))
		update_debugctlmsr(vmx->host_debugctl);	/* an exit clears it */
	if (unlikely(vmx->dr_lent))
		take_back_debug_registers(vcpu);
	if (unlikely(vmx->tpr_lent))
		vmx_save_tpr(vcpu);
	if (unlikely(hw_breakpoint_active()))
		hw_breakpoint_restore();
	vmx->known &= ~VMX_GUEST_CHANGES;
	if (unlikely(failed)) {
		enter_failed(vcpu);
		return;
	}
	if (unlikely(READ_ONCE(vcpu->vm->dirty_logged)) && vmx->write_log)
		empty_write_log(vcpu);
	reason = vmcs_read(VM_EXIT_REASON);
	vmx->launched = !(reason & VMX_EXIT_REASONS_FAILED_VMENTRY) || vmx->launched;
	vmx->hw_rip = vmcs_read(GUEST_RIP);
	vmx->hw_rsp = vmcs_read(GUEST_RSP);
	vmx->hw_rflags = vmcs_read(GUEST_RFLAGS);
	vcpu->rip = vmx->hw_rip;
	vcpu->gpr[PVHV_RSP] = vmx->hw_rsp;
	vcpu->rflags = vmx->hw_rflags;
	vcpu->cr3 = vmcs_read(GUEST_CR3);
	vmx_learn(vmx, VMX_CR3, vcpu->cr3);
	if (unlikely((vcpu->rflags & X86_EFLAGS_TF) && !trap_like(reason)))
		vmx_forget_step(vcpu);
	/* The end of an NMI handler is seen by looking; only injection begins one. */
	if (unlikely(vcpu->nmi_masked))
		vcpu->nmi_masked = vmx_get(vmx, VMX_INTERRUPTIBILITY) & GUEST_INTR_STATE_NMI;

	if (unlikely((u16)reason == EXIT_REASON_MCE_DURING_VMENTRY ||
		     ((u16)reason == EXIT_REASON_EXCEPTION_NMI &&
		      (vmcs_read(VM_EXIT_INTR_INFO) & INTR_INFO_VECTOR_MASK) == X86_TRAP_MC)))
		pvhv_host_machine_check();
	if (likely(!(reason & VMX_EXIT_REASONS_FAILED_VMENTRY))) {
		u32 info = vmcs_read(IDT_VECTORING_INFO_FIELD);

		pvhv_events_entered(vcpu);
		if (unlikely(info & VECTORING_INFO_VALID_MASK))
			vmx_requeue_events(vcpu, info);
	}
	if (unlikely(vmx->rip_back))
		put_rip_right(vcpu, reason);
	vmx_normalise_exit(vcpu, reason);
}

/* --- 4. the ops table --- */

const struct pvhv_backend pvhv_vmx_backend = {
	.name = "vmx",
	.hypercall = { 0x0f, 0x01, 0xc1 },	/* VMCALL */

	.tdp = &vmx_ept_format,
	.apic = &vmx_apic_ops,
	.probe = vmx_probe,
	.remove = vmx_remove,
	.scales_tsc = vmx_scales_tsc,
	.cpu_enable = vmx_cpu_enable,
	.cpu_disable = vmx_cpu_disable,
	.vm_init = vmx_vm_init,
	.vm_destroy = vmx_vm_destroy,
	.vcpu_init = vmx_vcpu_init,
	.vcpu_destroy = vmx_vcpu_destroy,
	.vcpu_reset = vmx_vcpu_reset,
	.load = vmx_load,
	.put = vmx_put,
	.enter = vmx_enter,
	.take_interrupt = vmx_take_interrupt,
	.get_segment = vmx_get_segment,
	.set_segment = vmx_set_segment,
	.get_code = vmx_get_code,
	.get_dtables = vmx_get_dtables,
	.set_dtables = vmx_set_dtables,
	.sync = vmx_sync,
	.get_msr = vmx_get_msr,
	.set_msr = vmx_set_msr,
	.inject_exception = vmx_inject_exception,
	.inject_irq = vmx_inject_irq,
	.inject_nmi = vmx_inject_nmi,
	.set_nmi_masked = vmx_set_nmi_masked,
	.irq_allowed = vmx_irq_allowed,
	.nmi_allowed = vmx_nmi_allowed,
	.request_irq_window = vmx_request_irq_window,
	.request_nmi_window = vmx_request_nmi_window,
	.get_int_shadow = vmx_get_int_shadow,
	.set_int_shadow = vmx_set_int_shadow,
	.flush_tlb = vmx_flush_tlb,
};
