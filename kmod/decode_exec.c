// SPDX-License-Identifier: GPL-2.0
/*
 * decode_exec.c: performs a decoded data instruction for the guest, a pure function of registers and callbacks:
 *  1. effective and linear addresses as the mode truncates and bases them;
 *  2. the ALU: results and the six status flags;
 *  3. moves, exchanges, bit operations and ALU operations between registers, immediates and memory;
 *  4. string instructions, one iteration at a time.
 *
 * Invariant: registers, flags and rip change only after every memory access of the instruction (of the iteration) has
 * succeeded, so the caller may leave in the middle and execute the instruction again from its start.
 */
#include "decode.h"

#define CF (1u << 0)
#define PF (1u << 2)
#define AF (1u << 4)
#define ZF (1u << 6)
#define SF (1u << 7)
#define DF (1u << 10)
#define OF (1u << 11)
#define STATUS_FLAGS (CF | PF | AF | ZF | SF | OF)

enum { RAX, RCX, RSI = 6, RDI };

static u64 mask_of(unsigned int bytes)
{
	return ~0ull >> (64 - 8 * bytes);
}

static u64 sign_extend(u64 val, unsigned int bytes)
{
	unsigned int shift = 64 - 8 * bytes;

	return (u64)((s64)(val << shift) >> shift);
}

/* Without REX, the byte registers 4-7 are the second bytes of the first four registers. */
static bool is_high_byte(const struct pvhv_insn *insn, u8 reg, unsigned int bytes)
{
	return bytes == 1 && (reg & 0xc) == 4 && !(insn->flags & PVHV_INSN_REX);
}

static u64 get_reg(const struct pvhv_insn *insn, const struct pvhv_insn_ctx *ctx, u8 reg, unsigned int bytes)
{
	if (is_high_byte(insn, reg, bytes))
		return ctx->gpr[reg & 3] >> 8 & 0xff;
	return ctx->gpr[reg & 15] & mask_of(bytes);
}

/* A four-byte write clears the upper half, smaller ones leave the rest of the register alone. */
static void set_reg(const struct pvhv_insn *insn, struct pvhv_insn_ctx *ctx, u8 reg, u64 val, unsigned int bytes)
{
	u64 *r = &ctx->gpr[reg & 15];

	if (is_high_byte(insn, reg, bytes)) {
		r = &ctx->gpr[reg & 3];
		*r = (*r & ~0xff00ull) | (val & 0xff) << 8;
	} else if (bytes >= 4) {
		*r = val & mask_of(bytes);
	} else {
		*r = (*r & ~mask_of(bytes)) | (val & mask_of(bytes));
	}
}

/* The instruction after this one. Outside 64-bit mode the pointer has 32 bits; a 16-bit segment's limit is not ours. */
u64 pvhv_insn_next_rip(const struct pvhv_insn *insn, u64 rip)
{
	rip += insn->length;
	return insn->mode == PVHV_MODE_64 ? rip : (u32)rip;
}

static u64 to_linear(const struct pvhv_insn *insn, const struct pvhv_insn_ctx *ctx, u8 seg, u64 offset)
{
	if (insn->mode != PVHV_MODE_64)
		return (u32)(ctx->seg_base[seg] + offset);
	return seg >= PVHV_SEG_FS ? ctx->seg_base[seg] + offset : offset;
}

static bool is_bit_op(u8 op)
{
	return op >= PVHV_OP_BT && op <= PVHV_OP_BTC;
}

/*
 * Offset of the memory operand in its segment. A bit operation by register reaches beyond its operand: the register
 * counts bits, signed, and selects the operand-sized unit that holds the bit.
 */
u64 pvhv_insn_offset(const struct pvhv_insn *insn, const struct pvhv_insn_ctx *ctx)
{
	u64 offset = insn->disp;

	if (insn->flags & PVHV_INSN_RIPREL)
		offset += ctx->rip + insn->length;
	if (insn->base != PVHV_NOREG)
		offset += ctx->gpr[insn->base & 15];
	if (insn->index != PVHV_NOREG)
		offset += ctx->gpr[insn->index & 15] << insn->scale;
	if (is_bit_op(insn->op) && insn->form == PVHV_FORM_RM_R) {
		s64 bit = sign_extend(get_reg(insn, ctx, insn->reg, insn->opsize), insn->opsize);

		offset += (bit >> 3) & -(u64)insn->opsize;
	}
	return offset & mask_of(insn->adsize);
}

