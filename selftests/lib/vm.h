/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Jobs: the host side of a test: device, VM, memory slots, vCPUs, guest page tables, running guest code.
 *
 * Guest-physical layout of vm_create(): low memory from 0 to 4 MiB (slot 0), the test program's own image where it is
 * linked (slot 1), everything else free. Page tables map the first 4 GiB one to one by 2 MiB pages, user-accessible.
 */
#ifndef PVHV_SELFTESTS_VM_H
#define PVHV_SELFTESTS_VM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include "guest.h"
#include "tap.h"

#define PAGE_SIZE	4096ul
#define HUGE_SIZE	(2ul << 20)
#define LOW_MEM_SIZE	(4ul << 20)
#define LOW_ALLOC_START	0x20000ul	/* below it real-mode tests do as they like */
#define MMIO_HOLE	0xd0000000ul	/* never backed by memory unless a test adds a slot there */
#define VM_MAX_SLOTS	32
#define VM_MAX_VCPUS	16
#define GUEST_STACK	(16ul << 10)

/* vm_create() flags */
#define VM_IRQCHIP	1	/* LAPIC, IOAPIC, PIC */
#define VM_PIT		2
#define VM_BARE		4	/* no memory, no set-up at all */

struct vm_slot {
	uint32_t id;
	uint32_t flags;
	uint64_t gpa;
	uint64_t size;
	void *hva;
};

struct vm;

struct vcpu {
	struct vm *vm;
	int fd;
	uint32_t id;
	struct kvm_run *run;
	size_t run_size;
	uint64_t stack_top;
	pthread_t thread;
	bool started;
	volatile bool stop;
	volatile bool running;
	/* In a thread: called for every GUEST_SYNC; absent, they are ignored */
	void (*on_sync)(struct vcpu *vcpu, struct ucall *uc);
	/* In a thread: called for any exit that is no ucall; absent, or returning false: the test fails */
	bool (*on_exit)(struct vcpu *vcpu);
};

struct vm {
	int fd;
	struct vm_slot slots[VM_MAX_SLOTS];
	unsigned int nr_slots;
	struct vcpu *vcpus[VM_MAX_VCPUS];
	unsigned int nr_vcpus;
	uint64_t alloc;		/* next free page of low memory */
	uint64_t cr3;
	struct kvm_cpuid2 *cpuid;
};

/* vm.c: device */
const char *dev_path(void);
int dev_open(void);				/* a new fd; skips the test where there is no device */
int sys_fd(void);				/* one fd, kept */
int sys_cap(int cap);
#define REQUIRE_CAP(cap)						\
	do {								\
		if (sys_cap(cap) <= 0)					\
			SKIP("%s is not offered", #cap);		\
	} while (0)
bool host_is_tcg(void);			/* QEMU's emulated CPU, which lacks some details of real ones */
struct kvm_cpuid2 *sys_supported_cpuid(void);	/* kept by the caller */
struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index);

/* vm.c: VM */
struct vm *vm_create(unsigned int flags);
void vm_destroy(struct vm *vm);
int vm_cap(struct vm *vm, int cap);

/* mem.c: slots and guest memory */
int vm_set_slot(struct vm *vm, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size, void *hva);	/* the ioctl's result */
void *vm_add_mem(struct vm *vm, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size);	/* anonymous, 2 MiB aligned */
void vm_add_slot(struct vm *vm, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size, void *hva);
void vm_del_slot(struct vm *vm, uint32_t id);
void *vm_hva(struct vm *vm, uint64_t gpa);
uint64_t vm_gpa(struct vm *vm, void *hva);
uint64_t vm_alloc(struct vm *vm, size_t size);	/* zeroed pages of low memory; guest-physical = guest-virtual */
void *mmap_aligned(size_t size, size_t align);
void image_own(void);				/* make the program's image anonymous memory of this process */

/* mem.c: guest page tables (4-level) */
void vm_build_page_tables(struct vm *vm);
uint64_t *vm_pte(struct vm *vm, uint64_t gva);	/* the 4 KiB entry, for the host; splits a 2 MiB page, makes tables */
void vm_map(struct vm *vm, uint64_t gva, uint64_t gpa, uint64_t flags);

