// SPDX-License-Identifier: GPL-2.0
/*
 * Unix stream sockets that pvhv-run listens on.
 *  1. Only the owner may connect: who can is root in the guest, or more.
 *  2. A file that a dead process left is replaced; one with somebody behind it
 *     is not.  The directory is locked meanwhile, so that of two processes
 *     that find the same dead file one does not remove the other's new one.
 *  3. The file goes at the end, by the directory's descriptor: after a chroot
 *     its path leads elsewhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vmm.h"

#define LOCK_TRIES	200
#define LOCK_WAIT_NS	10000000

static int open_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, slash - path + 1) : strdup(".");
	int fd;

	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	free(dir);
	return fd;
}

/* Could it be made?  Makes nothing. */
int usock_check(const char *option, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct stat st;
	int fd, ret = 0;

	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return fail(-ENAMETOOLONG, "%s: '%s': longer than a socket's name may be: shorten it",
			    option, path);
	if (!*(slash ? slash + 1 : path))
		return fail(-EINVAL, "%s: '%s': no name of a file: give one",
			    option, path);
	if (!lstat(path, &st) && !S_ISSOCK(st.st_mode))
		return fail(-EEXIST, "%s: '%s': there and no socket: name another path",
			    option, path);
	fd = open_directory(path);
	if (fd < 0)
		return fail(fd, "%s: '%s': %s: name a path that can be written",
			    option, path, strerror(-fd));
	if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS))
		ret = fail(-errno, "%s: '%s': %s: name a path that can be written",
			   option, path, strerror(errno));
	close(fd);
	return ret;
}

/* Whoever holds it for long does something else than this. */
static void lock_directory(int fd)
{
	const struct timespec wait = { .tv_nsec = LOCK_WAIT_NS };
	int tries = 0;

	while (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK &&
	       ++tries < LOCK_TRIES)
		nanosleep(&wait, NULL);
}

static int remove_dead(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int ret = -EADDRINUSE;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) &&
	    errno == ECONNREFUSED)
		ret = unlink(addr->sun_path) ? -errno : 0;
	close(fd);
	return ret;
}

static int bind_private(int fd, const struct sockaddr_un *addr)
{
	mode_t mask = umask(0177);
	int ret;

	ret = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) ?
	      -errno : 0;
	if (ret == -EADDRINUSE) {
		ret = remove_dead(addr);
		if (!ret && bind(fd, (const struct sockaddr *)addr,
				 sizeof(*addr)))
			ret = -errno;
	}
	umask(mask);
	return ret;
}

int usock_listen(struct usock *sock, const char *option, const char *path,
		 int backlog)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *slash = strrchr(path, '/');
	int ret;

	usock_init(sock);
	ret = usock_check(option, path);
	if (ret)
		return ret;
	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	sock->name = slash ? slash + 1 : path;
	sock->dir_fd = open_directory(path);
	sock->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock->dir_fd < 0 || sock->fd < 0) {
		ret = sock->dir_fd < 0 ? sock->dir_fd : -errno;
		goto fail;
	}
	lock_directory(sock->dir_fd);
	ret = bind_private(sock->fd, &addr);
	sock->bound = !ret;
	/* Before others may look: a socket nobody listens on looks dead. */
	if (!ret && listen(sock->fd, backlog))
		ret = -errno;
	flock(sock->dir_fd, LOCK_UN);
	if (!ret)
		return 0;
fail:
	usock_close(sock);
	if (ret == -EADDRINUSE)
		return fail(ret, "%s: '%s': in use by a process that runs: name another path",
			    option, path);
	return fail(ret, "%s: '%s': %s: name another path", option, path,
		    strerror(-ret));
}

void usock_init(struct usock *sock)
{
	memset(sock, 0, sizeof(*sock));
	sock->fd = -1;
	sock->dir_fd = -1;
}

void usock_close(struct usock *sock)
{
	if (sock->bound)
		unlinkat(sock->dir_fd, sock->name, 0);
	if (sock->fd >= 0)
		close(sock->fd);
	if (sock->dir_fd >= 0)
		close(sock->dir_fd);
	usock_init(sock);
}
