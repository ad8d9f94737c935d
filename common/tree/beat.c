// SPDX-License-Identifier: Apache-2.0
// Heartbeats, newest last. A beat says: what the root had committed up to index i is this old. It
// says nothing yet about a node that shows less than i; so earlier ones are kept too, the older the
// sparser. A node that lags far may so be told somewhat too high an age, never too low a one.
#include <pthread.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/core/lead.h"
#include "common/tree/tree.h"

#define BEATS_MAX 64

struct beats {
    pthread_mutex_t lock;
    struct beat kept[BEATS_MAX];
    unsigned count;
    struct list subscribers;
};

struct beats *beats_open(void)
{
    struct beats *beats = mem_zalloc(sizeof *beats);
    pthread_mutex_init(&beats->lock, NULL);
    list_init(&beats->subscribers);
    return beats;
}

void beats_close(struct beats *beats)
{
    CHECK(list_empty(&beats->subscribers));
    pthread_mutex_destroy(&beats->lock);
    mem_free(beats);
}

static uint64_t age_of(const struct beat *beat, uint64_t now_ns)
{
    uint64_t since = now_ns > beat->received_ns ? now_ns - beat->received_ns : 0;
    return beat->delay_ns > UINT64_MAX - 1 - since ? UINT64_MAX - 1 : beat->delay_ns + since;
}

// Drops the one that is missed least: its neighbours' ages, told instead of its own, would err by
// the smallest factor. So the distances grow with the age, and few beats reach far back. The oldest
// may be the only one covered, and the newest is the newest: both stay.
static void drop_one(struct beats *beats, uint64_t now_ns)
{
    unsigned least = 1;
    double least_factor = 0;
    for (unsigned i = 1; i + 1 < beats->count; i++) {
        double before = (double)age_of(&beats->kept[i - 1], now_ns);
        double after = (double)age_of(&beats->kept[i + 1], now_ns);
        double factor = before / (after + 1);
        if (i == 1 || factor < least_factor) {
            least = i;
            least_factor = factor;
        }
    }
    beats->count--;
    memmove(&beats->kept[least], &beats->kept[least + 1],
            (beats->count - least) * sizeof beats->kept[0]);
}

static void add(struct beats *beats, const struct beat *beat)
{
    struct beat *newest = beats->count > 0 ? &beats->kept[beats->count - 1] : NULL;
    if (newest != NULL && memcmp(newest->history, beat->history, HISTORY_ID_BYTES) != 0) {
        beats->count = 0;
        newest = NULL;
    }
    if (newest != NULL && newest->sequence == beat->sequence &&
        newest->commit_index == beat->commit_index) {
        // The same beat once more: the shorter way tells the age better. Otherwise the one at hand
        // stays as it is: its residence time here goes on counting.
        if (age_of(beat, beat->received_ns) <= age_of(newest, beat->received_ns)) {
            *newest = *beat;
        }
        return;
    }
    if (beats->count == BEATS_MAX) {
        drop_one(beats, beat->received_ns);
    }
    beats->kept[beats->count++] = *beat;
}

void beats_add(struct beats *beats, const struct beat *beat)
{
    CHECK(beat->path_size <= BEAT_PATH_MAX);
    pthread_mutex_lock(&beats->lock);
    add(beats, beat);
    LIST_FOR_EACH(node, &beats->subscribers) {
        notice_raise(CONTAINER_OF(node, struct beats_subscriber, node)->notice);
    }
    pthread_mutex_unlock(&beats->lock);
}

bool beats_newest(struct beats *beats, struct beat *ret_beat)
{
    pthread_mutex_lock(&beats->lock);
    bool found = beats->count > 0;
    if (found) {
        *ret_beat = beats->kept[beats->count - 1];
    }
    pthread_mutex_unlock(&beats->lock);
    return found;
}

uint64_t beats_age_ns(struct beats *beats, const uint8_t *history, uint64_t visible,
                      uint64_t now_ns)
{
    uint64_t age = UINT64_MAX;
    pthread_mutex_lock(&beats->lock);
    for (unsigned i = 0; i < beats->count; i++) {
        bool its = history == NULL ||
                   memcmp(beats->kept[i].history, history, HISTORY_ID_BYTES) == 0;
        if (its && beats->kept[i].commit_index <= visible) {
            age = u64_min(age, age_of(&beats->kept[i], now_ns));
        }
    }
    pthread_mutex_unlock(&beats->lock);
    return age;
}

void beats_subscribe(struct beats *beats, struct beats_subscriber *subscriber)
{
    pthread_mutex_lock(&beats->lock);
    list_append(&beats->subscribers, &subscriber->node);
    pthread_mutex_unlock(&beats->lock);
}

