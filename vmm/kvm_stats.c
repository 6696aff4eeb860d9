// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's own statistics of a VM or a vCPU, in KVM's binary format: a
 * file that describes its numbers.  The description is read once and holds for
 * all vCPUs.  Files are opened before the vCPUs run: an ioctl of a vCPU waits
 * until KVM_RUN returns, which may be never.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "control.h"

#define NAME_MAX_LEN	256
#define DESCS_MAX	1024

struct kvm_stat {
	char *name;		/* as a metric */
	u32 offset;		/* in the data */
	bool counter;
	double scale;		/* 0: a whole number */
};

struct kvm_stats {
	const char *help;
	struct kvm_stat *stat;
	unsigned int nr;
	u64 *data;
	size_t data_len;
	u32 data_offset;	/* in the file */
};

/* "halt_wait_ns" counts seconds, and it does so from the start on. */
static char *metric_name(const char *name, const char *unit, bool counter)
{
	static const char * const units[] = { "_ns", "_us", "_ms", "_seconds",
					      "_bytes" };
	size_t len = strlen(name), n;
	char *text;
	unsigned int i;

	for (i = 0; *unit && i < ARRAY_SIZE(units); i++) {
		n = strlen(units[i]);
		if (len > n && !strcmp(name + len - n, units[i])) {
			len -= n;
			break;
		}
	}
	return asprintf(&text, "%.*s%s%s", (int)len, name, unit,
			counter ? "_total" : "") < 0 ? NULL : text;
}

static double power_of(double base, int exponent)
{
	double value = 1;

	for (; exponent > 0; exponent--)
		value *= base;
	for (; exponent < 0; exponent++)
		value /= base;
	return value;
}

static int take(struct kvm_stats *ks, const struct kvm_stats_desc *desc)
{
	u32 type = desc->flags & KVM_STATS_TYPE_MASK;
	u32 unit = desc->flags & KVM_STATS_UNIT_MASK;
	u32 base = desc->flags & KVM_STATS_BASE_MASK;
	struct kvm_stat *st = &ks->stat[ks->nr];
	const char *suffix = "";

	/* Histograms have no place in a list of numbers. */
	if (type > KVM_STATS_TYPE_PEAK || desc->size != 1)
		return 0;
	if (desc->offset % sizeof(u64) ||
	    desc->offset > (1 << 20) - sizeof(u64))
		return -EPROTO;
	st->counter = type == KVM_STATS_TYPE_CUMULATIVE;
	st->offset = desc->offset;
	st->scale = 0;
	if (unit == KVM_STATS_UNIT_BYTES)
		suffix = "_bytes";
	if (unit == KVM_STATS_UNIT_SECONDS)
		suffix = "_seconds";
	if (desc->exponent)
		st->scale = power_of(base == KVM_STATS_BASE_POW2 ? 2 : 10,
				     desc->exponent);
	st->name = metric_name(desc->name, suffix, st->counter);
	if (!st->name)
		return -ENOMEM;
	if (ks->data_len < st->offset + sizeof(u64))
		ks->data_len = st->offset + sizeof(u64);
	ks->nr++;
	return 0;
}

static int read_all(int fd, void *buf, size_t len, u64 offset)
{
	ssize_t n = pread(fd, buf, len, offset);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EPROTO;
}

static int describe(struct kvm_stats *ks, int fd)
{
	struct kvm_stats_header head;
	struct kvm_stats_desc *desc;
	size_t stride;
	char *descs;
	int ret;
	u32 i;

	ret = read_all(fd, &head, sizeof(head), 0);
	if (ret)
		return ret;
	if (!head.name_size || head.name_size > NAME_MAX_LEN ||
	    head.num_desc > DESCS_MAX)
		return -EPROTO;
	stride = sizeof(*desc) + head.name_size;
	ks->data_offset = head.data_offset;
	ks->stat = calloc(head.num_desc + 1, sizeof(*ks->stat));
	descs = malloc(head.num_desc * stride + 1);
	ret = ks->stat && descs ?
	      read_all(fd, descs, head.num_desc * stride, head.desc_offset) :
	      -ENOMEM;
	for (i = 0; !ret && i < head.num_desc; i++) {
		desc = (struct kvm_stats_desc *)(descs + i * stride);
		desc->name[head.name_size - 1] = 0;
		ret = take(ks, desc);
	}
	free(descs);
	if (!ret)
		ks->data = malloc(ks->data_len + 1);
	return ret ? ret : ks->data ? 0 : -ENOMEM;
}

void kvm_stats_close(struct kvm_stats *ks)
{
	unsigned int i;

	if (!ks)
		return;
	for (i = 0; i < ks->nr; i++)
		free(ks->stat[i].name);
	free(ks->stat);
	free(ks->data);
	free(ks);
}

/* @kvm_fd is a VM or a vCPU; -1 where the kernel has none. */
int kvm_stats_fd(int kvm_fd)
{
	return ioctl(kvm_fd, KVM_GET_STATS_FD, NULL);
}

/* NULL without a file. */
struct kvm_stats *kvm_stats_open(int fd, const char *help)
{
	struct kvm_stats *ks = NULL;

	if (fd < 0)
		return NULL;
	ks = calloc(1, sizeof(*ks));
	if (ks && describe(ks, fd)) {
		kvm_stats_close(ks);
		ks = NULL;
	}
	if (ks)
		ks->help = help;
	return ks;
}

void kvm_stats_add(struct kvm_stats *ks, int fd, struct metric_set *set)
{
	unsigned int i;

	if (!ks || fd < 0 ||
	    read_all(fd, ks->data, ks->data_len, ks->data_offset))
		return;
	for (i = 0; i < ks->nr; i++) {
		const struct kvm_stat *st = &ks->stat[i];
		u64 value = ks->data[st->offset / sizeof(u64)];

		if (st->scale && st->counter)
			metric_counter_f(set, st->name, ks->help,
					 value * st->scale);
		else if (st->scale)
			metric_gauge_f(set, st->name, ks->help,
				       value * st->scale);
		else if (st->counter)
			metric_counter(set, st->name, ks->help, value);
		else
			metric_gauge(set, st->name, ks->help, value);
	}
}
