// SPDX-License-Identifier: GPL-2.0
/*
 * pio.c - port I/O: IN, OUT, INS and OUTS. An access goes to the PIO bus of
 * the kernel's devices, else to userspace; what is left to do afterwards is
 * the completion that the next KVM_RUN calls.
 */
#include "pvhv.h"
#include "trace.h"

static void set_in_result(struct pvhv_vcpu *vcpu, const void *data, u8 size)
{
	u64 *rax = &vcpu->gpr[PVHV_RAX];

	switch (size) {
	case 1:
		*rax = (*rax & ~0xffULL) | *(const u8 *)data;
		break;
	case 2:
		*rax = (*rax & ~0xffffULL) | *(const u16 *)data;
		break;
	default:
		*rax = *(const u32 *)data;
	}
}

static int to_user(struct pvhv_vcpu *vcpu, u32 count, int (*complete)(struct pvhv_vcpu *vcpu))
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = vcpu->pio.in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = vcpu->pio.size;
	run->io.port = vcpu->pio.port;
	run->io.count = count;
	run->io.data_offset = PVHV_PIO_PAGE_OFFSET * PAGE_SIZE;
	vcpu->pio.count = count;
	vcpu->complete = complete;
	vcpu->stat.io_exits_user++;
	return PVHV_TO_USER;
}

/* --- one value in a register --- */

/* Userspace may have set new registers: then there is nothing to complete. */
static bool moved_on(struct pvhv_vcpu *vcpu)
{
	return vcpu->rip != vcpu->pio.rip;
}

static int complete_single(struct pvhv_vcpu *vcpu)
{
	if (moved_on(vcpu))
		return PVHV_RESUME;
	if (vcpu->pio.in)
		set_in_result(vcpu, vcpu->pio_data, vcpu->pio.size);
	pvhv_finish_insn(vcpu, vcpu->pio.next_rip);
	return PVHV_RESUME;
}

int pvhv_handle_pio_fast(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_exit *e = &vcpu->exit;
	u32 value;

	if (e->pio.string || !e->next_rip)
		return PVHV_SLOW;
	if (e->pio.in) {
		if (pvhv_iobus_read(vcpu, PVHV_BUS_PIO, e->pio.port, e->pio.size, &value, true))
			return PVHV_SLOW;
		set_in_result(vcpu, &value, e->pio.size);
	} else {
		value = vcpu->gpr[PVHV_RAX];
		if (pvhv_iobus_write(vcpu, PVHV_BUS_PIO, e->pio.port, e->pio.size, &value, true))
			return PVHV_SLOW;
	}
	vcpu->stat.pio_exits++;
	pvhv_finish_insn(vcpu, e->next_rip);
	return PVHV_RESUME;
}

/* Old QEMU resets a VM in answer to port 0x7e and wants RIP to be past it. */
static bool skipped_at_once(struct pvhv_vcpu *vcpu)
{
	return vcpu->pio.port == 0x7e && !vcpu->pio.in &&
	       !(vcpu->vm->disabled_quirks & KVM_X86_QUIRK_OUT_7E_INC_RIP);
}

static int handle_single(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_exit *e = &vcpu->exit;
	u32 value = vcpu->gpr[PVHV_RAX];
	int r;

	vcpu->pio.next_rip = pvhv_next_rip(vcpu);
	if (!vcpu->pio.next_rip)
		return PVHV_RESUME;
	if (e->pio.in) {
		r = pvhv_iobus_read(vcpu, PVHV_BUS_PIO, e->pio.port, e->pio.size, &value, false);
		if (!r)
			set_in_result(vcpu, &value, e->pio.size);
	} else {
		r = pvhv_iobus_write(vcpu, PVHV_BUS_PIO, e->pio.port, e->pio.size, &value, false);
		if (r)
			memcpy(vcpu->pio_data, &value, sizeof(value));
	}
	trace_pvhv_pio(e->pio.in, e->pio.port, e->pio.size, 1, value);
	if (r && unlikely(skipped_at_once(vcpu))) {
		pvhv_finish_insn(vcpu, vcpu->pio.next_rip);
		return to_user(vcpu, 1, NULL);
	}
	if (r)
		return to_user(vcpu, 1, complete_single);
	pvhv_finish_insn(vcpu, vcpu->pio.next_rip);
	return PVHV_RESUME;
}

/* --- strings --- */

static u64 asize_mask(u8 asize)
{
	return asize == 8 ? ~0ULL : (1ULL << (asize * 8)) - 1;
}

static void add_to_reg(struct pvhv_vcpu *vcpu, int reg, s64 delta, u8 asize)
{
	u64 mask = asize_mask(asize);
	u64 value = (vcpu->gpr[reg] + delta) & mask;

	/* 32-bit results clear the upper half, 16-bit ones leave it. */
	vcpu->gpr[reg] = asize == 4 ? value : (vcpu->gpr[reg] & ~mask) | value;
}

