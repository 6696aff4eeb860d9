// SPDX-License-Identifier: GPL-2.0
/*
 * cpuid_host.c - what CPUs this host can offer to guests:
 *  1. the host's CPUID, less what the host kernel switched off, less what
 *     pvhv does not virtualize,
 *  2. KVM_GET_SUPPORTED_CPUID and KVM_GET_EMULATED_CPUID.
 */
#define pr_fmt(fmt) "pvhv: " fmt

#include <linux/mm.h>
#include <linux/sched/stat.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/fpu/xcr.h>
#include <asm/processor.h>

#include "cpuid.h"
#include "pvhv.h"

#define XSAVE_LEGACY	512
#define XSAVE_HEADER	64

/* What leaf 1 and leaf 0x80000001 share in edx. */
#define COMMON_EDX (F(FPU) | F(VME) | F(DE) | F(PSE) | F(TSC) | F(MSR) |	\
		    F(PAE) | F(MCE) | F(CX8) | F(APIC) | F(MTRR) | F(PGE) |	\
		    F(MCA) | F(CMOV) | F(PAT) | F(PSE36) | F(MMX) | F(FXSR))

/*
 * Left out on purpose: MONITOR and WAITPKG (they exit and are skipped), MPX,
 * PMU, debug store, IBS, tracing, resource control (not virtualized), nested
 * SVM and VMX, SGX, SEV, CET, AMX (no XFD), LAM, FRED, bus lock detection.
 */
const struct pvhv_cpuid_row_desc pvhv_cpuid_rows[PVHV_CPUID_ROWS] = {
	[R_1_ECX] = { 1, 0, ECX, CPUID_1_ECX,
		F(XMM3) | F(PCLMULQDQ) | F(SSSE3) | F(FMA) | F(CX16) |
		F(PCID) | F(XMM4_1) | F(XMM4_2) | F(MOVBE) | F(POPCNT) |
		F(AES) | F(XSAVE) | F(AVX) | F(F16C) | F(RDRAND) },
	[R_1_EDX] = { 1, 0, EDX, CPUID_1_EDX,
		COMMON_EDX | F(SEP) | F(CLFLUSH) | F(XMM) | F(XMM2) |
		F(SELFSNOOP) },
	[R_7_EBX] = { 7, 0, EBX, CPUID_7_0_EBX,
		F(FSGSBASE) | F(BMI1) | F(HLE) | F(AVX2) | BIT(6) | F(SMEP) |
		F(BMI2) | F(ERMS) | F(INVPCID) | F(RTM) | BIT(13) |
		F(AVX512F) | F(AVX512DQ) | F(RDSEED) | F(ADX) | F(SMAP) |
		F(AVX512IFMA) | F(CLFLUSHOPT) | F(CLWB) | F(AVX512PF) |
		F(AVX512ER) | F(AVX512CD) | F(SHA_NI) | F(AVX512BW) |
		F(AVX512VL) },
	[R_7_ECX] = { 7, 0, ECX, CPUID_7_ECX,
		F(AVX512VBMI) | F(UMIP) | F(PKU) | F(AVX512_VBMI2) | F(GFNI) |
		F(VAES) | F(VPCLMULQDQ) | F(AVX512_VNNI) | F(AVX512_BITALG) |
		F(AVX512_VPOPCNTDQ) | F(LA57) | F(RDPID) | F(CLDEMOTE) |
		F(MOVDIRI) | F(MOVDIR64B) },
	[R_7_EDX] = { 7, 0, EDX, CPUID_7_EDX,
		F(AVX512_4VNNIW) | F(AVX512_4FMAPS) | F(FSRM) |
		F(AVX512_VP2INTERSECT) | F(MD_CLEAR) | F(SERIALIZE) |
		F(TSXLDTRK) | F(AVX512_FP16) | F(SPEC_CTRL) |
		F(INTEL_STIBP) | F(FLUSH_L1D) | F(SPEC_CTRL_SSBD) },
	[R_7_1_EAX] = { 7, 1, EAX, CPUID_7_1_EAX,
		BIT(0) /* SHA512 */ | BIT(1) /* SM3 */ | BIT(2) /* SM4 */ |
		F(AVX_VNNI) | F(AVX512_BF16) | BIT(7) /* CMPCCXADD */ |
		BIT(10) | BIT(11) | BIT(12) /* FZRM, FSRS, FSRC */ |
		BIT(23) /* AVX_IFMA */ },
	[R_7_1_EDX] = { 7, 1, EDX, PVHV_NO_WORD,
		BIT(4) | BIT(5) /* AVX_VNNI_INT8, AVX_NE_CONVERT */ |
		BIT(10) /* AVX_VNNI_INT16 */ | BIT(14) /* PREFETCHI */ },
	[R_D_1_EAX] = { 0xd, 1, EAX, CPUID_D_1_EAX,
		F(XSAVEOPT) | F(XSAVEC) | F(XGETBV1) | F(XSAVES) },
	[R_EXT1_ECX] = { 0x80000001, 0, ECX, CPUID_8000_0001_ECX,
		F(LAHF_LM) | F(CR8_LEGACY) | F(ABM) | F(SSE4A) |
		F(MISALIGNSSE) | F(3DNOWPREFETCH) | F(OSVW) | F(XOP) |
		F(FMA4) | F(TBM) | F(TOPOEXT) },
	[R_EXT1_EDX] = { 0x80000001, 0, EDX, CPUID_8000_0001_EDX,
		COMMON_EDX | F(SYSCALL) | F(NX) | F(MMXEXT) | F(FXSR_OPT) |
		F(GBPAGES) | F(RDTSCP) | F(LM) | F(3DNOWEXT) | F(3DNOW) },
	[R_EXT8_EBX] = { 0x80000008, 0, EBX, CPUID_8000_0008_EBX,
		F(CLZERO) | F(XSAVEERPTR) | F(WBNOINVD) | F(AMD_IBPB) |
		F(AMD_IBRS) | F(AMD_STIBP) | F(AMD_STIBP_ALWAYS_ON) |
		F(AMD_SSBD) | F(AMD_SSB_NO) | BIT(28) /* PSFD */ |
		BIT(30) /* IBPB_RET */ },
	[R_EXT21_EAX] = { 0x80000021, 0, EAX, PVHV_NO_WORD,
		EXT21_NO_NESTED_DATA_BP | EXT21_LFENCE_SERIALIZES |
		EXT21_VERW_CLEAR | EXT21_NULL_SEL_CLR_BASE | EXT21_AUTOIBRS |
		EXT21_NO_SMM_CTL_MSR | EXT21_SBPB | EXT21_IBPB_BRTYPE |
		EXT21_SRSO_NO | EXT21_SRSO_USER_NO },
	[R_EXT21_ECX] = { 0x80000021, 0, ECX, PVHV_NO_WORD,
		EXT21_TSA_SQ_NO | EXT21_TSA_L1_NO },
};

#define PV_FEATURES (BIT(KVM_FEATURE_CLOCKSOURCE) |			\
		     BIT(KVM_FEATURE_NOP_IO_DELAY) |			\
		     BIT(KVM_FEATURE_CLOCKSOURCE2) |			\
		     BIT(KVM_FEATURE_PV_EOI) |				\
		     BIT(KVM_FEATURE_PV_UNHALT) |			\
		     BIT(KVM_FEATURE_PV_SEND_IPI) |			\
		     BIT(KVM_FEATURE_POLL_CONTROL) |			\
		     BIT(KVM_FEATURE_PV_SCHED_YIELD) |			\
		     BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT))
/* Both live in the steal-time record, which wants the scheduler's figures. */
#define PV_STEAL_FEATURES (BIT(KVM_FEATURE_STEAL_TIME) |		\
			   BIT(KVM_FEATURE_PV_TLB_FLUSH))

/* Written once by pvhv_cpuid_init(). */
u32 pvhv_cpuid_caps[PVHV_CPUID_ROWS];
static u32 max_basic, max_ext;
static u64 supported_xcr0;
static struct {
	u32 size, offset;
	bool aligned;
} xstate[64];

/* ------------------------------------------------ what the host offers -- */

