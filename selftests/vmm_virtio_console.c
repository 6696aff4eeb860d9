// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies pvhv-run's virtio-console and the host half of its ports, with this program as driver and as client: what a driver is
 * told and when, bytes both ways through sockets and files, clients that come, go and are slow, the two rules for output that
 * nobody reads, sizes, drivers without MULTIPORT, resets and pauses with a request half done, saved and loaded state, nonsense.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/virtio_console.h>

#include "tap.h"
#include "fakevirtio.h"
#include "../vmm/port.h"
#include "../vmm/virtio_console.h"

#define MEM_SIZE	(8 * MIB)
#define RINGS		0x10000ULL		/* four pages each */
#define DATA		0x400000ULL
#define SLOT		0x4000U			/* of data for one request */
#define NUM		64
#define QUEUES		8
#define FEATURES	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX))
#define MULTIPORT	VIRTIO_BIT(VIRTIO_CONSOLE_F_MULTIPORT)
#define AGREED		(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)

static struct mem mem;
static struct vring_drv ring[QUEUES];
static char dir[] = "/tmp/vmm_vcon.XXXXXX", path[3][64];

static void pump(void)
{
	run_loop(5);
}

/* A port, a console, a file: the console becomes port 0, the others 1 and 2 */
static struct port_options opts[3] = {
	{ .name = "agent", .kind = CONSOLE_SOCKET, .path = path[0] },
	{ .name = "tty", .kind = CONSOLE_SOCKET, .path = path[1], .console = true },
	{ .name = "log", .kind = CONSOLE_FILE, .path = path[2] },
};

static void make(void)
{
	int i;

	if (!mem.host) {
		ASSERT_EQ(mem_init(&mem, MEM_SIZE, MEM_PAGES_SMALL), 0);
		ASSERT(mkdtemp(dir));
		for (i = 0; i < 3; i++)
			snprintf(path[i], sizeof(path[i]), "%s/%d", dir, i);
	}
	v = virtio_console_create(&mem, "ports", opts, 3);
	ASSERT(v);
	ASSERT_EQ(v->nr_queues, QUEUES);
	v->transport = &transport;
	ASSERT_EQ(loop_init(woken, NULL), 0);
	ASSERT_EQ(virtio_console_attach(v), 0);
	virtio_open(v);
}

static void unmake(void)
{
	virtio_close(v);
	virtio_console_detach(v);
	loop_fini();
	virtio_device_ops()->destroy(&v->dev);
	v = NULL;
}

static void cleanup(void)
{
	int i;

	unmake();
	for (i = 0; i < 3; i++)
		unlink(path[i]);
	rmdir(dir);
}

/* --- a driver -------------------------------------------------------------------------------------------------- */

static void kick(unsigned int queue)
{
	u64 one = 1;

	ASSERT_EQ(write(v->queues[queue].kick_fd, &one, sizeof(one)), sizeof(one));
	pump();
}

static u64 slot_of(unsigned int queue, unsigned int i)
{
	return DATA + (queue * NUM + i % NUM) * (u64)SLOT / 4;
}

static void offer_in(unsigned int queue, u32 len)
{
	const struct vring_piece piece = { slot_of(queue, ring[queue].next_desc), len, true };

	vring_add(&ring[queue], &piece, 1);
	vring_show(&ring[queue], true);
}

static void offer_out(unsigned int queue, const void *data, u32 len)
{
	const struct vring_piece piece = { slot_of(queue, ring[queue].next_desc), len, false };

	ASSERT_EQ(mem_write(&mem, piece.addr, data, len), 0);
	vring_add(&ring[queue], &piece, 1);
	vring_show(&ring[queue], true);
}

static void begin(u64 features)
{
	unsigned int i;

	negotiate(features);
	for (i = 0; i < QUEUES; i++) {
		vring_drv_init(&ring[i], &mem, RINGS + i * 0x4000, NUM);
		vring_attach(&ring[i], v, i);
	}
	driver_ok();
	pump();
	for (i = 0; i < 16; i++)
		offer_in(2, 128);
}

