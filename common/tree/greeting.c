// SPDX-License-Identifier: Apache-2.0
// How a hello that asks to follow is answered: from the journal, by comparing places; a node is
// judged by the log: the chain at the child's last block must be the chain here. Who may follow is
// sent on to a child where there are children enough.
#include "common/base/log.h"
#include "common/tree/fanout.h"
#include "common/tree/regain.h"

static struct log_gate diverged_gate;

static void refuse(struct greeting *greeting, const char *reason)
{
    greeting->welcome.answer = ANSWER_REFUSED;
    greeting->welcome.reason = bytes_text(reason);
}

static bool stands(const struct message_hello *hello) { return hello->purpose == PURPOSE_STAND; }

// The chain after block `number`, which lies in [oldest, end].
static int chain_at(struct journal *journal, uint64_t number, const struct journal_place *oldest,
                    const struct journal_place *end, struct hash128 *ret_chain)
{
    if (number == end->number) {
        *ret_chain = end->chain;
        return OK;
    }
    if (number == oldest->number && number > 0) {
        *ret_chain = oldest->chain;
        return OK;
    }
    struct block_header header;
    int error = journal_tail_header(journal, number, &header);
    if (error == OK) {
        *ret_chain = header.chain;
    }
    return error;
}

// The child's place is within this journal: does its chain fit, and can it be fed from there?
static void compare(struct greeting *greeting, struct instance *instance,
                    const struct message_hello *hello, const struct journal_place *oldest,
                    const struct journal_place *end)
{
    struct hash128 chain;
    int error = chain_at(instance->journal, hello->block, oldest, end, &chain);
    bool empty = hello->history.size == 0;
    if (error == OK && !empty && !hash128_equal(chain, hash128_load(hello->chain.data))) {
        greeting->welcome.answer = ANSWER_DIVERGED;
        greeting->welcome.diverged_at = hello->index;
        greeting->welcome.reason = bytes_text("the chains differ");
        return;
    }
    if (error == OK) {
        error = (stands(hello) ? journal_tail_cursor : journal_cursor_open)(
            instance->journal, &greeting->cursor, hello->block + 1);
    }
    if (error == OK) {
        greeting->welcome.answer = ANSWER_RESUME;
    } else if (error == ERR_TOO_OLD) {
        greeting->welcome.answer = ANSWER_TOO_OLD;
    } else {
        refuse(greeting, "the journal cannot be read there");
    }
}

static bool damaged_before(struct instance *instance, uint64_t block)
{
    // Blocks that are damaged here would only be refused there.
    uint64_t last = atomic_load(&instance->damaged_last);
    return last != 0 && block < last;
}

static bool unrelated(const struct greeting *greeting, const struct message_hello *hello)
{
    return hello->history.size != 0 && !bytes_equal(hello->history, greeting->welcome.history);
}

// Children of a root get only what it has synced: one that holds more shows that this root lost
// blocks, or was restored from an older copy. The only root gets them back (regain.c).
static void alarm_ahead(const struct instance *instance, const struct message_hello *hello)
{
    static struct log_gate gate;
    // What a root holds that has just begun to lead need not be known as committed yet.
    bool lacks = hello->block > journal_tail(instance->journal).number;
    if (lacks && instance_leads(instance) && instance->regain == NULL) {
        LOG_GATED(&gate, LOG_ERROR, instance->name,
                  "child %.*s says that it holds block %llu of this history, which this root lacks",
                  (int)u64_min(hello->node.size, NODE_NAME_MAX), (const char *)hello->node.data,
                  (unsigned long long)hello->block);
    }
}

// Two nodes that choose each other at the same time would form a circle before any heartbeat tells.
static bool feeds_us(const struct greeting *greeting, struct instance *instance,
                     const struct message_hello *hello)
{
    struct upstream_status upstream;
    char node[NODE_NAME_MAX + 1];
    follow_status(instance, &upstream);
    link_words(node, sizeof node, hello->node);
    // What roots take from each other, or from a child, may once have come from there.
    bool follows = hello->purpose != PURPOSE_STAND && hello->purpose != PURPOSE_REGAIN;
    return (upstream.connected && strcmp(upstream.node, node) == 0) ||
           (follows && path_passed(greeting->welcome.path, node));
}

