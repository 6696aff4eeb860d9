// SPDX-License-Identifier: GPL-2.0
/*
 * pvhv-run: one process, one virtual machine.
 *
 * Everything that can be wrong is looked at before anything is made: command
 * line, files, memory, device.  Then the machine is built, loaded, run and
 * taken down; the exit status says how the guest ended (pvhv-run(1)).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "blk.h"
#include "move.h"
#include "net.h"
#include "port.h"

/* A descriptor that we open must not become somebody's standard output. */
static int fill_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return fail(-errno, "/dev/null: %s", strerror(errno));
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

static const char *console_name(const struct options *opt)
{
	static const char * const names[] = {
		[CONSOLE_STDIO] = "stdio", [CONSOLE_PTY] = "pty",
		[CONSOLE_FILE] = "file ", [CONSOLE_SOCKET] = "socket ",
		[CONSOLE_CONTROL] = "control", [CONSOLE_NONE] = "none",
	};

	return names[opt->console];
}

static void print_plan(const struct options *opt, enum boot_mode mode)
{
	u32 i;

	if (opt->name)
		printf("name:     %s\n", opt->name);
	printf("device:   %s\n", opt->dev);
	printf("kernel:   %s (%s)\n", opt->kernel, mode == BOOT_PVH ?
	       "ELF, PVH entry" : "bzImage, 64-bit entry");
	printf("initrd:   %s\n", opt->initrd ? opt->initrd : "none");
	printf("append:   %s\n", opt->append);
	printf("cpus:     %u (%s)\n", opt->cpus,
	       opt->cpu_model ? opt->cpu_model : CPU_MODEL_HOST);
	printf("memory:   %llu MiB\n", (unsigned long long)(opt->memory / MIB));
	for (i = 0; i < opt->nr_disks; i++)
		disk_options_print(&opt->disks[i]);
	for (i = 0; i < opt->nr_nets; i++)
		net_options_print(&opt->nets[i]);
	printf("console:  %s%s\n", console_name(opt),
	       opt->console_path ? opt->console_path : "");
	for (i = 0; i < opt->nr_ports; i++)
		port_options_print(&opt->ports[i]);
	if (opt->balloon)
		printf("balloon:  keeps %llu MiB\n", (unsigned long long)
		       ((opt->balloon_opt.keep ? opt->balloon_opt.keep :
			 opt->memory) / MIB));
	if (opt->rng)
		printf("rng:      yes\n");
	if (opt->control)
		printf("control:  %s\n", opt->control);
	if (opt->exit_port)
		printf("exit:     port 0x%x\n", PORT_EXIT);
}

static int build(struct vm *vm, const struct image *kernel,
		 const struct image *initrd)
{
	int ret;

	ret = vm_create(vm);
	if (!ret)
		ret = boot_load(vm, kernel, initrd);
	if (!ret)
		ret = identity_make(vm);
	if (!ret)
		ret = vm_add_vcpus(vm);
	return ret;
}

/* All but what is run, and the device that runs it. */
static int check_host(struct vm *vm)
{
	const struct options *opt = vm->opt;
	int ret;
	u32 i;

	ret = console_host_check("--console", opt->console,
					 opt->console_path);
	if (!ret)
		ret = ports_check(opt);
	for (i = 0; !ret && i < opt->nr_nets; i++)
		ret = net_check(&opt->nets[i]);
	if (!ret)
		ret = control_vm_check(opt);
	if (!ret)
		ret = sandbox_check(opt);
	return ret ? ret : disks_open(vm);
}

static int check(struct vm *vm, const struct image *kernel,
		 const struct image *initrd, enum boot_mode *mode)
{
	const struct options *opt = vm->opt;
	int ret;

	ret = mem_check_host(opt->memory);
	if (!ret)
		ret = boot_check(kernel, initrd, opt->append, opt->memory,
				 mode);
	if (!ret)
		ret = check_host(vm);
	return ret ? ret : vm_open(vm);
}

/* Of a machine that was saved, by its own options: they are known by now. */
static int build_saved(struct vm *vm)
{
	int ret;

	ret = mem_check_host(vm->opt->memory);
	if (!ret)
		ret = check_host(vm);
	if (!ret)
		ret = vm_create(vm);
	return ret ? ret : vm_add_vcpus(vm);
}

static int run_saved(struct options *opt)
{
	struct vm vm;
	int ret;

	vm_init(&vm, opt);
	ret = move_restore(&vm, opt, build_saved);
	if (!ret)
		ret = vm_run(&vm);
	vm_destroy(&vm);
	return ret;
}

static int run_incoming(struct options *opt)
{
	struct vm vm;
	int ret, err;

	vm_init(&vm, opt);
	ret = move_receive(&vm, opt, build_saved);
	if (!ret)
		ret = vm_run(&vm);
	err = move_receive_end(&vm);
	vm_destroy(&vm);
	return ret ? ret : err;
}

static int run(const struct options *opt)
{
	struct image kernel = { .fd = -1 }, initrd = { .fd = -1 };
	const struct image *rd = opt->initrd ? &initrd : NULL;
	enum boot_mode mode;
	struct vm vm;
	int ret;

	vm_init(&vm, opt);
	ret = image_open(&kernel, "kernel", opt->kernel);
	if (ret)
		return ret;
	if (rd)
		ret = image_open(&initrd, "initrd", opt->initrd);
	if (!ret)
		ret = check(&vm, &kernel, rd, &mode);
	if (ret)
		goto out;
	if (opt->dry_run) {
		print_plan(opt, mode);
		goto out;
	}
	ret = build(&vm, &kernel, rd);
	/* In guest memory by now, or not needed any more. */
	image_close(&kernel);
	image_close(&initrd);
	if (!ret)
		ret = vm_run(&vm);
out:
	vm_destroy(&vm);
	image_close(&initrd);
	image_close(&kernel);
	return ret;
}

static void set_process_name(const struct options *opt)
{
	char name[16];

	if (!opt->name)
		return;
	snprintf(name, sizeof(name), "pvhv:%s", opt->name);
	prctl(PR_SET_NAME, name);
}

int main(int argc, char **argv)
{
	struct options opt;
	int ret;

	ret = fill_standard_fds();
	if (ret)
		return STATUS_ERROR;
	ret = options_parse(&opt, argc, argv);
	if (ret)
		return STATUS_ERROR;
	if (opt.help) {
		options_help();
	} else if (opt.version) {
		puts("pvhv-run " VMM_VERSION);
	} else if (opt.cpu_model_list) {
		ret = cpu_model_list(opt.dev);
	} else {
		set_process_name(&opt);
		ret = signals_init();
		if (!ret)
			ret = opt.incoming ? run_incoming(&opt) :
			      opt.restore ? run_saved(&opt) : run(&opt);
	}
	if (ret >= 0 && fflush(stdout))
		ret = fail(-EIO, "cannot write to standard output");
	options_free(&opt);
	move_forget();
	return ret < 0 ? STATUS_ERROR : ret;
}
