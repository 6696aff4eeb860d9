// SPDX-License-Identifier: GPL-2.0
/*
 * tdp_fault.c - second-level faults:
 *  1. reading the host's page table,
 *  2. having the host fault a page in,
 *  3. installing leaves,
 *  4. the fault itself, fast and slow,
 *  5. faults ahead of the guest's: KVM_PRE_FAULT_MEMORY.
 *
 * No page is referenced on the way. Under mmu_lock, with no invalidation of
 * the address in progress, the host's entry can lose nothing: the mm would
 * have to begin an invalidation first, which needs mmu_lock for writing and
 * would then find our leaf. So reading the host's entry and installing the
 * leaf under one hold of mmu_lock is enough, for reading even, and faults of
 * many vCPUs run side by side.
 */
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/trap_pf.h>

#include "pvhv.h"
#include "tdp.h"
#include "trace.h"

/* What mapping can want before it can succeed; kept in vcpu->exit.fault.want. */
enum {
	MAPPED = 0,
	/* 1 ... TDP_MAX_LEVELS - 1: that many tables */
	WANT_ZAP = TDP_MAX_LEVELS,	/* an outdated leaf is in the way */
	WANT_HOST_FAULT,		/* the host has no such page (yet) */
	WANT_WAIT,			/* an invalidation is in progress */
	WANT_IRQS_ON,			/* another try, with interrupts on */
	WANT_EMULATION,			/* it is not memory, or not for writing */
};

struct fault {
	struct pvhv_vm *vm;
	struct pvhv_memslot *slot;
	u64 gfn;
	unsigned long hva;
	bool write;
	unsigned int nr_tables;		/* zeroed pages for new tables */
	u64 *tables[TDP_MAX_LEVELS - 1];
};

/* --- 1. the host's page table --- */

/* Interrupts off: the mm frees page tables only after all CPUs had them on. */
static u64 host_entry(struct mm_struct *mm, unsigned long hva, int *level)
{
	u64 *table = (u64 *)mm->pgd, entry;
	int l;

	for (l = pgtable_l5_enabled() ? 5 : 4;; l--) {
		entry = READ_ONCE(table[tdp_index(hva >> PAGE_SHIFT, l)]);
		if (!(entry & _PAGE_PRESENT) || l == 1 || entry & _PAGE_PSE)
			break;
		table = __va(entry & PTE_PFN_MASK);
	}
	*level = l;
	return entry;
}

/* Presence, user, write and protection key at once. */
static __always_inline bool host_permits(u64 entry, bool write, bool irqs_off)
{
	u64 need = _PAGE_PRESENT | _PAGE_USER | (write ? _PAGE_RW : 0);

	/* PKRU is the guest's still: other keys than 0 have to wait. */
	if (irqs_off)
		return (entry & (need | _PAGE_PKEY_MASK)) == need;
	return pte_access_permitted(__pte(entry), write);
}

/* 0, WANT_HOST_FAULT (not there, or not with this right), WANT_IRQS_ON, -EFAULT. */
static __always_inline int read_host_entry(u64 entry, unsigned long hva, bool write,
					   bool irqs_off, struct host_leaf *leaf)
{
	u64 offset = tdp_span(leaf->level) - 1;

	if (!host_permits(entry, write, irqs_off))
		return irqs_off && entry & _PAGE_PKEY_MASK ? WANT_IRQS_ON : WANT_HOST_FAULT;
	leaf->pfn = ((entry & PTE_PFN_MASK) >> PAGE_SHIFT & ~offset) |
		    (hva >> PAGE_SHIFT & offset);
	/*
	 * Special entries are device memory and the like: not for guests here.
	 * The zero page is the exception, and never writable.
	 */
	if (entry & _PAGE_SPECIAL && !is_zero_pfn(leaf->pfn))
		return -EFAULT;
	leaf->dirty = entry & _PAGE_DIRTY;
	/*
	 * A read does not make a clean page writable: it would have to count
	 * as dirty for as long as it is mapped, see tdp.h.
	 */
	leaf->writable = write || (leaf->dirty && host_permits(entry, true, irqs_off));
	return 0;
}

int pvhv_host_walk(struct mm_struct *mm, unsigned long hva, bool write,
		   struct host_leaf *leaf)
{
	u64 entry;

	local_irq_disable();
	entry = host_entry(mm, hva, &leaf->level);
	local_irq_enable();
	return read_host_entry(entry, hva, write, false, leaf);
}

/* --- 2. having the host fault it in --- */

static int host_fault_error(vm_fault_t fault, unsigned long hva)
{
	if (fault & VM_FAULT_OOM)
		return -ENOMEM;
	if (fault & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) {
		/* The VMM hears of it as of its own access; KVM_RUN ends by it. */
		send_sig_mceerr(BUS_MCEERR_AR, (void __user *)hva, PAGE_SHIFT, current);
		return -EINTR;
	}
	return -EFAULT;
}

