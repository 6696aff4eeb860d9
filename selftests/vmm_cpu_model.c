// SPDX-License-Identifier: GPL-2.0
/*
 * The CPUs of --cpu-model: the tables name features that there are; two unlike hosts of a vendor make the same CPUID of a model, and
 * a guest of it goes from one to the other; what a host lacks, it says by name; a machine keeps the model it was started with.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vmm/vmm.h"
#include "tap.h"

#define AMD	"AuthenticAMD"
#define INTEL	"GenuineIntel"

static char last_line[1100];
static int lines;

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
	lines++;
}

/* --- hosts ----------------------------------------------------------------------------------------------------- */

static struct kvm_cpuid_entry2 *leaf(struct kvm_cpuid2 *c, u32 function, u32 index)
{
	struct kvm_cpuid_entry2 *e = &c->entries[c->nent++];

	memset(e, 0, sizeof(*e));
	e->function = function;
	e->index = index;
	e->flags = function == 7 || function == 0xd ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
	return e;
}

/* One with all of @word, of a family that no model is of */
static struct kvm_cpuid2 *make_host(const char *vendor, u32 family, const u32 word[CPUID_WORDS])
{
	static const u32 functions[][2] = {
		{ 0, 0 }, { 1, 0 }, { 7, 0 }, { 7, 1 }, { 0xd, 0 }, { 0xd, 1 }, { 0x40000000, 0 }, { 0x40000001, 0 },
		{ 0x80000001, 0 }, { 0x80000007, 0 }, { 0x80000008, 0 }, { 0x80000021, 0 },
	};
	static const u32 states[][4] = { { 2, 256, 576 }, { 5, 64, 832 }, { 6, 512, 896, 2 }, { 7, 1024, 1408, 2 }, { 9, 8, 2432 } };
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 64 * sizeof(c->entries[0]));
	struct kvm_cpuid_entry2 *e;
	unsigned int i;

	ASSERT(c);
	for (i = 0; i < ARRAY_SIZE(functions); i++)
		cpuid_put_words(leaf(c, functions[i][0], functions[i][1]), word);
	e = &c->entries[0];
	memcpy(&e->ebx, vendor, 4);
	memcpy(&e->edx, vendor + 4, 4);
	memcpy(&e->ecx, vendor + 8, 4);
	c->entries[1].eax = family < 15 ? family << 8 : 0xf00 | (family - 15) << 20;
	c->entries[10].eax = 48 | 48 << 8;
	for (i = 0; i < ARRAY_SIZE(states); i++) {
		e = leaf(c, 0xd, states[i][0]);
		e->eax = states[i][1];
		e->ebx = states[i][2];
		e->ecx = states[i][3];
	}
	return c;
}

static void everything(u32 word[CPUID_WORDS])
{
	memset(word, 0xff, CPUID_WORDS * sizeof(word[0]));
}

static struct kvm_cpuid2 *rich(const char *vendor)
{
	u32 word[CPUID_WORDS];

	everything(word);
	return make_host(vendor, 99, word);
}

/* That has what the model has, and nothing more */
static struct kvm_cpuid2 *poor(const struct cpu_model *model, const char *vendor)
{
	struct kvm_cpuid2 *host = rich(vendor), *guest = cpu_model_cpuid(model, host, 40);
	u32 word[CPUID_WORDS];
	unsigned int i;

	for (i = 0; i < CPUID_WORDS; i++)
		word[i] = cpuid_word(guest, i);
	free(host);
	free(guest);
	return make_host(vendor, 98, word);
}

/* --- the tables ------------------------------------------------------------------------------------------------ */

static void test_tables(void)
{
	const struct cpu_model *m, *other;
	u32 word[CPUID_WORDS];
	unsigned int i, k;
	char name[24];
	const char *at;
	int used;

	for (i = 0; (m = cpu_model_at(i)); i++) {
		ASSERT(strlen(m->name) < CPU_MODEL_NAME_MAX && strlen(m->brand) < 48 && m == cpu_model_find(m->name));
		for (k = 0; k < i; k++)
			ASSERT(strcmp(cpu_model_at(k)->name, m->name));
		/* A base comes before, so there is no ring */
		for (k = 0, other = NULL; m->base && k < i; k++)
			other = strcmp(cpu_model_at(k)->name, m->base) ? other : cpu_model_at(k);
		ASSERT_MSG(!m->base || other, "%s: no %s", m->name, m->base);
		for (at = m->features; sscanf(at, "%23s%n", name, &used) == 1; at += used)
			ASSERT_MSG(cpuid_set_bit(word, name), "%s: %s", m->name, name);
	}
	ASSERT_GT(i, 20);
	ASSERT(!cpu_model_find("host") && !cpu_model_find(NULL) && !cpu_model_find("EPYC "));
	/* Each name is one bit's */
	for (i = 0; i < CPUID_WORDS * 32; i++) {
		cpuid_bit_name(i / 32, i % 32, name, sizeof(name));
		memset(word, 0, sizeof(word));
		ASSERT_MSG(strchr(name, '[') ? !cpuid_set_bit(word, name) : cpuid_set_bit(word, name) && word[i / 32] == 1u << i % 32,
			   "%s", name);
	}
}

