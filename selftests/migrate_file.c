// SPDX-License-Identifier: GPL-2.0
/*
 * Machines in files (migrate_save(), migrate_restore(), lib/fakevm.h): suspend, snapshot of a machine that runs, restore by mapping
 * and by reading, streams through a pipe, a disk that is full; what the checker says of them, damaged ones included.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "../migrate/verify.h"
#include "fakevm.h"

#define MIB	(1ull << 20)

struct machine {
	struct fakewire wire;
	struct fakevm vm;
	struct migrate_ops ops;
	struct migrate_params params;
	struct migrate_result result;
};

static void machine_init(struct machine *m, bool is_source, uint64_t low, uint64_t high)
{
	fakewire_init(&m->wire);
	fakevm_init(&m->vm, &m->wire, is_source, low, high);
	if (is_source)
		fakevm_fill(&m->vm);
	m->ops = fake_ops;
	migrate_params_init(&m->params);
}

static void machine_fini(struct machine *m)
{
	fakevm_fini(&m->vm);
	fakewire_fini(&m->wire);
}

static int new_file(void)
{
	return ASSERT_OK(memfd_create("machine", MFD_CLOEXEC));
}

static int save(struct machine *m, int fd)
{
	struct migrate *handle;

	ASSERT_EQ(migrate_save(&handle, &m->ops, &m->vm, &m->params, fd), 0);
	return migrate_wait(handle, &m->result);
}

static int restore(struct machine *m, int fd, bool map, char *why)
{
	ASSERT_OK(lseek(fd, 0, SEEK_SET));
	return migrate_restore(&m->ops, &m->vm, fd, map, why);
}

static int check(int fd, struct verify *v)
{
	struct input in = { .fd = fd };
	struct stat st;
	int ret;

	ASSERT_OK(fstat(fd, &st));
	in.len = st.st_size;
	ret = verify(v, &in, NULL);
	verify_fini(v);
	return ret;
}

static void suspend_and_restore(uint64_t low, uint64_t high, bool map)
{
	char why[MIGRATE_WHY_MAX];
	struct machine a, b;
	struct verify v;
	struct stat st;
	int fd = new_file();

	machine_init(&a, true, low, high);
	machine_init(&b, false, low, high);
	ASSERT_MSG(!save(&a, fd), "%s", a.result.why);
	ASSERT_EQ(a.result.owner, MIGRATE_HERE);
	ASSERT(a.vm.paused && !a.vm.running);
	ASSERT_OK(fstat(fd, &st));
	/* a quarter of the pages are holes */
	ASSERT_LE(st.st_blocks * 512ull, (low + high) * 3 / 4 + 64 * 1024);
	ASSERT_MSG(!check(fd, &v), "byte %llu: %s", (unsigned long long)v.at, v.why);
	ASSERT_MSG(!restore(&b, fd, map, why), "%s", why);
	ASSERT(fakevm_equal(&a.vm, &b.vm));
	ASSERT(!b.vm.running);
	if (map) {
		/* private: the file stays as it is */
		memset(b.vm.ram[0], 1, low);
		ASSERT_EQ(check(fd, &v), 0);
	}
	machine_fini(&a);
	machine_fini(&b);
	close(fd);
}

static void test_suspend_map(void)
{
	suspend_and_restore(16 * MIB, 0, true);
	suspend_and_restore(5 * FAKE_PAGE, 8 * MIB, true);
}

static void test_suspend_read(void)
{
	suspend_and_restore(16 * MIB, 0, false);
	suspend_and_restore(5 * FAKE_PAGE, 8 * MIB, false);
}

/* The machine writes all the time; what the file has is what it was at one moment */
static void test_snapshot(void)
{
	char why[MIGRATE_WHY_MAX];
	struct machine a, b;
	struct verify v;
	int fd, clears;

	for (clears = 0; clears < 2; clears++) {
		fd = new_file();
		machine_init(&a, true, 24 * MIB, 8 * MIB);
		machine_init(&b, false, 24 * MIB, 8 * MIB);
		if (clears)
			a.ops = fake_ops_clear();
		a.vm.clears = clears;
		a.params.running = true;
		a.params.sync = true;
		fakevm_run(&a.vm, 2000, 20);
		usleep(20000);
		ASSERT_MSG(!save(&a, fd), "%s", a.result.why);
		ASSERT(a.vm.running && !a.vm.paused);
		ASSERT_EQ(a.vm.starts, a.vm.stops);
		ASSERT_GT(a.result.progress.downtime_us, 0);
		tap_diag("stopped for %llu us of %llu, %u rounds", (unsigned long long)a.result.progress.downtime_us,
			 (unsigned long long)a.result.progress.elapsed_us, a.result.progress.round + 1);
		ASSERT_MSG(!check(fd, &v), "byte %llu: %s", (unsigned long long)v.at, v.why);
		ASSERT_MSG(!restore(&b, fd, true, why), "%s", why);
		machine_fini(&a);
		machine_fini(&b);
		close(fd);
	}
}

