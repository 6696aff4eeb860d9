// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies CPUID: the supported table is consistent with the CPU and with what the module offers, the guest sees the table
 * the VMM sets, bits that follow the guest's state do, leaves that are not there are zero.
 */
#include <stdlib.h>
#include <string.h>

#include "vm.h"

static struct vm *vm;
static struct vcpu *vcpu;

static struct cpuid_regs host_cpuid(uint32_t leaf, uint32_t index)
{
	return guest_cpuid(leaf, index);
}

/* Bits of leaf 1 that a hypervisor adds: x2APIC, TSC deadline, hypervisor; OSXSAVE follows CR4 */
#define ADDED_1C	(BIT(21) | BIT(24) | BIT(31) | BIT(27))

static void test_supported(void)
{
	struct kvm_cpuid2 *c = sys_supported_cpuid();
	struct kvm_cpuid_entry2 *e;
	struct cpuid_regs h;

	/* vendor and model are the CPU's */
	e = cpuid_find(c, 0, 0);
	h = host_cpuid(0, 0);
	ASSERT(e);
	ASSERT_EQ(e->ebx, h.ebx);
	ASSERT_EQ(e->ecx, h.ecx);
	ASSERT_EQ(e->edx, h.edx);
	ASSERT_GE(e->eax, 7);
	e = cpuid_find(c, 1, 0);
	h = host_cpuid(1, 0);
	ASSERT_EQ(e->eax, h.eax);
	/* what a 64-bit kernel cannot do without: FPU TSC MSR PAE CX8 APIC SEP PGE CMOV PAT FXSR SSE SSE2 */
	ASSERT_EQ(e->edx & 0x0701ab71 & h.edx, 0x0701ab71 & h.edx);
	ASSERT(e->ecx & BIT(21));
	ASSERT(!(e->ecx & BIT(24)));	/* set by the VMM, with the interrupt chip */
	ASSERT_EQ(e->ecx & ~h.ecx & ~ADDED_1C, 0);
	ASSERT_EQ(e->edx & ~h.edx, 0);
	e = cpuid_find(c, 0x80000001, 0);
	h = host_cpuid(0x80000001, 0);
	ASSERT(e);
	ASSERT_EQ(e->edx & ~h.edx, 0);
	ASSERT(e->edx & BIT(29));	/* long mode */
	ASSERT(e->edx & BIT(20));	/* NX */
	ASSERT(e->edx & BIT(11));	/* SYSCALL */
	/* physical addresses: no wider than the CPU's */
	e = cpuid_find(c, 0x80000008, 0);
	h = host_cpuid(0x80000008, 0);
	ASSERT(e);
	ASSERT_LE(e->eax & 0xff, h.eax & 0xff);
	ASSERT_GE(e->eax & 0xff, 36);
	/* no entry twice */
	for (unsigned int i = 0; i < c->nent; i++)
		for (unsigned int j = 0; j < i; j++)
			ASSERT(c->entries[i].function != c->entries[j].function ||
			       c->entries[i].index != c->entries[j].index);
}

/* The paravirtual leaves, as stock Linux looks for them */
static void test_paravirtual(void)
{
	static const struct {
		int bit;
		const char *name;
	} need[] = {
		{ 3, "CLOCKSOURCE2" }, { 5, "STEAL_TIME" }, { 6, "PV_EOI" }, { 7, "PV_UNHALT" }, { 11, "PV_SEND_IPI" },
		{ 13, "PV_SCHED_YIELD" }, { 24, "CLOCKSOURCE_STABLE" },
	};
	struct kvm_cpuid2 *c = sys_supported_cpuid();
	struct kvm_cpuid_entry2 *e = cpuid_find(c, 0x40000000, 0);

	ASSERT(e);
	ASSERT_EQ(e->ebx, 0x4b4d564b);	/* KVMKVMKVM */
	ASSERT_EQ(e->ecx, 0x564b4d56);
	ASSERT_EQ(e->edx, 0x4d);
	ASSERT_GE(e->eax, 0x40000001);
	e = cpuid_find(c, 0x40000001, 0);
	ASSERT(e);
	for (unsigned int i = 0; i < ARRAY_SIZE(need); i++)
		ASSERT_MSG(e->eax >> need[i].bit & 1, "KVM_FEATURE_%s is not there", need[i].name);
}

static volatile uint32_t q_leaf, q_index;
static volatile struct cpuid_regs answer;

static void guest_ask(uint64_t arg)
{
	for (;;) {
		answer = guest_cpuid(q_leaf, q_index);
		GUEST_SYNC(1);
	}
}

static struct cpuid_regs ask(uint32_t leaf, uint32_t index)
{
	q_leaf = leaf;
	q_index = index;
	vcpu_run_sync(vcpu, 1);
	return answer;
}

/* Leaves whose answers depend on the guest's state */
static bool dynamic(const struct kvm_cpuid_entry2 *e)
{
	return e->function == 1 || e->function == 7 || e->function == 0xd || e->function == 0xb || e->function == 0x1f ||
	       e->function == 0x8000001e || e->function == 0x40000001;
}

