// SPDX-License-Identifier: GPL-2.0
/*
 * A file that is copied into guest memory: opened once, its size taken once,
 * every read checked against that size.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm.h"

int image_open(struct image *img, const char *what, const char *path)
{
	struct stat st;
	int err;

	img->what = what;
	img->path = path;
	img->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (img->fd < 0)
		return fail(-errno, "%s '%s': %s: name a readable file with --%s",
			    what, path, strerror(errno), what);
	if (fstat(img->fd, &st)) {
		err = fail(-errno, "%s '%s': %s", what, path, strerror(errno));
		goto close;
	}
	if (!S_ISREG(st.st_mode)) {
		err = fail(-EINVAL, "%s '%s': not a regular file: name one with --%s",
			   what, path, what);
		goto close;
	}
	if (!st.st_size) {
		err = fail(-EINVAL, "%s '%s': the file is empty: name another with --%s",
			   what, path, what);
		goto close;
	}
	img->size = st.st_size;
	return 0;
close:
	image_close(img);
	return err;
}

void image_close(struct image *img)
{
	if (img->fd >= 0)
		close(img->fd);
	img->fd = -1;
}

int image_read(const struct image *img, u64 off, void *buf, u64 len)
{
	u8 *p = buf;
	ssize_t got;

	if (off > img->size || len > img->size - off)
		return fail(-ENOEXEC, "%s '%s': the file is truncated: copy it again",
			    img->what, img->path);
	while (len) {
		got = pread(img->fd, p, len < GIB ? len : GIB, off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(-errno, "%s '%s': %s", img->what, img->path,
				    strerror(errno));
		if (!got)
			return fail(-EIO, "%s '%s': the file shrank while it was read: copy it again",
				    img->what, img->path);
		p += got;
		off += got;
		len -= got;
	}
	return 0;
}
