// SPDX-License-Identifier: GPL-2.0
/* The machine's blocks of RAM: asked for, checked, told, compared. */
#include <string.h>

#include "mig.h"

int blocks_get(struct blocks *bl, const struct migrate_ops *ops, void *vm, struct verdict *v)
{
	int nr = ops->blocks(vm, bl->b, MIGRATE_BLOCKS_MAX), i;

	if (nr < 0)
		return verdict(v, nr, "the machine's memory: %s", strerror(-nr));
	if (!nr || nr > MIGRATE_BLOCKS_MAX)
		return verdict(v, -E2BIG, "the machine has %d blocks of memory, not 1 to %d", nr,
			       MIGRATE_BLOCKS_MAX);
	bl->nr = nr;
	bl->bytes = 0;
	for (i = 0; i < nr; i++) {
		if (!bl->b[i].size || bl->b[i].size % PAGE_SIZE ||
		    bl->b[i].size / PAGE_SIZE > BLOCK_PAGES_MAX ||
		    memchr(bl->b[i].name, 0, MIGRATE_NAME_MAX) == NULL)
			return verdict(v, -EINVAL, "block %d of the machine's memory is malformed", i);
		bl->bytes += bl->b[i].size;
	}
	return 0;
}

int blocks_put(struct stream *s, const struct blocks *bl)
{
	u8 buf[SECTION_ROOM(BLOCKS_HEAD + MIGRATE_BLOCKS_MAX * BLOCK_LEN)];
	u8 *p = buf + SEC_LEN;
	unsigned int i;

	put32(p, bl->nr);
	put32(p + 4, 0);
	p += BLOCKS_HEAD;
	for (i = 0; i < bl->nr; i++, p += BLOCK_LEN) {
		memset(p, 0, BLOCK_LEN);
		strncpy((char *)p + BLOCK_NAME, bl->b[i].name, MIGRATE_NAME_MAX - 1);
		put64(p + BLOCK_GPA, bl->b[i].gpa);
		put64(p + BLOCK_SIZE, bl->b[i].size);
		put64(p + BLOCK_OFFSET, bl->offset[i]);
	}
	return stream_put(s, TYPE_BLOCKS, buf, BLOCKS_HEAD + bl->nr * BLOCK_LEN);
}

int blocks_check(struct blocks *ours, const u8 *data, size_t len, struct verdict *v)
{
	unsigned int i;

	if (len < BLOCKS_HEAD || (len - BLOCKS_HEAD) % BLOCK_LEN ||
	    get32(data) != (len - BLOCKS_HEAD) / BLOCK_LEN)
		return verdict(v, -EBADMSG, "the list of memory blocks is malformed");
	if (get32(data) != ours->nr)
		return verdict(v, -EINVAL, "memory: %u blocks there, %u here: give the same --memory",
			       get32(data), ours->nr);
	data += BLOCKS_HEAD;
	for (i = 0; i < ours->nr; i++, data += BLOCK_LEN) {
		const struct migrate_block *b = &ours->b[i];

		if (strncmp((const char *)data + BLOCK_NAME, b->name, MIGRATE_NAME_MAX))
			return verdict(v, -EINVAL, "memory block %u: '%.*s' there, '%s' here", i,
				       MIGRATE_NAME_MAX - 1, data + BLOCK_NAME, b->name);
		if (get64(data + BLOCK_SIZE) != b->size || get64(data + BLOCK_GPA) != b->gpa)
			return verdict(v, -EINVAL,
				       "memory block '%s': %llu KiB at 0x%llx there, %llu KiB at 0x%llx here: give the same --memory",
				       b->name, (unsigned long long)get64(data + BLOCK_SIZE) / 1024,
				       (unsigned long long)get64(data + BLOCK_GPA),
				       (unsigned long long)b->size / 1024,
				       (unsigned long long)b->gpa);
		ours->offset[i] = get64(data + BLOCK_OFFSET);
	}
	return 0;
}
