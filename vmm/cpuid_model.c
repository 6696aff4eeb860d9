// SPDX-License-Identifier: GPL-2.0
/*
 * A CPU as a model describes it (cpu_model.c has the models).
 *  1. Its CPUID, leaf by leaf, from the table and not from the host's: two hosts
 *     make the same one.  Of the host are only where the parts of an XSAVE
 *     area lie, and the kernel's paravirtual leaves; of a level of the psABI
 *     the vendor, too.
 *  2. Whether this host can be it.
 *  3. The list of all.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/kvm_para.h>

#include "vmm.h"

#define LAST_BASIC		0xd
#define LAST_EXTENDED		0x80000008
#define LAST_EXTENDED_AMD	0x80000021
#define BRAND_LEN		48

#define F1_EBX_CLFLUSH		(8u << 8)	/* 64 bytes */
#define F6_EAX_ARAT		(1u << 2)
#define F7_ECX_LA57		(1u << 16)
/* What leaf 0x80000001 of AMD's has of leaf 1's EDX */
#define COMMON_EDX		0x0183f3ffu

#define XSAVE_LEGACY_LEN	576		/* and the header */
#define XSTATE_FP_SSE		3u
#define XSTATE_COMPACT_ALIGNED	(1u << 1)

/* Of KVM's features: those that need nothing of the host but its kernel. */
#define PV_FEATURES							\
	(1u << KVM_FEATURE_CLOCKSOURCE | 1u << KVM_FEATURE_NOP_IO_DELAY | \
	 1u << KVM_FEATURE_CLOCKSOURCE2 | 1u << KVM_FEATURE_STEAL_TIME | \
	 1u << KVM_FEATURE_PV_EOI | 1u << KVM_FEATURE_PV_UNHALT |	\
	 1u << KVM_FEATURE_PV_TLB_FLUSH | 1u << KVM_FEATURE_PV_SEND_IPI | \
	 1u << KVM_FEATURE_POLL_CONTROL | 1u << KVM_FEATURE_PV_SCHED_YIELD | \
	 1u << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT)

struct maker {
	const struct cpu_model *model;
	const struct kvm_cpuid2 *host;
	struct kvm_cpuid2 *out;
	char vendor[13];
	bool amd;			/* or a descendant */
	u32 signature;			/* family, model, stepping */
	u32 address_bits;
	u32 word[CPUID_WORDS];
};

/* 1. */

static u32 signature(u32 family, u32 model, u32 stepping)
{
	u32 base = family < 15 ? family : 15;

	return stepping | (model & 15) << 4 | base << 8 | model >> 4 << 16 |
	       (family - base) << 20;
}

static void set_features(u32 word[CPUID_WORDS], const char *list)
{
	char name[24];
	int used;

	for (; sscanf(list, "%23s%n", name, &used) == 1; list += used)
		cpuid_set_bit(word, name);
}

static void add_features(u32 word[CPUID_WORDS], const struct cpu_model *model)
{
	for (; model; model = cpu_model_find(model->base))
		set_features(word, model->features);
}

static bool has(const struct maker *mk, const char *feature)
{
	u32 word[CPUID_WORDS] = { 0 };
	unsigned int i;

	cpuid_set_bit(word, feature);
	for (i = 0; i < CPUID_WORDS; i++)
		if (word[i])
			return word[i] & mk->word[i];
	return false;
}

/* The registers that come with features. */
static void add_states(struct maker *mk)
{
	if (!has(mk, "xsave"))
		return;
	set_features(mk->word, "x87_state sse_state");
	if (has(mk, "avx"))
		set_features(mk->word, "avx_state");
	if (has(mk, "avx512f"))
		set_features(mk->word, "opmask_state zmm_hi_state hi_zmm_state");
	if (has(mk, "pku"))
		set_features(mk->word, "pkru_state");
}

/* Of a level: one CPU of each vendor, that all later ones are like. */
static void choose_identity(struct maker *mk)
{
	const struct cpu_model *model = mk->model;
	const struct kvm_cpuid_entry2 *e;

	if (model->vendor) {
		strcpy(mk->vendor, model->vendor);
		mk->signature = signature(model->family, model->model,
					  model->stepping);
	} else {
		cpuid_vendor(mk->host, mk->vendor);
		e = cpuid_find(mk->host, 1, 0);
		mk->signature = !strcmp(mk->vendor, CPU_VENDOR_AMD) ? signature(23, 1, 2) :
				!strcmp(mk->vendor, CPU_VENDOR_INTEL) ? signature(6, 60, 1) :
				e ? e->eax : 0;
	}
	mk->amd = !strcmp(mk->vendor, CPU_VENDOR_AMD) || !strcmp(mk->vendor, "HygonGenuine");
}

static struct kvm_cpuid_entry2 *add(struct maker *mk, u32 function, u32 index)
{
	struct kvm_cpuid_entry2 *e = &mk->out->entries[mk->out->nent++];

