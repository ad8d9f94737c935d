// SPDX-License-Identifier: Apache-2.0
#include "common/roots/root_record.h"

#include <jansson.h>

#include "common/base/mem.h"

#define FIELDS 5

// ---- writing -----------------------------------------------------------------------------------

void root_record_encode(const struct root_record *record, const struct members *names,
                        struct buf *to)
{
    char history[HASH128_TEXT_BYTES];
    for (unsigned i = 0; i < HISTORY_ID_BYTES; i++) {
        snprintf(history + 2 * (size_t)i, 3, "%02x", record->history[i]);
    }
    CHECK(record->leadership.leader < names->count);
    json_t *in_sync = json_array();
    for (unsigned i = 0; i < names->count; i++) {
        if (set_has(record->in_sync, i)) {
            json_array_append_new(in_sync, json_string(names->all[i].name));
        }
    }
    json_t *json = json_object();
    json_object_set_new(json, "history", json_string(history));
    json_object_set_new(json, "epoch", json_integer((json_int_t)record->leadership.epoch));
    json_object_set_new(json, "leader", json_string(names->all[record->leadership.leader].name));
    json_object_set_new(json, "in_sync", in_sync);
    json_object_set_new(json, "generation", json_integer((json_int_t)record->generation));
    char text[ROOT_RECORD_BYTES_MAX];
    size_t size = json_dumpb(json, text, sizeof text, JSON_COMPACT);
    json_decref(json);
    CHECK(size > 0 && size <= sizeof text);
    buf_append(to, text, size);
}

// ---- reading -----------------------------------------------------------------------------------

static bool take_history(const json_t *json, uint8_t *to)
{
    const char *text = json_string_value(json);
    if (text == NULL || strlen(text) != 2 * HISTORY_ID_BYTES ||
        strspn(text, "0123456789abcdef") != 2 * HISTORY_ID_BYTES) {
        return false;
    }
    for (unsigned i = 0; i < HISTORY_ID_BYTES; i++) {
        if (sscanf(text + 2 * (size_t)i, "%2hhx", &to[i]) != 1) {
            return false;
        }
    }
    return true;
}

static bool take_number(const json_t *json, uint64_t *to)
{
    *to = (uint64_t)json_integer_value(json);
    return json_is_integer(json) && json_integer_value(json) >= 1 && *to <= EPOCH_MAX;
}

static const char *take_in_sync(const json_t *json, const struct members *names, uint32_t *to)
{
    *to = 0;
    if (!json_is_array(json) || json_array_size(json) == 0) {
        return "`in_sync` is no list of roots";
    }
    size_t i;
    const json_t *one;
    json_array_foreach(json, i, one) {
        const char *name = json_string_value(one);
        unsigned root = name == NULL ? ROOT_NOBODY : root_find(names, name);
        if (root == ROOT_NOBODY) {
            return "`in_sync` names a root that is not in `roots`";
        }
        if (set_has(*to, root)) {
            return "`in_sync` names a root twice";
        }
        *to |= ROOT_BIT(root);
    }
    return NULL;
}

// NULL, or what is wrong.
static const char *take(const json_t *json, const struct members *names,
                        struct root_record *record)
{
    const char *leader = json_string_value(json_object_get(json, "leader"));
    if (!take_history(json_object_get(json, "history"), record->history)) {
        return "`history` is not 32 hexadecimal digits";
    }
    if (!take_number(json_object_get(json, "epoch"), &record->leadership.epoch)) {
        return "`epoch` is no number from 1 on";
    }
    if (!take_number(json_object_get(json, "generation"), &record->generation)) {
        return "`generation` is no number from 1 on";
    }
    if (leader == NULL) {
        return "`leader` is no name";
    }
    record->leadership.leader = root_find(names, leader);
    const char *reason = take_in_sync(json_object_get(json, "in_sync"), names, &record->in_sync);
    if (reason == NULL && json_object_size(json) != FIELDS) {
        reason = "it has a field that is not known here";
    }
    return reason;
}

int root_record_decode(struct bytes text, const struct members *names,
                       struct root_record *ret_record, const char **ret_reason)
{
    if (text.size > ROOT_RECORD_BYTES_MAX) {
        *ret_reason = "it is too long";
        return ERR_PROTOCOL;
    }
    json_error_t error;
    json_t *json = text.size == 0 ? NULL
                                  : json_loadb((const char *)text.data, text.size,
                                               JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(json)) {
        json_decref(json);
        *ret_reason = "it is no JSON object";
        return ERR_PROTOCOL;
    }
    struct root_record record;
    *ret_reason = take(json, names, &record);
    json_decref(json);
    if (*ret_reason != NULL) {
        return ERR_PROTOCOL;
    }
    *ret_record = record;
    return OK;
}
