// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies MSR accesses that go to userspace (KVM_CAP_X86_USER_SPACE_MSR) and the filter of MSRs (KVM_X86_SET_MSR_FILTER):
 * reasons, answers, errors, ranges, MSRs the guest otherwise reaches without an exit, changes while the guest runs.
 */
#include <string.h>
#include <sys/mman.h>

#include "apic.h"
#include "vm.h"

#define MSR_UNKNOWN		0x12345678
#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_PLATFORM_INFO	0xce
#define MSR_STAR		0xc0000081u
#define MSR_KERNEL_GS_BASE	0xc0000102u

static struct vm *vm;
static struct vcpu *vcpu;

static void start(unsigned int flags, void (*fn)(uint64_t), uint64_t arg)
{
	vm = vm_create(flags);
	vcpu = vcpu_add(vm, 0, fn, arg);
}

static void user_msr(uint64_t reasons)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR, .args[0] = reasons };

	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
}

#define ALL_REASONS	(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)

/* Runs to an exit of this kind; the answer is the caller's to write */
static void expect_msr(uint32_t exit, uint32_t index, uint64_t reason)
{
	vcpu_run_exit(vcpu, exit);
	ASSERT_EQ(vcpu->run->msr.index, index);
	ASSERT_EQ(vcpu->run->msr.reason, reason);
	ASSERT_EQ(vcpu->run->msr.error, 0);
}

static void guest_unknown(uint64_t arg)
{
	uint64_t v;

	GUEST_ASSERT_EQ(rdmsr_safe(MSR_UNKNOWN, &v), -1);
	GUEST_ASSERT_EQ(v, 0x1122334455667788ull);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_UNKNOWN, 0x99aabbccddeeff00), -1);
	GUEST_ASSERT_EQ(rdmsr_safe(MSR_UNKNOWN, &v), GP_VECTOR);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_UNKNOWN, 1), GP_VECTOR);
}

static void test_unknown(void)
{
	start(0, guest_unknown, 0);
	user_msr(KVM_MSR_EXIT_REASON_UNKNOWN);
	expect_msr(KVM_EXIT_X86_RDMSR, MSR_UNKNOWN, KVM_MSR_EXIT_REASON_UNKNOWN);
	vcpu->run->msr.data = 0x1122334455667788;
	expect_msr(KVM_EXIT_X86_WRMSR, MSR_UNKNOWN, KVM_MSR_EXIT_REASON_UNKNOWN);
	ASSERT_EQ(vcpu->run->msr.data, 0x99aabbccddeeff00);
	expect_msr(KVM_EXIT_X86_RDMSR, MSR_UNKNOWN, KVM_MSR_EXIT_REASON_UNKNOWN);
	vcpu->run->msr.error = 1;
	expect_msr(KVM_EXIT_X86_WRMSR, MSR_UNKNOWN, KVM_MSR_EXIT_REASON_UNKNOWN);
	vcpu->run->msr.error = 1;
	vcpu_run_done(vcpu);
}

/* A value that is refused; in x2APIC mode these do not come the usual way. (EOI's hardware may refuse by itself.) */
static void guest_invalid(uint64_t arg)
{
	x2apic_enable();
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_APICBASE, BIT(60)), -1);
	GUEST_ASSERT_EQ(wrmsr_safe(X2APIC_MSR(APIC_ICR), 0xffffffff), -1);
	GUEST_ASSERT_EQ(wrmsr_safe(X2APIC_MSR(APIC_LVTERR), BIT(8)), GP_VECTOR);
	GUEST_ASSERT(rdmsr(MSR_APICBASE) & APICBASE_X2APIC);
}

static void test_invalid(void)
{
	start(VM_IRQCHIP, guest_invalid, 0);
	user_msr(KVM_MSR_EXIT_REASON_INVAL);
	expect_msr(KVM_EXIT_X86_WRMSR, MSR_APICBASE, KVM_MSR_EXIT_REASON_INVAL);
	ASSERT_EQ(vcpu->run->msr.data, BIT(60));
	expect_msr(KVM_EXIT_X86_WRMSR, X2APIC_MSR(APIC_ICR), KVM_MSR_EXIT_REASON_INVAL);
	expect_msr(KVM_EXIT_X86_WRMSR, X2APIC_MSR(APIC_LVTERR), KVM_MSR_EXIT_REASON_INVAL);
	vcpu->run->msr.error = 1;
	vcpu_run_done(vcpu);
}

