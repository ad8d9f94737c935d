// SPDX-License-Identifier: Apache-2.0
// What a council says is to be done, done: messages to the other roots, orders to the instance's
// writer, the promise's file, questions to the record's keeper. The owner's thread.
#include "common/chair/chair_private.h"

#include <inttypes.h>

#include "common/base/log.h"
#include "common/base/mem.h"

// By the report that told the end, never by a newer one: the writer may have appended before it
// came to the mark.
bool chair_settled(const struct chair *chair) { return chair->marked == chair->mark; }

void chair_mark(struct chair *chair) { instance_mark(chair->instance, ++chair->mark); }

static int number_of(unsigned root) { return root == ROOT_NOBODY ? LEAD_NOBODY : (int)root; }

// ---- what is said ------------------------------------------------------------------------------

static struct bytes own_history(const struct chair *chair)
{
    static const uint8_t nothing[HISTORY_ID_BYTES];
    const uint8_t *history = council_speaks_of(&chair->council);
    bool has = memcmp(history, nothing, HISTORY_ID_BYTES) != 0;
    return has ? bytes_of(history, HISTORY_ID_BYTES) : bytes_of(NULL, 0);
}

// Of the history that is spoken of, if it is the journal's already.
static struct bytes own_ancestor(const struct chair *chair, struct birth *birth)
{
    birth_get(chair->instance, birth);
    bool its = birth->size > 0 && birth->forked &&
               bytes_equal(bytes_of(birth->history, HISTORY_ID_BYTES), own_history(chair));
    return its ? bytes_of(birth->ancestor, HISTORY_ID_BYTES) : bytes_of(NULL, 0);
}

static void encode_answer(struct chair *chair, const struct council_action *action, struct buf *to)
{
    unsigned leader = action->promise.leadership.leader;
    uint8_t chain[HASH128_BYTES];
    hash128_store(chain, action->end.chain);
    struct message_promise message = {
        .history = own_history(chair),
        .granted = action->granted,
        .epoch = action->promise.leadership.epoch,
        .leader = bytes_text(leader < chair->names->count ? chair->names->all[leader].name : ""),
        .generation = action->promise.generation,
        .blank = action->promise.blank,
        .end_epoch = action->end.epoch,
        .end_block = action->end.block,
        .end_index = action->end.index,
        .end_chain = bytes_of(chain, sizeof chain),
    };
    message_promise_encode(to, &message);
}

static void encode_word(struct chair *chair, const struct council_action *action, struct buf *to)
{
    struct birth birth;
    struct message_word message = {
        .history = own_history(chair),
        .epoch = action->leadership.epoch,
        .block = action->block,
        .generation = action->promise.generation,
        .member = action->member,
        .ancestor = own_ancestor(chair, &birth),
    };
    message_word_encode(to, &message);
}

static void say(struct chair *chair, const struct council_action *action)
{
    struct buf frames = {0};
    struct birth birth;
    struct message_claim claim = {.history = own_history(chair),
                                  .epoch = action->leadership.epoch,
                                  .ancestor = own_ancestor(chair, &birth)};
    struct message_ask ask = {.epoch = action->leadership.epoch};
    struct message_go go = {.epoch = action->leadership.epoch};
    switch (action->act) {
    case COUNCIL_ANSWER:
        encode_answer(chair, action, &frames);
        break;
    case COUNCIL_LEAD:
        encode_word(chair, action, &frames);
        break;
    case COUNCIL_CLAIM:
        message_claim_encode(&frames, &claim);
        break;
    case COUNCIL_ASK:
        message_ask_encode(&frames, &ask);
        break;
    case COUNCIL_GO:
        message_go_encode(&frames, &go);
        break;
    default:
        return;
    }
    ties_send(chair->ties, action->root, &frames);
}

// ---- what is ordered ---------------------------------------------------------------------------

// As long as the promised one does not lead it may take over this root's log, and nobody's is
// taken: it may lack what it is about to take over.
static void follow(struct chair *chair, const struct council_action *action)
{
    uint64_t epoch = action->leadership.epoch;
    instance_join(chair->instance, chair->council.promised.history);
    if (action->leadership.leader != ROOT_NOBODY) {
        instance_stand(chair->instance, epoch, (int)action->leadership.leader);
    } else {
        instance_promise(chair->instance, epoch, number_of(action->root));
    }
    chair->opening.leader = ROOT_NOBODY;
    chair_mark(chair);
}

void chair_open_epoch(struct chair *chair)
{
    uint64_t epoch = chair->opening.epoch;
    if (chair->forks) {
        instance_fork(chair->instance, chair->council.promised.history, epoch);
    } else if (chair->birth || !journal_has_history(chair->instance->journal)) {
        instance_found(chair->instance, chair->council.promised.history, epoch, 0);
    } else {
        instance_lead(chair->instance, epoch, 0);
    }
    chair_mark(chair);
}