static void host_cpuid(struct kvm_cpuid_entry2 *e, u32 fn, u32 index)
{
	memset(e, 0, sizeof(*e));
	e->function = fn;
	e->index = index;
	/* Beyond its last leaf an Intel CPU repeats that one: not data. */
	if (fn > ((fn & 0x80000000) ? max_ext : max_basic))
		return;
	cpuid_count(fn, index, &e->eax, &e->ebx, &e->ecx, &e->edx);
}

u32 pvhv_cpuid_reg(const struct kvm_cpuid_entry2 *e, u8 reg)
{
	switch (reg) {
	case EAX:
		return e->eax;
	case EBX:
		return e->ebx;
	case ECX:
		return e->ecx;
	default:
		return e->edx;
	}
}

int pvhv_cpuid_row(unsigned int feature)
{
	unsigned int i;

	for (i = 0; i < PVHV_CPUID_ROWS; i++)
		if (pvhv_cpuid_rows[i].word == feature / 32)
			return i;
	return -1;
}

bool pvhv_cpuid_offers(unsigned int feature)
{
	int row = pvhv_cpuid_row(feature);

	return row >= 0 && (pvhv_cpuid_caps[row] & BIT(feature & 31));
}

/* Speculation controls: AMD's and Intel's bits name the same MSRs. */
static void init_speculation_caps(void)
{
	if (boot_cpu_has(X86_FEATURE_IBPB) && boot_cpu_has(X86_FEATURE_IBRS))
		pvhv_cpuid_caps[R_7_EDX] |= F(SPEC_CTRL);
	if (boot_cpu_has(X86_FEATURE_STIBP))
		pvhv_cpuid_caps[R_7_EDX] |= F(INTEL_STIBP);
	if (boot_cpu_has(X86_FEATURE_AMD_SSBD))
		pvhv_cpuid_caps[R_7_EDX] |= F(SPEC_CTRL_SSBD);

	if (boot_cpu_has(X86_FEATURE_IBPB))
		pvhv_cpuid_caps[R_EXT8_EBX] |= F(AMD_IBPB);
	if (boot_cpu_has(X86_FEATURE_IBRS))
		pvhv_cpuid_caps[R_EXT8_EBX] |= F(AMD_IBRS);
	if (boot_cpu_has(X86_FEATURE_STIBP))
		pvhv_cpuid_caps[R_EXT8_EBX] |= F(AMD_STIBP);
	if (boot_cpu_has(X86_FEATURE_SPEC_CTRL_SSBD))
		pvhv_cpuid_caps[R_EXT8_EBX] |= F(AMD_SSBD);
	if (!boot_cpu_has_bug(X86_BUG_SPEC_STORE_BYPASS))
		pvhv_cpuid_caps[R_EXT8_EBX] |= F(AMD_SSB_NO);
}

static void init_xstate(void)
{
	struct kvm_cpuid_entry2 e;
	unsigned int i;

	if (!(pvhv_cpuid_caps[R_1_ECX] & F(XSAVE)))
		return;
	host_cpuid(&e, 0xd, 0);
	supported_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK) &
			 (e.eax | (u64)e.edx << 32) &
			 (XFEATURE_MASK_FPSSE | XFEATURE_MASK_YMM |
			  XFEATURE_MASK_AVX512 | XFEATURE_MASK_PKRU);
	if (!(pvhv_cpuid_caps[R_7_ECX] & F(PKU)))
		supported_xcr0 &= ~XFEATURE_MASK_PKRU;
	for (i = 2; i < 64; i++) {
		if (!(supported_xcr0 & BIT_ULL(i)))
			continue;
		host_cpuid(&e, 0xd, i);
		xstate[i].size = e.eax;
		xstate[i].offset = e.ebx;
		xstate[i].aligned = e.ecx & BIT(1);
	}
}

