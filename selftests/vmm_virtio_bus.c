// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies pvhv-run's side of the pvhv bus with this program as guest: the CPUID leaves, registers, pages that are none, what a
 * page shows and when, all commands and what they refuse, requests, vectors that are off, moved and refused, asynchronous reset,
 * broken rings, configuration under its generation, saved and loaded state, no page.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tap.h"

#define BUSDEV_CHECK(cond)	ASSERT(cond)
#include "fuzz/fakeloop.h"
#include "busdev.h"
#include "vring.h"

#define PAGE_GPA	0x3000ULL
#define RING		0x10000ULL
#define MSI_ADDR	0xfee00000ULL

#define ACKNOWLEDGED	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define AGREED		(ACKNOWLEDGED | VIRTIO_CONFIG_S_FEATURES_OK)
#define RUNNING		(AGREED | VIRTIO_CONFIG_S_DRIVER_OK)

static struct vring_drv ring;

static volatile struct pvhv_bus_page *page_at(u64 gpa)
{
	return mem_at(&mem, gpa, sizeof(struct pvhv_bus_page));
}

#define page page_at(PAGE_GPA)

static void attach(void)
{
	busdev_out(PVHV_BUS_FRAME, PAGE_GPA >> PVHV_BUS_PAGE_SHIFT, 4);
}

static u32 command(u32 nr, const void *arg, size_t len)
{
	page->result = 0xdead;
	memcpy((void *)&page->arg, arg, len);
	busdev_out(PVHV_BUS_COMMAND, nr, 4);
	return page->result;
}

static u32 set_status(u32 status)
{
	return command(PVHV_BUS_CMD_STATUS, &status, sizeof(status));
}

static u32 ack(u64 features)
{
	return command(PVHV_BUS_CMD_FEATURES, &features, sizeof(features));
}

static u32 notices(u32 vector)
{
	return command(PVHV_BUS_CMD_NOTICES, &vector, sizeof(vector));
}

static u32 queue(u32 index, u32 size, u32 vector)
{
	const struct pvhv_bus_queue q = {
		.index = index, .size = size, .desc = ring.at.desc, .avail = ring.at.avail, .used = ring.at.used, .vector = vector,
	};

	return command(PVHV_BUS_CMD_QUEUE, &q, sizeof(q));
}

static u32 vector(u32 index, u32 on, u64 address, u32 data)
{
	const struct pvhv_bus_vector v = { .index = index, .on = on, .address = address, .data = data };

	return command(PVHV_BUS_CMD_VECTOR, &v, sizeof(v));
}

static u32 config(u32 offset, u32 len, u8 value)
{
	struct pvhv_bus_config c = { .offset = offset, .len = len };

	memset(c.data, value, sizeof(c.data));
	return command(PVHV_BUS_CMD_CONFIG, &c, sizeof(c));
}

static void main_thread(void)
{
	virtio_service(echo);
	fakeloop_run(20);
}

