/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The internal header of pvhv-run: every type and function that crosses a
 * file, grouped by the file that owns it.
 *
 * Threads: the main thread owns the event loop, the console's descriptors and
 * everything before the first KVM_RUN; one thread per vCPU runs the guest and
 * calls into the devices.  Fields are marked with who may touch them:
 *   [c] constant once the vCPUs run      [m] main thread only
 *   [v] the vCPU's own thread only       [l] under the named lock
 *   [a] atomic
 */
#ifndef PVHV_VMM_H
#define PVHV_VMM_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
#include <linux/kvm.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define ALIGN_UP(x, a)		(((x) + ((a) - 1)) & ~((u64)(a) - 1))
#define ALIGN_DOWN(x, a)	((x) & ~((u64)(a) - 1))
#define container_of(p, type, member) \
	((type *)((char *)(p) - offsetof(type, member)))
#define KIB			1024ULL
#define MIB			(1024 * KIB)
#define GIB			(1024 * MIB)

#define VMM_VERSION		"0.1"

/* How the process ends; pvhv-run(1) documents the same numbers. */
#define STATUS_POWEROFF		0
#define STATUS_ERROR		1
#define STATUS_REBOOT		3
#define STATUS_TRIPLE_FAULT	4
#define STATUS_INTERNAL		5
#define STATUS_SIGNAL		128	/* plus the signal's number */

/* The guest's physical address space. */
#define LOW_RAM_MAX		0xd0000000ULL	/* 3.25 GiB, devices above */
#define HIGH_RAM_BASE		0x100000000ULL
#define PCI_ECAM_BASE		0xd0000000U
#define PCI_ECAM_SIZE		0x00100000U	/* one bus */
#define PCI_MEM_BASE		0xe0000000U
#define PCI_MEM_END		0xfec00000U
#define IOAPIC_BASE		0xfec00000U
#define LAPIC_BASE		0xfee00000U
#define KVM_IDENTITY_MAP	0xfffbc000ULL
#define KVM_TSS			0xfffbd000ULL

/* Fixed places in the first MiB. */
#define BOOT_GDT_GPA		0x500ULL
#define BOOT_PARAMS_GPA		0x7000ULL	/* or hvm_start_info */
#define BOOT_TABLES_GPA		0x9000ULL	/* six pages of page tables */
#define BOOT_CMDLINE_GPA	0x20000ULL
#define BOOT_CMDLINE_MAX	0x10000ULL
#define BOOT_EBDA_GPA		0x9fc00ULL
#define ACPI_GPA		0xe0000ULL
#define ACPI_TABLES_MAX		0x10000ULL
#define IDENTITY_GPA		0xf0000ULL
#define RESET_VECTOR_GPA	0xffff0ULL
#define BOOT_HIGH_GPA		0x100000ULL

/* Interrupt lines and ports. */
#define GSI_COM1		4
#define GSI_GED			9
#define PCI_GSI_BASE		16		/* eight lines that devices share */
#define GSI_MSI_BASE		24		/* behind the IOAPIC's pins */
#define PORT_COM1		0x3f8
#define PORT_RTC		0x70
#define PORT_I8042_DATA		0x60
#define PORT_I8042_CMD		0x64
#define PORT_RESET		0xcf9
#define PORT_PM			0x600	/* sleep control, sleep status, events */
#define PORT_EXIT		0xf4
#define PORT_PCI		0xcf8	/* address, data */
#define PORT_BUS		0xa00	/* two registers each of 64 slots */
#define PCI_PORT_BASE		0x1000U		/* what PCI devices may use */
#define PCI_PORT_END		0x10000U

#define MAX_CPUS		1024

/* error.c: one line per failure, kept or printed. */
extern const char *fail_program;	/* what the lines begin with */
extern void (*fail_sink)(const char *line);
int fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* state.c: a self-describing byte buffer that devices save to and load from. */
struct state {
	u8 *data;
	size_t len;
	size_t cap;
	size_t section;		/* where the open section's header is */
	bool open;
	int err;		/* first error of a put; sticky */
};

struct state_section {
	const u8 *data;
	size_t len;
	u32 version;
};

void state_init(struct state *st);
void state_free(struct state *st);
void state_begin(struct state *st, const char *name, u32 version);
void state_end(struct state *st);
void state_put(struct state *st, const char *name, const void *data, size_t len);
void state_put_u64(struct state *st, const char *name, u64 value);
int state_find(const void *data, size_t len, const char *name,
	       struct state_section *sec);
int state_get(const struct state_section *sec, const char *name, void *data,
	      size_t len, size_t *got);
int state_get_u64(const struct state_section *sec, const char *name, u64 max,
		  u64 *value);

/* device.c: the table of devices. */
struct device;

struct device_ops {
	const char *name;
	u32 version;
	void (*save)(struct device *dev, struct state *st);
	int (*load)(struct device *dev, const struct state_section *sec);
	void (*destroy)(struct device *dev);
};

struct device {
	const struct device_ops *ops;	/* [c] */
	const char *name;		/* [c] its section's name */
	struct device *next;		/* [c] */
};

struct devices {
	struct device *head;		/* [c] */
	struct device **tail;		/* [c] */
};

