// SPDX-License-Identifier: Apache-2.0
// Slices read at any later block, then the log over them: whatever the cuts and the places, the
// store ends as a naive map says, and the sum over its rows is the log's.
#include "tests/unit/instance_fixture.h"

#include "common/core/build_log.h"
#include "common/core/build_slice.h"
#include "common/data/digest.h"
#include "common/wire/slice_items.h"
#include "proxy/proxy.h"
#include "replica/replica.h"

#define SCHEDULES ROUNDS(2000)
#define BLOCKS_MAX 12
#define CHUNK 100 // a slice is written in several pieces
#define NO_DISK_BYTES ((uint64_t)1 << 60) // no disk has as much free

enum kind { REPLICA, PROXY, FULL_PROXY }; // the last is beyond its hard limit

struct schedule {
    struct model model;
    struct block *blocks[BLOCKS_MAX + 1]; // by number
    uint64_t count;
    uint64_t seed;
    const struct model_key *keys[MODEL_KEYS]; // in their order
    enum kind kind;
};

static int by_name(const void *a, const void *b)
{
    const struct model_key *const *left = a;
    const struct model_key *const *right = b;
    return bytes_compare(model_name(*left), model_name(*right));
}

static void schedule_open(struct schedule *schedule, uint64_t seed, enum kind kind)
{
    *schedule = (struct schedule){.seed = seed, .kind = kind};
    model_open(&schedule->model, seed);
    schedule->count = test_between(&schedule->seed, 1, BLOCKS_MAX);
    for (uint64_t number = 1; number <= schedule->count; number++) {
        schedule->blocks[number] =
            model_block(&schedule->model, test_between(&schedule->seed, 1, 4));
    }
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        schedule->keys[i] = &schedule->model.keys[i];
    }
    qsort(schedule->keys, MODEL_KEYS, sizeof schedule->keys[0], by_name);
}

static void schedule_close(struct schedule *schedule)
{
    for (uint64_t number = 1; number <= schedule->count; number++) {
        block_release(schedule->blocks[number]);
    }
    model_close(&schedule->model);
}

static struct digest digest_at(const struct schedule *schedule, uint64_t index)
{
    struct digest digest = {0};
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_version *version = model_at(schedule->keys[i], index);
        if (version != NULL) {
            digest_add(&digest, version->version, model_name(schedule->keys[i]));
        }
    }
    return digest;
}

// The message of a slice at the end of block `number`: keys from `at` on, at most `keys` of those
// that are there. Moves `at`.
static void encode_slice(const struct schedule *schedule, uint64_t number, uint64_t values_above,
                         unsigned *at, unsigned keys, struct buf *ret_frame)
{
    const struct block_header *view = &schedule->blocks[number]->header;
    struct buf items = {0};
    for (; *at < MODEL_KEYS && keys > 0; (*at)++) {
        const struct model_version *version = model_at(schedule->keys[*at], block_end(view));
        if (version == NULL) {
            continue;
        }
        struct bytes value = bytes_of(version->value, version->size);
        struct slice_item item = {.key = model_name(schedule->keys[*at]),
                                  .version = version->version,
                                  .length = (uint32_t)version->size,
                                  .check = record_check(version->version, value),
                                  .held = version->version > values_above,
                                  .value = value};
        slice_item_append(&items, &item);
        keys--;
    }
    uint8_t header[BLOCK_HEADER_BYTES], sum[HASH128_BYTES], check[HASH128_BYTES];
    struct digest digest = digest_at(schedule, block_end(view));
    block_header_encode(view, header);
    hash128_store(sum, digest.sum);
    hash128_store(check, hash128(buf_bytes(&items), 0));
    struct message_slice_items message = {.id = 1,
                                          .header = bytes_of(header, sizeof header),
                                          .digest = bytes_of(sum, sizeof sum),
                                          .keys = digest.keys,
                                          .last = *at == MODEL_KEYS,
                                          .check = bytes_of(check, sizeof check),
                                          .items = buf_bytes(&items)};
    message_slice_items_encode(ret_frame, &message);
    buf_free(&items);
}

