// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/session.h"

#include <string.h>

#include "common/base/mem.h"
#include "replica/sequencer.h"
#include "tests/sim/commits.h"
#include "tests/sim/excuse.h"
#include "tests/sim/seams.h"

#define SESSIONS_MAX 48
#define LOOKUPS_MAX 12
#define WAIT_LIMIT_NS (1500 * NS_PER_MS)
#define STRAY_PERMILLE 50 // of the writes, where there are several roots
#define STRICT_LIMIT_NS (60 * NS_PER_S)

enum kind { KIND_READ, KIND_RANGE, KIND_WRITE };

struct session {
    struct actor actor;
    unsigned number;
    struct node *home;  // where it reads
    struct node *at;    // where its operation is under way
    uint64_t seen;      // no answer may be older
    bool busy;
    uint64_t begun_ns;
    uint64_t writes;
    enum kind kind;
    struct task begin;
    struct index_waiter waiter;
    struct timer limit;
    struct read read;
    struct lookup lookups[LOOKUPS_MAX];
    unsigned keys[LOOKUPS_MAX];
    struct range_read range;
    unsigned range_first, range_last; // keys [first, last), last = count: no bound
    struct transaction transaction;
    struct write write;
    bool conditional;          // the write wants ...
    uint64_t wanted;           // ... its first key at this version
    bool conflict;
};

static struct {
    struct session all[SESSIONS_MAX];
    struct node *nodes;
    unsigned node_count;
    struct sessions_setup setup;
    uint64_t done;
    uint64_t ids;
    bool stopped, strict;
    uint64_t strict_left;
} sessions;

static void session_fail(const struct session *session, const char *what, int error)
{
    world_fail("session %u on n%u: %s: %s", session->number, session->at->number, what,
               error_text(error));
}

// The next operation. Where there is a pulse, it begins together with those of other sessions: they
// meet in one block, and a block costs every node of the tree as much as ten of its writes.
static void think(struct session *session)
{
    uint64_t at_ns = world_now_ns() + chance_below(2 * sessions.setup.think_ns);
    if (sessions.setup.pulse_ns > 0) {
        at_ns += sessions.setup.pulse_ns - at_ns % sessions.setup.pulse_ns;
    }
    actor_by(&session->actor, at_ns);
}

// The operation has ended.
static void over(struct session *session)
{
    session->busy = false;
    session->at->busy--;
    sessions.done++;
    count_add(COUNT_operations, 1);
    if (!sessions.stopped) {
        think(session);
    }
}

// An operation ended with an error that says so.
static void refused(struct session *session, int error)
{
    world_note((uint64_t)-error);
    if (sessions.strict && error != ERR_BUSY) { // a full queue says no in peace too
        session_fail(session, "refused", error);
    }
    over(session);
}

// ---- reads -------------------------------------------------------------------------------------

// The index as of which a read is answered.
static uint64_t read_index(const struct read *read)
{
    return read->at != 0 ? read->at : read->view->place.index;
}

// No walk looks at history: a bad row of it stays at its replica.
static bool some_decayed(void)
{
    for (unsigned i = 0; i < sessions.node_count; i++) {
        const struct node *node = &sessions.nodes[i];
        if (node->decayed && node->instance_options.role != ROLE_PROXY) {
            return true;
        }
    }
    return false;
}

// Errors that a read as of an earlier index may meet at any time.
static bool past_refused(const struct session *session, const struct read *read, int status)
{
    bool gone =
        read->at != 0 && (status == ERR_GONE || status == ERR_BEHIND || status == ERR_BUSY);
    count_add(COUNT_past_gone, gone);
    if (read->at != 0 && status == ERR_UNAVAILABLE) {
        count_add(COUNT_unavailable, 1);
        WORLD_CHECK(session->at->instance_options.role == ROLE_PROXY &&
                        (!sessions.strict || some_decayed()),
                    "n%u: the past is unavailable", session->at->number);
        gone = true;
    }
    return gone;
}

