// SPDX-License-Identifier: Apache-2.0
// A generation of the front filter on disk: `front` in the instance's directory. Nothing in it is
// believed before its checksum over everything, its history, and its place in the journal fit:
// a wrong file must not make a key absent.
//
// 0 magic u32 · 4 version u32 · 8 lines u64 · 16 capacity u64 · 24 keys u64 · 32 since u64 ·
// 40 block u64 · 48 index u64 · 56 chain · 72 history · 88 reserved, 0 · 112 check (XXH3-128 of the
// 112 bytes before and the lines) · 128 lines
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/front_private.h"

#define MAGIC 0x46465351u // "QSFF"
#define VERSION 1
#define HEAD_BYTES 128
#define CHECKED_BYTES 112
#define PIECE_LINES 8192
#define PIECE_BYTES ((size_t)PIECE_LINES * BLOOM_LINE_BYTES)

struct head {
    uint64_t lines, capacity, keys, since;
    struct journal_place place;
    uint8_t history[HISTORY_ID_BYTES];
};

static void encode_head(const struct head *head, uint8_t to[HEAD_BYTES])
{
    memset(to, 0, HEAD_BYTES);
    store_u32(to, MAGIC);
    store_u32(to + 4, VERSION);
    store_u64(to + 8, head->lines);
    store_u64(to + 16, head->capacity);
    store_u64(to + 24, head->keys);
    store_u64(to + 32, head->since);
    store_u64(to + 40, head->place.number);
    store_u64(to + 48, head->place.index);
    hash128_store(to + 56, head->place.chain);
    memcpy(to + 72, head->history, HISTORY_ID_BYTES);
}

// ---- writing -----------------------------------------------------------------------------------

// The lines as they are now: others may be adding to them, so each piece is copied once and the
// copy is what is hashed and written.
static bool write_lines(int fd, const struct bloom *bloom, struct hasher *hasher)
{
    uint64_t *piece = mem_alloc(PIECE_BYTES);
    bool written = true;
    for (uint64_t line = 0; line < bloom->count && written; line += PIECE_LINES) {
        uint64_t count = u64_min(PIECE_LINES, bloom->count - line);
        const _Atomic uint64_t *words = bloom->lines[line].words;
        size_t size = (size_t)count * BLOOM_LINE_BYTES;
        for (size_t i = 0; i < size / 8; i++) {
            piece[i] = atomic_load_explicit(&words[i], memory_order_relaxed);
        }
        hasher_add(hasher, piece, size);
        written = file_write_all(fd, bytes_of(piece, size)) == OK;
    }
    mem_free(piece);
    return written;
}

static bool write_file(int fd, const struct bloom *bloom, const struct head *head)
{
    uint8_t data[HEAD_BYTES];
    encode_head(head, data);
    struct hasher *hasher = hasher_new();
    hasher_add(hasher, data, CHECKED_BYTES);
    bool written = lseek(fd, HEAD_BYTES, SEEK_SET) == HEAD_BYTES &&
                   write_lines(fd, bloom, hasher);
    hash128_store(data + CHECKED_BYTES, hasher_result(hasher));
    hasher_free(hasher);
    return written && lseek(fd, 0, SEEK_SET) == 0 &&
           file_write_all(fd, bytes_of(data, HEAD_BYTES)) == OK && fsync(fd) == 0;
}

void front_save(const char *directory, const char *scope, const struct front_generation *generation,
                const struct journal_place *place, const uint8_t history[HISTORY_ID_BYTES])
{
    static struct log_gate gate;
    struct head head = {.lines = generation->bloom.count,
                        .capacity = generation->capacity,
                        .keys = atomic_load(&generation->keys),
                        .since = generation->since,
                        .place = *place};
    memcpy(head.history, history, HISTORY_ID_BYTES);
    char *path = mem_format("%s/front", directory);
    char *temporary = mem_format("%s/front.new", directory);
    int fd = file_fresh(AT_FDCWD, temporary, O_WRONLY);
    bool written = fd >= 0 && write_file(fd, &generation->bloom, &head);
    if (!written || rename(temporary, path) != 0 || file_sync_directory(directory) != OK) {
        LOG_GATED(&gate, LOG_WARN, scope, "cannot write %s: %s", path, strerror(errno));
        unlink(temporary);
    }
    if (fd >= 0) {
        close(fd);
    }
    mem_free(temporary);
    mem_free(path);
}

