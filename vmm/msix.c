// SPDX-License-Identifier: GPL-2.0
/*
 * MSI-X (PCI 3.0, 6.8.2): from an eventfd to a message.
 *  1. The table's registers and the pending bits, as the guest sees them.
 *  2. A source is an eventfd that a device signals.  While its vector is
 *     unmasked it is bound by an irqfd to the vector's GSI, whose route is the
 *     message: an interrupt is then one write, by whomever.
 *  3. While it is masked nobody takes the signals: they wait in the eventfd,
 *     which is the pending bit, and the kernel delivers them when it is bound
 *     again.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/pci_regs.h>

#include "pci.h"

enum { REG_ADDR, REG_UPPER, REG_DATA, REG_CTRL, REGS };

static bool entry_masked(const struct msix *m, const struct msix_entry *e)
{
	return !m->enabled || m->masked ||
	       (e->reg[REG_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

/* A message that the machine refuses, nonsense of the guest, goes nowhere. */
static bool route(struct msix *m, struct msix_entry *e)
{
	u64 addr = e->reg[REG_ADDR] | (u64)e->reg[REG_UPPER] << 32;
	u32 data = e->reg[REG_DATA];

	if (e->routed && e->addr == addr && e->data == data)
		return true;
	e->routed = !m->host->msi_route(m->host->arg, e->gsi, addr, data);
	e->addr = addr;
	e->data = data;
	return e->routed;
}

static void bind(struct msix *m, struct msix_source *s)
{
	struct msix_entry *e;
	s64 gsi = -1;

	if (s->vector < m->nr) {
		e = &m->entries[s->vector];
		if (!entry_masked(m, e) && route(m, e))
			gsi = e->gsi;
	}
	if (s->gsi == gsi)
		return;
	if (s->gsi >= 0)
		m->host->irqfd(m->host->arg, s->fd, s->gsi, false);
	s->gsi = -1;
	if (gsi >= 0 && !m->host->irqfd(m->host->arg, s->fd, gsi, true))
		s->gsi = gsi;
}

static void bind_all(struct msix *m)
{
	u16 i;

	for (i = 0; i < m->nr_sources; i++)
		bind(m, &m->sources[i]);
}

void msix_control(struct msix *m, u16 control)
{
	m->enabled = control & PCI_MSIX_FLAGS_ENABLE;
	m->masked = control & PCI_MSIX_FLAGS_MASKALL;
	bind_all(m);
}

void msix_set_vector(struct msix *m, u16 source, u16 vector)
{
	m->sources[source].vector = vector;
	bind(m, &m->sources[source]);
}

/* A whole vector in one step; false: the machine refuses the message. */
bool msix_set_message(struct msix *m, u16 vector, u64 addr, u32 data, bool on)
{
	struct msix_entry *e = &m->entries[vector];
	u16 source;

	e->reg[REG_ADDR] = addr;
	e->reg[REG_UPPER] = addr >> 32;
	e->reg[REG_DATA] = data;
	e->reg[REG_CTRL] = on ? 0 : PCI_MSIX_ENTRY_CTRL_MASKBIT;
	for (source = 0; source < m->nr_sources; source++)
		if (m->sources[source].vector == vector)
			bind(m, &m->sources[source]);
	return entry_masked(m, e) || route(m, e);
}

/* By doublewords, or two of them, as the specification has it. */
static bool table_access(const struct msix *m, u64 off, u32 len)
{
	return (len == 4 || len == 8) && off % len == 0 &&
	       off + len <= (u64)m->nr * PCI_MSIX_ENTRY_SIZE;
}

void msix_table_read(const struct msix *m, u64 off, u8 *data, u32 len)
{
	u32 i;

	memset(data, 0, len);
	if (!table_access(m, off, len))
		return;
	for (i = 0; i < len; i += 4, off += 4)
		pci_put(data + i, m->entries[off / PCI_MSIX_ENTRY_SIZE]
				  .reg[off / 4 % REGS], 4);
}

void msix_table_write(struct msix *m, u64 off, const u8 *data, u32 len)
{
	u16 vector = off / PCI_MSIX_ENTRY_SIZE, source;
	u32 i, value;

	if (!table_access(m, off, len))
		return;
	for (i = 0; i < len; i += 4, off += 4) {
		value = pci_get(data + i, 4);
		if (off / 4 % REGS == REG_CTRL)
			value &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
		m->entries[vector].reg[off / 4 % REGS] = value;
	}
	for (source = 0; source < m->nr_sources; source++)
		if (m->sources[source].vector == vector)
			bind(m, &m->sources[source]);
}