/* --- what a guest sees ----------------------------------------------------------------------------------------- */

static const struct kvm_cpuid_entry2 *must(const struct kvm_cpuid2 *c, u32 function, u32 index)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(c, function, index);

	ASSERT_MSG(e, "no leaf %x.%u", function, index);
	return e;
}

static void brand_is(const struct kvm_cpuid2 *c, const char *brand)
{
	char text[49] = "";
	unsigned int i;

	for (i = 0; i < 3; i++)
		memcpy(text + 16 * i, &must(c, 0x80000002 + i, 0)->eax, 16);
	ASSERT_MSG(!strcmp(text, brand), "'%s'", text);
}

static void test_leaves(void)
{
	struct kvm_cpuid2 *host = rich(AMD), *c = cpu_model_cpuid(cpu_model_find("EPYC"), host, 40);
	const struct kvm_cpuid_entry2 *e;
	char vendor[13];

	cpuid_vendor(c, vendor);
	ASSERT(!strcmp(vendor, AMD));
	ASSERT_EQ(must(c, 0, 0)->eax, 0xd);
	e = must(c, 1, 0);
	ASSERT_EQ(e->eax, 0x800f12);			/* family 23 */
	ASSERT_EQ(e->ecx & (1 << 12 | 1 << 26 | 1 << 28 | 1 << 17), 1 << 12 | 1 << 26 | 1 << 28);	/* fma xsave avx, no pcid */
	brand_is(c, "AMD EPYC Processor");
	e = must(c, 0x80000001, 0);
	ASSERT_EQ(e->eax, 0x800f12);
	ASSERT_EQ(e->edx & 0x0183f3ff, must(c, 1, 0)->edx & 0x0183f3ff);
	ASSERT_EQ(must(c, 0x80000008, 0)->eax & 0xffff, 40 | 48 << 8);
	ASSERT_EQ(must(c, 0x80000007, 0)->edx, 0);	/* the counter may change its rate */
	/* AVX is all that XSAVE has to save */
	e = must(c, 0xd, 0);
	ASSERT_EQ(e->eax, 7);
	ASSERT_EQ(e->ecx, 576 + 256);
	ASSERT_EQ(must(c, 0xd, 1)->eax & 15, 7);	/* xsaveopt xsavec xgetbv1 */
	ASSERT_EQ(must(c, 0xd, 2)->ebx, 576);
	ASSERT(!cpuid_find(c, 0xd, 9) && !cpuid_find(c, 4, 0));
	ASSERT_EQ(must(c, 0x8000001d, 3)->eax >> 5 & 7, 3);
	ASSERT_EQ(must(c, 0x8000001d, 4)->eax, 0);
	ASSERT_EQ(must(c, 0x40000001, 0)->eax & (1 << 4 | 1), 1);	/* kvmclock, no async-pf */
	free(c);

	c = cpu_model_cpuid(cpu_model_find("EPYC-Genoa"), host, 46);
	ASSERT_EQ(must(c, 0xd, 0)->eax, 0x2e7);
	ASSERT_EQ(must(c, 0xd, 0)->ecx, 2440);
	ASSERT_EQ(must(c, 0xd, 1)->ebx, 2440);		/* compact: 832 + 64 + 512 + 1024 + 8 */
	ASSERT_EQ(must(c, 0x80000008, 0)->eax & 0xffff, 46 | 57 << 8);
	/* Topology of a vCPU goes into it as into the host's */
	cpuid_for_vcpu(c, 2, 4, true);
	ASSERT_EQ(must(c, 1, 0)->ebx >> 16, 2 << 8 | 4);
	ASSERT_EQ(must(c, 0xb, 1)->ebx, 4);
	ASSERT_EQ(must(c, 0x8000001e, 0)->eax, 2);
	ASSERT_EQ(must(c, 0x8000001d, 3)->eax >> 14 & 0xfff, 3);
	free(c);
	free(host);

	host = rich(INTEL);
	c = cpu_model_cpuid(cpu_model_find("x86-64-v2"), host, 40);
	cpuid_vendor(c, vendor);
	ASSERT(!strcmp(vendor, INTEL));
	ASSERT_EQ(must(c, 0xd, 0)->eax | must(c, 0xd, 0)->ecx | must(c, 7, 0)->ebx, 0);
	ASSERT_EQ(must(c, 4, 0)->eax & 0x1f, 1);
	ASSERT(!cpuid_find(c, 0x8000001d, 0) && !cpuid_find(c, 0x80000021, 0));
	brand_is(c, "x86-64-v2 CPU");
	free(c);
	free(host);
}

/* --- hosts that agree, hosts that lack ------------------------------------------------------------------------- */

static void sum_up_guest(const struct cpu_model *m, const struct kvm_cpuid2 *c, struct cpuid_summary *sum)
{
	cpuid_sum_up(c, sum);
	snprintf(sum->model, sizeof(sum->model), "%s", m->name);
}

static void test_unlike_hosts(void)
{
	static const char * const vendors[] = { AMD, INTEL };
	const struct cpu_model *m;
	unsigned int i, k;
	char why[400];

	for (i = 0; (m = cpu_model_at(i)); i++)
		for (k = 0; k < 2; k++) {
			struct kvm_cpuid2 *a, *b, *of_a, *of_b;
			struct cpuid_summary guest, there;

			if (m->vendor && strcmp(m->vendor, vendors[k]))
				continue;
			a = rich(vendors[k]);
			b = poor(m, vendors[k]);
			of_a = cpu_model_cpuid(m, a, 40);
			of_b = cpu_model_cpuid(m, b, 40);
			ASSERT_EQ(cpu_model_check(m, a, 40), 0);
			ASSERT_EQ(cpu_model_check(m, b, 40), 0);
			ASSERT_EQ(of_a->nent, of_b->nent);
			ASSERT_MSG(!memcmp(of_a->entries, of_b->entries, of_a->nent * sizeof(of_a->entries[0])), "%s", m->name);
			sum_up_guest(m, of_a, &guest);
			cpuid_sum_up(b, &there);
			ASSERT_MSG(!cpuid_match(&guest, &there, why, sizeof(why)), "%s: %s", m->name, why);
			/* Without a model, hosts of other families do not agree */
			guest.model[0] = 0;
			ASSERT_EQ(cpuid_match(&guest, &there, why, sizeof(why)), -EOPNOTSUPP);
			ASSERT(strstr(why, "family 98"));
			free(a);
			free(b);
			free(of_a);
			free(of_b);
		}
	ASSERT_EQ(lines, 0);
}

/* Each feature of a model, missed one at a time */
static void test_each_is_missed(void)
{
	const struct cpu_model *m = cpu_model_find("EPYC-Milan");
	struct kvm_cpuid2 *all = rich(AMD), *guest = cpu_model_cpuid(m, all, 40), *host;
	u32 word[CPUID_WORDS], nr = 0;
	char name[24], why[400];
	struct cpuid_summary told, there;
	unsigned int i;

	sum_up_guest(m, guest, &told);
	for (i = 0; i < CPUID_WORDS * 32; i++) {
		if (!(cpuid_word(guest, i / 32) & ~cpuid_set_by_us(i / 32) & 1u << i % 32))
			continue;
		/* The kernel's own are left out where it has them not, and asked for once a guest knows them */
		cpuid_word_name(i / 32, name, sizeof(name));
		if (!strncmp(name, "0x40000001", 10))
			continue;
		everything(word);
		word[i / 32] &= ~(1u << i % 32);
		host = make_host(AMD, 25, word);
		cpuid_bit_name(i / 32, i % 32, name, sizeof(name));
		lines = 0;
		ASSERT_EQ(cpu_model_check(m, host, 40), -EOPNOTSUPP);
		ASSERT_MSG(lines == 1 && strstr(last_line, "EPYC-Milan") && strstr(last_line, name), "%s: %s", name, last_line);
		cpuid_sum_up(host, &there);
		ASSERT_EQ(cpuid_match(&told, &there, why, sizeof(why)), -EOPNOTSUPP);
		ASSERT_MSG(strstr(why, "--cpu-model EPYC-Milan") && strstr(why, name), "%s: %s", name, why);
		nr++;
		free(host);
	}
	ASSERT_GT(nr, 80);
	free(all);
	free(guest);
}

