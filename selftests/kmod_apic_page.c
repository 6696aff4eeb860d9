// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the page where guest memory has xAPIC registers, which hardware may work on (VT-x does): what registers hold of what
 * is written to them, with stores of several kinds; that no vCPU finds memory there, whatever the others' modes are; and what
 * becomes of it when an APIC moves or is off, when a slot covers it, when it is executed, is a stack or a page table.
 */
#include <errno.h>
#include <string.h>

#include "apic.h"
#include "vm.h"

#define APIC_ARB	0x90
#define APIC_RESERVED	0x400	/* in the page, and no register */
#define VEC		0x51
#define VEC_HI		0x71
#define MOVED_BASE	0xd0000000ul
#define MMIO_QUIRK	BIT(2)	/* KVM_X86_QUIRK_LAPIC_MMIO_HOLE */
#define PATTERN		0x5eed5eedu

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint32_t hits[256];

static void on_irq(struct guest_regs *regs)
{
	hits[regs->vector]++;
	xapic_write(APIC_EOI, 0);
}

static void guest_start(void)
{
	apic_only(0);
	guest_handle_irqs(on_irq);
}

static void start(void (*fn)(uint64_t), uint64_t arg)
{
	memset((void *)hits, 0, sizeof(hits));
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, fn, arg);
}

static void self(uint32_t vector)
{
	xapic_write(APIC_ICR, ICR_FIXED | ICR_ASSERT | ICR_SELF | vector);
}

static void set_base(uint64_t addr, uint64_t flags)
{
	wrmsr(MSR_APICBASE, (rdmsr(MSR_APICBASE) & APICBASE_BSP) | addr | flags);
}

/* --- what registers hold of what is written, and what else a write does --- */

static const struct {
	uint32_t reg, written, held;
} words[] = {
	{ APIC_TPR, 0xffffffff, 0xff },
	{ APIC_TPR, 0x120, 0x20 },
	{ APIC_TPR, 0, 0 },
	{ APIC_ID, 0xffffffff, 0xff000000 },
	{ APIC_ID, 0, 0 },
	{ APIC_LDR, 0x01ffffff, 0x01000000 },
	{ APIC_DFR, 0x00000000, 0x0fffffff },
	{ APIC_DFR, 0xf0000000, 0xffffffff },
	{ APIC_SVR, 0xfffffdff, 0x1ff },
	{ APIC_LVTTHMR, 0xffffffff, 0x107ff },
	{ APIC_LVTPC, 0x00010400, 0x10400 },
	{ APIC_LVT0, 0xffffffff, 0x1a7ff },
	{ APIC_LVT1, 0x00010000, 0x10000 },
	{ APIC_LVTERR, 0xfff10099, 0x10099 },
	{ APIC_LVTT, 0xfff10000 | VEC, 0x10000 | VEC },
	{ APIC_TDCR, 0xffffffff, 0xb },
	{ APIC_TDCR, 4, 0 },
	{ APIC_ICR2, 0x12345678, 0x12000000 },
	{ APIC_ESR, 0xffffffff, 0 },
	{ APIC_EOI, 0xffffffff, 0 },
	{ APIC_RESERVED, 0xffffffff, 0 },
};

static void guest_words(uint64_t arg)
{
	uint32_t version, value, *to = &value;
	uint64_t from = APIC_BASE + APIC_LVTERR;

	guest_start();
	version = xapic_read(APIC_VERSION);
	for (unsigned int i = 0; i < ARRAY_SIZE(words); i++) {
		xapic_write(words[i].reg, words[i].written);
		GUEST_ASSERT_EQ(xapic_read(words[i].reg), words[i].held);
	}
	/* Read-only */
	xapic_write(APIC_VERSION, 0);
	GUEST_ASSERT_EQ(xapic_read(APIC_VERSION), version);
	xapic_write(APIC_ISR, 0xffffffff);
	GUEST_ASSERT_EQ(xapic_read(APIC_ISR), 0u);
	/* Both, in one instruction; a part; and by a string instruction */
	__asm__ volatile("orl %1, %0" : "+m"(*(volatile uint32_t *)(APIC_BASE + APIC_TPR)) : "r"(0x10) : "cc");
	GUEST_ASSERT_EQ(xapic_read(APIC_TPR), 0x10u);
	value = 0x10044;
	__asm__ volatile("xchgl %0, %1" : "+r"(value), "+m"(*(volatile uint32_t *)(APIC_BASE + APIC_LVTERR)));
	GUEST_ASSERT_EQ(value, 0x10099u);
	GUEST_ASSERT_EQ(xapic_read(APIC_LVTERR), 0x10044u);
	GUEST_ASSERT_EQ(*(volatile uint8_t *)(APIC_BASE + APIC_LVTERR + 2), 1);
	GUEST_ASSERT_EQ(*(volatile uint16_t *)(APIC_BASE + APIC_LVTERR), 0x44);
	__asm__ volatile("movsl" : "+S"(from), "+D"(to) : : "memory");
	GUEST_ASSERT_EQ(value, 0x10044u);
	/* Those that hardware leaves to software */
	xapic_write(APIC_TPR, 0);
	GUEST_ASSERT_EQ(xapic_read(APIC_PPR), 0u);
	GUEST_ASSERT_EQ(xapic_read(APIC_ARB), 0u);
	/* Software-disabled, all of the LVT is masked and stays so */
	xapic_write(APIC_SVR, 0xff);
	GUEST_ASSERT_EQ(xapic_read(APIC_LVT0), 0x1a7ffu);
	xapic_write(APIC_LVT1, 0x400);
	GUEST_ASSERT_EQ(xapic_read(APIC_LVT1), 0x10400u);
}

