// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the host half of pvhv-run's networks: addresses, the option, limits, taps (made, configured, on a bridge, used when they
 * are there, removed when we end, even by SIGKILL, and every refusal), frames and their offload headers both ways through a tap,
 * frames over a stream cut anywhere, passt started, refused and spoken to. Needs root: each test has a network namespace of its own.
 */
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>

#include "tap.h"
#include "../vmm/net.h"

static char last_line[1100];
static int lines;

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
	lines++;
}

/* --- a network namespace and what it takes to look at it ---------------------------------------------------------- */

static int control;	/* any socket, for ioctls */

static void new_namespace(void)
{
	int fd;

	if (unshare(CLONE_NEWNET))
		SKIP("no network namespace (errno %d): run it as root", errno);
	if (access("/dev/net/tun", R_OK | W_OK))
		SKIP("no /dev/net/tun");
	/* The host's own first words on a new interface would be counted. */
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);
	if (fd >= 0) {
		ASSERT_EQ(write(fd, "1", 1), 1);
		close(fd);
	}
	control = ASSERT_OK(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

static void set_mtu(const char *name, int mtu)
{
	struct ifreq ifr = { .ifr_mtu = mtu };

	strcpy(ifr.ifr_name, name);
	ASSERT_OK(ioctl(control, SIOCSIFMTU, &ifr));
}

static void set_up(const char *name, bool up)
{
	struct ifreq ifr = { .ifr_flags = up ? IFF_UP : 0 };

	strcpy(ifr.ifr_name, name);
	ASSERT_OK(ioctl(control, SIOCSIFFLAGS, &ifr));
}

static void add_bridge(const char *name)
{
	if (ioctl(control, SIOCBRADDBR, name))
		SKIP("no bridges (errno %d)", errno);
}

static bool there(const char *name)
{
	struct net_link link;
	int ret = net_link_get(name, &link);

	ASSERT(!ret || ret == -ENODEV);
	return !ret;
}

/* A tap as 'ip tuntap add' makes it. */
static void add_tap(const char *name, short flags, int uid)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | flags };
	int fd = ASSERT_OK(open("/dev/net/tun", O_RDWR));

	strcpy(ifr.ifr_name, name);
	ASSERT_OK(ioctl(fd, TUNSETIFF, &ifr));
	if (uid)
		ASSERT_OK(ioctl(fd, TUNSETOWNER, uid));
	ASSERT_OK(ioctl(fd, TUNSETPERSIST, 1));
	close(fd);
}

/* A socket that sees and sends what passes over an interface, with offload headers. */
static int packet_socket(const char *name)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int fd = ASSERT_OK(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
	int one = 1;

	addr.sll_ifindex = if_nametoindex(name);
	ASSERT(addr.sll_ifindex);
	ASSERT_OK(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)));
	ASSERT_OK(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)));
	ASSERT_OK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	return fd;
}

static struct net_options parse(const char *text)
{
	struct net_options opt;
	char *copy = strdup(text);

	ASSERT_MSG(!net_options_parse(&opt, copy), "'%s': %s", text, last_line);
	return opt;
}

static struct net_options kept;

static struct net *create(const char *text)
{
	struct net *net;

	kept = parse(text);
	net = net_create(&kept, "test", 0);
	ASSERT_MSG(net, "'%s': %s", text, last_line);
	return net;
}

/* One line, which names what is wrong. */
static void refused(const char *text, const char *a, const char *b)
{
	struct net_options opt = parse(text);

	lines = 0;
	ASSERT_MSG(!net_create(&opt, "test", 0), "'%s' was not refused", text);
	ASSERT_EQ(lines, 1);
	ASSERT_MSG(strstr(last_line, a) && strstr(last_line, b), "'%s': %s", text, last_line);
}

/* --- the loop ------------------------------------------------------------------------------------------------------ */

static bool (*awaited)(void);
static u64 deadline;
static bool timed_out;

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

static void look(struct loop_task *task)
{
	timed_out = now_ms() > deadline;
	if (awaited() || timed_out)
		loop_quit();
	else
		loop_defer(task);
}

static bool run_until(bool (*what)(void), unsigned int ms)
{
	static struct loop_task task = { .run = look };

	awaited = what;
	deadline = now_ms() + ms;
	loop_defer(&task);
	ASSERT_EQ(loop_run(), 0);
	return !timed_out;
}

static bool never(void)
{
	return false;
}

static void woken(void *arg)
{
}

/* --- a front half -------------------------------------------------------------------------------------------------- */

static struct net *net;
static int nr_readable[NET_QUEUES_MAX], nr_writable, nr_link;
static u8 got[80000];
static ssize_t got_len;
static int nr_got;
static u64 got_bytes;

static void on_readable(void *arg, unsigned int queue)
{
	struct iovec iov[2] = { { got, 7 }, { got + 7, sizeof(got) - 7 } };
	ssize_t len;

	ASSERT(arg == &net);
	nr_readable[queue]++;
	while ((len = net_receive(net, queue, iov, 2)) >= 0) {
		got_len = len;
		got_bytes += len - NET_HEADER_LEN;
		nr_got++;
	}
	ASSERT_EQ(len, -EAGAIN);
}

static void on_writable(void *arg, unsigned int queue)
{
	nr_writable++;
}

static void on_link(void *arg)
{
	nr_link++;
}

static bool on_announce(void *arg)
{
	return false;
}

static const struct net_front front = { on_readable, on_writable, on_link, on_announce, &net };

static void start(unsigned int queues, u32 offload)
{
	ASSERT_EQ(loop_init(woken, NULL), 0);
	ASSERT_EQ(net_start(net, &front, queues, offload, false), 0);
}

