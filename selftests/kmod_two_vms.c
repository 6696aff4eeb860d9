// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies several VMs at once: the same addresses mean different memory in each, on one thread in turn and on several
 * at the same time, more of them than the CPU has address-space identifiers; interrupts, timers and registers are each
 * VM's own; two VMs may share memory.
 */
#include <string.h>

#include "apic.h"
#include "vm.h"

#define GPA	0x40000000ul
#define VEC	0x61
#define MANY	24

static struct vm *vm[MANY];
static uint64_t *mem[MANY];
static volatile uint64_t rounds[MANY];
static volatile bool end;

/* Pages of the VM's own memory hold its number; it checks and changes them */
static void guest_check(uint64_t id)
{
	volatile uint64_t *p = (void *)GPA;

	for (uint64_t n = 0; ; n++) {
		for (unsigned int i = 0; i < 32; i++) {
			GUEST_ASSERT_EQ(p[i * 512], id << 32 | n);
			p[i * 512] = id << 32 | (n + 1);
		}
		GUEST_SYNC(n);
	}
}

static void make(unsigned int i, unsigned int flags, void (*fn)(uint64_t))
{
	vm[i] = vm_create(flags);
	mem[i] = vm_add_mem(vm[i], 3, 0, GPA, HUGE_SIZE);
	for (unsigned int p = 0; p < 32; p++)
		mem[i][p * 512] = (uint64_t)i << 32;
	vcpu_add(vm[i], 0, fn, i);
}

static void test_in_turn(void)
{
	for (unsigned int i = 0; i < 2; i++)
		make(i, 0, guest_check);
	for (uint64_t n = 0; n < 50; n++)
		for (unsigned int i = 0; i < 2; i++)
			vcpu_run_sync(vm[i]->vcpus[0], n);
	ASSERT_EQ(mem[0][0], 50);
	ASSERT_EQ(mem[1][0], 1ull << 32 | 50);
}

static void test_many(void)
{
	for (unsigned int i = 0; i < MANY; i++)
		make(i, 0, guest_check);
	for (uint64_t n = 0; n < 8; n++)
		for (unsigned int i = 0; i < MANY; i++)
			vcpu_run_sync(vm[i]->vcpus[0], n);
	/* some go, others come; those that stay see nothing of it */
	for (unsigned int i = 0; i < MANY; i += 3) {
		vm_destroy(vm[i]);
		make(i, 0, guest_check);
	}
	for (uint64_t n = 0; n < 4; n++)
		for (unsigned int i = 0; i < MANY; i++)
			vcpu_run_sync(vm[i]->vcpus[0], i % 3 ? n + 8 : n);
}

/* At the same time, each with its timer, its vector count, its MSRs and its own idea of the world */
static volatile uint32_t ticks[2];

static void on_tick(struct guest_regs *regs)
{
	/* which VM: from memory that differs */
	ticks[*(volatile uint64_t *)(GPA + HUGE_SIZE - 8)]++;
	apic_eoi();
}

static void guest_busy(uint64_t id)
{
	*(volatile uint64_t *)(GPA + HUGE_SIZE - 8) = id;
	x2apic_enable();
	apic_enable();
	apic_write(APIC_TDCR, APIC_TDCR_DIV1);
	apic_write(APIC_LVTT, APIC_LVTT_PERIODIC | VEC);
	apic_write(APIC_TMICT, id ? 500000 : 300000);
	wrmsr(0xc0000082, 0x1000 + id);
	GUEST_WRREG(dr3, 0x2000 + id);
	GUEST_WRREG(cr2, 0x3000 + id);
	for (uint64_t n = 0; !end; n++) {
		volatile uint64_t *p = (void *)GPA;

		for (unsigned int i = 0; i < 32; i++) {
			GUEST_ASSERT_EQ(p[i * 512], id << 32 | n);
			p[i * 512] = id << 32 | (n + 1);
		}
		GUEST_ASSERT_EQ(rdmsr(0xc0000082), 0x1000 + id);
		GUEST_ASSERT_EQ(GUEST_RDREG(dr3), 0x2000 + id);
		GUEST_ASSERT_EQ(GUEST_RDREG(cr2), 0x3000 + id);
		if (n % 4 == id)
			guest_cpuid(0, 0);
		sti();
		rounds[id]++;
		if (n % 8 == 0)
			__asm__ volatile("hlt");
		cli();
	}
}

