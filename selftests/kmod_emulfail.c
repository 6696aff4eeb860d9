// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies what happens when the guest uses an instruction on MMIO that nobody decodes: KVM_RUN reports it with the
 * instruction's bytes and the VM can go on; in user mode the guest gets #UD and the VMM nothing.
 */
#include <string.h>

#include "vm.h"

static struct vm *vm;
static struct vcpu *vcpu;

/* x87 and SSE arithmetic on a device: nobody does that */
__asm__(".pushsection .text\n"
	".globl bad1, bad1_end, bad2, bad2_end\n"
	"bad1:	fldl (%rdi)\n"
	"bad1_end: ret\n"
	"bad2:	paddd 0x10(%rdi), %xmm1\n"
	"bad2_end: ret\n"
	".popsection");

extern const char bad1[], bad1_end[], bad2[], bad2_end[];

static void one_failure(const char *insn, const char *end)
{
	struct kvm_run *run;
	struct kvm_regs regs;

	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, (void (*)(uint64_t))(uintptr_t)insn, MMIO_HOLE);
	run = vcpu->run;
	vcpu_run_exit(vcpu, KVM_EXIT_INTERNAL_ERROR);
	ASSERT_EQ(run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	ASSERT_GE(run->emulation_failure.ndata, 3);
	ASSERT(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
	ASSERT_GE(run->emulation_failure.insn_size, end - insn);
	ASSERT_LE(run->emulation_failure.insn_size, 15);
	ASSERT(!memcmp(run->emulation_failure.insn_bytes, insn, end - insn));
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	ASSERT_EQ(regs.rip, (uintptr_t)insn);
	/* The VMM may have emulated it itself */
	regs.rip = (uintptr_t)end;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
}

static void test_kernel_mode(void)
{
	one_failure(bad1, bad1_end);
	one_failure(bad2, bad2_end);
}

static volatile uint64_t ud_rip, ud_cs;

static void on_ud(struct guest_regs *regs)
{
	ud_rip = regs->rip;
	ud_cs = regs->cs;
	GUEST_SYNC(1);
	guest_done();
}

static void guest_user(uint64_t arg)
{
	guest_handlers[UD_VECTOR] = on_ud;
	__asm__ volatile("mov %%rsp, %%rax\n\t"
			 "push %0; push %%rax; push $2; push %1; push $bad1; iretq"
			 : : "i"(SEL_UDATA), "i"(SEL_UCODE64), "D"(MMIO_HOLE) : "rax", "memory");
}

static void test_user_mode(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_user, 0);
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(ud_rip, (uintptr_t)bad1);
	ASSERT_EQ(ud_cs, SEL_UCODE64);
	vcpu_run_done(vcpu);
}

/* Unless the VMM wants to see it all the same */
static void test_user_mode_exit(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args[0] = 2 };

	REQUIRE_CAP(KVM_CAP_EXIT_ON_EMULATION_FAILURE);
	vm = vm_create(0);
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 1;
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	vcpu = vcpu_add(vm, 0, guest_user, 0);
	vcpu_run_exit(vcpu, KVM_EXIT_INTERNAL_ERROR);
	ASSERT_EQ(vcpu->run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	ASSERT_GE(vcpu->run->emulation_failure.ndata, 3);
	ASSERT(!memcmp(vcpu->run->emulation_failure.insn_bytes, bad1, bad1_end - bad1));
	cap.args[0] = 0;
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(ud_rip, (uintptr_t)bad1);
}

/* Code on a device: instructions cannot be fetched from there */
static void guest_jump(uint64_t arg)
{
	((void (*)(void))MMIO_HOLE)();
}

static void test_code_on_device(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_jump, 0);
	vcpu_run(vcpu);
	/* An error of some kind, not a hang and not a read of the "device" */
	ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(kernel_mode),
		TEST(user_mode),
		TEST(user_mode_exit),
		TEST(code_on_device),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