/* One that keeps what it was when it was paused has the same in the file */
static uint8_t at_pause[40 * MIB];

static int pause_and_keep(void *arg)
{
	struct fakevm *vm = arg;

	fake_pause(vm);
	ASSERT_LE(vm->size[0], sizeof(at_pause));
	memcpy(at_pause, vm->ram[0], vm->size[0]);
	return 0;
}

static void test_snapshot_moment(void)
{
	char why[MIGRATE_WHY_MAX];
	struct machine a, b;
	int fd = new_file();

	machine_init(&a, true, 16 * MIB, 0);
	machine_init(&b, false, 16 * MIB, 0);
	a.ops.pause = pause_and_keep;
	a.params.running = true;
	fakevm_run(&a.vm, 4000, 0);
	ASSERT_MSG(!save(&a, fd), "%s", a.result.why);
	ASSERT_MSG(!restore(&b, fd, true, why), "%s", why);
	ASSERT(!memcmp(at_pause, b.vm.ram[0], b.vm.size[0]));
	machine_fini(&a);
	machine_fini(&b);
	close(fd);
}

/* By copies on write. Without the right to see faults of the kernel, or such memory, it is done by rounds, as above */
static bool watch(struct machine *m)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };

	m->params.running = true;
	m->params.uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	m->params.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	return m->params.uffd >= 0 && m->params.pagemap >= 0 && !ioctl(m->params.uffd, UFFDIO_API, &api);
}

static void watch_end(struct machine *m)
{
	close(m->params.uffd);
	close(m->params.pagemap);
}

/* As a guest's balloon does in the middle of it: what has gone by then is still saved */
static atomic_int holds;
static uint8_t *give_back;

static void hold(void *arg, bool on)
{
	holds += on ? 1 : -1;
}

static int resume_and_discard(void *arg)
{
	volatile uint8_t *p;

	for (p = give_back; p < give_back + 64 * FAKE_PAGE; p += FAKE_PAGE)
		*p = *p;
	ASSERT_OK(madvise(give_back, 64 * FAKE_PAGE, MADV_DONTNEED));
	return fake_resume(arg);
}

static void snapshot_cow(unsigned int rate, int advice)
{
	char why[MIGRATE_WHY_MAX];
	struct machine a, b;
	struct verify v;
	unsigned int i;
	int fd;

	memset(at_pause, 1, sizeof(at_pause));
	for (i = 0; i < 2; i++) {
		fd = new_file();
		machine_init(&a, true, 40 * MIB, 9 * FAKE_PAGE);
		machine_init(&b, false, 40 * MIB, 9 * FAKE_PAGE);
		if (!watch(&a))
			SKIP("no userfaultfd that sees faults of the kernel");
		/* Some of it has never been there, and comes before, at and after the moment */
		ASSERT_OK(madvise(a.vm.ram[0], 40 * MIB, advice));
		ASSERT_OK(madvise(a.vm.ram[0] + 13 * MIB, 20 * MIB, MADV_DONTNEED));
		a.ops.pause = pause_and_keep;
		a.ops.resume = resume_and_discard;
		a.ops.hold = hold;
		a.ops.dirty_start = NULL;	/* is not called */
		give_back = a.vm.ram[0] + 3 * MIB;
		fakevm_run(&a.vm, 40 * MIB / FAKE_PAGE, rate);
		usleep(2000);
		ASSERT_MSG(!save(&a, fd), "%s", a.result.why);
		ASSERT(a.vm.running && !a.vm.paused && !holds);
		tap_diag("stopped for %llu us, %llu us of writing memory", (unsigned long long)a.result.progress.downtime_us,
			 (unsigned long long)a.result.progress.memory_us);
		ASSERT_MSG(!check(fd, &v), "byte %llu: %s", (unsigned long long)v.at, v.why);
		ASSERT_MSG(!restore(&b, fd, true, why), "%s", why);
		ASSERT(!memcmp(at_pause, b.vm.ram[0], b.vm.size[0]));
		/* and once more, of the same descriptors */
		ASSERT_EQ(ftruncate(fd, 0) | (int)lseek(fd, 0, SEEK_SET), 0);
			ASSERT_MSG(!save(&a, fd), "%s", a.result.why);
		ASSERT_MSG(!restore(&b, fd, true, why), "%s", why);
		ASSERT(!memcmp(at_pause, b.vm.ram[0], b.vm.size[0]));
			watch_end(&a);
		machine_fini(&a);
		machine_fini(&b);
		close(fd);
	}
}

