// SPDX-License-Identifier: Apache-2.0
// The control panel of the store in memory.
#ifndef QS_TESTS_SIM_STORE_SIM_H
#define QS_TESTS_SIM_STORE_SIM_H

void store_sim_open(void); // no disk holds anything
void store_sim_crash(const char *directory);
void store_sim_wipe(const char *directory);

#endif