int pvhv_cpuid_init(void)
{
	struct kvm_cpuid_entry2 e;
	unsigned int i;

	max_basic = cpuid_eax(0);
	max_ext = cpuid_eax(0x80000000);
	if (max_ext < 0x80000001 || max_ext > 0x8000ffff) {
		pr_err("this CPU has no extended CPUID leaves\n");
		return -ENODEV;
	}
	for (i = 0; i < PVHV_CPUID_ROWS; i++) {
		host_cpuid(&e, pvhv_cpuid_rows[i].fn, pvhv_cpuid_rows[i].index);
		pvhv_cpuid_caps[i] = pvhv_cpuid_rows[i].offered & pvhv_cpuid_reg(&e, pvhv_cpuid_rows[i].reg);
		if (pvhv_cpuid_rows[i].word != PVHV_NO_WORD)
			pvhv_cpuid_caps[i] &= boot_cpu_data.x86_capability[pvhv_cpuid_rows[i].word];
	}

	/* What pvhv provides by itself, whatever the host has. */
	pvhv_cpuid_caps[R_1_ECX] |= F(X2APIC) | F(HYPERVISOR);
	pvhv_cpuid_caps[R_7_EBX] |= F(TSC_ADJUST);
	pvhv_cpuid_caps[R_7_EDX] |= F(ARCH_CAPABILITIES);
	if (!boot_cpu_has(X86_FEATURE_OSPKE))
		pvhv_cpuid_caps[R_7_ECX] &= ~F(PKU);
	/* Needs no help of the host kernel: it is the guest's own paging. */
	if (cpuid_ecx(7) & F(LA57) && max_basic >= 7)
		pvhv_cpuid_caps[R_7_ECX] |= F(LA57);
	if (boot_cpu_has(X86_FEATURE_LFENCE_RDTSC))
		pvhv_cpuid_caps[R_EXT21_EAX] |= EXT21_LFENCE_SERIALIZES;
	if (!boot_cpu_has_bug(X86_BUG_NULL_SEG))
		pvhv_cpuid_caps[R_EXT21_EAX] |= EXT21_NULL_SEL_CLR_BASE;
	pvhv_cpuid_caps[R_EXT21_EAX] |= EXT21_NO_SMM_CTL_MSR;
	init_speculation_caps();
	init_xstate();
	return 0;
}

u64 pvhv_supported_xcr0(void)
{
	return supported_xcr0;
}

u32 pvhv_xstate_size(u64 features, bool compacted)
{
	u32 size = XSAVE_LEGACY + XSAVE_HEADER;
	unsigned int i;

	for (features >>= 2, i = 2; features; features >>= 1, i++) {
		u32 offset = xstate[i].offset;

		if (!(features & 1))
			continue;
		if (compacted)
			offset = xstate[i].aligned ? ALIGN(size, 64) : size;
		size = max(size, offset + xstate[i].size);
	}
	return size;
}

/* ------------------------------------------- KVM_GET_SUPPORTED_CPUID -- */

struct cpuid_list {
	struct kvm_cpuid_entry2 *entries;
	unsigned int nr;
};

/* The list has room for PVHV_MAX_CPUID; no host comes near that. */
static struct kvm_cpuid_entry2 *add_leaf(struct cpuid_list *l, u32 fn,
					 u32 index, bool indexed)
{
	struct kvm_cpuid_entry2 *e;

	if (l->nr == PVHV_MAX_CPUID)
		return NULL;
	e = &l->entries[l->nr++];
	host_cpuid(e, fn, index);
	if (indexed)
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	return e;
}

static void clear_regs(struct kvm_cpuid_entry2 *e)
{
	e->eax = 0;
	e->ebx = 0;
	e->ecx = 0;
	e->edx = 0;
}

/* Cache descriptions: one index per cache, the last one is of type "none". */
static int add_caches(struct cpuid_list *l, u32 fn,
			   struct kvm_cpuid_entry2 *e)
{
	u32 i;

	for (i = 1; e->eax & 0x1f; i++) {
		e = add_leaf(l, fn, i, true);
		if (!e)
			return -E2BIG;
	}
	return 0;
}

