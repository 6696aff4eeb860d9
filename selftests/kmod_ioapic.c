// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the IOAPIC: registers, edge and level interrupts, masks, remote IRR and EOI, destinations, delivery modes,
 * GET/SET_IRQCHIP.
 */
#include <string.h>

#include "apic.h"
#include "vm.h"

#define PIN	10
#define VEC	0x51

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint32_t hits[256];
static volatile bool no_eoi;

static void on_irq(struct guest_regs *regs)
{
	hits[regs->vector]++;
	if (!no_eoi)
		apic_eoi();
}

static void guest_start(uint64_t x2)
{
	apic_only(x2);
	guest_handle_irqs(on_irq);
}

static void line(uint32_t gsi, uint32_t level)
{
	struct kvm_irq_level irq = { .irq = gsi, .level = level };

	VM_IOCTL(vm, KVM_IRQ_LINE, &irq);
}

static void start(void (*fn)(uint64_t), uint64_t arg)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, fn, arg);
	memset((void *)hits, 0, sizeof(hits));
	no_eoi = false;
}

static void guest_registers(uint64_t arg)
{
	GUEST_ASSERT_EQ(ioapic_read(1) & 0xff, 0x11u);
	GUEST_ASSERT_EQ(ioapic_read(1) >> 16 & 0xff, 23u);
	ioapic_write(0, 0x05000000);
	GUEST_ASSERT_EQ(ioapic_read(0) & 0x0f000000, 0x05000000u);
	for (uint32_t pin = 0; pin < 24; pin++)
		GUEST_ASSERT(ioapic_get_redir(pin) & IOAPIC_MASKED);
	for (uint32_t pin = 0; pin < 24; pin++)
		ioapic_set_redir(pin, (uint64_t)pin << 56 | IOAPIC_MASKED | IOAPIC_LOW | (0x30 + pin));
	for (uint32_t pin = 0; pin < 24; pin++)
		GUEST_ASSERT_EQ(ioapic_get_redir(pin), (uint64_t)pin << 56 | IOAPIC_MASKED | IOAPIC_LOW | (0x30 + pin));
	/* delivery status and remote IRR are read-only */
	ioapic_set_redir(3, IOAPIC_MASKED | IOAPIC_LEVEL | IOAPIC_REMOTE_IRR | BIT(12) | 0x40);
	GUEST_ASSERT_EQ(ioapic_get_redir(3), IOAPIC_MASKED | IOAPIC_LEVEL | 0x40);
	/* there is no 25th pin, and nothing breaks */
	ioapic_write(IOAPIC_REDIR(24), 0);
	ioapic_read(IOAPIC_REDIR(200));
}

static void test_registers(void)
{
	start(guest_registers, 0);
	vcpu_run_done(vcpu);
}

static void guest_edge(uint64_t x2)
{
	guest_start(x2);
	ioapic_set_redir(PIN, VEC);
	GUEST_SYNC(1);			/* raised */
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	GUEST_SYNC(2);			/* raised again without falling: no edge */
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	GUEST_SYNC(3);			/* down and up */
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 2u);
	GUEST_SYNC(4);			/* down; masked: an edge is lost or kept, but not two */
	ioapic_set_redir(PIN, IOAPIC_MASKED | VEC);
	GUEST_SYNC(5);			/* up and down, twice */
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 2u);
	ioapic_set_redir(PIN, VEC);
	sti_nop_cli();
	sti_nop_cli();
	GUEST_ASSERT(hits[VEC] <= 3);
}

static void one_edge(uint64_t x2)
{
	start(guest_edge, x2);
	vcpu_run_sync(vcpu, 1);
	line(PIN, 1);
	vcpu_run_sync(vcpu, 2);
	line(PIN, 1);
	vcpu_run_sync(vcpu, 3);
	line(PIN, 0);
	line(PIN, 1);
	vcpu_run_sync(vcpu, 4);
	line(PIN, 0);
	vcpu_run_sync(vcpu, 5);
	for (int i = 0; i < 2; i++) {
		line(PIN, 1);
		line(PIN, 0);
	}
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

static void test_edge(void)
{
	one_edge(0);
	one_edge(1);
}

static void guest_level(uint64_t x2)
{
	guest_start(x2);
	no_eoi = true;
	ioapic_set_redir(PIN, IOAPIC_LEVEL | VEC);
	GUEST_SYNC(1);			/* raised, and stays */
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	GUEST_ASSERT(ioapic_get_redir(PIN) & IOAPIC_REMOTE_IRR);
	GUEST_ASSERT(apic_bit(APIC_TMR, VEC));
	GUEST_ASSERT(apic_bit(APIC_ISR, VEC));
	/* After EOI it comes again, as the line is still up */
	apic_eoi();
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 2u);
	GUEST_SYNC(2);			/* lowered */
	apic_eoi();
	GUEST_ASSERT(!(ioapic_get_redir(PIN) & IOAPIC_REMOTE_IRR));
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 2u);
	/* Raised while masked: comes when unmasked */
	ioapic_set_redir(PIN, IOAPIC_MASKED | IOAPIC_LEVEL | VEC);
	GUEST_SYNC(3);			/* raised */
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 2u);
	ioapic_set_redir(PIN, IOAPIC_LEVEL | VEC);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 3u);
	GUEST_SYNC(4);			/* lowered */
	apic_eoi();
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 3u);
	GUEST_ASSERT_EQ(ioapic_get_redir(PIN), IOAPIC_LEVEL | VEC);
}

