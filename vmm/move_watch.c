// SPDX-License-Identifier: GPL-2.0
/*
 * What a snapshot needs to see who writes to memory (migrate/cow.c), opened
 * before the sandbox closes: a userfaultfd, /proc/self/pagemap.
 *
 * Faults of the kernel have to be seen, too, since that is where the guest's
 * come from: a right of root's, of whoever may open /dev/userfaultfd, or with
 * vm.unprivileged_userfaultfd=1 of anybody's.  Without it a snapshot is made
 * in rounds.  So it is with huge pages: buffers of the ring may be pinned.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "move.h"

#define UFFD_DEVICE	"/dev/userfaultfd"
#define PAGEMAP		"/proc/self/pagemap"

static int open_uffd(void)
{
	int dev = open(UFFD_DEVICE, O_RDWR | O_CLOEXEC), fd = -1;

	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(dev);
	}
	return fd >= 0 ? fd : syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

void move_watch_open(struct vm *vm, struct move_watch *watch)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};

	watch->uffd = watch->pagemap = -1;
	if (vm->mem.fd >= 0)
		return;
	watch->uffd = open_uffd();
	if (watch->uffd >= 0 && !ioctl(watch->uffd, UFFDIO_API, &api))
		watch->pagemap = open(PAGEMAP, O_RDONLY | O_CLOEXEC);
	if (watch->pagemap < 0)
		move_watch_close(watch);
}

void move_watch_close(struct move_watch *watch)
{
	if (watch->uffd >= 0)
		close(watch->uffd);
	if (watch->pagemap >= 0)
		close(watch->pagemap);
	watch->uffd = watch->pagemap = -1;
}
