// SPDX-License-Identifier: GPL-2.0
/*
 * Second half of the loader (loader.S is the first), in 32-bit flat mode:
 *  1. says that the machine starts, so that a restart can be seen,
 *  2. reads the kernel's segments and the initial RAM disk from the first ATA disk, by PIO,
 *  3. makes the PVH start info (the ABI of Xen's hvm_start_info, which Linux implements).
 */
#include "loader.h"
#include "frames.h"

#define PVH_MAGIC	0x336ec578
#define RSDP_SIGNATURE	0x2052545020445352ULL	/* "RSD PTR " */
#define BIOS_AREA	0xe0000
#define BIOS_END	0x100000

#define ATA_DATA	0x1f0
#define ATA_COUNT	0x1f2
#define ATA_LBA		0x1f3
#define ATA_DEVICE	0x1f6
#define ATA_COMMAND	0x1f7
#define ATA_CONTROL	0x3f6
#define ATA_BUSY	0x80
#define ATA_DRQ		0x08
#define ATA_ERR		0x01
#define ATA_READ	0x20
#define ATA_NO_IRQ	0x02
#define ATA_BATCH	128	/* sectors a command */

struct pvh_module {
	unsigned long long paddr, size, cmdline, reserved;
};

struct pvh_start_info {
	unsigned int magic, version, flags, nr_modules;
	unsigned long long modules, cmdline, rsdp, memmap;
	unsigned int memmap_entries, reserved;
};

static void outb(unsigned short port, unsigned char value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static unsigned char inb(unsigned short port)
{
	unsigned char value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void frame(char channel, const char *text)
{
	unsigned int len = 0;

	while (text[len])
		len++;
	outb(FRAME_PORT, FRAME_BEGIN);
	outb(FRAME_PORT, channel);
	outb(FRAME_PORT, len & 0xff);
	outb(FRAME_PORT, len >> 8);
	while (*text)
		outb(FRAME_PORT, *text++);
}

static void stop(const char *why)
{
	frame(FRAME_FAIL, why);
	for (;;)
		__asm__ volatile("hlt");
}

static void read_sectors(unsigned int lba, unsigned int count, unsigned char *to)
{
	while (count) {
		unsigned int batch = count < ATA_BATCH ? count : ATA_BATCH, i;

		while (inb(ATA_COMMAND) & ATA_BUSY)
			;
		outb(ATA_DEVICE, 0xe0 | lba >> 24);
		outb(ATA_COUNT, batch);
		for (i = 0; i < 3; i++)
			outb(ATA_LBA + i, lba >> (8 * i));
		outb(ATA_COMMAND, ATA_READ);
		for (i = 0; i < batch; i++) {
			unsigned int words = SECTOR / 2;
			unsigned char status;

			do
				status = inb(ATA_COMMAND);
			while ((status & ATA_BUSY) || !(status & (ATA_DRQ | ATA_ERR)));
			if (status & ATA_ERR)
				stop("loader: the disk can't be read");
			__asm__ volatile("cld; rep insw" : "+D"(to), "+c"(words) : "d"(ATA_DATA) : "memory");
		}
		lba += batch;
		count -= batch;
	}
}

static void load_segment(const struct disk_segment *s)
{
	unsigned char *rest = (unsigned char *)s->paddr + s->bytes;
	unsigned int zeros = s->memory - s->bytes;

	read_sectors(s->lba, (s->bytes + SECTOR - 1) / SECTOR, (unsigned char *)s->paddr);
	__asm__ volatile("cld; rep stosb" : "+D"(rest), "+c"(zeros) : "a"(0) : "memory");
}

static unsigned int find_rsdp(void)
{
	unsigned int at;

	for (at = BIOS_AREA; at < BIOS_END; at += 16)
		if (*(unsigned long long *)at == RSDP_SIGNATURE)
			return at;
	return 0;
}

/* The start info's address in the upper half, the entry in the lower: EDX:EAX. */
unsigned long long load(void)
{
	struct disk_header *header = (void *)HEADER_AT;
	struct pvh_start_info *info = (void *)START_INFO_AT;
	struct pvh_module *initrd = (void *)(info + 1);
	unsigned int i;

	frame(FRAME_BOOT, "");
	outb(ATA_CONTROL, ATA_NO_IRQ);
	read_sectors(HEADER_LBA, HEADER_SECTORS, (unsigned char *)header);
	if (header->magic != HEADER_MAGIC)
		stop("loader: no header on the disk");
	for (i = 0; i < header->nr_segments; i++)
		load_segment(&header->segment[i]);
	outb(ATA_CONTROL, 0);

	*initrd = (struct pvh_module){ .paddr = header->initrd, .size = header->initrd_bytes };
	*info = (struct pvh_start_info){
		.magic = PVH_MAGIC,
		.version = 1,
		.nr_modules = 1,
		.modules = (unsigned int)initrd,
		.cmdline = (unsigned int)header->cmdline,
		.rsdp = find_rsdp(),
		.memmap = MEMMAP_AT,
		.memmap_entries = *(unsigned int *)MEMMAP_COUNT_AT,
	};
	return (unsigned long long)(unsigned int)info << 32 | header->entry;
}