static void promise(struct chair *chair, const struct promise *promise)
{
    struct instance *instance = chair->instance;
    int error = promise_save(instance->directory, instance->name, promise, chair->names);
    if (error == OK) {
        council_promised(&chair->council);
    } else {
        chair->stopped = true; // nobody knows what the disk holds: nothing may be told any more
        instance_promise(instance, promise->leadership.epoch, LEAD_NOBODY);
        instance_stop_updates(instance, error, "what this root promises could not be written down");
    }
}

static const char *role_words(enum council_role role)
{
    static const char *const words[] = {"stands by", "tries to lead", "is elected to lead",
                                        "leads"};
    return words[role];
}

const char *chair_writes_text(enum council_writes writes)
{
    static const char *const words[] = {
        [COUNCIL_WRITES_TAKEN] = NULL,
        [COUNCIL_WRITES_ELSEWHERE] = "this root does not lead",
        [COUNCIL_WRITES_OPENING] = "the first block of this leadership is not committed yet",
        [COUNCIL_WRITES_SMALL] = "fewer roots than in_sync_min have all that is committed",
        [COUNCIL_WRITES_HANDING] = "this root is handing over to another one",
    };
    return words[writes];
}

static void tell_role(struct chair *chair, const struct council_action *action)
{
    unsigned leader = action->leadership.leader;
    const char *why = chair_writes_text(action->writes);
    bool small = action->writes == COUNCIL_WRITES_SMALL;
    log_line(small ? LOG_WARN : LOG_INFO, chair->instance->name,
             "%s in epoch %" PRIu64 " of %s%s%s", role_words(action->role),
             action->leadership.epoch,
             leader < chair->names->count ? chair->names->all[leader].name : "nobody",
             action->role == COUNCIL_LEADING && why != NULL ? "; no writes are taken: " : "",
             action->role == COUNCIL_LEADING && why != NULL ? why : "");
}

// One that leads no more keeps it shut until its writer knows, or that would sequence what waits.
void chair_gate(struct chair *chair)
{
    if (chair->council.role != COUNCIL_LEADING && instance_leads(chair->instance)) {
        return;
    }
    enum council_writes writes = chair->council.told_writes;
    bool hands = chair->heir != ROOT_NOBODY || writes == COUNCIL_WRITES_HANDING;
    enum lead_gate gate = hands                            ? LEAD_GATE_WAIT
                          : writes == COUNCIL_WRITES_SMALL ? LEAD_GATE_SHUT
                                                           : LEAD_GATE_OPEN;
    if (gate != chair->gate) {
        chair->gate = gate;
        instance_gate(chair->instance, gate);
        chair_mark(chair);
    }
}

// The data path of a standby compares, cuts, acknowledges and commits by itself (lead.h).
static bool order(struct chair *chair, const struct council_action *action)
{
    switch (action->act) {
    case COUNCIL_FOLLOW:
        follow(chair, action);
        return true;
    case COUNCIL_FETCH:
        log_line(LOG_INFO, chair->instance->name, "takes over the log of %s up to block %" PRIu64,
                 chair->names->all[action->root].name, action->end.block);
        instance_take_over(chair->instance, action->leadership.epoch, (int)action->root);
        chair_mark(chair);
        return true;
    case COUNCIL_OPEN:
        chair->opening = action->leadership;
        chair->opening_ns = chair->now_ns;
        chair->birth = action->birth;
        chair->forks = action->forks;
        chair_open_epoch(chair);
        return true;
    case COUNCIL_COMMIT:
        instance_committed(chair->instance, action->block);
        return true;
    case COUNCIL_STOP:
        chair->stopped = true;
        instance_stop_updates(chair->instance, ERR_DIVERGED, action->text);
        return true;
    default:
        return false;
    }
}

static void carry_out(struct chair *chair, const struct council_action *action)
{
    switch (action->act) {
    case COUNCIL_PROMISE:
        promise(chair, &action->promise);
        return;
    case COUNCIL_READ:
        keeper_read(&chair->keeper, action->ticket);
        return;
    case COUNCIL_CHANGE:
        keeper_change(&chair->keeper, action->ticket, &action->record, action->modify_index);
        return;
    case COUNCIL_ROLE:
        tell_role(chair, action);
        return;
    default:
        if (!order(chair, action)) {
            say(chair, action);
        }
    }
}

void chair_act(struct chair *chair)
{
    struct council_action action;
    while (!chair->stopped && chair_settled(chair) && council_next(&chair->council, &action)) {
        carry_out(chair, &action);
        chair_gate(chair);
    }
}
