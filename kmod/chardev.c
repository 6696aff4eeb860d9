// SPDX-License-Identifier: GPL-2.0
/*
 * chardev.c - /dev/pvhv:
 *  1. pvhv_ioctl(): the one dispatcher of all ioctl tables,
 *  2. the system ioctls, which ask what can be had and create VMs.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pvhv.h"

#define IOCTL_STACK_BYTES 256	/* larger arguments are allocated */

static long call_row(const struct pvhv_ioctl *row, void *obj, unsigned long arg)
{
	unsigned int size = _IOC_SIZE(row->cmd);
	char small[IOCTL_STACK_BYTES];
	void *data = small;
	long r;

	if ((row->flags & PVHV_IOC_RAW) || _IOC_DIR(row->cmd) == _IOC_NONE)
		return row->fn(obj, NULL, arg);

	if (size > sizeof(small)) {
		data = kzalloc(size, GFP_KERNEL_ACCOUNT);
		if (!data)
			return -ENOMEM;
	} else {
		memset(small, 0, size);
	}
	r = -EFAULT;
	if ((_IOC_DIR(row->cmd) & _IOC_WRITE) &&
	    copy_from_user(data, (void __user *)arg, size))
		goto out;
	r = row->fn(obj, data, arg);
	if (r >= 0 && (_IOC_DIR(row->cmd) & _IOC_READ) &&
	    copy_to_user((void __user *)arg, data, size))
		r = -EFAULT;
out:
	if (data != small)
		kfree(data);
	return r;
}

long pvhv_ioctl(const struct pvhv_ioctl *rows, unsigned int nr, void *obj,
		struct pvhv_vm *vm, unsigned int cmd, unsigned long arg)
{
	const struct pvhv_ioctl *row;
	long r;

	for (row = rows; row < rows + nr; row++)
		if (row->cmd == cmd)
			break;
	if (row == rows + nr)
		return -ENOTTY;
	/* Pairs with the release that publishes a finished irqchip. */
	if ((row->flags & PVHV_IOC_IRQCHIP) && !smp_load_acquire(&vm->irqchip_in_kernel))
		return -ENXIO;
	if (row->flags & PVHV_IOC_LOCK)
		mutex_lock(&vm->lock);
	r = call_row(row, obj, arg);
	if (row->flags & PVHV_IOC_LOCK)
		mutex_unlock(&vm->lock);
	return r;
}

static long sys_get_api_version(void *obj, void *data, unsigned long arg)
{
	return arg ? -EINVAL : KVM_API_VERSION;
}

static long sys_create_vm(void *obj, void *data, unsigned long arg)
{
	return pvhv_vm_create(arg);
}

static long sys_check_extension(void *obj, void *data, unsigned long arg)
{
	return pvhv_check_extension(NULL, arg);
}

static long sys_vcpu_mmap_size(void *obj, void *data, unsigned long arg)
{
	return arg ? -EINVAL : PVHV_MMAP_PAGES * PAGE_SIZE;
}

static long sys_has_attr(void *obj, void *data, unsigned long arg)
{
	const struct kvm_device_attr *attr = data;

	return !attr->group && attr->attr == KVM_X86_XCOMP_GUEST_SUPP ? 0 : -ENXIO;
}

/* The extended states a guest may have. */
static long sys_get_attr(void *obj, void *data, unsigned long arg)
{
	const struct kvm_device_attr *attr = data;
	long r = sys_has_attr(obj, data, arg);

	return r ?: put_user(pvhv_supported_xcr0(), (u64 __user *)attr->addr);
}

static const struct pvhv_ioctl sys_ioctls[] = {
	{ KVM_GET_API_VERSION, 0, sys_get_api_version },
	{ KVM_CREATE_VM, 0, sys_create_vm },
	{ KVM_CHECK_EXTENSION, 0, sys_check_extension },
	{ KVM_GET_VCPU_MMAP_SIZE, 0, sys_vcpu_mmap_size },
	{ KVM_GET_SUPPORTED_CPUID, PVHV_IOC_RAW, pvhv_ioctl_get_supported_cpuid },
	{ KVM_GET_EMULATED_CPUID, PVHV_IOC_RAW, pvhv_ioctl_get_emulated_cpuid },
	{ KVM_GET_MSR_INDEX_LIST, PVHV_IOC_RAW, pvhv_ioctl_get_msr_index_list },
	{ KVM_GET_MSR_FEATURE_INDEX_LIST, PVHV_IOC_RAW, pvhv_ioctl_get_msr_feature_index_list },
	{ KVM_GET_MSRS, PVHV_IOC_RAW, pvhv_ioctl_get_feature_msrs },
	{ KVM_X86_GET_MCE_CAP_SUPPORTED, 0, pvhv_ioctl_mce_cap },
	{ KVM_GET_DEVICE_ATTR, 0, sys_get_attr },
	{ KVM_HAS_DEVICE_ATTR, 0, sys_has_attr },
};

static long dev_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return pvhv_ioctl(sys_ioctls, ARRAY_SIZE(sys_ioctls), NULL, NULL, cmd, arg);
}

static const struct file_operations dev_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = dev_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice pvhv_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pvhv",
	.fops = &dev_fops,
	.mode = 0660,	/* as KVM's; the udev rule adds the group */
};

int pvhv_chardev_init(void)
{
	return misc_register(&pvhv_dev);
}

void pvhv_chardev_exit(void)
{
	misc_deregister(&pvhv_dev);
}
