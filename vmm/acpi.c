// SPDX-License-Identifier: GPL-2.0
/*
 * The ACPI tables of the virtual machine: RSDP, XSDT, FADT, MADT, DSDT, and
 * MCFG where there is a PCI bus.
 *
 * The machine is hardware-reduced (ACPI 6.4, 4.1): no PM timer, no fixed
 * events, no SCI, which lets a stock kernel skip the PIC, the PIT and their
 * probing.  Power-off is the sleep control register, reset the FADT's reset
 * register; the power button and a new generation ID (identity.c) are events
 * of the GED.
 */
#include <errno.h>
#include <string.h>

#include "pci.h"

#define HEADER_LEN	36
#define RSDP_LEN	36
#define FADT_LEN	276
#define MCFG_LEN	60
#define SPACE_IO	1

#define FADT_WBINVD		(1u << 0)
#define FADT_PROC_C1		(1u << 2)
#define FADT_PWR_BUTTON		(1u << 4)	/* no fixed power button */
#define FADT_SLP_BUTTON		(1u << 5)	/* no fixed sleep button */
#define FADT_RESET_REG		(1u << 10)
#define FADT_HW_REDUCED		(1u << 20)
#define ARCH_NO_VGA		(1u << 2)
#define ARCH_NO_ASPM		(1u << 4)

#define RESET_VALUE		0x06
#define SLEEP_S5		5
#define CMOS_CENTURY		0x32

struct builder {
	u8 *buf;
	size_t cap;
	size_t len;
	u64 gpa;
};

static void put(u8 *p, u64 value, unsigned int bytes)
{
	while (bytes--) {
		*p++ = value;
		value >>= 8;
	}
}

static u8 checksum(const u8 *p, size_t len)
{
	u8 sum = 0;

	while (len--)
		sum += *p++;
	return -sum;
}

/* Room for a table, zeroed and aligned; NULL when there is none. */
static u8 *table_begin(struct builder *b, size_t len)
{
	size_t at = ALIGN_UP(b->len, 16);

	if (at > b->cap || len > b->cap - at)
		return NULL;
	b->len = at + len;
	memset(b->buf + at, 0, len);
	return b->buf + at;
}

static void table_header(u8 *t, const char *signature, u32 len, u8 revision)
{
	memcpy(t, signature, 4);
	put(t + 4, len, 4);
	t[8] = revision;
	memcpy(t + 10, "PVHV  ", 6);
	memcpy(t + 16, "PVHVVM  ", 8);
	put(t + 24, 1, 4);
	memcpy(t + 28, "PVHV", 4);
	put(t + 32, 1, 4);
	t[9] = 0;
	t[9] = checksum(t, len);
}

static u64 table_gpa(const struct builder *b, const u8 *t)
{
	return b->gpa + (t - b->buf);
}

static void serial_port(struct aml *a)
{
	struct aml_block dev = aml_device(a, "COM1"), res;

	aml_name_eisaid(a, "_HID", "PNP0501");
	aml_name_integer(a, "_UID", 1);
	aml_name_integer(a, "_STA", 0x0f);
	res = aml_resources(a, "_CRS");
	aml_res_io(a, PORT_COM1, 8);
	aml_res_irq(a, GSI_COM1, false);
	aml_resources_end(a, res);
	aml_end(a, dev);
}

static void real_time_clock(struct aml *a)
{
	struct aml_block dev = aml_device(a, "RTC"), res;

	aml_name_eisaid(a, "_HID", "PNP0B00");
	res = aml_resources(a, "_CRS");
	aml_res_io(a, PORT_RTC, 2);
	aml_resources_end(a, res);
	aml_end(a, dev);
}

static void power_button_device(struct aml *a)
{
	struct aml_block dev = aml_device(a, "PWRB");

	aml_name_eisaid(a, "_HID", "PNP0C0C");
	aml_end(a, dev);
}

/* "Virtual Machine Generation ID", Microsoft, 2012: drivers go by the _CID. */
static void generation_device(struct aml *a)
{
	struct aml_block dev = aml_device(a, "VGEN"), address;

	aml_name_string(a, "_HID", "PVHV0001");
	aml_name_string(a, "_CID", "VM_Gen_Counter");
	aml_name_string(a, "_DDN", "VM_Gen_Counter");
	aml_name(a, "ADDR");
	address = aml_package(a, 2);
	aml_integer(a, (u32)IDENTITY_GPA);
	aml_integer(a, IDENTITY_GPA >> 32);
	aml_end(a, address);
	aml_end(a, dev);
}

