// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the 8254 timer: interrupts of channel 0 in its modes through PIC and IOAPIC, counting and latches, channel 2
 * with gate and output at port 0x61, GET/SET_PIT2.
 */
#include <string.h>

#include "apic.h"
#include "vm.h"

#define CH0	0x40
#define CH2	0x42
#define CTL	0x43
#define HZ	1193182ull
#define VEC	0x51

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint32_t hits;

static void on_irq(struct guest_regs *regs)
{
	hits++;
	apic_eoi();
}

static void on_pic(struct guest_regs *regs)
{
	hits++;
	outb(0x20, 0x20);
}

static void set_count(uint16_t port, uint8_t mode, uint16_t count)
{
	outb(CTL, (port - CH0) << 6 | 0x30 | mode << 1);
	outb(port, count & 0xff);
	outb(port, count >> 8);
}

static uint16_t latch(uint16_t port)
{
	uint16_t v;

	outb(CTL, (port - CH0) << 6);
	v = inb(port);
	return v | inb(port) << 8;
}

static void start(void (*fn)(uint64_t), uint64_t arg)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[2];
	} r = {
		.head.nr = 2,
		.e = {
			{ .gsi = 0, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_PIC_MASTER, 0 } },
			{ .gsi = 0, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_IOAPIC, 2 } },
		},
	};

	vm = vm_create(VM_IRQCHIP | VM_PIT);
	VM_IOCTL(vm, KVM_SET_GSI_ROUTING, &r);
	vcpu = vcpu_add(vm, 0, fn, arg);
	hits = 0;
}

/* The PIT's interrupt, GSI 0, is IOAPIC pin 2 (as on a PC) and PIC input 0 */
static void route(bool pic)
{
	apic_enable();
	if (pic) {
		guest_handlers[0x30] = on_pic;
		xapic_write(APIC_LVT0, 0x700);
		outb(0x20, 0x11);
		outb(0x21, 0x30);
		outb(0x21, 4);
		outb(0x21, 1);
		outb(0x21, 0xfe);
		outb(0xa1, 0xff);
	} else {
		guest_handlers[VEC] = on_irq;
		outb(0x21, 0xff);
		outb(0xa1, 0xff);
		ioapic_set_redir(2, VEC);
	}
}

static void guest_periodic(uint64_t pic)
{
	uint64_t t;

	route(pic);
	for (uint8_t mode = 2; mode <= 3; mode++) {
		cli();
		hits = 0;
		t = rdtsc();
		set_count(CH0, mode, HZ / 500);	/* 2 ms */
		sti();
		GUEST_ASSERT(GUEST_WAIT(hits >= 10, 20000));
		cli();
		/* Not faster than it should be; slower is the emulator's right */
		GUEST_ASSERT(rdtsc() - t >= guest_us(2000 * 8));
	}
	/* asleep */
	hits = 0;
	for (int i = 0; i < 3; i++)
		sti_hlt_cli();
	GUEST_ASSERT(hits >= 3);
}

static void test_periodic(void)
{
	start(guest_periodic, 0);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
	start(guest_periodic, 1);
	vcpu_run_done(vcpu);
}

static void guest_one_shot(uint64_t arg)
{
	route(false);
	set_count(CH0, 0, HZ / 1000);
	sti();
	GUEST_ASSERT(GUEST_WAIT(hits == 1, 20000));
	guest_delay_us(5000);
	GUEST_ASSERT_EQ(hits, 1u);
	/* each count is one more */
	set_count(CH0, 0, HZ / 1000);
	GUEST_ASSERT(GUEST_WAIT(hits == 2, 20000));
	cli();
}

static void test_one_shot(void)
{
	start(guest_one_shot, 0);
	vcpu_run_done(vcpu);
}

