// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies that a machine whose move goes wrong runs on exactly one side, with all of its memory, and that its disk has one writer.
 * Source and destination are processes of their own; the network between them is cut or stands still after any byte, and either
 * is killed at any moment and at each step of the hand-over.
 *
 * The machine counts: step N writes N to its disk, having found N-1 there, and a page whose contents hang on N. So a machine that
 * runs twice, or goes on from an older state, finds a number on its disk that is not its own; and from N all its memory is known.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "fakevm.h"

#define PAGES		512ull
#define STRIDE		181ull		/* no divisor of PAGES */
#define WORDS		(FAKE_PAGE / 8)
#define STALL_MS	400
#define BANDWIDTH	(64ull << 20)	/* some 50 ms of copying */
#define DEADLINE_MS	60000

enum side { SOURCE, DESTINATION };

/* Where a process kills itself */
enum step {
	NOWHERE, CHECK, PAUSE, SAVE, LOAD, RELEASE, RELEASED, ACQUIRE, ACQUIRED, RESUME, RESUMED, STEPS,
};

static const char *const step_names[STEPS] = {
	"nowhere", "check", "pause", "save", "load", "release", "released", "acquire", "acquired", "resume", "resumed",
};

/* What both processes, and who judges them, see */
struct judge {
	atomic_ulong steps[2];		/* how often it ran there */
	atomic_bool running[2];
	atomic_bool disk_differs, memory_differs;
	struct migrate_result result[2];
};

static struct judge *judge;
static char dir[] = "/tmp/migrate_faults.XXXXXX";
static char door_path[64], wire_path[64], disk_path[64];

/* --- the machine, in its process ------------------------------------------------------------------------------- */

static struct {
	enum side side;
	enum step dies_at;
	struct fakevm vm;
	struct migrate_ops ops;
	struct migrate_params params;
	int disk, door;
	pthread_t runner;
} me;

static void passing(enum step step)
{
	if (me.dies_at == step)
		raise(SIGKILL);
}

static uint64_t word_of(uint64_t page, uint64_t n, unsigned int i)
{
	uint64_t seed = (page + 1) * 0x9e3779b97f4a7c15 ^ n * 0xbf58476d1ce4e5b9 ^ (i + 1) * 0x94d049bb133111eb;

	/* Half of it is the same each time, and every other page compresses well */
	if (i % 2)
		return page % 2 ? page : page + i;
	return seed ^ seed >> 29;
}

static uint64_t *page_at(uint64_t page)
{
	return (uint64_t *)(me.vm.ram[0] + page * FAKE_PAGE);
}

/* The last page is the counter's */
static uint64_t *counter(void)
{
	return page_at(PAGES);
}

static void write_page(uint64_t page, uint64_t n)
{
	unsigned int i;

	for (i = 0; i < WORDS; i++)
		page_at(page)[i] = word_of(page, n, i);
	me.vm.log[0][page / 64] |= 1ull << page % 64;
}

/* The number of the last step up to @n that wrote @page: the one with N * STRIDE = page (mod PAGES); 0: none did */
static uint64_t last_write(uint64_t page, uint64_t n)
{
	uint64_t back;

	for (back = 0; back < PAGES && back < n; back++)
		if ((n - back) * STRIDE % PAGES == page)
			return n - back;
	return 0;
}

static bool memory_is_right(void)
{
	uint64_t page, n = *counter();
	unsigned int i;

	for (page = 0; page < PAGES; page++)
		for (i = 0; i < WORDS; i++)
			if (page_at(page)[i] != word_of(page, last_write(page, n), i))
				return false;
	return true;
}

static void step(void)
{
	uint64_t n = *counter(), there;

	if (pread(me.disk, &there, sizeof(there), 0) != sizeof(there) || there != n)
		judge->disk_differs = true;
	n++;
	write_page(n * STRIDE % PAGES, n);
	*counter() = n;
	me.vm.log[0][PAGES / 64] |= 1ull << PAGES % 64;
	if (pwrite(me.disk, &n, sizeof(n), 0) != sizeof(n))
		judge->disk_differs = true;
	judge->steps[me.side]++;
}

static void *run(void *arg)
{
	for (;;) {
		pthread_mutex_lock(&me.vm.lock);
		if (me.vm.running)
			step();
		judge->running[me.side] = me.vm.running;
		pthread_mutex_unlock(&me.vm.lock);
		usleep(300);
	}
	return arg;
}