static bool readable(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return poll(&p, 1, 0) > 0 && (p.revents & POLLIN);
}

static bool pending(const struct msix *m, u16 vector)
{
	u16 i;

	for (i = 0; i < m->nr_sources; i++)
		if (m->sources[i].vector == vector && m->sources[i].gsi < 0 &&
		    readable(m->sources[i].fd))
			return true;
	return false;
}

void msix_pending_read(const struct msix *m, u64 off, u8 *data, u32 len)
{
	u64 vector = off * 8;
	u32 i;

	memset(data, 0, len);
	for (i = 0; i < len * 8 && vector < m->nr; i++, vector++)
		if (pending(m, vector))
			data[i / 8] |= 1 << (i % 8);
}

int msix_init(struct msix *m, const struct pci_host *host, u16 nr,
	      u16 nr_sources)
{
	int gsi;
	u16 i;

	memset(m, 0, sizeof(*m));
	if (nr > MSIX_VECTORS_MAX || nr_sources > MSIX_VECTORS_MAX)
		return -EINVAL;
	gsi = host->gsi_alloc(host->arg, nr);
	if (gsi < 0)
		return gsi;
	m->host = host;
	m->entries = calloc(nr, sizeof(m->entries[0]));
	m->sources = calloc(nr_sources, sizeof(m->sources[0]));
	if (!m->entries || !m->sources) {
		msix_fini(m);
		return -ENOMEM;
	}
	m->nr = nr;
	m->nr_sources = nr_sources;
	for (i = 0; i < nr; i++) {
		m->entries[i].gsi = gsi + i;
		m->entries[i].reg[REG_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	}
	for (i = 0; i < nr_sources; i++) {
		m->sources[i].fd = -1;
		m->sources[i].vector = MSIX_NO_VECTOR;
		m->sources[i].gsi = -1;
	}
	return 0;
}

void msix_fini(struct msix *m)
{
	free(m->entries);
	free(m->sources);
	memset(m, 0, sizeof(*m));
}

/* A signal that waits for its vector is saved with it. */
void msix_save(const struct msix *m, struct state *st)
{
	u32 table[MSIX_VECTORS_MAX * REGS];
	u16 vectors[MSIX_VECTORS_MAX];
	u8 waiting[MSIX_VECTORS_MAX];
	u16 i;

	for (i = 0; i < m->nr; i++)
		memcpy(&table[i * REGS], m->entries[i].reg,
		       sizeof(m->entries[i].reg));
	for (i = 0; i < m->nr_sources; i++) {
		vectors[i] = m->sources[i].vector;
		waiting[i] = m->sources[i].gsi < 0 &&
			     readable(m->sources[i].fd);
	}
	state_put(st, "msix.table", table, m->nr * sizeof(m->entries[0].reg));
	state_put(st, "msix.vectors", vectors,
		  m->nr_sources * sizeof(vectors[0]));
	state_put(st, "msix.waiting", waiting, m->nr_sources);
}

/* Nothing is bound before msix_control(), which the caller adds. */
int msix_load(struct msix *m, const struct state_section *sec)
{
	u32 table[MSIX_VECTORS_MAX * REGS];
	u16 vectors[MSIX_VECTORS_MAX];
	u8 waiting[MSIX_VECTORS_MAX];
	size_t got;
	u64 one = 1;
	u16 i;

	if (state_get(sec, "msix.table", table, sizeof(table), &got) ||
	    got != m->nr * sizeof(m->entries[0].reg) ||
	    state_get(sec, "msix.vectors", vectors, sizeof(vectors), &got) ||
	    got != m->nr_sources * sizeof(vectors[0]) ||
	    state_get(sec, "msix.waiting", waiting, sizeof(waiting), &got) ||
	    got != m->nr_sources)
		return -EBADMSG;
	for (i = 0; i < m->nr; i++) {
		memcpy(m->entries[i].reg, &table[i * REGS],
		       sizeof(m->entries[i].reg));
		m->entries[i].reg[REG_CTRL] &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	}
	for (i = 0; i < m->nr_sources; i++) {
		m->sources[i].vector = vectors[i];
		if (waiting[i] && write(m->sources[i].fd, &one, sizeof(one)) < 0)
			return -EBADMSG;
	}
	return 0;
}
