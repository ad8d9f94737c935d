// SPDX-License-Identifier: Apache-2.0
// A watch: a line of its own on which QS.WATCH streams. After a loss another line begins behind the
// last index that was told, in the history that was watched: so each change is told once.
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/client/call.h"
#include "common/client/fault.h"
#include "common/client/qs.h"

struct qs_watch {
    struct qs *qs;
    struct line *line;                // NULL: to be opened
    struct buf prefix;
    bool placed;                      // `told` says where it stands
    uint64_t told;                    // every change up to here
    char history[HISTORY_DIGITS + 1]; // "": that of the first line
    uint64_t silent_ns;               // waited on this line since anything came
};

int qs_watch_open(struct qs_watch **ret_watch, struct qs *qs, const void *prefix,
                  size_t prefix_size, const char *from)
{
    struct call place = {.least = 0};
    int error = from == NULL ? OK : call_least(&place, from);
    if (error != OK) {
        return error;
    }
    struct qs_watch *watch = mem_zalloc(sizeof *watch);
    watch->qs = qs;
    watch->placed = from != NULL;
    watch->told = place.least - (place.least > 0 ? 1 : 0);
    memcpy(watch->history, place.history, sizeof watch->history);
    buf_append(&watch->prefix, prefix, prefix_size);
    *ret_watch = watch;
    return OK;
}

static void drop_line(struct qs_watch *watch)
{
    if (watch->line != NULL) {
        line_close(watch->line);
        mem_free(watch->line);
        watch->line = NULL;
    }
}

void qs_watch_close(struct qs_watch *watch)
{
    if (watch != NULL) {
        drop_line(watch);
        buf_free(&watch->prefix);
        mem_free(watch);
    }
}

// Opens a line, inside the handle's own limit, and asks for everything behind what was told.
static int begin(struct qs_watch *watch)
{
    struct qs *qs = watch->qs;
    int error = handle_open_line(qs, clock_mono_ns() + qs->timeout_ns, &watch->line);
    if (error != OK) {
        return error;
    }
    struct line *line = watch->line;
    if (!watch->placed) {
        watch->told = u64_max(handle_seen(qs).index, line->seen);
        watch->placed = true;
    }
    if (watch->history[0] == '\0') {
        memcpy(watch->history, line->history, sizeof watch->history);
    }
    char from[QS_TOKEN_BYTES];
    snprintf(from, sizeof from, "%s:%llu", watch->history, (unsigned long long)watch->told + 1);
    struct bytes words[] = {bytes_text("QS.WATCH"), buf_bytes(&watch->prefix), bytes_text("FROM"),
                            bytes_text(from)};
    line_add(line, ARRAY_LEN(words), words);
    watch->silent_ns = 0;
    return OK;
}

// ---- messages ----------------------------------------------------------------------------------

static bool is_named(const struct answers *answers, const char *name, int64_t elements)
{
    const struct answer *array = answers_item(answers, 0, '*');
    const struct answer *word = answers_item(answers, 1, '$');
    return array != NULL && array->number == elements && word != NULL &&
           bytes_equal_text(answer_bytes(answers, word), name) &&
           answers_item(answers, 2, ':') != NULL;
}

// [op, key, value or nil, ...], in which `put` has a value and `delete` none.
static bool are_changes(const struct answers *answers, size_t at)
{
    const struct answer *array = answers_item(answers, at, '*');
    if (array == NULL || array->number % 3 != 0) {
        return false;
    }
    for (size_t i = at + 1; i < at + 1 + (size_t)array->number; i += 3) {
        bool sound = answers_item(answers, i, '$') != NULL &&
                     answers_item(answers, i + 1, '$') != NULL &&
                     i + 2 < answers->count && answers->items[i + 2].type == '$';
        if (!sound) {
            return false;
        }
    }
    return true;
}

// Copies the first message: what stands behind it is of the next one.
static void keep(const struct answers *from, struct qs_result *result)
{
    answers_clear(&result->in);
    result->in.data.limit = 0;
    buf_append(&result->in.data, from->data.data, from->offset);
    CHECK(answers_parse(&result->in, 1) == 1);
}

static int read_message(struct qs_watch *watch, struct qs_result *result)
{
    struct answers *answers = &watch->line->in;
    const struct answer *error = answers_item(answers, 0, '-');
    if (error != NULL) {
        struct bytes text = answer_bytes(answers, error);
        uint64_t number;
        return fault(fault_of_reply(text, &number), "%s: %.*s", watch->qs->where, (int)text.size,
                     (const char *)text.data);
    }
    bool changes = is_named(answers, "qs.watch", 3) && are_changes(answers, 3);
    if (!changes && !is_named(answers, "qs.progress", 2)) {
        return fault(ERR_PROTOCOL, "%s: a message of an unknown shape", watch->qs->where);
    }
    uint64_t index = (uint64_t)answers->items[2].number;
    if (changes && index <= watch->told) {
        return fault(ERR_PROTOCOL, "%s: index %llu was told already", watch->qs->where,
                     (unsigned long long)index);
    }
    keep(answers, result);
    result->layout = (struct layout){.first = 4, .stride = 3, .key = 1, .value = 2};
    result->rows = changes ? (size_t)answers->items[3].number / 3 : 0;
    // One that stands lower than what was told (its place is a later one) has nothing to tell yet.
    watch->told = u64_max(watch->told, index);
    result->index = watch->told;
    answers_next(answers);
    watch->silent_ns = 0;
    handle_saw(watch->qs, watch->line->session, index);
    return OK;
}

// The next message of the line, which is opened if need be.
static int take(struct qs_watch *watch, struct qs_result *result, uint64_t deadline_ns)
{
    int error = watch->line == NULL ? begin(watch) : OK;
    if (error != OK) {
        return error;
    }
    // A daemon sends progress every second, so one that says nothing for so long is gone.
    uint64_t before = clock_mono_ns();
    uint64_t patience_ns = watch->qs->timeout_ns - u64_min(watch->qs->timeout_ns, watch->silent_ns);
    uint64_t until_ns = u64_min(deadline_ns, before + patience_ns);
    error = line_exchange_more(watch->line, until_ns);
    watch->silent_ns += clock_mono_ns() - before;
    if (error == ERR_TIMEOUT && watch->silent_ns < watch->qs->timeout_ns) {
        return error;
    }
    if (error == ERR_TIMEOUT) {
        error = ERR_CLOSED;
    }
    return error == OK ? read_message(watch, result)
                       : fault(error, "%s: %s", watch->qs->where, error_text(error));
}

int qs_watch_next(struct qs_watch *watch, uint32_t wait_ms, struct qs_result *result)
{
    uint64_t deadline_ns = clock_mono_ns() + wait_ms * NS_PER_MS;
    unsigned attempts = 0;
    for (;;) {
        int error = take(watch, result, deadline_ns);
        if (error == OK) {
            return OK;
        }
        if (error == ERR_TIMEOUT && watch->line != NULL) {
            return fault(error, "%s: nothing came", watch->qs->where);
        }
        drop_line(watch);
        if (!call_may_repeat(error) || !call_pause(attempts++, deadline_ns)) {
            return error == ERR_FORKED ? ERR_HISTORY : error;
        }
    }
}
