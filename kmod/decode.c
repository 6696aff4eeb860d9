// SPDX-License-Identifier: GPL-2.0
/*
 * decode.c: the x86 instruction decoder, a pure function of the bytes and the mode:
 *  1. the opcode maps as constant tables: what an opcode is, its operands, which prefixes it bears;
 *  2. prefixes, ModRM, SIB, displacement and immediate of 16, 32 and 64-bit code;
 *  3. the line between "needs more bytes", "known" and "unknown": it never reads beyond the bytes it was given.
 *
 * It knows the data instructions that compilers and operating systems use on device memory, and the system
 * instructions a backend intercepts. Everything else is unknown, and so are forms that a CPU refuses (LOCK where it is
 * illegal, more than 15 bytes), because guests reach this code with bytes of their choice.
 */
#include "decode.h"

/* A table entry: op in bits 0-7 (a group's number where GROUP is set), form in bits 8-10, attributes above. */
#define MODRM	(1u << 11)	/* a ModRM byte follows */
#define BYTE	(1u << 12)	/* the operand size is 1 */
#define IMM8	(1u << 13)	/* one immediate byte, sign extended */
#define IMM	(1u << 14)	/* an immediate of the operand size, at most 4 bytes */
#define GROUP	(1u << 15)	/* ModRM.reg selects the entry in groups[] */
#define LOCKS	(1u << 16)	/* LOCK is legal if the destination is memory */
#define MEMORY	(1u << 17)	/* the register form does not exist */
#define NO64	(1u << 18)	/* does not exist in 64-bit mode */
#define ONLY64	(1u << 19)	/* exists in 64-bit mode only */
#define STACK	(1u << 20)	/* operand size 8 or 2 in 64-bit mode */
#define PORT	(1u << 21)	/* operand size 4 at most */
#define SRC8	(1u << 22)	/* rm is one byte wide */
#define SRC16	(1u << 23)	/* rm is two bytes wide */
#define SRC32	(1u << 24)	/* rm is four bytes wide at most */
#define NOREP	(1u << 25)	/* F2 and F3 make it another instruction */
#define NO66	(1u << 26)	/* 66 makes it another instruction; the operand has 4 or 8 bytes in every mode */
#define NEED66	(1u << 27)	/* without 66 it is another instruction */
#define MOFFS	(1u << 28)	/* the address is an immediate of the address size */
#define REGONLY	(1u << 29)	/* ModRM.mod is ignored, rm is always a register of native size */
#define PREFIX	(1u << 30)	/* no opcode yet */
#define ESCAPE	(1u << 31)	/* the opcode is the next byte, in another map */

/* The attributes that can make an instruction invalid. */
#define CONDITIONS (NO64 | ONLY64 | NOREP | NO66 | NEED66 | MEMORY)

#define E(op, form, attrs) (PVHV_OP_##op | PVHV_FORM_##form << 8 | (attrs))
#define S(op) E(op, NONE, 0)

#define ENTRY_OP(e) ((e) & 0xff)
#define ENTRY_FORM(e) ((e) >> 8 & 7)

enum { GROUP_1, GROUP_3, GROUP_4, GROUP_6, GROUP_7, GROUP_8, GROUP_11 };
#define G(group, attrs) ((group) | GROUP | MODRM | (attrs))

