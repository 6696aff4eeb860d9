// SPDX-License-Identifier: GPL-2.0
/*
 * The consoles and ports of a machine as a whole: one virtio-console device,
 * and each of them as a console of the control socket.
 */
#include <errno.h>
#include <stdlib.h>

#include "control.h"
#include "port.h"
#include "virtio_console.h"

struct ports {
	struct virtio *v;
	u32 nr;
	bool open;
	struct port_source {
		struct ports *ports;
		u32 index;
		struct control_source source;
	} sources[PORTS_MAX];
};

static struct port *port_of(const struct port_source *ps)
{
	return virtio_console_port(ps->ports->v, ps->index);
}

static json_t *status(void *arg)
{
	const struct port_source *ps = arg;
	const struct port *port = port_of(ps);

	return json_pack("{s:s, s:s*, s:b, s:b, s:b}",
			 "kind", port_kind_name(port->opt->kind),
			 "path", port->opt->kind == CONSOLE_PTY ?
				 port->host.pty : port->opt->path,
			 "connected", port->connected,
			 "opened", virtio_console_opened(ps->ports->v, ps->index),
			 "terminal", port->opt->console);
}

static void metrics(void *arg, struct metric_set *set)
{
	const struct port_stats *stats = &port_of(arg)->stats;

	metric_counter(set, "in_bytes_total", "To the guest", stats->in_bytes);
	metric_counter(set, "out_bytes_total", "From the guest",
		       stats->out_bytes);
	metric_counter(set, "dropped_bytes_total",
		       "From the guest, and nobody got them",
		       stats->dropped_bytes);
}

static int attach(void *arg, int fd)
{
	return port_attach(port_of(arg), fd);
}

static void resize(void *arg, json_t *params, struct control_call *call)
{
	struct port_source *ps = arg;
	u64 columns = json_integer_value(json_object_get(params, "columns"));
	u64 rows = json_integer_value(json_object_get(params, "rows"));

	if (columns > UINT16_MAX || rows > UINT16_MAX)
		control_fail(call, -ERANGE, "no terminal is as large as that");
	else if (virtio_console_resize(ps->ports->v, ps->index, columns, rows))
		control_fail(call, -EINVAL, "%s is a port, not a console: it has no size",
			     ps->source.name);
	else
		control_done(call, status(ps));
}

static const struct control_command commands[] = {
	{ "resize", resize, { { "columns", CONTROL_U64, true },
			      { "rows", CONTROL_U64, true } } },
	{ .name = NULL }
};

int ports_check(const struct options *opt)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < opt->nr_ports && !ret; i++)
		ret = console_host_check("--port", opt->ports[i].kind,
					 opt->ports[i].path);
	return ret;
}

int ports_create(struct vm *vm)
{
	const struct options *opt = vm->opt;
	struct ports *ports;
	u32 i;

	if (!opt->nr_ports)
		return 0;
	ports = calloc(1, sizeof(*ports));
	if (!ports)
		return fail(-ENOMEM, "out of memory");
	vm->ports = ports;
	ports->v = virtio_console_create(&vm->mem, "ports", opt->ports,
					 opt->nr_ports);
	if (!ports->v)
		return -ENOMEM;
	for (i = 0; i < opt->nr_ports; i++) {
		struct port_source *ps = &ports->sources[i];

		ps->ports = ports;
		ps->index = i;
		ps->source = (struct control_source){
			.kind = "console", .arg = ps, .status = status,
			.metrics = metrics, .attach = attach,
			.commands = commands, .name = port_of(ps)->opt->name,
		};
		control_add(&ps->source);
		ports->nr++;
	}
	return vm_add_virtio(vm, ports->v);
}

/* The loop runs; before the fronts are opened. */
int ports_open(struct vm *vm)
{
	if (!vm->ports)
		return 0;
	vm->ports->open = true;
	return virtio_console_attach(vm->ports->v);
}

/* The fronts are closed; loop_fini() waits for what is in flight. */
void ports_close(struct vm *vm)
{
	if (vm->ports && vm->ports->open)
		virtio_console_detach(vm->ports->v);
}

/* Before the devices go. */
void ports_destroy(struct vm *vm)
{
	struct ports *ports = vm->ports;
	u32 i;

	for (i = 0; ports && i < ports->nr; i++)
		control_remove(&ports->sources[i].source);
	free(ports);
	vm->ports = NULL;
}
