// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the two 8259 interrupt controllers: initialisation, delivery through LINT0, priorities, masks, the forms of
 * EOI, cascade, level mode, reading registers, GET/SET_IRQCHIP.
 */
#include <string.h>

#include "apic.h"
#include "vm.h"

#define MASTER	0x20
#define SLAVE	0xa0

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint32_t hits[256], order[16], nr_order;
static volatile enum { EOI_NONE, EOI_PLAIN, EOI_SPECIFIC } eoi;

static void send_eoi(uint32_t irq)
{
	if (eoi == EOI_NONE)
		return;
	if (irq >= 8) {
		outb(SLAVE, eoi == EOI_PLAIN ? 0x20 : 0x60 | (irq - 8));
		irq = 2;
	}
	outb(MASTER, eoi == EOI_PLAIN ? 0x20 : 0x60 | irq);
}

static void on_irq(struct guest_regs *regs)
{
	hits[regs->vector]++;
	order[nr_order++ & 15] = regs->vector;
	send_eoi(regs->vector - 0x30);
}

static void init_pic(uint8_t icw4)
{
	outb(MASTER, 0x11);
	outb(MASTER + 1, 0x30);
	outb(MASTER + 1, 4);
	outb(MASTER + 1, icw4);
	outb(SLAVE, 0x11);
	outb(SLAVE + 1, 0x38);
	outb(SLAVE + 1, 2);
	outb(SLAVE + 1, icw4);
	outb(MASTER + 1, 0);
	outb(SLAVE + 1, 0);
}

static void guest_start(uint8_t icw4)
{
	for (int i = 0x20; i < 256; i++)
		guest_handlers[i] = on_irq;
	apic_enable();
	xapic_write(APIC_LVT0, 0x700);	/* ExtINT */
	init_pic(icw4);
	eoi = EOI_PLAIN;
}

static void line(uint32_t irq, uint32_t level)
{
	struct kvm_irq_level l = { .irq = irq, .level = level };

	VM_IOCTL(vm, KVM_IRQ_LINE, &l);
}

static void pulse(uint32_t irq)
{
	line(irq, 1);
	line(irq, 0);
}

static void start(void (*fn)(uint64_t))
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, fn, 0);
}

static void windows(void)
{
	for (int i = 0; i < 10; i++)
		sti_nop_cli();
}

static void guest_each(uint64_t arg)
{
	guest_start(1);
	for (uint32_t irq = 0; irq < 16; irq++) {
		if (irq == 2)
			continue;	/* the cascade */
		eoi = irq & 1 ? EOI_PLAIN : EOI_SPECIFIC;
		GUEST_SYNC2(1, irq);	/* raised */
		windows();
		GUEST_ASSERT_EQ(hits[0x30 + irq], 1u);
	}
	GUEST_ASSERT_EQ(nr_order, 15u);
}

static void test_each(void)
{
	struct ucall uc;

	start(guest_each);
	while (vcpu_run_ucall(vcpu, &uc) == UCALL_SYNC)
		line(uc.arg[1], 1);
	ASSERT_EQ(uc.cmd, UCALL_DONE);
}

static void guest_priority(uint64_t arg)
{
	static const uint32_t expected[] = { 0x31, 0x38, 0x3f, 0x33, 0x37 };

	guest_start(1);
	GUEST_SYNC(1);		/* 7, 3, 15, 1, 8 */
	windows();
	GUEST_ASSERT_EQ(nr_order, 5u);
	for (int i = 0; i < 5; i++)
		GUEST_ASSERT_EQ(order[i], expected[i]);
	/* One in service holds back itself and lower ones until its EOI */
	eoi = EOI_NONE;
	GUEST_SYNC(2);		/* 4 */
	windows();
	GUEST_ASSERT_EQ(hits[0x34], 1u);
	outb(MASTER, 0x0b);	/* read ISR */
	GUEST_ASSERT_EQ(inb(MASTER), (uint8_t)0x10);
	GUEST_SYNC(3);		/* 5 and 1 */
	windows();
	GUEST_ASSERT_EQ(hits[0x35], 0u);
	GUEST_ASSERT_EQ(hits[0x31], 2u);
	outb(MASTER, 0x0a);	/* read IRR */
	GUEST_ASSERT_EQ(inb(MASTER), (uint8_t)0x20);
	outb(MASTER, 0x61);
	outb(MASTER, 0x64);
	windows();
	GUEST_ASSERT_EQ(hits[0x35], 1u);
	outb(MASTER, 0x65);
	outb(MASTER, 0x0b);
	GUEST_ASSERT_EQ(inb(MASTER), (uint8_t)0);
}

static void test_priority(void)
{
	start(guest_priority);
	vcpu_run_sync(vcpu, 1);
	line(7, 1);
	line(3, 1);
	line(15, 1);
	line(1, 1);
	line(8, 1);
	vcpu_run_sync(vcpu, 2);
	line(1, 0);
	line(4, 1);
	vcpu_run_sync(vcpu, 3);
	line(5, 1);
	line(1, 1);
	vcpu_run_done(vcpu);
}