static const u32 groups[][8] = {
	[GROUP_1] = {
		E(ADD, RM_IMM, LOCKS), E(OR, RM_IMM, LOCKS), E(ADC, RM_IMM, LOCKS), E(SBB, RM_IMM, LOCKS),
		E(AND, RM_IMM, LOCKS), E(SUB, RM_IMM, LOCKS), E(XOR, RM_IMM, LOCKS), E(CMP, RM_IMM, 0),
	},
	[GROUP_3] = {
		E(TEST, RM_IMM, IMM), E(TEST, RM_IMM, IMM), E(NOT, RM, LOCKS), E(NEG, RM, LOCKS),
	},
	[GROUP_4] = { E(INC, RM, LOCKS), E(DEC, RM, LOCKS) },
	[GROUP_6] = { E(SLDT, RM, 0), E(STR, RM, 0), E(LLDT, RM, 0), E(LTR, RM, 0), E(VERR, RM, 0), E(VERW, RM, 0) },
	[GROUP_7] = {
		E(SGDT, RM, MEMORY), E(SIDT, RM, MEMORY), E(LGDT, RM, MEMORY), E(LIDT, RM, MEMORY),
		E(SMSW, RM, 0), 0, E(LMSW, RM, 0), E(INVLPG, RM, MEMORY),
	},
	[GROUP_8] = {
		[4] = E(BT, RM_IMM, 0), E(BTS, RM_IMM, LOCKS), E(BTR, RM_IMM, LOCKS), E(BTC, RM_IMM, LOCKS),
	},
	[GROUP_11] = { E(MOV, RM_IMM, 0) },
};

/* 0F 01 with a register operand: the whole ModRM byte is opcode. What is absent goes to GROUP_7. */
static const u8 group7_reg[64] = {
	[0xc1 - 0xc0] = PVHV_OP_VMCALL,
	[0xc8 - 0xc0] = PVHV_OP_MONITOR, PVHV_OP_MWAIT, PVHV_OP_CLAC, PVHV_OP_STAC,
	[0xd0 - 0xc0] = PVHV_OP_XGETBV, PVHV_OP_XSETBV,
	[0xd8 - 0xc0] = PVHV_OP_VMRUN, PVHV_OP_VMMCALL, PVHV_OP_VMLOAD, PVHV_OP_VMSAVE,
			PVHV_OP_STGI, PVHV_OP_CLGI, PVHV_OP_SKINIT, PVHV_OP_INVLPGA,
	[0xf8 - 0xc0] = PVHV_OP_SWAPGS, PVHV_OP_RDTSCP, PVHV_OP_MONITORX, PVHV_OP_MWAITX,
			PVHV_OP_CLZERO, PVHV_OP_RDPRU, PVHV_OP_INVLPGB, PVHV_OP_TLBSYNC,
};

/* The six encodings of an ALU operation; CMP, which writes nothing, takes no LOCK. */
#define ALU(n, op, lock)								\
	[n] = E(op, RM_R, MODRM | BYTE | (lock)), E(op, RM_R, MODRM | (lock)),		\
	      E(op, R_RM, MODRM | BYTE), E(op, R_RM, MODRM),				\
	      E(op, RM_IMM, BYTE | IMM), E(op, RM_IMM, IMM)

