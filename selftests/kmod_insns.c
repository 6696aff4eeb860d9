// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies instructions that a hypervisor has to answer for: those of virtualization itself, which must not reach the CPU
 * under the host's hands; cache, monitor and counter instructions; control registers in all their forms; what user mode
 * may not do. The host goes on unharmed after each.
 */
#include <string.h>

#include "vm.h"

#define MSR_VM_HSAVE_PA		0xc0010117
#define EFER_SVME		BIT(12)

static struct vm *vm;
static struct vcpu *vcpu;

static void run(void (*fn)(uint64_t))
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, fn, 0);
	vcpu_run_done(vcpu);
}

#define INSN(text)	GUEST_SAFE_ASM(text, NULL, , "a"(0x1000), "c"(0), "d"(0), "b"(0))

/* Without EFER.SVME (or VMXON) all of them are undefined, with any operand */
static void guest_virtualization(uint64_t arg)
{
	int stgi, clgi;

	GUEST_ASSERT_EQ(INSN("vmrun %%rax"), UD_VECTOR);
	GUEST_ASSERT_EQ(INSN("vmload %%rax"), UD_VECTOR);
	GUEST_ASSERT_EQ(INSN("vmsave %%rax"), UD_VECTOR);
	/* a virtual GIF may be the guest's own */
	stgi = INSN("stgi");
	clgi = INSN("clgi");
	GUEST_ASSERT(stgi == UD_VECTOR || stgi == -1);
	GUEST_ASSERT(clgi == UD_VECTOR || clgi == -1);
	GUEST_ASSERT_EQ(INSN("invlpga %%rax, %%ecx"), UD_VECTOR);
	GUEST_ASSERT_EQ(INSN(".byte 0x0f, 0x01, 0xde"), UD_VECTOR);	/* skinit */
	GUEST_ASSERT_EQ(INSN("vmxoff"), UD_VECTOR);
	GUEST_ASSERT_EQ(INSN("vmlaunch"), UD_VECTOR);
	GUEST_ASSERT_EQ(INSN("vmread %%rax, %%rbx"), UD_VECTOR);
	GUEST_ASSERT_EQ(INSN("rsm"), UD_VECTOR);
	GUEST_ASSERT_EQ(INSN(".byte 0x0f, 0x01, 0xcf"), UD_VECTOR);	/* encls */
	/* and the host's save area is nothing a guest could move */
	if (guest_is_amd && !(guest_cpuid(0x80000001, 0).ecx & BIT(2))) {
		uint64_t v;

		GUEST_ASSERT_EQ(wrmsr_safe(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME), GP_VECTOR);
		/* refused, or ignored */
		if (wrmsr_safe(MSR_VM_HSAVE_PA, 0x1000) == -1)
			GUEST_ASSERT_EQ(rdmsr_safe(MSR_VM_HSAVE_PA, &v), -1);
	}
}

static void guest_nothing(uint64_t arg)
{
}

static void test_virtualization(void)
{
	vm = vm_create(0);
	cpuid_find(vm->cpuid, 0x80000001, 0)->ecx &= ~BIT(2);
	vcpu = vcpu_add(vm, 0, guest_virtualization, 0);
	vcpu_run_done(vcpu);
	vm_destroy(vm);
	/* the host's own virtualization still works */
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_nothing, 0);
	vcpu_run_done(vcpu);
}

static void guest_cache(uint64_t arg)
{
	GUEST_ASSERT_EQ(INSN("wbinvd"), -1);
	GUEST_ASSERT_EQ(INSN("invd"), -1);
	GUEST_ASSERT_EQ(INSN("clflush (%%rax)"), -1);
	GUEST_ASSERT_EQ(INSN("invlpg (%%rax)"), -1);
	GUEST_ASSERT_EQ(INSN("prefetchw (%%rax)"), -1);
	GUEST_ASSERT_EQ(INSN("pause"), -1);
	for (int i = 0; i < 5000; i++)
		__asm__ volatile("pause");
	/* Not offered by CPUID: nothing, or undefined */
	if (!(guest_cpuid(1, 0).ecx & BIT(3))) {
		int v = INSN("monitor");

		GUEST_ASSERT(v == -1 || v == UD_VECTOR);
		v = INSN("mwait");
		GUEST_ASSERT(v == -1 || v == UD_VECTOR);
	}
	/* counters there are not */
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("rdpmc", NULL, , "c"(0x3fffffff)), GP_VECTOR);
}

static void test_cache(void)
{
	run(guest_cache);
}

