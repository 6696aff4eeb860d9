// SPDX-License-Identifier: GPL-2.0
/*
 * An MC146818 clock with 128 bytes of CMOS RAM.
 *  1. Time registers read the host's wall clock (UTC) plus an offset, which
 *     is what the guest changes when it sets the clock.
 *  2. BCD and binary, 12 and 24 hours as register B says; the century is at
 *     0x32, where the FADT points to it.
 *  3. No interrupts: the DSDT lists none, so guests use it as a plain clock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm.h"

#define CMOS_SIZE	128
#define OFFSET_MAX	(1LL << 40)	/* seconds; far beyond four digit years */

#define REG_SEC		0x00
#define REG_MIN		0x02
#define REG_HOUR	0x04
#define REG_WDAY	0x06
#define REG_MDAY	0x07
#define REG_MON		0x08
#define REG_YEAR	0x09
#define REG_A		0x0a
#define REG_B		0x0b
#define REG_C		0x0c
#define REG_D		0x0d
#define REG_CENTURY	0x32

#define REG_A_32KHZ	0x26		/* divider on, 1024 Hz rate */
#define REG_A_UIP	0x80
#define REG_B_SET	0x80
#define REG_B_BINARY	0x04
#define REG_B_24H	0x02
#define REG_D_VALID	0x80
#define HOUR_PM		0x80

struct rtc {
	struct device dev;
	s64 (*now)(void);	/* seconds since 1970 */
	pthread_mutex_t lock;
	/* All below under @lock. */
	s64 offset;		/* guest time minus host time */
	u8 index;
	u8 cmos[CMOS_SIZE];	/* time registers only while SET holds them */
};

static bool is_time(u8 reg)
{
	switch (reg) {
	case REG_SEC: case REG_MIN: case REG_HOUR: case REG_WDAY:
	case REG_MDAY: case REG_MON: case REG_YEAR: case REG_CENTURY:
		return true;
	default:
		return false;
	}
}

static u8 encode(const struct rtc *rtc, unsigned int v)
{
	if (rtc->cmos[REG_B] & REG_B_BINARY)
		return v;
	return (v / 10) << 4 | v % 10;
}

static unsigned int decode(const struct rtc *rtc, u8 v)
{
	if (rtc->cmos[REG_B] & REG_B_BINARY)
		return v;
	return (v >> 4) * 10 + (v & 15);
}

static u8 encode_hour(const struct rtc *rtc, unsigned int hour)
{
	if (rtc->cmos[REG_B] & REG_B_24H)
		return encode(rtc, hour);
	return encode(rtc, hour % 12 ? hour % 12 : 12) |
	       (hour >= 12 ? HOUR_PM : 0);
}

static unsigned int decode_hour(const struct rtc *rtc, u8 v)
{
	if (rtc->cmos[REG_B] & REG_B_24H)
		return decode(rtc, v);
	return decode(rtc, v & ~HOUR_PM) % 12 + (v & HOUR_PM ? 12 : 0);
}

/* The running clock into the registers. */
static void latch(struct rtc *rtc)
{
	time_t t = rtc->now() + rtc->offset;
	struct tm tm;

	if (!gmtime_r(&t, &tm))
		memset(&tm, 0, sizeof(tm));
	rtc->cmos[REG_SEC] = encode(rtc, tm.tm_sec < 60 ? tm.tm_sec : 59);
	rtc->cmos[REG_MIN] = encode(rtc, tm.tm_min);
	rtc->cmos[REG_HOUR] = encode_hour(rtc, tm.tm_hour);
	rtc->cmos[REG_WDAY] = encode(rtc, tm.tm_wday + 1);
	rtc->cmos[REG_MDAY] = encode(rtc, tm.tm_mday);
	rtc->cmos[REG_MON] = encode(rtc, tm.tm_mon + 1);
	rtc->cmos[REG_YEAR] = encode(rtc, (tm.tm_year + 1900) % 100);
	rtc->cmos[REG_CENTURY] = encode(rtc, (tm.tm_year + 1900) / 100 % 100);
}

/* The registers into the running clock; nonsense is normalised by timegm(). */
static void set_clock(struct rtc *rtc)
{
	struct tm tm = {
		.tm_sec = decode(rtc, rtc->cmos[REG_SEC]),
		.tm_min = decode(rtc, rtc->cmos[REG_MIN]),
		.tm_hour = decode_hour(rtc, rtc->cmos[REG_HOUR]),
		.tm_mday = decode(rtc, rtc->cmos[REG_MDAY]),
		.tm_mon = decode(rtc, rtc->cmos[REG_MON]) - 1,
		.tm_year = decode(rtc, rtc->cmos[REG_CENTURY]) * 100 +
			   decode(rtc, rtc->cmos[REG_YEAR]) - 1900,
	};

	rtc->offset = timegm(&tm) - rtc->now();
}