/* Only the reasons asked for; none at first */
static void guest_gp(uint64_t arg)
{
	uint64_t v;

	GUEST_ASSERT_EQ(rdmsr_safe(MSR_UNKNOWN, &v), GP_VECTOR);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_APICBASE, BIT(60)), GP_VECTOR);
}

static void test_reasons(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR, .args[0] = 1 << 15 };

	start(0, guest_gp, 0);
	ASSERT_EQ(vm_cap(vm, KVM_CAP_X86_USER_SPACE_MSR) & ALL_REASONS, ALL_REASONS);
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	vcpu_run_done(vcpu);
	user_msr(KVM_MSR_EXIT_REASON_UNKNOWN);
	vcpu_restart(vcpu, guest_gp, 0);
	expect_msr(KVM_EXIT_X86_RDMSR, MSR_UNKNOWN, KVM_MSR_EXIT_REASON_UNKNOWN);
	vcpu->run->msr.error = 1;
	vcpu_run_done(vcpu);
	user_msr(0);
	vcpu_restart(vcpu, guest_gp, 0);
	vcpu_run_done(vcpu);
}

/* Userspace goes elsewhere instead of answering */
static void guest_elsewhere(uint64_t arg)
{
	GUEST_SYNC(arg);
}

static void test_leave(void)
{
	start(0, guest_unknown, 0);
	user_msr(KVM_MSR_EXIT_REASON_UNKNOWN);
	expect_msr(KVM_EXIT_X86_RDMSR, MSR_UNKNOWN, KVM_MSR_EXIT_REASON_UNKNOWN);
	vcpu_complete_io(vcpu);
	vcpu_restart(vcpu, guest_elsewhere, 5);
	vcpu_run_sync(vcpu, 5);
	vcpu_run_done(vcpu);
}

/* --- the filter --- */

/* Bits of one range, the first MSR in bit 0 */
static uint64_t bitmap[8];

static void set_filter(uint32_t flags, uint32_t range_flags, uint32_t base, uint32_t n)
{
	struct kvm_msr_filter f = {
		.flags = flags,
		.ranges[0] = { .flags = range_flags, .base = base, .nmsrs = n, .bitmap = (uint8_t *)bitmap },
	};

	VM_IOCTL(vm, KVM_X86_SET_MSR_FILTER, &f);
}

#define RW	(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)

/* SYSENTER_CS may be read, not written; SYSENTER_ESP written, not read; nobody else is concerned */
static void guest_ranges(uint64_t arg)
{
	uint64_t v;

	GUEST_ASSERT_EQ(rdmsr_safe(MSR_SYSENTER_CS, &v), -1);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_SYSENTER_CS, 0x10), GP_VECTOR);
	GUEST_ASSERT_EQ(rdmsr_safe(MSR_SYSENTER_ESP, &v), GP_VECTOR);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_SYSENTER_ESP, 0x1234), -1);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_STAR, 0x5678), -1);
	GUEST_ASSERT_EQ(rdmsr_safe(MSR_STAR, &v), -1);
	GUEST_ASSERT_EQ(v, 0x5678ull);
	GUEST_ASSERT_EQ(rdmsr_safe(MSR_TSC, &v), -1);
}

