// SPDX-License-Identifier: GPL-2.0
/*
 * Compares kmod/decode.c with a disassembler: reads the output of `objdump -d -w --insn-width=15 -M suffix` and decodes
 * every line's bytes. Length, kind and memory operand must agree; what the decoder claims to know must not be unknown.
 *
 *   decode_objdump 16|32|64 [-r] < OUTPUT
 *
 * -r: the bytes are no code (random, or code of another mode), and the disassembler shows encodings that a CPU refuses:
 * then only instructions that both know are compared. Prints the number compared; status 1 on any difference.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kmod/decode.h"

/* Mnemonics without size suffix, as the disassembler prints them. */
static const struct {
	u8 op;
	const char *name;
} names[] = {
#define N(op, name) { PVHV_OP_##op, name }
	N(ADD, "add"), N(OR, "or"), N(ADC, "adc"), N(SBB, "sbb"), N(AND, "and"), N(SUB, "sub"), N(XOR, "xor"),
	N(CMP, "cmp"), N(TEST, "test"), N(NOT, "not"), N(NEG, "neg"), N(INC, "inc"), N(DEC, "dec"), N(MOV, "mov"),
	N(MOV, "movabs"), N(MOV, "movnti"), N(MOVZX, "movzb"), N(MOVZX, "movzw"), N(MOVSX, "movsb"), N(MOVSX, "movsw"),
	N(MOVSX, "movsl"), N(MOVSX, "movsxd"), N(MOVSX, "movslq"), N(MOVBE, "movbe"), N(XCHG, "xchg"), N(XADD, "xadd"),
	N(CMPXCHG, "cmpxchg"), N(BT, "bt"), N(BTS, "bts"), N(BTR, "btr"), N(BTC, "btc"), N(MOVS, "movs"),
	N(CMPS, "cmps"), N(STOS, "stos"), N(LODS, "lods"), N(SCAS, "scas"), N(IN, "in"), N(OUT, "out"), N(INS, "ins"),
	N(OUTS, "outs"), N(MOV_FROM_CR, "mov"), N(MOV_TO_CR, "mov"), N(MOV_FROM_DR, "mov"), N(MOV_TO_DR, "mov"),
	N(CLTS, "clts"), N(LMSW, "lmsw"), N(SMSW, "smsw"), N(LGDT, "lgdt"), N(LIDT, "lidt"), N(SGDT, "sgdt"),
	N(SIDT, "sidt"), N(LLDT, "lldt"), N(LTR, "ltr"), N(SLDT, "sldt"), N(STR, "str"), N(VERR, "verr"),
	N(VERW, "verw"), N(CPUID, "cpuid"), N(RDMSR, "rdmsr"), N(WRMSR, "wrmsr"), N(RDTSC, "rdtsc"),
	N(RDTSCP, "rdtscp"), N(RDPMC, "rdpmc"), N(RDPRU, "rdpru"), N(HLT, "hlt"), N(PAUSE, "pause"),
	N(MONITOR, "monitor"), N(MWAIT, "mwait"), N(MONITORX, "monitorx"), N(MWAITX, "mwaitx"), N(INVD, "invd"),
	N(WBINVD, "wbinvd"), N(WBNOINVD, "wbnoinvd"), N(CLZERO, "clzero"), N(INVLPG, "invlpg"), N(INVLPGA, "invlpga"),
	N(INVLPGB, "invlpgb"), N(TLBSYNC, "tlbsync"), N(INVPCID, "invpcid"), N(XGETBV, "xgetbv"), N(XSETBV, "xsetbv"),
	N(CLAC, "clac"), N(STAC, "stac"), N(SWAPGS, "swapgs"), N(VMCALL, "vmcall"), N(VMMCALL, "vmmcall"),
	N(VMMCALL, "vmgexit"), N(VMRUN, "vmrun"), N(VMLOAD, "vmload"), N(VMSAVE, "vmsave"), N(STGI, "stgi"),
	N(CLGI, "clgi"), N(SKINIT, "skinit"), N(INT3, "int3"), N(INTO, "into"), N(INT, "int"), N(ICEBP, "int1"),
	N(ICEBP, "icebp"), N(IRET, "iret"), N(RSM, "rsm"), N(PUSHF, "pushf"), N(POPF, "popf"), N(CLI, "cli"),
	N(STI, "sti"),
#undef N
};