void devices_init(struct devices *devs);
void devices_add(struct devices *devs, struct device *dev,
		 const struct device_ops *ops);
void devices_add_named(struct devices *devs, struct device *dev,
		       const struct device_ops *ops, const char *name);
int devices_save(struct devices *devs, struct state *st);
int devices_load(struct devices *devs, const void *data, size_t len);
void devices_destroy(struct devices *devs);

/* mem.c: guest memory and the one way to reach it. */
enum mem_pages { MEM_PAGES_THP, MEM_PAGES_SMALL, MEM_PAGES_2M, MEM_PAGES_1G };

struct mem {
	u8 *host;		/* [c] all of RAM, low part first */
	u64 size;		/* [c] */
	u64 low;		/* [c] bytes below LOW_RAM_MAX */
	u64 high;		/* [c] bytes from HIGH_RAM_BASE on */
	u64 page;		/* [c] what can be given back singly */
	int fd;			/* [c] memfd of huge pages, or -1 */
	bool held;		/* [m] see mem_hold() */
	bool restored;		/* [c] it may be a file's */
	/* [m] Or NULL: pages of RAM are about to go, or to be watched. */
	void (*let_go)(const void *host, u64 len);
	_Atomic(u64) *log;	/* [c] since the first mem_log_start(): a bit a page */
	atomic_bool logging;	/* [a] */
};

static inline void *mem_at(const struct mem *mem, u64 gpa, u64 len)
{
	if (gpa < mem->low)
		return len <= mem->low - gpa ? mem->host + gpa : NULL;
	if (gpa < HIGH_RAM_BASE || gpa - HIGH_RAM_BASE >= mem->high)
		return NULL;
	gpa -= HIGH_RAM_BASE;
	return len <= mem->high - gpa ? mem->host + mem->low + gpa : NULL;
}

int mem_check_host(u64 size);
int mem_init(struct mem *mem, u64 size, enum mem_pages pages);
void mem_fini(struct mem *mem);
int mem_write(const struct mem *mem, u64 gpa, const void *data, u64 len);
int mem_read(const struct mem *mem, u64 gpa, void *data, u64 len);
void mem_release(const struct mem *mem, void *host, u64 len);
/* Somebody keeps what memory was: nothing is released that is not written to first. */
void mem_hold(struct mem *mem, bool hold);

/*
 * What this process writes to guest memory itself, while somebody wants to
 * know; what the guest and the kernel write, the kernel knows.  Said after the
 * write: who reads the page in between is told that it has to again.
 */
#define MEM_LOG_PAGE	4096U

int mem_log_start(struct mem *mem);
void mem_log_stop(struct mem *mem);
/* Adds bits of [@host, @host + @len) to @bitmap, and forgets them. */
void mem_log_take(struct mem *mem, const void *host, u64 len, u64 *bitmap);
void mem_log_mark(const struct mem *mem, const volatile void *host, u64 len);
static inline bool mem_logging(const struct mem *mem)
{
	return __builtin_expect(atomic_load_explicit(&mem->logging,
						     memory_order_acquire), 0);
}

static inline void mem_wrote(const struct mem *mem, const volatile void *host,
			     u64 len)
{
	if (mem_logging(mem))
		mem_log_mark(mem, host, len);
}

struct image;
int mem_load(const struct mem *mem, u64 gpa, const struct image *img, u64 off,
	     u64 len);

/* image.c: a file on the host that is copied into guest memory. */
struct image {
	int fd;
	u64 size;
	const char *path;
	const char *what;	/* "kernel", "initrd" */
};

int image_open(struct image *img, const char *what, const char *path);
void image_close(struct image *img);
int image_read(const struct image *img, u64 off, void *buf, u64 len);

/* rundir.c: where the control sockets of named machines are. */
#define RUNDIR_MAX		108	/* as long as a socket's path may be */
int rundir_path(char *buf, size_t len);
int rundir_make(void);
bool rundir_name_ok(const char *name);
int rundir_socket(char *buf, size_t len, const char *name);
bool rundir_name_of(char *buf, size_t len, const char *file);

/* options.c: the command line. */
#define NETS_MAX		8
#define NET_FORWARDS_MAX	8

enum net_vhost_use { NET_VHOST_AUTO, NET_VHOST_ON, NET_VHOST_OFF };

struct net_options {
	const char *tap;	/* NULL: a new one, named by the kernel */
	const char *bridge;
	u64 bps;		/* bytes in a second each way; 0: no limit */
	u32 queues;
	enum net_vhost_use vhost;
	u8 mac[6];
	bool mac_given;
	bool user;
	u32 nr_forwards;
	struct {
		bool udp;
		const char *ports;	/* of the host, and of the guest */
	} forwards[NET_FORWARDS_MAX];	/* with user */
};

#define DISKS_MAX		24

enum disk_direct { DISK_DIRECT_AUTO, DISK_DIRECT_ON, DISK_DIRECT_OFF };

struct disk_options {
	const char *path;	/* file, block device or URI */
	const char *serial;	/* NULL: none given */
	u64 iops;		/* requests in a second; 0: no limit */
	u64 bps;		/* bytes in a second; 0: no limit */
	u32 queues;		/* 0: one per CPU, within reason */
	enum disk_direct direct;
	bool readonly;
	bool later;		/* another host has it: disks_take() will follow */
};

