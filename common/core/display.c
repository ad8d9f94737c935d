// SPDX-License-Identifier: Apache-2.0
#include "common/core/display.h"

#include <errno.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/instance.h"
#include "common/data/limits.h"
#include "common/shared/board.h"
#include "common/shared/incarnation.h"

#define SWEEP_EVERY_NS (250 * NS_PER_MS)
#define RETRY_NS (10 * NS_PER_S) // after there was no memory for a board
#define SEEN_KEYS_LEAST 8192 // looked up once, before all of them are forgotten
#define SEEN_KEYS_MOST 131072 // a loop that forgets them does nothing else meanwhile
#define SEEN_KEY_BYTES 2     // of the filter that remembers them
#define LINE_WORDS (BLOOM_LINE_BYTES / 8)

_Static_assert(SHARED_HISTORY_BYTES == HISTORY_ID_BYTES, "a board names its history");
_Static_assert(SHARED_KEY_BYTES_MAX == KEY_BYTES_MAX, "keys have the same limit on both sides");

struct display {
    struct instance *instance;
    bool shares;
    struct incarnation incarnation; // when it shares
    // Guards the next three, and what stands on the board. Only the applier waits for it, and only
    // the applier changes any of the three: so it needs no lock to read them.
    pthread_mutex_t lock;
    struct board *board;  // of the newest view; NULL: none
    uint64_t covered;     // blocks up to this one have passed display_learn
    bool broken;          // a later one did, too, but not all between
    uint64_t retry_ns;    // no board is begun sooner
    uint64_t swept_ns;
    struct log_gate gate;
    _Atomic bool asked;   // somebody has been given descriptors
    struct bloom seen;    // what was looked up lately
    void *seen_memory;
    uint64_t seen_max;
    _Atomic uint64_t seen_keys;
};

// As many keys as there is room for on a board, within bounds.
static void open_seen(struct display *display, const struct instance_options *options)
{
    uint64_t keys = options->hot_bytes / u64_max(options->hot_entry, SHARED_LINE_BYTES);
    uint64_t room = u64_max(SEEN_KEYS_LEAST, keys);
    display->seen_max = u64_min(room, SEEN_KEYS_MOST);
    uint64_t lines = display->seen_max * SEEN_KEY_BYTES / BLOOM_LINE_BYTES;
    display->seen_memory = mem_zalloc((lines + 1) * BLOOM_LINE_BYTES);
    uintptr_t at = (uintptr_t)display->seen_memory + BLOOM_LINE_BYTES;
    display->seen = (struct bloom){.lines = (struct bloom_line *)(at - at % BLOOM_LINE_BYTES),
                                   .count = lines};
}

int display_open(struct instance *instance)
{
    bool shares = instance->options->share_memory;
    struct incarnation incarnation = {.fd = -1};
    int error = incarnation_raise(&incarnation, instance->directory, shares);
    if (error != OK && (error != ERR_NOT_FOUND || shares)) {
        log_line(LOG_ERROR, instance->name, "cannot raise the number in %s/incarnation: %s",
                 instance->directory, strerror(errno));
        return error;
    }
    if (shares || instance->options->hot_bytes > 0) {
        struct display *display = mem_zalloc(sizeof *display);
        display->instance = instance;
        display->shares = shares;
        display->incarnation = incarnation;
        pthread_mutex_init(&display->lock, NULL);
        open_seen(display, instance->options);
        instance->display = display;
    }
    return OK;
}

void display_close(struct display *display)
{
    if (display != NULL) {
        board_release(display->board);
        incarnation_close(&display->incarnation);
        pthread_mutex_destroy(&display->lock);
        mem_free(display->seen_memory);
        mem_free(display);
    }
}

// ---- what the applier does ---------------------------------------------------------------------

void display_learn(struct display *display, const struct block *block)
{
    if (display == NULL || display->board == NULL) {
        return;
    }
    uint64_t number = block->header.number;
    pthread_mutex_lock(&display->lock);
    if (number > display->covered + 1) {
        display->broken = true;
    }
    display->covered = u64_max(display->covered, number);
    struct block_walk walk;
    struct entry entry;
    block_walk_start(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        board_forget(display->board, entry.key);
    }
    pthread_mutex_unlock(&display->lock);
}

static bool board_fits(const struct display *display, const struct view *view)
{
    struct view *before = instance_pin(display->instance);
    bool same = before != NULL && before->store == view->store &&
                memcmp(before->history, view->history, HISTORY_ID_BYTES) == 0;
    view_release(before);
    return same && !display->broken && view->place.number <= display->covered;
}

static void begin_board(struct display *display, const struct view *view)
{
    struct instance *instance = display->instance;
    if (clock_mono_ns() < display->retry_ns) {
        return;
    }
    struct board_setup setup = {.incarnation = display->incarnation.number,
                                .history = view->history,
                                .hot_bytes = instance->options->hot_bytes,
                                .slot_bytes = instance->options->hot_entry,
                                .index = view->place.index,
                                .generation = front_number(view->front),
                                .shared = display->shares};
    display->covered = view->place.number;
    display->broken = false;
    int error = board_open(&display->board, &setup);
    if (error != OK) {
        display->retry_ns = clock_mono_ns() + RETRY_NS;
        LOG_GATED(&display->gate, LOG_WARN, instance->name, "no table of hot keys: hot_bytes: %s",
                  error_text(error));
        return;
    }
    METRIC_ADD(instance->metrics, instance, boards, 1);
}

