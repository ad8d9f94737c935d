// SPDX-License-Identifier: Apache-2.0
#include "common/client/call.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/client/fault.h"
#include "common/client/qs.h"
#include "common/wire/resp.h"

#define PAUSE_MAX_MS 100
#define LEAST_TEXT (QS_TOKEN_BYTES + 24)

bool call_may_repeat(int error)
{
    return error == ERR_CLOSED || error == ERR_BUSY || error == ERR_LOADING ||
           error == ERR_CLIENTS_LIMIT || error == ERR_FORKED;
}

bool call_pause(unsigned attempt, uint64_t deadline_ns)
{
    uint64_t ms = attempt < 7 ? (uint64_t)1 << attempt : PAUSE_MAX_MS;
    uint64_t pause_ns = random_jitter_ms(u64_min(ms, PAUSE_MAX_MS)) * NS_PER_MS;
    uint64_t now = clock_mono_ns();
    if (now >= deadline_ns || pause_ns >= deadline_ns - now) {
        return false;
    }
    clock_sleep_ns(pause_ns);
    return true;
}

int call_least(struct call *call, const char *token)
{
    const char *colon = strchr(token, ':');
    struct bytes index = bytes_text(colon == NULL ? token : colon + 1);
    bool named = colon != NULL && colon - token == HISTORY_DIGITS;
    if ((colon != NULL && !named) || !parse_u64(index, &call->least) ||
        call->least > INT64_MAX) {
        return fault(ERR_USAGE, "'%.80s' is neither an index nor a token", token);
    }
    if (named) {
        memcpy(call->history, token, HISTORY_DIGITS);
        call->history[HISTORY_DIGITS] = '\0';
    }
    return OK;
}

// ---- the request -------------------------------------------------------------------------------

// What the daemon may wait for an index: the call's answer must still come in time.
static uint64_t wait_ms(const struct call *call, uint64_t deadline_ns)
{
    uint64_t now = clock_mono_ns();
    uint64_t left_ms = now < deadline_ns ? (deadline_ns - now) / NS_PER_MS : 0;
    return call->timed ? u64_min(call->wait_ms, left_ms) : left_ms * 3 / 4;
}

// "token ms", as both commands take it.
static void least_text(const struct call *call, const struct line *line, uint64_t least,
                       uint64_t deadline_ns, char to[LEAST_TEXT])
{
    snprintf(to, LEAST_TEXT, "%s:%llu %llu", line->history, (unsigned long long)least,
             (unsigned long long)wait_ms(call, deadline_ns));
}

static void add_with_least(const struct call *call, struct line *line, const char *text)
{
    size_t token_size = strcspn(text, " ");
    reply_array(&line->out, call->count + 3);
    for (size_t i = 0; i < call->count; i++) {
        reply_bulk(&line->out, call->words[i]);
    }
    reply_bulk(&line->out, bytes_text("MININDEX"));
    reply_bulk(&line->out, bytes_of(text, token_size));
    reply_bulk(&line->out, bytes_text(text + token_size + 1));
}

// Appends the command with its fence; *ret_own is the place of its own reply among all `replies`.
static void encode(const struct call *call, struct line *line, uint64_t newest,
                   uint64_t deadline_ns, unsigned *ret_replies, unsigned *ret_own)
{
    uint64_t floor = call->fence == FENCE_BEFORE ? 0 : newest;
    uint64_t least = call->fence == FENCE_NONE ? 0 : u64_max(call->least, floor);
    bool waits = least > line->seen;
    // With many keys the last three could be taken for these words, unless they stand there.
    bool within = call->fence == FENCE_LEAST && (waits || call->count > 2);
    char text[LEAST_TEXT];
    if (waits || within) {
        least_text(call, line, least, deadline_ns, text);
    }
    *ret_own = waits && !within ? 1 : 0;
    *ret_replies = *ret_own + 1 + (call->fence == FENCE_AROUND ? 1 : 0);
    if (within) {
        add_with_least(call, line, text);
        return;
    }
    if (waits) {
        char command[LEAST_TEXT + sizeof "QS.WAITINDEX "];
        snprintf(command, sizeof command, "QS.WAITINDEX %s", text);
        line_add_text(line, command);
    }
    line_add(line, call->count, call->words);
    if (call->fence == FENCE_AROUND) {
        line_add_text(line, "QS.INDEX");
    }
}

