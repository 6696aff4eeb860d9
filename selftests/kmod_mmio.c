// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies MMIO by every instruction form that compilers and stock operating systems use on device memory. The guest runs
 * each on a device address and, with the same registers, on ordinary memory; the test plays the device with a copy of that
 * memory. Registers, flags and memory must come out equal.
 */
#include <string.h>

#include "vm.h"

#define DEV		MMIO_HOLE
#define WINDOW		256u
#define OFFSET		64u		/* where the pointer registers point in the window */

static struct vm *vm;
static struct vcpu *vcpu;
static uint8_t shadow[WINDOW] __attribute__((aligned(4096)));	/* what the CPU itself works on */
static uint8_t device[WINDOW];					/* what the exits work on */

struct state {
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, r8, r9, flags;
};

static volatile struct state in, out;
static volatile uint64_t routine;

/*
 * Loads the state, calls the routine, keeps the state. RBX is the memory operand's base, RDI that of string stores, RSI
 * that of string loads.
 */
__asm__(".pushsection .text\n"
	"run_routine:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov in(%rip), %rax; mov in+8(%rip), %rbx; mov in+16(%rip), %rcx; mov in+24(%rip), %rdx\n"
	"	mov in+32(%rip), %rsi; mov in+40(%rip), %rdi; mov in+48(%rip), %r8; mov in+56(%rip), %r9\n"
	"	pushq in+64(%rip); popfq\n"
	"	call *routine(%rip)\n"
	"	pushfq; popq out+64(%rip); cld\n"
	"	mov %rax, out(%rip); mov %rbx, out+8(%rip); mov %rcx, out+16(%rip); mov %rdx, out+24(%rip)\n"
	"	mov %rsi, out+32(%rip); mov %rdi, out+40(%rip); mov %r8, out+48(%rip); mov %r9, out+56(%rip)\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	".popsection");

void run_routine(void);

static void guest_run(uint64_t arg)
{
	run_routine();
}

struct form {
	const char *name;
	const char *code;	/* in the image, ends with ret */
	uint64_t flags_mask;	/* flags that are defined afterwards */
	bool rdi_is_reg;	/* rdi and rsi are data, not pointers */
};

/* One routine per form: label, instruction, ret; and its row in the table */
#define F_ALL	0xcd5ul		/* CF PF AF ZF SF OF, DF */
#define F_LOGIC	0xcc5ul		/* AF is undefined */
#define F_BT	0x401ul		/* CF; the rest is undefined */

#define FORMS(X)								\
	X(mov_r_m8, "mov (%rbx), %al", F_ALL)					\
	X(mov_r_m8_high, "mov (%rbx), %ah", F_ALL)				\
	X(mov_r_m8_rex, "mov (%rbx), %sil", F_ALL)				\
	X(mov_r_m16, "mov (%rbx), %cx", F_ALL)					\
	X(mov_r_m32, "mov (%rbx), %edx", F_ALL)					\
	X(mov_r_m64, "mov (%rbx), %r8", F_ALL)					\
	X(mov_m_r8, "mov %al, (%rbx)", F_ALL)					\
	X(mov_m_r8_high, "mov %dh, (%rbx)", F_ALL)				\
	X(mov_m_r8_rex, "mov %r9b, (%rbx)", F_ALL)				\
	X(mov_m_r16, "mov %cx, 2(%rbx)", F_ALL)					\
	X(mov_m_r32, "mov %edx, 4(%rbx)", F_ALL)				\
	X(mov_m_r64, "mov %r9, 8(%rbx)", F_ALL)					\
	X(mov_m_i8, "movb $0x5a, (%rbx)", F_ALL)				\
	X(mov_m_i16, "movw $0x1234, (%rbx)", F_ALL)				\
	X(mov_m_i32, "movl $0x89abcdef, (%rbx)", F_ALL)				\
	X(mov_m_i64, "movq $-2, (%rbx)", F_ALL)					\
	X(mov_sib, "mov 4(%rbx,%rcx,4), %eax", F_ALL)				\
	X(mov_sib2, "mov %eax, -8(%rbx,%rcx,2)", F_ALL)				\
	X(mov_disp32, "mov %eax, 0x20(%rbx)", F_ALL)				\
	X(mov_addr32, "mov (%ebx), %eax", F_ALL)				\
	X(mov_moffs_load, "movabs 0xd0000040, %eax", F_ALL)			\
	X(mov_moffs_store, "movabs %al, 0xd0000041", F_ALL)			\
	X(movzx_b_w, "movzbw (%rbx), %ax", F_ALL)				\
	X(movzx_b_l, "movzbl 1(%rbx), %ecx", F_ALL)				\
	X(movzx_b_q, "movzbq 1(%rbx), %rdx", F_ALL)				\
	X(movzx_w_l, "movzwl 2(%rbx), %eax", F_ALL)				\
	X(movzx_w_q, "movzwq 2(%rbx), %r8", F_ALL)				\
	X(movsx_b_w, "movsbw (%rbx), %ax", F_ALL)				\
	X(movsx_b_l, "movsbl 1(%rbx), %ecx", F_ALL)				\
	X(movsx_b_q, "movsbq 1(%rbx), %rdx", F_ALL)				\
	X(movsx_w_l, "movswl 2(%rbx), %eax", F_ALL)				\
	X(movsx_w_q, "movswq 2(%rbx), %r9", F_ALL)				\
	X(movsxd, "movslq 4(%rbx), %rax", F_ALL)				\
	X(stosb, "stosb", F_ALL)						\
	X(stosw, "stosw", F_ALL)						\
	X(stosl, "stosl", F_ALL)						\
	X(stosq, "stosq", F_ALL)						\
	X(rep_stosb, "mov $5, %ecx; rep stosb", F_ALL)				\
	X(rep_stosl, "mov $3, %ecx; rep stosl", F_ALL)				\
	X(rep_stosq, "mov $4, %ecx; rep stosq", F_ALL)				\
	X(rep_stos_none, "xor %ecx, %ecx; rep stosl", F_LOGIC)			\
	X(movsb, "movsb", F_ALL)						\
	X(movsw, "movsw", F_ALL)						\
	X(movsl, "movsl", F_ALL)						\
	X(movsq, "movsq", F_ALL)						\
	X(rep_movsb, "mov $7, %ecx; rep movsb", F_ALL)				\
	X(rep_movsl, "mov $3, %ecx; rep movsl", F_ALL)				\
	X(rep_movsq, "mov $2, %ecx; rep movsq", F_ALL)				\
	X(rep_movsb_to_mem, "lea scratch(%rip), %rdi; mov $6, %ecx; rep movsb; mov scratch(%rip), %eax; xor %edi, %edi", F_LOGIC) \
	X(rep_movsb_from_mem, "lea pattern(%rip), %rsi; mov $6, %ecx; rep movsb; xor %esi, %esi", F_LOGIC) \
	X(std_stosl, "std; mov $3, %ecx; rep stosl", F_ALL)			\
	X(std_movsb, "std; mov $4, %ecx; rep movsb", F_ALL)			\
	X(and_m_r8, "and %al, (%rbx)", F_LOGIC)					\
	X(and_m_r32, "and %edx, (%rbx)", F_LOGIC)				\
	X(and_r_m16, "and (%rbx), %cx", F_LOGIC)				\
	X(and_r_m64, "and (%rbx), %rdx", F_LOGIC)				\
	X(and_m_i8, "andb $0x3c, (%rbx)", F_LOGIC)				\
	X(and_m_i32, "andl $0xf0f0f0f0, (%rbx)", F_LOGIC)			\
	X(and_m_i32s8, "andl $-4, (%rbx)", F_LOGIC)				\
	X(or_m_r16, "or %cx, (%rbx)", F_LOGIC)					\
	X(or_m_r64, "or %r8, (%rbx)", F_LOGIC)					\
	X(or_r_m8, "or (%rbx), %dl", F_LOGIC)					\
	X(or_r_m32, "or (%rbx), %edx", F_LOGIC)					\
	X(or_m_i8, "orb $0x81, (%rbx)", F_LOGIC)				\
	X(or_m_i16, "orw $0x8001, (%rbx)", F_LOGIC)				\
	X(or_m_i64, "orq $0x7f, (%rbx)", F_LOGIC)				\
	X(xor_m_r32, "xor %eax, (%rbx)", F_LOGIC)				\
	X(xor_r_m64, "xor (%rbx), %r9", F_LOGIC)				\
	X(xor_m_i8, "xorb $0xff, (%rbx)", F_LOGIC)				\
	X(add_m_r8, "add %al, (%rbx)", F_ALL)					\
	X(add_m_r32, "add %edx, (%rbx)", F_ALL)					\
	X(add_r_m16, "add (%rbx), %cx", F_ALL)					\
	X(add_r_m64, "add (%rbx), %rdx", F_ALL)					\
	X(add_m_i32, "addl $0x7fffffff, (%rbx)", F_ALL)				\
	X(sub_m_r16, "sub %cx, (%rbx)", F_ALL)					\
	X(sub_m_r64, "sub %rax, (%rbx)", F_ALL)					\
	X(sub_r_m8, "sub (%rbx), %al", F_ALL)					\
	X(sub_r_m32, "sub (%rbx), %edx", F_ALL)					\
	X(sub_m_i8, "subb $0x7f, (%rbx)", F_ALL)				\
	X(cmp_m_r8, "cmp %al, (%rbx)", F_ALL)					\
	X(cmp_m_r32, "cmp %edx, (%rbx)", F_ALL)					\
	X(cmp_r_m16, "cmp (%rbx), %cx", F_ALL)					\
	X(cmp_r_m64, "cmp (%rbx), %r8", F_ALL)					\
	X(cmp_m_i8, "cmpb $0x12, (%rbx)", F_ALL)				\
	X(cmp_m_i32, "cmpl $0x12345678, (%rbx)", F_ALL)				\
	X(cmp_m_i64s8, "cmpq $-1, (%rbx)", F_ALL)				\
	X(test_m_r8, "test %al, (%rbx)", F_LOGIC)				\
	X(test_m_r32, "test %edx, (%rbx)", F_LOGIC)				\
	X(test_m_r64, "test %r9, (%rbx)", F_LOGIC)				\
	X(test_m_i8, "testb $0x80, (%rbx)", F_LOGIC)				\
	X(test_m_i32, "testl $0x80000000, (%rbx)", F_LOGIC)			\
	X(xchg_m_r8, "xchg %al, (%rbx)", F_ALL)					\
	X(xchg_m_r32, "xchg %edx, (%rbx)", F_ALL)				\
	X(xchg_m_r64, "xchg %r8, (%rbx)", F_ALL)				\
	X(lock_or, "lock orl $0x10, (%rbx)", F_LOGIC)				\
	X(lock_and, "lock andl $0xfffffffe, (%rbx)", F_LOGIC)			\
	X(bt_m_i, "btl $5, (%rbx)", F_BT)					\
	X(bts_m_i, "btsl $7, (%rbx)", F_BT)					\
	X(btr_m_i, "btrl $3, (%rbx)", F_BT)					\
	X(btc_m_i, "btcl $30, (%rbx)", F_BT)					\
	X(bts_m_i64, "btsq $62, (%rbx)", F_BT)					\
	X(bt_m_r, "bt %ecx, (%rbx)", F_BT)					\
	X(bts_m_r_far, "mov $100, %ecx; bts %ecx, (%rbx)", F_BT)		\
	X(btr_m_r_neg, "mov $-20, %rcx; btr %rcx, (%rbx)", F_BT)

#define X_CODE(name, text, mask)	"form_" #name ": " text "; ret\n\t"
__asm__(".pushsection .text\n\t" FORMS(X_CODE) ".popsection\n\t"
	".pushsection .data\n\t"
	".balign 16\n\tscratch: .quad 0, 0\n\t"
	"pattern: .byte 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88\n\t"
	".popsection");

#define X_DECL(name, text, mask)	extern const char form_##name[];
FORMS(X_DECL)

#define X_ROW(name, text, mask)		{ #name, form_##name, mask, false },
static const struct form forms[] = { FORMS(X_ROW) };

/* Runs the routine; plays the device for accesses in its window */
static void run_on_device(const char *name)
{
	struct kvm_run *run = vcpu->run;
	struct ucall uc;
	int exits = 0;

	vcpu_restart(vcpu, guest_run, 0);
	while (vcpu_run_ucall(vcpu, &uc) == UCALL_NONE) {
		uint64_t at;

		if (run->exit_reason != KVM_EXIT_MMIO)
			FAIL("%s: exit %u (%s)", name, run->exit_reason, exit_name(run->exit_reason));
		at = run->mmio.phys_addr - DEV;
		ASSERT_LE(run->mmio.len, 8);
		if (at > WINDOW - run->mmio.len)
			FAIL("%s: access at 0x%llx", name, run->mmio.phys_addr);
		if (run->mmio.is_write)
			memcpy(device + at, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, device + at, run->mmio.len);
		ASSERT_LT(++exits, 100);
	}
	if (strcmp(name, "rep_stos_none"))
		ASSERT_GT(exits, 0);
}

/* moffs has the device's address in the code: on memory, the same is done by the register form */
static const char *memory_code(const struct form *f)
{
	extern const char form_moffs_load_mem[], form_moffs_store_mem[];

	if (!strcmp(f->name, "mov_moffs_load"))
		return form_moffs_load_mem;
	if (!strcmp(f->name, "mov_moffs_store"))
		return form_moffs_store_mem;
	return f->code;
}

__asm__(".pushsection .text\n"
	".globl form_moffs_load_mem, form_moffs_store_mem\n"
	"form_moffs_load_mem: mov (%rbx), %eax; ret\n"
	"form_moffs_store_mem: mov %al, 1(%rbx); ret\n"
	".popsection");

static void seed_state(uint64_t seed, uint64_t base)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;

	in = (struct state){
		.rax = x,
		.rbx = base + OFFSET,
		.rcx = seed % 4,	/* an index */
		.rdx = x ^ x << 13 ^ x >> 7,
		.rsi = base + OFFSET + 32,
		.rdi = base + OFFSET - 16,
		.r8 = ~x,
		.r9 = x >> 5 | x << 59,
		.flags = RFLAGS_FIXED | (seed & 1 ? 0x8d5 : 0),
	};
}

