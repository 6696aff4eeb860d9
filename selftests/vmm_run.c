// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies how pvhv-run ends and how its console behaves, with a guest of a few instructions that starts at once: the exit
 * status of every way to end, one line on standard error where there is something to say, complete output at slow and
 * vanishing readers, input and its end, terminal, escape key, pseudo-terminal, socket, file, signals, the notify socket.
 *
 * Environment: PVHV_RUN (the program), PVHV_DEV (/dev/pvhv).
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "pvh.h"
#include "tap.h"

#define FLOOD_SIZE	(24 * 1024)	/* more than pvhv-run's buffer and a pipe's together */
#define PIPE_SIZE	4096
#define PATIENCE_S	90

/*
 * The guest: 32 bits, no paging, hvm_start_info in %ebx. The first letter of its command line says what it does.
 */
extern const uint8_t guest_start[], guest_end[];

asm(".pushsection .rodata\n"
    ".global guest_start, guest_end\n"
    ".code32\n"
    "guest_start:\n"
    "	movl 24(%ebx), %esi\n"
    "	movb (%esi), %al\n"
    "	movl $0x180000, %esp\n"
    "	movl $0x3f8, %edx\n"
    "	cmpb $'p', %al; je poweroff\n"
    "	cmpb $'r', %al; je reset\n"
    "	cmpb $'k', %al; je keyboard\n"
    "	cmpb $'e', %al; je exit42\n"
    "	cmpb $'t', %al; je triple\n"
    "	cmpb $'u', %al; je unknown\n"
    "	cmpb $'f', %al; je flood\n"
    "	cmpb $'i', %al; je echo\n"
    "	cmpb $'w', %al; je wait\n"
    "	cmpb $'b', %al; je busy\n"
    "	cmpb $'n', %al; je nothing\n"
    "	cmpb $'z', %al; je breaks\n"
    "	int3\n"
    "poweroff:\n"
    "	movl $0x600, %edx; movb $0x34, %al; outb %al, %dx\n"
    "1:	hlt; jmp 1b\n"
    "reset:\n"
    "	movl $0xcf9, %edx; movb $6, %al; outb %al, %dx\n"
    "1:	hlt; jmp 1b\n"
    "keyboard:\n"
    "	movb $0xfe, %al; outb %al, $0x64\n"
    "1:	hlt; jmp 1b\n"
    "exit42:\n"
    "	movb $42, %al; outb %al, $0xf4\n"
    "	jmp poweroff\n"
    "triple:\n"				/* the IDT has no entries */
    "	int3\n"
    "unknown:\n"			/* a floating point load from where no memory is */
    "	fninit; fldl 0xe0000000\n"
    "	jmp poweroff\n"
    "flood:\n"
    "	movl $0x200000, %edi; xorl %ecx, %ecx\n"
    "1:	movl %ecx, %eax; shrl $8, %eax; addl %ecx, %eax; stosb\n"
    "	incl %ecx; cmpl $0x6000, %ecx; jne 1b\n"
    "	movl $0x200000, %esi; rep outsb\n"
    "	jmp poweroff\n"
    "ready:\n"
    "	movb $'r', %al; outb %al, %dx; movb $'e', %al; outb %al, %dx; movb $'a', %al; outb %al, %dx\n"
    "	movb $'d', %al; outb %al, %dx; movb $'y', %al; outb %al, %dx; movb $10, %al; outb %al, %dx\n"
    "	ret\n"
    "echo:\n"
    "	movl $0x3fa, %edx; movb $1, %al; outb %al, %dx; movl $0x3f8, %edx\n"
    "	call ready\n"
    "1:	movl $0x3fd, %edx; inb %dx, %al; testb $1, %al; jz 1b\n"
    "	movl $0x3f8, %edx; inb %dx, %al\n"
    "	cmpb $4, %al; je poweroff\n"
    "	outb %al, %dx; jmp 1b\n"
    "wait:\n"
    "	call ready\n"
    "1:	cli; hlt; jmp 1b\n"
    "busy:\n"
    "	call ready\n"
    "1:	jmp 1b\n"
    "nothing:\n"			/* where nothing is, ones are read and writes vanish */
    "	movl $0x1234, %edx; inb %dx, %al; cmpb $0xff, %al; jne 2f\n"
    "	movl $0x3ff, %edx; inl %dx, %eax; cmpl $-1, %eax; jne 2f\n"
    "	movl $0xcf8, %edx; movl $0x80000600, %eax; outl %eax, %dx; inl %dx, %eax; cmpl $-1, %eax; jne 2f\n"
    "	movl $0xffff, %edx; inw %dx, %ax; cmpw $-1, %ax; jne 2f\n"
    "	movl $0xe0000000, %edi; movl %eax, (%edi); movl (%edi), %eax; cmpl $-1, %eax; jne 2f\n"
    "	movb 0xefffffff, %al; cmpb $0xff, %al; jne 2f\n"
    "	jmp poweroff\n"
    "2:	movb $1, %al; outb %al, $0xf4\n"
    "1:	hlt; jmp 1b\n"
    "breaks:\n"
    "	call ready\n"
    "	movl $0x3fd, %edx\n"
    "1:	inb %dx, %al; testb $0x10, %al; jz 1b\n"
    "	movb $7, %al; outb %al, $0xf4\n"
    "guest_end:\n"
    ".code64\n"
    ".popsection\n");

