// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the capabilities: those the project promises are there, and whatever the module says it has does what the KVM
 * API says it does. Larger subjects have tests of their own; here each promise gets its shortest proof.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vm.h"

static struct vm *vm;
static struct vcpu *vcpu;

static void guest_nothing(uint64_t arg)
{
}

static void start(unsigned int flags)
{
	vm = vm_create(flags);
	vcpu = vcpu_add(vm, 0, guest_nothing, 0);
}

#define CAP(name, min)	{ KVM_CAP_##name, min, #name }

static const struct {
	int cap, min;
	const char *name;
} promised[] = {
	CAP(IRQCHIP, 1), CAP(HLT, 1), CAP(USER_MEMORY, 1), CAP(SET_TSS_ADDR, 1), CAP(EXT_CPUID, 1),
	CAP(NR_VCPUS, 1), CAP(MAX_VCPUS, 4), CAP(MAX_VCPU_ID, 4), CAP(NR_MEMSLOTS, 500), CAP(PIT2, 1), CAP(PIT_STATE2, 1),
	CAP(MP_STATE, 1), CAP(COALESCED_MMIO, 1), CAP(SYNC_MMU, 1), CAP(DESTROY_MEMORY_REGION_WORKS, 1),
	CAP(JOIN_MEMORY_REGIONS_WORKS, 1), CAP(IRQ_ROUTING, 24), CAP(IRQ_INJECT_STATUS, 1), CAP(IRQFD, 1),
	CAP(IOEVENTFD, 1), CAP(SIGNAL_MSI, 1), CAP(READONLY_MEM, 1), CAP(ADJUST_CLOCK, 1),
	CAP(VCPU_EVENTS, 1), CAP(DEBUGREGS, 1), CAP(XSAVE, 1), CAP(XCRS, 1), CAP(GET_TSC_KHZ, 1),
	CAP(TSC_DEADLINE_TIMER, 1), CAP(IMMEDIATE_EXIT, 1), CAP(MANUAL_DIRTY_LOG_PROTECT2, 1), CAP(BINARY_STATS_FD, 1),
	CAP(CHECK_EXTENSION_VM, 1),
};

/* Where the host's kernel uses no XSAVE there is none for guests */
static bool host_has_xsave(void)
{
	return guest_cpuid(1, 0).ecx & BIT(27);
}

static void test_promised(void)
{
	bool good = true;

	vm = vm_create(VM_BARE);
	for (unsigned int i = 0; i < ARRAY_SIZE(promised); i++) {
		int v = sys_cap(promised[i].cap);

		if (promised[i].cap == KVM_CAP_XCRS && !host_has_xsave()) {
			ASSERT_EQ(v, 0);
			continue;
		}
		if (v < promised[i].min) {
			tap_diag("KVM_CAP_%s is %d", promised[i].name, v);
			good = false;
		}
		if (vm_cap(vm, promised[i].cap) < promised[i].min) {
			tap_diag("KVM_CAP_%s on a VM is %d", promised[i].name, vm_cap(vm, promised[i].cap));
			good = false;
		}
	}
	ASSERT(good);
	ASSERT_GE(sys_cap(KVM_CAP_MAX_VCPUS), sys_cap(KVM_CAP_NR_VCPUS));
	ASSERT_GE(sys_cap(KVM_CAP_MAX_VCPU_ID), sys_cap(KVM_CAP_MAX_VCPUS));
}

/* As many vCPUs as recommended, but no more than a test may take */
static void test_nr_vcpus(void)
{
	int n = sys_cap(KVM_CAP_NR_VCPUS);

	if (n > 64)
		n = 64;
	vm = vm_create(VM_BARE | VM_IRQCHIP);
	VM_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	for (int i = 0; i < n; i++)
		VM_IOCTL(vm, KVM_CREATE_VCPU, i);
}

/* A vCPU number at the end of the range */
static void test_max_vcpu_id(void)
{
	vm = vm_create(VM_BARE);
	VM_IOCTL(vm, KVM_CREATE_VCPU, sys_cap(KVM_CAP_MAX_VCPU_ID) - 1);
}

static void test_set_identity_map(void)
{
	uint64_t addr = 0xfffbc000;

	REQUIRE_CAP(KVM_CAP_SET_IDENTITY_MAP_ADDR);
	vm = vm_create(VM_BARE);
	VM_IOCTL(vm, KVM_SET_IDENTITY_MAP_ADDR, &addr);
}

