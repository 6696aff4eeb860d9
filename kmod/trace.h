/* SPDX-License-Identifier: GPL-2.0 */
/*
 * trace.h - the tracepoints of TRACE_SYSTEM pvhv (perf trace -e 'pvhv:*'):
 *  1. the run loop: entry, exit, halt_poll, kill,
 *  2. what an exit was about: pio, mmio, cpuid, msr, hypercall, tdp_fault,
 *  3. interrupts: inj_irq, inj_exception, set_irq, apic_ipi, apic_accept, eoi.
 *
 * main.c defines CREATE_TRACE_POINTS, after its other includes (some of the
 * kernel's headers have tracepoints, too); everybody else only includes this.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pvhv

#if !defined(PVHV_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define PVHV_TRACE_H

#include <linux/tracepoint.h>

#include "pvhv.h"

#define pvhv_trace_exit_kinds						\
	{ PVHV_EXIT_NONE,	"none" },				\
	{ PVHV_EXIT_INTR,	"intr" },				\
	{ PVHV_EXIT_CPUID,	"cpuid" },				\
	{ PVHV_EXIT_MSR_READ,	"rdmsr" },				\
	{ PVHV_EXIT_MSR_WRITE,	"wrmsr" },				\
	{ PVHV_EXIT_HYPERCALL,	"hypercall" },				\
	{ PVHV_EXIT_PIO,	"pio" },				\
	{ PVHV_EXIT_TDP_FAULT,	"tdp_fault" },				\
	{ PVHV_EXIT_HLT,	"hlt" },				\
	{ PVHV_EXIT_PAUSE,	"pause" },				\
	{ PVHV_EXIT_IRQ_WINDOW,	"irq_window" },				\
	{ PVHV_EXIT_NMI_WINDOW,	"nmi_window" },				\
	{ PVHV_EXIT_CR,		"cr" },					\
	{ PVHV_EXIT_XSETBV,	"xsetbv" },				\
	{ PVHV_EXIT_EXCEPTION,	"exception" },				\
	{ PVHV_EXIT_TASK_SWITCH, "task_switch" },			\
	{ PVHV_EXIT_SKIP,	"skip" },				\
	{ PVHV_EXIT_UD,		"ud" },					\
	{ PVHV_EXIT_RDTSC,	"rdtsc" },				\
	{ PVHV_EXIT_RDPMC,	"rdpmc" },				\
	{ PVHV_EXIT_SHUTDOWN,	"shutdown" },				\
	{ PVHV_EXIT_FAIL_ENTRY,	"fail_entry" },				\
	{ PVHV_EXIT_APIC_EOI,	"apic_eoi" },				\
	{ PVHV_EXIT_APIC_WRITE,	"apic_write" },				\
	{ PVHV_EXIT_APIC_ACCESS, "apic_access" },			\
	{ PVHV_EXIT_UNKNOWN,	"unknown" }

TRACE_EVENT(pvhv_entry,
	TP_PROTO(const struct pvhv_vcpu *vcpu),
	TP_ARGS(vcpu),
	TP_STRUCT__entry(
		__field(u32, id)
		__field(u64, rip)
	),
	TP_fast_assign(
		__entry->id = vcpu->id;
		__entry->rip = vcpu->rip;
	),
	TP_printk("vcpu %u rip 0x%llx", __entry->id, __entry->rip)
);

TRACE_EVENT(pvhv_exit,
	TP_PROTO(const struct pvhv_vcpu *vcpu),
	TP_ARGS(vcpu),
	TP_STRUCT__entry(
		__field(u32, id)
		__field(u32, kind)
		__field(u64, rip)
		__field(u64, reason)
		__field(u64, info1)
		__field(u64, info2)
	),
	TP_fast_assign(
		__entry->id = vcpu->id;
		__entry->kind = vcpu->exit.kind;
		__entry->rip = vcpu->rip;
		__entry->reason = vcpu->exit.hw_reason;
		__entry->info1 = vcpu->exit.hw_info[0];
		__entry->info2 = vcpu->exit.hw_info[1];
	),
	TP_printk("vcpu %u %s reason 0x%llx rip 0x%llx info 0x%llx 0x%llx",
		  __entry->id,
		  __print_symbolic(__entry->kind, pvhv_trace_exit_kinds),
		  __entry->reason, __entry->rip, __entry->info1, __entry->info2)
);

/* val: the first element when count > 1 */
TRACE_EVENT(pvhv_pio,
	TP_PROTO(bool in, u16 port, u8 size, u32 count, u32 val),
	TP_ARGS(in, port, size, count, val),
	TP_STRUCT__entry(
		__field(bool, in)
		__field(u8, size)
		__field(u16, port)
		__field(u32, count)
		__field(u32, val)
	),
	TP_fast_assign(
		__entry->in = in;
		__entry->size = size;
		__entry->port = port;
		__entry->count = count;
		__entry->val = val;
	),
	TP_printk("%s port 0x%x size %u count %u val 0x%x",
		  __entry->in ? "in" : "out", __entry->port, __entry->size,
		  __entry->count, __entry->val)
);

