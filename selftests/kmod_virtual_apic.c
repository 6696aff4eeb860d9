// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies what hardware may do for a local APIC (VT-x does in x2APIC mode), which must not differ from what software does:
 * what registers read, TPR and interrupts that wait, HLT, changes of the mode, and state that is saved while interrupts wait
 * and are in service. On one vCPU, in both modes.
 */
#include <string.h>

#include "apic.h"
#include "vm.h"

#define VEC_LOW	0x31
#define VEC	0x51
#define VEC_HI	0x71
#define PIN	10

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint32_t hits[256];

static void on_irq(struct guest_regs *regs)
{
	hits[regs->vector]++;
	apic_eoi();
}

static void guest_start(uint64_t x2)
{
	apic_only(x2);
	guest_handle_irqs(on_irq);
}

static void start(void (*fn)(uint64_t), uint64_t arg)
{
	memset((void *)hits, 0, sizeof(hits));
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, fn, arg);
}

static void run_both(void (*fn)(uint64_t))
{
	for (uint64_t x2 = 0; x2 < 2; x2++) {
		start(fn, x2);
		vcpu_run_done(vcpu);
		vm_destroy(vm);
	}
}

static void self(uint32_t vector)
{
	apic_icr(ICR_FIXED | ICR_ASSERT | ICR_SELF | vector, 0);
}

static uint32_t reg_of(const struct kvm_lapic_state *lapic, uint32_t reg)
{
	uint32_t value;

	memcpy(&value, lapic->regs + reg, sizeof(value));
	return value;
}

static bool bit_of(const struct kvm_lapic_state *lapic, uint32_t bank, uint8_t vector)
{
	return reg_of(lapic, bank + (vector >> 5) * 0x10) >> (vector & 31) & 1;
}

/* --- what registers read: the guest's word and the VMM's --- */

static const uint32_t readable[] = {
	APIC_VERSION, APIC_TPR, APIC_PPR, APIC_LDR, APIC_SVR, APIC_ISR + 0x20, APIC_IRR + 0x10, APIC_IRR + 0x20, APIC_IRR + 0x30,
	APIC_ESR, APIC_ICR, APIC_LVTT, APIC_LVTTHMR, APIC_LVTPC, APIC_LVT0, APIC_LVT1, APIC_LVTERR, APIC_TMICT, APIC_TDCR,
};

static volatile uint32_t seen[ARRAY_SIZE(readable)];

/* In service: VEC; waiting: one below, one of its class */
static void on_reads(struct guest_regs *regs)
{
	apic_write(APIC_TPR, 0x23);
	self(VEC_LOW);
	self(VEC + 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(readable); i++)
		seen[i] = apic_read(readable[i]);
	GUEST_SYNC(1);
	/* Nobody has touched them by looking */
	for (unsigned int i = 0; i < ARRAY_SIZE(readable); i++)
		GUEST_ASSERT_EQ(apic_read(readable[i]), seen[i]);
	apic_eoi();
}

static void guest_reads(uint64_t x2)
{
	guest_start(x2);
	guest_handlers[VEC] = on_reads;
	apic_write(APIC_LVTT, APIC_LVT_MASKED | 0x88);
	apic_write(APIC_LVTERR, 0x99);
	apic_write(APIC_TDCR, 2);
	apic_write(APIC_TMICT, 0);
	self(VEC);
	for (int i = 0; i < 4; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC + 1], 1u);
	GUEST_ASSERT_EQ(hits[VEC_LOW], 1u);
	GUEST_ASSERT_EQ(apic_read(APIC_PPR) & 0xf0, 0x20u);
}

static void test_reads(void)
{
	struct kvm_lapic_state lapic;

	for (uint64_t x2 = 0; x2 < 2; x2++) {
		start(guest_reads, x2);
		vcpu_run_sync(vcpu, 1);
		VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
		for (unsigned int i = 0; i < ARRAY_SIZE(readable); i++)
			if (reg_of(&lapic, readable[i]) != seen[i])
				FAIL("register 0x%x: the guest reads 0x%x, the VMM 0x%x", readable[i], seen[i],
				     reg_of(&lapic, readable[i]));
		ASSERT_EQ(reg_of(&lapic, APIC_PPR), VEC & 0xf0);
		ASSERT_EQ(bit_of(&lapic, APIC_ISR, VEC), 1);
		ASSERT_EQ(bit_of(&lapic, APIC_IRR, VEC_LOW), 1);
		ASSERT_EQ(bit_of(&lapic, APIC_IRR, VEC + 1), 1);
		vcpu_run_done(vcpu);
		vm_destroy(vm);
	}
}