static void test_guest_sees(void)
{
	struct kvm_cpuid2 *c;
	struct cpuid_regs r;

	vm = vm_create(0);
	c = vm->cpuid;
	vcpu = vcpu_add(vm, 3, guest_ask, 0);
	for (unsigned int i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (dynamic(e))
			continue;
		r = ask(e->function, e->index);
		if (r.eax != e->eax || r.ebx != e->ebx || r.ecx != e->ecx || r.edx != e->edx)
			FAIL("leaf 0x%x.%u: 0x%x 0x%x 0x%x 0x%x, not 0x%x 0x%x 0x%x 0x%x", e->function, e->index, r.eax,
			     r.ebx, r.ecx, r.edx, e->eax, e->ebx, e->ecx, e->edx);
	}
	r = ask(1, 0);
	ASSERT_EQ(r.ebx >> 24, 3);
	ASSERT_EQ(r.eax, cpuid_find(c, 1, 0)->eax);
	/* an index beyond a leaf's last */
	r = ask(7, 99);
	ASSERT_EQ(r.eax | r.ebx | r.ecx | r.edx, 0);
	/* out of range: zeroes on AMD; Intel repeats the last basic leaf */
	if (guest_is_amd) {
		r = ask(0x1000000, 0);
		ASSERT_EQ(r.eax | r.ebx | r.ecx | r.edx, 0);
	}
	r = ask(0x40001000, 0);
	ASSERT_EQ(r.ebx == 0x4b4d564b, 0);
}

static void test_set(void)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 4 * sizeof(c->entries[0]));
	struct cpuid_regs r;

	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_ask, 0);
	vcpu_destroy(vcpu);
	/* the VMM's own table, nothing but it; on a vCPU that never ran */
	c->nent = 3;
	c->entries[0] = (struct kvm_cpuid_entry2){
		.function = 0, .eax = 4, .ebx = 0x68747541, .ecx = 0x444d4163, .edx = 0x69746e65,
	};
	c->entries[1] = (struct kvm_cpuid_entry2){
		.function = 4, .index = 0, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x11, .edx = 0x22,
	};
	c->entries[2] = (struct kvm_cpuid_entry2){
		.function = 4, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x33, .edx = 0x44,
	};
	vcpu = vcpu_create(vm, 1);
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, c);
	c->nent = 4;
	c->entries[3] = (struct kvm_cpuid_entry2){ .function = 0x80000001, .edx = BIT(29) | BIT(20) };
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, c);
	/* long mode needs the library's page tables and no XSAVE */
	cpuid_find(vm->cpuid, 1, 0)->ecx &= ~BIT(26);
	vcpu_setup_long(vcpu, guest_ask, 0);
	r = ask(0, 0);
	ASSERT_EQ(r.eax, 4);
	ASSERT_EQ(r.ebx, 0x68747541);
	ASSERT_EQ(ask(4, 0).eax, 0x11);
	ASSERT_EQ(ask(4, 1).edx, 0x44);
	ASSERT_EQ(ask(4, 2).eax, 0);
	ASSERT_EQ(ask(0x80000001, 0).edx & BIT(29), BIT(29));
	ASSERT_EQ(ask(1, 0).eax, 0);
}

/* Bits that follow CR4 and the APIC base */
static void guest_follow(uint64_t arg)
{
	GUEST_ASSERT(guest_cpuid(1, 0).edx & BIT(9));
	wrmsr(MSR_APICBASE, rdmsr(MSR_APICBASE) & ~BIT(11));
	GUEST_ASSERT(!(guest_cpuid(1, 0).edx & BIT(9)));
	wrmsr(MSR_APICBASE, rdmsr(MSR_APICBASE) | BIT(11));
	GUEST_ASSERT(guest_cpuid(1, 0).edx & BIT(9));
	if (guest_cpuid(1, 0).ecx & BIT(26)) {
		GUEST_ASSERT(guest_cpuid(1, 0).ecx & BIT(27));
		GUEST_WRREG(cr4, GUEST_RDREG(cr4) & ~CR4_OSXSAVE);
		GUEST_ASSERT(!(guest_cpuid(1, 0).ecx & BIT(27)));
		GUEST_WRREG(cr4, GUEST_RDREG(cr4) | CR4_OSXSAVE);
		GUEST_ASSERT(guest_cpuid(1, 0).ecx & BIT(27));
	}
}

static void test_follow(void)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_follow, 0);
	vcpu_run_done(vcpu);
}

/* CR4 and EFER bits of features that the table does not have: the guest may not set them */
static void guest_hidden(uint64_t arg)
{
	uint64_t cr4 = GUEST_RDREG(cr4);

	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %[v], %%cr4", NULL, , [v] "r"(cr4 | BIT(20))), GP_VECTOR);	/* SMEP */
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %[v], %%cr4", NULL, , [v] "r"(cr4 | BIT(21))), GP_VECTOR);	/* SMAP */
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %[v], %%cr4", NULL, , [v] "r"(cr4 | BIT(22))), GP_VECTOR);	/* PKE */
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %[v], %%cr4", NULL, , [v] "r"(cr4 | BIT(16))), GP_VECTOR);	/* FSGSBASE */
	GUEST_ASSERT_EQ(GUEST_RDREG(cr4), cr4);
}

static void test_hidden(void)
{
	vm = vm_create(0);
	for (unsigned int i = 0; i < vm->cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &vm->cpuid->entries[i];

		if (e->function == 7)
			e->ebx = e->ecx = e->edx = 0;
	}
	vcpu = vcpu_add(vm, 0, guest_hidden, 0);
	vcpu_run_done(vcpu);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(supported),
		TEST(paravirtual),
		TEST(guest_sees),
		TEST(set),
		TEST(follow),
		TEST(hidden),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
