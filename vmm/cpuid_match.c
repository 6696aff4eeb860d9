// SPDX-License-Identifier: GPL-2.0
/*
 * Whether a guest that was started elsewhere can go on here: a pure function
 * of what it was told of its CPU and of what this host supports.  Vendor and
 * family have to agree; of features, the host may have more.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <linux/kvm_para.h>

#include "vmm.h"

#define LONGEST_NAME	32	/* of a feature, with a blank */

enum reg { EAX, EBX, ECX, EDX };

static const char * const regs[] = { "EAX", "EBX", "ECX", "EDX" };

/* Registers whose bits are features, and the names of those often missed. */
static const struct features {
	u32 function, index;
	enum reg reg;
	const char *names;	/* "bit:name bit:name" */
} features[] = {
	{ 0x1, 0, ECX, "0:sse3 9:ssse3 12:fma 13:cx16 19:sse4.1 20:sse4.2 22:movbe 23:popcnt 25:aes 26:xsave 28:avx 29:f16c 30:rdrand" },
	{ 0x1, 0, EDX, "" },
	{ 0x7, 0, EBX, "0:fsgsbase 3:bmi1 5:avx2 7:smep 8:bmi2 9:erms 10:invpcid 16:avx512f 18:rdseed 19:adx 20:smap 23:clflushopt 24:clwb 29:sha" },
	{ 0x7, 0, ECX, "2:umip 3:pku 9:vaes 10:vpclmulqdq 16:la57 22:rdpid" },
	{ 0x7, 0, EDX, "4:fsrm 26:spec-ctrl 27:stibp 31:ssbd" },
	{ 0x7, 1, EAX, "4:avx-vnni 5:avx512-bf16" },
	{ 0xd, 0, EAX, "2:avx-state 5:avx512-state 9:pkru-state" },
	{ 0xd, 1, EAX, "0:xsaveopt 1:xsavec 2:xgetbv1 3:xsaves" },
	{ KVM_CPUID_FEATURES, 0, EAX, "0:kvmclock 3:kvmclock2 4:async-pf 5:steal-time 6:pv-eoi 7:pv-unhalt 9:pv-tlb-flush 11:pv-ipi" },
	{ 0x80000001, 0, ECX, "0:lahf 5:abm 6:sse4a 8:prefetchw" },
	{ 0x80000001, 0, EDX, "11:syscall 20:nx 26:1g-pages 27:rdtscp" },
	{ 0x80000007, 0, EDX, "8:invariant-tsc" },
	{ 0x80000008, 0, EBX, "0:clzero 9:wbnoinvd 12:ibpb 14:ibrs 24:amd-ssbd" },
};

_Static_assert(ARRAY_SIZE(features) == CPUID_WORDS, "one word each");

static u32 reg_of(const struct kvm_cpuid2 *cpuid, const struct features *f)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, f->function,
						      f->index);

	if (!e)
		return 0;
	return f->reg == EAX ? e->eax : f->reg == EBX ? e->ebx :
	       f->reg == ECX ? e->ecx : e->edx;
}

/* "AuthenticAMD family 25" */
static void identity(const struct kvm_cpuid2 *cpuid, char *buf, size_t len)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0, 0);
	char vendor[13] = "no vendor";
	u32 family = 0;

	if (e) {
		memcpy(vendor, &e->ebx, 4);
		memcpy(vendor + 4, &e->edx, 4);
		memcpy(vendor + 8, &e->ecx, 4);
		vendor[12] = 0;
	}
	e = cpuid_find(cpuid, 1, 0);
	if (e) {
		family = e->eax >> 8 & 0xf;
		if (family == 0xf)
			family += e->eax >> 20 & 0xff;
	}
	snprintf(buf, len, "%s family %u", vendor, family);
}

void cpuid_sum_up(const struct kvm_cpuid2 *cpuid, struct cpuid_summary *sum)
{
	unsigned int i;

	identity(cpuid, sum->identity, sizeof(sum->identity));
	for (i = 0; i < CPUID_WORDS; i++)
		sum->word[i] = reg_of(cpuid, &features[i]);
}

/* "0x7.0:EBX" */
void cpuid_word_name(unsigned int word, char *buf, size_t len)
{
	const struct features *f = &features[word];

	snprintf(buf, len, "0x%x.%u:%s", f->function, f->index, regs[f->reg]);
}

/* What this program sets whatever the host says, see cpuid.c. */
static u32 set_by_us(const struct features *f)
{
	switch (f->function) {
	case 0x1:
		/* hypervisor, OSXSAVE, TSC deadline; HTT */
		return f->reg == ECX ? 1u << 31 | 1u << 27 | 1u << 24 : 1u << 28;
	case 0x7:
		return f->reg == ECX ? 1u << 4 : 0;	/* OSPKE */
	case 0x80000001:
		return f->reg == ECX ? 1u << 1 : 0;	/* CmpLegacy */
	default:
		return 0;
	}
}

static size_t add_name(char *line, size_t len, size_t max, unsigned int word,
		       unsigned int bit)
{
	const char *at = features[word].names;
	unsigned int nr;
	char name[24];
	int used;

	for (; sscanf(at, "%u:%23s%n", &nr, name, &used) == 2; at += used)
		if (nr == bit)
			return len + snprintf(line + len, max - len, " %s",
					      name);
	cpuid_word_name(word, name, sizeof(name));
	return len + snprintf(line + len, max - len, " %s[%u]", name, bit);
}

/* 0, or @why names what differs. */
int cpuid_match(const struct cpuid_summary *guest,
		const struct cpuid_summary *host, char *why, size_t max)
{
	unsigned int i, bit;
	size_t len;
	u32 missing;

	if (strcmp(guest->identity, host->identity)) {
		snprintf(why, max, "the guest was started on a CPU that is %s, this host's is %s",
			 guest->identity, host->identity);
		return -EOPNOTSUPP;
	}
	len = snprintf(why, max, "this host's CPU lacks features that the guest was told of:");
	for (i = 0; i < CPUID_WORDS; i++) {
		missing = guest->word[i] &
			  ~(host->word[i] | set_by_us(&features[i]));
		for (bit = 0; missing && bit < 32; bit++)
			if (missing & 1u << bit && len < max - LONGEST_NAME)
				len = add_name(why, len, max, i, bit);
	}
	if (why[len - 1] != ':')
		return -EOPNOTSUPP;
	why[0] = 0;
	return 0;
}
