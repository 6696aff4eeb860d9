// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies a debugger outside of the guest (KVM_SET_GUEST_DEBUG): steps over all kinds of instructions, interrupts held back,
 * breakpoints where the CPU has them, events put into the guest, debug registers that stay the guest's own, its end.
 */
#include <string.h>

#include "apic.h"
#include "vm.h"

#define DR6_B0		BIT(0)
#define DR6_BD		BIT(13)
#define DR6_BS		BIT(14)
#define DR6_FIXED	0xffff0ff0ull
#define DR7_GD		BIT(13)
#define VEC		0x61

static struct vm *vm;
static struct vcpu *vcpu;
static struct kvm_debug_exit_arch *exit_arch;
static volatile uint64_t traps, trap_rip, trap_dr6, irqs;

static void on_trap(struct guest_regs *regs)
{
	traps++;
	trap_rip = regs->rip;
	trap_dr6 = GUEST_RDREG(dr6);
}

static void on_irq(struct guest_regs *regs)
{
	irqs++;
	apic_eoi();
}

static void start(unsigned int flags, void (*fn)(uint64_t), uint64_t arg)
{
	REQUIRE_CAP(KVM_CAP_SET_GUEST_DEBUG);
	vm = vm_create(flags);
	vcpu = vcpu_add(vm, 0, fn, arg);
	exit_arch = &vcpu->run->debug.arch;
	guest_handlers[DB_VECTOR] = on_trap;
	guest_handlers[BP_VECTOR] = on_trap;
	guest_handlers[VEC] = on_irq;
}

static int debug(uint32_t control, uint64_t dr0, uint64_t dr7)
{
	struct kvm_guest_debug d = { .control = control };

	d.arch.debugreg[0] = dr0;
	d.arch.debugreg[7] = dr7;
	return ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &d);
}

static void expect_step(uint64_t pc)
{
	struct kvm_regs regs;

	vcpu_run_exit(vcpu, KVM_EXIT_DEBUG);
	ASSERT_EQ(exit_arch->exception, DB_VECTOR);
	if (exit_arch->pc != pc)
		FAIL("at 0x%llx, not 0x%llx", exit_arch->pc, (unsigned long long)pc);
	ASSERT_EQ(exit_arch->dr6, DR6_FIXED | DR6_BS);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	ASSERT_EQ(regs.rip, pc);
	/* The debugger's flag is not the guest's */
	ASSERT_EQ(regs.rflags & RFLAGS_TF, 0);
}

/* Instructions that the CPU executes and those that exit, each a step */
__asm__(".pushsection .text\n"
	".globl steps, steps_end\n"
	"steps:	nop\n"				/* 1 */
	"	xor %eax, %eax\n"		/* 2 */
	"	mov %rax, %rbx\n"		/* 3 */
	"	cpuid\n"			/* 2 */
	"	mov $0x6e0, %ecx\n"		/* 5: the TSC deadline, which takes a short way */
	"	xor %eax, %eax\n"		/* 2 */
	"	xor %edx, %edx\n"		/* 2 */
	"	wrmsr\n"			/* 2 */
	"	mov $0x10, %ecx\n"		/* 5 */
	"	rdmsr\n"			/* 2 */
	"	mov (%rdi), %eax\n"		/* 2: a device of ours */
	"	mov %cr0, %rax\n"		/* 3 */
	"	mov %rax, %cr0\n"		/* 3 */
	"	mov %dr7, %rax\n"		/* 3 */
	"	mov %rax, %dr7\n"		/* 3 */
	"	nop\n"				/* 1 */
	"steps_end: ret\n"
	".popsection");
extern const uint8_t steps[], steps_end[];

static void test_steps(void)
{
	static const uint8_t length[] = { 1, 2, 3, 2, 5, 2, 2, 2, 5, 2, 2, 3, 3, 3, 3, 1 };
	uint64_t pc = (uintptr_t)steps;

	/* The LAPIC's page answers the MMIO without userspace */
	start(VM_IRQCHIP, (void (*)(uint64_t))(uintptr_t)steps, APIC_BASE + APIC_ID);
	ASSERT_OK(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, 0, 0));
	for (unsigned int i = 0; i < ARRAY_SIZE(length); i++)
		expect_step(pc += length[i]);
	ASSERT_EQ(pc, (uintptr_t)steps_end);
	ASSERT_OK(debug(0, 0, 0));
	vcpu_run_done(vcpu);
	ASSERT_EQ(traps, 0);
}

