# libqs, the library for users' programs: included by the Makefile. Not $(LIB), which is what the
# programs of qs themselves are made of. It takes the few modules that it needs, compiled once more,
# and shows nothing but qs_*: in the shared library by a version map, in the static one by making all
# else local.

PREFIX      ?= /usr/local
DESTDIR     ?=
QS_SO        = 1
QS_LIB_SRC  := $(wildcard common/client/*.c) common/io/address.c common/wire/resp_reply.c \
               $(addprefix common/base/,base.c bloom.c buf.c clock.c error.c hash.c mem.c spin.c) \
               $(addprefix common/shared/,hot.c look.c region.c)
QS_LIB_OBJ  := $(patsubst %.c,$(BUILD)/pic/%.o,$(QS_LIB_SRC))
QS_VERSION   = $(shell sed -n 's/.*QS_VERSION "\(.*\)".*/\1/p' qs/version.h)

.PHONY: libqs
libqs: $(BUILD)/libqs.a $(BUILD)/libqs.so $(BUILD)/qs.pc

# So that users' programs need no xxHash.
$(BUILD)/pic/common/base/hash.o: CPPFLAGS += -DXXH_INLINE_ALL

$(BUILD)/pic/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $< (libqs)"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -fvisibility=hidden -c $< -o $@

$(BUILD)/libqs.so.$(QS_SO): $(QS_LIB_OBJ) common/client/libqs.map
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,$(@F) -Wl,-z,defs \
	  -Wl,--version-script=common/client/libqs.map $(QS_LIB_OBJ) -o $@ -pthread

$(BUILD)/libqs.so: $(BUILD)/libqs.so.$(QS_SO)
	$(Q)ln -sf $(<F) $@

$(BUILD)/libqs.a: $(QS_LIB_OBJ)
	@rm -f $@
	$(Q)ld -r $^ -o $(BUILD)/libqs.o && objcopy --localize-hidden $(BUILD)/libqs.o
	$(Q)ar rcs $@ $(BUILD)/libqs.o

qs_pc = sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(QS_VERSION)|' common/client/qs.pc.in
$(BUILD)/qs.pc: common/client/qs.pc.in qs/version.h
	@mkdir -p $(@D)
	$(Q)$(qs_pc) > $@

# For packages: DESTDIR=tree PREFIX=/usr.
.PHONY: install
install: all
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin include lib/pkgconfig lib/python3/dist-packages)
	install -m 755 $(BUILD)/qsd $(BUILD)/qs $(BUILD)/qs-bench $(DESTDIR)$(PREFIX)/bin
	install -m 644 common/client/qs.h $(DESTDIR)$(PREFIX)/include
	install -m 644 $(BUILD)/libqs.a $(BUILD)/libqs.so.$(QS_SO) $(DESTDIR)$(PREFIX)/lib
	ln -sf libqs.so.$(QS_SO) $(DESTDIR)$(PREFIX)/lib/libqs.so
	$(qs_pc) > $(DESTDIR)$(PREFIX)/lib/pkgconfig/qs.pc
	install -m 644 common/client/qs.py $(DESTDIR)$(PREFIX)/lib/python3/dist-packages
