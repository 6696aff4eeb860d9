// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies debug registers: the guest's own breakpoints and watchpoints, DR6, single steps, general detect; GET and
 * SET_DEBUGREGS; the host's debug registers stay its own; KVM_SET_GUEST_DEBUG where it is offered.
 */
#include <stddef.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#undef PAGE_SIZE	/* sys/user.h has one of its own */
#include "vm.h"

#define DR6_B0		BIT(0)
#define DR6_BD		BIT(13)
#define DR6_BS		BIT(14)
#define DR6_FIXED	0xffff0ff0ull

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint64_t watched, traps, trap_rip, trap_dr6;

static void on_db(struct guest_regs *regs)
{
	traps++;
	trap_rip = regs->rip;
	trap_dr6 = GUEST_RDREG(dr6);
	GUEST_WRREG(dr6, DR6_FIXED);
	regs->rflags &= ~RFLAGS_TF;
	regs->rflags |= BIT(16);	/* RF: an instruction breakpoint must not hit again */
}

static void start(void (*fn)(uint64_t))
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, fn, 0);
	guest_handlers[DB_VECTOR] = on_db;
}

static void set_breakpoints(void)
{
	GUEST_WRREG(dr0, (uintptr_t)&watched);
	GUEST_WRREG(dr7, 0x400 | 1 << 1 | 1 << 16 | 3 << 18);	/* global, write, 4 bytes */
}

static void guest_watch(uint64_t arg)
{
	extern const char watch_after[], exec_here[];

	GUEST_ASSERT_EQ(GUEST_RDREG(dr7), 0x400ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr6), DR6_FIXED);
	set_breakpoints();
	__asm__ volatile("movl $1, watched(%%rip)\n\t.globl watch_after\nwatch_after: nop" : : : "memory");
	GUEST_ASSERT_EQ(traps, 1ull);
	GUEST_ASSERT_EQ(trap_rip, (uint64_t)(uintptr_t)watch_after);
	GUEST_ASSERT_EQ(trap_dr6 & 0xf, DR6_B0);
	/* reading is not writing */
	(void)watched;
	GUEST_ASSERT_EQ(traps, 1ull);
	/* an instruction breakpoint, before the instruction */
	GUEST_WRREG(dr1, (uintptr_t)exec_here);
	GUEST_WRREG(dr7, 0x400 | 1 << 3);
	__asm__ volatile("nop\n\t.globl exec_here\nexec_here: nop; nop");
	GUEST_ASSERT_EQ(traps, 2ull);
	GUEST_ASSERT_EQ(trap_rip, (uint64_t)(uintptr_t)exec_here);
	GUEST_ASSERT_EQ(trap_dr6 & 0xf, BIT(1));
	/* over exits: registers are there still */
	set_breakpoints();
	GUEST_SYNC(1);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr0), (uint64_t)(uintptr_t)&watched);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr1), (uint64_t)(uintptr_t)exec_here);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr7), 0xd0402ull);
	watched = 2;
	GUEST_ASSERT_EQ(traps, 3ull);
	GUEST_WRREG(dr7, 0x400);
	watched = 3;
	GUEST_ASSERT_EQ(traps, 3ull);
}

static void test_watch(void)
{
	struct kvm_debugregs dbg;

	start(guest_watch);
	vcpu_run_sync(vcpu, 1);
	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &dbg);
	ASSERT_EQ(dbg.db[0], (uintptr_t)&watched);
	ASSERT_EQ(dbg.dr7, 0xd0402);
	ASSERT_EQ(dbg.dr6 & 0xffff0ff0, DR6_FIXED);
	/* the host's own write is no business of the guest's registers */
	watched = 77;
	ASSERT_EQ(traps, 2);
	vcpu_run_done(vcpu);
}

static void guest_step(uint64_t arg)
{
	extern const char step_after[];

	__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq\n\t"
			 "xor %%eax, %%eax\n\t.globl step_after\nstep_after: nop" : : : "rax", "cc", "memory");
	GUEST_ASSERT_EQ(traps, 1ull);
	GUEST_ASSERT_EQ(trap_rip, (uint64_t)(uintptr_t)step_after);
	GUEST_ASSERT_EQ(trap_dr6 & DR6_BS, DR6_BS);
}

static void test_single_step(void)
{
	start(guest_step);
	vcpu_run_done(vcpu);
}

/* Over an instruction that the module emulates: one trap, right after it */
static void guest_step_cpuid(uint64_t arg)
{
	extern const char cpuid_after[];

	__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq\n\t"
			 "cpuid\n\t.globl cpuid_after\ncpuid_after: nop" : : "a"(0), "c"(0) : "rbx", "rdx", "cc", "memory");
	GUEST_ASSERT_EQ(traps, 1ull);
	GUEST_ASSERT_EQ(trap_rip, (uint64_t)(uintptr_t)cpuid_after);
}

static void test_step_emulated(void)
{
	start(guest_step_cpuid);
	vcpu_run_done(vcpu);
}

static void guest_get(uint64_t arg)
{
	GUEST_ASSERT_EQ(GUEST_RDREG(dr0), 0x1000ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr1), 0x2000ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr2), 0x3000ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr3), 0x4000ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(dr7) & 0xff, 0xaaull);
	GUEST_WRREG(dr3, 0x5000);
	GUEST_WRREG(dr7, 0x400);
}

