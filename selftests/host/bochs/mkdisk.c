// SPDX-License-Identifier: GPL-2.0
/*
 * mkdisk LOADER KERNEL INITRD COMMAND-LINE OUT: a disk whose boot sector is our loader's, with an unpacked kernel (ELF) and an
 * initial RAM disk behind it. The kernel is entered at the address in its PVH note.
 */
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define INITRD_LOWEST	0x8000000
#define ALIGN_2M(x)	(((x) + 0x1fffff) & ~0x1fffffULL)
#define ALIGN_4(x)	(((x) + 3) & ~3ULL)
/* Bochs wants whole cylinders: 16 heads of 63 sectors */
#define CYLINDER	(16 * 63 * SECTOR)

struct file {
	const unsigned char *data;
	size_t size;
};

static struct file map(const char *name)
{
	struct file f;
	struct stat st;
	int fd = open(name, O_RDONLY);

	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", name);
	f.size = st.st_size;
	f.data = mmap(NULL, f.size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (f.data == MAP_FAILED)
		err(1, "%s", name);
	close(fd);
	return f;
}

/* Of the note "Xen" with the entry, 0: it is not among these. */
static uint32_t find_entry(const unsigned char *note, const unsigned char *end)
{
	while (note + sizeof(Elf64_Nhdr) <= end) {
		const Elf64_Nhdr *n = (const void *)note;
		const unsigned char *name = note + sizeof(*n), *desc = name + ALIGN_4(n->n_namesz);

		if (n->n_type == XEN_ELFNOTE_PHYS32_ENTRY && n->n_namesz == sizeof("Xen") &&
		    desc + sizeof(uint32_t) <= end && !memcmp(name, "Xen", sizeof("Xen")))
			return *(const uint32_t *)desc;
		note = desc + ALIGN_4(n->n_descsz);
	}
	return 0;
}

static void add(FILE *out, struct disk_header *h, const unsigned char *data, size_t bytes, uint64_t paddr, uint64_t memory)
{
	struct disk_segment *s = &h->segment[h->nr_segments];
	static const char zeros[SECTOR];

	if (h->nr_segments++ == MAX_SEGMENTS)
		errx(1, "too many segments");
	*s = (struct disk_segment){ .lba = ftell(out) / SECTOR, .bytes = bytes, .paddr = paddr, .memory = memory };
	fwrite(data, 1, bytes, out);
	fwrite(zeros, 1, -bytes % SECTOR, out);
}

int main(int argc, char **argv)
{
	static struct disk_header header = { .magic = HEADER_MAGIC };
	struct file loader, kernel, initrd;
	const Elf64_Ehdr *elf;
	const Elf64_Phdr *ph;
	uint64_t top = 0;
	FILE *out;
	long size;
	int i;

	if (argc != 6)
		errx(1, "usage: mkdisk LOADER KERNEL INITRD COMMAND-LINE OUT");
	loader = map(argv[1]);
	kernel = map(argv[2]);
	initrd = map(argv[3]);
	if (loader.size > LOADER_SECTORS * SECTOR)
		errx(1, "%s is too long", argv[1]);
	if (strlen(argv[4]) >= sizeof(header.cmdline))
		errx(1, "the kernel's command line is too long");
	strcpy(header.cmdline, argv[4]);
	elf = (const void *)kernel.data;
	if (kernel.size < sizeof(*elf) || memcmp(elf->e_ident, ELFMAG, SELFMAG) || elf->e_ident[EI_CLASS] != ELFCLASS64)
		errx(1, "%s is no 64-bit ELF file", argv[2]);

	out = fopen(argv[5], "wb");
	if (!out)
		err(1, "%s", argv[5]);
	fwrite(loader.data, 1, loader.size, out);
	fseek(out, (HEADER_LBA + HEADER_SECTORS) * SECTOR, SEEK_SET);
	ph = (const void *)(kernel.data + elf->e_phoff);
	for (i = 0; i < elf->e_phnum; i++, ph++) {
		const unsigned char *data = kernel.data + ph->p_offset;

		if (ph->p_offset + ph->p_filesz > kernel.size)
			errx(1, "%s is cut off", argv[2]);
		if (ph->p_type == PT_NOTE && !header.entry)
			header.entry = find_entry(data, data + ph->p_filesz);
		if (ph->p_type != PT_LOAD)
			continue;
		add(out, &header, data, ph->p_filesz, ph->p_paddr, ph->p_memsz);
		if (ph->p_paddr + ph->p_memsz > top)
			top = ph->p_paddr + ph->p_memsz;
	}
	if (!header.entry)
		errx(1, "%s has no PVH entry", argv[2]);
	top = ALIGN_2M(top);
	header.initrd = top > INITRD_LOWEST ? top : INITRD_LOWEST;
	header.initrd_bytes = initrd.size;
	add(out, &header, initrd.data, initrd.size, header.initrd, initrd.size);
	size = ftell(out);
	fseek(out, HEADER_LBA * SECTOR, SEEK_SET);
	fwrite(&header, 1, sizeof(header), out);
	if (fflush(out) || ftruncate(fileno(out), (size + CYLINDER - 1) / CYLINDER * CYLINDER) || fclose(out))
		err(1, "%s", argv[5]);
	return 0;
}
