// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory that the ring has registered, which saves it looking up the
 * pages of each operation.
 *
 * It is pinned by that, so all of it is only where it can neither be paged nor
 * given back. Of other memory that is which is used often (loop_pins.c).
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
	memory.by_page = host_kernel_before(6, 12);
	if (!memory.registered)
		loop_pins_register(ring);
}

/* Which registered buffer the whole piece is in, or -1. */
static int buffer_of(const struct iovec *iov, const struct loop_file *file)
{
	u64 at = (u8 *)iov->iov_base - (u8 *)memory.all.iov_base;
	u64 len = memory.all.iov_len;

	if (!memory.registered)
		return file->pins ? loop_pin(iov) : -1;
	if (at >= len || iov->iov_len > len - at ||
	    at % BUFFER_LEN + iov->iov_len > BUFFER_LEN)
		return -1;
	return at / BUFFER_LEN;
}

bool loop_memory_holds(const struct iovec *iov, const struct loop_file *file)
{
	return buffer_of(iov, file) >= 0;
}

/* The same, if that is how the piece is best moved; larger ones are better looked up. */
int loop_memory_buffer(const struct iovec *iov, const struct loop_file *file)
{
	u64 first = (uintptr_t)iov->iov_base % LOOP_PAGE;
	u64 most = file->registered_pages ?: BY_PAGE_MAX;

	if (memory.by_page && (iov->iov_len > most * LOOP_PAGE ||
			       first + iov->iov_len > most * LOOP_PAGE))
		return -1;
	return buffer_of(iov, file);
}