static const u32 map_one[256] = {
	ALU(0x00, ADD, LOCKS), ALU(0x08, OR, LOCKS), ALU(0x10, ADC, LOCKS), ALU(0x18, SBB, LOCKS),
	ALU(0x20, AND, LOCKS), ALU(0x28, SUB, LOCKS), ALU(0x30, XOR, LOCKS), ALU(0x38, CMP, 0),
	[0x0f] = ESCAPE,
	[0x26] = PREFIX, [0x2e] = PREFIX, [0x36] = PREFIX, [0x3e] = PREFIX,
	[0x40 ... 0x4f] = PREFIX,
	[0x64] = PREFIX, PREFIX, PREFIX, PREFIX,
	[0xf0] = PREFIX, [0xf2] = PREFIX, PREFIX,
	[0x63] = E(MOVSX, R_RM, MODRM | SRC32 | ONLY64),
	[0x6c] = E(INS, STRING, BYTE), E(INS, STRING, PORT), E(OUTS, STRING, BYTE), E(OUTS, STRING, PORT),
	[0x80] = G(GROUP_1, BYTE | IMM), G(GROUP_1, IMM), G(GROUP_1, BYTE | IMM | NO64), G(GROUP_1, IMM8),
	[0x84] = E(TEST, RM_R, MODRM | BYTE), E(TEST, RM_R, MODRM),
	[0x86] = E(XCHG, RM_R, MODRM | BYTE | LOCKS), E(XCHG, RM_R, MODRM | LOCKS),
	[0x88] = E(MOV, RM_R, MODRM | BYTE), E(MOV, RM_R, MODRM), E(MOV, R_RM, MODRM | BYTE), E(MOV, R_RM, MODRM),
	[0x9c] = E(PUSHF, NONE, STACK), E(POPF, NONE, STACK),
	[0xa0] = E(MOV, R_RM, BYTE | MOFFS), E(MOV, R_RM, MOFFS), E(MOV, RM_R, BYTE | MOFFS), E(MOV, RM_R, MOFFS),
	[0xa4] = E(MOVS, STRING, BYTE), E(MOVS, STRING, 0), E(CMPS, STRING, BYTE), E(CMPS, STRING, 0),
	[0xa8] = E(TEST, RM_IMM, BYTE | IMM), E(TEST, RM_IMM, IMM),
	[0xaa] = E(STOS, STRING, BYTE), E(STOS, STRING, 0), E(LODS, STRING, BYTE), E(LODS, STRING, 0),
	[0xae] = E(SCAS, STRING, BYTE), E(SCAS, STRING, 0),
	[0xc6] = G(GROUP_11, BYTE | IMM), G(GROUP_11, IMM),
	[0xcc] = S(INT3), E(INT, NONE, IMM8), E(INTO, NONE, NO64), S(IRET),
	[0xe4] = E(IN, NONE, BYTE | IMM8), E(IN, NONE, PORT | IMM8), E(OUT, NONE, BYTE | IMM8), E(OUT, NONE, PORT | IMM8),
	[0xec] = E(IN, NONE, BYTE), E(IN, NONE, PORT), E(OUT, NONE, BYTE), E(OUT, NONE, PORT),
	[0xf1] = S(ICEBP),
	[0xf4] = S(HLT),
	[0xf6] = G(GROUP_3, BYTE), G(GROUP_3, 0),
	[0xfa] = S(CLI), S(STI),
	[0xfe] = G(GROUP_4, BYTE), G(GROUP_4, 0),
};

static const u32 map_0f[256] = {
	[0x00] = G(GROUP_6, 0), G(GROUP_7, 0),
	[0x06] = S(CLTS),
	[0x08] = S(INVD), S(WBINVD),
	[0x20] = E(MOV_FROM_CR, RM_R, MODRM | REGONLY), E(MOV_FROM_DR, RM_R, MODRM | REGONLY),
		 E(MOV_TO_CR, R_RM, MODRM | REGONLY), E(MOV_TO_DR, R_RM, MODRM | REGONLY),
	[0x30] = S(WRMSR), S(RDTSC), S(RDMSR), S(RDPMC),
	[0xa2] = S(CPUID), E(BT, RM_R, MODRM),
	[0xaa] = S(RSM), E(BTS, RM_R, MODRM | LOCKS),
	[0xb0] = E(CMPXCHG, RM_R, MODRM | BYTE | LOCKS), E(CMPXCHG, RM_R, MODRM | LOCKS),
	[0xb3] = E(BTR, RM_R, MODRM | LOCKS),
	[0xb6] = E(MOVZX, R_RM, MODRM | SRC8), E(MOVZX, R_RM, MODRM | SRC16),
	[0xba] = G(GROUP_8, IMM8), E(BTC, RM_R, MODRM | LOCKS),
	[0xbe] = E(MOVSX, R_RM, MODRM | SRC8), E(MOVSX, R_RM, MODRM | SRC16),
	[0xc0] = E(XADD, RM_R, MODRM | BYTE | LOCKS), E(XADD, RM_R, MODRM | LOCKS),
	[0xc3] = E(MOV, RM_R, MODRM | MEMORY | NOREP | NO66),
};

