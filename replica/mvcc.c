// SPDX-License-Identifier: Apache-2.0
#include "replica/mvcc.h"

#include "replica/record.h"

#define ESCAPE 0x01
#define END 0x00

// Writes at most twice the key's size.
static size_t escape(uint8_t *to, struct bytes key)
{
    size_t size = 0;
    for (size_t i = 0; i < key.size; i++) {
        uint8_t byte = key.data[i];
        if (byte <= ESCAPE) {
            to[size++] = ESCAPE;
            byte++;
        }
        to[size++] = byte;
    }
    return size;
}

void mvcc_escape(struct buf *to, struct bytes key)
{
    uint8_t *room = buf_reserve(to, 2 * key.size);
    CHECK(room != NULL);
    buf_commit(to, escape(room, key));
}

size_t mvcc_prefix(uint8_t to[MVCC_PREFIX_MAX], struct bytes key)
{
    CHECK(key.size > 0 && key.size <= KEY_BYTES_MAX);
    size_t size = escape(to, key);
    to[size++] = END;
    return size;
}

size_t mvcc_key(uint8_t to[MVCC_KEY_MAX], struct bytes key, uint64_t valid_until)
{
    size_t size = mvcc_prefix(to, key);
    store_u64_be(to + size, valid_until);
    return size + 8;
}

int mvcc_key_decode(struct bytes row_key, uint8_t *to, size_t *ret_size, uint64_t *ret_valid_until)
{
    size_t size = 0;
    size_t at = 0;
    while (at < row_key.size && row_key.data[at] != END) {
        uint8_t byte = row_key.data[at++];
        if (byte == ESCAPE) {
            if (at == row_key.size || row_key.data[at] == END || row_key.data[at] > ESCAPE + 1) {
                return ERR_CORRUPT;
            }
            byte = (uint8_t)(row_key.data[at++] - 1);
        }
        if (size == KEY_BYTES_MAX) {
            return ERR_CORRUPT;
        }
        to[size++] = byte;
    }
    if (size == 0 || row_key.size - at != 1 + 8) {
        return ERR_CORRUPT;
    }
    *ret_valid_until = load_u64_be(row_key.data + at + 1);
    *ret_size = size;
    return OK;
}

// The row under the iterator, or why there is none.
static int read_row(struct store_iterator *iterator, size_t prefix_size,
                    struct mvcc_finding *ret_finding)
{
    if (!store_iterator_valid(iterator)) {
        int error = store_iterator_error(iterator);
        return error != OK ? error : ERR_NOT_FOUND;
    }
    struct bytes row_key = store_iterator_key(iterator);
    if (row_key.size != prefix_size + 8) {
        return ERR_CORRUPT;
    }
    struct record record;
    int error = replica_record_decode(store_iterator_value(iterator), &record);
    if (error != OK) {
        return error;
    }
    uint64_t valid_until = load_u64_be(row_key.data + prefix_size);
    if (record.version > valid_until) {
        return ERR_CORRUPT;
    }
    *ret_finding = (struct mvcc_finding){
        .record = record, .valid_until = valid_until, .iterator = iterator};
    return OK;
}

int mvcc_find(struct store *store, const struct store_snapshot *snapshot, struct bytes key,
              uint64_t t, struct mvcc_finding *ret_finding)
{
    uint8_t lower[MVCC_KEY_MAX];
    size_t lower_size = mvcc_key(lower, key, t);
    // The terminator raised by one sorts after every row of this key and before any other key's.
    uint8_t upper[MVCC_PREFIX_MAX];
    size_t upper_size = mvcc_prefix(upper, key);
    upper[upper_size - 1] = END + 1;

    struct bytes from = bytes_of(lower, lower_size);
    struct store_iterator *iterator = store_iterator_open(store, snapshot, REPLICA_MVCC, from,
                                                          bytes_of(upper, upper_size));
    store_iterator_seek(iterator, from);
    int error = read_row(iterator, upper_size, ret_finding);
    if (error != OK) {
        store_iterator_close(iterator);
    }
    return error;
}

// The default row as a finding. ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO.
static int find_newest(struct store *store, const struct store_snapshot *snapshot,
                       struct bytes key, struct mvcc_finding *ret_finding)
{
    struct store_value row = {0};
    int error = store_get(store, snapshot, REPLICA_DEFAULT, key, STORE_ANY, &row);
    if (error != OK) {
        return error;
    }
    struct record record;
    error = replica_record_decode(row.data, &record);
    if (error != OK) {
        store_value_release(&row);
        return error;
    }
    *ret_finding =
        (struct mvcc_finding){.record = record, .valid_until = UINT64_MAX, .pin = row};
    return OK;
}

int mvcc_read(struct store *store, const struct store_snapshot *snapshot, struct bytes key,
              uint64_t t, struct mvcc_finding *ret_finding)
{
    struct mvcc_finding finding = {0};
    int error = find_newest(store, snapshot, key, &finding);
    if (error == OK && finding.record.version > t) {
        mvcc_release(&finding);
        error = ERR_NOT_FOUND;
    }
    if (error == ERR_NOT_FOUND) {
        error = mvcc_find(store, snapshot, key, t, &finding);
    }
    if (error == OK && finding.record.version > t) {
        mvcc_release(&finding);
        error = ERR_NOT_FOUND;
    }
    if (error == OK) {
        *ret_finding = finding;
    }
    return error;
}

void mvcc_release(struct mvcc_finding *finding)
{
    if (finding->iterator != NULL) {
        store_iterator_close(finding->iterator);
    }
    store_value_release(&finding->pin);
    *finding = (struct mvcc_finding){0};
}
