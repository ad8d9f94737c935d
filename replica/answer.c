// SPDX-License-Identifier: Apache-2.0
// An answerer belongs to its link's loop; a job is the reader's from submit until it is posted
// back. A closed answerer lives until its last job is back, and holds the loop that long by a
// watch of its own: a job has a view pinned, so the instance must not close under it.
#include "replica/answer.h"

#include <sys/eventfd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/digest.h"
#include "replica/answer_past.h"
#include "replica/past.h"
#include "replica/record.h"

#define JOBS_MAX 4
#define UNSENT_MAX (16 * MIB)
// An answer's items leave room for the rest of the message.
#define ITEMS_MAX (FRAME_PAYLOAD_MAX - 64 * KIB)
#define ITEM_OVERHEAD 16

struct answerer {
    struct link *link; // NULL once closed
    struct loop *loop;
    struct instance *instance;
    struct readers *readers;
    uint8_t history[HISTORY_ID_BYTES]; // that the proxy asks about
    struct watch hold; // open while jobs outlive the link
    bool holding;
    unsigned jobs;
};

struct answer_job {
    struct read_job job;
    struct answerer *answerer;
    struct view *view;  // NULL while loading
    uint16_t code;      // what was asked: fetch, look or past
    uint64_t id;
    uint64_t visible;
    uint64_t floor;
    unsigned served;
    uint8_t *asked;     // a copy of the request, into which what follows points
    struct past_question past; // look, past
    struct buf items;   // fetch: the answer
    unsigned count;
    struct fetch_ask asks[FETCH_ITEMS_MAX];
};

// ---- one ask -----------------------------------------------------------------------------------

static int ask_history(const struct instance *instance, const struct view *view,
                       const struct fetch_ask *ask, enum fetch_status *ret_status,
                       struct mvcc_finding *ret_found)
{
    struct mvcc_finding found = {0};
    int error = mvcc_find(view->store, view->snapshot, ask->key, ask->version, &found);
    if (error == OK && found.record.version == ask->version) {
        *ret_status = FETCH_EXACT;
        *ret_found = found;
        return OK;
    }
    mvcc_release(&found);
    if (error == OK || error == ERR_NOT_FOUND) {
        // What lies below the newest floor may have been collected.
        *ret_status = past_error(instance, view, ask->version) == OK ? FETCH_NEVER : FETCH_GONE;
        return OK;
    }
    return error;
}

int answer_ask(const struct instance *instance, const struct view *view, enum store_tier tier,
               const struct fetch_ask *ask, enum fetch_status *ret_status,
               struct mvcc_finding *ret_found)
{
    if (ask->version > view->place.index) {
        *ret_status = FETCH_BEHIND;
        return OK;
    }
    struct store_value row = {0};
    struct record record = {0};
    int error = store_get(view->store, view->snapshot, REPLICA_DEFAULT, ask->key, tier, &row);
    if (error == OK) {
        error = replica_record_decode(row.data, &record);
    }
    if (error == OK && record.version == ask->version) {
        *ret_status = FETCH_EXACT;
        *ret_found =
            (struct mvcc_finding){.record = record, .valid_until = UINT64_MAX, .pin = row};
        return OK;
    }
    store_value_release(&row);
    if (error != OK && error != ERR_NOT_FOUND) {
        return error;
    }
    // An iterator may block, so history is for the readers.
    return tier == STORE_CACHED ? ERR_INCOMPLETE
                                : ask_history(instance, view, ask, ret_status, ret_found);
}

// ---- one request -------------------------------------------------------------------------------

static void note_unreadable(struct instance *instance, const struct view *view, int error)
{
    static struct log_gate gate;
    if (error == ERR_CORRUPT) {
        METRIC_ADD(instance->metrics, instance, reads_corrupt, 1);
        instance_doubt_store(instance, view);
    }
    LOG_GATED(&gate, LOG_ERROR, instance->name, "a record asked for by a proxy is not served: %s",
              error_text(error));
}

static int ask_any(struct answer_job *job, enum store_tier tier, const struct fetch_ask *ask,
                   enum fetch_status *ret_status, struct mvcc_finding *ret_found)
{
    if (job->view == NULL) {
        *ret_status = FETCH_BEHIND;
        return OK;
    }
    return answer_ask(job->answerer->instance, job->view, tier, ask, ret_status, ret_found);
}

static int job_recall(struct answer_job *job)
{
    struct instance *instance = job->answerer->instance;
    int error = past_answer(instance, job->view, &job->past);
    if (error != OK) {
        note_unreadable(instance, job->view, error);
    }
    job->served = job->past.served;
    job->floor = atomic_load(&instance->history_floor);
    return OK;
}

