// SPDX-License-Identifier: GPL-2.0
/*
 * What each kind of thread may ask of the kernel, as tables, and the filters
 * made of them by libseccomp.  All else ends the process.
 *  1. vCPU threads run the guest, touch registers of devices, wake the main
 *     thread and print a line when the guest dies.
 *  2. The main thread does the I/O, most of it by the ring, which a filter does
 *     not see: loop.c restricts that.  What a machine does not have (taps,
 *     servers of disks, a control socket) its main thread may not use.
 *  3. The door (move_door.c) accepts connections and relays what comes.
 * Nobody runs programs, makes threads, traces, mounts or changes identity;
 * memory that can be executed is only made where libraries may be loaded.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/userfaultfd.h>
#include <linux/vhost.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "jail.h"

#define M	(1 << JAIL_MAIN)
#define V	(1 << JAIL_VCPU)
#define D	(1 << JAIL_DOOR)
#define SYSCALLS_MAX	512
#define THREAD_FLAGS	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | \
			 CLONE_THREAD)

/* Which calls of that number are meant. */
enum which {
	ANY,
	NO_EXEC,	/* the third argument has no PROT_EXEC */
	CODE,		/* a file's, which is not writable */
	OWN_PROCESS,	/* the first argument is our process ID */
	OWN_THREAD,	/* the first argument is 0, which names the caller */
	ABORT,		/* the first argument is SIGABRT: abort() */
	NETLINK,	/* a socket to ask the kernel about networks */
	THREAD,		/* no process: all is shared with the new one */
};