void beats_unsubscribe(struct beats *beats, struct beats_subscriber *subscriber)
{
    pthread_mutex_lock(&beats->lock);
    list_remove(&subscriber->node);
    pthread_mutex_unlock(&beats->lock);
}

// ---- paths and messages ------------------------------------------------------------------------

bool path_passed(struct bytes path, const char *node)
{
    struct bytes rest = path;
    while (rest.size > 0) {
        const uint8_t *end = memchr(rest.data, 0, rest.size);
        size_t length = end != NULL ? (size_t)(end - rest.data) : rest.size;
        if (bytes_equal_text(bytes_of(rest.data, length), node)) {
            return true;
        }
        size_t step = end != NULL ? length + 1 : length;
        rest = bytes_of(rest.data + step, rest.size - step);
    }
    return false;
}

// Never less for being said to be very much.
static uint64_t add_way(uint64_t said_ns, uint64_t half_rtt_ns)
{
    bool overflow = said_ns > UINT64_MAX / 2 || half_rtt_ns > UINT64_MAX / 4;
    return overflow ? UINT64_MAX / 2 : said_ns + half_rtt_ns;
}

int beat_decode(struct beat *ret_beat, struct bytes payload, uint64_t half_rtt_ns, uint64_t now_ns)
{
    struct message_heartbeat message;
    int error = message_heartbeat_decode(payload, &message);
    if (error != OK) {
        return error;
    }
    if (message.history.size != HISTORY_ID_BYTES || message.chain.size != HASH128_BYTES ||
        message.digest.size != HASH128_BYTES || message.path.size == 0 ||
        message.path.size > BEAT_PATH_MAX) {
        return ERR_PROTOCOL;
    }
    uint64_t way_ns = message.way_ns == 0 ? 0 : add_way(message.way_ns, half_rtt_ns);
    *ret_beat = (struct beat){.epoch = message.epoch,
                              .commit_index = message.commit_index,
                              .block = message.block,
                              .root_ms = message.root_ms,
                              .delay_ns = add_way(message.delay_ns, half_rtt_ns),
                              .way_ns = way_ns,
                              .sequence = message.sequence,
                              .held_ns = u64_min(message.held_ns, message.delay_ns),
                              .chain = hash128_load(message.chain.data),
                              .digest = hash128_load(message.digest.data),
                              .path_size = message.path.size,
                              .received_ns = now_ns};
    memcpy(ret_beat->history, message.history.data, HISTORY_ID_BYTES);
    memcpy(ret_beat->path, message.path.data, message.path.size);
    return OK;
}

int beat_encode(struct buf *to, const struct beat *beat, const char *node, uint64_t now_ns)
{
    char path[BEAT_PATH_MAX];
    size_t length = strlen(node);
    size_t separator = beat->path_size > 0 ? 1 : 0;
    if (beat->path_size + separator + length > sizeof path) {
        return ERR_PROTOCOL;
    }
    memcpy(path, beat->path, beat->path_size);
    path[beat->path_size] = '\0'; // where the path was empty, the name overwrites it
    memcpy(path + beat->path_size + separator, node, length);
    uint8_t chain[HASH128_BYTES], digest[HASH128_BYTES];
    hash128_store(chain, beat->chain);
    hash128_store(digest, beat->digest);
    struct message_heartbeat message = {
        .history = bytes_of(beat->history, HISTORY_ID_BYTES),
        .epoch = beat->epoch,
        .commit_index = beat->commit_index,
        .block = beat->block,
        .chain = bytes_of(chain, sizeof chain),
        .digest = bytes_of(digest, sizeof digest),
        .root_ms = beat->root_ms,
        .delay_ns = age_of(beat, now_ns),
        .path = bytes_of(path, beat->path_size + separator + length),
        .sequence = beat->sequence,
        .held_ns = now_ns > beat->received_ns ? now_ns - beat->received_ns : 0,
        .way_ns = beat->way_ns,
    };
    message_heartbeat_encode(to, &message);
    return OK;
}

uint64_t instance_age_ns(struct instance *instance)
{
    if (instance_leads(instance)) {
        return instance->lead == NULL ? 0 : lead_doubt_ns(instance->lead, clock_mono_ns());
    }
    struct view *view = instance_pin(instance);
    if (view == NULL) {
        return UINT64_MAX;
    }
    const uint8_t *history = view->place.number > 0 ? view->history : NULL;
    uint64_t age_ns = beats_age_ns(instance->beats, history, view->place.index, clock_mono_ns());
    view_release(view);
    return age_ns;
}
