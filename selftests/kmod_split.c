// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the split interrupt chip (KVM_CAP_SPLIT_IRQCHIP): local APICs in the kernel, IOAPIC and PIC in userspace. What is
 * refused; messages by routes; the end of level-triggered interrupts as exits; the PIC's interrupts and their window.
 */
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "apic.h"
#include "pv.h"
#include "vm.h"

#define VEC		0x61
#define VEC2		0x71
#define PIC_VEC		0x31
#define GSI_LEVEL	5
#define GSI_EDGE	6
#define MSI_LEVEL	(BIT(15) | BIT(14))

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint32_t hits[256];

static void on_irq(struct guest_regs *regs)
{
	hits[regs->vector]++;
	apic_eoi();
}

/* The PIC's are ended at the PIC */
static void on_pic(struct guest_regs *regs)
{
	hits[regs->vector]++;
}

static void enable(uint64_t pins)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = pins };

	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
}

static void start(void (*fn)(uint64_t), uint64_t arg)
{
	REQUIRE_CAP(KVM_CAP_SPLIT_IRQCHIP);
	guest_handlers[VEC] = on_irq;
	guest_handlers[VEC2] = on_irq;
	guest_handlers[PIC_VEC] = on_pic;
	guest_handlers[PIC_VEC + 1] = on_pic;
	vm = vm_create(0);
	enable(24);
	vcpu = vcpu_add(vm, 0, fn, arg);
}

static struct kvm_irq_routing_entry msi(uint32_t gsi, uint32_t data)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = 0xfee00000, .data = data },
	};
}

static int set_routes(const struct kvm_irq_routing_entry *e, unsigned int n)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[4];
	} r = { .head.nr = n };

	memcpy(r.e, e, n * sizeof(*e));
	return ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r);
}

static void line(uint32_t gsi, uint32_t level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	VM_IOCTL(vm, KVM_IRQ_LINE, &l);
}

static void test_refused(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = 4097 };
	struct kvm_irq_routing_entry pin = {
		.gsi = 4, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_IOAPIC, 4 },
	};
	struct kvm_irqfd irqfd = { .fd = eventfd(0, 0), .gsi = 4 };
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_pit_config pit = { 0 };
	struct kvm_lapic_state lapic;

	REQUIRE_CAP(KVM_CAP_SPLIT_IRQCHIP);
	vm = vm_create(VM_BARE);
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	enable(24);
	cap.args[0] = 24;
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EEXIST);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EEXIST);
	/* What is in userspace */
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), ENXIO);
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_IRQCHIP, &chip), ENXIO);
	ASSERT_EQ(ioctl(vm->fd, KVM_CREATE_PIT2, &pit), -1);
	ASSERT_EQ(set_routes(&pin, 1), -1);
	ASSERT_EQ(errno, EINVAL);
	irqfd.resamplefd = eventfd(0, 0);
	irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
	ASSERT_ERR(ioctl(vm->fd, KVM_IRQFD, &irqfd), EINVAL);
	irqfd.flags = 0;
	VM_IOCTL(vm, KVM_IRQFD, &irqfd);
	vcpu = vcpu_create(vm, 0);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
	vm_destroy(vm);

	/* Too late: an interrupt chip is there, or a vCPU */
	vm = vm_create(VM_BARE);
	VM_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EEXIST);
	vm = vm_create(VM_BARE);
	vcpu_create(vm, 0);
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EEXIST);
}

static void window(void)
{
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
}

static void guest_messages(uint64_t x2)
{
	if (x2)
		x2apic_enable();
	apic_enable();
	for (;;) {
		GUEST_SYNC(1);
		window();
	}
}

/* Routes, irqfds and MSIs reach the LAPIC; the ends of edge-triggered ones are nobody's business */
static void test_edge(void)
{
	struct kvm_irq_routing_entry e[] = { msi(GSI_EDGE, VEC), msi(100, VEC2) };
	struct kvm_irqfd irqfd = { .fd = eventfd(0, 0), .gsi = 100 };
	struct kvm_msi m = { .address_lo = 0xfee00000, .data = VEC };
	uint64_t one = 1;

	start(guest_messages, 0);
	/* No routes at first */
	line(GSI_EDGE, 1);
	line(GSI_EDGE, 0);
	vcpu_run_sync(vcpu, 1);
	ASSERT_OK(set_routes(e, 2));
	VM_IOCTL(vm, KVM_IRQFD, &irqfd);
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(hits[VEC], 0);
	line(GSI_EDGE, 1);
	line(GSI_EDGE, 0);
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(hits[VEC], 1);
	ASSERT_EQ(write(irqfd.fd, &one, 8), 8);
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(hits[VEC2], 1);
	ASSERT_EQ(VM_IOCTL(vm, KVM_SIGNAL_MSI, &m), 1);
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(hits[VEC], 2);
}

