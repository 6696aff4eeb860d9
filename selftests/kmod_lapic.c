// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the local APIC on one vCPU, by xAPIC MMIO and by x2APIC MSRs: registers, mode changes, IPIs to itself,
 * priorities, logical destinations, the timer in its three modes, LVT masks, NMI, and GET/SET_LAPIC.
 */
#include <string.h>

#include "apic.h"
#include "vm.h"

#define VEC	0x41
#define VEC_LOW	0x31
#define VEC_HI	0x61

static struct vm *vm;
static struct vcpu *vcpu;

/* What handlers saw; the order log is for priorities */
static volatile uint32_t hits[256], order[16], nr_order;
static volatile bool in_service, irr_in_handler;

static void on_irq(struct guest_regs *regs)
{
	hits[regs->vector]++;
	if (nr_order < 16)
		order[nr_order++] = regs->vector;
	in_service = apic_bit(APIC_ISR, regs->vector);
	irr_in_handler = apic_bit(APIC_IRR, regs->vector);
	apic_eoi();
}

static void guest_start(uint64_t x2)
{
	if (x2)
		x2apic_enable();
	apic_enable();
	for (unsigned int i = 0x20; i < 256; i++) {
		guest_handlers[i] = on_irq;
		hits[i] = 0;
	}
	nr_order = 0;
}

static void run(void (*fn)(uint64_t), uint64_t arg)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, fn, arg);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

static void run_both(void (*fn)(uint64_t))
{
	run(fn, 0);
	run(fn, 1);
}

static void guest_regs(uint64_t x2)
{
	static const uint32_t lvt[] = { APIC_LVTT, APIC_LVTTHMR, APIC_LVTPC, APIC_LVT0, APIC_LVT1, APIC_LVTERR };

	GUEST_ASSERT_EQ(rdmsr(MSR_APICBASE), APIC_BASE | APICBASE_BSP | APICBASE_ENABLE);
	GUEST_ASSERT_EQ(xapic_read(APIC_ID), 0u);
	GUEST_ASSERT_EQ(xapic_read(APIC_SVR), 0xffu);
	GUEST_ASSERT_EQ(xapic_read(APIC_DFR), 0xffffffffu);
	if (x2) {
		x2apic_enable();
		GUEST_ASSERT_EQ(rdmsr(MSR_APICBASE), APIC_BASE | APICBASE_BSP | APICBASE_ENABLE | APICBASE_X2APIC);
	}
	GUEST_ASSERT_EQ(apic_read(APIC_VERSION) & 0xff, 0x14u);
	GUEST_ASSERT(apic_read(APIC_VERSION) >> 16 >= 5);	/* six LVT entries */
	GUEST_ASSERT_EQ(apic_read(APIC_TPR), 0u);
	GUEST_ASSERT_EQ(apic_read(APIC_PPR), 0u);
	for (int i = 0; i < 6; i++)
		if (lvt[i] != APIC_LVT0)	/* a VMM's choice: KVM's BSP starts with ExtINT */
			GUEST_ASSERT_EQ(apic_read(lvt[i]), (uint32_t)APIC_LVT_MASKED);
	for (uint32_t i = 0; i < 8; i++) {
		GUEST_ASSERT_EQ(apic_read(APIC_ISR + i * 0x10), 0u);
		GUEST_ASSERT_EQ(apic_read(APIC_IRR + i * 0x10), 0u);
	}

	/* Software-disabled: LVT entries cannot be unmasked */
	apic_write(APIC_LVTERR, VEC);
	GUEST_ASSERT_EQ(apic_read(APIC_LVTERR), (uint32_t)(APIC_LVT_MASKED | VEC));
	apic_enable();
	GUEST_ASSERT_EQ(apic_read(APIC_SVR), 0x1ffu);
	apic_write(APIC_LVTERR, VEC);
	GUEST_ASSERT_EQ(apic_read(APIC_LVTERR), (uint32_t)VEC);
	apic_write(APIC_LVTPC, APIC_LVT_MASKED | ICR_NMI);
	GUEST_ASSERT_EQ(apic_read(APIC_LVTPC), (uint32_t)(APIC_LVT_MASKED | ICR_NMI));
	apic_write(APIC_TDCR, 3);
	GUEST_ASSERT_EQ(apic_read(APIC_TDCR), 3u);
	apic_write(APIC_TMICT, 0);
	GUEST_ASSERT_EQ(apic_read(APIC_TMICT), 0u);
	GUEST_ASSERT_EQ(apic_read(APIC_TMCCT), 0u);
	apic_write(APIC_ESR, 0);
	GUEST_ASSERT_EQ(apic_read(APIC_ESR), 0u);
	/* Disabling masks them all */
	apic_write(APIC_SVR, 0xff);
	for (int i = 0; i < 6; i++)
		GUEST_ASSERT(apic_read(lvt[i]) & APIC_LVT_MASKED);

	if (!x2) {
		xapic_write(APIC_LDR, 0xa5000000);
		GUEST_ASSERT_EQ(xapic_read(APIC_LDR), 0xa5000000u);
		xapic_write(APIC_DFR, 0x0fffffff);
		GUEST_ASSERT_EQ(xapic_read(APIC_DFR), 0x0fffffffu);
		return;
	}
	GUEST_ASSERT_EQ(rdmsr(X2APIC_MSR(APIC_LDR)), 1ull);
}

