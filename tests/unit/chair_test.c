// SPDX-License-Identifier: Apache-2.0
// A chair over a real journal: a test plays the other roots, by the facts that ties would bring,
// and the record's place, by a keeper of its own.
#include "common/chair/chair_private.h"
#include "tests/unit/lead_fixture.h"

// ---- the record's place ------------------------------------------------------------------------

struct place {
    struct keeper_setup setup;
    struct root_record record, wanted;
    bool present, reads, changes;
    uint64_t modify_index, read_ticket, change_ticket, wanted_index;
};

static struct place place;

void keeper_open(struct keeper *keeper, const struct keeper_setup *setup, struct consul *consul)
{
    (void)consul;
    *keeper = (struct keeper){0};
    place.setup = *setup;
}

void keeper_close(struct keeper *keeper) { (void)keeper; }

void keeper_read(struct keeper *keeper, uint64_t ticket)
{
    (void)keeper;
    place.read_ticket = ticket;
    place.reads = true;
}

void keeper_change(struct keeper *keeper, uint64_t ticket, const struct root_record *record,
                   uint64_t modify_index)
{
    (void)keeper;
    place.change_ticket = ticket;
    place.wanted = *record;
    place.wanted_index = modify_index;
    place.changes = true;
}

void keeper_look(struct keeper *keeper, unsigned root) { (void)keeper, (void)root; }

uint64_t keeper_turn(struct keeper *keeper, uint64_t now_ns)
{
    return (void)keeper, (void)now_ns, UINT64_MAX;
}

static void place_answer(void)
{
    if (place.changes) {
        bool fits = place.wanted_index == place.modify_index;
        place.changes = false;
        if (fits) {
            place.record = place.wanted;
            place.present = true;
            place.modify_index++;
        }
        place.setup.changed(place.setup.owner, place.change_ticket, fits ? OK : ERR_CONFLICT);
    }
    if (place.reads) {
        place.reads = false;
        place.setup.read(place.setup.owner, place.read_ticket,
                         place.present ? &place.record : NULL, place.modify_index);
    }
}

// ---- the chair ---------------------------------------------------------------------------------

struct table {
    struct root root;
    struct chair *chair;
};

static void wake_nobody(void *owner) { (void)owner; }

static void turn(struct table *table)
{
    (void)chair_turn(table->chair, clock_mono_ns());
    place_answer();
    clock_sleep_ns(50000);
}

#define AWAIT_TURNS(table, condition)                                                              \
    do {                                                                                           \
        uint64_t turns_until = clock_mono_ns() + LIMIT_NS;                                         \
        while (!(condition)) {                                                                     \
            assert_true(clock_mono_ns() < turns_until);                                            \
            turn(table);                                                                           \
        }                                                                                          \
    } while (0)

// So many heartbeats that whatever may come has come.
static void let_pass(struct table *table)
{
    uint64_t until_ns = clock_mono_ns() + 100 * NS_PER_MS;
    while (clock_mono_ns() < until_ns) {
        turn(table);
    }
}

// A root whose journal ends at block 1 of epoch 1, all of it committed.
static void table_open(struct table *table)
{
    memset(table, 0, sizeof *table);
    place = (struct place){.modify_index = 0};
    struct root *root = &table->root;
    leader_settled(root);
    stop(root);
    root->council = true;
    root->node.options.heartbeat = 5;
    root->node.options.silence = 60000;
    root->at.options.standby_lag = 60000;
}

static void table_start(struct table *table)
{
    assert_int_equal(start(&table->root), OK);
    table->chair = chair_open(&(struct chair_setup){.instance = instance_of(&table->root),
                                                    .service_prefix = "qs-"});
    chair_join(table->chair, NULL, wake_nobody, NULL);
}

struct closing {
    struct notice closed;
    sem_t over;
};

static void on_closed(struct notice *notice)
{
    sem_post(&CONTAINER_OF(notice, struct closing, closed)->over);
}

static void table_close(struct table *table)
{
    struct closing closing;
    chair_leave(table->chair);
    sem_init(&closing.over, 0, 0);
    notice_init(&closing.closed, loop_mailbox(table->root.node.loop), on_closed);
    chair_close(table->chair, &closing.closed);
    sem_wait(&closing.over);
    sem_destroy(&closing.over);
    chair_free(table->chair);
    stop(&table->root);
    root_close(&table->root);
}