static void one_level(uint64_t x2)
{
	struct kvm_irq_routing_entry e[] = { msi(GSI_LEVEL, MSI_LEVEL | VEC), msi(GSI_EDGE, VEC2) };

	memset((void *)hits, 0, sizeof(hits));
	start(guest_messages, x2);
	ASSERT_OK(set_routes(e, 2));
	vcpu_run_sync(vcpu, 1);
	for (uint32_t n = 1; n <= 3; n++) {
		line(GSI_LEVEL, 1);
		vcpu_run_exit(vcpu, KVM_EXIT_IOAPIC_EOI);
		ASSERT_EQ(vcpu->run->eoi.vector, VEC);
		ASSERT_EQ(hits[VEC], n);
		line(GSI_LEVEL, 0);
		vcpu_run_sync(vcpu, 1);
		line(GSI_EDGE, 1);
		line(GSI_EDGE, 0);
		vcpu_run_sync(vcpu, 1);
		ASSERT_EQ(hits[VEC2], n);
	}
	/* Both at once; the line still up: asserted again by the IOAPIC in the exit */
	line(GSI_LEVEL, 1);
	line(GSI_EDGE, 1);
	vcpu_run_exit(vcpu, KVM_EXIT_IOAPIC_EOI);
	line(GSI_LEVEL, 1);
	vcpu_run_exit(vcpu, KVM_EXIT_IOAPIC_EOI);
	ASSERT_EQ(vcpu->run->eoi.vector, VEC);
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(hits[VEC], 5);
	ASSERT_EQ(hits[VEC2], 4);
	vm_destroy(vm);
}

static void test_level(void)
{
	one_level(0);
	one_level(1);
}

/* EOI without exit is for edge-triggered ones only */
static uint32_t eoi_word;

static void on_pv_irq(struct guest_regs *regs)
{
	hits[regs->vector]++;
	if (!__sync_fetch_and_and(&eoi_word, ~1u))
		apic_eoi();
}

static void guest_pv_eoi(uint64_t arg)
{
	apic_enable();
	wrmsr(MSR_PV_EOI, (uintptr_t)&eoi_word | 1);
	guest_handlers[VEC] = on_pv_irq;
	for (;;) {
		GUEST_SYNC(1);
		window();
	}
}

static void test_pv_eoi(void)
{
	struct kvm_irq_routing_entry e = msi(GSI_LEVEL, MSI_LEVEL | VEC);

	start(guest_pv_eoi, 0);
	ASSERT_OK(set_routes(&e, 1));
	vcpu_run_sync(vcpu, 1);
	for (uint32_t n = 1; n <= 3; n++) {
		line(GSI_LEVEL, 1);
		vcpu_run_exit(vcpu, KVM_EXIT_IOAPIC_EOI);
		ASSERT_EQ(vcpu->run->eoi.vector, VEC);
		ASSERT_EQ(hits[VEC], n);
		vcpu_run_sync(vcpu, 1);
	}
}

/* --- the PIC --- */

#define LVT0_EXTINT	0x700

static void guest_pic(uint64_t arg)
{
	apic_enable();
	apic_write(APIC_LVT0, LVT0_EXTINT);
	for (;;) {
		GUEST_SYNC(1);
		window();
		GUEST_SYNC(2);
	}
}

static int pic(uint32_t vector)
{
	struct kvm_interrupt irq = { .irq = vector };

	return ioctl(vcpu->fd, KVM_INTERRUPT, &irq);
}

