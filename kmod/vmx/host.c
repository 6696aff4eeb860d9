// SPDX-License-Identifier: GPL-2.0
/*
 * host.c - the host's side of VT-x:
 *  1. VMXON and VMXOFF on a CPU,
 *  2. the thread's segments and MSRs, out of the way while a vCPU is loaded,
 *  3. the VMCS's host state: what the CPU loads at an exit (SDM 25.5),
 *  4. the host's performance counters.
 *
 * An exit leaves LDTR empty, TSS and GDT with other limits than Linux gives
 * them, and data segments null. Nothing of it matters to the kernel, so it is
 * put right when the vCPU is put, not after each exit.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/mmu_context.h>
#include <asm/msr.h>
#include <asm/perf_event.h>
#include <asm/tlbflush.h>

#include "vmx.h"

/* Alike on all CPUs. */
static struct {
	u64 msr[VMX_NR_SWITCHED];
	u64 efer, sysenter_eip, idt_base, cr0;
} host;

static const u32 switched_msrs[VMX_NR_SWITCHED] = {
	[VMX_STAR] = MSR_STAR,
	[VMX_LSTAR] = MSR_LSTAR,
	[VMX_SFMASK] = MSR_SYSCALL_MASK,
};

/* --- 1. a host CPU --- */

static int vmxon(u64 pa)
{
	asm goto("1: vmxon %0\n\t"
		 "jbe %l[failed]\n\t"
		 _ASM_EXTABLE(1b, %l[failed])
		 : : "m" (pa) : "cc", "memory" : failed);
	return 0;
failed:
	return -EIO;
}

int vmx_cpu_enable(void)
{
	int r;

	if (cr4_read_shadow() & X86_CR4_VMXE)
		return -EBUSY;	/* another hypervisor has this CPU */
	intel_pt_handle_vmx(1);
	cr4_set_bits(X86_CR4_VMXE);
	r = vmxon(page_to_phys(this_cpu_ptr(&vmx_cpus)->vmxon));
	if (r) {
		cr4_clear_bits(X86_CR4_VMXE);
		intel_pt_handle_vmx(0);
	}
	return r;
}

void vmx_cpu_disable(void)
{
	vmx_vmcs_clear_all();
	asm volatile("vmxoff" : : : "cc", "memory");
	cr4_clear_bits(X86_CR4_VMXE);
	intel_pt_handle_vmx(0);
}

int vmx_host_init(void)
{
	struct desc_ptr idt;
	int cpu, i;

	for (i = 0; i < VMX_NR_SWITCHED; i++)
		rdmsrl(switched_msrs[i], host.msr[i]);
	rdmsrl(MSR_EFER, host.efer);
	rdmsrl(MSR_IA32_SYSENTER_EIP, host.sysenter_eip);
	store_idt(&idt);
	host.idt_base = idt.address;
	host.cr0 = read_cr0() & ~X86_CR0_TS;

	for_each_possible_cpu(cpu) {
		struct vmx_cpu *c = per_cpu_ptr(&vmx_cpus, cpu);

		INIT_LIST_HEAD(&c->active);
		c->vmxon = alloc_pages_node(cpu_to_node(cpu), GFP_KERNEL | __GFP_ZERO, 0);
		if (!c->vmxon) {
			vmx_host_exit();
			return -ENOMEM;
		}
		*(u32 *)page_address(c->vmxon) = vmx_caps.revision;
	}
	return 0;
}

unsigned long vmx_host_entry(u8 vector)
{
	const gate_desc *idt = (const gate_desc *)host.idt_base;

	return gate_offset(&idt[vector]);
}

void vmx_host_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct vmx_cpu *c = per_cpu_ptr(&vmx_cpus, cpu);

		if (c->vmxon)
			__free_page(c->vmxon);
		c->vmxon = NULL;
	}
}

/* --- 2. the thread's state --- */

static void switch_msrs(const u64 *from, const u64 *to)
{
	int i;

	for (i = 0; i < VMX_NR_SWITCHED; i++)
		if (from[i] != to[i])
			wrmsrl(switched_msrs[i], to[i]);
}

void vmx_host_leave(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	savesegment(fs, vmx->host_fs);
	savesegment(gs, vmx->host_gs);
	savesegment(ds, vmx->host_ds);
	savesegment(es, vmx->host_es);
	store_ldt(vmx->host_ldt);
	current_save_fsgs();	/* into current->thread */
	wrmsrl(MSR_KERNEL_GS_BASE, vmx->kernel_gs_base);
	switch_msrs(host.msr, vmx->msr);
	vmx->loaded = true;
}