static void guest_control(uint64_t arg)
{
	uint64_t cr0 = GUEST_RDREG(cr0), cr3 = GUEST_RDREG(cr3), cr4 = GUEST_RDREG(cr4);
	uint16_t msw;

	/* SMSW and LMSW: the low word of CR0; LMSW cannot clear PE */
	__asm__ volatile("smsw %0" : "=r"(msw));
	GUEST_ASSERT_EQ(msw, (uint16_t)cr0);
	__asm__ volatile("lmsw %0" : : "r"((uint16_t)((cr0 & 0xf) | CR0_TS)));
	GUEST_ASSERT_EQ(GUEST_RDREG(cr0), cr0 | CR0_TS);
	__asm__ volatile("clts");
	GUEST_ASSERT_EQ(GUEST_RDREG(cr0), cr0 & ~CR0_TS);
	__asm__ volatile("lmsw %0" : : "r"((uint16_t)(cr0 & 0xe & ~CR0_PE)));
	GUEST_ASSERT(GUEST_RDREG(cr0) & CR0_PE);
	GUEST_WRREG(cr0, cr0);
	/* cache disabling is the guest's to say */
	GUEST_WRREG(cr0, cr0 | CR0_CD);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr0), cr0 | CR0_CD);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("mov %%rax, %%cr0", NULL, , "a"((cr0 & ~CR0_CD) | CR0_NW)), GP_VECTOR);
	GUEST_WRREG(cr0, cr0);
	/* ET is always set */
	GUEST_WRREG(cr0, cr0 & ~CR0_ET);
	GUEST_ASSERT(GUEST_RDREG(cr0) & CR0_ET);
	/* CR2, CR3 and CR4 are what was written */
	GUEST_WRREG(cr2, 0x123456789000);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr2), 0x123456789000ull);
	GUEST_WRREG(cr3, cr3);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr3), cr3);
	GUEST_WRREG(cr4, cr4 | CR4_PGE | CR4_DE);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr4), cr4 | CR4_PGE | CR4_DE);
	GUEST_WRREG(cr4, cr4);
	GUEST_SYNC(1);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr2), 0x123456789000ull);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr4), cr4);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr0), cr0);
}

static void test_control(void)
{
	struct kvm_sregs sregs;

	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_control, 0);
	vcpu_run_sync(vcpu, 1);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	ASSERT_EQ(sregs.cr2, 0x123456789000);
	ASSERT_EQ(sregs.cr3, vm->cr3);
	vcpu_run_done(vcpu);
}

/* The task priority, with the LAPIC in the kernel and without: then a lower one may come to userspace first */
static void guest_cr8(uint64_t arg)
{
	GUEST_ASSERT_EQ(GUEST_RDREG(cr8), 0ull);
	for (uint64_t i = 1; i < 16; i++) {
		GUEST_WRREG(cr8, i);
		GUEST_ASSERT_EQ(GUEST_RDREG(cr8), i);
		if (i == 5) {
			GUEST_SYNC(1);
			GUEST_ASSERT_EQ(GUEST_RDREG(cr8), i);
		}
	}
	GUEST_WRREG(cr8, 7);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr8), 7ull);
	GUEST_WRREG(cr8, 0);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr8), 0ull);
}

static void test_cr8(void)
{
	struct kvm_sregs sregs;
	struct ucall uc;

	for (int chip = 0; chip < 2; chip++) {
		vm = vm_create(chip ? VM_IRQCHIP : 0);
		vcpu = vcpu_add(vm, 0, guest_cr8, 0);
		vcpu_run_sync(vcpu, 1);
		VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
		ASSERT_EQ(sregs.cr8, 5);
		ASSERT_EQ(vcpu->run->cr8, 5);
		while (vcpu_run_ucall(vcpu, &uc) == UCALL_NONE)
			ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_SET_TPR);
		ASSERT_EQ(uc.cmd, UCALL_DONE);
		ASSERT_EQ(vcpu->run->cr8, 0);
		vm_destroy(vm);
	}
}

/* Descriptor tables and task register, as the guest sets them */
static void guest_tables(uint64_t arg)
{
	struct { uint16_t limit; uint64_t base; } __attribute__((packed)) a, b;
	uint16_t tr, ldt;

	__asm__ volatile("sgdt %0" : "=m"(a));
	a.limit = 0x7f;
	__asm__ volatile("lgdt %0" : : "m"(a));
	__asm__ volatile("sgdt %0" : "=m"(b));
	GUEST_ASSERT_EQ(a.base, b.base);
	GUEST_ASSERT_EQ(b.limit, 0x7f);
	__asm__ volatile("sidt %0; lidt %0" : "=m"(a));
	__asm__ volatile("str %0" : "=r"(tr));
	GUEST_ASSERT_EQ(tr, SEL_TSS);
	__asm__ volatile("xor %%eax, %%eax; lldt %%ax; sldt %0" : "=r"(ldt) : : "rax");
	GUEST_ASSERT_EQ(ldt, 0);
	/* a busy TSS cannot be loaded */
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("ltr %%ax", NULL, , "a"(SEL_TSS)), GP_VECTOR);
}

static void test_tables(void)
{
	run(guest_tables);
}

/* User mode: the guest's kernel gets the fault, whatever the hypervisor intercepts */
static volatile uint32_t next, faults;

