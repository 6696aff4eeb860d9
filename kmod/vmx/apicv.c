// SPDX-License-Identifier: GPL-2.0
/*
 * apicv.c - virtual APICs (SDM chapter 30) as lapic_virtual.c wants them: the
 * CPU delivers what is in the virtual-APIC page's IRR when the guest takes
 * interrupts, and carries out EOI, TPR and self IPI by itself: the x2APIC
 * registers' MSRs, or accesses of memory where it finds the APIC-access page.
 */
#include <linux/mm.h>

#include "vmx.h"

static void *vmx_apic_page(struct pvhv_vcpu *vcpu)
{
	return vmx_has_virtual_apic() ? page_address(to_vmx(vcpu)->apic_page) : NULL;
}

/* Nothing is ever in it: that it is there is all. */
static struct page *access_page;

int vmx_apic_init(void)
{
	if (!(vmx_caps.proc2 & SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES))
		return 0;
	access_page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	return access_page ? 0 : -ENOMEM;
}

void vmx_apic_exit(void)
{
	if (access_page)
		__free_page(access_page);
	access_page = NULL;
}

static struct page *vmx_apic_access_page(void)
{
	return access_page;
}

static void vmx_apic_show_page(struct pvhv_vcpu *vcpu, bool show)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vmx_switch(vmx, VMX_PROC2_CONTROLS, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES, show);
	/* Translations are cached together with what they meant (SDM 30.4.1). */
	vmx->flush = true;
}

static void vmx_apic_switch_to(struct pvhv_vcpu *vcpu, enum pvhv_virtual_apic how)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	bool on = how != PVHV_NOT_VIRTUAL;

	vmx_switch(vmx, VMX_PROC2_CONTROLS, VMX_VIRTUAL_APIC, on);
	/* An entry insists on the two together; so notifications mean something only now. */
	vmx->pin = vmx_caps.pin & ~(on ? 0 : PIN_BASED_POSTED_INTR);
	if (how == PVHV_VIRTUAL_XAPIC)
		vmx_switch(vmx, VMX_PROC2_CONTROLS, SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE, false);
	/* These three come with it: the page's TPR is CR8. Else vmx_lend_tpr() begins anew. */
	vmx_switch(vmx, VMX_PROC_CONTROLS, CPU_BASED_TPR_SHADOW, on);
	vmx_switch(vmx, VMX_PROC_CONTROLS,
		   CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING, !on);
	vmx->tpr_lent = false;
	vmx_set(vmx, VMX_TPR_THRESHOLD, 0);
	vmx->eoi_exits_dirty = on;
	vmx->x2apic_direct = how == PVHV_VIRTUAL_X2APIC;
	vmx_use_msr_bitmap(vmx);
}

static u16 vmx_apic_get_status(struct pvhv_vcpu *vcpu)
{
	return vmx_get(to_vmx(vcpu), VMX_INTR_STATUS);
}

static void vmx_apic_set_status(struct pvhv_vcpu *vcpu, u16 status)
{
	vmx_set(to_vmx(vcpu), VMX_INTR_STATUS, status);
}

static void vmx_apic_set_eoi_exits(struct pvhv_vcpu *vcpu, const unsigned long *vectors)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	unsigned long word;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vmx->eoi_exits); i++) {
		word = READ_ONCE(vectors[i]);
		if (vmx->eoi_exits[i] == word)
			continue;
		vmx->eoi_exits[i] = word;
		vmx->eoi_exits_dirty = true;
	}
}

void vmx_write_eoi_exits(struct vmx_vcpu *vmx)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vmx->eoi_exits); i++)
		vmcs_write(EOI_EXIT_BITMAP0 + 2 * i, vmx->eoi_exits[i]);
	vmx->eoi_exits_dirty = false;
}

const struct pvhv_apic_ops vmx_apic_ops = {
	.page = vmx_apic_page,
	.access_page = vmx_apic_access_page,
	.switch_to = vmx_apic_switch_to,
	.show_page = vmx_apic_show_page,
	.get_status = vmx_apic_get_status,
	.set_status = vmx_apic_set_status,
	.set_eoi_exits = vmx_apic_set_eoi_exits,
	.posted = vmx_posted,
	.notify = vmx_notify,
};