static bool signalled(int fd)
{
	u64 count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

/* Up to DRIVER_OK, queue 1 with vector 1, the configuration with 2 */
static void start(void)
{
	attach();
	ASSERT_EQ(set_status(ACKNOWLEDGED), PVHV_BUS_OK);
	ASSERT_EQ(ack(page->features), PVHV_BUS_OK);
	ASSERT_EQ(set_status(AGREED), PVHV_BUS_OK);
	ASSERT_EQ(page->status, AGREED);
	vring_drv_init(&ring, &mem, RING, 8);
	ASSERT_EQ(vector(1, 1, MSI_ADDR, 0x41), PVHV_BUS_OK);
	ASSERT_EQ(vector(2, 1, MSI_ADDR, 0x42), PVHV_BUS_OK);
	ASSERT_EQ(queue(1, 8, 1), PVHV_BUS_OK);
	ASSERT_EQ(notices(2), PVHV_BUS_OK);
	ASSERT_EQ(set_status(RUNNING), PVHV_BUS_OK);
	ASSERT_EQ(page->status, RUNNING);
	main_thread();
}

static void request(void)
{
	vring_add(&ring, &(struct vring_piece){ 0x20000, 64, true }, 1);
	vring_show(&ring, true);
	vring_want_event(&ring);
	bells_look();
	main_thread();
}

static bool answered(void)
{
	u32 head, len;

	return vring_take(&ring, &head, &len);
}

static void test_cpuid(void)
{
	struct kvm_cpuid2 *table = calloc(1, sizeof(*table) + 2 * sizeof(table->entries[0]));
	const struct kvm_cpuid_entry2 *e;
	const u32 base = 0x40000100;

	table->nent = 2;
	table->entries[0].function = 0x40000000;	/* KVM's */
	table->entries[1].function = 0x40000001;
	ASSERT_EQ(para_cpuid(&table, NULL), 0);
	ASSERT_EQ(table->nent, 2);
	busdev_make();
	ASSERT_EQ(para_cpuid(&table, bus), 0);
	e = cpuid_find(table, base, 0);
	ASSERT(e);
	ASSERT_EQ(e->eax, base + PVHV_CPUID_BUS);
	ASSERT(!memcmp(&e->ebx, PVHV_CPUID_SIGNATURE, 4) && !memcmp(&e->ecx, PVHV_CPUID_SIGNATURE + 4, 4) &&
	       !memcmp(&e->edx, PVHV_CPUID_SIGNATURE + 8, 4));
	e = cpuid_find(table, base + PVHV_CPUID_ABI, 0);
	ASSERT(e && e->eax == PVHV_PARA_VERSION && e->ebx == PVHV_PARA_BUS);
	e = cpuid_find(table, base + PVHV_CPUID_BUS, 0);
	ASSERT(e && e->eax == PORT_BUS && e->ebx == 1);
	busdev_unmake();
	free(table);
}

static void test_registers(void)
{
	busdev_make();
	ASSERT_EQ(busdev_in(PVHV_BUS_FRAME, 4), 0);
	ASSERT_EQ(busdev_in(PVHV_BUS_COMMAND, 4), 0);
	/* other widths, between registers, and slots without a device */
	ASSERT_EQ(busdev_in(PVHV_BUS_FRAME, 1), 0xff);
	ASSERT_EQ(busdev_in(PVHV_BUS_FRAME, 2), 0xffff);
	ASSERT_EQ(busdev_in(PVHV_BUS_FRAME + 2, 4), ~0u);
	ASSERT_EQ(busdev_in(PVHV_BUS_PORTS, 4), ~0u);
	busdev_out(PVHV_BUS_FRAME, PAGE_GPA >> PVHV_BUS_PAGE_SHIFT, 2);
	busdev_out(PVHV_BUS_FRAME + 2, PAGE_GPA >> PVHV_BUS_PAGE_SHIFT, 4);
	busdev_out(PVHV_BUS_PORTS, PAGE_GPA >> PVHV_BUS_PAGE_SHIFT, 4);
	ASSERT_EQ(busdev_in(PVHV_BUS_FRAME, 4), 0);
	/* pages that are no memory */
	attach();
	ASSERT_EQ(busdev_in(PVHV_BUS_FRAME, 4), PAGE_GPA >> PVHV_BUS_PAGE_SHIFT);
	busdev_out(PVHV_BUS_FRAME, BUSDEV_MEM >> PVHV_BUS_PAGE_SHIFT, 4);
	ASSERT_EQ(busdev_in(PVHV_BUS_FRAME, 4), 0);
	attach();
	busdev_out(PVHV_BUS_FRAME, ~0u, 4);
	ASSERT_EQ(busdev_in(PVHV_BUS_FRAME, 4), 0);
	/* without one, nothing is written to where it was */
	memset((void *)page, 0x5a, sizeof(*page));
	busdev_out(PVHV_BUS_COMMAND, PVHV_BUS_CMD_STATUS, 4);
	virtio_config_set(echo, 0, "x", 1);
	ASSERT_EQ(page->status, 0x5a5a5a5a);
	ASSERT_EQ(page->result, 0x5a5a5a5a);
	ASSERT_EQ(page->config[0], 0x5a);
	ASSERT_EQ(virtio_status(echo), 0);
	busdev_unmake();
}

static void test_identity(void)
{
	u32 i;

	busdev_make();
	memset((void *)page, 0x5a, sizeof(*page));
	attach();
	ASSERT_EQ(page->device, 63);
	ASSERT_EQ(page->status, 0);
	ASSERT_EQ(page->features, echo->offered);
	ASSERT_EQ(page->nr_queues, BUSDEV_QUEUES);
	ASSERT_EQ(page->nr_vectors, BUSDEV_QUEUES + 1);
	ASSERT_EQ(page->config_len, BUSDEV_CONFIG);
	ASSERT_EQ(page->bell, 0);
	for (i = 0; i < BUSDEV_QUEUES; i++) {
		ASSERT_EQ(busdev_bells[page->bell + i], echo->queues[i].kick_fd);
		ASSERT_EQ(page->queue_max[i], BUSDEV_SIZE);
	}
	ASSERT_EQ(page->queue_max[i], 0);
	ASSERT_EQ(page->config[3], 4);
	ASSERT_EQ(page->generation % 2, 0);
	ASSERT_EQ(page->rest[0], 0);
	busdev_unmake();
}

static void test_refusals(void)
{
	static const struct pvhv_bus_config empty = { .offset = 8 };

	busdev_make();
	attach();
	ASSERT_EQ(command(0, "", 1), PVHV_BUS_EINVAL);
	ASSERT_EQ(command(7, "", 1), PVHV_BUS_EINVAL);
	ASSERT_EQ(command(~0u, "", 1), PVHV_BUS_EINVAL);
	ASSERT_EQ(set_status(0x100), PVHV_BUS_EINVAL);
	/* before a driver has begun */
	vring_drv_init(&ring, &mem, RING, 8);
	ASSERT_EQ(ack(page->features), PVHV_BUS_EBUSY);
	ASSERT_EQ(queue(0, 8, 0), PVHV_BUS_EBUSY);
	ASSERT_EQ(notices(0), PVHV_BUS_EBUSY);
	ASSERT_EQ(set_status(ACKNOWLEDGED), PVHV_BUS_OK);
	/* features that are not offered: taken as a number, refused as a choice */
	ASSERT_EQ(ack(page->features | 1), PVHV_BUS_OK);
	set_status(AGREED);
	ASSERT_EQ(page->status, ACKNOWLEDGED);
	ASSERT_EQ(ack(page->features), PVHV_BUS_OK);
	set_status(AGREED);
	ASSERT_EQ(page->status, AGREED);
	ASSERT_EQ(ack(0), PVHV_BUS_EBUSY);
	ASSERT_EQ(queue(BUSDEV_QUEUES, 8, 0), PVHV_BUS_EINVAL);
	ASSERT_EQ(queue(~0u, 8, 0), PVHV_BUS_EINVAL);
	ASSERT_EQ(queue(0, 0, 0), PVHV_BUS_EINVAL);
	ASSERT_EQ(queue(0, 6, 0), PVHV_BUS_EINVAL);
	ASSERT_EQ(queue(0, 2 * BUSDEV_SIZE, 0), PVHV_BUS_EINVAL);
	ASSERT_EQ(queue(0, 0x10008, 0), PVHV_BUS_EINVAL);
	ASSERT_EQ(queue(0, 8, 3), PVHV_BUS_EINVAL);
	ASSERT_EQ(queue(0, 8, 0x10000), PVHV_BUS_EINVAL);
	ASSERT_EQ(queue(0, 8, PVHV_BUS_NO_VECTOR), PVHV_BUS_OK);
	ASSERT_EQ(queue(0, 8, 0), PVHV_BUS_EBUSY);
	ASSERT_EQ(notices(3), PVHV_BUS_EINVAL);
	ASSERT_EQ(notices(PVHV_BUS_NO_VECTOR), PVHV_BUS_OK);
	ASSERT_EQ(vector(3, 1, MSI_ADDR, 0), PVHV_BUS_EINVAL);
	ASSERT_EQ(vector(~0u, 1, MSI_ADDR, 0), PVHV_BUS_EINVAL);
	ASSERT_EQ(vector(0, 2, MSI_ADDR, 0), PVHV_BUS_EINVAL);
	busdev_refuse = true;
	ASSERT_EQ(vector(0, 1, MSI_ADDR, 1), PVHV_BUS_EFAIL);
	ASSERT_EQ(vector(0, 0, 0, 0), PVHV_BUS_OK);
	busdev_refuse = false;
	ASSERT_EQ(config(8, 33, 1), PVHV_BUS_EINVAL);
	ASSERT_EQ(config(9, 8, 1), PVHV_BUS_EINVAL);
	ASSERT_EQ(config(~0u, 8, 1), PVHV_BUS_EINVAL);
	ASSERT_EQ(config(8, ~0u, 1), PVHV_BUS_EINVAL);
	ASSERT_EQ(command(PVHV_BUS_CMD_CONFIG, &empty, sizeof(empty)), PVHV_BUS_EINVAL);
	busdev_unmake();
}

static void test_requests(void)
{
	int call;

	busdev_make();
	call = echo->queues[1].call_fd;
	start();
	ASSERT_EQ(busdev_irqfd[25], 1);
	ASSERT_EQ(busdev_routes[25].addr, MSI_ADDR);
	ASSERT_EQ(busdev_routes[25].data, 0x41);
	request();
	ASSERT(answered());
	ASSERT(signalled(call));
	/* moved: the binding stays, the message is another */
	ASSERT_EQ(vector(1, 1, MSI_ADDR | 0x1000, 0x51), PVHV_BUS_OK);
	ASSERT_EQ(busdev_irqfd[25], 1);
	ASSERT_EQ(busdev_routes[25].addr, MSI_ADDR | 0x1000);
	ASSERT_EQ(busdev_routes[25].data, 0x51);
	/* off: the signal waits */
	ASSERT_EQ(vector(1, 0, 0, 0), PVHV_BUS_OK);
	ASSERT_EQ(busdev_irqfd[25], 0);
	request();
	ASSERT(answered());
	ASSERT_EQ(vector(1, 1, MSI_ADDR, 0x41), PVHV_BUS_OK);
	ASSERT_EQ(busdev_irqfd[25], 1);
	ASSERT(signalled(call));
	busdev_unmake();
}

static void test_config(void)
{
	u32 before;

	busdev_make();
	start();
	before = page->generation;
	virtio_config_set(echo, 1, "ab", 2);
	ASSERT_EQ(page->generation, before + 2);
	ASSERT_EQ(page->config[1], 'a');
	ASSERT_EQ(page->config[2], 'b');
	ASSERT(signalled(echo->config_fd));
	virtio_config_set(echo, 1, "ab", 2);	/* no news */
	ASSERT_EQ(page->generation, before + 2);
	ASSERT(!signalled(echo->config_fd));
	/* the driver's half */
	ASSERT_EQ(config(8, 8, 0x77), PVHV_BUS_OK);
	main_thread();
	ASSERT_EQ(busdev_written, 8);
	ASSERT_EQ(page->config[15], 0x77);
	/* not its */
	ASSERT_EQ(config(0, 8, 0x78), PVHV_BUS_OK);
	main_thread();
	ASSERT_EQ(busdev_written, 8);
	ASSERT_EQ(page->config[0], 1);
	/* what the guest does to the host's part changes nothing */
	memset((void *)page, 0xff, sizeof(*page));
	virtio_config_set(echo, 0, "c", 1);
	ASSERT_EQ(page->config[0], 'c');
	ASSERT_EQ(page->config[15], 0x77);
	ASSERT_EQ(page->generation % 2, 0);
	ASSERT_EQ(page->status, RUNNING);
	busdev_unmake();
}

static void test_reset(void)
{
	busdev_make();
	start();
	ASSERT_EQ(set_status(0), PVHV_BUS_OK);
	ASSERT_EQ(page->status, RUNNING);	/* not yet */
	main_thread();
	ASSERT_EQ(page->status, 0);
	ASSERT_EQ(busdev_irqfd[25], 0);
	ASSERT_EQ(busdev_irqfd[26], 0);
	start();
	request();
	ASSERT(answered());
	ASSERT(signalled(echo->queues[1].call_fd));
	busdev_unmake();
}

static void test_broken(void)
{
	busdev_make();
	start();
	vring_offer(&ring, 100);
	vring_show(&ring, true);
	bells_look();
	main_thread();
	ASSERT_EQ(page->status, RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
	ASSERT(signalled(echo->config_fd));
	set_status(0);
	main_thread();
	ASSERT_EQ(page->status, 0);
	busdev_unmake();
}

static void test_moved_page(void)
{
	volatile struct pvhv_bus_page *other;

	busdev_make();
	start();
	busdev_out(PVHV_BUS_FRAME, 5, 4);
	other = page_at(0x5000);
	ASSERT_EQ(other->status, RUNNING);
	ASSERT_EQ(other->config[0], 1);
	memset((void *)page, 0, sizeof(*page));
	virtio_config_set(echo, 0, "z", 1);
	ASSERT_EQ(other->config[0], 'z');
	ASSERT_EQ(page->config[0], 0);
	busdev_out(PVHV_BUS_FRAME, 0, 4);
	virtio_config_set(echo, 0, "y", 1);
	ASSERT_EQ(other->config[0], 'z');
	ASSERT_EQ(virtio_status(echo), RUNNING);	/* it needs no page to go on */
	request();
	ASSERT(answered());
	busdev_unmake();
}

static void test_state(void)
{
	struct state st, again;

	busdev_make();
	start();
	request();
	ASSERT(answered());
	ASSERT_EQ(vector(1, 0, 0, 0), PVHV_BUS_OK);
	request();		/* its interrupt waits */
	virtio_pause(echo);
	main_thread();
	ASSERT(virtio_quiet(echo));
	state_init(&st);
	ASSERT_EQ(devices_save(&devs, &st), 0);
	busdev_unmake();

	busdev_make();
	ASSERT_EQ(devices_load(&devs, st.data, st.len), 0);
	main_thread();
	ASSERT_EQ(busdev_in(PVHV_BUS_FRAME, 4), PAGE_GPA >> PVHV_BUS_PAGE_SHIFT);
	ASSERT_EQ(page->status, RUNNING);
	ASSERT_EQ(page->generation % 2, 0);
	ASSERT_EQ(busdev_irqfd[25], 0);
	ASSERT_EQ(busdev_irqfd[26], 1);
	ASSERT_EQ(busdev_routes[26].data, 0x42);
	ASSERT_EQ(vector(1, 1, MSI_ADDR, 0x41), PVHV_BUS_OK);
	ASSERT(signalled(echo->queues[1].call_fd));
	ASSERT(answered());
	request();
	ASSERT(answered());
	virtio_pause(echo);
	main_thread();
	state_init(&again);
	ASSERT_EQ(devices_save(&devs, &again), 0);
	ASSERT(st.len == again.len);
	busdev_unmake();
	state_free(&again);

	/* of a machine with less memory, and damaged */
	busdev_make();
	mem.low = mem.size = PAGE_GPA;
	ASSERT_NE(devices_load(&devs, st.data, st.len), 0);
	mem.low = mem.size = BUSDEV_MEM;
	ASSERT_NE(devices_load(&devs, st.data, st.len - 1), 0);
	busdev_unmake();
	state_free(&st);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(cpuid),
		TEST(registers),
		TEST(identity),
		TEST(refusals),
		TEST(requests),
		TEST(config),
		TEST(reset),
		TEST(broken),
		TEST(moved_page),
		TEST(state),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
