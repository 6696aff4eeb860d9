// SPDX-License-Identifier: GPL-2.0
/*
 * stats.c - the counters of a VM and its vCPUs, for two readers:
 *  1. KVM_GET_STATS_FD: a file in KVM's binary statistics format (header,
 *     name of the object, descriptors, values),
 *  2. debugfs: /sys/kernel/debug/pvhv/<pid>-<fd>/{vm,vcpu<id>}, one
 *     "name value" a line. A VM kept by its vCPUs' descriptors may still have
 *     that name: then "-<n>" is added, n counting such cases.
 *
 * Counters are plain 64-bit words written by their owners without locks; a
 * reader sees each of them whole, and not all of them at one moment.
 */
#include <linux/anon_inodes.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pvhv.h"

#define NAME_SIZE	48	/* as KVM's */

struct counter {
	char name[NAME_SIZE];
	u32 offset;		/* in the statistics structure */
	u32 flags;		/* KVM_STATS_TYPE_* */
};

#define CUMULATIVE(type, field)						\
	{ #field, offsetof(struct type, field), KVM_STATS_TYPE_CUMULATIVE }
#define INSTANT(type, field)						\
	{ #field, offsetof(struct type, field), KVM_STATS_TYPE_INSTANT }

static const struct counter vm_counters[] = {
	INSTANT(pvhv_vm_stat, tdp_pages),
	INSTANT(pvhv_vm_stat, pages_4k),
	INSTANT(pvhv_vm_stat, pages_2m),
	INSTANT(pvhv_vm_stat, pages_1g),
	CUMULATIVE(pvhv_vm_stat, notifier_zaps),
	CUMULATIVE(pvhv_vm_stat, remote_tlb_flushes),
	CUMULATIVE(pvhv_vm_stat, dirty_logged),
};

static const struct counter vcpu_counters[] = {
	CUMULATIVE(pvhv_stat, exits),
	CUMULATIVE(pvhv_stat, irq_exits),
	CUMULATIVE(pvhv_stat, pio_exits),
	CUMULATIVE(pvhv_stat, mmio_exits),
	CUMULATIVE(pvhv_stat, io_exits_user),
	CUMULATIVE(pvhv_stat, halt_exits),
	CUMULATIVE(pvhv_stat, cpuid_exits),
	CUMULATIVE(pvhv_stat, msr_exits),
	CUMULATIVE(pvhv_stat, hypercalls),
	CUMULATIVE(pvhv_stat, tdp_faults),
	CUMULATIVE(pvhv_stat, tdp_fast_faults),
	CUMULATIVE(pvhv_stat, irq_injections),
	CUMULATIVE(pvhv_stat, nmi_injections),
	CUMULATIVE(pvhv_stat, irq_window_exits),
	CUMULATIVE(pvhv_stat, nmi_window_exits),
	CUMULATIVE(pvhv_stat, insn_emulations),
	CUMULATIVE(pvhv_stat, insn_emulation_fails),
	CUMULATIVE(pvhv_stat, signal_exits),
	CUMULATIVE(pvhv_stat, request_exits),
	CUMULATIVE(pvhv_stat, halt_polls),
	CUMULATIVE(pvhv_stat, halt_poll_success),
	CUMULATIVE(pvhv_stat, halt_wakeups),
	CUMULATIVE(pvhv_stat, host_state_reloads),
	CUMULATIVE(pvhv_stat, tlb_flushes),
	CUMULATIVE(pvhv_stat, preemptions),
	CUMULATIVE(pvhv_stat, exceptions_injected),
	CUMULATIVE(pvhv_stat, fast_reentries),
};

static_assert(ARRAY_SIZE(vm_counters) * sizeof(u64) == sizeof(struct pvhv_vm_stat));
static_assert(ARRAY_SIZE(vcpu_counters) * sizeof(u64) == sizeof(struct pvhv_stat));

static u64 counter_value(const void *stat, const struct counter *c)
{
	return READ_ONCE(*(const u64 *)(stat + c->offset));
}

/* ---------------------------------------------------- binary statistics -- */

/* struct kvm_stats_desc with its name, whose type differs between kernels. */
struct stats_desc {
	u32 flags;
	s16 exponent;
	u16 size;
	u32 offset;
	u32 bucket_size;
	char name[NAME_SIZE];
};

static_assert(offsetof(struct stats_desc, name) ==
	      offsetof(struct kvm_stats_desc, name));

struct stats_file {
	struct pvhv_vm *vm;		/* holds a reference */
	const void *stat;
	const struct counter *counters;
	unsigned int nr;
	char id[NAME_SIZE];
};

/* The file's whole text is small: made anew for every read. */
static size_t image_size(const struct stats_file *s)
{
	return sizeof(struct kvm_stats_header) + NAME_SIZE +
	       s->nr * (sizeof(struct stats_desc) + sizeof(u64));
}

static void make_image(const struct stats_file *s, void *image)
{
	struct kvm_stats_header *header = image;
	struct stats_desc *desc;
	unsigned int i;
	u64 *value;

	header->name_size = NAME_SIZE;
	header->num_desc = s->nr;
	header->id_offset = sizeof(*header);
	header->desc_offset = header->id_offset + NAME_SIZE;
	header->data_offset = header->desc_offset + s->nr * sizeof(*desc);
	memcpy(image + header->id_offset, s->id, NAME_SIZE);

	desc = image + header->desc_offset;
	value = image + header->data_offset;
	for (i = 0; i < s->nr; i++) {
		desc[i].flags = s->counters[i].flags | KVM_STATS_UNIT_NONE |
				KVM_STATS_BASE_POW10;
		desc[i].size = 1;
		desc[i].offset = i * sizeof(u64);
		memcpy(desc[i].name, s->counters[i].name, NAME_SIZE);
		value[i] = counter_value(s->stat, &s->counters[i]);
	}
}

static ssize_t stats_read(struct file *file, char __user *buf, size_t count,
			  loff_t *pos)
{
	const struct stats_file *s = file->private_data;
	size_t size = image_size(s);
	void *image = kzalloc(size, GFP_KERNEL);
	ssize_t r;

	if (!image)
		return -ENOMEM;
	make_image(s, image);
	r = simple_read_from_buffer(buf, count, pos, image, size);
	kfree(image);
	return r;
}

static int stats_release(struct inode *inode, struct file *file)
{
	struct stats_file *s = file->private_data;

	pvhv_vm_put(s->vm);
	kfree(s);
	return 0;
}

static const struct file_operations stats_fops = {
	.owner = THIS_MODULE,
	.read = stats_read,
	.release = stats_release,
	.llseek = noop_llseek,
};

static long stats_fd(struct pvhv_vm *vm, const char *name, const void *stat,
		     const struct counter *counters, unsigned int nr,
		     const char *suffix)
{
	struct stats_file *s;
	struct file *file;
	int fd;

	s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);
	if (!s)
		return -ENOMEM;
	s->vm = vm;
	s->stat = stat;
	s->counters = counters;
	s->nr = nr;
	snprintf(s->id, sizeof(s->id), "kvm-%.24s%s", vm->stats_id, suffix);

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		goto out_free;
	file = anon_inode_getfile(name, &stats_fops, s, O_RDONLY);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		fd = PTR_ERR(file);
		goto out_free;
	}
	pvhv_vm_get(vm);
	file->f_mode |= FMODE_PREAD;
	fd_install(fd, file);
	return fd;

out_free:
	kfree(s);
	return fd;
}