/* 0: the host has the page now (try again); -EINTR: a signal is pending. */
static int host_fault(struct mm_struct *mm, unsigned long hva, bool write)
{
	unsigned int flags = FAULT_FLAG_DEFAULT | (write ? FAULT_FLAG_WRITE : 0);
	struct vm_area_struct *vma;
	vm_fault_t fault;

	for (;;) {
		if (mmap_read_lock_killable(mm))
			return -EINTR;
		vma = vma_lookup(mm, hva);
		if (!vma || vma->vm_flags & (VM_IO | VM_PFNMAP) ||
		    !(vma->vm_flags & (write ? VM_WRITE : VM_READ))) {
			mmap_read_unlock(mm);
			return -EFAULT;
		}
		fault = handle_mm_fault(vma, hva, flags, NULL);
		/* In these two cases it has dropped the lock itself. */
		if (fault & VM_FAULT_COMPLETED)
			return 0;
		if (!(fault & VM_FAULT_RETRY))
			break;
		if (signal_pending(current))
			return -EINTR;
		flags |= FAULT_FLAG_TRIED;
	}
	mmap_read_unlock(mm);
	return unlikely(fault & VM_FAULT_ERROR) ? host_fault_error(fault, hva) : 0;
}

/* --- 3. leaves --- */

int pvhv_tdp_fit_level(const struct pvhv_tdp_format *f, const struct pvhv_memslot *slot,
		       u64 gfn, int level)
{
	u64 offset;

	if (level > 2 && f->no_1g)
		level = 2;
	for (level = min(level, 3); level > 1; level--) {
		offset = tdp_span(level) - 1;
		/* Alike within the large page, and the slot has all of it. */
		if (!((slot->hva >> PAGE_SHIFT ^ slot->base_gfn) & offset) &&
		    (gfn & ~offset) >= slot->base_gfn &&
		    (gfn | offset) < slot->base_gfn + slot->npages)
			break;
	}
	return level;
}

static int install_leaf(struct fault *ft, const struct host_leaf *leaf, u64 *p, int level)
{
	const struct pvhv_tdp_format *f = ft->vm->be->tdp;
	bool logs = pvhv_slot_logs_dirty(ft->slot);
	u64 old = READ_ONCE(*p), new;

	new = __sme_set((leaf->pfn & ~(tdp_span(level) - 1)) << PAGE_SHIFT) |
	      f->present | f->accessed | f->memtype_wb;
	if (level > 1)
		new |= f->large;
	if (unlikely(pvhv_apic_page_is(ft->slot)))
		new &= ~f->executable;
	if (leaf->writable && !(ft->slot->flags & KVM_MEM_READONLY)) {
		new |= f->sw_host_writable;
		if (ft->write || !logs)
			new |= f->writable | f->dirty;
		else if (f->logs_dirty)
			new |= f->writable;
	}
	if (ft->write && logs)
		pvhv_mark_dirty(ft->vm, ft->slot, ft->gfn);
	do {
		if (old) {
			/* Somebody was faster, or it is to gain rights. */
			if (unlikely((old ^ new) & TDP_PFN_MASK))
				return WANT_ZAP;
			if (!ft->write || old & f->writable)
				return MAPPED;
			new |= old;
		}
	} while (!try_cmpxchg64(p, &old, new));

	if (!old)
		tdp_stat_add(tdp_leaf_counter(ft->vm, level), 1);
	/* Writable means counted as dirty, from here to the zap. */
	if (ft->write && !leaf->dirty)
		folio_mark_dirty(page_folio(pfn_to_page(leaf->pfn)));
	return MAPPED;
}

/* mmu_lock held for reading. */
static int install(struct fault *ft, const struct host_leaf *leaf)
{
	const struct pvhv_tdp_format *f = ft->vm->be->tdp;
	u64 *table = ft->vm->tdp_root, *p, entry;
	int level = ft->vm->tdp_levels, target = 1;

	if (leaf->level > 1 && !pvhv_slot_logs_dirty(ft->slot))
		target = pvhv_tdp_fit_level(f, ft->slot, ft->gfn, leaf->level);
	for (;; level--) {
		p = &table[tdp_index(ft->gfn, level)];
		entry = READ_ONCE(*p);
		if (level == target) {
			if (!entry || tdp_is_leaf(f, entry, level))
				return install_leaf(ft, leaf, p, level);
			target--;	/* a table is there: small ones then */
		}
		if (!entry) {
			if (!ft->nr_tables)
				return level - target;
			table = ft->tables[ft->nr_tables - 1];
			if (try_cmpxchg64(p, &entry, tdp_table_entry(f, table))) {
				ft->nr_tables--;
				tdp_stat_add(&ft->vm->stat.tdp_pages, 1);
				continue;
			}
			/* Another vCPU's table or leaf is in entry now. */
		}
		if (unlikely(entry & f->large))
			return !ft->write || entry & f->writable ? MAPPED : WANT_ZAP;
		table = tdp_table(entry);
	}
}