// A node says so, until it has another store.
static bool row_refused(const struct session *session, const struct read *read, int status)
{
    // In peace by who reads a past that went bad.
    bool refused =
        status == ERR_CORRUPT && session->at->decayed && (!sessions.strict || read->at != 0);
    count_add(COUNT_rows_refused, refused);
    return refused;
}

static void compare(struct session *session, const struct read *read, const struct lookup *lookup,
                    const struct model_key *key)
{
    bool values = read->values;
    uint64_t index = read_index(read);
    if (past_refused(session, read, lookup->status) || row_refused(session, read, lookup->status)) {
        return;
    }
    count_add(COUNT_past_read, read->at != 0);
    const struct model_version *version = model_at(key, index);
    unsigned long long at = (unsigned long long)index;
    count_add(COUNT_keys_read, 1);
    if (lookup->status == ERR_UNAVAILABLE || lookup->status == ERR_BUSY ||
        lookup->status == ERR_GONE) {
        count_add(lookup->status == ERR_BUSY   ? COUNT_fetch_limits
                  : lookup->status == ERR_GONE ? COUNT_value_gone
                                               : COUNT_unavailable,
                  1);
        WORLD_CHECK(session->at->instance_options.role == ROLE_PROXY && version != NULL,
                    "n%u at %llu: a fetch for what is absent, or no proxy's", session->at->number,
                    at);
        if (sessions.strict && lookup->status != ERR_BUSY &&
            !excuse_left_behind(session->at, sessions.nodes, sessions.node_count, read->view,
                                lookup->status)) {
            session_fail(session, "a value could not be had", lookup->status);
        }
        return;
    }
    if (version == NULL) {
        WORLD_CHECK(lookup->status == ERR_NOT_FOUND, "n%u at %llu: a key is absent, the answer: %s",
                    session->at->number, at, error_text(lookup->status));
        count_add(COUNT_keys_absent, 1);
        return;
    }
    WORLD_CHECK(lookup->status == OK, "n%u at %llu: a key of version %llu is there, the answer: %s",
                session->at->number, at, (unsigned long long)version->index,
                error_text(lookup->status));
    WORLD_CHECK(lookup->record.version == version->index &&
                    lookup->record.length == version->value.size,
                "n%u at %llu: version %llu of %u bytes, wanted %llu of %zu",
                session->at->number, at,
                (unsigned long long)lookup->record.version, lookup->record.length,
                (unsigned long long)version->index, version->value.size);
    WORLD_CHECK(!values || bytes_equal(lookup->record.value, version->value),
                "n%u at %llu: another value of version %llu", session->at->number, at,
                (unsigned long long)version->index);
}

static void seen(struct session *session, uint64_t index)
{
    WORLD_CHECK(index >= session->seen, "session %u went back from index %llu to %llu",
                session->number, (unsigned long long)session->seen, (unsigned long long)index);
    session->seen = index;
    world_note(index);
}

static void read_done(struct read *read)
{
    struct session *session = CONTAINER_OF(read, struct session, read);
    uint64_t index = read->view->place.index;
    seen(session, index);
    for (unsigned i = 0; i < read->count; i++) {
        compare(session, read, &read->lookups[i], model_key(session->keys[i]));
    }
    read_release(read);
    over(session);
}

// One bad row is enough: whether its key was there is not known.
static bool range_refused(const struct session *session, const struct range_read *range)
{
    bool refused = row_refused(session, &range->read, range->status);
    for (unsigned i = 0; i < range->read.count; i++) {
        refused = refused || row_refused(session, &range->read, range->read.lookups[i].status);
    }
    return refused;
}

