// SPDX-License-Identifier: GPL-2.0
/*
 * ELF kernels (vmlinux) that name a PVH entry in a note.
 *  1. elf_parse(): program headers and notes, every number checked against
 *     the file and the memory.
 *  2. elf_load(): the segments at their physical addresses; what they have
 *     beyond the file's bytes is zero because fresh guest memory is.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm.h"

#define MAX_HEADERS		64
#define MAX_NOTES		(64 * KIB)
#define XEN_ELFNOTE_PHYS32_ENTRY	18

bool elf_probe(const struct image *img)
{
	u8 magic[SELFMAG];

	if (img->size < sizeof(magic) ||
	    image_read(img, 0, magic, sizeof(magic)))
		return false;
	return !memcmp(magic, ELFMAG, SELFMAG);
}

static int bad_elf(const struct image *img, const char *why)
{
	return fail(-ENOEXEC, "kernel '%s': %s: name a bzImage or vmlinux of Linux for x86-64 with --kernel",
		    img->path, why);
}

static int add_segment(const struct image *img, const Elf64_Phdr *ph,
		       u64 low_ram, struct elf_kernel *elf)
{
	struct elf_segment *seg;

	if (!ph->p_memsz)
		return 0;
	if (elf->nr == ELF_MAX_SEGMENTS)
		return bad_elf(img, "too many ELF segments");
	if (ph->p_filesz > ph->p_memsz)
		return bad_elf(img, "damaged ELF segment");
	if (ph->p_offset > img->size ||
	    ph->p_filesz > img->size - ph->p_offset)
		return fail(-ENOEXEC, "kernel '%s': truncated: copy it again",
			    img->path);
	if (ph->p_paddr < BOOT_HIGH_GPA)
		return bad_elf(img, "an ELF segment lies below 1 MiB");
	if (ph->p_paddr > low_ram || ph->p_memsz > low_ram - ph->p_paddr)
		return fail(-ENOMEM, "kernel '%s': does not fit into the guest's memory: give it more with --memory",
			    img->path);
	seg = &elf->seg[elf->nr++];
	seg->off = ph->p_offset;
	seg->file_len = ph->p_filesz;
	seg->gpa = ph->p_paddr;
	seg->mem_len = ph->p_memsz;
	if (seg->gpa + seg->mem_len > elf->end)
		elf->end = seg->gpa + seg->mem_len;
	return 0;
}

/* Looks for the entry in one block of notes, four byte aligned records. */
static void scan_notes(const u8 *p, size_t len, struct elf_kernel *elf)
{
	while (len >= sizeof(Elf64_Nhdr)) {
		size_t name_len, desc_len;
		Elf64_Nhdr nh;

		memcpy(&nh, p, sizeof(nh));
		p += sizeof(nh);
		len -= sizeof(nh);
		name_len = ALIGN_UP((size_t)nh.n_namesz, 4);
		desc_len = ALIGN_UP((size_t)nh.n_descsz, 4);
		if (name_len > len || nh.n_descsz > len - name_len)
			return;
		if (nh.n_type == XEN_ELFNOTE_PHYS32_ENTRY && nh.n_namesz == 4 &&
		    nh.n_descsz >= 4 && !memcmp(p, "Xen", 4))
			memcpy(&elf->entry, p + name_len, 4);
		if (desc_len > len - name_len)
			return;
		p += name_len + desc_len;
		len -= name_len + desc_len;
	}
}

static int read_notes(const struct image *img, const Elf64_Phdr *ph,
		      struct elf_kernel *elf)
{
	void *buf;
	int ret;

	if (!ph->p_filesz || ph->p_filesz > MAX_NOTES)
		return 0;
	buf = malloc(ph->p_filesz);
	if (!buf)
		return fail(-ENOMEM, "out of memory");
	ret = image_read(img, ph->p_offset, buf, ph->p_filesz);
	if (!ret)
		scan_notes(buf, ph->p_filesz, elf);
	free(buf);
	return ret;
}

static bool entry_is_loaded(const struct elf_kernel *elf)
{
	u32 i;

	for (i = 0; i < elf->nr; i++)
		if (elf->entry >= elf->seg[i].gpa &&
		    elf->entry - elf->seg[i].gpa < elf->seg[i].file_len)
			return true;
	return false;
}

int elf_parse(const struct image *img, u64 low_ram, struct elf_kernel *elf)
{
	Elf64_Phdr ph[MAX_HEADERS];
	Elf64_Ehdr eh;
	int ret, i;

	memset(elf, 0, sizeof(*elf));
	ret = image_read(img, 0, &eh, sizeof(eh));
	if (ret)
		return ret;
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) ||
	    eh.e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh.e_ident[EI_DATA] != ELFDATA2LSB || eh.e_machine != EM_X86_64)
		return bad_elf(img, "not an x86-64 ELF file");
	if (!eh.e_phnum || eh.e_phnum > MAX_HEADERS ||
	    eh.e_phentsize != sizeof(Elf64_Phdr))
		return bad_elf(img, "damaged ELF header");
	ret = image_read(img, eh.e_phoff, ph, eh.e_phnum * sizeof(ph[0]));
	if (ret)
		return ret;
	for (i = 0; i < eh.e_phnum && !ret; i++) {
		if (ph[i].p_type == PT_LOAD)
			ret = add_segment(img, &ph[i], low_ram, elf);
		else if (ph[i].p_type == PT_NOTE)
			ret = read_notes(img, &ph[i], elf);
	}
	if (ret)
		return ret;
	if (!elf->entry)
		return bad_elf(img, "this ELF file has no PVH entry");
	if (!entry_is_loaded(elf))
		return bad_elf(img, "the PVH entry lies outside the ELF segments");
	return 0;
}

int elf_load(const struct mem *mem, const struct image *img,
	     const struct elf_kernel *elf)
{
	u32 i;
	int ret = 0;

	for (i = 0; i < elf->nr && !ret; i++)
		ret = mem_load(mem, elf->seg[i].gpa, img, elf->seg[i].off,
			       elf->seg[i].file_len);
	return ret;
}