static u64 string_source(const struct pvhv_insn *insn, const struct pvhv_insn_ctx *ctx)
{
	return to_linear(insn, ctx, insn->seg, ctx->gpr[RSI] & mask_of(insn->adsize));
}

static u64 string_dest(const struct pvhv_insn *insn, const struct pvhv_insn_ctx *ctx)
{
	return to_linear(insn, ctx, PVHV_SEG_ES, ctx->gpr[RDI] & mask_of(insn->adsize));
}

/* Linear address of the memory operand; of a string instruction what it writes, or reads if it writes nothing. */
u64 pvhv_insn_linear(const struct pvhv_insn *insn, const struct pvhv_insn_ctx *ctx)
{
	if (insn->form == PVHV_FORM_STRING) {
		if (insn->op == PVHV_OP_LODS || insn->op == PVHV_OP_CMPS || insn->op == PVHV_OP_OUTS)
			return string_source(insn, ctx);
		return string_dest(insn, ctx);
	}
	return to_linear(insn, ctx, insn->seg, pvhv_insn_offset(insn, ctx));
}

/* Numbers the access and tells the callbacks about it. */
static int read_mem(struct pvhv_insn_ctx *ctx, u8 seg, u64 linear, u64 *val, unsigned int bytes, bool rmw)
{
	int ret;

	*val = 0;
	ctx->access_seg = seg;
	ctx->access_rmw = rmw;
	ret = ctx->read(ctx, linear, val, bytes);
	ctx->access_no++;
	return ret;
}

static int write_mem(struct pvhv_insn_ctx *ctx, u8 seg, u64 linear, u64 val, unsigned int bytes)
{
	int ret;

	ctx->access_seg = seg;
	ctx->access_rmw = false;
	ret = ctx->write(ctx, linear, &val, bytes);
	ctx->access_no++;
	return ret;
}

/* The write of a read-modify-write whose read gave old. */
static int write_back(const struct pvhv_insn *insn, struct pvhv_insn_ctx *ctx, u64 linear, u64 old, u64 val)
{
	int ret;

	if (!(insn->flags & PVHV_INSN_LOCK) || !ctx->cmpxchg)
		return write_mem(ctx, insn->seg, linear, val, insn->opsize);
	ctx->access_seg = insn->seg;
	ctx->access_rmw = false;
	ret = ctx->cmpxchg(ctx, linear, &old, &val, insn->opsize);
	ctx->access_no++;
	return ret;
}

/* ZF, SF and PF of a result. */
static u32 flags_of(u64 res, unsigned int bytes)
{
	u32 flags = 0;
	u8 low = res;

	if (!(res & mask_of(bytes)))
		flags |= ZF;
	if (res >> (8 * bytes - 1) & 1)
		flags |= SF;
	low ^= low >> 4;
	if (!(0x6996 >> (low & 15) & 1))	/* bit n of the constant: n has an odd number of ones */
		flags |= PF;
	return flags;
}

static u64 add(u64 a, u64 b, u32 carry, unsigned int bytes, u32 *flags)
{
	u64 res = a + b + carry;
	u64 carries = (a & b) | ((a | b) & ~res);
	unsigned int top = 8 * bytes - 1;

	*flags = flags_of(res, bytes);
	if (carries >> top & 1)
		*flags |= CF;
	if (carries >> 3 & 1)
		*flags |= AF;
	if (((a ^ res) & (b ^ res)) >> top & 1)
		*flags |= OF;
	return res;
}

static u64 subtract(u64 a, u64 b, u32 borrow, unsigned int bytes, u32 *flags)
{
	u64 res = a - b - borrow;
	u64 borrows = (~a & b) | ((~a | b) & res);
	unsigned int top = 8 * bytes - 1;

	*flags = flags_of(res, bytes);
	if (borrows >> top & 1)
		*flags |= CF;
	if (borrows >> 3 & 1)
		*flags |= AF;
	if (((a ^ b) & (a ^ res)) >> top & 1)
		*flags |= OF;
	return res;
}

/*
 * The operation itself: what dst becomes. *flags holds the status flags before and after. Logic clears AF, bit
 * operations leave everything but CF alone: the manuals call that undefined, CPUs agree on it.
 */
