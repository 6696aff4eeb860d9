// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU before its first instruction.
 *  1. Every vCPU: CPUID, and the memory type that firmware would have set.
 *  2. vCPU 0: registers as the boot protocol wants them.  The others wait
 *     for INIT and SIPI in the kernel and need nothing more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "virtio_bus.h"

#define MSR_MTRR_DEF_TYPE	0x2ff
#define MTRR_ENABLE		(1u << 11)
#define MTRR_WRITE_BACK		6
#define MSR_HWCR		0xc0010015
#define HWCR_TSC_FREQ_SEL	(1u << 24)
#define MSR_ARCH_CAPABILITIES	0x10a

#define CR0_PE			0x00000001
#define CR0_ET			0x00000010
#define CR0_PG			0x80000000
#define CR4_PAE			0x00000020
#define EFER_LME		0x00000100
#define EFER_LMA		0x00000400
#define RFLAGS_FIXED		0x2

#define SEL_CODE		0x10
#define SEL_DATA		0x18
#define SEL_TSS			0x20

/* What this host's kernel supports, or of it what the machine's model has. */
static struct kvm_cpuid2 *choose_cpuid(const struct vm *vm)
{
	const struct cpu_model *model = cpu_model_find(vm->opt->cpu_model);
	struct kvm_cpuid2 *host = cpuid_supported(vm->dev_fd), *cpuid;

	if (!host || !model)
		return host;
	cpuid = cpu_model_cpuid(model, host, vm_address_bits(vm));
	free(host);
	errno = ENOMEM;
	return cpuid;
}

static int set_cpuid(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	bool deadline = ioctl(vm->dev_fd, KVM_CHECK_EXTENSION,
			      KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	struct kvm_cpuid2 *cpuid = choose_cpuid(vm);
	int ret = 0;

	if (!cpuid)
		return fail(-errno, "%s: cannot read the supported CPUID: %s",
			    vm->opt->dev, strerror(errno));
	cpuid_for_vcpu(cpuid, vcpu->id, vm->opt->cpus, deadline);
	ret = para_cpuid(&cpuid, vm->bus);
	if (ret)
		ret = fail(ret, "cannot tell the guest of its bus: %s",
			   strerror(-ret));
	else if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid))
		ret = fail(-errno, "%s: vCPU %u: cannot set CPUID: %s",
			   vm->opt->dev, vcpu->id, strerror(errno));
	free(cpuid);
	return ret;
}

/*
 * What firmware leaves behind. With MTRRs off, Linux would also give up PAT;
 * all RAM is write-back. AMD's HWCR says that the TSC counts at one rate: a
 * kernel module that knows no such bit may refuse it, and nothing is lost.
 */
static int set_firmware_msrs(struct vcpu *vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[2];
	} msrs = {
		.head.nmsrs = 2,
		.entry[0].index = MSR_MTRR_DEF_TYPE,
		.entry[0].data = MTRR_ENABLE | MTRR_WRITE_BACK,
		.entry[1].index = MSR_HWCR,
		.entry[1].data = HWCR_TSC_FREQ_SEL,
	};

	if (ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) < 1)
		return fail(-EINVAL, "%s: vCPU %u: cannot set the default memory type (MSR 0x%x)",
			    vcpu->vm->opt->dev, vcpu->id, MSR_MTRR_DEF_TYPE);
	return 0;
}

/*
 * What this very CPU does not suffer from: a model tells nothing of it, and
 * what cannot be read must not keep the machine from another host.
 */
static void forget_host_msrs(struct vcpu *vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[1];
	} msrs = {
		.head.nmsrs = 1,
		.entry[0].index = MSR_ARCH_CAPABILITIES,
	};

	/* Where there is none, there is nothing to forget. */
	if (cpu_model_find(vcpu->vm->opt->cpu_model))
		ioctl(vcpu->fd, KVM_SET_MSRS, &msrs);
}

static void flat_segment(struct kvm_segment *seg, u16 selector, u8 type)
{
	memset(seg, 0, sizeof(*seg));
	seg->selector = selector;
	seg->limit = 0xffffffff;
	seg->type = type;
	seg->present = 1;
	seg->s = 1;
	seg->g = 1;
	seg->db = 1;
}

static int set_boot_sregs(struct vcpu *vcpu, const struct boot *boot)
{
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs))
		return -errno;
	flat_segment(&sregs.cs, SEL_CODE, 0xb);	/* execute, read, accessed */
	flat_segment(&sregs.ds, SEL_DATA, 0x3);	/* read, write, accessed */
	sregs.es = sregs.ss = sregs.fs = sregs.gs = sregs.ds;
	memset(&sregs.tr, 0, sizeof(sregs.tr));
	sregs.tr.selector = SEL_TSS;
	sregs.tr.limit = 0x67;
	sregs.tr.type = 0xb;			/* busy TSS */
	sregs.tr.present = 1;
	sregs.gdt.base = BOOT_GDT_GPA;
	sregs.gdt.limit = 6 * 8 - 1;
	sregs.idt.base = 0;
	sregs.idt.limit = 0;
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr4 = 0;
	sregs.efer = 0;
	if (boot->mode == BOOT_LONG_MODE) {
		sregs.cs.db = 0;
		sregs.cs.l = 1;
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = BOOT_TABLES_GPA;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs))
		return -errno;
	return 0;
}

static int set_boot_regs(struct vcpu *vcpu, const struct boot *boot)
{
	struct kvm_regs regs = {
		.rip = boot->entry,
		.rflags = RFLAGS_FIXED,
	};

	if (boot->mode == BOOT_LONG_MODE)
		regs.rsi = boot->info;
	else
		regs.rbx = boot->info;
	return ioctl(vcpu->fd, KVM_SET_REGS, &regs) ? -errno : 0;
}

int vcpu_init(struct vcpu *vcpu, const struct boot *boot)
{
	int ret;

	ret = set_cpuid(vcpu);
	if (ret)
		return ret;
	forget_host_msrs(vcpu);
	ret = set_firmware_msrs(vcpu);
	if (ret || vcpu->id)
		return ret;
	ret = set_boot_sregs(vcpu, boot);
	if (!ret)
		ret = set_boot_regs(vcpu, boot);
	if (ret)
		return fail(ret, "%s: cannot set the first vCPU's registers: %s",
			    vcpu->vm->opt->dev, strerror(-ret));
	return 0;
}
