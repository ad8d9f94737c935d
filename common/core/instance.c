// SPDX-License-Identifier: Apache-2.0
#include "common/core/instance.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/applier.h"
#include "common/core/build.h"
#include "common/core/children_file.h"
#include "common/core/display.h"
#include "common/core/identity.h"
#include "common/core/lead.h"
#include "common/core/proof.h"
#include "common/core/space.h"
#include "common/core/walk.h"
#include "common/core/writer.h"

// ---- small queries -----------------------------------------------------------------------------

enum instance_state instance_state(const struct instance *instance)
{
    return (enum instance_state)atomic_load(&instance->state);
}

struct view *instance_pin(struct instance *instance) { return views_pin(&instance->views); }

bool instance_room(const struct instance *instance)
{
    return atomic_load(&instance->receive_bytes) + atomic_load(&instance->apply_bytes) <
           instance->options->apply_queue;
}

bool instance_disk_full(const struct instance *instance)
{
    return atomic_load(&instance->disk_full) ||
           atomic_load(&instance->space_level) == SPACE_RESERVE;
}

bool instance_waited(const struct index_waiter *waiter, const struct view *view)
{
    return view->place.index >= waiter->index || view->forks != waiter->forks;
}

void instance_wait(struct instance *instance, struct index_waiter *waiter)
{
    pthread_mutex_lock(&instance->lock);
    // Published views are made before waiters are woken, so one of both sees the other.
    struct view *view = views_pin(&instance->views);
    bool reached = view != NULL && instance_waited(waiter, view);
    waiter->waiting = !reached;
    if (reached) {
        loop_post(waiter->loop, &waiter->task);
    } else {
        list_append(&instance->waiters, &waiter->node);
    }
    pthread_mutex_unlock(&instance->lock);
    view_release(view);
}

bool instance_wait_cancel(struct instance *instance, struct index_waiter *waiter)
{
    pthread_mutex_lock(&instance->lock);
    bool waiting = waiter->waiting;
    if (waiting) {
        list_remove(&waiter->node);
        waiter->waiting = false;
    }
    pthread_mutex_unlock(&instance->lock);
    return waiting;
}

void instance_stop_updates(struct instance *instance, int error, const char *reason)
{
    int before = atomic_exchange(&instance->state, INSTANCE_STOPPED);
    if (before != INSTANCE_STOPPED) {
        log_line(LOG_ERROR, instance->name, "takes no updates any more: %s: %s", reason,
                 error_text(error));
        instance_wake_writer(instance);
    }
}

struct volume *instance_volume(struct instance *instance)
{
    pthread_mutex_lock(&instance->lock);
    struct volume *volume = volume_hold(instance->volume);
    pthread_mutex_unlock(&instance->lock);
    return volume;
}

void instance_doubt_store(struct instance *instance, const struct view *view)
{
    // Of a store that is going anyway, nothing more is asked.
    if (view->store == atomic_load(&instance->store) && !atomic_load(&instance->suspect) &&
        !atomic_exchange(&instance->doubted, true)) {
        instance_wake_walk(instance);
    }
}

void instance_store_failed(struct instance *instance, const char *reason)
{
    if (atomic_exchange(&instance->suspect, true)) {
        return;
    }
    bool root = instance->options->role == ROLE_ROOT;
    log_line(LOG_ERROR, instance->name, "the store is not what the log says: %s%s", reason,
             root ? "; a root has nobody to repair it from by itself" : "; it is built anew");
    pthread_mutex_lock(&instance->lock);
    if (!root) {
        atomic_store(&instance->wants_build, true);
    }
    if (instance->repair != NULL) {
        notice_raise(instance->repair);
    }
    pthread_mutex_unlock(&instance->lock);
}

void instance_damaged(struct instance *instance, const struct journal_report *report)
{
    log_line(LOG_ERROR, instance->name, "the journal is damaged at %s: blocks %llu to %llu",
             report->place, (unsigned long long)report->damaged_first,
             (unsigned long long)report->damaged_last);
    METRIC_ADD(instance->metrics, instance, journal_damaged,
               report->damaged_last - report->damaged_first + 1);
    atomic_store(&instance->damaged_first, report->damaged_first);
    atomic_store(&instance->damaged_last, report->damaged_last);
    pthread_mutex_lock(&instance->lock);
    if (instance->repair != NULL) {
        notice_raise(instance->repair);
    }
    pthread_mutex_unlock(&instance->lock);
}

// ---- opening -----------------------------------------------------------------------------------

