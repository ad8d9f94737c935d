// SPDX-License-Identifier: Apache-2.0
// For tests of building a store beside the one in use: a log that is known whole, an instance that
// holds its beginning, and the slices and orders that a follower would give it.
#ifndef QS_TESTS_UNIT_BUILD_FIXTURE_H
#define QS_TESTS_UNIT_BUILD_FIXTURE_H

#include "tests/unit/instance_fixture.h"

#include <stdlib.h>

#include "common/core/build.h"
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

SUPPORT int by_name(const void *a, const void *b)
{
    const struct model_key *const *left = a;
    const struct model_key *const *right = b;
    return bytes_compare(model_name(*left), model_name(*right));
}

SUPPORT void world_open_in(struct world *world, const uint8_t history[HISTORY_ID_BYTES],
                           uint64_t seed)
{
    *world = (struct world){.start = OLD_BLOCKS + MISSED_BLOCKS};
    world->end = world->start + LATER_BLOCKS;
    model_open(&world->model, seed);
    block_genesis(&world->model.last, history);
    for (uint64_t number = 1; number < ARRAY_LEN(world->blocks); number++) {
        world->blocks[number] = model_block(&world->model, 3);
    }
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        world->keys[i] = &world->model.keys[i];
    }
    qsort(world->keys, MODEL_KEYS, sizeof world->keys[0], by_name);
}

SUPPORT void world_open(struct world *world, uint64_t seed)
{
    world_open_in(world, test_history, seed);
}

SUPPORT void world_close(struct world *world)
{
    for (uint64_t number = 1; number < ARRAY_LEN(world->blocks); number++) {
        block_release(world->blocks[number]);
    }
    model_close(&world->model);
}

SUPPORT uint64_t index_of(const struct world *world, uint64_t number)
{
    return block_end(&world->blocks[number]->header);
}

// What a view shows is the state at its index, byte for byte.
SUPPORT void check_view(const struct world *world, const struct view *view)
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

// ---- orders ------------------------------------------------------------------------------------

static struct {
    sem_t raised;
} waiting;

SUPPORT void on_answered(struct task *task)
{
    (void)task;
    sem_post(&waiting.raised);
}

SUPPORT void give(struct test_node *node, struct instance *instance, struct build_order *order)
{
    order->instance = instance;
    order->loop = node->loop;
    order->answered.run = on_answered;
    sem_init(&waiting.raised, 0, 0);
    build_post(order);
    sem_wait(&waiting.raised);
    sem_destroy(&waiting.raised);
}

SUPPORT struct build_order locate(struct test_node *node, struct instance *instance, bool freeze)
{
    struct build_order order = {.kind = BUILD_LOCATE, .freeze = freeze};
    give(node, instance, &order);
    assert_int_equal(order.error, OK);
    return order;
}

SUPPORT int try_journal(struct test_node *node, struct instance *instance,
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
    return order.error;
}

SUPPORT void begin_journal(struct test_node *node, struct instance *instance,
                           const struct block_header *before)
{
    assert_int_equal(try_journal(node, instance, before), OK);
}

static const struct model_key *hidden; // a key that the source has lost

// Gives the next slice of at most three keys, read at the end of block `number`.
SUPPORT struct build_order try_slice(struct test_node *node, struct instance *instance,
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
    buf_free(&items);
    buf_free(&frame);
    return order;
}

SUPPORT struct build_order give_slice(struct test_node *node, struct instance *instance,
                                      const struct world *world, uint64_t number,
                                      const struct build_order *where)
{
    struct build_order order = try_slice(node, instance, world, number, where);
    assert_int_equal(order.error, OK);
    return order;
}

SUPPORT bool stands_at(struct instance *instance, uint64_t number)
{
    struct journal_place oldest = journal_oldest(instance->journal);
    return oldest.number == number;
}

// From wherever it stands to the end, as a follower would.
SUPPORT void complete(struct test_node *node, struct test_instance *at, const struct world *world,
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

SUPPORT void open_old_with(struct test_node *node, struct test_instance *at,
                           const struct world *world, uint64_t reserve_bytes)
{
    *at = (struct test_instance){.options = test_options("zones", ROLE_REPLICA)};
    at->options.reserve = reserve_bytes;
    test_instance_open(node, at, replica_role());
    for (uint64_t number = 1; number <= OLD_BLOCKS; number++) {
        test_feed(at, world->blocks[number]);
    }
    view_release(test_view(at, index_of(world, OLD_BLOCKS)));
}

SUPPORT void open_old(struct test_node *node, struct test_instance *at, const struct world *world)
{
    open_old_with(node, at, world, 0);
}

SUPPORT void close_all(struct test_node *node, struct test_instance *at)
{
    test_node_stop(node);
    assert_int_equal(instance_close(at->instance), INSTANCE_CLOSED);
    test_instance_end(at);
    test_node_close(node);
}

// A copy of the directory as a kill would leave it; nothing is being written then. But RocksDB may
// be removing files that it needs no more: a copy that misses one of them is made anew.
SUPPORT void copy_directory(const struct test_node *from, struct test_node *to)
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

#endif
