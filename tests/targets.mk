# What proves and shows: included by the Makefile. Each target does its own set-up.
#
# KILL_CYCLES, POWER_CYCLES, ROOT_KILLS, TAKEOVERS, PIPELINES, MUTATIONS, FLIPS, BIG_VALUES, BIG_BYTES,
# MIXED_READS and CHECKED_READS set the length of the campaigns.

PYTEST      := $(PYTHON) -m pytest -c tests/e2e/pytest.ini --rootdir=tests/e2e -p no:cacheprovider
# More than there are processors: most of the time most tests wait.
PYTEST_JOBS ?= 4
E2E_ARGS    ?=
E2E          = QSD=$(CURDIR)/$(BUILD)/qsd QS=$(CURDIR)/$(BUILD)/qs \
               $(PYTEST) -n $(PYTEST_JOBS) --dist load

# Libraries to be preloaded are compiled apart from everything else and without sanitizers.
PRELOADS := $(BUILD)/tests/powercut.so $(BUILD)/tests/slow_listen.so
$(PRELOADS): $(BUILD)/tests/%.so: tests/tools/preload/%.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -g -shared -fPIC $< -o $@ -ldl

.PHONY: programs
programs: all $(PRELOADS) $(BUILD)/tests/fork_history $(BUILD)/tests/alter_store $(BUILD)/tests/keep \
          $(BUILD)/tests/sessions

# All that the other targets run, to be compiled by as many at a time as there are processors.
.PHONY: parts
parts: programs units $(BUILD)/sim $(BUILD)/tests/links

.PHONY: e2e
E2E_TESTS ?= not slow
e2e: programs
	$(E2E) -m "$(E2E_TESTS)" $(E2E_ARGS) tests/e2e

# Everything that must pass on the release build, end to end on the back end that `auto` finds and,
# but for what is marked as `once`, once more on epoll (EPOLL_TESTS="not slow": all of it). One after
# another, also under `make -j`: tests wait for conditions with
# limits, and should not compete with each other's builds.
.PHONY: test epoll
test: programs
	$(MAKE) tidy
	$(MAKE) unit
	$(MAKE) e2e
	$(MAKE) epoll
EPOLL_TESTS ?= not slow and not once
epoll: programs
	QS_IO=epoll $(E2E) -m "$(EPOLL_TESTS)" tests/e2e

# But for what is marked as `unsanitized`, each with its reason.
.PHONY: asan
ASAN_TESTS ?= not slow and not unsanitized
asan:
	$(MAKE) FLAVOUR=asan programs
	$(MAKE) FLAVOUR=asan unit
	$(MAKE) FLAVOUR=asan E2E_TESTS="$(ASAN_TESTS)" e2e

.PHONY: tsan
tsan:
	TSAN_OPTIONS=ignore_noninstrumented_modules=1 $(MAKE) FLAVOUR=tsan unit

# Real daemons in network namespaces, joined by links that delay, lose and cut. Takes root's rights.
.PHONY: field
FIELD_SEEDS ?= 1..10
FIELD_ENV    = QSD=$(CURDIR)/$(BUILD)/qsd QS=$(CURDIR)/$(BUILD)/qs PYTHONPATH=tests/e2e:tests/field
field: programs $(BUILD)/tests/links
	$(FIELD_ENV) $(PYTEST) --rootdir=tests/field -p conftest $(FIELD_ARGS) tests/field
	$(FIELD_ENV) $(PYTHON) tests/field/run.py $(FIELD_SEEDS)

# A whole site that begins at once: in simulated time, then forty daemons over one uplink.
.PHONY: storm
storm: programs $(BUILD)/size $(BUILD)/tests/links
	$(BUILD)/size --storm --nodes 40
	$(FIELD_ENV) $(PYTHON) tests/field/storm.py

# 64 daemons under one root on this machine; the table goes into docs/crowd.md.
.PHONY: crowd
CROWD_ARGS ?= --table docs/crowd.md
crowd: programs
	QSD=$(CURDIR)/$(BUILD)/qsd QS=$(CURDIR)/$(BUILD)/qs $(PYTHON) tests/e2e/crowd.py $(CROWD_ARGS)

# Its schedules alone, in FIELDS fields side by side, where any can be made.
.PHONY: schedules
schedules: programs $(BUILD)/tests/links
	$(FIELD_ENV) $(PYTHON) tests/field/beside.py $(FIELD_SEEDS)

# Campaigns: the same tests with the numbers that the system is held to.
.PHONY: kill takeover fuzz pipelines wire delete mixed checked big campaigns
TAKEOVERS ?= 100
kill: programs
	KILL_CYCLES=200 POWER_CYCLES=100 $(E2E) tests/e2e/test_kill.py
