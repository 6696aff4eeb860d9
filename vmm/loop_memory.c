// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory that the ring has registered, which saves it looking up the
 * pages of each operation.
 *
 * It is pinned by that, so only such is that can neither be paged nor given
 * back; all other guest memory stays what it is on a host, and is looked up.
 */
#include <liburing.h>
#include <sys/uio.h>

#include "vmm.h"

#define BUFFER_LEN	GIB	/* of one registered buffer, the kernel's limit */
#define BUFFERS		1024
#define BY_PAGE_MAX	8	/* where it is registered by these */

static struct {
	struct iovec all;
	bool registered;
	bool by_page;
	u64 most_pages;		/* of a piece; larger ones are better looked up */
} memory;

/* Pinned with the next ring. */
void loop_memory(void *base, u64 len)
{
	memory.all = (struct iovec){ base, len };
}

/*
 * Before 6.12 huge pages are registered page by page, and so they are gone
 * through, while pages that are looked up are joined if they follow each other.
 */
bool loop_memory_by_page(void)
{
	return memory.by_page;
}

void loop_memory_register(struct io_uring *ring)
{
	struct iovec buffers[BUFFERS];
	u64 at, len = memory.all.iov_len;
	unsigned int nr = 0;

	for (at = 0; at < len && nr < BUFFERS; at += BUFFER_LEN)
		buffers[nr++] = (struct iovec){
			(u8 *)memory.all.iov_base + at,
			len - at < BUFFER_LEN ? len - at : BUFFER_LEN,
		};
	/* Without the right to pin so much it goes without. */
	memory.registered = nr && at >= len &&
			    !io_uring_register_buffers(ring, buffers, nr);
	memory.by_page = memory.registered && host_kernel_before(6, 12);
	memory.most_pages = memory.by_page ? BY_PAGE_MAX :
					     UINT64_MAX / LOOP_PAGE;
}

static int buffer_of(const struct iovec *iov)
{
	u64 at = (u8 *)iov->iov_base - (u8 *)memory.all.iov_base;
	u64 len = memory.all.iov_len;

	if (!memory.registered || at >= len || iov->iov_len > len - at ||
	    at % BUFFER_LEN + iov->iov_len > BUFFER_LEN)
		return -1;
	return at / BUFFER_LEN;
}

bool loop_memory_holds(const struct iovec *iov)
{
	return buffer_of(iov) >= 0;
}

/*
 * Which registered buffer the whole piece is in and best moved by, or -1.
 * @most_pages: what the file is best given in one go; 0: nothing is known.
 */
int loop_memory_buffer(const struct iovec *iov, u64 most_pages)
{
	u64 first = (uintptr_t)iov->iov_base % LOOP_PAGE;

	if (!memory.registered || iov->iov_len > UINT64_MAX / LOOP_PAGE ||
	    first + iov->iov_len > LOOP_PAGE * (most_pages ?: memory.most_pages))
		return -1;
	return buffer_of(iov);
}
