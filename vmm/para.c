// SPDX-License-Identifier: GPL-2.0
/*
 * How a guest finds what pvhv has for it: CPUID leaves of linux/pvhv_para.h,
 * at the first base that no other interface (KVM's) has.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/pvhv_para.h>

#include "virtio_bus.h"

#define BASE_FIRST	0x40000000U
#define BASE_STEP	0x100U
#define BASE_END	0x40010000U
#define LEAVES		3

static u32 free_base(const struct kvm_cpuid2 *cpuid)
{
	u32 base;

	for (base = BASE_FIRST; base < BASE_END; base += BASE_STEP)
		if (!cpuid_find(cpuid, base, 0))
			return base;
	return 0;
}

static void signature(struct kvm_cpuid_entry2 *e)
{
	const char *text = PVHV_CPUID_SIGNATURE;

	memcpy(&e->ebx, text, 4);
	memcpy(&e->ecx, text + 4, 4);
	memcpy(&e->edx, text + 8, 4);
}

/* The table may move. */
int para_cpuid(struct kvm_cpuid2 **cpuid, const struct virtio_bus *bus)
{
	struct kvm_cpuid2 *table = *cpuid;
	u32 base = free_base(table), nr = table->nent;
	struct kvm_cpuid_entry2 *e;

	if (!bus)
		return 0;
	if (!base)
		return -ENOSPC;
	table = realloc(table, sizeof(*table) +
			       (nr + LEAVES) * sizeof(table->entries[0]));
	if (!table)
		return -ENOMEM;
	*cpuid = table;
	e = &table->entries[nr];
	memset(e, 0, LEAVES * sizeof(*e));
	e[0].function = base;
	e[0].eax = base + PVHV_CPUID_BUS;
	signature(&e[0]);
	e[1].function = base + PVHV_CPUID_ABI;
	e[1].eax = PVHV_PARA_VERSION;
	e[1].ebx = PVHV_PARA_BUS;
	e[2].function = base + PVHV_CPUID_BUS;
	e[2].eax = PORT_BUS;
	e[2].ebx = virtio_bus_slots(bus);
	table->nent = nr + LEAVES;
	return 0;
}