static void test_concurrent(void)
{
	for (unsigned int i = 0; i < 2; i++) {
		make(i, VM_IRQCHIP, guest_busy);
		guest_handlers[VEC] = on_tick;
	}
	for (unsigned int i = 0; i < 2; i++)
		vcpu_start(vm[i]->vcpus[0]);
	ASSERT(WAIT_FOR(rounds[0] > 200 && rounds[1] > 200 && ticks[0] > 20 && ticks[1] > 20, 60000));
	end = true;
	for (unsigned int i = 0; i < 2; i++)
		vcpu_join(vm[i]->vcpus[0]);
}

/* A line raised in one is not heard in the other */
static void guest_listen(uint64_t id)
{
	apic_enable();
	guest_handlers[VEC] = on_tick;
	*(volatile uint64_t *)(GPA + HUGE_SIZE - 8) = id;
	ioapic_set_redir(20, VEC);
	for (;;) {
		GUEST_SYNC(1);
		sti_nop_cli();
	}
}

static void test_interrupts_apart(void)
{
	struct kvm_irq_level irq = { .irq = 20, .level = 1 };
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = VEC };

	for (unsigned int i = 0; i < 2; i++) {
		make(i, VM_IRQCHIP, guest_listen);
		vcpu_run_sync(vm[i]->vcpus[0], 1);
	}
	VM_IOCTL(vm[0], KVM_IRQ_LINE, &irq);
	for (unsigned int i = 0; i < 2; i++)
		vcpu_run_sync(vm[i]->vcpus[0], 1);
	ASSERT_EQ(ticks[0], 1);
	ASSERT_EQ(ticks[1], 0);
	VM_IOCTL(vm[1], KVM_SIGNAL_MSI, &msi);
	for (unsigned int i = 0; i < 2; i++)
		vcpu_run_sync(vm[i]->vcpus[0], 1);
	ASSERT_EQ(ticks[0], 1);
	ASSERT_EQ(ticks[1], 1);
}

/* One memory in both, at different addresses; a dirty log sees only its own VM's writes */
static volatile uint64_t where, what;

static void guest_write(uint64_t arg)
{
	for (;;) {
		*(volatile uint64_t *)where = what;
		GUEST_SYNC(1);
	}
}

static void test_shared(void)
{
	uint64_t *shared = mmap_aligned(HUGE_SIZE, HUGE_SIZE), bitmap[8] = { 0 };
	struct kvm_dirty_log log = { .slot = 4, .dirty_bitmap = bitmap };

	for (unsigned int i = 0; i < 2; i++) {
		make(i, 0, guest_write);
		vm_add_slot(vm[i], 4, i ? KVM_MEM_LOG_DIRTY_PAGES : 0, 2 * GPA + i * HUGE_SIZE, HUGE_SIZE, shared);
	}
	where = 2 * GPA + 5 * PAGE_SIZE;
	what = 11;
	vcpu_run_sync(vm[0]->vcpus[0], 1);
	ASSERT_EQ(shared[5 * 512], 11);
	where = 2 * GPA + HUGE_SIZE + 6 * PAGE_SIZE;
	what = 22;
	vcpu_run_sync(vm[1]->vcpus[0], 1);
	ASSERT_EQ(shared[6 * 512], 22);
	VM_IOCTL(vm[1], KVM_GET_DIRTY_LOG, &log);
	ASSERT_EQ(bitmap[0], 1 << 6);
}

/* The same thread, vCPUs of both VMs in turn, in other modes: one in real mode */
static void test_modes_apart(void)
{
	static const uint8_t code[] = { 0xb8, 0x34, 0x12, 0xe7, 0x80, 0xeb, 0xf9 };	/* mov; out; loop */
	struct vcpu *real;

	make(0, 0, guest_check);
	vm[1] = vm_create(0);
	real = vcpu_create(vm[1], 0);
	vcpu_set_cpuid(real);
	memcpy(vm_hva(vm[1], 0x8000), code, sizeof(code));
	vcpu_setup_real(real, 0, 0x8000, 0x7000);
	for (uint64_t n = 0; n < 30; n++) {
		vcpu_run_sync(vm[0]->vcpus[0], n);
		vcpu_run_exit(real, KVM_EXIT_IO);
		ASSERT_EQ(real->run->io.port, 0x80);
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(in_turn),
		TEST(many),
		TEST(concurrent),
		TEST(interrupts_apart),
		TEST(shared),
		TEST(modes_apart),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