static struct bytes payload_of(const struct buf *frame)
{
    return bytes_of(frame->data + FRAME_HEAD_BYTES, frame->size - FRAME_HEAD_BYTES);
}

static int add_slice(struct build *build, struct bytes payload, struct bytes from)
{
    struct build_slice slice;
    struct build_row row = build->row;
    int error = build_slice_decode(&slice, payload);
    if (error == OK) {
        error = build_slice_fits(&slice, row.slices > 0 ? &row : NULL, from);
    }
    for (bool more = error == OK; more; more = error == OK && slice.items.size > 0) {
        error = build_slice_add(&slice, build->instance, build->volume->store, build->batch, &row);
        if (error == OK) {
            assert_int_equal(build_write(build, &row), OK);
            build->row = row;
        }
    }
    store_batch_clear(build->batch);
    return error;
}

static void check_store(const struct schedule *schedule, const struct build *build)
{
    uint64_t index = build->row.highest.index;
    struct digest digest = digest_at(schedule, index);
    assert_int_equal(build->row.state.place.index, index);
    assert_true(hash128_equal(build->row.held.sum, digest.sum));
    assert_true(hash128_equal(build->row.state.digest.sum, digest.sum));
    assert_int_equal(build->row.held.keys, digest.keys);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_version *version = model_at(schedule->keys[i], index);
        struct store_value row;
        int error = store_get(build->volume->store, NULL, 0, model_name(schedule->keys[i]),
                              STORE_ANY, &row);
        assert_int_equal(error, version != NULL ? OK : ERR_NOT_FOUND);
        if (error == OK) {
            struct record record;
            assert_int_equal(build->instance->role->decode(row.data, &record), OK);
            assert_int_equal(record.version, version->version);
            assert_int_equal(record.length, version->size);
            bool recent = version->version > block_end(&build->row.start);
            assert_true(record.held || schedule->kind == FULL_PROXY ||
                        (schedule->kind == PROXY && !recent));
            assert_false(record.held && schedule->kind == FULL_PROXY);
            if (record.held) {
                assert_memory_equal(record.value.data, version->value, version->size);
            }
            store_value_release(&row);
        }
    }
}

static void empty_store(struct build *build)
{
    const struct bytes none = bytes_of(NULL, 0);
    struct store_iterator *rows = store_iterator_open(build->volume->store, NULL, 0, none, none);
    for (store_iterator_seek(rows, none); store_iterator_valid(rows); store_iterator_next(rows)) {
        store_batch_delete(build->batch, build->volume->store, 0, store_iterator_key(rows));
    }
    store_iterator_close(rows);
    assert_int_equal(store_write(build->volume->store, build->batch, bytes_text("empty")), OK);
    store_batch_clear(build->batch);
    build->row = (struct build_row){0};
}

static void run_schedule(struct build *build, uint64_t seed, enum kind kind)
{
    struct schedule schedule;
    schedule_open(&schedule, seed, kind);
    uint64_t start = test_between(&schedule.seed, 1, schedule.count);
    uint64_t values_above = kind == REPLICA ? 0 : block_end(&schedule.blocks[start]->header);
    unsigned at = 0;
    while (!build->row.complete) {
        uint64_t number = build->row.slices == 0
                              ? start
                              : test_between(&schedule.seed, start, schedule.count);
        struct buf frame = {0};
        unsigned keys = (unsigned)test_between(&schedule.seed, 1, 6);
        encode_slice(&schedule, number, values_above, &at, keys, &frame);
        struct bytes from = bytes_of(build->row.next, build->row.next_size);
        assert_int_equal(add_slice(build, payload_of(&frame), from), OK);
        buf_free(&frame);
        // As after a restart: what the row says is all that is known.
        uint8_t bytes[BUILD_ROW_MAX];
        struct build_row again = {0};
        size_t size = build_row_encode(&build->row, bytes);
        assert_int_equal(build_row_decode(&again, bytes_of(bytes, size)), OK);
        build->row = again;
    }
    while (build->row.state.place.number < build->row.highest.number) {
        uint64_t next = build->row.state.place.number + 1;
        assert_int_equal(build_log_add(build, schedule.blocks[next]), OK);
    }
    check_store(&schedule, build);
    empty_store(build);
    schedule_close(&schedule);
}