static void finish(void)
{
	net_stop(net);
	loop_fini();
	net_destroy(net);
}

static int send_frame(struct net_header *header, const void *frame, size_t len)
{
	const struct iovec iov[2] = { { header, sizeof(*header) }, { (void *)frame, len } };

	return net_send(net, 0, iov, 2, sizeof(*header) + len);
}

static bool have_one(void)
{
	return nr_got >= 1;
}

static bool have_all(void)
{
	return nr_got >= 200;
}

static bool can_write(void)
{
	return nr_writable;
}

/* --- addresses, option, limit --------------------------------------------------------------------------------------- */

static void test_mac(void)
{
	static const char * const bad[] = {
		"", "1", "52:54:00:12:34", "52:54:00:12:34:5", "52:54:00:12:34:56:", "52:54:00:12:34:56:78", "52:54:00:12:34:5g",
		"52-54-00-12-34-56", " 52:54:00:12:34:56", "525400123456", "52:54:00:12:34::56",
	};
	u8 a[6], b[6];
	char text[NET_MAC_TEXT];
	unsigned int i, j;

	ASSERT_EQ(net_mac_parse("52:54:00:aB:Cd:0f", a), 0);
	net_mac_text(a, text);
	ASSERT(!strcmp(text, "52:54:00:ab:cd:0f"));
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_MSG(net_mac_parse(bad[i], a) == -EINVAL, "'%s'", bad[i]);
	ASSERT_EQ(net_mac_parse("53:54:00:12:34:56", a), -EADDRNOTAVAIL);
	ASSERT_EQ(net_mac_parse("ff:ff:ff:ff:ff:ff", a), -EADDRNOTAVAIL);
	ASSERT_EQ(net_mac_parse("00:00:00:00:00:00", a), -EADDRNOTAVAIL);

	/* Stable: leases depend on it. Distinct for names and positions, however alike. */
	ASSERT_EQ(net_mac_choose("web", 0, a), 0);
	net_mac_text(a, text);
	tap_diag("web: %s", text);
	ASSERT_EQ(net_mac_choose("web", 0, b), 0);
	ASSERT(!memcmp(a, b, 6));
	for (i = 0; i < 4000; i++) {
		static u8 all[4000][6];
		char name[16];

		snprintf(name, sizeof(name), "vm%u", i / 8);
		ASSERT_EQ(net_mac_choose(name, i % 8, all[i]), 0);
		ASSERT_EQ(all[i][0] & 3, 2);
		for (j = 0; j < i; j++)
			ASSERT(memcmp(all[i], all[j], 6));
	}
	ASSERT_EQ(net_mac_choose(NULL, 0, a), 0);
	ASSERT_EQ(net_mac_choose(NULL, 0, b), 0);
	ASSERT(memcmp(a, b, 6));
	ASSERT_EQ(a[0] & 3, 2);
}

static void test_option_good(void)
{
	struct net_options o;

	o = parse("tap=tap0,bridge=br0,mac=52:54:00:12:34:56,queues=4,bps=10M,vhost=off");
	ASSERT(!strcmp(o.tap, "tap0") && !strcmp(o.bridge, "br0") && o.mac_given && o.mac[5] == 0x56);
	ASSERT_EQ(o.queues, 4);
	ASSERT_EQ(o.bps, 10 << 20);
	ASSERT_EQ(o.vhost, NET_VHOST_OFF);
	o = parse("user");
	ASSERT(o.user && !o.tap && !o.bridge && !o.mac_given && o.queues == 1 && !o.bps && o.vhost == NET_VHOST_AUTO);
	o = parse("user,tcp=8080:80,udp=53,tcp=22,bps=1000");
	ASSERT_EQ(o.nr_forwards, 3);
	ASSERT(!o.forwards[0].udp && o.forwards[1].udp && !strcmp(o.forwards[2].ports, "22"));
	ASSERT_EQ(o.bps, 1000);
	o = parse("bridge=br0,vhost=on");
	ASSERT(!o.tap && o.vhost == NET_VHOST_ON);
	o = parse("tap=a23456789012345");
	ASSERT_EQ(strlen(o.tap), 15);
}

static void test_option_bad(void)
{
	static const struct {
		const char *text, *word;
	} bad[] = {
		{ "", "no key=value" }, { "tap", "'tap' is no key=value" }, { "tap=", "tap=" }, { "tap=a234567890123456", "15 letters" },
		{ "tap=a/b", "tap=a/b" }, { "tap=..", "tap=.." }, { "tap=x%d", "tap=x%d" }, { "tap=a b", "tap=a b" },
		{ "bridge=", "bridge=" }, { "tap=t,mac=1", "mac=1" }, { "tap=t,mac=01:00:5e:00:00:01", "even" },
		{ "tap=t,queues=0", "queues=0" }, { "tap=t,queues=9", "queues=9" }, { "tap=t,queues=-1", "queues=-1" },
		{ "tap=t,queues=", "queues=" }, { "tap=t,bps=0", "bps=0" }, { "tap=t,bps=x", "bps=x" }, { "tap=t,bps=-1", "bps=-1" },
		{ "tap=t,bps=99999999999999T", "bps=" }, { "tap=t,vhost=yes", "vhost=yes" }, { "tap=t,speed=1", "'speed'" },
		{ "mac=52:54:00:12:34:56", "no network" }, { "user,tap=t", "neither tap nor bridge" }, { "user,bridge=b", "neither" },
		{ "user,queues=2", "queues=2" }, { "user,vhost=on", "vhost=on" }, { "tap=t,vhost=on,bps=1M", "bps=" },
		{ "tap=t,tcp=80", "tcp=" }, { "user,tcp=", "tcp=" }, { "user=1", "'user'" },
		{ "user,tcp=1,tcp=2,tcp=3,tcp=4,tcp=5,tcp=6,tcp=7,tcp=8,tcp=9", "8 times" }, { "tap=t,,", "no key=value" },
	};
	struct net_options o;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		char *text = strdup(bad[i].text);

		lines = 0;
		ASSERT_MSG(net_options_parse(&o, text), "'%s' was accepted", bad[i].text);
		ASSERT_MSG(lines == 1 && !strncmp(last_line, "--net: ", 7) && strstr(last_line, bad[i].word), "'%s': %d: %s",
			   bad[i].text, lines, last_line);
		free(text);
	}
}

