/* SPDX-License-Identifier: GPL-2.0 */
/*
 * First half of the loader on an emulated Intel host's disk (loader.c is the second): BIOS to 32-bit flat mode.
 *
 * Jobs:
 * 1. the boot sector: reads the rest of the loader behind itself,
 * 2. the memory map, which only the BIOS knows,
 * 3. A20, flat segments, protected mode,
 * 4. the jump into the kernel's PVH entry.
 */
#include "loader.h"

#define E820		0xe820
#define E820_SMAP	0x534d4150
#define PORT_A20	0x92
#define FLAT_CODE	8
#define FLAT_DATA	16

	.code16
	.section .boot, "ax"
	.globl start
start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$BOOT_AT, %sp
	ljmp	$0, $1f
1:	movw	$rest, %si		/* INT 13h AH=42h, drive still in DL */
	movb	$0x42, %ah
	int	$0x13
	jc	stuck

	xorl	%ebx, %ebx
	xorl	%ebp, %ebp
	movw	$MEMMAP_AT, %di
2:	movl	$E820, %eax
	movl	$E820_SMAP, %edx
	movl	$20, %ecx
	int	$0x15
	jc	3f
	movl	$0, %es:20(%di)		/* PVH's entries have a reserved word more */
	addw	$MEMMAP_ENTRY, %di
	incl	%ebp
	testl	%ebx, %ebx
	jnz	2b
3:	movl	%ebp, MEMMAP_COUNT_AT

	inb	$PORT_A20, %al
	orb	$2, %al
	andb	$0xfe, %al		/* bit 0 resets the machine */
	outb	%al, $PORT_A20
	lgdt	gdt_pointer
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$FLAT_CODE, $flat
stuck:	hlt
	jmp	stuck

	.balign	4
rest:	.byte	16, 0
	.word	LOADER_SECTORS - 1
	.word	BOOT_AT + SECTOR, 0
	.quad	1
	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word	23
	.long	gdt
	.org	SECTOR - 2
	.word	0xaa55

	.section .text
	.code32
flat:	movw	$FLAT_DATA, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	%ax, %fs
	movw	%ax, %gs
	movl	$BOOT_AT, %esp
	call	load
	/* EDX:EAX = start info, entry (see load()); PVH wants the former in EBX, paging off, interrupts off */
	movl	%edx, %ebx
	jmp	*%eax
