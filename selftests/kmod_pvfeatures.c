// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the paravirtual features besides the clock: steal time, EOI without exit, IPIs by hypercall, kick of a halted
 * vCPU, yield, and what hypercalls answer that do not exist or come from user mode.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "apic.h"
#include "pv.h"
#include "vm.h"

#define VEC	0x61
#define NR	4

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint32_t hits[NR], online;
static volatile bool end;

static void guest_hypercalls(uint64_t arg)
{
	GUEST_ASSERT_EQ(hypercall4(12345, 0, 0, 0, 0), (long)-PV_ENOSYS);
	GUEST_ASSERT_EQ(hypercall4(-1, 0, 0, 0, 0), (long)-PV_ENOSYS);
	GUEST_ASSERT_EQ(hypercall4(PV_HC_POLL_IRQ, 0, 0, 0, 0), 0l);
	/* registers other than RAX stay */
	uint64_t b = 1, c = 2, d = 3, s = 4, a = 12345;

	if (guest_is_amd)
		__asm__ volatile("vmmcall" : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(s) : : "memory");
	else
		__asm__ volatile("vmcall" : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(s) : : "memory");
	GUEST_ASSERT(b == 1 && c == 2 && d == 3 && s == 4);
}

static void test_hypercalls(void)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_hypercalls, 0);
	vcpu_run_done(vcpu);
}

/* From user mode they are refused, and do nothing */
static volatile int64_t user_result;

static void on_gate(struct guest_regs *regs)
{
	user_result = regs->rax;
	guest_done();
}

static void guest_user(uint64_t arg)
{
	guest_handlers[0x80] = on_gate;
	__asm__ volatile("mov %%rsp, %%rax\n\t"
			 "push %0; push %%rax; push $2; push %1; lea 1f(%%rip), %%rax; push %%rax; mov %2, %%r8; iretq\n\t"
			 "1: mov $5, %%eax; xor %%ebx, %%ebx; xor %%ecx, %%ecx; test %%r8, %%r8; jz 2f; vmmcall; jmp 3f\n\t"
			 "2: vmcall\n\t"
			 "3: int $0x80"
			 : : "i"(SEL_UDATA), "i"(SEL_UCODE64), "r"((uint64_t)guest_is_amd)
			 : "rax", "rbx", "rcx", "r8", "memory");
}

static void test_user_mode(void)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_user, 0);
	vcpu_run_done(vcpu);
	ASSERT_EQ(user_result, -1);	/* -KVM_EPERM */
}

/* Steal time grows while the vCPU wants to run and the host does other things; it never falls */
static volatile struct pv_steal steal __attribute__((aligned(64)));

static void *burn(void *arg)
{
	while (!end)
		;
	return NULL;
}

static void guest_burn(uint64_t arg)
{
	wrmsr(MSR_PV_STEAL_TIME, (uintptr_t)&steal | 1);
	GUEST_ASSERT_EQ(rdmsr(MSR_PV_STEAL_TIME), (uint64_t)(uintptr_t)&steal | 1);
	while (!end)
		cpu_relax();
}

static void test_steal_time(void)
{
	cpu_set_t one;
	pthread_t t;
	uint64_t last = 0;

	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_burn, 0);
	/* Two threads on one CPU: the guest gets about half of it */
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	ASSERT_OK(sched_setaffinity(0, sizeof(one), &one));
	pthread_create(&t, NULL, burn, NULL);
	vcpu_start(vcpu);
	for (int i = 0; i < 100 && steal.steal < 20000000; i++) {
		sleep_ms(20);
		ASSERT_GE(steal.steal, last);
		last = steal.steal;
	}
	end = true;
	pthread_join(t, NULL);
	vcpu_join(vcpu);
	ASSERT_EQ(steal.version & 1, 0);
	ASSERT_EQ(steal.flags, 0);
	ASSERT_GE(steal.steal, 20000000);
}

