// SPDX-License-Identifier: GPL-2.0
/*
 * How a guest ends, or is asked to.
 *  1. ACPI's sleep control and status registers (hardware-reduced): writing
 *     S5 with the enable bit powers the machine off.
 *  2. Events, the power button's first: a register read by the GED's method.
 *  3. Reset: the register at 0xcf9 that the FADT names, and the keyboard
 *     controller's pulse, the only thing this machine has of an i8042.
 *  4. The exit port, if asked for: a byte written is the exit status.
 */
#include <errno.h>
#include <stdlib.h>

#include "vmm.h"

#define PM_CONTROL	0
#define PM_STATUS	1
#define PM_EVENTS	2

#define SLEEP_ENABLE	0x20
#define SLEEP_TYPE(v)	(((v) >> 2) & 7)
#define SLEEP_S5	5
#define EVENTS_ALL	(POWER_EVENT_BUTTON | POWER_EVENT_GENERATION)
#define RESET_NOW	0x04
#define I8042_PULSE	0xf0	/* pulse output lines, low nibble: mask */

struct power {
	struct device dev;
	struct power_host host;
	pthread_mutex_t lock;
	u8 events;		/* [l] lock */
};

static void pm_read(void *arg, u64 off, u8 *data, u32 len)
{
	struct power *pw = arg;

	if (len != 1)
		return;
	*data = 0;
	if (off != PM_EVENTS)
		return;		/* sleep control reads 0, status: never woken */
	pthread_mutex_lock(&pw->lock);
	*data = pw->events;
	if (pw->events)
		pw->host.irq(pw->host.arg, false);
	pw->events = 0;
	pthread_mutex_unlock(&pw->lock);
}

static void pm_write(void *arg, u64 off, const u8 *data, u32 len)
{
	struct power *pw = arg;

	if (len == 1 && off == PM_CONTROL && (*data & SLEEP_ENABLE) &&
	    SLEEP_TYPE(*data) == SLEEP_S5)
		pw->host.stop(pw->host.arg, STATUS_POWEROFF);
}

static void raise_event(struct device *dev, u8 event)
{
	struct power *pw = container_of(dev, struct power, dev);

	pthread_mutex_lock(&pw->lock);
	if (!pw->events)
		pw->host.irq(pw->host.arg, true);
	pw->events |= event;
	pthread_mutex_unlock(&pw->lock);
}

void power_button(struct device *dev)
{
	raise_event(dev, POWER_EVENT_BUTTON);
}

void power_generation(struct device *dev)
{
	raise_event(dev, POWER_EVENT_GENERATION);
}

static void zero_read(void *arg, u64 off, u8 *data, u32 len)
{
	(void)arg;
	(void)off;
	if (len == 1)
		*data = 0;
}

static void reset_write(void *arg, u64 off, const u8 *data, u32 len)
{
	struct power *pw = arg;

	(void)off;
	if (len == 1 && (*data & RESET_NOW))
		pw->host.stop(pw->host.arg, STATUS_REBOOT);
}

static void i8042_write(void *arg, u64 off, const u8 *data, u32 len)
{
	struct power *pw = arg;

	(void)off;
	/* Output line 0 is the CPUs' reset; a zero in the mask pulses it. */
	if (len == 1 && (*data & I8042_PULSE) == I8042_PULSE && !(*data & 1))
		pw->host.stop(pw->host.arg, STATUS_REBOOT);
}

static void ignore_write(void *arg, u64 off, const u8 *data, u32 len)
{
	(void)arg;
	(void)off;
	(void)data;
	(void)len;
}

static void exit_write(void *arg, u64 off, const u8 *data, u32 len)
{
	struct power *pw = arg;

	(void)off;
	if (len == 1)
		pw->host.stop(pw->host.arg, *data);
}

int power_attach(struct device *dev, struct iobus *pio, bool exit_port)
{
	struct power *pw = container_of(dev, struct power, dev);
	const struct iobus_region regions[] = {
		{ PORT_PM, 3, pm_read, pm_write, pw },
		{ PORT_RESET, 1, zero_read, reset_write, pw },
		{ PORT_I8042_CMD, 1, zero_read, i8042_write, pw },
		{ PORT_I8042_DATA, 1, zero_read, ignore_write, pw },
		{ PORT_EXIT, 1, zero_read, exit_write, pw },
	};
	unsigned int i, nr = ARRAY_SIZE(regions) - !exit_port;
	int ret = 0;

	for (i = 0; i < nr && !ret; i++)
		ret = iobus_add(pio, &regions[i]);
	return ret;
}

static void power_save(struct device *dev, struct state *st)
{
	struct power *pw = container_of(dev, struct power, dev);

	pthread_mutex_lock(&pw->lock);
	state_put_u64(st, "events", pw->events);
	pthread_mutex_unlock(&pw->lock);
}

static int power_load(struct device *dev, const struct state_section *sec)
{
	struct power *pw = container_of(dev, struct power, dev);
	u64 events;

	if (state_get_u64(sec, "events", EVENTS_ALL, &events))
		return -EBADMSG;
	pthread_mutex_lock(&pw->lock);
	pw->events = events;
	pthread_mutex_unlock(&pw->lock);
	return 0;
}

static void power_free(struct device *dev)
{
	struct power *pw = container_of(dev, struct power, dev);

	pthread_mutex_destroy(&pw->lock);
	free(pw);
}

static const struct device_ops power_ops = {
	.name = "power",
	.version = 1,
	.save = power_save,
	.load = power_load,
	.destroy = power_free,
};

const struct device_ops *power_device_ops(void)
{
	return &power_ops;
}

struct device *power_create(const struct power_host *host)
{
	struct power *pw = calloc(1, sizeof(*pw));

	if (!pw)
		return NULL;
	pw->host = *host;
	pthread_mutex_init(&pw->lock, NULL);
	return &pw->dev;
}