int instance_open_volume(struct instance *instance, uint64_t number, struct volume **ret_volume)
{
    char *directory = shelf_path(&instance->shelf, number);
    struct store_options options = {
        .directory = directory,
        .scope = instance->name,
        .family_count = instance->role->family_count,
        .cache = instance->cache,
        .pin_index = instance->node->pin_index,
        .memtable_bytes = instance->options->memtable,
    };
    memcpy(options.families, instance->role->families, sizeof options.families);
    for (unsigned i = 0; i < options.family_count && instance->role->filter != NULL; i++) {
        options.filters[i] = instance->role->filter(instance, i);
    }
    int error = volume_open(ret_volume, &options);
    mem_free(directory);
    return error;
}

static int read_state(const struct volume *volume, struct state *ret_state)
{
    struct store_value row;
    int error = store_state(volume->store, STORE_ANY, &row);
    if (error == ERR_NOT_FOUND) {
        *ret_state = (struct state){0};
        return OK;
    }
    if (error == OK) {
        error = state_decode(ret_state, row.data);
        store_value_release(&row);
    }
    return error;
}

// A store that cannot be read is set aside for an empty one: what the journal still has comes from
// there, else another node's snapshot. A root has no other node to believe.
static int open_store(struct instance *instance, struct state *ret_state)
{
    struct shelf *shelf = &instance->shelf;
    int error = instance_open_volume(instance, shelf->serving, &instance->volume);
    if (error == OK) {
        error = read_state(instance->volume, ret_state);
    }
    if (error == ERR_CORRUPT && instance->options->role != ROLE_ROOT) {
        log_line(LOG_ERROR, instance->name, "the store in %s cannot be read: it is built anew",
                 instance->directory);
        if (instance->volume != NULL && !volume_close(instance->volume)) {
            return ERR_IO;
        }
        instance->volume = NULL;
        // A number that no store under construction has.
        uint64_t number = u64_max(shelf->serving, shelf->building) + 1;
        error = shelf_set(shelf, number, shelf->building);
        if (error == OK) {
            error = instance_open_volume(instance, number, &instance->volume);
        }
        *ret_state = (struct state){0};
    }
    if (error == OK) {
        atomic_store(&instance->store, instance->volume->store);
    }
    return error;
}

static void report_torn(struct instance *instance, const struct journal_report *report)
{
    if (report->torn_bytes > 0) {
        log_line(LOG_WARN, instance->name, "the end of the journal was torn at %s: %llu bytes cut",
                 report->place, (unsigned long long)report->torn_bytes);
        METRIC_ADD(instance->metrics, instance, journal_torn, 1);
    }
}

static int report_open_failure(struct instance *instance, int error,
                               const struct journal_report *report)
{
    if (error == ERR_AHEAD) {
        log_line(LOG_ERROR, instance->name,
                 "the store in %s is ahead of its journal: a root does not guess; restore the "
                 "journal, or the whole directory from another node",
                 instance->directory);
    } else if (error == ERR_DAMAGED) {
        struct buf children = {0};
        children_file_read(instance->directory, &children);
        log_line(LOG_ERROR, instance->name,
                 "the journal is damaged at %s: blocks %llu to %llu; a root does not guess: repair "
                 "it from a node that has them: %.*s",
                 report->place, (unsigned long long)report->damaged_first,
                 (unsigned long long)report->damaged_last, (int)children.size,
                 (const char *)children.data);
        buf_free(&children);
    }
    return error;
}

// What is synced inside a directory is lost with the directory's own name.
static int sync_directory(const struct instance *instance, const char *path)
{
    int error = file_sync_directory(path);
    if (error != OK) {
        log_line(LOG_ERROR, instance->name, "cannot sync %s: %s", path, strerror(errno));
    }
    return error;
}

static bool is_other_history(struct instance *instance, const struct state *state)
{
    return state->place.number > 0 && journal_has_history(instance->journal) &&
           memcmp(journal_history(instance->journal), state->history, HISTORY_ID_BYTES) != 0;
}

// Opens it against the place of a store. ERR_AHEAD also where that is of another history, unless
// the journal goes on from there: the start found a change into the journal's under way, or
// somebody mixed two directories.
static int open_journal_at(struct instance *instance, const struct journal_options *options,
                           const struct state *state, struct journal_report *report)
{
    int error = journal_open(&instance->journal, options, &state->place, report);
    report_torn(instance, report);
    bool opened = error == OK || error == ERR_DAMAGED;
    if (opened && is_other_history(instance, state) &&
        !birth_leads_on(instance, state->history, &state->place)) {
        journal_close(instance->journal);
        instance->journal = NULL;
        error = ERR_AHEAD;
    }
    return error;
}