// Fills job->items, or answers job->past. ERR_INCOMPLETE: not all is in memory, `items` is to be
// thrown away.
static int job_answer(struct answer_job *job, enum store_tier tier)
{
    if (job->code != MESSAGE_fetch) {
        // An iterator may block, so history is for the readers.
        return tier == STORE_CACHED ? ERR_INCOMPLETE : job_recall(job);
    }
    struct instance *instance = job->answerer->instance;
    fetch_items_begin(&job->items, job->count);
    for (unsigned i = 0; i < job->count; i++) {
        struct mvcc_finding found = {0};
        struct fetch_answer answer = {.status = FETCH_ERROR};
        int error = ask_any(job, tier, &job->asks[i], &answer.status, &found);
        if (error == ERR_INCOMPLETE) {
            return error;
        }
        if (error != OK) {
            answer.status = FETCH_ERROR;
            note_unreadable(instance, job->view, error);
        } else if (answer.status == FETCH_EXACT) {
            answer.value = found.record.value;
            // A proxy bounds its requests by lengths; what does not fit is left to its next try.
            if (job->items.size + answer.value.size + FETCH_ITEMS_MAX * ITEM_OVERHEAD > ITEMS_MAX) {
                answer = (struct fetch_answer){.status = FETCH_ERROR};
            } else {
                job->served++;
            }
        }
        fetch_answer_append(&job->items, &answer);
        mvcc_release(&found);
    }
    return OK;
}

static void job_free(struct answer_job *job)
{
    view_release(job->view);
    buf_free(&job->items);
    past_question_free(&job->past);
    mem_free(job->asked);
    mem_free(job);
}

static void job_send(struct answer_job *job)
{
    struct link *link = job->answerer->link;
    struct buf *to = link_out(link);
    METRIC_ADD(job->answerer->instance->metrics, instance, served, job->served);
    if (job->code == MESSAGE_fetch) {
        const struct message_fetched message = {.id = job->id,
                                                .visible = job->visible,
                                                .floor = job->floor,
                                                .items = buf_bytes(&job->items)};
        message_fetched_encode(to, &message);
    } else if (job->code == MESSAGE_look) {
        const struct message_looked message = {.id = job->id,
                                               .status = (uint64_t)job->past.status,
                                               .visible = job->visible,
                                               .floor = job->floor,
                                               .items = buf_bytes(&job->past.items)};
        message_looked_encode(to, &message);
    } else {
        const struct message_pasted message = {.id = job->id,
                                               .status = (uint64_t)job->past.status,
                                               .visible = job->visible,
                                               .floor = job->floor,
                                               .items = buf_bytes(&job->past.items),
                                               .next = buf_bytes(&job->past.next)};
        message_pasted_encode(to, &message);
    }
    link_wrote(link);
}

// ---- the link ----------------------------------------------------------------------------------

static void hold_closed(struct watch *watch)
{
    mem_free(CONTAINER_OF(watch, struct answerer, hold));
}

static void hold_open(struct answerer *answerer)
{
    static const struct watch_ops ops = {.on_closed = hold_closed};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        // Without a descriptor the loop can still be trusted to outlive a read of milliseconds.
        log_line(LOG_WARN, answerer->instance->name, "no descriptor to hold a loop by");
        return;
    }
    answerer->holding = true;
    loop_watch_open(answerer->loop, &answerer->hold, fd, &ops);
}

static void answerer_free(struct answerer *answerer)
{
    if (answerer->holding) {
        loop_watch_close(&answerer->hold);
    } else {
        mem_free(answerer);
    }
}

// Reads on or not, as what is under way allows.
static void regulate(struct answerer *answerer)
{
    struct link *link = answerer->link;
    if (answerer->jobs >= JOBS_MAX || stream_pending(&link->stream) >= UNSENT_MAX) {
        link_pause(link);
    } else {
        link_resume(link);
    }
}

static void job_work(struct read_job *read_job)
{
    struct answer_job *job = CONTAINER_OF(read_job, struct answer_job, job);
    int error = job_answer(job, STORE_ANY);
    CHECK(error == OK);
    // Nothing shall pin the store while the answer waits for the loop.
    view_release(job->view);
    job->view = NULL;
}

static void job_done(struct task *task)
{
    struct answer_job *job = CONTAINER_OF(task, struct answer_job, job.done);
    struct answerer *answerer = job->answerer;
    CHECK(answerer->jobs > 0);
    answerer->jobs--;
    if (answerer->link == NULL) {
        if (answerer->jobs == 0) {
            answerer_free(answerer);
        }
    } else if (!answerer->link->ending) {
        job_send(job);
        regulate(answerer);
    }
    job_free(job);
}

// Reads the request, which is the job's own copy, into it.
static int job_decode(struct answer_job *job, struct bytes payload)
{
    int error;
    if (job->code == MESSAGE_fetch) {
        struct message_fetch message = {0};
        error = message_fetch_decode(payload, &message);
        job->id = message.id;
        return error != OK ? error : fetch_asks_decode(message.items, job->asks, &job->count);
    }
    if (job->code == MESSAGE_look) {
        struct message_look message = {0};
        unsigned count = 0;
        error = message_look_decode(payload, &message);
        if (error == OK) {
            error = past_keys_check(message.items, &count);
        }
        job->id = message.id;
        job->past = (struct past_question){.at = message.at, .keys = message.items};
        return error == OK && count == 0 ? ERR_PROTOCOL : error;
    }
    struct message_past message = {0};
    error = message_past_decode(payload, &message);
    job->id = message.id;
    job->past = (struct past_question){
        .at = message.at, .start = message.start, .end = message.end, .limit = message.limit};
    bool fits = message.start.size <= PAST_BOUND_MAX && message.end.size <= PAST_BOUND_MAX &&
                message.limit > 0;
    return error == OK && !fits ? ERR_PROTOCOL : error;
}

