// SPDX-License-Identifier: Apache-2.0
// What befalls roots, where there are several, and the store of their record: rows of the table in
// faults.c. And the person who looks after them: hands leadership over, and promotes a root when
// the store has lost its data and nobody leads.
#ifndef QS_TESTS_SIM_SEVERAL_FAULTS_H
#define QS_TESTS_SIM_SEVERAL_FAULTS_H

#include "tests/sim/faults.h"

// `may_lose`: the store's data, as the rules then ask for enough promises.
void several_faults_open(bool may_lose);
void several_faults_heal(void);
bool several_helped(void); // since then a person has promoted a root

// Each false: not possible now.
bool strike_leader(struct node *node);
bool strike_apart(struct node *node);
bool strike_alone(struct node *node);
bool strike_children(struct node *node);
bool strike_record_away(struct node *node);
bool strike_record_slow(struct node *node);
bool strike_record_lost(struct node *node);
bool strike_blank(struct node *node);
bool strike_hand_over(struct node *node);

// Nothing passes between a machine and all others, nor between it and the record.
void several_unplug(unsigned number, uint64_t until_ns);

#endif
