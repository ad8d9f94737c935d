// SPDX-License-Identifier: Apache-2.0
// The sessions of one thread. A session reads at one node for a while (pipelined QS.MGET), then
// takes its token to another; a connection that is lost costs what was under way, and the session
// goes on elsewhere with the index that it has seen. Every row is compared with the model at the
// index that the answer names: at once, or as soon as the writer knows that index.
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#include "bench/conn.h"
#include "bench/mixed_judge.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define KEYS 20  // of one QS.MGET
#define DEPTH 8  // requests of a session without an answer
#define STAY 40  // requests before a session moves
#define RETRY_NS (20 * NS_PER_MS)
#define POLL_MS 5
#define WAIT_MS "2000"
#define TOKEN_BYTES 96

enum place { AWAY, WAITING, READING, LEAVING };

struct session {
    unsigned number;
    size_t node; // where it is, or goes next
    enum place place;
    struct conn conn;
    uint64_t retry_ns;
    uint64_t index; // the highest seen: nothing older may follow
    uint64_t requests; // since it arrived
    uint64_t asked[DEPTH][KEYS];
    unsigned first, count; // of `asked`, a ring
};

struct reader {
    struct mixed *mixed;
    struct draw draw;
    struct zipf zipf;
    struct session *sessions;
    size_t session_count;
    uint64_t began_ns, asked; // keys asked for, to keep the rate
    struct mixed_judge judge;
};

#define COUNT(reader, name) atomic_fetch_add(&(reader)->mixed->name, 1)

static void see(struct reader *reader, struct session *session, uint64_t index, const char *how)
{
    mixed_see(reader->mixed, session->number, session->node, &session->index, index, how);
}

// ---- answers ------------------------------------------------------------------------------------

static void go_away(struct reader *reader, struct session *session, bool at_once)
{
    conn_close(&session->conn);
    session->place = AWAY;
    session->first = session->count = 0;
    session->node = draw_below(&reader->draw, reader->mixed->options->node_count);
    session->retry_ns = at_once ? 0 : clock_mono_ns() + RETRY_NS;
}

static void lose(struct reader *reader, struct session *session)
{
    COUNT(reader, losses);
    go_away(reader, session, false);
}

static bool begins(const redisReply *reply, const char *word)
{
    return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, word, strlen(word)) == 0;
}

// An answer that is not what was asked for: only what the contract lets a node say.
static void on_error(struct reader *reader, struct session *session, const redisReply *reply)
{
    if (begins(reply, "UNAVAILABLE ")) {
        COUNT(reader, unavailable);
        return;
    }
    if (begins(reply, "LOADING ") || begins(reply, "BEHIND ")) {
        COUNT(reader, refused);
        go_away(reader, session, false);
        return;
    }
    COUNT(reader, wrong);
    mixed_fault(reader->mixed, "session %u at %s: answer of type %d: %.200s", session->number,
                reader->mixed->options->nodes[session->node], reply->type,
                reply->str != NULL ? reply->str : "");
    go_away(reader, session, false);
}

// [value, version, index] of one key; false: not of that form.
static bool read_row(struct reader *reader, redisReply *const *parts, struct mixed_row *row)
{
    if (parts[1]->type != REDIS_REPLY_INTEGER || parts[2]->type != REDIS_REPLY_INTEGER) {
        return false;
    }
    row->version = (uint64_t)parts[1]->integer;
    row->index = (uint64_t)parts[2]->integer;
    if (parts[0]->type == REDIS_REPLY_NIL) {
        return row->version == 0;
    }
    struct bytes value = bytes_of(parts[0]->str, parts[0]->len);
    row->serial = parts[0]->type == REDIS_REPLY_STRING
                      ? mixed_serial(reader->mixed, row->key, value)
                      : 0;
    return row->serial != 0;
}

static void on_values(struct reader *reader, struct session *session, const redisReply *reply)
{
    const uint64_t *asked = session->asked[session->first];
    session->first = (session->first + 1) % DEPTH;
    session->count--;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != KEYS) {
        on_error(reader, session, reply);
        return;
    }
    uint64_t index = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        const redisReply *element = reply->element[i];
        struct mixed_row row = {
            .key = asked[i], .session = session->number, .node = session->node};
        bool good = element->type == REDIS_REPLY_ARRAY && element->elements == 3 &&
                    read_row(reader, element->element, &row);
        if (!good || (i > 0 && row.index != index)) {
            COUNT(reader, wrong);
            mixed_fault(reader->mixed, "session %u at %s: key %" PRIu64 ": %s", session->number,
                        reader->mixed->options->nodes[session->node], asked[i],
                        good ? "another index than the rows before" : "not a value of this key");
            return;
        }
        index = row.index;
        mixed_judge_add(&reader->judge, &row);
        atomic_fetch_add(&reader->mixed->absent, row.serial == 0);
    }
    see(reader, session, index, "QS.MGET");
    atomic_fetch_add(&reader->mixed->reads, KEYS);
    mixed_judge_known(&reader->judge);
}

// QS.INDEX TOKEN: `history:index`. The session leaves with it.
static void on_token(struct reader *reader, struct session *session, const redisReply *reply)
{
    size_t size = strlen(reader->mixed->history);
    uint64_t index;
    char after;
    bool good = reply->type == REDIS_REPLY_STRING && reply->len > size + 1 &&
                strncmp(reply->str, reader->mixed->history, size) == 0 &&
                sscanf(reply->str + size, ":%" SCNu64 "%c", &index, &after) == 1;
    if (!good) {
        on_error(reader, session, reply);
        return;
    }
    see(reader, session, index, "QS.INDEX");
    COUNT(reader, moves);
    go_away(reader, session, true);
}

