// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: the guest's exception and interrupt entries, their dispatch, failed assertions. All of it runs in the guest.
 */
#include "guest.h"

guest_handler_t volatile guest_handlers[256];
volatile bool guest_is_amd;
volatile uint64_t guest_tsc_khz;

void guest_assert_failed(const char *text, const char *file, int line, uint64_t a, uint64_t b, bool values)
{
	struct ucall uc = {
		.cmd = UCALL_ASSERT,
		.arg = { (uintptr_t)text, (uintptr_t)file, line, a, b, values },
	};

	for (;;)
		guest_ucall(&uc);
}

/* Called from the entries below */
void guest_dispatch(struct guest_regs *regs);
void guest_dispatch(struct guest_regs *regs)
{
	guest_handler_t handler = guest_handlers[regs->vector];

	if (regs->r10 == GUEST_SAFE_MARK && regs->vector < 32 && regs->vector != NMI_VECTOR) {
		regs->rip = regs->r11;
		regs->r10 = regs->vector;
		regs->r11 = regs->error;
	} else if (handler) {
		handler(regs);
	} else {
		struct ucall uc = {
			.cmd = UCALL_EXCEPTION,
			.arg = { regs->vector, regs->error, regs->rip, GUEST_RDREG(cr2) },
		};

		for (;;)
			guest_ucall(&uc);
	}
}

/* One entry a vector: push an error code where the CPU does not (8, 10-14, 17, 21, 29, 30 have one), then the vector */
__asm__(".text\n\t"
	".set vec, 0\n\t"
	".rept 256\n\t"
	".pushsection .rodata.guest_vectors, \"a\"\n\t"
	".if vec == 0\n\t"
	".balign 8\n\t"
	".globl guest_vectors\n\t"
	"guest_vectors:\n\t"
	".endif\n\t"
	".quad 1f\n\t"
	".popsection\n\t"
	".balign 8\n\t"
	"1:\n\t"
	".if !(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21 || vec == 29 || vec == 30)\n\t"
	"push $0\n\t"
	".endif\n\t"
	"push $vec\n\t"
	"jmp guest_entry\n\t"
	".set vec, vec + 1\n\t"
	".endr\n\t"
	"guest_entry:\n\t"
	"push %rax; push %rbx; push %rcx; push %rdx; push %rsi; push %rdi; push %rbp\n\t"
	"push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15\n\t"
	"mov %rsp, %rdi\n\t"
	"mov %rsp, %rbx\n\t"
	"and $-16, %rsp\n\t"
	"cld\n\t"
	"call guest_dispatch\n\t"
	"mov %rbx, %rsp\n\t"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8\n\t"
	"pop %rbp; pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rbx; pop %rax\n\t"
	"add $16, %rsp\n\t"
	"iretq\n\t");