__asm__(".pushsection .text\n"
	"user_insns:\n"
	"	.quad u0, u1, u2, u3, u4, u5, u6, u7, u8, u9, u10, u11, u12, u13, 0\n"
	"u0:	hlt\n"
	"u1:	cli\n"
	"u2:	mov %cr0, %rax\n"
	"u3:	mov %rax, %cr3\n"
	"u4:	mov %rax, %cr8\n"
	"u5:	mov %dr7, %rax\n"
	"u6:	rdmsr\n"
	"u7:	wrmsr\n"
	"u8:	invlpg (%rax)\n"
	"u9:	wbinvd\n"
	"u10:	clts\n"
	"u11:	lmsw %ax\n"
	"u12:	inb $0x70, %al\n"
	"u13:	outb %al, $0x70\n"
	"	ud2\n"
	".popsection");

extern const uint64_t user_insns[];

static void on_user_fault(struct guest_regs *regs)
{
	GUEST_ASSERT_EQ(regs->cs, (uint64_t)SEL_UCODE64);
	GUEST_ASSERT_EQ(regs->rip, user_insns[next]);
	faults++;
	if (!user_insns[++next])
		guest_done();
	regs->rip = user_insns[next];
}

static void guest_user(uint64_t arg)
{
	guest_handlers[GP_VECTOR] = on_user_fault;
	__asm__ volatile("mov %%rsp, %%rax\n\t"
			 "push %0; push %%rax; push $2; push %1; push %2; iretq"
			 : : "i"(SEL_UDATA), "i"(SEL_UCODE64), "r"(user_insns[0]) : "rax", "memory");
}

static void test_user_mode(void)
{
	run(guest_user);
	ASSERT_EQ(faults, 14);
}

/* With IOPL 3 ports are user mode's too */
static void on_gate(struct guest_regs *regs)
{
	GUEST_ASSERT_EQ(regs->rax & 0xff, 0x5aull);
	guest_done();
}

static void guest_iopl(uint64_t arg)
{
	guest_handlers[0x80] = on_gate;
	__asm__ volatile("mov %%rsp, %%rax\n\t"
			 "push %0; push %%rax; push $0x3002; push %1; lea 1f(%%rip), %%rax; push %%rax; iretq\n\t"
			 "1: mov $0x2f0, %%edx; mov $7, %%al; outb %%al, %%dx; inb %%dx, %%al; int $0x80"
			 : : "i"(SEL_UDATA), "i"(SEL_UCODE64) : "rax", "rdx", "memory");
}

static void test_iopl(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_iopl, 0);
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	ASSERT_EQ(vcpu->run->io.port, 0x2f0);
	ASSERT_EQ(vcpu->run->io.direction, KVM_EXIT_IO_OUT);
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	ASSERT_EQ(vcpu->run->io.direction, KVM_EXIT_IO_IN);
	*((uint8_t *)vcpu->run + vcpu->run->io.data_offset) = 0x5a;
	vcpu_run_done(vcpu);
}

/* Prefixes that change nothing do change nothing: the length of what is skipped must be right */
static void guest_prefixes(uint64_t arg)
{
	uint32_t a = 0, b, c = 0, d;

	__asm__ volatile(".byte 0x66, 0x0f, 0xa2" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));	/* cpuid */
	GUEST_ASSERT(a >= 1);
	__asm__ volatile(".byte 0x2e, 0x48, 0x0f, 0xa2" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	__asm__ volatile(".byte 0xf3, 0x0f, 0xa2" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	__asm__ volatile(".byte 0x48, 0x0f, 0x32" : "=a"(a), "=d"(d) : "c"(MSR_APICBASE));		/* rdmsr */
	GUEST_ASSERT_EQ(a & 0xfffff000, 0xfee00000u);
	__asm__ volatile(".byte 0x3e, 0x3e, 0xf4");						/* hlt */
	__asm__ volatile(".byte 0x66, 0x48, 0x0f, 0x20, 0xc0" : "=a"(a));			/* mov %cr0, %rax */
	GUEST_ASSERT(a & CR0_PE);
	__asm__ volatile(".byte 0x44, 0x0f, 0x20, 0xc0" : "=a"(a));				/* mov %cr8, %rax */
	GUEST_ASSERT_EQ(a, 0u);
	/* across a page */
	((void (*)(void))arg)();
}

static void test_prefixes(void)
{
	/* cpuid; ret, with the page boundary in the instruction */
	static const uint8_t code[] = { 0x31, 0xc0, 0x53, 0x0f, 0xa2, 0x5b, 0xc3 };
	uint64_t page;

	vm = vm_create(0);
	page = vm_alloc(vm, 2 * PAGE_SIZE);
	memcpy(vm_hva(vm, page + PAGE_SIZE - 4), code, sizeof(code));
	vcpu = vcpu_add(vm, 0, guest_prefixes, page + PAGE_SIZE - 4);
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
	vcpu_run_done(vcpu);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(virtualization),
		TEST(cache),
		TEST(control),
		TEST(cr8),
		TEST(tables),
		TEST(user_mode),
		TEST(iopl),
		TEST(prefixes),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
