/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pvhv.h - the module's one internal header: its table of contents.
 *
 * Who may know whom: a backend (svm/) knows this header and nothing of the
 * ioctls; common code reaches a backend only through struct pvhv_backend;
 * nothing here knows a VMM.
 *
 * Locks, outermost first:
 *   vm->lock         mutex: vCPU creation, irqchip creation, VM-wide settings
 *   vcpu->mutex      mutex: one ioctl at a time on a vCPU; KVM_RUN holds it
 *   vm->slots_lock   mutex: writers of memslots and of the I/O buses
 *   vm->irq_lock     mutex: writers of the GSI routing, irqfds
 *   vm->srcu         readers of memslots, buses, routing; no mutex of the
 *                    above is ever taken inside
 *   vm->mmu_lock     rwlock: second-level page tables (read: fault, write: zap)
 *   irqchip locks    raw spinlocks, irqs off, see lapic.c, ioapic.c, pic.c
 */
#ifndef PVHV_H
#define PVHV_H

#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <linux/hrtimer.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/preempt.h>
#include <linux/rcuwait.h>
#include <linux/refcount.h>
#include <linux/rwlock.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/types.h>
#include <asm/apicdef.h>
#include <asm/processor.h>
#include <asm/debugreg.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>
#include <asm/trap_pf.h>
#include <asm/trapnr.h>

#include "compat.h"
#include "decode.h"
#include "walk.h"

#define PVHV_MAX_VCPUS		1024
#define PVHV_MAX_VCPU_ID	4096	/* as KVM_CAP_MAX_VCPU_ID reports */
#define PVHV_USER_SLOTS		509	/* KVM_CAP_NR_MEMSLOTS */
#define PVHV_MAX_CPUID		256	/* KVM_MAX_CPUID_ENTRIES */
#define PVHV_MAX_IRQ_ROUTES	4096	/* KVM_CAP_IRQ_ROUTING */
#define PVHV_NR_GSI_PINS	24	/* IOAPIC pins */
#define PVHV_MAX_MSR_ENTRIES	256	/* KVM_GET/SET_MSRS, as KVM's MAX_IO_MSRS */
#define PVHV_NO_EXTINT		-1
#define PVHV_PIO_PAGE_OFFSET	1	/* pages of the vCPU mmap: run, pio, ring */
#define PVHV_MMAP_PAGES		3

/* Bits that only <asm/kvm_host.h> names: SDM vol. 3, 17.2. */
#define PVHV_DR7_GD	BIT_ULL(13)	/* general detect enable */

struct pvhv_vm;
struct pvhv_vcpu;
struct pvhv_lapic;
struct pvhv_ioapic;
struct pvhv_pic;
struct pvhv_pit;
struct pvhv_memslots;
struct pvhv_io_bus;
struct pvhv_irq_table;
struct pvhv_msr_filter;

/* Results of an exit handler; negative values are -errno for KVM_RUN. */
enum {
	PVHV_TO_USER = 0,	/* vcpu->run says why; KVM_RUN returns 0 */
	PVHV_RESUME = 1,	/* enter the guest again */
	PVHV_SLOW = 2,		/* (fast handlers) needs the slow handler */
};

/* vcpu->requests bits: set by pvhv_make_request(), seen before each entry. */
enum pvhv_req {
	PVHV_REQ_EVENT,		/* look at pending interrupts again */
	PVHV_REQ_TLB_FLUSH,	/* drop this vCPU's second-level translations */
	PVHV_REQ_UNBLOCK,	/* leave the halted state check */
	PVHV_REQ_SYNC,		/* drop and retake vm->srcu */
	PVHV_REQ_CLOCK_UPDATE,	/* rewrite the vCPU's kvmclock page */
	PVHV_REQ_STEAL_UPDATE,	/* rewrite the vCPU's steal-time record */
	PVHV_REQ_NMI,		/* nmi_queued changed */
	PVHV_REQ_APIC_EVENTS,	/* INIT or SIPI arrived: pvhv_lapic_events() */
	PVHV_REQ_TRIPLE_FAULT,
	PVHV_REQ_VM_DEAD,	/* pvhv_kill_vm(): KVM_RUN gives -EIO */
	PVHV_REQ_DEBUG_STEP,	/* a step of KVM_SET_GUEST_DEBUG is done */
	PVHV_REQ_USER_EOI,	/* userspace must see an EOI (split irqchip) */
	PVHV_REQ_MSR_FILTER,	/* the VM's filter changed: which MSRs exit */
	PVHV_REQ_PV_EOI,	/* pvhv_lapic_sync_pv_eoi_from_guest(), irqs on */
	PVHV_REQ_VIRTUAL_APIC,	/* pvhv_lapic_choose_virtual(), irqs on */
};

enum pvhv_vcpu_mode {
	PVHV_OUTSIDE_GUEST,
	PVHV_IN_GUEST,
};

/* General registers in the order of their x86 encodings. */
enum pvhv_gpr {
	PVHV_RAX, PVHV_RCX, PVHV_RDX, PVHV_RBX, PVHV_RSP, PVHV_RBP, PVHV_RSI,
	PVHV_RDI, PVHV_R8, PVHV_R9, PVHV_R10, PVHV_R11, PVHV_R12, PVHV_R13,
	PVHV_R14, PVHV_R15, PVHV_NR_GPRS
};

/* Segment registers in the order of their x86 encodings. */
enum pvhv_segreg {
	PVHV_ES, PVHV_CS, PVHV_SS, PVHV_DS, PVHV_FS, PVHV_GS, PVHV_TR, PVHV_LDTR
};

/* Exits, normalised by the backend. */
enum pvhv_exit_kind {
	PVHV_EXIT_NONE,		/* handled inside the backend: enter again */
	PVHV_EXIT_INTR,		/* host interrupt or NMI: runs once irqs are on */
	PVHV_EXIT_CPUID,
	PVHV_EXIT_MSR_READ,
	PVHV_EXIT_MSR_WRITE,
	PVHV_EXIT_HYPERCALL,
	PVHV_EXIT_PIO,
	PVHV_EXIT_TDP_FAULT,	/* second-level fault: memory or MMIO */
	PVHV_EXIT_HLT,
	PVHV_EXIT_PAUSE,
	PVHV_EXIT_IRQ_WINDOW,
	PVHV_EXIT_NMI_WINDOW,
	PVHV_EXIT_CR,		/* MOV CR, LMSW, CLTS */
	PVHV_EXIT_DR,		/* MOV DR, while guest_debug is set */
	PVHV_EXIT_XSETBV,
	PVHV_EXIT_EXCEPTION,	/* an intercepted exception of the guest */
	PVHV_EXIT_TASK_SWITCH,
	PVHV_EXIT_SKIP,		/* WBINVD, INVD, MONITOR, MWAIT as NOP, ... */
	PVHV_EXIT_UD,		/* an instruction this guest does not have */
	PVHV_EXIT_RDTSC,
	PVHV_EXIT_RDPMC,
	PVHV_EXIT_SHUTDOWN,	/* triple fault */
	PVHV_EXIT_FAIL_ENTRY,	/* hardware refused the state */
	PVHV_EXIT_APIC_EOI,	/* virtual APIC: it has ended a vector that somebody waits for */
	PVHV_EXIT_APIC_WRITE,	/* virtual APIC: the guest has written a register */
	PVHV_EXIT_APIC_ACCESS,	/* virtual APIC: one of its page that is software's, as a TDP_FAULT */
	PVHV_EXIT_UNKNOWN,	/* exit code in hw_reason */
	PVHV_NR_EXITS
};

struct pvhv_exit {
	u32 kind;
	u64 hw_reason;		/* the hardware's exit code */
	u64 next_rip;		/* 0: hardware did not say, decode */
	u64 hw_info[2];		/* for tracing and internal errors */
	u8 nr_bytes;		/* instruction bytes the hardware fetched, or 0 */
	u8 bytes[15];
	union {
		struct {
			u16 port;
			u8 size;	/* 1, 2, 4 */
			u8 asize;	/* address size of INS/OUTS: 2, 4, 8 */
			u8 seg;		/* segment of OUTS, 0xff: decode */
			bool in;
			bool string;
			bool rep;
		} pio;
		struct {
			u64 gpa;
			u32 error;	/* X86_PF_* */
			u8 want;	/* tdp_fault.c: what the fast path found missing */
		} fault;
		struct {
			u8 vector;
			u32 error;
			u64 dr6;	/* #DB while guest_debug is set: its cause */
		} excp;
		struct {
			u8 nr;		/* register number; 0xff: decode */
			u8 gpr;
			bool write;
		} cr;
		u32 apic;	/* vector, or offset of the register */
	};
};

/* One queued exception; fields as struct kvm_vcpu_events has them. */
struct pvhv_exception {
	bool pending;		/* to be delivered, side effects not yet done */
	bool injected;		/* being delivered: re-inject after an exit */
	bool has_error;
	bool has_payload;
	u8 vector;
	u32 error;
	u64 payload;		/* CR2 of #PF, DR6 bits of #DB */
};

