// SPDX-License-Identifier: Apache-2.0
#include "common/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"

#define LINE_BYTES 2048

static enum log_level lowest = LOG_INFO;

void log_open(enum log_level level) { lowest = level; }

static size_t write_head(char *line, enum log_level level, const char *scope)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    uint64_t now_ms = clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t used = strftime(line, LINE_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
    int more = snprintf(line + used, LINE_BYTES - used, ".%03uZ %-5s %s: ",
                        (unsigned)(now_ms % 1000), names[level], scope != NULL ? scope : "-");
    return used + (size_t)more;
}

void log_line(enum log_level level, const char *scope, const char *format, ...)
{
    if (level < lowest) {
        return;
    }
    char line[LINE_BYTES];
    size_t used = write_head(line, level, scope);
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(line + used, sizeof line - used - 1, format, arguments);
    va_end(arguments);
    used += more < 0 ? 0 : (size_t)more;
    if (used > sizeof line - 2) {
        used = sizeof line - 2;
    }
    line[used++] = '\n';
    // One write a line, so that lines of several threads do not mix. A log that cannot be written
    // must not stop the daemon.
    if (write(STDERR_FILENO, line, used) < 0) {
        return;
    }
}

bool log_gate_open(struct log_gate *gate, uint64_t *ret_held)
{
    uint64_t now = clock_mono_ns();
    uint64_t next = atomic_load_explicit(&gate->next_ns, memory_order_relaxed);
    if (now < next || !atomic_compare_exchange_strong(&gate->next_ns, &next,
                                                      now + LOG_GATE_INTERVAL_NS)) {
        atomic_fetch_add_explicit(&gate->held, 1, memory_order_relaxed);
        return false;
    }
    *ret_held = atomic_exchange(&gate->held, 0);
    return true;
}
