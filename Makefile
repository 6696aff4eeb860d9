# SPDX-License-Identifier: GPL-2.0
#
# `make help` lists the targets.

VERSION := 0.1
MAKEFLAGS += --no-print-directory

# The headers the module is built for: the running kernel's, else the newest installed.
ifndef KDIR
KDIR := $(firstword $(wildcard /lib/modules/$(shell uname -r)/build/.) \
	$(shell ls -d /lib/modules/*/build/. 2>/dev/null | sort -rV))
KDIR := $(KDIR:/.=)
endif
KRELEASE ?= $(or $(shell sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' $(KDIR)/include/generated/utsrelease.h 2>/dev/null),unknown)
# One directory per kernel, so that builds for two kernels live side by side.
BUILD := build/$(KRELEASE)

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
COMPDIR ?= $(PREFIX)/share/bash-completion/completions
LIBEXECDIR ?= $(PREFIX)/libexec/pvhv
UNITDIR ?= /lib/systemd/system
UDEVDIR ?= /lib/udev/rules.d
DKMSDIR ?= /usr/src/pvhv-$(VERSION)
PVDRIVERSDIR ?= /usr/src/pvhv-guest-$(VERSION)

# make demo, make check: the emulated host's and the guest's kernel
KERNEL ?= 6.1

all: module migrate vmm selftests

help:
	@echo 'make               module (KDIR=$(KDIR)), VMM and tests'
	@echo 'make module        build/RELEASE/pvhv.ko for the headers in KDIR (W=1 and C=1 as in the kernel)'
	@echo 'make pvdrivers     drivers for guests, in build/guest-RELEASE/, for the headers in KDIR'
	@echo 'make vmm           vmm/pvhv-run, vmm/pvhvctl'
	@echo 'make migrate       migrate/libmigrate.a, migrate/pvhv-stream'
	@echo 'make selftests     the test programs'
	@echo "make demo          boots a Debian on pvhv from its disk, to a shell; with CMD='...' runs that instead"
	@echo 'make check         runs the tests in emulated hosts (6.1 and 6.12, 1 and 2 CPUs); make check-long: the slow ones too'
	@echo 'make bench         path lengths of pvhv and the stock kvm_amd, of their boots, disks, networks and moves, side by side'
	@echo 'make install       module by DKMS, binaries, udev rule, systemd unit, man pages (DESTDIR, PREFIX)'
	@echo 'make uninstall     takes them away again'
	@echo 'make clean'

# Kbuild writes objects beside the sources, so the sources are linked into the build directory.
module:
	@[ -d "$(KDIR)" ] || { echo "make: no kernel headers: install linux-headers-amd64 or set KDIR=" >&2; exit 1; }
	@mkdir -p build
	+@flock $(BUILD).lock sh -ec 'selftests/host/mirror $(BUILD); $(MAKE) -C $(KDIR) M=$(CURDIR)/$(BUILD) CONFIG_DEBUG_INFO_BTF_MODULES= modules'

migrate:
	$(MAKE) -C migrate

# For the kernel of a guest, with the headers in KDIR
pvdrivers:
	@[ -d "$(KDIR)" ] || { echo "make: no kernel headers: install linux-headers-amd64 or set KDIR=" >&2; exit 1; }
	@mkdir -p build
	+@flock build/guest-$(KRELEASE).lock sh -ec 'selftests/host/mirror --guest build/guest-$(KRELEASE); \
		$(MAKE) -C $(KDIR) M=$(CURDIR)/build/guest-$(KRELEASE) CONFIG_DEBUG_INFO_BTF_MODULES= modules'

vmm:
	$(MAKE) -C vmm

selftests:
	$(MAKE) -C selftests

# make says 0 or 2; with the help of a small plugin, `make demo` says what the guest's command said.
ifneq ($(filter demo,$(MAKECMDGOALS)),)
-load build/makestatus.so
endif

build/makestatus.so: selftests/host/makestatus.c
	@selftests/host/deps gcc libc6-dev make
	@mkdir -p build
	@$(CC) -shared -fPIC -o $@ $<

demo: demo-run
	@$(makestatus $(file < build/demo.status))exit $(file < build/demo.status)

demo-run: export CMD := $(value CMD)
demo-run:
	@mkdir -p build
	@selftests/host/demo --kernel $(KERNEL) -- $${CMD:+"$$CMD"}; echo $$? >build/demo.status

check:
	+@selftests/host/check

check-long:
	+@selftests/host/check --long

# Disks where kernels take a huge page as one piece: docs/design.md, "A request's way"
bench:
	+@status=0; for part in bench bench-boot bench-net bench-migrate; do \
		selftests/host/$$part --kernel $(KERNEL) || status=1; done; \
		selftests/host/bench-disk --kernel 6.12 --guest 6.12 || status=1; exit $$status

install: vmm migrate
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(UDEVDIR) $(DESTDIR)$(DKMSDIR)
	install -m 755 vmm/pvhv-run vmm/pvhvctl migrate/pvhv-stream $(DESTDIR)$(BINDIR)/
	install -d $(DESTDIR)$(LIBEXECDIR)
	install -m 755 vmm/image/debian vmm/image/tar2ext4 $(DESTDIR)$(LIBEXECDIR)/
	install -D -m 644 vmm/completion/pvhvctl $(DESTDIR)$(COMPDIR)/pvhvctl
	for unit in vmm/systemd/*.service; do \
		sed 's|/usr/bin/pvhv-run|$(BINDIR)/pvhv-run|' $$unit >$(DESTDIR)$(UNITDIR)/$${unit##*/} && \
		chmod 644 $(DESTDIR)$(UNITDIR)/$${unit##*/} || exit 1; done
	install -m 644 kmod/udev/60-pvhv.rules $(DESTDIR)$(UDEVDIR)/
	for page in docs/man/*.[1-8]; do \
		install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/} || exit 1; done
	rm -rf $(DESTDIR)$(DKMSDIR)/*
	cp -r Kbuild LICENSE kmod uapi $(DESTDIR)$(DKMSDIR)/
	sed 's/@VERSION@/$(VERSION)/' dkms.conf >$(DESTDIR)$(DKMSDIR)/dkms.conf
	install -d $(DESTDIR)$(PVDRIVERSDIR)
	rm -rf $(DESTDIR)$(PVDRIVERSDIR)/*
	cp -r LICENSE uapi pvdrivers/Kbuild pvdrivers/*.[ch] $(DESTDIR)$(PVDRIVERSDIR)/
	sed 's/@VERSION@/$(VERSION)/' pvdrivers/dkms.conf >$(DESTDIR)$(PVDRIVERSDIR)/dkms.conf
ifeq ($(DESTDIR),)
	getent group kvm >/dev/null || groupadd --system kvm
	selftests/host/deps dkms
	if dkms status pvhv/$(VERSION) | grep -q .; then dkms remove pvhv/$(VERSION) --all; fi
	dkms add pvhv/$(VERSION)
	for dir in /lib/modules/*/build/; do \
		release=$${dir#/lib/modules/}; dkms install pvhv/$(VERSION) -k $${release%%/*} || exit 1; done
	-! command -v udevadm >/dev/null || udevadm control --reload
	-! [ -d /run/systemd/system ] || systemctl daemon-reload
	@echo "Now: modprobe pvhv. Users of the group kvm may use /dev/pvhv."
	@echo "For guests: copy $(PVDRIVERSDIR) into them, then: dkms install pvhv-guest/$(VERSION)"
endif

uninstall:
ifeq ($(DESTDIR),)
	-dkms remove pvhv/$(VERSION) --all
endif
	rm -rf $(DESTDIR)$(DKMSDIR) $(DESTDIR)$(PVDRIVERSDIR)
	rm -f $(DESTDIR)$(BINDIR)/pvhv-run $(DESTDIR)$(BINDIR)/pvhvctl $(DESTDIR)$(BINDIR)/pvhv-stream $(DESTDIR)$(COMPDIR)/pvhvctl $(DESTDIR)$(UDEVDIR)/60-pvhv.rules
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(notdir $(wildcard vmm/systemd/*.service)))
	rm -rf $(DESTDIR)$(LIBEXECDIR)
	for page in docs/man/*.[1-8]; do rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}; done

clean:
	rm -rf build
	$(MAKE) -C migrate clean
	[ ! -f vmm/Makefile ] || $(MAKE) -C vmm clean
	[ ! -f selftests/Makefile ] || $(MAKE) -C selftests clean

.PHONY: all help module pvdrivers migrate vmm selftests demo demo-run check check-long bench install uninstall clean
