/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One PCI bus: configuration space and address decoding (pci.c), MSI-X
 * (msix.c), virtio devices on it (virtio_pci.c).
 *
 * Configuration accesses and BAR accesses come from vCPU threads.  Locks, in
 * their order: pci_bus.lock (configuration space, decoding), a device's own
 * (its registers), struct virtio's, pci_bus.line_lock.  Devices stay until
 * the machine goes, so an access that found its BAR may finish after the
 * guest has moved it.
 */
#ifndef PVHV_PCI_H
#define PVHV_PCI_H

#include "vmm.h"

#define PCI_SLOTS		32
#define PCI_BARS		6
#define PCI_CONFIG_SIZE		256
#define PCI_LINES		8

/* What the machine does for the bus; 0 or -errno. */
struct pci_host {
	int (*gsi_alloc)(void *arg, unsigned int nr);	/* the first of them */
	int (*msi_route)(void *arg, u32 gsi, u64 addr, u32 data);
	int (*irqfd)(void *arg, int fd, u32 gsi, bool on);
	int (*ioeventfd)(void *arg, int fd, u64 addr, u32 len, bool pio, bool on);
	void (*line)(void *arg, u32 gsi, bool level);
	void *arg;
};

struct pci_dev;

struct pci_dev_ops {
	void (*bar_read)(struct pci_dev *dev, unsigned int bar, u64 off,
			 u8 *data, u32 len);
	void (*bar_write)(struct pci_dev *dev, unsigned int bar, u64 off,
			  const u8 *data, u32 len);
	/* The rest under the bus's lock; each may be NULL. */
	void (*bar_mapped)(struct pci_dev *dev, unsigned int bar, u64 base,
			   bool mapped);
	void (*config_read)(struct pci_dev *dev, u32 off, u32 len);
	void (*config_written)(struct pci_dev *dev, u32 off, u32 len);
};

struct pci_bar {
	struct pci_dev *dev;		/* [c] */
	u32 size;			/* [c] 0: none; a power of two */
	bool io;			/* [c] */
	bool mapped;			/* [l] bus lock */
	u64 base;			/* [l] bus lock: while mapped */
};

struct pci_dev {
	const struct pci_dev_ops *ops;	/* [c] */
	struct pci_bus *bus;		/* [c] */
	u8 slot;			/* [c] */
	u8 next_cap;			/* [c] where the next one goes */
	u8 last_cap;			/* [c] */
	u8 config[PCI_CONFIG_SIZE];	/* [l] bus lock */
	u8 writable[PCI_CONFIG_SIZE];	/* [c] bits that the guest may change */
	struct pci_bar bars[PCI_BARS];
	bool intx;			/* [l] line_lock: it has an interrupt */
	bool intx_off;			/* [l] line_lock: by the command register */
	bool pulls;			/* [l] line_lock: the line, so */
};

struct pci_bus {
	struct device dev;
	struct pci_host host;		/* [c] */
	struct iobus *pio;		/* [c] */
	struct iobus *mmio;		/* [c] */
	struct iobus_region reset;	/* [c] port 0xcf9; len 0: nothing there */
	struct pci_dev bridge;
	struct pci_dev *slots[PCI_SLOTS];	/* [c] */
	u32 next_io;			/* [c] where the next BARs go */
	u32 next_mem;			/* [c] */

	pthread_mutex_t lock;
	u32 address;			/* [l] lock: port 0xcf8 */
	pthread_mutex_t line_lock;
	u8 pulls[PCI_LINES];		/* [l] line_lock: devices that pull it */
};

/* pci.c */
struct pci_id {
	u16 vendor;
	u16 device;
	u16 subsystem;
	u8 revision;
	u32 class;			/* 24 bits */
};

struct pci_bus *pci_create(const struct pci_host *host, struct iobus *pio,
			   struct iobus *mmio);
struct device *pci_device(struct pci_bus *bus);
const struct device_ops *pci_device_ops(void);
void pci_dev_init(struct pci_dev *dev, const struct pci_dev_ops *ops,
		  const struct pci_id *id);
/* Before pci_add(), which chooses slot and addresses; -ENOSPC: bus full. */
void pci_bar_init(struct pci_dev *dev, unsigned int bar, bool io, u32 size);
u8 pci_cap_add(struct pci_dev *dev, u8 id, const void *body, u8 len);
int pci_add(struct pci_bus *bus, struct pci_dev *dev);
u32 pci_gsi(const struct pci_dev *dev);
void pci_intx(struct pci_dev *dev, bool level);
void pci_dev_save(struct pci_dev *dev, struct state *st);
int pci_dev_load(struct pci_dev *dev, const struct state_section *sec);
/* For ACPI: a bit per slot that has a device besides the bridge. */
u32 pci_slots(const struct pci_bus *bus);

static inline u32 pci_get(const u8 *p, unsigned int bytes)
{
	u32 v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static inline void pci_put(u8 *p, u32 v, unsigned int bytes)
{
	while (bytes--) {
		*p++ = v;
		v >>= 8;
	}
}

/* msix.c: a function's vectors; everything under the device's lock. */
#define MSIX_NO_VECTOR		0xffff
#define MSIX_VECTORS_MAX	256

struct msix_entry {
	u32 reg[4];		/* address, upper address, data, control */
	u32 gsi;
	bool routed;		/* the machine has the message below */
	u64 addr;
	u32 data;
};

/* An eventfd whose signals become a vector's message. */
struct msix_source {
	int fd;
	u16 vector;
	s64 gsi;		/* bound to it by an irqfd, or -1 */
};

struct msix {
	const struct pci_host *host;
	u16 nr;
	u16 nr_sources;
	bool enabled;
	bool masked;		/* all of them */
	struct msix_entry *entries;
	struct msix_source *sources;
};

int msix_init(struct msix *m, const struct pci_host *host, u16 nr,
	      u16 nr_sources);
void msix_fini(struct msix *m);
void msix_control(struct msix *m, u16 control);
void msix_set_vector(struct msix *m, u16 source, u16 vector);
bool msix_set_message(struct msix *m, u16 vector, u64 addr, u32 data, bool on);
void msix_table_read(const struct msix *m, u64 off, u8 *data, u32 len);
void msix_table_write(struct msix *m, u64 off, const u8 *data, u32 len);
void msix_pending_read(const struct msix *m, u64 off, u8 *data, u32 len);
void msix_save(const struct msix *m, struct state *st);
int msix_load(struct msix *m, const struct state_section *sec);

/* virtio_pci.c: takes nothing over; @v stays with its owner. */
struct virtio;
int virtio_pci_add(struct pci_bus *bus, struct devices *devs, struct virtio *v);

#endif /* PVHV_PCI_H */
