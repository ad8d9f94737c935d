// SPDX-License-Identifier: Apache-2.0
// The one writer: pipelined batches of all kinds on one connection. The root answers in order, so
// each answer names the index of the next batch; it must be the next one, or the same as before
// for a batch that changes nothing.
//
// A root that is begun anew says by its index how many of the batches without an answer it has
// taken: it takes them in order, and nobody else writes.
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "bench/conn.h"
#include "bench/mixed_private.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define WAITING_MAX 4096 // batches without an answer
#define FEW 5 // changes of a batch that costs a request or a word for each
#define ANSWER_LIMIT_NS (60 * NS_PER_S)
#define ASK_NS NS_PER_S
#define ASK_AGAIN_NS (20 * NS_PER_MS)
#define FRESH_IN_FORTY 6 // batches that write the next fresh key
#define HOT_IN_TEN 1     // changes of a hot key

struct change {
    uint64_t key, serial; // 0: deleted
};

struct batch {
    unsigned count;
    unsigned skip;    // replies before the one that counts: MULTI and what it queues
    bool names_index; // its answer says it
    struct change changes[MIXED_CHANGES_MAX];
};

struct mixed_writer {
    struct mixed *mixed;
    struct conn conn;
    struct draw draw;
    uint64_t serial, index;
    struct batch *batches; // a ring, in the order of sending
    unsigned first, count;
    uint8_t *value;
};

// ---- sending ------------------------------------------------------------------------------------

static void send_put(struct mixed_writer *writer, const struct change *change)
{
    char key[MIXED_KEY_BYTES];
    struct bytes words[] = {
        bytes_text("QS.PUT"),
        mixed_key(change->key, key),
        bytes_of(writer->value,
                 mixed_value(writer->mixed, change->key, change->serial, writer->value)),
    };
    conn_send(&writer->conn, ARRAY_LEN(words), words);
}

static void send_delete(struct mixed_writer *writer, const struct change *changes, unsigned count)
{
    char keys[MIXED_CHANGES_MAX][MIXED_KEY_BYTES];
    struct bytes words[1 + MIXED_CHANGES_MAX] = {bytes_text("QS.DELETE")};
    for (unsigned i = 0; i < count; i++) {
        words[1 + i] = mixed_key(changes[i].key, keys[i]);
    }
    conn_send(&writer->conn, 1 + count, words);
}

static void send_mset(struct mixed_writer *writer, const struct batch *batch)
{
    char keys[MIXED_CHANGES_MAX][MIXED_KEY_BYTES];
    struct bytes words[1 + 2 * MIXED_CHANGES_MAX] = {bytes_text("MSET")};
    uint64_t value_bytes = writer->mixed->options->value_bytes;
    for (unsigned i = 0; i < batch->count; i++) {
        const struct change *change = &batch->changes[i];
        uint8_t *value = writer->value + i * value_bytes;
        words[1 + 2 * i] = mixed_key(change->key, keys[i]);
        words[2 + 2 * i] =
            bytes_of(value, mixed_value(writer->mixed, change->key, change->serial, value));
    }
    conn_send(&writer->conn, 1 + 2 * batch->count, words);
}

static void send_exec(struct mixed_writer *writer, struct batch *batch)
{
    struct bytes multi = bytes_text("MULTI"), exec = bytes_text("EXEC");
    conn_send(&writer->conn, 1, &multi);
    for (unsigned i = 0; i < batch->count; i++) {
        if (batch->changes[i].serial != 0) {
            send_put(writer, &batch->changes[i]);
        } else {
            send_delete(writer, &batch->changes[i], 1);
        }
    }
    conn_send(&writer->conn, 1, &exec);
    batch->skip = 1 + batch->count;
}

static struct batch *next_batch(struct mixed_writer *writer)
{
    CHECK(writer->count < WAITING_MAX);
    struct batch *batch = &writer->batches[(writer->first + writer->count++) % WAITING_MAX];
    batch->count = 0;
    batch->skip = 0;
    batch->names_index = true;
    return batch;
}

static void add_change(struct mixed_writer *writer, struct batch *batch, uint64_t key, bool put)
{
    CHECK(batch->count < MIXED_CHANGES_MAX);
    batch->changes[batch->count++] =
        (struct change){.key = key, .serial = put ? ++writer->serial : 0};
}

static uint64_t choose_key(struct mixed_writer *writer)
{
    const struct mixed_options *options = writer->mixed->options;
    bool hot = options->mapped > 0 && draw_below(&writer->draw, 10) < HOT_IN_TEN;
    return draw_below(&writer->draw, hot ? u64_min(MIXED_HOT_KEYS, options->keys) : options->keys);
}

// The next fresh key in place of `key`, at times and while there are some.
static uint64_t or_fresh(struct mixed_writer *writer, uint64_t key)
{
    struct mixed *mixed = writer->mixed;
    uint64_t fresh = atomic_load(&mixed->fresh);
    if (fresh == mixed_keys(mixed) || draw_below(&writer->draw, 40) >= FRESH_IN_FORTY) {
        return key;
    }
    atomic_store(&mixed->fresh, fresh + 1);
    return fresh;
}

