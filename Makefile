# splitd: one network, many nodes.  `make` builds build/splitd and build/splitctl,
# `make demo` runs the main job, `make test` the tests.  README.md has the rest.
#
#   BUILD=dir     where everything that is made goes
#   SAN=address,undefined | thread   compile with sanitizers (into its own folder)
#   V=1           print the commands
#   SYSROOT=dir   build for the machine whose headers and libraries are there (scripts/sysroot)

comma := ,
CC ?= gcc
SAN ?=
SYSROOT ?=
BUILD ?= build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))
# Variable tracking of instrumented, unrolled kernels takes gcc minutes.
CFLAGS ?= $(if $(SAN),-O1 $(if $(findstring clang,$(CC)),,-fno-var-tracking),-O2) -g
VERSION := 0.1.0
PKG_CONFIG ?= pkg-config

# GCC's manual advises against -Werror beside sanitizers: they bring false warnings.
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla \
        $(if $(CI),$(if $(SAN),,-Werror))
BASE := -std=c11 -D_GNU_SOURCE -DSPLITD_VERSION='"$(VERSION)"' -I. -I$(BUILD)/gen -I$(SYSROOT)/usr/include/nanopb -fno-math-errno -pthread \
        $(if $(SYSROOT),--sysroot=$(SYSROOT) -Itest/arm64) \
        $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=undefined -fno-omit-frame-pointer) \
        $(if $(SYSROOT),,$(shell $(PKG_CONFIG) --cflags openblas libcjson 2>/dev/null))
LINK := -pthread $(if $(SYSROOT),--sysroot=$(SYSROOT)) $(if $(SAN),-fsanitize=$(SAN))
Q := $(if $(V),,@)

# What each folder needs from outside (DESIGN.md section 10; scripts/check-includes holds us to it).
LIBS_libsplit := -lprotobuf-nanopb -lcjson -lnettle -ljpeg -lexif -lpng -lopenblas -lm
LIBS_daemon   := -luv -lnng -lmicrohttpd -lgnutls
LIBS_cli      := -lcurl -lgnutls -lnettle

# One file per instruction set, each with its own flags; the machine picks one at run time.
ARCH := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
SIMD_x86_64  := avx512 avx2
SIMD_aarch64 := neon
SIMD := $(SIMD_$(ARCH)) portable
FLAGS_avx512 := -mavx512f -mfma
FLAGS_avx2   := -mavx2 -mfma
SIMD_FILES   := $(SIMD:%=libsplit/simd_%.c) libsplit/simd_$(if $(SIMD_$(ARCH)),$(ARCH),other).c

