// SPDX-License-Identifier: Apache-2.0
// A whole change of stores: an instance with old data is given slices, its journal begins anew, the
// log is added, the new store takes the old one's place; while readers hold views of both. And what
// is found when the process ends anywhere between two durable steps.
#include "tests/unit/instance_fixture.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "common/core/build.h"
#include "common/core/shelf.h"
#include "common/wire/slice_items.h"
#include "replica/replica.h"

#define OLD_BLOCKS 20
#define MISSED_BLOCKS 200 // the journal of nobody has these
#define LATER_BLOCKS 20   // follow the first slice
#define COPIES_MAX 10

struct world {
    struct model model;
    struct block *blocks[OLD_BLOCKS + MISSED_BLOCKS + LATER_BLOCKS + 1];
    uint64_t start; // number of the block of the first slice
    uint64_t end;
    const struct model_key *keys[MODEL_KEYS];
};

static int by_name(const void *a, const void *b)
{
    const struct model_key *const *left = a;
    const struct model_key *const *right = b;
    return bytes_compare(model_name(*left), model_name(*right));
}

static void world_open(struct world *world, uint64_t seed)
{
    *world = (struct world){.start = OLD_BLOCKS + MISSED_BLOCKS};
    world->end = world->start + LATER_BLOCKS;
    model_open(&world->model, seed);
    for (uint64_t number = 1; number <= world->end; number++) {
        world->blocks[number] = model_block(&world->model, 3);
    }
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        world->keys[i] = &world->model.keys[i];
    }
    qsort(world->keys, MODEL_KEYS, sizeof world->keys[0], by_name);
}

static void world_close(struct world *world)
{
    for (uint64_t number = 1; number <= world->end; number++) {
        block_release(world->blocks[number]);
    }
    model_close(&world->model);
}

static uint64_t index_of(const struct world *world, uint64_t number)
{
    return block_end(&world->blocks[number]->header);
}

// What a view shows is the state at its index, byte for byte.
static void check_view(const struct world *world, const struct view *view)
{
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_version *version = model_at(world->keys[i], view->place.index);
        struct store_value row;
        int error = store_get(view->store, view->snapshot, 0, model_name(world->keys[i]), STORE_ANY,
                              &row);
        CHECK(error == (version != NULL ? OK : ERR_NOT_FOUND));
        if (error == OK) {
            struct record record;
            CHECK(replica_role()->decode(row.data, &record) == OK);
            CHECK(record.version == version->version && record.length == version->size);
            CHECK(memcmp(record.value.data, version->value, version->size) == 0);
            store_value_release(&row);
        }
    }
}

// ---- readers -----------------------------------------------------------------------------------

struct looker {
    const struct world *world;
    struct instance *instance;
    pthread_t thread;
    _Atomic bool ending;
    unsigned looks;
};

static void *look(void *argument)
{
    struct looker *looker = argument;
    uint64_t last = 0;
    struct view *held = instance_pin(looker->instance); // of the old store, to the end
    while (!atomic_load(&looker->ending)) {
        struct view *view = instance_pin(looker->instance);
        CHECK(view->place.index >= last);
        last = view->place.index;
        check_view(looker->world, view);
        view_release(view);
        check_view(looker->world, held);
        looker->looks++;
    }
    view_release(held);
    return NULL;
}

// ---- orders ------------------------------------------------------------------------------------

static struct {
    sem_t raised;
} waiting;

static void on_answered(struct task *task)
{
    (void)task;
    sem_post(&waiting.raised);
}

static void give(struct test_node *node, struct instance *instance, struct build_order *order)
{
    order->instance = instance;
    order->loop = node->loop;
    order->answered.run = on_answered;
    sem_init(&waiting.raised, 0, 0);
    build_post(order);
    sem_wait(&waiting.raised);
    sem_destroy(&waiting.raised);
}

static struct build_order locate(struct test_node *node, struct instance *instance, bool freeze)
{
    struct build_order order = {.kind = BUILD_LOCATE, .freeze = freeze};
    give(node, instance, &order);
    assert_int_equal(order.error, OK);
    return order;
}

