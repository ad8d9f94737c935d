// SPDX-License-Identifier: Apache-2.0
#include "common/core/birth.h"

#include <errno.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/msgpack.h"
#include "common/core/instance.h"

static int payload_decode(struct birth *birth, struct bytes payload)
{
    struct unpacker from = unpacker_of(payload);
    uint32_t fields = unpack_array(&from);
    uint64_t kind = unpack_uint(&from);
    birth->forked = !unpack_nil(&from);
    struct bytes ancestor = birth->forked ? unpack_bin(&from) : bytes_of(NULL, 0);
    (void)unpack_str(&from); // the node that made it
    birth->placed = fields == 5;
    uint64_t number = birth->placed ? unpack_uint(&from) : 0;
    struct bytes chain = birth->placed ? unpack_bin(&from) : bytes_of(NULL, 0);
    if (unpack_end(&from) != OK || kind != MARK_BIRTH || (fields != 3 && fields != 5) ||
        (birth->forked && ancestor.size != HISTORY_ID_BYTES) ||
        (birth->placed && (!birth->forked || chain.size != HASH128_BYTES))) {
        return ERR_PROTOCOL;
    }
    if (birth->placed) {
        birth->from = (struct journal_place){.number = number, .chain = hash128_load(chain.data)};
    }
    if (birth->forked) {
        memcpy(birth->ancestor, ancestor.data, HISTORY_ID_BYTES);
    }
    return OK;
}

int birth_decode(struct birth *ret_birth, struct bytes stored)
{
    struct birth birth = {.size = stored.size};
    struct block *block;
    if (stored.size > BIRTH_BYTES_MAX) {
        return ERR_PROTOCOL;
    }
    int error = block_decode(&block, stored, false);
    if (error != OK) {
        return error;
    }
    // Its chain leads from the history's own begin, or from the place that it names, by way of its
    // history: so it is the birth of no other.
    struct block_header before;
    block_genesis(&before, block->header.history);
    error = payload_decode(&birth, block->raw);
    if (error == OK && birth.placed) {
        birth.from.index = block->header.first_index - 1;
        before.number = birth.from.number;
        before.first_index = block->header.first_index;
        before.chain = birth.from.chain;
    }
    if (error == OK) {
        error = block_follows(&before, block);
    }
    if (error == OK) {
        memcpy(birth.bytes, stored.data, stored.size);
        memcpy(birth.history, block->header.history, HISTORY_ID_BYTES);
        *ret_birth = birth;
    }
    block_release(block);
    return error;
}

// ---- founding ----------------------------------------------------------------------------------

struct block *birth_make(const struct instance *instance, uint64_t epoch)
{
    const struct block_header *last = journal_last(instance->journal);
    CHECK(last->number == 0);
    struct buf payload = {0};
    birth_encode(&payload, bytes_of(NULL, 0), bytes_text(instance->node->node), NULL);
    struct block_stamp stamp = {.epoch = epoch, .commit_index = 0, .root_ms = clock_wall_ms()};
    struct block *birth = block_mark(last, stamp, buf_bytes(&payload));
    buf_free(&payload);
    return birth;
}

struct block *birth_fork(const struct instance *instance, const struct block_header *before,
                         const uint8_t ancestor[HISTORY_ID_BYTES], uint64_t epoch)
{
    struct buf payload = {0};
    birth_encode(&payload, bytes_of(ancestor, HISTORY_ID_BYTES), bytes_text(instance->node->node),
                 before);
    struct block_stamp stamp = {
        .epoch = epoch, .commit_index = block_end(before), .root_ms = clock_wall_ms()};
    struct block *birth = block_mark(before, stamp, buf_bytes(&payload));
    buf_free(&payload);
    return birth;
}

bool birth_continues(const struct block *block, const uint8_t history[HISTORY_ID_BYTES])
{
    struct birth birth = {0};
    return (block->header.flags & BLOCK_NO_BATCHES) != 0 &&
           block->raw.size <= BIRTH_BYTES_MAX && payload_decode(&birth, block->raw) == OK &&
           birth.placed && memcmp(birth.ancestor, history, HISTORY_ID_BYTES) == 0;
}

int birth_found(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES],
                uint64_t epoch)
{
    struct journal *journal = instance->journal;
    int error = OK;
    if (!journal_has_history(journal)) {
        error = journal_begin(journal, history);
    }
    if (error == OK && memcmp(journal_history(journal), history, HISTORY_ID_BYTES) != 0) {
        error = ERR_HISTORY;
    }
    if (error != OK || journal_last(journal)->number > 0) {
        return error;
    }
    error = instance_commit(instance, birth_make(instance, epoch));
    if (error == OK) {
        birth_find(instance);
    }
    return error;
}

