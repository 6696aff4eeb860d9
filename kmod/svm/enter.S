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

/* Offsets in vcpu->gpr[], in the order of enum pvhv_gpr. */
#define RCX_	8
#define RDX_	16
#define RBX_	24
#define RBP_	40
#define RSI_	48
#define RDI_	56
#define R8_	64
#define R9_	72
#define R10_	80
#define R11_	88
#define R12_	96
#define R13_	104
#define R14_	112
#define R15_	120

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
	push	%rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx
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
	mov	RCX_(%rdi), %rcx
	mov	RDX_(%rdi), %rdx
	mov	RBX_(%rdi), %rbx
	mov	RBP_(%rdi), %rbp
	mov	RSI_(%rdi), %rsi
	mov	R8_(%rdi), %r8
	mov	R9_(%rdi), %r9
	mov	R10_(%rdi), %r10
	mov	R11_(%rdi), %r11
	mov	R12_(%rdi), %r12
	mov	R13_(%rdi), %r13
	mov	R14_(%rdi), %r14
	mov	R15_(%rdi), %r15
	mov	RDI_(%rdi), %rdi

	VM_CLEAR_CPU_BUFFERS
	clgi
	sti
	vmload	%rax
	vmrun	%rax
	vmsave	%rax
	cli

	mov	SP_GPR, %rax
	mov	%rcx, RCX_(%rax)
	mov	%rdx, RDX_(%rax)
	mov	%rbx, RBX_(%rax)
	mov	%rbp, RBP_(%rax)
	mov	%rsi, RSI_(%rax)
	mov	%rdi, RDI_(%rax)
	mov	%r8, R8_(%rax)
	mov	%r9, R9_(%rax)
	mov	%r10, R10_(%rax)
	mov	%r11, R11_(%rax)
	mov	%r12, R12_(%rax)
	mov	%r13, R13_(%rax)
	mov	%r14, R14_(%rax)
	mov	%r15, R15_(%rax)

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

	/* No guest value survives in a register that C may speculate on. */
	xor	%eax, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%ebx, %ebx
	xor	%ebp, %ebp
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d

	add	$32, %rsp
	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
	RET
SYM_FUNC_END(svm_world_switch)