enum console_kind {
	CONSOLE_STDIO, CONSOLE_PTY, CONSOLE_FILE, CONSOLE_SOCKET,
	CONSOLE_CONTROL, CONSOLE_NONE
};

#define PORTS_MAX		16

struct port_options {
	const char *name;
	const char *path;
	enum console_kind kind;
	bool console;		/* a terminal in the guest, not a plain port */
};

struct balloon_options {
	u64 keep;		/* bytes that the guest is to keep; 0: all */
	bool reporting;
	bool deflate_on_oom;
};

enum bus_kind { BUS_PCI, BUS_PVHV };

/* options_args.c: what makes the machine, as it was typed. */
#define OPTION_ARGS_MAX		64

struct option_args {
	char *text[OPTION_ARGS_MAX];
	u32 nr;
};

int option_args_add(struct option_args *args, const char *name,
		    const char *value);
void option_args_drop(struct option_args *args, const char *name);
void option_args_free(struct option_args *args);
bool option_is(const char *text, const char *name);

struct options {
	const char *kernel;
	const char *initrd;
	const char *append;
	const char *name;
	const char *dev;
	const char *console_path;
	const char *control;		/* path of the socket, or NULL */
	const char *control_option;	/* the one that asks for it */
	char control_default[RUNDIR_MAX];
	enum console_kind console;
	enum bus_kind bus;
	enum mem_pages pages;
	u64 memory;
	const char *cpu_model;		/* NULL: the host's */
	bool cpu_model_list;
	u32 cpus;
	u32 nr_nets;
	struct net_options nets[NETS_MAX];
	u32 nr_disks;
	struct disk_options disks[DISKS_MAX];
	u32 nr_ports;
	struct port_options ports[PORTS_MAX];
	struct balloon_options balloon_opt;
	bool balloon;
	u64 rng_bps;		/* 0: no limit */
	bool rng;
	const char *user;
	const char *chroot;
	bool no_sandbox;
	bool exit_port;
	bool dry_run;
	bool help;
	bool version;
	const char *restore;		/* a saved machine's file, or NULL */
	bool clone;			/* and it is another one now */
	const char *incoming;		/* where one comes from, or NULL */
	struct option_args args;
	struct option_args merged;	/* what @args was made of, cut up */
};

int options_parse(struct options *opt, int argc, char **argv);
/* A saved machine's options, where the command line does not say otherwise. */
int options_merge(struct options *opt, const struct option_args *saved);
void options_free(struct options *opt);
void options_help(void);

/* cpu_model.c: the CPUs that --cpu-model knows. */
#define CPU_MODEL_NAME_MAX	32
#define CPU_MODEL_HOST		"host"
#define CPU_VENDOR_AMD		"AuthenticAMD"
#define CPU_VENDOR_INTEL	"GenuineIntel"

struct cpu_model {
	const char *name;
	const char *base;		/* has all features of that one, too */
	const char *vendor;		/* NULL: the host's */
	u32 family, model, stepping;
	const char *brand;
	const char *features;
};

/* NULL: none of that name, or the host's own */
const struct cpu_model *cpu_model_find(const char *name);
const struct cpu_model *cpu_model_at(unsigned int nr);	/* NULL: the end */

/* options_value.c: what is between the commas. */
int options_size(const char *text, u64 *bytes);
int options_rate(const char *text, u64 *bytes);
int options_number(const char *text, u64 least, u64 most, u64 *number);
bool options_next(char **list, char **key, char **value);

/* options_net.c: the value of --net, which keeps the pieces of @text. */
int net_options_parse(struct net_options *net, char *text);
void net_options_print(const struct net_options *net);

/* loop.c: the io_uring event loop. */
struct loop_op {
	void (*done)(struct loop_op *op, int res);
	int watched;		/* [m] a descriptor, or -1 */
	bool eventfd;		/* [m] it is one, by loop_watch_eventfd() */
	bool busy;		/* [m] submitted and not yet done */
};

struct loop_task {
	void (*run)(struct loop_task *task);
	struct loop_task *next;	/* [m] */
	bool queued;		/* [m] */
};

struct loop_file {
	int fd;
	int slot;		/* [m] registered with the ring, or -1 */
	u32 registered_pages;	/* [m] a piece may be of, by registered memory */
	bool pins;		/* [m] what is used often is worth registering */
};

struct iovec;

/* Restricts a ring, which is disabled, and enables it; NULL: no restriction. */
struct io_uring;
extern int (*loop_guard)(struct io_uring *ring);
int loop_init(void (*woken)(void *arg), void *arg);
void loop_fini(void);
int loop_read(struct loop_op *op, int fd, void *buf, size_t len);
int loop_write(struct loop_op *op, int fd, const void *buf, size_t len);
int loop_accept(struct loop_op *op, int fd);
int loop_poll(struct loop_op *op, int fd, u32 events);
int loop_watch(struct loop_op *op, int fd);
int loop_watch_eventfd(struct loop_op *op, int fd);
int loop_timer(struct loop_op *op, unsigned int ms);
int loop_timer_us(struct loop_op *op, u64 us);
void loop_file_add(struct loop_file *file, int fd);
void loop_file_drop(struct loop_file *file);
int loop_preadv(struct loop_op *op, const struct loop_file *file,
		const struct iovec *iov, unsigned int nr, u64 pos);
