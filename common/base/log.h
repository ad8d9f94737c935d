// SPDX-License-Identifier: Apache-2.0
// One event, one line on standard error: time, level, instance (or "-"), text. Any thread.
// Never called per request: a repeated event goes through a log_gate, which lets one line per
// interval pass and says how many it held back.
#ifndef QS_COMMON_BASE_LOG_H
#define QS_COMMON_BASE_LOG_H

#include <stdatomic.h>

#include "common/base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_gate {
    _Atomic uint64_t next_ns;
    _Atomic uint64_t held;
};

#define LOG_GATE_INTERVAL_NS (10 * NS_PER_S)

// Lines below `level` are dropped. Call before threads start.
void log_open(enum log_level level);

// `scope` is the instance's name, or NULL.
void log_line(enum log_level level, const char *scope, const char *format, ...) PRINTF_LIKE(3, 4);

// True when this event may be logged now; *ret_held = how many were held back since the last one.
bool log_gate_open(struct log_gate *gate, uint64_t *ret_held) MUST_CHECK;

#define LOG_GATED(gate, level, scope, format, ...)                                                 \
    do {                                                                                           \
        uint64_t log_held;                                                                         \
        if (log_gate_open((gate), &log_held)) {                                                    \
            log_line((level), (scope), format " (%llu more held back)", ##__VA_ARGS__,             \
                     (unsigned long long)log_held);                                                \
        }                                                                                          \
    } while (0)

#endif
