// SPDX-License-Identifier: GPL-2.0
/*
 * What the places of two-hosts say to each other: the guest, the two hosts, and the third place.
 *
 *  1. places stream [ADDR] PORT [KIB_PER_S]
 *	without ADDR in the guest: takes a connection and sends back what comes, which has to be numbers that follow each other;
 *	with ADDR in the third place: sends numbers, and expects them back. Says once a second how far it is, and how long
 *	nothing came at most since the line before. SIGTERM: it sends no more, waits for the rest, and says "whole".
 *  2. places clock [ADDR] PORT
 *	without ADDR tells the time to whoever asks; with ADDR asks, sets the clock by the answer that came soonest, and says
 *	by how much.
 *  3. places tsc
 *	how fast this machine's time stamp counter counts, in kHz.
 *  4. places announced INTERFACE
 *	says "arp MAC ADDRESS" for each gratuitous ARP, "rarp MAC" for each reverse ARP request.
 *  5. places forget MIB
 *	an emulated host has QEMU forget which code it has translated, by filling the MIB that it keeps of that.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define BUFFER_LEN	65536
#define SLICE_MS	10		/* in which a part of a second's bytes is sent */
#define ASKS		40
#define ASK_MS		200
#define TSC_MS		500
#define CODE_INSNS	500		/* QEMU translates 512 at once */
#define TRANSLATED	(64 * 1024)	/* at least; it was 80 KiB */

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static int failed(const char *what)
{
	perror(what);
	return 1;
}

static struct sockaddr_in address(const char *addr, const char *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };

	if (addr && inet_pton(AF_INET, addr, &sin.sin_addr) != 1) {
		fprintf(stderr, "places: '%s' is no IPv4 address\n", addr);
		exit(2);
	}
	return sin;
}

/* 1. Numbers are words; they arrive in pieces of any length. */

struct numbers {
	uint64_t at;		/* in bytes */
};

static unsigned char number_byte(uint64_t at)
{
	return at / 8 >> at % 8 * 8;
}

static bool follows(struct numbers *n, const unsigned char *buf, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (buf[i] != number_byte(n->at++))
			return false;
	return true;
}

static int stream_guest(const char *port)
{
	struct sockaddr_in sin = address(NULL, port);
	int door = socket(AF_INET, SOCK_STREAM, 0), fd, one = 1;
	static unsigned char buf[BUFFER_LEN];
	struct numbers in = { 0 };
	ssize_t n = 0, done, m;

	setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(door, (void *)&sin, sizeof(sin)) || listen(door, 1))
		return failed("stream: listen");
	fd = accept(door, NULL, NULL);
	if (fd < 0)
		return failed("stream: accept");
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if (!follows(&in, buf, n)) {
			puts("STREAM DIFFERS");
			return 1;
		}
		for (done = 0; done < n; done += m) {
			m = write(fd, buf + done, n - done);
			if (m < 0)
				return failed("stream: write");
		}
	}
	if (n)
		return failed("stream: read");
	printf("stream served %llu bytes\n", (unsigned long long)in.at);
	return 0;
}

static volatile sig_atomic_t last_orders;

static void on_term(int number)
{
	last_orders = number;
}

/* As much as the time that has passed allows, and the connection takes */
static int send_more(int fd, struct numbers *out, uint64_t allowed)
{
	unsigned char buf[4096];
	size_t len, i;
	ssize_t n;

	while (out->at < allowed) {
		len = allowed - out->at < sizeof(buf) ? allowed - out->at : sizeof(buf);
		for (i = 0; i < len; i++)
			buf[i] = number_byte(out->at + i);
		n = send(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		out->at += n;
	}
	return 0;
}

static int stream_third(const char *addr, const char *port, uint64_t rate)
{
	struct sockaddr_in sin = address(addr, port);
	const struct sigaction sa = { .sa_handler = on_term };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	uint64_t begin, now, told, last, silence = 0;
	static unsigned char buf[BUFFER_LEN];
	struct numbers in = { 0 }, out = { 0 };
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	bool ended = false;
	ssize_t n;

	sigaction(SIGTERM, &sa, NULL);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (void *)&sin, sizeof(sin)))
		return failed("stream: connect");
	begin = told = last = now_ns(CLOCK_MONOTONIC);
	for (;;) {
		n = poll(&pfd, 1, SLICE_MS) > 0 ? recv(fd, buf, sizeof(buf), MSG_DONTWAIT) : -2;
		now = now_ns(CLOCK_MONOTONIC);
		if (n == -1 && errno != EAGAIN && errno != EINTR)
			return failed("stream: recv");
		if (!n)
			break;
		if (n > 0) {
			if (!follows(&in, buf, n)) {
				puts("stream DIFFERS");
				return 1;
			}
			silence = now - last > silence ? now - last : silence;
			last = now;
		}
		if (now - told >= 1000000000) {
			told = now;
			printf("stream %llu s %llu KiB silence %llu ms\n", (unsigned long long)(now - begin) / 1000000000,
			       (unsigned long long)in.at / 1024, (unsigned long long)silence / 1000000);
			fflush(stdout);
			silence = 0;
		}
		if (!last_orders && send_more(fd, &out, (now - begin) / 1000000 * rate / 1000))
			return failed("stream: send");
		if (last_orders && !ended)
			ended = !shutdown(fd, SHUT_WR);
	}
	if (!ended || in.at != out.at) {
		printf("stream broke: %llu bytes went, %llu came back\n", (unsigned long long)out.at, (unsigned long long)in.at);
		return 1;
	}
	printf("stream whole: %llu bytes there and back\n", (unsigned long long)in.at);
	return 0;
}

/* 2. */

