# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
#
# Emulated Intel hosts: Bochs in place of QEMU. Expects run's variables. docs/emulated-hosts.md describes it.

BOCHS_LIB=$HOST_LIB/bochs

# bochs_model CPU: prints the name of Bochs' model; fails where CPU is for QEMU
bochs_model() {
	case $1 in
	intel) echo corei7_skylake_x ;;
	intel-haswell) echo corei7_haswell_4770 ;;
	amd-ryzen) echo ryzen ;;
	*) return 1 ;;
	esac
}

# Emulated instructions a second: time passes as fast as Bochs runs, about. A guest in the guest runs slower.
bochs_ips() { [ -n "$guests" ] && echo 500000000 || echo 50000000; }

# What of a kernel's boot costs many instructions and is nothing that tests are about; time is by the emulated TSC.
bochs_append() {
	echo "nokaslr mitigations=off lsm= audit=0 ima=off nowatchdog cryptomgr.notests random.trust_cpu=on rcupdate.rcu_expedited=1" \
		"8250.nr_uarts=1 i8042.noaux i8042.nokbd i8042.nopnp rodata=off tsc_early_khz=$(($(bochs_ips) / 1000))" \
		"initcall_blacklist=trace_eval_init,init_kprobe_trace,cubictcp_register pvhv.vmx_slice_us=1000"
	# MWAIT in Bochs does not see what another CPU writes: a wake-up is lost until something else interrupts
	[ "$smp" = 1 ] || echo idle=nomwait
	# An exit amid the delivery of a virtual interrupt names, in Bochs, the event before it, which would be delivered again
	[ -z "$guests" ] || echo pvhv.vmx_virtual_apic=0
	case $cpu in
	# Bochs 2.7 loses vector registers in XSAVE and XRSTOR: a program with AVX finds zeros after a switch to another
	intel*) echo noxsave ;;
	# 6.1 hangs early otherwise
	amd-ryzen) echo clearcpuid=221 ;;
	esac
}

bochs_tools() { # DIR
	local dir=$1 freestanding
	freestanding=(-m32 -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -mno-sse -Os)
	gcc "${freestanding[@]}" -Wall -c "$BOCHS_LIB/loader.c" -o "$dir/loader.o" &&
		gcc -m32 -c "$BOCHS_LIB/loader.S" -o "$dir/start.o" &&
		ld -m elf_i386 -z noexecstack --no-warn-rwx-segments -T "$BOCHS_LIB/loader.ld" -o "$dir/loader.elf" \
			"$dir/start.o" "$dir/loader.o" &&
		objcopy -O binary "$dir/loader.elf" "$dir/loader" &&
		gcc -O2 -Wall -o "$dir/mkdisk" "$BOCHS_LIB/mkdisk.c" && gcc -O2 -Wall -o "$dir/frames" "$BOCHS_LIB/frames.c"
}

bochs_config() { # MODEL DISK CONSOLE LOG
	local megabytes=${memory%[MG]}
	case $memory in *G) megabytes=$((megabytes * 1024)) ;; esac
	cat <<-RC
		config_interface: textconfig
		display_library: rfb, options="timeout=0"
		cpu: model=$1, count=$smp, ips=$(bochs_ips), reset_on_triple_fault=0, ignore_bad_msrs=1
		memory: guest=$megabytes, host=$megabytes
		romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
		vgaromimage: file=/usr/share/vgabios/vgabios.bin
		ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
		ata0-master: type=disk, mode=flat, path=$2, cylinders=0
		boot: disk
		clock: sync=none
		com1: enabled=1, mode=file, dev=$3
		port_e9_hack: enabled=1
		sound: waveoutdrv=dummy
		plugin_ctrl: speaker=0
		mouse: enabled=0
		log: $4
		panic: action=fatal
		error: action=ignore
		info: action=ignore
		debug: action=ignore
	RC
}

# The machine, until it ends; sets emulator_status (124: time-out) and writes the report to $tmp/ctl.
bochs_run() {
	local model alone=(unshare -n) limit=()
	model=$(bochs_model "$cpu")
	bochs_tools "$tmp" || die "the loader for Bochs does not build"
	"$tmp/mkdisk" "$tmp/loader" "$image" "$initrd" "$cmdline $(bochs_append | tr '\n' ' ')$append" "$tmp/disk" || die "can't make the disk for Bochs"
	rm -f "$initrd"
	bochs_config "$model" "$tmp/disk" "$tmp/console" "$tmp/bochs.log" >"$tmp/bochsrc"
	echo c >"$tmp/bochs.commands"
	# its display is a port that it listens on: where nobody is
	[ "$(id -u)" = 0 ] || alone=(unshare -rn)
	[ "$timeout" = 0 ] || limit=(timeout --foreground -k 5 "$timeout")
	mkfifo "$tmp/bochs.out"
	setpriv --pdeathsig TERM "${alone[@]}" "${limit[@]}" bochs-bin -q -f "$tmp/bochsrc" -rc "$tmp/bochs.commands" \
		</dev/null >"$tmp/bochs.out" 2>"$tmp/emulator" &
	emulator_pid=$!
	"$tmp/frames" "$tmp/ctl" <"$tmp/bochs.out"
	frames_status=$?
	[ "$frames_status" = 0 ] || kill "$emulator_pid" 2>/dev/null
	wait "$emulator_pid"
	emulator_status=$?
	emulator_pid=''
	[ "$frames_status" != 141 ] || exit 141
	# it always ends with 1; what it says there is of no use
	if [ "$emulator_status" = 1 ] || [ "$frames_status" != 0 ]; then
		emulator_status=0
		: >"$tmp/emulator"
	fi
	! grep -qx end "$tmp/ctl" || return 0
	grep -a PANIC "$tmp/bochs.log" | tail -n 1 >&2
}
