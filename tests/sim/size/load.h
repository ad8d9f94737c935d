// SPDX-License-Identifier: Apache-2.0
// The writers of a large tree: small writes at the root, in bursts at a steady pace, whatever else
// happens.
#ifndef QS_TESTS_SIM_SIZE_LOAD_H
#define QS_TESTS_SIM_SIZE_LOAD_H

#include "tests/sim/node.h"

#define LOAD_VALUE_MAX 1024

// `keys` of them, each with a value of `value_bytes` (at most LOAD_VALUE_MAX, by sixteens).
void load_open(struct node *root, unsigned keys, unsigned value_bytes);
// `burst` writes every `every_ns` from now on; 0 writes: none.
void load_set(unsigned burst, uint64_t every_ns);
bool load_idle(void); // every write was answered

#endif
