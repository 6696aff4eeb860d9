// SPDX-License-Identifier: GPL-2.0
/*
 * The sandbox: after start-up pvhv-run has no more privileges than it needs.
 *  1. Identity: another root directory and user, if asked for.
 *  2. Privileges: no capabilities, none to be gained, no descriptors that were
 *     not opened here.
 *  3. System calls: each thread locks itself in with the filter of its kind.
 *     A forbidden call ends the process, with one line that names it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "jail.h"

static struct sock_fprog filters[JAIL_THREADS];
static __thread enum jail_thread my_kind;
static bool is_door;

/* 1. Identity. */

static int find_user(const char *text, uid_t *uid, gid_t *gid)
{
	unsigned int u, g;
	struct passwd *pw;
	char rest;

	switch (sscanf(text, "%u:%u%c", &u, &g, &rest)) {
	case 2:
		*uid = u;
		*gid = g;
		return 0;
	case 1:
		if (strspn(text, "0123456789") == strlen(text)) {
			*uid = u;
			*gid = u;
			return 0;
		}
	}
	errno = 0;
	pw = getpwnam(text);
	if (!pw)
		return errno ? -errno : -ENOENT;
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
	return 0;
}

/* Changes nothing. */
int jail_check(const struct jail_who *who)
{
	struct stat st;
	uid_t uid;
	gid_t gid;

	if (who->user && find_user(who->user, &uid, &gid))
		return fail(-ENOENT, "--user: '%s': no such user: name one, or give UID:GID",
			    who->user);
	if (who->chroot && stat(who->chroot, &st))
		return fail(-errno, "--chroot: '%s': %s: name a directory",
			    who->chroot, strerror(errno));
	if (who->chroot && !S_ISDIR(st.st_mode))
		return fail(-ENOTDIR, "--chroot: '%s': no directory: name one",
			    who->chroot);
	if ((who->user && (uid != geteuid() || gid != getegid()) && geteuid()) ||
	    (who->chroot && geteuid()))
		return fail(-EPERM, "%s: only root can do that: start pvhv-run as root",
			    who->chroot ? "--chroot" : "--user");
	return 0;
}

/* Who we are from now on; the files that are needed are open. */
int jail_identity(const struct jail_who *who)
{
	uid_t uid = 0;
	gid_t gid = 0;

	if (who->user && find_user(who->user, &uid, &gid))
		return fail(-ENOENT, "--user: '%s': no such user: name one, or give UID:GID",
			    who->user);
	if (who->chroot && (chroot(who->chroot) || chdir("/")))
		return fail(-errno, "--chroot: '%s': %s", who->chroot,
			    strerror(errno));
	if (who->user && ((!geteuid() && setgroups(0, NULL)) ||
			  setresgid(gid, gid, gid) || setresuid(uid, uid, uid)))
		return fail(-errno, "--user: '%s': %s", who->user,
			    strerror(errno));
	return 0;
}

/* 2. Privileges. */

/*
 * All that we and our libraries open is closed on exec; what is not came with
 * us from whoever started us, and was read by now if it was for us.
 */
static void close_inherited(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int fd, flags;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		fd = atoi(entry->d_name);
		flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;
		if (flags >= 0 && !(flags & FD_CLOEXEC))
			close(fd);
	}
	closedir(dir);
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };
	int cap;

	/* Who has none to give cannot drop them here, and need not. */
	for (cap = 0; cap <= CAP_LAST_CAP; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &head, none) ? -errno : 0;
}

int jail_drop(void)
{
	int err = 0;

	close_inherited();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		err = -errno;
	if (!err)
		err = drop_capabilities();
	return err ? fail(err, "--sandbox: cannot give up privileges: %s",
			  strerror(-err)) : 0;
}

/* 3. System calls. */

static void put(char *line, size_t *len, const char *text)
{
	while (*text && *len < 250)
		line[(*len)++] = *text++;
}

/* In the thread that made the call; nothing here may allocate or lock. */
static void forbidden(int number, siginfo_t *info, void *context)
{
	const char *name = jail_syscall_name(info->si_syscall);
	char line[256], digits[12], *d = digits + sizeof(digits) - 1;
	unsigned int nr = info->si_syscall;
	size_t len = 0;

	(void)number;
	(void)context;
	*d = 0;
	do {
		*--d = '0' + nr % 10;
		nr /= 10;
	} while (nr);
	tty_restore();
	put(line, &len, fail_program);
	put(line, &len, is_door ? ": sandbox: the door" :
			my_kind == JAIL_VCPU ? ": sandbox: a vCPU's thread" :
					       ": sandbox: the main thread");
	put(line, &len, " made system call ");
	put(line, &len, name ? name : d);
	put(line, &len, ", which it may not: ended; --sandbox off runs without\n");
	if (write(STDERR_FILENO, line, len) < 0)
		len = 0;
	/* SA_RESETHAND, SA_NODEFER: this time it ends the process. */
	raise(SIGSYS);
}

static int prepare(void)
{
	struct sigaction sa = {
		.sa_sigaction = forbidden,
		.sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER,
	};
	int err;

	/* What the C library would read from files later, and once. */
	tzset();
	/* The number of CPUs, when a thread gets memory of its own. */
	mallopt(M_ARENA_MAX, 1);
	err = jail_names_init();
	return !err && sigaction(SIGSYS, &sa, NULL) ? -errno : err;
}

static int no_filter(int err)
{
	return fail(err, "--sandbox: cannot make the system call filters: %s: try --sandbox off",
		    strerror(-err));
}

int jail_prepare(void)
{
	int kind, err = prepare();

	for (kind = 0; kind < JAIL_THREADS && !err; kind++)
		err = jail_filter(kind, &filters[kind]);
	return err ? no_filter(err) : 0;
}

static int apply(const struct sock_fprog *prog)
{
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, prog))
		return fail(-errno, "--sandbox: cannot filter system calls: %s: try --sandbox off",
			    strerror(errno));
	return 0;
}

int jail_lock(enum jail_thread kind)
{
	my_kind = kind;
	return apply(&filters[kind]);
}

/* All of its threads will be born with it. */
int jail_lock_door(void)
{
	struct sock_fprog prog = { .filter = NULL };
	int err = prepare();

	is_door = true;
	if (!err)
		err = jail_filter(JAIL_DOOR, &prog);
	err = err ? no_filter(err) : apply(&prog);
	free(prog.filter);
	return err;
}

/* The filters are the kernel's by now. */
void jail_fini(void)
{
	int kind;

	for (kind = 0; kind < JAIL_THREADS; kind++) {
		free(filters[kind].filter);
		filters[kind].filter = NULL;
	}
}