static void test_words(void)
{
	start(guest_words, 0);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

/* --- what writes set going: errors, the timer in each of its modes --- */

static void wait_for(uint32_t vector, uint32_t n)
{
	uint64_t end = rdtsc() + guest_us(10000000);

	while (hits[vector] < n && rdtsc() < end)
		sti_nop_cli();
	GUEST_ASSERT(hits[vector] >= n);
}

static void guest_timer(uint64_t arg)
{
	guest_start();
	xapic_write(APIC_LVTERR, 0x99);
	xapic_write(APIC_ICR, ICR_FIXED | ICR_ASSERT | ICR_SELF | 5);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[0x99], 1u);
	xapic_write(APIC_ESR, 0);
	GUEST_ASSERT_EQ(xapic_read(APIC_ESR), (uint32_t)BIT(5));
	xapic_write(APIC_ESR, 0);
	GUEST_ASSERT_EQ(xapic_read(APIC_ESR), 0u);

	xapic_write(APIC_TDCR, APIC_TDCR_DIV1);
	xapic_write(APIC_LVTT, VEC);
	xapic_write(APIC_TMICT, 500000);
	GUEST_ASSERT(xapic_read(APIC_TMCCT) <= 500000);
	wait_for(VEC, 1);
	GUEST_ASSERT_EQ(xapic_read(APIC_TMCCT), 0u);
	GUEST_ASSERT_EQ(xapic_read(APIC_TMICT), 500000u);
	/* The count goes on when the mode changes, but to the deadline's and back */
	xapic_write(APIC_TMICT, 0x7fffffff);
	xapic_write(APIC_LVTT, APIC_LVTT_PERIODIC | VEC);
	GUEST_ASSERT(xapic_read(APIC_TMCCT) > 0);
	xapic_write(APIC_LVTT, APIC_LVTT_DEADLINE | VEC_HI);
	GUEST_ASSERT_EQ(xapic_read(APIC_TMCCT), 0u);
	GUEST_ASSERT_EQ(xapic_read(APIC_TMICT), 0u);
	xapic_write(APIC_TMICT, 1000);
	GUEST_ASSERT_EQ(xapic_read(APIC_TMICT), 0u);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + guest_us(200));
	wait_for(VEC_HI, 1);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + guest_us(100000000));
	xapic_write(APIC_LVTT, VEC);
	GUEST_ASSERT_EQ(rdmsr(MSR_TSC_DEADLINE), 0ull);
	GUEST_ASSERT_EQ(hits[VEC], 1u);
}