/* The few of the three-byte map 0F 38. */
static u32 entry_0f38(u8 opcode)
{
	switch (opcode) {
	case 0x82:
		return E(INVPCID, R_RM, MODRM | MEMORY | NOREP | NEED66);
	case 0xf0:
		return E(MOVBE, R_RM, MODRM | MEMORY | NOREP);
	case 0xf1:
		return E(MOVBE, RM_R, MODRM | MEMORY | NOREP);
	default:
		return 0;
	}
}

/* What one decode carries from byte to byte. at never passes end. */
struct stream {
	const u8 *at;
	const u8 *end;
	u8 seen;		/* SEEN_* */
	u8 rex;
	u8 rep;			/* F2, F3 or 0: the last one counts */
	u8 seg;
};

#define SEEN_66		0x01
#define SEEN_67		0x02
#define SEEN_LOCK	0x04
#define SEEN_REP	0x08
#define SEEN_SEG	0x10
#define SEEN_REX	0x20

#define REX_W 8
#define REX_R 4
#define REX_X 2
#define REX_B 1

/* Takes a little-endian number of 1, 2, 4 or 8 bytes, sign extended. Returns false if the bytes end before. */
static bool take(struct stream *s, unsigned int bytes, s64 *val)
{
	u64 v = 0;
	unsigned int i;

	if ((size_t)(s->end - s->at) < bytes)
		return false;
	if (bytes == 4) {
		s32 v32;

		__builtin_memcpy(&v32, s->at, 4);
		*val = v32;
	} else if (bytes == 1) {
		*val = (s8)*s->at;
	} else {
		for (i = 0; i < bytes; i++)
			v |= (u64)s->at[i] << (8 * i);
		*val = (s64)(v << (64 - 8 * bytes)) >> (64 - 8 * bytes);
	}
	s->at += bytes;
	return true;
}

/* Notes a byte that map_one calls a prefix. Returns false if the mode does not have it. */
static bool note_prefix(struct stream *s, enum pvhv_cpu_mode mode, u8 b)
{
	if ((b & 0xf0) == 0x40) {
		s->rex = b;
		s->seen |= SEEN_REX;
		return mode == PVHV_MODE_64;
	}
	switch (b) {
	case 0x66:
		s->seen |= SEEN_66;
		break;
	case 0x67:
		s->seen |= SEEN_67;
		break;
	case 0xf0:
		s->seen |= SEEN_LOCK;
		break;
	case 0xf2:
	case 0xf3:
		s->rep = b;
		s->seen |= SEEN_REP;
		break;
	case 0x64:
	case 0x65:
		s->seg = b & 7;
		s->seen |= SEEN_SEG;
		break;
	default:
		/* 64-bit mode ignores the other segments: an FS or GS prefix before them stays in force. */
		if (mode != PVHV_MODE_64) {
			s->seg = b >> 3 & 3;
			s->seen |= SEEN_SEG;
		}
	}
	/* REX counts only right before the opcode. */
	s->rex = 0;
	s->seen &= ~SEEN_REX;
	return true;
}

/* The registers of 16-bit addressing, by ModRM.rm: base in the low nibble, index in the high one, f is none. */
static const u8 modrm16[8] = { 0x63, 0x73, 0x65, 0x75, 0xf6, 0xf7, 0xf5, 0xf3 };

static bool take_address16(struct pvhv_insn *insn, struct stream *s, u8 mod, u8 rm)
{
	unsigned int disp_bytes = mod;	/* mod 1: one byte, mod 2: two */

	if (mod == 0 && rm == 6) {
		disp_bytes = 2;
	} else {
		insn->base = modrm16[rm] & 0xf;
		if (modrm16[rm] >> 4 != 0xf)
			insn->index = modrm16[rm] >> 4;
	}
	if (insn->base == 5)
		insn->seg = PVHV_SEG_SS;
	return disp_bytes == 0 || take(s, disp_bytes, &insn->disp);
}

