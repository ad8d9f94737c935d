// SPDX-License-Identifier: Apache-2.0
#include "common/core/build.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/applier.h"
#include "common/core/build_slice.h"
#include "common/core/proof.h"
#include "common/core/space.h"
#include "common/data/disk.h"

#define TURN_NS (20 * NS_PER_MS)
#define POLL_NS NS_PER_S
// What a crash may lose of a snapshot: it is asked for again.
#define FLUSH_BYTES (16 * MIB)
// Then the damage is taken as beyond repair: a new snapshot begins behind it.
#define DAMAGED_POLLS_MAX 10
// Stores that are out of use and still open, each with its memory: no new one is begun beyond that.
#define RETIRED_MAX 4

// ---- beginning and giving up -------------------------------------------------------------------

static void close_cursor(struct build *build)
{
    journal_cursor_close(&build->cursor);
    build->cursor = (struct journal_cursor){0};
}

// Best effort: what stays behind is a leftover for the next start. A store that has failed may have
// to stay open; its directory may even be the one in use, if the shelf's file cannot be written.
static void drop(struct build *build, const char *reason)
{
    if (build->volume == NULL) {
        return;
    }
    log_line(LOG_WARN, build->instance->name, "the store under construction is given up: %s",
             reason);
    METRIC_ADD(build->instance->metrics, instance, builds_dropped, 1);
    close_cursor(build);
    struct shelf *shelf = &build->instance->shelf;
    build->volume->kept = shelf_set(shelf, shelf->serving, 0) != OK;
    list_append(&build->instance->retired, &build->volume->node);
    build->volume = NULL;
    build->row = (struct build_row){0};
    space_beside(build->instance, NULL);
}

// It has come to nothing: another one is begun after a pause.
static void give_up(struct build *build, const char *reason)
{
    build->given_up++;
    drop(build, reason);
}

static unsigned retired_count(const struct instance *instance)
{
    unsigned count = 0;
    LIST_FOR_EACH(node, &instance->retired) {
        count++;
    }
    return count;
}

// An empty store, named in the shelf before it exists. Its directory is none that was in use since
// the start: that store may still be open.
static int begin(struct build *build)
{
    struct instance *instance = build->instance;
    struct shelf *shelf = &instance->shelf;
    if (retired_count(instance) >= RETIRED_MAX) {
        log_line(LOG_ERROR, instance->name,
                 "no new store is begun while %u others, out of use, are still open", RETIRED_MAX);
        return ERR_BUSY;
    }
    build->number = u64_max(build->number, shelf->serving) + 1;
    build->damaged_polls = 0;
    uint64_t number = build->number;
    char *path = shelf_path(shelf, number);
    int error = disk_remove(path);
    mem_free(path);
    if (error == OK) {
        error = shelf_set(shelf, shelf->serving, number);
    }
    if (error == OK) {
        error = instance_open_volume(instance, number, &build->volume);
    }
    if (error != OK) {
        log_line(LOG_ERROR, instance->name, "a new store cannot be begun: %s", error_text(error));
    }
    return error;
}

// ---- slices ------------------------------------------------------------------------------------

static int flush(struct build *build)
{
    build->unflushed_bytes = 0;
    return store_flush(build->volume->store);
}

// The store is whole at the highest block of any slice, and its log is added up to there: so none
// may be read beyond what may be applied.
static bool beyond_limit(struct build *build, const struct block_header *header)
{
    const struct instance *instance = build->instance;
    uint64_t limit = atomic_load(&instance->apply_limit);
    if (block_end(header) <= limit || applier_is_fork(instance, header->history)) {
        return false;
    }
    LOG_GATED(&build->limit_gate, LOG_WARN, instance->name,
              "applying waits at index %llu: no store is built that is beyond it",
              (unsigned long long)limit);
    return true;
}

// Its rows, in as many writes as their values take. On failure *ret_sound says that the slice was
// not to blame; what was written counts as a slice that ended there.
static int add_rows(struct build *build, struct build_slice *slice, bool *ret_sound)
{
    int error = OK;
    bool more = true;
    while (error == OK && more) {
        struct build_row row = build->row;
        error = build_slice_add(slice, build->instance, build->volume->store, build->batch, &row);
        *ret_sound = error == OK;
        if (error == OK) {
            error = build_write(build, &row);
        }
        if (error == OK) {
            build->row = row;
        }
        more = slice->items.size > 0;
    }
    store_batch_clear(build->batch);
    return error;
}

