// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the ways by which a VMM raises interrupts: KVM_IRQ_LINE, GSI routing, MSI by routing and KVM_SIGNAL_MSI, irqfd
 * with and without resampling, KVM_NMI; without interrupt chip KVM_INTERRUPT and the interrupt window; and the event
 * state in between.
 */
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "apic.h"
#include "vm.h"

#define VEC	0x51
#define GSI	20

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint32_t hits[256], nmis;

static void on_irq(struct guest_regs *regs)
{
	hits[regs->vector]++;
	apic_eoi();
}

static void on_irq_no_apic(struct guest_regs *regs)
{
	hits[regs->vector]++;
}

static void on_nmi(struct guest_regs *regs)
{
	nmis++;
}

static void start(void (*fn)(uint64_t), uint64_t arg)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, fn, arg);
	memset((void *)hits, 0, sizeof(hits));
	nmis = 0;
	for (int i = 0x20; i < 256; i++)
		guest_handlers[i] = on_irq;
	guest_handlers[NMI_VECTOR] = on_nmi;
}

static void windows(void)
{
	for (int i = 0; i < 4; i++)
		sti_nop_cli();
}

/* The guest of most tests: opens a window whenever the host lets it, until told to end */
static volatile bool end;

static void guest_windows(uint64_t x2)
{
	apic_only(x2);
	ioapic_set_redir(GSI, VEC);
	ioapic_set_redir(GSI + 1, IOAPIC_LEVEL | (VEC + 1));
	ioapic_set_redir(GSI + 2, 0x91);
	GUEST_SYNC(0);
	while (!end) {
		windows();
		GUEST_SYNC(0);
	}
}

static void step(void)
{
	vcpu_run_sync(vcpu, 0);
}

static int line_status(uint32_t gsi, uint32_t level)
{
	struct kvm_irq_level irq = { .irq = gsi, .level = level };

	VM_IOCTL(vm, KVM_IRQ_LINE_STATUS, &irq);
	return irq.status;
}

static void test_irq_line(void)
{
	struct kvm_irq_level irq = { .irq = GSI, .level = 1 };

	start(guest_windows, 0);
	step();
	VM_IOCTL(vm, KVM_IRQ_LINE, &irq);
	step();
	ASSERT_EQ(hits[VEC], 1);
	irq.level = 0;
	VM_IOCTL(vm, KVM_IRQ_LINE, &irq);
	step();
	ASSERT_EQ(hits[VEC], 1);
	/* The status: positive for delivered */
	ASSERT_EQ(line_status(GSI, 1), 1);
	line_status(GSI, 0);
	step();
	ASSERT_EQ(hits[VEC], 2);
	/* a number nobody routes */
	irq = (struct kvm_irq_level){ .irq = 1000000, .level = 1 };
	ioctl(vm->fd, KVM_IRQ_LINE, &irq);
	step();
}

static void set_route(struct kvm_irq_routing_entry *e, unsigned int n)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[8];
	} r = { .head.nr = n };

	memcpy(r.e, e, n * sizeof(*e));
	VM_IOCTL(vm, KVM_SET_GSI_ROUTING, &r);
}

static struct kvm_irq_routing_entry msi_route(uint32_t gsi, uint32_t addr, uint32_t data)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = addr, .data = data },
	};
}

static struct kvm_irq_routing_entry pin_route(uint32_t gsi, uint32_t pin)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_IOAPIC, pin },
	};
}

static void pulse(uint32_t gsi)
{
	struct kvm_irq_level irq = { .irq = gsi, .level = 1 };

	VM_IOCTL(vm, KVM_IRQ_LINE, &irq);
	irq.level = 0;
	VM_IOCTL(vm, KVM_IRQ_LINE, &irq);
}

