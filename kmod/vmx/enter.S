/* SPDX-License-Identifier: GPL-2.0 */
/*
 * enter.S - the VT-x world switch: one VMLAUNCH or VMRESUME, from host
 * registers to the guest's and back (SDM chapters 27 and 28); and the host's
 * handlers for an NMI, or an acknowledged interrupt, that ended a guest.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/segment.h>
#include "../compat_asm.h"
#include "../regs_asm.h"

/* struct vmx_speculation */
#define GUEST_SPEC	0
#define HOST_SPEC	8
#define RESTORE_SPEC	16

/* What the stack holds between the pushes and the pops below. */
#define SP_FAILED	0
#define SP_SPEC		8
#define SP_GPR		16
#define SP_LOCALS	24

#define VMCS_HOST_RSP	0x6c14

	.section .text, "ax"

/*
 * int vmx_world_switch(u64 *gpr, bool launched, u64 *hw_host_rsp,
 *			const struct vmx_speculation *spec)
 * RSP, RIP and RFLAGS of the guest are in the VMCS.
 */
SYM_FUNC_START(vmx_world_switch)
	PUSH_HOST_REGS
	push	%rdi
	push	%rcx
	push	$0			/* SP_FAILED */

	cmp	%rsp, (%rdx)
	je	1f
	mov	%rsp, (%rdx)
	mov	$VMCS_HOST_RSP, %eax
	vmwrite	%rsp, %rax
1:
	mov	GUEST_SPEC(%rcx), %rax
	cmp	HOST_SPEC(%rcx), %rax
	je	2f
	mov	%rax, %rdx
	shr	$32, %rdx
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	wrmsr
2:
	/* CF tells VMLAUNCH from VMRESUME; neither MOV nor VERW changes it. */
	bt	$0, %esi
	mov	RAX_(%rdi), %rax
	LOAD_GUEST_REGS

	VM_CLEAR_CPU_BUFFERS
	jnc	3f
	vmresume
	jmp	4f
3:	vmlaunch
	/* Only a failure goes on here; an exit comes in below. */
4:	movq	$1, SP_FAILED(%rsp)

SYM_INNER_LABEL(vmx_exit_point, SYM_L_GLOBAL)
	ANNOTATE_NOENDBR
	push	%rax
	mov	SP_GPR + 8(%rsp), %rax
	pop	RAX_(%rax)
	SAVE_GUEST_REGS

	/*
	 * Before the first RET: guest-planted return predictions go (RSB),
	 * then the host's SPEC_CTRL, whose IBRS has to be written even where
	 * it is set, then the branch history.
	 */
	FILL_RETURN_BUFFER %rcx, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, X86_FEATURE_RSB_VMEXIT_LITE

	mov	SP_SPEC(%rsp), %rdi
	cmpq	$0, RESTORE_SPEC(%rdi)
	je	5f
	mov	HOST_SPEC(%rdi), %rax
	mov	%rax, %rdx
	shr	$32, %rdx
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	wrmsr
5:	lfence
	CLEAR_BRANCH_HISTORY_VMEXIT
	PVHV_UNTRAIN_RET_VM

	mov	SP_FAILED(%rsp), %eax
	CLEAR_GUEST_REGS

	add	$SP_LOCALS, %rsp
	POP_HOST_REGS
	RET
SYM_FUNC_END(vmx_world_switch)

/*
 * The frame that an event would push on this stack; CALL pushes its RIP. The
 * handler's IRET takes it off again.
 */
.macro BEGIN_HANDLER
	push	%rbp
	mov	%rsp, %rbp
	and	$-16, %rsp
	push	$__KERNEL_DS
	push	%rbp
	pushf
	push	$__KERNEL_CS
.endm

.macro END_HANDLER
	/* It is so already, but objtool knows of no CALL that ends by IRET. */
	mov	%rbp, %rsp
	pop	%rbp
	RET
.endm

/* void vmx_call_nmi(void): IRET also ends the blocking of NMIs. */
SYM_FUNC_START(vmx_call_nmi)
	BEGIN_HANDLER
	call	PVHV_NMI_ENTRY
	END_HANDLER
SYM_FUNC_END(vmx_call_nmi)

/* void vmx_call_interrupt(unsigned long entry): interrupts off, and still so after it. */
SYM_FUNC_START(vmx_call_interrupt)
	BEGIN_HANDLER
	CALL_NOSPEC rdi
	END_HANDLER
SYM_FUNC_END(vmx_call_interrupt)
