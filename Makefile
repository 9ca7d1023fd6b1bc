# SPDX-License-Identifier: GPL-2.0
# qat-iommu: 'make help' lists what can be made. Kbuild describes the module.

MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := module

KDIR ?= /lib/modules/$(shell uname -r)/build
KERNEL ?= stock
PREFIX ?= /usr/local
libdir ?= $(PREFIX)/lib
includedir ?= $(PREFIX)/include
bindir ?= $(PREFIX)/bin
VERSION := 0.1.0

.PHONY: help module stock user run test test-debug test-debug-short test-churn fuzz coverage bench peer lint clean install vm-deps vm-deps-no-module setup deb test-deb test-readme

##@ For the machine at hand

module: ## the module for the running kernel (KDIR=... for another), with the host's own tools
	@scripts/check-kdir "$(KDIR)"
	@scripts/build-module host "$(KDIR)"

install: ## module, library, tool, headers, man pages, udev rule (DESTDIR, PREFIX, KDIR)
	@scripts/install "$(KDIR)" "$(VERSION)"
export DESTDIR PREFIX libdir includedir bindir mandir sysconfdir moddir

##@ In the build root, made at first use

run: ## from nothing to the demonstration: seven steps with real DMA in a virtual machine
	@scripts/setup
	@scripts/demo

test: ## every suite on the stock kernel (SUITE=name for one)
	@scripts/setup
	@scripts/test $(SUITE)

test-debug: ## chosen suites on the debug kernel: KASAN, lockdep, kmemleak (SUITE=name for one)
	@scripts/setup --debug
	@scripts/test --debug $(SUITE)

test-debug-short: ## a few of those suites
	@scripts/setup --debug
	@scripts/test --debug --short

test-churn: ## a thousand random events on the debug kernel (20 minutes)
	@scripts/setup --debug
	@scripts/test --churn

bench: ## what mapping costs, beside VFIO, libusdm, iommufd and the kernel's own floor (docs/performance.md)
	@scripts/setup --perf
	@scripts/bench

fuzz: ## random commands against a model, on the debug kernel (OPS=1000000, IOMMU=, SEED=)
	@scripts/fuzz $(if $(OPS),--ops $(OPS)) $(if $(SEED),--seed $(SEED)) $(if $(IOMMU),--iommu $(IOMMU))

coverage: ## which lines of the module the suites reach, on both kernels (an hour)
	@scripts/coverage

stock: setup ## the module and the test modules for the cached stock kernel
	@scripts/build-module $(KERNEL)

user: setup ## library and programs, into build/lib and build/bin
	@scripts/build-user

peer: setup ## one program on libusdm, on libusdm with our library, and on ours with the module
	@scripts/peer

deb: setup ## the Debian packages, into build/deb
	@scripts/deb

test-deb: ## install, upgrade, remove and boot the packages in a clean root
	@scripts/deb-test

test-readme: ## the README's first steps, typed in a fresh root and timed (root or sudo)
	@scripts/readme-test

lint: setup ## every formatter and linter
	@scripts/lint

setup: ## the build root and the prepared kernel, if they are missing
	@scripts/setup

clean: ## remove what was built (not the cache)
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

# What scripts/vm needs.
vm-deps: stock user
vm-deps-no-module: user
