// SPDX-License-Identifier: Apache-2.0
#include "proxy/recency.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/mem.h"

#define LINE_WORDS 8 // 512 bits
#define LINE_BITS 512
#define PROBES 5
#define PROBE_BITS 9 // one of 512
#define BITS_A_KEY 10
// A period is over when this part of the cache was read anew.
#define PERIOD_SHARE 2
#define AGE_UNKNOWN 2 // stamped in a period that is yet to come: the memory was lost since
#define PERIODS_AHEAD 1024 // of the 65,536 that a stamp tells apart; the others are past

static const char magic[8] = "qsrec 1\n";

struct recency {
    _Atomic uint64_t period;
    _Atomic uint64_t keys, bytes; // touched first in this period
    uint64_t lines;               // of each filter
    _Atomic uint64_t *filters[2]; // [period & 1] is this period's
};

// The file: this, the words of both filters, a checksum (XXH3-128) of all before it.
struct file_head {
    char magic[8];
    uint64_t lines, period, keys, bytes;
};

struct probe {
    uint64_t line;
    uint64_t bits; // PROBES of PROBE_BITS each
};

struct recency *recency_open(uint64_t bytes)
{
    struct recency *recency = mem_zalloc(sizeof *recency);
    recency->lines = u64_max(bytes / 2 / (LINE_BITS / 8), 1);
    for (int i = 0; i < 2; i++) {
        recency->filters[i] = mem_zalloc(recency->lines * LINE_WORDS * sizeof(uint64_t));
    }
    return recency;
}

void recency_close(struct recency *recency)
{
    mem_free(recency->filters[0]);
    mem_free(recency->filters[1]);
    mem_free(recency);
}

static struct probe probe_of(const struct recency *recency, struct bytes key)
{
    struct hash128 hash = hash128(key, 0);
    return (struct probe){
        .line = (uint64_t)(((unsigned __int128)hash.low * recency->lines) >> 64),
        .bits = hash.high,
    };
}

static bool filter_has(const _Atomic uint64_t *filter, struct probe probe)
{
    const _Atomic uint64_t *line = filter + probe.line * LINE_WORDS;
    for (int i = 0; i < PROBES; i++, probe.bits >>= PROBE_BITS) {
        uint64_t at = probe.bits % LINE_BITS;
        uint64_t word = atomic_load_explicit(&line[at / 64], memory_order_relaxed);
        if ((word >> (at % 64) & 1) == 0) {
            return false;
        }
    }
    return true;
}

static void filter_add(_Atomic uint64_t *filter, struct probe probe)
{
    _Atomic uint64_t *line = filter + probe.line * LINE_WORDS;
    for (int i = 0; i < PROBES; i++, probe.bits >>= PROBE_BITS) {
        uint64_t at = probe.bits % LINE_BITS;
        atomic_fetch_or_explicit(&line[at / 64], (uint64_t)1 << (at % 64), memory_order_relaxed);
    }
}

static uint64_t period_of(const struct recency *recency)
{
    return atomic_load_explicit(&recency->period, memory_order_relaxed);
}

void recency_touch(struct recency *recency, struct bytes key, uint64_t bytes)
{
    _Atomic uint64_t *filter = recency->filters[period_of(recency) & 1];
    struct probe probe = probe_of(recency, key);
    if (!filter_has(filter, probe)) { // what is hot costs loads alone
        filter_add(filter, probe);
        atomic_fetch_add_explicit(&recency->keys, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&recency->bytes, bytes, memory_order_relaxed);
    }
}

bool recency_again(struct recency *recency, struct bytes key, uint64_t bytes)
{
    bool again = recency_age(recency, key, (uint16_t)(recency_period(recency) - 2)) < 2;
    recency_touch(recency, key, bytes);
    return again;
}

uint16_t recency_period(const struct recency *recency) { return (uint16_t)period_of(recency); }

unsigned recency_age(const struct recency *recency, struct bytes key, uint16_t stamp)
{
    uint64_t period = period_of(recency);
    struct probe probe = probe_of(recency, key);
    if (filter_has(recency->filters[period & 1], probe)) {
        return 0;
    }
    uint16_t ahead = (uint16_t)(stamp - period), passed = (uint16_t)(period - stamp);
    unsigned age = ahead > 0 && ahead <= PERIODS_AHEAD ? AGE_UNKNOWN : passed;
    return age > 1 && filter_has(recency->filters[(period + 1) & 1], probe) ? 1 : age;
}

