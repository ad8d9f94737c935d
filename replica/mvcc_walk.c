// SPDX-License-Identifier: Apache-2.0
// Two iterators in step: the lesser of their user keys is next; its default row decides if it is
// no newer than t, else the first history row with valid_until >= t does.
#include "replica/mvcc_walk.h"

#include "replica/record.h"

struct walk {
    uint64_t t;
    struct store_iterator *rows;    // default family
    struct store_iterator *history; // mvcc family
    uint8_t key[KEY_BYTES_MAX];     // user key of the history row
    size_t key_size;                // 0 = there is none left
    uint64_t valid_until;           // of the history row
};

// Decodes the key of the row under `history`.
static int load_history(struct walk *walk)
{
    walk->key_size = 0;
    if (!store_iterator_valid(walk->history)) {
        return store_iterator_error(walk->history);
    }
    return mvcc_key_decode(store_iterator_key(walk->history), walk->key, &walk->key_size,
                           &walk->valid_until);
}

// What the history rows of the key under `history` say about t.
static int find_history(struct walk *walk, struct record *ret_record)
{
    uint8_t sought[MVCC_KEY_MAX];
    size_t size = mvcc_key(sought, bytes_of(walk->key, walk->key_size), walk->t);
    if (walk->valid_until < walk->t) {
        store_iterator_seek(walk->history, bytes_of(sought, size));
    }
    if (!store_iterator_valid(walk->history)) {
        int error = store_iterator_error(walk->history);
        return error != OK ? error : ERR_NOT_FOUND;
    }
    struct bytes row_key = store_iterator_key(walk->history);
    if (!bytes_prefix(row_key, bytes_of(sought, size - 8))) {
        return ERR_NOT_FOUND; // another key's
    }
    int error = replica_record_decode(store_iterator_value(walk->history), ret_record);
    if (error == OK && ret_record->version > walk->t) {
        error = ERR_NOT_FOUND;
    }
    return error;
}

// Leaves the rows of `key` (a copy), wherever among or behind them the iterator stands.
static int pass_history(struct walk *walk, struct bytes key)
{
    uint8_t behind[MVCC_PREFIX_MAX];
    size_t size = mvcc_prefix(behind, key);
    struct bytes prefix = bytes_of(behind, size);
    if (store_iterator_valid(walk->history) &&
        bytes_prefix(store_iterator_key(walk->history), prefix)) {
        store_iterator_next(walk->history);
    }
    if (store_iterator_valid(walk->history) &&
        bytes_prefix(store_iterator_key(walk->history), prefix)) {
        behind[size - 1]++; // the terminator raised by one sorts behind every row of the key
        store_iterator_seek(walk->history, prefix);
    }
    return load_history(walk);
}

// The next key: hands it over and leaves it. False: the walk is over, or *ret_error says why.
static bool walk_step(struct walk *walk, role_row *row, void *argument, int *ret_error)
{
    bool present = store_iterator_valid(walk->rows);
    struct bytes past = bytes_of(walk->key, walk->key_size);
    struct bytes key = present ? store_iterator_key(walk->rows) : past;
    if (!present) { // at their end, or where one cannot be read: then no key behind it is known
        *ret_error = store_iterator_error(walk->rows);
        if (*ret_error != OK || past.size == 0) {
            return false;
        }
    }
    int order = past.size == 0 ? -1 : present ? bytes_compare(key, past) : 1;
    key = order > 0 ? past : key;
    struct record record = {0};
    int status = ERR_NOT_FOUND;
    if (order <= 0) {
        status = replica_record_decode(store_iterator_value(walk->rows), &record);
    }
    if (status == OK && record.version > walk->t) {
        status = ERR_NOT_FOUND;
    }
    if (status == ERR_NOT_FOUND && order >= 0) {
        status = find_history(walk, &record);
    }
    if (status != OK && status != ERR_NOT_FOUND && status != ERR_CORRUPT) {
        *ret_error = status;
        return false;
    }
    if (!row(argument, key, status, &record)) {
        return false;
    }
    if (order <= 0) {
        store_iterator_next(walk->rows);
    }
    *ret_error = order >= 0 ? pass_history(walk, past) : OK;
    return *ret_error == OK;
}

// The least row key of the user keys that are not less than `key`, which may be of any length.
static struct bytes bound(struct buf *to, struct bytes key)
{
    if (key.size > 0) {
        mvcc_escape(to, key);
    }
    return buf_bytes(to);
}

int mvcc_walk(struct store *store, const struct store_snapshot *snapshot, uint64_t t,
              const struct role_range *range, role_row *row, void *argument)
{
    struct buf lower = {0};
    struct buf upper = {0};
    struct buf from = {0};
    struct walk walk = {.t = t};
    walk.rows =
        store_iterator_open(store, snapshot, REPLICA_DEFAULT, range->start, range->end);
    walk.history = store_iterator_open(store, snapshot, REPLICA_MVCC, bound(&lower, range->start),
                                       bound(&upper, range->end));
    store_iterator_seek(walk.rows, range->from);
    store_iterator_seek(walk.history, bound(&from, range->from));
    int error = load_history(&walk);
    while (error == OK && walk_step(&walk, row, argument, &error)) {
    }
    store_iterator_close(walk.history);
    store_iterator_close(walk.rows);
    buf_free(&lower);
    buf_free(&upper);
    buf_free(&from);
    return error;
}
