// SPDX-License-Identifier: Apache-2.0
// The options as structs, derived from common/tables/options.h. An options struct is filled once
// by qs/config.c and immutable from then on: it is passed down, never looked up.
#ifndef QS_COMMON_BASE_OPTIONS_H
#define QS_COMMON_BASE_OPTIONS_H

#include "common/base/base.h"

// Lists end with NULL.
typedef const char *option_TEXT;
typedef const char *const *option_TEXTS;
typedef const char *option_ADDRESS;
typedef const char *const *option_ADDRESSES;
typedef const char *const *option_CLIENTS;
typedef uint64_t option_INT;
typedef uint64_t option_SIZE;
typedef uint64_t option_MS;
typedef uint64_t option_SPACE; // bytes, or SPACE_PERCENT + a percentage; 0 = none
typedef int option_IO;    // enum io_kind
typedef int option_ROLE;  // enum role_kind
typedef int option_LEVEL; // enum log_level
typedef int option_SWITCH; // 0 no, 1 yes

#define SPACE_PERCENT ((uint64_t)1 << 63)

// Numbers are on the wire.
enum role_kind { ROLE_ROOT = 1, ROLE_REPLICA = 2, ROLE_PROXY = 3 };
const char *role_text(int role); // "root", "replica", "proxy"; "unknown" otherwise

// An option that was not given and has no default is NULL or an empty list. Durations are
// milliseconds.
struct node_options {
#define NODE_OPTION(type, name, default, min, max, help) option_##type name;
#include "common/tables/options.h"
};

struct cache_options {
#define CACHE_OPTION(type, name, default, min, max, help) option_##type name;
#include "common/tables/options.h"
};

struct consul_options {
    bool given; // there is a section `consul { }`
#define CONSUL_OPTION(type, name, default, min, max, help) option_##type name;
#include "common/tables/options.h"
};

struct instance_options {
    const char *name; // the section's title
#define INSTANCE_OPTION(type, name, default, min, max, help) option_##type name;
#include "common/tables/options.h"
    struct cache_options cache;
};

#endif
