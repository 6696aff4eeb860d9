// SPDX-License-Identifier: GPL-2.0
/*
 * sd_notify(3)'s protocol: datagrams to the socket that NOTIFY_SOCKET names.
 * Without a service manager there is nothing to do.  The connection is made
 * early: what the sandbox leaves at the end could not make it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm.h"

static int sock = -1;

int notify_open(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len;
	int ret = 0;

	if (!path || (*path != '/' && *path != '@'))
		return 0;
	len = strlen(path);
	if (len >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, len);
	if (*path == '@')	/* an abstract name starts with a zero byte */
		addr.sun_path[0] = 0;
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	if (connect(sock, (struct sockaddr *)&addr,
		    offsetof(struct sockaddr_un, sun_path) + len)) {
		ret = -errno;
		notify_close();
	}
	return ret;
}

int notify_state(const char *text)
{
	if (sock < 0)
		return 0;
	return send(sock, text, strlen(text), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void notify_close(void)
{
	if (sock >= 0)
		close(sock);
	sock = -1;
}
