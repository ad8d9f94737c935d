// SPDX-License-Identifier: Apache-2.0
// Councils against each other, thousands of schedules of a few hundred random steps, each step
// checked (council_world.h); then faults end, and within bounded rounds one of them leads, all are
// counted, and what is written is committed everywhere. COUNCIL_SEED=N plays one schedule again.
#include "tests/unit/council_steps.h"

#define SCHEDULES 10000
#define STEPS 1500
#define ROUNDS_MAX 300
#define WRITES_END 120 // block numbers left for the epochs after it

// ---- what may happen ---------------------------------------------------------------------------

static void befall_message(struct world *world, bool ordered)
{
    if (world->messages == 0) {
        return;
    }
    unsigned at = world_any(world, world->messages);
    if (world_is_away(world, &world->message[at])) {
        return;
    }
    if (ordered) { // connections keep the order
        unsigned from = world->message[at].from, to = world->message[at].to;
        for (at = 0; world->message[at].from != from || world->message[at].to != to;) {
            at++;
        }
        world_deliver(world, at);
        return;
    }
    bool request = world->message[at].to == ROOT_NOBODY;
    if (!request && world_chance(world, 10)) { // lost
        world->message[at] = world->message[--world->messages];
        return;
    }
    struct world_message again = world->message[at];
    world_deliver(world, at);
    if (!request && world_chance(world, 10)) {
        world_send(world, &again);
    }
}

// Somebody does not wait for an answer any longer.
static void give_up(struct world *world, unsigned of)
{
    struct council *council = &world->root[of].council;
    if (council->request.sent) {
        world->count[SOMETIMES_UNANSWERED]++;
        council_changed(council, council->request.ticket, ERR_TIMEOUT);
    } else if (council->reading) {
        council_record_failed(council, council->ticket);
    }
    world_drain(world, of);
}

static void person(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    if (world_chance(world, 2)) {
        council_promote_expired(&root->council);
    } else {
        bool answers = !world->healed && world_chance(world, 2);
        const char *refused = council_promote(&root->council, answers);
        world->count[SOMETIMES_FORCED] += refused == NULL && !answers;
    }
    world_drain(world, of);
}

static void lag_or_not(struct world *world, unsigned of)
{
    uint32_t lagging = world_chance(world, 2) ? 0 : world_any(world, 1u << world->roots);
    council_tick(&world->root[of].council, world_chance(world, world->belief), lagging);
    world_drain(world, of);
}

static void befall_root(struct world *world, unsigned of, enum world_step step)
{
    struct world_root *root = &world->root[of];
    if (step == STEP_TAKE) {
        world_take(world, of);
    } else if (step == STEP_SYNC && root->synced < root->appended) {
        world_sync(world, of);
    } else if (step == STEP_PROMISE && root->promising) {
        world_finish_promise(world, of);
    } else if (step == STEP_CUT && root->cutting) {
        world_finish_cut(world, of);
    } else if (step == STEP_FETCH && root->donor != ROOT_NOBODY) {
        world_fetch(world, of);
    } else if (step == STEP_WRITE && root->appended < WRITES_END) {
        world_write_batch(world, of);
    } else if (step == STEP_TICK) {
        lag_or_not(world, of);
    } else if (step == STEP_GIVE_UP) {
        give_up(world, of);
    } else if (step == STEP_CRASH) {
        world_crash(world, of);
    } else if (step == STEP_PERSON) {
        person(world, of);
    } else if (step == STEP_MOVED) {
        council_record_moved(&root->council);
        world_drain(world, of);
    }
}

static enum world_step choose_step(struct world *world)
{
    unsigned sum = 0, step = 0;
    for (unsigned i = 0; i < STEP_KINDS; i++) {
        sum += world->weight[i];
    }
    for (unsigned at = world_any(world, sum); at >= world->weight[step]; step++) {
        at -= world->weight[step];
    }
    return step;
}

static void step(struct world *world, bool ordered)
{
    unsigned of = world_any(world, world->roots);
    enum world_step step = choose_step(world);
    if (world_chance(world, 60)) { // some hear nothing and do nothing for a while
        world->away = world_chance(world, 2) ? 0 : world_any(world, 1u << world->roots);
    }
    if (step == STEP_MESSAGE) {
        befall_message(world, ordered);
    } else if (step == STEP_STORE) {
        world_harm_store(world);
    } else if (step == STEP_DISK) {
        world_lose_disk(world, of);
    } else if (!world->root[of].up && step == STEP_START) {
        world_start(world, of);
    } else if (world->root[of].up && !set_has(world->away, of)) {
        befall_root(world, of, step);
    }
}