static char program[PATH_MAX], dir[] = "/tmp/vmm_run.XXXXXX";
static const char *device;

static void make_kernel(void)
{
	ASSERT_OK(pvh_write("kernel", guest_start, guest_end - guest_start));
}

/* --- running it ---------------------------------------------------------------------------------------------- */

struct run {
	pid_t pid;
	int in, out, err;	/* our ends; -1 after they were closed */
	char errors[4096];
};

enum { NO_INPUT = 1, NO_OUTPUT = 2, TERMINAL = 4 };

/* Starts a guest that does what @what's first letter says; @in and @out are its ends, or -1 for pipes. */
static struct run start_on(int in, int out, int flags, const char *what, ...)
{
	const char *argv[24] = { program, "--dev", device, "-k", "kernel", "-m", "32", "-p", what };
	struct run r = { .in = -1, .out = -1 };
	int i[2] = { -1, -1 }, o[2] = { -1, -1 }, e[2], n = 9;
	va_list ap;

	va_start(ap, what);
	while ((argv[n] = va_arg(ap, const char *)))
		n++;
	va_end(ap);
	if (in < 0) {
		ASSERT_OK(pipe2(i, O_CLOEXEC));
		in = i[0];
	}
	if (out < 0) {
		ASSERT_OK(pipe2(o, O_CLOEXEC));
		ASSERT_OK(fcntl(o[1], F_SETPIPE_SZ, PIPE_SIZE));
		out = o[1];
	}
	ASSERT_OK(pipe2(e, O_CLOEXEC));
	r.pid = ASSERT_OK(fork());
	if (!r.pid) {
		dup2(in, 0);
		dup2(out, 1);
		dup2(e[1], 2);
		if (flags & TERMINAL) {
			setsid();
			ioctl(0, TIOCSCTTY, 0);
		}
		if (flags & NO_INPUT)
			close(0);
		if (flags & NO_OUTPUT)
			close(1);
		execv(program, (char **)argv);
		_exit(126);
	}
	close(e[1]);
	if (i[0] >= 0)
		close(i[0]);
	if (o[1] >= 0)
		close(o[1]);
	r.in = i[1];
	r.out = o[0];
	r.err = e[0];
	return r;
}

#define start(...)	start_on(-1, -1, 0, __VA_ARGS__, NULL)

static bool readable(int fd, int seconds)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, seconds * 1000) == 1;
}

