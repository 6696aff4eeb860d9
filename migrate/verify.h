/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The checker of streams in files: a parser of its own, so that the library's
 * mistakes are not its own.  Of the library it has the checksum and the names
 * of numbers.
 */
#ifndef PVHV_MIGRATE_VERIFY_H
#define PVHV_MIGRATE_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "format.h"

#define VERIFY_BLOCKS_MAX	64
#define VERIFY_DISKS_MAX	64

struct input {
	int fd;				/* -1: @mem */
	const uint8_t *mem;
	uint64_t len;
};

struct verify_block {
	char name[33];
	uint64_t gpa, pages, offset;
	uint8_t *have;			/* a bit a page: it came, or its sum was checked */
};

struct verify {
	const struct input *in;
	FILE *out;			/* one line a section; NULL: none */
	uint64_t at;			/* where the section began */
	char why[200];

	uint32_t flags;
	uint64_t sections;
	bool facts, ended;
	unsigned int nr_disks;
	uint64_t disk_size[VERIFY_DISKS_MAX];
	unsigned int nr;
	struct verify_block block[VERIFY_BLOCKS_MAX];
	uint64_t memory_begin, memory_end;
	uint64_t pages, state_total, state_len;
};

/* verify.c */
/* 0, or -1: v->why, about the section at v->at.  verify_fini() in any case. */
int verify(struct verify *v, const struct input *in, FILE *out);
void verify_fini(struct verify *v);
bool input_get(const struct input *in, uint64_t at, void *data, uint64_t len);
int broken(struct verify *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void say(struct verify *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint32_t le32(const uint8_t *p);
uint64_t le64(const uint8_t *p);

/* verify_pages.c */
int verify_pages(struct verify *v, const uint8_t *data, uint64_t len);
int verify_sums(struct verify *v, const uint8_t *data, uint64_t len);
int verify_memory(struct verify *v, uint64_t begin, uint64_t len);

/* verify_disks.c */
int verify_disks(struct verify *v, const uint8_t *data, uint64_t len);
int verify_disk(struct verify *v, const uint8_t *data, uint64_t len);

/* crc32c.c */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif /* PVHV_MIGRATE_VERIFY_H */