static int add_xsave(struct cpuid_list *l, struct kvm_cpuid_entry2 *e)
{
	unsigned int i;

	if (!supported_xcr0) {
		clear_regs(e);
		return 0;
	}
	e->eax = supported_xcr0;
	e->edx = supported_xcr0 >> 32;
	e->ebx = pvhv_xstate_size(supported_xcr0, false);
	e->ecx = e->ebx;

	e = add_leaf(l, 0xd, 1, true);
	if (!e)
		return -E2BIG;
	clear_regs(e);
	e->eax = pvhv_cpuid_caps[R_D_1_EAX];
	if (e->eax & (F(XSAVEC) | F(XSAVES)))
		e->ebx = pvhv_xstate_size(supported_xcr0, true);

	for (i = 2; i < 64; i++) {
		if (!(supported_xcr0 & BIT_ULL(i)))
			continue;
		e = add_leaf(l, 0xd, i, true);
		if (!e)
			return -E2BIG;
		e->ecx &= BIT(1);	/* no supervisor state, no XFD */
		e->edx = 0;
	}
	return 0;
}

static int add_basic(struct cpuid_list *l, u32 fn)
{
	bool indexed = fn == 4 || fn == 7 || fn == 0xb || fn == 0xd || fn == 0x1f;
	struct kvm_cpuid_entry2 *e = add_leaf(l, fn, 0, indexed);

	if (!e)
		return -E2BIG;
	switch (fn) {
	case 0:
		e->eax = min(e->eax, 0x1fU);
		return 0;
	case 1:
		/* The APIC ID and the thread count are the VMM's to say. */
		e->ebx &= 0xffff;
		e->ecx = pvhv_cpuid_caps[R_1_ECX];
		e->edx = pvhv_cpuid_caps[R_1_EDX];
		return 0;
	case 2:
		return 0;
	case 4:
		return add_caches(l, fn, e);
	case 6:
		clear_regs(e);
		e->eax = BIT(2);	/* ARAT: the LAPIC timer never stops */
		return 0;
	case 7:
		e->eax = min(e->eax, 1U);
		e->ebx = pvhv_cpuid_caps[R_7_EBX];
		e->ecx = pvhv_cpuid_caps[R_7_ECX];
		e->edx = pvhv_cpuid_caps[R_7_EDX];
		if (!e->eax)
			return 0;
		e = add_leaf(l, 7, 1, true);
		if (!e)
			return -E2BIG;
		e->eax = pvhv_cpuid_caps[R_7_1_EAX];
		e->edx = pvhv_cpuid_caps[R_7_1_EDX];
		e->ebx = 0;
		e->ecx = 0;
		return 0;
	case 0xd:
		return add_xsave(l, e);
	default:
		/*
		 * Among these: 0xb and 0x1f (the topology is the VMM's), 0xa
		 * (no PMU), 0x15 and 0x16 (a guest would take the crystal's
		 * frequency for the LAPIC timer's, which runs at 1 GHz).
		 */
		clear_regs(e);
		return 0;
	}
}

static void fill_address_sizes(struct kvm_cpuid_entry2 *e)
{
	u32 phys = e->eax & 0xff;
	u32 virt = max((e->eax >> 8) & 0xff, 48U);
	u32 guest_phys = (e->eax >> 16) & 0xff;

	if (!guest_phys)
		guest_phys = phys;
	/* Second-level tables have as many levels as the host's own. */
	guest_phys = min(guest_phys, pgtable_l5_enabled() ? 52U : 48U);
	e->eax = phys | virt << 8 | guest_phys << 16;
	e->ebx = pvhv_cpuid_caps[R_EXT8_EBX];
	e->ecx = 0;
	e->edx = 0;
}

