// SPDX-License-Identifier: GPL-2.0
/*
 * All file systems on block devices stand still, and go on.
 *  1. Which there are: modules cannot walk all superblocks, only those of a
 *     type, and cannot walk the types; /proc/filesystems has their names.
 *  2. Frozen the newest first, as a file system may lie in a file of an older
 *     one; thawed in the opposite order. Each is held by a reference until
 *     then, whoever unmounts it.
 */
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "compat.h"
#include "pvhv_guest.h"

#define TYPES_FILE	"/proc/filesystems"

struct held {
	struct list_head link;
	struct super_block *sb;
	bool frozen;
};

static LIST_HEAD(all);		/* the newest first */
static int failure;		/* of a callback */

static void hold(struct super_block *sb, void *unused)
{
	struct held *h;

	if (!sb->s_bdev || sb_rdonly(sb) || failure)
		return;
	h = kzalloc(sizeof(*h), GFP_KERNEL);
	if (!h) {
		failure = -ENOMEM;
		return;
	}
	if (!atomic_inc_not_zero(&sb->s_active)) {
		kfree(h);	/* it is being unmounted */
		return;
	}
	h->sb = sb;
	list_add(&h->link, &all);
}

static void hold_type(const char *name)
{
	struct file_system_type *type = get_fs_type(name);

	if (!type)
		return;
	iterate_supers_type(type, hold, NULL);
	module_put(type->owner);
}

/* Lines are "nodev<tab>NAME" and "<tab>NAME". */
static void hold_types(char *text)
{
	char *line;

	while ((line = strsep(&text, "\n"))) {
		if (line[0] == '\t')
			hold_type(line + 1);
	}
}

static int hold_all(void)
{
	struct file *file;
	loff_t pos = 0;
	ssize_t len;
	char *text;

	text = (char *)get_zeroed_page(GFP_KERNEL);
	if (!text)
		return -ENOMEM;
	file = filp_open(TYPES_FILE, O_RDONLY, 0);
	if (IS_ERR(file)) {
		free_page((unsigned long)text);
		return PTR_ERR(file);
	}
	len = kernel_read(file, text, PAGE_SIZE - 1, &pos);
	filp_close(file, NULL);
	failure = len < 0 ? len : 0;
	if (len > 0)
		hold_types(text);
	free_page((unsigned long)text);
	return failure;
}

/* Two of them may share a device; the second is frozen with the first. */
static int freeze(struct held *h)
{
	int ret = pvhv_freeze_super(h->sb);

	h->frozen = !ret;
	if (ret)
		pr_err("pvhv_guest: %s on %pg cannot be frozen: %d\n",
		       h->sb->s_type->name, h->sb->s_bdev, ret);
	return ret;
}

int pvhv_thaw_all(void)
{
	struct held *h, *next;
	int nr = 0, ret;

	list_for_each_entry_safe_reverse(h, next, &all, link) {
		if (h->frozen) {
			ret = pvhv_thaw_super(h->sb);
			if (ret)
				pr_warn("pvhv_guest: %s on %pg was thawed by somebody else\n",
					h->sb->s_type->name, h->sb->s_bdev);
			nr++;
		}
		list_del(&h->link);
		deactivate_super(h->sb);
		kfree(h);
	}
	return nr;
}

int pvhv_freeze_all(void)
{
	struct held *h;
	int nr = 0, ret;

	if (!list_empty(&all))
		return -EBUSY;
	ret = hold_all();
	if (ret)
		goto err;
	list_for_each_entry(h, &all, link) {
		ret = freeze(h);
		if (ret)
			goto err;
		nr++;
	}
	return nr;
err:
	pvhv_thaw_all();
	return ret;
}
