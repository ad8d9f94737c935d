// SPDX-License-Identifier: Apache-2.0
// SIGINT and SIGTERM: what is under way is ended in order, and temporary directories go. A second
// signal ends the program at once.
#ifndef QS_BENCH_INTERRUPT_H
#define QS_BENCH_INTERRUPT_H

#include <stdbool.h>

void interrupt_catch(void);

// Whether a signal has come.
bool interrupted(void);

#endif
