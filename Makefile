# qs: `make` builds, `make demo` shows, `make test` proves. `make help` lists all targets.
#
# FLAVOUR = release | asan | tsan : each has its own folder below build/. V=1 shows the commands.

FLAVOUR ?= release
# Debian's own, by its place: the first python3 in PATH need not be that one, and none may be there yet
# when make reads this.
PYTHON  := /usr/bin/python3
CC      := gcc
Q       := $(if $(V),,@)
BUILD   := build/$(FLAVOUR)

WARN := -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
        -Wvla -Wundef -Wno-missing-field-initializers
release_FLAGS := -O2 -g
asan_FLAGS := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
tsan_FLAGS := -O1 -g -fsanitize=thread
CFLAGS   := -std=c11 $(WARN) $($(FLAVOUR)_FLAGS) $(EXTRA_CFLAGS)
CPPFLAGS := -D_GNU_SOURCE -I. -MMD -MP
LDFLAGS  := $($(FLAVOUR)_FLAGS) -Wl,--as-needed
LIBS     := -lrocksdb -lcurl -lcares -luring -lxxhash -lmsgpackc -lconfuse -lzstd -lmicrohttpd -ljansson -lhiredis -llmdb -lpthread -lm

LIB_SRC  := $(wildcard common/*/*.c replica/*.c proxy/*.c)
QSD_SRC  := $(wildcard qs/*.c)
CLI_SRC  := $(wildcard qs/cli/*.c)
BENCH_SRC := $(wildcard bench/*.c)
UNIT_SRC := $(wildcard tests/unit/*_test.c)
TOOL_SRC := $(wildcard tests/tools/*.c)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB      := $(BUILD)/libqscore.a
UNITS    := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(UNIT_SRC))
TOOLS    := $(patsubst tests/tools/%.c,$(BUILD)/tests/%,$(TOOL_SRC))

.PHONY: all
all: deps-check $(BUILD)/qsd $(BUILD)/qs $(if $(BENCH_SRC),$(BUILD)/qs-bench) libqs
	@mkdir -p build
	@if [ $(FLAVOUR) = release ]; then ln -sf release/qsd build/qsd; ln -sf release/qs build/qs; \
	  for f in libqs.a libqs.so libqs.so.1 qs.pc; do ln -sf release/$$f build/$$f; done; \
	  $(if $(BENCH_SRC),ln -sf release/qs-bench build/qs-bench;) fi

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

$(LIB): $(call obj,$(LIB_SRC))
	@rm -f $@
	$(Q)ar rcs $@ $^

$(BUILD)/qsd: $(call obj,$(QSD_SRC)) $(LIB)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

$(BUILD)/qs: $(call obj,$(CLI_SRC)) $(LIB)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

$(BUILD)/qs-bench: $(call obj,$(BENCH_SRC)) $(LIB)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

# Unit tests may reach into the programs' own modules too, so they link everything but main.
$(BUILD)/tests/%_test: $(BUILD)/obj/tests/unit/%_test.o $(call obj,$(filter-out qs/main.c,$(QSD_SRC))) $(LIB)
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS) $(filter-out $(LIB),$^) $(LIB) -o $@ -lcmocka -lm $(LIBS)

# The model of the store, under names of its own beside the real one.
$(BUILD)/tests/store_model_test $(BUILD)/tests/store_panel_test: \
  $(call obj,tests/sim/store_model_beside.c tests/sim/model_rows.c tests/sim/model_disk.c tests/sim/model_compact.c)

# Tests that step in between two looks at the floor, or at the moment of a publication or a write;
# and one that shortens pauses.
$(BUILD)/tests/floor_race_test: LDFLAGS += -Wl,--wrap=mvcc_read,--wrap=mvcc_walk
$(BUILD)/tests/publish_test $(BUILD)/tests/display_test: LDFLAGS += -Wl,--wrap=views_publish
$(BUILD)/tests/display_test: LDFLAGS += -Wl,--wrap=region_create
$(BUILD)/tests/finder_test: LDFLAGS += -Wl,--wrap=random_jitter_ms
$(BUILD)/tests/freeze_test: LDFLAGS += -Wl,--wrap=store_flush
$(BUILD)/tests/journal_damage_test: LDFLAGS += -Wl,--wrap=posix_fadvise
$(BUILD)/tests/store_test: LDFLAGS += -Wl,--wrap=rocksdb_write

$(BUILD)/tests/bench_test $(BUILD)/tests/peers_test $(BUILD)/tests/hop_test: \
  $(call obj,$(filter-out bench/main.c,$(BENCH_SRC)))

$(BUILD)/tests/%: $(BUILD)/obj/tests/tools/%.o $(LIB)
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

.PHONY: deps deps-check
deps:
	sh packaging/deps.sh
deps-check:
	@sh packaging/deps.sh --check || sh packaging/deps.sh

.PHONY: unit units tools
units: $(UNITS)
unit: deps-check $(UNITS)
	@tests/unit/run.sh $(UNITS)
tools: deps-check $(TOOLS)

include common/client/lib.mk
include tests/targets.mk
include tests/sim/sim.mk

.PHONY: clean
clean:
	rm -rf build

-include $(shell find build -name '*.d' -type f 2>/dev/null)
.SECONDARY:
