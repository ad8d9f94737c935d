// SPDX-License-Identifier: Apache-2.0
#include "common/roots/promise.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define NAME "promise"
#define FILE_BYTES_MAX 512
#define CHECK_SEED 1 // of format 1
#define NOBODY "-"   // no node has this name

static char *file_path(const char *directory) { return mem_format("%s/" NAME, directory); }

bool promise_equal(const struct promise *a, const struct promise *b)
{
    return memcmp(a->history, b->history, HISTORY_ID_BYTES) == 0 &&
           leadership_equal(a->leadership, b->leadership) && a->generation == b->generation &&
           a->blank == b->blank && a->alone == b->alone;
}

// ---- text --------------------------------------------------------------------------------------

static void encode(const struct promise *promise, const char *leader, struct buf *to)
{
    buf_append_text(to, "qs promise, format 1\nhistory ");
    for (unsigned i = 0; i < HISTORY_ID_BYTES; i++) {
        buf_format(to, "%02x", promise->history[i]);
    }
    buf_format(to, "\nepoch %" PRIu64 "\nleader %s\ngeneration %" PRIu64 "\nblank %s\n",
               promise->leadership.epoch, leader, promise->generation,
               promise->blank ? "yes" : "no");
    if (promise->alone) {
        buf_append_text(to, "alone yes\n");
    }
    buf_format(to, "check %016" PRIx64 "\n", hash64(buf_bytes(to), CHECK_SEED));
}

// What follows `name` and a blank on the next line of *text.
static bool take_line(char **text, const char *name, char **ret_value)
{
    size_t length = strlen(name);
    char *end = strchr(*text, '\n');
    if (end == NULL || strncmp(*text, name, length) != 0 || (*text)[length] != ' ') {
        return false;
    }
    *end = '\0';
    *ret_value = *text + length + 1;
    *text = end + 1;
    return true;
}

static bool take_number(char **text, const char *name, uint64_t *ret_number)
{
    char *value;
    return take_line(text, name, &value) && sscanf(value, "%" SCNu64, ret_number) == 1;
}

static bool take_history(char **text, uint8_t *to)
{
    char *value;
    if (!take_line(text, "history", &value) || strlen(value) != 2 * HISTORY_ID_BYTES) {
        return false;
    }
    for (unsigned i = 0; i < HISTORY_ID_BYTES; i++) {
        if (sscanf(value + 2 * (size_t)i, "%2hhx", &to[i]) != 1) {
            return false;
        }
    }
    return true;
}

// Reads loosely, for it counts only when writing it again gives the same text, checksum included.
// `text` ends with a zero and is cut up.
static bool decode(char *text, struct bytes whole, const struct members *names,
                   struct promise *ret_promise)
{
    struct promise promise = {0};
    char *leader, *blank, *alone, *head;
    if (!take_line(&text, "qs", &head) || !take_history(&text, promise.history) ||
        !take_number(&text, "epoch", &promise.leadership.epoch) ||
        !take_line(&text, "leader", &leader) ||
        !take_number(&text, "generation", &promise.generation) ||
        !take_line(&text, "blank", &blank)) {
        return false;
    }
    promise.blank = strcmp(blank, "yes") == 0;
    promise.alone = take_line(&text, "alone", &alone);
    promise.leadership.leader = root_find(names, leader);
    struct buf again = {0};
    encode(&promise, leader, &again);
    bool same = bytes_equal(buf_bytes(&again), whole);
    buf_free(&again);
    if (same) {
        *ret_promise = promise;
    }
    return same;
}

// ---- the file ----------------------------------------------------------------------------------

int promise_save(const char *directory, const char *scope, const struct promise *promise,
                 const struct members *names)
{
    unsigned leader = promise->leadership.leader;
    struct buf text = {0};
    encode(promise, leader < names->count ? names->all[leader].name : NOBODY, &text);
    CHECK(text.size <= FILE_BYTES_MAX);
    char *path = file_path(directory);
    int error = file_save(path, buf_bytes(&text));
    if (error != OK) {
        log_line(LOG_ERROR, scope, "cannot write %s: %s", path, strerror(errno));
    }
    mem_free(path);
    buf_free(&text);
    return error;
}

int promise_load(const char *directory, const struct members *names,
                 struct promise *ret_promise)
{
    uint8_t whole[FILE_BYTES_MAX];
    char text[FILE_BYTES_MAX + 1];
    size_t size;
    char *path = file_path(directory);
    int error = file_load(path, whole, sizeof whole, &size);
    mem_free(path);
    if (error != OK) {
        return error;
    }
    memcpy(text, whole, size);
    text[size] = '\0';
    return decode(text, bytes_of(whole, size), names, ret_promise) ? OK : ERR_CORRUPT;
}

int promise_open(const char *directory, const char *scope, bool journal_empty,
                 const struct members *names, struct promise *ret_promise)
{
    int error = promise_load(directory, names, ret_promise);
    if (error == ERR_NOT_FOUND && journal_empty) {
        struct promise blank = {.leadership.leader = ROOT_NOBODY, .blank = true};
        *ret_promise = blank;
        return promise_save(directory, scope, &blank, names);
    }
    if (error == ERR_NOT_FOUND || error == ERR_CORRUPT) {
        log_line(LOG_ERROR, scope,
                 "%s/" NAME " is %s: this root does not know whom it has promised to follow, and "
                 "must not take part with the blocks that it has; begin with an empty directory, "
                 "and it is built anew from the other roots",
                 directory, error == ERR_CORRUPT ? "damaged" : "missing");
        return ERR_CORRUPT;
    }
    if (error != OK) {
        log_line(LOG_ERROR, scope, "cannot read %s/" NAME ": %s", directory, strerror(errno));
    }
    return error;
}