/* The code segment as instruction fetch needs it, without the rest. */
struct pvhv_code {
	u64 base;
	enum pvhv_cpu_mode mode;
	u8 cpl;
};

struct pvhv_stat {
	u64 exits, irq_exits, pio_exits, mmio_exits, io_exits_user, halt_exits;
	u64 cpuid_exits, msr_exits, hypercalls, tdp_faults, tdp_fast_faults;
	u64 irq_injections, nmi_injections, irq_window_exits, nmi_window_exits;
	u64 insn_emulations, insn_emulation_fails, signal_exits, request_exits;
	u64 halt_polls, halt_poll_success, halt_wakeups, host_state_reloads;
	u64 tlb_flushes, preemptions, exceptions_injected, fast_reentries;
};

struct pvhv_vm_stat {
	u64 tdp_pages;		/* second-level table pages */
	u64 pages_4k, pages_2m, pages_1g;
	u64 notifier_zaps, remote_tlb_flushes, dirty_logged;
};

struct pvhv_vcpu {
	/* Hot on every exit; read and written by the vCPU's thread only,
	 * except where a comment says otherwise. */
	u64 gpr[PVHV_NR_GPRS];
	u64 rip;
	u64 rflags;
	struct pvhv_vm *vm;
	const struct pvhv_backend *be;
	struct kvm_run *run;
	unsigned long requests;		/* any thread: pvhv_make_request() */
	int mode;			/* enum pvhv_vcpu_mode; read by kickers */
	int cpu;			/* CPU it is loaded on, -1: none */
	int last_cpu;			/* the one before; -1: never loaded */
	int srcu_idx;
	bool event_check;		/* the vCPU's own REQ_EVENT, not atomic */
	bool pic_in_user;		/* no in-kernel PIC: constant */
	u8 virtual_apic;		/* enum pvhv_virtual_apic; not 0: hardware works on its LAPIC */
	bool ends_at_deadline;		/* enter() comes back at enter_until: constant */
	s16 extint;			/* split irqchip: the PIC's vector, or PVHV_NO_EXTINT */
	bool fpu_loaded;		/* guest FPU is current's */
	bool guest_xcr0_loaded;
	u64 enter_until;		/* guest TSC of its deadline, 0: none; under the timer's lock */
	struct pvhv_exit exit;
	struct pvhv_stat stat;

	/* Control state, shadows of what the guest sees. */
	u64 cr0, cr2, cr3, cr4, efer, xcr0, xss;
	u64 cr8;			/* without an in-kernel LAPIC only */
	u64 apic_base;			/* MSR_IA32_APICBASE */
	u64 dr[4], dr6, dr7;
	u32 guest_debug;		/* KVM_GUESTDBG_*, 0: no debugger; see debug.c */
	u64 debug_dr[4], debug_dr7, step_from;
	u32 pkru, host_pkru;
	u64 tsc_aux;
	bool nmi_masked;		/* an NMI handler runs (until IRET) */
	bool nmi_injected;		/* being delivered */
	unsigned int nmi_pending;
	atomic_t nmi_queued;		/* any thread */
	struct pvhv_exception excp;
	struct {
		bool injected, soft;
		u8 vector;
	} irq;
	u32 mp_state;			/* KVM_MP_STATE_* */
	bool pv_unhalted;		/* KVM_HC_KICK_CPU arrived */

	/* Identity */
	u32 id;				/* KVM_CREATE_VCPU's argument, the APIC ID */
	u32 idx;			/* index in vm->vcpus */
	bool is_bsp;
	struct mutex mutex;
	struct preempt_notifier preempt_notifier;
	struct rcuwait wait;		/* a halted vCPU sleeps here */
	struct pid __rcu *pid;		/* thread of the last KVM_RUN */
	sigset_t sigset;
	bool sigset_active;
	void *pio_data;			/* second mmap page */

	/* FPU, through the kernel's guest FPU API */
	struct fpu_guest fpu;

	/* Completion of an exit to userspace: called by the next KVM_RUN. */
	int (*complete)(struct pvhv_vcpu *vcpu);
	struct {			/* PIO in flight, pio.c */
		u16 port;
		u8 size;
		bool in, string, rep;
		u32 count;
		u64 linear;
		u8 asize;
		u64 rip, next_rip;
	} pio;
	struct {			/* MSR access in userspace's hands, msr_exit.c */
		u64 rip, next_rip;
	} user_msr;
	struct pvhv_mmio *mmio;		/* instruction in flight, mmio.c */
	struct pvhv_fetch *fetch;	/* what fetch.c remembers */

	/* cpuid.c: what KVM_SET_CPUID2 gave, and what follows from it. */
	struct kvm_cpuid_entry2 *cpuid;
	unsigned int nr_cpuid;
	struct pvhv_cpuid_map *cpuid_map;
	bool guest_is_amd;		/* by the vendor string it was given */
	u64 spec_ctrl_allowed, pred_cmd_allowed;
	u64 cr4_reserved;		/* bits the guest may not set */
	u64 efer_allowed;		/* bits the guest may set */
	u64 guest_xcr0;			/* XCR0 bits the guest may set */
	u64 guest_xss;
	u8 maxphyaddr;
	u32 pv_features;		/* KVM_CPUID_FEATURES eax */
	bool pv_leaf;			/* the guest sees the KVM leaf */
	bool pv_enforce;		/* KVM_CAP_ENFORCE_PV_FEATURE_CPUID */
	bool guest_has_xsave, guest_has_rdtscp, guest_has_x2apic, guest_has_gbpages;

	/* msr.c */
	u64 pat, misc_enable, spec_ctrl, mtrr_def_type;
	u64 mtrr_fixed[11], mtrr_var[16];
	u64 mcg_cap, mcg_status, mcg_ctl, *mce_banks;
	u64 msr_platform_info, microcode_version;
	u64 msr_misc_features;		/* bit 0: CPUID faults outside ring 0 */
	u64 virt_spec_ctrl, arch_capabilities, hwcr, de_cfg;
	u64 osvw_length, osvw_status;

	/* clock.c: TSC and the KVM paravirtual clock */
	u64 tsc_offset;			/* guest TSC = host TSC * tsc_ratio + offset */
	u64 tsc_ratio;			/* in 2^-PVHV_TSC_RATIO_SHIFT; 0: not scaled */
	s64 tsc_adjust;
	u32 tsc_khz;			/* guest's */
	struct {
		u64 system_time_msr;	/* as written; bit 0 enables */
		u64 steal_msr;
		u64 pv_eoi_msr;
		u64 async_pf_msr, async_pf_int_msr;
		u64 poll_msr;
		u32 clock_version;
		u64 last_steal;		/* run_delay seen last */
		u64 left_tsc;		/* guest TSC at sched-out, unstable hosts */
		u64 clock_ns;		/* when the page was written, unstable hosts */
		bool preempted;		/* the guest was told so, not yet untold */
		bool clock_stopped_by_host;	/* KVM_KVMCLOCK_CTRL */
	} pv;

	/* Halt polling, run.c */
	unsigned int halt_poll_ns;

	/* irqchip */
	struct pvhv_lapic *lapic;	/* NULL: irqchip in userspace */
	struct pvhv_posted *posted;	/* lapic_virtual.c; NULL: nothing comes that way. Constant */

	struct dentry *debugfs;
	void *backend_data;		/* struct svm_vcpu, struct vmx_vcpu */
};

#define PVHV_MN_RANGES	16

struct pvhv_hva_range {
	unsigned long start, end;
};

struct pvhv_vm {
	struct mm_struct *mm;
	const struct pvhv_backend *be;
	refcount_t users;		/* fds: VM, vCPUs, stats */
	struct list_head link;		/* pvhv_vms, under pvhv_vms_lock */
	bool dead;
	char dead_reason[80];		/* pvhv_kill_vm()'s words, for the log */

	struct mutex lock;
	struct mutex slots_lock;
	struct mutex irq_lock;
	struct srcu_struct srcu;

	struct pvhv_vcpu *vcpus[PVHV_MAX_VCPUS]; /* published with release */
	unsigned int nr_vcpus;		/* acquire/release */
	u32 bsp_id;
	u32 max_vcpu_id;		/* KVM_CAP_MAX_VCPU_ID, once; 0: not set */