static void test_routing(void)
{
	struct kvm_irqchip pic = { .chip_id = KVM_IRQCHIP_PIC_MASTER };
	struct kvm_irq_routing_entry e[3];

	start(guest_windows, 0);
	step();
	/* another GSI for the pin; the old one leads nowhere */
	e[0] = pin_route(100, GSI);
	set_route(e, 1);
	pulse(100);
	step();
	ASSERT_EQ(hits[VEC], 1);
	pulse(GSI);
	step();
	ASSERT_EQ(hits[VEC], 1);
	/* one GSI, two chips; another an MSI */
	e[0] = pin_route(100, GSI);
	e[1] = pin_route(100, 4);
	e[1].u.irqchip.irqchip = KVM_IRQCHIP_PIC_MASTER;
	e[2] = msi_route(101, 0xfee00000, 0x71);
	set_route(e, 3);
	pulse(100);
	step();
	ASSERT_EQ(hits[VEC], 2);
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &pic);
	ASSERT_EQ(pic.chip.pic.irr & 0x10, 0x10);
	pulse(101);
	step();
	ASSERT_EQ(hits[0x71], 1);
	/* nothing at all */
	set_route(e, 0);
	pulse(100);
	pulse(101);
	step();
	ASSERT_EQ(hits[VEC], 2);
	ASSERT_EQ(hits[0x71], 1);
}

static int signal_msi(uint32_t addr, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = addr, .data = data };

	return ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}

static void test_signal_msi(void)
{
	struct kvm_msi bad = { .address_lo = 0xfee00000, .data = 0x61, .flags = 0x8000 };

	start(guest_windows, 0);
	step();
	/* physical, broadcast, logical (flat: the LDR is 0, so nobody), redirection hint */
	ASSERT_GT(signal_msi(0xfee00000, 0x61), 0);
	ASSERT_GT(signal_msi(0xfeeff000, 0x62), 0);
	ASSERT_LE(signal_msi(0xfee05000, 0x63), 0);
	signal_msi(0xfee01004, 0x64);
	step();
	ASSERT_EQ(hits[0x61], 1);
	ASSERT_EQ(hits[0x62], 1);
	ASSERT_EQ(hits[0x63], 0);
	ASSERT_EQ(hits[0x64], 0);
	/* NMI by MSI */
	ASSERT_GT(signal_msi(0xfee00000, ICR_NMI), 0);
	step();
	ASSERT_EQ(nmis, 1);
	ASSERT_ERR(ioctl(vm->fd, KVM_SIGNAL_MSI, &bad), EINVAL);
}

static void add_irqfd(int fd, uint32_t gsi, uint32_t flags, int resample)
{
	struct kvm_irqfd irqfd = { .fd = fd, .gsi = gsi, .flags = flags, .resamplefd = resample };

	VM_IOCTL(vm, KVM_IRQFD, &irqfd);
}

static void kick(int fd)
{
	uint64_t one = 1;

	ASSERT_EQ(write(fd, &one, 8), 8);
}

/* Delivery happens in a worker of the kernel: give it time */
static void step_until(volatile uint32_t *counter, uint32_t want)
{
	for (int i = 0; i < 1000 && *counter < want; i++) {
		sleep_ms(1);
		step();
	}
	ASSERT_EQ(*counter, want);
}

static void test_irqfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK), fd2 = eventfd(0, EFD_NONBLOCK);
	struct kvm_irq_routing_entry e[2];

	start(guest_windows, 0);
	add_irqfd(fd, GSI, 0, 0);
	step();
	for (uint32_t i = 1; i <= 5; i++) {
		kick(fd);
		step_until(&hits[VEC], i);
	}
	/* the event is consumed */
	struct pollfd p = { .fd = fd, .events = POLLIN };

	ASSERT_EQ(poll(&p, 1, 0), 0);
	/* an MSI route, changed under it */
	e[0] = msi_route(50, 0xfee00000, 0x71);
	set_route(e, 1);
	add_irqfd(fd2, 50, 0, 0);
	kick(fd2);
	step_until(&hits[0x71], 1);
	e[0] = msi_route(50, 0xfee00000, 0x72);
	set_route(e, 1);
	kick(fd2);
	step_until(&hits[0x72], 1);
	ASSERT_EQ(hits[0x71], 1);
	/* taken off: the event stays in the eventfd */
	add_irqfd(fd2, 50, KVM_IRQFD_FLAG_DEASSIGN, 0);
	kick(fd2);
	sleep_ms(5);
	step();
	ASSERT_EQ(hits[0x72], 1);
	p.fd = fd2;
	ASSERT_EQ(poll(&p, 1, 0), 1);
	/* an event that was there before is delivered when the fd is assigned */
	add_irqfd(fd2, 50, 0, 0);
	step_until(&hits[0x72], 2);
	/* closing the eventfd takes it off */
	close(fd2);
	step();
}