// ---- the answer --------------------------------------------------------------------------------

static int refused(struct call *call, const struct line *line, const struct answer *item)
{
    struct bytes text = answer_bytes(&line->in, item);
    return fault(fault_of_reply(text, &call->number), "%s: %.*s", call->qs->where, (int)text.size,
                 (const char *)text.data);
}

static int judge(struct call *call, struct line *line, unsigned replies, unsigned own)
{
    for (unsigned i = 0; i < replies; i++) {
        const struct answer *error = answers_item(&line->in, line->in.starts[i], '-');
        if (error != NULL) {
            return refused(call, line, error);
        }
    }
    int code = call->decode(call, &line->in, line->in.starts[own]);
    if (code == OK && call->fence == FENCE_AROUND) {
        const struct answer *index = answers_item(&line->in, line->in.starts[own + 1], ':');
        call->index = index == NULL ? 0 : (uint64_t)index->number;
        code = index == NULL ? ERR_PROTOCOL : OK;
    }
    if (code == ERR_PROTOCOL) {
        return fault(code, "%s: an answer of an unknown shape", call->qs->where);
    }
    if (code == OK && !call->writes) {
        line->seen = u64_max(line->seen, call->index);
    }
    if (code == OK && call->result != NULL) {
        result_take(call->result, &line->in);
        call->result->index = call->index;
    }
    return code;
}

// No answer came. A write that the daemon may have is never sent again: it could undo what somebody
// has written since.
static int lost(const struct call *call, const struct line *line, int error)
{
    if (call->writes && line_sent_whole(line)) {
        return fault(ERR_UNKNOWN_OUTCOME, "%s: the write was sent, its answer did not come: %s",
                     call->qs->where, error_text(error));
    }
    return fault(error, "%s: %s", call->qs->where, error_text(error));
}

static int attempt(struct call *call, uint64_t deadline_ns)
{
    struct line *line;
    uint64_t newest;
    int error = handle_take(call->qs, deadline_ns, &line, &newest);
    if (error != OK) {
        return error;
    }
    call->number = 0;
    if (call->history[0] != '\0' && strcmp(call->history, line->history) != 0) {
        handle_give(call->qs, line, true, 0);
        return fault(ERR_HISTORY, "%s: the token is of history %s, the data there of %s",
                     call->qs->where, call->history, line->history);
    }
    unsigned replies, own;
    encode(call, line, newest, deadline_ns, &replies, &own);
    error = line_exchange(line, replies, deadline_ns);
    if (error == OK) {
        error = judge(call, line, replies, own);
        if (error != ERR_PROTOCOL) {
            uint64_t index = error == OK ? call->index : error == ERR_CONFLICT ? call->number : 0;
            handle_give(call->qs, line, error != ERR_FORKED, index);
            return error;
        }
    }
    error = lost(call, line, error);
    handle_give(call->qs, line, false, 0);
    return error;
}

int call_run(struct call *call)
{
    struct qs *qs = call->qs;
    uint64_t deadline_ns = clock_mono_ns() + qs->timeout_ns + call->wait_ms * NS_PER_MS -
                           u64_min(call->spent_ns, qs->timeout_ns);
    int error;
    unsigned attempts = 0;
    do {
        error = attempt(call, deadline_ns);
    } while (call_may_repeat(error) && call_pause(attempts++, deadline_ns));
    return error == ERR_FORKED ? ERR_HISTORY : error;
}
