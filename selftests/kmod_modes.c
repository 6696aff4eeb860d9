// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the CPU modes: reset state, real mode, protected mode without and with 32-bit, PSE and PAE paging, long mode
 * with every page size and 4 or 5 levels, compatibility mode, and a guest that goes from real mode to long mode by itself.
 * In each mode memory, port I/O and MMIO (which needs the module's own walk of the guest's tables) are used.
 */
#include <string.h>

#include "vm.h"

#define CODE		0x8000ul
#define OUT_PORT	0x80
#define HIGH		(BIT(30) + 0x1000)	/* memory behind the paging tests */

static struct vm *vm;
static struct vcpu *vcpu;

static void expect_out(unsigned int size, uint64_t value)
{
	uint64_t v = 0;

	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	ASSERT_EQ(vcpu->run->io.port, OUT_PORT);
	ASSERT_EQ(vcpu->run->io.size, size);
	memcpy(&v, (char *)vcpu->run + vcpu->run->io.data_offset, size);
	ASSERT_EQ(v, value);
}

static void expect_mmio_write(uint64_t gpa, unsigned int len, uint64_t value)
{
	uint64_t v = 0;

	vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
	ASSERT_EQ(vcpu->run->mmio.phys_addr, gpa);
	ASSERT_EQ(vcpu->run->mmio.is_write, 1);
	ASSERT_EQ(vcpu->run->mmio.len, len);
	memcpy(&v, vcpu->run->mmio.data, len);
	ASSERT_EQ(v, value);
}

static void expect_mmio_read(uint64_t gpa, unsigned int len, uint64_t value)
{
	vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
	ASSERT_EQ(vcpu->run->mmio.phys_addr, gpa);
	ASSERT_EQ(vcpu->run->mmio.is_write, 0);
	ASSERT_EQ(vcpu->run->mmio.len, len);
	memcpy(vcpu->run->mmio.data, &value, len);
}