static void one_level(uint64_t x2)
{
	start(guest_level, x2);
	vcpu_run_sync(vcpu, 1);
	line(PIN, 1);
	vcpu_run_sync(vcpu, 2);
	line(PIN, 0);
	vcpu_run_sync(vcpu, 3);
	line(PIN, 1);
	vcpu_run_sync(vcpu, 4);
	line(PIN, 0);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

static void test_level(void)
{
	one_level(0);
	one_level(1);
}

/* Several pins with one vector, several vectors at once, the highest first */
static volatile uint32_t order[8], nr_order;

static void on_order(struct guest_regs *regs)
{
	order[nr_order++ & 7] = regs->vector;
	apic_eoi();
}

static void guest_several(uint64_t arg)
{
	guest_start(0);
	for (uint32_t i = 0; i < 4; i++) {
		guest_handlers[0x40 + 0x10 * i] = on_order;
		ioapic_set_redir(16 + i, 0x40 + 0x10 * i);
	}
	GUEST_SYNC(1);
	for (int i = 0; i < 6; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(nr_order, 4u);
	for (uint32_t i = 0; i < 4; i++)
		GUEST_ASSERT_EQ(order[i], 0x70 - 0x10 * i);
}

static void test_several(void)
{
	start(guest_several, 0);
	vcpu_run_sync(vcpu, 1);
	for (uint32_t i = 0; i < 4; i++)
		line(16 + i, 1);
	vcpu_run_done(vcpu);
}

static volatile uint32_t nmis;

static void on_nmi(struct guest_regs *regs)
{
	nmis++;
}

/* Destinations: logical flat, nobody; NMI as delivery mode */
static void guest_dest(uint64_t arg)
{
	guest_start(0);
	guest_handlers[NMI_VECTOR] = on_nmi;
	xapic_write(APIC_DFR, 0xffffffff);
	xapic_write(APIC_LDR, 0x02000000);
	ioapic_set_redir(11, 2ull << 56 | IOAPIC_LOGICAL | 0x61);
	ioapic_set_redir(12, 4ull << 56 | IOAPIC_LOGICAL | 0x62);
	ioapic_set_redir(13, 7ull << 56 | 0x63);
	ioapic_set_redir(14, 0xffull << 56 | 0x64);
	ioapic_set_redir(15, 2ull << 56 | IOAPIC_LOGICAL | ICR_LOWEST | 0x65);
	ioapic_set_redir(16, ICR_NMI);
	GUEST_SYNC(1);
	for (int i = 0; i < 6; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[0x61], 1u);
	GUEST_ASSERT_EQ(hits[0x62], 0u);
	GUEST_ASSERT_EQ(hits[0x63], 0u);
	GUEST_ASSERT_EQ(hits[0x64], 1u);
	GUEST_ASSERT_EQ(hits[0x65], 1u);
	GUEST_ASSERT_EQ(nmis, 1u);
}

static void test_destination(void)
{
	start(guest_dest, 0);
	vcpu_run_sync(vcpu, 1);
	for (uint32_t pin = 11; pin <= 16; pin++)
		line(pin, 1);
	vcpu_run_done(vcpu);
}

/* State: saved with a level interrupt in service, loaded into a new VM, goes on there */
static void guest_state(uint64_t arg)
{
	guest_start(0);
	no_eoi = true;
	ioapic_set_redir(PIN, IOAPIC_LEVEL | VEC);
	ioapic_set_redir(5, 3ull << 56 | IOAPIC_MASKED | 0x77);
	GUEST_SYNC(1);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	GUEST_SYNC(2);
}

static void test_state(void)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC }, again = chip;

	start(guest_state, 0);
	vcpu_run_sync(vcpu, 1);
	line(PIN, 1);
	vcpu_run_sync(vcpu, 2);
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &chip);
	ASSERT_EQ(chip.chip.ioapic.base_address, IOAPIC_BASE);
	ASSERT_EQ(chip.chip.ioapic.redirtbl[PIN].fields.vector, VEC);
	ASSERT_EQ(chip.chip.ioapic.redirtbl[PIN].fields.trig_mode, 1);
	ASSERT_EQ(chip.chip.ioapic.redirtbl[PIN].fields.remote_irr, 1);
	ASSERT_EQ(chip.chip.ioapic.redirtbl[PIN].fields.mask, 0);
	ASSERT_EQ(chip.chip.ioapic.redirtbl[5].fields.dest_id, 3);
	ASSERT_EQ(chip.chip.ioapic.redirtbl[5].bits, 3ull << 56 | IOAPIC_MASKED | 0x77);
	ASSERT_EQ(chip.chip.ioapic.irr >> PIN & 1, 1);
	vm_destroy(vm);

	vm = vm_create(VM_IRQCHIP);
	VM_IOCTL(vm, KVM_SET_IRQCHIP, &chip);
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &again);
	for (int pin = 0; pin < 24; pin++)
		ASSERT_EQ(again.chip.ioapic.redirtbl[pin].bits, chip.chip.ioapic.redirtbl[pin].bits);
	ASSERT_EQ(again.chip.ioapic.irr, chip.chip.ioapic.irr);
	ASSERT_EQ(again.chip.ioapic.id, chip.chip.ioapic.id);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(registers),
		TEST(edge),
		TEST(level),
		TEST(several),
		TEST(destination),
		TEST(state),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
