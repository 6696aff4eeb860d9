// SPDX-License-Identifier: GPL-2.0
/*
 * vm.c - a VM:
 *  1. its creation, references and end,
 *  2. the VM ioctls that belong to no other file, and their table.
 * Its capabilities are in cap.c.
 */
#define pr_fmt(fmt) "pvhv: " fmt

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include "pvhv.h"
#include "trace.h"
#include <linux/pvhv.h>

static unsigned int halt_poll_ns = 200000;	/* as KVM's default on x86 */
module_param(halt_poll_ns, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns, "longest busy wait of a halted vCPU, in ns");

#define MIN_NR_MMU_PAGES	64	/* KVM_MIN_ALLOC_MMU_PAGES */

/* --- 1. life --- */

static void vm_free(struct pvhv_vm *vm)
{
	unsigned int i;

	mutex_lock(&pvhv_vms_lock);
	list_del(&vm->link);
	mutex_unlock(&pvhv_vms_lock);

	/* First: a notifier's flush looks at the vCPUs. */
	pvhv_notifier_destroy(vm);
	pvhv_stats_vm_exit(vm);
	/* Before the vCPUs: it delivers to them. */
	pvhv_irqchip_destroy(vm);
	pvhv_iobus_destroy(vm);
	pvhv_doorbells_destroy(vm);
	for (i = 0; i < vm->nr_vcpus; i++)
		pvhv_vcpu_free(vm->vcpus[i]);
	pvhv_coalesced_destroy(vm);
	vm->be->vm_destroy(vm);
	pvhv_memslots_destroy(vm);
	pvhv_msr_filter_destroy(vm);
	cleanup_srcu_struct(&vm->srcu);
	mmdrop(vm->mm);
	pvhv_hardware_put();
	kvfree(vm);
}

void pvhv_vm_get(struct pvhv_vm *vm)
{
	refcount_inc(&vm->users);
}

void pvhv_vm_put(struct pvhv_vm *vm)
{
	if (refcount_dec_and_test(&vm->users))
		vm_free(vm);
}

static struct pvhv_vm *vm_alloc(void)
{
	struct pvhv_vm *vm;
	int r;

	vm = kvzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return ERR_PTR(-ENOMEM);
	vm->be = pvhv_be;
	vm->mm = current->mm;
	mmgrab(vm->mm);
	refcount_set(&vm->users, 1);
	mutex_init(&vm->lock);
	mutex_init(&vm->slots_lock);
	mutex_init(&vm->irq_lock);
	rwlock_init(&vm->mmu_lock);
	vm->max_halt_poll_ns = halt_poll_ns;
	vm->apic_bus_cycle_ns = 1;	/* the timer counts at 1 GHz, as KVM's */
	pvhv_eventfd_init(vm);
	pvhv_clock_vm_init(vm);

	r = init_srcu_struct(&vm->srcu);
	if (r)
		goto err_mm;
	r = pvhv_memslots_init(vm);
	if (r)
		goto err_srcu;
	r = vm->be->vm_init(vm);
	if (r)
		goto err_memslots;
	r = pvhv_iobus_init(vm);
	if (r)
		goto err_backend;
	r = pvhv_coalesced_init(vm);
	if (r)
		goto err_iobus;
	r = pvhv_hardware_get();
	if (r)
		goto err_coalesced;
	r = pvhv_notifier_init(vm);
	if (r)
		goto err_hardware;
	return vm;

err_hardware:
	pvhv_hardware_put();
err_coalesced:
	pvhv_coalesced_destroy(vm);
err_iobus:
	pvhv_iobus_destroy(vm);
err_backend:
	vm->be->vm_destroy(vm);
err_memslots:
	pvhv_memslots_destroy(vm);
err_srcu:
	cleanup_srcu_struct(&vm->srcu);
err_mm:
	mmdrop(vm->mm);
	kvfree(vm);
	return ERR_PTR(r);
}

static const struct file_operations vm_fops;