TRACE_EVENT(pvhv_mmio,
	TP_PROTO(bool write, u64 gpa, u32 len, u64 val),
	TP_ARGS(write, gpa, len, val),
	TP_STRUCT__entry(
		__field(bool, write)
		__field(u32, len)
		__field(u64, gpa)
		__field(u64, val)
	),
	TP_fast_assign(
		__entry->write = write;
		__entry->len = len;
		__entry->gpa = gpa;
		__entry->val = val;
	),
	TP_printk("%s len %u gpa 0x%llx val 0x%llx",
		  __entry->write ? "write" : "read", __entry->len,
		  __entry->gpa, __entry->val)
);

TRACE_EVENT(pvhv_cpuid,
	TP_PROTO(u32 fn, u32 index, u32 eax, u32 ebx, u32 ecx, u32 edx),
	TP_ARGS(fn, index, eax, ebx, ecx, edx),
	TP_STRUCT__entry(
		__field(u32, fn)
		__field(u32, index)
		__field(u32, eax)
		__field(u32, ebx)
		__field(u32, ecx)
		__field(u32, edx)
	),
	TP_fast_assign(
		__entry->fn = fn;
		__entry->index = index;
		__entry->eax = eax;
		__entry->ebx = ebx;
		__entry->ecx = ecx;
		__entry->edx = edx;
	),
	TP_printk("leaf 0x%x.0x%x eax 0x%x ebx 0x%x ecx 0x%x edx 0x%x",
		  __entry->fn, __entry->index, __entry->eax, __entry->ebx,
		  __entry->ecx, __entry->edx)
);

TRACE_EVENT(pvhv_msr,
	TP_PROTO(bool write, u32 index, u64 data, bool fault),
	TP_ARGS(write, index, data, fault),
	TP_STRUCT__entry(
		__field(bool, write)
		__field(bool, fault)
		__field(u32, index)
		__field(u64, data)
	),
	TP_fast_assign(
		__entry->write = write;
		__entry->fault = fault;
		__entry->index = index;
		__entry->data = data;
	),
	TP_printk("%s 0x%x = 0x%llx%s", __entry->write ? "wrmsr" : "rdmsr",
		  __entry->index, __entry->data, __entry->fault ? " (#GP)" : "")
);

TRACE_EVENT(pvhv_hypercall,
	TP_PROTO(u64 nr, u64 a0, u64 a1, u64 a2, u64 a3),
	TP_ARGS(nr, a0, a1, a2, a3),
	TP_STRUCT__entry(
		__field(u64, nr)
		__field(u64, a0)
		__field(u64, a1)
		__field(u64, a2)
		__field(u64, a3)
	),
	TP_fast_assign(
		__entry->nr = nr;
		__entry->a0 = a0;
		__entry->a1 = a1;
		__entry->a2 = a2;
		__entry->a3 = a3;
	),
	TP_printk("nr 0x%llx args 0x%llx 0x%llx 0x%llx 0x%llx", __entry->nr,
		  __entry->a0, __entry->a1, __entry->a2, __entry->a3)
);

TRACE_EVENT(pvhv_tdp_fault,
	TP_PROTO(u32 id, u64 gpa, u32 error),
	TP_ARGS(id, gpa, error),
	TP_STRUCT__entry(
		__field(u32, id)
		__field(u32, error)
		__field(u64, gpa)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->error = error;
		__entry->gpa = gpa;
	),
	TP_printk("vcpu %u gpa 0x%llx error 0x%x", __entry->id, __entry->gpa,
		  __entry->error)
);

