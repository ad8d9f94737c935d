// SPDX-License-Identifier: Apache-2.0
#include "bench/door.h"

#include <lmdb.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define ORDER_KEY_BYTES 32
#define ROW_BYTES 64 // that LMDB needs besides key and value, at most
#define LEAST_BYTES (64 * MIB)
#define BATCH_PAIRS 1000
#define FILTER_BITS 10

// ---- the order of keys --------------------------------------------------------------------------

struct named {
    uint8_t key[ORDER_KEY_BYTES];
    uint32_t number;
};

static int by_key(const void *a, const void *b) { return memcmp(a, b, ORDER_KEY_BYTES); }

uint32_t *engine_order(const struct pairs *pairs)
{
    CHECK(pairs->count < UINT32_MAX);
    struct named *rows = mem_zalloc(pairs->count * sizeof *rows);
    uint32_t *order = mem_alloc(pairs->count * sizeof *order);
    for (uint64_t i = 0; i < pairs->count; i++) {
        char key[PAIR_KEY_BYTES_MAX];
        size_t size = pair_key(pairs, i, key);
        CHECK(size <= ORDER_KEY_BYTES);
        memcpy(rows[i].key, key, size);
        rows[i].number = (uint32_t)i;
    }
    qsort(rows, pairs->count, sizeof *rows, by_key);
    for (uint64_t i = 0; i < pairs->count; i++) {
        order[i] = rows[i].number;
    }
    mem_free(rows);
    return order;
}

struct engine {
    uint8_t *value; // room for one
    MDB_env *env;
    MDB_txn *reading;
    MDB_dbi table;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
};

static struct engine *new_engine(void)
{
    struct engine *engine = mem_zalloc(sizeof *engine);
    engine->value = mem_alloc(PAIR_VALUE_BYTES_MAX);
    return engine;
}

// ---- LMDB ---------------------------------------------------------------------------------------

static void lmdb_close(void *of)
{
    struct engine *engine = of;
    if (engine->reading != NULL) {
        mdb_txn_abort(engine->reading);
    }
    mdb_env_close(engine->env);
    mem_free(engine->value);
    mem_free(engine);
}

static int lmdb_fill(struct engine *engine, const struct pairs *pairs, const uint32_t *order)
{
    MDB_txn *txn;
    int error = mdb_txn_begin(engine->env, NULL, 0, &txn);
    if (error != 0) {
        return error;
    }
    error = mdb_dbi_open(txn, NULL, 0, &engine->table);
    for (uint64_t i = 0; error == 0 && i < pairs->count; i++) {
        char name[PAIR_KEY_BYTES_MAX];
        MDB_val key = {.mv_data = name, .mv_size = pair_key(pairs, order[i], name)};
        MDB_val value = {
            .mv_data = engine->value,
            .mv_size = pair_value(pairs, order[i], 0, engine->value),
        };
        error = mdb_put(txn, engine->table, &key, &value, MDB_APPEND);
    }
    if (error != 0) {
        mdb_txn_abort(txn);
        return error;
    }
    return mdb_txn_commit(txn);
}

static struct engine *lmdb_open(const char *directory, const struct pairs *pairs,
                                const uint32_t *order)
{
    struct engine *engine = new_engine();
    uint64_t bytes = 2 * (pairs->key_bytes + pairs->value_bytes + ROW_BYTES * pairs->count);
    int error = mdb_env_create(&engine->env);
    CHECK(error == 0);
    error = mdb_env_set_mapsize(engine->env, LEAST_BYTES + bytes);
    error = error != 0 ? error
                       : mdb_env_open(engine->env, directory, MDB_NOSYNC | MDB_WRITEMAP, 0600);
    error = error != 0 ? error : lmdb_fill(engine, pairs, order);
    error = error != 0 ? error : mdb_txn_begin(engine->env, NULL, MDB_RDONLY, &engine->reading);
    if (error != 0) {
        fprintf(stderr, "qs-bench: LMDB: %s\n", mdb_strerror(error));
        lmdb_close(engine);
        return NULL;
    }
    mdb_txn_reset(engine->reading);
    return engine;
}