/* At the reset vector: jmp far to 0:8000 */
static void test_reset(void)
{
	static const uint8_t jump[] = { 0xea, 0x00, 0x80, 0x00, 0x00 };
	static const uint8_t code[] = { 0xb8, 0x34, 0x12, 0xe7, OUT_PORT, 0xf4 };	/* mov $1234, %ax; out; hlt */
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	uint8_t *rom;

	vm = vm_create(0);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_cpuid(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	ASSERT_EQ(regs.rip, 0xfff0);
	ASSERT_EQ(regs.rflags, 2);
	ASSERT_EQ(sregs.cs.selector, 0xf000);
	ASSERT_EQ(sregs.cs.base, 0xffff0000);
	ASSERT_EQ(sregs.cs.limit, 0xffff);
	ASSERT_EQ(sregs.ds.base, 0);
	ASSERT_EQ(sregs.ds.limit, 0xffff);
	ASSERT_EQ(sregs.cr0, 0x60000010);
	ASSERT_EQ(sregs.cr4, 0);
	ASSERT_EQ(sregs.efer, 0);
	ASSERT_EQ(sregs.gdt.limit, 0xffff);
	ASSERT_EQ(sregs.idt.limit, 0xffff);
	ASSERT_EQ(sregs.apic_base, 0xfee00900);	/* with or without an APIC here */

	rom = vm_add_mem(vm, 3, KVM_MEM_READONLY, 0xffff0000, 0x10000);
	memcpy(rom + 0xfff0, jump, sizeof(jump));
	memcpy(vm_hva(vm, CODE), code, sizeof(code));
	expect_out(2, 0x1234);
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	ASSERT_EQ(sregs.cs.base, 0);
	ASSERT_EQ(sregs.cs.selector, 0);
}

__asm__(".pushsection .rodata\n"
	"real_start: .code16\n"
	"	mov $0x9000, %ax\n"		/* a segment of its own, at 0x90000 */
	"	mov %ax, %ds\n"
	"	mov $0x1234, %bx\n"
	"	movw $0xbeef, 6(%bx)\n"
	"	mov 0x123a, %ax\n"
	"	out %ax, $0x80\n"
	"	movl $0xdeadbeef, %eax\n"	/* 32-bit operands */
	"	out %eax, $0x80\n"
	"	movb $7, %al\n"
	"	int $0x21\n"			/* the handler adds one */
	"	out %al, $0x80\n"
	"	mov $0xffff, %ax\n"		/* A20: ffff:0010 is 0x100000 */
	"	mov %ax, %es\n"
	"	movb $0x5a, %es:0x10\n"
	"	push %ds\n"
	"	pop %cx\n"
	"	mov %cx, %ax\n"
	"	out %ax, $0x80\n"
	"	mov $8, %cx\n"			/* string instruction on segments */
	"	mov $0x100, %di\n"
	"	mov $0xa000, %ax\n"
	"	mov %ax, %es\n"
	"	mov $0xc3, %al\n"
	"	cld\n"
	"	rep stosb\n"
	"	mov %di, %ax\n"
	"	out %ax, $0x80\n"
	"	hlt\n"
	"int21:	inc %al\n"
	"	iret\n"
	".globl int21\n"
	"real_end: .code64\n"
	".globl real_start, real_end\n"
	".popsection");

static void test_real(void)
{
	extern const char int21[], real_start[];
	uint16_t *ivt;

	vm = vm_create(0);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_cpuid(vcpu);
	CODE_LOAD(vm, CODE, real);
	ivt = vm_hva(vm, 0x21 * 4);
	ivt[0] = int21 - real_start;
	ivt[1] = CODE >> 4;
	vcpu_setup_real(vcpu, CODE >> 4, 0, 0x7000);
	expect_out(2, 0xbeef);
	expect_out(4, 0xdeadbeef);
	expect_out(1, 8);
	expect_out(2, 0x9000);
	expect_out(2, 0x108);
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
	ASSERT_EQ(*(uint16_t *)vm_hva(vm, 0x9123a), 0xbeef);
	ASSERT_EQ(*(uint8_t *)vm_hva(vm, 0x100000), 0x5a);
	for (int i = 0; i < 8; i++)
		ASSERT_EQ(((uint8_t *)vm_hva(vm, 0xa0100))[i], 0xc3);
	ASSERT_EQ(((uint8_t *)vm_hva(vm, 0xa0100))[8], 0);
}

/* MMIO in real mode: the VGA window is a hole in this VM */
__asm__(".pushsection .rodata\n"
	"realmmio_start: .code16\n"
	"	mov $0xb800, %ax\n"
	"	mov %ax, %es\n"
	"	mov $0x10, %di\n"
	"	movw $0x0741, %es:2(%di)\n"
	"	mov %es:(%di), %al\n"
	"	out %al, $0x80\n"
	"	mov $0x1122, %ax\n"
	"	stosw\n"
	"	mov %di, %ax\n"
	"	out %ax, $0x80\n"
	"	mov $0xb8100, %ebx\n"		/* 32-bit addressing needs DS big enough: low part only */
	"	and $0xffff, %ebx\n"
	"	movl $0x55667788, %es:(%ebx)\n"
	"	hlt\n"
	"realmmio_end: .code64\n"
	".globl realmmio_start, realmmio_end\n"
	".popsection");

static void test_real_mmio(void)
{
	vm = vm_create(VM_BARE);
	vm_add_mem(vm, 0, 0, 0, 0xa0000);
	VM_IOCTL(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_cpuid(vcpu);
	CODE_LOAD(vm, CODE, realmmio);
	vcpu_setup_real(vcpu, CODE >> 4, 0, 0x7000);
	expect_mmio_write(0xb8012, 2, 0x0741);
	expect_mmio_read(0xb8010, 1, 0x3c);
	expect_out(1, 0x3c);
	expect_mmio_write(0xb8010, 2, 0x1122);
	expect_out(2, 0x12);
	expect_mmio_write(0xb8000 + 0x8100, 4, 0x55667788);
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
}

/* 32-bit code, for every paging mode: in: ebx memory to read, ecx memory to write, edx MMIO */
__asm__(".pushsection .rodata\n"
	"prot_start: .code32\n"
	"	mov (%ebx), %eax\n"
	"	out %eax, $0x80\n"
	"	add $1, %eax\n"
	"	mov %eax, (%ecx)\n"
	"	mov %eax, (%edx)\n"
	"	mov 8(%edx), %eax\n"
	"	out %eax, $0x80\n"
	"	push $0x77\n"
	"	call 1f\n"
	"	pop %eax\n"
	"	out %eax, $0x80\n"
	"	hlt\n"
	"1:	addl $1, 4(%esp)\n"
	"	ret\n"
	"prot_end: .code64\n"
	".globl prot_start, prot_end\n"
	".popsection");

/* Runs the code above; the linear addresses are given, the physical ones are HIGH, HIGH + 4096 and MMIO_HOLE */
static void run_prot(uint32_t code, uint32_t stack, uint32_t rd, uint32_t wr, uint32_t mmio)
{
	uint32_t *mem = vm_hva(vm, HIGH);
	struct kvm_regs regs;

	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	regs.rip = code;
	regs.rsp = stack;
	regs.rbx = rd;
	regs.rcx = wr;
	regs.rdx = mmio;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	mem[0] = 0x10203040;
	mem[1024] = 0;
	expect_out(4, 0x10203040);
	expect_mmio_write(MMIO_HOLE, 4, 0x10203041);
	ASSERT_EQ(mem[1024], 0x10203041);
	expect_mmio_read(MMIO_HOLE + 8, 4, 0xa1b2c3d4);
	expect_out(4, 0xa1b2c3d4);
	expect_out(4, 0x78);
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
}

static void start_prot(void)
{
	vm = vm_create(0);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_cpuid(vcpu);
	CODE_LOAD(vm, CODE, prot);
	vm_add_mem(vm, 3, 0, BIT(30), HUGE_SIZE * 2);
	vcpu_setup_prot32(vcpu, CODE, 0x7000);
}

static void set_paging(uint64_t cr3, uint64_t cr4, uint64_t efer)
{
	struct kvm_sregs sregs;

	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cr0 |= CR0_PG | CR0_WP;
	sregs.cr3 = cr3;
	sregs.cr4 = cr4;
	sregs.efer = efer;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &sregs);
}

static void test_protected(void)
{
	start_prot();
	run_prot(CODE, 0x7000, HIGH, HIGH + 4096, MMIO_HOLE);
}

/* Linear addresses of the paging tests: 4 KiB pages at 0xc0..., a large page at 0xe0... */
#define LIN		0xc0400000u
#define LIN_LARGE	0xe0000000u

static void test_paging32(void)
{
	uint64_t pd, pt;
	uint32_t *e;

	start_prot();
	pd = vm_alloc(vm, PAGE_SIZE);
	pt = vm_alloc(vm, PAGE_SIZE);
	e = vm_hva(vm, pd);
	e[LIN >> 22] = pt | PTE_P | PTE_W;
	e[LIN_LARGE >> 22] = BIT(30) | PTE_P | PTE_W | PTE_PS;
	e = vm_hva(vm, pt);
	e[0] = CODE | PTE_P;
	e[1] = 0x6000 | PTE_P | PTE_W;
	e[2] = HIGH | PTE_P;
	e[3] = (HIGH + 4096) | PTE_P | PTE_W;
	e[4] = MMIO_HOLE | PTE_P | PTE_W;
	set_paging(pd, 0, 0);
	run_prot(LIN, LIN + 0x2000, LIN + 0x2000, LIN + 0x3000, LIN + 0x4000);
	/* The hardware walked: accessed and dirty bits tell */
	ASSERT(e[2] & PTE_A);
	ASSERT(!(e[2] & PTE_D));
	ASSERT(e[3] & PTE_D);
	/* 4 MiB page */
	set_paging(pd, CR4_PSE, 0);
	run_prot(LIN, LIN + 0x2000, LIN_LARGE + 0x1000, LIN_LARGE + 0x2000, LIN + 0x4000);
}

static void test_pae(void)
{
	uint64_t pdpt, pd, pt, *e;

	start_prot();
	pdpt = vm_alloc(vm, PAGE_SIZE) + 0x20;	/* any 32-byte boundary */
	pd = vm_alloc(vm, PAGE_SIZE);
	pt = vm_alloc(vm, PAGE_SIZE);
	e = vm_hva(vm, pdpt);
	e[LIN >> 30] = pd | PTE_P;
	e = vm_hva(vm, pd);
	e[LIN >> 21 & 511] = pt | PTE_P | PTE_W;
	e[LIN_LARGE >> 21 & 511] = BIT(30) | PTE_P | PTE_W | PTE_PS | PTE_NX;
	e = vm_hva(vm, pt);
	e[0] = CODE | PTE_P;
	e[1] = 0x6000 | PTE_P | PTE_W | PTE_NX;
	e[2] = HIGH | PTE_P | PTE_NX;
	e[3] = (HIGH + 4096) | PTE_P | PTE_W;
	e[4] = MMIO_HOLE | PTE_P | PTE_W;
	set_paging(pdpt, CR4_PAE, EFER_NX);
	run_prot(LIN, LIN + 0x2000, LIN + 0x2000, LIN + 0x3000, LIN + 0x4000);
	ASSERT(e[3] & PTE_D);
	run_prot(LIN, LIN + 0x2000, LIN_LARGE + 0x1000, LIN_LARGE + 0x2000, LIN + 0x4000);
}

/* Long mode: (address of the page to read, to write, MMIO), all mapped in one way */
struct long_args {
	volatile uint64_t *rd, *wr, *mmio;
};

static void guest_long(uint64_t arg)
{
	struct long_args *a = (void *)arg;

	GUEST_ASSERT_EQ(*a->rd, 0x1122334455667788);
	*a->wr = 0x99;
	*a->mmio = 0x8877665544332211;
	GUEST_ASSERT_EQ(a->mmio[1], 0xfedcba9876543210);
}

static void run_long(struct long_args args)
{
	static struct long_args guest_args;
	uint64_t *mem = vm_hva(vm, HIGH);

	guest_args = args;
	mem[0] = 0x1122334455667788;
	mem[512] = 0;
	vcpu_restart(vcpu, guest_long, (uintptr_t)&guest_args);
	expect_mmio_write(MMIO_HOLE, 8, 0x8877665544332211);
	ASSERT_EQ(mem[512], 0x99);
	expect_mmio_read(MMIO_HOLE + 8, 8, 0xfedcba9876543210);
	vcpu_run_done(vcpu);
}

static struct long_args at(uint64_t mem, uint64_t mmio)
{
	return (struct long_args){ (void *)mem, (void *)(mem + 4096), (void *)mmio };
}

static void start_long(void)
{
	vm = vm_create(0);
	vm_add_mem(vm, 3, 0, BIT(30), HUGE_SIZE * 2);
	vcpu = vcpu_add(vm, 0, guest_long, 0);
}

static void test_long(void)
{
	const uint64_t kernel = 0xffffffff80000000, mid = 0x00007ffffffd0000;
	struct kvm_cpuid_entry2 *leaf;

	start_long();
	/* 2 MiB pages, as the library maps everything */
	run_long(at(HIGH, MMIO_HOLE));
	/* 4 KiB pages, in both halves of the address space */
	for (int i = 0; i < 2; i++) {
		uint64_t base = i ? kernel : mid;

		vm_map(vm, base, HIGH, PTE_P | PTE_NX);
		vm_map(vm, base + 4096, HIGH + 4096, PTE_P | PTE_W | PTE_NX);
		vm_map(vm, base + 8192, MMIO_HOLE, PTE_P | PTE_W);
		run_long(at(base, base + 8192));
		ASSERT(*vm_pte(vm, base) & PTE_A);
		ASSERT(!(*vm_pte(vm, base) & PTE_D));
		ASSERT(*vm_pte(vm, base + 4096) & PTE_D);
	}
	/* 1 GiB pages */
	leaf = cpuid_find(vm->cpuid, 0x80000001, 0);
	if (leaf && leaf->edx & BIT(26)) {
		uint64_t *root = vm_hva(vm, vm->cr3), pdpt = vm_alloc(vm, PAGE_SIZE), *e = vm_hva(vm, pdpt);

		root[5] = pdpt | PTE_P | PTE_W;
		e[1] = BIT(30) | PTE_P | PTE_W | PTE_PS;
		e[3] = 3 * BIT(30) | PTE_P | PTE_W | PTE_PS;
		run_long(at((5ull << 39) + HIGH, (5ull << 39) + MMIO_HOLE));
	}
}

static void test_5level(void)
{
	const uint64_t base = 3ull << 48;
	struct kvm_cpuid_entry2 *leaf;
	uint64_t root, *e, old;
	struct kvm_sregs sregs;

	start_long();
	leaf = cpuid_find(vm->cpuid, 7, 0);
	if (!leaf || !(leaf->ecx & BIT(16)))
		SKIP("no 5-level paging");
	old = vm->cr3;
	root = vm_alloc(vm, PAGE_SIZE);
	e = vm_hva(vm, root);
	e[0] = old | PTE_P | PTE_W;
	e[3] = old | PTE_P | PTE_W;
	e[511] = old | PTE_P | PTE_W;
	vm_map(vm, 0x7000000000, MMIO_HOLE, PTE_P | PTE_W);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cr3 = root;
	sregs.cr4 |= CR4_LA57;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &sregs);
	run_long(at(HIGH, MMIO_HOLE));
	run_long(at(base + HIGH, base + MMIO_HOLE));
	run_long(at(base + HIGH, base + 0x7000000000));
	run_long(at(0xffff000000000000 + HIGH, 0xffff000000000000 + MMIO_HOLE));
}

