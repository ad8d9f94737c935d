# The simulator: whole trees from a seed, in one process (docs/testing.md). It links the library's
# own modules but for those that it takes the place of; system calls go to its files and sockets.

SIM_SRC  := $(filter-out %_beside.c,$(wildcard tests/sim/*.c))
SIM_OUT  := common/base/clock.c common/base/log.c common/base/mem.c common/base/worker.c \
            common/core/readers.c common/io/loop_epoll.c common/io/loop_uring.c \
            common/roots/root_record.c common/roots/keeper.c $(wildcard common/client/*.c) \
            $(filter-out %/endpoints.c,$(wildcard common/discovery/*.c)) common/data/disk.c common/wire/import_text.c $(wildcard common/data/store*.c)
SIM_WRAP := open openat close read write pread pwrite ftruncate fsync fdatasync fstat rename renameat \
            unlink unlinkat mkdir flock opendir access fdopendir readdir closedir eventfd socket setsockopt bind listen \
            connect getsockopt getsockname getpeername send sendfile shutdown posix_fadvise lseek \
            check_failed applier_hand commit_advance views_publish store_open store_write store_flush \
            store_compact slice_item_append block_compress
SEEDS    ?= 1..3000

# Sizes that only a long run would reach are smaller here.
SIM_SIZES := -DJOURNAL_GROUP_BYTES=16384 -DSNAPSHOT_SLICE_BYTES=700 -DSLICE_BYTES_MIN=256 \
             -DHISTORY_SMALL_BYTES=512 -DRANGE_SLICE_KEYS=7
# Nothing of it is a library, and much of what it runs is small.
release_SIM_FLAGS := -O3 -fno-pie
release_SIM_LDFLAGS := -no-pie -static
SIM_FLAGS   := $($(FLAVOUR)_SIM_FLAGS)
SIM_LDFLAGS := $($(FLAVOUR)_SIM_LDFLAGS)
$(BUILD)/sim-obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $< (sim)"
	$(Q)$(CC) $(CPPFLAGS) $(SIM_SIZES) $(CFLAGS) $(SIM_FLAGS) -c $< -o $@

# The store's disks outlive the processes that write to them.
SIM_DISKS := $(patsubst %,$(BUILD)/sim-obj/tests/sim/model_%.o,disk rows compact)
$(SIM_DISKS): SIM_SIZES += -include tests/sim/world_memory.h

comma := ,
$(BUILD)/sim: $(patsubst %.c,$(BUILD)/sim-obj/%.o,$(SIM_SRC) $(filter-out $(SIM_OUT),$(LIB_SRC)))
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS) $(SIM_LDFLAGS) $^ -o $@ $(addprefix -Wl$(comma)--wrap=,$(SIM_WRAP)) \
	  -lxxhash -lmsgpackc -lzstd -lpthread

# Thousands of nodes (tests/sim/size): the same world at another pace, nothing of a campaign, and the
# sizes of a daemon.
SIZE_SRC := $(wildcard tests/sim/size/*.c) \
            $(filter-out $(addprefix tests/sim/,main.c run.c session.c faults.c model.c grid.c partition.c tally.c \
            commits.c several.c several_tree.c several_faults.c harm.c ending.c),$(SIM_SRC))
SIZE_WRAP := $(filter-out applier_hand commit_advance slice_item_append,$(SIM_WRAP))
SIZE_INCLUDE :=
$(BUILD)/size-obj/tests/sim/model_%.o: SIZE_INCLUDE := -include tests/sim/world_memory.h
$(BUILD)/size-obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $< (size)"
	$(Q)$(CC) $(CPPFLAGS) -DSIM_SIZE $(SIZE_INCLUDE) $(CFLAGS) $(SIM_FLAGS) -c $< -o $@
# The table as rows of C.
$(BUILD)/size-obj/round_trips.inc: tests/sim/size/round_trips.tsv
	@mkdir -p $(@D)
	$(Q)sed -e '/^#/d; /^region\t/d; s/\t/", /; s/\t/, /g; s/^/REGION("/; s/$$/)/' $< > $@
$(BUILD)/size-obj/tests/sim/size/earth.o: $(BUILD)/size-obj/round_trips.inc
$(BUILD)/size-obj/tests/sim/size/earth.o: SIZE_INCLUDE := -I$(BUILD)/size-obj
$(BUILD)/size: $(patsubst %.c,$(BUILD)/size-obj/%.o,$(SIZE_SRC) $(filter-out $(SIM_OUT),$(LIB_SRC)))
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS) $(SIM_LDFLAGS) $^ -o $@ $(addprefix -Wl$(comma)--wrap=,$(SIZE_WRAP)) \
	  -lxxhash -lmsgpackc -lzstd -lpthread -lm

.PHONY: sim
sim: deps-check $(BUILD)/sim
	$(BUILD)/sim --seeds $(SEEDS) $(SIM_ARGS)

# A tree of five sites that is torn apart and heals (docs/testing.md).
.PHONY: partitions
PARTITIONS ?= 1..300
partitions: deps-check $(BUILD)/sim
	$(BUILD)/sim --partitions --seeds $(PARTITIONS) $(SIM_ARGS)

# Instances with several roots: leaders lost, and all that roots must live with (docs/testing.md).
.PHONY: sim-roots
ROOTS_SEEDS ?= 1..300
sim-roots: deps-check $(BUILD)/sim
	$(BUILD)/sim --roots --seeds $(ROOTS_SEEDS) $(SIM_ARGS)

# A tree of SIZE_NODES in SIZE_SITES, printed as a table; that of 5,000 goes into docs/size.md too.
SIZE_NODES ?= 500
SIZE_SITES ?= $(if $(filter 5000,$(SIZE_NODES)),300,$(shell expr $(SIZE_NODES) / 10))
SIZE_ARGS  ?=
.PHONY: size
size: deps-check $(BUILD)/size
	@$(BUILD)/size --nodes $(SIZE_NODES) --sites $(SIZE_SITES) --points $(BUILD)/size.points $(SIZE_ARGS) \
	  > $(BUILD)/size.table && cat $(BUILD)/size.table
ifeq ($(SIZE_NODES),5000)
	@$(PYTHON) tests/sim/size/picture.py $(BUILD)/size.points $(BUILD)/size.table docs/size.svg docs/size.md
endif