static void test_registers(void)
{
	run_both(guest_regs);
}

static void guest_x2_faults(uint64_t arg)
{
	static const uint32_t no_write[] = { APIC_ID, APIC_VERSION, APIC_PPR, APIC_LDR, APIC_ISR, APIC_TMR, APIC_IRR, APIC_TMCCT };
	static const uint32_t no_read[] = { APIC_EOI, APIC_SELF_IPI };
	static const uint32_t nothing[] = { APIC_DFR, APIC_ICR2, 0x0, 0x40, 0x3d0 };
	uint64_t v;

	/* No x2APIC MSRs in xAPIC mode */
	GUEST_ASSERT_EQ(rdmsr_safe(X2APIC_MSR(APIC_VERSION), &v), GP_VECTOR);
	GUEST_ASSERT_EQ(wrmsr_safe(X2APIC_MSR(APIC_TPR), 0), GP_VECTOR);
	x2apic_enable();
	for (unsigned int i = 0; i < ARRAY_SIZE(no_write); i++) {
		GUEST_ASSERT_EQ(rdmsr_safe(X2APIC_MSR(no_write[i]), &v), -1);
		GUEST_ASSERT_EQ(wrmsr_safe(X2APIC_MSR(no_write[i]), 0), GP_VECTOR);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(no_read); i++)
		GUEST_ASSERT_EQ(rdmsr_safe(X2APIC_MSR(no_read[i]), &v), GP_VECTOR);
	for (unsigned int i = 0; i < ARRAY_SIZE(nothing); i++) {
		GUEST_ASSERT_EQ(rdmsr_safe(X2APIC_MSR(nothing[i]), &v), GP_VECTOR);
		GUEST_ASSERT_EQ(wrmsr_safe(X2APIC_MSR(nothing[i]), 0), GP_VECTOR);
	}
	/* The upper half of all but ICR is reserved */
	GUEST_ASSERT_EQ(wrmsr_safe(X2APIC_MSR(APIC_EOI), 0), -1);
	GUEST_ASSERT_EQ(wrmsr_safe(X2APIC_MSR(APIC_TPR), BIT(32)), GP_VECTOR);
}

static void test_x2apic_faults(void)
{
	run(guest_x2_faults, 0);
}

static void guest_base(uint64_t arg)
{
	uint64_t base = rdmsr(MSR_APICBASE);

	/* xAPIC -> off -> xAPIC -> x2APIC -> off; x2APIC -> xAPIC and off -> x2APIC are no ways */
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_APICBASE, (base & ~APICBASE_ENABLE) | APICBASE_X2APIC), GP_VECTOR);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_APICBASE, base | BIT(9)), GP_VECTOR);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_APICBASE, base | BIT(60)), GP_VECTOR);
	GUEST_ASSERT_EQ(rdmsr(MSR_APICBASE), base);
	wrmsr(MSR_APICBASE, base & ~APICBASE_ENABLE);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_APICBASE, base | APICBASE_X2APIC), GP_VECTOR);
	wrmsr(MSR_APICBASE, base);
	wrmsr(MSR_APICBASE, base | APICBASE_X2APIC);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_APICBASE, base), GP_VECTOR);
	GUEST_ASSERT_EQ(rdmsr(X2APIC_MSR(APIC_VERSION)) & 0xff, 0x14ull);
	wrmsr(MSR_APICBASE, base & ~APICBASE_ENABLE);
	wrmsr(MSR_APICBASE, base);
	GUEST_ASSERT_EQ(xapic_read(APIC_VERSION) & 0xff, 0x14u);
}

static void test_apicbase(void)
{
	run(guest_base, 0);
}

static void guest_self_ipi(uint64_t x2)
{
	guest_start(x2);
	GUEST_ASSERT_EQ(guest_vcpu_id(), 0u);
	for (uint32_t i = 1; i <= 20; i++) {
		apic_icr(ICR_FIXED | ICR_ASSERT | ICR_SELF | VEC, 0);
		GUEST_ASSERT(apic_bit(APIC_IRR, VEC));
		GUEST_ASSERT_EQ(hits[VEC], i - 1);
		sti_nop_cli();
		GUEST_ASSERT_EQ(hits[VEC], i);
		GUEST_ASSERT(in_service);
		GUEST_ASSERT(!irr_in_handler);
		GUEST_ASSERT(!apic_bit(APIC_ISR, VEC));
		GUEST_ASSERT(!apic_bit(APIC_IRR, VEC));
	}
	/* Two of the same are one */
	apic_icr(ICR_FIXED | ICR_ASSERT | ICR_SELF | VEC_HI, 0);
	apic_icr(ICR_FIXED | ICR_ASSERT | ICR_SELF | VEC_HI, 0);
	sti_nop_cli();
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC_HI], 1u);
	/* Physical, all, lowest priority */
	apic_icr(ICR_FIXED | ICR_ASSERT | 0x51, 0);
	apic_icr(ICR_FIXED | ICR_ASSERT | ICR_ALL | 0x52, 0);
	apic_icr(ICR_LOWEST | ICR_ASSERT | 0x53, 0);
	apic_icr(ICR_FIXED | ICR_ASSERT | 0x54, x2 ? 0xffffffff : 0xff);
	/* Nobody: another one, the others */
	apic_icr(ICR_FIXED | ICR_ASSERT | 0x55, 5);
	apic_icr(ICR_FIXED | ICR_ASSERT | ICR_OTHERS | 0x56, 0);
	for (int i = 0; i < 8; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[0x51], 1u);
	GUEST_ASSERT_EQ(hits[0x52], 1u);
	GUEST_ASSERT_EQ(hits[0x53], 1u);
	GUEST_ASSERT_EQ(hits[0x54], 1u);
	GUEST_ASSERT_EQ(hits[0x55], 0u);
	GUEST_ASSERT_EQ(hits[0x56], 0u);
	if (x2) {
		wrmsr(X2APIC_MSR(APIC_SELF_IPI), 0x57);
		sti_nop_cli();
		GUEST_ASSERT_EQ(hits[0x57], 1u);
	}
	/* The register reads back what was written, delivered */
	if (x2)
		GUEST_ASSERT_EQ(rdmsr(X2APIC_MSR(APIC_ICR)), (uint64_t)(ICR_ASSERT | ICR_OTHERS | 0x56));
	else
		GUEST_ASSERT_EQ(xapic_read(APIC_ICR), (uint32_t)(ICR_ASSERT | ICR_OTHERS | 0x56));
}

static void test_self_ipi(void)
{
	run_both(guest_self_ipi);
}

static void self(uint32_t vector)
{
	apic_icr(ICR_FIXED | ICR_ASSERT | ICR_SELF | vector, 0);
}

/* In the handler of VEC: a lower one must wait for EOI, a higher one must not */
static void on_nested(struct guest_regs *regs)
{
	hits[VEC]++;
	GUEST_ASSERT_EQ(apic_read(APIC_PPR), (uint32_t)(VEC & 0xf0));
	self(VEC_LOW);
	self(VEC_HI);
	self(VEC + 1);		/* the same class waits */
	for (int i = 0; i < 4; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC_HI], 1u);
	GUEST_ASSERT_EQ(hits[VEC_LOW], 0u);
	GUEST_ASSERT_EQ(hits[VEC + 1], 0u);
	apic_eoi();
}

