// SPDX-License-Identifier: GPL-2.0
/*
 * apic_page.c - a page at the address where LAPICs have their registers in
 * xAPIC mode, for hardware that knows it by its host address: an access of it
 * is one of the virtual APIC's registers, or an exit. It is the module's, one
 * for all, and nothing is ever in it.
 *  1. who may see it,
 *  2. its leaf.
 *
 * Second-level tables are the VM's, but what the page is depends on the vCPU:
 * one that is not in xAPIC mode at that address would find memory there, and
 * share it with other guests even. So there is a leaf only while all vCPUs of
 * the VM take it for their registers. A vCPU that is about to change its mode
 * inhibits it: the leaf and what TLBs have of it go before the change, and none
 * comes while the count is not 0. It allows it after the change the other way.
 * Without the leaf accesses exit as they do anywhere without memory.
 *
 * A slot of the VMM's with that address comes first.
 */
#include "pvhv.h"
#include "tdp.h"

/* As a fault sees it: no address of the VMM's is behind it. */
static struct pvhv_memslot page_slot = {
	.base_gfn = PVHV_APIC_GFN,
	.npages = 1,
};

/* --- 1. who may see it --- */

static void zap_page(struct pvhv_vm *vm, unsigned int inhibits)
{
	LIST_HEAD(dead);
	bool flush;

	write_lock(&vm->mmu_lock);
	WRITE_ONCE(vm->apic_page_inhibits, vm->apic_page_inhibits + inhibits);
	tdp_zap(vm, PVHV_APIC_GFN, PVHV_APIC_GFN + 1, &dead);
	/* Also if another vCPU has zapped it and does not wait any longer than this one. */
	flush = tdp_flush_owed(vm);
	write_unlock(&vm->mmu_lock);
	if (flush)
		pvhv_flush_remote_tlbs(vm);
	tdp_free_tables(vm, &dead, true);
}

void pvhv_apic_page_inhibit(struct pvhv_vm *vm)
{
	zap_page(vm, 1);
}

void pvhv_apic_page_allow(struct pvhv_vm *vm)
{
	write_lock(&vm->mmu_lock);
	WRITE_ONCE(vm->apic_page_inhibits, vm->apic_page_inhibits - 1);
	write_unlock(&vm->mmu_lock);
}

/* Every fault from here on finds the slot. */
void pvhv_apic_page_cover(struct pvhv_vm *vm, const struct pvhv_memslot *slot)
{
	if (PVHV_APIC_GFN - slot->base_gfn < slot->npages)
		zap_page(vm, 0);
}

/* --- 2. the leaf --- */

struct pvhv_memslot *pvhv_apic_page_slot(struct pvhv_vcpu *vcpu, u64 gfn)
{
	/* 0, and a LAPIC: it is among those that take it for their registers. */
	if (gfn != PVHV_APIC_GFN || !vcpu->lapic || READ_ONCE(vcpu->vm->apic_page_inhibits))
		return NULL;
	return &page_slot;
}

bool pvhv_apic_page_is(const struct pvhv_memslot *slot)
{
	return slot == &page_slot;
}

/* Dirty from the start: hardware that notes writes has nothing to note here. Nor is it code. */
bool tdp_apic_leaf(struct pvhv_vm *vm, struct host_leaf *leaf)
{
	if (vm->apic_page_inhibits)
		return false;
	*leaf = (struct host_leaf) {
		.pfn = page_to_pfn(vm->be->apic->access_page()),
		.level = 1,
		.writable = true,
		.dirty = true,
	};
	return true;
}