static void guest_steal_bad(uint64_t arg)
{
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_PV_STEAL_TIME, 0x2 | 1), GP_VECTOR);	/* reserved bits */
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_PV_STEAL_TIME, 0x20 | 1), GP_VECTOR);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_PV_EOI, 0x2 | 1), GP_VECTOR);
	/* a page that is not there is the guest's own trouble, nobody else's */
	wrmsr(MSR_PV_STEAL_TIME, 0xd0000000 | 1);
	GUEST_SYNC(1);
	wrmsr(MSR_PV_STEAL_TIME, 0);
}

static void test_bad_addresses(void)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_steal_bad, 0);
	vcpu_run_done(vcpu);
}

/* PV EOI: where the bit is set, clearing it is the EOI, and the next interrupt comes */
static volatile uint32_t eoi_word __attribute__((aligned(64)));
static volatile uint32_t *eoi_bit = &eoi_word;
static volatile uint32_t without_exit;

/*
 * QEMU's VMRUN delivers an interrupt twice if a turn of its thread ends before the next exit, see docs/emulated-hosts.md:
 * one run too many for what was raised. Elsewhere that must not be.
 */
static uint32_t due[256];
static volatile bool on_tcg;

static bool came_twice(const struct guest_regs *regs)
{
	/* With interrupts off it is surely not what was raised. In one instruction: the second may come after any. */
	if ((regs->rflags & RFLAGS_IF) && __atomic_exchange_n(&due[regs->vector], 0, __ATOMIC_RELAXED))
		return false;
	GUEST_ASSERT(on_tcg);
	return true;
}

static void on_pv_eoi(struct guest_regs *regs)
{
	uint32_t old;

	if (came_twice(regs))
		return;
	hits[0]++;
	GUEST_ASSERT(apic_bit(APIC_ISR, regs->vector));
	__asm__ volatile("xor %0, %0; btrl $0, %1; adc $0, %0" : "=&r"(old), "+m"(eoi_word) : : "cc", "memory");
	if (old)
		without_exit++;
	else
		apic_eoi();
}

/* The same without looking at the APIC, which could take the bit away */
static void on_pv_eoi_quiet(struct guest_regs *regs)
{
	uint32_t old;

	if (came_twice(regs))
		return;
	hits[0]++;
	__asm__ volatile("xor %0, %0; btrl $0, %1; adc $0, %0" : "=&r"(old), "+m"(*eoi_bit) : : "cc", "memory");
	if (old)
		without_exit++;
	else
		apic_eoi();
}

static void self(uint32_t vector)
{
	__atomic_store_n(&due[vector], 1, __ATOMIC_RELAXED);
	apic_icr(ICR_SELF | ICR_ASSERT | vector, 0);
}

/* Where hardware ends interrupts by itself there is nothing to help it with */
static volatile bool eoi_exits;

static void guest_eois(uint64_t x2)
{
	if (x2)
		x2apic_enable();
	apic_enable();
	/* apic_eoi() would read the mode, which exits */
	for (int i = 0; i < 200; i++)
		x2 ? wrmsr(X2APIC_MSR(APIC_EOI), 0) : xapic_write(APIC_EOI, 0);
}

static void look_at_eoi(uint64_t x2)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_eois, x2);
	vcpu_run_done(vcpu);
	eoi_exits = vcpu_stat(vcpu, "exits") >= 200;
	vm_destroy(vm);
}

static void guest_eoi(uint64_t x2)
{
	if (x2)
		x2apic_enable();
	apic_enable();
	wrmsr(MSR_PV_EOI, (uintptr_t)&eoi_word | 1);
	for (int phase = 0; phase < 2; phase++) {
		guest_handlers[VEC] = phase ? on_pv_eoi : on_pv_eoi_quiet;
		for (int i = 0; i < 50; i++) {
			uint32_t before = hits[0];

			self(VEC);
			sti_nop_cli();
			GUEST_ASSERT_EQ(hits[0], before + 1);
		}
		GUEST_ASSERT(!apic_bit(APIC_ISR, VEC));
	}
	GUEST_ASSERT(without_exit > 0 || !eoi_exits);
	/* two at once: the lower one must come after the higher one's EOI, however that is done */
	guest_handlers[VEC] = guest_handlers[VEC + 0x10] = on_pv_eoi_quiet;
	for (int i = 0; i < 20; i++) {
		uint32_t before = hits[0];

		self(VEC);
		self(VEC + 0x10);
		sti_nop_cli();
		sti_nop_cli();
		GUEST_ASSERT_EQ(hits[0], before + 2);
	}
	GUEST_ASSERT_EQ(apic_read(APIC_PPR), 0u);
	wrmsr(MSR_PV_EOI, 0);
}