static void guest_priority(uint64_t x2)
{
	guest_start(x2);

	/* Highest first */
	self(VEC_LOW);
	self(VEC_HI);
	self(VEC);
	for (int i = 0; i < 4; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(nr_order, 3u);
	GUEST_ASSERT_EQ(order[0], (uint32_t)VEC_HI);
	GUEST_ASSERT_EQ(order[1], (uint32_t)VEC);
	GUEST_ASSERT_EQ(order[2], (uint32_t)VEC_LOW);

	/* TPR keeps its class and those below waiting */
	apic_write(APIC_TPR, 0x45);
	GUEST_ASSERT_EQ(apic_read(APIC_PPR) & 0xf0, 0x40u);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr8), 4ull);
	self(VEC_LOW);
	self(VEC);
	self(VEC_HI);
	for (int i = 0; i < 4; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC_HI], 2u);
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	GUEST_ASSERT_EQ(hits[VEC_LOW], 1u);
	apic_write(APIC_TPR, 0x3f);
	for (int i = 0; i < 4; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 2u);
	GUEST_ASSERT_EQ(hits[VEC_LOW], 1u);
	GUEST_WRREG(cr8, 2);
	GUEST_ASSERT_EQ(apic_read(APIC_TPR), 0x20u);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC_LOW], 2u);
	GUEST_WRREG(cr8, 15);
	self(0xfd);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[0xfd], 0u);
	GUEST_WRREG(cr8, 0);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[0xfd], 1u);

	/* Nesting */
	hits[VEC] = hits[VEC_HI] = hits[VEC_LOW] = 0;
	guest_handlers[VEC] = on_nested;
	self(VEC);
	for (int i = 0; i < 4; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	GUEST_ASSERT_EQ(hits[VEC_LOW], 1u);
	GUEST_ASSERT_EQ(hits[VEC + 1], 1u);
	GUEST_ASSERT_EQ(apic_read(APIC_PPR), 0u);
}

static void test_priority(void)
{
	run_both(guest_priority);
}

static void guest_logical(uint64_t x2)
{
	guest_start(x2);
	if (x2) {
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x71, 1);		/* cluster 0, member 0 */
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x72, 0xffff);
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x73, 2);		/* another member */
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x74, 0x10001);	/* another cluster */
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x75, 0xffffffff);
		apic_icr(ICR_LOGICAL | ICR_ASSERT | ICR_LOWEST | 0x76, 3);
	} else {
		xapic_write(APIC_DFR, 0xffffffff);	/* flat */
		xapic_write(APIC_LDR, 0x04000000);
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x71, 4);
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x72, 0xff);
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x73, 2);
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x74, 0xfb);
		xapic_write(APIC_DFR, 0x0fffffff);	/* cluster */
		xapic_write(APIC_LDR, 0x24000000);
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x75, 0x26);
		apic_icr(ICR_LOGICAL | ICR_ASSERT | ICR_LOWEST | 0x76, 0x24);
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x77, 0x14);
		apic_icr(ICR_LOGICAL | ICR_ASSERT | 0x78, 0x21);
	}
	for (int i = 0; i < 10; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[0x71], 1u);
	GUEST_ASSERT_EQ(hits[0x72], 1u);
	GUEST_ASSERT_EQ(hits[0x73], 0u);
	GUEST_ASSERT_EQ(hits[0x74], 0u);
	GUEST_ASSERT_EQ(hits[0x75], 1u);
	GUEST_ASSERT_EQ(hits[0x76], 1u);
	GUEST_ASSERT_EQ(hits[0x77], 0u);
	GUEST_ASSERT_EQ(hits[0x78], 0u);
}

static void test_logical(void)
{
	run_both(guest_logical);
}

static void guest_disabled(uint64_t x2)
{
	guest_start(x2);
	apic_write(APIC_SVR, 0xff);
	self(VEC);
	GUEST_ASSERT(!apic_bit(APIC_IRR, VEC));
	apic_enable();
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 0u);
	/* What was pending stays */
	self(VEC);
	apic_write(APIC_SVR, 0xff);
	GUEST_ASSERT(apic_bit(APIC_IRR, VEC));
	apic_enable();
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
}

static void test_software_disabled(void)
{
	run_both(guest_disabled);
}

static volatile uint32_t nmis;

static void on_nmi(struct guest_regs *regs)
{
	nmis++;
}

static void guest_nmi(uint64_t x2)
{
	nmis = 0;
	guest_handlers[NMI_VECTOR] = on_nmi;
	guest_start(x2);
	for (uint32_t i = 1; i <= 5; i++) {
		/* IF is clear: that holds no NMI back */
		apic_icr(ICR_NMI | ICR_ASSERT, 0);
		GUEST_ASSERT(GUEST_WAIT(nmis == i, 5000));
	}
}