static void begin_journal(struct test_node *node, struct instance *instance,
                          const struct block_header *before)
{
    struct restart_order order = {.instance = instance,
                                  .before = *before,
                                  .loop = node->loop,
                                  .answered.run = on_answered};
    sem_init(&waiting.raised, 0, 0);
    instance_restart_journal(&order);
    sem_wait(&waiting.raised);
    sem_destroy(&waiting.raised);
    assert_int_equal(order.error, OK);
}

static const struct model_key *hidden; // a key that the source has lost

// Gives the next slice of at most three keys, read at the end of block `number`.
static struct build_order give_slice(struct test_node *node, struct instance *instance,
                                     const struct world *world, uint64_t number,
                                     const struct build_order *where)
{
    const struct block_header *view = &world->blocks[number]->header;
    struct bytes from = bytes_of(where->next, where->next_size);
    struct buf items = {0}, frame = {0};
    unsigned at = 0, keys = 3;
    struct digest digest = {0};
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_version *version = model_at(world->keys[i], block_end(view));
        if (version != NULL) {
            digest_add(&digest, version->version, model_name(world->keys[i]));
        }
    }
    for (; at < MODEL_KEYS && keys > 0; at++) {
        const struct model_version *version = model_at(world->keys[at], block_end(view));
        if (version == NULL || world->keys[at] == hidden ||
            bytes_compare(model_name(world->keys[at]), from) <= 0) {
            continue;
        }
        struct bytes value = bytes_of(version->value, version->size);
        struct slice_item item = {.key = model_name(world->keys[at]),
                                  .version = version->version,
                                  .length = (uint32_t)version->size,
                                  .check = record_check(version->version, value),
                                  .held = true,
                                  .value = value};
        slice_item_append(&items, &item);
        keys--;
    }
    uint8_t header[BLOCK_HEADER_BYTES], sum[HASH128_BYTES], check[HASH128_BYTES];
    block_header_encode(view, header);
    hash128_store(sum, digest.sum);
    hash128_store(check, hash128(buf_bytes(&items), 0));
    const struct message_slice_items message = {.header = bytes_of(header, sizeof header),
                                                .digest = bytes_of(sum, sizeof sum),
                                                .keys = digest.keys,
                                                .last = at == MODEL_KEYS,
                                                .check = bytes_of(check, sizeof check),
                                                .items = buf_bytes(&items)};
    message_slice_items_encode(&frame, &message);
    struct build_order order = {
        .kind = BUILD_ADD,
        .freeze = where->freeze,
        .from = from,
        .payload = bytes_of(frame.data + FRAME_HEAD_BYTES, frame.size - FRAME_HEAD_BYTES)};
    give(node, instance, &order);
    assert_int_equal(order.error, OK);
    buf_free(&items);
    buf_free(&frame);
    return order;
}

static bool stands_at(struct instance *instance, uint64_t number)
{
    struct journal_place oldest = journal_oldest(instance->journal);
    return oldest.number == number;
}

// From wherever it stands to the end, as a follower would.
static void complete(struct test_node *node, struct test_instance *at, const struct world *world,
                     uint64_t seed)
{
    struct instance *instance = at->instance;
    if (atomic_load(&instance->wants_build)) {
        struct build_order where = locate(node, instance, !stands_at(instance, world->start));
        while (!where.complete) {
            uint64_t number =
                where.begun ? test_between(&seed, world->start, world->end) : world->start;
            where = give_slice(node, instance, world, number, &where);
        }
        if (!stands_at(instance, world->start)) {
            begin_journal(node, instance, &where.start);
        }
    }
    for (uint64_t number = journal_end(instance->journal).number + 1; number <= world->end;
         number++) {
        test_feed(at, world->blocks[number]);
    }
    struct view *view = test_view(at, index_of(world, world->end));
    assert_non_null(view);
    check_view(world, view);
    assert_true(view->history_floor <= view->place.index);
    view_release(view);
    assert_false(atomic_load(&instance->wants_build));
}