static void say(u32 id, u16 event, u16 value)
{
	const struct virtio_console_control msg = { id, event, value };

	offer_out(3, &msg, sizeof(msg));
	kick(3);
}

/* The next control message; -1: none */
static int hear(u32 *id, u16 *value, char *text)
{
	struct virtio_console_control msg;
	u32 head, len;

	if (!vring_take(&ring[2], &head, &len))
		return -1;
	ASSERT_GE(len, sizeof(msg));
	ASSERT_EQ(mem_read(&mem, slot_of(2, head), &msg, sizeof(msg)), 0);
	ASSERT_EQ(mem_read(&mem, slot_of(2, head) + sizeof(msg), text, len - sizeof(msg)), 0);
	text[len - sizeof(msg)] = 0;
	*id = msg.id;
	*value = msg.value;
	offer_in(2, 128);
	return msg.event;
}

static void expect(int event, u32 id, u16 value, const char *text)
{
	char got[128];
	u32 got_id;
	u16 got_value;

	ASSERT_EQ(hear(&got_id, &got_value, got), event);
	ASSERT_EQ(got_id, id);
	ASSERT_EQ(got_value, value);
	if (text)
		ASSERT_MSG(!strcmp(got, text), "'%s', not '%s'", got, text);
}

static void expect_none(void)
{
	char got[128];
	u32 id;
	u16 value;

	ASSERT_EQ(hear(&id, &value, got), -1);
}

/* As stock drivers do it, up to ports that are open in the guest */
static void handshake(void)
{
	say(0xffffffff, VIRTIO_CONSOLE_DEVICE_READY, 1);
	expect(VIRTIO_CONSOLE_PORT_ADD, 0, 1, "");
	expect(VIRTIO_CONSOLE_PORT_ADD, 1, 1, "");
	expect(VIRTIO_CONSOLE_PORT_ADD, 2, 1, "");
	expect_none();
	say(0, VIRTIO_CONSOLE_PORT_READY, 1);
	expect(VIRTIO_CONSOLE_CONSOLE_PORT, 0, 1, "");
	expect(VIRTIO_CONSOLE_PORT_NAME, 0, 1, "tty");
	expect(VIRTIO_CONSOLE_PORT_OPEN, 0, 0, "");
	say(1, VIRTIO_CONSOLE_PORT_READY, 1);
	expect(VIRTIO_CONSOLE_PORT_NAME, 1, 1, "agent");
	expect(VIRTIO_CONSOLE_PORT_OPEN, 1, 0, "");
	say(2, VIRTIO_CONSOLE_PORT_READY, 1);
	expect(VIRTIO_CONSOLE_PORT_NAME, 2, 1, "log");
	expect(VIRTIO_CONSOLE_PORT_OPEN, 2, 1, "");
	expect_none();
	say(0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	say(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	say(2, VIRTIO_CONSOLE_PORT_OPEN, 1);
	expect_none();
}

static int client(int which)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = ASSERT_OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));

	strcpy(addr.sun_path, path[which]);
	ASSERT_OK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	pump();
	return fd;
}

static u32 used(unsigned int queue)
{
	u32 head, len, n = 0;

	while (vring_take(&ring[queue], &head, &len))
		n++;
	return n;
}

/* Queues: port 0 has 0 and 1; port 1 has 4 and 5; port 2 has 6 and 7 */