static void test_snapshot_cow(void)
{
	snapshot_cow(1, MADV_HUGEPAGE);
	snapshot_cow(40, MADV_NOHUGEPAGE);
	snapshot_cow(0, MADV_HUGEPAGE);
}

/* The file has no room, or somebody cancels: whoever wants to write is let go */
static void test_snapshot_cow_fails(void)
{
	struct migrate *handle;
	struct machine a;
	uint64_t written;
	int fd, i;

	signal(SIGXFSZ, SIG_IGN);
	for (i = 0; i < 12; i++) {
		struct rlimit rl = { 6 * MIB, RLIM_INFINITY };

		fd = new_file();
		machine_init(&a, true, 40 * MIB, 0);
		if (!watch(&a))
			SKIP("no userfaultfd that sees faults of the kernel");
		fakevm_run(&a.vm, 40 * MIB / FAKE_PAGE, 0);
		if (i % 2)
			ASSERT_OK(setrlimit(RLIMIT_FSIZE, &rl));
		ASSERT_EQ(migrate_save(&handle, &a.ops, &a.vm, &a.params, fd), 0);
		usleep(i * 1500);
		if (i % 2 == 0)
			migrate_cancel(handle);
		migrate_wait(handle, &a.result);
		rl.rlim_cur = RLIM_INFINITY;
		ASSERT_OK(setrlimit(RLIMIT_FSIZE, &rl));
		ASSERT(a.vm.running);
		written = a.vm.written;
		while (a.vm.written < written + 1000)
			usleep(100);
		watch_end(&a);
		machine_fini(&a);
		close(fd);
	}
}

/* A machine that came from a file and is mapped: such memory cannot be watched */
static void test_snapshot_of_clone(void)
{
	char why[MIGRATE_WHY_MAX], path[] = "/var/tmp/migrate_file.XXXXXX";
	struct machine a, b, c;
	int file = ASSERT_OK(mkstemp(path)), fd = new_file();

	unlink(path);
	machine_init(&a, true, 16 * MIB, 0);
	machine_init(&b, false, 16 * MIB, 0);
	machine_init(&c, false, 16 * MIB, 0);
	ASSERT_EQ(save(&a, file), 0);
	ASSERT_MSG(!restore(&b, file, true, why), "%s", why);
	b.vm.is_source = true;
	b.ops.pause = pause_and_keep;
	watch(&b);
	fakevm_run(&b.vm, 4000, 20);
	ASSERT_MSG(!save(&b, fd), "%s", b.result.why);
	ASSERT_MSG(!restore(&c, fd, true, why), "%s", why);
	ASSERT(!memcmp(at_pause, c.vm.ram[0], c.vm.size[0]));
	watch_end(&b);
	machine_fini(&a);
	machine_fini(&b);
	machine_fini(&c);
	close(fd);
	close(file);
}

/* Many machines from one file */
static void test_clones(void)
{
	char why[MIGRATE_WHY_MAX];
	struct machine a, b[8];
	int fd = new_file(), i;

	machine_init(&a, true, 8 * MIB, 0);
	ASSERT_EQ(save(&a, fd), 0);
	for (i = 0; i < 8; i++) {
		machine_init(&b[i], false, 8 * MIB, 0);
		ASSERT_MSG(!restore(&b[i], fd, true, why), "%s", why);
		memset(b[i].vm.ram[0] + i * FAKE_PAGE, i, FAKE_PAGE);
	}
	for (i = 0; i < 8; i++) {
		ASSERT(!memcmp(b[i].vm.ram[0] + 8 * FAKE_PAGE, a.vm.ram[0] + 8 * FAKE_PAGE, 8 * MIB - 8 * FAKE_PAGE));
		ASSERT_EQ(b[i].vm.ram[0][i * FAKE_PAGE], i);
		ASSERT_EQ(memcmp(b[i].vm.ram[0] + (i + 1) % 8 * FAKE_PAGE, a.vm.ram[0] + (i + 1) % 8 * FAKE_PAGE, FAKE_PAGE), 0);
		machine_fini(&b[i]);
	}
	machine_fini(&a);
	close(fd);
}

