// SPDX-License-Identifier: GPL-2.0
/*
 * mmio.c - instructions whose memory operand is a device:
 *  1. the accesses of one execution, kept so that it can be restarted: the
 *     executor (decode_exec.c) runs again from the start after userspace has
 *     answered, and finds here what was read or written already,
 *  2. where an access goes: RAM, the LAPIC page, the MMIO bus, userspace,
 *  3. decode, execute, complete,
 *  4. the short way, with interrupts off: a MOV to or from a device that
 *     allows that, as a driver's doorbell or an APIC's register is.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "pvhv.h"
#include "trace.h"

#define MMIO_FRAGMENTS	8	/* MOVS: two accesses, each across a page */
#define REP_BATCH	1024	/* iterations before the guest may be interrupted */

struct mmio_fragment {
	bool done;
	u8 data[8];
};

struct pvhv_mmio {
	struct pvhv_insn insn;
	struct pvhv_insn_ctx ctx;
	struct pvhv_vcpu *vcpu;
	u64 fault_gpa;		/* what the second-level fault said */
	unsigned int next;	/* fragment that the next access is */
	struct mmio_fragment fragments[MMIO_FRAGMENTS];
};

int pvhv_mmio_init(struct pvhv_vcpu *vcpu)
{
	vcpu->mmio = kzalloc(sizeof(*vcpu->mmio), GFP_KERNEL_ACCOUNT);
	if (!vcpu->mmio)
		return -ENOMEM;
	vcpu->mmio->vcpu = vcpu;
	return 0;
}

void pvhv_mmio_free(struct pvhv_vcpu *vcpu)
{
	kfree(vcpu->mmio);
}

static void forget_fragments(struct pvhv_mmio *m)
{
	unsigned int i;

	for (i = 0; i < m->next; i++)
		m->fragments[i].done = false;
	m->next = 0;
}

/* --- 2. where an access goes --- */

static int exit_to_user(struct pvhv_vcpu *vcpu, u64 gpa, void *data,
			unsigned int len, bool write)
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = gpa;
	run->mmio.len = len;
	run->mmio.is_write = write;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (write)
		memcpy(run->mmio.data, data, len);
	vcpu->stat.io_exits_user++;
	return PVHV_EXEC_EXIT;
}

static int device_access(struct pvhv_vcpu *vcpu, u64 gpa, void *data,
			 unsigned int len, bool write, bool atomic)
{
	if (vcpu->lapic && pvhv_lapic_owns_gpa(vcpu, gpa))
		return write ? pvhv_lapic_mmio_write(vcpu, gpa, len, data) :
			       pvhv_lapic_mmio_read(vcpu, gpa, len, data);
	return write ? pvhv_iobus_write(vcpu, PVHV_BUS_MMIO, gpa, len, data, atomic) :
		       pvhv_iobus_read(vcpu, PVHV_BUS_MMIO, gpa, len, data, atomic);
}

static int physical_access(struct pvhv_vcpu *vcpu, u64 gpa, void *data,
			   unsigned int len, bool write)
{
	/* The LAPIC page lies over memory, should there be any. */
	if (!(vcpu->lapic && pvhv_lapic_owns_gpa(vcpu, gpa))) {
		struct pvhv_memslot *slot = pvhv_gfn_to_memslot(vcpu->vm, gpa >> PAGE_SHIFT);

		if (slot && !(write && (slot->flags & KVM_MEM_READONLY)))
			return write ? pvhv_write_guest(vcpu->vm, gpa, data, len) :
				       pvhv_read_guest(vcpu->vm, gpa, data, len);
	}
	trace_pvhv_mmio(write, gpa, len, write ? *(u64 *)data : 0);
	if (!device_access(vcpu, gpa, data, len, write, false))
		return 0;
	return exit_to_user(vcpu, gpa, data, len, write);
}

/*
 * The fault told the guest-physical address of the device operand. An access
 * with the same page offset is that one, unless the instruction has two.
 */
static int access_gpa(struct pvhv_mmio *m, u64 linear, u32 access, u64 *gpa)
{
	if (m->insn.form != PVHV_FORM_STRING &&
	    !((linear ^ m->fault_gpa) & ~PAGE_MASK)) {
		*gpa = m->fault_gpa;
		return 0;
	}
	return pvhv_translate(m->vcpu, linear, access, gpa);
}