/* What goes to userspace first */
static void guest_io(uint64_t arg)
{
	extern const uint8_t after_out[], after_in[];
	uint64_t v;

	GUEST_SYNC2((uintptr_t)after_out, (uintptr_t)after_in);
	__asm__ volatile("outb %%al, $0x80\n\t.globl after_out\nafter_out: inb $0x80, %%al\n\t"
			 ".globl after_in\nafter_in: nop" : "=a"(v) : "a"(5) : "memory");
	GUEST_ASSERT_EQ(v & 0xff, 0x77ull);
	__asm__ volatile("hlt");
}

static void test_steps_user(void)
{
	uint64_t after_out, after_in;
	struct ucall uc;

	start(0, guest_io, 0);
	ASSERT_EQ(vcpu_run_ucall(vcpu, &uc), UCALL_SYNC);
	after_out = uc.arg[0];
	after_in = uc.arg[1];
	/* Up to the OUT by steps: how many is the compiler's choice */
	ASSERT_OK(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, 0, 0));
	for (int i = 0; i < 100; i++) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason != KVM_EXIT_DEBUG)
			break;
	}
	ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
	ASSERT_EQ(vcpu->run->io.port, 0x80);
	/* its end is the step, and the KVM_RUN that completes it tells */
	vcpu->run->immediate_exit = 1;
	expect_step(after_out);
	vcpu->run->immediate_exit = 0;
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	*((uint8_t *)vcpu->run + vcpu->run->io.data_offset) = 0x77;
	expect_step(after_in);
	/* No steps any more */
	ASSERT_OK(debug(KVM_GUESTDBG_ENABLE, 0, 0));
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
	vcpu_run_done(vcpu);
	ASSERT_EQ(traps, 0);
}

/* An interrupt waits while the debugger steps, with BLOCKIRQ, and comes when it has gone */
static void guest_blocked(uint64_t arg)
{
	extern const uint8_t block_start[];

	x2apic_enable();
	apic_enable();
	apic_icr(ICR_FIXED | ICR_ASSERT | ICR_SELF | VEC, 0);
	GUEST_SYNC((uintptr_t)block_start);
	__asm__ volatile(".globl block_start\nblock_start: nop; nop; nop; nop; nop" : : : "memory");
	GUEST_ASSERT_EQ(irqs, arg);
	cli();
}

static void test_blockirq(void)
{
	struct kvm_regs regs;
	struct ucall uc;
	uint64_t pc;

	start(VM_IRQCHIP, guest_blocked, 1);
	ASSERT_EQ(vcpu_run_ucall(vcpu, &uc), UCALL_SYNC);
	pc = uc.arg[0];
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	/* No STI: QEMU's CPU has no step right after it */
	regs.rip = pc;
	regs.rflags |= RFLAGS_IF;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	ASSERT_OK(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ, 0, 0));
	for (int i = 1; i <= 4; i++)
		expect_step(pc + i);
	ASSERT_EQ(irqs, 0);
	ASSERT_OK(debug(0, 0, 0));
	vcpu_run_done(vcpu);
	ASSERT_EQ(irqs, 1);
}

/* Events that the debugger hands on to the guest */
static void guest_wait(uint64_t arg)
{
	extern const uint8_t int3_here[];

	GUEST_SYNC((uintptr_t)int3_here);
	for (int i = 0; i < 10; i++)
		__asm__ volatile("nop");
	__asm__ volatile("jmp 1f\n\t.globl int3_here\nint3_here: int3\n\tnop\n1:");
}