static void test_nmi(void)
{
	run_both(guest_nmi);
}

static void set_timer(uint32_t lvt, uint32_t count)
{
	apic_write(APIC_LVTT, lvt);
	apic_write(APIC_TMICT, count);
}

#define FAR	0xffffffffu

/*
 * The shortest period, in microseconds, that leaves time between two interrupts, however slow the host is: 64 exits' worth. In
 * an emulator that takes 50 instructions for a microsecond, 200 of them are over before the host has delivered an interrupt, and
 * the guest, interrupted anew at each entry, would never come to run.
 */
static uint32_t short_us(void)
{
	uint64_t t = rdtsc(), us;

	for (int i = 0; i < 64; i++)
		guest_cpuid(0, 0);
	us = (rdtsc() - t) / guest_us(1);
	return us < 200 ? 200 : us > 5000 ? 5000 : us;
}

static void guest_timer(uint64_t x2)
{
	uint32_t a, b, n, us = short_us(), period = 1000 * us;
	bool in_time;
	uint64_t t;

	guest_start(x2);
	apic_write(APIC_TDCR, APIC_TDCR_DIV1);
	/* It counts down */
	set_timer(APIC_LVT_MASKED | VEC, FAR);
	a = apic_read(APIC_TMCCT);
	guest_delay_us(1000);
	b = apic_read(APIC_TMCCT);
	GUEST_ASSERT(a > b && b > 0);
	/* A divider slows it: by 128, 2 */
	apic_write(APIC_TDCR, 0xa);
	a = apic_read(APIC_TMCCT);
	GUEST_ASSERT_EQ(apic_read(APIC_TDCR), 0xau);
	/* Zero stops it */
	apic_write(APIC_TMICT, 0);
	GUEST_ASSERT_EQ(apic_read(APIC_TMCCT), 0u);
	apic_write(APIC_TDCR, APIC_TDCR_DIV1);

	/* One shot */
	t = rdtsc();
	set_timer(VEC, period);
	sti();
	GUEST_ASSERT(GUEST_WAIT(hits[VEC], 5000));
	GUEST_ASSERT(rdtsc() > t);
	GUEST_ASSERT_EQ(apic_read(APIC_TMCCT), 0u);
	guest_delay_us(15 * us);
	GUEST_ASSERT_EQ(hits[VEC], 1u);
	/* again, asleep */
	cli();
	set_timer(VEC, period);
	sti_hlt_cli();
	GUEST_ASSERT_EQ(hits[VEC], 2u);
	/* masked: nothing */
	set_timer(APIC_LVT_MASKED | VEC, period);
	sti();
	guest_delay_us(15 * us);
	GUEST_ASSERT_EQ(hits[VEC], 2u);
	GUEST_ASSERT(!apic_bit(APIC_IRR, VEC));
	cli();
	apic_write(APIC_TMICT, 0);
	/* stopped before its time (unless an emulator stopped us for so long) */
	t = rdtsc();
	set_timer(VEC, 20 * period);
	apic_write(APIC_TMICT, 0);
	in_time = rdtsc() - t < guest_us(us * 10);
	sti();
	guest_delay_us(40 * us);
	cli();
	if (in_time)
		GUEST_ASSERT_EQ(hits[VEC], 2u);

	/* Periodic: awake and asleep */
	set_timer(APIC_LVTT_PERIODIC | VEC_LOW, period);
	sti();
	GUEST_ASSERT(GUEST_WAIT(hits[VEC_LOW] >= 5, 10000));
	cli();
	for (n = 0; n < 5; n++)
		sti_hlt_cli();
	GUEST_ASSERT(hits[VEC_LOW] >= 10);
	a = apic_read(APIC_TMCCT);
	GUEST_ASSERT(a <= period);
	apic_write(APIC_TMICT, 0);
	sti_nop_cli();
	n = hits[VEC_LOW];
	sti();
	guest_delay_us(15 * us);
	GUEST_ASSERT_EQ(hits[VEC_LOW], n);
	cli();
}

static void test_timer(void)
{
	run_both(guest_timer);
}