LIB_DIRS := tiling quant proto libsplit
src = $(sort $(filter-out $(filter-out $(SIMD_FILES),$(wildcard libsplit/simd_*.c)),$(wildcard $(1)/*.c)))
obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

.PHONY: all
all: $(BUILD)/splitd $(BUILD)/splitctl

# ---- libraries: one archive a folder, so that a test links only what its folder may know
define archive
$$(BUILD)/lib$(1).a: $$(call obj,$$(call src,$(1))) $(2)
	@mkdir -p $$(@D)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach d,tiling quant proto,$(eval $(call archive,$(d))))
$(eval $(call archive,libsplit,$$(BUILD)/obj/gen/onnx.pb.o))
$(eval $(call archive,cli))
# The daemon without its main(), for tests.
$(BUILD)/libdaemon.a: $(call obj,$(filter-out daemon/main.c,$(call src,daemon)))
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^

A = $(BUILD)/lib$(1).a
$(BUILD)/splitd: $(call obj,daemon/main.c) $(call A,daemon) $(call A,libsplit) $(call A,proto) $(call A,quant) $(call A,tiling)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(LIBS_daemon) $(LIBS_libsplit)

$(BUILD)/splitctl: $(call A,cli) $(call obj,daemon/config.c daemon/secret.c daemon/tls.c) $(call A,libsplit) $(call A,proto) $(call A,quant) $(call A,tiling)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(LIBS_cli) $(LIBS_libsplit)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC $<")
	$(Q)$(CC) $(BASE) $(CPPFLAGS) $(CFLAGS) $(SIMD_FLAGS) $(WARN) -MMD -MP -c -o $@ $<

# Plain loops, which compilers turn into vectors when asked to.
$(call obj,$(call src,quant)): SIMD_FLAGS := -O3

# ---- ONNX schema: Debian's onnx.proto through nanopb (generated code is not ours to warn about)
$(BUILD)/gen/onnx.pb.c $(BUILD)/gen/onnx.pb.h &: libsplit/onnx.options /usr/include/onnx/onnx.proto
	@mkdir -p $(BUILD)/gen
	$(Q)nanopb_generator.py -q -I/usr/include/onnx -D $(BUILD)/gen -f $< /usr/include/onnx/onnx.proto

$(BUILD)/obj/gen/onnx.pb.o: $(BUILD)/gen/onnx.pb.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/obj/libsplit/onnx_wire.o: $(BUILD)/gen/onnx.pb.h

# ---- unrolled kernels of each instruction set
$(BUILD)/gen/simd_%_kernels.h: scripts/gen-simd
	@mkdir -p $(@D)
	$(Q)scripts/gen-simd $* >$@.part && mv $@.part $@

$(SIMD:%=$(BUILD)/obj/libsplit/simd_%.o): $(BUILD)/obj/libsplit/simd_%.o: $(BUILD)/gen/simd_%_kernels.h
$(foreach i,$(SIMD),$(eval $(BUILD)/obj/libsplit/simd_$(i).o: SIMD_FLAGS := $(FLAGS_$(i))))

# ---- unit tests: test/<folder>/*.c make one Criterion program, linked with what the folder may know
KNOWS_tiling   := tiling
KNOWS_quant    := quant
KNOWS_proto    := proto tiling
KNOWS_libsplit := libsplit quant tiling
KNOWS_daemon   := daemon libsplit proto quant tiling
KNOWS_cli      := cli libsplit proto quant tiling
UNITS := $(foreach d,tiling quant proto libsplit daemon,$(if $(wildcard test/$(d)/*.c),$(d)))

# Emulated machines (SYSROOT) cannot run Criterion, and are too slow for all of ../shared's models.
CRITERION := $(if $(SYSROOT),$(call obj,test/arm64/main.c),-lcriterion)
TOO_SLOW := $(if $(SYSROOT),test/libsplit/test_models.c)

define unit
$$(BUILD)/test-$(1): $$(call obj,$$(filter-out $$(TOO_SLOW),$$(call src,test/$(1)))) $$(filter %.o,$$(CRITERION)) $$(foreach k,$$(KNOWS_$(1)),$$(BUILD)/lib$$(k).a)
	$$(Q)$$(CC) $$(LINK) $$(LDFLAGS) -o $$@ $$^ $$(filter -l%,$$(CRITERION)) $$(if $$(filter daemon,$(1)),$$(LIBS_daemon)) \
	    $$(if $$(filter libsplit daemon,$(1)),$$(LIBS_libsplit)) -lm
.PHONY: test-$(1)
test-$(1): $$(BUILD)/test-$(1)
	$$(BUILD)/test-$(1)
endef
$(foreach d,tiling quant proto libsplit daemon,$(eval $(call unit,$(d))))

# ---- the same as a Raspberry Pi 3, 4 and 5 would run them: cross-built, under qemu.  QUICK=1: most
.PHONY: test-arm64
test-arm64:
	@scripts/install-deps build cross
	@scripts/sysroot build/sysroot
	@$(MAKE) --no-print-directory CC=aarch64-linux-gnu-gcc SYSROOT=$(CURDIR)/build/sysroot BUILD=build/arm64 arm64-programs
	@test/arm64/run.sh $(if $(QUICK),-q) build/arm64 build/sysroot
.PHONY: arm64-programs
arm64-programs: $(BUILD)/splitctl $(foreach d,$(UNITS),$(BUILD)/test-$(d))

# The packages as a Raspberry Pi 3, 4 and 5 would run them.
.PHONY: test-arm64-packages
test-arm64-packages: deb-arm64
	test/arm64/packages.sh

# ---- the two commands of the README: everything they need is installed first
.PHONY: demo test
demo:
	@scripts/install-deps build
	@$(MAKE) --no-print-directory all
	@scripts/demo

# ASan's reports go to files: a leak does not fail a Criterion test (scripts/run-tests looks).
SAN_ENV := $(if $(findstring address,$(SAN)),ASAN_OPTIONS=log_path=$(BUILD)/asan:handle_segv=0 LSAN_OPTIONS=suppressions=test/lsan.supp:print_suppressions=0 SAN_REPORTS=$(BUILD)/asan)
UNIT_PROGRAMS := $(foreach d,$(UNITS),$(BUILD)/test-$(d))

.PHONY: test-units test-threads test-all
test-units: $(UNIT_PROGRAMS)
	@rm -f $(BUILD)/asan.*
	@$(SAN_ENV) scripts/run-tests $(UNIT_PROGRAMS)

# Plain programs with threads, for ThreadSanitizer (Criterion does not run under it).
THREAD_PROGRAMS := $(patsubst test/threads/%.c,$(BUILD)/%,$(call src,test/threads))
$(BUILD)/threads_%: $(BUILD)/obj/test/threads/threads_%.o $(call A,daemon) $(call A,libsplit) $(call A,proto) $(call A,quant) $(call A,tiling)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(LIBS_daemon) $(LIBS_libsplit)
# Their random networks are those of the unit tests.
$(BUILD)/threads_local $(BUILD)/threads_pool $(BUILD)/threads_memory: $(call obj,test/libsplit/net.c test/libsplit/net_reference.c test/libsplit/chain.c)

# Clients and peers for the tests with real daemons.
CLUSTER_PROGRAMS := $(patsubst test/cluster/%.c,$(BUILD)/cluster-%,$(call src,test/cluster))
$(BUILD)/cluster-%: $(BUILD)/obj/test/cluster/%.o $(call A,cli) $(call A,libsplit) $(call A,proto) $(call A,quant) $(call A,tiling)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(LIBS_cli) $(LIBS_libsplit)

test-threads: $(THREAD_PROGRAMS)
	@scripts/run-tests $(THREAD_PROGRAMS)

test:
	@scripts/install-deps build test
	@$(MAKE) --no-print-directory test-all

# ---- the ONNX project's own test cases (Debian's libonnx-testdata), where they are installed
ONNX_DATA := /usr/share/libonnx-testdata/data
CONFORMANCE := $(BUILD)/conformance $(ONNX_DATA) test/conformance/exceptions.txt
.PHONY: conformance
conformance: $(BUILD)/conformance
	@$(CONFORMANCE)
$(BUILD)/conformance: $(BUILD)/obj/test/conformance/conformance.o $(call A,libsplit) $(call A,quant) $(call A,tiling)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(LIBS_libsplit)

test-all: all $(UNIT_PROGRAMS) $(THREAD_PROGRAMS) $(CLUSTER_PROGRAMS) $(BUILD)/conformance
	@rm -f $(BUILD)/asan.*
	@$(SAN_ENV) scripts/run-tests $(UNIT_PROGRAMS) $(THREAD_PROGRAMS) "test/cli/run.sh $(BUILD)" "test/cli/docs.sh $(BUILD)" "test/cli/doctor.sh $(BUILD)" "test/cluster/run.sh $(BUILD)" \
	    "test/train/run.sh $(BUILD)" \
	    "test/cluster/faults.sh -q -b $(BUILD)" "test/cluster/late.sh $(BUILD)" \
	    $(if $(wildcard $(ONNX_DATA)),"$(CONFORMANCE)")

# ---- everything that may happen to a cluster under load, 10 to 50 times each: a quarter of an hour
.PHONY: test-faults
test-faults:
	@scripts/install-deps build test emulate
	@$(MAKE) --no-print-directory all $(CLUSTER_PROGRAMS)
	@test/cluster/faults.sh -b $(BUILD) $(FAULTS)

# ---- fuzzing: one libFuzzer program per decoder, SECONDS each, corpus kept in build/fuzz/corpus
SECONDS ?= 60
FUZZERS := $(patsubst test/fuzz/%.c,%,$(call src,test/fuzz))
.PHONY: fuzz fuzz-programs
fuzz:
	@$(MAKE) --no-print-directory BUILD=build/fuzz CC=clang SAN=address,undefined,fuzzer-no-link fuzz-programs
	@scripts/fuzz build/fuzz $(SECONDS) $(FUZZERS)
fuzz-programs: $(addprefix $(BUILD)/,$(FUZZERS))
$(BUILD)/fuzz_%: $(BUILD)/obj/test/fuzz/fuzz_%.o $(call A,cli) $(call A,daemon) $(call A,libsplit) $(call A,proto) $(call A,quant) $(call A,tiling)
	$(Q)$(CC) -fsanitize=address,undefined,fuzzer $(LDFLAGS) -o $@ $^ $(LIBS_daemon) $(LIBS_libsplit)

# ---- benchmarks: programs, not timed tests.  BENCH_ARGS: --quick, --layers, --only NAME
BENCH_PROGRAMS := $(patsubst test/bench/%.c,$(BUILD)/bench/%,$(call src,test/bench))
$(BUILD)/bench/%: $(BUILD)/obj/test/bench/%.o $(call A,libsplit) $(call A,quant) $(call A,tiling)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(LIBS_libsplit)

# Messages between daemons against plain TCP.
$(BUILD)/bench/bench_link: $(BUILD)/obj/test/bench/bench_link.o $(call A,daemon) $(call A,libsplit) $(call A,proto) $(call A,quant) $(call A,tiling)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(LIBS_daemon) $(LIBS_libsplit)

.PHONY: bench bench-cluster bench-link bench-halo
bench-link: $(BUILD)/bench/bench_link
	@$<
bench:
	@scripts/install-deps build
	@scripts/install-deps bench || echo "bench: going on with what is here"
	@$(MAKE) --no-print-directory all $(BENCH_PROGRAMS)
	@scripts/bench --build $(BUILD) $(BENCH_ARGS)
	@$(BUILD)/bench/bench_codec
bench-halo:
	@scripts/install-deps build
	@scripts/install-deps train || echo "bench-halo: going on with what is here"
	@$(MAKE) --no-print-directory all
	@scripts/bench-halo --build $(BUILD) $(BENCH_ARGS)
bench-cluster:
	@scripts/install-deps build bench emulate
	@$(MAKE) --no-print-directory all $(BENCH_PROGRAMS)
	@scripts/bench-cluster --build $(BUILD) $(BENCH_ARGS)

# ---- style, borders, static analysis
SOURCES := $(foreach d,$(LIB_DIRS) daemon cli,$(call src,$(d)))
HEADERS := $(foreach d,$(LIB_DIRS) daemon cli,$(wildcard $(d)/*.h))
TESTS := $(wildcard test/*/*.[ch])
SCRIPTS := $(shell grep -lE '^\#!.*\b(sh|bash)' scripts/* test/*/*.sh .ci/run 2>/dev/null)
.PHONY: check format
check: $(BUILD)/gen/onnx.pb.h
	@clang-format --dry-run -Werror $(SOURCES) $(HEADERS) $(TESTS)
	scripts/check-includes
	scripts/check-architecture
	shellcheck $(SCRIPTS)
	@scripts/tidy $(filter-out $(SIMD_FILES),$(SOURCES)) -- $(BASE)
	@echo "check: done"
format:
	clang-format -i $(SOURCES) $(HEADERS) $(TESTS)

# ---- man pages, installation, Debian packages
DESTDIR ?=
PREFIX ?= /usr/local
MAN := $(patsubst conf/man/%.scd,$(BUILD)/man/%,$(wildcard conf/man/*.scd))
$(BUILD)/man/%: conf/man/%.scd
	@mkdir -p $(@D)
	$(Q)scdoc <$< >$@.part && mv $@.part $@

.PHONY: man install deb deb-arm64
man: $(MAN)
# Unit and cluster.json are the package's: see debian/.
install: all man
	install -D -m 755 $(BUILD)/splitd $(DESTDIR)$(PREFIX)/sbin/splitd
	install -D -m 755 $(BUILD)/splitctl $(DESTDIR)$(PREFIX)/bin/splitctl
	for page in $(MAN); do install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit; done
	install -D -m 644 conf/completion/splitctl $(DESTDIR)$(PREFIX)/share/bash-completion/completions/splitctl

# .deb files in build/.
deb:
	@scripts/install-deps build package
	@scripts/deb amd64
deb-arm64:
	@scripts/install-deps build package cross
	@scripts/deb arm64

# The packages in containers that boot Debian 12 and 13.  Needs root, takes minutes.
.PHONY: test-service
test-service: deb
	@scripts/install-deps service
	scripts/run-tests test/service/run.sh test/service/walk.sh

.PHONY: clean
clean:
	rm -rf build

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
