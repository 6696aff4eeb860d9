// SPDX-License-Identifier: GPL-2.0
/*
 * From files to an entry point.
 *  1. boot_check(): could these files start in that much memory?  Nothing
 *     is made yet, so every complaint about files comes before a VM exists.
 *  2. boot_load(): ACPI tables, reset vector, segment descriptors, page
 *     tables, then the kernel by its own protocol.
 *  3. What both protocols share: the memory map and the initrd's place.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pci.h"

#define E820_RAM		1
#define E820_RESERVED		2

#define PTE_PRESENT		0x001
#define PTE_WRITE		0x002
#define PTE_HUGE		0x080

unsigned int boot_memory_map(u64 low, u64 high, struct boot_range out[6])
{
	unsigned int nr = 0;

	out[nr++] = (struct boot_range){ 0, BOOT_EBDA_GPA, E820_RAM };
	out[nr++] = (struct boot_range){ BOOT_EBDA_GPA, 0xa0000 - BOOT_EBDA_GPA,
					 E820_RESERVED };
	out[nr++] = (struct boot_range){ ACPI_GPA, BOOT_HIGH_GPA - ACPI_GPA,
					 E820_RESERVED };
	if (low > BOOT_HIGH_GPA)
		out[nr++] = (struct boot_range){ BOOT_HIGH_GPA,
						 low - BOOT_HIGH_GPA, E820_RAM };
	out[nr++] = (struct boot_range){ PCI_ECAM_BASE, PCI_ECAM_SIZE,
					 E820_RESERVED };
	if (high)
		out[nr++] = (struct boot_range){ HIGH_RAM_BASE, high, E820_RAM };
	return nr;
}

/*
 * As high as the kernel can reach, so that the kernel below has room to
 * unpack; @floor is the first byte after the kernel, @limit the last address
 * that the kernel accepts plus one.
 */
int boot_place_initrd(const struct image *initrd, u64 low_ram, u64 floor,
		      u64 limit, u64 *gpa)
{
	u64 top = limit < low_ram ? limit : low_ram, start;

	top = ALIGN_DOWN(top, 4096);
	if (initrd->size > top)
		goto too_large;
	start = ALIGN_DOWN(top - initrd->size, 4096);
	if (start < floor)
		goto too_large;
	*gpa = start;
	return 0;
too_large:
	return fail(-E2BIG, "initrd '%s': its %llu KiB do not fit into the guest's memory beside the kernel: give it more with --memory",
		    initrd->path, (unsigned long long)(initrd->size / KIB));
}

static int check_cmdline(const char *cmdline, u64 max)
{
	if (strlen(cmdline) >= max)
		return fail(-E2BIG, "--append: the command line is longer than the kernel's %llu bytes: shorten it",
			    (unsigned long long)(max - 1));
	return 0;
}

int boot_check(const struct image *kernel, const struct image *initrd,
	       const char *cmdline, u64 memory, enum boot_mode *mode)
{
	u64 low = memory < LOW_RAM_MAX ? memory : LOW_RAM_MAX, gpa;
	u64 floor, limit, max = BOOT_CMDLINE_MAX;
	struct elf_kernel elf;
	struct bzimage bz;
	int ret;

	if (elf_probe(kernel)) {
		*mode = BOOT_PVH;
		ret = elf_parse(kernel, low, &elf);
		floor = elf.end;
		limit = low;
	} else {
		*mode = BOOT_LONG_MODE;
		ret = bzimage_parse(kernel, low, &bz);
		floor = bz.end;
		limit = bz.initrd_max;
		max = bz.cmdline_max;
	}
	if (ret)
		return ret;
	ret = check_cmdline(cmdline, max);
	if (ret || !initrd)
		return ret;
	return boot_place_initrd(initrd, low, floor, limit, &gpa);
}

/* The first four GiB one to one; the kernel makes its own tables soon. */
static int load_page_tables(const struct mem *mem)
{
	u64 *table = mem_at(mem, BOOT_TABLES_GPA, 6 * 4096);
	u64 *pml4, *pdpt, *pd;
	int i;

	if (!table)
		return -EFAULT;
	pml4 = table;
	pdpt = table + 512;
	pd = table + 1024;
	pml4[0] = (BOOT_TABLES_GPA + 4096) | PTE_PRESENT | PTE_WRITE;
	for (i = 0; i < 4; i++)
		pdpt[i] = (BOOT_TABLES_GPA + 4096 * (2 + i)) | PTE_PRESENT |
			  PTE_WRITE;
	for (i = 0; i < 4 * 512; i++)
		pd[i] = (u64)i * 2 * MIB | PTE_PRESENT | PTE_WRITE | PTE_HUGE;
	return 0;
}

/* The descriptors that vcpu_init.c's segment registers were loaded from. */
static int load_gdt(const struct mem *mem, enum boot_mode mode)
{
	const u64 gdt[] = {
		0, 0,
		mode == BOOT_PVH ? 0x00cf9b000000ffffULL : 0x00af9b000000ffffULL,
		0x00cf93000000ffffULL,
		0x00008b0000000067ULL, 0,
	};

	return mem_write(mem, BOOT_GDT_GPA, gdt, sizeof(gdt));
}

/*
 * All the firmware there is.  A stock kernel on a hardware-reduced machine
 * without EFI does not reset by the FADT's register: it goes back to real mode
 * and jumps to f000:fff0, as DOS programs did.
 */
static int load_reset_vector(const struct mem *mem)
{
	static const u8 code[] = {
		0xb0, 0x06,			/* mov $6, %al */
		0xba, 0xf9, 0x0c,		/* mov $0xcf9, %dx */
		0xee,				/* out %al, %dx */
		0xf4,				/* hlt */
		0xeb, 0xfd,			/* jmp to the hlt */
	};

	return mem_write(mem, RESET_VECTOR_GPA, code, sizeof(code));
}

static int load_acpi(struct vm *vm)
{
	const struct acpi_machine machine = {
		.cpus = vm->opt->cpus,
		.pci_slots = vm->pci ? pci_slots(vm->pci) : 0,
	};
	size_t used;
	void *buf;
	int ret;

	buf = malloc(ACPI_TABLES_MAX);
	if (!buf)
		return fail(-ENOMEM, "out of memory");
	ret = acpi_build(buf, ACPI_TABLES_MAX, ACPI_GPA, &machine, &used);
	if (!ret)
		ret = mem_write(&vm->mem, ACPI_GPA, buf, used);
	free(buf);
	if (ret)
		return fail(ret, "cannot build the ACPI tables: %s",
			    strerror(-ret));
	vm->rsdp = ACPI_GPA;
	return 0;
}

int boot_load(struct vm *vm, const struct image *kernel,
	      const struct image *initrd)
{
	const char *cmdline = vm->opt->append;
	bool elf = elf_probe(kernel);
	int ret;

	vm->boot.mode = elf ? BOOT_PVH : BOOT_LONG_MODE;
	ret = load_acpi(vm);
	if (ret)
		return ret;
	if (load_gdt(&vm->mem, vm->boot.mode) || load_page_tables(&vm->mem) ||
	    load_reset_vector(&vm->mem))
		return fail(-EFAULT, "--memory: too little to start anything: give the guest 64M or more");
	if (elf)
		return pvh_load(&vm->mem, kernel, initrd, cmdline, vm->rsdp,
				&vm->boot);
	return bzimage_load(&vm->mem, kernel, initrd, cmdline, vm->rsdp,
			    &vm->boot);
}
