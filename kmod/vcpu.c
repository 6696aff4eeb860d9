// SPDX-License-Identifier: GPL-2.0
/*
 * vcpu.c - a vCPU:
 *  1. its creation and end,
 *  2. onto and off a host CPU, with the scheduler's preempt notifiers,
 *  3. kicks from other threads,
 *  4. reset,
 *  5. its file descriptor: mmap and ioctls. State ioctls: vcpu_state.c.
 */
#include <linux/anon_inodes.h>
#include <linux/cpumask.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include "pvhv.h"

/* --- 2. onto and off a host CPU --- */

static void load_on(struct pvhv_vcpu *vcpu, int cpu)
{
	int last = vcpu->last_cpu;

	vcpu->cpu = cpu;
	vcpu->be->load(vcpu, cpu);
	pvhv_clock_vcpu_load(vcpu, cpu, last);
	if (last != cpu) {
		if (vcpu->lapic)
			pvhv_lapic_timer_migrate(vcpu);
		vcpu->last_cpu = cpu;
	}
}

static void put_from(struct pvhv_vcpu *vcpu)
{
	vcpu->be->put(vcpu);
	pvhv_clock_vcpu_put(vcpu);
	vcpu->cpu = -1;
}

static void sched_in(struct preempt_notifier *pn, int cpu)
{
	load_on(container_of(pn, struct pvhv_vcpu, preempt_notifier), cpu);
}

static void sched_out(struct preempt_notifier *pn, struct task_struct *next)
{
	struct pvhv_vcpu *vcpu = container_of(pn, struct pvhv_vcpu, preempt_notifier);

	vcpu->stat.preemptions++;
	if (vcpu->pv.steal_msr & KVM_MSR_ENABLED)
		pvhv_steal_set_preempted(vcpu);
	put_from(vcpu);
}

static struct preempt_ops preempt_ops = {
	.sched_in = sched_in,
	.sched_out = sched_out,
};

void pvhv_vcpu_load(struct pvhv_vcpu *vcpu)
{
	int cpu = get_cpu();

	preempt_notifier_register(&vcpu->preempt_notifier);
	load_on(vcpu, cpu);
	put_cpu();
}

void pvhv_vcpu_put(struct pvhv_vcpu *vcpu)
{
	preempt_disable();
	put_from(vcpu);
	preempt_notifier_unregister(&vcpu->preempt_notifier);
	preempt_enable();
}

/* --- 3. kicks --- */

void pvhv_vcpu_wake(struct pvhv_vcpu *vcpu)
{
	/* The request first: who goes to sleep says so before it looks for one. */
	smp_mb();
	if (rcuwait_active(&vcpu->wait))
		rcuwait_wake_up(&vcpu->wait);
}

void pvhv_vcpu_kick(struct pvhv_vcpu *vcpu)
{
	int me, cpu;

	pvhv_vcpu_wake(vcpu);
	/*
	 * Pairs with may_enter(): our request bit is set, now read mode. A
	 * vCPU that is not in the guest looks at its requests before it
	 * enters. The IPI does nothing but end the guest.
	 */
	smp_mb();
	me = get_cpu();
	cpu = READ_ONCE(vcpu->cpu);
	if (READ_ONCE(vcpu->mode) == PVHV_IN_GUEST && cpu != me &&
	    (unsigned int)cpu < nr_cpu_ids && cpu_online(cpu))
		smp_send_reschedule(cpu);
	put_cpu();
}

/* The vCPU's own thread may be past its last look at the requests: then the entry ends at once. */
void pvhv_request_of_own(struct pvhv_vcpu *vcpu, enum pvhv_req req)
{
	pvhv_set_request(vcpu, req);
	if (vcpu->mode == PVHV_IN_GUEST)
		smp_send_reschedule(smp_processor_id());
}

/* --- 4. reset --- */

/* Register values after RESET and INIT: APM vol. 2, table 14-1. */
static void reset_segments(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_backend *be = vcpu->be;
	struct kvm_segment data = { .limit = 0xffff, .type = 3, .present = 1, .s = 1 };
	struct kvm_segment code = { .base = 0xffff0000, .limit = 0xffff, .selector = 0xf000,
				    .type = 11, .present = 1, .s = 1 };
	struct kvm_segment ldt = { .limit = 0xffff, .type = 2, .present = 1 };
	struct kvm_segment tss = { .limit = 0xffff, .type = 11, .present = 1 };
	struct kvm_dtable dt = { .limit = 0xffff };
	int seg;

	for (seg = PVHV_ES; seg <= PVHV_GS; seg++)
		be->set_segment(vcpu, &data, seg);
	be->set_segment(vcpu, &code, PVHV_CS);
	be->set_segment(vcpu, &ldt, PVHV_LDTR);
	be->set_segment(vcpu, &tss, PVHV_TR);
	be->set_dtables(vcpu, &dt, &dt);
}

