/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the loader's two halves and mkdisk.c agree on: where things are in memory and on the disk.
 *
 * The disk: the loader from sector 0, struct disk_header at sector HEADER_LBA, then the segments.
 */
#ifndef PVHV_BOCHS_LOADER_H
#define PVHV_BOCHS_LOADER_H

#define SECTOR		512
#define LOADER_SECTORS	32
#define HEADER_LBA	LOADER_SECTORS

#define MEMMAP_COUNT_AT	0x4ff0
#define MEMMAP_AT	0x5000
#define MEMMAP_ENTRY	24
#define START_INFO_AT	0x6800
#define BOOT_AT		0x7c00
#define HEADER_AT	0x10000

#ifndef __ASSEMBLER__

#define HEADER_MAGIC	0x76687670	/* "pvhv" */
#define MAX_SEGMENTS	8

struct disk_segment {
	unsigned int lba, bytes, paddr, memory;	/* what is beyond bytes is zero */
};

struct disk_header {
	unsigned int magic, entry, nr_segments, initrd, initrd_bytes;
	struct disk_segment segment[MAX_SEGMENTS];
	char cmdline[2048];
};

#define HEADER_SECTORS	((sizeof(struct disk_header) + SECTOR - 1) / SECTOR)

#endif
#endif