static const struct {
	int nr;
	u8 threads;
	u8 features;	/* one of them is needed; 0: always */
	u8 which;
} calls[] = {
	{ SCMP_SYS(accept4), D, 0, ANY },
	{ SCMP_SYS(brk), M | V | D, 0, ANY },
	{ SCMP_SYS(clock_gettime), M | V | D, 0, ANY },
	/* What moves the machine to a file or host: in here like its maker. */
	{ SCMP_SYS(clone), M | D, JAIL_MOVE, THREAD },
	{ SCMP_SYS(set_robust_list), M | D, JAIL_MOVE, ANY },
	{ SCMP_SYS(rseq), M | D, JAIL_MOVE, ANY },
	{ SCMP_SYS(clock_nanosleep), M | V | D, 0, ANY },
	{ SCMP_SYS(close), M | D, 0, ANY },
	{ SCMP_SYS(epoll_ctl), M, JAIL_CONNECT, ANY },
	{ SCMP_SYS(eventfd2), M, 0, ANY },
	{ SCMP_SYS(exit), M | V | D, 0, ANY },
	{ SCMP_SYS(exit_group), M | V | D, 0, ANY },
	{ SCMP_SYS(fadvise64), M, JAIL_DISK, ANY },
	{ SCMP_SYS(fallocate), M, 0, ANY },
	{ SCMP_SYS(fchmod), M, JAIL_FILES, ANY },
	{ SCMP_SYS(fcntl), M | D, 0, ANY },
	{ SCMP_SYS(fdatasync), M, JAIL_DISK | JAIL_MOVE, ANY },
	{ SCMP_SYS(flock), M, JAIL_DISK | JAIL_SOCKET, ANY },
	{ SCMP_SYS(fstat), M | D, 0, ANY },
	{ SCMP_SYS(fstatfs), M, JAIL_DISK, ANY },
	{ SCMP_SYS(fsync), M, JAIL_DISK | JAIL_MOVE, ANY },
	{ SCMP_SYS(ftruncate), M, JAIL_DISK | JAIL_MOVE, ANY },
	{ SCMP_SYS(futex), M | V | D, 0, ANY },
	{ SCMP_SYS(getpeername), M | D, JAIL_CONNECT, ANY },
	{ SCMP_SYS(getpid), M | V | D, 0, ANY },
	{ SCMP_SYS(getrandom), M | V | D, 0, ANY },
	{ SCMP_SYS(getrusage), M, 0, ANY },
	{ SCMP_SYS(getsockname), M, JAIL_CONNECT | JAIL_NET, ANY },
	{ SCMP_SYS(getsockopt), M | D, JAIL_CONNECT | JAIL_SOCKET | JAIL_NET, ANY },
	{ SCMP_SYS(gettid), M | V | D, 0, ANY },
	{ SCMP_SYS(gettimeofday), M | V | D, 0, ANY },
	{ SCMP_SYS(io_uring_enter), M, 0, ANY },
	{ SCMP_SYS(io_uring_register), M, 0, ANY },
	{ SCMP_SYS(lseek), M, 0, ANY },
	{ SCMP_SYS(madvise), M | V | D, 0, ANY },
	{ SCMP_SYS(mmap), M | V | D, 0, NO_EXEC },
	{ SCMP_SYS(mmap), M, JAIL_LOAD, CODE },
	{ SCMP_SYS(mprotect), M | V | D, 0, NO_EXEC },
	{ SCMP_SYS(mremap), M | V | D, 0, ANY },
	{ SCMP_SYS(munmap), M | V | D, 0, ANY },
	{ SCMP_SYS(nanosleep), M | V | D, 0, ANY },
	{ SCMP_SYS(newfstatat), M, 0, ANY },
	{ SCMP_SYS(openat), M, JAIL_FILES | JAIL_CONNECT | JAIL_LOAD, ANY },
	{ SCMP_SYS(poll), M | D, 0, ANY },
	{ SCMP_SYS(ppoll), M | D, 0, ANY },
	{ SCMP_SYS(pread64), M, 0, ANY },
	{ SCMP_SYS(preadv), M, JAIL_DISK, ANY },
	{ SCMP_SYS(pwrite64), M, JAIL_DISK | JAIL_MOVE, ANY },
	{ SCMP_SYS(pwritev), M, JAIL_DISK | JAIL_MOVE, ANY },
	{ SCMP_SYS(read), M | D, 0, ANY },
	{ SCMP_SYS(readlink), M, JAIL_FILES, ANY },
	{ SCMP_SYS(readv), M | D, 0, ANY },
	{ SCMP_SYS(restart_syscall), M | V | D, 0, ANY },
	{ SCMP_SYS(rt_sigaction), M | V | D, 0, ABORT },
	{ SCMP_SYS(rt_sigprocmask), M | V | D, 0, ANY },
	{ SCMP_SYS(rt_sigreturn), M | V | D, 0, ANY },
	{ SCMP_SYS(sched_setscheduler), M, JAIL_NET, OWN_THREAD },
	{ SCMP_SYS(sched_yield), M | V | D, 0, ANY },
	{ SCMP_SYS(shutdown), M | D, JAIL_SOCKET | JAIL_CONNECT | JAIL_NET, ANY },
	{ SCMP_SYS(tgkill), M | V | D, 0, OWN_PROCESS },
	{ SCMP_SYS(timerfd_create), M, 0, ANY },
	{ SCMP_SYS(timerfd_settime), M | V, 0, ANY },
	{ SCMP_SYS(uname), M, JAIL_CONNECT, ANY },
	{ SCMP_SYS(unlink), M, JAIL_FILES, ANY },
	{ SCMP_SYS(unlinkat), M | D, JAIL_FILES | JAIL_SOCKET, ANY },
	{ SCMP_SYS(write), M | V | D, 0, ANY },
	{ SCMP_SYS(writev), M | D, 0, ANY },
	/* sendto() is also how a service manager is told of the end. */
	{ SCMP_SYS(sendto), M | D, 0, ANY },
	{ SCMP_SYS(recvfrom), M | D, JAIL_SOCKET | JAIL_CONNECT | JAIL_NET, ANY },
	{ SCMP_SYS(sendmsg), M | D, JAIL_CONNECT | JAIL_NET | JAIL_MOVE, ANY },
	{ SCMP_SYS(recvmsg), M | D, JAIL_CONNECT | JAIL_NET | JAIL_MOVE, ANY },
	{ SCMP_SYS(sendmmsg), M, JAIL_CONNECT, ANY },
	{ SCMP_SYS(socket), M, JAIL_CONNECT, ANY },
	{ SCMP_SYS(socket), M, JAIL_NET, NETLINK },
	{ SCMP_SYS(socketpair), M | D, JAIL_CONNECT, ANY },
	{ SCMP_SYS(connect), M, JAIL_CONNECT, ANY },
	{ SCMP_SYS(bind), M, JAIL_CONNECT | JAIL_NET, ANY },
	{ SCMP_SYS(setsockopt), M | D, JAIL_CONNECT | JAIL_NET, ANY },
};