static int clock_tell(const char *port)
{
	struct sockaddr_in sin = address(NULL, port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	uint64_t words[2];
	socklen_t len;

	if (bind(fd, (void *)&sin, sizeof(sin)))
		return failed("clock: bind");
	for (;;) {
		len = sizeof(sin);
		if (recvfrom(fd, words, sizeof(words), 0, (void *)&sin, &len) != sizeof(words))
			continue;
		words[1] = now_ns(CLOCK_REALTIME);
		sendto(fd, words, sizeof(words), 0, (void *)&sin, len);
	}
}

static int clock_ask(const char *addr, const char *port)
{
	struct sockaddr_in sin = address(addr, port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), i;
	uint64_t words[2], asked, took, best = UINT64_MAX;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct timespec ts;
	int64_t ahead = 0;

	if (connect(fd, (void *)&sin, sizeof(sin)))
		return failed("clock: connect");
	for (i = 0; i < ASKS; i++) {
		asked = words[0] = now_ns(CLOCK_REALTIME);
		words[1] = 0;
		if (send(fd, words, sizeof(words), 0) != sizeof(words) || poll(&pfd, 1, ASK_MS) <= 0 ||
		    recv(fd, words, sizeof(words), 0) != sizeof(words) || words[0] != asked)
			continue;
		took = now_ns(CLOCK_REALTIME) - asked;
		if (took < best) {
			best = took;
			ahead = words[1] - (asked + took / 2);
		}
	}
	if (best == UINT64_MAX) {
		fputs("clock: no answer\n", stderr);
		return 1;
	}
	asked = now_ns(CLOCK_REALTIME) + ahead;
	ts.tv_sec = asked / 1000000000;
	ts.tv_nsec = asked % 1000000000;
	if (clock_settime(CLOCK_REALTIME, &ts))
		return failed("clock: settime");
	printf("clock set by %lld us, to %llu us\n", (long long)ahead / 1000, (unsigned long long)best / 2000);
	return 0;
}

/* 3. */

static int tsc(void)
{
	const struct timespec wait = { .tv_nsec = TSC_MS * 1000000 };
	uint64_t ns = now_ns(CLOCK_MONOTONIC_RAW), ticks = __rdtsc();

	nanosleep(&wait, NULL);
	ticks = __rdtsc() - ticks;
	ns = now_ns(CLOCK_MONOTONIC_RAW) - ns;
	printf("%llu\n", (unsigned long long)((unsigned __int128)ticks * 1000000 / ns));
	return 0;
}

/* 4. */

struct arp {
	struct ethhdr eth;
	struct arphdr head;
	unsigned char sender_mac[ETH_ALEN], sender_ip[4], target_mac[ETH_ALEN], target_ip[4];
} __attribute__((packed));

static void tell_arp(const struct arp *a)
{
	const unsigned char *m = a->sender_mac;
	char ip[INET_ADDRSTRLEN] = "";

	if (ntohs(a->head.ar_op) != ARPOP_RREQUEST && memcmp(a->sender_ip, a->target_ip, sizeof(a->sender_ip)))
		return;
	if (ntohs(a->head.ar_op) != ARPOP_RREQUEST)
		inet_ntop(AF_INET, a->sender_ip, ip, sizeof(ip));
	printf("%s %02x:%02x:%02x:%02x:%02x:%02x%s%s\n", *ip ? "arp" : "rarp", m[0], m[1], m[2], m[3], m[4], m[5],
	       *ip ? " " : "", ip);
	fflush(stdout);
}

static int announced(const char *interface)
{
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex(interface),
	};
	struct arp a;

	if (fd < 0 || !at.sll_ifindex || bind(fd, (void *)&at, sizeof(at)))
		return failed("announced");
	for (;;)
		if (recv(fd, &a, sizeof(a), 0) == sizeof(a) &&
		    (a.eth.h_proto == htons(ETH_P_ARP) || a.eth.h_proto == htons(ETH_P_RARP)))
			tell_arp(&a);
}

/* Code that was written to is translated anew, and QEMU takes back what it was only when all is full, and then with all else. */
static int forget(unsigned long mib)
{
	static const uint8_t add[] = { 0x48, 0x01, 0x37 };	/* add %rsi, (%rdi) */
	size_t len = CODE_INSNS * sizeof(add) + 1, i;
	uint8_t *code = mmap(NULL, len, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t sum = 0, times = (mib << 20) / TRANSLATED + 1, n;

	if (code == MAP_FAILED)
		return failed("forget");
	for (i = 0; i < CODE_INSNS; i++)
		memcpy(code + i * sizeof(add), add, sizeof(add));
	code[len - 1] = 0xc3;		/* ret */
	for (n = 0; n < times; n++) {
		*(volatile uint8_t *)code = add[0];
		((void (*)(uint64_t *, uint64_t))code)(&sum, 1);
	}
	return sum != times * CODE_INSNS;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "stream") && argc == 3)
		return stream_guest(argv[2]);
	if (!strcmp(what, "stream") && argc == 5)
		return stream_third(argv[2], argv[3], strtoul(argv[4], NULL, 0) * 1024);
	if (!strcmp(what, "clock") && argc == 3)
		return clock_tell(argv[2]);
	if (!strcmp(what, "clock") && argc == 4)
		return clock_ask(argv[2], argv[3]);
	if (!strcmp(what, "tsc") && argc == 2)
		return tsc();
	if (!strcmp(what, "announced") && argc == 3)
		return announced(argv[2]);
	if (!strcmp(what, "forget") && argc == 3)
		return forget(strtoul(argv[2], NULL, 0));
	fputs("usage: places stream [ADDR] PORT [KIB_PER_S] | clock [ADDR] PORT | tsc | announced INTERFACE | forget MIB\n", stderr);
	return 2;
}