static void test_other_limits(void)
{
	const struct cpu_model *m = cpu_model_find("EPYC-Genoa");
	struct kvm_cpuid2 *host = rich(AMD), *other = rich(INTEL), *guest = cpu_model_cpuid(m, host, 40);
	struct cpuid_summary told, there;
	char why[400];

	lines = 0;
	ASSERT_EQ(cpu_model_check(m, other, 40), -EOPNOTSUPP);
	ASSERT_MSG(lines == 1 && strstr(last_line, AMD) && strstr(last_line, INTEL), "%s", last_line);
	ASSERT_EQ(cpu_model_check(m, host, 52), -EOPNOTSUPP);
	ASSERT_MSG(strstr(last_line, "lacks addresses_of_52_bits:"), "%s", last_line);
	/* Where PKRU lies is not the same with all vendors */
	sum_up_guest(m, guest, &told);
	cpuid_sum_up(host, &there);
	ASSERT_EQ(cpuid_match(&told, &there, why, sizeof(why)), 0);
	there.xstate[9] += 8;
	ASSERT_EQ(cpuid_match(&told, &there, why, sizeof(why)), -EOPNOTSUPP);
	ASSERT_MSG(strstr(why, ": xsave_layout_9"), "%s", why);
	/* A host without anything, in one line */
	memset(&there.word, 0, sizeof(there.word));
	ASSERT_EQ(cpuid_match(&told, &there, why, sizeof(why)), -EOPNOTSUPP);
	ASSERT(strlen(why) < sizeof(why) && strstr(why, " sse3"));
	free(host);
	free(other);
	free(guest);
}

/* --- the option ------------------------------------------------------------------------------------------------ */

static int parse(struct options *opt, const char *a, const char *b)
{
	static char text[4][64];
	char *argv[] = { text[0], text[1], text[2], text[3], NULL };

	strcpy(text[0], "pvhv-run");
	strcpy(text[1], a);
	strcpy(text[2], "--cpu-model");
	strcpy(text[3], b);
	return options_parse(opt, 4, argv);
}

static void test_option(void)
{
	struct option_args saved = { .nr = 0 }, none = { .nr = 0 };
	struct options opt;

	ASSERT_EQ(parse(&opt, "-kvmlinuz", "EPYC-Rome"), 0);
	ASSERT(!strcmp(opt.cpu_model, "EPYC-Rome"));
	ASSERT_EQ(opt.args.nr, 1);		/* it is the machine's, and travels */
	ASSERT_EQ(option_args_add(&saved, "cpu-model", "EPYC-Rome"), 0);
	options_free(&opt);
	lines = 0;
	ASSERT_LT(parse(&opt, "-kvmlinuz", "Pentium"), 0);
	ASSERT_MSG(lines == 1 && strstr(last_line, "'Pentium'"), "%s", last_line);
	options_free(&opt);
	ASSERT_EQ(parse(&opt, "-kvmlinuz", "help"), 0);
	ASSERT(opt.cpu_model_list);
	options_free(&opt);

	/* The same again may be said; another one not */
	ASSERT_EQ(parse(&opt, "--restore=f", "EPYC-Rome"), 0);
	ASSERT_EQ(options_merge(&opt, &saved), 0);
	ASSERT(!strcmp(opt.cpu_model, "EPYC-Rome"));
	options_free(&opt);
	ASSERT_EQ(parse(&opt, "--restore=f", "host"), 0);
	ASSERT_EQ(options_merge(&opt, &saved), -EINVAL);
	ASSERT_MSG(strstr(last_line, "'EPYC-Rome'"), "%s", last_line);
	options_free(&opt);
	ASSERT_EQ(parse(&opt, "--restore=f", "EPYC"), 0);
	ASSERT_EQ(options_merge(&opt, &none), -EINVAL);
	ASSERT_MSG(strstr(last_line, "'host'"), "%s", last_line);
	options_free(&opt);
	option_args_free(&saved);
}

static const struct tap_test tests[] = {
	TEST(tables),
	TEST(leaves),
	TEST(unlike_hosts),
	TEST(each_is_missed),
	TEST(other_limits),
	TEST(option),
};

int main(int argc, char **argv)
{
	fail_sink = keep_line;
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