int loop_pwritev(struct loop_op *op, const struct loop_file *file,
		 const struct iovec *iov, unsigned int nr, u64 pos, int rw_flags);
int loop_fdatasync(struct loop_op *op, const struct loop_file *file);
int loop_fallocate(struct loop_op *op, const struct loop_file *file, int mode,
		   u64 pos, u64 len);
void loop_cancel(struct loop_op *op);
void loop_defer(struct loop_task *task);
void loop_undefer(struct loop_task *task);
/*
 * read() or write(), without what the C library does beside it: a thread can be
 * cancelled there, and preparing for that takes its time.  Or -errno.
 */
static inline long loop_call(long nr, int fd, void *data, size_t len)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a" (ret)
			 : "0" (nr), "D" ((long)fd), "S" (data), "d" (len)
			 : "rcx", "r11", "memory");
	return ret;
}

/* To an eventfd; one that is full has been signalled already. */
static inline void loop_signal(int fd)
{
	u64 one = 1;

	loop_call(SYS_write, fd, &one, sizeof(one));
}

void loop_wake(void);
void loop_wake_soon(void);
int loop_run(void);
void loop_quit(void);

/* host_kernel.c: how old the host's kernel is. */
bool host_kernel_before(unsigned int major, unsigned int minor);

/* loop_memory.c: memory that the ring has registered, in pages of the host's. */
#define LOOP_PAGE	(4 * KIB)
void loop_memory(void *base, u64 len);	/* before loop_init() */
void loop_memory_register(struct io_uring *ring);
bool loop_memory_by_page(void);
bool loop_memory_holds(const struct iovec *iov, const struct loop_file *file);
int loop_memory_buffer(const struct iovec *iov, const struct loop_file *file);

/* loop_pins.c: the same, of what is used often. */
void loop_pins(struct mem *mem);	/* before loop_init() */
void loop_pins_register(struct io_uring *ring);
void loop_pins_unregister(void);
int loop_pin(const struct iovec *iov);

/* bell.c: who signals the eventfd that the main thread waits for. */
struct bell {
	const volatile u16 *word;	/* [m] rung when it is not @seen */
	u16 seen;			/* [m] */
	struct loop_task *task;		/* [c] deferred then */
	struct bell *next, **at;	/* [m] of those that are out */
};

int bells_open(void);
void bells_close(void);
void bells_look(void);
int bell_join(void);
void bell_leave(void);
void bell_out(struct bell *bell, const volatile u16 *word, u16 seen);
void bell_in(struct bell *bell);

/* wait_choice.c: how the main thread waits. */
struct wait_choice {
	bool by_read;		/* and not in the ring */
	u8 waits, ring;
};

void wait_choice_init(struct wait_choice *c, bool by_read);
void wait_choice_note(struct wait_choice *c, bool ring);

/*
 * patience.c: the main thread says what each look for work has found, and is a
 * batch task while that is more than one piece.
 */
void patience_init(void);
void patience_look(unsigned int pieces);
void patience_note(unsigned int pieces, u64 now);
bool patience_on(void);

/* mailbox.c: what other threads have the main thread do. */
struct letter {
	void (*opened)(struct letter *letter);
	struct letter *next;
};

#define ERRAND_WAITS	1	/* it is not done yet: errand_end() will follow */

struct errand {
	struct letter letter;
	int (*run)(struct errand *e);
	void *arg;
	int ret;
	sem_t ended;
};

/* Not from the main thread.  Returns what run() or errand_end() says. */
int errand_run(int (*run)(struct errand *e), void *arg);
void errand_end(struct errand *e, int ret);
void mailbox_post(struct letter *letter);
void mailbox_service(void);
void mailbox_wait(void);

/* limit.c: a token bucket, for bytes or requests in a second. */
struct limit {
	u64 rate;		/* in a second; 0: no limit */
	s64 burst;		/* what the full bucket holds */
	s64 level;		/* negative: debt */
	u64 since;		/* all until then is in @level and @rest */
	u64 rest;		/* in billionths of a token */
};

void limit_set(struct limit *l, u64 rate, u64 now);
u64 limit_delay(struct limit *l, u64 now);
void limit_take(struct limit *l, u64 amount);

/* iobus.c: who owns a port or an address. */
struct iobus_region {
	u64 base;
	u64 len;
	void (*read)(void *arg, u64 off, u8 *data, u32 len);
	void (*write)(void *arg, u64 off, const u8 *data, u32 len);
	void *arg;
};

#define IOBUS_MAX		128

struct iobus {
	pthread_rwlock_t lock;
	struct iobus_region reg[IOBUS_MAX];	/* [l] lock; sorted by base */
	unsigned int nr;			/* [l] lock */
};

void iobus_init(struct iobus *bus);
void iobus_fini(struct iobus *bus);
int iobus_add(struct iobus *bus, const struct iobus_region *reg);
bool iobus_remove(struct iobus *bus, u64 base, struct iobus_region *old);
void iobus_read(struct iobus *bus, u64 addr, u8 *data, u32 len);
void iobus_write(struct iobus *bus, u64 addr, const u8 *data, u32 len);

