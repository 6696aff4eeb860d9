/* SPDX-License-Identifier: GPL-2.0 */
/*
 * decode.h: the x86 instruction decoder and executor, pure functions for the kernel and for userspace tests:
 *  1. pvhv_decode(): bytes to struct pvhv_insn (length, kind, operands), no other input than the bytes and the mode;
 *  2. pvhv_insn_linear(): the linear address of the memory operand;
 *  3. pvhv_insn_execute(): performs one instruction on registers the caller lends and memory behind callbacks.
 *
 * decode.c implements 1, decode_exec.c 2 and 3.
 */
#ifndef PVHV_DECODE_H
#define PVHV_DECODE_H

#include "pure.h"

#define PVHV_INSN_MAX 15

/* The code segment's default: CS.L, else CS.D; real and virtual-8086 mode are MODE_16. */
enum pvhv_cpu_mode {
	PVHV_MODE_16 = 2,
	PVHV_MODE_32 = 4,
	PVHV_MODE_64 = 8,
};

enum pvhv_decode_result {
	PVHV_DECODE_OK = 0,
	PVHV_DECODE_MORE = 1,		/* the instruction goes on beyond nbytes: fetch the next page, decode again */
	PVHV_DECODE_UNKNOWN = 2,	/* not an instruction this decoder knows, invalid, or above 15 bytes */
};

enum pvhv_op {
	PVHV_OP_NONE,

	/* Data: pvhv_insn_execute() performs all of these. The first eight in the order of the opcode map. */
	PVHV_OP_ADD, PVHV_OP_OR, PVHV_OP_ADC, PVHV_OP_SBB, PVHV_OP_AND, PVHV_OP_SUB, PVHV_OP_XOR, PVHV_OP_CMP,
	PVHV_OP_TEST, PVHV_OP_NOT, PVHV_OP_NEG, PVHV_OP_INC, PVHV_OP_DEC,
	PVHV_OP_MOV, PVHV_OP_MOVZX, PVHV_OP_MOVSX, PVHV_OP_MOVBE,
	PVHV_OP_XCHG, PVHV_OP_XADD, PVHV_OP_CMPXCHG,
	PVHV_OP_BT, PVHV_OP_BTS, PVHV_OP_BTR, PVHV_OP_BTC,
	PVHV_OP_MOVS, PVHV_OP_CMPS, PVHV_OP_STOS, PVHV_OP_LODS, PVHV_OP_SCAS,
	PVHV_OP_EXECUTABLE = PVHV_OP_SCAS,	/* the last one the executor knows */

	/* System: decoded only. reg and rm as the comments say; a memory operand where the form has one. */
	PVHV_OP_IN, PVHV_OP_OUT,	/* opsize; port = imm when PVHV_INSN_IMM, else DX */
	PVHV_OP_INS, PVHV_OP_OUTS,	/* opsize, adsize, seg (ES for INS), rep flags; port = DX */
	PVHV_OP_MOV_FROM_CR, PVHV_OP_MOV_TO_CR,		/* reg = control register, rm = general register */
	PVHV_OP_MOV_FROM_DR, PVHV_OP_MOV_TO_DR,		/* reg = debug register, rm = general register */
	PVHV_OP_CLTS, PVHV_OP_LMSW, PVHV_OP_SMSW,	/* rm or memory */
	PVHV_OP_LGDT, PVHV_OP_LIDT, PVHV_OP_SGDT, PVHV_OP_SIDT,
	PVHV_OP_LLDT, PVHV_OP_LTR, PVHV_OP_SLDT, PVHV_OP_STR, PVHV_OP_VERR, PVHV_OP_VERW,
	PVHV_OP_CPUID, PVHV_OP_RDMSR, PVHV_OP_WRMSR, PVHV_OP_RDTSC, PVHV_OP_RDTSCP, PVHV_OP_RDPMC, PVHV_OP_RDPRU,
	PVHV_OP_HLT, PVHV_OP_PAUSE, PVHV_OP_MONITOR, PVHV_OP_MWAIT, PVHV_OP_MONITORX, PVHV_OP_MWAITX,
	PVHV_OP_INVD, PVHV_OP_WBINVD, PVHV_OP_WBNOINVD, PVHV_OP_CLZERO,
	PVHV_OP_INVLPG,			/* memory operand = the address */
	PVHV_OP_INVLPGA, PVHV_OP_INVLPGB, PVHV_OP_TLBSYNC,
	PVHV_OP_INVPCID,		/* reg = type, memory operand = descriptor */
	PVHV_OP_XGETBV, PVHV_OP_XSETBV, PVHV_OP_CLAC, PVHV_OP_STAC, PVHV_OP_SWAPGS,
	PVHV_OP_VMCALL, PVHV_OP_VMMCALL, PVHV_OP_VMRUN, PVHV_OP_VMLOAD, PVHV_OP_VMSAVE,
	PVHV_OP_STGI, PVHV_OP_CLGI, PVHV_OP_SKINIT,
	PVHV_OP_INT3, PVHV_OP_INTO, PVHV_OP_INT, PVHV_OP_ICEBP,	/* INT: imm = vector */
	PVHV_OP_IRET, PVHV_OP_RSM, PVHV_OP_PUSHF, PVHV_OP_POPF, PVHV_OP_CLI, PVHV_OP_STI,
	PVHV_OP_NR
};

/* Which operand is written and which is read; the executor's forms. */
enum pvhv_insn_form {
	PVHV_FORM_NONE,		/* no operands, or implied ones */
	PVHV_FORM_RM_R,		/* rm (register or memory) <- op <- reg */
	PVHV_FORM_R_RM,		/* reg <- op <- rm */
	PVHV_FORM_RM_IMM,	/* rm <- op <- imm */
	PVHV_FORM_RM,		/* rm <- op */
	PVHV_FORM_STRING,	/* ES:rDI and/or seg:rSI */
};