static void guest_mask(uint64_t arg)
{
	guest_start(1);
	outb(MASTER + 1, 0x10);
	outb(SLAVE + 1, 0x02);
	GUEST_ASSERT_EQ(inb(MASTER + 1), (uint8_t)0x10);
	GUEST_ASSERT_EQ(inb(SLAVE + 1), (uint8_t)0x02);
	GUEST_SYNC(1);		/* 4 and 9 */
	windows();
	GUEST_ASSERT_EQ(nr_order, 0u);
	outb(MASTER + 1, 0);
	windows();
	GUEST_ASSERT_EQ(hits[0x34], 1u);
	outb(SLAVE + 1, 0);
	windows();
	GUEST_ASSERT_EQ(hits[0x39], 1u);
	/* LINT0 masked: nothing of the PIC arrives */
	xapic_write(APIC_LVT0, APIC_LVT_MASKED | 0x700);
	GUEST_SYNC(2);		/* 6 */
	windows();
	GUEST_ASSERT_EQ(hits[0x36], 0u);
	xapic_write(APIC_LVT0, 0x700);
	outb(MASTER + 1, 0x40);	/* (KVM does not look again for LVT0 alone) */
	outb(MASTER + 1, 0);
	windows();
	GUEST_ASSERT_EQ(hits[0x36], 1u);
}

static void test_mask(void)
{
	start(guest_mask);
	vcpu_run_sync(vcpu, 1);
	line(4, 1);
	line(9, 1);
	vcpu_run_sync(vcpu, 2);
	line(6, 1);
	vcpu_run_done(vcpu);
}

/* A line that stays up interrupts again after each EOI: the host lowers it at the third time */
static void on_level(struct guest_regs *regs)
{
	uint32_t irq = regs->vector - 0x30;

	if (++hits[regs->vector] == 3)
		GUEST_SYNC(irq == 5 ? 4 : 5);
	send_eoi(irq);
}

static void guest_modes(uint64_t arg)
{
	/* Automatic EOI: the next comes without a word */
	guest_start(3);
	eoi = EOI_NONE;
	GUEST_SYNC(1);		/* 3 pulsed */
	windows();
	GUEST_SYNC(2);		/* again */
	windows();
	GUEST_ASSERT_EQ(hits[0x33], 2u);

	/* Level mode by ELCR: comes until the line falls */
	init_pic(1);
	eoi = EOI_PLAIN;
	outb(0x4d0, 0x20);
	outb(0x4d1, 0x04);
	GUEST_ASSERT_EQ(inb(0x4d0), (uint8_t)0x20);
	GUEST_ASSERT_EQ(inb(0x4d1), (uint8_t)0x04);
	guest_handlers[0x35] = guest_handlers[0x3a] = on_level;
	GUEST_SYNC(3);		/* 5 and 10 stay up; 10 comes first */
	windows();
	GUEST_ASSERT_EQ(hits[0x3a], 3u);
	GUEST_ASSERT_EQ(hits[0x35], 3u);
	windows();
	GUEST_ASSERT_EQ(hits[0x3a], 3u);
	GUEST_ASSERT_EQ(hits[0x35], 3u);
}

static void test_modes(void)
{
	start(guest_modes);
	vcpu_run_sync(vcpu, 1);
	pulse(3);
	vcpu_run_sync(vcpu, 2);
	pulse(3);
	vcpu_run_sync(vcpu, 3);
	line(5, 1);
	line(10, 1);
	vcpu_run_sync(vcpu, 5);
	line(10, 0);
	vcpu_run_sync(vcpu, 4);
	line(5, 0);
	vcpu_run_done(vcpu);
}

static void guest_hlt(uint64_t arg)
{
	guest_start(1);
	GUEST_SYNC(1);
	for (int i = 0; i < 20; i++) {
		sti_hlt_cli();
		GUEST_ASSERT_EQ(hits[0x35], i + 1u);
		GUEST_SYNC(2);
	}
}

static void next_pulse(struct vcpu *v, struct ucall *uc)
{
	/* the next interrupt comes from this thread before HLT, or from the other while asleep: both must wake */
	line(5, 0);
	line(5, 1);
}

static void test_hlt(void)
{
	start(guest_hlt);
	vcpu->on_sync = next_pulse;
	vcpu_start(vcpu);
	vcpu_join(vcpu);
}

static void guest_state(uint64_t arg)
{
	guest_start(1);
	outb(MASTER + 1, 0xa5);
	outb(SLAVE + 1, 0x5a);
	outb(0x4d0, 0x20);
	GUEST_SYNC(1);
}

static void test_state(void)
{
	struct kvm_irqchip m = { .chip_id = KVM_IRQCHIP_PIC_MASTER }, s = { .chip_id = KVM_IRQCHIP_PIC_SLAVE }, again;

	start(guest_state);
	vcpu_run_sync(vcpu, 1);
	line(5, 1);
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &m);
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &s);
	ASSERT_EQ(m.chip.pic.irq_base, 0x30);
	ASSERT_EQ(s.chip.pic.irq_base, 0x38);
	ASSERT_EQ(m.chip.pic.imr, 0xa5);
	ASSERT_EQ(s.chip.pic.imr, 0x5a);
	ASSERT_EQ(m.chip.pic.irr & 0x20, 0x20);
	ASSERT_EQ(m.chip.pic.elcr, 0x20);
	ASSERT_EQ(m.chip.pic.init_state, 0);
	vm_destroy(vm);
	vm = vm_create(VM_IRQCHIP);
	VM_IOCTL(vm, KVM_SET_IRQCHIP, &m);
	VM_IOCTL(vm, KVM_SET_IRQCHIP, &s);
	again.chip_id = KVM_IRQCHIP_PIC_MASTER;
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &again);
	ASSERT(!memcmp(&again.chip.pic, &m.chip.pic, sizeof(m.chip.pic)));
	again.chip_id = KVM_IRQCHIP_PIC_SLAVE;
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &again);
	ASSERT(!memcmp(&again.chip.pic, &s.chip.pic, sizeof(s.chip.pic)));
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(each),
		TEST(priority),
		TEST(mask),
		TEST(modes),
		TEST(hlt),
		TEST(state),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