static bool is_name(const char *mnemonic, const char *name)
{
	size_t n = strlen(name);

	return !strncmp(mnemonic, name, n) && strspn(mnemonic + n, "bwlq") == strlen(mnemonic + n);
}

static bool op_has_name(u8 op, const char *mnemonic)
{
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].op == op && is_name(mnemonic, names[i].name))
			return true;
	return false;
}

/* Should the decoder know this? The forms without memory that it leaves out are told by their operands. */
static bool is_supported(const char *mnemonic, const char *operands, const u8 *bytes)
{
	bool mem = strchr(operands, '(');
	size_t i;

	if (!strncmp(mnemonic, "mov", 3)) {
		const char *seg = strstr(operands, "s,");	/* segment registers: %ds,... or ...,%ds */

		if ((!mem && *operands == '$') || (seg && seg[-2] == '%') || strstr(operands, "mm"))
			return false;
		if (operands[0] && strchr("cdefgs", operands[strlen(operands) - 2]) &&
		    operands[strlen(operands) - 1] == 's' && operands[strlen(operands) - 3] == '%')
			return false;
		if (strchr("adhlpqs", mnemonic[3]) && mnemonic[3] && !op_has_name(PVHV_OP_MOVSX, mnemonic) &&
		    !op_has_name(PVHV_OP_MOVS, mnemonic) && strcmp(mnemonic, "movl") && strcmp(mnemonic, "movq"))
			return false;
	}
	if (!strncmp(mnemonic, "xchg", 4) && !mem && !memchr(bytes, 0x86, 3) && !memchr(bytes, 0x87, 3))
		return false;					/* 90 to 97 */
	if ((!strncmp(mnemonic, "inc", 3) || !strncmp(mnemonic, "dec", 3)) && (bytes[0] & 0xf0) == 0x40)
		return false;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (is_name(mnemonic, names[i].name))
			return true;
	return false;
}

static const char *reg_name(u8 reg, u8 bytes)
{
	static const char *const low[] = { "ax", "cx", "dx", "bx", "sp", "bp", "si", "di" };
	static char name[2][8];
	static int turn;
	char *out = name[turn ^= 1];

	if (reg < 8)
		sprintf(out, "%s%s", bytes == 8 ? "r" : bytes == 4 ? "e" : "", low[reg]);
	else
		sprintf(out, "r%u%s", reg, bytes == 4 ? "d" : "");
	return out;
}

/* The operand in the disassembler's words, without a segment. */
static void print_memory(const struct pvhv_insn *i, char *out)
{
	u64 disp = i->disp;
	bool bare = i->base == PVHV_NOREG && i->index == PVHV_NOREG;
	int n = 0;

	*out = 0;
	if (i->flags & PVHV_INSN_RIPREL) {
		sprintf(out, "%s0x%llx(%%%s)", i->disp < 0 ? "-" : "",
			(long long)(i->disp < 0 ? -i->disp : i->disp), i->adsize == 8 ? "rip" : "eip");
		return;
	}
	if (bare) {
		if (i->adsize == 2)		/* shown as a signed number */
			sprintf(out, "%s0x%llx", i->disp < 0 ? "-" : "", (long long)(i->disp < 0 ? -i->disp : i->disp));
		else
			sprintf(out, "0x%llx", (long long)(i->adsize == 4 ? (u32)disp : disp));
		return;
	}
	if (i->disp)
		n = sprintf(out, "%s0x%llx", i->disp < 0 ? "-" : "", (long long)(i->disp < 0 ? -i->disp : i->disp));
	n += sprintf(out + n, "(");
	if (i->base != PVHV_NOREG)
		n += sprintf(out + n, "%%%s", reg_name(i->base, i->adsize));
	if (i->index != PVHV_NOREG) {
		n += sprintf(out + n, ",%%%s", reg_name(i->index, i->adsize));
		if (i->adsize != 2)
			n += sprintf(out + n, ",%u", 1u << i->scale);
	}
	sprintf(out + n, ")");
}