static void test_get_set(void)
{
	struct kvm_debugregs dbg, get;

	start(guest_get);
	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &dbg);
	ASSERT_EQ(dbg.dr7 & 0xffff, 0x400);
	dbg.db[0] = 0x1000;
	dbg.db[1] = 0x2000;
	dbg.db[2] = 0x3000;
	dbg.db[3] = 0x4000;
	dbg.dr7 = 0x4aa;
	VCPU_IOCTL(vcpu, KVM_SET_DEBUGREGS, &dbg);
	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &get);
	ASSERT(!memcmp(dbg.db, get.db, sizeof(dbg.db)));
	ASSERT_EQ(get.dr7, 0x4aa);
	dbg.dr7 = BIT(40);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &dbg), EINVAL);
	dbg.dr7 = 0x400;
	dbg.dr6 = BIT(40);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &dbg), EINVAL);
	dbg.dr6 = DR6_FIXED;
	dbg.flags = 1;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &dbg), EINVAL);
	vcpu_run_done(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &get);
	ASSERT_EQ(get.db[3], 0x5000);
	ASSERT_EQ(get.dr7, 0x400);
}

/* A debugger's hardware watchpoint on the VMM's own thread works while guests use theirs */
static volatile uint64_t host_watched;

static void traced_child(void)
{
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	start(guest_watch);
	raise(SIGSTOP);		/* the parent sets the watchpoint */
	vcpu_run_sync(vcpu, 1);
	host_watched = 1;	/* trap */
	vcpu_run_done(vcpu);
	host_watched = 2;	/* trap */
	_exit(0);
}

static void test_host_watchpoint(void)
{
	int status, hits = 0;
	pid_t pid;

	if (host_is_tcg())
		SKIP("QEMU mixes up the host's and the guest's watchpoints");
	pid = fork();
	if (!pid)
		traced_child();
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	if (ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), &host_watched) ||
	    ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 1 | 1 << 16 | 3 << 18))
		SKIP("no hardware watchpoints: %s", strerror(errno));
	for (;;) {
		ASSERT_OK(ptrace(PTRACE_CONT, pid, 0, 0));
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		if (!WIFSTOPPED(status))
			break;
		ASSERT_EQ(WSTOPSIG(status), SIGTRAP);
		hits++;
	}
	ASSERT_EQ(status, 0);
	ASSERT_EQ(hits, 2);
}

/* The VMM's debugger */
static void guest_debugged(uint64_t arg)
{
	extern const char dbg_int3[], dbg_hw[];

	GUEST_SYNC((uintptr_t)dbg_int3);
	GUEST_SYNC((uintptr_t)dbg_hw);
	__asm__ volatile(".globl dbg_int3\ndbg_int3: int3\n\t"
			 "nop; nop\n\t"
			 ".globl dbg_hw\ndbg_hw: nop; nop");
}

static void set_debug(uint32_t control, uint64_t dr0, uint64_t dr7)
{
	struct kvm_guest_debug d = { .control = control };

	d.arch.debugreg[0] = dr0;
	d.arch.debugreg[7] = dr7;
	VCPU_IOCTL(vcpu, KVM_SET_GUEST_DEBUG, &d);
}

static void test_guest_debug(void)
{
	struct kvm_debug_exit_arch *d;
	uint64_t int3, hw;
	struct kvm_regs regs;
	struct ucall uc;

	REQUIRE_CAP(KVM_CAP_SET_GUEST_DEBUG);
	start(guest_debugged);
	d = &vcpu->run->debug.arch;
	vcpu_run_ucall(vcpu, &uc);
	int3 = uc.arg[0];
	vcpu_run_ucall(vcpu, &uc);
	hw = uc.arg[0];
	/* INT3 goes to the debugger, not to the guest; QEMU does not intercept it */
	if (!host_is_tcg()) {
		set_debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, 0, 0);
		vcpu_run_exit(vcpu, KVM_EXIT_DEBUG);
		ASSERT_EQ(d->exception, BP_VECTOR);
		ASSERT_EQ(d->pc, int3);
	}
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	regs.rip = int3 + 1;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	/* steps */
	set_debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, 0, 0);
	for (int i = 2; i <= 3; i++) {
		vcpu_run_exit(vcpu, KVM_EXIT_DEBUG);
		ASSERT_EQ(d->exception, DB_VECTOR);
		ASSERT_EQ(d->pc, int3 + i);
		ASSERT_EQ(d->dr6 & DR6_BS, DR6_BS);
	}
	/* a hardware breakpoint; QEMU does not see one that is set while the guest is not running */
	if (!host_is_tcg()) {
		set_debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, hw + 1, 0x402);
		vcpu_run_exit(vcpu, KVM_EXIT_DEBUG);
		ASSERT_EQ(d->pc, hw + 1);
		ASSERT_EQ(d->dr6 & 0xf, DR6_B0);
	}
	set_debug(0, 0, 0);
	vcpu_run_done(vcpu);
	ASSERT_EQ(traps, 0);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(watch),
		TEST(single_step),
		TEST(step_emulated),
		TEST(get_set),
		TEST(host_watchpoint),
		TEST(guest_debug),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
