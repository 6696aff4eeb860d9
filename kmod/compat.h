/* SPDX-License-Identifier: GPL-2.0 */
/*
 * compat.h - every difference between the kernels pvhv builds on (6.1 to
 * 6.12); no other file tests LINUX_VERSION_CODE.
 */
#ifndef PVHV_COMPAT_H
#define PVHV_COMPAT_H

#include <linux/cpu.h>
#include <linux/eventfd.h>
#include <linux/kvm.h>
#include <linux/syscore_ops.h>
#include <linux/version.h>
#include <asm/apic.h>
#include <asm/mce.h>
#include <asm/nospec-branch.h>
#include <asm/ptrace.h>
#include <asm/reboot.h>
#include <asm/segment.h>
#include <trace/events/ipi.h>	/* smp_send_reschedule() traces since 6.4 */

/* 6.8 dropped eventfd_signal()'s count, which was always 1 in practice. */
static inline void pvhv_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

/* 6.10 renamed the kernel's view of what userspace may change under it. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
#define PVHV_IMMEDIATE_EXIT	immediate_exit
#else
#define PVHV_IMMEDIATE_EXIT	immediate_exit__unsafe
#endif

/* 6.8's form of KVM_SET_USER_MEMORY_REGION, for a client built with newer headers. */
#ifndef KVM_SET_USER_MEMORY_REGION2
struct kvm_userspace_memory_region2 {
	__u32 slot;
	__u32 flags;
	__u64 guest_phys_addr;
	__u64 memory_size;
	__u64 userspace_addr;
	__u64 guest_memfd_offset;
	__u32 guest_memfd;
	__u32 pad1;
	__u64 pad2[14];
};
#define KVM_SET_USER_MEMORY_REGION2	_IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#define KVM_CAP_USER_MEMORY2		231
#endif

#ifndef KVM_PRE_FAULT_MEMORY			/* 6.11 */
struct kvm_pre_fault_memory {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u64 padding[5];
};
#define KVM_PRE_FAULT_MEMORY	_IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#define KVM_CAP_PRE_FAULT_MEMORY	236
#endif
#ifndef KVM_CAP_X86_APIC_BUS_CYCLES_NS
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS	237	/* 6.11 */
#endif
#ifndef KVM_X86_QUIRK_SLOT_ZAP_ALL
#define KVM_X86_QUIRK_SLOT_ZAP_ALL	(1 << 7)	/* 6.12 */
#endif

/* VT-x: names that came or went. */
#define PVHV_SECONDARY_EXEC_XSAVES	BIT(20)
#define PVHV_VMX_BASIC_TRUE_CTLS	BIT_ULL(55)

/* One of the kernel's own vectors, to one CPU: 6.6 made the APIC drivers' functions static calls. */
static inline void pvhv_send_ipi(int cpu, int vector)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	apic->send_IPI_mask(cpumask_of(cpu), vector);
#else
	__apic_send_IPI_mask(cpumask_of(cpu), vector);
#endif
}

/* FRED delivers events without the IDT: 6.9. */
static inline bool pvhv_host_has_fred(void)
{
#ifdef X86_FEATURE_FRED
	return cpu_feature_enabled(X86_FEATURE_FRED);
#else
	return false;
#endif
}

/* "Cross-thread return predictions": a sibling is safe only while guests exit to idle. */
static inline bool pvhv_must_exit_to_idle(void)
{
#ifdef X86_BUG_SMT_RSB
	return boot_cpu_has_bug(X86_BUG_SMT_RSB) && cpu_smt_possible();
#else
	return false;
#endif
}

/* VMSCAPE: what a guest taught the branch predictors must not steer its VMM. */
static inline void pvhv_distrust_branches(void)
{
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
	if (cpu_feature_enabled(X86_FEATURE_IBPB_EXIT_TO_USER))
		this_cpu_write(x86_ibpb_exit_to_user, true);
#endif
}

/*
 * What a crash or an emergency restart calls on each CPU, so that the next
 * kernel does not start in VMX operation. Kernels before 6.6 look at CR4 and
 * EFER for themselves; the callback was backported, and Kbuild looks for it.
 */
#ifndef PVHV_HAVE_EMERGENCY_CALLBACK
static inline void cpu_emergency_register_virt_callback(void (*callback)(void)) { }
static inline void cpu_emergency_unregister_virt_callback(void (*callback)(void)) { }
#endif

/*
 * Late suspend and early resume of the boot CPU. struct syscore replaced
 * struct syscore_ops in 6.18 and was backported; Kbuild looks which it is.
 */
#ifdef PVHV_HAVE_STRUCT_SYSCORE
#define PVHV_SYSCORE(name, suspend_fn, resume_fn)			\
	static int name##_suspend(void *data) { return suspend_fn(); }	\
	static void name##_resume(void *data) { resume_fn(); }		\
	static const struct syscore_ops name##_ops = {			\
		.suspend = name##_suspend,				\
		.resume = name##_resume,				\
	};								\
	static struct syscore name = { .ops = &name##_ops }
#define pvhv_syscore_register	register_syscore
#define pvhv_syscore_unregister	unregister_syscore
#else
#define PVHV_SYSCORE(name, suspend_fn, resume_fn)			\
	static struct syscore_ops name = {				\
		.suspend = suspend_fn,					\
		.resume = resume_fn,					\
	}
#define pvhv_syscore_register	register_syscore_ops
#define pvhv_syscore_unregister	unregister_syscore_ops
#endif

/* A machine check ended the guest: the kernel handles it as one of user code. */
#ifdef CONFIG_X86_MCE
static inline void pvhv_host_machine_check(void)
{
	struct pt_regs regs = {
		.cs = __USER_CS,	/* the guest's memory is at fault, not the kernel's */
		.flags = X86_EFLAGS_IF,
	};

	do_machine_check(&regs);
}
#else
static inline void pvhv_host_machine_check(void) { }
#endif

#endif /* PVHV_COMPAT_H */
