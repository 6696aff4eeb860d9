// SPDX-License-Identifier: GPL-2.0
/*
 * The machine and its vCPUs as sources of the control socket.
 *  1. Status and numbers.
 *  2. Commands: pause, resume, power button, reset, stop.
 *  3. Events: paused, resumed, stopping.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "move.h"

struct vcpu_source {
	struct control_source source;
	struct vcpu *vcpu;
	int stats_fd;
	char name[12];
};

static struct {
	struct vm *vm;
	struct control_source source;
	struct vcpu_source *vcpus;
	u32 nr_vcpus;
	struct run_notifier notifier;
	struct kvm_stats *vm_stats;
	struct kvm_stats *vcpu_stats;
	int vm_stats_fd;
	struct timespec start;
	char name[64];
	int statm_fd;		/* opened before a chroot hides it */
} me = { .statm_fd = -1, .vm_stats_fd = -1 };

/* A pause that somebody waits for. */
struct pause_call {
	struct pause_wait wait;
	struct control_call *call;
};

/* Status. */

static const char *state_name(const struct vm *vm)
{
	if (vm_stopping(vm))
		return "stopping";
	if (vm->pause.owners & PAUSE_START)
		return "starting";
	if (vm->pause.owners)
		return vm_paused(vm) ? "paused" : "pausing";
	return "running";
}

static json_t *owner_names(u32 owners)
{
	static const struct {
		u32 owner;
		const char *name;
	} names[] = {
		{ PAUSE_START, "start" }, { PAUSE_USER, "user" },
		{ PAUSE_DISK, "disk" }, { PAUSE_MOVE, "move" },
	};
	json_t *list = json_array();
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (owners & names[i].owner)
			json_array_append_new(list, json_string(names[i].name));
	return list;
}

static double seconds(const struct timespec *ts)
{
	return ts->tv_sec + ts->tv_nsec / 1000000 / 1e3;
}

static double clock_s(clockid_t clock)
{
	struct timespec ts;

	return clock_gettime(clock, &ts) ? 0 : seconds(&ts);
}

static double uptime(void)
{
	return clock_s(CLOCK_MONOTONIC) - seconds(&me.start);
}

static const char *reason_of(int status)
{
	switch (status) {
	case STATUS_POWEROFF:
		return "poweroff";
	case STATUS_ERROR:
		return "failure";
	case STATUS_REBOOT:
		return "reset";
	case STATUS_TRIPLE_FAULT:
		return "triple-fault";
	case STATUS_INTERNAL:
		return "internal-error";
	default:
		return status >= STATUS_SIGNAL ? "signal" : "exit-port";
	}
}

/* As the guest finds it. */
static json_t *generation_id(const struct vm *vm)
{
	char text[2 * IDENTITY_LEN + 1] = "";
	u8 id[IDENTITY_LEN];
	unsigned int i;

	if (!identity_get(vm, id))
		for (i = 0; i < IDENTITY_LEN; i++)
			snprintf(text + 2 * i, 3, "%02x", id[i]);
	return json_string(text);
}

static json_t *vm_status(void *arg)
{
	struct vm *vm = arg;
	json_t *obj;

	obj = json_pack("{s:s, s:s, s:i, s:f, s:i, s:I, s:s, s:o, s:o}",
			"version", VMM_VERSION, "state", state_name(vm),
			"pid", getpid(), "uptime", uptime(),
			"cpus", vm->nr_vcpus,
			"memory", (json_int_t)vm->opt->memory,
			"device", vm->opt->dev,
			"generation_id", generation_id(vm),
			"paused_by", owner_names(vm->pause.owners));
	if (obj && vm_stopping(vm) &&
	    (json_object_set_new(obj, "exit_status",
				 json_integer(atomic_load(&vm->status))) ||
	     json_object_set_new(obj, "exit_reason",
				 json_string(reason_of(atomic_load(&vm->status)))))) {
		json_decref(obj);
		obj = NULL;
	}
	return obj;
}