static void guest_hlt(uint64_t arg)
{
	apic_only(false);
	ioapic_set_redir(GSI, VEC);
	GUEST_SYNC(0);
	for (uint32_t i = 0; i < 50; i++)
		while (hits[VEC] <= i)
			sti_hlt_cli();
}

static void test_irqfd_halted(void)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	start(guest_hlt, 0);
	add_irqfd(fd, GSI, 0, 0);
	vcpu_start(vcpu);
	for (uint32_t i = 0; i < 50; i++) {
		/* the first may come before the redirection entry is set: again until it counts */
		while (hits[VEC] <= i) {
			kick(fd);
			WAIT_FOR(hits[VEC] > i, 50);
		}
	}
	vcpu_join(vcpu);
}

/* Level with resample: the line rises with the event; at EOI it falls and the VMM hears of it */
static void test_resample(void)
{
	int fd = eventfd(0, EFD_NONBLOCK), resample = eventfd(0, EFD_NONBLOCK);
	uint64_t n;

	REQUIRE_CAP(KVM_CAP_IRQFD_RESAMPLE);
	start(guest_windows, 0);
	add_irqfd(fd, GSI + 1, KVM_IRQFD_FLAG_RESAMPLE, resample);
	step();
	for (uint32_t i = 1; i <= 3; i++) {
		ASSERT_ERR(read(resample, &n, 8), EAGAIN);
		kick(fd);
		step_until(&hits[VEC + 1], i);
		ASSERT_EQ(read(resample, &n, 8), 8);
		ASSERT_EQ(n, 1);
		/* lowered: it does not come again by itself */
		step();
		ASSERT_EQ(hits[VEC + 1], i);
	}
}

/* Routes, irqfds and lines change from several threads while the guest takes interrupts; at the end all is as usual */
static volatile bool race_end;

static void *race_routes(void *arg)
{
	struct kvm_irq_routing_entry e[3];

	for (unsigned int n = 0; !race_end; n++) {
		e[0] = n & 1 ? pin_route(GSI, GSI) : msi_route(GSI, 0xfee00000, VEC);
		e[1] = n & 2 ? pin_route(50, GSI) : msi_route(50, 0xfee00000, 0x71);
		e[2] = pin_route(GSI + 1, GSI + 1);
		set_route(e, n % 4);
	}
	return NULL;
}

static void *race_irqfds(void *arg)
{
	bool resample = arg;
	int fd = eventfd(0, EFD_NONBLOCK), done = eventfd(0, EFD_NONBLOCK);

	while (!race_end) {
		struct kvm_irqfd irqfd = { .fd = fd, .gsi = resample ? GSI + 1 : 50, .resamplefd = done };

		irqfd.flags = resample ? KVM_IRQFD_FLAG_RESAMPLE : 0;
		VM_IOCTL(vm, KVM_IRQFD, &irqfd);
		for (int i = 0; i < 5; i++)
			kick(fd);
		irqfd.flags |= KVM_IRQFD_FLAG_DEASSIGN;
		VM_IOCTL(vm, KVM_IRQFD, &irqfd);
	}
	close(fd);
	close(done);
	return NULL;
}