static void test_handshake(void)
{
	int fd;

	make();
	begin(FEATURES | MULTIPORT);
	handshake();
	ASSERT(virtio_console_opened(v, 1));
	fd = client(0);
	expect(VIRTIO_CONSOLE_PORT_OPEN, 1, 1, "");
	close(fd);
	pump();
	expect(VIRTIO_CONSOLE_PORT_OPEN, 1, 0, "");
	fd = client(1);
	expect(VIRTIO_CONSOLE_PORT_OPEN, 0, 1, "");
	expect_none();
	say(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	ASSERT(!virtio_console_opened(v, 1));
	close(fd);
	cleanup();
}

/* A driver that has no buffers for messages is told the state that there is when it has some */
static void test_slow_listener(void)
{
	u32 id, head, len, i;
	char text[128];
	u16 value;
	int fd, event, opens = 0;

	make();
	begin(FEATURES | MULTIPORT);
	handshake();
	/* Takes all buffers away: a device has used them when all that it had are filled */
	for (i = 0; i < 16; i++) {
		virtio_console_resize(v, 0, 80 + i, 25);
		pump();
	}
	for (i = 0; i < 50; i++) {
		fd = client(0);
		close(fd);
		pump();
	}
	while (vring_take(&ring[2], &head, &len))
		;
	for (i = 0; i < 16; i++)
		offer_in(2, 128);
	kick(2);
	while ((event = hear(&id, &value, text)) >= 0) {
		ASSERT_EQ(event, VIRTIO_CONSOLE_PORT_OPEN);
		ASSERT_EQ(id, 1);
		ASSERT_EQ(value, 0);
		opens++;
	}
	ASSERT_EQ(opens, 1);
	cleanup();
}

static void test_bytes(void)
{
	u32 head, len, sent = 0, got = 0, out = 0, full = 0, i;
	char buf[4096], back[64];
	int fd, fd2, rc, j;

	make();
	begin(FEATURES | MULTIPORT);
	handshake();
	fd = client(0);
	offer_out(5, "hello", 5);
	kick(5);
	ASSERT_EQ(used(5), 1);
	ASSERT_EQ(read(fd, buf, sizeof(buf)), 5);
	ASSERT(!memcmp(buf, "hello", 5));

	/* The other way: more than the buffers hold waits for more of them */
	for (i = 0; i < 4; i++)
		offer_in(4, 10);
	ASSERT_EQ(write(fd, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", 46), 46);
	kick(4);
	for (i = 0; i < 4; i++) {
		ASSERT(vring_take(&ring[4], &head, &len));
		ASSERT_EQ(len, 10);
	}
	ASSERT_EQ(mem_read(&mem, slot_of(4, 3), back, 10), 0);
	ASSERT(!memcmp(back, "uvwxyzABCD", 10));
	offer_in(4, 64);
	kick(4);
	ASSERT(vring_take(&ring[4], &head, &len));
	ASSERT_EQ(len, 6);
	ASSERT_GE(nr_irq[4], 1);

	/* Nothing is read for a port that nobody in the guest has open */
	say(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	offer_in(4, 64);
	kick(4);
	ASSERT_EQ(write(fd, "later", 5), 5);
	pump();
	ASSERT_EQ(used(4), 0);
	say(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	ASSERT_EQ(used(4), 1);

	/* A second client waits for the first to go */
	fd2 = client(0);
	offer_out(5, "one", 3);
	kick(5);
	ASSERT_EQ(read(fd2, buf, sizeof(buf)), -1);
	ASSERT_EQ(read(fd, buf, sizeof(buf)), 3);
	close(fd);
	pump();
	offer_out(5, "two", 3);
	kick(5);
	ASSERT_EQ(read(fd2, buf, sizeof(buf)), 3);
	ASSERT(!memcmp(buf, "two", 3));
	used(5);

	/* Much of it through a client that is slow: all comes, in order, and the driver waits meanwhile */
	while (sent < 4000 || out) {
		for (; sent < 4000 && out < 60; sent++, out++) {
			memset(buf, 'a' + sent % 26, 1000);
			offer_out(5, buf, 1000);
		}
		kick(5);
		out -= used(5);
		full += out > 0;
		for (i = 0; out && i < 64 && (rc = read(fd2, buf, sizeof(buf))) > 0; i++)
			for (j = 0; j < rc; j++, got++)
				ASSERT_EQ(buf[j], 'a' + got / 1000 % 26);
	}
	ASSERT_GE(full, 5);
	for (i = 0; got < 4000 * 1000 && i < 1000; i++) {
		rc = read(fd2, buf, sizeof(buf));
		for (j = 0; j < rc; j++, got++)
			ASSERT_EQ(buf[j], 'a' + got / 1000 % 26);
		if (rc < 0)
			pump();
	}
	ASSERT_EQ(got, 4000 * 1000);
	ASSERT_EQ(virtio_console_port(v, 1)->stats.dropped_bytes, 0);
	close(fd2);
	cleanup();
}

/* Without a client a port's driver waits once the ring is full, and a client that comes gets what is in it */
static void test_port_waits(void)
{
	static char buf[8192];
	int fd, n, done = 0, got = 0;

	make();
	begin(FEATURES | MULTIPORT);
	handshake();
	for (n = 0; n < 40; n++)
		offer_out(5, buf, 4096);
	kick(5);
	done = used(5);
	ASSERT_EQ(done, PORT_OUT_SIZE / 4096);
	kick(5);
	ASSERT_EQ(used(5), 0);
	fd = client(0);
	for (n = 0; got < 40 * 4096 && n < 1000; n++) {
		int rc = read(fd, buf, sizeof(buf));

		got += rc > 0 ? rc : 0;
		if (rc < 0)
			pump();
	}
	ASSERT_EQ(got, 40 * 4096);
	ASSERT_EQ(done + used(5), 40);

	/* What was meant for a client that has gone is not for the next one */
	close(fd);
	pump();
	offer_out(5, "new", 3);
	kick(5);
	fd = client(0);
	ASSERT_EQ(read(fd, buf, sizeof(buf)), 3);
	close(fd);
	cleanup();
}

/* A console's driver never waits: the newest bytes are kept for who comes */
static void test_console_keeps_newest(void)
{
	static char buf[2 * PORT_OUT_SIZE];
	int fd, n, i, got = 0;

	make();
	begin(FEATURES | MULTIPORT);
	handshake();
	for (n = 0; n < 100; n++) {
		memset(buf, n, 4096);
		offer_out(1, buf, 4096);
		kick(1);
		ASSERT_EQ(used(1), 1);
	}
	ASSERT_EQ(virtio_console_port(v, 0)->stats.dropped_bytes, 100 * 4096 - PORT_OUT_SIZE);
	fd = client(1);
	for (n = 0; got < PORT_OUT_SIZE && n < 100; n++) {
		int rc = read(fd, buf + got, sizeof(buf) - got);

		got += rc > 0 ? rc : 0;
		pump();
	}
	ASSERT_EQ(got, PORT_OUT_SIZE);
	for (i = 0; i < got; i++)
		ASSERT_EQ(buf[i], 100 - 16 + i / 4096);
	/* A client that never reads costs bytes, not the guest */
	for (n = 0; n < 300; n++) {
		offer_out(1, buf, 4096);
		kick(1);
		ASSERT_EQ(used(1), 1);
	}
	close(fd);
	cleanup();
}

static void test_file(void)
{
	char buf[64];
	int fd, i;

	make();
	begin(FEATURES | MULTIPORT);
	handshake();
	for (i = 0; i < 10; i++) {
		offer_out(7, "0123456789", 10);
		kick(7);
	}
	ASSERT_EQ(used(7), 10);
	fd = ASSERT_OK(open(path[2], O_RDONLY));
	/* The kernel writes it when it comes to it */
	for (i = 0; i < 1000 && lseek(fd, 0, SEEK_END) < 100; i++)
		pump();
	ASSERT_EQ(lseek(fd, 0, SEEK_END), 100);
	ASSERT_EQ(pread(fd, buf, 10, 90), 10);
	ASSERT(!memcmp(buf, "0123456789", 10));
	close(fd);
	cleanup();
}

static void test_size(void)
{
	struct virtio_console_config config;
	char text[128];
	u32 id;
	u16 value;

	make();
	virtio_config_get(v, 0, &config, sizeof(config));
	ASSERT_EQ(config.max_nr_ports, 3);
	ASSERT_EQ(config.cols, 0);
	begin(FEATURES | MULTIPORT | VIRTIO_BIT(VIRTIO_CONSOLE_F_SIZE));
	handshake();
	ASSERT_EQ(virtio_console_resize(v, 0, 132, 43), 0);
	pump();
	ASSERT_EQ(hear(&id, &value, text), VIRTIO_CONSOLE_RESIZE);
	ASSERT_EQ(id, 0);
	ASSERT(!memcmp(text, "\x84\x00\x2b\x00", 4));
	ASSERT_EQ(nr_config_irq, 1);
	virtio_config_get(v, 0, &config, sizeof(config));
	ASSERT_EQ(config.cols, 132);
	ASSERT_EQ(config.rows, 43);
	ASSERT_EQ(virtio_console_resize(v, 1, 132, 43), -EINVAL);
	cleanup();
}

/* Port 0 alone, open from the start */
static void test_single_port(void)
{
	char buf[64];
	int fd;

	make();
	begin(FEATURES);
	fd = client(1);
	offer_out(1, "login:", 6);
	kick(1);
	ASSERT_EQ(used(1), 1);
	ASSERT_EQ(read(fd, buf, sizeof(buf)), 6);
	offer_in(0, 64);
	kick(0);
	ASSERT_EQ(write(fd, "root", 4), 4);
	pump();
	ASSERT_EQ(used(0), 1);
	/* The other queues are nobody's */
	say(0, VIRTIO_CONSOLE_PORT_OPEN, 0);
	ASSERT_EQ(used(3), 0);
	offer_out(5, "x", 1);
	kick(5);
	ASSERT_EQ(used(5), 0);
	expect_none();
	close(fd);
	cleanup();
}

static void test_reset(void)
{
	char buf[4096];
	int i, fd;

	make();
	begin(FEATURES | MULTIPORT);
	handshake();
	for (i = 0; i < 30; i++)
		offer_out(5, buf, 4096);	/* the last ones do not fit */
	kick(5);
	ASSERT_EQ(v->queues[5].ring.in_flight, 1);
	virtio_set_status(v, 0);
	pump();
	ASSERT_EQ(virtio_status(v), 0);
	ASSERT(!virtio_console_opened(v, 0));
	begin(FEATURES | MULTIPORT);
	handshake();
	fd = client(0);
	expect(VIRTIO_CONSOLE_PORT_OPEN, 1, 1, "");
	offer_out(5, "again", 5);
	kick(5);
	ASSERT_EQ(used(5), 1);
	close(fd);
	cleanup();
}

/* Saved with a request half taken, output that nobody read, input that the guest had no buffer for */
static void test_state(void)
{
	struct state_section sec;
	static char buf[8192];
	struct state st, again;
	int i, fd, got = 0;
	u32 head, len;

	make();
	begin(FEATURES | MULTIPORT);
	handshake();
	fd = client(1);
	expect(VIRTIO_CONSOLE_PORT_OPEN, 0, 1, "");
	ASSERT_EQ(write(fd, "typed", 5), 5);
	pump();
	for (i = 0; i < 20; i++) {
		memset(buf, i, 4000);
		offer_out(5, buf, 4000);
	}
	kick(5);
	ASSERT_EQ(used(5), 16);		/* and 1536 bytes of the next one */
	virtio_console_resize(v, 0, 100, 30);
	virtio_pause(v);
	ASSERT(virtio_quiet(v));
	state_init(&st);
	state_begin(&st, "ports", 1);
	virtio_device_ops()->save(&v->dev, &st);
	state_end(&st);
	ASSERT_EQ(st.err, 0);
	unmake();
	close(fd);

	make();
	ASSERT_EQ(state_find(st.data, st.len, "ports", &sec), 0);
	ASSERT_EQ(virtio_device_ops()->load(&v->dev, &sec), 0);
	state_init(&again);
	state_begin(&again, "ports", 1);
	virtio_device_ops()->save(&v->dev, &again);
	state_end(&again);
	ASSERT_EQ(again.len, st.len);
	ASSERT(!memcmp(again.data, st.data, st.len));
	virtio_service(v);
	pump();
	offer_in(0, 64);
	kick(0);
	ASSERT(vring_take(&ring[0], &head, &len));
	ASSERT_EQ(len, 5);
	fd = client(0);
	for (i = 0; got < 20 * 4000 && i < 1000; i++) {
		int rc = read(fd, buf, sizeof(buf)), j;

		for (j = 0; j < rc; j++, got++)
			ASSERT_EQ(buf[j], got / 4000);
		if (rc < 0)
			pump();
	}
	ASSERT_EQ(got, 20 * 4000);
	ASSERT_EQ(used(5), 4);
	close(fd);
	for (i = 0; i < 60; i++) {
		struct state_section part = { sec.data, sec.len * i / 60, 1 };

		unmake();
		make();
		ASSERT(virtio_device_ops()->load(&v->dev, &part) < 0);
	}
	state_free(&st);
	state_free(&again);
	cleanup();
}

static void test_nonsense(void)
{
	static const u16 events[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 255, 65535 };
	unsigned int i, j;
	char buf[64] = { 0 };

	make();
	begin(FEATURES | MULTIPORT);
	for (i = 0; i < ARRAY_SIZE(events); i++)
		for (j = 0; j < 6; j++) {
			u32 id, ids[] = { 0, 2, 3, 31, 0x7fffffff, 0xffffffff };
			u16 value;
			char text[128];

			say(ids[j], events[i], j & 1);
			say(ids[j], events[i], 0xffff);
			while (hear(&id, &value, text) >= 0)
				ASSERT(id < 3);
		}
	for (i = 0; i < 8; i++)
		offer_out(3, buf, i ? i : 1);		/* too short to say anything */
	kick(3);
	/* A buffer without room, and one that is not for writing */
	offer_in(2, 3);
	offer_out(2, buf, 8);
	offer_out(0, buf, 8);
	offer_in(1, 8);
	offer_in(3, 8);
	for (i = 0; i < QUEUES; i++)
		kick(i);
	ASSERT_EQ(virtio_status(v), AGREED | VIRTIO_CONFIG_S_DRIVER_OK);
	cleanup();
}

/* Input finds buffers that take nothing, a ring full of them, before one that does */
static void test_no_room(void)
{
	char buf[8] = { 0 };
	u32 head = 0, len, n = 0;
	int fd, i;

	make();
	begin(FEATURES | MULTIPORT);
	handshake();
	fd = client(1);
	for (i = 0; i < NUM - 1; i++)
		offer_out(0, buf, 8);
	offer_in(0, 16);
	ASSERT_EQ(write(fd, "typed", 5), 5);
	kick(0);
	while (vring_take(&ring[0], &head, &len)) {
		ASSERT_EQ(len, n == NUM - 1 ? 5 : 0);
		n++;
	}
	ASSERT_EQ(n, NUM);
	ASSERT_EQ(mem_read(&mem, slot_of(0, head), buf, 5), 0);
	ASSERT(!memcmp(buf, "typed", 5));
	ASSERT_EQ(virtio_status(v), AGREED | VIRTIO_CONFIG_S_DRIVER_OK);
	close(fd);
	cleanup();
}

static const struct tap_test tests[] = {
	TEST(handshake),
	TEST(slow_listener),
	TEST_TIMEOUT(bytes, 60),
	TEST(port_waits),
	TEST_TIMEOUT(console_keeps_newest, 60),
	TEST(file),
	TEST(size),
	TEST(single_port),
	TEST(reset),
	TEST_TIMEOUT(state, 60),
	TEST(no_room),
	TEST(nonsense),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