static int add_slice(struct build *build, const struct build_order *order)
{
    struct instance *instance = build->instance;
    struct build_slice slice;
    if (atomic_load(&instance->space_level) == SPACE_RESERVE) {
        return ERR_DISK_FULL; // like everything that is replicated
    }
    int error = build_slice_decode(&slice, order->payload);
    if (error == OK) {
        error = build_slice_fits(&slice, build->volume != NULL ? &build->row : NULL, order->from);
    }
    if (error == OK && beyond_limit(build, &slice.header)) {
        error = ERR_BUSY;
    }
    bool first = error == OK && build->volume == NULL;
    if (first) {
        error = begin(build);
    }
    if (error != OK) {
        return error;
    }
    bool sound = false;
    uint64_t bytes = slice.items.size;
    error = add_rows(build, &slice, &sound);
    if (error == OK) {
        METRIC_ADD(instance->metrics, instance, build_slices, 1);
        METRIC_ADD(instance->metrics, instance, build_bytes, bytes);
    }
    // The place of the first slice must be kept before the journal is begun anew there.
    bool due = first || build->row.complete || build->unflushed_bytes >= FLUSH_BYTES;
    if (error == OK && due) {
        error = flush(build);
    }
    // A store that has failed once fails for ever.
    if (error != OK && (first || (sound && error != ERR_DISK_FULL))) {
        give_up(build, error_text(error));
    }
    return error;
}

// ---- the log -----------------------------------------------------------------------------------

// The journal must run through the place where the snapshot began.
static int open_cursor(struct build *build)
{
    struct journal *journal = build->instance->journal;
    const struct journal_place *place = &build->row.state.place;
    struct block_header header;
    int error = journal_header(journal, place->number, &header);
    if (error == OK && !hash128_equal(header.chain, place->chain)) {
        error = ERR_DIVERGED;
    }
    return error == OK ? journal_cursor_open(journal, &build->cursor, place->number + 1) : error;
}

// What an error means: ERR_NOT_FOUND is "later", any other has ended the build.
static int judge(struct build *build, int error)
{
    if (error == OK || error == ERR_NOT_FOUND) {
        return error;
    }
    struct instance *instance = build->instance;
    close_cursor(build);
    if (error == ERR_DAMAGED && atomic_load(&instance->damaged_first) == 0) {
        // Nobody else may read there. Is it the next block, or the one that it must follow?
        instance_recheck(instance, build->row.state.place.number);
        instance_recheck(instance, build->row.state.place.number + 1);
    }
    bool mendable = error == ERR_DAMAGED && ++build->damaged_polls < DAMAGED_POLLS_MAX;
    if (error == ERR_DISK_FULL || mendable) {
        return ERR_NOT_FOUND; // space may come, damage may be mended
    }
    give_up(build, error == ERR_TOO_OLD ? "the log has gone on without it" : error_text(error));
    return error;
}

// The journal is synced up to where the store under construction stands, and agrees with it there.
static int reach(struct build *build)
{
    int error = OK;
    if (build->row.state.place.number > applier_synced(build->instance)) {
        error = ERR_NOT_FOUND;
    } else if (build->cursor.journal == NULL) {
        error = open_cursor(build);
    }
    return judge(build, error);
}

static int next_block(struct build *build, struct block **ret_block)
{
    int error = reach(build);
    if (error == OK && build->row.state.place.number == applier_synced(build->instance)) {
        error = ERR_NOT_FOUND;
    }
    return error == OK ? journal_cursor_next(&build->cursor, ret_block) : error;
}

// OK: a block was added. Errors as judge's.
static int advance(struct build *build)
{
    struct block *block;
    int error = next_block(build, &block);
    if (build->volume == NULL) {
        return error;
    }
    if (error == OK) {
        build->damaged_polls = 0;
        error = build_log_add(build, block);
        block_release(block);
    }
    if (error == OK && build->unflushed_bytes >= FLUSH_BYTES) {
        error = flush(build);
    }
    return judge(build, error);
}

// ---- the change --------------------------------------------------------------------------------

static bool proven(const struct build *build)
{
    const struct build_row *row = &build->row;
    return hash128_equal(row->held.sum, row->state.digest.sum) &&
           row->held.keys == row->state.digest.keys &&
           hash128_equal(row->state.place.chain, row->highest.chain);
}

static int write_state(struct build *build, const struct state *state)
{
    uint8_t bytes[STATE_ROW_BYTES];
    state_encode(state, bytes);
    int error = store_write(build->volume->store, build->batch, bytes_of(bytes, sizeof bytes));
    return error == OK ? flush(build) : error;
}

// The store is whole: first it says so itself, then the shelf names it; both on disk for certain.
static uint64_t finish(struct build *build)
{
    struct instance *instance = build->instance;
    if (!proven(build)) {
        log_line(LOG_ERROR, instance->name,
                 "the store built from a snapshot holds %llu keys at block %llu, the log says %llu,"
                 " or their versions differ",
                 (unsigned long long)build->row.held.keys,
                 (unsigned long long)build->row.state.place.number,
                 (unsigned long long)build->row.state.digest.keys);
        give_up(build, "what it was made from does not agree with the log");
        return WORKER_IDLE;
    }
    struct state state = build->row.state;
    state.history_floor = state.place.index; // nothing older has come
    int error = judge(build, proof_owe(instance, instance->shelf.building));
    if (error == OK) {
        error = judge(build, write_state(build, &state));
    }
    if (error != OK) {
        return error == ERR_NOT_FOUND ? POLL_NS : WORKER_IDLE;
    }
    build->number = u64_max(build->number, instance->shelf.serving);
    if (shelf_set(&instance->shelf, instance->shelf.building, 0) != OK) {
        return POLL_NS;
    }
    log_line(LOG_INFO, instance->name, "a store built from %llu slices is whole at index %llu",
             (unsigned long long)build->row.slices, (unsigned long long)state.place.index);
    METRIC_ADD(instance->metrics, instance, builds, 1);
    struct volume *volume = build->volume;
    close_cursor(build);
    build->volume = NULL;
    build->given_up = 0;
    build->row = (struct build_row){0};
    space_beside(instance, NULL);
    applier_replace(instance, volume, &state);
    return 0;
}