// QS.WAITINDEX: what is visible here now has everything that the session has seen.
static void on_arrival(struct reader *reader, struct session *session, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_INTEGER) {
        on_error(reader, session, reply);
        return;
    }
    see(reader, session, (uint64_t)reply->integer, "QS.WAITINDEX");
    session->place = READING;
    session->requests = 0;
}

static void on_reply(struct reader *reader, struct session *session, const redisReply *reply)
{
    if (session->place == WAITING) {
        on_arrival(reader, session, reply);
    } else if (session->count > 0) {
        on_values(reader, session, reply);
    } else {
        on_token(reader, session, reply);
    }
}

// ---- asking -------------------------------------------------------------------------------------

static void arrive(struct reader *reader, struct session *session)
{
    if (clock_mono_ns() < session->retry_ns) {
        return;
    }
    if (!conn_open(&session->conn, reader->mixed->options->nodes[session->node])) {
        go_away(reader, session, false);
        return;
    }
    char token[TOKEN_BYTES];
    snprintf(token, sizeof token, "%s:%" PRIu64, reader->mixed->history, session->index);
    struct bytes words[] = {bytes_text("QS.WAITINDEX"), bytes_text(token), bytes_text(WAIT_MS)};
    conn_send(&session->conn, ARRAY_LEN(words), words);
    session->place = WAITING;
}

// Half of the keys are never written; of the others a few are read most of the time.
static uint64_t choose_key(struct reader *reader)
{
    uint64_t keys = reader->mixed->options->keys;
    switch (draw_below(&reader->draw, 4)) {
    case 0:
        return zipf_draw(&reader->zipf, &reader->draw);
    case 1:
        return draw_below(&reader->draw, keys);
    default:
        return keys + draw_below(&reader->draw, 1000 * keys);
    }
}

static void ask_values(struct reader *reader, struct session *session)
{
    uint64_t *asked = session->asked[(session->first + session->count++) % DEPTH];
    char keys[KEYS][MIXED_KEY_BYTES];
    struct bytes words[1 + KEYS] = {bytes_text("QS.MGET")};
    for (unsigned i = 0; i < KEYS; i++) {
        asked[i] = choose_key(reader);
        words[1 + i] = mixed_key(asked[i], keys[i]);
    }
    conn_send(&session->conn, ARRAY_LEN(words), words);
    session->requests++;
    reader->asked += KEYS;
}

static bool may_ask(const struct reader *reader, const struct session *session)
{
    uint64_t rate = reader->mixed->options->read_rate / MIXED_READERS;
    double due = (double)(clock_mono_ns() - reader->began_ns) / 1e9 * (double)rate;
    return session->place == READING && session->count < DEPTH && session->requests < STAY &&
           (double)reader->asked < due;
}

static void go_on(struct reader *reader, struct session *session)
{
    if (session->place == AWAY) {
        arrive(reader, session);
    }
    while (may_ask(reader, session)) {
        ask_values(reader, session);
    }
    if (session->place == READING && session->count == 0 && session->requests >= STAY) {
        struct bytes words[] = {bytes_text("QS.INDEX"), bytes_text("TOKEN")};
        conn_send(&session->conn, ARRAY_LEN(words), words);
        session->place = LEAVING;
    }
    if (session->conn.open && !conn_flush(&session->conn)) {
        lose(reader, session);
    }
}

static void take_all(struct reader *reader, struct session *session)
{
    bool fine = conn_fill(&session->conn);
    redisReply *reply = NULL;
    while (fine && session->conn.open && (fine = conn_take(&session->conn, &reply)) &&
           reply != NULL) {
        on_reply(reader, session, reply);
        freeReplyObject(reply);
    }
    if (!fine) {
        lose(reader, session);
    }
}

static void turn(struct reader *reader)
{
    struct pollfd polled[MIXED_SESSIONS_MAX];
    for (size_t i = 0; i < reader->session_count; i++) {
        struct session *session = &reader->sessions[i];
        go_on(reader, session);
        short out = session->conn.open && conn_unsent(&session->conn) ? POLLOUT : 0;
        polled[i] = (struct pollfd){
            .fd = session->conn.open ? session->conn.fd : -1,
            .events = (short)(POLLIN | out),
        };
    }
    poll(polled, reader->session_count, POLL_MS);
    for (size_t i = 0; i < reader->session_count; i++) {
        if ((polled[i].revents & ~POLLOUT) != 0) {
            take_all(reader, &reader->sessions[i]);
        }
    }
    mixed_judge_known(&reader->judge);
}

// ---- a thread -----------------------------------------------------------------------------------

void mixed_reader_run(struct mixed *mixed, uint64_t first)
{
    const struct mixed_options *options = mixed->options;
    struct reader reader = {
        .mixed = mixed,
        .draw = {.state = draw_mix(options->seed ^ draw_mix(first + 1))},
        .sessions = mem_zalloc(options->sessions * sizeof *reader.sessions),
    };
    zipf_open(&reader.zipf, options->keys);
    mixed_judge_open(&reader.judge, mixed);
    reader.began_ns = clock_mono_ns();
    for (uint64_t number = first; number < options->sessions; number += MIXED_READERS) {
        struct session *session = &reader.sessions[reader.session_count++];
        session->number = (unsigned)number;
        session->node = number % options->node_count;
    }
    while (!atomic_load(&mixed->stop_reading)) {
        turn(&reader);
    }
    for (size_t i = 0; i < reader.session_count; i++) {
        conn_close(&reader.sessions[i].conn);
    }
    mixed_judge_close(&reader.judge);
    mem_free(reader.sessions);
}