/* --- 4. the fault --- */

/* mmu_lock held: a leaf that only the dirty log made read-only, or no longer is. */
static bool restore_write(struct fault *ft)
{
	const struct pvhv_tdp_format *f = ft->vm->be->tdp;
	int level;
	u64 *p = tdp_walk(ft->vm, ft->gfn, &level), entry = READ_ONCE(*p);

	if (entry & f->writable)
		return true;
	if (!(entry & f->sw_host_writable))
		return false;
	if (pvhv_slot_logs_dirty(ft->slot))
		pvhv_mark_dirty(ft->vm, ft->slot, ft->gfn);
	/* Under the lock it can only gain A, D or this same W meanwhile. */
	while (!try_cmpxchg64(p, &entry, entry | f->writable | f->dirty))
		;
	return true;
}

/* mmu_lock held. MAPPED, what is wanted, or -EFAULT. */
static __always_inline int try_map(struct fault *ft, bool irqs_off)
{
	struct pvhv_vm *vm = ft->vm;
	struct host_leaf leaf;
	int r;

	if (unlikely(pvhv_apic_page_is(ft->slot)))
		return tdp_apic_leaf(vm, &leaf) ? install(ft, &leaf) : WANT_EMULATION;
	/* Acquire: if none is in progress, the host's entry is as the last left it. */
	if (unlikely(smp_load_acquire(&vm->mn_active)) && pvhv_hva_invalidating(vm, ft->hva))
		return WANT_WAIT;
	if (irqs_off)
		r = read_host_entry(host_entry(vm->mm, ft->hva, &leaf.level), ft->hva,
				    ft->write, true, &leaf);
	else
		r = pvhv_host_walk(vm->mm, ft->hva, ft->write, &leaf);
	if (r)
		return r;
	/* Marking a page dirty is the file system's code. */
	if (irqs_off && ft->write && !leaf.dirty)
		return WANT_IRQS_ON;
	return install(ft, &leaf);
}

static bool init_fault(struct fault *ft, struct pvhv_vcpu *vcpu)
{
	ft->vm = vcpu->vm;
	ft->gfn = vcpu->exit.fault.gpa >> PAGE_SHIFT;
	ft->slot = pvhv_gfn_to_memslot(ft->vm, ft->gfn);
	if (!ft->slot && !(vcpu->exit.fault.error & X86_PF_INSTR))
		ft->slot = pvhv_apic_page_slot(vcpu, ft->gfn);
	if (!ft->slot)
		return false;
	ft->write = vcpu->exit.fault.error & X86_PF_WRITE;
	if (ft->write && ft->slot->flags & KVM_MEM_READONLY)
		return false;
	ft->hva = pvhv_slot_hva(ft->slot, ft->gfn);
	ft->nr_tables = 0;
	return true;
}

/*
 * Serves what needs neither a new page nor a new table: pages that the dirty
 * log protected, and pages that the host has already.
 */
int pvhv_tdp_fault_fast(struct pvhv_vcpu *vcpu)
{
	u32 error = vcpu->exit.fault.error;
	struct fault ft;
	int r;

	trace_pvhv_tdp_fault(vcpu->id, vcpu->exit.fault.gpa, error);
	vcpu->exit.fault.want = WANT_EMULATION;
	if (!init_fault(&ft, vcpu))
		return pvhv_handle_mmio_fast(vcpu);
	vcpu->stat.tdp_faults++;
	vcpu->exit.fault.want = WANT_IRQS_ON;
	/* No waiting with interrupts off. */
	if (!read_trylock(&ft.vm->mmu_lock))
		return PVHV_SLOW;
	if (ft.write && error & X86_PF_PROT && restore_write(&ft))
		r = MAPPED;
	else
		r = try_map(&ft, true);
	read_unlock(&ft.vm->mmu_lock);
	if (r == MAPPED) {
		vcpu->stat.tdp_fast_faults++;
		return PVHV_RESUME;
	}
	if (r > 0)
		vcpu->exit.fault.want = r;
	return PVHV_SLOW;
}

static int get_tables(struct fault *ft, unsigned int nr)
{
	u64 *table;

	while (ft->nr_tables < nr) {
		table = tdp_alloc_table(GFP_KERNEL);
		if (!table)
			return -ENOMEM;
		ft->tables[ft->nr_tables++] = table;
	}
	return 0;
}

