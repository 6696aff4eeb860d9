// SPDX-License-Identifier: GPL-2.0
/*
 * The registers of CPUID whose bits are features, and what these are called:
 * as in the guest's /proc/cpuinfo where they are there.
 */
#include <stdio.h>
#include <string.h>
#include <linux/kvm_para.h>

#include "vmm.h"

#define NAME_MAX_LEN	24

enum reg { EAX, EBX, ECX, EDX };

static const char * const regs[] = { "EAX", "EBX", "ECX", "EDX" };

static const struct word {
	u32 function, index;
	enum reg reg;
	const char *names;	/* "bit:name bit:name" */
} words[] = {
	{ 0x1, 0, ECX, "0:sse3 1:pclmulqdq 2:dtes64 3:monitor 4:ds_cpl 5:vmx 6:smx 7:est 8:tm2 9:ssse3 12:fma 13:cx16 15:pdcm 17:pcid 18:dca 19:sse4_1 20:sse4_2 21:x2apic 22:movbe 23:popcnt 24:tsc_deadline_timer 25:aes 26:xsave 27:osxsave 28:avx 29:f16c 30:rdrand 31:hypervisor" },
	{ 0x1, 0, EDX, "0:fpu 1:vme 2:de 3:pse 4:tsc 5:msr 6:pae 7:mce 8:cx8 9:apic 11:sep 12:mtrr 13:pge 14:mca 15:cmov 16:pat 17:pse36 18:pn 19:clflush 21:dts 22:acpi 23:mmx 24:fxsr 25:sse 26:sse2 27:ss 28:ht 29:tm 31:pbe" },
	{ 0x7, 0, EBX, "0:fsgsbase 1:tsc_adjust 2:sgx 3:bmi1 4:hle 5:avx2 6:fdp_excptn_only 7:smep 8:bmi2 9:erms 10:invpcid 11:rtm 12:cqm 13:zero_fcs_fds 14:mpx 15:rdt_a 16:avx512f 17:avx512dq 18:rdseed 19:adx 20:smap 21:avx512ifma 23:clflushopt 24:clwb 25:intel_pt 26:avx512pf 27:avx512er 28:avx512cd 29:sha_ni 30:avx512bw 31:avx512vl" },
	{ 0x7, 0, ECX, "1:avx512vbmi 2:umip 3:pku 4:ospke 5:waitpkg 6:avx512_vbmi2 8:gfni 9:vaes 10:vpclmulqdq 11:avx512_vnni 12:avx512_bitalg 14:avx512_vpopcntdq 16:la57 22:rdpid 24:bus_lock_detect 25:cldemote 27:movdiri 28:movdir64b" },
	{ 0x7, 0, EDX, "2:avx512_4vnniw 3:avx512_4fmaps 4:fsrm 8:avx512_vp2intersect 10:md_clear 14:serialize 16:tsxldtrk 22:amx_bf16 23:avx512_fp16 24:amx_tile 25:amx_int8 26:spec_ctrl 27:intel_stibp 28:flush_l1d 29:arch_capabilities 31:spec_ctrl_ssbd" },
	{ 0x7, 1, EAX, "0:sha512 1:sm3 2:sm4 4:avx_vnni 5:avx512_bf16 7:cmpccxadd 10:fzrm 11:fsrs 12:fsrc 23:avx_ifma" },
	{ 0x7, 1, EDX, "4:avx_vnni_int8 5:avx_ne_convert 10:avx_vnni_int16 14:prefetchi" },
	{ 0xd, 0, EAX, "0:x87_state 1:sse_state 2:avx_state 5:opmask_state 6:zmm_hi_state 7:hi_zmm_state 9:pkru_state" },
	{ 0xd, 1, EAX, "0:xsaveopt 1:xsavec 2:xgetbv1 3:xsaves" },
	{ KVM_CPUID_FEATURES, 0, EAX, "0:kvmclock 1:no-io-delay 3:kvmclock2 4:async-pf 5:steal-time 6:pv-eoi 7:pv-unhalt 9:pv-tlb-flush 11:pv-ipi 12:poll-control 13:pv-sched-yield 24:kvmclock-stable" },
	{ 0x80000001, 0, ECX, "0:lahf_lm 1:cmp_legacy 2:svm 3:extapic 4:cr8_legacy 5:abm 6:sse4a 7:misalignsse 8:3dnowprefetch 9:osvw 10:ibs 11:xop 12:skinit 13:wdt 15:lwp 16:fma4 21:tbm 22:topoext 23:perfctr_core" },
	{ 0x80000001, 0, EDX, "11:syscall 19:mp 20:nx 22:mmxext 25:fxsr_opt 26:pdpe1gb 27:rdtscp 29:lm 30:3dnowext 31:3dnow" },
	{ 0x80000007, 0, EDX, "8:invariant_tsc" },
	{ 0x80000008, 0, EBX, "0:clzero 1:irperf 2:xsaveerptr 4:rdpru 9:wbnoinvd 12:ibpb 14:ibrs 15:stibp 17:stibp_always_on 24:amd_ssbd 25:virt_ssbd 26:ssb_no 28:psfd 30:ibpb_ret" },
	{ 0x80000021, 0, EAX, "0:no_nested_data_bp 2:lfence_serializing 5:verw_clear 6:null_sel_clr_base 8:autoibrs 9:no_smm_ctl 27:sbpb 28:ibpb_brtype 29:srso_no 30:srso_user_no" },
	{ 0x80000021, 0, ECX, "1:tsa_sq_no 2:tsa_l1_no" },
};