	memset(e, 0, sizeof(*e));
	e->function = function;
	e->index = index;
	switch (function) {
	case 0x4:
	case 0x7:
	case 0xb:
	case 0xd:
	case 0x8000001d:
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	}
	cpuid_put_words(e, mk->word);
	return e;
}

static void put_vendor(struct kvm_cpuid_entry2 *e, const char *vendor)
{
	memcpy(&e->ebx, vendor, 4);
	memcpy(&e->edx, vendor + 4, 4);
	memcpy(&e->ecx, vendor + 8, 4);
}

/* Sizes that hardly any CPU of these has less of; the topology is cpuid.c's. */
static const struct cache {
	u32 level, type, ways, sets;
} caches[] = {
	{ 1, 1, 8, 64 }, { 1, 2, 8, 64 }, { 2, 3, 8, 1024 }, { 3, 3, 16, 16384 },
};

#define LINE_LEN	64

static u32 cache_kib(const struct cache *c)
{
	return c->ways * c->sets * LINE_LEN / KIB;
}

static void add_caches(struct maker *mk, u32 function)
{
	struct kvm_cpuid_entry2 *e;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(caches); i++) {
		e = add(mk, function, i);
		e->eax = caches[i].type | caches[i].level << 5 | 1u << 8;
		e->ebx = (LINE_LEN - 1) | (caches[i].ways - 1) << 22;
		e->ecx = caches[i].sets - 1;
	}
	add(mk, function, i);	/* no more */
}

static void add_xsave(struct maker *mk)
{
	u32 i, state, size = XSAVE_LEGACY_LEN, compact = XSAVE_LEGACY_LEN, at;
	struct kvm_cpuid_entry2 *e, *first, *second;
	const struct kvm_cpuid_entry2 *theirs;

	first = add(mk, 0xd, 0);
	second = add(mk, 0xd, 1);
	state = first->eax;
	for (i = 2; i < CPUID_XSTATES; i++) {
		theirs = cpuid_find(mk->host, 0xd, i);
		if (!(state & 1u << i) || !theirs)
			continue;
		e = add(mk, 0xd, i);
		e->eax = theirs->eax;
		e->ebx = theirs->ebx;
		e->ecx = theirs->ecx & XSTATE_COMPACT_ALIGNED;
		at = e->ecx ? (compact + LINE_LEN - 1) & -LINE_LEN : compact;
		compact = at + e->eax;
		if (size < e->ebx + e->eax)
			size = e->ebx + e->eax;
	}
	if (!state)
		return;
	first->ebx = XSAVE_LEGACY_LEN;	/* the kernel follows XCR0 with it */
	first->ecx = size;
	if (has(mk, "xsavec") || has(mk, "xsaves"))
		second->ebx = compact;
}

static void add_basic(struct maker *mk)
{
	struct kvm_cpuid_entry2 *e;
	u32 function;

	e = add(mk, 0, 0);
	e->eax = LAST_BASIC;
	put_vendor(e, mk->vendor);
	e = add(mk, 1, 0);
	e->eax = mk->signature;
	e->ebx = F1_EBX_CLFLUSH;
	for (function = 2; function <= LAST_BASIC; function++)
		switch (function) {
		case 0x2:
			/* Ask leaf 4 */
			add(mk, function, 0)->eax = mk->amd ? 0 : 0xff01;
			break;
		case 0x4:
			if (!mk->amd)
				add_caches(mk, function);
			break;
		case 0x6:
			add(mk, function, 0)->eax = F6_EAX_ARAT;
			break;
		case 0x7:
			add(mk, function, 0)->eax = 1;
			add(mk, function, 1);
			break;
		case 0xb:
			add(mk, function, 0);
			add(mk, function, 1);
			break;
		case 0xd:
			add_xsave(mk);
			break;
		default:
			add(mk, function, 0);
		}
}

static void add_paravirtual(struct maker *mk)
{
	struct kvm_cpuid_entry2 *e;
	u32 i;

	for (i = 0; i < mk->host->nent; i++) {
		if (mk->host->entries[i].function >> 28 != 4)
			continue;
		e = &mk->out->entries[mk->out->nent++];
		*e = mk->host->entries[i];
		if (e->function == KVM_CPUID_FEATURES)
			e->eax &= PV_FEATURES;
	}
}

static void add_brand(struct maker *mk)
{
	char brand[BRAND_LEN] = "";
	u32 i;

	snprintf(brand, sizeof(brand), "%s", mk->model->brand);
	for (i = 0; i < 3; i++)
		memcpy(&add(mk, 0x80000002 + i, 0)->eax, brand + 16 * i, 16);
}

/* As AMD tells of them: sizes with codes for the ways. */
static void add_amd_caches(struct maker *mk)
{
	struct kvm_cpuid_entry2 *e = add(mk, 0x80000005, 0);

	e->eax = 0xff40ff40;		/* 64 entries of each, any place */
	e->ebx = 0xff40ff40;
	e->ecx = cache_kib(&caches[0]) << 24 | caches[0].ways << 16 | 1 << 8 | LINE_LEN;
	e->edx = cache_kib(&caches[1]) << 24 | caches[1].ways << 16 | 1 << 8 | LINE_LEN;
	e = add(mk, 0x80000006, 0);
	e->ecx = cache_kib(&caches[2]) << 16 | 6 << 12 | 1 << 8 | LINE_LEN;
	e->edx = cache_kib(&caches[3]) / 512 << 18 | 8 << 12 | 1 << 8 | LINE_LEN;
}

