// SPDX-License-Identifier: Apache-2.0
#include "proxy/hand.h"

#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/space.h"
#include "proxy/proxy.h"

#define CANDIDATES 8
// A run: no less than costs more to begin with than to rewrite, but no large part of a small cache.
#define RUN_BYTES_LEAST (2 * MIB)
#define RUN_BYTES_WANTED (32 * MIB)
#define RUN_SHARE 8
#define RUN_LEFT_SHARE 2 // of what is left below max_bytes: files of other levels go with it
#define SHARE_LEAST (SHARE_ALL / 4)
#define KEEP_SHARE (SHARE_ALL / 2) // of what earlier samples said
// A sample: rows from a few places of a file.
#define SAMPLE_PLACES 4
#define PLACE_ROWS 12
#define PLACE_VISITS 64
#define PLACE_BYTES (32 * KIB)
#define LOOK_EVERY_NS NS_PER_S // while there is nothing to do
#define REST_SHARE 4 // the rest over the soft limit, as a part of the work before it
#define BARREN_NS (100 * NS_PER_MS)
#define BARREN_DOUBLINGS 6

struct hand {
    struct instance *instance;
    struct recency *recency;
    struct evict *evict;
    struct ages ages;    // of the rows sampled lately
    struct buf cursor;   // the last key of the range that was compacted last
    unsigned barren;     // steps without any gain, one after another
    char *memory_path;   // of recency's file
    struct log_gate barren_gate, fail_gate;
};

struct hand *hand_open(struct instance *instance, struct recency *recency, struct evict *evict)
{
    struct hand *hand = mem_zalloc(sizeof *hand);
    hand->instance = instance;
    hand->recency = recency;
    hand->evict = evict;
    hand->memory_path = mem_format("%s/recency", instance->directory);
    int error = recency_load(recency, hand->memory_path);
    if (error != OK && error != ERR_NOT_FOUND) {
        log_line(LOG_WARN, instance->name, "%s: %s; which values were read lately is not known",
                 hand->memory_path, error_text(error));
    }
    return hand;
}

static void save_memory(struct hand *hand)
{
    int error = recency_save(hand->recency, hand->memory_path);
    if (error != OK) {
        LOG_GATED(&hand->fail_gate, LOG_WARN, hand->instance->name, "%s cannot be written: %s",
                  hand->memory_path, error_text(error));
    }
}

void hand_close(struct hand *hand)
{
    save_memory(hand);
    mem_free(hand->memory_path);
    buf_free(&hand->cursor);
    mem_free(hand);
}

// ---- choosing ----------------------------------------------------------------------------------

uint64_t hand_run_bytes(uint64_t total_bytes, uint64_t merge_bytes, uint64_t left_bytes)
{
    uint64_t most = u64_max(u64_min(total_bytes / RUN_SHARE, RUN_BYTES_WANTED), merge_bytes);
    return u64_max(u64_min(most, left_bytes / RUN_LEFT_SHARE), RUN_BYTES_LEAST);
}

uint32_t hand_share(uint64_t over_bytes, uint64_t total_bytes)
{
    uint64_t over = u64_min(over_bytes, total_bytes);
    uint64_t share =
        total_bytes == 0 ? 0 : (uint64_t)((unsigned __int128)over * SHARE_ALL / total_bytes);
    return (uint32_t)u64_max(share, SHARE_LEAST);
}

size_t hand_choose(const struct hand_sample *samples, size_t count, struct ages_limit limit)
{
    size_t best = count;
    double most = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t cold = ages_cold(&samples[i].ages, limit), seen = samples[i].seen_bytes;
        double promised =
            cold == 0 ? 0 : (double)samples[i].run_bytes * (double)cold / (double)seen;
        if (promised > most) {
            most = promised;
            best = i;
        }
    }
    return best;
}

// The eight bytes of a key from `at` on as a number; what is missing counts as zero.
static uint64_t number_at(struct bytes key, size_t at)
{
    uint8_t bytes[8] = {0};
    if (key.size > at) {
        memcpy(bytes, key.data + at, u64_min(key.size - at, sizeof bytes));
    }
    return load_u64_be(bytes);
}

// A key somewhere between two: the bytes that they share, then a number between what follows.
static struct bytes random_key(struct buf *to, struct bytes first, struct bytes last)
{
    uint8_t chosen[8];
    size_t same = 0;
    while (same < first.size && same < last.size && first.data[same] == last.data[same]) {
        same++;
    }
    uint64_t from = number_at(first, same), between = number_at(last, same) - from;
    buf_clear(to);
    buf_append_bytes(to, bytes_of(last.data, same));
    store_u64_be(chosen, between == 0 ? from : from + random_u64() % between);
    buf_append(to, chosen, sizeof chosen);
    return buf_bytes(to);
}