/* --- HLT: what TPR or a higher one in service holds back wakes nobody --- */

static void wake_later(void)
{
	apic_write(APIC_LVTT, APIC_LVTT_DEADLINE | VEC_HI);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + guest_us(500));
}

static void on_halting(struct guest_regs *regs)
{
	self(VEC_LOW);
	wake_later();
	sti_hlt_cli();
	GUEST_ASSERT_EQ(hits[VEC_HI], 2u);
	GUEST_ASSERT_EQ(hits[VEC_LOW], 0u);
	apic_eoi();
}

static void guest_halt(uint64_t x2)
{
	guest_start(x2);
	/* by TPR */
	apic_write(APIC_TPR, VEC & 0xf0);
	self(VEC);
	wake_later();
	sti_hlt_cli();
	GUEST_ASSERT_EQ(hits[VEC_HI], 1u);
	GUEST_ASSERT_EQ(hits[VEC], 0u);
	/* ... as CR8, too; lowered, it comes, and HLT ends at once */
	GUEST_WRREG(cr8, 0);
	sti_hlt_cli();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	/* by one in service */
	guest_handlers[VEC] = on_halting;
	self(VEC);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC_HI], 2u);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC_LOW], 1u);
}

static void test_halt(void)
{
	REQUIRE_CAP(KVM_CAP_TSC_DEADLINE_TIMER);
	run_both(guest_halt);
}

/* --- the mode changes while interrupts wait and are in service --- */

static void on_changing(struct guest_regs *regs)
{
	self(VEC_LOW);
	x2apic_enable();
	GUEST_ASSERT(apic_bit(APIC_ISR, VEC));
	GUEST_ASSERT(apic_bit(APIC_IRR, VEC_LOW));
	self(VEC + 1);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC + 1], 0u);
	GUEST_ASSERT_EQ(hits[VEC_LOW], 0u);
	apic_eoi();
	GUEST_ASSERT(!apic_bit(APIC_ISR, VEC));
}

static void guest_modes(uint64_t arg)
{
	uint64_t base = rdmsr(MSR_APICBASE);

	guest_start(0);
	guest_handlers[VEC] = on_changing;
	self(VEC);
	for (int i = 0; i < 3; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC + 1], 1u);
	GUEST_ASSERT_EQ(hits[VEC_LOW], 1u);
	/* Off, nothing is left of what waited */
	self(VEC_LOW);
	wrmsr(MSR_APICBASE, base & ~APICBASE_ENABLE);
	sti_nop_cli();
	wrmsr(MSR_APICBASE, base);
	apic_enable();
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC_LOW], 1u);
	self(VEC_LOW);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC_LOW], 2u);
	x2apic_enable();
	self(VEC_LOW);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC_LOW], 3u);
}

static void test_modes(void)
{
	start(guest_modes, 0);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

/* --- the x2APIC self IPI --- */

static void guest_self_register(uint64_t arg)
{
	guest_start(1);
	for (uint32_t i = 1; i <= 3; i++) {
		wrmsr(X2APIC_MSR(APIC_SELF_IPI), VEC);
		GUEST_ASSERT(apic_bit(APIC_IRR, VEC));
		sti_nop_cli();
		GUEST_ASSERT_EQ(hits[VEC], i);
	}
	/* Illegal vectors are errors, reserved bits are faults */
	apic_write(APIC_LVTERR, 0x99);
	wrmsr(X2APIC_MSR(APIC_SELF_IPI), 5);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[0x99], 1u);
	apic_write(APIC_ESR, 0);
	GUEST_ASSERT_EQ(apic_read(APIC_ESR), (uint32_t)BIT(5));
	GUEST_ASSERT_EQ(wrmsr_safe(X2APIC_MSR(APIC_SELF_IPI), BIT(8)), GP_VECTOR);
	GUEST_ASSERT_EQ(wrmsr_safe(X2APIC_MSR(APIC_EOI), 1), GP_VECTOR);
	GUEST_ASSERT_EQ(wrmsr_safe(X2APIC_MSR(APIC_TPR), BIT(8)), GP_VECTOR);
}

