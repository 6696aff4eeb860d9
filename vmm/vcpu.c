// SPDX-License-Identifier: GPL-2.0
/*
 * The run loop of one vCPU: the userspace twin of kmod/run.c.
 *
 * A vCPU thread runs the guest, answers its port and memory accesses and ends
 * when the machine stops.  To stop it: immediate_exit, then the kick signal,
 * which takes it out of KVM_RUN whether it was in it or just before.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm.h"

#define STACK_SIZE	(128 * KIB)

static void port_access(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct iobus *bus = &vcpu->vm->pio;
	u8 *data = (u8 *)run + run->io.data_offset;
	u32 i, size = run->io.size;

	for (i = 0; i < run->io.count; i++, data += size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			iobus_write(bus, run->io.port, data, size);
		else
			iobus_read(bus, run->io.port, data, size);
	}
}

static void memory_access(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct iobus *bus = &vcpu->vm->mmio;
	u32 len = run->mmio.len;

	if (len > sizeof(run->mmio.data))
		len = sizeof(run->mmio.data);
	if (run->mmio.is_write)
		iobus_write(bus, run->mmio.phys_addr, run->mmio.data, len);
	else
		iobus_read(bus, run->mmio.phys_addr, run->mmio.data, len);
}

/* What is known of a vCPU that cannot go on, as part of one line. */
static void describe(struct vcpu *vcpu, char *buf, size_t len)
{
	struct kvm_sregs s = { 0 };
	struct kvm_regs r = { 0 };

	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) ||
	    ioctl(vcpu->fd, KVM_GET_SREGS, &s)) {
		snprintf(buf, len, "registers unknown");
		return;
	}
	snprintf(buf, len,
		 "rip=%llx rsp=%llx rflags=%llx rax=%llx rbx=%llx rcx=%llx rdx=%llx rsi=%llx rdi=%llx cs=%x ss=%x cr0=%llx cr2=%llx cr3=%llx cr4=%llx efer=%llx",
		 r.rip, r.rsp, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi,
		 r.rdi, s.cs.selector, s.ss.selector, s.cr0, s.cr2, s.cr3,
		 s.cr4, s.efer);
}

static void stop_with(struct vcpu *vcpu, int status, const char *why)
{
	char regs[400];

	/* Another vCPU's end may be what this one stumbled over. */
	if (vm_stopping(vcpu->vm))
		return;
	describe(vcpu, regs, sizeof(regs));
	fail(-EIO, "vCPU %u: %s: %s", vcpu->id, why, regs);
	vm_stop(vcpu->vm, status);
}

static void internal_error(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	char why[160];
	int len, i;

	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
		snprintf(why, sizeof(why), "internal error %u of the kernel",
			 run->internal.suberror);
		stop_with(vcpu, STATUS_INTERNAL, why);
		return;
	}
	len = snprintf(why, sizeof(why), "the kernel cannot emulate an instruction");
	if (run->emulation_failure.ndata >= 3 &&
	    (run->emulation_failure.flags &
	     KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		len += snprintf(why + len, sizeof(why) - len, ", bytes");
		for (i = 0; i < run->emulation_failure.insn_size && i < 15; i++)
			len += snprintf(why + len, sizeof(why) - len, " %02x",
					run->emulation_failure.insn_bytes[i]);
	}
	stop_with(vcpu, STATUS_INTERNAL, why);
}

static void failed_entry(struct vcpu *vcpu)
{
	char why[80];

	snprintf(why, sizeof(why), "the CPU refused to enter the guest, reason 0x%llx",
		 vcpu->run->fail_entry.hardware_entry_failure_reason);
	stop_with(vcpu, STATUS_INTERNAL, why);
}

static void unknown_exit(struct vcpu *vcpu)
{
	char why[80];

	snprintf(why, sizeof(why), "unknown exit %u from the kernel",
		 vcpu->run->exit_reason);
	stop_with(vcpu, STATUS_INTERNAL, why);
}

static void handle_exit(struct vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		port_access(vcpu);
		break;
	case KVM_EXIT_MMIO:
		memory_access(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_HLT:		/* woken; the kernel waits the next time */
		break;
	case KVM_EXIT_SHUTDOWN:
		stop_with(vcpu, STATUS_TRIPLE_FAULT,
			  "the guest ended by a triple fault");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		failed_entry(vcpu);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		internal_error(vcpu);
		break;
	default:
		unknown_exit(vcpu);
		break;
	}
}

/*
 * A guest that was held would find its watchdogs expired; one without kvmclock
 * cannot be told, which is no error.
 */
static void interrupted(struct vcpu *vcpu)
{
	if (atomic_exchange(&vcpu->nap, false))
		pause_nap(vcpu->vm, atomic_load(&vcpu->vm->nap_us));
	if (pause_park(vcpu->vm, &vcpu->run->immediate_exit) &&
	    ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0))
		return;
}

static void *run_loop(void *arg)
{
	struct vcpu *vcpu = arg;
	struct vm *vm = vcpu->vm;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", vcpu->id);
	pthread_setname_np(pthread_self(), name);
	signals_allow_kick();
	if (sandbox_lock_vcpu())
		vm_stop(vm, STATUS_ERROR);
	/* One that has run, if only for this, does not take another CPUID. */
	pause_park(vm, &vcpu->run->immediate_exit);
	while (!vm_stopping(vm)) {
		if (!ioctl(vcpu->fd, KVM_RUN, 0)) {
			handle_exit(vcpu);
		} else if (errno == EINTR) {
			interrupted(vcpu);
		} else if (errno != EAGAIN) {
			char why[80];

			snprintf(why, sizeof(why), "KVM_RUN: %s",
				 strerror(errno));
			stop_with(vcpu, STATUS_INTERNAL, why);
		}
	}
	/* Last words: after this the main thread may take the VM down. */
	if (atomic_fetch_sub(&vm->running, 1) == 1)
		loop_wake();
	return NULL;
}

int vcpu_create(struct vm *vm, struct vcpu *vcpu, u32 id)
{
	int err;

	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->run_size = vm->run_size;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)id);
	if (vcpu->fd < 0)
		return fail(-errno, "%s: cannot create vCPU %u: %s",
			    vm->opt->dev, id, strerror(errno));
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		err = -errno;
		close(vcpu->fd);
		return fail(err, "%s: cannot map vCPU %u: %s", vm->opt->dev, id,
			    strerror(-err));
	}
	return 0;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	munmap(vcpu->run, vcpu->run_size);
	close(vcpu->fd);
}

int vcpu_start(struct vcpu *vcpu)
{
	size_t stack = STACK_SIZE;
	pthread_attr_t attr;
	int ret;

	if (stack < (size_t)PTHREAD_STACK_MIN)
		stack = PTHREAD_STACK_MIN;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack);
	atomic_fetch_add(&vcpu->vm->running, 1);
	ret = pthread_create(&vcpu->thread, &attr, run_loop, vcpu);
	pthread_attr_destroy(&attr);
	if (ret) {
		atomic_fetch_sub(&vcpu->vm->running, 1);
		return fail(-ret, "cannot start the thread of vCPU %u: %s",
			    vcpu->id, strerror(ret));
	}
	vcpu->started = true;
	return 0;
}

void vcpu_kick(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (vcpu->started)
		pthread_kill(vcpu->thread, signals_kick_number());
}

void vcpu_join(struct vcpu *vcpu)
{
	if (vcpu->started)
		pthread_join(vcpu->thread, NULL);
	vcpu->started = false;
}
