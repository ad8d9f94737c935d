// SPDX-License-Identifier: Apache-2.0
// In place of common/base/clock.c and common/base/log.c, and the table of descriptors.
#include "tests/sim/seams.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"

// ---- clock and chance --------------------------------------------------------------------------

static uint64_t host_age_ns(const struct host *host)
{
    int64_t age = (int64_t)(world_now_ns() - host->born_ns);
    return (uint64_t)(age + age / 1000000 * host->skew_ppm);
}

uint64_t host_to_world_ns(const struct host *host, uint64_t ns)
{
    if (host == NULL || ns > 1000 * 3600 * NS_PER_S) {
        return ns;
    }
    // Rounded up: a timer that fires early would only find nothing to do.
    return (uint64_t)((__int128)ns * 1000000 / (1000000 + host->skew_ppm)) + 1000;
}

uint64_t clock_mono_ns(void)
{
    const struct host *host = world_host();
    return host == NULL ? world_now_ns() : NS_PER_S + host_age_ns(host);
}

uint64_t clock_wall_ms(void)
{
    const struct host *host = world_host();
    return host == NULL ? world_now_ns() / NS_PER_MS
                        : host->wall_ms + host_age_ns(host) / NS_PER_MS;
}

void clock_sleep_ns(uint64_t ns) { (void)ns; }

void random_fill(void *to, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)to)[i] = (uint8_t)chance_u64();
    }
}

uint64_t random_u64(void) { return chance_u64(); }

uint64_t random_jitter_ms(uint64_t ms)
{
    return ms / 2 + (ms < 2 ? 0 : random_u64() % (ms / 2 + 1));
}

// ---- log ---------------------------------------------------------------------------------------

void log_open(enum log_level level) { (void)level; }

void log_line(enum log_level level, const char *scope, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char who[WORLD_NAME_MAX];
    struct host *host = world_host();
    snprintf(who, sizeof who, "n%u", host != NULL ? host->number : 99);
    (void)scope;
    if (host != NULL && strncmp(text, "starts died again", 17) == 0) {
        host->held = true;
        count_add(COUNT_held, 1);
    }
    count_add(COUNT_too_old, strncmp(text, "too old", 7) == 0);
    world_log(who, "%s%s", level >= LOG_ERROR ? "! " : level == LOG_WARN ? "? " : "", text);
}

bool log_gate_open(struct log_gate *gate, uint64_t *ret_held)
{
    (void)gate; // gates are shared by all nodes here, and the log is a ring anyway
    *ret_held = 0;
    return true;
}

void __wrap_check_failed(const char *file, int line, const char *function, const char *condition);
void __wrap_check_failed(const char *file, int line, const char *function, const char *condition)
{
    const struct host *host = world_host();
    world_fail("check failed on n%u at %s:%d in %s: %s", host != NULL ? host->number : 99, file,
               line, function, condition);
}

// ---- descriptors -------------------------------------------------------------------------------

static struct fd fds[FD_MAX];
static int fds_top;   // none from here on is in use
static int fds_first; // none before it is free

void fds_reset(void)
{
    memset(fds, 0, (size_t)fds_top * sizeof fds[0]);
    fds_top = fds_first = 0;
}

int fd_new(enum fd_kind kind)
{
    for (int i = fds_first; i < FD_MAX; i++) {
        if (fds[i].kind == FD_FREE) {
            fds_first = i + 1;
            fds[i] = (struct fd){.kind = kind, .host = world_host()};
            list_init(&fds[i].backlog);
            fds_top = i >= fds_top ? i + 1 : fds_top;
            return FD_FIRST + i;
        }
    }
    unsigned kinds[FD_EVENT + 1] = {0};
    for (int i = 0; i < FD_MAX; i++) {
        kinds[fds[i].kind] += fds[i].host == world_host() ? 1 : 0;
    }
    world_fail("%d descriptors are open; of n%u: %u files, %u folders, %u sockets", FD_MAX,
               world_host()->number, kinds[FD_FILE], kinds[FD_FOLDER], kinds[FD_SOCKET]);
}

struct fd *fd_of(int number)
{
    if (number < FD_FIRST || number >= FD_FIRST + FD_MAX) {
        return NULL;
    }
    struct fd *fd = &fds[number - FD_FIRST];
    WORLD_CHECK(fd->kind != FD_FREE && (world_host() == NULL || fd->host == world_host()),
                "a closed or foreign descriptor is used");
    return fd;
}

int fd_number(const struct fd *fd) { return FD_FIRST + (int)(fd - fds); }

void fd_free(int number)
{
    int at = number - FD_FIRST;
    fds[at].kind = FD_FREE;
    fds_first = at < fds_first ? at : fds_first;
}

static bool is_listener(const struct fd *fd, unsigned host, unsigned port)
{
    return fd->kind == FD_LISTENER && fd->host->number == host && fd->port == port;
}

struct fd *fd_listener(unsigned host, unsigned port)
{
    static int found[HOSTS_MAX]; // where it was the last time
    if (is_listener(&fds[found[host]], host, port)) {
        return &fds[found[host]];
    }
    for (int i = 0; i < fds_top; i++) {
        if (is_listener(&fds[i], host, port)) {
            found[host] = i;
            return &fds[i];
        }
    }
    return NULL;
}

void fds_each(struct host *host, void (*each)(struct fd *fd))
{
    for (int i = 0; i < fds_top; i++) {
        if (fds[i].kind != FD_FREE && fds[i].host == host) {
            each(&fds[i]);
        }
    }
}
