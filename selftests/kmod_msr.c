// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies model-specific registers: all that the device lists can be read and written back; values set by either side
 * reach the other and survive runs; what is unknown or invalid faults in the guest and is reported by number to the VMM;
 * the guest's system-call registers work and the host's are not hurt.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_SYSENTER_EIP	0x176
#define MSR_PAT			0x277
#define MSR_HWCR		0xc0010015
#define MSR_STAR		0xc0000081
#define MSR_LSTAR		0xc0000082
#define MSR_CSTAR		0xc0000083
#define MSR_SFMASK		0xc0000084
#define MSR_FS_BASE		0xc0000100
#define MSR_GS_BASE		0xc0000101
#define MSR_KERNEL_GS_BASE	0xc0000102
#define MSR_TSC_AUX		0xc0000103

static struct vm *vm;
static struct vcpu *vcpu;

static void guest_nothing(uint64_t arg)
{
}

static struct kvm_msr_list *msr_list(void)
{
	struct kvm_msr_list head = { .nmsrs = 0 }, *list;

	ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, &head);
	list = calloc(1, sizeof(*list) + head.nmsrs * 4);
	list->nmsrs = head.nmsrs;
	SYS_IOCTL(KVM_GET_MSR_INDEX_LIST, list);
	return list;
}

static bool listed(uint32_t index)
{
	struct kvm_msr_list *list = msr_list();
	bool found = false;

	for (unsigned int i = 0; i < list->nmsrs; i++)
		found |= list->indices[i] == index;
	free(list);
	return found;
}

/* What a stock 64-bit kernel and the clients need in the list, to save a VM's state */
static void test_list_has(void)
{
	static const uint32_t need[] = {
		MSR_TSC, MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK,
		MSR_KERNEL_GS_BASE, MSR_PAT, 0x1a0, 0x11, 0x12, 0x4b564d00, 0x4b564d01, 0x4b564d03, 0x4b564d04,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(need); i++)
		ASSERT_MSG(listed(need[i]), "MSR 0x%x is not in the list", need[i]);
	/* a saved deadline needs its MSR */
	if (sys_cap(KVM_CAP_TSC_DEADLINE_TIMER) > 0)
		ASSERT(listed(MSR_TSC_DEADLINE));
}

static void test_all_listed(void)
{
	struct kvm_msr_list *list = msr_list();
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1 };
	bool good = true;

	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_nothing, 0);
	for (unsigned int i = 0; i < list->nmsrs; i++) {
		m.entry.index = list->indices[i];
		m.entry.data = 0;
		if (ioctl(vcpu->fd, KVM_GET_MSRS, &m) != 1) {
			tap_diag("MSR 0x%x cannot be read", list->indices[i]);
			good = false;
			continue;
		}
		if (ioctl(vcpu->fd, KVM_SET_MSRS, &m) != 1) {
			tap_diag("MSR 0x%x cannot be set to its value 0x%llx", list->indices[i], m.entry.data);
			good = false;
		}
	}
	ASSERT(good);
	vcpu_run_done(vcpu);
}

/* Set by the host, read by the guest, changed by the guest, read by the host, over several runs */
static const struct {
	uint32_t index;
	uint64_t host, guest;
} round_trip[] = {
	{ MSR_SYSENTER_CS, 0x8, 0x10 },
	/* AMD keeps 32 bits of these */
	{ MSR_SYSENTER_ESP, 0x12345000, 0x7f001000 },
	{ MSR_SYSENTER_EIP, 0x1234567, 0x401000 },
	{ MSR_PAT, 0x0007040600070406, 0x0606060606060606 },
	{ MSR_STAR, 0x0023001000000000, 0x001b000800000000 },
	{ MSR_LSTAR, 0xffffffff81800000, 0x400123 },
	{ MSR_CSTAR, 0xffffffff81801000, 0x400456 },
	{ MSR_SFMASK, 0x47700, 0x257fd5 },
	{ MSR_FS_BASE, 0x7f1234567000, 0x7f7654321000 },
	{ MSR_KERNEL_GS_BASE, 0xffff88807fc00000, 0x123000 },
};

static void guest_round_trip(uint64_t arg)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(round_trip); i++) {
		GUEST_ASSERT_EQ(rdmsr(round_trip[i].index), round_trip[i].host);
		wrmsr(round_trip[i].index, round_trip[i].guest);
	}
	GUEST_SYNC(1);
	for (unsigned int i = 0; i < ARRAY_SIZE(round_trip); i++)
		GUEST_ASSERT_EQ(rdmsr(round_trip[i].index), round_trip[i].guest);
}

static void test_round_trip(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_round_trip, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(round_trip); i++) {
		vcpu_set_msr(vcpu, round_trip[i].index, round_trip[i].host);
		ASSERT_EQ(vcpu_get_msr(vcpu, round_trip[i].index), round_trip[i].host);
	}
	vcpu_run_sync(vcpu, 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(round_trip); i++)
		ASSERT_EQ(vcpu_get_msr(vcpu, round_trip[i].index), round_trip[i].guest);
	vcpu_run_done(vcpu);
}

