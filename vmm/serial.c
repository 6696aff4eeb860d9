// SPDX-License-Identifier: GPL-2.0
/*
 * A 16550A serial port.
 *  1. Transmitting: a byte written goes to the host at once (the host may
 *     make the writer wait, nothing is dropped), so the transmitter is always
 *     empty and its interrupt follows each write.
 *  2. Receiving: sixteen bytes of FIFO, each with its error bits; the host
 *     gives no more than there is room for and is told when there is room.
 *  3. Interrupts by priority, gated by OUT2 as on the PC; the line is told
 *     to the host only when it changes.
 *  4. Loopback, the scratch register and the rest of what drivers probe.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/serial_reg.h>

#include "vmm.h"

#define FIFO_SIZE		16
#define IIR_FIFOS_ENABLED	0xc0

/* The cable: carrier, data set ready and clear to send, all the time. */
#define MSR_CABLE	(UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)
#define MSR_LINES	0xf0
#define MSR_DELTAS	0x0f

struct rx_byte {
	u8 data;
	u8 errors;		/* LSR bits that belong to this byte */
};

struct serial {
	struct device dev;
	struct serial_host host;
	pthread_mutex_t lock;
	/* All below under @lock. */
	u8 ier, fcr, lcr, mcr, msr, scr, dll, dlm;
	u8 overrun;		/* UART_LSR_OE until LSR is read */
	bool thre;		/* transmitter interrupt pending */
	bool line;		/* what the host was told */
	u8 rx_len;
	struct rx_byte rx[FIFO_SIZE];
};

static unsigned int fifo_size(const struct serial *s)
{
	return s->fcr & UART_FCR_ENABLE_FIFO ? FIFO_SIZE : 1;
}

static u8 line_status(const struct serial *s)
{
	u8 lsr = UART_LSR_THRE | UART_LSR_TEMT | s->overrun;

	if (s->rx_len)
		lsr |= UART_LSR_DR | s->rx[0].errors;
	return lsr;
}

