// SPDX-License-Identifier: GPL-2.0
/*
 * The guest device (linux/pvhv_para.h, 5).
 *  1. A panic is told to the host.
 *  2. After a restore, or in a clone: the random number generator takes a new
 *     seed, the clock is set, networks take their new addresses, user space is
 *     told (NEW_VMGENID=1, as the ACPI device of that name does).
 *  3. File systems are frozen and thawed on request, and thawed when the host
 *     forgets to.
 */
#include <linux/fs.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/panic_notifier.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/workqueue.h>
#include <linux/pvhv_para.h>

#include "compat.h"
#include "pvhv_guest.h"

#define RANDOM_FILE	"/dev/urandom"
#define CLOCK_OFF_NS	(100 * NSEC_PER_MSEC)	/* this much is not worth a step */

/* What the guest answers is one write. */
struct answer {
	__virtio32 done, state, count;
};

struct guest {
	struct virtio_device *vdev;
	struct notifier_block panic;
	struct work_struct work;
	struct delayed_work overdue;
	struct mutex lock;	/* both works, and the fields below */
	u32 renewals;
	u32 freeze;		/* the last request's number */
	bool frozen;
};

static u32 read_u32(struct guest *g, unsigned int offset)
{
	__virtio32 value;

	g->vdev->config->get(g->vdev, offset, &value, sizeof(value));
	return virtio32_to_cpu(g->vdev, value);
}

#define FIELD(g, field)	read_u32(g, offsetof(struct pvhv_guest_config, field))

/* 1. Panics: no sleep, no lock that anybody could hold for long. */

static int panicked(struct notifier_block *nb, unsigned long event, void *text)
{
	struct guest *g = container_of(nb, struct guest, panic);
	struct virtio_device *vdev = g->vdev;
	__virtio32 one = cpu_to_virtio32(vdev, 1);
	char message[PVHV_GUEST_MESSAGE] = { };

	strscpy(message, text ? text : "", sizeof(message));
	vdev->config->set(vdev, offsetof(struct pvhv_guest_config, message),
			  message, sizeof(message));
	vdev->config->set(vdev, offsetof(struct pvhv_guest_config, panics),
			  &one, sizeof(one));
	return NOTIFY_DONE;
}

/* 2. A new life. */

/* What is mixed in counts at the next reseed, so there is one at once. */
static void reseed(const u8 *identity, size_t len)
{
	struct file *file;

	add_device_randomness(identity, len);
	file = filp_open(RANDOM_FILE, O_RDWR, 0);
	if (IS_ERR(file)) {
		pr_warn("pvhv_guest: no " RANDOM_FILE ": new entropy counts later\n");
		return;
	}
	if (vfs_ioctl(file, RNDRESEEDCRNG, 0))
		pr_warn("pvhv_guest: the random number generator was not reseeded\n");
	filp_close(file, NULL);
}

static void set_clock(u64 ns)
{
	struct timespec64 to = ns_to_timespec64(ns);
	s64 off = ns - ktime_get_real_ns();

	if (abs(off) < CLOCK_OFF_NS)
		return;
	if (do_settimeofday64(&to))
		pr_warn("pvhv_guest: the clock was not set\n");
	else
		pr_info("pvhv_guest: the clock was off by %lld ms\n",
			-div_s64(off, NSEC_PER_MSEC));
}

static void renew(struct guest *g)
{
	char *env[] = { "NEW_VMGENID=1", NULL };
	struct virtio_device *vdev = g->vdev;
	struct pvhv_guest_config c;
	u32 before, renewals = FIELD(g, renewals);

	if (renewals == g->renewals)
		return;
	/* Identity, clock and count are of one moment. */
	do {
		before = vdev->config->generation(vdev);
		vdev->config->get(vdev, 0, &c,
				  offsetof(struct pvhv_guest_config, freeze));
	} while (vdev->config->generation(vdev) != before);
	g->renewals = le32_to_cpu((__force __le32)c.renewals);
	reseed(c.identity, sizeof(c.identity));
	set_clock(le64_to_cpu((__force __le64)c.clock_ns));
	pvhv_take_addresses();
	kobject_uevent_env(&vdev->dev.kobj, KOBJ_CHANGE, env);
	pr_info("pvhv_guest: this machine was restored or cloned\n");
}

/* 3. Standing still. */