static void guest_counting(uint64_t arg)
{
	uint16_t a, b;
	uint64_t t;

	set_count(CH0, 2, 0xffff);
	t = rdtsc();
	a = latch(CH0);
	guest_delay_us(2000);
	b = latch(CH0);
	t = (rdtsc() - t) * 1000 / guest_tsc_khz;	/* us */
	if (t < 50000) {	/* less than a turn: the emulator did not stop us */
		GUEST_ASSERT((uint16_t)(a - b) >= HZ * 2000 / 1000000 * 9 / 10);
		GUEST_ASSERT((uint16_t)(a - b) <= HZ * t / 1000000 * 11 / 10 + 400);
	}
	/* a latch holds until it is read, low byte first */
	outb(CTL, 0x00);
	guest_delay_us(1000);
	a = inb(CH0);
	a |= inb(CH0) << 8;
	b = latch(CH0);
	GUEST_ASSERT_EQ(a != b, true);
	/* low byte only, high byte only */
	outb(CTL, 0x14);
	outb(CH0, 0x40);
	GUEST_ASSERT(inb(CH0) <= 0x40);
	/* read-back: status of channel 0 in mode 2, low byte access */
	outb(CTL, 0xe2);
	GUEST_ASSERT_EQ(inb(CH0) & 0x3f, 0x14);
}

static void test_counting(void)
{
	start(guest_counting, 0);
	vcpu_run_done(vcpu);
}

/* Channel 2 counts with its gate up; its output shows in bit 5 of port 0x61: how kernels calibrate clocks */
static void guest_channel2(uint64_t arg)
{
	uint64_t t;
	uint16_t a;

	outb(0x61, (inb(0x61) & ~2) | 1);
	t = rdtsc();
	set_count(CH2, 0, HZ / 50);
	a = inb(0x61) & 0x20;
	GUEST_ASSERT(!a || rdtsc() - t >= guest_us(19000));
	GUEST_ASSERT(GUEST_WAIT(inb(0x61) & 0x20, 10000));
	GUEST_ASSERT(rdtsc() - t >= guest_us(19000));
	/* gate down: it stands */
	outb(0x61, inb(0x61) & ~1);
	GUEST_ASSERT_EQ(inb(0x61) & 1, 0);
	set_count(CH2, 2, 0xffff);
	a = latch(CH2);
	guest_delay_us(1000);
	GUEST_ASSERT(a == latch(CH2) || arg);
	outb(0x61, inb(0x61) | 1);
	GUEST_ASSERT_EQ(inb(0x61) & 1, 1);
}

static void test_channel2(void)
{
	/* KVM's counter does not stand still for a low gate: what does not matter to any guest is not asked for */
	start(guest_channel2, 1);
	vcpu_run_done(vcpu);
}

static void guest_state(uint64_t arg)
{
	route(false);
	set_count(CH0, 2, 0x1234);
	set_count(CH2, 3, 0x4321);
	GUEST_SYNC(1);
	hits = 0;
	sti();
	GUEST_ASSERT(GUEST_WAIT(hits >= 3, 20000));
	cli();
}

static void test_state(void)
{
	struct kvm_pit_state2 ps, again;

	start(guest_state, 0);
	vcpu_run_sync(vcpu, 1);
	VM_IOCTL(vm, KVM_GET_PIT2, &ps);
	ASSERT_EQ(ps.channels[0].count, 0x1234);
	ASSERT_EQ(ps.channels[0].mode, 2);
	ASSERT_EQ(ps.channels[0].rw_mode, 3);
	ASSERT_EQ(ps.channels[2].count, 0x4321);
	ASSERT_EQ(ps.channels[2].mode, 3);
	/* Loaded again, it goes on */
	VM_IOCTL(vm, KVM_SET_PIT2, &ps);
	VM_IOCTL(vm, KVM_GET_PIT2, &again);
	ASSERT_EQ(again.channels[0].count, 0x1234);
	ASSERT_EQ(again.channels[2].count, 0x4321);
	vcpu_run_done(vcpu);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(periodic),
		TEST(one_shot),
		TEST(counting),
		TEST(channel2),
		TEST(state),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