/* The identification of the most urgent interrupt, without FIFO bits. */
static u8 pending(const struct serial *s)
{
	if ((s->ier & UART_IER_RLSI) &&
	    (line_status(s) & UART_LSR_BRK_ERROR_BITS))
		return UART_IIR_RLSI;
	/* Linux and others take any byte; no trigger level is waited for. */
	if ((s->ier & UART_IER_RDI) && s->rx_len)
		return UART_IIR_RDI;
	if ((s->ier & UART_IER_THRI) && s->thre)
		return UART_IIR_THRI;
	if ((s->ier & UART_IER_MSI) && (s->msr & MSR_DELTAS))
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

/* Called with the lock held, so that changes reach the host in order. */
static void update_line(struct serial *s)
{
	bool line = pending(s) != UART_IIR_NO_INT &&
		    (s->mcr & (UART_MCR_OUT2 | UART_MCR_LOOP)) == UART_MCR_OUT2;

	if (line == s->line)
		return;
	s->line = line;
	s->host.irq(s->host.arg, line);
}

static void set_modem_lines(struct serial *s)
{
	u8 old = s->msr & MSR_LINES, now = MSR_CABLE;

	if (s->mcr & UART_MCR_LOOP) {
		now = 0;
		if (s->mcr & UART_MCR_RTS)
			now |= UART_MSR_CTS;
		if (s->mcr & UART_MCR_DTR)
			now |= UART_MSR_DSR;
		if (s->mcr & UART_MCR_OUT1)
			now |= UART_MSR_RI;
		if (s->mcr & UART_MCR_OUT2)
			now |= UART_MSR_DCD;
	}
	s->msr = now | (s->msr & MSR_DELTAS) | (((old ^ now) >> 4) & MSR_DELTAS);
	/* The ring indicator's delta is its trailing edge only. */
	if (!((old & ~now) & UART_MSR_RI))
		s->msr &= ~UART_MSR_TERI;
}

static void receive_one(struct serial *s, u8 data, u8 errors)
{
	if (s->rx_len >= fifo_size(s)) {
		s->overrun = UART_LSR_OE;
		return;
	}
	s->rx[s->rx_len].data = data;
	s->rx[s->rx_len].errors = errors;
	s->rx_len++;
}

static u8 take_one(struct serial *s)
{
	u8 data;

	if (!s->rx_len)
		return 0;
	data = s->rx[0].data;
	s->rx_len--;
	memmove(&s->rx[0], &s->rx[1], s->rx_len * sizeof(s->rx[0]));
	return data;
}

static u8 read_register(struct serial *s, u64 off)
{
	u8 v;

	switch (off) {
	case UART_RX:
		return s->lcr & UART_LCR_DLAB ? s->dll : take_one(s);
	case UART_IER:
		return s->lcr & UART_LCR_DLAB ? s->dlm : s->ier;
	case UART_IIR:
		v = pending(s);
		if (v == UART_IIR_THRI)
			s->thre = false;
		if (s->fcr & UART_FCR_ENABLE_FIFO)
			v |= IIR_FIFOS_ENABLED;
		return v;
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		v = line_status(s);
		s->overrun = 0;
		if (s->rx_len)
			s->rx[0].errors = 0;
		return v;
	case UART_MSR:
		v = s->msr;
		s->msr &= ~MSR_DELTAS;
		return v;
	default:
		return s->scr;
	}
}

void serial_read(void *serial, u64 off, u8 *data, u32 len)
{
	struct serial *s = serial;
	bool emptied;

	/* The chip sits on an eight bit bus: wider reads float. */
	if (len != 1)
		return;
	pthread_mutex_lock(&s->lock);
	emptied = s->rx_len;
	*data = read_register(s, off & 7);
	emptied = emptied && !s->rx_len;
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	if (emptied)
		s->host.room(s->host.arg);
}

static void write_fcr(struct serial *s, u8 v)
{
	if ((v ^ s->fcr) & UART_FCR_ENABLE_FIFO)
		s->rx_len = 0;
	if (v & UART_FCR_CLEAR_RCVR)
		s->rx_len = 0;
	s->fcr = v & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
}

/* Returns true if the byte is to be transmitted. */
static bool write_register(struct serial *s, u64 off, u8 v)
{
	switch (off) {
	case UART_TX:
		if (s->lcr & UART_LCR_DLAB) {
			s->dll = v;
			return false;
		}
		if (s->mcr & UART_MCR_LOOP) {
			receive_one(s, v, 0);
			s->thre = true;
			return false;
		}
		return true;
	case UART_IER:
		if (s->lcr & UART_LCR_DLAB) {
			s->dlm = v;
			return false;
		}
		v &= UART_IER_MSI | UART_IER_RLSI | UART_IER_THRI | UART_IER_RDI;
		/* The transmitter is empty: enabling its interrupt raises it. */
		if (v & ~s->ier & UART_IER_THRI)
			s->thre = true;
		s->ier = v;
		return false;
	case UART_FCR:
		write_fcr(s, v);
		return false;
	case UART_LCR:
		s->lcr = v;
		return false;
	case UART_MCR:
		s->mcr = v & 0x1f;
		set_modem_lines(s);
		return false;
	case UART_SCR:
		s->scr = v;
		return false;
	default:		/* LSR and MSR are read-only */
		return false;
	}
}

void serial_write(void *serial, u64 off, const u8 *data, u32 len)
{
	struct serial *s = serial;
	bool transmit, looped, room;
	u8 had;

	if (len != 1)
		return;
	pthread_mutex_lock(&s->lock);
	had = s->rx_len;
	looped = s->mcr & UART_MCR_LOOP;
	transmit = write_register(s, off & 7, *data);
	room = s->rx_len < had || (looped && !(s->mcr & UART_MCR_LOOP));
	if (!transmit)
		update_line(s);
	pthread_mutex_unlock(&s->lock);
	if (room)
		s->host.room(s->host.arg);
	if (!transmit)
		return;

	/* Without the lock: it may wait for a slow reader of the console. */
	s->host.transmit(s->host.arg, *data);

	pthread_mutex_lock(&s->lock);
	s->thre = true;
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}

/* Takes what fits of @data from the host; returns how much that was. */
size_t serial_receive(struct serial *s, const u8 *data, size_t len)
{
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	if (!(s->mcr & UART_MCR_LOOP))
		while (n < len && s->rx_len < fifo_size(s))
			receive_one(s, data[n++], 0);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* A break condition on the wire; false if the receiver is full. */
bool serial_break(struct serial *s)
{
	bool room;

	pthread_mutex_lock(&s->lock);
	room = s->rx_len < fifo_size(s);
	if (room)
		receive_one(s, 0, UART_LSR_BI);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	return room;
}

static void serial_save(struct device *dev, struct state *st)
{
	struct serial *s = container_of(dev, struct serial, dev);
	u8 data[FIFO_SIZE], errors[FIFO_SIZE];
	int i;

	pthread_mutex_lock(&s->lock);
	for (i = 0; i < s->rx_len; i++) {
		data[i] = s->rx[i].data;
		errors[i] = s->rx[i].errors;
	}
	state_put_u64(st, "ier", s->ier);
	state_put_u64(st, "fcr", s->fcr);
	state_put_u64(st, "lcr", s->lcr);
	state_put_u64(st, "mcr", s->mcr);
	state_put_u64(st, "msr", s->msr);
	state_put_u64(st, "scr", s->scr);
	state_put_u64(st, "dll", s->dll);
	state_put_u64(st, "dlm", s->dlm);
	state_put_u64(st, "overrun", s->overrun);
	state_put_u64(st, "thre", s->thre);
	state_put_u64(st, "line", s->line);
	state_put(st, "rx-data", data, s->rx_len);
	state_put(st, "rx-errors", errors, s->rx_len);
	pthread_mutex_unlock(&s->lock);
}

static int serial_load(struct device *dev, const struct state_section *sec)
{
	struct serial *s = container_of(dev, struct serial, dev);
	u8 data[FIFO_SIZE], errors[FIFO_SIZE];
	u64 ier, fcr, lcr, mcr, msr, scr, dll, dlm, overrun, thre, line;
	size_t nr, nr_errors, i;

	if (state_get_u64(sec, "ier", 0x0f, &ier) ||
	    state_get_u64(sec, "fcr", 0xff, &fcr) ||
	    state_get_u64(sec, "lcr", 0xff, &lcr) ||
	    state_get_u64(sec, "mcr", 0x1f, &mcr) ||
	    state_get_u64(sec, "msr", 0xff, &msr) ||
	    state_get_u64(sec, "scr", 0xff, &scr) ||
	    state_get_u64(sec, "dll", 0xff, &dll) ||
	    state_get_u64(sec, "dlm", 0xff, &dlm) ||
	    state_get_u64(sec, "overrun", UART_LSR_OE, &overrun) ||
	    state_get_u64(sec, "thre", 1, &thre) ||
	    state_get_u64(sec, "line", 1, &line) ||
	    state_get(sec, "rx-data", data, sizeof(data), &nr) ||
	    state_get(sec, "rx-errors", errors, sizeof(errors), &nr_errors) ||
	    nr != nr_errors)
		return -EBADMSG;

	pthread_mutex_lock(&s->lock);
	s->ier = ier;
	s->fcr = fcr & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
	s->lcr = lcr;
	s->mcr = mcr;
	s->msr = msr;
	s->scr = scr;
	s->dll = dll;
	s->dlm = dlm;
	s->overrun = overrun & UART_LSR_OE;
	s->thre = thre;
	/* The kernel's chip brings the line's level in its own state. */
	s->line = line;
	s->rx_len = nr;
	for (i = 0; i < nr; i++) {
		s->rx[i].data = data[i];
		s->rx[i].errors = errors[i] & UART_LSR_BRK_ERROR_BITS;
	}
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static void serial_free(struct device *dev)
{
	struct serial *s = container_of(dev, struct serial, dev);

	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct device_ops serial_ops = {
	.name = "serial",
	.version = 1,
	.save = serial_save,
	.load = serial_load,
	.destroy = serial_free,
};

const struct device_ops *serial_device_ops(void)
{
	return &serial_ops;
}

struct serial *serial_create(const struct serial_host *host)
{
	struct serial *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->host = *host;
	s->msr = MSR_CABLE;
	s->dll = 1;		/* 115200 baud, what loaders leave behind */
	s->lcr = UART_LCR_WLEN8;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

struct device *serial_device(struct serial *s)
{
	return &s->dev;
}
