// SPDX-License-Identifier: Apache-2.0
// The reads of the public header, each a command with the fence that suits it.
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/client/call.h"
#include "common/client/fault.h"
#include "common/client/qs.h"
#include "common/wire/resp.h"

#define INDEX_TEXT 24

// ---- shapes ------------------------------------------------------------------------------------

// One [value or nil, version, index].
static bool is_versioned(const struct answers *answers, size_t at)
{
    const struct answer *array = answers_item(answers, at, '*');
    return array != NULL && array->number == 3 && at + 3 < answers->count &&
           answers->items[at + 1].type == '$' && answers_item(answers, at + 2, ':') != NULL &&
           answers_item(answers, at + 3, ':') != NULL;
}

static int decode_value(struct call *call, const struct answers *answers, size_t at)
{
    if (!is_versioned(answers, at)) {
        return ERR_PROTOCOL;
    }
    call->index = (uint64_t)answers->items[at + 3].number;
    call->result->layout = (struct layout){.first = at, .value = 1, .version = 2};
    call->result->rows = 1;
    return OK;
}

static int decode_values(struct call *call, const struct answers *answers, size_t at)
{
    const struct answer *array = answers_item(answers, at, '*');
    size_t rows = array == NULL ? 0 : (size_t)array->number;
    if (rows == 0) {
        return ERR_PROTOCOL;
    }
    for (size_t i = 0; i < rows; i++) {
        if (!is_versioned(answers, at + 1 + 4 * i)) {
            return ERR_PROTOCOL;
        }
    }
    call->index = (uint64_t)answers->items[at + 4].number;
    call->result->layout = (struct layout){.first = at + 1, .stride = 4, .value = 1, .version = 2};
    call->result->rows = rows;
    return OK;
}

static int decode_count(struct call *call, const struct answers *answers, size_t at)
{
    const struct answer *count = answers_item(answers, at, ':');
    call->number = count == NULL ? 0 : (uint64_t)count->number;
    return count == NULL ? ERR_PROTOCOL : OK;
}

static int decode_index(struct call *call, const struct answers *answers, size_t at)
{
    const struct answer *index = answers_item(answers, at, ':');
    call->index = index == NULL ? 0 : (uint64_t)index->number;
    return index == NULL ? ERR_PROTOCOL : OK;
}

// OK or ERR_NOT_FOUND by the only row.
static int found(const struct qs_result *result)
{
    struct qs_bytes value;
    return qs_value(result, 0, &value);
}

// ---- one key -----------------------------------------------------------------------------------

static int get_by_line(struct qs *qs, struct bytes key, const char *least, uint64_t spent_ns,
                       struct qs_result *result)
{
    struct bytes words[] = {bytes_text("QS.GET"), key};
    struct call call = {.qs = qs, .words = words, .count = 2, .fence = FENCE_LEAST,
                        .spent_ns = spent_ns, .result = result, .decode = decode_value};
    int error = least == NULL ? OK : call_least(&call, least);
    if (error == OK) {
        error = call_run(&call);
    }
    return error == OK ? found(result) : error;
}

int qs_get(struct qs *qs, const void *key, size_t key_size, struct qs_result *result)
{
    struct bytes name = bytes_of(key, key_size);
    struct door_answer answer = {0};
    if (qs->door != NULL) {
        struct seen seen = handle_seen(qs);
        int code = qs->door->calls->get(qs->door, name, seen.index, result, &answer);
        if (code != ERR_INCOMPLETE) {
            handle_saw(qs, seen.session, answer.index);
            return code;
        }
    }
    return get_by_line(qs, name, NULL, answer.spent_ns, result);
}

int qs_get_min(struct qs *qs, const void *key, size_t key_size, const char *least,
               struct qs_result *result)
{
    return get_by_line(qs, bytes_of(key, key_size), least, 0, result);
}

int qs_get_at(struct qs *qs, const void *key, size_t key_size, uint64_t index,
              struct qs_result *result)
{
    char text[INDEX_TEXT];
    snprintf(text, sizeof text, "%llu", (unsigned long long)index);
    struct bytes words[] = {bytes_text("QS.GETAT"), bytes_of(key, key_size), bytes_text(text)};
    struct call call = {.qs = qs, .words = words, .count = 3, .fence = FENCE_BEFORE,
                        .least = index, .result = result, .decode = decode_value};
    int error = call_run(&call);
    return error == OK ? found(result) : error;
}