static u64 alu(u8 op, u64 dst, u64 src, u64 acc, unsigned int bytes, u32 *flags)
{
	u32 carry = *flags & CF;
	u64 bit, res;

	switch (op) {
	case PVHV_OP_ADD:
	case PVHV_OP_XADD:
		return add(dst, src, 0, bytes, flags);
	case PVHV_OP_ADC:
		return add(dst, src, carry, bytes, flags);
	case PVHV_OP_SBB:
		return subtract(dst, src, carry, bytes, flags);
	case PVHV_OP_SUB:
	case PVHV_OP_CMP:
		return subtract(dst, src, 0, bytes, flags);
	case PVHV_OP_NEG:
		return subtract(0, dst, 0, bytes, flags);
	case PVHV_OP_INC:
		res = add(dst, 1, 0, bytes, flags);
		*flags = (*flags & ~CF) | carry;
		return res;
	case PVHV_OP_DEC:
		res = subtract(dst, 1, 0, bytes, flags);
		*flags = (*flags & ~CF) | carry;
		return res;
	case PVHV_OP_AND:
	case PVHV_OP_TEST:
		*flags = flags_of(dst & src, bytes);
		return dst & src;
	case PVHV_OP_OR:
		*flags = flags_of(dst | src, bytes);
		return dst | src;
	case PVHV_OP_XOR:
		*flags = flags_of(dst ^ src, bytes);
		return dst ^ src;
	case PVHV_OP_CMPXCHG:
		subtract(acc, dst, 0, bytes, flags);
		return *flags & ZF ? src : dst;
	case PVHV_OP_NOT:
		return ~dst;
	case PVHV_OP_BT:
	case PVHV_OP_BTS:
	case PVHV_OP_BTR:
	case PVHV_OP_BTC:
		bit = 1ull << (src & (8 * bytes - 1));
		*flags = (*flags & ~CF) | (dst & bit ? CF : 0);
		if (op == PVHV_OP_BTS)
			return dst | bit;
		if (op == PVHV_OP_BTR)
			return dst & ~bit;
		return op == PVHV_OP_BTC ? dst ^ bit : dst;
	default:	/* MOV, MOVZX, MOVSX, MOVBE, XCHG: src has been made what dst becomes */
		return src;
	}
}

static bool reads_dst(u8 op)
{
	return op < PVHV_OP_MOV || op > PVHV_OP_MOVBE;
}

static bool writes_dst(u8 op)
{
	return op != PVHV_OP_CMP && op != PVHV_OP_TEST && op != PVHV_OP_BT;
}

static u64 convert_source(const struct pvhv_insn *insn, u64 src)
{
	if (insn->op == PVHV_OP_MOVSX)
		return sign_extend(src, insn->srcsize);
	if (insn->op == PVHV_OP_MOVBE)
		return __builtin_bswap64(src) >> (64 - 8 * insn->opsize);
	return src;
}

/* Everything but string instructions: dst = op(dst, src), dst or src may be memory. */
static int execute_data(const struct pvhv_insn *insn, struct pvhv_insn_ctx *ctx)
{
	bool mem = insn->flags & PVHV_INSN_MEM;
	bool rm_is_dst = insn->form != PVHV_FORM_R_RM;
	bool rm_written = rm_is_dst && writes_dst(insn->op);
	unsigned int bytes = insn->opsize;
	u64 rm = 0, other, acc, res, linear = 0;
	u32 flags = *ctx->rflags & STATUS_FLAGS;
	int ret;

	if (mem)
		linear = pvhv_insn_linear(insn, ctx);
	if (!rm_is_dst || reads_dst(insn->op)) {
		if (mem) {
			ret = read_mem(ctx, insn->seg, linear, &rm, insn->srcsize, rm_written);
			if (ret)
				return ret;
		} else {
			rm = get_reg(insn, ctx, insn->rm, insn->srcsize);
		}
	}
	other = insn->form == PVHV_FORM_RM_IMM ? insn->imm & mask_of(bytes) : get_reg(insn, ctx, insn->reg, bytes);
	acc = get_reg(insn, ctx, RAX, bytes);
	if (rm_is_dst)
		res = alu(insn->op, rm, convert_source(insn, other), acc, bytes, &flags);
	else
		res = alu(insn->op, other, convert_source(insn, rm), acc, bytes, &flags);

	if (mem && rm_written) {
		if (reads_dst(insn->op))
			ret = write_back(insn, ctx, linear, rm, res);
		else
			ret = write_mem(ctx, insn->seg, linear, res & mask_of(bytes), bytes);
		if (ret)
			return ret;
	}

	/* All accesses are made: now the registers. XADD of a register with itself keeps the sum, so rm comes last. */
	if (insn->op == PVHV_OP_XCHG || insn->op == PVHV_OP_XADD)
		set_reg(insn, ctx, insn->reg, rm, bytes);
	if (insn->op == PVHV_OP_CMPXCHG && !(flags & ZF))
		set_reg(insn, ctx, RAX, rm, bytes);
	if (!rm_is_dst && writes_dst(insn->op))
		set_reg(insn, ctx, insn->reg, res, bytes);
	else if (!mem && rm_written && (insn->op != PVHV_OP_CMPXCHG || (flags & ZF)))
		set_reg(insn, ctx, insn->rm, res, bytes);
	*ctx->rflags = (*ctx->rflags & ~(u64)STATUS_FLAGS) | flags;
	ctx->rip = pvhv_insn_next_rip(insn, ctx->rip);
	return PVHV_EXEC_DONE;
}