/* vm.c: the virtual machine as a whole. */
struct vm;

enum boot_mode { BOOT_LONG_MODE, BOOT_PVH };

struct boot {
	enum boot_mode mode;
	u64 entry;
	u64 info;		/* boot_params or hvm_start_info */
};

struct vcpu {
	struct vm *vm;		/* [c] */
	struct kvm_run *run;	/* [v], immediate_exit [m] */
	size_t run_size;	/* [c] */
	pthread_t thread;	/* [m] */
	u32 id;			/* [c] also its APIC ID */
	int fd;			/* [c] */
	bool started;		/* [m] */
	atomic_bool nap;	/* [a] one is due, see throttle.c */
};

/* Who may hold the vCPUs, see pause.c. */
enum pause_owner {
	PAUSE_START = 1 << 0,	/* not all is ready for the guest yet */
	PAUSE_USER = 1 << 1,	/* by command */
	PAUSE_DISK = 1 << 2,	/* a disk has no room; resumed by command */
	PAUSE_MOVE = 1 << 3,	/* to be saved or handed over, or not here yet */
};

struct run_notifier {
	/*
	 * false: no vCPU runs any more; true: they are about to, which also
	 * comes when a pause ends before it was complete.
	 */
	void (*changed)(struct run_notifier *n, bool running);
	struct run_notifier *next;
};

struct pause_wait {
	void (*done)(struct pause_wait *wait, bool paused);
	struct pause_wait *next;
};

struct pause {
	pthread_mutex_t lock;
	pthread_cond_t go;
	pthread_cond_t gone;		/* none is held any more */
	bool hold;			/* [l] lock; vCPUs have to park */
	u32 held;			/* [l] those outside of KVM_RUN */
	u32 waiting;			/* [l] those of them within an access */
	u32 owners;			/* [m] enum pause_owner */
	bool complete;			/* [m] */
	struct pause_wait *waits;	/* [m] */
	struct run_notifier *notifiers;	/* [m] */
};

struct serial;
struct console;
struct control_source;

struct vm {
	const struct options *opt;	/* [c] */
	int dev_fd;			/* [c] */
	int fd;				/* [c] */
	u32 max_cpus;			/* [c] */
	bool manual_log;		/* [c] KVM_CLEAR_DIRTY_LOG clears, not GET */
	size_t run_size;		/* [c] */
	struct mem mem;			/* [c] */
	struct iobus pio;		/* [c] */
	struct iobus mmio;		/* [c] */
	struct devices devices;		/* [c] */
	struct irq_routes *routes;	/* [c] NULL: the kernel's own */
	struct pci_bus *pci;		/* [c] NULL: nothing is on it */
	struct virtio_bus *bus;		/* [c] NULL: the same */
	struct disks *disks;		/* [c] NULL without */
	struct ports *ports;		/* [c] NULL without */
	struct virtio *balloon;		/* [c] NULL without */
	struct virtio *virtios;		/* [c] all, by their next */
	struct boot boot;		/* [c] */
	u64 rsdp;			/* [c] */
	struct serial *serial;		/* [c] */
	struct console *console;	/* [c] */
	struct device *power;		/* [c] */
	struct control_source *net_sources[NETS_MAX];	/* [m] */
	struct vcpu *vcpus;		/* [c] */
	u32 nr_vcpus;			/* [c] created so far */
	struct pause pause;
	struct freeze *freeze;		/* [m] */
	atomic_uint nap_us;		/* [a] how long; 0: no throttle */
	bool kicked;			/* [m] vCPUs were told to stop */
	atomic_uint running;		/* [a] vCPU threads not yet ended */
	atomic_int status;		/* [a] exit status, -1 while running */
};

void vm_init(struct vm *vm, const struct options *opt);
int vm_open(struct vm *vm);
u32 vm_address_bits(const struct vm *vm);	/* of a --cpu-model */
int vm_create(struct vm *vm);
int vm_add_vcpus(struct vm *vm);
void vm_destroy(struct vm *vm);
int vm_log_writes(struct vm *vm, bool log);
int vm_run(struct vm *vm);
void vm_stop(struct vm *vm, int status);
void vm_quit(struct vm *vm, int status);
bool vm_stopping(const struct vm *vm);

/* pause.c: holding the vCPUs; the vm_ functions are the main thread's. */
void pause_init(struct vm *vm);
void pause_fini(struct vm *vm);
void pause_service(struct vm *vm);
void pause_release(struct vm *vm);
void pause_waiting(struct vm *vm, bool waits);
bool pause_park(struct vm *vm, u8 *immediate_exit);
void pause_nap(struct vm *vm, u32 us);
void pause_await_go(struct vm *vm);
void vm_pause(struct vm *vm, u32 owner);
u32 vm_resume(struct vm *vm, u32 owners);
bool vm_paused(const struct vm *vm);
bool vm_parked(struct vm *vm);
void vm_when_paused(struct vm *vm, struct pause_wait *wait);
void vm_add_notifier(struct vm *vm, struct run_notifier *n);