	/* memslot.c, tdp.c, dirty.c, notifier.c */
	struct pvhv_memslots __rcu *memslots;
	rwlock_t mmu_lock;
	u64 *tdp_root;			/* kernel address of the top table */
	u64 tdp_root_pa;		/* with the host's encryption bit, if any */
	u8 tdp_levels;
	u64 tdp_zap_gen;		/* mmu_lock write: changes that owe a flush */
	atomic64_t tdp_flushed_gen;	/* newest of them that is flushed */
	struct mmu_notifier mmu_notifier;
	spinlock_t mn_lock;		/* writers of mn_*; inside mmu_lock */
	unsigned int mn_active;		/* host invalidations in progress */
	unsigned int mn_extra;		/* those that mn_range had no room for */
	struct pvhv_hva_range mn_range[PVHV_MN_RANGES]; /* end 0: unused */
	struct pvhv_hva_range mn_hull;	/* of mn_extra */
	struct pvhv_memslot *leaving;	/* mmu_lock: out of memslots, still mapped */
	u32 manual_dirty;		/* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 flags */
	bool dirty_logged;		/* once true, slots may have logs */
	unsigned int apic_page_inhibits; /* mmu_lock write: apic_page.c */
	struct pvhv_vm_stat stat;

	/* doorbell.c */
	struct pvhv_doorbells __rcu *doorbells;	/* slots_lock / srcu */

	/* iobus.c, eventfd.c */
	struct pvhv_io_bus __rcu *buses[2];	/* PVHV_BUS_PIO, PVHV_BUS_MMIO */
	struct list_head ioeventfds;	/* slots_lock */
	struct page *coalesced_page;
	raw_spinlock_t coalesced_lock;
	struct list_head coalesced_zones;	/* slots_lock */

	/* irqchip */
	bool irqchip_in_kernel;		/* set once with release, vm->lock */
	bool irqchip_split;		/* LAPICs only; set before it */
	struct pvhv_ioapic *ioapic;
	struct pvhv_pic *pic;
	struct pvhv_pit *pit;
	struct pvhv_irq_table __rcu *irq_table;	/* irq_lock / srcu */
	struct list_head irqfds;		/* irqfd_lock */
	struct list_head resamplers;		/* irq_lock / srcu */
	spinlock_t irqfd_lock;
	struct list_head irq_ack_notifiers;	/* irq_lock / srcu */
	struct pvhv_apic_map *apic_map;	/* lapic_ipi.c; has its own raw lock */
	bool pic_output;		/* the PIC asserts INTR; pic->lock */

	/* clock.c */
	raw_spinlock_t clock_lock;
	s64 kvmclock_offset;		/* kvmclock = boottime + offset, ns */
	u64 clock_master_tsc, clock_master_ns;	/* one base for all vCPUs */
	u64 clock_tsc_offset;		/* of all vCPUs, while clock_stable */
	bool clock_stable;
	bool tsc_user_set;		/* userspace has written a TSC */
	u64 wall_clock_msr;
	u32 default_tsc_khz;
	u64 tsc_sync_ratio;
	u64 tsc_sync_offset;		/* last TSC write: vCPUs written alike agree */
	u64 tsc_sync_ns, tsc_sync_value;

	u64 bus_lock_detection;
	u32 exception_payload:1;	/* KVM_CAP_EXCEPTION_PAYLOAD */
	u32 triple_fault_event:1;
	u32 x2apic_api:2;
	unsigned int max_halt_poll_ns;
	u64 disabled_quirks;		/* KVM_X86_QUIRK_* */
	u32 disabled_exits;		/* KVM_X86_DISABLE_EXITS_*, vm->lock; of vCPUs to come */
	u32 apic_bus_cycle_ns;
	bool hide_platform_info;	/* KVM_CAP_MSR_PLATFORM_INFO is off */
	bool exit_on_emulation_failure;	/* in user mode too */
	struct pvhv_msr_filter __rcu *msr_filter;	/* vm->lock / srcu; NULL: all allowed */
	u32 user_msr_reasons;		/* KVM_CAP_X86_USER_SPACE_MSR: KVM_MSR_EXIT_REASON_* */

	struct dentry *debugfs;
	char stats_id[48];
	void *backend_data;
};

/*
 * What comes for a vCPU that runs, as hardware takes it without an exit: SDM
 * table 30-1 ("posted-interrupt descriptor").
 */
struct pvhv_posted {
	unsigned long requests[256 / BITS_PER_LONG];
	unsigned long control;		/* PVHV_POSTED_*; the rest of it is for devices */
	u64 reserved[3];
} __aligned(64);
#define PVHV_POSTED_ON		0	/* bit: there may be requests */

enum pvhv_virtual_apic { PVHV_NOT_VIRTUAL, PVHV_VIRTUAL_XAPIC, PVHV_VIRTUAL_X2APIC };

/* Hardware that works on a LAPIC while its guest runs; lapic_virtual.c is the other side. */
struct pvhv_apic_ops {
	/* Where it wants the registers, of PAGE_SIZE; NULL: this host has no such hardware. */
	void *(*page)(struct pvhv_vcpu *vcpu);
	/* What stands for them in guest memory, for xAPIC mode; NULL: that is software's. */
	struct page *(*access_page)(void);
	void (*switch_to)(struct pvhv_vcpu *vcpu, enum pvhv_virtual_apic how);
	/* Accesses of the access page are accesses of registers, or, while it is not mapped, do not occur. */
	void (*show_page)(struct pvhv_vcpu *vcpu, bool show);
	/* The highest vector that is requested, and above that, shifted by 8, in service. */
	u16 (*get_status)(struct pvhv_vcpu *vcpu);
	void (*set_status)(struct pvhv_vcpu *vcpu, u16 status);
	/* Vectors whose end is PVHV_EXIT_APIC_EOI. */
	void (*set_eoi_exits)(struct pvhv_vcpu *vcpu, const unsigned long *vectors);
	/* NULL: it takes none while the guest runs. */
	struct pvhv_posted *(*posted)(struct pvhv_vcpu *vcpu);
	/* Makes it look there; also if that vCPU has left its CPU meanwhile. irqs may be off. */
	void (*notify)(const struct pvhv_vcpu *vcpu);
};

/*
 * A backend: everything that differs between AMD-V, VT-x and ring-3 guests.
 * All functions are mandatory. "vcpu loaded" means between load and put, on
 * vcpu->cpu with preemption off.
 */
struct pvhv_backend {
	const char *name;
	u8 hypercall[3];	/* the instruction: VMCALL or VMMCALL */
	const struct pvhv_tdp_format *tdp;
	const struct pvhv_apic_ops *apic;	/* NULL: none */

	/* Module life: is the hardware there (-ENODEV: no; logs why). */
	int (*probe)(void);
	void (*remove)(void);
	bool (*scales_tsc)(void);	/* NULL: no */
	/* On each host CPU, irqs off: virtualization on and off. */
	int (*cpu_enable)(void);
	void (*cpu_disable)(void);

	int (*vm_init)(struct pvhv_vm *vm);
	void (*vm_destroy)(struct pvhv_vm *vm);
	int (*vcpu_init)(struct pvhv_vcpu *vcpu);
	void (*vcpu_destroy)(struct pvhv_vcpu *vcpu);
	/* Architectural reset (init: by INIT) of what the backend holds. */
	void (*vcpu_reset)(struct pvhv_vcpu *vcpu, bool init);

	/* Onto and off the current CPU, preemption off. */
	void (*load)(struct pvhv_vcpu *vcpu, int cpu);
	void (*put)(struct pvhv_vcpu *vcpu);
	/* Run the guest until one exit; irqs off; fills vcpu->exit. */
	void (*enter)(struct pvhv_vcpu *vcpu);
	/* The host's interrupt that ended it, if that is not pending any more; irqs off. NULL: it always is. */
	void (*take_interrupt)(struct pvhv_vcpu *vcpu);

	/* Segments and descriptor tables, in KVM's form. */
	void (*get_segment)(struct pvhv_vcpu *vcpu, struct kvm_segment *s, int seg);
	void (*set_segment)(struct pvhv_vcpu *vcpu, const struct kvm_segment *s, int seg);
	void (*get_code)(struct pvhv_vcpu *vcpu, struct pvhv_code *code);
	void (*get_dtables)(struct pvhv_vcpu *vcpu, struct kvm_dtable *gdt,
			    struct kvm_dtable *idt);
	void (*set_dtables)(struct pvhv_vcpu *vcpu, const struct kvm_dtable *gdt,
			    const struct kvm_dtable *idt);
	/* vcpu->cr0, cr3, cr4, efer, xcr0, dr7, tsc_offset, cpuid or the
	 * pending-TPR state changed: bring the hardware's copy and the
	 * intercepts in line. what: PVHV_SYNC_* bits. */
	void (*sync)(struct pvhv_vcpu *vcpu, u32 what);
	/* MSRs that live in the backend; -ENOENT: not one of them. */
	int (*get_msr)(struct pvhv_vcpu *vcpu, u32 index, u64 *value);
	int (*set_msr)(struct pvhv_vcpu *vcpu, u32 index, u64 value);