static void record_is(struct table *table, uint64_t epoch, uint32_t in_sync)
{
    place.present = true;
    place.modify_index = 20;
    place.record = (struct root_record){
        .leadership = {.epoch = epoch, .leader = OWN}, .in_sync = in_sync, .generation = 5};
    const struct journal *journal = instance_of(&table->root)->journal;
    memcpy(place.record.history, journal_history(journal), HISTORY_ID_BYTES);
}

static void say(struct table *table, const struct tie_fact *given)
{
    struct tie_fact *fact = mem_alloc(sizeof *fact);
    *fact = *given;
    fact->task.run = chair_hear;
    fact->owner = table->chair;
    mailbox_post(&table->chair->mailbox, &fact->task);
}

// A link of root `root`, with a disk or without.
static void come(struct table *table, unsigned root, uint64_t number, bool blank)
{
    struct tie_fact fact = {.root = root, .number = number, .kind = TIE_UP, .has_history = !blank};
    memcpy(fact.history, place.record.history, HISTORY_ID_BYTES);
    say(table, &fact);
}

static void grant(struct table *table, unsigned root, const struct log_end *end, bool blank)
{
    struct chair *chair = table->chair;
    struct tie_fact fact = {.root = root,
                            .number = chair->seats[root].number,
                            .kind = TIE_PROMISE,
                            .granted = true,
                            .end = *end,
                            .promise = {.leadership = chair->council.mine, .blank = blank}};
    say(table, &fact);
}

static bool plays(struct table *table, enum council_role role)
{
    return table->chair->council.role == role;
}

static void acknowledge_by(struct table *table, unsigned root, uint64_t taker, uint64_t number)
{
    struct instance *instance = instance_of(&table->root);
    instance_acknowledged(instance, root, taker, atomic_load(&instance->lead->epoch), number,
                          chain_at(&table->root, number));
}

// The record names this root as the leader, and those as in the set.
static void elected(struct table *table, uint32_t in_sync)
{
    table_open(table);
    table_start(table);
    record_is(table, 2, in_sync);
    AWAIT_TURNS(table, plays(table, COUNCIL_ELECTED));
}

// ---- tests -------------------------------------------------------------------------------------

// A standby that comes back with an empty disk is left out, and taken in again only for what it has
// acknowledged since.
static void test_blank_standby(void **unused)
{
    (void)unused;
    static const struct log_end nothing;
    struct table table;
    elected(&table, ALL);
    struct log_end end = table.chair->council.end;
    uint64_t takers[2];
    for (unsigned root = 0; root < 2; root++) {
        come(&table, root, 1, false);
        turn(&table);
        grant(&table, root, &end, false);
    }
    AWAIT_TURNS(&table, plays(&table, COUNCIL_LEADING));
    for (unsigned root = 0; root < 2; root++) {
        takers[root] = instance_taken(instance_of(&table.root), root);
        acknowledge_by(&table, root, takers[root], 2);
    }
    AWAIT_TURNS(&table, table.chair->council.committed == 2);
    assert_int_equal(place.record.in_sync, ALL);
    say(&table, &(struct tie_fact){.root = 0, .number = 1, .kind = TIE_DOWN});
    come(&table, 0, 2, true);
    turn(&table);
    grant(&table, 0, &nothing, true);
    AWAIT_TURNS(&table, place.record.in_sync == (ALL & ~1u));
    acknowledge_by(&table, 0, takers[0], 2); // late, by the link of its former life
    let_pass(&table);
    assert_int_equal(place.record.in_sync, ALL & ~1u);
    assert_true(lead_forgot(lead_of(&table.root), 0, takers[0]));
    takers[0] = instance_taken(instance_of(&table.root), 0);
    let_pass(&table);
    assert_int_equal(place.record.in_sync, ALL & ~1u);
    acknowledge_by(&table, 0, takers[0], 2);
    AWAIT_TURNS(&table, place.record.in_sync == ALL);
    table_close(&table);
}

// A root that takes back what it had to give is not fetched from.
static void test_donor_with_nothing(void **unused)
{
    (void)unused;
    static const struct log_end nothing;
    struct table table;
    elected(&table, ALL);
    struct log_end end = table.chair->council.end;
    come(&table, 0, 1, false);
    turn(&table);
    end.block += 5;
    grant(&table, 0, &end, false);
    grant(&table, 0, &nothing, true); // before anything was done about it
    let_pass(&table);
    assert_true(plays(&table, COUNCIL_ELECTED));
    assert_int_equal(table.chair->council.donor, ROOT_NOBODY);
    table_close(&table);
}

