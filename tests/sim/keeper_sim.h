// SPDX-License-Identifier: Apache-2.0
// In place of common/roots/keeper.c: the record of the roots in a store of the simulated world that
// changes by check-and-set, one request after another, and the health of the roots as Consul sees
// it. Requests and answers take their time and may be lost; a request may land long after whoever
// sent it has taken it for failed, or has died. Here is the panel of what befalls it.
#ifndef QS_TESTS_SIM_KEEPER_SIM_H
#define QS_TESTS_SIM_KEEPER_SIM_H

#include "common/roots/root_record.h"
#include "tests/sim/node.h"

// `nodes` are `count` machines that may ask.
void keepers_open(struct node *nodes, unsigned count);
void keepers_calm(void);  // it is reachable by all, quick, and loses nothing from now on

// Nothing passes between a machine and the store before `until_ns`.
void keepers_cut(unsigned host, uint64_t until_ns);
// So many of a thousand requests, and of answers, are lost; the others take up to `delay_ns`.
void keepers_weather(unsigned lost_permille, uint64_t delay_ns);
void keepers_lose(void); // there is no record any more, and numbers begin anew
void keepers_back(void); // what there was some time ago is there again
void keepers_back_up(void); // ... as it is now

const struct root_record *keepers_record(void); // NULL: there is none

#endif
