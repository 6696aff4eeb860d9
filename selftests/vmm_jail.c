// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the sandbox (vmm/jail*.c): each kind of thread dies of system calls that it may not make, with one line that names the
 * call, and lives with those it needs; features open what they say and no more; privileges, capabilities and inherited
 * descriptors go; a ring does only what it may. Runs on any machine; as root also the change of user and root directory.
 */
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <poll.h>

#include "tap.h"
#include "../vmm/jail.h"

static char last_line[1100];

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
}

/* --- one call, made by a locked-in thread of a process of its own ---------------------------------------------- */

struct attempt {
	const char *name;		/* of the system call; NULL ends a table */
	long (*call)(void);
};

static const char * const kind_names[] = { "the main thread", "a vCPU's thread" };
static char said[512];

struct prisoner {
	enum jail_thread kind;
	long (*call)(void);
};

static void *locked_in(void *arg)
{
	struct prisoner *p = arg;

	if (jail_lock(p->kind))
		_exit(100);
	if (p->call() < 0)
		_exit(101);
	return NULL;
}

/* The wait status; what the process said is in said */
static int imprison(enum jail_thread kind, u32 features, long (*call)(void))
{
	struct prisoner p = { kind, call };
	int fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	ASSERT_OK(pipe(fds));
	pid = ASSERT_OK(fork());
	if (!pid) {
		pthread_t thread;

		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		prctl(PR_SET_DUMPABLE, 0);	/* no core files */
		jail_need(features);
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || jail_prepare())
			_exit(102);
		if (kind == JAIL_MAIN)
			locked_in(&p);
		else if (pthread_create(&thread, NULL, locked_in, &p) || pthread_join(thread, NULL))
			_exit(103);
		_exit(0);
	}
	close(fds[1]);
	while (len < sizeof(said) - 1 && (n = read(fds[0], said + len, sizeof(said) - 1 - len)) > 0)
		len += n;
	said[len] = 0;
	close(fds[0]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

static void dies(enum jail_thread kind, u32 features, const struct attempt *a)
{
	char expect[200];

	for (; a->name; a++) {
		int status = imprison(kind, features, a->call);

		snprintf(expect, sizeof(expect), "pvhv-run: sandbox: %s made system call %s, which it may not: ended",
			 kind_names[kind], a->name);
		ASSERT_MSG(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s: status 0x%x, %s", a->name, status, said);
		ASSERT_MSG(!strncmp(said, expect, strlen(expect)), "%s: %s", a->name, said);
		ASSERT_MSG(strchr(said, '\n') == said + strlen(said) - 1, "%s: not one line: %s", a->name, said);
	}
}

static void lives(enum jail_thread kind, u32 features, const struct attempt *a)
{
	for (; a->name; a++) {
		int status = imprison(kind, features, a->call);

		ASSERT_MSG(!status, "%s: status 0x%x, %s", a->name, status, said);
	}
}

/* --- calls ------------------------------------------------------------------------------------------------------ */

static long do_execve(void) { return execl("/bin/true", "true", NULL); }
static long do_clone(void) { return fork() ? 0 : (_exit(0), 0); }
static long do_openat(void) { return open("/etc/passwd", O_RDONLY); }
static long do_socket(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static long do_netlink(void) { return socket(AF_NETLINK, SOCK_RAW, 0); }
static long do_connect(void) { return syscall(SYS_connect, -1, NULL, 0) < 0 ? 0 : -1; }
static long do_ptrace(void) { return syscall(SYS_ptrace, 0, 0, 0, 0); }
static long do_mount(void) { return syscall(SYS_mount, "x", "/", "tmpfs", 0, NULL); }
static long do_setuid(void) { return syscall(SYS_setuid, 0); }
static long do_kill(void) { return kill(1, 0); }
static long do_tgkill(void) { return syscall(SYS_tgkill, 1, 1, 0); }
static long do_prctl(void) { return prctl(PR_SET_NAME, "x"); }
static long do_bpf(void) { return syscall(SYS_bpf, 0, NULL, 0); }
static long do_unshare(void) { return unshare(CLONE_NEWUSER); }
static long do_process_vm_readv(void) { return syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0); }
static long do_io_uring_setup(void) { return syscall(SYS_io_uring_setup, 1, NULL); }
static long do_seccomp(void) { return syscall(SYS_seccomp, 0, 0, NULL); }
static long do_memfd_create(void) { return memfd_create("x", 0); }
static long do_chroot(void) { return chroot("/"); }
static long do_chmod(void) { return syscall(SYS_chmod, "/nowhere", 0); }
static long do_unlinkat(void) { return unlinkat(AT_FDCWD, "/nowhere/at/all", 0) < 0 ? 0 : -1; }
static long do_rename(void) { return syscall(SYS_rename, "/nowhere/a", "/nowhere/b"); }
static long do_ioctl_tiocsti(void) { return ioctl(STDIN_FILENO, TIOCSTI, "x"); }
static long do_ioctl_kvm(void) { return ioctl(STDIN_FILENO, KVM_CREATE_VM, 0); }
static long do_ioctl_run(void) { return ioctl(-1, KVM_RUN, 0) < 0 ? 0 : -1; }
static long do_ioctl_ficlone(void) { return ioctl(-1, FICLONE, -1) < 0 ? 0 : -1; }
static long do_ioctl_stats(void) { return ioctl(-1, KVM_GET_STATS_FD, 0) < 0 ? 0 : -1; }
static long do_batch(void) { return sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 }); }
static long do_batch_other(void) { return sched_setscheduler(getpid(), SCHED_BATCH, &(struct sched_param){ 0 }); }
static long do_read(void) { char c; return syscall(SYS_read, -1, &c, 1) < 0 ? 0 : -1; }
static long do_close(void) { return syscall(SYS_close, -1) < 0 ? 0 : -1; }
static long do_poll(void) { return poll(NULL, 0, 0); }
static long do_io_uring_enter(void) { return syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0) < 0 ? 0 : -1; }
static long do_recvfrom(void) { char c; return recv(-1, &c, 1, 0) < 0 ? 0 : -1; }
static long do_sendto(void) { return send(-1, "x", 1, 0) < 0 ? 0 : -1; }
static long do_no_name(void) { return syscall(499); }