static void range_done(struct range_read *range)
{
    struct session *session = CONTAINER_OF(range, struct session, range);
    seen(session, range->read.view->place.index);
    if (past_refused(session, &range->read, range->status) || range_refused(session, range)) {
        range_release(range);
        over(session);
        return;
    }
    WORLD_CHECK(range->status == OK, "n%u: a range ended with: %s", session->at->number,
                error_text(range->status));
    uint64_t index = read_index(&range->read);
    unsigned at = 0;
    bool more = false;
    for (unsigned i = session->range_first; i < session->range_last; i++) {
        const struct model_key *key = model_key(i);
        if (model_at(key, index) == NULL) {
            continue;
        }
        if (at == range->limit) {
            more = true;
            break;
        }
        WORLD_CHECK(at < range->read.count &&
                        bytes_equal(range->read.lookups[at].key, model_name(key)),
                    "n%u at %llu: a key is missing in a range", session->at->number,
                    (unsigned long long)index);
        compare(session, &range->read, &range->read.lookups[at++], key);
    }
    // What it stopped before may be a bad row, of a key that is not there at that index.
    bool doubted = session->at->decayed && (!sessions.strict || range->read.at != 0);
    WORLD_CHECK(at == range->read.count && (more == range->more || (doubted && range->more)),
                "n%u at %llu: a range of %u keys has %u, more: %d, wanted %d", session->at->number,
                (unsigned long long)index, at, range->read.count, range->more, more);
    count_add(COUNT_ranges, 1);
    range_release(range);
    over(session);
}

// Mostly the view's own, else an earlier index, mostly a near one.
static uint64_t choose_past(const struct view *view)
{
    uint64_t index = view->place.index;
    return chance_permille(250) && index > 0 ? index - chance_skewed(0, index - 1) : 0;
}

static void begin_range(struct session *session, struct view *view)
{
    struct process *process = &session->at->process;
    unsigned keys = model_key_count();
    session->range_first = (unsigned)chance_below(keys);
    session->range_last =
        (unsigned)chance_between(session->range_first + 1, keys + keys / 4);
    bool bounded = session->range_last < keys;
    session->range_last = bounded ? session->range_last : keys;
    session->range = (struct range_read){
        .read = {.instance = process->instance,
                 .readers = process->readers,
                 .loop = process->loop,
                 .view = view,
                 .at = choose_past(view),
                 .values = chance_permille(700)},
        .start = model_name(model_key(session->range_first)),
        .end = bounded ? model_name(model_key(session->range_last)) : bytes_of(NULL, 0),
        .limit = chance_skewed(1, 100),
        .done = range_done,
    };
    range_start(&session->range);
}

static void begin_keys(struct session *session, struct view *view)
{
    struct process *process = &session->at->process;
    unsigned count = (unsigned)chance_skewed(1, LOOKUPS_MAX);
    for (unsigned i = 0; i < count; i++) {
        session->keys[i] = (unsigned)chance_below(model_key_count());
        session->lookups[i] =
            (struct lookup){.key = model_name(model_key(session->keys[i]))};
    }
    session->read = (struct read){.instance = process->instance,
                                  .readers = process->readers,
                                  .loop = process->loop,
                                  .view = view,
                                  .at = choose_past(view),
                                  .lookups = session->lookups,
                                  .count = count,
                                  .values = chance_permille(850),
                                  .done = read_done};
    read_start(&session->read);
}

static void begin_read(struct session *session)
{
    struct process *process = &session->at->process;
    struct view *view = instance_pin(process->instance);
    if (view == NULL) {
        refused(session, ERR_LOADING);
        return;
    }
    if (view->place.index < session->seen) {
        view_release(view);
        loop_timer_set(process->loop, &session->limit,
                       sessions.strict ? STRICT_LIMIT_NS : WAIT_LIMIT_NS);
        session->waiter.index = session->seen;
        session->waiter.loop = process->loop;
        instance_wait(process->instance, &session->waiter);
        return;
    }
    if (session->kind == KIND_RANGE) {
        begin_range(session, view);
    } else {
        begin_keys(session, view);
    }
}

static void on_reached(struct task *task)
{
    struct session *session = CONTAINER_OF(task, struct session, waiter.task);
    loop_timer_clear(&session->limit);
    begin_read(session);
}