static void test_exception_payload(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .args[0] = 1 };
	struct kvm_vcpu_events ev;

	REQUIRE_CAP(KVM_CAP_EXCEPTION_PAYLOAD);
	start(0);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT(ev.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
}

static void test_triple_fault_event(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args[0] = 1 };
	struct kvm_vcpu_events ev;

	REQUIRE_CAP(KVM_CAP_X86_TRIPLE_FAULT_EVENT);
	start(0);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT(ev.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
	ASSERT_EQ(ev.triple_fault.pending, 0);
	ev.triple_fault.pending = 1;
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	vcpu_run_exit(vcpu, KVM_EXIT_SHUTDOWN);
}

static void test_multi_address_space(void)
{
	void *mem = mmap_aligned(PAGE_SIZE, PAGE_SIZE);

	vm = vm_create(VM_BARE);
	if (vm_cap(vm, KVM_CAP_MULTI_ADDRESS_SPACE) > 1)
		ASSERT_OK(vm_set_slot(vm, 1 << 16, 0, 0, PAGE_SIZE, mem));
	else
		ASSERT_ERR(vm_set_slot(vm, 1 << 16, 0, 0, PAGE_SIZE, mem), EINVAL);
}

static void test_sync_regs(void)
{
	REQUIRE_CAP(KVM_CAP_SYNC_REGS);
	start(0);
	vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	vcpu_run_done(vcpu);
	ASSERT_EQ(vcpu->run->s.regs.regs.rdx, UCALL_PORT);
}

/* MSR accesses to userspace */
static void guest_msr(uint64_t arg)
{
	uint64_t v;

	GUEST_ASSERT_EQ(rdmsr_safe(0x12345678, &v), -1);
	GUEST_ASSERT_EQ(v, 0x77ull);
}

static void test_user_space_msr(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR, .args[0] = KVM_MSR_EXIT_REASON_UNKNOWN };

	REQUIRE_CAP(KVM_CAP_X86_USER_SPACE_MSR);
	start(0);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	vcpu_restart(vcpu, guest_msr, 0);
	vcpu_run_exit(vcpu, KVM_EXIT_X86_RDMSR);
	ASSERT_EQ(vcpu->run->msr.index, 0x12345678);
	vcpu->run->msr.data = 0x77;
	vcpu->run->msr.error = 0;
	vcpu_run_done(vcpu);
}

/* HLT without exit, if that can be had */
static void test_disable_exits(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_DISABLE_EXITS, .args[0] = KVM_X86_DISABLE_EXITS_PAUSE };

	REQUIRE_CAP(KVM_CAP_X86_DISABLE_EXITS);
	vm = vm_create(0);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	cap.args[0] = 0x8000;
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	vcpu = vcpu_add(vm, 0, guest_nothing, 0);
	vcpu_run_done(vcpu);
}

static void test_kvmclock_ctrl(void)
{
	REQUIRE_CAP(KVM_CAP_KVMCLOCK_CTRL);
	start(0);
	/* no clock page yet */
	ASSERT_ERR(ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0), EINVAL);
}

static void test_split_irqchip(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = 24 };
	struct kvm_irqchip chip = { 0 };

	REQUIRE_CAP(KVM_CAP_SPLIT_IRQCHIP);
	vm = vm_create(VM_BARE);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EEXIST);
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), ENXIO);
	/* but there are local APICs */
	struct kvm_lapic_state lapic;

	vcpu = vcpu_create(vm, 0);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
}

static void test_x2apic_api(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X2APIC_API, .args[0] = 3 };

	REQUIRE_CAP(KVM_CAP_X2APIC_API);
	vm = vm_create(VM_BARE);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	cap.args[0] = 0x100;
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
}

static void test_halt_poll(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_HALT_POLL, .args[0] = 10000 };

	REQUIRE_CAP(KVM_CAP_HALT_POLL);
	vm = vm_create(VM_BARE);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
}

/* Reading, then writing what was read, for each kind of state that is offered */
static void test_tsc_control(void)
{
	start(0);
	if (sys_cap(KVM_CAP_TSC_CONTROL) <= 0)
		SKIP("not offered");
	long khz = VCPU_IOCTL(vcpu, KVM_GET_TSC_KHZ, 0);

	VCPU_IOCTL(vcpu, KVM_SET_TSC_KHZ, khz / 2);
	ASSERT_EQ(VCPU_IOCTL(vcpu, KVM_GET_TSC_KHZ, 0), khz / 2);
	vcpu_run_done(vcpu);
}