static void guest_faults(uint64_t arg)
{
	static const struct {
		uint32_t index;
		uint64_t value;
	} bad[] = {
		{ MSR_PAT, 0x0000000000000002 },	/* no memory type */
		{ MSR_PAT, 0x08 },
		{ MSR_EFER, BIT(63) },
		{ MSR_EFER, EFER_NX },			/* LME away while paging */
	};
	static const uint32_t unknown[] = { 0x12345678, 0xc0009999, 0xffffffff, 0x4b564dff, 0xdead };
	uint64_t v;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t before = rdmsr(bad[i].index);

		GUEST_ASSERT_EQ(wrmsr_safe(bad[i].index, bad[i].value), GP_VECTOR);
		GUEST_ASSERT_EQ(rdmsr(bad[i].index), before);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(unknown); i++) {
		GUEST_ASSERT_EQ(rdmsr_safe(unknown[i], &v), GP_VECTOR);
		GUEST_ASSERT_EQ(wrmsr_safe(unknown[i], 0), GP_VECTOR);
	}
}

static void refuse(uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };
	uint64_t before = vcpu_get_msr(vcpu, index);

	if (ioctl(vcpu->fd, KVM_SET_MSRS, &m) != 0)
		FAIL("MSR 0x%x takes 0x%llx", index, (unsigned long long)value);
	ASSERT_EQ(vcpu_get_msr(vcpu, index), before);
}

static void test_faults(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_faults, 0);
	/* No addresses: for the host they are refused too (for the guest the CPU does it, emulators do not) */
	refuse(MSR_LSTAR, 0x8000000000000000);
	refuse(MSR_CSTAR, 0x8000000000000000);
	refuse(MSR_FS_BASE, 0x4000000000000000);
	refuse(MSR_KERNEL_GS_BASE, 0x0100000000000000);
	refuse(MSR_PAT, 2);
	refuse(MSR_APICBASE, BIT(60));
	vcpu_run_done(vcpu);
}

/* HWCR is nothing at first; of its bits some are kept, some swallowed, the others refused */
static void test_hwcr(void)
{
	const uint64_t swallowed = BIT(3) | BIT(6) | BIT(8), kept = BIT(18) | BIT(24);

	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_faults, 0);
	ASSERT_EQ(vcpu_get_msr(vcpu, MSR_HWCR), 0);
	vcpu_set_msr(vcpu, MSR_HWCR, swallowed);
	ASSERT_EQ(vcpu_get_msr(vcpu, MSR_HWCR), 0);
	refuse(MSR_HWCR, BIT(0));
	refuse(MSR_HWCR, BIT(40));
	/* Linux 6.1's KVM knows no bit 24 */
	if (!strcmp(dev_path(), "/dev/pvhv")) {
		vcpu_set_msr(vcpu, MSR_HWCR, kept);
		ASSERT_EQ(vcpu_get_msr(vcpu, MSR_HWCR), kept);
	}
}

static void guest_user_msr(uint64_t arg)
{
	/* In user mode RDMSR is a fault before it is anything else */
	__asm__ volatile("mov %%rsp, %%rax\n\t"
			 "push %0; push %%rax; push $2; push %1; lea 1f(%%rip), %%rax; push %%rax; iretq\n\t"
			 "1: mov $0x10, %%ecx; rdmsr" : : "i"(SEL_UDATA), "i"(SEL_UCODE64) : "rax", "rcx", "rdx", "memory");
}

static volatile uint64_t gp_cs;

static void on_gp(struct guest_regs *regs)
{
	gp_cs = regs->cs;
	guest_done();
}

static void test_user_mode(void)
{
	vm = vm_create(0);
	guest_handlers[GP_VECTOR] = on_gp;
	vcpu = vcpu_add(vm, 0, guest_user_msr, 0);
	vcpu_run_done(vcpu);
	ASSERT_EQ(gp_cs, SEL_UCODE64);
}

/* SYSCALL and SYSRET in the guest, while the host makes system calls between: neither sees the other's registers */
static volatile uint64_t calls, from_rip;

__asm__(".pushsection .text\n"
	"syscall_entry:\n"
	"	incq calls(%rip)\n"
	"	mov %rcx, from_rip(%rip)\n"
	"	cmp $7, %eax\n"
	"	je 1f\n"
	"	sysretq\n"
	"1:	mov %r12, %rsp\n"		/* number 7: stay in kernel mode */
	"	jmp syscall_back\n"
	".popsection");

