// SPDX-License-Identifier: GPL-2.0
/*
 * A small AML emitter (ACPI 6.4, chapter 20): names, integers, strings,
 * packages, devices, methods, fields and resource templates, as many as the
 * DSDT of acpi.c needs.
 *
 * A block's package length is not known before its end, so three bytes are
 * kept for it and filled in by aml_end(); the encoding allows that form for
 * short blocks as well.
 */
#include <string.h>

#include "vmm.h"

#define OP_ZERO		0x00
#define OP_ONE		0x01
#define OP_NAME		0x08
#define OP_BYTE		0x0a
#define OP_WORD		0x0b
#define OP_DWORD	0x0c
#define OP_STRING	0x0d
#define OP_QWORD	0x0e
#define OP_SCOPE	0x10
#define OP_BUFFER	0x11
#define OP_PACKAGE	0x12
#define OP_METHOD	0x14
#define OP_DUAL_NAME	0x2e
#define OP_MULTI_NAME	0x2f
#define OP_EXT		0x5b
#define OP_EXT_REGION	0x80
#define OP_EXT_FIELD	0x81
#define OP_EXT_DEVICE	0x82
#define OP_IF		0xa0

#define LENGTH_BYTES	3
#define SPACE_IO	1
#define METHOD_SERIALIZED	0x08

void aml_bytes(struct aml *a, const void *data, size_t len)
{
	if (a->overflow || len > a->cap - a->len) {
		a->overflow = true;
		return;
	}
	memcpy(a->data + a->len, data, len);
	a->len += len;
}

void aml_byte(struct aml *a, u8 value)
{
	aml_bytes(a, &value, 1);
}

static void emit_le(struct aml *a, u64 value, unsigned int bytes)
{
	while (bytes--) {
		aml_byte(a, value);
		value >>= 8;
	}
}

/* "\_SB.PWRB": segments of at most four characters, padded with '_'. */
void aml_path(struct aml *a, const char *path)
{
	unsigned int segments = 1;
	const char *c;
	int i;

	if (*path == '\\') {
		aml_byte(a, '\\');
		path++;
	}
	for (c = path; *c; c++)
		segments += *c == '.';
	if (segments == 2)
		aml_byte(a, OP_DUAL_NAME);
	if (segments > 2) {
		aml_byte(a, OP_MULTI_NAME);
		aml_byte(a, segments);
	}
	for (;;) {
		for (i = 0; i < 4; i++)
			aml_byte(a, *path && *path != '.' ? *path++ : '_');
		if (*path != '.')
			return;
		path++;
	}
}

void aml_integer(struct aml *a, u64 value)
{
	if (value == 0) {
		aml_byte(a, OP_ZERO);
	} else if (value == 1) {
		aml_byte(a, OP_ONE);
	} else if (value <= UINT8_MAX) {
		aml_byte(a, OP_BYTE);
		emit_le(a, value, 1);
	} else if (value <= UINT16_MAX) {
		aml_byte(a, OP_WORD);
		emit_le(a, value, 2);
	} else if (value <= UINT32_MAX) {
		aml_byte(a, OP_DWORD);
		emit_le(a, value, 4);
	} else {
		aml_byte(a, OP_QWORD);
		emit_le(a, value, 8);
	}
}

void aml_string(struct aml *a, const char *text)
{
	aml_byte(a, OP_STRING);
	aml_bytes(a, text, strlen(text) + 1);
}

void aml_name(struct aml *a, const char *path)
{
	aml_byte(a, OP_NAME);
	aml_path(a, path);
}

void aml_name_integer(struct aml *a, const char *path, u64 value)
{
	aml_name(a, path);
	aml_integer(a, value);
}

void aml_name_string(struct aml *a, const char *path, const char *text)
{
	aml_name(a, path);
	aml_string(a, text);
}

static u8 hex_digit(char c)
{
	return c <= '9' ? c - '0' : c - 'A' + 10;
}

/* "PNP0501": three letters of five bits, four hexadecimal digits. */
void aml_name_eisaid(struct aml *a, const char *path, const char *id)
{
	u8 c0 = id[0] & 0x1f, c1 = id[1] & 0x1f, c2 = id[2] & 0x1f;

	aml_name(a, path);
	aml_byte(a, OP_DWORD);
	aml_byte(a, c0 << 2 | c1 >> 3);
	aml_byte(a, c1 << 5 | c2);
	aml_byte(a, hex_digit(id[3]) << 4 | hex_digit(id[4]));
	aml_byte(a, hex_digit(id[5]) << 4 | hex_digit(id[6]));
}

static struct aml_block begin(struct aml *a)
{
	struct aml_block block = { .start = a->len };

	emit_le(a, 0, LENGTH_BYTES);
	return block;
}

void aml_end(struct aml *a, struct aml_block block)
{
	size_t len = a->len - block.start;

	if (a->overflow || len >= 1 << 20) {
		a->overflow = true;
		return;
	}
	a->data[block.start] = (LENGTH_BYTES - 1) << 6 | (len & 15);
	a->data[block.start + 1] = len >> 4;
	a->data[block.start + 2] = len >> 12;
}

