// SPDX-License-Identifier: Apache-2.0
#include "replica/txn.h"

#define FIRST_TABLE 64

void txn_open(struct txn *txn, const struct overlay *overlay)
{
    *txn = (struct txn){.overlay = overlay, .table_size = FIRST_TABLE};
    txn->table = mem_zalloc(FIRST_TABLE * sizeof *txn->table);
}

void txn_close(struct txn *txn)
{
    txn_reset(txn);
    mem_free(txn->table);
    mem_free(txn->touches);
    mem_free(txn->pins);
    *txn = (struct txn){0};
}

void txn_start(struct txn *txn, struct instance *instance, struct view *view, uint64_t next_index,
               bool nothing)
{
    txn_reset(txn);
    txn->instance = instance;
    txn->view = view;
    txn->next_index = next_index;
    txn->nothing = nothing;
}

void txn_reset(struct txn *txn)
{
    for (size_t i = 0; i < txn->pin_count; i++) {
        store_value_release(&txn->pins[i]);
    }
    if (txn->touch_count > 0) {
        memset(txn->table, 0, txn->table_size * sizeof *txn->table);
    }
    txn->pin_count = 0;
    txn->touch_count = 0;
    txn->bytes = 0;
    txn->promised = false;
    txn->error = OK;
    arena_free(&txn->arena);
}

// ---- the table of touched keys -----------------------------------------------------------------

static size_t slot_of(const struct txn *txn, struct bytes key)
{
    size_t slot = hash64(key, 1) & (txn->table_size - 1);
    while (txn->table[slot] != 0 && !bytes_equal(txn->touches[txn->table[slot] - 1].key, key)) {
        slot = (slot + 1) & (txn->table_size - 1);
    }
    return slot;
}

static void grow_table(struct txn *txn)
{
    mem_free(txn->table);
    txn->table_size *= 2;
    txn->table = mem_zalloc(txn->table_size * sizeof *txn->table);
    for (size_t i = 0; i < txn->touch_count; i++) {
        txn->table[slot_of(txn, txn->touches[i].key)] = (uint32_t)(i + 1);
    }
}

static struct touch *find_touch(const struct txn *txn, struct bytes key)
{
    if (txn->touch_count == 0) {
        return NULL;
    }
    uint32_t position = txn->table[slot_of(txn, key)];
    return position == 0 ? NULL : &txn->touches[position - 1];
}

static struct touch *add_touch(struct txn *txn, struct bytes key, uint64_t before)
{
    if (txn->touch_count == txn->touch_capacity) {
        txn->touch_capacity = txn->touch_capacity == 0 ? 16 : txn->touch_capacity * 2;
        txn->touches = mem_realloc(txn->touches, txn->touch_capacity * sizeof *txn->touches);
    }
    if (txn->touch_count * 2 >= txn->table_size) {
        grow_table(txn);
    }
    struct touch *touch = &txn->touches[txn->touch_count];
    *touch = (struct touch){.key = arena_copy(&txn->arena, key), .before = before,
                            .present = before != 0};
    txn->table[slot_of(txn, key)] = (uint32_t)++txn->touch_count;
    return touch;
}

// ---- reading -----------------------------------------------------------------------------------

static struct store_value *add_pin(struct txn *txn)
{
    if (txn->pin_count == txn->pin_capacity) {
        txn->pin_capacity = txn->pin_capacity == 0 ? 16 : txn->pin_capacity * 2;
        txn->pins = mem_realloc(txn->pins, txn->pin_capacity * sizeof *txn->pins);
    }
    return &txn->pins[txn->pin_count];
}

// The key as it was before this transaction.
static int read_before(struct txn *txn, struct bytes key, bool keep, struct txn_value *ret_value)
{
    const struct overlay_entry *entry = overlay_find(txn->overlay, key);
    if (entry != NULL) {
        if (!entry->present) {
            return ERR_NOT_FOUND;
        }
        *ret_value = (struct txn_value){.version = entry->index, .value = entry->value};
        return OK;
    }
    if (front_absent(txn->view->front, key)) {
        METRIC_ADD(txn->instance->metrics, instance, writes_filtered, 1);
        return ERR_NOT_FOUND;
    }
    struct store_value *pin = add_pin(txn);
    int error = store_get(txn->view->store, txn->view->snapshot, 0, key, STORE_ANY, pin);
    if (error != OK) {
        return error;
    }
    struct record record;
    error = txn->instance->role->decode(pin->data, &record);
    if (error != OK || !keep) {
        store_value_release(pin);
    } else {
        txn->pin_count++;
    }
    if (error == OK) {
        *ret_value = (struct txn_value){.version = record.version,
                                        .value = keep ? record.value : bytes_of(NULL, 0)};
    }
    return error;
}

int txn_get(struct txn *txn, struct bytes key, bool value, struct txn_value *ret_value)
{
    if (key.size == 0 || key.size > KEY_BYTES_MAX) {
        return ERR_KEY_SIZE;
    }
    const struct touch *touch = find_touch(txn, key);
    if (touch == NULL || !touch->written) {
        return read_before(txn, key, value, ret_value);
    }
    if (!touch->present) {
        return ERR_NOT_FOUND;
    }
    *ret_value = (struct txn_value){.value = touch->value, .own = true};
    return OK;
}

// ---- writing -----------------------------------------------------------------------------------

// The touch of a key that is about to be written. Errors are sticky: half a batch is none.
static int touch_key(struct txn *txn, struct bytes key, size_t value_size, struct touch **ret_touch)
{
    const struct instance_options *options = txn->instance->options;
    if (txn->error != OK) {
        return txn->error;
    }
    if (key.size == 0 || key.size > KEY_BYTES_MAX) {
        return txn->error = ERR_KEY_SIZE;
    }
    if (value_size > options->value_bytes) {
        return txn->error = ERR_VALUE_SIZE;
    }
    struct touch *touch = find_touch(txn, key);
    txn->bytes += value_size + (touch == NULL ? key.size : 0);
    if (txn->bytes > options->batch_bytes ||
        (touch == NULL && txn->touch_count >= options->batch_entries)) {
        return txn->error = ERR_BATCH_SIZE;
    }
    if (touch == NULL) {
        struct txn_value before = {0};
        int error = read_before(txn, key, false, &before);
        if (error != OK && error != ERR_NOT_FOUND) {
            return txn->error = error;
        }
        touch = add_touch(txn, key, before.version);
    }
    *ret_touch = touch;
    return OK;
}

int txn_put(struct txn *txn, struct bytes key, struct bytes value)
{
    struct touch *touch;
    int error = touch_key(txn, key, value.size, &touch);
    if (error == OK) {
        touch->value = arena_copy(&txn->arena, value);
        touch->present = true;
        touch->written = true;
    }
    return error;
}

int txn_delete(struct txn *txn, struct bytes key, bool *ret_existed)
{
    struct touch *touch;
    int error = touch_key(txn, key, 0, &touch);
    if (error == OK) {
        *ret_existed = touch->present;
        touch->present = false;
        touch->written = true;
    }
    return error;
}

bool txn_changes(const struct txn *txn)
{
    for (size_t i = 0; i < txn->touch_count; i++) {
        const struct touch *touch = &txn->touches[i];
        if (touch->written && (touch->present || touch->before != 0)) {
            return true;
        }
    }
    return false;
}

uint64_t txn_index(struct txn *txn)
{
    if (txn->nothing || !txn_changes(txn)) {
        return txn->next_index - 1;
    }
    txn->promised = true;
    return txn->next_index;
}
