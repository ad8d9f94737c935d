// SPDX-License-Identifier: Apache-2.0
// What must be true: the root's committed log is the order of all writes, and every state that any
// node shows is compared with what that order says at exactly that index (C1, C2, C4, C5).
#ifndef QS_TESTS_SIM_MODEL_H
#define QS_TESTS_SIM_MODEL_H

#include "common/core/view.h"
#include "tests/sim/node.h"

#define MODEL_KEYS_MAX 256
#define MODEL_KEY_BYTES 24

struct model_version {
    uint64_t index;
    bool put;
    struct bytes value; // owned
};

struct model_key {
    uint8_t name[MODEL_KEY_BYTES];
    size_t size;
    struct model_version *versions;
    size_t count, capacity;
};

// A write that a session asks for: the last operation on a key counts.
#define WRITE_OPERATIONS_MAX 12
struct write_operation {
    unsigned key;
    bool put;
    size_t size; // of the value
};
struct write {
    uint64_t id; // in its values
    unsigned count;
    struct write_operation operations[WRITE_OPERATIONS_MAX];
};

void model_open(unsigned keys);
unsigned model_key_count(void);
// Keys in their order.
const struct model_key *model_key(unsigned at);
struct bytes model_name(const struct model_key *key);
uint64_t model_index(void);

// The version of a key that is newest at `index`; NULL: absent.
const struct model_version *model_at(const struct model_key *key, uint64_t index);

// The value that operation `at` of a write puts, in static memory.
struct bytes write_value(const struct write *write, unsigned at);

// A block that the root has committed. In order.
void model_add(const struct block *block);
// A root has opened its journal, which is committed up to block `last`: also what nobody has seen
// being committed.
void model_catch_up(struct journal *journal, uint64_t last);
// The journal of a root that always has everything.
void model_check_end(struct journal *journal);
// A transaction was acknowledged at `index`: it must stand there, or have changed nothing.
void model_acknowledged(const struct write *write, uint64_t index);
// A node shows a view.
void model_check_view(struct node *node, const struct view *view);

#endif