// The record names this root alone: it leads again once all others say that they have nothing.
static void test_the_last_one(void **unused)
{
    (void)unused;
    static const struct log_end nothing;
    struct table table;
    elected(&table, 1u << OWN);
    for (unsigned root = 0; root < 2; root++) {
        come(&table, root, 1, true);
        turn(&table);
        let_pass(&table);
        assert_true(plays(&table, COUNCIL_ELECTED));
        grant(&table, root, &nothing, true);
    }
    AWAIT_TURNS(&table, plays(&table, COUNCIL_LEADING));
    assert_int_equal(table.chair->council.counted, 1u << OWN);
    table_close(&table);
}

// Who was about to begin, and died before it made the record, does so once more.
static void test_found_again(void **unused)
{
    (void)unused;
    struct table table;
    table_open(&table);
    assert_int_equal(start(&table.root), OK); // which makes the promise of a root that was alone
    assert_int_equal(lead_of(&table.root)->members.first, OWN);
    struct promise promise = lead_of(&table.root)->promise;
    stop(&table.root);
    promise.leadership = (struct leadership){.epoch = 2, .leader = OWN};
    leave_promise(&table.root, &promise);
    table_start(&table);
    let_pass(&table);
    assert_true(plays(&table, COUNCIL_STANDBY)); // the others are not there
    come(&table, 0, 1, true);
    come(&table, 1, 1, true);
    AWAIT_TURNS(&table, plays(&table, COUNCIL_LEADING));
    assert_true(place.present && place.record.in_sync == 1u << OWN);
    assert_int_equal(place.record.leadership.epoch, 3);
    assert_memory_equal(place.record.history, promise.history, HISTORY_ID_BYTES);
    table_close(&table);
}

// Who stood still itself has not heard because of that, and leaves the leader alone.
static void test_stood_still(void **unused)
{
    (void)unused;
    struct table table;
    table_open(&table);
    table_start(&table);
    record_is(&table, 2, ALL);
    place.record.leadership.leader = 0;
    come(&table, 0, 1, false);
    let_pass(&table);
    say(&table, &(struct tie_fact){.root = 0,
                                   .number = 1,
                                   .kind = TIE_WORD,
                                   .leadership = {.epoch = 2, .leader = 0}});
    let_pass(&table);
    assert_int_equal(council_awaited(&table.chair->council), 0);
    uint64_t later_ns = clock_mono_ns() + 1000 * NS_PER_S;
    for (unsigned i = 0; i < 10; i++) {
        (void)chair_turn(table.chair, later_ns + i * NS_PER_MS);
        place_answer();
    }
    assert_true(plays(&table, COUNCIL_STANDBY));
    for (unsigned i = 0; i < 200; i++) { // it is silent now
        (void)chair_turn(table.chair, later_ns + i * NS_PER_S / 2);
        place_answer();
        clock_sleep_ns(50000);
    }
    assert_false(plays(&table, COUNCIL_STANDBY));
    table_close(&table);
}

// ---- another history ---------------------------------------------------------------------------

static const uint8_t other_history[HISTORY_ID_BYTES] = "another history";

static bool journal_is_of(struct table *table, const uint8_t *history)
{
    const uint8_t *own = journal_history(instance_of(&table->root)->journal);
    return memcmp(own, history, HISTORY_ID_BYTES) == 0;
}

// The record names this root's leader, which is gone with all others, and not this root.
static void left_over(struct table *table)
{
    table_open(table);
    table->root.node.options.silence = 50;
    table->root.at.options.promote_wait = 60000;
    table_start(table);
    record_is(table, 2, 3);
    place.record.leadership.leader = 0;
    AWAIT_TURNS(table, table->chair->council.record_present);
}

static const char *accept_loss(struct table *table)
{
    uint64_t asked = chair_status(table->chair).asked;
    chair_accept_loss(table->chair);
    AWAIT_TURNS(table, chair_status(table->chair).asked > asked);
    return chair_status(table->chair).refused;
}

// ... as Consul says that the leader is gone; a process that stood still forgets that.
static void accept_in_the_end(struct table *table)
{
    uint64_t until_ns = clock_mono_ns() + LIMIT_NS;
    const char *refused = "";
    while (refused != NULL) {
        assert_true(clock_mono_ns() < until_ns);
        let_pass(table);
        place.setup.looked(place.setup.owner, 0, true);
        refused = accept_loss(table);
    }
}

