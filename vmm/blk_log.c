// SPDX-License-Identifier: GPL-2.0
/*
 * What was written to a disk, while somebody copies it.  A chunk is marked when
 * its write has ended, well or not: who fetches the mark and reads the chunk
 * after that has it, and what is written later is marked again.  Once nothing
 * is started any more, the marks are complete.
 */
#include <errno.h>
#include <stdlib.h>

#include "blk.h"

static u64 words(const struct blk *blk)
{
	return (blk->size / BLK_LOG_CHUNK + 64) / 64;
}

int blk_log_start(struct blk *blk)
{
	if (blk->log)
		return -EBUSY;
	blk->log = calloc(words(blk), sizeof(blk->log[0]));
	return blk->log ? 0 : -ENOMEM;
}

void blk_log_stop(struct blk *blk)
{
	free((void *)blk->log);
	blk->log = NULL;
}

/* @pos and @len were used up, their sum is the end as ever. */
void blk_log_written(struct blk *blk, const struct blk_req *req)
{
	u64 end = req->pos + req->len, chunk;

	if (!blk->log || !req->total)
		return;
	for (chunk = (end - req->total) / BLK_LOG_CHUNK;
	     chunk <= (end - 1) / BLK_LOG_CHUNK; chunk++)
		atomic_fetch_or(&blk->log[chunk / 64], 1ULL << chunk % 64);
}

void blk_log_fetch(struct blk *blk, u64 *bitmap)
{
	u64 i;

	for (i = 0; i < words(blk) && i * 64 * BLK_LOG_CHUNK < blk->size; i++)
		bitmap[i] |= atomic_exchange(&blk->log[i], 0);
}