static void *race_lines(void *arg)
{
	while (!race_end) {
		struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

		pulse(GSI);
		signal_msi(0xfee00000, 0x72);
		VM_IOCTL(vm, KVM_GET_IRQCHIP, &chip);
		signal_msi(0xfee00000, ICR_NMI);
	}
	return NULL;
}

static void guest_any(uint64_t arg)
{
	apic_only(false);
	ioapic_set_redir(GSI, VEC);
	ioapic_set_redir(GSI + 1, IOAPIC_LEVEL | (VEC + 1));
	while (!race_end) {
		windows();
		guest_cpuid(0, 0);
	}
}

static void test_races(void)
{
	pthread_t t[4];
	struct kvm_irq_routing_entry e = pin_route(100, GSI + 2);

	start(guest_any, 0);
	vcpu_start(vcpu);
	pthread_create(&t[0], NULL, race_routes, NULL);
	pthread_create(&t[1], NULL, race_irqfds, NULL);
	pthread_create(&t[2], NULL, race_irqfds, (void *)1);
	pthread_create(&t[3], NULL, race_lines, NULL);
	sleep_ms(3000);
	race_end = true;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	vcpu_join(vcpu);
	ASSERT_GT(hits[0x72], 0);
	ASSERT_GT(nmis, 0);
	/* A line that was up when its route went stays up, here as in KVM: this is another, above it */
	set_route(&e, 1);
	vcpu_restart(vcpu, guest_windows, 0);
	step();
	step();
	ASSERT_EQ(hits[0x91], 0);
	pulse(100);
	step();
	ASSERT_EQ(hits[0x91], 1);
}

static void test_nmi(void)
{
	start(guest_windows, 0);
	step();
	VCPU_IOCTL(vcpu, KVM_NMI, 0);
	step();
	ASSERT_EQ(nmis, 1);
	VCPU_IOCTL(vcpu, KVM_NMI, 0);
	step();
	ASSERT_EQ(nmis, 2);
}

/* NMIs are held back in an NMI handler until its IRET */
static volatile uint32_t nested, deepest;

static void on_slow_nmi(struct guest_regs *regs)
{
	nested++;
	if (nested > deepest)
		deepest = nested;
	nmis++;
	if (nmis == 1)
		GUEST_SYNC(1);		/* the host sends another */
	nested--;
}

static void guest_nmi_nesting(uint64_t arg)
{
	guest_handlers[NMI_VECTOR] = on_slow_nmi;
	GUEST_SYNC(0);
	for (int i = 0; i < 100 && nmis < 2; i++)
		__asm__ volatile("nop");
	GUEST_ASSERT_EQ(nmis, 2u);
	GUEST_ASSERT_EQ(deepest, 1u);
}

static void test_nmi_nesting(void)
{
	struct kvm_vcpu_events ev;

	start(guest_nmi_nesting, 0);
	vcpu_run_sync(vcpu, 0);
	VCPU_IOCTL(vcpu, KVM_NMI, 0);
	vcpu_run_sync(vcpu, 1);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.nmi.masked, 1);
	VCPU_IOCTL(vcpu, KVM_NMI, 0);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.nmi.pending, 1);
	vcpu_run_done(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.nmi.masked, 0);
	ASSERT_EQ(ev.nmi.pending, 0);
}

/* Userspace's own interrupt controller: a window is asked for, KVM_RUN returns when it opens */
static void guest_window(uint64_t arg)
{
	for (int i = 0x20; i < 256; i++)
		guest_handlers[i] = on_irq_no_apic;
	cli();
	GUEST_SYNC(1);
	__asm__ volatile("nop; nop");
	GUEST_ASSERT_EQ(hits[VEC], 0u);
	sti();
	/* the window opens here: one exit, then the interrupt */
	__asm__ volatile("nop; nop; nop");
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	GUEST_SYNC(2);
	__asm__ volatile("nop; nop; nop");
	GUEST_ASSERT_EQ(hits[VEC + 1], 1u);
}