// A store of its own beside an instance of the role.
struct place {
    struct test_node node;
    struct test_instance at;
    struct build build;
};

static void place_open(struct place *place, enum kind kind)
{
    const struct role *role = kind == REPLICA ? replica_role() : proxy_role();
    test_node_open(&place->node);
    place->at = (struct test_instance){
        .options = test_options("zones", kind == REPLICA ? ROLE_REPLICA : ROLE_PROXY)};
    place->at.options.keep_bytes = MIB;
    place->at.options.apply_chunk = CHUNK;
    place->at.options.cache.hard_limit = kind == FULL_PROXY ? NO_DISK_BYTES : 0;
    test_instance_open(&place->node, &place->at, role);
    place->build = (struct build){.instance = place->at.instance, .batch = store_batch_new()};
    assert_int_equal(instance_open_volume(place->at.instance, 7, &place->build.volume), OK);
}

static void place_close(struct place *place)
{
    store_batch_free(place->build.batch);
    assert_true(volume_close(place->build.volume));
    test_node_stop(&place->node);
    assert_int_equal(instance_close(place->at.instance), INSTANCE_CLOSED);
    test_instance_end(&place->at);
    test_node_close(&place->node);
}

static void test_schedules(void **unused)
{
    (void)unused;
    for (unsigned kind = REPLICA; kind <= FULL_PROXY; kind++) {
        struct place place;
        place_open(&place, (enum kind)kind);
        for (uint64_t seed = 1; seed <= SCHEDULES; seed++) {
            run_schedule(&place.build, seed * 3 + kind, (enum kind)kind);
        }
        place_close(&place);
    }
}

// ---- what is refused ---------------------------------------------------------------------------

static void test_refused(void **unused)
{
    (void)unused;
    struct place place;
    struct schedule schedule;
    place_open(&place, REPLICA);
    uint64_t seed = 5;
    schedule_open(&schedule, seed, REPLICA);
    while (schedule.count < 4) {
        schedule_close(&schedule);
        schedule_open(&schedule, ++seed, REPLICA);
    }
    struct build *build = &place.build;
    struct buf first = {0}, second = {0}, old = {0};
    unsigned at = 0;
    encode_slice(&schedule, 2, 0, &at, 2, &first);
    unsigned before = at;
    encode_slice(&schedule, 3, 0, &at, 2, &second);
    at = before;
    encode_slice(&schedule, 1, 0, &at, 2, &old);
    const struct bytes none = bytes_of(NULL, 0);

    // No bit of a slice may be wrong: it is refused, or it says what it said before.
    for (size_t bit = 0; bit < payload_of(&first).size * 8; bit += 3) {
        first.data[FRAME_HEAD_BYTES + bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct build_slice slice;
        if (build_slice_decode(&slice, payload_of(&first)) == OK) {
            struct build_row row = {0};
            int error = build_slice_add(&slice, build->instance, build->volume->store,
                                        build->batch, &row);
            assert_true(error == OK || error == ERR_PROTOCOL || error == ERR_CORRUPT);
            assert_int_equal(row.state.place.number, 2);
            store_batch_clear(build->batch);
        }
        first.data[FRAME_HEAD_BYTES + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(add_slice(build, payload_of(&second), bytes_text("key")), ERR_PROTOCOL);
    assert_int_equal(add_slice(build, payload_of(&first), none), OK);
    struct bytes next = bytes_of(build->row.next, build->row.next_size);
    assert_int_equal(add_slice(build, payload_of(&second), none), ERR_PROTOCOL);
    assert_int_equal(add_slice(build, payload_of(&first), next), ERR_PROTOCOL); // its keys again
    assert_int_equal(add_slice(build, payload_of(&old), next), ERR_BEHIND);
    build->row.start.history[0] ^= 1;
    assert_int_equal(add_slice(build, payload_of(&second), next), ERR_HISTORY);
    build->row.start.history[0] ^= 1;
    assert_int_equal(add_slice(build, payload_of(&second), next), OK);
    buf_free(&first);
    buf_free(&second);
    buf_free(&old);
    schedule_close(&schedule);
    place_close(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