static long do_rt_sigaction(void)
{
	return signal(SIGSYS, SIG_IGN) == SIG_ERR ? -1 : 0;
}

static long do_mmap_exec(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

static long do_mprotect_exec(void)
{
	static char page[8192] __attribute__((aligned(4096)));

	return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static long do_load(void)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);

	return p == MAP_FAILED ? -1 : 0;
}

static long do_wx(void)
{
	int fd = open("/proc/self/exe", O_RDONLY);

	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0;
}

#define COMMON_CRIMES											\
	{ "execve", do_execve }, { "clone", do_clone }, { "ptrace", do_ptrace }, { "mount", do_mount },	\
	{ "setuid", do_setuid }, { "kill", do_kill }, { "tgkill", do_tgkill }, { "prctl", do_prctl },	\
	{ "bpf", do_bpf }, { "unshare", do_unshare }, { "process_vm_readv", do_process_vm_readv },	\
	{ "io_uring_setup", do_io_uring_setup }, { "seccomp", do_seccomp }, { "chroot", do_chroot },	\
	{ "memfd_create", do_memfd_create }, { "chmod", do_chmod }, { "rename", do_rename },		\
	{ "ioctl", do_ioctl_tiocsti }, { "ioctl", do_ioctl_kvm }, { "rt_sigaction", do_rt_sigaction },	\
	{ "mmap", do_mmap_exec }, { "mprotect", do_mprotect_exec }, { "499", do_no_name },	\
	{ "ioctl", do_ioctl_stats }, { "sched_setscheduler", do_batch_other }

/* What a machine without anything may not do */
#define BARE_CRIMES											\
	{ "openat", do_openat }, { "socket", do_socket }, { "connect", do_connect },			\
	{ "recvfrom", do_recvfrom }, { "unlinkat", do_unlinkat }, { "ioctl", do_ioctl_ficlone },	\
	{ "sched_setscheduler", do_batch }

static void test_main_dies(void)
{
	static const struct attempt crimes[] = { COMMON_CRIMES, BARE_CRIMES, { "ioctl", do_ioctl_run }, { } };

	dies(JAIL_MAIN, 0, crimes);
}

static void test_vcpu_dies(void)
{
	static const struct attempt crimes[] = {
		COMMON_CRIMES, BARE_CRIMES, { "read", do_read }, { "close", do_close }, { "poll", do_poll },
		{ "io_uring_enter", do_io_uring_enter }, { "sendto", do_sendto }, { }
	};

	/* Whatever the machine has */
	dies(JAIL_VCPU, 0xff, crimes);
}