static u8 read_register(struct rtc *rtc, u8 reg)
{
	bool held = rtc->cmos[REG_B] & REG_B_SET;
	u8 v;

	if (is_time(reg) && !held)
		latch(rtc);
	v = rtc->cmos[reg];
	if (reg == REG_C)
		rtc->cmos[REG_C] = 0;
	return v;
}

static void write_register(struct rtc *rtc, u8 reg, u8 v)
{
	bool held = rtc->cmos[REG_B] & REG_B_SET;

	switch (reg) {
	case REG_A:
		rtc->cmos[REG_A] = v & ~REG_A_UIP;
		return;
	case REG_B:
		if (!held && (v & REG_B_SET))
			latch(rtc);
		/* Leaving SET: the registers are in the old mode's format. */
		if (held && !(v & REG_B_SET))
			set_clock(rtc);
		rtc->cmos[REG_B] = v;
		return;
	case REG_C:
	case REG_D:
		return;
	}
	if (is_time(reg) && !held) {
		latch(rtc);
		rtc->cmos[reg] = v;
		set_clock(rtc);
		return;
	}
	rtc->cmos[reg] = v;
}

void rtc_read(void *arg, u64 off, u8 *data, u32 len)
{
	struct rtc *rtc = arg;

	if (len != 1 || off != 1)
		return;		/* the index port is write-only */
	pthread_mutex_lock(&rtc->lock);
	*data = read_register(rtc, rtc->index);
	pthread_mutex_unlock(&rtc->lock);
}

void rtc_write(void *arg, u64 off, const u8 *data, u32 len)
{
	struct rtc *rtc = arg;

	if (len != 1)
		return;
	pthread_mutex_lock(&rtc->lock);
	if (off)
		write_register(rtc, rtc->index, *data);
	else
		rtc->index = *data & (CMOS_SIZE - 1);	/* bit 7 masks NMIs */
	pthread_mutex_unlock(&rtc->lock);
}

static void rtc_save(struct device *dev, struct state *st)
{
	struct rtc *rtc = container_of(dev, struct rtc, dev);

	pthread_mutex_lock(&rtc->lock);
	state_put_u64(st, "offset", rtc->offset);
	state_put_u64(st, "index", rtc->index);
	state_put(st, "cmos", rtc->cmos, sizeof(rtc->cmos));
	pthread_mutex_unlock(&rtc->lock);
}

static int rtc_load(struct device *dev, const struct state_section *sec)
{
	struct rtc *rtc = container_of(dev, struct rtc, dev);
	u8 cmos[CMOS_SIZE];
	u64 offset, index;
	size_t got;

	if (state_get_u64(sec, "offset", UINT64_MAX, &offset) ||
	    state_get_u64(sec, "index", CMOS_SIZE - 1, &index) ||
	    state_get(sec, "cmos", cmos, sizeof(cmos), &got) ||
	    got != sizeof(cmos) || (s64)offset > OFFSET_MAX ||
	    (s64)offset < -OFFSET_MAX)
		return -EBADMSG;
	pthread_mutex_lock(&rtc->lock);
	rtc->offset = offset;
	rtc->index = index;
	memcpy(rtc->cmos, cmos, sizeof(cmos));
	pthread_mutex_unlock(&rtc->lock);
	return 0;
}

static void rtc_free(struct device *dev)
{
	struct rtc *rtc = container_of(dev, struct rtc, dev);

	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

static const struct device_ops rtc_ops = {
	.name = "rtc",
	.version = 1,
	.save = rtc_save,
	.load = rtc_load,
	.destroy = rtc_free,
};

const struct device_ops *rtc_device_ops(void)
{
	return &rtc_ops;
}

struct rtc *rtc_create(s64 (*now)(void))
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));

	if (!rtc)
		return NULL;
	rtc->now = now;
	rtc->cmos[REG_A] = REG_A_32KHZ;
	rtc->cmos[REG_B] = REG_B_24H;
	rtc->cmos[REG_D] = REG_D_VALID;
	pthread_mutex_init(&rtc->lock, NULL);
	return rtc;
}

struct device *rtc_device(struct rtc *rtc)
{
	return &rtc->dev;
}
