// SPDX-License-Identifier: Apache-2.0
// Raw bytes from a parent become blocks here: header, payload, decoding, chain. Nothing is believed
// before its checksum, nothing handed to the writer that does not follow what was handed over
// before, and after a bad block nothing more of that link at all.
//
// Two kinds of stretches arrive: the stream of blocks, whose announcements may end anywhere, and
// patches, whole blocks that repair this node's journal.
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/tree/follow.h"

static void intake_clear(struct intake *intake)
{
    mem_free(intake->memory);
    *intake = (struct intake){0};
}

void intake_reset(struct follow *follow)
{
    intake_clear(&follow->stream);
    intake_clear(&follow->patch);
}

void intake_locate(struct follow *follow)
{
    struct instance *instance = follow->instance;
    bool settled = atomic_load(&instance->receive_bytes) == 0;
    bool stands = instance->lead != NULL; // its log is compared from the last committed block on
    if (!follow->has_history || (follow->last_known && !settled && !stands)) {
        return; // what was handed over last is on its way into the journal
    }
    struct journal_place end = journal_end(instance->journal);
    end = stands ? stand_place(follow, &end) : end;
    // Of several roots the block of that number that came last may be a former leader's.
    if (follow->last_known && end.number == follow->last.number && !stands) {
        return;
    }
    block_genesis(&follow->last, follow->history);
    if (end.number > 0) {
        follow->last.number = end.number;
        follow->last.first_index = end.index + 1; // block_end of a header without batches
        follow->last.chain = end.chain;
    }
    follow->last_known = true;
}

bool intake_has_gap(const struct follow *follow)
{
    struct instance *instance = follow->instance;
    return follow->last_known && atomic_load(&instance->receive_bytes) == 0 &&
           atomic_load(&instance->damaged_last) == 0 &&
           instance_state(instance) != INSTANCE_STOPPED &&
           journal_tail(instance->journal).number < follow->last.number;
}

// ---- flow --------------------------------------------------------------------------------------

void intake_check_room(struct follow *follow)
{
    if (follow->stage != FOLLOW_STREAM || follow->link.ending) {
        return;
    }
    if (instance_room(follow->instance)) {
        link_resume(&follow->link);
    } else {
        link_pause(&follow->link);
    }
}

static void on_bad(struct follow *follow, uint64_t number, int error)
{
    struct parent *parent = follow->at;
    METRIC_ADD(follow->instance->metrics, instance, parent_bad_blocks, 1);
    parent->bad_count = parent->bad_block == number ? parent->bad_count + 1 : 1;
    parent->bad_block = number;
    follow_alarm(follow, LOG_ERROR, "block %llu from %s is bad: %s", (unsigned long long)number,
                 follow->link.address, error_text(error));
    struct message_bad_block message = {.block = number, .error = (uint64_t)-error};
    message_bad_block_encode(link_out(&follow->link), &message);
    link_wrote(&follow->link);
    follow_leave(follow, error, !parent_is_left(parent, 0), "a block failed its check");
}

// Once a sound copy of a block is here, it matters no more who sent a bad one.
static void forgive(struct follow *follow)
{
    for (unsigned i = 0; i < follow->parents.count; i++) {
        struct parent *parent = follow->parents.all[i];
        if (parent->bad_count > 0 && parent->bad_block <= follow->last.number) {
            parent->bad_count = 0;
        }
    }
}

// A whole block of the stream. Takes it over.
static int take(struct follow *follow, struct block *block)
{
    int error = block_follows(&follow->last, block);
    if (error != OK) {
        block_release(block);
        return error;
    }
    block->received_ns = clock_mono_ns();
    follow->last = block->header;
    forgive(follow);
    follow_flows(follow);
    instance_receive(follow->instance, block);
    report_soon(follow);
    return OK;
}

static int take_patch(struct follow *follow, struct block *block)
{
    if (block->header.number != follow->link.raw_block ||
        memcmp(block->header.history, follow->history, HISTORY_ID_BYTES) != 0) {
        block_release(block);
        return ERR_PROTOCOL;
    }
    follow->repair_ns = loop_now_ns(follow->loop);
    // A patch that comes late is no more than a block that the writer knows already; and only the
    // place of a damaged block proves a patch, so the writer must have nothing else to do with it.
    bool known = block->header.number <= follow->last.number &&
                 block->header.number <= atomic_load(&follow->instance->damaged_last);
    if (known) {
        instance_receive(follow->instance, block);
    } else {
        block_release(block);
    }
    return OK;
}

// ---- assembling --------------------------------------------------------------------------------

