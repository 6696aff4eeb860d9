// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies floating point and vector state: each vCPU keeps its own, the host keeps its own, GET/SET_XSAVE and XCRS show
 * and set what the guest has, XSETBV obeys the rules.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

static struct vm *vm;
static struct vcpu *vcpu;

static bool host_has_avx(void)
{
	uint32_t a = 1, b, c = 0, d, lo, hi;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if ((c & (BIT(27) | BIT(28))) != (BIT(27) | BIT(28)))
		return false;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (lo & 6) == 6;
}

/*
 * AVX is switched on from outside: QEMU before 8.2 emulates AMD-V without the intercept of XSETBV, so that a guest there
 * changes the host's register and nobody knows.
 */
static void enable_avx(struct vcpu *v)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = 7 } };

	VCPU_IOCTL(v, KVM_SET_XCRS, &xcrs);
}

static bool guest_has_avx(void)
{
	return (cpuid_find(vm->cpuid, 1, 0)->ecx & (BIT(26) | BIT(28))) == (BIT(26) | BIT(28));
}

static void xsetbv(uint64_t v)
{
	__asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}

static int xsetbv_safe(uint64_t v)
{
	return GUEST_SAFE_ASM("xsetbv", NULL, , "c"(0), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}

static uint64_t xgetbv(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo | (uint64_t)hi << 32;
}

/* 16 registers of 32 bytes (or 16 without AVX), plus MXCSR and the x87 control word */
struct vectors {
	uint8_t ymm[16][32];
	uint32_t mxcsr;
	uint16_t fcw;
} __attribute__((aligned(32)));

#define EACH(X)	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

static __attribute__((noinline)) void load_vectors(const struct vectors *v, bool avx)
{
#define LOAD_YMM(n)	"vmovdqu " #n "*32(%0), %%ymm" #n "\n\t"
#define LOAD_XMM(n)	"movdqu " #n "*32(%0), %%xmm" #n "\n\t"
	if (avx)
		__asm__ volatile(EACH(LOAD_YMM) : : "r"(v) : "memory");
	else
		__asm__ volatile(EACH(LOAD_XMM) : : "r"(v) : "memory");
	__asm__ volatile("ldmxcsr %0; fldcw %1" : : "m"(v->mxcsr), "m"(v->fcw));
}

static __attribute__((noinline)) void store_vectors(struct vectors *v, bool avx)
{
#define STORE_YMM(n)	"vmovdqu %%ymm" #n ", " #n "*32(%0)\n\t"
#define STORE_XMM(n)	"movdqu %%xmm" #n ", " #n "*32(%0)\n\t"
	if (avx)
		__asm__ volatile(EACH(STORE_YMM) : : "r"(v) : "memory");
	else
		__asm__ volatile(EACH(STORE_XMM) : : "r"(v) : "memory");
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(v->mxcsr), "=m"(v->fcw));
}

static void fill(struct vectors *v, uint8_t seed, bool avx)
{
	memset(v, 0, sizeof(*v));
	for (unsigned int r = 0; r < 16; r++)
		for (unsigned int i = 0; i < (avx ? 32 : 16); i++)
			v->ymm[r][i] = seed * 17 + r * 32 + i;
	v->mxcsr = 0x1f80 | (seed & 3) << 13;	/* rounding */
	v->fcw = 0x37f & ~((seed & 3) << 10);
}

/* Guests on several vCPUs: load, exit or spin for a while, compare */
static volatile bool use_avx, end;
static volatile uint64_t rounds[4];

static bool same(const struct vectors *a, const struct vectors *b)
{
	return !memcmp(a, b, offsetof(struct vectors, fcw) + 2);
}

static void guest_keep(uint64_t id)
{
	struct vectors set, get;

	for (uint8_t n = 0; !end; n++) {
		fill(&set, id * 50 + n, use_avx);
		load_vectors(&set, use_avx);
		if (n & 1)
			GUEST_SYNC(1);
		else
			for (int i = 0; i < 20000; i++)
				cpu_relax();
		memset(&get, 0, sizeof(get));
		store_vectors(&get, use_avx);
		GUEST_ASSERT(same(&set, &get));
		rounds[id]++;
	}
}

/* The thread's own registers must survive KVM_RUN; and be no others for the guest */
static void dirty_host(struct vcpu *v, struct ucall *uc)
{
	static __thread struct vectors host;
	bool avx = host_has_avx();

	fill(&host, 200 + v->id, avx);
	load_vectors(&host, avx);
}