// ---- what must happen when faults have ended ---------------------------------------------------

static bool is_under_way(const struct world *world, unsigned of, uint64_t ticket)
{
    for (unsigned i = 0; i < world->messages; i++) {
        const struct world_message *message = &world->message[i];
        if (message->to == ROOT_NOBODY && message->from == of &&
            message->life == world->root[of].life && message->action.ticket == ticket) {
            return true;
        }
    }
    return false;
}

// Whom the record names is gone when its process serves nobody: it cannot lead, and does not try.
static bool is_gone(const struct world *world, const struct council *council)
{
    unsigned named = council->record_present ? council->record.leadership.leader : ROOT_NOBODY;
    return named < world->roots && world->root[named].role == COUNCIL_STANDBY &&
           world->root[named].promise.blank;
}

static void heal_root(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    if (!root->up) {
        world_start(world, of);
    }
    if (root->promising) {
        world_finish_promise(world, of);
    }
    if (root->cutting) {
        world_finish_cut(world, of);
    }
    world_take(world, of);
    world_sync(world, of);
    if (root->donor != ROOT_NOBODY) {
        world_fetch(world, of);
        world_sync(world, of);
    }
    if ((root->council.request.sent && !is_under_way(world, of, root->council.request.ticket)) ||
        (root->council.reading && !is_under_way(world, of, root->council.ticket))) {
        give_up(world, of);
    }
    council_promote_expired(&root->council);
    council_record_moved(&root->council); // whoever watches sees it at last
    council_tick(&root->council, is_gone(world, &root->council), 0);
    world_drain(world, of);
}

// One leads, the record says so and counts everybody, and all have the same, committed.
static bool is_whole(const struct world *world)
{
    const struct world_root *leader = NULL;
    for (unsigned i = 0; i < world->roots; i++) {
        leader = world->root[i].role == COUNCIL_LEADING ? &world->root[i] : leader;
    }
    const struct world_store *store = &world->store;
    if (leader == NULL || leader->writes != COUNCIL_WRITES_TAKEN || !store->present ||
        store->record.in_sync != set_all(world->roots) ||
        !leadership_equal(store->record.leadership, leader->council.mine)) {
        return false;
    }
    for (unsigned i = 0; i < world->roots; i++) {
        const struct world_root *root = &world->root[i];
        if (root->promise.blank || root->committed != leader->appended ||
            (root != leader && root->role != COUNCIL_STANDBY)) {
            return false;
        }
    }
    return true;
}

static bool anybody_leads(const struct world *world)
{
    for (unsigned i = 0; i < world->roots; i++) {
        if (world->root[i].role == COUNCIL_LEADING) {
            return true;
        }
    }
    return false;
}

static unsigned heal(struct world *world)
{
    unsigned round = 0, whole = 0;
    world->healed = true;
    world->away = 0;
    for (; round < ROUNDS_MAX && whole < 3 && world->broken == NULL; round++) {
        for (unsigned left = world->messages; left > 0 && world->broken == NULL; left--) {
            world_deliver(world, 0);
        }
        for (unsigned i = 0; i < world->roots && world->broken == NULL; i++) {
            heal_root(world, i);
        }
        if (round % 40 == 39 && !anybody_leads(world)) { // a person goes from one to the next
            unsigned of = round / 40 % world->roots;
            world->count[SOMETIMES_FORCED] +=
                council_promote(&world->root[of].council, false) == NULL;
            world_drain(world, of);
        }
        if (is_whole(world)) {
            whole++;
            for (unsigned i = 0; i < world->roots; i++) {
                world_write_batch(world, i); // the leader does
            }
        }
    }
    if (whole < 3) {
        world_break(world, "faults have ended, and it does not get whole");
    }
    return round;
}

// ---- schedules ---------------------------------------------------------------------------------

