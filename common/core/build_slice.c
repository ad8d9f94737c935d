// SPDX-License-Identifier: Apache-2.0
#include "common/core/build_slice.h"

#include "common/core/applier.h"
#include "common/wire/message.h"
#include "common/wire/slice_items.h"

static struct journal_place place_of(const struct block_header *header)
{
    return (struct journal_place){
        .number = header->number, .index = block_end(header), .chain = header->chain};
}

int build_slice_decode(struct build_slice *ret_slice, struct bytes payload)
{
    struct message_slice_items message;
    struct build_slice slice;
    int error = message_slice_items_decode(payload, &message);
    if (error == OK && (message.header.size != BLOCK_HEADER_BYTES || message.last > 1 ||
                        message.digest.size != HASH128_BYTES ||
                        message.check.size != HASH128_BYTES)) {
        error = ERR_PROTOCOL;
    }
    if (error == OK) {
        error = block_header_decode(&slice.header, message.header.data);
    }
    if (error == OK &&
        !hash128_equal(hash128(message.items, 0), hash128_load(message.check.data))) {
        error = ERR_CHECKSUM;
    }
    if (error != OK) {
        return error;
    }
    slice.digest =
        (struct digest){.sum = hash128_load(message.digest.data), .keys = message.keys};
    slice.last = message.last == 1;
    slice.items = message.items;
    // One that brings nothing and is not the last would be asked for again for ever.
    if (slice.header.number == 0 || (slice.items.size == 0 && !slice.last)) {
        return ERR_PROTOCOL;
    }
    *ret_slice = slice;
    return OK;
}

int build_slice_fits(const struct build_slice *slice, const struct build_row *row,
                     struct bytes from)
{
    if (row == NULL) {
        return from.size == 0 ? OK : ERR_PROTOCOL;
    }
    if (!bytes_equal(from, bytes_of(row->next, row->next_size))) {
        return ERR_PROTOCOL;
    }
    if (memcmp(slice->header.history, row->start.history, HISTORY_ID_BYTES) != 0) {
        return ERR_HISTORY;
    }
    return slice->header.number < row->start.number ? ERR_BEHIND : OK;
}

// The first slice says where the snapshot begins.
static void begin(const struct build_slice *slice, struct build_row *row)
{
    *row = (struct build_row){.start = slice->header};
    row->state.place = row->highest = place_of(&slice->header);
    row->state.epoch = slice->header.epoch;
    row->state.digest = slice->digest;
    memcpy(row->state.history, slice->header.history, HISTORY_ID_BYTES);
}

// A role that need not hold every value keeps those it has: its store may hold this very version.
static void find_value(struct instance *instance, const uint8_t *history, struct record *record,
                       struct bytes key, struct store_value *pin)
{
    struct record known;
    if (record->held || instance->role->fetch == NULL ||
        memcmp(applier_history(instance), history, HISTORY_ID_BYTES) != 0 ||
        store_get(instance->store, NULL, 0, key, STORE_ANY, pin) != OK) {
        return;
    }
    if (instance->role->decode(pin->data, &known) == OK && known.held &&
        known.version == record->version && known.length == record->length &&
        known.check == record->check) {
        record->held = true;
        record->value = known.value;
    }
}

static int add_item(const struct slice_item *item, struct instance *instance, struct store *store,
                    struct store_batch *batch, const struct block_header *at)
{
    struct record record = {.version = item->version,
                            .length = item->length,
                            .check = item->check,
                            .held = item->held,
                            .value = item->value};
    if (item->version > block_end(at)) {
        return ERR_PROTOCOL;
    }
    if (item->held && record_check(item->version, item->value) != item->check) {
        return ERR_CORRUPT;
    }
    struct store_value pin = {0};
    if (build_keeps(instance, batch, record.length)) {
        find_value(instance, at->history, &record, item->key, &pin);
    } else {
        record.held = false;
    }
    int error = record.held || instance->role->fetch != NULL ? OK : ERR_PROTOCOL;
    if (error == OK) {
        instance->role->put(instance, store, batch, item->key, &record);
    }
    store_value_release(&pin);
    return error;
}

int build_slice_add(struct build_slice *slice, struct instance *instance, struct store *store,
                    struct store_batch *batch, struct build_row *row)
{
    if (row->start.number == 0) {
        begin(slice, row);
    }
    struct unpacker from = unpacker_of(slice->items);
    struct slice_item item;
    int error = OK;
    while (error == OK && store_batch_bytes(batch) < instance->options->apply_chunk &&
           slice_item_next(&from, &item)) {
        if (bytes_compare(item.key, bytes_of(row->next, row->next_size)) <= 0) {
            return ERR_PROTOCOL;
        }
        error = add_item(&item, instance, store, batch, &slice->header);
        digest_add(&row->held, item.version, item.key);
        memcpy(row->next, item.key.data, item.key.size);
        row->next_size = item.key.size;
    }
    if (error == OK && !unpack_ok(&from)) {
        error = ERR_PROTOCOL;
    }
    slice->items = from.rest;
    if (slice->header.number > row->highest.number) {
        row->highest = place_of(&slice->header);
    }
    // Read at one block, all slices together cannot have more keys than there were: a stream that
    // never ends is found so.
    if (row->highest.number == row->start.number && row->held.keys > row->state.digest.keys) {
        return ERR_PROTOCOL;
    }
    if (slice->items.size == 0) {
        row->slices++;
        row->complete = slice->last;
    }
    return error;
}