void pvhv_vcpu_reset(struct pvhv_vcpu *vcpu, bool init)
{
	const struct kvm_cpuid_entry2 *family;

	memset(vcpu->gpr, 0, sizeof(vcpu->gpr));
	family = pvhv_find_cpuid(vcpu, 1, 0);
	vcpu->gpr[PVHV_RDX] = family ? family->eax : 0x600;
	vcpu->rip = 0xfff0;
	vcpu->rflags = X86_EFLAGS_FIXED;
	/* INIT keeps the cache bits; power-up sets them. */
	vcpu->cr0 = X86_CR0_ET | (init ? vcpu->cr0 & (X86_CR0_CD | X86_CR0_NW) :
					 X86_CR0_CD | X86_CR0_NW);
	vcpu->cr2 = 0;
	vcpu->cr3 = 0;
	vcpu->cr4 = 0;
	vcpu->cr8 = 0;
	vcpu->efer = 0;
	memset(vcpu->dr, 0, sizeof(vcpu->dr));
	vcpu->dr6 = pvhv_fix_dr6(0);
	vcpu->dr7 = pvhv_fix_dr7(0);
	vcpu->excp = (struct pvhv_exception) { };
	vcpu->irq.injected = false;
	vcpu->nmi_injected = false;
	vcpu->nmi_masked = false;
	vcpu->nmi_pending = 0;
	atomic_set(&vcpu->nmi_queued, 0);
	vcpu->pv_unhalted = false;
	vcpu->complete = NULL;
	if (!init) {
		vcpu->xcr0 = XFEATURE_MASK_FP;
		vcpu->xss = 0;
		vcpu->pkru = 0;
		vcpu->tsc_aux = 0;
	}
	pvhv_lapic_reset(vcpu, init);
	pvhv_msr_reset(vcpu, init);
	vcpu->be->vcpu_reset(vcpu, init);
	reset_segments(vcpu);
	vcpu->be->sync(vcpu, PVHV_SYNC_ALL);
	vcpu->be->flush_tlb(vcpu);
	pvhv_cpuid_cr4_changed(vcpu);
	vcpu->event_check = true;
}

/* --- 5. file descriptor --- */

static vm_fault_t vcpu_fault(struct vm_fault *vmf)
{
	struct pvhv_vcpu *vcpu = vmf->vma->vm_file->private_data;
	struct page *page;

	switch (vmf->pgoff) {
	case 0:
		page = virt_to_page(vcpu->run);
		break;
	case PVHV_PIO_PAGE_OFFSET:
		page = virt_to_page(vcpu->pio_data);
		break;
	case PVHV_MMAP_PAGES - 1:
		page = vcpu->vm->coalesced_page;
		break;
	default:
		return VM_FAULT_SIGBUS;
	}
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct vcpu_vm_ops = {
	.fault = vcpu_fault,
};

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &vcpu_vm_ops;
	return 0;
}

static int vcpu_release(struct inode *inode, struct file *file)
{
	struct pvhv_vcpu *vcpu = file->private_data;

	/* The vCPU itself stays until its VM goes: others may deliver to it. */
	pvhv_vm_put(vcpu->vm);
	return 0;
}

static long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = file->private_data;
	struct pvhv_vm *vm = vcpu->vm;
	long r;

	if (vm->mm != current->mm || READ_ONCE(vm->dead))
		return -EIO;
	/* Told to another thread's KVM_RUN, so it must not wait for it. */
	if (mutex_lock_killable(&vcpu->mutex))
		return -EINTR;
	if (cmd == KVM_RUN) {
		r = arg ? -EINVAL : pvhv_vcpu_run(vcpu);
	} else {
		vcpu->srcu_idx = srcu_read_lock(&vm->srcu);
		r = pvhv_ioctl(pvhv_vcpu_state_ioctls, pvhv_nr_vcpu_state_ioctls,
			       vcpu, vm, cmd, arg);
		srcu_read_unlock(&vm->srcu, vcpu->srcu_idx);
	}
	mutex_unlock(&vcpu->mutex);
	return r;
}

static const struct file_operations vcpu_fops = {
	.owner = THIS_MODULE,
	.release = vcpu_release,
	.unlocked_ioctl = vcpu_ioctl,
	.mmap = vcpu_mmap,
	.llseek = noop_llseek,
};

/* --- 1. life --- */