takeover: programs
	TAKEOVERS=$(TAKEOVERS) $(E2E) -n 0 -s -k under_load tests/e2e/test_takeover.py
fuzz:
	$(MAKE) FLAVOUR=asan programs
	MUTATIONS=100000 $(MAKE) FLAVOUR=asan E2E_ARGS="-k fuzz" e2e
pipelines: programs
	PIPELINES=10000 $(E2E) tests/e2e/test_pipeline.py
wire: programs
	FLIPS=2000 $(E2E) tests/e2e/test_wire.py
delete: programs
	BIG_VALUES=2000 $(E2E) -k big_delete tests/e2e/test_limits.py
mixed: programs # alone, as a rate is part of its claim
	MIXED_READS=10000000 MIXED_READ_RATE=20000 MIXED_LEAST=95 $(E2E) -n 0 tests/e2e/test_mixed.py
CHECKED_READS ?= 1000000000
checked: programs
	CHECKED_READS=$(CHECKED_READS) $(E2E) -n 0 -s tests/e2e/test_checked.py
BIG_BYTES ?= 5368709120
big: programs # alone, as it takes latencies
	BIG_BYTES=$(BIG_BYTES) $(E2E) -n 0 tests/e2e/test_big.py
campaigns: kill takeover pipelines wire delete mixed checked big fuzz

# Each fault of tests/mutants.txt, compiled in alone, is found by some test.
MUTANT_ARGS ?=
.PHONY: mutants
mutants: deps-check
	@$(PYTHON) tests/mutants.py $(MUTANT_ARGS)

# The rules of docs/commit.md, and each of them broken; MODEL_ARGS="--large" takes hours, not minutes.
.PHONY: model
MODEL_ARGS ?=
model: deps-check
	@$(PYTHON) tests/model/run.py $(MODEL_ARGS)

.PHONY: tidy
tidy: all
	@$(PYTHON) tests/tidy.py --self-test
	@$(PYTHON) tests/tidy.py

.PHONY: demo
demo: all
	$(PYTHON) bench/demo.py

.PHONY: floor
floor: all tools
	$(PYTHON) bench/import_floor.py

# HISTORY_DIR, on the disk to be measured; HISTORY_ARGS = keys, overwrites.
HISTORY_DIR  ?= $(BUILD)
HISTORY_ARGS ?=
.PHONY: history
history: tools
	$(BUILD)/tests/history_cost $(HISTORY_DIR) $(HISTORY_ARGS)

# Replica and proxy side by side, a section for each working set in percent. What the first one loads
# stays in ROLES_DATA (some 25 GB) for the next, and for repetitions; `make roles-clean` removes it.
# ROLES_KEYS=1000000 ROLES_ARGS="--pairs-of-runs 3 --seconds 1" for a short look. The same on Debian's
# package index: its pairs, too, are written once, as another index would be other data.
.PHONY: roles roles-debian roles-clean
ROLES_SETS ?= 20 1
ROLES_KEYS ?= 20000000
ROLES_DATA ?= build/roles
ROLES_ARGS ?=
DEBIAN_PAIRS := build/debian.tsv
# $(1) = the options of the pairs, $(2) = what the names of data and results have in common.
roles_sections = @mkdir -p docs/bench; for percent in $(ROLES_SETS); do \
	  bash -o pipefail -c "$(BUILD)/qs-bench roles $(1) --data $(ROLES_DATA)$(2) \
	    --working-set $$percent --out docs/bench --name roles$(2)-$$percent $(ROLES_ARGS) \
	    | tee docs/bench/roles$(2)-$$percent.txt" || exit 1; \
	done
roles: all
	$(call roles_sections,--keys $(ROLES_KEYS),)
roles-debian: all $(DEBIAN_PAIRS)
	$(call roles_sections,--pairs $(DEBIAN_PAIRS),-debian)
$(DEBIAN_PAIRS):
	@mkdir -p $(@D)
	$(PYTHON) bench/debian.py $@.new && mv $@.new $@
roles-clean:
	rm -rf $(ROLES_DATA) $(ROLES_DATA)-debian $(DEBIAN_PAIRS)

# qs beside Redis, Valkey, memcached, etcd, LMDB, RocksDB in one run of some 24 minutes, which wants
# the machine for itself. BENCH_ARGS="--section sockets --keys 100000 --run-ms 500" for a short look;
# BENCH_KEYS=20000000. Where Valkey cannot be had, or does not run here, the sheet says so.
.PHONY: bench valkey
BENCH_KEYS ?= 5000000
BENCH_ARGS ?=
VALKEY     ?= build/valkey/usr/bin/valkey-server
valkey:
	@[ -x $(VALKEY) ] || sh packaging/unpack.sh bookworm-backports build/valkey valkey-server valkey-tools || \
	  echo "make: Valkey could not be had" >&2
