// SPDX-License-Identifier: GPL-2.0
/*
 * What the guest sees of its CPU: what the kernel supports, with identity
 * and topology of each vCPU put in.  The topology is one package of single
 * threaded cores, APIC ID = vCPU number, told alike in every leaf that tells
 * any (AMD's and Intel's both).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm.h"

#define MAX_ENTRIES		512

#define F1_ECX_X2APIC		(1u << 21)
#define F1_ECX_DEADLINE		(1u << 24)
#define F1_ECX_HYPERVISOR	(1u << 31)
#define F1_EDX_HTT		(1u << 28)
#define AMD1_ECX_CMP_LEGACY	(1u << 1)

struct kvm_cpuid2 *cpuid_supported(int dev_fd)
{
	struct kvm_cpuid2 *cpuid;
	u32 nr = 64;
	int err;

	for (;;) {
		cpuid = calloc(1, sizeof(*cpuid) + nr * sizeof(cpuid->entries[0]));
		if (!cpuid)
			return NULL;
		cpuid->nent = nr;
		if (!ioctl(dev_fd, KVM_GET_SUPPORTED_CPUID, cpuid))
			return cpuid;
		err = errno;
		free(cpuid);
		errno = err;
		if (err != E2BIG || nr >= MAX_ENTRIES)
			return NULL;
		nr *= 2;
	}
}

const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *cpuid,
					  u32 function, u32 index)
{
	u32 i;

	for (i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function != function)
			continue;
		if (e->index == index ||
		    !(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX))
			return e;
	}
	return NULL;
}

/* How many bits of an APIC ID number the cores. */
static u32 core_bits(u32 cpus)
{
	u32 bits = 0;

	while ((1u << bits) < cpus)
		bits++;
	return bits;
}

static void set_bit_if(u32 *reg, u32 bit, bool on)
{
	*reg = on ? *reg | bit : *reg & ~bit;
}

static void leaf_1(struct kvm_cpuid_entry2 *e, u32 id, u32 cpus, bool deadline)
{
	u32 shown = cpus < 255 ? cpus : 255;

	e->ebx = (id < 255 ? id : 255) << 24 | shown << 16 | (e->ebx & 0xffff);
	e->ecx |= F1_ECX_HYPERVISOR;
	set_bit_if(&e->ecx, F1_ECX_DEADLINE, deadline);
	set_bit_if(&e->edx, F1_EDX_HTT, cpus > 1);
}

/* Intel's caches: L1 and L2 are a core's own, L3 is shared by all. */
static void leaf_4(struct kvm_cpuid_entry2 *e, u32 cpus)
{
	u32 level = (e->eax >> 5) & 7, bits = core_bits(cpus);
	u32 cores = bits < 6 ? (1u << bits) - 1 : 63;
	u32 sharing = level >= 3 ? (1u << bits) - 1 : 0;

	if (e->eax & 0x1f)
		e->eax = (e->eax & 0x3fff) | (sharing & 0xfff) << 14 |
			 cores << 26;
}

static void leaf_b(struct kvm_cpuid_entry2 *e, u32 id, u32 cpus)
{
	e->flags |= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	e->eax = 0;
	e->ebx = 0;
	e->ecx = e->index & 0xff;
	e->edx = id;
	if (e->index == 0) {		/* threads of a core */
		e->ebx = 1;
		e->ecx |= 1 << 8;
	} else if (e->index == 1) {	/* cores of the package */
		e->eax = core_bits(cpus);
		e->ebx = cpus;
		e->ecx |= 2 << 8;
	}
}

/* AMD's caches, in the same way as leaf 4. */
static void leaf_amd_1d(struct kvm_cpuid_entry2 *e, u32 cpus)
{
	u32 level = (e->eax >> 5) & 7;

	if (e->eax & 0x1f)
		e->eax = (e->eax & 0x3fff) |
			 ((level >= 3 ? cpus - 1 : 0) & 0xfff) << 14;
}

void cpuid_for_vcpu(struct kvm_cpuid2 *cpuid, u32 id, u32 cpus, bool deadline)
{
	u32 i;

	for (i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		switch (e->function) {
		case 0x1:
			leaf_1(e, id, cpus, deadline);
			break;
		case 0x4:
			leaf_4(e, cpus);
			break;
		case 0xb:
		case 0x1f:
			leaf_b(e, id, cpus);
			break;
		case 0x80000001:
			set_bit_if(&e->ecx, AMD1_ECX_CMP_LEGACY, cpus > 1);
			break;
		case 0x80000008:
			e->ecx = (e->ecx & ~0xf0ffu) | core_bits(cpus) << 12 |
				 ((cpus - 1) & 0xff);
			break;
		case 0x8000001d:
			leaf_amd_1d(e, cpus);
			break;
		case 0x8000001e:
			e->eax = id;
			e->ebx = id & 0xff;	/* one thread a core */
			e->ecx = 0;		/* one node */
			e->edx = 0;
			break;
		}
	}
}