static void start_keep(unsigned int nr)
{
	vm = vm_create(0);
	use_avx = guest_has_avx();
	end = false;
	for (unsigned int i = 0; i < nr; i++) {
		vcpu_add(vm, i, guest_keep, i);
		if (use_avx)
			enable_avx(vm->vcpus[i]);
		vm->vcpus[i]->on_sync = dirty_host;
		rounds[i] = 0;
	}
}

static void test_vcpus(void)
{
	start_keep(3);
	for (int i = 0; i < 3; i++)
		vcpu_start(vm->vcpus[i]);
	ASSERT(WAIT_FOR(rounds[0] > 30 && rounds[1] > 30 && rounds[2] > 30, 60000));
	end = true;
	for (int i = 0; i < 3; i++)
		vcpu_join(vm->vcpus[i]);
	vm_destroy(vm);
}

static __attribute__((noinline)) void run_with_vectors(const struct vectors *set, struct vectors *get, bool avx)
{
	uint64_t ret;

	/* ioctl by hand: no C library between the registers and KVM_RUN */
	load_vectors(set, avx);
	__asm__ volatile("syscall" : "=a"(ret) : "a"(16), "D"((long)vcpu->fd), "S"(KVM_RUN), "d"(0) : "rcx", "r11", "memory");
	store_vectors(get, avx);
	ASSERT_EQ(ret, 0);
}

static void test_host(void)
{
	bool avx = host_has_avx();
	struct vectors set, get, initial;

	start_keep(1);
	vcpu = vm->vcpus[0];
	store_vectors(&initial, avx);
	for (uint8_t n = 0; n < 20; n++) {
		fill(&set, n, avx);
		memset(&get, 0, sizeof(get));
		run_with_vectors(&set, &get, avx);
		if (!same(&set, &get))
			FAIL("the host's registers changed");
	}
	load_vectors(&initial, avx);
}

static void guest_once(uint64_t seed)
{
	struct vectors v;

	fill(&v, seed, use_avx);
	load_vectors(&v, use_avx);
	__asm__ volatile("fld1; fldpi");
	GUEST_SYNC(1);
	memset(&v, 0, sizeof(v));
	store_vectors(&v, use_avx);
	GUEST_SYNC2(2, (uintptr_t)&v);
}

/* State of all that the host has is taken whatever CPUID the vCPU has: none yet, or an empty one */
static void test_before_cpuid(void)
{
	struct kvm_xsave *a = aligned_alloc(64, PAGE_SIZE);
	struct kvm_cpuid2 none = { 0 };
	struct kvm_cpuid_entry2 *leaf;
	uint8_t *area = (void *)a->region;
	uint64_t all;

	vm = vm_create(0);
	leaf = cpuid_find(vm->cpuid, 0xd, 0);
	if (!leaf)
		SKIP("no XSAVE");
	/* those of the plain format, in the first page */
	all = leaf->eax & 7;
	vcpu = vcpu_create(vm, 0);
	VCPU_IOCTL(vcpu, KVM_GET_XSAVE, a);
	memcpy(area + 512, &all, sizeof(all));
	VCPU_IOCTL(vcpu, KVM_SET_XSAVE, a);
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, &none);
	VCPU_IOCTL(vcpu, KVM_SET_XSAVE, a);
}

