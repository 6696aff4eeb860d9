/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The stream's numbers; docs/stream.md draws them.  All little-endian.
 */
#ifndef PVHV_MIGRATE_FORMAT_H
#define PVHV_MIGRATE_FORMAT_H

#include <stdint.h>

#define FMT_MAGIC		"PVHVMIG\x1a"
#define FMT_MAGIC_LEN		8
#define FMT_VERSION		1	/* written; this and the one before are read */

/* The header: one at the start of each connection, in either direction of none but the source's */
#define HDR_LEN			64
#define HDR_VERSION		8
#define HDR_FLAGS		12
#define HDR_ID			16
#define HDR_ID_LEN		16
#define HDR_CONNECTION		32
#define HDR_CONNECTIONS		36
#define HDR_PAGE_SIZE		40
#define HDR_CRC			60	/* of all before it */

#define HDR_ONEWAY		1U	/* nobody answers */
#define HDR_IMAGE		2U	/* a file with a MEMORY section; implies ONEWAY */
#define HDR_RESOLVE		4U	/* asks who took the machine */
#define HDR_KNOWN_FLAGS		7U

/* A section's header, its payload, zeroes up to a multiple of 8 */
#define SEC_LEN			32
#define SEC_MAGIC		0x54434553U	/* "SECT" */
#define SEC_TYPE		4
#define SEC_FLAGS		6
#define SEC_LENGTH		8
#define SEC_NUMBER		16
#define SEC_PAYLOAD_CRC		24
#define SEC_CRC			28	/* of all before it */

#define SEC_REQUIRED		1U	/* who does not know the type refuses the stream */
#define SEC_UNSUMMED		2U	/* no checksum of the payload: MEMORY only */
#define SEC_KNOWN_FLAGS		3U

enum {
	TYPE_FACTS = 1,
	TYPE_BLOCKS = 2,
	TYPE_ACCEPT = 3,
	TYPE_PAGES = 4,
	TYPE_ROUND = 5,
	TYPE_STATE = 6,
	TYPE_END = 7,
	TYPE_MEMORY = 8,
	TYPE_SUMS = 9,
	TYPE_DISKS = 10,
	TYPE_WANT = 11,
	TYPE_DISK = 12,
	TYPE_READY = 16,
	TYPE_YOURS = 17,
	TYPE_TAKEN = 18,
	TYPE_BYE = 19,
	TYPE_RELEASED = 20,
	TYPE_FAIL = 21,
	/* 32 to 47 are kept for post-copy, 48 to 63 for epochs of mirroring */
};

/* What a payload may hold */
#define FACTS_MAX_LEN		(64U << 10)
#define FACTS_MAX		1024U
#define FACT_NAME_MAX		63U
#define FACT_VALUE_MAX		4095U

#define BLOCKS_HEAD		8
#define BLOCK_LEN		56
#define BLOCK_NAME		0
#define BLOCK_GPA		32
#define BLOCK_SIZE		40
#define BLOCK_OFFSET		48	/* in the file; images only */
#define BLOCK_PAGES_MAX		(1ULL << 28)

#define PAGES_HEAD		16
#define PAGES_BLOCK		0
#define PAGES_COUNT		4
#define PAGES_ENCODING		8
#define PAGES_RAW_LEN		12
#define PAGES_MAX		256U	/* entries */
#define PAGES_RAW_MAX		(PAGES_MAX * 4096U)
#define PAGES_MAX_LEN		(PAGES_HEAD + PAGES_MAX * 8U + PAGES_RAW_MAX)
#define ENCODING_PLAIN		0U
#define ENCODING_ZSTD		1U

/* Disks that are copied along: what there is, and pieces of them */
#define DISKS_HEAD		8
#define DISK_LEN		40
#define DISK_NAME		0
#define DISK_SIZE		32
#define DISK_SECTOR		512U
#define DISK_SIZE_MAX		(1ULL << 46)
#define WANT_LEN		8	/* a bit for each */
#define CHUNK_HEAD		24
#define CHUNK_DISK		0
#define CHUNK_KIND		4
#define CHUNK_OFFSET		8
#define CHUNK_BYTES		16
#define CHUNK_ZERO		0U	/* so many bytes of zeroes, no data */
#define CHUNK_PLAIN		1U
#define CHUNK_ZSTD		2U	/* one frame */

/* An entry: page number, kind, and 13 bits that mean what the kind says */
#define ENTRY_PAGE_SHIFT	16
#define ENTRY_KIND_SHIFT	13
#define ENTRY_ARG_MASK		0x1fffU
#define KIND_ZERO		0U	/* so many pages of zeroes, no data */
#define KIND_PLAIN		1U	/* 4096 bytes of data */
#define KIND_DELTA		2U	/* so many bytes of data */
#define ZERO_RUN_MAX		ENTRY_ARG_MASK

/* A delta's runs: words to pass over, words to XOR, those words */
#define DELTA_WORD		8U
#define DELTA_HEAD		4U
#define PAGE_WORDS		512U

#define ROUND_LEN		8
#define STATE_HEAD		16	/* total, offset */
#define STATE_PART_MAX		(1U << 20)
#define END_LEN			16	/* pages, bytes of state */
#define SUMS_HEAD		16	/* block, count, first page */
#define SUMS_MAX		(128U << 10)
#define FAIL_MAX_LEN		500U
#define SKIP_MAX_LEN		(1ULL << 32)	/* an unknown optional section */

#endif /* PVHV_MIGRATE_FORMAT_H */