/* Reads up to @len bytes, until they or the end have come. */
static size_t read_all(int fd, void *buf, size_t len)
{
	size_t got = 0;
	ssize_t n;

	while (got < len) {
		ASSERT_MSG(readable(fd, PATIENCE_S), "no output for %d s after %zu bytes", PATIENCE_S, got);
		n = read(fd, (char *)buf + got, len - got);
		if (n <= 0)
			break;
		got += n;
	}
	return got;
}

static void expect(int fd, const char *text)
{
	char buf[256] = "";

	ASSERT_EQ(read_all(fd, buf, strlen(text)), strlen(text));
	ASSERT_MSG(!strcmp(buf, text), "read '%s', not '%s'", buf, text);
}

static void say(int fd, const char *text)
{
	ASSERT_EQ(write(fd, text, strlen(text)), strlen(text));
}

/* Waits for the end; returns the status and collects what was said on standard error. */
static int finish(struct run *r)
{
	size_t len;
	int status;

	len = read_all(r->err, r->errors, sizeof(r->errors) - 1);
	r->errors[len] = 0;
	ASSERT_OK(waitpid(r->pid, &status, 0));
	close(r->err);
	if (r->in >= 0)
		close(r->in);
	if (r->out >= 0)
		close(r->out);
	ASSERT_MSG(WIFEXITED(status), "pvhv-run died by signal %d: %s", WTERMSIG(status), r->errors);
	return WEXITSTATUS(status);
}

static void finish_with(struct run *r, int wanted)
{
	int status = finish(r);

	ASSERT_MSG(status == wanted, "status %d, not %d; said: %s", status, wanted, r->errors);
	ASSERT_MSG(!r->errors[0], "said: %s", r->errors);
}

static bool one_line(const char *text)
{
	const char *end = strchr(text, '\n');

	return end && !end[1];
}

/* --- how it ends --------------------------------------------------------------------------------------------- */

static void test_power_off(void)
{
	struct run r = start("p");

	finish_with(&r, 0);
}

static void test_reset(void)
{
	struct run r = start("r");

	finish_with(&r, 3);
	r = start("k");
	finish_with(&r, 3);
}

static void test_exit_port(void)
{
	struct run r = start("e", "--exit-port");

	finish_with(&r, 42);
	r = start("e");
	finish_with(&r, 0);
}

static void test_triple_fault(void)
{
	struct run r = start("t");

	ASSERT_EQ(finish(&r), 4);
	ASSERT_MSG(one_line(r.errors) && strstr(r.errors, "triple fault") && strstr(r.errors, " rip="), "said: %s", r.errors);
}

static void test_unknown_instruction(void)
{
	struct run r = start("u");

	ASSERT_EQ(finish(&r), 5);
	ASSERT_MSG(one_line(r.errors) && strstr(r.errors, "emulate") && strstr(r.errors, " rip="), "said: %s", r.errors);
	tap_diag("%s", r.errors);
}

static void test_nothing_there(void)
{
	struct run r = start("n", "--exit-port");

	finish_with(&r, 0);
}

static void end_by(const char *what, int number)
{
	struct run r = start(what);

	expect(r.out, "ready\n");
	ASSERT_OK(kill(r.pid, number));
	finish_with(&r, 128 + number);
}

static void test_signals(void)
{
	end_by("w", SIGTERM);
	end_by("w", SIGINT);
	end_by("w", SIGHUP);
	end_by("b", SIGTERM);
	end_by("b", SIGQUIT);
	end_by("i", SIGTERM);
}

static void test_signal_ignored(void)
{
	struct run r;

	signal(SIGINT, SIG_IGN);
	r = start("i");
	expect(r.out, "ready\n");
	ASSERT_OK(kill(r.pid, SIGINT));
	say(r.in, "still here");
	expect(r.out, "still here");
	say(r.in, "\004");
	finish_with(&r, 0);
}

static void test_many_cpus(void)
{
	struct run r = start("w", "-c", "8");

	expect(r.out, "ready\n");
	ASSERT_OK(kill(r.pid, SIGTERM));
	finish_with(&r, 128 + SIGTERM);
	r = start("p", "-c", "3");
	finish_with(&r, 0);
}