static void notify_if(struct aml *a, u8 event, const char *device)
{
	static const u8 local0 = 0x60;
	static const u8 and_op = 0x7b;
	static const u8 notify = 0x86;
	struct aml_block cond = aml_if(a);

	aml_byte(a, and_op);
	aml_byte(a, local0);
	aml_integer(a, event);
	aml_integer(a, 0);			/* no target */
	aml_byte(a, notify);
	aml_path(a, device);
	aml_integer(a, 0x80);
	aml_end(a, cond);
}

/* The event device reads which events there are, which clears them. */
static void event_device(struct aml *a)
{
	static const u8 store = 0x70;		/* Store (x, Local0) */
	static const u8 local0 = 0x60;
	struct aml_block dev, res, field, method;

	dev = aml_device(a, "GED");
	aml_name_string(a, "_HID", "ACPI0013");
	res = aml_resources(a, "_CRS");
	aml_res_irq(a, GSI_GED, true);
	aml_resources_end(a, res);
	aml_region_io(a, "EREG", PORT_PM + 2, 1);
	field = aml_field(a, "EREG", 0x01);	/* byte access */
	aml_field_unit(a, "EVTS", 8);
	aml_end(a, field);
	method = aml_method(a, "_EVT", 1, true);
	aml_byte(a, store);
	aml_path(a, "EVTS");
	aml_byte(a, local0);
	notify_if(a, POWER_EVENT_BUTTON, "\\_SB.PWRB");
	notify_if(a, POWER_EVENT_GENERATION, "\\_SB.VGEN");
	aml_end(a, method);
	aml_end(a, dev);
}

/* Slot to GSI; a level that is low when active, by PCI's own rule. */
static void pci_routing(struct aml *a, u32 slots)
{
	struct aml_block table, entry;
	u32 slot;

	aml_name(a, "_PRT");
	table = aml_package(a, __builtin_popcount(slots));
	for (slot = 0; slot < 32; slot++) {
		if (!(slots & 1U << slot))
			continue;
		entry = aml_package(a, 4);
		aml_integer(a, slot << 16 | 0xffff);
		aml_integer(a, 0);		/* INTA */
		aml_integer(a, 0);
		aml_integer(a, PCI_GSI_BASE + slot % PCI_LINES);
		aml_end(a, entry);
	}
	aml_end(a, table);
}

static void pci_bridge(struct aml *a, u32 slots)
{
	struct aml_block dev = aml_device(a, "PCI0"), res;

	aml_name_eisaid(a, "_HID", "PNP0A03");
	aml_name_integer(a, "_UID", 0);
	res = aml_resources(a, "_CRS");
	aml_res_window(a, AML_BUS, 0, 0);
	aml_res_io(a, PORT_PCI, 8);
	aml_res_window(a, AML_IO, PCI_PORT_BASE, PCI_PORT_END - 1);
	aml_res_window(a, AML_MEMORY, PCI_MEM_BASE, PCI_MEM_END - 1);
	aml_resources_end(a, res);
	pci_routing(a, slots);
	aml_end(a, dev);

	/* Without this owner Linux does not trust the MCFG. */
	dev = aml_device(a, "ECAM");
	aml_name_eisaid(a, "_HID", "PNP0C02");
	res = aml_resources(a, "_CRS");
	aml_res_memory(a, PCI_ECAM_BASE, PCI_ECAM_SIZE);
	aml_resources_end(a, res);
	aml_end(a, dev);
}

static u8 *build_dsdt(struct builder *b, u32 pci_slots)
{
	u8 *t = table_begin(b, HEADER_LEN);
	struct aml_block scope, s5;
	struct aml a;

	if (!t)
		return NULL;
	a = (struct aml){ .data = t, .len = HEADER_LEN,
			  .cap = b->cap - (t - b->buf) };
	scope = aml_scope(&a, "\\_SB");
	serial_port(&a);
	real_time_clock(&a);
	power_button_device(&a);
	generation_device(&a);
	event_device(&a);
	if (pci_slots)
		pci_bridge(&a, pci_slots);
	aml_end(&a, scope);
	aml_name(&a, "\\_S5");
	s5 = aml_package(&a, 4);
	aml_integer(&a, SLEEP_S5);
	aml_integer(&a, 0);
	aml_integer(&a, 0);
	aml_integer(&a, 0);
	aml_end(&a, s5);
	if (a.overflow)
		return NULL;
	b->len = (t - b->buf) + a.len;
	table_header(t, "DSDT", a.len, 2);
	return t;
}

