// SPDX-License-Identifier: GPL-2.0
/*
 * tickguest FILE: writes a kernel of a few instructions that starts at once and goes on for ever, for machines that are saved or
 * moved where a stock kernel would take too long to boot. It fills 64 KiB with what follows from the time of its start, and prints
 * "tick N of START cpu FEATURES" over and over, in hexadecimal, FEATURES being EBX of CPUID's leaf 7; "DIFFERS" once the sum over
 * the 64 KiB is not what it was, and powers off.
 */
#include <stdio.h>

#include "pvh.h"

extern const uint8_t guest_start[], guest_end[];

asm(".pushsection .rodata\n"
    ".global guest_start, guest_end\n"
    ".set COUNT, 0x181000; .set START, 0x181004; .set SUM, 0x181008; .set AREA, 0x200000; .set WORDS, 0x4000\n"
    ".code32\n"
    "guest_start:\n"
    "	cld; movl $0x180000, %esp\n"
    "	movl $0, COUNT\n"
    "	rdtsc; movl %eax, START\n"
    "	movl $AREA, %edi; movl $WORDS, %ecx\n"
    "1:	imull $1103515245, %eax; addl $12345, %eax; stosl; loop 1b\n"
    "	call sum; movl %eax, SUM\n"
    "next:\n"
    "	incl COUNT\n"
    "	call sum; cmpl %eax, SUM; jne differs\n"
    "	call text; .asciz \"tick \"\n"
    "	movl COUNT, %ebx; call number\n"
    "	call text; .asciz \" of \"\n"
    "	movl START, %ebx; call number\n"
    "	call text; .asciz \" cpu \"\n"
    "	movl $7, %eax; xorl %ecx, %ecx; cpuid; call number\n"
    "	call text; .asciz \"\\n\"\n"
    "	movl $2000000, %ecx\n"
    "1:	loop 1b\n"
    "	jmp next\n"
    "differs:\n"
    "	call text; .asciz \"DIFFERS\\n\"\n"
    "	movl $0x600, %edx; movb $0x34, %al; outb %al, %dx\n"
    "1:	hlt; jmp 1b\n"
    "sum:\n"
    "	movl $AREA, %esi; movl $WORDS, %ecx; xorl %ebx, %ebx\n"
    "1:	lodsl; roll $1, %ebx; addl %eax, %ebx; loop 1b\n"
    "	movl %ebx, %eax; ret\n"
    "text:\n"					/* what follows the call */
    "	movl $0x3f8, %edx; popl %esi\n"
    "1:	lodsb; testb %al, %al; jz 2f; outb %al, %dx; jmp 1b\n"
    "2:	jmp *%esi\n"
    "number:\n"					/* %ebx */
    "	movl $0x3f8, %edx; movl $8, %ecx\n"
    "1:	roll $4, %ebx; movb %bl, %al; andb $15, %al\n"
    "	cmpb $10, %al; jb 2f; addb $39, %al\n"
    "2:	addb $48, %al; outb %al, %dx; loop 1b\n"
    "	ret\n"
    "guest_end:\n"
    ".code64\n"
    ".popsection\n");

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: tickguest FILE\n");
		return 1;
	}
	if (pvh_write(argv[1], guest_start, guest_end - guest_start)) {
		perror(argv[1]);
		return 1;
	}
	return 0;
}