static int lock_disk(int how)
{
	struct flock fl = { .l_type = how, .l_whence = SEEK_SET };

	return fcntl(me.disk, F_OFD_SETLK, &fl) ? -errno : 0;
}

static void set_running(bool running)
{
	pthread_mutex_lock(&me.vm.lock);
	me.vm.running = running;
	me.vm.paused = !running;
	judge->running[me.side] = running;
	pthread_mutex_unlock(&me.vm.lock);
}

static int op_pause(void *vm)
{
	passing(PAUSE);
	set_running(false);
	return 0;
}

static int op_resume(void *vm)
{
	passing(RESUME);
	set_running(true);
	passing(RESUMED);
	return 0;
}

static int op_check(void *vm, const struct migrate_facts *theirs, char *why)
{
	passing(CHECK);
	return fake_check(vm, theirs, why);
}

static int op_save(void *vm, void **data, size_t *len)
{
	passing(SAVE);
	return fake_save(vm, data, len);
}

static int op_load(void *vm, const void *data, size_t len, char *why)
{
	passing(LOAD);
	return fake_load(vm, data, len, why);
}

static int op_release(void *vm)
{
	int err;

	passing(RELEASE);
	err = lock_disk(F_UNLCK);
	passing(RELEASED);
	return err;
}

static int op_acquire(void *vm, char *why)
{
	int err;

	passing(ACQUIRE);
	err = lock_disk(F_WRLCK);
	if (err)
		strcpy(why, "the disk is locked by somebody else");
	passing(ACQUIRED);
	return err;
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	strcpy(addr.sun_path, path);
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unlink(path);
	strcpy(addr.sun_path, path);
	ASSERT_OK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	ASSERT_OK(listen(fd, 16));
	return fd;
}

static int op_connection(void *vm, struct migrate_io **io, int timeout_ms)
{
	struct pollfd pfd = { .fd = me.door, .events = POLLIN };
	int fd;

	if (me.side == SOURCE)
		fd = connect_to(wire_path);
	else
		fd = poll(&pfd, 1, timeout_ms) > 0 ? accept(me.door, NULL, NULL) : -ETIMEDOUT;
	if (fd < 0)
		return fd;
	*io = migrate_io_fd(fd);
	return *io ? 0 : -ENOMEM;
}

/* A process that ends only by a signal: what became of its machine stays to be seen. */
static void machine(enum side side, enum step dies_at, unsigned int connections)
{
	struct migrate *m;
	uint64_t page;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	me.side = side;
	me.dies_at = dies_at;
	fakevm_init(&me.vm, NULL, side == SOURCE, (PAGES + 1) * FAKE_PAGE, 0);
	me.vm.running = false;
	me.ops = fake_ops;
	me.ops.check = op_check;
	me.ops.pause = op_pause;
	me.ops.resume = op_resume;
	me.ops.save = op_save;
	me.ops.load = op_load;
	me.ops.release = op_release;
	me.ops.acquire = op_acquire;
	me.ops.connection = op_connection;
	me.ops.done = NULL;
	migrate_params_init(&me.params);
	me.params.connections = connections;
	me.params.stall_ms = STALL_MS;
	me.params.bandwidth = BANDWIDTH;
	me.disk = open(disk_path, O_RDWR | O_CLOEXEC);
	ASSERT(me.disk >= 0);
	if (side == SOURCE) {
		for (page = 0; page < PAGES; page++)
			write_page(page, 0);
		ASSERT_OK(lock_disk(F_WRLCK));
		set_running(true);
	} else {
		me.door = listen_at(door_path);
	}
	ASSERT_EQ(pthread_create(&me.runner, NULL, run, NULL), 0);
	if (side == SOURCE)
		ASSERT_EQ(migrate_send(&m, &me.ops, &me.vm, &me.params), 0);
	else
		ASSERT_EQ(migrate_receive(&m, &me.ops, &me.vm, &me.params), 0);
	migrate_wait(m, &judge->result[side]);
	close(me.door);
	/* For long enough to be seen, and then all that it has */
	usleep(20000);
	pthread_mutex_lock(&me.vm.lock);
	if (me.vm.running && !memory_is_right())
		judge->memory_differs = true;
	pthread_mutex_unlock(&me.vm.lock);
	raise(SIGSTOP);
	for (;;)
		pause();
}

/* --- the network ----------------------------------------------------------------------------------------------- */

