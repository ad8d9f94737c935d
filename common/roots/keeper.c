// SPDX-License-Identifier: Apache-2.0
#include "common/roots/keeper.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "common/base/mem.h"

#define HTTP_NOT_FOUND 404
// A record in base64, and what Consul says around it.
#define ANSWER_BYTES_MAX (2 * ROOT_RECORD_BYTES_MAX + 1024)

// ---- reading -----------------------------------------------------------------------------------

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

// https://www.rfc-editor.org/rfc/rfc4648#section-4, with its padding. False: it is not.
static bool decode_base64(const char *text, struct buf *to)
{
    size_t size = strlen(text), pad = 0;
    while (pad < 2 && pad < size && text[size - 1 - pad] == '=') {
        pad++;
    }
    uint32_t bits = 0;
    for (size_t i = 0; i < size; i++) {
        int digit = i + pad < size ? digit_of(text[i]) : 0;
        if (digit < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 == 3) {
            uint8_t bytes[] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
            buf_append(to, bytes, i + 1 == size ? 3 - pad : 3);
        }
    }
    return size % 4 == 0;
}

// Of Consul's answer, a list of one row with the value in base64.
static int take_answer(const struct keeper *keeper, struct bytes body,
                       struct root_record *ret_record, uint64_t *ret_index, const char **ret_reason)
{
    json_error_t error;
    struct buf text = {0};
    json_t *rows = body.size == 0 || body.size > ANSWER_BYTES_MAX
                       ? NULL
                       : json_loadb((const char *)body.data, body.size, 0, &error);
    const json_t *row = json_array_get(rows, 0);
    const char *value = json_string_value(json_object_get(row, "Value"));
    json_int_t index = json_integer_value(json_object_get(row, "ModifyIndex"));
    int result = ERR_PROTOCOL;
    *ret_reason = "Consul's answer is no row with a value and a ModifyIndex";
    if (value != NULL && index > 0 && decode_base64(value, &text)) {
        result = root_record_decode(buf_bytes(&text), keeper->setup.names, ret_record, ret_reason);
        *ret_index = (uint64_t)index;
    }
    buf_free(&text);
    json_decref(rows);
    return result;
}

static void on_read(struct consul_call *call, const struct consul_answer *answer)
{
    struct keeper *keeper = CONTAINER_OF(call, struct keeper, read);
    const struct keeper_setup *setup = &keeper->setup;
    if (answer->status == HTTP_NOT_FOUND && answer->leader) {
        setup->read(setup->owner, keeper->read_ticket, NULL, 0);
        return;
    }
    struct root_record record;
    uint64_t index = 0;
    const char *reason = answer->error == OK ? "Consul knows no leader" : answer->reason;
    if (answer->error == OK && answer->leader &&
        take_answer(keeper, answer->body, &record, &index, &reason) == OK) {
        setup->read(setup->owner, keeper->read_ticket, &record, index);
        return;
    }
    LOG_GATED(&keeper->gate, LOG_WARN, setup->scope,
              "cannot read the record of the roots at Consul, %s: %s (status %u)", keeper->path,
              reason, answer->status);
    setup->failed(setup->owner, keeper->read_ticket);
}

void keeper_read(struct keeper *keeper, uint64_t ticket)
{
    consul_cancel(&keeper->read);
    keeper->read_ticket = ticket;
    char *path = mem_format("%s?consistent", keeper->path);
    consul_get(keeper->consul, &keeper->read, path, KEEPER_TIMEOUT_MS);
    mem_free(path);
}

// ---- changing ----------------------------------------------------------------------------------

// Only a plain word says what became of it: an error of any kind may have come after it was done.
static void on_change(struct consul_call *call, const struct consul_answer *answer)
{
    struct keeper *keeper = CONTAINER_OF(call, struct keeper, change);
    const struct keeper_setup *setup = &keeper->setup;
    struct bytes word = answer->body;
    while (word.size > 0 && word.data[word.size - 1] <= ' ') {
        word.size--;
    }
    int result = answer->error != OK                 ? answer->error
                 : bytes_equal_text(word, "true")  ? OK
                 : bytes_equal_text(word, "false") ? ERR_CONFLICT
                                                   : ERR_PROTOCOL;
    if (result != OK && result != ERR_CONFLICT) {
        LOG_GATED(&keeper->gate, LOG_WARN, setup->scope,
                  "cannot tell whether the record of the roots at Consul, %s, was changed: %s "
                  "(status %u)",
                  keeper->path, answer->reason, answer->status);
    }
    setup->changed(setup->owner, keeper->change_ticket, result);
}