static void test_self_register(void)
{
	start(guest_self_register, 0);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

/* --- where an EOI costs no exit, neither does what else hardware does --- */

#define ROUNDS	200

/* Without a look at which mode it is: that is an exit, too */
static uint32_t read_in(uint64_t x2, uint32_t reg)
{
	return x2 ? (uint32_t)rdmsr(X2APIC_MSR(reg)) : xapic_read(reg);
}

static void write_in(uint64_t x2, uint32_t reg, uint32_t value)
{
	if (x2)
		wrmsr(X2APIC_MSR(reg), value);
	else
		xapic_write(reg, value);
}

static void guest_eois(uint64_t x2)
{
	guest_start(x2);
	for (int i = 0; i < ROUNDS; i++)
		write_in(x2, APIC_EOI, 0);
}

static void on_xapic(struct guest_regs *regs)
{
	hits[regs->vector]++;
	write_in(0, APIC_EOI, 0);
}

static void on_x2apic(struct guest_regs *regs)
{
	hits[regs->vector]++;
	write_in(1, APIC_EOI, 0);
}

static void guest_no_exits(uint64_t x2)
{
	guest_start(x2);
	guest_handlers[VEC] = x2 ? on_x2apic : on_xapic;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		if (x2)
			write_in(x2, APIC_SELF_IPI, VEC);
		else
			write_in(x2, APIC_ICR, ICR_FIXED | ICR_ASSERT | ICR_SELF | VEC);
		write_in(x2, APIC_TPR, 0x60);
		sti_nop_cli();
		GUEST_ASSERT_EQ(read_in(x2, APIC_IRR + 0x20), (uint32_t)BIT(VEC & 31));
		GUEST_ASSERT_EQ(hits[VEC], i);
		if (i & 1)
			GUEST_WRREG(cr8, 0);
		else
			write_in(x2, APIC_TPR, 0);
		sti_nop_cli();
		GUEST_ASSERT_EQ(read_in(x2, APIC_LVTT), (uint32_t)APIC_LVT_MASKED);
	}
	GUEST_ASSERT_EQ(hits[VEC], (uint32_t)ROUNDS);
}

/* A host may have the one mode and not the other */
static void one_no_exits(uint64_t x2)
{
	start(guest_eois, x2);
	vcpu_run_done(vcpu);
	if (vcpu_stat(vcpu, "exits") >= ROUNDS)
		SKIP("hardware does not end interrupts here");
	vm_destroy(vm);
	start(guest_no_exits, x2);
	vcpu_run_done(vcpu);
	ASSERT_LT(vcpu_stat(vcpu, "exits"), ROUNDS / 2);
	vm_destroy(vm);
}

static void test_no_exits_xapic(void)
{
	one_no_exits(0);
}

static void test_no_exits_x2apic(void)
{
	one_no_exits(1);
}

/* --- a step over what ends an interrupt is a step --- */

static volatile uint32_t steps;
static volatile uint64_t step_rip;

static void on_step(struct guest_regs *regs)
{
	steps++;
	step_rip = regs->rip;
	regs->rflags &= ~RFLAGS_TF;
}

static void on_stepped(struct guest_regs *regs)
{
	extern const uint8_t after_eoi[];

	/* EOI of a level-triggered one, which the IOAPIC hears */
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq\n\t"
			 "wrmsr\n"
			 ".globl after_eoi\nafter_eoi: nop"
			 : : "a"(0), "c"(X2APIC_MSR(APIC_EOI)), "d"(0) : "cc", "memory");
	GUEST_ASSERT_EQ(steps, 1u);
	GUEST_ASSERT_EQ(step_rip, (uint64_t)after_eoi);
	GUEST_ASSERT(!(ioapic_get_redir(PIN) & IOAPIC_REMOTE_IRR));
}

static void guest_step(uint64_t arg)
{
	guest_start(1);
	guest_handlers[DB_VECTOR] = on_step;
	guest_handlers[VEC] = on_stepped;
	ioapic_set_redir(PIN, IOAPIC_LEVEL | VEC);
	GUEST_SYNC(1);
	sti_nop_cli();
	GUEST_ASSERT_EQ(steps, 1u);
}

