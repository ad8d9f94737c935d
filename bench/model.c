// SPDX-License-Identifier: Apache-2.0
#include "bench/model.h"

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/mem.h"

#define LOCKS 256
#define STATES_FIRST 8

struct history {
    struct model_state *states; // versions rising
    uint32_t count, capacity;
};

struct model {
    uint64_t keys;
    struct history *histories;
    pthread_mutex_t locks[LOCKS]; // of the histories of keys that are equal modulo LOCKS
    _Atomic uint64_t known;
};

struct model *model_open(uint64_t keys)
{
    struct model *model = mem_zalloc(sizeof *model);
    model->keys = keys;
    model->histories = mem_zalloc(keys * sizeof *model->histories);
    for (size_t i = 0; i < LOCKS; i++) {
        CHECK(pthread_mutex_init(&model->locks[i], NULL) == 0);
    }
    return model;
}

void model_close(struct model *model)
{
    for (uint64_t i = 0; i < model->keys; i++) {
        mem_free(model->histories[i].states);
    }
    for (size_t i = 0; i < LOCKS; i++) {
        pthread_mutex_destroy(&model->locks[i]);
    }
    mem_free(model->histories);
    mem_free(model);
}

static void append(struct history *history, struct model_state state)
{
    if (history->count > 0 && history->states[history->count - 1].version == state.version) {
        history->states[history->count - 1] = state;
        return;
    }
    if (history->count == history->capacity) {
        history->capacity = history->capacity == 0 ? STATES_FIRST : history->capacity * 2;
        history->states =
            mem_realloc(history->states, history->capacity * sizeof *history->states);
    }
    history->states[history->count++] = state;
}

void model_add(struct model *model, uint64_t key, uint64_t index, uint64_t serial)
{
    CHECK(key < model->keys && index > model_known(model));
    pthread_mutex_t *lock = &model->locks[key % LOCKS];
    pthread_mutex_lock(lock);
    append(&model->histories[key], (struct model_state){.version = index, .serial = serial});
    pthread_mutex_unlock(lock);
}

void model_publish(struct model *model, uint64_t index) { atomic_store(&model->known, index); }

uint64_t model_known(const struct model *model) { return atomic_load(&model->known); }

// How many of a history's states have a version not above `index`.
static uint32_t states_until(const struct history *history, uint64_t index)
{
    uint32_t low = 0, high = history->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (history->states[middle].version <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct model_state model_at(struct model *model, uint64_t key, uint64_t index)
{
    CHECK(index <= model_known(model));
    struct model_state state = {0};
    if (key >= model->keys) {
        return state;
    }
    pthread_mutex_t *lock = &model->locks[key % LOCKS];
    pthread_mutex_lock(lock);
    const struct history *history = &model->histories[key];
    uint32_t count = states_until(history, index);
    if (count > 0) {
        state = history->states[count - 1];
    }
    pthread_mutex_unlock(lock);
    return state;
}