/* throttle.c: less time for the guest. */
int vm_throttle(struct vm *vm, unsigned int percent);
void vm_throttle_end(struct vm *vm);

/* ports.c: the consoles and ports of a machine; port.h has one of them. */
struct ports;
int ports_check(const struct options *opt);
int ports_create(struct vm *vm);
int ports_open(struct vm *vm);
void ports_close(struct vm *vm);
void ports_destroy(struct vm *vm);

/* identity.c: which life of the machine this is. */
#define IDENTITY_LEN		16
int identity_make(struct vm *vm);
int identity_get(const struct vm *vm, u8 id[IDENTITY_LEN]);
int identity_renew(struct vm *vm);

/* freeze.c: standing still, so that all of a machine can be saved. */
struct freeze {
	void (*done)(struct freeze *f, int err);	/* once: 0, -ECANCELED */
	bool devices;		/* [m] were told as well */
	bool frozen;		/* [m] */
};

int vm_freeze(struct vm *vm, struct freeze *f);
void vm_thaw(struct vm *vm);
void freeze_service(struct vm *vm);

/* vm_state.c: all of a frozen machine but its memory. */
int vm_save(struct vm *vm, struct state *st);
int vm_load(struct vm *vm, const void *data, size_t len, bool moved);

/* disks.c: the disks of a machine; blk.h has one of them. */
struct disks;
int disks_open(struct vm *vm);
int disks_create(struct vm *vm);
void disks_attach(struct vm *vm);
void disks_detach(struct vm *vm);
void disks_close(struct vm *vm);
/*
 * Of a machine that moves.  Files to the storage, from any thread; servers'
 * caches to theirs, which is done when @done is called; let go, so that another
 * host may take them; taken, with a line about one that cannot be.
 */
int disks_sync(struct vm *vm);
void disks_flush(struct vm *vm, void (*done)(void *arg, int err), void *arg);
void disks_flush_end(struct vm *vm);
int disks_let_go(struct vm *vm);
int disks_take(struct vm *vm);
/* Where disk number @nr is now, and its size. */
const char *disks_path(const struct vm *vm, u32 nr);
struct blk *disks_at(const struct vm *vm, u32 nr);
u64 disks_size(const struct vm *vm, u32 nr);

/* control_vm.c: the machine as clients of the control socket see it. */
int control_vm_check(const struct options *opt);
int control_vm_start(struct vm *vm);
void control_vm_stopping(struct vm *vm);
void control_vm_end(void);

/* vcpu.c: the run loop of one vCPU. */
int vcpu_create(struct vm *vm, struct vcpu *vcpu, u32 id);
void vcpu_destroy(struct vcpu *vcpu);
int vcpu_start(struct vcpu *vcpu);
void vcpu_kick(struct vcpu *vcpu);
void vcpu_join(struct vcpu *vcpu);

/* vcpu_init.c: a vCPU before its first instruction. */
int vcpu_init(struct vcpu *vcpu, const struct boot *boot);

/* vcpu_state.c: a vCPU out of the kernel and into it again. */
struct kvm_cpuid2 *vcpu_cpuid(const struct vcpu *vcpu);
int vcpu_save(struct vcpu *vcpu, struct state *st);
int vcpu_load(struct vcpu *vcpu, const void *data, size_t len, u64 late_ns);

/* cpuid.c: what the guest sees of its CPU. */
#define CPUID_ENTRIES_MAX	256
struct kvm_cpuid2 *cpuid_supported(int dev_fd);
void cpuid_for_vcpu(struct kvm_cpuid2 *cpuid, u32 id, u32 cpus, bool deadline);
const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *cpuid,
					  u32 function, u32 index);

/* cpuid_words.c: registers whose bits are features, and the names of these. */
#define CPUID_WORDS		16
#define CPUID_XSTATES		10	/* parts of an XSAVE area */

u32 cpuid_word(const struct kvm_cpuid2 *cpuid, unsigned int word);
void cpuid_put_words(struct kvm_cpuid_entry2 *e, const u32 word[CPUID_WORDS]);
void cpuid_word_name(unsigned int word, char *buf, size_t len);
void cpuid_bit_name(unsigned int word, unsigned int bit, char *buf, size_t len);
bool cpuid_set_bit(u32 word[CPUID_WORDS], const char *name);
u32 cpuid_set_by_us(unsigned int word);

/* cpuid_match.c: may a guest go on here? */
struct cpuid_summary {
	char identity[40];		/* vendor and family */
	char model[CPU_MODEL_NAME_MAX];	/* as it was named, "": the host's */
	u32 word[CPUID_WORDS];		/* features */
	u32 address_bits;		/* physical, 0: not known */
	u32 xstate[CPUID_XSTATES];	/* length << 16 | place, 0: none */
};

void cpuid_vendor(const struct kvm_cpuid2 *cpuid, char vendor[13]);
void cpuid_sum_up(const struct kvm_cpuid2 *cpuid, struct cpuid_summary *sum);
unsigned int cpuid_missing(const struct cpuid_summary *guest,
			   const struct cpuid_summary *host, char *line,
			   size_t max);
int cpuid_match(const struct cpuid_summary *guest,
		const struct cpuid_summary *host, char *why, size_t max);