// Nothing can be said of a node that has no history yet.
void display_prepare(struct display *display, struct view *view)
{
    if (display == NULL || view->place.number == 0) {
        return;
    }
    pthread_mutex_lock(&display->lock);
    if (display->board != NULL && !board_fits(display, view)) {
        board_retire(display->board);
        board_release(display->board);
        display->board = NULL;
    }
    if (display->board == NULL) {
        begin_board(display, view);
    }
    view->board = board_hold(display->board);
    pthread_mutex_unlock(&display->lock);
}

void display_show(struct display *display, const struct view *view)
{
    if (display != NULL && view->board != NULL) {
        board_show(view->board, view->place.index, front_number(view->front));
        METRIC_SET(display->instance->metrics, instance, hot_keys, board_keys(view->board));
    }
}

static void touch(void *argument, struct bytes key, uint64_t value_bytes)
{
    struct instance *instance = argument;
    if (instance->role->touch != NULL) {
        instance->role->touch(instance, key, value_bytes);
    }
}

uint64_t display_turn(struct display *display)
{
    if (display == NULL || display->board == NULL || !atomic_load(&display->asked)) {
        return WORKER_IDLE;
    }
    uint64_t now_ns = clock_mono_ns();
    if (now_ns - display->swept_ns < SWEEP_EVERY_NS) {
        return SWEEP_EVERY_NS;
    }
    display->swept_ns = now_ns;
    struct instance *instance = display->instance;
    pthread_mutex_lock(&display->lock);
    uint64_t used = board_sweep(display->board, touch, instance);
    pthread_mutex_unlock(&display->lock);
    board_fold(display->board);
    METRIC_ADD(instance->metrics, instance, hot_used, used);
    return SWEEP_EVERY_NS;
}

// ---- hot keys ----------------------------------------------------------------------------------

int display_look(const struct view *view, struct hash128 hash, struct bytes key,
                 struct record *ret_record, struct look_answer *room)
{
    if (view->board == NULL) {
        return ERR_INCOMPLETE;
    }
    int code = board_look(view->board, hash, key, view->place.index, room);
    if (code == OK) {
        *ret_record = (struct record){.version = room->version,
                                      .length = (uint32_t)room->value_bytes,
                                      .held = true,
                                      .value = look_value(room)};
    }
    return code;
}

// Was it looked up before, lately?
static bool seen_again(struct display *display, struct bytes key)
{
    if (bloom_maybe(&display->seen, key)) {
        return true;
    }
    bloom_add(&display->seen, key);
    if (atomic_fetch_add(&display->seen_keys, 1) == display->seen_max) {
        for (uint64_t i = 0; i < display->seen.count * LINE_WORDS; i++) {
            _Atomic uint64_t *word = &display->seen.lines[i / LINE_WORDS].words[i % LINE_WORDS];
            atomic_store_explicit(word, 0, memory_order_relaxed);
        }
        atomic_store(&display->seen_keys, 0);
    }
    return false;
}

// A board that is not well filled has room for whatever comes.
static bool is_worth_it(struct display *display, const struct board *board, struct bytes key,
                        size_t value_bytes)
{
    bool roomy = board_keys(board) < board_room(board) - board_room(board) / 4;
    return key.size + value_bytes <= board_data_bytes(board) &&
           (roomy || seen_again(display, key));
}

// Not while a block was learned that the view does not show, as one that waits for disk space, or
// because there is a newer view: what it changes has been forgotten, and would be remembered as it
// was.
void display_note(struct display *display, const struct view *view, struct bytes key,
                  const struct record *record)
{
    size_t value_bytes = record != NULL ? record->value.size : 0;
    if (display == NULL || view->board == NULL || display->instance->options->hot_bytes == 0 ||
        !is_worth_it(display, view->board, key, value_bytes) ||
        pthread_mutex_trylock(&display->lock) != 0) {
        return;
    }
    bool newest = view->board == display->board && view->place.number == display->covered &&
                  !display->broken;
    bool put = newest && board_put(view->board, key, view->place.index,
                                   record != NULL ? record->version : 0,
                                   record != NULL ? record->value : bytes_of(NULL, 0));
    uint64_t keys = board_keys(view->board);
    pthread_mutex_unlock(&display->lock);
    if (put) {
        METRIC_ADD(display->instance->metrics, instance, hot_fills, 1);
        METRIC_SET(display->instance->metrics, instance, hot_keys, keys);
    }
}

// ---- descriptors -------------------------------------------------------------------------------

unsigned display_fds(struct display *display, const struct view *view, int ret_fds[LOOK_FDS])
{
    if (display == NULL || !display->shares || view->board == NULL) {
        return 0;
    }
    atomic_store_explicit(&display->asked, true, memory_order_relaxed);
    ret_fds[LOOK_INCARNATION] = display->incarnation.fd;
    ret_fds[LOOK_BOARD] = board_fd(view->board);
    ret_fds[LOOK_MARKS] = board_marks_fd(view->board);
    ret_fds[LOOK_FILTER] = front_fd(view->front);
    return ret_fds[LOOK_FILTER] < 0 ? LOOK_FILTER : LOOK_FDS;
}
