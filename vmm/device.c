// SPDX-License-Identifier: GPL-2.0
/*
 * The table of devices: what a VM has, saved and loaded as one state.
 *  1. devices_save(): one section per device, in the order of creation.
 *  2. devices_load(): every device must find its section.
 */
#include <errno.h>

#include "vmm.h"

void devices_init(struct devices *devs)
{
	devs->head = NULL;
	devs->tail = &devs->head;
}

/* @name, unique in the machine, lives as long as the device. */
void devices_add_named(struct devices *devs, struct device *dev,
		       const struct device_ops *ops, const char *name)
{
	dev->ops = ops;
	dev->name = name;
	dev->next = NULL;
	*devs->tail = dev;
	devs->tail = &dev->next;
}

void devices_add(struct devices *devs, struct device *dev,
		 const struct device_ops *ops)
{
	devices_add_named(devs, dev, ops, ops->name);
}

int devices_save(struct devices *devs, struct state *st)
{
	struct device *dev;

	for (dev = devs->head; dev; dev = dev->next) {
		state_begin(st, dev->name, dev->ops->version);
		dev->ops->save(dev, st);
		state_end(st);
	}
	return st->err;
}

int devices_load(struct devices *devs, const void *data, size_t len)
{
	struct state_section sec;
	struct device *dev;
	int ret;

	for (dev = devs->head; dev; dev = dev->next) {
		ret = state_find(data, len, dev->name, &sec);
		if (ret)
			return fail(ret, "state: no usable section '%s': the state is of another VM or damaged",
				    dev->name);
		if (sec.version > dev->ops->version)
			return fail(-EPROTONOSUPPORT,
				    "state: section '%s' has version %u, known is up to %u: use a newer pvhv-run",
				    dev->name, sec.version,
				    dev->ops->version);
		ret = dev->ops->load(dev, &sec);
		if (ret)
			return fail(ret, "state: section '%s' is damaged: save it again",
				    dev->name);
	}
	return 0;
}

void devices_destroy(struct devices *devs)
{
	struct device *dev = devs->head, *next;

	for (; dev; dev = next) {
		next = dev->next;
		dev->ops->destroy(dev);
	}
	devices_init(devs);
}
