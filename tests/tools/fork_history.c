// SPDX-License-Identifier: Apache-2.0
// Founds the journal of a root whose history forked from another one: fork_history JOURNAL ANCESTOR
// makes it in the directory JOURNAL, which exists and is empty; ANCESTOR is a history id in
// hexadecimal digits. A root that is started on it goes on from its birth block.
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/data/journal.h"

static bool parse_history(const char *text, uint8_t to[HISTORY_ID_BYTES])
{
    if (strlen(text) != HISTORY_ID_BYTES * 2) {
        return false;
    }
    for (unsigned i = 0; i < HISTORY_ID_BYTES; i++) {
        unsigned byte;
        if (sscanf(text + i * 2, "%2x", &byte) != 1) {
            return false;
        }
        to[i] = (uint8_t)byte;
    }
    return true;
}

static int found(struct journal *journal, const uint8_t ancestor[HISTORY_ID_BYTES])
{
    uint8_t history[HISTORY_ID_BYTES];
    random_fill(history, sizeof history);
    int error = journal_begin(journal, history);
    if (error != OK) {
        return error;
    }
    struct buf payload = {0};
    birth_encode(&payload, bytes_of(ancestor, HISTORY_ID_BYTES), bytes_text("fork"), NULL);
    struct block_stamp stamp = {.epoch = 1, .root_ms = clock_wall_ms()};
    struct block *birth = block_mark(journal_last(journal), stamp, buf_bytes(&payload));
    buf_free(&payload);
    error = journal_append(journal, birth);
    block_release(birth);
    return error == OK ? journal_sync(journal) : error;
}

int main(int count, char **words)
{
    uint8_t ancestor[HISTORY_ID_BYTES];
    if (count != 3 || !parse_history(words[2], ancestor)) {
        fprintf(stderr, "usage: fork_history JOURNAL ANCESTOR\n");
        return 2;
    }
    struct journal_options options = {.directory = words[1],
                                      .scope = "fork",
                                      .segment_bytes = MIB,
                                      .keep_bytes = GIB,
                                      .keep_ms = UINT64_MAX,
                                      .root = true};
    struct journal_report report;
    struct journal *journal;
    int error = journal_open(&journal, &options, &(struct journal_place){0}, &report);
    if (error == OK) {
        error = found(journal, ancestor);
        journal_close(journal);
    }
    if (error != OK) {
        fprintf(stderr, "fork_history: %s\n", error_text(error));
    }
    return error == OK ? 0 : 1;
}