static uint64_t relative(uint64_t v, uint64_t base)
{
	return v - base < WINDOW ? v - base : v;
}

static void check(const struct form *f, const char *what, uint64_t dev, uint64_t mem)
{
	if (relative(dev, DEV) != relative(mem, (uintptr_t)shadow))
		FAIL("%s: %s is 0x%llx on a device, 0x%llx on memory", f->name, what, (unsigned long long)dev,
		     (unsigned long long)mem);
}

static void one_form(const struct form *f, uint64_t seed)
{
	struct state dev, mem;

	for (unsigned int i = 0; i < WINDOW; i++)
		shadow[i] = device[i] = i * 37 + seed * 11 + (i >> 3);
	seed_state(seed, (uintptr_t)shadow);
	routine = (uintptr_t)memory_code(f);
	vcpu_restart(vcpu, guest_run, 0);
	vcpu_run_done(vcpu);
	mem = out;

	seed_state(seed, DEV);
	routine = (uintptr_t)f->code;
	run_on_device(f->name);
	dev = out;

	check(f, "rax", dev.rax, mem.rax);
	check(f, "rbx", dev.rbx, mem.rbx);
	check(f, "rcx", dev.rcx, mem.rcx);
	check(f, "rdx", dev.rdx, mem.rdx);
	check(f, "rsi", dev.rsi, mem.rsi);
	check(f, "rdi", dev.rdi, mem.rdi);
	check(f, "r8", dev.r8, mem.r8);
	check(f, "r9", dev.r9, mem.r9);
	check(f, "flags", dev.flags & f->flags_mask, mem.flags & f->flags_mask);
	for (unsigned int i = 0; i < WINDOW; i++)
		if (device[i] != shadow[i])
			FAIL("%s: byte %d is 0x%x on a device, 0x%x in memory", f->name, (int)i - (int)OFFSET, device[i],
			     shadow[i]);
}

