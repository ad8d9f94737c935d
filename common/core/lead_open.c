// SPDX-License-Identifier: Apache-2.0
// The start of one of several roots: what of its journal is committed (docs/commit.md, R13), and
// whether it leads or stands by. Before the workers run, but for lead_start.
#include <inttypes.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/lead.h"

int lead_open(struct instance *instance, bool council)
{
    const struct instance_options *options = instance->options;
    if (options->role != ROLE_ROOT || options->roots == NULL || options->roots[0] == NULL ||
        options->roots[1] == NULL) {
        return OK;
    }
    struct lead *lead = mem_zalloc(sizeof *lead);
    lead->instance = instance;
    instance->lead = lead;
    atomic_store(&lead->leader, LEAD_NOBODY);
    atomic_store(&lead->serves, LEAD_NOBODY);
    lead->council = council;
    const char *bad, *reason;
    int error = members_parse(&lead->members, options->roots, instance->node->node, &bad, &reason);
    if (error != OK) {
        log_line(LOG_ERROR, instance->name, "roots: %s%s%s", bad, bad[0] == '\0' ? "" : ": ",
                 reason);
        return error;
    }
    return commit_open(&lead->commit, instance->directory, instance->name, &lead->found);
}

void lead_close(struct instance *instance)
{
    struct lead *lead = instance->lead;
    if (lead != NULL) {
        tail_close(&lead->tail);
        commit_close(lead->commit);
        mem_free(lead);
        instance->lead = NULL;
    }
}

bool lead_founds(const struct instance *instance)
{
    const struct lead *lead = instance->lead;
    return lead == NULL || (!lead->council && lead->members.own == lead->members.first);
}

// ---- what is committed -------------------------------------------------------------------------

static int lacks(const struct lead *lead, const char *what, uint64_t number)
{
    log_line(LOG_ERROR, lead->instance->name,
             "block %" PRIu64 " is committed, as the file `commit` in %s says, and the journal %s: "
             "a root does not guess; restore the journal, or empty the directory and let this root "
             "begin anew from the others",
             number, lead->instance->directory, what);
    return ERR_AHEAD;
}

// Does the journal hold what the file says?
static int check_found(const struct lead *lead, uint64_t oldest)
{
    const struct journal_place *place = &lead->found.place;
    struct journal *journal = lead->instance->journal;
    struct block_header header;
    if (place->number > journal_end(journal).number) {
        return lacks(lead, "ends before it", place->number);
    }
    if (place->number < oldest) {
        return OK;
    }
    int error = journal_header(journal, place->number, &header);
    if (error == OK && !hash128_equal(header.chain, place->chain)) {
        return lacks(lead, "holds another", place->number);
    }
    return error;
}

// R13. A root that has a log of epochs before any council's was the only one, or one of several
// without a council: it has promised nobody, and is asked to begin.
static int find_promise(struct lead *lead)
{
    struct instance *instance = lead->instance;
    struct journal *journal = instance->journal;
    bool empty = !journal_has_history(journal) || journal_last(journal)->number == 0;
    if (!empty && journal_last(journal)->epoch <= 1 &&
        promise_load(instance->directory, &lead->members, &lead->promise) == ERR_NOT_FOUND) {
        struct promise first = {.leadership = {.epoch = 1, .leader = ROOT_NOBODY}};
        memcpy(first.history, journal_history(instance->journal), HISTORY_ID_BYTES);
        int error = promise_save(instance->directory, instance->name, &first, &lead->members);
        if (error != OK) {
            return error;
        }
    }
    return promise_open(instance->directory, instance->name, empty, &lead->members,
                        &lead->promise);
}

// Was it the only root until now? With a council only the promise can say so: else a file `commit`
// that is lost would make everything committed.
static bool was_alone(const struct lead *lead)
{
    static const uint8_t nothing[HISTORY_ID_BYTES];
    const struct promise *promise = &lead->promise;
    bool unwritten = !lead->found.found ||
                     memcmp(lead->found.history, nothing, HISTORY_ID_BYTES) == 0;
    return lead->council ? unwritten && !promise->blank && promise->generation == 0 &&
                               promise->leadership.leader == ROOT_NOBODY
                         : !lead->found.found;
}

// Only a root that is blank may be without blocks, or one that was about to begin a history.
static bool lost_journal(const struct lead *lead)
{
    const struct promise *promise = &lead->promise;
    bool begins = promise->leadership.leader == lead->members.own && promise->generation <= 1;
    return lead->found.place.number > 0 || (!promise->blank && !begins);
}

// A journal is of the promise's history, but where it is to go on in that one (R15), or to be left
// for it (R16). Anything else was brought here by hand, with what it lacks of that history.
static bool lost_history(const struct lead *lead)
{
    static const uint8_t nothing[HISTORY_ID_BYTES];
    const struct promise *promise = &lead->promise;
    const uint8_t *history = journal_history(lead->instance->journal);
    bool forks = promise->alone && promise->leadership.leader == lead->members.own;
    return memcmp(promise->history, nothing, HISTORY_ID_BYTES) != 0 &&
           memcmp(promise->history, history, HISTORY_ID_BYTES) != 0 && !forks && !promise->blank;
}

