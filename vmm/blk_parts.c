// SPDX-License-Identifier: GPL-2.0
/*
 * One piece of registered memory by several operations at a time: where it is
 * registered page by page, a device takes so many pages in one go, and the
 * kernel would rather let a thread of its own do more than that.
 *
 * What does not go that way as a whole is done anew as one operation.
 */
#include "blk.h"

static void part_done(struct loop_op *op, int res)
{
	struct blk_part *part = container_of(op, struct blk_part, op);
	struct blk_req *req = part->req;

	if (res < 0 || (u32)res != part->len)
		req->in_one = true;
	if (!--req->nr_parts)
		req->parts_done(req);
}

static int start(struct blk_req *req, struct blk_part *part,
		 const struct loop_file *file, u64 at, u64 len, int rw_flags)
{
	const struct iovec iov = { (u8 *)req->iov->iov_base + at, len };

	part->op.done = part_done;
	part->req = req;
	part->len = len;
	if (req->op == BLK_READ)
		return loop_preadv(&part->op, file, &iov, 1, req->pos + at);
	return loop_pwritev(&part->op, file, &iov, 1, req->pos + at, rw_flags);
}

/* False: nothing was started, it is to be done in one. */
bool blk_parts_start(struct blk_req *req, const struct loop_file *file,
		     int rw_flags, void (*done)(struct blk_req *req))
{
	u64 most = file->registered_pages * LOOP_PAGE, each, at;
	u32 nr;

	if (req->in_one || !most || req->nr_iov != 1 || req->len <= most ||
	    (uintptr_t)req->iov->iov_base % LOOP_PAGE ||
	    !loop_memory_holds(req->iov, file))
		return false;
	nr = (req->len + most - 1) / most;
	if (nr > BLK_PARTS_MAX)
		return false;
	each = ALIGN_UP((req->len + nr - 1) / nr, LOOP_PAGE);
	req->parts_done = done;
	for (at = 0; at < req->len; at += each) {
		u64 len = req->len - at < each ? req->len - at : each;

		/* No room: those that were started end first. */
		if (start(req, &req->part[req->nr_parts], file, at, len,
			  rw_flags)) {
			req->in_one = true;
			break;
		}
		req->nr_parts++;
	}
	return req->nr_parts;
}