// ---- the file ----------------------------------------------------------------------------------

static char *file_path(const struct instance *instance)
{
    return mem_format("%s/BIRTH", instance->directory);
}

// Best effort: without it no node of the ancestor follows from here, which the log says.
static void write_file(const struct instance *instance, const struct birth *birth)
{
    char *path = file_path(instance);
    if (file_save(path, bytes_of(birth->bytes, birth->size)) != OK) {
        log_line(LOG_WARN, instance->name, "cannot write %s: %s", path, strerror(errno));
    }
    mem_free(path);
}

static int read_file(const struct instance *instance, struct birth *ret_birth)
{
    char *path = file_path(instance);
    uint8_t bytes[BIRTH_BYTES_MAX];
    size_t size;
    int error = file_load(path, bytes, sizeof bytes, &size);
    mem_free(path);
    return error == OK ? birth_decode(ret_birth, bytes_of(bytes, size)) : error;
}

// The first block that is there: that of a history which forked need not be number 1.
static int read_journal(struct instance *instance, struct birth *ret_birth)
{
    struct journal_cursor cursor = {0};
    struct block *block;
    uint64_t first = journal_oldest(instance->journal).number + 1;
    int error = journal_tail_cursor(instance->journal, &cursor, first);
    if (error == OK) {
        error = journal_cursor_next(&cursor, &block);
    }
    if (error == OK) {
        error = birth_decode(ret_birth, block->stored);
        block_release(block);
    }
    journal_cursor_close(&cursor);
    return error;
}

// ---- what is known -----------------------------------------------------------------------------

static void remember(struct instance *instance, const struct birth *birth)
{
    pthread_mutex_lock(&instance->lock);
    instance->birth = *birth;
    pthread_mutex_unlock(&instance->lock);
}

static bool is_of(const struct instance *instance, const struct birth *birth)
{
    return memcmp(birth->history, journal_history(instance->journal), HISTORY_ID_BYTES) == 0;
}

// True when there is nothing to be found out.
static bool is_known(struct instance *instance)
{
    struct birth birth;
    birth_get(instance, &birth);
    return !journal_has_history(instance->journal) || (birth.size > 0 && is_of(instance, &birth));
}

static void find(struct instance *instance)
{
    struct birth birth;
    if (is_known(instance)) {
        return;
    }
    if (read_file(instance, &birth) == OK && is_of(instance, &birth)) {
        remember(instance, &birth);
    } else if (read_journal(instance, &birth) == OK && is_of(instance, &birth)) {
        write_file(instance, &birth);
        remember(instance, &birth);
    }
}

void birth_find(struct instance *instance)
{
    pthread_mutex_lock(&instance->birth_file);
    find(instance);
    pthread_mutex_unlock(&instance->birth_file);
}

bool birth_leads_on(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES],
                    const struct journal_place *place)
{
    struct birth birth;
    return read_journal(instance, &birth) == OK && birth.placed &&
           memcmp(birth.ancestor, history, HISTORY_ID_BYTES) == 0 &&
           birth.from.number == place->number && hash128_equal(birth.from.chain, place->chain);
}

void birth_set(struct instance *instance, const struct birth *birth)
{
    pthread_mutex_lock(&instance->birth_file);
    write_file(instance, birth);
    remember(instance, birth);
    pthread_mutex_unlock(&instance->birth_file);
}

struct learning {
    struct task task;
    struct instance *instance;
    struct birth birth;
};

static void on_learning(struct task *task)
{
    struct learning *learning = CONTAINER_OF(task, struct learning, task);
    // The journal may have begun anew meanwhile, by this very thread.
    if (!is_known(learning->instance) && is_of(learning->instance, &learning->birth)) {
        birth_set(learning->instance, &learning->birth);
    }
    mem_free(learning);
}

void birth_learn(struct instance *instance, struct bytes stored)
{
    struct birth birth;
    if (is_known(instance) || birth_decode(&birth, stored) != OK || !is_of(instance, &birth)) {
        return;
    }
    struct learning *learning = mem_alloc(sizeof *learning);
    *learning = (struct learning){
        .task.run = on_learning, .instance = instance, .birth = birth};
    mailbox_post(worker_mailbox(instance->writer), &learning->task);
}

void birth_get(struct instance *instance, struct birth *ret_birth)
{
    pthread_mutex_lock(&instance->lock);
    *ret_birth = instance->birth;
    pthread_mutex_unlock(&instance->lock);
}