static void test_high_memory(void)
{
	struct run r = start("p", "-m", "5G");

	if (finish(&r) == 1 && strstr(r.errors, "more than the host"))
		SKIP("the host has too little memory");
	ASSERT_MSG(!r.errors[0], "said: %s", r.errors);
}

static void test_dry_run(void)
{
	char buf[2048] = "";
	struct run r = start("p", "--dry-run", "--console", "file=left");

	ASSERT_GT(read_all(r.out, buf, sizeof(buf) - 1), 0);
	finish_with(&r, 0);
	ASSERT(strstr(buf, "PVH") && strstr(buf, "32 MiB"));
	ASSERT_ERR(access("left", F_OK), ENOENT);
}

static void test_notify_socket(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "notify" };
	int fd = ASSERT_OK(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	char buf[64] = "", path[PATH_MAX];
	struct run r;

	ASSERT_OK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	setenv("NOTIFY_SOCKET", "/", 1);	/* a bad one harms nobody */
	r = start("p");
	finish_with(&r, 0);
	ASSERT(realpath("notify", path));
	setenv("NOTIFY_SOCKET", path, 1);
	r = start("p");
	finish_with(&r, 0);
	ASSERT(readable(fd, 1));
	ASSERT_OK(recv(fd, buf, sizeof(buf) - 1, 0));
	ASSERT_MSG(!strcmp(buf, "READY=1"), "%s", buf);
	ASSERT(readable(fd, 1));
	ASSERT_OK(recv(fd, buf, sizeof(buf) - 1, 0));
	ASSERT(!strncmp(buf, "STOPPING=1", 10));
	unsetenv("NOTIFY_SOCKET");
}

/* --- output -------------------------------------------------------------------------------------------------- */

static uint8_t flood_byte(unsigned int i)
{
	return i + (i >> 8);
}

static void check_flood(const uint8_t *buf, size_t got)
{
	unsigned int i;

	ASSERT_EQ(got, FLOOD_SIZE);
	for (i = 0; i < FLOOD_SIZE; i++)
		ASSERT_MSG(buf[i] == flood_byte(i), "byte %u is wrong", i);
}

static void test_output_complete(void)
{
	uint8_t *buf = malloc(FLOOD_SIZE + 1);
	struct run r = start("f");

	ASSERT(buf);
	check_flood(buf, read_all(r.out, buf, FLOOD_SIZE + 1));
	finish_with(&r, 0);
}

static void test_output_slow_reader(void)
{
	uint8_t *buf = malloc(FLOOD_SIZE + 1);
	struct run r = start("f");
	size_t got = 0, n;

	ASSERT(buf);
	sleep(2);
	ASSERT_MSG(!waitpid(r.pid, NULL, WNOHANG), "ended before its output was read");
	while ((n = read_all(r.out, buf + got, FLOOD_SIZE + 1 - got < 5000 ? FLOOD_SIZE + 1 - got : 5000))) {
		got += n;
		usleep(20000);
	}
	check_flood(buf, got);
	finish_with(&r, 0);
}

/* Whoever set O_NONBLOCK on the other end of a shared description. */
static void test_output_nonblocking(void)
{
	uint8_t *buf = malloc(FLOOD_SIZE + 1);
	struct run r;
	int p[2];

	ASSERT(buf);
	ASSERT_OK(pipe2(p, O_CLOEXEC));
	ASSERT_OK(fcntl(p[1], F_SETPIPE_SZ, PIPE_SIZE));
	ASSERT_OK(fcntl(p[1], F_SETFL, O_NONBLOCK));
	r = start_on(-1, p[1], 0, "f", NULL);
	close(p[1]);
	r.out = p[0];
	sleep(1);
	check_flood(buf, read_all(r.out, buf, FLOOD_SIZE + 1));
	finish_with(&r, 0);
}

