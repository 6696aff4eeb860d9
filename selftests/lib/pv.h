/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Jobs: KVM's paravirtual interface as guests see it: MSRs, shared structures, hypercalls.
 */
#ifndef PVHV_SELFTESTS_PV_H
#define PVHV_SELFTESTS_PV_H

#include "guest.h"

#define MSR_PV_WALL_CLOCK	0x4b564d00
#define MSR_PV_SYSTEM_TIME	0x4b564d01
#define MSR_PV_STEAL_TIME	0x4b564d03
#define MSR_PV_EOI		0x4b564d04

struct pv_time {
	uint32_t version;
	uint32_t pad0;
	uint64_t tsc_timestamp;
	uint64_t system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags;
	uint8_t pad[2];
};

#define PV_TIME_STABLE		1
#define PV_TIME_STOPPED		2

struct pv_wall {
	uint32_t version, sec, nsec;
};

struct pv_steal {
	uint64_t steal;
	uint32_t version;
	uint32_t flags;
	uint8_t preempted;
	uint8_t pad[47];
};

#define PV_HC_POLL_IRQ		1
#define PV_HC_KICK		5
#define PV_HC_SEND_IPI		10
#define PV_HC_YIELD		11
#define PV_ENOSYS		1000

/* Nanoseconds since the VM began, from a vCPU's page, as guests compute them */
static inline uint64_t pv_time_ns(const volatile struct pv_time *t)
{
	uint64_t delta, ns;
	uint32_t version;

	do {
		version = t->version & ~1u;
		barrier();
		delta = rdtsc() - t->tsc_timestamp;
		delta = t->shift >= 0 ? delta << t->shift : delta >> -t->shift;
		ns = t->system_time + (uint64_t)((unsigned __int128)delta * t->mul >> 32);
		barrier();
	} while (version != t->version);
	return ns;
}

#endif
