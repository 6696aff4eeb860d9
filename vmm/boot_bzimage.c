// SPDX-License-Identifier: GPL-2.0
/*
 * Linux's 64-bit boot protocol (Documentation/arch/x86/boot.rst).
 *  1. bzimage_parse(): the setup header, every number in it checked against
 *     the file and the memory before it is used.
 *  2. bzimage_load(): protected mode part, initrd, command line, boot_params.
 */
#include <errno.h>
#include <string.h>
#include <asm/bootparam.h>

#include "vmm.h"

#define HEADER_OFF		0x1f1
#define BOOT_FLAG		0xaa55
#define HDRS			0x53726448
#define VERSION_64BIT		0x020c
#define ENTRY_64BIT		0x200
#define LOADER_UNDEFINED	0xff
#define VGA_NORMAL		0xffff

static int not_a_kernel(const struct image *img, const char *why)
{
	return fail(-ENOEXEC, "kernel '%s': %s: name a bzImage or vmlinux of Linux for x86-64 with --kernel",
		    img->path, why);
}

int bzimage_parse(const struct image *img, u64 low_ram, struct bzimage *bz)
{
	struct setup_header hdr;
	u64 setup_len, need;
	u8 jump[2];
	int ret;

	memset(bz, 0, sizeof(*bz));
	memset(&hdr, 0, sizeof(hdr));

	/* The length of the header is in its jump instruction. */
	if (img->size < HEADER_OFF + offsetof(struct setup_header, version))
		return not_a_kernel(img, "too short for a kernel");
	ret = image_read(img, HEADER_OFF, &hdr,
			 offsetof(struct setup_header, version));
	if (ret)
		return ret;
	if (hdr.boot_flag != BOOT_FLAG || hdr.header != HDRS)
		return not_a_kernel(img, "not a Linux kernel");
	memcpy(jump, &hdr.jump, sizeof(jump));
	bz->header_len = 0x202 + jump[1] - HEADER_OFF;
	if (bz->header_len > sizeof(hdr))
		bz->header_len = sizeof(hdr);
	if (bz->header_len < offsetof(struct setup_header, version))
		return not_a_kernel(img, "damaged setup header");
	ret = image_read(img, HEADER_OFF, &hdr, bz->header_len);
	if (ret)
		return ret;
	memcpy(bz->header, &hdr, bz->header_len);

	if (hdr.version < VERSION_64BIT || !(hdr.xloadflags & XLF_KERNEL_64) ||
	    !(hdr.loadflags & LOADED_HIGH))
		return not_a_kernel(img, "no 64-bit entry");

	setup_len = (hdr.setup_sects ? hdr.setup_sects : 4) + 1;
	bz->payload_off = setup_len * 512;
	bz->payload_len = (u64)hdr.syssize * 16;
	if (bz->payload_len <= ENTRY_64BIT)
		return not_a_kernel(img, "damaged setup header");
	if (bz->payload_off > img->size ||
	    bz->payload_len > img->size - bz->payload_off)
		return fail(-ENOEXEC, "kernel '%s': truncated, %llu of %llu bytes are there: copy it again",
			    img->path, (unsigned long long)img->size,
			    (unsigned long long)(bz->payload_off +
						 bz->payload_len));

	bz->load = hdr.relocatable_kernel ? hdr.pref_address : hdr.code32_start;
	need = hdr.init_size > bz->payload_len ? hdr.init_size : bz->payload_len;
	if (bz->load < BOOT_HIGH_GPA || bz->load >= HIGH_RAM_BASE)
		return not_a_kernel(img, "damaged setup header");
	bz->end = bz->load + need;
	if (bz->end > low_ram)
		return fail(-ENOMEM, "kernel '%s': needs %llu MiB of memory below 4 GiB to start: give it more with --memory",
			    img->path,
			    (unsigned long long)(ALIGN_UP(bz->end, MIB) / MIB));
	bz->initrd_max = (u64)hdr.initrd_addr_max + 1;
	bz->cmdline_max = (u64)hdr.cmdline_size + 1 < BOOT_CMDLINE_MAX ?
			  hdr.cmdline_size + 1 : BOOT_CMDLINE_MAX;
	return 0;
}

static void put_memory_map(struct boot_params *bp, const struct mem *mem)
{
	struct boot_range map[6];
	unsigned int i, nr = boot_memory_map(mem->low, mem->high, map);

	for (i = 0; i < nr; i++) {
		bp->e820_table[i].addr = map[i].base;
		bp->e820_table[i].size = map[i].len;
		bp->e820_table[i].type = map[i].type;
	}
	bp->e820_entries = nr;
}

int bzimage_load(const struct mem *mem, const struct image *img,
		 const struct image *initrd, const char *cmdline, u64 rsdp,
		 struct boot *boot)
{
	struct boot_params bp;
	struct bzimage bz;
	u64 gpa;
	int ret;

	ret = bzimage_parse(img, mem->low, &bz);
	if (ret)
		return ret;
	ret = mem_load(mem, bz.load, img, bz.payload_off, bz.payload_len);
	if (ret)
		return ret;

	memset(&bp, 0, sizeof(bp));
	memcpy(&bp.hdr, bz.header, bz.header_len);
	bp.hdr.type_of_loader = LOADER_UNDEFINED;
	bp.hdr.vid_mode = VGA_NORMAL;
	bp.hdr.cmd_line_ptr = BOOT_CMDLINE_GPA;
	bp.hdr.code32_start = bz.load;
	bp.hdr.setup_data = 0;
	bp.acpi_rsdp_addr = rsdp;
	put_memory_map(&bp, mem);

	if (initrd) {
		ret = boot_place_initrd(initrd, mem->low, bz.end, bz.initrd_max,
					&gpa);
		if (ret)
			return ret;
		ret = mem_load(mem, gpa, initrd, 0, initrd->size);
		if (ret)
			return ret;
		bp.hdr.ramdisk_image = gpa;
		bp.hdr.ramdisk_size = initrd->size;
	}
	if (mem_write(mem, BOOT_CMDLINE_GPA, cmdline, strlen(cmdline) + 1) ||
	    mem_write(mem, BOOT_PARAMS_GPA, &bp, sizeof(bp)))
		return fail(-EFAULT, "--memory: too little for the kernel: give it more");
	boot->entry = bz.load + ENTRY_64BIT;
	boot->info = BOOT_PARAMS_GPA;
	return 0;
}