/* cpuid_model.c: a CPU as a model describes it. */
#define CPU_MODEL_ADDRESS_BITS	40
#define CPU_MODEL_ADDRESS_BITS_LARGE 46	/* of machines that need them */

/* As the host's kernel would have told of it, were it its own; NULL: no memory. */
struct kvm_cpuid2 *cpu_model_cpuid(const struct cpu_model *model,
				   const struct kvm_cpuid2 *host,
				   u32 address_bits);
/* Can this host be it?  Says what it lacks. */
int cpu_model_check(const struct cpu_model *model,
		    const struct kvm_cpuid2 *host, u32 address_bits);
/* What there is, and whether this host can be it. */
int cpu_model_list(const char *dev);

/* irq.c: interrupt lines, messages, and eventfds as both and as doorbells. */
struct irq_routes;

int irq_init(struct vm *vm);
void irq_fini(struct vm *vm);
void irq_line(struct vm *vm, u32 gsi, bool level);
int irq_gsi_alloc(struct vm *vm, unsigned int nr);
int irq_msi_route(struct vm *vm, u32 gsi, u64 addr, u32 data);
int irq_irqfd(struct vm *vm, int fd, u32 gsi, bool on);
int irq_ioeventfd(struct vm *vm, int fd, u64 addr, u32 len, bool pio, bool on);
int irq_doorbell(struct vm *vm, int fd, u32 number);

/* serial.c: a 16550A. */
struct serial_host {
	void (*transmit)(void *arg, u8 byte);	/* may block */
	void (*room)(void *arg);		/* receiver emptied */
	void (*irq)(void *arg, bool level);
	void *arg;
};

struct serial *serial_create(const struct serial_host *host);
struct device *serial_device(struct serial *s);
const struct device_ops *serial_device_ops(void);
void serial_read(void *serial, u64 off, u8 *data, u32 len);
void serial_write(void *serial, u64 off, const u8 *data, u32 len);
size_t serial_receive(struct serial *s, const u8 *data, size_t len);
bool serial_break(struct serial *s);

/* rtc.c: an MC146818 clock. */
struct rtc;
struct rtc *rtc_create(s64 (*now)(void));
struct device *rtc_device(struct rtc *rtc);
const struct device_ops *rtc_device_ops(void);
void rtc_read(void *rtc, u64 off, u8 *data, u32 len);
void rtc_write(void *rtc, u64 off, const u8 *data, u32 len);

/* power.c: ACPI sleep registers, the power button, reset ports, exit port. */
struct power_host {
	void (*stop)(void *arg, int status);
	void (*irq)(void *arg, bool level);
	void *arg;
};

#define POWER_EVENT_BUTTON	0x01	/* bits of the GED's register */
#define POWER_EVENT_GENERATION	0x02

struct device *power_create(const struct power_host *host);
const struct device_ops *power_device_ops(void);
int power_attach(struct device *power, struct iobus *pio, bool exit_port);
void power_button(struct device *power);
void power_generation(struct device *power);

/* aml.c: a small AML emitter. */
struct aml {
	u8 *data;
	size_t len;
	size_t cap;
	bool overflow;
};

struct aml_block {
	size_t start;
};

void aml_byte(struct aml *a, u8 value);
void aml_bytes(struct aml *a, const void *data, size_t len);
void aml_path(struct aml *a, const char *path);
void aml_integer(struct aml *a, u64 value);
void aml_string(struct aml *a, const char *text);
void aml_name(struct aml *a, const char *path);
void aml_name_integer(struct aml *a, const char *path, u64 value);
void aml_name_string(struct aml *a, const char *path, const char *text);
void aml_name_eisaid(struct aml *a, const char *path, const char *id);
struct aml_block aml_scope(struct aml *a, const char *path);
struct aml_block aml_device(struct aml *a, const char *path);
struct aml_block aml_method(struct aml *a, const char *path, u8 args,
			    bool serialized);
struct aml_block aml_package(struct aml *a, u8 elements);
struct aml_block aml_if(struct aml *a);
struct aml_block aml_field(struct aml *a, const char *region, u8 flags);
void aml_end(struct aml *a, struct aml_block block);
void aml_region_io(struct aml *a, const char *path, u16 port, u8 len);
void aml_field_unit(struct aml *a, const char *name, u8 bits);
struct aml_block aml_resources(struct aml *a, const char *path);
void aml_resources_end(struct aml *a, struct aml_block block);
void aml_res_io(struct aml *a, u16 port, u8 len);
void aml_res_irq(struct aml *a, u32 gsi, bool level);

enum aml_space { AML_MEMORY, AML_IO, AML_BUS };

void aml_res_window(struct aml *a, enum aml_space space, u32 first, u32 last);
void aml_res_memory(struct aml *a, u32 base, u32 len);

/* acpi.c: the tables. */
struct acpi_machine {
	u32 cpus;
	u32 pci_slots;		/* a bit each; 0: no PCI */
};

int acpi_build(void *buf, size_t cap, u64 gpa, const struct acpi_machine *m,
	       size_t *used);

/* boot.c: from files to an entry point. */
int boot_load(struct vm *vm, const struct image *kernel,
	      const struct image *initrd);