// ---- the tests ---------------------------------------------------------------------------------

static void open_old(struct test_node *node, struct test_instance *at, const struct world *world)
{
    *at = (struct test_instance){.options = test_options("zones", ROLE_REPLICA)};
    test_instance_open(node, at, replica_role());
    for (uint64_t number = 1; number <= OLD_BLOCKS; number++) {
        test_feed(at, world->blocks[number]);
    }
    view_release(test_view(at, index_of(world, OLD_BLOCKS)));
}

static void close_all(struct test_node *node, struct test_instance *at)
{
    test_node_stop(node);
    assert_int_equal(instance_close(at->instance), INSTANCE_CLOSED);
    test_instance_end(at);
    test_node_close(node);
}

static void test_change_under_readers(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world world;
        struct test_node node;
        struct test_instance at;
        world_open(&world, seed);
        test_node_open(&node);
        open_old(&node, &at, &world);
        struct looker lookers[2];
        for (unsigned i = 0; i < 2; i++) {
            lookers[i] = (struct looker){.world = &world, .instance = at.instance};
            pthread_create(&lookers[i].thread, NULL, look, &lookers[i]);
        }
        atomic_store(&at.instance->wants_build, true);
        complete(&node, &at, &world, seed);
        for (unsigned i = 0; i < 2; i++) {
            atomic_store(&lookers[i].ending, true);
            pthread_join(lookers[i].thread, NULL);
            assert_true(lookers[i].looks > 0);
        }
        assert_int_equal(at.instance->shelf.serving, 1);
        close_all(&node, &at);
        world_close(&world);
    }
}

// A copy of the directory as a kill would leave it; nothing is being written then. But RocksDB may
// be removing files that it needs no more: a copy that misses one of them is made anew.
static void copy_directory(const struct test_node *from, struct test_node *to)
{
    char *command = mem_format("rm -rf %s/zones && cp -a %s/zones %s/zones 2>&1", to->directory,
                               from->directory, to->directory);
    int code = system(command);
    for (unsigned again = 0; code != 0 && again < COPIES_MAX; again++) {
        code = system(command);
    }
    assert_int_equal(code, 0);
    mem_free(command);
}

// The copy starts, shows no less than was shown, and comes to the end.
static void check_copy(const struct test_node *from, const struct world *world, uint64_t shown,
                       uint64_t seed)
{
    struct test_node node;
    struct test_instance at = {.options = test_options("zones", ROLE_REPLICA)};
    test_node_open(&node);
    copy_directory(from, &node);
    test_instance_open(&node, &at, replica_role());
    struct view *view = test_view(&at, shown);
    assert_non_null(view);
    check_view(world, view);
    view_release(view);
    if (at.instance->shelf.building == 0 && at.instance->shelf.serving == 0) {
        atomic_store(&at.instance->wants_build, true); // as a parent's answer would say
    }
    complete(&node, &at, world, seed);
    test_node_stop(&node);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    // And once more: the store in use is the only one.
    test_instance_open(&node, &at, replica_role());
    assert_int_equal(at.instance->shelf.building, 0);
    view = test_view(&at, index_of(world, world->end));
    check_view(world, view);
    view_release(view);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    test_instance_end(&at);
    test_node_close(&node);
}