static void test_limit(void)
{
	static const u64 rates[] = { 1, 3, 999, 1500, 1000000, 12345678901ull };
	struct limit l = { 0 };
	u64 now, begin, sent, wait, amount;
	unsigned int i, n;

	ASSERT_EQ(limit_delay(&l, 1), 0);	/* none */
	limit_take(&l, UINT64_MAX);
	ASSERT_EQ(limit_delay(&l, 2), 0);
	for (i = 0; i < ARRAY_SIZE(rates); i++) {
		begin = now = 1000;
		sent = 0;
		amount = rates[i] / 50 + 1;
		limit_set(&l, rates[i], now);
		for (n = 0; n < 5000; n++) {
			wait = limit_delay(&l, now);
			if (wait) {
				ASSERT_GT(limit_delay(&l, now + wait - 1), 0);
				now += wait;
				ASSERT_EQ(limit_delay(&l, now), 0);
			}
			limit_take(&l, amount);
			sent += amount;
			/* Never more than the rate, the burst and one request. */
			ASSERT(sent <= (unsigned __int128)(now - begin) * rates[i] / 1000000000 + l.burst + amount + 1);
		}
		/* And no less in the long run. */
		ASSERT((unsigned __int128)sent * 1010000000 >= (unsigned __int128)(now - begin) * rates[i]);
	}
	/* What is not used is not saved up beyond the burst; absurd amounts end in long waits, not in wrong numbers. */
	limit_set(&l, 1000, 0);
	ASSERT_EQ(limit_delay(&l, UINT64_MAX / 2), 0);
	ASSERT_EQ(l.level, 100);
	for (i = 0; i < 3; i++)
		limit_take(&l, UINT64_MAX);
	ASSERT_GT(limit_delay(&l, UINT64_MAX / 2), 1000000000000ull);
	/* A clock that stands still or goes back gives nothing. */
	limit_set(&l, 1000, 5000);
	limit_take(&l, 200);
	ASSERT_EQ(limit_delay(&l, 5000), 101000000);
	ASSERT_EQ(limit_delay(&l, 10), 101000000);
}

/* --- taps ---------------------------------------------------------------------------------------------------------- */

static void test_tap_made(void)
{
	struct net_link link;
	struct net *n;

	new_namespace();
	n = create("tap=mytap");
	ASSERT(!strcmp(n->ifname, "mytap"));
	ASSERT_EQ(net_link_get("mytap", &link), 0);
	ASSERT(!strcmp(link.kind, "tun") && (link.flags & IFF_UP) && !link.master && link.mtu == 1500);
	ASSERT_EQ(n->mtu, 1500);
	ASSERT_EQ(n->offload_max, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN);
	net_destroy(n);
	ASSERT(!there("mytap"));
	ASSERT_EQ(lines, 0);
}

static void test_tap_on_bridge(void)
{
	struct net_link link, bridge;
	struct ifreq ifr = { 0 };
	struct net *n, *m;

	new_namespace();
	add_bridge("br0");
	set_mtu("br0", 9000);
	set_up("br0", true);
	ASSERT_EQ(net_link_get("br0", &bridge), 0);
	ASSERT(!strcmp(bridge.kind, "bridge"));
	n = create("tap=one,bridge=br0,mac=52:54:00:12:34:56");
	ASSERT_EQ(net_link_get("one", &link), 0);
	ASSERT_EQ(link.master, bridge.index);
	ASSERT_EQ(link.mtu, 9000);
	ASSERT_EQ(n->mtu, 9000);
	ASSERT(link.flags & IFF_UP);
	strcpy(ifr.ifr_name, "one");
	ASSERT_OK(ioctl(control, SIOCGIFHWADDR, &ifr));
	ASSERT(!memcmp(ifr.ifr_hwaddr.sa_data, "\xfe\x54\x00\x12\x34\x56", 6));
	/* Without a name the kernel counts. */
	m = create("bridge=br0");
	ASSERT(!strcmp(m->ifname, "pvhv0"));
	ASSERT(there("pvhv0"));
	net_destroy(n);
	net_destroy(m);
	ASSERT(!there("one") && !there("pvhv0") && there("br0"));
	ASSERT_EQ(lines, 0);
}

static void test_tap_there(void)
{
	struct net_link link;
	struct net *n;

	new_namespace();
	add_bridge("br0");
	add_tap("old", 0, 0);
	n = create("tap=old,bridge=br0");
	ASSERT_EQ(net_link_get("old", &link), 0);
	ASSERT((link.flags & IFF_UP) && link.master);
	net_destroy(n);
	ASSERT(there("old"));
	/* One with queues serves with one, too, and one queue of it is in use then. */
	add_tap("multi", IFF_MULTI_QUEUE, 0);
	n = create("tap=multi");
	ASSERT_EQ(net_link_get("multi", &link), 0);
	ASSERT(link.tap_multi && link.tap_queues == 1);
	refused("tap=multi,queues=2", "tap=multi", "another process");
	net_destroy(n);
	n = create("tap=multi,queues=3");
	ASSERT_EQ(n->nr_queues, 3);
	ASSERT_EQ(net_link_get("multi", &link), 0);
	ASSERT_EQ(link.tap_queues, 3);
	refused("tap=multi", "tap=multi", "another process");
	net_destroy(n);
	ASSERT(there("multi"));
}

