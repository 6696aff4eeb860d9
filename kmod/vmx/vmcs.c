// SPDX-License-Identifier: GPL-2.0
/*
 * vmcs.c - VMCSs as objects:
 *  1. on which CPU one is active, current, launched (SDM 25.1),
 *  2. their fields, read when somebody asks and written before an entry.
 *
 * A VMCS stays active on the CPU where its vCPU ran last, so that coming back
 * costs nothing, and is cleared there, by an IPI, when the vCPU runs elsewhere.
 * vmx->vmcs_cpu is written by the CPU concerned with interrupts off, or by the
 * vCPU's own thread while it is -1.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/smp.h>

#include "vmx.h"

DEFINE_PER_CPU(struct vmx_cpu, vmx_cpus);

/* --- 1. active, current, launched --- */

static void vmclear(u64 pa)
{
	asm volatile("vmclear %0" : : "m" (pa) : "cc", "memory");
}

static void vmptrld(u64 pa)
{
	asm volatile("vmptrld %0" : : "m" (pa) : "cc", "memory");
}

/* On the CPU where it is active, irqs off. */
static void deactivate(struct vmx_vcpu *vmx)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpus);

	vmclear(vmx->vmcs_pa);
	if (c->current_vmcs == vmx)
		c->current_vmcs = NULL;
	list_del(&vmx->link);
	vmx->launched = false;
	/* All of the above before another CPU may take it. */
	smp_store_release(&vmx->vmcs_cpu, -1);
}

static void deactivate_here(void *data)
{
	struct vmx_vcpu *vmx = data;

	if (vmx->vmcs_cpu == smp_processor_id())
		deactivate(vmx);
}

void vmx_vmcs_leave_other_cpu(struct vmx_vcpu *vmx)
{
	int cpu = smp_load_acquire(&vmx->vmcs_cpu);

	/* A CPU that went offline has cleared it: then there is nobody to ask. */
	if (cpu >= 0 && cpu != smp_processor_id())
		smp_call_function_single(cpu, deactivate_here, vmx, 1);
}

void vmx_vmcs_make_current(struct vmx_vcpu *vmx)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpus);

	if (likely(c->current_vmcs == vmx))
		return;
	if (unlikely(vmx->vmcs_cpu != smp_processor_id())) {
		vmclear(vmx->vmcs_pa);
		list_add(&vmx->link, &c->active);
		vmx->vmcs_cpu = smp_processor_id();
	}
	vmptrld(vmx->vmcs_pa);
	c->current_vmcs = vmx;
}

void vmx_vmcs_clear_all(void)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpus);

	while (!list_empty(&c->active))
		deactivate(list_first_entry(&c->active, struct vmx_vcpu, link));
}

static bool alloc_zeroed(struct page **page, bool wanted)
{
	if (wanted)
		*page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	return !wanted || *page;
}

static void free_pages_of(struct vmx_vcpu *vmx)
{
	if (vmx->apic_page)
		__free_page(vmx->apic_page);
	if (vmx->write_log)
		__free_page(vmx->write_log);
	if (vmx->vmcs)
		__free_page(vmx->vmcs);
}

int vmx_vmcs_alloc(struct vmx_vcpu *vmx)
{
	if (!alloc_zeroed(&vmx->vmcs, true) ||
	    !alloc_zeroed(&vmx->write_log, vmx_caps.proc2 & SECONDARY_EXEC_ENABLE_PML) ||
	    !alloc_zeroed(&vmx->apic_page, vmx_caps.proc & CPU_BASED_TPR_SHADOW)) {
		free_pages_of(vmx);
		return -ENOMEM;
	}
	*(u32 *)page_address(vmx->vmcs) = vmx_caps.revision;
	vmx->vmcs_pa = page_to_phys(vmx->vmcs);
	vmx->vmcs_cpu = -1;
	vmx->hw_host_cpu = -1;
	/* Nothing is in it yet: what was not set is 0, and is to be written. */
	vmx->known = GENMASK_ULL(VMX_NR_FIELDS - 1, 0);
	vmx->dirty = vmx->known;
	/* Not every CPU has these. */
	if (!(vmx_caps.proc2 & SECONDARY_EXEC_TSC_SCALING))
		vmx->dirty &= ~BIT_ULL(VMX_TSC_MULTIPLIER);
	if (!vmx->apic_page)
		vmx->dirty &= ~BIT_ULL(VMX_TPR_THRESHOLD);
	if (!vmx_has_virtual_apic())
		vmx->dirty &= ~BIT_ULL(VMX_INTR_STATUS);
	return 0;
}