static bool take_address(struct pvhv_insn *insn, struct stream *s, u8 mod, u8 rm)
{
	unsigned int disp_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
	u8 base = rm;

	if (rm == 4) {
		u8 sib;

		if (s->at == s->end)
			return false;
		sib = *s->at++;
		base = sib & 7;
		insn->scale = sib >> 6;
		insn->index = (sib >> 3 & 7) | (s->rex & REX_X ? 8 : 0);
		if (insn->index == 4)	/* RSP cannot be an index, R12 can */
			insn->index = PVHV_NOREG;
	}
	if (mod == 0 && base == 5) {
		disp_bytes = 4;
		if (rm == 5 && insn->mode == PVHV_MODE_64)
			insn->flags |= PVHV_INSN_RIPREL;
	} else {
		insn->base = base | (s->rex & REX_B ? 8 : 0);
		if (insn->base == 4 || insn->base == 5)
			insn->seg = PVHV_SEG_SS;
	}
	return disp_bytes == 0 || take(s, disp_bytes, &insn->disp);
}

/* Decodes what ModRM says about rm; the byte itself has been taken. */
static bool take_modrm(struct pvhv_insn *insn, struct stream *s, u8 modrm, u32 entry)
{
	u8 mod = modrm >> 6, rm = modrm & 7;
	bool ok;

	insn->reg = (modrm >> 3 & 7) | (s->rex & REX_R ? 8 : 0);
	if (mod == 3 || (entry & REGONLY)) {
		insn->rm = rm | (s->rex & REX_B ? 8 : 0);
		return true;
	}
	insn->flags |= PVHV_INSN_MEM;
	ok = insn->adsize == 2 ? take_address16(insn, s, mod, rm) : take_address(insn, s, mod, rm);
	if (s->seen & SEEN_SEG)
		insn->seg = s->seg;
	return ok;
}

/* Operand size without prefixes. */
static inline u8 plain_operand_size(enum pvhv_cpu_mode mode, u32 entry)
{
	if (entry & BYTE)
		return 1;
	if (mode == PVHV_MODE_16)
		return entry & (REGONLY | NO66) ? 4 : 2;
	return mode == PVHV_MODE_64 && (entry & (REGONLY | STACK)) ? 8 : 4;
}

static inline u8 source_size(u8 opsize, u32 entry)
{
	if (!(entry & (SRC8 | SRC16 | SRC32)))
		return opsize;
	if (entry & SRC32)
		return opsize > 4 ? 4 : opsize;
	return entry & SRC8 ? 1 : 2;
}

/* The instruction as it is without prefixes and operands. The enumerators of the modes are their sizes in bytes. */
static inline void fill_plain(struct pvhv_insn *insn, u32 entry, enum pvhv_cpu_mode mode)
{
	insn->op = ENTRY_OP(entry);
	insn->form = ENTRY_FORM(entry);
	insn->flags = 0;
	insn->length = 0;
	insn->mode = mode;
	insn->opsize = plain_operand_size(mode, entry);
	insn->srcsize = source_size(insn->opsize, entry);
	insn->adsize = mode;
	insn->seg = PVHV_SEG_DS;
	insn->base = PVHV_NOREG;
	insn->index = PVHV_NOREG;
	insn->scale = 0;
	insn->reg = 0;
	insn->rm = 0;
	insn->disp = 0;
	insn->imm = 0;
}

/* What the prefixes change; of F2 and F3 that is a repetition, another instruction or nothing. LOCK comes later. */
static void apply_prefixes(struct pvhv_insn *insn, const struct stream *s, u32 entry)
{
	if (!(entry & (BYTE | REGONLY))) {
		if ((s->rex & REX_W) && !(entry & PORT))
			insn->opsize = 8;
		else if (s->seen & SEEN_66)
			insn->opsize = insn->opsize == 2 ? 4 : 2;
		if (entry & NO66 && insn->opsize == 2)
			insn->opsize = 4;
		insn->srcsize = source_size(insn->opsize, entry);
	}
	if (s->seen & SEEN_67)
		insn->adsize = insn->mode == PVHV_MODE_32 ? 2 : 4;
	if (s->seen & SEEN_SEG)
		insn->seg = s->seg;
	if (s->rex)
		insn->flags |= PVHV_INSN_REX;
	if (insn->op == PVHV_OP_WBINVD && s->rep == 0xf3)
		insn->op = PVHV_OP_WBNOINVD;
	if (insn->form == PVHV_FORM_STRING && s->rep)
		insn->flags |= s->rep == 0xf3 ? PVHV_INSN_REP : PVHV_INSN_REPNE;
}