// 1 to `most` keys, the same one twice at times: the last change of a key counts.
static void add_some(struct mixed_writer *writer, struct batch *batch, uint64_t most,
                     unsigned puts_in_ten)
{
    uint64_t count = 1 + draw_below(&writer->draw, most);
    for (uint64_t i = 0; i < count; i++) {
        add_change(writer, batch, choose_key(writer), draw_below(&writer->draw, 10) < puts_in_ten);
    }
}

// Sends a batch of some kind and returns the number of its changes. A transaction is seldom: it
// waits until all before it is committed, so that one commit at a time fits between two of them.
static unsigned send_batch(struct mixed_writer *writer)
{
    uint64_t most = writer->mixed->options->changes, few = u64_min(most, FEW);
    struct batch *batch = next_batch(writer);
    uint64_t kind = draw_below(&writer->draw, 40);
    if (kind < 24) {
        add_change(writer, batch, or_fresh(writer, choose_key(writer)), true);
        send_put(writer, &batch->changes[0]);
    } else if (kind < 31) {
        add_some(writer, batch, few, 0);
        send_delete(writer, batch->changes, batch->count);
    } else if (kind < 38) {
        add_some(writer, batch, most, 10);
        send_mset(writer, batch);
        batch->names_index = false;
    } else {
        add_some(writer, batch, few, 6);
        send_exec(writer, batch);
    }
    return batch->count;
}

// ---- answers ------------------------------------------------------------------------------------

// Whether the batch leaves every key as the model has it now: absent.
static bool changes_nothing(struct mixed_writer *writer, const struct batch *batch)
{
    for (unsigned i = 0; i < batch->count; i++) {
        uint64_t key = batch->changes[i].key;
        unsigned last = i;
        for (unsigned j = i + 1; j < batch->count; j++) {
            last = batch->changes[j].key == key ? j : last;
        }
        if (batch->changes[last].serial != 0 ||
            model_at(writer->mixed->model, key, model_known(writer->mixed->model)).serial != 0) {
            return false;
        }
    }
    return true;
}

// The index that a reply names, 0 when it does not; MSET names none, and always takes the next.
// In EXEC's answer, what changes nothing so far names the index before: the highest counts.
static uint64_t index_of(const struct mixed_writer *writer, const struct batch *batch,
                         const redisReply *reply)
{
    if (!batch->names_index) {
        return reply->type == REDIS_REPLY_STATUS ? writer->index + 1 : 0;
    }
    uint64_t index = reply->type == REDIS_REPLY_INTEGER ? (uint64_t)reply->integer : 0;
    for (size_t i = 0; i < reply->elements; i++) {
        index = u64_max(index, (uint64_t)reply->element[i]->integer);
    }
    return index;
}

// The root has taken the batch.
static void note(struct mixed_writer *writer, const struct batch *batch, bool nothing)
{
    struct mixed *mixed = writer->mixed;
    uint64_t index = writer->index + (nothing ? 0 : 1);
    for (unsigned i = 0; !nothing && i < batch->count; i++) {
        model_add(mixed->model, batch->changes[i].key, index, batch->changes[i].serial);
    }
    writer->index = index;
    model_publish(mixed->model, index);
    mixed->batches++;
    mixed->entries += batch->count;
    mixed->single += batch->count == 1;
    mixed->taken += !nothing;
}

static bool acknowledged(struct mixed_writer *writer, const struct batch *batch,
                         const redisReply *reply)
{
    uint64_t index = index_of(writer, batch, reply);
    bool nothing = changes_nothing(writer, batch);
    bool refused = reply->type == REDIS_REPLY_ERROR;
    if (refused && writer->mixed->options->root_restarts) {
        return false; // it ends: what it has taken will be seen
    }
    if (index != writer->index + (nothing ? 0 : 1)) {
        mixed_fault(writer->mixed,
                    "the root answered %s%" PRIu64 " to a batch after index %" PRIu64,
                    refused ? reply->str : "", index, writer->index);
        return false;
    }
    note(writer, batch, nothing);
    return true;
}

static bool take_all(struct mixed_writer *writer)
{
    redisReply *reply = NULL;
    bool fine = true;
    while (fine && (fine = conn_take(&writer->conn, &reply)) && reply != NULL) {
        CHECK(writer->count > 0);
        struct batch *batch = &writer->batches[writer->first];
        if (batch->skip > 0 && reply->type != REDIS_REPLY_ERROR) {
            batch->skip--;
        } else {
            fine = acknowledged(writer, batch, reply);
            writer->first = (writer->first + 1) % WAITING_MAX;
            writer->count--;
        }
        freeReplyObject(reply);
    }
    return fine;
}

// ---- a root that is begun anew ------------------------------------------------------------------