u64 control_vm_resident(void)
{
	unsigned long size, resident;
	char text[128];
	ssize_t n = pread(me.statm_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = 0;
	if (sscanf(text, "%lu %lu", &size, &resident) != 2)
		return 0;
	return (u64)resident * sysconf(_SC_PAGESIZE);
}

static void vm_metrics(void *arg, struct metric_set *set)
{
	struct vm *vm = arg;

	metric_gauge(set, "vcpus", "Number of vCPUs", vm->nr_vcpus);
	metric_gauge(set, "memory_bytes", "Memory of the guest",
		     vm->opt->memory);
	metric_gauge(set, "resident_bytes",
		     "Resident memory of pvhv-run, the guest's included",
		     control_vm_resident());
	metric_gauge(set, "paused", "1 while no vCPU runs", vm_paused(vm));
	metric_gauge_f(set, "uptime_seconds", "Time since the vCPUs started",
		       uptime());
	metric_counter_f(set, "cpu_seconds_total",
			 "CPU time of pvhv-run, the vCPUs included",
			 clock_s(CLOCK_PROCESS_CPUTIME_ID));
	kvm_stats_add(me.vm_stats, me.vm_stats_fd, set);
}

static double vcpu_seconds(const struct vcpu *vcpu)
{
	clockid_t clock;

	if (!vcpu->started || pthread_getcpuclockid(vcpu->thread, &clock))
		return 0;
	return clock_s(clock);
}

static json_t *vcpu_status(void *arg)
{
	struct vcpu_source *vs = arg;

	return json_pack("{s:f}", "cpu_seconds", vcpu_seconds(vs->vcpu));
}

static void vcpu_metrics(void *arg, struct metric_set *set)
{
	struct vcpu_source *vs = arg;

	metric_counter_f(set, "cpu_seconds_total", "CPU time of the vCPU",
			 vcpu_seconds(vs->vcpu));
	kvm_stats_add(me.vcpu_stats, vs->stats_fd, set);
}

/* Commands. */

static json_t *state_object(const struct vm *vm)
{
	return json_pack("{s:s}", "state", state_name(vm));
}

static void pause_done(struct pause_wait *wait, bool paused)
{
	struct pause_call *pc = container_of(wait, struct pause_call, wait);
	struct control_call *call = pc->call;

	free(pc);
	if (paused)
		control_done(call, state_object(me.vm));
	else
		control_fail(call, -ECANCELED, vm_stopping(me.vm) ?
			     "the machine stops" : "resumed by someone else");
}

static void run_pause(void *arg, json_t *params, struct control_call *call)
{
	struct pause_call *pc;
	struct vm *vm = arg;

	(void)params;
	if (vm_stopping(vm)) {
		control_fail(call, -EBUSY, "the machine stops");
		return;
	}
	pc = malloc(sizeof(*pc));
	if (!pc) {
		control_fail(call, -ENOMEM, "out of memory");
		return;
	}
	pc->wait.done = pause_done;
	pc->call = call;
	vm_pause(vm, PAUSE_USER);
	vm_when_paused(vm, &pc->wait);
}

static void run_resume(void *arg, json_t *params, struct control_call *call)
{
	struct vm *vm = arg;
	u32 left;

	(void)params;
	if (move_reclaim(vm)) {
		control_fail(call, -EBUSY, "still held: a disk is another program's");
		return;
	}
	if (move_receive_force()) {
		control_done(call, state_object(vm));
		return;
	}
	left = vm_resume(vm, PAUSE_USER | PAUSE_DISK);
	if (left)
		control_fail(call, -EBUSY, "still held: %s", left & PAUSE_DISK ?
			     "a disk cannot be written" : "not started yet");
	else
		control_done(call, state_object(vm));
}

static void run_powerbutton(void *arg, json_t *params,
			    struct control_call *call)
{
	struct vm *vm = arg;

	(void)params;
	power_button(vm->power);
	control_done(call, state_object(vm));
}

static void run_reset(void *arg, json_t *params, struct control_call *call)
{
	(void)params;
	vm_stop(arg, STATUS_REBOOT);
	control_done(call, state_object(arg));
}

static void run_stop(void *arg, json_t *params, struct control_call *call)
{
	(void)params;
	vm_quit(arg, STATUS_POWEROFF);
	control_done(call, state_object(arg));
}

static const struct control_command vm_commands[] = {
	{ .name = "pause", .run = run_pause },
	{ .name = "resume", .run = run_resume },
	{ .name = "powerbutton", .run = run_powerbutton },
	{ .name = "reset", .run = run_reset },
	{ .name = "stop", .run = run_stop },
	{ }
};

/* Events. */

static void changed(struct run_notifier *n, bool running)
{
	(void)n;
	if (running)
		control_event("resumed", "{}");
	else
		control_event("paused", "{s:o}", "paused_by",
			      owner_names(me.vm->pause.owners));
}

void control_vm_stopping(struct vm *vm)
{
	int status = atomic_load(&vm->status);

	control_event("stopping", "{s:i, s:s}", "exit_status", status,
		      "exit_reason", reason_of(status));
}

/* Start and end. */

/* Could the socket be made?  Makes nothing but the directory for named ones. */
int control_vm_check(const struct options *opt)
{
	int ret;

	if (!opt->control)
		return 0;
	if (opt->control == opt->control_default) {
		ret = opt->dry_run ? 0 : rundir_make();
		if (ret)
			return fail(ret, "--name: cannot make the directory of '%s': %s: give --control PATH, or --control none",
				    opt->control, strerror(-ret));
		if (opt->dry_run)
			return 0;
	}
	return usock_check(opt->control_option, opt->control);
}

static int add_vcpus(struct vm *vm)
{
	u32 i;

	me.vcpus = calloc(vm->nr_vcpus, sizeof(*me.vcpus));
	if (!me.vcpus)
		return fail(-ENOMEM, "out of memory");
	for (i = 0; i < vm->nr_vcpus; i++) {
		struct vcpu_source *vs = &me.vcpus[i];

		snprintf(vs->name, sizeof(vs->name), "%u", i);
		vs->vcpu = &vm->vcpus[i];
		vs->stats_fd = kvm_stats_fd(vs->vcpu->fd);
		vs->source.kind = "vcpu";
		vs->source.name = vs->name;
		vs->source.arg = vs;
		vs->source.status = vcpu_status;
		vs->source.metrics = vcpu_metrics;
		control_add(&vs->source);
		me.nr_vcpus++;
	}
	me.vcpu_stats = kvm_stats_open(me.vcpus[0].stats_fd,
				       "From the kernel, of the vCPU");
	return 0;
}

/* Without --name, the machine goes by its socket's. */
static void set_name(const struct options *opt)
{
	const char *slash = strrchr(opt->control, '/');
	const char *text = opt->name ? opt->name :
			   slash ? slash + 1 : opt->control;
	size_t len = strlen(text);

	if (!opt->name && len > 5 && !strcmp(text + len - 5, ".sock"))
		len -= 5;
	snprintf(me.name, sizeof(me.name), "%.*s", (int)len, text);
}

int control_vm_start(struct vm *vm)
{
	const struct options *opt = vm->opt;

	if (!opt->control)
		return 0;
	me.vm = vm;
	set_name(opt);
	/* From a file, which the sandbox does not let it open later. */
	json_object_seed(0);
	clock_gettime(CLOCK_MONOTONIC, &me.start);
	me.statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	me.vm_stats_fd = kvm_stats_fd(vm->fd);
	me.vm_stats = kvm_stats_open(me.vm_stats_fd,
				     "From the kernel, of the VM");
	me.source = (struct control_source){
		.kind = "vm", .name = me.name, .arg = vm,
		.status = vm_status, .metrics = vm_metrics,
		.commands = vm_commands,
	};
	control_add(&me.source);
	me.notifier.changed = changed;
	vm_add_notifier(vm, &me.notifier);
	console_register(vm->console, "serial");
	return add_vcpus(vm) ? -ENOMEM :
	       control_open(opt->control_option, opt->control);
}

/* When all devices are gone: what is left of their commands. */
void control_vm_end(void)
{
	u32 i;

	control_destroy();
	kvm_stats_close(me.vm_stats);
	kvm_stats_close(me.vcpu_stats);
	for (i = 0; i < me.nr_vcpus; i++)
		if (me.vcpus[i].stats_fd >= 0)
			close(me.vcpus[i].stats_fd);
	free(me.vcpus);
	if (me.vm_stats_fd >= 0)
		close(me.vm_stats_fd);
	if (me.statm_fd >= 0)
		close(me.statm_fd);
	memset(&me, 0, sizeof(me));
	me.vm_stats_fd = -1;
	me.statm_fd = -1;
}