struct pipe_end {
	int fd;
	struct machine *m;
	char why[MIGRATE_WHY_MAX];
	int err;
};

static void *restore_thread(void *arg)
{
	struct pipe_end *p = arg;

	p->err = migrate_restore(&p->m->ops, &p->m->vm, p->fd, true, p->why);
	return NULL;
}

static int pipe_write_end = -1;

static int pipe_connection(void *arg, struct migrate_io **io, int timeout_ms)
{
	*io = migrate_io_fd(pipe_write_end);
	return 0;
}

/* As a stream through a pipe: what is read is what was sent, and the checker likes what `cat >file` would have made of it */
static void test_pipe(void)
{
	struct pipe_end end;
	struct migrate *handle;
	struct machine a, b;
	pthread_t thread;
	struct verify v;
	int fd[2], file;

	machine_init(&a, true, 8 * MIB, MIB);
	machine_init(&b, false, 8 * MIB, MIB);
	ASSERT_OK(pipe(fd));
	end.fd = fd[0];
	end.m = &b;
	ASSERT_EQ(pthread_create(&thread, NULL, restore_thread, &end), 0);
	a.ops.connection = pipe_connection;
	a.params.oneway = true;
	a.params.zstd = 1;
	pipe_write_end = fd[1];
	ASSERT_EQ(migrate_send(&handle, &a.ops, &a.vm, &a.params), 0);
	ASSERT_MSG(!migrate_wait(handle, &a.result), "%s", a.result.why);
	pthread_join(thread, NULL);
	ASSERT_MSG(!end.err, "%s", end.why);
	ASSERT(fakevm_equal(&a.vm, &b.vm));
	ASSERT_EQ(a.result.owner, MIGRATE_THERE);
	close(fd[0]);

	file = new_file();
	pipe_write_end = dup(file);
	ASSERT_EQ(migrate_send(&handle, &a.ops, &a.vm, &a.params), 0);
	ASSERT_EQ(migrate_wait(handle, &a.result), 0);
	ASSERT_MSG(!check(file, &v), "byte %llu: %s", (unsigned long long)v.at, v.why);
	close(file);
	machine_fini(&a);
	machine_fini(&b);
}

/* The disk is full at any place: the machine runs on, and the file is none */
static void test_disk_full(void)
{
	uint64_t limit[] = { 10, 200, 2 * MIB + 100, 5 * MIB, 10 * MIB + 50, 10 * MIB + 8400 };
	char why[MIGRATE_WHY_MAX], path[] = "/tmp/migrate_file.XXXXXX";
	struct machine a, b;
	struct verify v;
	unsigned int i;
	int fd;

	signal(SIGXFSZ, SIG_IGN);
	fd = ASSERT_OK(mkstemp(path));
	unlink(path);
	for (i = 0; i < ARRAY_SIZE(limit); i++) {
		struct rlimit rl = { limit[i], RLIM_INFINITY };

		machine_init(&a, true, 8 * MIB, 0);
		machine_init(&b, false, 8 * MIB, 0);
		ASSERT_OK(ftruncate(fd, 0));
		ASSERT_OK(lseek(fd, 0, SEEK_SET));
		ASSERT_OK(setrlimit(RLIMIT_FSIZE, &rl));
		ASSERT_NE(save(&a, fd), 0);
		rl.rlim_cur = RLIM_INFINITY;
		ASSERT_OK(setrlimit(RLIMIT_FSIZE, &rl));
		ASSERT_MSG(strstr(a.result.why, "the file: File too large"), "%s", a.result.why);
		ASSERT_EQ(a.result.owner, MIGRATE_HERE);
		ASSERT(a.vm.running);
		ASSERT_NE(check(fd, &v), 0);
		ASSERT_NE(restore(&b, fd, true, why), 0);
		ASSERT(!b.vm.running && *why);
		machine_fini(&a);
		machine_fini(&b);
	}
	close(fd);
}