static void test_forms(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_run, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(forms); i++)
		for (uint64_t seed = 0; seed < 4; seed++)
			one_form(&forms[i], seed);
}

/* An access that crosses a page: one half memory, one half device */
static volatile uint64_t cross_result;

static void guest_cross(uint64_t addr)
{
	cross_result = *(volatile uint64_t *)addr;
	*(volatile uint64_t *)addr = 0x1122334455667788;
}

static void test_cross_page(void)
{
	uint8_t *page;
	unsigned int reads = 0, writes = 0;
	struct ucall uc;

	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_cross, DEV + PAGE_SIZE - 3);
	page = vm_add_mem(vm, 3, 0, DEV, PAGE_SIZE);
	page[PAGE_SIZE - 3] = 0x01;
	page[PAGE_SIZE - 2] = 0x02;
	page[PAGE_SIZE - 1] = 0x03;
	memcpy(device, "\x04\x05\x06\x07\x08", 5);
	while (vcpu_run_ucall(vcpu, &uc) == UCALL_NONE) {
		struct kvm_run *run = vcpu->run;
		uint64_t at;

		ASSERT_EQ(run->exit_reason, KVM_EXIT_MMIO);
		at = run->mmio.phys_addr - DEV - PAGE_SIZE;
		ASSERT_LE(at + run->mmio.len, 5);
		if (run->mmio.is_write) {
			memcpy(device + at, run->mmio.data, run->mmio.len);
			writes += run->mmio.len;
		} else {
			memcpy(run->mmio.data, device + at, run->mmio.len);
			reads += run->mmio.len;
		}
	}
	ASSERT_EQ(cross_result, 0x0807060504030201);
	ASSERT_EQ(reads, 5);
	ASSERT_EQ(writes, 5);
	ASSERT_EQ(page[PAGE_SIZE - 3], 0x88);
	ASSERT_EQ(page[PAGE_SIZE - 1], 0x66);
	ASSERT_EQ(device[0], 0x55);
	ASSERT_EQ(device[4], 0x11);
}