/* 32-bit code under a 64-bit kernel */
__asm__(".pushsection .text\n"
	".globl compat_call, compat_end\n"
	"compat_call:\n"			/* rdi: memory, esi: MMIO; returns eax */
	"	push %rbx\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	mov $0x7000, %esp\n"
	"	ljmp *1f(%rip)\n"
	"1:	.long 2f, 0x28\n"
	".code32\n"
	"2:	mov $0x10, %eax\n"
	"	mov %eax, %ds\n"
	"	mov %eax, %ss\n"
	"	inc %edi\n"			/* one byte in long mode's REX space: 0x47 */
	"	mov -1(%edi), %eax\n"
	"	mov %eax, (%esi)\n"
	"	mov 4(%esi), %eax\n"
	"	push %eax\n"
	"	pop %ebx\n"
	"	push $0x08\n"
	"	push $3f\n"
	"	lret\n"
	".code64\n"
	"3:	mov %ebx, %eax\n"
	"	mov %rbp, %rsp\n"
	"	pop %rbp\n"
	"	pop %rbx\n"
	"	ret\n"
	"compat_end:\n"
	".popsection");

static void guest_compat(uint64_t arg)
{
	uint32_t compat_call(uint64_t mem, uint64_t mmio);

	GUEST_ASSERT_EQ(compat_call(HIGH, MMIO_HOLE), 0x600df00d);
}

