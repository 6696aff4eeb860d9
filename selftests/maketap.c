// SPDX-License-Identifier: GPL-2.0
/*
 * maketap NAME [USER]: makes a tap that stays and which any process of that user may attach to. What
 * "ip tuntap add NAME mode tap user USER" does, where the host's ip and tunctl are busybox's, which do not know users.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <net/if.h>
#include <linux/if_tun.h>

static int die(const char *what)
{
	fprintf(stderr, "maketap: %s: %s\n", what, strerror(errno));
	return 1;
}

/* Of /etc/passwd: a static program has no other sources. */
static int uid_of(const char *name, uid_t *uid)
{
	FILE *f = fopen("/etc/passwd", "r");
	struct passwd *pw = NULL;

	while (f && (pw = fgetpwent(f)) && strcmp(pw->pw_name, name))
		;
	if (pw)
		*uid = pw->pw_uid;
	if (f)
		fclose(f);
	return pw ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	uid_t uid;
	int fd;

	if (argc < 2 || argc > 3 || strlen(argv[1]) >= IFNAMSIZ) {
		fprintf(stderr, "usage: maketap NAME [USER]\n");
		return 2;
	}
	fd = open("/dev/net/tun", O_RDWR);
	if (fd < 0)
		return die("/dev/net/tun");
	strcpy(ifr.ifr_name, argv[1]);
	if (ioctl(fd, TUNSETIFF, &ifr) || ioctl(fd, TUNSETPERSIST, 1))
		return die(argv[1]);
	if (argc == 3 && (uid_of(argv[2], &uid) || ioctl(fd, TUNSETOWNER, uid)))
		return die(argv[2]);
	close(fd);
	return 0;
}