	/* Events. inject_* arm the delivery at the next entry. */
	void (*inject_exception)(struct pvhv_vcpu *vcpu);
	void (*inject_irq)(struct pvhv_vcpu *vcpu);
	void (*inject_nmi)(struct pvhv_vcpu *vcpu);
	void (*set_nmi_masked)(struct pvhv_vcpu *vcpu, bool masked);
	bool (*irq_allowed)(struct pvhv_vcpu *vcpu);
	bool (*nmi_allowed)(struct pvhv_vcpu *vcpu);
	void (*request_irq_window)(struct pvhv_vcpu *vcpu);
	void (*request_nmi_window)(struct pvhv_vcpu *vcpu);
	/* KVM_X86_SHADOW_INT_* of the current instruction boundary. */
	u32 (*get_int_shadow)(struct pvhv_vcpu *vcpu);
	void (*set_int_shadow)(struct pvhv_vcpu *vcpu, u32 mask);
	/* Second-level TLB of this vCPU is stale: flush at the next entry. */
	void (*flush_tlb)(struct pvhv_vcpu *vcpu);
};

#define PVHV_SYNC_CR0	BIT(0)
#define PVHV_SYNC_CR3	BIT(1)
#define PVHV_SYNC_CR4	BIT(2)
#define PVHV_SYNC_EFER	BIT(3)
#define PVHV_SYNC_DR	BIT(4)
#define PVHV_SYNC_TSC	BIT(5)
#define PVHV_SYNC_CPUID	BIT(6)
#define PVHV_SYNC_TPR	BIT(7)	/* writes of CR8 that must be seen: pvhv_lapic_tpr_blocks() */
#define PVHV_SYNC_PAT	BIT(8)
#define PVHV_SYNC_ALL	(BIT(9) - 1)
#define PVHV_SYNC_MSRS	BIT(9)	/* pvhv_msr_allowed() says something else; under srcu */

/* ioctls are table rows; pvhv_ioctl() takes the locks and copies the data. */
enum {
	PVHV_IOC_LOCK	= BIT(0),	/* hold vm->lock (VM tables only) */
	PVHV_IOC_RAW	= BIT(1),	/* fn copies by itself from arg */
	PVHV_IOC_IRQCHIP = BIT(2),	/* -ENXIO without an in-kernel irqchip */
};

struct pvhv_ioctl {
	unsigned int cmd;
	unsigned int flags;
	/* data: kernel copy of _IOC_SIZE(cmd) bytes, copied in for _IOC_WRITE
	 * and out for _IOC_READ when fn returns >= 0; NULL for RAW rows. */
	long (*fn)(void *obj, void *data, unsigned long arg);
};

extern const struct pvhv_backend *pvhv_be;	/* the one that probe() chose */

static inline bool pvhv_is_long_mode(const struct pvhv_vcpu *vcpu)
{
	return vcpu->efer & EFER_LMA;
}

static inline void pvhv_set_request(struct pvhv_vcpu *vcpu, enum pvhv_req req)
{
	/* Pairs with the test in the run loop: data first, then the bit. */
	smp_wmb();
	set_bit(req, &vcpu->requests);
}

static inline bool pvhv_test_and_clear_request(struct pvhv_vcpu *vcpu, enum pvhv_req req)
{
	if (!test_bit(req, &vcpu->requests))
		return false;
	clear_bit(req, &vcpu->requests);
	smp_mb__after_atomic();
	return true;
}

static inline struct pvhv_vcpu *pvhv_vcpu_at(struct pvhv_vm *vm, unsigned int idx)
{
	return vm->vcpus[idx];
}

#define pvhv_for_each_vcpu(i, vcpu, vm)					\
	for (i = 0; i < smp_load_acquire(&(vm)->nr_vcpus) &&		\
	     ((vcpu) = (vm)->vcpus[i]); i++)

/* main.c: */
DECLARE_PER_CPU(bool, pvhv_virt_on);	/* this CPU can enter guests */
int pvhv_hardware_get(void);	/* first VM: virtualization on, on all CPUs */
void pvhv_hardware_put(void);
extern struct list_head pvhv_vms;
extern struct mutex pvhv_vms_lock;

/* chardev.c: */
long pvhv_ioctl(const struct pvhv_ioctl *rows, unsigned int nr, void *obj,
		struct pvhv_vm *vm, unsigned int cmd, unsigned long arg);
int pvhv_chardev_init(void);
void pvhv_chardev_exit(void);

/* vm.c: */
int pvhv_vm_create(unsigned long type);	/* a new VM's fd or -errno */
void pvhv_vm_get(struct pvhv_vm *vm);
void pvhv_vm_put(struct pvhv_vm *vm);
/* A guest's or a VMM's nonsense ends that VM: KVM_RUN gives -EIO from now on. */
__printf(2, 3) void pvhv_kill_vm(struct pvhv_vm *vm, const char *fmt, ...);

/* cap.c: */
int pvhv_check_extension(struct pvhv_vm *vm, long cap);	/* vm NULL: system */
long pvhv_ioctl_enable_cap(void *vm, void *data, unsigned long arg);	/* LOCK */

/* vcpu.c, vcpu_state.c, cr.c: */
int pvhv_vcpu_create(struct pvhv_vm *vm, u32 id);	/* vm->lock held */
void pvhv_vcpu_free(struct pvhv_vcpu *vcpu);
void pvhv_vcpu_load(struct pvhv_vcpu *vcpu);
void pvhv_vcpu_put(struct pvhv_vcpu *vcpu);
void pvhv_vcpu_reset(struct pvhv_vcpu *vcpu, bool init);
struct pvhv_vcpu *pvhv_vcpu_by_id(struct pvhv_vm *vm, u32 id);
/* Wake it if it sleeps, make it exit if it is in the guest. Any context. */
void pvhv_vcpu_kick(struct pvhv_vcpu *vcpu);
void pvhv_request_of_own(struct pvhv_vcpu *vcpu, enum pvhv_req req);	/* its own thread */
void pvhv_vcpu_wake(struct pvhv_vcpu *vcpu);
static inline void pvhv_make_request(struct pvhv_vcpu *vcpu, enum pvhv_req req)
{
	pvhv_set_request(vcpu, req);
	pvhv_vcpu_kick(vcpu);
}
/* This vCPU's own thread, before an entry. */
static inline void pvhv_flush_tlb(struct pvhv_vcpu *vcpu)
{
	vcpu->stat.tlb_flushes++;
	vcpu->be->flush_tlb(vcpu);
}

/* Request on every vCPU; wait: until none runs guest code entered before. */
void pvhv_make_all_request(struct pvhv_vm *vm, enum pvhv_req req, bool wait);
/* After replacing an SRCU-protected pointer: readers of the old one are done. */
void pvhv_srcu_sync(struct pvhv_vm *vm);
/* Guest-visible loads of control registers: 0, or 1: the caller injects #GP. */
int pvhv_set_cr0(struct pvhv_vcpu *vcpu, u64 value);
int pvhv_set_cr3(struct pvhv_vcpu *vcpu, u64 value);
int pvhv_set_cr4(struct pvhv_vcpu *vcpu, u64 value);
int pvhv_set_cr8(struct pvhv_vcpu *vcpu, u64 value);
int pvhv_set_efer(struct pvhv_vcpu *vcpu, u64 value, bool host);
int pvhv_set_xcr(struct pvhv_vcpu *vcpu, u32 index, u64 value);
u64 pvhv_fix_dr6(u64 value);	/* reserved bits as hardware forces them */
u64 pvhv_fix_dr7(u64 value);

/* vcpu_state.c: those that sync_regs.c needs too; under srcu */
long pvhv_ioctl_get_regs(void *vcpu, void *data, unsigned long arg);
long pvhv_ioctl_set_regs(void *vcpu, void *data, unsigned long arg);
long pvhv_ioctl_get_sregs(void *vcpu, void *data, unsigned long arg);
long pvhv_ioctl_set_sregs(void *vcpu, void *data, unsigned long arg);
long pvhv_ioctl_get_vcpu_events(void *vcpu, void *data, unsigned long arg);
long pvhv_ioctl_set_vcpu_events(void *vcpu, void *data, unsigned long arg);

/* sync_regs.c: KVM_RUN's begin (0 or -EINVAL) and end */
int pvhv_sync_regs_in(struct pvhv_vcpu *vcpu);
void pvhv_sync_regs_out(struct pvhv_vcpu *vcpu);

unsigned int pvhv_xsave_size(void);	/* bytes of KVM_GET_XSAVE2 */
u32 pvhv_mxcsr_mask(void);
extern const struct pvhv_ioctl pvhv_vcpu_state_ioctls[];
extern const unsigned int pvhv_nr_vcpu_state_ioctls;

/* run.c: */
void pvhv_run_init(void);
int pvhv_vcpu_run(struct pvhv_vcpu *vcpu);	/* KVM_RUN: 0 or -errno */
bool pvhv_vcpu_runnable(struct pvhv_vcpu *vcpu);

/* exit.c: */
int pvhv_handle_exit(struct pvhv_vcpu *vcpu);		/* irqs on */
int pvhv_handle_exit_fast(struct pvhv_vcpu *vcpu);	/* irqs off */
int pvhv_internal_error(struct pvhv_vcpu *vcpu, u32 suberror);

