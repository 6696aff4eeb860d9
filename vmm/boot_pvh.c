// SPDX-License-Identifier: GPL-2.0
/*
 * The PVH boot protocol (Xen's docs/misc/pvh.pandoc): hvm_start_info with
 * command line, memory map, RSDP and the initrd as module 0.
 */
#include <errno.h>
#include <string.h>

#include "vmm.h"

#define START_MAGIC	0x336ec578
#define START_VERSION	1
#define MODULES_OFF	0x40
#define MAP_OFF		0x80

struct start_info {
	u32 magic;
	u32 version;
	u32 flags;
	u32 nr_modules;
	u64 modlist_paddr;
	u64 cmdline_paddr;
	u64 rsdp_paddr;
	u64 memmap_paddr;
	u32 memmap_entries;
	u32 reserved;
};

struct module {
	u64 paddr;
	u64 size;
	u64 cmdline_paddr;
	u64 reserved;
};

struct map_entry {
	u64 addr;
	u64 size;
	u32 type;
	u32 reserved;
};

static int put_memory_map(const struct mem *mem, struct start_info *si)
{
	struct map_entry entry[6] = { 0 };
	struct boot_range map[6];
	unsigned int i, nr = boot_memory_map(mem->low, mem->high, map);

	for (i = 0; i < nr; i++) {
		entry[i].addr = map[i].base;
		entry[i].size = map[i].len;
		entry[i].type = map[i].type;
	}
	si->memmap_paddr = BOOT_PARAMS_GPA + MAP_OFF;
	si->memmap_entries = nr;
	return mem_write(mem, si->memmap_paddr, entry, nr * sizeof(entry[0]));
}

int pvh_load(const struct mem *mem, const struct image *img,
	     const struct image *initrd, const char *cmdline, u64 rsdp,
	     struct boot *boot)
{
	struct start_info si = {
		.magic = START_MAGIC,
		.version = START_VERSION,
		.cmdline_paddr = BOOT_CMDLINE_GPA,
		.rsdp_paddr = rsdp,
	};
	struct module mod = { 0 };
	struct elf_kernel elf;
	int ret;

	ret = elf_parse(img, mem->low, &elf);
	if (ret)
		return ret;
	ret = elf_load(mem, img, &elf);
	if (ret)
		return ret;
	if (initrd) {
		ret = boot_place_initrd(initrd, mem->low, elf.end, mem->low,
					&mod.paddr);
		if (ret)
			return ret;
		ret = mem_load(mem, mod.paddr, initrd, 0, initrd->size);
		if (ret)
			return ret;
		mod.size = initrd->size;
		si.nr_modules = 1;
		si.modlist_paddr = BOOT_PARAMS_GPA + MODULES_OFF;
	}
	if (put_memory_map(mem, &si) ||
	    mem_write(mem, BOOT_PARAMS_GPA + MODULES_OFF, &mod, sizeof(mod)) ||
	    mem_write(mem, BOOT_CMDLINE_GPA, cmdline, strlen(cmdline) + 1) ||
	    mem_write(mem, BOOT_PARAMS_GPA, &si, sizeof(si)))
		return fail(-EFAULT, "--memory: too little for the kernel: give it more");
	boot->entry = elf.entry;
	boot->info = BOOT_PARAMS_GPA;
	return 0;
}