static void test_xsave2(void)
{
	void *buf;
	int size;

	start(0);
	size = vm_cap(vm, KVM_CAP_XSAVE2);
	if (size <= 0)
		SKIP("not offered");
	ASSERT_GE(size, 4096);
	buf = aligned_alloc(4096, (size + 4095) & ~4095);
	VCPU_IOCTL(vcpu, KVM_GET_XSAVE2, buf);
	VCPU_IOCTL(vcpu, KVM_SET_XSAVE, buf);
}

static void test_stats_fd(void)
{
	REQUIRE_CAP(KVM_CAP_BINARY_STATS_FD);
	start(0);
	ASSERT_GE(VM_IOCTL(vm, KVM_GET_STATS_FD, 0), 0);
	ASSERT_GE(VCPU_IOCTL(vcpu, KVM_GET_STATS_FD, 0), 0);
}

/* What must not be promised, unless it is there: an ioctl behind each */
static void test_no_lies(void)
{
	start(VM_IRQCHIP);
	if (sys_cap(KVM_CAP_X86_SMM) > 0)
		VCPU_IOCTL(vcpu, KVM_SMI, 0);
	if (sys_cap(KVM_CAP_NESTED_STATE) > 0) {
		struct kvm_nested_state *state = calloc(1, 1 << 20);

		state->size = sys_cap(KVM_CAP_NESTED_STATE);
		VCPU_IOCTL(vcpu, KVM_GET_NESTED_STATE, state);
	}
	if (sys_cap(KVM_CAP_MCE) > 0) {
		uint64_t mce;

		SYS_IOCTL(KVM_X86_GET_MCE_CAP_SUPPORTED, &mce);
	}
	if (sys_cap(KVM_CAP_VAPIC) > 0) {
		struct kvm_tpr_access_ctl tac = { 0 };

		VCPU_IOCTL(vcpu, KVM_TPR_ACCESS_REPORTING, &tac);
	}
	if (sys_cap(KVM_CAP_REINJECT_CONTROL) > 0) {
		struct kvm_pit_config pit = { 0 };
		struct kvm_reinject_control ctl = { .pit_reinject = 1 };

		VM_IOCTL(vm, KVM_CREATE_PIT2, &pit);
		VM_IOCTL(vm, KVM_REINJECT_CONTROL, &ctl);
	}
	if (sys_cap(KVM_CAP_SET_BOOT_CPU_ID) > 0) {
		struct vm *vm2 = vm_create(VM_BARE);

		VM_IOCTL(vm2, KVM_SET_BOOT_CPU_ID, 1);
	}
	if (sys_cap(KVM_CAP_GET_MSR_FEATURES) > 0) {
		struct kvm_msr_list list = { .nmsrs = 0 };
		int ret = ioctl(sys_fd(), KVM_GET_MSR_FEATURE_INDEX_LIST, &list);

		ASSERT(!ret || errno == E2BIG);
	}
	if (sys_cap(KVM_CAP_SYS_ATTRIBUTES) > 0) {
		uint64_t value;
		struct kvm_device_attr attr = {
			.group = 0, .attr = KVM_X86_XCOMP_GUEST_SUPP, .addr = (uintptr_t)&value,
		};

		SYS_IOCTL(KVM_GET_DEVICE_ATTR, &attr);
		ASSERT_EQ(value & 1, host_has_xsave());
	}
	if (sys_cap(KVM_CAP_X86_MSR_FILTER) > 0) {
		struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };

		VM_IOCTL(vm, KVM_X86_SET_MSR_FILTER, &filter);
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(promised),
		TEST(nr_vcpus),
		TEST(max_vcpu_id),
		TEST(set_identity_map),
		TEST(exception_payload),
		TEST(triple_fault_event),
		TEST(multi_address_space),
		TEST(sync_regs),
		TEST(user_space_msr),
		TEST(disable_exits),
		TEST(kvmclock_ctrl),
		TEST(split_irqchip),
		TEST(x2apic_api),
		TEST(halt_poll),
		TEST(tsc_control),
		TEST(xsave2),
		TEST(stats_fd),
		TEST(no_lies),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