/* event.c: exceptions, interrupts and NMIs on their way into the guest */
void pvhv_queue_exception(struct pvhv_vcpu *vcpu, u8 vector);
void pvhv_queue_exception_e(struct pvhv_vcpu *vcpu, u8 vector, u32 error);
void pvhv_queue_pf(struct pvhv_vcpu *vcpu, u64 cr2, u32 error);
void pvhv_queue_db(struct pvhv_vcpu *vcpu, u64 dr6_bits);
static inline void pvhv_queue_gp(struct pvhv_vcpu *vcpu)
{
	pvhv_queue_exception_e(vcpu, 13, 0);
}
static inline void pvhv_queue_ud(struct pvhv_vcpu *vcpu)
{
	pvhv_queue_exception(vcpu, 6);
}
void pvhv_queue_nmi(struct pvhv_vcpu *vcpu);	/* any thread */
/* After an entry: what went in is delivered, but for what is put back. */
static inline void pvhv_events_entered(struct pvhv_vcpu *vcpu)
{
	vcpu->excp.injected = false;
	vcpu->irq.injected = false;
	vcpu->nmi_injected = false;
}
void pvhv_requeue_exception(struct pvhv_vcpu *vcpu, u8 vector, bool has_error, u32 error);
void pvhv_requeue_irq(struct pvhv_vcpu *vcpu, u8 vector);
void pvhv_requeue_nmi(struct pvhv_vcpu *vcpu);
void pvhv_deliver_payload(struct pvhv_vcpu *vcpu);
void pvhv_inject_events(struct pvhv_vcpu *vcpu); /* irqs off, before entry */
bool pvhv_events_pending(struct pvhv_vcpu *vcpu);

/* debug.c: the VMM's debugger; all but the first by the vCPU's thread */
long pvhv_ioctl_set_guest_debug(void *vcpu, void *data, unsigned long arg);
int pvhv_debug_exception(struct pvhv_vcpu *vcpu, u8 vector);	/* PVHV_TO_USER, PVHV_SLOW: not its */
int pvhv_debug_step(struct pvhv_vcpu *vcpu);			/* PVHV_TO_USER */
int pvhv_handle_dr(struct pvhv_vcpu *vcpu);
u64 pvhv_debug_hide_step(const struct pvhv_vcpu *vcpu, u64 rflags);
void pvhv_debug_rflags_set(struct pvhv_vcpu *vcpu);
/* DR0-3 into the CPU, the guest's or its debugger's; the guest's out of it. */
void pvhv_load_debug_addresses(struct pvhv_vcpu *vcpu);
void pvhv_save_debug_addresses(struct pvhv_vcpu *vcpu);
#define PVHV_DR7_ENABLES	0xff	/* L0, G0 .. L3, G3 */

/* insn.c: guest linear addresses */
enum pvhv_cpu_mode pvhv_cpu_mode(struct pvhv_vcpu *vcpu);
int pvhv_cpl(struct pvhv_vcpu *vcpu);
/* Linear to guest-physical as an access of the guest (PVHV_WALK_*): 0; 1: a
 * fault is queued, or the tables changed, resume; -EFAULT: tables outside of
 * memory. */
int pvhv_translate(struct pvhv_vcpu *vcpu, u64 linear, u32 access, u64 *gpa);
bool pvhv_translate_peek(struct pvhv_vcpu *vcpu, u64 linear, u64 *gpa, bool *writable);
void pvhv_walk_env_init(struct pvhv_vcpu *vcpu, u8 cpl, struct pvhv_walk_env *env);
/* Copies over linear addresses; results as of pvhv_translate(). */
int pvhv_read_linear(struct pvhv_vcpu *vcpu, u64 linear, void *buf,
		     unsigned int len);
int pvhv_write_linear(struct pvhv_vcpu *vcpu, u64 linear, const void *buf,
		      unsigned int len);

/* fetch.c: the exiting instruction */
int pvhv_fetch_init(struct pvhv_vcpu *vcpu);
void pvhv_fetch_free(struct pvhv_vcpu *vcpu);
/* enum pvhv_decode_result; the bytes are left in vcpu->exit. */
int pvhv_decode_exit(struct pvhv_vcpu *vcpu, struct pvhv_insn *insn, bool atomic);
void pvhv_finish_insn(struct pvhv_vcpu *vcpu, u64 next_rip);
/* The RIP after the exiting instruction: hardware's word, else by decoding;
 * 0: the guest changed it, resume. irqs on. */
u64 pvhv_next_rip(struct pvhv_vcpu *vcpu);
/* Moves RIP past the exiting instruction of this kind. atomic: irqs are off,
 * may return PVHV_SLOW; 0: done; 1: an exception was queued instead. */
int pvhv_skip_insn(struct pvhv_vcpu *vcpu, bool atomic);

/* pio.c: */
int pvhv_handle_pio(struct pvhv_vcpu *vcpu);
int pvhv_handle_pio_fast(struct pvhv_vcpu *vcpu);

/* mmio.c: */
int pvhv_mmio_init(struct pvhv_vcpu *vcpu);
void pvhv_mmio_free(struct pvhv_vcpu *vcpu);
int pvhv_handle_mmio(struct pvhv_vcpu *vcpu, u64 gpa);
int pvhv_handle_mmio_fast(struct pvhv_vcpu *vcpu);	/* irqs off; PVHV_SLOW: nothing was done */

/* ------------------------------------------------------------------ mm --
 * memslot.c: guest memory as the VMM gave it
 */
struct pvhv_memslot {
	u64 base_gfn;
	u64 npages;
	unsigned long hva;		/* page aligned */
	u32 flags;			/* KVM_MEM_* */
	u16 id;				/* address space 0 is the only one */
	unsigned long *dirty_bitmap;	/* npages bits, NULL: not logged */
};

/* One immutable set of slots; vm->memslots points to the current one. */
struct pvhv_memslots {
	u64 generation;			/* changes with every update */
	unsigned int nr;
	unsigned int hint;		/* racy: index of the last hit */
	struct pvhv_memslot *slot[];	/* nr of them, sorted by base_gfn */
};

static inline u64 pvhv_memslots_generation(struct pvhv_vm *vm)
{
	return srcu_dereference(vm->memslots, &vm->srcu)->generation;
}