static void test_timer(void)
{
	REQUIRE_CAP(KVM_CAP_TSC_DEADLINE_TIMER);
	start(guest_timer, 0);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

/* --- two vCPUs: no memory is there for one whose APIC is in another mode, nor for the first then --- */

static void assert_registers(void)
{
	GUEST_ASSERT_EQ(xapic_read(APIC_ID) >> 24, guest_vcpu_id());
	GUEST_ASSERT_EQ(xapic_read(APIC_RESERVED), 0u);
	xapic_write(APIC_RESERVED, PATTERN);
	GUEST_ASSERT_EQ(xapic_read(APIC_RESERVED), 0u);
	xapic_write(APIC_TPR, 0x30 | guest_vcpu_id());
	GUEST_ASSERT_EQ(xapic_read(APIC_TPR), 0x30 | guest_vcpu_id());
	xapic_write(APIC_TPR, 0);
}

/* What is written is nowhere; a hole reads as ones */
static void assert_hole(void)
{
	static const uint32_t at[] = { 0, APIC_ID, APIC_TPR, APIC_EOI, APIC_LVTT, APIC_RESERVED, 0xffc };

	for (unsigned int i = 0; i < ARRAY_SIZE(at); i++) {
		xapic_write(at[i], PATTERN);
		GUEST_ASSERT_EQ(xapic_read(at[i]), 0xffffffffu);
	}
}

static void guest_steady(uint64_t rounds)
{
	for (uint64_t i = 0; i < rounds; i++) {
		assert_registers();
		GUEST_SYNC(1);
	}
}

static void guest_changing(uint64_t rounds)
{
	for (uint64_t i = 0; i < rounds; i++) {
		assert_registers();
		GUEST_SYNC(1);
		x2apic_enable();
		assert_hole();
		GUEST_SYNC(2);
		GUEST_ASSERT_EQ(rdmsr(X2APIC_MSR(APIC_ID)), (uint64_t)guest_vcpu_id());
		assert_hole();
		set_base(APIC_BASE, 0);
		assert_hole();
		GUEST_SYNC(3);
		assert_hole();
		set_base(MOVED_BASE, APICBASE_ENABLE);
		GUEST_ASSERT_EQ(*(volatile uint32_t *)(MOVED_BASE + APIC_ID) >> 24, guest_vcpu_id());
		GUEST_SYNC(4);
		set_base(APIC_BASE, APICBASE_ENABLE);
		assert_registers();
		GUEST_SYNC(5);
	}
}

static void test_two(void)
{
	struct vcpu *other;

	start(guest_steady, 10);
	other = vcpu_add(vm, 1, guest_changing, 2);
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 1; i <= 5; i++) {
			vcpu_run_sync(vcpu, 1);
			vcpu_run_sync(other, i);
		}
	}
	vcpu_run_done(other);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

/* Side by side, each at its own pace */
static void test_threads(void)
{
	start(guest_steady, 300);
	vcpu_add(vm, 1, guest_changing, 40);
	vcpu_add(vm, 2, guest_changing, 40);
	vm_run_all(vm);
	vm_destroy(vm);
}

/* --- moved away, or off with the hole in the VMM's hands: the address is nobody's --- */

static void guest_away(uint64_t arg)
{
	guest_start();
	GUEST_ASSERT_EQ(xapic_read(APIC_ID), 0u);
	set_base(MOVED_BASE, APICBASE_ENABLE);
	*(volatile uint32_t *)(MOVED_BASE + APIC_TPR) = 0x20;
	GUEST_ASSERT_EQ(xapic_read(APIC_TPR), PATTERN);
	set_base(APIC_BASE, APICBASE_ENABLE);
	GUEST_ASSERT_EQ(xapic_read(APIC_TPR), 0x20u);
	x2apic_enable();
	GUEST_ASSERT_EQ(xapic_read(APIC_TPR), PATTERN);
	set_base(APIC_BASE, 0);
	GUEST_ASSERT_EQ(xapic_read(APIC_TPR), PATTERN);
	set_base(APIC_BASE, APICBASE_ENABLE);
	GUEST_ASSERT_EQ(xapic_read(APIC_TPR), 0u);
}

static void test_away(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DISABLE_QUIRKS2, .args = { MMIO_QUIRK } };
	uint32_t pattern = PATTERN;

	REQUIRE_CAP(KVM_CAP_DISABLE_QUIRKS2);
	start(guest_away, 0);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	for (int i = 0; i < 3; i++) {
		vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
		ASSERT_EQ(vcpu->run->mmio.phys_addr, APIC_BASE + APIC_TPR);
		ASSERT_EQ(vcpu->run->mmio.is_write, 0);
		memcpy(vcpu->run->mmio.data, &pattern, sizeof(pattern));
	}
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

/* --- a slot comes and goes --- */

static void guest_slot(uint64_t arg)
{
	volatile uint32_t *memory = (volatile uint32_t *)APIC_BASE;

	guest_start();
	for (int i = 0; i < 2; i++) {
		assert_registers();
		GUEST_SYNC(1);
		GUEST_ASSERT_EQ(memory[APIC_VERSION / 4], PATTERN);
		memory[0] = ~PATTERN;
		GUEST_SYNC(2);
		GUEST_ASSERT_EQ(memory[APIC_RESERVED / 4], PATTERN);
		GUEST_SYNC(3);
	}
	assert_registers();
}

static uint64_t dirty_bits(uint32_t slot)
{
	uint64_t bits = 0;
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = &bits };

	VM_IOCTL(vm, KVM_GET_DIRTY_LOG, &log);
	return bits;
}

