// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies pvhv-run's guest device with this program as the guest's driver: panics with any text, a new identity and time on
 * request, freeze and thaw with their answers, refusals, time-outs and a driver that goes; saved and loaded state.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <linux/pvhv_para.h>

#include "tap.h"
#include "fuzz/fakeloop.h"
#include "../vmm/control.h"
#include "../vmm/virtio.h"
#include "../vmm/virtio_guest.h"

#define FIELD(name)	offsetof(struct pvhv_guest_config, name)

#define RUNNING	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)

static struct vm vm;
static int generations;
static struct virtio *v;
static char events[512];
static struct control_call call;
static int answers, answer_err;
static json_t *answer;

static void on_event(const char *type, json_t *event)
{
	char *text = json_dumps(event, JSON_COMPACT | JSON_SORT_KEYS);

	snprintf(events + strlen(events), sizeof(events) - strlen(events), "%s %s;", type, text);
	free(text);
}

static void done(struct control_call *c, json_t *result, int err, const char *why)
{
	ASSERT(c == &call);
	json_decref(answer);
	answer = result;
	answer_err = err;
	answers++;
	ASSERT(!err == !why);
}

static void silent(const char *line)
{
}

/* ACPI's half of a new identity */
void power_generation(struct device *dev)
{
	(void)dev;
	generations++;
}

static struct control_source *source(void)
{
	return control_find("guest", "guest");
}

static void run(const char *command, json_t *params)
{
	call.done = done;
	control_run(source(), command, params, &call);
	json_decref(params);
}

static s64 status_of(const char *name)
{
	json_t *obj = source()->status(source()->arg), *value = json_object_get(obj, name);
	s64 n = json_is_boolean(value) ? json_is_true(value) : json_integer_value(value);

	ASSERT(value);
	json_decref(obj);
	return n;
}

static void start(void)
{
	virtio_set_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_ack(v, 0, v->offered);
	virtio_ack(v, 1, v->offered >> 32);
	virtio_set_status(v, RUNNING & ~VIRTIO_CONFIG_S_DRIVER_OK);
	virtio_set_status(v, RUNNING);
	virtio_service(v);
	fakeloop_run(1);
}

static void make(void)
{
	ASSERT(!mem_init(&vm.mem, IDENTITY_GPA + MIB, MEM_PAGES_SMALL));
	fail_sink = silent;
	control_event_sink = on_event;
	events[0] = 0;
	answers = 0;
	v = virtio_guest_create(&vm);
	ASSERT(v);
	vm.virtios = v;
	virtio_open(v);
}

static void unmake(void)
{
	virtio_close(v);
	virtio_device_ops()->destroy(&v->dev);
	ASSERT(!source());
	vm.virtios = NULL;
	mem_fini(&vm.mem);
	json_decref(answer);
	answer = NULL;
}

static struct pvhv_guest_config config(void)
{
	struct pvhv_guest_config c;

	virtio_config_read(v, 0, (u8 *)&c, sizeof(c));
	return c;
}

static void answer_freeze(u32 number, u32 state, u32 count)
{
	const u32 a[] = { number, state, count };

	virtio_config_write(v, FIELD(freeze_done), (const u8 *)a, sizeof(a));
	virtio_service(v);
}

static void test_panic(void)
{
	u8 message[PVHV_GUEST_MESSAGE];
	u32 one = 1;

	make();
	start();
	ASSERT_EQ(status_of("driver"), 1);
	ASSERT_EQ(status_of("panics"), 0);
	memset(message, 0, sizeof(message));
	strcpy((char *)message, "it broke\n\"\xff");
	virtio_config_write(v, FIELD(message), message, sizeof(message));
	virtio_service(v);
	ASSERT_EQ(status_of("panics"), 0);
	virtio_config_write(v, FIELD(panics), (u8 *)&one, sizeof(one));
	virtio_service(v);
	ASSERT_EQ(status_of("panics"), 1);
	ASSERT(strstr(events, "guest-panicked") && strstr(events, "it broke?\\\"?"));
	/* no end */
	memset(message, 'x', sizeof(message));
	virtio_config_write(v, FIELD(message), message, sizeof(message));
	virtio_config_write(v, FIELD(panics), (u8 *)&one, sizeof(one));
	virtio_service(v);
	ASSERT_EQ(status_of("panics"), 2);
	/* the host's half is not the guest's to write */
	virtio_config_write(v, FIELD(identity), message, 16);
	virtio_config_write(v, FIELD(reserved), message, 8);
	ASSERT_EQ(config().identity[0], 0);
	ASSERT_EQ(config().reserved, 0);
	unmake();
}

