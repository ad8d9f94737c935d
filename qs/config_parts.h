// SPDX-License-Identifier: Apache-2.0
// Inside the reading of the configuration file, for qs/config*.c only. The file passes through:
//   config_scan.c    grammar, names, braces, comments; hands a clean text to libconfuse, whose own
//                    line numbers drift at comments and which is silent about much
//   config.c         libconfuse; each value is checked as it comes (config_values.c), then the
//                    option structs are filled
//   config_check.c   what must fit between options
// libconfuse's scanner has globals: one thread at a time reads a configuration.
#ifndef QS_QS_CONFIG_PARTS_H
#define QS_QS_CONFIG_PARTS_H

#include "common/base/mem.h"
#include "common/data/limits.h"
#include "qs/config.h"

enum option_type {
    OPTION_TEXT,
    OPTION_TEXTS,
    OPTION_ADDRESS,
    OPTION_ADDRESSES,
    OPTION_CLIENTS,
    OPTION_INT,
    OPTION_SIZE,
    OPTION_MS,
    OPTION_SPACE,
    OPTION_IO,
    OPTION_ROLE,
    OPTION_LEVEL,
    OPTION_SWITCH,
};

struct option_row {
    const char *name;
    enum option_type type;
    const char *initial; // as it would stand in the file; "" = unset, "REQUIRED"
    uint64_t min, max;   // 0, 0 = not bounded here
    const char *help;
    size_t offset;       // in the options struct
};

struct option_scope {
    const struct option_row *rows;
    size_t count;
};

// The rows of common/tables/options.h.
struct option_scope option_scope_node(void);
struct option_scope option_scope_instance(void);
struct option_scope option_scope_cache(void); // offsets are those in struct instance_options
struct option_scope option_scope_consul(void); // offsets are those in struct consul_options
const struct option_row *option_find(struct option_scope scope, struct bytes name); // or NULL
// The name of any row of `scope` that lies nearest to `name`, NULL when none is near.
const char *option_nearest(struct option_scope scope, struct bytes name);
bool option_is_list(const struct option_row *row);
bool option_is_number(const struct option_row *row);  // INT, SIZE, MS, SPACE
bool option_is_required(const struct option_row *row);

// Checks one value. NULL = fine, and *ret_number is its number (of numbers and enums; else 0);
// otherwise what is wrong, from mem_alloc.
char *option_parse(const struct option_row *row, const char *text, uint64_t *ret_number) MUST_CHECK;
// The words of an enum type, "auto, uring or epoll"; "" for other types.
void option_words(struct buf *to, enum option_type type);
const char *option_word_of(enum option_type type, int value);
const char *option_type_text(enum option_type type); // "size", "list of addresses", ...

// The first thing that is wrong.
struct config_fault {
    unsigned line; // 0 = the file as a whole
    char *text;    // NULL = nothing yet
};
void config_fail(struct config_fault *fault, unsigned line, const char *format, ...)
    PRINTF_LIKE(3, 4);

#define CONSUL_PREFIX_MAX 20 // bytes; a label of a name in DNS holds 63
#define CONSUL_DOMAIN_MAX 100

#define CONFIG_TOP (-1) // in place of an instance's position

struct config_section {
    char name[INSTANCE_NAME_MAX + 1];
    unsigned line;
    unsigned cache_line; // of its `cache {`, 0 = none
};

// Where an option is given.
struct config_place {
    int instance; // position in the file, or CONFIG_TOP
    const struct option_row *row;
    unsigned line;
};

struct config_scan {
    char *clean; // as long as the text, comments blanked; ends with a zero
    struct config_section *sections;
    size_t section_count;
    unsigned consul_line; // of `consul {`, 0 = none
    struct config_place *places;
    size_t place_count;
};

// Checks the grammar of `text`. False: `fault` says what is wrong. Free in both cases.
bool config_scan(struct config_scan *scan, struct bytes text, struct config_fault *fault);
void config_scan_free(struct config_scan *scan);
// The line of an option, 0 when it is not given.
unsigned config_scan_line(const struct config_scan *scan, int instance,
                          const struct option_row *row);

struct config_value {
    int instance;
    const struct option_row *row;
    const char *text;
    uint64_t number;
    unsigned line;
};

// What one reading collects.
struct config_reading {
    struct config_scan scan;
    struct config_value *values; // in the order of the file
    size_t value_count;
    struct arena *arena; // of the finished configuration
    struct config_fault fault;
};

// The n-th value of an option, NULL when there are fewer.
const struct config_value *config_value(const struct config_reading *reading, int instance,
                                        const struct option_row *row, size_t nth);

// Whether the options fit together; the finding is in reading->fault.
void config_check(const struct config *config, struct config_reading *reading);

#endif
