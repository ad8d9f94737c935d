// SPDX-License-Identifier: Apache-2.0
#include "common/core/attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/mem.h"

// The first start that died did not say where. With it, this many make three.
#define TIMES_MAX 2
// 0 block u64 · 8 times u64 · 16 check (XXH3-64 of the 16 bytes before)
#define FILE_BYTES 24

static void failed(const struct attempt *attempt, const char *what)
{
    log_line(LOG_WARN, attempt->scope, "%s: %s: %s", attempt->path, what, strerror(errno));
}

// In place, and not synced: it is for a process that dies, and one that dies leaves what it wrote.
// A write that was torn all the same is found by its check and counts as "died, not known where".
static void write_file(const struct attempt *attempt)
{
    uint8_t bytes[FILE_BYTES];
    store_u64(bytes, attempt->block);
    store_u64(bytes + 8, attempt->times);
    store_u64(bytes + 16, hash64(bytes_of(bytes, 16), 0));
    int fd = open(attempt->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0 || pwrite(fd, bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
        failed(attempt, "write");
    }
    if (fd >= 0) {
        close(fd);
    }
}

// True: an earlier start died.
static bool read_file(struct attempt *attempt)
{
    int fd = open(attempt->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno != ENOENT) {
            failed(attempt, "open");
        }
        return false;
    }
    uint8_t bytes[FILE_BYTES];
    ssize_t size = pread(fd, bytes, sizeof bytes, 0);
    close(fd);
    if (size == (ssize_t)sizeof bytes && load_u64(bytes + 16) == hash64(bytes_of(bytes, 16), 0)) {
        attempt->block = load_u64(bytes);
        attempt->times = load_u64(bytes + 8);
    }
    return true;
}

uint64_t attempt_open(struct attempt *attempt, const char *directory, const char *scope,
                      uint64_t applied)
{
    *attempt = (struct attempt){.path = mem_format("%s/REPLAYING", directory), .scope = scope};
    attempt->careful = read_file(attempt);
    if (attempt->block <= applied) {
        attempt->block = attempt->times = 0; // it went through since
    }
    if (attempt->times >= TIMES_MAX) {
        log_line(LOG_ERROR, scope,
                 "starts died again and again while applying block %llu: this one stops before it "
                 "and serves what it has. Remove %s to try it once more",
                 (unsigned long long)attempt->block, attempt->path);
        return attempt->block;
    }
    write_file(attempt);
    return UINT64_MAX;
}

void attempt_block(struct attempt *attempt, uint64_t number)
{
    // The start before went through all that stands before the block where it died.
    if (attempt->path == NULL || !attempt->careful || number < attempt->block) {
        return;
    }
    attempt->times = attempt->block == number ? attempt->times + 1 : 1;
    attempt->block = number;
    write_file(attempt);
}

static void remove_file(const struct attempt *attempt)
{
    if (unlink(attempt->path) != 0 && errno != ENOENT) {
        failed(attempt, "unlink");
    }
}

void attempt_forget(struct attempt *attempt, const char *directory, const char *scope)
{
    mem_free(attempt->path);
    *attempt = (struct attempt){.path = mem_format("%s/REPLAYING", directory), .scope = scope};
    remove_file(attempt);
}

void attempt_close(struct attempt *attempt)
{
    // A verdict stays until somebody takes it away.
    if (attempt->path != NULL && attempt->times < TIMES_MAX) {
        remove_file(attempt);
    }
    mem_free(attempt->path);
    attempt->path = NULL;
}