/* Cut anywhere, or with any byte of it changed, a file is refused by both; memory is what the checker sees and a mapping does not */
static void test_damage(void)
{
	uint64_t memory, at, seed = 99, tail;
	char why[MIGRATE_WHY_MAX];
	struct machine a, b;
	struct verify v;
	struct stat st;
	unsigned int i;
	int fd = new_file();
	uint8_t byte, other;

	machine_init(&a, true, 8 * FAKE_PAGE, 0);
	ASSERT_EQ(save(&a, fd), 0);
	ASSERT_OK(fstat(fd, &st));
	memory = 2 * MIB;
	tail = memory + 8 * FAKE_PAGE;
	for (i = 0; i < 600; i++) {
		at = i < 200 ? fake_random(&seed) % 300 : tail + fake_random(&seed) % (st.st_size - tail);
		ASSERT_EQ(pread(fd, &byte, 1, at), 1);
		other = byte ^ (1 << i % 8);
		ASSERT_EQ(pwrite(fd, &other, 1, at), 1);
		machine_init(&b, false, 8 * FAKE_PAGE, 0);
		ASSERT_MSG(check(fd, &v), "byte %llu", (unsigned long long)at);
		/* what has no checksum does no harm */
		if (restore(&b, fd, i % 2, why) == 0)
			ASSERT(fakevm_equal(&a.vm, &b.vm));
		else
			ASSERT(*why);
		machine_fini(&b);
		ASSERT_EQ(pwrite(fd, &byte, 1, at), 1);
	}
	other = 5;
	ASSERT_EQ(pwrite(fd, &other, 1, memory + FAKE_PAGE + 77), 1);
	ASSERT_NE(check(fd, &v), 0);
	ASSERT(strstr(v.why, "page 1 of block 'low', at byte 2101248, has another checksum"));
	for (at = 0; at < (uint64_t)st.st_size; at += at < 400 || at + 450 > (uint64_t)st.st_size ? 1 : at > tail ? 7 : 99991) {
		ASSERT_OK(ftruncate(fd, at));
		machine_init(&b, false, 8 * FAKE_PAGE, 0);
		ASSERT_NE(check(fd, &v), 0);
		ASSERT_OK(lseek(fd, 0, SEEK_SET));
		ASSERT_NE(migrate_restore(&b.ops, &b.vm, fd, true, why), 0);
		ASSERT(*why);
		machine_fini(&b);
		ASSERT_OK(ftruncate(fd, 0));
		ASSERT_OK(lseek(fd, 0, SEEK_SET));
		ASSERT_EQ(save(&a, fd), 0);
	}
	machine_fini(&a);
	close(fd);
}

static void test_wrong_files(void)
{
	char why[MIGRATE_WHY_MAX];
	struct machine a, b;
	int fd = new_file();

	machine_init(&a, true, MIB, 0);
	machine_init(&b, false, MIB, 0);
	ASSERT_EQ(restore(&b, fd, true, why), -ECONNRESET);
	ASSERT_EQ(write(fd, "#!/bin/sh\n and so on, for more than 64 bytes, until it is long enough", 70), 70);
	ASSERT_EQ(restore(&b, fd, true, why), -EBADMSG);
	ASSERT(strstr(why, "no stream of pvhv"));
	/* nor is one overwritten that holds something */
	ASSERT_EQ(save(&a, fd), -EINVAL);
	ASSERT(a.vm.running);
	ASSERT_OK(ftruncate(fd, 0));
	ASSERT_OK(lseek(fd, 0, SEEK_SET));
	ASSERT_EQ(save(&a, fd), 0);
	b.vm.cpu = "GenuineIntel";
	ASSERT_EQ(restore(&b, fd, true, why), -EINVAL);
	ASSERT(strstr(why, "cpu.vendor is AuthenticAMD there, GenuineIntel here"));
	machine_fini(&a);
	machine_fini(&b);
	close(fd);
}

static const struct tap_test tests[] = {
	TEST(suspend_map),
	TEST(suspend_read),
	TEST(snapshot),
	TEST(snapshot_moment),
	TEST(snapshot_cow),
	TEST(snapshot_cow_fails),
	TEST(snapshot_of_clone),
	TEST(clones),
	TEST(pipe),
	TEST(disk_full),
	TEST(damage),
	TEST(wrong_files),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