static void guest_syscall(uint64_t arg)
{
	extern const char syscall_entry[];

	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	/* SYSCALL: CS 0x08, SS 0x10. SYSRET: SS 0x1b, CS 0x23. */
	wrmsr(MSR_STAR, 0x0013000800000000);
	wrmsr(MSR_LSTAR, (uintptr_t)syscall_entry);
	wrmsr(MSR_SFMASK, RFLAGS_IF | RFLAGS_TF);
	for (int i = 0; i < 3; i++) {
		__asm__ volatile("mov %%rsp, %%r12\n\t"
				 "push %0; push %%r12; push $2; push %1; lea 1f(%%rip), %%rax; push %%rax; iretq\n\t"
				 "1: mov $1, %%eax; syscall\n\t"
				 "mov $2, %%eax; syscall\n\t"
				 "mov $7, %%eax; syscall\n\t"
				 ".globl syscall_back\n"
				 "syscall_back:\n\t"
				 : : "i"(SEL_UDATA), "i"(SEL_UCODE64) : "rax", "rcx", "r11", "r12", "memory");
		GUEST_SYNC(1);
	}
}

static void test_syscall(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_syscall, 0);
	for (int i = 1; i <= 3; i++) {
		vcpu_run_sync(vcpu, 1);
		ASSERT_EQ(calls, 3 * i);
		ASSERT_EQ(getppid() > 0, true);
	}
	vcpu_run_done(vcpu);
}

static void guest_swapgs(uint64_t arg)
{
	uint64_t a = rdmsr(MSR_GS_BASE);

	wrmsr(MSR_KERNEL_GS_BASE, 0x777000);
	__asm__ volatile("swapgs");
	GUEST_ASSERT_EQ(rdmsr(MSR_GS_BASE), 0x777000ull);
	GUEST_SYNC(1);
	GUEST_ASSERT_EQ(rdmsr(MSR_KERNEL_GS_BASE), a);
	__asm__ volatile("swapgs");
	GUEST_ASSERT_EQ(rdmsr(MSR_GS_BASE), a);
}

static void test_swapgs(void)
{
	struct kvm_sregs sregs;

	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_swapgs, 0);
	vcpu_run_sync(vcpu, 1);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	ASSERT_EQ(sregs.gs.base, 0x777000);
	vcpu_run_done(vcpu);
}

static uint32_t rdtscp_aux(void)
{
	uint32_t lo, hi, aux;

	__asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
	return aux;
}

static void guest_aux(uint64_t arg)
{
	for (uint32_t i = 1; i < 4; i++) {
		wrmsr(MSR_TSC_AUX, 0x1000 + i);
		GUEST_SYNC(1);
		GUEST_ASSERT_EQ(rdtscp_aux(), 0x1000 + i);
		GUEST_ASSERT_EQ(rdmsr(MSR_TSC_AUX), 0x1000ull + i);
	}
}

static void test_tsc_aux(void)
{
	struct kvm_cpuid_entry2 *leaf;
	uint32_t host = 0;

	vm = vm_create(0);
	leaf = cpuid_find(vm->cpuid, 0x80000001, 0);
	if (!leaf || !(leaf->edx & BIT(27)))
		SKIP("no RDTSCP");
	vcpu = vcpu_add(vm, 0, guest_aux, 0);
	host = rdtscp_aux();
	for (int i = 1; i < 4; i++) {
		vcpu_run_sync(vcpu, 1);
		ASSERT_EQ(vcpu_get_msr(vcpu, MSR_TSC_AUX), 0x1000 + i);
		/* low bits: the CPU the host's thread runs on; never the guest's value */
		ASSERT_LT(rdtscp_aux() & 0xfff, 0x1000);
		ASSERT_EQ(rdtscp_aux() >> 12, host >> 12);
	}
	vcpu_run_done(vcpu);
}

/* The time stamp counter: written by either side it goes on from there */
static void guest_tsc(uint64_t arg)
{
	uint64_t a = rdtsc(), b;

	GUEST_ASSERT(rdmsr(MSR_TSC) >= a);
	wrmsr(MSR_TSC, a + (1ull << 40));
	b = rdtsc();
	GUEST_ASSERT(b >= a + (1ull << 40));
	GUEST_ASSERT(b < a + (1ull << 41));
	GUEST_SYNC(1);
	GUEST_ASSERT(rdtsc() >= 5ull << 50);
	GUEST_ASSERT(rdtsc() < 6ull << 50);
}

static void test_tsc(void)
{
	uint64_t t;

	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_tsc, 0);
	vcpu_run_sync(vcpu, 1);
	t = vcpu_get_msr(vcpu, MSR_TSC);
	ASSERT_GE(t, 1ll << 40);
	ASSERT_GT(vcpu_get_msr(vcpu, MSR_TSC), t);
	vcpu_set_msr(vcpu, MSR_TSC, 5ull << 50);
	vcpu_run_done(vcpu);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(list_has),
		TEST(all_listed),
		TEST(round_trip),
		TEST(faults),
		TEST(hwcr),
		TEST(user_mode),
		TEST(syscall),
		TEST(swapgs),
		TEST(tsc_aux),
		TEST(tsc),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
