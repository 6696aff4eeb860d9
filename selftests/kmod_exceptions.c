// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies exceptions: those the guest raises arrive with the right vector, error code, address and RIP; those the VMM
 * injects do too; double faults; delivery that itself meets memory not mapped yet is not lost.
 */
#include <string.h>
#include <sys/mman.h>

#include "apic.h"
#include "vm.h"

#define VA	0x700000000000ul	/* pages of the page-fault tests */

static struct vm *vm;
static struct vcpu *vcpu;

static void start(void (*fn)(uint64_t), uint64_t arg)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, fn, arg);
}

static void guest_simple(uint64_t arg)
{
	uint64_t err;

	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("xor %%ecx, %%ecx; mov $1, %%eax; cdq; div %%ecx", NULL, , "c"(0), "a"(0), "d"(0)),
			DE_VECTOR);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("ud2", NULL, , "a"(0)), UD_VECTOR);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("int3", NULL, , "a"(0)), BP_VECTOR);
	/* no address */
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov (%%rax), %%rax", &err, , "a"(0x8000000000000000)), GP_VECTOR);
	GUEST_ASSERT_EQ(err, 0ull);
	/* segments: a selector beyond the table, one that is not present (error code: the selector) */
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%eax, %%fs", &err, , "a"(0x3000)), GP_VECTOR);
	GUEST_ASSERT_EQ(err, 0x3000ull);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%eax, %%fs", &err, , "a"(0x60)), 11);
	GUEST_ASSERT_EQ(err, 0x60ull);
	/* privileged bits that are reserved */
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%rax, %%cr4", NULL, , "a"(GUEST_RDREG(cr4) | BIT(31))), GP_VECTOR);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%rax, %%cr0", NULL, , "a"(CR0_PG)), GP_VECTOR);	/* paging, no PE */
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%rax, %%cr4", NULL, , "a"(GUEST_RDREG(cr4) & ~CR4_PAE)), GP_VECTOR);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%rax, %%cr8", NULL, , "a"(0x10)), GP_VECTOR);
}

static void test_simple(void)
{
	struct kvm_sregs sregs;

	start(guest_simple, 0);
	/* descriptor 0x60: data, not present */
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	((uint64_t *)vm_hva(vm, sregs.gdt.base & ~0ull))[0x60 / 8] = 0x00cf13000000ffff;
	vcpu_run_done(vcpu);
}

static volatile uint64_t pf_err, pf_cr2, pf_count;

static void guest_page_faults(uint64_t arg)
{
	uint64_t err;

	/* page 0: nothing; 1: read-only; 2: no-execute; 3: reserved bit */
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov (%%rax), %%al", &err, , "a"(VA + 0x123)), PF_VECTOR);
	GUEST_ASSERT_EQ(err, 0ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr2), VA + 0x123ull);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%al, (%%rax)", &err, , "a"(VA + 0x456)), PF_VECTOR);
	GUEST_ASSERT_EQ(err, 2ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr2), VA + 0x456ull);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%al, (%%rax)", &err, , "a"(VA + 0x1000)), PF_VECTOR);
	GUEST_ASSERT_EQ(err, 3ull);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov (%%rax), %%al", &err, , "a"(VA + 0x1000)), -1);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("call *%%rax", &err, , "a"(VA + 0x2000)), PF_VECTOR);
	GUEST_ASSERT_EQ(err, 0x11ull);
	__asm__ volatile("add $8, %rsp");	/* what CALL pushed */
	GUEST_ASSERT_EQ(GUEST_RDREG(cr2), VA + 0x2000ull);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov (%%rax), %%al", &err, , "a"(VA + 0x3000)), PF_VECTOR);
	GUEST_ASSERT_EQ(err & ~1ull, 8ull);	/* present as well, but QEMU says not */
	/* CR0.WP off: the kernel may write what is read-only */
	GUEST_WRREG(cr0, GUEST_RDREG(cr0) & ~CR0_WP);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%al, (%%rax)", &err, , "a"(VA + 0x1000)), -1);
	GUEST_WRREG(cr0, GUEST_RDREG(cr0) | CR0_WP);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%al, (%%rax)", &err, , "a"(VA + 0x1000)), PF_VECTOR);
}

static void test_page_faults(void)
{
	uint64_t page;

	start(guest_page_faults, 0);
	page = vm_alloc(vm, PAGE_SIZE);
	vm_map(vm, VA, 0, 0);
	vm_map(vm, VA + 0x1000, page, PTE_P);
	vm_map(vm, VA + 0x2000, page, PTE_P | PTE_W | PTE_NX);
	vm_map(vm, VA + 0x3000, page | BIT(51), PTE_P | PTE_W);
	vcpu_run_done(vcpu);
}

/* Injection by the VMM */
static volatile struct guest_regs last;
static volatile uint64_t last_cr2, taken;

static void on_any(struct guest_regs *regs)
{
	last = *regs;
	last_cr2 = GUEST_RDREG(cr2);
	taken++;
}

static void guest_wait(uint64_t arg)
{
	for (;;)
		GUEST_SYNC(1);
}

static void inject(uint8_t nr, bool has_error, uint32_t error, uint64_t cr2)
{
	struct kvm_vcpu_events ev;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	uint64_t before = taken;

	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cr2 = cr2;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &sregs);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ev.exception.injected = 1;
	ev.exception.nr = nr;
	ev.exception.has_error_code = has_error;
	ev.exception.error_code = error;
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.exception.injected, 1);
	ASSERT_EQ(ev.exception.nr, nr);
	ASSERT_EQ(ev.exception.has_error_code, has_error);
	if (has_error)
		ASSERT_EQ(ev.exception.error_code, error);
	guest_handlers[nr] = on_any;
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(taken, before + 1);
	ASSERT_EQ(last.vector, nr);
	ASSERT_EQ(last.rip, regs.rip);
	if (has_error)
		ASSERT_EQ(last.error, error);
	ASSERT_EQ(last_cr2, cr2);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.exception.injected, 0);
}