static ssize_t lmdb_get(void *of, struct bytes name, uint8_t *to, size_t room)
{
    struct engine *engine = of;
    MDB_val key = {.mv_data = (void *)name.data, .mv_size = name.size}, value;
    int error = mdb_txn_renew(engine->reading);
    if (error != 0) {
        return DOOR_FAILED;
    }
    error = mdb_get(engine->reading, engine->table, &key, &value);
    ssize_t size = error == MDB_NOTFOUND ? DOOR_ABSENT : DOOR_FAILED;
    if (error == 0 && value.mv_size <= room) {
        memcpy(to, value.mv_data, value.mv_size);
        size = (ssize_t)value.mv_size;
    }
    mdb_txn_reset(engine->reading);
    return size;
}

const struct engine_calls engine_lmdb = {lmdb_open, lmdb_get, lmdb_close};

// ---- RocksDB ------------------------------------------------------------------------------------

static void rocks_close(void *of)
{
    struct engine *engine = of;
    if (engine->db != NULL) {
        rocksdb_close(engine->db);
    }
    rocksdb_options_destroy(engine->options);
    rocksdb_readoptions_destroy(engine->read);
    rocksdb_writeoptions_destroy(engine->write);
    mem_free(engine->value);
    mem_free(engine);
}

static rocksdb_options_t *rocks_options(void)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(FILTER_BITS));
    rocksdb_block_based_options_set_no_block_cache(table, 1);
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_allow_mmap_reads(options, 1);
    rocksdb_options_set_max_open_files(options, -1);
    rocksdb_options_prepare_for_bulk_load(options);
    return options;
}

static char *rocks_fill(struct engine *engine, const struct pairs *pairs, const uint32_t *order)
{
    char *error = NULL;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (uint64_t i = 0; error == NULL && i < pairs->count; i++) {
        char key[PAIR_KEY_BYTES_MAX];
        size_t size = pair_key(pairs, order[i], key);
        size_t value_size = pair_value(pairs, order[i], 0, engine->value);
        rocksdb_writebatch_put(batch, key, size, (const char *)engine->value, value_size);
        if ((i + 1) % BATCH_PAIRS == 0 || i + 1 == pairs->count) {
            rocksdb_write(engine->db, engine->write, batch, &error);
            rocksdb_writebatch_clear(batch);
        }
    }
    rocksdb_writebatch_destroy(batch);
    rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
    if (error == NULL) {
        rocksdb_flush(engine->db, flush, &error);
    }
    rocksdb_flushoptions_destroy(flush);
    if (error == NULL) {
        rocksdb_compact_range(engine->db, NULL, 0, NULL, 0);
    }
    return error;
}

static struct engine *rocks_open(const char *directory, const struct pairs *pairs,
                                 const uint32_t *order)
{
    struct engine *engine = new_engine();
    char *error = NULL;
    engine->options = rocks_options();
    engine->read = rocksdb_readoptions_create();
    engine->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(engine->write, 1);
    engine->db = rocksdb_open(engine->options, directory, &error);
    if (error == NULL) {
        error = rocks_fill(engine, pairs, order);
    }
    if (error != NULL) {
        fprintf(stderr, "qs-bench: RocksDB: %s\n", error);
        rocksdb_free(error);
        rocks_close(engine);
        return NULL;
    }
    return engine;
}

static ssize_t rocks_get(void *of, struct bytes key, uint8_t *to, size_t room)
{
    struct engine *engine = of;
    char *error = NULL;
    rocksdb_pinnableslice_t *found =
        rocksdb_get_pinned(engine->db, engine->read, (const char *)key.data, key.size, &error);
    if (error != NULL) {
        rocksdb_free(error);
        return DOOR_FAILED;
    }
    if (found == NULL) {
        return DOOR_ABSENT;
    }
    size_t size;
    const char *value = rocksdb_pinnableslice_value(found, &size);
    bool fits = size <= room;
    if (fits) {
        memcpy(to, value, size);
    }
    rocksdb_pinnableslice_destroy(found);
    return fits ? (ssize_t)size : DOOR_FAILED;
}

const struct engine_calls engine_rocksdb = {rocks_open, rocks_get, rocks_close};