/* Is LOCK, if present, legal? Says so in the flags. XCHG with memory locks without the prefix. */
static bool settle_lock(struct pvhv_insn *insn, const struct stream *s, u32 entry)
{
	bool mem = insn->flags & PVHV_INSN_MEM;

	if (s->seen & SEEN_LOCK) {
		if (insn->op == PVHV_OP_MOV_FROM_CR || insn->op == PVHV_OP_MOV_TO_CR) {
			/* AMD's way to CR8 outside 64-bit mode. */
			if (insn->reg != 0)
				return false;
			insn->reg = 8;
			return true;
		}
		if (!(entry & LOCKS) || !mem)
			return false;
		insn->flags |= PVHV_INSN_LOCK;
	} else if (insn->op == PVHV_OP_XCHG && mem) {
		insn->flags |= PVHV_INSN_LOCK;
	}
	return true;
}

/* Finds the entry of an opcode behind 0F, taking its further bytes. Returns a pvhv_decode_result. */
static int take_escaped_opcode(struct stream *s, u32 *entry)
{
	u8 opcode;

	if (s->at == s->end)
		return PVHV_DECODE_MORE;
	opcode = *s->at++;
	*entry = map_0f[opcode];
	if (opcode == 0x38) {
		if (s->at == s->end)
			return PVHV_DECODE_MORE;
		*entry = entry_0f38(*s->at++);
	}
	return PVHV_DECODE_OK;
}

/* Do F2 and F3 make this member of group 7 another instruction? Before the rest CPUs ignore them. */
static bool rep_selects_other(u8 op)
{
	switch (op) {
	case PVHV_OP_CLAC:		/* ERETS, ERETU */
	case PVHV_OP_MONITORX:		/* MCOMMIT */
	case PVHV_OP_RDPRU:		/* RMPQUERY, RMPREAD */
	case PVHV_OP_INVLPGB:		/* RMPUPDATE, RMPADJUST */
	case PVHV_OP_TLBSYNC:		/* PVALIDATE, PSMASH */
		return true;
	default:
		return false;
	}
}

/* Replaces a group's entry by the one that ModRM selects; 0 if there is none. */
static u32 resolve_group(u32 entry, u8 modrm, const struct stream *s)
{
	u32 member;

	if (ENTRY_OP(entry) == GROUP_7 && modrm >= 0xc0 && group7_reg[modrm - 0xc0]) {
		u8 op = group7_reg[modrm - 0xc0];

		return s->rep && rep_selects_other(op) ? 0 : op | MODRM;
	}
	member = groups[ENTRY_OP(entry)][modrm >> 3 & 7];
	return member ? member | (entry & ~(0x7ffu | GROUP)) : 0;
}

/* Do the mode, the prefixes and the kind of operand fit the entry? */
static bool is_valid(u32 entry, u8 modrm, const struct stream *s, enum pvhv_cpu_mode mode)
{
	return !((entry & NO64) && mode == PVHV_MODE_64) &&
	       !((entry & ONLY64) && mode != PVHV_MODE_64) &&
	       !((entry & NOREP) && s->rep) &&
	       !((entry & NO66) && (s->seen & SEEN_66)) &&
	       !((entry & NEED66) && !(s->seen & SEEN_66)) &&
	       !((entry & MEMORY) && modrm >= 0xc0);
}