static const struct {
	u32 request;
	u8 threads;
	u8 features;
} ioctls[] = {
	{ KVM_RUN, V, 0 },
	{ KVM_KVMCLOCK_CTRL, V, 0 },
	{ KVM_GET_REGS, V, 0 },			/* a dying guest's, to be told */
	{ KVM_GET_SREGS, V, 0 },
	{ KVM_IRQ_LINE, M | V, 0 },
	{ KVM_SIGNAL_MSI, M | V, 0 },
	{ KVM_IRQFD, M | V, 0 },
	{ KVM_IOEVENTFD, M | V, 0 },
	{ KVM_SET_GSI_ROUTING, M | V, 0 },
	{ KVM_CHECK_EXTENSION, M, JAIL_MOVE },
	{ KVM_GET_MSR_INDEX_LIST, M, JAIL_MOVE },
	{ KVM_GET_REGS, M, JAIL_MOVE },
	{ KVM_GET_SREGS, M, JAIL_MOVE },
	{ KVM_GET_XCRS, M, JAIL_MOVE },
	{ KVM_GET_XSAVE, M, JAIL_MOVE },
	{ KVM_GET_XSAVE2, M, JAIL_MOVE },
	{ KVM_GET_MSRS, M, JAIL_MOVE },
	{ KVM_GET_CPUID2, M, JAIL_MOVE },
	{ KVM_GET_TSC_KHZ, M, JAIL_MOVE },
	{ KVM_GET_LAPIC, M, JAIL_MOVE },
	{ KVM_GET_VCPU_EVENTS, M, JAIL_MOVE },
	{ KVM_GET_DEBUGREGS, M, JAIL_MOVE },
	{ KVM_GET_MP_STATE, M, JAIL_MOVE },
	{ KVM_GET_IRQCHIP, M, JAIL_MOVE },
	{ KVM_GET_PIT2, M, JAIL_MOVE },
	{ KVM_GET_CLOCK, M, JAIL_MOVE },
	{ KVM_SET_REGS, M, JAIL_COME },
	{ KVM_SET_SREGS, M, JAIL_COME },
	{ KVM_SET_XCRS, M, JAIL_COME },
	{ KVM_SET_XSAVE, M, JAIL_COME },
	{ KVM_SET_MSRS, M, JAIL_COME },
	{ KVM_SET_CPUID2, M, JAIL_COME },
	{ KVM_SET_TSC_KHZ, M, JAIL_COME },
	{ KVM_SET_LAPIC, M, JAIL_COME },
	{ KVM_SET_VCPU_EVENTS, M, JAIL_COME },
	{ KVM_SET_DEBUGREGS, M, JAIL_COME },
	{ KVM_SET_MP_STATE, M, JAIL_COME },
	{ KVM_SET_IRQCHIP, M, JAIL_COME },
	{ KVM_SET_PIT2, M, JAIL_COME },
	{ KVM_SET_CLOCK, M, JAIL_COME },
	{ KVM_KVMCLOCK_CTRL, M, JAIL_COME },
	{ KVM_SET_USER_MEMORY_REGION, M, JAIL_MOVE },
	{ KVM_GET_DIRTY_LOG, M, JAIL_MOVE },
	{ KVM_CLEAR_DIRTY_LOG, M, JAIL_MOVE },
	{ UFFDIO_REGISTER, M, JAIL_MOVE },
	{ UFFDIO_UNREGISTER, M, JAIL_MOVE },
	{ UFFDIO_WRITEPROTECT, M, JAIL_MOVE },
	{ UFFDIO_WAKE, M, JAIL_MOVE },
	/* The terminal, put back also when something crashes. */
	{ TCGETS, M | V, 0 },
	{ TCSETS, M | V, 0 },
	{ TIOCGWINSZ, M, 0 },
	{ FIONREAD, M, JAIL_CONNECT },
	{ FICLONE, M, JAIL_DISK },
	{ BLKDISCARD, M, JAIL_DISK },
	{ BLKZEROOUT, M, JAIL_DISK },
	{ BLKGETSIZE64, M, JAIL_DISK },
	{ BLKSSZGET, M, JAIL_DISK },
	{ BLKPBSZGET, M, JAIL_DISK },
	{ BLKIOOPT, M, JAIL_DISK },
	{ TUNSETOFFLOAD, M, JAIL_NET },
	{ TUNSETTXFILTER, M, JAIL_NET },
	{ TUNSETVNETHDRSZ, M, JAIL_NET },
	{ TUNSETQUEUE, M, JAIL_NET },
	{ VHOST_GET_FEATURES, M, JAIL_NET },
	{ VHOST_SET_FEATURES, M, JAIL_NET },
	{ VHOST_SET_OWNER, M, JAIL_NET },
	{ VHOST_RESET_OWNER, M, JAIL_NET },
	{ VHOST_SET_MEM_TABLE, M, JAIL_NET },
	{ VHOST_SET_VRING_NUM, M, JAIL_NET },
	{ VHOST_SET_VRING_ADDR, M, JAIL_NET },
	{ VHOST_SET_VRING_BASE, M, JAIL_NET },
	{ VHOST_GET_VRING_BASE, M, JAIL_NET },
	{ VHOST_SET_VRING_KICK, M, JAIL_NET },
	{ VHOST_SET_VRING_CALL, M, JAIL_NET },
	{ VHOST_SET_VRING_ERR, M, JAIL_NET },
	{ VHOST_NET_SET_BACKEND, M, JAIL_NET },
};

static u32 needed;

void jail_need(u32 features)
{
	needed |= features;
}

static bool applies(u8 threads, u8 features, enum jail_thread kind)
{
	/* The door knows no machine. */
	return threads & (1 << kind) &&
	       (!features || features & needed || kind == JAIL_DOOR);
}