bench: all valkey
	@mkdir -p docs/bench
	@bash -o pipefail -c "$(BUILD)/qs-bench peers --keys $(BENCH_KEYS) --out docs/bench \
	  --valkey '$$($(VALKEY) --version >&2 && echo $(VALKEY))' $(BENCH_ARGS) | tee docs/bench/peers.txt"

# One root with more and more keys; GROWTH_KEYS=1000000,5000000,20000000,100000000 wants 60 GB of disk.
.PHONY: growth
GROWTH_KEYS ?= 1000000,5000000,20000000
GROWTH_ARGS ?=
growth: all
	@mkdir -p docs/bench
	@bash -o pipefail -c "$(BUILD)/qs-bench growth --keys $(GROWTH_KEYS) --out docs/bench $(GROWTH_ARGS) \
	  | tee docs/bench/growth.txt"

# The reference pages are what the daemon says about its own tables.
.PHONY: docs
docs: all
	@for page in options metrics commands errors; do \
	  $(BUILD)/qsd --reference $$page > docs/$$page.md.new && mv docs/$$page.md.new docs/$$page.md; \
	done

.PHONY: help
help:
	@echo "make            builds build/qsd, build/qs, build/qs-bench, build/libqs.a, build/libqs.so"
	@echo "make demo       a whole tree on this machine with real data, written, read back, shown"
	@echo "make test       everything that must pass (tidy, unit, end to end, both back ends)"
	@echo "make unit       unit tests            make e2e    end-to-end tests"
	@echo "make asan       unit and end to end under AddressSanitizer and UBSan"
	@echo "make tsan       unit tests under ThreadSanitizer"
	@echo "make campaigns  kill (200 + 100 cycles), pipelines (10,000), wire (2,000), delete, fuzz,"
	@echo "                mixed (10,000,000 reads), checked (1,000,000,000 by all doors), big"
	@echo "make big        a store of 5 GB built from another node's under writes and kills; BIG_BYTES,"
	@echo "                BIG_RATE=N bytes/s of the snapshot"
	@echo "make tidy       the house rules       make docs   the reference pages"
	@echo "make sim        whole trees with faults from seeds, in one process; SEEDS=1..3000"
	@echo "make partitions a tree of five sites torn apart and healed, simulated; PARTITIONS=1..300"
	@echo "make sim-roots  instances with several roots, whose leaders are lost, simulated; ROOTS_SEEDS=1..300"
	@echo "make field      a tree in network namespaces under faults, from seeds; FIELD_SEEDS=1..10"
	@echo "make schedules  ... its schedules alone, in fields side by side; FIELD_SEEDS=1..200 FIELDS=3"
	@echo "make model      the rules of commit, checked by spin, and each rule broken;"
	@echo "                MODEL_ARGS=\"--large\", \"--trace NAME\", \"--list\""
	@echo "make crowd      64 daemons under one root on this machine, measured, into docs/crowd.md"
	@echo "make size       a tree of 500 nodes over the world, measured; SIZE_NODES=5000 writes docs/size.md"
	@echo "make storm      40 nodes of one site begin at once with nothing: simulated, and over a real uplink"
	@echo "make mutants    planted bugs, each of which a test must find; MUTANT_ARGS=\"--only NAME\""
	@echo "make roles      replica and proxy under the same look-ups, side by side, into docs/bench;"
	@echo "                ROLES_SETS=20 one section; make roles-clean removes the loaded data"
	@echo "make roles-debian  the same on Debian's package index, 1.09 million pairs of many sizes"
	@echo "make bench      qs beside Redis, Valkey, memcached, etcd, LMDB, RocksDB, into docs/bench;"
	@echo "                BENCH_KEYS=20000000, BENCH_ARGS=\"--section sockets\""
	@echo "make growth     a root with 1, 5, 20 million keys, into docs/bench; GROWTH_KEYS=1000000,5000000"
	@echo "make floor      import rate of a root beside its floors"
	@echo "make history    collecting history by filter, and by families dropped whole: what each costs"
	@echo "make install    programs, libqs with its header, the Python binding; PREFIX=/usr/local, DESTDIR="
	@echo "make deps       installs the Debian packages that all this needs"
	@echo "FLAVOUR=asan|tsan builds into a folder of its own; QS_IO=epoll|uring chooses the back end"
