// SPDX-License-Identifier: Apache-2.0
// What befalls a tree: a table of faults, struck at random, and the operator who starts again what
// has stopped by itself.
#ifndef QS_TESTS_SIM_FAULTS_H
#define QS_TESTS_SIM_FAULTS_H

#include "tests/sim/node.h"

// Strikes every `every_ns` on average from now on; 0: never.
void faults_open(struct node *nodes, unsigned count, uint64_t every_ns);
void faults_heal(void);        // no more of them, and everything is whole again
// Walks look at every store in which a row went bad.
void faults_doubt(void);
uint64_t faults_struck(void);

#endif