static void test_output_reader_gone(void)
{
	struct run r = start("f");

	close(r.out);
	r.out = -1;
	finish_with(&r, 0);
}

static void test_output_full_disk(void)
{
	int fd = ASSERT_OK(open("/dev/full", O_WRONLY | O_CLOEXEC));
	struct run r = start_on(-1, fd, 0, "f", NULL);

	ASSERT_EQ(finish(&r), 0);
	ASSERT_MSG(one_line(r.errors), "said: %s", r.errors);
}

static void test_output_stuck_reader_and_signal(void)
{
	struct run r = start("f");

	sleep(2);
	ASSERT_OK(kill(r.pid, SIGTERM));
	finish_with(&r, 128 + SIGTERM);
}

static void test_standard_closed(void)
{
	struct run r = start_on(-1, -1, NO_INPUT | NO_OUTPUT, "p", NULL);

	finish_with(&r, 0);
}

static void test_console_file(void)
{
	uint8_t *buf = malloc(FLOOD_SIZE + 1);
	struct run r = start("f", "--console", "file=log");
	int fd;

	ASSERT(buf);
	finish_with(&r, 0);
	fd = ASSERT_OK(open("log", O_RDONLY));
	check_flood(buf, read_all(fd, buf, FLOOD_SIZE + 1));
	close(fd);
	r = start("p", "--console", "file=log");	/* emptied first */
	finish_with(&r, 0);
	fd = ASSERT_OK(open("log", O_RDONLY));
	ASSERT_EQ(read_all(fd, buf, 1), 0);
}

static void test_console_none(void)
{
	struct run r = start("f", "--console", "none");
	char c;

	ASSERT_EQ(read_all(r.out, &c, 1), 0);
	finish_with(&r, 0);
}

/* --- input --------------------------------------------------------------------------------------------------- */

static void test_input_long(void)
{
	char text[6000], back[6000];
	struct run r = start("i");
	size_t i, got;

	expect(r.out, "ready\n");
	for (i = 0; i < sizeof(text); i++)
		text[i] = 'a' + i % 26;
	ASSERT_EQ(write(r.in, text, sizeof(text)), sizeof(text));
	got = read_all(r.out, back, sizeof(back));
	if (got != sizeof(back)) {
		int status = finish(&r);

		FAIL("it ended after %zu bytes, status %d: %s", got, status, r.errors);
	}
	ASSERT(!memcmp(text, back, sizeof(text)));
	say(r.in, "\001x");		/* no terminal, no escape key */
	expect(r.out, "\001x");
	say(r.in, "\004");
	finish_with(&r, 0);
}

static void test_input_ends(void)
{
	struct run r = start("i");

	expect(r.out, "ready\n");
	say(r.in, "last");
	close(r.in);
	r.in = -1;
	expect(r.out, "last");
	/* The end of input is not the end of the guest. */
	ASSERT(!readable(r.out, 1));
	ASSERT_EQ(waitpid(r.pid, NULL, WNOHANG), 0);
	ASSERT_OK(kill(r.pid, SIGTERM));
	finish_with(&r, 128 + SIGTERM);
}

static void test_input_before_guest(void)
{
	struct run r = start("i");
	char buf[32] = "";
	size_t n = 0;

	/* One byte fits before the FIFO is on, and goes when it is turned on, as on the chip; the rest waits. */
	say(r.in, "early words");
	expect(r.out, "ready\n");
	while (!strstr(buf, "words") && n < sizeof(buf) - 1)
		ASSERT_EQ(read_all(r.out, buf + n++, 1), 1);
	ASSERT_MSG(!strcmp(buf, "early words") || !strcmp(buf, "arly words"), "read '%s'", buf);
	say(r.in, "\004");
	finish_with(&r, 0);
}

/* --- terminals ----------------------------------------------------------------------------------------------- */

