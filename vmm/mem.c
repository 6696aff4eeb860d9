// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory.
 *  1. RAM is one mapping: anonymous (transparent huge pages where the host
 *     has them) or a memfd of huge pages.  Guest-physical it lies below
 *     3.25 GiB and, what is more than that, from 4 GiB on.
 *  2. mem_at() is the only way from a guest address to a pointer; all else
 *     here is made of it.  A range that is not wholly RAM gives NULL.
 *  3. mem_release(): memory that the guest does not need any more.
 *  4. The log of what is written here and not by the guest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include <linux/memfd.h>

#include "vmm.h"

#define HUGE_ALIGN	(2 * MIB)

int mem_check_host(u64 size)
{
	struct sysinfo si;
	u64 host;

	if (!size)
		return fail(-EINVAL, "--memory: 0 is no memory: give a size, as --memory 512M");
	if (size % (64 * KIB))
		return fail(-EINVAL, "--memory: the size is no multiple of 64 KiB: round it");
	if (sysinfo(&si))
		return fail(-errno, "cannot read the host's memory size: %s",
			    strerror(errno));
	host = ((u64)si.totalram + si.totalswap) * si.mem_unit;
	if (size > host)
		return fail(-ENOMEM,
			    "--memory: %llu MiB is more than the host's %llu MiB: give the guest less",
			    (unsigned long long)(size / MIB),
			    (unsigned long long)(host / MIB));
	return 0;
}