static void test_renew(void)
{
	struct pvhv_guest_config before, after;
	u64 now = time(NULL) * 1000000000ULL;
	int told = generations;
	u8 id[IDENTITY_LEN];

	make();
	start();
	before = config();
	run("renew", NULL);
	ASSERT_EQ(answer_err, 0);
	after = config();
	ASSERT_EQ(after.renewals, before.renewals + 1);
	ASSERT(memcmp(before.identity, after.identity, sizeof(after.identity)));
	ASSERT(after.clock_ns >= now && after.clock_ns < now + 100000000000ULL);
	ASSERT_EQ(after.freeze, 0);
	/* One identity, by whichever device the guest learns of it */
	ASSERT_EQ(generations, told + 1);
	ASSERT(!identity_get(&vm, id));
	ASSERT(!memcmp(id, after.identity, sizeof(id)));
	before = after;
	guest_renew(v, (const u8 *)"fedcba9876543210");
	ASSERT(!memcmp("fedcba9876543210", config().identity, sizeof(after.identity)));
	ASSERT_EQ(status_of("renewals"), 2);
	unmake();
}

static void test_freeze(void)
{
	make();
	run("freeze", NULL);
	ASSERT_EQ(answer_err, -ENOTCONN);
	start();
	run("freeze", json_pack("{s:i}", "timeout_ms", 0));
	ASSERT_EQ(answer_err, -ERANGE);
	run("freeze", json_pack("{s:i}", "timeout_ms", 1234));
	ASSERT_EQ(answers, 2);
	ASSERT_EQ(config().freeze, 1);
	ASSERT_EQ(config().freeze_ms, 1234);
	answer_freeze(0, PVHV_GUEST_FROZEN, 3);		/* of no request */
	answer_freeze(2, PVHV_GUEST_FROZEN, 3);
	ASSERT_EQ(answers, 2);
	answer_freeze(1, PVHV_GUEST_FROZEN, 3);
	ASSERT_EQ(answers, 3);
	ASSERT_EQ(answer_err, 0);
	ASSERT_EQ(json_integer_value(json_object_get(answer, "file_systems")), 3);
	ASSERT_EQ(status_of("frozen"), 1);
	run("thaw", NULL);
	ASSERT_EQ(config().freeze, 2);
	ASSERT_EQ(config().freeze_ms, 0);
	answer_freeze(2, PVHV_GUEST_RUNS, 3);
	ASSERT_EQ(answers, 4);
	ASSERT_EQ(status_of("frozen"), 0);
	/* by itself */
	run("freeze", NULL);
	answer_freeze(3, PVHV_GUEST_FROZEN, 1);
	answer_freeze(3, PVHV_GUEST_OVERDUE, 1);
	ASSERT_EQ(answers, 5);
	ASSERT_EQ(status_of("frozen"), 0);
	ASSERT(strstr(events, "guest-thawed {\"overdue\":true"));
	/* cannot */
	run("freeze", NULL);
	answer_freeze(4, PVHV_GUEST_REFUSED, 0);
	ASSERT_EQ(answer_err, -EIO);
	unmake();
}

static void test_no_answer(void)
{
	make();
	start();
	run("freeze", NULL);
	run("thaw", NULL);
	ASSERT_EQ(answer_err, -EBUSY);
	ASSERT_EQ(answers, 1);
	/* the driver goes */
	virtio_set_status(v, 0);
	virtio_service(v);
	ASSERT_EQ(virtio_status(v), 0);
	ASSERT_EQ(answer_err, -ECONNRESET);
	start();
	run("freeze", NULL);
	ASSERT(fakeloop_timer && fakeloop_timer->busy);
	fakeloop_fire(fakeloop_timer);
	ASSERT_EQ(answer_err, -ETIMEDOUT);
	answer_freeze(2, PVHV_GUEST_FROZEN, 1);		/* too late, but so it is */
	ASSERT_EQ(answers, 3);
	ASSERT_EQ(status_of("frozen"), 1);
	/* the machine ends while somebody waits */
	run("thaw", NULL);
	unmake();
	ASSERT_EQ(answer_err, -ECANCELED);
}

static void test_state(void)
{
	struct state_section sec;
	struct state st;

	make();
	start();
	run("renew", NULL);
	run("freeze", NULL);
	answer_freeze(1, PVHV_GUEST_FROZEN, 1);
	virtio_pause(v);
	state_init(&st);
	state_begin(&st, "guest", 1);
	virtio_device_ops()->save(&v->dev, &st);
	state_end(&st);
	unmake();
	make();
	ASSERT_EQ(state_find(st.data, st.len, "guest", &sec), 0);
	ASSERT_EQ(virtio_device_ops()->load(&v->dev, &sec), 0);
	virtio_service(v);
	ASSERT_EQ(status_of("driver"), 1);
	ASSERT_EQ(status_of("frozen"), 1);
	ASSERT_EQ(status_of("renewals"), 1);
	run("thaw", NULL);
	ASSERT_EQ(config().freeze, 2);
	answer_freeze(2, PVHV_GUEST_RUNS, 1);
	ASSERT_EQ(answer_err, 0);
	unmake();
	state_free(&st);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(panic),
		TEST(renew),
		TEST(freeze),
		TEST(no_answer),
		TEST(state),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