struct pvhv_vcpu *pvhv_vcpu_by_id(struct pvhv_vm *vm, u32 id)
{
	struct pvhv_vcpu *vcpu;
	unsigned int i;

	pvhv_for_each_vcpu(i, vcpu, vm)
		if (vcpu->id == id)
			return vcpu;
	return NULL;
}

void pvhv_vcpu_free(struct pvhv_vcpu *vcpu)
{
	if (vcpu->lapic)
		pvhv_lapic_free(vcpu);
	pvhv_mmio_free(vcpu);
	pvhv_fetch_free(vcpu);
	pvhv_msr_vcpu_free(vcpu);
	pvhv_cpuid_free(vcpu);
	if (vcpu->backend_data)
		vcpu->be->vcpu_destroy(vcpu);
	if (vcpu->fpu.fpstate)
		fpu_free_guest_fpstate(&vcpu->fpu);
	free_page((unsigned long)vcpu->pio_data);
	free_page((unsigned long)vcpu->run);
	put_pid(rcu_access_pointer(vcpu->pid));
	kfree(vcpu);
}

static int vcpu_init(struct pvhv_vcpu *vcpu)
{
	struct pvhv_vm *vm = vcpu->vm;
	int r = -ENOMEM;

	vcpu->run = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	vcpu->pio_data = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!vcpu->run || !vcpu->pio_data)
		return r;
	if (!fpu_alloc_guest_fpstate(&vcpu->fpu))
		return r;
	r = pvhv_msr_vcpu_init(vcpu);
	if (r)
		return r;
	r = vcpu->be->vcpu_init(vcpu);
	if (r)
		return r;
	r = pvhv_fetch_init(vcpu);
	if (r)
		return r;
	r = pvhv_mmio_init(vcpu);
	if (r)
		return r;
	pvhv_clock_vcpu_init(vcpu);
	if (smp_load_acquire(&vm->irqchip_in_kernel)) {
		r = pvhv_lapic_create(vcpu);
		if (r)
			return r;
	}
	vcpu->pic_in_user = !vcpu->lapic || vm->irqchip_split;
	/* A filter from before; one that comes now may not see this vCPU yet. */
	pvhv_set_request(vcpu, PVHV_REQ_MSR_FILTER);
	pvhv_vcpu_reset(vcpu, false);
	vcpu->mp_state = !vcpu->lapic || vcpu->is_bsp ? KVM_MP_STATE_RUNNABLE :
							KVM_MP_STATE_UNINITIALIZED;
	return 0;
}

int pvhv_vcpu_create(struct pvhv_vm *vm, u32 id)
{
	struct pvhv_vcpu *vcpu;
	struct file *file;
	char name[32];
	int fd, r;

	if (vm->nr_vcpus == PVHV_MAX_VCPUS)
		return -EINVAL;
	if (pvhv_vcpu_by_id(vm, id))
		return -EEXIST;
	vcpu = kzalloc(sizeof(*vcpu), GFP_KERNEL_ACCOUNT);
	if (!vcpu)
		return -ENOMEM;
	vcpu->vm = vm;
	vcpu->be = vm->be;
	vcpu->id = id;
	vcpu->idx = vm->nr_vcpus;
	vcpu->is_bsp = id == vm->bsp_id;
	vcpu->cpu = -1;
	vcpu->last_cpu = -1;
	vcpu->maxphyaddr = boot_cpu_data.x86_phys_bits;
	vcpu->extint = PVHV_NO_EXTINT;
	mutex_init(&vcpu->mutex);
	rcuwait_init(&vcpu->wait);
	preempt_notifier_init(&vcpu->preempt_notifier, &preempt_ops);

	r = vcpu_init(vcpu);
	if (r)
		goto err_vcpu;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		r = fd;
		goto err_vcpu;
	}
	pvhv_vm_get(vm);
	snprintf(name, sizeof(name), "pvhv-vcpu:%u", id);
	file = anon_inode_getfile(name, &vcpu_fops, vcpu, O_RDWR);
	if (IS_ERR(file)) {
		r = PTR_ERR(file);
		goto err_fd;
	}
	vm->vcpus[vcpu->idx] = vcpu;
	/* Pairs with the acquire in pvhv_for_each_vcpu(). */
	smp_store_release(&vm->nr_vcpus, vcpu->idx + 1);
	pvhv_stats_vcpu_init(vcpu);
	if (vcpu->lapic)
		pvhv_lapic_published(vcpu);
	fd_install(fd, file);
	return fd;

err_fd:
	put_unused_fd(fd);
	/* Not the last reference: our caller's ioctl holds the VM's file. */
	pvhv_vm_put(vm);
err_vcpu:
	pvhv_vcpu_free(vcpu);
	return r;
}