static void test_direct(void)
{
	struct kvm_msr_filter f = {
		.ranges[0] = { .flags = KVM_MSR_FILTER_READ, .base = MSR_SYSENTER_CS, .nmsrs = 2, .bitmap = (uint8_t *)bitmap },
		.ranges[3] = { .flags = KVM_MSR_FILTER_WRITE, .base = MSR_SYSENTER_CS, .nmsrs = 2,
			       .bitmap = (uint8_t *)(bitmap + 1) },
	};

	start(0, guest_ranges, 0);
	bitmap[0] = 1;		/* read: the first */
	bitmap[1] = 2;		/* write: the second */
	VM_IOCTL(vm, KVM_X86_SET_MSR_FILTER, &f);
	vcpu_run_done(vcpu);
	ASSERT_EQ(vcpu_get_msr(vcpu, MSR_SYSENTER_ESP), 0x1234);
	/* The VMM itself is not concerned */
	vcpu_set_msr(vcpu, MSR_SYSENTER_CS, 0x20);
	ASSERT_EQ(vcpu_get_msr(vcpu, MSR_SYSENTER_CS), 0x20);
}

/* All but the ranges denied */
static void guest_default(uint64_t arg)
{
	uint64_t v;

	GUEST_ASSERT_EQ(rdmsr_safe(MSR_TSC, &v), GP_VECTOR);
	GUEST_ASSERT_EQ(rdmsr_safe(MSR_APICBASE, &v), -1);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_KERNEL_GS_BASE, 5), GP_VECTOR);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_TSC_DEADLINE, 5), GP_VECTOR);
	/* x2APIC registers are beyond the filter */
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_APICBASE, rdmsr(MSR_APICBASE) | APICBASE_ENABLE | APICBASE_X2APIC), -1);
	GUEST_ASSERT_EQ(rdmsr_safe(X2APIC_MSR(APIC_TPR), &v), -1);
}

static void test_default_deny(void)
{
	start(VM_IRQCHIP, guest_default, 0);
	bitmap[0] = 2;		/* the second of two: APICBASE */
	set_filter(KVM_MSR_FILTER_DEFAULT_DENY, RW, MSR_APICBASE - 1, 2);
	vcpu_run_done(vcpu);
}

/* What is filtered goes to userspace; other vCPUs, later ones too */
static void guest_filtered(uint64_t arg)
{
	uint64_t v;

	wrmsr(MSR_KERNEL_GS_BASE, 0x8000);
	GUEST_ASSERT_EQ(rdmsr_safe(MSR_KERNEL_GS_BASE, &v), -1);
	GUEST_ASSERT_EQ(v, 0x77ull);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_KERNEL_GS_BASE, 0x88), GP_VECTOR);
}

static void one_filtered(void)
{
	expect_msr(KVM_EXIT_X86_WRMSR, MSR_KERNEL_GS_BASE, KVM_MSR_EXIT_REASON_FILTER);
	ASSERT_EQ(vcpu->run->msr.data, 0x8000);
	expect_msr(KVM_EXIT_X86_RDMSR, MSR_KERNEL_GS_BASE, KVM_MSR_EXIT_REASON_FILTER);
	vcpu->run->msr.data = 0x77;
	expect_msr(KVM_EXIT_X86_WRMSR, MSR_KERNEL_GS_BASE, KVM_MSR_EXIT_REASON_FILTER);
	vcpu->run->msr.error = 1;
	vcpu_run_done(vcpu);
	ASSERT_EQ(vcpu_get_msr(vcpu, MSR_KERNEL_GS_BASE), 0);
}

static void guest_free(uint64_t arg)
{
	wrmsr(MSR_KERNEL_GS_BASE, 0x8000);
	GUEST_ASSERT_EQ(rdmsr(MSR_KERNEL_GS_BASE), 0x8000ull);
}

static void test_filtered(void)
{
	struct kvm_msr_filter none = { 0 };

	start(0, guest_filtered, 0);
	user_msr(KVM_MSR_EXIT_REASON_FILTER);
	bitmap[0] = 0;
	set_filter(0, RW, MSR_KERNEL_GS_BASE, 1);
	one_filtered();
	vcpu = vcpu_add(vm, 1, guest_filtered, 0);
	one_filtered();
	/* An empty filter is none */
	VM_IOCTL(vm, KVM_X86_SET_MSR_FILTER, &none);
	vcpu_restart(vcpu, guest_free, 0);
	vcpu_run_done(vcpu);
	ASSERT_EQ(vcpu_get_msr(vcpu, MSR_KERNEL_GS_BASE), 0x8000);
}

