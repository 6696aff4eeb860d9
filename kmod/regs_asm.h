/* SPDX-License-Identifier: GPL-2.0 */
/*
 * regs_asm.h - the general registers in a world switch, the same for every
 * kind of hardware: the host's on the stack, the guest's in vcpu->gpr[].
 */
#ifndef PVHV_REGS_ASM_H
#define PVHV_REGS_ASM_H

/* Offsets in vcpu->gpr[], in the order of enum pvhv_gpr. */
#define RAX_	0
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

/* What a C function must leave as it was. */
.macro PUSH_HOST_REGS
	push	%rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx
.endm

.macro POP_HOST_REGS
	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
.endm

/* From RDI on, all but RAX and RSP; no flag changes. */
.macro LOAD_GUEST_REGS
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
.endm

/* To RAX on, the same ones. */
.macro SAVE_GUEST_REGS
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
.endm

/* No guest value survives in a register that C may speculate on; RAX is the caller's. */
.macro CLEAR_GUEST_REGS
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
.endm

#endif /* PVHV_REGS_ASM_H */