/* vcpu.c */
struct vcpu *vcpu_create(struct vm *vm, uint32_t id);				/* as the module makes it */
struct vcpu *vcpu_add(struct vm *vm, uint32_t id, void (*fn)(uint64_t), uint64_t arg);	/* long mode, ready to run fn */
void vcpu_destroy(struct vcpu *vcpu);
void vcpu_set_cpuid(struct vcpu *vcpu);
void vcpu_setup_long(struct vcpu *vcpu, void (*fn)(uint64_t), uint64_t arg);
void vcpu_restart(struct vcpu *vcpu, void (*fn)(uint64_t), uint64_t arg);	/* new rip, stack and argument only */
void vcpu_setup_prot32(struct vcpu *vcpu, uint32_t eip, uint32_t esp);		/* flat, no paging */
void vcpu_setup_real(struct vcpu *vcpu, uint16_t cs, uint16_t ip, uint16_t sp);
void code_load(struct vm *vm, uint64_t gpa, const void *start, const void *end);
#define CODE_LOAD(vm, gpa, name)					\
	do {								\
		extern const char name##_start[], name##_end[];		\
		code_load(vm, gpa, name##_start, name##_end);		\
	} while (0)

int vcpu_run_raw(struct vcpu *vcpu);				/* KVM_RUN: 0 or -errno */
void vcpu_run(struct vcpu *vcpu);				/* KVM_RUN until an exit; fails the test on errors */
uint64_t vcpu_run_ucall(struct vcpu *vcpu, struct ucall *uc);	/* until an exit; decodes it: UCALL_* */
void vcpu_run_sync(struct vcpu *vcpu, uint64_t arg);		/* must come to GUEST_SYNC(arg) */
void vcpu_run_done(struct vcpu *vcpu);				/* must come to the end; syncs on the way are ignored */
void vcpu_run_exit(struct vcpu *vcpu, uint32_t reason);		/* must come to this exit, which is no ucall */
void vcpu_complete_io(struct vcpu *vcpu);			/* finish a pending exit without running the guest */
void vcpu_set_msr(struct vcpu *vcpu, uint32_t index, uint64_t value);
uint64_t vcpu_get_msr(struct vcpu *vcpu, uint32_t index);
uint64_t vcpu_stat(struct vcpu *vcpu, const char *name);	/* of KVM_GET_STATS_FD */
const char *exit_name(uint32_t reason);

/* vcpu.c: threads */
void vcpu_start(struct vcpu *vcpu);		/* runs it to its end */
void vcpu_join(struct vcpu *vcpu);
void vcpu_stop(struct vcpu *vcpu);		/* forces it out, joins */
void vcpu_kick(struct vcpu *vcpu);		/* one signal */
void vcpu_diag(struct vcpu *vcpu);		/* forces a vCPU out that seems to hang, prints where it is */
void vm_run_all(struct vm *vm);			/* all vCPUs, to their end */

/* Shorthands: VM_IOCTL(vm, KVM_..., arg) must succeed and gives the result */
#define VM_IOCTL(vm, cmd, arg)		ASSERT_OK(ioctl((vm)->fd, cmd, arg))
#define VCPU_IOCTL(vcpu, cmd, arg)	ASSERT_OK(ioctl((vcpu)->fd, cmd, arg))
#define SYS_IOCTL(cmd, arg)		ASSERT_OK(ioctl(sys_fd(), cmd, arg))

/* Time on the host side */
uint64_t now_ns(void);
void sleep_ms(unsigned int ms);
/*
 * A SIGALRM each so many milliseconds, which does nothing but end KVM_RUN; 0 ends it.  Once would not do: on a busy machine the
 * one signal may come before KVM_RUN does.
 */
void alarm_every_ms(unsigned int ms);
/* Is cond true within so many milliseconds? */
#define WAIT_FOR(cond, ms)						\
	({								\
		uint64_t end_ = now_ns() + (uint64_t)(ms) * 1000000;	\
		bool ok_;						\
		while (!(ok_ = (cond)) && now_ns() < end_)		\
			sleep_ms(1);					\
		ok_ || (cond);						\
	})

#endif