static void test_tap_refused(void)
{
	struct net *n;

	new_namespace();
	add_tap("single", 0, 0);
	add_bridge("br0");
	refused("tap=single,queues=2", "tap=single", "multi_queue");
	refused("tap=lo", "tap=lo", "no tap");
	refused("tap=new,bridge=none", "bridge=none", "ip link add none type bridge");
	refused("tap=new,bridge=single", "bridge=single", "no bridge");
	ASSERT(!there("new"));
	n = create("tap=busy");
	refused("tap=busy", "tap=busy", "another process");
	net_destroy(n);
	/* A bridge that cannot take it: the tap goes again. */
	refused("tap=br0,bridge=br0", "tap=br0", "no tap");
}

static void test_tap_unprivileged(void)
{
	struct net *n;

	new_namespace();
	add_bridge("br0");
	add_tap("mine", 0, 65534);
	add_tap("mineup", 0, 65534);
	add_tap("other", 0, 12345);
	set_up("mineup", true);
	ASSERT_OK(setresuid(65534, 65534, 65534));
	refused("tap=new", "tap=new", "CAP_NET_ADMIN");
	refused("tap=other", "tap=other", "another user's");
	refused("tap=mine", "tap=mine", "ip link set mine up");
	refused("tap=mineup,bridge=br0", "tap=mineup,bridge=br0", "master br0");
	n = create("tap=mineup");
	ASSERT_EQ(n->mtu, 1500);
	net_destroy(n);
}

