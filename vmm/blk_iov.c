// SPDX-License-Identifier: GPL-2.0
/*
 * A request's pieces of guest memory.
 *  1. What has moved is cut off their front.
 *  2. Where the storage cannot take them as they lie (direct I/O wants them
 *     aligned, a server wants one piece), their bytes go through a bounce
 *     buffer, BLK_BOUNCE_LEN at a time.  A disk has few of them; a request
 *     that gets none waits, so a guest cannot make the host allocate more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "blk.h"

#define BOUNCES_MAX	4
#define BOUNCE_KEEP	(64 * KIB)	/* stays resident between requests */

void blk_advance(struct blk_req *req, u64 len)
{
	req->pos += len;
	req->len -= len;
	while (len) {
		u64 n = req->iov->iov_len < len ? req->iov->iov_len : len;

		if (req->op == BLK_READ && req->wrote)
			req->wrote(req, req->iov->iov_base, n);
		req->iov->iov_base = (u8 *)req->iov->iov_base + n;
		req->iov->iov_len -= n;
		len -= n;
		if (!req->iov->iov_len) {
			req->iov++;
			req->nr_iov--;
		}
	}
}

bool blk_aligned(const struct blk_req *req, u32 align)
{
	uintptr_t bits = 0;
	u32 i;

	for (i = 0; i < req->nr_iov; i++)
		bits |= (uintptr_t)req->iov[i].iov_base | req->iov[i].iov_len;
	return !(bits & (align - 1));
}

void blk_gather(const struct blk_req *req, void *data, size_t len)
{
	const struct iovec *iov = req->iov;
	u8 *p = data;

	for (; len; iov++) {
		size_t n = iov->iov_len < len ? iov->iov_len : len;

		memcpy(p, iov->iov_base, n);
		p += n;
		len -= n;
	}
}

void blk_scatter(struct blk_req *req, const void *data, size_t len)
{
	const struct iovec *iov = req->iov;
	const u8 *p = data;

	for (; len; iov++) {
		size_t n = iov->iov_len < len ? iov->iov_len : len;

		memcpy(iov->iov_base, p, n);
		p += n;
		len -= n;
	}
}

static struct blk_bounce *new_bounce(struct blk *blk)
{
	struct blk_bounce *bounce = malloc(sizeof(*bounce));
	void *data;

	if (!bounce)
		return NULL;
	data = mmap(NULL, BLK_BOUNCE_LEN, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED) {
		free(bounce);
		return NULL;
	}
	bounce->data = data;
	blk->nr_bounces++;
	return bounce;
}

/* -EAGAIN: hold the request with BLK_GATE_BUFFER, others will put theirs back. */
int blk_bounce_get(struct blk_req *req)
{
	struct blk *blk = req->blk;
	struct blk_bounce *bounce = blk->bounces;

	if (bounce)
		blk->bounces = bounce->next;
	else if (blk->nr_bounces < BOUNCES_MAX)
		bounce = new_bounce(blk);
	if (!bounce)
		return blk->nr_bounces ? -EAGAIN : -ENOMEM;
	req->bounce = bounce;
	return 0;
}

void blk_bounce_put(struct blk_req *req)
{
	struct blk *blk = req->blk;
	struct blk_bounce *bounce = req->bounce;

	if (!bounce)
		return;
	if (req->total > BOUNCE_KEEP)
		madvise(bounce->data + BOUNCE_KEEP, BLK_BOUNCE_LEN - BOUNCE_KEEP,
			MADV_DONTNEED);
	bounce->next = blk->bounces;
	blk->bounces = bounce;
	req->bounce = NULL;
	blk_gate_open(blk, BLK_GATE_BUFFER);
}

void blk_bounce_fini(struct blk *blk)
{
	struct blk_bounce *bounce = blk->bounces, *next;

	for (; bounce; bounce = next) {
		next = bounce->next;
		munmap(bounce->data, BLK_BOUNCE_LEN);
		free(bounce);
	}
	blk->bounces = NULL;
	blk->nr_bounces = 0;
}
