// SPDX-License-Identifier: GPL-2.0
/*
 * The balloon as clients of the control socket see it: its state, the guest's
 * own numbers, and the target.
 */
#include <errno.h>
#include <stdio.h>

#include "control.h"
#include "virtio_balloon.h"

static const struct {
	u16 tag;
	bool bytes;
	const char *name;
	const char *help;
} numbers[] = {
	{ VIRTIO_BALLOON_S_SWAP_IN, true, "swap_in",
	  "Swapped in" },
	{ VIRTIO_BALLOON_S_SWAP_OUT, true, "swap_out",
	  "Swapped out" },
	{ VIRTIO_BALLOON_S_MAJFLT, false, "major_faults",
	  "Major page faults" },
	{ VIRTIO_BALLOON_S_MINFLT, false, "minor_faults",
	  "Minor page faults" },
	{ VIRTIO_BALLOON_S_MEMFREE, true, "free",
	  "Memory that is not used at all" },
	{ VIRTIO_BALLOON_S_MEMTOT, true, "total",
	  "Memory that the kernel has" },
	{ VIRTIO_BALLOON_S_AVAIL, true, "available",
	  "Memory that can be had without swapping" },
	{ VIRTIO_BALLOON_S_CACHES, true, "caches",
	  "Memory of disk caches" },
	{ VIRTIO_BALLOON_S_HTLB_PGALLOC, false, "hugetlb_allocations",
	  "Huge pages allocated" },
	{ VIRTIO_BALLOON_S_HTLB_PGFAIL, false, "hugetlb_failures",
	  "Huge pages that could not be allocated" },
};

static bool known(const struct balloon_stats *stats, u16 tag)
{
	return stats->guest_known & 1ULL << tag;
}

static json_t *status(void *arg)
{
	struct virtio *v = arg;
	struct balloon_stats stats;
	json_t *guest = json_object();
	unsigned int i;

	balloon_get_stats(v, &stats);
	for (i = 0; guest && i < ARRAY_SIZE(numbers); i++)
		if (known(&stats, numbers[i].tag))
			json_object_set_new(guest, numbers[i].name,
					    json_integer(stats.guest[numbers[i].tag]));
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
			 "memory", (json_int_t)v->mem->size,
			 "target", (json_int_t)stats.target,
			 "actual", (json_int_t)stats.actual,
			 "inflated", (json_int_t)stats.inflated_bytes,
			 "deflated", (json_int_t)stats.deflated_bytes,
			 "reported", (json_int_t)stats.reported_bytes,
			 "updates", (json_int_t)stats.guest_updates,
			 "guest", guest);
}

static void metrics(void *arg, struct metric_set *set)
{
	struct virtio *v = arg;
	struct balloon_stats stats;
	char name[64];
	unsigned int i;

	balloon_get_stats(v, &stats);
	metric_gauge(set, "target_bytes", "Memory that the guest is asked to keep",
		     stats.target);
	metric_gauge(set, "actual_bytes", "Memory that the guest has kept",
		     stats.actual);
	metric_counter(set, "inflated_bytes_total",
		       "Memory that the guest gave back", stats.inflated_bytes);
	metric_counter(set, "deflated_bytes_total",
		       "Memory that the guest took again", stats.deflated_bytes);
	metric_counter(set, "reported_bytes_total",
		       "Free memory that the guest told of",
		       stats.reported_bytes);
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (!known(&stats, numbers[i].tag))
			continue;
		snprintf(name, sizeof(name), "guest_%s%s", numbers[i].name,
			 numbers[i].bytes ? "_bytes" : "");
		metric_gauge(set, name, numbers[i].help,
			     stats.guest[numbers[i].tag]);
	}
}

static void set_target(void *arg, json_t *params, struct control_call *call)
{
	struct virtio *v = arg;
	u64 keep = json_integer_value(json_object_get(params, "target"));

	if (balloon_set_target(v, keep))
		control_fail(call, -ERANGE, "target is more than the machine's %llu bytes",
			     (unsigned long long)v->mem->size);
	else
		control_done(call, status(v));
}

static const struct control_command commands[] = {
	{ "target", set_target, { { "target", CONTROL_U64, true } } },
	{ .name = NULL }
};

/* One balloon is all that a machine has. */
static struct control_source source = {
	.kind = "balloon",
	.name = "balloon",
	.status = status,
	.metrics = metrics,
	.commands = commands,
};

void balloon_control_add(struct virtio *v)
{
	source.arg = v;
	control_add(&source);
}

void balloon_control_remove(void)
{
	control_remove(&source);
}