static int allow(scmp_filter_ctx ctx, int nr, enum which which)
{
	const u32 yes = SCMP_ACT_ALLOW;

	switch (which) {
	case ANY:
		return seccomp_rule_add(ctx, yes, nr, 0);
	case NO_EXEC:
		return seccomp_rule_add(ctx, yes, nr, 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	case CODE:
		return seccomp_rule_add(ctx, yes, nr, 2,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE,
				PROT_EXEC),
			SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS | MAP_SHARED,
				0));
	case OWN_PROCESS:
		return seccomp_rule_add(ctx, yes, nr, 1,
			SCMP_A0(SCMP_CMP_EQ, (u64)getpid()));
	case OWN_THREAD:
		return seccomp_rule_add(ctx, yes, nr, 1,
			SCMP_A0(SCMP_CMP_EQ, 0));
	case ABORT:
		return seccomp_rule_add(ctx, yes, nr, 1,
			SCMP_A0(SCMP_CMP_EQ, SIGABRT));
	case NETLINK:
		return seccomp_rule_add(ctx, yes, nr, 1,
			SCMP_A0(SCMP_CMP_EQ, AF_NETLINK));
	case THREAD:
		return seccomp_rule_add(ctx, yes, nr, 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, THREAD_FLAGS,
				THREAD_FLAGS));
	}
	return -EINVAL;
}

static int add_rules(scmp_filter_ctx ctx, enum jail_thread kind)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(calls) && !ret; i++)
		if (applies(calls[i].threads, calls[i].features, kind))
			ret = allow(ctx, calls[i].nr, calls[i].which);
	/* The kernel looks at the request's low half only. */
	for (i = 0; i < ARRAY_SIZE(ioctls) && !ret; i++)
		if (applies(ioctls[i].threads, ioctls[i].features, kind))
			ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW,
					       SCMP_SYS(ioctl), 1,
				SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX,
					ioctls[i].request));
	/* Its flags are in memory: the C library tries clone() instead. */
	if (!ret && kind != JAIL_VCPU)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS),
				       SCMP_SYS(clone3), 0);
	/* What is called most comes first. */
	if (!ret)
		ret = seccomp_syscall_priority(ctx, kind == JAIL_VCPU ?
					       SCMP_SYS(ioctl) :
					       kind == JAIL_DOOR ?
					       SCMP_SYS(read) :
					       SCMP_SYS(io_uring_enter), 255);
	return ret;
}

/* libseccomp writes it to a file. */
static int export(scmp_filter_ctx ctx, struct sock_fprog *prog)
{
	int fd = memfd_create("filter", MFD_CLOEXEC), ret;
	off_t len;

	if (fd < 0)
		return -errno;
	ret = seccomp_export_bpf(ctx, fd);
	len = lseek(fd, 0, SEEK_END);
	if (!ret && (len <= 0 || len % sizeof(struct sock_filter) ||
		     len / sizeof(struct sock_filter) > BPF_MAXINSNS))
		ret = -E2BIG;
	if (ret)
		goto out;
	prog->len = len / sizeof(struct sock_filter);
	prog->filter = malloc(len);
	if (!prog->filter)
		ret = -ENOMEM;
	else if (pread(fd, prog->filter, len, 0) != len)
		ret = -EIO;
out:
	close(fd);
	return ret;
}

int jail_filter(enum jail_thread kind, struct sock_fprog *prog)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int ret;

	if (!ctx)
		return -ENOMEM;
	/* Other ways to call the kernel (int 0x80, x32) are not ours. */
	ret = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH,
			       SCMP_ACT_KILL_PROCESS);
	if (!ret)
		ret = add_rules(ctx, kind);
	if (!ret)
		ret = export(ctx, prog);
	seccomp_release(ctx);
	return ret;
}

/* Names, for the last line: looked up before, since the library allocates. */

static char *names;			/* one after the other */
static u16 name_at[SYSCALLS_MAX];	/* 0: none */

int jail_names_init(void)
{
	size_t len = 1, n;
	char *name, *more;
	int nr;

	names = calloc(1, 1);
	for (nr = 0; nr < SYSCALLS_MAX && names; nr++) {
		name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);
		if (!name)
			continue;
		n = strlen(name) + 1;
		more = len + n <= UINT16_MAX ? realloc(names, len + n) : NULL;
		if (more) {
			names = more;
			memcpy(names + len, name, n);
			name_at[nr] = len;
			len += n;
		}
		free(name);
	}
	return names ? 0 : -ENOMEM;
}

void jail_names_fini(void)
{
	free(names);
	names = NULL;
	memset(name_at, 0, sizeof(name_at));
}

const char *jail_syscall_name(int nr)
{
	return nr >= 0 && nr < SYSCALLS_MAX && names && name_at[nr] ?
	       names + name_at[nr] : NULL;
}