static void test_inject(void)
{
	start(guest_wait, 0);
	vcpu_run_sync(vcpu, 1);
	inject(DE_VECTOR, false, 0, 0x1111);
	inject(UD_VECTOR, false, 0, 0x2222);
	inject(GP_VECTOR, true, 0x1238, 0x3333);
	inject(PF_VECTOR, true, 2, 0x7fff12345678);
	inject(11, true, 0x58, 0);
	inject(17, true, 0, 0);
	inject(19, false, 0, 0);
}

/* A second fault while the first is delivered: #DF, on its own stack; a third: shutdown */
static volatile uint64_t df_error, df_rsp;

static void on_df(struct guest_regs *regs)
{
	df_error = regs->error;
	df_rsp = (uintptr_t)regs;
	guest_done();
}

static void guest_double(uint64_t arg)
{
	guest_handlers[DF_VECTOR] = on_df;
	/* no stack to deliver the fault on */
	__asm__ volatile("mov %0, %%rsp; mov (%0), %%rax" : : "r"(VA) : "memory");
}

static void test_double_fault(void)
{
	uint64_t old;

	start(guest_double, 0);
	vm_map(vm, VA, 0, 0);
	vm_map(vm, VA - PAGE_SIZE, 0, 0);
	vcpu_run_done(vcpu);
	ASSERT_EQ(df_error, 0);
	ASSERT(df_rsp < LOW_MEM_SIZE);

	struct kvm_sregs sregs;
	uint64_t *idt;

	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	idt = vm_hva(vm, sregs.idt.base);
	old = idt[2 * DF_VECTOR];
	idt[2 * DF_VECTOR] = old & ~BIT(47);	/* not present */
	vcpu_restart(vcpu, guest_double, 0);
	vcpu_run_exit(vcpu, KVM_EXIT_SHUTDOWN);
}

/*
 * Delivery through tables and stacks that the VM has to fault in: the module must deliver again after it mapped them.
 * The host takes all of low memory away and gives it back before each event.
 */
static volatile uint32_t seen[256];

static void on_event(struct guest_regs *regs)
{
	seen[regs->vector]++;
}

static void on_irq(struct guest_regs *regs)
{
	seen[regs->vector]++;
	apic_eoi();
}

static void guest_redeliver(uint64_t arg)
{
	guest_handlers[UD_VECTOR] = NULL;
	guest_handlers[BP_VECTOR] = on_event;
	guest_handlers[0x80] = on_event;
	guest_handlers[NMI_VECTOR] = on_event;
	guest_handlers[0x61] = on_irq;
	apic_enable();
	for (uint32_t i = 1; i <= 5; i++) {
		GUEST_SYNC(1);
		__asm__ volatile("int3");
		GUEST_ASSERT_EQ(seen[BP_VECTOR], i);
		GUEST_SYNC(1);
		__asm__ volatile("int $0x80");
		GUEST_ASSERT_EQ(seen[0x80], i);
		GUEST_SYNC(1);
		GUEST_ASSERT_EQ(GUEST_SAFE_ASM("ud2", NULL, , "a"(0)), UD_VECTOR);
		GUEST_SYNC(1);
		GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%al, (%%rax)", NULL, , "a"(VA)), PF_VECTOR);
		apic_icr(ICR_SELF | ICR_ASSERT | 0x61, 0);
		GUEST_SYNC(1);
		sti_nop_cli();
		GUEST_ASSERT_EQ(seen[0x61], i);
		GUEST_SYNC(2);			/* NMI comes with the next entry */
		GUEST_ASSERT_EQ(seen[NMI_VECTOR], i);
	}
}

static void test_redeliver(void)
{
	struct ucall uc;
	void *low;

	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_redeliver, 0);
	low = vm_hva(vm, 0);
	vm_map(vm, VA, 0, 0);
	while (vcpu_run_ucall(vcpu, &uc) == UCALL_SYNC) {
		if (uc.arg[0] == 2)
			VCPU_IOCTL(vcpu, KVM_NMI, 0);
		ASSERT_OK(mprotect(low, LOW_MEM_SIZE, PROT_NONE));
		ASSERT_OK(mprotect(low, LOW_MEM_SIZE, PROT_READ | PROT_WRITE));
	}
	ASSERT_EQ(uc.cmd, UCALL_DONE);
	ASSERT_EQ(seen[NMI_VECTOR], 5);
}

/* Software interrupts from user mode respect the gate's privilege */
static volatile uint64_t gate_err;

static void on_gate_gp(struct guest_regs *regs)
{
	gate_err = regs->error;
	guest_done();
}

static void guest_user_int(uint64_t arg)
{
	guest_handlers[GP_VECTOR] = on_gate_gp;
	guest_handlers[0x80] = on_event;
	__asm__ volatile("mov %%rsp, %%rax\n\t"
			 "push %0; push %%rax; push $2; push %1; lea 1f(%%rip), %%rax; push %%rax; iretq\n\t"
			 "1: int $0x80; int $0x81" : : "i"(SEL_UDATA), "i"(SEL_UCODE64) : "rax", "memory");
}

static void test_user_int(void)
{
	start(guest_user_int, 0);
	vcpu_run_done(vcpu);
	ASSERT_EQ(seen[0x80], 1);
	if (!host_is_tcg())
		ASSERT_EQ(gate_err, 0x81 * 8 + 2);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(simple),
		TEST(page_faults),
		TEST(inject),
		TEST(double_fault),
		TEST(redeliver),
		TEST(user_int),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