/* Passes on what comes, until @most bytes of a direction have: then it breaks, or stands for long; and is a new one after that. */
struct network {
	int door;
	int direction;			/* 0: to the destination */
	long most;			/* -1: no end */
	bool stalls;
	atomic_long passed[2];
	atomic_bool broken, end;
	pthread_t thread;
};

#define LINKS		24
#define STANDS_MS	(3 * STALL_MS)

struct link {
	int fd[2];			/* the source's side, the destination's */
	bool ended[2];
};

static bool breaks_now(struct network *net, int direction)
{
	return net->most >= 0 && direction == net->direction && net->passed[direction] >= net->most;
}

/* Bytes that come from end @i of @l */
static bool pass(struct network *net, struct link *l, int i)
{
	char buf[8192];
	size_t room = sizeof(buf);
	ssize_t n;

	if (net->most >= 0 && i == net->direction && !net->broken &&
	    net->most - net->passed[i] < (long)room)
		room = net->most - net->passed[i];
	n = recv(l->fd[i], buf, room, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return true;
	if (n <= 0) {
		l->ended[i] = true;
		shutdown(l->fd[!i], SHUT_WR);
		return n == 0 && !l->ended[!i];
	}
	net->passed[i] += n;
	return send(l->fd[!i], buf, n, MSG_NOSIGNAL) == n;
}

static void drop(struct link *l)
{
	if (l->fd[0] >= 0) {
		close(l->fd[0]);
		close(l->fd[1]);
	}
	*l = (struct link){ { -1, -1 }, { true, true } };
}

static bool join(struct network *net, struct link *l)
{
	l->fd[0] = accept(net->door, NULL, NULL);
	l->fd[1] = connect_to(door_path);
	l->ended[0] = l->ended[1] = false;
	if (l->fd[1] >= 0)
		return true;
	close(l->fd[0]);
	return false;
}

static unsigned long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ul + ts.tv_nsec / 1000000;
}

static void *network(void *arg)
{
	struct network *net = arg;
	struct pollfd pfd[2 * LINKS + 1];
	struct link link[LINKS];
	unsigned int nr = 0, before, i, j;

	while (!net->end) {
		pfd[0] = (struct pollfd){ net->door, POLLIN, 0 };
		for (i = 0; i < nr; i++)
			for (j = 0; j < 2; j++)
				pfd[1 + 2 * i + j] = (struct pollfd){ link[i].ended[j] ? -1 : link[i].fd[j], POLLIN, 0 };
		if (poll(pfd, 1 + 2 * nr, 5) <= 0)
			continue;
		before = nr;
		if (pfd[0].revents && nr < LINKS)
			nr += join(net, &link[nr]);
		for (i = 0; i < before; i++)
			for (j = 0; j < 2; j++)
				if (link[i].fd[0] >= 0 && pfd[1 + 2 * i + j].revents && !pass(net, &link[i], j))
					drop(&link[i]);
		if (net->broken || !(breaks_now(net, 0) || breaks_now(net, 1)))
			continue;
		net->broken = true;
		if (net->stalls)
			usleep(STANDS_MS * 1000);
		for (i = 0; i < nr; i++)
			drop(&link[i]);
	}
	for (i = 0; i < nr; i++)
		drop(&link[i]);
	close(net->door);
	return NULL;
}

/* --- who judges ------------------------------------------------------------------------------------------------ */

struct trial {
	struct network net;
	unsigned int connections;
	enum step dies_at[2];
	enum side victim;
	long kill_us;			/* -1: nobody */
	pid_t pid[2];
	bool killed[2];
};

static pid_t start_machine(const struct trial *t, enum side side)
{
	pid_t pid = fork();

	ASSERT(pid >= 0);
	if (!pid)
		machine(side, t->dies_at[side], t->connections);
	return pid;
}

/* Until it stands still, having told all, or is dead */
static void await(struct trial *t, enum side side, unsigned long until)
{
	int status = 0;

	while (waitpid(t->pid[side], &status, WUNTRACED | WNOHANG) == 0) {
		ASSERT_MSG(now_ms() < until, "the %s does not end", side == SOURCE ? "source" : "destination");
		usleep(500);
	}
	t->killed[side] = WIFSIGNALED(status);
	ASSERT_MSG(WIFSTOPPED(status) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL), "status %x", status);
}

