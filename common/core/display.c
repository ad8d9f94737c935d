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
#define NOTED_MAX 64
#define NOTED_KEY_BYTES 256
#define SEEN_KEYS 8192 // looked up once, before all of them are forgotten
#define SEEN_LINES (SEEN_KEYS * 16 / 8 / BLOOM_LINE_BYTES)

_Static_assert(SHARED_HISTORY_BYTES == HISTORY_ID_BYTES, "a board names its history");
_Static_assert(SHARED_KEY_BYTES_MAX == KEY_BYTES_MAX, "keys have the same limit on both sides");

// Keys that wait to be put on the board. Those for which there is no room will be looked up again.
struct noted {
    unsigned count;
    uint16_t sizes[NOTED_MAX];
    uint8_t keys[NOTED_MAX][NOTED_KEY_BYTES];
};

struct display {
    struct instance *instance;
    struct incarnation incarnation;
    struct board *board;  // of the newest view; NULL: none
    uint64_t covered;     // blocks up to this one have passed display_learn
    bool broken;          // a later one did, too, but not all between
    uint64_t retry_ns;    // no board is begun sooner
    uint64_t swept_ns;
    struct log_gate gate;
    _Atomic bool asked;   // somebody has been given descriptors
    struct bloom seen;    // what was looked up lately
    void *seen_memory;
    _Atomic uint64_t seen_keys;
    pthread_mutex_t lock; // guards `noted` and `posted`
    struct noted noted;
    bool posted;          // the task is on its way to the applier
    struct task task;
};

static void on_noted(struct task *task);

int display_open(struct instance *instance)
{
    bool shares = instance->options->share_memory;
    struct incarnation incarnation;
    int error = incarnation_raise(&incarnation, instance->directory, shares);
    if (error == ERR_NOT_FOUND && !shares) {
        return OK;
    }
    if (error != OK) {
        log_line(LOG_ERROR, instance->name, "cannot raise the number in %s/incarnation: %s",
                 instance->directory, strerror(errno));
        return error;
    }
    if (shares) {
        struct display *display = mem_zalloc(sizeof *display);
        display->instance = instance;
        display->incarnation = incarnation;
        display->task.run = on_noted;
        pthread_mutex_init(&display->lock, NULL);
        display->seen_memory = mem_zalloc((SEEN_LINES + 1) * BLOOM_LINE_BYTES);
        uintptr_t at = (uintptr_t)display->seen_memory + BLOOM_LINE_BYTES;
        display->seen = (struct bloom){
            .lines = (struct bloom_line *)(at - at % BLOOM_LINE_BYTES), .count = SEEN_LINES};
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
                                .index = view->place.index,
                                .generation = front_number(view->front)};
    display->covered = view->place.number;
    display->broken = false;
    int error = board_open(&display->board, &setup);
    if (error != OK) {
        display->retry_ns = clock_mono_ns() + RETRY_NS;
        LOG_GATED(&display->gate, LOG_WARN, instance->name, "no memory is shared: %s",
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
    if (display->board != NULL && !board_fits(display, view)) {
        board_retire(display->board);
        board_release(display->board);
        display->board = NULL;
    }
    if (display->board == NULL) {
        begin_board(display, view);
    }
    view->board = board_hold(display->board);
}

void display_show(struct display *display, const struct view *view)
{
    if (display != NULL && view->board != NULL) {
        board_show(view->board, view->place.index, front_number(view->front));
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
    uint64_t used = board_sweep(display->board, touch, instance);
    METRIC_ADD(instance->metrics, instance, hot_used, used);
    METRIC_SET(instance->metrics, instance, hot_keys, board_keys(display->board));
    return SWEEP_EVERY_NS;
}

// ---- hot keys ----------------------------------------------------------------------------------

// Was it looked up before, lately?
static bool seen_again(struct display *display, struct bytes key)
{
    if (bloom_maybe(&display->seen, key)) {
        return true;
    }
    bloom_add(&display->seen, key);
    if (atomic_fetch_add(&display->seen_keys, 1) == SEEN_KEYS) {
        for (unsigned i = 0; i < SEEN_LINES * BLOOM_LINE_BYTES / 8; i++) {
            struct bloom_line *line = &display->seen.lines[i * 8 / BLOOM_LINE_BYTES];
            _Atomic uint64_t *word = &line->words[i % (BLOOM_LINE_BYTES / 8)];
            atomic_store_explicit(word, 0, memory_order_relaxed);
        }
        atomic_store(&display->seen_keys, 0);
    }
    return false;
}

void display_note(struct display *display, const struct view *view, struct bytes key)
{
    if (display == NULL || !atomic_load_explicit(&display->asked, memory_order_relaxed) ||
        view->board == NULL || key.size > NOTED_KEY_BYTES || board_has(view->board, key) ||
        !seen_again(display, key)) {
        return;
    }
    struct noted *noted = &display->noted;
    pthread_mutex_lock(&display->lock);
    if (noted->count < NOTED_MAX) {
        noted->sizes[noted->count] = (uint16_t)key.size;
        memcpy(noted->keys[noted->count++], key.data, key.size);
        if (!display->posted) {
            display->posted = true;
            mailbox_post(instance_applier(display->instance), &display->task);
        }
    }
    pthread_mutex_unlock(&display->lock);
}

// As the view has it; from memory, or not now.
static void put(struct display *display, const struct view *view, struct bytes key)
{
    struct store_value row;
    struct record record = {0};
    bool known = board_has(display->board, key) || front_absent(view->front, key);
    int code = known ? ERR_INCOMPLETE
                     : store_get(view->store, view->snapshot, 0, key, STORE_CACHED, &row);
    bool put = code == ERR_NOT_FOUND &&
               board_put(display->board, key, view->place.index, 0, bytes_of(NULL, 0));
    if (code == OK) {
        put = display->instance->role->decode(row.data, &record) == OK && record.held &&
              board_put(display->board, key, view->place.index, record.version, record.value);
        store_value_release(&row);
    }
    METRIC_ADD(display->instance->metrics, instance, hot_fills, put ? 1 : 0);
}

// Not while a block was learned that the newest view does not show, as one that waits for disk
// space: what it changes has been forgotten, and would be remembered as it was.
static void on_noted(struct task *task)
{
    struct display *display = CONTAINER_OF(task, struct display, task);
    struct noted noted;
    pthread_mutex_lock(&display->lock);
    noted = display->noted;
    display->noted.count = 0;
    display->posted = false;
    pthread_mutex_unlock(&display->lock);
    struct view *view = instance_pin(display->instance);
    if (view != NULL && view->board != NULL && view->board == display->board &&
        view->place.number == display->covered) {
        for (unsigned i = 0; i < noted.count; i++) {
            put(display, view, bytes_of(noted.keys[i], noted.sizes[i]));
        }
    }
    view_release(view);
}

// ---- descriptors -------------------------------------------------------------------------------

unsigned display_fds(struct display *display, const struct view *view, int ret_fds[LOOK_FDS])
{
    if (display == NULL || view->board == NULL) {
        return 0;
    }
    atomic_store_explicit(&display->asked, true, memory_order_relaxed);
    ret_fds[LOOK_INCARNATION] = display->incarnation.fd;
    ret_fds[LOOK_BOARD] = board_fd(view->board);
    ret_fds[LOOK_MARKS] = board_marks_fd(view->board);
    ret_fds[LOOK_FILTER] = front_fd(view->front);
    return ret_fds[LOOK_FILTER] < 0 ? LOOK_FILTER : LOOK_FDS;
}