static void gas_io(u8 *p, u16 port)
{
	p[0] = SPACE_IO;
	p[1] = 8;		/* bits */
	p[2] = 0;
	p[3] = 1;		/* byte access */
	put(p + 4, port, 8);
}

static u8 *build_fadt(struct builder *b, u64 dsdt)
{
	u8 *t = table_begin(b, FADT_LEN);

	if (!t)
		return NULL;
	put(t + 40, dsdt, 4);
	t[108] = CMOS_CENTURY;
	put(t + 109, ARCH_NO_VGA | ARCH_NO_ASPM, 2);	/* and no i8042 */
	put(t + 112, FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON |
		     FADT_SLP_BUTTON | FADT_RESET_REG | FADT_HW_REDUCED, 4);
	gas_io(t + 116, PORT_RESET);
	t[128] = RESET_VALUE;
	put(t + 140, dsdt, 8);
	gas_io(t + 244, PORT_PM);
	gas_io(t + 256, PORT_PM + 1);
	memcpy(t + 268, "PVHV", 4);
	table_header(t, "FACP", FADT_LEN, 6);
	return t;
}

static u8 *build_madt(struct builder *b, u32 cpus)
{
	u32 small = cpus < 255 ? cpus : 255;
	size_t len = HEADER_LEN + 8 + small * 8 + (cpus - small) * 16 + 12 +
		     10 + 6;
	u8 *t = table_begin(b, len), *p;
	u32 i;

	if (!t)
		return NULL;
	put(t + 36, LAPIC_BASE, 4);
	p = t + HEADER_LEN + 8;
	for (i = 0; i < small; i++, p += 8) {
		p[0] = 0;		/* local APIC */
		p[1] = 8;
		p[2] = i;
		p[3] = i;
		put(p + 4, 1, 4);	/* enabled */
	}
	for (; i < cpus; i++, p += 16) {
		p[0] = 9;		/* local x2APIC */
		p[1] = 16;
		put(p + 4, i, 4);
		put(p + 8, 1, 4);
		put(p + 12, i, 4);
	}
	p[0] = 1;			/* I/O APIC, its lines from GSI 0 */
	p[1] = 12;
	put(p + 4, IOAPIC_BASE, 4);
	p += 12;
	p[0] = 2;			/* ISA 9 is level, active high */
	p[1] = 10;
	p[3] = GSI_GED;
	put(p + 4, GSI_GED, 4);
	put(p + 8, 0x0d, 2);
	p += 10;
	p[0] = 4;			/* NMI at LINT1 of every CPU */
	p[1] = 6;
	p[2] = 0xff;
	p[5] = 1;
	table_header(t, "APIC", len, 5);
	return t;
}

static u8 *build_mcfg(struct builder *b)
{
	u8 *t = table_begin(b, MCFG_LEN);

	if (!t)
		return NULL;
	put(t + 44, PCI_ECAM_BASE, 8);	/* segment 0, bus 0 only */
	table_header(t, "MCFG", MCFG_LEN, 1);
	return t;
}

/* The RSDP comes first, at @gpa itself. */
int acpi_build(void *buf, size_t cap, u64 gpa, const struct acpi_machine *m,
	       size_t *used)
{
	struct builder b = { .buf = buf, .cap = cap, .gpa = gpa };
	u32 nr = m->pci_slots ? 3 : 2, len = HEADER_LEN + 8 * nr;
	u8 *rsdp, *dsdt, *xsdt, *table[3] = { NULL };
	u32 i;

	rsdp = table_begin(&b, RSDP_LEN);
	dsdt = build_dsdt(&b, m->pci_slots);
	if (!rsdp || !dsdt)
		return -ENOSPC;
	table[0] = build_fadt(&b, table_gpa(&b, dsdt));
	table[1] = build_madt(&b, m->cpus);
	if (m->pci_slots)
		table[2] = build_mcfg(&b);
	xsdt = table_begin(&b, len);
	if (!xsdt)
		return -ENOSPC;
	for (i = 0; i < nr; i++) {
		if (!table[i])
			return -ENOSPC;
		put(xsdt + HEADER_LEN + 8 * i, table_gpa(&b, table[i]), 8);
	}
	table_header(xsdt, "XSDT", len, 1);

	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "PVHV  ", 6);
	rsdp[15] = 2;
	put(rsdp + 20, RSDP_LEN, 4);
	put(rsdp + 24, table_gpa(&b, xsdt), 8);
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, RSDP_LEN);
	*used = b.len;
	return 0;
}
