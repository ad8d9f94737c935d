// SPDX-License-Identifier: Apache-2.0
// The nodes that may lead an instance, as `roots` names them: "name@host:port". A root's number is
// its position among them in the order of their names, a set of them has bit 1 << number. Numbers
// are of one configuration: on the wire and on disk roots have names. Pure functions, any thread.
#ifndef QS_COMMON_ROOTS_MEMBERS_H
#define QS_COMMON_ROOTS_MEMBERS_H

#include "common/base/bytes.h"
#include "common/data/limits.h"
#include "common/io/address.h"

#define ROOTS_MAX 7

struct member {
    char name[NODE_NAME_MAX + 1];
    char address[ADDRESS_TEXT_BYTES];
};

struct members {
    unsigned count;
    unsigned own;   // the number of this node
    unsigned first; // of the one that is named first
    struct member all[ROOTS_MAX];
};

// Reads the list for the node of this name. ERR_CONFIG: *ret_bad is the text that is wrong ("" when
// it is the list as a whole), *ret_reason says why; both static or of `texts`.
int members_parse(struct members *ret_members, const char *const *texts, const char *node,
                  const char **ret_bad, const char **ret_reason) MUST_CHECK;

// The number of the root of this name; -1: it is none.
int members_find(const struct members *members, struct bytes name);

// All of them.
uint32_t members_all(const struct members *members);

#endif