static void test_inject(void)
{
	struct kvm_vcpu_events ev = { 0 };
	struct kvm_regs regs;
	struct ucall uc;
	uint64_t rip;

	start(0, guest_wait, 0);
	ASSERT_EQ(vcpu_run_ucall(vcpu, &uc), UCALL_SYNC);
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	rip = regs.rip;
	ASSERT_OK(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB, 0, 0));
	/* Not two at once */
	ASSERT_EQ(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB, 0, 0), -1);
	ASSERT_EQ(errno, EBUSY);
	vcpu_run_done(vcpu);
	ASSERT_EQ(traps, 1);
	ASSERT_EQ(trap_rip, rip);
	/* A #BP, as the guest's INT3 makes it: RIP after it */
	vcpu_restart(vcpu, guest_wait, 0);
	ASSERT_EQ(vcpu_run_ucall(vcpu, &uc), UCALL_SYNC);
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	regs.rip = uc.arg[0];
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.exception.injected, 0);
	ASSERT_OK(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_BP, 0, 0));
	vcpu_run_done(vcpu);
	ASSERT_EQ(traps, 2);
	ASSERT_EQ(trap_rip, uc.arg[0] + 1);
}

/* A step of the guest's own while the debugger wants none: DR6 tells the guest what it was */
static void on_own_step(struct guest_regs *regs)
{
	on_trap(regs);
	regs->rflags &= ~RFLAGS_TF;
}

static void guest_own_step(uint64_t arg)
{
	extern const uint8_t own_end[];

	GUEST_WRREG(dr6, DR6_FIXED);
	__asm__ volatile("pushf; orl $0x100, (%%rsp); popf; nop; .globl own_end\nown_end:" : : : "memory", "cc");
	GUEST_ASSERT_EQ(traps, 1);
	GUEST_ASSERT_EQ(trap_rip, (uintptr_t)own_end);
	GUEST_ASSERT_EQ(trap_dr6, DR6_FIXED | DR6_BS);
}

static void test_own_step(void)
{
	start(0, guest_own_step, 0);
	guest_handlers[DB_VECTOR] = on_own_step;
	ASSERT_OK(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, 0, 0));
	vcpu_run_done(vcpu);
}

/* The guest's debug registers are its own, whatever the debugger has in the CPU's */
static void guest_registers(uint64_t arg)
{
	GUEST_WRREG(dr0, 0x1111);
	GUEST_WRREG(dr1, 0x2222);
	GUEST_WRREG(dr3, 0x4444);
	GUEST_WRREG(dr6, DR6_FIXED | 5);
	GUEST_WRREG(dr7, 0x400 | 1 << 16);
	GUEST_SYNC(1);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr0), 0x1111ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr1), 0x2222ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr3), 0x4444ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr6), DR6_FIXED | 5);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr7), 0x400ull | 1 << 16);
	GUEST_WRREG(dr2, 0x3333);
	/* the other names of DR6 and DR7 */
	__asm__ volatile("mov %%dr5, %%rax" : : : "rax");
	GUEST_WRREG(cr4, GUEST_RDREG(cr4) | CR4_DE);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%dr5, %%rax", NULL, , "a"(0)), UD_VECTOR);
	GUEST_WRREG(cr4, GUEST_RDREG(cr4) & ~CR4_DE);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%rax, %%dr7", NULL, , "a"(BIT(32))), GP_VECTOR);
	GUEST_SYNC(2);
}

static void test_registers(void)
{
	struct kvm_debugregs get;

	start(0, guest_registers, 0);
	for (int when = 0; when < 2; when++) {
		if (when)
			ASSERT_OK(debug(0, 0, 0));
		vcpu_restart(vcpu, guest_registers, 0);
		if (!when)
			ASSERT_OK(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, 0x5000, 0x402));
		vcpu_run_sync(vcpu, 1);
		VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &get);
		ASSERT_EQ(get.db[0], 0x1111);
		ASSERT_EQ(get.dr6, DR6_FIXED | 5);
		ASSERT_EQ(get.dr7, 0x400 | 1 << 16);
		/* The debugger comes meanwhile, the other time */
		if (when)
			ASSERT_OK(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, 0x5000, 0x402));
		vcpu_run_sync(vcpu, 2);
		VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &get);
		ASSERT_EQ(get.db[2], 0x3333);
		ASSERT_EQ(get.dr7, 0x400 | 1 << 16);
		vcpu_run_done(vcpu);
	}
}