/* count elements are through: advance the index, the counter, perhaps RIP. */
static int string_done(struct pvhv_vcpu *vcpu, u32 count)
{
	s64 delta = (s64)count * vcpu->pio.size;
	u8 asize = vcpu->pio.asize;

	if (vcpu->rflags & X86_EFLAGS_DF)
		delta = -delta;
	add_to_reg(vcpu, vcpu->pio.in ? PVHV_RDI : PVHV_RSI, delta, asize);
	if (vcpu->pio.rep) {
		add_to_reg(vcpu, PVHV_RCX, -(s64)count, asize);
		if (vcpu->gpr[PVHV_RCX] & asize_mask(asize))
			return PVHV_RESUME;	/* the rest exits again */
	}
	pvhv_finish_insn(vcpu, vcpu->pio.next_rip);
	return PVHV_RESUME;
}

static int complete_string(struct pvhv_vcpu *vcpu)
{
	u32 count = vcpu->pio.count;
	int r;

	if (moved_on(vcpu))
		return PVHV_RESUME;
	/* Userspace may have lowered the counter meanwhile: no more than it says. */
	if (vcpu->pio.rep)
		count = min_t(u64, count, vcpu->gpr[PVHV_RCX] & asize_mask(vcpu->pio.asize));
	if (vcpu->pio.in) {
		r = pvhv_write_linear(vcpu, vcpu->pio.linear, vcpu->pio_data,
				      count * vcpu->pio.size);
		if (r)
			return r < 0 ? r : PVHV_RESUME;
	}
	return string_done(vcpu, count);
}

/* How many elements one round takes: to the end of the page, one if DF. */
static u32 string_round(struct pvhv_vcpu *vcpu, u64 linear)
{
	u64 left = vcpu->pio.rep ? vcpu->gpr[PVHV_RCX] & asize_mask(vcpu->pio.asize) : 1;
	u64 room = (PAGE_SIZE - (linear & ~PAGE_MASK)) / vcpu->pio.size;

	if ((vcpu->rflags & X86_EFLAGS_DF) || !room)
		room = 1;
	return min(left, room);
}

static int string_to_devices(struct pvhv_vcpu *vcpu, u32 count)
{
	void *p = vcpu->pio_data;
	u32 i;
	int r;

	for (i = 0; i < count; i++, p += vcpu->pio.size) {
		r = vcpu->pio.in ?
			pvhv_iobus_read(vcpu, PVHV_BUS_PIO, vcpu->pio.port, vcpu->pio.size, p, false) :
			pvhv_iobus_write(vcpu, PVHV_BUS_PIO, vcpu->pio.port, vcpu->pio.size, p, false);
		/* A device that takes the first one takes them all. */
		if (r && !i)
			return r;
	}
	return 0;
}

static int handle_string(struct pvhv_vcpu *vcpu)
{
	struct kvm_segment seg;
	struct pvhv_insn insn;
	u64 offset, gpa;
	u32 count;
	int r;

	if (pvhv_decode_exit(vcpu, &insn, false) != PVHV_DECODE_OK)
		return pvhv_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION);
	if (insn.op != PVHV_OP_INS && insn.op != PVHV_OP_OUTS)
		return PVHV_RESUME;
	vcpu->pio.next_rip = pvhv_insn_next_rip(&insn, vcpu->rip);
	vcpu->pio.asize = insn.adsize;
	vcpu->pio.rep = insn.flags & (PVHV_INSN_REP | PVHV_INSN_REPNE);
	if (vcpu->pio.rep && !(vcpu->gpr[PVHV_RCX] & asize_mask(insn.adsize))) {
		pvhv_finish_insn(vcpu, vcpu->pio.next_rip);
		return PVHV_RESUME;
	}

	offset = vcpu->gpr[vcpu->pio.in ? PVHV_RDI : PVHV_RSI] & asize_mask(insn.adsize);
	vcpu->be->get_segment(vcpu, &seg, vcpu->pio.in ? PVHV_ES : insn.seg);
	if (insn.mode == PVHV_MODE_64)
		vcpu->pio.linear = offset + (seg.base && insn.seg >= PVHV_SEG_FS &&
					     !vcpu->pio.in ? seg.base : 0);
	else
		vcpu->pio.linear = (u32)(seg.base + offset);
	count = string_round(vcpu, vcpu->pio.linear);

	if (vcpu->pio.in) {
		/* A #PF comes before the device is asked, not after. */
		r = pvhv_translate(vcpu, vcpu->pio.linear, PVHV_WALK_WRITE, &gpa);
	} else {
		r = pvhv_read_linear(vcpu, vcpu->pio.linear, vcpu->pio_data,
				     count * vcpu->pio.size);
	}
	if (r)
		return r < 0 ? r : PVHV_RESUME;
	trace_pvhv_pio(vcpu->pio.in, vcpu->pio.port, vcpu->pio.size, count, 0);
	if (string_to_devices(vcpu, count))
		return to_user(vcpu, count, complete_string);
	vcpu->pio.count = count;
	return complete_string(vcpu);
}

int pvhv_handle_pio(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_exit *e = &vcpu->exit;

	vcpu->stat.pio_exits++;
	vcpu->pio.rip = vcpu->rip;
	vcpu->pio.port = e->pio.port;
	vcpu->pio.size = e->pio.size;
	vcpu->pio.in = e->pio.in;
	return e->pio.string ? handle_string(vcpu) : handle_single(vcpu);
}