/* The filter changes under a guest that runs and does not exit by itself */
static volatile bool let_go;
static volatile uint64_t rounds;

static void guest_loop(uint64_t arg)
{
	while (!let_go) {
		wrmsr(MSR_STAR, rounds);
		rounds++;
	}
}

static volatile uint64_t filtered;

static bool on_filtered(struct vcpu *v)
{
	if (v->run->exit_reason != KVM_EXIT_X86_WRMSR)
		return false;
	filtered++;
	return true;
}

static void test_while_running(void)
{
	struct kvm_msr_filter none = { 0 };
	uint64_t seen;

	start(0, guest_loop, 0);
	user_msr(KVM_MSR_EXIT_REASON_FILTER);
	bitmap[0] = 0;
	vcpu->on_exit = on_filtered;
	vcpu_start(vcpu);
	for (int i = 0; i < 5; i++) {
		seen = rounds;
		ASSERT(WAIT_FOR(rounds > seen + 10, 20000));
		seen = filtered;
		set_filter(0, KVM_MSR_FILTER_WRITE, MSR_STAR, 1);
		ASSERT(WAIT_FOR(filtered > seen + 10, 20000));
		VM_IOCTL(vm, KVM_X86_SET_MSR_FILTER, &none);
		/* one may still be on its way */
		seen = filtered;
		sleep_ms(20);
		ASSERT_LE(filtered, seen + 1);
	}
	let_go = true;
	vcpu_join(vcpu);
}

static void test_bad_arguments(void)
{
	struct kvm_msr_filter f = { .flags = 2 };

	start(0, guest_gp, 0);
	ASSERT_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	/* All denied */
	f.flags = KVM_MSR_FILTER_DEFAULT_DENY;
	ASSERT_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.flags = 0;
	f.ranges[2] = (struct kvm_msr_filter_range){ .flags = 0, .nmsrs = 1, .bitmap = (uint8_t *)bitmap };
	ASSERT_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[2].flags = 4;
	ASSERT_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[2].flags = KVM_MSR_FILTER_READ;
	f.ranges[2].nmsrs = KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8 + 1;
	ASSERT_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[2].nmsrs = 0xffffffff;
	ASSERT_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[2].nmsrs = 1;
	f.ranges[2].bitmap = (uint8_t *)8;
	ASSERT_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f), EFAULT);
	ASSERT_ERR(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, NULL), EFAULT);
	/* The largest; a range that runs over the end of all MSRs */
	f.ranges[2].bitmap = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	f.ranges[2].nmsrs = KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8;
	f.ranges[2].base = 0xfffffff0;
	VM_IOCTL(vm, KVM_X86_SET_MSR_FILTER, &f);
	vcpu_run_done(vcpu);
}

/* --- KVM_CAP_MSR_PLATFORM_INFO --- */

static void guest_platform_info(uint64_t allowed)
{
	uint64_t v;

	GUEST_ASSERT_EQ(rdmsr_safe(MSR_PLATFORM_INFO, &v), allowed ? -1 : GP_VECTOR);
}

static void test_platform_info(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MSR_PLATFORM_INFO };
	uint64_t value;

	REQUIRE_CAP(KVM_CAP_MSR_PLATFORM_INFO);
	start(0, guest_platform_info, true);
	vcpu_run_done(vcpu);
	value = vcpu_get_msr(vcpu, MSR_PLATFORM_INFO);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	vcpu_restart(vcpu, guest_platform_info, false);
	vcpu_run_done(vcpu);
	ASSERT_EQ(vcpu_get_msr(vcpu, MSR_PLATFORM_INFO), value);
	cap.args[0] = 1;
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	vcpu_restart(vcpu, guest_platform_info, true);
	vcpu_run_done(vcpu);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(unknown),
		TEST(invalid),
		TEST(reasons),
		TEST(leave),
		TEST(direct),
		TEST(default_deny),
		TEST(filtered),
		TEST(while_running),
		TEST(bad_arguments),
		TEST(platform_info),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