/* General detect: the debugger hears of an access to them */
static void guest_touch(uint64_t arg)
{
	extern const uint8_t touch_here[];

	GUEST_SYNC((uintptr_t)touch_here);
	__asm__ volatile(".globl touch_here\ntouch_here: mov %%dr0, %%rax" : : : "rax");
}

static void test_general_detect(void)
{
	struct ucall uc;

	if (host_is_tcg() && strcmp(dev_path(), "/dev/pvhv"))
		SKIP("QEMU's CPU has no general detect");
	start(0, guest_touch, 0);
	ASSERT_EQ(vcpu_run_ucall(vcpu, &uc), UCALL_SYNC);
	ASSERT_OK(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, 0, 0x400 | DR7_GD));
	vcpu_run_exit(vcpu, KVM_EXIT_DEBUG);
	ASSERT_EQ(exit_arch->exception, DB_VECTOR);
	ASSERT_EQ(exit_arch->pc, uc.arg[0]);
	ASSERT_EQ(exit_arch->dr6, DR6_FIXED | DR6_BD);
	ASSERT_OK(debug(0, 0, 0));
	vcpu_run_done(vcpu);
}

/* Breakpoints; QEMU's CPU neither intercepts INT3 nor looks at debug registers that come with VMRUN */
static void guest_breakpoints(uint64_t arg)
{
	extern const uint8_t bp_int3[], bp_hw[];

	GUEST_SYNC2((uintptr_t)bp_int3, (uintptr_t)bp_hw);
	__asm__ volatile(".globl bp_int3\nbp_int3: int3\n\tnop\n\t.globl bp_hw\nbp_hw: nop; nop");
}

static void test_breakpoints(void)
{
	struct kvm_regs regs;
	struct ucall uc;

	if (host_is_tcg())
		SKIP("QEMU's CPU has them not");
	start(0, guest_breakpoints, 0);
	ASSERT_EQ(vcpu_run_ucall(vcpu, &uc), UCALL_SYNC);
	ASSERT_OK(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, 0, 0));
	vcpu_run_exit(vcpu, KVM_EXIT_DEBUG);
	ASSERT_EQ(exit_arch->exception, BP_VECTOR);
	ASSERT_EQ(exit_arch->pc, uc.arg[0]);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	regs.rip++;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	for (int n = 0; n < 4; n++) {
		struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP };

		d.arch.debugreg[n] = uc.arg[1];
		d.arch.debugreg[7] = 0x400 | 1 << (2 * n + 1);
		VCPU_IOCTL(vcpu, KVM_SET_GUEST_DEBUG, &d);
		VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
		vcpu_run_exit(vcpu, KVM_EXIT_DEBUG);
		ASSERT_EQ(exit_arch->exception, DB_VECTOR);
		ASSERT_EQ(exit_arch->pc, uc.arg[1]);
		ASSERT_EQ(exit_arch->dr6 & 0xf, BIT(n));
	}
	ASSERT_OK(debug(0, 0, 0));
	vcpu_run_done(vcpu);
	ASSERT_EQ(traps, 0);
}

/* Debug registers with nonsense in them: no guest and no host is the worse for it */
static void guest_nothing(uint64_t arg)
{
	for (int i = 0; i < 100; i++)
		guest_cpuid(0, 0);
}

static void test_nonsense(void)
{
	struct kvm_guest_debug d = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP };

	start(0, guest_nothing, 0);
	for (int i = 0; i < 4; i++)
		d.arch.debugreg[i] = 0xffffffff80000000ull + i * 0x1000001ull;
	d.arch.debugreg[7] = ~DR7_GD & ~0xffull;
	VCPU_IOCTL(vcpu, KVM_SET_GUEST_DEBUG, &d);
	vcpu_run_done(vcpu);
	ASSERT_OK(debug(0xffff0000, 0, 0));	/* not enabled: nothing */
	vcpu_restart(vcpu, guest_nothing, 0);
	vcpu_run_done(vcpu);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, NULL), EFAULT);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(steps),
		TEST(steps_user),
		TEST(blockirq),
		TEST(inject),
		TEST(own_step),
		TEST(registers),
		TEST(general_detect),
		TEST(breakpoints),
		TEST(nonsense),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