/* One element. Reads and writes memory only; *acc is what LODS puts into the accumulator. */
static int string_access(const struct pvhv_insn *insn, struct pvhv_insn_ctx *ctx, u64 *acc, u32 *flags)
{
	u64 a = get_reg(insn, ctx, RAX, insn->opsize), b;
	int ret;

	switch (insn->op) {
	case PVHV_OP_STOS:
		return write_mem(ctx, PVHV_SEG_ES, string_dest(insn, ctx), a, insn->opsize);
	case PVHV_OP_LODS:
		return read_mem(ctx, insn->seg, string_source(insn, ctx), acc, insn->opsize, false);
	case PVHV_OP_MOVS:
		ret = read_mem(ctx, insn->seg, string_source(insn, ctx), &b, insn->opsize, false);
		return ret ? ret : write_mem(ctx, PVHV_SEG_ES, string_dest(insn, ctx), b, insn->opsize);
	case PVHV_OP_CMPS:
		ret = read_mem(ctx, insn->seg, string_source(insn, ctx), &a, insn->opsize, false);
		if (ret)
			return ret;
		break;
	default:	/* SCAS */
		break;
	}
	ret = read_mem(ctx, PVHV_SEG_ES, string_dest(insn, ctx), &b, insn->opsize, false);
	if (!ret)
		subtract(a, b, 0, insn->opsize, flags);
	return ret;
}

static void advance(const struct pvhv_insn *insn, struct pvhv_insn_ctx *ctx, u8 reg, u64 step)
{
	set_reg(insn, ctx, reg, ctx->gpr[reg] + step, insn->adsize);
}

static int execute_string(const struct pvhv_insn *insn, struct pvhv_insn_ctx *ctx)
{
	bool rep = insn->flags & (PVHV_INSN_REP | PVHV_INSN_REPNE);
	bool compares = insn->op == PVHV_OP_CMPS || insn->op == PVHV_OP_SCAS;
	u64 count = ctx->gpr[RCX] & mask_of(insn->adsize);
	u64 step = *ctx->rflags & DF ? -(u64)insn->opsize : insn->opsize;
	u32 flags = *ctx->rflags & STATUS_FLAGS;
	u64 acc = 0;
	int ret;

	if (!rep || count) {
		ret = string_access(insn, ctx, &acc, &flags);
		if (ret)
			return ret;
		if (insn->op == PVHV_OP_LODS)
			set_reg(insn, ctx, RAX, acc, insn->opsize);
		if (insn->op == PVHV_OP_MOVS || insn->op == PVHV_OP_CMPS || insn->op == PVHV_OP_LODS)
			advance(insn, ctx, RSI, step);
		if (insn->op != PVHV_OP_LODS)
			advance(insn, ctx, RDI, step);
		*ctx->rflags = (*ctx->rflags & ~(u64)STATUS_FLAGS) | flags;
		if (rep) {
			bool wanted = insn->flags & PVHV_INSN_REP ? flags & ZF : !(flags & ZF);

			advance(insn, ctx, RCX, -1ull);
			if (count != 1 && (!compares || wanted))
				return PVHV_EXEC_REPEAT;
		}
	}
	ctx->rip = pvhv_insn_next_rip(insn, ctx->rip);
	return PVHV_EXEC_DONE;
}

/*
 * Performs the instruction, or one iteration of a repeated one; enum pvhv_exec_result says what came of it. ctx->rip
 * must be the address of the instruction.
 */
int pvhv_insn_execute(const struct pvhv_insn *insn, struct pvhv_insn_ctx *ctx)
{
	if (insn->op == PVHV_OP_NONE || insn->op > PVHV_OP_EXECUTABLE)
		return PVHV_EXEC_UNKNOWN;
	ctx->access_no = 0;
	if (insn->form == PVHV_FORM_STRING)
		return execute_string(insn, ctx);
	return execute_data(insn, ctx);
}