_Static_assert(ARRAY_SIZE(words) == CPUID_WORDS, "one word each");

static u32 *reg_of(struct kvm_cpuid_entry2 *e, enum reg reg)
{
	return reg == EAX ? &e->eax : reg == EBX ? &e->ebx :
	       reg == ECX ? &e->ecx : &e->edx;
}

u32 cpuid_word(const struct kvm_cpuid2 *cpuid, unsigned int word)
{
	const struct kvm_cpuid_entry2 *e;
	struct kvm_cpuid_entry2 copy;

	e = cpuid_find(cpuid, words[word].function, words[word].index);
	if (!e)
		return 0;
	copy = *e;
	return *reg_of(&copy, words[word].reg);
}

/* Puts the words of @e's leaf into it. */
void cpuid_put_words(struct kvm_cpuid_entry2 *e, const u32 word[CPUID_WORDS])
{
	unsigned int i;

	for (i = 0; i < CPUID_WORDS; i++)
		if (words[i].function == e->function &&
		    words[i].index == e->index)
			*reg_of(e, words[i].reg) = word[i];
}

/* "0x7.0:EBX" */
void cpuid_word_name(unsigned int word, char *buf, size_t len)
{
	const struct word *w = &words[word];

	snprintf(buf, len, "0x%x.%u:%s", w->function, w->index, regs[w->reg]);
}

/* The next of a word's names; false: there are no more. */
static bool next_name(const char **at, unsigned int *bit, char name[NAME_MAX_LEN])
{
	int used;

	if (sscanf(*at, "%u:%23s%n", bit, name, &used) != 2)
		return false;
	*at += used;
	return true;
}

/* "avx2", or "0x7.0:EBX[6]" of one without a name. */
void cpuid_bit_name(unsigned int word, unsigned int bit, char *buf, size_t len)
{
	const char *at = words[word].names;
	char name[NAME_MAX_LEN];
	unsigned int nr;

	while (next_name(&at, &nr, name))
		if (nr == bit) {
			snprintf(buf, len, "%s", name);
			return;
		}
	cpuid_word_name(word, name, sizeof(name));
	snprintf(buf, len, "%s[%u]", name, bit);
}

/* Sets a feature by its name; false: there is none of that name. */
bool cpuid_set_bit(u32 word[CPUID_WORDS], const char *name)
{
	char other[NAME_MAX_LEN];
	unsigned int i, nr;
	const char *at;

	for (i = 0; i < CPUID_WORDS; i++) {
		at = words[i].names;
		while (next_name(&at, &nr, other))
			if (!strcmp(name, other)) {
				word[i] |= 1u << nr;
				return true;
			}
	}
	return false;
}

/* What this program sets whatever the host says, see cpuid.c. */
u32 cpuid_set_by_us(unsigned int word)
{
	const struct word *w = &words[word];

	switch (w->function) {
	case 0x1:
		/* hypervisor, OSXSAVE, TSC deadline; HTT */
		return w->reg == ECX ? 1u << 31 | 1u << 27 | 1u << 24 : 1u << 28;
	case 0x7:
		return w->reg == ECX ? 1u << 4 : 0;	/* OSPKE */
	case 0x80000001:
		return w->reg == ECX ? 1u << 1 : 0;	/* CmpLegacy */
	default:
		return 0;
	}
}