static void test_window(void)
{
	struct kvm_interrupt irq = { .irq = VEC };
	struct kvm_run *run;

	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_window, 0);
	run = vcpu->run;
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(run->ready_for_interrupt_injection, 0);
	run->request_interrupt_window = 1;
	vcpu_run_exit(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
	ASSERT_EQ(run->if_flag, 1);
	ASSERT_EQ(run->ready_for_interrupt_injection, 1);
	run->request_interrupt_window = 0;
	VCPU_IOCTL(vcpu, KVM_INTERRUPT, &irq);
	vcpu_run_sync(vcpu, 2);
	/* IF is set: without asking for the window */
	vcpu_complete_io(vcpu);
	ASSERT_EQ(run->ready_for_interrupt_injection, 1);
	irq.irq = VEC + 1;
	VCPU_IOCTL(vcpu, KVM_INTERRUPT, &irq);
	vcpu_run_done(vcpu);
}

/* HLT without chip: the exit; an interrupt wakes the guest after it */
static void guest_halt_window(uint64_t arg)
{
	guest_handlers[VEC] = on_irq_no_apic;
	sti();
	__asm__ volatile("hlt");
	GUEST_ASSERT_EQ(hits[VEC], 1u);
}

static void test_halt_userspace(void)
{
	struct kvm_interrupt irq = { .irq = VEC };

	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_halt_window, 0);
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
	VCPU_IOCTL(vcpu, KVM_INTERRUPT, &irq);
	vcpu_run_done(vcpu);
}

/* The shadow of STI and MOV SS shows in the event state and holds interrupts back for one instruction */
static volatile uint64_t irq_rip;

static void on_shadow(struct guest_regs *regs)
{
	irq_rip = regs->rip;
	hits[regs->vector]++;
	apic_eoi();
}

static void guest_shadow(uint64_t arg)
{
	extern const char shadow_after[];

	apic_enable();
	guest_handlers[VEC] = on_shadow;
	for (uint32_t i = 1; i <= 5; i++) {
		apic_icr(ICR_SELF | ICR_ASSERT | VEC, 0);
		__asm__ volatile("sti; nop\n\t.globl shadow_after\nshadow_after: nop; cli" : : : "memory");
		GUEST_ASSERT_EQ(hits[VEC], i);
		GUEST_ASSERT_EQ(irq_rip, (uint64_t)(uintptr_t)shadow_after);
	}
}

static void test_shadow(void)
{
	struct kvm_vcpu_events ev;

	start(guest_shadow, 0);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.interrupt.shadow, 0);
	vcpu_run_done(vcpu);
}

/* An exit in a shadow: OUT right after STI. The state has the shadow's end, or it is still there, as the CPU left it. */
static void guest_events(uint64_t arg)
{
	apic_enable();
	guest_handlers[VEC] = on_irq;
	GUEST_SYNC(1);
	windows();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
}

static void test_inject_by_events(void)
{
	struct kvm_vcpu_events ev;

	start(guest_events, 0);
	vcpu_run_sync(vcpu, 1);
	vcpu_complete_io(vcpu);
	/* An interrupt that was on its way in, as a migration would hand it over; IF need not be set */
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.interrupt.injected, 0);
	ev.interrupt.injected = 1;
	ev.interrupt.nr = VEC;
	ev.interrupt.soft = 0;
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.interrupt.injected, 1);
	ASSERT_EQ(ev.interrupt.nr, VEC);
	vcpu_run_done(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.interrupt.injected, 0);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(irq_line),
		TEST(routing),
		TEST(signal_msi),
		TEST(irqfd),
		TEST(irqfd_halted),
		TEST(resample),
		TEST(races),
		TEST(nmi),
		TEST(nmi_nesting),
		TEST(window),
		TEST(halt_userspace),
		TEST(shadow),
		TEST(inject_by_events),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
