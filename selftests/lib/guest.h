/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Jobs: what guest code needs: instructions, calls to the host side of the test, assertions, exception handlers, time.
 *
 * Guest code is ordinary C in the test's own file. The whole image of the test program is guest memory, at the same
 * addresses, so globals are shared by host and guest: declare those that both sides touch volatile. Guest code must
 * not call libc; memcpy() and memset() are the library's own and work on both sides.
 */
#ifndef PVHV_SELFTESTS_GUEST_H
#define PVHV_SELFTESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BIT(n)		(1ull << (n))

#define CR0_PE		BIT(0)
#define CR0_MP		BIT(1)
#define CR0_EM		BIT(2)
#define CR0_TS		BIT(3)
#define CR0_ET		BIT(4)
#define CR0_NE		BIT(5)
#define CR0_WP		BIT(16)
#define CR0_AM		BIT(18)
#define CR0_NW		BIT(29)
#define CR0_CD		BIT(30)
#define CR0_PG		BIT(31)
#define CR4_DE		BIT(3)
#define CR4_PSE		BIT(4)
#define CR4_PAE		BIT(5)
#define CR4_PGE		BIT(7)
#define CR4_OSFXSR	BIT(9)
#define CR4_OSXMMEXCPT	BIT(10)
#define CR4_LA57	BIT(12)
#define CR4_OSXSAVE	BIT(18)
#define EFER_SCE	BIT(0)
#define EFER_LME	BIT(8)
#define EFER_LMA	BIT(10)
#define EFER_NX		BIT(11)
#define RFLAGS_FIXED	BIT(1)
#define RFLAGS_TF	BIT(8)
#define RFLAGS_IF	BIT(9)

#define PTE_P		BIT(0)
#define PTE_W		BIT(1)
#define PTE_U		BIT(2)
#define PTE_A		BIT(5)
#define PTE_D		BIT(6)
#define PTE_PS		BIT(7)
#define PTE_NX		BIT(63)
#define PTE_ADDR	0x000ffffffffff000ull

#define DE_VECTOR	0
#define DB_VECTOR	1
#define NMI_VECTOR	2
#define BP_VECTOR	3
#define UD_VECTOR	6
#define DF_VECTOR	8
#define GP_VECTOR	13
#define PF_VECTOR	14

/* Segments of the guest's descriptor table */
#define SEL_CODE64	0x08
#define SEL_DATA	0x10
#define SEL_UDATA	0x1b
#define SEL_UCODE64	0x23
#define SEL_CODE32	0x28
#define SEL_TSS		0x30	/* 16 bytes */
#define SEL_CODE16	0x40
#define SEL_DATA16	0x48

#define MSR_TSC			0x10
#define MSR_APICBASE		0x1b
#define MSR_TSC_DEADLINE	0x6e0
#define MSR_EFER		0xc0000080u

/* Calls to the host side */
#define UCALL_PORT	0x5c8

enum {
	UCALL_NONE,		/* not a ucall: see run->exit_reason */
	UCALL_SYNC,		/* arg[0] is the test's */
	UCALL_DONE,
	UCALL_ASSERT,		/* arg: text, file, line, a, b, has values */
	UCALL_EXCEPTION,	/* arg: vector, error code, rip, cr2 */
};

struct ucall {
	uint64_t cmd;
	uint64_t arg[6];
};

static inline void guest_ucall(struct ucall *uc)
{
	__asm__ volatile("outl %%eax, %%dx" : : "a"((uint32_t)(uintptr_t)uc), "d"(UCALL_PORT) : "memory");
}

static inline void guest_sync(uint64_t a, uint64_t b)
{
	struct ucall uc = { .cmd = UCALL_SYNC, .arg = { a, b } };

	guest_ucall(&uc);
}

static inline void guest_done(void)
{
	struct ucall uc = { .cmd = UCALL_DONE };

	guest_ucall(&uc);
}

void guest_assert_failed(const char *text, const char *file, int line, uint64_t a, uint64_t b, bool values);

#define GUEST_SYNC(a)		guest_sync((a), 0)
#define GUEST_SYNC2(a, b)	guest_sync((a), (b))
#define GUEST_DONE()		guest_done()

