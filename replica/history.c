// SPDX-License-Identifier: Apache-2.0
#include "replica/history.h"

#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "replica/floor_file.h"
#include "replica/mvcc.h"

// The floor rises in steps of this share of `history`, at least STEP_MIN_NS apart.
#define STEPS 64
#define STEP_MIN_NS NS_PER_S

// ---- the filter --------------------------------------------------------------------------------

struct pass {
    struct history *history;
    uint64_t floor;
    uint64_t dropped;
};

static void *pass_begin(void *argument)
{
    struct history *history = argument;
    struct pass *pass = mem_alloc(sizeof *pass);
    *pass = (struct pass){.history = history, .floor = atomic_load(&history->filter_floor)};
    return pass;
}

// A row that is no history row is kept: whatever it is, it is for a walk over the store to find.
static enum store_verdict pass_judge(void *argument, struct bytes key, struct bytes value,
                                     struct bytes *ret_value)
{
    (void)value;
    (void)ret_value;
    struct pass *pass = argument;
    uint8_t user_key[KEY_BYTES_MAX];
    size_t size;
    uint64_t valid_until;
    if (mvcc_key_decode(key, user_key, &size, &valid_until) != OK || valid_until >= pass->floor) {
        return STORE_KEEP;
    }
    pass->dropped++;
    return STORE_DROP;
}

static void pass_end(void *argument)
{
    struct pass *pass = argument;
    METRIC_ADD(pass->history->instance->metrics, instance, history_collected, pass->dropped);
    mem_free(pass);
}

// ---- open and close ----------------------------------------------------------------------------

// A new instance says so before it has a store: from then on a store without a floor has lost it.
static int find_floor(struct instance *instance, uint64_t *ret_floor)
{
    int error = floor_file_read(instance->directory, ret_floor);
    if (error == ERR_NOT_FOUND) {
        char *store = mem_format("%s/store", instance->directory);
        char *stores = mem_format("%s/STORES", instance->directory);
        bool is_new = access(store, F_OK) != 0 && access(stores, F_OK) != 0;
        mem_free(stores);
        mem_free(store);
        if (is_new) {
            *ret_floor = 0;
            return floor_file_write(instance->directory, instance->name, 0);
        }
    }
    if (error == ERR_NOT_FOUND || error == ERR_CORRUPT) {
        log_line(LOG_ERROR, instance->name,
                 "the file %s/history_floor is %s: the history kept so far is given up",
                 instance->directory, error == ERR_CORRUPT ? "damaged" : "missing");
        *ret_floor = HISTORY_FLOOR_LOST;
        return OK;
    }
    return error;
}

int history_open(struct history *history, struct instance *instance)
{
    uint64_t floor = 0;
    int error = find_floor(instance, &floor);
    if (error != OK) {
        return error;
    }
    history->instance = instance;
    history->filter = (struct store_filter){
        .begin = pass_begin, .judge = pass_judge, .end = pass_end, .argument = history};
    atomic_store(&instance->history_floor, floor);
    atomic_store(&history->filter_floor, floor == HISTORY_FLOOR_LOST ? 0 : floor);
    history->written = floor == HISTORY_FLOOR_LOST ? 0 : floor;
    pthread_mutex_init(&history->lock, NULL);
    return OK;
}

void history_close(struct history *history) { pthread_mutex_destroy(&history->lock); }

// ---- the window --------------------------------------------------------------------------------

uint64_t history_rows(const struct store_files *files)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < files->count; i++) {
        rows += files->files[i].entries;
    }
    return rows;
}

static uint64_t count_rows(struct store *store)
{
    struct store_files files;
    store_files(store, REPLICA_MVCC, &files);
    uint64_t rows = history_rows(&files);
    store_files_free(&files);
    return rows;
}

void history_applied(struct history *history, uint64_t visible, uint64_t rows)
{
    struct instance *instance = history->instance;
    uint64_t now_ns = clock_mono_ns();
    // How long ago the history found at the start was written is not known: it counts as new.
    uint64_t found = history->begun ? 0 : count_rows(instance->store);
    pthread_mutex_lock(&history->lock);
    if (!history->begun) {
        uint64_t floor = u64_min(atomic_load(&instance->history_floor), visible);
        window_open(&history->window, instance->options->history * NS_PER_MS, UINT64_MAX, floor);
        METRIC_SET(instance->metrics, instance, history_floor, floor);
    }
    if (!history->begun || visible > history->window.newest) {
        window_add(&history->window, visible, found + rows, now_ns);
        history->added += rows;
    }
    history->begun = true;
    pthread_mutex_unlock(&history->lock);
}