/* The guest's own protection comes first: its page fault, not an exit */
static volatile uint64_t pf_error, pf_addr;

static void on_pf(struct guest_regs *regs)
{
	pf_error = regs->error;
	pf_addr = GUEST_RDREG(cr2);
	regs->rip += 2;		/* mov %eax, (%rdi) */
}

static void guest_protected(uint64_t va)
{
	guest_handlers[PF_VECTOR] = on_pf;
	__asm__ volatile("mov %%eax, (%%rdi)" : : "D"(va), "a"(1) : "memory");
	GUEST_ASSERT_EQ(pf_error, 3ull);
	GUEST_ASSERT_EQ(pf_addr, va);
}

static void test_guest_protection(void)
{
	vm = vm_create(0);
	vm_map(vm, 0x7e0000000000, DEV, PTE_P);
	vcpu = vcpu_add(vm, 0, guest_protected, 0x7e0000000000);
	vcpu_run_done(vcpu);
}

/* Single-step traps and pending interrupts come after the instruction, once */
static volatile uint64_t traps, trap_rip;

static void on_db(struct guest_regs *regs)
{
	traps++;
	trap_rip = regs->rip;
	regs->rflags &= ~RFLAGS_TF;
}

static void guest_step(uint64_t arg)
{
	extern const char step_after[];

	guest_handlers[DB_VECTOR] = on_db;
	__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq\n\t"
			 "mov %%eax, (%%rdi)\n\t"
			 ".globl step_after\n"
			 "step_after: nop" : : "D"(DEV), "a"(1) : "memory", "cc");
	GUEST_ASSERT_EQ(traps, 1ull);
	/* (KVM loses the trap of a write that exits, and traps after the next instruction) */
	GUEST_ASSERT(trap_rip - (uintptr_t)step_after <= 1);
}

static void test_single_step(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_step, 0);
	vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
	vcpu_run_done(vcpu);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(forms),
		TEST(cross_page),
		TEST(guest_protection),
		TEST(single_step),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