uint64_t build_turn(struct instance *instance)
{
    struct build *build = instance->build;
    if (build == NULL || build->volume == NULL || !build->row.complete ||
        build->restart_due || instance_state(instance) == INSTANCE_STOPPED ||
        atomic_load(&instance->closing)) {
        return WORKER_IDLE;
    }
    uint64_t until_ns = clock_mono_ns() + TURN_NS;
    int error = OK;
    while (error == OK && build->row.state.place.number < build->row.highest.number) {
        if (clock_mono_ns() >= until_ns) {
            return 0;
        }
        error = advance(build);
    }
    if (error == OK) {
        error = reach(build);
    }
    if (error != OK) {
        return error == ERR_NOT_FOUND ? POLL_NS : WORKER_IDLE;
    }
    return finish(build);
}

void build_journal_restarted(struct instance *instance)
{
    instance->build->restart_due = false;
}

bool build_needs(const struct instance *instance, uint64_t *ret_number)
{
    const struct build *build = instance->build;
    if (build == NULL || build->volume == NULL) {
        return false;
    }
    *ret_number = build->row.state.place.number;
    return true;
}

// ---- orders ------------------------------------------------------------------------------------

static void carry_out(struct build *build, struct build_order *order)
{
    build->restart_due = order->freeze;
    if (instance_state(build->instance) == INSTANCE_STOPPED) {
        order->error = ERR_STOPPED;
    } else if (order->freeze) {
        order->error = applier_freeze(build->instance);
    }
    if (order->error == OK && order->kind == BUILD_ADD) {
        order->error = build->row.complete ? ERR_PROTOCOL : add_slice(build, order);
    } else if (order->error == OK && order->kind == BUILD_DROP) {
        drop(build, "it is begun anew");
    }
    order->begun = build->volume != NULL;
    order->complete = build->row.complete;
    order->given_up = build->given_up;
    order->start = build->row.start;
    order->next_size = build->row.next_size;
    memcpy(order->next, build->row.next, build->row.next_size);
}

static void on_order(struct task *task)
{
    struct build_order *order = CONTAINER_OF(task, struct build_order, task);
    order->error = OK;
    carry_out(order->instance->build, order);
    loop_post(order->loop, &order->answered);
}

void build_post(struct build_order *order)
{
    order->task.run = on_order;
    mailbox_post(instance_applier(order->instance), &order->task);
}

// ---- open and close ----------------------------------------------------------------------------

// A store with a state row of the ordinary kind is whole.
static bool was_finished(struct bytes row)
{
    struct state state;
    return state_decode(&state, row) == OK;
}

static int take_up(struct build *build)
{
    struct shelf *shelf = &build->instance->shelf;
    struct store_value row;
    int error = instance_open_volume(build->instance, shelf->building, &build->volume);
    if (error == OK) {
        error = store_state(build->volume->store, STORE_ANY, &row);
    }
    bool finished = false;
    if (error == OK) {
        finished = was_finished(row.data);
        error = finished ? OK : build_row_decode(&build->row, row.data);
        store_value_release(&row);
    }
    if (error != OK) {
        drop(build, error == ERR_NOT_FOUND ? "nothing of it was kept" : error_text(error));
        return shelf->building == 0 ? OK : shelf_set(shelf, shelf->serving, 0);
    }
    if (!finished) {
        log_line(LOG_INFO, build->instance->name, "a store is under construction: %llu slices",
                 (unsigned long long)build->row.slices);
        return OK;
    }
    // It is opened again as the one in use.
    struct volume *volume = build->volume;
    build->volume = NULL;
    return volume_close(volume) ? shelf_set(shelf, shelf->building, 0) : ERR_IO;
}

int build_open(struct instance *instance)
{
    struct build *build = mem_zalloc(sizeof *build);
    build->instance = instance;
    build->batch = store_batch_new();
    build->number = instance->shelf.building;
    instance->build = build;
    return instance->shelf.building == 0 ? OK : take_up(build);
}

void build_close(struct instance *instance)
{
    struct build *build = instance->build;
    if (build == NULL) {
        return;
    }
    close_cursor(build);
    if (build->volume != NULL) {
        build->volume->kept = true; // the next start goes on with it
        list_append(&instance->retired, &build->volume->node);
    }
    store_batch_free(build->batch);
    instance->build = NULL;
    mem_free(build);
}