static void test_ends_between_steps(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 77);
    test_node_open(&node);
    open_old(&node, &at, &world);
    struct instance *instance = at.instance;
    uint64_t shown = index_of(&world, OLD_BLOCKS);
    atomic_store(&instance->wants_build, true);
    struct build_order where = locate(&node, instance, true);
    check_copy(&node, &world, shown, 1);
    where = give_slice(&node, instance, &world, world.start, &where);
    check_copy(&node, &world, shown, 2); // the first slice is on disk, the journal is the old one
    begin_journal(&node, instance, &where.start);
    where.freeze = false;
    check_copy(&node, &world, shown, 3);
    uint64_t fed = world.start;
    for (unsigned round = 4; !where.complete; round++) {
        test_feed(&at, world.blocks[++fed]);
        where = give_slice(&node, instance, &world, world.start + 5, &where);
        if (!where.complete) {
            check_copy(&node, &world, shown, round);
        }
    }
    while (fed < world.start + 4) {
        test_feed(&at, world.blocks[++fed]);
    }
    while (journal_end(instance->journal).number < fed) {
        sched_yield();
    }
    check_copy(&node, &world, shown, 100); // all slices are in, the log is not
    complete(&node, &at, &world, 1);
    check_copy(&node, &world, index_of(&world, world.end), 101);
    close_all(&node, &at);
    world_close(&world);
}

// A source whose records are not what the log says: its store is not taken into use.
static void test_what_does_not_add_up(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 5);
    test_node_open(&node);
    open_old(&node, &at, &world);
    struct instance *instance = at.instance;
    atomic_store(&instance->wants_build, true);
    struct build_order where = locate(&node, instance, true);
    where = give_slice(&node, instance, &world, world.start, &where);
    begin_journal(&node, instance, &where.start);
    where.freeze = false;
    hidden = world.keys[MODEL_KEYS - 1];
    assert_non_null(model_at(hidden, index_of(&world, world.start)));
    while (!where.complete) {
        where = give_slice(&node, instance, &world, world.start, &where);
    }
    hidden = NULL;
    while (locate(&node, instance, false).begun) {
        sched_yield();
    }
    assert_true(atomic_load(&instance->wants_build));
    struct view *view = instance_pin(instance);
    assert_int_equal(view->place.number, OLD_BLOCKS);
    view_release(view);
    complete(&node, &at, &world, 5); // from a sound one
    close_all(&node, &at);
    world_close(&world);
}

// A store that cannot be read is built anew; what the journal has still comes from the journal.
static void test_unreadable_store(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 6);
    test_node_open(&node);
    open_old(&node, &at, &world);
    test_node_stop(&node);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    char *current = mem_format("%s/zones/store", node.directory);
    test_write_file(current, "MANIFEST-999999", bytes_text("this is not a manifest at all"));
    test_write_file(current, "CURRENT", bytes_text("MANIFEST-999999\n"));
    mem_free(current);
    test_instance_open(&node, &at, replica_role());
    assert_int_equal(at.instance->shelf.serving, 1);
    struct view *view = test_view(&at, index_of(&world, OLD_BLOCKS));
    check_view(&world, view);
    view_release(view);
    assert_false(atomic_load(&at.instance->wants_build));
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    test_instance_end(&at);
    test_node_close(&node);
    world_close(&world);
}

// A follower whose journal cannot be opened does not start, and says why.
static void test_journal_that_is_none(void **unused)
{
    (void)unused;
    struct test_node node;
    test_node_open(&node);
    struct instance_options options = test_options("zones", ROLE_REPLICA);
    char *directory = mem_format("%s/zones", node.directory);
    assert_int_equal(mkdir(directory, 0750), 0);
    test_write_file(directory, "journal", bytes_text("not a directory"));
    mem_free(directory);
    struct instance_metrics *metrics = aligned_alloc(64, (sizeof *metrics + 63) / 64 * 64);
    memset(metrics, 0, sizeof *metrics);
    struct instance_setup setup = {.node = &node.options,
                                   .options = &options,
                                   .role = replica_role(),
                                   .cache = node.cache,
                                   .metrics = metrics,
                                   .beats = beats_open(),
                                   .home = node.loop};
    struct instance *instance = NULL;
    assert_int_not_equal(instance_open(&instance, &setup), OK);
    assert_null(instance);
    beats_close(setup.beats);
    free(metrics);
    test_node_stop(&node);
    test_node_close(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_journal_that_is_none),
        cmocka_unit_test(test_change_under_readers),
        cmocka_unit_test(test_ends_between_steps),
        cmocka_unit_test(test_what_does_not_add_up),
        cmocka_unit_test(test_unreadable_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