static void test_compat(void)
{
	start_long();
	*(uint32_t *)vm_hva(vm, HIGH) = 0x12345678;
	vcpu_restart(vcpu, guest_compat, 0);
	expect_mmio_write(MMIO_HOLE, 4, 0x12345678);
	expect_mmio_read(MMIO_HOLE + 4, 4, 0x600df00d);
	vcpu_run_done(vcpu);
}

/* The guest's own way from real mode to long mode, as a boot loader goes; page tables at 0x1000 */
__asm__(".pushsection .rodata\n"
	".set CODE, 0x8000\n"
	"trans_start: .code16\n"
	"	cli\n"
	"	xor %ax, %ax\n"
	"	mov %ax, %ds\n"
	"	mov %ax, %ss\n"
	"	mov $0x7000, %sp\n"
	"	mov $0x16, %al\n"
	"	out %al, $0x80\n"
	"	lgdtl (CODE + trans_gdtr - trans_start)\n"
	"	mov %cr0, %eax\n"
	"	or $1, %al\n"
	"	mov %eax, %cr0\n"
	"	ljmpl $0x08, $(CODE + trans32 - trans_start)\n"
	"trans32: .code32\n"
	"	mov $0x18, %ax\n"
	"	mov %ax, %ds\n"
	"	mov %ax, %es\n"
	"	mov %ax, %ss\n"
	"	mov $0x32, %al\n"
	"	out %al, $0x80\n"
	"	mov $0x1000, %edi\n"		/* PML4, PDPT, PD: clear, link, 4 x 2 MiB */
	"	xor %eax, %eax\n"
	"	mov $0xc00, %ecx\n"
	"	cld\n"
	"	rep stosl\n"
	"	movl $0x2003, 0x1000\n"
	"	movl $0x3003, 0x2000\n"
	"	movl $0x000083, 0x3000\n"
	"	movl $0x200083, 0x3008\n"
	"	mov $0x1000, %eax\n"
	"	mov %eax, %cr3\n"
	"	mov $0xc0000080, %ecx\n"
	"	rdmsr\n"
	"	or $0x100, %eax\n"
	"	wrmsr\n"
	"	rdmsr\n"
	"	out %eax, $0x80\n"		/* LME, but no PAE yet */
	"	mov %cr4, %eax\n"
	"	or $0x20, %eax\n"
	"	mov %eax, %cr4\n"
	"	mov %cr0, %eax\n"
	"	or $0x80000000, %eax\n"
	"	mov %eax, %cr0\n"
	"	rdmsr\n"			/* EFER.LMA came by itself */
	"	out %eax, $0x80\n"
	"	ljmp $0x10, $(CODE + trans64 - trans_start)\n"
	"trans64: .code64\n"
	"	mov $0x123456789abcdef0, %rax\n"
	"	mov %rax, %r15\n"
	"	shr $32, %r15\n"
	"	mov %r15d, %eax\n"
	"	out %eax, $0x80\n"
	"	ljmp *trans_back(%rip)\n"	/* and back: compatibility, paging off, real mode */
	"trans_back: .long CODE + trans_c32 - trans_start, 0x08\n"
	"trans_c32: .code32\n"
	"	mov %cr0, %eax\n"
	"	and $0x7fffffff, %eax\n"
	"	mov %eax, %cr0\n"
	"	mov $0xc0000080, %ecx\n"
	"	rdmsr\n"
	"	out %eax, $0x80\n"
	"	and $0xfffffeff, %eax\n"
	"	wrmsr\n"
	"	ljmp $0x20, $(CODE + trans16 - trans_start)\n"
	"trans16: .code16\n"
	"	mov %cr0, %eax\n"
	"	and $0xfe, %al\n"
	"	mov %eax, %cr0\n"
	"	ljmp $(CODE >> 4), $(transr - trans_start)\n"
	"transr:	mov %cs, %ax\n"
	"	out %ax, $0x80\n"
	"	hlt\n"
	"	.balign 8\n"
	"trans_gdt:\n"
	"	.quad 0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00009b000000ffff\n"
	"trans_gdtr: .word . - trans_gdt - 1\n"
	"	.long CODE + trans_gdt - trans_start\n"
	"trans_end: .code64\n"
	".globl trans_start, trans_end\n"
	".popsection");