// Until it serves again; its index.
static bool find_again(struct mixed_writer *writer, uint64_t *ret_index)
{
    const char *root = writer->mixed->options->root;
    uint64_t end = clock_mono_ns() + ANSWER_LIMIT_NS;
    bool found = false;
    conn_close(&writer->conn);
    while (!found && clock_mono_ns() < end) {
        redisReply *reply = conn_ask(root, ASK_NS, "QS.INDEX");
        found = reply != NULL && reply->type == REDIS_REPLY_INTEGER &&
                conn_open(&writer->conn, root);
        *ret_index = found ? (uint64_t)reply->integer : 0;
        freeReplyObject(reply);
        if (!found) {
            clock_sleep_ns(ASK_AGAIN_NS);
        }
    }
    return found;
}

static bool recover(struct mixed_writer *writer)
{
    uint64_t shown;
    atomic_fetch_add(&writer->mixed->writer_losses, 1);
    if (!find_again(writer, &shown)) {
        return false;
    }
    for (; writer->count > 0; writer->count--) {
        const struct batch *batch = &writer->batches[writer->first];
        bool nothing = changes_nothing(writer, batch);
        if (nothing || writer->index < shown) {
            note(writer, batch, nothing);
        } else if (batch->changes[0].key >= writer->mixed->options->keys) {
            // It was not taken, and none behind it: the fresh keys go on from here.
            atomic_store(&writer->mixed->fresh,
                         u64_min(atomic_load(&writer->mixed->fresh), batch->changes[0].key));
        }
        writer->first = (writer->first + 1) % WAITING_MAX;
    }
    return writer->index == shown;
}

// Sends what is queued, waits for at most a millisecond, and takes what has come.
static bool turn(struct mixed_writer *writer)
{
    struct conn *conn = &writer->conn;
    bool fine = conn_flush(conn);
    struct pollfd polled = {.fd = conn->fd, .events = POLLIN};
    polled.events |= (short)(conn_unsent(conn) ? POLLOUT : 0);
    poll(&polled, 1, 1);
    if (fine && (polled.revents & ~POLLOUT) != 0) {
        fine = conn_fill(conn) && take_all(writer);
    }
    bool failed = atomic_load(&writer->mixed->failed);
    if (!fine && !failed && writer->mixed->options->root_restarts) {
        fine = recover(writer);
    }
    if (!fine) {
        mixed_fault(writer->mixed, "the writer's connection to the root is lost");
    }
    return fine;
}

static bool finish(struct mixed_writer *writer, unsigned most)
{
    uint64_t end = clock_mono_ns() + ANSWER_LIMIT_NS;
    while (writer->count > most) {
        if (clock_mono_ns() > end) {
            mixed_fault(writer->mixed, "the root does not answer the writer");
            return false;
        }
        if (!turn(writer)) {
            return false;
        }
    }
    return true;
}

// ---- the writer ---------------------------------------------------------------------------------

struct mixed_writer *mixed_writer_open(struct mixed *mixed)
{
    struct mixed_writer *writer = mem_zalloc(sizeof *writer);
    writer->mixed = mixed;
    writer->draw = (struct draw){.state = draw_mix(mixed->options->seed)};
    writer->index = model_known(mixed->model);
    writer->batches = mem_alloc(WAITING_MAX * sizeof *writer->batches);
    writer->value = mem_alloc(MIXED_CHANGES_MAX * mixed->options->value_bytes);
    if (!conn_open(&writer->conn, mixed->options->root)) {
        mixed_fault(mixed, "%s: no connection", mixed->options->root);
    }
    return writer;
}

void mixed_writer_close(struct mixed_writer *writer)
{
    conn_close(&writer->conn);
    mem_free(writer->batches);
    mem_free(writer->value);
    mem_free(writer);
}

bool mixed_writer_fill(struct mixed_writer *writer)
{
    uint64_t keys = writer->mixed->options->keys;
    bool fine = writer->conn.open;
    for (uint64_t next = 0; fine && next < keys;) {
        struct batch *batch = next_batch(writer);
        for (; next < keys && batch->count < MIXED_CHANGES_MAX; next++) {
            add_change(writer, batch, next, true);
        }
        send_mset(writer, batch);
        batch->names_index = false;
        fine = finish(writer, MIXED_CHANGES_MAX);
    }
    return fine && finish(writer, 0);
}

void mixed_writer_run(struct mixed_writer *writer)
{
    struct mixed *mixed = writer->mixed;
    uint64_t began = clock_mono_ns();
    uint64_t sent = 0;
    mixed->batches = mixed->single = mixed->entries = mixed->taken = 0; // not what filled it
    bool fine = true;
    while (fine && !atomic_load(&mixed->stop_writing)) {
        double due = (double)(clock_mono_ns() - began) / 1e9 * (double)mixed->options->writes;
        while ((double)sent < due && writer->count < WAITING_MAX) {
            sent += send_batch(writer);
        }
        fine = turn(writer);
        if (writer->count == 0) {
            clock_sleep_ns(NS_PER_MS);
        }
    }
    if (fine && finish(writer, 0)) {
        mixed->write_ns = clock_mono_ns() - began;
    }
}