static void test_pic(void)
{
	start(guest_pic, 0);
	vcpu_run_sync(vcpu, 1);
	/* Interrupts are off: not now */
	ASSERT_EQ(vcpu->run->ready_for_interrupt_injection, 0);
	ASSERT_EQ(vcpu->run->if_flag, 0);
	ASSERT_EQ(pic(256), -1);
	ASSERT_EQ(errno, EINVAL);
	/* One may wait at the LAPIC, not two */
	ASSERT_OK(pic(PIC_VEC));
	ASSERT_EQ(pic(PIC_VEC + 1), -1);
	ASSERT_EQ(errno, EEXIST);
	vcpu_run_sync(vcpu, 2);
	ASSERT_EQ(hits[PIC_VEC], 1);
	ASSERT_EQ(hits[PIC_VEC + 1], 0);
	vcpu_run_sync(vcpu, 1);
	ASSERT_OK(pic(PIC_VEC + 1));
	vcpu_run_sync(vcpu, 2);
	ASSERT_EQ(hits[PIC_VEC + 1], 1);
}

/* The window: KVM_RUN ends when the guest can take one */
static void test_window(void)
{
	start(guest_pic, 0);
	vcpu_run_sync(vcpu, 1);
	for (uint32_t n = 1; n <= 3; n++) {
		vcpu->run->request_interrupt_window = 1;
		vcpu_run_exit(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
		ASSERT_EQ(vcpu->run->if_flag, 1);
		ASSERT_EQ(vcpu->run->ready_for_interrupt_injection, 1);
		ASSERT_OK(pic(PIC_VEC));
		vcpu->run->request_interrupt_window = 0;
		vcpu_run_sync(vcpu, 2);
		ASSERT_EQ(hits[PIC_VEC], n);
		vcpu_run_sync(vcpu, 1);
	}
}

/* LINT0 masked, or not the PIC's: no window, and what waits goes on waiting */
static void guest_masked(uint64_t lvt0)
{
	apic_enable();
	apic_write(APIC_LVT0, lvt0);
	GUEST_SYNC(1);
	window();
	GUEST_SYNC(2);
	apic_write(APIC_LVT0, LVT0_EXTINT);
	window();
	GUEST_SYNC(3);
}

static void test_masked(void)
{
	static const uint32_t lvt0[] = { LVT0_EXTINT | APIC_LVT_MASKED, VEC, ICR_NMI };

	for (unsigned int i = 0; i < ARRAY_SIZE(lvt0); i++) {
		hits[PIC_VEC] = 0;
		start(guest_masked, lvt0[i]);
		vcpu_run_sync(vcpu, 1);
		ASSERT_OK(pic(PIC_VEC));
		vcpu->run->request_interrupt_window = 1;
		vcpu_run_sync(vcpu, 2);
		vcpu->run->request_interrupt_window = 0;
		ASSERT_EQ(hits[PIC_VEC], 0);
		vcpu_run_sync(vcpu, 3);
		ASSERT_EQ(hits[PIC_VEC], 1);
		vm_destroy(vm);
	}
}

/* A halted vCPU sleeps in the kernel; the PIC's interrupt wakes it, once its thread has come out to be told */
static void guest_halts(uint64_t arg)
{
	apic_enable();
	apic_write(APIC_LVT0, LVT0_EXTINT);
	sti_hlt_cli();
	GUEST_SYNC(1);
}

static void test_halted(void)
{
	struct kvm_mp_state mp;

	start(guest_halts, 0);
	alarm_every_ms(30);
	do {
		ASSERT_EQ(vcpu_run_raw(vcpu), -EINTR);
		VCPU_IOCTL(vcpu, KVM_GET_MP_STATE, &mp);
	} while (mp.mp_state != KVM_MP_STATE_HALTED);
	alarm_every_ms(0);
	ASSERT_EQ(vcpu->run->ready_for_interrupt_injection, 1);
	ASSERT_OK(pic(PIC_VEC));
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(hits[PIC_VEC], 1);
}

/* Timers and IPIs are as with the whole chip in the kernel */
static void guest_lapic(uint64_t arg)
{
	apic_enable();
	apic_icr(ICR_FIXED | ICR_ASSERT | ICR_SELF | VEC, 0);
	window();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	apic_write(APIC_TDCR, APIC_TDCR_DIV1);
	apic_write(APIC_LVTT, VEC2);
	apic_write(APIC_TMICT, 1000000);
	sti_hlt_cli();
	GUEST_ASSERT_EQ(hits[VEC2], 1u);
}

static void test_lapic(void)
{
	start(guest_lapic, 0);
	vcpu_run_done(vcpu);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(refused),
		TEST(edge),
		TEST(level),
		TEST(pv_eoi),
		TEST(pic),
		TEST(window),
		TEST(masked),
		TEST(halted),
		TEST(lapic),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
