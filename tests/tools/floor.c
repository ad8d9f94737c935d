// SPDX-License-Identifier: Apache-2.0
// What the machine allows, to be put beside what a root does with the same pairs:
//   floor journal DIR FILE   the bytes of each 1,000 pairs by one pwrite, then fdatasync
//   floor store DIR FILE     each 1,000 pairs as one write batch of the store (RocksDB, no log of
//                            its own), flushed at the end
// FILE is TSV as `qs import` reads it; it is parsed before the clock starts. Prints pairs and
// seconds. One thread.
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/data/store.h"
#include "common/wire/import_text.h"

#define PAIRS_PER_BATCH 1000
#define CACHE_BYTES (64 * MIB)
#define MEMTABLE_BYTES (32 * MIB)

struct pair {
    size_t key, value; // offsets into `bytes`
    uint32_t key_size, value_size;
};

struct input {
    struct buf bytes;
    struct pair *pairs;
    size_t count, capacity;
};

static void add(struct input *input, struct import_pair from)
{
    if (input->count == input->capacity) {
        input->capacity = input->capacity == 0 ? 1024 : input->capacity * 2;
        input->pairs = mem_realloc(input->pairs, input->capacity * sizeof *input->pairs);
    }
    input->pairs[input->count++] = (struct pair){
        .key = input->bytes.size,
        .value = input->bytes.size + from.key.size,
        .key_size = (uint32_t)from.key.size,
        .value_size = (uint32_t)from.value.size,
    };
    buf_append_bytes(&input->bytes, from.key);
    buf_append_bytes(&input->bytes, from.value);
}

static int read_input(struct input *input, const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    char *line = NULL;
    size_t room = 0;
    struct buf scratch = {0};
    ssize_t size;
    while ((size = getline(&line, &room, file)) > 0) {
        struct import_pair pair;
        if (import_tsv(bytes_of(line, (size_t)size - 1), &scratch, &pair) == NULL &&
            pair.key.size > 0) {
            add(input, pair);
        }
    }
    mem_free(line);
    buf_free(&scratch);
    fclose(file);
    return 0;
}

static struct bytes key_of(const struct input *input, size_t i)
{
    return bytes_of(input->bytes.data + input->pairs[i].key, input->pairs[i].key_size);
}

static struct bytes value_of(const struct input *input, size_t i)
{
    return bytes_of(input->bytes.data + input->pairs[i].value, input->pairs[i].value_size);
}

static size_t batch_end(const struct input *input, size_t start)
{
    return start + PAIRS_PER_BATCH < input->count ? start + PAIRS_PER_BATCH : input->count;
}

static int write_journal(const struct input *input, const char *directory)
{
    char *path = mem_format("%s/floor.journal", directory);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    mem_free(path);
    off_t offset = 0;
    for (size_t start = 0; fd >= 0 && start < input->count; start = batch_end(input, start)) {
        size_t last = batch_end(input, start) - 1;
        const uint8_t *from = input->bytes.data + input->pairs[start].key;
        size_t end = input->pairs[last].value + input->pairs[last].value_size;
        size_t size = end - input->pairs[start].key;
        if (pwrite(fd, from, size, offset) != (ssize_t)size || fdatasync(fd) != 0) {
            perror("journal");
            close(fd);
            return -1;
        }
        offset += (off_t)size;
    }
    return fd >= 0 ? close(fd) : -1;
}

static int write_store(const struct input *input, const char *directory)
{
    struct store_cache *cache = store_cache_open(CACHE_BYTES);
    struct store_options options = {
        .directory = directory,
        .scope = "floor",
        .families = {"default", "mvcc"},
        .family_count = 2,
        .cache = cache,
        .memtable_bytes = MEMTABLE_BYTES,
    };
    struct store *store;
    int error = store_open(&store, &options);
    if (error != OK) {
        store_cache_close(cache);
        return error;
    }
    struct store_batch *batch = store_batch_new();
    for (size_t start = 0; error == OK && start < input->count; start = batch_end(input, start)) {
        store_batch_clear(batch);
        for (size_t i = start; i < batch_end(input, start); i++) {
            store_batch_put(batch, store, 0, key_of(input, i), value_of(input, i));
        }
        error = store_write(store, batch, bytes_of(&start, sizeof start));
    }
    store_batch_free(batch);
    store_close(store);
    store_cache_close(cache);
    return error;
}

int main(int argc, char **argv)
{
    if (argc != 4 || (strcmp(argv[1], "journal") != 0 && strcmp(argv[1], "store") != 0)) {
        fprintf(stderr, "usage: floor journal|store DIRECTORY FILE\n");
        return 2;
    }
    struct input input = {0};
    if (read_input(&input, argv[3]) != 0) {
        return 1;
    }
    uint64_t began = clock_mono_ns();
    bool journal = strcmp(argv[1], "journal") == 0;
    int error = journal ? write_journal(&input, argv[2]) : write_store(&input, argv[2]);
    double seconds = (double)(clock_mono_ns() - began) / (double)NS_PER_S;
    if (error != OK) {
        fprintf(stderr, "floor: %s failed\n", argv[1]);
        return 1;
    }
    printf("%zu %.3f\n", input.count, seconds);
    buf_free(&input.bytes);
    mem_free(input.pairs);
    return 0;
}