static int check_files(const struct lead *lead, uint64_t end)
{
    if (end > 0 && lost_history(lead)) {
        log_line(LOG_ERROR, lead->instance->name,
                 "the journal in %s is of another history than this root has promised to be in: "
                 "it was put there later; begin with an empty directory, and it is built anew from "
                 "the other roots",
                 lead->instance->directory);
        return ERR_DIVERGED;
    }
    if (end == 0 && !journal_has_history(lead->instance->journal) && lost_journal(lead)) {
        log_line(LOG_ERROR, lead->instance->name,
                 "the journal in %s is missing, and this root had one: it must not take part "
                 "without it; begin with an empty directory, and it is built anew from the other "
                 "roots",
                 lead->instance->directory);
        return ERR_AHEAD;
    }
    if (!lead->found.found && end > 0 && !was_alone(lead) && !lead->promise.blank) {
        log_line(LOG_ERROR, lead->instance->name,
                 "%s/commit is missing: this root does not know what of its journal is committed; "
                 "begin with an empty directory, and it is built anew from the other roots",
                 lead->instance->directory);
        return ERR_CORRUPT;
    }
    return OK;
}

// Only the root that made it has the log from its birth on. What it began with is committed from
// the first (R15), though the file may not say so yet.
static bool began_here(const struct lead *lead, uint64_t oldest)
{
    struct birth birth;
    birth_get(lead->instance, &birth);
    return birth.size > 0 && birth.placed && birth.from.number == oldest;
}

// By file and store; where several roots are new here, by what the single one had synced.
static int find_known(const struct lead *lead, const struct journal_place *flushed,
                      uint64_t *ret_number)
{
    struct instance *instance = lead->instance;
    uint64_t oldest = journal_oldest(instance->journal).number;
    uint64_t end = journal_end(instance->journal).number;
    const uint8_t *history = journal_history(instance->journal);
    bool same = memcmp(lead->found.history, history, HISTORY_ID_BYTES) == 0;
    *ret_number = u64_max(oldest, flushed->number);
    if (was_alone(lead) && end > 1) { // more than the birth block that this start has made
        log_line(LOG_INFO, instance->name,
                 "one of %u roots from now on: all that is in the journal counts as committed",
                 lead->members.count);
        *ret_number = end;
    } else if (!same && began_here(lead, oldest)) {
        *ret_number = end;
    } else if (same) {
        *ret_number = u64_max(*ret_number, lead->found.place.number);
        return check_found(lead, oldest);
    }
    return OK;
}

// Blocks from behind `number` on become the tail, but for those whose indexes a later header says
// are committed; then `number` is that of the last of these.
static int read_tail(struct lead *lead, uint64_t *number)
{
    struct journal_cursor cursor = {0};
    struct block *block;
    uint64_t committed = 0;
    int error = journal_cursor_open(lead->instance->journal, &cursor, *number + 1);
    while (error == OK && (error = journal_cursor_next(&cursor, &block)) == OK) {
        committed = u64_max(committed, block->header.commit_index);
        tail_add(&lead->tail, block);
    }
    journal_cursor_close(&cursor);
    const struct block *next;
    uint64_t known = *number;
    for (uint64_t at = known + 1; (next = tail_find(&lead->tail, at)) != NULL; at++) {
        if (block_end(&next->header) > committed) {
            break;
        }
        // One without batches ends where the one before did: its own index says nothing of it.
        known = next->header.batches > 0 ? at : known;
    }
    while ((block = tail_take(&lead->tail, known)) != NULL) {
        block_release(block);
    }
    *number = known;
    return error == ERR_NOT_FOUND ? OK : error;
}

int lead_recover(struct instance *instance, const struct journal_place *flushed)
{
    struct lead *lead = instance->lead;
    struct journal *journal = instance->journal;
    int error = lead->council ? find_promise(lead) : OK;
    if (error == OK && lead->council) {
        error = check_files(lead, journal_end(journal).number);
    }
    if (error != OK || !journal_has_history(journal)) {
        return error != OK ? error : journal_hold(journal, 0);
    }
    (void)lead_tell_end(lead);
    uint64_t number;
    struct block_header header;
    error = find_known(lead, flushed, &number);
    if (error == OK) {
        error = read_tail(lead, &number);
    }
    if (error == OK) {
        error = journal_header(journal, number, &header);
    }
    if (error == OK) {
        error = journal_hold(journal, number);
    }
    if (error == OK) {
        struct journal_place known = {
            .number = number, .index = block_end(&header), .chain = header.chain};
        error = commit_advance(lead->commit, header.history, &known);
    }
    if (error == OK) {
        log_line(LOG_INFO, instance->name,
                 "committed up to block %" PRIu64 ", index %" PRIu64 "; %zu blocks behind it wait",
                 number, block_end(&header), lead->tail.count);
    }
    return error;
}

void lead_start(struct instance *instance)
{
    const struct members *members = &instance->lead->members;
    log_line(LOG_INFO, instance->name,
             "without consul { } nobody takes over: root %s leads, whatever happens",
             members->all[members->first].name);
    if (members->own == members->first) {
        instance_lead(instance, 1, members_all(members));
    } else {
        instance_stand(instance, 1, (int)members->first);
    }
}