static void test_pv_eoi(void)
{
	on_tcg = host_is_tcg();
	for (uint64_t x2 = 0; x2 < 2; x2++) {
		look_at_eoi(x2);
		without_exit = eoi_word = 0;
		vm = vm_create(VM_IRQCHIP);
		vcpu = vcpu_add(vm, 0, guest_eoi, x2);
		vcpu_run_done(vcpu);
		vm_destroy(vm);
	}
}

/*
 * The host takes the page with the bit away while an EOI may be in it. The next interrupt comes in its window all the same,
 * although the module has to wait for the page before it may deliver it.
 */
#define AWAY	0x10000000ul
#define ROUNDS	30

static void guest_eoi_away(uint64_t x2)
{
	if (x2)
		x2apic_enable();
	apic_enable();
	guest_handlers[VEC] = on_pv_eoi_quiet;
	wrmsr(MSR_PV_EOI, AWAY | 1);
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t before = hits[0];

		self(VEC);
		sti_nop_cli();
		GUEST_ASSERT_EQ(hits[0], before + 1);
		GUEST_SYNC(i);
	}
	GUEST_ASSERT(!apic_bit(APIC_ISR, VEC));
}

static void test_pv_eoi_away(void)
{
	int fd = memfd_create("away", 0);
	void *page;

	ASSERT(fd >= 0);
	ASSERT_OK(ftruncate(fd, PAGE_SIZE));
	page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT(page != MAP_FAILED);
	eoi_bit = (void *)AWAY;
	on_tcg = host_is_tcg();
	for (uint64_t x2 = 0; x2 < 2; x2++) {
		uint32_t seen = without_exit = 0;

		look_at_eoi(x2);
		vm = vm_create(VM_IRQCHIP);
		vm_add_slot(vm, 5, 0, AWAY, PAGE_SIZE, page);
		vcpu = vcpu_add(vm, 0, guest_eoi_away, x2);
		for (int i = 0; i < ROUNDS; i++) {
			vcpu_run_sync(vcpu, i);
			/* Only then is there an EOI in it; else it must come back for the next one */
			if (without_exit != seen)
				ASSERT_OK(madvise(page, PAGE_SIZE, MADV_DONTNEED));
			seen = without_exit;
		}
		vcpu_run_done(vcpu);
		ASSERT_GE(seen, eoi_exits ? ROUNDS / 3 : 0);
		vm_destroy(vm);
	}
}

/* Without a LAPIC of the module there is none of this, but QEMU writes the MSR */
static void guest_eoi_none(uint64_t arg)
{
	wrmsr(MSR_PV_EOI, 0);
	GUEST_ASSERT_EQ(rdmsr(MSR_PV_EOI), 0ull);
	GUEST_ASSERT_EQ(wrmsr_safe(MSR_PV_EOI, (uintptr_t)&eoi_word | 1), GP_VECTOR);
}

static void test_pv_eoi_none(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_eoi_none, 0);
	vcpu_set_msr(vcpu, MSR_PV_EOI, 0);
	vcpu_run_done(vcpu);
}

static void on_irq(struct guest_regs *regs)
{
	hits[guest_vcpu_id()]++;
	apic_eoi();
}

static void come_online(void)
{
	x2apic_enable();
	apic_enable();
	guest_handlers[VEC] = on_irq;
	__sync_fetch_and_add(&online, 1);
	while (online < NR)
		cpu_relax();
}

static void expect_hits(uint32_t mask)
{
	sti_nop_cli();
	for (uint32_t i = 0; i < NR; i++)
		if (mask >> i & 1)
			GUEST_ASSERT(GUEST_WAIT(hits[i] == 1, 20000));
	guest_delay_us(200);
	for (uint32_t i = 0; i < NR; i++) {
		GUEST_ASSERT_EQ(hits[i], mask >> i & 1);
		hits[i] = 0;
	}
}

