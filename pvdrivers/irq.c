// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts of the bus: messages to the local APICs, without PCI.
 *  1. An interrupt domain on top of x86's vectors, which choose CPU and vector.
 *  2. What they chose is told to the host as a vector's message, in one step,
 *     so that a move needs no masking.
 */
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/msi.h>
#include <asm/hw_irq.h>
#include <asm/irqdomain.h>

#include "pvhv_bus.h"

#define VECTORS_MAX	(PVHV_BUS_QUEUES_MAX + 1)

static struct irq_domain *domain;
static struct fwnode_handle *fwnode;

static u32 vector_of(const struct irq_data *data)
{
	return data->hwirq % VECTORS_MAX;
}

static void tell_host(struct irq_data *data, bool on)
{
	struct pvhv_bus_vector vector = {
		.index = vector_of(data),
		.on = on,
	};
	struct pvhv_slot *slot = irq_data_get_irq_chip_data(data);
	struct irq_data *parent = data->parent_data;
	struct msi_msg msg = { };

	if (on) {
		parent->chip->irq_compose_msi_msg(parent, &msg);
		vector.address = msg.address_lo | (u64)msg.address_hi << 32;
		vector.data = msg.data;
	}
	if (pvhv_slot_command(slot, PVHV_BUS_CMD_VECTOR, &vector,
			      sizeof(vector)))
		dev_err_ratelimited(&slot->vdev.dev,
				    "the host refuses an interrupt\n");
}

static void mask(struct irq_data *data)
{
	tell_host(data, false);
}

static void unmask(struct irq_data *data)
{
	tell_host(data, true);
}

static int set_affinity(struct irq_data *data, const struct cpumask *cpus,
			bool force)
{
	struct irq_data *parent = data->parent_data;
	int ret;

	ret = parent->chip->irq_set_affinity(parent, cpus, force);
	if (ret >= 0 && ret != IRQ_SET_MASK_OK_DONE && !irqd_irq_masked(data))
		tell_host(data, true);
	return ret;
}

static struct irq_chip chip = {
	.name = "pvhv-bus",
	.irq_mask = mask,
	.irq_unmask = unmask,
	.irq_ack = irq_chip_ack_parent,
	.irq_set_affinity = set_affinity,
	.irq_retrigger = irq_chip_retrigger_hierarchy,
	.flags = IRQCHIP_SKIP_SET_WAKE | IRQCHIP_AFFINITY_PRE_STARTUP,
};

static int domain_alloc(struct irq_domain *d, unsigned int irq, unsigned int nr,
			void *arg)
{
	struct irq_alloc_info *info = arg;
	int ret;

	ret = irq_domain_alloc_irqs_parent(d, irq, nr, info);
	if (ret)
		return ret;
	irq_domain_set_info(d, irq, info->hwirq, &chip, info->data,
			    handle_edge_irq, NULL, "edge");
	irq_set_status_flags(irq, IRQ_MOVE_PCNTXT);
	return 0;
}

static void domain_free(struct irq_domain *d, unsigned int irq, unsigned int nr)
{
	irq_domain_free_irqs_parent(d, irq, nr);
}

static const struct irq_domain_ops domain_ops = {
	.alloc = domain_alloc,
	.free = domain_free,
};

int pvhv_irq_request(struct pvhv_slot *slot, u32 vector, irq_handler_t handler,
		     const char *name, void *data)
{
	struct irq_alloc_info info = {
		.hwirq = slot->index * VECTORS_MAX + vector,
		.data = slot,
	};
	int irq, ret;

	irq = irq_domain_alloc_irqs(domain, 1, NUMA_NO_NODE, &info);
	if (irq < 0)
		return irq;
	ret = request_irq(irq, handler, 0, name, data);
	if (!ret)
		return irq;
	irq_dispose_mapping(irq);
	return ret;
}

void pvhv_irq_free(int irq, void *data)
{
	free_irq(irq, data);
	irq_dispose_mapping(irq);
}

int pvhv_irq_init(void)
{
	if (!x86_vector_domain)
		return -ENODEV;
	fwnode = irq_domain_alloc_named_fwnode("pvhv-bus");
	if (!fwnode)
		return -ENOMEM;
	domain = irq_domain_create_hierarchy(x86_vector_domain, 0, 0, fwnode,
					     &domain_ops, NULL);
	if (!domain) {
		irq_domain_free_fwnode(fwnode);
		return -ENOMEM;
	}
	return 0;
}

void pvhv_irq_exit(void)
{
	irq_domain_remove(domain);
	irq_domain_free_fwnode(fwnode);
}