static void test_step(void)
{
	struct kvm_irq_level irq = { .irq = PIN, .level = 1 };

	start(guest_step, 0);
	steps = 0;
	vcpu_run_sync(vcpu, 1);
	VM_IOCTL(vm, KVM_IRQ_LINE, &irq);
	irq.level = 0;
	VM_IOCTL(vm, KVM_IRQ_LINE, &irq);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

/* --- saved in a handler of a level-triggered interrupt, with others waiting; loaded; goes on in another VM --- */

static void on_saved(struct guest_regs *regs)
{
	hits[VEC]++;
	self(VEC_LOW);
	self(VEC + 1);
	apic_write(APIC_TPR, 0x10);
	GUEST_SYNC(2);
	GUEST_ASSERT(apic_bit(APIC_ISR, VEC));
	GUEST_ASSERT(apic_bit(APIC_TMR, VEC));
	GUEST_ASSERT(apic_bit(APIC_IRR, VEC_LOW));
	GUEST_ASSERT_EQ(apic_read(APIC_TPR), 0x10u);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC + 1], 0u);
	GUEST_ASSERT(ioapic_get_redir(PIN) & IOAPIC_REMOTE_IRR);
	apic_eoi();
	GUEST_ASSERT(!(ioapic_get_redir(PIN) & IOAPIC_REMOTE_IRR));
}

static void guest_saved(uint64_t x2)
{
	guest_start(x2);
	guest_handlers[VEC] = on_saved;
	ioapic_set_redir(PIN, IOAPIC_LEVEL | VEC);
	GUEST_SYNC(1);
	for (int i = 0; i < 3; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	GUEST_ASSERT_EQ(hits[VEC + 1], 1u);
	GUEST_ASSERT_EQ(hits[VEC_LOW], 1u);
}

static void one_saved(uint64_t x2)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_irq_level irq = { .irq = PIN, .level = 1 };
	struct kvm_lapic_state lapic, again;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct vcpu *vcpu2;
	struct vm *vm2;

	start(guest_saved, x2);
	vcpu_run_sync(vcpu, 1);
	VM_IOCTL(vm, KVM_IRQ_LINE, &irq);
	vcpu_run_sync(vcpu, 2);
	irq.level = 0;
	VM_IOCTL(vm, KVM_IRQ_LINE, &irq);
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &chip);
	ASSERT_EQ(bit_of(&lapic, APIC_ISR, VEC), 1);
	ASSERT_EQ(bit_of(&lapic, APIC_TMR, VEC), 1);
	ASSERT_EQ(bit_of(&lapic, APIC_IRR, VEC), 0);
	ASSERT_EQ(bit_of(&lapic, APIC_IRR, VEC_LOW), 1);
	ASSERT_EQ(bit_of(&lapic, APIC_IRR, VEC + 1), 1);

	vm2 = vm_create(VM_IRQCHIP);
	vm_del_slot(vm2, 0);
	vm_add_slot(vm2, 0, 0, 0, LOW_MEM_SIZE, vm_hva(vm, 0));
	VM_IOCTL(vm2, KVM_SET_IRQCHIP, &chip);
	vcpu2 = vcpu_create(vm2, 0);
	vcpu_set_cpuid(vcpu2);
	VCPU_IOCTL(vcpu2, KVM_SET_SREGS, &sregs);
	VCPU_IOCTL(vcpu2, KVM_SET_REGS, &regs);
	VCPU_IOCTL(vcpu2, KVM_SET_LAPIC, &lapic);
	VCPU_IOCTL(vcpu2, KVM_GET_LAPIC, &again);
	for (unsigned int i = 0; i < sizeof(lapic.regs); i += 16)
		ASSERT_EQ(reg_of(&again, i), reg_of(&lapic, i));
	vcpu_run_done(vcpu2);
	vm_destroy(vm2);
	vm_destroy(vm);
}

static void test_saved(void)
{
	one_saved(0);
	one_saved(1);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(reads),
		TEST(halt),
		TEST(modes),
		TEST(self_register),
		TEST(no_exits_xapic),
		TEST(no_exits_x2apic),
		TEST(step),
		TEST(saved),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