int pvhv_vm_create(unsigned long type)
{
	struct pvhv_vm *vm;
	struct file *file;
	int fd;

	if (type != PVHV_VM_DEFAULT && type != PVHV_VM_HVM)
		return -EINVAL;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	vm = vm_alloc();
	if (IS_ERR(vm)) {
		put_unused_fd(fd);
		return PTR_ERR(vm);
	}
	mutex_lock(&pvhv_vms_lock);
	list_add_tail(&vm->link, &pvhv_vms);
	mutex_unlock(&pvhv_vms_lock);

	snprintf(vm->stats_id, sizeof(vm->stats_id), "%d-%d", task_pid_nr(current), fd);
	pvhv_stats_vm_init(vm);
	file = anon_inode_getfile("pvhv-vm", &vm_fops, vm, O_RDWR);
	if (IS_ERR(file)) {
		pvhv_vm_put(vm);
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	fd_install(fd, file);
	return fd;
}

static int vm_release(struct inode *inode, struct file *file)
{
	struct pvhv_vm *vm = file->private_data;

	pvhv_eventfd_release(vm);
	pvhv_vm_put(vm);
	return 0;
}

void pvhv_kill_vm(struct pvhv_vm *vm, const char *fmt, ...)
{
	va_list args;

	mutex_lock(&pvhv_vms_lock);
	if (!vm->dead) {
		va_start(args, fmt);
		vsnprintf(vm->dead_reason, sizeof(vm->dead_reason), fmt, args);
		va_end(args);
		pr_info_ratelimited("VM %s stopped: %s\n", vm->stats_id, vm->dead_reason);
		trace_pvhv_kill(vm->dead_reason);
		WRITE_ONCE(vm->dead, true);
	}
	mutex_unlock(&pvhv_vms_lock);
	pvhv_make_all_request(vm, PVHV_REQ_VM_DEAD, false);
}

static void ack_kick(void *unused)
{
}

void pvhv_make_all_request(struct pvhv_vm *vm, enum pvhv_req req, bool wait)
{
	struct pvhv_vcpu *vcpu;
	cpumask_var_t mask;
	unsigned int i;
	bool have_mask;
	int cpu, me;

	have_mask = wait && zalloc_cpumask_var(&mask, GFP_ATOMIC);
	me = get_cpu();
	pvhv_for_each_vcpu(i, vcpu, vm) {
		pvhv_set_request(vcpu, req);
		if (!wait || !have_mask) {
			pvhv_vcpu_kick(vcpu);
			continue;
		}
		/*
		 * A vCPU whose mode is not IN_GUEST yet will see the request
		 * before it enters: the barrier pairs with the one between
		 * its store of mode and its load of requests.
		 */
		smp_mb();
		cpu = READ_ONCE(vcpu->cpu);
		if (cpu >= 0 && cpu != me && READ_ONCE(vcpu->mode) == PVHV_IN_GUEST)
			cpumask_set_cpu(cpu, mask);
		pvhv_vcpu_wake(vcpu);
	}
	if (have_mask)
		smp_call_function_many(mask, ack_kick, NULL, true);
	else if (wait)
		smp_call_function(ack_kick, NULL, true);
	put_cpu();
	if (have_mask)
		free_cpumask_var(mask);
}

void pvhv_srcu_sync(struct pvhv_vm *vm)
{
	/* Readers that run guest code are asked to drop the lock. */
	pvhv_make_all_request(vm, PVHV_REQ_SYNC, false);
	synchronize_srcu_expedited(&vm->srcu);
}

/* --- 2. ioctls --- */

static long vm_check_extension(void *obj, void *data, unsigned long arg)
{
	return pvhv_check_extension(obj, arg);
}

static long vm_create_vcpu(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vm *vm = obj;

	if (arg >= (vm->max_vcpu_id ?: PVHV_MAX_VCPU_ID))
		return -EINVAL;
	return pvhv_vcpu_create(obj, arg);
}

/* Room for what VT-x needs in guest memory; no backend of ours does so far. */
static long vm_set_tss_addr(void *obj, void *data, unsigned long arg)
{
	return arg > (unsigned int)(-3 * PAGE_SIZE) ? -EINVAL : 0;
}

static long vm_set_identity_map_addr(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vm *vm = obj;

	return vm->nr_vcpus ? -EINVAL : 0;
}

static long vm_set_boot_cpu_id(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vm *vm = obj;

	if (vm->nr_vcpus)
		return -EBUSY;
	/* The limit itself is let through, as KVM does: no vCPU will have it. */
	if (arg > (vm->max_vcpu_id ?: PVHV_MAX_VCPU_ID))
		return -EINVAL;
	vm->bsp_id = arg;
	return 0;
}

/* A limit for shadow page tables, of which nested paging has none. */
static long vm_set_nr_mmu_pages(void *obj, void *data, unsigned long arg)
{
	return arg < MIN_NR_MMU_PAGES ? -EINVAL : 0;
}

static const struct pvhv_ioctl vm_ioctls[] = {
	{ KVM_IRQ_LINE, PVHV_IOC_IRQCHIP, pvhv_ioctl_irq_line },
	{ KVM_IRQ_LINE_STATUS, PVHV_IOC_IRQCHIP, pvhv_ioctl_irq_line },
	{ KVM_SIGNAL_MSI, 0, pvhv_ioctl_signal_msi },
	{ KVM_GET_DIRTY_LOG, 0, pvhv_ioctl_get_dirty_log },
	{ KVM_CLEAR_DIRTY_LOG, 0, pvhv_ioctl_clear_dirty_log },
	{ KVM_SET_USER_MEMORY_REGION, 0, pvhv_ioctl_set_memory_region },
	{ KVM_SET_USER_MEMORY_REGION2, 0, pvhv_ioctl_set_memory_region2 },
	{ KVM_CREATE_VCPU, PVHV_IOC_LOCK, vm_create_vcpu },
	{ KVM_CHECK_EXTENSION, 0, vm_check_extension },
	{ KVM_ENABLE_CAP, PVHV_IOC_LOCK, pvhv_ioctl_enable_cap },
	{ KVM_IRQFD, 0, pvhv_ioctl_irqfd },
	{ KVM_IOEVENTFD, 0, pvhv_ioctl_ioeventfd },
	{ PVHV_SET_DOORBELL, 0, pvhv_ioctl_set_doorbell },
	{ KVM_SET_GSI_ROUTING, PVHV_IOC_RAW, pvhv_ioctl_set_gsi_routing },
	{ KVM_CREATE_IRQCHIP, PVHV_IOC_LOCK, pvhv_ioctl_create_irqchip },
	{ KVM_GET_IRQCHIP, PVHV_IOC_IRQCHIP, pvhv_ioctl_get_irqchip },
	{ KVM_SET_IRQCHIP, PVHV_IOC_IRQCHIP | PVHV_IOC_RAW, pvhv_ioctl_set_irqchip },
	{ KVM_CREATE_PIT, PVHV_IOC_LOCK, pvhv_ioctl_create_pit2 },
	{ KVM_CREATE_PIT2, PVHV_IOC_LOCK, pvhv_ioctl_create_pit2 },
	{ KVM_GET_PIT2, 0, pvhv_ioctl_get_pit2 },
	{ KVM_SET_PIT2, 0, pvhv_ioctl_set_pit2 },
	{ KVM_REINJECT_CONTROL, PVHV_IOC_RAW, pvhv_ioctl_reinject_control },
	{ KVM_X86_SET_MSR_FILTER, PVHV_IOC_LOCK, pvhv_ioctl_set_msr_filter },
	{ KVM_GET_CLOCK, 0, pvhv_ioctl_get_clock },
	{ KVM_SET_CLOCK, 0, pvhv_ioctl_set_clock },
	{ KVM_SET_TSC_KHZ, 0, pvhv_ioctl_vm_set_tsc_khz },
	{ KVM_GET_TSC_KHZ, 0, pvhv_ioctl_vm_get_tsc_khz },
	{ KVM_REGISTER_COALESCED_MMIO, 0, pvhv_ioctl_register_coalesced },
	{ KVM_UNREGISTER_COALESCED_MMIO, 0, pvhv_ioctl_unregister_coalesced },
	{ KVM_SET_TSS_ADDR, 0, vm_set_tss_addr },
	{ KVM_SET_IDENTITY_MAP_ADDR, PVHV_IOC_LOCK, vm_set_identity_map_addr },
	{ KVM_SET_BOOT_CPU_ID, PVHV_IOC_LOCK, vm_set_boot_cpu_id },
	{ KVM_SET_NR_MMU_PAGES, 0, vm_set_nr_mmu_pages },
	{ KVM_GET_STATS_FD, 0, pvhv_ioctl_vm_stats_fd },
};

static long vm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct pvhv_vm *vm = file->private_data;

	/* Guest memory is this address space; another one would be nonsense. */
	if (vm->mm != current->mm || READ_ONCE(vm->dead))
		return -EIO;
	return pvhv_ioctl(vm_ioctls, ARRAY_SIZE(vm_ioctls), vm, vm, cmd, arg);
}

static const struct file_operations vm_fops = {
	.owner = THIS_MODULE,
	.release = vm_release,
	.unlocked_ioctl = vm_ioctl,
	.llseek = noop_llseek,
};