static int add_ext(struct cpuid_list *l, u32 fn)
{
	bool indexed = fn == 0x8000001d;
	struct kvm_cpuid_entry2 *e = add_leaf(l, fn, 0, indexed);

	if (!e)
		return -E2BIG;
	switch (fn) {
	case 0x80000000:
		e->eax = min(e->eax, 0x80000021U);
		/* Older CPUs keep those promises without having the leaf. */
		if (e->eax >= 0x8000001d && pvhv_cpuid_caps[R_EXT21_EAX])
			e->eax = 0x80000021;
		return 0;
	case 0x80000001:
		e->ebx &= ~GENMASK(27, 16);
		e->ecx = pvhv_cpuid_caps[R_EXT1_ECX];
		e->edx = pvhv_cpuid_caps[R_EXT1_EDX];
		return 0;
	case 0x80000002 ... 0x80000006:	/* name, caches */
	case 0x80000019:		/* TLBs of 1 GiB pages */
	case 0x8000001a:		/* performance hints */
		return 0;
	case 0x80000007:
		clear_regs(e);
		e->edx = BIT(8) & boot_cpu_data.x86_power; /* invariant TSC */
		return 0;
	case 0x80000008:
		fill_address_sizes(e);
		return 0;
	case 0x8000001d:
		if (!(pvhv_cpuid_caps[R_EXT1_ECX] & F(TOPOEXT))) {
			clear_regs(e);
			return 0;
		}
		return add_caches(l, fn, e);
	case 0x80000021:
		clear_regs(e);
		e->eax = pvhv_cpuid_caps[R_EXT21_EAX];
		e->ecx = pvhv_cpuid_caps[R_EXT21_ECX];
		return 0;
	default:
		clear_regs(e);
		return 0;
	}
}

static int add_pv(struct cpuid_list *l)
{
	struct kvm_cpuid_entry2 *e;
	u32 signature[3];

	BUILD_BUG_ON(sizeof(KVM_SIGNATURE) - 1 != sizeof(signature));
	memcpy(signature, KVM_SIGNATURE, sizeof(signature));
	e = add_leaf(l, KVM_CPUID_SIGNATURE, 0, false);
	if (!e)
		return -E2BIG;
	e->eax = KVM_CPUID_FEATURES;
	e->ebx = signature[0];
	e->ecx = signature[1];
	e->edx = signature[2];

	e = add_leaf(l, KVM_CPUID_FEATURES, 0, false);
	if (!e)
		return -E2BIG;
	clear_regs(e);
	e->eax = PV_FEATURES;
	if (sched_info_on())
		e->eax |= PV_STEAL_FEATURES;
	return 0;
}

static int list_supported(struct cpuid_list *l)
{
	u32 fn, last;
	int r;

	r = add_basic(l, 0);
	last = l->entries[0].eax;
	for (fn = 1; !r && fn <= last; fn++)
		r = add_basic(l, fn);
	if (r)
		return r;

	r = add_ext(l, 0x80000000);
	if (r)
		return r;
	last = l->entries[l->nr - 1].eax;
	for (fn = 0x80000001; !r && fn <= last; fn++)
		r = add_ext(l, fn);
	if (r)
		return r;
	return add_pv(l);
}

/* Nothing here is emulated that the host lacks: three leaves without bits. */
static int list_emulated(struct cpuid_list *l)
{
	static const u32 leaves[] = { 0, 1, 7 };
	struct kvm_cpuid_entry2 *e;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(leaves); i++) {
		e = add_leaf(l, leaves[i], 0, leaves[i] == 7);
		if (!e)
			return -E2BIG;
		clear_regs(e);
	}
	l->entries[0].eax = 7;
	return 0;
}

static long get_list(unsigned long arg, int (*make)(struct cpuid_list *l))
{
	struct kvm_cpuid2 __user *user = (void __user *)arg;
	struct cpuid_list list = { };
	long r;
	u32 n;

	if (get_user(n, &user->nent))
		return -EFAULT;
	list.entries = kvcalloc(PVHV_MAX_CPUID, sizeof(*list.entries),
				GFP_KERNEL_ACCOUNT);
	if (!list.entries)
		return -ENOMEM;
	r = make(&list);
	if (r)
		goto out;
	r = -E2BIG;
	if (n < list.nr)
		goto out;
	r = -EFAULT;
	if (copy_to_user(user->entries, list.entries,
			 list.nr * sizeof(*list.entries)) ||
	    put_user(list.nr, &user->nent))
		goto out;
	r = 0;
out:
	kvfree(list.entries);
	return r;
}

long pvhv_ioctl_get_supported_cpuid(void *obj, void *data, unsigned long arg)
{
	return get_list(arg, list_supported);
}

long pvhv_ioctl_get_emulated_cpuid(void *obj, void *data, unsigned long arg)
{
	return get_list(arg, list_emulated);
}
