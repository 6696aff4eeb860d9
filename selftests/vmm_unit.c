// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the parts of pvhv-run that need no virtual machine: saved state and its damage, every device's registers and round
 * trip, the memory accessor's bounds, port claims, ACPI tables (checksums, links, iasl's opinion), kernel images at every
 * truncation and with damaged headers, the command line, CPUID topology, the escape key. Runs on any machine.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <asm/bootparam.h>
#include <linux/serial_reg.h>

#include "tap.h"
#include "../vmm/vmm.h"

static char last_line[1100];
static int lines;

static void keep_line(const char *line)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
	lines++;
}

static u32 seed = 1;

static u32 rnd(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

static u64 le(const u8 *p, int bytes)
{
	u64 v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

/* --- error lines --------------------------------------------------------------------------------------------- */

static void test_error_line(void)
{
	ASSERT_EQ(fail(-EINVAL, "kernel '%s': no", "a\nb\033"), -EINVAL);
	ASSERT(!strcmp(last_line, "kernel 'a?b?': no"));
	ASSERT_EQ(lines, 1);
}

/* --- saved state --------------------------------------------------------------------------------------------- */

static void make_state(struct state *st)
{
	state_init(st);
	state_begin(st, "alpha", 3);
	state_put_u64(st, "one", 1);
	state_put(st, "bytes", "\x01\x02\x03", 3);
	state_put(st, "none", NULL, 0);
	state_end(st);
	state_begin(st, "beta", 1);
	state_put_u64(st, "one", 0x1122334455667788);
	state_end(st);
	ASSERT_EQ(st->err, 0);
}

static void test_state_fields(void)
{
	struct state_section sec;
	struct state st;
	u8 buf[4];
	size_t got;
	u64 v;

	make_state(&st);
	ASSERT_EQ(state_find(st.data, st.len, "beta", &sec), 0);
	ASSERT_EQ(sec.version, 1);
	ASSERT_EQ(state_get_u64(&sec, "one", UINT64_MAX, &v), 0);
	ASSERT_EQ(v, 0x1122334455667788);
	ASSERT_EQ(state_get_u64(&sec, "one", 0xff, &v), -ERANGE);
	ASSERT_EQ(state_get_u64(&sec, "two", 0xff, &v), -ENOENT);
	ASSERT_EQ(state_find(st.data, st.len, "alpha", &sec), 0);
	ASSERT_EQ(sec.version, 3);
	ASSERT_EQ(state_get(&sec, "bytes", buf, 4, &got), 0);
	ASSERT_EQ(got, 3);
	ASSERT_EQ(buf[2], 3);
	ASSERT_EQ(state_get(&sec, "bytes", buf, 2, &got), -EBADMSG);
	ASSERT_EQ(state_get_u64(&sec, "bytes", 0xff, &v), -EBADMSG);
	ASSERT_EQ(state_get(&sec, "none", buf, 4, &got), 0);
	ASSERT_EQ(got, 0);
	ASSERT_EQ(state_find(st.data, st.len, "gamma", &sec), -ENOENT);
	state_free(&st);
}

static void test_state_misuse(void)
{
	struct state st;

	state_init(&st);
	state_put_u64(&st, "field", 1);		/* outside a section */
	ASSERT_EQ(st.err, -EINVAL);
	state_free(&st);
	state_init(&st);
	state_begin(&st, "a", 1);
	state_begin(&st, "b", 1);		/* sections do not nest */
	ASSERT_EQ(st.err, -EINVAL);
	state_end(&st);
	state_free(&st);
}

/* Reads all there may be; nothing may be read beyond the copy's end, which lies at the end of a page. */
static void read_all(const u8 *data, size_t len)
{
	static const char * const names[] = { "alpha", "beta" }, * const fields[] = { "one", "bytes", "none" };
	struct state_section sec;
	unsigned int i, j;
	u8 buf[8];
	size_t got;
	u64 v;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (state_find(data, len, names[i], &sec))
			continue;
		for (j = 0; j < ARRAY_SIZE(fields); j++) {
			state_get_u64(&sec, fields[j], UINT64_MAX, &v);
			state_get(&sec, fields[j], buf, sizeof(buf), &got);
		}
	}
}

static u8 *guarded_page(void)
{
	u8 *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT(p != MAP_FAILED);
	ASSERT_OK(mprotect(p + 4096, 4096, PROT_NONE));
	return p;
}

static void test_state_damage(void)
{
	u8 *page = guarded_page(), *copy;
	struct state st;
	size_t len;
	int i;

	make_state(&st);
	ASSERT_LT(st.len, 4096);
	for (len = 0; len <= st.len; len++) {
		copy = page + 4096 - len;
		memcpy(copy, st.data, len);
		read_all(copy, len);
	}
	copy = page + 4096 - st.len;
	for (i = 0; i < 20000; i++) {
		memcpy(copy, st.data, st.len);
		copy[rnd() % st.len] = rnd();
		copy[rnd() % st.len] = rnd();
		read_all(copy, st.len);
	}
	state_free(&st);
}

/* --- serial port --------------------------------------------------------------------------------------------- */

static u8 sent[64];
static unsigned int nr_sent, nr_room, nr_irq;
static bool irq;

static void on_transmit(void *arg, u8 byte)
{
	ASSERT(nr_sent < sizeof(sent));
	sent[nr_sent++] = byte;
}

static void on_room(void *arg)
{
	nr_room++;
}

static void on_irq(void *arg, bool level)
{
	ASSERT(level != irq);	/* only changes are told */
	irq = level;
	nr_irq++;
}

static const struct serial_host serial_host = { on_transmit, on_room, on_irq, NULL };

static u8 in(struct serial *s, u64 reg)
{
	u8 v = 0xff;

	serial_read(s, reg, &v, 1);
	return v;
}

static void out(struct serial *s, u64 reg, u8 v)
{
	serial_write(s, reg, &v, 1);
}

/* What Linux' 8250 driver does to find out what chip it has. */
static void test_serial_probe(void)
{
	struct serial *s = serial_create(&serial_host);

	out(s, UART_IER, 0);
	ASSERT_EQ(in(s, UART_IER), 0);
	out(s, UART_IER, 0x0f);
	ASSERT_EQ(in(s, UART_IER), 0x0f);
	out(s, UART_IER, 0xf0);		/* no sleep mode, no XScale unit enable */
	ASSERT_EQ(in(s, UART_IER), 0);
	out(s, UART_MCR, UART_MCR_LOOP | 0x0a);
	ASSERT_EQ(in(s, UART_MSR) & 0xf0, 0x90);
	out(s, UART_MCR, 0);
	out(s, UART_FCR, 0);
	ASSERT_EQ(in(s, UART_IIR) >> 6, 0);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	ASSERT_EQ(in(s, UART_IIR) >> 6, 3);
	out(s, UART_LCR, 0xbf);		/* a 16650 would show its features here */
	ASSERT_NE(in(s, UART_IIR), 0);
	out(s, UART_LCR, UART_LCR_DLAB);
	out(s, UART_DLL, 0x34);
	out(s, UART_DLM, 0x12);
	ASSERT_EQ(in(s, UART_DLL), 0x34);
	ASSERT_EQ(in(s, UART_DLM), 0x12);
	out(s, UART_LCR, UART_LCR_WLEN8);
	out(s, UART_SCR, 0xa5);
	ASSERT_EQ(in(s, UART_SCR), 0xa5);
	ASSERT_EQ(in(s, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	ASSERT_EQ(nr_sent, 0);
	serial_device_ops()->destroy(serial_device(s));
}

static void test_serial_transmit(void)
{
	struct serial *s = serial_create(&serial_host);

	out(s, UART_TX, 'a');
	ASSERT_EQ(nr_sent, 1);
	ASSERT_EQ(sent[0], 'a');
	ASSERT_EQ(nr_irq, 0);
	/* Gated by OUT2 as on the PC. */
	out(s, UART_IER, UART_IER_THRI);
	ASSERT_EQ(in(s, UART_IIR) & 0x0f, UART_IIR_THRI);
	ASSERT_EQ(nr_irq, 0);
	out(s, UART_IER, 0);
	out(s, UART_MCR, UART_MCR_OUT2);
	out(s, UART_IER, UART_IER_THRI);
	ASSERT(irq);
	ASSERT_EQ(in(s, UART_IIR) & 0x0f, UART_IIR_THRI);
	ASSERT(!irq);
	ASSERT_EQ(in(s, UART_IIR) & 0x0f, UART_IIR_NO_INT);
	out(s, UART_TX, 'b');
	ASSERT(irq);
	out(s, UART_TX, 'c');
	ASSERT(irq);
	out(s, UART_IER, 0);
	ASSERT(!irq);
	ASSERT_EQ(nr_sent, 3);
	/* Accesses of other widths reach nothing. */
	serial_write(s, UART_TX, (const u8 *)"xyz!", 4);
	ASSERT_EQ(nr_sent, 3);
	serial_device_ops()->destroy(serial_device(s));
}

static void test_serial_receive(void)
{
	struct serial *s = serial_create(&serial_host);
	u8 data[40];
	int i;

	for (i = 0; i < 40; i++)
		data[i] = i + 1;
	ASSERT_EQ(serial_receive(s, data, 40), 1);	/* no FIFO yet */
	ASSERT_EQ(in(s, UART_RX), 1);
	ASSERT_EQ(nr_room, 1);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(s, UART_MCR, UART_MCR_OUT2);
	ASSERT_EQ(serial_receive(s, data, 40), 16);
	ASSERT(!irq);
	out(s, UART_IER, UART_IER_RDI);
	ASSERT(irq);
	ASSERT_EQ(in(s, UART_IIR) & 0x0f, UART_IIR_RDI);
	ASSERT_EQ(serial_receive(s, data, 40), 0);
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(in(s, UART_LSR) & UART_LSR_DR, UART_LSR_DR);
		ASSERT(irq);
		ASSERT_EQ(in(s, UART_RX), i + 1);
	}
	ASSERT(!irq);
	ASSERT_EQ(in(s, UART_LSR) & UART_LSR_DR, 0);
	ASSERT_EQ(in(s, UART_RX), 0);
	ASSERT_EQ(nr_room, 2);
	/* Clearing the receiver makes room, too. */
	ASSERT_EQ(serial_receive(s, data, 5), 5);
	out(s, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	ASSERT_EQ(nr_room, 3);
	ASSERT(!irq);
	serial_device_ops()->destroy(serial_device(s));
}

static void test_serial_break_and_loop(void)
{
	struct serial *s = serial_create(&serial_host);
	u8 byte = 'q';
	int i;

	out(s, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(s, UART_MCR, UART_MCR_OUT2);
	out(s, UART_IER, UART_IER_RLSI | UART_IER_RDI);
	ASSERT_EQ(serial_receive(s, &byte, 1), 1);
	ASSERT(serial_break(s));
	ASSERT_EQ(in(s, UART_IIR) & 0x0f, UART_IIR_RDI);
	ASSERT_EQ(in(s, UART_RX), 'q');
	/* The error belongs to the byte now first. */
	ASSERT_EQ(in(s, UART_IIR) & 0x0f, UART_IIR_RLSI);
	ASSERT_EQ(in(s, UART_LSR) & UART_LSR_BI, UART_LSR_BI);
	ASSERT_EQ(in(s, UART_LSR) & UART_LSR_BI, 0);
	ASSERT_EQ(in(s, UART_RX), 0);
	ASSERT(!irq);

	out(s, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2);
	ASSERT_EQ(serial_receive(s, &byte, 1), 0);
	for (i = 0; i < 17; i++)
		out(s, UART_TX, 'A' + i);
	ASSERT_EQ(nr_sent, 0);
	ASSERT(!irq);
	ASSERT_EQ(in(s, UART_LSR) & UART_LSR_OE, UART_LSR_OE);
	for (i = 0; i < 16; i++)
		ASSERT_EQ(in(s, UART_RX), 'A' + i);
	nr_room = 0;
	out(s, UART_MCR, UART_MCR_OUT2);
	ASSERT_EQ(nr_room, 1);		/* the host may go on */
	ASSERT_EQ(in(s, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	serial_device_ops()->destroy(serial_device(s));
}

/* --- clock --------------------------------------------------------------------------------------------------- */

static s64 fake_now;

static s64 get_now(void)
{
	return fake_now;
}

static u8 cmos_get(struct rtc *rtc, u8 reg)
{
	u8 v = 0xff;

	rtc_write(rtc, 0, &reg, 1);
	rtc_read(rtc, 1, &v, 1);
	return v;
}

static void cmos_put(struct rtc *rtc, u8 reg, u8 v)
{
	rtc_write(rtc, 0, &reg, 1);
	rtc_write(rtc, 1, &v, 1);
}

static void test_rtc(void)
{
	struct rtc *rtc = rtc_create(get_now);

	fake_now = 1767225599;			/* 2025-12-31 23:59:59, a Wednesday */
	ASSERT_EQ(cmos_get(rtc, 0x00), 0x59);
	ASSERT_EQ(cmos_get(rtc, 0x02), 0x59);
	ASSERT_EQ(cmos_get(rtc, 0x04), 0x23);
	ASSERT_EQ(cmos_get(rtc, 0x06), 4);
	ASSERT_EQ(cmos_get(rtc, 0x07), 0x31);
	ASSERT_EQ(cmos_get(rtc, 0x08), 0x12);
	ASSERT_EQ(cmos_get(rtc, 0x09), 0x25);
	ASSERT_EQ(cmos_get(rtc, 0x32), 0x20);
	ASSERT_EQ(cmos_get(rtc, 0x0a) & 0x80, 0);	/* never in the middle of an update */
	ASSERT_EQ(cmos_get(rtc, 0x0d), 0x80);
	fake_now++;
	ASSERT_EQ(cmos_get(rtc, 0x09), 0x26);
	ASSERT_EQ(cmos_get(rtc, 0x04), 0x00);
	/* Twelve hours, then binary. */
	cmos_put(rtc, 0x0b, 0x00);
	ASSERT_EQ(cmos_get(rtc, 0x04), 0x12);
	fake_now += 13 * 3600;
	ASSERT_EQ(cmos_get(rtc, 0x04), 0x81);
	cmos_put(rtc, 0x0b, 0x06);
	ASSERT_EQ(cmos_get(rtc, 0x04), 13);
	ASSERT_EQ(cmos_get(rtc, 0x09), 26);
	/* The guest sets its clock: 2030-06-15 01:02:03. */
	cmos_put(rtc, 0x0b, 0x86);
	cmos_put(rtc, 0x00, 3);
	cmos_put(rtc, 0x02, 2);
	cmos_put(rtc, 0x04, 1);
	cmos_put(rtc, 0x07, 15);
	cmos_put(rtc, 0x08, 6);
	cmos_put(rtc, 0x09, 30);
	fake_now += 100;			/* stands still meanwhile */
	ASSERT_EQ(cmos_get(rtc, 0x00), 3);
	cmos_put(rtc, 0x0b, 0x06);
	fake_now += 57;
	ASSERT_EQ(cmos_get(rtc, 0x00), 0);
	ASSERT_EQ(cmos_get(rtc, 0x02), 3);
	ASSERT_EQ(cmos_get(rtc, 0x06), 7);	/* a Saturday */
	/* CMOS RAM keeps what it is given, for any index. */
	cmos_put(rtc, 0x7f, 0x5a);
	ASSERT_EQ(cmos_get(rtc, 0xff), 0x5a);
	rtc_device_ops()->destroy(rtc_device(rtc));
}

/* Any bytes in the time registers: the clock goes wrong, pvhv-run does not. */
static void test_rtc_nonsense(void)
{
	struct rtc *rtc = rtc_create(get_now);
	int i;

	fake_now = 1767225599;
	for (i = 0; i < 200000; i++) {
		if (rnd() & 1)
			cmos_put(rtc, rnd() % 64, rnd());
		else
			cmos_get(rtc, rnd() % 64);
	}
	rtc_device_ops()->destroy(rtc_device(rtc));
}

/* --- ports and power ----------------------------------------------------------------------------------------- */

static int stop_status = -1;

static void on_stop(void *arg, int status)
{
	stop_status = status;
}

static int stopped_by(struct iobus *bus, u16 port, const char *data, u32 len)
{
	stop_status = -1;
	iobus_write(bus, port, (const u8 *)data, len);
	return stop_status;
}

static void test_power(void)
{
	const struct power_host host = { on_stop, on_irq, NULL };
	struct device *pw = power_create(&host);
	struct iobus bus;
	u8 v;

	iobus_init(&bus);
	ASSERT_EQ(power_attach(pw, &bus, false), 0);
	ASSERT_EQ(stopped_by(&bus, 0x600, "\x34", 1), STATUS_POWEROFF);
	ASSERT_EQ(stopped_by(&bus, 0x600, "\x14", 1), -1);	/* not enabled */
	ASSERT_EQ(stopped_by(&bus, 0x600, "\x24", 1), -1);	/* S1 */
	ASSERT_EQ(stopped_by(&bus, 0xcf9, "\x06", 1), STATUS_REBOOT);
	ASSERT_EQ(stopped_by(&bus, 0xcf9, "\x02", 1), -1);
	ASSERT_EQ(stopped_by(&bus, 0xcf8, "\x00\x06\x00\x80", 4), -1);	/* PCI's address, no reset */
	ASSERT_EQ(stopped_by(&bus, 0x64, "\xfe", 1), STATUS_REBOOT);
	ASSERT_EQ(stopped_by(&bus, 0x64, "\xff", 1), -1);
	ASSERT_EQ(stopped_by(&bus, 0xf4, "\x07", 1), -1);	/* only if asked for */
	iobus_read(&bus, 0x64, &v, 1);
	ASSERT_EQ(v & 3, 0);			/* nothing to wait for */

	power_button(pw);
	power_button(pw);
	ASSERT(irq);
	iobus_read(&bus, 0x602, &v, 1);
	ASSERT_EQ(v, 1);
	ASSERT(!irq);
	iobus_read(&bus, 0x602, &v, 1);
	ASSERT_EQ(v, 0);
	iobus_fini(&bus);
	iobus_init(&bus);
	ASSERT_EQ(power_attach(pw, &bus, true), 0);
	ASSERT_EQ(stopped_by(&bus, 0xf4, "\x07", 1), 7);
	power_device_ops()->destroy(pw);
}

static u64 seen_off;
static u32 seen_len;

static void note_read(void *arg, u64 off, u8 *data, u32 len)
{
	seen_off = off;
	seen_len = len;
	memset(data, (int)(long)arg, len);
}

static void note_write(void *arg, u64 off, const u8 *data, u32 len)
{
	seen_off = off;
	seen_len = len;
}

static int claim(struct iobus *bus, u64 base, u64 len, long tag)
{
	const struct iobus_region reg = { base, len, note_read, note_write, (void *)tag };

	return iobus_add(bus, &reg);
}

static u32 read_bus(struct iobus *bus, u64 addr, u32 len)
{
	u32 v = 0;

	iobus_read(bus, addr, (u8 *)&v, len);
	return v;
}

static void test_iobus(void)
{
	struct iobus_region old;
	struct iobus bus;
	int i;

	iobus_init(&bus);
	ASSERT_EQ(claim(&bus, 0x200, 0x10, 2), 0);
	ASSERT_EQ(claim(&bus, 0x100, 0x10, 1), 0);
	ASSERT_EQ(claim(&bus, 0x300, 1, 3), 0);
	ASSERT_EQ(claim(&bus, 0x110, 0xf0, 4), 0);	/* fits exactly between */
	ASSERT_EQ(claim(&bus, 0x20f, 2, 5), -EEXIST);
	ASSERT_EQ(claim(&bus, 0x1ff, 2, 5), -EEXIST);
	ASSERT_EQ(claim(&bus, 0x0ff, 2, 5), -EEXIST);
	ASSERT_EQ(claim(&bus, 0x0f0, 0x400, 5), -EEXIST);
	ASSERT_EQ(claim(&bus, 0x500, 0, 5), -EINVAL);
	ASSERT_EQ(claim(&bus, UINT64_MAX, 2, 5), -EINVAL);
	ASSERT_EQ(read_bus(&bus, 0x100, 1), 1);
	ASSERT_EQ(read_bus(&bus, 0x10c, 4), 0x01010101);
	ASSERT_EQ(seen_off, 0x0c);
	ASSERT_EQ(seen_len, 4);
	ASSERT_EQ(read_bus(&bus, 0x10d, 4), 0xffffffff);	/* over the edge */
	ASSERT_EQ(read_bus(&bus, 0x0ff, 2), 0xffff);
	ASSERT_EQ(read_bus(&bus, 0x300, 1), 3);
	ASSERT_EQ(read_bus(&bus, 0x300, 2), 0xffff);
	ASSERT_EQ(read_bus(&bus, 0x301, 1), 0xff);
	ASSERT_EQ(read_bus(&bus, UINT64_MAX, 1), 0xff);
	ASSERT(!iobus_remove(&bus, 0x111, NULL));	/* nothing begins there */
	ASSERT(iobus_remove(&bus, 0x110, &old));
	ASSERT(old.base == 0x110 && old.len == 0xf0);
	ASSERT_EQ(read_bus(&bus, 0x110, 1), 0xff);
	ASSERT_EQ(read_bus(&bus, 0x20f, 1), 2);
	ASSERT_EQ(claim(&bus, 0x1f0, 0x10, 6), 0);
	ASSERT_EQ(read_bus(&bus, 0x1ff, 1), 6);
	for (i = 4; i < IOBUS_MAX; i++)
		ASSERT_EQ(claim(&bus, 0x1000 + 16 * i, 16, 9), 0);
	ASSERT_EQ(claim(&bus, 0x4000, 1, 9), -ENOSPC);
	iobus_fini(&bus);
}

/* --- round trips --------------------------------------------------------------------------------------------- */

struct set {
	struct devices devs;
	struct serial *serial;
	struct rtc *rtc;
	struct device *power;
};

static void make_set(struct set *set)
{
	const struct power_host power = { on_stop, on_irq, NULL };

	devices_init(&set->devs);
	set->serial = serial_create(&serial_host);
	set->rtc = rtc_create(get_now);
	set->power = power_create(&power);
	devices_add(&set->devs, serial_device(set->serial), serial_device_ops());
	devices_add(&set->devs, rtc_device(set->rtc), rtc_device_ops());
	devices_add(&set->devs, set->power, power_device_ops());
}

static void test_devices_round_trip(void)
{
	struct state first, second;
	struct set a, b;
	size_t len;
	int i;

	make_set(&a);
	make_set(&b);
	out(a.serial, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(a.serial, UART_LCR, UART_LCR_DLAB);
	out(a.serial, UART_DLL, 0x0c);
	out(a.serial, UART_LCR, UART_LCR_WLEN8);
	out(a.serial, UART_SCR, 0x77);
	out(a.serial, UART_MCR, UART_MCR_OUT2 | UART_MCR_RTS);
	serial_receive(a.serial, (const u8 *)"hello", 5);
	serial_break(a.serial);
	out(a.serial, UART_IER, UART_IER_RDI | UART_IER_THRI);
	cmos_put(a.rtc, 0x09, 0x41);
	cmos_put(a.rtc, 0x60, 0x42);
	irq = false;
	power_button(a.power);

	state_init(&first);
	ASSERT_EQ(devices_save(&a.devs, &first), 0);
	ASSERT_EQ(devices_load(&b.devs, first.data, first.len), 0);
	state_init(&second);
	ASSERT_EQ(devices_save(&b.devs, &second), 0);
	ASSERT_EQ(first.len, second.len);
	ASSERT(!memcmp(first.data, second.data, first.len));
	/* And the loaded ones behave alike. */
	ASSERT_EQ(in(b.serial, UART_RX), 'h');
	ASSERT_EQ(in(b.serial, UART_SCR), 0x77);
	ASSERT_EQ(cmos_get(b.rtc, 0x09), 0x41);
	ASSERT_EQ(cmos_get(b.rtc, 0x60), 0x42);

	for (len = 0; len < first.len; len++)
		ASSERT_LT(devices_load(&b.devs, first.data, len), 0);
	for (i = 0; i < 20000; i++) {
		u8 *copy = malloc(first.len);

		ASSERT(copy);
		memcpy(copy, first.data, first.len);
		copy[rnd() % first.len] = rnd();
		copy[rnd() % first.len] = rnd();
		devices_load(&b.devs, copy, first.len);
		free(copy);
	}
	/* Whatever a damaged state left, the devices stay within their bounds. */
	irq = true;
	for (i = 0; i < 64; i++)
		in(b.serial, UART_RX);
	state_free(&first);
	state_free(&second);
	devices_destroy(&a.devs);
	devices_destroy(&b.devs);
}

static void test_devices_newer_version(void)
{
	struct state st;
	struct set a;

	make_set(&a);
	state_init(&st);
	state_begin(&st, "serial", 99);
	state_end(&st);
	ASSERT_EQ(devices_load(&a.devs, st.data, st.len), -EPROTONOSUPPORT);
	ASSERT(strstr(last_line, "serial"));
	state_free(&st);
	devices_destroy(&a.devs);
}

/* --- memory -------------------------------------------------------------------------------------------------- */

static void test_mem_bounds(void)
{
	u8 *const host = (u8 *)0x100000000000;
	struct mem mem = { .host = host, .size = 5 * GIB, .low = LOW_RAM_MAX, .high = 5 * GIB - LOW_RAM_MAX, .fd = -1 };
	const u64 top = HIGH_RAM_BASE + mem.high;

	ASSERT(mem_at(&mem, 0, 1) == host);
	ASSERT(mem_at(&mem, 0, LOW_RAM_MAX) == host);
	ASSERT(!mem_at(&mem, 0, LOW_RAM_MAX + 1));
	ASSERT(mem_at(&mem, LOW_RAM_MAX - 1, 1) == host + LOW_RAM_MAX - 1);
	ASSERT(!mem_at(&mem, LOW_RAM_MAX - 1, 2));
	ASSERT(!mem_at(&mem, LOW_RAM_MAX, 0));
	ASSERT(!mem_at(&mem, HIGH_RAM_BASE - 1, 1));
	ASSERT(mem_at(&mem, HIGH_RAM_BASE, mem.high) == host + LOW_RAM_MAX);
	ASSERT(!mem_at(&mem, HIGH_RAM_BASE, mem.high + 1));
	ASSERT(mem_at(&mem, top - 1, 1) == host + mem.size - 1);
	ASSERT(!mem_at(&mem, top, 0));
	ASSERT(!mem_at(&mem, top - 1, UINT64_MAX));
	ASSERT(!mem_at(&mem, UINT64_MAX, 1));
	ASSERT(!mem_at(&mem, UINT64_MAX - 1, 4));
	ASSERT(!mem_at(&mem, 16, UINT64_MAX - 8));
}

static void test_mem_access(void)
{
	struct mem mem;
	u32 v = 0x12345678, w = 0;

	ASSERT_EQ(mem_init(&mem, 4 * MIB, MEM_PAGES_SMALL), 0);
	ASSERT_EQ(((uintptr_t)mem.host) % (2 * MIB), 0);
	ASSERT_EQ(mem_write(&mem, 4 * MIB - 4, &v, 4), 0);
	ASSERT_EQ(mem_read(&mem, 4 * MIB - 4, &w, 4), 0);
	ASSERT_EQ(v, w);
	ASSERT_EQ(mem_write(&mem, 4 * MIB - 3, &v, 4), -EFAULT);
	ASSERT_EQ(mem_read(&mem, 4 * MIB, &w, 1), -EFAULT);
	mem_fini(&mem);
	ASSERT_EQ(mem_check_host(0), -EINVAL);
	ASSERT_EQ(mem_check_host(1ULL << 50), -ENOMEM);
	ASSERT_EQ(mem_check_host(MIB + 1), -EINVAL);
	ASSERT_EQ(mem_check_host(MIB), 0);
	ASSERT_EQ(lines, 3);
}

/* --- ACPI ---------------------------------------------------------------------------------------------------- */

#define TABLES_GPA	0xe0000

static bool sums_to_zero(const u8 *p, size_t len)
{
	u8 sum = 0;

	while (len--)
		sum += *p++;
	return !sum;
}

static const u8 *table(const u8 *buf, size_t used, u64 gpa, const char *signature)
{
	const u8 *t;

	ASSERT(gpa >= TABLES_GPA && gpa + 36 <= TABLES_GPA + used);
	t = buf + (gpa - TABLES_GPA);
	ASSERT_MSG(!memcmp(t, signature, 4), "no %s", signature);
	ASSERT_LE(gpa + le(t + 4, 4), TABLES_GPA + used);
	ASSERT_MSG(sums_to_zero(t, le(t + 4, 4)), "%s: checksum", signature);
	return t;
}

static void check_madt(const u8 *t, u32 cpus)
{
	u32 len = le(t + 4, 4), off = 44, lapics = 0, x2apics = 0, ioapics = 0;

	while (off < len) {
		const u8 *p = t + off;

		ASSERT_LE(off + 2, len);
		ASSERT(p[1] >= 2 && off + p[1] <= len);
		if (p[0] == 0) {
			ASSERT_EQ(p[3], lapics);
			ASSERT_EQ(le(p + 4, 4), 1);
			lapics++;
		} else if (p[0] == 9) {
			ASSERT_EQ(le(p + 4, 4), 255 + x2apics);
			x2apics++;
		} else if (p[0] == 1) {
			ASSERT_EQ(le(p + 4, 4), IOAPIC_BASE);
			ioapics++;
		}
		off += p[1];
	}
	ASSERT_EQ(off, len);
	ASSERT_EQ(lapics + x2apics, cpus);
	ASSERT_LE(lapics, 255);
	ASSERT_EQ(ioapics, 1);
}

static const struct acpi_machine four_cpus = { 4, 0x00000016 };

static void test_acpi_tables(void)
{
	static const u32 counts[] = { 1, 2, 4, 64, 254, 255, 256, 300, MAX_CPUS };
	static u8 buf[ACPI_TABLES_MAX];
	unsigned int i;
	size_t used;

	for (i = 0; i < 2 * ARRAY_SIZE(counts); i++) {
		u32 cpus = counts[i / 2], slots = i % 2 ? 0xfffffffe : 0;
		const struct acpi_machine machine = { cpus, slots };
		const u8 *xsdt, *fadt, *mcfg;

		memset(buf, 0xaa, sizeof(buf));
		ASSERT_EQ(acpi_build(buf, sizeof(buf), TABLES_GPA, &machine, &used), 0);
		ASSERT_LE(used, sizeof(buf));
		ASSERT(!memcmp(buf, "RSD PTR ", 8));
		ASSERT(sums_to_zero(buf, 20));
		ASSERT(sums_to_zero(buf, 36));
		xsdt = table(buf, used, le(buf + 24, 8), "XSDT");
		fadt = table(buf, used, le(xsdt + 36, 8), "FACP");
		table(buf, used, le(fadt + 140, 8), "DSDT");
		ASSERT_EQ(le(fadt + 40, 4), le(fadt + 140, 8));
		ASSERT_EQ(le(fadt + 4, 4), 276);
		check_madt(table(buf, used, le(xsdt + 44, 8), "APIC"), cpus);
		ASSERT_EQ(le(xsdt + 4, 4), slots ? 60 : 52);
		if (!slots)
			continue;
		mcfg = table(buf, used, le(xsdt + 52, 8), "MCFG");
		ASSERT_EQ(le(mcfg + 44, 8), PCI_ECAM_BASE);
		ASSERT_EQ(le(mcfg + 52, 4), 0);		/* segment 0, bus 0 to 0 */
	}
}

static void test_acpi_too_small(void)
{
	u8 *buf = malloc(ACPI_TABLES_MAX);
	size_t cap, used, need;

	ASSERT(buf);
	ASSERT_EQ(acpi_build(buf, ACPI_TABLES_MAX, TABLES_GPA, &four_cpus, &need), 0);
	free(buf);
	for (cap = 0; cap < need; cap++) {
		buf = malloc(cap + 1);		/* exact, for the address sanitizer */
		ASSERT(buf);
		ASSERT_EQ(acpi_build(buf, cap, TABLES_GPA, &four_cpus, &used), -ENOSPC);
		free(buf);
	}
}

static void write_file(const char *path, const void *data, size_t len)
{
	int fd = ASSERT_OK(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600));

	ASSERT_EQ(write(fd, data, len), len);
	close(fd);
}

/* The disassembler of ACPICA reads all of it, and its compiler takes the DSDT back without a complaint. */
static void test_acpi_iasl(void)
{
	static const char * const names[] = { "dsdt", "facp", "apic", "xsdt", "mcfg" };
	static u8 buf[ACPI_TABLES_MAX];
	char dir[] = "/tmp/vmm_unit.XXXXXX", cmd[400];
	const u8 *xsdt, *fadt, *t[5];
	size_t used;
	int i, bad = 0;

	if (system("command -v iasl >/dev/null 2>&1"))
		SKIP("no iasl (package acpica-tools)");
	ASSERT(mkdtemp(dir));
	ASSERT_OK(chdir(dir));
	ASSERT_EQ(acpi_build(buf, sizeof(buf), TABLES_GPA, &four_cpus, &used), 0);
	t[3] = xsdt = table(buf, used, le(buf + 24, 8), "XSDT");
	t[1] = fadt = table(buf, used, le(xsdt + 36, 8), "FACP");
	t[0] = table(buf, used, le(fadt + 140, 8), "DSDT");
	t[2] = table(buf, used, le(xsdt + 44, 8), "APIC");
	t[4] = table(buf, used, le(xsdt + 52, 8), "MCFG");
	for (i = 0; i < 5; i++) {
		snprintf(cmd, sizeof(cmd), "%s.dat", names[i]);
		write_file(cmd, t[i], le(t[i] + 4, 4));
		snprintf(cmd, sizeof(cmd), "iasl -d %s.dat >%s.log 2>&1 && ! grep -iE 'error|invalid|warning|unknown' %s.log",
			 names[i], names[i], names[i]);
		bad |= system(cmd);
	}
	bad |= system("iasl -p back dsdt.dsl >back.log 2>&1 && grep -q '0 Errors, 0 Warnings' back.log || { sed 's/^/# /' back.log; false; }");
	ASSERT_OK(chdir("/"));
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	ASSERT_EQ(system(cmd), 0);
	ASSERT_EQ(bad, 0);
}

/* --- kernel images ------------------------------------------------------------------------------------------- */

static struct image file_of(const void *data, size_t len)
{
	struct image img = { .size = len, .path = "test", .what = "kernel" };

	img.fd = ASSERT_OK(memfd_create("image", 0));
	if (len)
		ASSERT_EQ(pwrite(img.fd, data, len, 0), len);
	return img;
}

#define BZ_SIZE		(512 * 3 + 4096)

static void make_bzimage(u8 *data)
{
	struct setup_header hdr = {
		.setup_sects = 2,
		.syssize = 4096 / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb,
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = 0x1000000,
		.init_size = 0x400000,
	};

	memset(data, 0x90, BZ_SIZE);
	memcpy(data + 0x1f1, &hdr, sizeof(hdr));
}

static void test_bzimage_good(void)
{
	static u8 data[BZ_SIZE];
	struct bzimage bz;
	struct image img;

	make_bzimage(data);
	img = file_of(data, BZ_SIZE);
	ASSERT_EQ(bzimage_parse(&img, 128 * MIB, &bz), 0);
	ASSERT_EQ(bz.load, 0x1000000);
	ASSERT_EQ(bz.end, 0x1400000);
	ASSERT_EQ(bz.payload_off, 512 * 3);
	ASSERT_EQ(bz.payload_len, 4096);
	ASSERT_EQ(bz.initrd_max, 0x80000000);
	ASSERT_EQ(bz.cmdline_max, 2048);
	ASSERT_EQ(bzimage_parse(&img, 20 * MIB, &bz), 0);
	ASSERT_EQ(bzimage_parse(&img, 20 * MIB - 1, &bz), -ENOMEM);
	ASSERT(strstr(last_line, "--memory"));
}

static void test_bzimage_truncated(void)
{
	static u8 data[BZ_SIZE];
	struct bzimage bz;
	struct image img;
	size_t len;

	make_bzimage(data);
	img = file_of(data, BZ_SIZE);
	for (len = BZ_SIZE; len--;) {
		lines = 0;
		ASSERT_OK(ftruncate(img.fd, len));
		img.size = len;
		ASSERT_EQ(bzimage_parse(&img, 128 * MIB, &bz), -ENOEXEC);
		ASSERT_EQ(lines, 1);
	}
	/* Shrinking after its size was taken is an error as well. */
	img.size = BZ_SIZE;
	ASSERT_LT(bzimage_parse(&img, 128 * MIB, &bz), 0);
}

/* Loads whatever still parses: a hostile header must not write outside guest memory. */
static void test_bzimage_hostile(void)
{
	static u8 data[BZ_SIZE];
	const u64 size = 64 * MIB;
	int i, j, loaded = 0;
	struct boot boot;
	struct mem mem;

	ASSERT_EQ(mem_init(&mem, size, MEM_PAGES_SMALL), 0);
	ASSERT_EQ(mprotect(mem.host + size - 4096, 4096, PROT_NONE), 0);
	mem.size = mem.low = size - 4096;
	for (i = 0; i < 20000; i++) {
		struct image img, rd;

		make_bzimage(data);
		for (j = rnd() % 4; j >= 0; j--)
			data[0x1f1 + rnd() % sizeof(struct setup_header)] = rnd() & 1 ? rnd() : 0xff;
		img = file_of(data, BZ_SIZE);
		rd = file_of(data, 1 + rnd() % 2000);
		rd.what = "initrd";
		if (!bzimage_load(&mem, &img, i & 1 ? &rd : NULL, "quiet", 0xe0000, &boot)) {
			ASSERT_LT(boot.entry, size);
			loaded++;
		}
		close(img.fd);
		close(rd.fd);
	}
	tap_diag("%d of %d damaged images were still loadable", loaded, i);
	ASSERT_GT(loaded, 100);
}

static void test_bzimage_boot_params(void)
{
	static u8 data[BZ_SIZE];
	struct boot_params *bp;
	struct image img, rd;
	struct boot boot;
	struct mem mem;

	make_bzimage(data);
	img = file_of(data, BZ_SIZE);
	rd = file_of(data, 5000);
	rd.what = "initrd";
	ASSERT_EQ(mem_init(&mem, 64 * MIB, MEM_PAGES_SMALL), 0);
	ASSERT_EQ(bzimage_load(&mem, &img, &rd, "console=ttyS0", 0xe0000, &boot), 0);
	ASSERT_EQ(boot.entry, 0x1000200);
	bp = mem_at(&mem, boot.info, sizeof(*bp));
	ASSERT(bp);
	ASSERT_EQ(bp->acpi_rsdp_addr, 0xe0000);
	ASSERT_EQ(bp->hdr.ramdisk_size, 5000);
	ASSERT_EQ(bp->hdr.ramdisk_image, 64 * MIB - 8192);
	ASSERT(!memcmp(mem_at(&mem, bp->hdr.ramdisk_image, 5000), data, 5000));
	ASSERT(!strcmp(mem_at(&mem, bp->hdr.cmd_line_ptr, 14), "console=ttyS0"));
	ASSERT_EQ(bp->e820_entries, 5);
	ASSERT_EQ(bp->e820_table[3].addr, 0x100000);
	ASSERT_EQ(bp->e820_table[3].addr + bp->e820_table[3].size, 64 * MIB);
	mem_fini(&mem);
}

#define ELF_SIZE	4096

static void make_elf(u8 *data)
{
	Elf64_Ehdr eh = {
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
		.e_phoff = 64, .e_ehsize = 64, .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3,
	};
	Elf64_Phdr ph[3] = {
		{ .p_type = PT_LOAD, .p_offset = 1024, .p_paddr = 0x1000000, .p_filesz = 1024, .p_memsz = 0x10000 },
		{ .p_type = PT_LOAD, .p_offset = 2048, .p_paddr = 0x1100000, .p_filesz = 2048, .p_memsz = 2048 },
		{ .p_type = PT_NOTE, .p_offset = 512, .p_filesz = 48 },
	};
	struct {
		Elf64_Nhdr other;
		char other_name[4], other_desc[8];
		Elf64_Nhdr pvh;
		char name[4];
		u32 entry, pad;
	} notes = {
		.other = { 4, 5, 1 }, .other_name = "GNU", .other_desc = "abcd",
		.pvh = { 4, 8, 18 }, .name = "Xen", .entry = 0x1000010,
	};

	memset(data, 0xcc, ELF_SIZE);
	memcpy(data, &eh, sizeof(eh));
	memcpy(data + 64, ph, sizeof(ph));
	_Static_assert(sizeof(notes) == 48, "notes");
	memcpy(data + 512, &notes, sizeof(notes));
}

static void test_elf_good(void)
{
	static u8 data[ELF_SIZE];
	struct boot boot = { 0 };
	struct elf_kernel elf;
	struct image img, rd;
	struct mem mem;
	u8 *si;

	make_elf(data);
	img = file_of(data, ELF_SIZE);
	ASSERT(elf_probe(&img));
	ASSERT_EQ(elf_parse(&img, 128 * MIB, &elf), 0);
	ASSERT_EQ(elf.nr, 2);
	ASSERT_EQ(elf.entry, 0x1000010);
	ASSERT_EQ(elf.end, 0x1100800);
	ASSERT_EQ(elf_parse(&img, 0x1100800, &elf), 0);
	ASSERT_EQ(elf_parse(&img, 0x11007ff, &elf), -ENOMEM);

	rd = file_of(data, 100);
	rd.what = "initrd";
	ASSERT_EQ(mem_init(&mem, 64 * MIB, MEM_PAGES_SMALL), 0);
	ASSERT_EQ(pvh_load(&mem, &img, &rd, "quiet", 0xe0000, &boot), 0);
	ASSERT_EQ(boot.entry, 0x1000010);
	ASSERT(!memcmp(mem_at(&mem, 0x1000000, 1024), data + 1024, 1024));
	si = mem_at(&mem, boot.info, 56);
	ASSERT(si);
	ASSERT_EQ(le(si, 4), 0x336ec578);
	ASSERT_EQ(le(si + 4, 4), 1);
	ASSERT_EQ(le(si + 12, 4), 1);
	ASSERT_EQ(le(mem_at(&mem, le(si + 16, 8), 8), 8), 64 * MIB - 4096);
	ASSERT(!strcmp(mem_at(&mem, le(si + 24, 8), 6), "quiet"));
	ASSERT_EQ(le(si + 32, 8), 0xe0000);
	ASSERT_EQ(le(si + 48, 4), 5);
	mem_fini(&mem);
}

static void test_elf_truncated(void)
{
	static u8 data[ELF_SIZE];
	struct elf_kernel elf;
	struct image img;
	size_t len;

	make_elf(data);
	img = file_of(data, ELF_SIZE);
	for (len = ELF_SIZE; len--;) {
		lines = 0;
		ASSERT_OK(ftruncate(img.fd, len));
		img.size = len;
		ASSERT_LT(elf_parse(&img, 128 * MIB, &elf), 0);
		ASSERT_EQ(lines, 1);
	}
}

static void test_elf_hostile(void)
{
	static u8 data[ELF_SIZE];
	const u64 size = 64 * MIB;
	int i, j, loaded = 0;
	struct boot boot;
	struct mem mem;

	ASSERT_EQ(mem_init(&mem, size, MEM_PAGES_SMALL), 0);
	ASSERT_EQ(mprotect(mem.host + size - 4096, 4096, PROT_NONE), 0);
	mem.size = mem.low = size - 4096;
	for (i = 0; i < 20000; i++) {
		struct image img;

		make_elf(data);
		for (j = rnd() % 4; j >= 0; j--) {
			u32 at = rnd() % (64 + 3 * 56 + 48);

			data[at < 64 + 3 * 56 ? at : at - 64 - 3 * 56 + 512] = rnd() & 1 ? rnd() : 0xff;
		}
		img = file_of(data, ELF_SIZE);
		loaded += !pvh_load(&mem, &img, NULL, "quiet", 0xe0000, &boot);
		close(img.fd);
	}
	tap_diag("%d of %d damaged images were still loadable", loaded, i);
	ASSERT_GT(loaded, 100);
}

static void test_initrd_place(void)
{
	struct image rd = { .fd = -1, .size = 10 * MIB, .path = "rd", .what = "initrd" };
	u64 gpa;

	ASSERT_EQ(boot_place_initrd(&rd, 128 * MIB, 32 * MIB, 0x80000000, &gpa), 0);
	ASSERT_EQ(gpa, 118 * MIB);
	ASSERT_EQ(boot_place_initrd(&rd, 128 * MIB, 32 * MIB, 64 * MIB, &gpa), 0);
	ASSERT_EQ(gpa, 54 * MIB);
	ASSERT_EQ(boot_place_initrd(&rd, 42 * MIB, 32 * MIB, 0x80000000, &gpa), 0);
	ASSERT_EQ(gpa, 32 * MIB);
	ASSERT_EQ(boot_place_initrd(&rd, 42 * MIB - 4096, 32 * MIB, 0x80000000, &gpa), -E2BIG);
	rd.size = UINT64_MAX / 2;
	ASSERT_EQ(boot_place_initrd(&rd, 128 * MIB, 0, 0x80000000, &gpa), -E2BIG);
}

static void test_memory_map(void)
{
	struct boot_range map[6];

	ASSERT_EQ(boot_memory_map(128 * MIB, 0, map), 5);
	ASSERT_EQ(map[4].base, PCI_ECAM_BASE);
	ASSERT_EQ(boot_memory_map(LOW_RAM_MAX, GIB, map), 6);
	ASSERT_EQ(map[5].base, HIGH_RAM_BASE);
	ASSERT_EQ(map[5].len, GIB);
	ASSERT_EQ(map[3].base + map[3].len, LOW_RAM_MAX);
}

/* --- command line -------------------------------------------------------------------------------------------- */

#define ARGS_MAX	24

static int parse(struct options *opt, const char *text)
{
	static char buf[512];
	char *argv[ARGS_MAX + 2] = { "pvhv-run" };
	int argc = 1;
	char *p;

	snprintf(buf, sizeof(buf), "%s", text);
	for (p = strtok(buf, " "); p && argc < ARGS_MAX; p = strtok(NULL, " "))
		argv[argc++] = p;
	lines = 0;
	return options_parse(opt, argc, argv);
}

static void test_options_good(void)
{
	struct options opt;

	ASSERT_EQ(parse(&opt, "-k vmlinuz"), 0);
	ASSERT(!strcmp(opt.kernel, "vmlinuz"));
	ASSERT(!strcmp(opt.dev, "/dev/pvhv"));
	ASSERT(!strcmp(opt.append, "console=ttyS0"));
	ASSERT_EQ(opt.memory, 512 * MIB);
	ASSERT_EQ(opt.cpus, 1);
	ASSERT_EQ(opt.console, CONSOLE_STDIO);
	ASSERT(!opt.initrd && !opt.exit_port && !opt.dry_run);
	ASSERT_EQ(parse(&opt, "-k a -i b -p c -m 300 -c 4"), 0);
	ASSERT(!strcmp(opt.initrd, "b") && !strcmp(opt.append, "c"));
	ASSERT_EQ(opt.memory, 300 * MIB);
	ASSERT_EQ(opt.cpus, 4);
	ASSERT_EQ(parse(&opt, "--kernel a --memory size=2G,hugepages=2M --console file=/x --dry-run --exit-port"), 0);
	ASSERT_EQ(opt.memory, 2 * GIB);
	ASSERT_EQ(opt.pages, MEM_PAGES_2M);
	ASSERT_EQ(opt.console, CONSOLE_FILE);
	ASSERT(!strcmp(opt.console_path, "/x"));
	ASSERT(opt.dry_run && opt.exit_port);
	ASSERT_EQ(parse(&opt, "-k a --console=socket=/run/x --dev /dev/kvm --name=n"), 0);
	ASSERT_EQ(opt.console, CONSOLE_SOCKET);
	ASSERT(!strcmp(opt.console_path, "/run/x") && !strcmp(opt.dev, "/dev/kvm"));
	ASSERT_EQ(parse(&opt, "--help"), 0);
	ASSERT(opt.help);
	ASSERT_EQ(parse(&opt, "--version"), 0);
	ASSERT(opt.version);
}

static void test_options_devices(void)
{
	struct options opt;

	ASSERT_EQ(parse(&opt, "-k a"), 0);
	ASSERT(!opt.rng && !opt.balloon && !opt.nr_ports);
	ASSERT_EQ(parse(&opt, "-k a --rng --balloon"), 0);
	ASSERT(opt.rng && !opt.rng_bps && opt.balloon && opt.balloon_opt.reporting && opt.balloon_opt.deflate_on_oom);
	ASSERT_EQ(opt.balloon_opt.keep, 0);
	ASSERT_EQ(parse(&opt, "-k a --rng=bps=64K --balloon=target=100,reporting=off,oom=off -m 200"), 0);
	ASSERT_EQ(opt.rng_bps, 64 * KIB);
	ASSERT_EQ(opt.balloon_opt.keep, 100 * MIB);
	ASSERT(!opt.balloon_opt.reporting && !opt.balloon_opt.deflate_on_oom);
	ASSERT_EQ(parse(&opt, "-k a --port name=org.agent.0,socket=/run/s --port file=/l,name=log --port name=c,pty,console=on"), 0);
	ASSERT_EQ(opt.nr_ports, 3);
	ASSERT(!strcmp(opt.ports[0].name, "org.agent.0") && !strcmp(opt.ports[0].path, "/run/s"));
	ASSERT(opt.ports[0].kind == CONSOLE_SOCKET && !opt.ports[0].console);
	ASSERT(opt.ports[1].kind == CONSOLE_FILE && opt.ports[2].kind == CONSOLE_PTY && opt.ports[2].console);
	ASSERT_EQ(parse(&opt, "-k a --control /s --port name=x,control"), 0);
	ASSERT_EQ(opt.ports[0].kind, CONSOLE_CONTROL);
}

static void test_options_bad(void)
{
	static const char * const bad[] = {
		"", "-k", "--kernel", "-k a --frobnicate", "-k a -z", "-k a b", "-k a -m", "-k a -m x", "-k a -m -5",
		"-k a -m 12Q", "-k a -m 12MM", "-k a -m 99999999999999999999", "-k a -m 99999999999T", "-k a -c 0", "-k a -c -1",
		"-k a -c 4x", "-k a -c 99999", "-k a --memory size=1G,huge=yes", "-k a --memory hugepages=4K", "-k a --memory size",
		"-k a --rng=x", "-k a --rng=bps=0", "-k a --rng=bps", "-k a --balloon=target=x", "-k a --balloon=oom=yes", "-k a --balloon=5",
		"-k a --port", "-k a --port name=x", "-k a --port pty", "-k a --port name=,pty", "-k a --port name=a/b,pty",
		"-k a --port name=.a,pty", "-k a --port name=x,pty,none", "-k a --port name=x,file=", "-k a --port name=x,file",
		"-k a --port name=x,pty,console=1", "-k a --port name=x,pty=1", "-k a --port name=x,control",
		"-k a --memory size=1G,off", "-k a --console tty", "-k a --console file=", "-k a --console stdio=x", "-k a --dry-run=1",
	};
	struct options opt;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		ASSERT_MSG(parse(&opt, bad[i]) == -EINVAL, "accepted: %s", bad[i]);
		ASSERT_MSG(lines == 1, "%d lines: %s", lines, bad[i]);
		ASSERT_MSG(strchr(last_line, ':'), "no advice: %s", last_line);
	}
	ASSERT_LT(parse(&opt, "--frobnicate"), 0);
	ASSERT(strstr(last_line, "--frobnicate"));
}

static void test_options_sizes(void)
{
	u64 v;

	ASSERT_EQ(options_size("1", &v), 0);
	ASSERT_EQ(v, MIB);
	ASSERT_EQ(options_size("64k", &v), 0);
	ASSERT_EQ(v, 64 * KIB);
	ASSERT_EQ(options_size("3MiB", &v), 0);
	ASSERT_EQ(v, 3 * MIB);
	ASSERT_EQ(options_size("2GB", &v), 0);
	ASSERT_EQ(v, 2 * GIB);
	ASSERT_EQ(options_size("1T", &v), 0);
	ASSERT_EQ(v, 1024 * GIB);
	ASSERT_EQ(options_size("17179869184G", &v), -ERANGE);
	ASSERT_EQ(options_size(" 1", &v), -EINVAL);
	ASSERT_EQ(options_size("+1", &v), -EINVAL);
	ASSERT_EQ(options_size("1@", &v), -EINVAL);
}

/* A saved machine's options, and the command line that goes on with it */
static void test_options_saved(void)
{
	struct option_args saved = { .nr = 0 };
	struct options opt;

	ASSERT_EQ(parse(&opt, "-ka -m300 --memory 200M -c2 -done.img --disk path=two.img,iops=5 --rng --exit-port --name old"), 0);
	saved = opt.args;
	ASSERT_EQ(saved.nr, 6);		/* the second size took the place of the first; a name is the process' */
	ASSERT_EQ(parse(&opt, "--restore f --console none --name new"), 0);
	ASSERT_EQ(options_merge(&opt, &saved), 0);
	ASSERT_EQ(opt.memory, 200 * MIB);
	ASSERT_EQ(opt.cpus, 2);
	ASSERT_EQ(opt.nr_disks, 2);
	ASSERT(!strcmp(opt.disks[0].path, "one.img") && !strcmp(opt.disks[1].path, "two.img"));
	ASSERT_EQ(opt.disks[1].iops, 5);
	ASSERT(opt.rng && opt.exit_port && opt.console == CONSOLE_NONE);
	ASSERT(!strcmp(opt.name, "new") && !strcmp(opt.restore, "f") && opt.control == opt.control_default);
	ASSERT_EQ(opt.args.nr, 6);	/* to be saved again */
	options_free(&opt);

	ASSERT_EQ(parse(&opt, "--restore f -d three.img"), 0);
	ASSERT_EQ(options_merge(&opt, &saved), 0);
	ASSERT_EQ(opt.nr_disks, 1);
	ASSERT(!strcmp(opt.disks[0].path, "three.img"));
	options_free(&opt);

	ASSERT_EQ(parse(&opt, "--incoming tcp::5,tls=off --memory 1G --user 5"), 0);
	ASSERT_EQ(options_merge(&opt, &saved), 0);
	ASSERT(!strcmp(opt.incoming, "tcp::5,tls=off") && !strcmp(opt.user, "5"));
	ASSERT(opt.memory == GIB && opt.cpus == 2 && opt.nr_disks == 2);
	options_free(&opt);
	ASSERT_EQ(parse(&opt, "--incoming tcp::5 --kernel a"), -EINVAL);
	ASSERT_EQ(parse(&opt, "--incoming tcp::5 --restore f"), -EINVAL);
	ASSERT_EQ(parse(&opt, "--incoming tcp::5 --dry-run"), -EINVAL);

	/* Who saved it does not say where our files are */
	ASSERT_EQ(option_args_add(&saved, "console", "file=/etc/passwd"), 0);
	ASSERT_EQ(parse(&opt, "--restore f"), 0);
	ASSERT_EQ(options_merge(&opt, &saved), -EINVAL);
	options_free(&opt);
	option_args_free(&saved);
}

static void test_escape(void)
{
	struct escape esc = { 0 };
	size_t n;
	u8 o[2];

	ASSERT_EQ(escape_feed(&esc, 'x', o, &n), ESCAPE_NONE);
	ASSERT(n == 1 && o[0] == 'x');
	ASSERT_EQ(escape_feed(&esc, 1, o, &n), ESCAPE_NONE);
	ASSERT_EQ(n, 0);
	ASSERT_EQ(escape_feed(&esc, 'x', o, &n), ESCAPE_QUIT);
	escape_feed(&esc, 1, o, &n);
	ASSERT_EQ(escape_feed(&esc, 1, o, &n), ESCAPE_NONE);
	ASSERT(n == 1 && o[0] == 1);
	escape_feed(&esc, 1, o, &n);
	ASSERT_EQ(escape_feed(&esc, 'b', o, &n), ESCAPE_BREAK);
	escape_feed(&esc, 1, o, &n);
	ASSERT_EQ(escape_feed(&esc, 'z', o, &n), ESCAPE_NONE);
	ASSERT(n == 2 && o[0] == 1 && o[1] == 'z');
	ASSERT_EQ(escape_feed(&esc, 'q', o, &n), ESCAPE_NONE);
	ASSERT(n == 1 && o[0] == 'q');
}

/* --- CPUID --------------------------------------------------------------------------------------------------- */

static void test_cpuid_topology(void)
{
	static const u32 functions[][2] = {
		{ 0, 0 }, { 1, 0 }, { 4, 0 }, { 4, 3 }, { 0xb, 0 }, { 0xb, 1 }, { 0x40000000, 0 }, { 0x80000001, 0 },
		{ 0x80000008, 0 }, { 0x8000001e, 0 },
	};
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + ARRAY_SIZE(functions) * sizeof(c->entries[0]));
	static const u32 counts[] = { 1, 2, 3, 4, 8, 64, 255, 300 };
	const struct kvm_cpuid_entry2 *e;
	unsigned int i, k;

	ASSERT(c);
	for (k = 0; k < ARRAY_SIZE(counts); k++) {
		u32 cpus = counts[k], id = cpus - 1;

		c->nent = ARRAY_SIZE(functions);
		for (i = 0; i < c->nent; i++) {
			memset(&c->entries[i], 0, sizeof(c->entries[i]));
			c->entries[i].function = functions[i][0];
			c->entries[i].index = functions[i][1];
			c->entries[i].ecx = 0x55;
			if (functions[i][0] == 4) {
				c->entries[i].eax = functions[i][1] == 3 ? 0x163 : 0x121;
				c->entries[i].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
			}
		}
		cpuid_for_vcpu(c, id, cpus, true);
		e = cpuid_find(c, 1, 0);
		ASSERT_EQ(e->ebx >> 24, id < 255 ? id : 255);
		ASSERT_EQ(e->ebx >> 16 & 0xff, cpus < 255 ? cpus : 255);
		ASSERT_EQ(e->edx >> 28 & 1, cpus > 1);
		ASSERT_EQ(e->ecx >> 24 & 1, 1);
		ASSERT_EQ(e->ecx >> 31, 1);
		e = cpuid_find(c, 0xb, 1);
		ASSERT_EQ(e->edx, id);
		ASSERT_EQ(e->ebx, cpus);
		ASSERT_EQ(id >> e->eax, 0);	/* one package */
		e = cpuid_find(c, 0xb, 0);
		ASSERT_EQ(e->ebx, 1);
		ASSERT_EQ(e->eax, 0);
		e = cpuid_find(c, 0x80000008, 0);
		ASSERT_EQ(e->ecx & 0xff, (cpus - 1) & 0xff);
		ASSERT_EQ(id >> (e->ecx >> 12 & 15), 0);
		e = cpuid_find(c, 0x80000001, 0);
		ASSERT_EQ(e->ecx & 2, cpus > 1 ? 2 : 0);
		e = cpuid_find(c, 4, 0);
		ASSERT_EQ(e->eax >> 14 & 0xfff, 0);	/* L1 is a core's own */
		e = cpuid_find(c, 4, 3);
		ASSERT_GE(e->eax >> 14 & 0xfff, cpus - 1);
		e = cpuid_find(c, 0x40000000, 0);
		ASSERT_EQ(e->ecx, 0x55);		/* the hypervisor's leaf is the kernel's matter */
		ASSERT(!cpuid_find(c, 0x99, 0));
	}
	free(c);
}

/* What a guest was told of its CPU, here and elsewhere */
static void summary(struct cpuid_summary *sum, u32 family, u32 features)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 3 * sizeof(c->entries[0]));

	ASSERT(c);
	c->nent = 3;
	c->entries[0] = (struct kvm_cpuid_entry2){ .function = 0 };
	memcpy(&c->entries[0].ebx, "Auth", 4);
	memcpy(&c->entries[0].edx, "enti", 4);
	memcpy(&c->entries[0].ecx, "cAMD", 4);
	c->entries[1] = (struct kvm_cpuid_entry2){ .function = 1, .eax = 0xf00 | (family - 15) << 20, .ecx = 1u << 31 };
	c->entries[2] = (struct kvm_cpuid_entry2){
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = features,
	};
	cpuid_sum_up(c, sum);
	free(c);
}

static void test_cpuid_match(void)
{
	struct cpuid_summary guest, host;
	char why[300];

	summary(&guest, 25, 1 << 5);
	summary(&host, 25, 1 << 5 | 1 << 16);
	ASSERT(!strcmp(guest.identity, "AuthenticAMD family 25"));
	ASSERT_EQ(cpuid_match(&guest, &host, why, sizeof(why)), 0);
	ASSERT(!why[0]);
	ASSERT_EQ(cpuid_match(&host, &guest, why, sizeof(why)), -EOPNOTSUPP);
	ASSERT_MSG(strstr(why, " avx512f") && !strstr(why, "avx2"), "%s", why);
	/* One that has no name here, and more than a line holds */
	summary(&guest, 25, 1 << 22);
	ASSERT_EQ(cpuid_match(&guest, &host, why, sizeof(why)), -EOPNOTSUPP);
	ASSERT_MSG(strstr(why, " 0x7.0:EBX[22]"), "%s", why);
	summary(&guest, 25, ~0u);
	summary(&host, 25, 0);
	ASSERT_EQ(cpuid_match(&guest, &host, why, sizeof(why)), -EOPNOTSUPP);
	ASSERT(strlen(why) < sizeof(why));
	summary(&host, 23, ~0u);
	ASSERT_EQ(cpuid_match(&guest, &host, why, sizeof(why)), -EOPNOTSUPP);
	ASSERT_MSG(strstr(why, "family 25") && strstr(why, "family 23"), "%s", why);
}

static const struct tap_test tests[] = {
	TEST(error_line),
	TEST(state_fields),
	TEST(state_misuse),
	TEST(state_damage),
	TEST(serial_probe),
	TEST(serial_transmit),
	TEST(serial_receive),
	TEST(serial_break_and_loop),
	TEST(rtc),
	TEST(rtc_nonsense),
	TEST(power),
	TEST(iobus),
	TEST(devices_round_trip),
	TEST(devices_newer_version),
	TEST(mem_bounds),
	TEST(mem_access),
	TEST(acpi_tables),
	TEST(acpi_too_small),
	TEST(acpi_iasl),
	TEST(bzimage_good),
	TEST(bzimage_truncated),
	TEST(bzimage_hostile),
	TEST(bzimage_boot_params),
	TEST(elf_good),
	TEST(elf_truncated),
	TEST(elf_hostile),
	TEST(initrd_place),
	TEST(memory_map),
	TEST(options_good),
	TEST(options_devices),
	TEST(options_bad),
	TEST(options_saved),
	TEST(cpuid_match),
	TEST(options_sizes),
	TEST(escape),
	TEST(cpuid_topology),
};

int main(int argc, char **argv)
{
	fail_sink = keep_line;
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