/* XSAVE area: legacy 512 bytes, header, extended part at 576 */
static void test_get_set(void)
{
	struct kvm_xsave *a = aligned_alloc(64, PAGE_SIZE), *b = aligned_alloc(64, PAGE_SIZE);
	uint8_t *area = (void *)a->region;
	struct vectors v;
	struct ucall uc;
	uint64_t xstate_bv;

	vm = vm_create(0);
	use_avx = guest_has_avx();
	vcpu = vcpu_add(vm, 0, guest_once, 9);
	if (use_avx)
		enable_avx(vcpu);
	vcpu_run_sync(vcpu, 1);
	VCPU_IOCTL(vcpu, KVM_GET_XSAVE, a);
	fill(&v, 9, use_avx);
	ASSERT_EQ(*(uint16_t *)area, v.fcw);
	ASSERT_EQ(*(uint32_t *)(area + 24), v.mxcsr);
	for (unsigned int r = 0; r < 16; r++)
		ASSERT(!memcmp(area + 160 + 16 * r, v.ymm[r], 16));
	memcpy(&xstate_bv, area + 512, 8);
	ASSERT_EQ(xstate_bv & 3, 3);
	if (use_avx) {
		ASSERT_EQ(xstate_bv & 4, 4);
		for (unsigned int r = 0; r < 16; r++)
			ASSERT(!memcmp(area + 576 + 16 * r, v.ymm[r] + 16, 16));
	}
	/* Set the same: read back the same */
	VCPU_IOCTL(vcpu, KVM_SET_XSAVE, a);
	VCPU_IOCTL(vcpu, KVM_GET_XSAVE, b);
	ASSERT(!memcmp(a, b, 832));
	/* Others: the guest sees them */
	fill(&v, 77, use_avx);
	*(uint32_t *)(area + 24) = v.mxcsr;
	*(uint16_t *)area = v.fcw;
	for (unsigned int r = 0; r < 16; r++) {
		memcpy(area + 160 + 16 * r, v.ymm[r], 16);
		if (use_avx)
			memcpy(area + 576 + 16 * r, v.ymm[r] + 16, 16);
	}
	VCPU_IOCTL(vcpu, KVM_SET_XSAVE, a);
	ASSERT_EQ(vcpu_run_ucall(vcpu, &uc), UCALL_SYNC);
	ASSERT(same(&v, vm_hva(vm, uc.arg[1])));
	/* A header with components that do not exist, a reserved MXCSR bit */
	VCPU_IOCTL(vcpu, KVM_GET_XSAVE, a);
	area[512 + 7] |= 0x80;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_XSAVE, a), EINVAL);
	VCPU_IOCTL(vcpu, KVM_GET_XSAVE, a);
	area[27] = 0xff;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_XSAVE, a), EINVAL);
	vcpu_run_done(vcpu);
	/* XSAVE2 gives the same */
	if (vm_cap(vm, KVM_CAP_XSAVE2) > 0) {
		size_t size = vm_cap(vm, KVM_CAP_XSAVE2);
		void *big = aligned_alloc(64, (size + 4095) & ~4095ul);

		ASSERT_GE(size, 4096);
		VCPU_IOCTL(vcpu, KVM_GET_XSAVE, a);
		VCPU_IOCTL(vcpu, KVM_GET_XSAVE2, big);
		ASSERT(!memcmp(a, big, 832));
	}
}

/* The state goes to another vCPU of another VM */
static void test_move(void)
{
	struct kvm_xsave *xsave = aligned_alloc(64, PAGE_SIZE);
	struct kvm_xcrs xcrs;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct vectors v;
	struct ucall uc;
	struct vm *vm2;
	struct vcpu *vcpu2;

	vm = vm_create(0);
	use_avx = guest_has_avx();
	vcpu = vcpu_add(vm, 0, guest_once, 33);
	if (use_avx)
		enable_avx(vcpu);
	vcpu_run_sync(vcpu, 1);
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_XSAVE, xsave);
	if (use_avx)
		VCPU_IOCTL(vcpu, KVM_GET_XCRS, &xcrs);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	vm2 = vm_create(0);
	vm_del_slot(vm2, 0);
	vm_add_slot(vm2, 0, 0, 0, LOW_MEM_SIZE, vm_hva(vm, 0));
	vcpu2 = vcpu_create(vm2, 0);
	vcpu_set_cpuid(vcpu2);
	VCPU_IOCTL(vcpu2, KVM_SET_SREGS, &sregs);
	VCPU_IOCTL(vcpu2, KVM_SET_REGS, &regs);
	if (use_avx)
		VCPU_IOCTL(vcpu2, KVM_SET_XCRS, &xcrs);
	VCPU_IOCTL(vcpu2, KVM_SET_XSAVE, xsave);
	ASSERT_EQ(vcpu_run_ucall(vcpu2, &uc), UCALL_SYNC);
	fill(&v, 33, use_avx);
	ASSERT(same(&v, vm_hva(vm2, uc.arg[1])));
	vcpu_run_done(vcpu2);
}

static void guest_xcr(uint64_t arg)
{
	GUEST_ASSERT_EQ(xgetbv(), 1ull);
	xsetbv(3);
	/* where XSETBV is not intercepted the next interrupt of the host takes it back: the host looks first */
	GUEST_SYNC(1);
	GUEST_ASSERT_EQ(xgetbv(), 3ull);
	/* what may not be */
	GUEST_ASSERT_EQ(xsetbv_safe(0), GP_VECTOR);		/* x87 is not optional */
	GUEST_ASSERT_EQ(xsetbv_safe(2), GP_VECTOR);
	GUEST_ASSERT_EQ(xsetbv_safe(5), GP_VECTOR);		/* AVX without SSE */
	GUEST_ASSERT_EQ(xsetbv_safe(BIT(63) | 3), GP_VECTOR);
	GUEST_ASSERT_EQ(xsetbv_safe(BIT(40) | 3), GP_VECTOR);
	GUEST_ASSERT_EQ(GUEST_SAFE_ASM("xsetbv", NULL, , "c"(1), "a"(1), "d"(0)), GP_VECTOR);
	GUEST_ASSERT_EQ(xgetbv(), 3ull);
	/* CPUID shows the size of what is enabled */
	GUEST_ASSERT_EQ(guest_cpuid(0xd, 0).ebx, 576u);
	if (use_avx) {
		xsetbv(7);
		GUEST_ASSERT(guest_cpuid(0xd, 0).ebx >= 832);
	}
	/* CPUID's OSXSAVE follows CR4 */
	GUEST_ASSERT(guest_cpuid(1, 0).ecx & BIT(27));
	GUEST_WRREG(cr4, GUEST_RDREG(cr4) & ~CR4_OSXSAVE);
	GUEST_ASSERT(!(guest_cpuid(1, 0).ecx & BIT(27)));
	GUEST_ASSERT_EQ(xsetbv_safe(3), UD_VECTOR);
}