bool recency_turn(struct recency *recency, uint64_t cache_bytes)
{
    uint64_t keys_max = recency->lines * LINE_BITS / BITS_A_KEY;
    if (atomic_load(&recency->keys) < keys_max &&
        atomic_load(&recency->bytes) < u64_max(cache_bytes / PERIOD_SHARE, 1)) {
        return false;
    }
    uint64_t next = period_of(recency) + 1;
    _Atomic uint64_t *filter = recency->filters[next & 1];
    for (uint64_t i = 0; i < recency->lines * LINE_WORDS; i++) {
        atomic_store_explicit(&filter[i], 0, memory_order_relaxed);
    }
    atomic_store(&recency->keys, 0);
    atomic_store(&recency->bytes, 0);
    atomic_store(&recency->period, next);
    return true;
}

// ---- the file ----------------------------------------------------------------------------------

static size_t file_bytes(const struct recency *recency)
{
    return sizeof(struct file_head) + 2 * recency->lines * LINE_BITS / 8 + HASH128_BYTES;
}

static void unpack(struct recency *recency, const uint8_t *from)
{
    struct file_head head;
    memcpy(&head, from, sizeof head);
    const uint8_t *words = from + sizeof head;
    for (int i = 0; i < 2; i++) {
        for (uint64_t at = 0; at < recency->lines * LINE_WORDS; at++, words += sizeof(uint64_t)) {
            atomic_init(&recency->filters[i][at], load_u64(words));
        }
    }
    atomic_init(&recency->period, head.period);
    atomic_init(&recency->keys, head.keys);
    atomic_init(&recency->bytes, head.bytes);
}

static void pack(const struct recency *recency, uint8_t *to)
{
    struct file_head head = {.lines = recency->lines,
                             .period = atomic_load(&recency->period),
                             .keys = atomic_load(&recency->keys),
                             .bytes = atomic_load(&recency->bytes)};
    memcpy(head.magic, magic, sizeof magic);
    memcpy(to, &head, sizeof head);
    uint8_t *words = to + sizeof head;
    for (int i = 0; i < 2; i++) {
        for (uint64_t at = 0; at < recency->lines * LINE_WORDS; at++, words += sizeof(uint64_t)) {
            store_u64(words, atomic_load_explicit(&recency->filters[i][at], memory_order_relaxed));
        }
    }
    size_t size = (size_t)(words - to);
    hash128_store(words, hash128(bytes_of(to, size), 0));
}

static bool is_sound(const struct recency *recency, const uint8_t *file, size_t size)
{
    struct file_head head;
    memcpy(&head, file, sizeof head);
    struct hash128 check = hash128_load(file + size - HASH128_BYTES);
    return memcmp(head.magic, magic, sizeof magic) == 0 && head.lines == recency->lines &&
           hash128_equal(check, hash128(bytes_of(file, size - HASH128_BYTES), 0));
}

// All of `size` bytes and no more.
static int read_whole(int fd, uint8_t *to, size_t size)
{
    size_t got = 0;
    ssize_t code = 1;
    while (got <= size && code > 0) {
        uint8_t more;
        code = got < size ? read(fd, to + got, size - got) : read(fd, &more, 1);
        got += code > 0 ? (size_t)code : 0;
    }
    return code < 0 ? ERR_IO : got == size ? OK : ERR_CORRUPT;
}

int recency_load(struct recency *recency, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    }
    size_t size = file_bytes(recency);
    uint8_t *file = mem_alloc(size);
    int error = read_whole(fd, file, size);
    close(fd);
    if (error == OK && !is_sound(recency, file, size)) {
        error = ERR_CORRUPT;
    }
    if (error == OK) {
        unpack(recency, file);
    }
    mem_free(file);
    return error;
}

static int write_whole(int fd, const uint8_t *from, size_t size)
{
    size_t put = 0;
    while (put < size) {
        ssize_t code = write(fd, from + put, size - put);
        if (code <= 0) {
            return code < 0 ? error_from_errno(errno) : ERR_IO;
        }
        put += (size_t)code;
    }
    return OK;
}

// Not synced: a file that a power cut spoils fails its checksum, and the memory begins anew.
int recency_save(const struct recency *recency, const char *path)
{
    size_t size = file_bytes(recency);
    uint8_t *file = mem_alloc(size);
    pack(recency, file);
    char *temporary = mem_format("%s.new", path);
    int fd = file_fresh(AT_FDCWD, temporary, O_WRONLY);
    int error = fd < 0 ? error_from_errno(errno) : write_whole(fd, file, size);
    if (fd >= 0 && close(fd) != 0 && error == OK) {
        error = error_from_errno(errno);
    }
    if (error == OK && rename(temporary, path) != 0) {
        error = error_from_errno(errno);
    }
    if (error != OK) {
        (void)unlink(temporary);
    }
    mem_free(temporary);
    mem_free(file);
    return error;
}