static void on_limit(struct timer *timer)
{
    struct session *session = CONTAINER_OF(timer, struct session, limit);
    if (instance_wait_cancel(session->at->process.instance, &session->waiter)) {
        count_add(COUNT_waits_behind, 1);
        refused(session, ERR_BEHIND);
    }
}

// ---- writes ------------------------------------------------------------------------------------

static int evaluate(struct transaction *transaction, struct txn *txn)
{
    struct session *session = CONTAINER_OF(transaction, struct session, transaction);
    const struct write *write = &session->write;
    session->conflict = false;
    if (session->conditional) {
        struct txn_value value = {0};
        int error = txn_get(txn, model_name(model_key(write->operations[0].key)), false, &value);
        if (error != OK && error != ERR_NOT_FOUND) {
            return error;
        }
        if ((error == OK ? value.version : 0) != session->wanted) {
            session->conflict = true;
            return OK;
        }
    }
    for (unsigned i = 0; i < write->count; i++) {
        const struct write_operation *operation = &write->operations[i];
        struct bytes key = model_name(model_key(operation->key));
        bool existed;
        int error = operation->put ? txn_put(txn, key, write_value(write, i))
                                   : txn_delete(txn, key, &existed);
        if (error != OK) {
            return error;
        }
        struct txn_value own = {0};
        error = txn_get(txn, key, true, &own);
        WORLD_CHECK(operation->put ? error == OK && bytes_equal(own.value, write_value(write, i))
                                   : error == ERR_NOT_FOUND,
                    "a transaction does not see its own write");
    }
    return OK;
}

static void not_written(struct session *session, int error)
{
    if (error != ERR_UNKNOWN_OUTCOME) {
        commits_refused(&session->write);
    }
    count_add(error == ERR_UNKNOWN_OUTCOME ? COUNT_unknown_outcomes : COUNT_writes_refused, 1);
    refused(session, error);
}

static void on_written(struct task *task)
{
    struct session *session =
        CONTAINER_OF(CONTAINER_OF(task, struct transaction, done), struct session, transaction);
    int status = session->transaction.status;
    world_note(session->transaction.index);
    if (status == OK) {
        uint64_t index = session->transaction.index;
        WORLD_CHECK(index <= session->at->visible,
                    "a write was answered at index %llu, the root shows %llu",
                    (unsigned long long)index, (unsigned long long)session->at->visible);
        if (session->conflict) {
            count_add(COUNT_conflicts, 1);
        } else {
            model_acknowledged(&session->write, index);
        }
        session->seen = u64_max(session->seen, index);
        over(session);
        return;
    }
    not_written(session, status);
}

static void make_write(struct session *session)
{
    struct write *write = &session->write;
    write->id = ++sessions.ids;
    write->count = (unsigned)chance_skewed(1, WRITE_OPERATIONS_MAX);
    size_t bytes = 0;
    for (unsigned i = 0; i < write->count; i++) {
        size_t most = chance_permille(30) ? sessions.setup.value_max : 200;
        write->operations[i] =
            (struct write_operation){.key = (unsigned)chance_below(model_key_count()),
                                     .put = chance_permille(700),
                                     .size = (size_t)chance_below(most + 1)};
        bytes += write->operations[i].size + 100;
    }
    session->conditional = chance_permille(200);
    const struct model_version *version =
        model_at(model_key(write->operations[0].key), model_index());
    session->wanted = version != NULL ? version->index : 0;
    session->transaction = (struct transaction){.done.run = on_written,
                                                .loop = session->at->process.loop,
                                                .bytes = bytes,
                                                .evaluate = evaluate};
    list_init(&session->transaction.node);
}

static void begin_write(struct session *session)
{
    make_write(session);
    int error = sequencer_submit(session->at->process.instance, &session->transaction);
    if (error != OK) {
        not_written(session, error);
    }
}

// ---- life --------------------------------------------------------------------------------------

static void on_begin(struct task *task)
{
    struct session *session = CONTAINER_OF(task, struct session, begin);
    if (session->kind == KIND_WRITE) {
        begin_write(session);
    } else {
        begin_read(session);
    }
}

