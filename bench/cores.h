// SPDX-License-Identifier: Apache-2.0
// Which core a process runs on, and how much of it it has used: servers on the first core that this
// program may use, the client that measures them on the last. On a machine of one core they are
// the same. One thread.
#ifndef QS_BENCH_CORES_H
#define QS_BENCH_CORES_H

#include <sched.h>

#include "common/base/base.h"

struct cores {
    cpu_set_t all; // that this program could use when it began
    unsigned count, first, last;
};

void cores_open(struct cores *cores);

// All threads of a process, and those that they will start, onto one core. False: it is gone.
bool cores_pin(pid_t process, unsigned core) MUST_CHECK;

// The calling thread, and what it starts from now on: onto one core, or onto all again.
void cores_pin_self(unsigned core);
void cores_free_self(const struct cores *cores);

// Time of all cores that the process has used, itself and for its system calls; in steps of the
// kernel's clock tick, 10 ms.
uint64_t cores_used_ns(pid_t process);

#endif
