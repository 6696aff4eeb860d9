// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: 1. memory slots and the memory behind them; 2. the program's image as guest memory; 3. guest page tables.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm.h"

int vm_set_slot(struct vm *vm, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size, void *hva)
{
	struct kvm_userspace_memory_region region = {
		.slot = id,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

void vm_add_slot(struct vm *vm, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size, void *hva)
{
	ASSERT(vm->nr_slots < VM_MAX_SLOTS);
	ASSERT_OK(vm_set_slot(vm, id, flags, gpa, size, hva));
	vm->slots[vm->nr_slots++] = (struct vm_slot){
		.id = id, .flags = flags, .gpa = gpa, .size = size, .hva = hva,
	};
}

void *mmap_aligned(size_t size, size_t align)
{
	char *raw = mmap(NULL, size + align, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *p;

	ASSERT(raw != MAP_FAILED);
	p = (char *)(((uintptr_t)raw + align - 1) & ~(align - 1));
	if (p != raw)
		munmap(raw, p - raw);
	munmap(p + size, raw + align - p);
	return p;
}

void *vm_add_mem(struct vm *vm, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size)
{
	void *hva = mmap_aligned(size, HUGE_SIZE);

	vm_add_slot(vm, id, flags, gpa, size, hva);
	return hva;
}

void vm_del_slot(struct vm *vm, uint32_t id)
{
	for (unsigned int i = 0; i < vm->nr_slots; i++) {
		if (vm->slots[i].id != id)
			continue;
		ASSERT_OK(vm_set_slot(vm, id, 0, vm->slots[i].gpa, 0, NULL));
		vm->slots[i] = vm->slots[--vm->nr_slots];
		return;
	}
	FAIL("no slot %u", id);
}

void *vm_hva(struct vm *vm, uint64_t gpa)
{
	for (unsigned int i = 0; i < vm->nr_slots; i++) {
		struct vm_slot *slot = &vm->slots[i];

		if (gpa >= slot->gpa && gpa - slot->gpa < slot->size)
			return (char *)slot->hva + (gpa - slot->gpa);
	}
	FAIL("guest-physical address 0x%llx is no memory", (unsigned long long)gpa);
}

uint64_t vm_gpa(struct vm *vm, void *hva)
{
	for (unsigned int i = 0; i < vm->nr_slots; i++) {
		struct vm_slot *slot = &vm->slots[i];

		if ((char *)hva >= (char *)slot->hva && (char *)hva < (char *)slot->hva + slot->size)
			return slot->gpa + ((char *)hva - (char *)slot->hva);
	}
	FAIL("host address %p is no guest memory", hva);
}

uint64_t vm_alloc(struct vm *vm, size_t size)
{
	uint64_t gpa = vm->alloc;

	vm->alloc += (size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
	ASSERT_LE(vm->alloc, LOW_MEM_SIZE);
	memset(vm_hva(vm, gpa), 0, vm->alloc - gpa);
	return gpa;
}

/*
 * Guest code reads, writes and executes the image. Writing to every page makes it private anonymous memory: guests then
 * do not depend on what the page cache or copy-on-write do, which have tests of their own.
 */
void image_own(void)
{
	extern char __executable_start[], _end[];
	uintptr_t p = (uintptr_t)__executable_start & ~(PAGE_SIZE - 1);
	static pid_t owner;

	if (owner == getpid())
		return;
	for (; p < (uintptr_t)_end; p += PAGE_SIZE) {
		volatile char *c = (char *)p;

		if (mprotect((void *)p, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC)) {
			/* The linker leaves gaps between segments */
			ASSERT_EQ(errno, ENOMEM);
			ASSERT(mmap((void *)p, PAGE_SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == (void *)p);
		}
		*c = *c;
	}
	owner = getpid();
}

#define TABLE_FLAGS	(PTE_P | PTE_W | PTE_U | PTE_A)

void vm_build_page_tables(struct vm *vm)
{
	uint64_t root = vm_alloc(vm, PAGE_SIZE), pdpt = vm_alloc(vm, PAGE_SIZE), pd = vm_alloc(vm, 4 * PAGE_SIZE);
	uint64_t *e = vm_hva(vm, pd);

	for (uint64_t i = 0; i < 2048; i++)
		e[i] = i * HUGE_SIZE | TABLE_FLAGS | PTE_D | PTE_PS;
	e = vm_hva(vm, pdpt);
	for (uint64_t i = 0; i < 4; i++)
		e[i] = (pd + i * PAGE_SIZE) | TABLE_FLAGS;
	e = vm_hva(vm, root);
	e[0] = pdpt | TABLE_FLAGS;
	vm->cr3 = root;
}

uint64_t *vm_pte(struct vm *vm, uint64_t gva)
{
	uint64_t table = vm->cr3;

	for (int level = 3; ; level--) {
		uint64_t *e = (uint64_t *)vm_hva(vm, table) + (gva >> (12 + 9 * level) & 511);

		if (!level)
			return e;
		if (!(*e & PTE_P)) {
			*e = vm_alloc(vm, PAGE_SIZE) | TABLE_FLAGS;
		} else if (*e & PTE_PS) {
			uint64_t old = *e, *pt;

			ASSERT_EQ(level, 1);
			*e = vm_alloc(vm, PAGE_SIZE) | TABLE_FLAGS;
			pt = vm_hva(vm, *e & PTE_ADDR);
			for (uint64_t i = 0; i < 512; i++)
				pt[i] = (old & ~PTE_PS) + i * PAGE_SIZE;
		}
		table = *e & PTE_ADDR;
	}
}

void vm_map(struct vm *vm, uint64_t gva, uint64_t gpa, uint64_t flags)
{
	*vm_pte(vm, gva) = gpa | flags;
}