/* Guest and host addresses agree modulo 2 MiB, so huge pages fit both. */
static u8 *map_aligned(u64 size)
{
	u8 *raw, *host;
	size_t head;

	raw = mmap(NULL, size + HUGE_ALIGN, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	host = (u8 *)ALIGN_UP((uintptr_t)raw, HUGE_ALIGN);
	head = host - raw;
	if (head)
		munmap(raw, head);
	munmap(host + size, HUGE_ALIGN - head);
	if (mprotect(host, size, PROT_READ | PROT_WRITE)) {
		munmap(host, size);
		return NULL;
	}
	return host;
}

static int map_huge(struct mem *mem, u64 page, unsigned int flags)
{
	void *host;
	int err;

	if (mem->size % page)
		return fail(-EINVAL, "--memory: size is no multiple of the huge page size: round it to %llu MiB",
			    (unsigned long long)(page / MIB));
	mem->fd = memfd_create("pvhv-ram", MFD_CLOEXEC | MFD_HUGETLB | flags);
	if (mem->fd < 0)
		return fail(-errno, "--memory: the host has no such huge pages: %s",
			    strerror(errno));
	if (ftruncate(mem->fd, mem->size))
		goto err;
	host = mmap(NULL, mem->size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    mem->fd, 0);
	if (host == MAP_FAILED)
		goto err;
	mem->host = host;
	return 0;
err:
	err = -errno;
	close(mem->fd);
	mem->fd = -1;
	return fail(err, "--memory: cannot take %llu MiB of huge pages (%s): reserve more in /proc/sys/vm/nr_hugepages",
		    (unsigned long long)(mem->size / MIB), strerror(-err));
}

int mem_init(struct mem *mem, u64 size, enum mem_pages pages)
{
	memset(mem, 0, sizeof(*mem));
	atomic_init(&mem->logging, false);
	mem->fd = -1;
	mem->size = size;
	mem->page = pages == MEM_PAGES_1G ? GIB : pages == MEM_PAGES_2M ?
		    2 * MIB : 4 * KIB;
	mem->low = size < LOW_RAM_MAX ? size : LOW_RAM_MAX;
	mem->high = size - mem->low;

	if (pages == MEM_PAGES_2M)
		return map_huge(mem, 2 * MIB, MFD_HUGE_2MB);
	if (pages == MEM_PAGES_1G)
		return map_huge(mem, GIB, MFD_HUGE_1GB);

	mem->host = map_aligned(size);
	if (!mem->host)
		return fail(-ENOMEM, "--memory: cannot map %llu MiB: %s",
			    (unsigned long long)(size / MIB), strerror(errno));
	/* Advice only: kernels without it still run the guest. */
	madvise(mem->host, size, pages == MEM_PAGES_THP ? MADV_HUGEPAGE :
							  MADV_NOHUGEPAGE);
	madvise(mem->host, size, MADV_DONTDUMP);
	return 0;
}

void mem_fini(struct mem *mem)
{
	if (mem->host)
		munmap(mem->host, mem->size);
	if (mem->fd >= 0)
		close(mem->fd);
	free(mem->log);
	mem->log = NULL;
	mem->host = NULL;
	mem->fd = -1;
}

int mem_write(const struct mem *mem, u64 gpa, const void *data, u64 len)
{
	void *p = mem_at(mem, gpa, len);

	if (!p)
		return -EFAULT;
	memcpy(p, data, len);
	mem_wrote(mem, p, len);
	return 0;
}

int mem_read(const struct mem *mem, u64 gpa, void *data, u64 len)
{
	const void *p = mem_at(mem, gpa, len);

	if (!p)
		return -EFAULT;
	memcpy(data, p, len);
	return 0;
}

void mem_hold(struct mem *mem, bool hold)
{
	mem->held = hold;
	if (hold && mem->let_go)
		mem->let_go(mem->host, mem->size);
}

/* As a write, each fault is seen by who keeps the page. */
static void touch(uintptr_t start, uintptr_t end)
{
	for (; start < end; start += MEM_LOG_PAGE)
		__atomic_fetch_or((u8 *)start, 0, __ATOMIC_RELAXED);
}

/*
 * The host may have it back: what of it is whole pages reads as zeroes from
 * now on.  Advice: a host that cannot keeps it.
 *
 * Where a file is mapped, its pages would come back; there memory takes its
 * place, in large pieces, since the kernel counts them.
 */
void mem_release(const struct mem *mem, void *host, u64 len)
{
	u64 page = mem->restored && mem->page < HUGE_ALIGN ? HUGE_ALIGN :
							     mem->page;
	uintptr_t start = ALIGN_UP((uintptr_t)host, page);
	uintptr_t end = ALIGN_DOWN((uintptr_t)host + len, page);

	if (start >= end)
		return;
	if (mem->let_go)
		mem->let_go((void *)start, end - start);
	if (mem->held)
		touch(start, end);
	if (mem->fd >= 0)
		madvise((void *)start, end - start, MADV_REMOVE);
	else if (!mem->restored)
		madvise((void *)start, end - start, MADV_DONTNEED);
	else if (mmap((void *)start, end - start, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
		      -1, 0) == MAP_FAILED)
		return;
	/* What is to be protected needs entries, if of the page of zeroes. */
	if (mem->held)
		madvise((void *)start, end - start, MADV_POPULATE_READ);
	mem_wrote(mem, (void *)start, end - start);
}

/* Once made it stays, since other threads may still be about to set a bit. */
int mem_log_start(struct mem *mem)
{
	u64 words = ALIGN_UP(mem->size / MEM_LOG_PAGE, 64) / 64, i;

	if (!mem->log)
		mem->log = calloc(words, sizeof(*mem->log));
	if (!mem->log)
		return -ENOMEM;
	for (i = 0; i < words; i++)
		atomic_store_explicit(&mem->log[i], 0, memory_order_relaxed);
	atomic_store(&mem->logging, true);
	return 0;
}

void mem_log_stop(struct mem *mem)
{
	atomic_store(&mem->logging, false);
}

/* Blocks begin at a multiple of 64 pages: HIGH_RAM_BASE's at LOW_RAM_MAX. */
_Static_assert(LOW_RAM_MAX % (64 * MEM_LOG_PAGE) == 0, "whole words of the log");

void mem_log_take(struct mem *mem, const void *host, u64 len, u64 *bitmap)
{
	u64 first = ((const u8 *)host - mem->host) / MEM_LOG_PAGE / 64;
	u64 words = ALIGN_UP(len / MEM_LOG_PAGE, 64) / 64, i;

	for (i = 0; i < words; i++)
		if (atomic_load_explicit(&mem->log[first + i],
					 memory_order_relaxed))
			bitmap[i] |= atomic_exchange(&mem->log[first + i], 0);
}

void mem_log_mark(const struct mem *mem, const volatile void *host, u64 len)
{
	u64 at = (const volatile u8 *)host - mem->host, page;

	for (page = at / MEM_LOG_PAGE; len && page <= (at + len - 1) / MEM_LOG_PAGE;
	     page++)
		atomic_fetch_or(&mem->log[page / 64], 1ULL << page % 64);
}

/* From the file straight into RAM: no copy is held in between. */
int mem_load(const struct mem *mem, u64 gpa, const struct image *img, u64 off,
	     u64 len)
{
	void *p = mem_at(mem, gpa, len);

	if (!p)
		return fail(-EFAULT, "%s '%s' does not fit into the guest's memory: give it more with --memory",
			    img->what, img->path);
	return image_read(img, off, p, len);
}