int boot_check(const struct image *kernel, const struct image *initrd,
	       const char *cmdline, u64 memory, enum boot_mode *mode);
int boot_place_initrd(const struct image *initrd, u64 low_ram, u64 floor,
		      u64 limit, u64 *gpa);

struct boot_range {
	u64 base;
	u64 len;
	u32 type;		/* e820 numbers */
};

unsigned int boot_memory_map(u64 low, u64 high, struct boot_range out[6]);

/* boot_bzimage.c: the 64-bit boot protocol. */
struct bzimage {
	u64 payload_off;	/* protected mode part in the file */
	u64 payload_len;
	u64 load;		/* where it goes */
	u64 end;		/* first byte the kernel does not need at once */
	u64 initrd_max;
	u32 cmdline_max;
	u32 header_len;
	u8 header[0x100];	/* setup_header as found, from offset 0x1f1 */
};

int bzimage_parse(const struct image *img, u64 low_ram, struct bzimage *bz);
int bzimage_load(const struct mem *mem, const struct image *img,
		 const struct image *initrd, const char *cmdline, u64 rsdp,
		 struct boot *boot);

/* boot_elf.c: an ELF kernel with a PVH note. */
#define ELF_MAX_SEGMENTS	32

struct elf_segment {
	u64 off;
	u64 file_len;
	u64 gpa;
	u64 mem_len;
};

struct elf_kernel {
	struct elf_segment seg[ELF_MAX_SEGMENTS];
	u32 nr;
	u32 entry;
	u64 end;
};

bool elf_probe(const struct image *img);
int elf_parse(const struct image *img, u64 low_ram, struct elf_kernel *elf);
int elf_load(const struct mem *mem, const struct image *img,
	     const struct elf_kernel *elf);

/* boot_pvh.c: hvm_start_info. */
int pvh_load(const struct mem *mem, const struct image *img,
	     const struct image *initrd, const char *cmdline, u64 rsdp,
	     struct boot *boot);

/* console.c: the two byte queues between serial port and host. */
struct console_guest {
	size_t (*receive)(void *arg, const u8 *data, size_t len);
	bool (*send_break)(void *arg);
	void (*quit)(void *arg);	/* the escape key's x */
	void (*drained)(void *arg);	/* all output is with the host */
	void (*waits)(void *arg, bool waits);	/* who puts, for room */
	void *arg;
};

struct console *console_create(const struct console_guest *guest);
void console_destroy(struct console *con);
int console_open(struct console *con, enum console_kind kind, const char *path);
void console_close(struct console *con);
void console_put(struct console *con, u8 byte);
void console_room(struct console *con);
void console_service(struct console *con);
bool console_drained(struct console *con);
void console_abandon(struct console *con);
void console_yield(struct console *con, bool yield);
void console_register(struct console *con, const char *name);

/* usock.c: Unix sockets that are listened on. */
struct usock {
	int fd;			/* accepts, or -1 */
	int dir_fd;
	const char *name;	/* in that directory */
	bool bound;		/* the file is ours to remove */
};

void usock_init(struct usock *sock);
int usock_check(const char *option, const char *path);
int usock_listen(struct usock *sock, const char *option, const char *path,
		 int backlog);
void usock_close(struct usock *sock);

/* console_host.c: what the console's bytes come from and go to. */
struct console_host {
	enum console_kind kind;
	const char *path;
	int in;			/* [m] -1 while there is none */
	int out;		/* [m] -1 while there is none */
	struct usock sock;	/* [m] accepts clients */
	char pty[64];		/* [m] the pseudo-terminal's name */
	bool escape;		/* [m] a terminal: the escape key works */
};

/* @option is the one that asks for it, for messages. */
int console_host_check(const char *option, enum console_kind kind,
		       const char *path);
void console_host_init(struct console_host *host);
int console_host_open(struct console_host *host, const char *option,
		      enum console_kind kind, const char *path);
void console_host_close(struct console_host *host);
bool console_host_waits(const struct console_host *host);

/* tty.c: raw mode and the way back. */
int tty_raw(int fd);
void tty_restore(void);
void tty_continue(void);

/* escape.c: the escape key, a pure state machine. */
enum escape_action { ESCAPE_NONE, ESCAPE_QUIT, ESCAPE_BREAK, ESCAPE_HELP };

struct escape {
	bool armed;
};

enum escape_action escape_feed(struct escape *esc, u8 byte, u8 *out,
			       size_t *out_len);

/* signals.c: signals as events of the loop. */
int signals_init(void);
int signals_start(void (*event)(void *arg, int signal), void *arg);
void signals_fini(void);
void signals_hold(bool hold);
int signals_kick_number(void);
void signals_allow_kick(void);

/* notify.c: sd_notify(3)'s protocol. */
int notify_open(void);
int notify_state(const char *text);
void notify_close(void);

/* sandbox.c: what is left to do once the guest runs; jail.h has the means. */
int sandbox_check(const struct options *opt);
int sandbox_enter(const struct options *opt);
int sandbox_lock_main(void);
int sandbox_join(void);
int sandbox_door(const struct options *opt);
int sandbox_lock_vcpu(void);
void sandbox_end(void);

#endif /* PVHV_VMM_H */