#define GUEST_ASSERT(cond)						\
	do {								\
		if (!(cond))						\
			guest_assert_failed(#cond, __FILE__, __LINE__, 0, 0, false);	\
	} while (0)

#define GUEST_ASSERT_OP(a, op, b)					\
	do {								\
		__typeof__(a) ga_ = (a);				\
		__typeof__(b) gb_ = (b);				\
		if (!((int64_t)ga_ op (int64_t)gb_))			\
			guest_assert_failed(#a " " #op " " #b, __FILE__, __LINE__,	\
					    (uint64_t)ga_, (uint64_t)gb_, true);	\
	} while (0)
#define GUEST_ASSERT_EQ(a, b)	GUEST_ASSERT_OP(a, ==, b)

/* Exceptions and interrupts */
struct guest_regs {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
	uint64_t rbp, rdi, rsi, rdx, rcx, rbx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

typedef void (*guest_handler_t)(struct guest_regs *regs);

/* Shared by all vCPUs of a test; host or guest sets them. An exception without one fails the test. */
extern guest_handler_t volatile guest_handlers[256];
extern const uint64_t guest_vectors[256];	/* entry points, for those who build their own IDT */

/* The vCPU's number, from its GS base as vcpu_add() sets it */
static inline uint32_t guest_vcpu_id(void)
{
	uint32_t id;

	__asm__ volatile("movl %%gs:0, %0" : "=r"(id));
	return id;
}

/* Instructions */
static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return lo | (uint64_t)hi << 32;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return lo | (uint64_t)hi << 32;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

struct cpuid_regs {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid_regs guest_cpuid(uint32_t leaf, uint32_t index)
{
	struct cpuid_regs r = { .eax = leaf, .ecx = index };

	__asm__ volatile("cpuid" : "+a"(r.eax), "=b"(r.ebx), "+c"(r.ecx), "=d"(r.edx) : : "memory");
	return r;
}

#define GUEST_RDREG(reg)						\
	({								\
		uint64_t v_;						\
		__asm__ volatile("mov %%" #reg ", %0" : "=r"(v_) : : "memory");	\
		v_;							\
	})
#define GUEST_WRREG(reg, v)	__asm__ volatile("mov %0, %%" #reg : : "r"((uint64_t)(v)) : "memory")

static inline void invlpg(const volatile void *va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

static inline void sti(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void cli(void)
{
	__asm__ volatile("cli" : : : "memory");
}

/* Opens the interrupt window for the one instruction that sti shadows, and one more */
static inline void sti_nop_cli(void)
{
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
}

/* Waits for an interrupt without losing one that comes early; leaves interrupts off */
static inline void sti_hlt_cli(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

#define barrier()	__asm__ volatile("" : : : "memory")

/*
 * One instruction that may fault. The macro's value is -1, or the vector raised; the error code goes to *err. The
 * dispatcher knows such an instruction by the mark in r10 and goes on at the address in r11.
 */
static inline void guest_store_error(uint64_t *to, uint64_t error)
{
	if (to)
		*to = error;
}

#define GUEST_SAFE_MARK	0x9f17de5afe0c0de5ull
#define GUEST_SAFE_ASM(insn, err, outputs, inputs...)			\
	({								\
		uint64_t mark_ = GUEST_SAFE_MARK, err_;			\
		__asm__ volatile("mov %[mark], %%r10\n\t"		\
				 "lea 1f(%%rip), %%r11\n\t"		\
				 insn "\n\t"				\
				 "mov $-1, %%r10\n\t"			\
				 "xor %%r11d, %%r11d\n\t"		\
				 "1: mov %%r10, %[mark]\n\t"		\
				 "mov %%r11, %[error]\n\t"		\
				 : [mark] "+r"(mark_), [error] "=r"(err_) outputs	\
				 : inputs : "r10", "r11", "cc", "memory");	\
		guest_store_error(err, err_);				\
		(int)mark_;						\
	})
#define SAFE_OUT(x...)	, x

static inline int rdmsr_safe(uint32_t msr, uint64_t *v)
{
	uint32_t lo = 0, hi = 0;
	int vector = GUEST_SAFE_ASM("rdmsr", NULL, SAFE_OUT("+a"(lo), "+d"(hi)), "c"(msr));

	*v = lo | (uint64_t)hi << 32;
	return vector;
}

static inline int wrmsr_safe(uint32_t msr, uint64_t v)
{
	return GUEST_SAFE_ASM("wrmsr", NULL, , "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}

/* Vendor: the hypercall instruction depends on it */
extern volatile bool guest_is_amd;

static inline long hypercall4(long nr, long a0, long a1, long a2, long a3)
{
	long ret;

	if (guest_is_amd)
		__asm__ volatile("vmmcall" : "=a"(ret) : "a"(nr), "b"(a0), "c"(a1), "d"(a2), "S"(a3) : "memory");
	else
		__asm__ volatile("vmcall" : "=a"(ret) : "a"(nr), "b"(a0), "c"(a1), "d"(a2), "S"(a3) : "memory");
	return ret;
}

/* Time, by the TSC; the host side sets the frequency when it makes the first vCPU */
extern volatile uint64_t guest_tsc_khz;

static inline uint64_t guest_us(uint64_t us)
{
	return us * guest_tsc_khz / 1000;
}

static inline void guest_delay_us(uint64_t us)
{
	uint64_t end = rdtsc() + guest_us(us);

	while (rdtsc() < end)
		cpu_relax();
}

/* Is cond true within so many milliseconds? */
#define GUEST_WAIT(cond, ms)						\
	({								\
		uint64_t end_ = rdtsc() + guest_us((uint64_t)(ms) * 1000);	\
		bool ok_;						\
		while (!(ok_ = (cond)) && rdtsc() < end_)		\
			cpu_relax();					\
		ok_ || (cond);						\
	})

#endif