static void test_transition(void)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vm = vm_create(0);
	vcpu = vcpu_create(vm, 0);
	vcpu_set_cpuid(vcpu);
	CODE_LOAD(vm, CODE, trans);
	vcpu_setup_real(vcpu, 0, CODE, 0x7000);
	expect_out(1, 0x16);
	expect_out(1, 0x32);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	ASSERT_EQ(sregs.cs.db, 1);
	ASSERT_EQ(sregs.cs.l, 0);
	ASSERT_EQ(sregs.cr0 & (CR0_PE | CR0_PG), CR0_PE);
	expect_out(4, EFER_LME);
	expect_out(4, EFER_LME | EFER_LMA);
	expect_out(4, 0x12345678);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	ASSERT_EQ(sregs.cs.l, 1);
	ASSERT_EQ(sregs.cs.selector, 0x10);
	ASSERT_EQ(sregs.efer, EFER_LME | EFER_LMA);
	ASSERT_EQ(sregs.cr3, 0x1000);
	ASSERT(sregs.cr0 & CR0_PG);
	ASSERT_EQ(regs.r15, 0x12345678);
	expect_out(4, EFER_LME);
	expect_out(2, CODE >> 4);
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	ASSERT_EQ(sregs.cr0 & (CR0_PE | CR0_PG), 0);
	ASSERT_EQ(sregs.efer, 0);
	ASSERT_EQ(sregs.cs.base, CODE);
}