// Takes some rows from the iterator's place on.
static void sample_place(const struct hand *hand, struct store_iterator *iterator,
                         struct hand_sample *sample)
{
    uint64_t floor = evict_floor(hand->evict), until = sample->seen_bytes + PLACE_BYTES;
    unsigned taken = 0;
    for (unsigned i = 0; i < PLACE_VISITS && taken < PLACE_ROWS && sample->seen_bytes < until &&
                         store_iterator_valid(iterator);
         i++, store_iterator_next(iterator)) {
        struct bytes key = store_iterator_key(iterator), row = store_iterator_value(iterator);
        struct stub stub;
        sample->seen_bytes += key.size + row.size;
        if (stub_parse(row, &stub) == OK && stub.record.held && stub.record.version <= floor) {
            ages_add(&sample->ages, recency_age(hand->recency, key, stub.period),
                     stub.record.length);
            taken++;
        }
    }
}

// A run: the keys from `first` to `last`, which is the last key of a file.
struct run {
    struct bytes first, last;
    bool open_first, open_last; // nothing lies before it, behind it
    uint64_t bytes;
};

static struct hand_sample take_sample(const struct hand *hand, struct store *store,
                                      const struct run *run)
{
    struct hand_sample sample = {.run_bytes = run->bytes};
    struct buf key = {0};
    struct store_iterator *iterator =
        store_iterator_open(store, NULL, 0, run->first, bytes_of(NULL, 0));
    for (int i = 0; i < SAMPLE_PLACES; i++) {
        store_iterator_seek(iterator, random_key(&key, run->first, run->last));
        sample_place(hand, iterator, &sample);
    }
    store_iterator_close(iterator);
    buf_free(&key);
    return sample;
}

static int by_largest(const void *left, const void *right)
{
    const struct store_file *a = left, *b = right;
    return bytes_compare(a->largest, b->largest);
}

// Puts the files in the order of their last keys, those that came from memtables left out: they
// cover all keys and go with any run. Returns how many are left.
static size_t order_files(struct store_files *files)
{
    size_t first = 0;
    while (first < files->count && files->files[first].level == 0) {
        first++;
    }
    memmove(files->files, files->files + first, (files->count - first) * sizeof *files->files);
    files->count -= first;
    qsort(files->files, files->count, sizeof *files->files, by_largest);
    return files->count;
}

static size_t after_cursor(const struct hand *hand, const struct store_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        if (bytes_compare(files->files[i].largest, buf_bytes(&hand->cursor)) > 0) {
            return i;
        }
    }
    return 0;
}

// Up to CANDIDATES runs from the cursor on, round the end. A file counts where it ends: of each
// level one more may reach into a run. Returns how many.
static size_t find_runs(const struct hand *hand, const struct store_files *files,
                        uint64_t most, struct run runs[CANDIDATES])
{
    const struct store_file *all = files->files;
    size_t left = files->count, count = 0;
    for (size_t i = 0; i < files->count; i++) {
        most = u64_max(most, all[i].bytes);
    }
    for (size_t at = after_cursor(hand, files); left > 0 && count < CANDIDATES; count++) {
        size_t end = at;
        uint64_t bytes = 0;
        do {
            bytes += all[end++].bytes;
            left--;
        } while (left > 0 && end < files->count && bytes + all[end].bytes <= most);
        runs[count] = (struct run){.first = at > 0 ? all[at - 1].largest : all[at].smallest,
                                   .last = all[end - 1].largest,
                                   .open_first = at == 0,
                                   .open_last = end == files->count,
                                   .bytes = bytes};
        at = end < files->count ? end : 0;
    }
    return count;
}

static uint64_t sum_bytes(const struct store_files *files)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < files->count; i++) {
        sum += files->files[i].bytes;
    }
    return sum;
}

static void move_cursor(struct hand *hand, struct bytes key)
{
    buf_clear(&hand->cursor);
    buf_append_bytes(&hand->cursor, key);
}

// Chooses a run, makes the order for it, and moves the cursor behind it. False: nothing can go.
static bool choose(struct hand *hand, struct store *store, struct store_files *files,
                   const struct space_state *space, struct evict_order *ret_order)
{
    uint64_t total_bytes = sum_bytes(files);
    struct run runs[CANDIDATES];
    struct hand_sample samples[CANDIDATES];
    if (order_files(files) == 0) {
        return false;
    }
    uint64_t most = hand_run_bytes(total_bytes, store_merge_bytes(store), space->left_bytes);
    size_t count = find_runs(hand, files, most, runs);
    struct ages ages = {0};
    for (size_t i = 0; i < count; i++) {
        samples[i] = take_sample(hand, store, &runs[i]);
        ages_blend(&ages, SHARE_ALL, &samples[i].ages);
    }
    ages_blend(&hand->ages, KEEP_SHARE, &ages);
    struct ages_limit limit = ages_limit(&hand->ages, hand_share(space->over_bytes, total_bytes));
    size_t best = hand_choose(samples, count, limit);
    const struct run *run = &runs[best < count ? best : count - 1];
    move_cursor(hand, run->last);
    // What lies before the first file and behind the last one is looked at with them.
    *ret_order = (struct evict_order){
        .active = true,
        .ranged = true,
        .limit = limit,
        .salt = random_u64(),
        .lower = run->open_first ? bytes_of(NULL, 0) : run->first,
        .upper = run->open_last ? bytes_of(NULL, 0) : run->last,
    };
    return best < count;
}