static void test_xcr(void)
{
	struct kvm_xcrs xcrs;

	vm = vm_create(0);
	use_avx = guest_has_avx();
	if (!(cpuid_find(vm->cpuid, 1, 0)->ecx & BIT(26)))
		SKIP("no XSAVE");
	vcpu = vcpu_add(vm, 0, guest_xcr, 0);
	VCPU_IOCTL(vcpu, KVM_GET_XCRS, &xcrs);
	ASSERT_EQ(xcrs.nr_xcrs, 1);
	ASSERT_EQ(xcrs.xcrs[0].xcr, 0);
	ASSERT_EQ(xcrs.xcrs[0].value, 1);
	vcpu_run_sync(vcpu, 1);
	VCPU_IOCTL(vcpu, KVM_GET_XCRS, &xcrs);
	if (xcrs.xcrs[0].value == 1)
		SKIP("the CPU does not intercept XSETBV");
	ASSERT_EQ(xcrs.xcrs[0].value, 3);
	xcrs.xcrs[0].value = 2;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs), EINVAL);
	xcrs.xcrs[0].value = 3;
	xcrs.nr_xcrs = 1000;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs), EINVAL);
	xcrs.nr_xcrs = 1;
	xcrs.flags = 1;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs), EINVAL);
	xcrs.flags = 0;
	VCPU_IOCTL(vcpu, KVM_SET_XCRS, &xcrs);
	vcpu_run_done(vcpu);
}

/* The host's register is as before, whatever the guest wrote, intercepted or not */
static void guest_xsetbv(uint64_t arg)
{
	xsetbv(1);
	GUEST_SYNC(1);
	xsetbv(3);
	for (int i = 0; i < 100000; i++)
		cpu_relax();
	GUEST_SYNC(1);
}

static void test_host_xcr(void)
{
	uint64_t before;

	vm = vm_create(0);
	if (!(cpuid_find(vm->cpuid, 1, 0)->ecx & BIT(26)))
		SKIP("no XSAVE");
	before = xgetbv();
	vcpu = vcpu_add(vm, 0, guest_xsetbv, 0);
	for (int i = 0; i < 2; i++) {
		vcpu_run_sync(vcpu, 1);
		ASSERT_EQ(xgetbv(), before);
	}
	vcpu_run_done(vcpu);
	ASSERT_EQ(xgetbv(), before);
}

/* A lazy guest: CR0.TS makes the first use fault, as its kernel wants it */
static volatile uint32_t nm;

static void on_nm(struct guest_regs *regs)
{
	nm++;
	__asm__ volatile("clts");
}

static void guest_ts(uint64_t arg)
{
	guest_handlers[7] = on_nm;
	GUEST_WRREG(cr0, GUEST_RDREG(cr0) | CR0_TS);
	GUEST_SYNC(1);
	GUEST_ASSERT_EQ(nm, 0u);
	__asm__ volatile("pxor %xmm0, %xmm0");
	GUEST_ASSERT_EQ(nm, 1u);
	GUEST_ASSERT(!(GUEST_RDREG(cr0) & CR0_TS));
	/* CR0.EM: no x87 at all */
	GUEST_WRREG(cr0, GUEST_RDREG(cr0) | CR0_EM);
	__asm__ volatile("fninit" : : : "memory");
	GUEST_ASSERT_EQ(nm, 2u);
}

static void on_nm_em(struct guest_regs *regs)
{
	nm++;
	GUEST_WRREG(cr0, GUEST_RDREG(cr0) & ~(CR0_TS | CR0_EM));
}

static void test_task_switched(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_ts, 0);
	vcpu_run_sync(vcpu, 1);
	guest_handlers[7] = on_nm_em;
	vcpu_run_done(vcpu);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(vcpus),
		TEST(host),
		TEST(get_set),
		TEST(before_cpuid),
		TEST(move),
		TEST(xcr),
		TEST(host_xcr),
		TEST(task_switched),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