void history_restart(struct history *history)
{
    struct instance *instance = history->instance;
    uint64_t floor = atomic_load(&instance->history_floor);
    pthread_mutex_lock(&history->lock);
    history->begun = false;
    history->restarts++;
    // The store has no history row yet that a compaction under way could take by the one before.
    atomic_store(&history->filter_floor, u64_min(floor, atomic_load(&history->filter_floor)));
    bool lowered = history->written > floor;
    history->written = u64_min(floor, history->written);
    pthread_mutex_unlock(&history->lock);
    if (lowered && floor_file_write(instance->directory, instance->name, floor) != OK) {
        log_line(LOG_WARN, instance->name, "after a restart the history begins at index %llu",
                 (unsigned long long)floor);
    }
}

void history_size(struct history *history, struct history_size *ret_size)
{
    pthread_mutex_lock(&history->lock);
    *ret_size = (struct history_size){.floor = history->window.floor,
                                      .visible = history->window.newest,
                                      .rows = history->window.bytes,
                                      .added = history->added};
    pthread_mutex_unlock(&history->lock);
}

// ---- raising -----------------------------------------------------------------------------------

// Applier thread.
static void on_shown(struct notice *notice)
{
    struct history *history = CONTAINER_OF(notice, struct history, shown);
    if (history->instance->apply != NULL) {
        instance_republish(history->instance);
    }
}

static bool raise_floor(struct history *history, uint64_t floor, unsigned restarts)
{
    struct instance *instance = history->instance;
    if (floor <= atomic_load(&instance->history_floor)) {
        return true;
    }
    if (floor_file_write(instance->directory, instance->name, floor) != OK) {
        return false;
    }
    pthread_mutex_lock(&history->lock);
    history->written = floor;
    uint64_t known = atomic_load(&instance->history_floor);
    while (history->restarts == restarts && known < floor &&
           !atomic_compare_exchange_weak(&instance->history_floor, &known, floor)) {
    }
    known = atomic_load(&instance->history_floor);
    pthread_mutex_unlock(&history->lock);
    METRIC_SET(instance->metrics, instance, history_floor, known);
    if (!history->shown_ready) {
        history->shown_ready = true;
        notice_init(&history->shown, instance_applier(instance), on_shown);
    }
    notice_raise(&history->shown);
    return true;
}

uint64_t history_pause_ns(const struct history *history)
{
    return u64_max(history->instance->options->history * NS_PER_MS / STEPS, STEP_MIN_NS);
}

bool history_age(struct history *history)
{
    struct instance *instance = history->instance;
    struct view *view = instance_pin(instance);
    if (view == NULL) {
        return false;
    }
    pthread_mutex_lock(&history->lock);
    uint64_t now_ns = clock_mono_ns();
    // Only what a view has shown may be collected, and one of the store before says nothing.
    if (view->history_floor > atomic_load(&history->filter_floor) &&
        view->store == atomic_load(&instance->store)) {
        atomic_store(&history->filter_floor, view->history_floor);
    }
    unsigned restarts = history->restarts;
    bool begun = history->begun;
    bool due = begun && now_ns >= history->next_ns;
    uint64_t floor = due ? window_advance(&history->window, now_ns) : 0;
    pthread_mutex_unlock(&history->lock);
    view_release(view);
    if (due) {
        history->next_ns = now_ns + history_pause_ns(history);
        return raise_floor(history, floor, restarts);
    }
    return begun;
}

bool history_shown(const struct history *history)
{
    return atomic_load(&history->filter_floor) == atomic_load(&history->instance->history_floor);
}

bool history_cut(struct history *history, uint64_t share)
{
    CHECK(share <= 1024);
    struct instance *instance = history->instance;
    pthread_mutex_lock(&history->lock);
    struct window *window = &history->window;
    unsigned restarts = history->restarts;
    uint64_t length = history->begun ? window->newest - window->floor : 0;
    uint64_t floor = window->floor + u64_min(length, length * share / 1024 + 1);
    if (length > 0) {
        window_raise(window, floor);
    }
    pthread_mutex_unlock(&history->lock);
    if (length == 0) {
        return false;
    }
    METRIC_ADD(instance->metrics, instance, history_cut, 1);
    LOG_GATED(&history->cut_gate, LOG_WARN, instance->name,
              "the history is larger than history_bytes: it is kept for less than `history`, from "
              "index %llu on",
              (unsigned long long)floor);
    return raise_floor(history, floor, restarts);
}