static void test_tap_killed(void)
{
	int tries, ready[2], status;
	char byte;
	pid_t pid;

	new_namespace();
	add_bridge("br0");
	ASSERT_OK(pipe(ready));
	pid = ASSERT_OK(fork());
	if (!pid) {
		create("tap=victim,bridge=br0,queues=2");
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	ASSERT_EQ(read(ready[0], &byte, 1), 1);
	ASSERT(there("victim"));
	ASSERT_OK(kill(pid, SIGKILL));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	for (tries = 0; there("victim") && tries < 100; tries++)
		usleep(10000);
	ASSERT(!there("victim"));
	ASSERT(there("br0"));
}

/* --- frames through a tap -------------------------------------------------------------------------------------------- */

/* An IPv4 packet of UDP (or TCP) from 10.0.0.2 to 10.0.0.1 whose sum is left to do, as for an offload. */
static size_t make_packet(u8 *f, u8 proto, size_t payload)
{
	static const u8 head[] = {
		0x52, 0x54, 0, 1, 2, 3, 0x52, 0x54, 0, 9, 9, 9, 0x08, 0x00,		/* Ethernet */
		0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1,
	};
	size_t l4 = proto == IPPROTO_TCP ? 20 : 8, len = l4 + payload, i;
	u32 sum = 0;
	u8 *ip = f + 14, *t = ip + 20;

	memset(f, 0, sizeof(head) + len);
	memcpy(f, head, sizeof(head));
	ip[9] = proto;
	ip[2] = (20 + len) >> 8;
	ip[3] = 20 + len;
	for (i = 0; i < 20; i += 2)
		sum += ip[i] << 8 | ip[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	ip[10] = sum >> 8;
	ip[11] = sum;
	/* The pseudo header's sum stands where the sum is to come. */
	for (sum = proto + len, i = 12; i < 20; i += 2)
		sum += ip[i] << 8 | ip[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	t[1] = 7;
	t[3] = 9;
	if (proto == IPPROTO_TCP) {
		t[12] = 5 << 4;
		t[13] = 0x10;
		t[16] = sum >> 8;
		t[17] = sum;
	} else {
		t[4] = len >> 8;
		t[5] = len;
		t[6] = sum >> 8;
		t[7] = sum;
	}
	for (i = 0; i < payload; i++)
		t[l4 + i] = i * 7 + (i >> 8);
	return 34 + len;
}

/* Whether the sum of what stands behind the IPv4 header is right. */
static bool sum_right(const u8 *f, size_t len)
{
	const u8 *ip = f + 14;
	u32 l4 = len - 34, sum = ip[9] + l4, i;

	for (i = 12; i < 20; i += 2)
		sum += ip[i] << 8 | ip[i + 1];
	for (i = 34; i < len; i++)
		sum += f[i] << (i & 1 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

static void test_tap_frames(void)
{
	struct virtio_net_hdr plain = { 0 };
	u8 frame[12 + 1600], back[1700];
	int sock;
	size_t len;
	ssize_t n;

	new_namespace();
	net = create("tap=tap0");
	sock = packet_socket("tap0");
	start(1, 0);

	/* From the guest: what is left to do is in the header, the packet is as it was sent. */
	len = make_packet(frame, IPPROTO_UDP, 1000);
	ASSERT_EQ(send_frame(&(struct net_header){ NET_NEEDS_CSUM, 0, 0, 0, 34, 6, 0 }, frame, len), 0);
	n = ASSERT_OK(recv(sock, back, sizeof(back), 0));
	ASSERT_EQ(n, sizeof(plain) + len);
	memcpy(&plain, back, sizeof(plain));
	ASSERT_EQ(plain.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	ASSERT_EQ(plain.csum_start, 34);
	ASSERT(!memcmp(back + sizeof(plain), frame, len));
	ASSERT_EQ(net->stats.tx_frames, 1);
	ASSERT_EQ(net->stats.tx_bytes, len);
	/* Nonsense is dropped and counted; the device goes on. */
	ASSERT_EQ(send_frame(&(struct net_header){ NET_NEEDS_CSUM, 0, 0, 0, 6000, 6, 0 }, frame, len), 0);
	ASSERT_EQ(net->stats.tx_dropped, 1);

	/* To the guest, which does no sums: the host has done it. */
	memset(&plain, 0, sizeof(plain));
	plain.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	plain.csum_start = 34;
	plain.csum_offset = 6;
	memcpy(back, &plain, sizeof(plain));
	memcpy(back + sizeof(plain), frame, len);
	ASSERT(!sum_right(frame, len));
	ASSERT_EQ(send(sock, back, sizeof(plain) + len, 0), sizeof(plain) + len);
	ASSERT(run_until(have_one, 2000));
	ASSERT_EQ(got_len, NET_HEADER_LEN + len);
	ASSERT_EQ(((struct net_header *)got)->flags & NET_NEEDS_CSUM, 0);
	ASSERT(sum_right(got + NET_HEADER_LEN, len));
	ASSERT(!memcmp(got + NET_HEADER_LEN + 42, frame + 42, 1000));
	/* To one that does: it is left to it. */
	ASSERT_EQ(net_set_offload(net, NET_OFFLOAD_CSUM), 0);
	nr_got = 0;
	ASSERT_EQ(send(sock, back, sizeof(plain) + len, 0), sizeof(plain) + len);
	ASSERT(run_until(have_one, 2000));
	ASSERT_EQ(((struct net_header *)got)->flags & NET_NEEDS_CSUM, NET_NEEDS_CSUM);
	ASSERT_EQ(((struct net_header *)got)->csum_start, 34);
	ASSERT(!memcmp(got + NET_HEADER_LEN, frame, len));
	ASSERT_EQ(net_set_offload(net, NET_OFFLOAD_CSUM << 8), -EINVAL);

	ASSERT_EQ(net->stats.rx_frames, 2);
	ASSERT_EQ(net->stats.rx_bytes, 2 * len);
	finish();
}

/* Frames by the batch: all come, in their order, one that is nonsense counts as lost; where it cannot be, one at a time does. */
static void test_tap_batch(void)
{
	static u8 data[NET_BATCH_MAX][12 + 1600], back[1700];
	struct net_header header[NET_BATCH_MAX];
	struct iovec iov[NET_BATCH_MAX][3];
	struct net_frame frames[NET_BATCH_MAX];
	unsigned int i, round;
	size_t len = 0;
	int sock;

	new_namespace();
	net = create("tap=tap0");
	ASSERT(net->many);
	sock = packet_socket("tap0");
	start(1, 0);
	for (i = 0; i < NET_BATCH_MAX; i++) {
		header[i] = (struct net_header){ NET_NEEDS_CSUM, 0, 0, 0, 34, 6, 0 };
		len = make_packet(data[i], IPPROTO_UDP, 1000);
		data[i][42] = i;
		iov[i][0] = (struct iovec){ &header[i], sizeof(header[i]) };
		iov[i][1] = (struct iovec){ data[i], 100 };
		iov[i][2] = (struct iovec){ data[i] + 100, len - 100 };
		frames[i] = (struct net_frame){ iov[i], 3, sizeof(header[i]) + len };
	}
	header[5].csum_start = 6000;
	for (round = 1; round <= 3; round++) {
		/* The last ones go one by one. */
		if (round == 3)
			net->many = false;
		ASSERT_EQ(net_send_many(net, 0, frames, NET_BATCH_MAX), NET_BATCH_MAX);
		ASSERT_EQ(net->stats.tx_frames, round * (NET_BATCH_MAX - 1));
		ASSERT_EQ(net->stats.tx_dropped, round);
		for (i = 0; i < NET_BATCH_MAX; i++) {
			if (i == 5)
				continue;
			ASSERT_EQ(recv(sock, back, sizeof(back), MSG_DONTWAIT), sizeof(struct virtio_net_hdr) + len);
			ASSERT(!memcmp(back + sizeof(struct virtio_net_hdr), data[i], len));
		}
		ASSERT(recv(sock, back, sizeof(back), MSG_DONTWAIT) < 0);
	}
	finish();
}

/* A TCP packet of 40000 bytes from the host: in one piece to who can take it, in segments with sums to who cannot. */
static void test_tap_segments(void)
{
	static u8 big[sizeof(struct virtio_net_hdr) + 41000];
	struct virtio_net_hdr gso = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = 54, .gso_size = 1000,
		.csum_start = 34, .csum_offset = 16,
	};
	struct net_header *h = (struct net_header *)got;
	u8 *frame = big + sizeof(gso);
	size_t len;
	int sock;

	new_namespace();
	net = create("tap=tap0");
	sock = packet_socket("tap0");
	start(1, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
	len = make_packet(frame, IPPROTO_TCP, 40000);
	memcpy(big, &gso, sizeof(gso));
	ASSERT_EQ(send(sock, big, sizeof(gso) + len, 0), sizeof(gso) + len);
	ASSERT(run_until(have_one, 2000));
	ASSERT_EQ(nr_got, 1);
	ASSERT_EQ(got_len, NET_HEADER_LEN + len);
	ASSERT_EQ(h->gso_type, NET_GSO_TCP4);
	ASSERT_EQ(h->gso_size, 1000);
	ASSERT(!memcmp(got + NET_HEADER_LEN + 54, frame + 54, 40000));

	ASSERT_EQ(net_set_offload(net, 0), 0);
	nr_got = 0;
	got_bytes = 0;
	ASSERT_EQ(send(sock, big, sizeof(gso) + len, 0), sizeof(gso) + len);
	run_until(never, 200);
	ASSERT_EQ(nr_got, 40);
	ASSERT_EQ(got_bytes, 40 * 1054);
	ASSERT_EQ(h->gso_type, NET_GSO_NONE);
	ASSERT(sum_right(got + NET_HEADER_LEN, 1054));

	/* The other way a packet larger than the interface's takes the header, too. */
	ASSERT_EQ(send_frame(&(struct net_header){ NET_NEEDS_CSUM, NET_GSO_TCP4, 54, 1000, 34, 16, 0 }, frame, len), 0);
	ASSERT_EQ(recv(sock, got, sizeof(got), 0), sizeof(gso) + len);
	ASSERT_EQ(((struct virtio_net_hdr *)got)->gso_size, 1000);
	finish();
}

static void test_tap_queues(void)
{
	static u8 back[1600];
	int sock, i, queues = 0, total;
	size_t len;

	new_namespace();
	net = create("tap=tap0,queues=4");
	sock = packet_socket("tap0");
	start(1, 0);
	len = make_packet(back + sizeof(struct virtio_net_hdr), IPPROTO_UDP, 100);
	for (i = 0; i < 200; i++) {
		back[sizeof(struct virtio_net_hdr) + 35] = i;	/* flows differ by their source port */
		ASSERT_EQ(send(sock, back, sizeof(struct virtio_net_hdr) + len, 0), sizeof(struct virtio_net_hdr) + len);
	}
	ASSERT(run_until(have_all, 2000));
	ASSERT(nr_readable[0] && !nr_readable[1] && !nr_readable[2] && !nr_readable[3]);
	total = nr_got;
	ASSERT_EQ(total, 200);

	ASSERT_EQ(net_set_queues(net, 5), -EINVAL);
	ASSERT_EQ(net_set_queues(net, 0), -EINVAL);
	ASSERT_EQ(net_set_queues(net, 3), 0);
	memset(nr_readable, 0, sizeof(nr_readable));
	nr_got = 0;
	for (i = 0; i < 200; i++) {
		back[sizeof(struct virtio_net_hdr) + 35] = i;
		ASSERT_EQ(send(sock, back, sizeof(struct virtio_net_hdr) + len, 0), sizeof(struct virtio_net_hdr) + len);
	}
	ASSERT(run_until(have_all, 2000));
	for (i = 0; i < 4; i++)
		queues += nr_readable[i] > 0;
	ASSERT_EQ(queues, 3);
	ASSERT_EQ(nr_readable[3], 0);
	finish();
}

static void test_tap_filter(void)
{
	static u8 back[1600];
	struct net_filter filter = { .nr = 2, .mac = { { 0x52, 0x54, 0, 9, 9, 9 }, { 1, 0, 0x5e, 0, 0, 5 } } };
	static const struct {
		u8 dest[6];
		bool passes;
	} sent[] = {
		{ { 0x52, 0x54, 0, 9, 9, 9 }, true }, { { 0x52, 0x54, 0, 9, 9, 8 }, false }, { { 1, 0, 0x5e, 0, 0, 5 }, true },
		{ { 0x33, 0x33, 0, 0, 0, 0x77 }, false }, { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, true },
	};
	unsigned int i, round;
	size_t len;
	int sock;

	new_namespace();
	net = create("tap=tap0");
	sock = packet_socket("tap0");
	start(1, 0);
	len = make_packet(back + sizeof(struct virtio_net_hdr), IPPROTO_UDP, 100);
	for (round = 0; round < 2; round++) {
		filter.all = round;
		net_set_filter(net, &filter);
		for (i = 0; i < ARRAY_SIZE(sent); i++) {
			memcpy(back + sizeof(struct virtio_net_hdr), sent[i].dest, 6);
			nr_got = 0;
			ASSERT_OK(send(sock, back, sizeof(struct virtio_net_hdr) + len, 0));
			run_until(have_one, sent[i].passes || round ? 2000 : 50);
			ASSERT_MSG(nr_got == (sent[i].passes || round), "address %u, round %u: %d frames", i, round, nr_got);
		}
	}
	finish();
}

static void test_tap_link(void)
{
	u8 frame[200];
	size_t len = make_packet(frame, IPPROTO_UDP, 100);

	new_namespace();
	net = create("tap=tap0");
	start(1, 0);
	net_set_link(net, false);
	net_set_link(net, false);
	ASSERT_EQ(nr_link, 1);
	ASSERT(!net_link_up(net));
	ASSERT_EQ(send_frame(&(struct net_header){ 0 }, frame, len), 0);
	ASSERT_EQ(net->stats.tx_dropped, 1);
	net_set_link(net, true);
	ASSERT_EQ(nr_link, 2);
	ASSERT_EQ(send_frame(&(struct net_header){ 0 }, frame, len), 0);
	ASSERT_EQ(net->stats.tx_frames, 1);
	/* The host sets it down: frames are lost, and pass again when it is up. */
	set_up("tap0", false);
	ASSERT_EQ(send_frame(&(struct net_header){ 0 }, frame, len), 0);
	ASSERT_EQ(net->stats.tx_dropped, 2);
	set_up("tap0", true);
	ASSERT_EQ(send_frame(&(struct net_header){ 0 }, frame, len), 0);
	ASSERT_EQ(net->stats.tx_frames, 2);
	ASSERT(net_link_up(net));
	finish();
}

static bool link_is_down(void)
{
	return !net_link_up(net);
}

/* 'ip link del' of a tap that is in use: said once, and no busy loop. */
static void test_tap_removed(void)
{
	char command[64];
	u8 frame[200];
	size_t len = make_packet(frame, IPPROTO_UDP, 100);

	new_namespace();
	net = create("tap=tap0");
	start(1, 0);
	snprintf(command, sizeof(command), "ip link del tap0");
	if (system(command))
		SKIP("no ip");
	ASSERT(run_until(link_is_down, 2000));
	ASSERT_EQ(lines, 1);
	ASSERT(strstr(last_line, "tap0"));
	ASSERT_EQ(nr_link, 1);
	ASSERT_EQ(send_frame(&(struct net_header){ 0 }, frame, len), 0);
	net_set_link(net, true);
	run_until(never, 50);
	ASSERT_EQ(lines, 1);
	finish();
}

static void test_announce(void)
{
	u8 back[200];
	int sock;

	new_namespace();
	net = create("tap=tap0,mac=52:54:00:12:34:56");
	sock = packet_socket("tap0");
	net_announce(net);
	ASSERT_EQ(recv(sock, back, sizeof(back), 0), sizeof(struct virtio_net_hdr) + 60);
	ASSERT(!memcmp(back + 10, "\xff\xff\xff\xff\xff\xff\x52\x54\x00\x12\x34\x56\x80\x35\x00\x01\x08\x00\x06\x04\x00\x03", 22));
	net_destroy(net);
}

/* 100 KB/s: half a second's worth of frames takes about as long, both ways. */
static void test_tap_limit(void)
{
	u8 frame[1100], back[1200] = { 0 };
	size_t len = make_packet(frame, IPPROTO_UDP, 958);
	int sent = 0, i, sock;
	u64 begin;

	new_namespace();
	net = create("tap=tap0,bps=100000");
	sock = packet_socket("tap0");
	start(1, 0);
	begin = now_ms();
	while (sent < 60) {
		if (send_frame(&(struct net_header){ 0 }, frame, len) == -EAGAIN) {
			nr_writable = 0;
			ASSERT(run_until(can_write, 2000));
		} else {
			sent++;
		}
	}
	tap_diag("60 frames of 1000 bytes sent in %llu ms", (unsigned long long)(now_ms() - begin));
	ASSERT_GE(now_ms() - begin, 450);
	ASSERT_LE(now_ms() - begin, 3000);
	ASSERT_EQ(net->stats.tx_frames, 60);

	begin = now_ms();
	for (i = 0; i < 60; i++) {
		memcpy(back + sizeof(struct virtio_net_hdr), frame, len);
		ASSERT_OK(send(sock, back, sizeof(struct virtio_net_hdr) + len, 0));
	}
	nr_got = 140;
	ASSERT(run_until(have_all, 3000));
	tap_diag("received in %llu ms", (unsigned long long)(now_ms() - begin));
	ASSERT_GE(now_ms() - begin, 450);
	finish();
}

/* --- passt ---------------------------------------------------------------------------------------------------------- */

/*
 * This program under the name passt, found in PATH: goes into the background as passt does, and does what FAKE_PASST says with the
 * stream: "echo" sends every frame back; "drip" the same, a byte at a time; "slow" reads nothing for a while first; "garbage" sends
 * an absurd length; "runt" a frame that is none; "close" goes away at once.
 */
static void move(int fd, u8 *data, size_t len, bool out)
{
	ssize_t n;

	for (; len; data += n, len -= n) {
		n = out ? write(fd, data, len) : read(fd, data, len);
		if (n <= 0)
			_exit(0);
	}
}

static void passt_frames(int fd, const char *what)
{
	static u8 frame[4 + NET_FRAME_MAX];
	size_t len, i;

	if (!strcmp(what, "slow"))
		usleep(300000);
	if (!strcmp(what, "garbage"))
		move(fd, (u8 *)"\xff\xff\xff\xff", 4, true);
	if (!strcmp(what, "runt"))
		move(fd, (u8 *)"\0\0\0\5hello", 9, true);
	if (!strcmp(what, "close"))
		_exit(0);
	for (;;) {
		move(fd, frame, 4, false);
		len = (u32)frame[0] << 24 | frame[1] << 16 | frame[2] << 8 | frame[3];
		if (len > NET_FRAME_MAX)
			_exit(1);
		move(fd, frame + 4, len, false);
		for (i = 0; i < len + 4 && !strcmp(what, "drip"); i++) {
			move(fd, frame + i, 1, true);
			usleep(100);
		}
		if (strcmp(what, "drip"))
			move(fd, frame, len + 4, true);
	}
}

static int fake_passt(int argc, char **argv)
{
	const char *what = getenv("FAKE_PASST");
	int i, fd = -1;

	for (i = 1; i < argc - 1; i++)
		if (!strcmp(argv[i], "--fd"))
			fd = atoi(argv[i + 1]);
	if (!what || fd < 0 || fcntl(fd, F_GETFD) < 0)
		return 2;
	/* Nothing else is left to it. */
	for (i = 3; i < 64; i++)
		if (i != fd && fcntl(i, F_GETFD) >= 0)
			return 3;
	if (!strcmp(what, "fail")) {
		fprintf(stderr, "Don't run as root\nFailed to send 5 bytes to syslog\nExternal interface not usable\n");
		return 1;
	}
	if (!strcmp(what, "args")) {
		for (i = 1; i < argc; i++)
			fprintf(stderr, "%s ", argv[i]);
		fprintf(stderr, "\n");
		return 1;
	}
	if (fork())
		return 0;
	close(STDERR_FILENO);
	signal(SIGPIPE, SIG_IGN);
	passt_frames(fd, what);
	return 0;
}

static void use_fake_passt(const char *what)
{
	char dir[] = "/tmp/vmm_net.XXXXXX", path[64], self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	ASSERT_GT(len, 0);
	self[len] = 0;
	ASSERT(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/passt", dir);
	ASSERT_OK(symlink(self, path));
	setenv("PATH", dir, 1);
	setenv("FAKE_PASST", what, 1);
	net = NULL;
	kept = parse("user,tcp=8080:80,udp=53");
	lines = 0;
	net = net_create(&kept, "test", 0);
	unlink(path);
	rmdir(dir);
}

static void test_passt_start(void)
{
	use_fake_passt("fail");
	ASSERT(!net);
	ASSERT_EQ(lines, 1);
	ASSERT_MSG(strstr(last_line, "passt does not start: External interface not usable"), "%s", last_line);
	use_fake_passt("args");
	ASSERT(!net);
	ASSERT_MSG(strstr(last_line, "--quiet --fd 3 --tcp-ports 8080:80 --udp-ports 53"), "%s", last_line);
	setenv("PATH", "/nonexistent", 1);
	lines = 0;
	ASSERT(!net_create(&kept, "test", 0));
	ASSERT_EQ(lines, 1);
	ASSERT_MSG(strstr(last_line, "install the package"), "%s", last_line);
}

static void passt_echo(const char *what, size_t payload, int frames)
{
	static u8 frame[70000];
	size_t len = make_packet(frame, IPPROTO_UDP, payload);
	int sent = 0;

	use_fake_passt(what);
	ASSERT_MSG(net, "%s", last_line);
	ASSERT(!net->offload_max && !net->header_used && net->nr_queues == 1);
	start(1, 0);
	nr_got = 200 - frames;
	while (sent < frames) {
		frame[50] = sent;
		if (send_frame(&(struct net_header){ 0 }, frame, len)) {
			nr_writable = 0;
			ASSERT(run_until(can_write, 5000));
		} else {
			sent++;
			frame[51]++;
		}
	}
	ASSERT(run_until(have_all, 10000));
	ASSERT_EQ(nr_got, 200);
	ASSERT_EQ(got_len, NET_HEADER_LEN + len);
	ASSERT_EQ(got_bytes, (u64)frames * len);
	ASSERT(!memcmp(got, &(struct net_header){ 0 }, NET_HEADER_LEN));
	frame[51]--;
	ASSERT(!memcmp(got + NET_HEADER_LEN, frame, len));
	ASSERT_EQ(net->stats.tx_dropped, 0);
	finish();
}

static void test_passt_frames(void)
{
	passt_echo("echo", 1000, 100);
}

static void test_passt_drip(void)
{
	passt_echo("drip", 100, 3);
}

/* More than the socket holds: frames are cut, kept and wait. */
static void test_passt_slow(void)
{
	passt_echo("slow", 65000, 40);
}

/* The last frame leaves by itself, without another one that pushes it. */
static void test_passt_last(void)
{
	passt_echo("slow", 65000, 4);
}

static void passt_lost(const char *what)
{
	use_fake_passt(what);
	ASSERT_MSG(net, "%s", last_line);
	start(1, 0);
	ASSERT(run_until(link_is_down, 2000));
	ASSERT_EQ(lines, 1);
	ASSERT_EQ(nr_link, 1);
	run_until(never, 50);
	ASSERT_EQ(lines, 1);
	finish();
}

static void test_passt_garbage(void)
{
	passt_lost("garbage");
}

static void test_passt_runt(void)
{
	passt_lost("runt");
}

static void test_passt_closed(void)
{
	passt_lost("close");
}

/* The real one answers a DHCP request with the address that the host has. */
static void test_passt_real(void)
{
	static const u8 request[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0, 0x45, 0, 1, 16, 0, 0, 0, 0, 64, 17,
		0x79, 0xde, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67, 0, 252, 0, 0, 1, 1, 6, 0, 1, 2, 3, 4,
	};
	u8 frame[14 + 272] = { 0 };

	kept = parse("user,mac=52:54:00:12:34:56");
	net = net_create(&kept, "test", 0);
	if (!net)
		SKIP("%s", last_line);
	memcpy(frame, request, sizeof(request));
	memcpy(frame + 42 + 28, request + 6, 6);
	memcpy(frame + 42 + 236, "\x63\x82\x53\x63\x35\x01\x01\xff", 8);
	start(1, 0);
	ASSERT_EQ(send_frame(&(struct net_header){ 0 }, frame, sizeof(frame)), 0);
	ASSERT(run_until(have_one, 5000));
	ASSERT_GT(got_len, (ssize_t)NET_HEADER_LEN + 278);
	ASSERT(!memcmp(got + NET_HEADER_LEN + 42 + 4, request + 46, 4));	/* the transaction's number */
	ASSERT_EQ(got[NET_HEADER_LEN + 42], 2);					/* a reply */
	tap_diag("passt offers %u.%u.%u.%u", got[NET_HEADER_LEN + 58], got[NET_HEADER_LEN + 59], got[NET_HEADER_LEN + 60],
		 got[NET_HEADER_LEN + 61]);
	finish();
}

static const struct tap_test tests[] = {
	TEST(mac),
	TEST(option_good),
	TEST(option_bad),
	TEST(limit),
	TEST(tap_made),
	TEST(tap_on_bridge),
	TEST(tap_there),
	TEST(tap_refused),
	TEST(tap_unprivileged),
	TEST(tap_killed),
	TEST(tap_frames),
	TEST(tap_batch),
	TEST(tap_segments),
	TEST(tap_queues),
	TEST(tap_filter),
	TEST(tap_link),
	TEST(tap_removed),
	TEST(tap_limit),
	TEST(announce),
	TEST(passt_start),
	TEST(passt_frames),
	TEST(passt_drip),
	TEST(passt_slow),
	TEST(passt_last),
	TEST(passt_garbage),
	TEST(passt_runt),
	TEST(passt_closed),
	TEST(passt_real),
};

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');

	if (!strcmp(name ? name + 1 : argv[0], "passt"))
		return fake_passt(argc, argv);
	fail_sink = keep_line;
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