static inline int decode(struct pvhv_insn *insn, struct stream *s, enum pvhv_cpu_mode mode)
{
	u8 opcode, modrm = 0;
	u32 entry;

	do {
		if (s->at == s->end)
			return PVHV_DECODE_MORE;
		opcode = *s->at++;
		entry = map_one[opcode];
		if ((entry & PREFIX) && !note_prefix(s, mode, opcode))
			return PVHV_DECODE_UNKNOWN;
	} while (entry & PREFIX);

	if (entry & ESCAPE) {
		int ret = take_escaped_opcode(s, &entry);

		if (ret)
			return ret;
	} else if (opcode == 0x90 && s->rep == 0xf3) {
		entry = S(PAUSE);
	}
	if (!entry || ((entry & (NO64 | ONLY64)) && !is_valid(entry & (NO64 | ONLY64), 0, s, mode)))
		return PVHV_DECODE_UNKNOWN;
	if (entry & MODRM) {
		if (s->at == s->end)
			return PVHV_DECODE_MORE;
		modrm = *s->at++;
		if (entry & GROUP)
			entry = resolve_group(entry, modrm, s);
		if (!entry || ((entry & CONDITIONS) && !is_valid(entry, modrm, s, mode)))
			return PVHV_DECODE_UNKNOWN;
	}

	fill_plain(insn, entry, mode);
	if (s->seen)
		apply_prefixes(insn, s, entry);
	if (insn->op == PVHV_OP_INS)
		insn->seg = PVHV_SEG_ES;	/* cannot be overridden */

	if ((entry & MODRM) && !take_modrm(insn, s, modrm, entry))
		return PVHV_DECODE_MORE;
	if (entry & MOFFS) {
		insn->flags |= PVHV_INSN_MEM;
		if (!take(s, insn->adsize, &insn->disp))
			return PVHV_DECODE_MORE;
	}
	if (entry & (IMM | IMM8)) {
		s64 imm;

		if (!take(s, entry & IMM8 ? 1 : insn->opsize > 4 ? 4 : insn->opsize, &imm))
			return PVHV_DECODE_MORE;
		insn->imm = imm;
		insn->flags |= PVHV_INSN_IMM;
		if (insn->form == PVHV_FORM_NONE)
			insn->imm &= 0xff;	/* a port or a vector, not a number */
	}
	if (!(s->seen & SEEN_LOCK) && insn->op != PVHV_OP_XCHG)
		return PVHV_DECODE_OK;
	return settle_lock(insn, s, entry) ? PVHV_DECODE_OK : PVHV_DECODE_UNKNOWN;
}

/*
 * Decodes the instruction that begins at bytes. Reads at most nbytes and at most PVHV_INSN_MAX of them. *insn is valid
 * after PVHV_DECODE_OK only.
 */
int pvhv_decode(struct pvhv_insn *insn, const u8 *bytes, unsigned int nbytes, enum pvhv_cpu_mode mode)
{
	struct stream s;
	u32 entry;
	int ret;

	/* Most of what a backend intercepts has neither prefix nor operands: CPUID, RDMSR, HLT, OUT. */
	if (nbytes >= 2) {
		bool escape = bytes[0] == 0x0f;

		entry = escape ? map_0f[bytes[1]] : map_one[bytes[0]];
		if (entry && !(entry & ~(0xffu | BYTE | PORT))) {
			fill_plain(insn, entry, mode);
			insn->length = 1 + escape;
			return PVHV_DECODE_OK;
		}
	}
	s.at = bytes;
	s.end = bytes + (nbytes < PVHV_INSN_MAX ? nbytes : PVHV_INSN_MAX);
	s.seen = 0;
	s.rex = 0;
	s.rep = 0;
	s.seg = 0;
	ret = decode(insn, &s, mode);
	if (ret == PVHV_DECODE_OK)
		insn->length = s.at - bytes;
	else if (ret == PVHV_DECODE_MORE && nbytes >= PVHV_INSN_MAX)
		ret = PVHV_DECODE_UNKNOWN;
	return ret;
}
