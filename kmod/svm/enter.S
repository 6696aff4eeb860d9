/* SPDX-License-Identifier: GPL-2.0 */
/*
 * enter.S - the AMD-V world switch: one VMRUN, from host registers to the
 * guest's and back (APM vol. 2, 15.5 and 15.17).
 *
 * With GIF clear nothing can interrupt the stretch in which FS, GS and the
 * syscall MSRs are the guest's: VMRUN sets GIF for the guest and #VMEXIT
 * clears it again. RFLAGS.IF must be set at VMRUN so that host interrupts
 * end the guest (V_INTR_MASKING keeps the guest's own IF apart); they are
 * taken after STGI, when the caller turns interrupts on.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include "../compat_asm.h"
#include "../regs_asm.h"

/* What the stack holds between the pushes and the pops below. */
#define SP_GPR		24(%rsp)
#define SP_HOST_VMCB	16(%rsp)
#define SP_GUEST_SPEC	8(%rsp)
#define SP_HOST_SPEC	0(%rsp)

	.section .text, "ax"

/*
 * void svm_world_switch(u64 *gpr, u64 vmcb_pa, u64 host_vmcb_pa,
 *			 u64 guest_spec_ctrl, u64 host_spec_ctrl)
 * RAX and RSP of the guest are in the VMCB.
 */
SYM_FUNC_START(svm_world_switch)
	PUSH_HOST_REGS
	push	%rdi
	push	%rdx
	push	%rcx
	push	%r8

	mov	%rsi, %r9
	cmp	%rcx, %r8
	je	1f
	mov	%rcx, %rax
	mov	%rcx, %rdx
	shr	$32, %rdx
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	wrmsr
1:
	mov	%r9, %rax
	LOAD_GUEST_REGS

	VM_CLEAR_CPU_BUFFERS
	clgi
	sti
	vmload	%rax
	vmrun	%rax
	vmsave	%rax
	cli

	mov	SP_GPR, %rax
	SAVE_GUEST_REGS

	mov	SP_HOST_VMCB, %rax
	vmload	%rax
	stgi

	/*
	 * Before the first RET: guest-planted return predictions go (RSB),
	 * then the host's SPEC_CTRL, then the return-thunk untraining.
	 */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT

	mov	SP_HOST_SPEC, %rax
	cmp	SP_GUEST_SPEC, %rax
	je	2f
	mov	%rax, %rdx
	shr	$32, %rdx
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	wrmsr
2:
	PVHV_UNTRAIN_RET_VM

	xor	%eax, %eax
	CLEAR_GUEST_REGS

	add	$32, %rsp
	POP_HOST_REGS
	RET
SYM_FUNC_END(svm_world_switch)