static int open_terminal(struct termios *tio, char *name, size_t len)
{
	int master = ASSERT_OK(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));

	ASSERT_OK(grantpt(master));
	ASSERT_OK(unlockpt(master));
	ASSERT_OK(ptsname_r(master, name, len));
	ASSERT_OK(tcgetattr(master, tio));
	return master;
}

static struct run start_on_terminal(const char *name, const char *what)
{
	int fd = ASSERT_OK(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
	struct run r = start_on(fd, fd, TERMINAL, what, "--exit-port", NULL);

	close(fd);
	return r;
}

static bool same_mode(int master, const struct termios *before)
{
	struct termios now;

	ASSERT_OK(tcgetattr(master, &now));
	return now.c_lflag == before->c_lflag && now.c_iflag == before->c_iflag && now.c_oflag == before->c_oflag;
}

static void terminal_case(const char *keys, int number, int wanted)
{
	struct termios before;
	char name[64];
	int master = open_terminal(&before, name, sizeof(name));
	struct run r = start_on_terminal(name, "i");

	expect(master, "ready\r\n");
	ASSERT_MSG(!same_mode(master, &before), "the terminal is not raw");
	say(master, "\003\032a");		/* no job control: the guest's keys */
	expect(master, "\003\032a");
	say(master, "\001a\001\001\001z");
	expect(master, "\001\001\001z");
	if (keys)
		say(master, keys);
	else
		ASSERT_OK(kill(r.pid, number));
	finish_with(&r, wanted);
	ASSERT_MSG(same_mode(master, &before), "the terminal is not restored");
}

static void test_terminal_quit(void)
{
	terminal_case("\001x", 0, 0);
}

static void test_terminal_power_off(void)
{
	terminal_case("\004", 0, 0);
}

static void test_terminal_signal(void)
{
	terminal_case(NULL, SIGTERM, 128 + SIGTERM);
}

static void test_terminal_crash(void)
{
	struct termios before;
	char name[64];
	int master = open_terminal(&before, name, sizeof(name)), status;
	struct run r = start_on_terminal(name, "w");

	expect(master, "ready\r\n");
	ASSERT_OK(kill(r.pid, SIGSEGV));
	ASSERT_OK(waitpid(r.pid, &status, 0));
	ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	ASSERT_MSG(same_mode(master, &before), "the terminal is not restored");
}

static void test_terminal_break(void)
{
	struct termios before;
	char name[64];
	int master = open_terminal(&before, name, sizeof(name));
	struct run r = start_on_terminal(name, "z");

	expect(master, "ready\r\n");
	say(master, "\001b");
	finish_with(&r, 7);
	ASSERT(same_mode(master, &before));
}

static void test_pty(void)
{
	struct run r = start("i", "--console", "pty");
	char line[200] = "", *name;
	size_t n = 0;
	int fd;

	while (n < sizeof(line) - 1 && !strchr(line, '\n'))
		ASSERT_EQ(read_all(r.err, line + n++, 1), 1);
	name = strstr(line, "/dev/pts/");
	ASSERT(name);
	name[strcspn(name, "\n")] = 0;
	sleep(1);
	fd = ASSERT_OK(open(name, O_RDWR | O_NOCTTY));
	expect(fd, "ready\n");		/* kept from before we came */
	say(fd, "one");
	expect(fd, "one");
	close(fd);
	usleep(700000);
	fd = ASSERT_OK(open(name, O_RDWR | O_NOCTTY));
	say(fd, "two");
	expect(fd, "two");
	say(fd, "\004");
	finish_with(&r, 0);
	close(fd);
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = ASSERT_OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), tries;

	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	for (tries = 0; tries < PATIENCE_S * 10; tries++) {
		if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
			return fd;
		usleep(100000);
	}
	FAIL("cannot connect to %s: errno %d", path, errno);
}