static void guest_ipi(uint64_t id)
{
	come_online();
	if (id) {
		while (!end)
			sti_hlt_cli();
		return;
	}
	/* bitmap low, high, first APIC ID, ICR */
	GUEST_ASSERT_EQ(hypercall4(PV_HC_SEND_IPI, 0xe, 0, 0, VEC), 3l);
	expect_hits(0xe);
	GUEST_ASSERT_EQ(hypercall4(PV_HC_SEND_IPI, 3, 0, 2, VEC), 2l);
	expect_hits(0xc);
	GUEST_ASSERT_EQ(hypercall4(PV_HC_SEND_IPI, 1, 0, 0, VEC), 1l);
	expect_hits(1);
	/* nobody there */
	GUEST_ASSERT_EQ(hypercall4(PV_HC_SEND_IPI, 0xf, 0, 100, VEC), 0l);
	GUEST_ASSERT_EQ(hypercall4(PV_HC_SEND_IPI, 0, ~0ul, 0, VEC), 0l);
	expect_hits(0);
	hypercall4(PV_HC_SEND_IPI, ~0ul, ~0ul, -1, VEC);
	sti_nop_cli();
	guest_delay_us(200);
	for (uint32_t i = 0; i < NR; i++)
		hits[i] = 0;
	end = true;
	GUEST_ASSERT_EQ(hypercall4(PV_HC_SEND_IPI, 0xe, 0, 0, VEC), 3l);
}

static void test_send_ipi(void)
{
	vm = vm_create(VM_IRQCHIP);
	for (uint32_t i = 0; i < NR; i++)
		vcpu_add(vm, i, guest_ipi, i);
	vm_run_all(vm);
}

/* Kick: wakes from HLT without any interrupt, even with interrupts off; comes before HLT, it is not lost */
static volatile uint32_t stage;

static void guest_kick(uint64_t id)
{
	come_online();
	if (id == 1) {
		for (uint32_t i = 0; i < 5; i++) {
			stage = 2 * i + 1;
			__asm__ volatile("cli; hlt" : : : "memory");
			stage = 2 * i + 2;
			while (stage == 2 * i + 2)
				cpu_relax();
		}
		return;
	}
	if (id)
		return;
	for (uint32_t i = 0; i < 5; i++) {
		GUEST_ASSERT(GUEST_WAIT(stage == 2 * i + 1, 20000));
		if (i & 1)
			guest_delay_us(3000);
		GUEST_ASSERT_EQ(stage, 2 * i + 1);
		GUEST_ASSERT_EQ(hypercall4(PV_HC_KICK, 0, 1, 0, 0), 0l);
		GUEST_ASSERT(GUEST_WAIT(stage == 2 * i + 2, 20000));
		stage = 100 + i;
	}
	/* nobody: no error, nothing */
	hypercall4(PV_HC_KICK, 0, 77, 0, 0);
}

static void test_kick(void)
{
	vm = vm_create(VM_IRQCHIP);
	for (uint32_t i = 0; i < NR; i++)
		vcpu_add(vm, i, guest_kick, i);
	vm_run_all(vm);
}

static void guest_yield(uint64_t id)
{
	come_online();
	for (int i = 0; i < 20; i++)
		GUEST_ASSERT_EQ(hypercall4(PV_HC_YIELD, (id + 1) % NR, 0, 0, 0), 0l);
	GUEST_ASSERT_EQ(hypercall4(PV_HC_YIELD, 12345, 0, 0, 0), 0l);
}

static void test_yield(void)
{
	vm = vm_create(VM_IRQCHIP);
	for (uint32_t i = 0; i < NR; i++)
		vcpu_add(vm, i, guest_yield, i);
	vm_run_all(vm);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(hypercalls),
		TEST(user_mode),
		TEST(steal_time),
		TEST(bad_addresses),
		TEST(pv_eoi),
		TEST(pv_eoi_away),
		TEST(pv_eoi_none),
		TEST(send_ipi),
		TEST(kick),
		TEST(yield),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