// One of several roots changes into another history as a child does; within its own it does not
// guess.
static bool is_adopting(struct instance *instance, const struct journal_options *options,
                        const struct state *state)
{
    struct journal_report report = {0};
    const struct state nothing = {0};
    if (instance->lead == NULL) {
        return instance->options->role != ROLE_ROOT;
    }
    int error = open_journal_at(instance, options, &nothing, &report);
    if (error != OK && error != ERR_DAMAGED) {
        return false;
    }
    bool other = is_other_history(instance, state);
    journal_close(instance->journal);
    instance->journal = NULL;
    return other;
}

static int open_journal(struct instance *instance, const struct state *state)
{
    char *directory = mem_format("%s/journal", instance->directory);
    if (mkdir(directory, 0750) != 0 && errno != EEXIST) {
        log_line(LOG_ERROR, instance->name, "cannot create %s: %s", directory, strerror(errno));
        mem_free(directory);
        return ERR_IO;
    }
    int synced = sync_directory(instance, instance->directory);
    if (synced == OK) {
        synced = sync_directory(instance, instance->node->data_dir);
    }
    if (synced != OK) {
        mem_free(directory);
        return synced;
    }
    bool root = instance->options->role == ROLE_ROOT;
    struct journal_options options = {
        .directory = directory,
        .scope = instance->name,
        .segment_bytes = instance->options->segment_bytes,
        .keep_bytes = instance->options->journal_bytes,
        .keep_ms = instance->options->journal_age,
        .root = root && instance->lead == NULL, // one of several may have followed
        .certain = instance->lead == NULL ? 0 : instance->lead->found.place.number,
    };
    struct journal_report report = {0};
    int error = open_journal_at(instance, &options, state, &report);
    if (error == ERR_AHEAD && is_adopting(instance, &options, state)) {
        log_line(LOG_WARN, instance->name,
                 "the journal does not lead to the store in %s: it serves on as it is until "
                 "another one is built", instance->directory);
        atomic_store(&instance->wants_build, true);
        error = open_journal_at(instance, &options, &(struct state){0}, &report);
    }
    mem_free(directory);
    // Replay would have to begin before the journal does: a store was under construction. It stays
    // closed after other errors.
    bool alone = root && instance->lead == NULL;
    if (!alone && instance->journal != NULL &&
        state->place.number < journal_oldest(instance->journal).number) {
        atomic_store(&instance->wants_build, true);
    }
    if (error == ERR_DAMAGED && !root) {
        instance_damaged(instance, &report);
        return OK;
    }
    return error == OK ? OK : report_open_failure(instance, error, &report);
}

// A root that finds an empty directory founds a history: a random id and its birth block. One that
// died in between goes on with the block.
static int found_history(struct instance *instance)
{
    int error = OK;
    if (!journal_has_history(instance->journal)) {
        uint8_t history[HISTORY_ID_BYTES];
        random_fill(history, sizeof history);
        error = journal_begin(instance->journal, history);
    }
    if (error != OK || journal_last(instance->journal)->number > 0) {
        return error;
    }
    struct block *birth = birth_make(instance, 1);
    error = journal_append(instance->journal, birth);
    block_release(birth);
    return error == OK ? journal_sync(instance->journal) : error;
}

static int open_data(struct instance *instance, bool council, struct state *ret_state)
{
    int error = identity_claim(instance->directory, instance->node, instance->options,
                               &instance->lock_fd);
    if (error == OK) {
        error = display_open(instance);
    }
    if (error == OK) {
        error = instance->role->open(instance);
        instance->role_open = error == OK;
    }
    if (error == OK) {
        error = shelf_open(&instance->shelf, instance->directory, instance->name);
    }
    if (error == OK) {
        error = build_open(instance);
    }
    if (error == OK) {
        proof_open(instance);
        error = open_store(instance, ret_state);
    }
    if (error == OK) {
        error = lead_open(instance, council);
    }
    if (error == OK) {
        error = open_journal(instance, ret_state);
    }
    if (error == OK && instance->options->role == ROLE_ROOT && lead_founds(instance)) {
        error = found_history(instance);
    }
    if (error == OK) {
        birth_find(instance);
        journal_publish(instance->journal);
        atomic_store(&instance->synced, journal_end(instance->journal).index);
    }
    if (error == OK && instance->lead != NULL) {
        // A store of another history says nothing of this one's journal.
        const struct journal_place nowhere = {0};
        bool other = is_other_history(instance, ret_state);
        error = lead_recover(instance, other ? &nowhere : &ret_state->place);
    }
    return error;
}