/* User mode under a 64-bit kernel: the CPL shows in SS, and page protection holds */
static volatile uint64_t user_cs, fault_error, fault_addr;

static void on_gate(struct guest_regs *regs)
{
	user_cs = regs->cs;
	GUEST_SYNC(3);
	guest_done();
}

static void on_user_fault(struct guest_regs *regs)
{
	fault_error = regs->error;
	fault_addr = GUEST_RDREG(cr2);
	regs->rip += 2;		/* mov %eax, (%rdi) */
}

static void guest_user(uint64_t arg)
{
	guest_handlers[0x80] = on_gate;
	guest_handlers[PF_VECTOR] = on_user_fault;
	__asm__ volatile("mov %%rsp, %%rax\n\t"
			 "push %0; push %%rax; push $2; push %1; lea 1f(%%rip), %%rax; push %%rax; iretq\n\t"
			 "1: mov %2, %%rdi; mov %%eax, (%%rdi); int $0x80"
			 : : "i"(SEL_UDATA), "i"(SEL_UCODE64), "i"(0x3ff000) : "rax", "rdi", "memory");
}

static void test_user_mode(void)
{
	struct kvm_sregs sregs;

	start_long();
	vm_map(vm, 0x3ff000, 0x3ff000, PTE_P | PTE_W);	/* the kernel's only */
	vcpu_restart(vcpu, guest_user, 0);
	vcpu_run_sync(vcpu, 3);
	ASSERT_EQ(user_cs, SEL_UCODE64);
	ASSERT_EQ(fault_error, 7);	/* present, write, user */
	ASSERT_EQ(fault_addr, 0x3ff000);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	ASSERT_EQ(sregs.cs.dpl, 0);
	vcpu_run_done(vcpu);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(reset),
		TEST(real),
		TEST(real_mmio),
		TEST(protected),
		TEST(paging32),
		TEST(pae),
		TEST(long),
		TEST(5level),
		TEST(compat),
		TEST(transition),
		TEST(user_mode),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