int pvhv_memslots_init(struct pvhv_vm *vm);
void pvhv_memslots_destroy(struct pvhv_vm *vm);
long pvhv_ioctl_set_memory_region(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_set_memory_region2(void *vm, void *data, unsigned long arg);
/* Under vm->srcu (or slots_lock), as are the slots that come out of it. */
struct pvhv_memslots *pvhv_memslots(struct pvhv_vm *vm);
/* NULL: no memory there. */
struct pvhv_memslot *pvhv_gfn_to_memslot(struct pvhv_vm *vm, u64 gfn);
struct pvhv_memslot *pvhv_id_to_memslot(struct pvhv_vm *vm, u32 id);
/* gfn is the guest's choice: no address beyond the slot, not even speculatively. */
static inline unsigned long pvhv_slot_hva(const struct pvhv_memslot *slot, u64 gfn)
{
	u64 index = array_index_nospec(gfn - slot->base_gfn, slot->npages);

	return slot->hva + (index << PAGE_SHIFT);
}

/*
 * guestmem.c: guest-physical copies, any length, current->mm == vm->mm, under
 * vm->srcu. 0, -EFAULT (no slot, read-only slot, bad hva). Writes mark dirty.
 */
int __must_check pvhv_read_guest(struct pvhv_vm *vm, u64 gpa, void *buf, unsigned long len);
int __must_check pvhv_write_guest(struct pvhv_vm *vm, u64 gpa, const void *buf, unsigned long len);
/* The same without sleeping (page faults off), within one page. */
int __must_check pvhv_read_guest_atomic(struct pvhv_vm *vm, u64 gpa, void *buf, unsigned int len);
int __must_check pvhv_write_guest_atomic(struct pvhv_vm *vm, u64 gpa, const void *buf,
					 unsigned int len);
/* For fields written by user access, pvhv_mark_dirty() after it. NULL: no such memory. */
void __user *pvhv_guest_record(struct pvhv_vm *vm, u64 gpa, struct pvhv_memslot **slot);
/* Compare-exchange of 1, 2, 4 or 8 naturally aligned bytes in guest memory:
 * 0 done, 1 the value differed (*old updated), -EFAULT. */
int __must_check pvhv_cmpxchg_guest(struct pvhv_vm *vm, u64 gpa, u64 *old, u64 new,
				    unsigned int len);

/* dirty.c: */
long pvhv_ioctl_get_dirty_log(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_clear_dirty_log(void *vm, void *data, unsigned long arg);
void pvhv_mark_dirty(struct pvhv_vm *vm, struct pvhv_memslot *slot, u64 gfn);
/* What hardware noted, before the exit ends; it need not be logged memory. Under srcu. */
void pvhv_log_written(struct pvhv_vm *vm, u64 gpa);
static inline bool pvhv_slot_logs_dirty(const struct pvhv_memslot *slot)
{
	return slot->dirty_bitmap;
}

/* tdp.c: second-level page tables; their bit layout is the backend's data.
 * An entry that is not present is 0. */
struct pvhv_tdp_format {
	u64 present;		/* bits of every present entry, table or leaf */
	u64 executable;		/* of these, what a leaf may be without */
	u64 writable, accessed, dirty;
	u64 large;		/* leaf at a level above 4 KiB */
	u64 memtype_wb;		/* in leaves: write-back memory type */
	u64 sw_host_writable;	/* software bit: the host mapping is writable too */
	bool has_ad;		/* hardware sets accessed and dirty */
	bool logs_dirty;	/* and notes where it set dirty: pvhv_log_written() */
	bool no_1g;		/* no leaves of 1 GiB */
};
int pvhv_tdp_init(struct pvhv_vm *vm, unsigned int levels);
void pvhv_tdp_destroy(struct pvhv_vm *vm);
void pvhv_flush_remote_tlbs(struct pvhv_vm *vm);	/* all vCPUs, waits */

/*
 * tdp_fault.c: second-level faults, vcpu->exit.fault says where. Under srcu.
 * First with interrupts off: PVHV_RESUME: mapped, or PVHV_SLOW: then with
 * interrupts on: PVHV_RESUME: mapped, or try again. PVHV_SLOW: no memory there
 * or a write to a read-only slot: emulate as MMIO. -errno: KVM_RUN's result.
 */
int pvhv_tdp_fault_fast(struct pvhv_vcpu *vcpu);
int pvhv_tdp_fault(struct pvhv_vcpu *vcpu);
long pvhv_ioctl_pre_fault(void *vcpu, void *data, unsigned long arg);	/* RAW */

/* apic_page.c: where guest memory has xAPIC registers that hardware works on */
#define PVHV_APIC_GFN	(APIC_DEFAULT_PHYS_BASE >> PAGE_SHIFT)
/* A vCPU of this VM does not take it for that, or does; not in an atomic context. */
void pvhv_apic_page_inhibit(struct pvhv_vm *vm);
void pvhv_apic_page_allow(struct pvhv_vm *vm);
void pvhv_apic_page_cover(struct pvhv_vm *vm, const struct pvhv_memslot *slot);	/* published now */
/* The slot that it is like, NULL: it is not there now. */
struct pvhv_memslot *pvhv_apic_page_slot(struct pvhv_vcpu *vcpu, u64 gfn);
bool pvhv_apic_page_is(const struct pvhv_memslot *slot);

/* notifier.c: */
int pvhv_notifier_init(struct pvhv_vm *vm);
void pvhv_notifier_destroy(struct pvhv_vm *vm);

/* ------------------------------------------------------------- irqchip --
 * iobus.c: in-kernel devices by address; coalesced MMIO
 */
enum pvhv_bus { PVHV_BUS_PIO, PVHV_BUS_MMIO };

struct pvhv_io_dev {
	/* 0: handled, -EOPNOTSUPP: not mine, next. May be called with irqs
	 * off when atomic is true: then it must not sleep. */
	int (*read)(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 addr,
		    unsigned int len, void *val);
	int (*write)(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 addr,
		     unsigned int len, const void *val);
	void (*destroy)(struct pvhv_io_dev *dev);	/* frees; NULL: embedded */
	bool atomic;
	bool uncounted;		/* ioeventfds: not among the bus's 1000 devices */
};

int pvhv_iobus_init(struct pvhv_vm *vm);
void pvhv_iobus_destroy(struct pvhv_vm *vm);	/* destroys the devices */
/* slots_lock held; ranges may overlap (ioeventfds with unlike datamatch). */
int pvhv_iobus_register(struct pvhv_vm *vm, enum pvhv_bus bus, u64 addr,
			unsigned int len, struct pvhv_io_dev *dev);
int pvhv_iobus_unregister(struct pvhv_vm *vm, enum pvhv_bus bus,
			  struct pvhv_io_dev *dev);	/* syncs srcu */
/* Under vm->srcu. 0 handled, -EOPNOTSUPP nobody's, -EAGAIN (atomic only) a
 * device there must be called with irqs on. len 0 with ioeventfd "any". */
int pvhv_iobus_write(struct pvhv_vcpu *vcpu, enum pvhv_bus bus, u64 addr,
		     unsigned int len, const void *val, bool atomic);
int pvhv_iobus_read(struct pvhv_vcpu *vcpu, enum pvhv_bus bus, u64 addr,
		    unsigned int len, void *val, bool atomic);
bool pvhv_iobus_atomic(struct pvhv_vcpu *vcpu, enum pvhv_bus bus, u64 addr);

/* coalesced.c: */
long pvhv_ioctl_register_coalesced(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_unregister_coalesced(void *vm, void *data, unsigned long arg);
int pvhv_coalesced_init(struct pvhv_vm *vm);
void pvhv_coalesced_destroy(struct pvhv_vm *vm);

/* eventfd.c: */
long pvhv_ioctl_irqfd(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_ioeventfd(void *vm, void *data, unsigned long arg);
void pvhv_eventfd_init(struct pvhv_vm *vm);
void pvhv_eventfd_release(struct pvhv_vm *vm);	/* VM fd closed: all irqfds go */
int pvhv_eventfd_module_init(void);
void pvhv_eventfd_module_exit(void);

/* irq.c: GSI routing, MSI, the irqchip ioctls, vector selection */
void pvhv_irqchip_destroy(struct pvhv_vm *vm);	/* before the vCPUs go */
long pvhv_ioctl_create_irqchip(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_get_irqchip(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_set_irqchip(void *vm, void *data, unsigned long arg);	/* RAW: numbered as a read */
long pvhv_ioctl_irq_line(void *vm, void *data, unsigned long arg);	/* and _STATUS */
long pvhv_ioctl_signal_msi(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_set_gsi_routing(void *vm, void *data, unsigned long arg);	/* RAW */
int pvhv_irq_routing_default(struct pvhv_vm *vm);
void pvhv_irq_routing_destroy(struct pvhv_vm *vm);
/* Told that a GSI's interrupt was acknowledged (EOI); under srcu, irqs may be
 * off, no irqchip lock held. Added and removed under irq_lock. */
struct pvhv_ack_notifier {
	struct list_head link;
	u32 gsi;
	void (*acked)(struct pvhv_vm *vm, struct pvhv_ack_notifier *notifier);
};
void pvhv_ack_notifier_add(struct pvhv_vm *vm, struct pvhv_ack_notifier *notifier);
void pvhv_ack_notifier_del(struct pvhv_vm *vm, struct pvhv_ack_notifier *notifier);
void pvhv_irq_acked(struct pvhv_vm *vm, unsigned int chip, unsigned int pin);
bool pvhv_irq_has_notifier(struct pvhv_vm *vm, unsigned int chip, unsigned int pin);
/* level 0/1 on a GSI; <0: masked or nothing there; atomic-safe under srcu */
int pvhv_set_irq(struct pvhv_vm *vm, int source, u32 gsi, int level);
void pvhv_pulse_irq(struct pvhv_vm *vm, int source, u32 gsi);
#define PVHV_IRQ_SOURCE_USER	0
#define PVHV_IRQ_SOURCE_RESAMPLE 1
#define PVHV_IRQ_SOURCE_PIT	2
/* The vector that would be delivered now (LAPIC, or PIC by ExtINT: with PVHV_IRQ_OF_PIC), -1: none. */
#define PVHV_IRQ_OF_PIC		0x100
int pvhv_irq_peek(struct pvhv_vcpu *vcpu);
/* Take what peek gave, ISR set. The vector (spurious: it fell). */
int pvhv_irq_ack(struct pvhv_vcpu *vcpu, int peeked);
/* Does one wait, in hardware's hands or here, that nothing but the guest's IF may hold back? */
bool pvhv_irq_waits(struct pvhv_vcpu *vcpu);

/* split.c: interrupt controllers in userspace */
int pvhv_split_irqchip(struct pvhv_vm *vm, u64 nr_pins);	/* vm->lock; 0 or -errno */
int pvhv_split_eoi_exit(struct pvhv_vcpu *vcpu);	/* PVHV_REQ_USER_EOI */
/* Could the vCPU take an interrupt from there, but for IF and such? */
bool pvhv_user_pic_ready(struct pvhv_vcpu *vcpu);
int pvhv_user_pic_interrupt(struct pvhv_vcpu *vcpu, u8 vector);	/* KVM_INTERRUPT */

/* ioapic.c: */
int pvhv_ioapic_create(struct pvhv_vm *vm);
void pvhv_ioapic_destroy(struct pvhv_vm *vm);
int pvhv_ioapic_set_irq(struct pvhv_vm *vm, unsigned int pin, int source, int level);
void pvhv_ioapic_eoi(struct pvhv_vm *vm, u8 vector, bool level);
void pvhv_ioapic_update_vectors(struct pvhv_vm *vm);	/* routes or notifiers changed */
/* Bitmap of vectors whose EOI the IOAPIC wants to see. */
const unsigned long *pvhv_ioapic_vectors(struct pvhv_vm *vm);
void pvhv_ioapic_get(struct pvhv_vm *vm, struct kvm_ioapic_state *state);
void pvhv_ioapic_set(struct pvhv_vm *vm, const struct kvm_ioapic_state *state);

/* pic.c: pins 0-7 master, 8-15 slave */
int pvhv_pic_create(struct pvhv_vm *vm);
void pvhv_pic_destroy(struct pvhv_vm *vm);
int pvhv_pic_set_irq(struct pvhv_vm *vm, unsigned int pin, int source, int level);
int pvhv_pic_peek(struct pvhv_vm *vm);	/* the vector INTA would give */
int pvhv_pic_ack(struct pvhv_vm *vm);
void pvhv_pic_get(struct pvhv_vm *vm, bool slave, struct kvm_pic_state *state);
void pvhv_pic_set(struct pvhv_vm *vm, bool slave, const struct kvm_pic_state *state);

/* lapic_virtual.c: the vCPU's thread, the first two under srcu or in its creation */
void pvhv_lapic_choose_virtual(struct pvhv_vcpu *vcpu);	/* what it depends on changed */
int pvhv_lapic_eoi_made(struct pvhv_vcpu *vcpu, u8 vector);	/* after the exits */
int pvhv_lapic_write_made(struct pvhv_vcpu *vcpu, u32 offset);
void pvhv_lapic_lend(struct pvhv_vcpu *vcpu);	/* before an entry, with virtual_apic */
void pvhv_lapic_collect_posted(struct pvhv_vcpu *vcpu);
static inline bool pvhv_posted_waits(const struct pvhv_vcpu *vcpu)
{
	return vcpu->posted && READ_ONCE(vcpu->posted->control) & BIT(PVHV_POSTED_ON);
}

/* lapic.c, lapic_state.c, lapic_timer.c, lapic_ipi.c, lapic_pv.c: */
struct pvhv_apic_msg {		/* an interrupt message on its way to LAPICs */
	u32 dest;
	u8 vector;
	u8 mode;		/* delivery mode, 0-7 */
	bool logical;
	bool level;		/* level-triggered */
	bool lowest;		/* to one of the matching (mode 1, MSI hint) */
};
/* Number of LAPICs that took it, 0: they refuse now, -1: nobody there. Any
 * context; src: the sending vCPU (its own thread), NULL: a device. */
int pvhv_apic_deliver(struct pvhv_vm *vm, struct pvhv_vcpu *src,
		      const struct pvhv_apic_msg *msg);
int pvhv_apic_map_create(struct pvhv_vm *vm);
void pvhv_apic_map_destroy(struct pvhv_vm *vm);
bool pvhv_lapic_accepts_pic(struct pvhv_vcpu *vcpu);	/* any thread */
int pvhv_lapic_create(struct pvhv_vcpu *vcpu);
void pvhv_lapic_free(struct pvhv_vcpu *vcpu);
void pvhv_lapic_published(struct pvhv_vcpu *vcpu); /* now in vm->vcpus: rebuild the apic map */
void pvhv_lapic_reset(struct pvhv_vcpu *vcpu, bool init);
int pvhv_lapic_set_base(struct pvhv_vcpu *vcpu, u64 value, bool host); /* MSR_IA32_APICBASE; 1: #GP */
long pvhv_ioctl_get_lapic(void *vcpu, void *data, unsigned long arg);	/* IRQCHIP */
long pvhv_ioctl_set_lapic(void *vcpu, void *data, unsigned long arg);
/* x2APIC MSRs 0x800-0x8ff: 0, 1: #GP. irqs may be off. */
int pvhv_x2apic_read(struct pvhv_vcpu *vcpu, u32 msr, u64 *value);
bool pvhv_lapic_read_sleeps(const struct pvhv_vcpu *vcpu);	/* the guest may have ended one by PV EOI */
int pvhv_x2apic_write(struct pvhv_vcpu *vcpu, u32 msr, u64 value);
/* xAPIC page: is gpa this vCPU's enabled xAPIC page; access (len 4 aligned). */
bool pvhv_lapic_owns_gpa(struct pvhv_vcpu *vcpu, u64 gpa);
int pvhv_lapic_mmio_read(struct pvhv_vcpu *vcpu, u64 gpa, unsigned int len, void *val);
int pvhv_lapic_mmio_write(struct pvhv_vcpu *vcpu, u64 gpa, unsigned int len, const void *val);
u64 pvhv_lapic_get_tpr(struct pvhv_vcpu *vcpu);	/* CR8 value 0-15 */
void pvhv_lapic_set_tpr(struct pvhv_vcpu *vcpu, u64 cr8);
/* After an exit with V_TPR changed; a pending vector the TPR holds back? */
unsigned int pvhv_lapic_tpr_blocks(struct pvhv_vcpu *vcpu);
u64 pvhv_lapic_get_tsc_deadline(struct pvhv_vcpu *vcpu);
void pvhv_lapic_set_tsc_deadline(struct pvhv_vcpu *vcpu, u64 value);
void pvhv_lapic_timer_migrate(struct pvhv_vcpu *vcpu);	/* on load: pull hrtimer here */
int pvhv_lapic_events(struct pvhv_vcpu *vcpu);	/* REQ_APIC_EVENTS: INIT, SIPI; PVHV_RESUME */
bool pvhv_lapic_has_events(struct pvhv_vcpu *vcpu);
void pvhv_lapic_sync_pv_eoi_to_guest(struct pvhv_vcpu *vcpu);	/* before entry */
/* REQ_PV_EOI, irqs on, may sleep; not needed after each exit: whoever needs
 * the ISR (peek, register access, KVM_GET_LAPIC) collects the EOI itself. */
void pvhv_lapic_sync_pv_eoi_from_guest(struct pvhv_vcpu *vcpu);
int pvhv_lapic_set_pv_eoi(struct pvhv_vcpu *vcpu, u64 msr_value);	/* 1: #GP */
/* KVM_HC_SEND_IPI: number of targets reached, or -KVM_E*. */
int pvhv_pv_send_ipi(struct pvhv_vcpu *vcpu, unsigned long low,
		     unsigned long high, u32 min, u32 icr);
struct pvhv_vcpu *pvhv_vcpu_by_apic_id(struct pvhv_vm *vm, u32 apic_id);
void pvhv_lapic_nmi_wd(struct pvhv_vm *vm);	/* PIT channel 0 to LVT0 NMI */
void pvhv_lapic_cpuid_changed(struct pvhv_vcpu *vcpu);	/* x2APIC, deadline bits */
void pvhv_lapic_tsc_changed(struct pvhv_vcpu *vcpu);	/* re-arm the deadline */
/* With ends_at_deadline: after enter(), true: it was for that; and before a sleep. */
bool pvhv_lapic_deadline_passed(struct pvhv_vcpu *vcpu);
void pvhv_lapic_timer_sleep(struct pvhv_vcpu *vcpu);

/* pit.c: */
long pvhv_ioctl_create_pit2(void *vm, void *data, unsigned long arg);	/* LOCK */
long pvhv_ioctl_get_pit2(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_set_pit2(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_reinject_control(void *vm, void *data, unsigned long arg); /* RAW: no size */
void pvhv_pit_destroy(struct pvhv_vm *vm);

/* ------------------------------------------------- guest-visible CPU ----
 * cpuid_host.c, cpuid.c:
 */
int pvhv_cpuid_init(void);			/* module: what we can offer */
long pvhv_ioctl_get_supported_cpuid(void *obj, void *data, unsigned long arg);	/* RAW, also EMULATED */
long pvhv_ioctl_get_emulated_cpuid(void *obj, void *data, unsigned long arg);
long pvhv_ioctl_set_cpuid2(void *vcpu, void *data, unsigned long arg);	/* RAW */
long pvhv_ioctl_get_cpuid2(void *vcpu, void *data, unsigned long arg);	/* RAW */
const struct kvm_cpuid_entry2 *pvhv_find_cpuid(struct pvhv_vcpu *vcpu, u32 fn, u32 index);
/* CPUID as the guest executes it, with the dynamic bits. irqs may be off. */
void pvhv_cpuid(struct pvhv_vcpu *vcpu, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx);
void pvhv_cpuid_cr4_changed(struct pvhv_vcpu *vcpu);	/* OSXSAVE, APIC bits */
void pvhv_cpuid_free(struct pvhv_vcpu *vcpu);
void pvhv_cpuid_derive(struct pvhv_vcpu *vcpu);	/* vCPU creation, SET_CPUID2 */
/* X86_FEATURE_*: in the guest's CPUID; in what this host can offer. */
bool pvhv_guest_has(struct pvhv_vcpu *vcpu, unsigned int feature);
bool pvhv_cpuid_offers(unsigned int feature);
u64 pvhv_supported_xcr0(void);

/* msr_exit.c: RDMSR and WRMSR */
int pvhv_handle_msr_read(struct pvhv_vcpu *vcpu);
int pvhv_handle_msr_write(struct pvhv_vcpu *vcpu);
int pvhv_handle_msr_fast(struct pvhv_vcpu *vcpu, bool write);	/* irqs off */

/* msr_filter.c: access is KVM_MSR_FILTER_READ or _WRITE; under srcu, irqs may be off */
bool pvhv_msr_allowed(struct pvhv_vm *vm, u32 index, u32 access);
/* Is the filter about one of these? */
bool pvhv_msrs_filtered(struct pvhv_vm *vm, const u32 *msrs, unsigned int nr);
void pvhv_msr_filter_destroy(struct pvhv_vm *vm);
long pvhv_ioctl_set_msr_filter(void *vm, void *data, unsigned long arg);	/* LOCK */

/* Why the guest may not: for KVM_MSR_EXIT_REASON_*. */
enum {
	PVHV_MSR_REFUSED = 1,	/* this value, or this guest may not have it */
	PVHV_MSR_UNKNOWN,	/* there is no such MSR */
	PVHV_MSR_FILTERED,
};

/* msr.c: 0, or PVHV_MSR_REFUSED or _UNKNOWN (the caller injects #GP / stops) */
int pvhv_get_msr(struct pvhv_vcpu *vcpu, u32 index, u64 *value, bool host);
int pvhv_set_msr(struct pvhv_vcpu *vcpu, u32 index, u64 value, bool host);
void pvhv_msr_reset(struct pvhv_vcpu *vcpu, bool init);
int pvhv_msr_vcpu_init(struct pvhv_vcpu *vcpu);
void pvhv_msr_vcpu_free(struct pvhv_vcpu *vcpu);

/* msr_list.c: */
u64 pvhv_host_msr(u32 index);	/* DE_CFG, ARCH_CAPABILITIES as offered */
long pvhv_ioctl_get_msr_index_list(void *obj, void *data, unsigned long arg);	/* RAW */
long pvhv_ioctl_get_msr_feature_index_list(void *obj, void *data, unsigned long arg);
long pvhv_ioctl_get_feature_msrs(void *obj, void *data, unsigned long arg);	/* system fd */
long pvhv_ioctl_get_msrs(void *vcpu, void *data, unsigned long arg);	/* RAW */
long pvhv_ioctl_set_msrs(void *vcpu, void *data, unsigned long arg);	/* RAW */

/* mtrr.c: 0; 1: #GP; -ENOENT: not an MTRR. They order nothing: guest memory
 * is write-back; the registers are what a guest expects to find. */
int pvhv_mtrr_get(struct pvhv_vcpu *vcpu, u32 index, u64 *value);
int pvhv_mtrr_set(struct pvhv_vcpu *vcpu, u32 index, u64 value);
bool pvhv_memtypes_valid(u64 value, u64 allowed);

/* mce.c: as mtrr.c */
#define PVHV_MAX_MCE_BANKS	32	/* KVM_CAP_MCE */
int pvhv_mce_get_msr(struct pvhv_vcpu *vcpu, u32 index, u64 *value, bool host);
int pvhv_mce_set_msr(struct pvhv_vcpu *vcpu, u32 index, u64 value, bool host);
int pvhv_mce_vcpu_init(struct pvhv_vcpu *vcpu);
void pvhv_mce_vcpu_free(struct pvhv_vcpu *vcpu);
long pvhv_ioctl_mce_cap(void *obj, void *data, unsigned long arg);
long pvhv_ioctl_setup_mce(void *vcpu, void *data, unsigned long arg);
long pvhv_ioctl_set_mce(void *vcpu, void *data, unsigned long arg);	/* KVM_X86_SET_MCE */

/* tsc.c: guest TSC = host TSC, scaled, + vcpu->tsc_offset */
#define PVHV_TSC_RATIO_SHIFT	48
u64 pvhv_scale_tsc(u64 host_tsc, u64 ratio);
u64 pvhv_guest_tsc(const struct pvhv_vcpu *vcpu, u64 host_tsc);
u64 pvhv_tsc_host_ticks(const struct pvhv_vcpu *vcpu, u64 guest_ticks);	/* a time, of years at most */
bool pvhv_tsc_scales(void);
u32 pvhv_tsc_clock_khz(const struct pvhv_vm *vm);	/* the host's, as the guest was told it */
u64 pvhv_read_tsc(struct pvhv_vcpu *vcpu);	/* the guest's, now */
void pvhv_write_tsc(struct pvhv_vcpu *vcpu, u64 value, bool host);
void pvhv_write_tsc_adjust(struct pvhv_vcpu *vcpu, u64 value, bool host);
void pvhv_tsc_vcpu_init(struct pvhv_vcpu *vcpu);
void pvhv_tsc_vcpu_load(struct pvhv_vcpu *vcpu);	/* unstable TSC, new CPU */
long pvhv_ioctl_set_tsc_khz(void *obj, void *data, unsigned long arg);	/* vCPU */
long pvhv_ioctl_get_tsc_khz(void *obj, void *data, unsigned long arg);	/* vCPU */
long pvhv_ioctl_set_vcpu_attr(void *vcpu, void *data, unsigned long arg);
long pvhv_ioctl_get_vcpu_attr(void *vcpu, void *data, unsigned long arg);
long pvhv_ioctl_has_vcpu_attr(void *vcpu, void *data, unsigned long arg);
long pvhv_ioctl_vm_set_tsc_khz(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_vm_get_tsc_khz(void *vm, void *data, unsigned long arg);

/* clock.c: kvmclock */
void pvhv_clock_vm_init(struct pvhv_vm *vm);
void pvhv_clock_vcpu_init(struct pvhv_vcpu *vcpu);
/* Offsets or the host's clock changed; force: a new base even if stable. */
void pvhv_clock_refresh(struct pvhv_vm *vm, bool force);
/* The host's TSC and clocks at one moment; false: they do not run by the TSC. */
bool pvhv_host_clock(u64 *tsc, u64 *boot_ns, u64 *real_ns);
int pvhv_clock_msr_set(struct pvhv_vcpu *vcpu, u32 index, u64 value);	/* 1: #GP */
int pvhv_clock_msr_get(struct pvhv_vcpu *vcpu, u32 index, u64 *value);
void pvhv_clock_update(struct pvhv_vcpu *vcpu);		/* REQ_CLOCK_UPDATE */
void pvhv_clock_vcpu_load(struct pvhv_vcpu *vcpu, int cpu, int last_cpu);
void pvhv_clock_vcpu_put(struct pvhv_vcpu *vcpu);
long pvhv_ioctl_get_clock(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_set_clock(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_kvmclock_ctrl(void *vcpu, void *data, unsigned long arg);
int pvhv_clock_module_init(void);
void pvhv_clock_module_exit(void);

/* steal.c: steal time and the preempted flag */
void pvhv_steal_update(struct pvhv_vcpu *vcpu);		/* REQ_STEAL_UPDATE */
void pvhv_steal_set_preempted(struct pvhv_vcpu *vcpu);	/* on sched-out, atomic */
void pvhv_steal_vcpu_load(struct pvhv_vcpu *vcpu);
int pvhv_steal_set_msr(struct pvhv_vcpu *vcpu, u64 value);	/* 1: #GP */

/* hypercall.c: */
void pvhv_note_thread(struct pvhv_vcpu *vcpu);	/* KVM_RUN: sets vcpu->pid */
int pvhv_handle_hypercall(struct pvhv_vcpu *vcpu);	/* irqs on */
int pvhv_handle_hypercall_fast(struct pvhv_vcpu *vcpu);	/* irqs off; PVHV_SLOW */
/* #UD of the other vendor's hypercall instruction: replaced, or a #PF instead. */
bool pvhv_fix_hypercall(struct pvhv_vcpu *vcpu);

/* doorbell.c: */
long pvhv_ioctl_set_doorbell(void *vm, void *data, unsigned long arg);
void pvhv_doorbells_destroy(struct pvhv_vm *vm);
long pvhv_doorbell_ring(struct pvhv_vm *vm, u64 id);	/* 0 or -KVM_E* */
int pvhv_doorbell_fast(struct pvhv_vcpu *vcpu);		/* irqs off; PVHV_SLOW */

/* stats.c: */
void pvhv_stats_init(void);			/* debugfs root */
void pvhv_stats_exit(void);
void pvhv_stats_vm_init(struct pvhv_vm *vm);
void pvhv_stats_vm_exit(struct pvhv_vm *vm);
void pvhv_stats_vcpu_init(struct pvhv_vcpu *vcpu);
long pvhv_ioctl_vm_stats_fd(void *vm, void *data, unsigned long arg);
long pvhv_ioctl_vcpu_stats_fd(void *vcpu, void *data, unsigned long arg);

#endif /* PVHV_H */