long pvhv_ioctl_vm_stats_fd(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vm *vm = obj;

	return stats_fd(vm, "pvhv-vm-stats", &vm->stat, vm_counters,
			ARRAY_SIZE(vm_counters), "");
}

/* A vCPU lives as long as its VM, so a reference to that one is enough. */
long pvhv_ioctl_vcpu_stats_fd(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	char suffix[16];

	snprintf(suffix, sizeof(suffix), "/vcpu-%u", vcpu->id);
	return stats_fd(vcpu->vm, "pvhv-vcpu-stats", &vcpu->stat, vcpu_counters,
			ARRAY_SIZE(vcpu_counters), suffix);
}

/* -------------------------------------------------------------- debugfs -- */

static struct dentry *root;
static atomic_t name_suffix;

static void show(struct seq_file *m, const void *stat,
		 const struct counter *counters, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		seq_printf(m, "%s %llu\n", counters[i].name,
			   counter_value(stat, &counters[i]));
}

static int vm_show(struct seq_file *m, void *unused)
{
	struct pvhv_vm *vm = m->private;

	show(m, &vm->stat, vm_counters, ARRAY_SIZE(vm_counters));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vm);

static int vcpu_show(struct seq_file *m, void *unused)
{
	struct pvhv_vcpu *vcpu = m->private;

	show(m, &vcpu->stat, vcpu_counters, ARRAY_SIZE(vcpu_counters));
	seq_printf(m, "tsc_offset %lld\n", READ_ONCE(vcpu->tsc_offset));
	seq_printf(m, "halt_poll_ns %u\n", READ_ONCE(vcpu->halt_poll_ns));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vcpu);

/* debugfs is a convenience: what could not be created is not there. */
void pvhv_stats_init(void)
{
	root = debugfs_create_dir("pvhv", NULL);
}

void pvhv_stats_exit(void)
{
	debugfs_remove(root);
}

/* vm->stats_id is <pid>-<fd>. */
void pvhv_stats_vm_init(struct pvhv_vm *vm)
{
	char name[NAME_SIZE + 16];
	struct dentry *other;

	snprintf(name, sizeof(name), "%s", vm->stats_id);
	other = debugfs_lookup(name, root);
	if (other) {
		dput(other);
		snprintf(name, sizeof(name), "%s-%d", vm->stats_id,
			 atomic_inc_return(&name_suffix));
	}
	vm->debugfs = debugfs_create_dir(name, root);
	debugfs_create_file("vm", 0444, vm->debugfs, vm, &vm_fops);
}

void pvhv_stats_vcpu_init(struct pvhv_vcpu *vcpu)
{
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", vcpu->id);
	vcpu->debugfs = debugfs_create_file(name, 0444, vcpu->vm->debugfs, vcpu,
					    &vcpu_fops);
}

/* Waits for readers; before any vCPU is freed. Removes the vCPUs' files too. */
void pvhv_stats_vm_exit(struct pvhv_vm *vm)
{
	debugfs_remove(vm->debugfs);
	vm->debugfs = NULL;
}