static int on_question(struct answerer *answerer, uint16_t code, struct bytes payload)
{
    struct answer_job *job = mem_zalloc(sizeof *job);
    job->answerer = answerer;
    job->code = code;
    job->asked = mem_copy(payload.data, payload.size);
    int error = job_decode(job, bytes_of(job->asked, payload.size));
    if (error != OK) {
        job_free(job);
        return error;
    }
    job->view = instance_pin(answerer->instance);
    if (job->view != NULL && job->view->place.number > 0 &&
        memcmp(job->view->history, answerer->history, HISTORY_ID_BYTES) != 0) {
        job_free(job);
        link_dismiss(answerer->link, ERR_HISTORY, "the data here is that of another history");
        return OK;
    }
    if (job->view != NULL) {
        job->visible = job->view->place.index;
        job->floor = job->view->history_floor;
    }
    if (job_answer(job, STORE_CACHED) == OK) {
        job_send(job);
        job_free(job);
    } else {
        buf_clear(&job->items);
        job->served = 0;
        job->job.work = job_work;
        job->job.loop = answerer->loop;
        job->job.done.run = job_done;
        answerer->jobs++;
        readers_submit(answerer->readers, &job->job);
    }
    regulate(answerer);
    return OK;
}

static int on_message(struct link *link, uint16_t code, struct bytes payload)
{
    bool question = code == MESSAGE_fetch || code == MESSAGE_look || code == MESSAGE_past;
    return question ? on_question(link->owner, code, payload) : ERR_PROTOCOL;
}

static void on_drained(struct link *link) { regulate(link->owner); }

static void on_close(struct link *link, int error)
{
    struct answerer *answerer = link->owner;
    (void)error;
    answerer->link = NULL;
    mem_free(link);
    if (answerer->jobs == 0) {
        answerer_free(answerer);
    } else {
        hold_open(answerer);
    }
}

// ---- the handshake -----------------------------------------------------------------------------

// Why this proxy cannot be served here, NULL when it can. What will pass by itself is `*ret_soon`.
static const char *refusal(struct instance *instance, const struct message_hello *hello,
                           bool *ret_soon)
{
    *ret_soon = false;
    if (hello->protocol != PEER_PROTOCOL) {
        return "another protocol version";
    }
    if (!bytes_equal_text(hello->cluster, instance->node->cluster)) {
        return "another cluster";
    }
    if (!bytes_equal_text(hello->instance, instance->name)) {
        return "another instance";
    }
    if (hello->digest_algorithm != DIGEST_ALGORITHM) {
        return "another digest algorithm";
    }
    if (!journal_has_history(instance->journal)) {
        *ret_soon = true;
        return "it has no history yet";
    }
    struct bytes history = bytes_of(journal_history(instance->journal), HISTORY_ID_BYTES);
    return bytes_equal(hello->history, history) ? NULL : "another history";
}

bool answer_accept(struct instance *instance, struct readers *readers, struct link *link,
                   const struct message_hello *hello)
{
    static const struct link_ops ops = {
        .on_message = on_message, .on_drained = on_drained, .on_close = on_close};
    struct answerer *answerer = mem_zalloc(sizeof *answerer);
    answerer->link = link;
    answerer->loop = link->stream.watch.loop;
    answerer->instance = instance;
    answerer->readers = readers;
    link_adopt(link, &ops, answerer);
    link->scope = instance->name;

    bool soon;
    const char *reason = refusal(instance, hello, &soon);
    enum hello_answer answer = soon ? ANSWER_BEHIND : ANSWER_REFUSED;
    if (reason == NULL) {
        memcpy(answerer->history, hello->history.data, HISTORY_ID_BYTES);
        answer = ANSWER_RESUME;
    }
    struct message_welcome welcome = {.protocol = PEER_PROTOCOL,
                                      .answer = (uint64_t)answer,
                                      .reason = bytes_text(reason == NULL ? "" : reason),
                                      .node = bytes_text(instance->node->node),
                                      .role = (uint64_t)instance->options->role};
    uint8_t chain[HASH128_BYTES];
    if (journal_has_history(instance->journal)) {
        struct journal_place end = journal_end(instance->journal);
        hash128_store(chain, end.chain);
        welcome.history = bytes_of(journal_history(instance->journal), HISTORY_ID_BYTES);
        welcome.index = end.index;
        welcome.block = end.number;
        welcome.chain = bytes_of(chain, sizeof chain);
    }
    message_welcome_encode(link_out(link), &welcome);
    link_wrote(link);
    if (reason != NULL) {
        link_dismiss(link, ERR_REFUSED, reason);
    }
    return true;
}