// Asked while nobody knows that the leader is gone, then when Consul says so.
static void test_accept_loss(void **unused)
{
    (void)unused;
    struct table table;
    left_over(&table);
    assert_non_null(accept_loss(&table));
    let_pass(&table);
    assert_non_null(accept_loss(&table)); // it is silent, and its health check passes
    uint8_t before[HISTORY_ID_BYTES];
    memcpy(before, place.record.history, HISTORY_ID_BYTES);
    accept_in_the_end(&table);
    AWAIT_TURNS(&table, plays(&table, COUNCIL_LEADING));
    assert_memory_not_equal(place.record.history, before, HISTORY_ID_BYTES);
    assert_true(journal_is_of(&table, place.record.history));
    assert_int_equal(place.record.in_sync, 1u << OWN);
    assert_true(table.chair->council.promised.alone);
    AWAIT_TURNS(&table, shown(&table.root) == 2);
    struct birth birth;
    birth_get(instance_of(&table.root), &birth);
    assert_memory_equal(birth.ancestor, before, HISTORY_ID_BYTES);
    table_close(&table);
}

// A root that can be reached is waited for, and one of another history is not.
static void test_gathering(void **unused)
{
    (void)unused;
    struct table table;
    left_over(&table);
    struct log_end end = table.chair->council.end;
    come(&table, 1, 1, false);
    accept_in_the_end(&table);
    AWAIT_TURNS(&table, plays(&table, COUNCIL_ELECTED));
    let_pass(&table);
    assert_true(plays(&table, COUNCIL_ELECTED));
    grant(&table, 1, &end, false);
    AWAIT_TURNS(&table, plays(&table, COUNCIL_LEADING));
    table_close(&table);
    left_over(&table);
    struct tie_fact fact = {.root = 1, .number = 1, .kind = TIE_UP, .has_history = true};
    memcpy(fact.history, other_history, HISTORY_ID_BYTES);
    say(&table, &fact);
    accept_in_the_end(&table);
    AWAIT_TURNS(&table, plays(&table, COUNCIL_LEADING));
    table_close(&table);
}

// A claim of a history that forked from this one's is promised once the record says the same; one
// of a history that did not is nothing.
static void test_adoption(void **unused)
{
    (void)unused;
    struct table table;
    table_open(&table);
    table_start(&table);
    record_is(&table, 2, ALL);
    place.record.leadership.leader = 0;
    AWAIT_TURNS(&table, table.chair->council.record_present);
    struct tie_fact fact = {.root = 1,
                            .number = 1,
                            .kind = TIE_CLAIM,
                            .leadership = {.epoch = 2, .leader = 1},
                            .has_history = true,
                            .has_ancestor = true};
    memcpy(fact.history, other_history, HISTORY_ID_BYTES);
    const uint8_t *own = journal_history(instance_of(&table.root)->journal);
    memcpy(fact.ancestor, own, HISTORY_ID_BYTES);
    come(&table, 1, 1, false);
    say(&table, &fact);
    let_pass(&table);
    assert_false(table.chair->council.leaves); // the record does not say so
    place.record.leadership = fact.leadership;
    place.modify_index++;
    memcpy(place.record.history, other_history, HISTORY_ID_BYTES);
    fact.ancestor[0] ^= 1;
    say(&table, &fact);
    place.setup.moved(place.setup.owner);
    AWAIT_TURNS(&table, table.chair->council.record.leadership.leader == 1);
    say(&table, &fact);
    let_pass(&table);
    assert_false(table.chair->council.leaves); // it forked from another one
    fact.ancestor[0] ^= 1;
    say(&table, &fact);
    AWAIT_TURNS(&table, table.chair->council.leaves);
    const struct promise *promised = &table.chair->council.promised;
    AWAIT_TURNS(&table, promised->blank);
    assert_memory_equal(promised->history, other_history, HISTORY_ID_BYTES);
    assert_true(lead_may_join(instance_of(&table.root), other_history));
    assert_true(journal_is_of(&table, own)); // it serves what it has
    table_close(&table);
}

int main(void)
{
    log_open((enum log_level)(LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blank_standby),
        cmocka_unit_test(test_donor_with_nothing),
        cmocka_unit_test(test_the_last_one),
        cmocka_unit_test(test_found_again),
        cmocka_unit_test(test_stood_still),
        cmocka_unit_test(test_accept_loss),
        cmocka_unit_test(test_gathering),
        cmocka_unit_test(test_adoption),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