// ---- reading -----------------------------------------------------------------------------------

static bool decode_head(const uint8_t data[HEAD_BYTES], uint64_t file_bytes, struct head *ret_head)
{
    *ret_head = (struct head){.lines = load_u64(data + 8),
                              .capacity = load_u64(data + 16),
                              .keys = load_u64(data + 24),
                              .since = load_u64(data + 32),
                              .place = {.number = load_u64(data + 40),
                                        .index = load_u64(data + 48),
                                        .chain = hash128_load(data + 56)}};
    memcpy(ret_head->history, data + 72, HISTORY_ID_BYTES);
    // Not yet checked: so the length of the file must agree before it is believed.
    return load_u32(data) == MAGIC && load_u32(data + 4) == VERSION && ret_head->lines > 0 &&
           ret_head->lines <= UINT32_MAX &&
           file_bytes == HEAD_BYTES + ret_head->lines * BLOOM_LINE_BYTES;
}

// The lines, checked. NULL: they are not what was written.
static struct front_generation *read_lines(int fd, const uint8_t data[HEAD_BYTES],
                                           const struct head *head, bool shared)
{
    struct front_generation *generation =
        front_generation_new(head->lines, head->capacity, shared);
    front_generation_begin(generation, head->since);
    atomic_store(&generation->keys, head->keys);
    struct hasher *hasher = hasher_new();
    hasher_add(hasher, data, CHECKED_BYTES);
    bool sound = true;
    for (uint64_t line = 0; line < head->lines && sound; line += PIECE_LINES) {
        uint8_t *to = (uint8_t *)&generation->bloom.lines[line];
        size_t size = (size_t)u64_min(PIECE_LINES, head->lines - line) * BLOOM_LINE_BYTES;
        sound = file_read_all(fd, to, size) == OK;
        hasher_add(hasher, to, size);
    }
    struct hash128 check = hasher_result(hasher);
    hasher_free(hasher);
    if (!sound || !hash128_equal(check, hash128_load(data + CHECKED_BYTES))) {
        front_release(generation);
        return NULL;
    }
    return generation;
}

// Does the journal know the place, and reach on from there?
static bool place_fits(struct journal *journal, const struct head *head)
{
    struct block_header header;
    bool known = journal_has_history(journal) &&
                 memcmp(journal_history(journal), head->history, HISTORY_ID_BYTES) == 0 &&
                 journal_header(journal, head->place.number, &header) == OK;
    return known && block_end(&header) == head->place.index &&
           hash128_equal(header.chain, head->place.chain) &&
           head->place.number >= journal_oldest(journal).number;
}

static int read_file(int fd, struct journal *journal, const struct instance_options *options,
                     struct front_generation **ret_generation, struct head *ret_head,
                     const char **ret_reason)
{
    struct stat info;
    uint8_t data[HEAD_BYTES];
    *ret_reason = "it is damaged";
    if (fstat(fd, &info) != 0 || file_read_all(fd, data, sizeof data) != OK ||
        !decode_head(data, (uint64_t)info.st_size, ret_head)) {
        return ERR_CORRUPT;
    }
    if (ret_head->lines * BLOOM_LINE_BYTES > options->filter_bytes) {
        *ret_reason = "it is larger than filter_bytes";
        return ERR_CORRUPT;
    }
    struct front_generation *generation = read_lines(fd, data, ret_head, options->share_memory);
    if (generation == NULL) {
        return ERR_CORRUPT;
    }
    if (!place_fits(journal, ret_head)) {
        *ret_reason = "the journal does not go on from there";
        front_release(generation);
        return ERR_CORRUPT;
    }
    *ret_generation = generation;
    return OK;
}

int front_read(const char *directory, const struct instance_options *options,
               struct journal *journal, struct front_generation **ret_generation,
               struct journal_place *ret_place)
{
    char *path = mem_format("%s/front", directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct head head;
    const char *reason = strerror(errno);
    int error = fd >= 0           ? read_file(fd, journal, options, ret_generation, &head, &reason)
                : errno == ENOENT ? ERR_NOT_FOUND
                                  : ERR_IO;
    if (error == OK) {
        *ret_place = head.place;
    } else if (error != ERR_NOT_FOUND) {
        log_line(LOG_WARN, options->name,
                 "the front filter in %s is not used, a walk will build another: %s", path, reason);
    }
    if (fd >= 0) {
        close(fd);
    }
    mem_free(path);
    return error;
}