// Whoever is refused because it feeds this node may know none but those below it, and this node
// somebody else: those that it would ask itself.
static void name_known(struct greeting *greeting, struct instance *instance,
                       const struct message_hello *hello)
{
    size_t size = 0;
    unsigned told = 0;
    struct endpoints *list = endpoint_feed_get(&instance->parents);
    for (size_t i = 0; i < list->count && told < ELSEWHERE_MAX; i++) {
        const struct endpoint *known = &list->endpoint[i];
        if (!bytes_equal_text(hello->node, known->node) &&
            !bytes_equal_text(hello->address, known->address)) {
            size += elsewhere_put(greeting->elsewhere + size, known->address, known->node,
                                  known->site);
            told++;
        }
    }
    endpoints_release(list);
    greeting->welcome.elsewhere = bytes_of(greeting->elsewhere, size);
}

static void decide(struct greeting *greeting, struct instance *instance,
                   const struct message_hello *hello, const struct journal_place *end)
{
    struct journal_place oldest = journal_oldest(instance->journal);
    unsigned root;
    if (stands(hello) && !stand_allows(instance, hello, &root)) {
        refuse(greeting, "this is none of the roots here");
    } else if (stands(hello) && !lead_serves(instance->lead, root)) {
        refuse(greeting, "this root does not lead, and has not promised to follow you");
    } else if (hello->role == ROLE_ROOT && !stands(hello) && hello->purpose != PURPOSE_REGAIN) {
        refuse(greeting, "a root follows nobody");
    } else if (feeds_us(greeting, instance, hello)) {
        refuse(greeting, "this node gets its log from you");
        name_known(greeting, instance, hello);
    } else if (end->number == 0) {
        greeting->welcome.answer = ANSWER_BEHIND;
    } else if (unrelated(greeting, hello)) {
        refuse(greeting, "unrelated history");
    } else if (hello->block > end->number) {
        greeting->welcome.answer = ANSWER_BEHIND;
        alarm_ahead(instance, hello);
    } else if (hello->block < oldest.number) {
        greeting->welcome.answer = ANSWER_TOO_OLD;
    } else if (damaged_before(instance, hello->block)) {
        refuse(greeting, "the journal is being repaired there");
    } else {
        compare(greeting, instance, hello, &oldest, end);
    }
}

static const uint8_t *history_of(const struct journal *journal)
{
    return journal_has_history(journal) ? journal_history(journal) : NULL;
}

static bool is_orphan(struct instance *instance)
{
    struct upstream_status upstream;
    follow_status(instance, &upstream);
    return !instance_leads(instance) && !upstream.connected;
}

// Where in the tree this node stands: the path to it, and how long news take on it.
static void say_place(struct greeting *greeting, struct instance *instance)
{
    struct message_welcome *welcome = &greeting->welcome;
    struct beat beat = {.way_ns = WAY_AT_ROOT_NS};
    bool root = instance_leads(instance);
    welcome->orphan = is_orphan(instance);
    if (!root && !beats_newest(instance->beats, &beat)) {
        return;
    }
    welcome->way_ns = welcome->orphan ? 0 : beat.way_ns; // the next parent's way is another
    memcpy(greeting->path, beat.path, beat.path_size);
    greeting->path[beat.path_size] = '\0'; // at a root the name overwrites it
    size_t before = beat.path_size + !root;
    size_t size = strlen(instance->node->node);
    memcpy(greeting->path + before, instance->node->node, size);
    welcome->path = bytes_of(greeting->path, before + size);
}

