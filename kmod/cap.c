// SPDX-License-Identifier: GPL-2.0
/*
 * cap.c - capabilities:
 *  1. what KVM_CHECK_EXTENSION promises,
 *  2. KVM_ENABLE_CAP of a VM.
 */
#include <linux/math64.h>

#include "pvhv.h"
#include <linux/pvhv.h>

#define USER_MSR_REASONS (KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | \
			  KVM_MSR_EXIT_REASON_FILTER)
/* Deleting a slot zaps what is mapped of it, with and without SLOT_ZAP_ALL: nobody can tell. */
#define QUIRKS (KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_CD_NW_CLEARED | \
		KVM_X86_QUIRK_LAPIC_MMIO_HOLE | KVM_X86_QUIRK_OUT_7E_INC_RIP | \
		KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_FIX_HYPERCALL_INSN | \
		KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS | KVM_X86_QUIRK_SLOT_ZAP_ALL)
#define DIRTY_MANUAL_CAPS (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)

/* Exits that a VMM may do without: HLT and such then stop the host's CPU. */
static u32 needless_exits(void)
{
	u32 exits = KVM_X86_DISABLE_EXITS_PAUSE;

	if (pvhv_must_exit_to_idle())
		return exits;
	exits |= KVM_X86_DISABLE_EXITS_HLT;
	if (boot_cpu_has(X86_FEATURE_MWAIT) && !boot_cpu_has_bug(X86_BUG_MONITOR) &&
	    boot_cpu_has(X86_FEATURE_ARAT))
		exits |= KVM_X86_DISABLE_EXITS_MWAIT;
	return exits;
}

int pvhv_check_extension(struct pvhv_vm *vm, long cap)
{
	switch (cap) {
	case KVM_CAP_USER_MEMORY:
	case KVM_CAP_USER_MEMORY2:
	case KVM_CAP_DESTROY_MEMORY_REGION_WORKS:
	case KVM_CAP_JOIN_MEMORY_REGIONS_WORKS:
	case KVM_CAP_READONLY_MEM:
	case KVM_CAP_SYNC_MMU:
	case KVM_CAP_SET_TSS_ADDR:
	case KVM_CAP_SET_IDENTITY_MAP_ADDR:
	case KVM_CAP_HLT:
	case KVM_CAP_NOP_IO_DELAY:
	case KVM_CAP_CLOCKSOURCE:
	case KVM_CAP_IRQCHIP:
	case KVM_CAP_IRQ_INJECT_STATUS:
	case KVM_CAP_SIGNAL_MSI:
	case KVM_CAP_IRQFD:
	case KVM_CAP_IRQFD_RESAMPLE:
	case KVM_CAP_IOEVENTFD:
	case KVM_CAP_IOEVENTFD_ANY_LENGTH:
	case KVM_CAP_IOEVENTFD_NO_LENGTH:
	case KVM_CAP_COALESCED_PIO:
	case KVM_CAP_PIT2:
	case KVM_CAP_PIT_STATE2:
	case KVM_CAP_REINJECT_CONTROL:
	case KVM_CAP_EXT_CPUID:
	case KVM_CAP_EXT_EMUL_CPUID:
	case KVM_CAP_MP_STATE:
	case KVM_CAP_VCPU_EVENTS:
	case KVM_CAP_DEBUGREGS:
	case KVM_CAP_USER_NMI:
	case KVM_CAP_XSAVE:
	case KVM_CAP_SREGS2:
	case KVM_CAP_GET_TSC_KHZ:
	case KVM_CAP_TSC_DEADLINE_TIMER:
	case KVM_CAP_KVMCLOCK_CTRL:
	case KVM_CAP_GET_MSR_FEATURES:
	case KVM_CAP_EXCEPTION_PAYLOAD:
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
	case KVM_CAP_IMMEDIATE_EXIT:
	case KVM_CAP_INTERNAL_ERROR_DATA:
	case KVM_CAP_CHECK_EXTENSION_VM:
	case KVM_CAP_ENABLE_CAP_VM:
	case KVM_CAP_SET_BOOT_CPU_ID:
	case KVM_CAP_BINARY_STATS_FD:
	case KVM_CAP_ENFORCE_PV_FEATURE_CPUID:
	case KVM_CAP_HALT_POLL:
	case KVM_CAP_MMU_SHADOW_CACHE_CONTROL:
	case KVM_CAP_X86_MSR_FILTER:
	case KVM_CAP_MSR_PLATFORM_INFO:
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
	case KVM_CAP_X86_APIC_BUS_CYCLES_NS:
	case KVM_CAP_SYS_ATTRIBUTES:
	case KVM_CAP_VCPU_ATTRIBUTES:
	case KVM_CAP_DISABLE_QUIRKS:
	case KVM_CAP_SPLIT_IRQCHIP:
	case KVM_CAP_PRE_FAULT_MEMORY:
	case KVM_CAP_SET_GUEST_DEBUG:
	case KVM_CAP_X86_ROBUST_SINGLESTEP:
		return 1;
	case KVM_CAP_XCRS:
		return boot_cpu_has(X86_FEATURE_XSAVE);
	case KVM_CAP_TSC_CONTROL:
	case KVM_CAP_VM_TSC_CONTROL:
		return pvhv_tsc_scales();
	case KVM_CAP_SET_GUEST_DEBUG2:
		return KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP |
		       KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_INJECT_DB |
		       KVM_GUESTDBG_BLOCKIRQ;
	case KVM_CAP_SYNC_REGS:
		return KVM_SYNC_X86_VALID_FIELDS;
	case KVM_CAP_DISABLE_QUIRKS2:
		return QUIRKS;
	case KVM_CAP_X86_DISABLE_EXITS:
		return needless_exits();
	case KVM_CAP_X86_USER_SPACE_MSR:
		return USER_MSR_REASONS;
	case PVHV_CAP_DOORBELL:
		return PVHV_DOORBELLS_MAX;
	case KVM_CAP_COALESCED_MMIO:
		return PVHV_MMAP_PAGES - 1;	/* page offset of the ring */
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return DIRTY_MANUAL_CAPS;
	case KVM_CAP_NR_MEMSLOTS:
		return PVHV_USER_SLOTS;
	case KVM_CAP_NR_VCPUS:
		return min_t(unsigned int, num_online_cpus(), PVHV_MAX_VCPUS);
	case KVM_CAP_MAX_VCPUS:
		return PVHV_MAX_VCPUS;
	case KVM_CAP_MAX_VCPU_ID:
		return PVHV_MAX_VCPU_ID;
	case KVM_CAP_IRQ_ROUTING:
		return PVHV_MAX_IRQ_ROUTES;
	case KVM_CAP_MCE:
		return 32;			/* banks, as KVM_MAX_MCE_BANKS */
	case KVM_CAP_X2APIC_API:
		return KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
	case KVM_CAP_ADJUST_CLOCK:
		return KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
	case KVM_CAP_XSAVE2:
		return max_t(int, sizeof(struct kvm_xsave), pvhv_xsave_size());
	default:
		return 0;
	}
}