static int fill_feed(const struct instance *instance, struct endpoint_feed *feed, const char *what,
                     const char *const *texts)
{
    struct endpoints *endpoints;
    const char *bad, *reason;
    int error = endpoints_parse(texts, &endpoints, &bad, &reason);
    if (error == OK) {
        endpoint_feed_publish(feed, endpoints);
    } else {
        log_line(LOG_ERROR, instance->name, "%s %s: %s", what, bad, reason);
    }
    return error;
}

static int fill_feeds(struct instance *instance)
{
    const struct instance_options *options = instance->options;
    int error = fill_feed(instance, &instance->parents, "parent", options->parents);
    return error == OK ? fill_feed(instance, &instance->replicas, "replica", options->replicas)
                       : error;
}

static int start(struct instance *instance, const struct state *state)
{
    // The role may have found a higher one in a file of its own, or lost it.
    uint64_t floor = atomic_load(&instance->history_floor);
    if (floor == HISTORY_FLOOR_LOST) {
        floor = state->place.index;
    }
    atomic_store(&instance->history_floor, u64_max(floor, state->history_floor));
    space_poll(instance, true);
    bool fits = !atomic_load(&instance->wants_build);
    if (instance->shelf.building != 0) {
        atomic_store(&instance->wants_build, true);
    }
    int error = writer_open(instance);
    if (error == OK) {
        error = applier_open(instance, state, journal_end(instance->journal).number, fits);
    }
    return error;
}

int instance_open(struct instance **ret_instance, const struct instance_setup *setup)
{
    struct instance *instance = mem_zalloc(sizeof *instance);
    instance->node = setup->node;
    instance->options = setup->options;
    instance->name = setup->options->name;
    instance->role = setup->role;
    instance->metrics = setup->metrics;
    instance->home = setup->home;
    instance->sequence = setup->sequence;
    instance->answer = setup->answer;
    instance->sequencer = setup->sequencer;
    instance->beats = setup->beats;
    instance->cache = setup->cache;
    instance->lock_fd = -1;
    atomic_store(&instance->apply_limit, UINT64_MAX);
    instance->directory = mem_format("%s/%s", setup->node->data_dir, instance->name);
    pthread_mutex_init(&instance->lock, NULL);
    pthread_mutex_init(&instance->birth_file, NULL);
    list_init(&instance->waiters);
    list_init(&instance->retired);
    list_init(&instance->walk_waiters);
    instance->walk = walk_new(instance);
    views_open(&instance->views);
    space_open(instance);
    endpoint_feed_open(&instance->parents);
    endpoint_feed_open(&instance->replicas);
    struct state state = {0};
    int error = fill_feeds(instance);
    if (error == OK) {
        error = open_data(instance, setup->council, &state);
    }
    if (error == OK) {
        error = start(instance, &state);
    }
    if (error == OK && instance->lead != NULL && !setup->council) {
        lead_start(instance);
    }
    if (error != OK) {
        instance_close(instance);
        return error;
    }
    *ret_instance = instance;
    return OK;
}

void instance_save_front(struct instance *instance)
{
    struct view *view = instance_pin(instance);
    bool newer = view != NULL && view->front != NULL && view->place.number > 0 &&
                 (view->place.number != instance->front_saved ||
                  view->front != instance->front_saved_as);
    if (newer) {
        front_save(instance->directory, instance->name, view->front, &view->place,
                   journal_history(instance->journal));
        instance->front_saved = view->place.number;
        instance->front_saved_as = view->front;
    }
    view_release(view);
}

enum instance_end instance_close(struct instance *instance)
{
    writer_close(instance);
    applier_close(instance);
    // Each may have posted to the other until both had ended.
    worker_free(instance->applier);
    worker_free(instance->writer);
    walk_free(instance->walk);
    lead_close(instance);
    instance_save_front(instance);
    views_close(&instance->views);
    display_close(instance->display);
    if (instance->journal != NULL) {
        journal_close(instance->journal);
    }
    build_close(instance);
    enum instance_end end =
        volumes_sweep(&instance->retired, true) ? INSTANCE_CLOSED : INSTANCE_LEFT_REPLACED;
    if (instance->volume != NULL && !volume_close(instance->volume)) {
        end = INSTANCE_LEFT_OPEN;
    }
    // The filters of a store that stays open still look at what the role keeps.
    if (instance->role_open && end == INSTANCE_CLOSED) {
        instance->role->close(instance);
    }
    if (instance->lock_fd >= 0) {
        close(instance->lock_fd);
    }
    space_close(instance);
    endpoint_feed_close(&instance->parents);
    endpoint_feed_close(&instance->replicas);
    pthread_mutex_destroy(&instance->lock);
    pthread_mutex_destroy(&instance->birth_file);
    mem_free(instance->directory);
    mem_free(instance);
    return end;
}