static void begin(struct trial *t)
{
	uint64_t zero = 0;
	int fd = open(disk_path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	ASSERT_EQ(write(fd, &zero, sizeof(zero)), sizeof(zero));
	close(fd);
	memset(judge, 0, sizeof(*judge));
	t->net.door = listen_at(wire_path);
	unlink(door_path);
	t->pid[DESTINATION] = start_machine(t, DESTINATION);
	while (access(door_path, F_OK))
		usleep(200);
	ASSERT_EQ(pthread_create(&t->net.thread, NULL, network, &t->net), 0);
	t->pid[SOURCE] = start_machine(t, SOURCE);
}

static void finish(struct trial *t)
{
	unsigned long until = now_ms() + DEADLINE_MS;
	enum side side;

	if (t->kill_us >= 0) {
		usleep(t->kill_us);
		kill(t->pid[t->victim], SIGKILL);
	}
	/* One that was killed before anybody came is waited for in vain */
	await(t, SOURCE, until);
	if (!t->net.passed[0])
		kill(t->pid[DESTINATION], SIGKILL);
	await(t, DESTINATION, until);
	t->net.end = true;
	pthread_join(t->net.thread, NULL);
	for (side = SOURCE; side <= DESTINATION; side++) {
		kill(t->pid[side], SIGKILL);
		if (!t->killed[side])
			waitpid(t->pid[side], NULL, 0);
	}
}

/* What became of it */
struct tally {
	unsigned int stayed, moved, died, held;
};

static const char *told(const struct trial *t, enum side side)
{
	return t->killed[side] ? "(killed)" : judge->result[side].why;
}

static void check(struct trial *t, struct tally *tally)
{
	bool runs[2];
	enum side side;

	for (side = SOURCE; side <= DESTINATION; side++)
		runs[side] = judge->running[side] && !t->killed[side];
	ASSERT_MSG(!judge->disk_differs, "two wrote to the disk: %s / %s", told(t, SOURCE), told(t, DESTINATION));
	ASSERT_MSG(!judge->memory_differs, "memory: %s / %s", told(t, SOURCE), told(t, DESTINATION));
	ASSERT_MSG(!(runs[SOURCE] && runs[DESTINATION]), "both run: %s / %s", told(t, SOURCE), told(t, DESTINATION));
	for (side = SOURCE; side <= DESTINATION; side++)
		if (!runs[side] && !t->killed[side] && !(side == SOURCE && judge->result[side].owner == MIGRATE_THERE))
			ASSERT(judge->result[side].why[0] && !strchr(judge->result[side].why, '\n'));
	if (runs[SOURCE]) {
		ASSERT(judge->result[SOURCE].err && judge->result[SOURCE].owner == MIGRATE_HERE);
		tally->stayed++;
	} else if (runs[DESTINATION]) {
		ASSERT_EQ(judge->result[DESTINATION].err, 0);
		tally->moved++;
	} else if (!t->killed[SOURCE] && judge->result[SOURCE].owner == MIGRATE_UNKNOWN) {
		/* Nobody can know, and nobody runs it: only if the destination died with it */
		ASSERT_MSG(t->killed[DESTINATION], "held: %s / %s", told(t, SOURCE), told(t, DESTINATION));
		ASSERT(strstr(judge->result[SOURCE].why, "paused here"));
		tally->held++;
	} else {
		/* It died with the process that had it */
		ASSERT_MSG(t->killed[SOURCE] || (t->killed[DESTINATION] && judge->result[SOURCE].owner == MIGRATE_THERE),
			   "nobody runs it: %s / %s", told(t, SOURCE), told(t, DESTINATION));
		tally->died++;
	}
}

static void trial_init(struct trial *t)
{
	memset(t, 0, sizeof(*t));
	t->connections = 1;
	t->net.most = -1;
	t->kill_us = -1;
}

static void try(struct trial *t, struct tally *tally)
{
	begin(t);
	finish(t);
	check(t, tally);
}

static void tell(const char *what, const struct tally *tally)
{
	tap_diag("%s: stayed %u, moved %u, died with its process %u, held %u", what, tally->stayed, tally->moved, tally->died,
		 tally->held);
}

/* How much passes if nothing happens, and how long that takes */
static void measure(unsigned int connections, long bytes[2], long *us)
{
	struct tally tally = { 0 };
	struct trial t;

	trial_init(&t);
	t.connections = connections;
	try(&t, &tally);
	ASSERT_MSG(tally.moved == 1, "%s / %s", told(&t, SOURCE), told(&t, DESTINATION));
	bytes[0] = t.net.passed[0];
	bytes[1] = t.net.passed[1];
	*us = judge->result[SOURCE].progress.elapsed_us;
	tap_diag("%ld bytes there, %ld back, %ld us, stood %lu us", bytes[0], bytes[1], *us,
		 (unsigned long)judge->result[SOURCE].progress.downtime_us);
}

static uint64_t seed = 0x2545f4914f6cdd1d;

/* A third of the places is near the end, where it counts, and so are all of a direction with few bytes */
static long somewhere(long most)
{
	long last = most < 1000 ? most : 1000;

	if (fake_random(&seed) % 3)
		return fake_random(&seed) % most;
	return most - fake_random(&seed) % last;
}

static void break_at(bool stalls, unsigned int connections, unsigned int count)
{
	struct tally tally = { 0 };
	struct trial t;
	unsigned int i;
	long bytes[2], us;

	measure(connections, bytes, &us);
	for (i = 0; i < count; i++) {
		trial_init(&t);
		t.connections = connections;
		t.net.direction = i % 4 == 3;
		t.net.most = somewhere(bytes[t.net.direction]);
		t.net.stalls = stalls;
		try(&t, &tally);
		ASSERT_EQ(tally.died + tally.held, 0);
	}
	tell(stalls ? "stands still" : "cut", &tally);
}

static void test_cuts(void)
{
	break_at(false, 1, 150);
	break_at(false, 3, 50);
}

static void test_kills(void)
{
	struct tally tally[2] = { 0 };
	struct trial t;
	unsigned int i;
	long bytes[2], us;

	measure(1, bytes, &us);
	for (i = 0; i < 100; i++) {
		trial_init(&t);
		t.victim = i % 2;
		t.kill_us = fake_random(&seed) % (us + us / 4);
		try(&t, &tally[t.victim]);
	}
	tell("source killed", &tally[SOURCE]);
	tell("destination killed", &tally[DESTINATION]);
}

/* What a kill at each step of the way makes of it */
static void test_steps(void)
{
	static const struct {
		enum side side;
		enum step step;
		struct tally becomes;
	} steps[] = {
		{ SOURCE, PAUSE, { .died = 1 } },
		{ SOURCE, SAVE, { .died = 1 } },
		{ SOURCE, RELEASE, { .died = 1 } },
		{ SOURCE, RELEASED, { .died = 1 } },
		{ DESTINATION, CHECK, { .stayed = 1 } },
		{ DESTINATION, LOAD, { .stayed = 1 } },
		{ DESTINATION, ACQUIRE, { .held = 1 } },
		{ DESTINATION, ACQUIRED, { .held = 1 } },
		{ DESTINATION, RESUME, { .held = 1 } },
		{ DESTINATION, RESUMED, { .held = 1 } },
	};
	struct tally tally;
	struct trial t;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		trial_init(&t);
		t.dies_at[steps[i].side] = steps[i].step;
		memset(&tally, 0, sizeof(tally));
		try(&t, &tally);
		ASSERT(t.killed[steps[i].side]);
		ASSERT_MSG(!memcmp(&tally, &steps[i].becomes, sizeof(tally)), "%s of the %s: stayed %u moved %u died %u held %u",
			   step_names[steps[i].step], steps[i].side ? "destination" : "source", tally.stayed, tally.moved, tally.died,
			   tally.held);
	}
}

static void test_stalls(void)
{
	break_at(true, 1, 12);
}

static const struct tap_test tests[] = {
	TEST_TIMEOUT(cuts, 300),
	TEST_TIMEOUT(kills, 300),
	TEST_TIMEOUT(steps, 120),
	TEST_TIMEOUT(stalls, 300),
};

int main(int argc, char **argv)
{
	int ret;

	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(dir))
		return 1;
	snprintf(door_path, sizeof(door_path), "%s/door", dir);
	snprintf(wire_path, sizeof(wire_path), "%s/wire", dir);
	snprintf(disk_path, sizeof(disk_path), "%s/disk", dir);
	judge = mmap(NULL, sizeof(*judge), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (judge == MAP_FAILED)
		return 1;
	ret = tap_main(argc, argv, tests, ARRAY_SIZE(tests));
	unlink(door_path);
	unlink(wire_path);
	unlink(disk_path);
	rmdir(dir);
	return ret;
}