// Whichever root leads, as far as it knows, and now and then another, as a client would that has
// not heard of it.
static struct node *choose_root(void)
{
    unsigned roots = sessions.setup.roots;
    if (roots == 0) {
        return &sessions.nodes[0];
    }
    unsigned first = (unsigned)chance_below(roots);
    bool stray = !sessions.strict && chance_permille(STRAY_PERMILLE);
    for (unsigned i = 0; i < roots && !stray; i++) {
        struct node *node = &sessions.nodes[(first + i) % roots];
        if (node_leads(node)) {
            return node;
        }
    }
    return &sessions.nodes[first];
}

static void choose(struct session *session)
{
    if (chance_permille(150)) {
        session->home = &sessions.nodes[chance_below(sessions.node_count)];
        count_add(COUNT_moves, 1);
    }
    session->kind = chance_permille(sessions.setup.writes_permille) ? KIND_WRITE
                    : chance_permille(150) ? KIND_RANGE
                                           : KIND_READ;
    session->at = session->kind == KIND_WRITE ? choose_root() : session->home;
}

static void next(struct actor *actor)
{
    struct session *session = CONTAINER_OF(actor, struct session, actor);
    if (session->busy || sessions.stopped) {
        return;
    }
    if (sessions.strict && sessions.strict_left == 0) {
        sessions.stopped = true;
        return;
    }
    choose(session);
    if (session->at->phase != NODE_UP) {
        WORLD_CHECK(!sessions.strict, "n%u is not up",
                    session->at->number);
        actor_after(actor, chance_between(1, 50) * NS_PER_MS);
        return;
    }
    sessions.strict_left -= sessions.strict ? 1 : 0;
    session->busy = true;
    session->at->busy++;
    session->begun_ns = world_now_ns();
    session->begin.run = on_begin;
    session->waiter.task.run = on_reached;
    timer_init(&session->limit, on_limit);
    list_init(&session->waiter.node);
    loop_post(session->at->process.loop, &session->begin);
}

void sessions_lost(struct node *node)
{
    for (unsigned i = 0; i < sessions.setup.count; i++) {
        struct session *session = &sessions.all[i];
        if (session->busy && session->at == node) {
            session->busy = false;
            count_add(COUNT_writes_lost, session->kind == KIND_WRITE);
            if (!sessions.stopped) {
                actor_after(&session->actor, chance_between(1, 50) * NS_PER_MS);
            }
        }
    }
}

void sessions_open(struct node *nodes, unsigned node_count, const struct sessions_setup *setup)
{
    CHECK(setup->count <= SESSIONS_MAX);
    memset(&sessions, 0, sizeof sessions);
    sessions.nodes = nodes;
    sessions.node_count = node_count;
    sessions.setup = *setup;
    for (unsigned i = 0; i < setup->count; i++) {
        struct session *session = &sessions.all[i];
        session->number = i;
        session->home = &nodes[i % node_count];
        actor_init(&session->actor, NULL, next);
        actor_after(&session->actor, chance_below(100 * NS_PER_MS));
    }
}

void sessions_stop(void) { sessions.stopped = true; }

void sessions_resume(uint64_t think_ns)
{
    sessions.stopped = false;
    sessions.setup.think_ns = think_ns;
    sessions.setup.pulse_ns = sessions.setup.pulse_ns > 0 ? 2 * think_ns : 0;
    for (unsigned i = 0; i < sessions.setup.count; i++) {
        actor_after(&sessions.all[i].actor, chance_below(10 * NS_PER_MS));
    }
}

bool sessions_idle(void)
{
    for (unsigned i = 0; i < sessions.setup.count; i++) {
        if (sessions.all[i].busy) {
            return false;
        }
    }
    return true;
}

void sessions_strict(uint64_t operations, uint64_t think_ns)
{
    sessions.strict = true;
    sessions.strict_left = operations;
    sessions_resume(think_ns);
}

uint64_t sessions_done(void) { return sessions.done; }