static int access_fragment(struct pvhv_mmio *m, u64 linear, void *data,
			   unsigned int len, bool write)
{
	u32 access = write || m->ctx.access_rmw ? PVHV_WALK_WRITE : 0;
	struct mmio_fragment *f;
	u64 gpa;
	int r;

	if (m->next == MMIO_FRAGMENTS)
		return -EIO;
	f = &m->fragments[m->next++];
	if (f->done) {
		if (!write)
			memcpy(data, f->data, len);
		return 0;
	}
	r = access_gpa(m, linear, access, &gpa);
	if (r)
		return r < 0 ? r : -EAGAIN;
	if (write)
		memcpy(f->data, data, len);
	r = physical_access(m->vcpu, gpa, f->data, len, write);
	if (r)
		return r;
	f->done = true;
	if (!write)
		memcpy(data, f->data, len);
	return 0;
}

static int access_linear(struct pvhv_mmio *m, u64 linear, void *data,
			 unsigned int len, bool write)
{
	unsigned int first = min_t(unsigned int, len, PAGE_SIZE - (linear & ~PAGE_MASK));
	int r;

	r = access_fragment(m, linear, data, first, write);
	if (!r && first < len)
		r = access_fragment(m, linear + first, data + first, len - first, write);
	return r;
}

static int mmio_read(struct pvhv_insn_ctx *ctx, u64 linear, void *val, unsigned int bytes)
{
	return access_linear(container_of(ctx, struct pvhv_mmio, ctx), linear, val, bytes, false);
}

static int mmio_write(struct pvhv_insn_ctx *ctx, u64 linear, const void *val, unsigned int bytes)
{
	return access_linear(container_of(ctx, struct pvhv_mmio, ctx), linear, (void *)val,
			     bytes, true);
}

/* --- 3. decode, execute, complete --- */

static void load_segment_bases(struct pvhv_vcpu *vcpu, struct pvhv_mmio *m)
{
	struct kvm_segment s;

	if (m->insn.mode == PVHV_MODE_64 && m->insn.seg < PVHV_SEG_FS)
		return;	/* bases of the others are not looked at */
	vcpu->be->get_segment(vcpu, &s, m->insn.seg);
	m->ctx.seg_base[m->insn.seg] = s.base;
	if (m->insn.form == PVHV_FORM_STRING && m->insn.mode != PVHV_MODE_64) {
		vcpu->be->get_segment(vcpu, &s, PVHV_ES);
		m->ctx.seg_base[PVHV_SEG_ES] = s.base;
	}
}

static void prepare(struct pvhv_vcpu *vcpu, pvhv_insn_read_fn read, pvhv_insn_write_fn write)
{
	struct pvhv_mmio *m = vcpu->mmio;

	m->ctx.gpr = vcpu->gpr;
	m->ctx.rflags = &vcpu->rflags;
	m->ctx.read = read;
	m->ctx.write = write;
	m->ctx.cmpxchg = NULL;
	load_segment_bases(vcpu, m);
}

static int execute(struct pvhv_vcpu *vcpu);

static int complete_mmio(struct pvhv_vcpu *vcpu)
{
	struct pvhv_mmio *m = vcpu->mmio;
	struct mmio_fragment *f = &m->fragments[m->next - 1];

	/* Userspace may have set new registers: then there is nothing to complete. */
	if (vcpu->rip != m->ctx.rip)
		return PVHV_RESUME;
	if (!vcpu->run->mmio.is_write)
		memcpy(f->data, vcpu->run->mmio.data, sizeof(f->data));
	f->done = true;
	return execute(vcpu);
}

static int execute(struct pvhv_vcpu *vcpu)
{
	struct pvhv_mmio *m = vcpu->mmio;
	unsigned int budget = REP_BATCH;
	int r;

	do {
		m->next = 0;
		m->ctx.rip = vcpu->rip;
		r = pvhv_insn_execute(&m->insn, &m->ctx);
		if (r == PVHV_EXEC_EXIT) {
			vcpu->complete = complete_mmio;
			return PVHV_TO_USER;
		}
		forget_fragments(m);
	} while (r == PVHV_EXEC_RETRY || (r == PVHV_EXEC_REPEAT && --budget));

	switch (r) {
	case PVHV_EXEC_DONE:
		pvhv_finish_insn(vcpu, m->ctx.rip);
		return PVHV_RESUME;
	case PVHV_EXEC_REPEAT:
		return PVHV_RESUME;
	case -EAGAIN:
		return PVHV_RESUME;	/* #PF queued, or the tables changed */
	case PVHV_EXEC_UNKNOWN:
		return pvhv_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
	default:
		return r;
	}
}