static void test_features(void)
{
	static const struct attempt file[] = { { "openat", do_openat }, { "unlinkat", do_unlinkat }, { } };
	static const struct attempt sock[] = { { "recvfrom", do_recvfrom }, { } };
	static const struct attempt disk[] = { { "ioctl", do_ioctl_ficlone }, { } };
	static const struct attempt server[] = { { "socket", do_socket }, { "connect", do_connect }, { "openat", do_openat }, { } };
	static const struct attempt net[] = { { "socket", do_netlink }, { "sched_setscheduler", do_batch }, { } };
	static const struct attempt load[] = { { "mmap", do_load }, { } };
	static const struct attempt crimes[] = { COMMON_CRIMES, { "mmap", do_wx }, { } };
	static const struct attempt no_load[] = { { "mmap", do_load }, { } };
	static const struct attempt no_server[] = { { "socket", do_socket }, { } };

	lives(JAIL_MAIN, JAIL_FILES, file);
	lives(JAIL_MAIN, JAIL_SOCKET, sock);
	lives(JAIL_MAIN, JAIL_DISK, disk);
	lives(JAIL_MAIN, JAIL_CONNECT, server);
	lives(JAIL_MAIN, JAIL_LOAD, load);
	lives(JAIL_MAIN, JAIL_NET, net);
	dies(JAIL_MAIN, JAIL_NET, no_server);
	dies(JAIL_MAIN, 0xff, crimes);
	dies(JAIL_MAIN, 0xff & ~JAIL_LOAD, no_load);
	dies(JAIL_MAIN, 0xff & ~JAIL_CONNECT, no_server);
}

/* --- what is needed --------------------------------------------------------------------------------------------- */

