/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Jobs: the local APIC and IOAPIC as guest code sees them: registers, access in both modes, IPIs.
 */
#ifndef PVHV_SELFTESTS_APIC_H
#define PVHV_SELFTESTS_APIC_H

#include "guest.h"

#define APIC_BASE		0xfee00000ul
#define APICBASE_BSP		BIT(8)
#define APICBASE_X2APIC		BIT(10)
#define APICBASE_ENABLE		BIT(11)

#define APIC_ID			0x20
#define APIC_VERSION		0x30
#define APIC_TPR		0x80
#define APIC_PPR		0xa0
#define APIC_EOI		0xb0
#define APIC_LDR		0xd0
#define APIC_DFR		0xe0
#define APIC_SVR		0xf0
#define APIC_ISR		0x100
#define APIC_TMR		0x180
#define APIC_IRR		0x200
#define APIC_ESR		0x280
#define APIC_ICR		0x300
#define APIC_ICR2		0x310
#define APIC_LVTT		0x320
#define APIC_LVTTHMR		0x330
#define APIC_LVTPC		0x340
#define APIC_LVT0		0x350
#define APIC_LVT1		0x360
#define APIC_LVTERR		0x370
#define APIC_TMICT		0x380
#define APIC_TMCCT		0x390
#define APIC_TDCR		0x3e0
#define APIC_SELF_IPI		0x3f0

#define APIC_SVR_ENABLE		BIT(8)
#define APIC_LVT_MASKED		BIT(16)
#define APIC_LVTT_PERIODIC	BIT(17)
#define APIC_LVTT_DEADLINE	BIT(18)
#define APIC_TDCR_DIV1		0xb

#define ICR_FIXED		0x000
#define ICR_LOWEST		0x100
#define ICR_NMI			0x400
#define ICR_INIT		0x500
#define ICR_STARTUP		0x600
#define ICR_LOGICAL		BIT(11)
#define ICR_PENDING		BIT(12)
#define ICR_ASSERT		BIT(14)
#define ICR_SELF		(1u << 18)
#define ICR_ALL			(2u << 18)
#define ICR_OTHERS		(3u << 18)

#define X2APIC_MSR(reg)		(0x800 + ((reg) >> 4))

#define IOAPIC_BASE		0xfec00000ul
#define IOAPIC_REDIR(pin)	(0x10 + 2 * (pin))
#define IOAPIC_MASKED		BIT(16)
#define IOAPIC_LEVEL		BIT(15)
#define IOAPIC_REMOTE_IRR	BIT(14)
#define IOAPIC_LOW		BIT(13)
#define IOAPIC_LOGICAL		BIT(11)

static inline uint32_t xapic_read(uint32_t reg)
{
	return *(volatile uint32_t *)(APIC_BASE + reg);
}

static inline void xapic_write(uint32_t reg, uint32_t v)
{
	*(volatile uint32_t *)(APIC_BASE + reg) = v;
}

static inline bool apic_is_x2(void)
{
	return rdmsr(MSR_APICBASE) & APICBASE_X2APIC;
}

static inline void x2apic_enable(void)
{
	wrmsr(MSR_APICBASE, rdmsr(MSR_APICBASE) | APICBASE_ENABLE | APICBASE_X2APIC);
}

static inline uint32_t apic_read(uint32_t reg)
{
	return apic_is_x2() ? (uint32_t)rdmsr(X2APIC_MSR(reg)) : xapic_read(reg);
}

static inline void apic_write(uint32_t reg, uint32_t v)
{
	if (apic_is_x2())
		wrmsr(X2APIC_MSR(reg), v);
	else
		xapic_write(reg, v);
}

/* Software-enables the APIC, accepts everything */
static inline void apic_enable(void)
{
	apic_write(APIC_SVR, APIC_SVR_ENABLE | 0xff);
	apic_write(APIC_TPR, 0);
}

/* Interrupts come by it alone, in the mode that is asked for: by default IOAPIC lines go to the PIC, too */
static inline void apic_only(uint64_t x2)
{
	if (x2)
		x2apic_enable();
	apic_enable();
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

static inline void guest_handle_irqs(guest_handler_t handler)
{
	for (int i = 0x20; i < 256; i++)
		guest_handlers[i] = handler;
}

static inline void apic_eoi(void)
{
	apic_write(APIC_EOI, 0);
}

static inline void apic_icr(uint32_t low, uint32_t dest)
{
	if (apic_is_x2()) {
		wrmsr(X2APIC_MSR(APIC_ICR), (uint64_t)dest << 32 | low);
	} else {
		xapic_write(APIC_ICR2, dest << 24);
		xapic_write(APIC_ICR, low);
	}
}

static inline bool apic_bit(uint32_t bank, uint8_t vector)
{
	return apic_read(bank + (vector >> 5) * 0x10) >> (vector & 31) & 1;
}

static inline uint32_t ioapic_read(uint32_t reg)
{
	*(volatile uint32_t *)IOAPIC_BASE = reg;
	return *(volatile uint32_t *)(IOAPIC_BASE + 0x10);
}

static inline void ioapic_write(uint32_t reg, uint32_t v)
{
	*(volatile uint32_t *)IOAPIC_BASE = reg;
	*(volatile uint32_t *)(IOAPIC_BASE + 0x10) = v;
}

static inline void ioapic_set_redir(uint32_t pin, uint64_t v)
{
	ioapic_write(IOAPIC_REDIR(pin) + 1, v >> 32);
	ioapic_write(IOAPIC_REDIR(pin), v);
}

static inline uint64_t ioapic_get_redir(uint32_t pin)
{
	return ioapic_read(IOAPIC_REDIR(pin)) | (uint64_t)ioapic_read(IOAPIC_REDIR(pin) + 1) << 32;
}

#endif