/* The access was not the instruction's, but that of an event on its way in: to a stack, or to the IDT. */
static bool by_event(const struct pvhv_vcpu *vcpu)
{
	return vcpu->excp.injected || vcpu->irq.injected || vcpu->nmi_injected;
}

int pvhv_handle_mmio(struct pvhv_vcpu *vcpu, u64 gpa)
{
	struct pvhv_mmio *m = vcpu->mmio;

	vcpu->stat.mmio_exits++;
	if (unlikely(by_event(vcpu)))
		return pvhv_internal_error(vcpu, KVM_INTERNAL_ERROR_DELIVERY_EV);
	if (vcpu->exit.fault.error & X86_PF_INSTR)
		return pvhv_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
	/* An exit cut short by the VMM's SET_REGS may have left some. */
	m->next = MMIO_FRAGMENTS;
	forget_fragments(m);
	m->fault_gpa = gpa;
	if (pvhv_decode_exit(vcpu, &m->insn, false) != PVHV_DECODE_OK)
		return pvhv_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
	vcpu->stat.insn_emulations++;
	prepare(vcpu, mmio_read, mmio_write);
	return execute(vcpu);
}

/* --- 4. the short way --- */

/* The instruction's only access: all of it is where the fault was, or it goes the long way. */
static int access_at_once(struct pvhv_insn_ctx *ctx, u64 linear, void *data, unsigned int len,
			  bool write)
{
	struct pvhv_mmio *m = container_of(ctx, struct pvhv_mmio, ctx);
	struct pvhv_vcpu *vcpu = m->vcpu;
	u64 gpa = m->fault_gpa, value = 0;
	int r;

	if (((linear ^ gpa) & ~PAGE_MASK) || offset_in_page(gpa) + len > PAGE_SIZE)
		return -EAGAIN;
	r = device_access(vcpu, gpa, data, len, write, true);
	if (!r && trace_pvhv_mmio_enabled()) {
		memcpy(&value, data, write ? len : 0);
		trace_pvhv_mmio(write, gpa, len, value);
	}
	return r;
}

static int read_at_once(struct pvhv_insn_ctx *ctx, u64 linear, void *val, unsigned int bytes)
{
	return access_at_once(ctx, linear, val, bytes, false);
}

static int write_at_once(struct pvhv_insn_ctx *ctx, u64 linear, const void *val, unsigned int bytes)
{
	return access_at_once(ctx, linear, (void *)val, bytes, true);
}

static bool allows_irqs_off(struct pvhv_vcpu *vcpu, u64 gpa)
{
	if (vcpu->lapic && pvhv_lapic_owns_gpa(vcpu, gpa))
		return !pvhv_lapic_read_sleeps(vcpu);
	return pvhv_iobus_atomic(vcpu, PVHV_BUS_MMIO, gpa);
}

int pvhv_handle_mmio_fast(struct pvhv_vcpu *vcpu)
{
	struct pvhv_mmio *m = vcpu->mmio;
	u64 gpa = vcpu->exit.fault.gpa;

	if ((vcpu->exit.fault.error & X86_PF_INSTR) || by_event(vcpu) || !allows_irqs_off(vcpu, gpa) ||
	    pvhv_decode_exit(vcpu, &m->insn, true) != PVHV_DECODE_OK ||
	    m->insn.op < PVHV_OP_MOV || m->insn.op > PVHV_OP_MOVBE)
		return PVHV_SLOW;
	m->fault_gpa = gpa;
	m->ctx.rip = vcpu->rip;
	prepare(vcpu, read_at_once, write_at_once);
	if (pvhv_insn_execute(&m->insn, &m->ctx) != PVHV_EXEC_DONE)
		return PVHV_SLOW;	/* nothing was done */
	vcpu->stat.mmio_exits++;
	vcpu->stat.insn_emulations++;
	pvhv_finish_insn(vcpu, m->ctx.rip);
	return PVHV_RESUME;
}