struct aml_block aml_scope(struct aml *a, const char *path)
{
	struct aml_block block;

	aml_byte(a, OP_SCOPE);
	block = begin(a);
	aml_path(a, path);
	return block;
}

struct aml_block aml_device(struct aml *a, const char *path)
{
	struct aml_block block;

	aml_byte(a, OP_EXT);
	aml_byte(a, OP_EXT_DEVICE);
	block = begin(a);
	aml_path(a, path);
	return block;
}

struct aml_block aml_method(struct aml *a, const char *path, u8 args,
			    bool serialized)
{
	struct aml_block block;

	aml_byte(a, OP_METHOD);
	block = begin(a);
	aml_path(a, path);
	aml_byte(a, (args & 7) | (serialized ? METHOD_SERIALIZED : 0));
	return block;
}

struct aml_block aml_package(struct aml *a, u8 elements)
{
	struct aml_block block;

	aml_byte(a, OP_PACKAGE);
	block = begin(a);
	aml_byte(a, elements);
	return block;
}

struct aml_block aml_if(struct aml *a)
{
	aml_byte(a, OP_IF);
	return begin(a);
}

void aml_region_io(struct aml *a, const char *path, u16 port, u8 len)
{
	aml_byte(a, OP_EXT);
	aml_byte(a, OP_EXT_REGION);
	aml_path(a, path);
	aml_byte(a, SPACE_IO);
	aml_integer(a, port);
	aml_integer(a, len);
}

struct aml_block aml_field(struct aml *a, const char *region, u8 flags)
{
	struct aml_block block;

	aml_byte(a, OP_EXT);
	aml_byte(a, OP_EXT_FIELD);
	block = begin(a);
	aml_path(a, region);
	aml_byte(a, flags);
	return block;
}

/* Up to 63 bits, the length that one byte encodes. */
void aml_field_unit(struct aml *a, const char *name, u8 bits)
{
	aml_path(a, name);
	aml_byte(a, bits & 63);
}

/* A name with a resource template: a buffer whose size comes at its end. */
struct aml_block aml_resources(struct aml *a, const char *path)
{
	struct aml_block block;

	aml_name(a, path);
	aml_byte(a, OP_BUFFER);
	block = begin(a);
	aml_byte(a, OP_WORD);
	emit_le(a, 0, 2);
	return block;
}

void aml_resources_end(struct aml *a, struct aml_block block)
{
	size_t head = block.start + LENGTH_BYTES;
	size_t len;

	aml_byte(a, 0x79);	/* end tag, its checksum left out as allowed */
	aml_byte(a, 0x00);
	if (a->overflow)
		return;
	len = a->len - head - 3;
	a->data[head + 1] = len;
	a->data[head + 2] = len >> 8;
	aml_end(a, block);
}

void aml_res_io(struct aml *a, u16 port, u8 len)
{
	aml_byte(a, 0x47);	/* small item: I/O port, seven bytes */
	aml_byte(a, 0x01);	/* decodes 16 bits */
	emit_le(a, port, 2);
	emit_le(a, port, 2);
	aml_byte(a, 1);		/* alignment */
	aml_byte(a, len);
}

void aml_res_irq(struct aml *a, u32 gsi, bool level)
{
	aml_byte(a, 0x89);	/* large item: extended interrupt */
	emit_le(a, 6, 2);
	/* A consumer's; edge or level, active high, exclusive. */
	aml_byte(a, 0x01 | (level ? 0 : 0x02));
	aml_byte(a, 1);
	emit_le(a, gsi, 4);
}

/* A window that the device hands on to what is behind it. */
void aml_res_window(struct aml *a, enum aml_space space, u32 first, u32 last)
{
	static const u8 type_flags[] = {
		[AML_MEMORY] = 0x01,	/* read and write, not cached */
		[AML_IO] = 0x03,	/* the whole range */
		[AML_BUS] = 0x00,
	};
	unsigned int width = space == AML_MEMORY ? 4 : 2;

	aml_byte(a, width == 4 ? 0x87 : 0x88);
	emit_le(a, 3 + 5 * width, 2);
	aml_byte(a, space);
	aml_byte(a, 0x0c);	/* producer; both ends are fixed */
	aml_byte(a, type_flags[space]);
	emit_le(a, 0, width);	/* granularity */
	emit_le(a, first, width);
	emit_le(a, last, width);
	emit_le(a, 0, width);	/* translation */
	emit_le(a, last - first + 1, width);
}

void aml_res_memory(struct aml *a, u32 base, u32 len)
{
	aml_byte(a, 0x86);	/* large item: fixed 32-bit memory */
	emit_le(a, 9, 2);
	aml_byte(a, 1);		/* read and write */
	emit_le(a, base, 4);
	emit_le(a, len, 4);
}