static void test_socket(void)
{
	struct run r = start("i", "--console", "socket=console"), second;
	struct stat st;
	int fd, i;

	for (i = 0; i < 5; i++) {
		fd = connect_to("console");
		if (!i)
			expect(fd, "ready\n");
		say(fd, "hello");
		expect(fd, "hello");
		close(fd);
	}
	ASSERT_OK(stat("console", &st));
	ASSERT_EQ(st.st_mode & 0777, 0600);
	second = start("p", "--console", "socket=console");	/* in use */
	ASSERT_EQ(finish(&second), 1);
	ASSERT_MSG(one_line(second.errors), "said: %s", second.errors);
	fd = connect_to("console");
	say(fd, "\004");
	finish_with(&r, 0);
	ASSERT_ERR(access("console", F_OK), ENOENT);
	close(fd);
}

static void test_socket_stale(void)
{
	struct run r = start("w", "--console", "socket=stale");
	int fd = connect_to("stale");

	ASSERT_OK(kill(r.pid, SIGKILL));
	ASSERT_OK(waitpid(r.pid, NULL, 0));
	close(fd);
	ASSERT_OK(access("stale", F_OK));
	r = start("p", "--console", "socket=stale");
	finish_with(&r, 0);
	ASSERT_ERR(access("stale", F_OK), ENOENT);
}

static void test_socket_unread(void)
{
	uint8_t *buf = malloc(FLOOD_SIZE + 1);
	struct run r = start("f", "--console", "socket=unread");

	/* Nobody ever comes: nothing to wait for. */
	ASSERT(buf);
	finish_with(&r, 0);
}

static const struct tap_test tests[] = {
	TEST(power_off),
	TEST(reset),
	TEST(exit_port),
	TEST(triple_fault),
	TEST(unknown_instruction),
	TEST(nothing_there),
	TEST(signals),
	TEST(signal_ignored),
	TEST(many_cpus),
	TEST(high_memory),
	TEST(dry_run),
	TEST(notify_socket),
	TEST(output_complete),
	TEST(output_slow_reader),
	TEST(output_nonblocking),
	TEST(output_reader_gone),
	TEST(output_full_disk),
	TEST(output_stuck_reader_and_signal),
	TEST(standard_closed),
	TEST(console_file),
	TEST(console_none),
	TEST(input_long),
	TEST(input_ends),
	TEST(input_before_guest),
	TEST(terminal_quit),
	TEST(terminal_power_off),
	TEST(terminal_signal),
	TEST(terminal_crash),
	TEST(terminal_break),
	TEST(pty),
	TEST(socket),
	TEST(socket_stale),
	TEST(socket_unread),
};

/* PVHV_RUN, or in the PATH, or where the tree has it. */
static bool find_program(const char *self)
{
	const char *env = getenv("PVHV_RUN"), *path = getenv("PATH");
	char buf[PATH_MAX], *list, *d, *save, *slash;

	if (env)
		return realpath(env, program);
	list = strdup(path ? path : "");
	for (d = strtok_r(list, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		snprintf(buf, sizeof(buf), "%s/pvhv-run", d);
		if (!access(buf, X_OK) && realpath(buf, program))
			return true;
	}
	snprintf(buf, sizeof(buf) - 24, "%s", self);
	slash = strrchr(buf, '/');
	strcpy(slash ? slash + 1 : buf, "../vmm/pvhv-run");
	return realpath(buf, program);
}

int main(int argc, char **argv)
{
	char cmd[100];
	int ret;

	/* What was ignored when pvhv-run starts stays ignored. */
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	device = getenv("PVHV_DEV") ?: "/dev/pvhv";
	if (!find_program(argv[0]) || access(device, R_OK | W_OK)) {
		printf("TAP version 13\n1..0 # SKIP no pvhv-run or no %s\n", device);
		return KSFT_SKIP;
	}
	if (!mkdtemp(dir) || chdir(dir))
		return KSFT_FAIL;
	make_kernel();
	ret = tap_main(argc, argv, tests, ARRAY_SIZE(tests));
	if (!chdir("/")) {
		snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
		if (system(cmd))
			ret = KSFT_FAIL;
	}
	return ret;
}
