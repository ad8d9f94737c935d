// SPDX-License-Identifier: Apache-2.0
// Several at a time: all keys are found and hashed first, and the memory that each will need is
// asked for; when the first is looked up its memory is there, or on its way. One view answers them:
// all of them had arrived before it was pinned, so none is answered from an older state than it
// would be alone.
#include "qs/quick.h"

#define QUICK_MAX 32

_Static_assert(RESP_GET_KEY_MAX <= KEY_BYTES_MAX, "what is recognised is a key");

struct quick {
    struct bytes keys[QUICK_MAX];
    struct hash128 hashes[QUICK_MAX];
    size_t ends[QUICK_MAX]; // of the requests, in the data
    unsigned count;
};

// Nothing is under way on the connection that a GET could have to do with.
static bool is_free(const struct session *session)
{
    const struct daemon_instance *at = session->selected;
    return list_empty(&session->requests) && session->streaming == NULL &&
           !session->multi.active && !session->full && resp_between(&session->parser) &&
           !stream_closing(&session->stream) && at != NULL &&
           instance_state(at->instance) != INSTANCE_LOADING;
}

static void gather(struct quick *quick, const struct view *view, struct bytes data)
{
    size_t used = 0;
    quick->count = 0;
    while (quick->count < QUICK_MAX) {
        unsigned i = quick->count;
        size_t size = resp_get(bytes_of(data.data + used, data.size - used), &quick->keys[i]);
        if (size == 0) {
            break;
        }
        used += size;
        quick->ends[i] = used;
        quick->hashes[i] = hash128(quick->keys[i], 0);
        read_prefetch(view, quick->hashes[i]);
        quick->count++;
    }
}

// Answers one. False: it needs the long way.
static bool answer(struct session *session, const struct view *view, const struct quick *quick,
                   unsigned i, struct read_tally *tally)
{
    struct buf *to = stream_out(&session->stream);
    struct look_answer room;
    struct lookup lookup = {.key = quick->keys[i]};
    uint64_t limit = session->daemon->config->node.reply_bytes;
    if (!read_at_once(session->selected->instance, view, quick->hashes[i], limit, &lookup, &room,
                      tally)) {
        return false;
    }
    if (lookup.status == OK) {
        reply_bulk(to, lookup.record.value);
        store_value_release(&lookup.pin);
    } else {
        reply_nil(to, session->protocol);
    }
    return true;
}

static unsigned answer_all(struct session *session, const struct view *view,
                           const struct quick *quick)
{
    uint64_t room = session->daemon->config->node.output_bytes;
    struct read_tally tally = {0};
    unsigned done = 0;
    while (done < quick->count && stream_pending(&session->stream) < room &&
           answer(session, view, quick, done, &tally)) {
        done++;
    }
    if (done > 0) {
        stream_wrote(&session->stream);
        METRIC_ADD(&session->daemon->metrics, node, commands, done);
        read_tally_add(&tally, session->selected->instance);
    }
    return done;
}

size_t quick_run(struct session *session, struct bytes data, bool *ret_slow)
{
    struct bytes first;
    struct view *view;
    if (!is_free(session) || resp_get(data, &first) == 0 ||
        session_pin(session, session->selected, &view) != OK) {
        return 0;
    }
    struct quick quick;
    gather(&quick, view, data);
    unsigned done = answer_all(session, view, &quick);
    view_release(view);
    *ret_slow = done < quick.count;
    return done > 0 ? quick.ends[done - 1] : 0;
}