// Either the store keeps its data, and may decide alone; or it may lose it, and promises decide; or
// it keeps them, and a disk is lost.
static void choose(struct world *world)
{
    unsigned kind = world_any(world, 3);
    world->roots = world_chance(world, 3) ? 5 : 3;
    world->in_sync_min = world->roots / 2 + 1;
    if (world_chance(world, 3)) {
        world->in_sync_min = 1 + world_any(world, world->roots);
    }
    world->promote_min = world->roots + 1 - world->in_sync_min;
    if (kind == 0) {
        world->promote_min = 1 + world_any(world, world->promote_min);
    }
    // Each world has its own mixture of what comes often and what seldom.
    static const unsigned usual[STEP_KINDS] = {
        120, 40, 40, 30, 20, 20, 20, 16, 4, 3, 8, 2, 2, 3, 2,
    };
    unsigned mixed = 1 + world_any(world, 4);
    for (unsigned i = 0; i < STEP_KINDS; i++) {
        world->weight[i] = usual[i] << world_any(world, mixed);
    }
    world->belief = 1u << world_any(world, 6);
    world->losses = kind == 1 ? 1 + world_any(world, 3) : 0;
    world->disks = kind == 2 && world->in_sync_min > 1 ? 1 + world_any(world, 3) : 0;
}

static void begin(struct world *world)
{
    struct root_record record = {
        .leadership = {.epoch = 1, .leader = 0},
        .in_sync = set_all(world->roots),
        .generation = 1,
    };
    world->blocks = 1; // number 0 is below all
    world->block[0].leadership.leader = ROOT_NOBODY;
    world->store = (struct world_store){
        .present = true, .record = record, .modify_index = 7, .last_index = 7};
    for (unsigned i = 0; i < world->roots; i++) {
        world->root[i].promise = (struct promise){.leadership = record.leadership, .generation = 1};
        world_start(world, i);
    }
}

static const char *play(uint64_t seed, uint64_t *counts, unsigned *ret_rounds)
{
    struct world *world = mem_zalloc(sizeof *world);
    world->random = seed;
    choose(world);
    begin(world);
    bool ordered = world->disks > 0 || world_chance(world, 3);
    // A world that begins well goes farther.
    for (unsigned i = 0; i < 10 && world_chance(world, 4) == 0; i++) {
        for (unsigned left = world->messages; left > 0; left--) {
            world_deliver(world, 0);
        }
        for (unsigned of = 0; of < world->roots; of++) {
            heal_root(world, of);
        }
    }
    for (unsigned i = 0; i < STEPS && world->broken == NULL; i++) {
        step(world, ordered);
    }
    *ret_rounds = heal(world);
    for (unsigned i = 0; i < SOMETIMES_COUNTS; i++) {
        counts[i] += world->count[i];
    }
    const char *broken = world->broken;
    mem_free(world);
    return broken;
}

static const char *const count_names[] = {
    "tries", "elected by the answer", "elected by a read", "lost", "gave way", "refused",
    "logs to take over", "not to be had", "opened", "committed", "learned", "cut", "dropped",
    "added", "asked again", "unanswered", "landed late", "written anew", "same epoch twice",
    "tried above", "disks lost", "no longer blank", "asked to hand over", "go", "forced",
    "small sets", "tails lost", "promises lost", "store lost", "store went back",
};

static void test_schedules(void **unused)
{
    (void)unused;
    const char *chosen = getenv("COUNCIL_SEED");
    uint64_t first = chosen == NULL ? 1 : strtoull(chosen, NULL, 10);
    uint64_t last = chosen == NULL ? ROUNDS(SCHEDULES) : first;
    uint64_t counts[SOMETIMES_COUNTS] = {0};
    unsigned most = 0, failed = 0;
    for (uint64_t seed = first; seed <= last; seed++) {
        unsigned rounds;
        const char *broken = play(seed, counts, &rounds);
        if (broken != NULL) {
            print_message("COUNCIL_SEED=%llu: %s\n", (unsigned long long)seed, broken);
            failed++;
            break;
        }
        most = rounds > most ? rounds : most;
    }
    print_message("at most %u rounds to heal\n", most);
    _Static_assert(ARRAY_LEN(count_names) == SOMETIMES_COUNTS, "a name for each");
    for (unsigned i = 0; i < SOMETIMES_COUNTS; i++) {
        print_message("%10llu %s\n", (unsigned long long)counts[i], count_names[i]);
    }
    assert_int_equal(failed, 0);
    for (unsigned i = 0; i < SOMETIMES_COUNTS && chosen == NULL; i++) {
        if (counts[i] == 0) {
            fail_msg("never: %s", count_names[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