int qs_exists(struct qs *qs, const void *key, size_t key_size)
{
    struct bytes words[] = {bytes_text("EXISTS"), bytes_of(key, key_size)};
    struct door_answer answer = {0};
    if (qs->door != NULL) {
        struct seen seen = handle_seen(qs);
        int code = qs->door->calls->exists(qs->door, words[1], seen.index, &answer);
        if (code != ERR_INCOMPLETE) {
            handle_saw(qs, seen.session, answer.index);
            return code;
        }
    }
    struct call call = {.qs = qs, .words = words, .count = 2, .fence = FENCE_AROUND,
                        .spent_ns = answer.spent_ns, .decode = decode_count};
    int error = call_run(&call);
    return error != OK ? error : call.number > 0 ? OK : ERR_NOT_FOUND;
}

// ---- several keys ------------------------------------------------------------------------------

// Of the keys that are left, or, with left NULL, of all.
static int get_many_by_line(struct qs *qs, const struct door_many *many, const bool *left,
                            uint64_t spent_ns, struct qs_result *result)
{
    struct bytes *words = mem_alloc((many->count + 1) * sizeof *words);
    size_t count = 0;
    words[0] = bytes_text("QS.MGET");
    for (size_t i = 0; i < many->count; i++) {
        if (left == NULL || left[i]) {
            words[++count] = bytes_of(many->keys[i].data, many->keys[i].size);
        }
    }
    struct call call = {.qs = qs, .words = words, .count = count + 1, .fence = FENCE_LEAST,
                        .spent_ns = spent_ns, .result = result, .decode = decode_values};
    int error = call_run(&call);
    mem_free(words);
    if (error == OK && result->rows != count) {
        error = fault(ERR_PROTOCOL, "%s: %zu keys were answered with %zu values", qs->where, count,
                      result->rows);
    }
    return error;
}

// Some are known at the door, the rest is asked for. Nothing of it counts if the session ended
// meanwhile: then one part may be of another history than the other.
static int get_many_by_both(struct qs *qs, struct door_many *many, const struct seen *seen,
                            uint64_t spent_ns, struct qs_result *result)
{
    struct qs_result rest = {0};
    struct door_answer answer;
    int error = get_many_by_line(qs, many, many->left, spent_ns, &rest);
    if (error == OK) {
        many->asked = &rest;
        error = qs->door->calls->get_many(qs->door, many, 0, result, &answer);
        if (handle_seen(qs).session != seen->session) {
            error = ERR_INCOMPLETE;
        }
    }
    result_close(&rest);
    return error;
}

static int get_many_by_door(struct qs *qs, struct door_many *many, uint64_t *ret_spent_ns,
                            struct qs_result *result)
{
    struct seen seen = handle_seen(qs);
    struct door_answer answer;
    int code = qs->door->calls->get_many(qs->door, many, seen.index, result, &answer);
    if (code == ERR_INCOMPLETE && many->known > 0) {
        uint64_t began_ns = clock_mono_ns() - answer.spent_ns;
        code = get_many_by_both(qs, many, &seen, answer.spent_ns, result);
        answer.spent_ns = clock_mono_ns() - began_ns;
    } else if (code == OK) {
        handle_saw(qs, seen.session, answer.index);
    }
    *ret_spent_ns = answer.spent_ns;
    return code;
}

int qs_get_many(struct qs *qs, size_t count, const struct qs_bytes *keys, struct qs_result *result)
{
    if (count == 0) {
        return fault(ERR_USAGE, "%s: no key was named", qs->where);
    }
    struct door_many many = {.keys = keys, .count = count};
    uint64_t spent_ns = 0;
    int code = ERR_INCOMPLETE;
    if (qs->door != NULL) {
        many.left = mem_alloc(count * sizeof *many.left);
        code = get_many_by_door(qs, &many, &spent_ns, result);
        mem_free(many.left);
    }
    return code == ERR_INCOMPLETE ? get_many_by_line(qs, &many, NULL, spent_ns, result) : code;
}

// ---- indexes -----------------------------------------------------------------------------------

int qs_index(struct qs *qs, uint64_t *ret_index)
{
    struct bytes words[] = {bytes_text("QS.INDEX")};
    struct call call = {
        .qs = qs, .words = words, .count = 1, .fence = FENCE_INDEX, .decode = decode_index};
    int error = call_run(&call);
    if (error == OK) {
        *ret_index = call.index;
    }
    return error;
}

int qs_wait(struct qs *qs, const char *least, uint32_t wait_ms, uint64_t *ret_index)
{
    struct bytes words[] = {bytes_text("QS.INDEX")};
    struct call call = {.qs = qs, .words = words, .count = 1, .fence = FENCE_INDEX,
                        .decode = decode_index, .timed = true, .wait_ms = wait_ms};
    int error = call_least(&call, least);
    if (error == OK) {
        error = call_run(&call);
    }
    if (error == OK && ret_index != NULL) {
        *ret_index = call.index;
    }
    return error;
}