static int map(struct fault *ft, int want)
{
	bool faulted = false;
	int r;

	for (;;) {
		r = 0;
		switch (want) {
		case MAPPED:
			return PVHV_RESUME;
		case WANT_IRQS_ON:
			break;
		case WANT_EMULATION:	/* the APIC's page has gone meanwhile */
			return PVHV_RESUME;
		case WANT_WAIT:
			/* Through the run loop, so that a signal is seen. */
			cond_resched();
			return PVHV_RESUME;
		case WANT_ZAP:
			pvhv_tdp_zap_range(ft->vm, ft->gfn, ft->gfn + 1);
			return PVHV_RESUME;
		case WANT_HOST_FAULT:
			/* Lost again at once: the guest tries again, as above. */
			if (faulted)
				return PVHV_RESUME;
			faulted = true;
			r = host_fault(ft->vm->mm, ft->hva, ft->write);
			if (r == -EINTR)
				return PVHV_RESUME;	/* the run loop ends by it */
			break;
		default:
			r = want < 0 ? want : get_tables(ft, want);
			break;
		}
		if (r)
			return r;
		read_lock(&ft->vm->mmu_lock);
		want = try_map(ft, false);
		read_unlock(&ft->vm->mmu_lock);
	}
}

int pvhv_tdp_fault(struct pvhv_vcpu *vcpu)
{
	struct fault ft;
	int r;

	if (vcpu->exit.fault.want == WANT_EMULATION || !init_fault(&ft, vcpu))
		return PVHV_SLOW;
	r = map(&ft, vcpu->exit.fault.want);
	while (unlikely(ft.nr_tables))
		tdp_free_table(ft.tables[--ft.nr_tables]);
	return r;
}

/* --- 5. ahead of the guest --- */

/* Bytes from gpa on that are mapped now, 0: none. Under srcu. */
static u64 mapped_bytes(struct pvhv_vm *vm, u64 gpa)
{
	u64 entry, span;
	int level;

	read_lock(&vm->mmu_lock);
	entry = READ_ONCE(*tdp_walk(vm, gpa >> PAGE_SHIFT, &level));
	read_unlock(&vm->mmu_lock);
	span = tdp_span(level) << PAGE_SHIFT;
	return entry & vm->be->tdp->present ? span - (gpa & (span - 1)) : 0;
}

/* As the guest's read would: bytes mapped, or -errno. */
static long long prefault_one(struct pvhv_vcpu *vcpu, u64 gpa)
{
	u64 done;
	int r;

	for (;;) {
		if (signal_pending(current))
			return -EINTR;
		if (!pvhv_gfn_to_memslot(vcpu->vm, gpa >> PAGE_SHIFT))
			return -ENOENT;
		done = mapped_bytes(vcpu->vm, gpa);
		if (done)
			return done;
		vcpu->exit.fault.gpa = gpa;
		vcpu->exit.fault.error = 0;
		vcpu->exit.fault.want = WANT_IRQS_ON;
		r = pvhv_tdp_fault(vcpu);
		if (r == PVHV_SLOW)
			return -ENOENT;
		if (r < 0)
			return r;
	}
}

/* The rest that is not mapped is handed back; 0 if anything was. */
long pvhv_ioctl_pre_fault(void *obj, void *data, unsigned long arg)
{
	struct kvm_pre_fault_memory __user *user = (void __user *)arg;
	struct pvhv_vcpu *vcpu = obj;
	struct pvhv_exit saved = vcpu->exit;	/* of an exit that is not completed yet */
	struct kvm_pre_fault_memory range;
	long long r = 0;
	u64 begin;

	if (copy_from_user(&range, user, sizeof(range)))
		return -EFAULT;
	if (range.flags || !PAGE_ALIGNED(range.gpa) || !PAGE_ALIGNED(range.size) ||
	    range.gpa + range.size <= range.gpa)
		return -EINVAL;
	begin = range.gpa;
	while (range.size) {
		r = range.gpa >> PAGE_SHIFT < pvhv_tdp_max_gfn(vcpu->vm) ?
		    prefault_one(vcpu, range.gpa) : -ENOENT;
		if (r < 0)
			break;
		r = min_t(u64, r, range.size);
		range.gpa += r;
		range.size -= r;
		/* Changes of the slots need not wait for the whole range. */
		srcu_read_unlock(&vcpu->vm->srcu, vcpu->srcu_idx);
		cond_resched();
		vcpu->srcu_idx = srcu_read_lock(&vcpu->vm->srcu);
	}
	vcpu->exit = saved;
	if (copy_to_user(user, &range, sizeof(range)))
		return -EFAULT;
	return range.gpa == begin ? r : 0;
}
