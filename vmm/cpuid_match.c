// SPDX-License-Identifier: GPL-2.0
/*
 * Whether a guest that was started elsewhere can go on here: a pure function
 * of what it was told of its CPU and of what this host supports.  Vendor and
 * family have to agree, of a CPU model (cpu_model.c) the vendor; of features,
 * the host may have more.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm.h"

#define LONGEST_NAME	32	/* of a feature, with a blank */

void cpuid_vendor(const struct kvm_cpuid2 *cpuid, char vendor[13])
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0, 0);

	strcpy(vendor, "no vendor");
	if (!e)
		return;
	memcpy(vendor, &e->ebx, 4);
	memcpy(vendor + 4, &e->edx, 4);
	memcpy(vendor + 8, &e->ecx, 4);
	vendor[12] = 0;
}

/* "AuthenticAMD family 25" */
static void identity(const struct kvm_cpuid2 *cpuid, char *buf, size_t len)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 1, 0);
	char vendor[13];
	u32 family = 0;

	cpuid_vendor(cpuid, vendor);
	if (e) {
		family = e->eax >> 8 & 0xf;
		if (family == 0xf)
			family += e->eax >> 20 & 0xff;
	}
	snprintf(buf, len, "%s family %u", vendor, family);
}

static void state_layout(const struct kvm_cpuid2 *cpuid,
			 struct cpuid_summary *sum)
{
	const struct kvm_cpuid_entry2 *e;
	unsigned int i;

	for (i = 2; i < CPUID_XSTATES; i++) {
		e = cpuid_find(cpuid, 0xd, i);
		if (e && e->eax)
			sum->xstate[i] = e->eax << 16 | (e->ebx & 0xffff);
	}
}

void cpuid_sum_up(const struct kvm_cpuid2 *cpuid, struct cpuid_summary *sum)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0x80000008, 0);
	unsigned int i;

	memset(sum, 0, sizeof(*sum));
	identity(cpuid, sum->identity, sizeof(sum->identity));
	for (i = 0; i < CPUID_WORDS; i++)
		sum->word[i] = cpuid_word(cpuid, i);
	sum->address_bits = e ? e->eax & 0xff : 0;
	state_layout(cpuid, sum);
}

static size_t add_name(char *line, size_t len, size_t max, const char *name)
{
	if (len + LONGEST_NAME >= max)
		return len;
	return len + snprintf(line + len, max - len, " %s", name);
}

/* Behind what is in @line; how many there are. */
unsigned int cpuid_missing(const struct cpuid_summary *guest,
			   const struct cpuid_summary *host, char *line,
			   size_t max)
{
	unsigned int i, bit, nr = 0;
	size_t len = strlen(line);
	char name[LONGEST_NAME];
	u32 missing;

	for (i = 0; i < CPUID_WORDS; i++) {
		missing = guest->word[i] & ~(host->word[i] | cpuid_set_by_us(i));
		for (bit = 0; missing && bit < 32; bit++) {
			if (!(missing & 1u << bit))
				continue;
			cpuid_bit_name(i, bit, name, sizeof(name));
			len = add_name(line, len, max, name);
			nr++;
		}
	}
	if (guest->address_bits > host->address_bits) {
		snprintf(name, sizeof(name), "addresses_of_%u_bits",
			 guest->address_bits);
		len = add_name(line, len, max, name);
		nr++;
	}
	/* Programs in the guest have it in their memory in this form. */
	for (i = 2; i < CPUID_XSTATES; i++) {
		if (!guest->xstate[i] || guest->xstate[i] == host->xstate[i] ||
		    !host->xstate[i])
			continue;
		snprintf(name, sizeof(name), "xsave_layout_%u", i);
		len = add_name(line, len, max, name);
		nr++;
	}
	return nr;
}

/* Of "AuthenticAMD family 25" all, or the vendor alone. */
static bool same_identity(const struct cpuid_summary *guest,
			  const struct cpuid_summary *host)
{
	size_t len = strcspn(guest->identity, " ");

	if (!guest->model[0])
		return !strcmp(guest->identity, host->identity);
	return !strncmp(guest->identity, host->identity, len + 1);
}

/* 0, or @why names what differs. */
int cpuid_match(const struct cpuid_summary *guest,
		const struct cpuid_summary *host, char *why, size_t max)
{
	if (!same_identity(guest, host)) {
		snprintf(why, max, "the guest was started on a CPU that is %s, this host's is %s",
			 guest->identity, host->identity);
		return -EOPNOTSUPP;
	}
	snprintf(why, max, "this host's CPU lacks features that the guest was told of%s%s:",
		 guest->model[0] ? " by --cpu-model " : "", guest->model);
	if (cpuid_missing(guest, host, why, max))
		return -EOPNOTSUPP;
	why[0] = 0;
	return 0;
}