void vmx_host_return(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx->loaded = false;
	rdmsrl(MSR_KERNEL_GS_BASE, vmx->kernel_gs_base);
	if (unlikely(vmx->host_ldt))
		asm volatile("lldt %0" : : "m" (vmx->host_ldt));
	if (unlikely(vmx->host_ds | vmx->host_es)) {
		loadsegment(ds, vmx->host_ds);
		loadsegment(es, vmx->host_es);
	}
	if (unlikely(vmx->host_fs))
		loadsegment(fs, vmx->host_fs);
	if (unlikely(vmx->host_gs))
		load_gs_index(vmx->host_gs);
	/* Loading a selector sets the base, too. */
	if (unlikely(vmx->host_fs))
		wrmsrl(MSR_FS_BASE, current->thread.fsbase);
	wrmsrl(MSR_KERNEL_GS_BASE, current->thread.gsbase);
	switch_msrs(vmx->msr, host.msr);
	invalidate_tss_limit();
	load_fixmap_gdt(raw_smp_processor_id());
}

/* --- 3. host state in the VMCS --- */

void vmx_host_constants(void)
{
	vmcs_write(HOST_CR0, host.cr0);
	vmcs_write(HOST_IA32_EFER, host.efer);
	vmcs_write(HOST_IDTR_BASE, host.idt_base);
	vmcs_write(HOST_IA32_SYSENTER_CS, __KERNEL_CS);
	vmcs_write(HOST_IA32_SYSENTER_EIP, host.sysenter_eip);
	vmcs_write(HOST_CS_SELECTOR, __KERNEL_CS);
	vmcs_write(HOST_SS_SELECTOR, __KERNEL_DS);
	/* An exit loads no selectors of ring 3. */
	vmcs_write(HOST_DS_SELECTOR, 0);
	vmcs_write(HOST_ES_SELECTOR, 0);
	vmcs_write(HOST_FS_SELECTOR, 0);
	vmcs_write(HOST_GS_SELECTOR, 0);
	vmcs_write(HOST_TR_SELECTOR, GDT_ENTRY_TSS * 8);
	vmcs_write(HOST_RIP, (unsigned long)vmx_exit_point);
}

static void host_cpu(struct vmx_vcpu *vmx)
{
	int cpu = smp_processor_id();
	u64 esp;

	vmcs_write(HOST_TR_BASE, (unsigned long)&get_cpu_entry_area(cpu)->tss.x86_tss);
	vmcs_write(HOST_GDTR_BASE, (unsigned long)get_cpu_gdt_ro(cpu));
	rdmsrl(MSR_IA32_SYSENTER_ESP, esp);
	vmcs_write(HOST_IA32_SYSENTER_ESP, esp);
	rdmsrl(MSR_GS_BASE, vmx->hw_host_gs);
	vmcs_write(HOST_GS_BASE, vmx->hw_host_gs);
	vmx->hw_host_cpu = cpu;
}

static inline void host_field(u64 *hw, unsigned long encoding, u64 value)
{
	if (*hw == value)
		return;
	*hw = value;
	vmcs_write(encoding, value);
}

void vmx_host_refresh(struct vmx_vcpu *vmx)
{
	if (unlikely(vmx->hw_host_cpu != smp_processor_id()))
		host_cpu(vmx);
	host_field(&vmx->hw_host_fs, HOST_FS_BASE, current->thread.fsbase);
	host_field(&vmx->hw_host_cr3, HOST_CR3, __read_cr3());
	host_field(&vmx->hw_host_cr4, HOST_CR4, cr4_read_shadow());
}

/* --- 4. performance counters --- */

/*
 * Those that perf wants to stand still in guests; and PEBS, whose records go
 * to linear addresses, which are the guest's there. It also needs a moment to
 * write the last one: it is off before the entry, not only by it.
 */
void vmx_host_perf(struct vmx_vcpu *vmx)
{
	const struct perf_guest_switch_msr *msr;
	int i, nr;
	u32 n = 0;

	msr = perf_guest_get_msrs(&nr, NULL);
	for (i = 0; msr && i < nr; i++, msr++) {
		if (msr->host == msr->guest || WARN_ON_ONCE(n == VMX_NR_PERF_MSRS))
			continue;
		if (msr->msr == MSR_IA32_PEBS_ENABLE)
			wrmsrl(MSR_IA32_PEBS_ENABLE, 0);
		vmx->perf_guest[n] = (struct vmx_msr_entry){ .index = msr->msr, .value = msr->guest };
		vmx->perf_host[n++] = (struct vmx_msr_entry){ .index = msr->msr, .value = msr->host };
	}
	if (likely(n == vmx->hw_perf_msrs))
		return;
	vmx->hw_perf_msrs = n;
	vmcs_write(VM_ENTRY_MSR_LOAD_COUNT, n);
	vmcs_write(VM_EXIT_MSR_LOAD_COUNT, n);
}
