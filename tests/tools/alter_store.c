// SPDX-License-Identifier: Apache-2.0
// Changes one row of a stopped node's store behind its back, as a lost or misdirected write might:
//   alter_store STORE replica|proxy drop KEY
//   alter_store STORE replica|proxy put KEY VERSION VALUE
// STORE is its directory. The row is well formed and its check is right; what the store says about
// itself stays as it is, so only who holds the row against the log can find it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/data/store.h"
#include "proxy/stub.h"
#include "replica/record.h"

#define CACHE_BYTES (8 * MIB)

static int usage(void)
{
    fprintf(stderr, "usage: alter_store STORE replica|proxy drop KEY | put KEY VERSION VALUE\n");
    return 2;
}

static void put(struct store_batch *batch, struct store *store, bool proxy, char **words)
{
    struct bytes value = bytes_text(words[2]);
    uint64_t version = strtoull(words[1], NULL, 10);
    const struct record record = {.version = version,
                                  .length = (uint32_t)value.size,
                                  .check = record_check(version, value),
                                  .held = true,
                                  .value = value};
    uint8_t head[REPLICA_RECORD_HEAD_MAX + STUB_HEAD_MAX];
    size_t size = proxy ? stub_head(head, &record, 0) : replica_record_head(head, version, value);
    const struct bytes keys[2] = {bytes_text(words[0]), bytes_of(NULL, 0)};
    const struct bytes row[2] = {bytes_of(head, size), value};
    store_batch_put_parts(batch, store, 0, keys, row);
}

// With the state row that is there already. `words` begins with the key; a drop has no more.
static int alter(struct store *store, bool proxy, int count, char **words)
{
    struct store_value state;
    struct store_value row = {0};
    int error = store_state(store, STORE_ANY, &state);
    if (error != OK) {
        return error;
    }
    struct store_batch *batch = store_batch_new();
    if (count == 1) {
        error = store_get(store, NULL, 0, bytes_text(words[0]), STORE_ANY, &row);
        store_batch_delete(batch, store, 0, bytes_text(words[0]));
    } else {
        put(batch, store, proxy, words);
    }
    if (error == OK) {
        error = store_write(store, batch, state.data);
    }
    store_batch_free(batch);
    store_value_release(&row);
    store_value_release(&state);
    return error;
}

int main(int count, char **words)
{
    bool drop = count == 5 && strcmp(words[3], "drop") == 0;
    bool change = count == 7 && strcmp(words[3], "put") == 0;
    bool proxy = count > 2 && strcmp(words[2], "proxy") == 0;
    if ((!drop && !change) || (!proxy && strcmp(words[2], "replica") != 0)) {
        return usage();
    }
    struct store_options options = {.directory = words[1],
                                    .scope = "alter",
                                    .families = {"default", "mvcc"},
                                    .family_count = proxy ? 1 : 2,
                                    .cache = store_cache_open(CACHE_BYTES),
                                    .memtable_bytes = MIB};
    struct store *store;
    int error = store_open(&store, &options);
    if (error == OK) {
        error = alter(store, proxy, count - 4, words + 4);
        if (!store_close(store) && error == OK) {
            error = ERR_IO;
        }
    }
    store_cache_close(options.cache);
    if (error != OK) {
        fprintf(stderr, "alter_store: %s\n", error_text(error));
    }
    return error == OK ? 0 : 1;
}