static void test_slot(void)
{
	uint32_t *mem = mmap_aligned(4 * PAGE_SIZE, PAGE_SIZE);

	start(guest_slot, 0);
	for (int i = 0; i < 2; i++) {
		/* The page alone, then the second one of four */
		uint64_t first = i ? APIC_BASE - PAGE_SIZE : APIC_BASE, size = i ? 4 * PAGE_SIZE : PAGE_SIZE;
		uint32_t *page = mem + i * PAGE_SIZE / sizeof(*mem);

		vcpu_run_sync(vcpu, 1);
		for (unsigned int j = 0; j < PAGE_SIZE / sizeof(*page); j++)
			page[j] = PATTERN;
		vm_add_slot(vm, 5, KVM_MEM_LOG_DIRTY_PAGES, first, size, mem);
		ASSERT_EQ(dirty_bits(5), 0);
		vcpu_run_sync(vcpu, 2);
		ASSERT_EQ(page[0], ~PATTERN);
		ASSERT_EQ(page[APIC_TPR / 4], PATTERN);
		ASSERT_EQ(dirty_bits(5), i ? 2 : 1);
		vcpu_run_sync(vcpu, 3);
		ASSERT_EQ(dirty_bits(5), 0);
		vm_del_slot(vm, 5);
	}
	vcpu_run_done(vcpu);
	/* What the guest did to its APIC went to its APIC */
	ASSERT_EQ(mem[APIC_TPR / 4], PATTERN);
	vm_destroy(vm);
}

/* --- saved and loaded between accesses, in another VM too --- */

static void guest_saved(uint64_t arg)
{
	guest_start();
	for (uint32_t i = 0; i < 3; i++) {
		xapic_write(APIC_TPR, 0x60);
		self(VEC);
		GUEST_SYNC(1);
		GUEST_ASSERT_EQ(xapic_read(APIC_TPR), 0x70u);
		GUEST_ASSERT(xapic_read(APIC_IRR + 0x20) & BIT(VEC & 31));
		sti_nop_cli();
		GUEST_ASSERT_EQ(hits[VEC], i);
		xapic_write(APIC_TPR, 0);
		sti_nop_cli();
		GUEST_ASSERT_EQ(hits[VEC], i + 1);
	}
}

static void test_saved(void)
{
	struct kvm_lapic_state lapic, again;

	start(guest_saved, 0);
	for (int i = 0; i < 3; i++) {
		vcpu_run_sync(vcpu, 1);
		vcpu_complete_io(vcpu);
		VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
		ASSERT_EQ(lapic.regs[APIC_TPR], 0x60);
		lapic.regs[APIC_TPR] = 0x70;
		VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &lapic);
		VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &again);
		ASSERT_EQ(again.regs[APIC_TPR], 0x70);
		ASSERT_EQ(again.regs[APIC_IRR + 0x20 + 2], BIT(VEC - 0x40 - 16));
	}
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

/* --- what a page of registers can't be: code, a stack, a page table --- */

static void guest_jump(uint64_t arg)
{
	guest_start();
	xapic_read(APIC_ID);
	((void (*)(void))(APIC_BASE + APIC_ISR))();
}

static void guest_stack(uint64_t arg)
{
	guest_start();
	xapic_read(APIC_ID);
	__asm__ volatile("movq %0, %%rsp; ud2" : : "r"(APIC_BASE + 0x800) : "memory");
}

/* The table that maps it is where TPR is */
#define MAPPED_BY_TPR	(MMIO_HOLE + APIC_TPR / 8 * PAGE_SIZE + 0x48c)

static void guest_table(uint64_t arg)
{
	guest_start();
	xapic_read(APIC_ID);
	*(volatile uint32_t *)MAPPED_BY_TPR = 1;
}

static uint64_t *entry_of(uint64_t table, uint64_t gva, int level)
{
	return (uint64_t *)vm_hva(vm, table & PTE_ADDR) + (gva >> (12 + 9 * level) & 511);
}

static void assert_internal(uint32_t suberror)
{
	vcpu_run_exit(vcpu, KVM_EXIT_INTERNAL_ERROR);
	ASSERT_EQ(vcpu->run->internal.suberror, suberror);
	vm_destroy(vm);
}

static void test_misused(void)
{
	start(guest_jump, 0);
	assert_internal(KVM_INTERNAL_ERROR_EMULATION);
	start(guest_stack, 0);
	assert_internal(KVM_INTERNAL_ERROR_DELIVERY_EV);
	start(guest_table, 0);
	*entry_of(*entry_of(*entry_of(vm->cr3, MAPPED_BY_TPR, 3), MAPPED_BY_TPR, 2), MAPPED_BY_TPR, 1) =
		APIC_BASE | PTE_P | PTE_W | PTE_A;
	ASSERT_EQ(vcpu_run_raw(vcpu), -EFAULT);
	vm_destroy(vm);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(words),
		TEST(timer),
		TEST(two),
		TEST(threads),
		TEST(away),
		TEST(slot),
		TEST(saved),
		TEST(misused),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