void vmx_vmcs_free(struct vmx_vcpu *vmx)
{
	unsigned long flags;

	preempt_disable();
	vmx_vmcs_leave_other_cpu(vmx);
	local_irq_save(flags);
	deactivate_here(vmx);
	local_irq_restore(flags);
	preempt_enable();
	free_pages_of(vmx);
}

/* --- 2. fields --- */

#define SEGMENT(name)						\
	GUEST_##name##_SELECTOR, GUEST_##name##_BASE,		\
	GUEST_##name##_LIMIT, GUEST_##name##_AR_BYTES

static const u16 encodings[VMX_NR_FIELDS] = {
	SEGMENT(ES), SEGMENT(CS), SEGMENT(SS), SEGMENT(DS),
	SEGMENT(FS), SEGMENT(GS), SEGMENT(LDTR), SEGMENT(TR),
	[VMX_GDTR_BASE] = GUEST_GDTR_BASE,
	[VMX_GDTR_LIMIT] = GUEST_GDTR_LIMIT,
	[VMX_IDTR_BASE] = GUEST_IDTR_BASE,
	[VMX_IDTR_LIMIT] = GUEST_IDTR_LIMIT,
	[VMX_SYSENTER_CS] = GUEST_SYSENTER_CS,
	[VMX_SYSENTER_ESP] = GUEST_SYSENTER_ESP,
	[VMX_SYSENTER_EIP] = GUEST_SYSENTER_EIP,
	[VMX_CR0] = GUEST_CR0,
	[VMX_CR0_SHADOW] = CR0_READ_SHADOW,
	[VMX_CR3] = GUEST_CR3,
	[VMX_CR4] = GUEST_CR4,
	[VMX_CR4_SHADOW] = CR4_READ_SHADOW,
	[VMX_EFER] = GUEST_IA32_EFER,
	[VMX_DR7] = GUEST_DR7,
	[VMX_INTERRUPTIBILITY] = GUEST_INTERRUPTIBILITY_INFO,
	[VMX_ACTIVITY] = GUEST_ACTIVITY_STATE,
	[VMX_PENDING_DEBUG] = GUEST_PENDING_DBG_EXCEPTIONS,
	[VMX_PDPTE0] = GUEST_PDPTR0,
	[VMX_PDPTE1] = GUEST_PDPTR1,
	[VMX_PDPTE2] = GUEST_PDPTR2,
	[VMX_PDPTE3] = GUEST_PDPTR3,
	[VMX_PROC_CONTROLS] = CPU_BASED_VM_EXEC_CONTROL,
	[VMX_PROC2_CONTROLS] = SECONDARY_VM_EXEC_CONTROL,
	[VMX_ENTRY_CONTROLS] = VM_ENTRY_CONTROLS,
	[VMX_EXCEPTIONS] = EXCEPTION_BITMAP,
	[VMX_TSC_OFFSET] = TSC_OFFSET,
	[VMX_TSC_MULTIPLIER] = TSC_MULTIPLIER,
	[VMX_MSR_BITMAP] = MSR_BITMAP,
	[VMX_ENTRY_EVENT] = VM_ENTRY_INTR_INFO_FIELD,
	[VMX_ENTRY_ERROR] = VM_ENTRY_EXCEPTION_ERROR_CODE,
	[VMX_TPR_THRESHOLD] = TPR_THRESHOLD,
	[VMX_INTR_STATUS] = GUEST_INTR_STATUS,
};

static u64 read_field(struct vmx_vcpu *vmx, enum vmx_field f)
{
	vmx_learn(vmx, f, vmcs_read(encodings[f]));
	return vmx->field[f];
}

/*
 * Also for ioctls, whose thread has not loaded the vCPU. Where virtualization
 * is off the machine is on its way down, and what is read does not matter.
 */
u64 vmx_fetch(struct vmx_vcpu *vmx, enum vmx_field f)
{
	unsigned long flags;
	u64 value = 0;

	/* Between an exit and the next entry. */
	if (likely(irqs_disabled() && this_cpu_read(vmx_cpus.current_vmcs) == vmx))
		return read_field(vmx, f);
	preempt_disable();
	vmx_vmcs_leave_other_cpu(vmx);
	local_irq_save(flags);
	if (likely(this_cpu_read(pvhv_virt_on))) {
		vmx_vmcs_make_current(vmx);
		value = read_field(vmx, f);
	}
	local_irq_restore(flags);
	preempt_enable();
	return value;
}

void vmx_write_dirty(struct vmx_vcpu *vmx)
{
	while (vmx->dirty) {
		int f = __ffs64(vmx->dirty);

		vmcs_write(encodings[f], vmx->field[f]);
		vmx->dirty &= vmx->dirty - 1;
	}
}