// ---- stepping ----------------------------------------------------------------------------------

// Compacts the run that promises most. Returns the bytes of values that went.
static uint64_t sweep(struct hand *hand, struct store *store, const struct space_state *space,
                      int *ret_error)
{
    struct instance *instance = hand->instance;
    struct store_files files;
    store_files(store, 0, &files);
    struct evict_order order;
    uint64_t before = evict_dropped(hand->evict);
    *ret_error = OK;
    if (choose(hand, store, &files, space, &order)) {
        evict_set(hand->evict, &order);
        METRIC_ADD(instance->metrics, instance, hand_steps, 1);
        *ret_error = store_compact(store, 0, order.lower, order.upper);
        order.ranged = false;
        evict_set(hand->evict, &order);
    }
    store_files_free(&files);
    return evict_dropped(hand->evict) - before;
}

// What the cache could hold: what it holds now, and what may still come or must go.
static uint64_t cache_bytes(struct store *store, const struct space_state *space)
{
    struct store_sizes sizes;
    store_sizes(store, &sizes);
    uint64_t now = sizes.family_bytes[0] + sizes.memtable_bytes;
    uint64_t most = now + u64_min(space->room_bytes, UINT64_MAX - now);
    return most - u64_min(space->over_bytes, most);
}

static void turn_period(struct hand *hand, struct store *store, const struct space_state *space)
{
    struct proxy *proxy = hand->instance->role_state;
    uint64_t bytes = cache_bytes(store, space);
    // What is missed twice while no more than the cache was missed is worth its place (fill.c): an
    // LRU of that size would have kept it.
    (void)recency_turn(proxy->missed, bytes);
    if (recency_turn(hand->recency, bytes)) {
        ages_turn(&hand->ages);
        save_memory(hand);
    }
    METRIC_SET(hand->instance->metrics, instance, access_period, recency_period(hand->recency));
}

// How long to wait after a step that took `took_ns` and gave nothing or something.
static uint64_t pause_after(struct hand *hand, bool gained, uint64_t took_ns)
{
    struct space_state space;
    space_poll(hand->instance, true);
    space_read(hand->instance, &space);
    if (gained || space.level == SPACE_OK) {
        hand->barren = 0;
        return space.level >= SPACE_HARD ? 0 : took_ns / REST_SHARE;
    }
    if (hand->barren == BARREN_DOUBLINGS) {
        LOG_GATED(&hand->barren_gate, LOG_WARN, hand->instance->name,
                  "over the limit %s, and no value can be dropped: all that is left is keys, the "
                  "window (window, window_bytes) and the journal (journal_bytes)", space.reason);
    }
    hand->barren += hand->barren < BARREN_DOUBLINGS ? 1 : 0;
    return BARREN_NS << hand->barren;
}

static uint64_t step(struct proxy *proxy, struct store *store)
{
    struct instance *instance = proxy->instance;
    struct hand *hand = proxy->hand;
    struct space_state space;
    space_poll(instance, false);
    space_read(instance, &space);
    turn_period(hand, store, &space);
    if (space.level == SPACE_OK || space.over_bytes == 0) {
        evict_set(hand->evict, &(struct evict_order){0});
        hand->barren = 0;
        if (atomic_load(&proxy->halvings) != 0) {
            proxy_tighten(instance, 0);
        }
        return LOOK_EVERY_NS;
    }
    // The window gives way last: when nothing else does, over the hard limit.
    proxy_tighten(instance, space.level >= SPACE_HARD ? hand->barren : 0);
    uint64_t begun_ns = clock_mono_ns();
    int error;
    uint64_t dropped = sweep(hand, store, &space, &error);
    if (error == ERR_STOPPED) {
        return LOOK_EVERY_NS; // the instance ends, or has another store
    }
    if (error != OK) {
        LOG_GATED(&hand->fail_gate, LOG_WARN, instance->name, "values could not be dropped: %s",
                  error_text(error));
    }
    return pause_after(hand, dropped > 0, clock_mono_ns() - begun_ns);
}

uint64_t hand_step(struct instance *instance)
{
    struct volume *volume = instance_volume(instance);
    uint64_t wanted_ns = step(instance->role_state, volume->store);
    volume_release(volume);
    return wanted_ns;
}