static void answer(struct guest *g, u32 state, u32 count)
{
	struct answer a = {
		.done = cpu_to_virtio32(g->vdev, g->freeze),
		.state = cpu_to_virtio32(g->vdev, state),
		.count = cpu_to_virtio32(g->vdev, count),
	};

	g->vdev->config->set(g->vdev,
			     offsetof(struct pvhv_guest_config, freeze_done),
			     &a, sizeof(a));
}

static void thaw(struct guest *g, u32 state)
{
	int nr = pvhv_thaw_all();

	g->frozen = false;
	answer(g, state, nr);
}

static void freeze(struct guest *g, u32 ms)
{
	int nr = pvhv_freeze_all();

	if (nr < 0) {
		pr_err("pvhv_guest: file systems cannot be frozen: %d\n", nr);
		answer(g, PVHV_GUEST_REFUSED, 0);
		return;
	}
	g->frozen = true;
	schedule_delayed_work(&g->overdue, msecs_to_jiffies(ms));
	answer(g, PVHV_GUEST_FROZEN, nr);
}

static void overdue(struct work_struct *work)
{
	struct guest *g = container_of(to_delayed_work(work), struct guest,
				       overdue);

	mutex_lock(&g->lock);
	if (g->frozen) {
		pr_warn("pvhv_guest: frozen for too long: going on\n");
		thaw(g, PVHV_GUEST_OVERDUE);
	}
	mutex_unlock(&g->lock);
}

/* A request while frozen begins with a thaw: the snapshot is of one moment. */
static void request(struct guest *g)
{
	u32 number = FIELD(g, freeze), ms = FIELD(g, freeze_ms);

	if (number == g->freeze)
		return;
	g->freeze = number;
	if (g->frozen || !ms) {
		/* the work takes the lock that is held here: not _sync */
		cancel_delayed_work(&g->overdue);
		if (!ms) {
			thaw(g, PVHV_GUEST_RUNS);
			return;
		}
		pvhv_thaw_all();
		g->frozen = false;
	}
	freeze(g, ms);
}

static void work(struct work_struct *work)
{
	struct guest *g = container_of(work, struct guest, work);

	mutex_lock(&g->lock);
	renew(g);
	request(g);
	mutex_unlock(&g->lock);
}

/* The driver. */

static void config_changed(struct virtio_device *vdev)
{
	struct guest *g = vdev->priv;

	schedule_work(&g->work);
}

static int probe(struct virtio_device *vdev)
{
	struct guest *g;
	int ret;

	if (!vdev->config->generation)
		return -ENODEV;
	g = kzalloc(sizeof(*g), GFP_KERNEL);
	if (!g)
		return -ENOMEM;
	g->vdev = vdev;
	g->panic.notifier_call = panicked;
	INIT_WORK(&g->work, work);
	INIT_DELAYED_WORK(&g->overdue, overdue);
	mutex_init(&g->lock);
	vdev->priv = g;
	/* For its interrupt: it has no queue. */
	ret = pvhv_find_no_vqs(vdev);
	if (ret) {
		kfree(g);
		return ret;
	}
	/* What was before is not for us. */
	g->renewals = FIELD(g, renewals);
	g->freeze = FIELD(g, freeze);
	virtio_device_ready(vdev);
	atomic_notifier_chain_register(&panic_notifier_list, &g->panic);
	return 0;
}

static void remove(struct virtio_device *vdev)
{
	struct guest *g = vdev->priv;

	atomic_notifier_chain_unregister(&panic_notifier_list, &g->panic);
	virtio_reset_device(vdev);
	cancel_work_sync(&g->work);
	cancel_delayed_work_sync(&g->overdue);
	if (g->frozen)
		pvhv_thaw_all();
	vdev->config->del_vqs(vdev);
	kfree(g);
}

static const struct virtio_device_id ids[] = {
	{ PVHV_GUEST_DEVICE, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, ids);

static struct virtio_driver guest_driver = {
	.driver.name = "pvhv_guest",
	.driver.owner = THIS_MODULE,
	.id_table = ids,
	.probe = probe,
	.remove = remove,
	.config_changed = config_changed,
};
module_virtio_driver(guest_driver);

MODULE_DESCRIPTION("panics, restores and snapshots of guests of the pvhv hypervisor");
MODULE_LICENSE("GPL");
