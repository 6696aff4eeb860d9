/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest of a few instructions as a kernel that pvhv-run boots: an ELF with one segment, entered as PVH does
 * (Xen public/arch-x86/hvm/start_info.h): 32 bits, no paging, hvm_start_info in %ebx.
 */
#ifndef PVHV_TEST_PVH_H
#define PVHV_TEST_PVH_H

#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#define PVH_LOAD_GPA	0x100000	/* where the code is, and is entered */

/* 0, or -1 with errno */
static inline int pvh_write(const char *path, const void *code, size_t len)
{
	struct {
		Elf64_Ehdr eh;
		Elf64_Phdr ph[2];
		Elf64_Nhdr nh;
		char name[4];
		uint32_t entry, pad;
	} head = {
		.eh = {
			.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
			.e_phoff = sizeof(Elf64_Ehdr), .e_ehsize = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2,
		},
		.ph[0] = { .p_type = PT_LOAD, .p_offset = sizeof(head), .p_paddr = PVH_LOAD_GPA, .p_filesz = len,
			   .p_memsz = len },
		.ph[1] = { .p_type = PT_NOTE, .p_offset = offsetof(typeof(head), nh), .p_filesz = 20 },
		.nh = { 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */ }, .name = "Xen", .entry = PVH_LOAD_GPA,
	};
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644), ret = -1;

	if (fd < 0)
		return -1;
	if (write(fd, &head, sizeof(head)) == sizeof(head) && write(fd, code, len) == (ssize_t)len)
		ret = 0;
	close(fd);
	return ret;
}

#endif