static void guest_deadline(uint64_t x2)
{
	uint64_t t;

	guest_start(x2);
	/* Outside of deadline mode the MSR is ignored */
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + guest_us(100));
	GUEST_ASSERT_EQ(rdmsr(MSR_TSC_DEADLINE), 0ull);
	apic_write(APIC_LVTT, APIC_LVTT_DEADLINE | VEC);
	GUEST_ASSERT_EQ(apic_read(APIC_LVTT), (uint32_t)(APIC_LVTT_DEADLINE | VEC));

	t = rdtsc() + guest_us(500);
	wrmsr(MSR_TSC_DEADLINE, t);
	sti();
	GUEST_ASSERT(GUEST_WAIT(hits[VEC], 5000));
	cli();
	GUEST_ASSERT(rdtsc() >= t);
	GUEST_ASSERT_EQ(rdmsr(MSR_TSC_DEADLINE), 0ull);
	/* in the past, and now */
	wrmsr(MSR_TSC_DEADLINE, 1);
	sti();
	GUEST_ASSERT(GUEST_WAIT(hits[VEC] == 2, 5000));
	cli();
	wrmsr(MSR_TSC_DEADLINE, rdtsc());
	sti();
	GUEST_ASSERT(GUEST_WAIT(hits[VEC] == 3, 5000));
	cli();
	/* never early, asleep or awake */
	for (uint32_t i = 4; i < 30; i++) {
		t = rdtsc() + guest_us(10 * i);
		wrmsr(MSR_TSC_DEADLINE, t);
		if (i & 1) {
			sti_hlt_cli();
		} else {
			sti();
			GUEST_ASSERT(GUEST_WAIT(hits[VEC] == i, 5000));
			cli();
		}
		GUEST_ASSERT(rdtsc() >= t);
		GUEST_ASSERT_EQ(hits[VEC], i);
	}
	/* armed reads back */
	t = rdtsc() + guest_us(10000000);
	wrmsr(MSR_TSC_DEADLINE, t);
	GUEST_ASSERT_EQ(rdmsr(MSR_TSC_DEADLINE), t);
	/* zero disarms, and so does a change of mode (looked at where no emulator stopped us too long) */
	for (int how = 0; how < 2; how++) {
		uint32_t before = hits[VEC];

		t = rdtsc();
		wrmsr(MSR_TSC_DEADLINE, t + guest_us(3000));
		if (how)
			apic_write(APIC_LVTT, VEC);
		else
			wrmsr(MSR_TSC_DEADLINE, 0);
		t = rdtsc() - t;
		sti();
		guest_delay_us(6000);
		cli();
		if (t < guest_us(2000))
			GUEST_ASSERT_EQ(hits[VEC], before);
	}
}

static void test_deadline(void)
{
	REQUIRE_CAP(KVM_CAP_TSC_DEADLINE_TIMER);
	run_both(guest_deadline);
}

/* State: the host stops the guest in the middle of things, moves the state to a new vCPU, goes on there */
static void guest_state(uint64_t x2)
{
	guest_start(x2);
	if (!x2) {
		xapic_write(APIC_LDR, 0x08000000);
		xapic_write(APIC_DFR, 0xffffffff);
	}
	apic_write(APIC_LVTERR, 0x99);
	apic_write(APIC_TDCR, 2);
	apic_write(APIC_TPR, 0x50);
	self(VEC);
	self(VEC_HI);
	GUEST_SYNC(1);
	GUEST_ASSERT_EQ(apic_is_x2(), x2);
	GUEST_ASSERT_EQ(apic_read(APIC_LVTERR), 0x99u);
	GUEST_ASSERT_EQ(apic_read(APIC_TDCR), 2u);
	GUEST_ASSERT_EQ(apic_read(APIC_TPR), 0x50u);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr8), 5ull);
	if (!x2)
		GUEST_ASSERT_EQ(apic_read(APIC_LDR), 0x08000000u);
	for (int i = 0; i < 3; i++)
		sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC_HI], 1u);
	GUEST_ASSERT_EQ(hits[VEC], 0u);
	apic_write(APIC_TPR, 0);
	sti_nop_cli();
	GUEST_ASSERT_EQ(hits[VEC], 1u);
}