static void add_extended(struct maker *mk)
{
	bool topology = has(mk, "topoext");
	struct kvm_cpuid_entry2 *e;

	e = add(mk, 0x80000000, 0);
	e->eax = topology ? LAST_EXTENDED_AMD : LAST_EXTENDED;
	if (mk->amd)
		put_vendor(e, mk->vendor);
	e = add(mk, 0x80000001, 0);
	if (mk->amd) {
		e->eax = mk->signature;
		e->edx |= cpuid_find(mk->out, 1, 0)->edx & COMMON_EDX;
	}
	add_brand(mk);
	if (mk->amd) {
		add_amd_caches(mk);
	} else {
		add(mk, 0x80000005, 0);
		add(mk, 0x80000006, 0)->ecx = cache_kib(&caches[2]) << 16 |
					      6 << 12 | LINE_LEN;
	}
	add(mk, 0x80000007, 0);
	e = add(mk, 0x80000008, 0);
	e->eax = mk->address_bits | (has(mk, "la57") ? 57 : 48) << 8;
	if (!topology)
		return;
	add_caches(mk, 0x8000001d);
	add(mk, 0x8000001e, 0);
	add(mk, LAST_EXTENDED_AMD, 0);
}

struct kvm_cpuid2 *cpu_model_cpuid(const struct cpu_model *model,
				   const struct kvm_cpuid2 *host,
				   u32 address_bits)
{
	struct maker mk = {
		.model = model, .host = host, .address_bits = address_bits,
	};

	mk.out = calloc(1, sizeof(*mk.out) + (CPUID_ENTRIES_MAX + host->nent) *
					     sizeof(mk.out->entries[0]));
	if (!mk.out)
		return NULL;
	add_features(mk.word, model);
	add_states(&mk);
	choose_identity(&mk);
	add_basic(&mk);
	add_paravirtual(&mk);
	add_extended(&mk);
	return mk.out;
}

/* 2. */

static int sum_up(const struct cpu_model *model, const struct kvm_cpuid2 *host,
		  u32 address_bits, struct cpuid_summary *guest,
		  struct cpuid_summary *ours)
{
	struct kvm_cpuid2 *cpuid = cpu_model_cpuid(model, host, address_bits);

	if (!cpuid)
		return -ENOMEM;
	cpuid_sum_up(cpuid, guest);
	cpuid_sum_up(host, ours);
	free(cpuid);
	return 0;
}

int cpu_model_check(const struct cpu_model *model,
		    const struct kvm_cpuid2 *host, u32 address_bits)
{
	struct cpuid_summary guest, ours;
	char missing[400] = "", vendor[13];

	if (sum_up(model, host, address_bits, &guest, &ours))
		return fail(-ENOMEM, "out of memory");
	cpuid_vendor(host, vendor);
	if (model->vendor && strcmp(model->vendor, vendor))
		return fail(-EOPNOTSUPP, "--cpu-model: %s is a CPU of %s, this host's is one of %s: see --cpu-model help",
			    model->name, model->vendor, vendor);
	if (cpuid_missing(&guest, &ours, missing, sizeof(missing)))
		return fail(-EOPNOTSUPP, "--cpu-model: for %s this host's CPU lacks%s: see --cpu-model help",
			    model->name, missing);
	return 0;
}

/* 3. */

static void print_model(const struct cpu_model *model,
			const struct kvm_cpuid2 *host)
{
	struct cpuid_summary guest, ours;
	char missing[200] = "";
	const char *answer = "yes";

	if (sum_up(model, host, CPU_MODEL_ADDRESS_BITS, &guest, &ours)) {
		answer = "";
	} else if (strncmp(guest.identity, ours.identity,
			   strcspn(guest.identity, " "))) {
		answer = "no: another vendor's";
	} else if (cpuid_missing(&guest, &ours, missing, sizeof(missing))) {
		answer = "no: lacks";
	}
	printf("%-26s%s%s\n", model->name, answer, missing);
}

int cpu_model_list(const char *dev)
{
	int fd = open(dev, O_RDWR | O_CLOEXEC);
	struct kvm_cpuid2 *host = fd < 0 ? NULL : cpuid_supported(fd);
	const struct cpu_model *model;
	unsigned int i;

	printf("%-26s%s\n", CPU_MODEL_HOST, host ? "yes" : "");
	for (i = 0; (model = cpu_model_at(i)); i++) {
		if (host)
			print_model(model, host);
		else
			puts(model->name);
	}
	if (!host)
		note("%s: %s: cannot tell which of them this host can be", dev,
		     strerror(errno));
	free(host);
	if (fd >= 0)
		close(fd);
	return 0;
}
