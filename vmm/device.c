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

void devices_add(struct devices *devs, struct device *dev,
		 const struct device_ops *ops)
{
	dev->ops = ops;
	dev->next = NULL;
	*devs->tail = dev;
	devs->tail = &dev->next;
}

int devices_save(struct devices *devs, struct state *st)
{
	struct device *dev;

	for (dev = devs->head; dev; dev = dev->next) {
		state_begin(st, dev->ops->name, dev->ops->version);
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
		ret = state_find(data, len, dev->ops->name, &sec);
		if (ret)
			return fail(ret, "state: no usable section '%s': the state is of another VM or damaged",
				    dev->ops->name);
		if (sec.version > dev->ops->version)
			return fail(-EPROTONOSUPPORT,
				    "state: section '%s' has version %u, known is up to %u: use a newer pvhv-run",
				    dev->ops->name, sec.version,
				    dev->ops->version);
		ret = dev->ops->load(dev, &sec);
		if (ret)
			return fail(ret, "state: section '%s' is damaged: save it again",
				    dev->ops->name);
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