/* The LAPIC timer's longest count, at its slowest divider, must fit into 64 bits of ns. */
static int set_bus_cycle(struct pvhv_vm *vm, u64 ns)
{
	if (!ns || ns > div64_u64(U64_MAX, (u64)U32_MAX * 128))
		return -EINVAL;
	if (!vm->irqchip_in_kernel)
		return -ENXIO;
	if (vm->nr_vcpus)
		return -EINVAL;
	vm->apic_bus_cycle_ns = ns;
	return 0;
}

long pvhv_ioctl_enable_cap(void *obj, void *data, unsigned long arg)
{
	const struct kvm_enable_cap *cap = data;
	struct pvhv_vm *vm = obj;

	if (cap->flags)
		return -EINVAL;
	switch (cap->cap) {
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: {
		u64 allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

		if (cap->args[0] & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
			allowed = DIRTY_MANUAL_CAPS;
		if (cap->args[0] & ~allowed)
			return -EINVAL;
		WRITE_ONCE(vm->manual_dirty, cap->args[0]);
		return 0;
	}
	case KVM_CAP_X2APIC_API:
		if (cap->args[0] & ~(u64)(KVM_X2APIC_API_USE_32BIT_IDS |
					  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))
			return -EINVAL;
		vm->x2apic_api |= cap->args[0];
		return 0;
	case KVM_CAP_EXCEPTION_PAYLOAD:
		vm->exception_payload = cap->args[0];
		return 0;
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		vm->triple_fault_event = cap->args[0];
		return 0;
	case KVM_CAP_MAX_VCPU_ID:
		if (cap->args[0] > PVHV_MAX_VCPU_ID || cap->args[0] < vm->bsp_id ||
		    (vm->max_vcpu_id && cap->args[0] != vm->max_vcpu_id))
			return -EINVAL;
		vm->max_vcpu_id = cap->args[0];
		return 0;
	case KVM_CAP_DISABLE_QUIRKS2:
		if (cap->args[0] & ~(u64)QUIRKS)
			return -EINVAL;
		fallthrough;
	case KVM_CAP_DISABLE_QUIRKS:
		WRITE_ONCE(vm->disabled_quirks, cap->args[0]);
		return 0;
	case KVM_CAP_X86_DISABLE_EXITS:
		/* What cannot be had is taken for a hint, as KVM does; vCPUs made from now on. */
		if (cap->args[0] & ~(u64)KVM_X86_DISABLE_VALID_EXITS)
			return -EINVAL;
		WRITE_ONCE(vm->disabled_exits, vm->disabled_exits | (cap->args[0] & needless_exits()));
		return 0;
	case KVM_CAP_MSR_PLATFORM_INFO:
		WRITE_ONCE(vm->hide_platform_info, !cap->args[0]);
		return 0;
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		if (cap->args[0] & ~1ULL)
			return -EINVAL;
		WRITE_ONCE(vm->exit_on_emulation_failure, cap->args[0]);
		return 0;
	case KVM_CAP_SPLIT_IRQCHIP:
		return pvhv_split_irqchip(vm, cap->args[0]);
	case KVM_CAP_X86_APIC_BUS_CYCLES_NS:
		return set_bus_cycle(vm, cap->args[0]);
	case KVM_CAP_X86_USER_SPACE_MSR:
		if (cap->args[0] & ~(u64)USER_MSR_REASONS)
			return -EINVAL;
		WRITE_ONCE(vm->user_msr_reasons, cap->args[0]);
		return 0;
	case KVM_CAP_HALT_POLL:
		if (cap->args[0] != (unsigned int)cap->args[0])
			return -EINVAL;
		WRITE_ONCE(vm->max_halt_poll_ns, cap->args[0]);
		return 0;
	default:
		return -EINVAL;
	}
}