void keeper_change(struct keeper *keeper, uint64_t ticket, const struct root_record *record,
                   uint64_t modify_index)
{
    consul_cancel(&keeper->change);
    consul_cancel(&keeper->read); // it may show what was there before
    keeper->change_ticket = ticket;
    char *path = mem_format("%s?cas=%" PRIu64, keeper->path, modify_index);
    struct buf text = {0};
    root_record_encode(record, keeper->setup.names, &text);
    consul_put(keeper->consul, &keeper->change, path, buf_bytes(&text), KEEPER_TIMEOUT_MS);
    buf_free(&text);
    mem_free(path);
}

// ---- health ------------------------------------------------------------------------------------

// A list of checks, of which there is one at most; none may be passing. False: it is no such list.
static bool take_checks(struct bytes body, bool *ret_gone)
{
    json_error_t error;
    json_t *rows = body.size == 0 || body.size > ANSWER_BYTES_MAX
                       ? NULL
                       : json_loadb((const char *)body.data, body.size, 0, &error);
    bool gone = true, sound = json_is_array(rows);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *status =
            json_string_value(json_object_get(json_array_get(rows, i), "Status"));
        sound = sound && status != NULL;
        gone = gone && status != NULL && strcmp(status, "passing") != 0;
    }
    json_decref(rows);
    *ret_gone = gone;
    return sound;
}

static void on_look(struct consul_call *call, const struct consul_answer *answer)
{
    struct keeper *keeper = CONTAINER_OF(call, struct keeper, look);
    bool gone;
    if (answer->error == OK && answer->leader && take_checks(answer->body, &gone)) {
        keeper->setup.looked(keeper->setup.owner, keeper->looked_at, gone);
    }
}

void keeper_look(struct keeper *keeper, unsigned root)
{
    const struct keeper_setup *setup = &keeper->setup;
    if (consul_busy(&keeper->look)) {
        return;
    }
    CHECK(root < setup->names->count);
    keeper->looked_at = root;
    char *path = mem_format("/v1/health/checks/%s?filter=CheckID%%20==%%20%%22%s:%s:ttl%%22",
                            setup->service, setup->service, setup->names->all[root].name);
    consul_get(keeper->consul, &keeper->look, path, KEEPER_TIMEOUT_MS);
    mem_free(path);
}

// ---- watching ----------------------------------------------------------------------------------

static void on_watch(struct inquiry *watch, const struct consul_answer *answer)
{
    struct keeper *keeper = CONTAINER_OF(watch, struct keeper, watch);
    // An agent that has lost what it knew counts anew, and may have come to the same number.
    bool moved = answer->index != keeper->watched || watch->life != keeper->watched_life;
    keeper->watched = answer->index;
    keeper->watched_life = watch->life;
    if (moved) {
        keeper->setup.moved(keeper->setup.owner);
    }
}

uint64_t keeper_turn(struct keeper *keeper, uint64_t now_ns)
{
    return inquiry_turn(&keeper->watch, keeper->consul, now_ns);
}

// ---- life --------------------------------------------------------------------------------------

void keeper_open(struct keeper *keeper, const struct keeper_setup *setup, struct consul *consul)
{
    *keeper = (struct keeper){
        .setup = *setup,
        .consul = consul,
        .path = mem_format("/v1/kv/%s%s/record", setup->prefix, setup->scope),
        .read.answered = on_read,
        .change.answered = on_change,
        .look.answered = on_look,
    };
    inquiry_open(&keeper->watch, mem_text(keeper->path), 0, on_watch);
}

void keeper_close(struct keeper *keeper)
{
    inquiry_close(&keeper->watch);
    consul_cancel(&keeper->read);
    consul_cancel(&keeper->change);
    consul_cancel(&keeper->look);
    mem_free(keeper->path);
}