// The header is complete: room for the whole block, if it is one.
static int begin_block(struct intake *intake)
{
    struct block_header header;
    int error = block_header_decode(&header, intake->head);
    if (error != OK) {
        return error;
    }
    intake->size = (size_t)BLOCK_HEADER_BYTES + header.payload_length;
    intake->memory = mem_alloc(intake->size);
    memcpy(intake->memory, intake->head, BLOCK_HEADER_BYTES);
    return OK;
}

// Adds bytes up to the end of the header or of the block. Returns how many, or an error.
static ssize_t fill(struct intake *intake, struct bytes data)
{
    bool head = intake->memory == NULL;
    size_t until = head ? BLOCK_HEADER_BYTES : intake->size;
    size_t size = u64_min(data.size, until - intake->filled);
    memcpy((head ? intake->head : intake->memory) + intake->filled, data.data, size);
    intake->filled += size;
    int error = head && intake->filled == until ? begin_block(intake) : OK;
    return error == OK ? (ssize_t)size : error;
}

static bool is_whole(const struct intake *intake)
{
    return intake->memory != NULL && intake->filled == intake->size;
}

static int finish_block(struct follow *follow, struct intake *intake)
{
    struct block *block;
    int error = block_decode(&block, bytes_of(intake->memory, intake->size), true);
    if (error != OK) {
        return error;
    }
    *intake = (struct intake){0}; // the block owns the memory
    return intake == &follow->patch ? take_patch(follow, block) : take(follow, block);
}

int intake_raw(struct link *link, struct bytes data)
{
    struct follow *follow = link->owner;
    struct intake *intake = link->raw_block != 0 ? &follow->patch : &follow->stream;
    if (follow->stage != FOLLOW_STREAM) {
        return ERR_PROTOCOL;
    }
    if (instance_state(follow->instance) == INSTANCE_STOPPED) {
        follow_leave(follow, ERR_STOPPED, true, error_text(ERR_STOPPED));
        return OK;
    }
    while (data.size > 0 && !link->ending) {
        ssize_t used = fill(intake, data);
        int error = used < 0 ? (int)used : OK;
        if (error == OK && is_whole(intake)) {
            error = finish_block(follow, intake);
        }
        if (error != OK) {
            uint64_t number = link->raw_block != 0 ? link->raw_block : follow->last.number + 1;
            on_bad(follow, number, error);
            break;
        }
        data = bytes_of(data.data + used, data.size - (size_t)used);
    }
    intake_check_room(follow);
    return OK;
}

// ---- repair ------------------------------------------------------------------------------------

void intake_repair(struct follow *follow, bool again)
{
    struct instance *instance = follow->instance;
    uint64_t first = atomic_load(&instance->damaged_first);
    uint64_t last = atomic_load(&instance->damaged_last);
    uint64_t now_ns = loop_now_ns(follow->loop);
    if (follow->stage != FOLLOW_STREAM || follow->link.ending || first == 0 || last < first ||
        first > follow->last.number ||
        (again && now_ns - follow->repair_ns < instance->node->silence * NS_PER_MS)) {
        return;
    }
    follow->repair_ns = now_ns;
    log_line(LOG_INFO, instance->name, "asking %s for the damaged blocks %llu to %llu",
             follow->link.address, (unsigned long long)first, (unsigned long long)last);
    struct message_refetch refetch = {.first = first, .last = last};
    message_refetch_encode(link_out(&follow->link), &refetch);
    link_wrote(&follow->link);
}

bool intake_is_stuck(struct follow *follow)
{
    struct instance *instance = follow->instance;
    if (follow->unmended != atomic_load(&instance->damaged_first) ||
        instance_state(instance) != INSTANCE_LOADING) {
        follow->unmended = 0;
    }
    return follow->unmended != 0;
}

static bool others_may_repair(const struct follow *follow, uint64_t block)
{
    if (!parents_may_mend(&follow->parents, block, loop_now_ns(follow->loop))) {
        return false;
    }
    for (unsigned i = 0; i < follow->parents.listed; i++) {
        if (follow->parents.all[i]->no_repair != block) {
            return true;
        }
    }
    return false;
}

int intake_on_bad_block(struct follow *follow, struct bytes payload)
{
    struct message_bad_block bad;
    int error = message_bad_block_decode(payload, &bad);
    if (error != OK) {
        return error;
    }
    log_line(LOG_WARN, follow->instance->name, "%s cannot give block %llu for the repair",
             follow->link.address, (unsigned long long)bad.block);
    follow->at->no_repair = bad.block;
    follow->unmended = bad.block;
    if (others_may_repair(follow, bad.block)) {
        follow->insists = follow->sent_on; // or the full one would name this one again
        follow_leave(follow, ERR_DAMAGED, false, "looking elsewhere for a block to repair");
    } else if (intake_is_stuck(follow)) {
        follow_leave(follow, ERR_DAMAGED, true, "nobody has a block to repair");
        bootstrap_journal_lost(follow);
    } // else following matters more than mending
    return OK;
}
