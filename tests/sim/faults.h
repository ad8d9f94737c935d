// SPDX-License-Identifier: Apache-2.0
// What befalls a tree: a table of faults, struck at random, and the operator who starts again what
// has stopped by itself.
#ifndef QS_TESTS_SIM_FAULTS_H
#define QS_TESTS_SIM_FAULTS_H

#include "tests/sim/node.h"

// How likely each fault is: in trees under one root; where there are several; to these alone.
enum faults_set { FAULTS_TREE, FAULTS_SEVERAL, FAULTS_ROOTS, FAULTS_SETS };

// Strikes trees every `every_ns` on average from now on; 0: not yet.
void faults_open(struct node *nodes, unsigned count, uint64_t every_ns);
void faults_begin(enum faults_set set, uint64_t every_ns);
void faults_leave(uint64_t ns); // the operator does nothing for so long
void faults_heal(void);        // no more of them, and everything is whole again
// Walks look at every store in which a row went bad.
void faults_doubt(void);
uint64_t faults_struck(void);

#endif