void greeting_about(struct greeting *ret_greeting, struct fanout *fanout, bool tail)
{
    struct instance *instance = fanout->instance;
    struct journal *journal = instance->journal;
    struct journal_place end;
    const uint8_t *history;
    do { // once more when it begins anew in another history meanwhile
        history = history_of(journal);
        end = tail ? journal_tail(journal) : journal_end(journal);
    } while (history != history_of(journal));
    *ret_greeting = (struct greeting){.welcome = {.protocol = PEER_PROTOCOL,
                                                  .node = bytes_text(instance->node->node),
                                                  .role = (uint64_t)instance->options->role,
                                                  .index = end.index,
                                                  .block = end.number,
                                                  .oldest = journal_oldest(journal).index + 1,
                                                  .age_ns = instance_age_ns(instance),
                                                  .children = fanout_count(fanout),
                                                  .children_max = instance->options->children_max,
                                                  .site = link_text(instance->node->site)}};
    struct message_welcome *welcome = &ret_greeting->welcome;
    say_place(ret_greeting, instance);
    if (end.number > 0) {
        welcome->history = bytes_of(history, HISTORY_ID_BYTES);
        hash128_store(ret_greeting->chain, end.chain);
        welcome->chain = bytes_of(ret_greeting->chain, HASH128_BYTES);
        birth_get(instance, &ret_greeting->birth);
        welcome->birth = bytes_of(ret_greeting->birth.bytes, ret_greeting->birth.size);
    }
}

void greeting_make(struct greeting *ret_greeting, struct fanout *fanout,
                   const struct message_hello *hello)
{
    greeting_about(ret_greeting, fanout, stands(hello));
    struct journal_place end = {.number = ret_greeting->welcome.block,
                                .index = ret_greeting->welcome.index};
    if (end.number > 0) {
        end.chain = hash128_load(ret_greeting->chain);
    }
    decide(ret_greeting, fanout->instance, hello, &end);
    struct message_welcome *welcome = &ret_greeting->welcome;
    bool take = hello->purpose != PURPOSE_PROBE;
    if (welcome->answer == ANSWER_RESUME && !fanout_admit(fanout, hello, take)) {
        journal_cursor_close(&ret_greeting->cursor);
        welcome->answer = ANSWER_FULL;
        welcome->reason = bytes_text("others are to feed you");
        size_t size = take ? fanout_elsewhere(fanout, hello, ret_greeting->elsewhere) : 0;
        welcome->elsewhere = bytes_of(ret_greeting->elsewhere, size);
    }
}

// Fields that no honest child sends.
static bool sound(const struct message_hello *hello)
{
    bool empty = hello->history.size == 0;
    if (empty) {
        return hello->block == 0 && hello->index == 0;
    }
    return hello->history.size == HISTORY_ID_BYTES && hello->chain.size == HASH128_BYTES &&
           hello->block < UINT64_MAX;
}

bool fanout_accept(struct fanout *fanout, struct link *link, const struct message_hello *hello)
{
    struct instance *instance = fanout->instance;
    char node[NODE_NAME_MAX + 1];
    link_words(node, sizeof node, hello->node);
    link->scope = instance->name;
    if (!sound(hello)) {
        link_dismiss(link, ERR_PROTOCOL, "the hello makes no sense");
        return false;
    }
    struct greeting greeting;
    greeting_make(&greeting, fanout, hello);
    if (greeting.welcome.answer == ANSWER_BEHIND && hello->purpose == PURPOSE_FOLLOW) {
        char reach[ADDRESS_TEXT_BYTES] = "";
        child_reach(link, hello, reach);
        regain_ahead(instance, hello, reach);
    }
    message_welcome_encode(link_out(link), &greeting.welcome);
    link_wrote(link);
    if (hello->purpose == PURPOSE_PROBE) {
        if (greeting.welcome.answer == ANSWER_RESUME) {
            journal_cursor_close(&greeting.cursor);
        }
        link_finish(link, OK);
        return true;
    }
    if (greeting.welcome.answer == ANSWER_RESUME) {
        log_line(LOG_INFO, instance->name, "%s at %s follows from block %llu", node, link->address,
                 (unsigned long long)hello->block + 1);
        child_open(fanout, link, &greeting.cursor, hello);
        return true;
    }
    if (greeting.welcome.answer == ANSWER_DIVERGED) {
        LOG_GATED(&diverged_gate, LOG_ERROR, instance->name,
                  "%s at %s has diverged: its chain at block %llu, index %llu is another", node,
                  link->address, (unsigned long long)hello->block,
                  (unsigned long long)hello->index);
    }
    if (greeting.welcome.answer == ANSWER_FULL) {
        log_line(LOG_INFO, instance->name, "%s at %s is sent on to a child of this node", node,
                 link->address);
    }
    link_finish(link, ERR_REFUSED);
    return greeting.welcome.answer != ANSWER_REFUSED;
}