static bool same_memory(const struct pvhv_insn *insn, const char *operands)
{
	static const char *const segs[] = { "es", "cs", "ss", "ds", "fs", "gs" };
	u8 default_seg = insn->base == 4 || insn->base == 5 ? PVHV_SEG_SS : PVHV_SEG_DS;
	char expect[64], alt[64], seg[8];
	const char *at;

	if (insn->form == PVHV_FORM_STRING || insn->op == PVHV_OP_CLZERO)
		return true;
	if (!(insn->flags & PVHV_INSN_MEM))
		return !strchr(operands, '(') || insn->op == PVHV_OP_IN || insn->op == PVHV_OP_OUT || insn->form == 0;
	print_memory(insn, expect);
	strcpy(alt, expect);
	if (insn->disp == 0 && (at = strchr(expect, '('))) {	/* an explicit displacement of zero is shown */
		strcpy(alt, "0x0");
		strcat(alt, at);
	}
	if (insn->adsize == 2 && !strchr(expect, '('))	/* signed after ModRM, unsigned in MOV moffs */
		sprintf(alt, "0x%x", (u16)insn->disp);
	/* A SIB byte without an index may be shown with the pseudo-register iz. */
	at = strstr(operands, expect);
	if (!at)
		at = strstr(operands, alt);
	if (!at) {
		char *close = strchr(expect, ')');
		const char *iz = strstr(operands, insn->adsize == 8 ? ",%riz," : ",%eiz,");

		if (!iz || insn->index != PVHV_NOREG)
			return false;
		if (close)
			*close = 0;
		return strstr(operands, expect) || !close || insn->base == PVHV_NOREG;
	}
	if (insn->seg == default_seg)
		return true;
	sprintf(seg, "%%%s:", segs[insn->seg]);
	return strstr(operands, seg) || strstr(operands, seg + 1);
}

static bool is_prefix(const char *word)
{
	static const char *const prefixes[] = {
		"lock", "rep", "repz", "repnz", "data16", "data32", "addr32", "addr16", "cs", "ds", "es", "ss", "fs", "gs",
		"xacquire", "xrelease", "bnd", "notrack",
	};
	size_t i;

	for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (!strcmp(word, prefixes[i]))
			return true;
	return !strncmp(word, "rex", 3);
}

int main(int argc, char **argv)
{
	static char line[1024];
	unsigned long compared = 0, differences = 0, lines = 0;
	bool data = argc > 2 && !strcmp(argv[2], "-r");
	enum pvhv_cpu_mode mode = argc > 1 ? atoi(argv[1]) / 8 : 0;

	if (mode != PVHV_MODE_16 && mode != PVHV_MODE_32 && mode != PVHV_MODE_64) {
		fprintf(stderr, "usage: decode_objdump 16|32|64 [-r] < OUTPUT\n");
		return 2;
	}
	while (fgets(line, sizeof(line), stdin)) {
		char *hex = strchr(line, '\t'), *text, *word, *comment;
		const char *wrong = NULL;
		struct pvhv_insn insn;
		u8 bytes[16] = { 0 };
		unsigned int n = 0, v;
		int used, ret;

		text = hex ? strchr(hex + 1, '\t') : NULL;
		if (!text)
			continue;
		*text++ = 0;
		text[strcspn(text, "\n")] = 0;
		for (hex++; n < 15 && sscanf(hex, "%2x%n", &v, &used) == 1; hex += used)
			bytes[n++] = v;
		comment = strchr(text, '#');
		if (comment)
			*comment = 0;
		comment = strchr(text, '<');
		if (comment)
			*comment = 0;
		for (word = strtok(text, " "); word && is_prefix(word); word = strtok(NULL, " "))
			;
		if (!word)
			continue;		/* prefixes alone */
		text = strtok(NULL, "");
		text = text ? text + strspn(text, " ") : "";
		for (comment = text + strlen(text); comment > text && comment[-1] == ' '; comment--)
			comment[-1] = 0;

		lines++;
		ret = pvhv_decode(&insn, bytes, n, mode);
		if (ret == PVHV_DECODE_OK) {
			if (data && (!strcmp(word, "(bad)") || !op_has_name(insn.op, word)))
				continue;
			compared++;
			if (insn.length != n)
				wrong = "length";
			else if (!op_has_name(insn.op, word))
				wrong = "kind";
			else if (!same_memory(&insn, text))
				wrong = "memory operand";
		} else if (!data && is_supported(word, text, bytes)) {
			wrong = "unknown";
		}
		if (!wrong)
			continue;
		if (differences++ < 20)
			printf("# %s: %s\t%s %s (decoded: op %u, %u bytes)\n", wrong, line, word, text,
			       ret ? 0 : insn.op, ret ? 0 : insn.length);
	}
	printf("# %lu lines, %lu compared, %lu differences\n", lines, compared, differences);
	return differences || !compared;
}