static long use_memory(void)
{
	char *small[1000], *large, *more;
	int i;

	for (i = 0; i < 1000; i++) {
		small[i] = malloc(100 + 37 * i);
		if (!small[i])
			return -1;
		memset(small[i], i, 100 + 37 * i);
	}
	large = calloc(1, 64 << 20);
	more = large ? realloc(large, 80 << 20) : NULL;
	for (i = 0; i < 1000; i++)
		free(small[i]);
	free(more);
	return more ? 0 : -1;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int event_fd, timer_fd;

/* As the RTC does */
static long use_clock(void)
{
	time_t now = time(NULL);
	struct tm tm;

	return gmtime_r(&now, &tm) ? 0 : -1;
}

static long use_threads(void)
{
	struct timespec ts;
	int ret;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += 1000000;
	ts.tv_sec += ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	pthread_mutex_lock(&lock);
	ret = pthread_cond_timedwait(&cond, &lock, &ts);
	pthread_mutex_unlock(&lock);
	ts.tv_sec = 0;
	nanosleep(&ts, NULL);
	return ret == ETIMEDOUT && !pthread_kill(pthread_self(), 0) ? 0 : -1;
}

static long use_events(void)
{
	struct itimerspec its = { .it_value.tv_nsec = 1000000 };
	u64 one = 1;

	if (write(event_fd, &one, 8) != 8 || timerfd_settime(timer_fd, 0, &its, NULL))
		return -1;
	return do_ioctl_run() | fail(0, "a line");
}

static long use_io(void)
{
	struct pollfd pfd = { .fd = event_fd, .events = POLLIN };
	u64 one = 1;
	struct stat st;
	int fd;

	if (write(event_fd, &one, 8) != 8 || poll(&pfd, 1, 1000) != 1 || read(event_fd, &one, 8) != 8)
		return -1;
	fd = eventfd(0, EFD_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || fcntl(fd, F_GETFL) < 0 || close(fd))
		return -1;
	return do_io_uring_enter() | do_sendto();
}

static void test_needed(void)
{
	static const struct attempt both[] = { { "memory", use_memory }, { "threads", use_threads }, { "clock", use_clock },
					       { } };
	static const struct attempt vcpu[] = { { "events", use_events }, { } };
	static const struct attempt main[] = { { "io", use_io }, { } };

	event_fd = ASSERT_OK(eventfd(0, EFD_CLOEXEC));
	timer_fd = ASSERT_OK(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	lives(JAIL_MAIN, 0, both);
	lives(JAIL_VCPU, 0, both);
	lives(JAIL_VCPU, 0, vcpu);
	lives(JAIL_MAIN, 0, main);
}

static long do_abort(void)
{
	abort();
}

/* A bug is still seen as what it is */
static void test_crashes(void)
{
	int kind, status;

	for (kind = 0; kind < JAIL_THREADS; kind++) {
		status = imprison(kind, 0, do_abort);
		ASSERT_MSG(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status 0x%x, %s", status, said);
	}
}

/* --- privileges --------------------------------------------------------------------------------------------------- */

static u64 status_field(const char *name)
{
	char line[256];
	u64 value = UINT64_MAX;
	FILE *f = fopen("/proc/self/status", "re");

	ASSERT(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			value = strtoull(line + strlen(name) + 1, NULL, 16);
	fclose(f);
	ASSERT_NE(value, UINT64_MAX);
	return value;
}

static void test_drop(void)
{
	int inherited[2], ours[2];

	ASSERT_OK(pipe2(inherited, 0));
	ASSERT_OK(pipe2(ours, O_CLOEXEC));
	ASSERT_EQ(jail_drop(), 0);
	ASSERT_EQ(status_field("NoNewPrivs"), 1);
	ASSERT_EQ(status_field("CapEff"), 0);
	ASSERT_EQ(status_field("CapPrm"), 0);
	ASSERT_EQ(status_field("CapInh"), 0);
	ASSERT_EQ(status_field("CapAmb"), 0);
	ASSERT(geteuid() || status_field("CapBnd") == 0);
	ASSERT_ERR(fcntl(inherited[0], F_GETFD), EBADF);
	ASSERT_ERR(fcntl(inherited[1], F_GETFD), EBADF);
	ASSERT_OK(fcntl(ours[0], F_GETFD));
	ASSERT_OK(fcntl(STDERR_FILENO, F_GETFD));
	/* Root is root no more */
	ASSERT_ERR(chroot("/"), EPERM);
}

static void test_identity(void)
{
	const struct jail_who who = { .user = "12345:23456", .chroot = "/proc/sys" };

	if (geteuid())
		SKIP("not root");
	ASSERT_EQ(jail_check(&who), 0);
	ASSERT_EQ(jail_identity(&who), 0);
	ASSERT_EQ(getuid(), 12345);
	ASSERT_EQ(geteuid(), 12345);
	ASSERT_EQ(getegid(), 23456);
	ASSERT_EQ(getgroups(0, NULL), 0);
	ASSERT_ERR(setuid(0), EPERM);
	ASSERT_ERR(access("/etc", F_OK), ENOENT);
	ASSERT_EQ(jail_drop(), 0);
}

static void test_refused(void)
{
	static const struct {
		struct jail_who who;
		int err;
		const char *line;
	} bad[] = {
		{ { .user = "nobody-of-that-name" }, -ENOENT, "--user: 'nobody-of-that-name': no such user" },
		{ { .user = "1:2:3" }, -ENOENT, "--user: '1:2:3': no such user" },
		{ { .user = "" }, -ENOENT, "--user: '': no such user" },
		{ { .chroot = "/nowhere" }, -ENOENT, "--chroot: '/nowhere': No such file" },
		{ { .chroot = "/etc/passwd" }, -ENOTDIR, "--chroot: '/etc/passwd': no directory" },
	};
	static const struct jail_who root_only[] = { { .user = "0" }, { .chroot = "/tmp" } };
	unsigned int i;

	fail_sink = keep_line;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		ASSERT_EQ(jail_check(&bad[i].who), bad[i].err);
		ASSERT_MSG(!strncmp(last_line, bad[i].line, strlen(bad[i].line)), "%s", last_line);
	}
	if (!geteuid())
		ASSERT_OK(setresuid(12345, 12345, 12345));
	for (i = 0; i < ARRAY_SIZE(root_only); i++) {
		ASSERT_EQ(jail_check(&root_only[i]), -EPERM);
		ASSERT_MSG(strstr(last_line, "only root can do that"), "%s", last_line);
	}
}

/* --- the ring ------------------------------------------------------------------------------------------------------ */

static int ring_result(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int res;

	ASSERT_GE(io_uring_submit_and_wait(ring, 1), 0);
	ASSERT_EQ(io_uring_wait_cqe(ring, &cqe), 0);
	res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return res;
}

static void test_ring(void)
{
	struct io_uring_params p = { .flags = IORING_SETUP_R_DISABLED };
	struct io_uring ring;
	int fds[2], ret;
	char c;

	ret = io_uring_queue_init_params(8, &ring, &p);
	if (ret == -ENOSYS || ret == -EPERM)
		SKIP("no io_uring here");
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(jail_ring(&ring), 0);
	ASSERT_OK(pipe2(fds, O_CLOEXEC));
	io_uring_prep_write(io_uring_get_sqe(&ring), fds[1], "x", 1, -1);
	ASSERT_EQ(ring_result(&ring), 1);
	io_uring_prep_read(io_uring_get_sqe(&ring), fds[0], &c, 1, -1);
	ASSERT_EQ(ring_result(&ring), 1);
	io_uring_prep_openat(io_uring_get_sqe(&ring), AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	ASSERT_EQ(ring_result(&ring), -EACCES);
	io_uring_prep_unlink(io_uring_get_sqe(&ring), "/nowhere", 0);
	ASSERT_EQ(ring_result(&ring), -EACCES);
	io_uring_prep_connect(io_uring_get_sqe(&ring), fds[0], NULL, 0);
	ASSERT_EQ(ring_result(&ring), -EACCES);
	/* Nor can what it may do be widened */
	ASSERT_LT(io_uring_register_eventfd(&ring, fds[0]), 0);
	ASSERT_LT(syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_RESTRICTIONS, NULL, 0), 0);
	io_uring_queue_exit(&ring);
}

static const struct tap_test tests[] = {
	TEST(main_dies),
	TEST(vcpu_dies),
	TEST(features),
	TEST(needed),
	TEST(crashes),
	TEST(drop),
	TEST(identity),
	TEST(refused),
	TEST(ring),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
