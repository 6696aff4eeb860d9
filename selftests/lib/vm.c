// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: open the device, ask its capabilities and CPUID; make and destroy VMs; host time.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "vm.h"

const char *dev_path(void)
{
	const char *dev = getenv("PVHV_DEV");

	return dev ? dev : "/dev/pvhv";
}

int dev_open(void)
{
	int fd = open(dev_path(), O_RDWR | O_CLOEXEC);

	if (fd < 0)
		SKIP("%s: %s", dev_path(), strerror(errno));
	return fd;
}

int sys_fd(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = dev_open();
	return fd;
}

int sys_cap(int cap)
{
	return ioctl(sys_fd(), KVM_CHECK_EXTENSION, cap);
}

int vm_cap(struct vm *vm, int cap)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, cap);
}

bool host_is_tcg(void)
{
	struct cpuid_regs r = guest_cpuid(0x40000000, 0);

	return r.ebx == 0x54474354 && r.ecx == 0x43544743 && r.edx == 0x47435447;	/* TCGTCGTCGTCG */
}

struct kvm_cpuid2 *sys_supported_cpuid(void)
{
	struct kvm_cpuid2 *cpuid;
	unsigned int nent = 100;

	for (;; nent *= 2) {
		cpuid = calloc(1, sizeof(*cpuid) + nent * sizeof(cpuid->entries[0]));
		ASSERT(cpuid);
		cpuid->nent = nent;
		if (!ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, cpuid))
			return cpuid;
		ASSERT_EQ(errno, E2BIG);
		free(cpuid);
		ASSERT_LT(nent, 10000u);
	}
}

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == function &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return e;
	}
	return NULL;
}

struct vm *vm_create(unsigned int flags)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	extern char __executable_start[], _end[];
	uint64_t start = (uintptr_t)__executable_start & ~(PAGE_SIZE - 1);
	uint64_t end = ((uintptr_t)_end + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);

	ASSERT(vm);
	vm->fd = SYS_IOCTL(KVM_CREATE_VM, 0);
	vm->cpuid = sys_supported_cpuid();
	vm->alloc = LOW_ALLOC_START;
	guest_is_amd = cpuid_find(vm->cpuid, 0, 0)->ebx != 0x756e6547;	/* "Genu" */
	if (flags & VM_BARE)
		return vm;

	VM_IOCTL(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	if (flags & VM_IRQCHIP) {
		VM_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
		/* Never in the supported CPUID: it depends on the interrupt chip, so it is for userspace to set */
		if (sys_cap(KVM_CAP_TSC_DEADLINE_TIMER) > 0)
			cpuid_find(vm->cpuid, 1, 0)->ecx |= BIT(24);
	}
	if (flags & VM_PIT) {
		struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

		VM_IOCTL(vm, KVM_CREATE_PIT2, &pit);
	}
	image_own();
	vm_add_mem(vm, 0, 0, 0, LOW_MEM_SIZE);
	vm_add_slot(vm, 1, 0, start, end - start, (void *)start);
	vm_build_page_tables(vm);
	return vm;
}

void vm_destroy(struct vm *vm)
{
	while (vm->nr_vcpus)
		vcpu_destroy(vm->vcpus[vm->nr_vcpus - 1]);
	ASSERT_OK(close(vm->fd));
	free(vm->cpuid);
	free(vm);
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void nothing(int sig)
{
}

void alarm_every_ms(unsigned int ms)
{
	struct timeval t = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	struct itimerval often = { .it_interval = t, .it_value = t };
	struct sigaction sa = { .sa_handler = nothing };

	ASSERT_OK(sigaction(SIGALRM, &sa, NULL));
	ASSERT_OK(setitimer(ITIMER_REAL, &often, NULL));
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

	/* A kick's signal may cut it short: nobody relies on the whole of it */
	nanosleep(&ts, NULL);
}