enum pvhv_seg { PVHV_SEG_ES, PVHV_SEG_CS, PVHV_SEG_SS, PVHV_SEG_DS, PVHV_SEG_FS, PVHV_SEG_GS, PVHV_SEG_NR };

#define PVHV_INSN_LOCK		0x01	/* LOCK prefix; also set for XCHG with memory, which locks by itself */
#define PVHV_INSN_REP		0x02	/* F3, on string instructions only */
#define PVHV_INSN_REPNE		0x04	/* F2, on string instructions only */
#define PVHV_INSN_MEM		0x08	/* rm is memory: seg, base, index, scale, disp say where */
#define PVHV_INSN_RIPREL	0x10	/* the address counts from the end of the instruction */
#define PVHV_INSN_IMM		0x20	/* imm is valid */
#define PVHV_INSN_REX		0x40	/* byte registers 4-7 are SPL..DIL, not AH..BH */

#define PVHV_NOREG 0xff

struct pvhv_insn {
	u8 op;		/* enum pvhv_op */
	u8 form;	/* enum pvhv_insn_form */
	u8 flags;	/* PVHV_INSN_* */
	u8 length;	/* bytes, prefixes included */
	u8 mode;	/* enum pvhv_cpu_mode it was decoded for */
	u8 opsize;	/* operand bytes: 1, 2, 4, 8 */
	u8 srcsize;	/* bytes read from rm: opsize but for MOVZX and MOVSX */
	u8 adsize;	/* address bytes: 2, 4, 8 */
	u8 seg;		/* enum pvhv_seg of the memory operand, or of rSI of a string instruction */
	u8 base;	/* register number or PVHV_NOREG */
	u8 index;	/* register number or PVHV_NOREG */
	u8 scale;	/* shift of the index */
	u8 reg;		/* ModRM.reg or the register in the opcode */
	u8 rm;		/* ModRM.rm where it is a register */
	s64 disp;	/* sign extended; 64 bits for MOV moffs */
	u64 imm;	/* sign extended to 64 bits; truncate to opsize */
};

/* Results of pvhv_insn_execute(). */
enum pvhv_exec_result {
	PVHV_EXEC_DONE = 0,	/* complete: registers, flags and ctx->rip are those after the instruction */
	PVHV_EXEC_REPEAT = 1,	/* one iteration of a REP is complete, registers updated, ctx->rip still the instruction's */
	PVHV_EXEC_EXIT = 2,	/* from a callback: userspace must act first; nothing was changed, execute again later */
	PVHV_EXEC_RETRY = 3,	/* ctx->cmpxchg found other data; nothing was changed, forget cached reads, execute again */
	PVHV_EXEC_UNKNOWN = 4,	/* the executor does not perform this op */
	/* below 0: a callback's failure, passed through unchanged; nothing was changed */
};

struct pvhv_insn_ctx;

/*
 * Callbacks return 0 when done, PVHV_EXEC_EXIT when userspace has to supply or take the data, or a negative code of
 * their own (say, after queueing the guest's #PF). linear may cross a page; bytes is 1, 2, 4 or 8.
 *
 * One execution numbers its accesses 0, 1, ... in ctx->access_no, and a restarted execution (or the same iteration of a
 * REP) makes the same accesses with the same numbers as long as they return the same data. The caller may therefore keep
 * the results of accesses that had side effects by that number, and must forget them at DONE, REPEAT and RETRY.
 */
typedef int (*pvhv_insn_read_fn)(struct pvhv_insn_ctx *ctx, u64 linear, void *val, unsigned int bytes);
typedef int (*pvhv_insn_write_fn)(struct pvhv_insn_ctx *ctx, u64 linear, const void *val, unsigned int bytes);
/* Writes new if memory still holds old, atomically for RAM (for a device: a plain write); PVHV_EXEC_RETRY if it does not. */
typedef int (*pvhv_insn_cmpxchg_fn)(struct pvhv_insn_ctx *ctx, u64 linear, const void *old, const void *new,
				    unsigned int bytes);

struct pvhv_insn_ctx {
	u64 *gpr;			/* 16 registers in the order of their encoding: RAX RCX RDX RBX RSP RBP RSI RDI R8.. */
	u64 *rflags;
	u64 rip;			/* in: of the instruction; out: of the next one after PVHV_EXEC_DONE */
	u64 seg_base[PVHV_SEG_NR];	/* in 64-bit mode only FS and GS are read */
	pvhv_insn_read_fn read;
	pvhv_insn_write_fn write;
	pvhv_insn_cmpxchg_fn cmpxchg;	/* optional: the write of a locked read-modify-write; NULL: plain write */

	/* For the callbacks, set by the executor. */
	u8 access_no;
	u8 access_seg;			/* enum pvhv_seg, for limit checks outside 64-bit mode */
	bool access_rmw;		/* a read whose operand will be written: check for write permission too */
};

/* decode.c: */
int pvhv_decode(struct pvhv_insn *insn, const u8 *bytes, unsigned int nbytes, enum pvhv_cpu_mode mode);

/* decode_exec.c: */
u64 pvhv_insn_offset(const struct pvhv_insn *insn, const struct pvhv_insn_ctx *ctx);
u64 pvhv_insn_linear(const struct pvhv_insn *insn, const struct pvhv_insn_ctx *ctx);
int pvhv_insn_execute(const struct pvhv_insn *insn, struct pvhv_insn_ctx *ctx);
u64 pvhv_insn_next_rip(const struct pvhv_insn *insn, u64 rip);

#endif
