/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What pvhv-run tells of itself while it runs, and what it can be told.
 *
 * A source is one thing that clients of the control socket see: the machine,
 * a vCPU, a disk, a network.  Sources know no HTTP and the control socket
 * knows no device: it finds them by kind and name, shows what they report and
 * runs their commands.  Without a control socket a source costs a list entry.
 *
 * Everything here belongs to the main thread.
 */
#ifndef PVHV_CONTROL_H
#define PVHV_CONTROL_H

#include <jansson.h>

#include "vmm.h"

/* A command that a client waits for; answered once, at once or later. */
struct control_call;

enum control_type {
	CONTROL_U64,		/* an integer from 0 to 2^63-1 */
	CONTROL_BOOL,
	CONTROL_STRING,		/* not empty, no zero bytes */
};

struct control_param {
	const char *name;
	enum control_type type;
	bool required;
};

#define CONTROL_PARAMS_MAX	8

struct control_command {
	const char *name;	/* "resize" */
	/*
	 * @params is an object that holds what the list below names, of these
	 * types, and nothing else.  It is the caller's: json_incref() to keep.
	 */
	void (*run)(void *arg, json_t *params, struct control_call *call);
	struct control_param params[CONTROL_PARAMS_MAX];	/* ends by NULL */
};

struct metric_set;

struct control_source {
	const char *kind;	/* "disk"; also a metric's prefix and label */
	const char *name;	/* "disk0"; unique within its kind */
	void *arg;
	/* Settings and state: a new object, NULL when out of memory. */
	json_t *(*status)(void *arg);
	/* Counters and gauges, by metric_*(); may be NULL. */
	void (*metrics)(void *arg, struct metric_set *set);
	/*
	 * A byte stream for one client; may be NULL.  0: @fd is the source's
	 * from now on.  @fd -1 asks whether it could be.
	 */
	int (*attach)(void *arg, int fd);
	const struct control_command *commands;		/* ends by a NULL name */
	struct control_source *next;
};

/* control_source.c: the list of sources, and calls of their commands. */
void control_add(struct control_source *src);
void control_remove(struct control_source *src);
struct control_source *control_first(const char *kind);
struct control_source *control_next(const struct control_source *src);
struct control_source *control_find(const char *kind, const char *name);

/*
 * Each ends the call.  control_done() takes over @result, which may be NULL
 * for "done, nothing to tell".
 */
void control_done(struct control_call *call, json_t *result);
int control_fail(struct control_call *call, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* How the result of a call reaches who made it. */
struct control_call {
	void (*done)(struct control_call *call, json_t *result, int err,
		     const char *why);
};

/* Checks @params (may be NULL) and runs the command. */
void control_run(const struct control_source *src, const char *command,
		 json_t *params, struct control_call *call);

/*
 * Something happened: tells all clients that listen, as an object with these
 * members; @fmt and what follows are json_pack()'s, of an object: "{s:s}".
 */
void control_event(const char *type, const char *fmt, ...);
/* Who passes events on; NULL while nobody listens. */
extern void (*control_event_sink)(const char *type, json_t *event);

/* control_vm.c */
u64 control_vm_resident(void);	/* bytes of this process, the guest's included */

/* control.c: the socket; @option is who wants it, for error messages. */
int control_open(const char *option, const char *path);
void control_close(void);
void control_destroy(void);

/*
 * metrics.c: numbers, as Prometheus reads them and as JSON.  Names have no
 * prefix and end in the unit, counters in _total: "read_bytes_total" of a disk
 * becomes pvhv_disk_read_bytes_total{vm="...",disk="disk0"}.  @help must stay,
 * all else is copied.
 */
void metric_counter(struct metric_set *set, const char *name, const char *help,
		    u64 value);
void metric_gauge(struct metric_set *set, const char *name, const char *help,
		  u64 value);
/* For what has fractions, such as seconds. */
void metric_counter_f(struct metric_set *set, const char *name,
		      const char *help, double value);
void metric_gauge_f(struct metric_set *set, const char *name,
		    const char *help, double value);
/* A further label of what follows, such as queue="0"; key NULL: none. */
void metric_label(struct metric_set *set, const char *key, const char *value);

/* kvm_stats.c: the kernel's own numbers of a VM or vCPU. */
struct kvm_stats;
int kvm_stats_fd(int kvm_fd);
struct kvm_stats *kvm_stats_open(int fd, const char *help);
void kvm_stats_close(struct kvm_stats *ks);
void kvm_stats_add(struct kvm_stats *ks, int fd, struct metric_set *set);

/* All sources' numbers; malloc()ed text, or a new object; NULL: no memory. */
char *metrics_text(const char *vm, size_t *len);
json_t *metrics_json(void);

#endif /* PVHV_CONTROL_H */
