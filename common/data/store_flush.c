// SPDX-License-Identifier: Apache-2.0
// Flushing all families together: a checkpoint does that, and nothing else in RocksDB 7.8's C
// interface.
//
// After RocksDB has once recovered from a full disk, its flush says "OK" at once for ever: so one
// is believed only when the number of the write, which ends the state row, is read back from the
// files.
#include "common/base/clock.h"
#include "common/data/disk.h"
#include "common/data/store_private.h"

#define FLUSH_AGAIN_NS NS_PER_S
#define FLUSH_LIMIT_NS (120 * NS_PER_S)

int store_flush_clean(struct store *store)
{
    char *unfinished = mem_format("%s.tmp", store->flush_directory); // RocksDB's name for it
    int error = disk_remove(unfinished);
    mem_free(unfinished);
    if (error == OK) {
        error = disk_remove(store->flush_directory);
    }
    if (error != OK) {
        log_line(LOG_ERROR, store->scope, "store: cannot remove %s: %s", store->flush_directory,
                 error_text(error));
    }
    return error;
}

static int checkpoint(struct store *store)
{
    int error = store_flush_clean(store);
    if (error != OK) {
        return error;
    }
    char *text = NULL;
    rocksdb_checkpoint_t *maker = rocksdb_checkpoint_object_create(store->db, &text);
    if (text == NULL) {
        // 0 = flush whatever the size of its log: the only value that is right without a log.
        rocksdb_checkpoint_create(maker, store->flush_directory, 0, &text);
        rocksdb_checkpoint_object_destroy(maker);
    }
    if (text != NULL) {
        error = store_error(store->scope, &store->write_gate, "flush", text);
    }
    (void)store_flush_clean(store); // the next flush cleans again, and fails if it cannot
    return error;
}

// Until the files of all families show the write `number`.
static int flush_until(struct store *store, uint64_t number)
{
    struct store_numbers numbers = {0};
    uint64_t started_ns = clock_mono_ns(), asked_ns = 0;
    int error;
    while ((error = store_numbers(store, STORE_PERSISTED, &numbers)) == OK &&
           numbers.oldest < number) {
        uint64_t now_ns = clock_mono_ns();
        if (now_ns - started_ns > FLUSH_LIMIT_NS) {
            log_line(LOG_ERROR, store->scope, "store: a flush does not end");
            return ERR_TIMEOUT;
        }
        // RocksDB's flush waits while one more file would make writes slow, and no file is
        // deleted as long as it waits: so it is not asked before.
        bool due = asked_ns == 0 || now_ns - asked_ns > FLUSH_AGAIN_NS;
        if (due && !store_is_crowded(store)) {
            asked_ns = now_ns;
            pthread_mutex_lock(&store->checkpoint_lock);
            error = checkpoint(store);
            pthread_mutex_unlock(&store->checkpoint_lock);
            if (error != OK) {
                return error;
            }
        } else {
            clock_sleep_ns(NS_PER_MS);
        }
    }
    return error;
}

int store_flush(struct store *store)
{
    pthread_mutex_lock(&store->flush_lock);
    int error = flush_until(store, atomic_load(&store->written));
    pthread_mutex_unlock(&store->flush_lock);
    return error;
}