static void one_state(uint64_t x2)
{
	struct kvm_lapic_state lapic, again;
	struct kvm_sregs sregs;
	struct vm *vm2;
	struct vcpu *vcpu2;
	struct kvm_regs regs;

	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_state, x2);
	vcpu_run_sync(vcpu, 1);
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	ASSERT_EQ(*(uint32_t *)(lapic.regs + APIC_LVTERR), 0x99);
	ASSERT_EQ(*(uint32_t *)(lapic.regs + APIC_TPR), 0x50);
	ASSERT_EQ(*(uint32_t *)(lapic.regs + APIC_IRR + 0x20), 1u << (VEC & 31));
	ASSERT_EQ(*(uint32_t *)(lapic.regs + APIC_IRR + 0x30), 1u << (VEC_HI & 31));
	ASSERT_EQ(!!(sregs.apic_base & APICBASE_X2APIC), x2);
	ASSERT_EQ(sregs.cr8, 5);

	vm2 = vm_create(VM_IRQCHIP);
	/* Guest memory of the old VM: low memory holds the stack and the tables */
	vm_del_slot(vm2, 0);
	vm_add_slot(vm2, 0, 0, 0, LOW_MEM_SIZE, vm_hva(vm, 0));
	vcpu2 = vcpu_create(vm2, 0);
	vcpu_set_cpuid(vcpu2);
	VCPU_IOCTL(vcpu2, KVM_SET_SREGS, &sregs);
	VCPU_IOCTL(vcpu2, KVM_SET_REGS, &regs);
	VCPU_IOCTL(vcpu2, KVM_SET_LAPIC, &lapic);
	VCPU_IOCTL(vcpu2, KVM_GET_LAPIC, &again);
	for (unsigned int i = 0; i < sizeof(lapic.regs); i += 16)
		if (memcmp(lapic.regs + i, again.regs + i, 4) && i != APIC_TMCCT)
			FAIL("register 0x%x: 0x%x, was 0x%x", i, *(uint32_t *)(again.regs + i), *(uint32_t *)(lapic.regs + i));
	vcpu_run_done(vcpu2);
}

static void test_state(void)
{
	one_state(0);
	one_state(1);
}

/* What userspace puts there is what it finds there: vectors that are none, bits of ICR that mean nothing */
static void test_state_bits(void)
{
	struct kvm_lapic_state lapic, again;

	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_create(vm, 0);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
	*(uint32_t *)(lapic.regs + APIC_IRR) = 0xa5a5a5a5;
	*(uint32_t *)(lapic.regs + APIC_IRR + 0x30) = 0x5a5a5a5a;
	*(uint32_t *)(lapic.regs + APIC_ICR) = 0xa5a5a5a5 & ~ICR_PENDING;
	VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &lapic);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &again);
	ASSERT_EQ(*(uint32_t *)(again.regs + APIC_IRR), 0xa5a5a5a5);
	ASSERT_EQ(*(uint32_t *)(again.regs + APIC_IRR + 0x30), 0x5a5a5a5a);
	ASSERT_EQ(*(uint32_t *)(again.regs + APIC_ICR), 0xa5a5a5a5 & ~ICR_PENDING);
}

/* A running timer moves too */
static volatile uint32_t state_period;

static void guest_state_timer(uint64_t x2)
{
	guest_start(x2);
	apic_write(APIC_TDCR, APIC_TDCR_DIV1);
	state_period = 1000 * short_us();
	set_timer(APIC_LVTT_PERIODIC | VEC, state_period);
	GUEST_SYNC(1);
	for (int i = 0; i < 4; i++)
		sti_hlt_cli();
	GUEST_ASSERT(hits[VEC] >= 4);
}

static void test_state_timer(void)
{
	struct kvm_lapic_state lapic;

	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_state_timer, 0);
	vcpu_run_sync(vcpu, 1);
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
	ASSERT_EQ(*(uint32_t *)(lapic.regs + APIC_TMICT), state_period);
	VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &lapic);
	vcpu_run_done(vcpu);
}

/* Without an interrupt chip there is no LAPIC */
static void test_no_irqchip(void)
{
	struct kvm_lapic_state lapic = { 0 };

	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_regs, 0);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic), EINVAL);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic), EINVAL);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(registers),
		TEST(x2apic_faults),
		TEST(apicbase),
		TEST(self_ipi),
		TEST(priority),
		TEST(logical),
		TEST(software_disabled),
		TEST(nmi),
		TEST(timer),
		TEST(deadline),
		TEST(state),
		TEST(state_bits),
		TEST(state_timer),
		TEST(no_irqchip),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