TRACE_EVENT(pvhv_inj_irq,
	TP_PROTO(u32 id, u8 vector, bool again),
	TP_ARGS(id, vector, again),
	TP_STRUCT__entry(
		__field(u32, id)
		__field(u8, vector)
		__field(bool, again)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->vector = vector;
		__entry->again = again;
	),
	TP_printk("vcpu %u vector 0x%x%s", __entry->id, __entry->vector,
		  __entry->again ? " (again)" : "")
);

TRACE_EVENT(pvhv_inj_exception,
	TP_PROTO(u32 id, u8 vector, bool has_error, u32 error, bool again),
	TP_ARGS(id, vector, has_error, error, again),
	TP_STRUCT__entry(
		__field(u32, id)
		__field(u32, error)
		__field(u8, vector)
		__field(bool, has_error)
		__field(bool, again)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->error = error;
		__entry->vector = vector;
		__entry->has_error = has_error;
		__entry->again = again;
	),
	TP_printk("vcpu %u vector %u%s 0x%x%s", __entry->id, __entry->vector,
		  __entry->has_error ? " error" : " no error",
		  __entry->has_error ? __entry->error : 0,
		  __entry->again ? " (again)" : "")
);

TRACE_EVENT(pvhv_set_irq,
	TP_PROTO(int source, u32 gsi, int level),
	TP_ARGS(source, gsi, level),
	TP_STRUCT__entry(
		__field(int, source)
		__field(u32, gsi)
		__field(int, level)
	),
	TP_fast_assign(
		__entry->source = source;
		__entry->gsi = gsi;
		__entry->level = level;
	),
	TP_printk("gsi %u level %d source %d", __entry->gsi, __entry->level,
		  __entry->source)
);

TRACE_EVENT(pvhv_apic_ipi,
	TP_PROTO(u32 from, u32 icr_low, u32 dest),
	TP_ARGS(from, icr_low, dest),
	TP_STRUCT__entry(
		__field(u32, from)
		__field(u32, icr_low)
		__field(u32, dest)
	),
	TP_fast_assign(
		__entry->from = from;
		__entry->icr_low = icr_low;
		__entry->dest = dest;
	),
	TP_printk("from %u icr 0x%x dest 0x%x", __entry->from, __entry->icr_low,
		  __entry->dest)
);

TRACE_EVENT(pvhv_apic_accept,
	TP_PROTO(u32 id, u32 mode, bool level, u8 vector),
	TP_ARGS(id, mode, level, vector),
	TP_STRUCT__entry(
		__field(u32, id)
		__field(u32, mode)
		__field(bool, level)
		__field(u8, vector)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->mode = mode;
		__entry->level = level;
		__entry->vector = vector;
	),
	TP_printk("vcpu %u mode 0x%x %s vector 0x%x", __entry->id,
		  __entry->mode, __entry->level ? "level" : "edge",
		  __entry->vector)
);

TRACE_EVENT(pvhv_eoi,
	TP_PROTO(u32 id, int vector),
	TP_ARGS(id, vector),
	TP_STRUCT__entry(
		__field(u32, id)
		__field(int, vector)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->vector = vector;
	),
	TP_printk("vcpu %u vector 0x%x", __entry->id, __entry->vector)
);

/* ns: the polling time allowed from now on */
TRACE_EVENT(pvhv_halt_poll,
	TP_PROTO(u32 id, bool success, u32 ns),
	TP_ARGS(id, success, ns),
	TP_STRUCT__entry(
		__field(u32, id)
		__field(u32, ns)
		__field(bool, success)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->ns = ns;
		__entry->success = success;
	),
	TP_printk("vcpu %u %s next %u ns", __entry->id,
		  __entry->success ? "polled" : "slept", __entry->ns)
);

TRACE_EVENT(pvhv_kill,
	TP_PROTO(const char *reason),
	TP_ARGS(reason),
	TP_STRUCT__entry(
		__array(char, reason, 80)
	),
	TP_fast_assign(
		strscpy(__entry->reason, reason, sizeof(__entry->reason));
	),
	TP_printk("%s", __entry->reason)
);

#endif /* PVHV_TRACE_H */

/* Relative to the module's folder, which is on the include path (Kbuild). */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
