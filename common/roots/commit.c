// SPDX-License-Identifier: Apache-2.0
// A record: 0 magic u32 · 4 version u32 · 8 sequence u64 · 16 history · 32 block u64 ·
// 40 index u64 · 48 chain · 64 reserved, 0 · 112 check (XXH3-128 of the 112 bytes before). They
// stand a page apart.
#include "common/roots/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define MAGIC 0x4d435351u // "QSCM"
#define VERSION 1
#define RECORD_BYTES 128
#define CHECKED_BYTES 112
#define SPACING 4096
#define FILE_BYTES (2 * SPACING)

struct commit {
    int fd;
    bool failed;
    uint64_t sequence; // of the newest record; it stands at the place of its lowest bit
    uint8_t history[HISTORY_ID_BYTES];
    const char *scope;
    char *path;
    pthread_mutex_t lock;
    struct journal_place known; // lock
};

static void encode(const struct commit *commit, const struct journal_place *place,
                   uint8_t to[RECORD_BYTES])
{
    memset(to, 0, RECORD_BYTES);
    store_u32(to, MAGIC);
    store_u32(to + 4, VERSION);
    store_u64(to + 8, commit->sequence);
    memcpy(to + 16, commit->history, HISTORY_ID_BYTES);
    store_u64(to + 32, place->number);
    store_u64(to + 40, place->index);
    hash128_store(to + 48, place->chain);
    hash128_store(to + CHECKED_BYTES, hash128(bytes_of(to, CHECKED_BYTES), 0));
}

// Takes over a record if it is sound and the newest so far.
static bool decode(struct commit *commit, const uint8_t *from)
{
    struct hash128 check = hash128(bytes_of(from, CHECKED_BYTES), 0);
    uint64_t sequence = load_u64(from + 8);
    if (load_u32(from) != MAGIC || load_u32(from + 4) != VERSION ||
        !hash128_equal(check, hash128_load(from + CHECKED_BYTES))) {
        return false;
    }
    if (sequence >= commit->sequence) {
        commit->sequence = sequence;
        memcpy(commit->history, from + 16, HISTORY_ID_BYTES);
        commit->known = (struct journal_place){.number = load_u64(from + 32),
                                               .index = load_u64(from + 40),
                                               .chain = hash128_load(from + 48)};
    }
    return true;
}

static int fail(const struct commit *commit, const char *what)
{
    int code = errno;
    log_line(LOG_ERROR, commit->scope, "cannot %s %s: %s", what, commit->path, strerror(code));
    return error_from_errno(code);
}

// A new file at each start: of one whose sync has failed the system may hold what no disk has, and
// say of each later sync that all is well.
static int make_file(struct commit *commit)
{
    uint8_t *content = mem_zalloc(FILE_BYTES);
    commit->sequence += commit->sequence % 2; // its one record stands first
    encode(commit, &commit->known, content);
    int error = file_save(commit->path, bytes_of(content, FILE_BYTES));
    mem_free(content);
    return error == OK ? OK : fail(commit, "write");
}

static int read_file(struct commit *commit, bool *ret_found)
{
    uint8_t *content = mem_alloc(FILE_BYTES);
    size_t size = 0;
    int error = file_load(commit->path, content, FILE_BYTES, &size);
    *ret_found = error != ERR_NOT_FOUND;
    if (error == ERR_NOT_FOUND) {
        error = OK;
    } else if (error == ERR_IO) {
        error = fail(commit, "read");
    } else if (error == OK) {
        bool first = size == FILE_BYTES && decode(commit, content);
        bool second = size == FILE_BYTES && decode(commit, content + SPACING);
        error = first || second ? OK : ERR_CORRUPT;
    }
    mem_free(content);
    if (error == ERR_CORRUPT) {
        log_line(LOG_ERROR, commit->scope,
                 "%s is damaged: what was shown here is not known, and a root does not guess; "
                 "restore the file, or empty the instance's directory and let this root begin "
                 "anew from the others", commit->path);
    }
    return error;
}

int commit_open(struct commit **ret_commit, const char *directory, const char *scope,
                struct commit_record *ret_record)
{
    struct commit *commit = mem_zalloc(sizeof *commit);
    commit->fd = -1;
    commit->scope = scope;
    commit->path = mem_format("%s/commit", directory);
    pthread_mutex_init(&commit->lock, NULL);
    bool found = false;
    int error = read_file(commit, &found);
    if (error == OK) {
        error = make_file(commit);
    }
    if (error == OK) {
        commit->fd = open(commit->path, O_RDWR | O_CLOEXEC);
        error = commit->fd < 0 ? fail(commit, "open") : OK;
    }
    if (error != OK) {
        commit_close(commit);
        return error;
    }
    *ret_record = (struct commit_record){.found = found, .place = commit->known};
    memcpy(ret_record->history, commit->history, HISTORY_ID_BYTES);
    *ret_commit = commit;
    return OK;
}

void commit_close(struct commit *commit)
{
    if (commit == NULL) {
        return;
    }
    if (commit->fd >= 0) {
        close(commit->fd);
    }
    pthread_mutex_destroy(&commit->lock);
    mem_free(commit->path);
    mem_free(commit);
}

static int write_record(struct commit *commit, const struct journal_place *place)
{
    uint8_t record[RECORD_BYTES];
    commit->sequence++;
    encode(commit, place, record);
    off_t offset = (off_t)(commit->sequence % 2) * SPACING;
    ssize_t written = pwrite(commit->fd, record, sizeof record, offset);
    if (written >= 0 && written < (ssize_t)sizeof record) {
        errno = EIO;
    }
    if (written < (ssize_t)sizeof record) {
        return fail(commit, "write");
    }
    return fdatasync(commit->fd) == 0 ? OK : fail(commit, "sync");
}

int commit_advance(struct commit *commit, const uint8_t history[HISTORY_ID_BYTES],
                   const struct journal_place *place)
{
    bool same = memcmp(commit->history, history, HISTORY_ID_BYTES) == 0;
    if (same && place->number <= commit->known.number) {
        return OK;
    }
    if (commit->failed) {
        return ERR_IO;
    }
    memcpy(commit->history, history, HISTORY_ID_BYTES);
    int error = write_record(commit, place);
    if (error != OK) {
        commit->failed = true;
        return ERR_IO;
    }
    pthread_mutex_lock(&commit->lock);
    commit->known = *place;
    pthread_mutex_unlock(&commit->lock);
    return OK;
}

struct journal_place commit_known(struct commit *commit)
{
    pthread_mutex_lock(&commit->lock);
    struct journal_place known = commit->known;
    pthread_mutex_unlock(&commit->lock);
    return known;
}
